"""Escrow and the broken glass, end to end in a vault (ST6, OP5, D2b, D5)."""

import dataclasses
import itertools
import os
import shutil
import stat
from pathlib import Path

import pytest
from sdk_calls import CONSENT, counts, put

from policy.assurance import Presence
from policy.certificate_parts import Irrecoverability, Status, Tree
from vault import (
    Approval,
    ConfigurationError,
    Damaged,
    DecisionCode,
    Erased,
    Ground,
    KeyGone,
    KeyLost,
    NewPlace,
    Outcome,
    ProviderDenied,
    ProviderKind,
    Refused,
    TreeNumber,
    Vault,
)
from vault.escrow.attestation import attest
from vault.escrow.errors import (
    AttestationRefused,
    DamagedShare,
    DuplicateShare,
    EscrowRefused,
    OtherEscrow,
    TooFewShares,
)
from vault.escrow.shares import Share, make_shares
from vault.keytree import tree_of

CUSTODIANS = ("Griffier", "Notaris", "Archivaris")
OFFICERS = (Approval("A. Vos", "privacy officer"), Approval("B. Smit", "archivist"))
IN_FILES = NewPlace(ProviderKind.FILE, {})
PERMANENT_KEY = Path("keys", "permanent-1.key")
TABLES = ("vault_escrow", "vault_attestation", "vault_erasure", "vault_generation", "vault_act")


def put_permanent(vault, payload=b"a decision of the council", **more):
    return put(vault, payload, category="organisatie", **more)


@pytest.fixture
def make(vault, tmp_path):
    """Shares out the permanent key, 2 of 3, and reads the files back."""
    folders = (tmp_path / f"shares-{number}" for number in itertools.count())

    def made(threshold=2, custodians=CUSTODIANS, of=vault):
        paths = of.make_escrow(custodians, threshold, next(folders))
        return [Share.read(path) for path in paths]

    return made


@pytest.fixture
def state(rows):
    """Counts what an operation could leave behind."""

    def counted():
        found = {name: rows(f"SELECT count(*) FROM {name}")[0][0] for name in TABLES}
        return counts(rows) | found | {"trees": rows("SELECT * FROM vault_tree")}

    return counted


def certificate(vault, pointer):
    return vault.certificate(pointer).certificate


# Making and drilling (OP5)


