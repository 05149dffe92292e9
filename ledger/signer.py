"""The signer: one Ed25519 key and the last checkpoint it signed, kept outside the database.

A log must never sign two checkpoints of which one does not extend the other (C2SP tlog-checkpoint).
The database cannot be trusted with that, since an older copy of it may be restored. So the signer
keeps its last checkpoint in a folder of its own, compares the database against it under a file
lock, and replaces it before the new signature leaves:

    1. lock the folder; read the last signed checkpoint
    2. the database's tree must reproduce and extend it: not smaller (`RolledBack`), not different
       (`Forked`); a consistency proof ties the new root to the signed one
    3. sign the head; write it to a temporary file, fsync, rename, fsync the folder
    4. the caller stores the note in the database

A crash after 3 leaves a signed checkpoint that the database lacks; the next call finds the tree
unchanged, returns the very note that was kept, and the caller stores that. Signing and recovery are
one path. The folder holds `last-checkpoint`, a signed note, from the first day: the empty tree's.
Tested in tests/ledger/test_signer.py.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacl.signing import SigningKey

from ledger.checkpoint import Checkpoint
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
from ledger.merkle import verify_consistency
from ledger.note import Note, VerifierKey, sign, verify

LAST_CHECKPOINT = "last-checkpoint"
LOCK = "lock"


class SignerMemory:
    """The folder in which a signer remembers what it signed last.

    Args:
        folder: outside the database and outside every backup.
        verifier: the public key under which the memory itself must verify.
    """

    def __init__(self, folder: Path, verifier: VerifierKey) -> None:
        self._folder = folder
        self.verifier = verifier

    def last(self) -> tuple[Note, Checkpoint]:
        """Return the checkpoint that was signed last.

        Raises:
            SignerStateLost: it is missing, damaged, or signed by another key.
        """
        path = self._folder / LAST_CHECKPOINT
        try:
            note = Note.parse(path.read_bytes())
            verify(note, self.verifier)
            return note, Checkpoint.parse(note.text)
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
        path = self._folder / LAST_CHECKPOINT
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(note.format().encode())
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


class Signer:
    """Signs checkpoints of one log, never two that contradict each other.

    Args:
        origin: the log's origin line, also the key's name.
        key: the log's Ed25519 key.
        folder: where the signer remembers what it signed last.
    """

    def __init__(self, origin: str, key: SigningKey, folder: Path) -> None:
        self._origin = origin
        self._key = key
        self.verifier = VerifierKey(origin, bytes(key.verify_key))
        self.memory = SignerMemory(folder, self.verifier)

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"

    def begin(self, checkpoint: Checkpoint) -> None:
        """Remember the empty tree of a new log."""
        self.memory.remember(self._sign(checkpoint))

    def sign_head(self, log: Log) -> tuple[Note, Checkpoint]:
        """Sign the database's head, or return the note if it was signed before.

        Raises:
            RolledBack, Forked, SignerStateLost: see `SignerMemory.check`; nothing is signed.
        """
        with self.memory.locked():
            head = log.head()
            note, signed = self.memory.check(log, head)
            if head.size > signed.size:
                signed = head.checkpoint()
                note = self._sign(signed)
                self.memory.remember(note)
            return note, signed

    def _sign(self, checkpoint: Checkpoint) -> Note:
        text = checkpoint.text()
        return Note(text, (sign(text, self._origin, self._key),))


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
