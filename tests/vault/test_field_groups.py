"""Field groups: erased alone while the core of the record stays (ER5, D2 to D10, ER1, ER2, ER9)."""

import datetime as dt
import shutil

import pytest
from guarantees_scan import all_files
from hypothesis import given, settings
from hypothesis import strategies as st
from sdk_calls import CONSENT, UNKNOWN, counts, put, steps_of

from anchor.evidence import Evidence
from anchor.steps import Step, StepState, Verdict
from anchor.verify import verify
from commands.checking import CertificateStep, check_certificate
from ledger.entry import EntryKind
from ledger.pointer import parse_pointer
from policy.certificate_parts import Irrecoverability, Status
from vault import (
    Damaged,
    DecisionCode,
    Erased,
    Ground,
    Incomplete,
    InvalidInput,
    KeyGone,
    NewRecord,
    NotFound,
    PurposeRefused,
    Refused,
    Vault,
    keynode,
    listing,
)
from vault.cipher import derive_record_keys
from vault.keytree import tree_of
from vault.preparing import MAX_PAYLOAD_BYTES, Preparer
from vault.rootkeys.provider import TreeNumber

GROUPS = ("contact", "foto")
LATER = dt.date(2026, 1, 1)
# Of a new vault, the organisation's key is valid from today.
TOMORROW = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
CONTACT = b"tel. 06-12345678, kanarie@example.org"


def configure(folder, old, new):
    path = folder / "datakluis.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def give_groups(folder):
    """Two groups for what is kept for a term or not at all, one for what is kept for ever."""
    configure(folder, 'groups = ["contact"]', 'groups = ["contact", "foto"]')
    nieuwsbrief = "[categories.nieuwsbrief]         # by consent: "
    configure(folder, nieuwsbrief, '[categories.nieuwsbrief]\ngroups = ["contact", "foto"]\n# ')
    configure(folder, 'resultaat = "1.1.1"\n', 'resultaat = "1.1.1"\ngroups = ["contact"]\n')


@pytest.fixture
def vault_folder(template_folder, tmp_path):
    folder = shutil.copytree(template_folder, tmp_path / "vault")
    give_groups(folder)
    return folder


def put_grouped(vault, payload=b"the decision", category="kindpakket", **more):
    more = {"groups": {"contact": CONTACT, "foto": b"a picture"}, "brondatum": LATER} | more
    return put(vault, payload, category=category, **more)


def parts(rows, what="name, number"):
    return rows(f"SELECT {what} FROM vault_part ORDER BY record_id, number, field_group")


def keys_of(vault, pointer):
    """The slot keys and blobs of a record's versions and parts, by (version, group)."""
    core = vault._core
    with core.database.read() as connection:
        read_key = core.read_key(connection)
        found = connection.exec_driver_sql(
            "SELECT v.number, 0, v.slot, v.body FROM vault_version v JOIN vault_record r"
            " ON r.id = v.record_id WHERE r.pointer = ? UNION ALL"
            " SELECT p.number, p.field_group, p.slot, p.body FROM vault_part p JOIN vault_record r"
            " ON r.id = p.record_id WHERE r.pointer = ?",
            (parse_pointer(pointer),) * 2,
        ).all()
        return {
            (number, group): (read_key(slot), bytes(body)) for number, group, slot, body in found
        }


def test_a_record_and_its_groups_are_given_back_byte_for_byte(vault, rows):
    pointer = put_grouped(vault, groups={"foto": bytes(range(256)), "contact": b""})
    assert vault.get(pointer) == b"the decision"
    assert vault.get(pointer, "foto") == bytes(range(256))
    assert vault.get(pointer, group="contact") == b""
    assert parts(rows, "name, number, field_group") == [("contact", 1, 1), ("foto", 1, 2)]
    assert [version.groups for version in vault.history(pointer)] == [GROUPS]
    assert vault.audit().faults == []
    assert vault.audit().counts["field groups"] == 2


