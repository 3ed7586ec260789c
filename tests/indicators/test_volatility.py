"""True range, its average, and standard deviations: TA-Lib's numbers, Wilder's recurrence, and no hole overlooked."""

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import atr, natr, probe_bars, rolling_std, rolling_volatility, true_range

WINDOWS = (1, 2, 3, 5, 14, 20, 50, 199)
REAL = [
    "index/sp500_1999_2018.parquet",
    "equities/us_daily_raw/AAPL.parquet",
    "crypto/binance_spot_5m/BTC_USDT.parquet",
    "forex/oanda_daily/EURUSD.parquet",
]


def columns(bars):
    """High, low and close as arrays that TA-Lib takes."""
    return [bars[name].to_numpy(dtype=float, copy=True) for name in ("high", "low", "close")]


def assert_equal_to_talib(bars, window):
    high, low, close = columns(bars)
    pairs = {
        "true_range": (true_range(high, low, close), talib.TRANGE(high, low, close)),
        "atr": (atr(high, low, close, window), talib.ATR(high, low, close, window)),
    }
    if window > 1:
        pairs["natr"] = natr(high, low, close, window), talib.NATR(high, low, close, window)
        pairs["std"] = rolling_std(close, window), talib.STDDEV(close, window)
    for name, (ours, theirs) in pairs.items():
        rtol, atol = (1e-10, 1e-10 * close.mean()) if name == "std" else (1e-10, 0.0)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=f"{name} {window}")


@pytest.mark.parametrize("window", WINDOWS)
def test_equal_to_talib_on_a_seeded_walk(window):
    assert_equal_to_talib(probe_bars(3_000, seed=window), window)


@pytest.mark.real_data
@pytest.mark.parametrize("path", REAL)
def test_equal_to_talib_on_real_bars(real_data, path):
    bars = pd.read_parquet(real_data / path)
    for window in WINDOWS:
        assert_equal_to_talib(bars, window)


def test_a_percentage_of_one_bar_stays_a_percentage():
    """TA-Lib's NATR of window 1 is the true range in price units (its C source returns TRANGE); here it is percent."""
    high, low, close = columns(probe_bars(50))
    np.testing.assert_array_equal(talib.NATR(high, low, close, 1), talib.TRANGE(high, low, close))
    np.testing.assert_allclose(natr(high, low, close, 1), 100 * talib.TRANGE(high, low, close) / close, rtol=1e-14)


def test_where_the_close_is_zero_the_percentage_is_zero_as_in_talib():
    high, low, close = np.full(9, 2.0), np.full(9, -1.0), np.array([1.0, 0.0, 1.0] * 3)
    expected = talib.NATR(high, low, close, 2)
    assert expected[4] == 0.0
    np.testing.assert_allclose(natr(high, low, close, 2), expected, rtol=1e-14)


def test_the_worked_example_of_stockcharts():
    """ChartSchool, "Average True Range", spreadsheet of QQQ in April and May 2010: 14 days, two decimals.

    It lets the first day's high less low stand for its true range; a day before it whose close lies inside does that.
    The tolerance is what two decimals of the prices can do to those of the average.
    """
    high = [48.70, 48.72, 48.90, 48.87, 48.82, 49.05, 49.20, 49.35, 49.92, 50.19, 50.12, 49.66, 49.88, 50.19, 50.36]
    low = [47.79, 48.14, 48.39, 48.37, 48.24, 48.64, 48.94, 48.86, 49.50, 49.87, 49.20, 48.90, 49.43, 49.73, 49.26]
    close = [48.16, 48.61, 48.75, 48.63, 48.74, 49.03, 49.07, 49.32, 49.91, 50.13, 49.53, 49.50, 49.75, 50.03, 50.31]
    high += [50.57, 50.65, 50.43, 49.63, 50.33, 50.29, 50.17, 49.32, 48.50, 48.32, 46.80, 47.80, 48.39, 48.66, 48.79]
    low += [50.09, 50.30, 49.21, 48.98, 49.61, 49.20, 49.43, 48.08, 47.64, 41.55, 44.28, 47.31, 47.20, 47.90, 47.73]
    close += [50.52, 50.41, 49.34, 49.37, 50.23, 49.24, 49.93, 48.43, 48.18, 46.57, 45.41, 47.77, 47.72, 48.62, 47.85]
    published = [0.56, 0.59, 0.59, 0.57, 0.62, 0.62, 0.64, 0.67, 0.69, 0.78, 0.78, 1.21, 1.30, 1.38, 1.37, 1.34, 1.32]

    found = atr(*(np.array([first, *rest]) for first, rest in ((48.7, high), (47.8, low), (48.2, close))), 14)[14:]

    np.testing.assert_allclose(found, published, atol=0.0075)


