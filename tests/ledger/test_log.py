"""Reading the log: what each question answers, and what it says about what is not there."""

import hashlib

import pytest
from ledger_fixtures import (
    ORIGIN,
    Ledger,
    NaiveTree,
    Records,
    erasure_entry,
    pointer,
    version_entry,
)
from sqlalchemy import create_engine

from ledger import log, tables
from ledger.errors import LedgerError, Malformed, UnknownLeaf
from ledger.log import Log

SIZE = 600


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """600 leaves, integrated in three goes and signed at each of them."""
    with Ledger(tmp_path_factory.mktemp("filled")) as ledger:
        records = Records(seed=1)
        for count in (1, 299, 300):
            ledger.checkpoint(records.take(count))
        yield ledger


def test_a_new_log_is_the_empty_tree(ledger):
    with ledger.read() as seen:
        head = seen.head()
        assert (head.origin, head.size, head.root) == (ORIGIN, 0, hashlib.sha256(b"").digest())
        assert head.checkpoint().text().startswith(f"{ORIGIN}\n0\n")
        assert seen.latest_checkpoint() is None
        assert seen.checkpoints() == []
        assert seen.pending_count() == 0
        assert seen.root(0) == head.root
        for question in (
            lambda: seen.tile(0, 0),
            lambda: seen.bundle(0),
            lambda: seen.entry(0),
            lambda: seen.root(1),
        ):
            with pytest.raises(UnknownLeaf):
                question()
        assert seen.leaves_of(pointer(0)) == []
    assert ledger.faults() == []


def test_a_database_without_a_log_says_so(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'bare.db'}")
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        with pytest.raises(LedgerError, match="no ledger head"):
            Log(connection).head()
    engine.dispose()


@pytest.mark.parametrize(
    "origin", ["", " ", "\n", "a\nb", " a", "a ", "a\tb", "a\x00b", "a\x1fb", "\ud800"], ids=ascii
)
def test_an_origin_that_no_checkpoint_can_carry_is_refused(tmp_path, origin):
    engine = create_engine(f"sqlite:///{tmp_path / 'bare.db'}")
    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        with pytest.raises(Malformed):
            log.create(connection, origin)
        with pytest.raises(LedgerError, match="no ledger head"):
            Log(connection).head()
        log.create(connection, "één.example/log")
        assert Log(connection).head().checkpoint().origin == "één.example/log"
    engine.dispose()


def test_what_waits_is_counted_and_is_no_leaf(ledger):
    ledger.put([version_entry(pointer(n)) for n in range(3)])
    with ledger.read() as seen:
        assert seen.pending_count() == 3
        assert seen.head().size == 0
        assert seen.leaves_of(pointer(0)) == []
    ledger.integrate()
    with ledger.read() as seen:
        assert seen.pending_count() == 0
        assert seen.head().size == 3
        assert len(seen.leaves_of(pointer(0))) == 1


def test_each_leaf_is_found_by_index_and_by_pointer(filled):
    entries = filled.entries()
    assert len(entries) == SIZE
    expected: dict[bytes, list[int]] = {}
    for leaf, entry in enumerate(entries):
        expected.setdefault(entry[4:20], []).append(leaf)
    with filled.read() as seen:
        assert [seen.entry(leaf) for leaf in range(SIZE)] == entries
        assert {of: seen.leaves_of(of) for of in expected} == expected
    repeated = sum(len(leaves) > 1 for leaves in expected.values())
    print(f"{SIZE} leaves of {len(expected)} pointers, {repeated} of them with several")
    assert repeated > 50


def test_tiles_bundles_and_roots_are_those_of_the_specification(filled):
    entries = filled.entries()
    tree = NaiveTree(entries)
    with filled.read() as seen:
        for level in range(2):
            for number in range(-(-SIZE // 256 ** (level + 1))):
                assert seen.tile(level, number) == tree.tile(level, number, SIZE)
        assert [len(seen.bundle(number)) for number in range(3)] == [256, 256, 88]
        for size in range(SIZE + 1):
            assert seen.root(size) == tree.root(size), size
        assert seen.head().root == tree.root(SIZE)


@pytest.mark.parametrize("leaf", [SIZE, SIZE + 1, 767, 768, 10**6, -1, -256])
def test_a_leaf_that_is_not_there(filled, leaf):
    with filled.read() as seen, pytest.raises(UnknownLeaf):
        seen.entry(leaf)


def test_no_tile_or_bundle_beyond_the_tree(filled):
    with filled.read() as seen:
        for level, number in ((0, 3), (1, 1), (2, 0), (0, -1)):
            with pytest.raises(UnknownLeaf, match=f"tile {number} at level {level}"):
                seen.tile(level, number)
        with pytest.raises(UnknownLeaf, match="bundle 3"):
            seen.bundle(3)


def test_no_proof_into_a_tree_that_is_larger_than_the_log(filled):
    with filled.read() as seen:
        with pytest.raises(LedgerError):
            seen.inclusion_proof(0, SIZE + 1)
        with pytest.raises(LedgerError):
            seen.consistency_proof(1, SIZE + 1)
        with pytest.raises(LedgerError):
            seen.root(SIZE + 1)
        with pytest.raises(ValueError, match="leaf 600 is not in a tree of 600 leaves"):
            seen.inclusion_proof(SIZE, SIZE)


def test_the_checkpoints_are_listed_smallest_first_and_the_latest_is_the_largest(filled):
    with filled.read() as seen:
        listed = seen.checkpoints()
        latest = seen.latest_checkpoint()
    assert [size for size, _ in listed] == [1, 300, SIZE]
    assert latest.format() == listed[-1][1]


def test_one_read_transaction_is_one_picture(ledger):
    ledger.checkpoint([version_entry(pointer(0))])
    with ledger.read() as before:
        first = before.head()
        ledger.checkpoint([version_entry(pointer(0), 2), version_entry(pointer(1))])
        assert before.head() == first
        assert before.leaves_of(pointer(0)) == [0]
        assert len(before.checkpoints()) == 1
        assert before.root(1) == first.root
    with ledger.read() as after:
        assert after.head().size == 3
        assert len(after.checkpoints()) == 2


def test_re1_er9_every_leaf_of_a_record_stays_in_order(ledger):
    """A rectification and an erasure append; what was there is still read as it was."""
    of = pointer(7)
    history = [version_entry(of, 1), version_entry(of, 2), erasure_entry(of, 2)]
    for entry in history:
        ledger.checkpoint([version_entry(pointer(100 + len(ledger.entries()))), entry])
    with ledger.read() as seen:
        leaves = seen.leaves_of(of)
        assert leaves == sorted(leaves)
        assert [seen.entry(leaf) for leaf in leaves] == history
    assert ledger.faults() == []
