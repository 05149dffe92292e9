"""Stripped lines, stolen retired keys and witnesses: each refused or not counted (PR6, MT4)."""

from dataclasses import replace

import independent_verifier
import pytest
from anchor_samples import world
from nacl.signing import SigningKey

import anchor.verify
from anchor.evidence import Evidence, Group
from anchor.statement import AnchorStatement
from anchor.steps import Step, StepResult, StepState, Verdict
from anchor.trust import WatchedRange
from anchor.verify import Report, verify
from anchor.verify_log import log_signature
from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.entry import encode_version, parse_entry
from ledger.note import Note, SignatureLine, sign
from ledger.tlogproof import LogProof
from ledger.witnesspolicy import WitnessPolicy

CENTURY = world.trust("century")
WATCHED = world.trust("century", world.WATCHED)
OLD = world.evidence(4, [7], "century")
CLOSING = world.evidence(4, [12], "century")
NEW = world.evidence(4, [16], "century")


def step(report: Report, name: Step) -> tuple[StepState, str]:
    return next((one.state, one.detail) for one in report.steps if one.step is name)


def judged(evidence: Evidence, trust=CENTURY, files=()) -> tuple[Verdict, StepState, str]:
    """The verdict and the log-signature step; without files, the other verifier agrees."""
    report = verify(Evidence.parse(evidence.format()), trust, files)
    if not files:
        accepted = independent_verifier.accepts(evidence.format(), trust.format())
        assert accepted is (report.verdict is Verdict.VERIFIED)
    return report.verdict, *step(report, Step.LOG_SIGNATURE)


def with_lines(evidence: Evidence, lines: tuple[SignatureLine, ...]) -> Evidence:
    """Evidence whose checkpoint has other lines, and a statement that has its first two."""
    group = evidence.groups[0]
    note = Note(group.proof.checkpoint.text, lines)
    statement = AnchorStatement(Note(note.text, lines[:2]))
    changed = replace(group, proof=replace(group.proof, checkpoint=note), statement=statement)
    return replace(evidence, groups=(changed,))


# All algorithms of a range


@pytest.mark.parametrize("evidence", [OLD, CLOSING, NEW], ids=["old", "closing", "new"])
@pytest.mark.parametrize("stripped", [0, 1])
def test_a_stripped_line_of_either_algorithm_proves_nothing(evidence, stripped):
    lines = evidence.groups[0].proof.checkpoint.signatures
    left = lines[:stripped] + lines[stripped + 1 :]
    verdict, state, detail = judged(with_lines(evidence, left))
    assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
    assert "no signature of datakluis.example/hoorn" in detail
    assert judged(evidence)[0] is Verdict.VERIFIED


def test_the_log_signs_in_one_order():
    lines = CLOSING.groups[0].proof.checkpoint.signatures
    assert "in that order" in judged(with_lines(CLOSING, lines[::-1]))[2]


def test_the_time_of_an_ml_dsa_line_is_bound():
    first, second = CLOSING.groups[0].proof.checkpoint.signatures
    later = replace(second, signature=b"\0" * 7 + b"\1" + second.signature[8:])
    assert judged(with_lines(CLOSING, (first, later)))[1] is StepState.FAILED


# Retired keys


def forged(size: int, regime_size: int = 7) -> Evidence:
    """A tree that the log never had, signed with the stolen keys of `regime_size`."""
    leaf = encode_version(bytes([7] * 16), 1, bytes(32))
    leaves = [leaf, *world.LEAVES[1:size]]

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(leaves[index])
        return merkle.node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))

    text = Checkpoint(world.ORIGIN, size, merkle.root(size, read)).text()
    lines = []
    for one in world.SIGNERS["century"][regime_size]:
        is_ml_dsa = isinstance(one, world.MlDsaCosigner)
        lines.append(
            one.cosign(Checkpoint.parse(text), 0) if is_ml_dsa else sign(text, one[0].name, one[1])
        )
    note = Note(text, tuple(lines))
    proof = LogProof(0, tuple(merkle.inclusion_proof(0, size, read)), note)
    return Evidence(parse_entry(leaf), (Group(proof, AnchorStatement(note), ()),))


