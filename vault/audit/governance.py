"""Audit of governance as the vault keeps it: proposals, lists, holders (GO2, PR4).

The stored state itself is recomputed from the entries by ledger/fsck.py. Here, what stands beside
it: proposals and approvals are ones that this software writes, each is for a state that it can be
for, and each approval was signed for its proposal by the key that its row names; the items of each
enacted list, in their places, give the root that the ledger enacted; a proposed list gives its own;
a holder's pointer is a record's. After a restore, items of a list can be lacking, since
the ledger never had them. Tested in tests/vault/test_governed_lists.py and
test_tamper_governed.py.

Of a ledger that was pruned, the governance entries below the minimum index are all kept and lead
from the founding one to the state from which the rest is judged. Otherwise whoever writes the
database could state other members at the minimum and let these approve the prune. Tested in
tests/vault/test_ageing_out.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection

from ledger.action import EnactList
from ledger.driver import run
from ledger.entry import GOVERNANCE_POINTER, parse_entry
from ledger.errors import NotValid
from ledger.fault import Fault
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.governing import current_state
from ledger.log import Log
from ledger.proposals import Proposal, ProposalOutcome, load_proposals
from ledger.pruning import stored_state
from vault.listing import ItemTree, listed_items, load_proposed
from vault.records import Action

_WHERE = "governance"
# No two items share a place, so as many in bounds leave no gap.
_MISPLACED = (
    "SELECT count(*) FROM vault_listed WHERE sequence = ? AND place NOT BETWEEN 0 AND ? - 1"
)
_MISPLACED_PROPOSED = (
    "SELECT count(*) FROM vault_proposed WHERE proposal_id = ? AND place NOT BETWEEN 0 AND ? - 1"
)


def audit_governance(connection: Connection) -> Iterator[Fault]:
    """Yield what is wrong.

    Raises:
        Malformed: a state or a proposal cannot be read.
    """
    state = current_state(connection)
    yield from _pruned(Log(connection))
    yield from _proposals(connection, state)
    yield from _lists(connection, state)
    for (count,) in run(
        connection,
        "SELECT count(*) FROM vault_holder WHERE pointer NOT IN (SELECT pointer FROM vault_record)",
    ).fetchall():
        if count and not _is_restored(connection):
            yield Fault(_WHERE, f"{count} role keys are said to be held by whom no record names")


def _pruned(log: Log) -> Iterator[Fault]:
    state, minimum = GovernanceState(), log.minimum()
    for leaf in log.leaves_of(GOVERNANCE_POINTER) if minimum else ():
        if leaf >= minimum:
            break
        try:
            state = judge(log.head().origin, state, parse_entry(log.entry(leaf)), leaf, None)
        except NotValid as error:
            yield Fault(_WHERE, f"entry {leaf}, kept from before the prune, {error}")
            return
    if minimum and state != stored_state(log.connection):
        yield Fault(_WHERE, f"what is kept of it does not make the state at {minimum} leaves")


def _proposals(connection: Connection, state: GovernanceState) -> Iterator[Fault]:
    enacted = set()
    for proposal in load_proposals(connection):
        where = f"proposal {proposal.id}"
        is_made = proposal.sequence <= state.sequence
        if proposal.outcome is None and not is_made and proposal.sequence != state.sequence + 1:
            yield Fault(where, f"is for state {proposal.sequence}, after {state.sequence}")
        if proposal.outcome is not None and not is_made:
            yield Fault(where, f"is closed, but state {proposal.sequence} was never made")
        if proposal.outcome is ProposalOutcome.ENACTED:
            if proposal.sequence in enacted:
                yield Fault(where, "was enacted for a state that another one made")
            enacted.add(proposal.sequence)
        yield from _approvals(connection, proposal)
        items = load_proposed(connection, proposal.id)
        if items and (proposal.outcome is not None or not isinstance(proposal.action, EnactList)):
            yield Fault(where, "has items though it proposes no list")
        elif items and ItemTree(items).root != getattr(proposal.action, "root", None):
            yield Fault(where, "has other items than it would enact")
        elif run(connection, _MISPLACED_PROPOSED, (proposal.id, len(items))).fetchone()[0]:
            yield Fault(where, "has items in places that a list has not")


def _approvals(connection: Connection, proposal: Proposal) -> Iterator[Fault]:
    origin = Log(connection).head().origin
    keys = run(
        connection,
        "SELECT key FROM ledger_approval WHERE proposal_id = ? ORDER BY key",
        (proposal.id,),
    ).fetchall()
    for (key,), approval in zip(keys, proposal.approvals, strict=True):
        given = proposal.sequence > 0 and approval.holds(origin, proposal.sequence, proposal.action)
        if bytes(key) != approval.key or not given:
            yield Fault(f"proposal {proposal.id}", "has an approval that was not given for it")


def _lists(connection: Connection, state: GovernanceState) -> Iterator[Fault]:
    known = {one.sequence: one for one in state.lists}
    kept = run(
        connection, "SELECT sequence FROM vault_listed UNION SELECT sequence FROM vault_list"
    ).fetchall()
    for (sequence,) in kept:
        if sequence not in known:
            yield Fault(f"list {sequence}", "was never enacted")
    for sequence, listed in known.items():
        where = f"list {sequence}"
        items = listed_items(connection, sequence)
        if not items and _is_restored(connection):
            continue
        tree = ItemTree(items)
        if (tree.root, tree.count) != (listed.root, listed.count):
            yield Fault(where, "has other items than the ledger enacted")
        elif run(connection, _MISPLACED, (sequence, listed.count)).fetchone()[0]:
            yield Fault(where, "has items in places that a list has not")
        row = run(
            connection, "SELECT approvers FROM vault_list WHERE sequence = ?", (sequence,)
        ).fetchone()
        if row is None or not _names(row[0]):
            yield Fault(where, "does not say who approved it")


def _names(approvers: str) -> bool:
    try:
        named = json.loads(approvers)
    except ValueError:
        return False
    return isinstance(named, list) and bool(named) and json.dumps(named) == approvers


def _is_restored(connection: Connection) -> bool:
    found = run(connection, "SELECT 1 FROM vault_act WHERE action = ? LIMIT 1", (Action.RESTORE,))
    return found.fetchone() is not None
