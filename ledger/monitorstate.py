"""What a monitor has seen of one log, in one SQLite file of the folder that it was given.

`monitor.db` has `PRAGMA application_id` 0x6b6c6d6e and `user_version` 1, and these tables:

    fact     name, value           one row each of
        origin                     of the log, UTF-8
        checkpoint                 the newest good checkpoint, a signed note, byte for byte
        judged                     how many of its entries were judged, 8 bytes, big-endian
        governance                 the state after these (ledger/governance.py, `encode`)
    subject  key, value            what the newest entry says about each thing that has entries:
        key                        pointer, 16 bytes; class << 4 | field group or key tree, 1 byte
        value                      number << 2 | erased << 1 | governed
    closing  size, root            closing checkpoints that the log was found to grow from
    waiting  witness, note, since  checkpoints of witnesses (verifier key, signed note, Unix
                                   seconds) that are larger than what the log has published

The classes are 0 for versions and erasures, whose number is the version; 1 for certificates, the
number of the issue; 2 for shreds, the generation. Checkpoint, entries and governance move in one
transaction that is flushed to the disk (`synchronous = FULL`), so a crash leaves the state before
or after. The folder is locked (flock on `lock`) against a second monitor. Memory is bounded: the
page cache of 32 MB, and what changed since the last `save`.

Tested in tests/ledger/test_monitor.py.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.entry import CORE_GROUP, ERASURES, CommitmentSuite, Entry, EntryKind
from ledger.errors import LedgerError, Malformed, MonitorBusy, MonitorStateLost
from ledger.governancestate import GovernanceState
from ledger.note import Note

STATE = "monitor.db"
LOCK = "lock"

_APPLICATION = 0x6B6C6D6E
_VERSION = 1
_AT_ONCE = 256
_ERASED, _GOVERNED = 2, 1
_TABLES = (
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE subject (key BLOB PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE closing (size INTEGER PRIMARY KEY, root BLOB NOT NULL)",
    "CREATE TABLE waiting (witness TEXT PRIMARY KEY, note BLOB NOT NULL, since INTEGER NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class _Class(IntEnum):
    """What a key of the table `subject` is about."""

    RECORD = 0
    CERTIFICATE = 1
    SHRED = 2


_CLASSES = {EntryKind.CERTIFICATE: _Class.CERTIFICATE, EntryKind.SHRED: _Class.SHRED}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A witness's checkpoint that is larger than the published tree was.

    Attributes:
        witness: its verifier key.
        note: as the witness served it.
        since: Unix seconds, UTC.
    """

    witness: str
    note: Note
    since: int