def test_a_record_without_groups_has_none(vault, rows):
    pointer = put(vault, category="kindpakket")
    for call in (
        lambda: vault.get(pointer, "contact"),
        lambda: vault.decide(pointer, CONSENT, group="contact"),
        lambda: vault.erase_group(pointer, "contact", CONSENT),
        lambda: vault.prove(pointer, group="contact"),
    ):
        with pytest.raises(NotFound, match=r"came without this field group$"):
            call()
    assert parts(rows) == []
    assert vault.history(pointer)[0].groups == ()


def test_a_stream_of_records_takes_groups(vault, rows):
    given_groups = [None, {"contact": b"1"}, {}, {"foto": b"3", "contact": b"4"}]
    records = [NewRecord(b"%d" % n, "s", groups=one) for n, one in enumerate(given_groups)]
    pointers = []
    vault.put_many(records, category="kindpakket", on_batch=pointers.extend)
    assert parts(rows) == [("contact", 1), ("contact", 1), ("foto", 1)]
    assert [vault.get(pointer) for pointer in pointers] == [b"0", b"1", b"2", b"3"]
    assert [vault.get(pointers[1], "contact"), vault.get(pointers[3], "foto")] == [b"1", b"3"]
    assert vault.audit().faults == []


@pytest.mark.parametrize("name", ["Contact", "adres", ""])
def test_only_the_groups_of_the_category_are_taken(vault, rows, name):
    pointer = put_grouped(vault)
    before = counts(rows)
    message = "category kindpakket has no such field group; it has: contact, foto$"
    for call in (
        lambda: put_grouped(vault, groups={name: b"x"}),
        lambda: vault.rectify(pointer, b"y", groups={name: b"x"}),
        lambda: vault.get(pointer, name),
        lambda: vault.erase_group(pointer, name, CONSENT),
        lambda: vault.decide(pointer, CONSENT, group=name),
        lambda: vault.prove(pointer, group=name),
        lambda: vault.erasure_index(pointer, name),
    ):
        with pytest.raises(InvalidInput, match=message):
            call()
    with pytest.raises(InvalidInput, match=r"category wmo has no such field group; it has none$"):
        put(vault, category="wmo", groups={"contact": b"x"})
    assert counts(rows) == before


def test_a_group_is_bounded_like_a_payload(vault, rows):
    before = counts(rows)
    with pytest.raises(InvalidInput, match="at most"):
        put_grouped(vault, groups={"contact": bytes(MAX_PAYLOAD_BYTES + 1)})
    assert counts(rows) == before


def test_a_record_to_store_does_not_show_its_groups():
    assert "kanarie" not in repr(NewRecord(b"x", "s", groups={"contact": CONTACT}))


def test_a_correction_has_the_groups_that_it_is_given_and_leaves_the_others(vault, rows):
    pointer = put_grouped(vault)
    assert vault.rectify(pointer, b"second", groups={"contact": b"new number"}) == 2
    assert vault.rectify(pointer, b"third") == 3
    assert vault.get(pointer) == b"third"
    assert vault.get(pointer, "contact") == b"new number"
    assert vault.get(pointer, "foto") == b"a picture"
    assert [version.groups for version in vault.history(pointer)] == [GROUPS, ("contact",), ()]
    assert parts(rows) == [("contact", 1), ("foto", 1), ("contact", 2)]
    assert vault.audit().faults == []


def test_a_group_is_erased_and_its_record_stays(vault, reopen, rows):
    """ER5: erase optional group; core decrypts; the evidence of the core still verifies."""
    pointer = put_grouped(vault)
    vault.rectify(pointer, b"second", groups={"contact": b"new number"})
    vault.anchor()
    trust = vault.trust()
    before = vault.prove(pointer, disclose=True)
    other_process = reopen()
    assert other_process.get(pointer, "contact") == b"new number"  # its key is in the cache now
    assert vault.decide(pointer, CONSENT).code is DecisionCode.D8  # the record itself must stay

    erasure = vault.erase_group(pointer, "contact", CONSENT)
    assert (erasure.pointer, erasure.versions, erasure.generation) == (pointer, 2, 1)
    assert erasure.decision.code is DecisionCode.D10
    assert erasure.erased_at == vault._core.clock.now()
    for one in (vault, other_process, reopen()):
        assert one.get(pointer) == b"second"
        assert one.get(pointer, "foto") == b"a picture"
        with pytest.raises(Erased, match=f"^field group contact of record {pointer} was") as gone:
            one.get(pointer, "contact")
        assert (gone.value.pointer, gone.value.group) == (pointer, "contact")
        assert gone.value.erased_at == vault._core.clock.now()
        assert one.find("999990019") == [pointer]
    assert [version.groups for version in vault.history(pointer)] == [("foto",), ()]
    assert [version.erased for version in vault.history(pointer)] == [False, False]
    assert vault.decide(pointer, CONSENT).code is DecisionCode.D8

    assert verify(before, trust).verdict is Verdict.VERIFIED
    after = vault.prove(pointer, disclose=True)
    assert after.entry == before.entry
    assert steps_of(after, trust)[Step.OPENING] is StepState.PASSED
    assert vault.audit().faults == []
    assert rows("SELECT count(*) FROM vault_part WHERE body IS NULL") == [(2,)]


