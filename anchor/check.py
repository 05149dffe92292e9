"""Checks what the anchoring job has stored against the ledger and the local anchor's file.

Tested in tests/anchor/test_check.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from anchor.errors import AnchorError, BadFile
from anchor.local import read_receipts
from anchor.receipt import LOCAL_NAME, LocalReceipt
from anchor.statement import AnchorStatement
from ledger.errors import BadSignature, LedgerError
from ledger.fault import Fault
from ledger.log import Log
from ledger.logkeys import LogKeys
from ledger.note import Note, VerifierKey, verify


def check_anchors(
    connection: Connection, log_keys: LogKeys, anchor_key: VerifierKey, path: Path
) -> Iterator[Fault]:
    """Yield what is wrong with statements, receipts and the local anchor's file.

    Args:
        connection: with a read transaction open.
        log_keys: of the log; those of its size must have signed each statement.
        anchor_key: must have signed each receipt.
        path: of the local anchor's file.
    """
    digests: dict[int, bytes] = {}
    checkpoints = dict(Log(connection).checkpoints())
    for size, stored in connection.exec_driver_sql(
        "SELECT size, CAST(statement AS BLOB) FROM anchor_statement"
    ):
        try:
            if size not in checkpoints:
                raise BadFile("there is no checkpoint of that size")
            note = Note.parse(checkpoints[size].encode())
            expected = AnchorStatement.of(note, log_keys.for_size(size))
            if AnchorStatement.parse(_as_text(stored)).format() != expected.format():
                raise BadFile("it is not about the checkpoint of that size")
            digests[size] = expected.digest()
        except (AnchorError, LedgerError) as error:
            yield Fault(f"anchor statement of {size} leaves", f"does not hold: {error}")
    kept: set[str] = set()
    try:
        kept = {receipt.format() for receipt in read_receipts(path, anchor_key)}
    except AnchorError as error:
        yield Fault("local anchor", str(error))
    yield from _receipts(connection, digests, anchor_key, kept)


def _receipts(
    connection: Connection, digests: dict[int, bytes], anchor_key: VerifierKey, kept: set[str]
) -> Iterator[Fault]:
    for size, target, stored, is_orphan in connection.exec_driver_sql(
        "SELECT r.size, r.target, CAST(r.receipt AS BLOB), s.size IS NULL FROM anchor_receipt r"
        " LEFT JOIN anchor_statement s ON s.size = r.size"
    ):
        text = _as_text(stored)
        # A changed name can be any text, so only a known one is repeated.
        where = f"{target if target == LOCAL_NAME else 'unknown'} receipt for {size} leaves"
        if target != LOCAL_NAME:
            yield Fault(where, "is of a target that this version does not know")
            continue
        try:
            receipt = LocalReceipt.parse(text)
            verify(receipt.note, anchor_key)
        except (BadFile, BadSignature) as error:
            yield Fault(where, str(error))
            continue
        if is_orphan:
            yield Fault(where, "is for a statement that is gone")
        elif size in digests and receipt.digest != digests[size]:
            yield Fault(where, "is for another statement")
        if text not in kept:
            yield Fault(where, "is not in the local anchor's file")


def _as_text(stored: bytes) -> str:
    """Return what is stored as a text that can be compared, also when it never was one."""
    return stored.decode(errors="replace")
