"""A ledger with its anchoring job, without a vault around it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anchor_samples import world
from sqlalchemy import Connection, create_engine, event

import anchor.tables
import ledger.tables
from anchor import job
from anchor.check import check_anchors
from anchor.evidence import Evidence, Group
from anchor.local import LocalTarget, read_receipts
from anchor.receipt import LocalReceipt
from anchor.statement import AnchorStatement
from anchor.trust import REQUIRED_AT_FIRST, TrustFile
from anchor.verify import Report, verify
from ledger import log as ledger_log
from ledger.entry import encode_version, parse_entry
from ledger.integrator import integrate
from ledger.log import Log
from ledger.logkeys import LogKey, LogKeys
from ledger.signer import NoteSigner, Signer, SignerMemory, store_checkpoint
from ledger.tlogproof import LogProof

LOG_KEY, ANCHOR_KEY = world.FIRST, world.ANCHOR
NOW = 1_772_323_200


class AnchoredLedger:
    """A ledger in SQLite, one signer and a local target."""

    def __init__(self, folder: Path) -> None:
        self.engine = create_engine(f"sqlite:///{folder / 'ledger.db'}")
        # The driver starts no transaction before a SELECT by itself.
        event.listen(self.engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(self.engine, "begin", lambda one: one.exec_driver_sql("BEGIN IMMEDIATE"))
        self.path = folder / "anchors" / "local-anchor"
        memory = SignerMemory(folder, LogKeys.lone(LOG_KEY[0]))
        self.signer = Signer(memory, lambda: [NoteSigner(world.ORIGIN, LOG_KEY[1])])
        self.count = 0
        with self.engine.begin() as connection:
            ledger.tables.metadata.create_all(connection)
            anchor.tables.metadata.create_all(connection)
            ledger_log.create(connection, world.ORIGIN)
            self.signer.begin(Log(connection).head().checkpoint())

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    def add(self, count: int = 1) -> None:
        """Add entries that wait to be integrated."""
        new = [
            encode_version(hashlib.sha256(b"%d" % n).digest()[:16], 1, bytes(32))
            for n in range(self.count, self.count + count)
        ]
        self.count += count
        with self.write() as connection:
            ledger_log.append_pending(connection, new)

    def sign(self) -> None:
        with self.write() as connection:
            integrate(connection)
            log = Log(connection)
            note, checkpoint = self.signer.sign_head(log)
            store_checkpoint(log, note, checkpoint, NOW)

    def target(self, now: int = NOW) -> LocalTarget:
        return LocalTarget(self.path, world.ORIGIN, ANCHOR_KEY[1], now)

    def run(self, *targets: object, write: Callable | None = None) -> list[job.Anchored]:
        targets = targets or (self.target(),)
        return job.run(write or self.write, LogKeys.lone(LOG_KEY[0]), targets, NOW)

    def rows(self, statement: str) -> list[tuple]:
        with self.write() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def receipts(self) -> list[LocalReceipt]:
        return read_receipts(self.path, ANCHOR_KEY[0])

    def faults(self) -> list[str]:
        with self.write() as connection:
            return [
                str(fault)
                for fault in check_anchors(
                    connection, LogKeys.lone(LOG_KEY[0]), ANCHOR_KEY[0], self.path
                )
            ]

    def status(self, *names: str) -> list[job.TargetStatus]:
        with self.write() as connection:
            return job.status(connection, names or ("local",))

    def prove(self, leaf: int) -> Evidence:
        with self.write() as connection:
            log = Log(connection)
            text, receipts = job.anchored_statement(connection, leaf)
            statement = AnchorStatement.parse(text)
            size = statement.checkpoint().size
            proof = LogProof(leaf, tuple(log.inclusion_proof(leaf, size)), statement.note)
            parsed = tuple(LocalReceipt.parse(receipt) for _, receipt in receipts)
            return Evidence(parse_entry(log.entry(leaf)), (Group(proof, statement, parsed),))

    def verify(self, leaf: int) -> Report:
        trust = TrustFile(world.ORIGIN, REQUIRED_AT_FIRST, (LogKey(LOG_KEY[0]),), (ANCHOR_KEY[0],))
        return verify(Evidence.parse(self.prove(leaf).format()), trust)


@pytest.fixture
def anchored_ledger(tmp_path) -> Iterator[AnchoredLedger]:
    one = AnchoredLedger(tmp_path)
    yield one
    one.engine.dispose()
