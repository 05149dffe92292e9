"""Pointers and entries: one spelling each, held against byte patterns and golden vectors."""

import base64
import json
import re
import string
import traceback
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ledger_fixtures import VECTORS, load_generator

from ledger import entry as entry_module
from ledger import pointer as pointer_module
from ledger.action import Resume, Stop
from ledger.approval import Approval
from ledger.entry import (
    CommitmentSuite,
    Entry,
    EntryKind,
    Membership,
    encode_certificate,
    encode_erasure,
    encode_governance,
    encode_listed_erasure,
    encode_shred,
    encode_version,
    parse_entry,
    pointer_of,
)
from ledger.errors import Malformed
from ledger.pointer import format_pointer, parse_pointer

ENTRIES = json.loads((VECTORS / "entry.json").read_text(encoding="utf-8"))
POINTERS = json.loads((VECTORS / "entry_pointer.json").read_text(encoding="utf-8"))

# 25 characters hold 125 bits; the last one holds three more and two spare bits, which are zero.
POINTER_TEXT = re.compile(r"[a-z2-7]{25}[aeimquy4]")
NOT_ZERO = rb"(?!\x00{4})[\x00-\xff]{4}"
OF_WHAT = rb"[\x00-\xff]{16}" + NOT_ZERO
# An approval: key, an expiry below 2^63, signature.
APPROVAL = rb"[\x00-\xff]{32}[\x00-\x7f][\x00-\xff]{7}[\x00-\xff]{64}"
ENTRY_BYTES = re.compile(
    rb"\x01(?:\x01\x01[\x00-\x0f\x80]|\x03\x00[\x00-\x0f])" + OF_WHAT + rb"[\x00-\xff]{32}"
    rb"|\x01(?:\x02\x00[\x00-\x0f]|\x04\x00[\x00\x01])" + OF_WHAT
    + rb"|\x01\x06\x00[\x00-\x0f]" + OF_WHAT + NOT_ZERO
    + rb"[\x00-\xff]{4}(?:[\x00-\xff]{32}){0,32}"
    # Of governance entries those that stop and resume: tests/ledger/test_action.py has them all.
    + rb"|\x01\x05\x00[\x07\x08]\x00{16}" + NOT_ZERO + rb"(?:\x00|\x01" + APPROVAL + rb")",
    re.DOTALL,
)  # fmt: skip

pointers = st.binary(min_size=16, max_size=16)
versions = st.integers(1, 2**32 - 1)
commitments = st.binary(min_size=32, max_size=32)
groups = st.integers(0, 15)
memberships = st.builds(
    Membership,
    versions,
    st.integers(0, 2**32 - 1),
    st.lists(commitments, max_size=32).map(tuple),
)
approvals = st.builds(
    Approval, commitments, st.integers(0, 2**63 - 1), st.binary(min_size=64, max_size=64)
)
entries = st.one_of(
    st.builds(encode_version, pointers, versions, commitments, groups),
    st.builds(encode_erasure, pointers, versions, groups),
    st.builds(encode_certificate, pointers, versions, commitments, groups),
    st.builds(encode_shred, pointers, st.integers(0, 1), versions),
    st.builds(partial(encode_version, governed=True), pointers, versions, commitments),
    st.builds(encode_listed_erasure, pointers, versions, memberships, groups),
    st.builds(
        encode_governance,
        versions,
        st.sampled_from([Stop(), Resume()]),
        st.lists(approvals, max_size=1),
    ),
)
# One of each kind, the two with 32 bytes behind the head first.
ONE_OF_EACH = (
    encode_version(b"p" * 16, 1, b"c" * 32),
    encode_certificate(b"p" * 16, 1, b"d" * 32),
    encode_erasure(b"p" * 16, 1),
    encode_shred(b"t" * 16, 0, 1),
    encode_listed_erasure(b"p" * 16, 1, Membership(7, 0, ())),
    encode_governance(1, Stop(), ()),
)


def accepts_pointer(text: str) -> bool:
    """Whether a text is taken for a pointer; anything but bytes or Malformed ends the test."""
    try:
        found = parse_pointer(text)
    except Malformed:
        return False
    assert format_pointer(found) == text
    assert len(found) == 16
    return True


def accepts_entry(data: bytes) -> bool:
    try:
        found = parse_entry(data)
    except Malformed:
        return False
    assert found.encode() == data
    assert found.pointer == pointer_of(data) == data[4:20]
    return True


def test_the_vectors_are_what_their_generator_writes():
    for name, content in load_generator().files().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == content, name


@pytest.mark.parametrize("vector", POINTERS, ids=[v["text"] for v in POINTERS])
def test_golden_pointers(vector):
    assert format_pointer(bytes.fromhex(vector["bytes"])) == vector["text"]
    assert parse_pointer(vector["text"]).hex() == vector["bytes"]


