"""Publishing: the log as files that any web server or bucket can serve.

Implements the layout of C2SP tlog-tiles ("Parameters", "Merkle Tree", "Log entries"):

    checkpoint                            the newest signed checkpoint, a note
    tile/<level>/<index>[.p/<width>]      hashes of 32 bytes, 256 of them or <width>
    tile/entries/<index>[.p/<width>]      entries, each behind its length as two bytes, big-endian

Example, a log of 70,000 leaves, of which the last tile at level 0 and the last bundle have 112, and
the tiles at levels 1 and 2 have 17 and 1:

    checkpoint
    tile/0/000 … tile/0/272   tile/0/273.p/112   tile/1/000   tile/1/001.p/17   tile/2/000.p/1
    tile/entries/000 … tile/entries/272          tile/entries/273.p/112

Nothing is published that the newest signed checkpoint does not cover, also when the database holds
more. A file never changes: writing one anew succeeds only if it is identical, so a second export
writes what is new and compares the rest. What is new is checked on the way against the signed root,
from that down to the leaf hashes of the entries, so a damaged database publishes nothing new.

    1 lock the folder; the published checkpoint must be of this log, and this log must extend it
    2 the stored tiles lead to the signed root
    3 tiles from the highest level down, then bundles, each to a temporary name, fsync, rename
    4 fsync the folders
    5 the checkpoint, in the same way: only now a reader asks for what is new
    6 partial files of what has become full are removed, which C2SP allows

A crash leaves files that no checkpoint speaks of yet, and the next run finds them identical. Tested
in tests/ledger/test_publish.py.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.errors import (
    BadPublication,
    Forked,
    Malformed,
    NotSigned,
    RolledBack,
    SourceMissing,
    UnknownLeaf,
)
from ledger.files import flush
from ledger.log import Log
from ledger.merkle import HASH_SIZE, leaf_hash
from ledger.note import Note
from ledger.source import CHECKPOINT, FolderSource
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
        kept: files that were there already, and identical.
        removed: partial files that a full one has replaced.
    """

    size: int
    written: int
    kept: int
    removed: int


def export(log: Log, folder: Path) -> ExportReport:
    """Publish the log as far as its newest signed checkpoint goes.

    Every file that the checkpoint covers is read and compared, so the time grows with the log: a
    million leaves are 8,000 files and 100 MB.

    Args:
        log: on a connection with a read transaction open.
        folder: is made if it is missing.

    Raises:
        NotSigned: nothing was signed yet.
        RolledBack: a larger tree of this log is published already.
        Forked: another log or another history is published there, or the stored tiles do not lead
            to the signed root.
        Malformed: the published checkpoint is no checkpoint.
        BadPublication: a published file has other bytes, or one to be published is damaged in the
            database. What was written before it stays; the published checkpoint does not cover it.
    """
    note = log.latest_checkpoint()
    if note is None:
        raise NotSigned("the log has no signed checkpoint to publish")
    signed = Checkpoint.parse(note.text)
    folder.mkdir(parents=True, exist_ok=True)
    # 1
    with _locked(folder):
        _require_extended(log, folder, signed)
        # 2
        if not hmac.compare_digest(_stored_root(log, signed.size), signed.root):
            raise Forked(signed.size)
        # 3 to 6
        return _Export(log, folder, signed.size).run(note)


