"""Each step of the offline verifier passes, fails or is not checked for its own reason (P1)."""

import hashlib
from dataclasses import replace

import independent_verifier
import pytest
from anchor_samples import EVIDENCE, TRUST, outcome, world

from anchor.errors import AnchorError, BadFile, OtherOrigin
from anchor.evidence import Evidence, Group, Opening
from anchor.receipt import LocalReceipt
from anchor.statement import AnchorStatement
from anchor.steps import Step, StepState, Verdict
from anchor.trust import TrustFile
from anchor.verify import Report, verify
from anchor.verify import _what as what_it_says
from ledger.checkpoint import Checkpoint
from ledger.entry import encode_shred, parse_entry
from ledger.logkeys import LogKey
from ledger.note import Note, SignatureLine, sign
from ledger.pointer import format_pointer

WHOLE = world.evidence(4, [7], anchored=True, opened=True)
ONE, JOINED, ROTATED = (world.trust(regime) for regime in ("one", "joined", "rotated"))
FIRST, SECOND, STRANGER = world.FIRST[0], world.SECOND[0], world.STRANGER[0]


def changed(evidence: Evidence, **members: object) -> Evidence:
    """Evidence of which members of its first group are others."""
    group = replace(evidence.groups[0], **members)
    return replace(evidence, groups=(group, *evidence.groups[1:]))


def with_note(group: Group, note: Note) -> Evidence:
    """Leaf 4 with this checkpoint in its proof, a statement that agrees, and no receipt."""
    proof = replace(group.proof, checkpoint=note)
    return Evidence(WHOLE.entry, (Group(proof, AnchorStatement(note), ()),))


def step(report: Report, name: Step) -> tuple[StepState, str]:
    return next((one.state, one.detail) for one in report.steps if one.step is name)


def failed_steps(report: Report) -> list[Step]:
    return [one.step for one in report.steps if one.state is StepState.FAILED]


def assert_fails(evidence: Evidence, trust: TrustFile, name: Step, words: str) -> Report:
    """The step fails with these words, the verdict follows, and the other verifier agrees."""
    report = verify(evidence, trust)
    state, detail = step(report, name)
    assert (state, words in detail) == (StepState.FAILED, True), detail
    assert report.verdict is Verdict.FAILED
    assert report.sentence.startswith(f"Not verified: {', '.join(failed_steps(report))} failed.")
    assert not independent_verifier.accepts(evidence.format(), trust.format())
    return report


def test_everything_passes_but_the_public_anchor():
    report = verify(WHOLE, ONE)
    assert [one.step for one in report.steps] == list(Step)
    assert report.verdict is Verdict.VERIFIED
    digest = world.statement(7).digest().hex()
    key = f"{FIRST.name}+{FIRST.key_id.hex()}"
    assert [(one.state.value, one.detail) for one in report.steps] == [
        ("passed", f"the log {world.ORIGIN}"),
        ("passed", f"{key} signed the checkpoint of 7 leaves"),
        ("not checked", "the trust file has no witness policy for 7 leaves"),
        ("passed", "the entry is leaf 4 of 7"),
        ("passed", f"its digest is {digest}"),
        ("passed", "receipt of 2026-01-02T00:00:00+00:00, on the operator's own word"),
        ("not checked", "the evidence holds no anchor in a public chain"),
        ("passed", "the entry commits to this payload of 22 bytes"),
        (
            "not checked",
            "authorisation not checked: nothing in an entry of this kind says who decided it",
        ),
    ]


def test_the_sentence_of_a_version():
    name = format_pointer(world.pointer("b"))
    assert verify(WHOLE, ONE).sentence == (
        f"Version 2 of record {name} existed in this form in the log {world.ORIGIN}, as leaf 4;"
        " no date proven."
    )


def test_the_sentence_of_an_erasure():
    name = format_pointer(world.pointer("b"))
    assert verify(world.evidence(world.ERASURE, [7]), ONE).sentence == (
        f"The erasure of record {name}, up to and including version 2, existed in this form in the"
        f" log {world.ORIGIN}, as leaf 6; no date proven."
    )


