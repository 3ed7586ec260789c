"""Timeframes, calendars, and how many bars make a year."""

from __future__ import annotations

import sys
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.support import market
from tradelib.data.timeframes import (
    expected_times,
    open_times,
    parse_timeframe,
    periods_per_year,
    utc_timestamp,
)
from tradelib.errors import DataError, ParameterError


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("5m", 300), ("1h", 3_600), ("4h", 14_400), ("1d", 86_400), ("2w", 1_209_600)]
)
def test_a_timeframe_is_a_count_and_a_unit(text: str, seconds: int) -> None:
    frame = parse_timeframe(text)

    assert str(frame) == text
    assert frame.delta == pd.Timedelta(seconds=seconds)
    assert frame.milliseconds == seconds * 1_000
    assert parse_timeframe(frame) is frame


@pytest.mark.parametrize(
    "text", ["", "h", "0h", "-1h", "1.5h", "1H", "1 h", "60", "1M", "1mo", "1y", None, 5, "9999999m"]
)
def test_what_is_no_timeframe_is_refused_by_name(text: object) -> None:
    with pytest.raises(ParameterError, match="is not understood"):
        parse_timeframe(text)


def test_a_month_is_refused_because_it_has_no_length() -> None:
    with pytest.raises(ParameterError, match="a month has no fixed length"):
        parse_timeframe("1M")


def test_times_without_a_zone_are_utc_and_others_are_converted() -> None:
    assert utc_timestamp("2018-12-31") == pd.Timestamp("2018-12-31", tz="UTC")
    assert utc_timestamp(datetime(2018, 12, 31, 5)) == pd.Timestamp("2018-12-31 05:00", tz="UTC")
    assert utc_timestamp("2018-12-31T09:30-05:00") == pd.Timestamp("2018-12-31 14:30", tz="UTC")
    assert utc_timestamp(np.datetime64("2018-12-31")).unit == "ns"


def test_only_a_bare_date_as_an_end_means_the_whole_day() -> None:
    end_of_day = pd.Timestamp("2018-12-31 23:59:59.999999999", tz="UTC")

    assert utc_timestamp("2018-12-31", end=True) == end_of_day
    assert utc_timestamp(date(2018, 12, 31), end=True) == end_of_day
    assert utc_timestamp("2018-12-31T00:00", end=True) == pd.Timestamp("2018-12-31", tz="UTC")
    assert utc_timestamp(pd.Timestamp("2018-12-31"), end=True) == pd.Timestamp("2018-12-31", tz="UTC")


@pytest.mark.parametrize("value", [1_546_214_400, 1.5, True, None, "yesterday-ish", "NaT", pd.NaT, [1]])
def test_what_is_no_point_in_time_is_refused_with_its_parameter(value: object) -> None:
    with pytest.raises(ParameterError, match="start"):
        utc_timestamp(value, "start")


def test_weeks_open_on_monday_and_everything_else_on_the_grid_of_the_epoch() -> None:
    sunday = pd.DatetimeIndex(["2024-03-31T23:59:59Z"])

    assert open_times(sunday, "1w")[0] == pd.Timestamp("2024-03-25", tz="UTC")
    assert open_times(sunday, "4h")[0] == pd.Timestamp("2024-03-31 20:00", tz="UTC")
    assert open_times(pd.DatetimeIndex(["1969-12-31T23:59Z"]), "1d")[0] == pd.Timestamp("1969-12-31", tz="UTC")
    with pytest.raises(DataError, match="carry no zone"):
        open_times(pd.DatetimeIndex(["2024-03-31"]), "1d")


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)),
    minutes=st.integers(0, 200_000),
    text=st.sampled_from(["1m", "5m", "1h", "4h", "1d", "3d", "1w"]),
)
def test_a_market_that_never_closes_expects_every_grid_point_and_no_other(
    start: datetime, minutes: int, text: str
) -> None:
    first, last = utc_timestamp(start), utc_timestamp(start) + pd.Timedelta(minutes=minutes)
    frame = parse_timeframe(text)

    times = expected_times("24/7", text, first, last)

    grid = [first.value + k for k in ((frame.anchor - first.value) % frame.nanoseconds,)]
    count = 0 if grid[0] > last.value else (last.value - grid[0]) // frame.nanoseconds + 1
    assert len(times) == count
    if count:
        assert times[0].value == grid[0]
        assert last - frame.delta < times[-1] <= last
        assert (np.diff(times.asi8) == frame.nanoseconds).all()
        assert open_times(times, text).equals(times)


