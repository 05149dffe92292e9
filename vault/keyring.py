"""The key files of a vault, opened when they are first needed.

    keys/                root keys that lie in files (vault/rootkeys/file.py)
    signer/log.key and log-mldsa.key
                         the ledger's keys (vault/logkeys.py); `signer/` also remembers what was
                         signed last
    signer/anchor.key    the Ed25519 seed with which the local anchor signs its receipts
    signer/organisation.key and .pem
                         the key that signs certificates of destruction (vault/organisation.py)

Each is sealed under the vault's passphrase. Opening one costs an Argon2id run, so a read does not
open the signing keys. `signer/` belongs in no backup: a copy of it could sign a second history.
"""

from __future__ import annotations

import datetime as dt
import hmac
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from nacl.signing import SigningKey

from vault import organisation
from vault.generations import Providers
from vault.keyfile import SECRET_BYTES, encode_passphrase, read_key_file, write_key_file
from vault.logkeys import SIGNER_FOLDER, LogKeyFiles
from vault.organisation import OrganisationKey
from vault.rehearsal import rehearse
from vault.rootkeys.provider import Surroundings

ANCHOR_KEY = SIGNER_FOLDER / "anchor.key"
_ANCHOR_LABEL = "local anchor key"


class Keyring:
    """Opens the keys of one vault.

    Args:
        folder: of the vault.
        passphrase: of its key files.
    """

    def __init__(self, folder: Path, passphrase: str) -> None:
        self._folder = folder
        self._passphrase = passphrase

    def rehearse(self, backup: Path, trees: Sequence[int]) -> dict[int, dict[str, int]]:
        """Open a key backup in a fresh process with what this keyring opens; see there."""
        return rehearse(backup, self._folder, self._passphrase, trees)

    def is_passphrase(self, passphrase: str) -> bool:
        """Tell whether a text is the passphrase that opens these key files."""
        own, other = encode_passphrase(self._passphrase), encode_passphrase(passphrase)
        return hmac.compare_digest(own, other)

    def __repr__(self) -> str:
        return f"Keyring({str(self._folder)!r})"

    @classmethod
    def create(cls, folder: Path, passphrase: str, origin: str, now: dt.datetime) -> Keyring:
        """Make the signing keys of a new vault.

        Args:
            folder: of the vault.
            passphrase: seals them.
            origin: of its ledger, which the organisation's certificate names.
            now: from when that certificate holds.
        """
        (folder / SIGNER_FOLDER).mkdir(mode=0o700)
        organisation.create(folder, passphrase, origin, now)
        LogKeyFiles(folder, passphrase, origin).create()
        write_key_file(folder / ANCHOR_KEY, _ANCHOR_LABEL, os.urandom(SECRET_BYTES), passphrase)
        return cls(folder, passphrase)

    @cached_property
    def providers(self) -> Providers:
        """The providers of the root keys."""
        return Providers(Surroundings(self._folder, self._passphrase))

    def make_organisation(self, name: str, now: dt.datetime) -> None:
        """Make the key that signs certificates, for a vault that was made without one."""
        organisation.create(self._folder, self._passphrase, name, now)

    @cached_property
    def organisation(self) -> OrganisationKey:
        """The key that signs certificates of destruction."""
        return OrganisationKey.open(self._folder, self._passphrase)

    def log(self, origin: str) -> LogKeyFiles:
        """Return the ledger's keys.

        Args:
            origin: of the ledger.
        """
        return LogKeyFiles(self._folder, self._passphrase, origin)

    @cached_property
    def anchor(self) -> SigningKey:
        """The local anchor's signing key."""
        path = self._folder / ANCHOR_KEY
        return SigningKey(read_key_file(path, _ANCHOR_LABEL, self._passphrase))
