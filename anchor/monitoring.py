"""What a trust file says to a monitor (ledger/monitor.py): keys, closings, witnesses, founding.

A monitor reads what is published to everybody, where lines of other signers may stand under a
checkpoint: they are passed over (C2SP signed-note), unlike in evidence (anchor/verify_log.py).
Tested in tests/anchor/test_monitoring.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from anchor.errors import OtherOrigin
from anchor.trust import TrustFile
from ledger.checkpoint import Checkpoint
from ledger.errors import BadSignature
from ledger.monitor import Watcher
from ledger.note import Note
from ledger.note import verify as verify_note
from ledger.source import Source
from ledger.witnessstate import origin_hash


class TrustedByFile:
    """A trust file, as `ledger.monitorentries.TrustedLog`.

    Args:
        trust: the file.
    """

    def __init__(self, trust: TrustFile) -> None:
        self._trust = trust

    @property
    def origin(self) -> str:
        """The log's origin."""
        return self._trust.origin

    @property
    def closings(self) -> tuple[Checkpoint, ...]:
        """The closing checkpoints of retired keys, the smallest first."""
        found = {one.closing for one in self._trust.log_keys if one.closing is not None}
        return tuple(sorted(found, key=lambda closing: closing.size))

    @property
    def founding(self) -> bytes | None:
        """SHA-256 of the founding entry, or None."""
        return self._trust.founding

    def verify(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note that every log key of its size has signed.

        Raises:
            OtherOrigin: it is of another log than the trust file.
            Malformed, BadSignature: see `ledger.monitorentries.TrustedLog.verify`.
        """
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != self._trust.origin:
            raise OtherOrigin(checkpoint.origin, self._trust.origin)
        keys = self._trust.keys_for(checkpoint.size)
        if not keys:
            raise BadSignature(f"the trust file has no log key for {checkpoint.size} leaves")
        for key in keys:
            verify_note(note, key)
        policy = self._trust.policy_for(checkpoint.size)
        if policy is not None:
            policy.cosigners(note)
        return checkpoint

    def verify_any(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note that one log key of its size, or more, has signed."""
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != self._trust.origin:
            raise BadSignature("a checkpoint of another log")
        for key in self._trust.keys_for(checkpoint.size):
            if any((line.name, line.key_id) == (key.name, key.key_id) for line in note.signatures):
                verify_note(note, key)
                return checkpoint
        raise BadSignature(f"no signature of a log key for {checkpoint.size} leaves")

    def lacking(self, note: Note) -> str | None:
        """Return in words what a note lacks of the quorum of its policy; None without a policy."""
        policy = self._trust.policy_for(Checkpoint.parse(note.text).size)
        return None if policy is None else policy.missing(policy.cosigners(note))


def watchers(trust: TrustFile, source_at: Callable[[str], Source]) -> Iterator[Watcher]:
    """Yield the witnesses of a trust file's policies that have an address, each once.

    A witness serves its newest checkpoint of a log as `<prefix>/<SHA-256 of the origin>/checkpoint`
    (C2SP tlog-witness); its monitoring prefix is taken to be its submission prefix.

    Args:
        trust: the file.
        source_at: opens an address.
    """
    hashed = origin_hash(trust.origin)
    found = {
        witness.url: witness
        for watched in trust.witness_policies
        for witness in watched.policy.witnesses
        if witness.url is not None
    }
    for url, witness in found.items():
        yield Watcher(str(witness.key), source_at(f"{url.rstrip('/')}/{hashed}"))
