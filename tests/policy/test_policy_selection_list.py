"""The list itself (ST1) and which list a record falls under (ST2)."""

import collections
import datetime as dt
import hashlib
from importlib import resources

import pytest

from policy import (
    InvalidPolicy,
    ListNotCarried,
    Period,
    Procestermijn,
    Result,
    Waardering,
    list_2020,
    list_for,
)
from policy.selection_list import parse_results

TABLE = resources.files("policy").joinpath("data", "selectielijst-gemeenten-2020.csv")


def test_the_table_is_the_one_that_was_checked():
    """A changed term is a changed law: it must show up in review, here."""
    assert hashlib.sha256(TABLE.read_bytes()).hexdigest() == (
        "0294c1a70c22e01b2c0d5e8112154c7dda05648d9422e264656ec848c655b6b8"
    )


def test_every_row_is_carried():
    results = list_2020().results
    counts = collections.Counter(result.waardering for result in results.values())
    assert len(results) == 346
    assert counts == {Waardering.VERNIETIGEN: 255, Waardering.BLIJVEND_BEWAREN: 89, None: 2}
    assert {result.procestermijn for result in results.values()} == {*Procestermijn, None}
    assert all(code == result.code for code, result in results.items())


def test_every_result_in_force_resolves_in_full():
    """ST1: list version, procestype, resultaat and waardering."""
    selection_list = list_2020()
    in_force = [code for code, result in selection_list.results.items() if result.waardering]
    assert len(in_force) == 344
    for code in in_force:
        result = selection_list.result(code)
        assert result.procestype
        assert result.resultaat
        assert (result.waardering is Waardering.VERNIETIGEN) == (result.bewaartermijn is not None)


def test_one_row_to_the_letter():
    assert list_2020().result("8.1.7") == Result(
        code="8.1.7",
        procestype="Voorzieningen verstrekken",
        resultaat="Verstrekt",
        omschrijving="Subsidie",
        waardering=Waardering.VERNIETIGEN,
        procestermijn=Procestermijn.BESTAANSDUUR_PROCESOBJECT,
        bewaartermijn=Period(years=7),
    )


@pytest.mark.parametrize("code", ["", "8", "8.1.7 ", "08.1.7", "8.1.999", "Subsidie"])
def test_an_unknown_code_is_refused(code):
    with pytest.raises(InvalidPolicy, match="selection list 2020 has no result"):
        list_2020().result(code)


@pytest.mark.parametrize(
    ("code", "omschrijving"),
    [("7.1.20", "Vervallen: dit is resultaat 19.1.19 geworden"), ("19.1.13", "Vervallen")],
)
def test_a_result_that_is_vervallen_is_refused_by_name(code, omschrijving):
    with pytest.raises(InvalidPolicy, match="not in force") as refusal:
        list_2020().result(code)
    assert code in str(refusal.value)
    assert str(refusal.value).endswith(omschrijving)


@pytest.mark.parametrize("record_date", ["2020-01-01", "2020-02-29", "2026-07-01", "9999-12-31"])
def test_from_2020_the_list_of_2020(record_date):
    """ST2, the last boundary from above."""
    selection_list = list_for(dt.date.fromisoformat(record_date))
    assert selection_list.version == "2020"
    assert selection_list.valid_from == dt.date(2020, 1, 1)


@pytest.mark.parametrize(
    ("record_date", "version"),
    [
        ("2019-12-31", "2017"),
        ("2017-01-01", "2017"),
        ("2016-12-31", "2012"),
        ("1996-01-01", "2012"),
        ("1995-12-31", "1983"),
        ("0001-01-01", "1983"),
    ],
)
def test_before_2020_the_list_is_named_and_refused(record_date, version):
    """ST2: a list that is not carried is refused by name, never replaced by another."""
    day = dt.date.fromisoformat(record_date)
    with pytest.raises(ListNotCarried) as refusal:
        list_for(day)
    assert refusal.value.version == version
    assert refusal.value.record_date == day
    assert f"selection list {version}," in str(refusal.value)
    assert record_date in str(refusal.value)


def test_the_list_cannot_be_changed():
    with pytest.raises(TypeError):
        list_2020().results["1.1"] = None


HEADER = "code,procestype,resultaat,omschrijving,waardering,procestermijn,bewaartermijn"
ROW = "1.1,Adviseren,Verstrekt,,vernietigen,nihil,P5Y"


def test_a_small_table_is_read():
    assert list(parse_results(f"{HEADER}\n{ROW}\n")) == ["1.1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "columns"),
        (ROW, "columns"),
        (f"{HEADER},toelichting\n{ROW},", "columns"),
        (f"{HEADER}\n{ROW},", "too many values"),
        (f"{HEADER}\n1.1,Adviseren", "not enough values"),
        (f"{HEADER}\n{ROW.replace('vernietigen', 'Vernietigen')}", "Vernietigen"),
        (f"{HEADER}\n{ROW.replace('nihil', 'nul')}", "nul"),
        (f"{HEADER}\n{ROW.replace('P5Y', 'P05Y')}", "P05Y"),
        (f"{HEADER}\n{ROW}\n{ROW}", "twice"),
    ],
)
def test_a_damaged_table_is_refused(text, reason):
    with pytest.raises(InvalidPolicy, match=reason):
        parse_results(text)
