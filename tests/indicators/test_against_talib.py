"""Every indicator equals TA-Lib 0.8 (an independent C library), blanks and seeding included."""

import numpy as np
import pandas as pd
import pytest
import talib

from tradelib._jit import interpreted
from tradelib.indicators import atr, ema, probe_bars, rolling_volatility, rsi, sma

WINDOWS = (2, 3, 14, 50, 199)


def calls(window):
    """(name, tradelib, TA-Lib) for one window, each a function of bars."""
    return [
        ("sma", lambda b: sma(b["close"], window), lambda b: talib.SMA(b["close"].to_numpy(copy=True), window)),
        ("ema", lambda b: ema(b["close"], window), lambda b: talib.EMA(b["close"].to_numpy(copy=True), window)),
        ("rsi", lambda b: rsi(b["close"], window), lambda b: talib.RSI(b["close"].to_numpy(copy=True), window)),
        (
            "atr",
            lambda b: atr(b["high"], b["low"], b["close"], window),
            lambda b: talib.ATR(*(b[c].to_numpy(copy=True) for c in ("high", "low", "close")), window),
        ),
    ]


def assert_equal_to_talib(bars, window):
    for name, ours, theirs in calls(window):
        np.testing.assert_allclose(ours(bars), theirs(bars), rtol=1e-10, atol=1e-10, err_msg=f"{name} {window}")


@pytest.mark.parametrize("window", WINDOWS)
def test_equal_on_a_seeded_walk(window):
    assert_equal_to_talib(probe_bars(3_000, seed=window), window)


@pytest.mark.real_data
@pytest.mark.parametrize("path", ["index/sp500_1999_2018.parquet", "crypto/binance_spot_5m/BTC_USDT.parquet"])
@pytest.mark.parametrize("window", WINDOWS)
def test_equal_on_real_bars(real_data, path, window):
    assert_equal_to_talib(pd.read_parquet(real_data / path), window)


def test_a_flat_market_has_rsi_zero_as_in_talib():
    flat = np.full(40, 5.0)
    np.testing.assert_array_equal(rsi(flat, 14), talib.RSI(flat, 14))


@pytest.mark.parametrize("window", WINDOWS)
def test_compiled_and_interpreted_kernels_agree_bit_for_bit(window):
    bars = probe_bars(2_500, seed=7)
    functions = [ours for _, ours, _ in calls(window)] + [lambda b: rolling_volatility(b["close"], window)]
    for function in functions:
        compiled = function(bars)
        with interpreted():
            pd.testing.assert_series_equal(function(bars), compiled, check_exact=True)


@pytest.mark.parametrize("window", WINDOWS)
def test_values_do_not_depend_on_the_future(window):
    bars = probe_bars(1_200, seed=9)
    for _, ours, _ in calls(window):
        full = ours(bars)
        for cut in (window, window + 1, 700, 1_199):
            pd.testing.assert_series_equal(ours(bars.iloc[:cut]), full.iloc[:cut], check_exact=True)
