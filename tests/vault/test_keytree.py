"""The key trees: against a dictionary, against old copies of themselves, and other writers.

Rows: ER1 (an erased key is gone), PR1 (a key of its own for each record), ST6 (what is kept for
ever lies in a tree of its own, which no ordinary erasure reaches).
"""

import contextlib
import os
import random
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import create_engine

from policy.assurance import ProviderKind
from vault import Damaged, KeyGone, KeyLost, TreeMoved, Vault, keynode, keytree, shredding
from vault.closing import NewPlace
from vault.generations import (
    Providers,
    close_generations,
    insert_provider,
    new_epoch_key,
    store_generation,
)
from vault.keytree import (
    MAX_SLOTS,
    ROOT_LEVEL,
    KeyTree,
    first_slot,
    plant_trees,
    root_of,
    tree_of,
)
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber
from vault.tables import metadata

ORDINARY, PERMANENT = TreeNumber
ROOT = root_of(ORDINARY)
TENANT = bytes(range(1, 17))
FILE_PLACE = NewPlace(ProviderKind.FILE, {})


class MemoryRootKeys:
    """A provider whose root keys were never on a disk."""

    def __init__(self):
        self._keys = {}

    def make_key(self, context):
        reference = context.encode().hex()
        self._keys.setdefault(reference, AESGCMSIV(os.urandom(32)))
        return reference

    def wrap(self, reference, context, epoch_key):
        return self._keys[reference].encrypt(bytes(12), epoch_key, context.encode())

    def unwrap(self, reference, context, wrapped):
        if reference not in self._keys:
            raise KeyGone(f"generation {context.generation} is gone")
        return self._keys[reference].decrypt(bytes(12), wrapped, context.encode())

    def destroy(self, reference):
        del self._keys[reference]


class MemoryProviders(Providers):
    """That one provider alone; counts how often it is asked for an epoch key."""

    def __init__(self):
        super().__init__(Surroundings(Path(), ""))
        self._provider = MemoryRootKeys()
        self.unwrapped = 0

    def get(self, connection, provider_id):
        return self._provider

    def unwrap(self, connection, tenant, generation):
        self.unwrapped += 1
        return super().unwrap(connection, tenant, generation)

    def destroy(self, tenant, tree, number):
        self._provider.destroy(KeyContext(tenant, tree, number).encode().hex())


class Stored:
    """The trees in a database in memory; what is not said to be of another is of `number`."""

    def __init__(self, number=ORDINARY, tenant=TENANT):
        self.engine = create_engine("sqlite://")
        self.number = number
        self.providers = MemoryProviders()
        self.connection = self.engine.connect()
        metadata.create_all(self.connection)
        plant_trees(self.connection, self.providers, tenant)
        self.connection.commit()
        self.tree = self.reader()

    def reader(self):
        """A tree that has cached nothing."""
        return KeyTree(self.number, self.providers)

    def close(self):
        self.connection.close()
        self.engine.dispose()

    @contextmanager
    def change(self, tree=None):
        """One committed change, as `Core.change` makes it."""
        tree = tree or self.tree
        edit = tree.edit(self.connection)
        yield edit
        edit.write()
        self.connection.commit()
        tree.adopt(edit)

    def add(self, keys, tree=None):
        with self.change(tree) as edit:
            return edit.add(keys)

    def erase(self, slots, tree=None):
        with self.change(tree) as edit:
            self.erase_in(edit, slots)

    def erase_in(self, edit, slots):
        if self.number is PERMANENT:
            edit.erase_permanent(slots)
        else:
            edit.erase(slots)

    def prepare(self, number):
        """Prepare a generation and return its epoch key."""
        provider_id = insert_provider(self.connection, ProviderKind.FILE, {})
        context = KeyContext(self.state().tenant, self.number, number)
        provider = self.providers.get(self.connection, provider_id)
        reference = provider.make_key(context)
        epoch_key, wrapped = new_epoch_key(provider, reference, context)
        store_generation(self.connection, context, provider_id, reference, wrapped)
        self.connection.commit()
        return epoch_key

    def move(self, number, tree=None):
        """Move the tree to the generation with a number."""
        epoch_key = self.prepare(number)
        with self.change(tree) as edit:
            edit.reseal(number, epoch_key)
            close_generations(self.connection, self.number, number, at=1)

    def key(self, slot, tree=None):
        tree = tree or self.tree
        return tree.key(self.connection, tree.state(self.connection), slot)

    def state(self):
        return self.tree.state(self.connection)

    def nodes(self):
        """Every sealed node, by level and number."""
        rows = self.connection.exec_driver_sql("SELECT level, number, sealed FROM vault_node")
        return {
            (level, number): bytes(sealed)
            for level, number, sealed in rows
            if tree_of(number << 8 * (level + 1)) is self.number
        }

    def plain_nodes(self):
        """Every node, opened by a tree that has cached nothing."""
        tree = self.reader()
        state = tree.state(self.connection)
        return {name: tree.node(self.connection, state, name) for name in self.nodes()}


