"""Every changed byte of what stands beside governance in the ledger is named (GO2, P5).

As in test_tamper.py, over a vault with members, a list that was enacted and one that waits for its
approvals. What was pruned is in test_ageing_out.py, what witnesses signed in test_witnessing.py.
"""

import random
import re
import sqlite3

import pytest
from guarantees_bytes import GOVERNED, Bytes, flip, governed_vault, other_values
from guarantees_vault import chosen_seed, open_vault

import vault.audit.governance

FLIPS = 12


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("governed") / "vault"
    governed_vault(folder)
    seed = chosen_seed()
    print(f"\nseed {seed}")
    with open_vault(folder) as opened:
        found = Bytes(opened, random.Random(seed))
        assert found.faults() == []
        yield found
        assert found.faults() == [], "a byte was not put back"
        found.raw.close()


def others(target, table, column, value):
    """Other values of a cell: of a blob or a text, some with one byte changed."""
    (kind,) = target.raw.execute(
        f"SELECT typeof({column}) FROM {table} WHERE {column} IS NOT NULL"
    ).fetchone()
    if kind == "integer":
        return other_values(value, target.draws)
    written = "TEXT" if kind == "text" else ""
    return [(flip(value, target.draws), written) for _ in range(FLIPS)] + [
        (value[:-1], written),
        (7, ""),
    ]


def unnamed_of(target, table, column, part):
    """Return how many changes were tried, and those that no fault named."""
    unnamed, tried = [], 0
    named = re.compile(f"({part}|table {table}: .* {column})")
    for key, value in target.cells(table, column):
        for other, kind in others(target, table, column, value):
            try:
                with target.changed(table, column, key, other, kind):
                    faults = target.faults()
            except sqlite3.IntegrityError:
                continue  # The database itself refused.
            tried += 1
            if not any(map(named.match, faults)):
                unnamed.append(f"{column} of {key} became {other!r}: {faults}")
    return tried, unnamed


@pytest.mark.parametrize(
    ("table", "column", "part"), GOVERNED, ids=[f"{t}.{c}" for t, c, _ in GOVERNED]
)
def test_what_was_changed_is_named(target, table, column, part):
    tried, unnamed = unnamed_of(target, table, column, part)
    print(f"\n{table}.{column}: {tried - len(unnamed)} of {tried} named")
    assert unnamed == []
    assert tried


# A part of the audit that is taken out, and a column that nothing else sees.
CONTROLS = [
    ("_approvals", "ledger_approval", "key"),
    ("_approvals", "ledger_approval", "approval"),
    ("_lists", "vault_listed", "pointer"),
    ("_proposals", "vault_proposed", "place"),
]


@pytest.mark.parametrize(("method", "table", "column"), CONTROLS)
def test_control_an_audit_without_a_part_misses_its_column(
    target, monkeypatch, method, table, column
):
    part = next(part for t, c, part in GOVERNED if (t, c) == (table, column))
    monkeypatch.setattr(vault.audit.governance, method, lambda *_: iter(()))
    tried, missed = unnamed_of(target, table, column, part)
    print(f"\ncontrol: without {method}, {len(missed)} of {tried} in {table}.{column} missed")
    assert missed