def test_the_pointer_in_the_docstring_is_one():
    found = re.search(r"([0-9a-f]{32})  ->  (\S+)", pointer_module.__doc__)
    assert format_pointer(bytes.fromhex(found[1])) == found[2]


@given(pointers)
def test_pr2_a_pointer_reads_back_and_has_26_characters(pointer):
    text = format_pointer(pointer)
    assert POINTER_TEXT.fullmatch(text)
    assert parse_pointer(text) == pointer


@given(pointers)
def test_a_pointer_is_named_as_the_standard_library_would(pointer):
    assert format_pointer(pointer) == base64.b32encode(pointer).decode().rstrip("=").lower()


def test_a_pointer_has_one_name_the_spare_bits_are_zero():
    stem = format_pointer(bytes(range(16)))[:-1]
    last = string.ascii_lowercase + "234567"
    taken = [character for character in last if accepts_pointer(stem + character)]
    print(f"{len(taken)} of {len(last)} last characters name a pointer")
    assert taken == list("aeimquy4")
    # Control: Python's own decoder takes all of them.
    assert all(len(base64.b32decode((stem + c).upper() + "======")) == 16 for c in last)


@given(
    st.one_of(
        st.text(),
        st.text(string.ascii_letters + string.digits + "= \n-", min_size=24, max_size=28),
        st.text(string.ascii_lowercase + "234567", min_size=26, max_size=26),
        st.binary(min_size=14, max_size=18).map(format_pointer),
    )
)
@example("")
@example("=" * 26)
@example("\ud800" * 26)
@example("999999990")
def test_only_what_format_writes_is_a_pointer(text):
    assert accepts_pointer(text) == (POINTER_TEXT.fullmatch(text) is not None)


@given(pointers, st.integers(0, 26), st.characters(), st.booleans())
def test_a_pointer_with_one_character_changed_is_another_or_none(pointer, place, other, insert):
    text = format_pointer(pointer)
    changed = text[:place] + other + text[place + (0 if insert else 1) :]
    if accepts_pointer(changed) and changed != text:
        assert parse_pointer(changed) != pointer


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda t: t.replace("s", "ſ"),  # upper-cases to S
        lambda t: t.replace("i", "ı"),  # upper-cases to I
        lambda t: t.replace("k", "\u212a"),  # lower-cases to k
        lambda t: f" {t}",
        lambda t: f"{t}\n",
        lambda t: f"{t}======",
        lambda t: t[:-1],
        lambda t: f"{t}a",
        lambda t: f"{t[:13]}-{t[13:]}",
    ],
)
def test_no_second_spelling_of_a_pointer(change):
    text = "aaisem2ekvthpcezvk54zxpo74"
    assert {"s", "i", "k"} <= set(text)
    assert accepts_pointer(text)
    assert change(text) != text
    assert not accepts_pointer(change(text))


@pytest.mark.parametrize("text", ["999999990", "J. Jansen", "a" * 25 + "b", "bsn=999999990" * 2])
def test_what_a_caller_passed_by_mistake_is_not_repeated(text):
    """P3: an error message or a stack trace must not carry an identifier of a person."""
    with pytest.raises(Malformed) as caught:
        parse_pointer(text)
    whole = "".join(traceback.format_exception(caught.value))
    assert text not in whole
    assert caught.value.__context__ is None


MADE = {
    EntryKind.VERSION: lambda e: encode_version(
        e.pointer, e.version, e.body, e.group, governed=e.governed
    ),
    EntryKind.ERASURE: lambda e: encode_erasure(e.pointer, e.version, e.group),
    EntryKind.CERTIFICATE: lambda e: encode_certificate(e.pointer, e.version, e.body, e.group),
    EntryKind.SHRED: lambda e: encode_shred(e.pointer, e.group, e.version),
}


@pytest.mark.parametrize("vector", ENTRIES, ids=[v["entry"][:56] for v in ENTRIES])
def test_golden_entries(vector):
    pointer, commitment = bytes.fromhex(vector["pointer"]), bytes.fromhex(vector["commitment"])
    data, version = bytes.fromhex(vector["entry"]), vector["version"]
    kind = EntryKind[vector["kind"].upper()]
    suite = CommitmentSuite(kind is EntryKind.VERSION)
    expected = Entry(kind, pointer, version, vector.get("group", 0), suite, commitment)
    assert expected.encode() == data == MADE[kind](expected)
    assert parse_entry(data) == expected


def test_the_vectors_hold_every_kind_and_the_first_and_last_group():
    found = {(vector["kind"], vector.get("group", 0)) for vector in ENTRIES}
    records = {(kind, n) for kind in ("version", "erasure", "certificate") for n in (0, 1, 2, 15)}
    assert found == records | {("shred", 0), ("shred", 1)}


def test_without_a_group_it_is_the_core():
    of, committed = b"p" * 16, b"c" * 32
    assert encode_version(of, 3, committed) == encode_version(of, 3, committed, 0)
    assert encode_erasure(of, 3) == encode_erasure(of, 3, 0)
    assert encode_certificate(of, 3, committed) == encode_certificate(of, 3, committed, 0)


