"""Two processes on one vault: nobody serves or brings back what the other erased (P2, P5).

One of them has opened key nodes cached from before the other's erasure. The controls take out the
rule that a cached node counts for one sequence of the tree alone, and the compare-and-swap with it:
then the same steps lose a survivor or bring the erased key back, and the check sees it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from guarantees_vault import Known, chosen_seed, erase, new_vault, open_vault, put, query
from guarantees_worker import Operation, Worker, share

from vault import Erased, TreeMoved, Vault, keynode
from vault.keynode import SlotState
from vault.keytree import KeyTree, TreeEdit, TreeState
from vault.rootkeys.provider import TreeNumber

RECORDS = 6
SHARED_RECORDS = 120
PUTS = 80


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_vault(tmp_path / "vault")


@pytest.fixture
def stale(folder: Path) -> Iterator[tuple[Vault, Vault, list[str], Known]]:
    """Two open vaults; the first has every key cached, and the second then erases record 0."""
    with open_vault(folder) as first, open_vault(folder) as second:
        known = Known()
        # All about one person, so that an erasure leaves the keys of the subject index alone.
        payloads = [b"payload %d" % number for number in range(RECORDS)]
        pointers = [put(first, payload) for payload in payloads]
        known.stored(pointers, payloads, "subject")
        for pointer in pointers:
            first.get(pointer)
            second.get(pointer)
        erase(second, pointers[0])
        known.erased.add(pointers[0])
        yield first, second, pointers, known


def slot_state(vault: Vault, pointer: str) -> SlotState:
    """Return the state of a record's slot, read with a tree that has cached nothing."""
    [(slot,)] = query(
        vault,
        "SELECT v.slot FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
        " ORDER BY r.id LIMIT 1",
    )
    tree = KeyTree(TreeNumber.ORDINARY, vault._core.providers)
    with vault._core.database.read() as connection:
        leaf = tree.node(connection, tree.state(connection), (0, slot >> 8))
    return keynode.state_at(leaf, slot & 255)


def damage(folder: Path, known: Known) -> list[str]:
    """Return what a process that starts now finds wrong with a vault."""
    with open_vault(folder) as third:
        return known.damage(third) + [str(fault) for fault in third.audit().faults]


def test_a_stale_process_does_not_serve_what_another_erased(
    stale: tuple[Vault, Vault, list[str], Known],
) -> None:
    first, _, pointers, _ = stale
    with pytest.raises(Erased):
        first.get(pointers[0])
    with pytest.raises(Erased):
        first.rectify(pointers[0], b"back again")
    with pytest.raises(Erased):
        erase(first, pointers[0])
    assert first.find("subject") == pointers[1:]
    assert [first.get(p) for p in pointers[1:]] == [b"payload %d" % n for n in range(1, RECORDS)]


def test_a_stale_process_does_not_write_an_erased_key_back(
    folder: Path, stale: tuple[Vault, Vault, list[str], Known]
) -> None:
    first, second, pointers, known = stale
    known.stored([put(first, b"new")], [b"new"], "subject")
    assert slot_state(second, pointers[0]) is SlotState.ERASED
    first.rectify(pointers[1], b"corrected")
    known.versions[pointers[1]].append(b"corrected")
    erase(first, pointers[2])
    known.erased.add(pointers[2])
    # The other one is now the stale one.
    known.stored([put(second, b"newer", "another")], [b"newer"], "another")
    erase(second, pointers[3])
    known.erased.add(pointers[3])
    for vault in (first, second):
        assert known.damage(vault) == []
        assert slot_state(vault, pointers[0]) is SlotState.ERASED
    assert damage(folder, known) == []


def trust_stale(tree: KeyTree, state: TreeState) -> None:
    """Stand in for `KeyTree._drop_stale`: keep what was cached, whatever the sequence is."""
    tree._label = state.label


def swap_blindly(edit: TreeEdit) -> None:
    """Stand in for `TreeEdit._swap`: write without comparing."""
    edit._connection.exec_driver_sql(
        "UPDATE vault_tree SET sequence = sequence + 1, next_slot = ? WHERE id = 1",
        (edit._next_slot,),
    )


