"""Rules of governance as people write them: a TOML file for `kluis member found --rules`.

One table for each kind of action that is to have another rule than the default one:

    [list]
    count = 3                            # least number of approvals, 1 to 255
    may = ["officer", "archivist"]       # roles that may approve
    must = ["officer", "archivist"]      # roles of which one member each must; none if not given
    organisations = 2                    # least number of organisations; 1 if not given

The kinds are add-member, remove-member, set-rule, list, prune, stop and resume. Strict: an unknown
table or key is an error that names it. Tested in tests/vault/test_proposal_files.py.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence

from ledger.action import RULED, ActionKind, Role, Rule
from ledger.governance import DEFAULT_RULES
from vault.errors import InvalidInput

KINDS = {kind.name.lower().replace("_", "-"): kind for kind in RULED}
ROLES = {role.name.lower(): role for role in Role}
_MAX_COUNT = 255
_KEYS = ("count", "may", "must", "organisations")


def parse_rules(written: str) -> tuple[Rule, ...]:
    """Return the rules of a founding: what a file says, and the defaults for the rest.

    Raises:
        InvalidInput: it says something that it cannot say; the key is named.
    """
    try:
        document = tomllib.loads(written)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"the rules are not TOML: {error}") from None
    rules = dict(DEFAULT_RULES)
    for name, table in document.items():
        if name not in KINDS:
            raise InvalidInput(f"[{name}] is no kind of action; there are: {', '.join(KINDS)}")
        rules[KINDS[name]] = _rule(name, table)
    return tuple(rules[kind] for kind in RULED)


def make_rule(
    count: int, may: Sequence[str], must: Sequence[str] = (), organisations: int = 1
) -> Rule:
    """Return a rule by which somebody can approve.

    Raises:
        InvalidInput: nobody could, or a role is unknown.
    """
    allowed, needed = _roles(may), _roles(must)
    if not (1 <= count <= _MAX_COUNT and 1 <= organisations <= _MAX_COUNT):
        raise InvalidInput(f"approvals and organisations are counted from 1 to {_MAX_COUNT}")
    if not allowed or not needed <= allowed:
        raise InvalidInput(
            "a rule says which roles may approve, and those that must are among them"
        )
    return Rule(count, allowed, needed, organisations)


def kind_name(kind: ActionKind) -> str:
    """Return a kind of action as people write it."""
    return kind.name.lower().replace("_", "-")


def _roles(names: Sequence[str]) -> frozenset[Role]:
    for name in names:
        if name not in ROLES:
            raise InvalidInput(f"{name!r} is no role; there are: {', '.join(ROLES)}")
    return frozenset(ROLES[name] for name in names)


def _rule(name: str, table: object) -> Rule:
    if not isinstance(table, dict):
        raise InvalidInput(f"{name} is no table")
    for key in sorted(table.keys() - set(_KEYS)):
        raise InvalidInput(f"[{name}] has an unknown key {key!r}")
    return make_rule(
        _count(table, "count", name, None),
        _names(table, "may", name, None),
        _names(table, "must", name, []),
        _count(table, "organisations", name, 1),
    )


def _count(table: Mapping[str, object], key: str, name: str, default: int | None) -> int:
    value = table.get(key, default)
    if type(value) is not int:
        raise InvalidInput(f"[{name}] needs a number {key!r}")
    return value


def _names(
    table: Mapping[str, object], key: str, name: str, default: list[str] | None
) -> list[str]:
    value = table.get(key, default)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"[{name}] needs a list of roles {key!r}")
    return value
