"""Two series bar by bar: equal to TA-Lib, pandas and statsmodels where those are exact, and exact elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.rolling import RollingOLS

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    pair_spread,
    rolling_beta,
    rolling_correlation,
    rolling_covariance,
    rolling_hedge_ratio,
    rolling_rank,
    rolling_zscore,
)

TIME = {"index": "date", "crypto": "time", "forex": "time"}
WINDOWS = (2, 3, 5, 14, 30, 199, 600)
TWO_SERIES: dict[str, Callable[..., Any]] = {
    "correlation": rolling_correlation,
    "covariance": rolling_covariance,
    "beta": rolling_beta,
}


def related(n: int = 2_500, seed: int = 0, level: float = 0.0, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Two series of white noise, correlated by about 0.7, around a level."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0.0, noise, n)
    return level + common + rng.normal(0.0, noise, n), level + 2.0 * common + rng.normal(0.0, noise, n)


def prices(n: int = 2_500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = related(n, seed)
    return 100.0 * np.exp(np.cumsum(x)), 30.0 * np.exp(np.cumsum(y))


def windows_of(x: np.ndarray, window: int) -> np.ndarray:
    """Every full window as a row, in extended precision, less its first value: exact, and without the level."""
    rows = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), window)
    return rows - rows[:, :1]


def by_formula(kind: str, x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """The textbook formula of each window by itself, in extended precision."""
    u, v = (each - each.mean(axis=1, keepdims=True) for each in (windows_of(x, window), windows_of(y, window)))
    xy, xx, yy = (u * v).sum(axis=1), (u * u).sum(axis=1), (v * v).sum(axis=1)
    xx, yy = (np.where(each == 0.0, np.nan, each) for each in (xx, yy))
    return {"correlation": xy / np.sqrt(xx * yy), "covariance": xy / (window - 1), "slope": xy / yy}[kind]


# -- against other libraries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("level", [0.0, 1e2])
def test_correlation_and_beta_equal_talib(window: int, level: float) -> None:
    """Of two or three values TA-Lib itself has fewer digits: it squares a slope that is all rounding."""
    x, y = related(level=level)
    close, market = prices()
    few = {"rtol": 1e-6, "atol": 1e-6} if window < 5 else {"rtol": 1e-10, "atol": 1e-10}
    for ours, theirs in (
        (rolling_correlation(x, y, window), talib.CORREL(x, y, window)),
        (rolling_correlation(close, market, window), talib.CORREL(close, market, window)),
        (rolling_beta(close, market, window), talib.BETA(market, close, window)),
    ):
        np.testing.assert_allclose(ours, theirs, **few)


@pytest.mark.real_data
@pytest.mark.parametrize("window", [5, 14, 30, 250])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("index/sp500_1999_2018.parquet", "index/nasdaq_1999_2018.parquet"),
        ("crypto/binance_spot_5m/ETH_USDT.parquet", "crypto/binance_spot_5m/BTC_USDT.parquet"),
        ("forex/oanda_daily/EURUSD.parquet", "forex/oanda_daily/GBPUSD.parquet"),
    ],
)
def test_equal_to_talib_on_real_prices_except_where_nothing_moves(
    real_data: Path, one: str, other: str, window: int
) -> None:
    """There, in the outage of the exchange on 2023-03-24, TA-Lib says 0, which would be a correlation."""
    frames = [pd.read_parquet(real_data / path).set_index(TIME[path.split("/")[0]])["close"] for path in (one, other)]
    both = pd.concat(frames, axis=1, join="inner").to_numpy(dtype=float)[-50_000:][:15_000]
    x, y = both[:, 0].copy(), both[:, 1].copy()
    u, v = np.diff(x) / x[:-1], np.diff(y) / y[:-1]
    for ours, theirs, exact in (
        (rolling_correlation(x, y, window), talib.CORREL(x, y, window), by_formula("correlation", x, y, window)),
        (rolling_beta(x, y, window), talib.BETA(y, x, window), by_formula("slope", u, v, window)),
    ):
        known, near = ~np.isnan(ours), np.isclose(ours, theirs, rtol=1e-10, atol=2e-10)
        np.testing.assert_allclose(ours[-len(exact) :], exact.astype(float), rtol=1e-11, atol=5e-13)
        assert (~near[known]).sum() <= 2  # bars beside the outage, where TA-Lib still has what its sums held before
        assert (np.nan_to_num(theirs[~known]) == 0.0).all()


@pytest.mark.parametrize("window", WINDOWS[1:])
def test_equal_to_pandas_on_values_without_a_level(window: int) -> None:
    x, y = map(pd.Series, related())
    for ours, theirs in (
        (rolling_correlation(x, y, window), x.rolling(window).corr(y)),
        (rolling_covariance(x, y, window), x.rolling(window).cov(y)),
        (rolling_zscore(x, window), (x - x.rolling(window).mean()) / x.rolling(window).std()),
        (rolling_rank(x, window), (x.rolling(window).rank() - 1) / (window - 1)),
    ):
        pd.testing.assert_series_equal(ours, theirs, check_names=False, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("window", [10, 60, 250])
def test_the_hedge_ratio_is_that_of_statsmodels(window: int) -> None:
    y, x = (pd.Series(np.log(each)) for each in prices(700))
    design = pd.DataFrame({"constant": 1.0, "other": x})
    theirs = RollingOLS(y, design, window=window).fit().params
    ours = rolling_hedge_ratio(np.exp(y), np.exp(x), window)
    pd.testing.assert_series_equal(ours.hedge_ratio, theirs["other"], check_names=False, rtol=1e-6)
    pd.testing.assert_series_equal(ours.intercept, theirs["constant"], check_names=False, rtol=1e-5, atol=1e-6)
    expected = y - theirs["constant"] - theirs["other"] * x
    pd.testing.assert_series_equal(ours.residual, expected, check_names=False, rtol=1e-6, atol=1e-9)


def test_the_published_figures_of_anscombe() -> None:
    """Anscombe, "Graphs in Statistical Analysis", The American Statistician 27 (1973): r^2 0.667, y = 3 + 0.5 x."""
    x = np.array([10.0, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5])
    y = np.array([8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68])
    line = rolling_hedge_ratio(y, x, 11, log=False)
    assert round(rolling_correlation(x, y, 11)[-1] ** 2, 3) == 0.667
    assert (round(line.hedge_ratio[-1], 3), round(line.intercept[-1], 2)) == (0.5, 3.0)
    assert round(rolling_covariance(x, x, 11)[-1], 10) == 11.0  # the variance of x that the paper gives
    assert line.residual[-1] == pytest.approx(5.68 - 3.00009 - 0.50009 * 5, abs=1e-4)


# -- digits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("window", [3, 20, 64, 255, 700])
def test_no_digits_cancel_at_any_level(level: float, window: int) -> None:
    """The textbook's sum of products, of a million squared, would leave none."""
    x, y = related(1_500, seed=window, level=level)
    for kind, function in (("correlation", rolling_correlation), ("covariance", rolling_covariance)):
        exact = by_formula(kind, x, y, window)
        scale = 1.0 if kind == "correlation" else 1e-4
        assert np.abs(function(x, y, window)[window - 1 :] - exact).max() < 2e-13 * scale, kind
    u = windows_of(x, window)
    exact = (u[:, -1] - u.mean(axis=1)) / u.std(axis=1, ddof=1)
    assert np.abs(rolling_zscore(x, window)[window - 1 :] - exact).max() < 2e-13


