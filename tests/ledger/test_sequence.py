"""What may follow what: every pair of entries about one group, judged by a plain model."""

from collections import Counter

import pytest
from ledger_fixtures import (
    certificate_entry,
    erasure_entry,
    pointer,
    shred_entry,
    version_entry,
)

from ledger.entry import ERASURES, EntryKind, parse_entry
from ledger.sequence import certificate_fault, group_name, record_fault, shred_fault

ONE = pointer(1)


def states(group):
    """What can stand before: nothing, versions 1 to 4, erasures of them."""
    made = [make(ONE, n, group) for make in (version_entry, erasure_entry) for n in range(1, 5)]
    return [None, *map(parse_entry, made)]


@pytest.mark.parametrize("group", [0, 1, 15])
def test_every_record_entry_after_every_other(group):
    outcomes = Counter()
    for before in states(group):
        for entry in states(group)[1:]:
            erases = entry.kind in ERASURES
            if before is None:
                right = not erases and (entry.version == 1 or group > 0)
            elif before.kind in ERASURES:
                right = False
            else:
                least = before.version + (not erases)
                right = entry.version == least or (group > 0 and entry.version > least)
            fault = record_fault(entry, before)
            assert (fault is None) is right, (before, entry)
            assert fault is None or group_name(entry) in fault
            outcomes[right] += 1
    print(f"group {group}: {dict(outcomes)}")
    assert outcomes[True] > 5 < outcomes[False]


@pytest.mark.parametrize("group", [0, 7])
def test_certificates_count_from_one_after_an_erasure(group):
    for state in states(group):
        for issued in range(4):
            for number in range(1, 6):
                entry = parse_entry(certificate_entry(ONE, number, group))
                right = state is not None and state.kind in ERASURES and number == issued + 1
                assert (certificate_fault(entry, state, issued) is None) is right


def test_destroyed_generations_rise():
    for destroyed in range(5):
        for generation in range(1, 6):
            entry = parse_entry(shred_entry(ONE, generation=generation))
            assert entry.kind is EntryKind.SHRED
            assert (shred_fault(entry, destroyed) is None) is (generation > destroyed)


def test_a_group_is_named_for_people():
    assert group_name(parse_entry(version_entry(ONE))).startswith("record ")
    assert group_name(parse_entry(version_entry(ONE, 1, 3))).startswith("group 3 of record ")
