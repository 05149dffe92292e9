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
by running it again. Moving to another provider is the same with the new root key made there. Tested
in tests/vault/test_shredding.py, tests/vault/test_shred_crash.py and
tests/vault/test_shred_model.py.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import encode_shred
from ledger.log import append_pending
from vault.backup.keys import backup_keys
from vault.certifying import certify
from vault.config import checked_actor
from vault.core import Caller, Core
from vault.declaring import record_declaration
from vault.errors import (
    Busy,
    ConfigurationError,
    Damaged,
    Incomplete,
    KeyGone,
    ProviderDenied,
    ProviderFailed,
    ProviderUnreachable,
)
from vault.generations import (
    Generation,
    GenerationState,
    close_generations,
    forget_prepared,
    insert_provider,
    load_generation,
    load_generations,
    load_provider,
    not_gone,
    store_generation,
    store_gone,
    store_report,
)
from vault.keynode import KEY_BYTES
from vault.keytree import KeyTree
from vault.leases import FOLDER as LEASES
from vault.leases import LEASE_SECONDS, Holder, holders
from vault.records import Action
from vault.rootkeys.opening import check_options
from vault.rootkeys.provider import (
    FIRST_GENERATION,
    KeyContext,
    KeyReport,
    Options,
    Presence,
    ProviderKind,
    RootKeyProvider,
    TreeNumber,
)

_REHEARSAL = "rehearsal.kluis"
# Twice what a process that does nothing can keep a shred waiting.
PATIENCE_SECONDS = 2 * LEASE_SECONDS
_POLL_SECONDS = 0.05
_LOCK = "shredding"


class ShredStep(StrEnum):
    """The last step that was reached; see the module."""

    PREPARED = "prepared"
    FENCED = "fenced"
    READ_BACK = "read back"
    REHEARSED = "rehearsed"
    LEASES_ENDED = "leases ended"
    DESTROYED = "destroyed"
    TRIED = "tried"
    CERTIFIED = "certified"


