"""Tiles: the Merkle tree as a finite set of immutable files, and the bundles of its entries.

Implements C2SP tlog-tiles ("Merkle Tree" and "Log entries"). `tests/ledger/test_tiles.py` holds it
against that text's examples and against the recursive definition of RFC 6962.

A tile is up to 256 hashes of 32 bytes, one after the other, nothing else. Tile level 0 holds leaf
hashes; each hash in a tile of level l+1 is the root over one full tile of level l. So hash i of
tile n at level l is the root over leaves [(256n + i) * 256**l, (256n + i + 1) * 256**l), and a tree
of s leaves has at level l floor(s / 256**l) hashes. Only the last tile of a level can be partial
(1 to 255 hashes); empty tiles do not exist.

Paths are `tile/<level>/<index>` and `tile/entries/<index>`, with `.p/<width>` behind a partial one.
The level is decimal, 0 to 63. The index is split into groups of three digits, zero-padded, all but
the last behind an `x`. Example: level 0, index 1234067, of which 8 hashes exist:

    tile/0/x001/x234/067.p/8

An entry bundle holds the data of up to 256 leaves, each behind its length as two bytes, big-endian.
Example: the bundle of the entries "" (empty), 0x00 and 0x1020 is, in hex,

    0000 0001 00 0002 1020
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from ledger.errors import Malformed
from ledger.merkle import HASH_SIZE, SIZE_LIMIT, ReadHash

TILE_HEIGHT = 8
"""Tree levels that one tile spans."""

TILE_WIDTH = 256
"""Hashes in a full tile, and entries in a full bundle."""

MAX_ENTRY_SIZE = 65_535
"""Bytes of the largest entry: what the two length bytes of a bundle can say."""

ReadTile: TypeAlias = Callable[[int, int], bytes]
"""(tile level, tile index) to the tile's bytes, as wide as it is now, full or partial."""

_MAX_LEVEL = 63
_INDEX_LIMIT = SIZE_LIMIT >> TILE_HEIGHT
_FULL_TILE_SIZE = TILE_WIDTH * HASH_SIZE
_NODE_PREFIX = b"\x01"
_PATH = re.compile(
    r"tile/(?:(?P<level>[0-9]{1,2})|entries)"
    r"/(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})"
    r"(?:\.p/(?P<width>[0-9]{1,3}))?"
)


@dataclass(frozen=True, slots=True)
class TilePath:
    """What the path of a tile or a bundle says.

    Attributes:
        level: tile level, 0 to 63, or None for an entry bundle.
        index: place within the level, 0 <= index < 2**55.
        width: hashes or entries, 1 to 256; 256 is a full one.
    """

    level: int | None
    index: int
    width: int


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile (C2SP tlog-tiles, "Merkle Tree").

    Args:
        level: tile level, 0 to 63.
        index: place within the level, 0 <= index < 2**55.
        width: hashes in the tile, 1 to 256; below 256 the path is that of a partial tile.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= level <= _MAX_LEVEL:
        raise ValueError(f"tile level {level} is not in [0, {_MAX_LEVEL}]")
    return f"tile/{level}/{_numbered(index, width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of an entry bundle (C2SP tlog-tiles, "Log entries").

    Args:
        index: place of the bundle, 0 <= index < 2**55.
        width: entries in the bundle, 1 to 256; below 256 the path is that of a partial bundle.

    Raises:
        ValueError: an argument is out of range.
    """
    return f"tile/entries/{_numbered(index, width)}"


def parse_path(path: str) -> TilePath:
    """Read a path that `tile_path` or `entries_path` wrote.

    Raises:
        Malformed: any other text.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise Malformed("not the path of a tile or an entry bundle")
    level = None if match["level"] is None else int(match["level"])
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = TILE_WIDTH if match["width"] is None else int(match["width"])
    try:
        rewritten = entries_path(index, width) if level is None else tile_path(level, index, width)
    except ValueError as error:
        raise Malformed(str(error)) from error
    if rewritten != path:
        raise Malformed(f"the path is not written as {rewritten!r}")
    return TilePath(level, index, width)


def is_pruned(path: TilePath, minimum: int) -> bool:
    """Tell whether a pruned log goes without a file (C2SP tlog-tiles, "Pruning").

    Args:
        path: of a tile or a bundle; a partial one goes with its full one.
        minimum: the log's minimum index, at most its tree size.

    Returns:
        Whether the end index of the full file, (n + 1) * 256**(l + 1), is at most the minimum.
    """
    return path.index + 1 <= minimum >> TILE_HEIGHT * ((path.level or 0) + 1)


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Return the bundle of up to 256 entries (C2SP tlog-tiles, "Log entries").

    Raises:
        ValueError: no entry, more than 256, or one of more than 65,535 bytes.
    """
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_SIZE:
            raise ValueError(f"an entry of {len(entry)} bytes, more than {MAX_ENTRY_SIZE}")
        parts += [len(entry).to_bytes(2, "big"), entry]
    count = len(parts) // 2
    if not 1 <= count <= TILE_WIDTH:
        raise ValueError(f"a bundle of {count} entries, not 1 to {TILE_WIDTH}")
    return b"".join(parts)


def parse_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle; the caller checks that there are as many as its path says.

    Raises:
        Malformed: the bundle is empty, breaks off, or holds more than 256 entries.
    """
    if not data:
        raise Malformed("an empty entry bundle")
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        if len(entries) == TILE_WIDTH:
            raise Malformed(f"an entry bundle of more than {TILE_WIDTH} entries")
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if position > len(data):
            raise Malformed(f"an entry bundle that breaks off in entry {len(entries)}")
        entries.append(data[start:position])
    return entries


