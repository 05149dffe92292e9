"""A restore brings back what lives and nothing that was erased, or leaves nothing (ER6).

Erased records are counted one by one in each restored vault; a control without the replay shows
that they would be there.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from guarantees_vault import CATEGORY, GROUND, PASSPHRASE, chosen_seed, outcome, query
from guarantees_worker import Worker
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from restores import (
    Site,
    die_in_restore,
    do_restore,
    findable,
    living,
    nothing_made,
    open_restored,
    resurrected,
)
from sqlalchemy import Connection

import vault.backup.building
import vault.backup.replaying
from anchor.evidence import Evidence
from anchor.steps import Verdict
from anchor.verify import verify
from commands.exitcodes import ExitCode, exit_code_of
from ledger.entry import EntryKind, parse_entry
from ledger.errors import BadSignature, Forked, LedgerError
from ledger.log import Log
from ledger.pointer import parse_pointer
from ledger.source import FolderSource
from vault import (
    Busy,
    ConfigurationError,
    Damaged,
    Erased,
    ImportOrder,
    InvalidInput,
    NotFound,
    Vault,
    VaultError,
    WrongPassphrase,
)
from vault.audit import AuditReport
from vault.backup.building import Materials, RestoreStep
from vault.backup.data import backup_data
from vault.backup.errors import KeysDestroyed, KeysTooOld, RestoreRefused
from vault.backup.keys import backup_keys
from vault.backup.replaying import STAND_IN, Replayed
from vault.backup.restore import RestoreOrder, restore
from vault.clock import SystemClock
from vault.errors import KeyGone
from vault.rootkeys.file import FileRootKeys
from vault.rootkeys.provider import TreeNumber

NOTHING = Replayed(0, 0, 0, 0, 0, 0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def used(site: Site) -> Site:
    """40 records of 20 persons; backups "old"; then half of them erased, published, "new"."""
    with open_vault_of(site) as opened:
        pointers = [site.put(opened, b"payload %d" % n, f"person {n % 20}") for n in range(40)]
        opened.anchor()
        site.back_up(opened, "old")
        # Of persons 0 to 9 nothing is left, so their buckets got another key.
        site.erase(opened, *(pointers[n] for n in range(40) if n % 20 < 10))
        site.publish(opened)
        site.back_up(opened, "new", since="old")
    return site


def open_vault_of(site: Site) -> Vault:
    return Vault.open(site.vault, PASSPHRASE)


def clean(restored: Vault) -> None:
    assert [str(fault) for fault in restored.audit().faults] == []


def test_backups_made_together_lose_nothing(site: Site) -> None:
    lines = site.root / "lines.jsonl"
    lines.write_text('{"bsn": "import 0"}\n{"bsn": "import 1"}\n')
    with open_vault_of(site) as opened:
        pointers = [site.put(opened, b"payload %d" % n, f"person {n % 7}") for n in range(30)]
        opened.import_jsonl(ImportOrder(lines, CATEGORY, "/bsn"))
        kept = opened.put(b"for ever", category="organisatie", subject="house")
        opened.anchor()
        opened.rectify(pointers[0], b"corrected")
        site.known.versions[pointers[0]].append(b"corrected")
        opened.place_hold(pointers[1], "appeal")
        opened.prove(pointers[2], disclose=True)
        site.erase(opened, *pointers[3:9])
        opened.shred()
        site.erase(opened, pointers[9])
        site.publish(opened)
        site.put(opened, b"pending", "person 3")
        site.back_up(opened, "now")
        history = [opened.history(pointer) for pointer in pointers]
        certificate = opened.certificate(pointers[3])
        status = opened.shred_status().waiting
        acts = query(opened, "SELECT count(*) FROM vault_act")[0][0]
    order = site.order("restored", "now", ["now"])
    report = do_restore(order)
    assert report.replayed == NOTHING
    assert (report.findings, report.leaves_added, report.signs) == (None, 0, True)
    with open_restored(order) as restored:
        clean(restored)
        # The import and the record that is kept for ever were not noted.
        assert site.known.damage(restored) == ["half-done: 34 records, 31 were put"]
        assert restored.get(kept) == b"for ever"
        assert [restored.history(pointer) for pointer in pointers] == history
        assert restored.certificate(pointers[3]) == certificate
        assert restored.shred_status().waiting == status
        assert query(restored, "SELECT count(*) FROM vault_act")[0][0] == acts + 1
        assert query(restored, "SELECT action FROM vault_act ORDER BY id DESC LIMIT 1") == [
            ("restore",)
        ]
        # And it goes on.
        site.put(restored, b"afterwards", "person 1")
        site.erase(restored, pointers[10])
        restored.anchor()
        evidence = Evidence.parse(restored.prove(pointers[11]).format())
        assert verify(evidence, restored.trust()).verdict is Verdict.VERIFIED
        restored.shred()
        restored.certificate(pointers[10])
        clean(restored)
        assert living(site, restored) == len(site.known.living())
    print(f"\n{report.records} living records restored, 0 lost, {report.leaves} leaves")


def test_old_data_beside_the_current_keys_brings_no_erased_record_back(used: Site) -> None:
    for ledger in (True, False):
        order = used.order(
            f"restored {ledger}", "old", ["old", "new"], ledger=ledger, signer=ledger
        )
        report = do_restore(order)
        erased = len(used.known.erased)
        expected = (erased, 0) if ledger else (0, erased)
        assert (report.replayed.erasures, report.replayed.erased_in_keys) == expected
        with open_restored(order) as restored:
            assert resurrected(used, restored) == []
            assert living(used, restored) == len(used.known.living()) == report.records
            # No person who was erased is found, and whom nobody can know any more is told.
            assert all(restored.find(f"person {n}") == [] for n in range(10))
            assert findable(used, restored) == len(used.known.living()) - report.replayed.unfindable
            lines = [] if report.findings is None else report.findings.read_text().splitlines()
            assert len(lines) == report.replayed.unfindable
            for line in lines:
                _, pointer, stand_in = line.split(" ", 2)
                assert pointer in restored.find(stand_in)
            if ledger:
                clean(restored)
                restored.checkpoint()
                clean(restored)
    print(
        f"\nold data, current keys: 0 of {erased} erased records resurrected,"
        f" {report.records} of {report.records} living readable,"
        f" {report.replayed.unfindable} of them not to be found under their subject"
    )


def test_records_of_one_unknown_person_stay_together(used: Site) -> None:
    order = used.order("restored", "old", ["old", "new"])
    report = do_restore(order)
    assert report.replayed.unfindable == 20
    assert report.findings is not None
    assert report.findings.stat().st_mode & 0o777 == 0o600
    with open_restored(order) as restored:
        groups = {
            frozenset(restored.find(STAND_IN.format(row[0])))
            for row in query(restored, "SELECT id FROM vault_subject")
        }
        expected = {
            frozenset(p for p in used.known.living() if used.known.subjects[p] == f"person {n}")
            for n in range(10, 20)
        }
        assert groups == expected


def test_old_data_and_old_keys_replay_the_newest_ledger(used: Site) -> None:
    order = used.order("restored", "old", ["old"])
    report = do_restore(order)
    assert report.replayed == Replayed(20, 0, 0, 0, 0, 0)
    assert report.leaves_added == 20
    with open_restored(order) as restored:
        assert resurrected(used, restored) == []
        assert living(used, restored) == findable(used, restored) == 20
        assert query(restored, "SELECT count(*) FROM vault_erasure") == [(0,)]
        clean(restored)
        assert used.known.damage(restored) == []
        leaf = restored.erasure_index(min(used.known.erased))
        assert leaf is not None
        restored.checkpoint()
    print(f"\nold data, old keys, newest ledger: 0 of {report.replayed.erasures} resurrected")


def test_control_without_the_replay_they_come_back(
    used: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault.backup.replaying, "_TO_ERASE", "SELECT 1, 1 WHERE 0")
    order = used.order("restored", "old", ["old"])
    with pytest.raises(RestoreRefused, match="differ on whether it was erased"):
        do_restore(order)
    assert nothing_made(used, "restored")
    monkeypatch.setattr(vault.backup.building, "audit", lambda *_args, **_kwargs: AuditReport())
    do_restore(order)
    with open_restored(order) as restored:
        back = resurrected(used, restored)
    print(f"\ncontrol: {len(back)} of {len(used.known.erased)} resurrected without the replay")
    assert len(back) == len(used.known.erased) == 20


def test_without_a_newer_ledger_old_backups_open_what_was_alive_then(used: Site) -> None:
    """The limit: nobody told this vault what happened since, and the old root key is there."""
    order = used.order("restored", "old", ["old"], ledger=False, signer=False)
    do_restore(order)
    with open_restored(order) as restored:
        assert len(resurrected(used, restored)) == 20
    # With the signer it is noticed: that one has signed more.
    with pytest.raises(RestoreRefused, match="signed 60 leaves, and only 40"):
        do_restore(used.order("signing", "old", ["old"], ledger=False))
    assert nothing_made(used, "signing")


@pytest.fixture
def shredded(used: Site) -> Site:
    """The vault after a shred, with a copy of the old root keys kept by somebody."""
    shutil.copytree(used.rootkeys, used.root / "kept")
    with open_vault_of(used) as opened:
        opened.shred()
        used.publish(opened)
        used.back_up(opened, "shredded")
    return used


def test_old_keys_after_a_shred_are_refused(shredded: Site) -> None:
    kept = shredded.root / "kept"
    cases: dict[str, Callable[[], RestoreOrder]] = {
        "old keys, live root keys": lambda: shredded.order("no", "old", ["old"]),
        "old keys, kept root keys": lambda: shredded.order("no", "old", ["old"], rootkey=kept),
        "old keys, one kept root key": lambda: shredded.order(
            "no", "old", ["old"], rootkey=kept / "root-1.key", signer=False
        ),
        "new data says it, no other ledger": lambda: shredded.order(
            "no", "shredded", ["old", "new"], rootkey=kept, ledger=False
        ),
        "chain up to the shred": lambda: shredded.order("no", "old", ["old", "new"], rootkey=kept),
    }
    for what, order in cases.items():
        with pytest.raises(KeysDestroyed) as caught:
            do_restore(order())
        message = str(caught.value)
        assert "generation 1 of the ordinary key tree, which was destroyed by a shred" in message
        assert "bring a key backup made after it" in message
        assert "\n" not in message
        assert exit_code_of(caught.value) is ExitCode.FAULT, what
        assert nothing_made(shredded, "no"), what
    print(f"\nold keys after a shred: {len(cases)} of {len(cases)} refused, nothing made")


def test_old_keys_whose_root_key_is_gone_are_refused_without_any_ledger(
    shredded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeysDestroyed, match=r"holds later root keys, not root-1\.key"):
        do_restore(shredded.order("no", "old", ["old"], ledger=False, signer=False))

    def gone(*_: object) -> bytes:
        raise KeyGone("the token has no such object")

    monkeypatch.setattr(FileRootKeys, "unwrap", gone)
    kept = shredded.root / "kept"
    with pytest.raises(KeysDestroyed, match="the token has no such object"):
        do_restore(shredded.order("no", "old", ["old"], rootkey=kept, ledger=False, signer=False))
    assert nothing_made(shredded, "no")


def test_data_of_any_day_beside_the_keys_of_today(shredded: Site) -> None:
    for data in ("old", "new", "shredded"):
        order = shredded.order(f"restored {data}", data, ["shredded"])
        report = do_restore(order)
        assert report.generations == (2, 1)
        with open_restored(order) as restored:
            assert resurrected(shredded, restored) == []
            assert living(shredded, restored) == 20
            clean(restored)
            restored.shred()
            clean(restored)
    assert not (order.folder / "keys" / "root-1.key").exists()


def test_a_certificate_that_the_ledger_knows_is_not_issued_again(shredded: Site) -> None:
    order = shredded.order("restored", "new", ["shredded"])
    do_restore(order)
    with open_restored(order) as restored:
        restored.shred()
        restored.checkpoint()
        clean(restored)
        pointer = min(shredded.known.erased)
        with restored._core.database.read() as connection:
            numbers = [
                entry.version
                for entry in map(parse_entry, entries_about(connection, pointer))
                if entry.kind is EntryKind.CERTIFICATE
            ]
        assert numbers == [1, 2]


def entries_about(connection: Connection, pointer: str) -> list[bytes]:
    log = Log(connection)
    return [log.entry(leaf) for leaf in log.leaves_of(parse_pointer(pointer))]


def test_keys_that_a_restore_took_from_nobody_are_shredded_as_well(site: Site) -> None:
    """No record says that they were erased, and still they hang on this generation's root key."""
    with open_vault_of(site) as opened:
        site.put(opened, b"in the backup", "somebody")
        site.back_up(opened, "early")
        site.put(opened, b"after it", "somebody else")
        site.back_up(opened, "late", since="early")
    order = site.order("restored", "early", ["early", "late"], ledger=False, signer=True)
    do_restore(order)
    with open_restored(order) as restored:
        assert restored.shred().gone == ((TreeNumber.ORDINARY, 1),)
        # Once is enough, and the permanent tree, of which nothing went, stays where it is.
        assert restored.shred().trees == ()


