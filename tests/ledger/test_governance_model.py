"""Members who cheat: no sequence of entries reaches a deletion without its quorum (GO2, GO3, LG8).

Each seed makes a ledger of honest members and of an adversary who holds keys, as many as still make
no quorum for anything but a stop. Honest members found, put, list, erase, prune, stop, change each
other and the rules. The adversary replays whole entries and single approvals, signs for another
sequence, another ledger or too late, adds strangers and auditors, forges signatures and proofs,
erases governed records without a list, unmarks them, and changes bytes. Every entry goes through
`judge` and through the oracle (governance_oracle.py), and both must say the same. Records that no
honest member puts on a list must all be there in the end.

The controls take one rule after another out of a copy of the module; each time the oracle must see
an entry that it would not have allowed.
"""

from __future__ import annotations

import hashlib
import inspect
import random
from collections import Counter
from types import ModuleType

import pytest
from governance_oracle import (
    ADD,
    ARCHIVIST,
    AUDITOR,
    DELETIONS,
    FOUND,
    LIST,
    OFFICER,
    OPERATOR,
    PRUNE,
    REMOVE,
    RESUME,
    RULE,
    RULED,
    STOP,
    Lists,
    Oracle,
    RuleOf,
    Signed,
)
from nacl.signing import SigningKey

from ledger import action as action_module
from ledger import approval as approval_module
from ledger import governance as governance_module
from ledger.action import parse_action
from ledger.approval import approval_message, approve
from ledger.entry import (
    Entry,
    Membership,
    encode_erasure,
    encode_listed_erasure,
    encode_version,
    parse_entry,
)
from ledger.errors import Malformed, NotValid
from ledger.governancestate import GovernanceState

ORIGIN = "datakluis.example/gemeente"
ELSEWHERE = "datakluis.example/elders"
SEQUENCES = 2_000
STEPS = 24
KEYS = [SigningKey(hashlib.sha256(b"member %d" % n).digest()) for n in range(12)]
BY_PUBLIC = {bytes(key.verify_key): key for key in KEYS}
ORGANISATIONS = [hashlib.sha256(b"organisation %d" % n).digest()[:16] for n in range(3)]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


