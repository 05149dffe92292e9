"""Generations: prepared, open, closed, scheduled, gone; nothing goes back; rows read strictly."""

import dataclasses

import pytest
from sdk_calls import CONSENT, put

from policy.assurance import Presence, ProviderKind
from vault import Damaged, KeyGone, ProviderFailed, TreeNumber
from vault.generations import (
    GenerationState,
    Providers,
    close_generations,
    forget_prepared,
    insert_provider,
    load_generation,
    load_generations,
    load_provider,
    new_epoch_key,
    not_gone,
    store_generation,
    store_gone,
    store_report,
)
from vault.rootkeys.file import FileRootKeys
from vault.rootkeys.provider import KeyContext, KeyReport, Surroundings

ORDINARY, PERMANENT = TreeNumber
THERE = KeyReport(Presence.PRESENT, "it is there")
LATER = KeyReport(Presence.SCHEDULED, "in a week", 7_000)
GONE = KeyReport(Presence.GONE, "not found")


@pytest.fixture
def connection(vault):
    """The database of a new vault, which has generation 1 of both trees, for writing."""
    with vault._core.database.write() as opened:
        yield opened


@pytest.fixture
def store(connection):
    """Stores prepared generations of a tree, with made-up root keys."""

    def stored(*numbers, tree=ORDINARY):
        for number in numbers:
            context = KeyContext(bytes(16), tree, number)
            store_generation(connection, context, 1, f"root-{number}.key", b"wrapped")

    return stored


def states(connection, tree=ORDINARY):
    return [one.state.value for one in load_generations(connection, tree)]


def test_a_new_vault_has_one_open_generation_of_each_tree(connection):
    for tree, reference in ((ORDINARY, "root-1.key"), (PERMANENT, "permanent-1.key")):
        (one,) = load_generations(connection, tree)
        assert one == load_generation(connection, tree, 1)
        assert (one.tree, one.number, one.reference) == (tree, 1, reference)
        assert one.state is GenerationState.OPEN
        assert isinstance(one.wrapped, bytes)
        assert (one.response, one.asked_at, one.gone_at) == (None, None, None)
        assert (one.closed_at, one.destroyed_at) == (None, None)
        assert load_provider(connection, one.provider_id) == (ProviderKind.FILE, {})
    assert not_gone(load_generations(connection, ORDINARY)) == []


def test_the_life_of_a_generation(connection, store):
    store(2)
    assert states(connection) == ["open", "prepared"]
    close_generations(connection, ORDINARY, 2, 1_000)
    assert states(connection) == ["closed", "open"]
    assert states(connection, PERMANENT) == ["open"]
    first, second = load_generations(connection, ORDINARY)
    assert (first.closed_at, second.closed_at) == (1_000, None)
    seen = []
    for report, at in ((THERE, 2_000), (LATER, 3_000), (THERE, 4_000), (LATER, 5_000)):
        store_report(connection, first, report, at)
        one = load_generation(connection, ORDINARY, 1)
        assert (one.response, one.asked_at, one.gone_at) == (report.response, at, report.gone_at)
        assert one.destroyed_at is None
        assert one.wrapped == first.wrapped  # it can still be tried
        seen.append(one.state.value)
    # A deletion that was cancelled is no deletion.
    assert seen == ["closed", "scheduled", "closed", "scheduled"]
    # The word of a provider alone makes nothing gone: it is tried first.
    store_report(connection, first, GONE, 6_000)
    assert states(connection) == ["closed", "open"]
    store_gone(connection, first, GONE, 7_000)
    gone = load_generation(connection, ORDINARY, 1)
    assert gone == dataclasses.replace(
        first,
        state=GenerationState.GONE,
        wrapped=None,
        response="not found",
        asked_at=7_000,
        destroyed_at=7_000,
    )
    assert load_generation(connection, ORDINARY, 2) == second


def test_nothing_goes_back(connection, store):
    store(2)
    close_generations(connection, ORDINARY, 2, 1_000)
    first = load_generation(connection, ORDINARY, 1)
    store_gone(connection, first, GONE, 2_000)
    gone = load_generation(connection, ORDINARY, 1)
    for report in (THERE, LATER, GONE):
        store_report(connection, first, report, 3_000)
        assert load_generation(connection, ORDINARY, 1) == gone
    # Said once more, the day on which it was found to be gone stays.
    store_gone(connection, first, GONE, 4_000)
    assert load_generation(connection, ORDINARY, 1) == dataclasses.replace(gone, asked_at=4_000)
    store(3)
    close_generations(connection, ORDINARY, 3, 5_000)
    assert states(connection) == ["gone", "closed", "open"]
    assert load_generation(connection, ORDINARY, 1).closed_at == 1_000


