"""Governance of a vault's ledger: proposals, approvals, and what is enacted (GO2, GO3, PR4, MT4).

An action is proposed by whoever signs it first. It is enacted in the same transaction in which the
last approval that it needs comes in: the entry becomes pending, the state moves, every other open
proposal is stale, and the items of a list go from its proposal to the list. Who may do what is
judged by the rules alone (ledger/governance.py); nothing here can add to them. Approvals that
expired or whose key is no member's any more are left out, so they hold nothing up.

The name of whoever holds a role key is an ordinary record of the category that the configuration
names, found through `vault_holder`: erasing that record erases the name. Tested in
tests/vault/test_governed_vault.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ledger.action import (
    Action,
    ActionKind,
    AddMember,
    EnactList,
    Found,
    Member,
    Resume,
    action_digest,
)
from ledger.approval import Approval
from ledger.driver import run
from ledger.entry import encode_governance
from ledger.errors import NotValid
from ledger.governance import electorate, missing, preview
from ledger.governancestate import GovernanceState
from ledger.governing import append_governance, current_state, next_index
from ledger.proposals import (
    Proposal,
    ProposalOutcome,
    close_proposals,
    insert_proposal,
    load_proposal,
    load_proposals,
    store_approval,
)
from vault.core import Caller, Core, record_act
from vault.errors import InvalidInput, NotAllowed, Stopped
from vault.listing import (
    Item,
    list_action,
    load_proposed,
    note_approvers,
    settle_proposed,
    store_proposed,
)
from vault.proposalfile import ProposalFile
from vault.records import Action as ActAction
from vault.rolekeys import RoleKey

EXPIRY_LEAVES = 100_000
"""After how many more leaves an approval expires, where nobody says otherwise."""
_MAX_EXPIRY_LEAVES = 2**62


@dataclass(frozen=True, slots=True)
class Signed:
    """One approval of a proposal.

    Attributes:
        member: whose key it is; None for a key that is no member's any more.
        approval: as it is stored.
        counts: whether it still counts: signed for this action, not expired, by a member.
    """

    member: Member | None
    approval: Approval
    counts: bool


@dataclass(frozen=True, slots=True)
class ProposalView:
    """A proposal as it stands now.

    Attributes:
        proposal: as it is stored.
        signed: who approved it.
        missing: in words, what it lacks; None where it is not open any more.
        index: at which its entry would be a leaf now; an approval must expire later.
    """

    proposal: Proposal
    signed: tuple[Signed, ...]
    missing: str | None
    index: int

    @property
    def is_enacted(self) -> bool:
        """Whether it took effect."""
        return self.proposal.outcome is ProposalOutcome.ENACTED

    @property
    def is_open(self) -> bool:
        """Whether approvals can still enact it."""
        return self.proposal.outcome is None

    @property
    def digest(self) -> bytes:
        """What approvals sign and people compare."""
        return action_digest(self.proposal.action)


def propose(
    core: Core,
    action: Action,
    key: RoleKey,
    caller: Caller,
    expires: int = EXPIRY_LEAVES,
    items: Sequence[Item] = (),
) -> ProposalView:
    """Propose an action and approve it; it is enacted at once where nothing else is missing.

    Args:
        core: of the open vault.
        action: what is proposed.
        key: of the member who proposes it.
        caller: who carries it out and why.
        expires: after how many more leaves this approval expires, from 1.
        items: of the list, where that is the action.

    Raises:
        NotAllowed: nobody could approve it in this state, or not with this key, or the items are
            not those of the list.
        InvalidInput: the expiry is out of range.
    """
    at = core.clock.now()
    _require_items(action, items)
    with core.database.write() as connection:
        state, index = current_state(connection), next_index(connection)
        try:
            preview(state, action, index)
        except NotValid as error:
            raise NotAllowed(f"the rules do not allow this action: it {error}") from None
        approval = _sign(core, state, action, key, index + _checked(expires))
        proposal_id = insert_proposal(connection, state.sequence + 1, action, at)
        if items:
            store_proposed(connection, proposal_id, items)
        store_approval(connection, proposal_id, approval)
        record_act(connection, caller, ActAction.GOVERN, at)
        _enact_if_able(core, connection, proposal_id)
        return _view(core, connection, _stored(connection, proposal_id))


def approve(
    core: Core,
    proposal_id: int,
    key: RoleKey,
    caller: Caller,
    expires: int = EXPIRY_LEAVES,
    shown: Proposal | None = None,
) -> ProposalView:
    """Approve an open proposal; the last approval that is needed enacts it.

    Args:
        core: of the open vault.
        proposal_id: of the proposal.
        key: of the member who approves.
        caller: who carries it out and why.
        expires: after how many more leaves this approval expires, from 1.
        shown: as whoever approves saw it; None where nobody looked.

    Raises:
        InvalidInput: there is no such proposal, or the expiry is out of range.
        NotAllowed: it is not open any more, it is not what was shown, its items are not those of
            the list that it proposes, or the key is no member's.
    """
    with core.database.write() as connection:
        proposal = _open(connection, proposal_id)
        if shown is not None and (shown.sequence, shown.action) != (
            proposal.sequence,
            proposal.action,
        ):
            raise NotAllowed(f"proposal {proposal_id} is not what was shown: look at it again")
        _require_items(proposal.action, load_proposed(connection, proposal_id))
        state, index = current_state(connection), next_index(connection)
        approval = _sign(core, state, proposal.action, key, index + _checked(expires))
        return _take_in(core, connection, proposal, approval, caller)


def add_approval(core: Core, proposal_id: int, approval: Approval, caller: Caller) -> ProposalView:
    """Take in an approval that was signed elsewhere.

    Raises:
        InvalidInput: there is no such proposal.
        NotAllowed: it is not open any more, the key is no member's, or the approval is for another
            action, state or ledger, or expired.
    """
    with core.database.write() as connection:
        proposal = _open(connection, proposal_id)
        state = current_state(connection)
        _require_member(state, proposal.action, approval.key)
        if not approval.holds(core.origin, proposal.sequence, proposal.action):
            raise NotAllowed(
                "this approval was signed for another action, another state or another ledger:"
                f" export proposal {proposal_id} again"
            )
        if approval.expiry <= next_index(connection):
            raise NotAllowed(f"this approval expired at {approval.expiry} leaves: sign it anew")
        return _take_in(core, connection, proposal, approval, caller)


def proposals(core: Core) -> list[ProposalView]:
    """Return all proposals, the oldest first."""
    with core.database.read() as connection:
        return [_view(core, connection, one) for one in load_proposals(connection)]


def view(core: Core, proposal_id: int) -> ProposalView:
    """Return one proposal.

    Raises:
        InvalidInput: there is none with this id.
    """
    with core.database.read() as connection:
        return _view(core, connection, _stored(connection, proposal_id))


def proposal_file(core: Core, proposal_id: int, expires: int) -> ProposalFile:
    """Return a proposal for somebody who approves it without a vault.

    Raises:
        InvalidInput: there is none with this id, or the expiry is out of range.
        NotAllowed: it is not open any more.
    """
    with core.database.read() as connection:
        proposal = _open(connection, proposal_id)
        expiry = next_index(connection) + _checked(expires)
        items = tuple(load_proposed(connection, proposal_id))
    return ProposalFile(core.origin, proposal.sequence, proposal.action, expiry, items)


def state_of(core: Core) -> GovernanceState:
    """Return the state after all entries, pending ones included."""
    with core.database.read() as connection:
        return current_state(connection)


def stopped_error(connection: Connection) -> Stopped:
    """Return the error that says since when the ledger is stopped and who can resume it."""
    state = current_state(connection)
    found = run(
        connection,
        "SELECT max(sequence) FROM ledger_proposal WHERE kind = ? AND outcome = ?",
        (ActionKind.STOP, ProposalOutcome.ENACTED),
    ).fetchone()
    # A restored vault can lack its proposals.
    sequence = state.sequence if found is None or found[0] is None else int(found[0])
    return Stopped(sequence, missing(state, Resume(), ()) or "nobody's approval")


def note_holder(core: Core, key: bytes, pointer: bytes) -> None:
    """Remember in which record stands who holds a role key; a newer record takes its place."""
    with core.database.write() as connection:
        run(
            connection,
            "INSERT INTO vault_holder (key, pointer) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET pointer = excluded.pointer",
            (key, pointer),
        )


def holders(core: Core) -> dict[bytes, bytes]:
    """Return the pointer of the record that says who holds a key, by public key."""
    with core.database.read() as connection:
        rows = run(connection, "SELECT key, pointer FROM vault_holder").fetchall()
    return {bytes(key): bytes(pointer) for key, pointer in rows}


def lists(core: Core) -> list[tuple[int, int, int]]:
    """Return sequence, number of items and number of erased items of each enacted list."""
    with core.database.read() as connection:
        counted = dict(
            run(
                connection,
                "SELECT l.sequence, count(*) FROM vault_listed l JOIN vault_record r"
                " ON r.pointer = l.pointer WHERE r.erased_act IS NOT NULL GROUP BY l.sequence",
            ).fetchall()
        )
        state = current_state(connection)
    return [(one.sequence, one.count, counted.get(one.sequence, 0)) for one in state.lists]


def own_organisation(state: GovernanceState, key: bytes) -> bytes:
    """Return the organisation of a member.

    Raises:
        NotAllowed: the key is no member's.
    """
    member = state.member(key)
    if member is None:
        raise _stranger()
    return member.organisation


def _take_in(
    core: Core, connection: Connection, proposal: Proposal, approval: Approval, caller: Caller
) -> ProposalView:
    store_approval(connection, proposal.id, approval)
    record_act(connection, caller, ActAction.GOVERN, core.clock.now())
    _enact_if_able(core, connection, proposal.id)
    return _view(core, connection, _stored(connection, proposal.id))


def _enact_if_able(core: Core, connection: Connection, proposal_id: int) -> None:
    """Enact a proposal that has its quorum, and settle everything that hangs on it."""
    proposal, state = _stored(connection, proposal_id), current_state(connection)
    shown = _view(core, connection, proposal)
    if shown.missing is not None:
        return
    usable = [one.approval for one in shown.signed if one.counts]
    entry = encode_governance(proposal.sequence, proposal.action, usable)
    try:
        append_governance(connection, core.origin, entry)
    except NotValid as error:
        raise NotAllowed(f"the rules do not allow this action: it {error}") from None
    close_proposals(connection, proposal.id, proposal.sequence)
    if isinstance(proposal.action, EnactList):
        note_approvers(connection, state, usable, proposal.sequence)
    settle_proposed(connection, proposal.id, proposal.sequence)


def _sign(
    core: Core, state: GovernanceState, action: Action, key: RoleKey, expiry: int
) -> Approval:
    _require_member(state, action, key.public)
    return key.approve(core.origin, state.sequence + 1, action, expiry)


def _require_items(action: Action, items: Sequence[Item]) -> None:
    if isinstance(action, EnactList) and (not items or list_action(items) != action):
        raise NotAllowed("the items are not those of the list: nobody could tell what it destroys")


def _checked(expires: int) -> int:
    if not 1 <= expires <= _MAX_EXPIRY_LEAVES:
        raise InvalidInput("an approval expires after 1 leaf or more, not after none")
    return expires


def _require_member(state: GovernanceState, action: Action, key: bytes) -> None:
    if all(member.key != key for member in electorate(state, action)):
        if isinstance(action, Found):
            raise NotAllowed("this key is no member's: name it among the founding members")
        raise _stranger()


def _stranger() -> NotAllowed:
    return NotAllowed("this key is no member's: 'kluis member list' shows the members")


def _stored(connection: Connection, proposal_id: int) -> Proposal:
    proposal = load_proposal(connection, proposal_id)
    if proposal is None:
        raise InvalidInput(f"there is no proposal {proposal_id}: 'kluis approve' lists them")
    return _dated(connection, proposal)


def _open(connection: Connection, proposal_id: int) -> Proposal:
    proposal = _stored(connection, proposal_id)
    if proposal.outcome is not None:
        if proposal.outcome is ProposalOutcome.ENACTED:
            raise NotAllowed(f"proposal {proposal_id} was enacted: it needs no more approvals")
        raise NotAllowed(
            f"proposal {proposal_id} is stale: it was for state {proposal.sequence} of governance,"
            " and that state is made; propose it anew"
        )
    return proposal


def _dated(connection: Connection, proposal: Proposal) -> Proposal:
    """Return a proposal, stale where a restore has brought the state beyond it."""
    if proposal.outcome is None and proposal.sequence != current_state(connection).sequence + 1:
        return Proposal(
            proposal.id,
            proposal.sequence,
            proposal.action,
            proposal.proposed_at,
            ProposalOutcome.STALE,
            proposal.approvals,
        )
    return proposal


def _view(core: Core, connection: Connection, proposal: Proposal) -> ProposalView:
    proposal = _dated(connection, proposal)
    state, index = current_state(connection), next_index(connection)
    known = {member.key: member for member in _known_members(state, proposal.action)}
    able = {member.key for member in electorate(state, proposal.action)}
    signed = tuple(
        Signed(
            known.get(one.key),
            one,
            one.key in able
            and one.expiry > index
            and one.holds(core.origin, proposal.sequence, proposal.action),
        )
        for one in proposal.approvals
    )
    lacking = None
    if proposal.outcome is None:
        lacking = missing(
            state, proposal.action, {one.approval.key for one in signed if one.counts}
        )
    return ProposalView(proposal, signed, lacking, index)


def _known_members(state: GovernanceState, action: Action) -> tuple[Member, ...]:
    joining = action.members if isinstance(action, Found) else ()
    if isinstance(action, AddMember):
        joining = (action.member,)
    return (*joining, *state.members)
