"""Vaults with erasures to shred, processes that work on them, and the one check after any trouble.

A `Case` is a vault with survivors, erased records and a copy of its database from before the first
erasure. `Case.faults` holds at any moment, `Case.unfinished` once a shred has come to its end.
"""

from __future__ import annotations

import copy
import functools
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec
from guarantees_vault import CATEGORY, GROUND, Known, erase, new_vault, open_vault, outcome, put
from guarantees_worker import Worker

from ledger.entry import EntryKind, parse_entry
from ledger.log import Log
from policy.certificate import SignedCertificate
from policy.certificate_parts import Irrecoverability, Status
from vault import (
    Erased,
    Incomplete,
    KeyGone,
    NewPlace,
    ShredReport,
    ShredStep,
    TreeNumber,
    Vault,
    VaultError,
    keyfile,
    leases,
    organisation,
    rehearsal,
)
from vault.generations import Generation, GenerationState, load_generations
from vault.keyring import Keyring

RECORDS = 8
ERASED = 3
PERMANENT_CATEGORY = "organisatie"
GROUP = "contact"
KILLED = -signal.SIGKILL


# Cheap processes


def rehearse_here(keyring: Keyring, backup: Path, trees: list[int]) -> dict[int, dict[str, int]]:
    """Stand in for `Keyring.rehearse`: open the backup likewise, but in this process."""
    try:
        return rehearsal._open_all(backup, keyring._folder, keyring._passphrase, trees)
    except VaultError as error:
        raise Incomplete(f"the key backup cannot be restored: {error}") from None


# Each key file has its own salt. Argon2id takes four threads, and longest where others work too.
derive_once = functools.cache(keyfile._derive)


@contextmanager
def cheap(*, real_rehearsal: bool = False) -> Iterator[None]:
    """Make new key files cost nothing, and rehearse without a process of its own."""
    with patch.multiple(keyfile, _MEMORY_KIB=8 * 4, _ITERATIONS=1, _LANES=4, _derive=derive_once):
        if real_rehearsal:
            yield
        else:
            with patch.object(Keyring, "rehearse", rehearse_here):
                yield


# The vault


@contextmanager
def in_memory() -> Iterator[Path]:
    """Give a folder in memory, where that is possible: what SIGKILL leaves is the same there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@dataclass
class Case:
    """A vault in which something was erased.

    Attributes:
        folder: of the vault.
        old: a copy of its database from before any erasure.
        known: what it has acknowledged.
        kept: a record of the permanent tree.
        groups: that record, once one of its field groups was erased by itself.
    """

    folder: Path
    old: Path
    known: Known = field(default_factory=Known)
    kept: str = ""
    groups: list[str] = field(default_factory=list)

    def put(self, vault: Vault, payload: bytes, subject: str) -> str:
        """Store one record that may be erased."""
        pointer = put(vault, payload, subject)
        self.known.stored([pointer], [payload], subject)
        return pointer

    def erase(self, vault: Vault, pointer: str) -> None:
        """Erase one record."""
        erase(vault, pointer)
        self.known.erased.add(pointer)

    def living(self) -> list[str]:
        """Return the records that may be erased and are not."""
        return [pointer for pointer in self.known.living() if pointer != self.kept]

    def faults(self, vault: Vault | None = None) -> list[str]:
        """Return what is wrong, also halfway through a shred: empty at any moment.

        Args:
            vault: already open; None looks with a process that starts now.
        """
        if vault is None:
            with open_vault(self.folder) as opened:
                return self.faults(opened)
        found = self.known.damage(vault) + [str(fault) for fault in vault.audit().faults]
        for pointer in self.groups:
            answer = outcome(lambda pointer=pointer: vault.get(pointer, group=GROUP))
            if not isinstance(answer, Erased):
                found.append(f"resurrected: group of {pointer} gives {answer!r}")
        return found + _generation_faults(vault) + _certificate_faults(vault)

    def unfinished(
        self, irrecoverability: Irrecoverability, *, certificates: int | None = 1
    ) -> list[str]:
        """Return what a shred that has come to its end left wrong or undone.

        Args:
            irrecoverability: what the newest certificate of each erasure must say.
            certificates: how many each erasure has by now; None for any number.
        """
        with open_vault(self.folder) as vault:
            found = self.faults(vault)
            found += _undone(vault, len(self.known.erased) + len(self.groups))
            for name, numbers, newest in certificates_of(vault):
                if not numbers or newest != irrecoverability:
                    found.append(f"undone: {name} has the certificates {numbers}, {newest}")
                elif certificates is not None and numbers != list(range(1, certificates + 1)):
                    found.append(f"undone: {name} has the certificates {numbers}")
            found += _leftovers(self.folder, vault)
        return [*found, *self._old_copy()]

    def _old_copy(self) -> list[str]:
        """Open a copy of the database from before any erasure, beside today's root keys."""
        with tempfile.TemporaryDirectory() as elsewhere:
            folder = Path(elsewhere) / "vault"
            shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("vault.db*"))
            shutil.copyfile(self.old, folder / "vault.db")
            try:
                open_vault(folder).close()
            except KeyGone:
                return []
        return ["resurrected: a copy from before the erasures opens"]


