"""Asking witnesses to cosign a checkpoint (C2SP tlog-witness), all at once and until a deadline.

    1 each witness of the policy that has an address is sent the checkpoint, and the proof from the
      tree that we remember it to have cosigned last
    2 409 with another size: once more, with the proof from there; at most three requests each
    3 200: every line by a key of the policy is verified, others are ignored
    4 whoever has not answered when the time is up is unreachable

A witness can be down, slow or lying: it costs the time until the deadline, never an error, and
nothing that it says is repeated. Each exchange runs in a thread of its own that knows the request
and nothing else; proofs are made by the caller's thread. Tested in
tests/ledger/test_witness_client.py.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from ledger.checkpoint import Checkpoint, parse_decimal
from ledger.cosignature import NO_TIME, CosignerKey, timestamp_of
from ledger.errors import BadSignature, Malformed, NoAnswer, Pruned
from ledger.net.http import HttpAnswer, HttpClient, checked_address
from ledger.note import MAX_NOTE_SIZE, Note, SignatureLine, verify
from ledger.witness import TEXT, TLOG_SIZE, Request
from ledger.witnesspolicy import PolicyWitness

MAX_REQUESTS = 3
"""Requests to one witness: it may have moved on while we made a proof."""

_READ = (HTTPStatus.OK, HTTPStatus.CONFLICT)
# What the two refusals mean that only the witness can mend.
_ADVICE: dict[int, str] = {
    HTTPStatus.FORBIDDEN: (
        ": it lacks a key that signed this, or is new since a rotation and follows from the next"
        " entry on; give it the present trust file"
    ),
    HTTPStatus.NOT_FOUND: ": it does not watch this log, give it the trust file",
}

Prove = Callable[[int, int], Sequence[bytes]]
"""Returns the consistency proof from an old size to a new one."""


class Outcome(StrEnum):
    """What came of asking a witness."""

    COSIGNED = "cosigned"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    LYING = "lying"


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking one witness.

    Attributes:
        witness: its key name.
        outcome: of all.
        detail: in words, for people; empty where it cosigned.
        lines: what it cosigned by keys of the policy, verified.
    """

    witness: str
    outcome: Outcome
    detail: str
    lines: tuple[tuple[CosignerKey, SignatureLine], ...] = ()


@dataclass(slots=True)
class _Target:
    """A witness that is being asked."""

    name: str
    url: str
    keys: list[CosignerKey]
    requests: int = 0


def request_cosignatures(
    note: Note,
    witnesses: Sequence[PolicyWitness],
    remembered: Mapping[CosignerKey, int],
    prove: Prove,
    seconds: float,
) -> list[Asked]:
    """Ask every witness that has an address to cosign a checkpoint.

    Args:
        note: the checkpoint, with the log's lines.
        witnesses: of the policy; those with one key name and address in one request.
        remembered: size of the largest tree that a key is known to have cosigned; none means 0.
        prove: called in this thread.
        seconds: after which nobody is waited for any more.

    Returns:
        One item per witness, in their order.
    """
    return _Asking(note, witnesses, remembered, prove, seconds).run()


