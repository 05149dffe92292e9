"""Data backups: everything but keys, and which table belongs in which backup.

A data backup is a logical export: rows of the tables under `DATA`, taken in one snapshot. It holds
no key of any kind, neither a sealed node nor a wrapped epoch key, so erasing a key in the vault
takes the content of every data backup with it. Every physical copy of the database, on the other
hand, counts as a key backup. Beside the tables it holds these texts (`kluis_config`):

    datakluis.toml      the configuration, as it stands in the vault's folder
    tenant              the name of the vault's key trees, 32 hex digits
    log-keys            the register of the ledger's keys (ledger/logkeys.py); in a backup of an
                        earlier version log-key, the verifier key (C2SP signed-note) of its one key
    anchor-key          that of the local anchor
    signed-checkpoint   the note that the signer had signed last before the snapshot
    local-anchor        the local anchor's file, where there is one (anchor/local.py)

The keys are public, and what vouches for a newer ledger that a restore is given: whoever trusts his
own data backup needs no other trust. `signer/` is in no backup. Tested in
tests/vault/test_backup.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import anchor.tables
import ledger.tables
import vault.tables
from anchor.receipt import key_name
from ledger.note import VerifierKey
from vault.backup.container import BackupKind, Copied, Header, open_backup, write_backup
from vault.backup.keys import TABLES
from vault.config import FILE_NAME
from vault.core import Core
from vault.errors import ConfigurationError

METADATA = (ledger.tables.metadata, vault.tables.metadata, anchor.tables.metadata)

# Every table of the database stands in exactly one of these three.
DATA: Final = (
    "vault_act",
    "vault_bucket",
    "vault_subject",
    "vault_import",
    "vault_record",
    "vault_version",
    "vault_part",
    "vault_hold",
    "vault_disclosure",
    "vault_erasure",
    "vault_certificate",
    "vault_declaration",
    "vault_shred",
    "vault_escrow",
    "vault_attestation",
    "vault_drill",
    "vault_lost",
    "ledger_head",
    "ledger_pending",
    "ledger_bundle",
    "ledger_tile",
    "ledger_position",
    "ledger_checkpoint",
    "ledger_governance",
    "ledger_proposal",
    "ledger_approval",
    "ledger_prune",
    "ledger_kept",
    "ledger_cosignature",
    "vault_proposed",
    "vault_list",
    "vault_listed",
    "vault_holder",
    "anchor_statement",
    "anchor_receipt",
)
KEYS: Final = TABLES
NEITHER: Final[tuple[str, ...]] = ()

CONFIGURATION = FILE_NAME
TENANT = "tenant"
LOG_KEYS = "log-keys"
LONE_LOG_KEY = "log-key"
ANCHOR_KEY = "anchor-key"
SIGNED = "signed-checkpoint"
LOCAL_ANCHOR = "local-anchor"


@dataclass(frozen=True, slots=True)
class DataBackupReport:
    """What a data backup holds.

    Attributes:
        records: living ones.
        erased: tombstones.
        versions: with their sealed content.
        leaves: of the ledger.
        size: of the file, bytes.
    """

    records: int
    erased: int
    versions: int
    leaves: int
    size: int


def backup_data(core: Core, out: Path) -> DataBackupReport:
    """Write a data backup.

    Args:
        core: of the open vault.
        out: the new file.

    Raises:
        ConfigurationError: `out` exists or cannot be written, or the signer's folder, which knows
            the ledger's key, is not there.
        SignerStateLost: that folder is damaged.
        Busy: the database or the disk is not to be had.
    """
    texts = _texts(core)
    local_anchor = core.folder / core.config.local_anchor

    def read_texts() -> Mapping[str, str]:
        # Last: a receipt is in the file before it is in the database.
        if not local_anchor.exists():
            return texts
        return {**texts, LOCAL_ANCHOR: local_anchor.read_text(encoding="utf-8", errors="replace")}

    header = Header(BackupKind.DATA, core.origin, core.clock.now(), None)
    write_backup(core.database.path, out, header, [Copied(table) for table in DATA], read_texts)
    return _report(out)


def _texts(core: Core) -> Mapping[str, str]:
    path = core.folder / FILE_NAME
    try:
        configuration = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    note, _ = core.signer.memory.last()
    anchor_key = VerifierKey(key_name(core.origin), bytes(core.keyring.anchor.verify_key))
    return MappingProxyType(
        {
            CONFIGURATION: configuration,
            TENANT: core.tenant.hex(),
            LOG_KEYS: core.signer.keys.format(),
            ANCHOR_KEY: str(anchor_key),
            SIGNED: note.format(),
        }
    )


def _report(out: Path) -> DataBackupReport:
    with open_backup(out, BackupKind.DATA) as (connection, _):
        records, erased, versions, leaves = connection.execute(
            "SELECT (SELECT count(*) FROM vault_record WHERE erased_act IS NULL),"
            " (SELECT count(*) FROM vault_record WHERE erased_act IS NOT NULL),"
            " (SELECT count(*) FROM vault_version WHERE body IS NOT NULL),"
            " (SELECT size FROM ledger_head)"
        ).fetchone()
    return DataBackupReport(records, erased, versions, leaves, out.stat().st_size)
