"""Actions and approvals: every byte pattern by an expression of its own, and what they sign."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import pytest
from governance_entries import FOUR, found, key_of, member
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from ledger import action as action_module
from ledger import approval as approval_module
from ledger.action import (
    MAX_MEMBERS,
    RULED,
    ActionKind,
    AddMember,
    EnactList,
    Found,
    Member,
    Prune,
    RemoveMember,
    Resume,
    Role,
    Rule,
    SetRule,
    Stop,
    action_digest,
    is_sound_key,
    parse_action,
)
from ledger.approval import Approval, approval_message, approve, encode_body, parse_body
from ledger.errors import Malformed

ORIGIN = "datakluis.example/één"

keys = st.binary(min_size=32, max_size=32)
roles = st.frozensets(st.sampled_from(Role), min_size=1)
rules = roles.flatmap(
    lambda may: st.builds(
        Rule,
        st.integers(1, 255),
        st.just(may),
        st.frozensets(st.sampled_from(sorted(may))),
        st.integers(1, 255),
    )
)
members = st.builds(Member, keys, st.binary(min_size=16, max_size=16), st.sampled_from(Role))
some_members = st.lists(members, max_size=5, unique_by=lambda one: one.key).map(
    lambda found: tuple(sorted(found))
)
actions = st.one_of(
    st.builds(Found, some_members, st.tuples(*[rules] * 7)),
    st.builds(AddMember, members),
    st.builds(RemoveMember, keys),
    st.builds(SetRule, st.sampled_from(RULED), rules),
    st.builds(EnactList, keys, st.integers(1, 2**32 - 1)),
    st.builds(Prune, st.integers(1, 2**63 - 1), keys),
    st.just(Stop()),
    st.just(Resume()),
)
approvals = st.lists(
    st.builds(Approval, keys, st.integers(0, 2**63 - 1), st.binary(min_size=64, max_size=64)),
    max_size=4,
    unique_by=lambda one: one.key,
)

ANY = rb"[\x00-\xff]"
MEMBER = ANY + rb"{16}[\x01-\x04]" + ANY + rb"{32}"
MASKS = rb"|".join(
    re.escape(bytes([may])) + rb"[" + b"".join(re.escape(bytes([must])) for must in range(16)
    if must & may == must) + rb"]" for may in range(1, 16)
)  # fmt: skip
RULE = rb"[\x01-\xff](?:" + MASKS + rb")[\x01-\xff]"
NUMBER = rb"(?!\x00{8})[\x00-\x7f]" + ANY + rb"{7}"
PARAMETERS = {
    2: MEMBER,
    3: ANY + rb"{32}",
    4: rb"[\x02-\x08]" + RULE,
    5: ANY + rb"{32}(?!\x00{4})" + ANY + rb"{4}",
    6: NUMBER + ANY + rb"{32}",
    7: rb"",
    8: rb"",
}


def by_its_bytes(kind: int, body: bytes) -> bool:
    """Whether a body is one, told by expressions and offsets alone."""
    rest = body
    if kind == 1:
        count = body[0] if body else MAX_MEMBERS + 1
        rows = [body[1 + 49 * n : 50 + 49 * n] for n in range(count)]
        known = [row[17:] for row in rows]
        rest = body[1 + 49 * count :]
        ruled = re.compile(rb"(?:" + RULE + rb"){7}", re.S).match(rest)
        fine = count <= MAX_MEMBERS and all(re.fullmatch(MEMBER, row, re.S) for row in rows)
        if not fine or ruled is None or any(a >= b for a, b in pairwise(known)):
            return False
        rest = rest[28:]
    elif kind in PARAMETERS:
        match = re.compile(PARAMETERS[kind], re.S).match(body)
        if match is None:
            return False
        rest = body[match.end() :]
    else:
        return False
    if not rest or len(rest) != 1 + 104 * rest[0]:
        return False
    rows = [rest[1 + 104 * n : 105 + 104 * n] for n in range(rest[0])]
    signers = [row[:32] for row in rows]
    rising = all(a < b for a, b in pairwise(signers))
    return rising and all(row[32] < 128 for row in rows)


def accepts(kind: int, body: bytes) -> bool:
    try:
        action, approved = parse_body(kind, body)
    except Malformed:
        return False
    assert encode_body(action, approved) == body
    return True


@given(actions, approvals)
def test_a_body_reads_back_and_keeps_the_order_of_keys(action, approved):
    body = encode_body(action, approved)
    assert body == encode_body(action, reversed(approved))
    assert parse_body(action.kind, body) == (action, tuple(sorted(approved)))
    assert by_its_bytes(action.kind, body)


@given(actions, approvals, st.data())
def test_only_what_encode_writes_is_a_body(action, approved, data):
    body = bytearray(encode_body(action, approved))
    kind = data.draw(st.one_of(st.just(int(action.kind)), st.integers(0, 10)))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    assert accepts(kind, bytes(body)) == by_its_bytes(kind, bytes(body))


@given(actions)
def test_parameters_read_back(action):
    assert parse_action(action.kind, action.parameters()) == action


@pytest.mark.parametrize("action", [Stop(), EnactList(b"r" * 32, 1), AddMember(FOUR[0])])
def test_nothing_stands_behind_parameters(action):
    """One byte 0x01 and 103 more have the length of an approval once a 0x00 is put behind them."""
    for more in (b"\0", b"\1" + bytes(103), b"\1" + bytes(104), b"\2" + bytes(207)):
        with pytest.raises(Malformed):
            parse_action(action.kind, action.parameters() + more)


def test_the_message_of_an_approval_is_that_of_the_docstring():
    action = EnactList(b"\xaa" * 32, 3)
    digest = hashlib.sha256(b"datakluis/action/1\n\x05" + b"\xaa" * 32 + b"\0\0\0\3").digest()
    assert action_digest(action) == digest
    name = ORIGIN.encode()
    expected = (
        b"datakluis/approval/1\n" + len(name).to_bytes(2, "big") + name + b"\0\0\0\7" + digest
    )
    expected += (9).to_bytes(8, "big")
    assert approval_message(ORIGIN, 7, action, 9) == expected
    made = approve(key_of("officer"), ORIGIN, 7, action, 9)
    VerifyKey(made.key).verify(expected, made.signature)
    assert "length of the ledger's origin in UTF-8 (2)" in approval_module.__doc__


def test_an_approval_holds_for_one_action_in_one_state_of_one_ledger_until_one_size():
    action = EnactList(b"r" * 32, 3)
    made = approve(key_of("officer"), ORIGIN, 7, action, 9)
    assert made.holds(ORIGIN, 7, action)
    others = [
        (made, "datakluis.example/elders", 7, action),
        (made, ORIGIN, 8, action),
        (made, ORIGIN, 6, action),
        (made, ORIGIN, 7, EnactList(b"r" * 32, 4)),
        (made, ORIGIN, 7, EnactList(b"s" * 32, 3)),
        (made, ORIGIN, 7, Stop()),
        (Approval(made.key, 10, made.signature), ORIGIN, 7, action),
        (Approval(member("archivist").key, 9, made.signature), ORIGIN, 7, action),
        (Approval(made.key, 9, bytes(64)), ORIGIN, 7, action),
    ]
    assert [one.holds(*rest) for one, *rest in others] == [False] * len(others)


@given(actions, actions)
def test_no_two_actions_have_one_digest(one, other):
    assert (action_digest(one) == action_digest(other)) == (one == other)


# Each point of small order, in each spelling of it that fits 32 bytes (libsodium's own list).
SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
]


def test_a_key_of_small_order_is_no_members_and_signs_nothing():
    """Under the neutral point R = point, S = 0 satisfies the equation for every message."""
    action, seen = Stop(), 0
    for text in SMALL_ORDER:
        for sign in (0, 0x80):
            key = bytes.fromhex(text[:-2]) + bytes([int(text[-2:], 16) | sign])
            assert not is_sound_key(key)
            for r in (key, b"\1" + bytes(31)):
                assert not Approval(key, 9, r + bytes(32)).holds(ORIGIN, 1, action)
                seen += 1
    assert all(is_sound_key(one.key) for one in FOUR)
    print(f"{seen} signatures under keys of small order, 0 hold")
    # Control: an implementation without these checks takes the forgery.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    neutral = b"\1" + bytes(31)
    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"anything at all")


def test_a_key_with_a_part_of_small_order_is_no_members():
    """Whether it signed something depends on whether an implementation clears the cofactor."""
    from nacl.bindings import crypto_core_ed25519_add

    mixed = crypto_core_ed25519_add(FOUR[0].key, bytes.fromhex(SMALL_ORDER[2]))
    assert not is_sound_key(mixed)


def test_a_signature_has_one_spelling():
    order = 2**252 + 27742317777372353535851937790883648493
    made = approve(key_of("officer"), ORIGIN, 1, Stop(), 9)
    s = int.from_bytes(made.signature[32:], "little") + order
    other = Approval(made.key, 9, made.signature[:32] + s.to_bytes(32, "little"))
    assert (made.holds(ORIGIN, 1, Stop()), other.holds(ORIGIN, 1, Stop())) == (True, False)


def test_a_founding_has_at_most_100_members():
    many = [Member(bytes([n, *bytes(31)]), bytes(16), Role.OFFICER) for n in range(101)]
    assert accepts(1, encode_body(found(*many[:100]), ()))
    assert not accepts(1, encode_body(found(*many), ()))


def test_each_kind_of_action_has_a_line_in_the_docstring():
    lines = re.findall(r"^    (\d) (\w+ ?\w*)  ", action_module.__doc__, re.M)
    assert [int(number) for number, _ in lines] == list(ActionKind)
