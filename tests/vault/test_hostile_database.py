"""Whoever can write to the database or the configuration: what is seen before it does harm."""

import datetime as dt
import sqlite3
from pathlib import Path

import pytest

from vault import Damaged, DecisionCode, Ground, ImportOrder, Refused, Vault
from vault.rootkeys.file import KEYS_FOLDER

BRONDATUM = dt.date(2024, 1, 1)


def change(vault, *statements):
    with sqlite3.connect(vault.folder / "vault.db") as database:
        for statement, parameters in statements:
            database.execute(statement, parameters)
    database.close()


def test_swapped_subject_rows_give_nobody_the_dossier_of_another(vault):
    for name in ("A", "B"):
        vault.put(f"dossier of {name}".encode(), category="wmo", subject=name)
    swap = "UPDATE vault_subject SET id = ? WHERE id = ?"
    change(
        vault, ("PRAGMA foreign_keys = OFF", ()), *[(swap, to) for to in ((9, 1), (1, 2), (2, 9))]
    )
    for name in ("A", "B"):
        with pytest.raises(Damaged, match="subject row"):
            vault.find(name)
    faults = [str(fault) for fault in vault.audit().faults]
    assert sum("subject row" in fault for fault in faults) == 2


def test_a_changed_category_opens_nothing(vault):
    pointer = vault.put(b"medical", category="wmo", subject="A")
    change(vault, ("UPDATE vault_record SET category = 'nieuwsbrief'", ()))
    for call in (
        lambda: vault.get(pointer),
        lambda: vault.prove(pointer, disclose=True),
        lambda: vault.erase(pointer, Ground.CONSENT_WITHDRAWN),
        lambda: vault.decide(pointer, Ground.CONSENT_WITHDRAWN),
    ):
        with pytest.raises(Damaged):
            call()


def test_a_slot_that_is_in_use_is_not_handed_out_again(vault):
    """A lowered `next_slot` must not let a put overwrite the keys of others."""
    pointer = vault.put(b"first", category="nieuwsbrief", subject="A")
    change(vault, ("UPDATE vault_tree SET next_slot = 0 WHERE id = 1", ()))
    with pytest.raises(Damaged, match="slot that is in use"):
        vault.put(b"second", category="nieuwsbrief", subject="A")
    assert vault.get(pointer) == b"first"


def test_the_duty_is_that_of_the_day_of_storing_whatever_the_configuration_says(vault, reopen):
    """ST1: taking the code away from a category does not make its records erasable."""
    kept = vault.put(b"besluit", category="organisatie", subject="A")
    listed = vault.put(b"wmo", category="wmo", subject="A", brondatum=BRONDATUM)
    path = vault.folder / "datakluis.toml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join(line for line in lines if not line.startswith(("sele", "resu", "afle")))
    )
    loosened = reopen()
    for pointer, code in ((kept, DecisionCode.D7), (listed, DecisionCode.D8)):
        with pytest.raises(Refused) as refused:
            loosened.erase(pointer, Ground.NOT_NEEDED)
        assert refused.value.decision.code is code
    # The control: what is stored from now on has no duty.
    assert loosened.erase(
        loosened.put(b"x", category="organisatie", subject="A"), Ground.NOT_NEEDED
    )


def test_erasing_from_one_import_does_not_forget_another(vault, tmp_path):
    for name in ("a", "b"):
        lines = "".join(f'{{"id": "{name}{number}"}}\n' for number in range(3))
        (tmp_path / name).write_text(lines)
    vault.import_jsonl(ImportOrder(tmp_path / "a", "nieuwsbrief", "/id"))
    vault.erase(vault.find("a0")[0], Ground.CONSENT_WITHDRAWN)
    order = ImportOrder(tmp_path / "b", "nieuwsbrief", "/id")
    vault.import_jsonl(order)
    vault.erase(vault.find("a1")[0], Ground.CONSENT_WITHDRAWN)
    again = vault.import_jsonl(order)
    assert (again.records, again.already) == (0, 3)
    assert len(vault.find("b0")) == 1


def test_after_an_erasure_the_files_hold_no_former_copy(vault, tmp_path, passphrase):
    """ER1: not in the database, not in its write-ahead log, although the vault stays open."""
    pointer = vault.put(b"the payload", category="nieuwsbrief", subject="A")
    with sqlite3.connect(vault.folder / "vault.db") as database:
        (body,) = database.execute("SELECT body FROM vault_version").fetchone()
        roots = [
            row[0]
            for row in database.execute(
                "SELECT sealed FROM vault_node WHERE number >> (8 * (3 - level)) = 0"
            )
        ]
    database.close()

    def files():
        return b"".join((vault.folder / f"vault.db{end}").read_bytes() for end in ("", "-wal"))

    assert body in files()
    erasure = vault.erase(pointer, Ground.CONSENT_WITHDRAWN)
    assert erasure.files_clean
    assert body not in files()
    assert not any(root in files() for root in roots)
    # And so a copy that is made now, without the log, opens nothing.
    copied = tmp_path / "copy"
    for path in (KEYS_FOLDER, Path("signer")):
        (copied / path.name).mkdir(parents=True)
        for file in (vault.folder / path.name).iterdir():
            (copied / path.name / file.name).write_bytes(file.read_bytes())
    for name in ("vault.db", "datakluis.toml"):
        (copied / name).write_bytes((vault.folder / name).read_bytes())
    with Vault.open(copied, passphrase) as copy:
        assert copy.find("A") == []


def test_a_reader_of_an_older_state_is_named_not_waited_for(vault):
    pointer = vault.put(b"the payload", category="nieuwsbrief", subject="A")
    reader = sqlite3.connect(vault.folder / "vault.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM vault_record").fetchall()
    assert vault.erase(pointer, Ground.CONSENT_WITHDRAWN).files_clean is False
    reader.close()
    other = vault.put(b"another", category="nieuwsbrief", subject="A")
    assert vault.erase(other, Ground.CONSENT_WITHDRAWN).files_clean


def test_a_closed_vault_does_nothing_more(vault):
    from vault import InvalidInput

    pointer = vault.put(b"x", category="nieuwsbrief", subject="A")
    vault.close()
    for call in (
        lambda: vault.get(pointer),
        lambda: vault.find("A"),
        lambda: vault.erase(pointer, Ground.CONSENT_WITHDRAWN),
        vault.checkpoint,
    ):
        with pytest.raises(InvalidInput, match="closed"):
            call()


@pytest.mark.parametrize("slot", [2**33, 2**62, -1])
def test_a_slot_of_no_tree_is_damage(vault, slot):
    pointer = vault.put(b"x", category="nieuwsbrief", subject="A")
    change(vault, ("UPDATE vault_version SET slot = ?", (slot,)))
    for call in (
        lambda: vault.get(pointer),
        lambda: vault.rectify(pointer, b"y"),
        lambda: vault.erase(pointer, Ground.CONSENT_WITHDRAWN),
        lambda: vault.prove(pointer, disclose=True),
    ):
        with pytest.raises(Damaged, match=f"^slot {slot} lies in no key tree$"):
            call()
    assert any(f"slot {slot}" in str(fault) for fault in vault.audit().faults)