class Sequence:
    """One ledger, from its founding on, as one seed plays it.

    Attributes:
        done: what happened, by name.
        wrong: entries on which judge and oracle disagreed, by what they did.
        destroyed: records that no honest member listed and that went all the same.
    """

    def __init__(self, seed: int, module: ModuleType = governance_module) -> None:
        self.random = random.Random(seed)
        self.module = module
        self.state = GovernanceState()
        self.made: dict[tuple[bytes, bytes], Signed] = {}
        self.oracle = Oracle(ORIGIN, self.made, Lists(), digests=[self.state.digest()])
        self.cores: dict[bytes, Entry] = {}
        self.versions: Counter[bytes] = Counter()
        self.precious: set[bytes] = set()
        self.stolen: set[bytes] = set()
        self.written: list[bytes] = []
        self.pool: list[tuple[Signed, bytes]] = []
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    @property
    def destroyed(self) -> int:
        return sum(self.oracle.cores[one] == "erased" for one in self.precious)

    def play(self) -> Sequence:
        self.found()
        for _ in range(STEPS):
            if self.wrong:
                break  # The two know different ledgers from here on.
            if self.random.random() < 0.45:
                self.random.choice(HONEST)(self)
            else:
                self.random.choice(DISHONEST)(self)
        return self

    # What both sides use

    def offer(self, entry: bytes, *, honest: bool = False) -> bool:
        """Let the code and the oracle judge an entry, which becomes a leaf if both allow it."""
        try:
            parsed = parse_entry(entry)
            core = self.cores.get(parsed.pointer)
            state = self.module.judge(ORIGIN, self.state, parsed, self.oracle.index, core)
        except Malformed:
            self.done["malformed"] += 1
            return False
        except NotValid:
            state = None
        name = self.oracle.allows(entry)
        if (state is None) != (name is None):
            self.wrong["refused" if state is None else f"accepted {entry[1]}"] += 1
            return False
        if state is None:
            self.done["honest, refused" if honest else "refused"] += 1
            return False
        self.done[name] += 1
        self.state = state
        self.written.append(entry)
        if parsed.group == 0 and entry[1] in (1, 2, 6):
            self.cores[parsed.pointer] = parsed
        self.oracle.index += 1
        self.oracle.digests.append(state.digest())
        return True

    def sign(self, key: bytes, wanted: Signed) -> bytes:
        """Return the approval's bytes, and remember that this key made it."""
        action = parse_action(wanted.kind, wanted.parameters)
        approval = approve(BY_PUBLIC[key], wanted.origin, wanted.sequence, action, wanted.expiry)
        self.made[key, approval.signature] = wanted
        self.pool.append((wanted, approval.encode()))
        return approval.encode()

    def wanted(self, kind: int, parameters: bytes, **changed: object) -> Signed:
        given = {
            "origin": ORIGIN,
            "sequence": self.oracle.sequence + 1,
            "expiry": self.oracle.index + self.random.randrange(1, 20),
        }
        return Signed(kind=kind, parameters=parameters, **(given | changed))

    def entry(self, wanted: Signed, approvals: list[bytes]) -> bytes:
        head = bytes([1, 5, 0, wanted.kind]) + bytes(16) + (self.oracle.sequence + 1).to_bytes(4)
        return head + wanted.parameters + bytes([len(approvals)]) + b"".join(sorted(approvals))

    def enact(self, kind: int, parameters: bytes, keys: list[bytes], **changed: object) -> bool:
        wanted = self.wanted(kind, parameters, **changed)
        return self.offer(self.entry(wanted, [self.sign(key, wanted) for key in keys]))

    def public(self, number: int) -> bytes:
        return bytes(KEYS[number].verify_key)

    def safe(self) -> bool:
        """Tell whether the keys that the adversary holds are no quorum for anything but a stop."""
        kinds = [kind for kind in RULED if kind != STOP]
        return not any(self.oracle.quorum(kind, self.stolen) for kind in kinds)

    def any_member(self) -> bytes:
        return self.random.choice(sorted(self.oracle.members))

    def some_members(self, *, enough: bool) -> list[bytes]:
        """Return members in random number; with `enough` all, or all but the auditors."""
        keys = sorted(self.oracle.members)
        if enough:
            return [key for key in keys if self.oracle.members[key][1] != AUDITOR]
        return self.random.sample(keys, self.random.randrange(len(keys) + 1))

    def a_rule(self) -> bytes:
        draw = self.random
        may = frozenset(draw.sample(range(1, 5), draw.randrange(1, 4)))
        must = (
            frozenset(draw.sample(sorted(may), draw.randrange(len(may))))
            if draw.random() < 0.4
            else frozenset()
        )
        return RuleOf(draw.randrange(1, 4), may, must, draw.choice([1, 1, 2])).encode()

    # The honest ones

    def found(self) -> None:
        while not self.oracle.sequence and not self.wrong:
            self.try_to_found()
        for key in self.random.sample(sorted(self.oracle.members), len(self.oracle.members)):
            self.stolen.add(key)
            if not self.safe():
                self.stolen.remove(key)

    def try_to_found(self) -> None:
        draw = self.random
        numbers = draw.sample(range(9), draw.randrange(4, 8))
        roles = [OPERATOR, OFFICER, ARCHIVIST, AUDITOR, *draw.choices(range(1, 5), k=4)]
        members = sorted(
            (self.public(n), draw.choice(ORGANISATIONS), role)
            for n, role in zip(numbers, roles, strict=False)
        )
        managers = frozenset({OPERATOR, OFFICER, ARCHIVIST})
        destroyers = frozenset({OFFICER, ARCHIVIST})
        rules = [
            RuleOf(2, managers, frozenset(), draw.choice([1, 1, 2])),
            RuleOf(2, managers, frozenset(), 1),
            RuleOf(draw.choice([1, 2]), managers, frozenset(), 1),
            RuleOf(2, destroyers, destroyers, 1),
            RuleOf(2, managers, frozenset({ARCHIVIST}), 1),
            RuleOf(1, frozenset(range(1, 5)), frozenset(), 1),
            RuleOf(2, managers, frozenset(), 1),
        ]
        rows = b"".join(organisation + bytes([role]) + key for key, organisation, role in members)
        parameters = bytes([len(members)]) + rows + b"".join(rule.encode() for rule in rules)
        keys = [key for key, _, _ in members]
        self.enact(FOUND, parameters, draw.sample(keys, len(keys) - draw.choice([0, 0, 1])))

    def put(self) -> None:
        pointer = self.random.randbytes(16)
        governed = self.random.random() < 0.6
        entry = encode_version(pointer, 1, self.random.randbytes(32), governed=governed)
        if self.offer(entry):
            self.versions[pointer] = 1
            if governed and self.random.random() < 0.5:
                self.precious.add(pointer)

    def rectify(self) -> None:
        pointer = self.some_record()
        self.versions[pointer] += 1
        marked = self.oracle.cores.get(pointer) == "governed"
        group = self.random.choice([0, 0, 1])
        self.offer(
            encode_version(
                pointer,
                self.versions[pointer],
                self.random.randbytes(32),
                group,
                governed=marked and not group,
            )
        )

    def some_record(self, *, precious: bool | None = None) -> bytes:
        found = [
            one
            for one in sorted(self.versions)
            if precious is None or (one in self.precious) is precious
        ]
        return self.random.choice(found) if found else self.random.randbytes(16)

    def erase(self) -> None:
        pointer = self.some_record(precious=False)
        group = self.random.choice([0, 0, 2])
        self.offer(encode_erasure(pointer, max(1, self.versions[pointer]), group))

    def some_list(self, *, precious: bool = False) -> tuple[bytes, int]:
        wanted = [self.some_record(precious=precious) for _ in range(self.random.randrange(1, 6))]
        return self.oracle.lists.add(
            [one + self.random.choice([b"\0", b"\0", b"\1"]) for one in wanted]
        )

    def enact_list(self) -> None:
        root, count = self.some_list()
        self.enact(LIST, root + count.to_bytes(4), self.some_members(enough=True))

    def erase_listed(self) -> None:
        if not self.oracle.enacted:
            return
        sequence, (root, count) = self.random.choice(sorted(self.oracle.enacted.items()))
        items = self.oracle.lists.items[root]
        index = self.random.randrange(count)
        item, path = items[index], self.oracle.lists.path(items, index)
        self.offer(
            encode_listed_erasure(item[:16], 1, Membership(sequence, index, tuple(path)), item[16])
        )

    def prune(self) -> None:
        index = self.random.randrange(1, self.oracle.index + 1)
        self.enact(
            PRUNE,
            index.to_bytes(8) + self.oracle.digests[index],
            self.some_members(enough=True),
        )

    def stop_or_resume(self) -> None:
        kind = RESUME if self.oracle.stopped else STOP
        self.enact(kind, b"", self.some_members(enough=True))

    def change_members(self) -> None:
        number = self.random.randrange(12)
        key, organisation = self.public(number), self.random.choice(ORGANISATIONS)
        keys = self.some_members(enough=True)
        if key in self.oracle.members:
            self.safely(REMOVE, key, keys)
        else:
            row = organisation + bytes([self.random.randrange(1, 5)]) + key
            self.safely(ADD, row, sorted({*keys, key}))

    def change_rule(self) -> None:
        kind = self.random.choice(RULED)
        self.safely(RULE, bytes([kind]) + self.a_rule(), self.some_members(enough=True))

    def safely(self, kind: int, parameters: bytes, keys: list[bytes]) -> None:
        """Honest members approve no change by which the adversary could decide alone."""
        wanted = self.wanted(kind, parameters)
        tried = Oracle(**vars(self.oracle))
        tried.members, tried.rules = dict(tried.members), dict(tried.rules)
        tried._act(kind, parameters, set(self.oracle.members) | set(keys))
        kinds = [one for one in RULED if one != STOP]
        if not any(tried.quorum(one, self.stolen) for one in kinds):
            self.offer(self.entry(wanted, [self.sign(key, wanted) for key in keys]))

    # The adversary

    def some_action(self, *, precious: bool = True) -> tuple[int, bytes]:
        """Return what the adversary would like: all of it harmful."""
        draw = self.random
        index = draw.randrange(self.oracle.index + 3)
        digest = self.oracle.digests[min(index, self.oracle.index)]
        root, count = self.some_list(precious=precious)
        row = draw.choice(ORGANISATIONS) + bytes([draw.randrange(1, 4)])
        wishes = [
            (LIST, root + count.to_bytes(4)),
            (LIST, root + count.to_bytes(4)),
            (PRUNE, max(1, index).to_bytes(8) + draw.choice([digest, bytes(32)])),
            (RESUME, b""),
        ]
        if precious:
            wishes += [
                (REMOVE, draw.choice([self.any_member(), self.public(11)])),
                (RULE, bytes([draw.choice(RULED)]) + self.a_rule()),
                (ADD, row + self.public(draw.randrange(12))),
            ]
        return draw.choice(wishes)

    def alone(self) -> None:
        """With stolen keys, for any of the things that need a quorum."""
        kind, parameters = self.some_action()
        keys = sorted(self.stolen & set(self.oracle.members))
        joining = {parameters[17:]} if kind == ADD and parameters[17:] not in keys else set()
        self.enact(kind, parameters, sorted({*keys, *joining}))

    def too_few(self) -> None:
        """Members in any number: at times a quorum, mostly not."""
        kind, parameters = self.some_action(precious=False)
        self.enact(kind, parameters, self.some_members(enough=False))

    def strangers(self) -> None:
        """With the keys of strangers and of members who were removed."""
        kind, parameters = self.some_action()
        others = [self.public(n) for n in range(12) if self.public(n) not in self.oracle.members]
        keys = sorted(self.stolen & set(self.oracle.members))
        self.enact(kind, parameters, sorted({*keys, *self.random.sample(others, 2)}))

    def with_a_stranger(self) -> None:
        """A quorum and one who has no voice."""
        kind, parameters = self.some_action(precious=False)
        others = [self.public(n) for n in range(12) if self.public(n) not in self.oracle.members]
        keys = {*self.some_members(enough=True), self.random.choice(others)}
        self.enact(kind, parameters, sorted(keys))

    def harmless(self) -> tuple[int, bytes]:
        root, count = self.some_list()
        return self.random.choice([(LIST, root + count.to_bytes(4)), (STOP, b""), (RESUME, b"")])

    def wrongly_signed(self) -> None:
        """All members sign, but another sequence, another ledger, or for a size that is past."""
        kind, parameters = self.harmless()
        index, sequence = self.oracle.index, self.oracle.sequence + 1
        changed = self.random.choice(
            [
                {"sequence": sequence + 1},
                {"sequence": max(1, sequence - 1)},
                {"origin": ELSEWHERE},
                {"expiry": index},
                {"expiry": self.random.randrange(1, index + 1)},
            ]
        )
        self.enact(kind, parameters, self.some_members(enough=True), **changed)

    def wrong_head(self) -> None:
        """The right approvals under a head that says another sequence."""
        kind, parameters = self.harmless()
        wanted = self.wanted(kind, parameters)
        keys = self.some_members(enough=True)
        entry = self.entry(wanted, [self.sign(key, wanted) for key in keys])
        other = max(1, wanted.sequence + self.random.choice([-1, 1, 7]))
        self.offer(entry[:20] + other.to_bytes(4) + entry[24:])

    def against_its_will(self) -> None:
        """A quorum takes in a key whose holder did not agree, or puts out one that is not in."""
        key = self.public(self.random.randrange(12))
        if key not in self.oracle.members:
            row = self.random.choice(ORGANISATIONS) + b"\1" + key
            kind, parameters = self.random.choice([(ADD, row), (REMOVE, key)])
            self.enact(kind, parameters, self.some_members(enough=True))

    def replay(self) -> None:
        self.offer(self.random.choice(self.written))

    def transplant(self) -> None:
        """Approvals that were made for something else, under an action of one's own."""
        kind, parameters = self.some_action()
        chosen = {raw[:32]: raw for _, raw in self.random.sample(self.pool, min(8, len(self.pool)))}
        wanted = self.wanted(kind, parameters)
        own = {key: self.sign(key, wanted) for key in self.stolen & set(self.oracle.members)}
        self.offer(self.entry(wanted, list((chosen | own).values())))

    def swap_expiry(self) -> None:
        """A quorum's approvals that are past, given more time."""
        kind, parameters = self.harmless()
        wanted = self.wanted(kind, parameters, expiry=self.oracle.index)
        raw = [self.sign(key, wanted) for key in self.some_members(enough=True)]
        later = (self.oracle.index + 9).to_bytes(8)
        self.offer(self.entry(wanted, [one[:32] + later + one[40:] for one in raw]))

    def swap_action(self) -> None:
        """A quorum approved one list, and the entry enacts another."""
        root, count = self.some_list()
        wanted = self.wanted(LIST, root + count.to_bytes(4))
        raw = [self.sign(key, wanted) for key in self.some_members(enough=True)]
        other, number = self.some_list(precious=True)
        self.offer(self.entry(self.wanted(LIST, other + number.to_bytes(4)), raw))

    def forge(self) -> None:
        """A quorum, one of whose signatures is made up, changed, or spelled otherwise."""
        kind, parameters = self.some_action(precious=False)
        wanted = self.wanted(kind, parameters)
        raw = [self.sign(key, wanted) for key in self.some_members(enough=True)]
        place = self.random.randrange(len(raw))
        head, signature = raw[place][:40], raw[place][40:]
        s = int.from_bytes(signature[32:], "little") + GROUP_ORDER
        raw[place] = head + self.random.choice(
            [
                self.random.randbytes(64),
                bytes(64),
                bytes([signature[0] ^ 1]) + signature[1:],
                signature[:32] + s.to_bytes(32, "little"),
                b"\x01" + bytes(63),
            ]
        )
        self.offer(self.entry(wanted, raw))

    def twice(self) -> None:
        """One key's approval in place of several."""
        kind, parameters = self.some_action()
        wanted = self.wanted(kind, parameters)
        key = min(self.stolen, default=self.public(11))
        later = self.wanted(kind, parameters, expiry=wanted.expiry + 1)
        self.offer(self.entry(wanted, [self.sign(key, wanted), self.sign(key, later)] * 2))

    def found_again(self) -> None:
        key = self.public(11)
        rules = b"".join(RuleOf(2, frozenset({1}), frozenset(), 1).encode() for _ in RULED)
        rows = sorted([(key, 1), (self.public(10), 1)])
        members = b"".join(ORGANISATIONS[0] + bytes([role]) + one for one, role in rows)
        self.enact(FOUND, b"\x02" + members + rules, [one for one, _ in rows])

    def plain_erasure(self) -> None:
        pointer = self.some_record(precious=self.random.choice([True, True, None]))
        if self.oracle.cores.get(pointer) == "governed":
            self.offer(encode_erasure(pointer, max(1, self.versions[pointer])))

    def unmark(self) -> None:
        """The next version of a governed record, or of another, with the other mark; then erase."""
        pointer = self.some_record()
        marked = self.oracle.cores.get(pointer) == "governed"
        number = self.versions[pointer] + 1
        body = self.random.randbytes(32)
        if self.offer(encode_version(pointer, number, body, governed=not marked)) and marked:
            self.offer(encode_erasure(pointer, number))

    def from_nothing(self) -> None:
        """An erasure of a record that is not there, and one under the pointer of governance."""
        body = self.random.randbytes(32)
        self.offer(self.random.choice([encode_erasure(self.random.randbytes(16), 1),
                                       encode_version(bytes(16), 1, body)]))  # fmt: skip

    def revive(self) -> None:
        """A version of a record that was erased, in the hope of a life without a mark."""
        gone = [one for one, core in sorted(self.oracle.cores.items()) if core == "erased"]
        if gone:
            pointer, body = self.random.choice(gone), self.random.randbytes(32)
            number = self.random.choice([1, self.versions[pointer] + 1])
            group, governed = self.random.choice([(0, True), (0, False), (1, False)])
            self.offer(encode_version(pointer, number, body, group, governed=governed))

    def forge_place(self) -> None:
        """A listed erasure of a precious record, or by a proof that is not its own."""
        draw, lists = self.random, self.oracle.lists
        enacted = draw.choice(sorted(self.oracle.enacted.items()) or [(1, self.some_list())])
        sequence, (root, _) = enacted
        items = lists.items[draw.choice([root, draw.choice(sorted(lists.items))])]
        index = draw.randrange(len(items))
        path = lists.path(items, index)
        item = draw.choice([items[index], items[index], self.some_record(precious=True) + b"\0"])
        changed = draw.choice(
            [path, path[:-1], [*path, bytes(32)], path[::-1], [draw.randbytes(32) for _ in path]]
        )
        place = Membership(
            max(1, draw.choice([sequence, sequence, sequence + 1, self.oracle.sequence + 1])),
            draw.choice([index, index, index + 1, 2**32 - 1]),
            tuple(changed),
        )
        group = draw.choice([item[16], item[16], 3])
        self.offer(encode_listed_erasure(item[:16], 1, place, group))

    def change_a_byte(self) -> None:
        kind, parameters = self.harmless()
        wanted = self.wanted(kind, parameters)
        whole = self.entry(wanted, [self.sign(k, wanted) for k in self.some_members(enough=True)])
        entry = bytearray(self.random.choice([whole, whole, self.random.choice(self.written)]))
        entry[self.random.randrange(len(entry))] ^= 1 << self.random.randrange(8)
        try:
            if parse_entry(bytes(entry)).kind <= 6:
                self.offer(bytes(entry))
        except Malformed:
            self.done["malformed"] += 1


