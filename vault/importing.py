"""Bulk import of JSON lines: validated as a whole, durable by batch, resumable.

The whole file is read twice. The first time every line is checked and the file's digest taken; one
bad line stops it with nothing stored, unless bad lines are to be skipped. The second time records
are stored in batches of 1,000, and each transaction also notes how many lines are done. The same
command after a crash finds that note and goes on behind it, so nothing is doubled.

The note is found by a tag: HMAC-SHA-256, under a key of its own in the key tree, over the file's
digest and the command's other arguments. The tag could confirm a guess at the whole file, so it and
its key go when the first of the run's records is erased. Tested in tests/vault/test_importing.py.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vault.core import Caller, Change, Core
from vault.errors import Busy, InvalidInput
from vault.jsonlines import BadLine, GoodLine, SubjectField, read_lines
from vault.keynode import KEY_BYTES
from vault.preparing import NewRecord
from vault.writing import put_batches

# Told how many lines are done of how many in all; 0 in all means that lines are being checked.
OnProgress = Callable[[int, int], None]
_KEPT_BAD_LINES = 1_000


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """What to import and as what.

    Attributes:
        path: of a file of JSON lines.
        category: name of the record category.
        subject_field: JSON Pointer to the subject in each line.
        brondatum: of all its records, or None while unknown.
        record_date: of all its records; None means today.
        skip_bad: whether bad lines are left out instead of stopping the import.
    """

    path: Path
    category: str
    subject_field: str
    brondatum: dt.date | None = None
    record_date: dt.date | None = None
    skip_bad: bool = False

    def identity(self, file_digest: bytes) -> bytes:
        """Return what makes two commands the same import."""
        parts = (
            file_digest.hex(),
            self.category,
            self.subject_field,
            str(self.brondatum),
            str(self.record_date),
        )
        return "\0".join(parts).encode()


@dataclass(slots=True)
class BadList:
    """Bad lines: all are counted, and the first are kept, whatever a file holds.

    Attributes:
        count: how many there are.
        first: the first thousand.
    """

    count: int = 0
    first: list[BadLine] = field(default_factory=list)

    def add(self, line: BadLine) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < _KEPT_BAD_LINES:
            self.first.append(line)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        records: stored by this call.
        already: lines that an earlier call of the same import had dealt with.
        bad: lines that were left out.
    """

    records: int
    already: int
    bad: BadList


class BadLines(InvalidInput):
    """Lines that are no records; nothing was stored.

    Attributes:
        bad: which lines and why.
    """

    def __init__(self, path: Path, bad: BadList) -> None:
        shown = ", ".join(f"line {line.number} {line.reason}" for line in bad.first[:5])
        more = f" and {bad.count - 5} more" if bad.count > 5 else ""
        super().__init__(
            f"{path}: {shown}{more}; nothing was imported: mend the file or use --skip-bad"
        )
        self.bad = bad


def run_import(
    core: Core, order: ImportOrder, caller: Caller, on_progress: OnProgress | None = None
) -> ImportReport:
    """Import a file.

    Raises:
        BadLines: it has bad lines and they are not to be skipped.
        InvalidInput: the category is unknown, or the file cannot be read or is empty.
        Busy: another process is importing the same file.
    """
    category = core.config.category(order.category)
    field = SubjectField(order.subject_field)
    tell = on_progress or (lambda done, total: None)
    lines, bad = _check(order, field, tell)
    run = _Run(core, order.identity(_file_digest(order.path)))
    already, stored = run.lines_done, 0
    for batch in put_batches(
        core, run.records(order, field), category, caller, before_commit=run.note
    ):
        stored += len(batch)
        tell(run.lines_done, lines)
    return ImportReport(stored, already, bad)


def _check(order: ImportOrder, field: SubjectField, tell: OnProgress) -> tuple[int, BadList]:
    bad = BadList()
    number = 0
    for line in read_lines(order.path, field):
        number = line.number
        if isinstance(line, BadLine):
            bad.add(line)
        if number % 1_000 == 0:
            tell(number, 0)
    if number == 0:
        raise InvalidInput(f"{order.path} has no lines")
    if bad.count and not order.skip_bad:
        raise BadLines(order.path, bad)
    return number, bad


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class _Run:
    """One import and how far it came, in the database and in memory."""

    def __init__(self, core: Core, identity: bytes) -> None:
        self._slotentity = identity
        self._last_line = 0
        with core.database.read() as connection:
            read_key = core.read_key(connection)
            found: tuple[int | None, int] = (None, 0)
            for slot, tag, lines_done in connection.exec_driver_sql(
                "SELECT slot, tag, lines_done FROM vault_import"
            ):
                if hmac.compare_digest(self._tag(read_key(slot)), bytes(tag)):
                    found = (slot, lines_done)
        self._slot, self.lines_done = found

    def records(self, order: ImportOrder, field: SubjectField) -> Iterator[NewRecord]:
        """Yield the records behind the lines that are done."""
        for line in read_lines(order.path, field):
            if line.number <= self.lines_done:
                continue
            if isinstance(line, GoodLine):
                self._last_line = line.number
                yield NewRecord(line.payload, line.subject, order.brondatum, order.record_date)
            elif not order.skip_bad:
                raise InvalidInput(
                    f"{order.path} was changed while it was imported: stored up to line"
                    f" {self.lines_done}; import what follows as a file of its own"
                )

    def note(self, change: Change) -> int:
        """Note in the batch's own transaction how far the import is, and return its slot."""
        if self._slot is None:
            self._slot = self._begin(change)
        moved = change.connection.exec_driver_sql(
            "UPDATE vault_import SET lines_done = ? WHERE slot = ? AND lines_done = ?",
            (self._last_line, self._slot, self.lines_done),
        )
        if moved.rowcount != 1:
            raise Busy(
                f"this import stopped behind line {self.lines_done}: another process goes on with"
                " it, or one of its records was erased meanwhile"
            )
        self.lines_done = self._last_line
        return self._slot

    def _begin(self, change: Change) -> int:
        for slot, tag in change.connection.exec_driver_sql("SELECT slot, tag FROM vault_import"):
            if hmac.compare_digest(self._tag(change.key(slot)), bytes(tag)):
                raise Busy("another process is importing this file")
        key = os.urandom(KEY_BYTES)
        slot = change.edit.add([key])
        change.connection.exec_driver_sql(
            "INSERT INTO vault_import (slot, tag, lines_done) VALUES (?, ?, 0)",
            (slot, self._tag(key)),
        )
        return slot

    def _tag(self, key: bytes) -> bytes:
        return hmac.digest(key, self._slotentity, "sha256")
