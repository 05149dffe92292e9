"""Actions of governance in plain words, for whoever is about to sign one."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.action import (
    RULED,
    Action,
    AddMember,
    EnactList,
    Found,
    Member,
    Prune,
    RemoveMember,
    Role,
    Rule,
    SetRule,
    Stop,
)
from policy.decision import Decision, DecisionCode

_KEY_NAME_BYTES = 8


def key_label(key: bytes) -> str:
    """Return a public key as people tell it from others, the first 16 digits of its hex."""
    return f"key {key[:_KEY_NAME_BYTES].hex()}"


def describe(action: Action) -> list[str]:
    """Return what an action does: one line, then the details."""
    match action:
        case Found(members, rules):
            named = [member_words(member) for member in members]
            ruled = [
                f"{_kind(kind)}: {rule_words(rule)}"
                for kind, rule in zip(RULED, rules, strict=True)
            ]
            return [f"found governance with {len(members)} members", *named, *ruled]
        case AddMember(member):
            return ["add a member", member_words(member), f"public key {member.key.hex()}"]
        case RemoveMember(key):
            return ["remove a member", f"public key {key.hex()}"]
        case SetRule(kind, rule):
            return [f"set another rule for {_kind(kind)}", rule_words(rule)]
        case EnactList(root, count):
            return [f"have {count} listed items destroyed", f"root {root.hex()}"]
        case Prune(minimum, _):
            return [f"let the entries below {minimum} go, where nothing living needs them"]
        case Stop():
            return ["stop: no new record is stored until it is resumed"]
        case _:
            return ["resume: new records are stored again"]


def decision_words(decision: Decision) -> str:
    """Return what a list would do to a record today."""
    if decision.code is DecisionCode.D2:
        return "erased already"
    if decision.code is DecisionCode.D3:
        return "under a hold: stays until that ends, and can then be destroyed by this list"
    if decision.code is DecisionCode.D8:
        until = f"{decision.date} has passed" if decision.date else "its brondatum is known"
        return f"not due: stays until {until}, and can then be destroyed by this list"
    if decision.code is DecisionCode.D9:
        return f"due since {decision.date}: can be destroyed once this is enacted"
    return f"decision {decision.code}, {decision.outcome}"


def member_words(member: Member) -> str:
    """Return a member's role, key and organisation."""
    home = member.organisation.hex()
    return f"{member.role.name.lower()}, {key_label(member.key)}, organisation {home}"


def rule_words(rule: Rule) -> str:
    """Return a rule as a clause."""
    words = f"{rule.count} or more of {_roles(rule.may)}"
    if rule.must:
        words += f", with {_roles(rule.must, ' and ')}"
    if rule.organisations > 1:
        words += f", of {rule.organisations} organisations"
    return words


def _roles(roles: Iterable[Role], word: str = ", ") -> str:
    return word.join(role.name.lower() for role in sorted(roles))


def _kind(kind: object) -> str:
    return str(getattr(kind, "name", kind)).lower().replace("_", " ")
