"""Actions of governance: what a governance entry does.

Behind the head of a governance entry (ledger/entry.py), whose group byte is the kind of the action
and whose version is the sequence of the state that the entry makes, stand the action's parameters,
and behind those its approvals (ledger/approval.py). Integers are big-endian.

    kind             parameters
    1 found          number of members (1), members (49 each), rules (7 x 4), kinds 2 to 8 in order
    2 add member     member (49)
    3 remove member  public key (32)
    4 set rule       kind (1), 2 to 8, rule (4)
    5 list           RFC 6962 root (32) and number of items (4) of a list of what is to be destroyed
    6 prune          minimum index (8), digest of the governance state at that index (32)
    7 stop           none
    8 resume         none

    member           organisation (16, random), role (1), Ed25519 public key (32)
    rule             least number of approvals (1), roles that may approve (1), roles of which one
                     member each must (1), least number of organisations among them (1); roles are
                     bits, 1 << role - 1

Members stand in the order of their keys, and none stands twice. The digest of an action is SHA-256
over "datakluis/action/1", 0x0A, kind (1), parameters. An item of a list is the 17 bytes of a
pointer and a field group; its leaf hash is that of RFC 6962. No name of a person or an organisation
stands here: who holds a key is kept elsewhere (PR4).

Tested in tests/ledger/test_action.py.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import nacl.bindings

from ledger.errors import Malformed

ORGANISATION_BYTES = 16
KEY_BYTES = 32
MEMBER_BYTES = 49
RULE_BYTES = 4
MAX_MEMBERS = 100
_DIGEST_BYTES = 32
_ACTION_DOMAIN = b"datakluis/action/1\n"
_MEMBER = struct.Struct(">16sB32s")
_RULE = struct.Struct(">BBBB")
_LIST = struct.Struct(">32sI")
_PRUNE = struct.Struct(">Q32s")


class Role(IntEnum):
    """What an organisation's key is for."""

    OPERATOR = 1
    OFFICER = 2
    ARCHIVIST = 3
    AUDITOR = 4


class ActionKind(IntEnum):
    """What an action does to the state of governance."""

    FOUND = 1
    ADD_MEMBER = 2
    REMOVE_MEMBER = 3
    SET_RULE = 4
    LIST = 5
    PRUNE = 6
    STOP = 7
    RESUME = 8


