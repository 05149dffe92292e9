"""The floor of closing an epoch: the same work written straight down, on a store of bench/floor.py.

    erase_subject   every record of one subject in one durable transaction: bodies gone, rows
                    reduced, slots zeroed, each node above them under one fresh key, sealed and
                    written once, one erasure entry a record
    close_epoch     the root node sealed under a fresh epoch key in one durable transaction, every
                    node opened from its stored bytes, all nodes copied to a file, every node opened
                    out of that file by a fresh process
    certify         for each erasure one ECDSA signature over a JSON text of the same shape as a
                    certificate, the file parsed again and compared, its SHA-256 as an entry; a
                    durable transaction for each thousand

What it leaves out, so that the product's ratio contains it: the provider and its root keys; leases;
the read-back of each erased slot; finding the ledger's entry of each erasure; the rules that a
certificate must keep and the strict reading of its types; turning entries into leaves. The fresh
process imports what it needs and no more.

    python -m bench.floor_shredding FILE    opens every node in FILE; keys in hex on standard input
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from bench import floor

_BATCH = 1_000
_ROOT = 3
_CERTIFICATES = (
    "CREATE TABLE IF NOT EXISTS certificate (id INTEGER PRIMARY KEY, record_id INTEGER NOT NULL,"
    " number INTEGER NOT NULL, status TEXT NOT NULL, document BLOB NOT NULL)"
)


def erase_subject(store: floor.Store, subject: bytes) -> list[tuple[int, bytes]]:
    """Erase every record of a subject and return their numbers and pointers."""
    connection = store.connection
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        floor.check_sequence(store)
        subject_id = floor.find_subject(store, subject)
        records = connection.execute(
            "SELECT id, pointer, current FROM record WHERE subject_id = ? ORDER BY id",
            (subject_id,),
        ).fetchall()
        act_id = floor.act(store, "erase")
        changed: set[tuple[int, int]] = set()
        slots = []
        for record_id, _, _ in records:
            versions = (record_id << 32, (record_id + 1) << 32)
            slots += connection.execute(
                "SELECT slot FROM version WHERE id > ? AND id < ?", versions
            ).fetchall()
            connection.execute("UPDATE version SET body = NULL WHERE id > ? AND id < ?", versions)
        connection.executemany(
            "UPDATE record SET record_date = NULL, subject_id = NULL,"
            " ground = 'consent-withdrawn', erased_act = ? WHERE id = ?",
            [(act_id, record_id) for record_id, _, _ in records],
        )
        floor.zero_all(store, [slot for (slot,) in slots], changed)
        floor.forget_subject(store, subject_id, changed)
        connection.executemany(
            "INSERT INTO pending (entry) VALUES (?)",
            [
                (b"\x01\x02\x00\x00" + pointer + current.to_bytes(4, "big"),)
                for _, pointer, current in records
            ],
        )
        floor.write_nodes(store, changed)
    return [(record_id, pointer) for record_id, pointer, _ in records]


def close_epoch(store: floor.Store, backup: Path) -> None:
    """Move the tree to a fresh epoch key, and open it from stored bytes and from a copy."""
    connection = store.connection
    store.epoch_key = os.urandom(32)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        floor.check_sequence(store)
        floor.write_nodes(store, {(_ROOT, 0)})
    _open_all(connection, store.epoch_key, store.tenant)
    connection.execute("ATTACH DATABASE ? AS backup", (str(backup),))
    connection.execute("CREATE TABLE backup.node AS SELECT * FROM main.node")
    connection.execute("DETACH DATABASE backup")
    subprocess.run(
        [sys.executable, "-m", "bench.floor_shredding", str(backup)],
        input=f"{store.epoch_key.hex()} {store.tenant.hex()}",
        cwd=Path(__file__).parents[1],
        text=True,
        check=True,
    )
    backup.unlink()


def certify(
    store: floor.Store,
    erased: list[tuple[int, bytes]],
    statement: dict[str, object],
    key: ec.EllipticCurvePrivateKey,
) -> None:
    """Store a signed statement about each erased record.

    Args:
        store: with those records.
        erased: their numbers and pointers.
        statement: of another erasure; serial and pointer are put in its place.
        key: on P-256.
    """
    connection = store.connection
    connection.execute(_CERTIFICATES)
    for start in range(0, len(erased), _BATCH):
        rows: list[tuple[object, ...]] = []
        entries = []
        for record_id, pointer in erased[start : start + _BATCH]:
            own = statement | {"serial": os.urandom(16).hex(), "pointer": pointer.hex()}
            text = json.dumps(own, ensure_ascii=False, indent=2)
            signature = key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
            document = f'{{"certificate":{text},"signature":"{signature.hex()}"}}\n'.encode()
            if json.loads(document)["certificate"] != own:
                raise RuntimeError("a certificate reads as another one")
            rows.append((record_id, 1, "irrecoverable", document))
            digest = sha256(document).digest()
            entries.append((b"\x01\x03\x00\x00" + pointer + b"\x00\x00\x00\x01" + digest,))
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO certificate (record_id, number, status, document) VALUES (?, ?, ?, ?)",
                rows,
            )
            connection.executemany("INSERT INTO pending (entry) VALUES (?)", entries)


def _open_all(connection: sqlite3.Connection, epoch_key: bytes, tenant: bytes) -> int:
    """Open every node from the root down and return how many keys are in use."""
    keys = {(_ROOT, 0): epoch_key}
    used = 0
    for level in range(_ROOT, -1, -1):
        below = {}
        for (_, number), key in keys.items():
            (sealed,) = connection.execute(
                "SELECT sealed FROM node WHERE id = ?", (level << 32 | number,)
            ).fetchone()
            associated = b"\x01" + tenant + bytes([level]) + number.to_bytes(4, "big")
            node = AESGCMSIV(key).decrypt(sealed[:12], sealed[12:], associated)
            if not level:
                used += node.count(1, 0, 256)
                continue
            for place in range(256):
                if node[place] == 1:
                    start = 256 + 32 * place
                    below[level - 1, number << 8 | place] = node[start : start + 32]
        keys = below
    return used


def _main(backup: str) -> None:
    epoch_key, tenant = (bytes.fromhex(word) for word in sys.stdin.read().split())
    with sqlite3.connect(backup) as connection:
        connection.execute("CREATE UNIQUE INDEX node_id ON node (id)")
        if not _open_all(connection, epoch_key, tenant):
            raise RuntimeError("the copy holds no key")


if __name__ == "__main__":
    _main(sys.argv[1])
