"""Destruction lists: what stands on them, and erasure entries that prove their place (GO2).

A list is the RFC 6962 tree over its items (`ledger.action.list_item`), in random order, so that the
place of an item says nothing. The ledger holds root and number alone; the items are kept beside it,
first with the proposal and, once that was enacted, under the sequence of the state that it made.
`append_erasure` is the one way in which the vault appends an erasure entry: the rules judge it
first, so a record with the governed mark cannot be erased without its list. Tested in
tests/vault/test_governed_lists.py.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from ledger import merkle
from ledger.action import EnactList, list_item
from ledger.approval import Approval
from ledger.driver import run, run_many
from ledger.entry import (
    CORE_GROUP,
    Entry,
    EntryKind,
    Membership,
    encode_erasure,
    encode_listed_erasure,
    parse_entry,
)
from ledger.errors import NotValid
from ledger.governance import judge
from ledger.governancestate import GovernanceState, ListedDestruction
from ledger.governing import current_state, standing
from ledger.log import Log, append_pending
from ledger.pointer import format_pointer
from ledger.tiles import extend, hash_reader
from vault.errors import Damaged, InvalidInput, ListNeeded
from vault.records import load_record

_KEY_NAME_BYTES = 8
_KEPT_TREES = 4


class Item(NamedTuple):
    """What a list says may be destroyed.

    Attributes:
        pointer: 16 bytes, of the record.
        group: 0 for the whole record.
    """

    pointer: bytes
    group: int


class ItemTree:
    """The tree over the items of a list, in memory: 64 bytes an item, roughly.

    Args:
        items: in the order of the list.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        hashes = [merkle.leaf_hash(list_item(*item)) for item in items]
        self.count = len(hashes)
        tiles = extend(0, hashes, lambda level, number: b"")
        self._read = hash_reader(lambda level, number: tiles[level, number])
        self.root = merkle.root(self.count, self._read)

    def path(self, place: int) -> tuple[bytes, ...]:
        """Return the RFC 6962 audit path of an item."""
        return tuple(merkle.inclusion_proof(place, self.count, self._read))


def shuffled_items(connection: Connection, pointers: Iterable[bytes]) -> list[Item]:
    """Return the items of a list of records, in random order.

    Raises:
        NotFound: no record has one of the pointers.
        InvalidInput: one stands twice or was erased, or there are none.
    """
    items: dict[Item, bytes] = {}
    for pointer in pointers:
        record, item = load_record(connection, pointer), Item(pointer, CORE_GROUP)
        if record.erased_act is not None:
            raise InvalidInput(f"record {record.name} was erased: take it off the list")
        if item in items:
            raise InvalidInput(f"record {record.name} stands on the list twice")
        items[item] = os.urandom(16)
    if not items:
        raise InvalidInput("there is nothing on the list")
    return sorted(items, key=items.__getitem__)


def list_action(items: Sequence[Item]) -> EnactList:
    """Return the action that would enact a list of these items."""
    tree = ItemTree(items)
    return EnactList(tree.root, tree.count)


def store_proposed(connection: Connection, proposal_id: int, items: Sequence[Item]) -> None:
    """Keep the items of a list with its proposal."""
    run_many(
        connection,
        "INSERT INTO vault_proposed (proposal_id, place, pointer, field_group) VALUES (?, ?, ?, ?)",
        ((proposal_id, place, *item) for place, item in enumerate(items)),
    )


def load_proposed(connection: Connection, proposal_id: int) -> list[Item]:
    """Return the items that a proposal would put on a list; none for other proposals."""
    rows = run(
        connection,
        "SELECT pointer, field_group FROM vault_proposed WHERE proposal_id = ? ORDER BY place",
        (proposal_id,),
    )
    return [Item(bytes(pointer), group) for pointer, group in rows.fetchall()]


def settle_proposed(connection: Connection, enacted: int, sequence: int) -> None:
    """Move the items of the proposal that was enacted under its list; those of others go.

    No proposal is open after one was enacted, so nothing else is waited for.
    """
    run(
        connection,
        "INSERT INTO vault_listed (sequence, place, pointer, field_group)"
        " SELECT ?, place, pointer, field_group FROM vault_proposed WHERE proposal_id = ?",
        (sequence, enacted),
    )
    run(connection, "DELETE FROM vault_proposed")


def note_approvers(
    connection: Connection, state: GovernanceState, approvals: Sequence[Approval], sequence: int
) -> None:
    """Keep who approved a list, as its certificates will say it: key and role, and no name.

    Args:
        connection: with the writer lock.
        state: in which they were members.
        approvals: of the list.
        sequence: of the list.
    """
    members = [state.member(approval.key) for approval in approvals]
    named = [[f"key {key_name(one.key)}", one.role.name.lower()] for one in members if one]
    run(
        connection,
        "INSERT INTO vault_list (sequence, approvers) VALUES (?, ?)",
        (sequence, json.dumps(named)),
    )


