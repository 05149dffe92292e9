"""Closing an epoch: from erased to irrecoverable (P2, ER8).

What was erased in a generation can be opened from an old copy of the database for as long as that
generation's root key exists anywhere. `shred` destroys it, in this order, each step durable before
the next one begins:

    1. prepare    the next generation's root key at the provider, its epoch key wrapped and stored
    2. fence      in one transaction: the root node is sealed under the new epoch key, the tree's
                  row names the new generation, the older ones are closed. Whoever built a change on
                  the older one fails its compare-and-swap: nothing is sealed under it again
    3. read back  every node of the tree opens from the stored bytes, and every owner has its key
    4. rehearse   a key backup of all trees is written, and restored in a fresh process
    5. re-check   the tree is still in the generation that the backup holds; what was erased since
                  the fence belongs to that one and is left for the next shred
    6. wait       until every process has acknowledged the new generation or its lease is over
    7. destroy    each closed generation's root key, oldest first
    8. try        to open what was wrapped under it, with a fresh session: it must fail
    9. certify    each erasure whose generations, from birth to erasure, have been dealt with

Every step first looks whether it was done already, so a run that was cut off anywhere is finished
by running it again. Moving to another provider is the same with the new root key made there. What
concerns one tree alone is in vault/closing.py. Tested in tests/vault/test_shredding.py,
tests/vault/test_shred_crash.py and tests/vault/test_shred_model.py.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.driver import run
from vault.backup.keys import backup_keys
from vault.certifying import certify
from vault.closing import Closing, NewPlace, OnStep, ShredStep, options_for, was_erased_in
from vault.config import checked_actor
from vault.core import Caller, Core
from vault.declaring import record_declaration
from vault.errors import Busy
from vault.generations import (
    Generation,
    GenerationState,
    load_generations,
    load_provider,
    not_gone,
)
from vault.leases import FOLDER as LEASES
from vault.leases import LEASE_SECONDS
from vault.records import Action
from vault.rootkeys.opening import check_options
from vault.rootkeys.provider import FIRST_GENERATION, TreeNumber

_REHEARSAL = "rehearsal.kluis"
# Twice what a process that does nothing can keep a shred waiting.
PATIENCE_SECONDS = 2 * LEASE_SECONDS
_LOCK = "shredding"


@dataclass(frozen=True, slots=True)
class ShredReport:
    """What a shred did.

    Attributes:
        trees: that moved to a new generation.
        gone: generations that were confirmed to be gone by this run.
        waiting: generations that are not gone yet, with the reason.
        certificates: how many were issued.
        irrecoverable: how many of those say so.
        declared: key files of which an operator stated by this run that no copy exists.
    """

    trees: tuple[TreeNumber, ...]
    gone: tuple[tuple[TreeNumber, int], ...]
    waiting: tuple[tuple[TreeNumber, int, str], ...]
    certificates: int
    irrecoverable: int
    declared: int = 0


def shred(
    core: Core,
    caller: Caller,
    *,
    backup: Path | None = None,
    declared_by: str | None = None,
    patience: float = PATIENCE_SECONDS,
    on_step: OnStep = lambda step: None,
) -> ShredReport:
    """Close the epoch of every tree in which something was erased, and certify.

    Args:
        core: of the open vault.
        caller: who does it and why.
        backup: a new file, outside the vault, for the key backup that is rehearsed; None rehearses
            one that is removed again.
        declared_by: an operator who states that no copy exists of any key file that is destroyed.
        patience: how many seconds to wait for other processes.
        on_step: told each step once it is durable.

    Raises:
        Busy: another process is at it, or one kept its lease; run it again. Nothing is lost.
        ProviderUnreachable, ProviderFailed: a provider did not do what it should; what did not
            depend on it is done. Run it again.
        Incomplete: something that must hold before or after a destruction does not.
    """
    if declared_by is not None:
        checked_actor(declared_by)
    with _alone(core):
        due = [number for number in TreeNumber if _is_due(core, number)]
        closings = [Closing(core, number, caller, patience, on_step) for number in due]
        for closing in closings:
            closing.leave(Action.SHRED)
        gone = _destroy_all(core, closings, backup)
        declared = 0 if declared_by is None else record_declaration(core, declared_by, caller)
        report = replace(_report(core, caller, due, gone, on_step), declared=declared)
    _require_reached(closings)
    return report


def move(
    core: Core,
    number: TreeNumber,
    place: NewPlace,
    caller: Caller,
    *,
    anew: bool = False,
    patience: float = PATIENCE_SECONDS,
    on_step: OnStep = lambda step: None,
) -> ShredReport:
    """Move a tree's root keys to another provider and destroy those that lie at the present one.

    Args:
        core: of the open vault.
        number: of the tree.
        place: where its root keys are to lie.
        caller: who does it and why.
        anew: make a new root key also where they lie there already: that one may be lost.
        patience: how many seconds to wait for other processes.
        on_step: told each step once it is durable.

    Raises:
        InvalidInput: the options are not those of such a provider.
        Busy, ProviderUnreachable, ProviderDenied, ProviderFailed, Incomplete: as for `shred`.
    """
    check_options(place.kind, options_for(place, 1))
    with _alone(core):
        closing = Closing(core, number, caller, patience, on_step)
        is_moving = anew or not _lies_at(core, number, place)
        gone: list[Generation] = []
        # What a run that was cut off has left behind is destroyed with the rest.
        if is_moving or closing.is_begun():
            closing.leave(Action.MOVE, place if is_moving else None)
            gone = _destroy_all(core, [closing], None)
        report = _report(core, caller, [number], gone, on_step)
    _require_reached([closing])
    return report


@contextmanager
def _alone(core: Core) -> Iterator[None]:
    """Hold the vault against every other process that closes an epoch."""
    with (core.folder / LEASES / f"{_LOCK}.new").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("another process is closing the epoch: see 'kluis shred --status'") from None
        yield


def _is_due(core: Core, number: TreeNumber) -> bool:
    with core.database.read() as connection:
        state = core.trees[number].state(connection)
        generations = load_generations(connection, number)
        erased = was_erased_in(connection, number, state.generation)
    prepared = any(one.state is GenerationState.PREPARED for one in generations)
    return erased or prepared or bool(not_gone(generations))


def _lies_at(core: Core, number: TreeNumber, place: NewPlace) -> bool:
    with core.database.read() as connection:
        state = core.trees[number].state(connection)
        generations = load_generations(connection, number)
        kind, options = load_provider(connection, generations[state.generation - 1].provider_id)
    options.pop(FIRST_GENERATION, None)
    return (kind, options) == (place.kind, dict(place.options))


def _destroy_all(core: Core, closings: list[Closing], backup: Path | None) -> list[Generation]:
    """Rehearse one key backup of all trees, then destroy what they have left."""
    if not closings:
        return []
    # The vault keeps no key backup of its own: beside the root keys it would open what is erased
    # from now on.
    path = core.folder / _REHEARSAL if backup is None else backup
    try:
        if backup is None:
            path.unlink(missing_ok=True)
        backup_keys(core, path)
        found = core.keyring.rehearse(path, [closing.number for closing in closings])
    finally:
        (core.folder / _REHEARSAL).unlink(missing_ok=True)
    return [
        generation
        for closing in closings
        for generation in closing.destroy_left(found[closing.number]["generation"])
    ]


def _require_reached(closings: list[Closing]) -> None:
    """Raise, once all else is done, for a provider that could not be reached."""
    for closing in closings:
        if closing.unreachable is not None:
            raise closing.unreachable


def _report(
    core: Core,
    caller: Caller,
    trees: list[TreeNumber],
    destroyed: list[Generation],
    on_step: OnStep,
) -> ShredReport:
    issued = certify(core)
    _finish(core)
    on_step(ShredStep.CERTIFIED)
    with core.database.read() as connection:
        waiting = tuple(
            (one.tree, one.number, one.response or "")
            for number in TreeNumber
            for one in not_gone(load_generations(connection, number))
        )
    gone = tuple((one.tree, one.number) for one in destroyed)
    return ShredReport(tuple(trees), gone, waiting, issued.certificates, issued.irrecoverable)


def _finish(core: Core) -> None:
    with core.database.write() as connection:
        run(
            connection,
            "UPDATE vault_shred SET finished_at = ?, step = ?, waits_for = NULL"
            " WHERE finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM vault_generation g"
            " WHERE g.tree = vault_shred.tree AND g.number < vault_shred.opened"
            " AND g.state <> ?)",
            (core.clock.now(), ShredStep.CERTIFIED, GenerationState.GONE),
        )
    core.database.clean_files()
