"""The stored state, and the one way in: what waits counts, and what is refused leaves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from governance_entries import FOUNDING, Listed, entry, member
from ledger_fixtures import ORIGIN, Ledger, pointer, version_entry

from ledger.action import RemoveMember, Resume, Stop
from ledger.errors import NotValid
from ledger.governancestate import GovernanceState
from ledger.governing import (
    append_governance,
    catch_up,
    current_state,
    is_stopped,
    next_index,
    standing,
)

MANAGERS = ("operator", "officer", "archivist")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as ledger:
        yield ledger


def take(ledger: Ledger, data: bytes) -> GovernanceState:
    with ledger.write() as connection:
        return append_governance(connection, ORIGIN, data)


def stored(ledger: Ledger) -> GovernanceState:
    with ledger.read() as log:
        return current_state(log.connection)


def test_go3_the_state_is_that_after_what_waits(ledger):
    with ledger.read() as log:
        assert standing(log.connection) == (False, False)
    founded = take(ledger, FOUNDING)
    assert stored(ledger) == founded != GovernanceState()
    ledger.put([version_entry(pointer(1))])
    take(ledger, entry(Stop(), 2, "auditor"))
    with ledger.read() as log:
        assert (log.head().size, log.pending_count()) == (0, 3)
        assert next_index(log.connection) == 3
        assert is_stopped(log.connection)
        assert standing(log.connection) == (True, True)
    take(ledger, entry(Resume(), 3, *MANAGERS))
    with ledger.read() as log:
        assert standing(log.connection) == (True, False)
    assert [change.leaf for change in stored(ledger).changes] == [0, 2, 3]
    ledger.integrate()
    assert ledger.faults() == []


def test_what_the_rules_refuse_leaves_nothing(ledger):
    take(ledger, FOUNDING)
    before = stored(ledger)
    refused = [
        FOUNDING,
        entry(Listed(pointer(1)).action(), 2, "officer"),
        entry(Stop(), 3, "officer"),
        entry(Stop(), 2, "officer", expiry=1),
        entry(Stop(), 2, "stranger"),
    ]
    for data in refused:
        with ledger.write() as connection, pytest.raises(NotValid):
            append_governance(connection, ORIGIN, data)
    with ledger.read() as log:
        assert log.pending_count() == 1
    assert stored(ledger) == before


def test_an_expiry_is_held_against_the_index_at_which_the_entry_becomes_a_leaf(ledger):
    """What waits before it counts, in whatever order it is integrated."""
    take(ledger, FOUNDING)
    ledger.put([version_entry(pointer(n)) for n in range(5)])
    with ledger.write() as connection, pytest.raises(NotValid, match="expired at 6 leaves"):
        append_governance(connection, ORIGIN, entry(Stop(), 2, "officer", expiry=6))
    take(ledger, entry(Stop(), 2, "officer", expiry=7))
    ledger.integrate()
    assert ledger.entries()[6] == entry(Stop(), 2, "officer", expiry=7)
    assert ledger.faults() == []


def test_a_state_that_is_behind_its_entries_catches_up(ledger):
    entries = [FOUNDING, entry(Stop(), 2, "officer"), entry(Resume(), 3, *MANAGERS)]
    states = []
    for data in entries:
        states.append(take(ledger, data))
        ledger.put([version_entry(pointer(1), len(states))])
    ledger.integrate()
    last = take(ledger, entry(RemoveMember(member("auditor").key), 4, *MANAGERS))
    # The last one counts a founding that waited at another index than it became a leaf.
    elsewhere = replace(states[0], changes=(replace(states[0].changes[0], leaf=5),))
    for behind in (None, states[0], states[1], last, elsewhere):
        ledger.sql("DELETE FROM ledger_governance")
        if behind is not None:
            ledger.sql("INSERT INTO ledger_governance VALUES (1, ?, 0)", behind.encode())
        with ledger.write() as connection:
            assert catch_up(connection, ORIGIN) == last
        assert stored(ledger) == last
        assert ledger.faults() == []


def test_an_ungoverned_ledger_has_nothing_to_catch_up_with(ledger):
    ledger.put([version_entry(pointer(1))])
    with ledger.write() as connection:
        assert catch_up(connection, ORIGIN) == GovernanceState()
    assert ledger.sql("SELECT count(*) FROM ledger_governance") == [(0,)]
