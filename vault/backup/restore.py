"""Restoring: a vault out of a data backup, a chain of key backups and the newest ledger (ER6).

    1 assemble   both backups are of one vault; their rows go into a new database
    2 extend     the published ledger, verified under the log keys that the data backup names, or
                 under those of the signer that is brought, is appended
    3 judge      the keys are of no destroyed generation and not older than the data
    4 open       configuration, root keys and signer are put in place; the trees must open
    5 replay     vault/backup/replaying.py: what was erased is erased again
    6 audit      every stored byte against another; a fault means that no vault is handed over
    7 flush and rename

All of it happens in a folder beside the one that is wanted, `<name>.restoring`, which bears the
wanted name only when everything is durable. What is cut off leaves that folder, and the next
restore of the same name begins by emptying it. Whatever is refused leaves nothing.

What comes back is never more than what the newest ledger and the keys allow. Restoring beside the
current keys brings no erased record back, whatever the data. Old keys after a shred do not open:
the ledger says so, and the provider too. What remains is what no software can undo: with an old
data backup, the old keys, a copy of the old root key, and nobody who brings a newer ledger, a
vault of that day comes back as it was then. That is why a shred destroys the root key, and why the
newest ledger belongs to every restore.

The signer's folder is copied where it is brought: the vault from which it comes must not sign any
more. Without it the restored vault reads, writes and erases, but signs nothing.

A provider option that names a file relative to the vault's folder names one in the new folder.
Tested in tests/vault/test_restore.py.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.driver import run
from ledger.errors import SignerStateLost
from ledger.files import flush
from ledger.logkeys import LogKeys
from ledger.signer import LOCK, LOG_KEYS, SignerMemory
from policy.assurance import ProviderKind
from vault.backup.building import (
    OTHER_SIGNER,
    Building,
    Materials,
    OnStep,
    RestoreReport,
    RestoreStep,
    write_durably,
)
from vault.backup.errors import KeysDestroyed, RestoreRefused
from vault.clock import Clock
from vault.database import Database
from vault.errors import Busy, ConfigurationError, InvalidInput, WrongPassphrase
from vault.generations import GenerationState, load_generations, load_provider
from vault.keyfile import encode_passphrase
from vault.keyring import Keyring
from vault.logkeys import SIGNER_FOLDER
from vault.rootkeys.file import KEYS_FOLDER
from vault.rootkeys.provider import TreeNumber

_RESTORING = "{}.restoring"


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What to restore, and where.

    Attributes:
        folder: of the new vault; does not exist yet, or is empty.
        materials: from which it is put together.
        rootkey: where root keys lie in files: a key file of the ordinary tree, or a folder of key
            files; those that are needed are copied. None takes them from where they lay when the
            keys were backed up.
        signer: the folder `signer` of the original vault; None makes a vault that signs nothing.
        actor: who restores; None takes the configured one.
    """

    folder: Path
    materials: Materials
    rootkey: Path | None = None
    signer: Path | None = None
    actor: str | None = None


def restore(
    order: RestoreOrder,
    passphrase: str,
    clock: Clock,
    on_step: OnStep = lambda step: None,
) -> RestoreReport:
    """Restore a vault into a new folder, or refuse and leave nothing.

    Args:
        order: what and where.
        passphrase: of the root key files and of the signer's.
        clock: tells when the erasures are replayed.
        on_step: told each step.

    Raises:
        KeysDestroyed: the keys are of a generation that a shred has destroyed.
        KeysTooOld: the keys are older than the data.
        RestoreRefused: the ledger is older than what the signer has signed, or the assembled vault
            has faults.
        Forked: the ledger is not a later state of the data backup's.
        InvalidInput, ConfigurationError, Damaged, WrongPassphrase: something that was brought
            cannot be used.
        Busy: another restore of this folder is at work, or the disk is out of reach.
        ProviderUnreachable, ProviderDenied, ProviderFailed: the root keys are not to be had.
    """
    encode_passphrase(passphrase)
    with _beside(order.folder) as folder:
        register = None if order.signer is None else _register(order.signer)
        keyring = Keyring(folder, passphrase)
        building = Building(folder, order.materials, keyring, clock, on_step, register)
        report = _build(building, order, passphrase)
        for path in (*folder.rglob("*"), folder):
            flush(path)
        on_step(RestoreStep.FLUSHED)
        try:
            folder.rename(order.folder)
        except OSError as error:
            raise ConfigurationError(f"{order.folder} was filled meanwhile: {error}") from None
        flush(order.folder.absolute().parent)
        on_step(RestoreStep.RENAMED)
    if report.findings is None:
        return report
    return replace(report, findings=order.folder / report.findings.name)


