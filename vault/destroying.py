"""Destroying records and field groups inside a change, and reading that back (ER1, ER2, ER5).

What goes: the keys of all versions and field groups, their bodies, holds, everything in the row but
the tombstone, the subject's row with its last record, the name of the import run. Of a field group
only its own keys and bodies go. What stays of an erasure is what its certificate will say: ground,
decision, category, retention rule and archiefactiedatum; no content and no subject. Tested in
tests/vault/test_sdk_erasing.py and tests/vault/test_field_groups.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import CORE_GROUP, Membership
from policy import Decision, Ground, archiefactiedatum
from vault import keynode
from vault.core import Change, Core
from vault.errors import Incomplete
from vault.keynode import SlotState
from vault.keytree import KeyTree, TreeState, tree_of
from vault.listing import append_erasure
from vault.records import RecordRow
from vault.rootkeys.provider import TreeNumber


@dataclass(frozen=True, slots=True)
class Target:
    """A record to destroy, and why.

    Attributes:
        record: its row, checked.
        ground: of the request.
        decision: that allows it.
        membership: its place on an enacted destruction list; None where it needs none.
    """

    record: RecordRow
    ground: Ground
    decision: Decision
    membership: Membership | None = None


@dataclass(frozen=True, slots=True)
class KeySlot:
    """Where one key of a record lies, or lay.

    Attributes:
        what: names it to people, such as "version 2" or "version 2, contact".
        version: from 1.
        slot: of its tree.
        birth: the generation in which it was made.
        has_body: whether what it seals is still stored.
    """

    what: str
    version: int
    slot: int
    birth: int
    has_body: bool


def key_slots(connection: Connection, record_id: int, group: int = CORE_GROUP) -> list[KeySlot]:
    """Return all keys of a record: of its versions, then of their field groups.

    Args:
        connection: with a snapshot.
        record_id: of the record.
        group: only of this field group; 0 for the whole record.
    """
    if group != CORE_GROUP:
        return _part_slots(connection, " AND field_group = ?", (record_id, group))
    versions = run(
        connection,
        "SELECT number, slot, birth_generation, body IS NOT NULL FROM vault_version"
        " WHERE record_id = ? ORDER BY number",
        (record_id,),
    ).fetchall()
    return [
        KeySlot(f"version {number}", number, slot, birth, bool(has_body))
        for number, slot, birth, has_body in versions
    ] + _part_slots(connection, "", (record_id,))


def _part_slots(
    connection: Connection, condition: str, parameters: tuple[int, ...]
) -> list[KeySlot]:
    parts = run(
        connection,
        "SELECT number, name, slot, birth_generation, body IS NOT NULL FROM vault_part"  # noqa: S608
        f" WHERE record_id = ?{condition} ORDER BY number, field_group",
        parameters,
    ).fetchall()
    return [
        KeySlot(f"version {number}, {name}", number, slot, birth, bool(has_body))
        for number, name, slot, birth, has_body in parts
    ]


def destroy(change: Change, target: Target, act_id: int) -> int:
    """Destroy a record in a change and return how many versions it had.

    Records of the permanent tree are destroyed only through a broken glass: for those the caller
    has checked that (ST6).

    Raises:
        ListNeeded: the record is governed, and the target names no place on an enacted list (GO2).
    """
    connection, record = change.connection, target.record
    keys = key_slots(connection, record.id)
    tree, generation = _erase_keys(change, keys)
    for table in ("vault_version", "vault_part"):
        run(
            connection,
            f"UPDATE {table} SET body = NULL, erased_generation = ?"  # noqa: S608
            " WHERE record_id = ? AND body IS NOT NULL",
            (generation, record.id),
        )
    _leave_tombstone(connection, target, act_id)
    births = [key.birth for key in keys]
    shared = [*_forget_subject(change, record), *_forget_import(change, record)]
    if tree is TreeNumber.ORDINARY:
        births += shared
    _record_erasure(connection, target, act_id, tree, min(births), generation)
    if tree is TreeNumber.PERMANENT and shared:
        # Its subject was indexed under keys of the other tree.
        run(
            connection,
            "UPDATE vault_erasure SET index_born = ?, index_erased = ?"
            " WHERE record_id = ? AND field_group = ?",
            (min(shared), change.edit.state.generation, record.id, CORE_GROUP),
        )
    append_erasure(connection, bytes(record.pointer), record.current, membership=target.membership)
    return record.current


def destroy_group(change: Change, target: Target, group: int, act_id: int) -> int:
    """Destroy one field group of a living record, in all versions; return how many had it.

    The group has a key left. No duty keeps it, so it goes from the permanent tree without a broken
    glass, and its erasure names no retention rule.
    """
    connection, record = change.connection, target.record
    keys = key_slots(connection, record.id, group)
    tree, generation = _erase_keys(change, keys)
    run(
        connection,
        "UPDATE vault_part SET body = NULL, erased_generation = ?"
        " WHERE record_id = ? AND field_group = ? AND body IS NOT NULL",
        (generation, record.id, group),
    )
    born = min(key.birth for key in keys)
    _record_erasure(connection, target, act_id, tree, born, generation, group)
    last = max(key.version for key in keys)
    append_erasure(connection, bytes(record.pointer), last, group)
    return len(keys)


def _erase_keys(change: Change, keys: Sequence[KeySlot]) -> tuple[TreeNumber, int]:
    """Zero the slots of keys, and return their tree and the generation in which that was done."""
    # Field groups that went before have no key left.
    living = [key.slot for key in keys if key.has_body]
    tree = tree_of(living[0])
    edit = change.edit_of(tree)
    if tree is TreeNumber.PERMANENT:
        edit.erase_permanent(living)
    else:
        edit.erase(living)
    return tree, edit.state.generation


def _record_erasure(
    connection: Connection,
    target: Target,
    act_id: int,
    tree: TreeNumber,
    born: int,
    erased: int,
    group: int = CORE_GROUP,
) -> None:
    record, decision = target.record, target.decision
    rule, brondatum = record.duty() if group == CORE_GROUP else (None, None)
    date = None if rule is None else archiefactiedatum(brondatum, rule.result)
    run(
        connection,
        "INSERT INTO vault_erasure (record_id, field_group, tree, born, erased, act_id, ground,"
        " code, article, rule_version, category, retention, archiefactiedatum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            group,
            tree,
            born,
            erased,
            act_id,
            target.ground,
            decision.code,
            decision.article,
            decision.rule_version,
            record.category,
            record.retention if group == CORE_GROUP else None,
            None if date is None else date.isoformat(),
        ),
    )


def _leave_tombstone(connection: Connection, target: Target, act_id: int) -> None:
    run(connection, "DELETE FROM vault_hold WHERE record_id = ?", (target.record.id,))
    run(
        connection,
        "UPDATE vault_record SET category = NULL, retention = NULL, record_date = NULL,"
        " brondatum = NULL, subject_id = NULL, import_slot = NULL, on_hold = 0, row_tag = NULL,"
        " ground = ?, erased_act = ? WHERE id = ?",
        (target.ground, act_id, target.record.id),
    )


def _forget_subject(change: Change, record: RecordRow) -> list[int]:
    """Drop the subject with its last record; return since which generation the index had it."""
    if record.subject_id is None:
        return []
    others = run(
        change.connection,
        "SELECT 1 FROM vault_record WHERE subject_id = ? LIMIT 1",
        (record.subject_id,),
    ).fetchone()
    return [] if others else [change.subjects.forget(change.edit, record.subject_id)]


def _forget_import(change: Change, record: RecordRow) -> list[int]:
    """Drop the import run of a record; return the generation of the key of its tag, or before."""
    # The run's tag could confirm a guess at the whole file, so it dies with the first of its
    # records; the others keep the slot's number, which names nothing any more.
    slot = record.import_slot
    gone = run(change.connection, "DELETE FROM vault_import WHERE slot = ?", (slot,))
    if not gone.rowcount or slot is None:
        return []
    change.edit.erase([slot])
    # Slots only rise, so whoever owns the next lower one was born no later than this key.
    row = run(
        change.connection,
        "SELECT birth_generation FROM vault_version WHERE slot < ? ORDER BY slot DESC LIMIT 1",
        (slot,),
    ).fetchone()
    return [1 if row is None else int(row[0])]


def undestroyed(
    core: Core, connection: Connection, erased: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """Read destructions back from the stored bytes and return what is left, by record.

    Args:
        core: of the open vault.
        connection: with a snapshot.
        erased: record ids, each with the field group that was erased, 0 for the whole record.

    Returns:
        For each of them of which something is left, what that is.
    """
    trees: dict[TreeNumber, tuple[KeyTree, TreeState]] = {}
    left: dict[tuple[int, int], str] = {}
    for record_id, group in erased:
        remaining = []
        for key in key_slots(connection, record_id, group):
            number = tree_of(key.slot)
            if number not in trees:
                trees[number] = _empty_tree(core, connection, number)
            tree, state = trees[number]
            leaf = tree.node(connection, state, (0, key.slot >> 8))
            position = key.slot & 255
            zeroed = keynode.key_at(leaf, position) == bytes(keynode.KEY_BYTES)
            if keynode.state_at(leaf, position) is not SlotState.ERASED or not zeroed:
                remaining.append(f"key of {key.what}")
            if key.has_body:
                remaining.append(f"body of {key.what}")
        if remaining:
            left[record_id, group] = "; ".join(remaining)
    return left


def _empty_tree(
    core: Core, connection: Connection, number: TreeNumber
) -> tuple[KeyTree, TreeState]:
    """Return a tree that has no node in memory, so that each is read from the stored bytes."""
    known = core.trees[number]
    state = known.state(connection)
    tree = KeyTree(number, core.providers)
    tree.state(connection)
    # The epoch key alone comes from memory: its keeper may take a hundred times as long as the
    # rest.
    tree.lend(state.generation, known.epoch_key(connection, state))
    return tree, state


def confirm(core: Core, records: Sequence[RecordRow], group: int = CORE_GROUP) -> None:
    """Raise Incomplete where a destruction cannot be read back (ER2).

    Args:
        core: of the open vault.
        records: that were erased, wholly or in one field group.
        group: that field group; 0 for the whole record.
    """
    with core.database.read() as connection:
        left = undestroyed(core, connection, [(record.id, group) for record in records])
    for record in records:
        remaining = left.get((record.id, group))
        if remaining is not None:
            raise Incomplete(
                f"record {record.name}: {remaining} was not destroyed; run 'kluis audit'"
            )
