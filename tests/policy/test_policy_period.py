"""Periods: ISO 8601 as the list writes it, and how they are added to a date (ST3)."""

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy import InvalidPolicy, Period

PARTS = st.integers(min_value=0, max_value=9999)
PERIODS = st.builds(Period, PARTS, PARTS, PARTS)
NEAR_PERIODS = st.text(alphabet="P0123456789YMDWTH.-+ \n٣", max_size=14)


@given(PERIODS)
def test_what_is_written_reads_back(period):
    assert Period.parse(str(period)) == period


@given(st.one_of(NEAR_PERIODS, st.text(max_size=10), PERIODS.map(str)))
@example("P٣Y")
@example("P1Y\n")
@example("P" + "9" * 5000 + "Y")
def test_only_what_would_be_written_is_read(text):
    try:
        period = Period.parse(text)
    except InvalidPolicy:
        return
    assert str(period) == text


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("P0D", Period()),
        ("P10Y", Period(years=10)),
        ("P6M", Period(months=6)),
        ("P12M", Period(months=12)),
        ("P42D", Period(days=42)),
        ("P1Y6M", Period(years=1, months=6)),
        ("P1Y2M3D", Period(1, 2, 3)),
        ("P9999Y9999M9999D", Period(9999, 9999, 9999)),
    ],
)
def test_accepted(text, period):
    assert Period.parse(text) == period
    assert str(period) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "P", "10Y", "p10y", "P10y", "P10", "PY", "P-1Y", "-P1Y", "+P1Y", "P+1Y"),
        *("P0Y", "P0M", "P1Y0D", "P0Y6M", "P00D", "P01Y", "P1.5Y", "P1,5Y", "P1_0Y", "P10000Y"),
        *("P1W", "PT0S", "P1DT1H", "P6M1Y", "P1D1M", "P1Y1Y", " P1Y", "P1Y ", "P1Y\n", "P 1Y"),
    ],
)
def test_refused(text):
    with pytest.raises(InvalidPolicy):
        Period.parse(text)


@pytest.mark.parametrize("parts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (10000, 0, 0)])
def test_a_part_out_of_range_is_refused(parts):
    with pytest.raises(InvalidPolicy, match="0 to 9999"):
        Period(*parts)


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        ("2020-02-29", "P0D", "2020-02-29"),
        ("2020-02-29", "P1Y", "2021-02-28"),
        ("2020-02-29", "P4Y", "2024-02-29"),
        ("2020-02-28", "P4Y", "2024-02-28"),  # the end of a month does not stick
        ("2000-02-29", "P100Y", "2100-02-28"),  # 2100 is no leap year
        ("2021-01-31", "P1M", "2021-02-28"),
        ("2021-01-31", "P1M1D", "2021-03-01"),  # clamped first, then the day is counted
        ("2021-01-31", "P2M", "2021-03-31"),  # months are added together, clamped once
        ("2020-02-29", "P1Y1M", "2021-03-29"),  # years and months together
        ("2021-08-31", "P1Y6M", "2023-02-28"),
        ("2021-12-31", "P1M", "2022-01-31"),
        ("2021-11-30", "P1M", "2021-12-30"),
        ("2021-12-31", "P42D", "2022-02-11"),
        ("9998-12-31", "P1Y", "9999-12-31"),
    ],
)
def test_added_to_a_date(start, period, end):
    added = Period.parse(period).add_to(dt.date.fromisoformat(start))
    assert added == dt.date.fromisoformat(end)


@pytest.mark.parametrize("period", ["P1Y", "P1M", "P1D", "P9999Y9999M9999D"])
def test_a_date_after_the_year_9999_is_refused(period):
    with pytest.raises(InvalidPolicy, match="9999"):
        Period.parse(period).add_to(dt.date(9999, 12, 31))


@given(
    st.dates(max_value=dt.date(3000, 1, 1)),
    st.builds(Period, *[st.integers(0, 999)] * 3),
    st.integers(0, 400),
)
def test_a_later_start_never_ends_earlier(start, period, later):
    assert period.add_to(start) <= period.add_to(start + dt.timedelta(days=later))
