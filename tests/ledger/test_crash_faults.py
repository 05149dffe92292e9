"""A fault at every write, rename, fsync and commit of integrate, checkpoint, export and prune (P5).

Each fault starts from a copy of the same folder. Then the ledger is opened anew, looked at, and the
same work is done again: there is one outcome, whatever came between. The places are found by
counting (tests/ledger/effect_faults.py), so a new one is covered by itself.
"""

from __future__ import annotations

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
from ledger.errors import LedgerError
from ledger.governing import append_governance, current_state
from ledger.log import Log
from ledger.note import Note
from ledger.publish import export
from ledger.replay import read_entries
from ledger.signer import Signer, store_checkpoint
from ledger.source import FolderSource

MINIMUM = 256
PENDING = 230
OPERATIONS = ("integrate", "checkpoint", "export", "prune")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A published ledger of 513 leaves that decided to prune, and entries that wait."""
    folder = tmp_path_factory.mktemp("base")
    members, records = Members(), Records(seed=12, every_kind=True)
    with Ledger(folder) as ledger:
        govern(ledger, members.founding())
        ledger.checkpoint(records.take(300))
        publish_now(ledger, 0)
        with ledger.read() as log:
            digest = current_state(log.connection).digest_at(MINIMUM)
        govern(ledger, members.entry(2, Prune(MINIMUM, digest)))
        ledger.checkpoint(records.take(211))
        publish_now(ledger, 0)
        ledger.put(records.take(PENDING))
    return folder


@pytest.fixture(scope="module")
def expected(base) -> list[bytes]:
    """All entries that were ever put, sorted: what there is in the end, once each."""
    with Ledger(base, new=False) as ledger:
        return sorted(ledger.entries() + ledger.pending())


@pytest.fixture(scope="module")
def first_bundle(base) -> list[bytes]:
    """What the prune lets go."""
    with Ledger(base, new=False) as ledger:
        return ledger.entries()[:MINIMUM]


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


def needed(leaf: int, entry) -> bool:
    return leaf % 3 == 0


class Signed:
    """Every note that the signer's keys made, in one run of the tests."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.notes: list[Note] = []
        real = Signer._sign

        def sign(signer: Signer, checkpoint):
            note = real(signer, checkpoint)
            self.notes.append(note)
            return note

        patch.setattr(Signer, "_sign", sign)


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


