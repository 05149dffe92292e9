"""Members, quorums, stop and resume in a vault (GO2, GO3, PR4, MT4)."""

import threading
import time

import pytest
from governed import RULES, all_entries, decide, found, is_governance, role_key
from nacl.signing import SigningKey
from sdk_calls import CONSENT, put, steps_of

from ledger.action import (
    RULED,
    ActionKind,
    AddMember,
    EnactList,
    Member,
    RemoveMember,
    Resume,
    Role,
    Rule,
    SetRule,
    Stop,
    action_digest,
)
from ledger.approval import approve
from ledger.entry import EntryKind, encode_governance
from ledger.governance import needed
from ledger.governing import Standing
from ledger.log import append_pending
from ledger.proposals import ProposalOutcome
from vault import (
    ConfigurationError,
    Damaged,
    ImportOrder,
    InvalidInput,
    NewRecord,
    NotAllowed,
    Stopped,
    Vault,
    WrongPassphrase,
    checkpointing,
    writing,
)
from vault.rolekeys import RoleKey, parse_public_key

ADDING = ActionKind.ADD_MEMBER
KEY_PASSPHRASE = "of one member alone"


@pytest.fixture
def keys(vault):
    return found(vault)


def new_member(role=Role.AUDITOR):
    key = role_key()
    return key, AddMember(Member(key.public, bytes(16), role))


# Founding


def test_every_founding_member_approves_and_nobody_decides_alone(vault):
    keys = [role_key() for _ in range(3)]
    named = [(Role(place), key.public, None) for place, key in enumerate(keys, 1)]
    view = vault.found(named, RULES, keys[0])
    assert view.is_open
    assert view.missing == "2 of the 3 founding members"
    assert not vault.governance().founded
    view = vault.approve(view.proposal.id, keys[1])
    with pytest.raises(NotAllowed, match="no member's"):
        vault.approve(view.proposal.id, role_key())
    assert vault.approve(view.proposal.id, keys[1]).is_open
    assert vault.approve(view.proposal.id, keys[2]).is_enacted
    state = vault.governance()
    assert (state.sequence, state.stopped, len(state.members)) == (1, False, 3)
    assert len({member.organisation for member in state.members}) == 1
    with pytest.raises(NotAllowed, match="is founded"):
        vault.found(named, RULES, keys[0])
    assert vault.audit().faults == []


def test_a_founding_that_could_decide_nothing_is_refused(vault):
    key = role_key()
    with pytest.raises(NotAllowed, match="too few members"):
        vault.found([(Role.OPERATOR, key.public, None)], RULES, key)
    with pytest.raises(InvalidInput, match="twice"):
        vault.found([(Role.OPERATOR, key.public, None)] * 2, RULES, key)
    assert vault.proposals() == []


def test_an_ungoverned_vault_stops_and_lists_nothing(vault):
    for action in (Stop(), EnactList(bytes(32), 1)):
        with pytest.raises(NotAllowed):
            vault.propose(action, role_key())


# Quorums (GO2, MT4)


def test_no_single_member_changes_anything_but_a_stop(vault, keys):
    _, joining = new_member()
    actions = (
        joining,
        RemoveMember(keys.auditor.public),
        SetRule(ActionKind.LIST, Rule(2, frozenset({Role.ARCHIVIST, Role.OFFICER}))),
        Resume(),
    )
    before = vault.governance()
    tried = 0
    for action in actions:
        for one in keys.all:
            if isinstance(action, Resume):
                with pytest.raises(NotAllowed, match="not stopped"):
                    vault.propose(action, one)
            else:
                assert vault.propose(action, one).is_open
            tried += 1
    print(f"{tried} single-handed changes, none enacted")
    assert vault.governance() == before
    assert vault.audit().faults == []


def test_a_minority_does_not_change_the_members(vault, keys):
    """Three roles may: two of three is a majority. With five of them, two are a minority."""
    for role in (Role.OPERATOR, Role.OFFICER):
        key, joining = new_member(role)
        deciding = (keys.operator, keys.officer, keys.archivist)
        assert decide(
            vault, joining, key, *deciding[: needed(vault.governance(), ADDING)]
        ).is_enacted
    assert needed(vault.governance(), ActionKind.REMOVE_MEMBER) == 3
    view = decide(vault, RemoveMember(keys.auditor.public), keys.operator, keys.officer)
    assert view.is_open
    assert "1 more of 3" in view.missing
    # The auditor may not decide about it, and the same key does not count twice.
    view = vault.approve(view.proposal.id, keys.auditor)
    view = vault.approve(view.proposal.id, keys.officer)
    assert view.is_open
    assert vault.approve(view.proposal.id, keys.archivist).is_enacted
    assert vault.governance().member(keys.auditor.public) is None


