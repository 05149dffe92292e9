"""Bulk import: all or nothing at first, durable by batch, and never doubled.

Rows: P5 (a crash resumes to one outcome), P3 and PR2 (nothing confirms a guess at the file).
"""

import datetime as dt
import json

import pytest

from policy import ListNotCarried
from vault import (
    BadLines,
    Busy,
    Ground,
    ImportOrder,
    InvalidInput,
    KeyLost,
    PurposeRefused,
    Vault,
    importing,
    writing,
)
from vault.cipher import derive_record_keys

CATEGORY = "nieuwsbrief"
BAD = [b"{'canary'", b'{"bsn": 999990019}', b'{"bsn": "canary", "bsn": ""}', b"", b"\xff"]


@pytest.fixture
def order(tmp_path):
    def make(lines, **changes):
        path = tmp_path / "records.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        arguments = {"path": path, "category": CATEGORY, "subject_field": "/bsn", **changes}
        return ImportOrder(**arguments)

    return make


def lines_of(count, start=0):
    return [
        json.dumps({"bsn": f"9{number % 700:08d}", "nummer": number}).encode()
        for number in range(start, start + count)
    ]


def stored_payloads(vault, rows):
    pointers = rows("SELECT pointer FROM vault_record WHERE erased_act IS NULL ORDER BY id")
    with vault._core.database.read() as connection:
        core = vault._core
        found = []
        for (pointer,) in pointers:
            record = connection.exec_driver_sql(
                "SELECT v.body, v.slot, v.number FROM vault_version v"
                " JOIN vault_record r ON r.id = v.record_id WHERE r.pointer = ?",
                (pointer,),
            ).one()
            keys = derive_record_keys(core.read_key(connection)(record[1]))
            found.append(core.cipher.open(keys, bytes(pointer), record[2], record[0]))
    return found