@pytest.mark.parametrize(
    ("leaf", "what"),
    [
        (world.GROUP_VERSION, "Version 1 of field group 3 of record {a}"),
        (
            world.GROUP_ERASURE,
            "The erasure of field group 3 of record {a}, up to and including version 1,",
        ),
        (
            world.CERTIFICATE,
            "Certificate 2 of the erasure of record {b}, with SHA-256 {digest},",
        ),
        (
            world.GROUP_CERTIFICATE,
            "Certificate 1 of the erasure of field group 3 of record {a}, with SHA-256 {digest},",
        ),
        (
            world.SHRED,
            "The destruction of generation 1 of the ordinary key tree of tenant {tenant}",
        ),
    ],
)
def test_the_sentence_of_each_other_entry(leaf, what):
    names = {name: format_pointer(world.pointer(name)) for name in ("a", "b", "tenant")}
    digest = hashlib.sha256(world.CERTIFICATE_FILE).hexdigest()
    report = verify(world.evidence(leaf, [12]), ONE)
    assert report.verdict is Verdict.VERIFIED
    assert report.sentence == (
        f"{what.format(**names, digest=digest)} existed in this form in the log {world.ORIGIN},"
        f" as leaf {leaf}; no date proven."
    )


def test_the_sentence_of_a_generation_of_the_permanent_tree():
    entry = parse_entry(encode_shred(bytes(16), 1, 7))
    assert what_it_says(entry) == (
        f"The destruction of generation 7 of the permanent key tree of tenant {'a' * 26}"
    )


@pytest.mark.parametrize("evidence", [WHOLE, world.evidence(world.ERASURE, [7])])
def test_what_is_never_proven_is_always_named(evidence):
    """P1: existed in this form, never unique, current or authorised."""
    report = verify(evidence, ONE)
    assert [line.partition(":")[0] for line in report.not_proven] == [
        "uniqueness",
        "currency",
        "authorisation",
    ]
    assert "no later than" not in report.sentence


# 1 origin


def test_another_log_is_another_file_to_bring():
    other = replace(ONE, origin="datakluis.example/zwolle")
    with pytest.raises(OtherOrigin, match="bring the trust file of the log") as caught:
        verify(WHOLE, other)
    assert (caught.value.evidence, caught.value.trusted) == (world.ORIGIN, other.origin)
    assert isinstance(caught.value, AnchorError)
    assert not independent_verifier.accepts(WHOLE.format(), other.format())


# 2 log-signature


def test_a_stranger_signed():
    trust = replace(ONE, log_keys=(LogKey(STRANGER),))
    assert_fails(WHOLE, trust, Step.LOG_SIGNATURE, f"no signature of {STRANGER.name}")


def test_a_signature_that_does_not_verify():
    line = world.checkpoint(7).signatures[0]
    bad = SignatureLine(line.name, line.key_id, bytes(64))
    evidence = with_note(WHOLE.groups[0], replace(world.checkpoint(7), signatures=(bad,)))
    assert_fails(evidence, ONE, Step.LOG_SIGNATURE, "does not verify")


def test_no_key_of_the_trust_file_covers_the_tree():
    trust = replace(ONE, log_keys=(LogKey(FIRST, 8),))
    report = assert_fails(WHOLE, trust, Step.LOG_SIGNATURE, "has no log key for 7 leaves")
    assert step(report, Step.STATEMENT)[0] is StepState.FAILED


@pytest.mark.parametrize(
    ("first", "last", "passes"),
    [(0, None, True), (7, 7, True), (0, 7, True), (7, None, True), (0, 6, False), (8, None, False)],
)
def test_a_key_signs_only_trees_of_its_range(first, last, passes):
    closing = None if last is None else Checkpoint(world.ORIGIN, last, bytes(32))
    if last == 7:
        closing = WHOLE.groups[0].checkpoint()
    trust = replace(ONE, log_keys=(LogKey(FIRST, first, last, closing),))
    assert (verify(WHOLE, trust).verdict is Verdict.VERIFIED) is passes
    assert independent_verifier.accepts(WHOLE.format(), trust.format()) is passes


