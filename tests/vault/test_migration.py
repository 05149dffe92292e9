"""A vault of the first schema, opened by today's code: nothing is lost, and it can be shredded.

tests/vectors/vault_0001.zip was written by the last version before root keys had generations, with
the smallest Argon2id cost; `known.json` in it says what that version had stored.
"""

import datetime as dt
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from vault import Erased, Ground, Vault, WrongPassphrase, completing
from vault.keytree import tree_of
from vault.rootkeys.provider import TreeNumber

GOLDEN = Path(__file__).parents[1] / "vectors" / "vault_0001.zip"
WORDS = "only for tests"


@pytest.fixture
def old(tmp_path):
    """The folder of a vault of schema 0001, and what is known of it."""
    folder = tmp_path / "old"
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(folder)
    known = json.loads((folder / "known.json").read_text())
    (folder / "known.json").unlink()
    return folder, known


def schema(folder):
    with sqlite3.connect(folder / "vault.db") as database:
        [(found,)] = database.execute("SELECT version_num FROM alembic_version")
        trees = database.execute("SELECT count(*) FROM vault_tree").fetchone()[0]
    database.close()
    return found, trees


def check(vault, known):
    for pointer, (subject, payload) in known["living"].items():
        assert vault.get(pointer) == payload.encode()
        assert pointer in vault.find(subject)
    for pointer in known["erased"]:
        with pytest.raises(Erased):
            vault.get(pointer)
    assert vault.audit().faults == []


def test_everything_is_there_and_the_audit_is_clean(old):
    folder, known = old
    assert schema(folder) == ("0001", 1)
    for _ in range(2):  # The second opening finds everything made.
        with Vault.open(folder, WORDS) as vault:
            check(vault, known)
            keys = vault.root_keys()
    assert schema(folder) == ("0003", 2)
    assert [(one.generation.tree, one.generation.reference) for one in keys] == [
        (TreeNumber.ORDINARY, "root.key"),
        (TreeNumber.PERMANENT, "permanent-1.key"),
    ]
    print(f"\nmigrated: {len(known['living'])} living, {len(known['erased'])} erased, 0 faults")


def test_it_goes_on_as_a_vault_of_today(old):
    folder, known = old
    with Vault.open(folder, WORDS) as vault:
        before = vault.checkpoint()
        pointer = vault.put(b"new", category="nieuwsbrief", subject="subject 0")
        kept = vault.put(b"new, for ever", category="organisatie", subject="subject 0")
        with vault._core.database.read() as connection:
            slots = connection.exec_driver_sql(
                "SELECT slot FROM vault_version ORDER BY id DESC LIMIT 2"
            ).scalars()
            assert [tree_of(slot) for slot in slots] == [1, 0]
        vault.erase(pointer, Ground.CONSENT_WITHDRAWN)
        vault.anchor()
        assert vault.checkpoint() != before
        known["living"][kept] = ("subject 0", "new, for ever")
        known["erased"].append(pointer)
        check(vault, known)


def test_what_was_erased_then_is_shredded_and_certified_now(old):
    folder, known = old
    with Vault.open(folder, WORDS) as vault:
        waiting = vault.shred_status().waiting
        assert sum(one.erasures for one in waiting) == len(known["erased"])
        report = vault.shred()
        assert report.gone == ((TreeNumber.ORDINARY, 1),)
        assert report.certificates == len(known["erased"])
        assert not (folder / "keys" / "root.key").exists()
        vault.declare_no_copies("J. de Vries")
        for pointer in known["erased"]:
            certificate = vault.certificate(pointer).certificate
            assert certificate.status == "irrecoverable"
            assert [one.number for one in certificate.generations] == [1]
            assert certificate.retention is None
        check(vault, known)


def test_another_passphrase_makes_nothing(old):
    folder, known = old
    with pytest.raises(WrongPassphrase):
        Vault.open(folder, "another passphrase")
    assert schema(folder)[1] == 1
    assert sorted(path.name for path in (folder / "keys").iterdir()) == ["root.key"]
    assert not (folder / "signer" / "organisation.key").exists()
    with Vault.open(folder, WORDS) as vault:
        check(vault, known)


@pytest.mark.parametrize("where", ["plant_trees", "Keyring.make_organisation"])
def test_an_opening_that_is_cut_off_is_finished_by_the_next(old, monkeypatch, where):
    folder, known = old

    def cut_off(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        owner, _, name = where.rpartition(".")
        patched.setattr(getattr(completing, owner) if owner else completing, name, cut_off)
        with pytest.raises(ZeroDivisionError):
            Vault.open(folder, WORDS)
    # As it is left when the process ends between the key and its certificate.
    (folder / "signer" / "organisation.key").write_text("half a key")
    with Vault.open(folder, WORDS) as vault:
        check(vault, known)
        vault.shred()
        assert vault.certificate(known["erased"][0])


def test_a_lost_organisation_key_is_not_replaced_once_it_has_signed(old):
    folder, known = old
    with Vault.open(folder, WORDS) as vault:
        vault.shred()
    (folder / "signer" / "organisation.pem").unlink()
    with Vault.open(folder, WORDS) as vault:
        check(vault, known)
    assert not (folder / "signer" / "organisation.pem").exists()


def test_the_organisations_certificate_holds_from_the_day_of_completion(old, clock):
    folder, _ = old
    with Vault.open(folder, WORDS, clock=clock) as vault:
        certificate = vault._core.keyring.organisation.certificate
    assert certificate.not_valid_before_utc.date() == dt.date(2026, 3, 2)