def test_erasing_goes_on_in_later_generations(used: Site) -> None:
    with open_vault_of(used) as opened:
        pointer, other = used.known.living()[:2]
        used.rectify(opened, pointer, b"corrected after the backup")
        used.publish(opened)
    order = used.order("restored", "old", ["old"])
    report = do_restore(order)
    assert (report.replayed.outdated, report.replayed.erasures) == (1, 20)
    with open_restored(order) as restored:
        # What was erased again lies in this generation too, so the epoch is closed.
        assert restored.shred().gone == ((TreeNumber.ORDINARY, 1),)
        for one in (pointer, other):
            restored.erase(one, GROUND)
        restored.shred()
        restored.checkpoint()
        clean(restored)
        assert restored.certificate(pointer).certificate.versions == 3


def test_a_key_backup_from_the_middle_of_a_shred(used: Site) -> None:
    """It still holds the old generation as closed, or the next one as prepared."""

    def back_up(step: object) -> None:
        name = str(step)
        if not used.data(name).exists():
            used.back_up(opened, name)

    with open_vault_of(used) as opened:
        opened.shred(on_step=back_up)
        used.publish(opened)
    # Before the tree left the first generation, the keys are of one that is destroyed now.
    with pytest.raises(KeysDestroyed):
        do_restore(used.order("no", "prepared", ["prepared"]))
    for name in ("fenced", "read back", "leases ended", "destroyed", "tried", "certified"):
        order = used.order(f"restored {name}", name, [name])
        do_restore(order)
        with open_restored(order) as restored:
            assert resurrected(used, restored) == []
            clean(restored)
            restored.erase(used.known.living()[0], GROUND)
            restored.shred()
            clean(restored)


