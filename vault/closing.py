"""Closing the epoch of one key tree: steps 1 to 3 and 5 to 8 of vault/shredding.py.

Tested in tests/vault/test_shredding.py and tests/vault/test_shred_crash.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import encode_shred
from ledger.log import append_pending
from policy.assurance import Presence, ProviderKind
from vault.core import Caller, Core, record_act
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
    new_epoch_key,
    not_gone,
    store_generation,
    store_gone,
    store_report,
)
from vault.keytree import KeyTree
from vault.leases import Holder, holders
from vault.records import Action
from vault.rootkeys.provider import FIRST_GENERATION, KeyContext, KeyReport, Options, TreeNumber

_POLL_SECONDS = 0.05


class ShredStep(StrEnum):
    """The last step that was reached; see vault/shredding.py."""

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


def options_for(place: NewPlace, generation: int) -> dict[str, str]:
    """Return the options with which a provider is opened that is used from a generation on."""
    options = dict(place.options)
    if place.kind is ProviderKind.TRANSIT:
        options[FIRST_GENERATION] = str(generation)
    return options


def was_erased_in(connection: Connection, number: TreeNumber, generation: int) -> bool:
    """Tell whether keys of a tree were erased in a generation, so that its epoch must close."""
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
    return _was_restored_in(connection, number, generation)


def _was_restored_in(connection: Connection, number: TreeNumber, generation: int) -> bool:
    """Tell whether a restore erased keys again since the tree's last epoch was closed.

    That leaves no row of an erasure. Of the ordinary tree, buckets and keys without an owner may
    have gone, too, so any restore counts. The permanent tree is moved for nothing less than a key
    of a record, since its custodians then need new shares.
    """
    restored = run(
        connection,
        "SELECT 1 FROM vault_act WHERE action = ? AND id >"
        " (SELECT coalesce(max(act_id), 0) FROM vault_shred WHERE tree = ?) LIMIT 1",
        (Action.RESTORE, number),
    ).fetchone()
    if restored is None or number is TreeNumber.ORDINARY:
        return restored is not None
    erased = run(
        connection,
        "SELECT 1 FROM (SELECT slot, erased_generation FROM vault_version UNION ALL"
        " SELECT slot, erased_generation FROM vault_part)"
        " WHERE erased_generation = ? AND slot >> 32 = ? LIMIT 1",
        (generation, number),
    ).fetchone()
    return erased is not None


class Closing:
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
            erased = was_erased_in(connection, self.number, state.generation)
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
                options = options_for(place, context.generation)
                provider_id = insert_provider(connection, place.kind, options)
            provider = core.providers.get(connection, provider_id)
        # Outside every transaction: a provider that is slow keeps no writer waiting.
        reference = provider.make_key(context)
        epoch_key, wrapped = new_epoch_key(provider, reference, context)
        with core.database.write() as connection:
            forget_prepared(connection, self.number)
            store_generation(connection, context, provider_id, reference, wrapped)
            act_id = record_act(connection, self._caller, action, core.clock.now())
            run(
                connection,
                "INSERT INTO vault_shred (tree, opened, act_id, step) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (tree, opened) DO UPDATE"
                " SET act_id = excluded.act_id, step = excluded.step, waits_for = NULL",
                (self.number, context.generation, act_id, ShredStep.PREPARED),
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
                report = KeyReport(Presence.PRESENT, _printable(str(error)))
            except (ConfigurationError, ProviderDenied, ProviderFailed) as error:
                # A keeper that was lost keeps nobody else's erasures from being certified.
                report = KeyReport(Presence.PRESENT, _printable(str(error)))
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


def _printable(text: str) -> str:
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
