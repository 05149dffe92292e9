"""The audit of field groups, erasures and certificates: each tampering is named (LG1, P5)."""

import re
import shutil
import sqlite3

import pytest
from sdk_calls import CONSENT, put

from vault import Vault
from vault.audit.erasures import ErasuresAudit
from vault.audit.parts import PartsAudit

PASSPHRASE = "a passphrase for tests"


@pytest.fixture(scope="module")
def made(template_folder, tmp_path_factory):
    """A vault with erasures that are certified and not, and living field groups; closed."""
    folder = shutil.copytree(template_folder, tmp_path_factory.mktemp("made") / "vault")
    with Vault.open(folder, PASSPHRASE) as vault:
        pointers = {
            "whole": put(vault, b"whole"),
            "later": put(vault, b"later"),
            "group": put(vault, b"group", category="kindpakket", groups={"contact": b"c1"}),
            "living": put(vault, b"living", category="kindpakket", groups={"contact": b"c2"}),
        }
        vault.rectify(pointers["whole"], b"corrected")
        vault.rectify(pointers["group"], b"corrected", groups={"contact": b"c3"})
        vault.rectify(pointers["living"], b"corrected")
        vault.erase(pointers["whole"], CONSENT)
        vault.erase_group(pointers["group"], "contact", CONSENT)
        vault.anchor()
        vault.shred()
        vault.erase(pointers["later"], CONSENT)
        vault.declare_no_copies("A. Beheerder")
        vault.rectify(pointers["living"], b"again", groups={"contact": b"c4"})
    return folder, pointers


@pytest.fixture
def vault_folder(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "vault")


@pytest.fixture
def filled(vault, made):
    """A copy of it, open."""
    vault.pointers = made[1]
    return vault


def faults(vault):
    return [str(fault) for fault in vault.audit().faults]


def test_a_vault_with_erasures_is_clean_and_the_counts_are_right(filled, rows):
    report = filled.audit()
    assert report.faults == []
    ((certificates,),) = rows("SELECT count(*) FROM vault_certificate")
    assert report.counts["certificates"] == certificates == 4  # each of two issued twice
    assert report.counts["field groups"] == 2
    assert report.counts["erased"] == 2
    assert rows("SELECT record_id, field_group FROM vault_erasure ORDER BY 1") == [
        (1, 0), (2, 0), (3, 1)
    ]  # fmt: skip


def of(what, change, fault):
    """A tampering: which record it is about, the statement, and what must be said.

    Record 1 is the whole one, 2 the later one, 3 that of which a group was erased, 4 the living.
    """
    return what, change, fault


