"""Erasing a person: each record decided alone, all that may go gone in one change (ER3, ER4)."""

import collections
import datetime as dt
import json

import pytest
from guarantees_scan import all_files
from sdk_calls import CONSENT, counts, put

from ledger.pointer import parse_pointer
from policy.certificate_parts import Status
from vault import (
    Damaged,
    Erased,
    Ground,
    ImportOrder,
    Incomplete,
    InvalidInput,
    NewRecord,
    NotFound,
    Outcome,
    PurposeRefused,
    Vault,
    erasing_person,
    listing,
)

SUBJECT, NEIGHBOUR = "999990019", "999990020"
# What a person can have: category, brondatum, and whether a hold lies on it.
RECORDS = {
    "no duty": ("nieuwsbrief", None, False),
    "no duty, held": ("nieuwsbrief", None, True),
    "for ever": ("organisatie", None, False),
    "not yet": ("kindpakket", dt.date(2025, 1, 1), False),
    "expired": ("kindpakket", dt.date(2010, 1, 1), False),
    "expired, held": ("kindpakket", dt.date(2010, 1, 1), True),
    "its term has not begun": ("wmo", None, False),
}
_LIKE_CONSENT = ["D10", "D3", "D7", "D8", "D9", "D3", "D8"]
# The codes in the order of the records above.
CODES = {
    Ground.NOT_NEEDED: _LIKE_CONSENT,
    Ground.CONSENT_WITHDRAWN: _LIKE_CONSENT,
    Ground.OBJECTION: _LIKE_CONSENT,
    Ground.CHILD_SERVICE: _LIKE_CONSENT,
    Ground.UNLAWFUL: ["D5", "D3", "D5", "D5", "D5", "D3", "D5"],
    Ground.LEGAL_DUTY: ["D2b"] * 7,
}


def give_records(vault, subject=SUBJECT):
    pointers = []
    for name, (category, brondatum, is_held) in RECORDS.items():
        pointer = put(vault, name.encode(), category=category, subject=subject, brondatum=brondatum)
        if is_held:
            vault.place_hold(pointer, "a hearing on 1 May")
        pointers.append(pointer)
    return pointers


@pytest.fixture
def state(rows):
    """Everything that an erasure changes."""
    tables = ("tree", "node", "record", "version", "part", "subject", "bucket", "hold", "act")

    def read():
        return [rows(f"SELECT * FROM vault_{table}") for table in (*tables, "erasure", "import")]

    return read


def put_many(vault, records):
    pointers = []
    vault.put_many(records, category="nieuwsbrief", on_batch=pointers.extend)
    return pointers


def is_living(vault, pointer):
    try:
        vault.get(pointer)
    except Erased:
        return False
    return True


@pytest.mark.parametrize("ground", Ground)
def test_each_record_gets_the_decision_that_it_would_get_alone(vault, rows, state, ground):
    pointers = give_records(vault)
    neighbours = give_records(vault, NEIGHBOUR)
    alone = {pointer: vault.decide(pointer, ground) for pointer in pointers}
    before = state()
    asked = vault.decide_person(SUBJECT, ground)
    assert state() == before  # deciding changes nothing
    assert (asked.erased_at, asked.files_clean) == (None, True)
    done = vault.erase_person(SUBJECT, ground)
    assert done.records == asked.records
    assert {name: one.decision for name, one in done.records.items()} == alone
    assert list(done.records) == pointers  # oldest first
    assert [one.decision.code for one in done.records.values()] == CODES[ground]
    allowed = {one for one in pointers if alone[one].outcome is Outcome.ALLOWED}
    for pointer, name in zip(pointers, RECORDS, strict=True):
        assert is_living(vault, pointer) is (pointer not in allowed)
        if pointer not in allowed:
            assert vault.get(pointer) == name.encode()
            assert "Art. " in alone[pointer].article
    assert done.is_complete is asked.is_complete is (allowed == set(pointers))
    assert done.erased_at == (vault._core.clock.now() if allowed else None)
    assert sorted(vault.find(SUBJECT)) == sorted(set(pointers) - allowed)
    assert all(is_living(vault, one) for one in neighbours)
    assert rows("SELECT count(*) FROM vault_erasure") == [(len(allowed),)]
    assert vault.audit().faults == []
    outcomes = collections.Counter(one.outcome.value for one in alone.values())
    print(f"{ground}: {len(pointers)} records, {len(allowed)} erased, {dict(outcomes)}")


def with_contact(vault, *, is_held=False):
    pointer = vault.put(
        b"core",
        category="kindpakket",
        subject=SUBJECT,
        brondatum=dt.date(2025, 1, 1),
        groups={"contact": b"06 12345678"},
    )
    if is_held:
        vault.place_hold(pointer, "a hearing on 1 May")
    return pointer


