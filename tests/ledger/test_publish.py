"""Publishing: the files of C2SP tlog-tiles, each written once, and none that is not signed."""

import fcntl
import itertools
import os
import re
import threading
from collections import Counter
from pathlib import Path

import pytest
from ledger_fixtures import (
    ORIGIN,
    OTHER_KEY,
    SIGNED_AT,
    Injected,
    Ledger,
    NaiveTree,
    Records,
    checkpoint_of,
    pointer,
    version_entry,
)
from published_logs import (
    bundle_of,
    expected_files,
    names,
    publish,
    published_files,
    signed_checkpoint,
)

from ledger import merkle
from ledger import publish as publish_module
from ledger.errors import (
    BadPublication,
    Forked,
    LedgerError,
    Malformed,
    NotSigned,
    RolledBack,
    SourceMissing,
)
from ledger.merkle import leaf_hash
from ledger.publish import ExportReport
from ledger.replay import read_entries
from ledger.source import FolderSource
from ledger.tiles import hash_reader

SIZES = (1, 2, 255, 256, 257, 511, 512, 513, 600)


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "ledger").mkdir()
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "published"


def require_published(ledger: Ledger, folder: Path, size: int) -> dict[str, bytes]:
    """The folder holds the files of the first `size` leaves; partial ones of earlier sizes count
    as leftovers, as long as they are what a full or wider one begins with."""
    found, entries = published_files(folder), ledger.entries()[:size]
    expected = expected_files(entries, checkpoint_note(ledger, size))
    assert found.items() >= expected.items()
    for path in found.keys() - expected.keys():
        whole, _, width = path.partition(".p/")
        wider = [data for name, data in expected.items() if name.partition(".p/")[0] == whole]
        assert width, f"{path} does not belong here"
        assert wider, f"{path} has no wider one"
        assert wider[0].startswith(found[path])
        assert whole not in expected, f"{path} is left behind a full one"
    return expected


def checkpoint_note(ledger: Ledger, size: int):
    with ledger.read() as log:
        note = log.latest_checkpoint()
    assert checkpoint_of(note).size == size
    return note


@pytest.mark.parametrize("size", SIZES)
def test_the_files_are_those_of_the_specification(ledger, folder, size):
    ledger.checkpoint(Records(seed=size, every_kind=True).take(size))
    report = publish(ledger, folder)
    expected = expected_files(ledger.entries(), checkpoint_note(ledger, size))
    assert published_files(folder) == expected
    assert report == ExportReport(size, len(expected), 0, 0)


def test_a_tile_of_the_third_level(ledger, folder):
    """65,537 leaves: 256 full tiles, one full tile above them, and one hash above that."""
    ledger.checkpoint([version_entry(pointer(n)) for n in range(65_537)])
    report = publish(ledger, folder)
    found = published_files(folder)
    assert found == expected_files(ledger.entries(), checkpoint_note(ledger, 65_537))
    assert {"tile/2/000.p/1", "tile/1/000", "tile/0/256.p/1"} <= found.keys()
    assert report.written == len(found) == 257 + 257 + 1 + 1 + 1
    assert publish(ledger, folder) == ExportReport(65_537, 0, len(found), 0)


def test_the_example_in_the_docstring():
    text = publish_module.__doc__
    found = re.findall(r"tile/[0-9a-z]+/\d{3}(?:\.p/\d+)?", text)
    expected = {path for path, _, _ in names("tile/entries", 70_000)}
    for level in range(3):
        expected |= {path for path, _, _ in names(f"tile/{level}", 70_000 >> 8 * level)}
    assert len(found) == 9
    assert set(found) <= expected
    assert {path for path in expected if ".p/" in path} <= set(found)


def test_an_empty_log_that_is_signed_has_its_checkpoint_alone(ledger, folder):
    ledger.sign()
    assert publish(ledger, folder) == ExportReport(0, 1, 0, 0)
    assert list(published_files(folder)) == ["checkpoint"]


def test_nothing_is_published_before_a_signature(ledger, folder):
    ledger.put([version_entry(pointer(1))])
    ledger.integrate()
    with pytest.raises(NotSigned):
        publish(ledger, folder)
    assert not folder.exists()


def test_only_what_the_newest_checkpoint_covers(ledger, folder):
    """Leaves that are not signed, and entries that wait, are not published."""
    records = Records(seed=7)
    ledger.checkpoint(records.take(300))
    ledger.put(records.take(230))
    ledger.integrate()
    ledger.put(records.take(5))
    report = publish(ledger, folder)
    assert report.size == 300
    entries = ledger.entries()
    assert len(entries) == 530
    found = published_files(folder)
    assert found == expected_files(entries[:300], checkpoint_note(ledger, 300))
    whole = b"".join(found.values())
    assert not any(entry in whole for entry in (*entries[300:], *ledger.pending()))


