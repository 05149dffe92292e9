"""The subject index: finds everybody, tells two persons apart, confirms nobody who was erased.

Rows: ER4 (all records of a subject), PR2 (no derived identifier), PR5 (unlinkable).
"""

import hashlib
import hmac
import os
import random
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import Damaged, Ground, InvalidInput, KeyLost, NewRecord, Vault, subjects
from vault.subjects import BucketKeys, SubjectIndex, bucket_of, encode_subject

CATEGORY = "nieuwsbrief"
GROUND = Ground.CONSENT_WITHDRAWN


def put_each(vault, names):
    """One record for each name; returns the pointers by name."""
    pointers = []
    records = (NewRecord(b"{}", name) for name in names)
    vault.put_many(records, category=CATEGORY, on_batch=pointers.extend)
    return dict(zip(names, pointers, strict=True))


def bucket_count(vault):
    core = vault._core
    with core.database.read() as connection:
        return core.subject_index(
            connection, core.tree.state(connection), core.read_key(connection)
        ).bucket_count


def clean(vault):
    report = vault.audit()
    assert report.faults == []
    return report.counts


@pytest.mark.parametrize("name", ["x", "é" * 128, "x" * 256, "\0", " ", "999990019", "🙂" * 64])
def test_any_text_of_1_to_256_bytes_is_a_subject(vault, name):
    pointer = vault.put(b"{}", category=CATEGORY, subject=name)
    assert vault.find(name) == [pointer]


REFUSED = {
    "empty": ("", "a subject is 1 to 256 bytes, this has 0"),
    "257 bytes": ("x" * 257, "a subject is 1 to 256 bytes, this has 257"),
    "129 letters of two bytes": ("é" * 129, "a subject is 1 to 256 bytes, this has 258"),
    "lone surrogate": ("Jansen\udcff", "the subject is not valid Unicode text"),
}


