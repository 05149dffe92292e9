"""The offline verifier: an evidence file against a trust file, and nothing else (LG4, P1).

    1 origin         the evidence is of the log that the trust file names
    2 log-signature  every log key that covers the checkpoint's size signed it, and nobody else but
                     witnesses; what a retired key signed is the beginning of its closing
                     checkpoint's tree (anchor/verify_log.py)
    3 witnesses      no cosignature is wrong, and they make the quorum of the policy for that size
    4 inclusion      the entry's hash and the audit path lead to the signed root
    5 statement      the anchor statement is the one about that checkpoint
    6 local-anchor   a trusted local anchor signed a receipt for that statement's digest
    7 public-anchor  a public anchor holds the digest
    8 opening        the disclosed key and payload give the commitment in the entry; only a version
                     entry has one, and a certificate is compared with its digest by the reader
    9 authorisation  those who may decide decided what the entry says (anchor/verify_state.py)

Steps 2 to 7 must hold for every group of the evidence. A step that has nothing to check is "not
checked" and says what would be needed. The verdict is "existed in this form", "no later than" only
with a public anchor; it never says more: that the entry is the only one or the newest is not proven
here, and that it was authorised only by step 9. The caller still owes where the trust file came
from. Tested in tests/anchor/test_verify.py.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

from anchor.consistency import ConsistencyFile, settle
from anchor.errors import OtherOrigin
from anchor.evidence import Evidence, Group
from anchor.receipt import LocalReceipt
from anchor.statement import AnchorStatement
from anchor.steps import (
    Report,
    Step,
    StepResult,
    StepState,
    Verdict,
    failed,
    not_checked,
    passed,
    worst,
)
from anchor.trust import TrustFile
from anchor.verify_log import log_signature, witnesses
from anchor.verify_state import authorisation
from ledger import merkle
from ledger.action import ActionKind
from ledger.commitment import Committer
from ledger.entry import CORE_GROUP, ERASURES, PERMANENT_TREE, Entry, EntryKind
from ledger.errors import BadProof, BadSignature
from ledger.note import verify as verify_note
from ledger.pointer import format_pointer

NOT_PROVEN = (
    "uniqueness: another entry may say something else",
    "currency: a later entry may correct or erase this one",
    "authorisation: who decided that the entry was made",
)
"""What verified evidence leaves open; the last line only where step 9 did not pass."""


def verify(
    evidence: Evidence, trust: TrustFile, consistency: Sequence[ConsistencyFile] = ()
) -> Report:
    """Verify evidence offline.

    Args:
        evidence: the evidence.
        trust: what the reader trusts.
        consistency: files that lead from checkpoints of retired keys to later ones.

    Raises:
        OtherOrigin: the files are of different logs, so there is nothing to verify.
    """
    # 1
    if evidence.origin != trust.origin:
        raise OtherOrigin(evidence.origin, trust.origin)
    results = [passed(Step.ORIGIN, f"the log {trust.origin}")]
    # 2, 3
    brought = {file.old.text: settle(file, trust) for file in consistency}
    groups = evidence.groups
    signed = [log_signature(group, trust, brought) for group in groups]
    results.append(worst(Step.LOG_SIGNATURE, signed))
    cosigned = [witnesses(group.proof.checkpoint, trust) for group in groups]
    results.append(worst(Step.WITNESSES, cosigned))
    # 4 to 7
    checks: tuple[tuple[Step, Callable[[Evidence, Group, TrustFile], StepResult]], ...] = (
        (Step.INCLUSION, _inclusion),
        (Step.STATEMENT, _statement),
        (Step.LOCAL_ANCHOR, _local_anchor),
        (Step.PUBLIC_ANCHOR, _public_anchor),
    )
    for step, check in checks:
        results.append(worst(step, [check(evidence, group, trust) for group in groups]))
    # 8, 9
    results.append(_opening(evidence, trust))
    results.append(authorisation(evidence, trust))
    return _report(evidence, trust, tuple(results))


def _inclusion(evidence: Evidence, group: Group, _: TrustFile) -> StepResult:
    proof, checkpoint = group.proof, group.checkpoint()
    leaf = merkle.leaf_hash(evidence.entry.encode())
    try:
        merkle.verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    except BadProof as error:
        return failed(Step.INCLUSION, f"entry {proof.index} of {checkpoint.size}: {error}")
    return passed(Step.INCLUSION, f"the entry is leaf {proof.index} of {checkpoint.size}")


def _statement(_: Evidence, group: Group, trust: TrustFile) -> StepResult:
    try:
        keys = trust.keys_for(group.checkpoint().size)
        expected = AnchorStatement.of(group.proof.checkpoint, keys)
    except BadSignature:
        return failed(Step.STATEMENT, "the log did not sign the checkpoint that is stated")
    if expected.format() != group.statement.format():
        return failed(
            Step.STATEMENT,
            f"expected the statement with digest {expected.digest().hex()},"
            f" found {group.statement.digest().hex()}",
        )
    return passed(Step.STATEMENT, f"its digest is {expected.digest().hex()}")


def _local_anchor(_: Evidence, group: Group, trust: TrustFile) -> StepResult:
    if not group.receipts:
        return not_checked(Step.LOCAL_ANCHOR, "no receipt; run 'kluis anchor run' and prove again")
    digest = group.statement.digest()
    for receipt in group.receipts:
        if receipt.digest != digest:
            return failed(
                Step.LOCAL_ANCHOR,
                f"expected a receipt for {digest.hex()}, found {receipt.digest.hex()}",
            )
        if not _signed_by_trusted(receipt, trust):
            return failed(Step.LOCAL_ANCHOR, "no trusted local anchor signed the receipt")
    at = dt.datetime.fromtimestamp(group.receipts[0].at, dt.UTC).isoformat()
    return passed(Step.LOCAL_ANCHOR, f"receipt of {at}, on the operator's own word")


def _signed_by_trusted(receipt: LocalReceipt, trust: TrustFile) -> bool:
    for key in trust.local_anchor_keys:
        try:
            verify_note(receipt.note, key)
        except BadSignature:
            continue
        return True
    return False


def _public_anchor(_: Evidence, __: Group, ___: TrustFile) -> StepResult:
    return not_checked(Step.PUBLIC_ANCHOR, "the evidence holds no anchor in a public chain")


def _opening(evidence: Evidence, trust: TrustFile) -> StepResult:
    opening, entry = evidence.opening, evidence.entry
    if entry.kind is EntryKind.CERTIFICATE:
        digest = entry.body.hex()
        return not_checked(
            Step.OPENING, f"bring the certificate and compare its SHA-256 with {digest}"
        )
    if opening is None:
        return not_checked(Step.OPENING, "the payload is not disclosed in this evidence")
    opens = Committer(trust.origin).opens(
        entry.body,
        opening.commitment_key,
        entry.pointer,
        entry.version,
        opening.payload,
        entry.group,
    )
    if not opens:
        return failed(
            Step.OPENING, "the disclosed key and payload do not give the entry's commitment"
        )
    return passed(
        Step.OPENING, f"the entry commits to this payload of {len(opening.payload)} bytes"
    )


def _report(evidence: Evidence, trust: TrustFile, steps: tuple[StepResult, ...]) -> Report:
    wrong = [result.step for result in steps if result.state is StepState.FAILED]
    if wrong:
        sentence = f"Not verified: {', '.join(wrong)} failed. Trust nothing in this evidence."
        return Report(Verdict.FAILED, sentence, steps, NOT_PROVEN)
    states = {result.step: result.state for result in steps}
    missing = [step for step in trust.require if states[step] is not StepState.PASSED]
    if missing:
        sentence = f"Incomplete: the trust file requires {', '.join(missing)}, not checked here."
        return Report(Verdict.INCOMPLETE, sentence, steps, NOT_PROVEN)
    sentence = (
        f"{_what(evidence.entry)} existed in this form in the log {trust.origin},"
        f" as leaf {evidence.groups[0].proof.index}; no date proven."
    )
    is_authorised = states[Step.AUTHORISATION] is StepState.PASSED
    return Report(Verdict.VERIFIED, sentence, steps, NOT_PROVEN[: 2 if is_authorised else 3])


def _what(entry: Entry) -> str:
    name = format_pointer(entry.pointer)
    if entry.kind is EntryKind.SHRED:
        tree = "permanent" if entry.group == PERMANENT_TREE else "ordinary"
        return (
            f"The destruction of generation {entry.version} of the {tree} key tree of tenant {name}"
        )
    if entry.kind is EntryKind.GOVERNANCE:
        action = ActionKind(entry.group).name.lower().replace("_", " ")
        return f"Governance entry {entry.version} ({action})"
    record = f"record {name}"
    if entry.group != CORE_GROUP:
        record = f"field group {entry.group} of {record}"
    if entry.kind is EntryKind.CERTIFICATE:
        digest = entry.body.hex()
        return f"Certificate {entry.version} of the erasure of {record}, with SHA-256 {digest},"
    if entry.kind in ERASURES:
        return f"The erasure of {record}, up to and including version {entry.version},"
    return f"Version {entry.version} of {record}"
