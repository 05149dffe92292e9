"""Cosignatures: what a witness, or the log itself beside its note signature, signs of a checkpoint.

Implements C2SP tlog-cosignature for whole trees: Ed25519 (type 0x04) and ML-DSA-44 (type 0x06,
FIPS 204), which outlives today's curves. Behind the key ID of its line (C2SP signed-note) stands

    offset  bytes        value
    0       8            timestamp, Unix seconds, big-endian, at most 2^63 - 1
    8       64 or 2,420  Ed25519 or ML-DSA-44 signature

What Ed25519 signs is text: the line `cosignature/v1`, the line `time ` and the timestamp in decimal
ASCII, then the checkpoint's three lines. What ML-DSA-44 signs is

    offset  bytes  value
    0       12     "subtree/v1", 0x0A, 0x00
    12      1 + n  length and UTF-8 of the key's name, 1 to 255 bytes
    .       8      timestamp, big-endian
    .       1 + m  length and UTF-8 of the log's origin, 1 to 255 bytes
    .       8      first leaf: 0
    .       8      leaves in the tree, big-endian
    .       32     its root

A timestamp says: this was the largest tree of that log that I knew of at that time. A log that
signs its own checkpoint says nothing about time, and writes 0; a witness must not.

Tested in tests/ledger/test_cosignature.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import nacl.exceptions
import nacl.signing

from ledger.checkpoint import Checkpoint
from ledger.errors import BadSignature, Malformed
from ledger.note import (
    SignatureLine,
    SignatureType,
    VerifierKey,
    compute_key_id,
    decode_base64,
    encode_base64,
    is_key_name,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

MAX_TIMESTAMP = 2**63 - 1
NO_TIME = 0
"""The timestamp of a log's own cosignature."""

_LABEL = b"subtree/v1\n\0"
_TIMESTAMP = struct.Struct(">Q")
# Public key and signature, bytes.
_SIZES = {
    SignatureType.COSIGNATURE_ED25519: (32, 64),
    SignatureType.COSIGNATURE_ML_DSA_44: (1312, 2420),
}


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """A public key under the name by which it cosigns (C2SP tlog-cosignature, "Format").

    Attributes:
        name: key name, see `ledger.note.is_key_name`; at most 255 bytes for ML-DSA-44.
        public_key: 32 bytes (RFC 8032) or 1,312 bytes (FIPS 204).
        type: COSIGNATURE_ED25519 or COSIGNATURE_ML_DSA_44.

    Raises:
        ValueError: a field is out of these bounds.
    """

    name: str
    public_key: bytes
    type: SignatureType

    def __post_init__(self) -> None:
        if self.type not in _SIZES:
            raise ValueError("not a type of cosignatures")
        if not is_key_name(self.name) or len(self.name.encode()) > 255:
            raise ValueError("no cosigner can be named so")
        if len(self.public_key) != _SIZES[self.type][0]:
            raise ValueError(f"a public key of {len(self.public_key)} bytes")

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before this key's signatures; an identifier, no strong hash."""
        return compute_key_id(self.name, self.type, self.public_key)

    def __str__(self) -> str:
        typed_key = bytes([self.type]) + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(typed_key)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a verifier key that `str()` wrote.

        Raises:
            Malformed: any other text, also when the key ID is not that of the key.
        """
        name, _, rest = text.partition("+")
        typed_key = decode_base64(rest.partition("+")[2])
        try:
            key = cls(name, typed_key[1:], SignatureType(typed_key[0]))
        except (ValueError, IndexError) as error:
            raise Malformed("not the verifier key of a cosigner") from error
        if str(key) != text:
            raise Malformed(f"the verifier key is not written as {key}")
        return key

    def check(self, text: str, signature: bytes) -> None:
        """Return if this key cosigned the checkpoint that is the text of a note.

        Args:
            text: of the note.
            signature: timestamp and signature, without the key ID.

        Raises:
            BadSignature: it did not, or the text is no checkpoint.
        """
        try:
            checkpoint = Checkpoint.parse(text)
            timestamp = _timestamp(signature, self.type)
            message = _message(self, checkpoint, timestamp)
        except (Malformed, ValueError) as error:
            raise BadSignature(
                f"the cosignature of {self.name} ({self.key_id.hex()}) is none: {error}"
            ) from error
        if not self._holds(message, signature[_TIMESTAMP.size :]):
            raise BadSignature(
                f"the cosignature of {self.name} ({self.key_id.hex()}) does not verify"
            )

    def _holds(self, message: bytes, signature: bytes) -> bool:
        if self.type is SignatureType.COSIGNATURE_ED25519:
            try:
                nacl.signing.VerifyKey(self.public_key).verify(message, signature)
            except (nacl.exceptions.BadSignatureError, ValueError):
                return False
            return True
        # Slow to load, and most readers of notes need none of it.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        try:
            MLDSA44PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Ed25519Cosigner:
    """Cosigns with Ed25519.

    Args:
        name: of the key.
        key: the private key. It must not cosign under another name: its message says none.
    """

    def __init__(self, name: str, key: nacl.signing.SigningKey) -> None:
        self._key = key
        self.verifier = CosignerKey(name, bytes(key.verify_key), SignatureType.COSIGNATURE_ED25519)

    def __repr__(self) -> str:
        return f"Ed25519Cosigner({self.verifier})"

    def cosign(self, checkpoint: Checkpoint, timestamp: int) -> SignatureLine:
        """Return the signature line over a checkpoint.

        Args:
            checkpoint: that was verified to extend every one that this key cosigned of its log.
            timestamp: Unix seconds, 0 to 2^63 - 1.
        """
        signature = self._key.sign(_message(self.verifier, checkpoint, timestamp)).signature
        return _line(self.verifier, timestamp, signature)


class MlDsaCosigner:
    """Cosigns with ML-DSA-44.

    Args:
        name: of the key, at most 255 bytes.
        seed: the private key's 32 bytes (FIPS 204, section 3.6.3).

    Raises:
        ValueError: the seed is not 32 bytes, or no cosigner can be named so.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

        self._key: MLDSA44PrivateKey = MLDSA44PrivateKey.from_seed_bytes(seed)
        public_key = self._key.public_key().public_bytes_raw()
        self.verifier = CosignerKey(name, public_key, SignatureType.COSIGNATURE_ML_DSA_44)

    def __repr__(self) -> str:
        return f"MlDsaCosigner({self.verifier.name}+{self.verifier.key_id.hex()})"

    def cosign(self, checkpoint: Checkpoint, timestamp: int) -> SignatureLine:
        """Return the signature line over a checkpoint; see `Ed25519Cosigner.cosign`.

        Raises:
            ValueError: the log's origin is longer than 255 bytes.
        """
        signature = self._key.sign(_message(self.verifier, checkpoint, timestamp))
        return _line(self.verifier, timestamp, signature)


