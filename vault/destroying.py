"""Destroying records inside a change, and reading the destruction back (ER1, ER2).

What goes: the keys of all versions and field groups, their bodies, holds, everything in the row but
the tombstone, the subject's row with its last record, the name of the import run. What stays of an
erasure is what its certificate will say: ground, decision, category, retention rule and
archiefactiedatum; no content and no subject. Tested in tests/vault/test_sdk_erasing.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import CORE_GROUP, encode_erasure
from ledger.log import append_pending
from policy import Decision, Ground, archiefactiedatum
from vault import keynode
from vault.core import Change, Core
from vault.errors import Incomplete
from vault.keynode import SlotState
from vault.keytree import KeyTree, tree_of
from vault.records import RecordRow
from vault.rootkeys.provider import TreeNumber


@dataclass(frozen=True, slots=True)
class Target:
    """A record to destroy, and why.

    Attributes:
        record: its row, checked.
        ground: of the request.
        decision: that allows it.
    """

    record: RecordRow
    ground: Ground
    decision: Decision


@dataclass(frozen=True, slots=True)
class KeySlot:
    """Where one key of a record lies, or lay.

    Attributes:
        what: names it to people, such as "version 2" or "version 2, contact".
        slot: of its tree.
        birth: the generation in which it was made.
        has_body: whether what it seals is still stored.
    """

    what: str
    slot: int
    birth: int
    has_body: bool


def key_slots(connection: Connection, record_id: int) -> list[KeySlot]:
    """Return all keys of a record: of its versions, then of their field groups."""
    versions = run(
        connection,
        "SELECT number, slot, birth_generation, body IS NOT NULL FROM vault_version"
        " WHERE record_id = ? ORDER BY number",
        (record_id,),
    ).fetchall()
    parts = run(
        connection,
        "SELECT number, name, slot, birth_generation, body IS NOT NULL FROM vault_part"
        " WHERE record_id = ? ORDER BY number, field_group",
        (record_id,),
    ).fetchall()
    return [
        KeySlot(f"version {number}", slot, birth, bool(has_body))
        for number, slot, birth, has_body in versions
    ] + [
        KeySlot(f"version {number}, {name}", slot, birth, bool(has_body))
        for number, name, slot, birth, has_body in parts
    ]


def destroy(change: Change, target: Target, act_id: int) -> int:
    """Destroy a record in a change and return how many versions it had.

    Records of the permanent tree are destroyed only through a broken glass: for those the caller
    has checked that (ST6).
    """
    connection, record = change.connection, target.record
    keys = key_slots(connection, record.id)
    # Field groups that went before have no key left.
    living = [key.slot for key in keys if key.has_body]
    tree = tree_of(living[0])
    edit = change.edit_of(tree)
    if tree is TreeNumber.PERMANENT:
        edit.erase_permanent(living)
    else:
        edit.erase(living)
    generation = edit.state.generation
    for table in ("vault_version", "vault_part"):
        run(
            connection,
            f"UPDATE {table} SET body = NULL, erased_generation = ?"  # noqa: S608
            " WHERE record_id = ? AND body IS NOT NULL",
            (generation, record.id),
        )
    _record_erasure(connection, target, act_id, tree, min(key.birth for key in keys), generation)
    _leave_tombstone(connection, target, act_id)
    _forget_subject(change, record)
    if record.import_slot is not None:
        _forget_import(change, record.import_slot)
    append_pending(connection, [encode_erasure(bytes(record.pointer), record.current)])
    return record.current


def _record_erasure(
    connection: Connection, target: Target, act_id: int, tree: TreeNumber, born: int, erased: int
) -> None:
    record, decision = target.record, target.decision
    rule, brondatum = record.duty()
    date = None if rule is None else archiefactiedatum(brondatum, rule.result)
    run(
        connection,
        "INSERT INTO vault_erasure (record_id, field_group, tree, born, erased, act_id, ground,"
        " code, article, rule_version, category, retention, archiefactiedatum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            CORE_GROUP,
            tree,
            born,
            erased,
            act_id,
            target.ground,
            decision.code,
            decision.article,
            decision.rule_version,
            record.category,
            record.retention,
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


def _forget_subject(change: Change, record: RecordRow) -> None:
    if record.subject_id is None:
        return
    others = run(
        change.connection,
        "SELECT 1 FROM vault_record WHERE subject_id = ? LIMIT 1",
        (record.subject_id,),
    ).fetchone()
    if others is None:
        change.subjects.forget(change.edit, record.subject_id)


def _forget_import(change: Change, slot: int) -> None:
    # The run's tag could confirm a guess at the whole file, so it dies with the first of its
    # records; the others keep the slot's number, which names nothing any more.
    gone = run(change.connection, "DELETE FROM vault_import WHERE slot = ?", (slot,))
    if gone.rowcount:
        change.edit.erase([slot])


def undestroyed(core: Core, connection: Connection, record_ids: Iterable[int]) -> dict[int, str]:
    """Read destructions back from the stored bytes and return what is left, by record.

    Args:
        core: of the open vault.
        connection: with a snapshot.
        record_ids: of records that were erased.

    Returns:
        For each record of which something is left, what that is.
    """
    # Trees of their own, that have cached nothing.
    trees = {
        number: KeyTree(number, core.providers, newest=core.newest_generation)
        for number in TreeNumber
    }
    states = {number: tree.state(connection) for number, tree in trees.items()}
    left: dict[int, str] = {}
    for record_id in record_ids:
        remaining = []
        for key in key_slots(connection, record_id):
            tree = trees[tree_of(key.slot)]
            leaf = tree.node(connection, states[tree.number], (0, key.slot >> 8))
            position = key.slot & 255
            zeroed = keynode.key_at(leaf, position) == bytes(keynode.KEY_BYTES)
            if keynode.state_at(leaf, position) is not SlotState.ERASED or not zeroed:
                remaining.append(f"key of {key.what}")
            if key.has_body:
                remaining.append(f"body of {key.what}")
        if remaining:
            left[record_id] = "; ".join(remaining)
    return left


def confirm(core: Core, records: Sequence[RecordRow]) -> None:
    """Raise Incomplete where a destruction cannot be read back (ER2)."""
    with core.database.read() as connection:
        left = undestroyed(core, connection, [record.id for record in records])
    for record in records:
        if record.id in left:
            raise Incomplete(
                f"record {record.name}: {left[record.id]} was not destroyed; run 'kluis audit'"
            )
