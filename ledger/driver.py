"""Hot statements: run on the driver's own cursor, inside the transaction that SQLAlchemy holds.

SQLAlchemy opens, pools and ends transactions everywhere. Its result layer costs 15 µs a statement,
though, and a durable put is a dozen statements beside a flush of half a millisecond. So the few
statements that every put, read and erasure runs go to the driver directly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import cast

from sqlalchemy import Connection

Row = tuple[object, ...]


def run(connection: Connection, statement: str, parameters: Row = ()) -> sqlite3.Cursor:
    """Run one statement in the connection's transaction and return its cursor.

    Args:
        connection: begins a transaction if none is open, as SQLAlchemy's own statements do.
        statement: with a question mark for each parameter.
        parameters: in their order.
    """
    return _cursor(connection).execute(statement, parameters)


def run_many(connection: Connection, statement: str, rows: Iterable[Row]) -> None:
    """Run one statement for each row; see `run`."""
    _cursor(connection).executemany(statement, rows)


def _cursor(connection: Connection) -> sqlite3.Cursor:
    if not connection.in_transaction():
        connection.begin()
    return cast(sqlite3.Cursor, connection.connection.cursor())
