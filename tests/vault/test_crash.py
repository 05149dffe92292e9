"""What was acknowledged survives kill -9 at any moment, and nothing is left half done (P5).

A process works on a vault and says on a pipe what it begins and what has returned. It is killed at
random moments; then the vault is opened again and compared with what was acknowledged. The same
vault goes on from kill to kill. `make soak` kills 500 times; DATAKLUIS_SEED repeats a run's plan.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from guarantees_vault import (
    Known,
    chosen_seed,
    consistency_fault,
    erase,
    new_vault,
    open_vault,
    put,
    query,
)
from guarantees_worker import (
    Message,
    Operation,
    Worker,
    die_at,
    die_in_append,
    import_lines,
    operate,
)

import vault.writing
from anchor.evidence import Evidence
from anchor.steps import Verdict
from anchor.verify import verify
from ledger.checkpoint import Checkpoint
from ledger.note import Note
from vault import Erased, ImportOrder, NotFound, Vault

KINDS = ("put", "rectify", "erase", "checkpoint")
OPERATIONS = 6  # per process, so that a kill that comes too late falls into the next one
BATCH = 1_000  # records in one transaction


class Hammer:
    """Kills processes that work on one vault and compares the vault with what they said."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = new_vault(folder)
        self.random = random.Random(seed)
        self.known = Known()
        self.last_note: Note | None = None
        self.seconds = dict.fromkeys(KINDS, 0.004)
        self.killed_in: Counter[str] = Counter()
        self.kills = 0
        self.damage: list[str] = []
        self.faults: list[str] = []
        with open_vault(self.folder) as vault:
            for number in range(20):
                payload = b"first %d" % number
                self.known.stored([put(vault, payload, f"first {number}")], [payload],
                                  f"first {number}")  # fmt: skip
            self.last_note = vault.checkpoint()

    def kill_one(self, kind: str) -> None:
        """Kill a process in or near an operation of a kind, then look at what is left."""
        operations = self._plan(kind)
        worker = Worker(operate, self.folder, operations)
        target = self.random.randrange(OPERATIONS)
        operations_seen: list[Message] = []
        while operations_seen[-1:] != [("begin", target)]:
            operations_seen.append(worker.receive())
        wait_until(time.perf_counter() + self.random.uniform(0, 1.1) * self.seconds[kind])
        messages = operations_seen + worker.kill()
        self.kills += 1
        with open_vault(self.folder) as vault:
            unfinished = self._learn(operations, messages)
            if unfinished is not None:
                self.killed_in[operations[unfinished][0]] += 1
                batches = [m[2] for m in messages if m[0] == "batch" and m[1] == unfinished]
                self._settle(vault, operations[unfinished], sum(map(len, batches)))
            self._inspect(vault)

    def _plan(self, kind: str) -> list[Operation]:
        """Return operations of one kind, each on records of its own."""
        living = self.random.sample(self.known.living(), OPERATIONS)
        return [self._operation(kind, number, living[number]) for number in range(OPERATIONS)]

    def _operation(self, kind: str, number: int, pointer: str) -> Operation:
        mark = f"{self.kills}.{number}"
        if kind == "rectify":
            return (kind, pointer, f"corrected in {mark}".encode() * self.random.randrange(1, 200))
        if kind == "erase":
            return (kind, pointer)
        if kind == "checkpoint" and number % 2:
            return (kind,)
        # Now and then more than one transaction's worth. Entries for a checkpoint need putting too.
        count = self.random.randrange(1, 40)
        if kind == "put" and self.kills % 16 == 0 and number == OPERATIONS - 1:
            count = BATCH + 30
        return ("put", f"subject {mark}", [f"{mark}/{n}".encode() for n in range(count)])

    def _learn(self, operations: list[Operation], messages: list[Message]) -> int | None:
        """Take over what was acknowledged; return the operation that was not, if one had begun."""
        unfinished = None
        for what, number, *rest in messages:
            kind, *arguments = operations[number]
            if what == "begin":
                unfinished = number
            elif what == "batch":
                self._stored(arguments, rest[0])
            else:
                unfinished = None
                self.seconds[kind] = 0.7 * self.seconds[kind] + 0.3 * rest[1]
                if kind == "rectify":
                    self.known.versions[arguments[0]].append(arguments[1])
                elif kind == "erase":
                    self.known.erased.add(arguments[0])
                elif kind == "checkpoint":
                    self.last_note = rest[0]
        return unfinished

    def _stored(self, arguments: list[object], pointers: list[str]) -> None:
        subject, payloads = arguments
        start = sum(1 for own in self.known.subjects.values() if own == subject)
        self.known.stored(pointers, payloads[start : start + len(pointers)], subject)

    def _settle(self, vault: Vault, operation: Operation, acknowledged: int) -> None:
        """Take over what became of the operation that was cut off: all of it or nothing."""
        kind, *arguments = operation
        if kind == "put":
            subject, payloads = arguments
            found = vault.find(subject)
            # Whole transactions only: what was acknowledged, or that and the next one.
            allowed = {acknowledged, min(acknowledged + BATCH, len(payloads))}
            if len(found) not in allowed:
                self.damage.append(f"half-done: {len(found)} of {len(payloads)} records of a put")
            self._stored(arguments, found[acknowledged:])
        elif kind == "rectify":
            pointer, payload = arguments
            if vault.get(pointer) == payload:
                self.known.versions[pointer].append(payload)
        elif kind == "erase":
            try:
                vault.get(arguments[0])
            except Erased:
                self.known.erased.add(arguments[0])

    def _inspect(self, vault: Vault) -> None:
        self.damage += self.known.damage(vault)
        self.faults += map(str, vault.audit().faults)
        older, self.last_note = self.last_note, vault.checkpoint()
        contradiction = consistency_fault(vault, older, self.last_note)
        if contradiction is not None:
            self.damage.append(f"lost: {contradiction}")


