"""Rehearsals: key backups opened in a fresh process, and whole restores beside the living vault."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from guarantees_bytes import dump
from guarantees_vault import GROUND, PASSPHRASE, query
from restores import Site

import vault.backup.building
import vault.backup.replaying
from ledger.errors import SourceUnreachable
from ledger.source import FolderSource
from vault import Incomplete, InvalidInput, Vault
from vault.audit import AuditReport
from vault.backup.building import Materials
from vault.backup.container import digest_of
from vault.backup.drill import DrillReport, drill
from vault.backup.keys import backup_keys
from vault.errors import ProviderUnreachable
from vault.rehearsal import rehearse
from vault.rootkeys.file import FileRootKeys


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def used(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """30 records, backups "old", then 10 erased and 3 added, published, backups "new"."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with Vault.open(site.vault, PASSPHRASE) as opened:
        for number in range(30):
            site.put(opened, b"payload %d" % number, f"person {number % 10}")
        opened.anchor()
        site.publish(opened)
        shutil.copytree(site.ledger, site.root / "published then")
        site.back_up(opened, "old")
        site.erase(opened, *site.known.living()[:10])
        for number in range(3):
            site.put(opened, b"later %d" % number, "person 9")
        site.publish(opened)
        site.back_up(opened, "new", since="old")
    return site


def materials(site: Site, data: str, *keys: str, ledger: str | None = "published") -> Materials:
    source = None if ledger is None else FolderSource(site.root / ledger)
    return Materials(site.data(data), [site.keys(name) for name in keys], source)


def rehearsed(site: Site, opened: Vault, what: Materials) -> DrillReport:
    """Drill, and check that nothing is left and nothing was touched."""
    folder = site.root / "temporary"
    files = {path: path.read_bytes() for path in (site.vault / "signer").iterdir()}
    before = [query(opened, f"SELECT * FROM {table}") for table in UNTOUCHED]
    report = drill(opened._core, what, opened._core.caller(None, None))
    assert list(folder.iterdir()) == []
    assert {path: path.read_bytes() for path in (site.vault / "signer").iterdir()} == files
    assert [query(opened, f"SELECT * FROM {table}") for table in UNTOUCHED] == before
    [(digest, keys_digest, outcome, action)] = query(
        opened,
        "SELECT data_digest, keys_digest, outcome, action FROM vault_drill d"
        " JOIN vault_act a ON a.id = d.act_id ORDER BY d.id DESC LIMIT 1",
    )
    assert (digest, keys_digest) == (digest_of(what.data), digest_of(what.keys[-1]))
    assert action == "drill"
    stored = json.loads(outcome)
    assert stored.pop("passed") is report.passed
    assert DrillReport(**stored) == report
    return report


UNTOUCHED = (
    "vault_record",
    "vault_version",
    "vault_node",
    "vault_tree",
    "vault_generation",
    "vault_subject",
    "vault_bucket",
    "vault_lost",
    "ledger_head",
    "ledger_pending",
)


def test_a_drill_of_the_newest_backups_passes(used: Site) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        report = rehearsed(used, opened, materials(used, "new", "old", "new"))
        assert report == DrillReport(records=33, readable=23)
        assert report.passed
        assert opened.audit().faults == []


def test_a_drill_counts_what_older_backups_would_lose(used: Site) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        for keys in (["old"], ["old", "new"]):
            report = rehearsed(used, opened, materials(used, "old", *keys))
            assert report == DrillReport(records=30, readable=20, newer=3, replayed=10)
            assert report.passed


def test_a_drill_shows_what_would_be_resurrected(used: Site) -> None:
    """Old backups with an old ledger: that is why the newest belongs to every restore."""
    with Vault.open(used.vault, PASSPHRASE) as opened:
        report = rehearsed(used, opened, materials(used, "old", "old", ledger="published then"))
        assert (report.resurrected, report.passed) == (10, False)
        # Beside the current keys they do not come back even so.
        report = rehearsed(
            used, opened, materials(used, "old", "old", "new", ledger="published then")
        )
        assert (report.resurrected, report.replayed, report.passed) == (0, 10, True)


def test_a_drill_without_a_ledger_takes_the_vaults_own(used: Site) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        report = rehearsed(used, opened, materials(used, "old", "old", ledger=None))
        assert (report.resurrected, report.replayed, report.passed) == (0, 10, True)