def test_optional_groups_of_what_must_stay_go_now(vault, rows):
    """D8: erase excess fields now; ER5."""
    kept, held, gone = with_contact(vault), with_contact(vault, is_held=True), put(vault, b"gone")
    asked = vault.decide_person(SUBJECT, CONSENT)
    done = vault.erase_person(SUBJECT, CONSENT)
    assert done.records == asked.records
    codes = {
        pointer: (one.decision.code, {name: on.code for name, on in one.groups.items()})
        for pointer, one in done.records.items()
    }
    assert codes == {
        kept: ("D8", {"contact": "D10"}),
        held: ("D3", {"contact": "D3"}),
        gone: ("D10", {}),
    }
    assert vault.get(kept) == b"core"
    with pytest.raises(Erased):
        vault.get(kept, "contact")
    assert vault.get(held, "contact") == b"06 12345678"
    assert rows("SELECT field_group FROM vault_erasure ORDER BY 1") == [(0,), (1,)]
    # What has gone is not asked for again.
    assert vault.decide_person(SUBJECT, CONSENT).records[kept].groups == {}
    vault.shred()
    assert vault.certificate(kept, group="contact").certificate.field_groups == ("contact",)
    assert vault.audit().faults == []


def test_control_a_group_that_is_not_looked_for_stays(vault, monkeypatch):
    kept = with_contact(vault)
    monkeypatch.setattr(erasing_person, "living_groups", lambda *_: [])
    assert vault.erase_person(SUBJECT, CONSENT).records[kept].groups == {}
    assert vault.get(kept, "contact") == b"06 12345678"


def test_control_the_records_meet_every_row_that_a_living_record_can(vault):
    met = {code for codes in CODES.values() for code in codes}
    assert met == {"D2b", "D3", "D5", "D7", "D8", "D9", "D10"}
    assert set(CODES) == set(Ground)


def test_nothing_of_the_person_is_left(vault, rows, vault_folder):
    # ER4: 5 records in 3 cases, and a canary in each place where the vault writes.
    canary = b"kanarie-7b1c9e"
    categories = ("nieuwsbrief", "organisatie", "kindpakket")
    pointers = [put(vault, canary, category=one, subject=SUBJECT) for one in categories]
    pointers += put_many(vault, [NewRecord(canary, SUBJECT)] * 2)
    vault.rectify(pointers[0], canary + b" corrected")
    put(vault, b"the neighbour's", subject=NEIGHBOUR)
    bodies = [bytes(body) for (body,) in rows(
        "SELECT v.body FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
        " WHERE r.subject_id = 1 AND r.category = 'nieuwsbrief'"
    )]  # fmt: skip
    assert len(bodies) == 4
    done = vault.erase_person(SUBJECT, CONSENT)
    assert [one.decision.code for one in done.records.values()] == ["D10", "D7", "D8", "D10", "D10"]
    vault.anchor()
    vault.close()
    files = all_files(vault_folder)
    found = [name for name, data in files.items() for body in bodies if body in data]
    clear = [name for name, data in files.items() if canary in data or SUBJECT.encode() in data]
    print(f"{len(bodies)} ciphertexts and 2 canaries in {len(files)} files: {len(found + clear)}")
    assert found == clear == []


def test_the_subject_goes_with_the_last_record_and_its_bucket_is_re_keyed(vault, rows):
    give_records(vault)
    put(vault, subject=NEIGHBOUR)
    mine, theirs = rows("SELECT id, bucket, tag, sealed FROM vault_subject ORDER BY id")
    slots = dict(rows("SELECT number, slot FROM vault_bucket"))
    # One is left, so the person is still known.
    done = vault.erase_person(SUBJECT, CONSENT)
    assert not done.is_complete
    assert rows("SELECT id, bucket, tag, sealed FROM vault_subject ORDER BY id") == [mine, theirs]
    assert dict(rows("SELECT number, slot FROM vault_bucket")) == slots

    vault.erase_person(NEIGHBOUR, CONSENT)
    assert vault.find(NEIGHBOUR) == []
    ((number, bucket, tag, sealed),) = rows("SELECT id, bucket, tag, sealed FROM vault_subject")
    assert (number, bucket) == mine[:2]
    assert theirs[1] == mine[1]  # everybody else in the bucket was sealed anew
    assert tag != mine[2]
    assert sealed != mine[3]
    assert dict(rows("SELECT number, slot FROM vault_bucket"))[theirs[1]] != slots[theirs[1]]
    assert len(vault.find(SUBJECT)) == len(RECORDS) - 1
    assert rows("SELECT count(*) FROM vault_record WHERE subject_id = ?", (theirs[0],)) == [(0,)]
    assert vault.audit().faults == []


