"""The keys that sign the ledger: made, completed, required, rotated, and restored (PR4, PR6).

Faults are put before and after each write, flush and rename of a rotation and of the completion of
an earlier vault; whatever was cut off, the next opening leaves one outcome.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from guarantees_vault import open_vault
from nacl.signing import SigningKey
from restores import Site, do_restore, open_restored

from ledger.checkpoint import Checkpoint
from ledger.cosignature import NO_TIME, MlDsaCosigner
from ledger.errors import BadSignature, SignerStateLost
from ledger.logkeys import LogKeys
from ledger.note import Note, SignatureType, sign, verify
from ledger.replay import read_entries
from ledger.signer import LAST_CHECKPOINT, LOG_KEYS, SignerMemory
from ledger.source import FolderSource
from vault import InvalidInput, Vault
from vault.backup.building import Materials
from vault.keyfile import read_key_file
from vault.logkeys import LogKeyFiles

PASSPHRASE = "a passphrase for tests"
ORIGIN = "datakluis.example/tests"
ED25519, ML_DSA_44 = SignatureType.ED25519, SignatureType.COSIGNATURE_ML_DSA_44


class Injected(Exception):
    """The failure that a test put in the way."""


class Faults:
    """Counts what is done to the signer's folder, and fails at the n-th, before or after it."""

    def __init__(self, patch, fail_at: int = 0, *, after: bool = False) -> None:
        self.count, self._fail_at, self._after = 0, fail_at, after
        for owner, name in ((Path, "replace"), (Path, "unlink"), (Path, "open"), (os, "fsync")):
            patch.setattr(owner, name, self._wrapped(getattr(owner, name)))
        patch.setattr(os, "open", self._wrapped(os.open))

    def _wrapped(self, real):
        def call(*arguments, **named):
            if not is_the_signers(arguments[0]):
                return real(*arguments, **named)
            self.count += 1
            fails = self.count == self._fail_at
            if fails and not self._after:
                raise Injected
            result = real(*arguments, **named)
            if fails:
                if isinstance(result, int):
                    os.close(result)
                elif result is not None and not isinstance(result, Path):
                    result.close()
                raise Injected
            return result

        return call


def is_the_signers(place: Path | str | int) -> bool:
    path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(place)
    return "signer" in path.parts


def put(vault: Vault, number: int) -> str:
    return vault.put(b"payload %d" % number, category="nieuwsbrief", subject=f"person {number}")


def register_of(folder: Path) -> LogKeys:
    return LogKeys.parse((folder / "signer" / LOG_KEYS).read_bytes())


def signers(note: Note) -> list[bytes]:
    return [line.key_id for line in note.signatures]


def ranges(keys: LogKeys) -> list[tuple[SignatureType, int, int | None]]:
    return [(one.algorithm, one.first_size, one.last_size) for one in keys.keys]


def seeds_of(folder: Path) -> tuple[bytes, bytes]:
    return (
        read_key_file(folder / "signer" / "log.key", "log key", PASSPHRASE),
        read_key_file(folder / "signer" / "log-mldsa.key", "ML-DSA-44 log key", PASSPHRASE),
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "signer").iterdir())


WHOLE = [
    "anchor.key",
    "last-checkpoint",
    "lock",
    "log-keys",
    "log-mldsa.key",
    "log.key",
    "organisation.key",
    "organisation.pem",
]


def forged(seeds: tuple[bytes, bytes], size: int, root: bytes) -> Note:
    """A checkpoint by whoever has stolen these two keys."""
    text = Checkpoint(ORIGIN, size, root).text()
    cosigned = MlDsaCosigner(ORIGIN, seeds[1]).cosign(Checkpoint.parse(text), NO_TIME)
    return Note(text, (sign(text, ORIGIN, SigningKey(seeds[0])), cosigned))


