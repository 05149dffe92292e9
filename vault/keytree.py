"""The key tree: why an erased key does not come back with a backup.

Keys lie in a tree of sealed nodes (vault/keynode.py; Boneh & Lipton 1996; Reardon, Basin & Capkun
2013). A slot is a number of four bytes, and each byte is a step from the root to the leaf that
holds the key:

    level 3   the root node, sealed by the epoch key of the tree's generation
    level 2   node number slot >> 24, its key in slot (slot >> 24) & 255 of the root
    level 1   node number slot >> 16, its key in its parent likewise
    level 0   node number slot >> 8, a leaf: 256 keys

Adding keys re-seals the leaf under its key. Erasing a key zeroes its slot and gives every node on
the path a fresh key, up to the root, which is sealed anew by the epoch key: whoever holds the new
tree and any old node cannot reach the erased key without an old root node and the epoch key of that
generation.

Every change is one transaction under the writer lock that ends in a compare-and-swap on
(generation, sequence). Opened nodes are cached, and the cache counts only for the sequence that is
read in the same snapshot: whoever finds another one drops it. So a process that slept through
another's erasure neither serves the erased key nor seals it back. Tested in
tests/vault/test_keytree.py and tests/vault/test_two_writers.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.driver import run, run_many
from vault import keynode
from vault.errors import Damaged, KeyLost, TreeMoved
from vault.keynode import FANOUT, KEY_BYTES, SlotState
from vault.rootkey import RootKeyProvider

ROOT_LEVEL = 3
MAX_SLOTS = FANOUT ** (ROOT_LEVEL + 1)
# Each opened node takes 8.4 KB; this holds the leaves of half a million keys.
_CACHED_NODES = 2_048
_USABLE = frozenset({SlotState.LIVE, SlotState.PERMANENT})

NodeName = tuple[int, int]  # level, number
ROOT: NodeName = (ROOT_LEVEL, 0)
_Label = tuple[int, int]  # generation, sequence


@dataclass(frozen=True, slots=True)
class TreeState:
    """What the tree's row said in a snapshot.

    Attributes:
        tenant: 16 bytes.
        generation: of the epoch key that seals the root node, from 1.
        sequence: rises with every change.
        next_slot: the lowest slot never used.
    """

    tenant: bytes
    generation: int
    sequence: int
    next_slot: int

    @property
    def label(self) -> _Label:
        """What names this state of the tree: cached nodes count for one label alone."""
        return self.generation, self.sequence


class KeyTree:
    """Reads keys and prepares changes.

    Args:
        provider: unwraps the epoch key, once per generation and process.
    """

    def __init__(self, provider: RootKeyProvider) -> None:
        self._provider = provider
        self._epoch_keys: dict[int, bytes] = {}
        # Guards label and cache together: threads read under different snapshots.
        self._lock = threading.Lock()
        self._cache: dict[NodeName, bytes] = {}
        self._label: _Label = (0, 0)

    def __repr__(self) -> str:
        return f"KeyTree(cached for {self._label})"

    @staticmethod
    def create(connection: Connection, provider: RootKeyProvider) -> None:
        """Write the first generation of an empty tree, with a fresh tenant."""
        tenant, epoch_key = os.urandom(16), os.urandom(KEY_BYTES)
        connection.exec_driver_sql(
            "INSERT INTO vault_generation (number, provider, wrapped) VALUES (1, ?, ?)",
            (provider.name, provider.wrap(tenant, 1, epoch_key)),
        )
        connection.exec_driver_sql(
            "INSERT INTO vault_tree (id, tenant, generation, sequence, next_slot)"
            " VALUES (1, ?, 1, 0, 0)",
            (tenant,),
        )
        root = keynode.seal_node(keynode.empty_node(), epoch_key, tenant, ROOT_LEVEL, 0)
        connection.exec_driver_sql(
            "INSERT INTO vault_node (level, number, sealed) VALUES (?, 0, ?)", (ROOT_LEVEL, root)
        )

    def state(self, connection: Connection) -> TreeState:
        """Read the tree's row, as this snapshot has it."""
        row = run(
            connection,
            "SELECT tenant, generation, sequence, next_slot FROM vault_tree WHERE id = 1",
        ).fetchone()
        if row is None:
            raise Damaged("the database has no key tree")
        return TreeState(bytes(row[0]), *row[1:])

    def cached_key(self, generation: int, sequence: int, slot: int) -> bytes | None:
        """Return a live key from the cache, if that counts for the sequence just read."""
        if self._label != (generation, sequence):
            return None
        leaf = self._cache.get((0, slot >> 8))
        if leaf is None or leaf[slot & 255] not in _USABLE:
            return None
        return keynode.key_at(leaf, slot & 255)

    def key(self, connection: Connection, state: TreeState, slot: int) -> bytes:
        """Return the key in a slot.

        Raises:
            KeyLost: the slot holds no key.
            Damaged: a node on the path does not open; it is named.
        """
        leaf = self.node(connection, state, (0, slot >> 8))
        found = keynode.state_at(leaf, slot & 255)
        if found not in _USABLE:
            raise KeyLost(f"slot {slot} of the key tree is {found.name.lower()}, not live")
        return keynode.key_at(leaf, slot & 255)

    def node(self, connection: Connection, state: TreeState, name: NodeName) -> bytes:
        """Return the plaintext of a node, from the cache where that counts for `state`."""
        with self._lock:
            self._drop_stale(state)
            cached = self._cache.get(name) if self._label == state.label else None
        if cached is not None:
            return cached
        plaintext = self._load(connection, state, name)
        with self._lock:
            if self._label == state.label:
                if len(self._cache) >= _CACHED_NODES:
                    self._cache.clear()
                self._cache[name] = plaintext
        return plaintext

    def _load(self, connection: Connection, state: TreeState, name: NodeName) -> bytes:
        level, number = name
        row = run(
            connection, "SELECT sealed FROM vault_node WHERE level = ? AND number = ?", name
        ).fetchone()
        if row is None:
            raise Damaged(f"key node {number} at level {level} is missing")
        key = self._node_key(connection, state, name)
        return keynode.open_node(bytes(row[0]), key, state.tenant, level, number)

    def edit(self, connection: Connection) -> TreeEdit:
        """Begin a change; the caller holds the writer lock."""
        return TreeEdit(self, connection, self.state(connection))

    def adopt(self, edit: TreeEdit) -> None:
        """Take over what an edit wrote, once its transaction is committed."""
        with self._lock:
            if edit.written and self._label == edit.state.label:
                if len(self._cache) + len(edit.nodes) > _CACHED_NODES:
                    self._cache.clear()
                self._cache.update({name: bytes(node) for name, node in edit.nodes.items()})
                self._label = (edit.state.generation, edit.state.sequence + 1)

    def epoch_key(self, connection: Connection, state: TreeState) -> bytes:
        """Return the epoch key of the tree's generation."""
        known = self._epoch_keys.get(state.generation)
        if known is None:
            wrapped = connection.exec_driver_sql(
                "SELECT wrapped FROM vault_generation WHERE number = ?", (state.generation,)
            ).scalar()
            if wrapped is None:
                raise Damaged(f"generation {state.generation} has no wrapped epoch key")
            known = self._provider.unwrap(state.tenant, state.generation, bytes(wrapped))
            self._epoch_keys[state.generation] = known
        return known

    def _node_key(self, connection: Connection, state: TreeState, name: NodeName) -> bytes:
        level, number = name
        if level == ROOT_LEVEL:
            return self.epoch_key(connection, state)
        parent = self.node(connection, state, (level + 1, number >> 8))
        if keynode.state_at(parent, number & 255) is not SlotState.LIVE:
            raise Damaged(f"key node {number} at level {level} has no key in its parent")
        return keynode.key_at(parent, number & 255)

    def _drop_stale(self, state: TreeState) -> None:
        # A reader in an older snapshot goes without the cache and leaves it as it is.
        if self._label < state.label:
            self._cache.clear()
            self._label = state.label