def key_name(key: bytes) -> str:
    """Return by which short name people and certificates know a public key: 16 digits of hex."""
    return key[:_KEY_NAME_BYTES].hex()


def approvers_of(connection: Connection, sequence: int) -> str | None:
    """Return who approved a list, as `vault_erasure.approvers` has it; None where it is lost."""
    row = run(
        connection, "SELECT approvers FROM vault_list WHERE sequence = ?", (sequence,)
    ).fetchone()
    return None if row is None else str(row[0])


def listed_items(connection: Connection, sequence: int) -> list[Item]:
    """Return the items of an enacted list, in its order."""
    rows = run(
        connection,
        "SELECT pointer, field_group FROM vault_listed WHERE sequence = ? ORDER BY place",
        (sequence,),
    )
    return [Item(bytes(pointer), group) for pointer, group in rows.fetchall()]


def membership_of(
    connection: Connection, pointer: bytes, group: int = CORE_GROUP
) -> Membership | None:
    """Return the place of an item on the newest enacted list that has it, or None.

    Raises:
        Damaged: the items that are kept do not give the root that was enacted.
    """
    if not standing(connection).founded:
        return None
    for listed in reversed(current_state(connection).lists):
        row = run(
            connection,
            "SELECT place FROM vault_listed WHERE sequence = ? AND pointer = ? AND field_group = ?",
            (listed.sequence, pointer, group),
        ).fetchone()
        if row is not None:
            return Membership(listed.sequence, row[0], _tree(connection, listed).path(row[0]))
    return None


# A root stands for its items, so whatever vault they are of. The newest tree is the last.
_trees: dict[bytes, ItemTree] = {}


def _tree(connection: Connection, listed: ListedDestruction) -> ItemTree:
    tree = _trees.get(listed.root)
    if tree is None:
        tree = ItemTree(listed_items(connection, listed.sequence))
        if tree.count != listed.count or not hmac.compare_digest(tree.root, listed.root):
            raise Damaged(f"the items of list {listed.sequence} do not give the root it has")
        while len(_trees) >= _KEPT_TREES:
            _trees.pop(next(iter(_trees)), None)
        _trees[listed.root] = tree
    return tree


def newest_version(connection: Connection, pointer: bytes) -> Entry | None:
    """Return the newest entry of a version of a record's core; pending ones count.

    What waits is not found by its pointer, so all of it is looked through: 65,536 entries take
    about ten milliseconds.
    """
    waiting = run(
        connection,
        # The kind VERSION, and the core with or without its mark.
        "SELECT entry FROM ledger_pending WHERE substr(entry, 5, 16) = ?"
        " AND substr(entry, 2, 1) = x'01' AND substr(entry, 4, 1) IN (x'00', x'80')"
        " ORDER BY id DESC LIMIT 1",
        (pointer,),
    ).fetchone()
    if waiting is not None:
        return parse_entry(bytes(waiting[0]))
    log = Log(connection)
    for leaf in reversed(log.leaves_of(pointer)):
        entry = parse_entry(log.entry(leaf))
        if entry.kind is EntryKind.VERSION and entry.group == CORE_GROUP:
            return entry
    return None


def is_governed(connection: Connection, pointer: bytes) -> bool:
    """Tell whether only a listed erasure can erase a record: what its entries in the ledger say."""
    if not standing(connection).founded:
        return False
    entry = newest_version(connection, pointer)
    return entry is not None and entry.governed


def append_erasure(
    connection: Connection,
    pointer: bytes,
    last_version: int,
    group: int = CORE_GROUP,
    membership: Membership | None = None,
) -> None:
    """Append the entry of an erasure that the rules allow.

    Args:
        connection: with the writer lock.
        pointer: 16 bytes, of the record.
        last_version: that is erased.
        group: field group; 0 for the whole record.
        membership: its place on an enacted list, where it needs one or has one.

    Raises:
        ListNeeded: only an enacted list can have it erased; nothing was written.
    """
    if membership is None:
        entry = encode_erasure(pointer, last_version, group)
    else:
        entry = encode_listed_erasure(pointer, last_version, membership, group)
    if standing(connection).founded:
        before = newest_version(connection, pointer)
        try:
            # The index counts for governance entries alone.
            judge("", current_state(connection), parse_entry(entry), 0, before)
        except NotValid:
            raise ListNeeded(format_pointer(pointer)) from None
    append_pending(connection, [entry])
