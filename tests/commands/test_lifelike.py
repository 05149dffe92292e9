import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date

import pytest

from commands import lifelike
from commands.lifelike import LifelikeRecord, bsn_check, lifelike_records

TODAY = date(2026, 3, 1)
OLDEST = date(2020, 1, 1)
GOLDEN = "588f630f31617a345ab635247b221ee5be6175c2bb551a5bb0425218cd783213"


@pytest.fixture(scope="module")
def records() -> list[LifelikeRecord]:
    return list(lifelike_records(2000, 7, TODAY))


def digest(records: Iterable[LifelikeRecord]) -> str:
    sha = hashlib.sha256()
    for record in records:
        head = f"{record.category} {record.subject} {record.brondatum}\n"
        sha.update(head.encode() + record.payload + b"\n")
    return sha.hexdigest()


def without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs), f"a key occurs twice: {[key for key, _ in pairs]}"
    return dict(pairs)


@pytest.mark.parametrize("bsn", ["111222333", "123456782", "999990019", "000000012"])
def test_accepts_numbers_that_pass_the_eleven_test(bsn):
    assert bsn_check(bsn)


@pytest.mark.parametrize(
    "bsn",
    ["", "000000000", "123456789", "11122233", "1112223330", "11122233a", " 11122233", "-11222333",
     "١١١٢٢٢٣٣٣", "１１１２２２３３３"],
)  # fmt: skip
def test_rejects_everything_else(bsn):
    assert not bsn_check(bsn)


def test_a_single_wrong_digit_is_noticed():
    good = "111222333"
    for place in range(9):
        for digit in "0123456789".replace(good[place], ""):
            assert not bsn_check(good[:place] + digit + good[place + 1 :])


def test_the_test_range_is_complete_and_ascending():
    bsns = list(lifelike.all_test_bsns())
    assert bsns == sorted(set(bsns))
    assert len(bsns) == 909
    assert bsns == [str(n) for n in range(999990000, 1000000000) if bsn_check(str(n))]


@pytest.mark.parametrize("today", [OLDEST, TODAY, date(2050, 12, 31)])
def test_payloads_are_one_to_five_kilobytes(today):
    sizes = [len(record.payload) for record in lifelike_records(2000, 11, today)]
    assert min(sizes) >= 1024
    assert max(sizes) <= 5 * 1024
    assert max(sizes) > 2 * min(sizes)


def test_subjects_come_from_the_test_range(records):
    assert all(bsn_check(record.subject) for record in records)
    assert all(999990000 <= int(record.subject) <= 999999999 for record in records)


def test_payload_is_one_compact_line_of_json_with_the_bsn(records):
    for record in records:
        text = record.payload.decode("utf-8")
        content = json.loads(text, object_pairs_hook=without_duplicates)
        assert content["persoon"]["burgerservicenummer"] == record.subject
        assert content["zaaktype"] == record.category
        assert "\n" not in text
        assert text == json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def test_case_numbers_are_unique(records):
    numbers = {json.loads(record.payload)["zaaknummer"] for record in records}
    assert len(numbers) == len(records)


def test_a_subject_keeps_name_address_and_birthday(records):
    seen = defaultdict(list)
    for record in records:
        content = json.loads(record.payload)
        seen[record.subject].append((content["persoon"], content["gemeente"]))
    assert all(person == persons[0] for persons in seen.values() for person in persons)
    assert 2.5 < len(records) / len(seen) < 3.5


def test_different_subjects_are_different_people(records):
    people = {json.dumps(json.loads(record.payload)["persoon"]) for record in records}
    assert len(people) == len({record.subject for record in records})


def test_subjects_return_when_the_test_range_is_used_up():
    subjects = {record.subject for record in lifelike_records(6000, 3, TODAY)}
    assert 880 < len(subjects) <= 909


def test_the_mix_of_categories(records):
    counts = Counter(record.category for record in records)
    assert set(counts) == {"kindpakket", "wmo", "nieuwsbrief"}
    assert counts["kindpakket"] / len(records) == pytest.approx(0.45, abs=0.05)
    assert counts["wmo"] / len(records) == pytest.approx(0.35, abs=0.05)
    assert counts["nieuwsbrief"] / len(records) == pytest.approx(0.20, abs=0.05)


@pytest.mark.parametrize("today", [OLDEST, date(2020, 1, 2), TODAY, date(2050, 12, 31)])
def test_brondatum_lies_between_2020_and_today(today):
    for record in lifelike_records(1000, 5, today):
        assert record.brondatum is None or OLDEST <= record.brondatum <= today


def test_brondatum_is_the_end_of_the_case(records):
    ended = Counter()
    for record in records:
        content = json.loads(record.payload)
        end = None
        if record.category == "kindpakket":
            end = content["uitkeringsperiode"]["einddatum"]
        elif record.category == "wmo" and content["afsluiting"]:
            end = content["afsluiting"]["datum"]
        assert end == (record.brondatum and record.brondatum.isoformat())
        ended[record.category, end is not None] += 1
    assert ended["nieuwsbrief", True] == 0
    for category in ("kindpakket", "wmo"):
        assert ended[category, True] > 100
        assert ended[category, False] > 50


def test_kindpakket_adds_up_and_is_spent_on_children_in_the_period(records):
    for record in records:
        content = json.loads(record.payload)
        if record.category != "kindpakket":
            continue
        amounts, period = content["bedragen"], content["uitkeringsperiode"]
        spendings = content["bestedingen"]
        spent = sum(spending["bedragInCenten"] for spending in spendings)
        assert spent == amounts["besteedInCenten"]
        assert spent + amounts["restantInCenten"] == amounts["toegekendInCenten"]
        assert {s["kind"] for s in spendings} <= {c["voornaam"] for c in content["kinderen"]}
        assert all(c["geboortedatum"] <= period["begindatum"] for c in content["kinderen"])
        last = period["einddatum"] or TODAY.isoformat()
        assert all(period["begindatum"] <= s["datum"] <= last for s in spendings)


def test_no_event_lies_in_the_future(records):
    for record in records:
        content = json.loads(record.payload)
        events = [content.get(name, []) for name in ("bestedingen", "bezoeken", "verzendingen")]
        dates = [event["datum"] for listed in events for event in listed]
        assert dates == sorted(dates)
        assert dates[-1] <= TODAY.isoformat()


def test_names_and_places_carry_diacritics(records):
    text = b"\n".join(record.payload for record in records).decode()
    for name in (
        "Zoë",
        "Özgür",
        "Björn",
        "Łukasz",
        "'s-Hertogenbosch",
        "Súdwest-Fryslân",
        "Curaçao",
    ):
        assert name in text


def test_the_same_seed_gives_the_same_bytes():
    assert digest(lifelike_records(50, 20260301, TODAY)) == GOLDEN


def test_another_seed_or_day_gives_other_records():
    digests = {
        digest(lifelike_records(50, 1, TODAY)),
        digest(lifelike_records(50, 2, TODAY)),
        digest(lifelike_records(50, 1, date(2026, 3, 2))),
    }
    assert len(digests) == 3


def test_a_longer_run_begins_with_the_shorter_one(records):
    assert list(lifelike_records(100, 7, TODAY)) == records[:100]


def test_no_records_for_a_count_of_zero():
    assert list(lifelike_records(0, 1, TODAY)) == []


def test_a_day_before_2020_is_refused():
    with pytest.raises(ValueError, match="today is 2019-12-31"):
        next(lifelike_records(1, 1, date(2019, 12, 31)))
