"""The audit: silent on a clean vault, counts what it checked, and tells lost from erased."""

import pytest

from ledger.pointer import parse_pointer
from vault import Erased, Ground, KeyLost, NewRecord

CONSENT = Ground.CONSENT_WITHDRAWN
PARTS = [
    "database",
    "columns",
    "ledger",
    "cosignatures",
    "key tree",
    "generations",
    "records",
    "governance",
    "subjects",
    "anchors",
]


@pytest.fixture
def filled(vault):
    """Three hundred records, some corrected, held, disclosed or erased, a third anchored."""
    pointers = []
    records = [NewRecord(b"%d" % number, f"person {number % 50}") for number in range(300)]
    vault.put_many(records[:100], category="nieuwsbrief", on_batch=pointers.extend)
    vault.anchor()
    vault.put_many(records[100:], category="nieuwsbrief", on_batch=pointers.extend)
    for pointer in pointers[:10]:
        vault.rectify(pointer, b"corrected")
    for pointer in pointers[5:15]:
        vault.erase(pointer, CONSENT)
    vault.place_hold(pointers[20], "reason")
    vault.prove(pointers[21], disclose=True)
    vault.put_many(records[:1], category="wmo")
    vault.pointers = pointers
    return vault


def slot_of(vault, pointer):
    with vault._core.database.read() as connection:
        return connection.exec_driver_sql(
            "SELECT v.slot FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
            " WHERE r.pointer = ? ORDER BY v.number DESC",
            (parse_pointer(pointer),),
        ).scalar()


def lose_key(vault, pointer):
    """Erase a record's slot behind its back."""
    with vault._core.change() as change:
        change.edit.erase([slot_of(vault, pointer)])


def faults(vault):
    return [str(fault) for fault in vault.audit().faults]


def test_an_empty_vault_is_clean(vault):
    report = vault.audit()
    assert report.faults == []
    assert {name: report.counts[name] for name in ("entries", "slots", "versions", "erased")} == {
        "entries": 0,
        "slots": 0,
        "versions": 0,
        "erased": 0,
    }
    assert report.counts["key nodes"] == 2  # the root of each tree


def test_a_clean_vault_has_no_faults_and_the_counts_are_right(filled, rows):
    told = []
    report = filled.audit(on_part=told.append)
    assert report.faults == []
    assert told == PARTS
    ((erasures,),) = rows("SELECT count(*) FROM vault_record WHERE erased_act IS NOT NULL")
    ((pending,),) = rows("SELECT count(*) FROM ledger_pending")
    assert report.counts["erased"] == erasures == 10
    assert report.counts["versions"] == 301 + 10 - (10 + 5)  # five of the erased had two
    assert report.counts["entries"] == 301 + 10 + 10 - pending
    assert report.counts["key nodes"] == rows("SELECT count(*) FROM vault_node")[0][0] == 6
    assert report.counts["slots"] == 512  # two leaves, whole
    print(f"clean: {dict(report.counts)}")


def test_a_record_whose_key_is_gone_is_lost_and_not_erased(filled):
    pointer = filled.pointers[50]
    slot = slot_of(filled, pointer)
    lose_key(filled, pointer)
    found = faults(filled)
    assert f"slot {slot}: LOST: its owner is live but the slot is erased" in found
    assert any(
        fault.startswith(f"record {pointer}: version 1: slot {slot} of the key tree is erased")
        for fault in found
    )
    assert len(found) == 2
    assert filled.audit().counts["erased"] == 10
    with pytest.raises(KeyLost, match="is erased, not live") as lost:
        filled.get(pointer)
    assert not isinstance(lost.value, Erased)
    # And it is refused as damaged, whatever is asked; nothing turns it into an erased one.
    for call in (
        lambda: filled.erase(pointer, CONSENT),
        lambda: filled.decide(pointer, CONSENT),
        lambda: filled.rectify(pointer, b""),
    ):
        with pytest.raises(KeyLost):
            call()
    assert not filled.history(pointer)[0].erased
    assert faults(filled) == found