@pytest.mark.parametrize("size", range(1, 17))
def test_stolen_retired_keys_prove_nothing_of_any_size(size):
    """The keys were retired at 12 leaves: whoever has both can sign, and nothing comes of it."""
    verdict, state, detail = judged(forged(size))
    if size < 12:
        assert (verdict, state) == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
        assert f"'kluis ledger consistency {size} 12 -o FILE'" in detail
    else:
        assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
    # Control: while the keys were in use, the same signatures were good.
    before = replace(
        CENTURY,
        log_keys=tuple(replace(k, last_size=None, closing=None) for k in CENTURY.log_keys[:2]),
        witness_policies=(),
    )
    assert verify(forged(size), before).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("size", [4, 7, 8, 11])
def test_a_fork_finds_no_consistency_proof(size):
    """No proof leads from a tree that was never there: the true one, and every flip of it, fail."""
    evidence = forged(size)
    true = tuple(merkle.consistency_proof(size, 12, world.read_hash))
    for hashes in (true, true[:-1], (*true, bytes(32)), true[::-1], (bytes(32),) * len(true)):
        if not hashes:
            continue
        tied = replace(evidence, groups=(replace(evidence.groups[0], consistency=hashes),))
        assert judged(tied)[1] is StepState.FAILED


def test_each_hash_of_the_consistency_proof_counts():
    group = OLD.groups[0]
    for place in range(len(group.consistency)):
        hashes = list(group.consistency)
        hashes[place] = bytes([hashes[place][0] ^ 1]) + hashes[place][1:]
        evidence = replace(OLD, groups=(replace(group, consistency=tuple(hashes)),))
        assert judged(evidence)[:2] == (Verdict.FAILED, StepState.FAILED)


def test_without_its_proof_a_retired_checkpoint_is_not_checked():
    bare = replace(OLD, groups=(replace(OLD.groups[0], consistency=()),))
    verdict, state, detail = judged(bare)
    assert (verdict, state) == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
    assert detail.endswith(
        "by a key that was retired at 12: bring what 'kluis ledger consistency 7 12 -o FILE'"
        " writes, with --consistency FILE"
    )


@pytest.mark.parametrize("new", [12, 16])
def test_a_consistency_file_makes_up_for_it(new):
    bare = replace(OLD, groups=(replace(OLD.groups[0], consistency=()),))
    file = world.consistency(7, new, "century")
    assert judged(bare, CENTURY, [file])[:2] == (Verdict.VERIFIED, StepState.PASSED)
    wrong = replace(file, proof=file.proof[::-1])
    assert judged(bare, CENTURY, [wrong])[:2] == (Verdict.FAILED, StepState.FAILED)
    # Of another checkpoint it says nothing.
    other = world.consistency(4, new, "century")
    assert judged(bare, CENTURY, [other])[1] is StepState.NOT_CHECKED


def test_a_retired_key_cannot_vouch_for_its_own_fork():
    """A consistency file between two forged trees of retired keys settles nothing."""
    old, new = forged(4), forged(8)
    leaves = [encode_version(bytes([7] * 16), 1, bytes(32)), *world.LEAVES[1:8]]

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(leaves[index])
        return merkle.node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))

    file = replace(
        world.consistency(4, 7, "century"),
        old=old.groups[0].proof.checkpoint,
        new=new.groups[0].proof.checkpoint,
        proof=tuple(merkle.consistency_proof(4, 8, read)),
    )
    assert judged(old, CENTURY, [file])[:2] == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)


