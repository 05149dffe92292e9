"""The integrator: turns pending entries into leaves.

It takes the oldest pending entries, permutes them at random, keeping the order of the entries of
one pointer and that around each governance entry, and appends them to bundles, tiles, positions and
head in the caller's transaction. So neighbours in the log say nothing about persons (PR5), and a
crash leaves either all of a batch or none of it. The permutation hides an order only within a
batch: a batch of one hides nothing. Tested in tests/ledger/test_integrator.py.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter, defaultdict

from sqlalchemy import Connection

from ledger import merkle
from ledger.entry import is_governance, pointer_of
from ledger.errors import Forked
from ledger.log import Head, Log
from ledger.tiles import TILE_WIDTH, encode_bundle, extend, hash_reader

BATCH_ENTRIES = 65_536


def integrate(connection: Connection) -> int:
    """Turn up to `BATCH_ENTRIES` pending entries into leaves.

    The caller holds the writer lock and commits; it calls again until fewer than `BATCH_ENTRIES`
    are returned.

    Returns:
        How many leaves were appended.
    """
    rows = connection.exec_driver_sql(
        "SELECT id, entry FROM ledger_pending ORDER BY id LIMIT ?", (BATCH_ENTRIES,)
    ).all()
    if not rows:
        return 0
    entries = permuted([bytes(row[1]) for row in rows])
    append_leaves(connection, entries)
    connection.exec_driver_sql("DELETE FROM ledger_pending WHERE id <= ?", (rows[-1][0],))
    return len(entries)


def append_leaves(connection: Connection, entries: list[bytes]) -> None:
    """Append entries as leaves, in the order in which they are given.

    This is the one place that writes bundles, tiles, positions and head. The caller holds the
    writer lock and commits.

    Args:
        connection: with a transaction open.
        entries: one or more, not more than `BATCH_ENTRIES`, so that memory stays bounded.

    Raises:
        Forked: the head does not fit the bundles, or moved meanwhile.
    """
    log = Log(connection)
    head = log.head()
    root = _write_tiles(connection, log, head.size, entries)
    _write_bundles(connection, log, head.size, entries)
    connection.exec_driver_sql(
        "INSERT INTO ledger_position (pointer, leaf) VALUES (?, ?)",
        sorted((pointer_of(entry), head.size + n) for n, entry in enumerate(entries)),
    )
    _move_head(connection, head, head.size + len(entries), root)


def permuted(entries: list[bytes]) -> list[bytes]:
    """Return the entries in a random order that keeps the order of each pointer's own.

    Nothing passes a governance entry, so that a stop finds before it what was pending before it,
    and the index of such an entry is known beforehand.
    """
    parts: list[bytes] = []
    start = 0
    for place in [n for n, entry in enumerate(entries) if is_governance(entry)]:
        parts += _shuffled(entries[start:place])
        parts.append(entries[place])
        start = place + 1
    return parts + _shuffled(entries[start:])


def _shuffled(entries: list[bytes]) -> list[bytes]:
    keys = array("Q", os.urandom(8 * len(entries)))
    order = sorted(range(len(entries)), key=keys.__getitem__)
    pointers = [pointer_of(entry) for entry in entries]
    repeated = {pointer for pointer, count in Counter(pointers).items() if count > 1}
    if repeated:
        places: dict[bytes, list[int]] = defaultdict(list)
        for place, original in enumerate(order):
            if pointers[original] in repeated:
                places[pointers[original]].append(place)
        for own_places in places.values():
            originals = sorted(order[place] for place in own_places)
            for place, original in zip(own_places, originals, strict=True):
                order[place] = original
    return [entries[original] for original in order]


def _write_tiles(connection: Connection, log: Log, size: int, entries: list[bytes]) -> bytes:
    leaf_hash = merkle.leaf_hash
    changed = extend(size, [leaf_hash(entry) for entry in entries], log.tile)
    connection.exec_driver_sql(
        "INSERT INTO ledger_tile (level, number, hashes) VALUES (?, ?, ?)"
        " ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
        [(level, number, hashes) for (level, number), hashes in changed.items()],
    )

    def read_tile(level: int, number: int) -> bytes:
        return changed.get((level, number)) or log.tile(level, number)

    return merkle.root(size + len(entries), hash_reader(read_tile))


def _write_bundles(connection: Connection, log: Log, size: int, entries: list[bytes]) -> None:
    first, partial = divmod(size, TILE_WIDTH)
    standing = log.bundle(first) if partial else []
    if len(standing) != partial:
        raise Forked(size)
    waiting = standing + entries
    bundles = [
        (first + start // TILE_WIDTH, encode_bundle(waiting[start : start + TILE_WIDTH]))
        for start in range(0, len(waiting), TILE_WIDTH)
    ]
    connection.exec_driver_sql(
        "INSERT INTO ledger_bundle (number, entries) VALUES (?, ?)"
        " ON CONFLICT (number) DO UPDATE SET entries = excluded.entries",
        bundles,
    )


def _move_head(connection: Connection, head: Head, size: int, root: bytes) -> None:
    moved = connection.exec_driver_sql(
        "UPDATE ledger_head SET size = ?, root = ? WHERE id = 1 AND size = ? AND root = ?",
        (size, root, head.size, head.root),
    )
    if moved.rowcount != 1:
        raise Forked(head.size)
