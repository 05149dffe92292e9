"""`kluis erase --subject`: every record of a person, decided one by one (ER4)."""

import datetime as dt

import pytest
from watched_kluis import SUBJECT

RECORD_KEYS = {
    "pointer",
    "groups",
    "outcome",
    "code",
    "article",
    "date",
    "needs",
    "sentence_nl",
    "sentence_en",
    "rule_version",
}
LAST_YEAR = dt.date.today().year - 1


@pytest.fixture
def records(kluis):
    """One record that may go and two that may not, oldest first."""
    return [
        kluis.put(),
        kluis.put("kindpakket", "--brondatum", f"{LAST_YEAR}-06-30"),
        kluis.put("organisatie"),
    ]


def test_what_may_go_goes_and_exit_3_says_that_not_all_went(kluis, records):
    ran = kluis("erase", "--subject", SUBJECT, "--ground", "consent-withdrawn")
    assert ran.code == 3
    assert ran.err.startswith("kluis: 2 of 3 records not erased")
    rows = {line.split()[1]: line for line in ran.text.splitlines() if line.startswith("│")}
    assert list(rows) == records
    for pointer, words in zip(
        records,
        (("erased", "D10"), ("refused", "D8", f"{LAST_YEAR + 7}-06-30"), ("refused", "D7")),
        strict=True,
    ):
        assert all(word in rows[pointer] for word in words), rows[pointer]
    for sentence in ("D10, Art. 17(1)(b) GDPR", "30 juni", "altijd bewaren", "for ever"):
        assert sentence in ran.text
    assert [kluis.holds(pointer) for pointer in records] == [False, True, True]
    assert kluis("audit").code == 0
    again = kluis("erase", "--subject", SUBJECT, "--ground", "consent-withdrawn")
    assert again.code == 3
    assert again.err.startswith("kluis: 2 of 2 records not erased")


def test_exit_0_says_that_all_went_and_the_person_is_known_no_more(kluis):
    pointers = [kluis.put() for _ in range(3)]
    ran = kluis("erase", "--subject", SUBJECT, "--ground", "objection")
    assert ran.code == 0
    assert all(pointer in ran.text for pointer in pointers)
    assert not any(kluis.holds(pointer) for pointer in pointers)
    assert kluis("find", "--subject", SUBJECT, "--json").json == {"pointers": []}
    assert kluis("erase", "--subject", SUBJECT, "--ground", "objection").code == 5
    assert kluis("shred").code == 0
    assert all(kluis("certificate", pointer).code == 0 for pointer in pointers)


@pytest.mark.parametrize("typed", [SUBJECT, f"{SUBJECT}\n", f"{SUBJECT}\r\n"])
def test_the_subject_can_come_from_standard_input(kluis, records, typed):
    arguments = ("erase", "--subject", "-", "--ground", "consent-withdrawn", "--json")
    ran = kluis(*arguments, stdin=typed.encode())
    assert ran.code == 3
    assert [one["pointer"] for one in ran.json["records"]] == records


def test_a_dry_run_answers_the_same_and_changes_nothing(kluis, records):
    arguments = ("erase", "--subject", SUBJECT, "--ground", "consent-withdrawn")
    before = kluis.state()
    shown = kluis(*arguments, "--dry-run")
    assert shown.code == 3
    assert "nothing was changed" in shown.text
    rehearsed = kluis(*arguments, "--dry-run", "--json")
    assert kluis.state() == before
    assert all(kluis.holds(pointer) for pointer in records)
    done = kluis(*arguments, "--json")
    assert (rehearsed.json["dry_run"], done.json["dry_run"]) == (True, False)
    assert rehearsed.json["erased_at"] is None
    assert [one["outcome"] for one in rehearsed.json["records"]] == [
        "allowed",
        "refused",
        "refused",
    ]
    without_outcome = [
        [{**one, "outcome": None} for one in ran.json["records"]] for ran in (rehearsed, done)
    ]
    assert without_outcome[0] == without_outcome[1]


def test_the_json_has_every_record_with_its_decision(kluis, records):
    ran = kluis("erase", "--subject", SUBJECT, "--ground", "consent-withdrawn", "--json")
    assert set(ran.json) == {"records", "erased_at", "files_clean", "dry_run"}
    assert all(set(one) == RECORD_KEYS for one in ran.json["records"])
    assert [
        (one["pointer"], one["outcome"], one["code"], one["date"]) for one in ran.json["records"]
    ] == [
        (records[0], "erased", "D10", None),
        (records[1], "refused", "D8", f"{LAST_YEAR + 7}-06-30"),
        (records[2], "refused", "D7", None),
    ]
    assert isinstance(ran.json["erased_at"], int)
    assert ran.json["files_clean"] is True
    nothing = kluis("erase", "--subject", SUBJECT, "--ground", "consent-withdrawn", "--json")
    assert nothing.json["erased_at"] is None


def test_an_optional_group_of_a_record_that_stays_is_a_line_of_its_own(kluis, tmp_path):
    (tmp_path / "contact").write_bytes(b"06 12345678")
    pointer = kluis.put(
        "kindpakket",
        *("--brondatum", f"{LAST_YEAR}-06-30", "--group", f"contact={tmp_path / 'contact'}"),
    )
    asked = ("erase", "--subject", SUBJECT, "--ground", "consent-withdrawn")
    shown = kluis(*asked, "--dry-run")
    assert [
        line.split("\u2502")[1:3] for line in shown.out.decode().splitlines() if "\u2502" in line
    ] == [
        [f" {pointer} ", " refused "],
        ["   contact                  ", " allowed "],
    ]
    (record,) = kluis(*asked, "--json").json["records"]
    assert (record["outcome"], record["code"]) == ("refused", "D8")
    assert [(one["name"], one["outcome"], one["code"]) for one in record["groups"]] == [
        ("contact", "erased", "D10")
    ]
    assert kluis("get", pointer, "--group", "contact").code == 4


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "word"),
    [
        (("--subject", "nobody"), b"", 5, "no living record"),
        (("--subject", ""), b"", 2, "1 to 256 bytes"),
        (("--subject", "-"), b"", 2, "1 to 256 bytes"),
        (("--subject", "-"), b"\xff", 2, "not UTF-8"),
        (("--subject", SUBJECT, "--purpose", "reclame"), b"", 3, "inzage"),
        (("--subject", SUBJECT, "--group", "contact"), b"", 2, "one --subject"),
        (("a" * 26, "--subject", SUBJECT), b"", 2, "one --subject"),
        ((), b"", 2, "one record"),
    ],
)
def test_what_is_not_understood_changes_nothing(kluis, records, arguments, stdin, code, word):
    before = kluis.state()
    ran = kluis("erase", *arguments, "--ground", "consent-withdrawn", stdin=stdin)
    assert ran.code == code
    assert word in ran.err
    assert kluis.state() == before