def wait_until(moment: float) -> None:
    """Wait without sleeping: the scheduler's grain is coarser than an operation."""
    while time.perf_counter() < moment:
        pass


def hammer(folder: Path, kills: int, seed: int) -> Hammer:
    """Kill a number of times, each kind of operation in turn."""
    one = Hammer(folder, seed)
    for number in range(kills):
        one.kill_one(KINDS[number % len(KINDS)])
    return one


def report(hammers: list[Hammer], seed: int) -> None:
    """Print what became of the kills, and fail for anything lost, half done or faulty."""
    damage = [line for one in hammers for line in one.damage]
    faults = [line for one in hammers for line in one.faults]
    inside = sum((one.killed_in for one in hammers), Counter())
    kills = sum(one.kills for one in hammers)
    lost = sum(not line.startswith("half-done") for line in damage)
    print(f"\nseed {seed}: {kills} kills, {lost} lost, {len(damage) - lost} half-done,"
          f" {len(faults)} audit faults")  # fmt: skip
    print(f"  {inside.total()} of them inside an operation: {dict(inside)}")
    assert damage == []
    assert faults == []
    assert inside.total() >= kills // 2, "the kills came between the operations"
    assert set(inside) == set(KINDS)


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    seed = chosen_seed()
    report([hammer(tmp_path / "vault", 60, seed)], seed)


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_by_500_kills(tmp_path: Path) -> None:
    seed = chosen_seed()
    report([hammer(tmp_path / f"vault-{part}", 100, seed + part) for part in range(5)], seed)


class Crashed(BaseException):
    """Stands in for a crash inside a process."""


def break_before_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit before the pending entries are appended, and crash there."""

    def committed_apart(connection: object, entries: object) -> None:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        raise Crashed

    monkeypatch.setattr(vault.writing, "append_pending", committed_apart)


def break_before_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit the subject and the act without the records, and crash there."""

    def committed_apart(connection: object, rows: object) -> None:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        raise Crashed

    monkeypatch.setattr(vault.writing, "insert_records", committed_apart)


@pytest.mark.parametrize("break_transaction", [break_before_pending, break_before_records])
def test_the_check_sees_a_transaction_that_was_torn_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_transaction: object
) -> None:
    one = Hammer(tmp_path / "vault", 1)
    with monkeypatch.context() as patched, open_vault(one.folder) as torn:
        break_transaction(patched)
        with pytest.raises(Crashed):
            put(torn, b"torn", "torn")
    with open_vault(one.folder) as after:
        one._inspect(after)
    print(f"\ncontrol: {len(one.damage)} damaged, {len(one.faults)} audit faults")
    assert one.faults
    if break_transaction is break_before_pending:
        assert one.damage


