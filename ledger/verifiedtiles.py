"""Tiles of a published log that are believed once the signed root vouches for each of them.

A tree of s leaves has at each level at most one partial tile, the last. The root is made of the
hashes of these partial tiles and of nothing else, since a partial tile is as wide as that level's
byte of s says; so when they give the signed root, all of them are right. Every full tile has its
root as one hash of the tile above it. So

    1 the partial tiles are read, once, and must give the signed root
    2 a full tile is read, and its root must be that hash of the tile above, which is read likewise

and no hash is used that the signature does not cover. Above a tile that C2SP pruning keeps there is
none that it removes, so this works on a pruned log from its minimum index on. A partial file may be
gone as soon as there is the full one, which is then read in its place (C2SP tlog-tiles, "Merkle
Tree"). Memory is bounded: the partial tiles and the last 64 full ones, 8,192 bytes each.

Tested in tests/ledger/test_monitor.py.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.errors import Malformed, Misbehaved, SourceMissing
from ledger.merkle import HASH_SIZE, leaf_hash
from ledger.source import Source
from ledger.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    entries_path,
    hash_reader,
    parse_bundle,
    tile_path,
    tile_root,
)

_KEPT_TILES = 64


class VerifiedTiles:
    """The tree of one signed checkpoint, read from where it is published.

    Args:
        source: of the published files.
        checkpoint: whose signatures were verified.
    """

    def __init__(self, source: Source, checkpoint: Checkpoint) -> None:
        self._source = source
        self._size = checkpoint.size
        self._root = checkpoint.root
        self._edge: dict[int, bytes] | None = None
        self._full: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self.read_hash = hash_reader(self.tile)

    def tile(self, level: int, number: int) -> bytes:
        """Return a verified tile, as wide as the checkpoint makes it.

        Args:
            level: tile level.
            number: of a tile that the tree has.

        Raises:
            Misbehaved: what is published is not what was signed; the evidence holds it.
            SourceMissing, SourceUnreachable: see `Source.read`.
        """
        if self._edge is None:
            self._edge = self._verified_edge()
        if level in self._edge and number == self._size >> TILE_HEIGHT * (level + 1):
            return self._edge[level]
        found = self._full.get((level, number))
        if found is None:
            found = self._verified_full(level, number)
            self._full[level, number] = found
            if len(self._full) > _KEPT_TILES:
                self._full.popitem(last=False)
        return found

    def entries(self, number: int) -> list[bytes]:
        """Return the entries of a bundle, each of which is the leaf that the tree has.

        Raises:
            Misbehaved, SourceMissing, SourceUnreachable: see `tile`.
        """
        width = min(TILE_WIDTH, self._size - number * TILE_WIDTH)
        path, data, held = self._read(lambda wide: entries_path(number, wide), width)
        hashes = self.tile(0, number)
        try:
            entries = parse_bundle(data)
        except Malformed as cause:
            raise Misbehaved(f"{path} is not an entry bundle", {"found": data}) from cause
        whole = len(entries) == held
        del entries[width:]
        if not whole or b"".join(map(leaf_hash, entries)) != hashes:
            raise Misbehaved(
                f"{path} holds other entries than the signed tree", {"found": data, "tile": hashes}
            )
        return entries

    def _verified_edge(self) -> dict[int, bytes]:
        # 1
        edge: dict[int, bytes] = {}
        level, hashes = 0, self._size
        while hashes:
            if width := hashes % TILE_WIDTH:
                edge[level] = self._hashes(level, hashes // TILE_WIDTH, width)
            level, hashes = level + 1, hashes >> TILE_HEIGHT
        found = merkle.root(self._size, hash_reader(lambda level, number: edge[level]))
        if not hmac.compare_digest(found, self._root):
            raise Misbehaved(
                f"the published tiles do not give the root that is signed at {self._size} leaves",
                {f"tile-{level}": tile for level, tile in edge.items()},
            )
        return edge

    def _verified_full(self, level: int, number: int) -> bytes:
        # 2
        tile = self._hashes(level, number, TILE_WIDTH)
        above, place = divmod(number, TILE_WIDTH)
        expected = self.tile(level + 1, above)[place * HASH_SIZE : (place + 1) * HASH_SIZE]
        if not hmac.compare_digest(tile_root(tile), expected):
            raise Misbehaved(
                f"{tile_path(level, number)} is not the tile of the signed tree",
                {"found": tile, "expected-root": expected},
            )
        return tile

    def _hashes(self, level: int, number: int, width: int) -> bytes:
        path, data, held = self._read(lambda wide: tile_path(level, number, wide), width)
        if len(data) != held * HASH_SIZE:
            raise Misbehaved(f"{path} has {len(data)} bytes", {"found": data})
        return data[: width * HASH_SIZE]

    def _read(self, path_of: Callable[[int], str], width: int) -> tuple[str, bytes, int]:
        """Return the path, the bytes and the width of a file, or of the full one in its place."""
        path = path_of(width)
        try:
            return path, self._source.read(path), width
        except SourceMissing:
            if width == TILE_WIDTH:
                raise
        path = path_of(TILE_WIDTH)
        return path, self._source.read(path), TILE_WIDTH