def strip_notes(path: Path, size: int | None = None) -> None:
    """Take the ML-DSA-44 lines from the stored checkpoints, of one size or of all."""
    with closing(sqlite3.connect(path)) as database, database:
        for at, text in database.execute("SELECT size, note FROM ledger_checkpoint").fetchall():
            note = Note.parse(text.encode())
            if size in (None, at):
                stripped = Note(note.text, note.signatures[:1]).format()
                database.execute(
                    "UPDATE ledger_checkpoint SET note = ? WHERE size = ?", (stripped, at)
                )


def strip_memory(folder: Path) -> None:
    path = folder / "signer" / LAST_CHECKPOINT
    note = Note.parse(path.read_bytes())
    path.write_bytes(Note(note.text, note.signatures[:1]).format().encode())


@pytest.fixture
def earlier(vault_folder):
    """A vault as an earlier version left it: two leaves, signed by one key."""
    with Vault.open(vault_folder, PASSPHRASE) as vault:
        put(vault, 1)
        vault.checkpoint()
        put(vault, 2)
        vault.checkpoint()
    strip_notes(vault_folder / "vault.db")
    strip_memory(vault_folder)
    (vault_folder / "signer" / LOG_KEYS).unlink()
    (vault_folder / "signer" / "log-mldsa.key").unlink()
    return vault_folder


@pytest.fixture
def grown(vault_folder):
    """A vault of two signed leaves and one entry that waits."""
    with Vault.open(vault_folder, PASSPHRASE) as vault:
        put(vault, 1)
        put(vault, 2)
        vault.checkpoint()
        put(vault, 3)
    return vault_folder


# What is made.


def test_a_new_vault_has_two_keys_and_both_sign(vault_folder, vault):
    assert ranges(register_of(vault_folder)) == [(ED25519, 0, None), (ML_DSA_44, 0, None)]
    for name in ("log.key", "log-mldsa.key"):
        assert (vault_folder / "signer" / name).stat().st_mode & 0o777 == 0o600
    ed25519, ml_dsa = seeds_of(vault_folder)
    assert ed25519 != ml_dsa
    put(vault, 1)
    for note in (vault._core.signer.memory.last()[0], vault.checkpoint()):
        keys = register_of(vault_folder).for_size(1)
        assert signers(note) == [key.key_id for key in keys]
        assert [line.name for line in note.signatures] == [ORIGIN, ORIGIN]
        # A log says nothing about time.
        assert note.signatures[1].signature[:8] == bytes(8)
        assert len(note.signatures[1].signature) == 8 + 2420
    assert vault.audit().faults == []


def test_the_two_key_files_cannot_stand_in_for_each_other(vault_folder):
    log, ml_dsa = (vault_folder / "signer" / name for name in ("log.key", "log-mldsa.key"))
    ml_dsa.write_bytes(log.read_bytes())
    with Vault.open(vault_folder, PASSPHRASE) as vault:
        put(vault, 1)
        with pytest.raises(InvalidInput, match="not a key file for the ML-DSA-44 log key"):
            vault.checkpoint()


def test_a_key_file_that_is_not_of_the_register_signs_nothing(vault_folder, template_folder):
    other = vault_folder.with_name("other")
    Vault.create(other, PASSPHRASE, origin=ORIGIN).close()
    shutil.copy(other / "signer" / "log-mldsa.key", vault_folder / "signer")
    with Vault.open(vault_folder, PASSPHRASE) as vault:
        put(vault, 1)
        with pytest.raises(SignerStateLost):
            vault.checkpoint()
        assert vault._core.signer.memory.last()[1].size == 0


# A vault of an earlier version.


def test_an_earlier_vault_gets_its_second_key_from_the_next_leaf_on(earlier):
    with Vault.open(earlier, PASSPHRASE) as vault:
        assert ranges(register_of(earlier)) == [(ED25519, 0, None), (ML_DSA_44, 3, None)]
        assert len(vault.checkpoint().signatures) == 1, "two leaves were signed by one key"
        assert vault.audit().faults == []
        put(vault, 3)
        assert len(vault.checkpoint().signatures) == 2
        assert vault.audit().faults == []
    strip_memory(earlier)
    # Control: the register says who signs what, and from three leaves on one line is not enough.
    with Vault.open(earlier, PASSPHRASE) as vault:
        with pytest.raises(SignerStateLost):
            vault.checkpoint()
        assert any(fault.where == "signer" for fault in vault.audit().faults)


