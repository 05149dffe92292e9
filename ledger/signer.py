"""The signer: the log's keys and the last checkpoint it signed, kept outside the database.

A log must never sign two checkpoints of which one does not extend the other (C2SP tlog-checkpoint).
The database cannot be trusted with that, since an older copy of it may be restored. So the signer
keeps its last checkpoint in a folder of its own, compares the database against it under a file
lock, and replaces it before the new signatures leave:

    1. lock the folder; read the last signed checkpoint
    2. the database's tree must reproduce and extend it: not smaller (`RolledBack`), not different
       (`Forked`); a consistency proof ties the new root to the signed one
    3. sign the head with every key of its size: an Ed25519 note signature (0x01), then an ML-DSA-44
       cosignature (0x06) without a time; write it to a temporary file, fsync, rename, fsync the
       folder
    4. the caller stores the note in the database

A crash after 3 leaves a signed checkpoint that the database lacks; the next call finds the tree
unchanged, returns the very note that was kept, and the caller stores that. Signing and recovery are
one path.

The folder holds `last-checkpoint`, a signed note, from the first day: the empty tree's. It holds
`log-keys`, the public register of which key signs which sizes (ledger/logkeys.py); without it the
log has signed everything with one Ed25519 key. The register is read again for every signature,
under the lock, because another process may have rotated the keys. Tested in
tests/ledger/test_signer.py.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from ledger.checkpoint import Checkpoint
from ledger.cosignature import NO_TIME, MlDsaCosigner
from ledger.errors import (
    BadProof,
    BadSignature,
    Forked,
    Malformed,
    RolledBack,
    SignerStateLost,
)
from ledger.files import flush
from ledger.log import Head, Log
from ledger.logkeys import LogKeys
from ledger.merkle import verify_consistency
from ledger.note import Note, NoteKey, SignatureLine, VerifierKey, sign

LAST_CHECKPOINT = "last-checkpoint"
LOG_KEYS = "log-keys"
LOCK = "lock"


class SignerMemory:
    """The folder in which a signer remembers what it signed last.

    Args:
        folder: outside the database and outside every backup.
        keys: of the log, where the folder has no register of them; None where it must have one.
    """

    def __init__(self, folder: Path, keys: LogKeys | None = None) -> None:
        self._folder = folder
        self._unregistered = keys
        self._read: tuple[bytes, LogKeys] | None = None

    @property
    def keys(self) -> LogKeys:
        """The register of the log's keys, as it is now.

        Raises:
            SignerStateLost: it is missing or damaged.
        """
        path = self._folder / LOG_KEYS
        if self._unregistered is not None and not path.exists():
            return self._unregistered
        try:
            data = path.read_bytes()
            if self._read is None or self._read[0] != data:
                self._read = data, LogKeys.parse(data)
        except (OSError, Malformed) as cause:
            raise SignerStateLost(f"{path} is missing or damaged") from cause
        return self._read[1]

    def register(self, keys: LogKeys) -> None:
        """Replace the register of the log's keys, durably."""
        self._replace(LOG_KEYS, keys.format().encode())

    def last(self) -> tuple[Note, Checkpoint]:
        """Return the checkpoint that was signed last.

        Raises:
            SignerStateLost: it is missing or damaged, or a key of its size did not sign it.
        """
        path = self._folder / LAST_CHECKPOINT
        try:
            # Before the register, which is written before anything is signed under it.
            note = Note.parse(path.read_bytes())
            return note, self.keys.verify(note)
        except (OSError, Malformed, BadSignature) as cause:
            raise SignerStateLost(f"{path} is missing or damaged") from cause

    def require_present(self, head: Head) -> None:
        """Raise RolledBack where a database holds less than was signed; the rest is not checked."""
        _, signed = self.last()
        if head.size < signed.size:
            raise RolledBack(signed.size, head.size)

    def check(self, log: Log, head: Head) -> tuple[Note, Checkpoint]:
        """Return the last checkpoint, having checked that the database reproduces it.

        Raises:
            RolledBack: the database's tree is smaller than what was signed.
            Forked: its tree is another one, or its head is not that of its tree.
            SignerStateLost: there is nothing to compare with.
        """
        note, signed = self.last()
        if head.size < signed.size:
            raise RolledBack(signed.size, head.size)
        if (
            head.origin != signed.origin
            or not hmac.compare_digest(log.root(signed.size), signed.root)
            or not hmac.compare_digest(log.root(head.size), head.root)
        ):
            raise Forked(signed.size)
        # Two roots can both fit forged tiles where they read different ones; a proof ties them.
        proof = log.consistency_proof(signed.size, head.size)
        try:
            verify_consistency(signed.size, signed.root, head.size, head.root, proof)
        except BadProof as cause:
            raise Forked(signed.size) from cause
        return note, signed

    def remember(self, note: Note) -> None:
        """Replace the last checkpoint, durably."""
        self._replace(LAST_CHECKPOINT, note.format().encode())

    def _replace(self, name: str, data: bytes) -> None:
        path = self._folder / name
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush(self._folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against every other process that signs.

        Raises:
            SignerStateLost: there is no folder.
        """
        try:
            lock = (self._folder / LOCK).open("ab")
        except (FileNotFoundError, NotADirectoryError) as cause:
            raise SignerStateLost(f"{self._folder} is missing") from cause
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True, slots=True, repr=False)
class NoteSigner:
    """Signs notes with an Ed25519 key.

    Attributes:
        name: of the key.
        key: the private key.
    """

    name: str
    key: SigningKey

    @property
    def verifier(self) -> VerifierKey:
        """The public key."""
        return VerifierKey(self.name, bytes(self.key.verify_key))


PrivateKey = NoteSigner | MlDsaCosigner


class Signer:
    """Signs checkpoints of one log, never two that contradict each other.

    Args:
        memory: what was signed last, and by which keys.
        open_keys: opens the private keys that are in use, once the first is needed; told again
            when others have come into use.
    """

    def __init__(self, memory: SignerMemory, open_keys: Callable[[], Sequence[PrivateKey]]) -> None:
        self.memory = memory
        self._open_keys = open_keys
        self._opened: dict[NoteKey, PrivateKey] = {}

    def __repr__(self) -> str:
        return "Signer()"

    @property
    def keys(self) -> LogKeys:
        """The public keys that must have signed a checkpoint; see `SignerMemory.keys`."""
        return self.memory.keys

    def begin(self, checkpoint: Checkpoint) -> None:
        """Remember the empty tree of a new log."""
        self.memory.remember(self._sign(checkpoint))

    def sign_head(self, log: Log) -> tuple[Note, Checkpoint]:
        """Sign the database's head, or return the note if it was signed before.

        Raises:
            RolledBack, Forked, SignerStateLost: see `SignerMemory.check`; nothing is signed.
            SignerStateLost: a private key that is in use is not there; nothing is signed.
        """
        with self.memory.locked():
            return self.sign_head_locked(log)

    def sign_head_locked(self, log: Log) -> tuple[Note, Checkpoint]:
        """Do what `sign_head` does, for a caller that holds the folder."""
        head = log.head()
        note, signed = self.memory.check(log, head)
        if head.size > signed.size:
            signed = head.checkpoint()
            note = self._sign(signed)
            self.memory.remember(note)
        return note, signed

    def _sign(self, checkpoint: Checkpoint) -> Note:
        keys = self.keys.for_size(checkpoint.size)
        if not all(key in self._opened for key in keys):
            self._opened = {one.verifier: one for one in self._open_keys()}
        lines = tuple(_sign_with(self._opened.get(key), checkpoint) for key in keys)
        return Note(checkpoint.text(), lines)


def _sign_with(key: PrivateKey | None, checkpoint: Checkpoint) -> SignatureLine:
    if key is None:
        raise SignerStateLost("a private key of the log that is in use is not in its folder")
    if isinstance(key, NoteSigner):
        return sign(checkpoint.text(), key.name, key.key)
    return key.cosign(checkpoint, NO_TIME)


def store_checkpoint(log: Log, note: Note, checkpoint: Checkpoint, signed_at: int) -> None:
    """Store a signed checkpoint beside its tree, once.

    Args:
        log: on a connection whose transaction the caller commits.
        note: the signed note.
        checkpoint: its parsed text.
        signed_at: Unix seconds, UTC.
    """
    log.connection.exec_driver_sql(
        "INSERT INTO ledger_checkpoint (size, note, signed_at) VALUES (?, ?, ?)"
        " ON CONFLICT (size) DO NOTHING",
        (checkpoint.size, note.format(), signed_at),
    )
