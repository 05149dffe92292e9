"""Destruction lists: governed records go by an enacted list alone, and each proves it (GO2)."""

import datetime as dt
import json

import pytest
from governed import all_entries, enact_list, found, role_key
from sdk_calls import CONSENT, put

from ledger.action import EnactList, Stop
from ledger.entry import EntryKind, encode_version, governed, parse_entry, parse_membership
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.pointer import parse_pointer
from ledger.source import FolderSource
from vault import (
    Approval,
    Damaged,
    Decision,
    DecisionCode,
    Erased,
    Ground,
    InvalidInput,
    ListNeeded,
    NotAllowed,
    NotFound,
    Refused,
    Stopped,
    Vault,
    listing,
)
from vault.backup.building import Materials
from vault.backup.restore import RestoreOrder, restore
from vault.core import Change
from vault.destroying import Target, destroy
from vault.erasing import decide_record
from vault.escrow.shares import Share
from vault.records import Action, load_record

BORN = dt.date(2015, 1, 1)
EXPIRED = Ground.NOT_NEEDED


def put_expired(vault, payload=b"a support case", **more):
    """A record that had to be kept until 1 January 2022."""
    return put(vault, payload, category="kindpakket", brondatum=BORN, **more)


@pytest.fixture
def keys(vault):
    return found(vault)


def entries_by_kind(vault, pointer):
    name = parse_pointer(pointer)
    return [entry for entry in all_entries(vault) if entry.pointer == name]


def rejudge(vault):
    """Judge every entry of the ledger anew, as anybody could; return the last state."""
    state, newest = GovernanceState(), {}
    for index, entry in enumerate(all_entries(vault)):
        before = newest.get(entry.pointer)
        state = judge(vault.origin, state, entry, index, before)
        if entry.group == 0 and entry.kind in (
            EntryKind.VERSION,
            EntryKind.ERASURE,
            EntryKind.LISTED_ERASURE,
        ):
            newest[entry.pointer] = entry
    return state


# The mark


def test_a_marked_entry_is_the_one_that_would_be_written_with_the_mark():
    plain = encode_version(bytes(range(16)), 3, bytes(32))
    assert governed(plain) == encode_version(bytes(range(16)), 3, bytes(32), governed=True)
    assert parse_entry(governed(plain)).governed


def test_the_mark_is_set_once_governance_is_founded_and_then_kept(vault):
    early = put_expired(vault)
    found(vault)
    assert vault.rectify(early, b"{}") == 2
    late, free = put_expired(vault, groups={"contact": b"tel"}), put(vault)
    vault.rectify(late, b"{}", groups={"contact": b"tel 2"})
    for pointer, marks in ((early, [False, False]), (late, [True, True]), (free, [False])):
        entries = entries_by_kind(vault, pointer)
        assert [entry.governed for entry in entries if entry.group == 0] == marks
    # Also of one whose first version is a leaf by now.
    vault.rectify(late, b"{}")
    core = [entry.governed for entry in entries_by_kind(vault, late) if entry.group == 0]
    assert core == [True, True, True]
    rejudge(vault)
    assert vault.audit().faults == []


def test_what_no_duty_keeps_goes_without_a_list(vault, keys):
    kept, free = put_expired(vault, groups={"contact": b"tel"}), put(vault)
    vault.erase(free, CONSENT)
    vault.erase_group(kept, "contact", CONSENT)
    assert vault.get(kept) == b"a support case"
    rejudge(vault)
    assert vault.audit().faults == []


# Lists