def test_the_entries_in_the_docstring_are_some():
    lines = re.findall(r"^    (01 0[1346] 0[01] [08]0 .*)$", entry_module.__doc__, re.MULTILINE)
    found = [re.sub("(..)…\\1", lambda m: m[1] * 30, line) for line in lines]
    pointer = parse_pointer("aaisem2ekvthpcezvk54zxpo74")
    assert [bytes.fromhex(line) for line in found] == [
        encode_version(pointer, 1, b"\xaa" * 32),
        encode_version(pointer, 1, b"\xaa" * 32, governed=True),
        encode_certificate(pointer, 1, b"\xbb" * 32),
        encode_shred(b"\xcc" * 16, 0, 1),
        encode_listed_erasure(pointer, 1, Membership(7, 0, ())),
    ]


@given(entries)
def test_an_entry_reads_back(data):
    assert ENTRY_BYTES.fullmatch(data)
    assert accepts_entry(data)


@given(st.one_of(st.binary(max_size=80), st.tuples(entries, st.binary(max_size=3)).map(b"".join)))
@example(b"")
def test_only_what_encode_writes_is_an_entry(data):
    assert accepts_entry(data) == (ENTRY_BYTES.fullmatch(data) is not None)


@given(entries, st.integers(0, 55), st.integers(0, 255))
def test_an_entry_with_one_byte_changed_is_another_or_none(data, place, value):
    place %= len(data)
    changed = data[:place] + bytes([value]) + data[place + 1 :]
    assert accepts_entry(changed) == (ENTRY_BYTES.fullmatch(changed) is not None)
    if accepts_entry(changed) and changed != data:
        assert parse_entry(changed) != parse_entry(data)


def test_every_head_and_every_length():
    """Each value of each head byte alone, each pair of kind and suite, each length."""
    cases = [data[:length] for data in ONE_OF_EACH for length in range(len(data) + 1)]
    cases += [data + bytes(extra) for data in ONE_OF_EACH for extra in range(1, 40)]
    for data in ONE_OF_EACH:
        for place in range(4):
            cases += [data[:place] + bytes([v]) + data[place + 1 :] for v in range(256)]
        cases += [data[:1] + bytes([k, s]) + data[3:] for k in range(256) for s in range(256)]
    taken = sum(accepts_entry(data) for data in cases)
    print(f"{taken} of {len(cases)} heads and lengths are entries")
    assert taken == sum(ENTRY_BYTES.fullmatch(data) is not None for data in cases)
    # Whole, the originals once more per way of changing them; each as another kind of its length
    # and in every group, which shreds have only two of; the core of a governed record.
    version, certificate, erasure, shred, listed, stop = ONE_OF_EACH
    others = {one[:4] + two[4:] for one in ONE_OF_EACH for two in ONE_OF_EACH
              if len(one) == len(two)}  # fmt: skip
    others |= {
        data[:3] + bytes([group]) + data[4:]
        for data in (version, certificate, erasure, listed)
        for group in range(16)
    }
    others |= {shred[:3] + b"\x01" + shred[4:], version[:3] + b"\x80" + version[4:]}
    others |= {stop[:3] + b"\x08" + stop[4:]}
    # A place on a list has as many hashes as it likes.
    others |= {listed + bytes(32)}
    # A bare entry with 32 bytes behind it has the length of the others, but not their kind.
    found = {bytes(data) for data in cases if accepts_entry(data)}
    assert found == others


def test_version_zero_is_refused_and_the_largest_is_not():
    assert not accepts_entry(encode_version(b"p" * 16, 0, b"c" * 32))
    assert not accepts_entry(encode_erasure(b"p" * 16, 0))
    assert not accepts_entry(encode_certificate(b"p" * 16, 0, b"d" * 32))
    assert not accepts_entry(encode_shred(b"t" * 16, 0, 0))
    assert parse_entry(encode_erasure(b"p" * 16, 2**32 - 1)).version == 2**32 - 1


@given(entries)
def test_p3_an_entry_has_no_room_for_text_time_or_category(data):
    """What is not pointer, number and digest is a fixed head and one of sixteen groups."""
    heads = {("010101", 56): 16, ("010200", 24): 16, ("010300", 56): 16, ("010400", 24): 2}
    if data[1] == 6:  # A number of a list, one of an item, and hashes.
        assert (data[3] < 16, len(data) % 32) == (True, 0)
    elif data[1] == 5:  # An action without parameters; an approval is key, number and signature.
        assert (data[4:20], data[24:25] + data[25:][104:]) in {
            (bytes(16), b"\0"),
            (bytes(16), b"\1"),
        }
    else:
        assert data[3] < heads[data[:3].hex(), len(data)] or data[:4].hex() == "01010180"
