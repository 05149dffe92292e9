"""Rows that belong to records, read along with the records themselves in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection


class ByRecord:
    """Hands out the rows of one record after another; memory stays flat.

    Args:
        connection: one snapshot.
        statement: gives rows whose first column is a record's id, in its order.
    """

    def __init__(self, connection: Connection, statement: str) -> None:
        self._connection = connection
        self._statement = statement
        self._rows: Iterator[Any] | None = None
        self._next: Any = None

    def of(self, record_id: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a record, without its id.

        Args:
            record_id: higher than that of the call before. Rows of the records in between, which
                nobody asks for, are passed over.
        """
        if self._rows is None:
            self._rows = iter(self._connection.exec_driver_sql(self._statement))
            self._next = next(self._rows, None)
        while self._next is not None and self._next[0] <= record_id:
            row, self._next = self._next, next(self._rows, None)
            if row[0] == record_id:
                yield tuple(row[1:])
