"""The record cipher: round trips, one place per blob, goldens of another implementation (PR1)."""

import hashlib
import hmac
import importlib.util
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vault import Damaged
from vault.cipher import (
    Cipher,
    RecordKeys,
    Sealed,
    derive_record_keys,
    row_tag,
    row_tag_matches,
)
from vault.records import row_statement

TENANT, POINTER = bytes(range(16)), bytes(range(16, 32))
SLOT_KEY = bytes(range(32))
KEYS = derive_record_keys(SLOT_KEY)
CIPHER = Cipher(TENANT)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
ROWS = st.tuples(
    st.integers(1, 2**32 - 1), st.integers(0, 2**63 - 1), st.booleans(), TEXTS, TEXTS, TEXTS, TEXTS
)


def seal(payload, *, version=1, kind=Sealed.PAYLOAD):
    return CIPHER.seal(KEYS, POINTER, version, payload, os.urandom(12), kind)


def expand(key, info, size):
    """HKDF-Expand, RFC 5869 section 2.3, with nothing but hashlib and hmac."""
    okm = block = b""
    counters = itertools.count(1)
    while len(okm) < size:
        block = hmac.new(key, block + info + bytes([next(counters)]), hashlib.sha256).digest()
        okm += block
    return okm[:size]


def test_the_expansion_of_this_test_is_that_of_rfc_5869():
    # RFC 5869, appendix A.1.
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = expand(prk, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), 42)
    assert okm.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


@given(st.binary(min_size=32, max_size=32))
def test_three_keys_come_from_one_expansion(slot_key):
    okm = expand(slot_key, b"datakluis/record/1", 96)
    keys = derive_record_keys(slot_key)
    assert keys == (okm[:32], okm[32:64], okm[64:])
    assert slot_key not in okm


