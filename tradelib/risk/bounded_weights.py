"""Weights that maximise w'm - w'Cw/2 under bounds: searched for, then solved exactly where they are at work."""

from __future__ import annotations

import numpy as np

from tradelib.errors import DataError, require

__all__ = ["bounded_weights"]


def bounded_weights(mean: np.ndarray, covariance: np.ndarray, *, long_only: bool, leverage: float | None) -> np.ndarray:
    """The weights `(a,)` that maximise w'mean - w'covariance w/2; `leverage`: largest sum of absolute weights.

    `covariance` `(a, a)`, positive definite. `DataError` where the conditions of Kuhn and Tucker are missed.
    """
    weights = _searched(mean, covariance, long_only, leverage)
    at_work = np.abs(weights) * np.sqrt(np.diagonal(covariance)) > 1e-7 * np.sqrt(weights @ covariance @ weights)
    binds = leverage is not None and float(np.abs(weights).sum()) > leverage * (1.0 - 1e-6)
    signs, price = np.sign(weights), 0.0
    weights = np.zeros(len(mean))
    if at_work.any():
        weights[at_work], price = _solved(mean, covariance, at_work, signs, leverage if binds else None)
    slope, size, gross = mean - covariance @ weights, float(np.abs(mean).max()), float(np.abs(weights).sum())
    outside = (slope if long_only else np.abs(slope))[~at_work]
    over = leverage is not None and gross > leverage * (1.0 + 1e-9)
    if over or price < 0.0 or (np.sign(weights) != signs * at_work).any() or (outside > price + 1e-7 * size).any():
        raise DataError("no bounded weights were found: the covariance is too close to singular; shrink it")
    return weights


def _solved(
    mean: np.ndarray, covariance: np.ndarray, at_work: np.ndarray, signs: np.ndarray, leverage: float | None
) -> tuple[np.ndarray, float]:
    """Weights at work and the price of leverage: C w + price x sign = m, and the sum of |w| where it is bound."""
    inner, side = covariance[np.ix_(at_work, at_work)], signs[at_work]
    if leverage is None:
        return np.linalg.solve(inner, mean[at_work]), 0.0
    system = np.block([[inner, side[:, None]], [side[None, :], np.zeros((1, 1))]])
    found = np.linalg.solve(system, np.append(mean[at_work], leverage))
    return found[:-1], float(found[-1])


def _searched(mean: np.ndarray, covariance: np.ndarray, long_only: bool, leverage: float | None) -> np.ndarray:
    """The weights to about seven digits.

    With a price p of leverage they maximise w'm - w'Cw/2 - p sum|w|: least squares without negative weights, or, short
    positions allowed, the lasso. The price is that at which the sum of |w| is the leverage, 0 where it stays below.
    """
    size = float(np.abs(mean).max()) or 1.0
    m, c = mean / size, covariance / size
    return _long(m, c, leverage) if long_only else _long_and_short(m, c, leverage)


def _long(mean: np.ndarray, covariance: np.ndarray, leverage: float | None) -> np.ndarray:
    """|R w - R'^-1 (m - p)|^2 with C = R'R, by active sets; p by Brent's method."""
    optimize, linalg = require("scipy.optimize", "research"), require("scipy.linalg", "research")
    root = np.linalg.cholesky(covariance).T

    def at(price: float) -> np.ndarray:
        aim = linalg.solve_triangular(root, mean - price, trans="T")
        return np.asarray(optimize.nnls(root, aim, maxiter=30 * len(mean))[0])

    free = at(0.0)
    if leverage is None or free.sum() <= leverage:
        return free
    return at(optimize.brentq(lambda price: at(price).sum() - leverage, 0.0, float(mean.max()), xtol=1e-14))


def _long_and_short(mean: np.ndarray, covariance: np.ndarray, leverage: float | None) -> np.ndarray:
    """The path of the lasso is piecewise linear: read off where its sum of |w| reaches the leverage.

    Source: Efron, Hastie, Johnstone, Tibshirani (2004), "Least angle regression".
    """
    if leverage is None:
        return np.linalg.solve(covariance, mean)
    lars = require("sklearn.linear_model", "research").lars_path_gram
    path = lars(mean, covariance, n_samples=1, method="lasso", max_iter=20 * len(mean))[2]
    gross = np.abs(path).sum(axis=0)
    over = np.flatnonzero(gross > leverage)
    if not len(over):
        return np.asarray(path[:, -1])
    knot = int(over[0])
    part = (leverage - gross[knot - 1]) / (gross[knot] - gross[knot - 1])
    return np.asarray(path[:, knot - 1] + part * (path[:, knot] - path[:, knot - 1]))
