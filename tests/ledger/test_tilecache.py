"""Cached, expanded tiles give the very hashes that the tiles give, at every size (LG1)."""

import random

import pytest

from ledger import merkle
from ledger.tilecache import TileCache
from ledger.tiles import extend, hash_reader


def tree(size):
    tiles = extend(0, [merkle.leaf_hash(b"%d" % n) for n in range(size)], lambda *_: b"")
    return lambda level, number: tiles[level, number]


def test_every_proof_equals_the_one_made_without_a_cache():
    read_tile = tree(70_000)
    plain = hash_reader(read_tile)
    cache = TileCache()
    draws = random.Random(1)
    sizes = [1, 2, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 70_000]
    compared = 0
    for size in sizes + [draws.randrange(1, 70_000) for _ in range(60)]:
        cached = cache.reader(size, read_tile)
        assert merkle.root(size, cached) == merkle.root(size, plain)
        for leaf in {0, size - 1, draws.randrange(size), draws.randrange(size)}:
            assert merkle.inclusion_proof(leaf, size, cached) == merkle.inclusion_proof(
                leaf, size, plain
            )
            old = draws.randrange(1, size + 1)
            assert merkle.consistency_proof(old, size, cached) == merkle.consistency_proof(
                old, size, plain
            )
            compared += 2
    print(f"{compared} proofs equal with and without the cache")


def test_a_narrower_tree_never_sees_what_came_later():
    read_tile = tree(300)
    cache = TileCache()
    cache.reader(300, read_tile)(0, 299)
    with pytest.raises(ValueError, match="no complete subtree"):
        cache.reader(299, read_tile)(0, 299)
    with pytest.raises(ValueError, match="no complete subtree"):
        cache.reader(299, read_tile)(1, 149)


def test_a_full_tile_is_read_once_and_the_oldest_goes_first():
    read_tile = tree(256 * 4)
    asked = []

    def counted(level, number):
        asked.append((level, number))
        return read_tile(level, number)

    cache = TileCache(capacity=2)
    read = cache.reader(256 * 4, counted)
    for _ in range(3):
        read(0, 0)
        read(3, 1)
    assert asked == [(0, 0)]
    read(0, 256)
    read(0, 512)
    read(0, 0)
    assert asked == [(0, 0), (0, 1), (0, 2), (0, 0)]
