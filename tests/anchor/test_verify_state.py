"""Authorisation: what members did not decide never passes, whatever evidence brings (GO2)."""

from dataclasses import replace
from itertools import permutations

import independent_verifier
import pytest
from anchor_samples import EVIDENCE, world

import anchor.verify
from anchor.evidence import Evidence, Group, StateEntry
from anchor.statement import AnchorStatement
from anchor.steps import Step, StepResult, StepState, Verdict
from anchor.trust import TrustFile
from anchor.verify import Report, verify
from ledger import merkle
from ledger.action import EnactList, Resume, Role, Stop
from ledger.checkpoint import Checkpoint
from ledger.entry import EntryKind, parse_entry
from ledger.note import Note, sign
from ledger.tlogproof import LogProof

GOVERNED = world.trust("century", (*world.WATCHED, Step.AUTHORISATION))
ERASURE = world.evidence(world.LISTED_ERASURE, [16], "century")
STOP = world.evidence(world.STOP, [16], "century")
FOUNDING = world.evidence(world.FOUNDING, [16], "century")
# Of logs that are made here and signed with one key.
PLAIN = replace(
    world.trust("one", (Step.LOG_SIGNATURE, Step.INCLUSION, Step.AUTHORISATION)),
    founding=GOVERNED.founding,
)


def step(report: Report) -> tuple[StepState, str]:
    return report.steps[-1].state, report.steps[-1].detail


def judged(evidence: Evidence, trust: TrustFile = GOVERNED) -> tuple[Verdict, StepState, str]:
    report = verify(Evidence.parse(evidence.format()), trust)
    accepted = independent_verifier.accepts(evidence.format(), trust.format())
    assert accepted is (report.verdict is Verdict.VERIFIED)
    return report.verdict, *step(report)


def log_of(*leaves: bytes, state: tuple[int, ...], leaf: int = -1) -> Evidence:
    """Evidence of a leaf in a log of exactly these, with the given ones as its state."""
    size = len(leaves)

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(leaves[index])
        return merkle.node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))

    text = Checkpoint(world.ORIGIN, size, merkle.root(size, read)).text()
    note = Note(text, (sign(text, world.ORIGIN, world.FIRST[1]),))

    def proof(index: int) -> LogProof:
        return LogProof(index, tuple(merkle.inclusion_proof(index, size, read)), note)

    stated = tuple(StateEntry(parse_entry(leaves[one]), proof(one)) for one in state)
    place = leaf % size
    group = Group(proof(place), AnchorStatement(note), ())
    return Evidence(parse_entry(leaves[place]), (group,), None, stated)


FOUND, LIST, LISTED, STOPPED = world.LEAVES[world.FOUNDING :]


@pytest.mark.parametrize(
    ("evidence", "detail"),
    [
        (ERASURE, "list 2 was enacted by its quorum, and names this"),
        (STOP, "approved by its quorum, after 2 governance entries"),
        (FOUNDING, "approved by its quorum, after 0 governance entries"),
    ],
)
def test_what_was_decided_passes_and_is_no_longer_left_open(evidence, detail):
    assert judged(evidence) == (Verdict.VERIFIED, StepState.PASSED, detail)
    report = verify(evidence, GOVERNED)
    assert not any("authorisation" in line for line in report.not_proven)
    assert len(report.not_proven) == 2


@pytest.mark.parametrize("evidence", [ERASURE, STOP])
def test_without_a_state_it_is_not_checked(evidence):
    bare = replace(evidence, state=())
    verdict, state, detail = judged(bare)
    assert (verdict, state) == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
    assert detail == (
        "authorisation not checked: the evidence does not hold the state of governance"
    )
    report = verify(bare, world.trust("century"))
    assert report.verdict is Verdict.VERIFIED
    assert report.not_proven[-1].startswith("authorisation:")


@pytest.mark.parametrize("evidence", [ERASURE, STOP, FOUNDING])
def test_who_the_members_are_comes_from_the_trust_file_alone(evidence):
    nobody = replace(GOVERNED, founding=None)
    verdict, state, detail = judged(evidence, nobody)
    assert (verdict, state) == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
    assert detail == "authorisation not checked: the trust file names no founding entry"
    others = replace(GOVERNED, founding=bytes(32))
    verdict, state, detail = judged(evidence, others)
    assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
    assert "expected the founding entry with SHA-256 0000" in detail


