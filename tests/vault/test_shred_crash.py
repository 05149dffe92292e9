"""A shred that is cut off anywhere ends in one outcome when it is run again (P5, ER8).

A process is killed with SIGKILL from within each step of a shred and of a move to another provider,
and at random moments of erasures and shreds. Then each call to a provider and each commit of a
shred fails once without having been done and once after it was done. After each of these no
survivor is lost and no erased record comes back; once the shred has been run again, each generation
that was left is gone with one entry in the ledger, each erasure has one certificate more than it
had, and the audit finds nothing. `make soak` kills 100 times more; DATAKLUIS_SEED repeats a plan.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from guarantees_vault import chosen_seed, open_vault, outcome
from guarantees_worker import Message, Worker
from shred_worker import (
    KILLED,
    Act,
    Case,
    Death,
    Raised,
    cheap,
    derive_once,
    die_at_step,
    generations,
    in_memory,
    make_case,
    work_on,
)

import vault.generations
from policy.certificate_parts import Irrecoverability
from vault import (
    Busy,
    Erased,
    NewPlace,
    ProviderKind,
    ProviderUnreachable,
    ShredStep,
    VaultError,
    keyfile,
)
from vault.database import Database
from vault.generations import GenerationState
from vault.rootkeys.provider import RootKeyProvider

UNDECLARED, CONFIRMED = Irrecoverability.NOT_DECLARED, Irrecoverability.CONFIRMED
# Both trees come to each step, and both are certified at once.
DEATHS = [Death(step, number) for step in ShredStep for number in (1, 2)][:-1]
CALLS = ("make_key", "wrap", "unwrap", "destroy", "report")


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each key file once at its cost, and then without."""
    monkeypatch.setattr(keyfile, "_derive", derive_once)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def kill(case: Case, act: Act, death: Death, environment: Mapping[str, str] | None = None) -> None:
    """Have a process do something and die at a step, and check what it leaves."""
    worker = Worker(die_at_step, case.folder, act, death, dict(environment or {}))
    assert (worker.rest(), worker.end()) == ([], KILLED), death
    assert case.faults() == []


def finish(case: Case, act: Act | None = None, *, real_rehearsal: bool = False) -> None:
    """Run it again, in this process, until nothing is left to do."""
    with cheap(real_rehearsal=real_rehearsal), open_vault(case.folder) as vault:
        report = (act or Act()).run(vault)
        assert report.waiting == ()


# Killed in each step


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_a_shred_killed_in_any_step_has_one_outcome(tmp_path: Path, death: Death) -> None:
    case = make_case(tmp_path / "case", permanent=True)
    kill(case, Act(), death)
    # One of two real processes is enough to see that each step can be gone on from with one.
    finish(case, real_rehearsal=death.time == 1)
    assert case.unfinished(UNDECLARED) == []
    with open_vault(case.folder) as after:
        assert [one.number for one in generations(after)] == [1, 2, 1, 2], "moved on more than once"
        assert after.declare_no_copies("J. de Boer") == 2
    assert case.unfinished(CONFIRMED, certificates=2) == []


