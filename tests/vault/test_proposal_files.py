"""Files by which somebody approves without a vault: one spelling, and nothing else is accepted."""

import json

import pytest
from governed import found, role_key
from hypothesis import given, settings
from hypothesis import strategies as st
from sdk_calls import put

from anchor.errors import BadFile
from ledger.action import (
    RULED,
    AddMember,
    EnactList,
    Member,
    Prune,
    RemoveMember,
    Resume,
    Role,
    Rule,
    SetRule,
    Stop,
)
from ledger.approval import Approval
from ledger.note import is_key_name
from vault import InvalidInput, NotAllowed
from vault.listing import Item, list_action
from vault.proposalfile import ApprovalFile, ProposalFile
from vault.ruling import KINDS, make_rule, parse_rules

KEY = st.binary(min_size=32, max_size=32)
ROLE = st.sampled_from(list(Role))
ITEMS = st.lists(
    st.builds(Item, st.binary(min_size=16, max_size=16), st.integers(0, 15)),
    min_size=1,
    max_size=5,
    unique=True,
)


@st.composite
def proposals(draw):
    member = st.builds(Member, KEY, st.binary(min_size=16, max_size=16), ROLE)
    rule = st.builds(Rule, st.integers(1, 255), st.frozensets(ROLE, min_size=1))
    items = tuple(draw(ITEMS))
    action = draw(
        st.one_of(
            st.builds(AddMember, member),
            st.builds(RemoveMember, KEY),
            st.builds(SetRule, st.sampled_from(RULED), rule),
            st.just(list_action(items)),
            st.builds(Prune, st.integers(1, 2**63 - 1), KEY),
            st.just(Stop()),
            st.just(Resume()),
        )
    )
    return ProposalFile(
        draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(is_key_name)),
        draw(st.integers(1, 2**32 - 1)),
        action,
        draw(st.integers(1, 2**63 - 1)),
        items if isinstance(action, EnactList) else (),
    )


@given(proposals())
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(proposal):
    assert ProposalFile.parse(proposal.format()) == proposal
    key = role_key()
    signed = proposal.sign(key)
    again = ApprovalFile.parse(signed.format())
    assert again == signed
    assert again.approval.holds(proposal.origin, proposal.sequence, proposal.action)


@given(proposals(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_refused_or_is_another_proposal(proposal, data):
    for written, parse in (
        (proposal.format(), ProposalFile.parse),
        (proposal.sign(role_key()).format(), ApprovalFile.parse),
    ):
        changed = bytearray(written)
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= data.draw(st.integers(1, 255))
        try:
            read = parse(bytes(changed))
        except BadFile:
            continue
        assert read.format() == bytes(changed) != written


@given(st.binary(max_size=200) | st.text().map(str.encode))
@settings(max_examples=100, deadline=None)
def test_other_bytes_are_refused(data):
    for parse in (ProposalFile.parse, ApprovalFile.parse):
        with pytest.raises(BadFile):
            parse(data)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("format", "datakluis-proposal/2"),
        ("sequence", "2"),
        ("sequence", 0),
        ("sequence", True),
        ("sequence", 2**32),
        ("origin", ""),
        ("origin", "o\naction    resume"),
        ("origin", "o\x1b[8m"),
        ("origin", "o" * 2**16),
        ("kind", "stop"),
        ("kind", "abdicate"),
        ("parameters", "00"),
        ("expiry", 2**63),
        ("expiry", -1),
        ("items", []),
        ("items", ["aaaaaaaaaaaaaaaaaaaaaaaaaa/0"]),
        ("items", ["aaaaaaaaaaaaaaaaaaaaaaaaaa"]),
        ("items", ["x/0"]),
        ("items", "x/0"),
        ("more", 1),
    ],
)
def test_a_proposal_that_says_something_else_is_refused(member, value):
    items = (Item(bytes(range(16)), 0), Item(bytes(range(1, 17)), 3))
    document = json.loads(ProposalFile("o", 2, list_action(items), 9, items).format())
    document[member] = value
    changed = (json.dumps(document, indent=2) + "\n").encode()
    with pytest.raises(BadFile):
        ProposalFile.parse(changed)


def test_an_approver_without_the_vault_decides_with_the_others(vault):
    keys = found(vault)
    pointers = [put(vault, category="kindpakket") for _ in range(3)]
    view = vault.propose_list(pointers, keys.officer)
    written = vault.proposal_file(view.proposal.id, expires=10).format()
    brought = ProposalFile.parse(written)
    assert {len(item.pointer) for item in brought.items} == {16}
    signed = ApprovalFile.parse(brought.sign(keys.archivist).format())
    view = vault.add_approval(view.proposal.id, signed.approval)
    assert view.is_enacted
    with pytest.raises(NotAllowed):
        vault.add_approval(view.proposal.id, signed.approval)
    with pytest.raises(NotAllowed):
        vault.proposal_file(view.proposal.id)
    waiting = vault.propose(RemoveMember(keys.auditor.public), keys.officer)
    with pytest.raises(NotAllowed, match="another"):
        vault.add_approval(waiting.proposal.id, signed.approval)
    changed = Approval(signed.approval.key, 2**40, signed.approval.signature)
    with pytest.raises(NotAllowed):
        vault.add_approval(waiting.proposal.id, changed)
    with pytest.raises(InvalidInput):
        vault.proposal_file(99)
    assert vault.audit().faults == []


# Rules as people write them


def test_rules_in_a_file_take_the_place_of_the_defaults():
    plain = parse_rules("")
    rules = parse_rules('[list]\ncount = 3\nmay = ["officer", "archivist"]\norganisations = 2\n')
    place = RULED.index(KINDS["list"])
    assert rules[place] == Rule(3, frozenset({Role.OFFICER, Role.ARCHIVIST}), frozenset(), 2)
    assert rules[:place] + rules[place + 1 :] == plain[:place] + plain[place + 1 :]


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("[list", "TOML"),
        ("list = 1", "no table"),
        ("[lists]\ncount = 1", "lists"),
        ('[list]\nmay = ["officer"]', "count"),
        ("[list]\ncount = 2", "may"),
        ('[list]\ncount = "2"\nmay = ["officer"]', "count"),
        ("[list]\ncount = 2\nmay = [1]", "may"),
        ('[list]\ncount = 2\nmay = ["mayor"]', "mayor"),
        ('[list]\ncount = 0\nmay = ["officer"]', "from 1"),
        ('[list]\ncount = 2\nmay = ["officer"]\norganisations = 256', "from 1"),
        ("[list]\ncount = 2\nmay = []", "may approve"),
        ('[list]\ncount = 2\nmay = ["officer"]\nmust = ["archivist"]', "among them"),
        ('[list]\ncount = 2\nmay = ["officer"]\nnames = 1', "names"),
    ],
)
def test_a_rule_that_says_what_it_cannot_is_refused(written, word):
    with pytest.raises(InvalidInput, match=word):
        parse_rules(written)


def test_a_rule_is_made_of_words():
    rule = make_rule(2, ["officer", "archivist"], ["archivist"])
    assert rule == Rule(2, frozenset({Role.OFFICER, Role.ARCHIVIST}), frozenset({Role.ARCHIVIST}))
