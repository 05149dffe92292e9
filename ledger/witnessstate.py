"""What a witness remembers: logs and their keys, what was cosigned of each, and evidence.

One SQLite file, `witness.db`, with WAL and synchronous=FULL, for its owner alone:

    log       origin, size, root and note of the checkpoint that was cosigned last; `log_note` has
              the log's lines alone, `note` has the cosignatures behind them
    log_key   verifier keys of each log
    clock     one row: the latest time that a cosignature said
    evidence  pairs of notes that contradict each other

and beside it the folder `evidence` with each of those notes as a file of its own:
`000001-split-view-cosigned.note` and `000001-split-view-refused.note`. The file must never be
restored from a copy: a witness that has forgotten can cosign a second history. Tested in
tests/ledger/test_witness.py.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey, parse_key
from ledger.errors import Malformed, WitnessStateLost
from ledger.files import flush
from ledger.merkle import EMPTY_ROOT
from ledger.note import Note, VerifierKey

DATABASE = "witness.db"
EVIDENCE = "evidence"
MAX_EVIDENCE = 64
"""Contradictions of each kind that are kept of each log."""

MAX_ORIGIN_BYTES = 255
"""Of the longest origin that ML-DSA-44 can cosign (C2SP tlog-cosignature)."""

_BUSY_MS = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    origin TEXT PRIMARY KEY, origin_hash TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    root BLOB NOT NULL, log_note TEXT, note TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS log_key (
    origin TEXT NOT NULL REFERENCES log, vkey TEXT NOT NULL, PRIMARY KEY (origin, vkey)
) STRICT;
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL)
    STRICT;
CREATE TABLE IF NOT EXISTS evidence (
    id INTEGER PRIMARY KEY, origin TEXT NOT NULL REFERENCES log, kind TEXT NOT NULL,
    cosigned TEXT NOT NULL, refused TEXT NOT NULL, seen_at INTEGER NOT NULL,
    UNIQUE (origin, cosigned, refused)
) STRICT;
INSERT OR IGNORE INTO clock VALUES (1, 1);
"""


