"""The signer: whatever happens to the database or to the signer, there is one signed history."""

import multiprocessing
import os
import random
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path

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
    checkpoint_of,
    log_keys,
    off_history,
    pointer,
    private_keys,
    signer_of,
    version_entry,
)

from ledger.checkpoint import Checkpoint
from ledger.errors import Forked, LedgerError, RolledBack, SignerStateLost
from ledger.log import Head, Log
from ledger.note import Note, sign
from ledger.signer import LAST_CHECKPOINT, SignerMemory, store_checkpoint


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def signed(ledger):
    """A log of 300 leaves, signed at 100, 200 and 300."""
    records = Records(seed=21)
    for _ in range(3):
        ledger.checkpoint(records.take(100))
    return ledger


def memory_file(ledger: Ledger) -> Path:
    return ledger.signer_folder / LAST_CHECKPOINT


def save(ledger: Ledger, name: str) -> None:
    """Keep a copy of the database, as a backup does; the signer's folder is in no backup."""
    ledger.engine.dispose()
    shutil.copy(ledger.folder / "ledger.db", ledger.folder / name)


def restore(ledger: Ledger, name: str) -> None:
    ledger.engine.dispose()
    shutil.copy(ledger.folder / name, ledger.folder / "ledger.db")


def refuses(ledger: Ledger, error: type[LedgerError]) -> LedgerError:
    """Signing fails with this error, and neither memory nor database change."""
    remembered = memory_file(ledger).read_bytes() if memory_file(ledger).is_file() else None
    before = ledger.dump()
    with pytest.raises(error) as caught:
        ledger.sign()
    assert type(caught.value) is error
    assert ledger.dump() == before
    if remembered is not None:
        assert memory_file(ledger).read_bytes() == remembered
    return caught.value


def test_a_new_signer_remembers_the_empty_tree(ledger):
    note, checkpoint = ledger.signer.memory.last()
    assert checkpoint == Checkpoint(ORIGIN, 0, NaiveTree([]).root(0))
    assert checkpoint_of(note) == checkpoint
    assert ledger.sign() == note


def test_the_same_head_gets_the_very_same_note(signed):
    note = signed.sign()
    written = memory_file(signed).stat()
    assert checkpoint_of(note).size == 300
    assert signed.sign() == note
    assert memory_file(signed).read_bytes() == note.format().encode()
    assert memory_file(signed).stat() == written, "nothing new was signed, so nothing is written"
    signed.sql("DELETE FROM ledger_checkpoint")
    with Ledger(signed.folder, new=False) as again:
        assert again.sign().format() == note.format()
        with again.read() as seen:
            assert seen.checkpoints() == [(300, note.format())]
    assert signed.faults() == []


def test_a_larger_head_gets_a_new_note_on_the_same_history(signed):
    notes = [signed.sign()]
    for number in range(5):
        notes.append(signed.checkpoint([version_entry(pointer(number))]))
    assert [checkpoint_of(note).size for note in notes] == [300, 301, 302, 303, 304, 305]
    assert off_history(notes, signed.entries()) == []


def test_a_signer_does_not_show_its_key(ledger):
    assert repr(ledger.signer) == "Signer()"
    for one in private_keys():
        assert bytes(KEY).hex() not in repr(one)
        assert str(bytes(KEY)) not in repr(one)


# A database that is not the one that was signed.


def test_an_older_copy_is_rolled_back(ledger):
    records = Records(seed=22)
    ledger.checkpoint(records.take(200))
    save(ledger, "backup")
    ledger.checkpoint(records.take(100))
    restore(ledger, "backup")
    error = refuses(ledger, RolledBack)
    assert (error.signed, error.present) == (300, 200)
    assert "300" in str(error)
    assert "200" in str(error)
    assert ledger.wheres() == ["signer"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [(99, RolledBack), (100, Forked), (101, Forked), (356, Forked)],
    ids=["still smaller", "same size", "one larger", "larger by a tile"],
)
def test_an_older_copy_that_went_on_differently_is_no_way_round(ledger, other, expected):
    """A restored copy of 200 leaves that took other entries never becomes a second history."""
    records = Records(seed=23, later_share=0)
    ledger.checkpoint(records.take(200))
    save(ledger, "backup")
    first = ledger.checkpoint(records.take(100))
    restore(ledger, "backup")
    ledger.put([version_entry(pointer(n)) for n in range(other)])
    ledger.integrate()
    error = refuses(ledger, expected)
    assert error.signed == 300

    # Control: a signer that forgot would have signed both, and the two contradict each other.
    with ledger.read() as seen:
        forgetful = signer_of(ledger.folder / "forgetful")
        (ledger.folder / "forgetful").mkdir()
        forgetful.begin(Checkpoint(ORIGIN, 0, NaiveTree([]).root(0)))
        second, _ = forgetful.sign_head(seen)
    assert off_history([second], ledger.entries()) == []
    assert off_history([first, second], ledger.entries()) == [300]