def test_a_shred_killed_in_every_step_one_after_the_other_has_one_outcome(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    kills = 0
    for step in ShredStep:
        kill(case, Act(), Death(step))
        kills += 1
    finish(case, real_rehearsal=True)
    assert case.unfinished(UNDECLARED) == []
    with open_vault(case.folder) as after:
        assert [one.number for one in generations(after)] == [1, 2, 1]
    print(f"\n{kills} kills of one shred, one after the other: 0 lost, 0 resurrected")


@pytest.mark.parametrize("step", list(ShredStep), ids=str)
def test_a_move_killed_in_any_step_has_one_outcome(
    tmp_path: Path, softhsm: dict[str, str], step: ShredStep
) -> None:
    case = make_case(tmp_path / "case")
    environment = {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}
    move = Act(NewPlace(ProviderKind.PKCS11, softhsm))
    kill(case, move, Death(step), environment)
    finish(case, move)
    # The erasures lay under the key file, so that a copy of it must be declared away.
    assert case.unfinished(UNDECLARED) == []
    with open_vault(case.folder) as after:
        assert [one.reference.partition("-")[0] for one in generations(after)] == [
            "root",
            "datakluis",
            "permanent",
        ]
        (pointer, *_) = case.living()
        case.erase(after, pointer)
        with cheap():
            assert after.shred().irrecoverable == 0
        assert after.certificate(pointer).certificate.generations[-1].provider == "pkcs11"


@pytest.mark.parametrize("step", [ShredStep.PREPARED, ShredStep.FENCED, ShredStep.DESTROYED])
def test_a_move_back_to_files_killed_in_a_step_has_one_outcome(
    tmp_path: Path, softhsm: dict[str, str], step: ShredStep
) -> None:
    case = make_case(tmp_path / "case")
    finish(case, Act(NewPlace(ProviderKind.PKCS11, softhsm)))
    with open_vault(case.folder) as before:
        # Somebody of whom another record stays, so that nothing older goes with it.
        later = case.put(before, b"born in the token", "subject 4")
        case.erase(before, later)
    back = Act(NewPlace(ProviderKind.FILE, {}))
    kill(case, back, Death(step), {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]})
    finish(case, back, real_rehearsal=True)
    with open_vault(case.folder) as after:
        assert [one.state for one in generations(after)][:2] == [GenerationState.GONE] * 2
        assert after.certificate(later).certificate.irrecoverability is CONFIRMED
        after.declare_no_copies("J. de Boer")
    assert case.unfinished(CONFIRMED, certificates=None) == []


def test_a_move_whose_new_keeper_is_lost_halfway_keeps_nothing_waiting(
    tmp_path: Path, softhsm: dict[str, str]
) -> None:
    """Killed once the new root key was made there; then its PIN is gone for good."""
    case = make_case(tmp_path / "case")
    move = Act(NewPlace(ProviderKind.PKCS11, softhsm))
    environment = {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}
    kill(case, move, Death(ShredStep.PREPARED), environment)
    Path(softhsm["pin_file"]).unlink()
    with cheap(), open_vault(case.folder) as vault:
        assert isinstance(outcome(lambda: move.run(vault)), VaultError)
    assert case.faults() == []
    finish(case)
    assert case.unfinished(UNDECLARED) == []
    with open_vault(case.folder) as after:
        assert [one.reference for one in generations(after)][:2] == ["root-1.key", "root-2.key"]


# Killed at random


