"""Several timeframes and calendars: nothing is known before its bar has closed, and nothing later than it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.data import close_times, embedded, join_closed, make_bars, resample, window
from tradelib.data.timeframes import exchange_calendar
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    align,
    ema,
    higher_bars,
    known_times,
    on_timeframe,
    probe_bars,
    sma,
    weighted_signal,
)
from tradelib.validation.causality import prove_causality

COLUMNS = ["open", "high", "low", "close", "volume"]


def exchange_bars(start: str, end: str, minutes: int, calendar: str = "XNYS", seed: int = 3) -> pd.DataFrame:
    """A random walk on every bar that the calendar promises; the last of a session may be short."""
    exchange = exchange_calendar(calendar, pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC"))
    times = exchange.trading_index(
        start, end, pd.Timedelta(minutes=minutes), intervals=False, closed="left", ignore_breaks=False
    )
    walk = probe_bars(len(times), seed=seed, timeframe=f"{minutes}m").set_axis(times)
    return make_bars(walk, symbol="STOCK", calendar=calendar)


def real_bars(folder: Path, name: str, timeframe: str, start: str, end: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder / f"crypto/{name}.parquet").set_index("time")[COLUMNS].astype(float)
    bars = make_bars(frame, symbol=name, timeframe=timeframe, source="recorded", calendar="24/7")
    return window(bars, start, end)


def times_of(bars: pd.DataFrame) -> list[str]:
    return [f"{time:%Y-%m-%d %H:%M}" for time in bars.index]


def one_bar_at_a_time(bars: pd.DataFrame, minutes: int, function: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """Around the clock, told as a person would do it: at each close, look at the hours that are over by now."""
    ends = bars.index + pd.Timedelta(bars.attrs["timeframe"].replace("m", "min"))
    step = pd.Timedelta(minutes=minutes)
    found = []
    for now in ends:
        seen = bars[ends <= now]
        hour = seen.index.floor(step)
        whole = (hour + step <= now) & (hour >= bars.index[0])
        closes = seen["close"][whole].groupby(hour[whole]).last()
        found.append(function(closes).iloc[-1] if len(closes) else np.nan)
    return pd.Series(found, bars.index)


# -- when is a bar known? ----------------------------------------------------------------------------------------------


def test_around_the_clock_a_bar_is_known_when_its_timeframe_is_over() -> None:
    bars = probe_bars(50, timeframe="4h")
    pd.testing.assert_index_equal(known_times(bars), close_times(bars))


@pytest.mark.parametrize(
    ("day", "known"),
    [
        ("2018-07-03", "2018-07-03 17:00"),  # the eve of Independence Day: New York closes at 13:00
        ("2018-07-05", "2018-07-05 20:00"),  # summer time
        ("2018-11-23", "2018-11-23 18:00"),  # the day after Thanksgiving
        ("2018-12-03", "2018-12-03 21:00"),  # winter time
    ],
)
def test_a_daily_bar_of_new_york_is_known_at_the_bell(day: str, known: str) -> None:
    """Source of the hours: the exchange's holidays and early closings of 2018."""
    assert known_times(window(embedded("sp500"), day, day))[0] == pd.Timestamp(known, tz="UTC")


def test_nobody_knew_on_monday_that_there_would_be_no_tuesday() -> None:
    """New York closed from 2001-09-11 to 09-14; by the calendar of today the week ended on Monday."""
    days = window(embedded("sp500"), "2001-08-27", "2001-09-21")
    weeks = resample(days, "1w", now="2001-09-24")
    assert [f"{time:%m-%d}" for time in weeks.index] == ["08-27", "09-03", "09-10", "09-17"]
    known = [f"{time:%a %d %H:%M}" for time in known_times(weeks)]
    assert known[1:] == ["Fri 07 20:00", "Mon 17 00:00", "Fri 21 20:00"]