def test_an_unbroken_transaction_leaves_nothing_of_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Hammer(tmp_path / "vault", 1)

    def crash(*_: object) -> None:
        raise Crashed

    for name in ("append_pending", "insert_records", "insert_versions"):
        with monkeypatch.context() as patched, open_vault(one.folder) as crashing:
            patched.setattr(vault.writing, name, crash)
            with pytest.raises(Crashed):
                put(crashing, b"torn", "torn")
            one._inspect(crashing)
    with open_vault(one.folder) as after:
        one._inspect(after)
        assert after.find("torn") == []
    assert (one.damage, one.faults) == ([], [])


# Where a process ends, without any clean-up: module, function, before or after it.
PUT_POINTS = [
    ("vault.writing", "append_pending", "after", False),
    ("vault.keytree", "TreeEdit.write", "before", False),
    ("vault.keytree", "TreeEdit.write", "after", False),
    ("vault.keytree", "KeyTree.adopt", "before", True),
]
CHECKPOINT_POINTS = [
    ("vault.checkpointing", "integrate", "before"),
    ("vault.checkpointing", "integrate", "after"),
    ("ledger.signer", "Signer.sign_head", "before"),
    ("ledger.signer", "SignerMemory.remember", "before"),
    ("ledger.signer", "Path.replace", "before"),
    ("ledger.signer", "Path.replace", "after"),
    ("ledger.signer", "SignerMemory.remember", "after"),
    ("vault.checkpointing", "store_checkpoint", "before"),
    ("vault.checkpointing", "store_checkpoint", "after"),
]
ANCHOR_POINTS = [
    ("anchor.job", "_store_statement", "before"),
    ("anchor.job", "_store_statement", "after"),
    ("anchor.job", "_has_receipt", "before"),
    ("anchor.local", "LocalTarget.submit", "before"),
    ("anchor.local", "LocalTarget.submit", "after"),
    ("anchor.job", "run", "after"),
]


def test_a_put_and_an_erasure_are_wholly_there_or_wholly_absent(tmp_path: Path) -> None:
    for number, (module, name, when, there) in enumerate(PUT_POINTS):
        folder = new_vault(tmp_path / f"put-{number}")
        worker = Worker(die_at, folder, ("put", "mark", [b"one", b"two"]), module, name, when)
        assert (worker.rest(), worker.end()) == ([], 77), (name, when)
        with open_vault(folder) as after:
            payloads = [after.get(pointer) for pointer in after.find("mark")]
            assert payloads == ([b"one", b"two"] if there else []), (name, when)
            assert after.audit().faults == []
    points = [*PUT_POINTS[1:], ("vault.listing", "append_pending", "after", False)]
    for number, (module, name, when, gone) in enumerate(points):
        folder = new_vault(tmp_path / f"erase-{number}")
        with open_vault(folder) as before:
            pointer, other = put(before, b"goes", "mark"), put(before, b"stays", "other")
        worker = Worker(die_at, folder, ("erase", pointer), module, name, when)
        assert (worker.rest(), worker.end()) == ([], 77), (name, when)
        with open_vault(folder) as after:
            if not gone:
                assert after.get(pointer) == b"goes"
                erase(after, pointer)
            with pytest.raises(Erased):
                after.get(pointer)
            assert (after.find("mark"), after.get(other)) == ([], b"stays")
            assert after.audit().faults == []
    print(f"\n{len(PUT_POINTS)} + {len(points)} fault points of put and erase, one outcome each")