class _Asking:
    """One round of asking."""

    def __init__(
        self,
        note: Note,
        witnesses: Sequence[PolicyWitness],
        remembered: Mapping[CosignerKey, int],
        prove: Prove,
        seconds: float,
    ) -> None:
        self._note = note
        self._checkpoint = Checkpoint.parse(note.text)
        self._remembered = remembered
        self._prove = prove
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._answers: queue.SimpleQueue[tuple[int, HttpAnswer | NoAnswer]] = queue.SimpleQueue()
        targets: dict[tuple[str, str], _Target] = {}
        for one in witnesses:
            if one.url is not None:
                place = (one.key.name, one.url)
                targets.setdefault(place, _Target(*place, [])).keys.append(one.key)
        self._targets = list(targets.values())

    def run(self) -> list[Asked]:
        found: dict[int, Asked] = {}
        for number, target in enumerate(self._targets):
            # 1
            old = max(self._remembered.get(key, 0) for key in target.keys)
            self._handle(number, self._send(number, min(old, self._checkpoint.size)), found)
        while len(found) < len(self._targets):
            try:
                left = max(0.0, self._until - time.monotonic())
                number, answer = self._answers.get(timeout=left)
            except queue.Empty:
                break
            self._handle(number, self._judge(number, answer), found)
        # 4
        late = f"no answer within {self._seconds:g} seconds"
        return [
            found.get(number) or Asked(target.name, Outcome.UNREACHABLE, late)
            for number, target in enumerate(self._targets)
        ]

    @staticmethod
    def _handle(number: int, asked: Asked | None, found: dict[int, Asked]) -> None:
        if asked is not None:
            found[number] = asked

    def _send(self, number: int, old: int) -> Asked | None:
        """Send a request from a thread of its own; return what came of it if it cannot be sent."""
        target = self._targets[number]
        target.requests += 1
        try:
            url = checked_address(target.url, f"witness {target.name}") + "add-checkpoint"
        except Malformed as cause:
            return Asked(target.name, Outcome.UNREACHABLE, str(cause))
        size = self._checkpoint.size
        proof: Sequence[bytes] = ()
        try:
            if 0 < old < size:
                proof = self._prove(old, size)
        except Pruned as cause:
            if target.requests > 1:
                # Its next step would take hashes that are gone: it is behind for ever.
                return Asked(target.name, Outcome.REFUSED, f"it is at {old} leaves: {cause}")
            old = 0  # It can be further than what is remembered: it will say.
        body = Request(old, tuple(proof), self._note).format()
        client = HttpClient(max(0.001, self._until - time.monotonic()))

        def ask() -> None:
            try:
                answer: HttpAnswer | NoAnswer = client.post(url, body, TEXT, MAX_NOTE_SIZE, _READ)
            except NoAnswer as cause:
                answer = cause
            self._answers.put((number, answer))

        # A daemon: a witness that drips must not keep this process from ending.
        threading.Thread(target=ask, name=f"witness {number}", daemon=True).start()
        return None

    def _judge(self, number: int, answer: HttpAnswer | NoAnswer) -> Asked | None:
        """Return what came of a request; None when another was sent."""
        target = self._targets[number]
        if isinstance(answer, NoAnswer):
            return Asked(target.name, Outcome.UNREACHABLE, str(answer))
        if answer.status == HTTPStatus.CONFLICT:
            return self._conflict(number, answer)
        if answer.status != HTTPStatus.OK:
            said = f"it answered with status {answer.status}{_ADVICE.get(answer.status, '')}"
            return Asked(target.name, Outcome.REFUSED, said)
        # 3
        try:
            lines = tuple(self._lines(target, answer.body))
        except (Malformed, BadSignature) as cause:
            return Asked(target.name, Outcome.LYING, _words(cause))
        if not lines:
            return Asked(target.name, Outcome.LYING, "it answered without a line of its own key")
        return Asked(target.name, Outcome.COSIGNED, "", lines)

    def _conflict(self, number: int, answer: HttpAnswer) -> Asked | None:
        # 2
        target = self._targets[number]
        try:
            if answer.content_type != TLOG_SIZE or not answer.body.endswith(b"\n"):
                raise Malformed("not a size")
            size = parse_decimal(answer.body[:-1].decode("ascii"))
        except (Malformed, UnicodeDecodeError):
            return Asked(target.name, Outcome.LYING, "it answered a conflict without a size")
        if size > self._checkpoint.size:
            return Asked(
                target.name,
                Outcome.REFUSED,
                f"it says that it cosigned {size} leaves of this log, more than the"
                f" {self._checkpoint.size} of this checkpoint",
            )
        if target.requests >= MAX_REQUESTS:
            return Asked(target.name, Outcome.REFUSED, "it answers each size with another one")
        return self._send(number, size)

    def _lines(self, target: _Target, body: bytes) -> list[tuple[CosignerKey, SignatureLine]]:
        """Return the lines of an answer that are by the witness's keys.

        Raises:
            Malformed: it is no sequence of signature lines.
            BadSignature: one of these lines does not verify, or says no time.
        """
        answered = Note.parse(f"{self._note.text}\n".encode() + body)
        if answered.text != self._note.text:
            raise Malformed("it answered more than signature lines")
        brought = {(line.name, line.key_id) for line in answered.signatures}
        found = []
        for key in target.keys:
            if (key.name, key.key_id) in brought:
                line = verify(answered, key)
                if timestamp_of(line, key) == NO_TIME:
                    raise BadSignature("its cosignature says no time")
                found.append((key, line))
        return found


def _words(cause: Malformed | BadSignature) -> str:
    """Return words for an answer that is none; what a witness sent is not repeated in them."""
    if isinstance(cause, Malformed):
        return "what it answered is not signature lines"
    return "its cosignature does not verify, or says no time"
