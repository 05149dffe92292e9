"""Certificates of destruction: what they say when, what makes them say more (ER2, ER8, ST12)."""

import dataclasses
import datetime as dt
import json
from pathlib import Path

import jsonschema
import pytest
from kms_fake import DAY_SECONDS
from sdk_calls import CONSENT, UNKNOWN, put

import policy
from anchor.evidence import Evidence
from anchor.steps import Step, StepState
from anchor.verify import verify
from ledger.entry import EntryKind, parse_entry
from ledger.pointer import parse_pointer
from policy.assurance import AssuranceClass, Presence, ProviderKind
from policy.certificate import SignedCertificate
from policy.certificate_parts import Irrecoverability, Status, Tree
from vault import (
    Approval,
    ConfigurationError,
    DecisionCode,
    Erased,
    Ground,
    Incomplete,
    InvalidInput,
    NewPlace,
    NewRecord,
    NotFound,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
    TreeNumber,
    certifying,
    destroying,
    keynode,
)
from vault.certifying import COPIES_STATEMENT, Issued, certify
from vault.config import MAX_ACTOR_BYTES, checked_actor
from vault.escrow.attestation import attest
from vault.escrow.shares import Share
from vault.records import load_record
from vault.rootkeys.file import FileRootKeys
from vault.rootkeys.provider import KeyReport

DAY = dt.date(2026, 3, 2)
FIRST_KEY = Path("keys", "root-1.key")
NOT_DECLARED = (Status.ERASED, Irrecoverability.NOT_DECLARED)
WAITING = (Status.ERASED, Irrecoverability.WAITING)
SCHEDULED = (Status.ERASED, Irrecoverability.SCHEDULED)
FAILED = (Status.PARTIAL, Irrecoverability.FAILED)
CONFIRMED = (Status.IRRECOVERABLE, Irrecoverability.CONFIRMED)


def noon(days):
    """Noon of a day after the first one."""
    day = DAY + dt.timedelta(days=days)
    return dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC)


@pytest.fixture
def at(clock):
    """Sets the vault's clock to noon of a day after the first one."""

    def set_to(days):
        clock.day = DAY + dt.timedelta(days=days)
        return clock

    return set_to


@pytest.fixture
def issued(rows):
    """Every certificate of a record's erasure as (number, status, irrecoverability)."""

    def found(pointer):
        return rows(
            "SELECT c.number, c.status, c.irrecoverability FROM vault_certificate c"
            " JOIN vault_erasure e ON e.id = c.erasure_id JOIN vault_record r ON r.id = e.record_id"
            " WHERE r.pointer = ? ORDER BY c.id",
            (parse_pointer(pointer),),
        )

    return found


def certificate(vault, pointer):
    return vault.certificate(pointer).certificate


def outcome(vault, pointer):
    stated = certificate(vault, pointer)
    assert (stated.irrecoverable_at is None) == (stated.status is not Status.IRRECOVERABLE)
    return stated.status, stated.irrecoverability


def erased(vault, payload=b"{}", ground=CONSENT, **more):
    """Erase a new record of a subject who keeps another one, so that it shares no key."""
    put(vault, b"kept")
    pointer = put(vault, payload)
    vault.erase(pointer, ground, **more)
    return pointer


def write(vault, statement, parameters=()):
    with vault._core.database.write() as connection:
        assert connection.exec_driver_sql(statement, parameters).rowcount == 1


def certify_again(vault):
    return certify(vault._core)


