"""Channels: TA-Lib's bands, published tables, the formulas in plain loops, and what holds whatever the prices."""

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    BollingerBands,
    Channel,
    atr,
    bollinger_bands,
    chandelier_exit,
    donchian_channels,
    ema,
    get,
    keltner_channels,
    probe_bars,
    sma,
    squeeze,
)

BARS = probe_bars(600, seed=1)
HIGH, LOW, CLOSE = (BARS[name] for name in ("high", "low", "close"))
REAL = [
    "index/sp500_1999_2018.parquet",
    "equities/us_daily_raw/AAPL.parquet",
    "crypto/binance_spot_5m/BTC_USDT.parquet",
    "forex/oanda_daily/EURUSD.parquet",
]


# -- Bollinger ---------------------------------------------------------------------------------------------------------


def assert_bands_equal_to_talib(close):
    for window, deviations in ((2, 1.0), (3, 2.0), (5, 2.5), (20, 2.0), (50, 0.5), (199, 3.0)):
        ours = bollinger_bands(close, window, deviations)[:3]
        theirs = talib.BBANDS(close, window, deviations, deviations)
        for name, one, other in zip(BollingerBands._fields, ours, theirs, strict=False):
            np.testing.assert_allclose(one, other, rtol=1e-10, err_msg=f"{name} {window}")


def test_bands_equal_to_talib_on_a_seeded_walk():
    assert_bands_equal_to_talib(CLOSE.to_numpy(copy=True))


@pytest.mark.real_data
@pytest.mark.parametrize("path", REAL)
def test_bands_equal_to_talib_on_real_bars(real_data, path):
    assert_bands_equal_to_talib(pd.read_parquet(real_data / path)["close"].to_numpy(dtype=float, copy=True))


def test_the_worked_example_of_stockcharts():
    """ChartSchool, "Bollinger Bands", its spreadsheet: 20 days, 2 population deviations, two decimals."""
    close = [86.1557, 89.0867, 88.7829, 90.3228, 89.0671, 91.1453, 89.4397, 89.1750, 86.9302, 87.6752, 86.9596]
    close += [89.4299, 89.3221, 88.7241, 87.4497, 87.2634, 89.4985, 87.9006, 89.1260, 90.7043, 92.9001, 92.9784]
    close += [91.8021, 92.6647, 92.6843, 92.3021, 92.7725, 92.5373, 92.9490, 93.2039, 91.0669, 89.8318, 89.7435]
    close += [90.3994, 90.7387, 88.0177, 88.0867, 88.8439, 90.7781, 90.5416, 91.3894, 90.6500]
    middle = [88.71, 89.05, 89.24, 89.39, 89.51, 89.69, 89.75, 89.91, 90.08, 90.38, 90.66, 90.86]
    middle += [90.88, 90.91, 90.99, 91.15, 91.19, 91.12, 91.17, 91.25, 91.24, 91.17, 91.05]
    upper = [91.29, 91.95, 92.61, 92.93, 93.31, 93.73, 93.90, 94.27, 94.57, 94.79, 95.04, 94.91]
    upper += [94.90, 94.90, 94.86, 94.67, 94.56, 94.68, 94.58, 94.53, 94.53, 94.37, 94.15]
    lower = [86.12, 86.14, 85.87, 85.85, 85.70, 85.65, 85.59, 85.56, 85.60, 85.98, 86.27, 86.82]
    lower += [86.87, 86.91, 87.12, 87.63, 87.83, 87.56, 87.76, 87.97, 87.95, 87.96, 87.95]

    found = bollinger_bands(np.array(close))

    for line, published in ((found.upper, upper), (found.middle, middle), (found.lower, lower)):
        np.testing.assert_array_equal(line[19:].round(2), published)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 20, 32, 255, 599, 600, 601])
def test_the_bands_are_the_formula_window_by_window(window):
    prices, found = CLOSE.to_numpy(), bollinger_bands(CLOSE.to_numpy(), window, 1.5)
    for t in range(len(prices)):
        if t < window - 1:
            assert all(np.isnan(line[t]) for line in found)
            continue
        run = prices[t - window + 1 : t + 1].astype(np.longdouble)
        mean, half = run.mean(), 1.5 * run.std()
        place = 0.5 if half == 0 else (prices[t] - (mean - half)) / (2 * half)
        expected = [mean + half, mean, mean - half, place, 2 * half / mean]
        np.testing.assert_allclose([line[t] for line in found], np.array(expected, float), rtol=1e-11, atol=1e-11)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32)), st.integers(2, 12))