@pytest.mark.parametrize(("name", "message"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_without_repeating_it(vault, rows, name, message):
    for attempt in (
        lambda: vault.put(b"{}", category=CATEGORY, subject=name),
        lambda: vault.find(name),
    ):
        with pytest.raises(InvalidInput) as refused:
            attempt()
        assert str(refused.value) == message
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__ or refused.value.__context__ is None
    assert rows("SELECT count(*) FROM vault_record") == [(0,)]
    assert rows("SELECT count(*) FROM vault_subject") == [(0,)]


def test_names_that_look_alike_are_different_persons(vault):
    # Compared byte for byte: nothing is normalised.
    names = ["Zoë", "Zoe\u0308", "zoë", "Zoë ", "Zoë\0", "0123", "123", "０123"]
    pointers = put_each(vault, names)
    assert all(vault.find(name) == [pointer] for name, pointer in pointers.items())
    assert vault.find("ZOË") == []


def test_all_records_of_a_subject_are_found_in_order(vault):
    # ER4: records of one person in three categories, among others.
    mine = []
    for number in range(12):
        category = ("wmo", "kindpakket", CATEGORY)[number % 3]
        mine.append(vault.put(b"{}", category=category, subject="999990019"))
        vault.put(b"{}", category=category, subject=f"other {number}")
    assert vault.find("999990019") == mine
    assert vault.find("999990020") == []


def test_an_empty_vault_finds_nobody(vault):
    assert vault.find("999990019") == []


def test_subjects_that_repeat_within_a_batch_get_one_row(vault, rows):
    put_each(vault, ["a"])
    records = [NewRecord(b"{}", name) for name in ["a", "b", "a", "b", "c"]]
    vault.put_many(records, category=CATEGORY)
    assert rows("SELECT count(*) FROM vault_subject") == [(3,)]
    assert [len(vault.find(name)) for name in "abc"] == [3, 2, 1]


def test_three_thousand_subjects_in_many_buckets_are_all_found(vault, rows, monkeypatch):
    monkeypatch.setattr(subjects, "SUBJECTS_PER_BUCKET", 8)
    names = [f"9{number:08d}" for number in range(3_000)]
    random.Random(3).shuffle(names)
    pointers = {}
    for start in range(0, 3_000, 700):
        pointers |= put_each(vault, names[start : start + 700])
    assert bucket_count(vault) == 375
    assert all(vault.find(name) == [pointer] for name, pointer in pointers.items())
    assert not any(vault.find(name + "0") for name in names[:200])
    sizes = [
        count for (count,) in rows("SELECT count(*) FROM vault_subject GROUP BY bucket ORDER BY 1")
    ]
    assert sum(sizes) == 3_000
    assert len(rows("SELECT 1 FROM vault_bucket")) == 375
    clean(vault)
    print(f"3,000 subjects, 375 buckets of {sizes[0]} to {sizes[-1]}: 3,000 found, 200 not there")


def test_every_growth_by_one_keeps_everybody_findable(vault, monkeypatch):
    monkeypatch.setattr(subjects, "SUBJECTS_PER_BUCKET", 2)
    pointers = {}
    for number in range(60):
        pointers |= put_each(vault, [f"person {number}"])
        assert bucket_count(vault) == max(1, (number + 2) // 2)
        assert all(vault.find(name) == [pointer] for name, pointer in pointers.items())
    clean(vault)


def test_buckets_stay_large_where_subjects_come_and_go(vault, rows, monkeypatch):
    # The fewer share a bucket, the more its number says of each: N follows who is there now.
    monkeypatch.setattr(subjects, "SUBJECTS_PER_BUCKET", 4)
    pointers = put_each(vault, ["first"])
    for number in range(60):
        pointers |= put_each(vault, [f"person {number}"])
        oldest = next(iter(pointers))
        vault.erase(pointers.pop(oldest), GROUND)
    assert rows("SELECT count(*) FROM vault_subject") == [(1,)]
    assert rows("SELECT max(id) FROM vault_subject") == [(61,)]
    assert bucket_count(vault) == 1
    # The control: with as many at once, it does grow.
    put_each(vault, [f"resident {number}" for number in range(60)])
    assert bucket_count(vault) == 16
    clean(vault)


def test_at_its_real_size_a_bucket_holds_64_to_128(vault, rows):
    put_each(vault, [f"9{number:08d}" for number in range(3_000)])
    assert bucket_count(vault) == 24
    counts = [count for (count,) in rows("SELECT count(*) FROM vault_subject GROUP BY bucket")]
    assert sum(counts) / len(counts) == 125
    assert min(counts) > 40  # 24 lies between 16 and 32: some buckets are split, some are not


@given(st.binary(min_size=1, max_size=40), st.integers(1, 5_000))
def test_a_bucket_number_is_below_n(subject, buckets):
    assert 0 <= bucket_of(subject, buckets) < buckets
    assert bucket_of(subject, 1) == 0


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=50), st.integers(1, 600))
def test_growing_by_one_moves_members_of_one_bucket_to_the_new_one_only(members, buckets):
    split = buckets - (1 << (buckets.bit_length() - 1))
    for subject in members:
        before, after = bucket_of(subject, buckets), bucket_of(subject, buckets + 1)
        assert after == before or (before == split and after == buckets)


def test_subjects_are_spread_evenly():
    counts = [0] * 32
    for number in range(32_000):
        counts[bucket_of(f"9{number:08d}".encode(), 32)] += 1
    assert 850 < min(counts) <= max(counts) < 1_150


def test_golden(golden):
    vector = golden("vault_subjects.json")
    for case in vector["subjects"]:
        keys = BucketKeys.derive(case["bucket"], bytes.fromhex(vector["key"]))
        subject = case["subject"].encode()
        assert keys.tag_of(subject).hex() == case["tag"]
        assert keys.open_subject(case["row"], bytes.fromhex(case["sealed"])) == subject
        for buckets, number in case["bucket_of"].items():
            assert bucket_of(subject, int(buckets)) == number


def test_a_sealed_subject_opens_in_its_own_bucket_only():
    key = os.urandom(32)
    keys = BucketKeys.derive(4, key)
    sealed = keys.seal_subject(3, b"999990019", os.urandom(12))
    assert keys.open_subject(3, sealed) == b"999990019"
    for other in (BucketKeys.derive(5, key), BucketKeys.derive(4, os.urandom(32))):
        with pytest.raises(Damaged, match=f"subject row 3 in bucket {other.number} does not open"):
            other.open_subject(3, sealed)
    with pytest.raises(Damaged):
        keys.open_subject(4, sealed)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            keys.open_subject(3, bytes(changed))
    for short in (b"", sealed[:5], sealed[:12], sealed[:27]):
        with pytest.raises(Damaged):
            keys.open_subject(3, short)


def test_bucket_keys_are_not_shown():
    keys = BucketKeys.derive(4, bytes(32))
    shown = f"{keys!r} {keys}"
    assert shown == "BucketKeys(4) BucketKeys(4)"


def tags_of(rows):
    return {row[0]: bytes(row[1]) for row in rows("SELECT id, tag FROM vault_subject")}


def test_forgetting_one_gives_the_others_new_tags_and_drops_the_key(vault, rows):
    pointers = put_each(vault, [f"person {number}" for number in range(20)])
    before = tags_of(rows)
    ((slot,),) = rows("SELECT slot FROM vault_bucket")
    vault.erase(pointers.pop("person 7"), GROUND)
    after = tags_of(rows)
    assert len(after) == 19
    assert set(before.values()).isdisjoint(after.values())
    ((new_slot,),) = rows("SELECT slot FROM vault_bucket")
    assert new_slot != slot
    core = vault._core
    with core.database.read() as connection:
        read_key = core.read_key(connection)
        assert len(read_key(new_slot)) == 32
        with pytest.raises(KeyLost, match="is erased, not live"):
            read_key(slot)
    assert vault.find("person 7") == []
    assert all(vault.find(name) == [pointer] for name, pointer in pointers.items())
    clean(vault)


def test_only_the_last_record_of_a_subject_takes_the_subject_along(vault, rows):
    names = ["999990019", "other"]
    first = put_each(vault, names)["999990019"]
    second = vault.put(b"{}", category=CATEGORY, subject="999990019")
    before = tags_of(rows)
    vault.erase(first, GROUND)
    assert tags_of(rows) == before  # somebody else's record still needs it
    assert vault.find("999990019") == [second]
    vault.erase(second, GROUND)
    assert vault.find("999990019") == []
    assert len(tags_of(rows)) == 1
    assert set(tags_of(rows).values()).isdisjoint(before.values())


def test_an_old_index_confirms_nobody_with_the_keys_that_are_left(vault, rows):
    # PR2: a copy of the index from before, every key of the tree from after, every guess tried.
    names = [f"9{number:08d}" for number in range(40)]
    pointers = put_each(vault, names)
    old_tags = set(tags_of(rows).values())
    core = vault._core

    def guesses_that_match():
        with core.database.read() as connection:
            read_key = core.read_key(connection)
            keys = []
            for slot in range(core.tree.state(connection).next_slot):
                try:
                    keys.append(BucketKeys.derive(0, read_key(slot)))
                except KeyLost:
                    continue
        tried = [(key, name) for key in keys for name in names]
        return len(tried), sum(key.tag_of(name.encode()) in old_tags for key, name in tried)

    tried, matched = guesses_that_match()
    assert matched == 40  # the control: while the bucket's key lives, every guess is confirmed
    vault.erase(pointers["900000000"], GROUND)
    tried, matched = guesses_that_match()
    assert matched == 0
    # And no unkeyed digest of a subject is stored in its place.
    unkeyed = {digest(name.encode())[:16] for name in names for digest in UNKEYED}
    assert unkeyed.isdisjoint({*tags_of(rows).values(), *old_tags})
    print(f"{tried} guesses on the old index with the keys left: 0 confirmed; before: 40")


UNKEYED = (
    lambda name: hashlib.sha256(name).digest(),
    lambda name: hashlib.sha1(name).digest(),
    lambda name: hashlib.md5(name).digest(),
    lambda name: hmac.digest(b"", name, "sha256"),
)


def test_two_vaults_tag_the_same_subjects_differently(vault, rows, tmp_path, passphrase):
    names = [f"9{number:08d}" for number in range(50)]
    put_each(vault, names)
    with Vault.create(tmp_path / "other", passphrase) as other:
        put_each(other, names)
        with other._core.database.read() as connection:
            found = connection.exec_driver_sql("SELECT tag, sealed FROM vault_subject").all()
    theirs = {bytes(value) for row in found for value in row}
    ours = {bytes(value) for row in rows("SELECT tag, sealed FROM vault_subject") for value in row}
    assert len(ours) == len(theirs) == 100
    assert ours.isdisjoint(theirs)


def test_a_second_process_finds_what_the_first_one_indexed_anew(vault, reopen, monkeypatch):
    monkeypatch.setattr(subjects, "SUBJECTS_PER_BUCKET", 3)
    other = reopen()
    pointers = {}
    for number in range(30):
        writer, reader = (vault, other) if number % 2 else (other, vault)
        pointers |= put_each(writer, [f"person {number}"])
        if number % 5 == 4:
            writer.erase(pointers.pop(f"person {number - 2}"), GROUND)
            assert reader.find(f"person {number - 2}") == []
        assert all(reader.find(name) == [pointer] for name, pointer in pointers.items())
    clean(other)


def test_a_change_that_fails_leaves_no_keys_behind(vault, rows, reopen, monkeypatch):
    # A slot that was handed out in vain is handed out again, here by another process: nothing may
    # remember its first key.
    monkeypatch.setattr(subjects, "SUBJECTS_PER_BUCKET", 1)
    pointers = put_each(vault, ["a"])

    def fail():
        with vault._core.change() as change:
            change.subjects.ensure(change.edit, [b"b", b"c", b"d"])
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert rows("SELECT count(*) FROM vault_bucket") == [(1,)]
    pointers |= put_each(reopen(), ["e", "f", "g"])
    assert all(vault.find(name) == [pointer] for name, pointer in pointers.items())
    assert [vault.find(name) for name in "bcd"] == [[], [], []]
    clean(vault)


def test_more_subjects_than_a_query_takes_parameters(vault):
    pointers = put_each(vault, [f"person {number}" for number in range(1_000)])
    records = (NewRecord(b"{}", name) for name in pointers)
    vault.put_many(records, category=CATEGORY)
    assert all(len(vault.find(name)) == 2 for name in list(pointers)[::50])


def test_a_missing_bucket_is_an_error_that_names_it(vault, vault_folder, passphrase, tmp_path):
    put_each(vault, ["a"])
    vault.close()
    copy = shutil.copytree(vault_folder, tmp_path / "copy")
    with Vault.open(copy, passphrase) as damaged:
        core = damaged._core
        with core.database.write() as connection:
            connection.exec_driver_sql("UPDATE vault_bucket SET number = 1")
        with core.database.read() as connection:
            index = SubjectIndex(connection, core.read_key(connection), {})
            with pytest.raises(Damaged, match="bucket 0 of the subject index is missing"):
                index.keys(0)
        faults = " ".join(map(str, damaged.audit().faults))
        assert "subject index: a bucket is missing" in faults


def test_subjects_are_encoded_as_utf_8():
    assert encode_subject("Zoë") == b"Zo\xc3\xab"
