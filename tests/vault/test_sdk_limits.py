"""The SDK: purposes, actors, errors that tell nothing, and threads (PU1, PR3)."""

import datetime as dt
import itertools
import random
import threading

import pytest
from sdk_calls import CONSENT, counts, put

import vault as face
from ledger.errors import LedgerError
from policy import PolicyError
from vault import (
    Damaged,
    Erased,
    InvalidInput,
    NewRecord,
    PurposeRefused,
    Vault,
    VaultError,
)
from vault.preparing import MAX_PAYLOAD_BYTES

# Who and why (PU1, P6)

TWO_PURPOSES = """
[purposes.beheer]
description = "Keeping the records in order"
"""


@pytest.fixture
def two_purposes(vault_folder, passphrase, clock):
    """A vault in which `beheer` is registered and only wmo allows it."""
    path = vault_folder / "datakluis.toml"
    text = path.read_text(encoding="utf-8").replace(
        'afleidingswijze = "afgehandeld"\npurposes = ["inzage"]',
        'afleidingswijze = "afgehandeld"\npurposes = ["inzage", "beheer"]',
    )
    path.write_text(text + TWO_PURPOSES, encoding="utf-8")
    with Vault.open(vault_folder, passphrase, clock=clock) as opened:
        yield opened


def test_a_purpose_that_is_not_registered_is_refused_by_every_call(vault, rows):
    pointer = put(vault)
    before = counts(rows)
    calls = (
        lambda purpose: put(vault, purpose=purpose),
        lambda purpose: vault.put_many([NewRecord(b"", "a")], category="wmo", purpose=purpose),
        lambda purpose: vault.get(pointer, purpose=purpose),
        lambda purpose: vault.history(pointer, purpose=purpose),
        lambda purpose: vault.find("a", purpose=purpose),
        lambda purpose: vault.rectify(pointer, b"", purpose=purpose),
        lambda purpose: vault.decide(pointer, CONSENT, purpose=purpose),
        lambda purpose: vault.erase(pointer, CONSENT, purpose=purpose),
        lambda purpose: vault.place_hold(pointer, "reason", purpose=purpose),
        lambda purpose: vault.prove(pointer, purpose=purpose),
    )
    for call in calls:
        for purpose in ("onderzoek", "", "INZAGE"):
            with pytest.raises(PurposeRefused, match="is not registered; registered are: inzage"):
                call(purpose)
    assert counts(rows) == before
    print(f"{3 * len(calls)} calls with an unregistered purpose: all refused")


def test_a_category_says_for_which_purposes_it_may_be_used(two_purposes):
    letter = put(two_purposes, b"x")
    case = put(two_purposes, b"y", category="wmo", purpose="beheer")
    assert two_purposes.get(case, purpose="beheer") == b"y"
    assert two_purposes.get(letter) == b"x"
    for _ in range(2):  # with a cold cache and with a warm one
        for call in (
            lambda: put(two_purposes, purpose="beheer"),
            lambda: two_purposes.put_many([], category="nieuwsbrief", purpose="beheer"),
            lambda: two_purposes.get(letter, purpose="beheer"),
            lambda: two_purposes.history(letter, purpose="beheer"),
            lambda: two_purposes.rectify(letter, b"", purpose="beheer"),
            lambda: two_purposes.erase(letter, CONSENT, purpose="beheer"),
            lambda: two_purposes.prove(letter, disclose=True, purpose="beheer"),
        ):
            with pytest.raises(
                PurposeRefused, match=r"^category nieuwsbrief does not allow this purpose$"
            ):
                call()
    assert two_purposes.get(letter) == b"x"


def test_acts_name_actor_purpose_and_time(vault_folder, passphrase, clock):
    with Vault.open(vault_folder, passphrase, actor="jansen", clock=clock) as vault:
        pointer = put(vault)
        vault.rectify(pointer, b"2", actor="de vries")
        vault.place_hold(put(vault), "reason", actor="archivaris")
        vault.prove(pointer, disclose=True, actor="auditor")
        clock.day = dt.date(2026, 5, 1)
        vault.erase(pointer, CONSENT)
        with vault._core.database.read() as connection:
            acts = connection.exec_driver_sql(
                "SELECT action, actor, purpose, at FROM vault_act ORDER BY id"
            ).all()
    assert [tuple(act[:3]) for act in acts] == [
        ("put", "jansen", "inzage"),
        ("rectify", "de vries", "inzage"),
        ("put", "jansen", "inzage"),
        ("hold", "archivaris", "inzage"),
        ("disclose", "auditor", "inzage"),
        ("erase", "jansen", "inzage"),
    ]
    assert acts[-1][3] == clock.now() > acts[0][3]