@pytest.fixture
def stored():
    stored = Stored()
    yield stored
    stored.close()


def some_keys(count):
    randomness = os.urandom(32 * count)
    return [randomness[start : start + 32] for start in range(0, 32 * count, 32)]


def path_of(slot):
    """The nodes from the leaf of a slot to below the root."""
    return [(level, slot >> 8 * (level + 1)) for level in range(ROOT_LEVEL)]


class TreeAgainstDictionary(RuleBasedStateMachine):
    """Two processes with caches of their own change one tree; a dictionary says what is right."""

    @initialize(number=st.sampled_from(TreeNumber))
    def begin(self, number):
        self.stored = Stored(number)
        self.trees = [self.stored.reader(), self.stored.reader()]
        self.live = {}
        self.erased = {}
        self.generation = 1

    def teardown(self):
        if hasattr(self, "stored"):
            self.everything_is_as_the_dictionary_says()
            self.stored.close()

    who = st.integers(0, 1)
    sizes = st.one_of(st.integers(1, 700), st.sampled_from([1, 255, 256, 257, 512]))

    @property
    def next_slot(self):
        return first_slot(self.stored.number) + len(self.live) + len(self.erased)

    def chosen(self, random_, most=5):
        return random_.sample(sorted(self.live), min(random_.randint(1, most), len(self.live)))

    @rule(who=who, count=sizes)
    def add(self, who, count):
        keys = some_keys(count)
        first = self.stored.add(keys, self.trees[who])
        assert first == self.next_slot  # slots are handed out in order and never twice
        self.live.update(enumerate(keys, first))

    @precondition(lambda self: self.live)
    @rule(who=who, random_=st.randoms(use_true_random=False))
    def erase(self, who, random_):
        slots = self.chosen(random_)
        self.stored.erase(slots, self.trees[who])
        self.erased |= {slot: self.live.pop(slot) for slot in slots}

    @precondition(lambda self: self.live)
    @rule(who=who, count=st.integers(1, 300), random_=st.randoms(use_true_random=False))
    def erase_and_add_at_once(self, who, count, random_):
        slots, keys = self.chosen(random_), some_keys(count)
        with self.stored.change(self.trees[who]) as edit:
            first = edit.add(keys)
            self.stored.erase_in(edit, slots)
            assert edit.key(first) == keys[0]
            with pytest.raises(KeyLost):
                edit.key(slots[0])
        assert first == self.next_slot
        self.live.update(enumerate(keys, first))
        self.erased |= {slot: self.live.pop(slot) for slot in slots}

    @rule(who=who, count=sizes, random_=st.randoms(use_true_random=False), written=st.booleans())
    def roll_back(self, who, count, random_, written):
        edit = self.trees[who].edit(self.stored.connection)
        edit.add(some_keys(count))
        if self.live:
            self.stored.erase_in(edit, self.chosen(random_))
        if written:
            edit.write()
        self.stored.connection.rollback()

    @rule(who=who)
    def move_to_the_next_generation(self, who):
        self.generation += 1
        self.stored.move(self.generation, self.trees[who])
        self.stored.providers.destroy(TENANT, self.stored.number, self.generation - 1)

    @rule(who=who)
    def reopen(self, who):
        self.trees[who] = self.stored.reader()

    @rule(who=who, random_=st.randoms(use_true_random=False))
    def read_some(self, who, random_):
        tree = self.trees[who]
        for slot in random_.sample(sorted(self.live), min(20, len(self.live))):
            assert self.stored.key(slot, tree) == self.live[slot]
            self.agrees_when_cached(tree, slot, self.live[slot])
        for slot in random_.sample(sorted(self.erased), min(20, len(self.erased))):
            with pytest.raises(KeyLost, match=f"^slot {slot} of the key tree is erased, not live$"):
                self.stored.key(slot, tree)
            self.agrees_when_cached(tree, slot, None)

    def agrees_when_cached(self, tree, slot, expected):
        state = self.stored.state()
        assert tree.cached_key(state.generation, state.sequence, slot) == expected

    @invariant()
    def the_next_slot_is_the_first_that_is_free(self):
        assert self.stored.state().next_slot == self.next_slot

    def everything_is_as_the_dictionary_says(self):
        for tree in (*self.trees, self.stored.reader()):
            for slot, key in self.live.items():
                assert self.stored.key(slot, tree) == key
            for slot in self.erased:
                with pytest.raises(KeyLost):
                    self.stored.key(slot, tree)
        plain = b"".join(self.stored.plain_nodes().values())
        assert not any(key in plain for key in self.erased.values())


