"""Signed notes: the specification's examples, and no second spelling of anything."""

import base64
import json
from pathlib import Path

import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import note as note_module
from ledger.errors import BadSignature, Malformed
from ledger.note import (
    MAX_NOTE_SIZE,
    Note,
    SignatureLine,
    SignatureType,
    VerifierKey,
    compute_key_id,
    decode_base64,
    is_key_name,
    sign,
    verify,
)

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ledger_note.json").read_text(encoding="utf-8")
)
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""  # noqa: E501 - a signature line cannot be broken
POEM = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""  # noqa: E501 - a signature line cannot be broken
# Made by another implementation, Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""  # noqa: E501 - a signature line cannot be broken
GO_SUMDB_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

SEED = bytes(range(32))
KEY = nacl.signing.SigningKey(SEED)
NAMES = st.text(min_size=1, max_size=12).filter(is_key_name)
LINES = st.builds(
    SignatureLine,
    NAMES,
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=1, max_size=80),
)
TEXTS = st.text(
    st.one_of(st.just("\n"), st.characters(exclude_categories=["Cs"], min_codepoint=0x20)),
    max_size=40,
).map(lambda text: text + "\n")
NOTES = st.builds(
    Note,
    TEXTS,
    st.lists(LINES, min_size=1, max_size=16, unique_by=lambda line: (line.name, line.key_id)).map(
        tuple
    ),
)


def line_of(name: str = "a", key_id: bytes = b"1234", signature: bytes = b"s") -> str:
    return f"— {name} {base64.b64encode(key_id + signature).decode()}\n"


def accepted(parse, inputs) -> list:
    taken = []
    for value in inputs:
        try:
            parse(value)
        except Malformed:
            continue
        taken.append(value)
    return taken


# Examples and goldens


@pytest.mark.parametrize(("vkey", "text"), [(VKEY, EXAMPLE), (GO_VKEY, GO_NOTE)])
def test_examples_of_others_verify(vkey, text):
    note = Note.parse(text.encode())
    key = VerifierKey.parse(vkey)
    assert str(key) == vkey
    assert note.format() == text
    assert verify(note, key) == note.signatures[0]


def test_the_example_of_the_module():
    for line in [VKEY, *EXAMPLE.split("\n")]:
        assert (f"\n    {line}\n" if line else "\n\n") in note_module.__doc__


def test_the_poem_of_the_specification():
    note = Note.parse(POEM.encode())
    assert note.format() == POEM
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert [line.name for line in note.signatures] == ["quasimodo.example/salvatore"]


def test_the_key_of_the_go_checksum_database():
    assert VerifierKey.parse(GO_SUMDB_VKEY).key_id.hex() == "033de0ae"


def test_golden_keys_and_notes():
    keys = []
    for golden in GOLDEN["keys"]:
        key = nacl.signing.SigningKey(bytes.fromhex(golden["seed"]))
        verifier = VerifierKey(golden["name"], bytes(key.verify_key))
        assert str(verifier) == golden["vkey"]
        assert VerifierKey.parse(golden["vkey"]) == verifier
        keys.append((key, verifier))
    for golden in GOLDEN["notes"]:
        signers = [keys[number] for number in golden["signers"]]
        text = golden["text"]
        note = Note(text, tuple(sign(text, verifier.name, key) for key, verifier in signers))
        assert note.format() == golden["note"]
        assert Note.parse(golden["note"].encode()) == note
        for line, (_, verifier) in zip(note.signatures, signers, strict=True):
            assert verify(note, verifier) == line


# Parsing


@given(NOTES)
def test_every_note_is_read_back(note):
    assert Note.parse(note.format().encode()) == note


@given(st.binary(max_size=200))
def test_the_note_parser_accepts_only_what_is_written(data):
    try:
        note = Note.parse(data)
    except Malformed:
        return
    assert note.format().encode() == data


@given(NOTES, st.data())
def test_the_note_parser_accepts_only_what_is_written_near_notes(note, data):
    whole = note.format().encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 3)))
    new = data.draw(st.sampled_from([b"", b"\n", b"\n\n", b" ", b"=", b"+", b"\r", b"A", b"\xff"]))
    changed = whole[:start] + new + whole[end:]
    try:
        parsed = Note.parse(changed)
    except Malformed:
        return
    assert parsed.format().encode() == changed


