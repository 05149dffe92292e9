"""What the guarantee tests share: cheap vaults, and one check of a vault against what was told.

A vault is made once with the smallest Argon2id cost that a key file may ask for and copied for each
test, so that opening one takes milliseconds.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ledger.checkpoint import Checkpoint
from ledger.log import Log
from ledger.merkle import verify_consistency
from ledger.note import Note
from ledger.pointer import format_pointer
from vault import Erased, Ground, Vault, VaultError, keyfile

PASSPHRASE = "only for tests"
CATEGORY = "nieuwsbrief"  # no duty to keep: erased when the consent is withdrawn
GROUND = Ground.CONSENT_WITHDRAWN
ORIGIN = "datakluis.example/guarantees"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    # Made when a template is: a worker that is killed could not remove one of its own.
    return tempfile.TemporaryDirectory(prefix="datakluis-guarantees-")


@functools.cache
def _template() -> Path:
    folder = Path(_folder().name) / "template"
    with patch.multiple(keyfile, _MEMORY_KIB=8 * 4, _ITERATIONS=1, _LANES=4):
        Vault.create(folder, PASSPHRASE, origin=ORIGIN).close()
    return folder


def new_vault(folder: Path) -> Path:
    """Make a new vault in a folder that does not exist yet."""
    shutil.copytree(_template(), folder)
    return folder


def open_vault(folder: Path) -> Vault:
    """Open a vault of these tests."""
    return Vault.open(folder, PASSPHRASE)


def put(vault: Vault, payload: bytes, subject: str = "subject") -> str:
    """Store one record that may be erased."""
    return vault.put(payload, category=CATEGORY, subject=subject)


def erase(vault: Vault, pointer: str) -> None:
    """Erase one record."""
    vault.erase(pointer, GROUND)


def chosen_seed() -> int:
    """Return the seed of this run: DATAKLUIS_SEED repeats an earlier one."""
    return int(os.environ.get("DATAKLUIS_SEED") or random.SystemRandom().randrange(2**32))


def query(vault: Vault, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a vault's database."""
    with vault._core.database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql, parameters)]


def outcome(call: Callable[[], object]) -> object:
    """Return what a call returned, or the error that it raised."""
    try:
        return call()
    except VaultError as error:
        return error


class Known:
    """What a vault has acknowledged: the payload versions of each record, and which are erased."""

    def __init__(self) -> None:
        self.versions: dict[str, list[bytes]] = {}
        self.erased: set[str] = set()
        self.subjects: dict[str, str] = {}

    def stored(self, pointers: list[str], payloads: list[bytes], subject: str) -> None:
        """Note that records were stored."""
        for pointer, payload in zip(pointers, payloads, strict=True):
            self.versions[pointer] = [payload]
            self.subjects[pointer] = subject

    def living(self) -> list[str]:
        """Return the pointers that were not erased."""
        return [pointer for pointer in self.versions if pointer not in self.erased]

    def damage(self, vault: Vault) -> list[str]:
        """Return what a vault lost, brought back or left half done of all this."""
        return [*self._payloads(vault), *self._index(vault), *self._versions(vault)]

    def _payloads(self, vault: Vault) -> Iterator[str]:
        for pointer, payloads in self.versions.items():
            answer = outcome(lambda pointer=pointer: vault.get(pointer))
            if pointer in self.erased:
                if not isinstance(answer, Erased):
                    yield f"resurrected: {pointer} was erased, get gives {answer!r}"
            elif answer != payloads[-1]:
                yield f"lost: {pointer} version {len(payloads)}, get gives {answer!r}"

    def _index(self, vault: Vault) -> Iterator[str]:
        own_records: dict[str, list[str]] = {subject: [] for subject in self.subjects.values()}
        for pointer in self.living():
            own_records[self.subjects[pointer]].append(pointer)
        for subject, own in own_records.items():
            answer = outcome(lambda subject=subject: vault.find(subject))
            if not isinstance(answer, list) or sorted(answer) != sorted(own):
                yield f"lost: the index of {subject} differs from its {len(own)} records"

    def _versions(self, vault: Vault) -> Iterator[str]:
        numbers: dict[str, list[object]] = {}
        for stored, number in query(
            vault,
            "SELECT r.pointer, v.number FROM vault_record r"
            " LEFT JOIN vault_version v ON v.record_id = r.id ORDER BY r.id, v.number",
        ):
            numbers.setdefault(format_pointer(stored), []).append(number)
        for pointer, payloads in self.versions.items():
            if numbers.get(pointer) != list(range(1, len(payloads) + 1)):
                yield f"half-done: {pointer} has the versions {numbers.get(pointer)}"
        if len(numbers) != len(self.versions):
            yield f"half-done: {len(numbers)} records, {len(self.versions)} were put"


def consistency_fault(vault: Vault, older: Note, newer: Note) -> str | None:
    """Return why a newer checkpoint does not extend an older one, or None."""
    old, new = Checkpoint.parse(older.text), Checkpoint.parse(newer.text)
    with vault._core.database.read() as connection:
        try:
            proof = Log(connection).consistency_proof(old.size, new.size)
            verify_consistency(old.size, old.root, new.size, new.root, proof)
        except Exception as error:
            return f"{new.size} leaves do not extend {old.size}: {error!r}"
    return None