def entry_at(bundle: bytes, place: int) -> bytes | None:
    """Return one entry of a bundle, walking over the lengths of those before it.

    Args:
        bundle: as `encode_bundle` writes it.
        place: 0 to 255.

    Returns:
        The entry, or None where the bundle has fewer.

    Raises:
        Malformed: the bundle breaks off in the entry.
    """
    start = 0
    for _ in range(place):
        start += 2 + int.from_bytes(bundle[start : start + 2], "big")
    if start >= len(bundle):
        return None
    end = start + 2 + int.from_bytes(bundle[start : start + 2], "big")
    if end > len(bundle):
        raise Malformed(f"an entry bundle that breaks off in entry {place}")
    return bundle[start + 2 : end]


def tile_root(tile: bytes) -> bytes:
    """Return the root over a full tile: its one hash in the tile level above.

    Raises:
        ValueError: the tile is not 8,192 bytes.
    """
    if len(tile) != _FULL_TILE_SIZE:
        raise ValueError(f"a tile of {len(tile)} bytes is not full ({_FULL_TILE_SIZE})")
    return _subtree_root(tile)


def hash_reader(read_tile: ReadTile) -> ReadHash:
    """Return a reader of subtree roots that works them out from tiles.

    Level L of the tree lies in tile level L // 8; what stands between the tile levels is hashed
    anew, at most 127 hashes per call. Nothing is remembered between calls.

    Args:
        read_tile: asked once per call for the one tile that holds the subtree.

    Returns:
        A `ledger.merkle.ReadHash`. It raises `Malformed` when the tile does not hold the subtree,
        and `ValueError` for a negative level or index.
    """

    def read_hash(level: int, index: int) -> bytes:
        if level < 0 or index < 0:
            raise ValueError(f"no subtree at level {level}, index {index}")
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, place = divmod(index << height, TILE_WIDTH)
        tile = read_tile(tile_level, tile_index)
        start = place * HASH_SIZE
        end = start + (HASH_SIZE << height)
        if end > len(tile):
            raise Malformed(
                f"tile {tile_level}/{tile_index} of {len(tile)} bytes ends before byte {end}"
            )
        return _subtree_root(tile[start:end])

    return read_hash


def extend(
    size: int, leaf_hashes: Sequence[bytes], read_tile: ReadTile
) -> dict[tuple[int, int], bytes]:
    """Return the tiles that change when leaves are appended to a tree.

    Args:
        size: leaves of the tree before, 0 <= size.
        leaf_hashes: 32-byte hashes of the new leaves, in order; size + their number < 2**63.
        read_tile: asked, once per level, for the partial tile on which the level ends, if it does.

    Returns:
        (tile level, tile index) to the tile's whole new bytes, lower levels first and in order
        within a level. Tiles that stay as they are do not occur.

    Raises:
        ValueError: the size is out of range, or a leaf hash is not 32 bytes.
        Malformed: a partial tile that was read is not as wide as a tree of `size` leaves makes it.
    """
    if not 0 <= size < SIZE_LIMIT - len(leaf_hashes):
        raise ValueError(f"a tree of {size} leaves cannot grow by {len(leaf_hashes)}")
    if not {HASH_SIZE}.issuperset(map(len, leaf_hashes)):
        raise ValueError(f"a leaf hash that is not {HASH_SIZE} bytes")
    changed: dict[tuple[int, int], bytes] = {}
    level, level_size = 0, size
    added: Sequence[bytes] = leaf_hashes
    while added:
        index, width = divmod(level_size, TILE_WIDTH)
        row = _partial_tile(level, index, width, read_tile) + b"".join(added)
        added = []
        for start in range(0, len(row), _FULL_TILE_SIZE):
            tile = row[start : start + _FULL_TILE_SIZE]
            changed[level, index] = tile
            index += 1
            if len(tile) == _FULL_TILE_SIZE:
                added.append(_subtree_root(tile))
        level, level_size = level + 1, level_size // TILE_WIDTH
    return changed


def _partial_tile(level: int, index: int, width: int, read_tile: ReadTile) -> bytes:
    if width == 0:
        return b""
    tile = read_tile(level, index)
    if len(tile) != width * HASH_SIZE:
        raise Malformed(f"tile {level}/{index} has {len(tile)} bytes, not {width * HASH_SIZE}")
    return tile


def _subtree_root(row: bytes) -> bytes:
    """Return the root over a power of two of hashes that stand one after the other.

    Two neighbours in a row are already the 64 bytes that their parent hashes, so each level is one
    pass of slices. This is where the integrator spends its time.
    """
    hash_of, prefix = sha256, _NODE_PREFIX
    while len(row) > HASH_SIZE:
        row = b"".join(
            [hash_of(prefix + row[at : at + 64]).digest() for at in range(0, len(row), 64)]
        )
    return row


def _numbered(index: int, width: int) -> str:
    if not 0 <= index < _INDEX_LIMIT:
        raise ValueError(f"tile index {index} is not in [0, 2**55)")
    if not 1 <= width <= TILE_WIDTH:
        raise ValueError(f"tile width {width} is not in [1, {TILE_WIDTH}]")
    path = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        path = f"x{index % 1000:03}/{path}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"