def test_fifty_are_listed_and_erased_and_the_next_one_is_not(vault, keys, clock):
    pointers = [put_expired(vault, str(number).encode()) for number in range(51)]
    listed, left = pointers[:50], pointers[50]
    for pointer in (listed[0], left):
        with pytest.raises(Refused) as refused:
            vault.erase(pointer, EXPIRED)
        assert refused.value.decision.code is DecisionCode.D9
        with pytest.raises(ListNeeded):
            vault.erase_listed(pointer, EXPIRED)
    view = enact_list(vault, listed, keys)
    assert [(one.items, one.erased) for one in vault.lists()] == [(50, 0)]
    for pointer in listed:
        assert vault.erase_listed(pointer, EXPIRED).decision.code is DecisionCode.D9
        with pytest.raises(Erased):
            vault.get(pointer)
    with pytest.raises(ListNeeded, match=left):
        vault.erase_listed(left, EXPIRED)
    with pytest.raises(Erased):
        vault.erase_listed(listed[0], EXPIRED)
    assert vault.get(left) == b"50"
    rejudge(vault)
    erasures = [entry for entry in all_entries(vault) if entry.kind is EntryKind.LISTED_ERASURE]
    places = [parse_membership(entry.body) for entry in erasures]
    assert {place.sequence for place in places} == {view.proposal.sequence}
    assert sorted(place.index for place in places) == list(range(50))
    assert [(one.items, one.erased) for one in vault.lists()] == [(50, 50)]
    assert vault.audit().faults == []
    print(f"{len(erasures)} erased, each proof judged; the 51st refused")


def test_the_order_of_a_list_is_not_that_of_its_records(vault, keys, rows):
    pointers = [put_expired(vault) for _ in range(20)]
    enact_list(vault, pointers, keys)
    query = "SELECT pointer FROM vault_listed ORDER BY place"
    stored = [bytes(pointer) for (pointer,) in rows(query)]
    written = [
        bytes(pointer) for (pointer,) in rows("SELECT pointer FROM vault_record ORDER BY id")
    ]
    assert sorted(stored) == sorted(written)
    assert stored != written


def test_date_and_hold_are_looked_at_when_each_is_erased(vault, keys, clock):
    held, free = put_expired(vault), put_expired(vault)
    early = put(vault, category="kindpakket", brondatum=dt.date(2025, 1, 1))
    enact_list(vault, [held, early, free], keys)
    vault.place_hold(held, "a court case")
    for pointer, code in ((held, DecisionCode.D3), (early, DecisionCode.D8)):
        with pytest.raises(Refused) as refused:
            vault.erase_listed(pointer, EXPIRED)
        assert refused.value.decision.code is code
    vault.erase_listed(free, EXPIRED)
    clock.day = dt.date(2033, 1, 1)
    vault.erase_listed(early, EXPIRED)
    with pytest.raises(Refused):
        vault.erase_listed(held, EXPIRED)
    assert vault.audit().faults == []


def test_lists_go_on_while_the_ledger_is_stopped(vault, keys):
    pointer = put_expired(vault)
    vault.propose(Stop(), keys.auditor)
    with pytest.raises(Stopped):
        put(vault)
    enact_list(vault, [pointer], keys)
    vault.erase_listed(pointer, EXPIRED)
    rejudge(vault)


def test_what_cannot_stand_on_a_list(vault, keys, rows):
    pointer, gone = put_expired(vault), put(vault)
    vault.erase(gone, CONSENT)
    for pointers, error in (
        ([], InvalidInput),
        ([pointer, pointer], InvalidInput),
        ([gone], InvalidInput),
        (["a" * 26], NotFound),
    ):
        with pytest.raises(error):
            vault.propose_list(pointers, keys.officer)
    with pytest.raises(NotAllowed, match="no member's"):
        vault.propose_list([pointer], role_key())
    assert rows("SELECT count(*) FROM vault_proposed") == [(0,)]


def test_a_list_takes_an_officer_and_an_archivist(vault, keys):
    pointer = put_expired(vault)
    view = vault.propose_list([pointer], keys.officer)
    for key in (keys.operator, keys.auditor, keys.officer):
        view = vault.approve(view.proposal.id, key)
        assert view.is_open
        with pytest.raises(ListNeeded):
            vault.erase_listed(pointer, EXPIRED)
    other = vault.propose_list([pointer], keys.officer)
    assert vault.approve(view.proposal.id, keys.archivist).is_enacted
    assert not vault.proposal(other.proposal.id).is_open
    vault.erase_listed(pointer, EXPIRED)
    assert vault.audit().faults == []


# No way around


