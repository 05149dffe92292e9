"""The commands of `kluis`; the only package beside cli.py that imports click."""
