"""Audit of the columns: each value is of the type that its column was made for.

SQLite takes any value in any column, so a changed byte can turn a number into a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Boolean, Column, Connection, LargeBinary, Text

import anchor.tables
import ledger.tables
import vault.tables
from ledger.fault import Fault


def check_columns(connection: Connection, mistyped: list[Fault]) -> Iterator[Fault]:
    """Yield each column that holds what it was not made for.

    Args:
        connection: one snapshot.
        mistyped: gains a fault for each column with values of another type or length, after which
            no other part of the audit can compute with what it reads.
    """
    for metadata in (ledger.tables.metadata, vault.tables.metadata, anchor.tables.metadata):
        for table in metadata.sorted_tables:
            wrong = [(column.name, _wrong_type(column)) for column in table.columns]
            counts = connection.exec_driver_sql(
                f"SELECT {', '.join(f'sum({test})' for _, test in wrong)}"  # noqa: S608
                f" FROM {table.name}"
            ).one()
            mistyped += [
                Fault(f"table {table.name}", f"{count} of its rows have an impossible {name}")
                for (name, _), count in zip(wrong, counts, strict=True)
                if count
            ]
            for column in table.columns:
                if isinstance(column.type, Text) and not _is_readable(connection, column):
                    yield Fault(f"table {table.name}", f"a {column.name} is no text in UTF-8")
    yield from mistyped
    if mistyped:
        yield Fault("audit", "nothing else was checked: first put these columns right")


def _is_readable(connection: Connection, column: Column[Any]) -> bool:
    # As blobs, since the driver breaks off at the first text that it cannot decode.
    for (raw,) in connection.exec_driver_sql(
        f"SELECT DISTINCT CAST({column.name} AS BLOB) FROM {column.table.name}"  # noqa: S608
        f" WHERE {column.name} IS NOT NULL"
    ):
        try:
            bytes(raw).decode()
        except UnicodeDecodeError:
            return False
    return True


def _wrong_type(column: Column[Any]) -> str:
    """Return the SQL test for a value that the column cannot hold."""
    if isinstance(column.type, LargeBinary):
        kind, length = "blob", column.type.length
    else:
        kind, length = "text" if isinstance(column.type, Text) else "integer", None
    test = f"typeof({column.name}) <> '{kind}'"
    if isinstance(column.type, Boolean):
        test = f"({test} OR {column.name} NOT IN (0, 1))"
    if length is not None:
        test = f"({test} OR length({column.name}) <> {length})"
    return f"({column.name} IS NOT NULL AND {test})" if column.nullable else test
