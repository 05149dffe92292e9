"""The anchoring job: one anchor whatever crashes, and 32 bytes for the target (LG3, P5)."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from anchor import job
from anchor.steps import Verdict
from anchor.verify import Report


class Crash(Exception):
    """What stops the job."""


class Recorder:
    """A target that writes down all it is given, and how the job's database looks meanwhile."""

    name = "local"

    def __init__(self, ledger) -> None:
        self._ledger = ledger
        self.calls: list[tuple[tuple, dict]] = []
        self.stored: list[list[tuple]] = []

    def submit(self, *arguments: object, **named: object) -> str:
        self.calls.append((arguments, named))
        # Takes the writer lock, so it would hang if the job held a transaction open meanwhile.
        self.stored.append(self._ledger.rows("SELECT size, statement FROM anchor_statement"))
        return self._ledger.target().submit(*arguments)


def sent_digests_only(calls: list[tuple[tuple, dict]]) -> bool:
    return all(
        named == {} and len(arguments) == 1 and type(arguments[0]) is bytes
        and len(arguments[0]) == 32
        for arguments, named in calls
    )  # fmt: skip


def test_the_target_receives_32_bytes_and_nothing_else(anchored_ledger):
    """LG3: the digest of the stored statement leaves, and no more."""
    anchored_ledger.add(3)
    anchored_ledger.sign()
    target = Recorder(anchored_ledger)
    anchored_ledger.run(target)
    statement = anchored_ledger.rows("SELECT statement FROM anchor_statement")[0][0]
    assert target.calls == [((hashlib.sha256(statement.encode()).digest(),), {})]
    assert sent_digests_only(target.calls)


@pytest.mark.parametrize(
    "call",
    [
        ((bytes(33),), {}),
        ((bytes(31),), {}),
        (("0" * 32,), {}),
        ((bytes(32), "hoorn"), {}),
        ((bytes(32),), {"size": 3}),
        ((), {}),
    ],
)
def test_control_more_than_a_digest_is_seen(call):
    assert not sent_digests_only([call])


def test_the_statement_is_stored_before_anybody_hears_of_it(anchored_ledger):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    target = Recorder(anchored_ledger)
    anchored_ledger.run(target)
    ((size, text),) = target.stored[0]
    assert size == 3
    assert target.calls[0][0] == (hashlib.sha256(text.encode()).digest(),)


def test_what_a_run_says(anchored_ledger):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    (first,) = anchored_ledger.run()
    statement = anchored_ledger.rows("SELECT statement FROM anchor_statement")[0][0]
    digest = hashlib.sha256(statement.encode()).digest()
    assert first == job.Anchored("local", 3, digest, True)
    assert anchored_ledger.run() == [job.Anchored("local", 3, digest, False)]
    assert len(anchored_ledger.receipts()) == 1


@pytest.mark.parametrize("signed", [False, True])
def test_an_empty_ledger_has_nothing_to_anchor(anchored_ledger, signed):
    if signed:
        anchored_ledger.sign()
        assert anchored_ledger.rows("SELECT size FROM ledger_checkpoint") == [(0,)]
    assert anchored_ledger.run() == []
    assert anchored_ledger.rows("SELECT * FROM anchor_statement") == []
    assert anchored_ledger.receipts() == []


def crashing(write: Callable, at: int, *, persisted: bool) -> Callable:
    """Transactions of which the one numbered `at` fails, before or after it is committed."""
    count = 0

    @contextmanager
    def crash() -> Iterator[object]:
        nonlocal count
        count += 1
        number = count
        with write() as connection:
            yield connection
            if number == at and not persisted:
                raise Crash
        if number == at:
            raise Crash

    return crash


class CrashingTarget:
    name = "local"

    def __init__(self, target, *, persisted: bool) -> None:
        self._target = target
        self._persisted = persisted

    def submit(self, digest: bytes) -> str:
        if self._persisted:
            self._target.submit(digest)
        raise Crash


def crash_once(ledger, point: str, *, persisted: bool) -> None:
    places = {"statement": 1, "look": 2, "receipt": 3}
    if point == "submit":
        with pytest.raises(Crash):
            ledger.run(CrashingTarget(ledger.target(), persisted=persisted))
    else:
        with pytest.raises(Crash):
            ledger.run(write=crashing(ledger.write, places[point], persisted=persisted))


def oracle(ledger, size: int) -> Report:
    """Everything that must hold after a re-run."""
    assert ledger.faults() == []
    (text,) = ledger.rows(f"SELECT receipt FROM anchor_receipt WHERE size = {size}")[0]
    assert text in {receipt.format() for receipt in ledger.receipts()}
    assert ledger.status() == [job.TargetStatus("local", size, ledger.status()[0].anchored_at, 0)]
    return ledger.verify(size - 1)


CRASHES = [(point, persisted) for point in ("statement", "look", "submit", "receipt")
           for persisted in (False, True)]  # fmt: skip


