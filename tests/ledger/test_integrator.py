"""The integrator: any batches give the one tree of their leaves, in an order that says nothing.

fsck is the oracle of every run, beside the recursion of RFC 6962. Crashes are real: a child process
dies by SIGKILL at each step of the way, and the next run must come out at one end.
"""

import itertools
import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_fixtures import (
    Injected,
    Ledger,
    NaiveTree,
    Records,
    checkpoint_of,
    erasure_entry,
    off_history,
    orders,
    pointer,
    version_entry,
)
from sqlalchemy import event

from ledger import integrator, merkle
from ledger.errors import Forked
from ledger.integrator import permuted


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        yield ledger


def require_one_tree(ledger: Ledger, put: list[bytes]) -> list[bytes]:
    """All that was put is a leaf once, in each pointer's order, under the tree of RFC 6962."""
    entries = ledger.entries()
    assert Counter(entries) == Counter(put)
    assert orders(entries) == orders(put)
    assert ledger.pending() == []
    with ledger.read() as seen:
        head = seen.head()
    assert head.size == len(entries)
    assert head.root == NaiveTree(entries).root(len(entries))
    assert ledger.faults() == []
    return entries


def proofs_hold(ledger: Ledger, leaves: list[int] | None = None) -> tuple[int, int]:
    """Verify inclusion of leaves in the latest checkpoint and consistency of all; count them."""
    entries = ledger.entries()
    tree = NaiveTree(entries)
    with ledger.read() as seen:
        sizes = [size for size, _ in seen.checkpoints()]
        signed = checkpoint_of(seen.latest_checkpoint())
        assert signed.root == tree.root(signed.size)
        chosen = range(signed.size) if leaves is None else leaves
        for leaf in chosen:
            proof = seen.inclusion_proof(leaf, signed.size)
            leaf_hash = merkle.leaf_hash(entries[leaf])
            merkle.verify_inclusion(leaf_hash, leaf, signed.size, proof, signed.root)
        pairs = list(itertools.combinations(sizes, 2))
        for old, new in pairs:
            proof = seen.consistency_proof(old, new)
            merkle.verify_consistency(old, tree.root(old), new, tree.root(new), proof)
    return len(chosen), len(pairs)


def test_nothing_pending_changes_nothing(ledger):
    before = ledger.dump()
    assert ledger.integrate() == 0
    assert ledger.dump() == before