def make_case(folder: Path, *, permanent: bool = False) -> Case:
    """Return a case of its own in a new folder.

    Args:
        folder: does not exist yet.
        permanent: whether the permanent tree has something to shred, too.
    """
    made = _template(permanent)
    shutil.copytree(made.folder.parent, folder)
    known = copy.deepcopy(made.known)
    return Case(folder / "vault", folder / "old.db", known, made.kept, list(made.groups))


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="datakluis-shreds-")


@functools.cache
def _template(permanent: bool) -> Case:
    folder = Path(_keep().name) / str(permanent)
    case = Case(folder / "vault", folder / "old.db")
    new_vault(case.folder)
    configuration = case.folder / "datakluis.toml"
    text = configuration.read_text(encoding="utf-8")
    named = f"[categories.{PERMANENT_CATEGORY}]"
    configuration.write_text(text.replace(named, f'{named}\ngroups = ["{GROUP}"]'), "utf-8")
    with cheap(), open_vault(case.folder) as vault:
        pointers = [
            case.put(vault, b"record %d" % number, f"subject {number % 5}")
            for number in range(RECORDS)
        ]
        groups = {GROUP: b"contact"}
        case.kept = vault.put(
            b"for ever", category=PERMANENT_CATEGORY, subject="bestuur", groups=groups
        )
        case.known.stored([case.kept], [b"for ever"], "bestuur")
        for pointer in (pointers[0], pointers[-1]):
            vault.rectify(pointer, b"corrected")
            case.known.versions[pointer].append(b"corrected")
        vault.checkpoint()
    shutil.copyfile(case.folder / "vault.db", case.old)
    with cheap(), open_vault(case.folder) as vault:
        for pointer in pointers[:ERASED]:
            case.erase(vault, pointer)
        if permanent:
            vault.erase_group(case.kept, GROUP, GROUND)
            case.groups.append(case.kept)
    return case


# What must hold


def generations(vault: Vault) -> list[Generation]:
    """Return every generation of both trees."""
    with vault._core.database.read() as connection:
        return [one for tree in TreeNumber for one in load_generations(connection, tree)]


def _generation_faults(vault: Vault) -> list[str]:
    found = []
    with vault._core.database.read() as connection:
        current = {tree: vault._core.trees[tree].state(connection).generation
                   for tree in TreeNumber}  # fmt: skip
        log = Log(connection)
        entries = [log.entry(leaf) for leaf in range(log.head().size)]
        entries += [
            bytes(row[0]) for row in connection.exec_driver_sql("SELECT entry FROM ledger_pending")
        ]
    rows = generations(vault)
    for tree, number in current.items():
        opened = [row.number for row in rows
                  if row.tree == tree and row.state is GenerationState.OPEN]  # fmt: skip
        if opened != [number]:
            found.append(f"half-done: tree {tree} is in generation {number}, open are {opened}")
    for row in rows:
        if (row.wrapped is None) is not (row.state is GenerationState.GONE):
            found.append(f"half-done: generation {row.number} is {row.state}, wrapped key or not")
    told = Counter(
        (entry.group, entry.version)
        for entry in map(parse_entry, entries)
        if entry.kind is EntryKind.SHRED
    )
    gone = {(row.tree, row.number) for row in rows if row.state is GenerationState.GONE}
    if told != Counter(gone):
        found.append(f"half-done: gone are {sorted(gone)}, the ledger has {dict(told)}")
    return found


