"""The file of a backup: a SQLite database with rows of the vault's tables and one row about itself.

Rows are copied, not pages, so nothing that was deleted from the vault is in it. Any tool that reads
SQLite reads it. Beside copies of tables of vault.db, under their own names, it has

    kluis_backup(format TEXT, kind TEXT, schema TEXT, origin TEXT, made_at INTEGER, base BLOB)
        one row: "datakluis-backup/1"; "data" or "keys"; the vault's schema; the ledger's origin
        line; Unix seconds; SHA-256 of the key backup that this one continues, or NULL
    kluis_config(name TEXT, text TEXT)
        in a data backup: texts that lie outside the database (vault/backup/data.py)

A backup of kind "data" holds no key of any kind. A backup of kind "keys" holds sealed key nodes and
wrapped epoch keys and says where the provider of their root keys is, but holds no root key. Whoever
changes a backup file can destroy it; what is restored from it is checked against the ledger.
Tested in tests/vault/test_backup.py.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ledger.files import flush
from vault.database import SCHEMA
from vault.errors import BadBackup, Busy, ConfigurationError, Damaged, InvalidInput

FORMAT = "datakluis-backup/1"
_HEADER = "kluis_backup"
_CREATE = (
    f"CREATE TABLE {_HEADER} (format TEXT NOT NULL, kind TEXT NOT NULL, schema TEXT NOT NULL,"
    " origin TEXT NOT NULL, made_at INTEGER NOT NULL, base BLOB)"
)
TEXTS = "kluis_config"
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What the driver raises about a file that was changed."""

# Called once the tables are copied, so that a text is never older than their snapshot.
ReadTexts = Callable[[], Mapping[str, str]]


class BackupKind(StrEnum):
    """What a backup holds."""

    DATA = "data"
    KEYS = "keys"


@dataclass(frozen=True, slots=True)
class Copied:
    """A table to copy.

    Attributes:
        table: its name.
        columns: which to copy; empty for all.
        where: an SQL condition without parameters; empty for every row.
    """

    table: str
    columns: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says about itself; see the module."""

    kind: BackupKind
    origin: str
    made_at: int
    base: bytes | None


def write_backup(
    database: Path,
    out: Path,
    header: Header,
    tables: Sequence[Copied],
    texts: ReadTexts | None = None,
) -> None:
    """Copy tables of a vault's database, in one snapshot, into a new file of mode 0600.

    Args:
        database: of the vault.
        out: the new file.
        header: what it says about itself.
        tables: in this order.
        texts: to be kept by name beside the tables; None for none.

    Raises:
        ConfigurationError: the file exists or cannot be made.
        Busy: the database or the disk is not to be had.
        Damaged: the database cannot be read.
    """
    partial = out.with_name(out.name + ".partial")
    if out.exists():
        raise ConfigurationError(f"{out} exists already; a backup overwrites nothing")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        _copy(database, partial, header, tables, texts)
        partial.rename(out)
        flush(out.parent)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}") from None
    except sqlite3.OperationalError as error:
        raise Busy(f"{out} could not be written: {error}") from None
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{database} is damaged: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _copy(
    database: Path,
    out: Path,
    header: Header,
    tables: Sequence[Copied],
    texts: ReadTexts | None,
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        connection.execute("ATTACH DATABASE ? AS backup", (str(out),))
        connection.execute("PRAGMA backup.synchronous = FULL")
        connection.execute("BEGIN")
        connection.execute(_CREATE.replace(_HEADER, f"backup.{_HEADER}"))
        connection.execute(
            f"INSERT INTO backup.{_HEADER} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
            (FORMAT, header.kind, SCHEMA, header.origin, header.made_at, header.base),
        )
        for copied in tables:
            columns = ", ".join(copied.columns) or "*"
            where = f" WHERE {copied.where}" if copied.where else ""
            connection.execute(
                f"CREATE TABLE backup.{copied.table} AS"  # noqa: S608
                f" SELECT {columns} FROM main.{copied.table}{where}"
            )
        if texts is not None:
            connection.execute(
                f"CREATE TABLE backup.{TEXTS} (name TEXT NOT NULL, text TEXT NOT NULL)"
            )
            connection.executemany(
                f"INSERT INTO backup.{TEXTS} VALUES (?, ?)",  # noqa: S608
                sorted(texts().items()),
            )
        connection.execute("COMMIT")


@contextmanager
def open_backup(path: Path, kind: BackupKind) -> Iterator[tuple[sqlite3.Connection, Header]]:
    """Open a backup for reading.

    Raises:
        InvalidInput: it is no backup of this kind, or of another version.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is missing")
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            row = connection.execute(
                f"SELECT format, kind, schema, origin, made_at, base FROM {_HEADER}"  # noqa: S608
            ).fetchone()
            if row is None or row[0] != FORMAT or row[1] != kind or not _is_header(*row[3:]):
                raise InvalidInput(f"{path} is not a backup of {kind}")
            if row[2] != SCHEMA:
                raise InvalidInput(
                    f"{path} has schema {row[2]!r}, this version restores {SCHEMA}: restore it with"
                    " the version that made it, and upgrade then"
                )
            yield connection, Header(kind, row[3], row[4], row[5])
    except UNREADABLE as error:
        raise BadBackup(f"{path} is not a readable backup: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """Return what the driver says of bytes that it cannot read, without those bytes."""
    if isinstance(error, UnicodeDecodeError):
        return "a text in it is none"
    return str(error).splitlines()[0].split(" with text")[0]


def _is_header(origin: object, made_at: object, base: object) -> bool:
    return (
        isinstance(origin, str)
        and isinstance(made_at, int)
        and (base is None or isinstance(base, bytes))
    )


def read_texts(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the texts of an opened data backup, by name."""
    rows = connection.execute(f"SELECT name, text FROM {TEXTS}").fetchall()  # noqa: S608
    if not all(isinstance(value, str) for row in rows for value in row):
        raise BadBackup("a data backup holds a text that is none")
    return dict(rows)


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
