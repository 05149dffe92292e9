"""Replaying: a log is verified before use, and an older database reaches the published tree."""

import itertools
import random
import shutil
import tracemalloc
from collections import Counter

import pytest
from ledger_fixtures import (
    KEY,
    ORIGIN,
    OTHER_KEY,
    SIGNED_AT,
    Injected,
    Ledger,
    NaiveTree,
    Records,
    log_keys,
    pointer,
    version_entry,
)
from published_logs import (
    MemorySource,
    bundle_of,
    expected_files,
    memory_log,
    publish,
    signed_checkpoint,
)
from sqlalchemy import event

from ledger import integrator, replay
from ledger.errors import (
    BadPublication,
    BadSignature,
    Forked,
    LedgerError,
    Malformed,
    RolledBack,
    SourceMissing,
    SourceUnreachable,
)
from ledger.log import append_pending
from ledger.replay import PublishedLog, extend, read_entries, replay_onto
from ledger.source import FolderSource

KEYS = log_keys()
ENTRIES = Records(seed=31, every_kind=True).take(600)


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "ledger").mkdir()
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def published() -> PublishedLog:
    return read_entries(memory_log(ENTRIES), KEYS)


def append(ledger: Ledger, entries: list[bytes]) -> None:
    with ledger.write() as connection:
        assert extend(connection, entries) == len(entries)


def replayed(ledger: Ledger, published: PublishedLog) -> int:
    with ledger.write() as connection:
        return replay_onto(connection, published, SIGNED_AT)


def put_back(ledger: Ledger, tables: dict[str, list[tuple[object, ...]]]) -> None:
    with ledger.write() as connection:
        for table, rows in tables.items():
            connection.exec_driver_sql(f"DELETE FROM {table}")
            if rows:
                places = ", ".join("?" * len(rows[0]))
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({places})", rows)


def tree_rows(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows for name, rows in ledger.dump().items() if name != "ledger_pending"}


# Reading


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 600])
def test_the_entries_are_those_that_were_published(size):
    source = memory_log(ENTRIES[:size])
    found = read_entries(source, KEYS)
    assert (found.size, found.checkpoint.origin) == (size, ORIGIN)
    assert found.note.format().encode() == source.files["checkpoint"]
    assert list(found.entries()) == ENTRIES[:size]
    assert list(found.faults()) == []
    # Each bundle and the checkpoint were asked for, and no tile was needed.
    wanted = {path for path in source.files if not path.startswith(("tile/0", "tile/1"))}
    fresh = memory_log(ENTRIES[:size])
    read_entries(fresh, KEYS)
    assert set(fresh.reads) == wanted


def test_every_root_and_every_start(published):
    tree = NaiveTree(ENTRIES)
    for size in range(601):
        assert published.root(size) == tree.root(size)
        assert list(itertools.islice(published.entries(size), 3)) == ENTRIES[size : size + 3]
    assert list(published.entries(300)) == ENTRIES[300:]
    assert list(published.entries(10**9)) == []
    for size in (-1, 601):
        with pytest.raises(ValueError, match=r"no .* leaves"):
            published.root(size)


def test_tiles_of_three_levels_are_checked():
    entries = [version_entry(pointer(n)) for n in range(65_800)]
    source = memory_log(entries)
    found = read_entries(source, KEYS)
    tree = NaiveTree(entries)
    for size in (65_535, 65_536, 65_537, 65_800, 40_000, 512):
        assert found.root(size) == tree.root(size)
    assert list(found.faults()) == []
    data = source.files["tile/2/000.p/1"]
    source.files["tile/2/000.p/1"] = data[:-1] + bytes([data[-1] ^ 1])
    del source.files["tile/1/000"]
    assert [str(fault) for fault in found.faults()] == [
        "tile/1/000: is missing",
        "tile/2/000.p/1: is not the tile of the published entries",
    ]


