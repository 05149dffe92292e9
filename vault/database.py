"""The one database of a vault: SQLite in WAL mode, every commit flushed to the disk.

`Database.write` is the writer lock: a transaction that starts with BEGIN IMMEDIATE, so one process
writes at a time and reads what it builds on after it has the lock. `Database.read` is a snapshot.
`Database.fetch` is for reads that are too hot for SQLAlchemy's result layer.
What was acknowledged survives kill -9 and power loss as far as the disk honours fsync (P5).
Errors of the driver become errors of this room and never show a statement's parameters.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from vault.errors import (
    Busy,
    ConfigurationError,
    Damaged,
    InvalidInput,
    NewerSchema,
    VaultError,
)

# The newest schema that this version writes: the last revision under vault/migrations.
SCHEMA = "0003"
_KNOWN_SCHEMAS = frozenset({"0001", "0002", "0003"})
_PAGE_BYTES = 16_384
_BUSY_SECONDS = 30.0
_BEGIN = "kluis_begin"
_DRIVER_ERRORS = (DatabaseError, sqlite3.DatabaseError, UnicodeDecodeError)


class _Connection(sqlite3.Connection):
    """A connection that can end what was left unread.

    A statement that was not read to its end outlives its transaction, and its snapshot with it:
    the next to take the connection from the pool would read the past.
    """

    # None while nobody reads: a writer's transaction is too hot to watch, and reads what it asks.
    _cursors: weakref.WeakSet[sqlite3.Cursor] | None = None

    def cursor(self, *arguments: Any) -> Any:
        """Return a new cursor; see there."""
        made = super().cursor(*arguments)
        if self._cursors is not None:
            self._cursors.add(made)
        return made

    def watch_cursors(self) -> None:
        """Remember the cursors that are made from here on."""
        self._cursors = weakref.WeakSet()

    def close_cursors(self) -> None:
        """Close every cursor that was made since and is still in use somewhere."""
        for cursor in list(self._cursors or ()):
            cursor.close()
        self._cursors = None


class Database:
    """Opens connections to one SQLite file.

    Args:
        path: of the database file.
        busy_seconds: how long to wait for another writer.
    """

    def __init__(self, path: Path, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._closed = False
        self._engine = _engine(path, busy_seconds)
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._write_lock = threading.RLock()
        self._write_connection: Connection | None = None
        self._local = threading.local()

    @classmethod
    def create(cls, path: Path) -> Database:
        """Make a new database with today's schema."""
        if path.exists():
            raise ConfigurationError(f"{path} exists already")
        path.touch(mode=0o600)
        database = cls(path)
        database._upgrade()
        return database

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open an existing database, bringing an older schema up to date.

        Raises:
            ConfigurationError: no database is there.
            NewerSchema: a newer version of this software wrote it.
            Damaged: it is not a database of ours.
        """
        if not path.is_file():
            raise ConfigurationError(f"{path} is missing: is this the folder of a vault?")
        database = cls(path)
        try:
            with database.read() as connection:
                found = connection.exec_driver_sql(
                    "SELECT version_num FROM alembic_version"
                ).scalar()
        except VaultError as error:
            database.close()
            if isinstance(error, Busy):
                raise
            raise Damaged(f"{path} is not a readable vault database") from error
        if found not in _KNOWN_SCHEMAS:
            database.close()
            raise NewerSchema(
                f"{path} has schema {found!r}, this version knows up to {SCHEMA}: upgrade datakluis"
            )
        if found != SCHEMA:
            database._upgrade()
        return database

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Hold the writer lock for one durable transaction; an exception undoes all of it.

        Raises:
            Busy: another process kept the lock, or the disk is full.
            Damaged: the file is not intact.
        """
        self._require_open()
        with self._write_lock, translated(self.path):
            if self._write_connection is None:
                self._write_connection = self._writer.connect()
            with self._write_connection.begin():
                yield self._write_connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent snapshot."""
        self._require_open()
        with translated(self.path), self._engine.connect() as connection:
            driver = cast(_Connection, connection.connection.driver_connection)
            driver.watch_cursors()
            try:
                with connection.begin():
                    yield connection
            finally:
                driver.close_cursors()

    def fetch(self, statement: str, parameters: tuple[object, ...]) -> list[Any]:
        """Return the rows of one statement, a snapshot of its own, on this thread's own cursor.

        For reads that are too hot for SQLAlchemy's result layer. All rows are fetched, since a
        statement that is still open would pin its snapshot.
        """
        self._require_open()
        cursor: sqlite3.Cursor | None = getattr(self._local, "cursor", None)
        try:
            if cursor is None:
                self._local.keep = self._engine.raw_connection()
                connection = cast(sqlite3.Connection, self._local.keep.driver_connection)
                cursor = self._local.cursor = connection.cursor()
            return cursor.execute(statement, parameters).fetchall()
        except _DRIVER_ERRORS as error:
            raise _as_vault_error(self.path, error) from None

    def clean_files(self) -> bool:
        """Fold the write-ahead log into the database and empty it, so that no former page is left.

        Returns:
            Whether that was done; False while somebody reads an older state, or the disk is full.
        """
        # Who reads an older state may go on for long, so nobody is waited for.
        self.fetch("PRAGMA busy_timeout = 0", ())
        try:
            busy, _, _ = self.fetch("PRAGMA wal_checkpoint(TRUNCATE)", ())[0]
        except Busy:
            return False
        finally:
            self.fetch(f"PRAGMA busy_timeout = {int(self._busy_seconds * 1000)}", ())
        return not busy

    def close(self) -> None:
        """Close every connection that this thread and the pool hold; nothing works afterwards."""
        self._closed = True
        self._local = threading.local()
        if self._write_connection is not None:
            self._write_connection.close()
            self._write_connection = None
        self._engine.dispose()

    def _require_open(self) -> None:
        if self._closed:
            raise InvalidInput("the vault was closed: open it again")

    def _upgrade(self) -> None:
        # Alembic is slow to import and needed once in a vault's life and after an upgrade.
        from alembic import command
        from alembic.config import Config

        config = Config()
        location = Path(__file__).parent / "migrations"
        config.set_main_option("script_location", str(location).replace("%", "%%"))
        with self.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.exec_driver_sql(f"PRAGMA user_version = {schema_fingerprint(connection)}")


def schema_fingerprint(connection: Connection) -> int:
    """Return a number of 31 bits over the statements that made tables and indexes.

    It is kept in the file's header, so that the audit sees a changed byte in the schema, too.
    """
    rows = connection.exec_driver_sql(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
    )
    digest = hashlib.sha256(repr([tuple(row) for row in rows]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _engine(path: Path, busy_seconds: float) -> Engine:
    # Nothing of a statement's parameters may reach an exception or a log (P3).
    engine = create_engine(
        # Put together, not written out: a folder's name may hold a question mark or a percent sign.
        URL.create("sqlite", database=str(path)),
        hide_parameters=True,
        # Each thread keeps a connection for its reads, however many threads there are.
        max_overflow=-1,
        connect_args={"timeout": busy_seconds, "isolation_level": None, "factory": _Connection},
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _entry: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling is off; the `begin` hook below starts transactions.
        connection.isolation_level = None
        for pragma in (
            f"page_size = {_PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn errors of the driver into errors of this room, without the data that they quote."""
    try:
        yield
    except _DRIVER_ERRORS as error:
        raise _as_vault_error(path, error) from None


def _as_vault_error(path: Path, error: Exception) -> VaultError:
    if isinstance(error, UnicodeDecodeError):
        # The driver's own message quotes a name in the file that is no text any more.
        return Damaged(f"{path} is damaged: a name in its schema is no text")
    reason = str(error.orig if isinstance(error, DatabaseError) else error)
    if "locked" in reason or "busy" in reason:
        return Busy(f"{path} is in use by another process: try again")
    if "full" in reason or "unable to open" in reason or "disk I/O" in reason:
        return Busy(f"{path} cannot be written: {reason}; free the disk and try again")
    if "readonly" in reason:
        return Busy(f"{path} is read-only: check its owner and mode")
    # The driver quotes an undecodable text; its first words name the fault without that.
    return Damaged(f"{path} is damaged: {reason.splitlines()[0].split(' with text')[0]}")
