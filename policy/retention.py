"""From brondatum to archiefactiedatum: until when a record must be kept.

Implements the formula archiefactiedatum = brondatum + bewaartermijn (ST3), where the brondatum is
the day on which the process has ended, procestermijn included. The record is kept through the
archiefactiedatum and may be destroyed from the day after it (ST15):

    benefit ended 31-12-2019 + 7 years = 31-12-2026; it may be destroyed from 1-1-2027

The procestermijn itself is added only for the afleidingswijze `termijn`, which this version does
not carry; a result that needs it is refused (ST4) and never gets a date that is too early. A
brondatum that is not known gives no date, and so no destruction (ST5).

Source: ZGW-standaard, business rules zrc-021 and ztc-003; Selectielijst gemeenten 2020, bijlage 2.
Rows: ST3, ST4, ST5, ST15. Proof: `tests/policy/test_policy_retention.py`.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

from policy.errors import InvalidPolicy
from policy.selection_list import Procestermijn, Result, Waardering


class Afleidingswijze(StrEnum):
    """How the brondatum of a record is found."""

    AFGEHANDELD = "afgehandeld"
    """The day on which the case was closed."""

    EIGENSCHAP = "eigenschap"
    """A date that the application states, such as the end of a benefit or a day of birth."""


# The brondatum that these take already lies at the end of the process.
_ENDED_BY_BRONDATUM = frozenset(
    {
        Procestermijn.NIHIL,
        Procestermijn.BESTAANSDUUR_PROCESOBJECT,
        Procestermijn.VAST_TE_LEGGEN_DATUM,
        Procestermijn.SAMENGEVOEGD_MET_BEWAARTERMIJN,
    }
)


def check_afleidingswijze(result: Result, afleidingswijze: Afleidingswijze | None) -> None:
    """Refuse an afleidingswijze that does not fit the result (ST4, ztc-003).

    Nihil takes `afgehandeld` and nothing else does. A result that is kept for ever takes none; one
    that is destroyed takes exactly one.

    Raises:
        InvalidPolicy: the two do not fit, or the result needs an afleidingswijze that this
            version does not carry.
    """
    if result.waardering is not Waardering.VERNIETIGEN:
        if afleidingswijze is not None:
            raise InvalidPolicy(f"result {result.code} has no term, so it takes no afleidingswijze")
        return
    if afleidingswijze is None:
        raise InvalidPolicy(
            f"result {result.code} is destroyed in time: afleidingswijze is missing"
        )
    if result.procestermijn is Procestermijn.INGESCHATTE_BESTAANSDUUR_PROCESOBJECT:
        raise InvalidPolicy(
            f"result {result.code} has procestermijn {result.procestermijn}, which takes "
            f"afleidingswijze termijn; this version does not carry it"
        )
    is_nihil = result.procestermijn is Procestermijn.NIHIL
    if is_nihil != (afleidingswijze is Afleidingswijze.AFGEHANDELD):
        raise InvalidPolicy(
            f"result {result.code} has procestermijn {result.procestermijn or 'not stated'}, "
            f"which does not fit afleidingswijze {afleidingswijze}"
        )


def archiefactiedatum(brondatum: dt.date | None, result: Result) -> dt.date | None:
    """Return the last day on which the record must be kept, or None where there is no such day.

    None when the brondatum is not known (ST5), when the result is kept for ever, and when the list
    does not say from what moment its term runs (12.1.4 names no procestermijn).

    Raises:
        InvalidPolicy: the date would fall after the year 9999.
    """
    if brondatum is None or result.bewaartermijn is None:
        return None
    if result.procestermijn not in _ENDED_BY_BRONDATUM:
        return None
    return result.bewaartermijn.add_to(brondatum)


def is_expired(last_day: dt.date | None, today: dt.date) -> bool:
    """Say whether the record may be destroyed today.

    Args:
        last_day: its archiefactiedatum; None is never expired (ST5).
        today: the day in the municipality's own time zone.

    Returns:
        True from the day after the archiefactiedatum (ST15).
    """
    return last_day is not None and today > last_day
