"""A provider, a disk or a database that misbehaves: a clear error or a wait, and nothing lost (P5).

The provider is the real one for files, seen through something that answers late, wrongly, untruly
or not at all. In each test the trouble ends, and the shred then ends in the one outcome that
tests/vault/test_shred_crash.py asks for, with every erasure certified.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from guarantees_vault import erase, open_vault, outcome, put
from guarantees_worker import Worker
from shred_worker import Case, Raised, answer, cheap, derive_once, generations, in_memory, make_case

import vault.generations
from policy.assurance import Presence
from policy.certificate_parts import Irrecoverability
from vault import (
    Busy,
    Damaged,
    Erased,
    Incomplete,
    NotFound,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
    Vault,
    VaultError,
    keyfile,
)
from vault.database import Database
from vault.generations import GenerationState
from vault.rootkeys.provider import KeyContext, KeyReport, RootKeyProvider

UNDECLARED, WAITING = Irrecoverability.NOT_DECLARED, Irrecoverability.WAITING
METHODS = ("make_key", "wrap", "unwrap", "destroy", "report")


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each key file once at its cost, and then without."""
    monkeypatch.setattr(keyfile, "_derive", derive_once)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


class Trouble:
    """What a provider does instead of what it should, while it does; see `Troubled`.

    Attributes:
        answers: by method: given the real method and its arguments, does something else.
        counts: how many calls of each method there were.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Callable[..., object]] = {}
        self.counts: Counter[str] = Counter()


class Troubled:
    """A provider that answers as its trouble says."""

    def __init__(self, provider: RootKeyProvider, trouble: Trouble) -> None:
        self._provider, self._trouble = provider, trouble

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._provider, name)
        if name not in METHODS:
            return real

        def call(*arguments: object) -> object:
            self._trouble.counts[name] += 1
            other = self._trouble.answers.get(name)
            return real(*arguments) if other is None else other(real, *arguments)

        return call


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    """Every provider that is opened from here on, until its `answers` are emptied again."""
    made = Trouble()
    real = vault.generations.open_provider
    monkeypatch.setattr(
        vault.generations, "open_provider", lambda *given: Troubled(real(*given), made)
    )
    with cheap():
        yield made


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "case")


def raising(error: Exception) -> Callable[..., object]:
    def answer(real: Callable[..., object], *arguments: object) -> object:
        raise error

    return answer


def works_again(case: Case, opened: Vault, certificates: int | None = None) -> None:
    """Shred once more, the trouble being over, and hold the vault against its one outcome."""
    report = opened.shred(patience=1.0)
    assert report.waiting == ()
    assert case.unfinished(UNDECLARED, certificates=certificates) == []
    assert opened.shred_status().step is None


def serves(case: Case, opened: Vault) -> None:
    """Hold that an open vault reads, stores and erases, whatever its provider does."""
    assert opened.get(case.living()[0]) in case.known.versions[case.living()[0]]
    case.put(opened, b"meanwhile", "meanwhile")
    with pytest.raises(Erased):
        opened.get(next(iter(case.known.erased)))


# No answer, or a late one


@pytest.mark.parametrize("method", METHODS)
def test_a_provider_that_does_not_answer_is_named_and_stops_nothing_else(
    case: Case, trouble: Trouble, method: str
) -> None:
    with open_vault(case.folder) as opened:
        trouble.answers[method] = raising(ProviderUnreachable("no answer within 10 seconds"))
        with pytest.raises((ProviderUnreachable, Incomplete), match="no answer within 10 seconds"):
            opened.shred(patience=0.5)
        serves(case, opened)
        if method != "unwrap":
            assert case.faults() == []
        assert generations(opened)[0].state is not GenerationState.GONE
        if method in ("destroy", "report"):
            # What did not depend on it was done, and it is said for what the rest waits.
            (pointer, *_) = case.known.erased
            assert opened.certificate(pointer).certificate.irrecoverability is WAITING
            (waiting,) = opened.shred_status().waiting
            assert "no answer within 10 seconds" in waiting.reason
        trouble.answers.clear()
        works_again(case, opened)


def test_a_provider_that_answers_late_keeps_nobody_waiting(case: Case, trouble: Trouble) -> None:
    """Nothing waits for it under the writer lock: others write as fast as ever meanwhile."""
    slow = 0.3

    def late(real: Callable[..., object], *arguments: object) -> object:
        time.sleep(slow)
        return real(*arguments)

    with open_vault(case.folder) as opened, open_vault(case.folder) as other:
        trouble.answers = dict.fromkeys(METHODS, late)
        reports: list[object] = []
        shred = threading.Thread(
            target=lambda: reports.append(outcome(lambda: opened.shred(patience=30)))
        )
        began = time.monotonic()
        shred.start()
        waits = []
        while shred.is_alive():
            started = time.monotonic()
            before = trouble.counts["unwrap"]
            case.put(other, b"meanwhile %d" % len(waits), "meanwhile")
            if trouble.counts["unwrap"] == before:
                # The other one asks for the new epoch key once, too, and waits for that.
                waits.append(time.monotonic() - started)
            time.sleep(0.01)
        seconds = time.monotonic() - began
        assert not isinstance(reports[0], VaultError), reports
        trouble.answers.clear()
    print(f"\n{len(waits)} puts during a shred of {seconds:.1f} s, the longest {max(waits):.3f} s;"
          f" its provider took {slow} s for each of {trouble.counts.total()} calls")  # fmt: skip
    assert len(waits) > 10
    assert max(waits) < slow
    assert case.unfinished(UNDECLARED) == []


# Wrong answers


def test_a_provider_that_wraps_wrongly_is_found_out_before_anything_moves(
    case: Case, trouble: Trouble
) -> None:
    with open_vault(case.folder) as opened:
        for wrong in (b"", bytes(12), bytes(60), os.urandom(60)):
            trouble.answers["wrap"] = lambda real, *arguments, wrong=wrong: wrong
            with pytest.raises((Damaged, ProviderFailed)):
                opened.shred()
        other_context = KeyContext(bytes(16), opened._core.tree.number, 9)
        trouble.answers["wrap"] = lambda real, reference, context, key: real(
            reference, other_context, key
        )
        with pytest.raises((Damaged, ProviderFailed)):
            opened.shred()
        assert [one.number for one in generations(opened)] == [1, 1], "it went on all the same"
        serves(case, opened)
        assert case.faults() == []
        trouble.answers.clear()
        works_again(case, opened, 1)


@pytest.mark.parametrize("wrong", [bytes(32), b"", bytes(31)], ids=["other", "nothing", "short"])
def test_a_provider_that_unwraps_wrongly_once_loses_nothing(
    tmp_path: Path, trouble: Trouble, wrong: bytes
) -> None:
    """The unwrapping before the fence is the one that counts: all is sealed under what it gives."""
    counted = make_case(tmp_path / "counted")
    with open_vault(counted.folder) as opened:
        trouble.counts.clear()
        opened.shred()
    total = trouble.counts["unwrap"]
    raised: Counter[str] = Counter()
    for number in range(1, total + 1):
        case = make_case(tmp_path / str(number))
        with open_vault(case.folder) as opened:
            trouble.counts.clear()
            trouble.answers["unwrap"] = lambda real, *given, number=number: (
                wrong if trouble.counts["unwrap"] == number else real(*given)
            )
            result = outcome(lambda opened=opened: opened.shred(patience=1.0))
            trouble.answers.clear()
            raised[type(result).__name__] += 1
            assert case.faults() == [], number
            # The process that was answered wrongly finds out at the latest with its first reading.
            outcome(lambda opened=opened, case=case: opened.get(case.kept))
            outcome(lambda opened=opened, case=case: opened.get(case.living()[0]))
            assert case.faults(opened) == [], number
            works_again(case, opened)
    print(f"\n{total} unwrappings, each wrong once: 0 lost, {dict(raised)}")
    assert total >= 4
    assert set(raised) <= {"Damaged", "Incomplete", "ProviderFailed", "ShredReport"}


def test_a_key_that_opens_though_it_is_said_to_be_gone_is_not_certified(
    case: Case, trouble: Trouble
) -> None:
    gone = KeyReport(Presence.GONE, "certainly gone")
    with open_vault(case.folder) as opened:
        for method in ("report", "destroy"):
            trouble.answers = {method: lambda *_: gone}
            for _ in range(2):
                with pytest.raises(ProviderFailed, match="still opens"):
                    opened.shred(patience=0.5)
            (first, *_) = generations(opened)
            assert first.state is GenerationState.CLOSED
            assert first.wrapped is not None
            with pytest.raises(NotFound):
                opened.certificate(next(iter(case.known.erased)))
            assert case.faults() == []
        trouble.answers.clear()
        works_again(case, opened, 1)


def test_a_key_that_is_there_after_its_destruction_is_waited_for(
    case: Case, trouble: Trouble
) -> None:
    present = KeyReport(Presence.PRESENT, "still there, replicating")
    with open_vault(case.folder) as opened:
        trouble.answers["destroy"] = lambda *_: present
        for _ in range(2):
            report = opened.shred(patience=0.5)
            assert report.gone == ()
            assert [one[1:] for one in report.waiting] == [(1, "still there, replicating")]
        (pointer, *_) = case.known.erased
        assert opened.certificate(pointer).certificate.irrecoverability is WAITING
        assert "still there, replicating" in opened.shred_status().waiting[0].reason
        assert case.faults() == []
        trouble.answers.clear()
        works_again(case, opened, 2)


def test_a_key_that_is_scheduled_and_then_gone_is_certified_twice(
    case: Case, trouble: Trouble
) -> None:
    due = 2_000_000_000
    scheduled = KeyReport(Presence.SCHEDULED, "in 7 days", due)
    with open_vault(case.folder) as opened:
        trouble.answers = {"destroy": lambda *_: scheduled}
        assert opened.shred(patience=0.5).gone == ()
        trouble.answers = {"report": lambda *_: scheduled, "destroy": raising(AssertionError())}
        # It is asked again, and is not told to destroy again.
        assert opened.shred(patience=0.5).gone == ()
        (pointer, *_) = case.known.erased
        stated = opened.certificate(pointer).certificate
        assert stated.irrecoverability is Irrecoverability.SCHEDULED
        assert int(stated.generations[0].gone_at.timestamp()) == due
        assert case.faults() == []
        trouble.answers.clear()
        works_again(case, opened, 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_provider_that_denies_is_said_to_and_loses_nothing(
    case: Case, trouble: Trouble, method: str
) -> None:
    with open_vault(case.folder) as opened:
        trouble.answers[method] = raising(ProviderDenied("this role may not do that"))
        result = outcome(lambda: opened.shred(patience=0.5))
        if method in ("destroy", "report"):
            # As it is for permanent records: somebody else destroys their keys.
            assert [one[1:] for one in result.waiting] == [(1, "this role may not do that")]
        else:
            assert isinstance(result, ProviderDenied | Incomplete)
            assert "this role may not do that" in str(result)
        serves(case, opened)
        trouble.answers.clear()
        works_again(case, opened)


@pytest.mark.parametrize("method", METHODS)
def test_a_provider_with_an_error_of_its_own_loses_nothing(
    case: Case, trouble: Trouble, method: str
) -> None:
    with open_vault(case.folder) as opened:
        trouble.answers[method] = raising(ProviderFailed("error 500"))
        result = outcome(lambda: opened.shred(patience=0.5))
        assert "error 500" in str(result)
        serves(case, opened)
        trouble.answers.clear()
        works_again(case, opened)


# A full disk, and a locked database


def with_full_disk(
    pipe: Connection, folder: Path, operations: list[tuple[Any, ...]], limit: int
) -> None:
    """Run operations while no file can grow past a limit, then again without it."""
    with cheap(), open_vault(folder) as vault:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        full = [answer(vault, operation) for operation in operations]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        pipe.send((full, [answer(vault, operation) for operation in operations]))


def test_a_full_disk_stops_with_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """Each limit lets more writes through, so that the disk is full at different points."""
    outcomes: Counter[str] = Counter()
    for kilobytes in (0.1, 1, 200, 300, 400, 600):
        case = make_case(tmp_path / str(kilobytes))
        (goes, reads, *_) = case.living()
        operations = [("get", reads), ("erase", goes), ("shred", 1.0), ("get", reads)]
        worker = Worker(with_full_disk, case.folder, operations, int(kilobytes * 1024))
        full, after = worker.receive()
        assert worker.end() == 0
        # What was said to be in the way may be done all the same, and is then done once.
        assert after[1] is None or after[1].kind == "Erased"
        assert full[0] == full[3] == after[0] == after[3] == case.known.versions[reads][-1]
        case.known.erased.add(goes)
        for (what, *_), result in zip(operations[1:3], full[1:3], strict=True):
            kind = result.kind if isinstance(result, Raised) else "done"
            outcomes[f"{what}: {kind}"] += 1
            if isinstance(result, Raised):
                assert kind in ("Busy", "Incomplete", "ProviderFailed"), result
                assert any(word in result.text for word in ("disk", "written", "restored")), result
        assert not isinstance(after[2], Raised), after
        assert case.unfinished(UNDECLARED, certificates=None) == []
    print(f"\ndisks that are full at six points: {dict(outcomes)}")
    assert outcomes["erase: Busy"] >= 2
    assert outcomes["shred: Busy"] >= 2
    assert outcomes["shred: ProviderFailed"] == 1, "the key file was written on a full disk"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the writer lock of a vault from outside."""
    with closing(sqlite3.connect(folder / "vault.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_database_is_said_to_be_busy_and_nothing_is_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Database.__init__.__kwdefaults__, "busy_seconds", 0.05)
    (goes, *_) = case.living()
    with cheap(), open_vault(case.folder) as opened:
        with locked(case.folder):
            for call in (
                lambda: erase(opened, goes),
                lambda: opened.shred(patience=0.2),
                lambda: put(opened, b"payload"),
            ):
                with pytest.raises(Busy, match="in use by another process"):
                    call()
            assert opened.get(goes) == case.known.versions[goes][-1]
            assert opened.shred_status().step is None
        assert case.faults() == []
        case.erase(opened, goes)
        works_again(case, opened, 1)


def test_a_database_that_is_locked_at_any_step_is_said_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Database.__init__.__kwdefaults__, "busy_seconds", 0.05)
    steps: list[object] = []
    with cheap(), open_vault(make_case(tmp_path / "counted").folder) as opened:
        opened.shred(on_step=steps.append)
    for number, step in enumerate(steps[:-1]):
        case = make_case(tmp_path / str(number))
        with cheap(), open_vault(case.folder) as opened:
            seen: list[object] = []
            lock = locked(case.folder)

            def on_step(
                reached: object, seen: list[object] = seen, lock: Any = lock, number: int = number
            ) -> None:
                seen.append(reached)
                if len(seen) == number + 1:
                    lock.__enter__()

            with pytest.raises(Busy, match="in use by another process"):
                opened.shred(patience=0.5, on_step=on_step)
            assert seen[-1] == step, "it went on under another's lock"
            lock.__exit__(None, None, None)
            assert case.faults() == []
            works_again(case, opened, 1)
