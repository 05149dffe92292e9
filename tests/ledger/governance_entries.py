"""Members with keys, and governance entries that they approved, for tests."""

from __future__ import annotations

from hashlib import sha256

from ledger_fixtures import ORIGIN
from nacl.signing import SigningKey

from ledger.action import RULED, Action, ActionKind, EnactList, Found, Member, Role, Rule, list_item
from ledger.approval import approve
from ledger.entry import encode_governance
from ledger.governance import DEFAULT_RULES
from ledger.merkle import inclusion_proof, leaf_hash
from ledger.tiles import hash_reader

FOREVER = 2**63 - 1
ROLES = {
    "operator": Role.OPERATOR,
    "officer": Role.OFFICER,
    "archivist": Role.ARCHIVIST,
    "auditor": Role.AUDITOR,
}


def key_of(name: str) -> SigningKey:
    return SigningKey(sha256(b"key of " + name.encode()).digest())


def member(name: str, role: Role | None = None, organisation: str = "hoorn") -> Member:
    """Return the member of a name; one that is called after a role has that role."""
    held = ROLES[name] if role is None else role
    of = sha256(organisation.encode()).digest()[:16]
    return Member(bytes(key_of(name).verify_key), of, held)


def found(*members: Member, **rules: Rule) -> Found:
    """Return the founding by these members, under the rules of the house but for those named."""
    own = {ActionKind[name.upper()]: rule for name, rule in rules.items()}
    ordered = (own.get(kind, DEFAULT_RULES[kind]) for kind in RULED)
    return Found(tuple(sorted(members)), tuple(ordered))


def entry(
    action: Action, sequence: int, *names: str, expiry: int = FOREVER, origin: str = ORIGIN
) -> bytes:
    """Return the entry of an action that those who are named approved."""
    approvals = [approve(key_of(name), origin, sequence, action, expiry) for name in names]
    return encode_governance(sequence, action, approvals)


FOUR = tuple(member(name) for name in ROLES)
FOUNDING = entry(found(*FOUR), 1, *ROLES)


class Listed:
    """A list of cores of records, its action, and the path of each."""

    def __init__(self, *pointers: bytes, group: int = 0) -> None:
        self.hashes = [leaf_hash(list_item(pointer, group)) for pointer in pointers]
        self._read = hash_reader(lambda level, number: b"".join(self.hashes))

    def action(self) -> EnactList:
        from ledger.merkle import root

        return EnactList(root(len(self.hashes), self._read), len(self.hashes))

    def path(self, index: int) -> tuple[bytes, ...]:
        return tuple(inclusion_proof(index, len(self.hashes), self._read))
