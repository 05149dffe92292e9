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
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from anchor.evidence import Evidence
from anchor.job import Anchored, TargetStatus
from anchor.trust import TrustFile
from ledger import log as ledger_log
from ledger.files import flush_folder
from ledger.log import Log
from ledger.note import Note, is_key_name
from ledger.pointer import format_pointer
from ledger.publish import ExportReport, export
from ledger.signer import Signer
from policy import Decision, Ground
from policy.certificate import SignedCertificate
from vault import (
    certifying,
    checkpointing,
    declaring,
    erasing,
    erasing_group,
    erasing_person,
    escrowing,
    proving,
    reading,
    shredding,
    shredstatus,
    writing,
)
from vault.audit import AuditReport, audit
from vault.clock import Clock, SystemClock
from vault.completing import complete
from vault.config import FILE_NAME, load_config
from vault.core import DATABASE_FILE, Caller, Core
from vault.database import Database
from vault.erasing import Erasure
from vault.erasing_person import PersonErasure
from vault.errors import ConfigurationError, InvalidInput
from vault.escrow.attestation import Attestation
from vault.escrow.shares import Share
from vault.escrowing import Approval
from vault.groupcommit import GroupCommit
from vault.groups import get_group
from vault.importing import ImportOrder, ImportReport, OnProgress, run_import
from vault.keyfile import encode_passphrase
from vault.keyring import SIGNER_FOLDER, Keyring
from vault.keytree import TENANT_BYTES, plant_trees
from vault.preparing import NewRecord, PreparedRecord, Preparer
from vault.reading import VersionInfo
from vault.rootkeys.provider import TreeNumber
from vault.shredding import PATIENCE_SECONDS, NewPlace, OnStep, ShredReport
from vault.shredstatus import RootKey, ShredStatus

MAX_ORIGIN_BYTES = 200


