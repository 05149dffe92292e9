"""Tiles with the hashes between their levels worked out, kept in memory: what makes proofs quick.

A tile says 256 hashes; a proof asks for roots of subtrees inside it. An expanded tile holds them
all, 16 KB: row h is the roots over 2^h neighbouring hashes, one after the other. A tile that is not
full holds the complete subtrees that it has, and is kept apart from its later, wider states. What a
log has once said it never changes, so nothing here grows stale; a tile that was read damaged stays
so until `clear`. Tested in tests/ledger/test_tilecache.py.
"""

from __future__ import annotations

import threading
from hashlib import sha256

from ledger.errors import Malformed
from ledger.merkle import HASH_SIZE, ReadHash
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, ReadTile

# 64 MB when all are in use: every tile of a tree of a million leaves.
CACHED_TILES = 4_096

_NODE_PREFIX = b"\x01"
_Place = tuple[int, int, int]  # tile level, tile number, width in hashes


class TileCache:
    """Expanded tiles of one log, for every size of its tree.

    Args:
        capacity: how many are kept; the oldest goes first.
    """

    def __init__(self, capacity: int = CACHED_TILES) -> None:
        self._capacity = capacity
        self._rows: dict[_Place, list[bytes]] = {}
        self._lock = threading.Lock()

    def reader(self, size: int, read_tile: ReadTile) -> ReadHash:
        """Return a reader of subtree roots of the tree of the first `size` leaves.

        Args:
            size: leaves of a tree that the log has.
            read_tile: asked for tiles that are not kept; may return a wider tile than the size has.

        Returns:
            A `ledger.merkle.ReadHash`; it raises `ValueError` for a subtree beyond the tree, and
            `Malformed` where a stored tile is too narrow.
        """
        rows_of = self._rows

        def read_hash(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, TILE_HEIGHT)
            number, place = divmod(index << height, TILE_WIDTH)
            width = min(TILE_WIDTH, (size >> (TILE_HEIGHT * tile_level)) - number * TILE_WIDTH)
            if place + (1 << height) > width:
                raise ValueError(f"no complete subtree at level {level}, index {index} of {size}")
            rows = rows_of.get((tile_level, number, width))
            if rows is None:
                tile = read_tile(tile_level, number)[: width * HASH_SIZE]
                if len(tile) != width * HASH_SIZE:
                    raise Malformed(f"tile {tile_level}/{number} holds fewer than {width} hashes")
                rows = _expand(tile)
                self._keep((tile_level, number, width), rows)
            start = (place >> height) * HASH_SIZE
            return rows[height][start : start + HASH_SIZE]

        return read_hash

    def clear(self) -> None:
        """Forget all tiles, so that the next proof is made from the stored ones."""
        with self._lock:
            self._rows.clear()

    def _keep(self, place: _Place, rows: list[bytes]) -> None:
        with self._lock:
            if len(self._rows) >= self._capacity:
                del self._rows[next(iter(self._rows))]
            self._rows[place] = rows


def _expand(tile: bytes) -> list[bytes]:
    """Return the rows of a tile, up to the last that has a complete subtree."""
    rows = [tile]
    while len(rows) < TILE_HEIGHT and len(tile) >= 2 * HASH_SIZE:
        pairs = len(tile) // (2 * HASH_SIZE) * 2 * HASH_SIZE
        tile = b"".join(
            [sha256(_NODE_PREFIX + tile[at : at + 64]).digest() for at in range(0, pairs, 64)]
        )
        rows.append(tile)
    return rows