def test_a_declaration_completes_an_erasure_and_is_the_last_word(vault, at, issued):
    pointer = erased(vault, b"one")
    at(1)
    report = vault.shred()
    assert (report.certificates, report.irrecoverable) == (1, 0)
    first = certificate(vault, pointer)
    assert (first.status, first.irrecoverability) == NOT_DECLARED
    assert (first.erased_at, first.issued_at, first.irrecoverable_at) == (noon(0), noon(1), None)
    (generation,) = first.generations
    assert (generation.tree, generation.number) == (Tree.ORDINARY, 1)
    assert (generation.provider, generation.reference) == (ProviderKind.FILE, "root-1.key")
    assert generation.assurance.class_ is AssuranceClass.DECLARED
    assert (generation.presence, generation.gone_at) == (Presence.GONE, noon(1))
    assert (generation.response, generation.asked_at) == (
        "file root-1.key is not there",
        noon(1),
    )
    assert generation.declaration is None
    at(2)
    assert vault.shred().certificates == 0
    assert certificate(vault, pointer) == first

    at(3)
    assert vault.declare_no_copies("J. de Boer") == 1
    second = certificate(vault, pointer)
    assert (second.status, second.irrecoverability) == CONFIRMED
    assert (second.erased_at, second.issued_at) == (noon(0), noon(3))
    assert second.irrecoverable_at == noon(3)
    declaration = second.generations[0].declaration
    assert (declaration.name, declaration.at) == ("J. de Boer", noon(3))
    assert declaration.statement == COPIES_STATEMENT
    assert dataclasses.replace(second.generations[0], declaration=None) == generation
    assert second.serial != first.serial

    at(4)
    assert vault.declare_no_copies("K. Smit") == 0
    assert certify_again(vault) == Issued(0, 0)
    erased(vault, b"of the second generation")
    assert vault.shred(declared_by="K. Smit").certificates == 1
    assert certificate(vault, pointer) == second
    assert issued(pointer) == [(1, *NOT_DECLARED), (2, *CONFIRMED)]
    assert vault.audit().faults == []


def test_a_declaration_with_the_shred_makes_one_certificate(vault, at, issued):
    pointer = erased(vault)
    at(1)
    report = vault.shred(declared_by="J. de Boer")
    assert (report.certificates, report.irrecoverable, report.declared) == (1, 1, 1)
    assert issued(pointer) == [(1, *CONFIRMED)]
    assert certificate(vault, pointer).irrecoverable_at == noon(1)


def test_what_it_says_of_the_request_and_its_answer(vault, rows):
    pointer = put(vault, b"first")
    vault.rectify(pointer, b"second")
    vault.erase(pointer, Ground.OBJECTION, actor="A. Jansen")
    vault.shred()
    signed = vault.certificate(pointer)
    stated = signed.certificate
    assert (stated.origin, stated.pointer, stated.versions) == (vault.origin, pointer, 2)
    assert (stated.ground.name, stated.ground.article) == (
        Ground.OBJECTION,
        "Art. 17(1)(c) GDPR",
    )
    assert (stated.decision.code, stated.executor) == (DecisionCode.D10, "A. Jansen")
    assert stated.decision.rule_version == vault.decide(put(vault), CONSENT).rule_version
    # No duty kept the record, no list destroyed it, and nobody had to approve.
    assert (stated.retention, stated.destruction_list, stated.approvers) == (None, None, ())
    assert (stated.field_groups, stated.failures, stated.exclusions) == ((), (), ())
    assert stated.backup_horizon is None
    assert stated.systems == (f"vault {vault.origin}", f"ledger {vault.origin}")
    # ST12: the schema, and the entry that it names.
    schema = Path(policy.__file__).parent / "schemas" / "certificate-1.schema.json"
    jsonschema.validate(json.loads(signed.format()), json.loads(schema.read_text("utf-8")))
    entry = parse_entry(stated.erasure_entry.entry)
    assert (entry.kind, entry.pointer, entry.version) == (
        EntryKind.ERASURE,
        parse_pointer(pointer),
        2,
    )
    assert stated.erasure_entry.index == vault.erasure_index(pointer)
    # Nothing of the subject and nothing of the content.
    assert not any(word in signed.format() for word in (b"999990019", b"first", b'second"'))
    ((document,),) = rows("SELECT document FROM vault_certificate")
    assert bytes(document) == signed.format()


