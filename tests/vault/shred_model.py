"""A small executable model of erasing and shredding, apart from the code that does it.

Several processes share one database and one provider of root keys. Each step below is atomic, and
steps of different processes interleave in any order; a process may crash between two of its steps,
or sleep past the end of its lease and go on. Encryption is symbolic: a sealed blob opens for whoever
knows the key that it names, and for nobody else.

    erase      read the tree (perhaps from the cache) | commit: zero the slot, fresh node key, root
               sealed anew; refused unless (generation, sequence) is still what was read
    put        read | commit, likewise
    get        open a snapshot | serve from it; the cache counts for that snapshot's label alone
    shred g    make root key g+1 | record its epoch key, once | re-seal the root node, close g |
               read back | restore a backup elsewhere | wait for the leases | destroy root key g |
               try to open g | certify the records erased up to g, one by one | mark g destroyed

Whoever runs a shred takes the oldest generation that is not marked destroyed and goes through all
steps, each of which does only what is not done yet. So resuming is the same as beginning, and two
at once need no agreement.

The adversary keeps every blob that ever stood in the database, which is the most that copies taken
at any time can give, and has each root key that still exists and the memory of each process whose
lease is live. What it can open must not include the key of a record that is certified.

The rules that make this safe can be taken out one by one (`Without`), and `explore` then shows the
shortest way to the damage. Run by tests/vault/test_shred_model.py. Parts of a state are named
tuples, since the explorer hashes each state it meets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cache
from typing import NamedTuple

LEAF_SLOTS = 2
# Two shreds certify whatever was erased before they began; together they take fewer steps.
_CLEAN_STEPS = 60
_FOR_EVER = 1_000
_NOBODYS = -1


class Without(Enum):
    """A rule that a control takes out, in the words that a trace begins with."""

    SWAP = "a commit does not compare (generation, sequence)"
    SWAP_GENERATION = "a commit compares the sequence alone"
    CLOSED_CHECK = "a commit may seal under a closed generation"
    CACHE_LABEL = "the cache counts for every label"
    REKEY = "an erasure leaves the node keys as they are"
    RECORD_ONCE = "the second shredder records its own epoch key over the first"
    RESEAL_FIRST = "the old root key is destroyed before the root node is re-sealed"
    READ_BACK = "nothing is read back"
    BACKUP = "no backup is restored"
    LEASE_WAIT = "a shredder waits for its own lease alone"
    DESTRUCTION = "the provider says that it destroyed the key, and keeps it"
    TRY = "nobody tries whether the old root key is gone"
    OLDEST_FIRST = "a shred takes the present generation and leaves an older one"
    ERASED_BOUND = "records erased after the re-seal are certified too"
    CERTIFY_ONCE = "a certificate is issued without looking for an earlier one"
    ACKNOWLEDGE_NODES = "acknowledging leaves opened nodes of an older label in the cache"
    ACKNOWLEDGE_EPOCH_KEYS = "acknowledging leaves older epoch keys in memory"
    ACKNOWLEDGE_SETTLED = "a process acknowledges with older operations still in flight"
    RENEWAL_FORGETS = "a process renews a lease that ended and keeps its memory"
    SLEEPERS_UNREACHED = "the adversary reads the memory of who slept past the end of its lease"
    RESEAL_KEEPS_SEQUENCE = "the re-seal raises the sequence too"
    RESEAL_SOUND = "the re-seal writes a root node that does not open"


class Damage(Enum):
    """What must never happen."""

    GONE = "gone for good"  # no copy opens either, whoever has it
    LOST = "lost"
    RESURRECTED = "resurrected"
    SERVED = "served after erasure"
    REFUSED = "refused to a live reader"
    RECOVERABLE = "certified and recoverable"
    CERTIFIED_TWICE = "certified twice"
    STUCK = "stuck"


class KeyKind(IntEnum):
    """What a key opens."""

    ROOT = 0  # the provider's, one per generation
    EPOCH = 1
    NODE = 2
    RECORD = 3


class Key(NamedTuple):
    """A key by name: the number of a root key is its generation, others are numbered as made."""

    kind: KeyKind
    number: int


class Sealed(NamedTuple):
    """Keys under a key."""

    key: Key
    contents: tuple[Key | None, ...]


class Row(NamedTuple):
    """The tree's row."""

    generation: int
    sequence: int
    next_slot: int

    @property
    def label(self) -> tuple[int, int]:
        """What names this state of the tree."""
        return self.generation, self.sequence