def test_the_last_expected_bar_is_there_after_years_of_days() -> None:
    assert expected_times("24/7", "1d", "2014-11-28", "2020-01-17")[-1] == pd.Timestamp("2020-01-17", tz="UTC")


def test_new_york_had_5031_sessions_from_1999_to_2018() -> None:
    sessions = expected_times("XNYS", "1d", "1999-01-04", "2018-12-31")

    assert len(sessions) == 5_031  # the rows of the S&P 500 in arch.data
    assert pd.Timestamp("2001-09-11", tz="UTC") not in sessions
    assert pd.Timestamp("2018-12-05", tz="UTC") not in sessions


def test_intraday_sessions_know_half_days_and_lunch_breaks() -> None:
    assert expected_times("XNYS", "1h", "2018-12-24", "2018-12-24").strftime("%H:%M").tolist() == [
        "14:30",
        "15:30",
        "16:30",
        "17:30",
    ]
    assert expected_times("XTKS", "1h", "2019-01-04", "2019-01-04").strftime("%H:%M").tolist() == [
        "00:00",
        "01:00",
        "02:00",
        "03:30",
        "04:30",
        "05:30",
    ]


def test_weekly_bars_of_an_exchange_carry_the_monday_even_when_it_was_a_holiday() -> None:
    weeks = expected_times("XNYS", "1w", "2018-12-31", "2019-01-31")

    assert weeks.strftime("%Y-%m-%d").tolist() == ["2018-12-31", "2019-01-07", "2019-01-14", "2019-01-21", "2019-01-28"]


def test_unknown_calendars_and_impossible_spans_are_refused() -> None:
    with pytest.raises(ParameterError, match="did you mean 'XNYS'"):
        expected_times("XNYX", "1d", "2018-01-01", "2018-02-01")
    with pytest.raises(ParameterError, match="swap them"):
        expected_times("24/7", "1d", "2018-02-01", "2018-01-01")
    with pytest.raises(ParameterError, match="has no grid on 'XNYS'"):
        expected_times("XNYS", "2d", "2018-01-01", "2018-02-01")
    with pytest.raises(DataError, match="cannot answer"):
        expected_times("XKRX", "1d", "1950-01-01", "1950-02-01")


@pytest.mark.parametrize(
    ("calendar", "timeframe", "periods"),
    [
        ("24/7", "1d", 365.0),
        ("24/7", "1h", 8_760.0),
        ("24/7", "5m", 105_120.0),
        ("24/7", "1w", 365.0 / 7.0),
        ("XNYS", "1d", 252.0),
        ("XNYS", "1w", 52.0),
        ("XNYS", "1h", 252.0 * 7),
        ("XNYS", "30m", 252.0 * 13),
        ("XTKS", "1h", 252.0 * 5),
        ("24/5", "1d", 260.0),
    ],
)
def test_periods_per_year(calendar: str, timeframe: str, periods: float) -> None:
    assert periods_per_year(calendar, timeframe) == periods
    assert periods_per_year((calendar, timeframe)) == periods


def test_periods_per_year_of_bars_come_from_their_attrs() -> None:
    assert periods_per_year(market(5, timeframe="4h")) == 2_190.0
    with pytest.raises(DataError, match="make_bars"):
        periods_per_year(pd.DataFrame({"close": [1.0]}))
    with pytest.raises(ParameterError, match="timeframe is missing"):
        periods_per_year("24/7")


def test_the_runner_annualises_new_york_without_the_calendar_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)

    assert periods_per_year("XNYS", "1h") == 1_764.0
    assert periods_per_year("XASX", "1d") == 252.0
