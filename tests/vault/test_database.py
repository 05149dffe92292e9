"""The database: its schema and settings, and errors that repeat nothing of its content (P3, P5)."""

import re
import sqlite3
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from anchor import tables as anchor_tables
from ledger import tables as ledger_tables
from vault import Busy, ConfigurationError, Damaged, NewerSchema, Vault, database
from vault import tables as vault_tables
from vault.database import SCHEMA, Database

CANARY = "canary-999990019"


@pytest.fixture
def opened(vault_folder):
    database = Database.open(vault_folder / "vault.db")
    yield database
    database.close()


def tables():
    everything = MetaData()
    for room in (vault_tables, ledger_tables, anchor_tables):
        for table in room.metadata.sorted_tables:
            table.to_metadata(everything)
    return everything


def differences(connection, metadata):
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_name": lambda name, kind, _: (kind, name) != ("table", "alembic_version"),
        },
    )
    return compare_metadata(context, metadata)


def test_the_migrated_schema_is_that_of_the_tables(opened):
    metadata = tables()
    with opened.read() as connection:
        assert differences(connection, metadata) == []
        # The control: a table or a column more would be seen.
        more = tables()
        more.remove(more.tables["vault_hold"])
        assert [change[0] for change in differences(connection, more)] != []
    print(f"{len(metadata.tables)} tables, 0 differences")


def test_the_schema_that_is_named_is_the_newest_revision():
    script = ScriptDirectory(str(database.Path(database.__file__).parent / "migrations"))
    assert script.get_heads() == [SCHEMA]
    assert {revision.revision for revision in script.walk_revisions()} == database._KNOWN_SCHEMAS


SETTINGS = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "page_size": 16_384,
    "foreign_keys": 1,
    "secure_delete": 1,
    "busy_timeout": 30_000,
}


@pytest.mark.parametrize("way", ["read", "write"])
def test_every_connection_has_the_settings_that_durability_rests_on(opened, way):
    with getattr(opened, way)() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in SETTINGS}
    assert found == SETTINGS


def test_the_hot_cursor_has_them_too(opened):
    assert {name: opened.fetch(f"PRAGMA {name}", ())[0][0] for name in SETTINGS} == SETTINGS


def set_schema(path, revision):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


def test_a_newer_schema_is_left_alone(vault_folder, passphrase):
    path = vault_folder / "vault.db"
    set_schema(path, "0004")
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match=r"schema '0004', this version knows up to 0003: upgrade"):
        Vault.open(vault_folder, passphrase)
    assert path.read_bytes() == before
    set_schema(path, SCHEMA)
    Vault.open(vault_folder, passphrase).close()


def test_a_missing_database_is_named(vault_folder, passphrase):
    (vault_folder / "vault.db").unlink()
    with pytest.raises(ConfigurationError, match=r"vault\.db is missing"):
        Vault.open(vault_folder, passphrase)
    assert not (vault_folder / "vault.db").exists()


def test_an_existing_database_is_never_replaced(vault_folder):
    before = (vault_folder / "vault.db").read_bytes()
    with pytest.raises(ConfigurationError, match="exists already"):
        Database.create(vault_folder / "vault.db")
    assert (vault_folder / "vault.db").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"not a database, " * 100, b"SQLite format 3\0" + b"x" * 99]
)
def test_something_else_is_not_a_vault_database(vault_folder, passphrase, content):
    (vault_folder / "vault.db").write_bytes(content)
    with pytest.raises(Damaged, match=r"vault\.db is not a readable vault database"):
        Vault.open(vault_folder, passphrase)


def test_an_exception_undoes_the_whole_transaction(opened):
    def fail():
        with opened.write() as connection:
            connection.exec_driver_sql("DELETE FROM vault_node")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with opened.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM vault_node").scalar() == 2
    with opened.write() as connection:
        connection.exec_driver_sql("DELETE FROM vault_node")
    with opened.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM vault_node").scalar() == 0


def test_a_read_sees_one_moment(opened):
    query = "SELECT sequence FROM vault_tree WHERE id = 1"
    with opened.read() as connection:
        before = connection.exec_driver_sql(query).scalar()
        with opened.write() as writer:
            writer.exec_driver_sql("UPDATE vault_tree SET sequence = sequence + 1")
        assert connection.exec_driver_sql(query).scalar() == before
        assert opened.fetch(query, ()) == [(before + 1,)]


def test_a_second_writer_waits_and_then_says_that_it_is_busy(opened, vault_folder):
    path = vault_folder / "vault.db"
    other = Database(path, busy_seconds=0.1)
    with opened.write():
        with (
            pytest.raises(Busy, match=r"vault\.db is in use by another process: try again"),
            other.write(),
        ):
            pass
        with other.read() as connection:  # a reader is not kept waiting
            assert connection.exec_driver_sql("SELECT count(*) FROM vault_tree").scalar() == 2
    with other.write():
        pass
    other.close()


