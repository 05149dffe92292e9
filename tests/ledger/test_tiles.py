"""Tiles and bundles: the specification's examples, and growth in every manner giving one tree."""

import importlib.util
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle, tiles
from ledger.errors import Malformed

VECTORS = Path(__file__).parents[1] / "vectors"
EDGES = (1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000)


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_ledger", VECTORS / "generate_ledger.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()
LEAVES = generator.counted_leaves(max(EDGES))
ORACLE = generator.NaiveTree(LEAVES)
GOLDEN = json.loads((VECTORS / "ledger_tiles.json").read_text())


def no_tile(level: int, index: int) -> bytes:
    raise AssertionError(f"tile {level}/{index} was asked for and does not exist")


def reader_of(stored: dict[tuple[int, int], bytes]) -> tiles.ReadTile:
    return lambda level, index: stored[level, index]


def grow(size: int, cuts: list[int]) -> dict[tuple[int, int], bytes]:
    """Append the first `size` leaves in pieces that end at the cuts."""
    stored: dict[tuple[int, int], bytes] = {}
    start = 0
    for end in [*cuts, size]:
        stored.update(tiles.extend(start, LEAVES[start:end], reader_of(stored)))
        start = end
    return stored


# Paths


@pytest.mark.parametrize(
    ("path", "level", "index", "width"),
    [
        ("tile/0/x001/x234/067", 0, 1_234_067, 256),
        ("tile/0/x001/x234/067.p/8", 0, 1_234_067, 8),
        ("tile/entries/x001/x234/067.p/255", None, 1_234_067, 255),
        ("tile/0/000", 0, 0, 256),
        ("tile/63/999.p/1", 63, 999, 1),
        ("tile/7/x001/000", 7, 1000, 256),
        ("tile/entries/000", None, 0, 256),
        ("tile/1/x036/x028/x797/x018/x963/967", 1, 2**55 - 1, 256),
    ],
)
def test_paths(path, level, index, width):
    written = (
        tiles.entries_path(index, width) if level is None else tiles.tile_path(level, index, width)
    )
    assert written == path
    assert tiles.parse_path(path) == tiles.TilePath(level, index, width)


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_every_path_is_read_back(level, index, width):
    path = (
        tiles.entries_path(index, width) if level is None else tiles.tile_path(level, index, width)
    )
    assert tiles.parse_path(path) == tiles.TilePath(level, index, width)


TWIN_PATHS = [
    "",
    "tile/0",
    "tile/0/0",
    "tile/0/67",
    "/tile/0/067",
    "tile/00/067",
    "tile/64/067",
    "tile/-1/067",
    "tile/0/x000/067",
    "tile/0/001/067",
    "tile/0/x067",
    "tile/0/067.p/0",
    "tile/0/067.p/08",
    "tile/0/067.p/256",
    "tile/0/067.p/257",
    "tile/0/067.p/",
    "tile/0/067\n",
    "tile/0/٠٦٧",
    "tile/entries/067.p/0",
    "tile/1/x036/x028/x797/x018/x963/968",
    "tile/0/" + "x001/" * 2000 + "067",
]


def paths_accepted(parse) -> list[str]:
    taken = []
    for path in TWIN_PATHS:
        try:
            parse(path)
        except Malformed:
            continue
        taken.append(path)
    return taken


def test_other_spellings_of_a_path_are_malformed():
    assert paths_accepted(tiles.parse_path) == []


def test_control_a_parser_without_rewriting(monkeypatch):
    class SameAsAnything:
        def __ne__(self, other):
            return False

    monkeypatch.setattr(tiles, "tile_path", lambda *_: SameAsAnything())
    monkeypatch.setattr(tiles, "entries_path", lambda *_: SameAsAnything())
    taken = paths_accepted(tiles.parse_path)
    assert {"tile/00/067", "tile/0/x000/067", "tile/0/067.p/08", "tile/0/067.p/256"} <= set(taken)


@given(st.one_of(st.text(), st.from_regex(r"tile/(entries|[0-9]{1,3})/[x0-9/]*(\.p/[0-9]*)?")))
def test_the_path_parser_accepts_only_what_is_written(path):
    try:
        parsed = tiles.parse_path(path)
    except Malformed:
        return
    if parsed.level is None:
        assert tiles.entries_path(parsed.index, parsed.width) == path
    else:
        assert tiles.tile_path(parsed.level, parsed.index, parsed.width) == path