def test_each_custodian_gets_a_file_and_the_vault_keeps_no_share(vault, tmp_path, rows):
    folder = tmp_path / "new" / "shares"
    paths = vault.make_escrow(CUSTODIANS, 2, folder)
    assert [path.name for path in paths] == [f"share-1-{number}.json" for number in (1, 2, 3)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    shares = [Share.read(path) for path in paths]
    assert [share.custodian for share in shares] == list(CUSTODIANS)
    ((generation, document),) = rows("SELECT generation, document FROM vault_escrow")
    assert generation == 1
    for share in shares:
        assert share.words.encode() not in document
        assert share.custodian_key.hex().encode() not in document
    # Nor does any file of the vault hold one.
    for path in vault.folder.rglob("*"):
        if path.is_file():
            assert not any(share.words.encode() in path.read_bytes() for share in shares)
    assert rows("SELECT action FROM vault_act") == [("escrow",)]
    assert vault.audit().faults == []


def test_any_m_shares_open_every_permanent_key_and_fewer_open_none(vault, make, state):
    first = put_permanent(vault)
    put_permanent(vault)
    vault.rectify(first, b"corrected")
    put(vault, b"ordinary")
    shares = make()
    tried = 0
    for size in (1, 2, 3):
        for some in itertools.permutations(shares, size):
            before = state()
            if size < 2:
                with pytest.raises(TooFewShares) as refused:
                    vault.drill_escrow(some)
                assert (refused.value.given, refused.value.threshold) == (1, 2)
                assert state() == before
            else:
                assert vault.drill_escrow(some) == 3  # three versions of two records
                before["act"] += 1
                before["vault_act"] += 1
                assert state() == before
            tried += 1
    print(f"{tried} sets of shares")
    assert tried == 3 + 6 + 6


def test_the_drill_needs_no_root_key(vault, make, reopen):
    put_permanent(vault)
    shares = make()
    (vault.folder / PERMANENT_KEY).rename(vault.folder / "elsewhere")
    assert reopen().drill_escrow(shares[1:]) == 1


@pytest.mark.parametrize(
    ("custodians", "threshold", "says"),
    [
        (CUSTODIANS, 1, "no one has the key alone"),
        (CUSTODIANS, 4, "no more than the 3"),
        (("Griffier",), 2, "2 to 16"),
        ([f"c{number}" for number in range(17)], 2, "2 to 16"),
        (("Griffier", "griffier"), 2, "twice"),
        (("Griffier", " Notaris"), 2, "no name"),
    ],
)
def test_an_escrow_that_would_not_protect_is_refused(
    vault, tmp_path, state, custodians, threshold, says
):
    before = state()
    with pytest.raises(EscrowRefused, match=says):
        vault.make_escrow(custodians, threshold, tmp_path / "shares")
    assert state() == before
    assert not (tmp_path / "shares").exists()


def test_what_cannot_be_written_leaves_no_escrow_that_nobody_could_attest(
    vault, tmp_path, state, monkeypatch
):
    before = state()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file cannot be made"):
        vault.make_escrow(CUSTODIANS, 2, tmp_path / "file")
    folder = tmp_path / "shares"
    folder.mkdir()
    (folder / "share-1-2.json").write_text("another's")
    with pytest.raises(ConfigurationError, match=r"share-1-2.json exists already"):
        vault.make_escrow(CUSTODIANS, 2, folder)
    assert state() == before
    written = Share.write

    def fail(share, path):
        if share.number == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written(share, path)

    monkeypatch.setattr(Share, "write", fail)
    (folder / "share-1-2.json").unlink()
    with pytest.raises(OSError, match="No space"):
        vault.make_escrow(CUSTODIANS, 2, folder)
    assert list(folder.iterdir()) == []
    assert state()["vault_escrow"] == 0

    def meet_another(share, path):
        if share.number == 3:
            path.write_text("another's")
        written(share, path)

    monkeypatch.setattr(Share, "write", meet_another)
    with pytest.raises(ConfigurationError, match=r"share-1-3.json exists already"):
        vault.make_escrow(CUSTODIANS, 2, folder)
    assert [path.read_text() for path in folder.iterdir()] == ["another's"]
    assert state()["vault_escrow"] == 0
    monkeypatch.undo()
    (folder / "share-1-3.json").unlink()
    assert len(vault.make_escrow(CUSTODIANS, 2, folder)) == 3


def break_as_ordered(vault, shares, pointer):
    return vault.break_glass(pointer, Ground.LEGAL_DUTY, shares, OFFICERS)


def drill(vault, shares, pointer):
    return vault.drill_escrow(shares)


def recover(vault, shares, pointer):
    return vault.recover_escrow(shares, IN_FILES)


USES = [drill, recover, break_as_ordered]


@pytest.mark.parametrize("use", USES)
def test_shares_that_do_not_belong_together_open_nothing(
    vault, make, state, clock, template_folder, passphrase, tmp_path, use
):
    pointer = put_permanent(vault)
    shares, others = make(), make()
    Vault.create(tmp_path / "stranger", passphrase).close()
    with Vault.open(tmp_path / "stranger", passphrase, clock=clock) as stranger:
        strangers = make(of=stranger)
    # The same tenant, but made from another database.
    shutil.copytree(template_folder, tmp_path / "twin")
    with Vault.open(tmp_path / "twin", passphrase, clock=clock) as twin:
        twins = make(of=twin)
    swapped = dataclasses.replace(shares[1], words=shares[2].words)
    forged = [
        dataclasses.replace(share, escrow_id=shares[0].escrow_id)
        for share in make_shares(
            os.urandom(32), shares[0].tenant, 1, CUSTODIANS, 2, created_at=clock.now()
        )[1]
    ]
    refusals = [
        ([], EscrowRefused),
        (shares[:1], TooFewShares),
        ([shares[0], shares[0]], DuplicateShare),
        ([shares[0], others[1]], OtherEscrow),
        ([shares[0], swapped], DamagedShare),
        (strangers, OtherEscrow),
        (twins, OtherEscrow),
        (forged, Damaged),
    ]
    before = state()
    for given, error in refusals:
        with pytest.raises(error) as refused:
            use(vault, given, pointer)
        assert not any(share.words in str(refused.value) for share in given)
    assert state() == before
    assert vault.get(pointer) == b"a decision of the council"
    print(f"{len(refusals)} refusals")


# Recovering (OP5)


@pytest.mark.parametrize("some", [(0, 1), (2, 0), (0, 1, 2)])
def test_m_shares_bring_back_what_the_lost_root_key_opened(
    vault, vault_folder, make, reopen, passphrase, clock, some
):
    pointers = [put_permanent(vault, f"decision {number}".encode()) for number in range(3)]
    ordinary = put(vault, b"ordinary")
    shares = make()
    vault.close()
    (vault_folder / PERMANENT_KEY).unlink()
    with Vault.open(vault_folder, passphrase, clock=clock) as bereft:
        for pointer in pointers:
            with pytest.raises(KeyGone):
                bereft.get(pointer)
        with pytest.raises(KeyGone):
            put_permanent(bereft)
        assert bereft.get(ordinary) == b"ordinary"
        assert bereft.get(put(bereft, b"more")) == b"more"
        with pytest.raises(TooFewShares):
            bereft.recover_escrow(shares[:1], IN_FILES)
        with pytest.raises(KeyGone):
            bereft.get(pointers[0])
        report = bereft.recover_escrow([shares[number] for number in some], IN_FILES)
        assert report.gone == ((TreeNumber.PERMANENT, 1),)
        assert report.waiting == ()
        for number, pointer in enumerate(pointers):
            assert bereft.get(pointer) == f"decision {number}".encode()
    with Vault.open(vault_folder, passphrase, clock=clock) as again:
        for number, pointer in enumerate(pointers):
            assert again.get(pointer) == f"decision {number}".encode()
        assert again.get(put_permanent(again, b"the next")) == b"the next"
        assert again.get(ordinary) == b"ordinary"
        assert again.audit().faults == []


def test_after_a_recovery_the_old_shares_open_nothing_and_a_new_escrow_does(vault, make):
    pointer = put_permanent(vault)
    old = make()
    (vault.folder / PERMANENT_KEY).unlink()
    assert vault.recover_escrow(old[:2], IN_FILES) is not None
    for use in USES:
        with pytest.raises(OtherEscrow, match=r"of generation 1, the tree is in 2"):
            use(vault, old, pointer)
    new = make()
    assert {share.generation for share in new} == {2}
    assert vault.drill_escrow(new[1:]) == 1
    with pytest.raises(OtherEscrow, match="different escrows"):
        vault.drill_escrow([old[0], new[1]])
    assert vault.get(pointer) == b"a decision of the council"


def test_an_escrow_outlives_no_move(vault, make, softhsm):
    put_permanent(vault)
    old = make()
    vault.move_root_keys(NewPlace(ProviderKind.PKCS11, softhsm), TreeNumber.PERMANENT)
    with pytest.raises(OtherEscrow, match="of generation 1"):
        vault.drill_escrow(old)
    assert vault.drill_escrow(make()[:2]) == 1


def test_a_lost_token_is_left_behind_and_its_key_not_called_gone(vault, make, softhsm, rows):
    pointer = put_permanent(vault)
    vault.move_root_keys(NewPlace(ProviderKind.PKCS11, softhsm), TreeNumber.PERMANENT)
    shares = make()
    Path(softhsm["pin_file"]).write_text("not the PIN\n")
    report = vault.recover_escrow(shares[:2], IN_FILES)
    assert report is not None
    assert not report.gone
    assert len(report.waiting) == 1
    assert vault.get(pointer) == b"a decision of the council"
    found = rows("SELECT number, state FROM vault_generation WHERE tree = 1 ORDER BY number")
    assert found == [(1, "gone"), (2, "closed"), (3, "open")]


# Permanent records without a broken glass (ST6)


def test_a_permanent_record_is_erased_by_no_ordinary_way(vault, rows, state):
    pointer = put_permanent(vault, subject="999990019")
    before = state()
    for ground in set(Ground) - {Ground.LEGAL_DUTY, Ground.UNLAWFUL}:
        with pytest.raises(Refused) as refused:
            vault.erase(pointer, ground)
        assert refused.value.decision.code is DecisionCode.D7
        person = vault.erase_person("999990019", ground)
        assert [one.decision.code for one in person.records.values()] == [DecisionCode.D7]
    for ground in (Ground.LEGAL_DUTY, Ground.UNLAWFUL):
        with pytest.raises(Refused) as refused:
            vault.erase(pointer, ground)
        assert "break-glass" in refused.value.decision.needs
        person = vault.erase_person("999990019", ground)
        assert [one.decision.outcome for one in person.records.values()] == [Outcome.REFUSED]
    assert state() == before
    # Below the decision: the tree itself does not let go of such a slot.
    ((slot,),) = rows("SELECT slot FROM vault_version")
    assert tree_of(slot) is TreeNumber.PERMANENT
    with pytest.raises(KeyLost, match="permanent, not live"), vault._core.change() as change:
        change.edit_of(TreeNumber.PERMANENT).erase([slot])
    assert state() == before
    assert vault.get(pointer) == b"a decision of the council"


# Breaking the glass (D2b, D5)


@pytest.mark.parametrize(
    "approvals",
    [
        (),
        OFFICERS[:1],
        (OFFICERS[0], Approval("a. vos", "archivist")),
        (OFFICERS[0], Approval("A.  Vos", "archivist")),
        (Approval("Andr\u00e9", "officer"), Approval("Andre\u0301", "archivist")),
        (*OFFICERS, OFFICERS[1]),
        (OFFICERS[0], Approval("", "archivist")),
        (OFFICERS[0], Approval("B. Smit", "")),
        (OFFICERS[0], Approval("B. Smit ", "archivist")),
        (OFFICERS[0], Approval("B.\nSmit", "archivist")),
        (OFFICERS[0], Approval("B. Smit\ufffd", "archivist")),
        (OFFICERS[0], Approval("x" * 1001, "archivist")),
    ],
)
def test_two_different_persons_must_have_decided_it(vault, make, state, approvals):
    pointer = put_permanent(vault)
    shares = make()
    before = state()
    with pytest.raises(EscrowRefused):
        vault.break_glass(pointer, Ground.LEGAL_DUTY, shares, approvals)
    assert state() == before
    assert vault.get(pointer) == b"a decision of the council"


@pytest.mark.parametrize(
    ("category", "ground", "hold", "code"),
    [
        ("organisatie", Ground.NOT_NEEDED, False, "D7"),
        ("organisatie", Ground.CONSENT_WITHDRAWN, False, "D7"),
        ("organisatie", Ground.OBJECTION, False, "D7"),
        ("organisatie", Ground.CHILD_SERVICE, False, "D7"),
        ("organisatie", Ground.UNLAWFUL, True, "D3"),
        ("organisatie", Ground.OBJECTION, True, "D3"),
        ("nieuwsbrief", Ground.LEGAL_DUTY, False, "D2b"),
        ("kindpakket", Ground.UNLAWFUL, False, "D5"),
        ("nieuwsbrief", Ground.CONSENT_WITHDRAWN, False, "D10"),
    ],
)
def test_the_glass_is_broken_for_no_other_ground_and_no_other_record(
    vault, make, state, category, ground, hold, code
):
    pointer = put(vault, b"x", category=category)
    shares = make()
    if hold:
        vault.place_hold(pointer, "a hearing on 1 May")
    before = state()
    with pytest.raises(Refused) as refused:
        vault.break_glass(pointer, ground, shares, OFFICERS)
    assert refused.value.decision.code == code
    assert state() == before
    assert vault.get(pointer) == b"x"


@pytest.mark.parametrize(
    ("ground", "hold", "code"),
    [
        (Ground.LEGAL_DUTY, False, "D2b"),
        (Ground.LEGAL_DUTY, True, "D2b"),  # an order to erase comes before a hold
        (Ground.UNLAWFUL, False, "D5"),
    ],
)
def test_the_broken_glass_erases_one_record_with_all_its_versions(
    vault, make, reopen, rows, ground, hold, code
):
    pointer, other = put_permanent(vault), put_permanent(vault, b"kept")
    vault.rectify(pointer, b"corrected")
    if hold:
        vault.place_hold(pointer, "a hearing on 1 May")
    shares = make()
    erasure = vault.break_glass(pointer, ground, shares[1:], OFFICERS)
    assert (erasure.decision.code, erasure.versions, erasure.generation) == (code, 2, 1)
    assert erasure.files_clean
    with pytest.raises(Erased):
        reopen().get(pointer)
    with pytest.raises(Erased):
        vault.break_glass(pointer, ground, shares, OFFICERS)
    assert reopen().get(other) == b"kept"
    assert rows("SELECT count(*) FROM vault_act WHERE action = 'break-glass'") == [(1,)]
    assert vault.audit().faults == []


@pytest.mark.parametrize("declared_first", [True, False])
@pytest.mark.parametrize(("threshold", "total"), [(2, 3), (2, 2), (3, 5)])
def test_the_certificate_is_partial_until_too_few_shares_are_left(
    vault, make, clock, threshold, total, declared_first
):
    pointer, kept = put_permanent(vault), put_permanent(vault, b"kept")
    shares = make(threshold, [f"custodian {number}" for number in range(total)])
    vault.break_glass(pointer, Ground.LEGAL_DUTY, shares[:threshold], OFFICERS)
    report = vault.shred()
    assert report.gone == ((TreeNumber.PERMANENT, 1),)
    assert (report.certificates, report.irrecoverable) == (1, 0)
    needed = total - threshold + 1
    seen = []

    def look():
        stated = certificate(vault, pointer)
        seen.append(stated.status)
        assert [(one.name, one.role) for one in stated.approvers] == [
            ("A. Vos", "privacy officer"),
            ("B. Smit", "archivist"),
        ]
        assert [one.number for one in stated.generations] == [1]
        assert stated.generations[0].presence is Presence.GONE
        return stated

    if declared_first:
        assert vault.declare_no_copies("J. de Boer") == 1
    for share in shares[:needed]:
        stated = look()
        assert stated.status is Status.PARTIAL
        (failure,) = stated.failures
        assert failure.startswith("escrow of generation 1: ")
        assert failure.endswith(f" of {needed} custodians attested that their share is destroyed")
        assert stated.irrecoverable_at is None
        vault.accept_attestation(attest(share, clock.now()))
        vault.accept_attestation(attest(share, clock.now() + 1))  # twice counts once
    if not declared_first:
        stated = look()
        assert (stated.status, stated.irrecoverability) == (
            Status.ERASED,
            Irrecoverability.NOT_DECLARED,
        )
        assert stated.failures == ()
        assert vault.declare_no_copies("J. de Boer") == 1
    stated = look()
    assert (stated.status, stated.irrecoverability) == (
        Status.IRRECOVERABLE,
        Irrecoverability.CONFIRMED,
    )
    assert stated.irrecoverable_at is not None
    assert stated.generations[0].declaration.name == "J. de Boer"
    assert (stated.decision.code, stated.ground.name) == ("D2b", "legal-duty")
    assert stated.retention.result == "1.1.1"
    assert vault.shred_status().waiting == ()
    assert vault.get(kept) == b"kept"
    assert vault.audit().faults == []
    print(f"{threshold} of {total}: {needed} attestations, {', '.join(seen)}")


def test_the_root_key_must_be_gone_as_well(vault, make, clock):
    """Attestations alone complete nothing: while the epoch is open there is no certificate."""
    pointer = put_permanent(vault)
    shares = make()
    vault.break_glass(pointer, Ground.UNLAWFUL, shares, OFFICERS)
    for share in shares:
        vault.accept_attestation(attest(share, clock.now()))
    assert vault.declare_no_copies("J. de Boer") == 0
    (waiting,) = vault.shred_status().waiting
    assert "still open" in waiting.reason
    vault.shred()
    assert certificate(vault, pointer).status is Status.ERASED
    vault.declare_no_copies("J. de Boer")
    assert certificate(vault, pointer).status is Status.IRRECOVERABLE


def test_every_escrow_of_the_records_life_counts(vault, make, clock):
    """A record that was born before a recovery lay under the keys of two escrows."""
    pointer = put_permanent(vault)
    first = make()
    (vault.folder / PERMANENT_KEY).unlink()
    vault.recover_escrow(first, IN_FILES)
    late = put_permanent(vault, b"of the second generation")
    second, third = make(), make()
    vault.break_glass(pointer, Ground.LEGAL_DUTY, second, OFFICERS)
    vault.break_glass(late, Ground.LEGAL_DUTY, third, OFFICERS)
    vault.shred()
    vault.declare_no_copies("J. de Boer")
    generations = {
        one: [g.number for g in certificate(vault, one).generations if g.tree is Tree.PERMANENT]
        for one in (pointer, late)
    }
    assert generations == {pointer: [1, 2], late: [2]}
    assert [len(certificate(vault, one).failures) for one in (pointer, late)] == [3, 2]
    seen = []
    for escrow in (third, second, first):
        for share in escrow[:2]:
            seen.append([certificate(vault, one).status for one in (pointer, late)])
            vault.accept_attestation(attest(share, clock.now()))
    seen.append([certificate(vault, one).status for one in (pointer, late)])
    # The late one never lay under the first escrow.
    assert seen == [
        *[[Status.PARTIAL, Status.PARTIAL]] * 4,
        *[[Status.PARTIAL, Status.IRRECOVERABLE]] * 2,
        [Status.IRRECOVERABLE, Status.IRRECOVERABLE],
    ]


# Attestations


def test_an_attestation_that_would_not_count_is_not_stored_and_blocks_nothing(
    vault, make, clock, state, tmp_path
):
    pointer = put_permanent(vault)
    shares, at = make(), clock.now()
    vault.break_glass(pointer, Ground.LEGAL_DUTY, shares, OFFICERS)
    good = attest(shares[0], at)
    # Each is signed with the custodian's own key; the last is not.
    refused = [
        attest(dataclasses.replace(shares[0], number=2), at),
        attest(dataclasses.replace(shares[0], number=16), at),
        attest(dataclasses.replace(shares[0], custodian="Notaris"), at),
        attest(dataclasses.replace(shares[0], generation=2), at),
        attest(dataclasses.replace(shares[0], tenant=bytes(16)), at),
        attest(shares[0], at - 1),
        dataclasses.replace(good, signature=attest(shares[1], at).signature),
    ]
    before = state()
    for one in refused:
        with pytest.raises(AttestationRefused):
            vault.accept_attestation(one)
    with pytest.raises(OtherEscrow):
        vault.accept_attestation(attest(dataclasses.replace(shares[0], escrow_id=bytes(32)), at))
    assert state() == before
    vault.accept_attestation(good)
    assert vault.shred().certificates == 1
    assert certificate(vault, pointer).failures[0].startswith("escrow of generation 1: 1 of 2")
    print(f"{len(refused) + 1} refused")


# A token that does not let go of a permanent root key (ST6)


@pytest.fixture
def objects(softhsm):
    """Lists the files of the objects in every SoftHSM token of this process."""
    tokens = Path(os.environ["SOFTHSM2_CONF"]).parent / "tokens"
    return lambda: set(tokens.glob("*/*.object")) - set(tokens.glob("*/token.object"))


def test_an_administrator_is_denied_twice_and_the_shred_waits_for_the_token(
    vault, make, clock, softhsm, objects, reopen
):
    import pkcs11

    before = objects()
    vault.move_root_keys(NewPlace(ProviderKind.PKCS11, softhsm), TreeNumber.PERMANENT)
    (in_token,) = objects() - before
    pointer = put_permanent(vault)
    ordinary = put(vault)
    shares = make()
    vault.erase(ordinary, CONSENT)
    # Denied at the API, and at the provider, with the vault's own login.
    with pytest.raises(Refused):
        vault.erase(pointer, Ground.NOT_NEEDED)
    (reference,) = [
        key.generation.reference for key in vault.root_keys() if key.provider is ProviderKind.PKCS11
    ]
    with vault._core.database.read() as connection:
        row = connection.exec_driver_sql(
            "SELECT provider_id FROM vault_generation WHERE reference = ?", (reference,)
        ).scalar_one()
        provider = vault._core.providers.get(connection, row)
    with pytest.raises(ProviderDenied, match="not destroyable"):
        provider.destroy(reference)
    assert vault.get(pointer) == b"a decision of the council"

    vault.break_glass(pointer, Ground.LEGAL_DUTY, shares, OFFICERS)
    for share in shares:
        vault.accept_attestation(attest(share, clock.now()))
    report = vault.shred()
    assert report.gone == ((TreeNumber.ORDINARY, 1),)
    ((tree, number, answer),) = report.waiting
    assert (tree, number) == (TreeNumber.PERMANENT, 2)
    assert answer == f"token {softhsm['token']} does not destroy {reference}: it is not destroyable"
    stated = certificate(vault, pointer)
    assert (stated.status, stated.irrecoverability) == (Status.ERASED, Irrecoverability.WAITING)
    assert stated.generations[-1].response == answer
    assert any(answer in one.reason for one in vault.shred_status().waiting)
    again = vault.shred()
    assert (again.gone, again.waiting, again.certificates) == ((), report.waiting, 0)
    with pytest.raises(Erased):
        vault.get(pointer)

    # Only whoever has the token's storage in hand removes it.
    in_token.unlink()
    pkcs11.lib(softhsm["module"]).reinitialize()
    # Its subject was indexed under an ordinary root key, which lay in a file.
    report = vault.shred(declared_by="J. de Boer")
    assert report.gone == ((TreeNumber.PERMANENT, 2),)
    assert report.waiting == ()
    # The ordinary record that was erased before gets its own as well.
    assert (report.certificates, report.irrecoverable) == (2, 2)
    stated = certificate(vault, pointer)
    assert stated.status is Status.IRRECOVERABLE
    assert [(one.tree, one.number) for one in stated.generations] == [
        (Tree.ORDINARY, 1),
        (Tree.PERMANENT, 2),
    ]
    assert stated.generations[-1].response.endswith(f"no object {reference}")
    assert vault.get(put_permanent(vault, b"the next")) == b"the next"
    assert vault.audit().faults == []
