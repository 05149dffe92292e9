"""A database that was restored from an older copy signs nothing: one log, one history (P1).

The signer's memory lies outside the database and outside every backup. Whatever database is put in
the place of the newest one is compared with it first; the refusal says what to do, and bringing the
newest database back makes everything work again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from guarantees_vault import consistency_fault, erase, new_vault, open_vault, put, query

from commands.exitcodes import ExitCode, advice_for, exit_code_of
from ledger.checkpoint import Checkpoint
from ledger.errors import Forked, LedgerError, RolledBack, SignerStateLost
from ledger.integrator import integrate
from ledger.note import Note
from ledger.signer import SignerMemory
from vault import ConfigurationError, Vault

DATABASE = ("vault.db", "vault.db-wal", "vault.db-shm")


def take_copy(folder: Path, copy: Path) -> None:
    """Copy the database of a vault that nobody has open."""
    copy.mkdir()
    for name in DATABASE:
        if (folder / name).exists():
            shutil.copy(folder / name, copy / name)


def restore(folder: Path, copy: Path) -> None:
    """Put a copy of the database in the place of the one that is there."""
    for name in DATABASE:
        (folder / name).unlink(missing_ok=True)
    shutil.copytree(copy, folder, dirs_exist_ok=True)


def signed(folder: Path) -> bytes:
    return (folder / "signer" / "last-checkpoint").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A vault of which an older copy was taken at 5 leaves and a newest one at 10."""
    folder = new_vault(tmp_path / "vault")
    with open_vault(folder) as vault:
        for number in range(5):
            put(vault, b"early %d" % number, f"early {number}")
        vault.anchor()
    take_copy(folder, tmp_path / "older")
    with open_vault(folder) as vault:
        for number in range(4):
            put(vault, b"late %d" % number, f"late {number}")
        erase(vault, vault.find("early 0")[0])
        vault.anchor()
    take_copy(folder, tmp_path / "newest")
    return folder


def refused(folder: Path, expected: type[LedgerError], advice: str) -> int:
    """Assert that everything that would sign is refused and leaves no trace; return how many."""
    memory = signed(folder)
    anchors = (folder / "anchors" / "local-anchor").read_bytes()
    with open_vault(folder) as vault:
        before = traces(vault)
        attempts: list[Callable[[], object]] = [
            vault.checkpoint,
            vault.anchor,
            lambda: vault.put(b"x", category="nieuwsbrief", subject="waits", wait=True),
            vault.checkpoint,
        ]
        for attempt in attempts:
            with pytest.raises(expected) as caught:
                attempt()
            assert advice in advice_for(caught.value)
            assert exit_code_of(caught.value) is ExitCode.FAULT
        assert traces(vault) == before
        assert any("signer" in str(fault) for fault in vault.audit().faults)
    assert signed(folder) == memory, "the signer signed another history"
    assert (folder / "anchors" / "local-anchor").read_bytes() == anchors
    return len(attempts)


def traces(vault: Vault) -> list[object]:
    """Return what signing and anchoring leave behind in a database."""
    return [
        query(vault, f"SELECT * FROM {table}")
        for table in ("ledger_checkpoint", "ledger_head", "anchor_statement", "anchor_receipt")
    ]


def works_again(folder: Path, tmp_path: Path) -> None:
    """Assert that the newest database signs, anchors and audits as if nothing had happened."""
    older = Note.parse(signed(folder))
    restore(folder, tmp_path / "newest")
    with open_vault(folder) as vault:
        put(vault, b"after", "after")
        [anchored] = vault.anchor()
        assert anchored.size == Checkpoint.parse(older.text).size + 1
        assert consistency_fault(vault, older, vault.checkpoint()) is None
        assert vault.audit().faults == []
        assert vault.find("early 0") == []


def test_an_older_copy_signs_nothing(folder: Path, tmp_path: Path) -> None:
    restore(folder, tmp_path / "older")
    count = refused(folder, RolledBack, "bring back the newest database")
    works_again(folder, tmp_path)
    print(f"\nolder copy: {count} of {count} attempts refused as rolled back, nothing signed")


