"""What the monitor's tests follow: logs as files in memory, honest ones and others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from ledger_fixtures import ORIGIN, log_keys
from nacl.signing import SigningKey
from published_logs import MemorySource, memory_log

from ledger.action import RULED, Action, Found, Member, Role
from ledger.approval import approve
from ledger.entry import encode_governance
from ledger.governance import DEFAULT_RULES
from ledger.monitor import Monitor, Watcher
from ledger.monitorstate import MonitorState
from ledger.note import Note, verify
from ledger.tiles import is_pruned, parse_path

NOW = 1_790_000_000


class Trusted:
    """What is trusted about the log of the tests, without a trust file."""

    origin = ORIGIN

    def __init__(self, founding: bytes | None = None, closings=(), lacking=None) -> None:
        self.founding = founding
        self.closings = tuple(closings)
        self._lacking = lacking

    def verify(self, note: Note):
        return log_keys().verify(note)

    def verify_any(self, note: Note):
        verify(note, log_keys().keys[0].key)
        return log_keys().verify(note)

    def lacking(self, note: Note) -> str | None:
        return self._lacking


class Watched:
    """A source and a folder in which one monitor after another follows it."""

    def __init__(self, folder: Path, source, trusted: Trusted | None = None, watchers=()) -> None:
        self.folder = folder
        self.source = source
        self.trusted = trusted or Trusted()
        self.watchers: Sequence[Watcher] = watchers

    def round(self):
        """One round by a monitor that was just started."""
        with MonitorState(self.folder, ORIGIN) as state:
            return Monitor(self.source, self.trusted, state, self.folder, self.watchers).round(NOW)

    @property
    def kept(self) -> tuple[Note | None, int]:
        with MonitorState(self.folder, ORIGIN) as state:
            return state.note, state.judged

    def evidence(self) -> dict[str, bytes]:
        """The files of the one folder of evidence."""
        (folder,) = self.folder.glob("evidence-*")
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def publish_onto(source: MemorySource, entries: list[bytes]) -> None:
    """Publish a longer log; files of smaller sizes stay."""
    source.files.update(memory_log(entries).files)


def prune(source: MemorySource, minimum: int) -> int:
    """Remove what C2SP pruning lets go, and return how many files."""
    gone = [
        path
        for path in source.files
        if path != "checkpoint" and is_pruned(parse_path(path), minimum)
    ]
    for path in gone:
        del source.files[path]
    return len(gone)


class Members:
    """A founded ledger's members, and the entries by which they act."""

    def __init__(self) -> None:
        roles = (Role.OPERATOR, Role.OFFICER, Role.ARCHIVIST)
        seeds = [hashlib.sha256(b"member %d" % role).digest() for role in roles]
        self.keys = [SigningKey(seed) for seed in seeds]
        members = sorted(
            Member(bytes(key.verify_key), hashlib.sha256(seed).digest()[:16], role)
            for key, seed, role in zip(self.keys, seeds, roles, strict=True)
        )
        self.found = Found(tuple(members), tuple(DEFAULT_RULES[kind] for kind in RULED))

    def entry(self, sequence: int, action: Action, who: Sequence[int] = (0, 1, 2)) -> bytes:
        approvals = [approve(self.keys[n], ORIGIN, sequence, action, 2**40) for n in who]
        return encode_governance(sequence, action, approvals)

    def founding(self) -> bytes:
        return self.entry(1, self.found)


@contextmanager
def replaced(files: dict[str, bytes], path: str, data: bytes | None):
    """Another file for a while; None for none."""
    before = files[path]
    if data is None:
        del files[path]
    else:
        files[path] = data
    yield
    files[path] = before