class GenerationState(IntEnum):
    """What may be done under a generation."""

    PRESENT = 0
    CLOSED = 1
    DESTROYED = 2


class Generation(NamedTuple):
    """A row of the table of generations."""

    state: GenerationState
    wrapped: Sealed


class Record(NamedTuple):
    """A record's row. A record's own key has the record's number."""

    slot: int
    erased: int = 0  # the generation of the erasure
    certificates: int = 0


class Store(NamedTuple):
    """The database: every change of it is one transaction. Generation g is generations[g - 1]."""

    row: Row
    root: Sealed
    leaves: tuple[Sealed, ...]
    generations: tuple[Generation, ...]
    records: tuple[Record, ...]

    def blobs(self) -> frozenset[Sealed]:
        """Return what a copy of the database holds."""
        return frozenset([self.root, *self.leaves, *(g.wrapped for g in self.generations)])

    def oldest(self) -> int:
        """Return the oldest generation that is not marked destroyed."""
        return next(
            number
            for number, generation in enumerate(self.generations, 1)
            if generation.state is not GenerationState.DESTROYED
        )


class Provider(NamedTuple):
    """The root keys, by generation. A number is never used again."""

    present: frozenset[int]
    destroyed: frozenset[int] = frozenset()


class Tree(NamedTuple):
    """The nodes in plaintext."""

    root: tuple[Key | None, ...]
    leaves: tuple[tuple[Key | None, ...], ...]

    def keys(self) -> Iterator[Key]:
        """Yield what a reader of this memory learns."""
        for node in (self.root, *self.leaves):
            yield from filter(None, node)


class Opened(NamedTuple):
    """Opened nodes and the label that they count for."""

    label: tuple[int, int]
    tree: Tree


class Write(NamedTuple):
    """A change between its reading and its commit. No record means a new one."""

    row: Row
    tree: Tree
    epoch_key: Key
    record: int | None


class Step(IntEnum):
    """The steps of a shred."""

    MAKE_ROOT_KEY = 0
    RECORD_EPOCH_KEY = 1
    RESEAL = 2
    READ_BACK = 3
    BACKUP = 4
    AWAIT_LEASES = 5
    DESTROY = 6
    TRY = 7
    CERTIFY = 8


class Shred(NamedTuple):
    """What a shredder remembers between its steps.

    Attributes:
        listed: the records still to be certified, as it found them once the root key was gone.
    """

    generation: int
    step: Step = Step.MAKE_ROOT_KEY
    listed: tuple[int, ...] = ()


class Process(NamedTuple):
    """A process and its lease; the lease stands in the database and outlives a crash.

    Attributes:
        acknowledged: the generation that its lease names.
        leased: the lease is live.
        up: not crashed.
        epoch_keys: by generation.
        get: the snapshot of a get in flight.
    """

    acknowledged: int
    leased: bool = True
    up: bool = True
    cache: Opened | None = None
    epoch_keys: frozenset[tuple[int, Key]] = frozenset()
    write: Write | None = None
    get: Store | None = None
    shred: Shred | None = None

    def memory(self) -> Iterator[Key]:
        """Yield every key that lies open in this process."""
        yield from (key for _, key in self.epoch_keys)
        if self.cache is not None:
            yield from self.cache.tree.keys()
        if self.write is not None:
            yield self.write.epoch_key
            yield from self.write.tree.keys()

    def in_flight_before(self, generation: int) -> bool:
        """Tell whether an operation that began under an older generation has not ended."""
        rows = [operation.row for operation in (self.write, self.get) if operation is not None]
        return any(row.generation < generation for row in rows)


class Budget(NamedTuple):
    """How often each thing may still happen."""

    puts: int
    erasures: int
    gets: int
    crashes: int
    sleeps: int


class State(NamedTuple):
    """Everything there is.

    Attributes:
        seen: every blob that was ever in the database: what the adversary copied.
        made: how many keys were made, so that each new one has a name of its own.
        damage: done by the last step, where only the step itself can tell.
    """

    store: Store
    provider: Provider
    processes: tuple[Process, ...]
    seen: frozenset[Sealed]
    made: int
    budget: Budget
    damage: Damage | None = None


