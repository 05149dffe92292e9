"""How much room keys and backups take."""

from __future__ import annotations

from pathlib import Path

from bench.cases_erasing import erase
from bench.measure import Aim, Row
from bench.workshop import CATEGORY, PASSPHRASE, Workshop
from vault import Vault
from vault.keynode import KEY_BYTES, NODE_BYTES

_SEALED = NODE_BYTES + 28  # nonce and tag
_LEVELS = 4
_PROPORTIONAL = Aim(ratio_to=1.5)


def per_record(workshop: Workshop) -> list[Row]:
    """Bytes a record: of the key store, of a full key backup, of a data backup.

    In a vault of its own, from which nothing was erased.
    """
    count = workshop.sizes.large
    with Vault.open(workshop.new_folder(), PASSPHRASE) as vault:
        vault.put_many((one.for_vault() for one in workshop.records(0, count)), category=CATEGORY)
        return _per_record(workshop, vault)


def _per_record(workshop: Workshop, vault: Vault) -> list[Row]:
    with vault._core.database.read() as connection:
        sealed, payloads, versions = connection.exec_driver_sql(
            "SELECT (SELECT sum(length(sealed)) FROM vault_node),"
            " (SELECT sum(length(body)) FROM vault_version), (SELECT count(*) FROM vault_version)"
        ).one()
    keys, data = workshop.path("keys.kluis"), workshop.path("data.kluis")
    vault.backup_keys(keys)
    vault.backup_data(data)
    rows = [
        Row(
            "key-store",
            f"key store a record, {versions:,} records",
            "B",
            sealed / versions,
            KEY_BYTES + 1,
            None,
            "a key of 32 bytes and a byte of state",
        ),
        Row(
            "key-backup",
            "full key backup a record",
            "B",
            _size(keys) / versions,
            sealed / versions,
            None,
            "the sealed nodes",
        ),
        Row(
            "data-backup",
            "data backup a record",
            "B",
            _size(data) / versions,
            payloads / versions,
            None,
            "the sealed payloads",
        ),
    ]
    for path in (keys, data):
        path.unlink()
    return rows


def incremental(workshop: Workshop) -> list[Row]:
    """A key backup that continues another one, after 1, 10, 100 and more erasures."""
    count = workshop.sizes.large
    pair = workshop.pair(count)
    before = workshop.path("keys-full.kluis")
    pair.vault.backup_keys(before)
    nodes = _node_count(pair.vault)
    rows = []
    for erasures in workshop.sizes.backups:
        for number in pair.living(erasures):
            erase(pair, pair.pointers[number])
        after = workshop.path(f"keys-{erasures}.kluis")
        pair.vault.backup_keys(after, since=before)
        rows.append(
            Row(
                f"key-backup-{erasures}",
                f"key backup after {erasures:,} more erasures, of {count:,}",
                "KB",
                _size(after) / 1_000,
                min(erasures * _LEVELS, nodes) * _SEALED / 1_000,
                None if erasures == 1 else _PROPORTIONAL,
                "four sealed nodes an erasure, at most the whole tree",
            )
        )
        before.unlink()
        before = after
    return rows


def _node_count(vault: Vault) -> int:
    with vault._core.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM vault_node").scalar_one())


def _size(path: Path) -> int:
    return path.stat().st_size