def test_evidence_of_a_group_verifies_and_opens_no_more_once_it_is_erased(vault):
    """ER9, for a group."""
    pointer = put_grouped(vault)
    vault.rectify(pointer, b"second", groups={"contact": b"new number"})
    vault.rectify(pointer, b"third")
    trust = vault.trust()
    newest = vault.prove(pointer, group="contact", disclose=True)
    assert (newest.entry.group, newest.entry.version) == (1, 2)
    assert newest.opening.payload == b"new number"
    assert steps_of(newest, trust)[Step.OPENING] is StepState.PASSED
    first = vault.prove(pointer, version=1, group="foto", disclose=True)
    assert (first.entry.group, first.opening.payload) == (2, b"a picture")
    for version, message in ((3, "came without this field group$"), (4, "has no version 4$")):
        with pytest.raises(NotFound, match=message):
            vault.prove(pointer, version=version, group="contact")

    vault.erase_group(pointer, "contact", CONSENT)
    after = vault.prove(pointer, version=2, group="contact")
    assert after.entry == newest.entry
    assert verify(Evidence.parse(after.format()), trust).verdict is Verdict.VERIFIED
    with pytest.raises(Erased, match=r"^field group contact"):
        vault.prove(pointer, group="contact", disclose=True)
    vault.prove(pointer, group="foto", disclose=True)
    vault.prove(pointer, version=2, disclose=True)
    assert vault.audit().faults == []


# A request, what was done before, and the row that answers it. None of these records may be erased.
REQUESTS = {
    "D10": (CONSENT, None, "D10"),
    "D10 for a child's service": (Ground.CHILD_SERVICE, None, "D10"),
    "D3 a hold": (CONSENT, "hold", "D3"),
    "D2b a legal duty to erase": (Ground.LEGAL_DUTY, "hold", "D2b"),
    "D5 unlawful": (Ground.UNLAWFUL, None, "D5"),
    "D2 erased before": (CONSENT, "erased", "D2"),
}


@pytest.mark.parametrize("category", ["kindpakket", "organisatie"])
@pytest.mark.parametrize(("ground", "before", "code"), REQUESTS.values(), ids=REQUESTS)
def test_each_request_for_a_group_gets_one_code(vault, rows, category, ground, before, code):
    pointer = put_grouped(vault, category=category, groups={"contact": CONTACT})
    if before == "erased":
        vault.erase_group(pointer, "contact", CONSENT)
    elif before == "hold":
        vault.place_hold(pointer, "a hearing on 1 May")
    decision = vault.decide(pointer, ground, group="contact")
    assert decision.code == code
    state = counts(rows)
    if code == "D10":
        assert vault.erase_group(pointer, "contact", ground).decision == decision
        assert vault.get(pointer) == b"the decision"
        assert vault.audit().faults == []
        return
    with pytest.raises(Erased if code == "D2" else Refused) as answer:
        vault.erase_group(pointer, "contact", ground)
    assert answer.value.decision == decision
    if code != "D2":
        assert vault.get(pointer, "contact") == CONTACT
        assert counts(rows) == state
    assert vault.audit().faults == []