@pytest.mark.parametrize("evidence", [CLOSING, NEW], ids=["closing", "new"])
def test_a_proof_that_leads_nowhere_is_refused(evidence):
    tied = replace(evidence, groups=(replace(evidence.groups[0], consistency=(bytes(32),)),))
    assert judged(tied)[:2] == (Verdict.FAILED, StepState.FAILED)


def test_control_a_verifier_that_trusts_retired_keys_is_seen(monkeypatch):
    def careless(group, trust, brought):
        found = log_signature(group, trust, brought)
        is_refused = found.state is StepState.FAILED
        return found if is_refused else StepResult(Step.LOG_SIGNATURE, StepState.PASSED, "")

    monkeypatch.setattr(anchor.verify, "log_signature", careless)
    evidence = forged(8)
    assert verify(evidence, CENTURY).verdict is Verdict.VERIFIED
    assert not independent_verifier.accepts(evidence.format(), CENTURY.format())


# Witnesses


def cosigned(*cosigners, at: int = world.FIRST_TIME) -> Evidence:
    text = world.checkpoint(16, "century").text
    own = world.checkpoint(16, "century").signatures[:2]
    return with_lines(NEW, (*own, *(one.cosign(Checkpoint.parse(text), at) for one in cosigners)))


def watched(evidence: Evidence, trust=WATCHED) -> tuple[Verdict, StepState, str]:
    report = verify(Evidence.parse(evidence.format()), trust)
    accepted = independent_verifier.accepts(evidence.format(), trust.format())
    assert accepted is (report.verdict is Verdict.VERIFIED)
    return report.verdict, *step(report, Step.WITNESSES)


G, E, EC, L = world.WITNESSES


@pytest.mark.parametrize("cosigners", [(G, E), (G, EC), (G, L), (EC, L), (G, E, EC), (G, E, EC, L)])
def test_a_quorum_passes(cosigners):
    verdict, state, detail = watched(cosigned(*cosigners))
    assert (verdict, state) == (Verdict.VERIFIED, StepState.PASSED)
    names = list(dict.fromkeys(one.verifier.name for one in cosigners))
    assert detail == f"{', '.join(names)} cosigned the checkpoint of 16 leaves"


@pytest.mark.parametrize("cosigners", [(), (G,), (E,), (EC,), (L,), (E, EC)])
def test_a_quorum_that_is_one_short_is_not_checked(cosigners):
    """(E, EC): a witness with two keys counts once."""
    verdict, state, detail = watched(cosigned(*cosigners))
    assert (verdict, state) == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
    assert "checkpoint of 16 leaves: all has" in detail
    assert "of the 2 that it needs" in detail
    # Where nobody asks for witnesses, evidence is what it was.
    assert watched(cosigned(*cosigners), CENTURY)[0] is Verdict.VERIFIED


def test_the_same_witness_cannot_sign_twice():
    text, own = world.checkpoint(16, "century").text, world.checkpoint(16, "century").signatures[:2]
    lines = [G.cosign(Checkpoint.parse(text), at) for at in (5, 6)]
    with pytest.raises(ValueError, match="two signatures with the same name and key ID"):
        Note(text, (*own, *lines))
    note = Note(text, (*own, lines[0])).format() + lines[1].format()
    whole = cosigned(G).format().decode()
    before = Note(text, (*own, G.cosign(Checkpoint.parse(text), world.FIRST_TIME))).format()
    assert before.replace("\n", "\\n") in whole
    twice = whole.replace(before.replace("\n", "\\n"), note.replace("\n", "\\n"), 1).encode()
    assert not independent_verifier.accepts(twice, CENTURY.format())


@pytest.mark.parametrize(
    "cosigners", [(world.UNKNOWN,), (G, E, world.UNKNOWN), (E, G), (L, G), (EC, E)]
)
def test_an_unknown_witness_or_another_order_is_refused(cosigners):
    evidence = cosigned(*cosigners)
    for trust in (CENTURY, WATCHED):
        verdict, state, detail = judged(evidence, trust)
        assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
        assert "those of witnesses in the order of their policy, in that order" in detail