def test_the_last_bar_of_a_session_ends_with_it_and_so_does_the_morning_in_hong_kong() -> None:
    hours = exchange_bars("2018-12-03", "2018-12-03", 60, "XHKG")
    ends = [f"{time:%H:%M}" for time in known_times(hours)]
    assert [f"{time:%H:%M}" for time in hours.index] == ["01:30", "02:30", "03:30", "05:00", "06:00", "07:00"]
    assert ends == ["02:30", "03:30", "04:00", "06:00", "07:00", "08:00"]


def test_bars_on_days_that_are_no_sessions_are_known_by_the_safe_rule() -> None:
    days = make_bars(probe_bars(3).set_axis(pd.date_range("2018-12-24", periods=3, tz="UTC")), calendar="XNYS")
    known = [f"{time:%d %H:%M}" for time in known_times(days)]
    assert known == ["24 18:00", "26 00:00", "26 21:00"]  # the 25th is closed: at the midnight that ends it


@pytest.mark.parametrize("calendar", ["XNYS", "XLON", "XHKG", "CMES", "24/5"])
def test_it_is_never_later_than_the_contract_and_never_before_the_bar_began(calendar: str) -> None:
    for minutes in (30, 60):
        bars = exchange_bars("2018-11-19", "2018-11-30", minutes, calendar)
        for frame in (bars, higher_bars(bars, "1d")):
            known = known_times(frame)
            assert (known <= close_times(frame)).all()
            assert known.is_monotonic_increasing
            if frame is bars:
                assert (known > frame.index).all()


# -- higher bars -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 11, 12, 13, 300, 2_100])
@pytest.mark.parametrize("timeframe", ["10m", "1h", "1d"])
def test_around_the_clock_they_are_those_of_resample(count: int, timeframe: str) -> None:
    bars = probe_bars(3_000, timeframe="5m").iloc[700 : 700 + count]
    try:
        expected = resample(bars, timeframe)
    except DataError:
        assert len(higher_bars(bars, timeframe)) == 0
    else:
        pd.testing.assert_frame_equal(higher_bars(bars, timeframe), expected)


def test_days_of_an_exchange_by_hand() -> None:
    """Three sessions of 2018-11: Wednesday, a short Friday (Thanksgiving between), Monday."""
    bars = exchange_bars("2018-11-21", "2018-11-26", 5)
    days = higher_bars(bars, "1d")
    assert times_of(days) == ["2018-11-21 00:00", "2018-11-23 00:00", "2018-11-26 00:00"]
    friday = bars.loc["2018-11-23"]
    assert len(friday) == 42
    told = [friday["open"].iloc[0], friday["high"].max(), friday["low"].min(), friday["close"].iloc[-1]]
    assert days.iloc[1, :4].tolist() == told
    assert days["volume"].iloc[1] == pytest.approx(friday["volume"].sum())
    assert days.attrs["timeframe"] == "1d"


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (0, None, ["21", "23", "26"]),
        (1, None, ["23", "26"]),  # the opening of the first is missing
        (0, -1, ["21", "23"]),  # the last five minutes are missing
        (0, 78, ["21"]),  # exactly one session
        (0, 77, []),
        (5, 78, []),
    ],
)
def test_what_was_not_seen_from_bell_to_bell_is_no_day(first: int, last: int | None, days: list[str]) -> None:
    bars = exchange_bars("2018-11-21", "2018-11-26", 5).iloc[first:last]
    assert [f"{time:%d}" for time in higher_bars(bars, "1d").index] == days


def test_a_missing_last_bar_makes_the_day_known_with_the_next_one() -> None:
    bars = exchange_bars("2018-11-21", "2018-11-23", 30)
    holed = bars.drop(bars.index[12])  # the last half hour of Wednesday
    assert len(higher_bars(holed.iloc[:12], "1d")) == 0
    assert len(higher_bars(holed.iloc[:13], "1d")) == 1


def test_hours_of_an_exchange_count_from_the_bell_and_again_from_the_end_of_lunch() -> None:
    bars = exchange_bars("2018-12-03", "2018-12-03", 5, "XHKG")
    hours = [f"{time:%H:%M}" for time in higher_bars(bars, "1h").index]
    assert hours == ["01:30", "02:30", "03:30", "05:00", "06:00", "07:00"]


