"""The rules, one by one: what each refuses, in which words, and what it lets through."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
from governance_entries import FOUNDING, FOUR, ROLES, Listed, entry, found, key_of, member
from hypothesis import given
from hypothesis import strategies as st
from ledger_fixtures import ORIGIN, VECTORS, erasure_entry, pointer, version_entry
from nacl.bindings import crypto_core_ed25519_add

from ledger.action import (
    ActionKind,
    AddMember,
    Member,
    Prune,
    RemoveMember,
    Resume,
    Role,
    Rule,
    SetRule,
    Stop,
)
from ledger.approval import approve
from ledger.entry import (
    Membership,
    encode_governance,
    encode_listed_erasure,
    encode_version,
    parse_entry,
)
from ledger.errors import Malformed, NotValid
from ledger.governance import LEAST_APPROVALS, judge, missing, needed
from ledger.governancestate import GovernanceState, ListedDestruction

MANAGERS = ("operator", "officer", "archivist")
P, Q = pointer(1), pointer(2)


class Rules:
    """A state, and the index of the next leaf; `take` moves both on."""

    def __init__(self, *entries: bytes) -> None:
        self.state, self.index = GovernanceState(), 0
        for one in entries:
            self.take(one)

    def take(self, data: bytes, before: bytes | None = None) -> None:
        earlier = None if before is None else parse_entry(before)
        self.state = judge(ORIGIN, self.state, parse_entry(data), self.index, earlier)
        self.index += 1

    def refuses(self, data: bytes, words: str, before: bytes | None = None) -> None:
        earlier = None if before is None else parse_entry(before)
        with pytest.raises(NotValid, match=words):
            judge(ORIGIN, self.state, parse_entry(data), self.index, earlier)


@pytest.fixture
def rules():
    return Rules(FOUNDING)


def governed(of: bytes, version: int = 1) -> bytes:
    return encode_version(of, version, b"c" * 32, governed=True)


def listed(of: bytes, sequence: int, path=(), index: int = 0, group: int = 0) -> bytes:
    return encode_listed_erasure(of, 1, Membership(sequence, index, tuple(path)), group)


# Founding


def test_an_ungoverned_ledger_takes_what_the_order_allows_and_no_action():
    rules = Rules(version_entry(P))
    rules.take(erasure_entry(P), before=version_entry(P))
    assert rules.state == GovernanceState()
    for action in (Stop(), Listed(P).action(), AddMember(FOUR[0]), Prune(1, bytes(32))):
        rules.refuses(entry(action, 1), "lacks a founding")
    rules.refuses(listed(P, 1), "names list 1, which was not enacted")


def test_a_founding_is_approved_by_every_member_and_comes_once(rules):
    fresh = Rules()
    for name in ROLES:
        fresh.refuses(entry(found(*FOUR), 1, *(set(ROLES) - {name})), "lacks 1 of the 4 founding")
    fresh.refuses(entry(found(*FOUR), 1, *ROLES, "stranger"), "a key that is no member's")
    fresh.refuses(entry(found(*FOUR), 2, *ROLES), "makes state 2, after state 0")
    rules.refuses(entry(found(*FOUR), 2, *ROLES), "founds a ledger that is founded")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ((), "'add member' would lack 2 more of 2 approvals"),
        (FOUR[:1], "'add member' would lack 1 more of 2 approvals"),
        (FOUR[:2], "'list' would lack 1 more of 2 approvals by officer or archivist"),
        ([FOUR[0], FOUR[1], member("second", Role.OFFICER)], "the approval of one archivist"),
        (FOUR[3:], "would lack"),
    ],
)
def test_a_founding_by_which_something_could_never_be_decided_is_refused(members, words):
    names = {member(name).key: name for name in ROLES} | {
        member("second", Role.OFFICER).key: "second"
    }
    signers = [names[one.key] for one in members]
    Rules().refuses(entry(found(*members), 1, *signers), words)


def test_a_rule_that_asks_for_more_organisations_than_there_are_is_refused():
    two = Rule(2, frozenset(Role), organisations=2)
    Rules().refuses(entry(found(*FOUR, list=two), 1, *ROLES), "approvals from 2 organisations")
    others = (*FOUR[:3], replace(FOUR[3], organisation=bytes(16)))
    rules = Rules(entry(found(*others, list=two), 1, *ROLES))
    rules.refuses(entry(Listed(P).action(), 2, *MANAGERS), "lacks approvals from 2 organisations")
    rules.take(entry(Listed(P).action(), 2, *MANAGERS, "auditor"))


# Quorums


@pytest.mark.parametrize(
    ("action", "too_few", "words"),
    [
        (Listed(P).action(), ("officer",), "lacks 1 more of 2 approvals by officer or archivist"),
        (Listed(P).action(), ("officer", "operator"), "lacks 1 more of 2"),
        (Listed(P).action(), ("officer", "auditor"), "lacks 1 more of 2"),
        (Listed(P).action(), (), "lacks 2 more of 2"),
        (Prune(1, bytes(32)), ("operator", "officer"), "lacks the approval of one archivist"),
        (RemoveMember(FOUR[3].key), ("operator",), "lacks 1 more of 2"),
        (RemoveMember(FOUR[3].key), ("operator", "auditor"), "lacks 1 more of 2"),
        (AddMember(member("new", Role.OFFICER)), MANAGERS, "lacks the new member's own key"),
        (AddMember(member("new", Role.OFFICER)), ("new", "operator"), "lacks 1 more of 2"),
        (SetRule(ActionKind.LIST, Rule(1, frozenset({Role.OPERATOR}))), ("operator",), "lacks 1"),
        (Stop(), (), "lacks 1 more of 1"),
    ],
)
def test_go2_what_a_minority_cannot_do(rules, action, too_few, words):
    rules.refuses(entry(action, 2, *too_few), words)


def test_more_than_half_of_those_who_may_is_needed_whatever_the_rule_says():
    officers = [f"officer {n}" for n in range(5)]
    all_members = (*FOUR, *(member(name, Role.OFFICER) for name in officers))
    rules = Rules(entry(found(*all_members), 1, *ROLES, *officers))
    # Seven may decide on a list: five officers more, and the two of the four.
    assert needed(rules.state, ActionKind.LIST) == 4
    assert needed(rules.state, ActionKind.STOP) == 1
    rules.refuses(entry(Listed(P).action(), 2, "archivist", *officers[:2]), "lacks 1 more of 4")
    rules.refuses(entry(Listed(P).action(), 2, *officers), "lacks the approval of one archivist")
    rules.take(entry(Listed(P).action(), 2, "archivist", *officers[:3]))


@given(st.integers(1, 30), st.integers(1, 40))
def test_two_quorums_of_one_state_share_a_member(members, count):
    state = GovernanceState(
        1,
        tuple(sorted(Member(bytes([n]) * 32, bytes(16), Role.OFFICER) for n in range(members))),
        tuple(Rule(count, frozenset({Role.OFFICER})) for _ in range(7)),
    )
    least = needed(state, ActionKind.LIST)
    assert 2 * least > members
    assert least >= max(count, LEAST_APPROVALS)


def test_a_quorum_says_the_same_to_whoever_collects_it(rules):
    action = Listed(P).action()
    keys = [member(name).key for name in ("officer", "archivist")]
    assert missing(rules.state, action, keys) is None
    assert missing(rules.state, action, keys[:1]) == (
        "1 more of 2 approvals by officer or archivist"
    )
    assert missing(rules.state, action, [*keys[:1], b"stranger" * 4]) is not None
    assert missing(GovernanceState(), action, keys) is not None
    assert missing(GovernanceState(), found(*FOUR), keys) == "2 of the 4 founding members"


# Replays


def test_an_approval_goes_for_one_state_one_ledger_one_action_and_until_its_expiry(rules):
    action, signers = Listed(P).action(), ("officer", "archivist")
    rules.refuses(entry(action, 2, *signers, origin="datakluis.example/elders"), "does not hold")
    rules.refuses(entry(action, 2, *signers, expiry=rules.index), "expired at 1 leaves")
    rules.refuses(entry(action, 3, *signers), "makes state 3, after state 1")
    approved = [approve(key_of(name), ORIGIN, 2, action, 99) for name in signers]
    rules.refuses(encode_governance(2, Listed(Q).action(), approved), "does not hold")
    later = [approve(key_of(name), ORIGIN, 3, action, 99) for name in signers]
    rules.refuses(encode_governance(2, action, later), "does not hold")
    whole = entry(action, 2, *signers, expiry=rules.index + 1)
    rules.take(whole)
    rules.refuses(whole, "makes state 2, after state 2")
    rules.refuses(encode_governance(3, action, approved), "does not hold")


def test_one_key_is_one_voice():
    action = Listed(P).action()
    twice = [approve(key_of("officer"), ORIGIN, 2, action, expiry) for expiry in (8, 9)]
    with pytest.raises(Malformed, match="two of one key"):
        parse_entry(encode_governance(2, action, twice))
    rules = Rules(FOUNDING)
    again = replace(member("officer"), role=Role.ARCHIVIST)
    rules.refuses(entry(AddMember(again), 2, *MANAGERS), "a member's already")


def test_who_was_removed_has_no_voice_and_comes_back_without_the_old_approvals(rules):
    old = entry(Stop(), 4, "auditor")
    rules.take(entry(RemoveMember(member("auditor").key), 2, *MANAGERS))
    rules.refuses(entry(Stop(), 3, "auditor"), "a key that is no member's")
    rules.refuses(entry(RemoveMember(member("auditor").key), 3, *MANAGERS), "removes a key")
    rules.take(entry(AddMember(member("auditor")), 3, *MANAGERS, "auditor"))
    rules.take(old)
    rules.refuses(old, "makes state 4")


def test_members_who_could_decide_nothing_do_not_remain(rules):
    remove = RemoveMember(member("archivist").key)
    rules.refuses(entry(remove, 2, *MANAGERS), "leaves too few members: 'list' would lack")
    strict = SetRule(ActionKind.RESUME, Rule(4, frozenset(Role) - {Role.AUDITOR}))
    rules.refuses(entry(strict, 2, *MANAGERS), "'resume' would lack 1 more of 4")
    alone = SetRule(ActionKind.SET_RULE, Rule(1, frozenset({Role.OPERATOR})))
    rules.refuses(entry(alone, 2, *MANAGERS), "'set rule' would lack 1 more of 2")


def test_a_member_whose_key_anybody_could_sign_for_is_refused(rules):
    small = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    for key in (small, b"\1" + bytes(31), crypto_core_ed25519_add(FOUR[0].key, small)):
        bad = Member(key, bytes(16), Role.OFFICER)
        rules.refuses(entry(AddMember(bad), 2, *MANAGERS), "no point of prime order")
        Rules().refuses(entry(found(*FOUR, bad), 1, *ROLES), "no point of prime order")


# Records


def test_a_governed_record_goes_by_a_list_alone(rules):
    rules.take(governed(P))
    rules.refuses(erasure_entry(P), "only an enacted list", before=governed(P))
    rules.refuses(listed(P, 2), "names list 2, which was not enacted", before=governed(P))
    two = Listed(P, Q)
    rules.take(entry(two.action(), 2, "officer", "archivist"))
    third = pointer(3)
    for bad in (
        listed(P, 2),
        listed(third, 2, two.path(0)),
        listed(P, 2, two.path(1), 1),
        listed(P, 2, two.path(0), 1),
        listed(P, 2, (*two.path(0), bytes(32))),
        listed(P, 2, two.path(0), group=1),
    ):
        rules.refuses(bad, "does not prove its place on list 2", before=governed(P))
    rules.refuses(listed(P, 3, two.path(0)), "names list 3", before=governed(P))
    rules.take(listed(P, 2, two.path(0)), before=governed(P))


def test_the_mark_neither_comes_nor_goes(rules):
    rules.refuses(version_entry(P, 2), "changes whether", before=governed(P))
    rules.refuses(governed(P, 2), "changes whether", before=version_entry(P))
    rules.take(governed(P, 2), before=governed(P))
    rules.take(version_entry(P, 2), before=version_entry(P))


def test_only_a_core_can_carry_the_mark():
    for group in range(1, 16):
        with pytest.raises(Malformed):
            parse_entry(encode_version(P, 1, b"c" * 32, group, governed=True))


def test_er5_a_field_group_of_a_governed_record_is_erased_without_a_list(rules):
    rules.take(version_entry(P, 1, 3), before=governed(P))
    rules.take(erasure_entry(P, 1, 3), before=governed(P))
    rules.refuses(erasure_entry(P), "only an enacted list", before=governed(P))


@pytest.mark.parametrize("last", [erasure_entry(P), listed(P, 2)])
def test_nothing_brings_an_erased_record_back(rules, last):
    """Neither without the mark, nor as a record that a stop would refuse."""
    rules.take(entry(Stop(), 2, "officer"))
    for again in (version_entry(P), version_entry(P, 2), governed(P, 2), version_entry(P, 2, 1)):
        rules.refuses(again, "is a version of a record that was erased", before=last)


def test_an_erasure_of_what_is_not_there_is_refused(rules):
    """So that leaving out the earlier entry erases nothing."""
    rules.refuses(erasure_entry(P), "of which there is no version")


def test_only_governance_stands_under_the_pointer_of_zeroes(rules):
    for data in (version_entry(bytes(16)), erasure_entry(bytes(16)), listed(bytes(16), 1)):
        rules.refuses(data, "the pointer of governance", before=version_entry(bytes(16)))


# Stop and resume


def test_go3_a_stop_refuses_new_records_and_nothing_else(rules):
    rules.take(entry(Stop(), 2, "auditor"))
    rules.refuses(version_entry(P), "is a new record in a ledger that is stopped")
    rules.refuses(version_entry(P, 1, 1), "is a new record in a ledger that is stopped")
    rules.take(version_entry(P, 2), before=version_entry(P))
    # A rectification that adds a group the record did not have.
    rules.take(version_entry(P, 2, 1), before=version_entry(P))
    rules.take(erasure_entry(P), before=version_entry(P))
    rules.take(entry(Listed(P).action(), 3, "officer", "archivist"))
    rules.take(listed(P, 3), before=governed(P))
    rules.refuses(entry(Prune(1, bytes(32)), 4, *MANAGERS), "prunes a ledger that is stopped")
    rules.refuses(entry(Stop(), 4, "officer"), "stops what is stopped")
    rules.refuses(entry(Resume(), 4, "officer"), "lacks 1 more of 2")
    rules.take(entry(Resume(), 4, "officer", "operator"))
    rules.take(version_entry(P))
    rules.refuses(entry(Resume(), 5, *MANAGERS), "resumes what is not stopped")


# Pruning


def test_lg8_a_prune_names_the_state_at_its_index(rules):
    at_1 = rules.state.digest()
    rules.take(entry(Stop(), 2, "officer"))
    at_2 = rules.state.digest()
    rules.take(entry(Resume(), 3, *MANAGERS))
    assert [rules.state.digest_at(n) for n in (1, 2, 3)] == [at_1, at_2, rules.state.digest()]
    rules.refuses(entry(Prune(2, at_1), 4, *MANAGERS), "another governance than that at 2")
    rules.refuses(entry(Prune(4, rules.state.digest()), 4, *MANAGERS), "not above 0 and at most 3")
    rules.take(entry(Prune(2, at_2), 4, *MANAGERS))
    assert rules.state.minimum == 2
    assert [change.leaf for change in rules.state.changes] == [2, 3]
    rules.refuses(entry(Prune(2, at_2), 5, *MANAGERS), "not above 2")
    rules.refuses(entry(Prune(1, at_1), 5, *MANAGERS), "not above 2")
    assert rules.state.digest_at(2) == at_2


def test_lg8_from_the_state_at_the_minimum_the_rest_gives_the_same_state():
    actions = [Stop(), Resume(), Listed(P).action(), RemoveMember(member("auditor").key)]
    entries = [FOUNDING, *(entry(one, n, *MANAGERS) for n, one in enumerate(actions, 2))]
    states = [GovernanceState()]
    for index, data in enumerate(entries):
        states.append(judge(ORIGIN, states[-1], parse_entry(data), index, None))
    for minimum in range(1, 6):
        prune = entry(Prune(minimum, states[minimum].digest()), 6, *MANAGERS)
        whole = judge(ORIGIN, states[-1], parse_entry(prune), 5, None)
        state = GovernanceState.parse(states[minimum].encode())
        for index, data in enumerate([*entries, prune][minimum:], minimum):
            state = judge(ORIGIN, state, parse_entry(data), index, None)
        assert state == whole


# The state's bytes


def test_a_state_reads_back_and_its_bytes_are_those_of_the_docstring(rules):
    rules.take(entry(Listed(P).action(), 2, "officer", "archivist"))
    state = rules.state
    members = b"".join(one.organisation + bytes([one.role]) + one.key for one in state.members)
    first, second = state.changes
    assert state.encode() == b"".join(
        (
            b"datakluis/governance-state/1\n",
            b"\0\0\0\2" + b"\0" + bytes(8),
            b"\4" + members,
            b"\7" + b"".join(rule.encode() for rule in state.rules),
            b"\0\0\0\1" + b"\0\0\0\2" + Listed(P).hashes[0] + b"\0\0\0\1",
            b"\0\0\0\2" + bytes(8) + first.before + bytes(7) + b"\1" + second.before,
        )
    )
    assert GovernanceState.parse(state.encode()) == state
    assert GovernanceState.parse(GovernanceState().encode()) == GovernanceState()


def test_a_state_that_no_entries_leave_behind_is_refused(rules):
    rules.take(entry(Listed(P).action(), 2, "officer", "archivist"))
    state = rules.state
    one, other = state.changes
    wrong = [
        replace(GovernanceState(), stopped=True),
        replace(GovernanceState(), minimum=1),
        replace(state, sequence=0),
        replace(state, sequence=1),
        replace(state, members=()),
        replace(state, members=state.members[::-1]),
        replace(state, members=(*state.members, state.members[-1])),
        replace(state, rules=state.rules[:-1]),
        replace(state, rules=()),
        replace(state, lists=state.lists * 2),
        replace(state, lists=(ListedDestruction(3, bytes(32), 1),)),
        replace(state, lists=(ListedDestruction(1, bytes(32), 1),)),
        replace(state, lists=(ListedDestruction(2, bytes(32), 0),)),
        replace(state, changes=(other, one)),
        replace(state, changes=()),
        replace(state, minimum=1),
        replace(state, minimum=2**63),
    ]
    for bad in wrong:
        with pytest.raises(Malformed):
            GovernanceState.parse(bad.encode())
    whole = state.encode()
    for length in range(len(whole)):
        with pytest.raises(Malformed):
            GovernanceState.parse(whole[:length])
    print(f"{len(wrong)} states that cannot be and {len(whole)} broken off: all refused")


# The golden vector: a ledger that was put together by other code.


def generator():
    spec = importlib.util.spec_from_file_location(
        "generate_governance", VECTORS / "generate_governance.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_golden_ledger_is_valid_and_makes_the_golden_states():
    ((name, content),) = generator().files().items()
    assert (VECTORS / name).read_text(encoding="utf-8") == content
    vector = json.loads(content)
    state, cores, kinds = GovernanceState(), {}, set()
    for index, row in enumerate(vector["entries"]):
        data = bytes.fromhex(row["entry"])
        parsed = parse_entry(data)
        assert parsed.encode() == data
        state = judge(vector["origin"], state, parsed, index, cores.get(parsed.pointer))
        assert state.digest().hex() == row["state"], row["what"]
        cores[parsed.pointer] = parsed
        kinds.add((data[1], data[3]))
    assert {(5, kind) for kind in range(1, 9)} | {(1, 0x80), (6, 0)} == kinds