def test_a_known_witness_whose_line_does_not_verify_fails():
    """Also where its vote is not needed, and where nobody asks for witnesses."""
    impostor = world.Ed25519Cosigner(L.verifier.name, SigningKey(bytes(32)))
    good = cosigned(G, E, L)
    lines = good.groups[0].proof.checkpoint.signatures
    forged_line = impostor.cosign(Checkpoint.parse(good.groups[0].proof.checkpoint.text), 5)
    bad = replace(forged_line, key_id=L.verifier.key_id)
    evidence = with_lines(good, (*lines[:-1], bad))
    for trust in (CENTURY, WATCHED):
        verdict, state, detail = watched(evidence, trust)
        assert (verdict, state) == (Verdict.FAILED, StepState.FAILED)
        assert "does not verify" in detail


def test_a_witness_must_say_a_time():
    assert watched(cosigned(G, E, at=0))[1] is StepState.FAILED


@pytest.mark.parametrize("evidence", [OLD, CLOSING])
def test_outside_the_range_of_a_policy_there_are_no_witnesses(evidence):
    assert watched(evidence, CENTURY)[:2] == (Verdict.VERIFIED, StepState.NOT_CHECKED)
    assert watched(evidence)[:2] == (Verdict.INCOMPLETE, StepState.NOT_CHECKED)
    text = evidence.groups[0].proof.checkpoint.text
    line = G.cosign(Checkpoint.parse(text), world.FIRST_TIME)
    own = evidence.groups[0].proof.checkpoint.signatures
    assert judged(with_lines(evidence, (*own, line)))[1] is StepState.FAILED


def test_a_policy_that_asks_for_nobody():
    trust = replace(
        WATCHED, witness_policies=(WatchedRange(WitnessPolicy.parse(b"quorum none\n")),)
    )
    assert watched(cosigned(), trust)[:2] == (Verdict.VERIFIED, StepState.PASSED)
    assert judged(cosigned(G), trust)[1] is StepState.FAILED


def test_cosignatures_stay_out_of_the_statement():
    assert NEW.groups[0].statement == world.statement(16, "century")
    assert len(NEW.groups[0].statement.note.signatures) == 2
    group = NEW.groups[0]
    wrong = replace(group, statement=AnchorStatement(group.proof.checkpoint))
    assert verify(replace(NEW, groups=(wrong,)), CENTURY).verdict is Verdict.FAILED
    assert not independent_verifier.accepts(
        replace(NEW, groups=(wrong,)).format(), CENTURY.format()
    )


def test_the_largest_evidence_with_ml_dsa_stays_below_48_kb():
    """Longest paths, five ML-DSA witnesses, a receipt, and a state of seven entries.

    Those are the founding entry and six lists, each with a path of 40 hashes.
    """
    witnesses = [world.ml_dsa(f"witness.example/{n}", f"witness {n}") for n in range(5)]
    text = Checkpoint(world.ORIGIN, 2**63 - 1, bytes(32)).text()
    own = (
        sign(text, world.ORIGIN, world.FIRST[1]),
        world.FIRST_CENTURY.cosign(Checkpoint.parse(text), 0),
    )
    lines = tuple(one.cosign(Checkpoint.parse(text), 1) for one in witnesses)
    proof = LogProof(2**62, (b"\xff" * 32,) * 63, Note(text, (*own, *lines)))
    stated = tuple(
        world.StateEntry(parse_entry(world.LEAVES[leaf]), replace(proof, hashes=(bytes(32),) * 40))
        for leaf in (world.FOUNDING, *[world.LISTING] * 6)
    )
    group = Group(proof, AnchorStatement(Note(text, own)), (world.receipt(7),), (bytes(32),) * 64)
    entry = parse_entry(world.LEAVES[world.LISTED_ERASURE])
    size = len(Evidence(entry, (group,), None, stated).format())
    print(f"{size} bytes")
    assert size <= 48 * 1024