class _Export:
    """One export of one tree size into one folder."""

    def __init__(self, log: Log, folder: Path, size: int) -> None:
        self._log = log
        self._folder = folder
        self._size = size
        self._written = 0
        self._kept = 0
        self._touched: set[Path] = set()
        self._outgrown: list[Path] = []

    def run(self, note: Note) -> ExportReport:
        # 3
        levels = max(0, self._size.bit_length() - 1) // TILE_HEIGHT + 1
        for level in reversed(range(levels)):
            for number, width in _places(self._size >> TILE_HEIGHT * level):
                self._tile(level, number, width)
        for number, width in _places(self._size):
            self._bundle(number, width)
        # 4
        for touched in sorted(self._touched, reverse=True):
            flush(touched)
        # 5
        self._replace_checkpoint(note)
        # 6
        removed = sum(map(_remove_partials, self._outgrown))
        return ExportReport(self._size, self._written, self._kept, removed)

    def _tile(self, level: int, number: int, width: int) -> None:
        with _naming(path := tile_path(level, number, width)):
            hashes = self._hashes(level, number, width)
            is_new = self._is_new(path, hashes)
            # A partial tile is checked by the root; a full one is one hash of the tile above.
            if is_new and width == TILE_WIDTH:
                above, place = divmod(number, TILE_WIDTH)
                if self._hashes(level + 1, above, place + 1)[-HASH_SIZE:] != tile_root(hashes):
                    raise BadPublication(path, _NOT_COVERED)
        self._put(path, hashes, is_new)

    def _bundle(self, number: int, width: int) -> None:
        with _naming(path := entries_path(number, width)):
            entries = self._log.bundle(number)[:width]
            data = encode_bundle(entries)
            is_new = self._is_new(path, data)
            if is_new and b"".join(map(leaf_hash, entries)) != self._hashes(0, number, width):
                raise BadPublication(path, _NOT_COVERED)
        self._put(path, data, is_new)

    def _hashes(self, level: int, number: int, width: int) -> bytes:
        """Return the first hashes of a tile; the stored one may be wider than the checkpoint's."""
        hashes = self._log.tile(level, number)[: width * HASH_SIZE]
        if len(hashes) != width * HASH_SIZE:
            raise Malformed(f"tile {level}/{number} holds fewer than {width} hashes")
        return hashes

    def _is_new(self, path: str, data: bytes) -> bool:
        """Tell whether a file is not there yet.

        Raises:
            BadPublication: it is, with other bytes.
        """
        try:
            if FolderSource(self._folder).read(path) != data:
                raise BadPublication(path, "is there already, with other bytes")
        except SourceMissing:
            return True
        return False

    def _put(self, path: str, data: bytes, is_new: bool) -> None:
        target = self._folder / path
        if is_new:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(target, data)
            self._written += 1
        else:
            self._kept += 1
        # Also for a file that was there: a crash may have come before its folder was flushed.
        self._touched.update(self._folder / one for one in Path(path).parents)
        if (partials := target.with_name(f"{target.name}.p")).is_dir():
            self._outgrown.append(partials)

    def _replace_checkpoint(self, note: Note) -> None:
        target, data = self._folder / CHECKPOINT, note.format().encode()
        if target.is_file() and target.read_bytes() == data:
            self._kept += 1
            return
        _write_durably(target, data)
        flush(self._folder)
        self._written += 1


def _require_extended(log: Log, folder: Path, signed: Checkpoint) -> None:
    """Raise unless what is published is nothing, or a tree that this log extends."""
    try:
        data = FolderSource(folder).read(CHECKPOINT)
    except SourceMissing:
        return
    published = Checkpoint.parse(Note.parse(data).text)
    if published.origin != signed.origin:
        raise Forked(published.size)
    if published.size > signed.size:
        raise RolledBack(published.size, signed.size)
    if not hmac.compare_digest(_stored_root(log, published.size), published.root):
        raise Forked(published.size)


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


def _places(hashes: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the width of each tile or bundle of a level."""
    full, rest = divmod(hashes, TILE_WIDTH)
    yield from ((number, TILE_WIDTH) for number in range(full))
    if rest:
        yield full, rest


def _write_durably(target: Path, data: bytes) -> None:
    temporary = target.with_name(f"{target.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def _remove_partials(folder: Path) -> int:
    count = sum(1 for _ in folder.iterdir())
    shutil.rmtree(folder)
    return count


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against every other export; no file stands for the lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