def certificates_of(vault: Vault) -> list[tuple[str, list[int], str | None]]:
    """Return each erasure with the numbers of its certificates and what the newest says."""
    with vault._core.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT e.id, c.number, c.irrecoverability FROM vault_erasure e"
            " LEFT JOIN vault_certificate c ON c.erasure_id = e.id ORDER BY e.id, c.number"
        ).fetchall()
    found: dict[int, tuple[list[int], str | None]] = {}
    for erasure, number, stated in rows:
        before = found.get(erasure, ([], None))[0]
        found[erasure] = ([*before, number] if number else before, stated)
    return [(f"erasure {erasure}", *rest) for erasure, rest in found.items()]


def _certificate_faults(vault: Vault) -> list[str]:
    found = [
        f"half-done: {name} has the certificates {numbers}"
        for name, numbers, _ in certificates_of(vault)
        if numbers != list(range(1, len(numbers) + 1))
    ]
    gone = {(one.tree, one.number) for one in generations(vault)
            if one.state is GenerationState.GONE}  # fmt: skip
    with vault._core.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT e.tree, e.born, e.erased, c.status, c.irrecoverability, c.document"
            " FROM vault_certificate c JOIN vault_erasure e ON e.id = c.erasure_id"
        ).fetchall()
    key = organisation.read_certificate(vault.folder).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    for tree, born, erased, status, irrecoverability, document in rows:
        signed = SignedCertificate.parse(bytes(document))
        stated = signed.certificate
        if not signed.verify_signature(key):
            found.append(f"half-done: the certificate of {stated.pointer} is not signed")
        if (stated.status, stated.irrecoverability) != (status, irrecoverability):
            found.append(f"half-done: the certificate of {stated.pointer} says something else")
        span = {(tree, number) for number in range(born, erased + 1)}
        if stated.status is Status.IRRECOVERABLE and not span <= gone:
            found.append(f"resurrected: {stated.pointer} is certified, its keys are not gone")
    return found


def _undone(vault: Vault, erasures: int) -> Iterator[str]:
    for one in generations(vault):
        if one.state not in (GenerationState.OPEN, GenerationState.GONE):
            yield f"undone: generation {one.number} of tree {one.tree} is {one.state}"
    if len(certificates_of(vault)) != erasures:
        yield f"half-done: {len(certificates_of(vault))} erasures, there were {erasures}"
    with vault._core.database.read() as connection:
        open_shreds = connection.exec_driver_sql(
            "SELECT tree, opened, step FROM vault_shred WHERE finished_at IS NULL"
        ).fetchall()
    if open_shreds:
        yield f"undone: shreds that are not finished: {open_shreds}"
    status = vault.shred_status()
    if (status.step, status.waits_for) != (None, None):
        yield f"undone: the status says {status}"


def _leftovers(folder: Path, vault: Vault) -> list[str]:
    prefixes = {TreeNumber.ORDINARY: "root", TreeNumber.PERMANENT: "permanent"}
    wanted = {
        one.reference for one in generations(vault)
        if one.state is GenerationState.OPEN and one.reference.startswith(prefixes[one.tree])
    }  # fmt: skip
    kept = {path.name for path in (folder / "keys").iterdir()}
    found = [f"undone: the key files are {sorted(kept)}"] if kept != wanted else []
    allowed = {"anchors", "datakluis.toml", "keys", "leases", "signer", "vault.db"}
    allowed |= {"vault.db-shm", "vault.db-wal"}
    over = {path.name for path in folder.iterdir()} - allowed
    return found + ([f"undone: left over are {sorted(over)}"] if over else [])


# Processes


class Raised(NamedTuple):
    """An error, as another process tells it."""

    kind: str
    text: str


class Act(NamedTuple):
    """What a process does to the root keys: a shred, or a move to another place."""

    place: NewPlace | None = None
    tree: TreeNumber = TreeNumber.ORDINARY

    def run(self, vault: Vault, on_step: Callable[[ShredStep], None] = lambda step: None,
            patience: float = 5.0) -> ShredReport:  # fmt: skip
        """Do it, and come back when it is done."""
        if self.place is None:
            return vault.shred(patience=patience, on_step=on_step)
        return vault.move_root_keys(self.place, self.tree, patience=patience, on_step=on_step)


class Death(NamedTuple):
    """Where a process dies: at the first, or a later, time that a step is reached."""

    step: ShredStep
    time: int = 1


def die_at_step(
    pipe: Connection, folder: Path, act: Act, death: Death, environment: Mapping[str, str]
) -> None:
    """Shred or move, and be killed with SIGKILL from within a step."""
    os.environ.update(environment)
    reached: Counter[ShredStep] = Counter()

    def on_step(step: ShredStep) -> None:
        reached[step] += 1
        if (step, reached[step]) == death:
            os.kill(os.getpid(), signal.SIGKILL)

    with cheap(), open_vault(folder) as vault:
        act.run(vault, on_step)
    pipe.send(("survived", dict(reached)))


