"""Erasing a record that stands on an enacted destruction list (GO2, ER1, D9).

The list is what the decision table waits for in D9. Nothing else about the decision is taken from
it: when a record is erased, its date and its holds are looked at anew, so one that was listed
too early, or on which a hold was placed since, stays. The certificate names the list and the role
keys that approved it. Tested in tests/vault/test_governed_lists.py.
"""

from __future__ import annotations

from ledger.driver import run
from ledger.entry import CORE_GROUP
from ledger.pointer import parse_pointer
from policy import Ground, Outcome
from vault.core import Caller, Core
from vault.destroying import Target, confirm, destroy
from vault.erasing import Erasure, decide_record, erased_before
from vault.errors import Erased, ListNeeded, Refused
from vault.listing import approvers_of, membership_of
from vault.reading import living_record
from vault.records import Action

_ALLOWING = frozenset({Outcome.ALLOWED, Outcome.QUEUED})


def erase_listed(core: Core, pointer_text: str, ground: Ground, caller: Caller) -> Erasure:
    """Erase a record that stands on an enacted list.

    Raises:
        Erased: it was erased before (D2).
        Refused: it may not be erased now, list or no list; carries the decision.
        ListNeeded: it stands on no enacted list.
        PurposeRefused: its category does not allow the purpose.
        Incomplete: the destruction could not be confirmed afterwards (ER2).
    """
    pointer = parse_pointer(pointer_text)
    try:
        return _erase_living(core, pointer, ground, caller)
    except Erased:
        raise erased_before(core, pointer, ground) from None


def _erase_living(core: Core, pointer: bytes, ground: Ground, caller: Caller) -> Erasure:
    erased_at = core.clock.now()
    with core.change() as change:
        connection = change.connection
        record, _ = living_record(core, connection, change.key, pointer, caller)
        decision = decide_record(core, record, ground)
        if decision.outcome not in _ALLOWING:
            raise Refused(record.name, decision)
        membership = membership_of(connection, pointer)
        if membership is None:
            raise ListNeeded(record.name)
        act_id = change.act(caller, Action.ERASE, erased_at)
        versions = destroy(change, Target(record, ground, decision, membership), act_id)
        run(
            connection,
            "UPDATE vault_erasure SET approvers = ? WHERE record_id = ? AND field_group = ?",
            (approvers_of(connection, membership.sequence), record.id, CORE_GROUP),
        )
    files_clean = core.database.clean_files()
    confirm(core, [record])
    generation = change.edit.state.generation
    return Erasure(record.name, decision, versions, erased_at, generation, files_clean)