def test_a_session_that_begins_on_the_evening_before_has_its_own_date() -> None:
    """CME Globex: the session of Tuesday 2018-11-27 opens on Monday at 23:00 UTC."""
    bars = exchange_bars("2018-11-26", "2018-11-28", 60, "CMES")
    assert [f"{time:%d}" for time in higher_bars(bars, "1d").index] == ["26", "27", "28"]
    assert bars.index[0] == pd.Timestamp("2018-11-25 23:00Z")


def test_weeks_out_of_minutes_are_those_out_of_days() -> None:
    bars = exchange_bars("2018-11-05", "2018-11-30", 30)
    weeks = higher_bars(bars, "1w")
    assert times_of(weeks) == [f"2018-11-{day} 00:00" for day in ("05", "12", "19", "26")]
    pd.testing.assert_frame_equal(weeks, higher_bars(higher_bars(bars, "1d"), "1w"))
    assert len(higher_bars(bars.iloc[:-1], "1w")) == 3


@pytest.mark.real_data
def test_hours_of_a_vendor_make_his_days(real_data: Path) -> None:
    """BTC/EUR of Bitvavo: the hourly file and the daily file of the same exchange."""
    hours = real_bars(real_data, "bitvavo_1h/BTC_EUR", "1h", "2021-01-01", "2021-03-31")
    days = real_bars(real_data, "bitvavo_1d/BTC_EUR", "1d", "2021-01-01", "2021-03-31")
    pd.testing.assert_frame_equal(higher_bars(hours, "1d")[COLUMNS], days[COLUMNS], rtol=1e-9)
    built, given = (on_timeframe(hours, higher, lambda b: sma(b["close"], 5)) for higher in ("1d", days))
    pd.testing.assert_series_equal(built, given, rtol=1e-9)


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "lower": (lambda: higher_bars(probe_bars(9, timeframe="1h"), "5m"), ParameterError, "'5m' is lower than .* 1h"),
    "uneven": (lambda: higher_bars(probe_bars(9, timeframe="5m"), "7m"), ParameterError, "not made of whole 5m"),
    "month": (lambda: higher_bars(probe_bars(9), "1M"), ParameterError, "a month has no fixed length"),
    "uneven session": (
        lambda: higher_bars(exchange_bars("2018-11-26", "2018-11-26", 30), "45m"),
        ParameterError,
        "45m",
    ),
    "two days": (lambda: higher_bars(embedded("sp500"), "2d"), ParameterError, "do not make 2d"),
    "no bars": (lambda: higher_bars(pd.DataFrame({"close": [1.0]}), "1d"), DataError, "columns must be"),
    "higher is lower": (
        lambda: on_timeframe(probe_bars(9), probe_bars(9, timeframe="1h"), "sma"),
        ParameterError,
        "of 1h, lower than the bars' own 1d",
    ),
    "too few": (
        lambda: on_timeframe(probe_bars(99, timeframe="1h"), "1d", lambda b: b["close"].dropna().iloc[1:]),
        ParameterError,
        "a value for each of 4 higher bars; got 3 rows",
    ),
    "a number": (lambda: on_timeframe(probe_bars(99), "1w", lambda b: 1.0), ParameterError, "got float"),
    "text": (
        lambda: on_timeframe(probe_bars(99), "1w", lambda b: pd.Series("up", b.index)),
        ParameterError,
        "must return numbers",
    ),
    "unknown": (lambda: on_timeframe(probe_bars(99), "1w", "smaa"), ParameterError, "no indicator 'smaa'"),
    "parameter": (lambda: on_timeframe(probe_bars(99), "1w", "sma", windw=3), ParameterError, "no parameter 'windw'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_told(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()


def test_hours_before_the_bell_belong_to_no_session() -> None:
    bars = exchange_bars("2018-11-26", "2018-11-26", 30)
    early = bars.set_axis(bars.index - pd.Timedelta(hours=1))
    with pytest.raises(DataError, match="2018-11-26 13:30.* lies in no session of XNYS"):
        higher_bars(early, "1d")


# -- on a timeframe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("gap", [None, (100, 131)])
def test_it_is_what_a_person_would_have_written_down(start: int, gap: tuple[int, int] | None) -> None:
    """Also where the history begins within an hour, and where two and a half hours are missing."""
    bars = probe_bars(300, seed=5, timeframe="5m").iloc[start:]
    bars = bars.drop(bars.index[slice(*gap)]) if gap else bars
    expected = one_bar_at_a_time(bars, 60, lambda closes: closes.rolling(4).mean())
    found = on_timeframe(bars, "1h", "sma", window=4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    joined = join_closed(bars, resample(bars, "1h").assign(mean=sma(resample(bars, "1h")["close"], 4)), ["mean"])
    pd.testing.assert_series_equal(found, joined["mean_1h"], check_names=False, check_exact=True)


def test_names_columns_and_types() -> None:
    bars = probe_bars(200, timeframe="1h")
    one = on_timeframe(bars, "1d", "sma", window=3)
    assert (one.name, one.dtype, one.index.equals(bars.index)) == ("sma_3_1d", np.float64, True)
    two = on_timeframe(bars, "1d", lambda b: pd.DataFrame({"up": b["close"] > b["open"], "close": b["close"]}))
    assert two.columns.tolist() == ["up_1d", "close_1d"]
    assert set(two["up_1d"].dropna()) <= {0.0, 1.0}
    assert on_timeframe(bars, "1d", lambda b: b["close"].to_numpy()).name == "value_1d"
    pd.testing.assert_series_equal(on_timeframe(bars, "1h", "sma"), sma(bars["close"]), check_names=False)


@pytest.mark.parametrize("count", [1, 5, 23])
def test_before_the_first_higher_bar_there_is_nothing_and_no_error(count: int) -> None:
    bars = probe_bars(count, timeframe="1h")
    found = on_timeframe(bars, "1d", "sma", window=3)
    assert (len(found), found.isna().all(), found.name) == (count, True, "sma_3_1d")


def test_a_given_history_is_cut_to_what_is_known() -> None:
    """Otherwise a mean over everything would carry the future back."""
    bars, days = probe_bars(24 * 5, seed=1, timeframe="1h"), probe_bars(300, seed=2)
    lengths: list[int] = []
    on_timeframe(bars, days, lambda b: lengths.append(len(b)) or b["close"])
    assert lengths == [5]
    lengths.clear()
    on_timeframe(bars.iloc[:-1], days, lambda b: lengths.append(len(b)) or b["close"])
    assert lengths == [4]


def test_friday_sees_its_week_and_a_week_without_friday_waits_for_monday() -> None:
    """Good Friday 2018-03-30 is closed: the bar of Thursday does not see the week, that of Monday does."""
    days = window(embedded("sp500"), "2018-03-12", "2018-04-06")
    weekly = on_timeframe(days, "1w", lambda b: b["close"])
    sees_itself = days.index[(weekly == days["close"]).to_numpy()]
    assert [f"{time:%m-%d}" for time in sees_itself] == ["03-16", "03-23", "04-06"]
    assert weekly["2018-04-02"].item() == days["close"]["2018-03-29"].item()
    assert weekly["2018-03-29"].item() == days["close"]["2018-03-23"].item()


def test_the_day_is_seen_by_its_last_five_minutes() -> None:
    bars = exchange_bars("2018-11-21", "2018-11-26", 5)
    daily = on_timeframe(bars, "1d", lambda b: b["close"])
    assert daily["2018-11-21 20:55Z"] == bars["close"]["2018-11-21 20:55Z"]
    assert np.isnan(daily["2018-11-21 20:50Z"])
    assert daily["2018-11-23 17:50Z"] == daily["2018-11-21 20:55Z"]
    assert daily["2018-11-23 17:55Z"] == bars["close"]["2018-11-23 17:55Z"]


def test_new_york_on_the_hours_of_a_coin() -> None:
    hours = probe_bars(120, timeframe="1h").set_axis(pd.date_range("2018-12-13", periods=120, freq="h", tz="UTC"))
    coin, stock = make_bars(hours, symbol="COIN"), embedded("sp500")
    seen = on_timeframe(coin, stock, lambda b: b["close"])
    assert seen["2018-12-14 19:00Z"] == stock["close"]["2018-12-13"].item()
    assert seen["2018-12-14 20:00Z"] == stock["close"]["2018-12-14"].item()  # closes at 21:00, with New York
    assert seen["2018-12-16 12:00Z"] == stock["close"]["2018-12-14"].item()


# -- the proof ---------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize("timeframe", ["15m", "1h", "4h"])
def test_real_five_minutes_are_causal_through_an_outage(real_data: Path, timeframe: str) -> None:
    """Binance, 2023-03-24: sixteen bars are absent from 12:40 on."""
    bars = real_bars(real_data, "binance_spot_5m/BTC_USDT", "5m", "2023-03-23 20:03", "2023-03-25 01:00")
    assert (bars.index.to_series().diff() > pd.Timedelta(minutes=5)).sum() == 1
    proof = prove_causality(lambda b: on_timeframe(b, timeframe, "ema", window=3), bars, start="2023-03-24 12:00")
    assert proof.passed, proof.summary()
    assert proof.cuts > 135


@pytest.mark.real_data
def test_given_higher_bars_are_causal_too(real_data: Path) -> None:
    bars = real_bars(real_data, "binance_spot_5m/ETH_USDT", "5m", "2023-02-03", "2023-02-04")
    hours = resample(real_bars(real_data, "binance_spot_5m/BTC_USDT", "5m", "2023-01-20", "2023-02-20"), "1h")
    proof = prove_causality(
        lambda b: on_timeframe(b, hours, lambda h: ema(h["close"] / h["close"].mean(), 5)), bars, every=20
    )
    assert not proof.passed  # a mean of all that is known changes as more is known
    proof = prove_causality(lambda b: on_timeframe(b, hours, lambda h: ema(h["close"], 5)), bars, every=5)
    assert proof.passed, proof.summary()


@pytest.mark.real_data
@pytest.mark.parametrize(
    "leak",
    [
        lambda b: b["close"].resample("1h").last().reindex(b.index, method="ffill"),
        lambda b: ema(b["close"].resample("1h").last(), 3).reindex(b.index, method="ffill"),
        lambda b: b["high"].groupby(b.index.floor("1h")).transform("max"),
    ],
    ids=["the hour's close at its label", "an average of it", "the hour's high within the hour"],
)
def test_an_unclosed_higher_bar_is_found(real_data: Path, leak: Callable[[pd.DataFrame], Any]) -> None:
    bars = real_bars(real_data, "binance_spot_5m/BTC_USDT", "5m", "2023-02-03", "2023-02-03 18:00")
    assert prove_causality(leak, bars, every=3).violations


@pytest.mark.parametrize("timeframe", ["1h", "1d", "1w"])
def test_sessions_are_causal_at_every_bar(timeframe: str) -> None:
    """Over Thanksgiving, a short Friday and two weekends."""
    bars = exchange_bars("2018-11-15", "2018-11-30", 30)
    proof = prove_causality(lambda b: on_timeframe(b, timeframe, lambda h: h[["high", "close"]]), bars, futures=False)
    assert proof.passed, proof.summary()


def test_weeks_on_real_days_are_causal_at_every_bar() -> None:
    """Over September 2001."""
    days = window(embedded("sp500"), "2001-08-01", "2001-10-31")
    proof = prove_causality(lambda b: on_timeframe(b, "1w", "sma", window=2), days)
    assert proof.passed, proof.summary()


# -- signals by timeframe ----------------------------------------------------------------------------------------------


def fast_and_slow() -> dict[str, pd.Series]:
    index = pd.date_range("2024", periods=4, freq="h", tz="UTC")
    return {"1h": pd.Series([1.0, 1.0, -1.0, np.nan], index), "1d": pd.Series([np.nan, -1.0, -1.0, np.nan], index)}


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("blank", [np.nan, -0.5, -1.0, np.nan]),
        ("zero", [0.25, -0.5, -1.0, 0.0]),
        ("known", [1.0, -0.5, -1.0, np.nan]),
    ],
)
def test_three_ways_to_treat_a_signal_that_is_missing(missing: str, expected: list[float]) -> None:
    """Weights 1 and 3: (1 - 3) / 4 = -0.5; alone, 1 / 4 = 0.25 of the whole, or all of itself."""
    combined = weighted_signal(fast_and_slow(), {"1h": 1, "1d": 3}, missing)
    np.testing.assert_array_equal(combined, expected)
    assert combined.name == "weighted_signal"


