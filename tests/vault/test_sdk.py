"""The SDK: what an application sees of records, decisions, erasures and errors.

Rows: ER1, ER2, ER3, ER4, ER9, RE1, ST1, ST2, ST3, ST15, PR1, PR2, PR5, PU1.
"""

import datetime as dt
import itertools
import os
import random
import stat
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vault as face
from anchor.evidence import Evidence
from anchor.steps import Step, StepState, Verdict
from anchor.verify import verify
from ledger.errors import LedgerError, Malformed
from policy import ListNotCarried, PolicyError
from vault import (
    ConfigurationError,
    Damaged,
    DecisionCode,
    Erased,
    Ground,
    Incomplete,
    InvalidInput,
    NewRecord,
    NotFound,
    Outcome,
    PurposeRefused,
    Refused,
    Vault,
    VaultError,
    WrongPassphrase,
    erasing,
    keynode,
)
from vault.preparing import MAX_PAYLOAD_BYTES

CONSENT = Ground.CONSENT_WITHDRAWN
UNKNOWN = "aaaaaaaaaaaaaaaaaaaaaaaaaa"


def put(vault, payload=b"{}", *, category="nieuwsbrief", subject="999990019", **more):
    return vault.put(payload, category=category, subject=subject, **more)


def counts(rows):
    tables = ("record", "version", "subject", "act", "hold", "import", "bucket")
    found = {table: rows(f"SELECT count(*) FROM vault_{table}")[0][0] for table in tables}
    return found | {"pending": rows("SELECT count(*) FROM ledger_pending")[0][0]}


# Making and opening a vault


def test_the_example_of_the_module(tmp_path, passphrase):
    Vault.create(tmp_path / "hoorn", passphrase).close()
    with Vault.open(tmp_path / "hoorn", passphrase) as vault:
        payload = '{"naam": "Zoë"}'.encode()
        pointer = vault.put(payload, category="wmo", subject="999990019")
        assert vault.get(pointer) == payload


def test_a_vault_is_made_in_an_empty_folder_only(tmp_path, passphrase):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "something").touch()
    (tmp_path / "file").touch()
    for name, message in (("used", "is not empty"), ("file", "cannot be made")):
        with pytest.raises(ConfigurationError, match=message):
            Vault.create(tmp_path / name, passphrase)
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["something"]
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b", str(tmp_path / "text")):
        with Vault.create(folder, passphrase) as vault:
            assert put(vault)


@pytest.mark.parametrize("origin", ["a b", "a+b", "a\nb"])
def test_an_origin_that_cannot_name_a_key_leaves_nothing_behind(tmp_path, passphrase, origin):
    with pytest.raises(
        InvalidInput, match="an origin is 1 to 200 bytes without spaces and plus signs"
    ):
        Vault.create(tmp_path / "new", passphrase, origin=origin)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bad", ["", "a\udcff"])
def test_a_passphrase_that_cannot_be_one_leaves_nothing_behind(tmp_path, bad):
    with pytest.raises(InvalidInput, match="the passphrase is"):
        Vault.create(tmp_path / "new", bad)
    assert not (tmp_path / "new").exists()


def test_the_folder_is_the_owners_alone(tmp_path, passphrase):
    before = os.umask(0)
    try:
        Vault.create(tmp_path / "new", passphrase).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_origins_are_given_or_made_up_and_stay(tmp_path, passphrase, vault):
    assert vault.origin == "datakluis.example/tests"
    with Vault.create(tmp_path / "a", passphrase) as one:
        origin = one.origin
    with Vault.create(tmp_path / "b", passphrase) as other:
        assert other.origin != origin
    with Vault.open(tmp_path / "a", passphrase) as again:
        assert again.origin == origin
        assert again.folder == tmp_path / "a"


def test_another_passphrase_opens_nothing(vault_folder, passphrase):
    with pytest.raises(WrongPassphrase) as refused:
        Vault.open(vault_folder, "another passphrase")
    assert "another passphrase" not in str(refused.value)
    Vault.open(vault_folder, passphrase).close()


def test_the_root_key_of_another_vault_is_noticed_at_once(vault_folder, passphrase, tmp_path):
    Vault.create(tmp_path / "other", passphrase).close()
    other = (tmp_path / "other" / "keys" / "root.key").read_bytes()
    (vault_folder / "keys" / "root.key").write_bytes(other)
    with pytest.raises(Damaged, match="epoch key of generation 1 does not open"):
        Vault.open(vault_folder, passphrase)


def test_a_closed_vault_keeps_everything_and_leaves_no_write_ahead_log(vault_folder, passphrase):
    with Vault.open(vault_folder, passphrase) as vault:
        pointer = put(vault, b"x")
        assert (vault_folder / "vault.db-wal").stat().st_size > 0
    assert sorted(path.name for path in vault_folder.glob("vault.db*")) == ["vault.db"]
    with Vault.open(vault_folder, passphrase) as vault:
        assert vault.get(pointer) == b"x"


