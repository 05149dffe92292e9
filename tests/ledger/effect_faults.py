"""Faults at everything that leaves a trace outside this process, found by counting.

Watched are the writes to files below one folder or to descriptors, fsync, the calls by which names
come, move and go (`os.replace`, `mkdir`, `unlink`, `rmdir`), and the commits of databases. Nothing
lists these places: a write that is new is counted as the others are. At one of them, by its number,
one of these happens:

    NOT_DONE     it fails and has had no effect: what follows may go on, or clean up
    DONE         it has its effect and is reported as failed
    KILLED       it has no effect, and neither has anything that follows: the process is gone
    KILLED_DONE  it has its effect, and nothing that follows has
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import pytest
from sqlalchemy.engine.default import DefaultDialect

_NAMES = ("replace", "rename", "mkdir", "unlink", "remove", "rmdir")


class Kind(Enum):
    """What happens at the place."""

    NOT_DONE = "not persisted"
    DONE = "persisted but reported failed"
    KILLED = "killed before it"
    KILLED_DONE = "killed after it"


class Failed(OSError):
    """The error that the system reports."""


class Killed(BaseException):
    """Nothing of this process has an effect any more."""


class Effects:
    """Counts effects below a folder, and fails at one of them.

    Attributes:
        places: operation and name of each effect, in their order.
        struck: whether the fault came.
    """

    def __init__(self, folder: Path, number: int = -1, kind: Kind = Kind.NOT_DONE) -> None:
        self._folder = str(folder)
        self._number = number
        self._kind = kind
        self._operation = "none"
        self._dead = False
        self.struck = False
        self.places: list[tuple[str, str]] = []

    def begin(self, operation: str) -> None:
        """Say which operation follows."""
        self._operation = operation

    @contextmanager
    def watching(self) -> Iterator[Effects]:
        """Watch this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _NAMES:
                patch.setattr(os, name, self._of(name, getattr(os, name), self._is_ours))
            for name in ("fsync", "write", "pwrite"):
                patch.setattr(os, name, self._of(name, getattr(os, name), lambda *_: True))
            commit = DefaultDialect.do_commit
            patch.setattr(DefaultDialect, "do_commit", self._of("commit", commit, lambda *_: True))
            opened = self._open(io.open)
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            yield self

    def _is_ours(self, path: object, *_: object, **named: object) -> bool:
        # With `dir_fd` a path is below a folder that was looked up before.
        return "dir_fd" in named or os.fspath(path).startswith(self._folder)

    def _of(self, name: str, real: Callable, is_ours: Callable[..., bool]) -> Callable:
        def watched(*arguments, **named):
            if not is_ours(*arguments, **named):
                return real(*arguments, **named)
            return self._do(name, lambda: real(*arguments, **named))

        return watched

    def _do(self, name: str, real: Callable[[], object]) -> object:
        if self._dead:
            raise Killed
        self.places.append((self._operation, name))
        if len(self.places) - 1 != self._number:
            return real()
        self.struck = True
        self._dead = self._kind in (Kind.KILLED, Kind.KILLED_DONE)
        if self._kind in (Kind.DONE, Kind.KILLED_DONE):
            real()
        if self._dead:
            raise Killed
        raise Failed(5, "an injected failure")

    def _open(self, real: Callable) -> Callable:
        def opened(file, mode="r", *arguments, **named):
            found = real(file, mode, *arguments, **named)
            ours = isinstance(file, int) or str(file).startswith(self._folder)
            return _Written(found, self._do) if ours and set(mode) & set("wax+") else found

        return opened


class _Written:
    """A file whose writes are effects: whole, since what is cut off comes of the next one."""

    def __init__(self, file, do: Callable[[str, Callable[[], object]], object]) -> None:
        self._file = file
        self._do = do

    def write(self, data):
        def written() -> int:
            count = self._file.write(data)
            self._file.flush()
            return count

        return self._do("write", written)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self._file, name)
