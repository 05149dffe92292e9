"""Leases: how a process that closes an epoch learns what the others still keep in memory.

A process that has a vault open may hold the epoch key of a generation in memory. Before a root key
is destroyed, each must have said that it has let go of the older generations, or its lease must
have run out. A lease is a file in the vault's folder `leases/`, 44 bytes that are written at once:

    "DKL1" || process, 8 bytes || generation of the ordinary tree, 8 || of the permanent tree, 8
    || end of the lease on the ordinary tree, 8 || on the permanent tree, 8

with integers big-endian and ends in milliseconds of CLOCK_BOOTTIME.

While the process lives it holds an exclusive lock on the file, which the operating system lets go
when the process ends, however it ends: so a killed process keeps nobody waiting. A living one is
waited for until it has acknowledged the new generation, which it does with its next operation, or
until its lease is over: from then on it forgets all that it has cached before it does anything. A
lease begins before the first reading, with 0 as its generations: that may be anything.
Tested in tests/vault/test_leases.py.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vault.errors import Busy
from vault.rootkeys.provider import TreeNumber

FOLDER = Path("leases")
LEASE_SECONDS = 30.0
_MAGIC = b"DKL1"
_FORMAT = struct.Struct(">4sQQQQQ")


def now() -> float:
    """Return seconds that all processes of this machine share and nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Holder:
    """A living process.

    Attributes:
        process: its number.
        generations: acknowledged, by tree.
        ends: of its lease, by tree; seconds as `now` gives them.
    """

    process: int
    generations: tuple[int, ...]
    ends: tuple[float, ...]

    def is_behind(self, tree: TreeNumber, generation: int) -> bool:
        """Tell whether it may still use something of a tree from before a generation."""
        return self.generations[tree] < generation and now() < self.ends[tree]


class Lease:
    """The lease of one open vault.

    Args:
        folder: of the vault.
        seconds: how long it lasts without being renewed.

    Raises:
        Busy: it cannot be written.
    """

    def __init__(self, folder: Path, seconds: float = LEASE_SECONDS) -> None:
        self._path = folder / FOLDER / os.urandom(16).hex()
        self._seconds = seconds
        self._lock = threading.Lock()
        # Before anything is read: as long as it says 0, this process may be reading anything.
        self._generations = [0 for _ in TreeNumber]
        self._ends = [now() + seconds for _ in TreeNumber]
        self._file: BinaryIO | None = None
        with self._writing():
            (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
            self._file = self._open()

    def acknowledge(self, tree: TreeNumber, generation: int) -> None:
        """Say that nothing older than a generation of a tree is kept; renews the lease if due.

        The caller has read the generation from the database, and dropped what is older.

        Raises:
            Busy: it cannot be written; then the lease ends when it would have ended.
        """
        with self._lock:
            known = self._generations[tree]
            if generation <= known and not self.is_due(tree):
                return
            generations, ends = list(self._generations), list(self._ends)
            generations[tree] = max(generation, known)
            ends[tree] = now() + self._seconds
            # Written first: this process may not take what the others have not been told.
            if self._file is not None:
                with self._writing():
                    self._write(self._file, generations, ends)
            self._generations, self._ends = generations, ends

    def is_due(self, tree: TreeNumber) -> bool:
        """Tell whether a tree's generation is to be read again, which renews the lease."""
        return now() >= self._ends[tree] - self._seconds / 2

    def is_over(self, tree: TreeNumber) -> bool:
        """Tell whether what is cached of a tree may not be used before its generation is read."""
        return now() >= self._ends[tree]

    def end(self) -> None:
        """Give the lease back."""
        with self._lock:
            if self._file is not None:
                self._path.unlink(missing_ok=True)
                self._file.close()
                self._file = None

    def _open(self) -> BinaryIO:
        # Locked under another name, so that nobody meets an unlocked lease and sweeps it away.
        unnamed = self._path.with_suffix(".new")
        file = unnamed.open("xb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._write(file, self._generations, self._ends)
            unnamed.rename(self._path)
        except BaseException:
            unnamed.unlink(missing_ok=True)
            file.close()
            raise
        return file

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Busy(f"{self._path.parent} cannot be written: {error.strerror}") from None

    def _write(self, file: BinaryIO, generations: list[int], ends: list[float]) -> None:
        # Rounded up: it must not be over for the others while this process still takes it to last.
        milliseconds = (math.ceil(end * 1000) for end in ends)
        record = _FORMAT.pack(_MAGIC, os.getpid(), *generations, *milliseconds)
        os.pwrite(file.fileno(), record, 0)


def holders(folder: Path, *, but: Lease | None = None) -> Iterator[Holder]:
    """Yield the living leases of a vault, and sweep away the dead ones.

    Args:
        folder: of the vault.
        but: the caller's own.
    """
    for path in sorted((folder / FOLDER).glob("*")):
        # One that still bears another name is not held yet: its process has read nothing.
        if path.suffix == ".new" or (but is not None and path == but._path):
            continue
        holder = _holder(path)
        if holder is not None:
            yield holder


def _holder(path: Path) -> Holder | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file.read(_FORMAT.size))
        path.unlink(missing_ok=True)
        return None


def _read(record: bytes) -> Holder | None:
    if len(record) < _FORMAT.size or record[: len(_MAGIC)] != _MAGIC:
        return None  # Not one of ours.
    _, process, *numbers = _FORMAT.unpack(record)
    generations, ends = numbers[: len(TreeNumber)], numbers[len(TreeNumber) :]
    return Holder(process, tuple(generations), tuple(end / 1000 for end in ends))
