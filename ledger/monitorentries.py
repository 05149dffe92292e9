"""The entries of a followed log, judged in their order as far as it is signed (GO2, LG8).

Each entry must be one, must follow rightly on those before it about the same thing
(ledger/sequence.py), and must be allowed by the rules in the state that those before it made
(ledger/governance.py). Which founding entry is the right one is what whoever follows the log has to
know: an operator could found it anew for every reader. How far it came is kept after every 65,536
entries, so memory is bounded and what was interrupted goes on from there.

Tested in tests/ledger/test_monitor.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.entry import Entry, EntryKind, parse_entry
from ledger.errors import Malformed, Misbehaved, NotValid
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.monitorstate import MonitorState, core_key, entry_of, group_key, key_of, value_of
from ledger.note import Note
from ledger.sequence import certificate_fault, record_fault, shred_fault
from ledger.tiles import TILE_WIDTH
from ledger.tlogproof import LogProof
from ledger.verifiedtiles import VerifiedTiles

SAVED_BUNDLES = 256
"""Entry bundles after which the state is kept."""


class TrustedLog(Protocol):
    """What a monitor trusts about one log; made of a trust file in anchor/monitoring.py."""

    @property
    def origin(self) -> str:
        """The log's origin."""
        ...

    @property
    def closings(self) -> tuple[Checkpoint, ...]:
        """The checkpoints at which keys of the log were retired."""
        ...

    @property
    def founding(self) -> bytes | None:
        """SHA-256 of the founding entry, or None where any is taken."""
        ...

    def verify(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note that every key of its size has signed.

        Raises:
            Malformed: it is no checkpoint.
            BadSignature: a key did not sign it, or a known cosignature under it does not verify.
        """
        ...

    def verify_any(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note that at least one key of its size has signed.

        Raises:
            Malformed, BadSignature: see `verify`.
        """
        ...

    def lacking(self, note: Note) -> str | None:
        """Return in words what a verified note lacks of the quorum of its witnesses, or None."""
        ...


class EntryJudge:
    """Judges the entries of one signed checkpoint that were not judged before.

    Args:
        log: what is trusted about it.
        state: what was seen so far.
        tiles: of the checkpoint.
        note: the checkpoint, verified.
    """

    def __init__(
        self, log: TrustedLog, state: MonitorState, tiles: VerifiedTiles, note: Note
    ) -> None:
        self._log = log
        self._state = state
        self._tiles = tiles
        self._note = note
        self._size = Checkpoint.parse(note.text).size

    def run(self, closings: Iterable[Checkpoint]) -> None:
        """Judge what was not judged yet, and keep how far that is.

        Args:
            closings: from which the log was found to have grown, kept as well.

        Raises:
            Misbehaved: an entry is wrong; the evidence is the entry and its inclusion.
            SourceMissing, SourceUnreachable: see `VerifiedTiles.entries`.
        """
        state, size = self._state, self._size
        governance, judged = state.governance, state.judged
        for number in range(judged // TILE_WIDTH, -(-size // TILE_WIDTH)):
            entries = self._tiles.entries(number)[judged - number * TILE_WIDTH :]
            governance = self._judge_bundle(governance, judged, entries)
            judged += len(entries)
            if (number + 1) % SAVED_BUNDLES == 0:
                state.save(self._note, judged, governance)
        state.save(self._note, judged, governance, closings)

    def _judge_bundle(
        self, governance: GovernanceState, start: int, leaves: list[bytes]
    ) -> GovernanceState:
        parsed = [self._parsed(index, data) for index, data in enumerate(leaves, start)]
        rows = self._state.look_up(
            {key for entry in parsed for key in (key_of(entry), group_key(entry), core_key(entry))}
        )
        for index, (data, entry) in enumerate(zip(leaves, parsed, strict=True), start):
            wrong = _sequence_fault(entry, rows) or self._founding_fault(governance, entry, data)
            if wrong is not None:
                raise self._wrong(index, data, wrong)
            core = entry_of(key := core_key(entry), rows.get(key))
            try:
                governance = judge(self._log.origin, governance, entry, index, core)
            except NotValid as cause:
                raise self._wrong(index, data, str(cause)) from cause
            if entry.kind is not EntryKind.GOVERNANCE:
                rows[key_of(entry)] = value_of(entry)
        self._state.change(rows)
        return governance

    def _founding_fault(self, governance: GovernanceState, entry: Entry, data: bytes) -> str | None:
        trusted = self._log.founding
        if entry.kind is not EntryKind.GOVERNANCE or governance.founded or trusted is None:
            return None
        found = hashlib.sha256(data).digest()
        return None if found == trusted else "is another founding entry than the trusted one"

    def _parsed(self, index: int, data: bytes) -> Entry:
        try:
            return parse_entry(data)
        except Malformed as cause:
            raise self._wrong(index, data, f"is none: {cause}") from cause

    def _wrong(self, index: int, data: bytes, what: str) -> Misbehaved:
        hashes = merkle.inclusion_proof(index, self._size, self._tiles.read_hash)
        proof = LogProof(index, tuple(hashes), self._note)
        return Misbehaved(
            f"entry {index} {what}",
            {"entry": data, "entry.tlog-proof": proof.format().encode()},
        )


def _sequence_fault(entry: Entry, rows: Mapping[bytes, int]) -> str | None:
    if entry.kind is EntryKind.GOVERNANCE:
        return None  # Its sequence is judged by the rules.
    latest = rows.get(key_of(entry), 0) >> 2
    if entry.kind is EntryKind.SHRED:
        return shred_fault(entry, latest)
    before = entry_of(key := group_key(entry), rows.get(key))
    if entry.kind is EntryKind.CERTIFICATE:
        return certificate_fault(entry, before, latest)
    return record_fault(entry, before)
