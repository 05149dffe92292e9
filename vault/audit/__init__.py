"""The audit: every stored byte that says something is checked against another (LG1, P5).

Nothing comes from a cache. The parts, in order; each names its faults and the next goes on:

    database   SQLite's own check of its pages, and foreign keys
    columns    vault/audit/columns.py: each value has its column's type
    ledger     ledger/fsck.py: recomputed from the entries
    key tree   vault/audit/tree.py: each node opens, each slot is used as its owner says
    generations
               vault/audit/generations.py: each root key is as far as its tree and the ledger say
    records    vault/audit/records.py: each blob opens and matches its commitment in the ledger,
               each row its tag; of an erased record only a tombstone and its entries are left
               vault/audit/parts.py: likewise each field group
               vault/audit/erasures.py: each erasure has its row, each certificate its entry
    governance vault/audit/governance.py: proposals, lists and holders are of this ledger
    subjects   vault/audit/subjects.py: each subject row opens and lies where it would be found
    anchors    anchor/check.py

Tested in tests/vault/test_audit.py and tests/vault/test_tamper.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from anchor.check import check_anchors
from anchor.errors import AnchorError
from anchor.receipt import key_name
from ledger.errors import LedgerError
from ledger.fault import Fault
from ledger.fsck import Fsck
from ledger.log import Log
from ledger.note import VerifierKey
from ledger.signer import SignerMemory
from vault.audit.columns import check_columns
from vault.audit.generations import GenerationsAudit
from vault.audit.governance import audit_governance
from vault.audit.records import RecordsAudit
from vault.audit.subjects import audit_subjects
from vault.audit.tree import TreeAudit
from vault.core import Core
from vault.database import schema_fingerprint, translated
from vault.errors import VaultError
from vault.witnessing import check_cosignatures


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    Attributes:
        faults: empty when all is well.
        counts: how many of each thing were checked.
        pruned: of a ledger that was pruned, the minimum index and the leaf of the prune entry,
            which is no fault (LG8).
    """

    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    pruned: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Trusted:
    """What ledger and anchors are held against.

    Attributes:
        memory: what was signed last, and the ledger's public keys.
        anchor_key: of the local anchor.
    """

    memory: SignerMemory
    anchor_key: VerifierKey


def audit(
    core: Core,
    on_part: Callable[[str], None] | None = None,
    trusted: Trusted | None = None,
) -> AuditReport:
    """Check everything in one snapshot.

    Args:
        core: of the open vault.
        on_part: told the name of each part before it is checked.
        trusted: None takes it from the vault's signer, which a restored vault may lack.
    """
    report = AuditReport()
    with core.database.read() as connection:
        for name, part in _parts(core, connection, report, trusted):
            if on_part is not None:
                on_part(name)
            report.faults += _guarded(core, name, part)
    return report


def _parts(
    core: Core, connection: Connection, report: AuditReport, trusted: Trusted | None
) -> Iterator[tuple[str, Callable[[], Iterator[Fault]]]]:
    yield "database", lambda: _database(connection)
    mistyped: list[Fault] = []
    yield "columns", lambda: check_columns(connection, mistyped)
    if mistyped:
        # The other parts compute with what they read, and a text is no number to compute with.
        return
    fsck = Fsck(Log(connection), (trusted or core.signer).memory)
    report.pruned = Log(connection).pruned_to()
    yield "ledger", fsck.run
    yield "cosignatures", lambda: check_cosignatures(core, connection)
    tree = TreeAudit(core, connection)
    records = RecordsAudit(core, connection, tree)
    yield "key tree", tree.run
    yield "generations", GenerationsAudit(core, connection, tree).run
    yield "records", records.run
    yield "governance", lambda: audit_governance(connection)
    yield "subjects", lambda: audit_subjects(core, connection, tree)
    yield "anchors", lambda: _anchors(core, connection, trusted)
    report.counts |= {
        "entries": sum(fsck.counts.values()),
        "key nodes": tree.nodes_checked,
        "slots": tree.slots_checked,
        "versions": records.versions_checked,
        "field groups": records.parts.parts_checked,
        "erased": records.tombstones_checked,
        "certificates": records.erasures.certificates_checked,
    }


def _guarded(core: Core, name: str, part: Callable[[], Iterator[Fault]]) -> list[Fault]:
    faults: list[Fault] = []
    try:
        with translated(core.database.path):
            # One by one, so that what was found before a part gave up is kept.
            for fault in part():
                faults.append(fault)
    except (VaultError, LedgerError, AnchorError) as error:
        faults.append(Fault(name, str(error)))
    except Exception as error:
        # Changed bytes can make any number or text, also one that no check expects. An audit that
        # ended here would report nothing at all. The message may quote a stored value (P3).
        faults.append(Fault(name, f"stopped at a value out of all bounds ({type(error).__name__})"))
    return faults


def _database(connection: Connection) -> Iterator[Fault]:
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield Fault("database", line.splitlines()[0])
    if connection.exec_driver_sql("PRAGMA user_version").scalar() != schema_fingerprint(connection):
        yield Fault("database", "its tables are not made as this software makes them")
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield Fault(
            "database", f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is gone"
        )


def _anchors(core: Core, connection: Connection, trusted: Trusted | None) -> Iterator[Fault]:
    if trusted is None:
        anchor_key = VerifierKey(key_name(core.origin), bytes(core.keyring.anchor.verify_key))
        trusted = Trusted(core.signer.memory, anchor_key)
    path = core.folder / core.config.local_anchor
    yield from check_anchors(connection, trusted.memory.keys, trusted.anchor_key, path)
