"""Replaying: a published log is read, verified, and appended to a database that is behind it.

A database that was restored from a backup holds an older tree than the log has signed, and the
signer refuses it (`RolledBack`). The published log (C2SP tlog-tiles) holds the missing entries, and
who serves it need not be trusted: its checkpoint is signed by the log, and its entries give the
signed root or are refused.

    1 `read_entries` reads the checkpoint, verifies the signatures of all keys of the log for its
      size, reads all entry bundles and recomputes the RFC 6962 root. It remembers the root of each
      bundle, 32 bytes for 256 entries, and no entry
    2 `PublishedLog.entries` reads the bundles once more and compares each with its root before it
      hands out one of its entries. So nobody acts on an entry that was not verified, and the source
      may change under the reader's hands
    3 `replay_onto` requires that the database's tree is a prefix of the published one, appends the
      rest in the published order, requires the signed root, and stores the signed note

Entries that were waiting in the database and are leaves of the published log already are taken out
of the waiting ones, one for each leaf, so that none is integrated twice. Entries that the published
log does not have go on waiting.

A published log that was pruned (C2SP tlog-tiles, "Pruning") has no bundles below the minimum index
that one of its entries states. Then the bundles from there on are read, and the tree below them
comes from the published tiles: the signed root vouches for both. What was read of those tiles is
remembered. A database that has fewer entries than are gone cannot be brought up to such a log:
`Pruned` says which it lacks. Tested in tests/ledger/test_replay.py.
"""

from __future__ import annotations

import hmac
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import islice

from sqlalchemy import Connection

from ledger import merkle
from ledger.action import ActionKind, Prune
from ledger.approval import parse_body
from ledger.checkpoint import Checkpoint
from ledger.driver import run_many
from ledger.entry import EntryKind, parse_entry
from ledger.errors import (
    BadProof,
    BadPublication,
    Forked,
    Malformed,
    Pruned,
    SourceMissing,
    UnknownLeaf,
)
from ledger.fault import Fault
from ledger.integrator import BATCH_ENTRIES, append_leaves
from ledger.log import Head, Log
from ledger.logkeys import LogKeys
from ledger.merkle import HASH_SIZE, leaf_hash
from ledger.note import Note
from ledger.signer import store_checkpoint
from ledger.source import CHECKPOINT, Source
from ledger.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    entries_path,
    hash_reader,
    parse_bundle,
    tile_path,
    tile_root,
)

_PRUNE = bytes([EntryKind.GOVERNANCE, 0, ActionKind.PRUNE])
"""How the entry of a prune goes on behind its format."""