def test_each_certificate_is_an_entry_of_the_ledger_and_is_proven(vault, at, rows):
    pointer = erased(vault)
    vault.shred()
    signed = [vault.certificate(pointer)]
    at(1)
    vault.declare_no_copies("J. de Boer")
    signed.append(vault.certificate(pointer))
    vault.anchor()
    trust = vault.trust()
    leaves = []
    for number, one in enumerate(signed, 1):
        evidence = vault.prove_certificate(one)
        assert (evidence.entry.kind, evidence.entry.version) == (EntryKind.CERTIFICATE, number)
        assert evidence.entry.pointer == parse_pointer(pointer)
        assert evidence.entry.body == one.digest()
        report = verify(Evidence.parse(evidence.format()), trust)
        found = {step.step: step.state for step in report.steps}
        assert found[Step.INCLUSION] is found[Step.LOG_SIGNATURE] is StepState.PASSED
        assert found[Step.LOCAL_ANCHOR] is StepState.PASSED
        leaves.append(evidence.groups[0].proof.index)
    assert certificate(vault, pointer).erasure_entry.index < leaves[0] < leaves[1]
    # One byte of another certificate, and the ledger does not hold it.
    stranger = dataclasses.replace(signed[0].certificate, serial=bytes(16))
    with pytest.raises(NotFound, match=r"^the ledger does not hold this certificate"):
        vault.prove_certificate(stranger.sign(vault._core.keyring.organisation.sign))


def test_the_organisation_signed_it_and_nobody_changed_it(vault):
    pointer = erased(vault)
    vault.shred()
    signed = vault.certificate(pointer)
    key = vault._core.keyring.organisation.certificate.public_key()
    assert signed.verify_signature(key)
    other = dataclasses.replace(signed.certificate, executor="somebody else")
    assert not SignedCertificate(other, signed.signature).verify_signature(key)


def test_without_an_erasure_or_a_shred_there_is_none(vault):
    living = put(vault)
    for pointer, why in (
        (UNKNOWN, "no record has the pointer"),
        (living, "has no certificate of destruction: it was not erased"),
    ):
        with pytest.raises(NotFound, match=why):
            vault.certificate(pointer)
    gone = erased(vault)
    # Nothing is certified while the epoch is open, whoever asks for it.
    assert vault.declare_no_copies("J. de Boer") == 0
    assert certify_again(vault) == Issued(0, 0)
    with pytest.raises(NotFound, match=r"run 'kluis shred' once it was erased$"):
        vault.certificate(gone)
    vault.shred()
    assert outcome(vault, gone) == NOT_DECLARED
    with pytest.raises(NotFound, match=r"it was not erased$"):
        vault.certificate(living)


def test_a_second_erasure_is_answered_and_changes_no_certificate(vault, at, rows):
    pointer = erased(vault)
    vault.shred()
    before = vault.certificate(pointer)
    at(1)
    with pytest.raises(Erased) as gone:
        vault.erase(pointer, Ground.LEGAL_DUTY)
    assert gone.value.decision.code is DecisionCode.D2
    assert gone.value.leaf == before.certificate.erasure_entry.index
    assert vault.shred().certificates == 0
    assert vault.certificate(pointer) == before
    assert rows("SELECT count(*) FROM vault_erasure") == [(1,)]


def test_evidence_that_left_with_the_payload_is_named(vault):
    put(vault, b"kept")
    pointer, silent = put(vault, b"one"), put(vault, b"two")
    for disclose in (True, False, True, True):
        vault.prove(pointer, disclose=disclose)
    vault.prove(silent)
    for one in (pointer, silent):
        vault.erase(one, CONSENT)
    vault.shred()
    (exclusion,) = certificate(vault, pointer).exclusions
    assert exclusion.startswith("3 evidence files with the payload left the vault before; ")
    assert certificate(vault, silent).exclusions == ()
    # It does not make the destruction less than it is.
    vault.declare_no_copies("J. de Boer")
    assert outcome(vault, pointer) == outcome(vault, silent) == CONFIRMED


