"""`kluis verify --consistency`, `ledger consistency` and `prove --erasure` (PR6, GO2)."""

import json

from kluis_command import run

from commands.exitcodes import ExitCode


def put(kluis, text="x"):
    return kluis(
        "put", "-", "--category", "nieuwsbrief", "--subject", "s", stdin=text.encode()
    ).text.strip()


def written(desk, name, ran):
    assert ran.code == 0, ran.err
    (desk / name).write_bytes(ran.out)
    return name


def signed_at(kluis):
    return json.loads(kluis("checkpoint", "--json").out)["size"]


def test_a_retired_checkpoint_counts_once_its_growth_is_brought(kluis, desk):
    pointer = put(kluis)
    old = signed_at(kluis)
    evidence = written(desk, "evidence.json", kluis("prove", pointer))
    put(kluis, "y")
    assert run("-C", kluis.folder, "ledger", "rotate").code == 0
    trust = written(desk, "trust.json", kluis("trust"))
    bare = run("verify", evidence, "--trust", trust)
    assert bare.code == ExitCode.INCOMPLETE
    assert f"kluis ledger consistency {old} {old + 1} -o FILE" in bare.text
    assert kluis("ledger", "consistency", old, old + 1, "-o", "grown.json").code == 0
    assert run("verify", evidence, "--trust", trust, "--consistency", "grown.json").code == 0
    grown = run("verify", "grown.json", "--trust", trust)
    assert grown.code == 0
    assert f"only grew from {old} to {old + 1} leaves" in grown.text
    assert run("verify", "grown.json", "--trust", trust, "--json").json["verdict"] == "verified"
    # A hash that was changed is a fault, and a file that was cut bad input.
    whole = (desk / "grown.json").read_text()
    document = json.loads(whole)
    document["proof"][0] = "A" * 43 + "="
    (desk / "wrong.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    assert run("verify", "wrong.json", "--trust", trust).code == ExitCode.FAULT
    wrong = run("verify", evidence, "--trust", trust, "--consistency", "wrong.json")
    assert wrong.code == ExitCode.FAULT
    (desk / "cut.json").write_text(whole[:-9])
    assert run("verify", "cut.json", "--trust", trust).code == ExitCode.BAD_INPUT


def test_files_that_do_not_go_together_are_bad_input(kluis, desk):
    pointer = put(kluis)
    signed_at(kluis)
    put(kluis, "y")
    size = signed_at(kluis)
    put(kluis, "z")
    signed_at(kluis)
    evidence = written(desk, "evidence.json", kluis("prove", pointer))
    trust = written(desk, "trust.json", kluis("trust"))
    grown = written(desk, "grown.json", kluis("ledger", "consistency", size - 1, size))
    other = run("verify", evidence, "--trust", trust, "--consistency", grown)
    assert other.code == ExitCode.BAD_INPUT
    assert "does not start at a checkpoint of the evidence" in other.err
    both = run("verify", grown, "--trust", trust, "--consistency", grown)
    assert both.code == ExitCode.BAD_INPUT
    assert "--consistency goes with evidence" in both.err


def test_a_size_that_was_not_signed_names_the_nearest(kluis):
    put(kluis)
    first = signed_at(kluis)
    put(kluis, "y")
    put(kluis, "z")
    last = signed_at(kluis)
    ran = kluis("ledger", "consistency", first, first + 1)
    assert ran.code == ExitCode.BAD_INPUT
    assert f"the nearest are of {first} and {last}" in ran.err


def test_an_erasure_is_proven(kluis, desk):
    pointer = put(kluis)
    assert kluis("prove", pointer, "--erasure").code == ExitCode.NOT_FOUND
    assert kluis("erase", pointer, "--ground", "consent-withdrawn").code == 0
    evidence = written(desk, "evidence.json", kluis("prove", pointer, "--erasure"))
    trust = written(desk, "trust.json", kluis("trust"))
    ran = run("verify", evidence, "--trust", trust)
    assert ran.code == 0
    assert f"The erasure of record {pointer}" in ran.text
    assert "authorisation not checked: " in ran.text


def test_what_is_to_be_proven_is_said_once(kluis):
    for arguments in ((), ("x", "--governance", "1"), ("x", "--erasure", "--disclose")):
        assert kluis("prove", *arguments).code == ExitCode.BAD_INPUT
    assert kluis("prove", "--governance", "1").code == ExitCode.NOT_FOUND
