"""fsck: recomputes the whole ledger from its entries and compares everything else with that.

The entries are the truth; positions, tiles, head and checkpoints are derived. It shares no code
with the integrator and the proof makers beyond the two hash functions of RFC 6962, so it is also
the tests' oracle. Memory stays flat: bundles are read one after another.

    1 bundles      each parses, each entry parses, none but the last is partial
    2 positions    each entry is found under its pointer, and none is that has no entry
    3 sequence     the versions of a record's core count from 1 without a gap, those of its other
                   field groups rise; nothing but certificates, numbered from 1, follows the erasure
                   of a group; the destroyed generations of a key tree rise
    4 tiles        each level recomputed; none missing, none left over
    5 head         its size and root are those of the entries
    6 checkpoints  each is signed by every key that the log had for its size, and its root is that
                   of the entries; likewise the closing checkpoint of each retired key
    7 pending      each entry that waits parses
    8 signer       what it remembers signing last is reproduced

Tested in tests/ledger/test_fsck.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ledger.entry import CORE_GROUP, ERASURES, Entry, EntryKind, parse_entry
from ledger.errors import BadSignature, LedgerError, Malformed
from ledger.fault import Fault
from ledger.log import Head, Log
from ledger.logkeys import LogKeys
from ledger.merkle import EMPTY_ROOT, leaf_hash, node_hash
from ledger.note import Note
from ledger.pointer import format_pointer
from ledger.signer import SignerMemory
from ledger.tiles import TILE_WIDTH, parse_bundle


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
        # How many entries of each kind were read so far.
        self.counts = dict.fromkeys(EntryKind, 0)

    def run(self) -> Iterator[Fault]:
        """Yield what is wrong."""
        head = self._log.head()
        keys = self._log_keys()
        if isinstance(keys, Fault):
            yield keys
            return  # A register that cannot be read vouches for nothing.
        closings = {one.closing for one in keys.keys if one.closing is not None}
        roots_wanted = {size for size, _ in self._log.checkpoints()}
        roots_wanted |= {closing.size for closing in closings}
        roots = {0: EMPTY_ROOT}
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
            if roots.get(closing.size) != closing.root:
                yield Fault("log keys", f"closed at another tree of {closing.size} leaves")
        yield from self._pending()
        yield from self._signer(head)

    def _bundles(self, head: Head) -> Iterator[list[bytes] | Fault]:
        rows = self._connection.exec_driver_sql(
            "SELECT number, entries FROM ledger_bundle ORDER BY number"
        )
        expected = 0
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
        wrong = self._sequence(entry, leaves[: leaves.index(leaf)])
        if wrong is not None:
            yield Fault(where, wrong)

    def _sequence(self, entry: Entry, before: list[int]) -> str | None:
        """Return what is wrong about an entry after those of the same pointer before it."""
        name = format_pointer(entry.pointer)
        try:
            if entry.kind is EntryKind.SHRED:
                return _shred_sequence(name, entry, self._last(entry, before, EntryKind.SHRED))
            state = self._last(entry, before, EntryKind.VERSION, *ERASURES)
            if entry.kind is EntryKind.CERTIFICATE:
                issued = self._last(entry, before, EntryKind.CERTIFICATE)
                return _certificate_sequence(_group_name(name, entry), entry, state, issued)
            return _record_sequence(_group_name(name, entry), entry, state)
        except LedgerError:
            return None  # Named already: as an entry, or among the positions.

    def _last(self, entry: Entry, before: list[int], *kinds: EntryKind) -> Entry | None:
        """Return the newest earlier entry of these kinds about the same group or tree."""
        for leaf in reversed(before):
            found = parse_entry(self._log.entry(leaf))
            if found.kind in kinds and found.group == entry.group:
                return found
        return None

    def _derived(self, head: Head) -> Iterator[Fault]:
        found = self._connection.exec_driver_sql(
            "SELECT count(*) FROM ledger_position"
        ).scalar_one()
        if found != self._tree.size:
            yield Fault("positions", f"there are {found} for {self._tree.size} entries")
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
            if (signed.origin, signed.size, signed.root) != (head.origin, size, roots.get(size)):
                yield Fault(where, "does not state the tree of the entries")

    def _pending(self) -> Iterator[Fault]:
        for number, data in self._connection.exec_driver_sql(
            "SELECT id, entry FROM ledger_pending ORDER BY id"
        ):
            try:
                parse_entry(bytes(data))
            except Malformed as error:
                yield Fault(f"pending entry {number}", str(error))

    def _signer(self, head: Head) -> Iterator[Fault]:
        try:
            self._memory.check(self._log, head)
        except LedgerError as error:
            yield Fault("signer", str(error))


def _group_name(name: str, entry: Entry) -> str:
    core = entry.group == CORE_GROUP
    return f"record {name}" if core else f"group {entry.group} of record {name}"


def _record_sequence(name: str, entry: Entry, before: Entry | None) -> str | None:
    """Judge a version or an erasure by the one before it in its group.

    The core has every version of its record. Another group has those in which it changed, and its
    erasure may name a later version of the record.
    """
    if before is not None and before.kind in ERASURES:
        return f"follows the erasure of {name}"
    if before is None and entry.kind in ERASURES:
        return f"is the erasure of {name}, of which there is no version"
    least = 1 if before is None else before.version + (entry.kind is EntryKind.VERSION)
    if entry.group == CORE_GROUP and entry.version != least:
        return f"says version {entry.version} of {name}, not {least}"
    if entry.version < least:
        return f"says version {entry.version} of {name}, not {least} or later"
    return None


def _certificate_sequence(
    name: str, entry: Entry, state: Entry | None, issued: Entry | None
) -> str | None:
    if state is None or state.kind not in ERASURES:
        return f"is a certificate of {name}, which was not erased"
    expected = 1 if issued is None else issued.version + 1
    if entry.version != expected:
        return f"is certificate {entry.version} of {name}, not {expected}"
    return None


def _shred_sequence(name: str, entry: Entry, before: Entry | None) -> str | None:
    if before is not None and entry.version <= before.version:
        return f"destroys generation {entry.version} of tenant {name} after {before.version}"
    return None


class _Recomputed:
    """The tree over the leaf hashes appended so far, straight from RFC 6962's definition.

    Full tiles are kept as digests: only the last, partial tile of each level is held whole.
    """

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = [[]]
        self._full: dict[tuple[int, int], bytes] = {}
        self._counts: list[int] = [0]

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
