"""Consistency files: that a log only grew between two of its signed checkpoints, offline (PR6).

Format "datakluis-consistency/1", schema in anchor/schemas/consistency-1.schema.json. Members, in
this order:

    format   "datakluis-consistency/1"
    old      the smaller checkpoint, a signed note (C2SP tlog-checkpoint) of at least one leaf
    proof    the RFC 6962 consistency proof between the two, base64, 1 to 64 hashes
    new      the larger checkpoint, a signed note of the same log

Written as anchor/strictjson.py says. It is verified against a trust file, in these steps:

    1 origin         both are of the log that the trust file names
    2 log-signature  the log's keys, and behind them witnesses, signed each, and nobody else did;
                     the larger is not of a retired key, or is the closing checkpoint of that
    3 witnesses      no cosignature is wrong, and those of the larger make the quorum of its policy
    4 consistency    the smaller tree is the beginning of the larger

Steps 1, 2 and 4 must pass, and 3 where the trust file requires it. A smaller checkpoint of a
retired key needs no more than this: what the larger begins with is settled. Tested in
tests/anchor/test_consistency.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from anchor.errors import BadFile, OtherOrigin
from anchor.evidence import parse_hashes
from anchor.steps import (
    ConsistencyStep,
    Report,
    Step,
    StepResult,
    StepState,
    Verdict,
    failed,
    not_checked,
    passed,
)
from anchor.strictjson import read_json, text, write_json
from anchor.trust import TrustFile
from anchor.verify_log import signers, witnesses
from ledger.checkpoint import Checkpoint
from ledger.errors import BadProof, BadSignature, LedgerError
from ledger.merkle import verify_consistency
from ledger.note import Note, encode_base64

FORMAT = "datakluis-consistency/1"
MAX_BYTES = 256 * 1024
NOT_PROVEN = ("that others were shown no other history: that takes witnesses, or a monitor",)
_WHAT = "the consistency file"


@dataclass(frozen=True, slots=True)
class ConsistencyFile:
    """One consistency file.

    Attributes:
        old: the smaller checkpoint.
        proof: 1 to 64 hashes of 32 bytes.
        new: the larger checkpoint, of the same log.
    """

    old: Note
    proof: tuple[bytes, ...]
    new: Note

    @property
    def origin(self) -> str:
        """The log that it is of."""
        return Checkpoint.parse(self.old.text).origin

    def format(self) -> bytes:
        """Return the file."""
        return write_json(
            {
                "format": FORMAT,
                "old": self.old.format(),
                "proof": list(map(encode_base64, self.proof)),
                "new": self.new.format(),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ConsistencyFile:
        """Return what a consistency file says. Nothing is verified.

        Raises:
            BadFile: any bytes that `format` would not have written.
        """
        document = read_json(data, _WHAT, MAX_BYTES)
        if document.get("format") != FORMAT:
            raise BadFile(
                f"{_WHAT} has another format than {FORMAT!r}:"
                " bring what 'kluis ledger consistency' wrote"
            )
        try:
            notes = [Note.parse(text(document, key, _WHAT).encode()) for key in ("old", "new")]
            old, new = (Checkpoint.parse(note.text) for note in notes)
            found = cls(notes[0], parse_hashes(document, _WHAT, "proof"), notes[1])
        except (LedgerError, UnicodeEncodeError) as cause:
            raise BadFile(f"{_WHAT} does not hold what it should: {cause}") from cause
        if old.origin != new.origin or not 0 < old.size < new.size:
            raise BadFile(f"{_WHAT} is not about a smaller and a larger tree of one log")
        if found.format() != data:
            raise BadFile(
                f"{_WHAT} is not as this software writes it: unknown or reordered members"
            )
        return found


def verify_growth(file: ConsistencyFile, trust: TrustFile) -> Report:
    """Verify a consistency file offline.

    Raises:
        OtherOrigin: it is of another log than the trust file.
    """
    # 1
    if file.origin != trust.origin:
        raise OtherOrigin(file.origin, trust.origin)
    steps = (
        passed(ConsistencyStep.ORIGIN, f"the log {trust.origin}"),
        _signed(file, trust),
        _witnessed(file, trust),
        _grown(file),
    )
    return _report(file, trust, steps)


def settle(file: ConsistencyFile, trust: TrustFile) -> StepResult:
    """Return what a consistency file says about the signatures under its older checkpoint.

    Raises:
        OtherOrigin: it is of another log than the trust file.
    """
    report, step = verify_growth(file, trust), Step.LOG_SIGNATURE
    states = {Verdict.VERIFIED: passed, Verdict.FAILED: failed, Verdict.INCOMPLETE: not_checked}
    return states[report.verdict](step, f"the consistency file: {report.sentence}")


def _signed(file: ConsistencyFile, trust: TrustFile) -> StepResult:
    # 2
    step = ConsistencyStep.LOG_SIGNATURE
    try:
        found = "; ".join(signers(note, trust) for note in (file.old, file.new))
    except BadSignature as error:
        return failed(step, str(error))
    new = Checkpoint.parse(file.new.text)
    closing = trust.closing_for(new.size)
    if closing is None or new == closing:
        return passed(step, found)
    if new.size == closing.size:
        return failed(step, f"it is not the closing checkpoint of {closing.size} leaves")
    return not_checked(
        step, f"{found}, by a key that was retired at {closing.size}: bring a proof to that size"
    )


def _witnessed(file: ConsistencyFile, trust: TrustFile) -> StepResult:
    # 3
    old, new = (witnesses(note, trust) for note in (file.old, file.new))
    found = old if old.state is StepState.FAILED else new
    return StepResult(ConsistencyStep.WITNESSES, found.state, found.detail)


def _grown(file: ConsistencyFile) -> StepResult:
    # 4
    step = ConsistencyStep.CONSISTENCY
    old, new = (Checkpoint.parse(note.text) for note in (file.old, file.new))
    try:
        verify_consistency(old.size, old.root, new.size, new.root, file.proof)
    except BadProof as error:
        return failed(step, str(error))
    return passed(step, f"{old.size} leaves grew to {new.size}, and none was changed")


def _report(file: ConsistencyFile, trust: TrustFile, steps: tuple[StepResult, ...]) -> Report:
    wrong = [result.step for result in steps if result.state is StepState.FAILED]
    if wrong:
        sentence = f"Not verified: {', '.join(wrong)} failed. Trust nothing in this file."
        return Report(Verdict.FAILED, sentence, steps, NOT_PROVEN)
    required = {ConsistencyStep.LOG_SIGNATURE}
    if Step.WITNESSES in trust.require:
        required.add(ConsistencyStep.WITNESSES)
    missing = [
        one.step for one in steps if one.step in required and one.state is StepState.NOT_CHECKED
    ]
    if missing:
        sentence = f"Incomplete: {', '.join(missing)} is required and was not checked here."
        return Report(Verdict.INCOMPLETE, sentence, steps, NOT_PROVEN)
    old, new = (Checkpoint.parse(note.text).size for note in (file.old, file.new))
    sentence = (
        f"The log {trust.origin} only grew from {old} to {new} leaves: its older tree is the"
        " beginning of the newer."
    )
    return Report(Verdict.VERIFIED, sentence, steps, NOT_PROVEN)
