"""Generations of a key tree: their root keys, their wrapped epoch keys, and what became of them.

A generation begins `prepared`: its root key is made and its epoch key wrapped, but nothing is
sealed under it yet. The tree moves to it in one transaction: it is `open`, all earlier ones are
`closed`, which means that nothing is sealed under them again. Then the closed ones are destroyed:
`scheduled` where a service only promises it for a later day, `gone` once the provider says so and
the wrapped epoch key was tried and did not open. Nothing goes back.

Tested in tests/vault/test_generations.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from ledger.driver import run
from policy.assurance import ProviderKind
from vault.errors import Damaged, KeyGone, ProviderFailed
from vault.rootkeys.opening import open_provider
from vault.rootkeys.provider import (
    EPOCH_KEY_BYTES,
    KeyContext,
    KeyReport,
    Options,
    RootKeyProvider,
    Surroundings,
    TreeNumber,
)

_COLUMNS = (
    "tree, number, provider_id, reference, wrapped, state, response, asked_at, gone_at, closed_at,"
    " destroyed_at"
)
_TYPES = (int, int, int, str, bytes | None, str, str | None, *[int | None] * 4)


class GenerationState(StrEnum):
    """How far a generation is in its life."""

    PREPARED = "prepared"
    OPEN = "open"
    CLOSED = "closed"
    SCHEDULED = "scheduled"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of one tree.

    Attributes:
        tree: to which it belongs.
        number: from 1.
        provider_id: row of the provider that keeps its root key.
        reference: names the root key there.
        wrapped: the epoch key, or None once that was destroyed.
        state: how far it is.
        response: what the provider answered last about its destruction; None before.
        asked_at: when it answered so, Unix seconds.
        gone_at: when a scheduled destruction is due.
        closed_at: when the tree left it.
        destroyed_at: when it was found to be gone.
    """

    tree: TreeNumber
    number: int
    provider_id: int
    reference: str
    wrapped: bytes | None
    state: GenerationState
    response: str | None
    asked_at: int | None
    gone_at: int | None
    closed_at: int | None
    destroyed_at: int | None


class Providers:
    """The providers of a vault, each opened once, when it is first needed.

    Args:
        surroundings: the vault's folder and passphrase.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._opened: dict[tuple[ProviderKind, str], RootKeyProvider] = {}

    def __repr__(self) -> str:
        return f"Providers({str(self._surroundings.folder)!r})"

    def fresh(self) -> Providers:
        """Return the same providers with nothing opened and nothing remembered."""
        return Providers(self._surroundings)

    def get(self, connection: Connection, provider_id: int) -> RootKeyProvider:
        """Return a provider, opening it if this process has not used it yet."""
        kind, options = load_provider(connection, provider_id)
        name = (kind, json.dumps(options, sort_keys=True))
        if name not in self._opened:
            self._opened[name] = open_provider(kind, options, self._surroundings)
        return self._opened[name]

    def unwrap(self, connection: Connection, tenant: bytes, generation: Generation) -> bytes:
        """Return a generation's epoch key.

        Raises:
            KeyGone: its root key was destroyed, or the wrapped epoch key is not kept any more.
            Damaged: the wrapped epoch key is not what the provider wrapped.
            ProviderFailed: what it answers is no epoch key.
        """
        number = generation.number
        if generation.wrapped is None:
            raise KeyGone(f"generation {number} of the key tree was destroyed")
        context = KeyContext(tenant, generation.tree, number)
        provider = self.get(connection, generation.provider_id)
        epoch_key = provider.unwrap(generation.reference, context, generation.wrapped)
        if len(epoch_key) != EPOCH_KEY_BYTES:
            raise ProviderFailed(f"the provider unwrapped to {len(epoch_key)} bytes")
        return epoch_key


def insert_provider(connection: Connection, kind: ProviderKind, options: Options) -> int:
    """Store where root keys are kept and return the row's id; the same place is stored once."""
    written = json.dumps(dict(options), sort_keys=True)
    row = run(
        connection, "SELECT id FROM vault_provider WHERE kind = ? AND options = ?", (kind, written)
    ).fetchone()
    if row is not None:
        return int(row[0])
    inserted = run(
        connection, "INSERT INTO vault_provider (kind, options) VALUES (?, ?)", (kind, written)
    )
    return int(inserted.lastrowid or 0)


def load_provider(connection: Connection, provider_id: int) -> tuple[ProviderKind, dict[str, str]]:
    """Return a provider's kind and options.

    Raises:
        Damaged: there is no such row, or it names no provider.
    """
    row = run(
        connection, "SELECT kind, options FROM vault_provider WHERE id = ?", (provider_id,)
    ).fetchone()
    try:
        kind, options = ProviderKind(row[0]), json.loads(row[1])
    except (TypeError, ValueError):
        raise Damaged(f"row {provider_id} names no root key provider") from None
    if not isinstance(options, dict):
        raise Damaged(f"row {provider_id} names no root key provider")
    return kind, options


