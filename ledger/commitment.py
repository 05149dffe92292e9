"""Commitment suite 1: what binds an entry to a payload without revealing it.

    commitment = HMAC-SHA-256(K_commit, field(domain) || field(suite) || field(origin)
                 || field(pointer) || field(version) || field(group) || field(SHA-256(payload)))

where field(x) is the length of x as two big-endian bytes, then x. The fields are:

    domain   the ASCII text "datakluis/commitment/1"
    suite    1 byte, 0x01
    origin   the ledger's origin line, UTF-8
    pointer  16 bytes
    version  4 bytes, big-endian
    group    1 byte, field group 0x00 to 0x0f, 0x00 the core
    digest   32 bytes, SHA-256 of the payload, the bytes as given: nothing is canonicalised

K_commit is 32 random bytes of this group of this record version alone. Whoever holds it can open
the commitment; when it is destroyed, the commitment confirms no guess (PR2). HMAC is not perfectly
hiding: the claim rests on SHA-256 behaving as a pseudo-random function under a secret key. Tested
in tests/ledger/test_commitment.py.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from ledger.entry import CORE_GROUP, MAX_GROUP, CommitmentSuite

_DOMAIN = b"datakluis/commitment/1"
COMMITMENT_KEY_BYTES = 32
_SHA256 = hashes.SHA256()


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


class Committer:
    """Makes and checks commitments for one ledger.

    Args:
        origin: the ledger's origin line.
    """

    def __init__(self, origin: str) -> None:
        suite = bytes([CommitmentSuite.SHA256_HMAC])
        # Everything that is the same for each record of a ledger, joined once.
        self._prefix = _field(_DOMAIN) + _field(suite) + _field(origin.encode()) + b"\x00\x10"
        self._tails = {
            group: _field(bytes([group])) + b"\x00\x20" for group in range(MAX_GROUP + 1)
        }

    def commit(
        self, key: bytes, pointer: bytes, version: int, payload: bytes, group: int = CORE_GROUP
    ) -> bytes:
        """Return the 32-byte commitment to `payload` as `version` of a group of `pointer`.

        Args:
            key: K_commit, 32 bytes.
            pointer: 16 bytes.
            version: 1 to 2^32 - 1.
            payload: any bytes.
            group: field group, 0 to 15.

        Raises:
            ValueError: there is no such group.
        """
        tail = self._tails.get(group)
        if tail is None:
            raise ValueError(f"field group {group} is not in [0, {MAX_GROUP}]")
        message = b"".join(
            (
                self._prefix,
                pointer,
                b"\x00\x04",
                version.to_bytes(4, "big"),
                tail,
                hashlib.sha256(payload).digest(),
            )
        )
        mac = HMAC(key, _SHA256)
        mac.update(message)
        return mac.finalize()

    def opens(
        self,
        commitment: bytes,
        key: bytes,
        pointer: bytes,
        version: int,
        payload: bytes,
        group: int = CORE_GROUP,
    ) -> bool:
        """Tell, in constant time, whether `key` opens `commitment` to `payload`; see `commit`."""
        return hmac.compare_digest(commitment, self.commit(key, pointer, version, payload, group))
