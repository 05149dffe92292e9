"""The part of the SDK that ages out the ledger; see vault/sdk.py and vault/pruning.py (LG8)."""

from __future__ import annotations

import datetime as dt

from vault import pruning
from vault.core import Core
from vault.governing import EXPIRY_LEAVES, ProposalView
from vault.pruning import PrunePlan, PruneReport
from vault.rolekeys import RoleKey


class Pruning:
    """Pruning of an open vault's ledger."""

    _core: Core

    def plan_prune(self, before: dt.date) -> PrunePlan:
        """Return what a prune to a date would do; nothing is changed.

        Args:
            before: what was signed before this day, here, ages out.

        Raises:
            InvalidInput: no checkpoint was signed before that day.
            NotAllowed: nobody governs this ledger, it is stopped, it was pruned that far already,
                or the checkpoint is above the newest anchored one.
        """
        return pruning.plan(self._core, before)

    def propose_prune(
        self,
        minimum: int,
        key: RoleKey,
        *,
        expires: int = EXPIRY_LEAVES,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Propose a prune and approve it; `prune` carries it out once it was enacted.

        Args:
            minimum: as `plan_prune` says.
            key: of a member.
            expires: after how many more leaves the approval expires.
            actor: who does it.
            purpose: for which registered purpose.

        Raises:
            NotAllowed: the rules do not allow it, or the key is no member's; nothing was changed.
        """
        caller = self._core.caller(actor, purpose)
        return pruning.propose_prune(self._core, minimum, key, caller, expires)

    def prune(self, *, actor: str | None = None, purpose: str | None = None) -> PruneReport:
        """Carry out the prune that was enacted; nothing living loses its evidence.

        Raises:
            NotAllowed: none was enacted that is not carried out, or the ledger is stopped.
        """
        return pruning.carry_out(self._core, self._core.caller(actor, purpose))
