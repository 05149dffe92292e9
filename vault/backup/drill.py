"""A drill: a restore that is rehearsed beside the living vault and thrown away (OP5, ER6).

The backups are built into a vault in a temporary folder, with the root keys where the living vault
has them: no root key is copied, and of the living vault nothing is changed but what the drill adds
to its history. Where no ledger is named, it is the living vault's own, which signs a checkpoint.
Then every record of the restored vault is looked up in the living one:

    resurrected   readable there, and erased here: must never be
    unreadable    living here, in the backup, and not readable there
    newer         living here, but not in the backup: what a restore today would lose

The outcome goes into `vault_drill` as a JSON object of these counts, or with the reason for which
the restore was refused, beside the SHA-256 of the data backup and of the last key backup. A process
that is killed leaves its temporary folder; like every physical copy of a database, that one counts
as a key backup. Tested in tests/vault/test_rehearsal.py.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from sqlalchemy import Connection

from anchor.errors import AnchorError
from ledger.destination import FolderDestination
from ledger.driver import run
from ledger.errors import LedgerError, SourceUnreachable
from ledger.log import Log
from ledger.publish import export
from ledger.source import FolderSource, Source
from vault import checkpointing
from vault.backup.building import Building, Materials
from vault.backup.container import digest_of
from vault.cipher import derive_record_keys
from vault.core import Caller, Core
from vault.errors import Busy, Damaged, VaultError
from vault.records import COLUMNS, Action, RecordRow


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found.

    Attributes:
        records: in the restored vault, tombstones included.
        readable: of those, all of whose versions were opened.
        unreadable: living here and in the backup, and not readable there.
        resurrected: readable there and erased here.
        newer: living here and not in the backup.
        replayed: erasures that the restore repeated.
        refusal: why nothing was restored; None when something was.
    """

    records: int = 0
    readable: int = 0
    unreadable: int = 0
    resurrected: int = 0
    newer: int = 0
    replayed: int = 0
    refusal: str | None = None

    @property
    def passed(self) -> bool:
        """Whether these backups would bring the vault back, and nothing that was erased."""
        return self.refusal is None and not self.unreadable and not self.resurrected


class _Here(Enum):
    """What the living vault says of a record."""

    LIVING = 1
    GONE = 2
    JUST_ERASED = 3


def drill(core: Core, materials: Materials, caller: Caller) -> DrillReport:
    """Rehearse a restore, record what it found and return that.

    Args:
        core: of the living vault.
        materials: what would be restored.
        caller: who rehearses and why.

    Raises:
        Busy, SourceUnreachable: a provider, the disk or the ledger is out of reach: nothing was
            found out, and nothing recorded.
        InvalidInput: a file that was named is missing.
    """
    digests = digest_of(materials.data), digest_of(materials.keys[-1])
    with core.database.read() as connection:
        (last_act,) = run(connection, "SELECT max(id) FROM vault_act").fetchone()
    try:
        report = _rehearse(core, materials, last_act or 0)
    except (Busy, SourceUnreachable):
        raise
    except (VaultError, LedgerError, AnchorError) as error:
        report = DrillReport(refusal=str(error))
    outcome = {"passed": report.passed, **asdict(report)}
    with core.change() as change:
        act_id = change.act(caller, Action.DRILL, core.clock.now())
        run(
            change.connection,
            "INSERT INTO vault_drill (act_id, data_digest, keys_digest, outcome)"
            " VALUES (?, ?, ?, ?)",
            (act_id, *digests, json.dumps(outcome)),
        )
    return report


def _rehearse(core: Core, materials: Materials, last_act: int) -> DrillReport:
    with tempfile.TemporaryDirectory(prefix="datakluis-drill-") as name:
        if materials.ledger is None:
            materials = replace(materials, ledger=_own_ledger(core, Path(name)))
        folder = Path(name) / "vault"
        folder.mkdir(mode=0o700)
        # A ledger that is newer than the backup can be signed by keys that the backup knows not.
        register = core.signer.keys if core.log_keys.has_register() else None
        building = Building(
            folder, materials, core.keyring, core.clock, lambda step: None, register
        )
        restored = building.open(building.assemble(), None)
        try:
            report = building.finish(restored, signs=False)
            with core.database.read() as here, restored.database.read() as there:
                comparison = _Comparison(restored, here, there, last_act)
                return comparison.run(report.replayed.erasures + report.replayed.erased_in_keys)
        finally:
            restored.close()


def _own_ledger(core: Core, folder: Path) -> Source:
    """Return the living vault's ledger as it would have been published: the newest there is."""
    published = folder / "ledger"
    checkpointing.checkpoint(core)
    with core.database.read() as connection:
        log = Log(connection)
        export(log, FolderDestination(published), log.minimum())
    return FolderSource(published)


class _Comparison:
    """A restored vault held against the living one, record by record.

    Args:
        restored: the one.
        here: a snapshot of the living one.
        there: a snapshot of the restored one.
        last_act: in the living one, before the drill began: what was erased since is no finding.
    """

    def __init__(self, restored: Core, here: Connection, there: Connection, last_act: int) -> None:
        self._restored = restored
        self._here = here
        self._there = there
        self._last_act = last_act
        self._read_key = restored.read_key(there)

    def run(self, replayed: int) -> DrillReport:
        records = readable = unreadable = resurrected = 0
        for row in self._there.exec_driver_sql(
            f"SELECT {COLUMNS} FROM vault_record r ORDER BY r.id"  # noqa: S608
        ):
            record = RecordRow(*row)
            records += 1
            is_readable = record.erased_act is None and self._opens(record)
            readable += is_readable
            state = self._state_here(bytes(record.pointer))
            unreadable += state is _Here.LIVING and not is_readable
            resurrected += state is _Here.GONE and is_readable
        return DrillReport(records, readable, unreadable, resurrected, self._newer(), replayed)

    def _state_here(self, pointer: bytes) -> _Here:
        row = run(
            self._here, "SELECT erased_act FROM vault_record WHERE pointer = ?", (pointer,)
        ).fetchone()
        if row is None or (row[0] is not None and row[0] <= self._last_act):
            return _Here.GONE
        return _Here.LIVING if row[0] is None else _Here.JUST_ERASED

    def _opens(self, record: RecordRow) -> bool:
        """Tell whether every version that has content opens, and there is one."""
        opened = 0
        for number, slot, body in run(
            self._there,
            "SELECT number, slot, body FROM vault_version WHERE record_id = ? AND body IS NOT NULL",
            (record.id,),
        ):
            try:
                keys = derive_record_keys(self._read_key(slot))
                self._restored.cipher.open(keys, bytes(record.pointer), number, body)
            except Damaged:
                return False
            opened += 1
        return opened > 0

    def _newer(self) -> int:
        count = 0
        for (pointer,) in run(
            self._here, "SELECT pointer FROM vault_record WHERE erased_act IS NULL"
        ):
            known = run(self._there, "SELECT 1 FROM vault_record WHERE pointer = ?", (pointer,))
            count += known.fetchone() is None
        return count