CERTIFICATE = "certificate 1 of the record "
TAMPERINGS = {
    # Certificates.
    "a certificate's document": of(
        "whole",
        "UPDATE vault_certificate SET document ="
        " CAST(replace(CAST(document AS TEXT), 'beheer', 'behaar') AS BLOB) WHERE id = 1",
        CERTIFICATE + "is not the one whose SHA-256 the ledger has",
    ),
    "two certificates swapped": of(
        "whole",
        "UPDATE vault_certificate SET document = (SELECT document FROM vault_certificate o WHERE"
        " o.id = CASE vault_certificate.id WHEN 1 THEN 2 ELSE 1 END) WHERE id IN (1, 2)",
        CERTIFICATE + "is not the one",
    ),
    "a certificate taken out": of(
        "whole",
        "DELETE FROM vault_certificate WHERE erasure_id = 1 AND number = 2",
        "the vault lacks certificate 2 of the record",
    ),
    "all certificates of an erasure taken out": of(
        "group",
        "DELETE FROM vault_certificate WHERE erasure_id IN"
        " (SELECT id FROM vault_erasure WHERE record_id = 3)",
        "the vault lacks certificate 1, 2 of field group 1",
    ),
    "a certificate that was never issued": of(
        "later",
        "INSERT INTO vault_certificate (erasure_id, number, status, irrecoverability, document,"
        " issued_at) SELECT 3, 1, status, irrecoverability, document, 1 FROM vault_certificate"
        " WHERE id = 1",
        CERTIFICATE + "is not in the ledger",
    ),
    "a certificate's number": of(
        "whole",
        "UPDATE vault_certificate SET number = 7 WHERE erasure_id = 1 AND number = 2",
        "certificate 7 of the record is not in the ledger",
    ),
    "a certificate's status": of(
        "whole",
        "UPDATE vault_certificate SET status = 'irrecoverable' WHERE id = 1",
        CERTIFICATE + "states another status than the vault",
    ),
    "a certificate's irrecoverability": of(
        "group",
        "UPDATE vault_certificate SET irrecoverability = 'confirmed' WHERE id = 2",
        "certificate 1 of field group 1 states another status than the vault",
    ),
    # Rows of erasures.
    "where an erasure begins": of(
        "later", "UPDATE vault_erasure SET born = 2 WHERE record_id = 2",
        "the erasure of the record names other generations than its keys had",
    ),
    "where an erasure ends": of(
        "whole", "UPDATE vault_erasure SET erased = 2 WHERE record_id = 1",
        "the erasure of the record names other generations than its keys had",
    ),
    "where the erasure of a group ends": of(
        "group", "UPDATE vault_erasure SET erased = 2 WHERE record_id = 3",
        "the erasure of field group 1 names other generations than its keys had",
    ),
    "the tree of an erasure": of(
        "later", "UPDATE vault_erasure SET tree = 1 WHERE record_id = 2",
        "the erasure of the record names other generations than its keys had",
    ),
    "the group of an erasure": of(
        "group", "UPDATE vault_erasure SET field_group = 2 WHERE record_id = 3",
        "the vault has an erasure of field group 2, the ledger has none",
    ),
    "the ground of an erasure": of(
        "later", "UPDATE vault_erasure SET ground = 'unlawful' WHERE record_id = 2",
        "its erasure and its tombstone name another act or ground",
    ),
    "the act of an erasure": of(
        "later", "UPDATE vault_erasure SET act_id = 1 WHERE record_id = 2",
        "its erasure and its tombstone name another act or ground",
    ),
    "the act of a tombstone": of(
        "later", "UPDATE vault_record SET erased_act = 1 WHERE id = 2",
        "its erasure and its tombstone name another act or ground",
    ),
    "an erasure taken out": of(
        "later", "DELETE FROM vault_erasure WHERE record_id = 2",
        "nothing says why the record was erased",
    ),
    "an erasure that was none": of(
        "living",
        "INSERT INTO vault_erasure (record_id, field_group, tree, born, erased, act_id, ground,"
        " code, article, rule_version) SELECT 4, 1, tree, born, erased, act_id, ground, code,"
        " article, rule_version FROM vault_erasure WHERE record_id = 3",
        "the vault has an erasure of field group 1, the ledger has none",
    ),
    # What a certificate states beside that.
    "the decision": of(
        "whole", "UPDATE vault_erasure SET code = 'D5' WHERE record_id = 1",
        CERTIFICATE + "states another decision than the vault",
    ),
    "the article": of(
        "group", "UPDATE vault_erasure SET article = 'Art. 9 GDPR' WHERE record_id = 3",
        "certificate 1 of field group 1 states another decision than the vault",
    ),
    "the duty to keep": of(
        "whole", "UPDATE vault_erasure SET retention = '2020 8.1.1 afgehandeld' WHERE id = 1",
        CERTIFICATE + "states another duty to keep than the vault",
    ),
    "the approvers": of(
        "whole", """UPDATE vault_erasure SET approvers = '[["X", "archivaris"]]' WHERE id = 1""",
        CERTIFICATE + "states other approvers than the vault",
    ),
    "the executor": of(
        "whole", "UPDATE vault_act SET actor = 'other' WHERE id ="
        " (SELECT act_id FROM vault_erasure WHERE record_id = 1)",
        CERTIFICATE + "states another executor than the vault",
    ),
    "the moment": of(
        "group", "UPDATE vault_act SET at = at + 1 WHERE id ="
        " (SELECT act_id FROM vault_erasure WHERE record_id = 3)",
        "certificate 2 of field group 1 states another moment than the vault",
    ),
    "the ground of a group": of(
        "group", "UPDATE vault_erasure SET ground = 'unlawful' WHERE record_id = 3",
        "certificate 1 of field group 1 states another ground than the vault",
    ),
    "the name of a group that was erased": of(
        "group", "UPDATE vault_part SET name = 'foto' WHERE record_id = 3",
        "certificate 1 of field group 1 states other field groups than the vault",
    ),
    # Parts.
    "a part's body": of(
        "living",
        "UPDATE vault_part SET body = CAST(x'01' || zeroblob(length(body) - 1) AS BLOB)"
        " WHERE record_id = 4 AND number = 3",
        "version 3, field group 1: a sealed blob does not open",
    ),
    "a part's body that is gone": of(
        "living", "UPDATE vault_part SET body = NULL WHERE record_id = 4 AND number = 1",
        "LOST: version 1, field group 1 is live but its blob is gone",
    ),
    "two parts' bodies swapped": of(
        "living",
        "UPDATE vault_part SET body = (SELECT body FROM vault_part o WHERE o.record_id = 4 AND"
        " o.number = 4 - vault_part.number) WHERE record_id = 4",
        "version 1, field group 1: a sealed blob does not open",
    ),
    "a part's group": of(
        "living", "UPDATE vault_part SET field_group = 2 WHERE record_id = 4 AND number = 1",
        "version 1, field group 2 is not in the ledger",
    ),
    "a part's number": of(
        "living", "UPDATE vault_part SET number = 2 WHERE record_id = 4 AND number = 1",
        "version 2, field group 1 is not in the ledger",
    ),
    "a part's name": of(
        "living", "UPDATE vault_part SET name = 'foto' WHERE record_id = 4 AND number = 1",
        "version 1, field group 1 has another name than the configuration gives it",
    ),
    "a part's slot": of(
        "living",
        "UPDATE vault_part SET slot = (SELECT max(slot) FROM vault_part) + 1"
        " WHERE record_id = 4 AND number = 1",
        "version 1, field group 1: ",
    ),
    "a part's slot that lies in no tree": of(
        "living",
        "UPDATE vault_part SET slot = slot + (1 << 40) WHERE record_id = 4 AND number = 1",
        "version 1, field group 1: ",
    ),
    "an erased part's slot that lies in no tree": of(
        "group",
        "UPDATE vault_part SET slot = slot + (1 << 40) WHERE record_id = 3 AND number = 1",
        "the erasure of field group 1 names other generations than its keys had",
    ),
    "a part's birth": of(
        "living", "UPDATE vault_part SET birth_generation = 9 WHERE record_id = 4 AND number = 1",
        "version 1, field group 1 lived in generations that there were not",
    ),
    "a living part that says it was erased": of(
        "living", "UPDATE vault_part SET erased_generation = 1 WHERE record_id = 4 AND number = 1",
        "version 1, field group 1 says that its key was erased, the ledger does not",
    ),
    "a part taken out": of(
        "living", "DELETE FROM vault_part WHERE record_id = 4 AND number = 1",
        "version 1 lacks field group 1, which the ledger has",
    ),
    "a part of another record": of(
        "group", "UPDATE vault_part SET record_id = 3 WHERE record_id = 4 AND number = 3",
        "version 3, field group 1 is not in the ledger",
    ),
    "an erased part that is back": of(
        "group", "UPDATE vault_part SET body = x'00' WHERE record_id = 3 AND number = 1",
        "version 1, field group 1 is left though it was erased",
    ),
    "an erased part that says it lives": of(
        "group",
        "UPDATE vault_part SET erased_generation = NULL WHERE record_id = 3 AND number = 1",
        "version 1, field group 1 does not say that its key was erased",
    ),
    "an erased part's generation": of(
        "group", "UPDATE vault_part SET erased_generation = 2 WHERE record_id = 3 AND number = 1",
        "the erasure of field group 1 names other generations than its keys had",
    ),
    "an erased part with a living slot": of(
        "group",
        "UPDATE vault_part SET slot = (SELECT max(slot) + 1 FROM vault_part) WHERE record_id = 3"
        " AND number = 2",
        "version 2, field group 1 was erased but slot",
    ),
    "the last erased part taken out": of(
        "group", "DELETE FROM vault_part WHERE record_id = 3 AND number = 2",
        "the ledger erased field group 1 up to version 2, the vault has it up to 1",
    ),
    # Versions of a record that was erased.
    "an erased version's generation": of(
        "whole",
        "UPDATE vault_version SET erased_generation = 2 WHERE record_id = 1 AND number = 1",
        "the erasure of the record names other generations than its keys had",
    ),
    # The ledger's side.
    "an erasure of a group that waits": of(
        "living",
        "INSERT INTO ledger_pending (entry) SELECT CAST(x'01020001' || pointer || x'00000003'"
        " AS BLOB) FROM vault_record WHERE id = 4",
        "nothing says why field group 1 was erased",
    ),
    "a certificate that waits": of(
        "later",
        "INSERT INTO ledger_pending (entry) SELECT CAST(x'01030000' || pointer || x'00000001' ||"
        " zeroblob(32) AS BLOB) FROM vault_record WHERE id = 2",
        "the vault lacks certificate 1 of the record",
    ),
    "a certificate of a group that was not erased": of(
        "living",
        "INSERT INTO ledger_pending (entry) SELECT CAST(x'01030001' || pointer || x'00000001' ||"
        " zeroblob(32) AS BLOB) FROM vault_record WHERE id = 4",
        "the vault lacks the certificates of field group 1",
    ),
    "a group of a version that waits": of(
        "living",
        "INSERT INTO ledger_pending (entry) SELECT CAST(x'01010102' || pointer || x'00000001' ||"
        " zeroblob(32) AS BLOB) FROM vault_record WHERE id = 4",
        "version 1 lacks field group 2, which the ledger has",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("what", "change", "expected"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_each_tampering_is_named(filled, what, change, expected):
    assert faults(filled) == []
    with sqlite3.connect(filled.folder / "vault.db") as raw:
        assert raw.execute(change).rowcount >= 1
    raw.close()
    found = faults(filled)
    named = re.escape(f"record {filled.pointers[what]}: {expected}")
    assert any(re.match(named, fault) for fault in found), found


def test_nothing_that_was_changed_is_repeated(filled):
    """P3: a name of a field group could have become anything."""
    with sqlite3.connect(filled.folder / "vault.db") as raw:
        raw.execute("UPDATE vault_part SET name = 'kanarie'")
        raw.execute("UPDATE vault_erasure SET article = 'kanarie'")
    raw.close()
    assert faults(filled) != []
    assert not any("kanarie" in fault for fault in faults(filled))


CONTROLS = {
    "without the parts": (PartsAudit, "check", "a part's name"),
    "without the rows": (ErasuresAudit, "_row", "the tree of an erasure"),
    "without the certificates": (ErasuresAudit, "_certificates", "a certificate's document"),
}


@pytest.mark.parametrize(("owner", "method", "what"), CONTROLS.values(), ids=CONTROLS)
def test_control_an_audit_without_a_part_misses_it(filled, monkeypatch, owner, method, what):
    monkeypatch.setattr(owner, method, lambda *_, **__: iter(()))
    with sqlite3.connect(filled.folder / "vault.db") as raw:
        raw.execute(TAMPERINGS[what][1])
    raw.close()
    assert faults(filled) == []


def test_after_a_restore_the_vault_may_have_less_than_the_ledger(filled):
    """A restore replays erasures without knowing why, and may lack newer certificates."""
    with sqlite3.connect(filled.folder / "vault.db") as raw:
        raw.execute("DELETE FROM vault_certificate WHERE erasure_id = 1 AND number = 2")
        raw.execute("DELETE FROM vault_erasure WHERE record_id = 2")
        raw.execute(
            "DELETE FROM vault_certificate WHERE erasure_id IN"
            " (SELECT id FROM vault_erasure WHERE record_id = 3)"
        )
        raw.execute("DELETE FROM vault_erasure WHERE record_id = 3")
        raw.commit()
        assert len(faults(filled)) == 4
        (act,) = raw.execute(
            "INSERT INTO vault_act (at, actor, purpose, action) VALUES (1, 'a', 'inzage',"
            " 'restore') RETURNING id"
        ).fetchone()
        raw.execute("UPDATE vault_record SET erased_act = ? WHERE id = 2", (act,))
    raw.close()
    assert faults(filled) == []