def test_the_newest_copy_brings_the_signer_back(ledger):
    records = Records(seed=24)
    ledger.checkpoint(records.take(200))
    save(ledger, "backup")
    newest = ledger.checkpoint(records.take(100))
    save(ledger, "newest")
    restore(ledger, "backup")
    refuses(ledger, RolledBack)
    restore(ledger, "newest")
    assert ledger.sign() == newest
    assert ledger.faults() == []


def test_another_origin_is_a_fork(signed):
    signed.sql("UPDATE ledger_head SET origin = 'datakluis.example/elders'")
    assert refuses(signed, Forked).signed == 300


@pytest.mark.parametrize("more", [0, 1, 300])
def test_a_head_whose_root_is_not_that_of_its_tree_is_not_signed(signed, more):
    """Also when the tree has grown: a wrong root in the new head would be a second history."""
    if more:
        signed.put([version_entry(pointer(n)) for n in range(more)])
        signed.integrate()
    signed.sql("UPDATE ledger_head SET root = ?", b"\x5a" * 32)
    refuses(signed, Forked)


def test_the_first_checkpoint_too_states_the_root_of_its_tree(ledger):
    ledger.put([version_entry(pointer(0))])
    ledger.integrate()
    ledger.sql("UPDATE ledger_head SET root = ?", b"\x5a" * 32)
    refuses(ledger, Forked)


def test_a_tile_under_the_signed_tree_that_changed_is_seen_though_the_new_root_does_not_read_it(
    ledger,
):
    """128 signed leaves are half of tile 0; the tree of 300 reads their hash on the level above."""
    ledger.checkpoint([version_entry(pointer(n)) for n in range(128)])
    ledger.put([version_entry(pointer(n)) for n in range(128, 300)])
    ledger.integrate()
    with ledger.read() as seen:
        tile = seen.tile(0, 0)
    ledger.sql(
        "UPDATE ledger_tile SET hashes = ? WHERE level = 0 AND number = 0", bytes(32) + tile[32:]
    )
    assert refuses(ledger, Forked).signed == 128


def test_other_entries_behind_untouched_tiles_are_not_signed(ledger):
    """Who may write to the database forges what the old root does not read, but the new one does.

    200 signed leaves lie in tile 0 at level 0. The forged tree has other leaves there; tile 0 stays
    as it was, so it gives the signed root still, while level 1 and the head are the forged tree's.
    """
    true = [version_entry(pointer(n)) for n in range(300)]
    ledger.checkpoint(true[:200])
    true_leaves = ledger.entries()
    ledger.put(true[200:])
    ledger.integrate()
    leaves = [version_entry(pointer(n), 7) for n in range(200)] + ledger.entries()[200:]
    forged = NaiveTree(leaves)
    ledger.sql("UPDATE ledger_tile SET hashes = ? WHERE level = 1", forged.tile(1, 0, 300))
    ledger.sql("UPDATE ledger_head SET root = ?", forged.root(300))
    with ledger.read() as seen:
        assert seen.root(200) == NaiveTree(true_leaves).root(200)
        assert seen.root(300) == seen.head().root == forged.root(300)
    refuses(ledger, Forked)