def erase_without_list(vault, pointer):
    """What a changed decision table, or a broken glass, would do."""
    core = vault._core
    with core.change() as change:
        assert isinstance(change, Change)
        record = load_record(change.connection, parse_pointer(pointer))
        decision = decide_record(core, record, EXPIRED)
        assert isinstance(decision, Decision)
        act_id = change.act(core.caller(None, None), Action.ERASE, core.clock.now())
        destroy(change, Target(record, EXPIRED, decision), act_id)


def test_no_path_writes_a_plain_erasure_of_a_governed_record(vault, keys, rows):
    waiting, leaf = put_expired(vault), put_expired(vault, b"a leaf by now")
    vault.checkpoint()
    waiting = put_expired(vault, b"waits")
    before = rows("SELECT count(*) FROM ledger_pending")
    for pointer, content in ((waiting, b"waits"), (leaf, b"a leaf by now")):
        with pytest.raises(ListNeeded, match="list"):
            erase_without_list(vault, pointer)
        assert vault.get(pointer) == content
    assert rows("SELECT count(*) FROM ledger_pending") == before


def test_without_the_rules_the_audit_sees_it(vault, keys, monkeypatch):
    """The control of the test above."""
    pointer = put_expired(vault)
    monkeypatch.setattr(listing, "judge", lambda *given: None)
    erase_without_list(vault, pointer)
    vault.checkpoint()
    faults = [str(fault) for fault in vault.audit().faults]
    assert any("list" in fault for fault in faults), faults


@pytest.mark.parametrize("moment", ["pending", "leaf", "erased"])
def test_a_mark_that_was_dropped_is_named(vault, keys, moment):
    """The ledger alone cannot tell: the vault was made to forget for a moment who governs it."""
    vault.checkpoint()
    with vault._core.database.write() as connection:
        state = connection.exec_driver_sql("SELECT state FROM ledger_governance").scalar()
        connection.exec_driver_sql("DELETE FROM ledger_governance")
    pointer = put_expired(vault)
    with vault._core.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO ledger_governance VALUES (1, ?, 0)", (state,))
    if moment == "erased":
        erase_without_list(vault, pointer)
    if moment != "pending":
        vault.checkpoint()
    faults = [str(fault) for fault in vault.audit().faults]
    assert faults == [
        f"record {pointer}: a duty keeps it, but in the ledger it has no governed mark"
    ]


def test_a_list_whose_items_nobody_can_tell_is_not_approved(vault, keys):
    """What an approver can look at are the items; what is signed is their root."""
    pointers = [put_expired(vault) for _ in range(3)]
    with pytest.raises(NotAllowed, match="items"):
        vault.propose(EnactList(bytes(32), 1), keys.officer)
    view = vault.propose_list(pointers[:2], keys.officer)
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_proposed SET pointer = ? WHERE place = 0", (parse_pointer(pointers[2]),)
        )
    with pytest.raises(NotAllowed, match="items"):
        vault.approve(view.proposal.id, keys.archivist)
    assert vault.proposal(view.proposal.id).is_open


def test_items_that_were_changed_erase_nothing(vault, keys, rows):
    pointers = [put_expired(vault) for _ in range(3)]
    enact_list(vault, pointers[:2], keys)
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_listed SET pointer = ? WHERE place = 0", (parse_pointer(pointers[2]),)
        )
    listing._trees.clear()
    with pytest.raises(Damaged, match="root"):
        vault.erase_listed(pointers[2], EXPIRED)
    faults = [str(fault) for fault in vault.audit().faults]
    assert any("list 2" in fault for fault in faults), faults


# Certificates


def test_the_certificate_names_the_list_and_the_keys_that_approved_it(vault, keys):
    pointer = put_expired(vault)
    view = enact_list(vault, [pointer], keys)
    vault.erase_listed(pointer, EXPIRED)
    vault.shred(declared_by="J. de Boer")
    certificate = vault.certificate(pointer).certificate
    certificate.check()
    assert certificate.destruction_list == f"list {view.proposal.sequence} of {vault.origin}"
    approvers = {(one.name, one.role) for one in certificate.approvers}
    assert approvers == {
        (f"key {keys.officer.public.hex()[:16]}", "officer"),
        (f"key {keys.archivist.public.hex()[:16]}", "archivist"),
    }
    assert certificate.decision.code is DecisionCode.D9
    assert len(certificate.erasure_entry.entry) == 32
    assert vault.audit().faults == []
    json.loads(vault.certificate(pointer).format())


