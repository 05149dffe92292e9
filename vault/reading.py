"""Reading records: payloads, histories, and the records of a subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import CORE_GROUP, ERASURES, EntryKind, parse_entry
from ledger.log import Log, has_pending
from ledger.pointer import format_pointer, parse_pointer
from vault.cipher import RecordKeys, derive_record_keys
from vault.core import Caller, Core
from vault.errors import Damaged, Erased, NotFound
from vault.keytree import tree_of
from vault.records import RecordRow, check_row, load_record, load_versions
from vault.subjects import ReadKey, encode_subject

# Everything that one read needs, in one statement and so in one snapshot.
_SELECT_CURRENT = (
    "SELECT t.generation, t.sequence, v.slot, v.body, r.erased_act, r.row_tag, r.current,"
    " r.subject_id, r.on_hold, r.category, r.retention, r.record_date, r.brondatum"
    " FROM vault_record r"
    " LEFT JOIN vault_version v ON v.record_id = r.id AND v.number = r.current"
    # The slot says in which tree the key lies (vault/keytree.py).
    " LEFT JOIN vault_tree t ON t.id = 1 + (v.slot >> 32)"
    " WHERE r.pointer = ?"
)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version in the history of a record.

    Attributes:
        number: from 1.
        at: Unix seconds, UTC.
        actor: who stored it.
        purpose: for which registered purpose.
        erased: whether it was erased.
        leaf: index of its entry in the ledger, or None while that is pending, and once it was
            pruned.
        groups: names of the field groups that came with it and are readable.
        pruned: whether its entry is gone because the ledger was pruned (LG8).
    """

    number: int
    at: int
    actor: str
    purpose: str
    erased: bool
    leaf: int | None
    groups: tuple[str, ...] = ()
    pruned: bool = False


def get(core: Core, pointer_text: str, caller: Caller) -> bytes:
    """Return the payload of a record's newest version, byte for byte.

    Raises:
        NotFound, Erased, PurposeRefused: see there.
        KeyLost: the record is live but its key is gone: a fault.
        Damaged: stored bytes were changed.
    """
    pointer = parse_pointer(pointer_text)
    rows = core.database.fetch(_SELECT_CURRENT, (pointer,))
    if not rows:
        raise NotFound(f"no record has the pointer {format_pointer(pointer)}")
    generation, sequence, slot, body, erased_act, *row = rows[0]
    if erased_act is None and slot is not None and body is not None:
        slot_key = core.trees[tree_of(slot)].cached_key(generation, sequence, slot)
        if slot_key is not None:
            return _open(core, pointer, slot_key, body, row, caller)
    return core.retried(lambda: _get_uncached(core, pointer, caller))


def _get_uncached(core: Core, pointer: bytes, caller: Caller) -> bytes:
    with core.database.read() as connection:
        found = run(connection, _SELECT_CURRENT, (pointer,)).fetchone()
        if found is None:
            raise NotFound(f"no record has the pointer {format_pointer(pointer)}")
        _, _, slot, body, erased_act, *row = found
        if erased_act is not None:
            raise erased_error(connection, load_record(connection, pointer))
        if slot is None or body is None:
            name = format_pointer(pointer)
            raise Damaged(f"record {name} is live but its newest version is missing")
        slot_key = core.read_key(connection)(slot)
    return _open(core, pointer, slot_key, body, row, caller)


def _open(
    core: Core, pointer: bytes, slot_key: bytes, body: bytes, row: list[Any], caller: Caller
) -> bytes:
    tag, current, _, _, category, *_ = row
    keys = derive_record_keys(slot_key)
    check_row(keys, tag, pointer, *row[1:])
    core.require_allowed(category, caller.purpose)
    return core.cipher.open(keys, pointer, current, body)


def history(core: Core, pointer_text: str, caller: Caller) -> list[VersionInfo]:
    """Return the versions of a record, oldest first; of an erased record too.

    Raises:
        NotFound: no record has this pointer.
        PurposeRefused: its category does not allow the purpose.
    """
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        core.require_allowed(record.category, caller.purpose)
        log = Log(connection)
        leaves = version_leaves(log, pointer)
        # Entries that wait are of later versions than those that are gone.
        is_pruned = log.pruned_to() is not None and not has_pending(connection, pointer)
        groups = _readable_groups(connection, record.id)
        found = []
        for version in load_versions(connection, record.id):
            at, actor, purpose = connection.exec_driver_sql(
                "SELECT at, actor, purpose FROM vault_act WHERE id = ?", (version.act_id,)
            ).one()
            erased = not version.has_body
            leaf = leaves.get(version.number)
            names = groups.get(version.number, ())
            gone = leaf is None and is_pruned
            found.append(VersionInfo(version.number, at, actor, purpose, erased, leaf, names, gone))
    return found


