"""What members decided, told without the code under test: the oracle of the governance model.

It reads entries by their offsets, knows a signature by having seen it made, and a list by its
items. Quorums are worked out in the words of the docstring of ledger/governance.py.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field

FOUND, ADD, REMOVE, RULE, LIST, PRUNE, STOP, RESUME = range(1, 9)
RULED = range(2, 9)
OPERATOR, OFFICER, ARCHIVIST, AUDITOR = 1, 2, 3, 4
VERSION, ERASURE, GOVERNANCE, LISTED = 1, 2, 5, 6
DELETIONS = ("list", "prune", "listed erasure", "erasure of a governed record")


@dataclass(frozen=True)
class Signed:
    """What a key was asked to sign."""

    origin: str
    sequence: int
    kind: int
    parameters: bytes
    expiry: int


@dataclass(frozen=True)
class RuleOf:
    count: int
    may: frozenset[int]
    must: frozenset[int]
    organisations: int

    def encode(self) -> bytes:
        bits = [sum(2 ** (role - 1) for role in roles) for roles in (self.may, self.must)]
        return bytes([self.count, *bits, self.organisations])

    @classmethod
    def decode(cls, data: bytes) -> RuleOf:
        sets = [frozenset(n for n in range(1, 9) if byte >> n - 1 & 1) for byte in data[1:3]]
        return cls(data[0], sets[0], sets[1], data[3])


class Lists:
    """Lists of what is to be destroyed, by their roots; RFC 6962 as it is written."""

    def __init__(self) -> None:
        self.items: dict[bytes, list[bytes]] = {}

    def add(self, items: list[bytes]) -> tuple[bytes, int]:
        root = self._root(items)
        self.items[root] = items
        return root, len(items)

    def path(self, items: list[bytes], index: int) -> list[bytes]:
        if len(items) == 1:
            return []
        split = self._split(len(items))
        if index < split:
            return [*self.path(items[:split], index), self._root(items[split:])]
        return [*self.path(items[split:], index - split), self._root(items[:split])]

    def _root(self, items: list[bytes]) -> bytes:
        if len(items) == 1:
            return hashlib.sha256(b"\x00" + items[0]).digest()
        split = self._split(len(items))
        below = self._root(items[:split]) + self._root(items[split:])
        return hashlib.sha256(b"\x01" + below).digest()

    @staticmethod
    def _split(count: int) -> int:
        split = 1
        while split * 2 < count:
            split *= 2
        return split


@dataclass
class Oracle:
    """A governed ledger as its members know it."""

    origin: str
    made: dict[tuple[bytes, bytes], Signed]
    lists: Lists
    sequence: int = 0
    members: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    rules: dict[int, RuleOf] = field(default_factory=dict)
    enacted: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    stopped: bool = False
    minimum: int = 0
    index: int = 0
    cores: dict[bytes, str] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)

    def allows(self, entry: bytes) -> str | None:
        """Return the name of what an entry does, when it may, or None; an allowed one is taken."""
        kind, group, pointer = entry[1], entry[3], entry[4:20]
        if kind == GOVERNANCE:
            return self._govern(entry)
        if pointer == bytes(16):
            return None
        core = self.cores.get(pointer)
        if kind == VERSION:
            return self._version(group, pointer, core)
        if kind == ERASURE:
            if group:
                return "erasure of a group"
            if core in (None, "governed"):
                return None
            self.cores[pointer] = "erased"
            return "erasure"
        if kind == LISTED:
            return self._listed(entry)
        return "other"

    def _version(self, group: int, pointer: bytes, core: str | None) -> str | None:
        if core == "erased" or (core is None and self.stopped):
            return None
        if group in (0, 0x80):
            kind = "governed" if group else "free"
            if core not in (None, kind):
                return None
            self.cores[pointer] = kind
        return "version"

    def _listed(self, entry: bytes) -> str | None:
        item, place = entry[4:20] + entry[3:4], entry[24:]
        sequence, index = int.from_bytes(place[:4], "big"), int.from_bytes(place[4:8], "big")
        path = [place[at : at + 32] for at in range(8, len(place), 32)]
        root, count = self.enacted.get(sequence, (b"", 0))
        items = self.lists.items.get(root, [])[:count]
        if index >= len(items) or items[index] != item or path != self.lists.path(items, index):
            return None
        if entry[3] == 0:
            self.cores[entry[4:20]] = "erased"
        return "listed erasure"

    def quorum(self, kind: int, keys: set[bytes]) -> bool:
        rule = self.rules[kind]
        able = [key for key, (_, role) in self.members.items() if role in rule.may]
        voices = [key for key in able if key in keys]
        least = [rule.count]
        if kind != STOP:
            least += [2, len(able) // 2 + 1]
        return (
            len(voices) >= max(least)
            and all(any(self.members[key][1] == role for key in voices) for role in rule.must)
            and len({self.members[key][0] for key in voices}) >= rule.organisations
        )

    def able(self) -> bool:
        return all(self.quorum(kind, set(self.members)) for kind in RULED)

    def _govern(self, entry: bytes) -> str | None:
        kind, sequence, body = entry[3], int.from_bytes(entry[20:24], "big"), entry[24:]
        widths = {ADD: 49, REMOVE: 32, RULE: 5, LIST: 36, PRUNE: 40, STOP: 0, RESUME: 0}
        width = 1 + 49 * body[0] + 28 if kind == FOUND else widths[kind]
        parameters, approvals = body[:width], body[width + 1 :]
        if sequence != self.sequence + 1:
            return None
        keys = set()
        for at in range(0, len(approvals), 104):
            key, expiry = approvals[at : at + 32], approvals[at + 32 : at + 40]
            wanted = Signed(self.origin, sequence, kind, parameters, int.from_bytes(expiry, "big"))
            seen = self.made.get((key, approvals[at + 40 : at + 104]))
            if seen != wanted or self.index >= wanted.expiry:
                return None
            keys.add(key)
        after = copy.copy(self)
        after.members, after.rules = dict(self.members), dict(self.rules)
        after.enacted = dict(self.enacted)
        name = after._act(kind, parameters, keys)
        if name is None or not after.able():
            return None
        after.sequence = sequence
        self.__dict__.update(after.__dict__)
        return name

    def _act(self, kind: int, parameters: bytes, keys: set[bytes]) -> str | None:
        if kind == FOUND:
            return self._found(parameters, keys)
        joining = {parameters[17:]} if kind == ADD else set()
        if not self.sequence or keys - set(self.members) - joining or not self.quorum(kind, keys):
            return None
        return getattr(self, f"_act_{kind}")(parameters, keys)

    def _found(self, parameters: bytes, keys: set[bytes]) -> str | None:
        count = parameters[0]
        rows = [parameters[1 + 49 * n : 50 + 49 * n] for n in range(count)]
        self.members = {row[17:]: (row[:16], row[16]) for row in rows}
        rest = parameters[1 + 49 * count :]
        self.rules = {kind: RuleOf.decode(rest[4 * n : 4 * n + 4]) for n, kind in enumerate(RULED)}
        return "founding" if not self.sequence and keys == set(self.members) else None

    def _act_2(self, parameters: bytes, keys: set[bytes]) -> str | None:
        key = parameters[17:]
        if key in self.members or key not in keys:
            return None
        self.members[key] = parameters[:16], parameters[16]
        return "member change"

    def _act_3(self, parameters: bytes, keys: set[bytes]) -> str | None:
        return "member change" if self.members.pop(parameters, None) else None

    def _act_4(self, parameters: bytes, keys: set[bytes]) -> str | None:
        self.rules[parameters[0]] = RuleOf.decode(parameters[1:])
        return "rule change"

    def _act_5(self, parameters: bytes, keys: set[bytes]) -> str | None:
        root, count = parameters[:32], int.from_bytes(parameters[32:], "big")
        self.enacted[self.sequence + 1] = root, count
        return "list"

    def _act_6(self, parameters: bytes, keys: set[bytes]) -> str | None:
        minimum = int.from_bytes(parameters[:8], "big")
        if self.stopped or not self.minimum < minimum <= self.index:
            return None
        if parameters[8:] != self.digests[minimum]:
            return None
        self.minimum = minimum
        return "prune"

    def _act_7(self, parameters: bytes, keys: set[bytes]) -> str | None:
        if self.stopped:
            return None
        self.stopped = True
        return "stop"

    def _act_8(self, parameters: bytes, keys: set[bytes]) -> str | None:
        if not self.stopped:
            return None
        self.stopped = False
        return "resume"
