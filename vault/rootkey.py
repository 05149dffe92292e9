"""Root keys: what wraps the epoch key of a generation.

A provider is asked once per generation and process. The embedded one keeps the root key in a key
file under a passphrase: enough for one machine, and a copied file with its passphrase is that
generation for ever, which no software can undo.

    wrapped epoch key = nonce, 12 random bytes || AES-256-GCM-SIV(root key, nonce, epoch key) || tag
    associated data = "datakluis/epoch/1" || tenant, 16 bytes || generation, 8 bytes big-endian

Tested in tests/vault/test_rootkey.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from vault.errors import Damaged
from vault.keyfile import SECRET_BYTES, read_key_file, write_key_file

_LABEL = "root key"
_DOMAIN = b"datakluis/epoch/1"
_NONCE_BYTES = 12


class RootKeyProvider(Protocol):
    """Wraps and unwraps epoch keys of 32 bytes."""

    name: str

    def wrap(self, tenant: bytes, generation: int, epoch_key: bytes) -> bytes:
        """Return the wrapped epoch key of a generation."""
        ...

    def unwrap(self, tenant: bytes, generation: int, wrapped: bytes) -> bytes:
        """Return the epoch key.

        Raises:
            Damaged: it was not wrapped here for this tenant and generation.
        """
        ...


class FileRootKey:
    """The root key in a passphrase-protected file.

    Args:
        path: of the key file.
        passphrase: under which it was sealed.
    """

    name = "file"

    def __init__(self, path: Path, passphrase: str) -> None:
        self._key = read_key_file(path, _LABEL, passphrase)

    def __repr__(self) -> str:
        return "FileRootKey(…)"

    @classmethod
    def create(cls, path: Path, passphrase: str) -> FileRootKey:
        """Make a new root key in a new file."""
        write_key_file(path, _LABEL, os.urandom(SECRET_BYTES), passphrase)
        return cls(path, passphrase)

    def wrap(self, tenant: bytes, generation: int, epoch_key: bytes) -> bytes:
        """See `RootKeyProvider.wrap`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCMSIV(self._key).encrypt(nonce, epoch_key, _associated(tenant, generation))
        return nonce + sealed

    def unwrap(self, tenant: bytes, generation: int, wrapped: bytes) -> bytes:
        """See `RootKeyProvider.unwrap`."""
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return AESGCMSIV(self._key).decrypt(nonce, sealed, _associated(tenant, generation))
        except (InvalidTag, ValueError):
            raise Damaged(
                f"the wrapped epoch key of generation {generation} does not open"
            ) from None


def _associated(tenant: bytes, generation: int) -> bytes:
    return _DOMAIN + tenant + generation.to_bytes(8, "big")