class Contradiction(StrEnum):
    """What a kept pair of checkpoints shows."""

    SPLIT_VIEW = "split-view"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two checkpoints that one log signed and that contradict each other, or seem to.

    Attributes:
        number: from 1, in the order in which they came.
        kind: SPLIT_VIEW proves it by itself; UNPROVEN says that no proof was brought.
        origin: of the log.
        cosigned: note that was cosigned, with the log's lines.
        refused: note that was refused, with the log's lines.
        seen_at: Unix seconds, UTC.
    """

    number: int
    kind: Contradiction
    origin: str
    cosigned: Note
    refused: Note
    seen_at: int


class WitnessState:
    """The state of a witness: logs, what was cosigned of each, and evidence.

    Args:
        folder: that holds the database and the evidence.

    Raises:
        WitnessStateLost: there is no state, or it cannot be read. A witness that starts with a new
            one could cosign a second history.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / DATABASE).is_file():
            raise WitnessStateLost(f"{folder / DATABASE} is missing")
        with self.reading() as db:
            db.execute("SELECT at FROM clock").fetchone()
        # While one connection stays, the others that close leave the WAL as it is: emptying it
        # costs more flushes than the commit itself.
        self._staying = sqlite3.connect(folder / DATABASE, check_same_thread=False)
        self._staying.execute("SELECT at FROM clock").fetchone()

    @classmethod
    def create(cls, folder: Path) -> WitnessState:
        """Make the state of a new witness in a folder.

        Raises:
            WitnessStateLost: there is one already.
        """
        path = folder / DATABASE
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError as cause:
            raise WitnessStateLost(f"{path} exists already") from cause
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(_SCHEMA)
        (folder / EVIDENCE).mkdir(mode=0o700, exist_ok=True)
        flush(folder)
        return cls(folder)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection outside any transaction.

        Raises:
            WitnessStateLost: the database cannot be read or written.
        """
        try:
            with closing(sqlite3.connect(self._folder / DATABASE, isolation_level=None)) as db:
                db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
                db.execute("PRAGMA synchronous=FULL")
                yield db
        except sqlite3.Error as cause:
            raise WitnessStateLost(f"{self._folder / DATABASE}: {cause}") from cause

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that holds the write lock from its start; commit it at the end."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def register(self, origin: str, keys: Sequence[VerifierKey | CosignerKey]) -> None:
        """Let a log be witnessed, or add keys to one that is.

        Args:
            origin: of the log.
            keys: one or more.

        Raises:
            Malformed: no key, or an origin that no checkpoint or cosignature could carry.
        """
        if not keys:
            raise Malformed("a log without a key")
        try:
            Checkpoint(origin, 0, EMPTY_ROOT)
        except ValueError as cause:
            raise Malformed(str(cause)) from cause
        if len(origin.encode()) > MAX_ORIGIN_BYTES:
            raise Malformed(f"an origin of more than {MAX_ORIGIN_BYTES} bytes")
        with self.writing() as db:
            db.execute(
                "INSERT INTO log VALUES (?, ?, 0, ?, NULL, NULL) ON CONFLICT (origin) DO NOTHING",
                (origin, origin_hash(origin), EMPTY_ROOT),
            )
            db.executemany(
                "INSERT INTO log_key VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(origin, str(key)) for key in keys],
            )

    def keys(self, origin: str) -> tuple[VerifierKey | CosignerKey, ...]:
        """Return the keys that a log is registered with; none where it is not."""
        with self.reading() as db:
            rows = db.execute("SELECT vkey FROM log_key WHERE origin = ?", (origin,)).fetchall()
        return tuple(parse_key(vkey) for (vkey,) in rows)

    def published(self, hashed_origin: str) -> str | None:
        """Return the note that was cosigned last, with our lines; None before the first."""
        with self.reading() as db:
            row = db.execute(
                "SELECT note FROM log WHERE origin_hash = ?", (hashed_origin,)
            ).fetchone()
        return None if row is None else row[0]

    def logs(self) -> list[tuple[str, int]]:
        """Return origin and last cosigned size of each log."""
        with self.reading() as db:
            return db.execute("SELECT origin, size FROM log ORDER BY origin").fetchall()

    def evidence(self) -> list[Evidence]:
        """Return the kept contradictions, oldest first; none of them is verified here."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT id, kind, origin, cosigned, refused, seen_at FROM evidence ORDER BY id"
            ).fetchall()
        return [
            Evidence(
                number,
                Contradiction(kind),
                origin,
                Note.parse(cosigned.encode()),
                Note.parse(refused.encode()),
                at,
            )
            for number, kind, origin, cosigned, refused, at in rows
        ]

    def keep(self, kind: Contradiction, cosigned: str, refused: Note, now: int) -> None:
        """Keep a contradiction, once: in the database, and as two files."""
        origin = Checkpoint.parse(refused.text).origin
        with self.writing() as db:
            (count,) = db.execute(
                "SELECT count(*) FROM evidence WHERE origin = ? AND kind = ?", (origin, kind)
            ).fetchone()
            if count >= MAX_EVIDENCE:
                return
            inserted = db.execute(
                "INSERT INTO evidence (origin, kind, cosigned, refused, seen_at)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (origin, kind, cosigned, refused.format(), now),
            )
            if inserted.rowcount != 1:
                return
            stem = f"{inserted.lastrowid:06d}-{kind}"
            self._write(f"{stem}-cosigned.note", cosigned)
            self._write(f"{stem}-refused.note", refused.format())
            flush(self._folder / EVIDENCE)

    def _write(self, name: str, text: str) -> None:
        with (self._folder / EVIDENCE / name).open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def origin_hash(origin: str) -> str:
    """Return the name of a log in a witness's monitoring prefix: hex of SHA-256 of its origin."""
    return hashlib.sha256(origin.encode()).hexdigest()