def _build(building: Building, order: RestoreOrder, passphrase: str) -> RestoreReport:
    database = building.assemble()
    try:
        brought = order.rootkey or building.backups.key_files
        _bring_root_keys(building.folder, database, brought)
        if order.signer is not None:
            _bring_signer(building, order.signer, passphrase)
    except BaseException:
        database.close()
        raise
    try:
        core = building.open(database, order.actor)
    except WrongPassphrase:
        # Of the copies that were made here, which nobody would know.
        raise WrongPassphrase(
            f"the root keys in {brought} do not open: wrong passphrase, or changed files"
        ) from None
    try:
        return building.finish(core, signs=order.signer is not None)
    finally:
        core.close()


def _bring_root_keys(folder: Path, database: Database, brought: Path | None) -> None:
    """Copy the root key files that the key backup names.

    Raises:
        KeysDestroyed: one that opens a tree is gone, and that of a later generation is there.
        RestoreRefused: one that opens a tree is not among what was brought.
    """
    needed, wanted = _references(database)
    found = {} if brought is None or not needed else _key_files(brought, needed)
    missing = {tree: name for tree, name in needed.items() if name not in found}
    for tree, name in missing.items():
        generation = _number_of(name)
        if any(
            _prefix_of(other) == _prefix_of(name) and _number_of(other) > generation
            for other in found
        ):
            raise KeysDestroyed(tree, generation, f"{brought} holds later root keys, not {name}")
    if missing:
        raise RestoreRefused(
            f"the root keys lie in files: bring {' and '.join(missing.values())}, or the folder"
            " with them; nothing was made"
        )
    for reference in wanted & found.keys():
        (folder / KEYS_FOLDER).mkdir(mode=0o700, exist_ok=True)
        write_durably(folder / KEYS_FOLDER / reference, found[reference].read_bytes())


def _prefix_of(reference: str) -> str:
    return reference.partition("-")[0]


def _number_of(reference: str) -> int:
    """Return the generation that a key file's name states; 1 for the first schema's root.key."""
    digits = reference.rpartition("-")[2].removesuffix(".key")
    return int(digits) if digits.isdecimal() else 1


def _references(database: Database) -> tuple[dict[TreeNumber, str], set[str]]:
    """Return the key file that opens each tree, where it lies in a file, and all that are left."""
    needed: dict[TreeNumber, str] = {}
    wanted: set[str] = set()
    with database.read() as connection:
        current = dict(run(connection, "SELECT id - 1, generation FROM vault_tree"))
        for tree in TreeNumber:
            for one in load_generations(connection, tree):
                kind, _ = load_provider(connection, one.provider_id)
                if kind is not ProviderKind.FILE or one.state is GenerationState.GONE:
                    continue
                if Path(one.reference).name != one.reference:
                    raise InvalidInput("the key backup names no root key file")
                wanted.add(one.reference)
                if one.number == current[tree]:
                    needed[tree] = one.reference
    return needed, wanted


def _key_files(brought: Path, needed: dict[TreeNumber, str]) -> dict[str, Path]:
    """Return the files that were brought, by the reference that they stand for."""
    if brought.is_dir():
        return {path.name: path for path in brought.iterdir() if path.is_file()}
    if not brought.is_file():
        return {}
    if brought.name in needed.values() or TreeNumber.ORDINARY not in needed:
        return {brought.name: brought}
    # A copy may bear any name.
    return {needed[TreeNumber.ORDINARY]: brought}


def _bring_signer(building: Building, signer: Path, passphrase: str) -> None:
    """Copy the signer's folder.

    Raises:
        InvalidInput: it is none, or that of another vault, or older than the data backup.
        SignerStateLost: it lacks a key of the ledger that is in use.
        WrongPassphrase: a key of the ledger does not open.
    """
    if not signer.is_dir():
        raise InvalidInput(f"{signer} is not the signer folder of a vault")
    target = building.folder / SIGNER_FOLDER
    target.mkdir(mode=0o700)
    for path in signer.iterdir():
        if path.is_file() and path.name != LOCK:
            write_durably(target / path.name, path.read_bytes())
    files = Keyring(building.folder, passphrase).log(building.backups.origin)
    keys = files.signer().keys
    if not keys.continues(building.log_keys):
        raise InvalidInput(OTHER_SIGNER)
    files.require_in_use(keys)


def _register(signer: Path) -> LogKeys | None:
    """Return the register in a signer's folder, which one of an earlier version lacks."""
    if not (signer / LOG_KEYS).exists():
        return None
    try:
        return SignerMemory(signer).keys
    except SignerStateLost as error:
        raise InvalidInput(str(error)) from None


@contextmanager
def _beside(wanted: Path) -> Iterator[Path]:
    """Give an empty folder beside the one that is wanted, which is gone afterwards or renamed."""
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise ConfigurationError(f"{wanted} exists already: a restore needs a folder of its own")
    folder = wanted.absolute().with_name(_RESTORING.format(wanted.absolute().name))
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from None
    try:
        _lock(descriptor, folder)
        _empty(folder)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before may have renamed or removed it meanwhile.
        is_same = folder.stat().st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        is_same = False
    if not is_same:
        raise Busy(f"another restore is at work in {folder}")


def _empty(folder: Path) -> None:
    """Remove what a restore that was cut off has left."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
