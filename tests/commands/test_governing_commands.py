"""`kluis member`, `approve`, `stop` and `resume`, as four role holders and an operator use them."""

import json
import stat
from pathlib import Path

import pytest
from kluis_command import run
from role_holders import Holder, approve

ROLES = ("operator", "officer", "archivist", "auditor")
CONFIGURED = '\n[governance]\nholders = "nieuwsbrief"\n'
HOLDER = "Aleida-Vos-canary"


@pytest.fixture
def holders(kluis, desk, monkeypatch):
    config = kluis.folder / "datakluis.toml"
    config.write_text(config.read_text() + CONFIGURED)
    return {role: Holder(kluis, monkeypatch, role) for role in ROLES}


@pytest.fixture
def governed(kluis, holders):
    members = [word for one in holders.values() for word in ("--member", one.named)]
    proposed = holders["operator"]("member", "found", *members, "--json")
    assert (proposed.code, proposed.json["missing"]) == (7, "3 of the 4 founding members")
    for role in ROLES[1:]:
        ran = holders[role]("approve", "1", "--yes")
    assert ran.code == 0
    return holders


def test_a_role_key_is_made_without_a_vault_and_with_its_own_passphrase(desk, monkeypatch, kluis):
    officer = Holder(kluis, monkeypatch, "officer")
    assert officer.named.startswith("officer:")
    assert len(officer.key) == 64
    assert stat.S_IMODE(officer.path.stat().st_mode) == 0o600
    again = officer("member", "key", "--role", "officer", "-o", officer.path, signs=False)
    assert again.code == 2
    assert "exists already" in again.err
    Path("same").write_text(Path(kluis.folder.parent / "passphrase").read_text())
    monkeypatch.setenv("KLUIS_KEY_PASSPHRASE_FILE", "same")
    same = kluis("member", "key", "--role", "officer", "-o", "other.key")
    assert same.code == 2
    assert "passphrase of its own" in same.err
    assert not Path("other.key").exists()
    monkeypatch.delenv("KLUIS_PASSPHRASE_FILE")
    made = run("member", "key", "--role", "officer", "-o", "other.key")
    assert made.code == 0
    monkeypatch.setenv("KLUIS_KEY_PASSPHRASE_FILE", "missing")
    assert "KLUIS_KEY_PASSPHRASE_FILE" in run("member", "key", "--role", "officer", "-o", "x").err
    # Made elsewhere, it is still refused where it would act.
    monkeypatch.setenv("KLUIS_KEY_PASSPHRASE_FILE", "same")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", "same")
    ran = kluis("stop", "--key-file", "other.key")
    assert ran.code == 2
    assert "one" not in ran.out.decode()


def test_the_whole_life_of_a_governed_ledger(kluis, governed, desk):
    listed = kluis("member", "list").text.splitlines()
    assert listed[0] == "state     1, running"
    assert sum(line.startswith("member ") for line in listed) == 4
    assert sum(line.startswith("rule ") for line in listed) == 7
    assert kluis("approve").text == "Nothing waits for approval.\n"

    # A new member, with a holder.
    fifth = Holder(kluis, governed["operator"].monkeypatch, "archivist", 2)
    kluis.secrets.discard(HOLDER)
    ran = governed["operator"]("member", "add", fifth.named, "--holder", HOLDER)
    assert ran.code == 7
    assert "the new member's own key" in ran.err
    waiting = kluis("approve").text
    for word in ("add a member", "archivist", "digest", "expires at", "missing"):
        assert word in waiting
    assert fifth("approve", "2", "--yes").code == 7
    assert governed["officer"]("approve", "2", "--yes").code == 0
    member = next(one for one in kluis("member", "list", "--json").json["members"] if one["holder"])
    assert (member["key"], member["holder"]) == (fifth.key, HOLDER)

    # Its name goes, the member stays.
    kluis.erase(member["holder_pointer"])
    state = kluis("member", "list", "--json").json
    assert [one["holder"] for one in state["members"]] == [None] * 5
    assert HOLDER not in kluis("member", "list").text
    holding = [
        path
        for path in kluis.folder.rglob("*")
        if path.is_file() and HOLDER.encode() in path.read_bytes()
    ]
    assert holding == []

    # Another rule, and a member that leaves.
    rule = ("member", "rule", "list", "--count", "3", "--may", "officer", "--may", "archivist")
    assert governed["operator"](*rule).code == 7
    assert approve(governed, "3", "officer", "archivist").code == 0
    assert kluis("member", "list", "--json").json["rules"]["list"]["count"] == 3
    assert governed["operator"]("member", "remove", governed["auditor"].key).code == 7
    assert approve(governed, "4", "officer", "archivist").code == 0
    stranger = governed["auditor"]("stop")
    assert stranger.code == 3
    assert "no member's" in stranger.err
    assert len(kluis("member", "list", "--json").json["members"]) == 4
    kluis.state()