def test_a_growing_log_writes_each_file_once(ledger, folder):
    """Over 40 checkpoints; partial files go when there is a full one, and nothing else goes."""
    records = Records(seed=11, every_kind=True)
    stamps: dict[str, int] = {}
    totals: Counter[str] = Counter()
    for step in range(40):
        ledger.checkpoint(records.take(1 + step * 7 % 61))
        size = len(ledger.entries())
        report = publish(ledger, folder)
        expected = require_published(ledger, folder, size)
        assert report.size == size
        assert report.written + report.kept == len(expected)
        now = {path: (folder / path).stat().st_mtime_ns for path in published_files(folder)}
        rewritten = {path for path in stamps.keys() & now.keys() if stamps[path] != now[path]}
        assert rewritten <= {"checkpoint"}
        assert all(".p/" in path for path in stamps.keys() - now.keys())
        assert len(stamps.keys() - now.keys()) == report.removed
        totals.update(written=report.written, kept=report.kept, removed=report.removed)
        assert publish(ledger, folder) == ExportReport(size, 0, len(expected), 0)
        stamps = now
    print(f"{size} leaves in 40 exports: {dict(totals)}")
    assert totals["removed"] > 20


def test_what_is_published_can_be_read_by_a_web_server(ledger, folder):
    ledger.checkpoint(Records(seed=2).take(300))
    mask = os.umask(0o022)
    try:
        publish(ledger, folder)
    finally:
        os.umask(mask)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    assert not list(folder.rglob("*.new"))


# A file that is there already


def damages(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "first byte": bytes([data[0] ^ 1]) + data[1:],
        "a byte in the middle": data[:middle] + bytes([data[middle] ^ 0x80]) + data[middle + 1 :],
        "last byte": data[:-1] + bytes([data[-1] ^ 4]),
        "cut off": data[:-1],
        "empty": b"",
        "one byte more": data + b"\x00",
        "twice": data * 2,
    }


def test_another_file_in_its_place_is_named_and_kept(ledger, folder):
    ledger.checkpoint(Records(seed=5).take(600))
    publish(ledger, folder)
    files = published_files(folder)
    refused = 0
    for path in files.keys() - {"checkpoint"}:
        for what, changed in damages(files[path]).items():
            (folder / path).write_bytes(changed)
            with pytest.raises(BadPublication) as caught:
                publish(ledger, folder)
            assert caught.value.path == path, what
            assert path in str(caught.value)
            assert (folder / path).read_bytes() == changed
            refused += 1
        (folder / path).write_bytes(files[path])
    print(f"{refused} damages of {len(files) - 1} published files refused by name")
    assert refused == 7 * (len(files) - 1) == 7 * 7
    assert publish(ledger, folder).kept == len(files)


def test_a_file_that_is_missing_is_written_anew(ledger, folder):
    ledger.checkpoint(Records(seed=5).take(600))
    publish(ledger, folder)
    files = published_files(folder)
    for path in files:
        (folder / path).unlink()
        assert publish(ledger, folder) == ExportReport(600, 1, len(files) - 1, 0)
        assert published_files(folder) == files


def test_a_flipped_byte_of_the_published_checkpoint_is_refused_or_mended(ledger, folder):
    """Each byte of the text and of the first signature, and every 40th of the long second one."""
    ledger.checkpoint(Records(seed=5).take(3))
    publish(ledger, folder)
    path = folder / "checkpoint"
    true = path.read_bytes()
    second = true.rindex(b"\n", 0, -1)
    places = [*range(second + 1), *range(second + 1, len(true), 40)]
    outcomes: Counter[str] = Counter()
    for place in places:
        changed = true[:place] + bytes([true[place] ^ 1 << place % 3]) + true[place + 1 :]
        path.write_bytes(changed)
        try:
            publish(ledger, folder)
        except LedgerError as error:
            outcomes[type(error).__name__] += 1
            assert path.read_bytes() == changed
        else:
            outcomes["mended"] += 1
            assert path.read_bytes() == true
    print(f"{len(places)} flipped bytes of the checkpoint: {dict(outcomes)}")
    assert set(outcomes) >= {"Malformed", "Forked", "mended"}
    # What is mended differs in its signature line alone.
    assert outcomes["mended"] <= len(true.rpartition(b"\n\n")[2])