@pytest.mark.parametrize(
    "arguments", [(-1, 0), (64, 0), (0, -1), (0, 2**55), (0, 0, 0), (0, 0, 257)]
)
def test_no_path_is_written_out_of_range(arguments):
    with pytest.raises(ValueError, match="is not in"):
        tiles.tile_path(*arguments)


# Bundles


def test_the_bundle_of_the_module():
    bundle = tiles.encode_bundle([b"", b"\x00", b"\x10\x20"])
    assert bundle == bytes.fromhex("0000 0001 00 0002 1020")
    assert "    0000 0001 00 0002 1020\n" in tiles.__doc__
    assert tiles.parse_bundle(bundle) == [b"", b"\x00", b"\x10\x20"]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_every_bundle_is_read_back(entries):
    assert tiles.parse_bundle(tiles.encode_bundle(iter(entries))) == entries


def test_the_largest_bundle():
    entries = [bytes([number]) * 65_535 for number in range(256)]
    assert tiles.parse_bundle(tiles.encode_bundle(entries)) == entries


@pytest.mark.parametrize("entries", [[], [b""] * 257, [bytes(65_536)]])
def test_no_bundle_is_written_out_of_range(entries):
    with pytest.raises(ValueError, match=r"a bundle of|an entry of"):
        tiles.encode_bundle(entries)


def breaks_found(parse) -> int:
    """Cut a bundle at every byte, and count the cuts that a parser calls malformed."""
    bundle = tiles.encode_bundle([b"abc", b"", b"de"])
    found = 0
    for end in range(len(bundle)):
        try:
            whole = parse(bundle[:end])
        except Malformed:
            found += 1
        else:
            assert tiles.encode_bundle(whole) == bundle[:end]
    return found


def test_a_bundle_that_breaks_off_is_malformed():
    # Of the 11 cuts, two fall between entries and leave a whole, shorter bundle.
    assert breaks_found(tiles.parse_bundle) == 9
    with pytest.raises(Malformed, match="more than 256"):
        tiles.parse_bundle(bytes(2 * 257))


def test_control_a_parser_that_takes_what_is_there():
    def lax(data: bytes) -> list[bytes]:
        entries, position = [], 0
        while position < len(data):
            length = int.from_bytes(data[position : position + 2], "big")
            entries.append(data[position + 2 : position + 2 + length])
            position += 2 + length
        return entries

    with pytest.raises((AssertionError, ValueError)):
        breaks_found(lax)


@given(st.binary(max_size=700))
def test_the_bundle_parser_accepts_only_what_is_written(data):
    try:
        entries = tiles.parse_bundle(data)
    except Malformed:
        return
    assert tiles.encode_bundle(entries) == data


# Growth