def read_published(public: Path, *, pruned: bool) -> int:
    """The published tree's size, once all of it that must be there was verified."""
    source = FolderSource(public)
    if not pruned:
        return read_entries(source, log_keys()).size
    from ledger.verifiedtiles import VerifiedTiles

    checkpoint = log_keys().verify(Note.parse(source.read("checkpoint")))
    tiles = VerifiedTiles(source, checkpoint)
    for number in range(MINIMUM // 256, -(-checkpoint.size // 256)):
        tiles.entries(number)
    return checkpoint.size


def damage_in_the_end(
    folder: Path, signed: Signed, expected: list[bytes], first: list[bytes]
) -> list[str]:
    """What is wrong once the work was done again."""
    found = []
    with Ledger(folder, new=False) as ledger:
        found += map(str, ledger.faults())
        with ledger.read() as log:
            size = log.head().size
            kept = [log.entry(leaf) for leaf in range(0, MINIMUM, 3)]
            rest = [entry for n in range(1, -(-size // 256)) for entry in log.bundle(n)]
            if kept != first[::3]:
                found.append("kept entries are others")
            if log.pruned_to() is None or log.pruned_to()[0] != MINIMUM:
                found.append("not pruned")
        if sorted(first + rest) != expected or ledger.pending():
            found.append("entries are lost, or there twice")
        if off_history(signed.notes, first + rest):
            found.append("checkpoints that contradict each other were signed")
    if read_published(folder / "public", pruned=True) != size:
        found.append("not published")
    if (folder / "public/tile/entries/000").exists():
        found.append("what was pruned is published")
    if list((folder / "public").rglob("*.new")):
        found.append("a temporary file is left")
    return found


def strike(base, tmp_path, number, kind, patch, expected, first) -> tuple[Effects, list[str]]:
    """One fault, a look at what it left, the work again, a look at the end."""
    folder = tmp_path / "struck"
    shutil.copytree(base, folder)
    signed = Signed(patch)
    effects = Effects(folder, number, kind)
    try:
        with effects.watching():
            work(folder, effects)
    except (Failed, Killed):
        pass
    found = damage_at_once(folder)
    work(folder, Effects(folder))
    found += damage_in_the_end(folder, signed, expected, first)
    shutil.rmtree(folder)
    return effects, found


def count(base, tmp_path) -> Effects:
    folder = tmp_path / "counted"
    shutil.copytree(base, folder)
    effects = Effects(folder)
    with effects.watching():
        work(folder, effects)
    return effects


def test_p5_a_fault_at_any_effect_damages_nothing(
    base, tmp_path, monkeypatch, expected, first_bundle
):
    effects = count(base, tmp_path)
    damaged: list[str] = []
    for number in range(effects.total):
        for kind in Kind:
            with monkeypatch.context() as patch:
                struck, found = strike(base, tmp_path, number, kind, patch, expected, first_bundle)
            assert struck.struck
            damaged += [f"{kind.value} {number}: {what}" for what in found]
    places: dict[str, Counter[str]] = {name: Counter() for name in OPERATIONS}
    for (operation, name), times in effects.counts.items():
        places[operation][name] += times
    print(f"{effects.total * len(Kind)} faults in {len(OPERATIONS)} operations:", end=" ")
    print(f"{len(damaged)} damaged; places: { {n: dict(c) for n, c in places.items()} }")
    assert damaged == []
    assert places["integrate"] == Counter(commit=1)
    assert all(places["checkpoint"][name] for name in ("write", "fsync", "replace", "commit"))
    assert all(places["export"][name] for name in ("write", "fsync", "replace"))
    assert all(places["prune"][name] for name in ("commit", "unlink"))


def faults_of(base, tmp_path, monkeypatch, expected, first_bundle) -> list[str]:
    """What the same faults show where the code is wrong on purpose."""
    found: list[str] = []
    for number in range(count(base, tmp_path).total):
        with monkeypatch.context() as patch:
            _, here = strike(
                base, tmp_path, number, Kind.KILLED_DONE, patch, expected, first_bundle
            )
        found += here
        shutil.rmtree(tmp_path / "counted", ignore_errors=True)
    return found


def test_control_a_checkpoint_that_is_published_before_its_tiles_is_seen(
    base, tmp_path, monkeypatch, expected, first_bundle
):
    real = publish._Export.run

    def run(exporting, note, published):
        exporting._destination.replace_checkpoint(note.format().encode())
        return real(exporting, note, published)

    monkeypatch.setattr(publish._Export, "run", run)
    found = faults_of(base, tmp_path, monkeypatch, expected, first_bundle)
    assert sum("the published log" in what for what in found) >= 5


def test_control_a_note_that_is_stored_before_it_is_remembered_is_seen(
    base, tmp_path, monkeypatch, expected, first_bundle
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
    found = faults_of(base, tmp_path, monkeypatch, expected, first_bundle)
    assert found.count("a checkpoint left before the signer remembered it") >= 1


def test_control_entries_that_are_integrated_twice_are_seen(
    base, tmp_path, monkeypatch, expected, first_bundle
):
    """A transaction that commits leaves, and takes them out of what waits in another one."""
    real = Ledger.integrate

    def integrate(ledger: Ledger) -> int:
        waiting = ledger.pending()
        done = real(ledger)
        ledger.put(waiting[:1])
        ledger.sql("DELETE FROM ledger_pending")
        return done

    monkeypatch.setattr(Ledger, "integrate", integrate)
    found = faults_of(base, tmp_path, monkeypatch, expected, first_bundle)
    assert "entries are lost, or there twice" in found


def test_the_kinds_of_faults_are_what_they_say(tmp_path):
    for kind in Kind:
        folder = tmp_path / kind.name
        folder.mkdir()
        effects = Effects(folder, 1, kind)
        with effects.watching(), pytest.raises((Failed, Killed)):
            with (folder / "one").open("wb") as file:
                file.write(b"first")
                file.write(b"second")
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
