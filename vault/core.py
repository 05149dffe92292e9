"""What every operation on an open vault shares: folder, configuration, database, keys and clock.

`Core.change` is the one way to write: a transaction under the writer lock together with edits of
the key trees and the subject index as that transaction sees them. Records, key nodes and pending
entries become durable at once or not at all (P5); the caches take the change over only after the
commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

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
from vault.errors import Damaged, KeyGone, PurposeRefused, TreeMoved
from vault.keyring import Keyring
from vault.keytree import KeyTree, TreeEdit, TreeState, root_of, tree_of
from vault.leases import Lease
from vault.logkeys import LogKeyFiles
from vault.records import Action, RecordRow, current_slot
from vault.rootkeys.provider import TreeNumber
from vault.subjects import BucketCache, ReadKey, SubjectIndex

DATABASE_FILE = "vault.db"

Read = TypeVar("Read")


class Caller(NamedTuple):
    """Who calls, and for which registered purpose."""

    actor: str
    purpose: str


def record_act(connection: Connection, caller: Caller, action: Action, at: int) -> int:
    """Record who does what and why, in the caller's transaction, and return the act's id (P6)."""
    inserted = run(
        connection,
        "INSERT INTO vault_act (at, actor, purpose, action) VALUES (?, ?, ?, ?)",
        (at, caller.actor, caller.purpose, action),
    )
    return cast(int, inserted.lastrowid)


class Change:
    """One transaction that writes.

    Args:
        core: of the open vault.
        connection: holds the writer lock.
    """

    def __init__(self, core: Core, connection: Connection) -> None:
        self._core = core
        self.connection = connection
        self.edit = core.tree.edit(connection)
        self.subjects = core.subject_index(connection, self.edit.state, self.edit.key)

    @cached_property
    def permanent(self) -> TreeEdit:
        """The edit of the tree for records that are kept for ever; made when it is needed."""
        return self._core.trees[TreeNumber.PERMANENT].edit(self.connection)

    @property
    def edits(self) -> list[TreeEdit]:
        """The edits that this change has begun."""
        begun = vars(self).get("permanent")
        return [self.edit] if begun is None else [self.edit, begun]

    def edit_of(self, tree: TreeNumber) -> TreeEdit:
        """Return the edit of a tree."""
        return self.edit if tree is TreeNumber.ORDINARY else self.permanent

    def key(self, slot: int) -> bytes:
        """Return the key in a slot of either tree, as this change leaves it."""
        return self.edit_of(tree_of(slot)).key(slot)

    def act(self, caller: Caller, action: Action, at: int) -> int:
        """Record who does what and why, and return the act's id (P6)."""
        return record_act(self.connection, caller, action, at)


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
        self.lease = Lease(folder)
        self.providers = keyring.providers
        self._buckets = BucketCache()
        self.trees = {
            number: KeyTree(
                number, self.providers, self.lease, self.newest_generation, self._buckets.clear
            )
            for number in TreeNumber
        }
        self.tree = self.trees[TreeNumber.ORDINARY]
        self.tiles = TileCache()
        try:
            with database.read() as connection:
                # Both trees, so that whoever closes an epoch knows what this process has read.
                state, _ = (tree.state(connection) for tree in self.trees.values())
                self.origin = Log(connection).head().origin
                # Opening the root node proves at once that the root key belongs to this database.
                self.tree.node(connection, state, root_of(TreeNumber.ORDINARY))
            if not is_key_name(self.origin):
                raise Damaged("the origin of the ledger in the database cannot name its key")
        except (LedgerError, TypeError, ValueError, OverflowError) as error:
            # Changed bytes can make any number or text, also one that nothing here expects.
            self.lease.end()
            raise Damaged(
                f"{database.path} is damaged: its tree or its ledger cannot be read"
            ) from error
        except BaseException:
            self.lease.end()
            raise
        self.tenant = state.tenant
        self.cipher = Cipher(state.tenant)
        self.committer = Committer(self.origin)

    @cached_property
    def signer(self) -> Signer:
        """The ledger's signer; opening its keys, to sign, costs two Argon2id runs."""
        return self.log_keys.signer()

    @cached_property
    def log_keys(self) -> LogKeyFiles:
        """The ledger's key files."""
        return self.keyring.log(self.origin)

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
            change = Change(self, connection)
            yield change
            for edit in change.edits:
                edit.write()
        for edit in change.edits:
            edit.tree.adopt(edit)
        if change.edit.written:
            self._buckets.adopt(change.edit.state.label, change.subjects)

    def subject_index(
        self, connection: Connection, state: TreeState, read_key: ReadKey
    ) -> SubjectIndex:
        """Return the subject index as a transaction sees it."""
        return SubjectIndex(connection, read_key, self._buckets.keys(state.label))

    @staticmethod
    def retried(read: Callable[[], Read]) -> Read:
        """Return what a read gives, once more in a new snapshot where an epoch ended under it."""
        try:
            return read()
        except (TreeMoved, KeyGone):
            return read()

    def newest_generation(self, tree: TreeNumber) -> int:
        """Return the generation in which a tree is now, whatever snapshot is being read."""
        rows = self.database.fetch("SELECT generation FROM vault_tree WHERE id = ?", (tree + 1,))
        return int(rows[0][0]) if rows else 0

    def record_keys(
        self, connection: Connection, record: RecordRow, read_key: ReadKey
    ) -> RecordKeys:
        """Return the keys of a record's newest version, having checked its row with them.

        Raises:
            Damaged: the row was changed, or its key is gone.
        """
        keys = derive_record_keys(read_key(current_slot(connection, record)))
        record.check_tag(keys)
        return keys

    def read_key(self, connection: Connection, state: TreeState | None = None) -> ReadKey:
        """Return a function from a slot of either tree to its key, for one snapshot.

        Args:
            connection: with the snapshot.
            state: of the ordinary tree, where the caller has read it.
        """
        states = {} if state is None else {TreeNumber.ORDINARY: state}

        def read(slot: int) -> bytes:
            tree = self.trees[tree_of(slot)]
            if tree.number not in states:
                states[tree.number] = tree.state(connection)
            return tree.key(connection, states[tree.number], slot)

        return read

    def close(self) -> None:
        """Close the database and give the lease back."""
        self.database.close()
        self.lease.end()
