"""Destinations: where a log is published. A folder here; a bucket in ledger/net/bucket.py.

A destination takes files by the paths of ledger/tiles.py and one `checkpoint`. Three things hold of
each, whatever it is made of, and ledger/publish.py builds on them:

- a file is written whole or not at all, and over a file that is there never with other bytes;
- after `settle`, all that was put is there and stays there through a loss of power;
- the checkpoint is replaced only if it still is what was read, or under a lock that keeps it so.

In a folder each file goes to a temporary name, then fsync, then rename, and `settle` flushes the
folders. The folder itself is locked (flock), so that no file stands for the lock. Tested in
tests/ledger/test_publish.py.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ledger.errors import BadPublication, Malformed, SourceMissing
from ledger.files import flush
from ledger.source import CHECKPOINT, FolderSource
from ledger.tiles import is_pruned, parse_path

_TEMPORARY = ".new"


class Settled(NamedTuple):
    """What became of the files that were put.

    Attributes:
        written: files that are new.
        kept: files that were there, and identical.
    """

    written: int
    kept: int


class Destination(Protocol):
    """Takes the files of one published log. Every method but `held` is called while it is held."""

    def held(self) -> AbstractContextManager[None]:
        """Keep other exports out, as far as the destination can."""
        ...

    def read_checkpoint(self) -> bytes | None:
        """Return the checkpoint that is published, or None.

        Raises:
            SourceUnreachable: it could not be read.
            BadPublication: it is larger than a checkpoint can be.
        """
        ...

    def unread(self, published: int) -> int:
        """Return up to which tree size files are taken to be there without a look at them.

        Args:
            published: leaves under the checkpoint that is published.
        """
        ...

    def lacks(self, path: str, data: bytes) -> bool:
        """Tell whether a file may have to be written; False only if it is there and identical.

        Raises:
            BadPublication: it is there with other bytes.
            SourceUnreachable: it could not be read.
        """
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file unless it is there; what goes wrong may be raised by `settle`.

        Raises:
            BadPublication: it is there with other bytes.
            DestinationUnreachable: it could not be written.
        """
        ...

    def settle(self) -> Settled:
        """Return once all files are there to stay. Raises what `put` does."""
        ...

    def replace_checkpoint(self, data: bytes) -> None:
        """Write the checkpoint over the one that `read_checkpoint` returned.

        Raises:
            PublicationMoved: another one is there by now.
            DestinationUnreachable: it could not be written.
        """
        ...

    def remove_partials(self, path: str) -> int:
        """Remove the partial files of a full one, and return how many there were."""
        ...

    def remove_pruned(self, minimum: int) -> int:
        """Remove the files that `ledger.tiles.is_pruned` tells, and return how many there were."""
        ...


class FolderDestination:
    """A folder of this machine.

    Args:
        folder: is made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source = FolderSource(folder)
        self._touched: set[Path] = set()
        self._written = 0
        self._kept = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder against every other export; see `Destination.held`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read_checkpoint(self) -> bytes | None:
        """Return what is published; see `Destination.read_checkpoint`."""
        try:
            return self._source.read(CHECKPOINT)
        except SourceMissing:
            return None

    def unread(self, published: int) -> int:
        """Return 0: reading a folder is cheap, so every file is compared at each export."""
        return 0

    def lacks(self, path: str, data: bytes) -> bool:
        """Compare a file; see `Destination.lacks`."""
        try:
            if self._source.read(path) != data:
                raise BadPublication(path, "is there already, with other bytes")
        except SourceMissing:
            return True
        self._kept += 1
        self._touch(path)
        return False

    def put(self, path: str, data: bytes) -> None:
        """Write a file; see `Destination.put`."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(target, data)
        self._written += 1
        self._touch(path)

    def settle(self) -> Settled:
        """Flush the folders of all files; see `Destination.settle`."""
        for touched in sorted(self._touched, reverse=True):
            flush(touched)
        return Settled(self._written, self._kept)

    def replace_checkpoint(self, data: bytes) -> None:
        """Replace it under the lock; see `Destination.replace_checkpoint`."""
        _write_durably(self._folder / CHECKPOINT, data)
        flush(self._folder)

    def remove_partials(self, path: str) -> int:
        """Remove the folder of partial files; see `Destination.remove_partials`."""
        partials = self._folder / f"{path}.p"
        if not partials.is_dir():
            return 0
        return _remove_files(list(partials.iterdir()))

    def remove_pruned(self, minimum: int) -> int:
        """Remove files below an index; see `Destination.remove_pruned`."""
        return _remove_files(
            [
                file
                for file in (self._folder / "tile").rglob("*")
                if file.is_file() and self._is_pruned(file, minimum)
            ]
        )

    def _is_pruned(self, file: Path, minimum: int) -> bool:
        # A temporary file that a crash left holds what its final one would have held.
        path = str(file.relative_to(self._folder)).removesuffix(_TEMPORARY)
        try:
            return is_pruned(parse_path(path), minimum)
        except Malformed:
            return False

    def _touch(self, path: str) -> None:
        # Also for a file that was there: a crash may have come before its folder was flushed.
        self._touched.update(self._folder / one for one in Path(path).parents)


def _remove_files(files: list[Path]) -> int:
    """Remove files, and the folders that are empty after it."""
    for file in files:
        file.unlink()
    for folder in {file.parent for file in files}:
        flush(folder)
        # It may have been removed by another name, or hold what is not ours to remove.
        with suppress(OSError):
            folder.rmdir()
    return len(files)


def _write_durably(target: Path, data: bytes) -> None:
    temporary = target.with_name(f"{target.name}{_TEMPORARY}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