def test_every_line_is_stored_once_in_order_byte_for_byte(vault, rows, order):
    lines = lines_of(2_500)
    told = []
    report = vault.import_jsonl(
        order(lines), on_progress=lambda done, total: told.append((done, total))
    )
    assert (report.records, report.already, report.bad.count) == (2_500, 0, 0)
    assert stored_payloads(vault, rows) == lines
    assert told == [(1_000, 0), (2_000, 0), (1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]
    assert len(vault.find("900000003")) == 4
    assert vault.audit().faults == []


def test_bad_lines_stop_it_with_nothing_stored(vault, rows, order):
    lines = lines_of(1_500)
    lines[2:2], lines[1_200:1_200] = BAD[:3], BAD[3:]
    with pytest.raises(BadLines) as refused:
        vault.import_jsonl(order(lines))
    assert [line.number for line in refused.value.bad.first] == [3, 4, 5, 1_201, 1_202]
    message = str(refused.value)
    assert "records.jsonl: line 3 is not JSON, line 4 field /bsn is not a text, line 5 " in message
    assert message.endswith("nothing was imported: mend the file or use --skip-bad")
    assert "canary" not in message
    assert "99999" not in message
    for table in ("record", "version", "subject", "import", "act", "bucket"):
        assert rows(f"SELECT count(*) FROM vault_{table}") == [(0,)]
    assert rows("SELECT count(*) FROM ledger_pending") == [(0,)]


def test_of_many_bad_lines_the_first_five_are_named(vault, order):
    with pytest.raises(BadLines, match=r"line 5 is not JSON and 15 more; nothing was imported"):
        vault.import_jsonl(order([b"x"] * 20))


def test_skip_bad_stores_the_rest(vault, rows, order):
    good = lines_of(1_500)
    lines = list(good)
    lines[2:2], lines[1_200:1_200] = BAD[:3], BAD[3:]
    report = vault.import_jsonl(order(lines, skip_bad=True))
    assert (report.records, report.already) == (1_500, 0)
    assert [line.number for line in report.bad.first] == [3, 4, 5, 1_201, 1_202]
    assert stored_payloads(vault, rows) == good


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_it_goes_on_after_a_failure_in_any_batch(
    vault, rows, order, reopen, monkeypatch, failing, skip_bad
):
    good = lines_of(2_500)
    lines = [*good[:1_000], *BAD, *good[1_000:]] if skip_bad else good
    this = order(lines, skip_bad=skip_bad)
    undo, calls = fail_in_batch(monkeypatch, failing)
    with pytest.raises(ZeroDivisionError):
        vault.import_jsonl(this)
    assert calls == [1_000] * min(failing, 2) + [500] * (failing == 3)
    done = 1_000 * (failing - 1)
    assert rows("SELECT count(*) FROM vault_record") == [(done,)]
    assert vault.audit().faults == []
    undo()
    # Another process takes the same command up.
    report = reopen().import_jsonl(this)
    assert report.records == 2_500 - done
    assert report.already == (done if failing < 3 or not skip_bad else done + len(BAD))
    assert stored_payloads(vault, rows) == good
    assert vault.audit().faults == []


def fail_in_batch(monkeypatch, batch):
    append_pending, calls = writing.append_pending, []

    def fail(connection, entries):
        calls.append(len(entries))
        if len(calls) == batch:
            raise ZeroDivisionError
        append_pending(connection, entries)

    monkeypatch.setattr(writing, "append_pending", fail)
    return lambda: monkeypatch.setattr(writing, "append_pending", append_pending), calls


def test_a_failure_after_the_commit_doubles_nothing_either(vault, rows, order, reopen):
    lines = lines_of(2_500)
    this = order(lines)

    def stop(done, total):
        if total and done == 1_000:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        vault.import_jsonl(this, on_progress=stop)
    assert rows("SELECT count(*) FROM vault_record") == [(1_000,)]
    report = reopen().import_jsonl(this)
    assert (report.records, report.already) == (1_500, 1_000)
    assert stored_payloads(vault, rows) == lines


def test_the_same_import_twice_stores_nothing_the_second_time(vault, rows, order, reopen):
    lines = lines_of(1_200)
    vault.import_jsonl(order(lines))
    for again in (vault, reopen()):
        report = again.import_jsonl(order(lines))
        assert (report.records, report.already) == (0, 1_200)
    assert rows("SELECT count(*), max(lines_done) FROM vault_import") == [(1, 1_200)]
    assert rows("SELECT count(*) FROM vault_record") == [(1_200,)]


def test_skipping_bad_lines_twice_stores_nothing_the_second_time(vault, rows, order):
    this = order([*BAD, *lines_of(10), *BAD], skip_bad=True)
    assert vault.import_jsonl(this).records == 10
    report = vault.import_jsonl(this)
    assert (report.records, report.already, report.bad.count) == (0, 15, 10)
    assert rows("SELECT count(*) FROM vault_record") == [(10,)]


DIFFERENT = {
    "another category": {"category": "wmo"},
    "another subject field": {"subject_field": "/naam"},
    "a brondatum": {"brondatum": dt.date(2026, 1, 1)},
    "a record date": {"record_date": dt.date(2026, 1, 1)},
}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_another_command_is_another_import(vault, order, changes):
    lines = [json.dumps({"bsn": str(n), "naam": f"n{n}"}).encode() for n in range(10)]
    assert vault.import_jsonl(order(lines)).records == 10
    assert vault.import_jsonl(order(lines, **changes)).records == 10
    assert vault.import_jsonl(order([*lines, lines[0]])).records == 11


def test_erasing_one_of_its_records_drops_the_run_and_its_key(vault, rows, order):
    vault.import_jsonl(order(lines_of(20)))
    ((slot, tag),) = rows("SELECT slot, tag FROM vault_import")
    core = vault._core
    with core.database.read() as connection:
        # The control: until then, whoever has the keys and guesses the whole file is told so.
        run = importing._Run(core, order(lines_of(20)).identity(file_digest(order(lines_of(20)))))
        assert run._tag(core.read_key(connection)(slot)) == bytes(tag)
    vault.erase(vault.find("900000007")[0], Ground.CONSENT_WITHDRAWN)
    assert rows("SELECT count(*) FROM vault_import") == [(0,)]
    with core.database.read() as connection, pytest.raises(KeyLost, match="is erased, not live"):
        core.read_key(connection)(slot)
    vault.erase(vault.find("900000008")[0], Ground.CONSENT_WITHDRAWN)
    assert vault.audit().faults == []


def file_digest(order):
    return importing._file_digest(order.path)


def test_an_import_whose_record_was_erased_meanwhile_stops_behind_its_last_line(
    vault, rows, order, reopen
):
    other = reopen()

    def erase_one(done, total):
        if total and done == 1_000:
            other.erase(other.find("900000007")[0], Ground.CONSENT_WITHDRAWN)

    with pytest.raises(
        Busy, match=r"stopped behind line 1000: .* or one of its records was erased"
    ):
        vault.import_jsonl(order(lines_of(1_500)), on_progress=erase_one)
    assert rows("SELECT count(*) FROM vault_record") == [(1_000,)]
    assert vault.audit().faults == []


def test_two_processes_with_one_file_store_it_once(vault, rows, order, reopen):
    lines = lines_of(2_500)
    this, other = order(lines), reopen()

    def meanwhile(done, total):
        if total and done == 1_000:
            assert other.import_jsonl(this).records == 1_500

    with pytest.raises(Busy, match="another process goes on with it"):
        vault.import_jsonl(this, on_progress=meanwhile)
    assert stored_payloads(vault, rows) == lines


def test_a_run_is_in_no_digest_of_the_file(vault, rows, order):
    # PR2: the tag is keyed, so it differs between vaults and is no digest that could be looked up.
    this = order(lines_of(5))
    vault.import_jsonl(this)
    ((tag,),) = rows("SELECT tag FROM vault_import")
    assert bytes(tag) != file_digest(this)
    vault.erase(vault.find("900000001")[0], Ground.CONSENT_WITHDRAWN)
    vault.import_jsonl(this)
    ((again,),) = rows("SELECT tag FROM vault_import")
    assert bytes(again) != bytes(tag)


def test_what_cannot_begin_stores_nothing(vault, rows, order, tmp_path):
    good = order(lines_of(3))
    cases = [
        (order(lines_of(3), category="wm"), InvalidInput, "that category is not configured"),
        (order(lines_of(3), subject_field="bsn"), InvalidInput, "is not a JSON Pointer"),
        (order(lines_of(3), path=tmp_path / "no"), InvalidInput, "cannot be read"),
        (
            order(lines_of(3), category="wmo", record_date=dt.date(2019, 12, 31)),
            ListNotCarried,
            "selection list 2017, which this version does not carry",
        ),
        (
            order(lines_of(3), category="wmo", brondatum=dt.date(9999, 12, 31)),
            InvalidInput,
            "falls after the year 9999",
        ),
    ]
    for this, kind, message in cases:
        with pytest.raises(kind, match=message):
            vault.import_jsonl(this)
    with pytest.raises(PurposeRefused):
        vault.import_jsonl(good, purpose="onderzoek")
    with pytest.raises(InvalidInput, match=r"records\.jsonl has no lines"):
        vault.import_jsonl(order([]))
    assert rows("SELECT count(*) FROM vault_record") == [(0,)]


def test_dates_are_those_of_the_order(vault, rows, order, clock):
    day, source = dt.date(2026, 1, 5), dt.date(2025, 12, 31)
    vault.import_jsonl(order(lines_of(2), category="wmo", record_date=day, brondatum=source))
    vault.import_jsonl(order(lines_of(3), category="wmo"))
    found = rows("SELECT record_date, brondatum, count(*) FROM vault_record GROUP BY 1, 2")
    assert sorted(found, key=str) == [
        ("2026-01-05", "2025-12-31", 2),
        (clock.day.isoformat(), None, 3),
    ]


def test_a_file_of_lines_with_large_payloads_is_stored_in_smaller_batches(vault, rows, order):
    lines = [
        json.dumps({"bsn": str(number), "x": "x" * 3_000_000}).encode() for number in range(12)
    ]
    batches = []
    vault.import_jsonl(order(lines), on_progress=lambda done, total: batches.append(done))
    assert batches == [6, 12]
    assert stored_payloads(vault, rows) == lines


def test_another_vault_may_import_the_same_file(vault, order, tmp_path, passphrase):
    this = order(lines_of(5))
    vault.import_jsonl(this)
    with Vault.create(tmp_path / "other", passphrase) as other:
        assert other.import_jsonl(this).records == 5