BROKEN = {
    "a constraint": (
        "INSERT INTO vault_generation (tree, number, provider_id, reference, wrapped, state)"
        " VALUES (0, 1, 1, ?, x'', '')"
    ),
    "a missing value": "INSERT INTO vault_act (actor) VALUES (?)",
    "a foreign key": (
        "INSERT INTO vault_hold (record_id, version, reason, act_id) VALUES (99, 1, ?, 99)"
    ),
    "a table that is not there": "SELECT ? FROM nothing",
}


@pytest.mark.parametrize("statement", BROKEN.values(), ids=BROKEN)
def test_errors_carry_no_parameters(opened, statement):
    with pytest.raises(Damaged) as caught, opened.write() as connection:
        connection.exec_driver_sql(statement, (CANARY,))
    error = caught.value
    assert "vault.db is damaged: " in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__
    shown = f"{error!r} {error} {error.__context__}"
    assert "canary" not in shown.lower()


def test_an_undecodable_text_is_not_repeated(opened):
    with opened.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO vault_act (at, actor, purpose, action)"
            " VALUES (1, CAST(? AS TEXT), '', '')",
            (CANARY.encode() + b"\xff",),
        )
    with pytest.raises(Damaged) as caught, opened.read() as connection:
        connection.exec_driver_sql("SELECT actor FROM vault_act").all()
    assert "canary" not in f"{caught.value} {caught.value!r}"
    with pytest.raises(Damaged) as caught:
        opened.fetch("SELECT actor FROM vault_act", ())
    assert "canary" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("name", ["a?b=c", "p%20p", "h#h", "é ü", "a'b", "a;b", "file:x"])
def test_a_folder_may_have_any_name(tmp_path, passphrase, name):
    folder = tmp_path / name
    with Vault.create(folder, passphrase) as vault:
        pointer = vault.put(b"x", category="nieuwsbrief", subject="s")
    assert sorted(path.name for path in folder.iterdir()) == [
        "datakluis.toml",
        "keys",
        "leases",
        "signer",
        "vault.db",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Vault.open(folder, passphrase) as vault:
        assert vault.get(pointer) == b"x"


def test_forty_threads_read_at_once(opened):
    # Each keeps a cursor and opens snapshots beside it, all at the same moment.
    together, results = threading.Barrier(40, timeout=20), []

    def read():
        opened.fetch("SELECT count(*) FROM vault_tree", ())
        with opened.read() as connection:
            together.wait()
            results.append(connection.exec_driver_sql("SELECT count(*) FROM vault_tree").scalar())

    threads = [threading.Thread(target=read) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2] * 40


def test_no_table_has_a_column_for_a_name_or_a_payload_in_the_clear():
    texts = {
        f"{table.name}.{column.name}"
        for table in tables().sorted_tables
        for column in table.columns
        if re.search("TEXT|CHAR", str(column.type))
    }
    assert texts == {
        "vault_act.actor",
        "vault_act.purpose",
        "vault_act.action",
        "vault_record.category",
        "vault_record.retention",
        "vault_record.record_date",
        "vault_record.brondatum",
        "vault_record.ground",
        "vault_provider.kind",
        "vault_provider.options",
        "vault_generation.reference",
        "vault_generation.state",
        "vault_generation.response",
        "vault_declaration.name",
        "vault_shred.step",
        "vault_shred.waits_for",
        "vault_erasure.ground",
        "vault_erasure.code",
        "vault_erasure.article",
        "vault_erasure.rule_version",
        "vault_erasure.category",
        "vault_erasure.retention",
        "vault_erasure.archiefactiedatum",
        "vault_erasure.approvers",
        "vault_certificate.status",
        "vault_certificate.irrecoverability",
        "vault_part.name",
        "vault_drill.outcome",
        "ledger_head.origin",
        "ledger_checkpoint.note",
        # Names of witnesses, and lines of notes that they signed.
        "ledger_cosignature.name",
        "ledger_cosignature.line",
        "ledger_proposal.outcome",
        # Role keys and roles, no persons.
        "vault_list.approvers",
        *(name for name in texts if name.startswith("anchor_")),
    }


def read_after_a_statement_was_left_open(opened):
    with opened.write():
        pass  # It keeps a connection of its own from now on.
    with opened.read() as connection:
        kept = connection.exec_driver_sql("SELECT * FROM vault_node").cursor
        kept.fetchone()  # There is another row, which nobody asks for.
    with opened.write() as connection:
        connection.exec_driver_sql("UPDATE vault_tree SET sequence = 77")
    with opened.read() as connection:
        return connection.exec_driver_sql("SELECT DISTINCT sequence FROM vault_tree").scalar()


def test_a_statement_that_is_left_open_does_not_pin_the_past(opened):
    assert read_after_a_statement_was_left_open(opened) == 77


def test_control_without_closing_it_the_past_is_read(opened, monkeypatch):
    monkeypatch.setattr(database._Connection, "close_cursors", lambda self: None)
    assert read_after_a_statement_was_left_open(opened) == 0