class MonitorState:
    """The state of one monitor; use it as a context manager.

    Args:
        folder: is made if it is missing.
        origin: of the log that is followed.

    Raises:
        MonitorBusy: another monitor works in the folder.
        MonitorStateLost: the state is damaged.
        Malformed: the state is of another log.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / LOCK).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            self._lock.close()
            raise MonitorBusy(f"another monitor works in {folder}") from cause
        self._path = folder / STATE
        self._changed: dict[bytes, int] = {}
        self.note: Note | None = None
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            found = self._open(origin)
        except (sqlite3.Error, LedgerError, KeyError, ValueError, TypeError) as cause:
            self.__exit__()
            raise MonitorStateLost(f"{self._path} is damaged") from cause
        if found != origin:
            self.__exit__()
            raise Malformed(f"{self._path} is of a monitor of another log")

    def __enter__(self) -> MonitorState:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._lock.close()

    def waiting(self) -> list[Waiting]:
        """Return the witnesses' checkpoints that could not be compared yet."""
        rows = self._connection.execute("SELECT witness, note, since FROM waiting").fetchall()
        return [Waiting(witness, Note.parse(note), since) for witness, note, since in rows]

    def keep_waiting(self, waiting: Waiting) -> None:
        """Keep a witness's checkpoint until it can be compared; one of each witness, the first."""
        self._connection.execute(
            "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?)",
            (waiting.witness, waiting.note.format().encode(), waiting.since),
        )

    def drop_waiting(self, witness: str) -> None:
        """Forget a witness's checkpoint that was compared."""
        self._connection.execute("DELETE FROM waiting WHERE witness = ?", (witness,))

    def is_closed_at(self, closing: Checkpoint) -> bool:
        """Tell whether the log was found to have grown from a closing checkpoint."""
        found = self._connection.execute("SELECT root FROM closing WHERE size = ?", (closing.size,))
        row: object = found.fetchone()
        return row == (closing.root,)

    def look_up(self, keys: set[bytes]) -> dict[bytes, int]:
        """Return the rows that there are, by their keys."""
        found = {key: self._changed[key] for key in keys if key in self._changed}
        missing = [key for key in keys if key not in found]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(part))
            found.update(
                self._connection.execute(
                    f"SELECT key, value FROM subject WHERE key IN ({marks})",  # noqa: S608 - marks
                    part,
                )
            )
        return found

    def change(self, rows: dict[bytes, int]) -> None:
        """Take over rows; `save` makes them durable."""
        self._changed.update(rows)

    def save(
        self,
        note: Note,
        judged: int,
        governance: GovernanceState,
        closings: Iterable[Checkpoint] = (),
    ) -> None:
        """Make a checkpoint and what was judged of its entries durable, in one transaction."""
        facts = {
            "checkpoint": note.format().encode(),
            "judged": judged.to_bytes(8, "big"),
            "governance": governance.encode(),
        }
        connection = self._connection
        with _transaction(connection):
            connection.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", facts.items())
            connection.executemany(
                "INSERT OR REPLACE INTO subject VALUES (?, ?)", sorted(self._changed.items())
            )
            connection.executemany(
                "INSERT OR REPLACE INTO closing VALUES (?, ?)",
                [(one.size, one.root) for one in closings],
            )
        self._changed.clear()
        self.note, self.judged, self.governance = note, judged, governance

    def forget(self) -> None:
        """Drop what was changed and not saved."""
        self._changed.clear()

    def _open(self, origin: str) -> str:
        """Read the state, or begin one, and return the origin of its log."""
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -32768")
        with _transaction(connection):
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute("INSERT INTO fact VALUES ('origin', ?)", (origin.encode(),))
        versions = connection.execute(
            "SELECT * FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if versions != (_APPLICATION, _VERSION):
            raise MonitorStateLost("not the state of a monitor")
        facts = dict(connection.execute("SELECT name, value FROM fact"))
        if "checkpoint" in facts:
            self.note = Note.parse(facts["checkpoint"])
        self.judged = int.from_bytes(facts.get("judged", b""), "big")
        self.governance = GovernanceState.parse(facts.get("governance", GovernanceState().encode()))
        return str(facts["origin"], "utf-8")


def key_of(entry: Entry) -> bytes:
    """Return the key of the row that an entry changes."""
    place = _CLASSES.get(entry.kind, _Class.RECORD) << 4 | entry.group
    return entry.pointer + bytes([place])


def group_key(entry: Entry) -> bytes:
    """Return the key of the row about the field group of which an entry speaks."""
    return entry.pointer + bytes([_Class.RECORD << 4 | entry.group])


def core_key(entry: Entry) -> bytes:
    """Return the key of the row about the core of the record of which an entry speaks."""
    return entry.pointer + bytes([_Class.RECORD << 4 | CORE_GROUP])


def value_of(entry: Entry) -> int:
    """Return the row that an entry makes."""
    erased = _ERASED if entry.kind in ERASURES else 0
    return entry.version << 2 | erased | (_GOVERNED if entry.governed else 0)


def entry_of(key: bytes, value: int | None) -> Entry | None:
    """Return the version or erasure of which a row was made, as far as the row says it."""
    if value is None:
        return None
    kind = EntryKind.ERASURE if value & _ERASED else EntryKind.VERSION
    pointer, group = key[:-1], key[-1]
    governed = bool(value & _GOVERNED)
    return Entry(kind, pointer, value >> 2, group, CommitmentSuite.NONE, b"", governed)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
