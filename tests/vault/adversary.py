"""What somebody can open who has every copy that was ever made, and some of the root keys.

Written from the documented formats alone, with nothing of the product: SQLite for the files, pyca
for the algorithms. The adversary is given copies of vault.db with their logs, key backups and data
backups, root key files and their passphrase, and computes the closure of what these open:

    wrapped epoch keys   x  root keys                      -> epoch keys
    sealed nodes         x  keys of that level and number  -> keys of the level below, down to slots
    bodies, notes        x  keys of their slot             -> payloads, reasons
    rows of subjects     x  keys of their bucket           -> subjects
    version entries      x  commitment keys of that version, to confirm a guess

A key that one copy gives is tried on what every other copy holds, whatever its time. Slots are
never reused, so the key of a slot is tried on that slot's own blobs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ROOT, FANOUT, KEY = 3, 256, 32
NONCE, TAG = 12, 16
FREE, ERASED = 0, 2  # states of a slot that holds no key
PAYLOAD, NOTE = 1, 2
PAGE, OVERLAP = 4_096, 128  # a value that straddles two pieces is whole in the first
VERSION_ENTRY = b"\x01\x01\x01"  # format, kind, suite

Place = tuple[int, int]  # level and number of a node


class Wrapped(NamedTuple):
    """An epoch key as a provider has wrapped it."""

    kind: str
    options: str
    reference: str
    tree: int
    generation: int
    blob: bytes


class Body(NamedTuple):
    """A sealed payload or note, and where it was sealed."""

    kind: int
    pointer: bytes
    version: int
    group: int
    slot: int
    blob: bytes


class SubjectRow(NamedTuple):
    """A row of the subject index."""

    bucket: int
    row: int
    tag: bytes
    sealed: bytes


class Contents(NamedTuple):
    """Where something lay that was opened."""

    kind: int
    pointer: bytes
    version: int
    group: int


@dataclass
class Copies:
    """Everything sealed that some copy holds, each blob once.

    Attributes:
        tenants: names of the vaults.
        wrapped: epoch keys.
        nodes: sealed nodes by level and number.
        bodies: of records, field groups and notes.
        buckets: number and slot of each bucket that some copy knows.
        subjects: rows of the subject index.
        imports: slot and tag of each import.
        entries: leaf data of the ledger.
        files: how many were taken in.
    """

    tenants: set[bytes] = field(default_factory=set)
    wrapped: set[Wrapped] = field(default_factory=set)
    nodes: dict[Place, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    bodies: set[Body] = field(default_factory=set)
    buckets: set[tuple[int, int]] = field(default_factory=set)
    subjects: set[SubjectRow] = field(default_factory=set)
    imports: set[tuple[int, bytes]] = field(default_factory=set)
    entries: set[bytes] = field(default_factory=set)
    files: int = 0

    def take(self, path: Path) -> None:
        """Take in a copy of vault.db beside its log, a key backup or a data backup."""
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            there = {row[0] for row in database.execute("SELECT name FROM sqlite_schema")}
            if "vault_tree" in there:
                self._take_keys(database)
            if "vault_record" in there:
                self._take_records(database)
            if "kluis_config" in there:
                found = database.execute("SELECT text FROM kluis_config WHERE name = 'tenant'")
                self.tenants |= {bytes.fromhex(row[0]) for row in found}
        self.files += 1

    def _take_keys(self, database: sqlite3.Connection) -> None:
        self.tenants |= {row[0] for row in database.execute("SELECT tenant FROM vault_tree")}
        self.wrapped |= {
            Wrapped(*row)
            for row in database.execute(
                "SELECT p.kind, p.options, g.reference, g.tree, g.number, g.wrapped"
                " FROM vault_generation g JOIN vault_provider p ON p.id = g.provider_id"
                " WHERE g.wrapped IS NOT NULL"
            )
        }
        for level, number, sealed in database.execute(
            "SELECT level, number, sealed FROM vault_node"
        ):
            self.nodes[level, number].add(sealed)

    def _take_records(self, database: sqlite3.Connection) -> None:
        for kind, query in (
            (
                PAYLOAD,
                "SELECT r.pointer, v.number, 0, v.slot, v.body FROM vault_version v"
                " JOIN vault_record r ON r.id = v.record_id WHERE v.body IS NOT NULL",
            ),
            (
                PAYLOAD,
                "SELECT r.pointer, p.number, p.field_group, p.slot, p.body FROM vault_part p"
                " JOIN vault_record r ON r.id = p.record_id WHERE p.body IS NOT NULL",
            ),
            (
                NOTE,
                "SELECT r.pointer, h.version, 0, v.slot, h.reason FROM vault_hold h"
                " JOIN vault_record r ON r.id = h.record_id"
                " JOIN vault_version v ON v.record_id = h.record_id AND v.number = h.version",
            ),
        ):
            self.bodies |= {Body(kind, *row) for row in database.execute(query)}
        self.buckets |= set(database.execute("SELECT number, slot FROM vault_bucket"))
        self.subjects |= {
            SubjectRow(*row)
            for row in database.execute("SELECT bucket, id, tag, sealed FROM vault_subject")
        }
        self.imports |= set(database.execute("SELECT slot, tag FROM vault_import"))
        self.entries |= {row[0] for row in database.execute("SELECT entry FROM ledger_pending")}
        for (bundle,) in database.execute("SELECT entries FROM ledger_bundle"):
            self.entries |= set(_entries(bundle))


def _entries(bundle: bytes) -> Iterator[bytes]:
    """Yield the entries of a bundle (C2SP tlog-tiles)."""
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        yield bundle[at + 2 : end]
        at = end


@dataclass
class Reached:
    """The closure: every key and every text that somebody reaches.

    Attributes:
        epochs: epoch keys by tree and generation.
        nodes: how many sealed nodes opened.
        tried: how many decryptions were tried.
        slots: keys by slot.
        payloads: what was opened, by where it lay.
        subjects: rows of the subject index that opened, with what they say.
    """

    epochs: dict[Place, set[bytes]]
    nodes: int = 0
    tried: int = 0
    slots: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    payloads: dict[Contents, bytes] = field(default_factory=dict)
    subjects: dict[SubjectRow, bytes] = field(default_factory=dict)

    def opened(self, texts: Iterable[bytes]) -> set[bytes]:
        """Return which of some texts lie in what was opened."""
        everything = b"\0".join(self.payloads.values())
        return {text for text in texts if text in everything}


def root_keys(paths: Iterable[Path], passphrase: str) -> dict[str, list[bytes]]:
    """Return the root keys in those key files that the passphrase opens, by the file's name."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for path in paths:
        document = json.loads(path.read_bytes())
        cost, label = document["kdf"], document["label"]
        key = Argon2id(
            salt=bytes.fromhex(cost["salt"]),
            length=KEY,
            iterations=cost["iterations"],
            lanes=cost["lanes"],
            memory_cost=cost["memory_kib"],
        ).derive(passphrase.encode())
        nonce, sealed = bytes.fromhex(document["nonce"]), bytes.fromhex(document["sealed"])
        found[path.name].append(
            AESGCM(key).decrypt(nonce, sealed, f"datakluis-keyfile/1\0{label}".encode())
        )
    return found