TWIN_NOTES = {
    "nothing": b"",
    "no text": line_of().encode(),
    "no signature": b"a\n\n",
    "no empty line": ("a\n" + line_of()).encode(),
    "text without newline": ("\n" + line_of()).encode(),
    "no final newline": ("a\n\n" + line_of())[:-1].encode(),
    "two final newlines": ("a\n\n" + line_of() + "\n").encode(),
    "windows newlines": ("a\n\n" + line_of()).replace("\n", "\r\n").encode(),
    "tab in the text": ("a\tb\n\n" + line_of()).encode(),
    "zero byte in the text": ("a\0b\n\n" + line_of()).encode(),
    "latin-1": "é\n\n".encode("latin-1") + line_of().encode(),
    "surrogate": b"\xed\xa0\x80\n\n" + line_of().encode(),
    "overlong newline": b"a\xc0\x8a\n\n" + line_of().encode(),
    "hyphen for dash": ("a\n\n" + line_of().replace("—", "-")).encode(),
    "no dash": ("a\n\n" + line_of().replace("— ", "")).encode(),
    "two spaces": ("a\n\n" + line_of().replace("— ", "—  ")).encode(),
    "space behind": ("a\n\n" + line_of().replace("\n", " \n")).encode(),
    "no name": ("a\n\n" + line_of(name="")).encode(),
    "plus in the name": ("a\n\n" + line_of(name="a+b")).encode(),
    "unicode space in the name": ("a\n\n" + line_of(name="a\u2003b")).encode(),
    "no-break space in the name": ("a\n\n" + line_of(name="a\u00a0b")).encode(),
    "next line in the name": ("a\n\n" + line_of(name="a\u0085b")).encode(),
    "no base64": "a\n\n— a \n".encode(),
    "key ID cut short": ("a\n\n" + line_of(key_id=b"123", signature=b"")).encode(),
    "no signature bytes": ("a\n\n" + line_of(signature=b"")).encode(),
    "base64 without padding": ("a\n\n" + line_of().replace("=", "")).encode(),
    "base64 with unused bits": "a\n\n— a MTIzNHN=\n".encode(),
    "url-safe base64": ("a\n\n" + line_of(signature=b"\xff\xff")).replace("/", "_").encode(),
    "same key twice": ("a\n\n" + line_of() + line_of(signature=b"t")).encode(),
    "101 signatures": (
        "a\n\n" + "".join(line_of(name=f"n{number}") for number in range(101))
    ).encode(),
    "too long": ("a" * MAX_NOTE_SIZE + "\n\n" + line_of()).encode(),
}


@pytest.mark.parametrize("name", TWIN_NOTES)
def test_other_spellings_of_a_note_are_malformed(name):
    assert accepted(Note.parse, [TWIN_NOTES[name]]) == []


def test_every_twin_is_one_step_from_a_note():
    assert accepted(Note.parse, [("a\n\n" + line_of()).encode()]) != []


@pytest.mark.parametrize(
    ("lax", "taken"),
    [
        (lambda data: Note.parse(data.replace(b"\r\n", b"\n")), "windows newlines"),
        (lambda data: Note.parse(data.rstrip(b"\n") + b"\n"), "two final newlines"),
        (lambda data: Note.parse(data.rstrip(b"\n") + b"\n"), "no final newline"),
        (lambda data: Note.parse(data.replace(b" \n", b"\n")), "space behind"),
        (
            lambda data: Note.parse(data.replace(b"HN=", b"HM=")),
            "base64 with unused bits",
        ),
        (lambda data: Note.parse(data.replace(b"\t", b"")), "tab in the text"),
        (lambda data: Note.parse(data[-MAX_NOTE_SIZE:]), "too long"),
        (lambda data: Note.parse(b"\n".join(data.split(b"\n")[:4]) + b"\n"), "101 signatures"),
    ],
)
def test_control_lax_parsers_are_seen(lax, taken):
    assert accepted(lax, [TWIN_NOTES[taken]]) != []


