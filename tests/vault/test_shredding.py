"""Closing an epoch when nothing goes wrong: its steps, its status, and moving the root keys.

What goes wrong is in test_shred_crash.py, test_shred_concurrency.py and test_provider_faults.py.
"""

import contextlib
import datetime as dt
import os
import sqlite3

import pytest
from sdk_calls import CONSENT, put
from shred_worker import cheap

from vault import Erased, Ground, InvalidInput, NewPlace, ProviderKind, ShredStep, TreeNumber
from vault.generations import GenerationState
from vault.keyring import Keyring
from vault.shredding import move
from vault.shredstatus import Waiting

ORDINARY, PERMANENT = TreeNumber
FILES = NewPlace(ProviderKind.FILE, {})
REHEARSE = Keyring.rehearse
OPEN_EPOCH = "the epoch is still open: run 'kluis shred'"
NOT_DECLARED = "irrecoverability is not-declared: see the certificate"
ALL_STEPS = [
    ShredStep.PREPARED,
    ShredStep.FENCED,
    ShredStep.READ_BACK,
    ShredStep.REHEARSED,
    ShredStep.LEASES_ENDED,
    ShredStep.DESTROYED,
    ShredStep.TRIED,
    ShredStep.CERTIFIED,
]


@pytest.fixture(autouse=True)
def rehearsed_here():
    """Rehearse in this process, but where a test takes `real_rehearsal`."""
    with cheap():
        yield


@pytest.fixture
def real_rehearsal(rehearsed_here, monkeypatch):
    """Rehearse in a process of its own, as the product does."""
    monkeypatch.setattr(Keyring, "rehearse", REHEARSE)


def keys(folder):
    return sorted(path.name for path in (folder / "keys").iterdir())


def states(vault, tree=ORDINARY):
    return [one.generation.state for one in vault.root_keys() if one.generation.tree is tree]


def put_and_erase(vault, subject="goes"):
    pointer = put(vault, b"goes", subject=subject)
    vault.erase(pointer, CONSENT)
    return pointer


def look(vault):
    """What another process finds on the disk: generation, states by number, step, key files."""
    with contextlib.closing(sqlite3.connect(vault.folder / "vault.db")) as database:
        generation = database.execute("SELECT generation FROM vault_tree WHERE id = 1").fetchone()
        rows = database.execute(
            "SELECT number, state FROM vault_generation WHERE tree = 0 ORDER BY number"
        ).fetchall()
        step = database.execute("SELECT step FROM vault_shred ORDER BY id DESC").fetchone()
        certificates = database.execute("SELECT count(*) FROM vault_certificate").fetchone()
    return generation[0], dict(rows), step[0], keys(vault.folder), certificates[0]


def test_each_step_is_durable_before_the_next_begins(vault, real_rehearsal):
    kept = put(vault, b"stays")
    put_and_erase(vault)
    seen = []
    report = vault.shred(on_step=lambda step: seen.append((step, look(vault))))
    both, one = ["permanent-1.key", "root-1.key", "root-2.key"], ["permanent-1.key", "root-2.key"]
    was_open = {1: "open", 2: "prepared"}
    closed, gone = {1: "closed", 2: "open"}, {1: "gone", 2: "open"}
    assert seen == [
        (ShredStep.PREPARED, (1, was_open, "prepared", both, 0)),
        (ShredStep.FENCED, (2, closed, "fenced", both, 0)),
        (ShredStep.READ_BACK, (2, closed, "read back", both, 0)),
        (ShredStep.REHEARSED, (2, closed, "rehearsed", both, 0)),
        (ShredStep.LEASES_ENDED, (2, closed, "leases ended", both, 0)),
        # The provider has done it; that it is true is tried before it is believed.
        (ShredStep.DESTROYED, (2, closed, "leases ended", one, 0)),
        (ShredStep.TRIED, (2, gone, "tried", one, 0)),
        (ShredStep.CERTIFIED, (2, gone, "certified", one, 1)),
    ]
    assert [step for step, _ in seen] == ALL_STEPS == list(ShredStep)
    assert (report.trees, report.gone, report.waiting) == ((ORDINARY,), ((ORDINARY, 1),), ())
    assert (report.certificates, report.irrecoverable, report.declared) == (1, 0, 0)
    assert vault.get(kept) == b"stays"
    assert vault.audit().faults == []
    print(f"\n{len(seen)} steps, each found on the disk when it was told")


