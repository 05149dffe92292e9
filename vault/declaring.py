"""Declarations: what an operator states because no software can test it.

That no copy of a destroyed key file exists anywhere is such a thing. The statement is recorded with
name and time and stands on every certificate that rests on it, under the organisation's signature.
Tested in tests/vault/test_certifying.py.
"""

from __future__ import annotations

from ledger.driver import run
from policy.assurance import AssuranceClass
from vault.certifying import certify
from vault.config import checked_actor
from vault.core import Caller, Core
from vault.generations import GenerationState, load_generations, load_provider
from vault.records import Action
from vault.rootkeys.opening import provider_class
from vault.rootkeys.provider import TreeNumber


def declare(core: Core, name: str, caller: Caller) -> int:
    """Record that no copy exists of any destroyed key file, and certify what that completes.

    Returns:
        For how many generations that is new.
    """
    new = record_declaration(core, name, caller)
    certify(core)
    return new


def record_declaration(core: Core, name: str, caller: Caller) -> int:
    """Record that no copy exists of any destroyed key file.

    Args:
        core: of the open vault.
        name: of the operator who states it.
        caller: who records it.

    Returns:
        For how many generations that is new.
    """
    checked_actor(name)
    at = core.clock.now()
    new = 0
    with core.change() as change:
        connection = change.connection
        for tree in TreeNumber:
            for generation in load_generations(connection, tree):
                kind, _ = load_provider(connection, generation.provider_id)
                if (
                    generation.state is GenerationState.GONE
                    and provider_class(kind).assurance.class_ is AssuranceClass.DECLARED
                ):
                    stored = run(
                        connection,
                        "INSERT INTO vault_declaration (tree, generation, name, at)"
                        " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (tree, generation.number, name, at),
                    )
                    new += stored.rowcount
        if new:
            change.act(caller, Action.DECLARE, at)
    return new