def test_control_a_parser_without_rewriting(monkeypatch):
    class SameAsAnything(bytes):
        def __ne__(self, other):
            return False

        def encode(self):
            return self

    monkeypatch.setattr(Note, "format", lambda self: SameAsAnything())
    taken = [name for name, data in TWIN_NOTES.items() if accepted(Note.parse, [data])]
    assert taken == ["no final newline", "no dash"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", (SignatureLine("a", b"1234", b"s"),)),
        ("no newline", (SignatureLine("a", b"1234", b"s"),)),
        ("control\r\n", (SignatureLine("a", b"1234", b"s"),)),
        ("surrogate \ud800\n", (SignatureLine("a", b"1234", b"s"),)),
        ("a\n", ()),
        ("a\n", tuple(SignatureLine(f"n{number}", b"1234", b"s") for number in range(101))),
        ("a\n", (SignatureLine("a", b"1234", b"s"), SignatureLine("a", b"1234", b"t"))),
        ("é" * (MAX_NOTE_SIZE // 2) + "\n", (SignatureLine("a", b"1234", b"s"),)),
    ],
)
def test_what_could_not_be_read_back_is_not_made(text, lines):
    with pytest.raises(ValueError, match=r"signature|text|bytes"):
        Note(text, lines)


def test_the_largest_note():
    line = line_of()
    text = "a" * (MAX_NOTE_SIZE - len(line.encode()) - 2) + "\n"
    note = Note(text, (SignatureLine("a", b"1234", b"s"),))
    assert len(note.format().encode()) == MAX_NOTE_SIZE
    assert Note.parse(note.format().encode()) == note


def test_room_for_100_post_quantum_signatures():
    signature = bytes(8 + 2420)
    lines = tuple(
        SignatureLine(f"witness.example/{number}", b"1234", signature) for number in range(100)
    )
    note = Note("origin.example/log\n1\n" + "A" * 43 + "=\n", lines)
    assert Note.parse(note.format().encode()) == note


@pytest.mark.parametrize(
    "fields",
    [("", b"1234", b"s"), ("a b", b"1234", b"s"), ("a", b"123", b"s"), ("a", b"1234", b"")],
)
def test_no_line_is_made_that_could_not_be_read_back(fields):
    with pytest.raises(ValueError, match=r"key name|key ID|empty signature"):
        SignatureLine(*fields)


# Names, keys, base64


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("example.com/foo", True),
        ("één—ü", True),
        ("", False),
        ("a+b", False),
        ("a b", False),
        ("a\nb", False),
        ("a\tb", False),
        ("a\x1fb", False),
        ("a\u00a0b", False),
        ("a\u0085b", False),
        ("a\u3000b", False),
        ("a\u2028b", False),
        ("a\ud800b", False),
    ],
)
def test_key_names(name, answer):
    assert is_key_name(name) is answer


def test_the_signature_type_is_bound_in_the_key_id():
    key = VerifierKey.parse(VKEY)
    assert compute_key_id(key.name, SignatureType.ED25519, key.public_key) == key.key_id
    others = {compute_key_id(key.name, other, key.public_key) for other in range(256)}
    assert len(others) == 256


TWIN_VKEYS = [
    "",
    "a",
    "a++",
    VKEY + "\n",
    VKEY.replace("530d903a", "530D903A"),
    VKEY.replace("530d903a", "530d903b"),
    VKEY.replace("530d903a", "0530d903a"),
    VKEY.replace("foo", "fop"),
    VKEY.replace("foo", "f o"),
    VKEY.replace("+Aeky", "+Beky"),
    VKEY.replace("+Aeky", "+ Aeky"),
    VKEY + "AAAA",
    VKEY[:-4],
    VKEY.replace("com/foo+", "com/foo++"),
    # The same key as a type 0x04 cosigner, with the right key ID for that.
    "example.com/foo+"
    + compute_key_id("example.com/foo", 4, VerifierKey.parse(VKEY).public_key).hex()
    + "+"
    + base64.b64encode(b"\x04" + VerifierKey.parse(VKEY).public_key).decode(),
]


def test_other_spellings_of_a_verifier_key_are_malformed():
    assert accepted(VerifierKey.parse, TWIN_VKEYS) == []


def test_a_key_of_another_type_is_named_as_such():
    with pytest.raises(Malformed, match="not the verifier key of an Ed25519 key"):
        VerifierKey.parse(TWIN_VKEYS[-1])


def test_control_a_key_parser_that_forgets_the_key_id():
    def lax(text: str) -> VerifierKey:
        name, _, encoded = text.split("+", 2)
        return VerifierKey(name, decode_base64(encoded)[1:])

    assert accepted(lax, [VKEY.replace("530d903a", "530d903b")]) != []


@given(st.one_of(st.text(), st.from_regex(r"\A[a-z]{1,3}\+[0-9a-f]{8}\+A[A-Za-z0-9+/]{43}\Z")))
def test_the_key_parser_accepts_only_what_is_written(text):
    try:
        key = VerifierKey.parse(text)
    except Malformed:
        return
    assert str(key) == text


@given(NAMES, st.binary(min_size=32, max_size=32))
def test_every_verifier_key_is_read_back(name, public_key):
    key = VerifierKey(name, public_key)
    assert VerifierKey.parse(str(key)) == key


@pytest.mark.parametrize(("name", "size"), [("a b", 32), ("a", 31), ("a", 33), ("a", 0)])
def test_no_verifier_key_is_made_that_could_not_be_read_back(name, size):
    with pytest.raises(ValueError, match=r"key name|public key"):
        VerifierKey(name, bytes(size))


@given(st.one_of(st.text(max_size=9), st.from_regex(r"\A[A-Za-z0-9+/]{0,8}={0,3}\Z")))
def test_base64_has_one_spelling(text):
    try:
        data = decode_base64(text)
    except Malformed:
        return
    assert base64.b64encode(data).decode() == text