def test_with_nothing_due_nothing_is_done(vault, rows):
    put(vault)
    put_and_erase(vault)
    vault.shred()
    before = [rows(f"SELECT * FROM {table}") for table in ("vault_generation", "vault_shred")]
    kept = keys(vault.folder)
    steps = []
    report = vault.shred(on_step=steps.append)
    assert steps == [ShredStep.CERTIFIED]
    assert (report.trees, report.gone, report.certificates) == ((), (), 0)
    assert keys(vault.folder) == kept
    assert [
        rows(f"SELECT * FROM {table}") for table in ("vault_generation", "vault_shred")
    ] == before


def test_a_new_vault_has_nothing_to_shred(vault):
    assert vault.shred_status().waiting == ()
    assert vault.shred().trees == ()
    assert keys(vault.folder) == ["permanent-1.key", "root-1.key"]


def test_the_status_says_what_waits_for_what_since_when(vault, clock):
    empty = vault.shred_status()
    assert (empty.waiting, empty.step, empty.waits_for, empty.processes) == ((), None, None, ())
    first = clock.now()
    put_and_erase(vault)
    clock.day += dt.timedelta(days=20)
    put_and_erase(vault, "goes later")
    assert vault.shred_status().waiting == (Waiting(OPEN_EPOCH, 2, first, False),)
    clock.day += dt.timedelta(days=10)
    assert not vault.shred_status().waiting[0].overdue  # the thirtieth day is not over
    clock.day += dt.timedelta(days=1)
    assert vault.shred_status().waiting[0].overdue
    steps = {}
    vault.shred(on_step=lambda step: steps.setdefault(step, vault.shred_status()))
    assert steps[ShredStep.FENCED].step == "fenced"
    assert steps[ShredStep.FENCED].waiting == (
        Waiting("generation 1 is closed but not destroyed (not asked yet)", 2, first, True),
    )
    assert steps[ShredStep.TRIED].waiting[0].reason == (
        "everything is destroyed but not certified: run 'kluis shred'"
    )
    after = vault.shred_status()
    assert (after.step, after.waits_for) == (None, None)
    assert [(one.reason, one.erasures) for one in after.waiting] == [(NOT_DECLARED, 2)]
    vault.declare_no_copies("J. de Vries")
    assert vault.shred_status().waiting == ()


def test_the_status_names_the_other_processes(vault, reopen):
    reopen()
    assert vault.shred_status().processes == (os.getpid(),)


def test_the_declaration_can_be_made_with_the_shred(vault):
    pointer = put_and_erase(vault)
    report = vault.shred(declared_by="J. de Vries")
    assert (report.declared, report.certificates, report.irrecoverable) == (1, 1, 1)
    assert vault.certificate(pointer).certificate.generations[0].declaration.name == "J. de Vries"
    with pytest.raises(InvalidInput):
        vault.shred(declared_by="")


def test_the_backup_that_is_rehearsed_can_be_kept(vault, tmp_path):
    put_and_erase(vault)
    kept = tmp_path / "keys.kluis"
    vault.shred(backup=kept)
    assert kept.stat().st_size > 0
    assert Keyring(vault.folder, "a passphrase for tests").rehearse(kept, [0])[0]["generation"] == 2
    assert not list(vault.folder.glob("*.kluis"))


def test_epochs_follow_each_other_and_each_record_waits_for_all_of_its_own(vault):
    """Born in one epoch and erased in another: every generation in between must be gone."""
    pointers = [put(vault, b"%d" % number, subject=f"subject {number}") for number in range(4)]
    stated = []
    for number, pointer in enumerate(pointers):
        vault.erase(pointer, CONSENT)
        assert vault.shred().gone == ((ORDINARY, number + 1),)
        stated.append(vault.certificate(pointer).certificate)
    assert [[one.number for one in certificate.generations] for certificate in stated] == [
        [1], [1, 2], [1, 2, 3], [1, 2, 3, 4],
    ]  # fmt: skip
    assert states(vault) == [GenerationState.GONE] * 4 + [GenerationState.OPEN]
    assert keys(vault.folder) == ["permanent-1.key", "root-5.key"]
    assert vault.audit().faults == []


