"""Key backups: sealed nodes, wrapped epoch keys and where the root keys are, never the root keys.

A full one holds every node. One that continues another (`base` in its header) holds the nodes that
changed since, by the tree's sequence: k erasures touch about 4 k nodes. A chain is restored in its
order, each link naming the SHA-256 of the one before. Tables, with the columns of vault.db:

    vault_tree, vault_provider, vault_generation (all rows), vault_node (all, or changed ones),
    and one text: the folder in which root key files lay, of which none is copied

Tested in tests/vault/test_backup.py.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run
from vault.backup.container import (
    TEXTS,
    UNREADABLE,
    BackupKind,
    Copied,
    Header,
    digest_of,
    one_line,
    open_backup,
    write_backup,
)
from vault.core import Core
from vault.errors import BadBackup, InvalidInput
from vault.records import Action
from vault.rootkeys.file import KEYS_FOLDER
from vault.rootkeys.provider import TreeNumber

TABLES = ("vault_tree", "vault_provider", "vault_generation", "vault_node")

# Where root keys in files lay; where others are, the provider's row says.
ROOT_KEY_FILES = "root key files"


@dataclass(frozen=True, slots=True)
class TreeMark:
    """How far a tree was when its keys were backed up."""

    generation: int
    sequence: int


def backup_keys(core: Core, out: Path, since: Path | None = None) -> None:
    """Write a key backup.

    Args:
        core: of the open vault.
        out: the new file.
        since: an earlier key backup that this one is to continue; None for a full one.

    Raises:
        InvalidInput: the earlier one is of another vault, or newer than this vault's keys, or the
            vault was restored since.
        ConfigurationError: `out` exists or cannot be written.
    """
    where, base = "", None
    if since is not None:
        base = digest_of(since)
        with open_backup(since, BackupKind.KEYS) as (connection, header):
            if header.origin != core.origin:
                raise InvalidInput(f"{since} is a key backup of another vault")
            marks = tree_marks(connection)
        with core.database.read() as reading:
            _require_not_restored(reading, since, header.made_at)
            for number, tree in core.trees.items():
                if marks[number].sequence > tree.state(reading).sequence:
                    raise InvalidInput(
                        f"{since} is newer than this vault: is this a restored copy?"
                    )
        where = " OR ".join(_changed_since(number, mark) for number, mark in marks.items())
    write_backup(
        core.database.path,
        out,
        Header(BackupKind.KEYS, core.origin, core.clock.now(), base),
        [
            *(Copied(table) for table in TABLES[:-1]),
            Copied("vault_node", ("level", "number", "sealed", "changed"), where),
        ],
        lambda: {ROOT_KEY_FILES: str((core.folder / KEYS_FOLDER).resolve())},
    )


def _require_not_restored(connection: Connection, since: Path, made_at: int) -> None:
    """Refuse to continue a key backup after a restore: its sequences are of another history."""
    (restored_at,) = run(
        connection, "SELECT max(at) FROM vault_act WHERE action = ?", (Action.RESTORE,)
    ).fetchone()
    if restored_at is not None and restored_at >= made_at:
        raise InvalidInput(f"the vault was restored after {since} was made: make a full key backup")


def tree_marks(connection: sqlite3.Connection) -> dict[TreeNumber, TreeMark]:
    """Return how far the trees in an opened backup or database are."""
    rows = connection.execute("SELECT id, generation, sequence FROM vault_tree").fetchall()
    try:
        # Numbers, whatever the file holds: they go into a statement.
        marks = {TreeNumber(row[0] - 1): TreeMark(int(row[1]), int(row[2])) for row in rows}
    except (TypeError, ValueError):
        marks = {}
    if set(marks) != set(TreeNumber):
        raise BadBackup("a key backup lacks a key tree")
    return marks


def merge_chain(chain: Sequence[Path], out: Path) -> None:
    """Write one full key backup out of a full one and those that continue it, in order.

    Args:
        chain: one or more.
        out: the new file.

    Raises:
        InvalidInput: a link is missing, or the order is another one.
        BadBackup: a link cannot be read.
    """
    first, *others = chain
    with open_backup(first, BackupKind.KEYS) as (_, header):
        if header.base is not None:
            raise InvalidInput(f"{first} continues another key backup: name that one before it")
    shutil.copyfile(first, out)
    out.chmod(0o600)
    before = first
    try:
        with closing(sqlite3.connect(out, isolation_level=None)) as merged:
            merged.execute("CREATE UNIQUE INDEX node_place ON vault_node (level, number)")
            for link in others:
                with open_backup(link, BackupKind.KEYS) as (_, header):
                    if header.base != digest_of(before):
                        raise InvalidInput(f"{link} does not continue {before}")
                _apply(merged, link)
                before = link
            merged.execute("DROP INDEX node_place")
    except UNREADABLE as error:
        raise BadBackup(
            f"{before} or what continues it is no readable backup: {one_line(error)}"
        ) from None


def _apply(merged: sqlite3.Connection, link: Path) -> None:
    merged.execute("ATTACH DATABASE ? AS link", (str(link),))
    merged.execute("BEGIN")
    for table in TABLES[:-1]:
        merged.execute(f"DELETE FROM {table}")  # noqa: S608
        merged.execute(f"INSERT INTO {table} SELECT * FROM link.{table}")  # noqa: S608
    merged.execute(f"DELETE FROM {TEXTS}")  # noqa: S608
    merged.execute(f"INSERT INTO {TEXTS} SELECT * FROM link.{TEXTS}")  # noqa: S608
    merged.execute("INSERT OR REPLACE INTO vault_node SELECT * FROM link.vault_node")
    merged.execute("COMMIT")
    merged.execute("DETACH DATABASE link")


def _changed_since(number: TreeNumber, mark: TreeMark) -> str:
    # A node's number says to which tree it belongs: its highest byte at its level.
    return f"(number >> (8 * (3 - level)) = {int(number)} AND changed > {mark.sequence})"
