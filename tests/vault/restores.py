"""Vaults with backups to restore from, and what the tests of restoring share."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from guarantees_vault import PASSPHRASE, Known, erase, new_vault, open_vault, outcome, put

from ledger.destination import FolderDestination
from ledger.log import Log
from ledger.publish import export
from ledger.source import FolderSource
from vault import Erased, Vault
from vault.backup.building import Materials, OnStep, RestoreReport, RestoreStep
from vault.backup.data import backup_data
from vault.backup.keys import backup_keys
from vault.backup.restore import RestoreOrder, restore
from vault.clock import SystemClock


class Site:
    """A vault, its backups and its published ledger, in one folder.

    Attributes:
        known: what the vault has acknowledged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vault = new_vault(root / "vault")
        self.ledger = root / "published"
        self.known = Known()

    @property
    def signer(self) -> Path:
        return self.vault / "signer"

    @property
    def rootkeys(self) -> Path:
        return self.vault / "keys"

    def put(self, vault: Vault, payload: bytes, subject: str) -> str:
        pointer = put(vault, payload, subject)
        self.known.stored([pointer], [payload], subject)
        return pointer

    def erase(self, vault: Vault, *pointers: str) -> None:
        for pointer in pointers:
            erase(vault, pointer)
            self.known.erased.add(pointer)

    def rectify(self, vault: Vault, pointer: str, payload: bytes) -> None:
        vault.rectify(pointer, payload)
        self.known.versions[pointer].append(payload)

    def back_up(self, vault: Vault, name: str, since: str | None = None) -> None:
        """Make a data backup and a key backup."""
        backup_data(vault._core, self.data(name))
        backup_keys(vault._core, self.keys(name), None if since is None else self.keys(since))

    def publish(self, vault: Vault) -> int:
        """Publish the ledger and return how many leaves it has."""
        vault.checkpoint()
        with vault._core.database.read() as connection:
            return export(Log(connection), FolderDestination(self.ledger)).size

    def data(self, name: str) -> Path:
        return self.root / f"{name}.data"

    def keys(self, name: str) -> Path:
        return self.root / f"{name}.keys"

    def order(
        self,
        target: str,
        data: str,
        keys: Sequence[str],
        *,
        ledger: bool = True,
        rootkey: Path | None = None,
        signer: bool = True,
    ) -> RestoreOrder:
        materials = Materials(
            self.data(data),
            [self.keys(name) for name in keys],
            FolderSource(self.ledger) if ledger else None,
        )
        return RestoreOrder(
            self.root / target,
            materials,
            rootkey or self.rootkeys,
            self.signer if signer else None,
        )


def do_restore(order: RestoreOrder, on_step: OnStep = lambda step: None) -> RestoreReport:
    return restore(order, PASSPHRASE, SystemClock(), on_step)


def resurrected(site: Site, vault: Vault) -> list[str]:
    """Return which erased records a restored vault serves, knows or finds, or calls something else.

    A record that no backup held is not known at all.
    """
    answers = {pointer: outcome(lambda p=pointer: vault.get(p)) for pointer in site.known.erased}
    return [pointer for pointer, answer in answers.items() if not isinstance(answer, Erased)]


def living(site: Site, vault: Vault) -> int:
    """Return how many living records a vault gives back in their newest version."""
    return sum(
        outcome(lambda p=pointer: vault.get(p)) == site.known.versions[pointer][-1]
        for pointer in site.known.living()
    )


def findable(site: Site, vault: Vault) -> int:
    """Return how many living records are found under their subject."""
    return sum(
        pointer in vault.find(site.known.subjects[pointer]) for pointer in site.known.living()
    )


def nothing_made(site: Site, target: str) -> bool:
    return not [path for path in site.root.iterdir() if path.name.startswith(target)]


def die_in_restore(pipe: Connection, order: RestoreOrder, step: RestoreStep) -> None:
    """Restore, and be killed as soon as a step is reached."""

    def die(reached: RestoreStep) -> None:
        if reached is step:
            os.kill(os.getpid(), signal.SIGKILL)

    do_restore(order, die)
    pipe.send(("survived",))


def open_restored(order: RestoreOrder) -> Vault:
    return open_vault(order.folder)
