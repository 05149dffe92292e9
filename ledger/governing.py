"""The state of governance beside the log, and the one way in which a governance entry gets in.

The state that is stored is that after all entries, pending ones included: the integrator keeps the
order of pending entries around a governance entry, so the index at which one becomes a leaf is
known when it is appended, and a stop takes effect after what was pending before it. Tested in
tests/ledger/test_governing.py.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import GOVERNANCE_POINTER, is_governance, parse_entry
from ledger.governance import judge
from ledger.governancestate import GovernanceState
from ledger.log import Log, append_pending


def current_state(connection: Connection) -> GovernanceState:
    """Return the state after all entries, pending ones included."""
    row = run(connection, "SELECT state FROM ledger_governance WHERE id = 1").fetchone()
    return GovernanceState() if row is None else GovernanceState.parse(bytes(row[0]))


class Standing(NamedTuple):
    """What every put has to know.

    Attributes:
        founded: whether the ledger is governed.
        stopped: whether new records are refused.
    """

    founded: bool
    stopped: bool


def standing(connection: Connection) -> Standing:
    """Return whether the ledger is governed and stopped: one row is looked at, for every put."""
    found = run(connection, "SELECT stopped FROM ledger_governance WHERE id = 1").fetchone()
    return Standing(False, False) if found is None else Standing(True, bool(found[0]))


def is_stopped(connection: Connection) -> bool:
    """Tell whether new records are refused."""
    return standing(connection).stopped


def next_index(connection: Connection) -> int:
    """Return the index at which an entry that is appended now becomes a leaf."""
    log = Log(connection)
    return log.head().size + log.pending_count()


def append_governance(connection: Connection, origin: str, entry: bytes) -> GovernanceState:
    """Append a governance entry that the rules allow, and return the state that it makes.

    The caller holds the writer lock and commits.

    Raises:
        NotValid: the rules do not allow it; nothing was written.
    """
    before = current_state(connection)
    state = judge(origin, before, parse_entry(entry), next_index(connection), None)
    append_pending(connection, [entry])
    _store(connection, state)
    return state


def require_decided(connection: Connection) -> None:
    """Refuse waiting governance entries that the rules do not allow, before they become leaves.

    The vault judges each before it appends it, so such an entry was written past the vault, and
    must not be signed. Members and rules are worked out anew from the founding entry on, and not
    taken from the stored state, which whoever writes the database can change as well.

    Raises:
        NotValid: an entry that the rules do not allow.
    """
    waiting = run(
        connection,
        "SELECT entry, (SELECT count(*) FROM ledger_pending before WHERE before.id < pending.id)"
        " FROM ledger_pending pending WHERE substr(entry, 2, 1) = x'05' ORDER BY id",
    ).fetchall()
    if not waiting:
        return
    log = Log(connection)
    head, state = log.head(), GovernanceState()
    for leaf in log.leaves_of(GOVERNANCE_POINTER):
        state = judge(head.origin, state, parse_entry(log.entry(leaf)), leaf, None)
    for entry, ahead in waiting:
        state = judge(head.origin, state, parse_entry(bytes(entry)), head.size + ahead, None)


def catch_up(connection: Connection, origin: str) -> GovernanceState:
    """Bring the stored state to what all entries make: a restored one can be older than they are.

    It is worked out anew, from the state at the minimum index of a pruned log: what a restored one
    counted as waiting may have become a leaf elsewhere, or none. The caller holds the writer lock
    and commits.

    Raises:
        NotValid: an entry that the rules do not allow.
    """
    log = Log(connection)
    pruned = run(connection, "SELECT state FROM ledger_prune").fetchone()
    state = GovernanceState() if pruned is None else GovernanceState.parse(bytes(pruned[0]))
    minimum = log.minimum()
    for leaf in log.leaves_of(GOVERNANCE_POINTER):
        if leaf >= minimum:
            state = judge(origin, state, parse_entry(log.entry(leaf)), leaf, None)
    waiting = run(connection, "SELECT entry FROM ledger_pending ORDER BY id").fetchall()
    for place, (entry,) in enumerate(waiting, log.head().size):
        if is_governance(bytes(entry)):
            state = judge(origin, state, parse_entry(bytes(entry)), place, None)
    run(connection, "DELETE FROM ledger_governance")
    if state.founded:
        _store(connection, state)
    return state


def _store(connection: Connection, state: GovernanceState) -> None:
    run(
        connection,
        "INSERT INTO ledger_governance (id, state, stopped) VALUES (1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, stopped = excluded.stopped",
        (state.encode(), state.stopped),
    )