class TreeEdit:
    """One change of the tree, built in memory and written by `write`.

    Args:
        tree: whose nodes are read.
        connection: with the writer lock held.
        state: the tree's row as read under that lock.
    """

    def __init__(self, tree: KeyTree, connection: Connection, state: TreeState) -> None:
        self._tree = tree
        self._connection = connection
        self.state = state
        self.nodes: dict[NodeName, bytearray] = {}
        self.written = False
        self._next_slot = state.next_slot
        self._rekeyed: set[NodeName] = set()

    def key(self, slot: int) -> bytes:
        """Return the key in a slot as this change leaves it."""
        changed = self.nodes.get((0, slot >> 8))
        if changed is None:
            return self._tree.key(self._connection, self.state, slot)
        if keynode.state_at(changed, slot & 255) is not SlotState.LIVE:
            raise KeyLost(f"slot {slot} of the key tree is not live")
        return keynode.key_at(changed, slot & 255)

    def add(self, keys: Sequence[bytes]) -> int:
        """Put keys of 32 bytes into the next free slots and return the first slot."""
        first = slot = self._next_slot
        if first + len(keys) > MAX_SLOTS:
            raise Damaged(f"the key tree is full: {MAX_SLOTS} slots were used")
        taken = 0
        while taken < len(keys):
            position = slot & 255
            count = min(FANOUT - position, len(keys) - taken)
            leaf = self._leaf_for(slot)
            keynode.put_keys(leaf, position, b"".join(keys[taken : taken + count]))
            taken += count
            slot += count
        self._next_slot = slot
        return first

    def erase(self, slots: Iterable[int]) -> None:
        """Zero slots and mark every node above them for a fresh key.

        Raises:
            KeyLost: a slot holds no live key, so there is nothing to erase.
        """
        for slot in slots:
            leaf = self._open((0, slot >> 8))
            found = keynode.state_at(leaf, slot & 255)
            if found is not SlotState.LIVE:
                raise KeyLost(f"slot {slot} of the key tree is {found.name.lower()}, not live")
            keynode.zero_slot(leaf, slot & 255)
            for level in range(ROOT_LEVEL):
                self._rekeyed.add((level, slot >> (8 * (level + 1))))

    def write(self) -> None:
        """Seal the changed nodes and swap the tree's row.

        Raises:
            TreeMoved: the row is not the one this change was built on.
        """
        if not self.nodes:
            return
        self._give_fresh_keys()
        run_many(
            self._connection,
            "INSERT INTO vault_node (level, number, sealed) VALUES (?, ?, ?)"
            " ON CONFLICT (level, number) DO UPDATE SET sealed = excluded.sealed",
            [(level, number, self._sealed(level, number)) for level, number in self.nodes],
        )
        self._swap()
        self.written = True

    def _swap(self) -> None:
        swapped = run(
            self._connection,
            "UPDATE vault_tree SET sequence = sequence + 1, next_slot = ?"
            " WHERE id = 1 AND generation = ? AND sequence = ?",
            (self._next_slot, self.state.generation, self.state.sequence),
        )
        if swapped.rowcount != 1:
            raise TreeMoved("the key tree was changed by another writer: try again")

    def _give_fresh_keys(self) -> None:
        # From the leaves up, since a node's fresh key changes its parent.
        for level, number in sorted(self._rekeyed):
            parent = self._open((level + 1, number >> 8))
            keynode.replace_key(parent, number & 255, os.urandom(KEY_BYTES))

    def _sealed(self, level: int, number: int) -> bytes:
        if level == ROOT_LEVEL:
            key = self._tree.epoch_key(self._connection, self.state)
        else:
            parent = self.nodes.get((level + 1, number >> 8)) or self._tree.node(
                self._connection, self.state, (level + 1, number >> 8)
            )
            key = keynode.key_at(parent, number & 255)
        return keynode.seal_node(self.nodes[level, number], key, self.state.tenant, level, number)

    def _open(self, name: NodeName) -> bytearray:
        node = self.nodes.get(name)
        if node is None:
            node = bytearray(self._tree.node(self._connection, self.state, name))
            self.nodes[name] = node
        return node

    def _leaf_for(self, slot: int) -> bytearray:
        # Slots are handed out in order, so a node begins with the first slot below it.
        for level in reversed(range(ROOT_LEVEL)):
            if slot % FANOUT ** (level + 1) == 0:
                number = slot >> (8 * (level + 1))
                parent = self._open((level + 1, number >> 8))
                keynode.put_keys(parent, number & 255, os.urandom(KEY_BYTES))
                self.nodes[level, number] = keynode.empty_node()
        return self._open((0, slot >> 8))
