"""The decision table (ER3): every combination of facts against a table written on its own."""

import dataclasses
import datetime as dt
import hashlib
import itertools
import re

import pytest

import policy.decision
from policy import (
    RULE_VERSION,
    Afleidingswijze,
    DecisionCode,
    ErasureFacts,
    Ground,
    RetentionRule,
    decide,
    list_2020,
)

DAY = dt.timedelta(days=1)
TODAY = dt.date(2026, 7, 1)


def rule(code: str, afleidingswijze: Afleidingswijze | None) -> RetentionRule:
    return RetentionRule("2020", list_2020().result(code), afleidingswijze)


NIHIL_10Y = rule("1.1", Afleidingswijze.AFGEHANDELD)
OBJECT_7Y = rule("8.1.7", Afleidingswijze.EIGENSCHAP)
NO_TIME = rule("19.2.1", Afleidingswijze.AFGEHANDELD)
NO_START = rule("12.1.4", Afleidingswijze.EIGENSCHAP)
FOR_EVER = rule("1.1.2", None)

# Written by hand: the archiefactiedatum per rule and brondatum, against TODAY.
DATES = {
    (NIHIL_10Y, dt.date(2016, 6, 30)): dt.date(2026, 6, 30),  # yesterday
    (NIHIL_10Y, dt.date(2016, 7, 1)): dt.date(2026, 7, 1),  # today
    (NIHIL_10Y, dt.date(2019, 6, 30)): dt.date(2029, 6, 30),
    (NIHIL_10Y, dt.date(2019, 7, 1)): dt.date(2029, 7, 1),
    (NIHIL_10Y, dt.date(2026, 6, 30)): dt.date(2036, 6, 30),
    (NIHIL_10Y, dt.date(2026, 7, 1)): dt.date(2036, 7, 1),
    (NIHIL_10Y, dt.date(2027, 1, 1)): dt.date(2037, 1, 1),
    (OBJECT_7Y, dt.date(2016, 6, 30)): dt.date(2023, 6, 30),
    (OBJECT_7Y, dt.date(2016, 7, 1)): dt.date(2023, 7, 1),
    (OBJECT_7Y, dt.date(2019, 6, 30)): dt.date(2026, 6, 30),  # yesterday
    (OBJECT_7Y, dt.date(2019, 7, 1)): dt.date(2026, 7, 1),  # today
    (OBJECT_7Y, dt.date(2026, 6, 30)): dt.date(2033, 6, 30),
    (OBJECT_7Y, dt.date(2026, 7, 1)): dt.date(2033, 7, 1),
    (OBJECT_7Y, dt.date(2027, 1, 1)): dt.date(2034, 1, 1),
    (NO_TIME, dt.date(2016, 6, 30)): dt.date(2016, 6, 30),
    (NO_TIME, dt.date(2016, 7, 1)): dt.date(2016, 7, 1),
    (NO_TIME, dt.date(2019, 6, 30)): dt.date(2019, 6, 30),
    (NO_TIME, dt.date(2019, 7, 1)): dt.date(2019, 7, 1),
    (NO_TIME, dt.date(2026, 6, 30)): dt.date(2026, 6, 30),  # yesterday
    (NO_TIME, dt.date(2026, 7, 1)): dt.date(2026, 7, 1),  # today
    (NO_TIME, dt.date(2027, 1, 1)): dt.date(2027, 1, 1),
}
RULES = [None, FOR_EVER, NIHIL_10Y, OBJECT_7Y, NO_TIME, NO_START]
BRONDATA = [None, *sorted({brondatum for _, brondatum in DATES})]
EVERYTHING = [
    ErasureFacts(ground, TODAY, already_erased, on_hold, duty, brondatum)
    for ground, already_erased, on_hold, duty, brondatum in itertools.product(
        Ground, (False, True), (False, True), RULES, BRONDATA
    )
]

