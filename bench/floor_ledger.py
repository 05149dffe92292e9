"""The floor of the ledger, of proofs, and of opening a vault: the same work written straight down.

What it does, as the product does it:

    integrate   every pending entry in one durable transaction: permuted by random keys, leaf and
                node hashes (RFC 6962), changed tiles and bundles (C2SP tlog-tiles), a position per
                entry in the order of pointers, the head, the pending rows gone
    checkpoint  that transaction, an Ed25519 signature over the three lines, the note replaced in a
                file with both fsyncs, the note stored in a second durable transaction
    paths       RFC 6962 audit path and consistency proof out of a list of every complete node
    prove       one SELECT each for record, position, bundle and checkpoint, the path from the list,
                the evidence file's JSON
    verify      the JSON parsed, one Ed25519 verification, the path hashed up to the signed root,
                the statement compared with the note
    open        Argon2id at the key file's cost, the root key opened, one SQLite connection, the
                epoch key unwrapped, the root node opened

What it leaves out, so that the product's ratio contains it: all nodes of the tree lie in memory,
where the product reads tiles; entries of one pointer are not kept in order, since in the
benchmarks each pointer has one; the signer's memory is not compared with the tree, nor locked
against another process; nothing is parsed twice or compared with how it would be written, and no
trust file is read; the schema and the configuration are not checked. Signing and verifying are
PyNaCl's, as in the product.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from nacl.signing import SigningKey, VerifyKey

from bench.floor import connect

ORIGIN = "datakluis.example/floor"
Levels = list[list[bytes]]  # level, index -> hash of each complete subtree

_SCHEMA = """
CREATE TABLE pending (id INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE bundle (number INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE tile (id INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE position (pointer BLOB NOT NULL, leaf INTEGER NOT NULL, PRIMARY KEY (pointer, leaf))
    WITHOUT ROWID;
CREATE TABLE head (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL);
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL, signed_at INTEGER NOT NULL);
CREATE TABLE record (id INTEGER PRIMARY KEY, pointer BLOB NOT NULL UNIQUE,
    current INTEGER NOT NULL);
INSERT INTO head VALUES (1, 0, x'');
"""


def create(path: Path, entries: Sequence[bytes]) -> sqlite3.Connection:
    """Make a ledger in which entries wait, each of a record of its own."""
    connection = connect(path)
    connection.executescript(_SCHEMA)
    add_pending(connection, entries)
    return connection


def add_pending(connection: sqlite3.Connection, entries: Sequence[bytes]) -> None:
    """Let entries wait, each of a record of its own."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO pending (entry) VALUES (?)", [(e,) for e in entries])
        connection.executemany(
            "INSERT INTO record (pointer, current) VALUES (?, 1)", [(e[4:20],) for e in entries]
        )


def integrate(connection: sqlite3.Connection, levels: Levels) -> tuple[int, bytes]:
    """Turn pending entries into leaves and return size and root."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute("SELECT id, entry FROM pending ORDER BY id").fetchall()
        keys = memoryview(os.urandom(8 * len(rows))).cast("Q")
        order = sorted(range(len(rows)), key=keys.__getitem__)
        entries = [rows[n][1] for n in order]
        old = len(levels[0]) if levels else 0
        size = old + len(entries)
        extend(levels, [sha256(b"\x00" + entry).digest() for entry in entries])
        root = range_root(levels, 0, size)
        _write_tiles(connection, levels, old)
        _write_bundles(connection, old, entries)
        connection.executemany(
            "INSERT INTO position (pointer, leaf) VALUES (?, ?)",
            sorted((entry[4:20], old + n) for n, entry in enumerate(entries)),
        )
        connection.execute("DELETE FROM pending WHERE id <= ?", (rows[-1][0],))
        connection.execute("UPDATE head SET size = ?, root = ? WHERE id = 1", (size, root))
    return size, root


def checkpoint(
    connection: sqlite3.Connection, levels: Levels, key: SigningKey, folder: Path
) -> str:
    """Integrate, sign, remember and store; return the note."""
    size, root = integrate(connection, levels)
    text = f"{ORIGIN}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = key.sign(text.encode()).signature
    line = base64.b64encode(key_id(bytes(key.verify_key)) + signature).decode()
    note = f"{text}\n— {ORIGIN} {line}\n"
    with (folder / "floor-checkpoint.new").open("wb") as file:
        file.write(note.encode())
        file.flush()
        os.fsync(file.fileno())
    (folder / "floor-checkpoint.new").replace(folder / "floor-checkpoint")
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO checkpoint (size, note, signed_at) VALUES (?, ?, ?)",
            (size, note, int(time.time())),
        )
    return note


def key_id(public_key: bytes) -> bytes:
    """Return the four bytes that stand before a signature (C2SP signed-note)."""
    return sha256(ORIGIN.encode() + b"\n\x01" + public_key).digest()[:4]


def extend(levels: Levels, leaf_hashes: list[bytes]) -> None:
    """Append leaves to the list of complete nodes."""
    level = 0
    added = leaf_hashes
    while added:
        if level == len(levels):
            levels.append([])
        row = levels[level]
        row += added
        level += 1
        done = 2 * len(levels[level]) if level < len(levels) else 0
        added = [
            sha256(b"\x01" + row[n] + row[n + 1]).digest() for n in range(done, len(row) - 1, 2)
        ]


def range_root(levels: Levels, start: int, end: int) -> bytes:
    """Return the root over leaves [start, end), where start fits the range's largest subtree."""
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(levels[level][start >> level])
        start += 1 << level
    root = parts.pop()
    while parts:
        root = sha256(b"\x01" + parts.pop() + root).digest()
    return root


def audit_path(levels: Levels, index: int, size: int) -> list[bytes]:
    """Return the RFC 6962 audit path of a leaf, from its sibling upwards."""
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if index < split:
            path.append(range_root(levels, split, end))
            end = split
        else:
            path.append(range_root(levels, start, split))
            start = split
    path.reverse()
    return path


def consistency_path(levels: Levels, old: int, new: int) -> list[bytes]:
    """Return the RFC 6962 consistency proof of two sizes, 0 < old <= new."""
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if old <= split:
            path.append(range_root(levels, split, end))
            end = split
        else:
            path.append(range_root(levels, start, split))
            start = split
    if start > 0:
        path.append(range_root(levels, start, end))
    path.reverse()
    return path


def prove(connection: sqlite3.Connection, levels: Levels, pointer: bytes) -> bytes:
    """Return an evidence file for the newest version of a record."""
    connection.execute("SELECT id, current FROM record WHERE pointer = ?", (pointer,)).fetchone()
    leaf = connection.execute("SELECT leaf FROM position WHERE pointer = ?", (pointer,)).fetchone()[
        0
    ]
    bundle = connection.execute(
        "SELECT entries FROM bundle WHERE number = ?", (leaf >> 8,)
    ).fetchone()[0]
    at = 0
    for _ in range(leaf & 255):
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
    entry = bundle[at + 2 : at + 2 + int.from_bytes(bundle[at : at + 2], "big")]
    size, note = connection.execute(
        "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
    ).fetchone()
    path = [base64.b64encode(node).decode() for node in audit_path(levels, leaf, size)]
    lines = ["c2sp.org/tlog-proof@v1", f"index {leaf}", *path, "", note]
    statement = "datakluis/anchor-statement/1\n" + note
    group = {"proof": "\n".join(lines), "statement": statement, "anchors": []}
    document = {"format": "datakluis-evidence/1", "entry": entry.hex(), "groups": [group]}
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def verify(evidence: bytes, public_key: bytes) -> bool:
    """Tell whether an evidence file holds under a log's key."""
    document = json.loads(evidence)
    group = document["groups"][0]
    head, _, note = group["proof"].partition("\n\n")
    text, _, signature_lines = note.rpartition("\n\n")
    # The Ed25519 line alone: what the ML-DSA-44 line beside it costs is the difference.
    signature = base64.b64decode(signature_lines.split("\n")[0].split(" ")[2])[4:]
    VerifyKey(public_key).verify((text + "\n").encode(), signature)
    _, size_line, root = text.split("\n")
    _, index_line, *path = head.split("\n")
    index, last = int(index_line.removeprefix("index ")), int(size_line) - 1
    node = sha256(b"\x00" + bytes.fromhex(document["entry"])).digest()
    for encoded in path:
        sibling = base64.b64decode(encoded)
        if index & 1 or index == last:
            node = sha256(b"\x01" + sibling + node).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + sibling).digest()
        index, last = index >> 1, last >> 1
    complete = last == 0
    states_it = group["statement"] == "datakluis/anchor-statement/1\n" + note
    return complete and node == base64.b64decode(root) and states_it


