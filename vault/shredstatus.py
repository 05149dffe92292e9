"""What waits for a shred, for what, and since when; and where the root keys are.

Only reads. Tested in tests/vault/test_shredding.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.driver import run
from policy.assurance import ProviderKind
from policy.certificate_parts import Status
from vault.core import Core
from vault.generations import Generation, GenerationState, load_generations, load_provider
from vault.leases import holders
from vault.rootkeys.opening import provider_class
from vault.rootkeys.provider import TreeNumber

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Waiting:
    """Erasures that are not irrecoverable yet, with one reason.

    Attributes:
        reason: in words.
        erasures: how many.
        since: Unix seconds of the oldest.
        overdue: whether that is longer ago than the configuration allows.
    """

    reason: str
    erasures: int
    since: int
    overdue: bool


@dataclass(frozen=True, slots=True)
class ShredStatus:
    """What waits for a shred.

    Attributes:
        waiting: by reason; empty when every erasure is irrecoverable.
        step: of a shred that was cut off or waits; None when none is under way.
        waits_for: what that one waits for, in words.
        processes: numbers of the other processes that have the vault open.
    """

    waiting: tuple[Waiting, ...]
    step: str | None
    waits_for: str | None
    processes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RootKey:
    """One generation's root key.

    Attributes:
        generation: its row.
        provider: who keeps it.
        options: of the provider; none is a secret.
        assurance: the class, and what an attacker with the provider's backups could do.
    """

    generation: Generation
    provider: ProviderKind
    options: dict[str, str]
    assurance: str


def root_keys(core: Core) -> list[RootKey]:
    """Return every generation of both trees, oldest first."""
    found = []
    with core.database.read() as connection:
        for tree in TreeNumber:
            for generation in load_generations(connection, tree):
                kind, options = load_provider(connection, generation.provider_id)
                assurance = provider_class(kind).assurance
                words = f"{assurance.class_}: {assurance.en}"
                found.append(RootKey(generation, kind, options, words))
    return found


def status(core: Core) -> ShredStatus:
    """Return what waits for a shred, for what, and since when."""
    with core.database.read() as connection:
        generations = {
            tree: {one.number: one for one in load_generations(connection, tree)}
            for tree in TreeNumber
        }
        reasons: dict[str, list[int]] = {}
        for tree, born, erased, index_born, index_erased, at, certified in _unfinished(connection):
            span = [generations[TreeNumber(tree)][number] for number in range(born, erased + 1)]
            if index_born is not None and index_erased is not None:
                ordinary = generations[TreeNumber.ORDINARY]
                span += [ordinary[number] for number in range(index_born, index_erased + 1)]
            reasons.setdefault(_reason(span, certified), []).append(at)
        under_way = run(
            connection,
            "SELECT step, waits_for FROM vault_shred WHERE finished_at IS NULL"
            # With both trees under way, the one that waits says why.
            " ORDER BY waits_for IS NULL, id LIMIT 1",
        ).fetchone()
    step, waits_for = under_way or (None, None)
    oldest_allowed = core.clock.now() - core.config.shred_within_days * _DAY_SECONDS
    return ShredStatus(
        tuple(
            Waiting(reason, len(times), min(times), min(times) < oldest_allowed)
            for reason, times in sorted(reasons.items())
        ),
        step,
        waits_for,
        tuple(holder.process for holder in holders(core.folder, but=core.lease)),
    )


def _unfinished(
    connection: Connection,
) -> list[tuple[int, int, int, int | None, int | None, int, str | None]]:
    rows = run(
        connection,
        "SELECT e.tree, e.born, e.erased, e.index_born, e.index_erased, a.at,"
        " (SELECT c.irrecoverability FROM vault_certificate c"
        " WHERE c.erasure_id = e.id ORDER BY c.number DESC LIMIT 1)"
        " FROM vault_erasure e JOIN vault_act a ON a.id = e.act_id WHERE NOT EXISTS"
        " (SELECT 1 FROM vault_certificate c WHERE c.erasure_id = e.id AND c.status = ?)",
        (Status.IRRECOVERABLE,),
    )
    return rows.fetchall()


def _reason(span: list[Generation], certified: str | None) -> str:
    if any(one.state is GenerationState.OPEN for one in span):
        return "the epoch is still open: run 'kluis shred'"
    closed = [one for one in span if one.state is GenerationState.CLOSED]
    if closed:
        answer = closed[0].response or "not asked yet"
        return f"generation {closed[0].number} is closed but not destroyed ({answer})"
    scheduled = [one for one in span if one.state is GenerationState.SCHEDULED]
    if scheduled:
        return f"generation {scheduled[0].number} is to be destroyed by its provider on a later day"
    if certified is None:
        return "everything is destroyed but not certified: run 'kluis shred'"
    return f"irrecoverability is {certified}: see the certificate"
