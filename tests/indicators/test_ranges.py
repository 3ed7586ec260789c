"""Volatility from ranges: the formulas window by window, and what their papers claim, on paths whose truth is known."""

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    BipowerVariation,
    bipower_variation,
    downside_volatility,
    garman_klass,
    get,
    parkinson,
    probe_bars,
    realised_volatility,
    rogers_satchell,
    rolling_volatility,
    yang_zhang,
)
from tradelib.indicators.ranges import means

BARS = probe_bars(400, seed=6)
RANGES = {
    "parkinson": lambda o, h, l, c, *rest: parkinson(h, l, *rest),  # noqa: E741
    "garman_klass": garman_klass,
    "rogers_satchell": rogers_satchell,
    "yang_zhang": yang_zhang,
}
RETURNS = {
    "realised_volatility": realised_volatility,
    "downside_volatility": downside_volatility,
    "bipower": lambda close, *rest: bipower_variation(close, *rest).continuous,
    "jump_ratio": lambda close, *rest: bipower_variation(close, *rest).jump_ratio,
}
ALL = RANGES | {
    name: lambda o, h, l, c, *rest, of=function: of(c, *rest)  # noqa: E741
    for name, function in RETURNS.items()
}
LEAST = {"yang_zhang": 2, "bipower": 2, "jump_ratio": 2}


