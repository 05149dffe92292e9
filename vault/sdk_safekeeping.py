"""The part of the SDK that keeps what must not be lost: backups, escrow, and the ledger's keys.

See vault/sdk.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policy import Ground
from vault import checkpointing, escrowing, witnessing
from vault.backup.building import Materials
from vault.backup.data import DataBackupReport, backup_data
from vault.backup.drill import DrillReport, drill
from vault.backup.keys import backup_keys
from vault.closing import NewPlace, OnStep
from vault.core import Core
from vault.erasing import Erasure
from vault.escrow.attestation import Attestation
from vault.escrow.shares import Share
from vault.escrowing import Approval
from vault.logkeys import Rotation
from vault.shredding import ShredReport


class Safekeeping:
    """Backups, drills, the escrow and the ledger's keys of an open vault."""

    _core: Core

    def rotate_log_keys(self, *, actor: str | None = None, purpose: str | None = None) -> Rotation:
        """Sign a closing checkpoint, retire the keys that sign the ledger, and make new ones (PR6).

        What the old keys signed stays verifiable. Trust files and data backups that are made from
        now on name the new keys. Keys that have signed nothing yet are not replaced.

        Raises:
            RolledBack, Forked, SignerStateLost: the database is not the one that was signed last;
                no key was changed.
            ConfigurationError: the witness policy cannot be read, without which nobody could be
                given the new keys; no key was changed.
        """
        witnessing.read_policy(self._core)
        return checkpointing.rotate(self._core, self._core.caller(actor, purpose))

    def backup_data(self, out: str | Path) -> DataBackupReport:
        """Write everything but keys into a new file; any copy of vault.db counts as a key backup.

        Raises:
            ConfigurationError: the file exists or cannot be written.
            Busy: the database or the disk is not to be had.
        """
        return backup_data(self._core, Path(out))

    def backup_keys(self, out: str | Path, *, since: str | Path | None = None) -> None:
        """Write the sealed keys into a new file, without any root key.

        Args:
            out: the new file.
            since: a key backup that this one continues; None for a full one.

        Raises:
            InvalidInput: the earlier one is of another vault, or newer than this vault's keys.
            ConfigurationError: the file exists or cannot be written.
        """
        backup_keys(self._core, Path(out), None if since is None else Path(since))

    def drill_restore(
        self, materials: Materials, *, actor: str | None = None, purpose: str | None = None
    ) -> DrillReport:
        """Rehearse a restore beside this vault, compare the two and record what was found (ER6).

        Nothing of this vault is changed but its history of drills.
        """
        return drill(self._core, materials, self._core.caller(actor, purpose))

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