@pytest.mark.parametrize(("module", "name", "when"), CHECKPOINT_POINTS)
def test_a_checkpoint_cut_off_anywhere_has_one_outcome(
    tmp_path: Path, module: str, name: str, when: str
) -> None:
    folder = prepared(tmp_path)
    with open_vault(folder) as before:
        [(size, old_note)] = query(before, "SELECT size, note FROM ledger_checkpoint")
    worker = Worker(die_at, folder, ("checkpoint",), module, name, when)
    assert (worker.rest(), worker.end()) == ([], 77)
    with open_vault(folder) as after:
        remembered, _ = after._core.signer.memory.last()
        note = after.checkpoint()
        assert Checkpoint.parse(note.text).size == 8
        if Checkpoint.parse(remembered.text).size == 8:
            # It had left the signer, so it is the one checkpoint of this size that there is.
            assert remembered.format() == note.format()
        assert consistency_fault(after, Note.parse(old_note.encode()), note) is None
        stored = query(after, "SELECT size, note FROM ledger_checkpoint ORDER BY size")
        assert stored == [(size, old_note), (8, note.format())]
        assert query(after, "SELECT count(*) FROM ledger_pending") == [(0,)]
        assert query(after, "SELECT count(*) FROM ledger_position") == [(8,)]
        assert after.audit().faults == []


@pytest.mark.parametrize(("module", "name", "when"), [*ANCHOR_POINTS, ("", "half a receipt", "")])
def test_an_anchoring_cut_off_anywhere_has_one_outcome(
    tmp_path: Path, module: str, name: str, when: str
) -> None:
    folder = prepared(tmp_path)
    if module:
        worker = Worker(die_at, folder, ("anchor",), module, name, when)
    else:
        worker = Worker(die_in_append, folder)
    assert (worker.rest(), worker.end()) == ([], 77)
    with open_vault(folder) as after:
        assert [(one.target, one.size) for one in after.anchor()] == [("local", 8)]
        after.anchor()
        assert query(after, "SELECT size FROM anchor_statement") == [(8,)]
        [(receipt,)] = query(after, "SELECT receipt FROM anchor_receipt")
        file = folder / "anchors" / "local-anchor"
        assert file.read_text() == receipt, "the anchor was asked twice, or is left half written"
        assert after.audit().faults == []
        evidence = Evidence.parse(after.prove(after.find("subject")[0]).format())
        assert verify(evidence, after.trust()).verdict is Verdict.VERIFIED


def prepared(tmp_path: Path) -> Path:
    """Make a vault with three signed leaves and five pending entries."""
    folder = new_vault(tmp_path / "vault")
    with open_vault(folder) as before:
        pointers = [put(before, b"leaf %d" % number) for number in range(3)]
        before.checkpoint()
        for number in range(3):
            put(before, b"pending %d" % number)
        before.rectify(pointers[0], b"pending correction")
        erase(before, pointers[1])
    return folder


def test_an_import_killed_halfway_stores_every_line_once(tmp_path: Path) -> None:
    seed = chosen_seed()
    draws = random.Random(seed)
    folder = new_vault(tmp_path / "vault")
    lines = [json.dumps({"bsn": f"person {n % 700}", "line": n}).encode() for n in range(7_300)]
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    order = ImportOrder(path, "nieuwsbrief", "/bsn")
    kills = stored = 0
    for stop_behind in (0, 1_000, 2_000, 4_000, 6_000):
        worker = Worker(import_lines, folder, order)
        # A total of 0 says that lines are still being checked.
        while (message := worker.receive())[0] == "progress":
            if stop_behind == 0 or (message[2] and message[1] >= stop_behind):
                break
        wait_until(time.perf_counter() + draws.uniform(0, 0.08))
        messages = worker.kill()
        kills += not any(one[0] == "report" for one in [message, *messages])
        with open_vault(folder) as between:
            [(now_stored,)] = query(between, "SELECT count(*) FROM vault_record")
            assert now_stored % 1_000 == 0 or now_stored == len(lines)
            assert now_stored >= stored
            stored = now_stored
            assert between.audit().faults == []
    worker = Worker(import_lines, folder, order)
    while (message := worker.receive())[0] == "progress":
        pass
    worker.kill()
    what, records, already = message
    assert (what, records + already) == ("report", len(lines))
    with open_vault(folder) as after:
        found = [after.get(pointer) for n in range(700) for pointer in after.find(f"person {n}")]
        assert sorted(found) == sorted(lines)
        assert after.audit().faults == []
        with pytest.raises(NotFound):
            after.get("a" * 26)
    print(f"\nseed {seed}: import killed {kills} times, {len(lines)} lines stored once each,"
          f" {records} of them by the last run")  # fmt: skip
    assert kills >= 3