# Records that are kept for ever


def test_a_broken_glass_needs_a_list_too(vault, keys, tmp_path):
    pointer = put(vault, b"a decision of the council", category="organisatie")
    paths = vault.make_escrow(("Griffier", "Notaris", "Archivaris"), 2, tmp_path / "shares")
    shares = [Share.read(path) for path in paths[:2]]
    officers = (Approval("A. Vos", "privacy officer"), Approval("B. Smit", "archivist"))
    with pytest.raises(ListNeeded, match="enacted first"):
        vault.break_glass(pointer, Ground.UNLAWFUL, shares, officers)
    assert vault.get(pointer) == b"a decision of the council"
    # Nor does a list alone erase what is kept for ever.
    enact_list(vault, [pointer], keys)
    with pytest.raises(Refused):
        vault.erase_listed(pointer, EXPIRED)
    vault.break_glass(pointer, Ground.UNLAWFUL, shares, officers)
    with pytest.raises(Erased):
        vault.get(pointer)
    vault.shred(declared_by="J. de Boer")
    certificate = vault.certificate(pointer).certificate
    assert {one.name for one in certificate.approvers} == {"A. Vos", "B. Smit"}
    assert certificate.destruction_list is not None
    rejudge(vault)
    assert vault.audit().faults == []


# Restoring


def restored(vault, tmp_path, passphrase, clock, *, ledger):
    """Restore the backup that was made, beside the root keys of today."""
    materials = Materials(
        tmp_path / "data",
        [tmp_path / "keys"],
        FolderSource(tmp_path / "published") if ledger else None,
    )
    vault.close()
    signer, rootkeys = vault.folder / "signer", vault.folder / "keys"
    order = RestoreOrder(tmp_path / "restored", materials, rootkeys, signer)
    restore(order, passphrase, clock, lambda step: None)
    return Vault.open(tmp_path / "restored", passphrase, clock=clock)


def test_a_list_that_was_enacted_since_the_backup_is_replayed(
    vault, keys, tmp_path, passphrase, clock
):
    listed, kept = put_expired(vault, b"listed"), put_expired(vault, b"kept")
    put(vault)
    waiting = vault.propose(Stop(), keys.auditor, expires=5)
    assert waiting.is_enacted
    vault.checkpoint()
    vault.backup_data(tmp_path / "data")
    enact_list(vault, [listed], keys)
    vault.erase_listed(listed, EXPIRED)
    vault.backup_keys(tmp_path / "keys")
    vault.export_ledger(tmp_path / "published")
    state = vault.governance()
    with restored(vault, tmp_path, passphrase, clock, ledger=True) as again:
        assert again.governance() == state
        with pytest.raises(Erased):
            again.get(listed)
        assert again.get(kept) == b"kept"
        with pytest.raises(Stopped):
            put(again)
        assert again.audit().faults == []


def test_what_a_governed_vault_had_is_restored_with_its_proposals(
    vault, keys, tmp_path, passphrase, clock
):
    listed = put_expired(vault, b"listed")
    enact_list(vault, [listed], keys)
    vault.propose_list([listed], keys.officer)
    vault.checkpoint()
    vault.backup_data(tmp_path / "data")
    vault.erase_listed(listed, EXPIRED)
    vault.backup_keys(tmp_path / "keys")
    # The ledger that is brought does not know of the erasure: its entry is written anew, listed.
    with restored(vault, tmp_path, passphrase, clock, ledger=False) as again:
        with pytest.raises(Erased):
            again.get(listed)
        assert [view.is_open for view in again.proposals()] == [False, False, True]
        with again._core.database.read() as connection:
            (entry,) = connection.exec_driver_sql("SELECT entry FROM ledger_pending").scalars()
        assert parse_entry(bytes(entry)).kind is EntryKind.LISTED_ERASURE
        assert again.audit().faults == []
