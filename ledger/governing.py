"""The state of governance beside the log, and the one way in which a governance entry gets in.

The state that is stored is that after all entries, pending ones included: the integrator keeps the
order of pending entries around a governance entry, so the index at which one becomes a leaf is
known when it is appended, and a stop takes effect after what was pending before it. Tested in
tests/ledger/test_governing.py.
"""

from __future__ import annotations

from sqlalchemy import Connection

from ledger.driver import run
from ledger.entry import parse_entry
from ledger.governance import GovernanceState, judge
from ledger.log import Log, append_pending


def current_state(connection: Connection) -> GovernanceState:
    """Return the state after all entries, pending ones included."""
    row = run(connection, "SELECT state FROM ledger_governance WHERE id = 1").fetchone()
    return GovernanceState() if row is None else GovernanceState.parse(bytes(row[0]))


def is_stopped(connection: Connection) -> bool:
    """Tell whether new records are refused: one row is looked at, for every put."""
    found = run(connection, "SELECT 1 FROM ledger_governance WHERE stopped = 1").fetchone()
    return found is not None


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
    run(
        connection,
        "INSERT INTO ledger_governance (id, state, stopped) VALUES (1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, stopped = excluded.stopped",
        (state.encode(), state.stopped),
    )
    return state
