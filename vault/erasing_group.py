"""Erasing one optional field group of a record, while its core stays (ER5).

No duty keeps an optional group: it is what D8 calls excess fields. So the decision is made without
a retention rule: a hold holds it, a group that is gone answers D2, an order or a claim of unlawful
processing goes the way of D2b and D5, and anything else is D10. The group goes in all versions, in
one transaction, and is read back as the erasure of a record is (vault/erasing.py); the next shred
certifies it by its name. Tested in tests/vault/test_field_groups.py.
"""

from __future__ import annotations

from contextlib import suppress

from ledger.errors import LedgerError
from ledger.log import Log
from ledger.pointer import parse_pointer
from policy import Decision, ErasureFacts, Ground, Outcome, decide
from vault.checkpointing import integrate_pending
from vault.core import Caller, Core
from vault.destroying import Target, confirm, destroy_group
from vault.erasing import Erasure
from vault.errors import Erased, Refused
from vault.groups import find_group, group_erased_error, newest_part
from vault.keytree import tree_of
from vault.reading import erased_error, erasure_leaf, living_record
from vault.records import Action, RecordRow, load_record


def decide_group(
    core: Core, pointer_text: str, name: str, ground: Ground, caller: Caller
) -> Decision:
    """Return what a request to erase a field group would be answered today; changes nothing.

    Raises:
        NotFound: no such record, or it came without this group.
        InvalidInput: its category has no such group.
        PurposeRefused: its category does not allow the purpose.
        Damaged: the row on which the decision would rest was changed.
    """
    pointer = parse_pointer(pointer_text)
    return core.retried(lambda: _decide_stored(core, pointer, name, ground, caller))


def _decide_stored(
    core: Core, pointer: bytes, name: str, ground: Ground, caller: Caller
) -> Decision:
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        core.require_allowed(record.category, caller.purpose)
        if record.erased_act is None:
            core.record_keys(connection, record, core.read_key(connection))
        group = find_group(core, connection, record, name)
        part = newest_part(connection, record, group, name)
    return decide_optional(core, record, ground, is_erased=part.erased_generation is not None)


def erase_group(
    core: Core, pointer_text: str, name: str, ground: Ground, caller: Caller
) -> Erasure:
    """Erase one field group of a record, in all versions.

    Raises:
        NotFound: no such record, or it came without this group.
        InvalidInput: its category has no such group.
        Erased: it was erased before (D2), alone or with its record.
        Refused: it may not be erased; carries the decision. Nothing was changed.
        PurposeRefused: its category does not allow the purpose.
        Incomplete: the destruction could not be confirmed afterwards (ER2).
    """
    pointer = parse_pointer(pointer_text)
    try:
        return _erase_living(core, pointer, name, ground, caller)
    except Erased as error:
        # A signer that refuses this database is no reason to withhold the answer.
        with suppress(LedgerError):
            integrate_pending(core)
        raise _erased_before(core, pointer, ground, error) from None


def erasure_index(core: Core, pointer_text: str, name: str) -> int | None:
    """Return the leaf of a field group's erasure entry, or None while there is none."""
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        group = find_group(core, connection, record, name)
        return erasure_leaf(Log(connection), pointer, group)


def _erase_living(core: Core, pointer: bytes, name: str, ground: Ground, caller: Caller) -> Erasure:
    erased_at = core.clock.now()
    with core.change() as change:
        record, _ = living_record(core, change.connection, change.key, pointer, caller)
        group = find_group(core, change.connection, record, name)
        part = newest_part(change.connection, record, group, name)
        if part.erased_generation is not None:
            raise group_erased_error(change.connection, record, group, name)
        decision = decide_optional(core, record, ground, is_erased=False)
        if decision.outcome is not Outcome.ALLOWED:
            raise Refused(record.name, decision)
        act_id = change.act(caller, Action.ERASE, erased_at)
        versions = destroy_group(change, Target(record, ground, decision), group, act_id)
        generation = change.edit_of(tree_of(part.slot)).state.generation
    files_clean = core.database.clean_files()
    confirm(core, [record], group)
    return Erasure(record.name, decision, versions, erased_at, generation, files_clean)


def decide_optional(core: Core, record: RecordRow, ground: Ground, *, is_erased: bool) -> Decision:
    """Return the decision on a field group of a record whose row was checked."""
    is_erased = is_erased or record.erased_act is not None
    on_hold = bool(record.on_hold)
    return decide(ErasureFacts(ground, core.clock.today(), is_erased, on_hold, None, None))


def _erased_before(core: Core, pointer: bytes, ground: Ground, error: Erased) -> Erased:
    """Answer D2 with the index of the erasure entry."""
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        if error.group is None:
            error = erased_error(connection, record)
        else:
            group = find_group(core, connection, record, error.group)
            error = group_erased_error(connection, record, group, error.group)
    decision = decide_optional(core, record, ground, is_erased=True)
    return Erased(error.pointer, error.leaf, error.erased_at, decision, error.group, error.pruned)
