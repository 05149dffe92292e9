"""Replaying the ledger onto restored rows: what was erased is erased again, before anybody reads.

One change of the assembled vault (`vault.core.Core.change`), in this order:

    1. buckets     a bucket of the subject index whose key was erased gets a new one. Its subject
                   rows do not open any more, so each gets a stand-in for its subject, "unknown
                   subject" and the row's number: records keep their grouping and are found under it
    2. imports     a run whose key was erased loses its name
    3. erasures    a record goes when the ledger says that it was erased, or when all of its keys
                   were erased: keys, bodies, the row but its tombstone, its subject with the last
                   record. The ledger gets an entry only where it has none
    4. groups      a field group goes likewise
    5. versions    of which the ledger knows and no backup has the content. A tombstone gets them as
                   erased versions. Of a living record the newest content that is left becomes the
                   next version: what the history says is then true, and no number is used twice
    6. lost        pointers of which the ledger knows and that no row has
    7. ownerless   every live key that no row owns is erased, so that nothing opens by it later

An erasure that is replayed gets no row in `vault_erasure`: on what ground it was made and by whom
stands in the certificate, of which the ledger has the digest, and nothing is made up here. Its
`erased_act` is the restore. Tested in tests/vault/test_restore.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run, run_many
from ledger.entry import CORE_GROUP, ERASURES, EntryKind, encode_version
from ledger.log import Log, append_pending
from ledger.pointer import format_pointer
from vault import keynode
from vault.backup.assembling import entries_of
from vault.cipher import NONCE_BYTES, derive_record_keys
from vault.core import Caller, Change, Core
from vault.destroying import key_slots
from vault.errors import Damaged
from vault.keynode import FANOUT, KEY_BYTES, SlotState
from vault.keytree import TreeEdit, first_slot, tree_of
from vault.listing import append_erasure, is_governed, membership_of
from vault.records import (
    COLUMNS,
    Action,
    RecordRow,
    insert_versions,
    load_versions,
)
from vault.rootkeys.provider import TreeNumber
from vault.subjects import bucket_of

STAND_IN = "unknown subject {}"
FINDINGS = Path("restored.txt")
_USABLE = frozenset({SlotState.LIVE, SlotState.PERMANENT})
_BATCH = 10_000
# Slots whose owner lives.
_OWNED = (
    "SELECT slot FROM vault_version WHERE body IS NOT NULL"
    " UNION ALL SELECT slot FROM vault_part WHERE body IS NOT NULL"
    " UNION ALL SELECT slot FROM vault_bucket UNION ALL SELECT slot FROM vault_import"
)
# What the ledger says of each field group of each record, which keys are gone, whose subject is
# not known: for one restore.
_SCRATCH = (
    "CREATE TEMP TABLE said (pointer BLOB NOT NULL, field_group INTEGER NOT NULL,"
    " versions INTEGER NOT NULL, entries INTEGER NOT NULL, erased INTEGER NOT NULL,"
    " PRIMARY KEY (pointer, field_group)) WITHOUT ROWID",
    "CREATE TEMP TABLE dead (slot INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE unknown (subject_id INTEGER PRIMARY KEY)",
)
# Living records that the ledger calls erased, or of which no key is left; the first say 1.
_TO_ERASE = (
    "SELECT r.id, coalesce(s.erased, 0) FROM vault_record r"
    " LEFT JOIN said s ON s.pointer = r.pointer AND s.field_group = 0"
    " WHERE r.erased_act IS NULL AND (coalesce(s.erased, 0) = 1 OR 1 ="
    # NULL where it has no content at all: that is a fault, which the audit names.
    " (SELECT min(v.slot IN (SELECT slot FROM dead)) FROM vault_version v"
    " WHERE v.record_id = r.id AND v.body IS NOT NULL))"
)
_LOST = (
    "FROM said s WHERE s.field_group = 0"
    " AND NOT EXISTS (SELECT 1 FROM vault_record r WHERE r.pointer = s.pointer)"
    " AND NOT EXISTS (SELECT 1 FROM vault_lost l WHERE l.pointer = s.pointer)"
)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        erasures: records that the data had and the ledger calls erased.
        erased_in_keys: records that the ledger given does not call erased, but whose keys are.
        groups: field groups that were erased by themselves.
        lost: living records that the ledger has and the data has not.
        outdated: records of which the ledger has a newer version; the older one is current again.
        unfindable: living records whose subject is not known any more; see `STAND_IN`.
    """

    erasures: int
    erased_in_keys: int
    groups: int
    lost: int
    outdated: int
    unfindable: int