def test_the_generator_still_writes_the_golden_files():
    folder = Path(__file__).parents[1] / "vectors"
    spec = importlib.util.spec_from_file_location("generate_vault", folder / "generate_vault.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    files = generator.files()
    assert files.keys() == {path.name for path in folder.glob("vault*.json")}
    for name, content in files.items():
        assert (folder / name).read_text(encoding="utf-8") == content


def test_golden_keys_blobs_and_row_tags(golden):
    vector = golden("vault_cipher.json")
    keys = derive_record_keys(bytes.fromhex(vector["slot_key"]))
    expected = vector["keys"]
    assert [key.hex() for key in keys] == [
        expected["encryption"],
        expected["commitment"],
        expected["row"],
    ]
    cipher, pointer = Cipher(bytes.fromhex(vector["tenant"])), bytes.fromhex(vector["pointer"])
    for case in vector["blobs"]:
        nonce, plaintext = bytes.fromhex(case["nonce"]), bytes.fromhex(case["plaintext"])
        version, kind = case["version"], Sealed(case["kind"])
        blob = cipher.seal(keys, pointer, version, plaintext, nonce, kind)
        assert blob.hex() == case["blob"]
        assert cipher.open(keys, pointer, version, blob, kind) == plaintext
    for case in vector["parts"]:
        nonce, plaintext = bytes.fromhex(case["nonce"]), bytes.fromhex(case["plaintext"])
        version, group = case["version"], case["group"]
        blob = cipher.seal(keys, pointer, version, plaintext, nonce, group=group)
        assert blob.hex() == case["blob"]
        assert cipher.open(keys, pointer, version, blob, group=group) == plaintext
    for case in vector["row_tags"]:
        statement = row_statement(pointer, *case["row"])
        assert statement.hex() == case["statement"]
        assert row_tag(keys, statement).hex() == case["tag"]


@given(st.binary(max_size=2_000), st.integers(1, 2**32 - 1), st.sampled_from(Sealed))
@example(b"", 1, Sealed.PAYLOAD)
def test_any_bytes_come_back(payload, version, kind):
    blob = seal(payload, version=version, kind=kind)
    assert len(blob) == 1 + 12 + len(payload) + 16
    assert CIPHER.open(KEYS, POINTER, version, blob, kind) == payload


def test_the_same_plaintext_gives_other_bytes_each_time():
    blobs = [seal(b"the same") for _ in range(1_000)]
    bodies = {blob[13:] for blob in blobs}
    nonces = {blob[1:13] for blob in blobs}
    assert len(bodies) == len(nonces) == 1_000
    # The control: under one nonce they would be the same.
    fixed = {CIPHER.seal(KEYS, POINTER, 1, b"the same", bytes(12)) for _ in range(10)}
    assert len(fixed) == 1


def test_a_blob_opens_in_its_own_place_only():
    blob = seal(b"payload")
    other_keys = derive_record_keys(bytes(32))
    swaps = {
        "pointer": lambda: CIPHER.open(KEYS, bytes(16), 1, blob),
        "version": lambda: CIPHER.open(KEYS, POINTER, 2, blob),
        "kind": lambda: CIPHER.open(KEYS, POINTER, 1, blob, Sealed.NOTE),
        "group": lambda: CIPHER.open(KEYS, POINTER, 1, blob, group=1),
        "tenant": lambda: Cipher(bytes(16)).open(KEYS, POINTER, 1, blob),
        "keys": lambda: CIPHER.open(other_keys, POINTER, 1, blob),
        "commitment key": lambda: CIPHER.open(
            RecordKeys(KEYS.commitment, KEYS.commitment, KEYS.row), POINTER, 1, blob
        ),
    }
    for swap in swaps.values():
        with pytest.raises(Damaged, match="does not open: its bytes were changed"):
            swap()
    assert CIPHER.open(KEYS, POINTER, 1, blob) == b"payload"
    print(f"{len(swaps)} swaps, 0 opened")


def test_every_flipped_bit_is_noticed():
    blob = seal(b"a payload of 32 bytes, as it is!")
    for bit in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            CIPHER.open(KEYS, POINTER, 1, bytes(changed))
    print(f"{8 * len(blob)} flips, 0 opened")


@given(st.binary(max_size=100))
@example(b"")
@example(b"\x01")
@example(b"\x01" + bytes(12))
@example(b"\x01" + bytes(27))
def test_other_bytes_are_damaged_and_are_not_repeated(blob):
    with pytest.raises(Damaged) as refused:
        CIPHER.open(KEYS, POINTER, 1, blob)
    assert str(refused.value) in (
        "a sealed blob has an unknown suite byte",
        "a sealed blob does not open: its bytes were changed",
    )


def test_another_suite_is_named_as_such():
    with pytest.raises(Damaged, match="unknown suite byte"):
        CIPHER.open(KEYS, POINTER, 1, b"\x02" + seal(b"x")[1:])


@given(ROWS, ROWS)
def test_row_tags_tell_any_two_rows_apart(one, other):
    statements = [row_statement(POINTER, *row) for row in (one, other)]
    tag = row_tag(KEYS, statements[0])
    assert len(tag) == 16
    assert row_tag_matches(KEYS, statements[0], tag)
    assert row_tag_matches(KEYS, statements[1], tag) == (one == other)
    assert tag == hmac.new(KEYS.row, statements[0], "sha256").digest()[:16]


def test_a_row_tag_of_another_record_or_length_does_not_match():
    fields = b"a statement"
    tag = row_tag(KEYS, fields)
    assert not row_tag_matches(derive_record_keys(bytes(32)), fields, tag)
    assert not row_tag_matches(KEYS, fields, tag[:15])
    assert not row_tag_matches(KEYS, fields, b"")


def test_no_key_is_shown():
    shown = f"{KEYS!r} {KEYS} {[KEYS]} {CIPHER!r}"
    assert "RecordKeys(…)" in shown
    for key in (*KEYS, SLOT_KEY):
        assert key.hex() not in shown
        assert repr(key) not in shown