@pytest.mark.parametrize(("point", "persisted"), CRASHES)
def test_a_crash_anywhere_leaves_one_anchor(anchored_ledger, point, persisted):
    """P5: not persisted, or persisted but reported failed; the next run comes to one outcome."""
    anchored_ledger.add(3)
    anchored_ledger.sign()
    crash_once(anchored_ledger, point, persisted=persisted)
    anchored_ledger.run()
    assert len(anchored_ledger.rows("SELECT 1 FROM anchor_statement")) == 1
    assert len(anchored_ledger.rows("SELECT 1 FROM anchor_receipt")) == 1
    assert len(anchored_ledger.receipts()) == 1
    assert oracle(anchored_ledger, 3).verdict is Verdict.VERIFIED


@pytest.mark.parametrize(("point", "persisted"), CRASHES)
def test_a_crash_before_more_entries_came(anchored_ledger, point, persisted):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    crash_once(anchored_ledger, point, persisted=persisted)
    anchored_ledger.add(2)
    anchored_ledger.sign()
    anchored_ledger.run()
    assert oracle(anchored_ledger, 5).verdict is Verdict.VERIFIED
    assert anchored_ledger.verify(0).verdict is Verdict.VERIFIED


def test_crash_after_crash(anchored_ledger):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    for point, persisted in CRASHES[:6]:
        crash_once(anchored_ledger, point, persisted=persisted)
    anchored_ledger.run()
    assert len(anchored_ledger.receipts()) == 1
    assert oracle(anchored_ledger, 3).verdict is Verdict.VERIFIED


class ForgetfulTarget:
    """Appends without looking whether it has the digest."""

    name = "local"

    def __init__(self, ledger) -> None:
        self._ledger = ledger

    def submit(self, digest: bytes) -> str:
        receipts = self._ledger.receipts()
        self._ledger.path.parent.mkdir(exist_ok=True)
        with self._ledger.path.open("ab") as file:
            return self._ledger.target()._append(file, receipts, file.tell(), digest)


def test_control_a_target_that_forgets_what_it_has_doubles_the_anchor(anchored_ledger):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    target = ForgetfulTarget(anchored_ledger)
    with pytest.raises(Crash):
        anchored_ledger.run(CrashingTarget(target, persisted=True))
    anchored_ledger.run(target)
    assert len(anchored_ledger.receipts()) == 2


def test_one_target_that_fails_does_not_undo_the_other(anchored_ledger):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    first, other = Recorder(anchored_ledger), Recorder(anchored_ledger)
    other.name = "other"
    broken = CrashingTarget(other, persisted=False)
    broken.name = "other"
    with pytest.raises(Crash):
        anchored_ledger.run(first, broken)
    done = anchored_ledger.run(first, other)
    assert [(one.target, one.is_new) for one in done] == [("local", False), ("other", True)]
    assert (len(first.calls), len(other.calls)) == (1, 1)


def test_status_counts_what_is_not_covered(anchored_ledger):
    assert anchored_ledger.status() == [job.TargetStatus("local", 0, None, 0)]
    anchored_ledger.add(3)
    assert anchored_ledger.status() == [job.TargetStatus("local", 0, None, 3)]
    anchored_ledger.sign()
    assert anchored_ledger.status() == [job.TargetStatus("local", 0, None, 3)]
    anchored_ledger.run()
    at = anchored_ledger.status()[0].anchored_at
    assert at == anchored_ledger.receipts()[0].at
    assert anchored_ledger.status() == [job.TargetStatus("local", 3, at, 0)]
    anchored_ledger.add(2)
    anchored_ledger.sign()
    anchored_ledger.add(1)
    assert anchored_ledger.status("local", "other") == [
        job.TargetStatus("local", 3, at, 3),
        job.TargetStatus("other", 0, None, 6),
    ]
    anchored_ledger.sign()
    anchored_ledger.run()
    assert anchored_ledger.status() == [job.TargetStatus("local", 6, at, 0)]


def test_evidence_takes_the_oldest_anchor_that_covers_the_leaf(anchored_ledger):
    for size in (3, 5):
        anchored_ledger.add(size - anchored_ledger.count)
        anchored_ledger.sign()
        anchored_ledger.run()
    assert [anchored_ledger.prove(leaf).groups[0].checkpoint().size for leaf in range(5)] == [
        3, 3, 3, 5, 5,
    ]  # fmt: skip
    with anchored_ledger.write() as connection:
        assert job.anchored_statement(connection, 5) is None


def test_a_statement_without_a_receipt_is_no_anchor(anchored_ledger):
    anchored_ledger.add(3)
    anchored_ledger.sign()
    crash_once(anchored_ledger, "submit", persisted=False)
    with anchored_ledger.write() as connection:
        assert job.anchored_statement(connection, 0) is None
    assert anchored_ledger.status() == [job.TargetStatus("local", 0, None, 3)]
    assert anchored_ledger.faults() == []
