"""Shreds while other processes have the vault open: nobody serves, loses or brings back anything.

The others are real processes with keys in their memory. A shred waits for each of them to say that
it has let go of the older generation, or for the end of its lease (vault/leases.py); whoever comes
with something older is refused by the tree's compare-and-swap or finds nothing that opens.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guarantees_vault import open_vault, outcome
from guarantees_worker import Worker
from shred_worker import (
    Case,
    Raised,
    Remote,
    cheap,
    derive_once,
    generations,
    in_memory,
    make_case,
    read_on,
    remote,
    write_on,
)

from policy.certificate_parts import Irrecoverability
from vault import Busy, Erased, NotFound, ShredReport, ShredStep, TreeNumber, Vault, keyfile
from vault.generations import GenerationState
from vault.leases import Lease, holders, now

UNDECLARED = Irrecoverability.NOT_DECLARED
ERASED = "Erased"


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each key file once at its cost, and then without."""
    monkeypatch.setattr(keyfile, "_derive", derive_once)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "case", permanent=True)


def shred(
    vault: Vault,
    other: Remote,
    case: Case,
    step: ShredStep | None = None,
    act: Callable[[], object] = lambda: None,
) -> ShredReport:
    """Shred while another process goes on reading, as one does that is at work.

    Args:
        vault: in this process.
        other: acknowledges each tree's new generation by reading in it.
        case: whose records it reads.
        step: at which something is done once.
        act: that something.
    """
    left = [act]

    def on_step(reached: ShredStep) -> None:
        if reached is step and left:
            left.pop()()
        answers = other.ask("get all", [case.living()[-1], case.kept])
        assert not any(isinstance(one, Raised) for one in answers), answers

    with cheap():
        return vault.shred(patience=10.0, on_step=on_step)


