"""Building a vault in a folder out of backups and a ledger: what a restore and a drill share.

Steps 1 to 6 of vault/backup/restore.py, in a folder that nobody else looks at. Who asks for it
brings the root keys and the signer, and gives the folder its name or throws it away. Tested in
tests/vault/test_restore.py and tests/vault/test_rehearsal.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from ledger.checkpoint import Checkpoint
from ledger.driver import run
from ledger.errors import Malformed, RolledBack
from ledger.governing import catch_up
from ledger.log import Log
from ledger.logkeys import LogKey, LogKeys
from ledger.note import Note, VerifierKey
from ledger.replay import read_entries, replay_onto
from ledger.signer import SignerMemory
from ledger.source import Source
from vault.audit import Trusted, audit
from vault.backup.assembling import (
    Backups,
    assemble,
    forget_prepared,
    open_backups,
    require_living_generations,
    require_newer_keys,
    require_types,
)
from vault.backup.data import (
    ANCHOR_KEY,
    CONFIGURATION,
    LOCAL_ANCHOR,
    LOG_KEYS,
    LONE_LOG_KEY,
    SIGNED,
)
from vault.backup.errors import KeysDestroyed, RestoreRefused
from vault.backup.replaying import FINDINGS, Replayed, replay
from vault.clock import Clock
from vault.config import FILE_NAME, load_config
from vault.core import DATABASE_FILE, Core
from vault.database import Database
from vault.errors import BadBackup, InvalidInput, KeyGone
from vault.keyring import Keyring
from vault.keytree import KeyTree, root_of
from vault.logkeys import SIGNER_FOLDER
from vault.rootkeys.provider import TreeNumber

OTHER_SIGNER = "that is the signer of another vault, or older than the data backup"
_SCRATCH = "scratch"


class RestoreStep(StrEnum):
    """The last step that was reached; see vault/backup/restore.py."""

    ASSEMBLED = "assembled"
    EXTENDED = "extended"
    JUDGED = "judged"
    OPENED = "opened"
    REPLAYED = "replayed"
    AUDITED = "audited"
    FLUSHED = "flushed"
    RENAMED = "renamed"


OnStep = Callable[[RestoreStep], None]


@dataclass(frozen=True, slots=True)
class Materials:
    """What a vault is put together from.

    Attributes:
        data: a data backup.
        keys: a full key backup and those that continue it, in order.
        ledger: a published log, the newest there is; None where there is none to be had.

    Raises:
        InvalidInput: no key backup is named.
    """

    data: Path
    keys: Sequence[Path]
    ledger: Source | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise InvalidInput("name at least one key backup")


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was built.

    Attributes:
        records: living ones.
        versions: with their content.
        replayed: what the ledger and the keys made of the rows.
        findings: file with the pointers of what is lost, outdated or unfindable; None where there
            is nothing to tell.
        leaves: of the ledger.
        leaves_added: that the data backup did not have.
        generations: of the ordinary and the permanent key tree.
        signs: whether the vault has its signer.
    """

    records: int
    versions: int
    replayed: Replayed
    findings: Path | None
    leaves: int
    leaves_added: int
    generations: tuple[int, ...]
    signs: bool


