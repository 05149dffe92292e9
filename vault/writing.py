"""Putting and rectifying records.

A record is prepared without the writer lock: keys, blob, commitment and entry need nothing that the
lock protects. Under the lock it gets its slot and row ids, and record, key node and pending entry
become durable in one transaction.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ledger.entry import MAX_VERSION, encode_version
from ledger.log import append_pending
from ledger.pointer import POINTER_BYTES, format_pointer, parse_pointer
from policy import InvalidPolicy, RecordCategory, archiefactiedatum, retention_rule
from vault.cipher import NONCE_BYTES, SLOT_KEY_BYTES, RecordKeys, derive_record_keys, row_tag
from vault.core import Caller, Change, Core
from vault.errors import InvalidInput
from vault.reading import erased_error
from vault.records import (
    Action,
    insert_records,
    insert_versions,
    load_record,
    next_record_id,
    row_fields,
)
from vault.subjects import encode_subject

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
BATCH_RECORDS = 1_000
_BATCH_BYTES = 16 * 1024 * 1024
_RANDOM_BYTES = POINTER_BYTES + SLOT_KEY_BYTES + NONCE_BYTES


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One record to store.

    Attributes:
        payload: at most 8 MiB, kept byte for byte.
        subject: whom it is about: any text of 1 to 256 bytes in UTF-8.
        brondatum: the day on which its retention term starts, or None while that is unknown.
        record_date: the day on which it was made or received; None means today (ST2).
    """

    payload: bytes
    subject: str
    brondatum: dt.date | None = None
    record_date: dt.date | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    pointer: bytes
    slot_key: bytes
    keys: RecordKeys
    body: bytes
    entry: bytes
    subject: bytes
    record_date: str
    brondatum: str | None


def put_batches(
    core: Core,
    records: Iterable[NewRecord],
    category: RecordCategory,
    caller: Caller,
    before_commit: Callable[[Change], int] | None = None,
) -> Iterator[list[str]]:
    """Store records in batches of at most 1,000, each durable when its pointers are yielded.

    Args:
        core: of the open vault.
        records: read as they are needed.
        category: of all of them.
        caller: who stores them and why.
        before_commit: called inside each transaction; returns the id of the import run to which
            its records belong.
    """
    today = core.clock.today()
    prepare = _Preparer(core, category, today)
    for batch in _batched(records):
        prepared = prepare(batch)
        with core.change() as change:
            import_id = before_commit(change) if before_commit else None
            _insert(core, change, prepared, category.name, caller, import_id)
        yield [format_pointer(one.pointer) for one in prepared]


def rectify(core: Core, pointer_text: str, payload: bytes, caller: Caller) -> int:
    """Append a corrected version of a record and return its number (RE1).

    Earlier versions stay readable in the history: a decision may rest on them.
    """
    _check_payload(payload)
    pointer = parse_pointer(pointer_text)
    randomness = os.urandom(SLOT_KEY_BYTES + NONCE_BYTES)
    slot_key, nonce = randomness[:SLOT_KEY_BYTES], randomness[SLOT_KEY_BYTES:]
    keys = derive_record_keys(slot_key)
    with core.change() as change:
        record = load_record(change.connection, pointer)
        if record.erased_act is not None:
            raise erased_error(change.connection, record)
        core.require_allowed(record.category, caller.purpose)
        core.record_keys(change.connection, record, change.edit.key)
        number = record.current + 1
        if number > MAX_VERSION:
            raise InvalidInput(f"record {record.name} has as many versions as can be numbered")
        body = core.cipher.seal(keys, pointer, number, payload, nonce)
        commitment = core.committer.commit(keys.commitment, pointer, number, payload)
        slot = change.edit.add([slot_key])
        act_id = change.act(caller, Action.RECTIFY, core.clock.now())
        row = (record.id, number, slot, change.edit.state.generation, act_id, body)
        insert_versions(change.connection, [row])
        change.connection.exec_driver_sql(
            "UPDATE vault_record SET current = ?, row_tag = ? WHERE id = ?",
            (number, replace(record, current=number).tag(keys), record.id),
        )
        append_pending(change.connection, [encode_version(pointer, number, commitment)])
    return number