def test_the_tree_of_70000_of_the_specification():
    stored = grow(70_000, [])
    widths = Counter((level, len(tile) // 32) for (level, _), tile in stored.items())
    assert widths == {(0, 256): 273, (0, 112): 1, (1, 256): 1, (1, 17): 1, (2, 1): 1}


def test_the_tree_of_256_of_the_specification():
    stored = grow(256, [])
    assert {place: len(tile) // 32 for place, tile in stored.items()} == {(0, 0): 256, (1, 0): 1}


@pytest.mark.parametrize("size", EDGES)
def test_growth_at_once_is_the_formula(size):
    assert tiles.extend(0, LEAVES[:size], no_tile) == generator.tiles_of(ORACLE, size)


@pytest.mark.parametrize("size", EDGES)
def test_growth_in_pieces_is_growth_at_once(size):
    pick = random.Random(size)
    at_once = tiles.extend(0, LEAVES[:size], no_tile)
    for pieces in (1, 3, 20):
        cuts = sorted(pick.randint(0, size) for _ in range(pieces))
        assert grow(size, cuts) == at_once


def test_growth_leaf_by_leaf_around_the_edges():
    for edge in (256, 512, 65_536):
        start = edge - 2
        stored = grow(start, [])
        for size in range(start, edge + 2):
            stored.update(tiles.extend(size, LEAVES[size : size + 1], reader_of(stored)))
            assert stored == generator.tiles_of(ORACLE, size + 1)


def test_only_what_changes_is_returned():
    stored = grow(70_000, [])
    assert tiles.extend(69_000, [], no_tile) == {}
    changed = tiles.extend(65_536, LEAVES[65_536:65_537], reader_of(grow(65_536, [])))
    assert changed == {(0, 256): LEAVES[65_536]}
    assert list(tiles.extend(0, LEAVES[:600], no_tile)) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert len(stored) == 277


@pytest.mark.parametrize("size", generator.TILE_SIZES)
def test_one_digest_over_all_tiles(size):
    assert generator.tile_digest(grow(size, [])) == GOLDEN["sha256"][str(size)]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("_subtree_root", lambda row: bytes(32)),
        ("_partial_tile", lambda *_: b""),
    ],
)
def test_control_broken_growth_is_seen(monkeypatch, name, broken):
    monkeypatch.setattr(tiles, name, broken)
    assert grow(600, [100, 300]) != generator.tiles_of(ORACLE, 600)


@pytest.mark.parametrize("kept", [299, 301])
def test_growth_from_a_partial_tile_of_another_width_is_refused(kept):
    other = grow(kept, [])
    with pytest.raises(Malformed, match=rf"tile 0/1 has {(kept - 256) * 32} bytes, not 1408"):
        tiles.extend(300, LEAVES[300:301], reader_of(other))


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(-1, [bytes(32)]), (2**63 - 1, [bytes(32)]), (0, [bytes(31)]), (0, [bytes(31), bytes(33)])],
)
def test_growth_out_of_range_is_refused(size, hashes):
    with pytest.raises(ValueError, match=r"cannot grow|leaf hash"):
        tiles.extend(size, hashes, lambda level, index: bytes(255 * 32))


def test_growth_to_the_last_leaf_there_can_be():
    changed = tiles.extend(2**63 - 2, [bytes(32)], lambda level, index: bytes(254 * 32))
    assert list(changed) == [(0, 2**55 - 1)]


# Reading


def wrong_subtrees(read: merkle.ReadHash, size: int, step: int) -> list[tuple[int, int]]:
    """Compare every `step`-th complete subtree of a tree with the oracle."""
    wrong = []
    for level in range(size.bit_length()):
        for index in range(0, size >> level, 1 if level > 6 else step):
            if read(level, index) != ORACLE.mth(index << level, (index + 1) << level):
                wrong.append((level, index))
    return wrong


@pytest.mark.parametrize(("size", "step"), [(257, 1), (1000, 1), (70_000, 61)])
def test_every_subtree_is_read_from_tiles(size, step):
    read = tiles.hash_reader(reader_of(grow(size, [])))
    assert wrong_subtrees(read, size, step) == []


def test_proofs_from_tiles_verify():
    for size in (1, 255, 256, 257, 65_537, 70_000):
        read = tiles.hash_reader(reader_of(grow(size, [])))
        root = merkle.root(size, read)
        assert root == ORACLE.mth(0, size)
        for index in {0, size // 3, size - 1}:
            proof = merkle.inclusion_proof(index, size, read)
            merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
        old = max(1, size // 2)
        growth = merkle.consistency_proof(old, size, read)
        merkle.verify_consistency(old, ORACLE.mth(0, old), size, root, growth)


def test_control_a_changed_tile_is_seen():
    stored = grow(1000, [])
    stored[0, 2] = stored[0, 2][:-1] + bytes([stored[0, 2][-1] ^ 1])
    assert wrong_subtrees(tiles.hash_reader(reader_of(stored)), 1000, 1) != []


def test_a_subtree_outside_the_tile_is_malformed():
    read = tiles.hash_reader(reader_of(grow(300, [])))
    assert read(2, 74) == ORACLE.mth(296, 300)
    for level, index in ((0, 300), (2, 75), (3, 37), (9, 0)):
        with pytest.raises(Malformed, match="ends before byte"):
            read(level, index)
    for level, index in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="no subtree"):
            read(level, index)


def test_tile_root_of_a_full_tile_only():
    tile = b"".join(LEAVES[:256])
    assert tiles.tile_root(tile) == ORACLE.mth(0, 256)
    for part in (b"", tile[:-32], tile + tile):
        with pytest.raises(ValueError, match="is not full"):
            tiles.tile_root(part)
