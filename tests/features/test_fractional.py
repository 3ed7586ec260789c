"""Fractional differences: weights by the recursion and in closed form, windows by plain sums."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.stattools import adfuller

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.features import (
    expanding_fractional_difference,
    fractional_difference,
    fractional_weights,
    minimum_order,
    order_scan,
    weight_loss,
)
from tradelib.indicators import get, probe_bars
from tradelib.indicators.registry import probe_inputs
from tradelib.validation.causality import prove_causality

LOG = np.log(probe_bars(700, seed=4)["close"])


def snippet_5_3_weights(d, threshold):
    """AFML snippet 5.3, getWeights_FFD, the newest first."""
    weights, k = [1.0], 1
    while True:
        weight = -weights[-1] / k * (d - k + 1)
        if abs(weight) < threshold:
            return np.array(weights)
        weights.append(weight)
        k += 1


def by_sums(x, weights):
    """AFML snippet 5.3, fracDiff_FFD: a dot product per bar."""
    width, found = len(weights), np.full(len(x), np.nan)
    for t in range(width - 1, len(x)):
        found[t] = sum(weights[k] * x[t - k] for k in range(width))
    return found


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.0, 0.1, 0.5, 0.9, 1.0, 1.5, 2.0, 3.3])
@pytest.mark.parametrize("threshold", [1e-1, 1e-3, 1e-4])
def test_weights_are_the_snippet(d, threshold):
    np.testing.assert_allclose(
        fractional_weights(d, threshold=threshold), snippet_5_3_weights(d, threshold), rtol=1e-12
    )


@pytest.mark.parametrize("d", [0.2, 0.5, 0.75, 1.25])
def test_weights_are_binomial_coefficients(d):
    """Hosking (1981): w_k = Gamma(k - d) / (Gamma(k + 1) Gamma(-d))."""
    closed = [math.gamma(k - d) / (math.gamma(k + 1) * math.gamma(-d)) for k in range(1, 60)]
    np.testing.assert_allclose(fractional_weights(d, 60)[1:], closed, rtol=1e-11)


def test_published_weights():
    """(1 - B)^(1/2) = 1 - B/2 - B^2/8 - B^3/16 - 5 B^4/128; 12 for 0.9 at 1e-3: mlfinlab tests/test_fracdiff.py."""
    assert fractional_weights(0.5, 5).tolist() == [1.0, -0.5, -0.125, -0.0625, -5 / 128]
    assert len(fractional_weights(0.9, threshold=1e-3)) == 12
    assert fractional_weights(2.0, 5).tolist() == [1.0, -2.0, 1.0, 0.0, 0.0]


@given(st.floats(0.0, 4.0), st.floats(1e-4, 0.5))
@settings(max_examples=60, deadline=None)
def test_what_is_dropped_is_smaller_than_the_threshold_and_nothing_else(d, threshold):
    kept = fractional_weights(d, threshold=threshold)
    more = fractional_weights(d, len(kept) + 200)
    np.testing.assert_array_equal(more[: len(kept)], kept)
    assert (np.abs(kept) >= threshold).all()
    assert (np.abs(more[len(kept) :]) < threshold).all()


# -- the fixed window --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.1, 0.4, 0.5, 0.9, 1.3])
@pytest.mark.parametrize("threshold", [1e-1, 1e-2, 1e-3])
def test_the_fixed_window_is_the_sum(d, threshold):
    weights = snippet_5_3_weights(d, threshold)
    found = fractional_difference(LOG.to_numpy(), d, threshold)
    np.testing.assert_allclose(found, by_sums(LOG.to_numpy(), weights), rtol=1e-12, atol=1e-13)
    assert np.isnan(found).sum() == min(len(weights) - 1, len(LOG))


def test_order_zero_is_the_series_and_order_one_its_difference():
    np.testing.assert_array_equal(fractional_difference(LOG, 0.0), LOG)
    np.testing.assert_array_equal(fractional_difference(LOG, 1.0).iloc[1:], LOG.diff().iloc[1:])
    twice = LOG.to_numpy()[2:] - 2 * LOG.to_numpy()[1:-1] + LOG.to_numpy()[:-2]
    np.testing.assert_allclose(fractional_difference(LOG, 2.0).iloc[2:], twice, atol=1e-14)


def test_orders_add_up():
    """(1 - B)^0.4 (1 - B)^0.6 = 1 - B, as far as the windows reach."""
    found = fractional_difference(fractional_difference(LOG, 0.4, 1e-3), 0.6, 1e-3)
    exact = np.convolve(fractional_weights(0.4, 500), fractional_weights(0.6, 500))[:500]
    np.testing.assert_allclose(exact, [1.0, -1.0] + [0.0] * 498, atol=1e-14)
    assert found.dropna().corr(LOG.diff()) > 0.99


@given(st.floats(0.0, 2.0), st.floats(-5.0, 5.0), st.integers(0, 1_000))
@settings(max_examples=30, deadline=None)
def test_it_is_linear(d, factor, seed):
    x, y = np.random.default_rng(seed).normal(size=(2, 150))
    both = fractional_difference(x + factor * y, d, 1e-2)
    parts = fractional_difference(x, d, 1e-2) + factor * fractional_difference(y, d, 1e-2)
    np.testing.assert_allclose(both, parts, atol=1e-12)


@pytest.mark.parametrize("length", [2_047, 2_048, 2_049, 2_248, 2_249, 5_000])
def test_blocks_leave_no_seam(length):
    """Whole numbers by whole weights are exact: order 3 over the cubes is 6 on every bar."""
    cubes = np.arange(float(length)) ** 3
    assert (fractional_difference(cubes, 3.0)[3:] == 6.0).all()
    x = np.random.default_rng(length).normal(size=length)
    part = fractional_difference(x[-1_000:], 0.5, 1e-3)
    np.testing.assert_array_equal(part[44:], fractional_difference(x, 0.5, 1e-3)[-956:])


# -- as an indicator ---------------------------------------------------------------------------------------------------


def test_it_is_in_the_register_and_causal():
    entry = get("fractional_difference")
    assert (entry.family, entry.inputs, entry.causal) == ("trend", ("close",), True)
    assert 20 <= len(entry.summary) <= 160
    proof = prove_causality(lambda bars: entry(bars, d=0.4, threshold=1e-2), probe_inputs(120))
    assert proof.passed, proof.summary()
    assert entry.warmup() == entry.memory() == len(fractional_weights(0.5, threshold=1e-3)) == 44


def test_a_series_keeps_its_index_and_leading_blanks_shift():
    found = fractional_difference(LOG, 0.5)
    assert found.index is LOG.index
    assert found.name == "fractional_difference_0.5"
    padded = np.concatenate([np.full(7, np.nan), LOG])
    np.testing.assert_array_equal(fractional_difference(padded, 0.5, 1e-2)[7:], fractional_difference(LOG, 0.5, 1e-2))


@pytest.mark.parametrize("length", [0, 1, 43, 44])
def test_short_data_are_not_known_yet(length):
    known = np.isfinite(fractional_difference(LOG.iloc[:length]))
    assert known.sum() == max(length - 43, 0)
    assert len(expanding_fractional_difference(LOG.iloc[:length])) == length


# -- the expanding window ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.0, 0.4, 1.0, 1.7])
def test_the_expanding_window_is_the_sum_over_all_bars(d):
    """AFML snippet 5.2."""
    x, weights = LOG.to_numpy()[:200], fractional_weights(d, 200)
    expected = [sum(weights[k] * x[t - k] for k in range(t + 1)) for t in range(200)]
    np.testing.assert_allclose(expanding_fractional_difference(x, d), expected, rtol=1e-12, atol=1e-13)
    padded = np.concatenate([np.full(3, np.nan), x])
    np.testing.assert_array_equal(expanding_fractional_difference(padded, d)[3:], expanding_fractional_difference(x, d))


def test_both_windows_agree_where_all_bars_are_in_both():
    narrow = fractional_difference(LOG, 0.4, 1e-3)
    width = len(fractional_weights(0.4, threshold=1e-3))
    wide = expanding_fractional_difference(LOG, 0.4)
    assert narrow.iloc[width - 1] == pytest.approx(wide.iloc[width - 1], rel=1e-14)


def test_the_weight_loss_is_that_of_the_snippet():
    """AFML snippet 5.2: cumulated sizes of the weights from the oldest on; row l lacks those of lags above l."""
    weights = fractional_weights(0.4, 300)
    cumulated = np.cumsum(np.abs(weights[::-1])) / np.abs(weights).sum()
    loss = weight_loss(0.4, 300)
    np.testing.assert_allclose(loss[:-1], cumulated[::-1][1:], rtol=1e-12)
    assert loss[-1] == 0.0
    assert (np.diff(loss) <= 0).all()


# -- the smallest order ------------------------------------------------------------------------------------------------


def test_the_scan_is_the_test_of_each_difference():
    close = np.log(embedded("sp500")["close"]).iloc[:1_500]
    scan = order_scan(close, [0.0, 0.4, 1.0], 1e-3)
    for d in (0.0, 0.4, 1.0):
        found = fractional_difference(close, d, 1e-3).dropna()
        test = adfuller(found, maxlag=1, regression="c", autolag=None, result_object=True)
        assert scan.loc[d, "p_value"] == test.pvalue
        assert scan.loc[d, "observations"] == len(found)
        assert scan.loc[d, "correlation"] == pytest.approx(found.corr(close), rel=1e-10)
        assert scan.loc[d, "weights"] == len(fractional_weights(d, threshold=1e-3))


def test_the_minimum_is_the_first_order_below_the_significance():
    """A p-value of one's own: 1 - d."""
    orders = iter([0.0, 0.05, 0.1, 0.15])
    assert minimum_order(LOG, 0.9, p_value=lambda _: 1.0 - next(orders)) == 0.15
    assert minimum_order(LOG, 0.5, [0.6, 0.2, 0.4], 1e-2, p_value=lambda _: 0.1) == 0.2


