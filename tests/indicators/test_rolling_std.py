"""The rolling standard deviation under volatility: digits that do not cancel, zeros, and bits that know no start."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.indicators import rolling_volatility, sma
from tradelib.indicators.volatility import _spread, joins


def rolling_std(x: np.ndarray, window: int, first: int = 0, at_once: int = 100) -> np.ndarray:
    result = np.empty(len(x))
    _spread(x, window, first, window - 1, True, *joins(window), np.empty(6 * (window - 1 + at_once)), result)
    return result


def in_extended_precision(x: np.ndarray, window: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), window)
    return windows.std(axis=1, ddof=1)


@pytest.mark.parametrize("level", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("window", [2, 3, 7, 20, 64, 255])
def test_no_digits_cancel_at_any_level(level, window):
    """A sum of squares would be wrong by 1e-6 of the value at a level of a million, or by all of it."""
    x = level + np.random.default_rng(window).normal(0.0, 0.01, 1_500)
    error = rolling_std(x, window)[window - 1 :] / in_extended_precision(x, window) - 1
    assert np.abs(error).max() < 1e-15


def test_a_spike_that_left_the_window_leaves_nothing_behind():
    x = np.random.default_rng(0).normal(0.0, 1e-4, 300)
    spiked = x.copy()
    spiked[100] = 1e9
    np.testing.assert_array_equal(rolling_std(spiked, 20)[120:], rolling_std(x, 20)[120:])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_where_nothing_moves_it_is_exactly_zero(value):
    x = np.concatenate([[5.0, -7.0], np.full(60, value)])
    assert (rolling_std(x, 13)[14:] == 0.0).all()


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 12, 20, 37, 63, 64, 96, 100, 255, 1_000])
def test_the_plan_puts_every_window_together_from_neighbouring_runs(window):
    """Given runs of one value (of four, where the window is a multiple), when its steps are taken in order, then every
    step reads rows that hold what it says, writes over neither, and the last row holds runs of the window."""
    steps, row = joins(window)
    held = {0: 1 if window % 4 else 4}
    for one, a, two, b, into in steps:
        assert (held[one], held[two]) == (a, b)
        assert into not in {one, two}
        held[into] = a + b
    assert held[row] == window
    assert len(steps) <= 2 * window.bit_length()


@given(st.integers(2, 90), st.integers(0, 120), st.integers(1, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_neither_the_start_of_the_history_nor_the_blocks_change_a_bit(window, start, at_once, seed):
    """What lets a runner with a short history decide exactly as research did."""
    x = np.random.default_rng(seed).normal(1.0, 0.1, 300)
    whole, part = rolling_std(x, window), rolling_std(x[start:], window, at_once=at_once)
    np.testing.assert_array_equal(part[window - 1 :], whole[start + window - 1 :])


@pytest.mark.parametrize("first", [0, 1, 11])
@pytest.mark.parametrize("length", [0, 1, 19, 20, 21, 119, 120, 121])
def test_blank_until_the_window_is_full(length, first):
    x = np.random.default_rng(0).normal(size=length)
    x[:first] = np.nan
    known = np.isfinite(rolling_std(x, 20, first))
    np.testing.assert_array_equal(known, np.arange(length) >= first + 19)


@pytest.mark.parametrize("function", [rolling_volatility, sma], ids=lambda function: function.__name__)
@pytest.mark.parametrize("window", [2, 20, 50])
def test_interpreted_as_compiled(function, window):
    """Longer than a restart of the running sum."""
    close = np.exp(np.cumsum(np.random.default_rng(1).normal(0.0, 0.01, 1_500)))
    compiled = function(close, window)
    with interpreted():
        np.testing.assert_array_equal(function(close, window), compiled)


def test_the_level_of_a_running_mean_does_not_drift():
    """Started afresh every so often, its error stays that of one window; the bound is a few roundings."""
    x = 1e6 + np.random.default_rng(1).normal(0.0, 0.01, 200_000)
    exact = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), 20).mean(axis=1)
    assert np.abs(sma(x, 20)[19:] - exact).max() / 1e6 < 1e-14


@pytest.mark.parametrize("window", [1, 2, 50, 200])
@pytest.mark.parametrize("length", [199, 200, 1_024, 1_224, 1_225, 5_000])
def test_a_mean_of_whole_numbers_is_exact_across_restarts(window, length):
    """Their sums are exact, so nothing may be left but the one division."""
    x = np.random.default_rng(length).integers(-1_000, 1_000, length).astype(float)
    sums = np.convolve(x, np.ones(window), "valid") if length >= window else np.empty(0)
    np.testing.assert_array_equal(sma(x, window)[window - 1 :], sums / window)