def test_every_name_that_may_erase_can_be_certified(vault):
    names = [
        *(
            chr(code)
            for code in (*range(36), *range(126, 164), 0x2028, 0x202E, 0xAD, 0xFEFF, 0xFFFD, 0xFE0F)
        ),
        *('"', "\\", 'O\'Brien "x" \\u0000', "Ж", "é", "e\u0301", "🗝", "👩‍💻", "\u00a0piet"),
        *(" piet", "piet ", "piet  jan", "", "x" * MAX_ACTOR_BYTES, "x" * (MAX_ACTOR_BYTES + 1)),
        *("é" * (MAX_ACTOR_BYTES // 2), "a\nb", "a\ud800", "مرحبا", "{}", "null"),
    ]
    put(vault, b"kept")
    executors, refused = {}, 0
    for name in names:
        pointer = put(vault)
        try:
            vault.erase(pointer, CONSENT, actor=name)
            executors[pointer] = name
        except InvalidInput:
            refused += 1
            assert vault.get(pointer) == b"{}"
            with pytest.raises(InvalidInput):
                checked_actor(name)
            with pytest.raises(InvalidInput):
                vault.shred(declared_by=name)
    assert vault.shred(declared_by="J. de Boer").irrecoverable == len(executors)
    assert {one: certificate(vault, one).executor for one in executors} == executors
    print(f"{len(executors)} names on certificates, {refused} refused")
    assert refused > 60


@pytest.mark.parametrize(
    ("stored", "stated"),
    [
        (" piet", "' piet'"),
        ("a\nb", r"'a\nb'"),
        ("\u202e", r"'\u202e'"),
        ("", "''"),
        ("x\n" * 600, "'" + r"x\n" * 333),
    ],
)
def test_a_name_that_an_earlier_version_stored_blocks_nobody(vault, stored, stated):
    other, pointer = erased(vault), erased(vault, actor="piet")
    write(vault, "UPDATE vault_act SET actor = ? WHERE actor = 'piet'", (stored,))
    assert vault.shred(declared_by="J. de Boer").irrecoverable == 2
    assert outcome(vault, other) == outcome(vault, pointer) == CONFIRMED
    assert certificate(vault, pointer).executor == stated
    assert vault.audit().faults == []


# Generations: all from birth to erasure.


def test_all_generations_from_birth_to_erasure_are_listed(vault, at, kms, issued):
    put(vault, b"kept")
    old = put(vault, b"born in the first")
    erased(vault)
    vault.shred()  # 1 goes
    young = put(vault, b"born in the second")
    erased(vault)
    at(1)
    vault.shred()  # 2 goes
    kms.now = noon(2).timestamp()
    at(2)
    with kms.as_role(kms.vault):
        vault.move_root_keys(NewPlace(ProviderKind.AWSKMS, kms.options()))  # 3 goes
        newest = put(vault, b"born in the fourth")
        vault.rectify(old, b"again")
        for pointer in (old, young, newest):
            vault.erase(pointer, CONSENT)
        at(3)
        kms.now = noon(3).timestamp()
        report = vault.shred()
        assert [one[:2] for one in report.waiting] == [(TreeNumber.ORDINARY, 4)]
        listed = {
            pointer: [(one.number, one.provider) for one in certificate(vault, pointer).generations]
            for pointer in (old, young, newest)
        }
        files = [(number, ProviderKind.FILE) for number in (1, 2, 3)]
        at_kms = (4, ProviderKind.AWSKMS)
        assert listed == {old: [*files, at_kms], young: [*files[1:], at_kms], newest: [at_kms]}
        stated = certificate(vault, old)
        assert [one.gone_at for one in stated.generations] == [
            *(noon(0), noon(1), noon(2)),
            noon(10),
        ]
        assert [one.presence for one in stated.generations] == [
            *[Presence.GONE] * 3,
            Presence.SCHEDULED,
        ]
        # What is declared early stands there, and completes nothing yet.
        assert vault.declare_no_copies("J. de Boer") == 3
        assert outcome(vault, old) == outcome(vault, newest) == SCHEDULED
        kms.advance(7)
        at(10)
        assert vault.shred().irrecoverable == 3
    for pointer in (old, young, newest):
        assert issued(pointer) == [(1, *SCHEDULED), (2, *CONFIRMED)]
        stated = certificate(vault, pointer)
        assert stated.irrecoverable_at == noon(10)
        for one in stated.generations:
            assert (one.declaration is None) == (one.provider is ProviderKind.AWSKMS)
            assert one.presence is Presence.GONE
    assert vault.audit().faults == []


def test_a_scheduled_destruction_is_dated_and_becomes_irrecoverable_once_it_is_done(
    vault, at, kms, issued
):
    kms.now = noon(0).timestamp()
    with kms.as_role(kms.vault):
        vault.move_root_keys(NewPlace(ProviderKind.AWSKMS, kms.options(window_days="9")))
        pointer = erased(vault)
        vault.shred()
        stated = certificate(vault, pointer)
        assert (stated.status, stated.irrecoverability) == SCHEDULED
        (generation,) = stated.generations
        assert (generation.number, generation.presence) == (2, Presence.SCHEDULED)
        assert generation.gone_at == noon(9)
        assert generation.response.startswith("KeyState PendingDeletion")
        assert generation.assurance.class_ is AssuranceClass.MANAGED
        # Somebody gets the key back: it is scheduled anew, and the certificate gives the new day.
        at(8)
        kms.now = noon(8).timestamp()
        (key,) = (one for one in kms.keys.values() if one.arn == generation.reference)
        key.state, key.deletion = "Enabled", None
        assert vault.shred().certificates == 1
        assert outcome(vault, pointer) == SCHEDULED
        assert certificate(vault, pointer).generations[0].gone_at == noon(17)
        # On the day before, nothing is new; after it, the provider is asked and says so.
        at(16)
        kms.now = noon(16).timestamp()
        assert vault.shred().certificates == 0
        at(18)
        kms.now = noon(16).timestamp() + DAY_SECONDS
        report = vault.shred()
    assert (report.gone, report.waiting) == (((TreeNumber.ORDINARY, 2),), ())
    assert issued(pointer) == [(1, *SCHEDULED), (2, *SCHEDULED), (3, *CONFIRMED)]
    stated = certificate(vault, pointer)
    assert stated.irrecoverable_at == stated.generations[0].gone_at == noon(18)
    assert stated.generations[0].declaration is None
    assert stated.generations[0].response == "NotFoundException"


# A row that calls a generation gone is no proof of it (P2).


def call_gone(vault, number=1):
    write(
        vault,
        "UPDATE vault_generation SET state = 'gone', wrapped = NULL, response = 'gone',"
        " asked_at = 1772445600, destroyed_at = 1772445600 WHERE tree = 0 AND number = ?",
        (number,),
    )


def test_a_changed_row_does_not_make_a_key_gone_that_is_there(vault, vault_folder, issued):
    pointer = erased(vault)
    write(vault, "UPDATE vault_generation SET state = 'gone' WHERE tree = 0 AND number = 1")
    vault.shred(declared_by="J. de Boer")
    assert (vault_folder / FIRST_KEY).exists()
    assert outcome(vault, pointer) == WAITING
    (generation,) = certificate(vault, pointer).generations
    assert (generation.presence, generation.gone_at) == (Presence.PRESENT, None)
    assert generation.response == "file root-1.key is there"
    assert generation.asked_at == noon(0)
    assert generation.declaration is None
    assert certify_again(vault) == Issued(0, 0)
    assert issued(pointer) == [(1, *WAITING)]


def test_a_key_that_came_back_is_seen_by_what_is_certified_from_then_on(
    vault, vault_folder, at, issued
):
    put(vault, b"kept")
    first, second = put(vault, b"one"), put(vault, b"two")
    copy = (vault_folder / FIRST_KEY).read_bytes()
    vault.erase(first, CONSENT)
    vault.shred(declared_by="J. de Boer")
    (vault_folder / FIRST_KEY).write_bytes(copy)
    at(1)
    vault.erase(second, CONSENT)
    vault.shred(declared_by="J. de Boer")
    assert outcome(vault, second) == WAITING
    found = [one.presence for one in certificate(vault, second).generations]
    assert found == [Presence.PRESENT, Presence.GONE]
    assert issued(first) == [(1, *CONFIRMED)]  # what was said was true then, and stays
    at(2)
    (vault_folder / FIRST_KEY).unlink()
    assert vault.shred().irrecoverable == 1
    assert issued(second) == [(1, *WAITING), (2, *CONFIRMED)]


def test_a_key_that_a_service_keeps_is_asked_for_too(vault, kms, issued):
    kms.now = noon(0).timestamp()
    with kms.as_role(kms.vault):
        vault.move_root_keys(NewPlace(ProviderKind.AWSKMS, kms.options()))
        pointer = erased(vault)
        call_gone(vault, 2)
        vault.shred()
        assert outcome(vault, pointer) == WAITING
        (generation,) = certificate(vault, pointer).generations
        assert generation.response == "KeyState Enabled"
        with kms.as_role(kms.administrator):
            kms.keys[generation.reference.rsplit("/", 1)[1]].state = "PendingDeletion"
            kms.keys[generation.reference.rsplit("/", 1)[1]].deletion = noon(5).timestamp()
        certify_again(vault)
        assert outcome(vault, pointer) == SCHEDULED
        assert certificate(vault, pointer).generations[0].gone_at == noon(5)
        kms.vault.denied.add("DescribeKey")
        asked = len(kms.requests)
        certify_again(vault)
        assert len(kms.requests) == asked + 1
    # A service that says nothing leaves what the row says: it may be dismantled by now.
    assert issued(pointer) == [(1, *WAITING), (2, *SCHEDULED), (3, *CONFIRMED)]


def test_the_key_under_which_the_index_named_the_person_is_asked_for_too(
    vault, vault_folder, tmp_path, at
):
    """A record that was kept for ever was found by its subject through the ordinary tree."""
    pointer = put(vault, category="organisatie")
    paths = vault.make_escrow(("Griffier", "Notaris"), 2, tmp_path / "shares")
    shares = [Share.read(path) for path in paths]
    officers = (Approval("A. Vos", "privacy officer"), Approval("B. Smit", "archivist"))
    vault.break_glass(pointer, Ground.LEGAL_DUTY, shares, officers)
    copy = (vault_folder / FIRST_KEY).read_bytes()
    vault.shred()
    (vault_folder / FIRST_KEY).write_bytes(copy)
    at(1)
    vault.accept_attestation(attest(shares[0], vault._core.clock.now()))
    vault.declare_no_copies("J. de Boer")
    found = {one.reference: one.presence for one in certificate(vault, pointer).generations}
    assert found == {"root-1.key": Presence.PRESENT, "permanent-1.key": Presence.GONE}
    assert outcome(vault, pointer) == WAITING
    (vault_folder / FIRST_KEY).unlink()
    assert vault.shred().irrecoverable == 1
    assert outcome(vault, pointer) == CONFIRMED


@pytest.mark.parametrize(
    "error",
    [ProviderUnreachable, ProviderDenied, ProviderFailed, ConfigurationError, InvalidInput],
)
def test_a_provider_that_is_dismantled_takes_nothing_back(vault, monkeypatch, error):
    pointer = erased(vault)
    vault.shred()

    def dismantled(self, reference):
        raise error("it does not answer")

    monkeypatch.setattr(FileRootKeys, "report", dismantled)
    vault.declare_no_copies("J. de Boer")
    assert outcome(vault, pointer) == CONFIRMED
    assert certificate(vault, pointer).generations[0].response == "file root-1.key is not there"


def test_providers_are_asked_once_in_a_run_and_only_where_there_is_something_to_say(
    vault, monkeypatch, issued
):
    put(vault, b"kept")
    pointers = [put(vault, b"%d" % number) for number in range(7)]
    asked, report = [], FileRootKeys.report

    def counted(self, reference):
        asked.append(reference)
        return report(self, reference)

    for pointer in pointers[:4]:
        vault.erase(pointer, CONSENT)
    vault.shred()
    for pointer in pointers[4:]:
        vault.erase(pointer, CONSENT)
    vault.shred()
    monkeypatch.setattr(FileRootKeys, "report", counted)
    monkeypatch.setattr(certifying, "_BATCH", 2)
    vault.declare_no_copies("J. de Boer")
    assert asked == ["root-1.key", "root-2.key"]
    assert {len(issued(pointer)) for pointer in pointers} == {2}
    certify_again(vault)
    assert len(asked) == 2

    def unreachable(self, reference):
        asked.append(reference)
        raise ProviderUnreachable("it does not answer")

    erased(vault)
    vault.shred()
    vault.erase(put(vault), CONSENT)
    vault.shred()
    asked.clear()
    monkeypatch.setattr(FileRootKeys, "report", unreachable)
    vault.declare_no_copies("J. de Boer")
    assert len(asked) == 1  # whoever does not answer is not waited for a second time


def test_an_answer_is_only_used_for_what_is_stored_as_gone(vault, monkeypatch):
    """Certificates say of the others what the shred was told, as it stands in their rows."""
    pointer = erased(vault)
    there = KeyReport(Presence.PRESENT, "held back")
    monkeypatch.setattr(FileRootKeys, "destroy", lambda self, reference: there)
    report = vault.shred(declared_by="J. de Boer")
    assert report.waiting == ((TreeNumber.ORDINARY, 1, "held back"),)
    assert outcome(vault, pointer) == WAITING
    assert certificate(vault, pointer).generations[0].response == "held back"
    monkeypatch.undo()
    assert vault.shred(declared_by="J. de Boer").irrecoverable == 1


# A part that fails (ER2)


def keep_bodies(vault, table="vault_version"):
    """Storage that does not let a ciphertext go; returns how to mend it."""
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER keep AFTER UPDATE OF body ON {table} WHEN NEW.body IS NULL"
            f" BEGIN UPDATE {table} SET body = OLD.body WHERE rowid = NEW.rowid; END"
        )

    def mend(which=""):
        with vault._core.database.write() as connection:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS keep")
            connection.exec_driver_sql(
                f"UPDATE {table} SET body = NULL WHERE erased_generation IS NOT NULL{which}"
            )

    return mend


def test_a_body_that_stayed_makes_it_partial_until_it_is_mended(vault, at, issued):
    put(vault, b"kept")
    whole, part = put(vault, b"one"), put(vault, b"two")
    vault.rectify(part, b"three")
    vault.erase(whole, CONSENT)
    mend = keep_bodies(vault)
    with pytest.raises(Incomplete, match=f"^record {part}: body of version 1; body of version 2 "):
        vault.erase(part, CONSENT)
    vault.shred(declared_by="J. de Boer")
    assert outcome(vault, whole) == CONFIRMED  # one that failed keeps nobody else waiting
    stated = certificate(vault, part)
    assert (stated.status, stated.irrecoverability) == FAILED
    assert stated.failures == ("not destroyed in the vault: body of version 1; body of version 2",)
    assert (stated.irrecoverable_at, stated.generations[0].presence) == (None, Presence.GONE)
    assert vault.audit().faults != []
    at(1)
    mend(" AND number = 1")
    assert vault.shred().certificates == 1
    assert certificate(vault, part).failures == ("not destroyed in the vault: body of version 2",)
    assert vault.shred().certificates == 0
    at(2)
    mend()
    assert vault.shred().irrecoverable == 1
    stated = certificate(vault, part)
    assert (stated.status, stated.irrecoverability) == CONFIRMED
    assert (stated.erased_at, stated.irrecoverable_at) == (noon(0), noon(2))
    assert issued(part) == [(1, *FAILED), (2, *FAILED), (3, *CONFIRMED)]
    assert vault.audit().faults == []


def test_a_key_that_stayed_makes_it_partial_until_it_is_mended(vault, at, issued, monkeypatch):
    put(vault, b"kept")
    whole, part = put(vault, b"one"), put(vault, b"two")
    vault.erase(whole, CONSENT)

    def only_the_state(node, position):
        node[position] = keynode.SlotState.ERASED

    with monkeypatch.context() as patch:
        patch.setattr(keynode, "zero_slot", only_the_state)
        with pytest.raises(Incomplete, match=f"^record {part}: key of version 1 was not destroyed"):
            vault.erase(part, CONSENT)
    vault.shred()
    assert outcome(vault, whole) == NOT_DECLARED
    stated = certificate(vault, part)
    assert stated.failures == ("not destroyed in the vault: key of version 1",)
    # A part that failed goes before what is left to be declared.
    assert (stated.status, stated.irrecoverability) == (
        Status.PARTIAL,
        Irrecoverability.NOT_DECLARED,
    )
    at(1)
    vault.declare_no_copies("J. de Boer")
    assert outcome(vault, whole) == CONFIRMED
    assert outcome(vault, part) == FAILED
    with vault._core.change() as change:
        slot = keys_of(change.connection, part)[0]
        leaf = change.edit._open((0, slot >> 8))
        keynode.zero_slot(leaf, slot & 255)
    assert certify_again(vault) == Issued(1, 1)
    assert issued(part) == [
        *((1, Status.PARTIAL, Irrecoverability.NOT_DECLARED), (2, *FAILED)),
        (3, *CONFIRMED),
    ]


def keys_of(connection, pointer):
    record = load_record(connection, parse_pointer(pointer))
    return [key.slot for key in destroying.key_slots(connection, record.id)]


def test_a_key_that_stayed_live_stops_the_shred(vault, vault_folder, monkeypatch):
    """What nobody owns any more and still opens is no erasure: nothing is destroyed on its word."""
    pointer = erased(vault)
    monkeypatch.setattr(keynode, "zero_slot", lambda node, position: None)
    stuck = put(vault)
    with pytest.raises(Incomplete):
        vault.erase(stuck, CONSENT)
    with pytest.raises(Incomplete, match="nothing was destroyed"):
        vault.shred(declared_by="J. de Boer")
    assert (vault_folder / FIRST_KEY).exists()
    certify_again(vault)
    assert outcome(vault, pointer) == WAITING
    assert outcome(vault, stuck) == (Status.PARTIAL, Irrecoverability.WAITING)
    monkeypatch.undo()
    with vault._core.change() as change:
        change.edit.erase(keys_of(change.connection, stuck))
    assert vault.shred(declared_by="J. de Boer").irrecoverable == 2


def test_each_attestation_is_on_the_next_certificate(vault, tmp_path, at, issued):
    pointer = put(vault, category="organisatie")
    paths = vault.make_escrow(("Griffier", "Notaris", "Archivaris"), 2, tmp_path / "shares")
    shares = [Share.read(path) for path in paths]
    officers = (Approval("A. Vos", "privacy officer"), Approval("B. Smit", "archivist"))
    vault.break_glass(pointer, Ground.LEGAL_DUTY, shares[:2], officers)
    vault.shred(declared_by="J. de Boer")
    said = [certificate(vault, pointer).failures]
    for day, share in enumerate(shares[:2], 1):
        at(day)
        for _ in range(2):  # once more is no news
            vault.accept_attestation(attest(share, vault._core.clock.now()))
        said.append(certificate(vault, pointer).failures)
        assert certificate(vault, pointer).issued_at == noon(day)
    words = "escrow of generation 1: {} of 2 custodians attested that their share is destroyed"
    assert said == [(words.format(0),), (words.format(1),), ()]
    assert issued(pointer) == [(1, *FAILED), (2, *FAILED), (3, *CONFIRMED)]
    stated = certificate(vault, pointer)
    assert (stated.retention.result, stated.decision.code) == ("1.1.1", DecisionCode.D2B)
    assert stated.irrecoverable_at == noon(2)


# A run of `certify`


def test_a_run_that_fails_has_issued_nothing_and_the_next_one_has_number_1(
    vault, monkeypatch, rows, issued
):
    pointer = erased(vault)
    pending = "SELECT count(*) FROM ledger_pending"

    def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(certifying, "append_pending", fail)
        with pytest.raises(ZeroDivisionError):
            vault.shred(declared_by="J. de Boer")
    assert issued(pointer) == []
    assert rows(pending) == [(0,)]
    with pytest.raises(NotFound):
        vault.certificate(pointer)
    assert vault.shred().irrecoverable == 1
    assert issued(pointer) == [(1, *CONFIRMED)]
    assert rows(pending) == [(1,)]
    assert vault.audit().faults == []


@pytest.mark.parametrize(("batch", "erasures"), [(1, 5), (4, 12), (6, 12)])
def test_every_erasure_is_certified_once_whatever_the_batches(
    vault, monkeypatch, rows, batch, erasures
):
    monkeypatch.setattr(certifying, "_BATCH", batch)
    subject = "999990020"
    vault.put_many([NewRecord(b"x", subject)] * erasures, category="nieuwsbrief")
    pointers = vault.erase_person(subject, CONSENT).records
    report = vault.shred()
    assert (report.certificates, report.irrecoverable) == (erasures, 0)
    vault.declare_no_copies("J. de Boer")
    assert rows("SELECT number, status, count(*) FROM vault_certificate GROUP BY 1, 2") == [
        (1, "erased", erasures),
        (2, "irrecoverable", erasures),
    ]
    signed = [vault.certificate(pointer).certificate for pointer in pointers]
    assert [one.pointer for one in signed] == list(pointers)
    assert len({one.serial for one in signed}) == erasures
    assert len({one.erasure_entry.index for one in signed}) == erasures
    print(f"{erasures} erasures in batches of {batch}: {2 * erasures} certificates")