HONEST = [
    Sequence.put,
    Sequence.put,
    Sequence.rectify,
    Sequence.erase,
    Sequence.enact_list,
    Sequence.enact_list,
    Sequence.erase_listed,
    Sequence.erase_listed,
    Sequence.prune,
    Sequence.stop_or_resume,
    Sequence.change_members,
    Sequence.change_members,
    Sequence.change_rule,
]
DISHONEST = [
    Sequence.alone,
    Sequence.too_few,
    Sequence.strangers,
    Sequence.with_a_stranger,
    Sequence.wrongly_signed,
    Sequence.wrong_head,
    Sequence.against_its_will,
    Sequence.replay,
    Sequence.transplant,
    Sequence.swap_expiry,
    Sequence.swap_action,
    Sequence.forge,
    Sequence.twice,
    Sequence.found_again,
    Sequence.plain_erasure,
    Sequence.unmark,
    Sequence.from_nothing,
    Sequence.revive,
    Sequence.forge_place,
    Sequence.change_a_byte,
]


def test_go2_no_sequence_reaches_a_deletion_without_its_quorum():
    done: Counter[str] = Counter()
    for seed in range(SEQUENCES):
        played = Sequence(seed).play()
        assert not played.wrong, f"seed {seed}: {dict(played.wrong)}"
        assert played.destroyed == 0, f"seed {seed}"
        done += played.done
    allowed = sum(done.values()) - done["refused"] - done["malformed"]
    deleted = sum(done[name] for name in DELETIONS)
    print(f"{SEQUENCES:,} sequences, {sum(done.values()):,} entries offered, {allowed:,} allowed, "
          f"{deleted:,} of them decided deletions: {dict(sorted(done.items()))}; "
          f"no sequence reaches a deletion without its quorum: 0 of {SEQUENCES:,}")  # fmt: skip
    # Everything that a ledger does was done.
    names = {"founding", "version", "erasure", "erasure of a group", "listed erasure", "list",
             "prune", "stop", "resume", "member change", "rule change"}  # fmt: skip
    assert names <= set(done)


