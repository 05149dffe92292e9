"""The register of a log's keys: who must have signed which size, and no second spelling (PR4, PR6).

Ranges are held against a list that says, size by size, which keys were in use.
"""

import hashlib
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_fixtures import KEY, ORIGIN, OTHER_KEY, log_keys, private_keys, sign_with_both
from nacl.signing import SigningKey

from ledger import logkeys
from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey, MlDsaCosigner
from ledger.errors import BadSignature, Malformed
from ledger.logkeys import LogKey, LogKeys
from ledger.merkle import SIZE_LIMIT
from ledger.note import Note, SignatureType, VerifierKey

ED25519, ML_DSA_44 = SignatureType.ED25519, SignatureType.COSIGNATURE_ML_DSA_44
ED, ML = (one.key for one in log_keys().keys)
NEXT_ED, NEXT_ML = (one.key for one in log_keys(OTHER_KEY).keys)


def root(size: int) -> bytes:
    return hashlib.sha256(b"%d" % size).digest()


def at(size: int, origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint(origin, size, root(size))


def rotated(size: int = 5) -> LogKeys:
    return log_keys().succeeded(at(size), (NEXT_ED, NEXT_ML))


def pair(number: int) -> tuple[VerifierKey, CosignerKey]:
    seed = hashlib.sha256(b"pair %d" % number).digest()
    ed25519 = VerifierKey(ORIGIN, bytes(SigningKey(seed).verify_key))
    return ed25519, MlDsaCosigner(ORIGIN, seed).verifier


PAIRS = [pair(number) for number in range(6)]


# Ranges.


def test_a_key_covers_its_range_and_no_size_beside_it():
    for first in range(6):
        for last in (*range(first, 6), None):
            key = LogKey(ED, first, last)
            covered = [size for size in range(8) if key.covers(size)]
            assert covered == list(range(first, 8 if last is None else last + 1))
    assert LogKey(ED).covers(SIZE_LIMIT - 1)


@pytest.mark.parametrize(
    "arguments",
    [
        (ED, -1),
        (ED, 2, 1),
        (ED, 0, SIZE_LIMIT),
        (ED, SIZE_LIMIT),
        (ED, 0, 5, at(4)),
        (ED, 0, None, at(4)),
        (CosignerKey(ORIGIN, bytes(KEY.verify_key), SignatureType.COSIGNATURE_ED25519),),
    ],
    ids=["below 0", "empty", "too large", "first too large", "closing", "open", "Ed25519 cosigner"],
)
def test_what_is_no_range_of_a_log_key(arguments):
    with pytest.raises(ValueError, match=r"size|closing|type"):
        LogKey(*arguments)


@given(st.lists(st.integers(1, 4), min_size=0, max_size=5), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_every_size_has_the_keys_that_were_in_use_then(steps, second_from):
    """A log that had one key at first, a second from some size on, and then rotations."""
    keys = LogKeys((LogKey(PAIRS[0][0]),))
    in_use: list[tuple[object, ...]] = [(PAIRS[0][0],)] * second_from
    keys = LogKeys((*keys.keys, LogKey(PAIRS[0][1], second_from)))
    current, size = PAIRS[0], second_from - 1
    for successors, step in zip(PAIRS[1:], steps, strict=False):
        size += step
        in_use += [current] * (size + 1 - len(in_use))
        keys = keys.succeeded(at(size), successors)
        current = successors
    in_use += [current] * 3
    assert [keys.for_size(size) for size in range(len(in_use))] == in_use
    assert tuple(one.key for one in keys.current) == current
    assert LogKeys.parse(keys.format().encode()) == keys


def test_ed25519_comes_first_in_each_range():
    keys = rotated()
    assert [keys.for_size(size) for size in (0, 5, 6, SIZE_LIMIT - 1)] == [
        (ED, ML),
        (ED, ML),
        (NEXT_ED, NEXT_ML),
        (NEXT_ED, NEXT_ML),
    ]
    assert [one.algorithm for one in keys.keys] == [ED25519, ML_DSA_44] * 2


def test_a_key_that_has_signed_nothing_stays():
    keys = LogKeys((LogKey(ED), LogKey(ML, 6)))
    after = keys.succeeded(at(5), (NEXT_ED,))
    assert after.keys == (LogKey(ED, 0, 5, at(5)), LogKey(NEXT_ED, 6), LogKey(ML, 6))


C = at(5)
NO_REGISTERS = {
    "no key": (),
    "twice": (LogKey(ED), LogKey(ED, 3)),
    "ML-DSA-44 first": (LogKey(ML), LogKey(ED)),
    "later range first": (LogKey(NEXT_ED, 6), LogKey(ED, 0, 5, C)),
    "nothing before": (LogKey(ED, 1),),
    "a gap": (LogKey(ED, 0, 5, C), LogKey(NEXT_ED, 7)),
    "nothing behind": (LogKey(ED, 0, 5, C),),
    "two of one algorithm": (LogKey(ED, 0, 5, C), LogKey(NEXT_ED, 5)),
    "two of one algorithm in use": (LogKey(ED), LogKey(NEXT_ED, 6)),
    "retired without a closing checkpoint": (LogKey(ED, 0, 5), LogKey(NEXT_ED, 6)),
    "two closing checkpoints": (
        LogKey(ED, 0, 5, C),
        LogKey(ML, 0, 5, replace(C, root=bytes(32))),
        LogKey(NEXT_ED, 6),
    ),
    "a key of another log": (LogKey(ED), LogKey(log_keys(origin="other").keys[1].key)),
    "closed by another log": (LogKey(ED, 0, 5, at(5, "other")), LogKey(NEXT_ED, 6)),
}


@pytest.mark.parametrize("keys", NO_REGISTERS.values(), ids=list(NO_REGISTERS))
def test_what_is_no_register_is_not_made(keys):
    with pytest.raises(ValueError, match=r"key|log|register"):
        LogKeys(keys)


def test_a_register_continues_its_earlier_states_and_no_other():
    states = [LogKeys((LogKey(ED),)), LogKeys((LogKey(ED), LogKey(ML, 3)))]
    for number, size in enumerate((4, 7, 9)):
        states.append(states[-1].succeeded(at(size), PAIRS[number]))
    others = [
        LogKeys((LogKey(NEXT_ED),)),
        LogKeys((LogKey(ED), LogKey(ML, 2))),
        states[1].succeeded(at(5), PAIRS[0]),
        states[1].succeeded(replace(at(4), root=bytes(32)), PAIRS[0]),
        states[1].succeeded(at(4), PAIRS[4]),
    ]
    for number, state in enumerate(states):
        for other_number, other in enumerate(states):
            assert state.continues(other) == (other_number <= number)
    assert [states[-1].continues(other) for other in others] == [False] * len(others)


# What must have signed.


def test_every_key_of_the_size_must_have_signed_and_closing_checkpoints_stand():
    old, new = log_keys(), rotated()
    for size in range(9):
        by_old, by_new = sign_with_both(at(size)), sign_with_both(at(size), OTHER_KEY)
        right, wrong = (by_old, by_new) if size <= 5 else (by_new, by_old)
        assert new.verify(right) == at(size)
        with pytest.raises(BadSignature):
            new.verify(wrong)
        for line in right.signatures:
            with pytest.raises(BadSignature):
                new.verify(Note(right.text, (line,)))
        both = Note(right.text, (*wrong.signatures, *right.signatures))
        assert new.verify(both) == at(size), "other lines are passed over"
    stolen = sign_with_both(Checkpoint(ORIGIN, 5, bytes(32)))
    assert old.verify(stolen).size == 5, "control: only the register says that it was closed"
    with pytest.raises(BadSignature, match="retired"):
        new.verify(stolen)


def test_one_line_is_enough_only_where_the_register_says_so():
    note = sign_with_both(at(3))
    lone = Note(note.text, note.signatures[:1])
    assert LogKeys((LogKey(ED),)).verify(lone) == at(3)
    assert LogKeys((LogKey(ED), LogKey(ML, 4))).verify(lone) == at(3)
    with pytest.raises(BadSignature):
        LogKeys((LogKey(ED), LogKey(ML, 3))).verify(lone)


def test_a_signed_text_that_is_no_checkpoint_is_malformed():
    note = sign_with_both(at(3))
    with pytest.raises(Malformed):
        log_keys().verify(Note("no checkpoint\n", note.signatures))


def test_a_flipped_bit_in_either_signature_is_seen():
    note = sign_with_both(at(3))
    flipped = 0
    for number, line in enumerate(note.signatures):
        for place in range(0, len(line.signature), 1 if number == 0 else 31):
            broken = bytearray(line.signature)
            broken[place] ^= 1 << place % 8
            lines = list(note.signatures)
            lines[number] = replace(line, signature=bytes(broken))
            with pytest.raises(BadSignature):
                log_keys().verify(Note(note.text, tuple(lines)))
            flipped += 1
    print(f"{flipped} flipped bits, none passed")


# The text.


def test_the_example_of_the_module_is_what_is_written():
    text = logkeys.__doc__
    example = re.search(r"\n    (\{.*?\n    \})\n", text, re.DOTALL)[1].replace("\n    ", "\n")
    keys = [
        VerifierKey("example.com/log", bytes(SigningKey(bytes([n]) * 32).verify_key))
        for n in (1, 2)
    ]
    closing = Checkpoint("example.com/log", 2, bytes(32))
    register = LogKeys((LogKey(keys[0]),)).succeeded(closing, (keys[1],))
    assert register.format() == example + "\n"
    assert LogKeys.parse(example.encode() + b"\n") == register


TEXT = rotated().format()


@pytest.mark.parametrize("size", [0, 1, 5])
def test_what_is_written_is_read(size):
    for keys in (log_keys(), rotated(size), LogKeys((LogKey(ED), LogKey(ML, 3)))):
        assert LogKeys.parse(keys.format().encode()) == keys


def changed(**members: object) -> str:
    document = json.loads(TEXT)
    document["keys"][0] |= members
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


TWINS = {
    "nothing": "",
    "not JSON": TEXT[:-3],
    "no object": "[]\n",
    "no final newline": TEXT[:-1],
    "a space more": TEXT.replace('"keys": [', '"keys":  [', 1),
    "another indentation": json.dumps(json.loads(TEXT), indent=1) + "\n",
    "another format": TEXT.replace("log-keys/1", "log-keys/2"),
    "an unknown member": TEXT.replace('"keys": [', '"more": 1,\n  "keys": [', 1),
    "a member twice": TEXT.replace(
        '"first_size": 0,', '"first_size": 0,\n      "first_size": 0,', 1
    ),
    "keys that are no array": '{\n  "format": "datakluis-log-keys/1",\n  "keys": 1\n}\n',
    "no keys": '{\n  "format": "datakluis-log-keys/1",\n  "keys": []\n}\n',
    "escaped": TEXT.replace("datakluis.example", "datakluis\\u002eexample", 1),
    "a size as text": changed(first_size="0"),
    "a size as fraction": changed(first_size=0.0),
    "a size as truth": changed(first_size=False),
    "a last size as truth": changed(last_size=True),
    "a huge size": TEXT.replace('"first_size": 6', f'"first_size": {"9" * 5000}', 1),
    "not a number": TEXT.replace('"first_size": 6', '"first_size": NaN', 1),
    "a key that is none": changed(key="x"),
    "a key as number": changed(key=1),
    "another key ID": changed(key=str(ED).replace(ED.key_id.hex(), "00000000")),
    "a closing checkpoint as object": changed(closing={}),
    "a closing checkpoint that is none": changed(closing="x\n1\n"),
    "no closing checkpoint": changed(closing=None),
    "nested": "[" * 100_000,
    "too long": TEXT + " " * logkeys.MAX_REGISTER_BYTES,
}


@pytest.mark.parametrize("text", TWINS.values(), ids=list(TWINS))
def test_another_spelling_is_no_register(text):
    with pytest.raises(Malformed):
        LogKeys.parse(text.encode())


def test_a_flipped_bit_is_refused_or_changes_what_is_said():
    whole, refused, other = TEXT.encode(), 0, 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        try:
            keys = LogKeys.parse(bytes(data))
        except Malformed:
            refused += 1
            continue
        other += 1
        assert keys.format().encode() == bytes(data)
        assert keys != rotated()
    print(f"{refused} of {len(whole)} flipped bits are refused, {other} say something else")
    assert refused > len(whole) * 0.95


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_only_as_they_would_be_written(data):
    try:
        keys = LogKeys.parse(data)
    except Malformed:
        return
    assert keys.format().encode() == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(st.dictionaries(st.sampled_from(["key", "first_size", "last_size", "closing"]), JSON))
def test_arbitrary_members_are_read_only_as_they_would_be_written(members):
    text = changed(**members)
    try:
        keys = LogKeys.parse(text.encode())
    except Malformed:
        return
    assert keys.format() == text


def test_no_private_key_is_in_a_register():
    for one in private_keys():
        assert str(one.verifier) in log_keys().format()
    assert bytes(KEY).hex() not in log_keys().format()
