"""The embedded provider: root keys in key files of the vault's folder, under its passphrase.

    wrapped epoch key = nonce, 12 random bytes || AES-256-GCM-SIV(root key, nonce, epoch key) || tag
    associated data   = the context (vault/rootkeys/provider.py)
    reference         = the file's name in the vault's folder `keys/`

Enough for one machine. A copied file with its passphrase is that generation for ever, which no
software can undo: so a destruction is only as good as the operator's declaration that no copy
exists. Tested in tests/vault/test_rootkey_file.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from ledger.files import flush
from policy.assurance import Assurance, AssuranceClass, Presence, ProviderKind
from vault.errors import Damaged, KeyGone, ProviderFailed
from vault.keyfile import SECRET_BYTES, read_key_file, write_key_file
from vault.rootkeys.provider import KeyContext, KeyReport, Options, Surroundings, TreeNumber

KEYS_FOLDER = Path("keys")
_LABEL = "root key"
_NONCE_BYTES = 12
# The first schema knew one root key alone, root.key.
_REFERENCE = re.compile(r"(root|permanent)-[1-9][0-9]{0,17}\.key|root\.key")
_PREFIX = {TreeNumber.ORDINARY: "root", TreeNumber.PERMANENT: "permanent"}


class FileRootKeys:
    """Root keys in passphrase-protected files.

    Args:
        options: none.
        surroundings: the vault's folder and passphrase.
    """

    kind = ProviderKind.FILE
    assurance = Assurance(
        AssuranceClass.DECLARED,
        en="Whoever copied the key file and knows the passphrase opens everything of that"
        " generation; that no copy exists is declared by the operator, not tested.",
        nl="Wie het sleutelbestand heeft gekopieerd en de wachtzin kent, opent alles van die"
        " generatie; dat er geen kopie bestaat, heeft de beheerder verklaard en is niet"
        " getoetst.",
    )

    def __init__(self, options: Options, surroundings: Surroundings) -> None:
        self._folder = surroundings.folder / KEYS_FOLDER
        self._passphrase = surroundings.passphrase

    def __repr__(self) -> str:
        return "FileRootKeys(…)"

    def make_key(self, context: KeyContext) -> str:
        """See `RootKeyProvider.make_key`."""
        reference = f"{_PREFIX[context.tree]}-{context.generation}.key"
        path = self._folder / reference
        if not path.exists():
            with _translated(path):
                self._folder.mkdir(mode=0o700, exist_ok=True)
                # Under another name first: a file that was written half must never bear the name.
                partial = path.with_suffix(".new")
                partial.unlink(missing_ok=True)
                write_key_file(partial, _LABEL, os.urandom(SECRET_BYTES), self._passphrase)
                partial.rename(path)
                flush(self._folder)
        return reference

    def wrap(self, reference: str, context: KeyContext, epoch_key: bytes) -> bytes:
        """See `RootKeyProvider.wrap`."""
        nonce = os.urandom(_NONCE_BYTES)
        aead = AESGCMSIV(self._key(reference))
        return nonce + aead.encrypt(nonce, epoch_key, context.encode())

    def unwrap(self, reference: str, context: KeyContext, wrapped: bytes) -> bytes:
        """See `RootKeyProvider.unwrap`."""
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return AESGCMSIV(self._key(reference)).decrypt(nonce, sealed, context.encode())
        except (InvalidTag, ValueError):
            raise Damaged(
                f"the wrapped epoch key of generation {context.generation} does not open"
            ) from None

    def destroy(self, reference: str) -> KeyReport:
        """Overwrite and remove the file; see `RootKeyProvider.destroy`."""
        path = self._path(reference)
        if path.exists():
            with _translated(path):
                # Only a courtesy to simple disks: many keep the old bytes elsewhere.
                with path.open("r+b") as file:
                    file.write(os.urandom(path.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
                flush(self._folder)
        return self.report(reference)

    def report(self, reference: str) -> KeyReport:
        """See `RootKeyProvider.report`."""
        if self._path(reference).exists():
            return KeyReport(Presence.PRESENT, f"file {reference} is there")
        return KeyReport(Presence.GONE, f"file {reference} is not there")

    def _key(self, reference: str) -> bytes:
        path = self._path(reference)
        if not path.exists():
            raise KeyGone(f"root key file {path} is gone")
        return read_key_file(path, _LABEL, self._passphrase)

    def _path(self, reference: str) -> Path:
        # It comes from the database, and what it names may be destroyed.
        if not _REFERENCE.fullmatch(reference):
            raise Damaged("a generation of the key tree names no root key file")
        return self._folder / reference


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProviderFailed(f"key file {path} cannot be written: {error.strerror}") from None