def test_a_retired_key_proves_nothing_new():
    """Whoever finds a retired key can still sign with it."""
    report = verify(WHOLE, ROTATED)
    assert failed_steps(report) == [Step.LOG_SIGNATURE, Step.STATEMENT]
    assert f"no signature of {SECOND.name}" in step(report, Step.LOG_SIGNATURE)[1]
    assert verify(world.evidence(3, [4, 7], "rotated"), ROTATED).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("kept", [0, 1])
def test_one_of_two_required_signatures_is_stripped(kept):
    note = world.checkpoint(7, "joined")
    stripped = replace(note, signatures=(note.signatures[kept],))
    missing = (FIRST, SECOND)[1 - kept]
    evidence = with_note(WHOLE.groups[0], stripped)
    assert_fails(evidence, JOINED, Step.LOG_SIGNATURE, f"no signature of {missing.name} ")
    # Control: with both it verifies.
    assert verify(with_note(WHOLE.groups[0], note), JOINED).verdict is Verdict.VERIFIED


def test_signatures_in_another_order():
    note = world.checkpoint(7, "joined")
    turned = replace(note, signatures=note.signatures[::-1])
    evidence = with_note(WHOLE.groups[0], turned)
    assert_fails(evidence, JOINED, Step.LOG_SIGNATURE, "alone, in that order, found 2 lines")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "extra",
    [
        sign(world.checkpoint(7).text, STRANGER.name, world.STRANGER[1]),
        SignatureLine(STRANGER.name, STRANGER.key_id, b"anything"),
        SignatureLine(FIRST.name, b"free", b"room for a message"),
    ],
)
def test_an_extra_signature_under_the_checkpoint(first, extra):
    """C2SP has readers pass over unknown signatures; here each byte of a file is bound (P1)."""
    own = world.checkpoint(7).signatures
    note = replace(world.checkpoint(7), signatures=(extra, *own) if first else (*own, extra))
    proof_alone = changed(WHOLE, proof=replace(WHOLE.groups[0].proof, checkpoint=note))
    report = assert_fails(proof_alone, ONE, Step.LOG_SIGNATURE, "alone, in that order")
    assert failed_steps(report) == [Step.LOG_SIGNATURE]
    assert_fails(with_note(WHOLE.groups[0], note), ONE, Step.LOG_SIGNATURE, "alone")


# 3 inclusion


def test_another_entry():
    evidence = replace(WHOLE, entry=world.evidence(3, [7]).entry, opening=None)
    report = assert_fails(evidence, ONE, Step.INCLUSION, "entry 4 of 7: leaf 4 of 7 leads to root")
    assert failed_steps(report) == [Step.INCLUSION]


@pytest.mark.parametrize(
    ("index", "words"), [(5, "leads to root"), (7, "is not in a tree of 7"), (2**62, "is not in")]
)
def test_another_place(index, words):
    proof = replace(WHOLE.groups[0].proof, index=index)
    assert_fails(changed(WHOLE, proof=proof), ONE, Step.INCLUSION, words)


def test_an_audit_path_that_is_cut_or_too_long():
    proof = WHOLE.groups[0].proof
    for hashes in (proof.hashes[:-1], (*proof.hashes, bytes(32))):
        evidence = changed(WHOLE, proof=replace(proof, hashes=hashes))
        assert_fails(evidence, ONE, Step.INCLUSION, "hashes where")


# 4 statement


def test_the_statement_about_another_checkpoint():
    other = world.statement(4)
    report = assert_fails(
        changed(WHOLE, statement=other, receipts=()), ONE, Step.STATEMENT, other.digest().hex()
    )
    assert failed_steps(report) == [Step.STATEMENT]
    detail = step(report, Step.STATEMENT)[1]
    assert f"expected the statement with digest {world.statement(7).digest().hex()}" in detail


# 5 local-anchor


def test_without_a_receipt_the_local_anchor_is_not_checked():
    report = verify(world.evidence(4, [7]), ONE)
    assert step(report, Step.LOCAL_ANCHOR) == (
        StepState.NOT_CHECKED,
        "no receipt; run 'kluis anchor run' and prove again",
    )
    assert report.verdict is Verdict.VERIFIED