def test_control_without_the_replay_a_drill_does_not_pass(
    used: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault.backup.replaying, "_TO_ERASE", "SELECT 1, 1 WHERE 0")
    monkeypatch.setattr(vault.backup.building, "audit", lambda *_args, **_kwargs: AuditReport())
    with Vault.open(used.vault, PASSPHRASE) as opened:
        report = rehearsed(used, opened, materials(used, "old", "old"))
        assert (report.resurrected, report.passed) == (10, False)
        # A key that is missing makes a record unreadable, which a drill says as well.
        report = rehearsed(used, opened, materials(used, "old", "old", "new"))
        assert (report.resurrected, report.unreadable) == (0, 0)
    print("\ncontrol: 10 of 10 resurrected without the replay")


def test_a_refused_restore_is_an_outcome(used: Site) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        opened.shred()
        used.publish(opened)
        report = rehearsed(used, opened, materials(used, "old", "old"))
        assert report.refusal is not None
        assert "destroyed by a shred (entry" in report.refusal
        # Without a ledger that says so, its keeper does.
        report = rehearsed(used, opened, materials(used, "old", "old", ledger="published then"))
        assert report.refusal is not None
        assert "root-1.key is gone" in report.refusal
        assert not report.passed


def test_what_is_erased_during_a_drill_is_no_finding(
    used: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        pointer = used.known.living()[0]
        original = vault.backup.building.audit

        def audit(*args: object, **kwargs: object) -> AuditReport:
            opened.erase(pointer, GROUND)
            return original(*args, **kwargs)

        monkeypatch.setattr(vault.backup.building, "audit", audit)
        what = materials(used, "new", "old", "new")
        report = drill(opened._core, what, opened._core.caller(None, None))
        assert report.passed
        assert (report.readable, report.resurrected) == (23, 0)


def test_a_provider_or_a_ledger_out_of_reach_is_no_outcome(
    used: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> bytes:
        raise ProviderUnreachable("no answer")

    with Vault.open(used.vault, PASSPHRASE) as opened:
        opened.get(used.known.living()[0])
        what = materials(used, "new", "old", "new")
        with monkeypatch.context() as patched:
            patched.setattr(FileRootKeys, "unwrap", silent)
            with pytest.raises(ProviderUnreachable):
                drill(opened._core, what, opened._core.caller(None, None))
        used.ledger.joinpath("checkpoint").unlink()
        used.ledger.joinpath("checkpoint").mkdir()
        with pytest.raises(SourceUnreachable):
            drill(opened._core, what, opened._core.caller(None, None))
        with pytest.raises(InvalidInput, match="cannot be read"):
            drill(opened._core, materials(used, "absent", "old"), opened._core.caller(None, None))
        assert query(opened, "SELECT count(*) FROM vault_drill") == [(0,)]
    assert list((used.root / "temporary").iterdir()) == []


def test_a_key_backup_is_opened_by_a_process_of_its_own(used: Site) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        backup_keys(opened._core, used.keys("full"))
    before = dump(used.keys("full"))
    found = rehearse(used.keys("full"), used.vault, PASSPHRASE, [0, 1])
    assert found == {
        0: {"generation": 1, "nodes": 4, "keys": 24},
        1: {"generation": 1, "nodes": 1, "keys": 0},
    }
    assert dump(used.keys("full")) == before
    # From any working directory, with a relative path.
    here = Path.cwd()
    os.chdir(used.root)
    try:
        assert rehearse(Path("full.keys"), Path("vault"), PASSPHRASE, [0])[0]["keys"] == 24
    finally:
        os.chdir(here)


def test_a_rehearsal_that_fails_says_why(used: Site) -> None:
    with Vault.open(used.vault, PASSPHRASE) as opened:
        backup_keys(opened._core, used.keys("full"))
    with pytest.raises(Incomplete, match="wrong passphrase"):
        rehearse(used.keys("full"), used.vault, "another", [0])
    shutil.move(used.vault / "keys" / "permanent-1.key", used.root)
    # A tree whose keeper is out of reach is not asked for where it is not wanted.
    assert set(rehearse(used.keys("full"), used.vault, PASSPHRASE, [0])) == {0}
    with pytest.raises(Incomplete, match=r"permanent-1\.key is gone"):
        rehearse(used.keys("full"), used.vault, PASSPHRASE, [0, 1])