class Served:
    """Counts what a process with a full cache answers, and what of it is wrong."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.reads = self.lost = self.stale = 0

    def count(self, answers: list[object], pointers: list[str]) -> None:
        """Take in the answers for some records."""
        for pointer, answered in zip(pointers, answers, strict=True):
            self.reads += 1
            if pointer in self.case.known.erased:
                self.stale += not (isinstance(answered, Raised) and answered.kind == ERASED)
            else:
                self.lost += answered != self.case.known.versions[pointer][-1]

    def tell(self) -> None:
        """Print it, and fail for anything wrong."""
        resurrected = sum(line.startswith("resurrected") for line in self.case.faults())
        print(f"\n{self.lost} lost, {resurrected} resurrected, {self.stale} served from a cache of"
              f" {self.reads} reads")  # fmt: skip
        assert (self.lost, resurrected, self.stale) == (0, 0, 0)


# Readers and writers with something old in memory


def test_who_read_before_the_erasure_reads_nothing_erased_after_it(case: Case) -> None:
    served = Served(case)
    with open_vault(case.folder) as vault, remote(case.folder) as reader:
        pointers = [
            case.put(vault, b"%d" % number, f"of {number % 7}") for number in range(40)
        ] + case.living()
        assert reader.ask("get all", pointers) == [case.known.versions[p][-1] for p in pointers]
        for pointer in pointers[:20:2]:
            case.erase(vault, pointer)
        served.count(reader.ask("get all", pointers), pointers)
        shred(vault, reader, case)
        served.count(reader.ask("get all", pointers), pointers)
        for pointer in pointers[1:20:2]:
            case.erase(vault, pointer)
        served.count(reader.ask("get all", pointers), pointers)
        shred(vault, reader, case)
        served.count(reader.ask("get all", pointers), pointers)
        assert reader.ask("find", "of 0") == vault.find("of 0")
        served.tell()
    assert case.unfinished(UNDECLARED) == []


@pytest.mark.parametrize("step", [ShredStep.PREPARED, ShredStep.FENCED, ShredStep.REHEARSED])
def test_what_is_written_from_before_the_fence_is_kept(case: Case, step: ShredStep) -> None:
    """The writer has all that it needs of the old generation in memory, and does not know yet."""
    (first, second, *_) = case.living()
    written: dict[str, Any] = {}
    with open_vault(case.folder) as vault, remote(case.folder) as writer:
        assert writer.ask("get", first) == case.known.versions[first][-1]
        assert not isinstance(writer.ask("get", case.kept), Raised)

        def write() -> None:
            written["new"] = writer.ask("put", "somebody new", b"written late")
            written["old"] = writer.ask("put", "subject 4", b"about somebody known")
            assert writer.ask("rectify", first, b"corrected late") > 1
            case.known.versions[first].append(b"corrected late")

        shred(vault, writer, case, step, write)
        case.known.stored([written["new"]], [b"written late"], "somebody new")
        case.known.stored([written["old"]], [b"about somebody known"], "subject 4")
        assert vault.get(written["new"]) == writer.ask("get", written["new"]) == b"written late"
        assert generations(vault)[0].state is GenerationState.GONE
        # It goes on as before, and what it erases goes with the next epoch.
        assert writer.ask("erase", second) is None
        case.known.erased.add(second)
        shred(vault, writer, case)
    assert case.unfinished(UNDECLARED) == []


@pytest.mark.parametrize("step", [ShredStep.FENCED, ShredStep.READ_BACK, ShredStep.REHEARSED,
                                  ShredStep.LEASES_ENDED])  # fmt: skip
def test_an_erasure_between_the_fence_and_the_destruction_is_of_the_next_epoch(
    tmp_path: Path, step: ShredStep
) -> None:
    case = make_case(tmp_path / "case")
    (before, later, *_) = case.living()
    with open_vault(case.folder) as vault, remote(case.folder) as other:
        case.erase(vault, before)
        report = shred(vault, other, case, step, lambda: other.ask("erase", later))
        case.known.erased.add(later)
        assert report.gone == ((TreeNumber.ORDINARY, 1),)
        assert report.certificates == len(case.known.erased) - 1
        with pytest.raises(NotFound):
            vault.certificate(later)
        (waiting,) = [one for one in vault.shred_status().waiting if "open" in one.reason]
        assert waiting.erasures == 1
        assert [one.number for one in vault.certificate(before).certificate.generations] == [1]
        shred(vault, other, case)
        assert [one.number for one in vault.certificate(later).certificate.generations] == [1, 2]
    assert case.unfinished(UNDECLARED) == []


# Two at once


def test_a_second_shred_is_told_that_one_is_under_way(case: Case) -> None:
    answers: list[Raised] = []
    with open_vault(case.folder) as vault, remote(case.folder) as other, cheap():

        def on_step(step: ShredStep) -> None:
            answers.append(other.ask("shred", 0.2))
            other.ask("get all", [case.living()[0], case.kept])

        vault.shred(patience=10.0, on_step=on_step)
        assert {(one.kind, one.text.partition(":")[0]) for one in answers} == {
            ("Busy", "another process is closing the epoch")
        }
        assert len(answers) == 2 * 7 + 1
        assert other.ask("shred", 1.0) == ()
    assert case.unfinished(UNDECLARED) == []


def test_shreds_that_begin_at_once_have_one_outcome_together(case: Case) -> None:
    told: list[object] = []
    rounds, lease = 4, 0.2
    # The one that is told to wait does nothing more, so the other one waits for its lease.
    with remote(case.folder, lease) as one, remote(case.folder, lease) as other:
        for number in range(rounds):
            for process in (one, other):
                process.begin("shred", 10.0)
            told += [one.receive(), other.receive()]
            with open_vault(case.folder) as vault:
                for subject in range(2):
                    payload = b"%d" % number
                    case.erase(vault, case.put(vault, payload, f"round {number}.{subject}"))
        assert one.ask("shred", 10.0) == ((TreeNumber.ORDINARY, rounds + 1),)
    busy = [answered for answered in told if isinstance(answered, Raised)]
    gone = [place for answered in told if not isinstance(answered, Raised) for place in answered]
    print(f"\n{2 * rounds} shreds, two at once: {len(busy)} told to wait, {len(gone)} generations"
          " gone, each once")  # fmt: skip
    assert {answered.kind for answered in busy} <= {"Busy"}
    assert sorted(gone) == sorted({*gone}), "a generation was destroyed twice"
    assert len(gone) == rounds + 1
    assert case.unfinished(UNDECLARED) == []


def test_asking_for_the_status_does_not_turn_a_shred_away(case: Case) -> None:
    with open_vault(case.folder) as vault, remote(case.folder, 0.2) as asking, cheap():
        for number in range(5):
            case.erase(vault, case.put(vault, b"payload", f"status {number}"))
            asking.begin("status", 60)
            vault.shred(patience=10.0)
            assert asking.receive() == 60
    assert case.unfinished(UNDECLARED) == []


# Processes that do not answer


@pytest.mark.parametrize("permanent", [False, True], ids=["one tree", "both trees"])
def test_a_process_that_never_ends_is_named_and_waited_for(tmp_path: Path, permanent: bool) -> None:
    case = make_case(tmp_path / "case", permanent=permanent)
    with open_vault(case.folder) as vault, remote(case.folder) as stuck:
        stuck.ask("get all", [*case.living(), case.kept])
        stuck.stop()
        with cheap():
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(Busy, match=rf"waits for process {stuck.number}\b"):
                    vault.shred(patience=0.3)
                assert time.monotonic() - began >= 0.3
                status = vault.shred_status()
                assert f"process {stuck.number}" in (status.waits_for or "")
                assert stuck.number in status.processes
                assert status.step == ShredStep.REHEARSED
                (waiting,) = status.waiting
                assert "not asked yet" in waiting.reason
        first = generations(vault)[0]
        assert (first.state, first.wrapped is None) == (GenerationState.CLOSED, False)
        assert (case.folder / "keys" / first.reference).exists(), "destroyed all the same"
        assert case.faults() == []
        os.kill(stuck.number, signal.SIGKILL)
        stuck.process.join()
        with cheap():
            assert len(vault.shred(patience=0.0).gone) == 1 + permanent
    assert case.unfinished(UNDECLARED) == []


def test_a_process_that_sleeps_through_its_lease_forgets_before_it_answers(case: Case) -> None:
    lease = 1.0
    served = Served(case)
    with open_vault(case.folder) as vault, remote(case.folder, lease) as sleeper:
        pointers = list(case.known.versions)
        living = [*case.living(), case.kept]
        sleeper.ask("get all", living)
        # An operation is under way from before: whatever it gives is no wrong answer.
        sleeper.stop()
        sleeper.begin("get all", pointers)
        for pointer in case.living()[:2]:
            case.erase(vault, pointer)
        vault_of_group = vault.get(case.kept)
        began = time.monotonic()
        with cheap():
            report = vault.shred(patience=5 * lease)
        waited = time.monotonic() - began
        assert len(report.gone) == 2, "it was not waited for, or for too long"
        sleeper.go_on()
        served.count(sleeper.receive(), pointers)
        assert sleeper.ask("get", case.kept) == vault_of_group
        written = sleeper.ask("put", "somebody", b"written by who slept")
        assert vault.get(written) == b"written by who slept"
        case.known.stored([written], [b"written by who slept"], "somebody")
        served.tell()
    print(f"waited {waited:.1f} s for a lease of {lease} s")
    assert case.unfinished(UNDECLARED) == []


def test_a_row_that_was_read_before_the_erasure_opens_nothing_after_the_lease(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader stands still between its row and its cached key, for longer than its lease."""
    monkeypatch.setattr(Lease.__init__, "__defaults__", (0.3,))
    with open_vault(case.folder) as vault, open_vault(case.folder) as slow:
        (pointer, *_) = case.living()
        slow.get(pointer)
        real = slow._core.database.fetch

        def fetch(statement: str, parameters: tuple[object, ...]) -> list[Any]:
            rows = real(statement, parameters)
            monkeypatch.setattr(slow._core.database, "fetch", real)
            case.erase(vault, pointer)
            with cheap():
                assert len(vault.shred(patience=5.0).gone) == 2
            return rows

        monkeypatch.setattr(slow._core.database, "fetch", fetch)
        with pytest.raises(Erased):
            slow.get(pointer)
    assert case.unfinished(UNDECLARED) == []