@settings(max_examples=150, deadline=None)
def test_no_price_is_further_out_than_the_root_of_the_others(prices, window):
    """Samuelson (1968): no value deviates by more than sqrt(n - 1) population deviations from the mean of n."""
    bands = bollinger_bands(prices, window, 2.0)
    known = bands.percent_b[window - 1 :]
    assert (np.abs(known - 0.5) <= np.sqrt(window - 1) / 4 * (1 + 1e-7)).all()
    assert not any(np.isinf(line).any() for line in bands)
    assert (bands.upper >= bands.lower)[window - 1 :].all()


def test_where_nothing_moved_the_bands_meet_and_the_close_is_in_the_middle():
    bands = bollinger_bands(np.full(30, 0.1))
    assert (bands.upper[19:] == 0.1).all()
    assert (bands.lower[19:] == 0.1).all()
    assert (bands.percent_b[19:] == 0.5).all()
    assert (bands.bandwidth[19:] == 0.0).all()


def test_around_a_mean_of_zero_there_is_no_bandwidth():
    bands = bollinger_bands(np.tile([-1.0, 1.0], 20), 2)
    assert np.isnan(bands.bandwidth).all()
    assert np.isfinite(bands.upper[1:]).all()


def test_at_a_level_of_a_million_the_place_in_the_bands_keeps_its_digits():
    noise = np.random.default_rng(0).integers(-512, 512, 500) / 1024  # exact at both levels
    np.testing.assert_allclose(
        bollinger_bands(noise + 1e6).percent_b, bollinger_bands(noise + 1.0).percent_b, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("deviations", [0.0, -2.0, np.nan, np.inf])
def test_deviations_are_positive(deviations):
    with pytest.raises(ParameterError, match="deviations must be positive"):
        bollinger_bands(CLOSE, deviations=deviations)


def test_outputs_come_as_given_with_names_that_say_what_they_are():
    bands = bollinger_bands(CLOSE, 10)
    assert [line.name for line in bands] == ["upper_10", "middle_10", "lower_10", "percent_b_10", "bandwidth_10"]
    assert all(line.index is CLOSE.index for line in bands)
    frame = get("bollinger_bands")(BARS, window=10)
    assert tuple(frame.columns) == BollingerBands._fields
    assert all(isinstance(line, np.ndarray) for line in bollinger_bands(CLOSE.to_numpy(), 10))


# -- Keltner, squeeze --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "atr_window", "multiple"), [(20, 10, 2.0), (5, 14, 1.0), (2, 1, 0.5), (1, 2, 3.0)])
def test_keltner_channels_in_plain_loops(window, atr_window, multiple):
    high, low, close = (column.to_numpy()[:200] for column in (HIGH, LOW, CLOSE))
    mean = range_ = np.nan
    lines = np.full((3, 200), np.nan)
    ranges = [max(high[t], close[t - 1]) - min(low[t], close[t - 1]) for t in range(1, 200)]
    for t in range(200):
        if t >= window:
            mean = mean + 2 / (window + 1) * (close[t] - mean)
        elif t == window - 1:
            mean = close[:window].mean()
        if t > atr_window:
            range_ = (range_ * (atr_window - 1) + ranges[t - 1]) / atr_window
        elif t == atr_window:
            range_ = np.mean(ranges[:atr_window])
        lines[:, t] = mean + multiple * range_, mean, mean - multiple * range_
    found = keltner_channels(high, low, close, window, atr_window, multiple)
    np.testing.assert_allclose(found, lines, rtol=1e-11)


def test_keltner_takes_its_parts_from_their_own_indicators():
    found = keltner_channels(HIGH, LOW, CLOSE, 20, 10, 2.0)
    np.testing.assert_array_equal(found.middle, ema(CLOSE, 20))
    np.testing.assert_array_equal(found.upper, ema(CLOSE, 20) + 2.0 * atr(HIGH, LOW, CLOSE, 10))
    assert isinstance(found, Channel)
    assert found.upper.name == "keltner_upper_20"


def test_a_squeeze_below_one_is_bands_inside_a_channel_of_the_same_middle():
    bands, middle = bollinger_bands(CLOSE, 20, 2.0), sma(CLOSE, 20)
    side = 1.5 * atr(HIGH, LOW, CLOSE, 20)
    inside = (bands.upper < middle + side) & (bands.lower > middle - side)
    quotient = squeeze(HIGH, LOW, CLOSE, 20, 2.0, 1.5)
    known = quotient.notna()
    assert known.sum() == 580
    assert 0.0 < inside[known].mean() < 1.0
    pd.testing.assert_series_equal((quotient < 1.0)[known], inside[known], check_names=False)


def test_a_squeeze_of_still_closes_is_zero_and_without_a_range_it_is_blank():
    still = np.full(60, 5.0)
    with np.errstate(all="raise"):
        assert (squeeze(still + 1.0, still - 1.0, still)[20:] == 0.0).all()
        assert np.isnan(squeeze(still, still, still)).all()


# -- Donchian, chandelier ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 20, 55, 600, 601])
def test_donchian_channels_are_the_extremes_with_the_present_bar(window):
    found = donchian_channels(HIGH, LOW, window)
    top, bottom = HIGH.rolling(window).max(), LOW.rolling(window).min()
    for line, expected in zip(found, (top, (top + bottom) / 2, bottom), strict=True):
        np.testing.assert_array_equal(line, expected)


def test_no_close_leaves_the_channel_of_its_own_bar():
    found = donchian_channels(HIGH, LOW, 20)
    assert not (found.upper < CLOSE).any()
    assert (found.upper.shift(1) < CLOSE).any()


@pytest.mark.parametrize(("window", "multiple"), [(22, 3.0), (1, 1.0), (5, 2.5)])
def test_a_chandelier_hangs_from_the_extremes(window, multiple):
    found, ranges = chandelier_exit(HIGH, LOW, CLOSE, window, multiple), atr(HIGH, LOW, CLOSE, window)
    np.testing.assert_allclose(found.long, HIGH.rolling(window).max() - multiple * ranges, rtol=1e-12)
    np.testing.assert_allclose(found.short, LOW.rolling(window).min() + multiple * ranges, rtol=1e-12)
    assert found.long.first_valid_index() == CLOSE.index[window]


# -- all ---------------------------------------------------------------------------------------------------------------

ALL = {
    "bollinger_bands": lambda high, low, close: bollinger_bands(close, 20),
    "keltner_channels": lambda high, low, close: keltner_channels(high, low, close),
    "squeeze": lambda high, low, close: (squeeze(high, low, close),),
    "donchian_channels": lambda high, low, close: donchian_channels(high, low),
    "chandelier_exit": lambda high, low, close: chandelier_exit(high, low, close),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("count", [0, 1, 2, 21, 600])
def test_interpreted_as_compiled_to_the_bit(name, count):
    bars = [column.to_numpy()[:count] for column in (HIGH, LOW, CLOSE)]
    compiled = ALL[name](*bars)
    with interpreted():
        again = ALL[name](*bars)
    for one, other in zip(compiled, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ALL)
def test_later_bars_change_no_bit_and_leading_blanks_shift(name):
    bars = [column.to_numpy() for column in (HIGH, LOW, CLOSE)]
    whole = ALL[name](*bars)
    for cut in (1, 19, 20, 21, 30, 531, 532, 533, 599):
        for one, other in zip(ALL[name](*(column[:cut] for column in bars)), whole, strict=True):
            np.testing.assert_array_equal(one, other[:cut])
    padded = ALL[name](*(np.r_[np.full(7, np.nan), column] for column in bars))
    for one, other in zip(padded, whole, strict=True):
        np.testing.assert_array_equal(one, np.r_[np.full(7, np.nan), other])


@given(st.floats(0.01, 1e5), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_channels_scale_with_prices_and_pure_numbers_do_not(scale, seed):
    bars = [probe_bars(90, seed=seed)[name].to_numpy() for name in ("high", "low", "close")]
    scaled = [column * scale for column in bars]
    for name in ("keltner_channels", "donchian_channels", "chandelier_exit"):
        np.testing.assert_allclose(ALL[name](*scaled), np.multiply(scale, ALL[name](*bars)), rtol=1e-10)
    np.testing.assert_allclose(squeeze(*scaled), squeeze(*bars), rtol=1e-9)
    for part in ("percent_b", "bandwidth"):
        one, other = (getattr(bollinger_bands(column), part) for column in (scaled[2], bars[2]))
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_a_hole_is_refused_with_its_time(name):
    columns = {column: BARS[column].copy() for column in ("high", "low", "close")}
    for column in columns.values():
        column.iloc[100] = np.nan
    with pytest.raises(DataError, match="2000-04-10"):
        ALL[name](**columns)


def test_multiples_are_positive_and_windows_are_counts():
    for function in (keltner_channels, squeeze, chandelier_exit):
        with pytest.raises(ParameterError, match="multiple must be positive; got 0"):
            function(HIGH, LOW, CLOSE, multiple=0)
    with pytest.raises(ParameterError, match="atr_window must be a whole number of bars"):
        keltner_channels(HIGH, LOW, CLOSE, atr_window=0)
