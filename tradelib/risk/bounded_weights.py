"""Weights that maximise w'm - w'Cw/2 under bounds: found by SLSQP, then solved exactly on the weights at work."""

from __future__ import annotations

from typing import Any

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
    slope, size = mean - covariance @ weights, float(np.abs(mean).max())
    outside = (slope if long_only else np.abs(slope))[~at_work]
    if price < 0.0 or (np.sign(weights) != signs * at_work).any() or (outside > price + 1e-7 * size).any():
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
    """The weights to about seven digits: long and short parts are variables of their own, in units of risk."""
    units = np.diag(1.0 / np.sqrt(np.diagonal(covariance)))
    sides = units if long_only else np.hstack([units, -units])
    m, c, length = sides.T @ mean, sides.T @ covariance @ sides, np.abs(sides).sum(axis=0)
    size = max(float(np.abs(m).max()), 1e-300)
    m, c = m / size, c / size  # the same weights, an objective of order one
    limit: dict[str, Any] = {"type": "ineq", "fun": lambda z: leverage - length @ z, "jac": lambda z: -length}
    found = require("scipy.optimize", "research").minimize(
        lambda z: 0.5 * z @ c @ z - m @ z,
        np.zeros(len(m)),
        jac=lambda z: c @ z - m,
        method="SLSQP",
        bounds=[(0.0, None)] * len(m),
        constraints=[] if leverage is None else [limit],
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return np.asarray(sides @ found.x)  # a search that stops for want of digits has found enough of them