def test_control_trusting_a_stale_cache_loses_the_survivors(
    folder: Path, stale: tuple[Vault, Vault, list[str], Known], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _, known = stale
    with monkeypatch.context() as patched:
        patched.setattr(KeyTree, "_drop_stale", trust_stale)
        patched.setattr(TreeEdit, "_swap", swap_blindly)
        known.stored([put(first, b"new")], [b"new"], "subject")
    found = damage(folder, known)
    lost = sum(line.startswith("lost") for line in found)
    print(f"\ncontrol: a put on a stale cache, {lost} lines of loss, {len(found)} in all")
    assert lost >= RECORDS - 1


def test_control_trusting_a_stale_cache_brings_an_erased_key_back(
    folder: Path, stale: tuple[Vault, Vault, list[str], Known], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, pointers, known = stale
    with monkeypatch.context() as patched:
        patched.setattr(KeyTree, "_drop_stale", trust_stale)
        patched.setattr(TreeEdit, "_swap", swap_blindly)
        erase(first, pointers[2])
    known.erased.add(pointers[2])
    # An erasure re-keys the whole path, so the tree opens and the erased key lives again.
    assert slot_state(second, pointers[0]) is SlotState.LIVE
    found = damage(folder, known)
    assert any("its owner was erased but the slot is live" in line for line in found), found
    print(f"\ncontrol: an erasure on a stale cache brings a key back: {found[0]}")


def test_a_swap_on_a_tree_that_moved_is_refused(
    stale: tuple[Vault, Vault, list[str], Known], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line of defence: without the lock's fresh read, the swap itself says no."""
    first, second, pointers, known = stale
    with second._core.database.read() as connection:
        current = second._core.tree.state(connection)
    outdated = replace(current, sequence=current.sequence - 1)
    with monkeypatch.context() as patched:
        patched.setattr(KeyTree, "state", lambda *_: outdated)
        with pytest.raises(TreeMoved):
            put(first, b"late")
    assert first.find("subject") == pointers[1:]
    assert known.damage(second) == []


def plan(draws: random.Random, name: str, pointers: list[str]) -> list[Operation]:
    """Return what one process does: reads, corrections and erasures of shared records, and puts."""
    operations: list[Operation] = []
    for number, pointer in enumerate(pointers):
        operations.append(("rectify", pointer, f"{name} corrected {number}".encode()))
        operations.append(("get", pointer))
        if number % 2:
            operations.append(("erase", pointer))
            operations.append(("get", pointer))
    operations += [("put", f"of {name}", f"{name} put {n}".encode()) for n in range(PUTS)]
    draws.shuffle(operations)
    return operations


def test_two_processes_interleave_and_nothing_is_lost_or_resurrected(folder: Path) -> None:
    seed = chosen_seed()
    draws = random.Random(seed)
    known = Known()
    with open_vault(folder) as vault:
        for number in range(SHARED_RECORDS):
            payload = b"shared %d" % number
            known.stored([put(vault, payload, "shared")], [payload], "shared")
    pointers = list(known.versions)
    workers = [
        Worker(share, folder, name, plan(draws, name, pointers)) for name in ("one", "other")
    ]
    for worker in workers:
        worker.receive()
    for worker in workers:
        worker.pipe.send("go")
    logs = [worker.receive()[1] for worker in workers]
    for worker in workers:
        worker.end()
    steps = sorted((step for log in logs for step in log), key=lambda step: step[4])
    violations = merge(known, steps)
    overlap = min(log[-1][4] for log in logs) - max(log[0][3] for log in logs)
    violations += damage(folder, known)
    lost = sum(line.startswith("lost") for line in violations)
    back = sum(line.startswith("resurrected") for line in violations)
    counts = Counter(step[0] for step in steps)
    print(
        f"\nseed {seed}: {len(steps)} operations of 2 processes ({dict(counts)}), both at work"
        f" for {overlap:.1f} s: {lost} lost, {back} resurrected, {len(known.erased)} erased"
    )
    assert violations == []
    assert len(known.erased) == SHARED_RECORDS // 2
    assert overlap > 0, "the processes ran one after the other"


def merge(known: Known, steps: list[tuple]) -> list[str]:
    """Put the logs of two processes together; return what no order of their steps explains."""
    corrections: dict[str, dict[int, bytes]] = {pointer: {} for pointer in known.versions}
    erased_at: dict[str, float] = {}
    violations = [f"lost: {s[0]} failed: {s[2]!r}" for s in steps if isinstance(s[2], Exception)]
    done = [step for step in steps if step[2] != "erased" and not isinstance(step[2], Exception)]
    for kind, rest, result, _, ended in done:
        if kind == "put":
            known.stored([result], [rest[1]], rest[0])
        elif kind == "rectify":
            if result in corrections[rest[0]]:
                violations.append(f"lost: two corrections became version {result}")
            corrections[rest[0]][result] = rest[1]
        elif kind == "erase":
            if rest[0] in erased_at:
                violations.append(f"resurrected: {rest[0]} was erased twice")
            erased_at[rest[0]] = ended
    known.erased |= erased_at.keys()
    for pointer, numbered in corrections.items():
        if sorted(numbered) != list(range(2, len(numbered) + 2)):
            violations.append(f"lost: {pointer} was told the versions {sorted(numbered)}")
        known.versions[pointer] += [numbered[number] for number in sorted(numbered)]
    return violations + unexplained(known, done, erased_at)


def unexplained(known: Known, steps: list[tuple], erased_at: dict[str, float]) -> list[str]:
    """Return the answers that came after an erasure had returned, or that nobody ever stored."""
    violations = []
    for kind, rest, result, began, _ in steps:
        if kind not in ("get", "rectify"):
            continue
        if began > erased_at.get(rest[0], float("inf")):
            violations.append(f"resurrected: {kind} of {rest[0]} after its erasure gave {result!r}")
        elif kind == "get" and result not in known.versions[rest[0]]:
            violations.append(f"lost: {rest[0]} gave {result!r}, which nobody stored")
    return violations


def test_the_merged_check_sees_a_read_after_an_erasure() -> None:
    known = Known()
    known.stored(["p"], [b"payload"], "subject")
    steps = [
        ("erase", ["p"], "done", 1.0, 2.0),
        ("get", ["p"], b"payload", 1.5, 2.5),  # Began before the erasure had returned.
        ("get", ["p"], b"payload", 3.0, 4.0),
        ("rectify", ["p", b"more"], 2, 5.0, 6.0),
    ]
    assert len(merge(known, steps)) == 2
