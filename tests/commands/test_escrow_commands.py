"""`kluis escrow`, as the people who do it: a manager, custodians, two officers and an auditor."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from kluis_command import run
from watched_kluis import SUBJECT, WatchedKluis

CUSTODIANS = ("Griffier", "Notaris", "Archivaris")
NAMED = [word for name in CUSTODIANS for word in ("--custodian", name)]
OFFICERS = ("--approved-by", "A. Vos", "privacy officer", "--approved-by", "B. Smit", "archivist")


@pytest.fixture
def shares(kluis, desk):
    """Three share files in the folder in which the user works; what they hold is watched for."""
    assert kluis("escrow", "make", "shares", "--threshold", "2", *NAMED).code == 0
    paths = [Path("shares", f"share-1-{number}.json") for number in (1, 2, 3)]
    watch(kluis, paths)
    return paths


def watch(kluis, paths):
    for path in paths:
        share = json.loads(path.read_text())
        kluis.secrets |= {share["words"], share["custodian_key"]}


def brought(paths):
    return [word for path in paths for word in ("--share", path)]


def attest(kluis, share, target):
    """What a custodian does, who has no vault."""
    return kluis.watched(run("escrow", "attest", share, "-o", target))


# The whole transcript


def test_from_making_the_escrow_to_an_irrecoverable_record(kluis, desk, monkeypatch):
    pointer, kept = kluis.put("organisatie"), kluis.put("organisatie")
    made = kluis("escrow", "make", "shares", "--threshold", "2", *NAMED)
    assert made.code == 0
    assert made.text.splitlines() == [
        *(f"shares/share-1-{number}.json  for {name}" for number, name in enumerate(CUSTODIANS, 1)),
        "Any 2 of these open the permanent records' keys. Keep none of them here.",
    ]
    paths = [desk / "shares" / f"share-1-{number}.json" for number in (1, 2, 3)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    watch(kluis, paths)
    drilled = kluis("escrow", "drill", paths[0], paths[2])
    assert (drilled.code, drilled.text) == (0, "2 shares opened 2 permanent keys.\n")

    # The ordinary way is shut, whoever asks.
    refused = kluis("erase", pointer, "--ground", "legal-duty")
    assert refused.code == 3
    assert "break-glass" in refused.err
    order = ("escrow", "break-glass", pointer, "--ground", "legal-duty")
    broken = kluis(*order, *brought(paths[:2]), *OFFICERS)
    assert broken.code == 0
    assert broken.text.splitlines()[:2] == [
        f"record    {pointer}",
        "outcome   erased, D2b, Art. 17(1)(e) GDPR",
    ]
    assert not kluis.holds(pointer)
    assert kluis.holds(kept)
    again = kluis(*order, *brought(paths[:2]), *OFFICERS)
    assert again.code == 4
    assert pointer in again.err

    shred = kluis("shred", "--no-copies-declared-by", "J. de Boer")
    assert shred.code == 0
    assert "gone      generation 1 of the permanent keys" in shred.text
    stated = kluis("certificate", pointer, "--json").json
    assert (stated["status"], stated["irrecoverable_at"]) == ("partial", None)
    assert stated["failures"] == [
        "escrow of generation 1: 0 of 2 custodians attested that their share is destroyed"
    ]
    for number, status in ((0, "partial"), (2, "irrecoverable")):
        statement = f"statement-{number}.json"
        attested = attest(kluis, paths[number], statement)
        assert (attested.code, attested.out) == (0, b"")
        assert not paths[number].exists()
        accepted = kluis("escrow", "accept", statement)
        assert (accepted.code, accepted.text) == (0, "Took in 1 statement.\n")
        assert kluis("certificate", pointer, "--json").json["status"] == status
    assert kluis("shred", "--status").text == "Every erasure is irrecoverable.\n"

    kluis("certificate", pointer, "-o", "c.json", "--proof", "p.json")
    kluis("trust", "-o", "t.json")
    kluis.folder.rename(kluis.folder.with_name("elsewhere"))
    monkeypatch.delenv("KLUIS_PASSPHRASE_FILE")
    verified = kluis.watched(run("verify", "c.json", "--trust", "t.json", "--proof", "p.json"))
    assert verified.code == 0
    approvers = json.loads((desk / "c.json").read_text())["certificate"]["approvers"]
    assert approvers == [
        {"name": "A. Vos", "role": "privacy officer"},
        {"name": "B. Smit", "role": "archivist"},
    ]


def test_a_lost_key_file_is_replaced_by_two_custodians(kluis, shares):
    pointer = kluis.put("organisatie")
    ordinary = kluis.put()
    (kluis.folder / "keys" / "permanent-1.key").unlink()
    lost = kluis("get", pointer)
    assert lost.code == 1
    assert "permanent-1.key" in lost.err
    assert kluis.holds(ordinary)
    assert kluis("escrow", "recover", shares[1]).code == 2
    ran = kluis("escrow", "recover", *shares[1:])
    assert ran.code == 0
    assert ran.text.splitlines() == [
        "The permanent keys have a new root key at provider file.",
        "Next: kluis escrow make DIR, and let the custodians destroy the old shares",
    ]
    assert kluis.holds(pointer)
    assert kluis.holds(ordinary)
    old = kluis("escrow", "drill", *shares)
    assert old.code == 2
    assert "of generation 1, the tree is in 2" in old.err
    assert kluis("escrow", "make", "shares", "--threshold", "2", *NAMED).code == 0
    new = [Path("shares", f"share-2-{number}.json") for number in (1, 2, 3)]
    watch(kluis, new)
    assert kluis("escrow", "drill", *new).text == "3 shares opened 1 permanent key.\n"


def test_a_lost_token_is_replaced_by_another_keeper(kluis, softhsm, desk):
    pointer = kluis.put("organisatie")
    assert kluis("rootkey", "move", "pkcs11", *softhsm, "--permanent").code == 0
    assert kluis("escrow", "make", "shares", "--threshold", "2", *NAMED).code == 0
    paths = [Path("shares", f"share-2-{number}.json") for number in (1, 2)]
    watch(kluis, paths)
    Path(softhsm[-1]).write_text("canary-of-a-pin\n")
    kluis.secrets.add("canary-of-a-pin")
    assert kluis("get", pointer).code == 3
    ran = kluis("escrow", "recover", *paths, "--provider", "file")
    assert ran.code == 0
    assert "The old keeper does not say that its root key is gone" in ran.text
    assert kluis.holds(pointer)


# JSON


def test_each_step_answers_in_json(kluis, desk):
    pointer = kluis.put("organisatie")
    made = kluis("escrow", "make", "shares", "--threshold", "2", *NAMED, "--json").json
    assert made == {
        "threshold": 2,
        "shares": [f"shares/share-1-{number}.json" for number in (1, 2, 3)],
    }
    paths = [Path(name) for name in made["shares"]]
    watch(kluis, paths)
    assert kluis("escrow", "drill", *paths[:2], "--json").json == {"keys": 1, "shares": 2}
    broken = kluis(
        *("escrow", "break-glass", pointer, "--ground", "unlawful", "--json"),
        *brought(paths[:2]),
        *OFFICERS,
    )
    assert broken.json == {"pointer": pointer, "outcome": "erased", "code": "D5"}
    statement = kluis.watched(run("escrow", "attest", paths[0]))
    Path("one").write_bytes(statement.out)
    assert attest(kluis, paths[2], "two").code == 0
    assert kluis("escrow", "accept", "one", "two", "--json").json == {"accepted": 2}
    recovered = kluis("escrow", "recover", paths[1], "--json")
    assert (recovered.code, recovered.out) == (2, b"")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--threshold", "2"), "--custodian"),
        (NAMED, "--threshold"),
        (("--threshold", "two", *NAMED), "--threshold"),
        (("--threshold", "1", *NAMED), "no one has the key alone"),
        (("--threshold", "4", *NAMED), "no more than the 3"),
        (("--threshold", "2", "--custodian", "Griffier"), "2 to 16"),
        (("--threshold", "2", *NAMED, "--custodian", "GRIFFIER"), "twice"),
    ],
)
def test_an_escrow_that_would_not_protect_is_refused(kluis, desk, arguments, word):
    ran = kluis("escrow", "make", "shares", *arguments)
    assert ran.code == 2
    assert word in ran.err
    assert list(desk.iterdir()) == []


def test_shares_are_written_over_nothing(kluis, desk, shares):
    before = [path.read_bytes() for path in shares]
    ran = kluis("escrow", "make", "shares", "--threshold", "2", *NAMED)
    assert ran.code == 2
    assert "share-1-1.json exists already" in ran.err
    assert [path.read_bytes() for path in shares] == before
    Path("file").write_text("")
    ran = kluis("escrow", "make", "file", "--threshold", "2", *NAMED)
    assert ran.code == 2
    assert "file cannot be made" in ran.err


def test_shares_that_do_not_do_are_refused_by_every_command(kluis, shares, tmp_path):
    pointer = kluis.put("organisatie")
    assert run("init", tmp_path / "other").code == 0
    other = WatchedKluis(tmp_path / "other")
    assert other("escrow", "make", "theirs", "--threshold", "2", *NAMED).code == 0
    theirs = [Path("theirs", f"share-1-{number}.json") for number in (1, 2)]
    watch(kluis, theirs)
    good = shares[1].read_text()
    words = json.loads(good)["words"]
    swapped, damaged, copy = Path("swapped.json"), Path("damaged.json"), Path("copy.json")
    swapped.write_text(good.replace(words, json.loads(shares[2].read_text())["words"]))
    damaged.write_text(good[:-30])
    shutil.copy(shares[0], copy)
    cases = [
        (shares[:1], "bring 1 more"),
        ([shares[0], copy], "share 1 is there twice"),
        ([shares[0], theirs[1]], "different escrows"),
        (theirs, "another vault"),
        ([shares[0], swapped], "share file"),
        ([shares[0], damaged], "share file"),
        ([shares[0], Path("missing.json")], "missing.json cannot be read"),
        ([shares[0], Path()], "cannot be read"),
    ]
    before = kluis.state()
    for given, word in cases:
        for ran in (
            kluis("escrow", "drill", *given),
            kluis("escrow", "recover", *given),
            kluis(
                *("escrow", "break-glass", pointer, "--ground", "legal-duty"),
                *brought(given),
                *OFFICERS,
            ),
        ):
            assert ran.code == 2
            assert word in ran.err
            assert ran.out == b""
    assert kluis.state() == before
    assert kluis.holds(pointer)
    print(f"{len(cases)} cases, 3 commands each")


@pytest.mark.parametrize(
    ("category", "arguments", "code", "word"),
    [
        ("organisatie", ("--ground", "objection", *OFFICERS), 2, "--ground"),
        ("organisatie", ("--ground", "unlawful", *OFFICERS[:3]), 2, "two different persons"),
        (
            "organisatie",
            ("--ground", "unlawful", *OFFICERS[:3], "--approved-by", "a. vos", "archivist"),
            2,
            "two different persons",
        ),
        ("organisatie", ("--ground", "unlawful"), 2, "--approved-by"),
        ("organisatie", ("--ground", "unlawful", "--approved-by", "A. Vos"), 2, "too many"),
        (
            "organisatie",
            ("--ground", "unlawful", *OFFICERS[:3], "--approved-by", "", "archivist"),
            2,
            "name of an approver",
        ),
        ("nieuwsbrief", ("--ground", "unlawful", *OFFICERS), 3, "D5"),
        ("kindpakket", ("--ground", "legal-duty", *OFFICERS), 3, "D2b"),
    ],
)
def test_the_glass_stays_whole(kluis, shares, category, arguments, code, word):
    pointer = kluis.put(category)
    before = kluis.state()
    ran = kluis("escrow", "break-glass", pointer, *arguments, *brought(shares))
    assert ran.code == code
    assert word in ran.err
    assert kluis.state() == before
    assert kluis.holds(pointer)


def test_a_custodian_loses_the_share_only_once_the_statement_is_written(kluis, shares, desk):
    share = shares[0]
    content = share.read_bytes()
    (desk / "link.json").symlink_to(share)
    for target, word in (
        (desk, "cannot be written"),
        ("missing/statement.json", "cannot be written"),
        (share, "another file than the share"),
        ("link.json", "another file than the share"),
    ):
        ran = attest(kluis, share, target)
        assert ran.code == 2
        assert word in ran.err
        assert share.read_bytes() == content
    assert attest(kluis, "missing.json", "s.json").code == 2
    printed = kluis.watched(run("escrow", "attest", share))
    assert printed.code == 0
    assert not share.exists()
    assert json.loads(printed.out)["custodian"] == "Griffier"


def test_statements_that_prove_nothing_are_not_taken_in(kluis, shares, tmp_path):
    kluis.put("organisatie")
    assert attest(kluis, shares[0], "good.json").code == 0
    good = Path("good.json").read_text()
    statement = json.loads(good)
    assert run("init", tmp_path / "other").code == 0
    stranger = WatchedKluis(tmp_path / "other")
    changes = [
        ("name", statement["custodian"], "Notaris", 1),
        ("number", '"number": 1', '"number": 2', 1),
        ("no such share", '"number": 1', '"number": 16', 1),
        ("time", statement["destroyed_at"], "2020-01-01T00:00:00Z", 1),
        ("signature", statement["signature"][:4], "0000", 1),
        ("escrow", statement["escrow"], "00" * 32, 2),
        ("half", good[-40:], "", 2),
        ("other words", "every copy of it", "most copies of it", 2),
    ]
    for name, old, new, code in changes:
        assert good.count(old) >= 1, name
        Path("changed.json").write_text(good.replace(old, new))
        ran = kluis("escrow", "accept", "changed.json")
        assert ran.code == code, (name, ran.err)
    assert kluis("escrow", "accept", "missing.json").code == 2
    assert stranger("escrow", "accept", "good.json").code == 2
    # The bad one is found before the good one is stored.
    Path("changed.json").write_text(good[:-40])
    assert kluis("escrow", "accept", "good.json", "changed.json").code == 2
    assert kluis("escrow", "accept", "good.json").code == 0
    assert kluis("escrow", "accept", "good.json", "--purpose", "reclame").code == 3
    print(f"{len(changes)} changed statements")


def test_nothing_of_the_person_reaches_the_shares(kluis, shares):
    kluis.put("organisatie")
    for path in shares:
        assert SUBJECT not in path.read_text()
