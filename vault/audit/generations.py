"""Audit of generations: what the vault says of its root keys, against its trees and the ledger.

Each tree is in one generation, the newest that is open. Those before were left, one after it may be
prepared. Of each that is gone, and of no other, the ledger has one entry; only of one that is gone
can anybody have declared that no copy exists. A restore can bring back rows that are older or newer
than the ledger: after one, that comparison is left out. Tested in tests/vault/test_generations.py
and tests/vault/test_tamper.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import EntryKind, parse_entry, pointer_of
from ledger.errors import Malformed
from ledger.fault import Fault
from ledger.log import Log
from vault.audit.tree import TreeAudit
from vault.core import Core
from vault.errors import Damaged
from vault.generations import Generation, GenerationState, load_generations, load_provider
from vault.records import Action
from vault.rootkeys.provider import TreeNumber

_LEFT = frozenset({GenerationState.CLOSED, GenerationState.SCHEDULED, GenerationState.GONE})


class GenerationsAudit:
    """Checks the rows that say what became of each root key.

    Args:
        core: of the open vault.
        connection: one snapshot.
        tree: says in which generation each tree is.
    """

    def __init__(self, core: Core, connection: Connection, tree: TreeAudit) -> None:
        self._core = core
        self._connection = connection
        self._tree = tree

    def run(self) -> Iterator[Fault]:
        """Yield what is wrong."""
        gone: Counter[tuple[int, int]] = Counter()
        for number in TreeNumber:
            generations = load_generations(self._connection, number)
            gone.update(
                (number, one.number) for one in generations if one.state is GenerationState.GONE
            )
            yield from self._numbers(number, [one.number for one in generations])
            for one in generations:
                for fault in self._row(one, self._tree.states[number].generation):
                    yield Fault(_name(number, one.number), fault)
        for found in run(self._connection, "SELECT tree, generation FROM vault_declaration"):
            if found not in gone:
                yield Fault(_name(*found), "is declared to have no copies but is not gone")
        yield from self._shreds()
        if not self._restored():
            yield from self._entries(gone)

    def _numbers(self, tree: TreeNumber, numbers: list[int]) -> Iterator[Fault]:
        if numbers != list(range(1, len(numbers) + 1)):
            yield Fault(f"generations of tree {tree}", f"are numbered {numbers}")

    def _row(self, one: Generation, current: int) -> Iterator[str]:
        if one.number > current:
            expected = one.state is GenerationState.PREPARED and one.number == current + 1
        elif one.number == current:
            expected = one.state is GenerationState.OPEN
        else:
            expected = one.state in _LEFT
        if not expected:
            yield f"is {one.state}, the tree is in generation {current}"
        if (one.wrapped is None) is not (one.state is GenerationState.GONE):
            yield f"is {one.state}, which its wrapped epoch key contradicts"
        times = {
            "closed": (one.closed_at, one.state in _LEFT),
            "destroyed": (one.destroyed_at, one.state is GenerationState.GONE),
            "due to be destroyed": (one.gone_at, one.state is GenerationState.SCHEDULED),
        }
        for what, (at, is_due) in times.items():
            if (at is not None) is not is_due:
                yield f"is {one.state} but the time when it was {what} says otherwise"
        try:
            load_provider(self._connection, one.provider_id)
        except Damaged as error:
            yield str(error)

    def _shreds(self) -> Iterator[Fault]:
        for (shred,) in run(
            self._connection,
            "SELECT s.id FROM vault_shred s LEFT JOIN vault_generation g"
            " ON g.tree = s.tree AND g.number = s.opened JOIN vault_act a ON a.id = s.act_id"
            " WHERE g.number IS NULL OR s.opened < 2 OR a.action NOT IN (?, ?)",
            (Action.SHRED, Action.MOVE),
        ):
            yield Fault(f"shred {shred}", "names a generation or an act that it cannot be of")
        if self._restored():
            return
        for tree, number in run(
            self._connection,
            "SELECT g.tree, g.number FROM vault_generation g LEFT JOIN vault_shred s"
            " ON s.tree = g.tree AND s.opened = g.number WHERE s.id IS NULL AND g.number > 1",
        ):
            yield Fault(_name(tree, number), "was opened by no shred")

    def _entries(self, gone: Counter[tuple[int, int]]) -> Iterator[Fault]:
        told: Counter[tuple[int, int]] = Counter()
        for data in self._of_tenant():
            try:
                entry = parse_entry(data)
            except Malformed:
                continue  # The ledger's own check names it.
            if entry.kind is EntryKind.SHRED:
                told[entry.group, entry.version] += 1
            else:
                yield Fault("generations", "an entry of another kind has the name of the tenant")
        for one in sorted(told.keys() | gone.keys()):
            if told[one] != gone[one]:
                yield Fault(_name(*one), f"is gone: the ledger says so {told[one]} times,"
                            f" the vault {gone[one]}")  # fmt: skip

    def _of_tenant(self) -> Iterator[bytes]:
        log = Log(self._connection)
        for leaf in log.leaves_of(self._core.tenant):
            yield log.entry(leaf)
        for (data,) in run(self._connection, "SELECT entry FROM ledger_pending"):
            if pointer_of(bytes(data)) == self._core.tenant:
                yield bytes(data)

    def _restored(self) -> bool:
        found = run(
            self._connection, "SELECT 1 FROM vault_act WHERE action = ? LIMIT 1", (Action.RESTORE,)
        )
        return found.fetchone() is not None


def _name(tree: int, number: int) -> str:
    return f"generation {number} of tree {tree}"