TestTreeAgainstDictionary = TreeAgainstDictionary.TestCase
TestTreeAgainstDictionary.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_no_key_of_the_new_tree_opens_an_old_node_that_held_the_erased_key(stored):
    keys = some_keys(1_000)
    stored.add(keys)
    slot = 300
    old = stored.nodes()
    old_state = stored.state()
    stored.erase([slot])
    new_nodes = stored.plain_nodes()
    reachable = {
        keynode.key_at(node, position)
        for node in new_nodes.values()
        for position in range(256)
        if keynode.state_at(node, position) is keynode.SlotState.LIVE
    }
    tenant, tried = old_state.tenant, 0
    for level, number in path_of(slot):
        for key in reachable:
            tried += 1
            with pytest.raises(Damaged):
                keynode.open_node(old[level, number], key, tenant, level, number)
    # The control: the old root opens with the epoch key, which the erasure leaves as it was, and
    # from it the erased key is reached. So an old copy is harmless only without its generation.
    epoch_key = stored.tree.epoch_key(stored.connection, stored.state())
    node = keynode.open_node(old[ROOT], epoch_key, tenant, *ROOT)
    for level, number in reversed(path_of(slot)):
        key = keynode.key_at(node, number & 255)
        assert key not in reachable
        node = keynode.open_node(old[level, number], key, tenant, level, number)
    assert keynode.key_at(node, slot & 255) == keys[slot]
    # And a leaf beside the path opens still, since nothing in it was erased.
    beside = keynode.key_at(new_nodes[1, 0], 0)
    assert keynode.open_node(old[0, 0], beside, tenant, 0, 0)
    print(f"{tried} tries with {len(reachable)} keys: 0 old nodes opened; from the old root: 3")


def test_erasing_gives_every_node_of_the_path_another_key_and_no_other(stored):
    stored.add(some_keys(1_000))
    before, old = stored.plain_nodes(), stored.nodes()
    stored.erase([700, 701])
    after, new = stored.plain_nodes(), stored.nodes()
    changed = {name for name in old if old[name] != new[name]}
    assert changed == {ROOT, *path_of(700)}
    for level, number in path_of(700):
        parent = (level + 1, number >> 8)
        keys = [keynode.key_at(nodes[parent], number & 255) for nodes in (before, after)]
        assert keys[0] != keys[1]
    for leaf in (0, 1, 3):
        assert keynode.key_at(before[1, 0], leaf) == keynode.key_at(after[1, 0], leaf)