def open_vault(folder: Path, passphrase: str) -> bytes:
    """Open a vault's root key and database and return its root node's plaintext."""
    document = json.loads((folder / "keys" / "root-1.key").read_bytes())
    kdf = document["kdf"]
    key = Argon2id(
        salt=bytes.fromhex(kdf["salt"]),
        length=32,
        iterations=kdf["iterations"],
        lanes=kdf["lanes"],
        memory_cost=kdf["memory_kib"],
    ).derive(passphrase.encode())
    root_key = AESGCM(key).decrypt(
        bytes.fromhex(document["nonce"]),
        bytes.fromhex(document["sealed"]),
        b"datakluis-keyfile/1\0root key",
    )
    connection = connect(folder / "vault.db")
    tenant, number, wrapped, sealed = connection.execute(
        "SELECT t.tenant, g.number, g.wrapped, n.sealed FROM vault_tree t"
        " JOIN vault_generation g ON g.tree = 0 AND g.number = t.generation"
        " JOIN vault_node n ON n.level = 3 AND n.number = 0 WHERE t.id = 1"
    ).fetchone()
    connection.close()
    domain = b"datakluis/epoch/1" + tenant + number.to_bytes(8, "big")
    epoch_key = AESGCMSIV(root_key).decrypt(wrapped[:12], wrapped[12:], domain)
    associated = b"\x01" + tenant + b"\x03\x00\x00\x00\x00"
    return AESGCMSIV(epoch_key).decrypt(sealed[:12], sealed[12:], associated)