def test_a_new_member_approves_itself_in_and_that_does_not_count(vault, keys):
    key, joining = new_member(Role.OPERATOR)
    view = decide(vault, joining, key, keys.operator)
    assert view.is_open
    assert vault.approve(view.proposal.id, keys.officer).is_enacted
    _, silent = new_member()
    view = decide(vault, silent, keys.operator, keys.officer, keys.archivist)
    assert view.missing == "the new member's own key"


# Replay


def test_an_approval_goes_for_one_state_of_one_ledger_until_it_expires(vault, keys, tmp_path):
    stop = decide(vault, Stop(), keys.auditor)
    assert stop.is_enacted
    used = stop.proposal.approvals[0]
    assert decide(vault, Resume(), keys.operator, keys.officer).is_enacted
    _, joining = new_member()
    view = vault.propose(joining, keys.operator)
    sequence = view.proposal.sequence
    signing, origin = keys.officer._signing, vault.origin
    replayed = {
        "of an earlier action": used,
        "of another action": approve(signing, origin, sequence, Stop(), 10**6),
        "of the state before": approve(signing, origin, sequence - 1, joining, 10**6),
        "of the state behind": approve(signing, origin, sequence + 1, joining, 10**6),
        "of another ledger": approve(signing, "datakluis.example/other", sequence, joining, 10**6),
        "expired": approve(signing, origin, sequence, joining, view.index),
        "of a stranger": approve(role_key()._signing, origin, sequence, joining, 10**6),
    }
    for name, approval in replayed.items():
        with pytest.raises(NotAllowed):
            vault.add_approval(view.proposal.id, approval)
        assert len(vault.proposal(view.proposal.id).signed) == 1, name
    good = approve(signing, origin, sequence, joining, view.index + 1)
    assert vault.add_approval(view.proposal.id, good).missing == "the new member's own key"
    print(f"{len(replayed)} replayed approvals refused")


def test_an_approval_that_expired_while_it_waited_counts_no_more(vault, keys):
    view = vault.propose(RemoveMember(keys.auditor.public), keys.operator, expires=1)
    put(vault)
    view = vault.proposal(view.proposal.id)
    assert [one.counts for one in view.signed] == [False]
    view = vault.approve(view.proposal.id, keys.officer)
    assert view.is_open
    assert "1 more of 2" in view.missing
    view = vault.approve(view.proposal.id, keys.operator)
    assert view.is_enacted


def test_a_proposal_whose_state_was_made_is_stale(vault, keys):
    waiting = vault.propose(RemoveMember(keys.auditor.public), keys.operator)
    assert decide(vault, Stop(), keys.auditor).is_enacted
    stale = vault.proposal(waiting.proposal.id)
    assert stale.proposal.outcome is ProposalOutcome.STALE
    with pytest.raises(NotAllowed, match="stale"):
        vault.approve(waiting.proposal.id, keys.officer)
    with pytest.raises(InvalidInput, match="no proposal 99"):
        vault.approve(99, keys.officer)
    assert vault.audit().faults == []


@pytest.mark.parametrize("expires", [0, -1, 2**63])
def test_an_expiry_is_a_number_of_leaves(vault, keys, expires):
    with pytest.raises(InvalidInput, match="expires"):
        vault.propose(Stop(), keys.auditor, expires=expires)
    assert not vault.governance().stopped


# Stop and resume (GO3)