def test_the_control_an_erased_record_is_no_fault(filled):
    filled.erase(filled.pointers[50], CONSENT)
    assert faults(filled) == []
    assert filled.audit().counts["erased"] == 11


def test_a_lost_bucket_is_named(filled, rows):
    ((slot,),) = rows("SELECT slot FROM vault_bucket")
    with filled._core.change() as change:
        change.edit.erase([slot])
    found = faults(filled)
    assert f"slot {slot}: LOST: its owner is live but the slot is erased" in found
    assert any(fault.startswith("subject bucket 0: slot") for fault in found)


def test_a_blob_that_is_gone_is_lost(filled):
    pointer = filled.pointers[60]
    with filled._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_version SET body = NULL WHERE slot = ?", (slot_of(filled, pointer),)
        )
    assert f"record {pointer}: LOST: version 1 is live but its blob is gone" in faults(filled)


def test_a_key_that_outlived_its_record_is_named(filled):
    # The tree as it was before an erasure, under the rows from after it.
    database, pointer = filled._core.database, filled.pointers[70]
    slot = slot_of(filled, pointer)
    names = "SELECT level, number, sealed FROM vault_node"
    with database.read() as connection:
        old = [tuple(row) for row in connection.exec_driver_sql(names)]
    filled.erase(pointer, CONSENT)
    with database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_node SET sealed = ? WHERE level = ? AND number = ?",
            [(sealed, level, number) for level, number, sealed in old],
        )
    found = faults(filled)
    assert f"slot {slot}: its owner was erased but the slot is live" in found


def test_faults_in_one_part_do_not_hide_those_of_another(filled):
    lose_key(filled, filled.pointers[50])
    with filled._core.database.write() as connection:
        connection.exec_driver_sql("UPDATE ledger_head SET root = ?", (bytes(32),))
        connection.exec_driver_sql("UPDATE vault_subject SET sealed = x'00' WHERE id = 3")
    told = []
    found = " ".join(map(str, filled.audit(on_part=told.append).faults))
    assert told == PARTS
    assert "LOST" in found
    assert "head" in found
    assert "subject row 3" in found


def test_the_audit_reads_stored_bytes_and_not_what_this_process_remembers(filled):
    pointer = filled.pointers[80]
    assert filled.get(pointer) == b"80"
    slot = slot_of(filled, pointer)
    with filled._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_node SET sealed = zeroblob(8476) WHERE level = 0 AND number = ?",
            (slot >> 8,),
        )
    assert filled.get(pointer) == b"80"  # from the cache, which is why the audit has its own
    found = faults(filled)
    where = f"key node {slot >> 8} at level 0"
    assert f"{where}: {where} does not open" in found
    assert any(fault.startswith(f"record {pointer}: version 1: key node") for fault in found)


def test_an_audit_changes_nothing(filled, rows):
    before = rows("SELECT generation, sequence, next_slot FROM vault_tree")
    acts = rows("SELECT count(*) FROM vault_act")
    filled.audit()
    assert rows("SELECT generation, sequence, next_slot FROM vault_tree") == before
    assert rows("SELECT count(*) FROM vault_act") == acts


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE vault_subject SET since = 0 WHERE id = 1", "subject row 1 was not indexed since"),
        ("UPDATE vault_subject SET since = 3 WHERE id = 1", "subject row 1 was not indexed since"),
        ("UPDATE vault_bucket SET birth = 3", "bucket 0 has a key of a generation"),
    ],
)
def test_a_generation_that_there_was_not_is_named(vault, change, fault):
    # A certificate lists the generations from the oldest of these on.
    gone = vault.put(b"x", category="nieuwsbrief", subject="A")
    vault.put(b"y", category="nieuwsbrief", subject="A")
    vault.erase(gone, CONSENT)
    vault.shred()
    assert faults(vault) == []
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(change)
    assert any(one.startswith("subject index: " + fault) for one in faults(vault)), faults(vault)
