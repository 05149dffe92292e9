"""Audit of records: blobs against keys, commitments against the ledger, rows against their tags.

A restore can find entries of records, or of versions, that no backup held. Their pointers stand in
`vault_lost`: such a record may lack its row, or the content of single versions, and nothing else.

What a duty keeps and was stored behind the founding entry has the governed mark in the ledger. The
rules cannot tell, since no category stands there; whoever made the vault forget for a moment that
it is governed could erase the record without a list (GO2).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import (
    CORE_GROUP,
    ERASURES,
    GOVERNANCE_POINTER,
    Entry,
    EntryKind,
    parse_entry,
)
from ledger.errors import LedgerError, Malformed
from ledger.fault import Fault
from ledger.log import Log
from ledger.pointer import format_pointer
from ledger.tiles import TILE_WIDTH
from vault.audit.erasures import ErasuresAudit
from vault.audit.parts import PartsAudit
from vault.audit.tree import TreeAudit
from vault.cipher import RecordKeys, Sealed, derive_record_keys
from vault.core import Core
from vault.errors import Damaged
from vault.keynode import SlotState
from vault.keytree import tree_of
from vault.records import COLUMNS, RecordRow

_CACHED_BUNDLES = 512


class RecordsAudit:
    """Opens every living version and looks up every entry.

    Args:
        core: of the open vault.
        connection: one snapshot.
        tree: reads keys from their stored bytes.
    """

    def __init__(self, core: Core, connection: Connection, tree: TreeAudit) -> None:
        self._core = core
        self._connection = connection
        self._tree = tree
        self._log = Log(connection)
        self._pending: dict[bytes, list[Entry]] = {}
        self._bundle = lru_cache(_CACHED_BUNDLES)(self._log.bundle)
        # Below this leaf only kept entries are left: those of living records, and certificates.
        self._first_leaf = self._log.first_leaf()
        self._founding = next(iter(self._log.leaves_of(GOVERNANCE_POINTER)), None)
        self.parts = PartsAudit(core, connection, tree)
        self.erasures = ErasuresAudit(connection)
        self.versions_checked = 0
        self.tombstones_checked = 0

    def run(self) -> Iterator[Fault]:
        """Yield what is wrong."""
        for _, data in self._connection.exec_driver_sql("SELECT id, entry FROM ledger_pending"):
            try:
                entry = parse_entry(bytes(data))
            except Malformed:
                continue  # The ledger's own check names it.
            self._pending.setdefault(entry.pointer, []).append(entry)
        seen_entries = 0
        last_record = None
        for row in self._connection.exec_driver_sql(
            "SELECT v.number, v.slot, v.body, v.birth_generation, v.erased_generation,"  # noqa: S608
            f" {COLUMNS}"
            " FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
            " ORDER BY v.record_id, v.number"
        ):
            number, slot, body, *generations = row[:5]
            record = RecordRow(*row[5:])
            where = f"record {format_pointer(bytes(record.pointer))}"
            entries = self._entries(record, where)
            if isinstance(entries, Fault):
                yield entries
                continue
            if record.id != last_record:
                last_record = record.id
                seen_entries += len(entries)
                yield from self._whole_record(where, record, entries)
                yield from self.erasures.check(where, record, entries)
                has_gaps = partial(self._has_gaps, record)
                yield from self.parts.check(where, record, entries, has_gaps)
            if record.erased_act is None:
                yield from self._living(where, record, number, slot, body, entries)
            else:
                yield from self._erased(where, number, slot, body)
            yield from self._generations(where, record, number, slot, generations)
        yield from self._totals(seen_entries)

    def _entries(self, record: RecordRow, where: str) -> list[Entry] | Fault:
        pointer = bytes(record.pointer)
        try:
            found = [
                parse_entry(
                    self._log.entry(leaf)
                    if leaf < self._first_leaf
                    else self._bundle(leaf // TILE_WIDTH)[leaf % TILE_WIDTH]
                )
                for leaf in self._log.leaves_of(pointer)
            ]
        except (LedgerError, IndexError) as error:
            return Fault(where, f"its entries cannot be read: {error}")
        return found + self._pending.get(pointer, [])

    def _whole_record(self, where: str, record: RecordRow, entries: list[Entry]) -> Iterator[Fault]:
        core = [entry for entry in entries if entry.group == CORE_GROUP]
        numbers = [entry.version for entry in core if entry.kind is EntryKind.VERSION]
        if not self._agree(record, numbers):
            yield Fault(where, f"has version {record.current}, the ledger says {numbers}")
        erasures = [entry.version for entry in core if entry.kind in ERASURES]
        expected = [[]] if record.erased_act is None else [[record.current]]
        if self._first_leaf and not numbers:
            expected.append([])  # With an erasure entry that was pruned, all versions went.
        if erasures not in expected:
            yield Fault(where, "the vault and the ledger differ on whether it was erased")
        yield from self._mark(where, record, core)
        if record.erased_act is None:
            yield from self._holds(where, record)
            return
        self.tombstones_checked += 1
        left = (
            record.category,
            record.retention,
            record.record_date,
            record.brondatum,
            record.subject_id,
            record.import_slot,
            record.row_tag,
        )
        held = self._connection.exec_driver_sql(
            "SELECT 1 FROM vault_hold WHERE record_id = ? LIMIT 1", (record.id,)
        ).scalar()
        if any(value is not None for value in left) or record.on_hold or held is not None:
            yield Fault(where, "more than a tombstone is left of an erased record")

    def _mark(self, where: str, record: RecordRow, core: list[Entry]) -> Iterator[Fault]:
        if self._founding is None or not core or core[0].kind is not EntryKind.VERSION:
            return
        if core[0].governed or self._retention(record) is None:
            return
        leaves = self._log.leaves_of(bytes(record.pointer))
        if not leaves or leaves[0] > self._founding:
            yield Fault(where, "a duty keeps it, but in the ledger it has no governed mark")

    def _retention(self, record: RecordRow) -> str | None:
        """Return the duty of a record; of an erased one, as its erasure has it."""
        if record.erased_act is None:
            return record.retention
        found = self._connection.exec_driver_sql(
            "SELECT retention FROM vault_erasure WHERE record_id = ? AND field_group = ?",
            (record.id, CORE_GROUP),
        ).scalar()
        return None if found is None else str(found)

    def _agree(self, record: RecordRow, numbers: list[int]) -> bool:
        """Tell whether the ledger has the versions of a record; of an erased one, the last ones."""
        first = 1
        if record.erased_act is not None and self._first_leaf:
            first = record.current - len(numbers) + 1
        # As many as the ledger has: a row whose number was changed can say any.
        end = first + len(numbers)
        return numbers == list(range(first, end)) and end == record.current + 1

    def _generations(
        self,
        where: str,
        record: RecordRow,
        number: int,
        slot: int,
        generations: list[int | None],
    ) -> Iterator[Fault]:
        # What a certificate will list: from birth to erasure, each must be gone (P2).
        birth, erased = generations
        newest = self._tree.states[tree_of(slot)].generation
        if birth is None or not 1 <= birth <= (newest if erased is None else erased) <= newest:
            yield Fault(where, f"version {number} lived in generations that there were not")
        if (erased is None) != (record.erased_act is None) and not self._is_lost(record):
            yield Fault(where, f"version {number} does not say rightly whether its key was erased")

    def _living(
        self,
        where: str,
        record: RecordRow,
        number: int,
        slot: int,
        body: bytes | None,
        entries: list[Entry],
    ) -> Iterator[Fault]:
        if not 1 <= number <= record.current:
            return  # Named where the versions are counted.
        if body is None:
            if number != record.current and self._is_lost(record):
                yield from self._erased(where, number, slot, body)
            else:
                yield Fault(where, f"LOST: version {number} is live but its blob is gone")
            return
        self.versions_checked += 1
        try:
            keys = derive_record_keys(self._tree.key(slot))
            payload = self._core.cipher.open(keys, bytes(record.pointer), number, body)
            if number == record.current:
                record.check_tag(keys)
        except Damaged as error:
            yield Fault(where, f"version {number}: {error}")
            return
        commitment = self._core.committer.commit(
            keys.commitment, bytes(record.pointer), number, payload
        )
        if commitment not in [
            entry.body
            for entry in entries
            if (entry.kind, entry.group, entry.version) == (EntryKind.VERSION, CORE_GROUP, number)
        ]:
            yield Fault(where, f"version {number} is not what the ledger committed to")
        if record.category not in self._core.config.categories:
            yield Fault(where, "its category is not configured any more")

    def _erased(self, where: str, number: int, slot: int, body: bytes | None) -> Iterator[Fault]:
        if body is not None:
            yield Fault(where, f"version {number} is left of an erased record")
        try:
            state = self._tree.slot_state(slot)
        except Damaged as error:
            yield Fault(where, f"version {number}: {error}")
            return
        if state is not SlotState.ERASED:
            yield Fault(
                where, f"version {number} was erased but slot {slot} is {state.name.lower()}"
            )

    def _holds(self, where: str, record: RecordRow) -> Iterator[Fault]:
        rows = self._connection.exec_driver_sql(
            "SELECT h.version, h.reason, v.slot FROM vault_hold h"
            " JOIN vault_version v ON v.record_id = h.record_id AND v.number = h.version"
            " WHERE h.record_id = ?",
            (record.id,),
        ).all()
        if bool(rows) != bool(record.on_hold):
            yield Fault(where, "its hold and the reason of it do not go together")
        for version, reason, slot in rows:
            try:
                keys: RecordKeys = derive_record_keys(self._tree.key(slot))
                self._core.cipher.open(keys, bytes(record.pointer), version, reason, Sealed.NOTE)
            except Damaged as error:
                yield Fault(where, f"the reason of its hold: {error}")

    def _has_gaps(self, record: RecordRow) -> bool:
        """Tell whether a restore may have lacked some of a record's content."""
        if record.erased_act is not None and self.erasures.is_replayed(record):
            return True
        return self._is_lost(record)

    def _is_lost(self, record: RecordRow) -> bool:
        """Tell whether a restore lacked some of a record's versions."""
        found = self._connection.exec_driver_sql(
            "SELECT 1 FROM vault_lost WHERE pointer = ?", (record.pointer,)
        )
        return found.scalar() is not None

    def _lost(self, entries: list[int]) -> Iterator[Fault]:
        """Count the entries of records of which a restore found no row."""
        for (pointer,) in self._connection.exec_driver_sql(
            "SELECT pointer FROM vault_lost WHERE pointer NOT IN (SELECT pointer FROM vault_record)"
        ):
            known = bytes(pointer)
            count = len(self._log.leaves_of(known)) + len(self._pending.get(known, []))
            entries.append(count)
            if not count and not self._first_leaf:
                yield Fault(f"record {format_pointer(known)}", "is called lost but was never there")

    def _entries_of_none(self) -> int:
        """Return how many entries are of no record: of destroyed key trees and of governance."""
        return sum(
            len(self._log.leaves_of(pointer)) + len(self._pending.get(pointer, []))
            for pointer in (self._core.tenant, GOVERNANCE_POINTER)
        )

    def _totals(self, seen_entries: int) -> Iterator[Fault]:
        kept = run(
            self._connection,
            "SELECT count(*) FROM ledger_kept WHERE leaf < ?",
            (self._first_leaf,),
        ).fetchone()[0]
        known = self._log.head().size - self._first_leaf + kept
        known += sum(len(entries) for entries in self._pending.values())
        known -= self._entries_of_none()
        lost: list[int] = []
        yield from self._lost(lost)
        known -= sum(lost)
        if seen_entries != known:
            yield Fault(
                "records", f"the ledger has {known} entries, the vault's records {seen_entries}"
            )
        # No two versions of a record share a number, so bounds and count leave no gap.
        for pointer, current, count in self._connection.exec_driver_sql(
            "SELECT r.pointer, r.current, count(v.id) FROM vault_record r"
            " LEFT JOIN vault_version v ON v.record_id = r.id GROUP BY r.id"
            " HAVING count(v.id) <> r.current OR min(v.number) <> 1 OR max(v.number) <> r.current"
        ):
            yield Fault(
                f"record {format_pointer(bytes(pointer))}",
                f"has version {current}, but {count} are stored or they are numbered otherwise",
            )
