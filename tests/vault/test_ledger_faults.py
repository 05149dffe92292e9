"""A fault at every write, rename, fsync and commit of a vault's checkpoint, export, rotation (P5).

What tests/ledger/test_crash_faults.py does with the ledger alone, with a vault around it: its
signer's folder, its key files, its database. After each fault the vault opens, the same work is
done again, the audit finds nothing, and no two checkpoints were signed that contradict each other.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from guarantees_vault import new_vault, open_vault, put

from anchor.evidence import Evidence
from anchor.steps import Verdict
from anchor.verify import verify
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, SourceMissing
from ledger.log import Log
from ledger.merkle import verify_consistency
from ledger.note import Note
from ledger.replay import read_entries
from ledger.signer import Signer
from ledger.source import FolderSource
from vault.errors import VaultError

sys.path.append(str(Path(__file__).parents[1] / "ledger"))

from effect_faults import Effects, Failed, Killed, Kind

RECORDS = 12
SIGNED = 8


@pytest.fixture(scope="module", autouse=True)
def quick_fsync():
    """No power is lost here, so what an fsync does cannot be seen; whether it is called can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A vault of some signed and published records, and of some that wait."""
    folder = new_vault(tmp_path_factory.mktemp("base") / "vault")
    with open_vault(folder) as vault:
        for number in range(RECORDS):
            put(vault, b"record %d" % number)
            if number == SIGNED - 1:
                vault.export_ledger(folder / "public")
    return folder


@pytest.fixture
def notes(monkeypatch) -> list[Note]:
    """Every note that the signer's keys made."""
    found: list[Note] = []
    real = Signer._sign

    def sign(signer: Signer, checkpoint: Checkpoint) -> Note:
        found.append(real(signer, checkpoint))
        return found[-1]

    monkeypatch.setattr(Signer, "_sign", sign)
    return found


def work(folder: Path, effects: Effects, *, rotate: bool) -> None:
    with open_vault(folder) as vault:
        effects.begin("checkpoint")
        vault.checkpoint()
        effects.begin("export")
        vault.export_ledger(folder / "public")
        if rotate:
            effects.begin("rotate")
            vault.rotate_log_keys()
        effects.begin("close")


def strike(folder: Path, injected: Effects, *, rotate: bool) -> None:
    # A process that is killed closes nothing; in this one the files go with their owners.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with injected.watching():
                work(folder, injected, rotate=rotate)
        except (Failed, Killed, LedgerError, VaultError) as error:
            error.__traceback__ = None
        gc.collect()


def damage(folder: Path, notes: list[Note]) -> list[str]:
    """What is wrong with a vault whose work is done."""
    with open_vault(folder) as vault:
        found = [str(fault) for fault in vault.audit().faults]
        trust = vault.trust()
        keys = vault._core.signer.keys
        published = read_entries(FolderSource(folder / "public"), keys)
        if published.size < RECORDS:
            found.append(f"only {published.size} entries are published")
        with vault._core.database.read() as connection:
            log = Log(connection)
            if log.pending_count():
                found.append("entries wait")
            trees = {one.size: one for one in map(parsed, notes)}
            if any(trees[one.size] != one for one in map(parsed, notes)):
                found.append("two roots were signed at one size")
            for old, new in pairwise(sorted(trees.values(), key=lambda one: one.size)):
                proof = log.consistency_proof(old.size, new.size)
                verify_consistency(old.size, old.root, new.size, new.root, proof)
        for row in vault.find("subject"):
            evidence = Evidence.parse(vault.prove(str(row)).format())
            if verify(evidence, trust).verdict is not Verdict.VERIFIED:
                found.append(f"{row} is not proven")
    return found


def parsed(note: Note) -> Checkpoint:
    return Checkpoint.parse(note.text)


def published_at_once(folder: Path) -> None:
    """A reader in the moment of the fault finds a whole log."""
    try:
        with open_vault(folder) as vault:
            keys = vault._core.signer.keys
        assert read_entries(FolderSource(folder / "public"), keys).size >= SIGNED
    except SourceMissing as missing:
        pytest.fail(f"not whole: {missing}")


WORK = pytest.mark.parametrize(
    "rotate", [False, True], ids=["checkpoint and export", "rotation too"]
)


@WORK
def test_p5_a_fault_at_any_effect_of_the_ledgers_work_damages_nothing(
    base, tmp_path, notes, rotate
):
    """Each place is struck in one way, by turns; the soak strikes each in every way."""
    kinds = list(Kind)
    struck = strike_all(base, tmp_path, notes, rotate, lambda number: [kinds[number % len(kinds)]])
    assert struck >= 10


@pytest.mark.soak
@WORK
def test_p5_every_fault_at_any_effect_damages_nothing(base, tmp_path, notes, rotate):
    assert strike_all(base, tmp_path, notes, rotate, lambda number: list(Kind)) >= 4 * 10


def strike_all(base, tmp_path, notes, rotate, kinds_at) -> int:
    first = tmp_path / "first"
    shutil.copytree(base, first)
    effects = Effects(first)
    with effects.watching():
        work(first, effects, rotate=rotate)
    damaged: list[str] = []
    struck = 0
    for number, (operation, name) in enumerate(effects.places):
        if operation not in (("rotate",) if rotate else ("checkpoint", "export")):
            continue
        for kind in kinds_at(number):
            folder = tmp_path / "struck"
            shutil.copytree(base, folder)
            notes.clear()
            injected = Effects(folder, number, kind)
            strike(folder, injected, rotate=rotate)
            struck += injected.struck
            published_at_once(folder)
            work(folder, Effects(folder), rotate=False)
            damaged += [f"{kind.value} {operation} {name}: {d}" for d in damage(folder, notes)]
            shutil.rmtree(folder)
    print(f"{struck} faults: {len(damaged)} damaged; places: {dict(Counter(effects.places))}")
    assert damaged == []
    return struck
