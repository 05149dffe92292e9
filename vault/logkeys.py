"""The private keys of the ledger: made, completed, opened, and replaced by others (PR4, PR6).

    signer/log.key        the seed of the Ed25519 key
    signer/log-mldsa.key  the seed of the ML-DSA-44 key, of which nothing is derived from the other
    signer/log-keys       the public register of all keys, also of retired ones (ledger/logkeys.py)

The two key files are those of the keys in use; a retired key is nowhere in the folder. A vault of
an earlier version has neither register nor ML-DSA-44 key: it has signed everything with one key.

Replacing keys, under the database's writer lock and the lock of the folder:

    1. every entry that waits becomes a leaf, and the tree is signed under the old keys: this is the
       closing checkpoint, which the signer remembers
    2. the new seeds go into log.key.new and log-mldsa.key.new, flushed
    3. the register is replaced: the old keys end at the size of the closing checkpoint, the new
       ones begin one leaf later. From here on the new keys are those in use
    4. each .new file takes the place of the old key file, which is gone with that

What is cut off before 3 has changed no key, and its .new files are removed. What is cut off later
is finished by whoever opens the vault next, since the register says which of two files is of the
key in use. Making the ML-DSA-44 key of an earlier vault is 2 to 4, with a range that begins one
leaf after the last checkpoint. Keys that have signed nothing yet are not replaced, so rotating
twice is rotating once. Tested in tests/vault/test_log_keys.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from ledger.checkpoint import Checkpoint
from ledger.cosignature import CosignerKey, MlDsaCosigner
from ledger.errors import SignerStateLost
from ledger.files import flush
from ledger.logkeys import LogKey, LogKeys
from ledger.note import SignatureType, VerifierKey
from ledger.signer import LOG_KEYS, NoteSigner, PrivateKey, Signer, SignerMemory
from vault.keyfile import SECRET_BYTES, read_key_file, write_key_file

SIGNER_FOLDER = Path("signer")
LOG_KEY = SIGNER_FOLDER / "log.key"
LOG_ML_DSA_KEY = SIGNER_FOLDER / "log-mldsa.key"
# In the order in which they sign: key file and label of each algorithm.
_FILES = {
    SignatureType.ED25519: (LOG_KEY, "log key"),
    SignatureType.COSIGNATURE_ML_DSA_44: (LOG_ML_DSA_KEY, "ML-DSA-44 log key"),
}


@dataclass(frozen=True, slots=True)
class Rotation:
    """The newest rotation of a ledger's keys.

    Attributes:
        closing: the last checkpoint that the old keys signed.
        keys: in use from one leaf later on.
        is_new: whether this call rotated; else the keys in use have signed nothing yet.
    """

    closing: Checkpoint
    keys: tuple[LogKey, ...]
    is_new: bool


class LogKeyFiles:
    """The log keys in a vault's folder.

    Args:
        folder: of the vault.
        passphrase: of the key files.
        origin: of the ledger, and the name of its keys.
    """

    def __init__(self, folder: Path, passphrase: str, origin: str) -> None:
        self._vault = folder
        self._folder = folder / SIGNER_FOLDER
        self._passphrase = passphrase
        self._origin = origin

    def __repr__(self) -> str:
        return f"LogKeyFiles({str(self._folder)!r})"

    def create(self) -> None:
        """Make both keys of a new vault and its register."""
        keys = []
        for algorithm, (path, label) in _FILES.items():
            seed = os.urandom(SECRET_BYTES)
            write_key_file(self._vault / path, label, seed, self._passphrase)
            keys.append(LogKey(self._private(algorithm, seed).verifier))
        SignerMemory(self._folder).register(LogKeys(tuple(keys)))

    def signer(self) -> Signer:
        """Return the signer. With a register, no key file is opened before something is signed.

        Raises:
            ConfigurationError, WrongPassphrase: there is no register, and the one key of an earlier
                version does not open.
            SignerStateLost: the register is gone.
        """
        if self.has_register():
            return Signer(SignerMemory(self._folder), self._open)
        if (self._vault / LOG_ML_DSA_KEY).exists():
            raise SignerStateLost(f"{self._folder / LOG_KEYS} is missing")
        verifier = self._read(SignatureType.ED25519, self._vault / LOG_KEY).verifier
        lone = LogKeys((LogKey(verifier),))
        return Signer(SignerMemory(self._folder, lone), self._open)

    def has_register(self) -> bool:
        """Tell whether the folder has a register of the keys."""
        return (self._folder / LOG_KEYS).exists()

    def is_unsettled(self) -> bool:
        """Tell whether replacing keys was cut off."""
        return any(_new(self._vault / path).exists() for path, _ in _FILES.values())

    def settle(self, memory: SignerMemory) -> None:
        """Finish or undo what was cut off; the caller holds the folder.

        Raises:
            ConfigurationError, WrongPassphrase: a key file does not open.
        """
        for algorithm, (path, _) in _FILES.items():
            new = _new(self._vault / path)
            if not new.exists():
                continue
            found = self._find(algorithm, memory.keys)
            if found is not None and found[0] == new:
                new.replace(self._vault / path)
            else:
                new.unlink()
        flush(self._folder)

    def add_ml_dsa(self, memory: SignerMemory) -> None:
        """Make the ML-DSA-44 key of a vault that has none; the caller holds the folder.

        Raises:
            SignerStateLost: what was signed last is not known, so neither what is to be signed.
        """
        _, signed = memory.last()
        algorithm = SignatureType.COSIGNATURE_ML_DSA_44
        successor = LogKey(self._make_new(algorithm), signed.size + 1)
        memory.register(LogKeys((*memory.keys.keys, successor)))
        self._adopt([algorithm])

    def replace(self, memory: SignerMemory, closing: Checkpoint) -> bool:
        """Do steps 2 to 4 of replacing keys; the caller holds the folder.

        Args:
            memory: settled.
            closing: the last checkpoint that was signed.

        Returns:
            Whether keys were replaced: not where those in use have signed nothing yet.
        """
        keys = memory.keys
        unused = {one.algorithm for one in keys.current if one.first_size > closing.size}
        due = [algorithm for algorithm in _FILES if algorithm not in unused]
        if not due:
            return False
        successors = tuple(self._make_new(algorithm) for algorithm in due)
        memory.register(keys.succeeded(closing, successors))
        self._adopt(due)
        return True

    def require_in_use(self, keys: LogKeys) -> None:
        """Raise unless the private keys that are in use are here, and open.

        Raises:
            ConfigurationError, WrongPassphrase: a key file is missing or does not open.
            SignerStateLost: it is of another key.
        """
        opened = {one.verifier for one in self._open_from(keys)}
        if not opened.issuperset(one.key for one in keys.current):
            raise SignerStateLost("the key files are not those of the keys in use")

    def _open(self) -> Sequence[PrivateKey]:
        if self.has_register():
            return self._open_from(SignerMemory(self._folder).keys)
        return [self._read(SignatureType.ED25519, self._vault / LOG_KEY)]

    def _open_from(self, keys: LogKeys) -> list[PrivateKey]:
        found = [self._find(algorithm, keys) for algorithm in _FILES]
        return [one[1] for one in found if one is not None]

    def _find(self, algorithm: SignatureType, keys: LogKeys) -> tuple[Path, PrivateKey] | None:
        """Return the key in use of an algorithm, and the one of its two files that holds it.

        Raises:
            ConfigurationError, WrongPassphrase: there is such a key, and its file does not open.
        """
        wanted = [one.key for one in keys.current if one.algorithm is algorithm]
        path = self._vault / _FILES[algorithm][0]
        for place in (path, _new(path)) if wanted else ():
            # Where neither is there, the error names the one that should be.
            if place.exists() or (place == path and not _new(path).exists()):
                key = self._read(algorithm, place)
                if key.verifier in wanted:
                    return place, key
        return None

    def _read(self, algorithm: SignatureType, path: Path) -> PrivateKey:
        label = _FILES[algorithm][1]
        return self._private(algorithm, read_key_file(path, label, self._passphrase))

    def _private(self, algorithm: SignatureType, seed: bytes) -> PrivateKey:
        if algorithm is SignatureType.ED25519:
            return NoteSigner(self._origin, SigningKey(seed))
        return MlDsaCosigner(self._origin, seed)

    def _make_new(self, algorithm: SignatureType) -> VerifierKey | CosignerKey:
        path, label = _FILES[algorithm]
        seed = os.urandom(SECRET_BYTES)
        write_key_file(_new(self._vault / path), label, seed, self._passphrase)
        flush(self._folder)
        return self._private(algorithm, seed).verifier

    def _adopt(self, algorithms: Sequence[SignatureType]) -> None:
        for algorithm in algorithms:
            path = self._vault / _FILES[algorithm][0]
            _new(path).replace(path)
        flush(self._folder)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")