def test_adding_seals_the_leaf_again_under_the_same_key(stored):
    stored.add(some_keys(10))
    key = keynode.key_at(stored.plain_nodes()[1, 0], 0)
    old = stored.nodes()
    stored.add(some_keys(10))
    new = stored.nodes()
    assert {name for name in old if old[name] != new[name]} == {(0, 0)}
    assert old[0, 0][:12] != new[0, 0][:12]
    tenant = stored.state().tenant
    for sealed, count in ((old[0, 0], 10), (new[0, 0], 20)):
        node = keynode.open_node(sealed, key, tenant, 0, 0)
        assert node[:256].count(keynode.SlotState.LIVE) == count


def test_a_thousand_keys_cost_four_to_six_node_writes(stored):
    first = len(self_written(stored, 1_000))
    counts = [len(self_written(stored, 1_000)) for _ in range(60)]
    assert first == 7  # four leaves and, this once, everything above them
    assert min(counts) >= 4
    assert max(counts) <= 6
    print(f"node writes for 1,000 keys: {min(counts)} to {max(counts)} (60 times), first {first}")


def self_written(stored, count):
    old = stored.nodes()
    stored.add(some_keys(count))
    return [name for name, sealed in stored.nodes().items() if old.get(name) != sealed]


def test_seventy_thousand_keys_in_one_change(stored):
    keys = some_keys(70_000)
    assert stored.add(keys) == 0
    levels = [level for level, _ in stored.nodes()]
    assert [levels.count(level) for level in range(4)] == [274, 2, 1, 1]
    borders = (0, 255, 256, 65_535, 65_536, 65_791, 65_792, 69_999)
    for tree in (stored.tree, stored.reader()):
        assert all(stored.key(slot, tree) == keys[slot] for slot in borders)
    stored.erase([65_535, 65_536])
    reader = stored.reader()
    for slot in (65_535, 65_536):
        with pytest.raises(KeyLost):
            stored.key(slot, reader)
    for slot in (65_534, 65_537, 0, 69_999):
        assert stored.key(slot, reader) == keys[slot]
    sample = random.Random(7).sample(range(65_000), 300)
    assert all(stored.key(slot, reader) == keys[slot] for slot in sample)


def set_next_slot(stored, slot):
    stored.connection.exec_driver_sql("UPDATE vault_tree SET next_slot = ? WHERE id = 1", (slot,))
    stored.connection.commit()


@pytest.mark.parametrize("first", [2**16, 2**24, 2**31, 2**32 - 2**24])
def test_a_tree_that_begins_a_branch(stored, first):
    stored.add(some_keys(1))
    set_next_slot(stored, first)
    keys = some_keys(300)
    assert stored.add(keys) == first
    reader = stored.reader()
    assert [stored.key(first + offset, reader) for offset in (0, 255, 256, 299)] == [
        keys[offset] for offset in (0, 255, 256, 299)
    ]
    assert {*path_of(first), *path_of(first + 299)} <= stored.nodes().keys()
    stored.erase([first + 255])
    with pytest.raises(KeyLost):
        stored.key(first + 255)
    assert stored.key(first + 256) == keys[256]


def test_a_full_tree_says_so_and_stays_as_it_was(stored):
    assert MAX_SLOTS == 2**32
    set_next_slot(stored, MAX_SLOTS - 2**24)
    stored.add(some_keys(1))
    set_next_slot(stored, MAX_SLOTS - 1)
    with pytest.raises(Damaged, match="the key tree is full: 4294967296 slots were used"):
        stored.add(some_keys(2))
    assert stored.state().next_slot == MAX_SLOTS - 1


@pytest.mark.parametrize("slots", [[3, 3], [9], [10], [255], [70_000]], ids=str)
def test_nothing_can_be_erased_twice_or_before_it_is_there(stored, slots):
    keys = some_keys(10)
    stored.add(keys)
    stored.erase([9])
    with pytest.raises((KeyLost, Damaged)):
        stored.erase(slots)
    stored.connection.rollback()
    assert [stored.key(slot) for slot in range(9)] == keys[:9]


