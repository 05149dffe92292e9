"""The record cipher: from a slot's 32 bytes to a sealed payload and back (PR1).

    K_enc || K_commit || K_row = HKDF-Expand(slot key, "datakluis/record/1", 96 bytes)   RFC 5869

    blob = suite 0x01 || nonce, 12 random bytes || AES-256-GCM(K_enc, nonce, payload) || tag, 16

with the associated data, 39 bytes:

    format 0x01 || suite 0x01 || tenant, 16 || pointer, 16 || version, 4 || group, 1 byte

so a blob opens in its own place only. Each field group of each record version has a slot of its
own, so the same payload gives other bytes each time. A note about a record, such as the reason of a
hold, is sealed likewise under K_enc with 0x02 as its format byte.

K_row authenticates what the database says of the record beside its payload: the row tag is the
first 16 bytes of HMAC-SHA-256(K_row, statement), where vault/records.py describes the statement. It
is checked before a decision rests on the row, so a changed date cannot make an erasure lawful.
Tested in tests/vault/test_cipher.py.
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ledger.entry import CORE_GROUP
from vault.errors import Damaged

SLOT_KEY_BYTES = 32
NONCE_BYTES = 12
ROW_TAG_BYTES = 16
SUITE = 1

_LABEL = b"datakluis/record/1"
_SUITE_BYTE = bytes([SUITE])
_SHA256 = hashes.SHA256()


class Sealed(IntEnum):
    """What a blob holds: the first byte of its associated data."""

    PAYLOAD = 1
    NOTE = 2


class RecordKeys(NamedTuple):
    """The keys of one record version, 32 bytes each. Its repr shows none of them."""

    encryption: bytes
    commitment: bytes
    row: bytes

    def __repr__(self) -> str:
        return "RecordKeys(…)"


def derive_record_keys(slot_key: bytes) -> RecordKeys:
    """Return the three keys that a slot's 32 bytes stand for."""
    okm = HKDFExpand(_SHA256, 96, _LABEL).derive(slot_key)
    return RecordKeys(okm[:32], okm[32:64], okm[64:])


class Cipher:
    """Seals and opens the blobs of one tenant.

    Args:
        tenant: 16 bytes.
    """

    def __init__(self, tenant: bytes) -> None:
        self._prefix = {
            kind: bytes([kind, SUITE]) + tenant for kind in (Sealed.PAYLOAD, Sealed.NOTE)
        }

    def seal(
        self,
        keys: RecordKeys,
        pointer: bytes,
        version: int,
        plaintext: bytes,
        nonce: bytes,
        kind: Sealed = Sealed.PAYLOAD,
        group: int = CORE_GROUP,
    ) -> bytes:
        """Return the blob of a payload or note.

        Args:
            keys: of this group of this version.
            pointer: 16 bytes.
            version: 1 to 2^32 - 1.
            plaintext: any bytes.
            nonce: 12 fresh random bytes.
            kind: what the plaintext is.
            group: field group, 0 to 15.
        """
        associated = self._associated(kind, pointer, version, group)
        return _SUITE_BYTE + nonce + AESGCM(keys.encryption).encrypt(nonce, plaintext, associated)

    def open(
        self,
        keys: RecordKeys,
        pointer: bytes,
        version: int,
        blob: bytes,
        kind: Sealed = Sealed.PAYLOAD,
        group: int = CORE_GROUP,
    ) -> bytes:
        """Return what a blob holds.

        Raises:
            Damaged: the blob is not what was sealed here, under these keys.
        """
        if blob[:1] != _SUITE_BYTE or len(blob) < 1 + NONCE_BYTES:
            raise Damaged("a sealed blob has an unknown suite byte")
        nonce = blob[1 : 1 + NONCE_BYTES]
        associated = self._associated(kind, pointer, version, group)
        try:
            return AESGCM(keys.encryption).decrypt(nonce, blob[1 + NONCE_BYTES :], associated)
        except InvalidTag:
            raise Damaged("a sealed blob does not open: its bytes were changed") from None

    def _associated(self, kind: Sealed, pointer: bytes, version: int, group: int) -> bytes:
        return self._prefix[kind] + pointer + version.to_bytes(4, "big") + bytes([group])


def row_tag(keys: RecordKeys, statement: bytes) -> bytes:
    """Return the 16-byte tag over what a record's row states.

    Args:
        keys: of the record's current version.
        statement: as vault/records.py describes it.
    """
    mac = HMAC(keys.row, _SHA256)
    mac.update(statement)
    return mac.finalize()[:ROW_TAG_BYTES]


def row_tag_matches(keys: RecordKeys, statement: bytes, tag: bytes) -> bool:
    """Tell, in constant time, whether a row is as it was written."""
    return hmac.compare_digest(row_tag(keys, statement), tag)
