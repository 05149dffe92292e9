"""The floor of the record operations: the same work written straight down.

One module of plain functions over raw `sqlite3`, without classes that hide anything, and each
operation is one durable transaction (WAL, synchronous=FULL, page_size 16384, BEGIN IMMEDIATE). It
is what this machine could do if nothing stood between the caller and the work.

What it does, as the product does it:

    put     one read of randomness per batch; for each record a fresh slot key, HKDF to two keys,
            AES-256-GCM of the payload under 39 bytes of associated data, SHA-256 and HMAC
            commitment, the 56-byte entry; for each subject SHA-256 for its bucket, HMAC tag,
            look-up, and for a new one a row with the subject under AES-256-GCM; the slot keys into
            leaf nodes of 256, each changed node sealed as one AES-256-GCM-SIV blob of 8,448 bytes;
            rows of act, record, version, pending entry, nodes; the tree's sequence read under the
            lock and raised
    get     one SELECT by pointer that also reads the tree's sequence, the slot key from a leaf held
            in memory, HKDF, AES-256-GCM open
    erase   the slot zeroed, a fresh key for the leaf and both inner nodes above it, those three and
            the root sealed and written; body gone, record row reduced, act, erasure entry; when it
            was the subject's last record, the subject's row gone, its bucket under a new key in a
            new slot, the old slot zeroed, and each other subject of that bucket opened, tagged and
            sealed anew

What it leaves out, so that the product's ratio contains it: purposes, retention rules, decisions;
the row tag; reading back what an erasure destroyed; checks of arguments and states; text pointers;
the growth of the subject index (buckets are made once, for the expected number of subjects);
secure_delete and foreign keys; an index over slots, and one over versions (a version's row number
is the record's id shifted by 32 bits plus its number); key nodes that lie outside memory; errors
that tell people anything; any thread or process beside its own, though it would notice one by the
sequence.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SUBJECTS_PER_BUCKET = 96
SHA256 = hashes.SHA256()
ORIGIN = b"datakluis.example/floor"

_SCHEMA = """
CREATE TABLE tree (id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, next_slot INTEGER NOT NULL);
CREATE TABLE node (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
CREATE TABLE act (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL,
    purpose TEXT NOT NULL, action TEXT NOT NULL);
CREATE TABLE bucket (number INTEGER PRIMARY KEY, slot INTEGER NOT NULL);
CREATE TABLE subject (id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, tag BLOB NOT NULL UNIQUE,
    sealed BLOB NOT NULL);
CREATE INDEX subject_bucket ON subject (bucket);
CREATE TABLE record (id INTEGER PRIMARY KEY, pointer BLOB NOT NULL UNIQUE, category TEXT NOT NULL,
    current INTEGER NOT NULL, record_date TEXT, subject_id INTEGER, ground TEXT,
    erased_act INTEGER);
CREATE INDEX record_subject ON record (subject_id);
CREATE TABLE version (id INTEGER PRIMARY KEY, slot INTEGER NOT NULL, generation INTEGER NOT NULL,
    act_id INTEGER NOT NULL, body BLOB);
CREATE TABLE pending (id INTEGER PRIMARY KEY, entry BLOB NOT NULL);
"""
_ROOT_LEVEL = 3
_SELECT_FOR_GET = (
    "SELECT t.sequence, v.slot, v.body FROM tree t, record r"
    " JOIN version v ON v.id = (r.id << 32 | r.current) WHERE t.id = 1 AND r.pointer = ?"
)
_COMMITMENT_HEAD = b"\x00\x16datakluis/commitment/1\x00\x01\x01\x00\x17" + ORIGIN + b"\x00\x10"
_COMMITMENT_TAIL = b"\x00\x04\x00\x00\x00\x01\x00\x01\x00\x00\x20"
_FIRST_VERSION = b"\x00\x00\x00\x01\x00"
_DAY = "2025-06-02"

_Node = tuple[int, int]  # level, number
_Rows = list[tuple[object, ...]]


@dataclass(slots=True)
class Store:
    """What a floor keeps at hand: the connection, and the key tree's plaintext."""

    connection: sqlite3.Connection
    tenant: bytes
    epoch_key: bytes
    nodes: dict[_Node, bytearray]
    buckets: list[tuple[int, bytes, bytes]]  # slot, tag key, seal key
    sequence: int = 0
    next_slot: int = 0


def connect(path: Path) -> sqlite3.Connection:
    """Open a database as the product does, without secure_delete and foreign keys."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("page_size = 16384", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def create(path: Path, subjects: int) -> Store:
    """Make a store whose index is as large as `subjects` subjects need."""
    connection = connect(path)
    connection.executescript(_SCHEMA)
    nodes = {(_ROOT_LEVEL, 0): bytearray(8_448)}
    store = Store(connection, os.urandom(16), os.urandom(32), nodes, [])
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO tree (id, sequence, next_slot) VALUES (1, 0, 0)")
        keys = [os.urandom(32) for _ in range(-(-subjects // SUBJECTS_PER_BUCKET))]
        for slot, key in enumerate(keys):
            store.buckets.append((slot, *_bucket_keys(key)))
        connection.executemany(
            "INSERT INTO bucket (number, slot) VALUES (?, ?)",
            [(slot, slot) for slot in range(len(keys))],
        )
        changed = {(_ROOT_LEVEL, 0)}
        _add_keys(store, keys, changed)
        write_nodes(store, changed)
    return store


def put(store: Store, records: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Store (payload, subject) pairs in one durable transaction and return their pointers."""
    pointers, slot_keys, bodies, entries = _prepare(store, records)
    connection = store.connection
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        check_sequence(store)
        ids = _subject_ids(store, [subject for _, subject in records])
        changed: set[_Node] = set()
        slot = _add_keys(store, slot_keys, changed)
        first = (connection.execute("SELECT max(id) FROM record").fetchone()[0] or 0) + 1
        act_id = act(store, "put")
        connection.executemany(
            "INSERT INTO record (id, pointer, category, current, record_date, subject_id)"
            " VALUES (?, ?, 'nieuwsbrief', 1, ?, ?)",
            [
                (first + n, pointers[n], _DAY, ids[subject])
                for n, (_, subject) in enumerate(records)
            ],
        )
        connection.executemany(
            "INSERT INTO version (id, slot, generation, act_id, body) VALUES (?, ?, 1, ?, ?)",
            [((first + n) << 32 | 1, slot + n, act_id, body) for n, body in enumerate(bodies)],
        )
        connection.executemany("INSERT INTO pending (entry) VALUES (?)", entries)
        write_nodes(store, changed)
    return pointers


def get(store: Store, pointer: bytes) -> bytes:
    """Return a payload."""
    sequence, slot, body = store.connection.execute(_SELECT_FOR_GET, (pointer,)).fetchone()
    if sequence != store.sequence:
        raise RuntimeError("another writer changed the tree")
    start = 256 + 32 * (slot & 255)
    slot_key = bytes(store.nodes[0, slot >> 8][start : start + 32])
    okm = HKDFExpand(SHA256, 64, b"datakluis/record/1").derive(slot_key)
    associated = b"\x01\x01" + store.tenant + pointer + _FIRST_VERSION
    return AESGCM(okm[:32]).decrypt(body[1:13], body[13:], associated)


def erase(store: Store, pointer: bytes) -> None:
    """Erase a record in one durable transaction."""
    connection = store.connection
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        check_sequence(store)
        record_id, current, subject_id = connection.execute(
            "SELECT id, current, subject_id FROM record WHERE pointer = ? AND erased_act IS NULL",
            (pointer,),
        ).fetchone()
        versions = (record_id << 32, (record_id + 1) << 32)
        slots = connection.execute(
            "SELECT slot FROM version WHERE id > ? AND id < ?", versions
        ).fetchall()
        changed: set[_Node] = set()
        _zero_slots(store, [slot for (slot,) in slots], changed)
        act_id = act(store, "erase")
        connection.execute("UPDATE version SET body = NULL WHERE id > ? AND id < ?", versions)
        connection.execute(
            "UPDATE record SET record_date = NULL, subject_id = NULL,"
            " ground = 'consent-withdrawn', erased_act = ? WHERE id = ?",
            (act_id, record_id),
        )
        others = "SELECT 1 FROM record WHERE subject_id = ? LIMIT 1"
        if connection.execute(others, (subject_id,)).fetchone() is None:
            forget_subject(store, subject_id, changed)
        entry = b"\x01\x02\x00\x00" + pointer + current.to_bytes(4, "big")
        connection.execute("INSERT INTO pending (entry) VALUES (?)", (entry,))
        write_nodes(store, changed)


def _prepare(
    store: Store, records: Sequence[tuple[bytes, bytes]]
) -> tuple[list[bytes], list[bytes], list[bytes], list[tuple[bytes]]]:
    randomness = os.urandom(60 * len(records))
    prefix = b"\x01\x01" + store.tenant
    pointers, slot_keys, bodies, entries = [], [], [], []
    at = 0
    for payload, _ in records:
        pointer = randomness[at : at + 16]
        slot_key = randomness[at + 16 : at + 48]
        nonce = randomness[at + 48 : at + 60]
        at += 60
        okm = HKDFExpand(SHA256, 64, b"datakluis/record/1").derive(slot_key)
        associated = prefix + pointer + _FIRST_VERSION
        message = _COMMITMENT_HEAD + pointer + _COMMITMENT_TAIL + sha256(payload).digest()
        commitment = hmac.digest(okm[32:], message, "sha256")
        pointers.append(pointer)
        slot_keys.append(slot_key)
        bodies.append(b"\x01" + nonce + AESGCM(okm[:32]).encrypt(nonce, payload, associated))
        entries.append((b"\x01\x01\x01\x00" + pointer + b"\x00\x00\x00\x01" + commitment,))
    return pointers, slot_keys, bodies, entries


def check_sequence(store: Store) -> None:
    """Raise where another writer changed the tree; the caller holds the lock."""
    row = store.connection.execute("SELECT sequence, next_slot FROM tree WHERE id = 1").fetchone()
    if row != (store.sequence, store.next_slot):
        raise RuntimeError("another writer changed the tree")


def act(store: Store, action: str) -> int | None:
    """Record who does what, and return its number."""
    return store.connection.execute(
        "INSERT INTO act (at, actor, purpose, action) VALUES (?, 'beheer', 'inzage', ?)",
        (int(time.time()), action),
    ).lastrowid


def find_subject(store: Store, subject: bytes) -> int:
    """Return the number of a subject that has records."""
    number = int.from_bytes(sha256(subject).digest()[:8], "big") % len(store.buckets)
    tag = hmac.digest(store.buckets[number][1], subject, "sha256")[:16]
    row = store.connection.execute("SELECT id FROM subject WHERE tag = ?", (tag,)).fetchone()
    return int(row[0])


def _subject_ids(store: Store, subjects: Iterable[bytes]) -> dict[bytes, int]:
    tags: dict[bytes, tuple[bytes, int]] = {}
    for subject in dict.fromkeys(subjects):
        number = int.from_bytes(sha256(subject).digest()[:8], "big") % len(store.buckets)
        tags[subject] = (hmac.digest(store.buckets[number][1], subject, "sha256")[:16], number)
    marks = ",".join("?" * len(tags))
    known: dict[bytes, int] = dict(
        store.connection.execute(
            f"SELECT tag, id FROM subject WHERE tag IN ({marks})", [tag for tag, _ in tags.values()]
        )
    )
    last = store.connection.execute("SELECT max(id) FROM subject").fetchone()[0] or 0
    rows: _Rows = []
    ids = {}
    for subject, (tag, number) in tags.items():
        subject_id = known.get(tag)
        if subject_id is None:
            last += 1
            subject_id = last
            sealed = _seal_subject(store.buckets[number][2], number, subject)
            rows.append((subject_id, number, tag, sealed))
        ids[subject] = subject_id
    store.connection.executemany(
        "INSERT INTO subject (id, bucket, tag, sealed) VALUES (?, ?, ?, ?)", rows
    )
    return ids


def _add_keys(store: Store, keys: Sequence[bytes], changed: set[_Node]) -> int:
    first = slot = store.next_slot
    for key in keys:
        if slot % 256 == 0:
            # Each node begins with the first slot below it, and its parent holds its key.
            for level in (2, 1, 0):
                if slot % (256 << 8 * level) == 0:
                    store.nodes[level, slot >> 8 * (level + 1)] = bytearray(8_448)
                    _set_key(store, level + 1, slot >> 8 * (level + 1), os.urandom(32), changed)
        _set_key(store, 0, slot, key, changed)
        slot += 1
    store.next_slot = slot
    return first


def _set_key(store: Store, level: int, slot: int, key: bytes, changed: set[_Node]) -> None:
    node, position = (level, slot >> 8), slot & 255
    plaintext = store.nodes[node]
    plaintext[position] = 1
    plaintext[256 + 32 * position : 288 + 32 * position] = key
    changed.add(node)


def _zero_slots(store: Store, slots: Iterable[int], changed: set[_Node]) -> None:
    for slot in slots:
        _set_key(store, 0, slot, bytes(32), changed)
        store.nodes[0, slot >> 8][slot & 255] = 2
        for level in (1, 2, 3):
            _set_key(store, level, slot >> 8 * level, os.urandom(32), changed)


def zero_all(store: Store, slots: Iterable[int], changed: set[_Node]) -> None:
    """Zero many slots and give every node above them one fresh key."""
    above: set[_Node] = set()
    for slot in slots:
        _set_key(store, 0, slot, bytes(32), changed)
        store.nodes[0, slot >> 8][slot & 255] = 2
        above.update((level, slot >> 8 * level) for level in (1, 2, 3))
    for level, slot in above:
        _set_key(store, level, slot, os.urandom(32), changed)


def write_nodes(store: Store, changed: Iterable[_Node]) -> None:
    """Seal and write nodes, and raise the sequence."""
    rows = []
    for level, number in changed:
        key = store.epoch_key
        if level < _ROOT_LEVEL:
            start = 256 + 32 * (number & 255)
            key = bytes(store.nodes[level + 1, number >> 8][start : start + 32])
        nonce = os.urandom(12)
        associated = b"\x01" + store.tenant + bytes([level]) + number.to_bytes(4, "big")
        sealed = AESGCMSIV(key).encrypt(nonce, bytes(store.nodes[level, number]), associated)
        rows.append((level << 32 | number, nonce + sealed))
    store.connection.executemany(
        "INSERT INTO node (id, sealed) VALUES (?, ?)"
        " ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed",
        rows,
    )
    store.connection.execute(
        "UPDATE tree SET sequence = sequence + 1, next_slot = ? WHERE id = 1", (store.next_slot,)
    )
    store.sequence += 1


def _bucket_keys(key: bytes) -> tuple[bytes, bytes]:
    okm = HKDFExpand(SHA256, 64, b"datakluis/subject/1").derive(key)
    return okm[:32], okm[32:]


def _seal_subject(key: bytes, number: int, subject: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, subject, b"\x01" + number.to_bytes(8, "big"))


def forget_subject(store: Store, subject_id: int, changed: set[_Node]) -> None:
    """Drop a subject whose last record went, and re-key its bucket."""
    connection = store.connection
    number = connection.execute(
        "DELETE FROM subject WHERE id = ? RETURNING bucket", (subject_id,)
    ).fetchone()[0]
    old_slot, _, old_key = store.buckets[number]
    key = os.urandom(32)
    slot = _add_keys(store, [key], changed)
    tag_key, seal_key = _bucket_keys(key)
    store.buckets[number] = (slot, tag_key, seal_key)
    _zero_slots(store, [old_slot], changed)
    connection.execute("UPDATE bucket SET slot = ? WHERE number = ?", (slot, number))
    rows = []
    associated = b"\x01" + number.to_bytes(8, "big")
    for other_id, sealed in connection.execute(
        "SELECT id, sealed FROM subject WHERE bucket = ?", (number,)
    ).fetchall():
        subject = AESGCM(old_key).decrypt(sealed[:12], sealed[12:], associated)
        tag = hmac.digest(tag_key, subject, "sha256")[:16]
        rows.append((tag, _seal_subject(seal_key, number, subject), other_id))
    connection.executemany("UPDATE subject SET tag = ?, sealed = ? WHERE id = ?", rows)