@pytest.mark.parametrize(
    "name", [n for n in EVIDENCE if n not in ("listed erasure", "stop", "founding")]
)
def test_other_entries_say_nothing_of_it(name):
    evidence = Evidence.parse(EVIDENCE[name])
    assert evidence.entry.kind not in (EntryKind.GOVERNANCE, EntryKind.LISTED_ERASURE)
    report = verify(evidence, world.trust("one"))
    assert step(report)[0] is StepState.NOT_CHECKED
    assert step(report)[1].startswith("authorisation not checked: ")


# A state that is not the one


def others_than(state: tuple[StateEntry, ...]) -> list[tuple[StateEntry, ...]]:
    dropped = [state[:n] + state[n + 1 :] for n in range(len(state))]
    doubled = [(*state[: n + 1], *state[n:]) for n in range(len(state))]
    moved = [one for one in permutations(state) if one != state]
    return [one for one in (*dropped, *doubled, *moved) if one]


@pytest.mark.parametrize("evidence", [ERASURE, STOP])
def test_a_state_entry_that_is_dropped_doubled_or_moved(evidence):
    found = others_than(evidence.state)
    for state in found:
        assert judged(replace(evidence, state=state))[:2] == (Verdict.FAILED, StepState.FAILED)
    assert len(found) >= 5


def test_an_entry_of_another_place_or_another_kind_in_the_state():
    first, second = ERASURE.state
    version = world.evidence(4, [16], "century")
    for state in (
        (StateEntry(version.entry, version.groups[0].proof), first, second),
        (first, StateEntry(second.entry, first.proof)),
        (StateEntry(first.entry, replace(first.proof, index=3)), second),
        (first, second, StateEntry(STOP.entry, STOP.groups[0].proof)),
    ):
        assert judged(replace(ERASURE, state=state))[1] is StepState.FAILED


def test_an_entry_that_is_in_no_tree():
    first, second = ERASURE.state
    forged = world.decided(2, EnactList(bytes(32), 3), [Role.OFFICER, Role.ARCHIVIST])
    for entry in (second.entry, parse_entry(forged)):
        hashes = (bytes(32), *second.proof.hashes[1:])
        proof = second.proof if entry is not second.entry else replace(second.proof, hashes=hashes)
        state = (first, StateEntry(entry, proof))
        verdict, _, detail = judged(replace(ERASURE, state=state))
        assert verdict is Verdict.FAILED
        assert "governance entry at leaf 13: " in detail


# What the log holds and members did not decide


def test_control_a_log_made_here_is_good():
    assert judged(log_of(FOUND, LIST, LISTED, state=(0, 1)), PLAIN)[0] is Verdict.VERIFIED
    assert judged(log_of(FOUND, LIST, STOPPED, state=(0, 1)), PLAIN)[0] is Verdict.VERIFIED


def decided(sequence, action, roles, expiry=100):
    return world.decided(sequence, action, roles, expiry)


MANY = EnactList(merkle.root(3, world.listed_hash), 3)
BOTH = [Role.OFFICER, Role.ARCHIVIST]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (decided(2, MANY, [Role.OFFICER]), "lacks 1 more of 2 approvals"),
        (decided(2, MANY, [Role.ARCHIVIST]), "lacks 1 more of 2 approvals"),
        (decided(2, MANY, [Role.OFFICER, Role.AUDITOR]), "lacks 1 more of 2 approvals"),
        (decided(2, MANY, BOTH, expiry=1), "expired at 1 leaves"),
        (decided(3, MANY, BOTH), "makes state 3, after state 1"),
        (decided(1, MANY, BOTH), "makes state 1, after state 1"),
        (decided(2, Resume(), BOTH), "resumes what is not stopped"),
    ],
)
def test_a_list_without_its_quorum_authorises_nothing(entry, words):
    evidence = log_of(FOUND, entry, LISTED, state=(0, 1))
    verdict, state, detail = judged(evidence, PLAIN)
    assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
    assert words in detail