def test_a_stop_refuses_what_is_new_and_nothing_else(vault, keys, tmp_path, rows):
    first = put(vault, b"before", groups=None)
    second, third = put(vault), put(vault, category="kindpakket", groups={"contact": b"tel"})
    fourth = put(vault, b"without a group", category="kindpakket")
    view = decide(vault, Stop(), keys.auditor)
    assert view.is_enacted
    refused = 0
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"bsn": "1"}\n')
    order = ImportOrder(lines, "nieuwsbrief", "/bsn")
    before = rows("SELECT count(*) FROM vault_record")
    for call in (
        lambda: put(vault),
        lambda: put(vault, category="kindpakket", groups={"contact": b"tel"}),
        lambda: vault.put_many([NewRecord(b"{}", "1")], category="nieuwsbrief"),
        lambda: vault.import_jsonl(order),
    ):
        with pytest.raises(Stopped) as stopped:
            call()
        assert stopped.value.sequence == 2
        assert "2 more of 2 approvals by operator or officer or archivist" in str(stopped.value)
        refused += 1
    assert rows("SELECT count(*) FROM vault_record") == before

    assert vault.rectify(first, b"after") == 2
    assert vault.rectify(third, b"{}", groups={"contact": b"tel 2"}) == 2
    # The right to have incomplete data completed is one of those that go on.
    assert vault.rectify(fourth, b"{}", groups={"contact": b"tel"}) == 2
    assert vault.get(first) == b"after"
    vault.place_hold(third, "a court case")
    vault.erase(second, CONSENT)
    vault.checkpoint()
    evidence = vault.prove(first)
    assert "fail" not in steps_of(evidence, vault.trust()).values()
    assert vault.audit().faults == []
    vault.export_ledger(tmp_path / "ledger")
    print(f"{refused} puts refused; 3 rectified, 1 erased, 1 held, proven, audited, exported")

    view = decide(vault, Resume(), keys.officer)
    assert view.is_open
    with pytest.raises(Stopped):
        put(vault)
    assert vault.approve(view.proposal.id, keys.operator).is_enacted
    assert vault.import_jsonl(order).records == 1
    put(vault)
    assert vault.audit().faults == []


def test_an_import_that_a_stop_broke_off_goes_on_behind_it(vault, keys, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f'{{"bsn": "{n}"}}\n' for n in range(2_500)))
    order = ImportOrder(lines, "nieuwsbrief", "/bsn")
    stopped = []

    def stop_once(done, total):
        if total and not stopped:
            stopped.append(decide(vault, Stop(), keys.auditor))

    with pytest.raises(Stopped):
        vault.import_jsonl(order, on_progress=stop_once)
    decide(vault, Resume(), keys.officer, keys.operator)
    report = vault.import_jsonl(order)
    assert (report.already, report.records) == (1_000, 1_500)
    assert len(set(vault.find("7"))) == 1


def _race(vault, keys, putters=6):
    """Put from several threads, stop meanwhile; return the pointers that were acknowledged."""
    acknowledged, begun, stopped = [], threading.Barrier(putters + 1), threading.Event()

    def putter():
        begun.wait()
        for number in range(200):
            was_stopped = stopped.is_set()
            try:
                pointer = put(vault, str(number).encode())
            except Stopped:
                return
            acknowledged.append((was_stopped, pointer))

    threads = [threading.Thread(target=putter) for _ in range(putters)]
    for thread in threads:
        thread.start()
    begun.wait()
    while len(acknowledged) < 3 * putters:
        time.sleep(0.001)
    decide(vault, Stop(), keys.auditor)
    stopped.set()
    for thread in threads:
        thread.join()
    return acknowledged


def _behind_the_stop(vault):
    entries = all_entries(vault)
    (stop,) = [
        place
        for place, entry in enumerate(entries)
        if is_governance(entry) and entry.group == ActionKind.STOP
    ]
    return [entry for entry in entries[stop:] if entry.kind is EntryKind.VERSION]


def test_nothing_that_is_acknowledged_enters_behind_a_stop(vault, keys):
    acknowledged = _race(vault, keys)
    assert [pointer for was_stopped, pointer in acknowledged if was_stopped] == []
    assert _behind_the_stop(vault) == []
    versions = [entry for entry in all_entries(vault) if entry.kind is EntryKind.VERSION]
    assert len(versions) == len(acknowledged)
    assert vault.audit().faults == []
    print(f"{len(acknowledged)} puts acknowledged before the stop, none behind it")


def test_without_the_check_puts_enter_behind_a_stop(vault, keys, monkeypatch):
    """The control: what the test above would see, and what fsck says of it."""
    monkeypatch.setattr(writing, "standing", lambda connection: Standing(True, False))
    _race(vault, keys)
    assert _behind_the_stop(vault) != []
    assert vault.audit().faults != []


# Role keys and their files


