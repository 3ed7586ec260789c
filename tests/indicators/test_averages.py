"""Averages: TA-Lib's values and blanks, formulas written out, markets that stand still, and digits at any level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import dema, ema, hma, kama, probe_bars, sma, tema, vwma, wma

Average = Callable[..., Any]
WINDOWS = (2, 3, 5, 14, 20, 50, 199)
AS_TALIB: dict[str, tuple[Average, Callable[..., np.ndarray]]] = {
    "sma": (sma, talib.SMA),
    "ema": (ema, talib.EMA),
    "wma": (wma, talib.WMA),
    "dema": (dema, talib.DEMA),
    "tema": (tema, talib.TEMA),
    "kama": (kama, talib.KAMA),
}
EVERY: dict[str, Average] = {
    **{name: ours for name, (ours, _) in AS_TALIB.items()},
    "hma": hma,
    "vwma": lambda x, *window: vwma(x, x * 0 + 1.0, *window),
}
REAL = ["index/sp500_1999_2018.parquet", "crypto/binance_spot_5m/BTC_USDT.parquet", "forex/oanda_hour/EURUSD.parquet"]


def closes(folder: Any, path: str) -> np.ndarray:
    return pd.read_parquet(folder / path)["close"].to_numpy(dtype=np.float64, copy=True)


def windows_of(x: np.ndarray, window: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), window)


# -- TA-Lib ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", AS_TALIB)
def test_equal_to_talib_on_a_seeded_walk(name: str, window: int) -> None:
    ours, theirs = AS_TALIB[name]
    x = probe_bars(3_000, seed=window)["close"].to_numpy(copy=True)
    np.testing.assert_allclose(ours(x, window), theirs(x, window), rtol=1e-10, atol=0)


@pytest.mark.real_data
@pytest.mark.parametrize("path", REAL)
@pytest.mark.parametrize("window", [2, 10, 20, 200])
def test_equal_to_talib_on_real_bars(real_data: Any, path: str, window: int) -> None:
    x = closes(real_data, path)[:30_000]
    for name, (ours, theirs) in AS_TALIB.items():
        if name != "kama":
            np.testing.assert_allclose(ours(x, window), theirs(x, window), rtol=1e-10, atol=0, err_msg=name)


@pytest.mark.real_data
@pytest.mark.parametrize("path", REAL)
@pytest.mark.parametrize("window", [2, 10, 20, 200])
def test_kama_equals_talib_until_nothing_moves(real_data: Any, path: str, window: int) -> None:
    """From a window without any move on, TA-Lib's running sum decides by its rounding; ours is zero. Up to there:"""
    x = closes(real_data, path)[:30_000]
    still = np.flatnonzero(np.convolve(np.diff(x) != 0.0, np.ones(window), "valid") == 0.0)
    stop = int(still[0]) + window if len(still) else len(x)
    assert stop > 10 * window
    np.testing.assert_allclose(kama(x, window)[:stop], talib.KAMA(x, window)[:stop], rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", [name for name in AS_TALIB if name != "kama"])
@pytest.mark.parametrize("count", [1, 2, 19, 20, 38, 39, 57, 58, 59, 60])
def test_blank_exactly_as_long_as_talib(name: str, count: int) -> None:
    ours, theirs = AS_TALIB[name]
    x = probe_bars(60)["close"].to_numpy(copy=True)[:count]
    np.testing.assert_array_equal(np.isnan(ours(x, 20)), np.isnan(theirs(x, 20)))


@pytest.mark.parametrize("name", ["sma", "ema", "wma", "dema", "tema", "hma", "vwma"])
def test_the_average_of_one_bar_is_its_price(name: str) -> None:
    """TA-Lib refuses a window of one bar for most of them, and gives the price where it does not."""
    x = probe_bars(300, seed=1)["close"].to_numpy(copy=True)
    np.testing.assert_allclose(EVERY[name](x, 1), x, rtol=1e-15, atol=0)
    np.testing.assert_array_equal(talib.WMA(x, 1), x)


# -- formulas ----------------------------------------------------------------------------------------------------------


def test_kama_by_the_book() -> None:
    """Written from Kaufman's formulas, with the seed of TA-Lib: the close of the bar before the first value."""
    x = probe_bars(400, seed=3)["close"].to_numpy()
    window, fast, slow = 7, 3, 25
    expected, level = np.full(len(x), np.nan), x[window - 1]
    for t in range(window, len(x)):
        way = sum(abs(x[i] - x[i - 1]) for i in range(t - window + 1, t + 1))
        efficiency = abs(x[t] - x[t - window]) / way
        speed = (efficiency * (2 / (fast + 1) - 2 / (slow + 1)) + 2 / (slow + 1)) ** 2
        level += speed * (x[t] - level)
        expected[t] = level
    np.testing.assert_allclose(kama(x, window, fast, slow), expected, rtol=1e-12)


@pytest.mark.parametrize("window", [1, 2, 3, 9, 16, 55])
def test_hma_by_the_book(window: int) -> None:
    x = probe_bars(300, seed=4)["close"].to_numpy()

    def weighted(values: np.ndarray, length: int) -> np.ndarray:
        weights = np.arange(1.0, length + 1)
        mean = [values[t - length + 1 : t + 1] @ weights / weights.sum() for t in range(length - 1, len(values))]
        return np.concatenate([np.full(length - 1, np.nan), mean])

    ahead = 2 * weighted(x, max(window // 2, 1)) - weighted(x, window)
    np.testing.assert_allclose(hma(x, window), weighted(ahead, int(window**0.5)), rtol=1e-12)


@pytest.mark.parametrize("window", [1, 2, 3, 20, 63])
def test_vwma_by_the_book(window: int) -> None:
    bars = probe_bars(2_500, seed=5)
    price, volume = bars["close"], bars["volume"]
    expected = (price * volume).rolling(window).sum() / volume.rolling(window).sum()
    np.testing.assert_allclose(vwma(price, volume, window), expected, rtol=1e-12)


def test_a_weighted_mean_of_four_bars() -> None:
    """(1*1 + 2*2 + 3*4 + 4*8) / 10, by hand."""
    assert wma(np.array([1.0, 2.0, 4.0, 8.0]), 4)[3] == pytest.approx(4.9, rel=1e-15)


def test_nobody_traded_is_no_price_and_leaves_nothing_behind() -> None:
    price = np.arange(1.0, 11.0)
    volume = np.array([5.0, 1e18, 3.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0])
    found = vwma(price, volume, 2)
    expected = [2.0, 2.0, (3 * 3 + 4) / 4, 4.0, np.nan, 7.0, 7.5, 8.0, np.nan]
    np.testing.assert_allclose(found[1:], expected, rtol=1e-15)


# -- digits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [2, 14, 200])
def test_no_digits_are_lost_to_the_level_of_the_price(window: int) -> None:
    """At a million with moves of a hundredth, every average is right to the last digits of a double."""
    x = 1e6 + np.random.default_rng(window).normal(0.0, 0.01, 20_000)
    weights = np.arange(1, window + 1, dtype=np.longdouble)
    by_weights = windows_of(x, window) @ weights / weights.sum()
    assert np.abs(wma(x, window)[window - 1 :] / by_weights - 1).max() < 3e-16
    level, alpha = np.longdouble(0), np.longdouble(2) / (window + 1)
    exact = []
    for t, value in enumerate(x.astype(np.longdouble)):
        level = windows_of(x[:window], window).mean() if t == window - 1 else level + alpha * (value - level)
        exact.append(level)
    assert np.abs(ema(x, window)[window - 1 :] / np.array(exact[window - 1 :]) - 1).max() < 1e-15


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [0.1, 1e6 / 3, 1e-9])
def test_in_a_market_that_stands_still_every_average_is_the_price(name: str, value: float) -> None:
    """Exactly, where a strategy compares two of them: rounding must not be a crossing."""
    tolerance = 0.0 if name not in ("sma", "vwma") else 5e-16
    found = EVERY[name](np.full(2_000, value), 20)
    np.testing.assert_allclose(found[np.isfinite(found)], value, rtol=tolerance, atol=0)


@pytest.mark.parametrize("window", [2, 20, 50])
def test_exponential_averages_end_exactly_on_a_price_that_stopped(window: int) -> None:
    x = np.concatenate([probe_bars(500)["close"].to_numpy(), np.full(3_000, 107.3)])
    for average in (ema, dema, tema):
        assert average(x, window)[-1] == 107.3


# -- properties --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sma", "ema", "wma", "kama", "vwma"])
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_an_average_lies_between_the_prices(name: str, window: int, seed: int) -> None:
    x = np.random.default_rng(seed).lognormal(3.0, 0.5, 300)
    found = EVERY[name](x, window)
    known = found[np.isfinite(found)]
    assert x.min() * (1 - 1e-12) <= known.min() <= known.max() <= x.max() * (1 + 1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_an_average_moves_with_the_scale_and_with_the_level(name: str) -> None:
    x = probe_bars(600, seed=6)["close"].to_numpy()
    scaled, lifted, plain = (EVERY[name](y, 20) for y in (x * 8.0, x + 50.0, x))
    np.testing.assert_allclose(scaled, plain * 8.0, rtol=1e-13)
    np.testing.assert_allclose(lifted, plain + 50.0, rtol=1e-12)


# -- contract ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("window", [1, 2, 7, 20, 64])
def test_compiled_and_interpreted_agree_bit_for_bit(name: str, window: int) -> None:
    """Over more than a block and a restart."""
    x = probe_bars(1_150, seed=7)["close"].to_numpy()
    compiled = EVERY[name](x, window)
    with interpreted():
        np.testing.assert_array_equal(EVERY[name](x, window), compiled)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("cut", [20, 21, 61, 62, 1_044, 1_045, 1_199])
def test_later_bars_change_no_bit(name: str, cut: int) -> None:
    x = probe_bars(1_200, seed=8)["close"].to_numpy()
    np.testing.assert_array_equal(EVERY[name](x[:cut], 20), EVERY[name](x, 20)[:cut])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_bars_are_not_known_yet(name: str, count: int) -> None:
    assert np.isnan(EVERY[name](np.arange(1.0, count + 1.0), 20)).all()
    assert np.isnan(EVERY[name](np.arange(1.0, count + 1.0), 10**9)).all()


@pytest.mark.parametrize("name", EVERY)
def test_leading_blanks_shift_and_holes_are_refused(name: str) -> None:
    x = probe_bars(300)["close"].to_numpy(copy=True)
    padded = np.concatenate([np.full(9, np.nan), x])
    np.testing.assert_array_equal(EVERY[name](padded, 20)[9:], EVERY[name](x, 20))
    x[100] = np.nan
    with pytest.raises(DataError, match="holds nan at row 100"):
        EVERY[name](x, 20)


def test_the_speeds_of_kama_are_in_order() -> None:
    with pytest.raises(ParameterError, match="fast must be shorter than slow; got 30 and 2"):
        kama(np.arange(50.0), 10, fast=30, slow=2)
