"""Terms in years, months and days, and how they are added to a date.

Implements the part of ISO 8601 durations that selection lists use: `P`, then years, months and
days in that order, each at most once, zero parts left out, and `P0D` for no time at all.
Weeks, hours, fractions, signs and leading zeros are not accepted.

ISO 8601 does not say how a duration is added to a date; XML Schema Part 2, appendix E, does, and
that is the rule here. Years and months are added first, together. If the month reached has no
such day, its last day is taken. Then the days are counted:

    29 February 2020 + P1Y   = 28 February 2021
    31 January 2021  + P1M1D = 1 March 2021

Rows: ST3 (the archiefactiedatum is a date plus such a term).
Proof: `tests/policy/test_policy_period.py`.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import dataclass

from policy.errors import InvalidPolicy

MAX_PART = 9999
"""Largest number of years, months or days in one period."""

_SHAPE = re.compile(r"P(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})D)?")


@dataclass(frozen=True, slots=True)
class Period:
    """A term on the calendar; a year is not 365 days and a month not 30.

    Attributes:
        years: 0 to 9999.
        months: 0 to 9999; twelve months are not rewritten to a year.
        days: 0 to 9999.

    Raises:
        InvalidPolicy: a part is out of range.
    """

    years: int = 0
    months: int = 0
    days: int = 0

    def __post_init__(self) -> None:
        for part in (self.years, self.months, self.days):
            if not 0 <= part <= MAX_PART:
                raise InvalidPolicy(f"a period has parts of 0 to {MAX_PART}, not {part}")

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read a period, accepting only what `str` of a period writes.

        Raises:
            InvalidPolicy: the text is anything else, such as `P1W`, `P01Y`, `P0Y` or `P`.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise InvalidPolicy(f"not a period in years, months and days: {text!r}")
        period = cls(*(int(part or 0) for part in shape.groups()))
        if str(period) != text:
            raise InvalidPolicy(f"period {text!r} should be written {str(period)!r}")
        return period

    def __str__(self) -> str:
        parts = ((self.years, "Y"), (self.months, "M"), (self.days, "D"))
        written = "".join(f"{count}{unit}" for count, unit in parts if count)
        return f"P{written or '0D'}"

    def add_to(self, start: dt.date) -> dt.date:
        """Return the date that lies this period after `start`, by the rule of this module.

        Raises:
            InvalidPolicy: the date would fall after 31 December 9999.
        """
        month_index = start.year * 12 + (start.month - 1) + self.years * 12 + self.months
        year, month = month_index // 12, month_index % 12 + 1
        try:
            day = min(start.day, calendar.monthrange(year, month)[1])
            return dt.date(year, month, day) + dt.timedelta(days=self.days)
        except (ValueError, OverflowError) as error:
            raise InvalidPolicy(f"{start} plus {self} falls after the year 9999") from error