def test_a_permanent_slot_is_read_and_never_erased_like_others():
    # ST6: what must be kept for ever cannot be reached by an ordinary erasure.
    stored = Stored(PERMANENT)
    keys = some_keys(2)
    slot = stored.add(keys)
    assert slot == 2**32
    with pytest.raises(KeyLost, match="is permanent, not live"), stored.change() as edit:
        edit.erase([slot])
    assert stored.key(slot, stored.reader()) == keys[0]
    # The control: the way that a broken glass opens, which reaches no ordinary slot.
    stored.erase([slot])
    with pytest.raises(KeyLost, match=f"slot {slot} of the key tree is erased"):
        stored.key(slot, stored.reader())
    assert stored.key(slot + 1, stored.reader()) == keys[1]
    stored.close()


def test_a_broken_glass_reaches_no_ordinary_slot(stored):
    keys = some_keys(1)
    slot = stored.add(keys)
    with pytest.raises(KeyLost, match="is live, not permanent"), stored.change() as edit:
        edit.erase_permanent([slot])
    assert stored.key(slot, stored.reader()) == keys[0]


def test_the_trees_share_one_numbering_and_nothing_else(stored):
    other = KeyTree(PERMANENT, stored.providers)
    ours, theirs = some_keys(300), some_keys(300)
    assert (stored.add(ours), stored.add(theirs, other)) == (0, 2**32)
    assert [tree_of(slot) for slot in (0, 2**32 - 1, 2**32, 2**33 - 1)] == [
        ORDINARY, ORDINARY, PERMANENT, PERMANENT,
    ]  # fmt: skip
    before = other.state(stored.connection)
    stored.erase([5])
    stored.move(2)
    assert other.state(stored.connection) == before
    stored.providers.destroy(TENANT, ORDINARY, 1)
    assert stored.key(2**32 + 299, KeyTree(PERMANENT, stored.providers)) == theirs[299]
    assert stored.key(299, stored.reader()) == ours[299]
    assert stored.reader().open_all(stored.connection, stored.state()) == (5, 299)
    assert other.open_all(stored.connection, before) == (5, 300)


def test_a_moved_tree_opens_under_the_new_generation_alone(stored):
    keys = some_keys(300)
    stored.add(keys)
    old, old_key = stored.nodes(), stored.tree.epoch_key(stored.connection, stored.state())
    stale = stored.reader()
    stored.key(7, stale)
    stored.move(2)
    new = stored.nodes()
    # And the path on which new keys grow, so that they hang on no older root key.
    assert {name for name in old if old[name] != new[name]} == {ROOT, *path_of(300)}
    assert stored.state().label == (2, 2)
    with pytest.raises(Damaged):
        keynode.open_node(new[ROOT], old_key, TENANT, *ROOT)
    assert keynode.open_node(old[ROOT], old_key, TENANT, *ROOT)
    # Whoever slept through it goes on, with the new key alone.
    assert stale.cached_key(1, 1, 7) == keys[7]
    assert stored.key(7, stale) == keys[7]
    assert stale.cached_key(1, 1, 7) is None
    assert stale._epoch_keys.keys() == {2}
    # A seal under the older one is refused, though it was begun before.
    edit = stored.tree.edit(stored.connection)
    edit.add(some_keys(1))
    stored.move(3, stored.reader())
    with pytest.raises(TreeMoved):
        edit.write()
    stored.connection.rollback()


def test_what_is_born_after_a_move_hangs_on_no_older_root_key(stored):
    """Whoever keeps the old root key, and every copy, reaches no key that was added since."""
    older, newer = some_keys(300), some_keys(300)
    stored.add(older)
    old, old_key = stored.nodes(), stored.tree.epoch_key(stored.connection, stored.state())
    stored.move(2)
    stored.add(newer)
    reached, opened = {old_key}, set()
    for nodes in (old, stored.nodes()):
        for name in sorted(nodes, reverse=True):
            for key in list(reached):
                with contextlib.suppress(Damaged):
                    node = keynode.open_node(nodes[name], key, TENANT, *name)
                    reached |= {keynode.key_at(node, position) for position in range(256)}
                    opened.add((nodes is old, name))
    assert set(older) <= reached  # The control: what was born before does hang on it.
    assert not set(newer) & reached
    assert {name for is_old, name in opened if not is_old} == {(0, 0)}  # a leaf that is full
    print(f"{len(opened)} nodes opened with the old root key, 0 of {len(newer)} newer keys reached")


