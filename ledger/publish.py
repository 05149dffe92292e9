"""Publishing: the log as files that any web server or bucket can serve.

Implements the layout of C2SP tlog-tiles ("Parameters", "Merkle Tree", "Log entries", "Pruning"):

    checkpoint                            the newest signed checkpoint, a note
    tile/<level>/<index>[.p/<width>]      hashes of 32 bytes, 256 of them or <width>
    tile/entries/<index>[.p/<width>]      entries, each behind its length as two bytes, big-endian

Example, a log of 70,000 leaves, of which the last tile at level 0 and the last bundle have 112, and
the tiles at levels 1 and 2 have 17 and 1:

    checkpoint
    tile/0/000 … tile/0/272   tile/0/273.p/112   tile/1/000   tile/1/001.p/17   tile/2/000.p/1
    tile/entries/000 … tile/entries/272          tile/entries/273.p/112

Nothing is published that the newest signed checkpoint does not cover, also when the database holds
more. A file never changes: writing one anew succeeds only if it is identical. The checkpoint alone
is replaced, by one of a larger tree, or under the same text by one that brings a signature which is
not there yet, since cosignatures of witnesses come later. What is new is checked on the way against
the signed root, from that down to the leaf hashes of the entries, so a damaged database publishes
nothing new.

    1 hold the destination; the published checkpoint must be of this log, and this log extend it
    2 the stored tiles lead to the signed root
    3 tiles from the highest level down, then bundles, each whole or not at all
    4 settle: all of them are there to stay
    5 the checkpoint: only now a reader asks for what is new
    6 partial files of what has become full are removed, which C2SP allows, and what is pruned

A crash leaves files that no checkpoint speaks of yet, and the next run finds them identical. How a
file gets to a folder or a bucket is in ledger/destination.py and ledger/net/bucket.py. Tested in
tests/ledger/test_publish.py.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey
from ledger.destination import Destination
from ledger.errors import BadPublication, Forked, Malformed, NotSigned, RolledBack, UnknownLeaf
from ledger.log import Log
from ledger.merkle import HASH_SIZE, leaf_hash
from ledger.note import Note
from ledger.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    encode_bundle,
    entries_path,
    tile_path,
    tile_root,
)

_NOT_COVERED = "is, in the database, not what the signed checkpoint covers"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        size: leaves of the published tree.
        written: files that are new, the checkpoint among them.
        kept: files that were there already: compared and identical, or taken to be there.
        removed: partial files that a full one has replaced, and files that are pruned.
    """

    size: int
    written: int
    kept: int
    removed: int


def export(
    log: Log, destination: Destination, minimum: int = 0, witnesses: Sequence[CosignerKey] = ()
) -> ExportReport:
    """Publish the log as far as its newest signed checkpoint goes.

    Into a folder every file that the checkpoint covers is read and compared, so the time grows with
    the log: a million leaves are 8,000 files and 100 MB. Into a bucket the time grows with what is
    new since the checkpoint that is published there.

    Args:
        log: on a connection with a read transaction open.
        destination: where to.
        minimum: the log's minimum index, 0 <= minimum <= size of its newest checkpoint; tiles and
            bundles that end at or below it are neither read nor written, and removed last.
        witnesses: whose cosignatures the published checkpoint carries, in this order.

    Raises:
        NotSigned: nothing was signed yet.
        RolledBack: a larger tree of this log is published already.
        Forked: another log or another history is published there, or the stored tiles do not lead
            to the signed root.
        Malformed: the published checkpoint is no checkpoint.
        BadPublication: a published file has other bytes, or one to be published is damaged in the
            database. What was written before it stays; the published checkpoint does not cover it.
        PublicationMoved: another export came between; nothing is wrong, and nothing was taken back.
        SourceUnreachable, DestinationUnreachable: the destination does not answer.
        ValueError: the minimum is out of range.
    """
    note = log.latest_checkpoint(witnesses)
    if note is None:
        raise NotSigned("the log has no signed checkpoint to publish")
    signed = Checkpoint.parse(note.text)
    if not 0 <= minimum <= signed.size:
        raise ValueError(f"minimum index {minimum} is not in [0, {signed.size}]")
    # 1
    with destination.held():
        published = _published(destination)
        size = _require_extended(log, published, signed, minimum)
        # 2
        if not hmac.compare_digest(_stored_root(log, signed.size), signed.root):
            raise Forked(signed.size)
        # 3 to 6
        unread = destination.unread(size)
        return _Export(log, destination, signed.size, minimum, unread).run(note, published)