def test_a_rotation_right_after_completion_keeps_the_key_that_has_signed_nothing(earlier):
    with Vault.open(earlier, PASSPHRASE) as vault:
        second = register_of(earlier).keys[1]
        assert vault.rotate_log_keys().is_new
        keys = register_of(earlier)
        assert ranges(keys) == [(ED25519, 0, 2), (ED25519, 3, None), (ML_DSA_44, 3, None)]
        assert keys.keys[2] == second
        put(vault, 3)
        assert len(vault.checkpoint().signatures) == 2
        assert vault.audit().faults == []


def test_an_earlier_vault_whose_signer_forgot_gets_no_key(earlier):
    (earlier / "signer" / LAST_CHECKPOINT).unlink()
    with Vault.open(earlier, PASSPHRASE) as vault, pytest.raises(SignerStateLost):
        vault.checkpoint()
    assert not (earlier / "signer" / LOG_KEYS).exists()
    assert not (earlier / "signer" / "log-mldsa.key").exists()


def test_a_lost_register_is_not_made_anew(grown):
    (grown / "signer" / LOG_KEYS).unlink()
    with Vault.open(grown, PASSPHRASE) as vault, pytest.raises(SignerStateLost, match=LOG_KEYS):
        vault.checkpoint()
    assert not (grown / "signer" / LOG_KEYS).exists()


def break_off_at_each_step(folder: Path, start, check) -> int:
    """Fail at each step of an action, before and after it, open again and check.

    Returns how many steps there are.
    """
    for after in (False, True):
        step = 0
        while True:
            step += 1
            copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-{after}-{step}"))
            with pytest.MonkeyPatch.context() as patch:
                ended = start(copy, partial(Faults, patch, step, after=after))
            if ended:
                break
            check(copy)
            shutil.rmtree(copy)
    return step - 1


def test_completion_that_is_cut_off_anywhere_is_finished_by_the_next_opening(earlier):
    def start(folder, arm):
        arm()
        try:
            Vault.open(folder, PASSPHRASE).close()
        except Injected:
            return False
        return True

    def check(folder):
        with Vault.open(folder, PASSPHRASE) as vault:
            assert ranges(register_of(folder)) == [(ED25519, 0, None), (ML_DSA_44, 3, None)]
            put(vault, 3)
            assert len(vault.checkpoint().signatures) == 2
            assert vault.audit().faults == []
        assert names_in(folder) == WHOLE

    steps = break_off_at_each_step(earlier, start, check)
    print(f"{steps} steps of completing, cut off before and after each")
    assert steps > 8


# Rotation.


def test_rotating_closes_the_old_range_with_a_checkpoint_over_all_entries(grown):
    old_seeds, old = seeds_of(grown), register_of(grown)
    with Vault.open(grown, PASSPHRASE) as vault:
        rotation = vault.rotate_log_keys()
        assert rotation.is_new
        assert rotation.closing.size == 3, "the entry that waited is in it"
        keys = register_of(grown)
        assert ranges(keys) == [
            (ED25519, 0, 3),
            (ML_DSA_44, 0, 3),
            (ED25519, 4, None),
            (ML_DSA_44, 4, None),
        ]
        assert {one.closing for one in keys.keys[:2]} == {rotation.closing}
        assert [one.key for one in keys.keys[:2]] == [one.key for one in old.keys]
        assert keys.continues(old)
        assert not old.continues(keys)
        # The closing checkpoint stays the old one, also for who asks again.
        closing = vault.checkpoint()
        assert signers(closing) == [key.key_id for key in old.for_size(3)]
        put(vault, 4)
        assert signers(vault.checkpoint()) == [key.key_id for key in keys.for_size(4)]
        assert vault.audit().faults == []
        # What was published and anchored goes on under both.
        assert {one.size for one in vault.anchor()} == {4}
        vault.prove(vault.find("person 4")[0])
        vault.prove(vault.find("person 1")[0])
        assert vault.audit().faults == []
    assert names_in(grown) == WHOLE
    assert not set(seeds_of(grown)) & set(old_seeds)
    for path in (grown / "signer").iterdir():
        assert not any(seed.hex().encode() in path.read_bytes() for seed in old_seeds)