def test_memory_does_not_grow_with_the_log():
    """Peak while reading 4 and 40 bundles: what remains is one root for each."""

    class Endless(MemorySource):
        """Bundles that are made when they are asked for."""

        def read(self, path: str) -> bytes:
            if path == "checkpoint":
                return super().read(path)
            number = int(path.rpartition("/")[2])
            return bundle_of([version_entry(pointer(256 * number + n)) for n in range(256)])

    peaks = {}
    for bundles in (4, 40):
        entries = [version_entry(pointer(n)) for n in range(256 * bundles)]
        note = signed_checkpoint(len(entries), NaiveTree(entries).root(len(entries)))
        del entries
        source = Endless({"checkpoint": note.format().encode()})
        tracemalloc.start()
        for _ in read_entries(source, KEYS).entries():
            pass
        peaks[bundles] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print(f"peak bytes by bundles: {peaks}")
    assert peaks[40] < peaks[4] + 40 * 1_000


# What is refused


def reading_of(source: MemorySource, entries: list[bytes]) -> str:
    """What becomes of reading a log to its end: the error, the faults, or nothing."""
    try:
        found = read_entries(source, KEYS)
        handed = list(found.entries())
        faults = list(found.faults())
    except LedgerError as error:
        return type(error).__name__
    assert handed == entries
    assert found.root(found.size) == NaiveTree(entries).root(len(entries))
    return "a fault named" if faults else "accepted"


def test_every_flipped_bit_of_every_published_file_is_refused():
    entries = ENTRIES[:15]
    source = memory_log(entries)
    outcomes: dict[str, Counter[str]] = {}
    for path, data in list(source.files.items()):
        counted = outcomes.setdefault(path, Counter())
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            source.files[path] = bytes(changed)
            counted[reading_of(source, entries)] += 1
        source.files[path] = data
    total = sum(counted.total() for counted in outcomes.values())
    print(f"{total} flips: { ({path: dict(counted) for path, counted in outcomes.items()}) }")
    assert total == 8 * sum(map(len, source.files.values()))
    assert set(outcomes["checkpoint"]) == {"Malformed", "BadSignature"}
    assert set(outcomes["tile/entries/000.p/15"]) == {"BadPublication"}
    assert set(outcomes["tile/0/000.p/15"]) == {"a fault named"}
    assert reading_of(source, entries) == "accepted"


def test_control_without_the_root_flipped_entries_are_accepted(monkeypatch):
    source = memory_log(ENTRIES[:40])
    path = "tile/entries/000.p/40"
    source.files[path] = source.files[path][:-1] + b"\x00"
    assert reading_of(source, ENTRIES[:40]) == "BadPublication"
    monkeypatch.setattr(replay.hmac, "compare_digest", lambda one, other: True)
    handed = list(read_entries(source, KEYS).entries())
    assert handed != ENTRIES[:40]


