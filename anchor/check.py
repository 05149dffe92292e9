"""Checks what the anchoring job has stored against the ledger and the local anchor's file.

Tested in tests/anchor/test_check.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from anchor.errors import AnchorError, BadFile
from anchor.local import LOCAL_NAME, read_receipts
from anchor.receipt import LocalReceipt
from anchor.statement import AnchorStatement
from ledger.errors import BadSignature
from ledger.fault import Fault
from ledger.log import Log
from ledger.note import Note, VerifierKey, verify


def check_anchors(
    connection: Connection, log_key: VerifierKey, anchor_key: VerifierKey, path: Path
) -> Iterator[Fault]:
    """Yield what is wrong with statements, receipts and the local anchor's file.

    Args:
        connection: with a read transaction open.
        log_key: must have signed each statement.
        anchor_key: must have signed each receipt.
        path: of the local anchor's file.
    """
    digests: dict[int, bytes] = {}
    checkpoints = dict(Log(connection).checkpoints())
    for size, text in connection.exec_driver_sql("SELECT size, statement FROM anchor_statement"):
        try:
            expected = AnchorStatement.of(Note.parse(checkpoints[size].encode()), [log_key])
            if AnchorStatement.parse(text).format() != expected.format():
                raise BadFile("it is not about the checkpoint of that size")
            digests[size] = expected.digest()
        except (AnchorError, BadSignature, KeyError) as error:
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
    for size, target, text in connection.exec_driver_sql(
        "SELECT size, target, receipt FROM anchor_receipt"
    ):
        where = f"{target} receipt for {size} leaves"
        if target != LOCAL_NAME:
            yield Fault(where, "is of a target that this version does not know")
            continue
        try:
            receipt = LocalReceipt.parse(text)
            verify(receipt.note, anchor_key)
        except (BadFile, BadSignature) as error:
            yield Fault(where, str(error))
            continue
        if size in digests and receipt.digest != digests[size]:
            yield Fault(where, "is for another statement")
        if text not in kept:
            yield Fault(where, "is not in the local anchor's file")