def unwrapped(copies: Copies, keys: dict[str, list[bytes]]) -> dict[Place, set[bytes]]:
    """Return the epoch keys that root keys from files unwrap: each key is tried on each."""
    epochs: dict[Place, set[bytes]] = defaultdict(set)
    for one in copies.wrapped:
        for tenant in copies.tenants:
            context = context_of(tenant, one.tree, one.generation)
            for key in (key for some in keys.values() for key in some):
                opened = _open(AESGCMSIV(key), one.blob, context)
                if opened is not None:
                    epochs[one.tree, one.generation].add(opened)
    return epochs


def context_of(tenant: bytes, tree: int, generation: int) -> bytes:
    """Return what a wrapped epoch key is bound to."""
    return b"datakluis/epoch/1" + tenant + bytes([tree]) + generation.to_bytes(7, "big")


def reach(copies: Copies, epochs: dict[Place, set[bytes]]) -> Reached:
    """Compute the closure.

    Args:
        copies: everything sealed.
        epochs: the epoch keys to begin with, by tree and generation.
    """
    reached = Reached(epochs)
    keys: dict[Place, set[bytes]] = defaultdict(set)
    for (tree, _), some in epochs.items():
        keys[ROOT, tree] |= some
    # From the root down: what opens a level's nodes lies in the level above and nowhere else.
    for level in range(ROOT, -1, -1):
        for name in [name for name in copies.nodes if name[0] == level]:
            for node in _open_nodes(copies, reached, name, keys[name]):
                for position, key in _keys_in(node):
                    number = name[1] * FANOUT + position
                    if level:
                        keys[level - 1, number].add(key)
                    else:
                        reached.slots[number].add(key)
    _open_bodies(copies, reached)
    _open_subjects(copies, reached)
    return reached


def _open_nodes(copies: Copies, reached: Reached, name: Place, keys: set[bytes]) -> Iterator[bytes]:
    level, number = name
    place = bytes([level]) + number.to_bytes(4, "big")
    aeads = [AESGCMSIV(key) for key in keys]
    for sealed in copies.nodes[name]:
        for aead in aeads:
            found = None
            for tenant in copies.tenants:
                reached.tried += 1
                found = found or _open(aead, sealed, b"\x01" + tenant + place)
            if found is not None:
                reached.nodes += 1
                yield found
                break


def _keys_in(node: bytes) -> Iterator[tuple[int, bytes]]:
    assert len(node) == FANOUT * (1 + KEY)
    for position in range(FANOUT):
        start = FANOUT + position * KEY
        # What the state says is not believed: a slot that was to be zeroed may not have been.
        if any(node[start : start + KEY]):
            yield position, node[start : start + KEY]


