"""A fault at every write, rename, fsync and commit of integrate, checkpoint, export and prune (P5).

Each fault starts from a copy of the same folder. Then the ledger is opened anew, looked at, and the
same work is done again: there is one outcome, whatever came between. The places are found by
counting (tests/ledger/effect_faults.py), so a new one is covered by itself.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from effect_faults import Effects, Failed, Killed, Kind
from ledger_fixtures import (
    ORIGIN,
    SIGNED_AT,
    Ledger,
    Records,
    checkpoint_of,
    log_keys,
    off_history,
)
from monitored_logs import Members

from ledger import pruning, publish
from ledger.action import Prune
from ledger.destination import FolderDestination
from ledger.entry import ERASURES, Entry, EntryKind, parse_entry
from ledger.errors import LedgerError
from ledger.governing import append_governance, current_state
from ledger.log import Log
from ledger.note import Note
from ledger.publish import export
from ledger.replay import read_entries
from ledger.signer import Signer, store_checkpoint
from ledger.source import FolderSource
from ledger.verifiedtiles import VerifiedTiles

MINIMUM = 256
OPERATIONS = ("integrate", "checkpoint", "export", "prune")


@pytest.fixture(scope="module", autouse=True)
def quick_fsync():
    """No power is lost here, so what an fsync does cannot be seen; whether it is called can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A published ledger of 251 leaves, and entries that wait, with the decision to prune."""
    folder = tmp_path_factory.mktemp("base")
    members, records = Members(), Records(seed=12, every_kind=True)
    with Ledger(folder) as ledger:
        govern(ledger, members.founding())
        ledger.checkpoint(records.take(250))
        publish_now(ledger, 0)
        ledger.put(records.take(20))
        with ledger.read() as log:
            digest = current_state(log.connection).digest()
        govern(ledger, members.entry(2, Prune(MINIMUM, digest)))
        ledger.put(records.take(10))
    return folder


@pytest.fixture(scope="module")
def expected(base) -> list[bytes]:
    """All entries that were ever put, sorted: what there is in the end, once each."""
    with Ledger(base, new=False) as ledger:
        return sorted(ledger.entries() + ledger.pending())


def govern(ledger: Ledger, entry: bytes) -> None:
    with ledger.write() as connection:
        append_governance(connection, ORIGIN, entry)


def publish_now(ledger: Ledger, minimum: int) -> None:
    with ledger.read() as log:
        export(log, FolderDestination(ledger.folder / "public"), minimum)


def work(folder: Path, effects: Effects) -> None:
    """What an operator does, again and again."""
    with Ledger(folder, new=False) as ledger:
        effects.begin("integrate")
        ledger.integrate()
        effects.begin("checkpoint")
        ledger.sign()
        effects.begin("export")
        publish_now(ledger, minimum_of(ledger))
        effects.begin("prune")
        carry_out(ledger)
        publish_now(ledger, minimum_of(ledger))


def minimum_of(ledger: Ledger) -> int:
    with ledger.read() as log:
        pruned = log.pruned_to()
    return 0 if pruned is None else pruned[0]


def carry_out(ledger: Ledger) -> None:
    with ledger.read() as log:
        prune = pruning.enacted(log)
        signed = checkpoint_of(log.latest_checkpoint())
    if prune is not None:
        with ledger.write() as connection:
            pruning.carry_out(Log(connection), prune, signed, signed, needed, SIGNED_AT)


def needed(leaf: int, entry: Entry) -> bool:
    """Half of the records, and what a later entry counts on from."""
    return bool(entry.pointer[0] % 2) or entry.kind not in (EntryKind.VERSION, *ERASURES)


class Seen:
    """Every note that the signer's keys made after one fault or before it, and what was pruned."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.notes: list[Note] = []
        self.first_bundle: list[bytes] = []
        real = Signer._sign

        def sign(signer: Signer, checkpoint):
            note = real(signer, checkpoint)
            self.notes.append(note)
            return note

        patch.setattr(Signer, "_sign", sign)
        carry_out_prune = pruning.carry_out

        def carry_out(log, *arguments):
            self.first_bundle = log.bundle(0)
            return carry_out_prune(log, *arguments)

        patch.setattr(pruning, "carry_out", carry_out)