def test_a_vault_closes_when_its_block_fails(vault_folder, passphrase):
    def fail():
        with Vault.open(vault_folder, passphrase) as vault:
            put(vault)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (vault_folder / "vault.db-wal").exists()


def test_every_name_of_the_package_is_there():
    assert all(getattr(face, name) is not None for name in face.__all__)
    assert not hasattr(face, "nothing")


# Putting and getting


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_payload_comes_back_byte_for_byte(vault, payload, subject):
    subject = subject[:64]
    pointer = put(vault, payload, subject=subject)
    assert vault.get(pointer) == payload
    assert pointer in vault.find(subject)


@pytest.mark.parametrize("size", [0, 1, MAX_PAYLOAD_BYTES])
def test_payloads_of_up_to_8_mib_are_taken(vault, reopen, size):
    payload = os.urandom(size)
    pointer = put(vault, payload)
    assert vault.get(pointer) == reopen().get(pointer) == payload


def test_a_larger_one_is_refused_and_nothing_is_stored(vault, rows):
    pointer = put(vault)
    before = counts(rows)
    large = bytes(MAX_PAYLOAD_BYTES + 1)
    for attempt in (
        lambda: put(vault, large),
        lambda: vault.rectify(pointer, large),
        lambda: vault.put_many([NewRecord(b"", "a"), NewRecord(large, "b")], category="wmo"),
    ):
        with pytest.raises(InvalidInput, match="a payload has at most 8388608 bytes"):
            attempt()
    assert counts(rows) == before


def test_pointers_are_26_characters_and_say_nothing(vault):
    # PR2, PR5: the same payload of the same subject a hundred times.
    pointers = [put(vault, b"the same") for _ in range(100)]
    assert len(set(pointers)) == 100
    assert all(len(pointer) == 26 and pointer.isalnum() for pointer in pointers)
    assert pointers != sorted(pointers)  # by chance once in 100! vaults
    for length in (2, 3, 4):
        shared = len({pointer[:length] for pointer in pointers})
        assert shared > {2: 50, 3: 95, 4: 97}[length]


def test_the_same_payload_is_stored_as_other_bytes_each_time(vault, rows):
    # PR1.
    for _ in range(50):
        put(vault, b"the same payload")
    bodies = [bytes(body) for (body,) in rows("SELECT body FROM vault_version")]
    entries = [bytes(entry)[24:] for (entry,) in rows("SELECT entry FROM ledger_pending")]
    assert len(set(bodies)) == len(set(entries)) == 50
    assert not any(b"payload" in body for body in bodies)


def test_put_many_gives_pointers_in_the_order_of_the_records(vault):
    batches = []
    stored = vault.put_many(
        (NewRecord(b"%d" % number, f"person {number % 10}") for number in range(2_300)),
        category="wmo",
        on_batch=batches.append,
    )
    assert stored == 2_300
    assert [len(batch) for batch in batches] == [1_000, 1_000, 300]
    pointers = list(itertools.chain(*batches))
    for number in random.Random(5).sample(range(2_300), 200):
        assert vault.get(pointers[number]) == b"%d" % number
    assert vault.find("person 3") == pointers[3::10]
    assert vault.put_many([], category="wmo") == 0


def test_a_bad_record_stops_put_many_and_earlier_batches_stay(vault, rows):
    batches = []
    records = [NewRecord(b"", f"person {number}") for number in range(1_500)]
    records.insert(1_200, NewRecord(b"", ""))
    with pytest.raises(InvalidInput, match="a subject is 1 to 256 bytes"):
        vault.put_many(records, category="wmo", on_batch=batches.append)
    assert [len(batch) for batch in batches] == [1_000]
    assert counts(rows)["record"] == counts(rows)["pending"] == 1_000
    assert vault.audit().faults == []


def test_put_with_wait_returns_when_a_signed_checkpoint_includes_it(vault, rows):
    pointer = put(vault)
    assert vault.history(pointer)[0].leaf is None
    waited = put(vault, wait=True)
    assert vault.history(waited)[0].leaf is not None
    assert rows("SELECT count(*) FROM ledger_pending") == [(0,)]
    assert rows("SELECT max(size) FROM ledger_checkpoint") == [(2,)]


@pytest.mark.parametrize(
    "pointer", ["", "x", "999990019", UNKNOWN.upper(), UNKNOWN + "a", "é" * 26]
)
def test_what_is_no_pointer_is_refused_and_not_repeated(vault, pointer):
    calls = (
        vault.get,
        vault.history,
        vault.erasure_index,
        vault.prove,
        lambda text: vault.erase(text, CONSENT),
        lambda text: vault.decide(text, CONSENT),
        lambda text: vault.rectify(text, b""),
        lambda text: vault.place_hold(text, "reason"),
    )
    for call in calls:
        with pytest.raises(
            Malformed, match=r"^not a pointer: expected 26 characters of a-z and 2-7"
        ):
            call(pointer)