@pytest.mark.parametrize(
    ("size", "origin", "raised"),
    [(600, ORIGIN, Forked), (300, ORIGIN, Forked), (601, ORIGIN, RolledBack),
     (300, "datakluis.example/elders", Forked)],
)  # fmt: skip
def test_another_log_or_history_in_the_folder_is_not_overwritten(
    ledger, folder, size, origin, raised
):
    ledger.checkpoint(Records(seed=5).take(600))
    folder.mkdir()
    root = bytes(32) if origin == ORIGIN else NaiveTree(ledger.entries()).root(size)
    data = signed_checkpoint(size, root, origin).format().encode()
    (folder / "checkpoint").write_bytes(data)
    with pytest.raises(raised):
        publish(ledger, folder)
    assert published_files(folder) == {"checkpoint": data}


def test_an_older_copy_of_the_database_does_not_take_back_what_is_published(ledger, folder):
    records = Records(seed=5)
    ledger.checkpoint(records.take(100))
    before = ledger.dump()
    ledger.checkpoint(records.take(200))
    publish(ledger, folder)
    files = published_files(folder)
    restore(ledger, before)
    with pytest.raises(RolledBack) as caught:
        publish(ledger, folder)
    assert (caught.value.signed, caught.value.present) == (300, 100)
    assert published_files(folder) == files


def restore(ledger: Ledger, dump: dict[str, list[tuple[object, ...]]]) -> None:
    with ledger.write() as connection:
        for table, rows in dump.items():
            connection.exec_driver_sql(f"DELETE FROM {table}")
            if rows:
                places = ", ".join("?" * len(rows[0]))
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({places})", rows)


# A damaged database


def stored_files(ledger: Ledger) -> list[tuple[str, str, str, bytes]]:
    """Path, column, row and bytes of each tile and bundle in the database."""
    found = []
    for level, number, raw in ledger.sql("SELECT level, number, hashes FROM ledger_tile"):
        where = f"level = {level} AND number = {number}"
        found.append((f"tile/{level}/{number:03}", "ledger_tile.hashes", where, bytes(raw)))
    for number, raw in ledger.sql("SELECT number, entries FROM ledger_bundle"):
        where = f"number = {number}"
        found.append((f"tile/entries/{number:03}", "ledger_bundle.entries", where, bytes(raw)))
    return found


def set_stored(ledger: Ledger, column: str, where: str, raw: bytes) -> None:
    table, name = column.split(".")
    ledger.sql(f"UPDATE {table} SET {name} = ? WHERE {where}", raw)


def test_a_damaged_database_publishes_no_checkpoint(ledger, folder):
    """Each tile and each bundle, damaged at its ends and at places between: none is published."""
    ledger.checkpoint(Records(seed=8).take(600))
    outcomes: Counter[str] = Counter()
    for path, column, where, raw in stored_files(ledger):
        for place in {0, 1, 31, 32, len(raw) // 3, len(raw) // 2, len(raw) - 1}:
            changed = raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :]
            set_stored(ledger, column, where, changed)
            outcomes[refusal(ledger, folder, path)] += 1
        for changed in (raw[:-1], raw[:-32], b"", raw[:40]):
            set_stored(ledger, column, where, changed)
            outcomes[refusal(ledger, folder, path)] += 1
        set_stored(ledger, column, where, raw)
    table_rows = len(stored_files(ledger))
    for path, column, where, raw in stored_files(ledger):
        ledger.sql(f"DELETE FROM {column.split('.')[0]} WHERE {where}")
        outcomes[refusal(ledger, folder, path)] += 1
        columns = re.findall(r"(\d+)", where)
        places = ", ".join("?" * (len(columns) + 1))
        ledger.sql(f"INSERT INTO {column.split('.')[0]} VALUES ({places})", *columns, raw)
    print(f"{outcomes.total()} damages of {table_rows} stored tiles and bundles: {dict(outcomes)}")
    assert set(outcomes) == {"Forked", "BadPublication"}
    # What was written before a damage was found is sound: the whole log goes out over it.
    assert ledger.faults() == []
    publish(ledger, folder)
    assert (
        published_files(folder).items()
        >= expected_files(ledger.entries(), checkpoint_note(ledger, 600)).items()
    )


