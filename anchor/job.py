"""The anchoring job: brings the newest signed checkpoint to every target.

    1. the statement about the newest checkpoint, or the newest that may be anchored, is stored
       before anybody hears of it
    2. its digest is submitted to each target that has not answered for it
    3. each receipt is stored

A crash after 1 or 2 is repaired by running again: a statement is stored once per checkpoint, and a
target that has the digest returns the receipt it gave. One anchor covers every checkpoint before
it. Tested in tests/anchor/test_job.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection

from anchor.statement import AnchorStatement
from anchor.target import Target
from ledger.checkpoint import Checkpoint
from ledger.log import Log
from ledger.logkeys import LogKeys
from ledger.note import Note

OpenTransaction = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Anchored:
    """What a run did at one target.

    Attributes:
        target: its name.
        size: leaves in the checkpoint that it now covers.
        digest: of the statement, 32 bytes.
        is_new: whether this run submitted it.
    """

    target: str
    size: int
    digest: bytes
    is_new: bool


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """How far a target is behind.

    Attributes:
        target: its name.
        size: leaves in the newest checkpoint that it covers; 0 before the first.
        anchored_at: Unix seconds, UTC; None before the first.
        backlog: entries that it does not cover yet, pending ones included.
    """

    target: str
    size: int
    anchored_at: int | None
    backlog: int


def run(
    write: OpenTransaction,
    log_keys: LogKeys,
    targets: Sequence[Target],
    now: int,
    checkpoint: Note | None = None,
) -> list[Anchored]:
    """Anchor a checkpoint at each target.

    Args:
        write: opens a transaction that writes; nothing is held while a target answers.
        log_keys: the log's own keys; those of the checkpoint's size must have signed it.
        targets: asked in this order.
        now: Unix seconds, UTC.
        checkpoint: a signed and stored one; None takes the newest.

    Returns:
        One item per target; empty before the first checkpoint of a tree with leaves.
    """
    with write() as connection:
        statement = _store_statement(connection, log_keys, checkpoint, now)
    if statement is None:
        return []
    size = statement.checkpoint().size
    done = []
    for target in targets:
        with write() as connection:
            answered = _has_receipt(connection, size, target.name)
        if not answered:
            receipt = target.submit(statement.digest())
            with write() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO anchor_receipt (size, target, receipt, made_at)"
                    " VALUES (?, ?, ?, ?) ON CONFLICT (size, target) DO NOTHING",
                    (size, target.name, receipt, now),
                )
        done.append(Anchored(target.name, size, statement.digest(), not answered))
    return done


def status(connection: Connection, names: Sequence[str]) -> list[TargetStatus]:
    """Return how far each target is behind."""
    log = Log(connection)
    known = log.head().size + log.pending_count()
    found = []
    for name in names:
        row = connection.exec_driver_sql(
            "SELECT size, made_at FROM anchor_receipt WHERE target = ? ORDER BY size DESC LIMIT 1",
            (name,),
        ).one_or_none()
        size, at = row or (0, None)
        found.append(TargetStatus(name, size, at, known - size))
    return found


def anchored_statement(
    connection: Connection, leaf: int
) -> tuple[str, list[tuple[str, str]]] | None:
    """Return the oldest anchored statement that covers a leaf, with its (target, receipt) pairs."""
    row = connection.exec_driver_sql(
        "SELECT s.size, s.statement FROM anchor_statement s"
        " WHERE s.size > ? AND EXISTS (SELECT 1 FROM anchor_receipt r WHERE r.size = s.size)"
        " ORDER BY s.size LIMIT 1",
        (leaf,),
    ).one_or_none()
    if row is None:
        return None
    receipts = connection.exec_driver_sql(
        "SELECT target, receipt FROM anchor_receipt WHERE size = ? ORDER BY target", (row[0],)
    )
    return row[1], [(name, receipt) for name, receipt in receipts]


def _store_statement(
    connection: Connection, log_keys: LogKeys, checkpoint: Note | None, now: int
) -> AnchorStatement | None:
    note = checkpoint or Log(connection).latest_checkpoint()
    if note is None:
        return None
    size = Checkpoint.parse(note.text).size
    if size == 0:
        return None
    statement = AnchorStatement.of(note, log_keys.for_size(size))
    connection.exec_driver_sql(
        "INSERT INTO anchor_statement (size, statement, made_at) VALUES (?, ?, ?)"
        " ON CONFLICT (size) DO NOTHING",
        (size, statement.format(), now),
    )
    return statement


def _has_receipt(connection: Connection, size: int, target: str) -> bool:
    row = connection.exec_driver_sql(
        "SELECT 1 FROM anchor_receipt WHERE size = ? AND target = ?", (size, target)
    ).one_or_none()
    return row is not None
