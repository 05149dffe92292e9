"""Rows of records and their versions: what the vault stores beside keys and ledger.

The statement of a row, over which the row tag is made (vault/cipher.py), is

    pointer, 16 bytes || number of the newest version, 4 || subject row, 8 || hold, 1
    || category || 0x00 || retention rule || 0x00 || record date || 0x00 || brondatum

with integers big-endian, texts in UTF-8, and dates as ISO 8601, empty where unknown. The retention
rule is the one that held when the record was stored (ST1), such as "2020 8.1.7 eigenschap", and
empty where there is no duty to keep. None of the texts can hold a zero byte.
"""

from __future__ import annotations

import datetime as dt
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ledger.driver import run, run_many
from ledger.pointer import format_pointer
from policy import InvalidPolicy, RetentionRule
from vault.cipher import RecordKeys, row_tag, row_tag_matches
from vault.errors import Damaged, NotFound

# One column list for every way to read a record, in the order of `RecordRow`.
COLUMNS = (
    "r.id, r.pointer, r.category, r.retention, r.current, r.record_date, r.brondatum, r.subject_id,"
    " r.import_slot, r.on_hold, r.row_tag, r.erased_act"
)


_STATEMENT_HEAD = struct.Struct(">16sIQ?")


class Action(StrEnum):
    """What an act did."""

    PUT = "put"
    RECTIFY = "rectify"
    ERASE = "erase"
    HOLD = "hold"
    DISCLOSE = "disclose"
    SHRED = "shred"
    MOVE = "move"
    DECLARE = "declare"
    ESCROW = "escrow"
    BREAK_GLASS = "break-glass"
    RESTORE = "restore"
    DRILL = "drill"
    ROTATE = "rotate"
    GOVERN = "govern"
    PRUNE = "prune"


class RecordRow(NamedTuple):
    """A record's row; of an erased record only the tombstone is left."""

    id: int
    pointer: bytes
    category: str | None
    retention: str | None
    current: int
    record_date: str | None
    brondatum: str | None
    subject_id: int | None
    import_slot: int | None
    on_hold: int
    row_tag: bytes | None
    erased_act: int | None

    @property
    def name(self) -> str:
        """The pointer as people see it."""
        return format_pointer(self.pointer)

    def tag(self, keys: RecordKeys) -> bytes:
        """Return the row tag that this row should have."""
        statement = row_statement(
            self.pointer,
            self.current,
            self.subject_id,
            self.on_hold,
            self.category,
            self.retention,
            self.record_date,
            self.brondatum,
        )
        return row_tag(keys, statement)

    def check_tag(self, keys: RecordKeys) -> None:
        """Raise Damaged where the row is not as the vault wrote it."""
        check_row(
            keys,
            self.row_tag,
            self.pointer,
            self.current,
            self.subject_id,
            self.on_hold,
            self.category,
            self.retention,
            self.record_date,
            self.brondatum,
        )

    def duty(self) -> tuple[RetentionRule | None, dt.date | None]:
        """Return the duty to keep the record and the brondatum; None where there is none."""
        try:
            return (
                RetentionRule.parse(self.retention) if self.retention else None,
                dt.date.fromisoformat(self.brondatum) if self.brondatum else None,
            )
        except (ValueError, InvalidPolicy):
            raise Damaged(f"the row of record {self.name} has no readable duty") from None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a record, without its blob, which may be large."""

    number: int
    slot: int
    act_id: int
    has_body: bool


def row_statement(
    pointer: bytes,
    current: int,
    subject_id: int | None,
    on_hold: int,
    category: str | None,
    retention: str | None,
    record_date: str | None,
    brondatum: str | None,
) -> bytes:
    """Return what a row tag is made over, straight from the columns: the hot path."""
    head = _STATEMENT_HEAD.pack(pointer, current, subject_id or 0, on_hold)
    texts = f"{category or ''}\0{retention or ''}\0{record_date or ''}\0{brondatum or ''}"
    return head + texts.encode()


def check_row(keys: RecordKeys, tag: bytes | None, pointer: bytes, *columns: Any) -> None:
    """Raise Damaged where a row is not as the vault wrote it.

    Args:
        keys: of the record's current version.
        tag: as the row has it.
        pointer: 16 bytes.
        columns: the others of `row_statement`, in its order.
    """
    try:
        if tag is not None and row_tag_matches(keys, row_statement(pointer, *columns), tag):
            return
    except (struct.error, TypeError):
        # A changed row can hold a number that no tag was ever made over.
        pass
    name = format_pointer(pointer)
    raise Damaged(f"the row of record {name} was changed outside the vault")


def load_record(connection: Connection, pointer: bytes) -> RecordRow:
    """Return the row of a record.

    Raises:
        NotFound: no record has this pointer.
    """
    row = run(
        connection,
        f"SELECT {COLUMNS} FROM vault_record r WHERE r.pointer = ?",  # noqa: S608
        (pointer,),
    ).fetchone()
    if row is None:
        raise NotFound(f"no record has the pointer {format_pointer(pointer)}")
    return RecordRow(*row)


def load_versions(connection: Connection, record_id: int) -> list[VersionRow]:
    """Return the versions of a record, oldest first."""
    rows = run(
        connection,
        "SELECT number, slot, act_id, body IS NOT NULL FROM vault_version"
        " WHERE record_id = ? ORDER BY number",
        (record_id,),
    )
    return [
        VersionRow(number, slot, act_id, bool(has_body)) for number, slot, act_id, has_body in rows
    ]


def current_slot(connection: Connection, record: RecordRow) -> int:
    """Return the slot of the key of a record's newest version.

    Raises:
        Damaged: there is no such version.
    """
    row = run(
        connection,
        "SELECT slot FROM vault_version WHERE record_id = ? AND number = ?",
        (record.id, record.current),
    ).fetchone()
    if row is None:
        raise Damaged(f"record {record.name} lacks its newest version")
    return int(row[0])


def insert_records(connection: Connection, rows: list[tuple[object, ...]]) -> None:
    """Insert (id, pointer, category, retention, record date, brondatum, subject, import, tag)."""
    run_many(
        connection,
        "INSERT INTO vault_record (id, pointer, category, retention, current, record_date,"
        " brondatum, subject_id, import_slot, on_hold, row_tag)"
        " VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, 0, ?)",
        rows,
    )


def insert_versions(connection: Connection, rows: list[tuple[object, ...]]) -> None:
    """Insert rows of (record, number, slot, birth generation, act, body)."""
    run_many(
        connection,
        "INSERT INTO vault_version (record_id, number, slot, birth_generation, act_id, body)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )


def next_record_id(connection: Connection) -> int:
    """Return the lowest id above every record's; the caller holds the writer lock."""
    (highest,) = run(connection, "SELECT max(id) FROM vault_record").fetchone()
    return int(highest or 0) + 1
