"""Backups: which table goes where, that data holds no key, and what a chain of key backups is."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from guarantees_vault import CATEGORY, GROUND, PASSPHRASE, query
from guarantees_worker import Worker
from restores import Site, do_restore, living, open_restored
from sqlalchemy import Column, Integer, MetaData, Table

import anchor.tables
import ledger.tables
import vault.tables
from ledger.logkeys import LogKeys
from vault import (
    Busy,
    ConfigurationError,
    Damaged,
    Incomplete,
    InvalidInput,
    NewRecord,
    Vault,
    VaultError,
)
from vault.backup.container import BackupKind, open_backup, read_texts
from vault.backup.data import DATA, KEYS, METADATA, NEITHER, backup_data
from vault.backup.keys import backup_keys, merge_chain
from vault.keyfile import read_key_file
from vault.keynode import FANOUT, SlotState, key_at, state_at
from vault.rehearsal import rehearse
from vault.rootkeys.provider import TreeNumber


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def opened_of(site: Site) -> Vault:
    return Vault.open(site.vault, PASSPHRASE)


def unassigned(metadata: Iterable[MetaData]) -> set[str]:
    """Return the tables that stand in none of the three, or that only stand there."""
    return {name for one in metadata for name in one.tables} ^ {*DATA, *KEYS, *NEITHER}


def test_every_table_is_in_exactly_one_backup_or_in_neither(site: Site) -> None:
    assert unassigned(METADATA) == set()
    assert len({*DATA, *KEYS, *NEITHER}) == len(DATA) + len(KEYS) + len(NEITHER)
    assert set(METADATA) == {
        ledger.tables.metadata,
        vault.tables.metadata,
        anchor.tables.metadata,
    }
    with opened_of(site) as opened:
        stored = {row[0] for row in query(opened, "SELECT name FROM sqlite_schema WHERE type ="
                                          " 'table' AND name <> 'alembic_version'")}  # fmt: skip
    assert stored == {*DATA, *KEYS, *NEITHER}
    # Control: a table that nobody assigned is noticed.
    extra = MetaData()
    Table("vault_new", extra, Column("id", Integer))
    assert unassigned([*METADATA, extra]) == {"vault_new"}
    print(f"\n{len(DATA)} tables are data, {len(KEYS)} keys, {len(NEITHER)} neither")


def secrets_of(opened: Vault) -> Iterator[tuple[str, bytes]]:
    """Yield every key there is: of slots, nodes, epochs, root key files; sealed nodes, too."""
    core = opened._core
    with core.database.read() as connection:
        for number in TreeNumber:
            tree = core.trees[number]
            state = tree.state(connection)
            yield "epoch key", tree.epoch_key(connection, state)
            for level, place, sealed in query(
                opened, "SELECT level, number, sealed FROM vault_node"
            ):
                if place >> (8 * (3 - level)) != number:
                    continue
                yield "sealed node", bytes(sealed[100:164])
                node = tree.node(connection, state, (level, place))
                for position in range(FANOUT):
                    if state_at(node, position) in (SlotState.LIVE, SlotState.PERMANENT):
                        yield "slot key" if level == 0 else "node key", key_at(node, position)
    for (wrapped,) in query(opened, "SELECT wrapped FROM vault_generation WHERE wrapped NOTNULL"):
        yield "wrapped epoch key", bytes(wrapped)
    for path in (opened.folder / "keys").iterdir():
        yield "root key", read_key_file(path, "root key", PASSPHRASE)
        yield "root key file", path.read_bytes()[100:200]
    for name, label in (
        ("log", "log key"),
        ("log-mldsa", "ML-DSA-44 log key"),
        ("organisation", "organisation key"),
    ):
        yield label, read_key_file(opened.folder / "signer" / f"{name}.key", label, PASSPHRASE)


def test_a_data_backup_holds_no_key_of_any_kind(site: Site) -> None:
    with opened_of(site) as opened:
        for number in range(300):
            site.put(opened, b"payload %d" % number, f"person {number}")
        opened.put(b"for ever", category="organisatie", subject="house")
        site.erase(opened, *site.known.living()[:20])
        opened.anchor()
        site.back_up(opened, "now")
        data, keys = site.data("now").read_bytes(), site.keys("now").read_bytes()
        counted = dict.fromkeys([kind for kind, _ in secrets_of(opened)], 0)
        for kind, secret in secrets_of(opened):
            assert secret not in data, kind
            counted[kind] += 1
            # Control: what a key backup is for is found there by the same search.
            assert (secret in keys) is (kind in ("sealed node", "wrapped epoch key")), kind
        bodies = query(opened, "SELECT body FROM vault_version WHERE body NOTNULL")
    assert counted["slot key"] > 280
    assert all(bytes(body) in data and bytes(body) not in keys for (body,) in bodies)
    for table in KEYS:
        assert f"CREATE TABLE {table}".encode() not in data
    print(f"\nnot in a data backup: {counted}")


def test_what_was_erased_is_in_no_later_backup(site: Site) -> None:
    with opened_of(site) as opened:
        pointers = [site.put(opened, b"x" * 100, f"person {n}") for n in range(20)]
        bodies = [bytes(row[0]) for row in query(opened, "SELECT body FROM vault_version")]
        site.erase(opened, *pointers[:10])
        site.back_up(opened, "now")
    data = site.data("now").read_bytes()
    assert [body in data for body in bodies] == [False] * 10 + [True] * 10


def test_a_data_backup_says_what_it_holds(site: Site) -> None:
    with opened_of(site) as opened:
        for number in range(5):
            site.put(opened, b"payload %d" % number, "person")
        opened.rectify(site.known.living()[0], b"corrected")
        site.erase(opened, site.known.living()[1])
        opened.anchor()
        report = backup_data(opened._core, site.data("now"))
        trust = opened.trust()
    assert (report.records, report.erased, report.versions, report.leaves) == (4, 1, 5, 7)
    assert report.size == site.data("now").stat().st_size
    assert site.data("now").stat().st_mode & 0o777 == 0o600
    with open_backup(site.data("now"), BackupKind.DATA) as (connection, header):
        texts = read_texts(connection)
    assert (header.origin, header.base) == (trust.origin, None)
    assert texts["datakluis.toml"] == (site.vault / "datakluis.toml").read_text()
    assert texts["local-anchor"] == (site.vault / "anchors" / "local-anchor").read_text()
    assert texts["log-keys"] == LogKeys(trust.log_keys).format()
    assert set(texts) == {
        "anchor-key",
        "datakluis.toml",
        "local-anchor",
        "log-keys",
        "signed-checkpoint",
        "tenant",
    }


def test_a_backup_overwrites_nothing_and_leaves_nothing_half(site: Site) -> None:
    with opened_of(site) as opened:
        site.back_up(opened, "now")
        before = site.data("now").read_bytes(), site.keys("now").read_bytes()
        for make, path in ((backup_data, site.data("now")), (backup_keys, site.keys("now"))):
            with pytest.raises(ConfigurationError, match="overwrites nothing"):
                make(opened._core, path)
            with pytest.raises(ConfigurationError, match="cannot be written"):
                make(opened._core, site.root / "absent" / "out")
        # What an interrupted one has left is replaced.
        partial = site.root / "again.data.partial"
        partial.write_bytes(b"left over")
        backup_data(opened._core, site.data("again"))
        assert not partial.exists()
    assert (site.data("now").read_bytes(), site.keys("now").read_bytes()) == before


def test_without_the_signer_there_is_no_data_backup(site: Site) -> None:
    """It would not say under which key a newer ledger is to be verified."""
    site.signer.rename(site.root / "kept")
    with opened_of(site) as opened:
        with pytest.raises(ConfigurationError, match="signer"):
            backup_data(opened._core, site.data("now"))
        backup_keys(opened._core, site.keys("now"))
    assert not site.data("now").exists()


def back_up_on_a_full_disk(pipe: Connection, folder: Path, out: Path, limit: int) -> None:
    """Make a data backup where no file can grow beyond a limit, and tell what came of it."""
    with Vault.open(folder, PASSPHRASE) as opened:
        _ = opened._core.signer
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            backup_data(opened._core, out)
            pipe.send("done")
        except VaultError as error:
            pipe.send((type(error).__name__, str(error)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    pipe.poll(None)  # Stays to be killed.


def test_a_full_disk_leaves_no_backup(site: Site) -> None:
    with opened_of(site) as opened:
        for number in range(100):
            site.put(opened, b"x" * 5_000, f"person {number}")
    outcomes = []
    for limit in (1, 4_096, 50_000, 200_000):
        worker = Worker(back_up_on_a_full_disk, site.vault, site.data("no"), limit)
        outcomes.append(worker.receive())
        worker.kill()
        assert not [path for path in site.root.iterdir() if path.name.startswith("no.")]
    assert {outcome[0] for outcome in outcomes} <= {"Busy", "ConfigurationError"}
    print(f"\n{len(outcomes)} of {len(outcomes)} refused: {outcomes[0][1]}")


def test_a_damaged_database_makes_no_backup(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with opened_of(site) as opened:
        monkeypatch.setattr("vault.backup.container._copy", broken)
        with pytest.raises(Damaged, match="malformed"):
            backup_data(opened._core, site.data("no"))
    assert not site.data("no").exists()


def test_backups_are_made_while_others_write(site: Site) -> None:
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            site.put(opened, b"payload %d" % number, f"person {number % 9}")
            if number % 20 == 19:
                opened.anchor()
            if number % 7 == 6:
                site.erase(opened, site.known.living()[0])
            number += 1

    with opened_of(site) as opened:
        site.put(opened, b"first", "person")
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(5):
                # Data first: keys may be newer, never older.
                backup_data(opened._core, site.data(f"{number}"))
                backup_keys(opened._core, site.keys(f"{number}"))
        finally:
            done.set()
            writer.join()
        site.publish(opened)
    for number in range(5):
        order = site.order(f"restored {number}", f"{number}", [f"{number}"])
        report = do_restore(order)
        with open_restored(order) as restored:
            assert restored.audit().faults == []
            # What was put after the backup is lost, and told.
            assert living(site, restored) == report.records
            assert living(site, restored) + report.replayed.lost == len(site.known.living())
    assert report.records > 1


@pytest.fixture
def many(site: Site) -> Site:
    """10,000 records, 40 leaves of the key tree, and a full key backup."""
    with opened_of(site) as opened:
        records = [NewRecord(b"payload %d" % n, f"person {n}") for n in range(10_000)]
        opened.put_many(records, category=CATEGORY)
        site.back_up(opened, "full")
    return site


def nodes_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM vault_node").fetchone()[0])


def test_an_incremental_key_backup_grows_with_what_was_erased(many: Site) -> None:
    sizes = {}
    with opened_of(many) as opened:
        for erased in (0, 1, 4):
            pointers = [opened.find(f"person {2_000 * n + erased}")[0] for n in range(erased)]
            for pointer in pointers:
                opened.erase(pointer, GROUND)
            name = f"after {erased}"
            before = "full" if not sizes else f"after {max(sizes)}"
            backup_keys(opened._core, many.keys(name), many.keys(before))
            sizes[erased] = nodes_in(many.keys(name))
        whole = nodes_in(many.keys("full"))
    assert sizes[0] == 0
    # Each erasure re-keys the path of its slot and that of its bucket, which gets a new slot too.
    assert all(0 < sizes[erased] <= 3 + 3 * erased for erased in (1, 4))
    assert whole > 3 * sizes[4]
    print(f"\nnodes: {whole} in a full key backup; after k erasures {sizes}")


def test_a_merged_chain_is_a_full_key_backup(many: Site) -> None:
    with opened_of(many) as opened:
        for number in range(3):
            opened.erase(opened.find(f"person {number * 3_000}")[0], GROUND)
            opened.put_many([NewRecord(b"x", f"new {number}")] * 300, category=CATEGORY)
            since = many.keys("full" if number == 0 else f"{number - 1}")
            backup_keys(opened._core, many.keys(f"{number}"), since)
        backup_keys(opened._core, many.keys("newest"))
    merge_chain([many.keys(name) for name in ("full", "0", "1", "2")], many.root / "merged")
    rows = []
    for path in (many.root / "merged", many.keys("newest")):
        with closing(sqlite3.connect(path)) as connection:
            rows.append([
                sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
                for table in KEYS
            ])  # fmt: skip
    assert rows[0] == rows[1]
    assert (many.root / "merged").stat().st_mode & 0o777 == 0o600
    found = rehearse(many.root / "merged", many.vault, PASSPHRASE, [0, 1])
    assert found[0]["generation"] == 1


def test_a_chain_in_another_order_is_refused(many: Site) -> None:
    with opened_of(many) as opened:
        for name, since in (("1", "full"), ("2", "1")):
            opened.erase(opened.find(f"person {name}")[0], GROUND)
            backup_keys(opened._core, many.keys(name), many.keys(since))
        backup_keys(opened._core, many.keys("full again"))
    chains = {
        ("1", "2"): "continues another",
        ("full", "2"): "does not continue",
        ("full", "1", "1"): "does not continue",
        ("full", "2", "1"): "does not continue",
        ("full again", "1"): "does not continue",
        ("full", "full again"): "does not continue",
        ("full", "absent"): "is missing",
    }
    for names, words in chains.items():
        with pytest.raises(InvalidInput, match=words):
            merge_chain([many.keys(name) for name in names], many.root / "merged")
    changed = bytearray(many.keys("1").read_bytes())
    changed[-1] ^= 1
    many.keys("1").write_bytes(changed)
    with pytest.raises(InvalidInput, match="does not continue"):
        merge_chain([many.keys(name) for name in ("full", "1", "2")], many.root / "merged")
    print(f"\n{len(chains) + 1} chains refused")


def test_a_key_backup_continues_its_own_vault_only(many: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Vault.create(other, PASSPHRASE, origin="datakluis.example/other").close()
    with Vault.open(other, PASSPHRASE) as opened:
        with pytest.raises(InvalidInput, match="another vault"):
            backup_keys(opened._core, many.root / "no", many.keys("full"))
        with pytest.raises(InvalidInput, match="not a backup of keys"):
            backup_keys(opened._core, many.root / "no", many.data("full"))
    assert not (many.root / "no").exists()


def test_after_a_restore_a_full_key_backup_is_needed(many: Site) -> None:
    """The tree's sequence counts on from the backup's, so it may come to numbers used before."""
    order = many.order("restored", "full", ["full"], ledger=False)
    do_restore(order)
    with open_restored(order) as restored:
        with pytest.raises(InvalidInput, match="make a full key backup"):
            backup_keys(restored._core, many.keys("next"), many.keys("full"))
        backup_keys(restored._core, many.keys("full again"))


def test_files_that_are_no_backups_are_refused(many: Site) -> None:
    garbage = many.root / "garbage"
    garbage.write_bytes(b"not a database at all" * 100)
    empty = many.root / "empty"
    empty.touch()
    for path, kind, error in (
        (garbage, BackupKind.KEYS, Damaged),
        (empty, BackupKind.KEYS, Damaged),
        (many.keys("full"), BackupKind.DATA, InvalidInput),
        (many.data("full"), BackupKind.KEYS, InvalidInput),
        (many.vault / "vault.db", BackupKind.DATA, Damaged),
        (many.root, BackupKind.DATA, InvalidInput),
    ):
        with pytest.raises(error), open_backup(path, kind):
            pass
    with closing(sqlite3.connect(many.keys("full"), isolation_level=None)) as connection:
        connection.execute("UPDATE kluis_backup SET schema = '9999'")
    with pytest.raises(InvalidInput, match="restore it with the version that made it"):
        merge_chain([many.keys("full")], many.root / "merged")


def test_a_backup_of_a_damaged_tree_is_not_rehearsed(many: Site) -> None:
    with closing(sqlite3.connect(many.keys("full"), isolation_level=None)) as connection:
        connection.execute("UPDATE vault_node SET sealed = zeroblob(8476) WHERE level = 0")
    with pytest.raises(Incomplete, match="does not open"):
        rehearse(many.keys("full"), many.vault, PASSPHRASE, [0])


def test_a_busy_database_makes_no_backup(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    with opened_of(site) as opened:
        monkeypatch.setattr("vault.backup.container._copy", busy)
        with pytest.raises(Busy, match="locked"):
            backup_keys(opened._core, site.keys("no"))
    assert not site.keys("no").exists()


def test_a_changed_key_backup_is_not_continued(many: Site) -> None:
    whole = many.keys("full").read_bytes()
    for change in (
        "UPDATE vault_tree SET sequence = '0) OR (1'",
        "UPDATE vault_tree SET id = 7",
        "DELETE FROM vault_tree WHERE id = 2",
        "UPDATE vault_tree SET id = 'text'",
    ):
        with closing(sqlite3.connect(many.keys("full"), isolation_level=None)) as connection:
            connection.execute(change)
        with opened_of(many) as opened, pytest.raises(Damaged, match="lacks a key tree"):
            backup_keys(opened._core, many.keys("no"), many.keys("full"))
        many.keys("full").write_bytes(whole)
    assert not many.keys("no").exists()