def test_one_that_was_scheduled_stays_closed_when_the_next_one_opens(connection, store):
    store(2)
    close_generations(connection, ORDINARY, 2, 1_000)
    store_report(connection, load_generation(connection, ORDINARY, 1), LATER, 2_000)
    store(3)
    close_generations(connection, ORDINARY, 3, 3_000)
    assert states(connection) == ["scheduled", "closed", "open"]
    assert [one.closed_at for one in load_generations(connection, ORDINARY)] == [1_000, 3_000, None]


def test_what_was_left_and_is_not_gone(connection, store):
    store(2, 3, 4)
    close_generations(connection, ORDINARY, 4, 1_000)
    # Of those that never were open, nothing is left to destroy.
    assert states(connection) == ["closed", "prepared", "prepared", "open"]
    found = {}
    for state in GenerationState:
        one = dataclasses.replace(load_generation(connection, ORDINARY, 1), state=state)
        found[state.value] = bool(not_gone([one]))
    assert found == {
        "prepared": False,
        "open": False,
        "closed": True,
        "scheduled": True,
        "gone": False,
    }
    many = load_generations(connection, ORDINARY)
    assert not_gone(iter(many)) == many[:1]


def test_a_prepared_one_can_be_forgotten_and_no_other(connection, store):
    store(2)
    store(2, tree=PERMANENT)
    forget_prepared(connection, ORDINARY)
    assert states(connection) == ["open"]
    assert states(connection, PERMANENT) == ["open", "prepared"]
    store(2)
    close_generations(connection, ORDINARY, 2, 1_000)
    forget_prepared(connection, ORDINARY)
    assert states(connection) == ["closed", "open"]


# Providers


def test_the_same_place_is_stored_once(connection):
    first = insert_provider(connection, ProviderKind.AWSKMS, {"region": "eu-west-1", "role": "r"})
    assert first != 1
    for options in (
        {"role": "r", "region": "eu-west-1"},
        {"region": "eu-west-1", "role": "r"},
    ):
        assert insert_provider(connection, ProviderKind.AWSKMS, options) == first
    assert insert_provider(connection, ProviderKind.FILE, {}) == 1
    others = {
        insert_provider(connection, ProviderKind.AWSKMS, {"region": "eu-west-1", "role": "é"}),
        insert_provider(connection, ProviderKind.AWSKMS, {"region": "eu-west-1"}),
        insert_provider(connection, ProviderKind.TRANSIT, {"region": "eu-west-1", "role": "r"}),
    }
    assert len(others | {first, 1}) == 5
    assert load_provider(connection, first) == (
        ProviderKind.AWSKMS,
        {"region": "eu-west-1", "role": "r"},
    )
    assert connection.exec_driver_sql("SELECT count(*) FROM vault_provider").scalar() == 5


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("paper", "{}"),
        ("FILE", "{}"),
        ("", "{}"),
        (b"\xff", "{}"),
        (7, "{}"),
        ("file", ""),
        ("file", "{"),
        ("file", "[]"),
        ("file", "null"),
        ("file", '"x"'),
        ("file", b"\xff\xfe"),
        ("file", 1.5),
    ],
)
def test_a_row_that_names_no_provider_is_damaged(connection, kind, options):
    connection.exec_driver_sql(
        "UPDATE vault_provider SET kind = ?, options = ? WHERE id = 1", (kind, options)
    )
    with pytest.raises(Damaged, match=r"^row 1 names no root key provider$"):
        load_provider(connection, 1)
    with pytest.raises(Damaged, match=r"^row 9 names no root key provider$"):
        load_provider(connection, 9)


def test_a_provider_is_opened_once_and_afresh_when_that_is_asked(vault, connection):
    providers = vault._core.providers
    known = providers.get(connection, 1)
    assert providers.get(connection, 1) is known
    fresh = providers.fresh()
    assert fresh.get(connection, 1) is not known
    assert fresh.get(connection, 1) is fresh.get(connection, 1)
    assert "passphrase" not in repr(fresh)


