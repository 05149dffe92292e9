"""Audit of field groups: each part against its key, its entry and what was erased (ER5).

A living part opens and is what the ledger committed to; of an erased one, alone or with its record,
nothing is left but its row. Tested in tests/vault/test_audit_erasures.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from ledger.entry import CORE_GROUP, ERASURES, Entry, EntryKind
from ledger.fault import Fault
from ledger.log import Log
from vault.audit.byrecord import ByRecord
from vault.audit.tree import TreeAudit
from vault.cipher import derive_record_keys
from vault.core import Core
from vault.errors import Damaged
from vault.keynode import SlotState
from vault.keytree import tree_of
from vault.records import RecordRow

_SELECT = (
    "SELECT record_id, number, field_group, name, slot, birth_generation, erased_generation, body"
    " FROM vault_part ORDER BY record_id, field_group, number"
)


class _Part(NamedTuple):
    number: int
    group: int
    name: str
    slot: int
    birth: int
    erased: int | None
    body: bytes | None

    def __str__(self) -> str:
        # Without the name, which may be what was changed.
        return f"version {self.number}, field group {self.group}"


class PartsAudit:
    """Opens every living part of the records that it is given, in the order of their ids.

    Args:
        core: of the open vault.
        connection: one snapshot.
        tree: reads keys from their stored bytes.
    """

    def __init__(self, core: Core, connection: Connection, tree: TreeAudit) -> None:
        self._core = core
        self._tree = tree
        self._rows = ByRecord(connection, _SELECT)
        # Then entries of what was erased can be gone.
        self._is_pruned = Log(connection).first_leaf() > 0
        self.parts_checked = 0

    def check(
        self, where: str, record: RecordRow, entries: Sequence[Entry], has_gaps: Callable[[], bool]
    ) -> Iterator[Fault]:
        """Yield what is wrong with the field groups of a record.

        Args:
            where: names the record.
            record: its row.
            entries: all that the ledger says of it.
            has_gaps: tells whether a restore may have lacked some of its content.
        """
        entries = [entry for entry in entries if entry.group != CORE_GROUP]
        committed = {
            (entry.group, entry.version): entry.body
            for entry in entries
            if entry.kind is EntryKind.VERSION
        }
        erased = {entry.group: entry.version for entry in entries if entry.kind in ERASURES}
        newest: dict[int, int] = {}
        for row in self._rows.of(record.id):
            part = _Part(*row)
            newest[part.group] = part.number
            commitment = committed.pop((part.group, part.number), None)
            if commitment is None and self._is_pruned and part.body is None:
                yield from self._gone(where, part)
                yield from self._generations(where, part)
                continue
            if commitment is None:
                yield Fault(where, f"{part} is not in the ledger")
                continue
            if part.group in erased or record.erased_act is not None:
                yield from self._gone(where, part)
            else:
                yield from self._living(where, record, part, commitment)
            yield from self._generations(where, part)
        lacking = [*_lacking(committed, erased, newest)]
        if lacking and not has_gaps():
            yield from (Fault(where, what) for what in lacking)

    def _generations(self, where: str, part: _Part) -> Iterator[Fault]:
        try:
            newest = self._tree.states[tree_of(part.slot)].generation
        except Damaged as error:
            yield Fault(where, f"{part}: {error}")
            return
        last = newest if part.erased is None else part.erased
        if not 1 <= part.birth <= last <= newest:
            yield Fault(where, f"{part} lived in generations that there were not")

    def _gone(self, where: str, part: _Part) -> Iterator[Fault]:
        if part.body is not None:
            yield Fault(where, f"{part} is left though it was erased")
        if part.erased is None:
            yield Fault(where, f"{part} does not say that its key was erased")
        try:
            state = self._tree.slot_state(part.slot)
        except Damaged as error:
            yield Fault(where, f"{part}: {error}")
            return
        if state is not SlotState.ERASED:
            yield Fault(where, f"{part} was erased but slot {part.slot} is {state.name.lower()}")

    def _living(
        self, where: str, record: RecordRow, part: _Part, commitment: bytes
    ) -> Iterator[Fault]:
        self.parts_checked += 1
        if part.erased is not None:
            yield Fault(where, f"{part} says that its key was erased, the ledger does not")
        category = self._core.config.categories.get(record.category or "")
        if category is not None and category.groups[part.group - 1 : part.group] != (part.name,):
            yield Fault(where, f"{part} has another name than the configuration gives it")
        if part.body is None:
            yield Fault(where, f"LOST: {part} is live but its blob is gone")
            return
        pointer = bytes(record.pointer)
        try:
            keys = derive_record_keys(self._tree.key(part.slot))
            content = self._core.cipher.open(
                keys, pointer, part.number, part.body, group=part.group
            )
        except Damaged as error:
            yield Fault(where, f"{part}: {error}")
            return
        found = self._core.committer.commit(
            keys.commitment, pointer, part.number, content, part.group
        )
        if found != commitment:
            yield Fault(where, f"{part} is not what the ledger committed to")


def _lacking(
    committed: Iterable[tuple[int, int]], erased: Mapping[int, int], newest: Mapping[int, int]
) -> Iterator[str]:
    """Say what the ledger has of field groups that the vault has not.

    Args:
        committed: (group, version) of the entries that no part was found for.
        erased: the last version of each group that was erased by itself.
        newest: the number of the newest part of each group.
    """
    for group, version in committed:
        yield f"version {version} lacks field group {group}, which the ledger has"
    for group, version in erased.items():
        if newest.get(group) != version:
            yield (
                f"the ledger erased field group {group} up to version {version}, the vault has it"
                f" up to {newest.get(group)}"
            )
