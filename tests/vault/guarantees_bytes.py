"""One vault with something in every table, and ways to change single bytes of it and put them back.

Values are read and written through a plain connection of their own, in the raw bytes that SQLite
holds, so that a text can get bytes that are no text.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from governed import enact_list, found
from guarantees_vault import CATEGORY, erase, new_vault, open_vault, put

from vault import Ground, ImportOrder, Vault

# Columns whose changes no check can see today, each because nothing else says the same.
UNBOUND = {
    "alembic_version": {"version_num"},  # Refused when the vault is opened, see the file flips.
    "anchor_receipt": {"id", "made_at"},
    "anchor_statement": {"made_at"},
    "ledger_checkpoint": {"signed_at"},
    "ledger_pending": {"id"},
    "ledger_proposal": {"proposed_at"},
    "vault_act": {"at", "actor", "purpose", "action"},
    "vault_disclosure": {"id", "record_id", "version", "field_group", "act_id"},
    "vault_bucket": {"birth"},
    "vault_certificate": {"id", "issued_at"},
    "vault_declaration": {"name", "at"},
    # Only what a certificate was issued of is bound, by that.
    "vault_erasure": {
        "id", "act_id", "ground", "code", "article", "rule_version", "category", "retention",
        "archiefactiedatum", "approvers", "index_born", "index_erased",
    },
    "vault_generation": {
        "reference", "response", "asked_at", "gone_at", "closed_at", "destroyed_at",
    },
    "vault_part": {"id", "name"},
    "vault_provider": {"id", "kind", "options"},
    "vault_shred": {"id", "step", "waits_for", "finished_at"},
    "vault_hold": {"id", "act_id"},
    "vault_holder": {"key"},
    "vault_list": {"approvers"},  # Only that it names some.
    "vault_import": {"tag", "lines_done"},
    "vault_node": {"id", "changed"},
    "vault_record": {"ground", "erased_act", "import_slot"},
    "vault_tree": {"id", "sequence"},
    "vault_subject": {"since"},
    "vault_version": {"id", "act_id"},
    # Nothing of these is in these vaults (tests/vault/test_ageing_out.py, test_witnessing.py,
    # test_escrowing.py and test_restore.py).
    "ledger_cosignature": {"size", "name", "key_id", "line", "received_at"},
    "ledger_kept": {"leaf", "entry", "size", "path"},
    "ledger_prune": {"minimum", "leaf", "state", "pruned_at"},
    "vault_attestation": {"escrow_id", "number", "document"},
    "vault_drill": {"id", "act_id", "data_digest", "keys_digest", "outcome"},
    "vault_escrow": {"id", "generation", "document", "act_id"},
    "vault_lost": {"pointer", "act_id"},
}  # fmt: skip

# Columns of a governed vault, and the parts that are named (tests/vault/test_tamper_governed.py).
GOVERNED = [
    ("ledger_governance", "id", r"(governance|proposal |list )"),
    ("ledger_governance", "state", r"governance"),
    ("ledger_governance", "stopped", r"governance"),
    ("ledger_proposal", "id", r"(proposal |database)"),
    ("ledger_proposal", "sequence", r"proposal "),
    ("ledger_proposal", "kind", r"(proposal |governance)"),
    ("ledger_proposal", "parameters", r"(proposal |governance)"),
    ("ledger_proposal", "outcome", r"(proposal |governance)"),
    ("ledger_approval", "proposal_id", r"(proposal |database)"),
    ("ledger_approval", "key", r"proposal "),
    ("ledger_approval", "approval", r"(proposal |governance)"),
    ("vault_proposed", "proposal_id", r"proposal "),
    ("vault_proposed", "place", r"proposal "),
    ("vault_proposed", "pointer", r"proposal "),
    ("vault_proposed", "field_group", r"(proposal |governance)"),
    ("vault_list", "sequence", r"list "),
    ("vault_listed", "sequence", r"list "),
    ("vault_listed", "place", r"list "),
    ("vault_listed", "pointer", r"list "),
    ("vault_listed", "field_group", r"(list |governance)"),
    ("vault_holder", "pointer", r"governance"),
]


def rich_vault(folder: Path) -> Path:
    """Make a small vault that has rows in every table: signed, anchored and pending."""
    new_vault(folder)
    lines = folder.parent / "lines.jsonl"
    lines.write_text("".join(json.dumps({"bsn": f"import {n}"}) + "\n" for n in range(2)))
    with open_vault(folder) as vault:
        pointers = [
            vault.put(
                b"payload of record %d" % number,
                category=CATEGORY,
                subject=f"subject {number % 4}",
                brondatum=dt.date(2024, 5, 1 + number),
                record_date=dt.date(2024, 4, 1 + number),
            )
            for number in range(6)
        ]
        vault.put(b"payload with a duty to keep", category="wmo", subject="subject 9")
        vault.import_jsonl(ImportOrder(lines, CATEGORY, "/bsn"))
        vault.anchor()
        vault.rectify(pointers[0], b"corrected payload")
        erase(vault, pointers[1])
        vault.shred()
        vault.declare_no_copies("J. de Vries")
        vault.place_hold(pointers[2], "appeal before the court")
        with_groups = _put_groups(vault)
        vault.anchor()
        vault.prove(pointers[3], disclose=True)
        vault.rectify(pointers[3], b"corrected, pending")
        erase(vault, pointers[4])
        put(vault, b"pending payload", "subject 9")
        vault.erase_group(with_groups[0], "contact", Ground.NOT_NEEDED)
    return folder


def _put_groups(vault: Vault) -> list[str]:
    """Store two records with a field group."""
    return [
        vault.put(
            b"payload with a group",
            category="kindpakket",
            subject="subject 8",
            groups={"contact": b"mail %d" % number},
        )
        for number in range(2)
    ]


def governed_vault(folder: Path) -> Path:
    """Make a small vault with members, a list that was enacted and one that waits."""
    new_vault(folder)
    config = folder / "datakluis.toml"
    config.write_text(config.read_text() + f'\n[governance]\nholders = "{CATEGORY}"\n')
    with open_vault(folder) as vault:
        keys = found(vault)
        pointers = [
            vault.put(
                b"payload of record %d" % number,
                category="kindpakket",
                subject=f"subject {number}",
                brondatum=dt.date(2015, 1, 1 + number),
            )
            for number in range(4)
        ]
        vault.set_holder(keys.officer.public, "J. de Vries")
        enact_list(vault, pointers[:2], keys)
        vault.anchor()
        assert vault.propose_list(pointers[2:], keys.officer).is_open
    return folder


class Bytes:
    """A vault's database, to be changed behind the vault's back.

    Args:
        vault: stays open meanwhile.
    """

    def __init__(self, vault: Vault, draws: random.Random) -> None:
        self.vault = vault
        self.draws = draws
        self.raw = sqlite3.connect(vault.folder / "vault.db", isolation_level=None)
        self.raw.execute("PRAGMA synchronous = OFF")

    def keys(self, table: str) -> list[str]:
        """Return the primary key's columns."""
        info = self.raw.execute(f"PRAGMA table_info({table})").fetchall()
        return [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]

    def cells(self, table: str, column: str) -> list[tuple[tuple[object, ...], object]]:
        """Return (primary key, value) of each row in which a column is not NULL; texts as bytes."""
        keys = self.keys(table)
        return [
            (tuple(row[:-2]), bytes(row[-2]) if row[-1] == "text" else row[-2])
            for row in self.raw.execute(
                f"SELECT {', '.join(keys)}, CASE typeof({column}) WHEN 'text'"
                f" THEN CAST({column} AS BLOB) ELSE {column} END, typeof({column})"
                f" FROM {table} WHERE {column} IS NOT NULL"
            )
        ]

    @contextmanager
    def changed(
        self, table: str, column: str, key: tuple[object, ...], value: object, kind: str = ""
    ) -> Iterator[None]:
        """Give one cell another value for a while.

        Args:
            table: its table.
            column: its column.
            key: its row's primary key.
            value: the new value.
            kind: "TEXT" writes bytes as a text.
        """
        where = " AND ".join(f"{name} = ?" for name in self.keys(table))
        [(kept, was)] = self.raw.execute(
            f"SELECT {column}, typeof({column}) FROM {table} WHERE {where}", key
        ).fetchall()
        kept_as = "CAST(? AS TEXT)" if was == "text" else "?"
        new_as = f"CAST(? AS {kind})" if kind else "?"
        # A key that is changed itself is found by its new value afterwards.
        names = self.keys(table)
        after = [value if name == column else part for name, part in zip(names, key, strict=True)]
        found = " AND ".join(f"{name} = {new_as if name == column else '?'}" for name in names)
        self.raw.execute(f"UPDATE {table} SET {column} = {new_as} WHERE {where}", (value, *key))
        try:
            yield
        finally:
            put_back = self.raw.execute(
                f"UPDATE {table} SET {column} = {kept_as} WHERE {found}", (kept, *after)
            )
            assert put_back.rowcount == 1

    @contextmanager
    def flipped(self, table: str, column: str) -> Iterator[str]:
        """Flip some bits of one byte in a text or blob of a random row for a while."""
        key, value = self.draws.choice(self.cells(table, column))
        is_text = self.raw.execute(
            f"SELECT typeof({column}) = 'text' FROM {table} WHERE {column} IS NOT NULL LIMIT 1"
        ).fetchone()[0]
        changed = flip(bytes(value), self.draws)
        with self.changed(table, column, key, changed, "TEXT" if is_text else ""):
            yield f"{table}.{column} of row {key}"

    def faults(self) -> list[str]:
        """Return what an audit finds."""
        return [str(fault) for fault in self.vault.audit().faults]


def flip(data: bytes, draws: random.Random) -> bytes:
    """Return bytes of which one is another."""
    place = draws.randrange(len(data))
    changed = data[place] ^ draws.randrange(1, 256)
    return data[:place] + bytes([changed]) + data[place + 1 :]


def other_values(value: object, draws: random.Random) -> list[tuple[object, str]]:
    """Return values that a cell could be changed to, and how they are written."""
    if isinstance(value, bytes):
        return [(flip(value, draws), "TEXT"), (value[:-1], "TEXT"), (value, ""), (7, "")]
    number = int(str(value))
    flips = [number ^ 1 << bit for bit in (0, 1, draws.randrange(2, 31), draws.randrange(31, 62))]
    return [(n, "") for n in [*flips, -number - 1]] + [(b"\xff\xfe", "TEXT"), (b"\x01", "")]


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables in a database file, without their order."""
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    connection.text_factory = bytes
    try:
        names = [
            row[0].decode()
            for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            name: [tuple(row) for row in connection.execute(f"SELECT * FROM {name} NOT INDEXED")]
            for name in names
        }
    finally:
        connection.close()


def columns(path: Path) -> dict[str, list[str]]:
    """Return the names of each table's columns."""
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for name in names
        }
    finally:
        connection.close()