def test_a_group_that_is_gone_answers_with_its_entry(vault):
    pointer = put_grouped(vault)
    assert vault.erasure_index(pointer, "contact") is None
    vault.erase_group(pointer, "contact", CONSENT)
    with pytest.raises(Erased, match=r"pending in the ledger$"):
        vault.get(pointer, "contact")
    with pytest.raises(Erased) as gone:  # asked again (D2), the entry is made a leaf first
        vault.erase_group(pointer, "contact", CONSENT)
    assert gone.value.group == "contact"
    assert gone.value.leaf == vault.erasure_index(pointer, "contact")
    assert vault.erasure_index(pointer) is None
    assert vault.erasure_index(pointer, "foto") is None
    with pytest.raises(Erased, match=f"entry {gone.value.leaf} of the ledger$"):
        vault.get(pointer, "contact")


def test_a_group_that_was_erased_takes_no_new_content(vault, rows):
    pointer = put_grouped(vault)
    vault.erase_group(pointer, "contact", CONSENT)
    before = counts(rows)
    with pytest.raises(Erased, match=r"^field group contact"):
        vault.rectify(pointer, b"second", groups={"foto": b"x", "contact": b"again"})
    assert counts(rows) == before
    assert vault.rectify(pointer, b"second", groups={"foto": b"x"}) == 2
    assert vault.get(pointer, "foto") == b"x"


def test_a_purpose_that_the_category_refuses_opens_no_group(vault_folder, vault, passphrase):
    pointer = put_grouped(vault)
    configure(
        vault_folder,
        "[purposes.inzage]",
        '[purposes.controle]\ndescription = "Other"\n\n[purposes.inzage]',
    )
    with Vault.open(vault_folder, passphrase) as other:
        for call in (other.get, other.prove):
            with pytest.raises(PurposeRefused):
                call(pointer, group="contact", purpose="controle")
        with pytest.raises(PurposeRefused):
            other.erase_group(pointer, "contact", CONSENT, purpose="controle")
        with pytest.raises(PurposeRefused):
            other.decide(pointer, CONSENT, group="contact", purpose="controle")


def test_there_is_no_group_without_a_record(vault):
    for call in (
        lambda: vault.get(UNKNOWN, "contact"),
        lambda: vault.erase_group(UNKNOWN, "contact", CONSENT),
    ):
        with pytest.raises(NotFound, match=r"^no record has the pointer"):
            call()


def test_nothing_of_an_erased_group_is_left_in_the_files(vault, vault_folder):
    """ER1: every file is searched for the content, each ciphertext and each key."""
    pointer = put_grouped(vault, b"decision that stays")
    vault.rectify(pointer, b"second", groups={"contact": b"kanarie, second number"})
    stored = keys_of(vault, pointer)
    vault.erase_group(pointer, "contact", CONSENT)
    vault.close()
    everything = b"".join(all_files(vault_folder).values())
    assert b"kanarie" not in everything
    for (_, group), (key, body) in stored.items():
        assert key not in everything
        # The control: what lives is found by the same search.
        assert (body in everything) == (group != 1)
        assert (body[13:45] in everything) == (group != 1)


def shared_keys(original):
    """Breaks the vault on purpose: a record's groups are sealed under the key of its core."""

    def prepare(self, record, today, randomness):
        one = original(self, record, today, randomness)
        cipher = self._core.cipher
        return one._replace(
            parts=tuple(
                part._replace(
                    body=cipher.seal(
                        one.keys, one.pointer, 1, record.groups[part.name], bytes(12),
                        group=part.group,
                    )
                )
                for part in one.parts
            )
        )  # fmt: skip

    return prepare


@pytest.mark.parametrize("broken", [False, True], ids=["sound", "control"])
def test_no_living_key_opens_a_copy_of_an_erased_group(vault, rows, monkeypatch, broken):
    """A data backup keeps the blob. The control shows what would open it, if keys were shared."""
    if broken:
        monkeypatch.setattr(Preparer, "_prepare", shared_keys(Preparer._prepare))
    pointer = put_grouped(vault)
    ((copy,),) = rows("SELECT body FROM vault_part WHERE name = 'contact'")
    vault.erase_group(pointer, "contact", CONSENT)
    core = vault._core
    opened = []
    with core.database.read() as connection:
        read_key = core.read_key(connection)
        for (slot,) in connection.exec_driver_sql(
            "SELECT slot FROM vault_version UNION SELECT slot FROM vault_part WHERE body NOT NULL"
            " UNION SELECT slot FROM vault_bucket"
        ):
            keys = derive_record_keys(read_key(slot))
            for group in range(16):
                try:
                    opened.append(
                        core.cipher.open(keys, parse_pointer(pointer), 1, copy, group=group)
                    )
                except Damaged:
                    continue
    assert opened == ([CONTACT] if broken else [])