def damage_at_once(folder: Path) -> list[str]:
    """What is wrong in the moment of the fault, to a reader and to a signer that is restored."""
    found = []
    public = folder / "public"
    try:
        published = read_published(public, pruned=not (public / "tile/entries/000").exists())
    except LedgerError as error:
        return [f"the published log: {error}"]
    with Ledger(folder, new=False) as ledger:
        _, remembered = ledger.signer.memory.last()
        with ledger.read() as log:
            stored = log.latest_checkpoint()
        if max(checkpoint_of(stored).size, published) > remembered.size:
            found.append("a checkpoint left before the signer remembered it")
        found += [str(fault) for fault in ledger.faults() if fault.where != "signer"]
    return found


def kept_entries(ledger: Ledger) -> set[bytes]:
    return {bytes(entry) for (entry,) in ledger.sql("SELECT entry FROM ledger_kept")}


def read_published(public: Path, *, pruned: bool) -> int:
    """The published tree's size, once all of it that must be there was verified."""
    source = FolderSource(public)
    if not pruned:
        return read_entries(source, log_keys()).size
    checkpoint = log_keys().verify(Note.parse(source.read("checkpoint")))
    tiles = VerifiedTiles(source, checkpoint)
    for number in range(MINIMUM // 256, -(-checkpoint.size // 256)):
        tiles.entries(number)
    return checkpoint.size


def damage_in_the_end(folder: Path, seen: Seen, expected: list[bytes]) -> list[str]:
    """What is wrong once the work was done again."""
    found = []
    with Ledger(folder, new=False) as ledger:
        found += map(str, ledger.faults())
        with ledger.read() as log:
            size = log.head().size
            rest = [entry for n in range(1, -(-size // 256)) for entry in log.bundle(n)]
            if log.pruned_to() is None or log.pruned_to()[0] != MINIMUM:
                found.append("not pruned")
        whole = seen.first_bundle + rest
        living = {entry for entry in seen.first_bundle if needed(0, parse_entry(entry))}
        if living != kept_entries(ledger):
            found.append("other entries are kept than are needed")
        if sorted(whole) != expected or ledger.pending():
            found.append("entries are lost, or there twice")
        if off_history(seen.notes, whole):
            found.append("checkpoints that contradict each other were signed")
    if read_published(folder / "public", pruned=True) != size:
        found.append("not published")
    if (folder / "public/tile/entries/000").exists():
        found.append("what was pruned is published")
    if list((folder / "public").rglob("*.new")):
        found.append("a temporary file is left")
    return found


def strike(base, tmp_path, number, kind, patch, expected) -> tuple[Effects, list[str]]:
    """One fault, a look at what it left, the work again, a look at the end."""
    folder = tmp_path / "struck"
    shutil.copytree(base, folder)
    seen = Seen(patch)
    effects = Effects(folder, number, kind)
    try:
        with effects.watching():
            work(folder, effects)
    except (Failed, Killed):
        pass
    found = damage_at_once(folder)
    work(folder, Effects(folder))
    found += damage_in_the_end(folder, seen, expected)
    shutil.rmtree(folder)
    return effects, found


def count(base, tmp_path) -> Effects:
    folder = tmp_path / "counted"
    shutil.copytree(base, folder)
    effects = Effects(folder)
    with effects.watching():
        work(folder, effects)
    return effects


def test_p5_a_fault_at_any_effect_damages_nothing(base, tmp_path, monkeypatch, expected):
    effects = count(base, tmp_path)
    damaged: list[str] = []
    for number in range(len(effects.places)):
        for kind in Kind:
            with monkeypatch.context() as patch:
                struck, found = strike(base, tmp_path, number, kind, patch, expected)
            assert struck.struck
            damaged += [f"{kind.value} {number}: {what}" for what in found]
    places = Counter(effects.places)
    print(f"{len(effects.places) * len(Kind)} faults in {len(OPERATIONS)} operations:", end=" ")
    print(f"{len(damaged)} damaged; places: {dict(places)}")
    assert damaged == []
    assert places["integrate", "commit"] == 1
    assert all(places["checkpoint", name] for name in ("write", "fsync", "replace", "commit"))
    assert all(places["export", name] for name in ("write", "fsync", "replace", "mkdir", "unlink"))
    assert all(places["prune", name] for name in ("commit", "unlink", "fsync"))


def faults_of(base, tmp_path, monkeypatch, expected, operation: str) -> list[str]:
    """What faults in an operation show where the code is wrong on purpose."""
    found: list[str] = []
    for number, (where, _) in enumerate(count(base, tmp_path).places):
        if where == operation:
            with monkeypatch.context() as patch:
                found += strike(base, tmp_path, number, Kind.KILLED_DONE, patch, expected)[1]
    return found


def test_control_a_checkpoint_that_is_published_before_its_tiles_is_seen(
    base, tmp_path, monkeypatch, expected
):
    real = publish._Export.run

    def run(exporting, note, published):
        exporting._destination.replace_checkpoint(note.format().encode())
        return real(exporting, note, published)

    monkeypatch.setattr(publish._Export, "run", run)
    found = faults_of(base, tmp_path, monkeypatch, expected, "export")
    assert sum("the published log" in what for what in found) >= 5


def test_control_a_note_that_is_stored_before_it_is_remembered_is_seen(
    base, tmp_path, monkeypatch, expected
):
    def sign(ledger: Ledger) -> Note:
        remembered = []
        with pytest.MonkeyPatch.context() as patch, ledger.write() as connection:
            patch.setattr(ledger.signer.memory, "remember", remembered.append)
            seen = Log(connection)
            note, checkpoint = ledger.signer.sign_head(seen)
            store_checkpoint(seen, note, checkpoint, SIGNED_AT)
        for one in remembered:
            ledger.signer.memory.remember(one)
        return note

    monkeypatch.setattr(Ledger, "sign", sign)
    found = faults_of(base, tmp_path, monkeypatch, expected, "checkpoint")
    assert found.count("a checkpoint left before the signer remembered it") >= 1


def test_control_entries_that_are_integrated_twice_are_seen(base, tmp_path, monkeypatch, expected):
    """A transaction that commits leaves, and takes them out of what waits in another one."""
    real = Ledger.integrate

    def integrate(ledger: Ledger) -> int:
        waiting = ledger.pending()
        done = real(ledger)
        ledger.put(waiting[:1])
        ledger.sql("DELETE FROM ledger_pending")
        return done

    monkeypatch.setattr(Ledger, "integrate", integrate)
    found = faults_of(base, tmp_path, monkeypatch, expected, "integrate")
    assert "entries are lost, or there twice" in found


def write_twice(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"first")
        file.write(b"second")


def test_the_kinds_of_faults_are_what_they_say(tmp_path):
    for kind in Kind:
        folder = tmp_path / kind.name
        folder.mkdir()
        effects = Effects(folder, 1, kind)
        with effects.watching(), pytest.raises((Failed, Killed)):
            write_twice(folder / "one")
        done = kind in (Kind.DONE, Kind.KILLED_DONE)
        assert (folder / "one").read_bytes() == (b"firstsecond" if done else b"first")
        assert effects.struck
        with effects.watching():
            if kind in (Kind.KILLED, Kind.KILLED_DONE):
                with pytest.raises(Killed):
                    (folder / "one").unlink()
            else:
                (folder / "one").unlink()
        assert (folder / "one").exists() is (kind in (Kind.KILLED, Kind.KILLED_DONE))