def test_a_tree_whose_root_key_is_gone_opens_no_more(stored):
    stored.add(some_keys(1))
    stored.providers.destroy(TENANT, ORDINARY, 1)
    with pytest.raises(KeyGone):
        stored.key(0, stored.reader())


def test_an_edit_that_waits_for_a_root_key_reads_no_key_of_another_generation(vault):
    """A snapshot from before the fence may not bring the older epoch key back into memory."""
    core = vault._core
    pointer = vault.put(b"x", category="nieuwsbrief", subject="s")
    with core.database.read() as connection:
        state = core.tree.state(connection)
        shredding.move(core, ORDINARY, FILE_PLACE, core.caller(None, None), anew=True)
        with pytest.raises(TreeMoved):
            core.tree.node(connection, state, (0, 0))
    assert core.tree._epoch_keys.keys() <= {2}
    assert vault.get(pointer) == b"x"


def test_a_change_on_a_tree_that_moved_is_refused_and_writes_nothing(stored):
    keys = some_keys(5)
    stored.add(keys)
    stale = stored.tree.edit(stored.connection)
    stored.erase([2], stored.reader())
    stale.add(some_keys(1))
    with pytest.raises(TreeMoved, match="changed by another writer"):
        stale.write()
    stored.connection.rollback()
    assert not stale.written
    stored.tree.adopt(stale)  # takes nothing over
    for tree in (stored.tree, stored.reader()):
        assert stored.key(1, tree) == keys[1]
        with pytest.raises(KeyLost):
            stored.key(2, tree)
    assert stored.state().next_slot == 5


def test_a_change_from_another_generation_is_refused(stored):
    edit = stored.tree.edit(stored.connection)
    edit.add(some_keys(1))
    stored.connection.exec_driver_sql("UPDATE vault_tree SET generation = 2 WHERE id = 1")
    with pytest.raises(TreeMoved):
        edit.write()


def test_a_cache_counts_for_its_own_sequence_only(stored):
    keys = some_keys(3)
    stored.add(keys)
    state = stored.state()
    stored.key(1)
    assert stored.tree.cached_key(*state.label, 1) == keys[1]
    stored.erase([1], stored.reader())
    # This process has not looked since: its cache still has the key, and must not hand it out.
    moved = stored.state()
    assert moved.sequence == state.sequence + 1
    assert stored.tree.cached_key(*moved.label, 1) is None
    with pytest.raises(KeyLost):
        stored.key(1)
    assert stored.tree.cached_key(*moved.label, 1) is None
    assert stored.tree.cached_key(*state.label, 1) is None
    assert stored.key(0) == keys[0]
    assert stored.tree.cached_key(*moved.label, 0) == keys[0]


def test_a_reader_in_an_older_snapshot_gets_its_own_keys_and_leaves_the_cache_alone(vault):
    database, tree = vault._core.database, vault._core.tree
    with database.write() as connection:
        edit = tree.edit(connection)
        keys = some_keys(3)
        first = edit.add(keys)
        edit.write()
    with database.read() as snapshot:
        old = tree.state(snapshot)
        with database.write() as connection:
            edit = tree.edit(connection)
            edit.erase([first])
            edit.write()
        with database.read() as today:
            new = tree.state(today)
            assert new.sequence == old.sequence + 1
            assert tree.key(today, new, first + 1) == keys[1]
            assert tree.key(snapshot, old, first) == keys[0]  # erased since this snapshot
            with pytest.raises(KeyLost):
                tree.key(today, new, first)
        assert tree.cached_key(*new.label, first + 1) == keys[1]
        assert tree.cached_key(*new.label, first) is None
        assert tree.cached_key(*old.label, first) is None


def test_a_small_cache_gives_the_same_keys(stored, monkeypatch):
    monkeypatch.setattr(keytree, "_CACHED_NODES", 3)
    keys = some_keys(5_000)
    stored.add(keys)
    reader = stored.reader()
    for slot in random.Random(1).sample(range(5_000), 500):
        assert stored.key(slot, reader) == keys[slot]
    assert len(reader._cache) <= 3


