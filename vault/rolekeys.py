"""Role keys: the Ed25519 keys with which members of an organisation approve (GO2, PR4).

A role key lies in a key file (vault/keyfile.py) under the label "role key", sealed under a
passphrase of whoever holds it, and never in the vault's folder by itself. One passphrase does not
make two persons: where a role key acts in a vault, its passphrase must not be the vault's. Nothing
here knows who the holder is. Tested in tests/vault/test_governed_vault.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from nacl.signing import SigningKey

from ledger.action import Action
from ledger.approval import Approval, approve
from vault.errors import InvalidInput
from vault.keyfile import SECRET_BYTES, read_key_file, write_key_file

_LABEL = "role key"


@dataclass(frozen=True, slots=True)
class RoleKey:
    """A role key that was opened. Its repr shows no secret.

    Attributes:
        public: 32 bytes; names the member.
    """

    public: bytes
    _signing: SigningKey = field(repr=False, compare=False)

    @classmethod
    def make(cls, path: str | Path, passphrase: str) -> RoleKey:
        """Make a new key and its file, of mode 0600.

        Raises:
            ConfigurationError: the file exists.
            InvalidInput: the passphrase is empty or not encodable.
        """
        seed = os.urandom(SECRET_BYTES)
        write_key_file(Path(path), _LABEL, seed, passphrase)
        return cls._of(seed)

    @classmethod
    def read(cls, path: str | Path, passphrase: str) -> RoleKey:
        """Open a key file.

        Raises:
            ConfigurationError: the file is missing or is no role key's.
            WrongPassphrase: it does not open.
            InvalidInput: the passphrase is empty or not encodable.
        """
        return cls._of(read_key_file(Path(path), _LABEL, passphrase))

    @classmethod
    def _of(cls, seed: bytes) -> RoleKey:
        signing = SigningKey(seed)
        return cls(bytes(signing.verify_key), signing)

    def approve(self, origin: str, sequence: int, action: Action, expiry: int) -> Approval:
        """Sign an action; see `ledger.approval.approve`."""
        return approve(self._signing, origin, sequence, action, expiry)


def parse_public_key(text: str) -> bytes:
    """Return the 32 bytes of a public key in lower-case hex.

    Raises:
        InvalidInput: it is none.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32 or key.hex() != text:
        raise InvalidInput(
            "a public key is 64 digits of lower-case hex, as 'kluis member key' says"
        )
    return key