Cosigner = Ed25519Cosigner | MlDsaCosigner


def parse_key(text: str) -> VerifierKey | CosignerKey:
    """Read a verifier key of any type that this version knows.

    Raises:
        Malformed: any other text.
    """
    typed_key = decode_base64(text.partition("+")[2].partition("+")[2])
    if typed_key[:1] == bytes([SignatureType.ED25519]):
        return VerifierKey.parse(text)
    return CosignerKey.parse(text)


def timestamp_of(line: SignatureLine, key: CosignerKey) -> int:
    """Return the timestamp in a key's line, Unix seconds; its signature is not verified.

    Raises:
        Malformed: the line holds no cosignature of that type.
    """
    return _timestamp(line.signature, key.type)


def _timestamp(signature: bytes, kind: SignatureType) -> int:
    if len(signature) != _TIMESTAMP.size + _SIZES[kind][1]:
        raise Malformed(f"a cosignature of {len(signature)} bytes")
    (timestamp,) = _TIMESTAMP.unpack_from(signature)
    if timestamp > MAX_TIMESTAMP:
        raise Malformed("a timestamp beyond 2^63 - 1")
    return int(timestamp)


def _message(key: CosignerKey, checkpoint: Checkpoint, timestamp: int) -> bytes:
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        raise ValueError(f"timestamp {timestamp} is not in [0, 2^63)")
    if key.type is SignatureType.COSIGNATURE_ED25519:
        return f"cosignature/v1\ntime {timestamp}\n{checkpoint.text()}".encode()
    return b"".join(
        (
            _LABEL,
            _prefixed(key.name),
            _TIMESTAMP.pack(timestamp),
            _prefixed(checkpoint.origin),
            _TIMESTAMP.pack(0),
            _TIMESTAMP.pack(checkpoint.size),
            checkpoint.root,
        )
    )


def _prefixed(text: str) -> bytes:
    encoded = text.encode()
    if not 1 <= len(encoded) <= 255:
        raise ValueError(f"a name or origin of {len(encoded)} bytes, not 1 to 255")
    return bytes([len(encoded)]) + encoded


def _line(key: CosignerKey, timestamp: int, signature: bytes) -> SignatureLine:
    return SignatureLine(key.name, key.key_id, _TIMESTAMP.pack(timestamp) + signature)