def test_all_go_in_one_act_and_one_generation(vault, rows):
    put(vault, subject=NEIGHBOUR)
    pointers = [put(vault, b"%d" % number) for number in range(5)]
    vault.erase(put(vault, subject=NEIGHBOUR), CONSENT)
    vault.shred()
    acts = rows("SELECT count(*) FROM vault_act")[0][0]
    vault.erase_person(SUBJECT, CONSENT, actor="A. Jansen")
    assert rows(
        "SELECT erased, count(*), count(DISTINCT act_id) FROM vault_erasure GROUP BY 1"
    ) == [
        (1, 1, 1),
        (2, 5, 1),
    ]
    assert rows("SELECT count(*), max(actor) FROM vault_act WHERE id > ?", (acts,)) == [
        (1, "A. Jansen")
    ]
    report = vault.shred(declared_by="J. de Boer")
    assert report.irrecoverable == 6
    for pointer in pointers:
        stated = vault.certificate(pointer).certificate
        assert (stated.status, stated.executor) == (Status.IRRECOVERABLE, "A. Jansen")
        assert [one.number for one in stated.generations] == [1, 2]


def test_each_record_proves_its_own_erasure(vault, rows):
    pointers = [put(vault, b"%d" % number) for number in range(3)]
    vault.rectify(pointers[1], b"again")
    vault.erase_person(SUBJECT, CONSENT)
    vault.anchor()
    leaves = [vault.erasure_index(pointer) for pointer in pointers]
    assert len(set(leaves)) == 3
    assert None not in leaves
    with pytest.raises(Erased) as gone:
        vault.erase(pointers[1], CONSENT)
    assert gone.value.leaf == leaves[1]


# What stops it


def test_nothing_goes_while_all_is_held(vault, state):
    pointers = [put(vault, b"x") for _ in range(3)]
    for pointer in pointers:
        vault.place_hold(pointer, "inspection")
    before = state()
    done = vault.erase_person(SUBJECT, CONSENT)
    assert [one.decision.code for one in done.records.values()] == ["D3"] * 3
    assert (done.erased_at, done.is_complete) == (None, False)
    assert state() == before
    assert all(is_living(vault, pointer) for pointer in pointers)


def test_whoever_is_not_known_is_not_found(vault, state):
    put(vault, subject=NEIGHBOUR)
    before = state()
    for call in (vault.decide_person, vault.erase_person):
        with pytest.raises(NotFound, match=r"^no living record is about this subject$"):
            call(SUBJECT, CONSENT)
        for bad in ("", "x" * 10_000, "\ud800"):
            with pytest.raises(InvalidInput):
                call(bad, CONSENT)
    assert state() == before
    vault.erase_person(NEIGHBOUR, CONSENT)
    with pytest.raises(NotFound):  # there is nothing left that could tell
        vault.erase_person(NEIGHBOUR, CONSENT)


def test_a_purpose_that_one_record_refuses_changes_nothing(vault_folder, passphrase, clock, rows):
    path = vault_folder / "datakluis.toml"
    text = path.read_text(encoding="utf-8")
    text = text.replace(
        "[purposes.inzage]", '[purposes.controle]\ndescription = "Other"\n\n[purposes.inzage]'
    )
    head, tail = text.split("[categories.nieuwsbrief]")
    tail = tail.replace('purposes = ["inzage"]', 'purposes = ["inzage", "controle"]', 1)
    path.write_text(f"{head}[categories.nieuwsbrief]{tail}", encoding="utf-8")
    with Vault.open(vault_folder, passphrase, clock=clock) as vault:
        first, other = put(vault, b"x"), put(vault, b"y", category="kindpakket")
        last = put(vault, b"z")
        before = counts(rows), rows("SELECT * FROM vault_tree"), rows("SELECT * FROM vault_act")
        for call in (vault.decide_person, vault.erase_person):
            for purpose in ("controle", "no such purpose"):
                with pytest.raises(PurposeRefused):
                    call(SUBJECT, CONSENT, purpose=purpose)
        after = counts(rows), rows("SELECT * FROM vault_tree"), rows("SELECT * FROM vault_act")
        assert after == before
        assert [vault.get(one) for one in (first, other, last)] == [b"x", b"y", b"z"]
        # The control: who has only what the purpose covers is erased for it.
        put(vault, b"w", subject=NEIGHBOUR)
        assert vault.erase_person(NEIGHBOUR, CONSENT, purpose="controle").is_complete


