"""The SDK: what an application sees of records, decisions, erasures and errors.

Rows: ER1, ER2, ER3, ER4, ER9, RE1, ST1, ST2, ST3, ST15, PR1, PR2, PR5, PU1.
"""

import datetime as dt
import itertools
import os
import random
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sdk_calls import CONSENT, UNKNOWN, counts, put, steps_of

import vault as face
from anchor.steps import Step, StepState
from ledger.errors import Malformed
from policy import ListNotCarried
from vault import (
    ConfigurationError,
    Damaged,
    InvalidInput,
    NewRecord,
    NotFound,
    Vault,
    WrongPassphrase,
)
from vault.preparing import MAX_PAYLOAD_BYTES

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
    other = (tmp_path / "other" / "keys" / "root-1.key").read_bytes()
    (vault_folder / "keys" / "root-1.key").write_bytes(other)
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