def test_an_unknown_pointer_is_not_found_by_any_call(vault, rows):
    before = counts(rows)
    calls = (
        lambda: vault.get(UNKNOWN),
        lambda: vault.history(UNKNOWN),
        lambda: vault.erasure_index(UNKNOWN),
        lambda: vault.prove(UNKNOWN),
        lambda: vault.erase(UNKNOWN, CONSENT),
        lambda: vault.decide(UNKNOWN, CONSENT),
        lambda: vault.rectify(UNKNOWN, b""),
        lambda: vault.place_hold(UNKNOWN, "reason"),
    )
    for call in calls:
        with pytest.raises(NotFound, match=f"^no record has the pointer {UNKNOWN}$"):
            call()
    assert counts(rows) == before


# Dates (ST1, ST2, ST3)


def test_a_record_from_before_2020_is_refused_where_a_list_is_needed(vault, rows):
    for day, version in (("2019-12-31", "2017"), ("2016-12-31", "2012"), ("1995-12-31", "1983")):
        with pytest.raises(ListNotCarried, match=f"selection list {version}"):
            put(vault, category="wmo", record_date=dt.date.fromisoformat(day))
    assert counts(rows)["record"] == 0
    assert put(vault, category="wmo", record_date=dt.date(2020, 1, 1))
    assert put(vault, record_date=dt.date(1995, 1, 1))  # no duty to keep, so no list is needed


def test_the_record_date_is_today_by_default(vault, clock):
    clock.day = dt.date(2019, 6, 1)
    with pytest.raises(ListNotCarried):
        put(vault, category="wmo")


@pytest.mark.parametrize("name", ["brondatum", "record_date"])
def test_a_moment_is_no_day(vault, rows, name):
    moment = dt.datetime(2026, 1, 1, 12)
    for category in ("wmo", "nieuwsbrief"):
        with pytest.raises(InvalidInput, match="are days, without a time"):
            put(vault, category=category, **{name: moment})
    assert counts(rows)["record"] == 0


def test_a_brondatum_without_a_term_that_ends_before_10000_is_refused(vault, rows):
    with pytest.raises(InvalidInput, match="brondatum: 9999-12-31 plus P7Y falls after the year"):
        put(vault, category="kindpakket", brondatum=dt.date(9999, 12, 31))
    assert counts(rows)["record"] == 0
    pointer = put(vault, category="kindpakket", brondatum=dt.date(9992, 12, 31))
    assert vault.decide(pointer, CONSENT).date == dt.date(9999, 12, 31)


# Finding (ER4)


def test_erasing_all_records_of_a_subject_leaves_none_and_only_theirs(vault):
    mine = [put(vault, b"%d" % number) for number in range(5)]
    other = put(vault, b"other", subject="999990020")
    for number, pointer in enumerate(mine):
        assert vault.find("999990019") == mine[number:]
        vault.erase(pointer, CONSENT)
    assert vault.find("999990019") == []
    assert vault.find("999990020") == [other]
    assert vault.get(other) == b"other"


# Rectifying (RE1)


def test_a_correction_is_a_linked_version_and_the_newest_is_current(vault, reopen, clock):
    pointer = put(vault, b"one")
    clock.day = dt.date(2026, 4, 1)
    assert vault.rectify(pointer, b"two", actor="jansen") == 2
    assert vault.rectify(pointer, b"three") == 3
    assert vault.get(pointer) == reopen().get(pointer) == b"three"
    history = vault.history(pointer)
    assert [version.number for version in history] == [1, 2, 3]
    assert [version.actor for version in history] == ["beheer", "jansen", "beheer"]
    assert {version.purpose for version in history} == {"inzage"}
    assert not any(version.erased for version in history)
    days = [dt.datetime.fromtimestamp(version.at, dt.UTC).date() for version in history]
    assert days == [dt.date(2026, 3, 2), dt.date(2026, 4, 1), dt.date(2026, 4, 1)]
    assert {version.leaf for version in history} == {None}
    vault.checkpoint()
    leaves = [version.leaf for version in vault.history(pointer)]
    assert leaves == sorted(leaves)  # the order per pointer is kept
    assert None not in leaves
    assert vault.find("999990019") == [pointer]
    assert vault.audit().faults == []


def test_every_version_stays_provable_and_opens_to_its_own_payload(vault):
    pointer = put(vault, b"one")
    vault.rectify(pointer, b"two")
    trust = vault.trust()
    for number, payload in ((1, b"one"), (2, b"two")):
        evidence = vault.prove(pointer, version=number, disclose=True)
        assert evidence.opening.payload == payload
        assert evidence.entry.version == number
        assert steps_of(evidence, trust)[Step.OPENING] is StepState.PASSED
    for number in (0, 3, -1):
        with pytest.raises(NotFound, match=f"has no version {number}$"):
            vault.prove(pointer, version=number)


# Deciding and erasing (ER3)


def steps_of(evidence, trust):
    report = verify(Evidence.parse(evidence.format()), trust)
    return {step.step: step.state for step in report.steps}


