"""Ageing out: a prune of the vault's ledger, from a date to what is left of it (LG8).

    1 plan        a date becomes the largest checkpoint that was signed before it, at the start of
                  that day here. The time of signing is the vault's own and stands on no chain
    2 propose     the prune entry goes the way of all governance (vault/governing.py)
    3 carry out   once it is a leaf of a signed checkpoint, in one transaction (ledger/pruning.py)

What something living needs is kept, with its proof: the version entries of living records, with
those of their field groups that were not erased; every certificate; the erasure of what is not
certified yet, since its certificate will state it; every shred, by which a restore tells keys that
were destroyed; and every governance entry, since evidence leads back to the founding. What goes are
the entries of what was erased: what those said, their certificates say.

Proofs of what is kept lead to the smallest anchored checkpoint at or above the minimum. So nothing
is pruned above the newest anchored checkpoint: what stays could not be shown to anybody outside.

The pages that become free are overwritten (vault/database.py) and the write-ahead log is emptied.
A file of the vault that was copied before, and what was published elsewhere, is beyond reach.
Tested in tests/vault/test_ageing_out.py.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection

from anchor import job
from anchor.statement import AnchorStatement
from ledger import pruning
from ledger.action import Prune
from ledger.checkpoint import Checkpoint
from ledger.driver import run
from ledger.entry import CORE_GROUP, ERASURES, Entry, EntryKind
from ledger.errors import NotValid
from ledger.governing import current_state
from ledger.log import Log
from ledger.pruning import Going
from vault.checkpointing import checkpoint
from vault.core import Caller, Core, record_act
from vault.errors import InvalidInput, NotAllowed
from vault.governing import EXPIRY_LEAVES, ProposalView, propose
from vault.records import Action
from vault.rolekeys import RoleKey

_ALWAYS = frozenset({EntryKind.CERTIFICATE, EntryKind.SHRED, EntryKind.GOVERNANCE})
_LIVES = "SELECT id FROM vault_record WHERE pointer = ? AND erased_act IS NULL"
_HAS_GROUP = (
    "SELECT 1 FROM vault_part WHERE record_id = ? AND field_group = ? AND body IS NOT NULL LIMIT 1"
)
_UNCERTIFIED = (
    "SELECT 1 FROM vault_erasure e JOIN vault_record r ON r.id = e.record_id"
    " WHERE r.pointer = ? AND e.field_group = ?"
    " AND NOT EXISTS (SELECT 1 FROM vault_certificate c WHERE c.erasure_id = e.id)"
)


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune would do.

    Attributes:
        minimum: the index; what lies below it goes.
        signed_at: when the checkpoint of so many leaves was signed, Unix seconds, UTC.
        going: what is removed.
        kept: how many entries of each kind below the minimum are kept with their proofs.
    """

    minimum: int
    signed_at: int
    going: Going
    kept: Counter[EntryKind]


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune did.

    Attributes:
        minimum: the index.
        leaf: of the prune entry.
        going: what was removed.
        kept: how many entries below the minimum are there still.
        cleaned: whether nothing of what went is left in the write-ahead log; False while somebody
            reads an older state.
    """

    minimum: int
    leaf: int
    going: Going
    kept: int
    cleaned: bool


def plan(core: Core, before: dt.date) -> PrunePlan:
    """Return what a prune to a date would do; nothing is changed.

    Raises:
        InvalidInput: no checkpoint was signed before that day.
        NotAllowed: nobody governs this ledger, it is stopped, it was pruned that far already, or
            the checkpoint is above the newest anchored one.
    """
    with core.database.read() as connection:
        log = Log(connection)
        minimum, signed_at = _resolved(connection, before)
        _require_able(core, connection, minimum)
        needs = Needs(connection)
        kept = Counter(
            entry.kind for leaf, entry in pruning.candidates(log, minimum) if needs(leaf, entry)
        )
        return PrunePlan(minimum, signed_at, pruning.measure(log, minimum), kept)


def propose_prune(
    core: Core, minimum: int, key: RoleKey, caller: Caller, expires: int = EXPIRY_LEAVES
) -> ProposalView:
    """Propose a prune and approve it.

    Args:
        core: of the open vault.
        minimum: as planned.
        key: of the member who proposes it.
        caller: who carries it out and why.
        expires: after how many more leaves this approval expires, from 1.

    Raises:
        NotAllowed: see `plan` and `vault.governing.propose`.
    """
    with core.database.read() as connection:
        _require_able(core, connection, minimum)
        digest = current_state(connection).digest_at(minimum)
    return propose(core, Prune(minimum, digest), key, caller, expires)


def carry_out(core: Core, caller: Caller) -> PruneReport:
    """Carry out the newest prune that was enacted and is not carried out yet.

    Raises:
        NotAllowed: there is none, or the rules or the anchors do not allow it.
        RolledBack, Forked, SignerStateLost: the ledger is not the one that was signed.
    """
    checkpoint(core)
    with core.database.write() as connection:
        log = Log(connection)
        prune = pruning.enacted(log)
        if prune is None:
            raise NotAllowed(
                "no prune was enacted that is not carried out: propose one with 'kluis ledger prune"
                " --before DATE --key-file FILE', and have it approved"
            )
        minimum = prune.action.minimum
        _require_anchored(connection, minimum)
        _, signed = core.signer.memory.check(log, log.head())
        going = pruning.measure(log, minimum)
        now = core.clock.now()
        try:
            kept = pruning.carry_out(
                log, prune, _proven(core, connection, minimum), signed, Needs(connection), now
            )
        except NotValid as error:
            raise NotAllowed(f"entry {prune.leaf} is not carried out: {error}") from None
        record_act(connection, caller, Action.PRUNE, now)
    core.tiles.clear()
    return PruneReport(minimum, prune.leaf, going, kept, core.database.clean_files())


class Needs:
    """Tells which entries something living needs.

    Args:
        connection: one snapshot, or with the writer lock.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, leaf: int, entry: Entry) -> bool:
        """Tell whether an entry is to be kept; see `ledger.pruning.Needed`."""
        if entry.kind in _ALWAYS:
            return True
        if entry.kind in ERASURES:
            return self._finds(_UNCERTIFIED, entry.pointer, entry.group)
        row = run(self._connection, _LIVES, (entry.pointer,)).fetchone()
        if row is None or entry.group == CORE_GROUP:
            return row is not None
        return self._finds(_HAS_GROUP, row[0], entry.group)

    def _finds(self, statement: str, *parameters: object) -> bool:
        return run(self._connection, statement, parameters).fetchone() is not None