def test_a_prepared_generation_is_forgotten_and_made_anew(used: Site) -> None:
    class Stop(Exception):
        pass

    def stop(step: object) -> None:
        raise Stop

    with open_vault_of(used) as opened:
        with pytest.raises(Stop):
            opened.shred(on_step=stop)
        used.back_up(opened, "prepared")
    for name in ("root-1.key", "permanent-1.key"):
        (used.root / "some").mkdir(exist_ok=True)
        shutil.copy(used.rootkeys / name, used.root / "some" / name)
    order = used.order("restored", "prepared", ["prepared"], rootkey=used.root / "some")
    do_restore(order)
    with open_restored(order) as restored:
        restored.shred()
        clean(restored)
        assert living(used, restored) == 20


def test_keys_older_than_the_data_are_refused_with_a_count(used: Site) -> None:
    with open_vault_of(used) as opened:
        for number in range(7):
            used.put(opened, b"newer %d" % number, "person 15")
        used.back_up(opened, "newer", since="new")
    with pytest.raises(KeysTooOld, match="7 keys of the data are not in it") as caught:
        do_restore(used.order("no", "newer", ["old", "new"], signer=False))
    assert caught.value.count == 7
    assert exit_code_of(caught.value) is ExitCode.FAULT
    assert nothing_made(used, "no")
    do_restore(used.order("yes", "newer", ["old", "new", "newer"]))


