"""fsck: recomputes the whole ledger from its entries and compares everything else with that.

The entries are the truth; positions, tiles, head and checkpoints are derived. It shares no code
with the integrator and the proof makers beyond the two hash functions of RFC 6962, so it is also
the tests' oracle. Memory stays flat: bundles are read one after another. It grows with what waits.

    1 bundles      each parses, each entry parses, none but the last is partial
    2 positions    each entry is found under its pointer, and none is that has no entry
    3 sequence     versions, erasures, certificates and shreds follow each other as they may
                   (ledger/sequence.py)
    4 tiles        each level recomputed; none missing, none left over
    5 head         its size and root are those of the entries
    6 checkpoints  each is signed by every key that the log had for its size, and its root is that
                   of the entries; likewise the closing checkpoint of each retired key
    7 pending      each entry that waits parses
    8 signer       what it remembers signing last is reproduced
    9 governance   each entry is valid by the rules (ledger/governance.py) in the state that those
                   before it made, also each that waits; the stored state is the one they all make.
                   Behind a governance entry that is not valid no rule is checked: which state goes
                   on there is not known

Of a log that was pruned, the prune entry and what was kept are checked first (ledger/pruning.py).
Then what is left is recomputed: the tree from the hashes above what is gone, for which the roots of
head and checkpoints vouch, and the rules from the stored state at the minimum index. What an entry
would be held against that is gone is not asked for.

Tested in tests/ledger/test_fsck.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ledger.entry import CORE_GROUP, ERASURES, Entry, EntryKind, parse_entry
from ledger.errors import BadSignature, LedgerError, Malformed, NotValid, UnknownLeaf
from ledger.fault import Fault
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.log import Head, Log
from ledger.logkeys import LogKeys
from ledger.merkle import EMPTY_ROOT, HASH_SIZE, leaf_hash, node_hash
from ledger.note import Note
from ledger.pruning import faults as pruning_faults
from ledger.pruning import stored_state
from ledger.sequence import certificate_fault, record_fault, shred_fault
from ledger.signer import SignerMemory
from ledger.tiles import TILE_WIDTH, parse_bundle

_OF_RECORDS = frozenset({EntryKind.VERSION, *ERASURES})
"""Kinds that say what became of a field group."""
_AFTER_OTHERS = _OF_RECORDS | {EntryKind.CERTIFICATE}
"""Kinds that follow others about the same field group."""
_BY_CORE = frozenset({EntryKind.VERSION, EntryKind.ERASURE})
"""Kinds that the rules hold against the core of their record."""


class Fsck:
    """One check of the ledger, in one snapshot.

    Args:
        log: on a connection with a read transaction open.
        memory: of the signer, with the public keys that must have signed the checkpoints.
    """

    def __init__(self, log: Log, memory: SignerMemory) -> None:
        self._log = log
        self._memory = memory
        self._connection = log.connection
        self._tree = _Recomputed()
        self._origin = ""
        # Of a pruned log, its minimum index; what lies below that is not judged by the rules.
        self._minimum = 0
        # What the entries so far make of it; None behind one that the rules do not allow.
        self._governance: GovernanceState | None = GovernanceState()
        # How many entries of each kind were read so far.
        self.counts = dict.fromkeys(EntryKind, 0)

    def run(self) -> Iterator[Fault]:
        """Yield what is wrong."""
        head = self._log.head()
        self._origin = head.origin
        yield from pruning_faults(self._log)
        try:
            self._begin()
        except (Malformed, UnknownLeaf) as error:
            yield Fault("pruning", f"what is left cannot be gone on from: {error}")
            return
        keys = self._log_keys()
        if isinstance(keys, Fault):
            yield keys
            return  # A register that cannot be read vouches for nothing.
        closings = {one.closing for one in keys.keys if one.closing is not None}
        roots_wanted = {size for size, _ in self._log.checkpoints()}
        roots_wanted |= {closing.size for closing in closings}
        roots = {0: EMPTY_ROOT, self._tree.size: self._tree.root()}
        for entries in self._bundles(head):
            if isinstance(entries, Fault):
                yield entries
                return  # Everything that follows is derived from the entries.
            for data in entries:
                yield from self._entry(self._tree.size, data)
                self._tree.append(leaf_hash(data))
                if self._tree.size in roots_wanted:
                    roots[self._tree.size] = self._tree.root()
        yield from self._derived(head)
        yield from self._checkpoints(head, roots, keys)
        for closing in closings:
            if not self._agrees(roots, closing.size, closing.root):
                yield Fault("log keys", f"closed at another tree of {closing.size} leaves")
        yield from self._pending(head)
        yield from self._signer(head)
        yield from self._stored_governance()

    def _begin(self) -> None:
        """Go on from what a pruned log has left, if this is one."""
        pruned = self._log.pruned_to()
        if pruned is not None:
            self._minimum = pruned[0]
            self._governance = stored_state(self._connection)
            self._tree = _Recomputed.above(self._log)

    def _agrees(self, roots: dict[int, bytes], size: int, root: bytes) -> bool:
        """Tell whether a stated root is that of the entries, as far as they are there."""
        return roots.get(size) == root or size < self._minimum

    def _bundles(self, head: Head) -> Iterator[list[bytes] | Fault]:
        rows = self._connection.exec_driver_sql(
            "SELECT number, entries FROM ledger_bundle ORDER BY number"
        )
        expected = self._tree.size // TILE_WIDTH
        for number, raw in rows:
            where = f"entry bundle {expected}"
            if number != expected:
                yield Fault(where, "is missing")
                return
            try:
                entries = parse_bundle(bytes(raw))
            except Malformed as error:
                yield Fault(where, str(error))
                return
            left = head.size - number * TILE_WIDTH
            if len(entries) != min(left, TILE_WIDTH):
                yield Fault(where, f"holds {len(entries)} entries, the head says {left} are left")
                return
            expected += 1
            yield entries
        if expected * TILE_WIDTH < head.size:
            yield Fault(f"entry bundle {expected}", "is missing")

    def _entry(self, leaf: int, data: bytes) -> Iterator[Fault]:
        where = f"entry {leaf}"
        try:
            entry = parse_entry(data)
        except Malformed as error:
            yield Fault(where, str(error))
            return
        self.counts[entry.kind] += 1
        leaves = self._log.leaves_of(entry.pointer)
        if leaf not in leaves:
            yield Fault(where, "is not found under its pointer")
            return
        earlier = leaves[: leaves.index(leaf)]
        try:
            state = self._state(entry, earlier, entry.group) if earlier else None
            core = state
            if earlier and entry.group != CORE_GROUP:
                core = self._state(entry, earlier, CORE_GROUP)
            wrong = self._sequence(entry, earlier, state) or self._judged(entry, leaf, core)
        except LedgerError:
            return  # Named already: as an entry, or among the positions.
        if wrong is not None:
            yield Fault(where, wrong)

    def _sequence(self, entry: Entry, earlier: list[int], state: Entry | None) -> str | None:
        """Return what is wrong about the place of an entry among those of the same pointer."""
        if state is None and self._minimum and entry.kind in _AFTER_OTHERS:
            return None  # What it follows may be gone.
        if entry.kind in _OF_RECORDS:
            return record_fault(entry, state)
        if entry.kind is EntryKind.GOVERNANCE:
            return None
        last = self._last(earlier, entry.group, frozenset({entry.kind}))
        number = 0 if last is None else last.version
        if entry.kind is EntryKind.CERTIFICATE:
            return certificate_fault(entry, state, number)
        return shred_fault(entry, number)

    def _judged(self, entry: Entry, index: int, core: Entry | None) -> str | None:
        """Return why the rules do not allow an entry behind those that were judged so far."""
        if self._governance is None or index < self._minimum:
            return None
        if self._minimum and core is None and entry.kind in _BY_CORE and not _is_first(entry):
            return None  # Its record is older than what is left.
        try:
            self._governance = judge(self._origin, self._governance, entry, index, core)
        except NotValid as error:
            if entry.kind is EntryKind.GOVERNANCE:
                self._governance = None
            return str(error)
        return None

    def _state(self, entry: Entry, earlier: list[int], group: int) -> Entry | None:
        """Return the newest version or erasure of a group, for an entry that speaks of a record."""
        if entry.kind in (EntryKind.GOVERNANCE, EntryKind.SHRED):
            return None
        return self._last(earlier, group, _OF_RECORDS)

    def _last(self, earlier: list[int], group: int, kinds: frozenset[EntryKind]) -> Entry | None:
        """Return the newest of earlier entries that is of these kinds and this group or tree."""
        for leaf in reversed(earlier):
            found = parse_entry(self._log.entry(leaf))
            if found.kind in kinds and found.group == group:
                return found
        return None

    def _derived(self, head: Head) -> Iterator[Fault]:
        first = self._log.first_leaf()
        found = self._connection.exec_driver_sql(
            "SELECT count(*) FROM ledger_position WHERE leaf >= ? OR leaf < 0", (first,)
        ).scalar_one()
        if found != self._tree.size - first:
            yield Fault("positions", f"there are {found} for {self._tree.size - first} entries")
        expected = dict(self._tree.finished())
        for level, number, hashes in self._connection.exec_driver_sql(
            "SELECT level, number, hashes FROM ledger_tile"
        ):
            if expected.pop((level, number), None) != _digest(bytes(hashes)):
                yield Fault(f"tile {number} at level {level}", "is not that of the entries")
        for level, number in expected:
            yield Fault(f"tile {number} at level {level}", "is missing")
        if head.root != self._tree.root() or head.size != self._tree.size:
            yield Fault("ledger head", "is not that of the entries")

    def _log_keys(self) -> LogKeys | Fault:
        try:
            return self._memory.keys
        except LedgerError as error:
            return Fault("log keys", str(error))

    def _checkpoints(self, head: Head, roots: dict[int, bytes], keys: LogKeys) -> Iterator[Fault]:
        for size, text in self._log.checkpoints():
            where = f"checkpoint of {size} leaves"
            try:
                note = Note.parse(text.encode())
                signed = keys.verify(note)
            except (Malformed, BadSignature) as error:
                yield Fault(where, str(error))
                continue
            if (signed.origin, signed.size) != (head.origin, size) or not self._agrees(
                roots, size, signed.root
            ):
                yield Fault(where, "does not state the tree of the entries")

    def _pending(self, head: Head) -> Iterator[Fault]:
        cores: dict[bytes, Entry] = {}
        for place, (number, data) in enumerate(
            self._connection.exec_driver_sql("SELECT id, entry FROM ledger_pending ORDER BY id"),
            head.size,
        ):
            where = f"pending entry {number}"
            try:
                entry = parse_entry(bytes(data))
            except Malformed as error:
                yield Fault(where, str(error))
                continue
            wrong = self._judged_pending(entry, place, cores)
            if wrong is not None:
                yield Fault(where, wrong)

    def _judged_pending(self, entry: Entry, place: int, cores: dict[bytes, Entry]) -> str | None:
        try:
            leaves = self._log.leaves_of(entry.pointer)
            core = cores.get(entry.pointer) or self._state(entry, leaves, CORE_GROUP)
        except LedgerError:
            return None  # Named already: as an entry, or among the positions.
        if entry.group == CORE_GROUP and entry.kind in _OF_RECORDS:
            cores[entry.pointer] = entry
        return self._judged(entry, place, core)

    def _stored_governance(self) -> Iterator[Fault]:
        if self._governance is None:
            return
        rows = self._connection.exec_driver_sql(
            "SELECT state, stopped FROM ledger_governance"
        ).all()
        found = (
            (bytes(rows[0][0]), bool(rows[0][1])) if rows else (GovernanceState().encode(), False)
        )
        if found != (self._governance.encode(), self._governance.stopped) or len(rows) > 1:
            yield Fault("governance", "the stored state is not that of the entries")

    def _signer(self, head: Head) -> Iterator[Fault]:
        try:
            self._memory.check(self._log, head)
        except LedgerError as error:
            yield Fault("signer", str(error))


def _is_first(entry: Entry) -> bool:
    return (entry.kind, entry.group, entry.version) == (EntryKind.VERSION, CORE_GROUP, 1)


class _Recomputed:
    """The tree over the leaf hashes appended so far, straight from RFC 6962's definition.

    Full tiles are kept as digests: only the last, partial tile of each level is held whole.
    """

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = [[]]
        self._full: dict[tuple[int, int], bytes] = {}
        self._counts: list[int] = [0]

    @classmethod
    def above(cls, log: Log) -> _Recomputed:
        """Return the tree below the first leaf of a pruned log, from the hashes left of it.

        Raises:
            UnknownLeaf, Malformed: one is missing.
        """
        tree = cls()
        tree.size = count = log.first_leaf()
        level = 0
        while count:
            number, width = divmod(count, TILE_WIDTH)
            hashes = log.tile(level, number)[: width * HASH_SIZE] if width else b""
            if len(hashes) != width * HASH_SIZE:
                raise Malformed(f"tile {number} at level {level} is too narrow")
            tree._levels[level:] = [
                [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]
            ]
            tree._counts[level:] = [number]
            level, count = level + 1, count // TILE_WIDTH
        return tree

    def append(self, leaf: bytes) -> None:
        self.size += 1
        self._push(0, leaf)

    def root(self) -> bytes:
        """Return the root of all leaves: each level's open tile, then what lies above it."""
        right: bytes | None = None
        for tile in self._levels:
            hashes = tile if right is None else [*tile, right]
            right = _mth(hashes) if hashes else None
        return EMPTY_ROOT if right is None else right

    def finished(self) -> Iterator[tuple[tuple[int, int], bytes]]:
        """Yield each tile's place and the digest of its bytes."""
        yield from self._full.items()
        for level, tile in enumerate(self._levels):
            if tile:
                yield (level, self._counts[level]), _digest(b"".join(tile))

    def _push(self, level: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._counts.append(0)
        tile = self._levels[level]
        tile.append(value)
        if len(tile) == TILE_WIDTH:
            self._full[level, self._counts[level]] = _digest(b"".join(tile))
            self._counts[level] += 1
            self._levels[level] = []
            self._push(level + 1, _mth(tile))


def _digest(hashes: bytes) -> bytes:
    return hashlib.sha256(hashes).digest()


def _mth(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 over hashes of equally full subtrees; the last may be smaller."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(_mth(hashes[:split]), _mth(hashes[split:]))
