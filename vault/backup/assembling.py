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
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import Entry, EntryKind, parse_entry
from ledger.errors import LedgerError
from ledger.fault import Fault
from ledger.log import Log
from ledger.tiles import TILE_WIDTH
from vault.audit.columns import check_columns
from vault.backup.container import BackupKind, digest_of, open_backup, read_texts
from vault.backup.data import DATA, METADATA, TENANT
from vault.backup.errors import KeysDestroyed, KeysTooOld
from vault.backup.keys import KEYS_SLOTS_LEFT, merge_chain
from vault.errors import Damaged, InvalidInput
from vault.generations import GenerationState, load_generations, store_gone
from vault.keytree import first_slot
from vault.rootkeys.provider import KeyReport, Presence, TreeNumber