def test_keys_of_a_generation_that_the_data_has_left_are_refused(used: Site) -> None:
    def back_up(step: object) -> None:
        if str(step) == "fenced":
            backup_data(opened._core, used.data("fenced"))

    kept = shutil.copytree(used.rootkeys, used.root / "kept")
    with open_vault_of(used) as opened:
        opened.shred(on_step=back_up)
    with pytest.raises(KeysTooOld, match="generation 2"):
        do_restore(used.order("no", "fenced", ["old", "new"], rootkey=kept, ledger=False))
    assert nothing_made(used, "no")


def test_erasures_alone_leave_keys_that_are_old_enough(site: Site) -> None:
    """Nothing was added since, so the keys have what the data has; what was erased is erased."""
    with open_vault_of(site) as opened:
        pointers = [site.put(opened, b"payload %d" % n, "one person") for n in range(10)]
        site.back_up(opened, "old")
        site.erase(opened, *pointers[:4])
        site.publish(opened)
        site.back_up(opened, "new")
    order = site.order("restored", "new", ["old"])
    report = do_restore(order)
    assert report.replayed == NOTHING
    with open_restored(order) as restored:
        assert site.known.damage(restored) == []
        clean(restored)
        restored.shred()
        assert restored.certificate(pointers[0])


def test_what_no_backup_held_is_named_as_lost(used: Site) -> None:
    with open_vault_of(used) as opened:
        first, second, third, *_ = used.known.living()
        late = used.put(opened, b"late", "person 12")
        gone = used.put(opened, b"late and erased", "person 13")
        used.erase(opened, gone)
        used.rectify(opened, first, b"corrected")
        used.rectify(opened, second, b"corrected once")
        used.rectify(opened, second, b"corrected twice")
        used.rectify(opened, third, b"corrected and erased")
        used.erase(opened, third)
        used.publish(opened)
        used.back_up(opened, "newest")
    for keys in (["old"], ["newest"]):
        order = used.order(f"restored {keys[0]}", "old", keys)
        report = do_restore(order)
        assert (report.replayed.lost, report.replayed.outdated) == (1, 2)
        assert report.replayed.erasures == 21
        assert report.findings is not None
        told = [line for line in report.findings.read_text().splitlines() if "unf" not in line]
        expected = [f"lost {late}", f"outdated {first}", f"outdated {second}"]
        assert sorted(told) == sorted(expected)
        with open_restored(order) as restored:
            clean(restored)
            for pointer in (late, gone):
                with pytest.raises(NotFound):
                    restored.get(pointer)
            with pytest.raises(Erased):
                restored.get(third)
            # The older content is current again, and the history says how that came.
            assert restored.get(second) == used.known.versions[second][0]
            assert [one.erased for one in restored.history(second)] == [False, True, True, False]
            assert restored.rectify(second, b"corrected again") == 5
            used.erase(restored, first) if keys == ["newest"] else None
            restored.anchor()
            evidence = restored.prove(second, version=4)
            assert verify(evidence, restored.trust()).verdict is Verdict.VERIFIED
            clean(restored)
            # A later backup carries it all on.
            backup_data(restored._core, used.root / f"again {keys[0]}.data")
            backup_keys(restored._core, used.root / f"again {keys[0]}.keys")
        again = used.order(f"again {keys[0]}", f"again {keys[0]}", [f"again {keys[0]}"])
        again = RestoreOrder(
            used.root / f"second {keys[0]}",
            Materials(again.materials.data, again.materials.keys),
            order.folder / "keys",
            order.folder / "signer",
        )
        assert do_restore(again).replayed == NOTHING
        with open_restored(again) as restored:
            clean(restored)