def test_a_blob_opens_as_its_own_group_only(vault, rows):
    pointer = put_grouped(vault)
    core = vault._core
    blobs = {
        group: (derive_record_keys(key), body)
        for (_, group), (key, body) in keys_of(vault, pointer).items()
    }
    tried = 0
    for own, (keys, body) in blobs.items():
        for group in range(16):
            tried += 1
            if group == own:
                assert core.cipher.open(keys, parse_pointer(pointer), 1, body, group=group)
                continue
            with pytest.raises(Damaged):
                core.cipher.open(keys, parse_pointer(pointer), 1, body, group=group)
    assert tried == 3 * 16


def test_groups_of_permanent_records_lie_in_the_permanent_tree(vault, rows):
    pointer = put_grouped(vault, category="organisatie", groups={"contact": CONTACT})
    slots = rows("SELECT slot FROM vault_version") + parts(rows, "slot")
    assert {tree_of(slot) for (slot,) in slots} == {TreeNumber.PERMANENT}
    assert vault.decide(pointer, CONSENT).code is DecisionCode.D7
    assert vault.erase_group(pointer, "contact", CONSENT).generation == 1
    assert vault.get(pointer) == b"the decision"
    assert vault.audit().faults == []


def certificate_of(vault, pointer, group):
    signed = vault.certificate(pointer, group=group)
    proof = vault.prove_certificate(signed)
    report = check_certificate(signed, vault.trust(), proof)
    assert report.verdict is Verdict.VERIFIED, report
    assert {step.step: step.state for step in report.steps}[
        CertificateStep.ERASURE_ENTRY
    ] is StepState.PASSED
    assert proof.entry.kind is EntryKind.CERTIFICATE
    return signed.certificate, proof.entry


def test_a_shred_certifies_the_group_by_its_name(vault, clock):
    clock.day = TOMORROW
    pointer = put_grouped(vault)
    vault.rectify(pointer, b"second", groups={"contact": b"new number"})
    vault.rectify(pointer, b"third")
    vault.prove(pointer, version=1, group="contact", disclose=True)
    vault.prove(pointer, version=1, group="foto", disclose=True)
    with pytest.raises(NotFound, match="no certificate"):
        vault.certificate(pointer, group="contact")
    vault.erase_group(pointer, "contact", CONSENT)
    assert vault.shred().certificates == 1
    certificate, entry = certificate_of(vault, pointer, "contact")
    assert certificate.field_groups == ("contact",)
    assert certificate.pointer == pointer
    assert certificate.versions == 2  # the last version that had it
    assert certificate.decision.code is DecisionCode.D10
    assert certificate.retention is None
    assert certificate.status is Status.ERASED
    assert [one[:7] for one in certificate.exclusions] == ["1 evide"]  # of this group, not of foto
    assert (entry.group, entry.version) == (1, 1)
    with pytest.raises(NotFound, match="it was not erased"):
        vault.certificate(pointer)
    for group in ("foto", "adres"):
        with pytest.raises(NotFound):
            vault.certificate(pointer, group=group)

    vault.declare_no_copies("A. Beheerder")
    vault.rectify(pointer, b"fourth")
    certificate, entry = certificate_of(vault, pointer, "contact")
    assert certificate.status is Status.IRRECOVERABLE
    assert certificate.irrecoverability is Irrecoverability.CONFIRMED
    assert certificate.versions == 2
    assert entry.version == 2
    assert vault.get(pointer, "foto") == b"a picture"
    assert vault.audit().faults == []
    assert vault.audit().counts["certificates"] == 2


