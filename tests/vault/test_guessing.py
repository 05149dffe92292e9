"""No guess at a person who was erased is confirmed by anything that is left (P2 and P3 together).

The people are of the official test range of citizen service numbers, so all ten thousand guesses
are made: against the tags of the subject index, the commitments in the ledger and the tags of
imports with every key that the adversary reaches (tests/vault/adversary.py), and against every byte
of every copy without a key. The living are found by the same means, and so is everybody once the
root keys return.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import adversary
import pytest
from adversary import Commitments, Copies, Reached, pieces
from guarantees_scan import guesses, windows
from guarantees_vault import (
    CATEGORY,
    GROUND,
    ORIGIN,
    PASSPHRASE,
    chosen_seed,
    new_vault,
    open_vault,
)

import commands.lifelike as lifelike
from ledger.pointer import parse_pointer
from vault import ImportOrder, NewRecord, Vault, keyfile

RANGE = [str(number) for number in range(999_990_000, 1_000_000_000)]
PEOPLE = [number for number in RANGE if lifelike.bsn_check(number)]
NUMBER = re.compile(rb"99999[0-9]{4}")


def payload_of(number: str) -> bytes:
    """Return what a person's record says; anybody who knows the person could write it."""
    return json.dumps({"bsn": number, "regeling": "Zwemles"}).encode()


def line_of(number: str) -> bytes:
    """Return a file to import that holds one person."""
    return payload_of(number) + b"\n"


def order_of(number: str) -> bytes:
    """Return what the tag of that file's import is made over."""
    digest = hashlib.sha256(line_of(number)).hexdigest()
    return "\0".join((digest, CATEGORY, "/bsn", "None", "None")).encode()


@dataclass
class Town:
    """A vault of people of whom some were erased and shredded, and every copy of its stores.

    Attributes:
        root: folder of everything.
        vault: the vault, open.
        pointers: of everybody's record, by number.
        imported: who came in by a file of his own.
        erased: numbers.
        copies: folders.
    """

    root: Path
    vault: Vault
    pointers: dict[str, str] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    copies: list[Path] = field(default_factory=list)

    @property
    def living(self) -> set[str]:
        return self.pointers.keys() - self.erased

    def put(self, numbers: list[str]) -> None:
        pointers: list[str] = []
        records = [NewRecord(payload_of(number), number) for number in numbers]
        self.vault.put_many(records, category=CATEGORY, on_batch=pointers.extend)
        self.pointers |= dict(zip(numbers, pointers, strict=True))

    def import_alone(self, number: str) -> None:
        path = self.root / "lines.jsonl"
        path.write_bytes(line_of(number))
        assert self.vault.import_jsonl(ImportOrder(path, CATEGORY, "/bsn")).records == 1
        path.unlink()
        (self.pointers[number],) = self.vault.find(number)
        self.imported.add(number)

    def erase(self, numbers: list[str]) -> None:
        for number in numbers:
            assert self.vault.erase_person(number, GROUND).is_complete
            self.erased.add(number)

    def copy(self) -> None:
        """Copy every store as it is now."""
        folder = self.root / f"copy-{len(self.copies):03}"
        folder.mkdir()
        shutil.copytree(self.vault.folder, folder / "vault")
        self.vault.backup_data(folder / "data.kluis")
        self.vault.backup_keys(folder / "keys.kluis")
        self.copies.append(folder)

    def everything(self) -> Copies:
        """Give the adversary all copies and the live files."""
        taken = Copies()
        for folder in self.copies:
            for path in ("vault/vault.db", "data.kluis", "keys.kluis"):
                taken.take(folder / path)
        taken.take(self.vault.folder / "vault.db")
        return taken


def live(town: Town, people: list[str], erasures: int, epochs: int) -> None:
    """Let people come and go, with a copy after each step, and close an epoch behind each.

    Args:
        town: empty.
        people: who come, in this order.
        erasures: how many of them are erased, in each epoch.
        epochs: how many.
    """
    dice = random.Random(chosen_seed())
    share = len(people) // epochs
    for epoch in range(epochs):
        coming = people[epoch * share : (epoch + 1) * share]
        town.put(coming[2:])
        town.copy()
        for number in coming[:2]:
            town.import_alone(number)
        town.copy()
        # Of the two that were imported one goes and one stays.
        going = [coming[0], *dice.sample(sorted(town.living - town.imported), erasures - 1)]
        for start in range(0, erasures, 5):
            town.erase(going[start : start + 5])
            town.copy()
        town.vault.checkpoint()
        town.vault.shred()
        town.copy()
    town.vault.declare_no_copies("J. de Vries")
    town.vault.export_ledger(town.root / "ledger")
    for number in sorted(town.erased):
        evidence = town.vault.prove(town.pointers[number])
        (town.root / f"{number}.evidence").write_bytes(evidence.format())
        certificate = town.vault.certificate(town.pointers[number])
        (town.root / f"{number}.certificate").write_bytes(certificate.format())
    town.copy()


