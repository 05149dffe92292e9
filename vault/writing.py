"""Putting and rectifying records.

Records come prepared (vault/preparing.py). Under the writer lock each gets its slot and row
numbers, and record, key node and pending entry become durable in one transaction. In that
transaction it is looked whether the ledger is stopped (GO3): no put enters behind a stop.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ledger.entry import MAX_VERSION, encode_version, governed
from ledger.governing import standing
from ledger.log import append_pending
from ledger.pointer import parse_pointer
from policy import RecordCategory
from vault.cipher import NONCE_BYTES, SLOT_KEY_BYTES, derive_record_keys, row_tag
from vault.core import Caller, Change, Core
from vault.errors import InvalidInput
from vault.governing import stopped_error
from vault.groups import insert_parts, require_not_erased
from vault.keytree import tree_of
from vault.listing import is_governed
from vault.preparing import (
    NewRecord,
    PreparedRecord,
    Preparer,
    check_payload,
    checked_parts,
)
from vault.reading import living_record
from vault.records import (
    Action,
    current_slot,
    insert_records,
    insert_versions,
    next_record_id,
    row_statement,
)

BATCH_RECORDS = 1_000
_BATCH_BYTES = 16 * 1024 * 1024


def put_batches(
    core: Core,
    records: Iterable[NewRecord],
    category: RecordCategory,
    caller: Caller,
    before_commit: Callable[[Change], int] | None = None,
) -> Iterator[list[bytes]]:
    """Store records in batches of at most 1,000, each durable when its pointers are yielded.

    Args:
        core: of the open vault.
        records: read as they are needed.
        category: of all of them.
        caller: who stores them and why.
        before_commit: called inside each transaction; returns the slot that names the import
            run to which its records belong.
    """
    preparer = Preparer(core, category)
    for batch in _batched(records):
        prepared = preparer.prepare(batch)
        with core.change() as change:
            import_slot = before_commit(change) if before_commit else None
            _insert(core, change, [(one, caller) for one in prepared], import_slot)
        yield [one.pointer for one in prepared]


def put_group(core: Core, group: Sequence[tuple[PreparedRecord, Caller]]) -> None:
    """Store records of several callers in one transaction."""
    with core.change() as change:
        _insert(core, change, group, None)


def rectify(
    core: Core,
    pointer_text: str,
    payload: bytes,
    caller: Caller,
    groups: Mapping[str, bytes] | None = None,
) -> int:
    """Append a corrected version of a record and return its number (RE1).

    Earlier versions stay readable in the history: a decision may rest on them. The version has
    exactly the field groups that are given; of the others, the newest part stays what it was.
    """
    check_payload(payload)
    pointer = parse_pointer(pointer_text)
    randomness = os.urandom(SLOT_KEY_BYTES + NONCE_BYTES)
    slot_key, nonce = randomness[:SLOT_KEY_BYTES], randomness[SLOT_KEY_BYTES:]
    keys = derive_record_keys(slot_key)
    with core.change() as change:
        record, _ = living_record(core, change.connection, change.key, pointer, caller)
        number = record.current + 1
        if number > MAX_VERSION:
            raise InvalidInput(f"record {record.name} has as many versions as can be numbered")
        category = core.config.category(str(record.category))
        parts = checked_parts(core, category, pointer, number, groups)
        require_not_erased(change.connection, record, parts)
        body = core.cipher.seal(keys, pointer, number, payload, nonce)
        commitment = core.committer.commit(keys.commitment, pointer, number, payload)
        edit = change.edit_of(tree_of(current_slot(change.connection, record)))
        slot = edit.add([slot_key])
        act_id = change.act(caller, Action.RECTIFY, core.clock.now())
        row = (record.id, number, slot, edit.state.generation, act_id, body)
        insert_versions(change.connection, [row])
        change.connection.exec_driver_sql(
            "UPDATE vault_record SET current = ?, row_tag = ? WHERE id = ?",
            (number, record._replace(current=number).tag(keys), record.id),
        )
        is_marked = is_governed(change.connection, pointer)
        entries = [encode_version(pointer, number, commitment, governed=is_marked)]
        if parts:
            entries += insert_parts(change, number, [(record.id, slot, part) for part in parts])
        append_pending(change.connection, entries)
    return number


def _insert(
    core: Core,
    change: Change,
    group: Sequence[tuple[PreparedRecord, Caller]],
    import_slot: int | None,
) -> None:
    is_founded, is_stopped = standing(change.connection)
    if is_stopped:
        raise stopped_error(change.connection)
    subject_ids = change.subjects.ensure(change.edit, [one.subject for one, _ in group])
    places = _places(change, [one for one, _ in group])
    first_id = next_record_id(change.connection)
    now = core.clock.now()
    callers = dict.fromkeys(caller for _, caller in group)
    acts = {caller: change.act(caller, Action.PUT, now) for caller in callers}
    records: list[tuple[object, ...]] = []
    versions: list[tuple[object, ...]] = []
    for offset, ((one, caller), (slot, generation)) in enumerate(zip(group, places, strict=True)):
        record_id = first_id + offset
        subject_id = subject_ids[one.subject]
        described = (one.category, one.retention, one.record_date, one.brondatum)
        statement = row_statement(one.pointer, 1, subject_id, False, *described)
        tag = row_tag(one.keys, statement)
        records.append((record_id, one.pointer, *described, subject_id, import_slot, tag))
        versions.append((record_id, 1, slot, generation, acts[caller], one.body))
    insert_records(change.connection, records)
    insert_versions(change.connection, versions)
    # What a duty keeps is destroyed by an enacted list alone, once there is somebody to enact one.
    entries = [
        governed(one.entry) if is_founded and one.retention is not None else one.entry
        for one, _ in group
    ]
    # Behind those of the cores: the order per pointer is kept.
    parts = [
        (first_id + offset, places[offset][0], part)
        for offset, (one, _) in enumerate(group)
        for part in one.parts
    ]
    if parts:
        entries += insert_parts(change, 1, parts)
    append_pending(change.connection, entries)


def _places(change: Change, prepared: Sequence[PreparedRecord]) -> list[tuple[int, int]]:
    """Put the keys of records into their trees and return slot and generation of each."""
    trees = {one.tree for one in prepared}
    next_slots = {}
    for tree in trees:
        keys = [one.slot_key for one in prepared if one.tree is tree]
        edit = change.edit_of(tree)
        next_slots[tree] = (itertools.count(edit.add(keys)), edit.state.generation)
    return [
        (next(slots), generation)
        for slots, generation in (next_slots[one.tree] for one in prepared)
    ]


def _batched(records: Iterable[NewRecord]) -> Iterator[list[NewRecord]]:
    batch: list[NewRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += record.size
        if len(batch) >= BATCH_RECORDS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
