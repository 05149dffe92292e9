"""Pruning: what lies below a minimum index ages out, and nothing living loses its evidence (LG8).

The rules (ledger/governance.py) decide whether a prune entry is valid. Here it is carried out,
along C2SP tlog-tiles "Pruning": entry bundles and full tiles go whose end index is at or below the
minimum, so that every entry, root and proof from the minimum on can still be had. A bundle that the
minimum divides stays whole. In one transaction, which the caller commits:

    1 check    the entry is a leaf of a signed checkpoint, the rules allow it, and the state of
               governance at the minimum has the digest that the entry states. That state is stored:
               `ledger_prune`, one row, of the newest prune
    2 keep     each entry below the minimum that something living needs is stored with its audit
               path to a signed checkpoint at or above the minimum, and checked against the root of
               that: `ledger_kept`. An entry that an earlier prune kept gets a newer proof, made
               from the one that it has, or goes where nothing needs it any more
    3 remove   bundles and tiles, and the positions of entries that are gone
    4 prove    what is left gives the roots of the signed checkpoint and of the head

A crash leaves all or nothing. Entries are read bundle by bundle, so memory does not grow with them.

`faults` holds what is stored against each other: that the state has the digest in the prune entry,
that members approved that entry, that each kept entry is proven, and that no position speaks of an
entry that is gone. Tested in tests/ledger/test_pruning.py.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.action import Prune
from ledger.approval import parse_body
from ledger.checkpoint import Checkpoint
from ledger.driver import run, run_many
from ledger.entry import GOVERNANCE_POINTER, Entry, EntryKind, parse_entry
from ledger.errors import BadProof, Forked, LedgerError, Malformed, NotValid
from ledger.fault import Fault
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.governing import is_stopped
from ledger.log import KeptEntry, Log
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.note import Note
from ledger.tilecache import TileCache
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH

# Expanded tiles while proofs are made in the order of the leaves: 4 MB.
_TILES = 256
_PAGE = 1_000

Needed = Callable[[int, Entry], bool]
"""(leaf, entry) to whether something living needs it."""


@dataclass(frozen=True, slots=True)
class EnactedPrune:
    """A prune entry that is a leaf.

    Attributes:
        leaf: its index.
        action: what it says.
    """

    leaf: int
    action: Prune


@dataclass(frozen=True, slots=True)
class Going:
    """What a prune removes.

    Attributes:
        entries: that are there, in whole bundles, those to be kept among them.
        bundles: of entries.
        tiles: of hashes.
        size: of bundles and tiles, bytes.
    """

    entries: int
    bundles: int
    tiles: int
    size: int


def enacted(log: Log) -> EnactedPrune | None:
    """Return the newest prune entry that is a leaf and was not carried out, or None."""
    pruned = log.pruned_to()
    done = -1 if pruned is None else pruned[1]
    for leaf in reversed(log.leaves_of(GOVERNANCE_POINTER)):
        if leaf <= done:
            return None
        action = _prune_in(parse_entry(log.entry(leaf)))
        if action is not None:
            return EnactedPrune(leaf, action)
    return None


def stored_state(connection: Connection) -> GovernanceState:
    """Return the state of governance at the minimum index, from which replaying goes on.

    Raises:
        Malformed: what is stored is none.
    """
    row = run(connection, "SELECT state FROM ledger_prune").fetchone()
    return GovernanceState() if row is None else GovernanceState.parse(bytes(row[0]))


def state_at(log: Log, index: int) -> GovernanceState:
    """Return the state of governance for the leaf at an index, worked out from the entries.

    Args:
        log: to be read.
        index: the minimum index or more, at most the number of leaves.

    Raises:
        NotValid: an entry that the rules do not allow.
        Malformed: a stored state, or an entry, that is none.
        Pruned: the index is below the minimum, and the state is not there.
    """
    start, state = log.minimum(), stored_state(log.connection)
    origin = log.head().origin
    for leaf in log.leaves_of(GOVERNANCE_POINTER):
        if start <= leaf < index:
            state = judge(origin, state, parse_entry(log.entry(leaf)), leaf, None)
    return state


def measure(log: Log, minimum: int) -> Going:
    """Return what a prune to a minimum index would remove."""
    bundles, entries_size = run(
        log.connection,
        "SELECT count(*), coalesce(sum(length(entries)), 0) FROM ledger_bundle WHERE number < ?",
        (minimum >> TILE_HEIGHT,),
    ).fetchone()
    tiles, tiles_size = 0, 0
    for level, end in _ends(minimum):
        count, size = run(
            log.connection,
            "SELECT count(*), coalesce(sum(length(hashes)), 0) FROM ledger_tile"
            " WHERE level = ? AND number < ?",
            (level, end),
        ).fetchone()
        tiles, tiles_size = tiles + count, tiles_size + size
    return Going(bundles * TILE_WIDTH, bundles, tiles, entries_size + tiles_size)


def candidates(log: Log, minimum: int) -> Iterator[tuple[int, Entry]]:
    """Yield each entry below a minimum index that is there, with its leaf, the lowest first.

    Those that an earlier prune kept are among them. Bundles are read one by one.
    """
    start = log.minimum()
    for kept in _kept(log.connection):
        yield kept.leaf, parse_entry(kept.entry)
    for first, entries in _bundles(log, start, minimum):
        for place, data in enumerate(entries):
            yield first + place, parse_entry(data)


def carry_out(
    log: Log, prune: EnactedPrune, proven: Checkpoint, signed: Checkpoint, needed: Needed, now: int
) -> int:
    """Carry out a prune; the caller holds the writer lock and commits, or rolls back on an error.

    Args:
        log: on a connection with a transaction open; without a cache.
        prune: what was enacted.
        proven: to which the proofs of kept entries lead: the signed checkpoint, at or above the
            minimum, for which most can be shown.
        signed: a newer signed checkpoint that has the prune entry.
        needed: tells which entries to keep.
        now: Unix seconds, UTC.

    Returns:
        How many entries below the minimum are kept.

    Raises:
        NotValid: the rules do not allow the entry, or the ledger is stopped.
        Forked: the stored tiles do not lead to the signed checkpoints.
        BadProof: a stored entry is not in the tree.
    """
    # 1
    state = _checked(log, prune, signed)
    minimum = prune.action.minimum
    if not minimum <= proven.size <= signed.size:
        raise ValueError(f"proofs to {proven.size} leaves where {minimum} are the fewest")
    # 2
    _keep(log, minimum, proven, needed)
    # 3
    _remove(log.connection, minimum)
    run(log.connection, "DELETE FROM ledger_prune")
    run(
        log.connection,
        "INSERT INTO ledger_prune (minimum, leaf, state, pruned_at) VALUES (?, ?, ?, ?)",
        (minimum, prune.leaf, state.encode(), now),
    )
    # 4
    head = log.head()
    for one in (proven, signed, head.checkpoint()):
        if not hmac.compare_digest(log.root(one.size), one.root):
            raise Forked(one.size)
    (kept,) = run(log.connection, "SELECT count(*) FROM ledger_kept").fetchone()
    return int(kept)


def faults(log: Log) -> Iterator[Fault]:
    """Yield what is wrong with what a prune left; nothing for a log with all its entries.

    The signatures of the checkpoints, and the tree above the minimum, are checked elsewhere.
    """
    pruned = log.pruned_to()
    if pruned is None:
        (kept,) = run(log.connection, "SELECT count(*) FROM ledger_kept").fetchone()
        if kept:
            yield Fault("pruning", f"{kept} entries are kept, and nothing was pruned")
        return
    minimum, leaf = pruned
    yield from _decision_faults(log, minimum, leaf)
    roots: dict[int, bytes] = {}
    for kept_entry in _kept(log.connection):
        wrong = _kept_fault(log, minimum, kept_entry, roots)
        if wrong is not None:
            yield Fault(f"kept entry {kept_entry.leaf}", wrong)
    (stray,) = run(
        log.connection,
        "SELECT count(*) FROM ledger_position WHERE leaf < ?"
        " AND leaf NOT IN (SELECT leaf FROM ledger_kept)",
        (log.first_leaf(),),
    ).fetchone()
    if stray:
        yield Fault("positions", f"{stray} speak of entries that were pruned")


def _prune_in(entry: Entry) -> Prune | None:
    if entry.kind is not EntryKind.GOVERNANCE:
        return None
    action, _ = parse_body(entry.group, entry.body)
    return action if isinstance(action, Prune) else None


def _checked(log: Log, prune: EnactedPrune, signed: Checkpoint) -> GovernanceState:
    """Return the state at the minimum, having checked that the prune may be carried out."""
    if is_stopped(log.connection):
        raise NotValid("the ledger is stopped: resume it before it is pruned")
    if prune.leaf >= signed.size:
        raise NotValid(f"entry {prune.leaf} is in no signed checkpoint yet")
    entry = parse_entry(log.entry(prune.leaf))
    if _prune_in(entry) != prune.action:
        raise NotValid(f"entry {prune.leaf} is another than the one to be carried out")
    judge(log.head().origin, state_at(log, prune.leaf), entry, prune.leaf, None)
    state = state_at(log, prune.action.minimum)
    if not hmac.compare_digest(state.digest(), prune.action.state):
        raise NotValid(f"entry {prune.leaf} states another governance than there was")
    return state


def _keep(log: Log, minimum: int, proven: Checkpoint, needed: Needed) -> None:
    connection = log.connection
    start = log.minimum()
    tiles = Log(connection, TileCache(_TILES))
    for kept in _kept(connection):
        if needed(kept.leaf, parse_entry(kept.entry)):
            path = _proof(tiles, kept.leaf, kept.entry, proven)
            run(
                connection,
                "UPDATE ledger_kept SET size = ?, path = ? WHERE leaf = ?",
                (proven.size, path, kept.leaf),
            )
        else:
            run(connection, "DELETE FROM ledger_kept WHERE leaf = ?", (kept.leaf,))
    for first, entries in _bundles(log, start, minimum):
        rows: list[tuple[object, ...]] = [
            (leaf, data, proven.size, _proof(tiles, leaf, data, proven))
            for leaf, data in enumerate(entries, first)
            if needed(leaf, parse_entry(data))
        ]
        run_many(
            connection,
            "INSERT INTO ledger_kept (leaf, entry, size, path) VALUES (?, ?, ?, ?)",
            rows,
        )


def _proof(log: Log, leaf: int, entry: bytes, proven: Checkpoint) -> bytes:
    path = log.inclusion_proof(leaf, proven.size)
    verify_inclusion(leaf_hash(entry), leaf, proven.size, path, proven.root)
    return b"".join(path)


def _remove(connection: Connection, minimum: int) -> None:
    run(connection, "DELETE FROM ledger_bundle WHERE number < ?", (minimum >> TILE_HEIGHT,))
    for level, end in _ends(minimum):
        run(connection, "DELETE FROM ledger_tile WHERE level = ? AND number < ?", (level, end))
    run(
        connection,
        "DELETE FROM ledger_position WHERE leaf < ? AND leaf NOT IN (SELECT leaf FROM ledger_kept)",
        (minimum // TILE_WIDTH * TILE_WIDTH,),
    )


def _ends(minimum: int) -> Iterator[tuple[int, int]]:
    """Yield each level, and the number of its first tile that ends above the minimum."""
    level = 0
    while end := minimum >> TILE_HEIGHT * (level + 1):
        yield level, end
        level += 1


def _bundles(log: Log, start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (first leaf, entries) of each bundle in [start, end), cut to that."""
    leaf = start
    while leaf < end:
        number, place = divmod(leaf, TILE_WIDTH)
        entries = log.bundle(number)[place : place + end - leaf]
        yield leaf, entries
        leaf += TILE_WIDTH - place


