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

A vault has two such trees, one for records that can expire and one for those that are kept for ever
(ST6), whose root keys differ. They share one numbering: the slots of tree t are t * 2^32 and up, so
the number of its root node is t, and a slot or a node name says by itself to which tree it belongs.

Every change is one transaction under the writer lock that ends in a compare-and-swap on
(generation, sequence). Opened nodes are cached, and the cache counts only for the sequence that is
read in the same snapshot: whoever finds another one drops it. So a process that slept through
another's erasure neither serves the erased key nor seals it back. The sequence guards against a
stale change, the generation is the fence against a seal under an epoch key that is to be destroyed.
Tested in tests/vault/test_keytree.py, tests/vault/test_two_writers.py and
tests/vault/test_shred_model.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.driver import run, run_many
from policy.assurance import ProviderKind
from vault import keynode
from vault.errors import Damaged, KeyLost, TreeMoved
from vault.generations import (
    Providers,
    insert_provider,
    load_generation,
    new_epoch_key,
    open_generation,
    store_generation,
)
from vault.keynode import FANOUT, KEY_BYTES, SlotState
from vault.leases import Lease
from vault.rootkeys.provider import KeyContext, TreeNumber

ROOT_LEVEL = 3
MAX_SLOTS = FANOUT ** (ROOT_LEVEL + 1)
TENANT_BYTES = 16
_TREE_SHIFT = 32
_TREES = {int(tree): tree for tree in TreeNumber}
# Each opened node takes 8.4 KB; this holds the leaves of half a million keys.
_CACHED_NODES = 2_048
_USABLE = frozenset({SlotState.LIVE, SlotState.PERMANENT})

NodeName = tuple[int, int]  # level, number
_Label = tuple[int, int]  # generation, sequence


def tree_of(slot: int) -> TreeNumber:
    """Return the tree to which a slot belongs.

    Raises:
        Damaged: to none.
    """
    # Each read asks this, and the enumeration takes five times as long to answer.
    tree = _TREES.get(slot >> _TREE_SHIFT)
    if tree is None:
        raise Damaged(f"slot {slot} lies in no key tree")
    return tree


def first_slot(tree: TreeNumber) -> int:
    """Return the lowest slot of a tree."""
    return tree << _TREE_SHIFT


def root_of(tree: TreeNumber) -> NodeName:
    """Return the name of a tree's root node."""
    return ROOT_LEVEL, int(tree)


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


def plant_trees(connection: Connection, providers: Providers, tenant: bytes) -> None:
    """Write the first generation of each tree that the database lacks, with root keys in files.

    Args:
        connection: with the writer lock held.
        providers: of the vault.
        tenant: 16 bytes, the same for all trees of a vault.
    """
    provider_id = insert_provider(connection, ProviderKind.FILE, {})
    for number in TreeNumber:
        found = run(connection, "SELECT 1 FROM vault_tree WHERE id = ?", (number + 1,)).fetchone()
        if found is None:
            KeyTree.create(connection, providers, provider_id, number, tenant)


