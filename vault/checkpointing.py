"""Integrating pending entries, signing checkpoints, and rotating the keys that sign them.

    1. under the writer lock: the database must reproduce what the signer signed last, and what
       waits of governance must be what its members decided
    2. in the same transaction: up to 65,536 pending entries become leaves; commit; until none waits
    3. under the writer lock: sign the committed head, the signer remembering it first; store the
       note; commit

A crash between any two steps is repaired by running them again: integrated leaves stay, and a note
that was signed but not stored is returned by the signer once more. A restored older copy of the
database stops at step 1, before it could become another history. How keys are replaced, and what
becomes of a rotation that is cut off, is told in vault/logkeys.py.
"""

from __future__ import annotations

from sqlalchemy import Connection

from ledger.errors import Malformed, NotValid
from ledger.governing import require_decided
from ledger.integrator import BATCH_ENTRIES, integrate
from ledger.log import Log
from ledger.note import Note
from ledger.signer import store_checkpoint
from vault.core import Caller, Core, record_act
from vault.errors import Damaged
from vault.logkeys import Rotation
from vault.records import Action


def integrate_pending(core: Core) -> int:
    """Turn all pending entries into leaves and return how many there were.

    Raises:
        RolledBack, Forked, SignerStateLost: the database is not the one that was signed last.
        Damaged: a governance entry was written past the vault, which nobody decided.
    """
    total = 0
    while True:
        with core.database.write() as connection:
            log = Log(connection)
            core.signer.memory.check(log, log.head())
            _require_decided(connection)
            integrated = integrate(connection)
        total += integrated
        if integrated < BATCH_ENTRIES:
            return total


def _require_decided(connection: Connection) -> None:
    try:
        require_decided(connection)
    except (NotValid, Malformed) as cause:
        raise Damaged(
            f"a waiting governance entry was written past the vault, and {cause}: nothing is signed"
        ) from cause


def checkpoint(core: Core) -> Note:
    """Integrate, sign the head, store the note and return it.

    Raises:
        RolledBack, Forked, SignerStateLost: see `integrate_pending`; nothing was signed.
    """
    integrate_pending(core)
    with core.database.write() as connection:
        log = Log(connection)
        note, signed = core.signer.sign_head(log)
        store_checkpoint(log, note, signed, core.clock.now())
    return note


def rotate(core: Core, caller: Caller) -> Rotation:
    """Close the range of the log keys in use with a checkpoint over all entries; make new keys.

    Raises:
        RolledBack, Forked, SignerStateLost: see `integrate_pending`; no key was changed.
        ConfigurationError, WrongPassphrase: the keys in use do not open; no key was changed.
    """
    integrate_pending(core)
    signer, now = core.signer, core.clock.now()
    with core.database.write() as connection:
        log = Log(connection)
        with signer.memory.locked():
            core.log_keys.settle(signer.memory)
            note, closing = signer.sign_head_locked(log)
            is_new = core.log_keys.replace(signer.memory, closing)
        store_checkpoint(log, note, closing, now)
        record_act(connection, caller, Action.ROTATE, now)
    return Rotation(closing, signer.keys.current, is_new)