def test_one_group_without_a_receipt_is_enough_to_leave_it_unchecked():
    groups = (world.group(2, 4, anchored=True), world.group(2, 7))
    report = verify(Evidence(world.evidence(2, [4]).entry, groups), ONE)
    assert step(report, Step.LOCAL_ANCHOR)[0] is StepState.NOT_CHECKED


def test_a_receipt_for_another_statement():
    report = assert_fails(
        changed(WHOLE, receipts=(world.receipt(4),)),
        ONE,
        Step.LOCAL_ANCHOR,
        f"expected a receipt for {world.statement(7).digest().hex()},"
        f" found {world.statement(4).digest().hex()}",
    )
    assert failed_steps(report) == [Step.LOCAL_ANCHOR]


@pytest.mark.parametrize("keys", [(), (STRANGER,), (FIRST,)])
def test_a_receipt_that_no_trusted_anchor_signed(keys):
    trust = replace(ONE, local_anchor_keys=keys)
    assert_fails(WHOLE, trust, Step.LOCAL_ANCHOR, "no trusted local anchor signed the receipt")


def receipt_at(at: int) -> LocalReceipt:
    digest = world.statement(7).digest()
    return LocalReceipt.sign(0, digest, bytes(32), at, *world.ANCHOR)


def test_the_latest_time_that_a_receipt_can_show():
    """A trusted anchor with a broken clock must not stop the verifier."""
    report = verify(changed(WHOLE, receipts=(receipt_at(10**11 - 1),)), ONE)
    assert "receipt of 5138-11-16T09:46:39+00:00" in step(report, Step.LOCAL_ANCHOR)[1]
    with pytest.raises(BadFile, match="not a local receipt"):
        receipt_at(10**11)
    text = receipt_at(10**11 - 1).note.text.replace("\n99999999999\n", "\n100000000000\n")
    note = Note(text, (sign(text, world.ANCHOR[0].name, world.ANCHOR[1]),))
    late = replace(receipt_at(0), at=10**11, note=note)
    beyond = changed(WHOLE, receipts=(late,)).format()
    with pytest.raises(BadFile, match="not a local receipt"):
        Evidence.parse(beyond)
    assert not independent_verifier.accepts(beyond, ONE.format())


# 6 public-anchor


def test_a_public_anchor_is_never_passed_without_one():
    for data in EVIDENCE.values():
        for trust in (ONE, JOINED, ROTATED):
            state, _ = step(verify(Evidence.parse(data), trust), Step.PUBLIC_ANCHOR)
            assert state is StepState.NOT_CHECKED


# 7 opening


def test_without_an_opening_the_payload_is_not_checked():
    report = verify(world.evidence(4, [7], anchored=True), ONE)
    assert step(report, Step.OPENING) == (
        StepState.NOT_CHECKED,
        "the payload is not disclosed in this evidence",
    )


def test_a_certificate_names_the_digest_that_its_reader_compares():
    report = verify(world.evidence(world.CERTIFICATE, [12]), ONE)
    digest = hashlib.sha256(world.CERTIFICATE_FILE).hexdigest()
    assert step(report, Step.OPENING) == (
        StepState.NOT_CHECKED,
        f"bring the certificate and compare its SHA-256 with {digest}",
    )


@pytest.mark.parametrize("group", [0, 1, 2, 4, 15])
def test_er5_an_opening_of_another_field_group(group):
    """The group in the entry is bound: the key and payload of group 3 open no other group."""
    whole = world.evidence(world.GROUP_VERSION, [12], opened=True)
    assert step(verify(whole, ONE), Step.OPENING)[0] is StepState.PASSED
    moved = replace(whole, entry=replace(whole.entry, group=group))
    report = assert_fails(moved, ONE, Step.OPENING, "do not give the entry's commitment")
    assert failed_steps(report) == [Step.INCLUSION, Step.OPENING]