def _resolved(connection: Connection, before: dt.date) -> tuple[int, int]:
    """Return size and time of the largest checkpoint that was signed before a day."""
    try:
        moment = int(dt.datetime.combine(before, dt.time()).astimezone().timestamp())
    except (OverflowError, OSError):
        raise InvalidInput(f"{before.isoformat()} is no day of this calendar's clock") from None
    row = run(
        connection,
        "SELECT size, signed_at FROM ledger_checkpoint WHERE signed_at < ? AND size > 0"
        " ORDER BY size DESC LIMIT 1",
        (moment,),
    ).fetchone()
    if row is not None:
        return row[0], row[1]
    (oldest,) = run(
        connection, "SELECT min(signed_at) FROM ledger_checkpoint WHERE size > 0"
    ).fetchone()
    if oldest is None:
        raise InvalidInput("nothing was signed yet: run 'kluis checkpoint' first")
    day = dt.datetime.fromtimestamp(oldest).astimezone().date()
    raise InvalidInput(
        f"no checkpoint was signed before {before.isoformat()}: the oldest is of {day.isoformat()}"
    )


def _require_able(core: Core, connection: Connection, minimum: int) -> None:
    state = current_state(connection)
    if not state.founded:
        raise NotAllowed(
            "this ledger is not governed, and nobody can decide to prune it: 'kluis member found'"
            " names the first members"
        )
    if state.stopped:
        raise NotAllowed("the ledger is stopped: it is pruned once 'kluis resume' was enacted")
    pruned = Log(connection).pruned_to()
    if minimum <= state.minimum:
        by = f"pruned to {state.minimum}"
        by += (
            f" by entry {pruned[1]}"
            if pruned is not None and pruned[0] == state.minimum
            else (" by decision: 'kluis ledger prune' carries it out")
        )
        raise NotAllowed(f"nothing below {minimum} is left to prune: the ledger was {by}")
    _require_anchored(connection, minimum)


def _require_anchored(connection: Connection, minimum: int) -> None:
    if job.anchored_statement(connection, minimum - 1) is None:
        raise NotAllowed(
            f"no checkpoint of {minimum} leaves or more is anchored, to which what stays could be"
            " proven: run 'kluis anchor run' first"
        )


def _proven(core: Core, connection: Connection, minimum: int) -> Checkpoint:
    """Return the smallest anchored checkpoint at or above the minimum, its signatures verified."""
    anchored = job.anchored_statement(connection, minimum - 1)
    if anchored is None:
        raise NotAllowed("no anchored checkpoint is left")
    return core.signer.keys.verify(AnchorStatement.parse(anchored[0]).note)