@pytest.mark.parametrize("roles", [[], [Role.OPERATOR], [Role.OFFICER]])
def test_a_governance_entry_without_its_quorum(roles):
    evidence = log_of(FOUND, decided(2, MANY, roles), state=(0,))
    verdict, state, detail = judged(evidence, PLAIN)
    assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
    assert detail.startswith("the entry lacks ")


def test_an_approval_is_not_replayed():
    """A stop that was approved once does not stop again after it was resumed."""
    stop = decided(2, Stop(), [Role.AUDITOR])
    resume = decided(3, Resume(), [Role.OPERATOR, Role.OFFICER])
    again = stop[:23] + b"\4" + stop[24:]
    evidence = log_of(FOUND, stop, resume, again, state=(0, 1, 2))
    verdict, _, detail = judged(evidence, PLAIN)
    assert verdict is Verdict.FAILED
    assert "an approval that does not hold for it" in detail
    fresh = decided(4, Stop(), [Role.AUDITOR])
    assert judged(log_of(FOUND, stop, resume, fresh, state=(0, 1, 2)), PLAIN)[0] is Verdict.VERIFIED
    # The very entry once more: it would make a state that was made.
    assert judged(log_of(FOUND, stop, stop, state=(0, 1)), PLAIN)[0] is Verdict.FAILED


def test_an_erasure_of_what_stands_on_no_list():
    for number in range(3):
        evidence = log_of(FOUND, LIST, world.listed_erasure(number), state=(0, 1))
        assert judged(evidence, PLAIN)[0] is Verdict.VERIFIED
        other = parse_entry(world.listed_erasure(number))
        moved = replace(other, pointer=bytes([9] * 16)).encode()
        group = replace(other, group=1).encode()
        for entry in (moved, group):
            verdict, _, detail = judged(log_of(FOUND, LIST, entry, state=(0, 1)), PLAIN)
            assert verdict is Verdict.FAILED
            assert "does not prove its place on list 2" in detail


def test_a_list_that_was_enacted_after_the_erasure():
    evidence = log_of(FOUND, LISTED, LIST, state=(0, 2), leaf=1)
    assert judged(evidence, PLAIN)[0] is Verdict.FAILED


def test_a_list_of_another_number():
    evidence = log_of(FOUND, LIST, world.listed_erasure(0, sequence=3), state=(0, 1))
    assert judged(evidence, PLAIN)[0] is Verdict.FAILED
    bare = log_of(FOUND, decided(2, Stop(), [Role.AUDITOR]), LISTED, state=(0, 1))
    verdict, _, detail = judged(bare, PLAIN)
    assert verdict is Verdict.FAILED
    assert "names list 2, which was not enacted" in detail


@pytest.mark.parametrize("roles", [[], [Role.OPERATOR], list(Role)[:3]])
def test_a_founding_that_a_member_did_not_approve(roles):
    action = world.Found(world.MEMBERS, tuple(world.DEFAULT_RULES[kind] for kind in world.RULED))
    first = decided(1, action, roles)
    trust = replace(PLAIN, founding=world.hashlib.sha256(first).digest())
    assert judged(log_of(first, state=()), trust)[0] is Verdict.FAILED
    assert judged(log_of(first, LIST, LISTED, state=(0, 1)), trust)[0] is Verdict.FAILED


def test_a_second_founding():
    action = world.Found(world.MEMBERS, tuple(world.DEFAULT_RULES[kind] for kind in world.RULED))
    evidence = log_of(FOUND, decided(2, action, list(Role)), state=(0,))
    verdict, _, detail = judged(evidence, PLAIN)
    assert verdict is Verdict.FAILED
    assert "founds a ledger that is founded" in detail


def test_control_a_verifier_that_believes_every_state_is_seen(monkeypatch):
    passed = StepResult(Step.AUTHORISATION, StepState.PASSED, "")
    monkeypatch.setattr(anchor.verify, "authorisation", lambda *_: passed)
    evidence = log_of(FOUND, decided(2, MANY, []), LISTED, state=(0, 1))
    assert verify(evidence, PLAIN).verdict is Verdict.VERIFIED
    assert not independent_verifier.accepts(evidence.format(), PLAIN.format())
