"""Erasing records: decide, destroy, confirm (ER1, ER3, ER9).

An erasure is one transaction: the slots of all versions are zeroed and their paths re-keyed, bodies
and notes go, the subject's row goes with its last record, the erasure entry becomes pending. Then
the write-ahead log is folded into the database and emptied, so that neither file keeps a former
copy, and the stored bytes are read back through nothing that was cached. From the moment that
`erase` returns, the live system cannot decrypt the record. Copies of the database that were made
before can, for whoever also has the root key of their generation: destroying those is the work of
vault/shredding.py, and only then is an erasure certified.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from ledger.errors import LedgerError
from ledger.pointer import parse_pointer
from policy import Decision, ErasureFacts, Ground, Outcome, decide
from vault.checkpointing import integrate_pending
from vault.cipher import NONCE_BYTES, Sealed
from vault.core import Caller, Core
from vault.destroying import Target, confirm, destroy
from vault.errors import Erased, InvalidInput, Refused
from vault.reading import erased_error, living_record
from vault.records import Action, RecordRow, load_record

MAX_REASON_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure that was carried out and read back.

    Attributes:
        pointer: as text.
        decision: why it was allowed.
        versions: how many versions went; of a field group, how many had it.
        erased_at: Unix seconds, UTC.
        generation: of the root key under which the keys were destroyed.
        files_clean: whether the database's files hold no former copy any more; False while a
            reader elsewhere keeps an older state open. They are then cleaned by the next erasure
            or when the last process closes the vault.
    """

    pointer: str
    decision: Decision
    versions: int
    erased_at: int
    generation: int
    files_clean: bool


def decide_erasure(core: Core, pointer_text: str, ground: Ground, caller: Caller) -> Decision:
    """Return what a request to erase a record would be answered today; changes nothing.

    Raises:
        NotFound: no record has this pointer.
        PurposeRefused: its category does not allow the purpose.
        Damaged: the row on which the decision would rest was changed.
    """
    pointer = parse_pointer(pointer_text)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        core.require_allowed(record.category, caller.purpose)
        if record.erased_act is None:
            core.record_keys(connection, record, core.read_key(connection))
    return decide_record(core, record, ground)


def erase(core: Core, pointer_text: str, ground: Ground, caller: Caller) -> Erasure:
    """Erase a record where law and policy allow it.

    Raises:
        Erased: it was erased before (D2); carries the index of the erasure entry.
        Refused: it may not be erased; carries the decision. Nothing was changed.
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
        record, _ = living_record(core, change.connection, change.key, pointer, caller)
        decision = decide_record(core, record, ground)
        if decision.outcome is not Outcome.ALLOWED:
            raise Refused(record.name, decision)
        act_id = change.act(caller, Action.ERASE, erased_at)
        versions = destroy(change, Target(record, ground, decision), act_id)
    files_clean = core.database.clean_files()
    confirm(core, [record])
    generation = change.edit.state.generation
    return Erasure(record.name, decision, versions, erased_at, generation, files_clean)


def place_hold(core: Core, pointer_text: str, reason: str, caller: Caller) -> None:
    """Place a legal hold, which no erasure passes (D3); the reason is sealed with the record's key.

    Raises:
        InvalidInput: the reason is empty, longer than 4,096 bytes, or not encodable. It is not
            repeated.
    """
    try:
        encoded = reason.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the reason of a hold is not valid Unicode text") from None
    if not 1 <= len(encoded) <= MAX_REASON_BYTES:
        raise InvalidInput(f"the reason of a hold is 1 to {MAX_REASON_BYTES} bytes")
    pointer = parse_pointer(pointer_text)
    with core.change() as change:
        record, keys = living_record(core, change.connection, change.key, pointer, caller)
        sealed = core.cipher.seal(
            keys, pointer, record.current, encoded, os.urandom(NONCE_BYTES), Sealed.NOTE
        )
        act_id = change.act(caller, Action.HOLD, core.clock.now())
        change.connection.exec_driver_sql(
            "INSERT INTO vault_hold (record_id, version, reason, act_id) VALUES (?, ?, ?, ?)",
            (record.id, record.current, sealed, act_id),
        )
        change.connection.exec_driver_sql(
            "UPDATE vault_record SET on_hold = 1, row_tag = ? WHERE id = ?",
            (record._replace(on_hold=1).tag(keys), record.id),
        )


def decide_record(core: Core, record: RecordRow, ground: Ground) -> Decision:
    """Return the decision on a record whose row was checked."""
    today = core.clock.today()
    if record.erased_act is not None:
        facts = ErasureFacts(ground, today, True, False, None, None)
    else:
        # The duty under which the record was stored, not what the configuration says by now.
        rule, brondatum = record.duty()
        facts = ErasureFacts(ground, today, False, bool(record.on_hold), rule, brondatum)
    return decide(facts)


def erased_before(core: Core, pointer: bytes, ground: Ground) -> Erased:
    """Answer D2 with the index of the erasure entry, making it a leaf if it still waits."""
    # A signer that refuses this database is no reason to withhold the answer: the index then waits.
    with suppress(LedgerError):
        integrate_pending(core)
    with core.database.read() as connection:
        record = load_record(connection, pointer)
        error = erased_error(connection, record)
    decision = decide_record(core, record, ground)
    return Erased(record.name, error.leaf, error.erased_at, decision, pruned=error.pruned)