def work_on(
    pipe: Connection, folder: Path, operations: list[tuple[Any, ...]], real_rehearsal: bool
) -> None:
    """Run operations, each announced before and acknowledged after it, and stay to be killed."""
    with cheap(real_rehearsal=real_rehearsal), open_vault(folder) as vault:
        for number, operation in enumerate(operations):
            pipe.send(("begin", number))
            began = time.perf_counter()
            result = answer(vault, operation)
            pipe.send(("done", number, result, time.perf_counter() - began))
        pipe.poll(None)


def answer(vault: Vault, operation: tuple[Any, ...]) -> object:
    """Run one operation of a vault and return its result or its error."""
    kind, *rest = operation
    try:
        if kind == "put":
            return vault.put(rest[1], category=CATEGORY, subject=rest[0])
        if kind == "get":
            return vault.get(rest[0])
        if kind == "get all":
            return [answer(vault, ("get", pointer)) for pointer in rest[0]]
        if kind == "rectify":
            return vault.rectify(*rest)
        if kind == "erase":
            vault.erase(rest[0], GROUND)
            return None
        if kind == "find":
            return vault.find(rest[0])
        if kind == "status":
            return sum(vault.shred_status() is not None for _ in range(rest[0]))
        return Act().run(vault, patience=rest[0] if rest else 5.0).gone
    except Exception as error:
        # Not the error itself: some cannot be sent through a pipe.
        return Raised(type(error).__name__, str(error))


def serve(pipe: Connection, folder: Path, lease_seconds: float) -> None:
    """Answer operations on an open vault until None comes."""
    with cheap(), patch.object(leases.Lease.__init__, "__defaults__", (lease_seconds,)):
        vault = open_vault(folder)
        with vault:
            pipe.send(os.getpid())
            while (operation := pipe.recv()) is not None:
                pipe.send(answer(vault, operation))


class Remote(Worker):
    """Another process that has a vault open and does what it is asked."""

    def __init__(self, folder: Path, lease_seconds: float = leases.LEASE_SECONDS) -> None:
        super().__init__(serve, folder, lease_seconds)
        self.number: int = self.receive()  # type: ignore[assignment]

    def ask(self, *operation: object) -> Any:
        """Return what an operation returned there, or its error as `Raised`."""
        self.begin(*operation)
        return self.receive()

    def begin(self, *operation: object) -> None:
        """Have an operation done without waiting for the answer."""
        self.pipe.send(operation)

    def stop(self) -> None:
        """Have it do nothing at all from now on, without letting go of anything."""
        os.kill(self.number, signal.SIGSTOP)
        while Path(f"/proc/{self.number}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.005)

    def go_on(self) -> None:
        """Have it go on from where it was stopped."""
        os.kill(self.number, signal.SIGCONT)


@contextmanager
def remote(folder: Path, lease_seconds: float = leases.LEASE_SECONDS) -> Iterator[Remote]:
    """Run another process on a vault, and end it."""
    process = Remote(folder, lease_seconds)
    try:
        yield process
    finally:
        if process.process.is_alive():
            os.kill(process.number, signal.SIGKILL)
        process.end()


def read_on(pipe: Connection, folder: Path, pointers: list[str]) -> None:
    """Read records in turn until told to stop, and send what each reading gave and when.

    The times are of the machine's one monotonic clock, so those of two processes compare.
    """
    log = []
    with open_vault(folder) as vault:
        for pointer in pointers:
            vault.get(pointer)  # Every key is cached before anything happens.
        pipe.send("ready")
        while not pipe.poll(0):
            for pointer in pointers:
                began = time.monotonic()
                log.append((pointer, answer(vault, ("get", pointer)), began))
            time.sleep(0.002)  # Not to keep the others from the processor.
    pipe.send(log)


def write_on(pipe: Connection, folder: Path, name: str, kept: str) -> None:
    """Store records until told to stop, reading one now and then, and send what was stored."""
    log = []
    with open_vault(folder) as vault:
        pipe.send("ready")
        while not pipe.poll(0):
            vault.get(kept)
            time.sleep(0.005)
            payload = f"{name} {len(log)}".encode()
            log.append((answer(vault, ("put", name, payload)), payload))
    pipe.send(log)
