"""Optional field groups: parts of a record under keys of their own (ER5).

A category names up to 15 groups (policy/category.py). A version of a record may come with some of
them. Each part has its own slot in the tree of the record's keys, its own blob and its own entry in
the ledger, all bound to the group's number: so a group can be erased, in all versions, while the
core of the record stays readable and provable (vault/erasing_group.py).

A corrected version has exactly the parts that come with it. What a group holds now is its newest
part, of whichever version that is: a correction that leaves a group out leaves it as it was. A
group that was erased by itself takes no new part.

The order of the names in the configuration gives the numbers. The name is stored with each part
too, because an erased record has no category any more; where the two differ, the configuration was
changed in a way that it may not be, or the row was. Tested in tests/vault/test_field_groups.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from ledger.driver import run, run_many
from ledger.entry import encode_version
from ledger.log import Log
from ledger.pointer import parse_pointer
from policy import RecordCategory
from vault.cipher import NONCE_BYTES, SLOT_KEY_BYTES, derive_record_keys
from vault.core import Caller, Change, Core
from vault.errors import Damaged, Erased, InvalidInput, NotFound
from vault.keytree import tree_of
from vault.reading import erasure_leaf, living_record, pruned_erasure
from vault.records import Action, RecordRow

_RANDOM_BYTES = SLOT_KEY_BYTES + NONCE_BYTES


class NewPart(NamedTuple):
    """A part that only waits for the writer lock. Its repr shows no key."""

    group: int
    name: str
    slot_key: bytes
    body: bytes
    entry: bytes

    def __repr__(self) -> str:
        return "NewPart(…)"


class Part(NamedTuple):
    """The newest part of a group, as it is stored. `body` is None once it was erased."""

    version: int
    name: str
    slot: int
    body: bytes | None
    erased_generation: int | None


def group_number(category: RecordCategory, name: str) -> int:
    """Return the number of a field group, 1 to 15.

    Raises:
        InvalidInput: the category has no such group. The name is not repeated.
    """
    try:
        return category.groups.index(name) + 1
    except ValueError:
        known = f"it has: {', '.join(category.groups)}" if category.groups else "it has none"
        raise InvalidInput(f"category {category.name} has no such field group; {known}") from None


def find_group(core: Core, connection: Connection, record: RecordRow, name: str) -> int:
    """Return the number of a field group of a record, living or erased.

    Args:
        core: of the open vault.
        connection: with a snapshot.
        record: its row, checked where the record lives.
        name: of the group.

    Raises:
        InvalidInput: its category has no such group.
        NotFound: an erased record had no such group.
    """
    if record.category is not None:
        return group_number(core.config.category(record.category), name)
    found = run(
        connection,
        "SELECT field_group FROM vault_part WHERE record_id = ? AND name = ? LIMIT 1",
        (record.id, name),
    ).fetchone()
    if found is None:
        raise NotFound(f"record {record.name} had no such field group")
    return int(found[0])


def make_parts(
    core: Core, category: RecordCategory, pointer: bytes, version: int, groups: Mapping[str, bytes]
) -> tuple[NewPart, ...]:
    """Seal the field groups that come with a version, in the order of their numbers.

    Args:
        core: of the open vault.
        category: of the record.
        pointer: of the record.
        version: from 1.
        groups: content by name, each within the limit of a payload.

    Raises:
        InvalidInput: the category has no such group.
    """
    numbered = sorted((group_number(category, name), name) for name in groups)
    randomness = os.urandom(_RANDOM_BYTES * len(numbered))
    parts = []
    for place, (group, name) in enumerate(numbered):
        random = randomness[place * _RANDOM_BYTES : (place + 1) * _RANDOM_BYTES]
        slot_key, nonce, content = random[:SLOT_KEY_BYTES], random[SLOT_KEY_BYTES:], groups[name]
        keys = derive_record_keys(slot_key)
        body = core.cipher.seal(keys, pointer, version, content, nonce, group=group)
        commitment = core.committer.commit(keys.commitment, pointer, version, content, group)
        entry = encode_version(pointer, version, commitment, group)
        parts.append(NewPart(group, name, slot_key, body, entry))
    return tuple(parts)


def insert_parts(
    change: Change, version: int, owners: Sequence[tuple[int, int, NewPart]]
) -> list[bytes]:
    """Store parts with their keys, and return their entries, which are to be appended.

    Args:
        change: in which the versions that they come with were stored.
        version: of each of them.
        owners: record id, slot of the version's key, and part.
    """
    rows = []
    for record_id, core_slot, part in owners:
        edit = change.edit_of(tree_of(core_slot))
        (slot, generation) = edit.add([part.slot_key]), edit.state.generation
        rows.append((record_id, version, part.group, part.name, slot, generation, part.body))
    run_many(
        change.connection,
        "INSERT INTO vault_part (record_id, number, field_group, name, slot, birth_generation,"
        " body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return [part.entry for _, _, part in owners]


def newest_part(connection: Connection, record: RecordRow, group: int, name: str) -> Part:
    """Return the newest part of a field group, erased or not.

    Raises:
        NotFound: the record has no such part.
        Damaged: it is stored under another name.
    """
    row = run(
        connection,
        "SELECT number, name, slot, body, erased_generation FROM vault_part"
        " WHERE record_id = ? AND field_group = ? ORDER BY number DESC LIMIT 1",
        (record.id, group),
    ).fetchone()
    if row is None:
        raise NotFound(f"record {record.name} came without this field group")
    part = Part(*row)
    if part.name != name:
        raise Damaged(
            f"field group {group} of record {record.name} is stored under another name: the order"
            " of groups in the configuration was changed, or the row was"
        )
    return part


def living_groups(connection: Connection, record: RecordRow) -> list[str]:
    """Return the names of the field groups of a record that are not erased, by their number."""
    rows = run(
        connection,
        "SELECT DISTINCT field_group, name FROM vault_part"
        " WHERE record_id = ? AND erased_generation IS NULL ORDER BY field_group",
        (record.id,),
    )
    return [name for _, name in rows]


def get_group(core: Core, pointer_text: str, name: str, caller: Caller) -> bytes:
    """Return what a field group of a record holds now, byte for byte.

    Raises:
        NotFound: no such record, or it came without this group.
        InvalidInput: its category has no such group.
        Erased: the record was erased, or this group of it.
        PurposeRefused: its category does not allow the purpose.
        KeyLost, Damaged: the stored bytes are not what was written.
    """
    pointer = parse_pointer(pointer_text)
    return core.retried(lambda: _get_group(core, pointer, name, caller))


def _get_group(core: Core, pointer: bytes, name: str, caller: Caller) -> bytes:
    with core.database.read() as connection:
        read_key = core.read_key(connection)
        record, _ = living_record(core, connection, read_key, pointer, caller)
        group = find_group(core, connection, record, name)
        part = newest_part(connection, record, group, name)
        if part.erased_generation is not None:
            raise group_erased_error(connection, record, group, name)
        if part.body is None:
            raise Damaged(f"field group {group} of record {record.name} is live but is missing")
        keys = derive_record_keys(read_key(part.slot))
        return core.cipher.open(keys, pointer, part.version, part.body, group=group)


def require_not_erased(connection: Connection, record: RecordRow, parts: Sequence[NewPart]) -> None:
    """Raise Erased where one of the parts is of a group that was erased by itself."""
    log, pointer = Log(connection), bytes(record.pointer)
    for part in parts:
        found = run(
            connection,
            "SELECT 1 FROM vault_part WHERE record_id = ? AND field_group = ?"
            " AND erased_generation IS NOT NULL LIMIT 1",
            (record.id, part.group),
        ).fetchone()
        # After a restore, the ledger alone may know of it.
        if found is not None or erasure_leaf(log, pointer, part.group) is not None:
            raise group_erased_error(connection, record, part.group, part.name)


def group_erased_error(connection: Connection, record: RecordRow, group: int, name: str) -> Erased:
    """Return the error that says when a field group was erased and where the ledger says so.

    Raises:
        Damaged: nothing says when it was erased.
    """
    (at,) = run(
        connection,
        # An erasure that was replayed by a restore has no row of its own.
        "SELECT coalesce((SELECT a.at FROM vault_erasure e JOIN vault_act a ON a.id = e.act_id"
        " WHERE e.record_id = ? AND e.field_group = ?),"
        " (SELECT max(at) FROM vault_act WHERE action = ?))",
        (record.id, group, Action.RESTORE),
    ).fetchone()
    if at is None:
        raise Damaged(f"nothing says when field group {group} of record {record.name} was erased")
    log, pointer = Log(connection), bytes(record.pointer)
    leaf = erasure_leaf(log, pointer, group)
    pruned = pruned_erasure(log, pointer) if leaf is None else None
    return Erased(record.name, leaf, at, group=name, pruned=pruned)
