"""Signals of two averages are what the averages say, however few of them are ever divided or written down."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib._threads import WORTHWHILE
from tradelib.errors import DataError
from tradelib.indicators import sma
from tradelib.indicators.averages import RESTART
from tradelib.strategies import TrendFollowing


def frame(close: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"close": close}, pd.date_range("2000-01-01", periods=len(close), freq="min", tz="UTC"))


def expected(close: np.ndarray, fast: int, slow: int, below: float) -> np.ndarray:
    one, other = sma(close, fast), sma(close, slow)
    return np.where(np.isnan(other), np.nan, np.where(one > other, 1.0, below))


def check(close: np.ndarray, fast: int, slow: int) -> None:
    for direction, below in (("long", 0.0), ("long_short", -1.0)):
        rule = TrendFollowing(fast=fast, slow=slow, direction=direction)
        np.testing.assert_array_equal(rule.signals(frame(close)), expected(close, fast, slow, below))


def prices(kind: str, n: int, seed: int) -> np.ndarray:
    """Walks, and what makes averages equal: prices that stand still, few different ones, decimals without a binary."""
    rng = np.random.default_rng(seed)
    kinds = {
        "walk": lambda: 100.0 + np.cumsum(rng.normal(size=n)),
        "still": lambda: np.full(n, 0.1),
        "steps": lambda: 0.1 + (rng.random(n) < 0.01),
        "ticks": lambda: np.round(100.0 + rng.normal(size=n), 1),
        "large": lambda: 1e300 * (1.0 + 1e-9 * rng.normal(size=n)),
        "signs": lambda: rng.normal(size=n),
    }
    return kinds[kind]()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["walk", "still", "steps", "ticks", "large", "signs"]),
    n=st.sampled_from([1, 40, RESTART, 4 * RESTART + 7, 9 * RESTART]),
    windows=st.tuples(st.integers(1, 60), st.integers(1, 1_500)),
    blank=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_signals_are_those_of_the_averages(kind: str, n: int, windows: tuple[int, int], blank: int, seed: int) -> None:
    close = prices(kind, n, seed)
    close[:blank] = np.nan
    check(close, windows[0], windows[0] + windows[1])


@pytest.mark.parametrize("windows", [(1, 2), (2, 3), (3, 7), (5, 20), (7, 49)])
def test_means_that_only_rounding_tells_apart(windows: tuple[int, int]) -> None:
    """Cross products of the sums would say otherwise on a few bars of these: there means are compared."""
    for seed in range(10):
        check(prices("ticks", 9 * RESTART, seed), *windows)


@pytest.mark.parametrize("kind", ["walk", "ticks"])
def test_on_two_cores_as_on_one(kind: str) -> None:
    check(prices(kind, WORTHWHILE + 5 * RESTART, 1), 50, 200)


def test_interpreted_as_compiled() -> None:
    close = prices("ticks", 5 * RESTART, 2)
    with interpreted():
        found = TrendFollowing(fast=3, slow=7).signals(frame(close))
    np.testing.assert_array_equal(found, expected(close, 3, 7, 0.0))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [1, 199, 200, 4 * RESTART + 200, 5 * RESTART, 9 * RESTART - 1])
def test_a_price_that_is_no_number_is_named(wrong: float, row: int) -> None:
    close = prices("walk", 9 * RESTART, 3)
    close[row] = wrong
    later = {"fast": 50, "slow": 10 * RESTART}  # no average is ready yet
    for rule in (TrendFollowing(), TrendFollowing(average="ema"), TrendFollowing(**later)):
        with pytest.raises(DataError, match=rf"holds -?(nan|inf) at .*{row}.*: repair the data first"):
            rule.signals(frame(close))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [1, 19, 20, RESTART + 18, RESTART + 19, 4 * RESTART + 19, 9 * RESTART - 1])
def test_so_does_an_average(wrong: float, row: int) -> None:
    """It is not searched for: it is found in the sums."""
    close = prices("walk", 9 * RESTART, 4)
    close[row] = wrong
    for short in (close, close[: row + 1], close[:10]):
        if row < len(short):
            with pytest.raises(DataError, match=rf"holds -?(nan|inf) at row {row}: repair"):
                sma(short, 20)


def test_sums_beyond_the_largest_number_are_not_called_holes() -> None:
    close = np.full(400, 1.5e308)
    assert np.isinf(sma(close, 20)[19:]).all()
    assert TrendFollowing(fast=5, slow=20).signals(frame(close)).iloc[19:].eq(0.0).all()
