"""Erasing a person: every record of one subject, decided one by one, erased in one change (ER4).

Each record gets the decision that a request for it alone would get. What may go goes in one
transaction, so in one epoch; what may not stays, with its article and date. With the last record
the subject's row goes and its bucket is re-keyed. Tested in tests/vault/test_erasing_person.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.driver import run
from policy import Decision, Ground, Outcome
from vault.core import Caller, Change, Core
from vault.destroying import Target, confirm, destroy
from vault.erasing import decide_record
from vault.errors import NotFound
from vault.records import COLUMNS, Action, RecordRow
from vault.subjects import encode_subject


@dataclass(frozen=True, slots=True)
class PersonErasure:
    """What was decided, and done, about every record of a subject.

    Attributes:
        decisions: by pointer, oldest record first.
        erased_at: Unix seconds, UTC; None where nothing was erased.
        files_clean: whether the database's files hold no former copy any more; see `Erasure`.
    """

    decisions: dict[str, Decision]
    erased_at: int | None
    files_clean: bool

    @property
    def is_complete(self) -> bool:
        """Whether nothing was refused."""
        return all(one.outcome is Outcome.ALLOWED for one in self.decisions.values())


def decide_person(core: Core, subject: str, ground: Ground, caller: Caller) -> PersonErasure:
    """Return what a request to erase all records of a subject would be answered; changes nothing.

    Raises:
        NotFound: no living record is about this subject.
        PurposeRefused: a record's category does not allow the purpose.
        Damaged: a row on which a decision would rest was changed.
    """
    encoded = encode_subject(subject)
    with core.database.read() as connection:
        state = core.tree.state(connection)
        read_key = core.read_key(connection, state)
        subject_id = core.subject_index(connection, state, read_key).find(encoded)
        decisions = {}
        for record in _records(connection, subject_id):
            core.require_allowed(record.category, caller.purpose)
            core.record_keys(connection, record, read_key)
            decisions[record.name] = decide_record(core, record, ground)
    return PersonErasure(decisions, None, files_clean=True)


def erase_person(core: Core, subject: str, ground: Ground, caller: Caller) -> PersonErasure:
    """Erase every record of a subject that law and policy allow to erase.

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
        records = _records(change.connection, subject_id)
        targets = [_target(core, change, record, ground, caller) for record in records]
        allowed = [one for one in targets if one.decision.outcome is Outcome.ALLOWED]
        if allowed:
            act_id = change.act(caller, Action.ERASE, erased_at)
            for target in allowed:
                destroy(change, target, act_id)
    decisions = {target.record.name: target.decision for target in targets}
    if not allowed:
        return PersonErasure(decisions, None, files_clean=True)
    files_clean = core.database.clean_files()
    confirm(core, [target.record for target in allowed])
    return PersonErasure(decisions, erased_at, files_clean)


def _target(
    core: Core, change: Change, record: RecordRow, ground: Ground, caller: Caller
) -> Target:
    core.require_allowed(record.category, caller.purpose)
    core.record_keys(change.connection, record, change.key)
    return Target(record, ground, decide_record(core, record, ground))


def _records(connection: Connection, subject_id: int | None) -> list[RecordRow]:
    rows = run(
        connection,
        f"SELECT {COLUMNS} FROM vault_record r WHERE r.subject_id = ? ORDER BY r.id",  # noqa: S608
        (subject_id,),
    ).fetchall()
    if not rows:
        raise NotFound("no living record is about this subject")
    return [RecordRow(*row) for row in rows]