def test_the_provider_is_asked_once_per_generation_and_process(stored):
    for _ in range(5):
        stored.add(some_keys(300))
        stored.key(1)
    assert stored.providers.unwrapped == 1
    stored.key(1, stored.reader())
    assert stored.providers.unwrapped == 2


def test_an_empty_change_writes_nothing(stored):
    before = stored.state()
    with stored.change():
        pass
    assert stored.state() == before


DAMAGES = {
    "key node 1 at level 0 does not open": (
        "UPDATE vault_node SET sealed = (SELECT sealed FROM vault_node WHERE level = 0 AND"
        " number = 0) WHERE level = 0 AND number = 1"
    ),
    "key node 1 at level 0 is missing": "DELETE FROM vault_node WHERE level = 0 AND number = 1",
    "key node 0 at level 1 is missing": "DELETE FROM vault_node WHERE level = 1",
    "key node 0 at level 3 is missing": "DELETE FROM vault_node WHERE level = 3 AND number = 0",
    "key node 0 at level 3 does not open": (
        "UPDATE vault_node SET sealed = x'00' WHERE level = 3 AND number = 0"
    ),
    "generation 1 has no wrapped epoch key": "DELETE FROM vault_generation",
    "the database lacks a key tree": "DELETE FROM vault_tree",
}


@pytest.mark.parametrize(("message", "damage"), DAMAGES.items(), ids=DAMAGES)
def test_a_node_that_does_not_open_is_named_and_never_skipped(stored, message, damage):
    keys = some_keys(600)
    stored.add(keys)
    assert stored.key(300, stored.reader()) == keys[300]
    stored.connection.exec_driver_sql(damage)
    with pytest.raises(Damaged, match=f"^{message}$"):
        stored.key(300, stored.reader())


def test_node_keys_and_epoch_keys_are_fresh_each_time():
    epoch_keys, node_keys = set(), []
    for _ in range(20):
        stored = Stored()
        stored.add(some_keys(300))
        epoch_keys.add(stored.tree.epoch_key(stored.connection, stored.state()))
        nodes = stored.plain_nodes()
        node_keys += [
            keynode.key_at(nodes[parent], position)
            for parent, position in ((ROOT, 0), ((2, 0), 0), ((1, 0), 0), ((1, 0), 1))
        ]
        stored.close()
    assert len(epoch_keys) == 20
    assert len(set(node_keys)) == 80
    assert bytes(32) not in {*epoch_keys, *node_keys}


def test_a_tenant_is_made_for_each_vault(tmp_path, passphrase):
    tenants = set()
    for number in range(3):
        with Vault.create(tmp_path / str(number), passphrase) as vault:
            tenants.add(vault._core.tenant)
    assert len(tenants - {bytes(16)}) == 3


def test_the_file_provider_carries_both_trees_as_well(stored, tmp_path):
    for table in ("vault_generation", "vault_tree", "vault_node"):
        stored.connection.exec_driver_sql(f"DELETE FROM {table}")
    surroundings = Surroundings(tmp_path, "words")
    plant_trees(stored.connection, Providers(surroundings), TENANT)
    for number in TreeNumber:
        keys = some_keys(3)
        slot = stored.add(keys, KeyTree(number, Providers(surroundings)))
        assert stored.key(slot + 2, KeyTree(number, Providers(surroundings))) == keys[2]
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {
        "root-1.key",
        "permanent-1.key",
    }


def test_planting_again_leaves_what_is_there(stored):
    keys = some_keys(3)
    stored.add(keys)
    before = stored.nodes(), stored.state()
    plant_trees(stored.connection, stored.providers, bytes(16))
    assert (stored.nodes(), stored.state()) == before


def test_no_key_is_shown(stored):
    keys = some_keys(2)
    stored.add(keys)
    epoch_key = stored.tree.epoch_key(stored.connection, stored.state())
    shown = f"{stored.tree!r} {stored.state()!r} {stored.tree.edit(stored.connection)!r}"
    for key in (*keys, epoch_key):
        assert key.hex() not in shown
        assert repr(key) not in shown