def built(root: Path, count: int, erasures: int, epochs: int) -> Iterator[Town]:
    with patch.multiple(keyfile, _MEMORY_KIB=8 * 4, _ITERATIONS=1, _LANES=4):
        new_vault(root / "vault")
        with open_vault(root / "vault") as vault:
            town = Town(root, vault)
            live(town, PEOPLE[:: len(PEOPLE) // count][:count], erasures, epochs)
            yield town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from built(tmp_path_factory.mktemp("guessing"), 300, 30, 2)


@pytest.fixture(scope="module")
def copies(town: Town) -> Copies:
    return town.everything()


@pytest.fixture(scope="module")
def reached(town: Town, copies: Copies) -> Reached:
    """What opens with the root keys that still exist."""
    return reached_with(copies, (town.vault.folder / "keys").glob("*.key"))


@pytest.fixture(scope="module")
def restored(town: Town, copies: Copies) -> Reached:
    """What opens once every root key file that ever was has come back."""
    return reached_with(copies, all_key_files(town))


def reached_with(copies: Copies, paths: Iterable[Path]) -> Reached:
    keys = adversary.root_keys(paths, PASSPHRASE)
    return adversary.reach(copies, adversary.unwrapped(copies, keys))


def all_key_files(town: Town) -> list[Path]:
    found = {path.name: path for path in town.root.glob("copy-*/vault/keys/*.key")}
    return list(found.values())


def confirmed_by_index(copies: Copies, reached: Reached) -> set[str]:
    """Return whom the subject index confirms, by tag or by opening a row."""
    numbers = [number.encode() for number in RANGE]
    found = adversary.confirmed_by_index(copies, reached, numbers)
    return {number.decode() for number in found | set(reached.subjects.values())}


def test_no_tag_of_any_copy_confirms_who_was_erased(
    town: Town, copies: Copies, reached: Reached, restored: Reached
) -> None:
    confirmed = confirmed_by_index(copies, reached)
    keys = sum(map(len, adversary.bucket_keys(copies, reached).values()))
    control = confirmed_by_index(copies, restored)
    print(
        f"\nindex: {len(RANGE)} guesses, {keys} bucket keys, {len(copies.subjects)} rows of"
        f" {len(town.copies)} copies: {len(confirmed & town.erased)} of {len(town.erased)} erased"
        f" people confirmed, {len(confirmed & town.living)} of {len(town.living)} living;"
        f" control with all root keys back: {len(control & town.erased)} erased"
    )
    assert len(town.erased) == 60
    assert confirmed == town.living
    assert control == set(town.pointers)


def every_key(reached: Reached) -> set[bytes]:
    """Return every key that is reached, whatever it is for."""
    slots = {key for some in reached.slots.values() for key in some}
    derived = {part for key in slots for part in adversary.record_keys(key)}
    return slots | derived | {key for some in reached.epochs.values() for key in some}


def keyed_values(copies: Copies) -> set[bytes]:
    """Return the first 16 bytes of all that a keyed hash made in any copy."""
    values = {row.tag for row in copies.subjects} | {tag[:16] for _, tag in copies.imports}
    return values | {entry[24:40] for entry in copies.entries if len(entry) == 56}


def test_no_key_confirms_who_was_erased_wherever_it_was_meant_for(
    town: Town, copies: Copies, reached: Reached
) -> None:
    values, keys = keyed_values(copies), every_key(reached)
    confirmed = {
        number
        for number in town.erased
        for guess in (number.encode(), payload_of(number), order_of(number))
        for key in keys
        if hmac.digest(key, guess, "sha256")[:16] in values
    }
    print(
        f"\n{len(keys)} keys on {len(values)} keyed values: {len(confirmed)} of"
        f" {len(town.erased)} erased people confirmed"
    )
    assert confirmed == set()


def confirmed_by_ledger(town: Town, copies: Copies, reached: Reached) -> set[str]:
    """Return whose commitment is confirmed by the key of that version."""
    ledger = Commitments(copies, ORIGIN)
    names = {number: (parse_pointer(town.pointers[number]), 1, 0) for number in town.pointers}
    return {
        number
        for number, name in names.items()
        if any(
            ledger.confirms(name, key, payload_of(number)) for key in ledger.own_keys(reached, name)
        )
    }


def test_no_commitment_confirms_who_was_erased(
    town: Town, copies: Copies, reached: Reached, restored: Reached
) -> None:
    confirmed = confirmed_by_ledger(town, copies, reached)
    control = confirmed_by_ledger(town, copies, restored)
    ledger = Commitments(copies, ORIGIN)
    # The right payload under every commitment key there is: what no such guess finds, none does.
    keys = [adversary.record_keys(key)[1] for some in reached.slots.values() for key in some]
    by_others = {
        number
        for number in town.erased
        for key in keys
        if ledger.confirms((parse_pointer(town.pointers[number]), 1, 0), key, payload_of(number))
    }
    print(
        f"\nledger: {len(ledger.by_version)} commitments, {len(keys)} keys:"
        f" {len((confirmed | by_others) & town.erased)} of {len(town.erased)} erased people"
        f" confirmed, {len(confirmed & town.living)} of {len(town.living)} living; control with"
        f" all root keys back: {len(control & town.erased)} erased"
    )
    assert by_others == set()
    assert confirmed == town.living
    assert control == set(town.pointers)


def test_a_commitment_is_confirmed_by_one_guess_of_all(
    town: Town, copies: Copies, reached: Reached
) -> None:
    """Control: whoever has a living person's key finds the person among all numbers."""
    ledger = Commitments(copies, ORIGIN)
    for number in sorted(town.living)[:3]:
        name = (parse_pointer(town.pointers[number]), 1, 0)
        (key,) = ledger.own_keys(reached, name)
        found = [guess for guess in RANGE if ledger.confirms(name, key, payload_of(guess))]
        assert found == [number]


def test_no_tag_of_an_import_confirms_who_was_erased(
    town: Town, copies: Copies, reached: Reached, restored: Reached
) -> None:
    orders = {number: order_of(number) for number in RANGE}
    confirmed = adversary.confirmed_by_imports(copies, reached, orders)
    control = adversary.confirmed_by_imports(copies, restored, orders)
    erased = town.imported & town.erased
    print(
        f"\nimports: {len(RANGE)} guesses, {len(copies.imports)} tags:"
        f" {len(confirmed & erased)} of {len(erased)} erased people confirmed,"
        f" {len(confirmed - erased)} of {len(town.imported - erased)} living; control with all"
        f" root keys back: {len(control & erased)} erased"
    )
    assert erased
    assert confirmed == town.imported - erased
    assert control == town.imported


def unkeyed(town: Town, copies: Copies) -> dict[bytes, str]:
    """Return the first 16 bytes of everything that can be made of a guess without a key."""
    (tenant,) = copies.tenants
    salts = [b"", ORIGIN.encode(), tenant]
    wanted = {}
    for number in RANGE:
        own = [parse_pointer(town.pointers[number])] if number in town.pointers else []
        for value in (payload_of(number), line_of(number)):
            for guess in guesses(number, value, [*salts, *own]):
                wanted[guess[:16]] = number
    return wanted


def found_in(some: Iterable[bytes], wanted: dict[bytes, str]) -> set[str]:
    """Return the numbers of which a guess lies in some bytes, also in hex or base64."""
    return {wanted[value] for piece in some for value in windows(piece) & wanted.keys()}


def test_no_byte_of_any_copy_confirms_a_guess_without_a_key(
    town: Town, copies: Copies, tmp_path: Path
) -> None:
    wanted = unkeyed(town, copies)
    paths = [path for path in town.root.rglob("*") if path.is_file()]
    distinct = pieces(paths)
    confirmed = found_in(distinct, wanted)
    plain = {number for piece in distinct for number in NUMBER.findall(piece)}
    planted = dict(zip(("blob", "hex"), sorted(town.erased), strict=False))
    with_hashes = shutil.copy(town.copies[0] / "data.kluis", tmp_path / "unblinded")
    with closing(sqlite3.connect(with_hashes, isolation_level=None)) as database:
        database.execute("CREATE TABLE unblinded (value)")
        for form, number in planted.items():
            digest = hashlib.sha256(number.encode())
            value = digest.digest() if form == "blob" else digest.hexdigest()
            database.execute("INSERT INTO unblinded VALUES (?)", (value,))
    control = found_in(pieces([tmp_path / "unblinded"]), wanted)
    print(
        f"\n{len(wanted)} values of {len(RANGE)} guesses, {len(paths)} files,"
        f" {sum(map(len, distinct)) >> 20} MiB of different bytes: {len(confirmed)} confirmed;"
        f" control: {len(control)} of {len(planted)} planted hashes found"
    )
    assert any(path.name.endswith(".certificate") for path in paths)
    assert (confirmed, plain) == (set(), set())
    assert control == set(planted.values())


@pytest.mark.soak
def test_no_guess_is_confirmed_in_a_larger_town_of_more_epochs(tmp_path: Path) -> None:
    for town in built(tmp_path, 900, 60, 6):
        copies = town.everything()
        reached = reached_with(copies, (town.vault.folder / "keys").glob("*.key"))
        restored = reached_with(copies, all_key_files(town))
        tags = {row.tag for row in copies.subjects}
        # As if any key in a slot might be a bucket's.
        slots = [key for some in reached.slots.values() for key in some]
        macs = [adversary.subject_keys(key)[0] for key in slots]
        by_any_key = {
            number
            for number in RANGE
            for mac in macs
            if hmac.digest(mac, number.encode(), "sha256")[:16] in tags
        }
        wanted = unkeyed(town, copies)
        paths = [path for path in town.root.rglob("*") if path.is_file()]
        print(f"\n{len(town.erased)} erased, {len(town.copies)} copies, {len(macs)} keys")
        assert by_any_key == confirmed_by_index(copies, reached) == town.living
        assert confirmed_by_ledger(town, copies, reached) == town.living
        assert found_in(pieces(paths), wanted) == set()
        assert confirmed_by_index(copies, restored) == set(town.pointers)
        assert confirmed_by_ledger(town, copies, restored) == set(town.pointers)