@pytest.mark.parametrize(
    "opening",
    [
        Opening(WHOLE.opening.commitment_key, b'{"bedrag": "1.520,01"}'),
        Opening(WHOLE.opening.commitment_key, b""),
        Opening(bytes(32), WHOLE.opening.payload),
        world.opening(1),
        world.opening(0),
    ],
)
def test_an_opening_that_is_not_the_entrys(opening):
    report = assert_fails(
        replace(WHOLE, opening=opening),
        ONE,
        Step.OPENING,
        "do not give the entry's commitment",
    )
    assert failed_steps(report) == [Step.OPENING]


# The verdict


BARE = world.evidence(4, [7])


@pytest.mark.parametrize("required", [Step.LOCAL_ANCHOR, Step.PUBLIC_ANCHOR, Step.OPENING])
def test_a_required_step_that_is_not_checked_leaves_it_incomplete(required):
    trust = replace(ONE, require=(*ONE.require, required))
    report = verify(BARE, trust)
    assert report.verdict is Verdict.INCOMPLETE
    assert report.sentence == (f"Incomplete: the trust file requires {required}, not checked here.")
    assert not independent_verifier.accepts(BARE.format(), trust.format())
    # Control: the same evidence is complete for a trust file that does not ask for it.
    assert verify(BARE, ONE).verdict is Verdict.VERIFIED


def test_all_missing_steps_are_named():
    report = verify(BARE, replace(ONE, require=tuple(Step)))
    assert (
        "requires witnesses, local-anchor, public-anchor, opening, authorisation, not"
        in report.sentence
    )


@pytest.mark.parametrize("required", world.EVERY_CHECKED_STEP)
def test_a_required_step_that_passes_is_enough(required):
    trust = replace(ONE, require=(required,))
    assert verify(WHOLE, trust).verdict is Verdict.VERIFIED
    assert independent_verifier.accepts(WHOLE.format(), trust.format())


def test_what_fails_counts_also_when_nothing_requires_it():
    trust = replace(ONE, require=())
    evidence = replace(WHOLE, opening=world.opening(0))
    assert verify(evidence, trust).verdict is Verdict.FAILED
    assert not independent_verifier.accepts(evidence.format(), trust.format())


def test_failed_comes_before_incomplete():
    trust = replace(ONE, require=(Step.PUBLIC_ANCHOR,))
    evidence = replace(WHOLE, opening=world.opening(0))
    assert verify(evidence, trust).verdict is Verdict.FAILED


@pytest.mark.parametrize("bad", [0, 1])
def test_every_group_must_hold(bad):
    entry = world.evidence(2, [4]).entry
    groups = [world.group(2, 4), world.group(2, 7)]
    assert verify(Evidence(entry, tuple(groups)), ONE).verdict is Verdict.VERIFIED
    groups[bad] = replace(groups[bad], proof=replace(groups[bad].proof, index=0))
    report = verify(Evidence(entry, tuple(groups)), ONE)
    assert failed_steps(report) == [Step.INCLUSION]
    assert f"entry 0 of {(4, 7)[bad]}" in step(report, Step.INCLUSION)[1]


def test_the_details_of_all_groups_are_told():
    report = verify(world.evidence(2, [4, 7], anchored=True), ONE)
    assert step(report, Step.INCLUSION)[1] == "the entry is leaf 2 of 4; the entry is leaf 2 of 7"


def test_a_real_entry_under_a_tree_that_the_log_never_signed():
    """A forged tree that proves anything is stopped by the signature alone."""
    text = world.Checkpoint(world.ORIGIN, 1, world.merkle.leaf_hash(WHOLE.entry.encode())).text()
    forged = Note(text, (sign(text, FIRST.name, world.STRANGER[1]),))
    proof = replace(WHOLE.groups[0].proof, index=0, hashes=(), checkpoint=forged)
    evidence = Evidence(WHOLE.entry, (Group(proof, AnchorStatement(forged), ()),))
    report = verify(evidence, ONE)
    assert step(report, Step.INCLUSION)[0] is StepState.PASSED
    assert Step.LOG_SIGNATURE in failed_steps(report)


def test_the_trust_decides_and_never_the_evidence():
    assert outcome(WHOLE.format(), TRUST["strict"]) == "verified"
    assert outcome(BARE.format(), TRUST["strict"]) == "incomplete"