# fmt: off
# ruff: noqa: E501
BROKEN = {
    "one approval fewer": ("needed(state, kind) - len(counted)", "needed(state, kind) - 1 - len(counted)"),
    "one approval is enough": ("LEAST_APPROVALS = 2", "LEAST_APPROVALS = 1"),
    "half is a majority": ("eligible // 2 + 1", "eligible // 2"),
    "no majority": (", eligible // 2 + 1", ""),
    "the rule's number is not asked": ("max(rule.count, ", "max("),
    "every role has a voice": ("approvers if member.role in rule.may]", "approvers]"),
    "no role must": ("for role in sorted(rule.must):", "for role in ():"),
    "organisations are not counted": ("if len({member.organisation", "if False and len({member.organisation"),
    "any sequence": ("if sequence != state.sequence + 1:", "if False:"),
    "a later sequence": ("if sequence != state.sequence + 1:", "if sequence <= state.sequence:"),
    "nothing expires": ("if index >= approval.expiry:", "if False:"),
    "expiry off by one": ("if index >= approval.expiry:", "if index > approval.expiry:"),
    "strangers may sign": ("if approval.key not in known:", "if False:"),
    "signatures are not verified": ("if not approval.holds(", "if False and not approval.holds("),
    "approvals are not looked at": ("    _check_approvals(origin, state, action, approvals, index)\n", ""),
    "founded twice": ("if state.founded:\n                raise", "if False:\n                raise"),
    "founded by less than all": ('founding members" if lacking else None', 'founding members" if lacking > 1 else None'),
    "members who cannot decide": ("    _require_able(after)\n", ""),
    "a new member need not agree": ("if isinstance(action, AddMember) and", "if False and"),
    "removing nobody": ("if state.member(key) is None:\n        raise", "if False:\n        raise"),
    "added twice": ("if state.member(member.key) is not None or", "if False or"),
    "governed records erased": ("if before.governed:", "if False:"),
    "erasure of nothing": ("        if before is None:\n            raise NotValid(\"erases", "        if before is None:\n            return state\n            raise NotValid(\"erases"),
    "the mark comes and goes": ("before.governed != entry.governed:", "False:"),
    "the mark goes": ("before.governed != entry.governed:", "before.governed < entry.governed:"),
    "new records while stopped": ("if state.stopped:\n            raise NotValid(\"is a new", "if False:\n            raise NotValid(\"is a new"),
    "erased records live again": ("elif before.kind in ERASURES:", "elif False:"),
    "records among governance": ("if entry.pointer == GOVERNANCE_POINTER:", "if False:"),
    "any list will do": ("if one.sequence == membership.sequence)", "if True)"),
    "places are not proven": ("merkle.verify_inclusion(leaf,", "(lambda *proof: None)(leaf,"),
    "pruned beyond the entry": ("< action.minimum <= index:", "< action.minimum:"),
    "pruned backwards": ("not state.minimum < action.minimum", "not 0 < action.minimum"),
    "pruned over any state": ("if not hmac.compare_digest(", "if False and not hmac.compare_digest("),
    "pruned while stopped": ("if state.stopped:\n        raise NotValid(\"prunes", "if False:\n        raise NotValid(\"prunes"),
    "stopped twice": ("if state.stopped is stop:", "if False:"),
}
# fmt: on