def test_a_made_up_lost_record_is_a_fault(used: Site) -> None:
    with open_vault_of(used) as opened:
        with opened._core.database.write() as connection:
            connection.exec_driver_sql("INSERT INTO vault_lost VALUES (?, 1)", (bytes(16),))
        assert ["is called lost but was never there" in str(f) for f in opened.audit().faults] == [
            True
        ]


def test_a_lost_pointer_excuses_no_missing_body(used: Site) -> None:
    with open_vault_of(used) as opened:
        pointer = used.known.living()[0]
        with opened._core.database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO vault_lost SELECT pointer, 1 FROM vault_record WHERE erased_act IS"
                " NULL ORDER BY id LIMIT 1"
            )
            connection.exec_driver_sql(
                "UPDATE vault_version SET body = NULL WHERE record_id ="
                " (SELECT min(id) FROM vault_record WHERE erased_act IS NULL)"
            )
        faults = " ".join(map(str, opened.audit().faults))
        assert f"record {pointer}: LOST" in faults


def test_records_that_are_kept_for_ever_are_restored(site: Site) -> None:
    with open_vault_of(site) as opened:
        kept = [
            opened.put(b"for ever %d" % n, category="organisatie", subject=f"house {n}")
            for n in range(300)
        ]
        site.back_up(opened, "old")
        opened.put(b"later", category="organisatie", subject="house 0")
        site.publish(opened)
        site.back_up(opened, "new")
    order = site.order("restored", "old", ["new"])
    report = do_restore(order)
    assert (report.records, report.replayed) == (300, Replayed(0, 0, 0, 1, 0, 0))
    with open_restored(order) as restored:
        assert [restored.get(pointer) for pointer in kept] == [
            b"for ever %d" % n for n in range(300)
        ]
        assert restored.find("house 7") == [kept[7]]
        clean(restored)


def test_erased_field_groups_stay_erased(site: Site) -> None:
    contact = {"contact": b"06-12345678"}
    with open_vault_of(site) as opened:
        pointers = [
            opened.put(b"core %d" % n, category="kindpakket", subject=f"child {n}", groups=contact)
            for n in range(6)
        ]
        opened.rectify(pointers[1], b"core 1, corrected", groups={"contact": b"06-87654321"})
        site.back_up(opened, "old")
        for pointer in pointers[:3]:
            opened.erase_group(pointer, "contact", GROUND)
        # Lost with the backup: a newer content of a group, and one that was erased after it.
        for pointer in pointers[3:5]:
            opened.rectify(pointer, b"corrected", groups={"contact": b"new"})
        opened.erase_group(pointers[4], "contact", GROUND)
        site.publish(opened)
        site.back_up(opened, "new")
    for keys, ledger in (("old", True), ("new", True), ("new", False)):
        order = site.order(f"{keys} {ledger}", "old", [keys], ledger=ledger, signer=ledger)
        report = do_restore(order)
        assert report.replayed.groups == 4
        assert report.replayed.outdated == (2 if ledger else 0)
        with open_restored(order) as restored:
            for number, pointer in enumerate(pointers):
                assert restored.get(pointer).startswith(b"core %d" % number)
                if number in (3, 5):
                    assert restored.get(pointer, group="contact") == contact["contact"]
                    continue
                with pytest.raises(Erased) as caught:
                    restored.get(pointer, group="contact")
                assert (caught.value.leaf is not None) is ledger
            if ledger:
                clean(restored)
                restored.erase_group(pointers[5], "contact", GROUND)
                restored.rectify(pointers[3], b"again", groups=contact)
                with pytest.raises(Erased):
                    restored.rectify(pointers[0], b"again", groups=contact)
                restored.checkpoint()
                clean(restored)