def in_wilders_words(bars, window):
    """One bar after the other: the new average is the old one times (n - 1), plus the new range, over n."""
    high, low, close = columns(bars)
    result, ranges = np.full(len(close), np.nan), []
    for t in range(1, len(close)):
        ranges.append(max(high[t] - low[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1])))
        if t == window:
            result[t] = sum(ranges) / window
        elif t > window:
            result[t] = (result[t - 1] * (window - 1) + ranges[-1]) / window
    return result


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 23, 24, 271, 272, 273, 600])
def test_the_average_is_wilders_wherever_its_blocks_end(window, count):
    bars = probe_bars(600, seed=3).iloc[:count]
    np.testing.assert_allclose(atr(*columns(bars), window), in_wilders_words(bars, window), rtol=1e-13)


@pytest.mark.parametrize("window", [1, 2, 14])
def test_later_bars_change_no_bit_of_earlier_values(window):
    bars = probe_bars(600, seed=4)
    whole = columns(bars)
    for function in (lambda *b: atr(*b, window), lambda *b: natr(*b, window), lambda *b: rolling_std(b[2], window)):
        full = function(*whole)
        for cut in (*range(1, 40), *range(262, 284), 527, 528, 529, 599):
            np.testing.assert_array_equal(function(*(column[:cut] for column in whole)), full[:cut])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20, 300, 1_300])
@pytest.mark.parametrize("window", [1, 2, 3, 8, 14, 40])
def test_interpreted_as_compiled_to_the_bit(window, count):
    bars = columns(probe_bars(1_300, seed=5).iloc[:count])
    functions = [lambda: atr(*bars, window), lambda: natr(*bars, window), lambda: true_range(*bars)]
    functions += [lambda: rolling_std(bars[2], window), lambda: rolling_volatility(bars[2], window + 1)]
    for function in functions:
        compiled = function()
        with interpreted():
            np.testing.assert_array_equal(function(), compiled)


# -- holes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [true_range, atr, natr], ids=lambda function: function.__name__)
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [1, 2, 14, 15, 16, 270, 271, 272, 399])
def test_no_hole_is_overlooked(function, hole, row):
    """The kernel searches on its way, so every column, block and side of the seed is tried."""
    for column, name in enumerate(("high", "low", "close")):
        bars = columns(probe_bars(400))
        bars[column][row] = hole
        with pytest.raises(DataError, match=rf"{name} holds .* at row {row}:"):
            function(*bars)


@pytest.mark.parametrize("hole", [np.inf, -np.inf])
def test_an_infinity_in_the_first_bar_or_before_a_full_window_is_refused(hole):
    for row, count in ((0, 400), (5, 10)):
        for column in range(3):
            bars = [values[:count] for values in columns(probe_bars(400))]
            bars[column][row] = hole
            with pytest.raises(DataError, match=f"at row {row}"):
                atr(*bars)


def test_a_hole_in_one_column_before_another_begins_is_refused():
    high, low, close = columns(probe_bars(50))
    close[:10], high[4] = np.nan, np.nan
    with pytest.raises(DataError, match="high holds nan at row 4"):
        atr(high, low, close)


def test_leading_blanks_of_one_column_shift_the_start():
    high, low, close = columns(probe_bars(100))
    close[:10] = np.nan
    np.testing.assert_array_equal(atr(high, low, close)[10:], atr(high[10:], low[10:], close[10:]))
    assert np.isnan(atr(high, low, close)[:24]).all()


def test_bars_out_of_order_or_of_different_times_are_refused():
    bars = probe_bars(50)
    with pytest.raises(DataError, match="comes after"):
        atr(*(bars[name].iloc[::-1] for name in ("high", "low", "close")))
    with pytest.raises(DataError, match="low and high are of different bars"):
        atr(bars["high"], bars["low"].shift(freq="D"), bars["close"])
    with pytest.raises(DataError, match="high 50, low 49, close 50"):
        atr(bars["high"], bars["low"][1:], bars["close"])


