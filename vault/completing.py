"""Completing a vault that an earlier version made.

The schema is brought up to date when the database is opened (vault/database.py); what needs the
passphrase is made here: the key tree for records that are kept for ever, the organisation's key,
and the ledger's ML-DSA-44 key, which signs from the next checkpoint on. Each is looked for by
itself, so an opening that was cut off is finished by the next one, and so is a rotation of the
ledger's keys. Tested in tests/vault/test_migration.py and tests/vault/test_log_keys.py.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run
from ledger.errors import SignerStateLost
from ledger.log import Log
from vault import organisation
from vault.clock import Clock
from vault.database import Database
from vault.keyring import Keyring
from vault.keytree import KeyTree, plant_trees, root_of
from vault.logkeys import LOG_KEY, LOG_ML_DSA_KEY, LogKeyFiles
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
        log_keys = keyring.log(Log(connection).head().origin)
        if not (
            _lacks_tree(connection)
            or _lacks_organisation(connection, folder)
            or _lacks_log_keys(log_keys, folder)
        ):
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
        if _lacks_log_keys(log_keys, folder):
            _complete_log_keys(log_keys)


def _complete_log_keys(files: LogKeyFiles) -> None:
    memory = files.signer().memory
    with memory.locked():
        files.settle(memory)
        if not files.has_register():
            # A signer that does not know what it signed last signs nothing with any key.
            with suppress(SignerStateLost):
                files.add_ml_dsa(memory)


def _lacks_tree(connection: Connection) -> bool:
    (count,) = run(connection, "SELECT count(*) FROM vault_tree").fetchone()
    return int(count) < len(TreeNumber)


def _lacks_log_keys(files: LogKeyFiles, folder: Path) -> bool:
    """Tell whether there is an Ed25519 key alone, or what a rotation has left that was cut off."""
    if not (folder / LOG_KEY).exists():
        return False
    is_old = not files.has_register() and not (folder / LOG_ML_DSA_KEY).exists()
    return is_old or files.is_unsettled()


def _lacks_organisation(connection: Connection, folder: Path) -> bool:
    """Tell whether there never was an organisation's key; a lost one is not replaced in silence."""
    if (folder / organisation.CERTIFICATE).exists() or not (folder / LOG_KEY).exists():
        return False
    return run(connection, "SELECT 1 FROM vault_certificate LIMIT 1").fetchone() is None