GONE = "erased"
# A request, and the row, outcome and article that answer it.
REQUESTS = {
    "D2 erased before": ("nieuwsbrief", None, CONSENT, GONE, "D2", "Art. 12(3)"),
    "D2b a legal duty to erase": (
        "nieuwsbrief", None, Ground.LEGAL_DUTY, None, "D2b", "Art. 17(1)(e)"
    ),
    "D2b comes before the hold": (
        "nieuwsbrief", None, Ground.LEGAL_DUTY, "hold", "D2b", "Art. 17(1)(e)"
    ),
    "D3 a hold": ("nieuwsbrief", None, CONSENT, "hold", "D3", "Art. 17(3)(e), 18(1)(c)"),
    "D3 a hold on an expired record": (
        "kindpakket", dt.date(2010, 1, 1), Ground.NOT_NEEDED, "hold", "D3", "Art. 17(3)(e)"
    ),
    "D5 unlawful": ("nieuwsbrief", None, Ground.UNLAWFUL, None, "D5", "Art. 17(1)(d)"),
    "D7 for ever": ("organisatie", None, Ground.NOT_NEEDED, None, "D7", "Art. 17(3)(b), (d)"),
    "D8 not yet": (
        "kindpakket", dt.date(2025, 1, 1), Ground.NOT_NEEDED, None, "D8", "Art. 17(3)(b)"
    ),
    "D8 no brondatum": ("wmo", None, Ground.OBJECTION, None, "D8", "Art. 17(3)(b)"),
    "D9 expired": (
        "kindpakket", dt.date(2010, 1, 1), Ground.NOT_NEEDED, None, "D9", "Art. 17(1)(a)"
    ),
    "D10 no duty": ("nieuwsbrief", None, CONSENT, None, "D10", "Art. 17(1)(b)"),
    "D10 a child's service": (
        "nieuwsbrief", None, Ground.CHILD_SERVICE, None, "D10", "Art. 17(1)(f)"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("category", "brondatum", "ground", "before", "code", "article"),
    REQUESTS.values(),
    ids=REQUESTS,
)
def test_each_request_gets_one_code_with_its_article(
    vault, rows, category, brondatum, ground, before, code, article
):
    pointer = put(vault, b"x", category=category, brondatum=brondatum)
    if before == GONE:
        vault.erase(pointer, CONSENT)
    elif before == "hold":
        vault.place_hold(pointer, "a hearing on 1 May")
    decision = vault.decide(pointer, ground)
    assert decision.code == code
    assert decision.article.startswith(article)
    assert decision.article.endswith("GDPR")
    state = counts(rows)
    if code == "D10":
        assert vault.erase(pointer, ground).decision == decision
        with pytest.raises(Erased):
            vault.get(pointer)
        return
    kind = Erased if code == "D2" else Refused
    with pytest.raises(kind) as answer:
        vault.erase(pointer, ground)
    assert answer.value.decision == decision
    assert answer.value.pointer == pointer
    if kind is Refused:
        assert str(answer.value) == f"record {pointer}: {decision.sentence_en}"
        assert vault.get(pointer) == b"x"
        assert counts(rows) == state


def test_all_answers_that_the_sdk_can_give_were_asked_for():
    assert {request[4] for request in REQUESTS.values()} == {code.value for code in DecisionCode}
    print(f"{len(REQUESTS)} requests, {len(DecisionCode)} codes")


def test_the_term_ends_with_its_last_day(vault, clock):
    # ST15: ended on 31-12-2019 with a term of 7 years, so it is kept through 31-12-2026.
    pointer = put(
        vault,
        category="kindpakket",
        brondatum=dt.date(2019, 12, 31),
        record_date=dt.date(2020, 1, 1),
    )
    answers = {}
    for day in (dt.date(2026, 12, 30), dt.date(2026, 12, 31), dt.date(2027, 1, 1)):
        clock.day = day
        answers[day] = vault.decide(pointer, Ground.NOT_NEEDED)
    assert [answer.code for answer in answers.values()] == ["D8", "D8", "D9"]
    assert {answer.date for answer in answers.values()} == {dt.date(2026, 12, 31)}
    assert "31 December 2026" in answers[clock.day].sentence_en
    assert answers[clock.day].outcome is Outcome.QUEUED
    with pytest.raises(Refused):  # queued for a destruction list, not destroyed on request
        vault.erase(pointer, Ground.NOT_NEEDED)
    assert vault.get(pointer) == b"{}"


def test_a_term_from_a_leap_day_ends_on_the_last_of_february(vault):
    # ST3.
    pointer = put(vault, category="kindpakket", brondatum=dt.date(2024, 2, 29))
    assert vault.decide(pointer, Ground.NOT_NEEDED).date == dt.date(2031, 2, 28)


def test_deciding_changes_nothing(vault, rows):
    pointer = put(vault)
    before = counts(rows), rows("SELECT * FROM vault_tree")
    for ground in Ground:
        vault.decide(pointer, ground)
    assert (counts(rows), rows("SELECT * FROM vault_tree")) == before
    assert vault.get(pointer) == b"{}"


def test_an_erasure_takes_keys_ciphertexts_and_dates_of_all_versions(vault, rows, vault_folder):
    # ER1: the storage is searched for each ciphertext and each key.
    pointer = put(vault, b"first payload", brondatum=dt.date(2025, 5, 5))
    vault.rectify(pointer, b"second payload")
    vault.place_hold(put(vault, b"another's"), "reason")
    core = vault._core
    with core.database.read() as connection:
        read_key = core.read_key(connection)
        found = connection.exec_driver_sql(
            "SELECT v.slot, v.body FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
            " WHERE r.subject_id = 1 AND r.current = 2"
        ).all()
        keys = [read_key(slot) for slot, _ in found]
    bodies = [bytes(body) for _, body in found]
    assert len(bodies) == 2
    erasure = vault.erase(pointer, CONSENT)
    assert (erasure.pointer, erasure.versions, erasure.generation) == (pointer, 2, 1)
    assert erasure.erased_at == core.clock.now()
    assert erasure.decision.code is DecisionCode.D10
    tombstone = rows(
        "SELECT category, current, record_date, brondatum, subject_id, import_slot, on_hold,"
        " row_tag, ground FROM vault_record WHERE erased_act IS NOT NULL"
    )
    assert tombstone == [(None, 2, None, None, None, None, 0, None, "consent-withdrawn")]
    vault.close()
    everything = b"".join(path.read_bytes() for path in vault_folder.rglob("*") if path.is_file())
    assert not any(secret in everything for secret in (*bodies, *keys, *(b[13:45] for b in bodies)))
    assert b"payload" not in everything


def test_the_search_of_the_storage_finds_a_ciphertext_that_lives(vault, rows, vault_folder):
    # The control of the test above.
    put(vault, b"first payload")
    ((body,),) = rows("SELECT body FROM vault_version")
    vault.close()
    assert bytes(body) in (vault_folder / "vault.db").read_bytes()


def test_nothing_but_history_and_proof_is_left_of_an_erased_record(vault, reopen):
    pointer = put(vault, b"x")
    other_process = reopen()
    assert other_process.get(pointer) == b"x"  # it has the key in its cache now
    vault.erase(pointer, CONSENT)
    for one in (vault, other_process, reopen()):
        for call in (
            lambda one=one: one.get(pointer),
            lambda one=one: one.rectify(pointer, b"y"),
            lambda one=one: one.place_hold(pointer, "reason"),
            lambda one=one: one.prove(pointer, disclose=True),
            lambda one=one: one.erase(pointer, CONSENT),
        ):
            with pytest.raises(Erased, match=f"^record {pointer} was erased: ") as gone:
                call()
            assert gone.value.pointer == pointer
            assert gone.value.erased_at == vault._core.clock.now()
        assert [version.erased for version in one.history(pointer)] == [True]
        assert one.find("999990019") == []


def test_erased_carries_the_leaf_of_the_erasure(vault):
    pointer = put(vault)
    assert vault.erasure_index(pointer) is None
    vault.erase(pointer, CONSENT)
    with pytest.raises(Erased, match=r"was erased: pending in the ledger$") as gone:
        vault.get(pointer)
    assert gone.value.leaf is None
    assert gone.value.decision is None
    assert vault.erasure_index(pointer) is None
    # Asked again (D2), the entry is made a leaf first.
    with pytest.raises(Erased) as gone:
        vault.erase(pointer, CONSENT)
    leaf = gone.value.leaf
    assert isinstance(leaf, int)
    assert gone.value.decision.code is DecisionCode.D2
    assert gone.value.decision.outcome is Outcome.ALREADY_ERASED
    assert vault.erasure_index(pointer) == leaf
    with pytest.raises(Erased, match=f"was erased: entry {leaf} of the ledger$") as gone:
        vault.get(pointer)
    assert gone.value.leaf == leaf


def test_an_erased_record_still_proves_inclusion_and_opens_no_more(vault):
    # ER9.
    pointer = put(vault, b"the payload")
    vault.anchor()
    trust = vault.trust()
    before = vault.prove(pointer, disclose=True)
    assert steps_of(before, trust)[Step.OPENING] is StepState.PASSED  # the control
    vault.erase(pointer, CONSENT)
    after = vault.prove(pointer)
    assert after.entry == before.entry
    assert after.opening is None
    report = verify(Evidence.parse(after.format()), trust)
    assert report.verdict is Verdict.VERIFIED
    found = {step.step: step.state for step in report.steps}
    assert found[Step.INCLUSION] is found[Step.LOCAL_ANCHOR] is StepState.PASSED
    assert found[Step.OPENING] is StepState.NOT_CHECKED
    with pytest.raises(Erased):
        vault.prove(pointer, disclose=True)
    assert vault.audit().faults == []


@pytest.mark.parametrize("left", ["key", "body"])
def test_a_destruction_that_left_something_is_incomplete_and_not_done(
    vault, rows, monkeypatch, left
):
    # ER2: it is read back from the stored bytes.
    pointer = put(vault, b"x")
    vault.rectify(pointer, b"y")
    if left == "key":

        def only_the_state(node, position):
            node[position] = keynode.SlotState.ERASED

        monkeypatch.setattr(keynode, "zero_slot", only_the_state)
    else:
        destroy = erasing._destroy

        def restore_a_body(change, record, versions, *rest):
            destroy(change, record, versions, *rest)
            change.connection.exec_driver_sql(
                "UPDATE vault_version SET body = x'00' WHERE slot = ?", (versions[0].slot,)
            )

        monkeypatch.setattr(erasing, "_destroy", restore_a_body)
    with pytest.raises(Incomplete, match=f"^record {pointer}: version 1.* was not destroyed; run"):
        vault.erase(pointer, CONSENT)
    faults = [str(fault) for fault in vault.audit().faults]
    assert faults != []
    with pytest.raises(Erased):
        vault.get(pointer)


def test_an_erasure_that_fails_halfway_changes_nothing(vault, rows, monkeypatch):
    pointer = put(vault, b"x")
    before = counts(rows)

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(erasing, "append_pending", fail)
    with pytest.raises(ZeroDivisionError):
        vault.erase(pointer, CONSENT)
    assert counts(rows) == before
    assert vault.get(pointer) == b"x"
    assert vault.find("999990019") == [pointer]
    monkeypatch.undo()
    assert vault.audit().faults == []
    assert vault.erase(pointer, CONSENT).versions == 1


# Holds (D3)


def test_a_hold_stops_the_erasure_and_its_reason_is_sealed(vault, rows, reopen):
    pointer = put(vault, b"x")
    vault.place_hold(pointer, "hearing of Jansen on 1 May")
    vault.place_hold(pointer, "inspection")
    vault.rectify(pointer, b"y")
    with pytest.raises(Refused) as refused:
        reopen().erase(pointer, CONSENT)
    assert refused.value.decision.code is DecisionCode.D3
    assert refused.value.decision.outcome is Outcome.HELD
    assert "Jansen" not in f"{refused.value} {refused.value.decision}"
    reasons = [bytes(reason) for (reason,) in rows("SELECT reason FROM vault_hold")]
    assert len(reasons) == 2
    assert not any(b"Jansen" in reason for reason in reasons)
    assert vault.get(pointer) == b"y"
    assert vault.audit().faults == []


@pytest.mark.parametrize("reason", ["", "x" * 4_097, "é" * 2_049, "Jansen\udcff"])
def test_a_reason_of_1_to_4096_bytes_is_needed_and_not_repeated(vault, rows, reason):
    pointer = put(vault)
    with pytest.raises(InvalidInput, match=r"^the reason of a hold is ") as refused:
        vault.place_hold(pointer, reason)
    assert "Jansen" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    assert counts(rows)["hold"] == 0
    vault.place_hold(pointer, "x" * 4_096)
    assert counts(rows)["hold"] == 1


# Who and why (PU1, P6)

TWO_PURPOSES = """
[purposes.beheer]
description = "Keeping the records in order"
"""


@pytest.fixture
def two_purposes(vault_folder, passphrase, clock):
    """A vault in which `beheer` is registered and only wmo allows it."""
    path = vault_folder / "datakluis.toml"
    text = path.read_text(encoding="utf-8").replace(
        'afleidingswijze = "afgehandeld"\npurposes = ["inzage"]',
        'afleidingswijze = "afgehandeld"\npurposes = ["inzage", "beheer"]',
    )
    path.write_text(text + TWO_PURPOSES, encoding="utf-8")
    with Vault.open(vault_folder, passphrase, clock=clock) as opened:
        yield opened


def test_a_purpose_that_is_not_registered_is_refused_by_every_call(vault, rows):
    pointer = put(vault)
    before = counts(rows)
    calls = (
        lambda purpose: put(vault, purpose=purpose),
        lambda purpose: vault.put_many([NewRecord(b"", "a")], category="wmo", purpose=purpose),
        lambda purpose: vault.get(pointer, purpose=purpose),
        lambda purpose: vault.history(pointer, purpose=purpose),
        lambda purpose: vault.find("a", purpose=purpose),
        lambda purpose: vault.rectify(pointer, b"", purpose=purpose),
        lambda purpose: vault.decide(pointer, CONSENT, purpose=purpose),
        lambda purpose: vault.erase(pointer, CONSENT, purpose=purpose),
        lambda purpose: vault.place_hold(pointer, "reason", purpose=purpose),
        lambda purpose: vault.prove(pointer, purpose=purpose),
    )
    for call in calls:
        for purpose in ("onderzoek", "", "INZAGE"):
            with pytest.raises(PurposeRefused, match="is not registered; registered are: inzage"):
                call(purpose)
    assert counts(rows) == before
    print(f"{3 * len(calls)} calls with an unregistered purpose: all refused")


def test_a_category_says_for_which_purposes_it_may_be_used(two_purposes):
    letter = put(two_purposes, b"x")
    case = put(two_purposes, b"y", category="wmo", purpose="beheer")
    assert two_purposes.get(case, purpose="beheer") == b"y"
    assert two_purposes.get(letter) == b"x"
    for _ in range(2):  # with a cold cache and with a warm one
        for call in (
            lambda: put(two_purposes, purpose="beheer"),
            lambda: two_purposes.put_many([], category="nieuwsbrief", purpose="beheer"),
            lambda: two_purposes.get(letter, purpose="beheer"),
            lambda: two_purposes.history(letter, purpose="beheer"),
            lambda: two_purposes.rectify(letter, b"", purpose="beheer"),
            lambda: two_purposes.erase(letter, CONSENT, purpose="beheer"),
            lambda: two_purposes.prove(letter, disclose=True, purpose="beheer"),
        ):
            with pytest.raises(
                PurposeRefused, match=r"^category nieuwsbrief does not allow this purpose$"
            ):
                call()
    assert two_purposes.get(letter) == b"x"


def test_acts_name_actor_purpose_and_time(vault_folder, passphrase, clock):
    with Vault.open(vault_folder, passphrase, actor="jansen", clock=clock) as vault:
        pointer = put(vault)
        vault.rectify(pointer, b"2", actor="de vries")
        vault.place_hold(put(vault), "reason", actor="archivaris")
        vault.prove(pointer, disclose=True, actor="auditor")
        clock.day = dt.date(2026, 5, 1)
        vault.erase(pointer, CONSENT)
        with vault._core.database.read() as connection:
            acts = connection.exec_driver_sql(
                "SELECT action, actor, purpose, at FROM vault_act ORDER BY id"
            ).all()
    assert [tuple(act[:3]) for act in acts] == [
        ("put", "jansen", "inzage"),
        ("rectify", "de vries", "inzage"),
        ("put", "jansen", "inzage"),
        ("hold", "archivaris", "inzage"),
        ("disclose", "auditor", "inzage"),
        ("erase", "jansen", "inzage"),
    ]
    assert acts[-1][3] == clock.now() > acts[0][3]


@pytest.mark.parametrize("actor", ["", "x" * 129, "a\nb", "\x1b[31m", "a\udcff"])
def test_an_actor_that_cannot_be_recorded_is_refused_before_anything(
    vault, rows, vault_folder, passphrase, actor
):
    pointer = put(vault)
    before = counts(rows)
    for call in (
        lambda: put(vault, actor=actor),
        lambda: vault.get(pointer, actor=actor),
        lambda: vault.erase(pointer, CONSENT, actor=actor),
        lambda: vault.place_hold(pointer, "reason", actor=actor),
    ):
        with pytest.raises(InvalidInput, match="an actor is 1 to 128 bytes of printable text"):
            call()
    assert counts(rows) == before
    if actor:
        with pytest.raises(InvalidInput, match="an actor is 1 to 128 bytes"):
            Vault.open(vault_folder, passphrase, actor=actor)


# Silence (P3)


def test_no_error_repeats_a_payload_a_subject_or_a_reason(vault, clock, monkeypatch, tmp_path):
    canary = "canary999990019"
    payload = canary.encode()
    held = put(vault, payload, subject=canary)
    vault.place_hold(held, canary)
    kept = put(vault, payload, subject=canary, category="wmo")
    gone = put(vault, payload, subject=canary)
    vault.erase(gone, CONSENT)
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(payload + b"\n")
    attempts = [
        lambda: put(vault, payload, subject=canary + "x" * 256),
        lambda: put(vault, payload, subject=canary + "\udcff"),
        lambda: put(vault, payload + bytes(MAX_PAYLOAD_BYTES), subject=canary),
        lambda: put(vault, payload, subject=canary, category="x"),
        lambda: put(vault, payload, subject=canary, purpose="x"),
        lambda: put(vault, payload, subject=canary, actor="\n"),
        lambda: put(
            vault, payload, subject=canary, category="wmo", record_date=dt.date(2000, 1, 1)
        ),
        lambda: put(vault, payload, subject=canary, brondatum=dt.datetime(2026, 1, 1)),
        lambda: vault.get(canary),
        lambda: vault.find(canary + "x" * 256),
        lambda: vault.place_hold(kept, canary * 400),
        lambda: vault.place_hold(kept, canary + "\udcff"),
        lambda: vault.erase(held, CONSENT),
        lambda: vault.erase(kept, CONSENT),
        lambda: vault.erase(gone, CONSENT),
        lambda: vault.get(gone),
        lambda: vault.rectify(gone, payload),
        lambda: vault.prove(gone, disclose=True),
        lambda: vault.import_jsonl(face.ImportOrder(lines, "wmo", "/bsn")),
        lambda: Vault.open(vault.folder, canary),
    ]
    kinds = set()
    for attempt in attempts:
        with pytest.raises((VaultError, LedgerError, PolicyError)) as refused:
            attempt()
        error = refused.value
        kinds.add(type(error).__name__)
        seen = [error, error.__cause__]
        if not error.__suppress_context__:
            seen.append(error.__context__)
        shown = " ".join(f"{one} {one!r} {vars(one) if one else ''}" for one in seen)
        assert "canary" not in shown
    assert len(kinds) >= 6
    print(f"{len(attempts)} errors of {len(kinds)} kinds: the canary is in none")


def test_damaged_rows_and_blobs_are_refused_without_their_content(vault):
    canary = "canary999990019"
    damages = {
        "UPDATE vault_version SET body = ?": "a sealed blob ",
        "UPDATE vault_record SET category = 'wmo'": "was changed outside the vault",
        "UPDATE vault_record SET brondatum = '1999-01-01'": "was changed outside the vault",
        "UPDATE vault_record SET on_hold = 1": "was changed outside the vault",
        "UPDATE vault_record SET row_tag = NULL": "was changed outside the vault",
        "UPDATE vault_version SET body = NULL": "is live but its newest version is missing",
    }
    for damage, message in damages.items():
        pointer = put(vault, canary.encode(), subject=canary)
        with vault._core.database.write() as connection:
            found = connection.exec_driver_sql("SELECT max(id) FROM vault_record").scalar()
            column = "record_id" if "vault_version" in damage else "id"
            parameters = (canary.encode(),) if "?" in damage else ()
            connection.exec_driver_sql(f"{damage} WHERE {column} = {found}", parameters)
        with pytest.raises(Damaged, match=message) as refused:
            vault.get(pointer)
        assert "canary" not in f"{refused.value} {refused.value!r}"
        if "vault_record" in damage:  # a changed date cannot make an erasure lawful
            for call in (
                lambda pointer=pointer: vault.erase(pointer, CONSENT),
                lambda pointer=pointer: vault.decide(pointer, CONSENT),
                lambda pointer=pointer: vault.rectify(pointer, b""),
                lambda pointer=pointer: vault.place_hold(pointer, "reason"),
            ):
                with pytest.raises(Damaged, match="was changed outside the vault"):
                    call()


# Threads


def run_threads(count, work):
    errors, together = [], threading.Barrier(count)

    def guarded(number):
        try:
            together.wait(timeout=20)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_eight_threads_put_get_rectify_find_and_erase_at_once(vault, reopen):
    payloads = [b"shared %d" % number for number in range(9)]
    shared = {put(vault, payload, subject="shared"): payload for payload in payloads}
    results = [{} for _ in range(8)]
    gone = [set() for _ in range(8)]

    def work(number):
        chance, mine = random.Random(number), results[number]
        for step in range(30):
            payload = b"%d of %d" % (step, number)
            mine[put(vault, payload, subject=f"of {number}")] = payload
            pointer = chance.choice(sorted(mine))
            if step % 3 == 0:
                vault.erase(pointer, CONSENT)
                del mine[pointer]
                gone[number].add(pointer)
                with pytest.raises(Erased):
                    vault.get(pointer)
            elif step % 3 == 1:
                mine[pointer] = payload + b" corrected"
                vault.rectify(pointer, mine[pointer])
            if mine:
                pointer = chance.choice(sorted(mine))
                assert vault.get(pointer) == mine[pointer]
            assert sorted(vault.find(f"of {number}")) == sorted(mine)
            pointer = chance.choice(sorted(shared))
            assert vault.get(pointer) == shared[pointer]

    run_threads(8, work)
    for one in (vault, reopen()):
        for mine in (*results, shared):
            assert all(one.get(pointer) == payload for pointer, payload in mine.items())
        for pointer in itertools.chain(*gone):
            with pytest.raises(Erased):
                one.get(pointer)
    report = vault.audit()
    assert report.faults == []
    erased, living = sum(map(len, gone)), sum(map(len, results)) + len(shared)
    assert report.counts["erased"] == erased == 80
    assert living == 8 * 20 + 9
    print(f"8 threads: {living} records live, {erased} erased, 0 faults")


def test_forty_threads_can_use_one_vault(vault):
    pointers = [put(vault, b"%d" % number, subject=f"of {number}") for number in range(40)]

    def work(number):
        assert vault.get(pointers[number]) == b"%d" % number
        assert vault.find(f"of {number}") == [pointers[number]]
        mine = put(vault, b"new", subject=f"of {number}")
        assert vault.find(f"of {number}") == [pointers[number], mine]

    run_threads(40, work)
    assert vault.audit().faults == []


def test_a_record_is_erased_once_however_many_ask(vault):
    pointer = put(vault)
    outcomes = []

    def work(_):
        try:
            outcomes.append(vault.erase(pointer, CONSENT).versions)
        except Erased as gone:
            outcomes.append(gone)

    run_threads(8, work)
    assert outcomes.count(1) == 1
    assert sum(isinstance(outcome, Erased) for outcome in outcomes) == 7
    assert vault.audit().counts["erased"] == 1
    assert vault.audit().faults == []
