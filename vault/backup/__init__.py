"""Backups and restores: data without keys, keys without root keys, and what brings them together."""
