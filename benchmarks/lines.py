"""Ten indicators in one library on one core: `python -m benchmarks.lines LIBRARY BARS ARRAYS` prints one JSON line.

Each runs through the library's own public call, from arrays (or its own Series) to new outputs. Nanoseconds per bar
are the median of the calls after a first one, and the best of them. The accuracy of the standard deviation is its
largest relative error against extended precision, at three levels of the price. Needs numpy and the library alone.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.setting import make_data

__all__ = ["CASES", "LEVELS", "LIBRARIES", "PACKAGES", "accuracy", "measure"]

CASES = (
    "SMA 20", "EMA 20", "RSI 14", "ATR 14", "MACD 12 26 9", "Bollinger 20", "stochastic 14 3", "standard deviation 20",
    "ADX 14", "Ichimoku 9 26 52",
)  # fmt: skip
LEVELS = (1e2, 1e4, 1e6)
PACKAGES = {"tradelib": "tradelib", "TA-Lib": "ta-lib", "tulipy": "tulipy", "bottleneck": "bottleneck",
            "pandas": "pandas", "polars": "polars"}  # fmt: skip
LEAST_SECONDS, LEAST_CALLS, MOST_CALLS = 0.4, 5, 200
NOISE, WINDOW = 0.01, 20

Lines = dict[str, Callable[[], Any]]


def _tradelib(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Lines:
    from tradelib import indicators as t

    return {
        "SMA 20": lambda: t.sma(close, 20),
        "EMA 20": lambda: t.ema(close, 20),
        "RSI 14": lambda: t.rsi(close, 14),
        "ATR 14": lambda: t.atr(high, low, close, 14),
        "MACD 12 26 9": lambda: t.macd(close, 12, 26, 9),
        "Bollinger 20": lambda: t.bollinger_bands(close, 20, 2.0)[:3],
        "stochastic 14 3": lambda: t.stochastic_fast(high, low, close, 14, 3),
        "standard deviation 20": lambda: t.rolling_std(close, 20, ddof=0),
        "ADX 14": lambda: t.adx(high, low, close, 14)[0],
        "Ichimoku 9 26 52": lambda: t.ichimoku(high, low, displacement=0),
    }


def _talib(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Lines:
    import talib as t

    def ichimoku() -> Any:
        tenkan, kijun, third = ((t.MAX(high, w) + t.MIN(low, w)) / 2 for w in (9, 26, 52))
        return tenkan, kijun, (tenkan + kijun) / 2, third

    return {
        "SMA 20": lambda: t.SMA(close, 20),
        "EMA 20": lambda: t.EMA(close, 20),
        "RSI 14": lambda: t.RSI(close, 14),
        "ATR 14": lambda: t.ATR(high, low, close, 14),
        "MACD 12 26 9": lambda: t.MACD(close, 12, 26, 9),
        "Bollinger 20": lambda: t.BBANDS(close, 20, 2, 2),
        "stochastic 14 3": lambda: t.STOCHF(high, low, close, 14, 3, 0),  # type: ignore[arg-type]
        "standard deviation 20": lambda: t.STDDEV(close, 20),
        "ADX 14": lambda: t.ADX(high, low, close, 14),
        "Ichimoku 9 26 52": ichimoku,
    }


def _tulipy(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Lines:
    import tulipy as t

    def ichimoku() -> Any:
        tenkan, kijun, third = ((t.max(high, w) + t.min(low, w)) / 2 for w in (9, 26, 52))
        return tenkan, kijun, (tenkan[-len(kijun) :] + kijun) / 2, third

    def bands() -> Any:
        lower, middle, upper = t.bbands(close, 20, 2)
        return upper, middle, lower

    return {
        "SMA 20": lambda: t.sma(close, 20),
        "EMA 20": lambda: t.ema(close, 20),
        "RSI 14": lambda: t.rsi(close, 14),
        "ATR 14": lambda: t.atr(high, low, close, 14),
        "MACD 12 26 9": lambda: t.macd(close, 12, 26, 9),
        "Bollinger 20": bands,
        "stochastic 14 3": lambda: t.stoch(high, low, close, 14, 1, 3),
        "standard deviation 20": lambda: t.stddev(close, 20),
        "ADX 14": lambda: t.adx(high, low, close, 14),
        "Ichimoku 9 26 52": ichimoku,
    }


def _bottleneck(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Lines:
    import bottleneck as b

    def bands() -> Any:
        middle, deviation = b.move_mean(close, 20), b.move_std(close, 20)
        return middle + 2 * deviation, middle, middle - 2 * deviation

    def stochastic() -> Any:
        top, bottom = b.move_max(high, 14), b.move_min(low, 14)
        k = 100 * (close - bottom) / (top - bottom)
        return k, b.move_mean(k, 3)

    def ichimoku() -> Any:
        tenkan, kijun, third = ((b.move_max(high, w) + b.move_min(low, w)) / 2 for w in (9, 26, 52))
        return tenkan, kijun, (tenkan + kijun) / 2, third

    return {
        "SMA 20": lambda: b.move_mean(close, 20),
        "Bollinger 20": bands,
        "stochastic 14 3": stochastic,
        "standard deviation 20": lambda: b.move_std(close, 20),
        "Ichimoku 9 26 52": ichimoku,
    }


def _pandas(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Lines:
    import pandas as pd

    h, l, c = (pd.Series(values) for values in (high, low, close))  # noqa: E741

    def wilder(values: Any) -> Any:
        return values.ewm(alpha=1 / 14, adjust=False, min_periods=14).mean()

    def true_range() -> Any:
        return np.maximum(np.maximum(h - l, (h - c.shift()).abs()), (l - c.shift()).abs())

    def rsi() -> Any:
        change = c.diff()
        return 100 - 100 / (1 + wilder(change.clip(lower=0)) / wilder(-change.clip(upper=0)))

    def macd() -> Any:
        line = c.ewm(span=12, adjust=False).mean() - c.ewm(span=26, adjust=False).mean()
        signal = line.ewm(span=9, adjust=False).mean()
        return line, signal, line - signal

    def bands() -> Any:
        middle, deviation = c.rolling(20).mean(), c.rolling(20).std(ddof=0)
        return middle + 2 * deviation, middle, middle - 2 * deviation

    def stochastic() -> Any:
        bottom = l.rolling(14).min()
        k = 100 * (c - bottom) / (h.rolling(14).max() - bottom)
        return k, k.rolling(3).mean()

    def adx() -> Any:
        up, down, average = h.diff(), -l.diff(), wilder(true_range())
        plus = 100 * wilder(up.where((up > down) & (up > 0), 0.0)) / average
        minus = 100 * wilder(down.where((down > up) & (down > 0), 0.0)) / average
        return wilder(100 * (plus - minus).abs() / (plus + minus))

    def ichimoku() -> Any:
        tenkan, kijun, third = ((h.rolling(w).max() + l.rolling(w).min()) / 2 for w in (9, 26, 52))
        return tenkan, kijun, (tenkan + kijun) / 2, third

    return {
        "SMA 20": lambda: c.rolling(20).mean(),
        "EMA 20": lambda: c.ewm(span=20, adjust=False).mean(),
        "RSI 14": rsi,
        "ATR 14": lambda: wilder(true_range()),
        "MACD 12 26 9": macd,
        "Bollinger 20": bands,
        "stochastic 14 3": stochastic,
        "standard deviation 20": lambda: c.rolling(20).std(ddof=0),
        "ADX 14": adx,
        "Ichimoku 9 26 52": ichimoku,
    }


def _polars(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> Lines:
    import polars as pl

    h, l, c = (pl.Series(values) for values in (high, low, close))  # noqa: E741

    def bands() -> Any:
        middle, deviation = c.rolling_mean(20), c.rolling_std(20, ddof=0)
        return middle + 2 * deviation, middle, middle - 2 * deviation

    def macd() -> Any:
        line = c.ewm_mean(span=12, adjust=False) - c.ewm_mean(span=26, adjust=False)
        signal = line.ewm_mean(span=9, adjust=False)
        return line, signal, line - signal

    def stochastic() -> Any:
        bottom = l.rolling_min(14)
        k = 100 * (c - bottom) / (h.rolling_max(14) - bottom)
        return k, k.rolling_mean(3)

    def ichimoku() -> Any:
        tenkan, kijun, third = ((h.rolling_max(w) + l.rolling_min(w)) / 2 for w in (9, 26, 52))
        return tenkan, kijun, (tenkan + kijun) / 2, third

    return {
        "SMA 20": lambda: c.rolling_mean(20),
        "EMA 20": lambda: c.ewm_mean(span=20, adjust=False),
        "MACD 12 26 9": macd,
        "Bollinger 20": bands,
        "stochastic 14 3": stochastic,
        "standard deviation 20": lambda: c.rolling_std(20, ddof=0),
        "Ichimoku 9 26 52": ichimoku,
    }


LIBRARIES: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Lines]] = {
    "tradelib": _tradelib,
    "TA-Lib": _talib,
    "tulipy": _tulipy,
    "bottleneck": _bottleneck,
    "pandas": _pandas,
    "polars": _polars,
}


def measure(library: str, bars: int, arrays: str) -> dict[str, Any]:
    """Times and accuracies of one library; its outputs go to the file `arrays`, aligned at their ends."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    prices = [np.ascontiguousarray(row) for row in make_data("w1", bars)[1:]]
    calls = LIBRARIES[library](*prices)
    outputs, took = dict[str, np.ndarray](), dict[str, tuple[float, float]]()
    for case, call in calls.items():
        outputs |= {f"{case}/{i}": values for i, values in enumerate(_arrays(call()))}
        took[case] = _timed(call, bars)
    np.savez(arrays, allow_pickle=False, **outputs)
    version = importlib.metadata.version(PACKAGES[library])
    return {"library": library, "version": version, "took": took, "accuracy": accuracy(library)}


def _arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(part, dtype=float) for part in (result if isinstance(result, tuple | list) else (result,))]


def _timed(call: Callable[[], Any], bars: int) -> tuple[float, float]:
    """Median and best nanoseconds per bar."""
    seconds: list[float] = []
    gc.collect()
    while len(seconds) < LEAST_CALLS or (sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_CALLS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) / bars * 1e9, min(seconds) / bars * 1e9


def accuracy(library: str) -> list[float]:
    """Largest relative error of the standard deviation at each of `LEVELS`, with noise of one hundredth."""
    errors, noise = [], np.random.default_rng(3).normal(0.0, NOISE, 20_000)
    for level in LEVELS:
        x = level + noise
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), WINDOW)
        exact = windows.std(axis=1).astype(float)
        (found,) = _arrays(LIBRARIES[library](x, x, x)["standard deviation 20"]())
        errors.append(float(np.max(np.abs(np.nan_to_num(found[-len(exact) :]) / exact - 1.0))))
    return errors


if __name__ == "__main__":
    json.dump(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3]), sys.stdout)
