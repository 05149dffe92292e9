"""The local target: an append-only file of receipts beside the vault. For development only.

It lets the whole way from record to verified evidence run on one machine. Whoever controls the
machine can write another file, so it convinces nobody outside; every report about it says so. The
file is the receipts one after another, seven lines each (anchor/receipt.py). An append that a crash
cut short leaves an incomplete receipt at the end, which was never returned to anybody; the next
append removes it. Tested in tests/anchor/test_local_target.py.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from nacl.signing import SigningKey

from anchor.errors import BadFile, TargetDamaged
from anchor.receipt import LINES, LOCAL_NAME, NO_PREDECESSOR, LocalReceipt, key_name
from ledger.errors import BadSignature
from ledger.files import flush
from ledger.note import VerifierKey, verify

_APPEND_MODE = 0o600


class LocalTarget:
    """Appends signed receipts to a file.

    Args:
        path: of the file; made when it is first needed.
        origin: of the log whose statements are anchored.
        key: signs the receipts.
        now: Unix seconds, UTC.
    """

    name = LOCAL_NAME

    def __init__(self, path: Path, origin: str, key: SigningKey, now: int) -> None:
        self._path = path
        self._key = key
        self._verifier = VerifierKey(key_name(origin), bytes(key.verify_key))
        self._now = now

    def __repr__(self) -> str:
        return f"LocalTarget({str(self._path)!r})"

    def submit(self, digest: bytes) -> str:
        """See `Target.submit`.

        Raises:
            TargetDamaged: the file holds something that was never appended.
        """
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, _APPEND_MODE)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            receipts, complete = _parse(self._path, file.read(), self._verifier)
            for receipt in receipts:
                if receipt.digest == digest:
                    return receipt.format()
            if not receipts:
                flush(self._path.parent)
            return self._append(file, receipts, complete, digest)

    def _append(
        self, file: BinaryIO, receipts: list[LocalReceipt], complete: int, digest: bytes
    ) -> str:
        previous = receipts[-1].hash() if receipts else NO_PREDECESSOR
        receipt = LocalReceipt.sign(
            len(receipts), digest, previous, self._now, self._verifier, self._key
        )
        file.truncate(complete)
        file.seek(complete)
        file.write(receipt.format().encode())
        file.flush()
        os.fsync(file.fileno())
        return receipt.format()


def read_receipts(path: Path, verifier: VerifierKey) -> list[LocalReceipt]:
    """Return all receipts of a local anchor's file, each checked; empty where there is no file.

    Raises:
        TargetDamaged: one does not verify, or does not follow the one before it.
    """
    if not path.exists():
        return []
    return _parse(path, path.read_bytes(), verifier)[0]


def _parse(path: Path, data: bytes, verifier: VerifierKey) -> tuple[list[LocalReceipt], int]:
    """Return the complete receipts and how many bytes they take."""
    lines = data.split(b"\n")[:-1]
    receipts: list[LocalReceipt] = []
    complete, previous = 0, NO_PREDECESSOR
    for start in range(0, len(lines) - LINES + 1, LINES):
        raw = b"".join(line + b"\n" for line in lines[start : start + LINES])
        number = len(receipts)
        try:
            receipt = LocalReceipt.parse(raw.decode())
            verify(receipt.note, verifier)
        except (BadFile, BadSignature, UnicodeDecodeError) as cause:
            raise TargetDamaged(f"receipt {number} in {path} was changed") from cause
        if receipt.number != number or receipt.previous != previous:
            raise TargetDamaged(f"receipt {number} in {path} does not follow the one before it")
        receipts.append(receipt)
        complete += len(raw)
        previous = receipt.hash()
    return receipts, complete
