"""The part of the SDK that governs: members, approvals, lists, stop; see vault/sdk.py."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ledger.action import ORGANISATION_BYTES, RULED, Action, AddMember, Found, Member, Role, Rule
from ledger.approval import Approval
from ledger.governancestate import GovernanceState
from ledger.pointer import format_pointer, parse_pointer
from policy import Ground
from vault import erasing_listed, governing, listing
from vault.core import Core
from vault.erasing import Erasure
from vault.errors import ConfigurationError, Erased, InvalidInput, NotFound, PurposeRefused
from vault.governing import EXPIRY_LEAVES, ProposalView
from vault.proposalfile import ProposalFile
from vault.rolekeys import RoleKey


@dataclass(frozen=True, slots=True)
class ListInfo:
    """An enacted destruction list.

    Attributes:
        sequence: of the state that it made; names it.
        items: how many stand on it.
        erased: how many of those are erased.
    """

    sequence: int
    items: int
    erased: int


class _Putting(Protocol):
    def put(
        self,
        payload: bytes,
        *,
        category: str,
        subject: str,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> str: ...


class Governing:
    """Governance of an open vault's ledger."""

    _core: Core

    def role_key(self, path: str | Path, passphrase: str) -> RoleKey:
        """Open a role key to act with in this vault.

        Raises:
            InvalidInput: its passphrase is the vault's: one passphrase does not make two persons.
            ConfigurationError, WrongPassphrase: the file does not open.
        """
        if self._core.keyring.is_passphrase(passphrase):
            raise InvalidInput(
                "a role key needs a passphrase of its own, and this one is the vault's: make a new"
                " key with 'kluis member key'"
            )
        return RoleKey.read(path, passphrase)

    def governance(self) -> GovernanceState:
        """Return the state after all entries, pending ones included."""
        return governing.state_of(self._core)

    def lists(self) -> list[ListInfo]:
        """Return the enacted destruction lists, the oldest first."""
        return [ListInfo(*one) for one in governing.lists(self._core)]

    def found(
        self,
        members: Iterable[tuple[Role, bytes, bytes | None]],
        rules: tuple[Rule, ...],
        key: RoleKey,
        *,
        expires: int = EXPIRY_LEAVES,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Propose the founding; every founding member approves it (MT4).

        Args:
            members: role, public key and organisation of each; those with None are of one
                organisation, whose 16 bytes are made up at random.
            rules: one for each of `ledger.action.RULED`.
            key: of a founding member.
            expires: after how many more leaves the approval expires.
            actor: who does it.
            purpose: for which registered purpose.

        Raises:
            NotAllowed: it is founded already, these members could never decide anything, or the
                key is none of theirs.
            InvalidInput: a key is there twice, or there is not one rule for each kind of action.
        """
        if len(rules) != len(RULED):
            raise InvalidInput(f"a ledger is founded with {len(RULED)} rules, not {len(rules)}")
        own = os.urandom(ORGANISATION_BYTES)
        made = sorted(Member(public, home or own, role) for role, public, home in members)
        if len({member.key for member in made}) != len(made):
            raise InvalidInput("a founding member's key is there twice")
        return self.propose(
            Found(tuple(made), rules), key, expires=expires, actor=actor, purpose=purpose
        )

    def add_member(
        self,
        role: Role,
        public: bytes,
        key: RoleKey,
        *,
        organisation: bytes | None = None,
        expires: int = EXPIRY_LEAVES,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Propose a member; of the proposer's organisation for None. Its own key approves too.

        Raises:
            NotAllowed: see `propose`.
        """
        home = organisation or governing.own_organisation(self.governance(), key.public)
        action = AddMember(Member(public, home, role))
        return self.propose(action, key, expires=expires, actor=actor, purpose=purpose)

    def propose(
        self,
        action: Action,
        key: RoleKey,
        *,
        expires: int = EXPIRY_LEAVES,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Propose an action and approve it; it is enacted at once where nothing else is missing.

        Args:
            action: what is proposed; for a list, see `propose_list`.
            key: of a member.
            expires: after how many more leaves the approval expires: a tree size, never a time.
            actor: who does it.
            purpose: for which registered purpose.

        Raises:
            NotAllowed: the rules do not allow it, or the key is no member's; nothing was changed.
            InvalidInput: the expiry is out of range.
        """
        caller = self._core.caller(actor, purpose)
        return governing.propose(self._core, action, key, caller, expires)

    def propose_list(
        self,
        pointers: Iterable[str],
        key: RoleKey,
        *,
        expires: int = EXPIRY_LEAVES,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Propose a list of records that may be destroyed; the ledger gets its root alone (GO2).

        Date and holds are looked at when each is erased, see `erase_listed`.

        Raises:
            NotFound: no record has one of these pointers.
            InvalidInput: one is there twice or was erased, or there are none.
            NotAllowed: see `propose`.
        """
        caller = self._core.caller(actor, purpose)
        with self._core.database.read() as connection:
            items = listing.shuffled_items(connection, map(parse_pointer, pointers))
        action = listing.list_action(items)
        return governing.propose(self._core, action, key, caller, expires, items)

    def approve(
        self,
        proposal: int,
        key: RoleKey,
        *,
        expires: int = EXPIRY_LEAVES,
        shown: ProposalView | None = None,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Approve an open proposal; the last approval that is needed enacts it.

        Args:
            proposal: its number.
            key: of the member who approves.
            expires: after how many more leaves the approval expires.
            shown: the proposal as it was shown; only exactly that is signed.
            actor: who does it.
            purpose: for which registered purpose.

        Raises:
            NotAllowed: it is not open any more, it is not what was shown, or the key is no
                member's.
            InvalidInput: there is no such proposal, or the expiry is out of range.
        """
        caller = self._core.caller(actor, purpose)
        seen = None if shown is None else shown.proposal
        return governing.approve(self._core, proposal, key, caller, expires, seen)

    def add_approval(
        self,
        proposal: int,
        approval: Approval,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> ProposalView:
        """Take in an approval that was signed where there is no vault.

        Raises:
            NotAllowed: it is for something else, expired, or its key is no member's.
            InvalidInput: there is no such proposal.
        """
        caller = self._core.caller(actor, purpose)
        return governing.add_approval(self._core, proposal, approval, caller)

    def proposals(self) -> list[ProposalView]:
        """Return all proposals, the oldest first."""
        return governing.proposals(self._core)

    def proposal(self, proposal: int) -> ProposalView:
        """Return one proposal.

        Raises:
            InvalidInput: there is none with this id.
        """
        return governing.view(self._core, proposal)

    def proposal_file(self, proposal: int, *, expires: int = EXPIRY_LEAVES) -> ProposalFile:
        """Return a proposal for somebody who approves it without this vault.

        Raises:
            NotAllowed: it is not open any more.
            InvalidInput: there is none with this id, or the expiry is out of range.
        """
        return governing.proposal_file(self._core, proposal, expires)

    def set_holder(
        self: _GoverningVault,
        public: bytes,
        name: str,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> str:
        """Store who holds a role key, as a record that can be erased, and return its pointer (PR4).

        Raises:
            ConfigurationError: the configuration names no category for such records.
            InvalidInput, PurposeRefused, Stopped: as for `put`.
        """
        category = self.holders_category()
        payload = json.dumps({"key": public.hex(), "holder": name}, ensure_ascii=False).encode()
        pointer = self.put(payload, category=category, subject=name, actor=actor, purpose=purpose)
        governing.note_holder(self._core, public, parse_pointer(pointer))
        return pointer

    def holders_category(self) -> str:
        """Return the category of the records that say who holds a role key.

        Raises:
            ConfigurationError: the configuration names none.
        """
        if self._core.config.holders is None:
            raise ConfigurationError(
                "no category is configured for the names of holders: put [governance] with"
                ' holders = "CATEGORY" into datakluis.toml'
            )
        return self._core.config.holders

    def holder(
        self: _GoverningVault,
        public: bytes,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> tuple[str, str] | None:
        """Return pointer and name of who holds a role key; None where no living record says so."""
        pointer = governing.holders(self._core).get(public)
        if pointer is None:
            return None
        written = format_pointer(pointer)
        try:
            payload = self.get(written, actor=actor, purpose=purpose)
        except (Erased, NotFound, PurposeRefused):
            return None
        return written, str(json.loads(payload)["holder"])

    def erase_listed(
        self,
        pointer: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Erasure:
        """Erase a record that stands on an enacted destruction list (D9).

        Raises:
            Erased: it was erased before (D2).
            Refused: a hold lies on it, or its date is not reached; carries the decision.
            ListNeeded: it stands on no enacted list.
            NotFound, PurposeRefused, Incomplete: as for `erase`.
        """
        caller = self._core.caller(actor, purpose)
        return erasing_listed.erase_listed(self._core, pointer, ground, caller)


class _GoverningVault(_Putting, Protocol):
    """What a holder's record needs of the whole SDK."""

    _core: Core

    def get(
        self, pointer: str, *, actor: str | None = None, purpose: str | None = None
    ) -> bytes: ...

    def holders_category(self) -> str: ...