def test_an_older_copy_says_how_far_it_is_behind(folder: Path, tmp_path: Path) -> None:
    restore(folder, tmp_path / "older")
    with open_vault(folder) as vault, pytest.raises(RolledBack, match="holds 5 leaves") as caught:
        vault.checkpoint()
    assert (caught.value.signed, caught.value.present) == (10, 5)


@pytest.mark.parametrize("puts", [5, 9])
def test_another_history_signs_nothing(folder: Path, tmp_path: Path, puts: int) -> None:
    """An older copy that grew past its own check, to as many leaves as were signed or more."""
    restore(folder, tmp_path / "older")
    with open_vault(folder) as vault:
        for number in range(puts):
            put(vault, b"another history %d" % number, f"other {number}")
        with vault._core.database.write() as connection:
            integrate(connection)
        assert query(vault, "SELECT size FROM ledger_head") == [(5 + puts,)]
    count = refused(folder, Forked, "bring back the database that was signed")
    works_again(folder, tmp_path)
    print(f"\n{5 + puts} other leaves: {count} of {count} attempts refused as forked")


def test_a_lost_signer_memory_signs_nothing(folder: Path, tmp_path: Path) -> None:
    memory = folder / "signer" / "last-checkpoint"
    kept = memory.read_bytes()
    others = new_vault(tmp_path / "other")
    broken = {
        "missing": None,
        "empty": b"",
        "cut short": kept[:-10],
        "changed": kept.replace(b"\n10\n", b"\n11\n"),
        "a plain text": b"lost\n",
        "without its signature": kept.split(b"\n\n")[0] + b"\n",
    }
    assert others.exists()
    for what, content in broken.items():
        memory.unlink()
        if content is not None:
            memory.write_bytes(content)
        with open_vault(folder) as vault:
            for attempt in (vault.checkpoint, vault.anchor):
                with pytest.raises(SignerStateLost) as caught:
                    attempt()
                assert "bring the vault's signer folder back" in advice_for(caught.value), what
        assert (memory.read_bytes() if memory.exists() else None) == content
        memory.write_bytes(kept)
    works_again(folder, tmp_path)
    print(f"\nsigner's memory: {len(broken)} of {len(broken)} ways to lose it refused")


def test_a_lost_signer_folder_signs_nothing_and_reads_go_on(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "signer", tmp_path / "signer-kept")
    with open_vault(folder) as vault:
        for attempt in (vault.checkpoint, vault.anchor):
            with pytest.raises((SignerStateLost, ConfigurationError)) as caught:
                attempt()
            assert "signer" in str(caught.value)
        assert vault.get(vault.find("late 1")[0]) == b"late 1"
        put(vault, b"stored meanwhile", "meanwhile")
    assert not (folder / "signer").exists(), "a new signer folder was made"
    shutil.move(tmp_path / "signer-kept", folder / "signer")
    with open_vault(folder) as vault:
        vault.checkpoint()
        assert vault.audit().faults == []


def test_control_a_signer_without_memory_signs_a_fork(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the memory is for: without it, two checkpoints contradict each other."""
    with open_vault(folder) as vault:
        newest = vault.checkpoint()
    restore(folder, tmp_path / "older")

    def trusting(memory: SignerMemory, log: object, head: object) -> tuple[Note, Checkpoint]:
        return newest, Checkpoint("datakluis.example/guarantees", 0, bytes(32))

    with open_vault(folder) as vault:
        for number in range(7):
            put(vault, b"fork %d" % number, f"fork {number}")
        monkeypatch.setattr(SignerMemory, "check", trusting)
        fork = vault.checkpoint()
        assert Checkpoint.parse(fork.text).size == 12
        contradiction = consistency_fault(vault, newest, fork)
    assert contradiction is not None
    print(f"\ncontrol: {contradiction[:90]}")
