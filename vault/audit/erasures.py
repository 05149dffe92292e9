"""Audit of erasures: what the vault says of each, against the keys, the ledger and certificates.

Of each erasure that the ledger knows, of a record or of a field group, the vault has one row that
says why it was made and in which generations its keys lay; certificates are written from it. Each
certificate has an entry with its SHA-256, and says what the row says. A restore replays erasures
without knowing why they were made, and can lack certificates that were issued after its backup:
after one, the vault may have less than the ledger, never more. Tested in
tests/vault/test_audit_erasures.py.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import CORE_GROUP, ERASURES, Entry, EntryKind
from ledger.fault import Fault
from ledger.log import Log
from vault.audit.byrecord import ByRecord
from vault.certifying import executor_name
from vault.errors import Damaged
from vault.keytree import tree_of
from vault.records import Action, RecordRow
from vault.rootkeys.provider import TreeNumber

_SELECT = (
    "SELECT e.record_id, e.id, e.field_group, e.tree, e.born, e.erased, e.index_born, e.act_id,"
    " e.ground, e.code, e.article, e.rule_version, e.retention, e.archiefactiedatum, e.approvers,"
    " r.ground, a.at, a.actor FROM vault_erasure e JOIN vault_record r ON r.id = e.record_id"
    " JOIN vault_act a ON a.id = e.act_id ORDER BY e.record_id, e.field_group"
)
# The keys of a record, each with its field group.
_KEYS = (
    "SELECT slot, birth_generation, erased_generation, 0 FROM vault_version WHERE record_id = ?"
    " UNION ALL SELECT slot, birth_generation, erased_generation, field_group FROM vault_part"
    " WHERE record_id = ?"
)


class _Row(NamedTuple):
    id: int
    group: int
    tree: int
    born: int
    erased: int
    index_born: int | None
    act_id: int
    ground: str
    code: str
    article: str
    rule_version: str
    retention: str | None
    archiefactiedatum: str | None
    approvers: str | None
    record_ground: str | None
    at: int
    actor: str

    def __str__(self) -> str:
        return _name(self.group)


class ErasuresAudit:
    """Checks the erasures of the records that it is given, in the order of their ids.

    Args:
        connection: one snapshot.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = ByRecord(connection, _SELECT)
        # Then entries of what was erased can be gone.
        self._is_pruned = Log(connection).first_leaf() > 0
        self.certificates_checked = 0

    @cached_property
    def _restored(self) -> bool:
        """Whether this vault was ever restored."""
        found = run(
            self._connection, "SELECT 1 FROM vault_act WHERE action = ? LIMIT 1", (Action.RESTORE,)
        )
        return found.fetchone() is not None

    def is_replayed(self, record: RecordRow) -> bool:
        """Tell whether a restore erased a record because the ledger said so."""
        found = run(
            self._connection,
            "SELECT 1 FROM vault_act WHERE id = ? AND action = ?",
            (record.erased_act, Action.RESTORE),
        )
        return found.fetchone() is not None

    def check(self, where: str, record: RecordRow, entries: Sequence[Entry]) -> Iterator[Fault]:
        """Yield what is wrong with what the vault says of the erasures of a record.

        Args:
            where: names the record.
            record: its row.
            entries: all that the ledger says of it.
        """
        erased = {entry.group for entry in entries if entry.kind in ERASURES}
        rows = [_Row(*columns) for columns in self._rows.of(record.id)]
        if self._is_pruned:
            # With an erasure entry that was pruned, all versions went.
            left = {entry.group for entry in entries if entry.kind is EntryKind.VERSION}
            erased |= {row.group for row in rows} - left
        alone = erased - {CORE_GROUP}
        issued: dict[int, dict[int, bytes]] = {}
        for entry in entries:
            if entry.kind is EntryKind.CERTIFICATE:
                issued.setdefault(entry.group, {})[entry.version] = entry.body
        for row in rows:
            if row.group not in erased:
                yield Fault(where, f"the vault has an erasure of {row}, the ledger has none")
                continue
            erased.remove(row.group)
            yield from self._row(where, record, row, alone)
            yield from self._certificates(where, record, row, issued.pop(row.group, {}))
        for group in sorted(erased):
            if not self._may_lack(record, group):
                yield Fault(where, f"nothing says why {_name(group)} was erased")
        for group in sorted(issued):
            if group in erased and self._may_lack(record, group):
                continue
            yield Fault(where, f"the vault lacks the certificates of {_name(group)}")

    def _may_lack(self, record: RecordRow, group: int) -> bool:
        return self.is_replayed(record) if group == CORE_GROUP else self._restored

    def _row(self, where: str, record: RecordRow, row: _Row, alone: Set[int]) -> Iterator[Fault]:
        keys = run(self._connection, _KEYS, (record.id, record.id)).fetchall()
        own = [key for key in keys if row.group in (CORE_GROUP, key[3])]
        # With a record go its keys but those of field groups that went before.
        together = {key[2] for key in own if key[3] == row.group or key[3] not in alone}
        # With the last record of a subject, an older key goes: the one that indexed the subject.
        born = min((key[1] for key in own), default=0)
        is_old = 1 <= row.born <= born if row.group == CORE_GROUP else row.born == born
        places = {_tree_or_none(key[0]) for key in own}
        if self._restored:
            # Versions that no backup held ended when the vault was restored.
            together = {max(together, default=0)}
        if not is_old or (places, together) != ({row.tree}, {row.erased}):
            yield Fault(where, f"the erasure of {row} names other generations than its keys had")
        if row.group == CORE_GROUP and (row.act_id, row.ground) != (
            record.erased_act,
            row.record_ground,
        ):
            yield Fault(where, "its erasure and its tombstone name another act or ground")

    def _certificates(
        self, where: str, record: RecordRow, row: _Row, issued: dict[int, bytes]
    ) -> Iterator[Fault]:
        rows = run(
            self._connection,
            "SELECT number, status, irrecoverability, document FROM vault_certificate"
            " WHERE erasure_id = ? ORDER BY number",
            (row.id,),
        ).fetchall()
        for number, status, irrecoverability, document in rows:
            self.certificates_checked += 1
            what = f"certificate {number} of {row}"
            digest = issued.pop(number, None)
            if digest is None:
                yield Fault(where, f"{what} is not in the ledger")
            elif hashlib.sha256(document).digest() != digest:
                yield Fault(where, f"{what} is not the one whose SHA-256 the ledger has")
            else:
                for fault in self._differences(record, row, document, (status, irrecoverability)):
                    yield Fault(where, f"{what} states {fault} than the vault")
        if issued and not self._restored:
            missing = ", ".join(str(number) for number in sorted(issued))
            yield Fault(where, f"the vault lacks certificate {missing} of {row}")

    def _differences(
        self, record: RecordRow, row: _Row, document: bytes, state: tuple[str, str]
    ) -> Iterator[str]:
        """Yield what a certificate states otherwise; its bytes are those of the ledger's entry."""
        stated = json.loads(document)["certificate"]
        generations = stated["generations"]
        span = generations[0]["number"], generations[-1]["number"]
        compared = {
            "another record": (stated["pointer"], record.name),
            "another status": ((stated["status"], stated["irrecoverability"]), state),
            "other generations": (span, (row.index_born or row.born, row.erased)),
            "another ground": (stated["ground"]["name"], row.ground),
            "another decision": (
                tuple(stated["decision"].values()),
                (row.code, row.article, row.rule_version),
            ),
            "another duty to keep": (_duty(stated["retention"]), _stored_duty(row)),
            "other approvers": (
                [list(one.values()) for one in stated["approvers"]],
                json.loads(row.approvers or "[]"),
            ),
            "another executor": (stated["executor"], executor_name(row.actor)),
            "another moment": (stated["erased_at"], _moment(row.at)),
            "other field groups": (stated["field_groups"], self._names(record, row.group)),
        }
        for name, (one, other) in compared.items():
            if one != other:
                yield name

    def _names(self, record: RecordRow, group: int) -> list[str]:
        rows = run(
            self._connection,
            "SELECT DISTINCT name FROM vault_part WHERE record_id = ? AND field_group = ?",
            (record.id, group),
        )
        return [name for (name,) in rows.fetchall()]


def _tree_or_none(slot: int) -> TreeNumber | None:
    try:
        return tree_of(slot)
    except Damaged:
        return None


def _name(group: int) -> str:
    return "the record" if group == CORE_GROUP else f"field group {group}"


def _duty(retention: Mapping[str, Any] | None) -> tuple[object, ...] | None:
    if retention is None:
        return None
    return (
        retention["list_version"],
        retention["result"],
        retention["archiefactiedatum"],
    )


def _stored_duty(row: _Row) -> tuple[object, ...] | None:
    if row.retention is None:
        return None
    version, code, _ = row.retention.split(" ")
    return version, code, row.archiefactiedatum


def _moment(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
