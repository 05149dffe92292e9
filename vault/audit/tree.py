"""Audit of the key tree: nodes, slots and who uses them.

Every slot below the next free one was handed out once, to a record version, a bucket of the subject
index or an import run. Its state must be what its owner says: a live owner needs a key (otherwise
the record is LOST, which is not the same as erased), and a key needs a live owner (otherwise an
erasure left it behind).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from sqlalchemy import Connection

from ledger.fault import Fault
from vault import keynode
from vault.core import Core
from vault.errors import Damaged
from vault.keynode import FANOUT, SlotState
from vault.keytree import ROOT, ROOT_LEVEL, KeyTree, TreeState

# Slots with a living owner, in one ascending stream.
_OWNERS = (
    "SELECT slot FROM vault_version WHERE body IS NOT NULL"
    " UNION ALL SELECT slot FROM vault_bucket"
    " UNION ALL SELECT slot FROM vault_import ORDER BY 1"
)


class TreeAudit:
    """Reads the tree from its stored bytes and checks it.

    Args:
        core: of the open vault.
        connection: one snapshot.
    """

    def __init__(self, core: Core, connection: Connection) -> None:
        self._connection = connection
        # A tree of its own, so that no node comes from a cache.
        self.tree = KeyTree(core.keyring.root)
        self.nodes_checked = 0
        self.slots_checked = 0

    @cached_property
    def state(self) -> TreeState:
        """The tree's row."""
        return self.tree.state(self._connection)

    def leaf(self, number: int) -> bytes:
        """Return the plaintext of a leaf node."""
        return self.tree.node(self._connection, self.state, (0, number))

    def key(self, slot: int) -> bytes:
        """Return the key in a slot."""
        return self.tree.key(self._connection, self.state, slot)

    def slot_state(self, slot: int) -> SlotState:
        """Return the state of a slot."""
        return keynode.state_at(self.leaf(slot // FANOUT), slot % FANOUT)

    def run(self) -> Iterator[Fault]:
        """Yield what is wrong."""
        if self.state.tenant == bytes(len(self.state.tenant)):
            yield Fault("key tree", "has no tenant")
        yield from self._node_rows()
        yield from self._slots()
        self.nodes_checked = self._connection.exec_driver_sql(
            "SELECT count(*) FROM vault_node"
        ).scalar_one()

    def _node_rows(self) -> Iterator[Fault]:
        used = self.state.next_slot
        for level, number in self._connection.exec_driver_sql(
            "SELECT level, number FROM vault_node ORDER BY level DESC, number"
        ).all():
            where = f"key node {number} at level {level}"
            # In this order: a level out of bounds is no exponent to compute with.
            is_inner = 0 <= level < ROOT_LEVEL and 0 <= number * FANOUT ** (level + 1) < used
            if not is_inner and (level, number) != ROOT:
                yield Fault(where, "belongs to no part of the tree")
                continue
            try:
                node = self.tree.node(self._connection, self.state, (level, number))
            except Damaged as error:
                yield Fault(where, str(error))
                continue
            if level > 0:
                yield from self._children(where, node, level, number)

    def _children(self, where: str, node: bytes, level: int, number: int) -> Iterator[Fault]:
        width = FANOUT**level
        for position in range(FANOUT):
            first_slot = (number * FANOUT + position) * width
            expected = SlotState.LIVE if first_slot < self.state.next_slot else SlotState.FREE
            if keynode.state_at(node, position) is not expected:
                yield Fault(where, f"slot {position} is not {expected.name.lower()}")

    def _slots(self) -> Iterator[Fault]:
        owners = self._connection.exec_driver_sql(_OWNERS)
        owned = owners.scalars()
        next_owned = next(owned, None)
        last_leaf = (self.state.next_slot + FANOUT - 1) // FANOUT
        stored = self._connection.exec_driver_sql(
            "SELECT coalesce(max(number) + 1, 0) FROM vault_node WHERE level = 0"
        ).scalar_one()
        if last_leaf > stored:
            yield Fault(
                "key tree",
                f"{self.state.next_slot} slots were handed out, its leaves end at"
                f" {stored * FANOUT}",
            )
        # No further than one missing leaf, since the number of slots may be what was changed.
        for number in range(min(last_leaf, stored + 1)):
            try:
                leaf = self.leaf(number)
            except Damaged as error:
                yield Fault(f"key node {number} at level 0", str(error))
                leaf = b""
            for slot in range(number * FANOUT, (number + 1) * FANOUT):
                is_owned = next_owned == slot
                if is_owned:
                    next_owned = next(owned, None)
                    if next_owned == slot:
                        yield Fault(f"slot {slot}", "has two owners")
                        next_owned = next(owned, None)
                if leaf:
                    yield from self._slot(leaf, slot, is_owned=is_owned)
        if next_owned is not None:
            yield Fault(f"slot {next_owned}", "is used but was never handed out")

    def _slot(self, leaf: bytes, slot: int, *, is_owned: bool) -> Iterator[Fault]:
        position = slot % FANOUT
        state = keynode.state_at(leaf, position)
        empty = keynode.key_at(leaf, position) == bytes(keynode.KEY_BYTES)
        where = f"slot {slot}"
        self.slots_checked += 1
        if slot >= self.state.next_slot:
            if state is not SlotState.FREE or not empty:
                yield Fault(where, "holds a key before it was handed out")
        elif is_owned and (state is not SlotState.LIVE or empty):
            yield Fault(where, f"LOST: its owner is live but the slot is {state.name.lower()}")
        elif not is_owned and (state is not SlotState.ERASED or not empty):
            yield Fault(where, f"its owner was erased but the slot is {state.name.lower()}")
