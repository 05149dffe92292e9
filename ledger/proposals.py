"""Proposals: actions of governance that wait for approvals, as they are stored.

A proposal is for one state: that with the sequence it would make. Once another entry has made that
state it is stale, whoever approved it. Approvals of one that was enacted stay with it. What the
rules say of them is judged in ledger/governance.py alone. Tested in
tests/vault/test_governed_vault.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import Connection

from ledger.action import Action, parse_action
from ledger.approval import Approval
from ledger.driver import run


class ProposalOutcome(StrEnum):
    """What became of a proposal that is not open any more."""

    ENACTED = "enacted"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Proposal:
    """An action that was proposed.

    Attributes:
        id: from 1.
        sequence: of the state that it would make.
        action: what is proposed.
        proposed_at: Unix seconds, UTC.
        outcome: None while it is open.
        approvals: in the order of their keys; not verified.
    """

    id: int
    sequence: int
    action: Action
    proposed_at: int
    outcome: ProposalOutcome | None
    approvals: tuple[Approval, ...]


_COLUMNS = "SELECT id, sequence, kind, parameters, proposed_at, outcome FROM ledger_proposal"


def insert_proposal(connection: Connection, sequence: int, action: Action, at: int) -> int:
    """Store a proposal and return its id.

    Args:
        connection: with the writer lock.
        sequence: of the state that it would make.
        action: what is proposed.
        at: Unix seconds, UTC.
    """
    inserted = run(
        connection,
        "INSERT INTO ledger_proposal (sequence, kind, parameters, proposed_at) VALUES (?, ?, ?, ?)",
        (sequence, action.kind, action.parameters(), at),
    )
    return cast(int, inserted.lastrowid)


def load_proposal(connection: Connection, proposal_id: int) -> Proposal | None:
    """Return a proposal, or None where there is none with this id.

    Raises:
        Malformed: what is stored is no action.
    """
    row = run(connection, f"{_COLUMNS} WHERE id = ?", (proposal_id,)).fetchone()
    return None if row is None else _proposal(connection, row)


def load_proposals(connection: Connection) -> list[Proposal]:
    """Return all proposals, the oldest first.

    Raises:
        Malformed: what is stored is no action.
    """
    return [_proposal(connection, row) for row in run(connection, f"{_COLUMNS} ORDER BY id")]


def store_approval(connection: Connection, proposal_id: int, approval: Approval) -> None:
    """Store an approval; a member's later one takes the place of the earlier."""
    run(
        connection,
        "INSERT INTO ledger_approval (proposal_id, key, approval) VALUES (?, ?, ?)"
        " ON CONFLICT (proposal_id, key) DO UPDATE SET approval = excluded.approval",
        (proposal_id, approval.key, approval.encode()),
    )


def close_proposals(connection: Connection, enacted: int, sequence: int) -> None:
    """Note that one proposal was enacted, and with it every other open one became stale.

    Args:
        connection: with the writer lock.
        enacted: its id.
        sequence: of the state that it made.
    """
    run(
        connection,
        "UPDATE ledger_proposal SET outcome = CASE id WHEN ? THEN ? ELSE ? END"
        " WHERE outcome IS NULL AND sequence <= ?",
        (enacted, ProposalOutcome.ENACTED, ProposalOutcome.STALE, sequence),
    )


def _proposal(connection: Connection, row: Iterable[Any]) -> Proposal:
    proposal_id, sequence, kind, parameters, proposed_at, outcome = row
    approvals = run(
        connection,
        "SELECT approval FROM ledger_approval WHERE proposal_id = ? ORDER BY key",
        (proposal_id,),
    ).fetchall()
    return Proposal(
        proposal_id,
        sequence,
        parse_action(kind, bytes(parameters)),
        proposed_at,
        None if outcome is None else ProposalOutcome(outcome),
        tuple(Approval.parse(bytes(approval)) for (approval,) in approvals),
    )