# Each line stands alone: the conditions exclude each other, so their order means nothing.
#   erased  hold   ground    duty      | code  outcome           article
TABLE = """
    yes     *      *         *         | D2    already-erased    Art. 12(3) GDPR
    no      *      court     *         | D2b   refused           Art. 17(1)(e) GDPR
    no      yes    unlawful  *         | D3    held              Art. 17(3)(e), 18(1)(c) GDPR
    no      yes    other     *         | D3    held              Art. 17(3)(e), 18(1)(c) GDPR
    no      no     unlawful  *         | D5    refused           Art. 17(1)(d) GDPR
    no      no     other     for-ever  | D7    refused           Art. 17(3)(b), (d) GDPR
    no      no     other     undated   | D8    refused           Art. 17(3)(b) GDPR
    no      no     other     runs      | D8    refused           Art. 17(3)(b) GDPR
    no      no     other     over      | D9    queued            ground
    no      no     other     none      | D10   allowed           ground
"""
GROUND_ARTICLES = {
    "not-needed": "Art. 17(1)(a) GDPR",
    "consent-withdrawn": "Art. 17(1)(b) GDPR",
    "objection": "Art. 17(1)(c) GDPR",
    "child-service": "Art. 17(1)(f) GDPR",
}


def described(facts: ErasureFacts) -> tuple[str, str, str, str]:
    last_day = DATES.get((facts.rule, facts.brondatum))
    if facts.rule is None:
        duty = "none"
    elif facts.rule is FOR_EVER:
        duty = "for-ever"
    elif last_day is None:
        duty = "undated"
    else:
        duty = "over" if (TODAY - last_day).days >= 1 else "runs"
    ground = {"legal-duty": "court", "unlawful": "unlawful"}.get(facts.ground.value, "other")
    yes_no = ("no", "yes")
    return yes_no[facts.already_erased], yes_no[facts.on_hold], ground, duty


def expectation(facts: ErasureFacts) -> tuple[str, str, str, dt.date | None]:
    found = []
    for line in TABLE.strip().splitlines():
        condition, answer = line.split("|")
        pairs = zip(condition.split(), described(facts), strict=True)
        if all(wanted in ("*", fact) for wanted, fact in pairs):
            found.append(answer.split(maxsplit=2))
    [(code, outcome, article)] = found
    if article.strip() == "ground":
        article = GROUND_ARTICLES[facts.ground.value]
    date = DATES.get((facts.rule, facts.brondatum)) if code in ("D8", "D9") else None
    return code, outcome, article.strip(), date


def wrong_answers(answer_to) -> list[ErasureFacts]:
    wrong = []
    for facts in EVERYTHING:
        decision = answer_to(facts)
        answer = (decision.code, decision.outcome, decision.article, decision.date)
        if answer != expectation(facts):
            wrong.append(facts)
    return wrong


def test_every_combination_of_facts():
    """ER3: each request yields one D-code with its article."""
    wrong = wrong_answers(decide)
    print(f"decisions: {len(EVERYTHING)} combinations compared, {len(wrong)} differences")
    assert len(EVERYTHING) == 6 * 2 * 2 * 6 * 8
    assert {expectation(facts)[0] for facts in EVERYTHING} == set(DecisionCode)
    assert wrong == []


def test_the_table_sees_a_day_too_early(monkeypatch):
    """Control: destroying on the archiefactiedatum itself is caught, on those days alone."""

    def on_the_day(last_day, today):
        return last_day is not None and today >= last_day

    monkeypatch.setattr(policy.decision, "is_expired", on_the_day)
    wrong = wrong_answers(decide)
    assert wrong
    assert {DATES[facts.rule, facts.brondatum] for facts in wrong} == {TODAY}


@pytest.mark.parametrize(
    "ignored",
    [
        {"already_erased": False},
        {"on_hold": False},
        {"ground": Ground.NOT_NEEDED},
        {"rule": None},
        {"brondatum": None},
        {"today": dt.date.max},
    ],
)
def test_the_table_sees_a_fact_that_is_ignored(ignored):
    """Control: a decide that does not look at one of its facts is caught."""
    assert wrong_answers(lambda facts: decide(dataclasses.replace(facts, **ignored)))


BASE = ErasureFacts(
    ground=Ground.CONSENT_WITHDRAWN,
    today=TODAY,
    already_erased=False,
    on_hold=False,
    rule=OBJECT_7Y,
    brondatum=dt.date(2019, 6, 30),
)

