"""A small executable model of erasing and shredding, apart from the code that does it.

Several processes share one database and one provider of root keys. Each step below is atomic, and
steps of different processes interleave in any order; a process may crash between two of its steps,
or sleep past the end of its lease and go on. Encryption is symbolic: a sealed blob opens for who
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

A process takes its lease before it opens a snapshot, and then acknowledges what it reads. It
acknowledges a newer generation once its operations under older ones have ended and older opened
nodes and epoch keys are gone from its memory. Whose lease ended forgets everything before it takes
a new one.

The adversary keeps every blob that ever stood in the database, which is the most that copies taken
at any time can give, and has each root key that still exists and the memory of each process whose
lease is live. What it can open must not include the key of a record that is certified. What it
opened while that was still possible is beyond any protocol. So is the memory of a process that
sleeps past the end of its lease: the model takes that to be out of reach, and a control shows what
depends on it. Restoring an old copy as the database is not modelled.

The rules that make this safe can be taken out one by one (`Without`), and `explore` then shows the
shortest way to the damage. Run by tests/vault/test_shred_model.py. Parts of a state are named
tuples, since the explorer hashes each state it meets.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import lru_cache
from typing import NamedTuple

LEAF_SLOTS = 2
# Two shreds certify whatever was erased before they began; together they take fewer steps.
_CLEAN_STEPS = 60
_FOR_EVER = 1_000
_REMEMBERED = 1 << 17


def replaced(items: tuple, index: int, item: object) -> tuple:
    """Return a tuple with one item replaced, or appended where the index is its length."""
    return (*items[:index], item, *items[index + 1 :])


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
    LEASE_FIRST = "a process opens a snapshot before it takes the lease that covers it"
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


_NOBODYS = Key(KeyKind.EPOCH, -1)


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

    def with_generation(self, number: int, state: GenerationState) -> Store:
        """Return the database with a generation marked."""
        marked = self.generations[number - 1]._replace(state=state)
        return self._replace(generations=replaced(self.generations, number - 1, marked))

    def oldest(self) -> int:
        """Return the oldest generation that is not marked destroyed."""
        return next(
            number
            for number, generation in enumerate(self.generations, 1)
            if generation.state is not GenerationState.DESTROYED
        )


class Provider(NamedTuple):
    """The root keys, by generation."""

    present: frozenset[int]
    destroyed: frozenset[int] = frozenset()

    def made(self, generation: int) -> Provider:
        """Make a root key, if it is not there; a number is never used again."""
        if generation in self.destroyed:
            return self
        return self._replace(present=self.present | {generation})

    def without(self, generation: int) -> Provider:
        """Destroy a root key."""
        return Provider(self.present - {generation}, self.destroyed | {generation})

    def keys(self) -> Iterator[Key]:
        """Yield the root keys that exist."""
        return (Key(KeyKind.ROOT, generation) for generation in self.present)


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


_ORDER = tuple(Step)
# As the control has it.
_DESTROYING_FIRST = (*_ORDER[:2], Step.DESTROY, *_ORDER[2:6], *_ORDER[7:])


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
    LEASE_ENDS = "is gone, and its lease ends"
    SLEEP = "sleeps past the end of its lease"
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
        latecomers: so many of the processes have no lease yet.
        records: put before it begins, two to a leaf.
        shreds: the generations 1 to `shreds` may be shredded.
    """

    processes: int = 2
    latecomers: int = 0
    records: int = 2
    puts: int = 0
    erasures: int = 1
    gets: int = 0
    crashes: int = 0
    sleeps: int = 0
    shreds: int = 1

    def __str__(self) -> str:
        return ", ".join(f"{what} {count}" for what, count in vars(self).items() if count)

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


@lru_cache(_REMEMBERED)
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


