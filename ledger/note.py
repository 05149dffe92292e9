"""Signed notes: a text and the signatures under it.

Implements C2SP signed-note with Ed25519 signatures (type 0x01) and verifier keys. Cosignatures, the
other types, are in ledger/cosignature.py; lines by keys that nobody asks for are carried along
untouched. `tests/ledger/test_note.py` holds it against that text's examples.

A note is UTF-8 without control characters below U+0020 other than newline. It is the text, which
ends in a newline, then an empty line, then one line per signature: em dash (U+2014), space, key
name, space, base64 of (key ID || signature), newline. The text may contain empty lines: the last
one in the note is the separator. A key name is non-empty, without Unicode spaces and without `+`.
The key ID is the first four bytes of SHA-256(key name || 0x0A || signature type || public key).
A verifier key is written `name+hex(key ID)+base64(signature type || public key)`.

Stricter than C2SP, so that one note has one spelling: base64 is canonical, and no two signatures
have the same name and key ID. A note has 1 to 100 signatures and at most 524,288 bytes.

Example: the verifier key

    example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k

verifies

    This is an example message.

    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""  # noqa: E501 - a signature line cannot be broken

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import nacl.exceptions
import nacl.signing

from ledger.errors import BadSignature, Malformed

MAX_NOTE_SIZE = 512 * 1024
"""Bytes of the largest note: 100 post-quantum signatures under a checkpoint stay below it."""

MAX_SIGNATURES = 100
"""Signature lines that a note can carry; C2SP asks verifiers to take at least as many."""

KEY_ID_SIZE = 4
"""Bytes of a key ID."""

_PUBLIC_KEY_SIZE = 32
_DASH = "— "
_UNCLEAN = re.compile("[\x00-\x1f\ud800-\udfff]")


class SignatureType(IntEnum):
    """Signature type identifier bytes (C2SP signed-note, "Signature types")."""

    ED25519 = 0x01
    COSIGNATURE_ED25519 = 0x04
    COSIGNATURE_ML_DSA_44 = 0x06


class NoteKey(Protocol):
    """A public key that can have signed a note, of whichever signature type."""

    @property
    def name(self) -> str:
        """The key's name, as it stands on its signature lines."""
        ...

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before its signatures."""
        ...

    def check(self, text: str, signature: bytes) -> None:
        """Return if this key made a signature over the text of a note.

        Raises:
            BadSignature: it did not.
        """
        ...


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 public key under the name by which it signs (C2SP signed-note, "Verifier keys").

    Attributes:
        name: key name, see `is_key_name`.
        public_key: 32 bytes, RFC 8032 encoding.

    Raises:
        ValueError: the name is no key name, or the public key is not 32 bytes.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        _require_key_name(self.name)
        if len(self.public_key) != _PUBLIC_KEY_SIZE:
            raise ValueError(f"a public key of {len(self.public_key)} bytes")

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before this key's signatures; an identifier, no strong hash."""
        return compute_key_id(self.name, SignatureType.ED25519, self.public_key)

    def __str__(self) -> str:
        typed_key = bytes([SignatureType.ED25519]) + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(typed_key)}"

    def check(self, text: str, signature: bytes) -> None:
        """Return if this key made a signature over the text of a note; see `NoteKey.check`."""
        try:
            nacl.signing.VerifyKey(self.public_key).verify(text.encode(), signature)
        except (nacl.exceptions.BadSignatureError, ValueError) as error:
            raise BadSignature(
                f"the signature of {self.name} ({self.key_id.hex()}) does not verify"
            ) from error

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a verifier key that `str()` wrote.

        Raises:
            Malformed: any other text, also when the key ID is not that of the key.
        """
        name, _, rest = text.partition("+")
        _, _, encoded = rest.partition("+")
        typed_key = decode_base64(encoded)
        if typed_key[:1] != bytes([SignatureType.ED25519]):
            raise Malformed("not the verifier key of an Ed25519 key")
        try:
            key = cls(name, typed_key[1:])
        except ValueError as error:
            raise Malformed(str(error)) from error
        if str(key) != text:
            raise Malformed(f"the verifier key is not written as {key}")
        return key


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature under a note, by any algorithm.

    Attributes:
        name: key name, see `is_key_name`.
        key_id: 4 bytes.
        signature: at least one byte; what it holds depends on the signature type.

    Raises:
        ValueError: a field is out of these bounds.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _require_key_name(self.name)
        if len(self.key_id) != KEY_ID_SIZE:
            raise ValueError(f"a key ID of {len(self.key_id)} bytes")
        if not self.signature:
            raise ValueError("an empty signature")

    def format(self) -> str:
        """Return the line, with its newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A signed text. Trust nothing in it before `verify` returned for a key that you trust.

    Attributes:
        text: what is signed, with its final newline.
        signatures: 1 to 100 lines in the order in which they are written, no two with the same name
            and key ID.

    Raises:
        ValueError: text or signatures are out of these bounds, or the note exceeds 524,288 bytes.
    """

    text: str
    signatures: tuple[SignatureLine, ...]

    def __post_init__(self) -> None:
        _require_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise ValueError(f"{len(self.signatures)} signatures, not 1 to {MAX_SIGNATURES}")
        if len({(line.name, line.key_id) for line in self.signatures}) != len(self.signatures):
            raise ValueError("two signatures with the same name and key ID")
        if len(self.format().encode()) > MAX_NOTE_SIZE:
            raise ValueError(f"a note of more than {MAX_NOTE_SIZE} bytes")

    def format(self) -> str:
        """Return the whole note; its UTF-8 encoding is what is stored and published."""
        return f"{self.text}\n{''.join(line.format() for line in self.signatures)}"

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a note that `format` wrote. No signature is verified.

        Raises:
            Malformed: any other bytes.
        """
        if len(data) > MAX_NOTE_SIZE:
            raise Malformed(f"a note of {len(data)} bytes, more than {MAX_NOTE_SIZE}")
        try:
            text, separator, lines = data.decode().rpartition("\n\n")
            # Splitting one line too many is enough to see that there are too many.
            found = lines.removesuffix("\n").split("\n", MAX_SIGNATURES)
            note = cls(text + "\n", tuple(_parse_line(line) for line in found))
        except (ValueError, Malformed) as error:
            raise Malformed(f"not a signed note: {error}") from error
        if not separator or note.format().encode() != data:
            raise Malformed("not a signed note: it would be written otherwise")
        return note


