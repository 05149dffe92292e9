"""One node of the key tree: 256 slots, sealed as a whole.

A node's plaintext is 8,448 bytes: 256 state bytes, then 256 slots of 32 bytes. In a leaf node a
slot holds a key that the vault uses; in an inner node it holds the key of the child at that
position.

    sealed node = nonce, 12 random bytes || AES-256-GCM-SIV(node key, nonce, plaintext) || tag, 16
    associated data = format 0x01 || tenant, 16 bytes || level, 1 byte || index, 4 bytes

AES-GCM-SIV (RFC 8452) since a node is sealed many times under one key. A slot goes from free to
live or permanent and from there to erased, never back. Pure. Tested in tests/vault/test_keynode.py.
"""

from __future__ import annotations

import os
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from vault.errors import Damaged

FANOUT = 256
KEY_BYTES = 32
NODE_BYTES = FANOUT * (1 + KEY_BYTES)
_NONCE_BYTES = 12
_FORMAT = b"\x01"
_ZERO_KEY = bytes(KEY_BYTES)


class SlotState(IntEnum):
    """What a slot holds. Permanent slots are for records that no erasure may reach (ST6)."""

    FREE = 0
    LIVE = 1
    ERASED = 2
    PERMANENT = 3


def empty_node() -> bytearray:
    """Return a node in which every slot is free."""
    return bytearray(NODE_BYTES)


def state_at(node: bytes | bytearray, position: int) -> SlotState:
    """Return the state of the slot at a position, 0 to 255."""
    return SlotState(node[position])


def key_at(node: bytes | bytearray, position: int) -> bytes:
    """Return the 32 bytes in the slot at a position, 0 to 255."""
    start = FANOUT + position * KEY_BYTES
    return bytes(node[start : start + KEY_BYTES])


def put_keys(node: bytearray, position: int, keys: bytes, state: SlotState) -> None:
    """Fill consecutive free slots with keys.

    Args:
        node: changed in place.
        position: of the first slot.
        keys: a multiple of 32 bytes; must not reach past the node.
        state: what the slots become, live or permanent.

    Raises:
        Damaged: a slot is not free: what says where free slots begin was changed.
    """
    count = len(keys) // KEY_BYTES
    start = FANOUT + position * KEY_BYTES
    if any(node[position : position + count]):
        raise Damaged("the key tree hands out a slot that is in use")
    node[position : position + count] = bytes([state]) * count
    node[start : start + len(keys)] = keys


def replace_key(node: bytearray, position: int, key: bytes) -> None:
    """Put a fresh key of 32 bytes in place of a live one."""
    start = FANOUT + position * KEY_BYTES
    node[start : start + KEY_BYTES] = key


def zero_slot(node: bytearray, position: int) -> None:
    """Erase the key in a slot."""
    start = FANOUT + position * KEY_BYTES
    node[position] = SlotState.ERASED
    node[start : start + KEY_BYTES] = _ZERO_KEY


def seal_node(node: bytes | bytearray, key: bytes, tenant: bytes, level: int, index: int) -> bytes:
    """Return the sealed form of a node."""
    nonce = os.urandom(_NONCE_BYTES)
    associated = _associated(tenant, level, index)
    return nonce + AESGCMSIV(key).encrypt(nonce, bytes(node), associated)


def open_node(sealed: bytes, key: bytes, tenant: bytes, level: int, index: int) -> bytes:
    """Return the plaintext of a sealed node.

    Raises:
        Damaged: the node is not what was sealed for this place, under this key.
    """
    associated = _associated(tenant, level, index)
    try:
        node = AESGCMSIV(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise Damaged(f"key node {index} at level {level} does not open") from None
    if len(node) != NODE_BYTES or max(node[:FANOUT]) > SlotState.PERMANENT:
        raise Damaged(f"key node {index} at level {level} is not a node")
    return node


def _associated(tenant: bytes, level: int, index: int) -> bytes:
    return _FORMAT + tenant + bytes([level]) + index.to_bytes(4, "big")
