"""A witness: it cosigns the checkpoints of logs, of each log only one history that only grows.

Implements C2SP tlog-witness without the network (ledger/net/witnessserver.py) and without
`sign-subtree`, which is optional. A request is

    old <size of the tree that the witness cosigned last>
    <base64 of a hash>              the consistency proof, 0 to 63 lines
    <empty line>
    <signed checkpoint>

    1 parse; anything that would be written otherwise                           400
    2 the origin must be registered                                             404
    3 the log must have signed it                                               403
    4 the old size must not exceed the checkpoint's                             400
    5 a tree of no leaves has the root of RFC 6962 for it                       422
    6 in one transaction that holds the write lock from its start:
      a the old size must be the size that was cosigned last                    409, with that size
      b the proof must lead from the root that was cosigned last to the new one 422
      c cosign, store size, root and note; commit, flushed to the disk
    7 answer with the cosignatures                                              200

A request that comes between 6a and 6c of another waits, so no answer rolls another one back. A
crash after 6c leaves a checkpoint that was cosigned and never answered; the log gets 409, or 200
for the very same checkpoint again.

Of step 3: a log is registered with one or more keys. Lines of unknown keys are ignored; a line of
a known key that does not verify refuses the checkpoint. Stricter than C2SP: of each algorithm that
the log is registered with, a key must have signed, so that breaking one of two algorithms is not
enough. A rotated key is registered beside its successor.

Evidence: a checkpoint that the log signed and that contradicts what was cosigned is kept, together
with the one that was cosigned, exactly as the log signed both: the same size with another root, or
(step 6b) a larger tree without a proof that leads to it. The first is proof of a split view by
itself. The second says only that the log, or whoever sent the request, brought no proof; the log
can still bring one. Of each log at most 64 of each are kept, so that nobody fills the disk.

State is in ledger/witnessstate.py. The clock of the answers never goes back, also when that of the
machine does. Tested in tests/ledger/test_witness.py and
tests/ledger/test_witness_model.py (LG1, LG4, MT4).
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ledger.checkpoint import Checkpoint, parse_decimal
from ledger.cosignature import Cosigner, CosignerKey
from ledger.errors import BadProof, BadSignature, LedgerError, Malformed
from ledger.merkle import EMPTY_ROOT, HASH_SIZE, verify_consistency
from ledger.note import (
    MAX_NOTE_SIZE,
    Note,
    SignatureLine,
    SignatureType,
    VerifierKey,
    decode_base64,
    encode_base64,
    verify,
)
from ledger.witnessstate import Contradiction, WitnessState

MAX_PROOF_LINES = 63
_MAX_HASH_LINE = 45
MAX_BODY_BYTES = len("old \n\n") + 19 + MAX_PROOF_LINES * _MAX_HASH_LINE + MAX_NOTE_SIZE
"""Bytes of the largest request."""

TEXT = "text/plain; charset=utf-8"
TLOG_SIZE = "text/x.tlog.size"


class Status(IntEnum):
    """The statuses that C2SP tlog-witness gives a meaning (RFC 9110)."""

    OK = 200
    BAD_REQUEST = 400
    FORBIDDEN = 403
    NOT_FOUND = 404
    CONFLICT = 409
    UNPROCESSABLE_ENTITY = 422
    SERVICE_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answers.

    Attributes:
        status: of HTTP.
        content_type: of the body.
        body: at most 64 KiB.
    """

    status: Status
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One `add-checkpoint` request.

    Attributes:
        old_size: leaves, 0 <= old_size < 2**63.
        proof: 0 to 63 hashes of 32 bytes.
        note: of the checkpoint.

    Raises:
        ValueError: there are more hashes, or of another length.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: Note

    def __post_init__(self) -> None:
        if len(self.proof) > MAX_PROOF_LINES or any(len(one) != HASH_SIZE for one in self.proof):
            raise ValueError(f"a proof that is not 0 to {MAX_PROOF_LINES} hashes")

    def format(self) -> bytes:
        """Return the body."""
        lines = "".join(f"{encode_base64(one)}\n" for one in self.proof)
        return f"old {self.old_size}\n{lines}\n{self.note.format()}".encode()

    @classmethod
    def parse(cls, body: bytes) -> Request:
        """Read a body that `format` wrote.

        Raises:
            Malformed: any other bytes.
        """
        if len(body) > MAX_BODY_BYTES:
            raise Malformed(f"a request of more than {MAX_BODY_BYTES} bytes")
        head, separator, note = body.partition(b"\n\n")
        try:
            old, *proof = head.decode("ascii").split("\n", MAX_PROOF_LINES + 1)
            size = parse_decimal(old.removeprefix("old "))
            request = cls(size, tuple(map(decode_base64, proof)), Note.parse(note))
        except ValueError as cause:
            raise Malformed(f"not a request to add a checkpoint: {cause}") from cause
        if not separator or request.format() != body:
            raise Malformed("not a request to add a checkpoint: it would be written otherwise")
        return request


@dataclass(frozen=True, slots=True)
class _State:
    """What was cosigned last of a log."""

    size: int
    root: bytes
    log_note: str | None


