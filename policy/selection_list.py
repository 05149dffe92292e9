"""The municipal selection list: how long each kind of result is kept.

Implements the *Selectielijst gemeenten en intergemeentelijke organen 2020* as the table
`data/selectielijst-gemeenten-2020.csv`, one result a row, and the rule of its handreiking (2.1)
that the list follows the date on which a record was made or received, never the brondatum.

Source: Archiefwet 1995, art. 5; Archiefbesluit 1995, art. 5. Rows: ST1, ST2.
Proof: `tests/policy/test_policy_selection_list.py`.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from types import MappingProxyType

from policy.errors import InvalidPolicy, ListNotCarried
from policy.period import Period

_COLUMNS = (
    "code",
    "procestype",
    "resultaat",
    "omschrijving",
    "waardering",
    "procestermijn",
    "bewaartermijn",
)


class Waardering(StrEnum):
    """Whether a record is destroyed after its term or kept for ever."""

    VERNIETIGEN = "vernietigen"
    BLIJVEND_BEWAREN = "blijvend_bewaren"


class Procestermijn(StrEnum):
    """What has to end before the bewaartermijn starts."""

    NIHIL = "nihil"
    BESTAANSDUUR_PROCESOBJECT = "bestaansduur_procesobject"
    INGESCHATTE_BESTAANSDUUR_PROCESOBJECT = "ingeschatte_bestaansduur_procesobject"
    VAST_TE_LEGGEN_DATUM = "vast_te_leggen_datum"
    SAMENGEVOEGD_MET_BEWAARTERMIJN = "samengevoegd_met_bewaartermijn"


@dataclass(frozen=True, slots=True)
class Result:
    """One row of a selection list.

    Attributes:
        code: number of the result, such as "8.1.7"; unique in its list.
        procestype: the kind of process, such as "Voorzieningen verstrekken".
        resultaat: how the process ended, such as "Verstrekt".
        omschrijving: the specific case; empty for a generic result such as "8.1".
        waardering: None only for a result that is vervallen (no longer in force).
        procestermijn: None where the list names none.
        bewaartermijn: None where the record is kept for ever.
    """

    code: str
    procestype: str
    resultaat: str
    omschrijving: str
    waardering: Waardering | None
    procestermijn: Procestermijn | None
    bewaartermijn: Period | None


@dataclass(frozen=True, slots=True)
class SelectionList:
    """One edition of the municipal selection list.

    Attributes:
        version: the year by which the edition is known, such as "2020".
        valid_from: first record date that falls under this edition.
        results: every row by its code, those that are vervallen included.
    """

    version: str
    valid_from: dt.date
    results: Mapping[str, Result]

    def result(self, code: str) -> Result:
        """Return the result in force under `code`.

        Raises:
            InvalidPolicy: the list has no such code, or the result is vervallen; then the message
                says what the list itself says about it.
        """
        found = self.results.get(code)
        if found is None:
            raise InvalidPolicy(f"selection list {self.version} has no result {code!r}")
        if found.waardering is None:
            raise InvalidPolicy(
                f"result {code} of selection list {self.version} is not in force: "
                f"{found.omschrijving}"
            )
        return found


@functools.cache
def list_2020() -> SelectionList:
    """Return the list of 2020, read once from the table that ships with the package.

    Raises:
        InvalidPolicy: the table was damaged.
    """
    table = resources.files("policy").joinpath("data", "selectielijst-gemeenten-2020.csv")
    results = parse_results(table.read_text(encoding="utf-8"))
    return SelectionList("2020", dt.date(2020, 1, 1), MappingProxyType(results))


def parse_results(text: str) -> dict[str, Result]:
    """Read the table of a selection list.

    Args:
        text: CSV whose first line names the seven attributes of `Result`, in that order. An empty
            field means that the list states nothing there.

    Returns:
        The results by code, in the order of the table.

    Raises:
        InvalidPolicy: other columns, a row of another length, an unknown value, or a code twice.
    """
    header, *rows = csv.reader(text.splitlines() or [""])
    if tuple(header) != _COLUMNS:
        raise InvalidPolicy(f"a selection list has the columns {_COLUMNS}, not {header}")
    results: dict[str, Result] = {}
    for row in rows:
        result = _result(row)
        if result.code in results:
            raise InvalidPolicy(f"result {result.code} stands in the selection list twice")
        results[result.code] = result
    return results


def list_for(record_date: dt.date) -> SelectionList:
    """Return the list that a record falls under (ST2).

    Args:
        record_date: the day on which the record was made or received, not the brondatum.

    Raises:
        ListNotCarried: the record is from before 2020; the error names the list it falls under.
    """
    current = list_2020()
    if record_date >= current.valid_from:
        return current
    raise ListNotCarried(_earlier_version(record_date.year), record_date)


def _earlier_version(year: int) -> str:
    if year >= 2017:
        return "2017"
    return "2012" if year >= 1996 else "1983"


def _result(row: list[str]) -> Result:
    try:
        code, procestype, resultaat, omschrijving, waardering, procestermijn, bewaartermijn = row
        return Result(
            code,
            procestype,
            resultaat,
            omschrijving,
            Waardering(waardering) if waardering else None,
            Procestermijn(procestermijn) if procestermijn else None,
            Period.parse(bewaartermijn) if bewaartermijn else None,
        )
    except ValueError as error:
        raise InvalidPolicy(f"row {row} of the selection list: {error}") from error