def _open_bodies(copies: Copies, reached: Reached) -> None:
    for body in copies.bodies:
        kind, pointer, version, group, slot, blob = body
        for key in reached.slots.get(slot, ()):
            aead = AESGCM(record_keys(key)[0])
            for tenant in copies.tenants:
                reached.tried += 1
                bound = bytes([kind, blob[0]]) + tenant + pointer
                bound += version.to_bytes(4, "big") + bytes([group])
                opened = _open(aead, blob[1:], bound)
                if opened is not None:
                    reached.payloads[Contents(kind, pointer, version, group)] = opened


def record_keys(slot_key: bytes) -> tuple[bytes, bytes, bytes]:
    """Return K_enc, K_commit and K_row."""
    okm = HKDFExpand(SHA256(), 96, b"datakluis/record/1").derive(slot_key)
    return okm[:32], okm[32:64], okm[64:]


def bucket_keys(copies: Copies, reached: Reached) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return K_tag and K_seal of every bucket key that is reached, by the bucket's number."""
    found: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for number, slot in copies.buckets:
        found[number] += [subject_keys(key) for key in reached.slots.get(slot, ())]
    return found


def subject_keys(slot_key: bytes) -> tuple[bytes, bytes]:
    """Return K_tag and K_seal of a bucket."""
    okm = HKDFExpand(SHA256(), 64, b"datakluis/subject/1").derive(slot_key)
    return okm[:32], okm[32:]


def _open_subjects(copies: Copies, reached: Reached) -> None:
    # When there are more buckets a subject may have moved, but its row was sealed anew for that.
    keys = {
        number: [AESGCM(seal) for _, seal in some]
        for number, some in bucket_keys(copies, reached).items()
    }
    for row in copies.subjects:
        bound = b"\x01" + row.bucket.to_bytes(8, "big") + row.row.to_bytes(8, "big")
        for aead in keys.get(row.bucket, ()):
            reached.tried += 1
            opened = _open(aead, row.sealed, bound)
            if opened is not None:
                reached.subjects[row] = opened


def confirmed_by_index(copies: Copies, reached: Reached, guesses: Iterable[bytes]) -> set[bytes]:
    """Return the guessed subjects whose tag some copy holds, under any bucket key in reach."""
    tags = {row.tag for row in copies.subjects}
    macs = [tag for some in bucket_keys(copies, reached).values() for tag, _ in some]
    return {
        guess
        for guess in guesses
        if any(hmac.digest(mac, guess, "sha256")[:TAG] in tags for mac in macs)
    }


def confirmed_by_imports(copies: Copies, reached: Reached, orders: dict[str, bytes]) -> set[str]:
    """Return the guessed imports whose tag some copy holds, under any slot key in reach.

    Args:
        copies: with the tags.
        reached: with the keys.
        orders: what the tag is made over, for each guess.
    """
    tags = {tag for _, tag in copies.imports}
    keys = {key for slot, _ in copies.imports for key in reached.slots.get(slot, ())}
    return {
        guess
        for guess, order in orders.items()
        if any(hmac.digest(key, order, "sha256") in tags for key in keys)
    }


class Commitments:
    """The commitments in a ledger, and what confirms a guess at what they commit to.

    Args:
        copies: with the entries.
        origin: of the ledger.
    """

    def __init__(self, copies: Copies, origin: str) -> None:
        self._origin = origin.encode()
        self.by_version: dict[tuple[bytes, int, int], bytes] = {}
        for entry in copies.entries:
            if entry[:3] == VERSION_ENTRY:
                pointer, version = entry[4:20], int.from_bytes(entry[20:24], "big")
                self.by_version[pointer, version, entry[3]] = entry[24:56]
        self._slots = {
            (body.pointer, body.version, body.group): body.slot
            for body in copies.bodies
            if body.kind == PAYLOAD
        }

    def own_keys(self, reached: Reached, name: tuple[bytes, int, int]) -> list[bytes]:
        """Return K_commit of a version, where it is reached."""
        slot = self._slots.get(name)
        if slot is None:
            return []
        return [record_keys(key)[1] for key in reached.slots.get(slot, ())]

    def confirms(self, name: tuple[bytes, int, int], key: bytes, payload: bytes) -> bool:
        """Tell whether a key confirms that a version had this payload."""
        pointer, version, group = name
        parts = (
            b"datakluis/commitment/1",
            b"\x01",
            self._origin,
            pointer,
            version.to_bytes(4, "big"),
            bytes([group]),
            hashlib.sha256(payload).digest(),
        )
        message = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return hmac.digest(key, message, "sha256") == self.by_version[name]


def pieces(paths: Iterable[Path]) -> set[bytes]:
    """Return the contents of files in pieces, each once: copies mostly hold the same pages."""
    found = set()
    for path in paths:
        data = path.read_bytes()
        found |= {data[at : at + PAGE + OVERLAP] for at in range(0, len(data), PAGE)}
    return found


def _open(aead: AESGCM | AESGCMSIV, sealed: bytes, bound: bytes) -> bytes | None:
    if len(sealed) < NONCE + TAG:
        return None
    try:
        return aead.decrypt(sealed[:NONCE], sealed[NONCE:], bound)
    except InvalidTag:
        return None