def _kept(connection: Connection) -> Iterator[KeptEntry]:
    """Yield what is kept, in pages, so that rows may go meanwhile."""
    last = -1
    while rows := run(
        connection,
        "SELECT leaf, entry, size, path FROM ledger_kept WHERE leaf > ? ORDER BY leaf LIMIT ?",
        (last, _PAGE),
    ).fetchall():
        for row in rows:
            yield KeptEntry.of_row(*row)
        last = rows[-1][0]


def _decision_faults(log: Log, minimum: int, leaf: int) -> Iterator[Fault]:
    where = f"prune to {minimum}"
    try:
        entry = parse_entry(log.entry(leaf))
        action = _prune_in(entry)
        if action is None or action.minimum != minimum:
            yield Fault(where, f"entry {leaf} does not say that")
            return
        if not hmac.compare_digest(stored_state(log.connection).digest(), action.state):
            yield Fault(where, f"the stored governance is not the one that entry {leaf} states")
            return
        judge(log.head().origin, state_at(log, leaf), entry, leaf, None)
    except Malformed as error:
        yield Fault(where, str(error))
    except NotValid as error:
        yield Fault(where, f"entry {leaf} or one before it {error}")
    except LedgerError as error:
        yield Fault(where, f"its entry is not there: {error}")


def _kept_fault(log: Log, minimum: int, kept: KeptEntry, roots: dict[int, bytes]) -> str | None:
    """Return what is wrong with a kept entry; roots of stored checkpoints are remembered."""
    try:
        entry = parse_entry(kept.entry)
        if kept.size not in roots:
            roots[kept.size] = _stated_root(log, kept.size)
        verify_inclusion(leaf_hash(kept.entry), kept.leaf, kept.size, kept.path, roots[kept.size])
    except (Malformed, BadProof) as error:
        return str(error)
    if not kept.leaf < minimum <= kept.size:
        return f"is not below the minimum index {minimum}, or its proof is to a smaller tree"
    if kept.leaf not in log.leaves_of(entry.pointer):
        return "is not found under its pointer"
    return None


def _stated_root(log: Log, size: int) -> bytes:
    row = run(
        log.connection, "SELECT note FROM ledger_checkpoint WHERE size = ?", (size,)
    ).fetchone()
    if row is None:
        raise BadProof(f"there is no checkpoint of {size} leaves")
    return Checkpoint.parse(Note.parse(row[0].encode()).text).root
