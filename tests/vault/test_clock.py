"""The system's clock: seconds in UTC, days where the municipality is."""

import datetime as dt
import time

import pytest

from vault.clock import SystemClock


@pytest.fixture
def zone(monkeypatch):
    def change(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


def test_now_is_whole_seconds_of_unix_time():
    before = int(time.time())
    now = SystemClock().now()
    assert isinstance(now, int)
    assert before <= now <= time.time()


@pytest.mark.parametrize(
    ("name", "day"),
    [("Europe/Amsterdam", 1), ("UTC", 31), ("America/New_York", 31), ("Pacific/Kiritimati", 1)],
)
def test_today_is_the_day_in_the_local_zone(zone, monkeypatch, name, day):
    # 23:30 UTC on New Year's Eve: it is 2027 in the Netherlands and 2026 in UTC.
    moment = dt.datetime(2026, 12, 31, 23, 30, tzinfo=dt.UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: moment)
    zone(name)
    assert SystemClock().today().day == day
    assert SystemClock().now() == int(moment)