class KeyTree:
    """Reads keys and prepares changes.

    Args:
        number: which of the vault's trees.
        providers: unwrap the epoch key, once per generation and process.
        lease: under which this process may use what it has cached; None for a passing look.
        newest: returns a tree's generation as it is now, whatever snapshot is being read; None
            where nobody else can change it.
        on_forget: called when what was cached of older states is dropped.
    """

    def __init__(
        self,
        number: TreeNumber,
        providers: Providers,
        lease: Lease | None = None,
        newest: Callable[[TreeNumber], int] | None = None,
        on_forget: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self._providers = providers
        self._lease = lease
        self._newest = newest
        self._on_forget = on_forget
        self._epoch_keys: dict[int, bytes] = {}
        # Guards label and cache together: threads read under different snapshots.
        self._lock = threading.Lock()
        self._cache: dict[NodeName, bytes] = {}
        self._label: _Label = (0, 0)

    def __repr__(self) -> str:
        return f"KeyTree(cached for {self._label})"

    @staticmethod
    def create(
        connection: Connection,
        providers: Providers,
        provider_id: int,
        number: TreeNumber,
        tenant: bytes,
    ) -> None:
        """Write the first generation of an empty tree.

        Args:
            connection: with the writer lock held.
            providers: of the vault.
            provider_id: of the one that keeps the tree's first root key.
            number: of the tree.
            tenant: 16 bytes, the same for all trees of a vault.
        """
        context = KeyContext(tenant, number, 1)
        provider = providers.get(connection, provider_id)
        reference = provider.make_key(context)
        epoch_key, wrapped = new_epoch_key(provider, reference, context)
        store_generation(connection, context, provider_id, reference, wrapped)
        open_generation(connection, number, 1)
        run(
            connection,
            "INSERT INTO vault_tree (id, tenant, generation, sequence, next_slot)"
            " VALUES (?, ?, 1, 0, ?)",
            (number + 1, tenant, first_slot(number)),
        )
        level, index = root_of(number)
        root = keynode.seal_node(keynode.empty_node(), epoch_key, tenant, level, index)
        run(
            connection,
            "INSERT INTO vault_node (level, number, sealed, changed) VALUES (?, ?, ?, 0)",
            (level, index, root),
        )

    def state(self, connection: Connection) -> TreeState:
        """Read the tree's row, as this snapshot has it, and acknowledge its generation."""
        row = run(
            connection,
            "SELECT tenant, generation, sequence, next_slot FROM vault_tree WHERE id = ?",
            (self.number + 1,),
        ).fetchone()
        if row is None:
            raise Damaged("the database lacks a key tree")
        state = TreeState(bytes(row[0]), *row[1:])
        with self._lock:
            if self._lease is not None and self._lease.is_over(self.number):
                self._forget((0, 0))
            self._drop_stale(state)
        if self._lease is not None:
            # Only now: what the older generation's epoch key was used for is gone from memory.
            self._lease.acknowledge(self.number, state.generation)
        return state

    def cached_key(self, generation: int, sequence: int, slot: int) -> bytes | None:
        """Return a live key from the cache, if that counts for the sequence just read."""
        if self._label != (generation, sequence):
            return None
        # A busy process renews its lease in time, and so keeps what it has cached.
        if self._lease is not None and self._lease.is_due(self.number):
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
        try:
            return keynode.open_node(bytes(row[0]), key, state.tenant, level, number)
        except Damaged:
            if level == ROOT_LEVEL:
                # Perhaps the provider answered wrong; it is asked anew the next time.
                with self._lock:
                    self._epoch_keys.pop(state.generation, None)
            raise

    def open_all(self, connection: Connection, state: TreeState) -> tuple[int, int]:
        """Open every node from the root down and return how many nodes and usable keys there are.

        Raises:
            Damaged: a node does not open or is missing; it is named.
            KeyGone: the root key of the tree's generation was destroyed.
        """
        nodes = keys = 0
        level_numbers = [root_of(self.number)[1]]
        for level in range(ROOT_LEVEL, -1, -1):
            below: list[int] = []
            for number in level_numbers:
                node = self.node(connection, state, (level, number))
                nodes += 1
                used = [place for place in range(FANOUT) if node[place] in _USABLE]
                if level == 0:
                    keys += len(used)
                else:
                    below += [number * FANOUT + place for place in used]
            level_numbers = below
        return nodes, keys

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
        """Return the epoch key of the tree's generation.

        Raises:
            TreeMoved: the tree has left that generation; what is asked must be asked anew.
            KeyGone: the root key of that generation was destroyed.
            ProviderUnreachable, ProviderDenied, ProviderFailed: the provider does not unwrap it.
        """
        known = self._epoch_keys.get(state.generation)
        if known is None:
            # The snapshot may be older than the acknowledgement; nobody would wait for this
            # process.
            if self._newest is not None and self._newest(self.number) != state.generation:
                raise TreeMoved("the key tree has moved to a new generation: try again")
            generation = load_generation(connection, self.number, state.generation)
            known = self._providers.unwrap(connection, state.tenant, generation)
            with self._lock:
                # Never kept for an older one: this process has promised to have dropped it.
                if state.generation >= self._label[0]:
                    self._epoch_keys = {state.generation: known}
        return known

    def lend(self, generation: int, epoch_key: bytes) -> None:
        """Use an epoch key that custodians brought back, for as long as its generation lasts."""
        with self._lock:
            self._epoch_keys = {generation: epoch_key}

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
            self._forget(state.label)

    def _forget(self, label: _Label) -> None:
        if label[0] != self._label[0]:
            self._epoch_keys = {}
        self._cache.clear()
        self._label = label
        self._on_forget()


class TreeEdit:
    """One change of the tree, built in memory and written by `write`.

    Args:
        tree: whose nodes are read.
        connection: with the writer lock held.
        state: the tree's row as read under that lock.
    """

    def __init__(self, tree: KeyTree, connection: Connection, state: TreeState) -> None:
        self.tree = tree
        self._connection = connection
        self.state = state
        self.nodes: dict[NodeName, bytearray] = {}
        self.written = False
        self._next_slot = state.next_slot
        self._rekeyed: set[NodeName] = set()
        self._next: tuple[int, bytes] | None = None
        permanent = tree.number is TreeNumber.PERMANENT
        # No ordinary erasure reaches a slot of the permanent tree.
        self._slot_state = SlotState.PERMANENT if permanent else SlotState.LIVE

    def key(self, slot: int) -> bytes:
        """Return the key in a slot as this change leaves it."""
        changed = self.nodes.get((0, slot >> 8))
        if changed is None:
            return self.tree.key(self._connection, self.state, slot)
        if keynode.state_at(changed, slot & 255) not in _USABLE:
            raise KeyLost(f"slot {slot} of the key tree is not live")
        return keynode.key_at(changed, slot & 255)

    def add(self, keys: Sequence[bytes]) -> int:
        """Put keys of 32 bytes into the next free slots and return the first slot."""
        first = slot = self._next_slot
        if first + len(keys) > first_slot(self.tree.number) + MAX_SLOTS:
            raise Damaged(f"the key tree is full: {MAX_SLOTS} slots were used")
        taken = 0
        while taken < len(keys):
            position = slot & 255
            count = min(FANOUT - position, len(keys) - taken)
            leaf = self._leaf_for(slot)
            keynode.put_keys(
                leaf, position, b"".join(keys[taken : taken + count]), self._slot_state
            )
            taken += count
            slot += count
        self._next_slot = slot
        return first

    def erase(self, slots: Iterable[int]) -> None:
        """Zero slots and mark every node above them for a fresh key.

        Raises:
            KeyLost: a slot holds no live key, so there is nothing to erase, or it is permanent.
        """
        self._erase(slots, SlotState.LIVE)

    def erase_permanent(self, slots: Iterable[int]) -> None:
        """Zero slots of records that are kept for ever, once the glass was broken (D2b, D5).

        Raises:
            KeyLost: a slot holds no permanent key.
        """
        self._erase(slots, SlotState.PERMANENT)

    def _erase(self, slots: Iterable[int], expected: SlotState) -> None:
        for slot in slots:
            leaf = self._open((0, slot >> 8))
            found = keynode.state_at(leaf, slot & 255)
            if found is not expected:
                raise KeyLost(
                    f"slot {slot} of the key tree is {found.name.lower()},"
                    f" not {expected.name.lower()}"
                )
            keynode.zero_slot(leaf, slot & 255)
            for level in range(ROOT_LEVEL):
                self._rekeyed.add((level, slot >> (8 * (level + 1))))

    def reseal(self, generation: int, epoch_key: bytes) -> None:
        """Move the tree to another generation: its root node is sealed under that epoch key.

        Nobody adopts such a change: everything is read back from what was stored.

        Args:
            generation: higher than the tree's.
            epoch_key: 32 bytes, wrapped and stored under that generation.
        """
        self._open(root_of(self.tree.number))
        # New keys go into nodes whose own keys no copy of an older generation holds, so what is
        # born from here on hangs on no older root key.
        for level in range(ROOT_LEVEL):
            if self._next_slot % FANOUT ** (level + 1):
                name = (level, self._next_slot >> (8 * (level + 1)))
                self._open(name)
                self._rekeyed.add(name)
        self._next = (generation, epoch_key)

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
            "INSERT INTO vault_node (level, number, sealed, changed) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (level, number) DO UPDATE"
            " SET sealed = excluded.sealed, changed = excluded.changed",
            [
                (level, number, self._sealed(level, number), self.state.sequence + 1)
                for level, number in self.nodes
            ],
        )
        self._swap()
        self.written = True

    def _swap(self) -> None:
        swapped = run(
            self._connection,
            "UPDATE vault_tree SET sequence = sequence + 1, next_slot = ?, generation = ?"
            " WHERE id = ? AND generation = ? AND sequence = ?",
            (
                self._next_slot,
                self.state.generation if self._next is None else self._next[0],
                self.tree.number + 1,
                self.state.generation,
                self.state.sequence,
            ),
        )
        if swapped.rowcount != 1:
            raise TreeMoved("the key tree was changed by another writer: try again")

    def _give_fresh_keys(self) -> None:
        # From the leaves up, since a node's fresh key changes its parent.
        for level, number in sorted(self._rekeyed):
            parent = self._open((level + 1, number >> 8))
            keynode.replace_key(parent, number & 255, os.urandom(KEY_BYTES))

    def _sealed(self, level: int, number: int) -> bytes:
        if level == ROOT_LEVEL and self._next is not None:
            key = self._next[1]
        elif level == ROOT_LEVEL:
            key = self.tree.epoch_key(self._connection, self.state)
        else:
            parent = self.nodes.get((level + 1, number >> 8)) or self.tree.node(
                self._connection, self.state, (level + 1, number >> 8)
            )
            key = keynode.key_at(parent, number & 255)
        return keynode.seal_node(self.nodes[level, number], key, self.state.tenant, level, number)

    def _open(self, name: NodeName) -> bytearray:
        node = self.nodes.get(name)
        if node is None:
            node = bytearray(self.tree.node(self._connection, self.state, name))
            self.nodes[name] = node
        return node

    def _leaf_for(self, slot: int) -> bytearray:
        # Slots are handed out in order, so a node begins with the first slot below it.
        for level in reversed(range(ROOT_LEVEL)):
            if slot % FANOUT ** (level + 1) == 0:
                number = slot >> (8 * (level + 1))
                parent = self._open((level + 1, number >> 8))
                fresh = os.urandom(KEY_BYTES)
                keynode.put_keys(parent, number & 255, fresh, SlotState.LIVE)
                self.nodes[level, number] = keynode.empty_node()
        return self._open((0, slot >> 8))
