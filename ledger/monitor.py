"""The monitor: follows a published log from outside and finds its first fault (LG1, LG2, LG4, MT4).

It needs the published files and what it trusts, no vault. One round is

    1 read the checkpoint; every key of the log for its size must have signed it
    2 it must extend the newest good checkpoint: not smaller, not of another root at the same size,
      and by a consistency proof from the published tiles, each held against the new root
      (ledger/verifiedtiles.py)
    3 it must extend each closing checkpoint at which keys of the log were retired
    4 it must have the quorum of its witnesses; without it nothing is judged yet
    5 what witnesses of the log show must be of the same tree: one that is larger than what is
      published is kept, and compared as soon as it can be
    6 the entries since the last round are read bundle by bundle, must be the leaves of the tree,
      must follow rightly on those before them (ledger/sequence.py), and the rules must allow them
      (ledger/governance.py), whose state is carried along from the founding entry that is trusted
    7 checkpoint, entries and state of governance are kept, in one transaction; also after every
      65,536 entries, so that what was interrupted goes on from there

The first fault ends the round with `Misbehaved`. The good state stays as it was, and a folder of
evidence beside it (ledger/evidencefolder.py) gets

    fault                what is wrong, one line
    checkpoint-kept      the newest good checkpoint, as it was signed; missing in a first round
    checkpoint-found     the checkpoint of this round, byte for byte as it was published
    checkpoint-witness   that of the witness, where one is concerned
    contradiction        that two of them cannot both be true; see below
    entry, entry.tlog-proof   the leaf data, and its inclusion (C2SP tlog-proof) under the signature
    found, tile, tile-…  the bytes of the published files concerned

A contradiction is lines: the smaller size in decimal; the base64 root that the tree of the larger
checkpoint has there, which is not the root that is signed at that size; the base64 hashes of the
RFC 6962 consistency proof from that root to the larger checkpoint. Whoever has the public keys can
check it offline. Two checkpoints of one size and two roots need none.

A log that cannot be reached is no fault (`SourceUnreachable`). Neither is one that has too little
to judge it (`NotJudged`): pruned beyond what was seen of it, or without its quorum.

Tested in tests/ledger/test_monitor.py and tests/commands/test_monitor_command.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.errors import (
    BadProof,
    BadPublication,
    BadSignature,
    Malformed,
    Misbehaved,
    NotJudged,
    SourceMissing,
    SourceUnreachable,
)
from ledger.evidencefolder import write_evidence
from ledger.monitorentries import EntryJudge, TrustedLog
from ledger.monitorstate import MonitorState, Waiting
from ledger.note import Note, encode_base64
from ledger.source import CHECKPOINT, Source
from ledger.verifiedtiles import VerifiedTiles


@dataclass(frozen=True, slots=True)
class Watcher:
    """A witness of the log, whose view is compared.

    Attributes:
        key: its verifier key.
        source: that has its newest checkpoint of this log as `checkpoint`.
    """

    key: str
    source: Source


class View(StrEnum):
    """What the view of a witness came to."""

    AGREES = "agrees"
    AHEAD = "ahead of what is published"
    PRUNED = "older than what a pruned log can prove"
    NONE = "has no checkpoint of this log"
    UNREACHABLE = "cannot be reached"
    UNUSABLE = "shows what no key of the log has signed"


@dataclass(frozen=True, slots=True)
class WitnessReport:
    """What a witness showed.

    Attributes:
        witness: its verifier key.
        view: what it came to.
        size: leaves of its checkpoint; None where there is none.
    """

    witness: str
    view: View
    size: int | None = None


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A round in which nothing was wrong.

    Attributes:
        size: leaves of the published tree.
        judged: entries that were judged in this round.
        stopped: whether the log is stopped.
        minimum: entries below this index may be gone.
        witnesses: what the witnesses showed.
    """

    size: int
    judged: int
    stopped: bool
    minimum: int
    witnesses: tuple[WitnessReport, ...]


class Monitor:
    """Follows one log.

    Args:
        source: of the published files.
        log: what is trusted about it.
        state: what was seen so far.
        folder: gets the evidence of a fault.
        watchers: witnesses whose views are compared.
    """

    def __init__(
        self,
        source: Source,
        log: TrustedLog,
        state: MonitorState,
        folder: Path,
        watchers: Iterable[Watcher] = (),
    ) -> None:
        self._source = source
        self._log = log
        self._state = state
        self._folder = folder
        self._watchers = tuple(watchers)

    def round(self, now: int) -> RoundReport:
        """Look at the log once.

        Args:
            now: Unix seconds, UTC.

        Raises:
            Misbehaved: the log or a witness did what it must not; its evidence is in the folder.
            NotJudged: what is published does not suffice.
            SourceMissing: there is no published log.
            SourceUnreachable: it cannot be read; nothing is known about it.
        """
        # An earlier round of this monitor may have ended between two entries.
        self._state.forget()
        data = self._published()
        try:
            return _Round(self._source, self._log, self._state, data).run(self._watchers, now)
        except Misbehaved as fault:
            known = {} if self._state.note is None else {"checkpoint-kept": self._state.note}
            texts = {name: note.format().encode() for name, note in known.items()}
            evidence = {**texts, "checkpoint-found": data, **fault.evidence}
            folder = write_evidence(self._folder, fault.what, evidence)
            raise Misbehaved(f"{fault.what}; the evidence is in {folder}", evidence) from fault
        except SourceMissing as cause:
            raise NotJudged(
                f"the log has no file {cause.path}: it may be pruned, and of its entries"
                f" {self._state.judged} were judged so far"
            ) from cause

    def _published(self) -> bytes:
        try:
            return self._source.read(CHECKPOINT)
        except SourceMissing as cause:
            if self._state.note is None:
                raise
            raise SourceUnreachable(CHECKPOINT, "there is none any more") from cause