def test_a_copy_from_before_does_not_open_the_group_after_a_shred(
    vault, vault_folder, tmp_path, passphrase
):
    """P2, for a group: the copy opens until the root key is gone, which is the control."""
    pointer = put_grouped(vault)
    copy = tmp_path / "copy"
    shutil.copytree(vault_folder, copy)
    vault.erase_group(pointer, "contact", CONSENT)
    with Vault.open(copy, passphrase) as old:
        assert old.get(pointer, "contact") == CONTACT
    vault.shred()
    shutil.rmtree(copy / "keys")
    shutil.copytree(vault_folder / "keys", copy / "keys")
    with pytest.raises(KeyGone), Vault.open(copy, passphrase) as old:
        old.get(pointer, "contact")
    assert vault.get(pointer) == b"the decision"


def test_an_erasure_of_the_record_takes_the_groups_that_are_left(vault, rows, clock):
    clock.day = TOMORROW
    pointer = put_grouped(vault, category="nieuwsbrief")
    vault.erase_group(pointer, "contact", CONSENT)
    vault.shred()
    vault.rectify(pointer, b"second", groups={"foto": b"another picture"})
    assert vault.erase(pointer, CONSENT).versions == 2
    for call in (
        lambda: vault.get(pointer, "foto"),
        lambda: vault.erase_group(pointer, "foto", CONSENT),
        lambda: vault.prove(pointer, group="foto", disclose=True),
    ):
        with pytest.raises(Erased, match=f"^record {pointer} was erased"):
            call()
    assert vault.decide(pointer, CONSENT, group="foto").code is DecisionCode.D2
    with pytest.raises(NotFound, match="had no such field group"):
        vault.decide(pointer, CONSENT, group="adres")
    assert verify(vault.prove(pointer, group="foto"), vault.trust()).verdict is (Verdict.VERIFIED)
    assert vault.audit().faults == []
    vault.shred()
    whole, _ = certificate_of(vault, pointer, None)
    part, _ = certificate_of(vault, pointer, "contact")
    assert (whole.field_groups, whole.versions, whole.failures) == ((), 2, ())
    assert [one.number for one in whole.generations] == [1, 2]
    assert (part.field_groups, [one.number for one in part.generations]) == (("contact",), [1])
    with pytest.raises(NotFound):
        vault.certificate(pointer, group="foto")
    assert vault.audit().faults == []
    bodies = parts(rows, "body, erased_generation, name")
    assert bodies == [(None, 1, "contact"), (None, 2, "foto"), (None, 2, "foto")]


@pytest.mark.parametrize("left", ["key", "body"])
def test_a_group_of_which_something_is_left_is_incomplete_and_not_done(
    vault, rows, monkeypatch, left
):
    """ER2: it is read back from the stored bytes."""
    pointer = put_grouped(vault)
    if left == "key":

        def only_the_state(node, position):
            node[position] = keynode.SlotState.ERASED

        monkeypatch.setattr(keynode, "zero_slot", only_the_state)
    else:
        append = listing.append_pending

        def restore_a_body(connection, entries):
            append(connection, entries)
            connection.exec_driver_sql("UPDATE vault_part SET body = x'00' WHERE field_group = 1")

        monkeypatch.setattr(listing, "append_pending", restore_a_body)
    message = f"^record {pointer}: {left} of version 1, contact was not destroyed; run"
    with pytest.raises(Incomplete, match=message):
        vault.erase_group(pointer, "contact", CONSENT)
    assert vault.audit().faults != []
    with pytest.raises(Erased):
        vault.get(pointer, "contact")
    vault.shred()
    certificate = vault.certificate(pointer, group="contact").certificate
    assert certificate.status is Status.PARTIAL
    assert certificate.failures == (f"not destroyed in the vault: {left} of version 1, contact",)


def test_an_erasure_that_fails_halfway_changes_nothing(vault, rows, monkeypatch):
    pointer = put_grouped(vault)
    before = counts(rows), parts(rows, "body"), rows("SELECT * FROM vault_tree")

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(listing, "append_pending", fail)
    with pytest.raises(ZeroDivisionError):
        vault.erase_group(pointer, "contact", CONSENT)
    assert (counts(rows), parts(rows, "body"), rows("SELECT * FROM vault_tree")) == before
    assert vault.get(pointer, "contact") == CONTACT