def test_an_import_that_was_under_way(site: Site) -> None:
    lines = site.root / "lines.jsonl"
    lines.write_text("".join(f'{{"bsn": "person {n}"}}\n' for n in range(30)))
    order = ImportOrder(lines, CATEGORY, "/bsn")
    with open_vault_of(site) as opened:
        opened.import_jsonl(order)
        site.back_up(opened, "old")
        [pointer] = opened.find("person 3")
        site.known.erased.add(pointer)
        opened.erase(pointer, GROUND)
        site.publish(opened)
        site.back_up(opened, "new")
    for keys, again in (("old", 30), ("new", 30)):
        restored_order = site.order(f"restored {keys}", "old", [keys])
        do_restore(restored_order)
        with open_restored(restored_order) as restored:
            assert query(restored, "SELECT count(*) FROM vault_import") == [(0,)]
            assert restored.import_jsonl(order).records == again
            clean(restored)


def test_without_its_signer_a_vault_reads_and_does_not_sign(used: Site) -> None:
    order = used.order("restored", "new", ["old", "new"], signer=False)
    report = do_restore(order)
    assert not report.signs
    with open_restored(order) as restored:
        assert used.known.damage(restored) == []
        used.put(restored, b"stored meanwhile", "person 14")
        with pytest.raises(ConfigurationError, match="signer"):
            restored.checkpoint()
    shutil.copytree(used.signer, order.folder / "signer")
    with open_restored(order) as restored:
        restored.checkpoint()
        clean(restored)