def replay(core: Core, caller: Caller) -> Replayed:
    """Bring restored rows to what the ledger and the keys say, in one transaction.

    What cannot be told in numbers is written to `FINDINGS` in the vault's folder: one line for each
    record that is lost, outdated or unfindable, with its pointer.

    Args:
        core: of the assembled vault.
        caller: who restores.

    Raises:
        Damaged: a row, a node or a blob does not fit the rest.
    """
    with core.change() as change:
        act_id = change.act(caller, Action.RESTORE, core.clock.now())
        return _Replay(core, change, act_id).run()


class _Replay:
    """One replay inside a change."""

    def __init__(self, core: Core, change: Change, act_id: int) -> None:
        self._core = core
        self._change = change
        self._connection: Connection = change.connection
        self._act = act_id
        self._next_slots = {tree: change.edit_of(tree).state.next_slot for tree in TreeNumber}
        self._outdated: list[bytes] = []

    def run(self) -> Replayed:
        self._look()
        self._renew_buckets()
        run(self._connection, "DELETE FROM vault_import WHERE slot IN (SELECT slot FROM dead)")
        erasures, erased_in_keys = self._erase_records()
        groups = self._erase_groups()
        self._fill_versions()
        with (self._core.folder / FINDINGS).open("x", encoding="utf-8") as findings:
            (self._core.folder / FINDINGS).chmod(0o600)
            findings.writelines(self._findings())
            is_empty = not findings.tell()
            findings.flush()
            os.fsync(findings.fileno())
        if is_empty:
            (self._core.folder / FINDINGS).unlink()
        lost = self._note_lost()
        unfindable = self._one(
            "SELECT count(*) FROM vault_record WHERE subject_id IN (SELECT subject_id FROM unknown)"
        )
        self._erase_ownerless()
        for table in ("said", "dead", "unknown"):
            run(self._connection, f"DROP TABLE temp.{table}")
        return Replayed(erasures, erased_in_keys, groups, lost, len(self._outdated), unfindable)

    def _look(self) -> None:
        """Note what the ledger says of each record, and which owned slots hold no key."""
        for statement in _SCRATCH:
            run(self._connection, statement)
        run_many(
            self._connection,
            "INSERT INTO said VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " versions = max(versions, excluded.versions), entries = entries + excluded.entries,"
            " erased = max(erased, excluded.erased)",
            (
                (entry.pointer, entry.group, entry.version, not is_erasure, is_erasure)
                for _, entry in entries_of(self._connection)
                if entry.kind is EntryKind.VERSION or entry.kind in ERASURES
                for is_erasure in [entry.kind in ERASURES]
            ),
        )
        # A changed number could ask for any number of versions to be filled in. A prune took some
        # entries, and never more of one record than it took in all.
        (wrong,) = run(
            self._connection,
            "SELECT count(*) FROM said WHERE field_group = 0"
            " AND versions - entries NOT BETWEEN 0 AND ?",
            (Log(self._connection).first_leaf(),),
        ).fetchone()
        if wrong:
            raise Damaged("the ledger numbers the versions of a record out of their order")
        owned = self._connection.exec_driver_sql(f"{_OWNED} ORDER BY 1").scalars()
        run_many(
            self._connection,
            "INSERT INTO dead VALUES (?)",
            ((slot,) for slot in owned if self._state(slot) is SlotState.ERASED),
        )

    def _renew_buckets(self) -> None:
        numbers = [
            row[0]
            for row in run(
                self._connection,
                "SELECT number FROM vault_bucket WHERE slot IN (SELECT slot FROM dead)",
            ).fetchall()
        ]
        for number in numbers:
            slot = self._change.edit.add([os.urandom(KEY_BYTES)])
            run(
                self._connection,
                "UPDATE vault_bucket SET slot = ?, birth = ? WHERE number = ?",
                (slot, self._change.edit.state.generation, number),
            )
        subjects = [
            (subject_id,)
            for number in numbers
            for subject_id, _, _ in self._change.subjects.members(number)
        ]
        run_many(self._connection, "INSERT INTO unknown VALUES (?)", subjects)
        run_many(
            self._connection,
            "UPDATE vault_subject SET bucket = ?, tag = ?, sealed = ? WHERE id = ?",
            (self._stand_in(subject_id) for (subject_id,) in subjects),
        )

    def _stand_in(self, subject_id: int) -> tuple[int, bytes, bytes, int]:
        index = self._change.subjects
        subject = STAND_IN.format(subject_id).encode()
        place = bucket_of(subject, index.bucket_count)
        keys = index.keys(place)
        sealed = keys.seal_subject(subject_id, subject, os.urandom(NONCE_BYTES))
        return place, keys.tag_of(subject), sealed, subject_id

    def _erase_records(self) -> tuple[int, int]:
        """Erase what is to be erased; return how many the ledger says, and how many it does not."""
        said = unsaid = 0
        for record_id, is_said in run(self._connection, _TO_ERASE).fetchall():
            record = self._record(record_id)
            self._erase_record(record)
            if is_said:
                said += 1
            else:
                unsaid += 1
                pointer = bytes(record.pointer)
                place = membership_of(self._connection, pointer)
                append_erasure(self._connection, pointer, record.current, membership=place)
        return said, unsaid

    def _erase_record(self, record: RecordRow) -> None:
        connection = self._connection
        slots = [key.slot for key in key_slots(connection, record.id) if key.has_body]
        self._erase(slots)
        for table in ("vault_version", "vault_part"):
            run(
                connection,
                f"UPDATE {table} SET body = NULL, erased_generation ="  # noqa: S608
                " (SELECT generation FROM vault_tree WHERE id = 1 + (slot >> 32))"
                " WHERE record_id = ? AND body IS NOT NULL",
                (record.id,),
            )
        run(connection, "DELETE FROM vault_hold WHERE record_id = ?", (record.id,))
        run(
            connection,
            "UPDATE vault_record SET category = NULL, retention = NULL, record_date = NULL,"
            " brondatum = NULL, subject_id = NULL, import_slot = NULL, on_hold = 0, row_tag = NULL,"
            " ground = NULL, erased_act = ? WHERE id = ?",
            (self._act, record.id),
        )
        self._forget(record)

    def _forget(self, record: RecordRow) -> None:
        """Let go of a record's subject, if it was the last one, and of its import run."""
        others = run(
            self._connection,
            "SELECT 1 FROM vault_record WHERE subject_id = ? LIMIT 1",
            (record.subject_id,),
        ).fetchone()
        if record.subject_id is not None and others is None:
            self._change.subjects.forget(self._change.edit, record.subject_id)
        slot = record.import_slot
        if run(self._connection, "DELETE FROM vault_import WHERE slot = ?", (slot,)).rowcount:
            self._change.edit.erase([slot or 0])

    def _erase_groups(self) -> int:
        """Erase the field groups of living records that the ledger calls erased, or whose keys are.

        The ledger gets an entry where it has none.
        """
        rows = run(
            self._connection,
            "SELECT r.id, r.pointer, max(p.number), p.field_group, coalesce(s.erased, 0)"
            " FROM vault_part p JOIN vault_record r ON r.id = p.record_id"
            " LEFT JOIN said s ON s.pointer = r.pointer AND s.field_group = p.field_group"
            " WHERE p.body IS NOT NULL GROUP BY r.id, p.field_group"
            " HAVING coalesce(s.erased, 0) = 1 OR min(p.slot IN (SELECT slot FROM dead)) = 1",
        ).fetchall()
        for record_id, pointer, last, group, is_said in rows:
            slots = run(
                self._connection,
                "SELECT slot FROM vault_part WHERE record_id = ? AND field_group = ?"
                " AND body IS NOT NULL",
                (record_id, group),
            ).fetchall()
            self._erase(slot for (slot,) in slots)
            run(
                self._connection,
                "UPDATE vault_part SET body = NULL, erased_generation ="
                " (SELECT generation FROM vault_tree WHERE id = 1 + (slot >> 32))"
                " WHERE record_id = ? AND field_group = ? AND body IS NOT NULL",
                (record_id, group),
            )
            if not is_said:
                append_erasure(self._connection, bytes(pointer), last, group)
        return len(rows)

    def _fill_versions(self) -> None:
        rows = run(
            self._connection,
            "SELECT r.id, s.versions FROM vault_record r JOIN said s ON s.pointer = r.pointer"
            " WHERE s.field_group = ? AND s.versions > r.current",
            (CORE_GROUP,),
        ).fetchall()
        for record_id, known in rows:
            record = self._record(record_id)
            tree = tree_of(load_versions(self._connection, record_id)[0].slot)
            for number in range(record.current + 1, known + 1):
                slot, generation = self._add(tree, os.urandom(KEY_BYTES))
                self._erase([slot])
                insert_versions(
                    self._connection, [(record_id, number, slot, generation, self._act, None)]
                )
            run(
                self._connection,
                "UPDATE vault_version SET erased_generation = birth_generation"
                " WHERE record_id = ? AND number > ?",
                (record_id, record.current),
            )
            if record.erased_act is None:
                self._reestablish(record, tree, known + 1)
            else:
                run(
                    self._connection,
                    "UPDATE vault_record SET current = ? WHERE id = ?",
                    (known, record_id),
                )

    def _reestablish(self, record: RecordRow, tree: TreeNumber, number: int) -> None:
        """Store a record's newest content that is left as a new version."""
        core, connection, pointer = self._core, self._connection, bytes(record.pointer)
        old_keys = core.record_keys(connection, record, self._change.key)
        (body,) = run(
            connection,
            "SELECT body FROM vault_version WHERE record_id = ? AND number = ?",
            (record.id, record.current),
        ).fetchone()
        payload = core.cipher.open(old_keys, pointer, record.current, body)
        slot_key = os.urandom(KEY_BYTES)
        keys = derive_record_keys(slot_key)
        sealed = core.cipher.seal(keys, pointer, number, payload, os.urandom(NONCE_BYTES))
        slot, generation = self._add(tree, slot_key)
        insert_versions(connection, [(record.id, number, slot, generation, self._act, sealed)])
        run(
            connection,
            "UPDATE vault_record SET current = ?, row_tag = ? WHERE id = ?",
            (number, record._replace(current=number).tag(keys), record.id),
        )
        commitment = core.committer.commit(keys.commitment, pointer, number, payload)
        is_marked = is_governed(connection, pointer)
        entry = encode_version(pointer, number, commitment, governed=is_marked)
        append_pending(connection, [entry])
        run(
            connection,
            "INSERT INTO vault_lost (pointer, act_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (pointer, self._act),
        )
        self._outdated.append(pointer)

    def _findings(self) -> Iterator[str]:
        for (pointer,) in run(self._connection, f"SELECT s.pointer {_LOST} AND s.erased = 0"):
            yield f"lost {format_pointer(pointer)}\n"
        for pointer in self._outdated:
            yield f"outdated {format_pointer(pointer)}\n"
        for pointer, subject_id in run(
            self._connection,
            "SELECT pointer, subject_id FROM vault_record"
            " WHERE subject_id IN (SELECT subject_id FROM unknown) ORDER BY subject_id, id",
        ):
            yield f"unfindable {format_pointer(pointer)} {STAND_IN.format(subject_id)}\n"

    def _note_lost(self) -> int:
        """Store the pointers that no row has, and return how many of them were not erased."""
        living = self._one(f"SELECT count(*) {_LOST} AND s.erased = 0")
        run(
            self._connection,
            f"INSERT INTO vault_lost (pointer, act_id) SELECT s.pointer, ? {_LOST}",
            (self._act,),
        )
        return living

    def _erase_ownerless(self) -> None:
        for tree, end in self._next_slots.items():
            start = first_slot(tree)
            owned = self._connection.exec_driver_sql(
                f"SELECT slot FROM ({_OWNED}) WHERE slot >= ? AND slot < ? ORDER BY 1",  # noqa: S608
                (start, end),
            ).scalars()
            owner = next(owned, None)
            ownerless = []
            for slot in range(start, end):
                if slot == owner:
                    owner = next(owned, None)
                elif self._state(slot) in _USABLE:
                    ownerless.append(slot)
            self._erase(ownerless)

    def _erase(self, slots: Iterable[int]) -> None:
        """Erase those of the slots that still hold a key."""
        for slot in slots:
            state = self._state(slot)
            if state is SlotState.PERMANENT:
                self._edit(slot).erase_permanent([slot])
            elif state is not SlotState.ERASED:
                self._edit(slot).erase([slot])

    def _add(self, tree: TreeNumber, key: bytes) -> tuple[int, int]:
        """Put a key into a fresh slot, and return that and the tree's generation."""
        edit = self._change.edit_of(tree)
        return edit.add([key]), edit.state.generation

    def _state(self, slot: int) -> SlotState:
        edit, name = self._edit(slot), (0, slot >> 8)
        leaf = edit.nodes.get(name) or edit.tree.node(self._connection, edit.state, name)
        return keynode.state_at(leaf, slot & (FANOUT - 1))

    def _edit(self, slot: int) -> TreeEdit:
        return self._change.edit_of(tree_of(slot))

    def _record(self, record_id: int) -> RecordRow:
        row = run(
            self._connection,
            f"SELECT {COLUMNS} FROM vault_record r WHERE r.id = ?",  # noqa: S608
            (record_id,),
        ).fetchone()
        return RecordRow(*row)

    def _one(self, statement: str) -> int:
        return int(run(self._connection, statement).fetchone()[0])
