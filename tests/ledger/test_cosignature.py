"""Cosignatures: C2SP tlog-cosignature to the byte, by both algorithms, and nothing else is one.

What is signed is built here a second time from the specification's text, and verified with the
libraries themselves. The specification's example names no public key, so of it are checked its
form, its timestamp and the text that it says was signed.
"""

import hashlib
import struct
from dataclasses import replace

import nacl.exceptions
import nacl.signing
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import cosignature
from ledger.checkpoint import Checkpoint
from ledger.cosignature import (
    MAX_TIMESTAMP,
    NO_TIME,
    CosignerKey,
    Ed25519Cosigner,
    MlDsaCosigner,
    parse_key,
    timestamp_of,
)
from ledger.errors import BadSignature, Malformed
from ledger.note import (
    Note,
    SignatureLine,
    SignatureType,
    VerifierKey,
    decode_base64,
    encode_base64,
    verify,
)

ED25519, ML_DSA_44 = SignatureType.COSIGNATURE_ED25519, SignatureType.COSIGNATURE_ML_DSA_44
EXAMPLE = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501 - a signature line cannot be broken
EXAMPLE_MESSAGE = b"""cosignature/v1
time 1679315147
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""
NAME = "witness.example.com/w1"
SEED = hashlib.sha256(b"a witness in tests").digest()
ED = Ed25519Cosigner(NAME, nacl.signing.SigningKey(SEED))
ML = MlDsaCosigner(NAME, SEED)
COSIGNERS = [ED, ML]
IDS = ["Ed25519", "ML-DSA-44"]
CHECKPOINT = Checkpoint.parse(Note.parse(EXAMPLE.encode()).text)
AT = 1_679_315_147
TIMES = st.integers(0, MAX_TIMESTAMP)
ORIGINS = st.text(
    st.characters(exclude_categories=["Cs"], min_codepoint=0x20), min_size=1, max_size=60
)
CHECKPOINTS = st.builds(
    Checkpoint, ORIGINS, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32)
)


def cosigned_message(name: str, timestamp: int, origin: str, size: int, root: bytes) -> bytes:
    """`struct cosigned_message` of C2SP tlog-cosignature, for a whole tree."""
    n, o = name.encode(), origin.encode()
    return struct.pack(
        f">12sB{len(n)}sQB{len(o)}sQQ32s",
        b"subtree/v1\n\x00",
        len(n),
        n,
        timestamp,
        len(o),
        o,
        0,
        size,
        root,
    )


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:4]


def holds(key: CosignerKey, checkpoint: Checkpoint, line: SignatureLine) -> bool:
    try:
        key.check(checkpoint.text(), line.signature)
    except BadSignature:
        return False
    return True


# The specification.


def test_the_example_of_the_specification_has_the_form_and_the_time_that_it_says():
    note = Note.parse(EXAMPLE.encode())
    assert note.format() == EXAMPLE
    line = note.signatures[1]
    assert (line.name, line.key_id.hex()) == (NAME, "8d66cf3f")
    assert len(line.signature) == 8 + 64
    assert timestamp_of(line, ED.verifier) == AT
    assert cosignature._message(ED.verifier, CHECKPOINT, AT) == EXAMPLE_MESSAGE


@pytest.mark.parametrize("at", [0, 1, AT, MAX_TIMESTAMP])
def test_the_ed25519_line_is_what_the_specification_says(at):
    line = ED.cosign(CHECKPOINT, at)
    public_key = bytes(nacl.signing.SigningKey(SEED).verify_key)
    assert line.name == NAME
    assert line.key_id == key_id(NAME, 0x04, public_key)
    assert line.signature[:8] == at.to_bytes(8, "big")
    message = EXAMPLE_MESSAGE.replace(b"1679315147", b"%d" % at)
    nacl.signing.VerifyKey(public_key).verify(message, line.signature[8:])


@pytest.mark.parametrize("at", [0, 1, AT, MAX_TIMESTAMP])
def test_the_ml_dsa_44_line_is_what_the_specification_says(at):
    line = ML.cosign(CHECKPOINT, at)
    public_key = MLDSA44PrivateKey.from_seed_bytes(SEED).public_key().public_bytes_raw()
    assert len(public_key) == 1312
    assert line.name == NAME
    assert line.key_id == key_id(NAME, 0x06, public_key)
    assert line.signature[:8] == at.to_bytes(8, "big")
    assert len(line.signature) == 8 + 2420
    message = cosigned_message(NAME, at, CHECKPOINT.origin, CHECKPOINT.size, CHECKPOINT.root)
    MLDSA44PublicKey.from_public_bytes(public_key).verify(line.signature[8:], message)


def test_what_ml_dsa_44_signs_byte_by_byte():
    message = cosignature._message(ML.verifier, Checkpoint("o", 258, bytes(range(32))), 259)
    assert message == (
        b"subtree/v1\n\x00"
        b"\x16witness.example.com/w1"
        b"\x00\x00\x00\x00\x00\x00\x01\x03"
        b"\x01o"
        b"\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x01\x02"
    ) + bytes(range(32))


@given(CHECKPOINTS, TIMES)
@settings(deadline=None)
def test_any_message_is_that_of_the_specification(checkpoint, at):
    text = f"cosignature/v1\ntime {at}\n{checkpoint.text()}".encode()
    assert cosignature._message(ED.verifier, checkpoint, at) == text
    expected = cosigned_message(NAME, at, checkpoint.origin, checkpoint.size, checkpoint.root)
    assert cosignature._message(ML.verifier, checkpoint, at) == expected


# What verifies, and what does not.


@pytest.mark.parametrize("cosigner", COSIGNERS, ids=IDS)
@given(checkpoint=CHECKPOINTS, at=TIMES)
@settings(max_examples=30, deadline=None)
def test_what_was_cosigned_verifies(cosigner, checkpoint, at):
    line = cosigner.cosign(checkpoint, at)
    note = Note.parse(Note(checkpoint.text(), (line,)).format().encode())
    assert verify(note, cosigner.verifier) == line
    assert timestamp_of(line, cosigner.verifier) == at


@pytest.mark.parametrize("cosigner", COSIGNERS, ids=IDS)
def test_every_field_that_changes_is_refused(cosigner):
    line, key = cosigner.cosign(CHECKPOINT, AT), cosigner.verifier
    assert holds(key, CHECKPOINT, line)
    changed = {
        "origin": replace(CHECKPOINT, origin="example.com/in-front-of-the-sofa"),
        "size": replace(CHECKPOINT, size=CHECKPOINT.size + 1),
        "smaller size": replace(CHECKPOINT, size=CHECKPOINT.size - 1),
        "root": replace(CHECKPOINT, root=bytes(32)),
    }
    for place in range(32):
        root = bytearray(CHECKPOINT.root)
        root[place] ^= 1 << place % 8
        changed[f"byte {place} of the root"] = replace(CHECKPOINT, root=bytes(root))
    assert [what for what, one in changed.items() if holds(key, one, line)] == []
    flipped = 0
    for place in range(len(line.signature)):
        # Each bit of the timestamp, and one of each byte of the signature.
        for bit in range(8) if place < 8 else (place % 8,):
            data = bytearray(line.signature)
            data[place] ^= 1 << bit
            assert not holds(key, CHECKPOINT, replace(line, signature=bytes(data)))
            flipped += 1
    print(f"{len(changed)} other checkpoints and {flipped} flipped bits, none passed")


@pytest.mark.parametrize("cosigner", COSIGNERS, ids=IDS)
def test_another_length_is_no_cosignature(cosigner):
    line, key = cosigner.cosign(CHECKPOINT, AT), cosigner.verifier
    whole = line.signature
    for data in (whole[:-1], whole + b"\0", whole[8:], whole[:8], whole[:1], whole * 2):
        one = replace(line, signature=data)
        assert not holds(key, CHECKPOINT, one)
        with pytest.raises(Malformed):
            timestamp_of(one, key)


@pytest.mark.parametrize("cosigner", COSIGNERS, ids=IDS)
@pytest.mark.parametrize("at", [2**63, 2**64 - 1])
def test_a_timestamp_beyond_2_63_is_refused_though_it_was_signed(cosigner, at):
    key = cosigner.verifier
    if key.type is ED25519:
        message = f"cosignature/v1\ntime {at}\n{CHECKPOINT.text()}".encode()
        signature = nacl.signing.SigningKey(SEED).sign(message).signature
    else:
        message = cosigned_message(NAME, at, CHECKPOINT.origin, CHECKPOINT.size, CHECKPOINT.root)
        signature = MLDSA44PrivateKey.from_seed_bytes(SEED).sign(message)
    line = SignatureLine(NAME, key.key_id, at.to_bytes(8, "big") + signature)
    assert not holds(key, CHECKPOINT, line)
    with pytest.raises(ValueError, match="timestamp"):
        cosigner.cosign(CHECKPOINT, at)


@pytest.mark.parametrize("cosigner", COSIGNERS, ids=IDS)
def test_a_negative_timestamp_is_not_signed(cosigner):
    with pytest.raises(ValueError, match="timestamp"):
        cosigner.cosign(CHECKPOINT, -1)


@pytest.mark.parametrize("cosigner", COSIGNERS, ids=IDS)
def test_a_text_that_is_no_checkpoint_was_not_cosigned(cosigner):
    line, key = cosigner.cosign(CHECKPOINT, AT), cosigner.verifier
    for text in ("", "x\n", CHECKPOINT.text() + "an extension line\n", CHECKPOINT.text()[:-1]):
        with pytest.raises(BadSignature):
            key.check(text, line.signature)


def test_ml_dsa_44_binds_the_name_and_ed25519_does_not():
    """The reason why an Ed25519 key must not cosign under two names."""
    other = "witness.example.com/w2"
    for cosigner, is_bound in ((ED, False), (ML, True)):
        line = cosigner.cosign(CHECKPOINT, AT)
        renamed = replace(cosigner.verifier, name=other)
        assert holds(renamed, CHECKPOINT, line) is not is_bound
        # The key ID is over the name, so a line cannot be passed off either way.
        with pytest.raises(BadSignature):
            verify(Note(CHECKPOINT.text(), (line,)), renamed)


@pytest.mark.parametrize("kind", [ED25519, ML_DSA_44], ids=IDS)
def test_another_key_of_the_same_name_did_not_cosign(kind):
    seed = hashlib.sha256(b"another").digest()
    mine = ED if kind is ED25519 else ML
    other = (
        Ed25519Cosigner(NAME, nacl.signing.SigningKey(seed))
        if kind is ED25519
        else MlDsaCosigner(NAME, seed)
    )
    line = other.cosign(CHECKPOINT, AT)
    assert not holds(mine.verifier, CHECKPOINT, line)
    posing = replace(line, key_id=mine.verifier.key_id)
    with pytest.raises(BadSignature):
        verify(Note(CHECKPOINT.text(), (posing,)), mine.verifier)


def test_neither_algorithm_passes_for_the_other_nor_for_a_note_signature():
    ed, ml = ED.cosign(CHECKPOINT, AT), ML.cosign(CHECKPOINT, AT)
    assert not holds(ED.verifier, CHECKPOINT, ml)
    assert not holds(ML.verifier, CHECKPOINT, ed)
    # The same Ed25519 key as a note signer: the text it would have signed is another.
    note_key = VerifierKey(NAME, ED.verifier.public_key)
    for signature in (ed.signature, ed.signature[8:]):
        with pytest.raises(BadSignature):
            note_key.check(CHECKPOINT.text(), signature)
    raw = nacl.signing.SigningKey(SEED).sign(CHECKPOINT.text().encode()).signature
    assert not holds(ED.verifier, CHECKPOINT, replace(ed, signature=bytes(8) + raw))


def test_a_public_key_that_is_no_point_verifies_nothing():
    key = replace(ED.verifier, public_key=b"\xff" * 32)
    assert not holds(key, CHECKPOINT, ED.cosign(CHECKPOINT, AT))
    key = replace(ML.verifier, public_key=b"\xff" * 1312)
    assert not holds(key, CHECKPOINT, ML.cosign(CHECKPOINT, AT))


@given(st.binary(max_size=100) | st.binary(min_size=2428, max_size=2428), st.text(max_size=50))
@settings(deadline=None)
def test_arbitrary_signatures_over_arbitrary_texts_are_refused(signature, text):
    for key in (ED.verifier, ML.verifier):
        for one in (text, CHECKPOINT.text()):
            with pytest.raises(BadSignature):
                key.check(one, signature)


# Names and origins.


def test_ml_dsa_44_takes_names_and_origins_of_up_to_255_bytes():
    longest = "é" * 127 + "x"
    cosigner = MlDsaCosigner(longest, SEED)
    checkpoint = Checkpoint(longest, 1, bytes(32))
    assert holds(cosigner.verifier, checkpoint, cosigner.cosign(checkpoint, NO_TIME))
    with pytest.raises(ValueError, match="named"):
        MlDsaCosigner(longest + "x", SEED)
    too_long = Checkpoint(longest + "x", 1, bytes(32))
    with pytest.raises(ValueError, match="256 bytes"):
        cosigner.cosign(too_long, NO_TIME)
    assert not holds(cosigner.verifier, too_long, cosigner.cosign(checkpoint, NO_TIME))
    assert holds(ED.verifier, too_long, ED.cosign(too_long, NO_TIME)), "text has no such limit"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "\ud800"])
def test_what_is_no_key_name_names_no_cosigner(name):
    with pytest.raises(ValueError, match=r"named|surrogate"):
        MlDsaCosigner(name, SEED)
    with pytest.raises(ValueError, match=r"named|surrogate"):
        CosignerKey(name, bytes(32), ED25519)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_none(length):
    with pytest.raises(ValueError, match="seed"):
        MlDsaCosigner(NAME, bytes(length))


def test_nothing_secret_is_shown():
    for cosigner in COSIGNERS:
        shown = f"{cosigner!r} {cosigner} {cosigner.verifier!r}"
        assert SEED.hex() not in shown
        assert repr(SEED) not in shown
        assert encode_base64(SEED) not in shown


# Verifier keys.


@pytest.mark.parametrize("key", [ED.verifier, ML.verifier], ids=IDS)
def test_a_verifier_key_is_written_as_c2sp_says_and_read_again(key):
    name, key_hex, encoded = str(key).split("+", 2)
    typed = decode_base64(encoded)
    assert (name, typed[0], typed[1:]) == (NAME, key.type, key.public_key)
    assert bytes.fromhex(key_hex) == key_id(NAME, key.type, key.public_key)
    assert CosignerKey.parse(str(key)) == key == parse_key(str(key))
    with pytest.raises(Malformed):
        VerifierKey.parse(str(key))


def test_a_note_key_is_read_as_one():
    key = VerifierKey(NAME, ED.verifier.public_key)
    assert parse_key(str(key)) == key
    with pytest.raises(Malformed):
        CosignerKey.parse(str(key))
    assert key.key_id != ED.verifier.key_id


@pytest.mark.parametrize("key", [ED.verifier, ML.verifier], ids=IDS)
def test_a_verifier_key_has_one_spelling(key):
    text = str(key)
    name, key_hex, encoded = text.split("+", 2)
    typed = bytes([key.type]) + key.public_key
    other_types = [bytes([kind]) + key.public_key for kind in (0, 1, 2, 3, 5, 7, 255)]
    twins = {
        "nothing": "",
        "no key": f"{name}+{key_hex}+",
        "no name": f"+{key_hex}+{encoded}",
        "upper case": f"{name}+{key_hex.upper()}+{encoded}",
        "another key ID": f"{name}+00000000+{encoded}",
        "no key ID": f"{name}++{encoded}",
        "another name": f"{name}x+{key_hex}+{encoded}",
        "a space in front": f" {text}",
        "a newline behind": f"{text}\n",
        "no padding or one more": text[:-1] if text.endswith("=") else f"{text}=",
        "url-safe": f"{name}+{key_hex}+{encoded.replace('/', '_').replace('+', '-')}",
        "a byte less": f"{name}+{key_hex}+{encode_base64(typed[:-1])}",
        "a byte more": f"{name}+{key_hex}+{encode_base64(typed + b'x')}",
        **{
            f"type {one[0]}": f"{name}+{key_id(name, one[0], one[1:]).hex()}+{encode_base64(one)}"
            for one in other_types
        },
    }
    del twins["type 1"]
    accepted = []
    for what, twin in twins.items():
        assert twin != text, what
        try:
            parse_key(twin)
        except Malformed:
            continue
        accepted.append(what)
    assert accepted == []


@given(st.text(max_size=80))
def test_arbitrary_text_is_read_as_a_key_only_as_it_would_be_written(text):
    for candidate in (
        text,
        f"{text}+00000000+{encode_base64(b'x' + text.encode('utf-8', 'ignore'))}",
    ):
        try:
            key = parse_key(candidate)
        except Malformed:
            continue
        assert str(key) == candidate


@given(
    st.integers(0, 255),
    st.binary(min_size=30, max_size=34) | st.binary(min_size=1312, max_size=1312),
    st.text(max_size=10),
)
def test_any_typed_key_is_read_only_as_it_would_be_written(kind, public_key, name):
    encodable = name.encode(errors="ignore").decode()
    found = key_id(encodable, kind, public_key).hex()
    text = f"{encodable}+{found}+{encode_base64(bytes([kind]) + public_key)}"
    try:
        key = parse_key(text)
    except Malformed:
        return
    assert str(key) == text
    assert len(key.public_key) == {1: 32, 4: 32, 6: 1312}[kind]


def test_a_key_of_another_type_or_length_is_no_cosigner():
    for kind, size in (
        (SignatureType.ED25519, 32),
        (ED25519, 1312),
        (ML_DSA_44, 32),
        (ED25519, 31),
    ):
        with pytest.raises(ValueError, match=r"type|bytes"):
            CosignerKey(NAME, bytes(size), kind)
