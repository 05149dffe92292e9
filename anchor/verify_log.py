"""What of a verification concerns the log and its witnesses: who signed a checkpoint (PR6, MT4).

A checkpoint carries the lines of every log key whose range holds its size, Ed25519 before
ML-DSA-44, and behind them those of witnesses of the policy for that size, in the policy's order.
Any other line is refused: C2SP signed-note has a reader pass over signatures of unknown keys, but
nothing would vouch for such a line, and no byte of a file that verifies may be free for another to
choose.

A retired key can be stolen. So a checkpoint whose size lies in a closed range of a key counts only
when it is the closing checkpoint of that range, which the trust file holds, or is shown to be its
beginning; then whoever has the key could not have chosen anything. Tested in
tests/anchor/test_verify_log.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anchor.evidence import Group
from anchor.steps import Step, StepResult, failed, not_checked, passed
from anchor.trust import TrustFile
from ledger.checkpoint import Checkpoint
from ledger.errors import BadProof, BadSignature
from ledger.merkle import verify_consistency
from ledger.note import Note, NoteKey, SignatureLine
from ledger.note import verify as verify_note


def signers(note: Note, trust: TrustFile) -> str:
    """Return in words which keys of the log signed a checkpoint.

    Lines of witnesses may stand behind theirs; whether these verify is not looked at.

    Raises:
        BadSignature: a key of the log did not sign it, or a line is of nobody that may.
    """
    size = Checkpoint.parse(note.text).size
    keys = trust.keys_for(size)
    if not keys:
        raise BadSignature(f"the trust file has no log key for {size} leaves")
    names = " and ".join(f"{key.name}+{key.key_id.hex()}" for key in keys)
    try:
        lines = tuple(verify_note(note, key) for key in keys)
    except BadSignature as error:
        raise BadSignature(f"checkpoint of {size} leaves: {error}") from error
    policy = trust.policy_for(size)
    witnesses = policy.witness_keys() if policy else ()
    if note.signatures[: len(lines)] != lines or not _follow(
        note.signatures[len(lines) :], witnesses
    ):
        others = ", or before those of witnesses in the order of their policy" if witnesses else ""
        raise BadSignature(
            f"checkpoint of {size} leaves: expected the signature lines of {names} alone{others},"
            f" in that order, found {len(note.signatures)} lines"
        )
    return f"{names} signed the checkpoint of {size} leaves"


def _follow(lines: Sequence[SignatureLine], keys: Sequence[NoteKey]) -> bool:
    """Tell whether each line is of one of the keys, in their order."""
    rest = iter([(key.name, key.key_id) for key in keys])
    return all((line.name, line.key_id) in rest for line in lines)


def log_signature(group: Group, trust: TrustFile, brought: Mapping[str, StepResult]) -> StepResult:
    """Check who signed the checkpoint of a group, and whether that still counts.

    Args:
        group: of the evidence.
        trust: the trust file.
        brought: what consistency files say, by the text of their older checkpoint.
    """
    step, checkpoint = Step.LOG_SIGNATURE, group.checkpoint()
    try:
        found = signers(group.proof.checkpoint, trust)
    except BadSignature as error:
        return failed(step, str(error))
    closing = trust.closing_for(checkpoint.size)
    if group.consistency:
        return _tied(found, checkpoint, closing, group.consistency)
    if closing is None or checkpoint == closing:
        return passed(step, found)
    if checkpoint.size == closing.size:
        return failed(step, f"it is not the closing checkpoint of {closing.size} leaves")
    if checkpoint.text() in brought:
        return brought[checkpoint.text()]
    return not_checked(
        step,
        f"{found}, by a key that was retired at {closing.size}: bring what 'kluis ledger"
        f" consistency {checkpoint.size} {closing.size} -o FILE' writes, with --consistency FILE",
    )


def _tied(
    found: str, checkpoint: Checkpoint, closing: Checkpoint | None, proof: Sequence[bytes]
) -> StepResult:
    step = Step.LOG_SIGNATURE
    if closing is None:
        return failed(step, "a consistency proof where the trust file has no closing checkpoint")
    try:
        verify_consistency(checkpoint.size, checkpoint.root, closing.size, closing.root, proof)
    except BadProof as error:
        return failed(step, f"not the beginning of the closing checkpoint's tree: {error}")
    return passed(step, f"{found}, the beginning of the {closing.size} at which a key was retired")


def witnesses(note: Note, trust: TrustFile) -> StepResult:
    """Check the cosignatures under a checkpoint against the witness policy for its size."""
    step, size = Step.WITNESSES, Checkpoint.parse(note.text).size
    policy = trust.policy_for(size)
    if policy is None:
        return not_checked(step, f"the trust file has no witness policy for {size} leaves")
    try:
        signed = policy.cosigners(note)
    except BadSignature as error:
        return failed(step, f"checkpoint of {size} leaves: {error}")
    missing = policy.missing(signed)
    if missing is not None:
        return not_checked(step, f"checkpoint of {size} leaves: {missing}")
    # A witness with two keys is one witness.
    names = ", ".join(dict.fromkeys(key.name for key in signed)) or "nobody, as the policy asks"
    return passed(step, f"{names} cosigned the checkpoint of {size} leaves")