class Hammer:
    """Kills processes that erase and shred on one vault, which goes on from kill to kill."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.case = make_case(folder)
        self.random = random.Random(seed)
        self.killed_in: Counter[str] = Counter()
        self.kills = 0
        self.faults: list[str] = []
        self.seconds = {"put": 0.02, "erase": 0.03, "shred": 0.15}

    def kill_one(self, kind: str, *, real_rehearsal: bool) -> None:
        """Kill a process in or near an operation of a kind, then look at what is left."""
        case, name = self.case, f"killed {self.kills}"
        with open_vault(case.folder) as vault:
            for number in range(2):
                case.put(vault, f"{name}.{number}".encode(), f"{name}.{number}")
        goes, *_ = self.random.sample(case.living(), 2)
        operations = {
            "erase": [("erase", goes), ("shred",)],
            "shred": [("erase", goes), ("shred",), ("put", name, b"payload")],
            "put": [("shred",), ("put", name, b"payload"), ("erase", goes)],
        }[kind]
        target = next(n for n, operation in enumerate(operations) if operation[0] == kind)
        worker = Worker(work_on, case.folder, operations, real_rehearsal)
        messages: list[Message] = [worker.receive()]
        while messages[-1] != ("begin", target):
            messages.append(worker.receive())
        seconds = self.seconds[kind] + (0.7 if real_rehearsal and kind == "shred" else 0)
        time.sleep(self.random.uniform(0, 1.1) * seconds)
        messages += worker.kill()
        self.kills += 1
        self._learn(operations, messages, real_rehearsal=real_rehearsal)
        self.faults += case.faults()

    def _learn(
        self, operations: list[Any], messages: list[Message], *, real_rehearsal: bool
    ) -> None:
        unfinished = None
        for what, number, *rest in messages:
            kind, *arguments = operations[number]
            if what == "begin":
                unfinished = operations[number]
                continue
            unfinished = None
            if isinstance(rest[0], Raised):
                self.faults.append(f"{kind} failed: {rest[0]}")
            if not real_rehearsal:
                self.seconds[kind] = 0.7 * self.seconds[kind] + 0.3 * rest[1]
            if kind == "erase":
                self.case.known.erased.add(arguments[0])
            elif kind == "put":
                self.case.known.stored([rest[0]], [arguments[1]], arguments[0])
        if unfinished is not None:
            self.killed_in[unfinished[0]] += 1
            self._settle(*unfinished)

    def _settle(self, kind: str, *arguments: Any) -> None:
        """Take over what became of the operation that was cut off: all of it or nothing."""
        with open_vault(self.case.folder) as vault:
            if kind == "erase" and isinstance(outcome(lambda: vault.get(arguments[0])), Erased):
                self.case.known.erased.add(arguments[0])
            elif kind == "put":
                for pointer in vault.find(arguments[0]):
                    self.case.known.stored([pointer], [arguments[1]], arguments[0])


def hammer(folder: Path, kills: int, seed: int, real_every: int) -> Hammer:
    """Kill a number of times, mostly in shreds, and shred for good at the end."""
    one = Hammer(folder, seed)
    kinds = ("shred", "erase", "shred", "shred", "put")
    for number in range(kills):
        one.kill_one(kinds[number % len(kinds)], real_rehearsal=number % real_every == 0)
    finish(one.case, real_rehearsal=True)
    one.faults += one.case.unfinished(UNDECLARED)
    return one


def tell(hammers: list[Hammer], seed: int) -> None:
    """Print what became of the kills, and fail for anything lost, resurrected or undone."""
    faults = [line for one in hammers for line in one.faults]
    inside = sum((one.killed_in for one in hammers), Counter())
    counts = {what: sum(line.startswith(what) for line in faults)
              for what in ("lost", "resurrected", "half-done", "undone")}  # fmt: skip
    erased = sum(len(one.case.known.erased) for one in hammers)
    survivors = sum(len(one.case.known.living()) for one in hammers)
    kills = sum(one.kills for one in hammers)
    print(
        f"\nseed {seed}: {kills} kills, {counts['lost']} of {survivors} lost,"
        f" {counts['resurrected']} of {erased} resurrected, {counts['half-done']} half-done,"
        f" {counts['undone']} undone; inside an operation: {dict(inside)}"
    )
    assert faults == []
    assert inside["shred"] > 0, "no kill came into a shred"


def test_erasures_and_shreds_killed_at_random_have_one_outcome(tmp_path: Path) -> None:
    seed = chosen_seed()
    tell([hammer(tmp_path / "case", 20, seed, real_every=7)], seed)


@pytest.mark.soak
def test_erasures_and_shreds_killed_100_times_have_one_outcome(tmp_path: Path) -> None:
    seed = chosen_seed()
    tell([hammer(tmp_path / f"case-{n}", 25, seed + n, real_every=2) for n in range(4)], seed)


# Each call to a provider and each commit fails


class Failing:
    """Makes one chosen call fail, before or after it was done, and counts all of them.

    Attributes:
        counts: how many calls of each name there were.
    """

    def __init__(self, name: str = "", number: int = 0, when: str = "") -> None:
        self.chosen = name, number
        self.when = when
        self.counts: Counter[str] = Counter()

    def fails(self, name: str, when: str) -> bool:
        """Tell whether the present call of a name fails."""
        return self.chosen == (name, self.counts[name]) and when == self.when


class FailingProvider:
    """A provider of which one call fails."""

    def __init__(self, provider: RootKeyProvider, failing: Failing) -> None:
        self._provider, self._failing = provider, failing

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._provider, name)
        if name not in CALLS:
            return attribute

        def call(*arguments: object) -> object:
            self._failing.counts[name] += 1
            if self._failing.fails(name, "before"):
                raise ProviderUnreachable("no answer, and nothing done")
            result = attribute(*arguments)
            if self._failing.fails(name, "after"):
                raise ProviderUnreachable("no answer, though it is done")
            return result

        return call


def failing_calls(patch: pytest.MonkeyPatch, failing: Failing) -> None:
    """Make the providers fail."""
    real = vault.generations.open_provider
    patch.setattr(
        vault.generations, "open_provider", lambda *given: FailingProvider(real(*given), failing)
    )


def failing_commits(patch: pytest.MonkeyPatch, failing: Failing) -> None:
    """Make the commits fail."""
    real = Database.write

    @contextmanager
    def write(database: Database) -> Iterator[Any]:
        failing.counts["commit"] += 1
        with real(database) as connection:
            yield connection
            if failing.fails("commit", "before"):
                raise Busy("the disk is full, and nothing is written")
        if failing.fails("commit", "after"):
            raise Busy("no answer, though it is written")

    patch.setattr(Database, "write", write)


def run_with(
    case: Case, inject: Callable[[pytest.MonkeyPatch, Failing], None], failing: Failing
) -> object:
    """Shred in a process's memory of its own, with something failing; return what came of it."""
    with open_vault(case.folder) as vault, pytest.MonkeyPatch.context() as patch, cheap():
        vault._core.providers._opened.clear()
        inject(patch, failing)
        return outcome(lambda: vault.shred(patience=1.0))