def refusal(ledger: Ledger, folder: Path, path: str) -> str:
    """Which error refuses an export; whatever it wrote, it wrote no checkpoint."""
    if folder.exists():
        for old in folder.rglob("*"):
            if old.is_file():
                old.unlink()
    with pytest.raises((Forked, BadPublication)) as caught:
        publish(ledger, folder)
    assert not (folder / "checkpoint").exists()
    if isinstance(caught.value, BadPublication):
        assert caught.value.path.partition(".p/")[0] == path
    return type(caught.value).__name__


def test_control_without_the_comparisons_a_damaged_bundle_is_published(ledger, folder, monkeypatch):
    ledger.checkpoint(Records(seed=8).take(600))
    other = [version_entry(pointer(1 << 60 | n)) for n in range(256)]
    set_stored(ledger, "ledger_bundle.entries", "number = 1", bundle_of(other))
    with pytest.raises(BadPublication, match="tile/entries/001"):
        publish(ledger, folder)
    monkeypatch.setattr(publish_module, "leaf_hash", lambda entry: b"")
    monkeypatch.setattr(publish_module._Export, "_hashes", hollow(publish_module._Export._hashes))
    publish(ledger, folder)
    assert (folder / "tile/entries/001").read_bytes() == bundle_of(other)
    with pytest.raises(BadPublication):
        read_entries(FolderSource(folder), ledger.signer.keys)


def hollow(real):
    """Level 0 of the bundles' comparison says what the hollow leaf hash says."""

    def hashes(self, level, number, width):
        caller = __import__("sys")._getframe(1).f_code.co_name
        return b"" if caller == "_bundle" else real(self, level, number, width)

    return hashes


# Crashes


