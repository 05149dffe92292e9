"""The vault's face: `from vault import Vault`.

    with Vault.open("hoorn", passphrase) as vault:
        pointer = vault.put(b'{"naam": "Zoë"}', category="wmo", subject="999990019")
        assert vault.get(pointer) == b'{"naam": "Zoë"}'

Each call names an actor and a registered purpose, or takes the defaults of the configuration (PU1,
P6). A `Vault` may be used by several threads. Tested in tests/vault/test_sdk.py.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from anchor.consistency import ConsistencyFile
from anchor.evidence import Evidence
from anchor.job import Anchored, TargetStatus
from anchor.trust import TrustFile
from ledger import log as ledger_log
from ledger.files import flush
from ledger.log import Log
from ledger.note import Note, is_key_name
from ledger.pointer import format_pointer
from ledger.publish import ExportReport, export
from vault import (
    checkpointing,
    proving,
    reading,
    witnessing,
    writing,
)
from vault.audit import AuditReport, audit
from vault.clock import Clock, SystemClock
from vault.completing import complete
from vault.config import FILE_NAME, load_config
from vault.core import DATABASE_FILE, Caller, Core
from vault.database import Database
from vault.errors import ConfigurationError, InvalidInput, QuorumMissing
from vault.groupcommit import GroupCommit
from vault.groups import get_group
from vault.importing import ImportOrder, ImportReport, OnProgress, run_import
from vault.keyfile import encode_passphrase
from vault.keyring import Keyring
from vault.keytree import TENANT_BYTES, plant_trees
from vault.logkeys import SIGNER_FOLDER
from vault.preparing import NewRecord, PreparedRecord, Preparer
from vault.reading import VersionInfo
from vault.sdk_destruction import Destruction
from vault.sdk_erasing import Erasing
from vault.sdk_governing import Governing
from vault.sdk_pruning import Pruning
from vault.sdk_safekeeping import Safekeeping
from vault.witnessing import Witnessed

MAX_ORIGIN_BYTES = 200


class Vault(Erasing, Destruction, Safekeeping, Governing, Pruning):
    """An open vault. Make one with `create`, open one with `open`; use it as a context manager."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._puts: GroupCommit[tuple[PreparedRecord, Caller]] = GroupCommit(
            partial(writing.put_group, core)
        )

    def __repr__(self) -> str:
        return f"Vault({str(self._core.folder)!r})"

    @classmethod
    def create(cls, folder: str | Path, passphrase: str, *, origin: str | None = None) -> Self:
        """Make a new vault: configuration, keys, database and ledger.

        Args:
            folder: does not exist yet, or is empty.
            passphrase: seals the key files.
            origin: the ledger's origin line, a schema-less URL; made up at random for None.

        Raises:
            ConfigurationError: something is in the folder already.
            InvalidInput: an empty or unencodable passphrase, or an origin that cannot name a key.
        """
        folder = Path(folder)
        origin = origin or f"datakluis.example/{format_pointer(os.urandom(16))}"
        encode_passphrase(passphrase)
        if not is_key_name(origin) or len(origin.encode()) > MAX_ORIGIN_BYTES:
            raise InvalidInput(
                f"an origin is 1 to {MAX_ORIGIN_BYTES} bytes without spaces and plus signs"
            )
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise ConfigurationError(
                    f"{folder} is not empty: a vault needs a folder of its own; remove what an"
                    " interrupted init has left there"
                )
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from None
        keyring = Keyring.create(folder, passphrase, origin, dt.datetime.now(dt.UTC))
        database = Database.create(folder / DATABASE_FILE)
        with database.write() as connection:
            ledger_log.create(connection, origin)
            plant_trees(connection, keyring.providers, os.urandom(TENANT_BYTES))
            head = Log(connection).head()
        keyring.log(origin).signer().begin(head.checkpoint())
        # The configuration comes last: without it, the folder is not yet a vault.
        template = resources.files("vault").joinpath("template.toml").read_text(encoding="utf-8")
        with (folder / FILE_NAME).open("w", encoding="utf-8") as file:
            file.write(template)
            file.flush()
            os.fsync(file.fileno())
        for made in (folder / SIGNER_FOLDER, folder, folder.parent):
            flush(made)
        config = load_config(folder)
        return cls(Core(folder, config, database, keyring, config.actor, SystemClock()))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        passphrase: str,
        *,
        actor: str | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Open a vault.

        Args:
            folder: of the vault.
            passphrase: of its key files.
            actor: who acts when a call names nobody; None takes the configuration's.
            clock: the system's for None.

        Raises:
            ConfigurationError, WrongPassphrase, NewerSchema, Damaged: it cannot be opened.
        """
        folder = Path(folder)
        config = load_config(folder)
        keyring = Keyring(folder, passphrase)
        clock = clock or SystemClock()
        database = Database.open(folder / DATABASE_FILE)
        try:
            complete(folder, database, keyring, clock)
            core = Core(folder, config, database, keyring, actor or config.actor, clock)
        except BaseException:
            database.close()
            raise
        return cls(core)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; the vault can be used no more."""
        self._core.close()

    @property
    def folder(self) -> Path:
        """Where the vault lies."""
        return self._core.folder

    @property
    def origin(self) -> str:
        """The origin line of the vault's ledger."""
        return self._core.origin

    def put(
        self,
        payload: bytes,
        *,
        category: str,
        subject: str,
        brondatum: dt.date | None = None,
        record_date: dt.date | None = None,
        groups: Mapping[str, bytes] | None = None,
        actor: str | None = None,
        purpose: str | None = None,
        wait: bool = False,
    ) -> str:
        """Store one record and return its pointer, 26 characters.

        Args:
            payload: any bytes, at most 8 MiB; given back byte for byte.
            category: as configured.
            subject: whom it is about: any text of 1 to 256 bytes in UTF-8.
            brondatum: the day on which the retention term starts; None while that is unknown.
            record_date: the day on which the record was made or received; None means today.
            groups: optional field groups by name, as the category lists them: content that no duty
                keeps, at most 8 MiB each, which can be erased while the record stays (ER5).
            actor: who stores it.
            purpose: for which registered purpose.
            wait: return only when a signed checkpoint includes it, not when it is durable here.

        Raises:
            InvalidInput: nothing was stored.
            PurposeRefused: the purpose is not registered.
            ListNotCarried: the record's date calls for a selection list that is not carried.
            Stopped: the ledger is stopped; nothing was stored (GO3).
        """
        caller = self._core.caller(actor, purpose)
        self._core.require_allowed(category, caller.purpose)
        record = NewRecord(payload, subject, brondatum, record_date, groups)
        preparer = Preparer(self._core, self._core.config.category(category))
        (prepared,) = preparer.prepare([record])
        self._puts.submit((prepared, caller))
        if wait:
            self.checkpoint()
        return format_pointer(prepared.pointer)

    def put_many(
        self,
        records: Iterable[NewRecord],
        *,
        category: str,
        actor: str | None = None,
        purpose: str | None = None,
        on_batch: Callable[[list[str]], None] | None = None,
    ) -> int:
        """Store records from a stream, 1,000 in one durable transaction, and return how many.

        Args:
            records: read as they are needed; memory stays flat.
            category: of all of them.
            actor: who stores them.
            purpose: for which registered purpose.
            on_batch: given the pointers of each batch once it is durable, in the order of the
                records.

        Raises:
            InvalidInput, PurposeRefused, ListNotCarried, Stopped: as for `put`; earlier batches
                stay stored.
        """
        caller = self._core.caller(actor, purpose)
        self._core.require_allowed(category, caller.purpose)
        stored = 0
        for batch in writing.put_batches(
            self._core, records, self._core.config.category(category), caller
        ):
            stored += len(batch)
            if on_batch is not None:
                on_batch([format_pointer(pointer) for pointer in batch])
        return stored

    def import_jsonl(
        self,
        order: ImportOrder,
        *,
        actor: str | None = None,
        purpose: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> ImportReport:
        """Import a file of JSON lines; the same order after a crash goes on where it stopped.

        Raises:
            BadLines: the file has bad lines that are not to be skipped; nothing was stored.
            InvalidInput, PurposeRefused, ListNotCarried: as for `put`.
            Stopped: the ledger is stopped; earlier batches stay stored, and the same order goes on
                behind them once it is resumed.
            Busy: another process is importing the same file.
        """
        caller = self._core.caller(actor, purpose)
        self._core.require_allowed(order.category, caller.purpose)
        return run_import(self._core, order, caller, on_progress)

    def get(
        self,
        pointer: str,
        group: str | None = None,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> bytes:
        """Return the payload of a record's newest version, byte for byte.

        Args:
            pointer: of the record.
            group: name of a field group, whose newest content is returned instead, of whichever
                version that is; None for the payload.
            actor: who reads it.
            purpose: for which registered purpose.

        Raises:
            NotFound: no record has this pointer, or it came without this group.
            Erased: it was erased, or this group of it.
            InvalidInput: its category has no such group.
            PurposeRefused: its category does not allow the purpose.
            KeyLost, Damaged: the stored bytes are not what was written.
        """
        caller = self._core.caller(actor, purpose)
        if group is not None:
            return get_group(self._core, pointer, group, caller)
        return reading.get(self._core, pointer, caller)

    def history(
        self, pointer: str, *, actor: str | None = None, purpose: str | None = None
    ) -> list[VersionInfo]:
        """Return the versions of a record, oldest first; of an erased record too (RE1).

        Raises:
            NotFound: no record has this pointer.
            PurposeRefused: its category does not allow the purpose.
        """
        return reading.history(self._core, pointer, self._core.caller(actor, purpose))

    def find(
        self, subject: str, *, actor: str | None = None, purpose: str | None = None
    ) -> list[str]:
        """Return the pointers of the living records about a subject, oldest first.

        Records of categories that do not allow the purpose are left out.

        Raises:
            InvalidInput: no subject can be called so.
            PurposeRefused: the purpose is not registered.
        """
        return reading.find(self._core, subject, self._core.caller(actor, purpose))

    def rectify(
        self,
        pointer: str,
        payload: bytes,
        *,
        groups: Mapping[str, bytes] | None = None,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> int:
        """Append a corrected version of a record and return its number (RE1).

        Args:
            pointer: of the record.
            payload: of the new version.
            groups: the field groups that come with it, by name. One that is not given keeps its
                newest content; one that was erased takes no new content.
            actor: who corrects it.
            purpose: for which registered purpose.

        Raises:
            NotFound, Erased, InvalidInput, PurposeRefused: nothing was changed.
        """
        caller = self._core.caller(actor, purpose)
        return writing.rectify(self._core, pointer, payload, caller, groups)

    def checkpoint(self) -> Note:
        """Turn pending entries into leaves, sign the tree and return the signed note.

        Raises:
            RolledBack, Forked, SignerStateLost: the database is not the one that was signed last;
                nothing was signed.
        """
        return checkpointing.checkpoint(self._core)

    def anchor(self) -> list[Anchored]:
        """Sign a checkpoint, let witnesses cosign it, and anchor it at every configured target.

        Raises:
            QuorumMissing: too few witnesses cosigned it; the newest checkpoint that has its quorum
                is anchored in its place, if there is one.
        """
        ran = proving.run_anchors(self._core)
        if ran.witnessed.missing is not None:
            then = "no checkpoint is anchored"
            if ran.anchored:
                then = f"the one of {ran.anchored[0].size} entries, which has it, is anchored"
            raise QuorumMissing(ran.witnessed.size, ran.witnessed.missing, then)
        return list(ran.anchored)

    def witness(self) -> Witnessed:
        """Let the witnesses of the policy cosign the newest checkpoint, and return it with those.

        Waits for them for as long as the configuration says, and holds no lock meanwhile.

        Raises:
            NotSigned: there is no checkpoint yet.
            ConfigurationError: the policy cannot be read.
        """
        return witnessing.collect(self._core)

    def anchor_status(self) -> list[TargetStatus]:
        """Return how far each anchor target is behind."""
        return proving.anchor_status(self._core)

    def prove(
        self,
        pointer: str,
        *,
        version: int | None = None,
        group: str | None = None,
        disclose: bool = False,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Evidence:
        """Return evidence that a version of a record is in the ledger; of an erased one too (ER9).

        Args:
            pointer: of the record.
            version: from 1; None means the newest, of a field group the newest that has it.
            group: name of a field group of that version; None for its core.
            disclose: put the payload and its commitment key into the evidence. Whoever has that
                file can confirm the payload for ever, so it is recorded.
            actor: who asks.
            purpose: for which registered purpose.

        Raises:
            NotFound: no such record or version, or that version came without this group.
            Erased: the payload is to be disclosed but was erased.
            InvalidInput: its category has no such group.
            PurposeRefused: its category does not allow the purpose.
        """
        caller = self._core.caller(actor, purpose)
        return proving.prove(self._core, pointer, caller, version, disclose=disclose, group=group)

    def prove_erasure(
        self,
        pointer: str,
        *,
        group: str | None = None,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Evidence:
        """Return evidence that a record was erased; where it stood on a list, that it did (GO2).

        Args:
            pointer: of the record.
            group: name of a field group of it that was erased alone; None for the record.
            actor: who asks.
            purpose: for which registered purpose.

        Raises:
            NotFound: no such record, or it was not erased.
            InvalidInput: its category has no such group.
            PurposeRefused: its category does not allow the purpose.
        """
        caller = self._core.caller(actor, purpose)
        return proving.prove_erasure(self._core, pointer, caller, group)

    def prove_governance(self, sequence: int) -> Evidence:
        """Return evidence of a governance entry and of how it was decided (GO2).

        Args:
            sequence: of the state that it made, from 1.

        Raises:
            NotFound: there is no such entry.
        """
        return proving.prove_governance(self._core, sequence)

    def consistency(self, old: int, new: int) -> ConsistencyFile:
        """Return the proof that the ledger only grew between two signed checkpoints.

        Args:
            old: size of the smaller, leaves, at least 1.
            new: size of the larger.

        Raises:
            InvalidInput: no checkpoint of such a size was signed; the nearest are named.
        """
        return proving.consistency(self._core, old, new)

    def trust(self) -> TrustFile:
        """Return what an auditor needs to verify evidence of this vault."""
        return proving.trust_file(self._core)

    def export_ledger(self, place: str | Path) -> ExportReport:
        """Sign a checkpoint and write checkpoint, tiles and entries as files (C2SP tlog-tiles).

        Args:
            place: a folder, or a bucket as s3://bucket/prefix.

        Raises:
            RolledBack, Forked, BadPublication: what is there already is not of this ledger, or is
                newer than this database; nothing was written.
            PublicationMoved: another export came between.
            SourceUnreachable, DestinationUnreachable: the place does not answer.
            InvalidInput: the place is the folder of a vault; nothing was written.
        """
        from ledger.net.places import destination_at

        if (Path(place) / DATABASE_FILE).exists():
            raise InvalidInput(f"{place} is a vault's own folder: publish into another one")
        destination = destination_at(place)
        checkpointing.checkpoint(self._core)
        witnessing.collect(self._core)
        witnesses = witnessing.witness_keys(self._core)
        with self._core.database.read() as connection:
            log = Log(connection)
            return export(log, destination, log.minimum(), witnesses)

    def audit(self, on_part: Callable[[str], None] | None = None) -> AuditReport:
        """Check every stored byte against another and report what is wrong.

        Args:
            on_part: told the name of each part before it is checked.
        """
        return audit(self._core, on_part)
