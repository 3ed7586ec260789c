"""Sums of a moving window: exact where they can be, and the same bits wherever the history begins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.indicators.core import rolling_sums, window_sums


@pytest.mark.parametrize("window", [1, 2, 3, 7, 20, 64, 100, 2_500])
@pytest.mark.parametrize("length", [0, 1, 20, 2_067, 5_000])
def test_a_sum_of_whole_numbers_is_exact_across_blocks(window: int, length: int) -> None:
    x = np.random.default_rng(length).integers(-1_000, 1_000, length).astype(float)
    sums = np.convolve(x, np.ones(window), "valid") if length >= window else np.empty(0)
    result = rolling_sums(x, window)
    np.testing.assert_array_equal(result[window - 1 :], sums)
    assert np.isnan(result[: window - 1]).all()


@given(st.integers(1, 90), st.integers(0, 120), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_start_of_the_history_changes_no_bit_of_a_sum(window: int, start: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(1.0, 0.1, 300)
    np.testing.assert_array_equal(
        rolling_sums(x[start:], window)[window - 1 :], rolling_sums(x, window)[start + window - 1 :]
    )


@pytest.mark.parametrize("terms", [*range(1, 18), 31, 32, 33, 100])
@pytest.mark.parametrize("stride", [1, 3])
def test_sums_of_windows(terms: int, stride: int) -> None:
    x = np.arange(400.0) ** 2
    result = np.empty(len(x) - (terms - 1) * stride)
    window_sums(x, terms, stride, np.empty(2 * len(x)), result)
    expected = [x[i : i + terms * stride : stride][:terms].sum() for i in range(len(result))]
    np.testing.assert_array_equal(result, expected)


@given(st.integers(1, 40), st.integers(0, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_sums_by_doubling_know_neither_start_nor_block(terms: int, start: int, seed: int) -> None:
    x = np.exp(np.random.default_rng(seed).normal(0.0, 5.0, 500))
    start = min(start, 500 - terms)
    whole, part = np.empty(501 - terms), np.empty(501 - terms - start)
    window_sums(x, terms, 1, np.empty(1_000), whole)
    window_sums(x[start:], terms, 1, np.empty(1_000), part)
    exact = np.lib.stride_tricks.sliding_window_view(x.astype(np.longdouble), terms).sum(axis=1)
    np.testing.assert_array_equal(part, whole[start:])
    np.testing.assert_allclose(whole, exact.astype(float), rtol=1e-14)
