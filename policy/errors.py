"""Errors of the policy room: one root, each carrying its evidence."""

from __future__ import annotations

import datetime as dt


class PolicyError(Exception):
    """Root of everything that the policy room raises."""


class InvalidPolicy(PolicyError):
    """A category, code, date or term that the rules cannot be applied to: bad input."""


class ListNotCarried(PolicyError):
    """The record's date calls for a selection list that this version does not carry (ST2).

    Attributes:
        version: the list that the date calls for: "1983", "2012" or "2017".
        record_date: the date on which the record was made or received.
    """

    def __init__(self, version: str, record_date: dt.date) -> None:
        super().__init__(version, record_date)
        self.version = version
        self.record_date = record_date

    def __str__(self) -> str:
        return (
            f"a record of {self.record_date} falls under the municipal selection list "
            f"{self.version}, which this version does not carry"
        )