@pytest.mark.parametrize("seed", range(4))
def test_random_restores_never_give_two_histories(ledger, seed):
    """Growth, signatures, backups and restores in any order: each two notes agree."""
    draws = random.Random(seed)
    records = Records(seed=700 + seed, later_share=0)
    signed: list[tuple[Note, list[bytes]]] = []
    refused = saved = 0
    for _ in range(120):
        action = draws.choice(["grow", "grow", "sign", "sign", "save", "save", "restore"])
        if action == "grow":
            ledger.put(records.take(draws.choice([1, 3, 60])))
            ledger.integrate()
        elif action == "sign":
            try:
                signed.append((ledger.sign(), ledger.entries()))
                save(ledger, "newest")
            except (RolledBack, Forked):
                refused += 1
                if signed and draws.random() < 0.5:
                    restore(ledger, "newest")
        elif action == "save":
            save(ledger, f"backup-{saved}")
            saved += 1
        elif saved:
            age = min(int(draws.expovariate(0.7)), saved - 1)
            restore(ledger, f"backup-{saved - 1 - age}")
    longest = max((entries for _, entries in signed), key=len)
    print(f"{len(signed)} notes, {refused} refusals, {saved} backups, {len(longest)} leaves")
    assert refused
    assert off_history([note for note, _ in signed], longest) == []


# The signer's own memory.


def loses(ledger: Ledger, content: bytes | None) -> None:
    """With this in place of its last checkpoint, the signer refuses."""
    path = memory_file(ledger)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SignerStateLost, match=LAST_CHECKPOINT):
        ledger.signer.memory.last()