@pytest.mark.parametrize("actor", ["", "x" * 129, "a\nb", "\x1b[31m", "a\udcff"])
def test_an_actor_that_cannot_be_recorded_is_refused_before_anything(
    vault, rows, vault_folder, passphrase, actor
):
    pointer = put(vault)
    before = counts(rows)
    for call in (
        lambda: put(vault, actor=actor),
        lambda: vault.get(pointer, actor=actor),
        lambda: vault.erase(pointer, CONSENT, actor=actor),
        lambda: vault.place_hold(pointer, "reason", actor=actor),
    ):
        with pytest.raises(InvalidInput, match="an actor is 1 to 128 bytes of printable text"):
            call()
    assert counts(rows) == before
    if actor:
        with pytest.raises(InvalidInput, match="an actor is 1 to 128 bytes"):
            Vault.open(vault_folder, passphrase, actor=actor)


# Silence (P3)


def test_no_error_repeats_a_payload_a_subject_or_a_reason(vault, clock, monkeypatch, tmp_path):
    canary = "canary999990019"
    payload = canary.encode()
    held = put(vault, payload, subject=canary)
    vault.place_hold(held, canary)
    kept = put(vault, payload, subject=canary, category="wmo")
    gone = put(vault, payload, subject=canary)
    vault.erase(gone, CONSENT)
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(payload + b"\n")
    attempts = [
        lambda: put(vault, payload, subject=canary + "x" * 256),
        lambda: put(vault, payload, subject=canary + "\udcff"),
        lambda: put(vault, payload + bytes(MAX_PAYLOAD_BYTES), subject=canary),
        lambda: put(vault, payload, subject=canary, category="x"),
        lambda: put(vault, payload, subject=canary, purpose="x"),
        lambda: put(vault, payload, subject=canary, actor="\n"),
        lambda: put(
            vault, payload, subject=canary, category="wmo", record_date=dt.date(2000, 1, 1)
        ),
        lambda: put(vault, payload, subject=canary, brondatum=dt.datetime(2026, 1, 1)),
        lambda: vault.get(canary),
        lambda: vault.find(canary + "x" * 256),
        lambda: vault.place_hold(kept, canary * 400),
        lambda: vault.place_hold(kept, canary + "\udcff"),
        lambda: vault.erase(held, CONSENT),
        lambda: vault.erase(kept, CONSENT),
        lambda: vault.erase(gone, CONSENT),
        lambda: vault.get(gone),
        lambda: vault.rectify(gone, payload),
        lambda: vault.prove(gone, disclose=True),
        lambda: vault.import_jsonl(face.ImportOrder(lines, "wmo", "/bsn")),
        lambda: Vault.open(vault.folder, canary),
    ]
    kinds = set()
    for attempt in attempts:
        with pytest.raises((VaultError, LedgerError, PolicyError)) as refused:
            attempt()
        error = refused.value
        kinds.add(type(error).__name__)
        seen = [error, error.__cause__]
        if not error.__suppress_context__:
            seen.append(error.__context__)
        shown = " ".join(f"{one} {one!r} {vars(one) if one else ''}" for one in seen)
        assert "canary" not in shown
    assert len(kinds) >= 6
    print(f"{len(attempts)} errors of {len(kinds)} kinds: the canary is in none")