class Building:
    """One vault being built.

    Args:
        folder: empty.
        materials: what it is built from.
        keyring: whose providers open the key trees.
        clock: tells when the erasures are replayed.
        on_step: told each step.
        register: the signer's register of the ledger's keys, where it is there.
    """

    def __init__(
        self,
        folder: Path,
        materials: Materials,
        keyring: Keyring,
        clock: Clock,
        on_step: OnStep,
        register: LogKeys | None = None,
    ) -> None:
        self.folder = folder
        self._materials = materials
        self._keyring = keyring
        self._clock = clock
        self._on_step = on_step
        self._register = register
        self._added = 0
        self._newest: Note | None = None

    @cached_property
    def backups(self) -> Backups:
        """Both backups, checked to be of one vault."""
        scratch = self.folder / _SCRATCH
        scratch.mkdir(mode=0o700)
        keys = scratch / "keys"
        return open_backups(self._materials.data, self._materials.keys, keys)

    @cached_property
    def log_keys(self) -> LogKeys:
        """The ledger's public keys, as the data backup states them, or the signer since.

        Raises:
            InvalidInput: the signer's are no later state of the data backup's.
        """
        stated = self._stated_log_keys()
        if self._register is None:
            return stated
        if not self._register.continues(stated):
            raise InvalidInput(OTHER_SIGNER)
        return self._register

    def _stated_log_keys(self) -> LogKeys:
        if LOG_KEYS not in self.backups.texts:
            return LogKeys((LogKey(self._verifier(LONE_LOG_KEY)),))
        try:
            return LogKeys.parse(self._text(LOG_KEYS).encode())
        except Malformed as error:
            raise BadBackup(f"the data backup's {LOG_KEYS}: {error}") from None

    def assemble(self) -> Database:
        """Put the rows together, extend the ledger and judge the keys: steps 1 to 3."""
        database = Database.create(self.folder / DATABASE_FILE)
        try:
            self._assemble(database)
        except BaseException:
            database.close()
            raise
        return database

    def _assemble(self, database: Database) -> None:
        assemble(database.path, self.backups)
        with database.read() as connection:
            require_types(connection)
        self._on_step(RestoreStep.ASSEMBLED)
        if self._materials.ledger is not None:
            published = read_entries(self._materials.ledger, self.log_keys)
            with database.write() as connection:
                self._added = replay_onto(connection, published, self._clock.now())
                # Lists that were enacted since the backup decide what may be erased again.
                catch_up(connection, published.checkpoint.origin)
            self._newest = published.note
        self._on_step(RestoreStep.EXTENDED)
        with database.write() as connection:
            require_living_generations(connection, self._clock.now())
            require_newer_keys(connection)
            forget_prepared(connection)
        self._on_step(RestoreStep.JUDGED)

    def open(self, database: Database, actor: str | None) -> Core:
        """Put configuration and local anchor in place and open the trees: step 4.

        The database belongs to what is returned, and is closed where this raises.
        """
        try:
            write_durably(self.folder / FILE_NAME, self._text(CONFIGURATION).encode())
            config = load_config(self.folder)
            if LOCAL_ANCHOR in self.backups.texts:
                path = self.folder / config.local_anchor
                path.parent.mkdir(mode=0o700)
                write_durably(path, self._text(LOCAL_ANCHOR).encode())
            for number in TreeNumber:
                self._open_root(database, number)
            core = Core(
                self.folder, config, database, self._keyring, actor or config.actor, self._clock
            )
        except BaseException:
            database.close()
            raise
        return core

    def _open_root(self, database: Database, number: TreeNumber) -> None:
        tree = KeyTree(number, self._keyring.providers)
        with database.read() as connection:
            state = tree.state(connection)
            try:
                tree.node(connection, state, root_of(number))
            except KeyGone as gone:
                raise KeysDestroyed(number, state.generation, str(gone)) from None

    def finish(self, core: Core, *, signs: bool) -> RestoreReport:
        """Replay and audit: steps 5 and 6.

        Args:
            core: of the opened vault.
            signs: whether its signer is in place.

        Raises:
            RestoreRefused: the vault is not one to hand over.
        """
        self._on_step(RestoreStep.OPENED)
        replayed = replay(core, core.caller(None, None))
        core.database.clean_files()
        self._on_step(RestoreStep.REPLAYED)
        memory = self._memory(core, signs=signs)
        faults = audit(core, trusted=Trusted(memory, self._verifier(ANCHOR_KEY))).faults
        if faults:
            raise RestoreRefused(
                f"the assembled vault has {len(faults)} faults, first: {faults[0]}; nothing was"
                " made"
            )
        shutil.rmtree(self.folder / _SCRATCH)
        self._on_step(RestoreStep.AUDITED)
        return self._report(core, replayed, signs=signs)

    def _memory(self, core: Core, *, signs: bool) -> SignerMemory:
        """Return what the ledger is held against: the signer's memory, or the newest signed note.

        Raises:
            RestoreRefused: the signer has signed more than there is.
        """
        newest = self._newest_note()
        if not signs:
            memory = SignerMemory(self.folder / _SCRATCH, self.log_keys)
            memory.remember(newest)
            return memory
        memory = SignerMemory(self.folder / SIGNER_FOLDER, self.log_keys)
        with core.database.read() as connection:
            log = Log(connection)
            try:
                memory.check(log, log.head())
            except RolledBack as behind:
                raise RestoreRefused(
                    f"the signer has signed {behind.signed} leaves, and only {behind.present} are"
                    " here: bring the newest ledger, or leave the signer out"
                ) from None
        return memory

    def _newest_note(self) -> Note:
        try:
            note = Note.parse(self._text(SIGNED).encode())
            size = Checkpoint.parse(note.text).size
        except Malformed as error:
            raise BadBackup(f"the data backup's signed checkpoint is none: {error}") from None
        if self._newest is not None and Checkpoint.parse(self._newest.text).size > size:
            return self._newest
        return note

    def _report(self, core: Core, replayed: Replayed, *, signs: bool) -> RestoreReport:
        with core.database.read() as connection:
            records, versions = run(
                connection,
                "SELECT (SELECT count(*) FROM vault_record WHERE erased_act IS NULL),"
                " (SELECT count(*) FROM vault_version WHERE body IS NOT NULL)",
            ).fetchone()
            leaves = Log(connection).head().size
        findings = self.folder / FINDINGS
        return RestoreReport(
            records,
            versions,
            replayed,
            findings if findings.exists() else None,
            leaves,
            self._added,
            tuple(_generation(core.database, tree) for tree in TreeNumber),
            signs,
        )

    def _text(self, name: str) -> str:
        text = self.backups.texts.get(name)
        if text is None:
            raise BadBackup(f"the data backup lacks its {name}")
        return text

    def _verifier(self, name: str) -> VerifierKey:
        try:
            return VerifierKey.parse(self._text(name))
        except Malformed as error:
            raise BadBackup(f"the data backup's {name} is none: {error}") from None


def _generation(database: Database, tree: TreeNumber) -> int:
    with database.read() as connection:
        row = run(
            connection, "SELECT generation FROM vault_tree WHERE id = ?", (tree + 1,)
        ).fetchone()
    return int(row[0])


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