def test_a_byte_flipped_anywhere_in_the_memory_is_seen(signed):
    whole = memory_file(signed).read_bytes()
    flipped = 0
    # All bits up to the long signature, and one bit of each byte of that.
    for place in range(len(whole)):
        for bit in range(8) if place < 350 else (place % 8,):
            loses(signed, whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            flipped += 1
        if place % 100 == 0:
            refuses(signed, SignerStateLost)
    print(f"{flipped} flipped bits, none passed")
    memory_file(signed).write_bytes(whole)
    assert checkpoint_of(signed.sign()).size == 300


def test_a_memory_cut_short_anywhere_is_seen(signed):
    whole = memory_file(signed).read_bytes()
    for length in range(len(whole)):
        loses(signed, whole[:length])
    loses(signed, whole + b"\n")
    loses(signed, whole + whole)
    refuses(signed, SignerStateLost)


def test_a_missing_memory_is_not_made_anew(signed):
    loses(signed, None)
    refuses(signed, SignerStateLost)
    assert not memory_file(signed).exists()
    assert signed.wheres() == ["signer"]


def test_a_missing_folder_is_not_made_anew(signed):
    shutil.rmtree(signed.signer_folder)
    refuses(signed, SignerStateLost)
    assert not signed.signer_folder.exists()


def test_a_folder_in_the_place_of_the_memory(signed):
    memory_file(signed).unlink()
    memory_file(signed).mkdir()
    refuses(signed, SignerStateLost)


def test_a_memory_by_another_key_or_for_another_text_is_seen(signed):
    checkpoint = checkpoint_of(signed.sign())
    other = signer_of(signed.folder, OTHER_KEY)._sign(checkpoint)
    loses(signed, other.format().encode())
    elsewhere = signer_of(signed.folder, origin="datakluis.example/elders")
    loses(signed, elsewhere._sign(checkpoint).format().encode())
    # The signature of one checkpoint under the text of another.
    smaller = Checkpoint(ORIGIN, 200, NaiveTree(signed.entries()).root(200))
    mixed = Note(smaller.text(), signed.signer._sign(checkpoint).signatures)
    loses(signed, mixed.format().encode())
    # Rightly signed by the log's key, and not a checkpoint.
    loses(signed, sign_text(signed, "no checkpoint\n").format().encode())


def sign_text(ledger: Ledger, text: str) -> Note:
    return Note(text, (sign(text, ORIGIN, KEY),))


def test_another_key_cannot_go_on_where_this_one_stopped(signed):
    with Ledger(signed.folder, OTHER_KEY, new=False) as other:
        refuses(other, SignerStateLost)
    assert checkpoint_of(signed.sign()).size == 300


def test_an_older_memory_goes_on_to_the_same_checkpoint(signed):
    """An older memory beside the newest database is no danger: the tree still extends it."""
    newest = signed.sign()
    older = Checkpoint(ORIGIN, 200, NaiveTree(signed.entries()).root(200))
    signed.signer.memory.remember(signed.signer._sign(older))
    # ML-DSA-44 signs at random, so the note is another.
    assert signed.sign().text == newest.text
    with signed.read() as seen:
        assert seen.latest_checkpoint() == newest


# Failures while remembering and storing, as "not persisted" and as "persisted but reported failed".


def grown(ledger: Ledger) -> Note:
    """100 signed leaves and 50 that are integrated, not signed."""
    records = Records(seed=31)
    note = ledger.checkpoint(records.take(100))
    ledger.put(records.take(50))
    ledger.integrate()
    return note


def fail_in_remember(patch: pytest.MonkeyPatch, point: str) -> None:
    real_replace, real_fsync, real_open = Path.replace, os.fsync, Path.open
    synced = []

    def replace(path: Path, target: Path) -> Path:
        if point == "rename":
            raise OSError(point)
        result = real_replace(path, target)
        if point == "renamed":
            raise OSError(point)
        return result

    def fsync(file: int) -> None:
        synced.append(file)
        if (point, len(synced)) in {("fsync file", 1), ("fsync folder", 2)}:
            raise OSError(point)
        real_fsync(file)
        if (point, len(synced)) == ("synced folder", 2):
            raise OSError(point)

    def opened(path: Path, mode: str = "r", *rest: object, **named: object):
        if point == "open" and mode == "wb":
            raise OSError(point)
        return real_open(path, mode, *rest, **named)

    patch.setattr(Path, "replace", replace)
    patch.setattr(Path, "open", opened)
    patch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("meanwhile", [0, 1], ids=["then nothing", "then one more leaf"])
@pytest.mark.parametrize(
    ("point", "persisted"),
    [
        ("open", False),
        ("fsync file", False),
        ("rename", False),
        ("renamed", True),
        ("fsync folder", True),
        ("synced folder", True),
    ],
)
def test_remembering_that_failed_or_was_only_reported_failed(
    ledger, monkeypatch, point, persisted, meanwhile
):
    notes = [grown(ledger)]
    with monkeypatch.context() as patch:
        fail_in_remember(patch, point)
        with pytest.raises(OSError, match=point):
            ledger.sign()
    remembered, checkpoint = ledger.signer.memory.last()
    notes.append(remembered)
    assert checkpoint.size == (150 if persisted else 100)
    with ledger.read() as seen:
        assert [size for size, _ in seen.checkpoints()] == [100]
    assert ledger.faults() == []

    again = ledger.checkpoint([version_entry(pointer(n)) for n in range(meanwhile)])
    notes.append(again)
    assert checkpoint_of(again).size == 150 + meanwhile
    if persisted and not meanwhile:
        assert again == remembered
    with ledger.read() as seen:
        assert seen.latest_checkpoint() == again
        notes += [Note.parse(text.encode()) for _, text in seen.checkpoints()]
    assert off_history(notes, ledger.entries()) == []
    assert ledger.faults() == []
    assert sorted(path.name for path in ledger.signer_folder.iterdir()) == [LAST_CHECKPOINT, "lock"]


@pytest.mark.parametrize("rest", [b"", b"half a no", b"\xff" * 500])
def test_what_a_crash_left_of_the_temporary_file_does_no_harm(ledger, rest):
    grown(ledger)
    (ledger.signer_folder / LAST_CHECKPOINT).with_suffix(".new").write_bytes(rest)
    assert checkpoint_of(ledger.sign()).size == 150
    assert ledger.faults() == []


@pytest.mark.parametrize(
    ("moment", "stored"),
    [("before", [100]), ("after", [100, 150])],
    ids=["not persisted", "persisted"],
)
@pytest.mark.parametrize("meanwhile", [0, 1], ids=["then nothing", "then one more leaf"])
def test_storing_that_failed_or_was_only_reported_failed(ledger, moment, stored, meanwhile):
    first = grown(ledger)

    def fail(when: str) -> None:
        if when == moment:
            raise Injected(when)

    ledger.on_commit = fail
    with pytest.raises(Injected):
        ledger.sign()
    ledger.on_commit = lambda when: None
    with ledger.read() as seen:
        assert [size for size, _ in seen.checkpoints()] == stored
    remembered, checkpoint = ledger.signer.memory.last()
    assert checkpoint.size == 150

    again = ledger.checkpoint([version_entry(pointer(n)) for n in range(meanwhile)])
    assert (again == remembered) == (not meanwhile)
    with ledger.read() as seen:
        assert seen.latest_checkpoint() == again
    assert off_history([first, remembered, again], ledger.entries()) == []
    assert ledger.faults() == []


def test_a_stored_checkpoint_is_never_replaced(signed):
    before = signed.dump()
    other = Checkpoint(ORIGIN, 300, b"\x5a" * 32)
    with signed.write() as connection:
        store_checkpoint(Log(connection), signed.signer._sign(other), other, SIGNED_AT + 9)
    assert signed.dump() == before


# Several at once.


def work(folder: Path, worker: int, rounds: int, results: multiprocessing.Queue) -> None:
    """Grow the log, and sign it twice: under the writer lock, and from a snapshot without it."""
    with Ledger(folder, new=False) as ledger:
        texts, behind = [], 0
        for number in range(rounds):
            of = worker << 20 | number
            texts.append(ledger.checkpoint([version_entry(pointer(of))]).format())
            with ledger.read() as seen:
                seen.head()
                try:
                    texts.append(ledger.signer.sign_head(seen)[0].format())
                except RolledBack:
                    behind += 1  # Another process signed more than this snapshot shows.
        results.put((texts, behind))


def test_p5_processes_that_sign_at_once_make_one_history(ledger):
    workers, rounds = 4, 25
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ledger.engine.dispose()
    processes = [
        context.Process(target=work, args=(ledger.folder, worker, rounds, results))
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    texts = [text for worker_texts, _ in answers for text in worker_texts]
    notes = [Note.parse(text.encode()) for text in texts]
    entries = ledger.entries()
    behind = sum(count for _, count in answers)
    print(f"{workers} processes: {len(notes)} signatures, {len(set(texts))} notes, {behind} behind")
    assert len(entries) == workers * rounds
    assert len(notes) + behind == 2 * workers * rounds
    assert off_history(notes, entries) == []
    by_size = {checkpoint_of(note).size: note for note in notes}
    assert len(by_size) == len(set(texts))
    assert ledger.signer.memory.last()[1].size == workers * rounds
    assert ledger.faults() == []


def two_at_once(ledger: Ledger) -> tuple[bool, list[int]]:
    """One signs 150 leaves and is held up before it remembers; another then signs 200.

    Returns whether the second one waited for the first, and the sizes remembered in their order.
    """
    grown(ledger)
    reached, go_on, second_done = threading.Event(), threading.Event(), threading.Event()
    remembered: list[int] = []
    remember = SignerMemory.remember

    class Slow(SignerMemory):
        def remember(self, note: Note) -> None:
            reached.set()
            go_on.wait(30)
            remember(self, note)
            remembered.append(checkpoint_of(note).size)

    class Quick(SignerMemory):
        def remember(self, note: Note) -> None:
            remember(self, note)
            remembered.append(checkpoint_of(note).size)

    def first() -> None:
        slow = signer_of(ledger.signer_folder)
        slow.memory = Slow(ledger.signer_folder, log_keys())
        with ledger.read() as seen:
            slow.sign_head(seen)

    def second() -> None:
        quick = signer_of(ledger.signer_folder)
        quick.memory = Quick(ledger.signer_folder, log_keys())
        with ledger.read() as seen:
            quick.sign_head(seen)
        second_done.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert reached.wait(30)
    ledger.put([version_entry(pointer(1 << 30 | n)) for n in range(50)])
    ledger.integrate()
    threads[1].start()
    waited = not second_done.wait(0.3)
    go_on.set()
    for thread in threads:
        thread.join(30)
    return waited, remembered


def test_who_signs_second_waits_for_the_first(ledger):
    assert two_at_once(ledger) == (True, [150, 200])
    assert ledger.signer.memory.last()[1].size == 200


def test_without_the_lock_the_memory_would_go_back(ledger, monkeypatch):
    """Control: with the lock taken out, the slower signer overwrites what was signed later."""
    monkeypatch.setattr(SignerMemory, "locked", lambda self: nullcontext())
    assert two_at_once(ledger) == (False, [200, 150])
    assert ledger.signer.memory.last()[1].size == 150


def test_checking_a_head_needs_no_lock_and_writes_nothing(signed):
    with signed.read() as seen:
        head = seen.head()
        note, checkpoint = signed.signer.memory.check(seen, head)
        assert checkpoint == checkpoint_of(note) == head.checkpoint()
        with pytest.raises(RolledBack):
            signed.signer.memory.check(seen, Head(ORIGIN, 299, head.root))