def test_rotating_again_before_anything_was_signed_changes_nothing(grown):
    with Vault.open(grown, PASSPHRASE) as vault:
        first = vault.rotate_log_keys()
        before = register_of(grown), seeds_of(grown)
        second = vault.rotate_log_keys()
        assert (second.is_new, second.closing, second.keys) == (False, first.closing, first.keys)
        assert (register_of(grown), seeds_of(grown)) == before
        put(vault, 4)
        assert vault.rotate_log_keys().is_new
        assert ranges(register_of(grown))[2:] == [
            (ED25519, 4, 4),
            (ML_DSA_44, 4, 4),
            (ED25519, 5, None),
            (ML_DSA_44, 5, None),
        ]
        put(vault, 5)
        vault.checkpoint()
        assert vault.audit().faults == []


def test_an_empty_ledger_can_be_rotated(vault_folder, vault):
    assert vault.rotate_log_keys().closing.size == 0
    put(vault, 1)
    vault.checkpoint()
    assert [first for _, first, _ in ranges(register_of(vault_folder))] == [0, 0, 1, 1]
    assert vault.audit().faults == []


def test_another_process_that_is_open_signs_with_the_new_keys(grown):
    with Vault.open(grown, PASSPHRASE) as one, Vault.open(grown, PASSPHRASE) as other:
        put(other, 4)
        other.checkpoint()
        one.rotate_log_keys()
        put(other, 5)
        note = other.checkpoint()
        assert signers(note) == [key.key_id for key in register_of(grown).for_size(5)]
        assert other.audit().faults == one.audit().faults == []


def test_p5_a_rotation_that_is_cut_off_anywhere_resumes_to_one_outcome(grown):
    old = register_of(grown)
    outcomes = {"not yet": 0, "done": 0}

    def start(folder, arm):
        with Vault.open(folder, PASSPHRASE) as vault:
            arm()
            try:
                vault.rotate_log_keys()
            except Injected:
                return False
        return True

    def check(folder):
        with Vault.open(folder, PASSPHRASE) as vault:
            # What was to replace a public file may lie there until the next one does.
            rest = {"last-checkpoint.new", "log-keys.new"}
            assert set(names_in(folder)) - rest == set(WHOLE)
            found = register_of(folder)
            outcomes["not yet" if found == old else "done"] += 1
            assert vault.audit().faults == []
            vault.rotate_log_keys()
            keys = register_of(folder)
            assert ranges(keys)[:2] == [(ED25519, 0, 3), (ML_DSA_44, 0, 3)]
            assert ranges(keys)[2:] == [(ED25519, 4, None), (ML_DSA_44, 4, None)]
            assert found in (old, keys), "rotated once, never twice"
            put(vault, 4)
            note = vault.checkpoint()
            assert signers(note) == [key.key_id for key in keys.for_size(4)]
            assert vault.audit().faults == []
        assert names_in(folder) == WHOLE

    steps = break_off_at_each_step(grown, start, check)
    print(f"{steps} steps of rotating, cut off before and after each: {outcomes}")
    assert steps > 15
    assert all(outcomes.values())


@pytest.mark.parametrize("name", ["log.key.new", "log-mldsa.key.new"])
def test_half_a_key_file_that_a_crash_left_is_removed(grown, name):
    (grown / "signer" / name).write_text('{"format": "datakl')
    with Vault.open(grown, PASSPHRASE) as vault:
        assert name not in names_in(grown)
        assert vault.rotate_log_keys().is_new
        assert vault.audit().faults == []


# What is refused.