@pytest.mark.parametrize(
    "change",
    [
        "category = 'nieuwsbrief'",
        "retention = NULL",
        "brondatum = '2010-01-01'",
        "record_date = '2001-01-01'",
        "on_hold = 1",
        "row_tag = NULL",
        "row_tag = zeroblob(16)",
        "category = 'no such category'",
    ],
)
def test_one_changed_row_stops_all_and_changes_nothing(vault, state, change):
    pointers = [put(vault, b"x"), put(vault, category="kindpakket"), put(vault, b"z")]
    with vault._core.database.write() as connection:
        changed = connection.exec_driver_sql(
            f"UPDATE vault_record SET {change} WHERE pointer = ?", (parse_pointer(pointers[1]),)
        )
        assert changed.rowcount == 1
    before = state()
    for call in (vault.decide_person, vault.erase_person):
        with pytest.raises((Damaged, InvalidInput)) as refused:
            call(SUBJECT, CONSENT)
        if "no such" not in change:
            assert str(refused.value) == (
                f"the row of record {pointers[1]} was changed outside the vault"
            )
    assert state() == before
    assert vault.get(pointers[0]) == b"x"
    assert vault.get(pointers[2]) == b"z"


def test_a_record_that_was_moved_to_another_person_stops_both(vault, state):
    mine, theirs = put(vault, b"x"), put(vault, b"y", subject=NEIGHBOUR)
    put(vault, b"z", subject=NEIGHBOUR)
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE vault_record SET subject_id = (SELECT subject_id FROM vault_record WHERE"
            " pointer = ?) WHERE pointer = ?",
            (parse_pointer(mine), parse_pointer(theirs)),
        )
    before = state()
    with pytest.raises(Damaged, match=f"^the row of record {theirs} was changed"):
        vault.erase_person(SUBJECT, CONSENT)
    assert state() == before


def test_one_that_fails_halfway_has_changed_nothing(vault, state, monkeypatch):
    pointers = [put(vault, b"%d" % number) for number in range(4)]
    before, done = state(), []
    append = listing.append_pending

    def fail_at_the_third(connection, entries):
        done.append(entries)
        if len(done) == 3:
            raise ZeroDivisionError
        append(connection, entries)

    with monkeypatch.context() as patch:
        patch.setattr(listing, "append_pending", fail_at_the_third)
        with pytest.raises(ZeroDivisionError):
            vault.erase_person(SUBJECT, CONSENT)
    assert state() == before
    assert [vault.get(one) for one in pointers] == [b"0", b"1", b"2", b"3"]
    assert vault.find(SUBJECT) == pointers
    assert vault.erase_person(SUBJECT, CONSENT).is_complete
    assert vault.audit().faults == []


def test_what_could_not_be_destroyed_is_named_and_the_rest_is_gone(vault):
    # ER2.
    pointers = [put(vault, b"%d" % number) for number in range(3)]
    with vault._core.database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER keep AFTER UPDATE OF body ON vault_version WHEN NEW.record_id = 2"
            " AND NEW.body IS NULL BEGIN UPDATE vault_version SET body = OLD.body"
            " WHERE rowid = NEW.rowid; END"
        )
    with pytest.raises(Incomplete, match=f"^record {pointers[1]}: body of version 1 was not dest"):
        vault.erase_person(SUBJECT, CONSENT)
    assert not any(is_living(vault, pointer) for pointer in pointers)


# How much at once


def test_a_thousand_records_of_one_person_go_in_one_call(vault, rows):
    every = 1_000
    neighbours = [put(vault, b"n%d" % number, subject=NEIGHBOUR) for number in range(3)]
    records = (NewRecord(b"%d" % number, SUBJECT) for number in range(every))
    pointers = put_many(vault, records)
    kept = put(vault, b"kept", category="organisatie")
    done = vault.erase_person(SUBJECT, CONSENT)
    assert list(done.records) == [*pointers, kept]
    assert done.files_clean
    assert not any(is_living(vault, pointer) for pointer in pointers)
    assert vault.get(kept) == b"kept"
    assert [vault.get(one) for one in neighbours] == [b"n0", b"n1", b"n2"]
    assert rows("SELECT count(*), min(erased), max(erased) FROM vault_erasure") == [(every, 1, 1)]
    report = vault.shred(declared_by="J. de Boer")
    assert (report.certificates, report.irrecoverable) == (every, every)
    assert vault.audit().faults == []
    print(f"{every} of {len(done.records)} records erased and certified, in one generation")


def test_imported_records_go_like_all_others(vault, rows, tmp_path):
    source = tmp_path / "records.jsonl"
    lines = [{"subject": SUBJECT if n % 2 else NEIGHBOUR, "payload": n} for n in range(10)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    vault.import_jsonl(ImportOrder(source, "nieuwsbrief", "/subject"))
    assert len(vault.find(SUBJECT)) == 5
    assert rows("SELECT count(*) FROM vault_import") == [(1,)]
    assert vault.erase_person(SUBJECT, CONSENT).is_complete
    # The run's tag could confirm a guess at the whole file.
    assert rows("SELECT count(*) FROM vault_import") == [(0,)]
    assert len(vault.find(NEIGHBOUR)) == 5
    assert vault.audit().faults == []