def test_what_does_not_belong_together_is_refused(used: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    with open_vault_of(other) as opened:
        # Same origin: made from the same template, with another history.
        other.put(opened, b"x", "y")
        other.publish(opened)
        other.back_up(opened, "old")
    assert nothing_made(used, "no")
    ledger = FolderSource(other.ledger)
    keys = [used.keys("old"), used.keys("new")]
    forked = Materials(used.data("new"), keys, ledger)
    with pytest.raises(Forked):
        do_restore(RestoreOrder(used.root / "no", forked, used.rootkeys))
    wrong = used.root / "wrong"
    Vault.create(wrong, PASSPHRASE, origin="datakluis.example/another").close()
    with Vault.open(wrong, PASSPHRASE) as opened:
        backup_data(opened._core, used.root / "wrong.data")
        backup_keys(opened._core, used.root / "wrong.keys")
    refused: list[tuple[type[Exception], str, RestoreOrder]] = [
        (InvalidInput, "different vaults", used.order("no", "wrong", ["old"])),
        (InvalidInput, "different vaults", used.order("no", "new", ["wrong"])),
        (InvalidInput, "not a backup of data", used.order("no", "new.keys/..", ["new"])),
        (InvalidInput, "does not continue", used.order("no", "new", ["wrong", "new"])),
        (InvalidInput, "continues another", used.order("no", "new", ["new"])),
        (InvalidInput, "is missing", used.order("no", "absent", ["old"])),
        (
            InvalidInput,
            "signer of another vault",
            RestoreOrder(
                used.root / "no",
                Materials(used.data("new"), keys),
                used.rootkeys,
                wrong / "signer",
            ),
        ),
        (
            InvalidInput,
            "is not the signer folder",
            RestoreOrder(
                used.root / "no", Materials(used.data("new"), keys), used.rootkeys, used.root / "-"
            ),
        ),
        (
            RestoreRefused,
            r"bring permanent-1\.key",
            used.order("no", "new", ["old", "new"], rootkey=used.rootkeys / "root-1.key"),
        ),
        (
            Damaged,
            "does not open",
            used.order("no", "new", ["old", "new"], rootkey=wrong / "keys"),
        ),
    ]
    for kind, words, order in refused:
        if "/.." in str(order.materials.data):
            order = RestoreOrder(order.folder, Materials(used.keys("new"), keys), used.rootkeys)
        with pytest.raises(kind, match=words):
            do_restore(order)
        assert nothing_made(used, "no"), words
    with pytest.raises(WrongPassphrase):
        restore(used.order("no", "new", ["old", "new"]), "another passphrase", SystemClock())
    with pytest.raises(InvalidInput, match="at least one"):
        Materials(used.data("new"), [])
    assert nothing_made(used, "no")


def test_a_ledger_of_another_key_is_refused(used: Site, tmp_path: Path) -> None:
    wrong = used.root / "wrong"
    Vault.create(wrong, PASSPHRASE, origin="datakluis.example/guarantees").close()
    with Vault.open(wrong, PASSPHRASE) as opened:
        opened.put(b"x", category=CATEGORY, subject="y")
        opened.checkpoint()
        shutil.rmtree(used.ledger)
        used.publish(opened)
    with pytest.raises(BadSignature):
        do_restore(used.order("no", "new", ["old", "new"]))
    assert nothing_made(used, "no")


def test_the_folder_must_be_new_or_empty(used: Site) -> None:
    order = used.order("restored", "new", ["old", "new"])
    order.folder.mkdir()
    do_restore(order)
    with pytest.raises(ConfigurationError, match="exists already"):
        do_restore(order)
    clean_order = used.order("file", "new", ["old", "new"])
    clean_order.folder.touch()
    with pytest.raises(ConfigurationError, match="exists already"):
        do_restore(clean_order)
    nowhere = used.order("absent/folder", "new", ["old", "new"])
    with pytest.raises(ConfigurationError, match="cannot be made"):
        do_restore(nowhere)


def test_one_restore_of_a_folder_at_a_time(used: Site) -> None:
    order = used.order("restored", "new", ["old", "new"])

    def second(step: RestoreStep) -> None:
        if step is not RestoreStep.RENAMED:
            with pytest.raises(Busy, match="another restore"):
                do_restore(order)

    do_restore(order, second)
    with open_restored(order) as restored:
        clean(restored)


def test_what_is_restored_is_private(used: Site) -> None:
    order = used.order("restored", "new", ["old", "new"])
    do_restore(order)
    assert order.folder.stat().st_mode & 0o777 == 0o700
    for path in order.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert {path.name for path in order.folder.iterdir()} == {
        "anchors",
        "datakluis.toml",
        "keys",
        "leases",
        "signer",
        "vault.db",
    }
    assert (order.folder / "datakluis.toml").read_bytes() == (
        used.vault / "datakluis.toml"
    ).read_bytes()


@pytest.mark.parametrize("step", list(RestoreStep))
def test_killed_at_any_step_and_run_again(used: Site, step: RestoreStep) -> None:
    order = used.order("restored", "old", ["old", "new"])
    worker = Worker(die_in_restore, order, step)
    assert worker.rest() == []
    assert worker.end() == -9
    if step is RestoreStep.RENAMED:
        with pytest.raises(ConfigurationError, match="exists already"):
            do_restore(order)
    else:
        assert not order.folder.exists()
        do_restore(order)
    assert not order.folder.with_name("restored.restoring").exists()
    with open_restored(order) as restored:
        assert resurrected(used, restored) == []
        assert living(used, restored) == 20
        clean(restored)


@pytest.mark.parametrize("step", list(RestoreStep)[:-1])
def test_an_error_at_any_step_leaves_nothing(used: Site, step: RestoreStep) -> None:
    def fail(reached: RestoreStep) -> None:
        if reached is step:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        do_restore(used.order("restored", "old", ["old", "new"]), fail)
    assert nothing_made(used, "restored")


def test_changed_backups_are_refused_or_make_no_difference(used: Site) -> None:
    seed = chosen_seed()
    draws = random.Random(seed)
    refused = same = 0
    for number in range(30):
        which = draws.choice(["data", "keys"])
        path = used.data("old") if which == "data" else used.keys("old")
        whole = path.read_bytes()
        place = draws.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= draws.randrange(1, 256)
        path.write_bytes(changed)
        order = used.order(f"restored {number}", "old", ["old"])
        try:
            do_restore(order)
        except (VaultError, LedgerError):
            refused += 1
            assert nothing_made(used, f"restored {number}")
        else:
            same += 1
            with open_restored(order) as restored:
                assert resurrected(used, restored) == []
                clean(restored)
                assert living(used, restored) == 20
        path.write_bytes(whole)
    print(f"\nseed {seed}: {refused} changed backups refused, {same} made no difference")
    assert refused > 0


def test_a_backup_without_a_table_or_with_another_is_refused(used: Site) -> None:
    statements = (
        "DROP TABLE vault_version",
        "DROP TABLE kluis_config",
        "DELETE FROM kluis_config WHERE name = 'log-keys'",
        "DELETE FROM kluis_config WHERE name = 'datakluis.toml'",
        "UPDATE kluis_config SET text = 'x' WHERE name = 'log-keys'",
        "UPDATE kluis_config SET text = 'x' WHERE name = 'signed-checkpoint'",
        "UPDATE kluis_config SET text = x'00'",
        "UPDATE vault_version SET slot = 'text'",
        "UPDATE vault_version SET slot = 1",
        "DELETE FROM vault_record WHERE id = 3",
        "DELETE FROM ledger_head",
        "INSERT INTO ledger_pending SELECT 1, CAST(x'01010100' || pointer || x'7fffffff' ||"
        " zeroblob(32) AS BLOB) FROM vault_record LIMIT 1",
        "ALTER TABLE vault_record ADD COLUMN more",
    )
    whole = used.data("new").read_bytes()
    for statement in statements:
        with closing(sqlite3.connect(used.data("new"), isolation_level=None)) as connection:
            connection.execute(statement)
        for signer in (True, False):
            with pytest.raises((VaultError, LedgerError)):
                do_restore(used.order("no", "new", ["old", "new"], signer=signer))
            assert nothing_made(used, "no"), statement
        used.data("new").write_bytes(whole)
    print(f"\n{len(statements)} made-up backups refused")


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5)),
        st.tuples(st.just("erase"), st.integers(0, 99)),
        st.tuples(st.just("rectify"), st.integers(0, 99)),
        st.tuples(st.just("back up"), st.booleans()),
        st.tuples(st.just("shred"), st.none()),
        st.tuples(st.just("checkpoint"), st.none()),
    ),
    min_size=4,
    max_size=30,
)


