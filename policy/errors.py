"""Errors of the policy room: one root, each carrying its evidence."""

from __future__ import annotations


class PolicyError(Exception):
    """Root of everything that the policy room raises."""


class InvalidPolicy(PolicyError):
    """A category, code, date or term that the rules cannot be applied to: bad input."""


class ListNotCarried(PolicyError):
    """The record's date calls for a selection list that this version does not carry (ST2)."""