class _Round:
    """One look at the log."""

    def __init__(self, source: Source, log: TrustedLog, state: MonitorState, data: bytes) -> None:
        self._log = log
        self._state = state
        # 1
        try:
            self._note = Note.parse(data)
            self._checkpoint = log.verify(self._note)
        except (Malformed, BadSignature) as cause:
            raise Misbehaved(f"the published checkpoint: {cause}", {}) from cause
        self._tiles = VerifiedTiles(source, self._checkpoint)

    def run(self, watchers: Iterable[Watcher], now: int) -> RoundReport:
        try:
            return self._run(watchers, now)
        except BadPublication as cause:
            raise Misbehaved(str(cause), {}) from cause

    def _run(self, watchers: Iterable[Watcher], now: int) -> RoundReport:
        # 2
        if self._state.note is not None:
            self._require_growth(Checkpoint.parse(self._state.note.text))
        # 3
        closings = self._require_closings()
        # 4
        lacking = self._log.lacking(self._note)
        if lacking is not None:
            raise NotJudged(f"the checkpoint of {self._checkpoint.size} leaves: {lacking}")
        # 5
        witnesses = self._compare(watchers, now)
        # 6 and 7
        before = self._state.judged
        EntryJudge(self._log, self._state, self._tiles, self._note).run(closings)
        governance = self._state.governance
        return RoundReport(
            self._checkpoint.size,
            self._checkpoint.size - before,
            governance.stopped,
            governance.minimum,
            witnesses,
        )

    def _require_growth(self, kept: Checkpoint) -> None:
        if self._checkpoint.size < kept.size:
            raise Misbehaved(
                f"the log went back from {kept.size} to {self._checkpoint.size} leaves", {}
            )
        contradiction = self._contradiction(kept)
        if contradiction is not None:
            raise Misbehaved(
                f"the log signed another history at {self._checkpoint.size} leaves than at"
                f" {kept.size} leaves",
                contradiction,
            )

    def _require_closings(self) -> list[Checkpoint]:
        """Return the closing checkpoints from which the log is found to have grown just now."""
        found = []
        for closing in self._log.closings:
            if self._state.is_closed_at(closing):
                continue
            if self._checkpoint.size < closing.size:
                raise NotJudged(
                    f"the published checkpoint of {self._checkpoint.size} leaves is older than the"
                    f" closing one of {closing.size} at which its key was retired"
                )
            contradiction = self._contradiction(closing)
            if contradiction is not None:
                raise Misbehaved(
                    f"the log at {self._checkpoint.size} leaves did not grow from the closing"
                    f" checkpoint of {closing.size} leaves",
                    {"closing": closing.text().encode(), **contradiction},
                )
            found.append(closing)
        return found

    def _contradiction(self, older: Checkpoint) -> dict[str, bytes] | None:
        """Return what shows that this tree does not begin with an older one, or None if it does."""
        read, checkpoint = self._tiles.read_hash, self._checkpoint
        if older.size == checkpoint.size:
            return None if older.root == checkpoint.root else {}
        proof = merkle.consistency_proof(older.size, checkpoint.size, read)
        try:
            merkle.verify_consistency(
                older.size, older.root, checkpoint.size, checkpoint.root, proof
            )
        except BadProof:
            root = merkle.root(older.size, read)
            lines = [str(older.size), encode_base64(root), *map(encode_base64, proof)]
            return {"contradiction": "".join(f"{line}\n" for line in lines).encode()}
        return None

    def _compare(self, watchers: Iterable[Watcher], now: int) -> tuple[WitnessReport, ...]:
        for waiting in self._state.waiting():
            checkpoint = Checkpoint.parse(waiting.note.text)
            if checkpoint.size <= self._checkpoint.size:
                self._view(waiting.witness, waiting.note, checkpoint)
                self._state.drop_waiting(waiting.witness)
        return tuple(self._watch(watcher, now) for watcher in watchers)

    def _watch(self, watcher: Watcher, now: int) -> WitnessReport:
        try:
            note = Note.parse(watcher.source.read(CHECKPOINT))
            checkpoint = self._log.verify_any(note)
        except SourceMissing:
            return WitnessReport(watcher.key, View.NONE)
        except SourceUnreachable:
            return WitnessReport(watcher.key, View.UNREACHABLE)
        except (BadPublication, Malformed, BadSignature):
            return WitnessReport(watcher.key, View.UNUSABLE)
        if checkpoint.size > self._checkpoint.size:
            self._state.keep_waiting(Waiting(watcher.key, note, now))
            return WitnessReport(watcher.key, View.AHEAD, checkpoint.size)
        view = self._view(watcher.key, note, checkpoint)
        return WitnessReport(watcher.key, view, checkpoint.size)

    def _view(self, witness: str, note: Note, checkpoint: Checkpoint) -> View:
        try:
            contradiction = self._contradiction(checkpoint)
        except SourceMissing:
            if checkpoint.size >= self._state.judged:
                raise
            return View.PRUNED
        if contradiction is not None:
            raise Misbehaved(
                f"the log shows one history of {self._checkpoint.size} leaves here and another of"
                f" {checkpoint.size} to the witness {witness}",
                {"checkpoint-witness": note.format().encode(), **contradiction},
            )
        return View.AGREES