def test_an_equal_index_that_is_another_object_is_welcome():
    bars = probe_bars(50)
    same = bars["low"].set_axis(bars.index.copy())
    pd.testing.assert_series_equal(
        atr(bars["high"], same, bars["close"]), atr(*(bars[name] for name in ("high", "low", "close")))
    )


# -- edges and properties ----------------------------------------------------------------------------------------------


def test_where_nothing_moves_everything_is_zero():
    still = np.full(60, 0.1)
    for values in (true_range(still, still, still), atr(still, still, still), natr(still, still, still)):
        assert (values[14:] == 0.0).all()
    for values in (rolling_std(still), rolling_std(still, 1), rolling_volatility(still)):
        assert (values[20:] == 0.0).all()


@given(st.floats(0.01, 1e6), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_ranges_scale_with_the_price_and_percentages_do_not(scale, seed):
    bars = columns(probe_bars(120, seed=seed))
    scaled = [values * scale for values in bars]
    np.testing.assert_allclose(atr(*scaled), scale * atr(*bars), rtol=1e-11)
    np.testing.assert_allclose(natr(*scaled), natr(*bars), rtol=1e-11)
    np.testing.assert_allclose(rolling_std(scaled[2]), scale * rolling_std(bars[2]), rtol=1e-11)
    np.testing.assert_allclose(rolling_volatility(scaled[2]), rolling_volatility(bars[2]), rtol=1e-9)


@given(st.floats(-1e6, 1e6), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_shift_of_all_prices_changes_no_range(shift, seed):
    bars = columns(probe_bars(120, seed=seed))
    shifted = [values + shift for values in bars]
    np.testing.assert_allclose(atr(*shifted), atr(*bars), rtol=1e-7)
    np.testing.assert_allclose(rolling_std(shifted[2]), rolling_std(bars[2]), rtol=1e-6)


def test_the_true_range_is_never_less_than_the_range_and_the_average_between_the_extremes():
    high, low, close = columns(probe_bars(500, seed=8))
    ranges, average = true_range(high, low, close), atr(high, low, close)
    assert (ranges[1:] >= (high - low)[1:]).all()
    assert (average[14:] <= ranges[1:].max()).all()
    assert (average[14:] >= ranges[1:].min()).all()


@pytest.mark.parametrize("ddof", [0, 1, 2])
@pytest.mark.parametrize("window", [3, 4, 20, 36])
def test_the_degrees_of_freedom_are_those_of_numpy(window, ddof):
    x = np.random.default_rng(window).normal(1e4, 0.01, 200)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), window)
    np.testing.assert_allclose(rolling_std(x, window, ddof)[window - 1 :], windows.std(axis=1, ddof=ddof), rtol=1e-14)


def test_a_deviation_of_fewer_values_than_degrees_of_freedom_is_refused():
    with pytest.raises(ParameterError, match="ddof 1 needs more than 1 values; window is 1"):
        rolling_std(np.ones(5), 1, ddof=1)
    with pytest.raises(ParameterError, match="ddof must be a whole number"):
        rolling_std(np.ones(5), 5, ddof=-1)


@pytest.mark.parametrize("price", [0.0, -0.01])
def test_a_return_needs_prices_above_zero_and_the_bar_is_named(price):
    close = probe_bars(60)["close"].copy()
    close.iloc[33] = price
    with pytest.raises(DataError, match=rf"close is {price:g} at 2000-02-03 .* above zero"):
        rolling_volatility(close)
    with pytest.raises(DataError, match="at row 33"):
        rolling_volatility(close.to_numpy())


@pytest.mark.parametrize("periods", [0.0, -252.0, np.nan, np.inf])
def test_a_year_has_a_positive_number_of_periods(periods):
    with pytest.raises(ParameterError, match="periods_per_year must be positive"):
        rolling_volatility(probe_bars(30)["close"], periods_per_year=periods)


def test_close_to_close_volatility_is_the_deviation_of_simple_returns():
    close = probe_bars(300, seed=2)["close"]
    expected = close.pct_change().rolling(30).std(ddof=1) * np.sqrt(365)
    pd.testing.assert_series_equal(
        rolling_volatility(close, 30, periods_per_year=365), expected.rename("volatility_30"), rtol=1e-10
    )
