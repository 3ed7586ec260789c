"""Bounded weights meet the conditions of Kuhn and Tucker, at any size, and beat whatever one tries instead."""

from __future__ import annotations

import numpy as np
import pytest

from tradelib.risk.bounded_weights import bounded_weights


def market(assets: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of returns with one common factor."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(4e-4, 0.01, (rows, assets)) + rng.normal(0.0, 0.01, (rows, 1))
    return returns.mean(axis=0), np.cov(returns.T)


@pytest.mark.parametrize("leverage", [None, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("long_only", [True, False])
@pytest.mark.parametrize(("assets", "rows"), [(2, 100), (20, 300), (200, 750)])
def test_no_small_step_is_better(assets: int, rows: int, long_only: bool, leverage: float | None) -> None:
    """Kuhn and Tucker: the slope is the price of leverage, times the side, where a weight is at work; else below it."""
    mean, covariance = market(assets, rows, seed=assets)
    weights = bounded_weights(mean, covariance, long_only=long_only, leverage=leverage)
    slope, at_work = mean - covariance @ weights, weights != 0.0
    price = float((slope * np.sign(weights))[at_work].mean()) if at_work.any() else 0.0
    np.testing.assert_allclose((slope * np.sign(weights))[at_work], price, atol=1e-12)
    assert price >= -1e-12
    assert ((slope if long_only else np.abs(slope))[~at_work] <= price + 1e-12).all()
    gross = np.abs(weights).sum()
    assert (weights >= 0.0).all() or not long_only
    assert leverage is None or gross <= leverage * (1.0 + 1e-12)
    assert price == pytest.approx(0.0, abs=1e-12) or gross == pytest.approx(leverage, rel=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_any_signs_and_scales(seed: int) -> None:
    """Small cases of every kind: negative means, unequal variances, none or all at work."""
    rng = np.random.default_rng(seed)
    assets = int(rng.integers(1, 6))
    root = rng.normal(size=(assets, assets + 3)) * rng.uniform(0.01, 2.0, (assets, 1))
    mean, covariance, leverage = rng.normal(0.0, 1.0, assets), root @ root.T, float(rng.uniform(0.01, 3.0))
    for long_only in (True, False):
        weights = bounded_weights(mean, covariance, long_only=long_only, leverage=leverage)
        best = weights @ mean - weights @ covariance @ weights / 2
        assert np.abs(weights).sum() <= leverage * (1 + 1e-9)
        for other in rng.normal(size=(300, assets)) * leverage:
            tried = np.abs(other) if long_only else other
            tried = tried * min(1.0, leverage / np.abs(tried).sum())
            assert tried @ mean - tried @ covariance @ tried / 2 <= best + 1e-12


def test_an_asset_that_loses_is_left_out() -> None:
    covariance = np.diag([0.04, 0.09])
    given = {"long_only": True, "leverage": 1.0}
    np.testing.assert_allclose(bounded_weights(np.array([0.05, -0.02]), covariance, **given), [1.0, 0.0])


def test_two_assets_by_hand() -> None:
    """Uncorrelated, variances 0.04 and 0.01, means 0.08 and 0.01: unbounded, w = mean / variance = (2, 1).

    With a sum of 1: 0.08 - 0.04 a = 0.01 - 0.01 b and a + b = 1 give a = 1.6, so b is 0 and a is 1. With a sum of 2:
    a = 1.8, b = 0.2.
    """
    mean, covariance = np.array([0.08, 0.01]), np.diag([0.04, 0.01])
    np.testing.assert_allclose(bounded_weights(mean, covariance, long_only=True, leverage=None), [2.0, 1.0])
    np.testing.assert_allclose(bounded_weights(mean, covariance, long_only=True, leverage=1.0), [1.0, 0.0])
    np.testing.assert_allclose(bounded_weights(-mean, covariance, long_only=True, leverage=1.0), [0.0, 0.0])
    np.testing.assert_allclose(bounded_weights(-mean, covariance, long_only=False, leverage=2.0), [-1.8, -0.2])