class Action(Enum):
    """What a process does in one step."""

    BEGIN_PUT = "reads the tree to put a record"
    BEGIN_ERASURE = "reads the tree to erase record"
    COMMIT = "commits"
    BEGIN_GET = "opens a snapshot for a get"
    SERVE = "serves from its snapshot"
    ACKNOWLEDGE = "acknowledges generation"
    BEGIN_SHRED = "begins or resumes the shred of generation"
    SHRED = "shreds:"
    CRASH = "crashes"
    LEASE_ENDS = "sleeps past the end of its lease"
    JOIN = "takes a new lease"


class Move(NamedTuple):
    """One step of a trace."""

    process: int
    action: Action
    detail: str = ""

    def __str__(self) -> str:
        return f"process {self.process} {self.action.value} {self.detail}".rstrip()


@dataclass(frozen=True)
class Scenario:
    """The bounds of an exploration.

    Attributes:
        records: put before it begins, two to a leaf.
        shreds: the generations 1 to `shreds` may be shredded.
    """

    processes: int = 2
    records: int = 2
    puts: int = 0
    erasures: int = 1
    gets: int = 0
    crashes: int = 0
    sleeps: int = 0
    shreds: int = 1

    @property
    def budget(self) -> Budget:
        """What may happen, counted."""
        return Budget(self.puts, self.erasures, self.gets, self.crashes, self.sleeps)


def closure(blobs: frozenset[Sealed], known: Iterable[Key]) -> set[Key]:
    """Return every key that can be reached by opening blobs with known keys."""
    keys, closed = set(known), set(blobs)
    while opening := {blob for blob in closed if blob.key in keys}:
        closed -= opening
        for blob in opening:
            keys.update(filter(None, blob.contents))
    return keys


def open_tree(store: Store, epoch_key: Key) -> Tree | None:
    """Open every node from the root down, or return None where one does not open."""
    root = store.root
    if root.key != epoch_key or len(root.contents) < len(store.leaves):
        return None
    if any(leaf.key != key for leaf, key in zip(store.leaves, root.contents, strict=False)):
        return None
    return Tree(root.contents, tuple(leaf.contents for leaf in store.leaves))


def unwrap(store: Store, provider: Provider, generation: int) -> Key | None:
    """Return an epoch key, if the provider still has the root key over it."""
    wrapped = store.generations[generation - 1].wrapped
    return wrapped.contents[0] if wrapped.key.number in provider.present else None


@cache
def fresh_reading(store: Store, provider: Provider) -> Tree | None:
    """Return what a process reads that has cached nothing."""
    epoch_key = unwrap(store, provider, store.row.generation)
    return None if epoch_key is None else open_tree(store, epoch_key)


def record_key(record: int) -> Key:
    """Return the name of a record's key."""
    return Key(KeyKind.RECORD, record)


