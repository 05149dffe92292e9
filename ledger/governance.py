"""The rules: which entries are valid, given the state of governance so far (GO2, GO3, LG8, MT4).

One pure function, `judge`, takes the origin, a state, an entry, the index at which it is or would
be a leaf, and the entry of the record's core before it, and returns the next state or raises
`NotValid`. It does no I/O, knows no time and makes no choice, so that everybody who has the entries
comes to the same answer: the vault before it writes, fsck, an auditor with the evidence, each node
of a consortium.

A ledger without a founding entry is ungoverned: anything goes that the order of entries allows, but
no list and no prune. The founding entry names members and rules and is approved by every member it
names. From then on each action takes a quorum of the members that there are:

    number         as many approvals as the rule says. For everything but a stop at least two, and
                   more than half of the members who may approve
    roles          one of each role that the rule says must
    organisations  as many different ones as the rule says

No change of members or rules is valid after which a kind of action could never have its quorum. A
new member's own key approves too, which does not count. A member's key is a point of the large
prime order (ledger/approval.py). No version of a record follows the erasure of its core, and none
but governance entries stand under the pointer of zeroes. A stop refuses new records; what the law
gives persons goes on: rectification, also by a field group that the record did not have, erasure,
verification.

A core whose version entries have the governed mark (ledger/entry.py) is erased only by an entry
that proves its place on an enacted list; the first version sets the mark and each later one has it
too. The mark protects the core alone: no duty keeps the content of a field group, so a person whose
consent it stands on has it erased without a list.

Tested in tests/ledger/test_governance.py, and in tests/ledger/test_governance_model.py against
members who cheat.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import replace

from ledger import merkle
from ledger.action import (
    MAX_MEMBERS,
    RULED,
    Action,
    ActionKind,
    AddMember,
    EnactList,
    Found,
    Member,
    Prune,
    RemoveMember,
    Resume,
    Role,
    Rule,
    SetRule,
    Stop,
    is_sound_key,
    list_item,
)
from ledger.approval import Approval, parse_body
from ledger.entry import (
    CORE_GROUP,
    ERASURES,
    GOVERNANCE_POINTER,
    Entry,
    EntryKind,
    parse_membership,
)
from ledger.errors import BadProof, NotValid
from ledger.governancestate import Change as Change
from ledger.governancestate import GovernanceState as GovernanceState
from ledger.governancestate import ListedDestruction as ListedDestruction
from ledger.merkle import leaf_hash

LEAST_APPROVALS = 2
_MANAGERS = frozenset({Role.OPERATOR, Role.OFFICER, Role.ARCHIVIST})
_DESTROYERS = frozenset({Role.OFFICER, Role.ARCHIVIST})

DEFAULT_RULES = {
    ActionKind.ADD_MEMBER: Rule(2, _MANAGERS),
    ActionKind.REMOVE_MEMBER: Rule(2, _MANAGERS),
    ActionKind.SET_RULE: Rule(2, _MANAGERS),
    ActionKind.LIST: Rule(2, _DESTROYERS, _DESTROYERS),
    ActionKind.PRUNE: Rule(2, _MANAGERS, frozenset({Role.ARCHIVIST})),
    ActionKind.STOP: Rule(1, frozenset(Role)),
    ActionKind.RESUME: Rule(2, _MANAGERS),
}
"""The rules that a founding takes when it is given no others."""


def judge(
    origin: str, state: GovernanceState, entry: Entry, index: int, before: Entry | None
) -> GovernanceState:
    """Return the state that an entry leaves behind; for most entries the same one.

    Args:
        origin: of the ledger.
        state: that all entries before this one made.
        entry: to be judged.
        index: at which it is a leaf, or would be the next one.
        before: the newest earlier version or erasure entry of the core (group 0) of the same
            record, or None where there is none. In a pruned ledger it is one that was kept. Whether
            version numbers follow each other rightly is not judged here.

    Raises:
        NotValid: the rules do not allow it.
    """
    if entry.kind is EntryKind.GOVERNANCE:
        action, approvals = parse_body(entry.group, entry.body)
        return _enact(origin, state, action, approvals, entry.version, index)
    if entry.pointer == GOVERNANCE_POINTER:
        raise NotValid("stands under the pointer of governance entries")
    if entry.kind is EntryKind.VERSION:
        _judge_version(state, entry, before)
    elif entry.kind is EntryKind.ERASURE and entry.group == CORE_GROUP:
        if before is None:
            raise NotValid("erases a record of which there is no version")
        if before.governed:
            raise NotValid("erases what only an enacted list can have erased")
    elif entry.kind is EntryKind.LISTED_ERASURE:
        _judge_listed(state, entry)
    return state


def needed(state: GovernanceState, kind: ActionKind) -> int:
    """Return how many approvals a kind of action takes in a founded ledger."""
    rule = state.rule(kind)
    if kind is ActionKind.STOP:
        return rule.count
    eligible = sum(1 for member in state.members if member.role in rule.may)
    return max(rule.count, LEAST_APPROVALS, eligible // 2 + 1)


def missing(state: GovernanceState, action: Action, keys: Collection[bytes]) -> str | None:
    """Return in words what an action lacks when these keys have approved it, or None.

    Args:
        state: before the action.
        action: to be enacted.
        keys: public keys of those who approved; others than members count for nothing.
    """
    if isinstance(action, Found):
        lacking = sum(1 for member in action.members if member.key not in keys)
        return f"{lacking} of the {len(action.members)} founding members" if lacking else None
    if not state.founded:
        return "a founding entry: there are no members yet"
    if isinstance(action, AddMember) and action.member.key not in keys:
        return "the new member's own key"
    return _lacks(state, action.kind, [one for one in state.members if one.key in keys])


def preview(state: GovernanceState, action: Action, index: int) -> GovernanceState:
    """Return what an action would make of a state, whoever approves it; sequence and changes stay.

    Args:
        state: before the action.
        action: to be looked at.
        index: at which its entry would be a leaf.

    Raises:
        NotValid: no approvals could make it valid in this state.
    """
    if not state.founded and not isinstance(action, Found):
        raise NotValid("governs a ledger that has no founding entry")
    _check_keys(action)
    after = _apply(state, action, index)
    _require_able(after)
    return after


def _lacks(state: GovernanceState, kind: ActionKind, approvers: list[Member]) -> str | None:
    rule = state.rule(kind)
    counted = [member for member in approvers if member.role in rule.may]
    lacking = needed(state, kind) - len(counted)
    if lacking > 0:
        roles = " or ".join(role.name.lower() for role in sorted(rule.may))
        return f"{lacking} more of {needed(state, kind)} approvals by {roles}"
    for role in sorted(rule.must):
        if all(member.role is not role for member in counted):
            return f"the approval of one {role.name.lower()}"
    if len({member.organisation for member in counted}) < rule.organisations:
        return f"approvals from {rule.organisations} organisations"
    return None


def _judge_version(state: GovernanceState, entry: Entry, before: Entry | None) -> None:
    if before is None:
        if state.stopped:
            raise NotValid("is a new record in a ledger that is stopped")
    elif before.kind in ERASURES:
        raise NotValid("is a version of a record that was erased")
    elif entry.group == CORE_GROUP and before.governed != entry.governed:
        raise NotValid("changes whether its record can be erased without a list")


def _judge_listed(state: GovernanceState, entry: Entry) -> None:
    membership = parse_membership(entry.body)
    listed = next((one for one in state.lists if one.sequence == membership.sequence), None)
    if listed is None:
        raise NotValid(f"names list {membership.sequence}, which was not enacted")
    leaf = leaf_hash(list_item(entry.pointer, entry.group))
    try:
        merkle.verify_inclusion(leaf, membership.index, listed.count, membership.path, listed.root)
    except BadProof as error:
        raise NotValid(f"does not prove its place on list {listed.sequence}") from error


def _enact(
    origin: str,
    state: GovernanceState,
    action: Action,
    approvals: tuple[Approval, ...],
    sequence: int,
    index: int,
) -> GovernanceState:
    if sequence != state.sequence + 1:
        raise NotValid(f"makes state {sequence}, after state {state.sequence}")
    _check_keys(action)
    _check_approvals(origin, state, action, approvals, index)
    lacking = missing(state, action, {approval.key for approval in approvals})
    if lacking is not None:
        raise NotValid(f"lacks {lacking}")
    after = preview(state, action, index)
    change = Change(index, state.digest())
    kept = (one for one in (*after.changes, change) if one.leaf >= after.minimum)
    return replace(after, sequence=sequence, changes=tuple(kept))


def _check_keys(action: Action) -> None:
    joining = action.members if isinstance(action, Found) else ()
    if isinstance(action, AddMember):
        joining = (action.member,)
    if not all(is_sound_key(member.key) for member in joining):
        raise NotValid("names a member's key that is no point of prime order")


def _check_approvals(
    origin: str,
    state: GovernanceState,
    action: Action,
    approvals: tuple[Approval, ...],
    index: int,
) -> None:
    known = {member.key for member in electorate(state, action)}
    for approval in approvals:
        if approval.key not in known:
            raise NotValid("carries an approval by a key that is no member's")
        if index >= approval.expiry:
            raise NotValid(f"carries an approval that expired at {approval.expiry} leaves")
        if not approval.holds(origin, state.sequence + 1, action):
            raise NotValid("carries an approval that does not hold for it")


def electorate(state: GovernanceState, action: Action) -> tuple[Member, ...]:
    """Return whose approvals an action may carry, whether or not they count."""
    if isinstance(action, Found):
        return action.members
    if isinstance(action, AddMember):
        return (*state.members, action.member)
    return state.members


def _apply(state: GovernanceState, action: Action, index: int) -> GovernanceState:
    """Return the state with an approved action applied; sequence and changes are not its business.

    Raises:
        NotValid: the action does not fit the state.
    """
    match action:
        case Found(members, rules):
            if state.founded:
                raise NotValid("founds a ledger that is founded")
            return replace(state, members=members, rules=rules)
        case AddMember(member):
            return replace(state, members=_with(state, member))
        case RemoveMember(key):
            return replace(state, members=_without(state, key))
        case SetRule(ruled, rule):
            place = RULED.index(ruled)
            return replace(state, rules=(*state.rules[:place], rule, *state.rules[place + 1 :]))
        case EnactList(root, count):
            listed = ListedDestruction(state.sequence + 1, root, count)
            return replace(state, lists=(*state.lists, listed))
        case Prune():
            return _prune(state, action, index)
        case Stop() | Resume():
            return _halt(state, isinstance(action, Stop))


def _with(state: GovernanceState, member: Member) -> tuple[Member, ...]:
    if state.member(member.key) is not None or len(state.members) == MAX_MEMBERS:
        raise NotValid("adds a key that is a member's already, or one too many")
    return tuple(sorted((*state.members, member)))


def _without(state: GovernanceState, key: bytes) -> tuple[Member, ...]:
    if state.member(key) is None:
        raise NotValid("removes a key that is no member's")
    return tuple(member for member in state.members if member.key != key)


def _halt(state: GovernanceState, stop: bool) -> GovernanceState:
    if state.stopped is stop:
        raise NotValid("stops what is stopped" if stop else "resumes what is not stopped")
    return replace(state, stopped=stop)


def _prune(state: GovernanceState, action: Prune, index: int) -> GovernanceState:
    if state.stopped:
        raise NotValid("prunes a ledger that is stopped")
    if not state.minimum < action.minimum <= index:
        raise NotValid(f"prunes to {action.minimum}, not above {state.minimum} and at most {index}")
    if not hmac.compare_digest(state.digest_at(action.minimum), action.state):
        raise NotValid(f"states another governance than that at {action.minimum} leaves")
    return replace(state, minimum=action.minimum)


def _require_able(state: GovernanceState) -> None:
    """Refuse members and rules by which some kind of action could never have its quorum."""
    for kind in RULED:
        lacking = _lacks(state, kind, list(state.members))
        if lacking is not None:
            name = kind.name.lower().replace("_", " ")
            raise NotValid(f"leaves too few members: {name!r} would lack {lacking}")