class PublishedLog:
    """A published log whose entries were read once and gave the root that the log signed.

    Made by `read_entries`.

    Args:
        source: is read again by `entries`, `root` and `faults`, and believed no more than before.
        note: the signed checkpoint.
        checkpoint: its parsed text.

    Attributes:
        note: the signed checkpoint.
        checkpoint: its parsed text.
    """

    def __init__(self, source: Source, note: Note, checkpoint: Checkpoint) -> None:
        self.note = note
        self.checkpoint = checkpoint
        self._source = source
        self._first = 0  # Number of the first bundle that is published.
        self._roots: list[bytes] = []  # Of the bundles that were read, in order.
        self._left: dict[int, bytes] = {}  # By level, hashes over what is gone in its first tile.
        self._minimum = 0  # As the entries state it.

    @property
    def size(self) -> int:
        """Leaves of the published tree."""
        return self.checkpoint.size

    @property
    def first_leaf(self) -> int:
        """Index of the first entry that is published; 0 unless the log was pruned."""
        return self._first * TILE_WIDTH

    def require_from(self, leaf: int) -> None:
        """Raise Pruned where the entries from an index on are not all published any more."""
        if leaf < self.first_leaf:
            what = f"entries {leaf} to {self.first_leaf - 1} are not published any more"
            raise Pruned(self._minimum, None, what)

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """Yield the entries from an index on, in the order of the log.

        Args:
            start: 0 or more; from `size` on there is nothing.

        Raises:
            BadPublication: a bundle is not what was verified. Nothing of it was handed out.
            Pruned: the log was pruned, and the first of them is gone.
            SourceMissing, SourceUnreachable: see `Source.read`.
        """
        self.require_from(start)
        first, skipped = divmod(start, TILE_WIDTH)
        for number in range(first, self._first + len(self._roots)):
            yield from self._bundle(number)[skipped:]
            skipped = 0

    def root(self, size: int) -> bytes:
        """Return the RFC 6962 root over the first `size` entries; at most one bundle is read.

        Raises:
            ValueError: the log has fewer.
            Pruned: the log was pruned beyond that.
            BadPublication, SourceMissing, SourceUnreachable: see `entries`.
        """
        if not 0 <= size <= self.size:
            raise ValueError(f"no {size} leaves in a published log of {self.size}")
        return merkle.root(size, hash_reader(self._tile))

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong about the published tiles, of which no entry depends.

        Raises:
            BadPublication, SourceMissing, SourceUnreachable: about an entry bundle; see `entries`.
        """
        level, hashes = 0, self.size
        while hashes:
            gone = self.first_leaf >> TILE_HEIGHT * level
            for number in range(gone // TILE_WIDTH, -(-hashes // TILE_WIDTH)):
                path = tile_path(level, number, min(TILE_WIDTH, hashes - number * TILE_WIDTH))
                try:
                    if self._source.read(path) != self._tile(level, number):
                        yield Fault(path, "is not the tile of the published entries")
                except SourceMissing:
                    yield Fault(path, "is missing")
            level, hashes = level + 1, hashes // TILE_WIDTH

    def _read_all(self) -> None:
        self._first = self._find_first()
        self._read_left()
        for number in range(self._first, -(-self.size // TILE_WIDTH)):
            entries = self._read_bundle(number)
            self._roots.append(_bundle_root(entries))
            self._minimum = max([self._minimum, *map(_minimum_in, entries)])
        if self.first_leaf > self._minimum:
            # Missing, and nobody decided that.
            raise SourceMissing(entries_path(self._first - 1))
        if not hmac.compare_digest(self.root(self.size), self.checkpoint.root):
            raise BadPublication(
                CHECKPOINT, f"has another root than the {self.size} entries published with it"
            )

    def _find_first(self) -> int:
        """Return the number of the first bundle that is there, in as few reads as that takes."""
        last = max(0, self.size - 1) // TILE_WIDTH
        if last == 0 or self._has_bundle(0):
            return 0
        gone = 0
        while last - gone > 1:
            middle = (gone + last) // 2
            if self._has_bundle(middle):
                last = middle
            else:
                gone = middle
        return last

    def _has_bundle(self, number: int) -> bool:
        try:
            self._read_bundle(number)
        except SourceMissing:
            return False
        return True

    def _read_left(self) -> None:
        """Read the hashes over what is gone, of which the tree below the first bundle is made."""
        level = 1
        while gone := self.first_leaf >> TILE_HEIGHT * level:
            number, width = divmod(gone, TILE_WIDTH)
            if width:
                path = tile_path(level, number, self._tile_width(level, number))
                try:
                    tile = self._source.read(path)
                except SourceMissing:
                    tile = self._source.read(path := tile_path(level, number))
                if len(tile) < width * HASH_SIZE:
                    raise BadPublication(path, f"holds {len(tile)} bytes")
                self._left[level] = tile[: width * HASH_SIZE]
            level += 1

    def _tile_width(self, level: int, number: int) -> int:
        return min(TILE_WIDTH, (self.size >> TILE_HEIGHT * level) - number * TILE_WIDTH)

    def _bundle(self, number: int) -> list[bytes]:
        entries = self._read_bundle(number)
        if not hmac.compare_digest(_bundle_root(entries), self._roots[number - self._first]):
            raise BadPublication(self._bundle_path(number), "changed after it was verified")
        return entries

    def _read_bundle(self, number: int) -> list[bytes]:
        """Return the entries of a bundle as the checkpoint has it; nothing else is verified."""
        path = self._bundle_path(number)
        width = min(TILE_WIDTH, self.size - number * TILE_WIDTH)
        try:
            data = self._source.read(path)
        except SourceMissing:
            # A partial bundle may be gone as soon as there is the full one.
            if width == TILE_WIDTH:
                raise
            data = self._source.read(path := entries_path(number))
        try:
            entries = parse_bundle(data)
        except Malformed as cause:
            raise BadPublication(path, f"is not an entry bundle: {cause}") from cause
        expected = width if path == self._bundle_path(number) else TILE_WIDTH
        if len(entries) != expected:
            raise BadPublication(path, f"holds {len(entries)} entries, not {expected}")
        return entries[:width]

    def _bundle_path(self, number: int) -> str:
        return entries_path(number, min(TILE_WIDTH, self.size - number * TILE_WIDTH))

    def _tile(self, level: int, number: int) -> bytes:
        """Return a tile of the published tree, worked out from the entries and what is left below.

        Raises:
            Pruned: all that it covers is gone.
        """
        start = number * TILE_WIDTH
        end = start + self._tile_width(level, number)
        gone = self.first_leaf >> TILE_HEIGHT * level
        if number < gone // TILE_WIDTH:
            raise Pruned(self._minimum, None, f"no tile {number} at level {level}")
        if level == 0:
            return b"".join(map(leaf_hash, self._bundle(number)))
        left, start = (self._left[level], gone) if start < gone else (b"", start)
        if level == 1:
            return left + b"".join(self._roots[start - self._first : end - self._first])
        below = range(start, end)
        return left + b"".join(tile_root(self._tile(level - 1, one)) for one in below)


def read_entries(source: Source, keys: LogKeys) -> PublishedLog:
    """Return a published log, once its signatures and all of its entries were verified.

    Args:
        source: of the published files.
        keys: of the log.

    Raises:
        Malformed: the checkpoint is no checkpoint.
        BadSignature: a key of its size did not sign it.
        BadPublication: a bundle is none, or the entries do not give the signed root.
        SourceMissing: there is no published log, or a bundle of it is missing that no prune took.
        SourceUnreachable: a file could not be read.
    """
    note = Note.parse(source.read(CHECKPOINT))
    published = PublishedLog(source, note, keys.verify(note))
    published._read_all()
    return published


def extend(connection: Connection, entries: Iterable[bytes]) -> int:
    """Append entries as leaves in exactly this order, and take each out of the waiting ones.

    The caller holds the writer lock and commits; the entries are taken in batches, so memory grows
    only with what waits.

    Returns:
        How many leaves were appended.

    Raises:
        Malformed: an entry that this version would not have written.
        Forked: see `ledger.integrator.append_leaves`.
    """
    waiting = _waiting(connection)
    source, total = iter(entries), 0
    while batch := list(islice(source, BATCH_ENTRIES)):
        for entry in batch:
            parse_entry(entry)
        append_leaves(connection, batch)
        done = [waiting[entry].popleft() for entry in batch if waiting.get(entry)]
        run_many(connection, "DELETE FROM ledger_pending WHERE id = ?", [(one,) for one in done])
        total += len(batch)
    return total


def replay_onto(connection: Connection, published: PublishedLog, now: int) -> int:
    """Bring a database that is behind a published log to that log's tree.

    The caller holds the writer lock and commits, and rolls back when this raises. A database that
    has all of the published entries, and perhaps more, gets the signed note and nothing else.

    Args:
        connection: with a transaction open.
        published: the verified log.
        now: Unix seconds, UTC, kept as the time of the stored checkpoint.

    Returns:
        How many leaves were appended.

    Raises:
        Forked: the database is of another log, or holds another history than the published one.
        Pruned: entries that the database lacks are not published any more.
        Malformed: a published entry that this version does not know.
        BadPublication, SourceMissing, SourceUnreachable: see `PublishedLog.entries`.
    """
    log = Log(connection)
    head = log.head()
    published.require_from(min(head.size, published.size))
    _require_prefix(log, head, published)
    added = extend(connection, published.entries(head.size)) if head.size < published.size else 0
    if added:
        head = log.head()
        if head.checkpoint() != published.checkpoint:
            raise Forked(published.size)
    store_checkpoint(log, published.note, published.checkpoint, now)
    return added


def _require_prefix(log: Log, head: Head, published: PublishedLog) -> None:
    """Raise unless the smaller of the two trees is a prefix of the other."""
    shared = min(head.size, published.size)
    try:
        stored, whole = log.root(shared), log.root(head.size)
    except (UnknownLeaf, Malformed) as cause:
        raise Forked(published.size) from cause
    if (
        head.origin != published.checkpoint.origin
        or not hmac.compare_digest(stored, published.root(shared))
        or not hmac.compare_digest(whole, head.root)
    ):
        raise Forked(published.size)
    # Two roots can both fit forged tiles where they read different ones; a proof ties them.
    proof = log.consistency_proof(shared, head.size)
    try:
        merkle.verify_consistency(shared, stored, head.size, whole, proof)
    except BadProof as cause:
        raise Forked(published.size) from cause


def _waiting(connection: Connection) -> dict[bytes, deque[int]]:
    """Return the numbers of the waiting rows by what they hold, the oldest first."""
    found: dict[bytes, deque[int]] = defaultdict(deque)
    for number, entry in connection.exec_driver_sql(
        "SELECT id, entry FROM ledger_pending ORDER BY id"
    ):
        found[bytes(entry)].append(number)
    return found


def _minimum_in(entry: bytes) -> int:
    """Return the minimum index that an entry states; 0 for all but a prune."""
    if entry[1:4] != _PRUNE:
        return 0
    try:
        action, _ = parse_body(ActionKind.PRUNE, parse_entry(entry).body)
    except Malformed:
        return 0  # Refused where it is appended.
    return action.minimum if isinstance(action, Prune) else 0


def _bundle_root(entries: list[bytes]) -> bytes:
    hashes = b"".join(map(leaf_hash, entries))
    if len(entries) == TILE_WIDTH:
        return tile_root(hashes)
    return merkle.root(len(entries), hash_reader(lambda level, number: hashes))