class Vault:
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
        Signer(origin, keyring.log, folder / SIGNER_FOLDER).begin(head.checkpoint())
        # The configuration comes last: without it, the folder is not yet a vault.
        template = resources.files("vault").joinpath("template.toml").read_text(encoding="utf-8")
        with (folder / FILE_NAME).open("w", encoding="utf-8") as file:
            file.write(template)
            file.flush()
            os.fsync(file.fileno())
        for made in (folder / SIGNER_FOLDER, folder, folder.parent):
            flush_folder(made)
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
            InvalidInput, PurposeRefused, ListNotCarried: as for `put`; earlier batches stay stored.
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

    def decide(
        self,
        pointer: str,
        ground: Ground,
        *,
        group: str | None = None,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Decision:
        """Return what a request to erase would be answered today; changes nothing.

        Args:
            pointer: of the record.
            ground: of the request.
            group: name of a field group that is asked about alone; None for the whole record.
            actor: who asks.
            purpose: for which registered purpose.

        Raises:
            NotFound: no record has this pointer, or it came without this group.
            InvalidInput: its category has no such group.
            PurposeRefused: its category does not allow the purpose.
        """
        caller = self._core.caller(actor, purpose)
        if group is not None:
            return erasing_group.decide_group(self._core, pointer, group, ground, caller)
        return erasing.decide_erasure(self._core, pointer, ground, caller)

    def erase(
        self,
        pointer: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Erasure:
        """Erase a record where law and policy allow it; all its versions become unreadable at once.

        Raises:
            NotFound: no record has this pointer.
            Erased: it was erased before (D2); carries the index of the erasure entry.
            Refused: it may not be erased; carries the decision with its article. Nothing was
                changed.
            PurposeRefused: its category does not allow the purpose.
            Incomplete: the destruction could not be confirmed (ER2).
        """
        return erasing.erase(self._core, pointer, ground, self._core.caller(actor, purpose))

    def decide_person(
        self,
        subject: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> PersonErasure:
        """Return what a request to erase all of a subject's records would get; changes nothing.

        Raises:
            NotFound: no living record is about this subject.
            PurposeRefused: a record's category does not allow the purpose.
        """
        caller = self._core.caller(actor, purpose)
        return erasing_person.decide_person(self._core, subject, ground, caller)

    def erase_person(
        self,
        subject: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> PersonErasure:
        """Erase every record of a subject that may be erased, in one epoch (ER4).

        Raises:
            NotFound: no living record is about this subject.
            PurposeRefused: a record's category does not allow the purpose; nothing was changed.
            Incomplete: a destruction could not be confirmed (ER2).
        """
        caller = self._core.caller(actor, purpose)
        return erasing_person.erase_person(self._core, subject, ground, caller)

    def shred(
        self,
        *,
        backup: str | Path | None = None,
        patience: float = PATIENCE_SECONDS,
        actor: str | None = None,
        purpose: str | None = None,
        on_step: OnStep = lambda step: None,
    ) -> ShredReport:
        """Close the epoch: destroy the root keys under which erased records ever lay, and certify.

        Args:
            backup: a new file, outside the vault, that keeps the key backup which is rehearsed.
            patience: how many seconds to wait for other processes that have the vault open.
            actor: who does it.
            purpose: for which registered purpose.
            on_step: told each step once it is durable.

        Raises:
            Busy: another process is at it, or one keeps its lease; nothing is lost, run it again.
            ProviderUnreachable, ProviderFailed, Incomplete: likewise.
        """
        caller = self._core.caller(actor, purpose)
        return shredding.shred(
            self._core,
            caller,
            backup=None if backup is None else Path(backup),
            patience=patience,
            on_step=on_step,
        )

    def shred_status(self) -> ShredStatus:
        """Return what waits for a shred, for what, and since when."""
        return shredstatus.status(self._core)

    def declare_no_copies(
        self, name: str, *, actor: str | None = None, purpose: str | None = None
    ) -> int:
        """State that no copy exists of any key file that was destroyed; certificates then say so.

        Args:
            name: of the operator who states it.
            actor: who records it.
            purpose: for which registered purpose.

        Returns:
            For how many generations that is new.
        """
        return declaring.declare(self._core, name, self._core.caller(actor, purpose))

    def certificate(self, pointer: str, *, group: str | None = None) -> SignedCertificate:
        """Return the newest certificate of the destruction of a record, or of one field group.

        Raises:
            NotFound: no such record, or no certificate yet.
        """
        return SignedCertificate.parse(certifying.newest_certificate(self._core, pointer, group))

    def certificate_pdf(self, signed: SignedCertificate) -> bytes:
        """Return a certificate as a PDF in Dutch and English that embeds it, signed.

        Raises:
            ConfigurationError: the libraries of the extra `pdf` are not installed.
        """
        from vault.certificate_pdf import render_pdf

        signed_at = dt.datetime.fromtimestamp(self._core.clock.now(), dt.UTC)
        return render_pdf(signed, self._core.keyring.organisation, signed_at)

    def prove_certificate(self, signed: SignedCertificate) -> Evidence:
        """Return evidence that the ledger holds a certificate's digest; a file of its own.

        Raises:
            NotFound: the ledger does not hold it.
        """
        return proving.prove_certificate(self._core, signed)

    def root_keys(self) -> list[RootKey]:
        """Return every generation of the key trees, where its root key is and what became of it."""
        return shredstatus.root_keys(self._core)

    def move_root_keys(
        self,
        place: NewPlace,
        tree: TreeNumber = TreeNumber.ORDINARY,
        *,
        patience: float = PATIENCE_SECONDS,
        actor: str | None = None,
        purpose: str | None = None,
        on_step: OnStep = lambda step: None,
    ) -> ShredReport:
        """Move a tree's root keys to another provider; the same call after a crash finishes it.

        Raises:
            InvalidInput: these are not the options of such a provider.
            Busy, ProviderUnreachable, ProviderDenied, ProviderFailed, Incomplete: as for `shred`.
        """
        caller = self._core.caller(actor, purpose)
        return shredding.move(self._core, tree, place, caller, patience=patience, on_step=on_step)

    def make_escrow(
        self,
        custodians: Sequence[str],
        threshold: int,
        folder: str | Path,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> list[Path]:
        """Share out the key of records that are kept for ever; one file for each custodian (OP5).

        Raises:
            EscrowRefused, ConfigurationError: nothing was shared out.
        """
        caller = self._core.caller(actor, purpose)
        return escrowing.make_escrow(self._core, custodians, threshold, Path(folder), caller)

    def drill_escrow(
        self, shares: Sequence[Share], *, actor: str | None = None, purpose: str | None = None
    ) -> int:
        """Open the permanent keys with shares alone, and return how many there are (OP5).

        Raises:
            TooFewShares, OtherEscrow, DuplicateShare, DamagedShare, Damaged: they do not open it.
        """
        return escrowing.drill(self._core, shares, self._core.caller(actor, purpose))

    def recover_escrow(
        self,
        shares: Sequence[Share],
        place: NewPlace,
        *,
        actor: str | None = None,
        purpose: str | None = None,
        on_step: OnStep = lambda step: None,
    ) -> ShredReport | None:
        """Give the permanent keys a new root key where the old provider is lost (OP5).

        Returns:
            What was done; None where the old provider did not answer.

        Raises:
            TooFewShares, OtherEscrow, DuplicateShare, DamagedShare, InvalidInput: nothing was done.
        """
        caller = self._core.caller(actor, purpose)
        return escrowing.recover(self._core, shares, place, caller, on_step)

    def accept_attestation(
        self, attestation: Attestation, *, actor: str | None = None, purpose: str | None = None
    ) -> None:
        """Store a custodian's signed statement that a share is destroyed.

        Raises:
            OtherEscrow, AttestationRefused: it was not stored.
        """
        escrowing.accept_attestation(self._core, attestation, self._core.caller(actor, purpose))

    def break_glass(
        self,
        pointer: str,
        ground: Ground,
        shares: Sequence[Share],
        approvals: Sequence[Approval],
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Erasure:
        """Erase a record that is kept for ever, with M custodians and two officers (D2b, D5).

        Raises:
            Refused: law or policy does not lead there; nothing was changed.
            EscrowRefused, TooFewShares, OtherEscrow, DuplicateShare, DamagedShare: likewise.
            Incomplete: the destruction could not be confirmed (ER2).
        """
        caller = self._core.caller(actor, purpose)
        return escrowing.break_glass(self._core, pointer, ground, shares, approvals, caller)

    def erase_group(
        self,
        pointer: str,
        group: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Erasure:
        """Erase one field group of a record, in all its versions; the rest of it stays (ER5).

        No duty keeps an optional group, so neither a retention term nor its end is waited for.

        Raises:
            NotFound: no record has this pointer, or it came without this group.
            InvalidInput: its category has no such group.
            Erased: it was erased before, alone or with its record (D2).
            Refused: a hold lies on the record, or the ground takes a recorded decision first.
            PurposeRefused: its category does not allow the purpose.
            Incomplete: the destruction could not be confirmed (ER2).
        """
        caller = self._core.caller(actor, purpose)
        return erasing_group.erase_group(self._core, pointer, group, ground, caller)

    def erasure_index(self, pointer: str, group: str | None = None) -> int | None:
        """Return the leaf of the erasure entry of a record, or of one field group of it.

        Returns:
            None while there is none.

        Raises:
            NotFound: no record has this pointer, or it was erased and had no such group.
            InvalidInput: its category has no such group.
        """
        if group is not None:
            return erasing_group.erasure_index(self._core, pointer, group)
        return reading.erasure_index(self._core, pointer)

    def place_hold(
        self,
        pointer: str,
        reason: str,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> None:
        """Place a legal hold, which no erasure passes (D3). Releasing it takes two persons (RS4).

        Raises:
            NotFound, Erased, InvalidInput, PurposeRefused: nothing was changed.
        """
        erasing.place_hold(self._core, pointer, reason, self._core.caller(actor, purpose))

    def checkpoint(self) -> Note:
        """Turn pending entries into leaves, sign the tree and return the signed note.

        Raises:
            RolledBack, Forked, SignerStateLost: the database is not the one that was signed last;
                nothing was signed.
        """
        return checkpointing.checkpoint(self._core)

    def anchor(self) -> list[Anchored]:
        """Sign a checkpoint and anchor it at every configured target."""
        return proving.run_anchors(self._core)

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

    def trust(self) -> TrustFile:
        """Return what an auditor needs to verify evidence of this vault."""
        return proving.trust_file(self._core)

    def export_ledger(self, folder: str | Path) -> ExportReport:
        """Sign a checkpoint and write checkpoint, tiles and entries as files (C2SP tlog-tiles).

        Raises:
            RolledBack, Forked, BadPublication: what is there already is not of this ledger, or is
                newer than this database; nothing was written.
        """
        checkpointing.checkpoint(self._core)
        with self._core.database.read() as connection:
            return export(Log(connection), Path(folder))

    def audit(self, on_part: Callable[[str], None] | None = None) -> AuditReport:
        """Check every stored byte against another and report what is wrong.

        Args:
            on_part: told the name of each part before it is checked.
        """
        return audit(self._core, on_part)