def test_a_stripped_line_is_refused_everywhere(grown):
    with Vault.open(grown, PASSPHRASE) as vault:
        note = vault.checkpoint()
        keys = register_of(grown)
        folder = grown.parent / "published"
        vault.export_ledger(folder)
        assert read_entries(FolderSource(folder), keys).size == 3
    for kept in note.signatures:
        stripped = Note(note.text, (kept,))
        with pytest.raises(BadSignature):
            keys.verify(stripped)
        (folder / "checkpoint").write_bytes(stripped.format().encode())
        with pytest.raises(BadSignature):
            read_entries(FolderSource(folder), keys)
        (grown / "signer" / LAST_CHECKPOINT).write_bytes(stripped.format().encode())
        with pytest.raises(SignerStateLost):
            SignerMemory(grown / "signer").last()
    strip_notes(grown / "vault.db", 2)
    (grown / "signer" / LAST_CHECKPOINT).write_bytes(note.format().encode())
    with Vault.open(grown, PASSPHRASE) as vault:
        assert [fault.where for fault in vault.audit().faults] == ["checkpoint of 2 leaves"]
    # Control: for a register that has the Ed25519 key alone, one line is enough.
    lone = LogKeys(keys.keys[:1])
    assert lone.verify(Note(note.text, note.signatures[:1])).size == 3


def test_what_a_stolen_retired_key_signs_proves_nothing(grown):
    stolen = seeds_of(grown)
    with Vault.open(grown, PASSPHRASE) as vault:
        before = register_of(grown)
        vault.rotate_log_keys()
        put(vault, 4)
        vault.checkpoint()
        keys = register_of(grown)
        for size in (3, 4, 5, 1000):
            note = forged(stolen, size, b"\x5a" * 32)
            assert before.verify(note).size == size, "control: the keys did sign it"
            with pytest.raises(BadSignature):
                keys.verify(note)
            (grown / "signer" / LAST_CHECKPOINT).write_bytes(note.format().encode())
            with pytest.raises(SignerStateLost):
                vault.checkpoint()
        # A smaller one verifies, and is not a beginning of the tree that the keys were retired at.
        early = forged(stolen, 2, b"\x5a" * 32)
        assert keys.verify(early).size == 2
    with closing(sqlite3.connect(grown / "vault.db")) as database, database:
        database.execute("UPDATE ledger_checkpoint SET note = ? WHERE size = 2", (early.format(),))
    with Vault.open(grown, PASSPHRASE) as vault:
        assert "checkpoint of 2 leaves" in [fault.where for fault in vault.audit().faults]


def test_a_register_that_closed_at_another_tree_is_a_fault(grown):
    with Vault.open(grown, PASSPHRASE) as vault:
        closing_size = vault.rotate_log_keys().closing.size
        put(vault, 4)
        vault.checkpoint()
        keys = register_of(grown)
        other = Checkpoint(ORIGIN, closing_size, b"\x5a" * 32)
        text = keys.format().replace(
            keys.keys[0].closing.text().replace("\n", "\\n"), other.text().replace("\n", "\\n")
        )
        (grown / "signer" / LOG_KEYS).write_text(text)
        wheres = [fault.where for fault in vault.audit().faults]
        assert "log keys" in wheres
        assert f"checkpoint of {closing_size} leaves" in wheres


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 40])
def test_a_damaged_register_signs_nothing_and_is_named(grown, content):
    (grown / "signer" / LOG_KEYS).write_bytes(content)
    with Vault.open(grown, PASSPHRASE) as vault:
        assert "log keys" in [fault.where for fault in vault.audit().faults]
        with pytest.raises(SignerStateLost, match=LOG_KEYS):
            vault.checkpoint()


def test_nothing_secret_is_shown(vault_folder):
    files = LogKeyFiles(vault_folder, PASSPHRASE, ORIGIN)
    signer = files.signer()
    shown = " ".join(f"{one!r} {one}" for one in (files, signer, signer.keys, *files._open()))
    for secret in (PASSPHRASE, *(seed.hex() for seed in seeds_of(vault_folder))):
        assert secret not in shown
    assert not any(repr(seed) in shown for seed in seeds_of(vault_folder))