class _Export:
    """One export of one tree size to one destination.

    Args:
        log: as `export` takes it.
        destination: held.
        size: leaves of the tree.
        minimum: as `export` takes it.
        unread: leaves of the tree whose files are taken to be there.
    """

    def __init__(
        self, log: Log, destination: Destination, size: int, minimum: int, unread: int
    ) -> None:
        self._log = log
        self._destination = destination
        self._size = size
        self._minimum = minimum
        self._unread = unread

    def run(self, note: Note, published: Note | None) -> ExportReport:
        # 3
        levels = range(max(0, self._size.bit_length() - 1) // TILE_HEIGHT + 1)
        for level in reversed(levels):
            for number, width in self._places(level):
                self._tile(level, number, width)
        for number, width in self._places(0):
            self._bundle(number, width)
        # 4
        written, kept = self._destination.settle()
        kept += self._skipped(0) + sum(map(self._skipped, levels))
        # 5
        if _says_as_much(published, note):
            kept += 1
        else:
            self._destination.replace_checkpoint(note.format().encode())
            written += 1
        # 6
        removed = sum(map(self._destination.remove_partials, self._full_paths(levels)))
        if self._minimum:
            removed += self._destination.remove_pruned(self._minimum)
        return ExportReport(self._size, written, kept, removed)

    def _places(self, level: int) -> Iterator[tuple[int, int]]:
        """Yield number and width of each tile of a level, or bundle, that is to be looked at."""
        full, rest = divmod(self._size >> TILE_HEIGHT * level, TILE_WIDTH)
        pruned = self._minimum >> TILE_HEIGHT * (level + 1)
        there = self._unread >> TILE_HEIGHT * (level + 1)
        yield from ((number, TILE_WIDTH) for number in range(max(pruned, there), full))
        if rest and not self._is_there(level, full, rest):
            yield full, rest

    def _skipped(self, level: int) -> int:
        """Return how many files of a level are taken to be there."""
        full, rest = divmod(self._size >> TILE_HEIGHT * level, TILE_WIDTH)
        pruned = self._minimum >> TILE_HEIGHT * (level + 1)
        there = self._unread >> TILE_HEIGHT * (level + 1)
        return max(0, there - pruned) + (rest > 0 and self._is_there(level, full, rest))

    def _is_there(self, level: int, number: int, width: int) -> bool:
        """Tell whether the tree that is published ends its level on this very partial file."""
        return (number, width) == divmod(self._unread >> TILE_HEIGHT * level, TILE_WIDTH)

    def _full_paths(self, levels: range) -> Iterator[str]:
        for level in levels:
            full = [number for number, width in self._places(level) if width == TILE_WIDTH]
            yield from (tile_path(level, number) for number in full)
            if level == 0:
                yield from map(entries_path, full)

    def _tile(self, level: int, number: int, width: int) -> None:
        with _naming(path := tile_path(level, number, width)):
            hashes = self._hashes(level, number, width)
            is_new = self._destination.lacks(path, hashes)
            # A partial tile is checked by the root; a full one is one hash of the tile above.
            if is_new and width == TILE_WIDTH:
                above, place = divmod(number, TILE_WIDTH)
                if self._hashes(level + 1, above, place + 1)[-HASH_SIZE:] != tile_root(hashes):
                    raise BadPublication(path, _NOT_COVERED)
        if is_new:
            self._destination.put(path, hashes)

    def _bundle(self, number: int, width: int) -> None:
        with _naming(path := entries_path(number, width)):
            entries = self._log.bundle(number)[:width]
            data = encode_bundle(entries)
            is_new = self._destination.lacks(path, data)
            if is_new and b"".join(map(leaf_hash, entries)) != self._hashes(0, number, width):
                raise BadPublication(path, _NOT_COVERED)
        if is_new:
            self._destination.put(path, data)

    def _hashes(self, level: int, number: int, width: int) -> bytes:
        """Return the first hashes of a tile; the stored one may be wider than the checkpoint's."""
        hashes = self._log.tile(level, number)[: width * HASH_SIZE]
        if len(hashes) != width * HASH_SIZE:
            raise Malformed(f"tile {level}/{number} holds fewer than {width} hashes")
        return hashes


def _published(destination: Destination) -> Note | None:
    data = destination.read_checkpoint()
    return None if data is None else Note.parse(data)


def _require_extended(log: Log, note: Note | None, signed: Checkpoint, minimum: int) -> int:
    """Raise unless what is published is nothing, or a tree that this log extends.

    Returns:
        How many leaves are published.
    """
    if note is None:
        return 0
    published = Checkpoint.parse(note.text)
    if published.origin != signed.origin:
        raise Forked(published.size)
    if published.size > signed.size:
        raise RolledBack(published.size, signed.size)
    if published.size < minimum:
        # The tiles that give this root may be pruned; then the log must have signed this very text.
        if not any(Note.parse(one.encode()).text == note.text for _, one in log.checkpoints()):
            raise Forked(published.size)
    elif not hmac.compare_digest(_stored_root(log, published.size), published.root):
        raise Forked(published.size)
    return published.size


def _says_as_much(published: Note | None, note: Note) -> bool:
    """Tell whether what is published has the text and every signature of a note, or more."""
    return (
        published is not None
        and published.text == note.text
        and set(note.signatures) <= set(published.signatures)
    )


def _stored_root(log: Log, size: int) -> bytes:
    try:
        return log.root(size)
    except (UnknownLeaf, Malformed) as cause:
        raise Forked(size) from cause


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Name the file for which the database holds too little."""
    try:
        yield
    except (UnknownLeaf, Malformed) as cause:
        raise BadPublication(path, _NOT_COVERED) from cause
