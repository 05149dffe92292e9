"""The rules: which entries are valid, given the state of governance so far (GO2, GO3, LG8, MT4).

One pure function, `judge`, takes the origin, a state, an entry, the index at which it is or would
be a leaf, and the record's entry before it, and returns the next state or raises `NotValid`. It
does no I/O, knows no time and makes no choice, so that everybody who has the entries comes to the
same answer: the vault before it writes, fsck, an auditor with the evidence, each node of a
consortium.

A ledger without a founding entry is ungoverned: anything goes that the order of entries allows, but
no list and no prune. The founding entry names members and rules and is approved by every member it
names. From then on each action takes a quorum of the members that there are:

    number         as many approvals as the rule says. For everything but a stop at least two, and
                   more than half of the members who may approve
    roles          one of each role that the rule says must
    organisations  as many different ones as the rule says

No change of members or rules is valid after which a kind of action could never have its quorum. A
new member's own key approves too, which does not count. A version entry with the governed mark
(ledger/entry.py) can be erased only by an entry that proves its place on an enacted list. A stop
refuses new records; what the law gives persons goes on: rectification, erasure, verification.

A state, encoded (integers big-endian):

    "datakluis/governance-state/1", 0x0A
    sequence (4)  stopped (1)  minimum index (8)
    number of members (1), members (49 each), in the order of their keys
    number of rules (1), 0 or 7, rules (4 each), in the order of their kinds
    number of lists (4), lists: sequence (4), root (32), number of items (4), the oldest first
    number of changes (4), changes: leaf (8), digest of the state before it (32), the oldest first

Its digest is SHA-256 over that. Changes are those from the minimum index on, so that what the state
was at an index can be told from the state alone: that is what a prune entry states.

Tested in tests/ledger/test_governance.py.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Collection
from dataclasses import dataclass, replace

from ledger import merkle
from ledger.action import (
    MAX_MEMBERS,
    RULED,
    Action,
    ActionKind,
    AddMember,
    Approval,
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
    list_item,
    parse_body,
    parse_member,
    parse_rule,
)
from ledger.entry import Entry, EntryKind, parse_membership
from ledger.errors import BadProof, Malformed, NotValid
from ledger.merkle import leaf_hash

LEAST_APPROVALS = 2
_DOMAIN = b"datakluis/governance-state/1\n"
_HEAD = struct.Struct(">IBQ")
_LISTED = struct.Struct(">I32sI")
_CHANGE = struct.Struct(">Q32s")
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


@dataclass(frozen=True, slots=True)
class ListedDestruction:
    """An enacted list of what may be destroyed.

    Attributes:
        sequence: of the state that its entry made; names the list.
        root: RFC 6962 root over its items.
        count: of its items.
    """

    sequence: int
    root: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Change:
    """A governance entry that was applied.

    Attributes:
        leaf: its index.
        before: digest of the state that it changed.
    """

    leaf: int
    before: bytes


@dataclass(frozen=True, slots=True)
class GovernanceState:
    """What governs a ledger at one of its sizes; the default is an ungoverned one.

    Attributes:
        sequence: number of governance entries so far.
        members: in the order of their keys.
        rules: one for each of `ledger.action.RULED`, or none before the founding.
        lists: enacted ones, the oldest first.
        stopped: whether new records are refused.
        minimum: entries below this index may be gone.
        changes: from the minimum index on, the oldest first.
    """

    sequence: int = 0
    members: tuple[Member, ...] = ()
    rules: tuple[Rule, ...] = ()
    lists: tuple[ListedDestruction, ...] = ()
    stopped: bool = False
    minimum: int = 0
    changes: tuple[Change, ...] = ()

    @property
    def founded(self) -> bool:
        """Whether there are members and rules."""
        return self.sequence > 0

    def rule(self, kind: ActionKind) -> Rule:
        """Return the rule for a kind of action of a founded ledger."""
        return self.rules[RULED.index(kind)]

    def member(self, key: bytes) -> Member | None:
        """Return the member with a public key."""
        return next((one for one in self.members if one.key == key), None)

    def encode(self) -> bytes:
        """Return the bytes over which the digest is made."""
        lists = [_LISTED.pack(one.sequence, one.root, one.count) for one in self.lists]
        changes = [_CHANGE.pack(one.leaf, one.before) for one in self.changes]
        return b"".join(
            (
                _DOMAIN,
                _HEAD.pack(self.sequence, self.stopped, self.minimum),
                bytes([len(self.members)]),
                *(member.encode() for member in self.members),
                bytes([len(self.rules)]),
                *(rule.encode() for rule in self.rules),
                len(lists).to_bytes(4, "big"),
                *lists,
                len(changes).to_bytes(4, "big"),
                *changes,
            )
        )

    def digest(self) -> bytes:
        """Return SHA-256 over the encoded state."""
        return hashlib.sha256(self.encode()).digest()

    def digest_at(self, index: int) -> bytes:
        """Return the digest of the state that went for the leaf at an index, not below the minimum.

        That is the state after all entries with smaller indices.
        """
        later = (change.before for change in self.changes if change.leaf >= index)
        return next(later, None) or self.digest()

    @classmethod
    def parse(cls, data: bytes) -> GovernanceState:
        """Return the state that `encode` wrote.

        Raises:
            Malformed: any other bytes.
        """
        try:
            state = _parse_state(data)
        except (ValueError, IndexError, struct.error) as error:
            raise Malformed(f"not a governance state: {error}") from error
        if state.encode() != data:
            raise Malformed("not a governance state: it would be written otherwise")
        return state


def judge(
    origin: str, state: GovernanceState, entry: Entry, index: int, before: Entry | None
) -> GovernanceState:
    """Return the state that an entry leaves behind; for most entries the same one.

    Args:
        origin: of the ledger.
        state: that all entries before this one made.
        entry: to be judged.
        index: at which it is a leaf, or would be the next one.
        before: the newest earlier version or erasure entry about the same pointer and group, or
            None where there is none. Whether these follow each other rightly is not judged here.

    Raises:
        NotValid: the rules do not allow it.
    """
    if entry.kind is EntryKind.GOVERNANCE:
        action, approvals = parse_body(entry.group, entry.body)
        return _enact(origin, state, action, approvals, entry.version, index)
    if entry.kind is EntryKind.VERSION:
        _judge_version(state, entry, before)
    elif entry.kind is EntryKind.ERASURE:
        if before is not None and before.governed:
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
    if before is None and state.stopped:
        raise NotValid("is a new record in a ledger that is stopped")
    if before is not None and before.governed != entry.governed:
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
    _check_approvals(origin, state, action, approvals, index)
    lacking = missing(state, action, {approval.key for approval in approvals})
    if lacking is not None:
        raise NotValid(f"lacks {lacking}")
    after = _apply(state, action, index)
    _require_able(after)
    change = Change(index, state.digest())
    kept = (one for one in (*after.changes, change) if one.leaf >= after.minimum)
    return replace(after, sequence=sequence, changes=tuple(kept))


def _check_approvals(
    origin: str,
    state: GovernanceState,
    action: Action,
    approvals: tuple[Approval, ...],
    index: int,
) -> None:
    known = {member.key for member in _electorate(state, action)}
    for approval in approvals:
        if approval.key not in known:
            raise NotValid("carries an approval by a key that is no member's")
        if index >= approval.expiry:
            raise NotValid(f"carries an approval that expired at {approval.expiry} leaves")
        if not approval.holds(origin, state.sequence + 1, action):
            raise NotValid("carries an approval that does not hold for it")


def _electorate(state: GovernanceState, action: Action) -> tuple[Member, ...]:
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
            if state.member(member.key) is not None or len(state.members) == MAX_MEMBERS:
                raise NotValid("adds a key that is a member's already, or one too many")
            return replace(state, members=tuple(sorted((*state.members, member))))
        case RemoveMember(key):
            if state.member(key) is None:
                raise NotValid("removes a key that is no member's")
            return replace(state, members=tuple(one for one in state.members if one.key != key))
        case SetRule(ruled, rule):
            place = RULED.index(ruled)
            return replace(state, rules=(*state.rules[:place], rule, *state.rules[place + 1 :]))
        case EnactList(root, count):
            listed = ListedDestruction(state.sequence + 1, root, count)
            return replace(state, lists=(*state.lists, listed))
        case Prune():
            return _prune(state, action, index)
        case Stop() | Resume():
            stop = isinstance(action, Stop)
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
            raise NotValid(f"leaves too few members: a {name} would lack {lacking}")


def _parse_state(data: bytes) -> GovernanceState:
    at = len(_DOMAIN)
    sequence, stopped, minimum = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    raw_members, at = _rows(data, at, 1, 49)
    raw_rules, at = _rows(data, at, 1, 4)
    raw_lists, at = _rows(data, at, 4, _LISTED.size)
    raw_changes, at = _rows(data, at, 4, _CHANGE.size)
    return GovernanceState(
        sequence,
        tuple(map(parse_member, raw_members)),
        tuple(map(parse_rule, raw_rules)),
        tuple(ListedDestruction(*_LISTED.unpack(row)) for row in raw_lists),
        bool(stopped),
        minimum,
        tuple(Change(*_CHANGE.unpack(row)) for row in raw_changes),
    )


def _rows(data: bytes, at: int, prefix: int, width: int) -> tuple[list[bytes], int]:
    """Return the rows behind a number of rows, and where the next part begins."""
    count = int.from_bytes(data[at : at + prefix], "big")
    start, end = at + prefix, at + prefix + count * width
    if end > len(data):
        raise ValueError("it breaks off")
    return [data[place : place + width] for place in range(start, end, width)], end
