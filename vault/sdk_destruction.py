"""The part of the SDK that makes erasures irrecoverable and certifies them; see vault/sdk.py."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from anchor.evidence import Evidence
from policy.certificate import SignedCertificate
from vault import certifying, declaring, proving, shredding, shredstatus
from vault.closing import NewPlace, OnStep
from vault.core import Core
from vault.rootkeys.provider import TreeNumber
from vault.shredding import PATIENCE_SECONDS, ShredReport
from vault.shredstatus import RootKey, ShredStatus


class Destruction:
    """Shreds, certificates and root keys of an open vault."""

    _core: Core

    def shred(
        self,
        *,
        backup: str | Path | None = None,
        declared_by: str | None = None,
        patience: float = PATIENCE_SECONDS,
        actor: str | None = None,
        purpose: str | None = None,
        on_step: OnStep = lambda step: None,
    ) -> ShredReport:
        """Close the epoch: destroy the root keys under which erased records ever lay, and certify.

        Args:
            backup: a new file, outside the vault, that keeps the key backup which is rehearsed.
            declared_by: an operator who states that no copy exists of any destroyed key file.
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
            declared_by=declared_by,
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