@lru_cache(_REMEMBERED)
def store_damage(store: Store, provider: Provider) -> Damage | None:
    """Judge the database as a process finds it that starts now."""
    if not survivors_readable(store, fresh_reading(store, provider)):
        return Damage.LOST
    if any(record.certificates > 1 for record in store.records):
        return Damage.CERTIFIED_TWICE
    erased = {record_key(n) for n, record in enumerate(store.records) if record.erased}
    if erased and erased & closure(store.blobs(), provider.keys()):
        return Damage.RESURRECTED
    return None


@lru_cache(_REMEMBERED)
def knowledge(
    seen: frozenset[Sealed], provider: Provider, memory: frozenset[Key]
) -> frozenset[Key]:
    """Return what the adversary can open."""
    return frozenset(closure(seen, [*provider.keys(), *memory]))


@lru_cache(_REMEMBERED)
def final_damage(
    records: tuple[Record, ...], seen: frozenset[Sealed], provider: Provider
) -> Damage | None:
    """Judge whether the survivors could still be had, if only from a copy."""
    survivors = {record_key(number) for number, record in enumerate(records) if not record.erased}
    return None if survivors <= knowledge(seen, provider, frozenset()) else Damage.GONE


class Turn(NamedTuple):
    """A process about to take a step."""

    state: State
    index: int
    process: Process

    @property
    def store(self) -> Store:
        """The database as it is."""
        return self.state.store

    def move(self, action: Action, detail: object = "") -> Move:
        """Return the name of the step."""
        return Move(self.index, action, str(detail))

    def after(self, process: Process, store: Store | None = None, **changes: object) -> State:
        """Return the state after the step; the adversary copies what was committed."""
        if store is not None and store != self.state.store:
            changes |= {"store": store, "seen": self.state.seen | store.blobs()}
        processes = replaced(self.state.processes, self.index, process)
        return self.state._replace(processes=processes, **changes)

    def spent(self, what: str) -> Budget:
        """Return the budget with one of its counts lowered."""
        budget = self.state.budget
        return budget._replace(**{what: getattr(budget, what) - 1})