RULED = tuple(kind for kind in ActionKind if kind is not ActionKind.FOUND)
"""The kinds for which a state has a rule, in the order in which the rules are written."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A role key of an organisation.

    Attributes:
        key: Ed25519 public key, 32 bytes; names the member.
        organisation: 16 random bytes.
        role: what the key is for.
    """

    key: bytes
    organisation: bytes
    role: Role

    def encode(self) -> bytes:
        """Return the 49 bytes."""
        return _MEMBER.pack(self.organisation, self.role, self.key)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who must approve a kind of action.

    Attributes:
        count: least number of approvals, 1 to 255; `ledger.governance.needed` may ask for more.
        may: roles whose approvals count.
        must: roles of which at least one member each has to approve, all of them in `may`.
        organisations: least number of different organisations among the approvers, 1 to 255.
    """

    count: int
    may: frozenset[Role]
    must: frozenset[Role] = frozenset()
    organisations: int = 1

    def encode(self) -> bytes:
        """Return the four bytes."""
        return _RULE.pack(self.count, _mask(self.may), _mask(self.must), self.organisations)


@dataclass(frozen=True, slots=True)
class Found:
    """The first action: who the members are and by which rules.

    Attributes:
        members: in the order of their keys.
        rules: one for each of `RULED`, in that order.
    """

    kind: ClassVar = ActionKind.FOUND
    members: tuple[Member, ...]
    rules: tuple[Rule, ...]

    def parameters(self) -> bytes:
        """Return the parameters."""
        parts = [member.encode() for member in self.members]
        parts += [rule.encode() for rule in self.rules]
        return bytes([len(self.members)]) + b"".join(parts)


@dataclass(frozen=True, slots=True)
class AddMember:
    """A member joins; its own key approves as well, which does not count."""

    kind: ClassVar = ActionKind.ADD_MEMBER
    member: Member

    def parameters(self) -> bytes:
        """Return the parameters."""
        return self.member.encode()


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """A member leaves, or is put out; `key` is its public key."""

    kind: ClassVar = ActionKind.REMOVE_MEMBER
    key: bytes

    def parameters(self) -> bytes:
        """Return the parameters."""
        return self.key


@dataclass(frozen=True, slots=True)
class SetRule:
    """Another rule goes for a kind of action from here on."""

    kind: ClassVar = ActionKind.SET_RULE
    ruled: ActionKind
    rule: Rule

    def parameters(self) -> bytes:
        """Return the parameters."""
        return bytes([self.ruled]) + self.rule.encode()


@dataclass(frozen=True, slots=True)
class EnactList:
    """What is on this list may be destroyed.

    Attributes:
        root: RFC 6962 root over the items.
        count: of the items, 1 to 2^32 - 1.
    """

    kind: ClassVar = ActionKind.LIST
    root: bytes
    count: int

    def parameters(self) -> bytes:
        """Return the parameters."""
        return _LIST.pack(self.root, self.count)


@dataclass(frozen=True, slots=True)
class Prune:
    """Entries below an index may go (LG8).

    Attributes:
        minimum: the index, C2SP tlog-tiles "Pruning".
        state: digest of the governance state as it was before that leaf, 32 bytes.
    """

    kind: ClassVar = ActionKind.PRUNE
    minimum: int
    state: bytes

    def parameters(self) -> bytes:
        """Return the parameters."""
        return _PRUNE.pack(self.minimum, self.state)


@dataclass(frozen=True, slots=True)
class Stop:
    """No new record enters until it is resumed (GO3)."""

    kind: ClassVar = ActionKind.STOP

    def parameters(self) -> bytes:
        """Return the parameters: none."""
        return b""


@dataclass(frozen=True, slots=True)
class Resume:
    """New records may enter again."""

    kind: ClassVar = ActionKind.RESUME

    def parameters(self) -> bytes:
        """Return the parameters: none."""
        return b""


Action = Found | AddMember | RemoveMember | SetRule | EnactList | Prune | Stop | Resume


def action_digest(action: Action) -> bytes:
    """Return the SHA-256 that approvals sign and people compare."""
    content = _ACTION_DOMAIN + bytes([action.kind]) + action.parameters()
    return hashlib.sha256(content).digest()


def is_sound_key(key: bytes) -> bool:
    """Tell whether a public key is the one encoding of a point of the large prime order.

    Of any other key implementations of Ed25519 disagree whether it signed something.
    """
    return bool(nacl.bindings.crypto_core_ed25519_is_valid_point(key))


def list_item(pointer: bytes, group: int) -> bytes:
    """Return the leaf data of an item of a list: what is to be destroyed."""
    return pointer + bytes([group])


def read_action(kind: int, data: bytes) -> tuple[Action, bytes]:
    """Return the action whose parameters stand first in `data`, and what stands behind them.

    Raises:
        Malformed: parameters that this kind would not have written.
    """
    try:
        return _PARSERS[ActionKind(kind)](data)
    except (ValueError, IndexError, struct.error) as error:
        raise Malformed(f"no action of kind {kind}: {error}") from error


def parse_action(kind: int, parameters: bytes) -> Action:
    """Return the action of a kind with these parameters and nothing behind them.

    Raises:
        Malformed: parameters that this kind would not have written.
    """
    action, rest = read_action(kind, parameters)
    if rest or action.parameters() != parameters:
        raise Malformed(f"no parameters of an action of kind {kind}: something stands behind them")
    return action


def parse_member(data: bytes) -> Member:
    """Return the member in 49 bytes.

    Raises:
        ValueError, struct.error: there is none.
    """
    organisation, role, key = _MEMBER.unpack(data)
    return Member(key, organisation, Role(role))


def parse_rule(data: bytes) -> Rule:
    """Return the rule in four bytes.

    Raises:
        ValueError, struct.error: there is none, or it lets nobody approve.
    """
    count, may, must, organisations = _RULE.unpack(data)
    rule = Rule(count, _roles(may), _roles(must), organisations)
    if not count or not organisations or not rule.may or not rule.must <= rule.may:
        raise ValueError("a rule by which nobody could approve")
    return rule


def _mask(roles: frozenset[Role]) -> int:
    return sum(1 << role - 1 for role in roles)


def _roles(mask: int) -> frozenset[Role]:
    roles = frozenset(role for role in Role if mask & 1 << role - 1)
    if _mask(roles) != mask:
        raise ValueError("a role that this version does not know")
    return roles


def _found(body: bytes) -> tuple[Action, bytes]:
    count = body[0]
    end = 1 + count * MEMBER_BYTES
    members = tuple(
        parse_member(body[start : start + MEMBER_BYTES]) for start in range(1, end, MEMBER_BYTES)
    )
    if count > MAX_MEMBERS or [one.key for one in members] != sorted({one.key for one in members}):
        raise ValueError("members out of the order of their keys, twice the same, or too many")
    last = end + len(RULED) * RULE_BYTES
    rules = tuple(
        parse_rule(body[start : start + RULE_BYTES]) for start in range(end, last, RULE_BYTES)
    )
    return Found(members, rules), body[last:]


def _add_member(body: bytes) -> tuple[Action, bytes]:
    return AddMember(parse_member(body[:MEMBER_BYTES])), body[MEMBER_BYTES:]


def _remove_member(body: bytes) -> tuple[Action, bytes]:
    if len(body) < KEY_BYTES:
        raise ValueError("it breaks off")
    return RemoveMember(body[:KEY_BYTES]), body[KEY_BYTES:]


def _set_rule(body: bytes) -> tuple[Action, bytes]:
    ruled = ActionKind(body[0])
    if ruled not in RULED:
        raise ValueError("a kind of action that no rule goes for")
    end = 1 + RULE_BYTES
    return SetRule(ruled, parse_rule(body[1:end])), body[end:]


def _list(body: bytes) -> tuple[Action, bytes]:
    root, count = _LIST.unpack(body[: _LIST.size])
    if count == 0:
        raise ValueError("an empty list")
    return EnactList(root, count), body[_LIST.size :]


def _prune(body: bytes) -> tuple[Action, bytes]:
    minimum, state = _PRUNE.unpack(body[: _PRUNE.size])
    if not 1 <= minimum < 2**63:
        raise ValueError("a minimum index that no tree reaches, or 0")
    return Prune(minimum, state), body[_PRUNE.size :]


_PARSERS: dict[ActionKind, Callable[[bytes], tuple[Action, bytes]]] = {
    ActionKind.FOUND: _found,
    ActionKind.ADD_MEMBER: _add_member,
    ActionKind.REMOVE_MEMBER: _remove_member,
    ActionKind.SET_RULE: _set_rule,
    ActionKind.LIST: _list,
    ActionKind.PRUNE: _prune,
    ActionKind.STOP: lambda body: (Stop(), body),
    ActionKind.RESUME: lambda body: (Resume(), body),
}