# Restores.


@pytest.fixture
def site(tmp_path):
    """A vault with backups from before and from after a rotation, and its newest ledger."""
    site = Site(tmp_path)
    with open_vault(site.vault) as vault:
        site.put(vault, b"one", "person 1")
        vault.checkpoint()
        site.back_up(vault, "before")
        vault.rotate_log_keys()
        site.put(vault, b"two", "person 2")
        vault.checkpoint()
        site.back_up(vault, "after")
        site.put(vault, b"three", "person 3")
        site.publish(vault)
    return site


@pytest.mark.parametrize("signs", [True, False])
def test_a_restored_vault_verifies_a_rotated_ledger(site, signs):
    order = site.order("restored", "after", ["after"], signer=signs)
    report = do_restore(order)
    assert (report.leaves, report.leaves_added, report.signs) == (3, 1, signs)
    if not signs:
        shutil.copytree(site.signer, order.folder / "signer")
    with open_restored(order) as vault:
        assert vault.audit().faults == []
        site.put(vault, b"four", "person 4")
        note = vault.checkpoint()
        keys = register_of(order.folder)
        assert [verify(note, key).key_id for key in keys.for_size(4)] == signers(note)


def test_a_backup_from_before_a_rotation_needs_the_signer_that_has_the_new_keys(site):
    """Nothing but the signer's register vouches for the new keys."""
    with pytest.raises(BadSignature):
        do_restore(site.order("restored", "before", ["after"], signer=False))
    report = do_restore(site.order("restored", "before", ["after"]))
    assert (report.leaves, report.leaves_added) == (3, 2)


def test_a_signer_that_is_older_than_the_data_backup_is_refused(site, tmp_path):
    older = tmp_path / "older"
    with open_vault(site.vault) as vault:
        shutil.copytree(site.signer, older)
        vault.rotate_log_keys()
        site.put(vault, b"five", "person 5")
        vault.checkpoint()
        site.back_up(vault, "latest")
    shutil.rmtree(site.signer)
    older.rename(site.signer)
    with pytest.raises(InvalidInput, match="older than the data backup"):
        do_restore(site.order("restored", "latest", ["latest"], ledger=False))
    assert not (tmp_path / "restored").exists()


def test_a_drill_with_backups_from_before_a_rotation_passes(site):
    with open_vault(site.vault) as vault:
        report = vault.drill_restore(Materials(site.data("before"), [site.keys("after")]))
        assert report.refusal is None
        assert report.resurrected == 0


def test_a_backup_of_an_earlier_version_names_one_key_and_comes_back(tmp_path):
    site = Site(tmp_path)
    with open_vault(site.vault) as vault:
        site.put(vault, b"one", "person 1")
        vault.checkpoint()
        site.back_up(vault, "earlier")
        lone = str(vault._core.signer.keys.keys[0].key)
    strip_notes(site.data("earlier"))
    strip_memory(site.vault)
    note = (site.signer / LAST_CHECKPOINT).read_text()
    with closing(sqlite3.connect(site.data("earlier"))) as database, database:
        for name, text in (("log-key", lone), ("signed-checkpoint", note)):
            database.execute("DELETE FROM kluis_config WHERE name = ?", (name,))
            database.execute("INSERT INTO kluis_config (name, text) VALUES (?, ?)", (name, text))
        database.execute("DELETE FROM kluis_config WHERE name = 'log-keys'")
    (site.signer / LOG_KEYS).unlink()
    (site.signer / "log-mldsa.key").unlink()
    order = site.order("restored", "earlier", ["earlier"], ledger=False)
    assert do_restore(order).signs
    with open_restored(order) as vault:
        assert ranges(register_of(order.folder)) == [(ED25519, 0, None), (ML_DSA_44, 2, None)]
        site.put(vault, b"two", "person 2")
        assert len(vault.checkpoint().signatures) == 2
        assert vault.audit().faults == []
