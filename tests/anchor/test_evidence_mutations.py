"""P1: no changed evidence file verifies, whatever was changed in it, and two verifiers agree.

Accepted means the verdict "verified". Every mutant is judged by the product's verifier, which may
raise nothing but `AnchorError`, and by the one in independent_verifier.py, which shares no code.
"""

from collections import Counter
from collections.abc import Iterable

import independent_verifier
import pytest
from anchor_samples import EVIDENCE, TRUST, TRUST_OF, outcome
from evidence_mutations import (
    GENUINE,
    Mutant,
    all_structural,
    bit_flips,
    byte_changes,
    is_genuine,
    oddities,
    one_bit_of_each_byte,
    truncations,
)

import anchor.verify
from anchor.evidence import Evidence
from anchor.steps import StepResult, StepState
from ledger.note import verify as verify_note

FLIPPED = "version, anchored and opened"
REGIMES = ("one", "joined", "rotated", "century")


def judge(mutants: Iterable[Mutant], trust: bytes) -> tuple[Counter, list[str], list[str]]:
    """Return the outcomes, which mutants were accepted, and on which the verifiers differ.

    What two mutations make alike is judged once.
    """
    outcomes: Counter = Counter()
    accepted, disputed = [], []
    seen = set()
    for what, data in mutants:
        if is_genuine(data) or data in seen:
            continue
        seen.add(data)
        found = outcome(data, trust)
        outcomes[found] += 1
        if found == "verified":
            accepted.append(what)
        if independent_verifier.accepts(data, trust) is not (found == "verified"):
            disputed.append(what)
    return outcomes, accepted, disputed


def assert_all_refused(mutants: Iterable[Mutant], trust: bytes, at_least: int) -> None:
    outcomes, accepted, disputed = judge(mutants, trust)
    print(f"{outcomes.total()} mutants, {len(accepted)} accepted: {dict(outcomes)}")
    assert accepted == []
    assert disputed == []
    assert outcomes.total() >= at_least


def test_every_bit_of_a_file_is_bound():
    whole = EVIDENCE[FLIPPED]
    assert_all_refused(bit_flips(whole), TRUST[TRUST_OF[FLIPPED]], len(whole) * 8)


def test_one_bit_of_every_byte_of_an_erasure_is_bound():
    whole = EVIDENCE["erasure"]
    assert_all_refused(one_bit_of_each_byte(whole), TRUST["one"], len(whole))


@pytest.mark.soak
@pytest.mark.parametrize("name", EVIDENCE)
def test_every_byte_of_every_golden_is_bound(name):
    whole = EVIDENCE[name]
    assert_all_refused(byte_changes(whole), TRUST[TRUST_OF[name]], 2 * len(whole))


def test_no_part_of_a_file_is_a_file():
    whole = EVIDENCE[FLIPPED]
    assert_all_refused(truncations(whole), TRUST["one"], 2 * len(whole) - 2)


@pytest.mark.parametrize("name", EVIDENCE)
def test_spliced_rearranged_respelt_and_cosigned_files(name):
    assert_all_refused(all_structural(name), TRUST[TRUST_OF[name]], 300)


def test_files_that_were_never_evidence():
    assert_all_refused(oddities(), TRUST["one"], 10)


def test_files_of_another_regime_of_keys():
    """Evidence whose checkpoint a retired key signed, or one key too few, or one too many."""
    pairs = [("second key joined", "one"), ("second key joined", "rotated"),
             ("key rotated", "one"), ("key rotated", "joined"),
             ("erasure", "joined"), ("erasure", "rotated")]  # fmt: skip
    for name, trust in pairs:
        assert outcome(EVIDENCE[name], TRUST[trust]) == "failed"
        assert not independent_verifier.accepts(EVIDENCE[name], TRUST[trust])


def test_control_genuine_files_are_accepted_by_both():
    """What the mutations leave out as genuine is true: it verifies under one of the trust files."""
    for data in GENUINE:
        trusts = (TRUST[trust] for trust in REGIMES)
        trust = next((one for one in trusts if outcome(data, one) == "verified"), None)
        assert trust is not None
        assert independent_verifier.accepts(data, trust)
    assert set(EVIDENCE.values()) <= GENUINE


def always(step: str):
    return lambda *_: StepResult(step, StepState.PASSED, "not looked at")


class EqualToAll:
    """What a parser compares with that does not compare."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None


@pytest.mark.parametrize(
    "check", ["log_signature", "_inclusion", "_statement", "_local_anchor", "_opening"]
)
def test_control_a_verifier_without_one_step_is_seen(check, monkeypatch):
    monkeypatch.setattr(anchor.verify, check, always(check))
    mutants = [one for name in ("version, opened", FLIPPED) for one in all_structural(name)]
    outcomes, accepted, disputed = judge(mutants, TRUST["one"])
    print(f"without {check}: {len(accepted)} of {outcomes.total()} mutants accepted")
    assert accepted
    assert disputed


def test_control_a_parser_that_does_not_compare_is_seen(monkeypatch):
    monkeypatch.setattr(Evidence, "format", lambda _: EqualToAll())
    _, accepted, disputed = judge(all_structural(FLIPPED), TRUST["one"])
    print(f"without comparing: {len(accepted)} accepted")
    assert accepted
    assert disputed


def test_control_a_verifier_that_passes_over_unknown_signatures_is_seen(monkeypatch):
    """C2SP's own rule for readers would leave bytes of a true file for anyone to choose."""

    def lenient(group, trust, _):
        for key in trust.keys_for(group.checkpoint().size):
            verify_note(group.proof.checkpoint, key)
        return StepResult("log-signature", StepState.PASSED, "")

    monkeypatch.setattr(anchor.verify, "log_signature", lenient)
    mutants = [one for one in all_structural("version") if "extra signature" in one[0]]
    _, accepted, disputed = judge(mutants, TRUST["one"])
    assert accepted
    assert accepted == disputed