def new_epoch_key(
    provider: RootKeyProvider, reference: str, context: KeyContext
) -> tuple[bytes, bytes]:
    """Return a random epoch key of 32 bytes and its wrapped form, which is known to open.

    Raises:
        ProviderFailed: the provider does not give back what it wrapped.
    """
    epoch_key = os.urandom(EPOCH_KEY_BYTES)
    wrapped = provider.wrap(reference, context, epoch_key)
    if provider.unwrap(reference, context, wrapped) != epoch_key:
        raise ProviderFailed("the provider does not give back the epoch key that it wrapped")
    return epoch_key, wrapped


def store_generation(
    connection: Connection, context: KeyContext, provider_id: int, reference: str, wrapped: bytes
) -> None:
    """Store a prepared generation."""
    run(
        connection,
        "INSERT INTO vault_generation (tree, number, provider_id, reference, wrapped, state)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            context.tree,
            context.generation,
            provider_id,
            reference,
            wrapped,
            GenerationState.PREPARED,
        ),
    )


def forget_prepared(connection: Connection, tree: TreeNumber) -> None:
    """Drop a generation that was prepared and never opened; nothing is sealed under it."""
    run(
        connection,
        "DELETE FROM vault_generation WHERE tree = ? AND state = ?",
        (tree, GenerationState.PREPARED),
    )


def load_generation(connection: Connection, tree: TreeNumber, number: int) -> Generation:
    """Return one generation.

    Raises:
        Damaged: there is none with this number.
    """
    row = run(
        connection,
        f"SELECT {_COLUMNS} FROM vault_generation WHERE tree = ? AND number = ?",  # noqa: S608
        (tree, number),
    ).fetchone()
    if row is None:
        raise Damaged(f"generation {number} has no wrapped epoch key")
    return _generation(row)


def load_generations(connection: Connection, tree: TreeNumber) -> list[Generation]:
    """Return all generations of a tree, oldest first."""
    rows = run(
        connection,
        f"SELECT {_COLUMNS} FROM vault_generation WHERE tree = ? ORDER BY number",  # noqa: S608
        (tree,),
    )
    return [_generation(row) for row in rows]


def close_generations(connection: Connection, tree: TreeNumber, opened: int, at: int) -> None:
    """Open a prepared generation and close those before it, in the caller's transaction."""
    run(
        connection,
        "UPDATE vault_generation SET state = ?, closed_at = ? WHERE tree = ? AND number < ?"
        " AND state = ?",
        (GenerationState.CLOSED, at, tree, opened, GenerationState.OPEN),
    )
    open_generation(connection, tree, opened)


def open_generation(connection: Connection, tree: TreeNumber, number: int) -> None:
    """Call a prepared generation open: the tree is sealed under it."""
    run(
        connection,
        "UPDATE vault_generation SET state = ? WHERE tree = ? AND number = ?",
        (GenerationState.OPEN, tree, number),
    )


def store_report(
    connection: Connection, generation: Generation, report: KeyReport, at: int
) -> None:
    """Store what a provider answered about a closed generation; it is not called gone by this."""
    run(
        connection,
        "UPDATE vault_generation SET response = ?, asked_at = ?, gone_at = ?, state = ?"
        " WHERE tree = ? AND number = ? AND state <> ?",
        (
            report.response,
            at,
            report.gone_at,
            GenerationState.CLOSED if report.gone_at is None else GenerationState.SCHEDULED,
            generation.tree,
            generation.number,
            GenerationState.GONE,
        ),
    )


def store_gone(connection: Connection, generation: Generation, report: KeyReport, at: int) -> None:
    """Store that a generation is gone, and let its wrapped epoch key go as well."""
    run(
        connection,
        "UPDATE vault_generation SET state = ?, wrapped = NULL, response = ?, asked_at = ?,"
        " gone_at = NULL, destroyed_at = coalesce(destroyed_at, ?) WHERE tree = ? AND number = ?",
        (GenerationState.GONE, report.response, at, at, generation.tree, generation.number),
    )


def not_gone(generations: Iterable[Generation]) -> list[Generation]:
    """Return the generations that were left and are not confirmed to be gone."""
    left = (GenerationState.CLOSED, GenerationState.SCHEDULED)
    return [one for one in generations if one.state in left]


def _generation(row: tuple[Any, ...]) -> Generation:
    tree, number, provider_id, reference, wrapped, state, *rest = row
    try:
        # Not converted: a number in the place of a wrapped key would become that many zero bytes.
        if all(isinstance(value, kind) for value, kind in zip(row, _TYPES, strict=True)):
            known = GenerationState(state)
            return Generation(
                TreeNumber(tree), number, provider_id, reference, wrapped, known, *rest
            )
    except ValueError:
        pass
    raise Damaged("a row of the key tree's generations cannot be read")
