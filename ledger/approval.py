"""Approvals: the signatures that carry an action, and with it the body of a governance entry.

The body is the action's parameters (ledger/action.py), one byte with the number of approvals, and
the approvals, 104 bytes each, in the order of their keys; no key stands twice. Integers are
big-endian.

    approval         public key (32), expiry (8), signature (64, RFC 8032)

What an approval signs is

    "datakluis/approval/1", 0x0A
    length of the ledger's origin in UTF-8 (2), the origin
    sequence (4): of the state that the action would make
    digest of the action (32)
    expiry (8): the entry must be a leaf with a smaller index

so that it goes for one action, in one state of one ledger, and not for ever (GO2). Everybody must
come to the same answer about a signature, and implementations of Ed25519 differ at the edges. Here
it is that of libsodium: the equation without the cofactor, S below the group's order, R and the key
in their one encoding and neither of small order. A member's key is moreover a point of the prime
order itself: a key of small order, for which anybody can sign, is no member's.

Tested in tests/ledger/test_action.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import nacl.exceptions
import nacl.signing

from ledger.action import Action, action_digest, read_action
from ledger.errors import Malformed

_DOMAIN = b"datakluis/approval/1\n"
_APPROVAL = struct.Struct(">32sQ64s")


@dataclass(frozen=True, slots=True, order=True)
class Approval:
    """One signature for an action.

    Attributes:
        key: of who signed, 32 bytes.
        expiry: the action must be a leaf with a smaller index, 0 to 2^63 - 1.
        signature: 64 bytes.
    """

    key: bytes
    expiry: int
    signature: bytes

    def encode(self) -> bytes:
        """Return the 104 bytes."""
        return _APPROVAL.pack(self.key, self.expiry, self.signature)

    @classmethod
    def parse(cls, data: bytes) -> Approval:
        """Return the approval in 104 bytes; it is not verified.

        Raises:
            Malformed: any other number of bytes, or an expiry that no tree reaches.
        """
        if len(data) != _APPROVAL.size:
            raise Malformed(f"an approval of {len(data)} bytes")
        approval = cls(*_APPROVAL.unpack(data))
        if approval.expiry >= 2**63:
            raise Malformed("an approval whose expiry no tree reaches")
        return approval

    def holds(self, origin: str, sequence: int, action: Action) -> bool:
        """Tell whether its key signed exactly this action, for this state of this ledger."""
        try:
            message = approval_message(origin, sequence, action, self.expiry)
            nacl.signing.VerifyKey(self.key).verify(message, self.signature)
        except (nacl.exceptions.BadSignatureError, ValueError):
            return False
        return True


def approve(
    key: nacl.signing.SigningKey, origin: str, sequence: int, action: Action, expiry: int
) -> Approval:
    """Sign an action.

    Args:
        key: of the member.
        origin: of the ledger.
        sequence: of the state that the action would make, from 1.
        action: what is approved.
        expiry: the action must be a leaf with a smaller index, 1 to 2^63 - 1.
    """
    message = approval_message(origin, sequence, action, expiry)
    return Approval(bytes(key.verify_key), expiry, key.sign(message).signature)


def approval_message(origin: str, sequence: int, action: Action, expiry: int) -> bytes:
    """Return what an approval signs."""
    name = origin.encode()
    return b"".join(
        (
            _DOMAIN,
            len(name).to_bytes(2, "big"),
            name,
            sequence.to_bytes(4, "big"),
            action_digest(action),
            expiry.to_bytes(8, "big"),
        )
    )


def encode_body(action: Action, approvals: Iterable[Approval]) -> bytes:
    """Return the body of a governance entry; approvals are put in the order of their keys."""
    ordered = sorted(approvals)
    parts = [approval.encode() for approval in ordered]
    return action.parameters() + bytes([len(ordered)]) + b"".join(parts)


def parse_body(kind: int, body: bytes) -> tuple[Action, tuple[Approval, ...]]:
    """Return action and approvals in the body of a governance entry; nothing is verified.

    Raises:
        Malformed: bytes that `encode_body` would not have written.
    """
    action, rest = read_action(kind, body)
    if not rest:
        raise Malformed("no number of approvals")
    count, data = rest[0], rest[1:]
    if len(data) != count * _APPROVAL.size:
        raise Malformed(f"{len(data)} bytes where {count} approvals go")
    approvals = tuple(
        Approval.parse(data[start : start + _APPROVAL.size])
        for start in range(0, len(data), _APPROVAL.size)
    )
    keys = [approval.key for approval in approvals]
    if keys != sorted(set(keys)):
        raise Malformed("approvals out of the order of their keys, or two of one key")
    return action, approvals