def ohlc(bars):
    return [bars[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close")]


# -- the formulas ------------------------------------------------------------------------------------------------------


def variance(name, o, h, l, c, before):  # noqa: E741
    """One window by the formula of the paper, a list of numbers for each column; `before`: the close before it."""
    n, log = len(c), math.log
    if name == "parkinson":
        return sum(log(h[i] / l[i]) ** 2 for i in range(n)) / (4 * log(2) * n)
    if name == "garman_klass":
        return sum(0.5 * log(h[i] / l[i]) ** 2 - (2 * log(2) - 1) * log(c[i] / o[i]) ** 2 for i in range(n)) / n
    up, down, end = ([log(x[i] / o[i]) for i in range(n)] for x in (h, l, c))
    satchell = sum(up[i] * (up[i] - end[i]) + down[i] * (down[i] - end[i]) for i in range(n)) / n
    if name == "rogers_satchell":
        return satchell
    gaps = [log(o[i] / (c[i - 1] if i else before)) for i in range(n)]
    spread = [sum((x - sum(values) / n) ** 2 for x in values) / (n - 1) for values in (gaps, end)]
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    return spread[0] + k * spread[1] + (1 - k) * satchell


def by_the_formula(name, bars, window, periods):
    o, h, l, c = ohlc(bars)  # noqa: E741
    result = np.full(len(c), np.nan)
    for t in range(window - (name != "yang_zhang"), len(c)):
        start = t - window + 1
        parts = [x[start : t + 1].tolist() for x in (o, h, l, c)]
        result[t] = math.sqrt(periods * variance(name, *parts, c[start - 1]))
    return result


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("window", [1, 2, 3, 4, 20, 33, 252, 399, 400, 401])
def test_ranges_are_the_formula_window_by_window(name, window):
    if window < LEAST.get(name, 1):
        with pytest.raises(ParameterError, match="at least 2; got 1"):
            RANGES[name](*ohlc(BARS), window, 365)
        return
    found = RANGES[name](*ohlc(BARS), window, 365.0)
    np.testing.assert_allclose(found, by_the_formula(name, BARS, window, 365.0), rtol=1e-10)


@pytest.mark.real_data
@pytest.mark.parametrize("path", ["index/sp500_1999_2018.parquet", "crypto/bitvavo_1d/BTC_EUR.parquet"])
@pytest.mark.parametrize("name", RANGES)
def test_ranges_are_the_formula_on_real_bars(real_data, name, path):
    bars = pd.read_parquet(real_data / path).iloc[:1_200]
    found = RANGES[name](*ohlc(bars), 20, 252.0)
    np.testing.assert_allclose(found, by_the_formula(name, bars, 20, 252.0), rtol=1e-10)
    assert np.isfinite(found[20:]).all()


@pytest.mark.parametrize("window", [2, 3, 4, 20, 78, 399, 400])
def test_intraday_estimators_are_the_formula_window_by_window(window):
    """Barndorff-Nielsen and Shephard (2004): bipower variation with mu_1 = sqrt(2 / pi), and n / (n - 1)."""
    close = BARS["close"].to_numpy()
    r = [math.log(close[i] / close[i - 1]) for i in range(1, len(close))]
    bipower = bipower_variation(close, window, 288.0)
    realised, downside = realised_volatility(close, window, 288.0), downside_volatility(close, window, 288.0)
    for t in range(len(close)):
        if t < window:
            assert all(np.isnan(values[t]) for values in (*bipower, realised, downside))
            continue
        run = r[t - window : t]
        rv, down = sum(x * x for x in run), sum(x * x for x in run if x < 0)
        mu = math.sqrt(2 / math.pi)
        bv = mu**-2 * window / (window - 1) * sum(abs(run[i] * run[i - 1]) for i in range(1, window))
        year = 288.0 / window
        expected = [math.sqrt(rv * year), math.sqrt(bv * year), max(0.0, 1 - bv / rv)]
        np.testing.assert_allclose([values[t] for values in bipower], expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose([realised[t], downside[t]], [expected[0], math.sqrt(down * year)], rtol=1e-10)


# -- what the papers claim ---------------------------------------------------------------------------------------------

SIGMA, STEPS = 0.01, 1_000


@cache
def days(count: int, seed: int, drift: float = 0.0, gap: float = 0.0) -> pd.DataFrame:
    """Bars of Brownian days of 1 %; `drift` per day and `gap` over night in units of that."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(drift / STEPS, 1 / math.sqrt(STEPS), (count, STEPS)).cumsum(axis=1) * SIGMA
    nights = rng.normal(0.0, 1.0, count) * gap * SIGMA
    start = np.r_[0.0, (moves[:-1, -1] + nights[:-1]).cumsum()] + nights
    ends = {"high": moves.max(axis=1).clip(min=0.0), "low": moves.min(axis=1).clip(max=0.0), "close": moves[:, -1]}
    return pd.DataFrame({"open": np.exp(start)} | {name: np.exp(start + move) for name, move in ends.items()})


def over_truth(name, bars, truth=SIGMA):
    """Root mean square of the estimates from 20 days, over the truth."""
    return math.sqrt(np.nanmean(RANGES[name](*ohlc(bars), 20, 1.0) ** 2)) / truth


@pytest.mark.parametrize(
    ("name", "efficiency"),
    [
        ("parkinson", 4.9),  # Parkinson (1980): 2 / 0.407, "about five"
        ("garman_klass", 7.4),  # Garman and Klass (1980), for their equation 20
        ("rogers_satchell", 6.0),  # Rogers and Satchell (1991): 2 / 0.331 without drift
    ],
)
def test_a_range_is_as_efficient_as_its_paper_says(name, efficiency):
    """Variance of squared close-to-close returns over that of the estimator, each relative to its mean.

    6,000 days of 1,000 steps, seed 1. The tolerance of 15 %: about 5 % is the sampling error of the variances, and the
    rest what a path of finite steps misses of its extremes.
    """
    bars = days(6_000, seed=1)
    squared = realised_volatility(bars["close"].to_numpy(), 1, 1.0)[1:] ** 2
    estimates = RANGES[name](*ohlc(bars), 1, 1.0) ** 2
    found = (squared.var() / squared.mean() ** 2) / (estimates.var() / estimates.mean() ** 2)
    assert found == pytest.approx(efficiency, rel=0.15)


@pytest.mark.parametrize("window", [2, 5])
def test_yang_and_zhang_reduce_the_variance_of_closes_to_the_share_k(window):
    """Yang and Zhang (2000): without gaps 1 / k times as efficient, 12.8 for windows of two days, 8.4 for five."""
    bars, k = days(6_000, seed=1), 0.34 / (1.34 + (window + 1) / (window - 1))
    closes = rolling_volatility(bars["close"].to_numpy(), window, 1.0)[window:] ** 2
    estimates = yang_zhang(*ohlc(bars), window, 1.0)[window:] ** 2
    found = (closes.var() / closes.mean() ** 2) / (estimates.var() / estimates.mean() ** 2)
    assert found == pytest.approx(1 / k, rel=0.2)


@pytest.mark.parametrize("name", RANGES)
def test_without_drift_and_gaps_all_find_the_truth(name):
    """Up to the extremes that 1,000 steps miss: 0.583 of a step's deviation at each (Broadie and others, 1997)."""
    assert over_truth(name, days(6_000, seed=1)) == pytest.approx(0.98, abs=0.03)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("parkinson", 1.10, 1.25), ("garman_klass", 1.0, 1.12), ("rogers_satchell", 0.94, 1.0), ("yang_zhang", 0.94, 1.0)],
)
def test_a_drift_disturbs_those_that_assume_none(name, low, high):
    """A drift of one standard deviation a day."""
    assert low < over_truth(name, days(4_000, seed=2, drift=1.0)) < high


@pytest.mark.parametrize(
    ("name", "expected"), [("parkinson", 0.7), ("garman_klass", 0.7), ("rogers_satchell", 0.7), ("yang_zhang", 1.0)]
)
def test_only_yang_and_zhang_see_the_night(name, expected):
    """Nights as large as days: half of the variance, 1 / sqrt(2) of the volatility, is out of sight of the others."""
    assert over_truth(name, days(4_000, seed=3, gap=1.0), math.sqrt(2) * SIGMA) == pytest.approx(expected, abs=0.04)


def test_a_jump_is_in_the_realised_volatility_and_not_in_the_bipower_variation():
    """1,000 days of 390 minutes; in the second half each has one jump of four daily deviations."""
    r = np.random.default_rng(4).normal(0.0, SIGMA / math.sqrt(390), (1_000, 390))
    r[500:, 200] += 4 * SIGMA
    close = np.exp(np.r_[0.0, r.ravel().cumsum()])
    found = BipowerVariation(*(values[390::390] for values in bipower_variation(close, 390, 390.0)))
    calm, jumpy = slice(0, 500), slice(500, None)
    assert found.realised[calm].mean() == pytest.approx(SIGMA, rel=0.01)
    assert found.continuous[calm].mean() == pytest.approx(SIGMA, rel=0.01)
    assert found.realised[jumpy].mean() == pytest.approx(math.sqrt(17) * SIGMA, rel=0.02)
    assert found.continuous[jumpy].mean() == pytest.approx(SIGMA, rel=0.25)  # the two products with the jump remain
    assert found.jump_ratio[calm].mean() < 0.05
    assert found.jump_ratio[jumpy].min() > 0.8


# -- identities and edges ----------------------------------------------------------------------------------------------


def test_a_straight_climb_has_no_rogers_satchell_volatility():
    """Open at the low, close at the high: all of the range is drift."""
    o, c = np.array([100.0, 103.0, 90.0]), np.array([110.0, 104.0, 95.0])
    np.testing.assert_array_equal(rogers_satchell(o, c, o, c, window=1), [0.0, 0.0, 0.0])


def test_where_the_close_is_the_open_garman_klass_is_parkinson_in_another_unit():
    o, h, l, _ = ohlc(BARS)  # noqa: E741
    ratio = garman_klass(o, h, l, o, 20)[19:] / parkinson(h, l, 20)[19:]
    np.testing.assert_allclose(ratio, math.sqrt(2 * math.log(2)), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_where_nothing_moves_volatility_is_exactly_zero(name):
    """Also after a crash has left the window: a running sum would end beside zero, or below."""
    still = np.r_[1e3, np.full(80, 0.1)]
    with np.errstate(all="raise"):
        found = ALL[name](still, still, still, still, 20)
    assert (found[22:] == 0.0).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_bars_are_blank(name, count):
    assert np.isnan(ALL[name](*(column[:count] for column in ohlc(BARS)), 20)).all()


@given(st.floats(1e-6, 1e6), st.floats(1.0, 1e5), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_the_price_does_not_matter_and_time_scales_by_its_root(scale, periods, seed):
    bars = ohlc(probe_bars(60, seed=seed))
    for name, function in ALL.items():
        year = 1.0 if name == "jump_ratio" else math.sqrt(periods)
        found = function(*(column * scale for column in bars), 20, periods)
        np.testing.assert_allclose(found, year * function(*bars, 20, 1.0), rtol=1e-7, atol=1e-12, err_msg=name)


def test_falls_and_rises_share_the_variance():
    """Of a path and of its mirror image."""
    close = BARS["close"].to_numpy()
    both = downside_volatility(close, 30) ** 2 + downside_volatility(1 / close, 30) ** 2
    np.testing.assert_allclose(both, realised_volatility(close, 30) ** 2, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(max_examples=20, deadline=None)
def test_the_share_of_jumps_is_between_none_and_all(seed, window):
    close = np.exp(np.random.default_rng(seed).standard_cauchy(90).clip(-5, 5).cumsum() * 0.01)
    share = bipower_variation(close, window).jump_ratio[window:]
    assert ((share >= 0.0) & (share <= 1.0)).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("count", [0, 1, 22, 400])
def test_interpreted_as_compiled_to_the_bit(name, count):
    bars = [column[:count] for column in ohlc(BARS)]
    for window in (2, 7, 20):
        compiled = ALL[name](*bars, window)
        with interpreted():
            np.testing.assert_array_equal(ALL[name](*bars, window), compiled)


@pytest.mark.parametrize("name", ALL)
def test_later_bars_change_no_bit_earlier_ones_neither_and_leading_blanks_shift(name):
    """The last 21 bars decide, wherever the history starts: a runner sees what research saw."""
    bars = ohlc(probe_bars(2_500, seed=7))
    whole = ALL[name](*bars, 20)
    for cut in (1, 20, 21, 22, 1_043, 1_044, 1_045, 2_499):
        np.testing.assert_array_equal(ALL[name](*(column[:cut] for column in bars), 20), whole[:cut])
    for start in (1, 13, 1_024):
        np.testing.assert_array_equal(ALL[name](*(column[start:] for column in bars), 20)[21:], whole[start + 21 :])
    padded = ALL[name](*(np.r_[np.full(7, np.nan), column] for column in bars), 20)
    np.testing.assert_array_equal(padded, np.r_[np.full(7, np.nan), whole])


@pytest.mark.parametrize("window", [1, 2, 3, 4, 20, 1_500])
def test_means_of_whole_numbers_are_exact(window):
    x = np.random.default_rng(window).integers(-1_000, 1_000, 3_000).astype(float)
    expected = np.convolve(x, np.ones(window), "valid") / window
    np.testing.assert_array_equal(means(x, window, blank=3)[window + 2 :], expected)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
@pytest.mark.parametrize("price", [0.0, -1.0])
def test_a_price_that_has_no_logarithm_is_named_with_its_bar(column, price):
    bars = BARS.copy()
    bars.iloc[100, bars.columns.get_loc(column)] = price
    with pytest.raises(DataError, match=rf"{column} is {price:g} at 2000-04-10 .* above zero"):
        yang_zhang(*(bars[name] for name in ("open", "high", "low", "close")))


def test_a_bar_that_cannot_be_is_named():
    bars = BARS.copy()
    bars.iloc[100, bars.columns.get_loc("close")] = 2.0 * bars["high"].iloc[100]
    with pytest.raises(DataError, match=r"close .* is above high .* at 2000-04-10"):
        get("garman_klass")(bars)
    bars = BARS.copy()
    bars.iloc[7, bars.columns.get_loc("open")] = 0.5 * bars["low"].iloc[7]
    with pytest.raises(DataError, match=r"open .* is below low .* at row 7"):
        rogers_satchell(*ohlc(bars))
    with pytest.raises(DataError, match="high .* is below low .* at row 0"):
        parkinson(BARS["low"].to_numpy(), BARS["high"].to_numpy())


def test_a_price_before_all_columns_begin_is_nobodys_business():
    o, h, l, c = (column.copy() for column in ohlc(BARS))  # noqa: E741
    o[:5], c[:5] = np.nan, -1.0
    np.testing.assert_array_equal(yang_zhang(o, h, l, c)[5:], yang_zhang(o[5:], h[5:], l[5:], c[5:]))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("periods", [0.0, -1.0, np.inf, np.nan])
def test_a_year_has_a_positive_number_of_periods(name, periods):
    with pytest.raises(ParameterError, match="periods_per_year must be positive"):
        ALL[name](*ohlc(BARS), 20, periods)
