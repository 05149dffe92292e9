"""`kluis ledger rotate`: new keys for the ledger; what the old ones signed counts on (LG4, PR6)."""

import json

import pytest
from kluis_command import run

from commands.exitcodes import ExitCode


@pytest.fixture
def rotate(kluis):
    """Rotates, and lets the one line by which the command says what is left to do pass."""

    def ran(*options):
        done = run("-C", kluis.folder, "ledger", "rotate", *options)
        assert done.code == ExitCode.DONE
        for secret in kluis.secrets:
            assert secret not in done.err + done.text
        return done

    return ran


def written(desk, name, ran):
    assert ran.code == ExitCode.DONE, ran.err
    (desk / name).write_bytes(ran.out)
    return name


def without_line(path, place):
    """The evidence file without one signature line under its checkpoint and its statement."""
    document = json.loads(path.read_text())
    (group,) = document["groups"]
    for key in ("proof", "statement"):
        text, _, lines = group[key].rpartition("\n\n")
        kept = lines.splitlines()
        assert len(kept) == 2
        del kept[place]
        group[key] = f"{text}\n\n{kept[0]}\n"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def test_both_keys_make_way_once(kluis, desk, rotate):
    kluis.put()
    first = kluis("trust").text
    said = rotate()
    retired, *names = said.text.splitlines()
    closing = kluis("checkpoint", "--json").json["size"]
    assert retired == (
        f"The old keys are retired at {closing} leaves. From {closing + 1} on these sign:"
    )
    assert len(names) == len(set(names)) == 2
    assert "new trust file" in said.err
    assert "new data backup" in said.err
    second = kluis("trust").text
    assert not any(name in first for name in names)
    assert all(name in second for name in names)

    # Again, before the new keys have signed: nothing is retired, and it says so.
    again = rotate()
    assert "have signed nothing yet, so they stay" in again.text
    assert f"sign from {closing + 1} on" in again.text
    assert again.err == ""
    assert rotate("--json").json == {"closing_size": closing, "keys": names, "rotated": False}
    assert kluis("trust").text == second

    # Once they have, they can be retired in their turn.
    kluis.put()
    closed = kluis("checkpoint", "--json").json["size"]
    assert closed > closing
    third = rotate("--json").json
    assert third["rotated"] is True
    assert third["closing_size"] == closed
    assert not set(third["keys"]) & set(names)
    assert kluis("audit").code == ExitCode.DONE


def test_evidence_from_before_and_after_verifies(kluis, desk, rotate):
    pointer = kluis.put()
    before = written(desk, "before.json", kluis("prove", pointer))
    old_trust = written(desk, "old-trust.json", kluis("trust"))
    assert run("verify", before, "--trust", old_trust).code == ExitCode.DONE
    rotate()
    trust = written(desk, "trust.json", kluis("trust"))
    # At the closing checkpoint, and a record that only the new keys have signed.
    assert run("verify", before, "--trust", trust).code == ExitCode.DONE
    late = kluis.put()
    after = written(desk, "after.json", kluis("prove", late))
    anew = written(desk, "anew.json", kluis("prove", pointer))
    for evidence in (after, anew):
        assert run("verify", evidence, "--trust", trust).code == ExitCode.DONE
    # Controls: keys that the trust file does not know, and a line of one key that is gone.
    assert run("verify", after, "--trust", old_trust).code == ExitCode.FAULT
    for evidence in (before, after):
        for place in (0, 1):
            (desk / "stripped.json").write_text(without_line(desk / evidence, place))
            assert run("verify", "stripped.json", "--trust", trust).code == ExitCode.FAULT


def test_a_rotation_without_the_vault_is_bad_input(desk):
    assert run("-C", desk / "nowhere", "ledger", "rotate").code == ExitCode.BAD_INPUT