OnStep = Callable[[ShredStep], None]


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A provider to which a tree's root keys move.

    Attributes:
        kind: of the provider.
        options: of it; none is a secret.
    """

    kind: ProviderKind
    options: Options


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
        closings = [_Closing(core, number, caller, patience, on_step) for number in due]
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
    check_options(place.kind, _options_for(place, 1))
    with _alone(core):
        closing = _Closing(core, number, caller, patience, on_step)
        is_moving = anew or not _lies_at(core, number, place)
        gone: list[Generation] = []
        # What a run that was cut off has left behind is destroyed with the rest.
        if is_moving or closing.is_begun():
            closing.leave(Action.MOVE, place if is_moving else None)
            gone = _destroy_all(core, [closing], None)
        report = _report(core, caller, [number], gone, on_step)
    _require_reached([closing])
    return report


def _options_for(place: NewPlace, generation: int) -> dict[str, str]:
    """Return the options with which a provider is opened that is used from a generation on."""
    options = dict(place.options)
    if place.kind is ProviderKind.TRANSIT:
        options[FIRST_GENERATION] = str(generation)
    return options


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
        erased = _was_erased_in(connection, number, state.generation)
    prepared = any(one.state is GenerationState.PREPARED for one in generations)
    return erased or prepared or bool(not_gone(generations))


def _was_erased_in(connection: Connection, number: TreeNumber, generation: int) -> bool:
    """Tell whether keys of a tree were erased in a generation."""
    questions = [("erased = ? AND tree = ?", (generation, number))]
    if number is TreeNumber.ORDINARY:
        # Of a permanent record, the subject was indexed here.
        questions.append(("index_erased = ? AND tree = ?", (generation, TreeNumber.PERMANENT)))
    for condition, parameters in questions:
        found = run(
            connection,
            f"SELECT 1 FROM vault_erasure WHERE {condition} LIMIT 1",  # noqa: S608
            parameters,
        )
        if found.fetchone() is not None:
            return True
    return _was_replayed_in(connection, number, generation)


def _was_replayed_in(connection: Connection, number: TreeNumber, generation: int) -> bool:
    """Tell whether a restore erased keys of a tree again in a generation; it leaves no erasure."""
    restored = run(
        connection, "SELECT 1 FROM vault_act WHERE action = ? LIMIT 1", (Action.RESTORE,)
    ).fetchone()
    if restored is None:
        return False
    replayed = run(
        connection,
        "SELECT 1 FROM vault_version WHERE erased_generation = ? AND slot >> 32 = ? LIMIT 1",
        (generation, number),
    ).fetchone()
    return replayed is not None


def _lies_at(core: Core, number: TreeNumber, place: NewPlace) -> bool:
    with core.database.read() as connection:
        state = core.trees[number].state(connection)
        generations = load_generations(connection, number)
        kind, options = load_provider(connection, generations[state.generation - 1].provider_id)
    options.pop(FIRST_GENERATION, None)
    return (kind, options) == (place.kind, dict(place.options))


def _destroy_all(core: Core, closings: list[_Closing], backup: Path | None) -> list[Generation]:
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


def _require_reached(closings: list[_Closing]) -> None:
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
    issued = certify(core, caller)
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


class _Closing:
    """Closes the epoch of one tree.

    Args:
        core: of the open vault.
        number: of the tree.
        caller: who does it and why.
        patience: seconds to wait for other processes.
        on_step: told each step.
    """

    def __init__(
        self, core: Core, number: TreeNumber, caller: Caller, patience: float, on_step: OnStep
    ) -> None:
        self._core = core
        self.number = number
        self._tree = core.trees[number]
        self._caller = caller
        self._patience = patience
        self._on_step = on_step
        self.unreachable: ProviderUnreachable | None = None

    def is_begun(self) -> bool:
        """Tell whether an earlier run was cut off before its end."""
        with self._core.database.read() as connection:
            generations = load_generations(connection, self.number)
        prepared = any(one.state is GenerationState.PREPARED for one in generations)
        return prepared or bool(not_gone(generations))

    def leave(self, action: Action, place: NewPlace | None = None) -> None:
        """Take the tree to its next generation and read it back, as far as that is not done yet.

        Args:
            action: what the act is called.
            place: where the new root key is made; None for the present provider. With one, the
                tree moves to a new generation even if nothing was erased.
        """
        if self._must_move(place):
            self._fence(self._prepare(action, place))
        self._read_back()

    def destroy_left(self, rehearsed: int) -> list[Generation]:
        """Destroy the generations that the tree has left, and return those that are gone.

        Args:
            rehearsed: the tree's generation in the key backup that was restored.
        """
        self._reached(ShredStep.REHEARSED)
        self._recheck(rehearsed)
        self._wait_for_leases()
        return self._destroy_closed()

    def _must_move(self, place: NewPlace | None) -> bool:
        with self._core.database.read() as connection:
            state = self._tree.state(connection)
            generations = load_generations(connection, self.number)
            erased = _was_erased_in(connection, self.number, state.generation) or _was_replayed_in(
                connection, self.number, state.generation
            )
        prepared = any(one.state is GenerationState.PREPARED for one in generations)
        return place is not None or prepared or erased

    def _prepare(self, action: Action, place: NewPlace | None) -> bytes:
        """Prepare the next generation and return its epoch key.

        What a run that was cut off had prepared is replaced: nothing is sealed under it, its keeper
        may be lost since, and what a keeper unwraps now has nothing to be compared with.
        """
        core = self._core
        with core.database.write() as connection:
            state = self._tree.state(connection)
            provider_id = load_generation(connection, self.number, state.generation).provider_id
            context = KeyContext(state.tenant, self.number, state.generation + 1)
            if place is not None:
                options = _options_for(place, context.generation)
                provider_id = insert_provider(connection, place.kind, options)
            provider = core.providers.get(connection, provider_id)
        # Outside every transaction: a provider that is slow keeps no writer waiting.
        reference = provider.make_key(context)
        epoch_key, wrapped = _wrap(provider, reference, context)
        with core.database.write() as connection:
            forget_prepared(connection, self.number)
            store_generation(connection, context, provider_id, reference, wrapped)
            act = run(
                connection,
                "INSERT INTO vault_act (at, actor, purpose, action) VALUES (?, ?, ?, ?)",
                (core.clock.now(), self._caller.actor, self._caller.purpose, action),
            )
            run(
                connection,
                "INSERT INTO vault_shred (tree, opened, act_id, step) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (tree, opened) DO UPDATE"
                " SET act_id = excluded.act_id, step = excluded.step, waits_for = NULL",
                (self.number, context.generation, act.lastrowid, ShredStep.PREPARED),
            )
        self._on_step(ShredStep.PREPARED)
        return epoch_key

    def _fence(self, epoch_key: bytes) -> None:
        core = self._core
        with core.database.write() as connection:
            prepared = load_generations(connection, self.number)[-1]
            edit = self._tree.edit(connection)
            edit.reseal(prepared.number, epoch_key)
            edit.write()
            close_generations(connection, self.number, prepared.number, core.clock.now())
            self._store_step(connection, ShredStep.FENCED)
        self._on_step(ShredStep.FENCED)

    def _read_back(self) -> None:
        """Open every node from its stored bytes and count: every owner needs its key."""
        core = self._core
        tree = KeyTree(self.number, core.providers.fresh())
        with core.database.read() as connection:
            _, keys = tree.open_all(connection, tree.state(connection))
            owners = _count_owners(connection, self.number)
        if keys != owners:
            raise Incomplete(
                f"the key tree holds {keys} keys for {owners} owners: nothing was destroyed, run"
                " 'kluis audit'"
            )
        # This process has used the older epoch key, too.
        with core.database.read() as connection:
            self._tree.state(connection)
        self._reached(ShredStep.READ_BACK)

    def _recheck(self, rehearsed: int) -> None:
        with self._core.database.read() as connection:
            state = self._tree.state(connection)
            newest = load_generations(connection, self.number)[-1]
        if state.generation != rehearsed:
            raise Incomplete("the key backup holds another generation: nothing was destroyed")
        if newest.number != state.generation or newest.state is not GenerationState.OPEN:
            raise Busy("the key tree moved on while the epoch was being closed: run it again")

    def _wait_for_leases(self) -> None:
        core = self._core
        with core.database.read() as connection:
            generation = self._tree.state(connection).generation
        deadline = time.monotonic() + self._patience
        while behind := [
            holder
            for holder in holders(core.folder, but=core.lease)
            if holder.is_behind(self.number, generation)
        ]:
            if time.monotonic() >= deadline:
                self._give_up(behind)
            time.sleep(_POLL_SECONDS)
        self._reached(ShredStep.LEASES_ENDED)

    def _give_up(self, behind: list[Holder]) -> None:
        names = ", ".join(str(holder.process) for holder in behind)
        waits_for = f"process {names}, which has not acknowledged the new generation"
        with self._core.database.write() as connection:
            run(
                connection,
                "UPDATE vault_shred SET waits_for = ? WHERE tree = ? AND finished_at IS NULL",
                (waits_for, self.number),
            )
        raise Busy(
            f"the epoch is not closed yet: it waits for {waits_for}; end it or run this again"
        )

    def _destroy_closed(self) -> list[Generation]:
        core = self._core
        with core.database.read() as connection:
            closed = not_gone(load_generations(connection, self.number))
        gone = []
        for generation in closed:
            try:
                report = self._destroy(generation)
            except ProviderUnreachable as error:
                # The others go on; the caller is told in the end.
                self.unreachable = error
                report = KeyReport(Presence.PRESENT, printable(str(error)))
            except (ConfigurationError, ProviderDenied, ProviderFailed) as error:
                # A keeper that was lost keeps nobody else's erasures from being certified.
                report = KeyReport(Presence.PRESENT, printable(str(error)))
            if self._store(generation, report):
                gone.append(generation)
        return gone

    def _store(self, generation: Generation, report: KeyReport) -> bool:
        """Store what a provider answered, and return whether the generation is gone for certain."""
        core, at = self._core, self._core.clock.now()
        with core.database.write() as connection:
            store_report(connection, generation, report, at)
        if report.presence is not Presence.GONE:
            return False
        self._on_step(ShredStep.DESTROYED)
        self._try_to_open(generation)
        with core.database.write() as connection:
            store_gone(connection, generation, report, at)
            append_pending(connection, [encode_shred(core.tenant, self.number, generation.number)])
            self._store_step(connection, ShredStep.TRIED)
        self._on_step(ShredStep.TRIED)
        return True

    def _destroy(self, generation: Generation) -> KeyReport:
        with self._core.database.read() as connection:
            provider = self._core.providers.get(connection, generation.provider_id)
        found = provider.report(generation.reference)
        if found.presence is not Presence.PRESENT:
            return found
        # Denied, as it should be for permanent records: who may destroy is somebody else (ST6).
        return provider.destroy(generation.reference)

    def _try_to_open(self, generation: Generation) -> None:
        core = self._core
        with core.database.read() as connection:
            tenant = self._tree.state(connection).tenant
            try:
                core.providers.fresh().unwrap(connection, tenant, generation)
            except KeyGone:
                return
            except Damaged:
                # Something answered for it, so something is still there.
                pass
        raise ProviderFailed(
            f"generation {generation.number} still opens though its provider says that it is gone"
        )

    def _reached(self, step: ShredStep) -> None:
        with self._core.database.write() as connection:
            self._store_step(connection, step)
        self._on_step(step)

    def _store_step(self, connection: Connection, step: ShredStep) -> None:
        run(
            connection,
            "UPDATE vault_shred SET step = ?, waits_for = NULL"
            " WHERE tree = ? AND finished_at IS NULL",
            (step, self.number),
        )


def _wrap(provider: RootKeyProvider, reference: str, context: KeyContext) -> tuple[bytes, bytes]:
    """Return a new epoch key and its wrapped form, which is known to open."""
    epoch_key = os.urandom(KEY_BYTES)
    wrapped = provider.wrap(reference, context, epoch_key)
    if provider.unwrap(reference, context, wrapped) != epoch_key:
        raise ProviderFailed("the provider does not give back the epoch key that it wrapped")
    return epoch_key, wrapped


def printable(text: str) -> str:
    """Return a provider's answer as a report holds it: at most 200 printable characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]


def _count_owners(connection: Connection, number: TreeNumber) -> int:
    """Return how many living versions, field groups, buckets and imports have a key in a tree."""
    row = run(
        connection,
        # Not by their bodies: one that an erasure could not remove has no key, and is certified so.
        "SELECT count(*) FROM (SELECT slot FROM vault_version WHERE erased_generation IS NULL"
        " UNION ALL SELECT slot FROM vault_part WHERE erased_generation IS NULL"
        " UNION ALL SELECT slot FROM vault_bucket UNION ALL SELECT slot FROM vault_import)"
        " WHERE slot >> 32 = ?",
        (number,),
    ).fetchone()
    return int(row[0])