def test_damaged_rows_and_blobs_are_refused_without_their_content(vault):
    canary = "canary999990019"
    damages = {
        "UPDATE vault_version SET body = ?": "a sealed blob ",
        "UPDATE vault_record SET category = 'wmo'": "was changed outside the vault",
        "UPDATE vault_record SET brondatum = '1999-01-01'": "was changed outside the vault",
        "UPDATE vault_record SET on_hold = 1": "was changed outside the vault",
        "UPDATE vault_record SET row_tag = NULL": "was changed outside the vault",
        "UPDATE vault_version SET body = NULL": "is live but its newest version is missing",
    }
    for damage, message in damages.items():
        pointer = put(vault, canary.encode(), subject=canary)
        with vault._core.database.write() as connection:
            found = connection.exec_driver_sql("SELECT max(id) FROM vault_record").scalar()
            column = "record_id" if "vault_version" in damage else "id"
            parameters = (canary.encode(),) if "?" in damage else ()
            connection.exec_driver_sql(f"{damage} WHERE {column} = {found}", parameters)
        with pytest.raises(Damaged, match=message) as refused:
            vault.get(pointer)
        assert "canary" not in f"{refused.value} {refused.value!r}"
        if "vault_record" in damage:  # a changed date cannot make an erasure lawful
            for call in (
                lambda pointer=pointer: vault.erase(pointer, CONSENT),
                lambda pointer=pointer: vault.decide(pointer, CONSENT),
                lambda pointer=pointer: vault.rectify(pointer, b""),
                lambda pointer=pointer: vault.place_hold(pointer, "reason"),
            ):
                with pytest.raises(Damaged, match="was changed outside the vault"):
                    call()


# Threads


def run_threads(count, work):
    errors, together = [], threading.Barrier(count)

    def guarded(number):
        try:
            together.wait(timeout=20)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_eight_threads_put_get_rectify_find_and_erase_at_once(vault, reopen):
    payloads = [b"shared %d" % number for number in range(9)]
    shared = {put(vault, payload, subject="shared"): payload for payload in payloads}
    results = [{} for _ in range(8)]
    gone = [set() for _ in range(8)]

    def work(number):
        chance, mine = random.Random(number), results[number]
        for step in range(30):
            payload = b"%d of %d" % (step, number)
            mine[put(vault, payload, subject=f"of {number}")] = payload
            pointer = chance.choice(sorted(mine))
            if step % 3 == 0:
                vault.erase(pointer, CONSENT)
                del mine[pointer]
                gone[number].add(pointer)
                with pytest.raises(Erased):
                    vault.get(pointer)
            elif step % 3 == 1:
                mine[pointer] = payload + b" corrected"
                vault.rectify(pointer, mine[pointer])
            if mine:
                pointer = chance.choice(sorted(mine))
                assert vault.get(pointer) == mine[pointer]
            assert sorted(vault.find(f"of {number}")) == sorted(mine)
            pointer = chance.choice(sorted(shared))
            assert vault.get(pointer) == shared[pointer]

    run_threads(8, work)
    for one in (vault, reopen()):
        for mine in (*results, shared):
            assert all(one.get(pointer) == payload for pointer, payload in mine.items())
        for pointer in itertools.chain(*gone):
            with pytest.raises(Erased):
                one.get(pointer)
    report = vault.audit()
    assert report.faults == []
    erased, living = sum(map(len, gone)), sum(map(len, results)) + len(shared)
    assert report.counts["erased"] == erased == 80
    assert living == 8 * 20 + 9
    print(f"8 threads: {living} records live, {erased} erased, 0 faults")


def test_forty_threads_can_use_one_vault(vault):
    pointers = [put(vault, b"%d" % number, subject=f"of {number}") for number in range(40)]

    def work(number):
        assert vault.get(pointers[number]) == b"%d" % number
        assert vault.find(f"of {number}") == [pointers[number]]
        mine = put(vault, b"new", subject=f"of {number}")
        assert vault.find(f"of {number}") == [pointers[number], mine]

    run_threads(40, work)
    assert vault.audit().faults == []


def test_a_record_is_erased_once_however_many_ask(vault):
    pointer = put(vault)
    outcomes = []

    def work(_):
        try:
            outcomes.append(vault.erase(pointer, CONSENT).versions)
        except Erased as gone:
            outcomes.append(gone)

    run_threads(8, work)
    assert outcomes.count(1) == 1
    assert sum(isinstance(outcome, Erased) for outcome in outcomes) == 7
    assert vault.audit().counts["erased"] == 1
    assert vault.audit().faults == []