def test_a_stop_is_one_line_and_exit_6(kluis, governed, desk):
    pointer = kluis.put()
    Path("lines.jsonl").write_text('{"bsn": "1"}\n')
    assert governed["auditor"]("stop").code == 0
    for arguments in (
        ("put", "-", "--category", "nieuwsbrief", "--subject", "1"),
        ("import", "lines.jsonl", "--category", "nieuwsbrief", "--subject-field", "/bsn"),
    ):
        refused = kluis(*arguments, stdin=b"{}")
        assert (refused.code, refused.out) == (6, b"")
        assert "stopped since state 2" in refused.err
        assert "kluis resume" in refused.err
    assert governed["auditor"]("stop").code == 3
    assert "stopped" in kluis("member", "list").text.splitlines()[0]

    assert kluis.holds(pointer)
    assert kluis("rectify", pointer, "-", stdin=b"{}").code == 0
    kluis("prove", pointer, "-o", "evidence.json")
    kluis("trust", "-o", "trust.json")
    assert kluis.watched(run("verify", "evidence.json", "--trust", "trust.json")).code == 0
    kluis.erase(pointer)
    assert kluis("audit").code == 0
    assert kluis("ledger", "export", "published").code == 0

    one = governed["officer"]("resume", "--json")
    assert (one.code, one.json["outcome"], one.json["kind"]) == (7, "open", "resume")
    assert governed["archivist"]("approve", one.json["proposal"], "--yes").code == 0
    kluis.put()


def test_a_list_is_proposed_approved_elsewhere_and_carried_out(kluis, governed, desk, monkeypatch):
    pointers = [kluis.put("kindpakket", "--brondatum", "2015-01-01") for _ in range(3)]
    erase = ("erase", pointers[0], "--ground", "not-needed")
    queued = kluis(*erase)
    assert queued.code == 3
    assert "D9" in queued.err
    Path("list.txt").write_text("\n".join(pointers[:2]) + "\n")
    ran = governed["officer"]("approve", "--list", "list.txt", "--json")
    assert (ran.code, ran.json["kind"], ran.json["outcome"]) == (7, "list", "open")
    number = str(ran.json["proposal"])
    seen = kluis("approve", number).text
    assert all(f"item      {one}: due since " in seen for one in pointers[:2])
    assert kluis("approve", number, "--export", "proposal.json").code == 0
    # Which records are to go is for those who decide.
    assert Path("proposal.json").stat().st_mode & 0o777 == 0o600

    # The archivist has no vault.
    folder = kluis.folder.rename(kluis.folder.with_name("elsewhere"))
    passphrase = monkeypatch.delenv("KLUIS_PASSPHRASE_FILE") or folder.parent / "passphrase"
    archivist = governed["archivist"]
    monkeypatch.setenv("KLUIS_KEY_PASSPHRASE_FILE", str(archivist.passphrase))
    sign = ("approve", "--file", "proposal.json", "--key-file", archivist.path, "-o", "signed.json")
    asked = kluis.watched(run(*sign, "--yes"))
    assert asked.code == 0
    assert "have 2 listed items destroyed" in asked.text
    assert ran.json["digest"] in asked.text
    assert all(f"item      {one}" in asked.text for one in pointers[:2])
    folder.rename(kluis.folder)
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(passphrase))

    assert kluis("approve", number, "--add", "signed.json").code == 0
    assert "list      2: 2 items, 0 erased" in kluis("member", "list").text
    erased = kluis(*erase, "--json").json
    assert (erased["outcome"], erased["code"]) == ("erased", "D9")
    assert kluis("erase", pointers[2], "--ground", "not-needed").code == 3
    assert kluis(*erase).code == 4
    assert "list      2: 2 items, 1 erased" in kluis("member", "list").text
    kluis("shred", "--no-copies-declared-by", "J. de Boer")
    kluis("certificate", pointers[0], "-o", "c.json", "--proof", "p.json")
    stated = json.loads(Path("c.json").read_text())["certificate"]
    assert stated["destruction_list"] == "list 2 of datakluis.example/test"
    assert {one["role"] for one in stated["approvers"]} == {"officer", "archivist"}
    kluis("trust", "-o", "t.json")
    verified = run("verify", "c.json", "--trust", "t.json", "--proof", "p.json")
    assert verified.code == 0, verified.text + verified.err
    kluis.state()


