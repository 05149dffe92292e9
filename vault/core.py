"""What every operation on an open vault shares: folder, configuration, database, keys and clock.

`Core.change` is the one way to write: a transaction under the writer lock together with an edit of
the key tree and the subject index as that transaction sees them. Records, key nodes and pending
entries become durable at once or not at all (P5); the caches take the change over only after the
commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

from sqlalchemy import Connection

from ledger.commitment import Committer
from ledger.driver import run
from ledger.errors import LedgerError
from ledger.log import Log
from ledger.note import is_key_name
from ledger.signer import Signer
from ledger.tilecache import TileCache
from vault.cipher import Cipher, RecordKeys, derive_record_keys
from vault.clock import Clock
from vault.config import Config, checked_actor
from vault.database import Database
from vault.errors import Damaged, PurposeRefused
from vault.keyring import SIGNER_FOLDER, Keyring
from vault.keytree import ROOT, KeyTree, TreeEdit, TreeState
from vault.records import Action, RecordRow
from vault.subjects import BucketCache, ReadKey, SubjectIndex

DATABASE_FILE = "vault.db"


class Caller(NamedTuple):
    """Who calls, and for which registered purpose."""

    actor: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction that writes.

    Attributes:
        connection: holds the writer lock.
        edit: of the key tree.
        subjects: the index as this transaction sees it.
    """

    connection: Connection
    edit: TreeEdit
    subjects: SubjectIndex

    def act(self, caller: Caller, action: Action, at: int) -> int:
        """Record who does what and why, and return the act's id (P6)."""
        inserted = run(
            self.connection,
            "INSERT INTO vault_act (at, actor, purpose, action) VALUES (?, ?, ?, ?)",
            (at, caller.actor, caller.purpose, action),
        )
        return cast(int, inserted.lastrowid)


class Core:
    """The parts of an open vault.

    Args:
        folder: of the vault.
        config: as read from it.
        database: opened.
        keyring: of its key files.
        actor: who acts when a call names nobody.
        clock: tells the time.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        database: Database,
        keyring: Keyring,
        actor: str,
        clock: Clock,
    ) -> None:
        self.folder = folder
        self.config = config
        self.database = database
        self.keyring = keyring
        self.clock = clock
        self._default_caller = Caller(checked_actor(actor), config.registered(None))
        self.tree = KeyTree(keyring.root)
        self.tiles = TileCache()
        self._buckets = BucketCache()
        try:
            with database.read() as connection:
                state = self.tree.state(connection)
                self.origin = Log(connection).head().origin
                # Opening the root node proves at once that the root key belongs to this database.
                self.tree.node(connection, state, ROOT)
            if not is_key_name(self.origin):
                raise Damaged("the origin of the ledger in the database cannot name its key")
        except (LedgerError, TypeError, ValueError, OverflowError) as error:
            # Changed bytes can make any number or text, also one that nothing here expects.
            raise Damaged(
                f"{database.path} is damaged: its tree or its ledger cannot be read"
            ) from error
        self.cipher = Cipher(state.tenant)
        self.committer = Committer(self.origin)

    @cached_property
    def signer(self) -> Signer:
        """The ledger's signer; opening its key costs an Argon2id run."""
        return Signer(self.origin, self.keyring.log, self.folder / SIGNER_FOLDER)

    def caller(self, actor: str | None, purpose: str | None) -> Caller:
        """Return who calls and why, with the defaults for None.

        Raises:
            InvalidInput: the actor's name cannot be recorded.
            PurposeRefused: the purpose is not registered (PU1).
        """
        if actor is None and purpose is None:
            return self._default_caller
        name = self._default_caller.actor if actor is None else checked_actor(actor)
        return Caller(name, self.config.registered(purpose))

    def require_allowed(self, category: str | None, purpose: str) -> None:
        """Refuse a purpose that a record's category does not allow (PU1).

        A tombstone has no category, and nothing that a purpose could be refused for.
        """
        if category is not None and purpose not in self.config.category(category).purposes:
            raise PurposeRefused(f"category {category} does not allow this purpose")

    def allowed_categories(self, purpose: str) -> frozenset[str]:
        """Return the names of the categories that allow a purpose."""
        categories = self.config.categories.values()
        return frozenset(one.name for one in categories if purpose in one.purposes)

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Write under the writer lock; an exception leaves everything as it was."""
        with self.database.write() as connection:
            edit = self.tree.edit(connection)
            change = Change(connection, edit, self.subject_index(connection, edit.state, edit.key))
            yield change
            edit.write()
        self.tree.adopt(edit)
        if edit.written:
            self._buckets.adopt(edit.state.label, change.subjects)

    def subject_index(
        self, connection: Connection, state: TreeState, read_key: ReadKey
    ) -> SubjectIndex:
        """Return the subject index as a transaction sees it."""
        return SubjectIndex(connection, read_key, self._buckets.keys(state.label))

    def record_keys(
        self, connection: Connection, record: RecordRow, read_key: ReadKey
    ) -> RecordKeys:
        """Return the keys of a record's newest version, having checked its row with them.

        Raises:
            Damaged: the row was changed, or its key is gone.
        """
        slot = connection.exec_driver_sql(
            "SELECT slot FROM vault_version WHERE record_id = ? AND number = ?",
            (record.id, record.current),
        ).scalar()
        if slot is None:
            raise Damaged(f"record {record.name} lacks its newest version")
        keys = derive_record_keys(read_key(slot))
        record.check_tag(keys)
        return keys

    def read_key(self, connection: Connection, state: TreeState | None = None) -> ReadKey:
        """Return a function from slot to key, for one snapshot."""
        state = state or self.tree.state(connection)
        return lambda slot: self.tree.key(connection, state, slot)

    def close(self) -> None:
        """Close the database."""
        self.database.close()