def test_a_walk_needs_more_than_noise():
    noise = np.random.default_rng(0).normal(size=1_500)
    assert minimum_order(noise) == 0.0
    assert minimum_order(np.cumsum(noise)) > 0.0
    assert minimum_order(np.cumsum(np.cumsum(noise)), orders=np.arange(0, 2.1, 0.1)) > 0.7


def test_too_few_observations_have_no_p_value():
    scan = order_scan(LOG.iloc[:40], [0.5, 1.0])
    assert scan["observations"].tolist() == [0, 39]
    assert np.isnan(scan.loc[0.5, "p_value"])
    assert scan.loc[1.0, "p_value"] < 0.01


# -- interpreted, refused ----------------------------------------------------------------------------------------------


def test_interpreted_as_compiled():
    compiled = [fractional_difference(LOG, 0.5, 1e-3), expanding_fractional_difference(LOG.iloc[:150], 0.3)]
    with interpreted():
        pd.testing.assert_series_equal(fractional_difference(LOG, 0.5, 1e-3), compiled[0], check_exact=True)
        pd.testing.assert_series_equal(
            expanding_fractional_difference(LOG.iloc[:150], 0.3), compiled[1], check_exact=True
        )


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        (lambda: fractional_weights(-0.1, 3), ParameterError, "order of at least 0; got -0.1"),
        (lambda: fractional_weights(math.nan, 3), ParameterError, "order of at least 0; got nan"),
        (lambda: fractional_weights(0.5), ParameterError, "or give a size"),
        (lambda: fractional_weights(0.5, 0), ParameterError, "size must be a whole number"),
        (lambda: fractional_weights(0.01, threshold=1e-12), ParameterError, "more than 1,048,576 weights of 1e-12"),
        (lambda: fractional_difference(LOG, 0.5, 0.0), ParameterError, "threshold must lie above 0"),
        (lambda: fractional_difference(LOG, 0.5, 1.5), ParameterError, "at most at 1; got 1.5"),
        (lambda: fractional_difference(LOG.where(LOG.index != LOG.index[9])), DataError, "nan at 2000-01-10"),
        (lambda: minimum_order(LOG, 1.0), ParameterError, "between 0 and 1; got 1.0"),
        (lambda: minimum_order(LOG, orders=[0.0]), DataError, "no order of 0 to 0 rejects"),
    ],
)
def test_what_is_refused(call, error, what):
    with pytest.raises(error, match=what):
        call()


@pytest.mark.real_data
def test_real_bars_of_five_minutes(real_data):
    frame = pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet")
    x = np.log(frame["close"].to_numpy()[:1_500])
    for d in (0.3, 0.7):
        expected = by_sums(x, snippet_5_3_weights(d, 1e-3))
        np.testing.assert_allclose(fractional_difference(x, d, 1e-3), expected, rtol=1e-11)
