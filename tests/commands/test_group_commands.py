"""Field groups from the command line: put, get, history, rectify, erase, certificate (ER5)."""

import base64
import json

import pytest
from kluis_command import run
from watched_kluis import SUBJECT

from commands.exitcodes import ExitCode

CONTACT = "kanarie@example.org"
CHANGED = "andere-kanarie@example.org"


@pytest.fixture
def files(desk):
    for name, content in (("contact", CONTACT), ("changed", CHANGED), ("record", "besluit")):
        (desk / name).write_text(content)
    return desk


def put(kluis, *options, file="record", stdin=b""):
    arguments = ("put", file, "--category", "kindpakket", "--subject", SUBJECT, *options)
    return kluis(*arguments, stdin=stdin)


def test_a_group_is_stored_read_corrected_erased_and_certified(kluis, files):
    ran = put(kluis, "--group", "contact=contact", "--brondatum", "2026-06-30")
    assert ran.code == ExitCode.DONE
    pointer = ran.text.strip()
    assert kluis("get", pointer).text == "besluit"
    assert kluis("get", pointer, "--group", "contact").text == CONTACT
    assert kluis("history", pointer).text.endswith("  pending  with contact\n")

    ran = kluis("rectify", pointer, "record", "--group", "contact=changed", "--json")
    assert ran.json["version"] == 2
    assert kluis("get", pointer, "--group", "contact").text == CHANGED
    versions = kluis("history", pointer, "--json").json["versions"]
    assert [version["groups"] for version in versions] == [["contact"], ["contact"]]

    kluis.secrets |= {CONTACT, CHANGED}
    ground = ("--ground", "consent-withdrawn")
    assert kluis("erase", pointer, *ground).code == ExitCode.REFUSED  # D8: the record must stay
    rehearsed = kluis("erase", pointer, "--group", "contact", *ground, "--dry-run", "--json").json
    assert (rehearsed["code"], rehearsed["outcome"]) == ("D10", "allowed")
    erased = kluis("erase", pointer, "--group", "contact", *ground, "--json").json
    assert (erased["code"], erased["outcome"], erased["versions"]) == ("D10", "erased", 2)
    assert kluis("erase", pointer, "--group", "contact", *ground).code == ExitCode.ERASED
    ran = kluis("get", pointer, "--group", "contact")
    assert ran.code == ExitCode.ERASED
    assert f"field group contact of record {pointer} was erased" in ran.err
    assert kluis("get", pointer).text == "besluit"

    assert kluis("shred").code == ExitCode.DONE
    ran = kluis("certificate", pointer, "--group", "contact")
    assert ran.code == ExitCode.DONE
    assert '"contact"' in ran.text
    assert kluis("audit").code == ExitCode.DONE


def test_a_group_and_its_erasure_are_proven(kluis, files):
    pointer = put(kluis, "--group", "contact=contact", "--brondatum", "2026-06-30").text.strip()
    trust = files / "trust.json"
    about = {}
    assert kluis("checkpoint").code == ExitCode.DONE
    for name, options in (("record", ()), ("group", ("--group", "contact"))):
        opened = kluis("prove", pointer, "--disclose", *options)
        (files / f"{name}.json").write_bytes(opened.out)
        about[name] = json.loads(opened.text)
    assert about["record"]["entry"] != about["group"]["entry"]
    payloads = [base64.b64decode(about[name]["opening"]["payload"]) for name in about]
    assert payloads == [b"besluit", CONTACT.encode()]

    kluis.secrets.add(CONTACT)
    erasure = ("prove", pointer, "--erasure", "--group", "contact")
    ran = kluis(*erasure)
    assert ran.code == ExitCode.NOT_FOUND
    assert f"no erasure of field group contact of record {pointer}" in ran.err
    ground = ("--ground", "consent-withdrawn")
    assert kluis("erase", pointer, "--group", "contact", *ground).code == ExitCode.DONE
    (files / "erasure.json").write_bytes(kluis(*erasure).out)
    # The record itself still stands.
    assert kluis("prove", pointer, "--erasure").code == ExitCode.NOT_FOUND
    trust.write_bytes(kluis("trust").out)
    for name in ("record", "group", "erasure"):
        ran = run("verify", files / f"{name}.json", "--trust", trust)
        assert ran.code == ExitCode.DONE, ran.text
    assert f"The erasure of field group 1 of record {pointer}" in ran.text
    unknown = kluis("prove", pointer, "--erasure", "--group", "adres")
    assert unknown.code == ExitCode.BAD_INPUT
    assert kluis("prove", "--governance", "1", "--group", "contact").code == ExitCode.BAD_INPUT


def test_a_group_may_come_from_standard_input(kluis, files):
    pointer = put(kluis, "--group", "contact=-", stdin=CONTACT.encode()).text.strip()
    assert kluis("get", pointer, "--group", "contact").text == CONTACT


@pytest.mark.parametrize(
    "options",
    [
        ("--group", "contact"),
        ("--group", "=contact"),
        ("--group", "contact="),
        ("--group", "contact=contact", "--group", "contact=changed"),
        ("--group", "adres=contact"),
        ("--group", "contact=nowhere"),
        ("--group", "contact=-", "--subject", "-"),
    ],
)
def test_a_group_that_cannot_be_taken_stores_nothing(kluis, files, options):
    kluis.secrets.add(CONTACT)
    assert put(kluis, *options).code == ExitCode.BAD_INPUT
    assert kluis.state()[0]["versions"] == 0


def test_two_inputs_cannot_both_be_standard_input(kluis, files):
    assert put(kluis, "--group", "contact=-", file="-").code == ExitCode.BAD_INPUT
    pointer = put(kluis).text.strip()
    assert kluis("rectify", pointer, "-", "--group", "contact=-").code == ExitCode.BAD_INPUT
    assert len(kluis("history", pointer, "--json").json["versions"]) == 1
