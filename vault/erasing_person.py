"""Erasing a person: every record of one subject, decided one by one, erased in one change (ER4).

Each record gets the decision that a request for it alone would get. What may go goes in one
transaction, so in one epoch; what may not stays, with its article and date, but for its optional
field groups: no duty keeps those, so they go now (D8). With the last record the subject's row goes
and its bucket is re-keyed. Tested in tests/vault/test_erasing_person.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import CORE_GROUP
from policy import Decision, Ground, Outcome
from vault.core import Caller, Core
from vault.destroying import Target, confirm, destroy, destroy_group
from vault.erasing import decide_record
from vault.erasing_group import decide_optional
from vault.errors import NotFound
from vault.groups import find_group, living_groups
from vault.records import COLUMNS, Action, RecordRow
from vault.subjects import ReadKey, encode_subject


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """What was decided about one record of a subject.

    Attributes:
        decision: on the record.
        groups: on each optional field group that it still has, by name; empty where the record
            goes as a whole.
    """

    decision: Decision
    groups: dict[str, Decision] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PersonErasure:
    """What was decided, and done, about every record of a subject.

    Attributes:
        records: by pointer, oldest record first.
        erased_at: Unix seconds, UTC; None where nothing was erased.
        files_clean: whether the database's files hold no former copy any more; see `Erasure`.
    """

    records: dict[str, RecordAnswer]
    erased_at: int | None
    files_clean: bool

    @property
    def is_complete(self) -> bool:
        """Whether no record was refused."""
        return all(one.decision.outcome is Outcome.ALLOWED for one in self.records.values())


@dataclass(frozen=True, slots=True)
class _Part:
    """A record, or one field group of it, with what was decided about it."""

    target: Target
    group: int = CORE_GROUP
    name: str = ""

    @property
    def is_allowed(self) -> bool:
        return self.target.decision.outcome is Outcome.ALLOWED


def decide_person(core: Core, subject: str, ground: Ground, caller: Caller) -> PersonErasure:
    """Return what a request to erase all records of a subject would be answered; changes nothing.

    Raises:
        NotFound: no living record is about this subject.
        PurposeRefused: a record's category does not allow the purpose.
        Damaged: a row on which a decision would rest was changed.
    """
    encoded = encode_subject(subject)
    return core.retried(lambda: _decide_stored(core, encoded, ground, caller))


def erase_person(core: Core, subject: str, ground: Ground, caller: Caller) -> PersonErasure:
    """Erase every record of a subject that law and policy allow to erase, and optional groups.

    Raises:
        NotFound: no living record is about this subject.
        PurposeRefused: a record's category does not allow the purpose; nothing was changed.
        Damaged: a row on which a decision rests was changed; nothing was changed.
        Incomplete: a destruction could not be confirmed afterwards (ER2).
    """
    encoded = encode_subject(subject)
    erased_at = core.clock.now()
    with core.change() as change:
        subject_id = change.subjects.find(encoded)
        parts = _decided(core, change.connection, change.key, subject_id, ground, caller)
        allowed = [part for part in parts if part.is_allowed]
        if allowed:
            act_id = change.act(caller, Action.ERASE, erased_at)
        for part in allowed:
            if part.group == CORE_GROUP:
                destroy(change, part.target, act_id)
            else:
                destroy_group(change, part.target, part.group, act_id)
    if not allowed:
        return PersonErasure(_answers(parts), None, files_clean=True)
    files_clean = core.database.clean_files()
    for group in sorted({part.group for part in allowed}):
        confirm(core, [part.target.record for part in allowed if part.group == group], group)
    return PersonErasure(_answers(parts), erased_at, files_clean)


def _decide_stored(core: Core, subject: bytes, ground: Ground, caller: Caller) -> PersonErasure:
    with core.database.read() as connection:
        state = core.tree.state(connection)
        read_key = core.read_key(connection, state)
        subject_id = core.subject_index(connection, state, read_key).find(subject)
        parts = _decided(core, connection, read_key, subject_id, ground, caller)
    return PersonErasure(_answers(parts), None, files_clean=True)


def _decided(
    core: Core,
    connection: Connection,
    read_key: ReadKey,
    subject_id: int | None,
    ground: Ground,
    caller: Caller,
) -> list[_Part]:
    """Check and decide each record of a subject, and the optional groups of those that stay."""
    parts = []
    for record in _records(connection, subject_id):
        core.require_allowed(record.category, caller.purpose)
        core.record_keys(connection, record, read_key)
        whole = _Part(Target(record, ground, decide_record(core, record, ground)))
        parts.append(whole)
        if whole.is_allowed:
            continue
        decision = decide_optional(core, record, ground, is_erased=False)
        parts += [
            _Part(
                Target(record, ground, decision), find_group(core, connection, record, name), name
            )
            for name in living_groups(connection, record)
        ]
    return parts


def _answers(parts: list[_Part]) -> dict[str, RecordAnswer]:
    answers: dict[str, RecordAnswer] = {}
    for part in parts:
        record, decision = part.target.record.name, part.target.decision
        if part.group == CORE_GROUP:
            answers[record] = RecordAnswer(decision)
        else:
            answers[record].groups[part.name] = decision
    return answers


def _records(connection: Connection, subject_id: int | None) -> list[RecordRow]:
    rows = run(
        connection,
        f"SELECT {COLUMNS} FROM vault_record r WHERE r.subject_id = ? ORDER BY r.id",  # noqa: S608
        (subject_id,),
    ).fetchall()
    if not rows:
        raise NotFound("no living record is about this subject")
    return [RecordRow(*row) for row in rows]