class _Refused(Exception):
    """Carries the answer out of the transaction that it ends."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


class Witness:
    """Answers what comes over the network.

    Args:
        state: what was cosigned before.
        cosigners: one or more keys under one name.

    Raises:
        ValueError: no key, or several names.
    """

    def __init__(self, state: WitnessState, cosigners: Sequence[Cosigner]) -> None:
        if len({one.verifier.name for one in cosigners}) != 1:
            raise ValueError("a witness cosigns under one name")
        self._state = state
        self._cosigners = tuple(cosigners)

    @property
    def keys(self) -> tuple[CosignerKey, ...]:
        """The public keys of the witness."""
        return tuple(one.verifier for one in self._cosigners)

    def add_checkpoint(self, body: bytes, now: int) -> Answer:
        """Answer an `add-checkpoint` request; the steps are those of this module.

        Args:
            body: of the request.
            now: Unix seconds, UTC.

        Raises:
            WitnessStateLost: the state cannot be read or written. Nothing was cosigned that the
                state does not say.
        """
        # 1
        try:
            request = Request.parse(body)
            checkpoint = Checkpoint.parse(request.note.text)
        except LedgerError as cause:
            return _told(Status.BAD_REQUEST, str(cause))
        # 2
        keys = self._state.keys(checkpoint.origin)
        if not keys:
            return _told(Status.NOT_FOUND, "this witness does not know that log")
        # 3
        try:
            lines = signed_by(request.note, keys)
        except BadSignature as cause:
            return _told(Status.FORBIDDEN, str(cause))
        # 4
        if request.old_size > checkpoint.size:
            return _told(Status.BAD_REQUEST, "the old size exceeds that of the checkpoint")
        # 5
        if checkpoint.size == 0 and not hmac.compare_digest(checkpoint.root, EMPTY_ROOT):
            return _told(Status.UNPROCESSABLE_ENTITY, "not the root of an empty tree")
        # 6 and 7
        try:
            return self._cosign(request, checkpoint, lines, now)
        except _Refused as refused:
            return refused.answer

    def checkpoint(self, hashed_origin: str) -> Answer:
        """Answer a request for the checkpoint that was cosigned last of a log.

        Args:
            hashed_origin: lower-case hex of SHA-256 of the origin.
        """
        note = self._state.published(hashed_origin)
        if note is None:
            return _told(Status.NOT_FOUND, "nothing was cosigned of that log")
        return Answer(Status.OK, TEXT, note.encode())

    def _cosign(
        self, request: Request, new: Checkpoint, lines: Sequence[SignatureLine], now: int
    ) -> Answer:
        contradicted = None
        # Without lines of strangers: with those, anybody could make one note into many.
        signed = Note(request.note.text, tuple(lines))
        try:
            with self._state.writing() as db:
                row = db.execute(
                    "SELECT size, root, log_note FROM log WHERE origin = ?", (new.origin,)
                ).fetchone()
                last = _State(*row)
                contradicted = _contradicted(last, request, new)
                # a and b
                _check_growth(last, request, new)
                # c
                timestamp = _tick(db, now)
                cosigned = tuple(one.cosign(new, timestamp) for one in self._cosigners)
                db.execute(
                    "UPDATE log SET size = ?, root = ?, log_note = ?, note = ? WHERE origin = ?",
                    (
                        new.size,
                        new.root,
                        signed.format(),
                        Note(request.note.text, (*lines, *cosigned)).format(),
                        new.origin,
                    ),
                )
        finally:
            if contradicted is not None and last.log_note is not None:
                self._state.keep(contradicted, last.log_note, signed, now)
        return Answer(Status.OK, TEXT, "".join(line.format() for line in cosigned).encode())


def signed_by(note: Note, keys: Sequence[VerifierKey | CosignerKey]) -> tuple[SignatureLine, ...]:
    """Return the lines of the log's keys, of each of its algorithms one at least.

    Raises:
        BadSignature: there are not, or a line of one of these keys does not verify.
    """
    brought = {(line.name, line.key_id) for line in note.signatures}
    present = [key for key in keys if (key.name, key.key_id) in brought]
    lines = tuple(verify(note, key) for key in present)
    lacking = {_algorithm(key) for key in keys} - {_algorithm(key) for key in present}
    if lacking:
        names = ", ".join(sorted(one.name for one in lacking))
        raise BadSignature(f"the log did not sign it with a known key of type {names}")
    return lines


def _algorithm(key: VerifierKey | CosignerKey) -> SignatureType:
    return key.type if isinstance(key, CosignerKey) else SignatureType.ED25519


def _contradicted(last: _State, request: Request, new: Checkpoint) -> Contradiction | None:
    """Tell whether a checkpoint that the log signed contradicts the one that was cosigned last."""
    if new.size == last.size and not hmac.compare_digest(new.root, last.root):
        return Contradiction.SPLIT_VIEW
    if request.old_size == last.size and not _grows(last, request, new):
        return Contradiction.UNPROVEN
    return None


def _check_growth(last: _State, request: Request, new: Checkpoint) -> None:
    """Return if a checkpoint follows the one that was cosigned last.

    Raises:
        _Refused: it does not.
    """
    if request.old_size != last.size:
        raise _Refused(Answer(Status.CONFLICT, TLOG_SIZE, f"{last.size}\n".encode()))
    if not _grows(last, request, new):
        raise _Refused(
            _told(Status.UNPROCESSABLE_ENTITY, "no proof from the tree that was cosigned last")
        )


def _grows(last: _State, request: Request, new: Checkpoint) -> bool:
    try:
        verify_consistency(last.size, last.root, new.size, new.root, request.proof)
    except BadProof:
        return False
    return True


def _tick(db: sqlite3.Connection, now: int) -> int:
    """Return the time of a cosignature, never before an earlier one and never 0."""
    (at,) = db.execute("UPDATE clock SET at = max(at, ?) RETURNING at", (now,)).fetchone()
    return int(at)


def _told(status: Status, words: str) -> Answer:
    return Answer(status, TEXT, f"{words}\n".encode())