def test_what_has_no_weight_is_not_looked_at_and_a_negative_weight_turns_a_signal_round() -> None:
    np.testing.assert_array_equal(weighted_signal(fast_and_slow(), {"1h": 2, "1d": 0}), [1, 1, -1, np.nan])
    turned = weighted_signal(fast_and_slow(), {"1h": 1, "1d": -1})
    np.testing.assert_array_equal(turned, [np.nan, 1.0, 0.0, np.nan])


@pytest.mark.parametrize(
    ("weights", "missing", "words"),
    [
        ({"1h": 1}, "blank", "only one of them has 1d"),
        ({"1h": 1, "1d": 1, "1w": 1}, "blank", "only one of them has 1w"),
        ({"1h": 0, "1d": 0}, "blank", "not all zero"),
        ({"1h": 1, "1d": np.inf}, "blank", "must be finite"),
        ({"1h": 1, "1d": 1}, "drop", "missing must be one of blank, zero, known"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights: dict[str, float], missing: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        weighted_signal(fast_and_slow(), weights, missing)


def test_signals_of_different_bars_or_unknown_timeframes_are_refused() -> None:
    signals = fast_and_slow()
    with pytest.raises(DataError, match="1d and 1h are of different bars"):
        weighted_signal({"1h": signals["1h"], "1d": signals["1d"].iloc[1:]}, {"1h": 1, "1d": 1})
    with pytest.raises(ParameterError, match="timeframe 'daily'"):
        weighted_signal({"daily": signals["1d"]}, {"daily": 1})


# -- assets ------------------------------------------------------------------------------------------------------------


def stock_and_coin() -> dict[str, pd.DataFrame]:
    """Thursday 2018-12-20 to Wednesday 26: two sessions, a weekend, a short Monday, Christmas, a session."""
    days = pd.date_range("2018-12-20", periods=7, tz="UTC")
    stock = window(embedded("sp500"), "2018-12-20", "2018-12-26")
    return {"STOCK": stock, "COIN": make_bars(probe_bars(7).set_axis(days), symbol="COIN")}


def test_inner_keeps_what_all_have_and_counts_what_it_drops() -> None:
    found = align(stock_and_coin())
    assert [f"{time:%d}" for time in found.values.index] == ["20", "21", "24", "26"]
    assert found.dropped.to_dict() == {"STOCK": 0, "COIN": 3}
    assert not found.filled.any(axis=None)
    assert found.age["STOCK"].tolist() == [pd.Timedelta(hours=hours) for hours in (3, 3, 6, 3)]


def test_outer_keeps_all_rows_and_fills_none() -> None:
    found = align(stock_and_coin(), "outer", column="high")
    assert found.values["STOCK"].isna().tolist() == [False, False, True, True, False, True, False]
    assert found.age["STOCK"].isna().equals(found.values["STOCK"].isna())
    assert found.values["COIN"].tolist() == stock_and_coin()["COIN"]["high"].tolist()


@pytest.mark.parametrize(
    ("max_age", "filled", "blank"),
    [
        ("1h", "", "20 21 22 23 24 25 26"),
        ("6h", "", "22 23 25"),
        ("27h", "22", "23 25"),
        ("2d", "22 25", "23"),
        ("3d", "22 23 25", ""),
    ],
)
def test_asof_carries_no_further_than_it_is_told_and_says_so(max_age: str, filled: str, blank: str) -> None:
    """Friday's bar is known at 21:00: 3 hours old at midnight, 27 on Saturday, 51 on Sunday; Monday closed at 18:00."""
    found = align(stock_and_coin(), "asof", max_age=max_age)
    days = found.values.index.strftime("%d")
    assert " ".join(days[found.filled["STOCK"]]) == filled
    assert " ".join(days[found.values["STOCK"].isna()]) == blank
    assert found.values["COIN"].notna().all()


def test_asof_on_the_clock_of_one_symbol_is_what_on_timeframe_sees() -> None:
    hours = probe_bars(150, timeframe="1h").set_axis(pd.date_range("2018-12-12", periods=150, freq="h", tz="UTC"))
    frames = {"COIN": make_bars(hours, symbol="COIN"), "STOCK": window(embedded("sp500"), "2018-12-10", "2018-12-20")}
    found = align(frames, "asof", on="COIN", max_age="5d")
    pd.testing.assert_series_equal(
        found.values["STOCK"], on_timeframe(frames["COIN"], frames["STOCK"], lambda b: b["close"]), check_names=False
    )
    assert found.age["STOCK"]["2018-12-14 20:00Z"] == pd.Timedelta(0)
    assert not found.filled["STOCK"]["2018-12-14 20:00Z"]
    assert found.filled["STOCK"]["2018-12-14 21:00Z"]
    by_day = align(frames, "asof", on="STOCK", max_age="1h")
    assert by_day.values["COIN"]["2018-12-14"].item() == frames["COIN"]["close"]["2018-12-14 20:00Z"]


def test_alignment_is_causal() -> None:
    """The coin's hours are cut off or replaced; what stands beside them must not change."""
    hours = probe_bars(150, timeframe="1h").set_axis(pd.date_range("2018-12-12", periods=150, freq="h", tz="UTC"))
    coin, stock = make_bars(hours, symbol="COIN"), window(embedded("sp500"), "2018-12-10", "2018-12-20")
    proof = prove_causality(lambda b: align({"COIN": b, "STOCK": stock}, "asof", on="COIN", max_age="2d").values, coin)
    assert proof.passed, proof.summary()


MISALIGNED: dict[str, tuple[Callable[[dict[str, pd.DataFrame]], object], type[Exception], str]] = {
    "nobody": (lambda f: align({}), DataError, "no symbols"),
    "how": (lambda f: align(f, "left"), ParameterError, "'inner', 'outer' or 'asof'; got 'left'"),
    "column": (lambda f: align(f, column="vwap"), ParameterError, "got 'vwap'"),
    "for ever": (lambda f: align(f, "asof"), ParameterError, "nothing is carried for ever"),
    "age of nothing": (lambda f: align(f, max_age="1d"), ParameterError, "nothing else takes it"),
    "negative": (lambda f: align(f, "asof", max_age=pd.Timedelta(-1)), ParameterError, "must not be negative"),
    "whose": (lambda f: align(f, "asof", on="GOLD", max_age="1d"), ParameterError, "one of STOCK, COIN"),
    "mixed": (
        lambda f: align({**f, "FAST": probe_bars(9, timeframe="1h")}),
        DataError,
        r"timeframes differ \(STOCK 1d, COIN 1d, FAST 1h\)",
    ),
    "no bars": (lambda f: align({**f, "BAD": f["COIN"][["close"]]}), DataError, "BAD: columns must be"),
    "strangers": (lambda f: align({**f, "OLD": probe_bars(9)}), DataError, "no time in common"),
}


@pytest.mark.parametrize("name", MISALIGNED)
def test_what_cannot_be_aligned_is_told(name: str) -> None:
    call, error, words = MISALIGNED[name]
    with pytest.raises(error, match=words):
        call(stock_and_coin())
