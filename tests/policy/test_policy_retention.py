"""The archiefactiedatum against a slow oracle (ST3), and ST4, ST5, ST15."""

import csv
import datetime as dt
import functools
import re
from importlib import resources

import pytest

from policy import (
    Afleidingswijze,
    InvalidPolicy,
    Period,
    archiefactiedatum,
    check_afleidingswijze,
    is_expired,
    list_2020,
)

DAY = dt.timedelta(days=1)
AFGEHANDELD, EIGENSCHAP = Afleidingswijze.AFGEHANDELD, Afleidingswijze.EIGENSCHAP

# Rows whose brondatum does not end the process, or that do not say what starts their term.
WITHOUT_A_START = {"12.1.4", "15.1.1"}


@functools.cache
def first_of_month_after(year: int, month: int, months: int) -> dt.date:
    """Walk month by month: 32 days after the first of a month always lie in the next."""
    first = dt.date(year, month, 1)
    for _ in range(months):
        first = (first + 32 * DAY).replace(day=1)
    return first


@functools.cache
def walk(start: dt.date, term: str) -> dt.date:
    """Add a term by walking, without any calendar table: the oracle."""
    counts = {unit: int(count) for count, unit in re.findall(r"(\d+)([YMD])", term)}
    months = 12 * counts.get("Y", 0) + counts.get("M", 0)
    day = first_of_month_after(start.year, start.month, months)
    month = day.month
    for _ in range(start.day - 1):
        if (day + DAY).month != month:
            break
        day += DAY
    for _ in range(counts.get("D", 0)):
        day += DAY
    return day


def expected(row: dict[str, str], brondatum: dt.date | None) -> dt.date | None:
    if brondatum is None or row["waardering"] != "vernietigen" or row["code"] in WITHOUT_A_START:
        return None
    return walk(brondatum, row["bewaartermijn"])


def grid() -> list[dt.date | None]:
    """No date, and of each month from 1999 to 2030 the first, the 15th and the last four days."""
    days: set[dt.date] = set()
    for year in range(1999, 2031):
        for month in range(1, 13):
            last = first_of_month_after(year, month, 1) - DAY
            days |= {dt.date(year, month, 1), dt.date(year, month, 15)}
            days |= {last - back * DAY for back in range(4)}
    return [None, *sorted(days)]


def differences(compute) -> tuple[int, list[tuple[str, dt.date | None]]]:
    table = resources.files("policy").joinpath("data", "selectielijst-gemeenten-2020.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    brondata = grid()
    differing = []
    for row in rows:
        result = list_2020().results[row["code"]]
        for brondatum in brondata:
            if compute(brondatum, result) != expected(row, brondatum):
                differing.append((row["code"], brondatum))
    return len(rows) * len(brondata), differing


def test_every_result_agrees_with_the_oracle():
    """ST3, ST5: all 346 results on every date of the grid, leap days and month ends among them."""
    count, differing = differences(archiefactiedatum)
    print(f"archiefactiedatum: {count} pairs compared, {len(differing)} differences")
    assert dt.date(2000, 2, 29) in grid()
    assert count == 346 * 2305
    assert differing == []


def test_the_oracle_sees_a_year_of_365_days():
    """Control: with years of 365 days the comparison fails on almost every row with a term."""

    def crude(brondatum, result):
        right = archiefactiedatum(brondatum, result)
        if right is None:
            return None
        term = result.bewaartermijn
        return brondatum + (365 * term.years + 30 * term.months + term.days) * DAY

    _, differing = differences(crude)
    assert len({code for code, _ in differing}) > 200


def test_the_oracle_sees_29_february_move_to_1_march():
    """Control: the other way to add a year to 29 February differs on leap days, and only there."""

    def overflowing(brondatum, result):
        right = archiefactiedatum(brondatum, result)
        is_moved = right is not None and result.bewaartermijn.years and right.day < brondatum.day
        return right + DAY if is_moved and brondatum.month == 2 else right

    _, differing = differences(overflowing)
    assert differing
    assert {(day.month, day.day) for _, day in differing} == {(2, 29)}


def test_benefit_that_ended_at_the_end_of_2019():
    """ST15: seven years after 31-12-2019 is 31-12-2026, the last day on which it is kept."""
    result = list_2020().result("8.1.7")
    assert result.bewaartermijn == Period(years=7)
    last_day = archiefactiedatum(dt.date(2019, 12, 31), result)
    assert last_day == dt.date(2026, 12, 31)
    assert not is_expired(last_day, dt.date(2026, 12, 30))
    assert not is_expired(last_day, dt.date(2026, 12, 31))
    assert is_expired(last_day, dt.date(2027, 1, 1))


def test_no_term_at_all_still_lasts_the_day_itself():
    result = list_2020().result("19.2.1")
    assert result.bewaartermijn == Period()
    last_day = archiefactiedatum(dt.date(2024, 2, 29), result)
    assert last_day == dt.date(2024, 2, 29)
    assert not is_expired(last_day, dt.date(2024, 2, 29))
    assert is_expired(last_day, dt.date(2024, 3, 1))


def test_no_date_is_never_expired():
    """ST5: without a brondatum no date, and without a date no destruction."""
    assert archiefactiedatum(None, list_2020().result("8.1.7")) is None
    assert not is_expired(None, dt.date.max)


def test_a_date_beyond_the_calendar_is_refused():
    with pytest.raises(InvalidPolicy, match="9999"):
        archiefactiedatum(dt.date(9990, 1, 1), list_2020().result("5.1.8"))


def fits(result, afleidingswijze) -> bool:
    try:
        check_afleidingswijze(result, afleidingswijze)
    except InvalidPolicy:
        return False
    return True


def test_nihil_takes_afgehandeld_and_nothing_else_does():
    """ST4 over every result in force and every afleidingswijze; 15.1.1 waits for `termijn`."""
    table = {
        "nihil": {AFGEHANDELD},
        "bestaansduur_procesobject": {EIGENSCHAP},
        "vast_te_leggen_datum": {EIGENSCHAP},
        "samengevoegd_met_bewaartermijn": {EIGENSCHAP},
        "ingeschatte_bestaansduur_procesobject": set(),
        None: {EIGENSCHAP},  # 12.1.4: not nihil, so not afgehandeld
    }
    checked = 0
    for result in list_2020().results.values():
        permanent = result.waardering == "blijvend_bewaren"
        allowed = {None} if permanent else table[result.procestermijn]
        if result.waardering is None:
            continue
        for afleidingswijze in (*Afleidingswijze, None):
            assert fits(result, afleidingswijze) == (afleidingswijze in allowed)
            checked += 1
    print(f"ST4: {checked} pairs checked")
    assert checked == 344 * 3


def test_a_mismatch_names_both_sides():
    with pytest.raises(InvalidPolicy, match=r"8\.1\.7 .*bestaansduur.*fit.*afgehandeld"):
        check_afleidingswijze(list_2020().result("8.1.7"), AFGEHANDELD)
    with pytest.raises(InvalidPolicy, match=r"15\.1\.1 .*takes afleidingswijze termijn"):
        check_afleidingswijze(list_2020().result("15.1.1"), EIGENSCHAP)