def broken_copy(old: str, new: str) -> ModuleType:
    source = inspect.getsource(governance_module)
    assert source.count(old) == 1, old
    module = ModuleType("ledger.governance_broken")
    exec(compile(source.replace(old, new), "broken", "exec"), module.__dict__)
    return module


def seen_by(module: ModuleType, limit: int = 3_000) -> tuple[int, Counter[str]]:
    """Return after how many sequences the oracle saw something, and what."""
    for seed in range(limit):
        played = Sequence(seed, module).play()
        if any(name.startswith("accepted") for name in played.wrong) or played.destroyed:
            return seed + 1, played.wrong
    return limit, Counter()


@pytest.mark.parametrize("rule", BROKEN)
def test_control_each_rule_that_is_taken_out_is_missed(rule):
    sequences, wrong = seen_by(broken_copy(*BROKEN[rule]))
    print(f"{rule}: seen in sequence {sequences}: {dict(wrong)}")
    assert any(name.startswith("accepted") for name in wrong)


LEFT_OUT = {
    "the ledger": lambda origin, sequence, action, expiry: ("", sequence, action, expiry),
    "the sequence": lambda origin, sequence, action, expiry: (origin, 0, action, expiry),
    "the action": lambda origin, sequence, action, expiry: (
        origin, sequence, action_module.Stop(), expiry),
    "the expiry": lambda origin, sequence, action, expiry: (origin, sequence, action, 0),
}  # fmt: skip


@pytest.mark.parametrize("part", LEFT_OUT)
def test_control_an_approval_goes_over_each_part_of_its_message(part, monkeypatch):
    changed = LEFT_OUT[part]
    monkeypatch.setattr(
        approval_module, "approval_message", lambda *given: approval_message(*changed(*given))
    )
    sequences, wrong = seen_by(governance_module)
    print(f"without {part}: seen in sequence {sequences}: {dict(wrong)}")
    assert any(name.startswith("accepted") for name in wrong)
