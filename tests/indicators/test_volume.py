"""Volume: totals as TA-Lib has them, sums that know no start, and average prices of sessions."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    accumulation_distribution,
    anchored_vwap,
    chaikin_money_flow,
    chaikin_oscillator,
    obv,
    probe_bars,
    rolling_vwap,
    vwap,
    vwap_bands,
)

COLUMNS = ["high", "low", "close", "volume"]
REAL = [
    "index/sp500_1999_2018.parquet",
    "equities/us_daily_raw/AAPL.parquet",
    "crypto/binance_spot_5m/BTC_USDT.parquet",
    "forex/oanda_daily/EURUSD.parquet",
]


def arrays(bars: pd.DataFrame) -> list[np.ndarray]:
    return [bars[name].to_numpy(dtype=float, copy=True) for name in COLUMNS]


def with_traps(n: int, seed: int) -> list[np.ndarray]:
    """Bars of which some have no range, some no volume, and some repeat the close before them."""
    high, low, close, volume = arrays(probe_bars(n, seed, "5m"))
    rng = np.random.default_rng(seed)
    flat = rng.random(n) < 0.05
    high[flat] = low[flat] = close[flat]
    close[1:][rng.random(n - 1) < 0.02] = close[0]
    high, low = np.maximum(high, close), np.minimum(low, close)
    volume[rng.random(n) < 0.05] = 0.0
    return [high, low, close, volume]


def typical(columns: list[np.ndarray]) -> np.ndarray:
    return (columns[0] + columns[1] + columns[2]) / 3.0


# -- as TA-Lib ---------------------------------------------------------------------------------------------------------


def assert_as_talib(columns: list[np.ndarray], fast: int, slow: int) -> None:
    """Within 1e-10 of the size of what was added up, blanks included."""
    high, low, close, volume = columns
    np.testing.assert_array_equal(obv(close, volume), talib.OBV(close, volume))
    total = talib.AD(high, low, close, volume)
    for ours, theirs in (
        (accumulation_distribution(*columns), total),
        (chaikin_oscillator(*columns, fast, slow), talib.ADOSC(high, low, close, volume, fast, slow)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * np.abs(total).max())


@pytest.mark.parametrize(("fast", "slow"), [(3, 10), (2, 2), (2, 3), (14, 5), (6, 199)])
@pytest.mark.parametrize("n", [1, 2, 11, 2_047, 2_048, 2_049, 5_001])
def test_totals_equal_talib(n: int, fast: int, slow: int) -> None:
    """At lengths around a whole block of four lanes of 512, too."""
    assert_as_talib(with_traps(n, seed=n), fast, slow)


@pytest.mark.real_data
@pytest.mark.parametrize("path", REAL)
@pytest.mark.parametrize(("fast", "slow"), [(3, 10), (5, 34)])
def test_totals_equal_talib_on_real_bars(real_data: Path, path: str, fast: int, slow: int) -> None:
    bars = pd.read_parquet(real_data / path)
    if "volume" not in bars:  # forex: every bar weighs the same
        bars["volume"] = 1.0
    assert_as_talib(arrays(bars), fast, slow)


def test_the_oscillator_keeps_digits_that_averages_of_a_total_lose() -> None:
    """Given a total of 1e13, when its two averages are taken in fifty digits, then their difference is met to 1e-13."""
    high, low, close, volume = with_traps(1_200, seed=1)
    columns = [high, low, close, volume * np.where(np.arange(1_200) < 10, 1e9, 1.0)]
    exact = []
    with localcontext(prec=50):
        total = fast = slow = Decimal(0)
        for t, (top, bottom, c, v) in enumerate(
            zip(*(map(Decimal, column.tolist()) for column in columns), strict=True)
        ):
            total += (2 * c - bottom - top) / (top - bottom) * v if top > bottom else 0
            fast, slow = (fast + (total - fast) / 2, slow + (total - slow) * 2 / 11) if t else (total, total)
            exact.append(float(fast - slow))
    known = np.array(exact)[900:]
    scale = np.abs(known).mean()
    assert np.abs(chaikin_oscillator(*columns)[900:] - known).max() < 1e-13 * scale
    assert np.abs(talib.ADOSC(columns[0], columns[1], columns[2], columns[3])[900:] - known).max() > 1e-7 * scale


def test_on_balance_volume_by_hand() -> None:
    """Up adds, down subtracts, unchanged does neither; the first volume begins (Granville 1963)."""
    close, volume = np.array([10.0, 11.0, 11.0, 10.5, 12.0]), np.array([100.0, 40.0, 30.0, 25.0, 60.0])
    np.testing.assert_array_equal(obv(close, volume), [100, 140, 140, 115, 175])


def test_accumulation_by_hand() -> None:
    """A close at the high counts in full, in the middle not at all, a quarter up minus a half."""
    high, low = np.array([12.0, 12.0, 14.0, 11.0]), np.array([10.0, 10.0, 10.0, 11.0])
    close, volume = np.array([12.0, 11.0, 11.0, 11.0]), np.array([100.0, 70.0, 50.0, 30.0])
    np.testing.assert_array_equal(accumulation_distribution(high, low, close, volume), [100, 100, 75, 75])


@pytest.mark.parametrize("function", [accumulation_distribution, chaikin_oscillator])
@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("row", [1, 2_500, 3_000])
@pytest.mark.parametrize("hole", [math.nan, -math.inf])
@pytest.mark.parametrize("flat", [False, True])
def test_a_hole_that_nobody_searched_for_is_found(
    function: Any, column: int, row: int, hole: float, flat: bool
) -> None:
    """In every column, at the last bar too, and in a bar without a range, where a flow would be zero."""
    columns = arrays(probe_bars(3_001, 1, "5m"))
    if flat:
        columns[0][row] = columns[1][row] = columns[2][row]
    columns[column][row] = hole
    with pytest.raises(DataError, match=f"{COLUMNS[column]} holds .* at row {row}"):
        function(*columns)


def test_bars_that_do_not_belong_together_are_refused_before_anything_is_added_up() -> None:
    bars = probe_bars(50)
    columns = [bars[name] for name in COLUMNS]
    with pytest.raises(DataError, match="differ in length"):
        accumulation_distribution(*columns[:3], columns[3].iloc[1:])
    with pytest.raises(DataError, match="different bars"):
        accumulation_distribution(*columns[:3], columns[3].set_axis(bars.index + pd.Timedelta("1h")))
    with pytest.raises(DataError, match="comes after"):
        accumulation_distribution(*(column.iloc[::-1] for column in columns))
    with pytest.raises(DataError, match="one-dimensional"):
        accumulation_distribution(*(np.ones((3, 2)) for _ in columns))
    mixed = accumulation_distribution(columns[0], *arrays(bars)[1:])
    np.testing.assert_array_equal(mixed, accumulation_distribution(*arrays(bars)))


# -- Chaikin money flow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 20, 61])
def test_money_flow_equals_its_formula_bar_by_bar(window: int) -> None:
    high, low, close, volume = with_traps(300, seed=window)
    expected = np.full(300, np.nan)
    for t in range(window - 1, 300):
        flow = traded = 0.0
        for i in range(t - window + 1, t + 1):
            if high[i] > low[i]:
                flow += (2 * close[i] - low[i] - high[i]) / (high[i] - low[i]) * volume[i]
            traded += volume[i]
        expected[t] = flow / traded if traded else 0.0
    np.testing.assert_allclose(chaikin_money_flow(high, low, close, volume, window), expected, rtol=1e-11, atol=1e-13)


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_money_flow_stays_within_its_bounds(window: int, seed: int) -> None:
    flow = chaikin_money_flow(*with_traps(120, seed), window)[window - 1 :]
    assert (np.abs(flow) <= 1.0 + 1e-12).all()


def test_closes_at_the_high_are_bought_and_closes_at_the_low_are_sold() -> None:
    high, low, _, volume = arrays(probe_bars(60))
    assert chaikin_money_flow(high, low, high, volume)[-1] == pytest.approx(1.0, abs=1e-12)
    assert chaikin_money_flow(high, low, low, volume)[-1] == pytest.approx(-1.0, abs=1e-12)


# -- average prices ----------------------------------------------------------------------------------------------------


def hourly(n: int = 400, seed: int = 2) -> tuple[list[pd.Series], pd.DataFrame]:
    index = pd.date_range("2024-03-01 05:00", periods=n, freq="h", tz="UTC", name="time").as_unit("ns")
    frame = pd.DataFrame(dict(zip(COLUMNS, with_traps(n, seed), strict=True)), index=index)
    frame = frame.drop(frame.index[60:75])  # an outage
    return [frame[name] for name in COLUMNS], frame


@pytest.mark.parametrize(("session", "rule"), [("1d", "D"), ("4h", "4h"), ("1w", "W-SUN")])
def test_vwap_is_the_weighted_average_of_its_session(session: str, rule: str) -> None:
    """Given gaps and silent bars, when grouped by UTC day, four hours or week from Monday, then each group alone."""
    columns, frame = hourly()
    expected = []
    for _, part in frame.groupby(pd.Grouper(freq=rule)):
        prices = (part["high"] + part["low"] + part["close"]) / 3
        for k in range(1, len(part) + 1):
            weights = part["volume"].iloc[:k]
            expected.append(np.average(prices.iloc[:k], weights=weights if weights.sum() > 0 else None))
    np.testing.assert_allclose(vwap(*columns, session=session), expected, rtol=1e-13)


def test_a_session_is_a_utc_day_whatever_the_zone_and_the_unit_of_the_times() -> None:
    columns, _ = hourly()
    expected = vwap(*columns).to_numpy()
    times = pd.DatetimeIndex(columns[0].index)
    for index in (times.tz_convert("America/New_York"), times.as_unit("s")):
        moved = [column.set_axis(index) for column in columns]
        np.testing.assert_array_equal(vwap(*moved), expected)


def test_sessions_can_be_told_bar_by_bar() -> None:
    columns, frame = hourly()
    days = pd.DatetimeIndex(frame.index).floor("D")
    starts = np.r_[True, days[1:] != days[:-1]]
    plain = [column.to_numpy() for column in columns]
    np.testing.assert_array_equal(vwap(*plain, session_starts=starts), vwap(*columns))
    np.testing.assert_array_equal(vwap(*plain, session_starts=pd.Series(starts)), vwap(*columns))
    assert starts.flags.writeable  # the caller's array is left alone
    for wrong in (starts[1:], starts.astype(int), [True]):
        with pytest.raises(ParameterError, match="truth value for each of 385 bars"):
            vwap(*plain, session_starts=wrong)
    with pytest.raises(ParameterError, match="when do sessions begin"):
        vwap(*plain)
    with pytest.raises(ParameterError, match="month"):
        vwap(*columns, session="1M")


def test_blanks_at_the_start_are_no_part_of_a_session() -> None:
    columns, _ = hourly()
    padded = [column.copy() for column in columns]
    for column in padded:
        column.iloc[:30] = np.nan
    result = vwap(*padded)
    assert result.iloc[:30].isna().all()
    np.testing.assert_array_equal(result.iloc[30:], vwap(*(column.iloc[30:] for column in columns)))


@pytest.mark.parametrize("function", [vwap, lambda *c: vwap_bands(*c).middle, anchored_vwap, rolling_vwap])
def test_an_average_lies_between_the_prices_and_follows_their_scale(function: Any) -> None:
    columns, frame = hourly()
    result = function(*columns).dropna()
    assert (result <= frame["high"].max()).all()
    assert (result >= frame["low"].min()).all()
    doubled = function(*(column * 2.0 for column in columns[:3]), columns[3] * 8.0).dropna()
    np.testing.assert_array_equal(doubled, 2.0 * result)


@pytest.mark.parametrize("function", [vwap, anchored_vwap, rolling_vwap, chaikin_money_flow])
def test_a_negative_volume_is_named(function: Any) -> None:
    columns, frame = hourly()
    columns[3] = columns[3].where(frame.index != frame.index[100], -1.0)
    with pytest.raises(DataError, match=r"volume is -1.0 at 2024-03-06 00:00"):
        function(*columns)


def test_bars_count_equally_until_something_is_traded() -> None:
    columns = [np.array([12.0, 15.0, 18.0, 30.0])] * 3
    starts = np.array([True, False, False, False])
    nothing, late = np.zeros(4), np.array([0.0, 0.0, 6.0, 3.0])
    np.testing.assert_array_equal(vwap(*columns, nothing, session_starts=starts), [12, 13.5, 15, 18.75])
    np.testing.assert_array_equal(vwap(*columns, late, session_starts=starts), [12, 13.5, 18, 22])
    np.testing.assert_array_equal(rolling_vwap(*columns, late, 2)[1:], [13.5, 18, 22])
    bands = vwap_bands(*columns, late, session_starts=starts)
    np.testing.assert_allclose(bands.upper - bands.middle, [0, 0, 0, math.sqrt(2 / 3 * 16 + 1 / 3 * 64)], rtol=1e-15)


def test_bands_keep_their_digits_at_a_level_of_a_million() -> None:
    """Given prices of 1e6 that move by 0.01, when the mean of squares would have no digit left, then 1e-9 holds."""
    rng = np.random.default_rng(4)
    price, volume = 1e6 + rng.normal(0.0, 0.01, 500), rng.integers(1, 100, 500).astype(float)
    bands = vwap_bands(price, price, price, volume, 2.0, session_starts=np.arange(500) == 0)
    x, w = ((price + price + price) / 3.0).astype(np.longdouble), volume.astype(np.longdouble)
    for t in (1, 10, 499):
        mean = (x[: t + 1] * w[: t + 1]).sum() / w[: t + 1].sum()
        deviation = np.sqrt((w[: t + 1] * (x[: t + 1] - mean) ** 2).sum() / w[: t + 1].sum())
        assert float(bands.upper[t] - bands.middle[t]) == pytest.approx(2 * float(deviation), abs=3e-10)
        np.testing.assert_allclose(bands.upper[t] - bands.middle[t], bands.middle[t] - bands.lower[t], atol=3e-10)


@pytest.mark.parametrize("deviations", [0.0, -1.0, math.nan, math.inf, "2"])
def test_a_band_needs_a_positive_width(deviations: Any) -> None:
    with pytest.raises(ParameterError, match="deviations"):
        vwap_bands(*hourly()[0], deviations=deviations)


def test_an_anchored_average_is_that_of_the_bars_since_then() -> None:
    columns, frame = hourly()
    row = 70
    for anchor in (
        row,
        frame.index[row],
        str(frame.index[row].tz_localize(None)),
        frame.index[row - 1] + pd.Timedelta("1s"),
    ):
        result = anchored_vwap(*columns, anchor=anchor)
        assert result.iloc[:row].isna().all()
        expected = np.average(typical(arrays(frame))[row:], weights=frame["volume"].iloc[row:])
        assert result.iloc[-1] == pytest.approx(expected, rel=1e-13)
        np.testing.assert_array_equal(result.iloc[row:], anchored_vwap(*(c.iloc[row:] for c in columns)))


def test_an_anchor_that_is_not_there_yet_gives_nothing_and_one_that_is_lost_is_refused() -> None:
    columns, _ = hourly()
    plain = [column.to_numpy() for column in columns]
    assert anchored_vwap(*columns, anchor="2030-01-01").isna().all()
    assert np.isnan(anchored_vwap(*plain, anchor=10_000)).all()
    with pytest.raises(DataError, match="2024-02-29 .* is before the first bar, 2024-03-01 05:00"):
        anchored_vwap(*columns, anchor="2024-02-29")
    with pytest.raises(ParameterError, match="counts bars from the first"):
        anchored_vwap(*columns, anchor=-5)
    with pytest.raises(ParameterError, match="is a time"):
        anchored_vwap(*plain, anchor="2024-03-02")
    with pytest.raises(ParameterError, match="is a time"):
        anchored_vwap(*plain, anchor=True)


@pytest.mark.parametrize("window", [1, 2, 20, 50])
def test_a_rolling_average_equals_its_formula(window: int) -> None:
    columns = with_traps(300, seed=3)
    columns[3][100:140] = 0.0
    price, volume, expected = typical(columns), columns[3], np.full(300, np.nan)
    for t in range(window - 1, 300):
        weights = volume[t - window + 1 : t + 1]
        expected[t] = np.average(price[t - window + 1 : t + 1], weights=weights if weights.sum() else None)
    np.testing.assert_allclose(rolling_vwap(*columns, window), expected, rtol=1e-13)


# -- all of them -------------------------------------------------------------------------------------------------------

WINDOWED = {
    "chaikin_money_flow": lambda *c: chaikin_money_flow(*c, 33),
    "rolling_vwap": lambda *c: rolling_vwap(*c, 33),
}
ALL = WINDOWED | {
    "obv": lambda *c: obv(*c[2:]),
    "accumulation_distribution": accumulation_distribution,
    "chaikin_oscillator": chaikin_oscillator,
    "vwap": lambda *c: vwap(*c, session_starts=np.arange(len(c[0])) % 100 == 0),
    "upper": lambda *c: vwap_bands(*c, session_starts=np.arange(len(c[0])) % 100 == 0).upper,
    "anchored_vwap": lambda *c: anchored_vwap(*c, anchor=5),
}


@pytest.mark.parametrize("name", ALL)
def test_interpreted_as_compiled_across_blocks(name: str) -> None:
    columns = with_traps(4_321, seed=6)
    compiled = ALL[name](*columns)
    with interpreted():
        np.testing.assert_array_equal(ALL[name](*columns), compiled)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("cut", [1, 511, 513, 2_049, 4_000])
def test_what_follows_changes_no_bit(name: str, cut: int) -> None:
    columns = with_traps(4_321, seed=7)
    np.testing.assert_array_equal(ALL[name](*(c[:cut] for c in columns)), ALL[name](*columns)[:cut])


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_knows_nothing_of_what_was_before_it(name: str) -> None:
    columns = with_traps(3_000, seed=8)
    late = WINDOWED[name](*(column[1_234:] for column in columns))
    np.testing.assert_array_equal(late[32:], WINDOWED[name](*columns)[1_234 + 32 :])


@pytest.mark.parametrize(
    ("parameters", "match"), [({"fast": 0}, "fast"), ({"slow": 2.5}, "slow"), ({"fast": True}, "fast")]
)
def test_the_windows_of_the_oscillator_are_bars(parameters: dict[str, Any], match: str) -> None:
    with pytest.raises(ParameterError, match=f"{match} must be a whole number"):
        chaikin_oscillator(*arrays(probe_bars(30)), **parameters)