def readable(tree: Tree | None, record: int, slot: int) -> bool:
    """Tell whether a record's key is where its row says."""
    if tree is None or slot // LEAF_SLOTS >= len(tree.leaves):
        return False
    return tree.leaves[slot // LEAF_SLOTS][slot % LEAF_SLOTS] == record_key(record)


def survivors_readable(store: Store, tree: Tree | None) -> bool:
    """Tell whether each record that is not erased can be read."""
    return all(
        record.erased or readable(tree, number, record.slot)
        for number, record in enumerate(store.records)
    )


def root_keys(provider: Provider) -> Iterator[Key]:
    """Yield the root keys that exist."""
    return (Key(KeyKind.ROOT, generation) for generation in provider.present)


@cache
def store_damage(store: Store, provider: Provider) -> Damage | None:
    """Judge the database as a process finds it that starts now."""
    if not survivors_readable(store, fresh_reading(store, provider)):
        return Damage.LOST
    if any(record.certificates > 1 for record in store.records):
        return Damage.CERTIFIED_TWICE
    erased = {record_key(n) for n, record in enumerate(store.records) if record.erased}
    if erased and erased & closure(store.blobs(), root_keys(provider)):
        return Damage.RESURRECTED
    return None


@cache
def opens(seen: frozenset[Sealed], provider: Provider, memory: frozenset[Key]) -> frozenset[Key]:
    """Return the adversary's knowledge."""
    return frozenset(closure(seen, [*root_keys(provider), *memory]))


def replaced(items: tuple, index: int, item: object) -> tuple:
    """Return a tuple with one item replaced, or appended where the index is its length."""
    return (*items[:index], item, *items[index + 1 :])


@dataclass(frozen=True)
class Model:
    """The protocol, with rules taken out where a control wants that."""

    scenario: Scenario
    without: frozenset[Without] = frozenset()

    def has(self, rule: Without) -> bool:
        """Tell whether a rule is in force."""
        return rule not in self.without

    # The beginning and the end of a step

    def initial(self) -> State:
        """Return the state from which all else follows: some records put, nothing cached."""
        count = self.scenario.records
        epoch_key, made = Key(KeyKind.EPOCH, 0), 1
        root, leaves = [], []
        for first in range(0, count, LEAF_SLOTS):
            node_key, made = Key(KeyKind.NODE, made), made + 1
            slots = range(first, first + LEAF_SLOTS)
            root.append(node_key)
            leaves.append(
                Sealed(node_key, tuple(record_key(s) if s < count else None for s in slots))
            )
        store = Store(
            Row(1, 0, count),
            Sealed(epoch_key, tuple(root)),
            tuple(leaves),
            (Generation(GenerationState.PRESENT, Sealed(Key(KeyKind.ROOT, 1), (epoch_key,))),),
            tuple(map(Record, range(count))),
        )
        return State(
            store,
            Provider(frozenset({1})),
            (Process(acknowledged=1),) * self.scenario.processes,
            store.blobs(),
            made,
            self.scenario.budget,
        )

    def moves(self, state: State) -> Iterator[tuple[Move, State]]:
        """Yield each step that can be taken now, with what comes of it."""
        for index, process in enumerate(state.processes):
            if process.up:
                yield from self._finishing(state, index, process)
                yield from self._shredding(state, index, process)
                if process.leased:
                    yield from self._beginning(state, index, process)
                    yield from self._acknowledging(state, index, process)
            yield from self._failing(state, index, process)

    def damage(self, state: State) -> Damage | None:
        """Return the worst that is wrong with a state."""
        return (
            state.damage
            or self._final_damage(state)
            or store_damage(state.store, state.provider)
            or self._secrecy_damage(state)
            or (None if self._resumes(state) else Damage.STUCK)
        )

    @staticmethod
    def _final_damage(state: State) -> Damage | None:
        records = enumerate(state.store.records)
        survivors = {record_key(number) for number, record in records if not record.erased}
        known = opens(state.seen, state.provider, frozenset())
        return None if survivors <= known else Damage.GONE

    def _secrecy_damage(self, state: State) -> Damage | None:
        certified = [n for n, record in enumerate(state.store.records) if record.certificates]
        if not certified:
            return None
        memory = frozenset(
            key
            for process in state.processes
            if process.leased or not self.has(Without.SLEEPERS_UNREACHED)
            for key in process.memory()
        )
        known = opens(state.seen, state.provider, memory)
        return Damage.RECOVERABLE if known & set(map(record_key, certified)) else None

    @staticmethod
    def _with(state: State, index: int, process: Process, store: Store | None = None) -> State:
        processes = replaced(state.processes, index, process)
        if store is None or store == state.store:
            return state._replace(processes=processes)
        return state._replace(processes=processes, store=store, seen=state.seen | store.blobs())

    # Reading

    def _seeing(self, process: Process, row: Row) -> Process:
        """Drop what a newer row makes stale."""
        cache = process.cache
        if cache is not None and cache.label < row.label and self.has(Without.CACHE_LABEL):
            cache = None
        keys = process.epoch_keys
        if any(generation < row.generation for generation, _ in keys):
            keys = frozenset(pair for pair in keys if pair[0] >= row.generation)
        return process._replace(cache=cache, epoch_keys=keys)

    def _reading(
        self, process: Process, snapshot: Store, provider: Provider
    ) -> tuple[Process, Tree | None, Key | None]:
        """Return the process with its memory as reading leaves it, the tree and the epoch key."""
        row = snapshot.row
        # A reader in an older snapshot goes without the cache and leaves it as it is.
        if process.cache is None or process.cache.label <= row.label:
            process = self._seeing(process, row)
        epoch_key = dict(process.epoch_keys).get(row.generation)
        if epoch_key is None:
            epoch_key = unwrap(snapshot, provider, row.generation)
        if epoch_key is None:
            return process, None, None
        keys = process.epoch_keys | {(row.generation, epoch_key)}
        cache = process.cache
        if cache is not None and (cache.label == row.label or not self.has(Without.CACHE_LABEL)):
            return process._replace(epoch_keys=keys), cache.tree, epoch_key
        tree = open_tree(snapshot, epoch_key)
        if tree is not None and cache is None:
            cache = Opened(row.label, tree)
        return process._replace(epoch_keys=keys, cache=cache), tree, epoch_key

    def _beginning(
        self, state: State, index: int, process: Process
    ) -> Iterator[tuple[Move, State]]:
        budget = state.budget
        if process.get is None and budget.gets:
            after = self._with(state, index, process._replace(get=state.store))
            yield (
                Move(index, Action.BEGIN_GET),
                after._replace(budget=budget._replace(gets=budget.gets - 1)),
            )
        if process.write is not None or not (budget.puts or budget.erasures):
            return
        process, tree, epoch_key = self._reading(process, state.store, state.provider)
        if tree is None or epoch_key is None:
            return
        write = Write(state.store.row, tree, epoch_key, None)
        if budget.puts:
            after = self._with(state, index, process._replace(write=write))
            yield (
                Move(index, Action.BEGIN_PUT),
                after._replace(budget=budget._replace(puts=budget.puts - 1)),
            )
        for number, record in enumerate(state.store.records):
            if budget.erasures and readable(tree, number, record.slot):
                erasure = write._replace(record=number)
                after = self._with(state, index, process._replace(write=erasure))
                yield (
                    Move(index, Action.BEGIN_ERASURE, str(number)),
                    after._replace(budget=budget._replace(erasures=budget.erasures - 1)),
                )

    def _finishing(
        self, state: State, index: int, process: Process
    ) -> Iterator[tuple[Move, State]]:
        if process.write is not None:
            yield self._commit(state, index, process, process.write)
        if process.get is not None:
            yield Move(index, Action.SERVE), self._serve(state, index, process, process.get)

    def _serve(self, state: State, index: int, process: Process, snapshot: Store) -> State:
        """End a get. It looks at the tree alone, and at every record that its snapshot knows."""
        process, tree, _ = self._reading(process, snapshot, state.provider)
        after = self._with(state, index, process._replace(get=None))
        for number, record in enumerate(snapshot.records):
            found = readable(tree, number, record.slot)
            if found and record.erased:
                return after._replace(damage=Damage.SERVED)
            if not found and not record.erased and process.leased:
                return after._replace(damage=Damage.REFUSED)
        return after

    # Writing

    def _commit(
        self, state: State, index: int, process: Process, write: Write
    ) -> tuple[Move, State]:
        process = process._replace(write=None)
        if self._refuses(state.store, write.row):
            return Move(index, Action.COMMIT, "and is refused"), self._with(state, index, process)
        tree, store, made = self._changed(state, write)
        if process.cache is not None and process.cache.label == write.row.label:
            label = (write.row.generation, write.row.sequence + 1)
            process = process._replace(cache=Opened(label, tree))
        return Move(index, Action.COMMIT), self._with(state, index, process, store)._replace(
            made=made
        )

    def _refuses(self, store: Store, read: Row) -> bool:
        state = store.generations[read.generation - 1].state
        if self.has(Without.CLOSED_CHECK) and state is not GenerationState.PRESENT:
            return True
        if not self.has(Without.SWAP):
            return False
        if self.has(Without.SWAP_GENERATION):
            return store.row.label != read.label
        return store.row.sequence != read.sequence

    def _changed(self, state: State, write: Write) -> tuple[Tree, Store, int]:
        """Return the tree, the database and the count of keys after a change."""
        store, made = state.store, state.made
        new = write.record is None
        slot = write.row.next_slot if new else store.records[write.record].slot
        place, position = divmod(slot, LEAF_SLOTS)
        tree, value = write.tree, record_key(len(store.records)) if new else None
        if place == len(tree.leaves):
            tree = Tree(tree.root, (*tree.leaves, (None,) * LEAF_SLOTS))
        fresh_key = place == len(tree.root) or (not new and self.has(Without.REKEY))
        if fresh_key:
            tree, made = (
                tree._replace(root=replaced(tree.root, place, Key(KeyKind.NODE, made))),
                made + 1,
            )
        leaf = replaced(tree.leaves[place], position, value)
        tree = tree._replace(leaves=replaced(tree.leaves, place, leaf))
        store = store._replace(
            row=Row(
                store.row.generation, store.row.sequence + 1, max(write.row.next_slot, slot + 1)
            ),
            root=Sealed(write.epoch_key, tree.root) if fresh_key else store.root,
            leaves=replaced(store.leaves, place, Sealed(tree.root[place], leaf)),
            records=self._records(store, write, slot),
        )
        return tree, store, made

    @staticmethod
    def _records(store: Store, write: Write, slot: int) -> tuple[Record, ...]:
        if write.record is None:
            return (*store.records, Record(slot))
        record = store.records[write.record]
        erased = record._replace(erased=record.erased or write.row.generation)
        return replaced(store.records, write.record, erased)

    # Leases

    def _acknowledging(
        self, state: State, index: int, process: Process
    ) -> Iterator[tuple[Move, State]]:
        row = state.store.row
        if process.acknowledged >= row.generation:
            return
        if process.in_flight_before(row.generation) and self.has(Without.ACKNOWLEDGE_SETTLED):
            return
        seen = self._seeing(process, row)
        if not self.has(Without.ACKNOWLEDGE_NODES):
            seen = seen._replace(cache=process.cache)
        if not self.has(Without.ACKNOWLEDGE_EPOCH_KEYS):
            seen = seen._replace(epoch_keys=process.epoch_keys)
        after = self._with(state, index, seen._replace(acknowledged=row.generation))
        yield Move(index, Action.ACKNOWLEDGE, str(row.generation)), after

    def _failing(self, state: State, index: int, process: Process) -> Iterator[tuple[Move, State]]:
        budget = state.budget
        if process.up and budget.crashes:
            after = self._with(
                state, index, Process(process.acknowledged, leased=process.leased, up=False)
            )
            yield (
                Move(index, Action.CRASH),
                after._replace(budget=budget._replace(crashes=budget.crashes - 1)),
            )
        if process.leased and not process.up:
            yield (
                Move(index, Action.LEASE_ENDS),
                self._with(state, index, process._replace(leased=False)),
            )
        elif process.leased and budget.sleeps:
            after = self._with(state, index, process._replace(leased=False))
            yield (
                Move(index, Action.LEASE_ENDS),
                after._replace(budget=budget._replace(sleeps=budget.sleeps - 1)),
            )
        elif not process.leased:
            yield Move(index, Action.JOIN), self._with(state, index, self._joined(state, process))

    def _joined(self, state: State, process: Process) -> Process:
        """Return a process that took its lease in one transaction with reading the row."""
        generation = state.store.row.generation
        if self.has(Without.RENEWAL_FORGETS) or not process.up:
            return Process(generation)
        return process._replace(leased=True, acknowledged=generation)

    # Shredding

    def _order(self) -> tuple[Step, ...]:
        if self.has(Without.RESEAL_FIRST):
            return tuple(Step)
        rest = [step for step in Step if step not in {Step.RESEAL, Step.DESTROY}]
        return (*rest[:2], Step.DESTROY, Step.RESEAL, *rest[2:])

    def _shredding(
        self, state: State, index: int, process: Process
    ) -> Iterator[tuple[Move, State]]:
        if process.shred is not None:
            after = self._shred_step(state, index, process.shred)
            if after is not None:
                step = process.shred.step.name.lower().replace("_", " ")
                yield Move(index, Action.SHRED, step), after
        elif process.leased:
            present = state.store.row.generation
            generation = state.store.oldest() if self.has(Without.OLDEST_FIRST) else present
            if generation <= self.scenario.shreds:
                shred = Shred(generation)
                yield (
                    Move(index, Action.BEGIN_SHRED, str(generation)),
                    self._with(state, index, process._replace(shred=shred)),
                )

    def _shred_step(self, state: State, index: int, shred: Shred) -> State | None:
        """Take the next step of a shred, or return None where it has to wait."""
        match shred.step:
            case Step.MAKE_ROOT_KEY:
                return self._passed(self._root_key_made(state, shred.generation + 1), index)
            case Step.RECORD_EPOCH_KEY:
                return self._passed(self._epoch_key_recorded(state, index, shred), index)
            case Step.RESEAL:
                return self._resealed(state, index, shred.generation)
            case Step.READ_BACK | Step.BACKUP:
                return self._read_back(state, index, shred.step)
            case Step.AWAIT_LEASES:
                return None if self._waits(state, index, shred) else self._passed(state, index)
            case Step.DESTROY:
                return self._passed(self._root_key_destroyed(state, shred.generation), index)
            case Step.TRY:
                return self._tried(state, index, shred.generation)
            case Step.CERTIFY:
                return self._certified(state, index, shred)

    def _waits(self, state: State, index: int, shred: Shred) -> bool:
        """Tell whether a live lease names an older generation than the one that is to stay."""
        waited_for = state.processes if self.has(Without.LEASE_WAIT) else [state.processes[index]]
        return any(
            process.leased and process.acknowledged <= shred.generation for process in waited_for
        )

    def _passed(self, state: State, index: int) -> State:
        """Return the state with a shredder one step further."""
        process = state.processes[index]
        assert process.shred is not None
        order = self._order()
        following = order[order.index(process.shred.step) + 1]
        shred = process.shred._replace(step=following)
        return self._with(state, index, process._replace(shred=shred))

    def _stopped(self, state: State, index: int, store: Store | None = None) -> State:
        return self._with(state, index, state.processes[index]._replace(shred=None), store)

    @staticmethod
    def _root_key_made(state: State, generation: int) -> State:
        provider = state.provider
        if generation in provider.destroyed:
            return state
        return state._replace(provider=provider._replace(present=provider.present | {generation}))

    def _root_key_destroyed(self, state: State, generation: int) -> State:
        if not self.has(Without.DESTRUCTION):
            return state
        provider = state.provider
        return state._replace(
            provider=Provider(provider.present - {generation}, provider.destroyed | {generation})
        )

    def _epoch_key_recorded(self, state: State, index: int, shred: Shred) -> State:
        store, following = state.store, shred.generation + 1
        recorded = following <= len(store.generations)
        if recorded and self.has(Without.RECORD_ONCE):
            return state
        wrapped = Sealed(Key(KeyKind.ROOT, following), (Key(KeyKind.EPOCH, state.made),))
        row = Generation(GenerationState.PRESENT, wrapped)
        store = store._replace(generations=replaced(store.generations, following - 1, row))
        return self._with(state, index, state.processes[index], store)._replace(made=state.made + 1)

    def _resealed(self, state: State, index: int, generation: int) -> State:
        """Seal the root node under the next epoch key, in one transaction that reads anew."""
        store = state.store
        if store.row.generation != generation:
            return self._passed(state, index)
        tree = fresh_reading(store, state.provider)
        epoch_key = unwrap(store, state.provider, generation + 1)
        if tree is None or epoch_key is None:
            return self._stopped(state, index)
        raised = 0 if self.has(Without.RESEAL_KEEPS_SEQUENCE) else 1
        row = store.row._replace(generation=generation + 1, sequence=store.row.sequence + raised)
        closed = store.generations[generation - 1]._replace(state=GenerationState.CLOSED)
        store = store._replace(
            row=row,
            root=Sealed(epoch_key if self.has(Without.RESEAL_SOUND) else _NOBODYS, tree.root),
            generations=replaced(store.generations, generation - 1, closed),
        )
        return self._passed(self._with(state, index, state.processes[index], store), index)

    def _read_back(self, state: State, index: int, step: Step) -> State:
        """Read every survivor as a new process would; a copy restored elsewhere reads the same."""
        skipped = Without.READ_BACK if step is Step.READ_BACK else Without.BACKUP
        tree = fresh_reading(state.store, state.provider)
        if self.has(skipped) and not survivors_readable(state.store, tree):
            return self._stopped(state, index)
        return self._passed(state, index)

    def _tried(self, state: State, index: int, generation: int) -> State | None:
        """List what can be certified once the old root key opens nothing."""
        opened = unwrap(state.store, state.provider, generation) is not None
        if opened and self.has(Without.TRY):
            return None
        listed = tuple(
            number
            for number, record in enumerate(state.store.records)
            if record.erased and not record.certificates
            if record.erased <= generation or not self.has(Without.ERASED_BOUND)
        )
        after = self._passed(state, index)
        process = after.processes[index]
        assert process.shred is not None
        return self._with(
            after, index, process._replace(shred=process.shred._replace(listed=listed))
        )

    def _certified(self, state: State, index: int, shred: Shred) -> State:
        """Certify one record in one transaction, or mark the generation when none is left."""
        store, process = state.store, state.processes[index]
        if not shred.listed:
            marked = store.generations[shred.generation - 1]._replace(
                state=GenerationState.DESTROYED
            )
            generations = replaced(store.generations, shred.generation - 1, marked)
            return self._stopped(state, index, store._replace(generations=generations))
        number = shred.listed[0]
        record = store.records[number]
        if not (record.certificates and self.has(Without.CERTIFY_ONCE)):
            record = record._replace(certificates=record.certificates + 1)
            store = store._replace(records=replaced(store.records, number, record))
        rest = shred._replace(listed=shred.listed[1:])
        return self._with(state, index, process._replace(shred=rest), store)

    # Resuming

    def _resumes(self, state: State) -> bool:
        """Tell whether one new process, after all others are gone, shreds to a clean end."""
        alone = state._replace(
            processes=(Process(state.store.row.generation),), budget=Budget(0, 0, 0, 0, 0)
        )
        return _ends_clean(Model(Scenario(shreds=_FOR_EVER), self.without), alone)


@cache
def _ends_clean(model: Model, state: State) -> bool:
    # A process that has nothing in flight acknowledges as soon as it can.
    wanted = (Action.ACKNOWLEDGE, Action.SHRED, Action.BEGIN_SHRED)
    for _ in range(_CLEAN_STEPS):
        records = state.store.records
        if all(record.certificates or not record.erased for record in records):
            return True
        following = {move.action: after for move, after in model.moves(state)}
        possible = [following[action] for action in wanted if action in following]
        if not possible:
            return False
        state = possible[0]
    return False


@dataclass(frozen=True)
class Exploration:
    """What a search found.

    Attributes:
        counts: how many states showed each damage.
        trace: the shortest way to the first damage.
    """

    states: int
    depth: int
    complete: bool
    counts: Counter[Damage]
    first: Damage | None
    trace: tuple[Move, ...]

    def __str__(self) -> str:
        told = ", ".join(f"{self.counts[damage]} {damage.value}" for damage in Damage)
        return f"explored {self.states:,} states to depth {self.depth}: {told}"


class _Path(NamedTuple):
    state: State
    depth: int
    move: Move | None
    before: _Path | None

    def trace(self) -> tuple[Move, ...]:
        moves, path = [], self
        while path.before is not None:
            moves.append(path.move)
            path = path.before
        return tuple(reversed(moves))


def canonical(state: State) -> State:
    """Return the state with its processes in an order that does not depend on their names."""
    return state._replace(processes=tuple(sorted(state.processes, key=hash)))


def explore(
    model: Model, *, until: Damage | None = None, most_states: int | None = None
) -> Exploration:
    """Search breadth first through every interleaving within the model's scenario.

    Args:
        model: what to explore.
        until: stop at the first state with this damage.
        most_states: stop, incomplete, when so many are known.
    """
    begin = _Path(model.initial(), 0, None, None)
    known = {canonical(begin.state)}
    waiting = deque([begin])
    counts: Counter[Damage] = Counter()
    first: tuple[Damage, tuple[Move, ...]] | None = None
    depth = 0
    while waiting and (most_states is None or len(known) < most_states):
        path = waiting.popleft()
        depth = path.depth
        damage = model.damage(path.state)
        if damage is not None:
            counts[damage] += 1
            if first is None and until in {None, damage}:
                first = damage, path.trace()
                if until is not None:
                    break
        # From a state that is only stuck, worse may follow.
        if damage not in {None, Damage.STUCK}:
            continue
        for move, after in model.moves(path.state):
            name = canonical(after)
            if name not in known:
                known.add(name)
                waiting.append(_Path(after, path.depth + 1, move, path))
    found, trace = first or (None, ())
    return Exploration(len(known), depth, not waiting, counts, found, trace)