@pytest.mark.parametrize(
    "counts",
    [(1,), (255,), (256,), (257,), (255, 1, 1), (256, 256), (1, 255, 257), (511, 2), (300, 212, 1)],
    ids=str,
)
def test_batches_around_a_full_tile(ledger, counts):
    records = Records(seed=sum(counts))
    put = []
    for count in counts:
        batch = records.take(count)
        put += batch
        ledger.put(batch)
        assert ledger.integrate() == count
        ledger.sign()
    require_one_tree(ledger, put)
    leaves, pairs = proofs_hold(ledger)
    assert (leaves, pairs) == (sum(counts), len(counts) * (len(counts) - 1) // 2)


@pytest.mark.parametrize("seed", range(6))
def test_random_batches_in_random_sizes(ledger, monkeypatch, seed):
    """Puts, integrations and signatures in any order, with batches from 1 to some hundred."""
    draws = random.Random(seed)
    monkeypatch.setattr(integrator, "BATCH_ENTRIES", draws.choice([7, 100, 256, 65_536]))
    records = Records(seed=1_000 + seed)
    put: list[bytes] = []
    notes = []
    for _ in range(25):
        batch = records.take(draws.choice([1, 2, 13, 40, 80]))
        put += batch
        ledger.put(batch)
        if draws.random() < 0.6:
            ledger.integrate()
        if draws.random() < 0.5:
            notes.append(ledger.sign())
    notes.append(ledger.checkpoint())
    entries = require_one_tree(ledger, put)
    assert off_history(notes, entries) == []
    leaves, pairs = proofs_hold(ledger)
    print(
        f"batches of {integrator.BATCH_ENTRIES}: {leaves} leaves, {pairs} pairs of signed sizes, "
        f"{len(notes)} notes, 0 faults"
    )
    assert leaves == len(put) > 300
    assert pairs >= 10


def test_one_batch_is_not_more_than_its_limit(ledger, monkeypatch):
    monkeypatch.setattr(integrator, "BATCH_ENTRIES", 10)
    put = Records(seed=3).take(35)
    ledger.put(put)
    taken = []
    while True:
        with ledger.write() as connection:
            taken.append(integrator.integrate(connection))
        assert ledger.faults() == []
        assert len(ledger.pending()) == 35 - sum(taken)
        if taken[-1] < 10:
            break
    assert taken == [10, 10, 10, 5]
    entries = require_one_tree(ledger, put)
    # Batches are taken oldest first: an entry never leaves its batch.
    for start in range(0, 35, 10):
        assert Counter(entries[start : start + 10]) == Counter(put[start : start + 10])


def test_a_full_batch_and_one_entry_more_cross_a_tile_of_the_second_level(ledger):
    """65,535 leaves, then one, then one: tile level 1 fills up and level 2 begins."""
    put = Records(seed=5, later_share=0.02).take(65_537)
    ledger.checkpoint(put[:65_535])
    ledger.checkpoint(put[65_535:65_536])
    with ledger.read() as seen:
        assert len(seen.tile(1, 0)) == 256 * 32
        assert len(seen.tile(2, 0)) == 32
    ledger.checkpoint(put[65_536:])
    entries = require_one_tree(ledger, put)
    edges = [0, 255, 256, 32_767, 32_768, 65_279, 65_280, 65_534, 65_535, 65_536]
    leaves = edges + random.Random(5).sample(range(len(entries)), 200)
    inclusion, consistency = proofs_hold(ledger, leaves)
    print(f"{len(entries)} leaves: {inclusion} inclusion, {consistency} consistency proofs hold")
    assert consistency == 3


def test_a_batch_of_65_537_needs_a_second_one(ledger):
    batch = [version_entry(pointer(1 << 50 | number)) for number in range(65_537)]
    ledger.put(batch)
    with ledger.write() as connection:
        assert integrator.integrate(connection) == 65_536
        assert integrator.integrate(connection) == 1
        assert integrator.integrate(connection) == 0
    entries = ledger.entries()
    assert set(entries) == set(batch)
    assert len(entries) == len(batch)
    with ledger.read() as seen:
        assert seen.head().root == NaiveTree(entries).root(65_537)


def test_a_head_that_moved_meanwhile_stops_the_batch(ledger, monkeypatch):
    """Who integrates without the writer lock cannot overwrite what another one appended."""
    ledger.checkpoint([version_entry(pointer(0))])
    ledger.put([version_entry(pointer(1))])
    write_bundles = integrator._write_bundles

    def interfere(connection, *rest):
        write_bundles(connection, *rest)
        connection.exec_driver_sql("UPDATE ledger_head SET size = size + 1")

    monkeypatch.setattr(integrator, "_write_bundles", interfere)
    before = ledger.dump()
    with pytest.raises(Forked):
        ledger.integrate()
    assert ledger.dump() == before


# The order: each pointer's own is kept, the rest is random (PR5).

batches = st.lists(st.integers(0, 6), max_size=40).map(
    lambda names: [
        version_entry(pointer(name), 1 + names[:place].count(name))
        for place, name in enumerate(names)
    ]
)


@given(batches)
def test_permuted_is_a_permutation_that_keeps_each_pointers_order(batch):
    given_batch = list(batch)
    result = permuted(batch)
    assert Counter(result) == Counter(batch)
    assert orders(result) == orders(batch)
    assert batch == given_batch


def test_the_order_check_sees_a_plain_shuffle():
    """Control: without the pointers' own order, versions of a record change places."""
    batch = [version_entry(pointer(n % 3), 1 + n // 3) for n in range(12)]
    shuffled = batch.copy()
    random.Random(1).shuffle(shuffled)
    assert orders(shuffled) != orders(batch)
    assert all(orders(permuted(batch)) == orders(batch) for _ in range(500))


def governance_entry(sequence: int) -> bytes:
    return b"\x01\x05\x00\x07" + bytes(16) + sequence.to_bytes(4, "big") + b"\x00"


around_governance = st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=40).map(
    lambda names: [
        governance_entry(1 + names[:place].count(None))
        if name is None
        else version_entry(pointer(name), 1 + names[:place].count(name))
        for place, name in enumerate(names)
    ]
)


def parts(batch: list[bytes]) -> list[Counter[bytes]]:
    """Return what stands before, between and behind the governance entries."""
    cuts = [place for place, entry in enumerate(batch) if entry[1] == 5]
    starts, ends = [0, *(cut + 1 for cut in cuts)], [*cuts, len(batch)]
    return [Counter(batch[start:end]) for start, end in zip(starts, ends, strict=True)]


@given(around_governance)
def test_go3_nothing_passes_a_governance_entry(batch):
    result = permuted(batch)
    places = [place for place, entry in enumerate(batch) if entry[1] == 5]
    assert [result[place] for place in places] == [batch[place] for place in places]
    assert parts(result) == parts(batch)
    assert orders(result) == orders(batch)


def test_go3_a_governance_entry_has_the_index_that_was_foretold(ledger, monkeypatch):
    """Also where it is the first or the last of a batch, or alone in one."""
    monkeypatch.setattr(integrator, "BATCH_ENTRIES", 4)
    waiting = [version_entry(pointer(n)) for n in range(40)]
    places = (0, 3, 4, 8, 9, 10, 11, 12, 27)
    for number, place in enumerate(places, 1):
        waiting[place] = governance_entry(number)
    ledger.put(waiting)
    ledger.integrate()
    found = [place for place, entry in enumerate(ledger.entries()) if entry[1] == 5]
    assert tuple(found) == places


def test_the_barrier_check_sees_an_order_that_knows_no_governance():
    """Control: the order of each pointer alone lets a record slip past a stop."""
    batch = [version_entry(pointer(n)) for n in range(9)]
    batch.insert(5, governance_entry(1))
    assert any(parts(integrator._shuffled(batch)) != parts(batch) for _ in range(50))


def chi_square(shuffle, batch: list[bytes], draws: int) -> float:
    """How far the orders that a shuffle gives are from equally frequent."""
    allowed = {order for order in itertools.permutations(batch) if orders(order) == orders(batch)}
    seen = Counter(tuple(shuffle(batch)) for _ in range(draws))
    assert set(seen) <= allowed
    expected = draws / len(allowed)
    return sum((seen[order] - expected) ** 2 / expected for order in allowed)


def swapped_anywhere(batch: list[bytes]) -> list[bytes]:
    """The well-known wrong shuffle: each place swapped with any place."""
    result = batch.copy()
    for place in range(len(result)):
        other = random.randrange(len(result))
        result[place], result[other] = result[other], result[place]
    return result


def rotated(batch: list[bytes]) -> list[bytes]:
    start = random.randrange(len(batch))
    return batch[start:] + batch[:start]


FOUR = [version_entry(pointer(n)) for n in range(4)]
TWO_OF_ONE = [version_entry(pointer(0)), version_entry(pointer(0), 2), *FOUR[1:3]]
TWO_PAIRS = [version_entry(pointer(n % 2), 1 + n // 2) for n in range(4)]


@pytest.mark.parametrize(
    ("batch", "possible", "limit"),
    # The limits are the chi-square values that chance exceeds once in 10**9.
    [(FOUR, 24, 89.0), (TWO_OF_ONE, 12, 66.0), (TWO_PAIRS, 6, 51.0)],
    ids=["four pointers", "one pointer twice", "two pointers twice"],
)
def test_pr5_every_allowed_order_is_equally_frequent(batch, possible, limit):
    draws = 1_000 * possible
    found = chi_square(permuted, batch, draws)
    identity = chi_square(list, batch, draws)
    print(f"{possible} orders, {draws} draws: chi-square {found:.1f}, limit {limit}")
    assert found < limit < identity


@pytest.mark.parametrize("wrong", [list, swapped_anywhere, rotated])
def test_the_frequency_check_sees_a_wrong_shuffle(wrong):
    assert chi_square(wrong, FOUR, 24_000) > 89.0


def adjacent_pairs(places: list[int]) -> int:
    """How many neighbours in the pending order are neighbours in the log."""
    return sum(abs(a - b) == 1 for a, b in itertools.pairwise(places))


def rank_correlation(places: list[int]) -> float:
    count = len(places)
    squares = sum((place - leaf) ** 2 for place, leaf in enumerate(places))
    return 1 - 6 * squares / (count * (count**2 - 1))


def tells_the_subject(places: list[int], subject: range) -> dict[str, float]:
    """What somebody sees who knows when 100 records of one subject were put, in one row.

    Each number is about 0 or 1 when the places say nothing: how near the subject's leaves stand to
    each other, how far their mean lies from the middle (standard errors), how much of the pending
    order is left, and how many pending neighbours stayed together (2 on the average).
    """
    count = len(places)
    own = sorted(places[n] for n in subject)
    gaps = [b - a for a, b in itertools.pairwise(own)]
    n = len(own)
    error = ((count**2 - 1) / 12 / n * (count - n) / (count - 1)) ** 0.5
    return {
        "near": sum(gap <= 3 for gap in gaps) / (n * (1 - (1 - n / count) ** 3)),
        "off middle": abs(sum(own) / n - (count - 1) / 2) / error,
        "correlation": abs(rank_correlation(places)) * (count - 1) ** 0.5,
        "neighbours": adjacent_pairs(places) / 2,
    }


# Each exceeded by chance less than once in a million.
SUBJECT_LIMITS = {"near": 2.0, "off middle": 5.5, "correlation": 5.5, "neighbours": 8.0}


def exceeded(places: list[int], subject: range) -> list[str]:
    found = tells_the_subject(places, subject)
    return [name for name, value in found.items() if value > SUBJECT_LIMITS[name]]


def test_pr5_the_places_of_100_records_of_one_subject_say_nothing(ledger):
    put = [version_entry(pointer(n)) for n in range(1_000)]
    subject = range(200, 300)
    ledger.checkpoint(put)
    with ledger.read() as seen:
        places = [seen.leaves_of(entry[4:20])[0] for entry in put]
    assert sorted(places) == list(range(1_000))
    values = {name: round(v, 2) for name, v in tells_the_subject(places, subject).items()}
    print(f"100 of 1,000 records: {values}, limits {SUBJECT_LIMITS}")
    assert exceeded(places, subject) == []


def test_the_subject_check_sees_an_order_that_tells():
    """Controls: no shuffle, a reversal, a shuffle of blocks, a shuffle within blocks."""
    subject = range(200, 300)
    identity = list(range(1_000))
    blocks = [identity[start : start + 20] for start in range(0, 1_000, 20)]
    draws = random.Random(4)
    within = [n for block in blocks for n in draws.sample(block, len(block))]
    of_blocks = [n for block in draws.sample(blocks, len(blocks)) for n in block]
    caught = {
        name: exceeded(places, subject)
        for name, places in {
            "identity": identity,
            "reversed": identity[::-1],
            "within blocks": within,
            "of blocks": of_blocks,
        }.items()
    }
    print(caught)
    assert all(caught.values())
    assert "neighbours" in caught["of blocks"]


# Failures: a batch is there as a whole or not at all, and a second run comes out at one end.


def with_waiting(ledger: Ledger) -> list[bytes]:
    """300 signed leaves, and 250 entries that wait, among them later versions of leaves."""
    records = Records(seed=9)
    put = records.take(300)
    ledger.checkpoint(put)
    waiting = records.take(250)
    ledger.put(waiting)
    return put + waiting


def statements_of(ledger: Ledger) -> int:
    """How many statements one integration runs; nothing of it stays."""
    counted = []

    def listener(*_: object) -> None:
        counted.append(1)

    def fail(when: str) -> None:
        raise Injected(when)

    ledger.on_commit = fail
    event.listen(ledger.engine, "before_cursor_execute", listener)
    with pytest.raises(Injected):
        ledger.integrate()
    ledger.on_commit = lambda when: None
    event.remove(ledger.engine, "before_cursor_execute", listener)
    return len(counted)


def fail_at(moment: str, number: int):
    """A listener that fails at one statement, before or after it has run."""
    counted = itertools.count()

    def listener(*_: object) -> None:
        if next(counted) == number:
            raise Injected(f"{moment} {number}")

    return listener


def test_an_error_at_any_statement_leaves_nothing_of_the_batch(ledger):
    put = with_waiting(ledger)
    before = ledger.dump()
    total = statements_of(ledger)
    for moment in ("before_cursor_execute", "after_cursor_execute"):
        for number in range(total):
            listener = fail_at(moment, number)
            event.listen(ledger.engine, moment, listener)
            with pytest.raises(Injected):
                ledger.integrate()
            event.remove(ledger.engine, moment, listener)
            assert ledger.dump() == before, (moment, number)
    print(f"{2 * total} failed statements, each left the database as it was")
    assert total >= 8
    assert ledger.faults() == []
    ledger.checkpoint()
    require_one_tree(ledger, put)


@pytest.mark.parametrize("step", ["_write_tiles", "_write_bundles", "_move_head"])
def test_an_error_after_a_step_leaves_nothing_of_the_batch(ledger, monkeypatch, step):
    put = with_waiting(ledger)
    before = ledger.dump()
    real = getattr(integrator, step)

    def failing(*arguments: object) -> None:
        real(*arguments)
        raise Injected(step)

    with monkeypatch.context() as patch:
        patch.setattr(integrator, step, failing)
        with pytest.raises(Injected):
            ledger.integrate()
    assert ledger.dump() == before
    ledger.checkpoint()
    require_one_tree(ledger, put)


@pytest.mark.parametrize(
    ("moment", "leaves"), [("before", 300), ("after", 550)], ids=["not persisted", "persisted"]
)
def test_a_commit_that_failed_or_was_only_reported_failed(ledger, moment, leaves):
    put = with_waiting(ledger)

    def fail(when: str) -> None:
        if when == moment:
            raise Injected(when)

    ledger.on_commit = fail
    with pytest.raises(Injected):
        ledger.integrate()
    ledger.on_commit = lambda when: None
    assert len(ledger.entries()) == leaves
    assert len(ledger.entries()) + len(ledger.pending()) == 550
    assert ledger.faults() == []

    assert ledger.integrate() == 550 - leaves
    note = ledger.sign()
    entries = require_one_tree(ledger, put)
    assert off_history([note], entries) == []
    assert checkpoint_of(note).size == 550


STEPS_PATH = Path("steps")


def checkpoint_in_a_child(folder: Path, die_at: int) -> tuple[int, int]:
    """Integrate and sign in a child that dies by SIGKILL at a step.

    A step is before and after each statement that is no SELECT, each commit, each fsync and each
    rename. Returns the child's exit status and how many steps it reached.
    """
    steps = folder / STEPS_PATH
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return status, steps.stat().st_size
    try:
        counter = os.open(steps, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        reached = itertools.count(1)

        def step(*_: object) -> None:
            os.write(counter, b".")
            if next(reached) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def write_step(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if not statement.startswith("SELECT"):
                step()

        def around(function):
            def wrapped(*arguments, **named):
                step()
                result = function(*arguments, **named)
                step()
                return result

            return wrapped

        os.fsync = around(os.fsync)
        Path.replace = around(Path.replace)
        ledger = Ledger(folder, new=False)
        ledger.on_commit = step
        for moment in ("before_cursor_execute", "after_cursor_execute"):
            event.listen(ledger.engine, moment, write_step)
        ledger.checkpoint()
        os._exit(0)
    finally:
        os._exit(1)


def test_p5_kill_at_every_step_then_run_again(tmp_path):
    """All of a batch or nothing of it, and one history whatever the step at which it died."""
    base = tmp_path / "base"
    base.mkdir()
    with Ledger(base) as ledger:
        put = with_waiting(ledger)
        first = ledger.sign()
    outcomes: Counter[str] = Counter()
    for die_at in itertools.count(1):
        folder = tmp_path / f"died-{die_at}"
        shutil.copytree(base, folder)
        status, reached = checkpoint_in_a_child(folder, die_at)
        killed = os.WIFSIGNALED(status)
        assert killed or os.waitstatus_to_exitcode(status) == 0
        assert (reached == die_at) == killed
        with Ledger(folder, new=False) as ledger:
            leaves = len(ledger.entries())
            assert leaves in (300, 550)
            assert leaves + len(ledger.pending()) == 550
            assert ledger.faults() == []
            remembered, signed = ledger.signer.memory.last()
            with ledger.read() as seen:
                stored = [size for size, _ in seen.checkpoints()]
            outcomes[f"{leaves} leaves, {signed.size} signed, {stored[-1]} stored"] += 1
            again = ledger.checkpoint()
            entries = require_one_tree(ledger, put)
            assert off_history([first, remembered, again], entries) == []
            assert checkpoint_of(again).size == 550
            with ledger.read() as seen:
                assert [size for size, _ in seen.checkpoints()] == [300, 550]
                assert seen.latest_checkpoint() == again == ledger.signer.memory.last()[0]
        shutil.rmtree(folder)
        if not killed:
            break
    print(f"killed at {die_at - 1} steps: {dict(outcomes)}")
    assert set(outcomes) == {
        "300 leaves, 300 signed, 300 stored",
        "550 leaves, 300 signed, 300 stored",
        "550 leaves, 550 signed, 300 stored",
        "550 leaves, 550 signed, 550 stored",
    }


def test_er9_an_erasure_stays_behind_the_versions_it_erases(ledger):
    """However the batch is permuted, nothing of a record follows its erasure entry."""
    put = []
    for number in range(200):
        of = pointer(number)
        put += [version_entry(of), version_entry(of, 2), erasure_entry(of, 2)]
    ledger.checkpoint(put)
    require_one_tree(ledger, put)
