"""The audit: every stored byte that says something is checked against another (LG1, P5).

Nothing comes from a cache. The parts, in order; each names its faults and the next goes on:

    database   SQLite's own check of its pages, and foreign keys
    ledger     ledger/fsck.py: recomputed from the entries
    key tree   vault/tree_audit.py: each node opens, each slot is used as its owner says
    records    vault/records_audit.py: each blob opens and matches its commitment in the ledger,
               each row its tag; of an erased record only a tombstone and its entries are left
    subjects   vault/subjects_audit.py: each subject row opens and lies where it would be found
    anchors    anchor/check.py

Tested in tests/vault/test_audit.py and tests/vault/test_tamper.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from anchor.check import check_anchors
from anchor.receipt import key_name
from ledger.errors import LedgerError
from ledger.fault import Fault
from ledger.fsck import Fsck
from ledger.log import Log
from ledger.note import VerifierKey
from vault.core import Core
from vault.errors import VaultError
from vault.records_audit import RecordsAudit
from vault.subjects_audit import audit_subjects
from vault.tree_audit import TreeAudit


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    Attributes:
        faults: empty when all is well.
        counts: how many of each thing were checked.
    """

    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def audit(core: Core, on_part: Callable[[str], None] | None = None) -> AuditReport:
    """Check everything in one snapshot.

    Args:
        core: of the open vault.
        on_part: told the name of each part before it is checked.
    """
    report = AuditReport()
    with core.database.read() as connection:
        for name, part in _parts(core, connection, report):
            if on_part is not None:
                on_part(name)
            report.faults += _guarded(name, part)
    return report


def _parts(
    core: Core, connection: Connection, report: AuditReport
) -> Iterator[tuple[str, Callable[[], Iterator[Fault]]]]:
    yield "database", lambda: _database(connection)
    fsck = Fsck(Log(connection), core.signer.memory)
    yield "ledger", fsck.run
    tree = TreeAudit(core, connection)
    records = RecordsAudit(core, connection, tree)
    yield "key tree", tree.run
    yield "records", records.run
    yield "subjects", lambda: audit_subjects(core, connection, tree)
    yield "anchors", lambda: _anchors(core, connection)
    report.counts |= {
        "entries": fsck.version_entries + fsck.erasure_entries,
        "key nodes": tree.nodes_checked,
        "slots": tree.slots_checked,
        "versions": records.versions_checked,
        "erased": records.tombstones_checked,
    }


def _guarded(name: str, part: Callable[[], Iterator[Fault]]) -> list[Fault]:
    faults: list[Fault] = []
    try:
        # One by one, so that what was found before a part gave up is kept.
        for fault in part():
            faults.append(fault)
    except (VaultError, LedgerError) as error:
        faults.append(Fault(name, str(error)))
    return faults


def _database(connection: Connection) -> Iterator[Fault]:
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield Fault("database", line.splitlines()[0])
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield Fault(
            "database", f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is gone"
        )


def _anchors(core: Core, connection: Connection) -> Iterator[Fault]:
    anchor_key = VerifierKey(key_name(core.origin), bytes(core.keyring.anchor.verify_key))
    path = core.folder / core.config.local_anchor
    yield from check_anchors(connection, core.signer.verifier, anchor_key, path)