def is_key_name(name: str) -> bool:
    """Tell whether a text can name a key: non-empty UTF-8 without space, control character or +."""
    return is_text_line(name) and not any(c.isspace() or c == "+" for c in name)


def is_text_line(line: str) -> bool:
    """Tell whether a text can be one line of a note: non-empty UTF-8 without control character."""
    return line != "" and _is_clean(line)


def compute_key_id(name: str, signature_type: int, public_key: bytes) -> bytes:
    """Return the 4-byte key ID (C2SP signed-note, "Signatures").

    Args:
        name: key name.
        signature_type: type identifier byte, 0 to 255.
        public_key: encoding of the public key that belongs to the type.
    """
    content = name.encode() + b"\n" + bytes([signature_type]) + public_key
    return hashlib.sha256(content).digest()[:KEY_ID_SIZE]


def sign(text: str, name: str, key: nacl.signing.SigningKey) -> SignatureLine:
    """Sign a text with an Ed25519 key (RFC 8032) and return the signature line.

    Args:
        text: what is signed, with its final newline.
        name: name of the key.
        key: the private key; it does not occur in the result.

    Raises:
        ValueError: the text cannot be that of a note, or the name is no key name.
    """
    _require_text(text)
    signer = VerifierKey(name, bytes(key.verify_key))
    return SignatureLine(name, signer.key_id, key.sign(text.encode()).signature)


def verify(note: Note, key: NoteKey) -> SignatureLine:
    """Return the line by which a key signed a note, once it is verified.

    Lines of other keys are passed over, also those that share only the name or only the key ID.

    Raises:
        BadSignature: the key signed nothing here, or its signature does not verify.
    """
    key_id = key.key_id
    for line in note.signatures:
        if (line.name, line.key_id) == (key.name, key_id):
            key.check(note.text, line.signature)
            return line
    raise BadSignature(f"no signature of {key.name} ({key_id.hex()})")


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """Decode base64 that `encode_base64` wrote.

    Raises:
        Malformed: any other text, also when only its unused bits or its padding differ.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed("not base64") from error
    if encode_base64(data) != text:
        raise Malformed("base64 that is not canonical")
    return data


def _parse_line(line: str) -> SignatureLine:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = decode_base64(encoded)
    return SignatureLine(name, data[:KEY_ID_SIZE], data[KEY_ID_SIZE:])


def _require_key_name(name: str) -> None:
    if not is_key_name(name):
        raise ValueError("a key name that is empty or has a space, a control character or a plus")


def _require_text(text: str) -> None:
    if not text.endswith("\n") or not _is_clean(text.replace("\n", "")):
        raise ValueError("a text without final newline, or with a control character")


def _is_clean(text: str) -> bool:
    """Tell whether a text can be encoded as UTF-8 and has no control character below U+0020."""
    return _UNCLEAN.search(text) is None