@dataclass(frozen=True)
class Model:
    """The protocol, with rules taken out where a control wants that."""

    scenario: Scenario
    without: frozenset[Without] = frozenset()

    def has(self, rule: Without) -> bool:
        """Tell whether a rule is in force."""
        return rule not in self.without

    def initial(self) -> State:
        """Return the state from which all else follows: some records put, nothing cached."""
        count = self.scenario.records
        slots = [record_key(number) if number < count else None for number in range(2 * count)]
        node_keys = tuple(Key(KeyKind.NODE, n) for n in range(1, 2 + (count - 1) // LEAF_SLOTS))
        leaves = (slots[n * LEAF_SLOTS : (n + 1) * LEAF_SLOTS] for n in range(len(node_keys)))
        epoch_key = Key(KeyKind.EPOCH, 0)
        store = Store(
            Row(1, 0, count),
            Sealed(epoch_key, node_keys),
            tuple(Sealed(key, tuple(leaf)) for key, leaf in zip(node_keys, leaves, strict=True)),
            (Generation(GenerationState.PRESENT, Sealed(Key(KeyKind.ROOT, 1), (epoch_key,))),),
            tuple(map(Record, range(count))),
        )
        return State(
            store,
            Provider(frozenset({1})),
            (
                *(Process(1),) * (self.scenario.processes - self.scenario.latecomers),
                *(Process(0, leased=False),) * self.scenario.latecomers,
            ),
            store.blobs(),
            1 + len(node_keys),
            self.scenario.budget,
        )

    def moves(self, state: State) -> Iterator[tuple[Move, State]]:
        """Yield each step that can be taken now, with what comes of it."""
        for index, process in enumerate(state.processes):
            turn = Turn(state, index, process)
            if process.up:
                yield from self._finishing(turn)
                yield from self._shredding(turn)
                if process.leased or not self.has(Without.LEASE_FIRST):
                    yield from self._beginning(turn)
                yield from self._acknowledging(turn)
            yield from self._failing(turn)

    # What is judged after each step

    def damage(self, state: State) -> Damage | None:
        """Return the worst that is wrong with a state."""
        return (
            state.damage
            or final_damage(state.store.records, state.seen, state.provider)
            or store_damage(state.store, state.provider)
            or self._secrecy_damage(state)
            or (None if self._resumes(state) else Damage.STUCK)
        )

    def _secrecy_damage(self, state: State) -> Damage | None:
        certified = {record_key(n) for n, r in enumerate(state.store.records) if r.certificates}
        if not certified:
            return None
        memory = frozenset(
            key
            for process in state.processes
            if process.leased or not self.has(Without.SLEEPERS_UNREACHED)
            for key in process.memory()
        )
        known = knowledge(state.seen, state.provider, memory)
        return Damage.RECOVERABLE if known & certified else None

    def _resumes(self, state: State) -> bool:
        """Tell whether one new process, once all others are gone, certifies whatever is erased."""
        alone = state._replace(
            processes=(Process(state.store.row.generation),), budget=Budget(0, 0, 0, 0, 0)
        )
        return _ends_clean(Model(Scenario(shreds=_FOR_EVER), self.without), alone)

    # Reading

    def _seeing(self, process: Process, row: Row) -> Process:
        """Drop what a newer row makes stale."""
        cache = process.cache
        if cache is not None and cache.label < row.label and self.has(Without.CACHE_LABEL):
            cache = None
        keys = frozenset(pair for pair in process.epoch_keys if pair[0] >= row.generation)
        return process._replace(cache=cache, epoch_keys=keys)

    def _reading(self, turn: Turn, snapshot: Store) -> tuple[Process, Tree | None, Key | None]:
        """Return the process with its memory as reading leaves it, the tree and the epoch key."""
        process, row = turn.process, snapshot.row
        # A reader in an older snapshot goes without the cache and leaves it as it is.
        if process.cache is None or process.cache.label <= row.label:
            process = self._seeing(process, row)
        known = dict(process.epoch_keys).get(row.generation)
        epoch_key = known or unwrap(snapshot, turn.state.provider, row.generation)
        if epoch_key is None:
            return process, None, None
        process = process._replace(epoch_keys=process.epoch_keys | {(row.generation, epoch_key)})
        cache = process.cache
        if cache is not None and (cache.label == row.label or not self.has(Without.CACHE_LABEL)):
            return process, cache.tree, epoch_key
        tree = open_tree(snapshot, epoch_key)
        if tree is not None and cache is None:
            process = process._replace(cache=Opened(row.label, tree))
        return process, tree, epoch_key

    def _beginning(self, turn: Turn) -> Iterator[tuple[Move, State]]:
        process, store, budget = turn.process, turn.store, turn.state.budget
        if process.get is None and budget.gets:
            getting = process._replace(get=store)
            yield turn.move(Action.BEGIN_GET), turn.after(getting, budget=turn.spent("gets"))
        if process.write is not None or not (budget.puts or budget.erasures):
            return
        process, tree, epoch_key = self._reading(turn, store)
        if tree is None or epoch_key is None:
            return
        write = Write(store.row, tree, epoch_key, None)
        if budget.puts:
            putting = process._replace(write=write)
            yield turn.move(Action.BEGIN_PUT), turn.after(putting, budget=turn.spent("puts"))
        for number, record in enumerate(store.records):
            if budget.erasures and readable(tree, number, record.slot):
                erasing = process._replace(write=write._replace(record=number))
                after = turn.after(erasing, budget=turn.spent("erasures"))
                yield turn.move(Action.BEGIN_ERASURE, number), after

    def _finishing(self, turn: Turn) -> Iterator[tuple[Move, State]]:
        if turn.process.write is not None:
            yield self._commit(turn, turn.process.write)
        if turn.process.get is not None:
            yield turn.move(Action.SERVE), self._served(turn, turn.process.get)

    def _served(self, turn: Turn, snapshot: Store) -> State:
        """End a get. It looks at the tree alone, and at every record that its snapshot knows."""
        process, tree, _ = self._reading(turn, snapshot)
        damage = None
        for number, record in enumerate(snapshot.records):
            found = readable(tree, number, record.slot)
            if found and record.erased:
                damage = Damage.SERVED
            elif not found and not record.erased and process.leased:
                damage = damage or Damage.REFUSED
        return turn.after(process._replace(get=None), damage=damage)

    # Writing

    def _commit(self, turn: Turn, write: Write) -> tuple[Move, State]:
        process = turn.process._replace(write=None)
        if self._refuses(turn.store, write.row):
            return turn.move(Action.COMMIT, "and is refused"), turn.after(process)
        tree, store, made = self._changed(turn.state, write)
        if process.cache is not None and process.cache.label == write.row.label:
            label = (write.row.generation, write.row.sequence + 1)
            process = process._replace(cache=Opened(label, tree))
        return turn.move(Action.COMMIT), turn.after(process, store, made=made)

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
        root, leaves = write.tree
        leaf = leaves[place] if place < len(leaves) else (None,) * LEAF_SLOTS
        leaf = replaced(leaf, position, record_key(len(store.records)) if new else None)
        sealed_root = store.root
        if place == len(root) or (not new and self.has(Without.REKEY)):
            root, made = replaced(root, place, Key(KeyKind.NODE, made)), made + 1
            sealed_root = Sealed(write.epoch_key, root)
        generation, sequence, _ = store.row
        store = store._replace(
            row=Row(generation, sequence + 1, write.row.next_slot + new),
            root=sealed_root,
            leaves=replaced(store.leaves, place, Sealed(root[place], leaf)),
            records=self._records(store, write, slot),
        )
        return Tree(root, replaced(leaves, place, leaf)), store, made

    @staticmethod
    def _records(store: Store, write: Write, slot: int) -> tuple[Record, ...]:
        if write.record is None:
            return (*store.records, Record(slot))
        record = store.records[write.record]
        erased = record._replace(erased=record.erased or write.row.generation)
        return replaced(store.records, write.record, erased)

    # Leases

    def _acknowledging(self, turn: Turn) -> Iterator[tuple[Move, State]]:
        process, row = turn.process, turn.store.row
        if not process.leased or process.acknowledged >= row.generation:
            return
        if process.in_flight_before(row.generation) and self.has(Without.ACKNOWLEDGE_SETTLED):
            return
        seeing = self._seeing(process, row)
        if not self.has(Without.ACKNOWLEDGE_NODES):
            seeing = seeing._replace(cache=process.cache)
        if not self.has(Without.ACKNOWLEDGE_EPOCH_KEYS):
            seeing = seeing._replace(epoch_keys=process.epoch_keys)
        acknowledged = seeing._replace(acknowledged=row.generation)
        yield turn.move(Action.ACKNOWLEDGE, row.generation), turn.after(acknowledged)

    def _failing(self, turn: Turn) -> Iterator[tuple[Move, State]]:
        process, budget = turn.process, turn.state.budget
        if process.up and budget.crashes:
            crashed = Process(process.acknowledged, leased=process.leased, up=False)
            yield turn.move(Action.CRASH), turn.after(crashed, budget=turn.spent("crashes"))
        unleased = process._replace(leased=False)
        if not process.leased:
            yield turn.move(Action.JOIN), turn.after(self._joined(turn))
        elif not process.up:
            yield turn.move(Action.LEASE_ENDS), turn.after(unleased)
        elif budget.sleeps:
            yield turn.move(Action.SLEEP), turn.after(unleased, budget=turn.spent("sleeps"))

    def _joined(self, turn: Turn) -> Process:
        """Return a process with a new lease, which acknowledges nothing before it has read."""
        process = turn.process
        if not self.has(Without.RENEWAL_FORGETS) and process.up:
            return process._replace(leased=True, acknowledged=turn.store.row.generation)
        if not self.has(Without.LEASE_FIRST) and process.get is not None:
            return Process(process.get.row.generation, get=process.get)
        return Process(acknowledged=0)

    # Shredding

    def _shredding(self, turn: Turn) -> Iterator[tuple[Move, State]]:
        shred, store = turn.process.shred, turn.store
        if shred is not None:
            after = self._shred_step(turn, shred)
            if after is not None:
                yield turn.move(Action.SHRED, shred.step.name.lower().replace("_", " ")), after
        elif turn.process.leased:
            oldest_first = self.has(Without.OLDEST_FIRST)
            generation = store.oldest() if oldest_first else store.row.generation
            if generation <= self.scenario.shreds:
                process = turn.process._replace(shred=Shred(generation))
                yield turn.move(Action.BEGIN_SHRED, generation), turn.after(process)

    def _shred_step(self, turn: Turn, shred: Shred) -> State | None:
        """Take the next step of a shred, or return None where it has to wait."""
        match shred.step:
            case Step.MAKE_ROOT_KEY:
                provider = turn.state.provider.made(shred.generation + 1)
                return turn.after(self._passed(turn), provider=provider)
            case Step.RECORD_EPOCH_KEY:
                return self._epoch_key_recorded(turn, shred)
            case Step.RESEAL:
                return self._resealed(turn, shred.generation)
            case Step.READ_BACK | Step.BACKUP:
                return self._read_back(turn, shred.step)
            case Step.AWAIT_LEASES:
                return None if self._waits(turn, shred) else turn.after(self._passed(turn))
            case Step.DESTROY:
                provider = turn.state.provider
                if self.has(Without.DESTRUCTION):
                    provider = provider.without(shred.generation)
                return turn.after(self._passed(turn), provider=provider)
            case Step.TRY:
                return self._tried(turn, shred.generation)
            case Step.CERTIFY:
                return self._certified(turn, shred)

    def _passed(self, turn: Turn, **changes: object) -> Process:
        """Return the process with its shred one step further."""
        shred = turn.process.shred
        assert shred is not None
        order = _ORDER if self.has(Without.RESEAL_FIRST) else _DESTROYING_FIRST
        following = order[order.index(shred.step) + 1]
        return turn.process._replace(shred=shred._replace(step=following, **changes))

    def _epoch_key_recorded(self, turn: Turn, shred: Shred) -> State:
        generations, made = turn.store.generations, turn.state.made
        recorded = shred.generation < len(generations)
        if recorded and self.has(Without.RECORD_ONCE):
            return turn.after(self._passed(turn))
        root_key = Key(KeyKind.ROOT, shred.generation + 1)
        wrapped = Sealed(root_key, (Key(KeyKind.EPOCH, made),))
        row = Generation(GenerationState.PRESENT, wrapped)
        store = turn.store._replace(generations=replaced(generations, shred.generation, row))
        return turn.after(self._passed(turn), store, made=made + 1)

    def _resealed(self, turn: Turn, generation: int) -> State:
        """Seal the root node under the next epoch key, in one transaction that reads anew."""
        store, provider = turn.store, turn.state.provider
        if store.row.generation != generation:
            return turn.after(self._passed(turn))
        tree = fresh_reading(store, provider)
        epoch_key = unwrap(store, provider, generation + 1)
        if tree is None or epoch_key is None:
            return turn.after(turn.process._replace(shred=None))
        raised = 0 if self.has(Without.RESEAL_KEEPS_SEQUENCE) else 1
        store = store._replace(
            row=Row(generation + 1, store.row.sequence + raised, store.row.next_slot),
            root=Sealed(epoch_key if self.has(Without.RESEAL_SOUND) else _NOBODYS, tree.root),
        )
        return turn.after(
            self._passed(turn), store.with_generation(generation, GenerationState.CLOSED)
        )

    def _read_back(self, turn: Turn, step: Step) -> State:
        """Read every survivor as a new process would; a copy restored elsewhere reads the same."""
        looks = self.has(Without.READ_BACK if step is Step.READ_BACK else Without.BACKUP)
        tree = fresh_reading(turn.store, turn.state.provider)
        if looks and not survivors_readable(turn.store, tree):
            return turn.after(turn.process._replace(shred=None))
        return turn.after(self._passed(turn))

    def _waits(self, turn: Turn, shred: Shred) -> bool:
        """Tell whether a live lease names an older generation than the one that is to stay."""
        awaited = turn.state.processes if self.has(Without.LEASE_WAIT) else (turn.process,)
        return any(other.leased and other.acknowledged <= shred.generation for other in awaited)

    def _tried(self, turn: Turn, generation: int) -> State | None:
        """List what can be certified once the old root key opens nothing."""
        opened = unwrap(turn.store, turn.state.provider, generation) is not None
        if opened and self.has(Without.TRY):
            return None
        listed = tuple(
            number
            for number, record in enumerate(turn.store.records)
            if record.erased and not record.certificates
            if record.erased <= generation or not self.has(Without.ERASED_BOUND)
        )
        return turn.after(self._passed(turn, listed=listed))

    def _certified(self, turn: Turn, shred: Shred) -> State:
        """Certify one record in one transaction, or mark the generation when none is left."""
        store, process = turn.store, turn.process
        if not shred.listed:
            store = store.with_generation(shred.generation, GenerationState.DESTROYED)
            return turn.after(process._replace(shred=None), store)
        number, *rest = shred.listed
        record = store.records[number]
        if not (record.certificates and self.has(Without.CERTIFY_ONCE)):
            record = record._replace(certificates=record.certificates + 1)
            store = store._replace(records=replaced(store.records, number, record))
        return turn.after(process._replace(shred=shred._replace(listed=tuple(rest))), store)


@lru_cache(_REMEMBERED)
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
        trace: the shortest way to the damage that was searched for, else to the first.
    """

    states: int
    depth: int
    complete: bool
    counts: Counter[Damage]
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
    model: Model,
    *,
    until: Damage | None = None,
    beyond: frozenset[Damage] = frozenset(),
    most_states: int | None = None,
) -> Exploration:
    """Search breadth first through every interleaving within the model's scenario.

    Args:
        model: what to explore.
        until: stop at the first state with this damage.
        beyond: go on from states with this damage. From a state that is only stuck the search
            always goes on, since worse may follow.
        most_states: stop, incomplete, when so many are known.
    """
    collecting = gc.isenabled()
    gc.disable()  # States refer to no state that refers back, and there are very many.
    try:
        return _explore(model, until, beyond | {Damage.STUCK}, most_states)
    finally:
        if collecting:
            gc.enable()


def _explore(
    model: Model, until: Damage | None, beyond: frozenset[Damage], most_states: int | None
) -> Exploration:
    known = {canonical(model.initial())}
    waiting = deque([_Path(model.initial(), 0, None, None)])
    counts: Counter[Damage] = Counter()
    worst: _Path | None = None
    path = waiting[0]
    while waiting and (most_states is None or len(known) < most_states):
        path = waiting.popleft()
        damage = model.damage(path.state)
        if damage is not None:
            counts[damage] += 1
            worst = worst or path
            if damage is until:
                worst = path
                break
            if damage not in beyond:
                continue
        for move, after in model.moves(path.state):
            name = canonical(after)
            if name not in known:
                known.add(name)
                waiting.append(_Path(after, path.depth + 1, move, path))
    return Exploration(len(known), path.depth, not waiting, counts, worst.trace() if worst else ())