def _write_tiles(connection: sqlite3.Connection, levels: Levels, old: int) -> None:
    rows = []
    for tile_level, row in enumerate(levels[::8]):
        for number in range(old >> 8 * (tile_level + 1), -(-len(row) // 256)):
            hashes = b"".join(row[number << 8 : (number + 1) << 8])
            rows.append((tile_level << 32 | number, hashes))
    connection.executemany(
        "INSERT INTO tile (id, hashes) VALUES (?, ?)"
        " ON CONFLICT (id) DO UPDATE SET hashes = excluded.hashes",
        rows,
    )


def _write_bundles(connection: sqlite3.Connection, old: int, entries: list[bytes]) -> None:
    row = connection.execute("SELECT entries FROM bundle WHERE number = ?", (old >> 8,)).fetchone()
    rows = []
    at, number = -(old % 256), old >> 8
    while at < len(entries):
        own = entries[max(at, 0) : at + 256]
        data = b"".join([len(entry).to_bytes(2, "big") + entry for entry in own])
        rows.append((number, row[0] + data if at < 0 else data))
        at, number = at + 256, number + 1
    connection.executemany(
        "INSERT INTO bundle (number, entries) VALUES (?, ?)"
        " ON CONFLICT (number) DO UPDATE SET entries = excluded.entries",
        rows,
    )