def test_control_lax_base64_is_seen():
    twins = ["AB==", "AA", "A A=", "AAAA\n", "_-8="]
    assert accepted(decode_base64, twins) == []
    assert accepted(base64.b64decode, ["AB==", "AAAA\n"]) != []


# Signatures


def bit_flips_that_verify(check) -> tuple[int, int]:
    """Flip every bit of a signed note, and count the notes that are still taken for signed."""
    key = VerifierKey.parse(VKEY)
    whole = EXAMPLE.encode()
    flipped = taken = 0
    for place in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        flipped += 1
        try:
            check(Note.parse(bytes(changed)), key)
        except (Malformed, BadSignature):
            continue
        taken += 1
    return flipped, taken


def test_no_flipped_bit_goes_unseen():
    flipped, taken = bit_flips_that_verify(verify)
    print(f"{flipped} bit flips of a signed note, {taken} taken for signed")
    assert taken == 0
    assert flipped == len(EXAMPLE.encode()) * 8


def test_control_a_verifier_that_only_looks_for_the_key():
    def lax(note: Note, key: VerifierKey) -> SignatureLine:
        for line in note.signatures:
            if (line.name, line.key_id) == (key.name, key.key_id):
                return line
        raise BadSignature

    assert bit_flips_that_verify(lax)[1] > 0


def test_control_a_verifier_that_forgets_the_name():
    def lax(note: Note, key: VerifierKey) -> SignatureLine:
        renamed = [SignatureLine(key.name, line.key_id, line.signature) for line in note.signatures]
        return verify(Note(note.text, tuple(renamed)), key)

    assert bit_flips_that_verify(lax)[1] > 0


def test_the_two_causes_are_told_apart():
    text = "a\n"
    line = sign(text, "a", KEY)
    key = VerifierKey("a", bytes(KEY.verify_key))
    damaged = SignatureLine("a", line.key_id, bytes(64))
    with pytest.raises(BadSignature, match=r"signature of a \([0-9a-f]{8}\) does not verify"):
        verify(Note(text, (damaged,)), key)
    with pytest.raises(BadSignature, match=r"no signature of b \([0-9a-f]{8}\)"):
        verify(Note(text, (line,)), VerifierKey("b", key.public_key))


@pytest.mark.parametrize("size", [1, 63, 65, 2420])
def test_a_signature_of_another_length_does_not_verify(size):
    key = VerifierKey("a", bytes(KEY.verify_key))
    note = Note("a\n", (SignatureLine("a", key.key_id, bytes(size)),))
    with pytest.raises(BadSignature, match="does not verify"):
        verify(note, key)


def test_lines_of_unknown_keys_are_passed_over():
    text = "a\n"
    mine = sign(text, "a", KEY)
    key = VerifierKey("a", bytes(KEY.verify_key))
    others = (
        SignatureLine("b", mine.key_id, b"same ID, other name"),
        SignatureLine("a", b"\0\0\0\0", b"same name, other ID"),
    )
    assert verify(Note(text, (*others, mine)), key) == mine
    with pytest.raises(BadSignature, match="no signature"):
        verify(Note(text, others), key)


def test_a_signature_has_one_form():
    """Ed25519 with S + L is the same signature in another spelling (RFC 8032 section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    line = sign("a\n", "a", KEY)
    key = VerifierKey("a", bytes(KEY.verify_key))
    s = int.from_bytes(line.signature[32:], "little") + order
    other = SignatureLine("a", line.key_id, line.signature[:32] + s.to_bytes(32, "little"))
    with pytest.raises(BadSignature, match="does not verify"):
        verify(Note("a\n", (other,)), key)


def test_a_key_that_verifies_anything_is_refused():
    """With the neutral point as key, (neutral point, 0) satisfies the equation for every text."""
    neutral = b"\x01" + bytes(31)
    key = VerifierKey("a", neutral)
    note = Note("a\n", (SignatureLine("a", key.key_id, neutral + bytes(32)),))
    with pytest.raises(BadSignature, match="does not verify"):
        verify(note, key)


@pytest.mark.parametrize(
    ("text", "name"), [("no newline", "a"), ("a\r\n", "a"), ("", "a"), ("a\n", "a b"), ("a\n", "")]
)
def test_nothing_is_signed_that_could_not_be_a_note(text, name):
    with pytest.raises(ValueError, match=r"key name|text"):
        sign(text, name, KEY)


def test_no_representation_holds_the_private_key():
    line = sign("a\n", "a", KEY)
    note = Note("a\n", (line,))
    key = VerifierKey("a", bytes(KEY.verify_key))
    shown = "".join([repr(line), repr(note), repr(key), str(key), line.format(), note.format()])
    private = [SEED, bytes(KEY._signing_key)]
    for secret in private:
        for spelling in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)):
            assert spelling not in shown