class Steps:
    """Counts fsyncs and renames, and fails before or after one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.reached = 0
        self._fail_at = fail_at
        patch.setattr(os, "fsync", self._around(os.fsync))
        patch.setattr(Path, "replace", self._around(Path.replace))

    def _around(self, real):
        def wrapped(*arguments):
            self._step()
            result = real(*arguments)
            self._step()
            return result

        return wrapped

    def _step(self) -> None:
        self.reached += 1
        if self.reached == self._fail_at:
            raise Injected(f"step {self.reached}")


def test_p5_an_export_that_breaks_off_anywhere_leaves_a_whole_log(tmp_path, ledger, monkeypatch):
    """Before and after each fsync and rename: a reader finds the old tree or the new one."""
    records = Records(seed=12)
    ledger.checkpoint(records.take(200))
    base = tmp_path / "base"
    publish(ledger, base)
    ledger.checkpoint(records.take(400))
    expected = expected_files(ledger.entries(), checkpoint_note(ledger, 600))
    outcomes: Counter[str] = Counter()
    for fail_at in itertools.count(1):
        folder = tmp_path / f"broken-{fail_at}"
        for path, data in published_files(base).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        with monkeypatch.context() as patch:
            steps = Steps(patch, fail_at)
            try:
                publish(ledger, folder)
                broke = False
            except Injected:
                broke = True
        assert broke == (steps.reached == fail_at)
        found = read_entries(FolderSource(folder), ledger.signer.keys)
        assert list(found.entries()) == ledger.entries()[: found.size]
        outcomes[f"{found.size} published"] += 1
        publish(ledger, folder)
        assert published_files(folder) == expected
        if not broke:
            break
    print(f"broken off at {fail_at - 1} steps: {dict(outcomes)}")
    assert set(outcomes) == {"200 published", "600 published"}
    assert fail_at > 40


def test_two_exports_into_one_folder_wait_for_each_other(ledger, folder):
    ledger.checkpoint(Records(seed=12).take(300))
    folder.mkdir()
    reports = []
    other = threading.Thread(target=lambda: reports.append(publish(ledger, folder)))
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert published_files(folder) == {}
    finally:
        os.close(held)
    other.join(30)
    assert reports[0].size == 300
    assert len(published_files(folder)) == reports[0].written


def test_a_published_checkpoint_that_is_none_stops_the_export(ledger, folder):
    ledger.checkpoint(Records(seed=12).take(3))
    folder.mkdir()
    for data in (b"", b"x", b"x" * 70_000):
        (folder / "checkpoint").write_bytes(data)
        with pytest.raises((Malformed, BadPublication)):
            publish(ledger, folder)
        assert published_files(folder) == {"checkpoint": data}


def test_a_cosignature_that_comes_later_replaces_the_note(ledger, folder):
    """Another signature under the same tree is the one change that a checkpoint can see."""
    note = ledger.checkpoint(Records(seed=12).take(3))
    publish(ledger, folder)
    signed = checkpoint_of(note)
    other = signed_checkpoint(3, signed.root, key=OTHER_KEY, name="getuige.example")
    both = type(note)(note.text, (*note.signatures, *other.signatures))
    ledger.sql("DELETE FROM ledger_checkpoint")
    ledger.sql("INSERT INTO ledger_checkpoint VALUES (3, ?, ?)", both.format(), SIGNED_AT)
    assert publish(ledger, folder) == ExportReport(3, 1, 2, 0)
    assert (folder / "checkpoint").read_bytes() == both.format().encode()


# Pruning


def prune_database(ledger: Ledger, minimum: int) -> None:
    """Delete every stored tile and bundle that ends at or below an index."""
    for level, number, _ in ledger.sql("SELECT level, number, hashes FROM ledger_tile"):
        if (number + 1) * 256 ** (level + 1) <= minimum:
            ledger.sql("DELETE FROM ledger_tile WHERE level = ? AND number = ?", level, number)
    ledger.sql("DELETE FROM ledger_bundle WHERE (number + 1) * 256 <= ?", minimum)


def is_below(path: str, minimum: int) -> bool:
    """By the letter of C2SP tlog-tiles: end index n * 256**(l + 1) + 256**(l + 1)."""
    kind, number = path.removeprefix("tile/").partition(".p/")[0].split("/")
    return (int(number) + 1) * 256 ** (1 if kind == "entries" else int(kind) + 1) <= minimum


@pytest.mark.parametrize("minimum", [0, 1, 255, 256, 257, 511, 512, 800, 1_024, 1_100])
def test_what_is_pruned_is_neither_read_nor_left(ledger, folder, minimum):
    """Also where partial files of an earlier tree, or a crash, have left something below it."""
    records = Records(seed=15)
    ledger.checkpoint(records.take(1_000))
    publish(ledger, folder)
    ledger.checkpoint(records.take(100))
    files = expected_files(ledger.entries(), checkpoint_note(ledger, 1_100))
    pruned = {path for path in files if path != "checkpoint" and is_below(path, minimum)}
    if pruned:
        (folder / "tile/entries/000.new").write_bytes(b"half")
    before = published_files(folder).keys()
    prune_database(ledger, minimum)
    report = publish(ledger, folder, minimum)
    # A narrower partial tile of the earlier tree may stay.
    found = published_files(folder)
    assert report.removed == len(before - found.keys()) >= len(pruned)
    assert found.pop("tile/1/000.p/3") == files["tile/1/000.p/4"][: 3 * 32]
    assert found == {path: data for path, data in files.items() if path not in pruned}
    assert publish(ledger, folder, minimum).removed == 0
    print(f"minimum {minimum}: {len(pruned)} of {len(files)} files pruned")


def test_a_pruned_log_still_proves_what_lies_above(ledger, folder):
    """Roots from the minimum on, and each leaf above it, from the published files alone."""
    ledger.checkpoint(Records(seed=16).take(1_100))
    entries = ledger.entries()
    publish(ledger, folder, 600)
    tree, source = NaiveTree(entries), FolderSource(folder)

    def read_tile(level, number):
        path, _, _ = names(f"tile/{level}", 1_100 >> 8 * level)[number]
        return source.read(path)

    read = hash_reader(read_tile)
    for size in range(600, 1_101):
        assert merkle.root(size, read) == tree.root(size)
    for leaf in range(600, 1_100):
        proof = merkle.inclusion_proof(leaf, 1_100, read)
        merkle.verify_inclusion(leaf_hash(entries[leaf]), leaf, 1_100, proof, tree.root(1_100))
    with pytest.raises(SourceMissing):
        merkle.inclusion_proof(3, 1_100, read)


def test_a_log_that_was_pruned_past_what_is_published_goes_on(ledger, folder):
    """The tiles of the published root are gone, but the log has signed that very text."""
    records = Records(seed=17)
    ledger.checkpoint(records.take(200))
    publish(ledger, folder)
    ledger.checkpoint(records.take(700))
    prune_database(ledger, 600)
    assert publish(ledger, folder, 600).size == 900
    assert not (folder / "tile/entries/000").exists()
    (folder / "checkpoint").write_bytes(signed_checkpoint(200, bytes(32)).format().encode())
    with pytest.raises(Forked):
        publish(ledger, folder, 600)


@pytest.mark.parametrize("minimum", [-1, 301])
def test_a_minimum_beyond_the_tree_is_refused(ledger, folder, minimum):
    ledger.checkpoint(Records(seed=18).take(300))
    with pytest.raises(ValueError, match="minimum index"):
        publish(ledger, folder, minimum)
