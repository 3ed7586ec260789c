"""Direction and trend: TA-Lib's values, TradingView's rules, formulas written out, and markets turned round."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

import tradelib.indicators as ti
from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import Aroon, Ichimoku, Supertrend, probe_bars

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
REAL = ["index/sp500_1999_2018.parquet", "crypto/binance_spot_5m/BTC_USDT.parquet", "forex/oanda_hour/EURUSD.parquet"]


def columns(bars: pd.DataFrame) -> Columns:
    high, low, close = (bars[name].to_numpy(dtype=np.float64, copy=True) for name in ("high", "low", "close"))
    return high, low, close


def walk(count: int = 3_000, seed: int = 0) -> Columns:
    return columns(probe_bars(count, seed))


@pytest.fixture(scope="module", params=REAL)
def recorded(request: Any, real_data: Any) -> Columns:
    return columns(pd.read_parquet(real_data / request.param)[:20_000])


def parts(result: Any) -> list[np.ndarray]:
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


def assert_equal(ours: Any, theirs: Any, message: str) -> None:
    """Within 1e-10 of the size of each output; blanks the same."""
    for one, other in zip(parts(ours), parts(theirs), strict=True):
        size = np.nanmax(np.abs(other)) if np.isfinite(other).any() else 0.0
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * size, err_msg=message)


# -- TA-Lib ------------------------------------------------------------------------------------------------------------

Pair = tuple[Callable[..., Any], Callable[..., Any]]
OF_BARS: dict[str, Pair] = {
    "adx": (
        lambda high, low, close, w: ti.adx(high, low, close, w),
        lambda high, low, close, w: (
            talib.ADX(high, low, close, w),
            talib.PLUS_DI(high, low, close, w),
            talib.MINUS_DI(high, low, close, w),
        ),
    ),
    "dx": (ti.dx, talib.DX),
    "adxr": (ti.adxr, talib.ADXR),
    "aroon": (
        lambda high, low, close, w: ti.aroon(high, low, w),
        lambda high, low, close, w: (*talib.AROON(high, low, w)[::-1], talib.AROONOSC(high, low, w)),
    ),
    "trix": (lambda high, low, close, w: ti.trix(close, w), lambda high, low, close, w: talib.TRIX(close, w)),
    "slope": (
        lambda high, low, close, w: ti.linear_regression_slope(close, w),
        lambda high, low, close, w: talib.LINEARREG_SLOPE(close, w),
    ),
    "line": (
        lambda high, low, close, w: ti.linear_regression(close, w),
        lambda high, low, close, w: talib.LINEARREG(close, w),
    ),
    "first": (
        lambda high, low, close, w: ti.linear_regression_intercept(close, w),
        lambda high, low, close, w: talib.LINEARREG_INTERCEPT(close, w),
    ),
    "next": (
        lambda high, low, close, w: ti.linear_regression_forecast(close, w),
        lambda high, low, close, w: talib.TSF(close, w),
    ),
    "angle": (
        lambda high, low, close, w: np.tan(np.radians(ti.linear_regression_angle(close, w))),
        lambda high, low, close, w: np.tan(np.radians(talib.LINEARREG_ANGLE(close, w))),
    ),
}
SHARES = [(0.02, 0.2), (0.01, 0.1), (0.3, 0.2), (0.0, 0.2), (0.5, 1.0)]
SPANS = [(12, 26, 9), (3, 10, 16), (5, 35, 5), (2, 3, 1), (2, 40, 60)]


@pytest.mark.parametrize("window", [2, 3, 9, 14, 50, 127])
@pytest.mark.parametrize("name", OF_BARS)
def test_equal_to_talib_on_a_seeded_walk(name: str, window: int) -> None:
    ours, theirs = OF_BARS[name]
    bars = walk(seed=window)
    assert_equal(ours(*bars, window), theirs(*bars, window), f"{name} {window}")


@pytest.mark.parametrize("name", OF_BARS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 13, 14, 15, 21, 22, 23])
def test_blank_exactly_as_long_as_talib(name: str, count: int) -> None:
    ours, theirs = OF_BARS[name]
    bars = walk(count)
    for one, other in zip(parts(ours(*bars, 7)), parts(theirs(*bars, 7)), strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))


@pytest.mark.parametrize("spans", SPANS)
def test_macd_equals_talib(spans: tuple[int, int, int]) -> None:
    for count in (3_000, sum(spans) - 3, sum(spans[1:]) - 2, sum(spans[1:]) - 1, sum(spans[1:])):
        close = walk(count)[2]
        assert_equal(ti.macd(close, *spans), talib.MACD(close, *spans), f"{spans} {count}")


@pytest.mark.parametrize("shares", SHARES)
def test_parabolic_stops_equal_talib(shares: tuple[float, float]) -> None:
    for seed in range(30):
        high, low, _ = walk(200, seed)
        assert_equal(ti.parabolic_sar(high, low, *shares), talib.SAR(high, low, *shares), f"{seed}")


@pytest.mark.real_data
@pytest.mark.parametrize("window", [2, 14, 50])
def test_equal_to_talib_on_real_bars(recorded: Columns, window: int) -> None:
    for name, (ours, theirs) in OF_BARS.items():
        assert_equal(ours(*recorded, window), theirs(*recorded, window), f"{name} {window}")


@pytest.mark.real_data
def test_macd_and_stops_equal_talib_on_real_bars(recorded: Columns) -> None:
    high, low, close = recorded
    for spans in SPANS:
        assert_equal(ti.macd(close, *spans), talib.MACD(close, *spans), f"{spans}")
    for shares in SHARES:
        assert_equal(ti.parabolic_sar(high, low, *shares), talib.SAR(high, low, *shares), f"{shares}")


def test_a_market_that_stands_still_has_no_direction_as_in_talib() -> None:
    flat = np.full(80, 5.0)
    for name in ("adx", "dx", "adxr", "aroon", "trix", "slope"):
        ours, theirs = OF_BARS[name]
        for one, other in zip(parts(ours(flat, flat, flat, 7)), parts(theirs(flat, flat, flat, 7)), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_of_equal_extremes_the_latest_counts() -> None:
    """Highs 3, 5, 5, 4: the later five is one bar old, and of lows 1, 2, 1, 1 the one of today."""
    found = ti.aroon(np.array([3.0, 5.0, 5.0, 4.0]), np.array([1.0, 2.0, 1.0, 1.0]), 3)
    assert [part[3] for part in found] == pytest.approx([100 * 2 / 3, 100.0, -100 / 3])


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_aroon_counts_the_bars_since_the_extreme(window: int, seed: int) -> None:
    """Among prices of few steps, so that ties are the rule."""
    x = np.random.default_rng(seed).integers(0, 6, 150).astype(float)
    up, down, oscillator = ti.aroon(x, x, window)
    for t in range(window, 150):
        newest_first = x[t - window : t + 1][::-1]
        assert up[t] == pytest.approx(100 * (window - newest_first.argmax()) / window, abs=1e-12)
        assert down[t] == pytest.approx(100 * (window - newest_first.argmin()) / window, abs=1e-12)
        assert oscillator[t] == pytest.approx(up[t] - down[t], abs=1e-12)


# -- directional movement ----------------------------------------------------------------------------------------------


def test_directional_movement_by_hand() -> None:
    """Three bars and a window of two: the sums are S = (first movement)/2, then S + (movement - S)/2.

    DM+ 1, 0; DM- 0, 2; TR 2, 3: S(DM+) = 0.25, S(DM-) = 1, S(TR) = 2.
    """
    high, low, close = np.array([10.0, 11.0, 11.0]), np.array([9.0, 10.0, 8.0]), np.array([9.0, 11.0, 9.0])
    strength, plus, minus = ti.adx(high, low, close, 2)
    np.testing.assert_allclose([plus[2], minus[2]], [12.5, 50.0], rtol=1e-15)
    assert ti.dx(high, low, close, 2)[2] == pytest.approx(100 * 37.5 / 62.5)
    assert np.isnan(strength).all()


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_market_turned_upside_down_swaps_the_shares(window: int, seed: int) -> None:
    high, low, close = walk(200, seed)
    one, other = ti.adx(high, low, close, window), ti.adx(-low, -high, -close, window)
    np.testing.assert_array_equal(one.plus_di, other.minus_di)
    np.testing.assert_array_equal(one.minus_di, other.plus_di)
    np.testing.assert_array_equal(one.adx, other.adx)
    for part in one:
        assert (part[np.isfinite(part)] >= 0.0).all()
        assert (part[np.isfinite(part)] <= 100.0 * (1 + 1e-12)).all()


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_strength_does_not_depend_on_the_unit(scale: float) -> None:
    """TA-Lib calls a smoothed range below 1e-14 zero; a coin quoted in another coin can be smaller than that."""
    high, low, close = walk(400, 3)
    for one, other in zip(ti.adx(high * scale, low * scale, close * scale), ti.adx(high, low, close), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


# -- stops -------------------------------------------------------------------------------------------------------------


def test_the_parabolic_stop_of_a_short_trade_mirrors_that_of_a_long_one() -> None:
    high, low, _ = walk(600, 4)
    high[1], low[1] = high[0] + 1.0, low[0] + 0.5  # without a direction both would begin long
    np.testing.assert_array_equal(ti.parabolic_sar(-low, -high), -ti.parabolic_sar(high, low))


def test_a_parabolic_stop_by_hand() -> None:
    """Long from the second bar: the stop is the first low, then rises 2 % of the way to 11, 4 % to 12, and is hit at 9.

    It stays below the last two lows, and after the turn it is the highest price of the trade.
    """
    high = np.array([10.0, 11.0, 12.0, 11.5, 11.0])
    low = np.array([9.0, 10.0, 11.0, 10.5, 8.0])
    second = 9.0 + 0.02 * (11.0 - 9.0)
    third = second + 0.04 * (12.0 - second)
    found = ti.parabolic_sar(high, low)
    np.testing.assert_allclose(found[1:], [9.0, second, third, 12.0], rtol=1e-15)


def supertrend_of_tradingview(bars: Columns, window: int, factor: float) -> tuple[list[float], list[float]]:
    """The published Pine source of `ta.supertrend`, line by line; its sign of the direction turned round."""
    high, low, close = bars
    ranges = [high[0] - low[0]]
    ranges += [
        max(high[t] - low[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1])) for t in range(1, len(close))
    ]
    lines, directions = [math.nan] * len(close), [math.nan] * len(close)
    atr = sum(ranges[:window]) / window
    previous_upper = previous_lower = previous_line = math.nan
    for t in range(window - 1, len(close)):
        atr = atr if t == window - 1 else (ranges[t] + (window - 1) * atr) / window
        middle = (high[t] + low[t]) / 2
        upper, lower = middle + factor * atr, middle - factor * atr
        if t > window - 1:
            lower = lower if lower > previous_lower or close[t - 1] < previous_lower else previous_lower
            upper = upper if upper < previous_upper or close[t - 1] > previous_upper else previous_upper
        if t == window - 1:
            direction = 1
        elif previous_line == previous_upper:
            direction = -1 if close[t] > upper else 1
        else:
            direction = 1 if close[t] < lower else -1
        previous_upper, previous_lower = upper, lower
        previous_line = lines[t] = lower if direction == -1 else upper
        directions[t] = -float(direction)
    return lines, directions


@pytest.mark.parametrize(("window", "factor"), [(10, 3.0), (1, 1.0), (2, 0.5), (7, 2.0), (50, 1.5)])
def test_supertrend_follows_the_rules_of_tradingview(window: int, factor: float) -> None:
    bars = walk(1_500, window)
    lines, directions = supertrend_of_tradingview(bars, window, factor)
    found = ti.supertrend(*bars, window, factor)
    np.testing.assert_allclose(found.supertrend, lines, rtol=1e-12)
    np.testing.assert_array_equal(found.direction, directions)
    assert set(np.unique(found.direction[window:])) == {-1.0, 1.0}


def test_supertrend_of_a_market_that_stands_still_lies_on_the_price() -> None:
    flat = np.full(30, 7.0)
    found = ti.supertrend(flat, flat, flat)
    assert (found.supertrend[9:] == 7.0).all()
    assert (found.direction[9:] == -1.0).all()


# -- lines -------------------------------------------------------------------------------------------------------------


def fits(x: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Slope and R squared of every window, in extended precision."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), window)
    from_middle = np.arange(window, dtype=np.longdouble) - np.longdouble(window - 1) / 2
    deviations = windows - windows.mean(axis=1, keepdims=True)
    slope = deviations @ from_middle / (from_middle @ from_middle)
    variance = (deviations**2).sum(axis=1)
    return slope, np.divide(slope**2 * (from_middle @ from_middle), variance, where=variance > 0, out=variance * 0)


@pytest.mark.parametrize("level", [0.0, 1e2, 1e6])
@pytest.mark.parametrize("window", [2, 3, 14, 33, 200])
def test_no_digits_of_a_line_are_lost_to_the_level_of_the_price(level: float, window: int) -> None:
    """TA-Lib's sums of squares lose seven digits of the slope at a level of a million and moves of a hundredth."""
    x = level + np.random.default_rng(window).normal(0.0, 0.01, 3_000)
    slope, explained = fits(x, window)
    found = ti.linear_regression_slope(x, window)[window - 1 :]
    assert np.abs(found - slope).max() / slope.std() < 5e-12
    np.testing.assert_allclose(ti.r_squared(x, window)[window - 1 :], explained.astype(float), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("window", [2, 5, 14, 64])
def test_a_straight_line_is_fitted_exactly(window: int) -> None:
    x = 100.0 + 0.5 * np.arange(3_000)
    known = slice(window - 1, None)
    np.testing.assert_allclose(ti.linear_regression_slope(x, window)[known], 0.5, rtol=1e-11)
    np.testing.assert_allclose(ti.linear_regression(x, window)[known], x[known], rtol=1e-13)
    np.testing.assert_allclose(ti.linear_regression_forecast(x, window)[known], x[known] + 0.5, rtol=1e-13)
    np.testing.assert_allclose(
        ti.linear_regression_intercept(x, window)[known], x[known] - 0.5 * (window - 1), rtol=1e-13
    )
    np.testing.assert_allclose(ti.r_squared(x, window)[known], 1.0, rtol=1e-13)
    assert ti.linear_regression_angle(2.0 * x, window)[-1] == pytest.approx(45.0)


def test_anscombe() -> None:
    """Anscombe (1973), data set I sorted by x = 4...14: y = 3.0001 + 0.5001 x, R squared 0.6665."""
    y = np.array([4.26, 5.68, 7.24, 4.82, 6.95, 8.81, 8.04, 8.33, 10.84, 7.58, 9.96])
    assert ti.linear_regression_slope(y, 11)[-1] == pytest.approx(0.5001, abs=5e-5)
    assert ti.linear_regression_intercept(y, 11)[-1] == pytest.approx(3.0001 + 4 * 0.5001, abs=3e-4)
    assert ti.r_squared(y, 11)[-1] == pytest.approx(0.6665, abs=5e-5)


def test_a_spike_that_left_the_window_leaves_nothing_behind_in_r_squared() -> None:
    x = np.random.default_rng(0).normal(0.0, 1e-4, 300)
    spiked = x.copy()
    spiked[100] = 1e9
    np.testing.assert_array_equal(ti.r_squared(spiked, 20)[120:], ti.r_squared(x, 20)[120:])


# -- MACD, TRIX --------------------------------------------------------------------------------------------------------


def test_macd_is_exactly_zero_where_the_price_stopped() -> None:
    """A histogram that changes its sign by rounding would be a signal."""
    found = ti.macd(np.full(500, 0.1))
    assert all((part[33:] == 0.0).all() for part in found)
    stopped = np.concatenate([walk(500)[2], np.full(1_500, 107.3)])
    tail = ti.macd(stopped).macd[-500:]
    assert (np.diff(np.abs(tail)) <= 0.0).all()
    assert abs(tail[-1]) < 1e-40


def test_trix_of_steady_growth_is_the_growth() -> None:
    growth = 50.0 * 1.002 ** np.arange(1_500.0)
    np.testing.assert_allclose(ti.trix(growth, 12)[400:], 0.2, rtol=1e-10)


def test_trix_after_a_level_of_zero_is_zero_as_in_talib() -> None:
    zeros = np.zeros(40)
    np.testing.assert_array_equal(ti.trix(zeros, 5), talib.TRIX(zeros, 5))


# -- Ichimoku ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spans", [(9, 26, 52, 26), (1, 2, 3, 0), (7, 22, 44, 22), (20, 60, 120, 30)])
def test_ichimoku_by_the_book(spans: tuple[int, int, int, int]) -> None:
    bars = probe_bars(400, 5)
    high, low = bars["high"], bars["low"]

    def middle(window: int) -> pd.Series:
        return (high.rolling(window).max() + low.rolling(window).min()) / 2

    tenkan, kijun, senkou, displacement = spans
    leading = (middle(tenkan) + middle(kijun)) / 2
    expected = middle(tenkan), middle(kijun), leading.shift(displacement), middle(senkou).shift(displacement)
    found = ti.ichimoku(high, low, *spans)
    for field, one, other in zip(Ichimoku._fields, found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-15, err_msg=field)


def test_chikou_is_the_only_line_that_looks_ahead() -> None:
    close = probe_bars(100)["close"]
    pd.testing.assert_series_equal(ti.chikou_span(close), close.shift(-26), check_names=False)
    assert not ti.get("chikou_span").causal
    assert "chikou" not in " ".join(ti.get("ichimoku").outputs)


# -- contract ----------------------------------------------------------------------------------------------------------

EVERY: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Any]] = {
    **{
        f"{name} {w}": lambda high, low, close, f=pair[0], w=w: f(high, low, close, w)
        for name, pair in OF_BARS.items()
        for w in (2, 14)
    },
    "r_squared": lambda high, low, close: ti.r_squared(close, 13),
    "macd": lambda high, low, close: ti.macd(close),
    "parabolic_sar": lambda high, low, close: ti.parabolic_sar(high, low),
    "supertrend": ti.supertrend,
    "ichimoku": lambda high, low, close: ti.ichimoku(high, low),
}