# Per row: the change to BASE that leads to it, then one changed field and where that leads.
FIXTURES = [
    ("D2", {"already_erased": True, "on_hold": True}, {"already_erased": False}, "D3"),
    ("D2b", {"ground": Ground.LEGAL_DUTY, "on_hold": True}, {"ground": Ground.UNLAWFUL}, "D3"),
    ("D3", {"ground": Ground.UNLAWFUL, "on_hold": True}, {"on_hold": False}, "D5"),
    ("D5", {"ground": Ground.UNLAWFUL, "rule": FOR_EVER}, {"ground": Ground.OBJECTION}, "D7"),
    ("D7", {"rule": FOR_EVER}, {"rule": OBJECT_7Y}, "D9"),
    ("D8", {"today": dt.date(2026, 6, 30)}, {"today": dt.date(2026, 7, 1)}, "D9"),
    ("D8", {"brondatum": None}, {"brondatum": dt.date(2019, 6, 30)}, "D9"),
    ("D8", {"rule": NO_START}, {"rule": None}, "D10"),
    ("D9", {}, {"on_hold": True}, "D3"),
    ("D9", {"rule": NO_TIME}, {"rule": None}, "D10"),
    ("D10", {"rule": None}, {"rule": NO_TIME}, "D9"),
    ("D10", {"rule": None}, {"already_erased": True}, "D2"),
]


@pytest.mark.parametrize(("code", "facts", "change", "other"), FIXTURES)
def test_one_fixture_per_row_and_its_control(code, facts, change, other):
    """ER3: facts that lead to the row, and one field more that leads away from it."""
    before = dataclasses.replace(BASE, **facts)
    assert decide(before).code == code
    assert decide(dataclasses.replace(before, **change)).code == other


def test_every_row_has_a_fixture():
    assert {code for code, *_ in FIXTURES} == set(DecisionCode)


def test_what_must_be_recorded_first():
    """D2b and D5 name the recorded decision; only a permanent record takes break-glass."""
    for facts in EVERYTHING:
        decision = decide(facts)
        is_recorded = decision.code in ("D2b", "D5")
        assert ("privacy officer and the archivist" in decision.needs) == is_recorded
        assert ("M-of-N" in decision.needs) == (is_recorded and facts.rule is FOR_EVER)
        assert bool(decision.needs) == is_recorded


def test_the_subject_is_told_the_date():
    """ST15: in words, in both languages, as the last day on which the data is kept."""
    decision = decide(
        dataclasses.replace(BASE, today=dt.date(2026, 12, 31), brondatum=dt.date(2019, 12, 31))
    )
    assert decision.code is DecisionCode.D8
    assert decision.date == dt.date(2026, 12, 31)
    assert decision.sentence_nl == (
        "Wij mogen deze gegevens nog niet wissen. Volgens de Archiefwet moeten wij ze bewaren "
        "tot en met 31 december 2026."
    )
    assert decision.sentence_en == (
        "We are not allowed to erase this data yet. Under the Archives Act we must keep it up to "
        "and including 31 December 2026."
    )


@pytest.mark.parametrize(
    ("month", "dutch", "english"),
    [
        (1, "januari", "January"),
        (2, "februari", "February"),
        (3, "maart", "March"),
        (4, "april", "April"),
        (5, "mei", "May"),
        (6, "juni", "June"),
        (7, "juli", "July"),
        (8, "augustus", "August"),
        (9, "september", "September"),
        (10, "oktober", "October"),
        (11, "november", "November"),
        (12, "december", "December"),
    ],
)
def test_months_are_written_out(month, dutch, english):
    decision = decide(dataclasses.replace(BASE, brondatum=dt.date(2001, month, 9)))
    assert f"tot en met 9 {dutch} 2008." in decision.sentence_nl
    assert f"up to and including 9 {english} 2008." in decision.sentence_en


def test_every_sentence_is_whole_and_plain():
    """Two languages, no gap left open, sentences of at most 20 words (B1)."""
    for facts in EVERYTHING:
        decision = decide(facts)
        assert decision.sentence_nl != decision.sentence_en
        for text in (decision.sentence_nl, decision.sentence_en):
            assert text.endswith(".")
            assert not re.search(r"[{}]|None|\d{4}-\d\d", text)
            assert all(len(sentence.split()) <= 20 for sentence in text.split(". "))
            assert (decision.date is not None) == bool(re.search(r"\d", text))


def test_the_rule_version_names_these_answers():
    """AD3: replay gives the same answers; whoever changes one changes RULE_VERSION and this."""
    digest = hashlib.sha256()
    for facts in EVERYTHING:
        decision = decide(facts)
        assert decision == decide(dataclasses.replace(facts))
        assert decision.rule_version == RULE_VERSION
        digest.update(repr([str(field) for field in dataclasses.astuple(decision)]).encode())
    assert (RULE_VERSION, digest.hexdigest()) == (
        "erasure-1",
        "fffdf6988f58a270c821adce099f5c777cb6e6a3dee3867d80f86f286401ecc8",
    )