class _Preparer:
    """Prepares batches of one category; holds what is the same for each record."""

    def __init__(self, core: Core, category: RecordCategory, today: dt.date) -> None:
        self._core = core
        self._category = category
        self._today = today
        self._lawful_dates: set[tuple[dt.date, dt.date | None]] = set()

    def __call__(self, batch: Sequence[NewRecord]) -> list[_Prepared]:
        # One read of the operating system's randomness for the batch; it is used up here.
        randomness = os.urandom(_RANDOM_BYTES * len(batch))
        return [
            self._prepare(record, randomness[start : start + _RANDOM_BYTES])
            for record, start in zip(batch, range(0, len(randomness), _RANDOM_BYTES), strict=True)
        ]

    def _prepare(self, record: NewRecord, randomness: bytes) -> _Prepared:
        payload = record.payload
        _check_payload(payload)
        record_date = record.record_date or self._today
        dates = (record_date, record.brondatum)
        if dates not in self._lawful_dates:
            _check_dates(self._category, *dates)
            self._lawful_dates.add(dates)
        pointer = randomness[:POINTER_BYTES]
        slot_key = randomness[POINTER_BYTES:-NONCE_BYTES]
        keys = derive_record_keys(slot_key)
        body = self._core.cipher.seal(keys, pointer, 1, payload, randomness[-NONCE_BYTES:])
        commitment = self._core.committer.commit(keys.commitment, pointer, 1, payload)
        return _Prepared(
            pointer,
            slot_key,
            keys,
            body,
            encode_version(pointer, 1, commitment),
            encode_subject(record.subject),
            record_date.isoformat(),
            record.brondatum.isoformat() if record.brondatum else None,
        )


def _insert(
    core: Core,
    change: Change,
    batch: list[_Prepared],
    category: str,
    caller: Caller,
    import_id: int | None,
) -> None:
    connection = change.connection
    subject_ids = change.subjects.ensure(change.edit, [one.subject for one in batch])
    first_slot = change.edit.add([one.slot_key for one in batch])
    first_id = next_record_id(connection)
    act_id = change.act(caller, Action.PUT, core.clock.now())
    generation = change.edit.state.generation
    records: list[tuple[object, ...]] = []
    versions: list[tuple[object, ...]] = []
    for offset, one in enumerate(batch):
        subject_id = subject_ids[one.subject]
        tag = row_tag(
            one.keys,
            row_fields(
                one.pointer,
                1,
                category,
                one.record_date,
                one.brondatum,
                subject_id,
                on_hold=False,
            ),
        )
        record_id = first_id + offset
        dates = (one.record_date, one.brondatum)
        records.append((record_id, one.pointer, category, *dates, subject_id, import_id, tag))
        versions.append((record_id, 1, first_slot + offset, generation, act_id, one.body))
    insert_records(connection, records)
    insert_versions(connection, versions)
    append_pending(connection, [one.entry for one in batch])


def _batched(records: Iterable[NewRecord]) -> Iterator[list[NewRecord]]:
    batch: list[NewRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.payload)
        if len(batch) >= BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_dates(
    category: RecordCategory, record_date: dt.date, brondatum: dt.date | None
) -> None:
    """Refuse what no decision could be made about later (ST1, ST2, ST3)."""
    if isinstance(record_date, dt.datetime) or isinstance(brondatum, dt.datetime):
        raise InvalidInput("record_date and brondatum are days, without a time")
    rule = retention_rule(category, record_date)
    try:
        if rule is not None:
            archiefactiedatum(brondatum, rule.result)
    except InvalidPolicy as error:
        raise InvalidInput(f"brondatum: {error}") from None


def _check_payload(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidInput(f"a payload has at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
