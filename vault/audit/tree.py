"""Audit of the key tree: nodes, slots and who uses them.

Every slot below the next free one of its tree was handed out once, to a record version, a field
group, a bucket of the subject index or an import run. Its state must be what its owner says: a live
owner needs a key (otherwise the record is LOST, which is not the same as erased), and a key needs a
live owner (otherwise an erasure left it behind).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from sqlalchemy import Connection

from ledger.fault import Fault
from vault import keynode
from vault.core import Core
from vault.errors import Damaged
from vault.keynode import FANOUT, SlotState
from vault.keytree import (
    MAX_SLOTS,
    ROOT_LEVEL,
    TENANT_BYTES,
    KeyTree,
    TreeState,
    first_slot,
    tree_of,
)
from vault.rootkeys.provider import TreeNumber

# Slots with a living owner, in one ascending stream.
_OWNERS = (
    "SELECT slot FROM vault_version WHERE body IS NOT NULL"
    " UNION ALL SELECT slot FROM vault_part WHERE body IS NOT NULL"
    " UNION ALL SELECT slot FROM vault_bucket"
    " UNION ALL SELECT slot FROM vault_import ORDER BY 1"
)

_TREE_BITS = 32
_LIVING = {TreeNumber.ORDINARY: SlotState.LIVE, TreeNumber.PERMANENT: SlotState.PERMANENT}


class TreeAudit:
    """Reads the tree from its stored bytes and checks it.

    Args:
        core: of the open vault.
        connection: one snapshot.
    """

    def __init__(self, core: Core, connection: Connection) -> None:
        self._connection = connection
        # Trees of their own, so that no node comes from a cache.
        self._trees = {
            number: KeyTree(number, core.providers, newest=core.newest_generation)
            for number in TreeNumber
        }
        self.nodes_checked = 0
        self.slots_checked = 0
        self._next_owned: int | None = None

    @cached_property
    def states(self) -> Mapping[TreeNumber, TreeState]:
        """The rows of the trees."""
        return {number: tree.state(self._connection) for number, tree in self._trees.items()}

    def leaf(self, number: int) -> bytes:
        """Return the plaintext of a leaf node."""
        tree = tree_of(number * FANOUT)
        return self._trees[tree].node(self._connection, self.states[tree], (0, number))

    def key(self, slot: int) -> bytes:
        """Return the key in a slot."""
        tree = tree_of(slot)
        return self._trees[tree].key(self._connection, self.states[tree], slot)

    def slot_state(self, slot: int) -> SlotState:
        """Return the state of a slot."""
        return keynode.state_at(self.leaf(slot // FANOUT), slot % FANOUT)

    def run(self) -> Iterator[Fault]:
        """Yield what is wrong."""
        tenants = {state.tenant for state in self.states.values()}
        if len(tenants) != 1 or bytes(TENANT_BYTES) in tenants:
            yield Fault("key tree", "has no tenant, or more than one")
        yield from self._node_rows()
        owners = self._connection.exec_driver_sql(_OWNERS).scalars()
        self._next_owned = next(owners, None)
        for number in TreeNumber:
            yield from self._slots(number, owners)
        if self._next_owned is not None:
            yield Fault(f"slot {self._next_owned}", "is used but was never handed out")
        self.nodes_checked = self._connection.exec_driver_sql(
            "SELECT count(*) FROM vault_node"
        ).scalar_one()

    def _node_rows(self) -> Iterator[Fault]:
        for level, number in self._connection.exec_driver_sql(
            "SELECT level, number FROM vault_node ORDER BY level DESC, number"
        ).all():
            where = f"key node {number} at level {level}"
            # In this order: a level out of bounds is no exponent to compute with.
            is_level = 0 <= level <= ROOT_LEVEL and number >= 0
            first = number * FANOUT ** (level + 1) if is_level else -1
            tree = next((one for one in TreeNumber if first >> _TREE_BITS == one), None)
            is_root = level == ROOT_LEVEL
            if tree is None or not (is_root or first < self.states[tree].next_slot):
                yield Fault(where, "belongs to no part of the tree")
                continue
            try:
                node = self._trees[tree].node(self._connection, self.states[tree], (level, number))
            except Damaged as error:
                yield Fault(where, str(error))
                continue
            if level > 0:
                yield from self._children(where, node, level, number)

    def _children(self, where: str, node: bytes, level: int, number: int) -> Iterator[Fault]:
        width = FANOUT**level
        used = self.states[tree_of(number * FANOUT * width)].next_slot
        for position in range(FANOUT):
            first = (number * FANOUT + position) * width
            expected = SlotState.LIVE if first < used else SlotState.FREE
            if keynode.state_at(node, position) is not expected:
                yield Fault(where, f"slot {position} is not {expected.name.lower()}")

    def _slots(self, tree: TreeNumber, owners: Iterator[int]) -> Iterator[Fault]:
        used, start = self.states[tree].next_slot, first_slot(tree)
        if used < start:
            yield Fault("key tree", f"its next free slot is {used}, below its first")
        last_leaf = (used + FANOUT - 1) // FANOUT
        stored = self._connection.exec_driver_sql(
            "SELECT coalesce(max(number) + 1, ?) FROM vault_node"
            " WHERE level = 0 AND number BETWEEN ? AND ?",
            (start // FANOUT, start // FANOUT, (start + MAX_SLOTS) // FANOUT - 1),
        ).scalar_one()
        if last_leaf > stored:
            yield Fault(
                "key tree",
                f"{used - start} slots were handed out, its leaves end at"
                f" {stored * FANOUT - start}",
            )
        # No further than one missing leaf, since the number of slots may be what was changed.
        for number in range(start // FANOUT, min(last_leaf, stored + 1)):
            try:
                leaf = self.leaf(number)
            except Damaged as error:
                yield Fault(f"key node {number} at level 0", str(error))
                leaf = b""
            for slot in range(number * FANOUT, (number + 1) * FANOUT):
                is_owned = self._next_owned == slot
                if is_owned:
                    self._next_owned = next(owners, None)
                    if self._next_owned == slot:
                        yield Fault(f"slot {slot}", "has two owners")
                        self._next_owned = next(owners, None)
                if leaf:
                    yield from self._slot(tree, leaf, slot, is_owned=is_owned)

    def _slot(self, tree: TreeNumber, leaf: bytes, slot: int, *, is_owned: bool) -> Iterator[Fault]:
        position = slot % FANOUT
        state = keynode.state_at(leaf, position)
        empty = keynode.key_at(leaf, position) == bytes(keynode.KEY_BYTES)
        where = f"slot {slot}"
        self.slots_checked += 1
        if slot >= self.states[tree].next_slot:
            if state is not SlotState.FREE or not empty:
                yield Fault(where, "holds a key before it was handed out")
        elif is_owned and (state is not _LIVING[tree] or empty):
            yield Fault(where, f"LOST: its owner is live but the slot is {state.name.lower()}")
        elif not is_owned and (state is not SlotState.ERASED or not empty):
            yield Fault(where, f"its owner was erased but the slot is {state.name.lower()}")