def test_damaged_files_of_a_larger_log_are_refused():
    source = memory_log(ENTRIES)
    draws, outcomes = random.Random(3), Counter()
    for path, data in list(source.files.items()):
        others = [source.files[other] for other in source.files if other != path]
        cuts = [data[:-1], data[1:], b"", data + b"\x00", data * 2, data[: len(data) // 2]]
        for _ in range(60):
            place = draws.randrange(len(data))
            flipped = bytes([data[place] ^ 1 << draws.randrange(8)])
            cuts.append(data[:place] + flipped + data[place + 1 :])
        for changed in cuts + others:
            source.files[path] = changed
            outcomes[reading_of(source, ENTRIES)] += 1
        del source.files[path]
        outcomes[reading_of(source, ENTRIES)] += 1
        source.files[path] = data
    print(f"{outcomes.total()} damaged files: {dict(outcomes)}")
    assert outcomes["accepted"] == 0
    assert reading_of(source, ENTRIES) == "accepted"


def test_another_key_is_a_bad_signature():
    source = memory_log(ENTRIES[:3], key=OTHER_KEY)
    with pytest.raises(BadSignature):
        read_entries(source, KEYS)


def test_a_signed_text_that_is_no_checkpoint():
    note = signed_checkpoint(1, bytes(32))
    text = note.text + "an extension line\n"
    signed = type(note)(text, (replay_sign(text),))
    with pytest.raises(Malformed):
        read_entries(MemorySource({"checkpoint": signed.format().encode()}), KEYS)


def replay_sign(text: str):
    from ledger.note import sign

    return sign(text, ORIGIN, KEY)


def test_an_entry_is_handed_out_only_from_a_bundle_that_is_still_what_was_verified():
    """The source changes after the first reading: each bundle, by one byte of its last entry."""
    for number, path in enumerate(
        ["tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"]
    ):
        source = memory_log(ENTRIES)
        found = read_entries(source, KEYS)
        data = source.files[path]
        source.files[path] = data[:-1] + bytes([data[-1] ^ 1])
        handed = []
        with pytest.raises(BadPublication, match="changed after it was verified") as caught:
            handed.extend(found.entries())
        assert caught.value.path == path
        handed = list(itertools.islice(found.entries(), 256 * number))
        assert handed == ENTRIES[: 256 * number]
        with pytest.raises(BadPublication):
            found.root(256 * number + 1)
        source.files[path] = data
        assert list(found.entries()) == ENTRIES


def test_a_partial_bundle_that_has_grown_full_meanwhile(tmp_path, ledger):
    """A reader with an older checkpoint finds the partial files gone and the full ones there."""
    records = Records(seed=33)
    ledger.checkpoint(records.take(200))
    publish(ledger, tmp_path / "log")
    found = read_entries(FolderSource(tmp_path / "log"), KEYS)
    old = (tmp_path / "log" / "checkpoint").read_bytes()
    ledger.checkpoint(records.take(100))
    assert publish(ledger, tmp_path / "log").removed == 2
    assert list(found.entries()) == ledger.entries()[:200]
    (tmp_path / "log" / "checkpoint").write_bytes(old)
    again = read_entries(FolderSource(tmp_path / "log"), KEYS)
    assert list(again.entries()) == ledger.entries()[:200]
    # The full bundle is refused as well when it is not what the older checkpoint covers.
    path = tmp_path / "log" / "tile/entries/000"
    whole = path.read_bytes()
    path.write_bytes(whole[:9] + b"\xff" + whole[10:])
    with pytest.raises(BadPublication):
        read_entries(FolderSource(tmp_path / "log"), KEYS)
    # The order of a batch is random, so the last entry of the bundle is of any kind.
    path.write_bytes(whole[: -2 - len(ledger.entries()[255])])
    with pytest.raises(BadPublication, match="holds 255 entries, not 256") as caught:
        read_entries(FolderSource(tmp_path / "log"), KEYS)
    assert caught.value.path == "tile/entries/000"


# Onto a database


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tables of a database that has all 300 leaves."""
    with Ledger(tmp_path_factory.mktemp("whole")) as ledger:
        append(ledger, ENTRIES[:300])
        note = ledger.sign()
        yield tree_rows(ledger), note, ledger.signer_folder


def test_every_prefix_reaches_the_same_tree(ledger, whole):
    """Every size to 300: the same rows in every table, and a ledger that fsck finds sound."""
    rows, note, signer_folder = whole
    assert note.text == signed_checkpoint(300, NaiveTree(ENTRIES[:300]).root(300)).text
    published = read_entries(MemorySource(expected_files(ENTRIES[:300], note)), KEYS)
    shutil.copytree(signer_folder, ledger.signer_folder, dirs_exist_ok=True)
    empty = ledger.dump()
    for size in range(301):
        put_back(ledger, empty)
        append(ledger, ENTRIES[:size])
        assert ledger.entries() == ENTRIES[:size]
        assert replayed(ledger, published) == 300 - size
        assert tree_rows(ledger) == rows
        assert ledger.faults() == []
        assert replayed(ledger, published) == 0
    assert tree_rows(ledger) == rows
    assert ledger.sign() == note
    print("301 databases of 0 to 300 leaves reached the published tree, 0 faults")


def test_er6_a_restored_database_signs_again_after_the_replay(tmp_path):
    """The older copy refuses to sign; after the replay it goes on where the log had come to."""
    records = Records(seed=35, every_kind=True)
    (tmp_path / "live").mkdir()
    with Ledger(tmp_path / "live") as live:
        live.checkpoint(records.take(150))
        live.put(waiting := records.take(20))
        live.engine.dispose()
        shutil.copytree(tmp_path / "live", tmp_path / "restored")
        live.integrate()
        live.checkpoint(records.take(400))
        publish(live, tmp_path / "log")
        last = live.signer.memory.last()[0]
        entries = live.entries()
        shutil.rmtree(tmp_path / "restored" / "signer")
        shutil.copytree(live.signer_folder, tmp_path / "restored" / "signer")
    with Ledger(tmp_path / "restored", new=False) as restored:
        with pytest.raises(RolledBack):
            restored.sign()
        found = read_entries(FolderSource(tmp_path / "log"), KEYS)
        assert replayed(restored, found) == 420
        assert restored.entries() == entries
        assert (restored.pending(), len(waiting)) == ([], 20)
        assert restored.sign() == last
        assert restored.faults() == []
        restored.checkpoint(records.take(50))
        assert restored.faults() == []
        assert publish(restored, tmp_path / "log").size == 620


@pytest.mark.parametrize("batch", [1, 7, 255, 256, 257, 65_536])
def test_batches_do_not_change_the_tree(tmp_path, ledger, published, monkeypatch, batch):
    monkeypatch.setattr(replay, "BATCH_ENTRIES", batch)
    append(ledger, ENTRIES[:100])
    assert replayed(ledger, published) == 500
    assert ledger.entries() == ENTRIES
    ledger.signer.memory.remember(published.note)
    assert ledger.faults() == []


# What waits


def test_what_the_published_log_has_waits_no_longer(ledger, published):
    """Entries that wait and are among the leaves that came go; the others stay, in their order."""
    of_others = [version_entry(pointer(1 << 70 | n)) for n in range(3)]
    append(ledger, ENTRIES[:100])
    waiting = [of_others[0], ENTRIES[350], of_others[1], ENTRIES[120], ENTRIES[599], of_others[2]]
    ledger.put(waiting)
    replayed(ledger, published)
    assert ledger.pending() == of_others
    ledger.checkpoint()
    assert Counter(ledger.entries()) == Counter(ENTRIES + of_others)
    ledger.signer.memory.remember(ledger.sign())
    assert ledger.faults() == []


def test_each_leaf_takes_one_waiting_entry_the_oldest(ledger):
    """Equal bytes more than once, in the log and among what waits: each counts once."""
    one, two = version_entry(pointer(1)), version_entry(pointer(2))
    source = memory_log([one, two, one])
    append(ledger, [one])
    ledger.put([one, two, two, one, one])
    with ledger.read() as log:
        rows = "SELECT id FROM ledger_pending ORDER BY id"
        numbers = [row[0] for row in log.connection.exec_driver_sql(rows)]
    assert replayed(ledger, read_entries(source, KEYS)) == 2
    # The first leaf was there before: only the two that came are taken out.
    assert ledger.pending() == [two, one, one]
    left = [row[0] for row in ledger.sql("SELECT id FROM ledger_pending ORDER BY id")]
    assert left == numbers[2:]


def test_a_replay_that_adds_nothing_takes_nothing_out(ledger):
    one = version_entry(pointer(1))
    append(ledger, [one])
    ledger.put([one])
    assert replayed(ledger, read_entries(memory_log([one]), KEYS)) == 0
    assert ledger.pending() == [one]


def test_extending_keeps_the_order_given(ledger):
    """A generator, more than a bundle, and nothing of it is permuted."""
    assert ledger.put(ENTRIES[10:20]) is None
    with ledger.write() as connection:
        assert extend(connection, iter(ENTRIES)) == 600
        assert extend(connection, []) == 0
    assert ledger.entries() == ENTRIES
    assert ledger.pending() == []


def test_an_entry_that_this_version_does_not_know_is_not_appended(ledger):
    before = ledger.dump()
    later = b"\x02" + ENTRIES[0][1:]
    for entries in ([later], [*ENTRIES[:3], later], [b""]):
        with pytest.raises(Malformed), ledger.write() as connection:
            extend(connection, entries)
        assert ledger.dump() == before
    with pytest.raises(Malformed):
        replayed(ledger, read_entries(memory_log([ENTRIES[0], later]), KEYS))
    assert ledger.dump() == before


# Forks


def test_a_database_that_is_ahead_gets_the_note_alone(ledger):
    append(ledger, ENTRIES)
    ledger.put([ENTRIES[5]])
    before = tree_rows(ledger)
    published = read_entries(memory_log(ENTRIES[:300]), KEYS)
    assert replayed(ledger, published) == 0
    after = tree_rows(ledger)
    assert after.pop("ledger_checkpoint") == [(300, published.note.format(), SIGNED_AT)]
    before.pop("ledger_checkpoint")
    assert after == before
    assert ledger.pending() == [ENTRIES[5]]


def changed_at(place: int) -> list[bytes]:
    return [*ENTRIES[:place], version_entry(pointer(1 << 80)), *ENTRIES[place + 1 :]]


@pytest.mark.parametrize("place", [0, 1, 255, 256, 298, 299])
@pytest.mark.parametrize("size", [300, 600])
def test_another_history_is_a_fork(ledger, place, size):
    """The database differs in one leaf, and is shorter than, or as long as, or ahead of the log."""
    append(ledger, changed_at(place)[:300])
    before = ledger.dump()
    with pytest.raises(Forked) as caught:
        replayed(ledger, read_entries(memory_log(ENTRIES[:size]), KEYS))
    assert caught.value.signed == size
    assert ledger.dump() == before
    append(ledger, ENTRIES[300:])
    before = ledger.dump()
    with pytest.raises(Forked):
        replayed(ledger, read_entries(memory_log(ENTRIES[:size]), KEYS))
    assert ledger.dump() == before


def test_two_entries_in_another_order_are_a_fork(ledger, published):
    append(ledger, [ENTRIES[1], ENTRIES[0], *ENTRIES[2:50]])
    with pytest.raises(Forked):
        replayed(ledger, published)


def test_another_log_is_a_fork_also_for_an_empty_database(ledger):
    other = memory_log(ENTRIES[:5], origin="datakluis.example/elders")
    with pytest.raises(Forked):
        replayed(ledger, read_entries(other, KEYS))
    assert ledger.entries() == []


@pytest.mark.parametrize("statement", [
    "UPDATE ledger_head SET root = zeroblob(32)",
    "UPDATE ledger_head SET size = 299",
    "UPDATE ledger_head SET size = 301",
    "DELETE FROM ledger_tile WHERE level = 0 AND number = 1",
    "DELETE FROM ledger_tile WHERE level = 1",
    "UPDATE ledger_tile SET hashes = zeroblob(44 * 32) WHERE level = 0 AND number = 1",
    "UPDATE ledger_tile SET hashes = zeroblob(32) WHERE level = 1",
    "UPDATE ledger_tile SET hashes = substr(hashes, 1, 32) WHERE level = 0 AND number = 1",
])  # fmt: skip
def test_a_damaged_database_is_not_extended(ledger, published, statement):
    append(ledger, ENTRIES[:300])
    ledger.sql(statement)
    before = ledger.dump()
    with pytest.raises(Forked):
        replayed(ledger, published)
    assert ledger.dump() == before


def test_a_database_without_its_last_bundle_is_not_extended(ledger, published):
    append(ledger, ENTRIES[:300])
    ledger.sql("DELETE FROM ledger_bundle WHERE number = 1")
    before = ledger.dump()
    with pytest.raises(LedgerError):
        replayed(ledger, published)
    assert ledger.dump() == before


def test_control_without_the_prefix_check_a_fork_stops_at_the_root(ledger, published, monkeypatch):
    """Also then nothing is kept: the tree that came out is not the signed one."""
    monkeypatch.setattr(replay, "_require_prefix", lambda *_: None)
    append(ledger, changed_at(7)[:300])
    before = ledger.dump()
    with pytest.raises(Forked):
        replayed(ledger, published)
    assert ledger.dump() == before


# Failures


class Breaking(MemorySource):
    """A source that fails at one of its reads, and works again after it."""

    fail_at: int | None = None

    def read(self, path: str) -> bytes:
        if len(self.reads) == self.fail_at:
            self.reads.append(path)
            raise SourceUnreachable(path, "the line is cut")
        return super().read(path)


def test_a_source_that_breaks_off_leaves_the_database_as_it_was(ledger):
    source = Breaking(memory_log(ENTRIES).files)
    append(ledger, ENTRIES[:100])
    ledger.put([ENTRIES[200]])
    before = ledger.dump()
    failed = 0
    for source.fail_at in itertools.count():
        source.reads.clear()
        try:
            replayed(ledger, read_entries(source, KEYS))
        except SourceUnreachable:
            failed += 1
            assert ledger.dump() == before
        else:
            break
    print(f"broken off at {failed} reads, each left the database as it was")
    assert failed >= 8
    assert ledger.entries() == ENTRIES


def test_a_source_that_loses_a_file_between_the_two_passes(ledger):
    source = memory_log(ENTRIES)
    found = read_entries(source, KEYS)
    del source.files["tile/entries/001"]
    before = ledger.dump()
    with pytest.raises(SourceMissing):
        replayed(ledger, found)
    assert ledger.dump() == before


def test_a_source_that_changes_between_the_two_passes(ledger):
    source = memory_log(ENTRIES)
    found = read_entries(source, KEYS)
    source.files["tile/entries/001"] = memory_log(changed_at(300)).files["tile/entries/001"]
    before = ledger.dump()
    with pytest.raises(BadPublication):
        replayed(ledger, found)
    assert ledger.dump() == before


def test_p5_an_error_at_any_statement_leaves_nothing_of_the_replay(ledger, published):
    append(ledger, ENTRIES[:250])
    ledger.put([ENTRIES[400], version_entry(pointer(1 << 71))])
    before = ledger.dump()
    for moment in ("before_cursor_execute", "after_cursor_execute"):
        for number in itertools.count():
            counted = itertools.count()

            def listener(*_: object, counted=counted, number=number) -> None:
                if next(counted) == number:
                    raise Injected(str(number))

            event.listen(ledger.engine, moment, listener)
            try:
                replayed(ledger, published)
            except Injected:
                assert dump_without(ledger, moment, listener) == before
            else:
                event.remove(ledger.engine, moment, listener)
                break
        print(f"{moment}: {number} statements, each left the database as it was")
        assert number > 8
        assert ledger.entries() == ENTRIES
        put_back(ledger, before)
        assert ledger.dump() == before


def dump_without(ledger: Ledger, moment: str, listener) -> dict:
    event.remove(ledger.engine, moment, listener)
    return ledger.dump()


def test_replaying_and_integrating_share_the_one_place_that_writes_leaves(ledger, monkeypatch):
    calls = []
    real = integrator.append_leaves

    def counted(connection, entries):
        calls.append(len(entries))
        real(connection, entries)

    monkeypatch.setattr(integrator, "append_leaves", counted)
    monkeypatch.setattr(replay, "append_leaves", counted)
    append(ledger, ENTRIES[:3])
    with ledger.write() as connection:
        append_pending(connection, ENTRIES[3:5])
    ledger.integrate()
    assert calls == [3, 2]