def test_a_sum_of_products_has_lost_them() -> None:
    """The case above would say nothing if the textbook's formula passed it."""
    x, y = related(1_500, level=1e6)
    means = pd.Series(x).rolling(20).mean() * pd.Series(y).rolling(20).mean()
    plain = (pd.Series(x * y).rolling(20).mean() - means)[19:] * 20 / 19
    assert np.abs(plain - by_formula("covariance", x, y, 20).astype(float)).max() > 1e-5


@pytest.mark.parametrize("window", [5, 20])
def test_a_spike_that_left_the_window_leaves_nothing_behind(window: int) -> None:
    x, y = related(300, noise=1e-4)
    spiked = x.copy()
    spiked[100] = 1e9
    for function in (rolling_correlation, rolling_covariance):
        np.testing.assert_array_equal(
            function(spiked, y, window)[100 + window :], function(x, y, window)[100 + window :]
        )
    np.testing.assert_array_equal(
        rolling_zscore(spiked, window)[100 + window :], rolling_zscore(x, window)[100 + window :]
    )


@given(st.integers(2, 90), st.integers(0, 150), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_start_of_the_history_is_of_no_account(window: int, start: int, seed: int) -> None:
    x, y = related(400, seed)
    for function in (rolling_correlation, rolling_covariance):
        whole, part = function(x, y, window)[start + window - 1 :], function(x[start:], y[start:], window)[window - 1 :]
        np.testing.assert_allclose(part, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("window", [2, 20, 513])
def test_interpreted_as_compiled_bit_for_bit(window: int) -> None:
    x, y = prices(1_500)
    functions = [
        *(lambda f=f: f(x, y, window) for f in TWO_SERIES.values()),
        lambda: np.column_stack(rolling_hedge_ratio(x, y, window)),
        lambda: rolling_zscore(x, window),
        lambda: rolling_rank(np.round(x[:700]), window),
    ]
    for function in functions:
        compiled = function()
        with interpreted():
            np.testing.assert_array_equal(function(), compiled)


# -- what nothing moves in, and other edges ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1e6 / 3, 7.0])
def test_a_constant_series_has_no_correlation_no_beta_and_no_score(value: float) -> None:
    x, _ = prices(120)
    still = np.full(120, value)
    assert np.isnan(rolling_correlation(x, still, 20)).all()
    assert np.isnan(rolling_correlation(still, still, 20)).all()
    assert np.isnan(rolling_beta(x, still, 20)).all()
    assert np.isnan(np.column_stack(rolling_hedge_ratio(x, still, 20))).all()
    assert np.isnan(rolling_zscore(still, 20)).all()
    assert (rolling_covariance(x, still, 20)[19:] == 0.0).all()
    assert (rolling_beta(still, x, 20)[20:] == 0.0).all()
    assert (rolling_rank(still, 20)[19:] == 0.5).all()


def test_values_begin_again_when_the_market_moves_again() -> None:
    x, y = related(200)
    x[50:100] = x[50]
    known = ~np.isnan(rolling_correlation(x, y, 20))
    assert known[19:69].all()
    assert not known[69:100].any()
    assert known[100:].all()


@pytest.mark.parametrize("name", TWO_SERIES)
@pytest.mark.parametrize("length", [0, 1, 19, 20, 21, 511, 512, 531, 532])
@pytest.mark.parametrize("first", [0, 5])
def test_blank_until_the_window_is_full(name: str, length: int, first: int) -> None:
    x, y = prices(length)
    x[:first] = np.nan
    ready = first + 19 + (name == "beta")
    known = ~np.isnan(TWO_SERIES[name](x, y, 20))
    np.testing.assert_array_equal(known, np.arange(length) >= ready)


def test_names_and_times_are_kept() -> None:
    x, y = (pd.Series(each, pd.date_range("2024", periods=100, tz="UTC")) for each in prices(100))
    assert rolling_correlation(x, y).name == "correlation_30"
    assert [part.name for part in rolling_hedge_ratio(x, y, 20)] == ["hedge_ratio_20", "intercept_20", "residual_20"]
    assert rolling_beta(x, y, 20).index is x.index


BAD: dict[str, tuple[Callable[[pd.Series, pd.Series], object], type[Exception], str]] = {
    "window 1": (lambda x, y: rolling_correlation(x, y, 1), ParameterError, "at least 2; got 1"),
    "rank of one": (lambda x, y: rolling_rank(x, 1), ParameterError, "at least 2; got 1"),
    "lengths": (lambda x, y: rolling_covariance(x, y[1:], 5), DataError, "differ in length"),
    "times": (lambda x, y: rolling_beta(x, y.shift(freq="D"), 5), DataError, "different bars"),
    "order": (lambda x, y: rolling_zscore(x[::-1], 5), DataError, "comes after"),
    "hole": (
        lambda x, y: rolling_correlation(x, y.where(y.index != y.index[7]), 5),
        DataError,
        "other holds nan at 2024-01-08",
    ),
    "zero price": (
        lambda x, y: rolling_beta(x, y * (y.index != y.index[7]), 5),
        DataError,
        "other is 0.0 at 2024-01-08",
    ),
    "negative price": (lambda x, y: rolling_hedge_ratio(-x, y, 5), DataError, "close is -.* at 2024-01-01"),
    "log of nothing": (lambda x, y: pair_spread(x, -y), DataError, "other is -.* positive prices"),
    "method": (lambda x, y: pair_spread(x, y, method="percent"), ParameterError, "got 'percent'"),
    "ratio of zero": (lambda x, y: pair_spread(x, y, 0.0, "ratio"), ParameterError, "must not be zero"),
    "no number": (lambda x, y: pair_spread(x, y, float("nan")), ParameterError, "finite number; got nan"),
    "its lengths": (lambda x, y: pair_spread(x, y, y[1:]), DataError, "differ in length"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name: str) -> None:
    call, error, words = BAD[name]
    x, y = (pd.Series(each, pd.date_range("2024", periods=50, tz="UTC")) for each in prices(50))
    with pytest.raises(error, match=words):
        call(x, y)


# -- spreads -----------------------------------------------------------------------------------------------------------


def test_spreads_by_hand() -> None:
    """close 8 and 9, other 2 and 3, hedge ratio 2: ln 8 - 2 ln 2 = ln 2; 8 - 4 = 4; 8 / 4 = 2."""
    close, other = np.array([8.0, 9.0]), np.array([2.0, 3.0])
    np.testing.assert_allclose(pair_spread(close, other, 2.0), [np.log(2.0), 0.0], atol=1e-15)
    np.testing.assert_array_equal(pair_spread(close, other, 2.0, "difference"), [4.0, 3.0])
    np.testing.assert_array_equal(pair_spread(close, other, 2.0, "ratio"), [2.0, 1.5])
    np.testing.assert_array_equal(pair_spread(-close, other, 2.0, "difference"), [-12.0, -15.0])


def test_a_hedge_ratio_that_is_not_known_yet_leaves_the_spread_blank() -> None:
    x, y = prices(100)
    line = rolling_hedge_ratio(x, y, 20)
    spread = pair_spread(x, y, line.hedge_ratio)
    np.testing.assert_array_equal(np.isnan(spread), np.arange(100) < 19)
    np.testing.assert_allclose(spread[19:] - line.intercept[19:], line.residual[19:], atol=1e-10)


# -- properties --------------------------------------------------------------------------------------------------------

FINITE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)
SERIES = st.lists(st.tuples(FINITE, FINITE), min_size=3, max_size=60).map(lambda rows: np.array(rows).T)


@given(SERIES, st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_bounds_hold_for_anything(pair: np.ndarray, window: int) -> None:
    x, y = np.ascontiguousarray(pair[0]), np.ascontiguousarray(pair[1])
    correlation, score, rank = rolling_correlation(x, y, window), rolling_zscore(x, window), rolling_rank(x, window)
    for values in (correlation, score, rank):
        assert not np.isinf(values).any()
    assert np.nanmax(np.abs(correlation), initial=0.0) <= 1.0
    assert np.nanmax(np.abs(score), initial=0.0) <= (window - 1) / np.sqrt(window) * (1 + 1e-6)
    assert np.nanmin(rank, initial=0.0) >= 0.0
    assert np.nanmax(rank, initial=0.0) <= 1.0
    np.testing.assert_array_equal(correlation, rolling_correlation(y, x, window))


@given(st.floats(0.01, 100.0), st.floats(-100.0, 100.0), st.sampled_from([-1.0, 1.0]))
@settings(max_examples=30, deadline=None)
def test_scale_and_shift(scale: float, shift: float, sign: float) -> None:
    x, y = related(200)
    u = sign * scale * x + shift
    np.testing.assert_allclose(
        rolling_correlation(u, y, 20), sign * rolling_correlation(x, y, 20), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(rolling_zscore(u, 20), sign * rolling_zscore(x, 20), rtol=1e-5, atol=1e-7)
    close, market = prices(200)
    np.testing.assert_allclose(rolling_beta(scale * close, market, 20), rolling_beta(close, market, 20), rtol=1e-6)


def test_a_rank_hears_only_the_order() -> None:
    x, _ = prices(400)
    np.testing.assert_array_equal(rolling_rank(x, 50), rolling_rank(np.log(x), 50))
    np.testing.assert_allclose(rolling_rank(-x, 50), 1.0 - rolling_rank(x, 50), rtol=1e-12, atol=1e-15)