def try_any(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a test any operations and the choice of any of the backups made between them."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        limits = settings(max_examples=examples, deadline=None, suppress_health_check=checks)
        return limits(given(OPERATIONS, st.data())(test))

    return decorate


@try_any(12)
def test_any_backups_after_any_operations(
    tmp_path_factory: pytest.TempPathFactory,
    operations: list[tuple[str, object]],
    data: st.DataObject,
) -> None:
    """0 resurrected and 0 lost in silence, whatever was backed up when, and whatever is brought."""
    restore_any(tmp_path_factory, operations, data)


@pytest.mark.soak
@try_any(600)
def test_any_backups_at_length(
    tmp_path_factory: pytest.TempPathFactory,
    operations: list[tuple[str, object]],
    data: st.DataObject,
) -> None:
    restore_any(tmp_path_factory, operations, data)


def restore_any(
    tmp_path_factory: pytest.TempPathFactory,
    operations: list[tuple[str, object]],
    data: st.DataObject,
) -> None:
    site = Site(tmp_path_factory.mktemp("any"))
    backups: list[str] = []
    shreds = []
    with open_vault_of(site) as opened:
        for number, (kind, which) in enumerate([("put", 0), *operations, ("back up", False)]):
            operate(site, opened, kind, which, number, backups)
            if kind == "shred":
                shreds.append(f"{number:02}")
        site.publish(opened)
    old, keys = data.draw(st.sampled_from(backups)), data.draw(st.sampled_from(backups))
    order = site.order("restored", old, chain(keys))
    try:
        report = do_restore(order)
    except RestoreRefused as refusal:
        note(f"data {old}, keys {keys}: {refusal}")
        assert nothing_made(site, "restored")
        # Nothing else is a reason: keys of today open data of any day.
        assert keys < old or any(shred > keys for shred in shreds)
        return
    note(f"data {old}, keys {keys}: {report}")
    check(site, order, report.findings)


def operate(
    site: Site, opened: Vault, kind: str, which: object, number: int, backups: list[str]
) -> None:
    """Do one of the operations, if there is something to do it to."""
    alive = site.known.living()
    if kind == "put":
        site.put(opened, b"payload %d" % number, f"person {which}")
    elif kind in ("erase", "rectify") and alive:
        pointer = alive[int(str(which)) % len(alive)]
        if kind == "erase":
            site.erase(opened, pointer)
        else:
            site.rectify(opened, pointer, b"corrected %d" % number)
    elif kind == "back up":
        name = f"{number:02}"
        if which and backups:
            name = f"{number:02}-{backups[-1]}"
        site.back_up(opened, name, since=backups[-1] if which and backups else None)
        backups.append(name)
    elif kind == "shred":
        opened.shred()
    elif kind == "checkpoint":
        opened.checkpoint()


def chain(name: str) -> list[str]:
    """Return the names of a key backup and of those that it continues, in order."""
    before = name.partition("-")[2]
    return [*(chain(before) if before else []), name]


def check(site: Site, order: RestoreOrder, findings: Path | None) -> None:
    told: dict[str, set[str]] = {"lost": set(), "outdated": set(), "unfindable": set()}
    for line in [] if findings is None else findings.read_text().splitlines():
        what, pointer, *_ = line.split(" ")
        told[what].add(pointer)
    with open_restored(order) as restored:
        clean(restored)
        for pointer, versions in site.known.versions.items():
            answer = outcome(lambda p=pointer: restored.get(p))
            if pointer in site.known.erased:
                assert isinstance(answer, (Erased, NotFound)), "resurrected"
            elif pointer in told["lost"]:
                assert isinstance(answer, NotFound)
            elif pointer in told["outdated"]:
                assert answer in versions[:-1]
            else:
                assert answer == versions[-1], "lost in silence"
            if pointer not in site.known.erased and pointer not in told["lost"]:
                found = pointer in restored.find(site.known.subjects[pointer])
                assert found is (pointer not in told["unfindable"])
        # It is a vault like any other.
        for pointer in site.known.living():
            if pointer not in told["lost"]:
                restored.rectify(pointer, b"once more")
                break
        put_again = site.put(restored, b"afterwards", "person 0")
        site.erase(restored, put_again)
        restored.shred()
        restored.checkpoint()
        clean(restored)
