"""Putting a data backup and a key backup together into one database, and judging whether they fit.

Rows go into a new database of today's schema. Then, before a key is opened:

    older keys       the data may name no slot that the keys have not handed out, and no generation
                     that their trees have not reached
    destroyed keys   the trees may not be in a generation that the ledger says was destroyed

A generation that the ledger says was destroyed, but that the key backup still holds as closed, is
noted as gone. One that was only prepared is forgotten: the next shred takes or makes its root key.
Tested in tests/vault/test_restore.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import Entry, EntryKind, parse_entry
from ledger.log import Log
from ledger.tiles import TILE_WIDTH
from policy.assurance import Presence
from vault.audit.columns import check_columns
from vault.backup.container import UNREADABLE, BackupKind, one_line, open_backup, read_texts
from vault.backup.data import DATA, KEYS, METADATA, TENANT
from vault.backup.errors import KeysDestroyed, KeysTooOld
from vault.backup.keys import ROOT_KEY_FILES, merge_chain
from vault.closing import ShredStep
from vault.errors import BadBackup, Busy, InvalidInput
from vault.generations import Generation, GenerationState, load_generations, store_gone
from vault.rootkeys.provider import KeyReport, TreeNumber

# Every slot that a row names, whether its key still lives or not.
_SLOTS = (
    "SELECT slot FROM vault_version UNION ALL SELECT slot FROM vault_part"
    " UNION ALL SELECT slot FROM vault_bucket UNION ALL SELECT slot FROM vault_import"
)
# Every generation that a row names, with its tree.
_GENERATIONS = (
    "SELECT slot >> 32 AS tree, max(birth_generation, coalesce(erased_generation, 0)) AS number"
    " FROM vault_version UNION ALL SELECT slot >> 32, max(birth_generation,"
    " coalesce(erased_generation, 0)) FROM vault_part UNION ALL"
    " SELECT tree, erased FROM vault_erasure UNION ALL SELECT tree, opened FROM vault_shred"
    " WHERE step <> ?"
)


@dataclass(frozen=True, slots=True)
class Backups:
    """A data backup and a key backup of the same vault.

    Attributes:
        data: file of the one.
        keys: file of the other, a full one.
        origin: of the ledger.
        texts: of the data backup, by name.
        key_files: the folder in which root key files lay when the keys were backed up, if any.
    """

    data: Path
    keys: Path
    origin: str
    texts: Mapping[str, str]
    key_files: Path | None


def open_backups(data: Path, chain: Sequence[Path], merged: Path) -> Backups:
    """Check that backups belong together, and merge the key backups into one file.

    Args:
        data: a data backup.
        chain: a full key backup and those that continue it.
        merged: the file to be written.

    Raises:
        InvalidInput: one is no such backup, or they are of different vaults.
        BadBackup: one cannot be read.
    """
    with open_backup(data, BackupKind.DATA) as (connection, header):
        texts = read_texts(connection)
    merge_chain(chain, merged)
    with open_backup(merged, BackupKind.KEYS) as (connection, keys_header):
        tenants = connection.execute("SELECT DISTINCT tenant FROM vault_tree").fetchall()
        key_files = read_texts(connection).get(ROOT_KEY_FILES)
    expected = texts.get(TENANT)
    found = [bytes(row[0]).hex() for row in tenants if isinstance(row[0], bytes)]
    if keys_header.origin != header.origin or found != [expected]:
        raise InvalidInput(f"{data} and {chain[0]} are backups of different vaults")
    return Backups(data, merged, header.origin, texts, None if not key_files else Path(key_files))


def assemble(database: Path, backups: Backups) -> None:
    """Copy the rows of both backups into a new database.

    Raises:
        BadBackup: a backup lacks a table, or holds rows that the schema does not take.
    """
    uri = f"{database.resolve().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            for name, path in (("data", backups.data), ("keys", backups.keys)):
                source = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
                connection.execute(f"ATTACH DATABASE ? AS {name}", (source,))
            connection.execute("BEGIN IMMEDIATE")
            for name, tables in (("data", DATA), ("keys", KEYS)):
                for table in tables:
                    _copy(connection, name, table)
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "full" in str(error) or "disk I/O" in str(error):
            raise Busy(f"{database} cannot be written: {error}; free the disk") from None
        raise BadBackup(f"a backup lacks something: {one_line(error)}") from None
    except UNREADABLE as error:
        raise BadBackup(f"a backup holds what no vault holds: {one_line(error)}") from None


def _copy(connection: sqlite3.Connection, source: str, table: str) -> None:
    known = {
        column.name for one in METADATA if table in one.tables for column in one.tables[table].c
    }
    found = [row[1] for row in connection.execute(f"PRAGMA {source}.table_info({table})")]
    # The names come from the file, and go into a statement.
    columns = ", ".join(name for name in found if name in known)
    if not columns or len(found) > len(known):
        raise BadBackup(f"a backup has no table {table} as this version writes it")
    # A new database is not empty everywhere.
    connection.execute(f"DELETE FROM main.{table}")  # noqa: S608
    connection.execute(
        f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM {source}.{table}"  # noqa: S608
    )


def entries_of(connection: Connection) -> Iterator[tuple[int | None, Entry]]:
    """Yield every entry with its leaf, and then those that wait, with None.

    Of a ledger that was pruned, those that were kept come first.
    """
    log = Log(connection)
    size, first = log.head().size, log.first_leaf()
    for leaf, data in connection.exec_driver_sql(
        "SELECT leaf, entry FROM ledger_kept WHERE leaf < ? ORDER BY leaf", (first,)
    ):
        yield leaf, parse_entry(bytes(data))
    for number in range(first // TILE_WIDTH, -(-size // TILE_WIDTH)):
        for place, data in enumerate(log.bundle(number)):
            yield number * TILE_WIDTH + place, parse_entry(data)
    for (data,) in connection.exec_driver_sql("SELECT entry FROM ledger_pending ORDER BY id"):
        yield None, parse_entry(bytes(data))


def require_types(connection: Connection) -> None:
    """Raise Damaged where a column holds what it was not made for: nothing could be compared."""
    fault = next(check_columns(connection, []), None)
    if fault is not None:
        raise BadBackup(f"a backup was changed: {fault}")


def require_newer_keys(connection: Connection) -> None:
    """Raise KeysTooOld where the data names what the keys do not have yet."""
    lacking = run(
        connection,
        f"SELECT count(*) FROM ({_SLOTS}) LEFT JOIN vault_tree t ON t.id = 1 + (slot >> 32)"  # noqa: S608
        " WHERE t.id IS NULL OR slot >= t.next_slot",
    ).fetchone()[0]
    if lacking:
        raise KeysTooOld(lacking, f"{lacking} keys of the data are not in it")
    later = run(
        connection,
        f"SELECT g.tree, max(g.number) FROM ({_GENERATIONS}) g JOIN vault_tree t"  # noqa: S608
        " ON t.id = 1 + g.tree WHERE g.number > t.generation GROUP BY g.tree LIMIT 1",
        (ShredStep.PREPARED,),
    ).fetchone()
    if later is not None:
        raise KeysTooOld(0, f"the data knows generation {later[1]} of a key tree, which it lacks")


def require_living_generations(connection: Connection, at: int) -> None:
    """Hold the trees against the shreds in the ledger, and note which generations are gone.

    Args:
        connection: with the writer lock held.
        at: Unix seconds.

    Raises:
        KeysDestroyed: a tree is in a generation that was destroyed.
    """
    shreds = [
        (leaf, TreeNumber(entry.group), entry.version)
        for leaf, entry in entries_of(connection)
        if entry.kind is EntryKind.SHRED
    ]
    for tree in TreeNumber:
        (current,) = run(
            connection, "SELECT generation FROM vault_tree WHERE id = ?", (tree + 1,)
        ).fetchone()
        generations = {one.number: one for one in load_generations(connection, tree)}
        for leaf, _, number in (one for one in shreds if one[1] is tree):
            where = "an entry that waits" if leaf is None else f"entry {leaf} of the ledger"
            if current <= number:
                raise KeysDestroyed(tree, current, where)
            _note_gone(connection, generations.get(number), where, at)


def _note_gone(connection: Connection, generation: Generation | None, where: str, at: int) -> None:
    if generation is not None and generation.state is not GenerationState.GONE:
        words = f"not asked again: {where} says that it was destroyed"
        store_gone(connection, generation, KeyReport(Presence.GONE, words), at)


def forget_prepared(connection: Connection) -> None:
    """Forget generations that were only prepared, once nothing speaks against the keys."""
    run(
        connection,
        "DELETE FROM vault_generation WHERE state = ?",
        (GenerationState.PREPARED,),
    )
    run(
        connection,
        "DELETE FROM vault_shred WHERE opened >"
        " (SELECT generation FROM vault_tree t WHERE t.id = vault_shred.tree + 1)",
    )