def test_a_role_key_lies_in_a_file_of_its_own(vault, tmp_path, passphrase):
    path = tmp_path / "officer.key"
    key = RoleKey.make(path, KEY_PASSPHRASE)
    assert path.stat().st_mode & 0o777 == 0o600
    opened = vault.role_key(path, KEY_PASSPHRASE)
    assert opened == key
    assert parse_public_key(key.public.hex()) == key.public
    assert bytes(key._signing).hex() not in repr(key) + str(key)
    with pytest.raises(ConfigurationError, match="exists"):
        RoleKey.make(path, KEY_PASSPHRASE)
    with pytest.raises(WrongPassphrase):
        vault.role_key(path, "another")
    with pytest.raises(ConfigurationError):
        vault.role_key(vault.folder / "signer" / "log.key", KEY_PASSPHRASE)
    same = tmp_path / "same.key"
    RoleKey.make(same, passphrase)
    with pytest.raises(InvalidInput, match="passphrase of its own"):
        vault.role_key(same, passphrase)
    with pytest.raises(InvalidInput):
        parse_public_key(key.public.hex().upper())


# Holders (PR4)


def files_that_hold(folder, needle):
    return [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and needle in path.read_bytes()
    ]


def test_who_holds_a_key_is_erased_like_any_record(vault, keys, vault_folder, clock, passphrase):
    name = "Aleida-Vos-canary"
    public = keys.officer.public
    with pytest.raises(ConfigurationError, match=r"\[governance\]"):
        vault.set_holder(public, name)
    vault.close()
    config = vault_folder / "datakluis.toml"
    config.write_text(config.read_text() + '\n[governance]\nholders = "nieuwsbrief"\n')
    with Vault.open(vault_folder, passphrase, clock=clock) as again:
        pointer = again.set_holder(public, name)
        assert again.holder(public) == (pointer, name)
        assert again.holder(keys.auditor.public) is None
        assert again.find(name) == [pointer]
        assert again.audit().faults == []
        again.erase(pointer, CONSENT)
        assert again.holder(public) is None
        assert again.governance().member(public) is not None
        assert again.audit().faults == []
    assert files_that_hold(vault_folder, name.encode()) == []
    # The control: what is no secret is found in those very files.
    assert files_that_hold(vault_folder, public) != []


def test_holders_are_of_a_configured_category(vault_folder, clock, passphrase):
    config = vault_folder / "datakluis.toml"
    plain = config.read_text()
    for table in ('holders = "onbekend"', "holders = 1", 'holder = "nieuwsbrief"'):
        config.write_text(f"{plain}\n[governance]\n{table}\n")
        with pytest.raises(ConfigurationError, match="governance"):
            Vault.open(vault_folder, passphrase, clock=clock)


def test_what_was_changed_after_it_was_shown_is_not_signed(vault, keys):
    """Between the question and the signature stand a person and a passphrase."""
    shown = vault.propose(RemoveMember(keys.auditor.public), keys.operator)
    number = shown.proposal.id
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE ledger_proposal SET parameters = ? WHERE id = ?", (keys.officer.public, number)
        )
    with pytest.raises(NotAllowed, match="not what was shown"):
        vault.approve(number, keys.archivist, shown=shown)
    assert keys.archivist.public not in {one.approval.key for one in vault.proposal(number).signed}
    again = vault.approve(number, keys.archivist, shown=vault.proposal(number))
    assert again.proposal.action == RemoveMember(keys.officer.public)


def test_what_is_signed_is_what_is_shown(vault, keys):
    view = vault.propose(RemoveMember(keys.auditor.public), keys.operator)
    assert view.digest == action_digest(RemoveMember(keys.auditor.public))
    assert [one.member.role for one in view.signed] == [Role.OPERATOR]
    assert set(RULED) == set(ActionKind) - {ActionKind.FOUND}


# Entries that somebody wrote past the vault


def write_forged_stop(vault):
    """Let a pending entry claim that the ledger was stopped, by a key that is no member's."""
    key, sequence = SigningKey.generate(), vault.governance().sequence + 1
    forged = approve(key, vault.origin, sequence, Stop(), 1_000)
    with vault._core.database.write() as connection:
        append_pending(connection, [encode_governance(sequence, Stop(), [forged])])


def test_nothing_is_signed_over_a_governance_entry_that_nobody_decided(vault, keys, monkeypatch):
    put(vault)
    signed = vault.checkpoint()
    write_forged_stop(vault)
    with pytest.raises(Damaged, match="written past the vault"):
        vault.checkpoint()
    assert vault._core.signer.memory.last()[0] == signed
    # The control: without the check it is signed, and only whoever reads the ledger sees it.
    monkeypatch.setattr(checkpointing, "require_decided", lambda connection: None)
    assert vault.checkpoint() != signed
    assert any("no member" in fault.what for fault in vault.audit().faults)