def test_a_question_is_asked_before_anything_is_signed(kluis, governed, desk):
    governed["operator"]("member", "remove", governed["auditor"].key)
    for answer, code in ((b"n\n", 2), (b"", 130)):
        governed["officer"].monkeypatch.setenv(
            "KLUIS_KEY_PASSPHRASE_FILE", str(governed["officer"].passphrase)
        )
        ran = run(
            *("-C", kluis.folder, "approve", "2", "--key-file", governed["officer"].path),
            stdin=answer,
        )
        assert ran.code == code
        assert "remove a member" in ran.err
    assert kluis("approve", "2", "--json").json["proposals"][0]["outcome"] == "open"
    ran = run(
        *("-C", kluis.folder, "approve", "2", "--key-file", governed["officer"].path),
        stdin=b"y\n",
    )
    assert ran.code == 0


def test_what_is_refused(kluis, governed, desk, monkeypatch):
    officer, auditor = governed["officer"], governed["auditor"]
    stranger = Holder(kluis, monkeypatch, "officer", 9)
    before = kluis("member", "list", "--json").json
    cases = [
        (stranger("stop"), 3, "no member's"),
        (officer("approve", "99", "--yes"), 2, "no proposal 99"),
        (officer("approve", "1", "--yes"), 3, "was enacted"),
        (officer("member", "remove", "00" * 32), 3, "no member's"),
        (officer("member", "remove", "xyz"), 2, "64 digits"),
        (officer("member", "add", "mayor:" + officer.key), 2, "ROLE:KEY"),
        (officer("member", "add", officer.named), 3, "already"),
        (officer("member", "add", stranger.named + ":00"), 2, "32 digits"),
        (officer("resume"), 3, "not stopped"),
        (officer("stop", "--expires", "0"), 2, "--expires"),
        (officer("member", "found", "--member", officer.named), 3, "is founded"),
        (officer("approve", "--file", "none.json", "-o", "x"), 2, "none.json cannot be read"),
        (officer("approve", "--list", "none.txt"), 2, "none.txt cannot be read"),
        (officer("approve", "--file", officer.path, "-o", "x"), 2, "proposal file"),
        (officer("approve", "1", "--add", officer.path), 2, "approval file"),
        (officer("approve", "1", "--file", officer.path), 2, "the others none"),
        (officer("approve", "--add", officer.path), 2, "the others none"),
        (officer("approve", "--add", "a", "--file", "b"), 2, "one by one"),
        (kluis("stop", "--key-file", "none.key"), 2, "none.key cannot be read"),
        (kluis("stop", "--key-file", kluis.folder / "signer" / "log.key"), 2, "not a key file"),
        (kluis("stop"), 2, "--key-file"),
        (kluis("approve", "--list", "list.txt"), 2, "--key-file"),
    ]
    # One's own key with another's passphrase.
    monkeypatch.setenv("KLUIS_KEY_PASSPHRASE_FILE", str(auditor.passphrase))
    cases.append((kluis("stop", "--key-file", officer.path), 2, "wrong passphrase"))
    for ran, code, word in cases:
        assert (ran.code, ran.out) == (code, b""), (word, ran.err)
        assert word in ran.err
    assert kluis("member", "list", "--json").json == before
    print(f"{len(cases)} refused")


def test_an_ungoverned_ledger_says_so(kluis, desk):
    assert "not governed" in kluis("member", "list").text
    state = kluis("member", "list", "--json").json
    assert (state["founded"], state["rules"], state["members"]) == (False, {}, [])


def test_a_holder_needs_a_category(kluis, governed, monkeypatch):
    config = kluis.folder / "datakluis.toml"
    config.write_text(config.read_text().replace(CONFIGURED, ""))
    fifth = Holder(kluis, monkeypatch, "auditor", 2)
    ran = governed["operator"]("member", "add", fifth.named, "--holder", HOLDER)
    assert ran.code == 2
    assert "[governance]" in ran.err
    assert HOLDER not in ran.err
    assert kluis("approve").text == "Nothing waits for approval.\n"


def test_rules_come_from_a_file(kluis, holders, desk):
    Path("rules.toml").write_text('[stop]\ncount = 2\nmay = ["officer", "auditor"]\n')
    members = [word for one in holders.values() for word in ("--member", one.named)]
    found = ("member", "found", *members, "--rules", "rules.toml")
    assert holders["operator"](*found).code == 7
    assert approve(holders, "1", *ROLES[1:]).code == 0
    assert holders["officer"]("stop").code == 7
    assert holders["auditor"]("approve", "2", "--yes").code == 0
    Path("rules.toml").write_text("[stop]\ncount = 0\n")
    assert holders["operator"](*found).code == 2
    assert json.loads(kluis("member", "list", "--json").text)["stopped"]