@pytest.mark.parametrize("name", EVERY)
def test_compiled_and_interpreted_agree_bit_for_bit(name: str) -> None:
    """Over more than one block."""
    bars = walk(1_150, 7)
    compiled = parts(EVERY[name](*bars))
    with interpreted():
        for one, other in zip(parts(EVERY[name](*bars)), compiled, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("cut", [30, 53, 54, 1_025, 1_037, 1_052, 1_053, 1_199])
def test_later_bars_change_no_bit(name: str, cut: int) -> None:
    bars = walk(1_200, 8)
    for one, whole in zip(parts(EVERY[name](*(x[:cut] for x in bars))), parts(EVERY[name](*bars)), strict=True):
        np.testing.assert_array_equal(one, whole[:cut])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_bar_or_two_or_none_are_not_known_yet(name: str, count: int) -> None:
    for part in parts(EVERY[name](*(x[:count] for x in walk(9)))):
        assert part.shape == (count,)
        assert np.isnan(part[:1]).all()


@pytest.mark.parametrize("name", EVERY)
def test_leading_blanks_shift_and_holes_are_refused(name: str) -> None:
    bars = walk(300)
    padded = [np.concatenate([np.full(9, np.nan), x]) for x in bars]
    for one, other in zip(parts(EVERY[name](*padded)), parts(EVERY[name](*bars)), strict=True):
        assert np.isnan(one[:9]).all()
        np.testing.assert_array_equal(one[9:], other)
    for x in bars:
        x[100] = np.inf
    with pytest.raises(DataError, match="holds inf at row 100"):
        EVERY[name](*bars)


def test_outputs_are_named_series_on_the_index_of_the_bars() -> None:
    bars = probe_bars(120)
    high, low = bars["high"], bars["low"]
    found = ti.supertrend(high, low, bars["close"], 7, 2.5)
    assert isinstance(found, Supertrend)
    assert [part.name for part in found] == ["supertrend_7_2.5", "supertrend_7_2.5_direction"]
    assert all(part.index is high.index for part in ti.aroon(high, low))
    assert list(ti.get("aroon")(bars).columns) == list(Aroon._fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda high, low, close: ti.macd(close, 26, 26), "fast must be shorter than slow; got 26 and 26"),
        (lambda high, low, close: ti.macd(close, signal=0), "signal must be a whole number of bars"),
        (lambda high, low, close: ti.linear_regression_slope(close, 1), "at least 2; got 1"),
        (lambda high, low, close: ti.parabolic_sar(high, low, acceleration=-0.1), "acceleration .* got -0.1"),
        (lambda high, low, close: ti.parabolic_sar(high, low, maximum=math.nan), "maximum .* got nan"),
        (
            lambda high, low, close: ti.supertrend(high, low, close, multiplier=0),
            "multiplier must be a positive number .* got 0",
        ),
        (lambda high, low, close: ti.ichimoku(high, low, displacement=-1), "displacement .* at least 0; got -1"),
        (lambda high, low, close: ti.chikou_span(close, 0), "displacement .* at least 1; got 0"),
    ],
)
def test_parameters_without_meaning_are_refused(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call(*walk(60))