def test_an_epoch_key_is_wrapped_and_comes_back(vault, connection):
    providers, context = vault._core.providers, KeyContext(vault._core.tenant, ORDINARY, 2)
    provider = providers.get(connection, 1)
    reference = provider.make_key(context)
    epoch_key, wrapped = new_epoch_key(provider, reference, context)
    assert len(epoch_key) == 32
    assert new_epoch_key(provider, reference, context)[0] != epoch_key
    store_generation(connection, context, 1, reference, wrapped)
    made = load_generation(connection, ORDINARY, 2)
    assert (made.state, made.reference) == (GenerationState.PREPARED, "root-2.key")
    assert epoch_key not in made.wrapped
    assert providers.unwrap(connection, vault._core.tenant, made) == epoch_key
    # Not for another vault, tree or generation.
    for tenant, changed in (
        (bytes(16), {}),
        (vault._core.tenant, {"number": 3}),
        (vault._core.tenant, {"tree": PERMANENT}),
        (vault._core.tenant, {"reference": "root-1.key"}),
        (vault._core.tenant, {"wrapped": made.wrapped[:-1]}),
        (vault._core.tenant, {"wrapped": b""}),
    ):
        with pytest.raises(Damaged):
            providers.unwrap(connection, tenant, dataclasses.replace(made, **changed))
    FileRootKeys({}, Surroundings(vault.folder, "any")).destroy("root-2.key")
    with pytest.raises(KeyGone, match=r"root-2\.key is gone$"):
        providers.unwrap(connection, vault._core.tenant, made)
    store_gone(connection, made, GONE, 1_000)
    with pytest.raises(KeyGone, match="generation 2 of the key tree was destroyed"):
        providers.unwrap(connection, vault._core.tenant, load_generation(connection, ORDINARY, 2))


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_an_answer_that_is_no_epoch_key_is_refused(vault, connection, monkeypatch, length):
    monkeypatch.setattr(FileRootKeys, "unwrap", lambda *_: bytes(length))
    one = load_generation(connection, ORDINARY, 1)
    with pytest.raises(ProviderFailed, match=f"unwrapped to {length} bytes"):
        vault._core.providers.unwrap(connection, vault._core.tenant, one)


def test_providers_show_no_passphrase(tmp_path):
    providers = Providers(Surroundings(tmp_path, "very secret"))
    assert "very secret" not in f"{providers!r} {vars(providers)}"


# Rows that were changed


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tree", 2),
        ("state", "Gone"),
        ("state", ""),
        ("state", "destroyed"),
        ("state", 5),
        ("state", b"gone"),
        ("number", "two"),
        ("number", b"\x01"),
        ("provider_id", "one"),
        ("wrapped", "text"),
        ("wrapped", 12),
        ("wrapped", -1),
        ("wrapped", 2**40),
        ("wrapped", 1.5),
        ("reference", b"root-1.key"),
        ("response", b"x"),
        ("asked_at", "yesterday"),
        ("asked_at", b"x"),
        ("gone_at", "tomorrow"),
        ("closed_at", 1.5),
        ("destroyed_at", "x"),
    ],
)
def test_a_row_that_no_vault_wrote_is_damaged(connection, column, value):
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    connection.exec_driver_sql(
        f"UPDATE vault_generation SET {column} = ? WHERE tree = 0 AND number = 1", (value,)
    )
    tree = value if column == "tree" else ORDINARY
    with pytest.raises(Damaged, match=r"^a row of the key tree's generations cannot be read$"):
        load_generations(connection, tree)
    # It is not kept for the other tests either.
    connection.rollback()


def test_a_generation_that_is_missing_is_named(connection):
    assert load_generations(connection, PERMANENT)
    for tree, number in ((ORDINARY, 2), (ORDINARY, 0), (PERMANENT, -1)):
        with pytest.raises(Damaged, match=f"^generation {number} has no wrapped epoch key$"):
            load_generation(connection, tree, number)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'gone' WHERE tree = 0 AND number = 2",
        "state = 'closed', destroyed_at = NULL WHERE tree = 0 AND number = 1",
        "state = 'prepared' WHERE tree = 0 AND number = 2",
        "wrapped = x'00' WHERE tree = 0 AND number = 1",
        "destroyed_at = NULL WHERE tree = 0 AND number = 1",
        "number = 5 WHERE tree = 0 AND number = 1",
    ],
)
def test_the_audit_names_a_changed_row(vault, change):
    vault.erase(put(vault), CONSENT)
    vault.shred()
    assert vault.audit().faults == []
    with vault._core.database.write() as connection:
        changed = connection.exec_driver_sql(f"UPDATE vault_generation SET {change}")
        assert changed.rowcount == 1
    faults = vault.audit().faults
    assert any("generation" in str(fault) for fault in faults), faults
