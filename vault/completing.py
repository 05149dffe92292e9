"""Completing a vault that an earlier version made.

The schema is brought up to date when the database is opened (vault/database.py); what needs the
passphrase is made here: the key tree for records that are kept for ever, and the organisation's
key. Each is looked for by itself, so an opening that was cut off is finished by the next one.
Tested in tests/vault/test_migration.py.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run
from ledger.log import Log
from vault import organisation
from vault.clock import Clock
from vault.database import Database
from vault.keyring import LOG_KEY, Keyring
from vault.keytree import KeyTree, plant_trees, root_of
from vault.rootkeys.provider import TreeNumber


def complete(folder: Path, database: Database, keyring: Keyring, clock: Clock) -> None:
    """Make what a vault lacks that was made by an earlier version.

    Args:
        folder: of the vault.
        database: opened, with today's schema.
        keyring: of the vault's key files.
        clock: tells from when the organisation's certificate holds.

    Raises:
        WrongPassphrase, Damaged: the vault cannot be opened; nothing was made.
    """
    with database.read() as connection:
        if not _lacks_tree(connection) and not _lacks_organisation(connection, folder):
            return
    # One process at a time; who comes second finds everything made.
    with database.write() as connection:
        # What is made must have the passphrase of what is there.
        tree = KeyTree(TreeNumber.ORDINARY, keyring.providers)
        state = tree.state(connection)
        tree.node(connection, state, root_of(TreeNumber.ORDINARY))
        if _lacks_tree(connection):
            plant_trees(connection, keyring.providers, state.tenant)
        if _lacks_organisation(connection, folder):
            # A key without a certificate is left of an opening that was cut off.
            (folder / organisation.KEY).unlink(missing_ok=True)
            now = dt.datetime.fromtimestamp(clock.now(), dt.UTC)
            name = Log(connection).head().origin[: organisation.MAX_NAME]
            keyring.make_organisation(name, now)


def _lacks_tree(connection: Connection) -> bool:
    (count,) = run(connection, "SELECT count(*) FROM vault_tree").fetchone()
    return int(count) < len(TreeNumber)


def _lacks_organisation(connection: Connection, folder: Path) -> bool:
    """Tell whether there never was an organisation's key; a lost one is not replaced in silence."""
    if (folder / organisation.CERTIFICATE).exists() or not (folder / LOG_KEY).exists():
        return False
    return run(connection, "SELECT 1 FROM vault_certificate LIMIT 1").fetchone() is None
