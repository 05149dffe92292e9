"""A governed vault: four members with role keys, and what tests do with them."""

from dataclasses import dataclass

from nacl.signing import SigningKey

from ledger.action import RULED, Role
from ledger.entry import GOVERNANCE_POINTER, parse_entry
from ledger.governance import DEFAULT_RULES
from ledger.log import Log
from vault.rolekeys import RoleKey

RULES = tuple(DEFAULT_RULES[kind] for kind in RULED)
ROLES = (Role.OPERATOR, Role.OFFICER, Role.ARCHIVIST, Role.AUDITOR)


def role_key():
    """A key without its file: opening one costs an Argon2id run."""
    return RoleKey._of(bytes(SigningKey.generate()))


@dataclass
class Members:
    """The role keys of the members."""

    operator: RoleKey
    officer: RoleKey
    archivist: RoleKey
    auditor: RoleKey

    @property
    def all(self):
        return (self.operator, self.officer, self.archivist, self.auditor)


def found(vault, keys=None):
    """Found the governance of a vault and return the keys of its members."""
    keys = keys or Members(*(role_key() for _ in ROLES))
    named = [(role, key.public, None) for role, key in zip(ROLES, keys.all, strict=True)]
    view = vault.found(named, RULES, keys.operator)
    for key in keys.all[1:]:
        assert view.is_open
        view = vault.approve(view.proposal.id, key)
    assert view.is_enacted
    return keys


def decide(vault, action, *keys):
    """Propose an action and have it approved by all of these keys."""
    first, *others = keys
    view = vault.propose(action, first)
    for key in others:
        view = vault.approve(view.proposal.id, key)
    return view


def enact_list(vault, pointers, keys):
    """Have a destruction list enacted."""
    view = vault.propose_list(pointers, keys.officer)
    assert view.is_open
    view = vault.approve(view.proposal.id, keys.archivist)
    assert view.is_enacted
    return view


def all_entries(vault):
    """Every leaf of the ledger, once all that waits has become one."""
    vault.checkpoint()
    with vault._core.database.read() as connection:
        log = Log(connection)
        return [parse_entry(log.entry(leaf)) for leaf in range(log.head().size)]


def is_governance(entry):
    return entry.pointer == GOVERNANCE_POINTER