def _readable_groups(connection: Connection, record_id: int) -> dict[int, tuple[str, ...]]:
    groups: dict[int, tuple[str, ...]] = {}
    for number, name in run(
        connection,
        "SELECT number, name FROM vault_part WHERE record_id = ? AND body IS NOT NULL"
        " ORDER BY number, field_group",
        (record_id,),
    ):
        groups[number] = (*groups.get(number, ()), name)
    return groups


def find(core: Core, subject: str, caller: Caller) -> list[str]:
    """Return the pointers of the living records about a subject, oldest first.

    Records of categories that do not allow the purpose are left out (PU1).
    """
    encoded = encode_subject(subject)
    allowed = core.allowed_categories(caller.purpose)
    return core.retried(lambda: _find(core, encoded, allowed))


def _find(core: Core, encoded: bytes, allowed: frozenset[str]) -> list[str]:
    with core.database.read() as connection:
        state = core.tree.state(connection)
        index = core.subject_index(connection, state, core.read_key(connection, state))
        rows = connection.exec_driver_sql(
            "SELECT pointer, category FROM vault_record WHERE subject_id = ? ORDER BY id",
            (index.find(encoded),),
        )
        return [format_pointer(bytes(pointer)) for pointer, name in rows if name in allowed]


def living_record(
    core: Core, connection: Connection, read_key: ReadKey, pointer: bytes, caller: Caller
) -> tuple[RecordRow, RecordKeys]:
    """Return a record that is not erased and its newest keys, checked before anything rests on it.

    Args:
        core: of the open vault.
        connection: with a snapshot, or with the writer lock.
        read_key: as that sees the key trees.
        pointer: 16 bytes.
        caller: whose purpose the record's category must allow (PU1).

    Raises:
        NotFound, Erased, PurposeRefused: see there.
        Damaged: the row was changed, or its key is gone.
    """
    record = load_record(connection, pointer)
    if record.erased_act is not None:
        raise erased_error(connection, record)
    core.require_allowed(record.category, caller.purpose)
    return record, core.record_keys(connection, record, read_key)


def version_leaves(log: Log, pointer: bytes, group: int = CORE_GROUP) -> dict[int, int]:
    """Return the leaf of each version entry of a field group of a pointer, by version."""
    leaves = {}
    for leaf in log.leaves_of(pointer):
        entry = parse_entry(log.entry(leaf))
        if entry.kind is EntryKind.VERSION and entry.group == group:
            leaves[entry.version] = leaf
    return leaves


def erasure_leaf(log: Log, pointer: bytes, group: int = CORE_GROUP) -> int | None:
    """Return the leaf of the erasure entry of a field group, or None while that is pending."""
    for leaf in reversed(log.leaves_of(pointer)):
        entry = parse_entry(log.entry(leaf))
        if entry.kind in ERASURES and entry.group == group:
            return leaf
    return None


def pruned_erasure(log: Log, pointer: bytes) -> str | None:
    """Return in words that the erasure entry of a record was pruned; None while it is pending.

    Args:
        log: which has no erasure entry of it.
        pointer: of the erased record.
    """
    pruned = log.pruned_to()
    if pruned is None or has_pending(log.connection, pointer):
        return None
    return (
        f"its entry is gone, the ledger was pruned to {pruned[0]} by entry {pruned[1]};"
        " 'kluis certificate' has what it said"
    )


def erasure_index(core: Core, pointer_text: str) -> int | None:
    """Return the leaf of a record's erasure entry, or None while there is none."""
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        load_record(connection, pointer)
        return erasure_leaf(Log(connection), pointer)


def erased_error(connection: Connection, record: RecordRow) -> Erased:
    """Return the error that says when a record was erased and where the ledger says so."""
    at = connection.exec_driver_sql(
        "SELECT at FROM vault_act WHERE id = ?", (record.erased_act,)
    ).scalar_one()
    log, pointer = Log(connection), bytes(record.pointer)
    leaf = erasure_leaf(log, pointer)
    pruned = pruned_erasure(log, pointer) if leaf is None else None
    return Erased(record.name, leaf, at, pruned=pruned)