def test_only_the_tree_in_which_something_was_erased_leaves_its_generation(vault):
    put(vault, category="organisatie")
    put_and_erase(vault)
    assert vault.shred().trees == (ORDINARY,)
    assert states(vault, PERMANENT) == [GenerationState.OPEN]


def test_the_root_keys_move_and_the_same_place_is_no_move(vault, rows):
    pointer = put(vault, b"stays")
    gone = put_and_erase(vault)
    steps = []
    report = vault.move_root_keys(FILES, on_step=steps.append)
    assert steps == [ShredStep.CERTIFIED]
    assert (report.gone, states(vault)) == ((), [GenerationState.OPEN])
    # Where the key may be lost it is made anew, at the same keeper; what was erased is certified.
    caller = vault._core.caller(None, None)
    report = move(vault._core, ORDINARY, FILES, caller, anew=True)
    assert report.gone == ((ORDINARY, 1),)
    assert report.certificates == 1
    assert vault.certificate(gone).certificate.generations[0].number == 1
    assert rows("SELECT action FROM vault_act ORDER BY id DESC LIMIT 1") == [("move",)]
    assert rows("SELECT count(*) FROM vault_provider") == [(1,)]
    assert vault.get(pointer) == b"stays"


def test_the_root_keys_move_to_and_fro(vault, kms, rows):
    service = NewPlace(ProviderKind.AWSKMS, kms.options())
    kept = put(vault, b"stays")
    for number, place in enumerate([service, FILES, service, FILES], start=2):
        with kms.as_role(kms.vault):
            vault.move_root_keys(place)
            last = [one for one in vault.root_keys() if one.generation.tree is ORDINARY][-1]
            assert (last.generation.number, last.provider) == (number, place.kind)
            # A second time there is nothing to move.
            vault.move_root_keys(place)
            assert len(states(vault)) == number
            assert vault.get(kept) == b"stays"
    assert rows("SELECT kind FROM vault_provider ORDER BY id") == [("file",), ("awskms",)]
    assert vault.audit().faults == []


def test_a_place_that_is_none_changes_nothing(vault, rows):
    before = rows("SELECT * FROM vault_generation"), rows("SELECT * FROM vault_provider")
    for place in (NewPlace(ProviderKind.FILE, {"path": "x"}), NewPlace(ProviderKind.PKCS11, {})):
        with pytest.raises(InvalidInput):
            vault.move_root_keys(place)
    assert (rows("SELECT * FROM vault_generation"), rows("SELECT * FROM vault_provider")) == before


def test_after_a_shred_the_files_hold_no_former_root_node(vault):
    with contextlib.closing(sqlite3.connect(vault.folder / "vault.db")) as database:
        ((old,),) = database.execute(
            "SELECT sealed FROM vault_node WHERE level = 3 AND number = 0"
        ).fetchall()
    put_and_erase(vault)
    with contextlib.closing(sqlite3.connect(vault.folder / "vault.db")) as database:
        ((wrapped,),) = database.execute(
            "SELECT wrapped FROM vault_generation WHERE tree = 0"
        ).fetchall()
    vault.shred()
    files = b"".join(path.read_bytes() for path in vault.folder.glob("vault.db*"))
    assert old not in files
    assert wrapped not in files


def test_what_was_erased_stays_erased_and_the_rest_opens_in_every_process(vault, reopen):
    kept, other = put(vault, b"stays"), reopen()
    gone = put_and_erase(vault)
    assert other.get(kept) == b"stays"
    vault.shred(patience=0, on_step=lambda step: step is ShredStep.REHEARSED and other.find("x"))
    for one in (vault, other, reopen()):
        assert one.get(kept) == b"stays"
        with pytest.raises(Erased):
            one.get(gone)
        with pytest.raises(Erased):
            one.erase(gone, Ground.UNLAWFUL)