@pytest.mark.parametrize("inject", [failing_calls, failing_commits])
def test_a_shred_in_which_anything_fails_once_has_one_outcome(
    tmp_path: Path, inject: Callable[[pytest.MonkeyPatch, Failing], None]
) -> None:
    clean = make_case(tmp_path / "clean")
    counted = Failing()
    assert not isinstance(run_with(clean, inject, counted), VaultError)
    assert clean.unfinished(UNDECLARED) == []
    wanted = set(CALLS) if inject is failing_calls else {"commit"}
    assert set(counted.counts) == wanted
    raised: Counter[str] = Counter()
    for name, total in counted.counts.items():
        for number in range(1, total + 1):
            for when in ("before", "after"):
                where = f"{name} {number} {when}"
                case = make_case(tmp_path / where)
                result = run_with(case, inject, Failing(name, number, when))
                raised[type(result).__name__] += 1
                assert case.faults() == [], where
                finish(case)
                assert case.unfinished(UNDECLARED, certificates=None) == [], where
                with open_vault(case.folder) as after:
                    assert [one.number for one in generations(after)] == [1, 2, 1], where
    points = sum(counted.counts.values())
    print(
        f"\n{points} points, each failing before and after: 0 lost, 0 resurrected; {dict(raised)}"
    )
    assert set(raised) <= {"Busy", "Incomplete", "ProviderUnreachable", "ShredReport"}


def test_the_check_sees_what_a_shred_left_undone(tmp_path: Path) -> None:
    """The control: the check is not empty for a vault that nobody shredded, or that lost a key."""
    case = make_case(tmp_path / "case")
    found = case.unfinished(UNDECLARED)
    assert any("resurrected: a copy from before" in line for line in found)
    assert sum("undone: erasure" in line for line in found) == 3
    finish(case)
    assert case.unfinished(UNDECLARED) == []
    with open_vault(case.folder) as opened, opened._core.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM vault_certificate WHERE erasure_id = 1")
        connection.exec_driver_sql("UPDATE vault_generation SET state = 'closed' WHERE number = 1")
    found = case.faults()
    assert any("lacks certificate" in line for line in found)
    assert any("half-done: gone are" in line for line in found)
    assert any("wrapped key or not" in line for line in found)
