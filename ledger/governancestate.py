"""The state of governance: what the rules go by, and its bytes.

A state, encoded (integers big-endian):

    "datakluis/governance-state/1", 0x0A
    sequence (4)  stopped (1)  minimum index (8)
    number of members (1), members (49 each), in the order of their keys
    number of rules (1), 0 or 7, rules (4 each), in the order of their kinds
    number of lists (4), lists: sequence (4), root (32), number of items (4), the oldest first
    number of changes (4), changes: leaf (8), digest of the state before it (32), the oldest first

Its digest is SHA-256 over that. Changes are those from the minimum index on, so that what the state
was at an index can be told from the state alone: that is what a prune entry states (LG8). Sequence
0 is the state of an ungoverned ledger, in which nothing else stands.

Who may go from one state to the next is in ledger/governance.py. Tested in
tests/ledger/test_governance.py.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ledger.action import (
    MAX_MEMBERS,
    MEMBER_BYTES,
    RULE_BYTES,
    RULED,
    ActionKind,
    Member,
    Rule,
    parse_member,
    parse_rule,
)
from ledger.errors import Malformed

_DOMAIN = b"datakluis/governance-state/1\n"
_HEAD = struct.Struct(">IBQ")
_LISTED = struct.Struct(">I32sI")
_CHANGE = struct.Struct(">Q32s")
_INDEX_LIMIT = 2**63


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


def _parse_state(data: bytes) -> GovernanceState:
    at = len(_DOMAIN)
    sequence, stopped, minimum = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    raw_members, at = _rows(data, at, 1, MEMBER_BYTES)
    raw_rules, at = _rows(data, at, 1, RULE_BYTES)
    raw_lists, at = _rows(data, at, 4, _LISTED.size)
    raw_changes, at = _rows(data, at, 4, _CHANGE.size)
    state = GovernanceState(
        sequence,
        tuple(map(parse_member, raw_members)),
        tuple(map(parse_rule, raw_rules)),
        tuple(ListedDestruction(*_LISTED.unpack(row)) for row in raw_lists),
        bool(stopped),
        minimum,
        tuple(Change(*_CHANGE.unpack(row)) for row in raw_changes),
    )
    _require_reached(state)
    return state


def _require_reached(state: GovernanceState) -> None:
    """Refuse a state whose parts no sequence of governance entries leaves side by side.

    Raises:
        ValueError: it is one.
    """
    if not state.founded:
        if state != GovernanceState():
            raise ValueError("members or rules, and nothing that founded them")
        return
    lists = [one.sequence for one in state.lists]
    leaves = [one.leaf for one in state.changes]
    # The entry that moved the minimum is not below it, so the last change is always there.
    if len(state.rules) != len(RULED) or not 1 <= len(state.members) <= MAX_MEMBERS or not leaves:
        raise ValueError("too few or too many members, rules or changes")
    if not _rises([one.key for one in state.members]) or not _rises(lists) or not _rises(leaves):
        raise ValueError("members, lists or changes out of order, or twice the same")
    if not state.minimum <= leaves[0] <= leaves[-1] < _INDEX_LIMIT or len(leaves) > state.sequence:
        raise ValueError("changes that its minimum index or its sequence leaves no room for")
    if lists and not 1 < lists[0] <= lists[-1] <= state.sequence:
        raise ValueError("a list that none of its entries enacted")
    if not all(one.count for one in state.lists):
        raise ValueError("an empty list")


def _rises(values: Sequence[bytes] | Sequence[int]) -> bool:
    return all(one < other for one, other in pairwise(values))  # type: ignore[operator]


def _rows(data: bytes, at: int, prefix: int, width: int) -> tuple[list[bytes], int]:
    """Return the rows behind a number of rows, and where the next part begins."""
    count = int.from_bytes(data[at : at + prefix], "big")
    start, end = at + prefix, at + prefix + count * width
    if end > len(data):
        raise ValueError("it breaks off")
    return [data[place : place + width] for place in range(start, end, width)], end