def test_a_lease_that_cannot_be_written_lasts_no_longer_in_memory(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for what a process only thinks that it has told."""
    monkeypatch.setattr(Lease.__init__, "__defaults__", (0.3,))
    with open_vault(case.folder) as vault, open_vault(case.folder) as other:
        (pointer, *_) = case.living()
        other.get(pointer)
        with monkeypatch.context() as full:

            def no_space(*_: object) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            full.setattr(os, "pwrite", no_space)
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                answered = outcome(lambda: other.get(pointer))
                told = next(iter(holders(case.folder, but=vault._core.lease)))
                over = other._core.lease.is_over(TreeNumber.ORDINARY)
                assert over or told.ends[TreeNumber.ORDINARY] >= now() - 0.005
            assert isinstance(answered, Busy)
            assert "No space left on device" in str(answered)
            assert isinstance(outcome(lambda: open_vault(case.folder)), Busy)
        assert other.get(pointer) == case.known.versions[pointer][-1]
    assert case.faults() == []


def test_control_a_lease_that_is_thought_to_last_serves_what_was_erased(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a process that forgets nothing at the end of its lease can seal nothing."""
    with open_vault(case.folder) as vault, open_vault(case.folder) as stale:
        (pointer, *_) = case.living()
        stale.get(pointer)
        monkeypatch.setattr("vault.closing.holders", lambda *_, **__: iter(()))
        monkeypatch.setattr(Lease, "is_over", lambda *_: False)
        with cheap():
            vault.shred(patience=0.0)
        (old,) = stale._core.tree._epoch_keys
        assert old == 1, "it let go of the epoch key of a destroyed generation by itself"
        # Even so its next transaction finds the new generation, and nothing is lost by it.
        written = case.put(stale, b"written with a stale memory", "somebody")
        assert vault.get(written) == b"written with a stale memory"
        (old,) = stale._core.tree._epoch_keys
        assert old == 2
    assert case.unfinished(UNDECLARED) == []


# Everything at once


class Watch:
    """What was erased when, to hold against what readers elsewhere were answered."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.erasing_from: dict[str, float] = {}
        self.erased_at: dict[str, float] = {}
        self.reads = self.errors = self.stale = self.lost = 0

    def erase(self, vault: Vault, pointer: str) -> None:
        """Erase a record, and note when that began and when it had been done."""
        self.erasing_from[pointer] = time.monotonic()
        self.case.erase(vault, pointer)
        self.erased_at[pointer] = time.monotonic()

    def count(self, pointer: str, answered: object, began: float) -> None:
        """Take in one answer."""
        self.reads += 1
        if not isinstance(answered, Raised):
            self.stale += began > self.erased_at.get(pointer, float("inf"))
            self.lost += answered != self.case.known.versions[pointer][-1]
        elif answered.kind == ERASED:
            self.lost += pointer not in self.erasing_from
        else:
            self.errors += 1


def test_readers_and_writers_at_work_during_shreds_see_no_error(case: Case) -> None:
    watch = Watch(case)
    shreds = 4
    with cheap(), open_vault(case.folder) as vault:
        pointers = [case.put(vault, b"%d" % n, f"reader {n % 9}") for n in range(24)]
        watched = [*pointers, *case.living()[:4], case.kept]
        workers = [Worker(read_on, case.folder, watched) for _ in range(2)]
        workers.append(Worker(write_on, case.folder, "writer", case.kept))
        for worker in workers:
            worker.receive()
        for number in range(shreds):
            for pointer in pointers[number:16:shreds]:
                watch.erase(vault, pointer)
            if number < shreds - 1:
                vault.shred(patience=20.0)
    with cheap(real_rehearsal=True), open_vault(case.folder) as vault:
        vault.shred(patience=20.0)
    for worker in workers:
        worker.pipe.send("stop")
    *read, written = [worker.receive() for worker in workers]
    assert [worker.end() for worker in workers] == [0, 0, 0]
    for pointer, answered, began in itertools.chain(*read):
        watch.count(pointer, answered, began)
    for pointer, payload in written:
        assert isinstance(pointer, str), pointer
        case.known.stored([pointer], [payload], "writer")
    damage = case.unfinished(UNDECLARED)
    lost = watch.lost + sum(line.startswith("lost") for line in damage)
    resurrected = sum(line.startswith("resurrected") for line in damage)
    print(
        f"\n{shreds} shreds, 2 readers, 1 writer of {len(written)} records: {watch.errors} errors,"
        f" {lost} lost, {resurrected} resurrected, {watch.stale} served from a cache of"
        f" {watch.reads} reads"
    )
    assert damage == []
    assert (watch.errors, lost, resurrected, watch.stale) == (0, 0, 0, 0)
    assert watch.reads > 100
    assert written
