"""Backups and restores: data without keys, keys without root keys, and both together."""