@pytest.mark.parametrize("names", ['["foto", "contact"]', '["telefoon", "foto"]'])
def test_groups_that_changed_places_in_the_configuration_are_noticed(
    vault, vault_folder, passphrase, names
):
    pointer = put_grouped(vault)
    configure(vault_folder, 'groups = ["contact", "foto"]', f"groups = {names}")
    first = names.split('"')[1]
    with Vault.open(vault_folder, passphrase) as opened:
        for call in (
            lambda: opened.get(pointer, first),
            lambda: opened.erase_group(pointer, first, CONSENT),
        ):
            with pytest.raises(Damaged, match="the order of groups in the configuration"):
                call()
        faults = [str(fault) for fault in opened.audit().faults]
    name = f"record {pointer}: version 1, field group 1 has another name than the configuration"
    assert any(fault.startswith(name) for fault in faults)


def test_a_group_that_is_added_at_the_end_harms_nothing(vault, vault_folder, passphrase):
    pointer = put_grouped(vault)
    configure(vault_folder, '["contact", "foto"]', '["contact", "foto", "adres"]')
    with Vault.open(vault_folder, passphrase) as opened:
        assert opened.rectify(pointer, b"second", groups={"adres": b"Kerkstraat 1"}) == 2
        assert opened.get(pointer, "adres") == b"Kerkstraat 1"
        assert opened.get(pointer, "contact") == CONTACT
        assert opened.audit().faults == []


def test_a_changed_part_is_refused_without_its_content(vault):
    pointer = put_grouped(vault)
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_part SET body = CAST(x'01' || zeroblob(length(body) - 1) AS BLOB)"
        )
    with pytest.raises(Damaged) as damaged:
        vault.get(pointer, "contact")
    assert "kanarie" not in str(damaged.value)


def test_eight_threads_put_records_with_groups_at_once(vault):
    from concurrent.futures import ThreadPoolExecutor

    def one(number):
        return put_grouped(vault, b"%d" % number, groups={GROUPS[number % 2]: b"g%d" % number})

    with ThreadPoolExecutor(8) as pool:
        pointers = list(pool.map(one, range(64)))
    for number, pointer in enumerate(pointers):
        assert vault.get(pointer) == b"%d" % number
        assert vault.get(pointer, GROUPS[number % 2]) == b"g%d" % number
    assert vault.audit().faults == []


@pytest.fixture(scope="module")
def lasting(template_folder, tmp_path_factory):
    """A vault that all examples share."""
    folder = shutil.copytree(template_folder, tmp_path_factory.mktemp("lasting") / "vault")
    give_groups(folder)
    with Vault.open(folder, "a passphrase for tests") as opened:
        yield opened
        assert opened.audit().faults == []


CONTENTS = st.dictionaries(st.sampled_from(GROUPS), st.binary(max_size=40))
STEPS = st.lists(st.sampled_from(GROUPS) | CONTENTS, max_size=6)


@settings(max_examples=60, deadline=None)
@given(first=CONTENTS, steps=STEPS, payload=st.binary(max_size=40))
def test_any_order_of_corrections_and_erasures_keeps_what_was_not_erased(
    lasting, first, steps, payload
):
    """A name erases that group, contents correct the record."""
    pointer = put(lasting, payload, category="kindpakket", groups=first)
    held, gone, version = dict(first), set(), 1
    for step in steps:
        if isinstance(step, dict):
            if gone & step.keys():
                with pytest.raises(Erased):
                    lasting.rectify(pointer, payload, groups=step)
                continue
            version += 1
            assert lasting.rectify(pointer, payload, groups=step) == version
            held |= step
        elif step in held:
            lasting.erase_group(pointer, step, CONSENT)
            del held[step]
            gone.add(step)
        else:
            with pytest.raises(Erased if step in gone else NotFound):
                lasting.erase_group(pointer, step, CONSENT)
    assert lasting.get(pointer) == payload
    for name in GROUPS:
        if name in held:
            assert lasting.get(pointer, name) == held[name]
        else:
            with pytest.raises(Erased if name in gone else NotFound):
                lasting.get(pointer, name)
    lasting.prove(pointer)
