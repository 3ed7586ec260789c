"""Seeded data for the risk workloads (w6), sizes and settings: what every contestant is given. Only numpy is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["MAKERS", "PATH_STEPS", "RISK_SIZES", "TAIL", "pair_places"]

TAIL = 0.01
"""Tail probability of value at risk."""
PATH_STEPS = 252
RISK_SIZES = {
    "w6-pairs": 4_950, "w6-hrp": 500, "w6-covariance": 1_000, "w6-garch": 5_000,
    "w6-bootstrap": 10_000, "w6-var": 1_000,
}  # fmt: skip
"""Pairs of 100 assets, assets, assets, returns, paths, assets."""

_ASSETS, _PAIR_BARS, _BARS = 100, 1_250, 2_500


def pair_places(size: int) -> np.ndarray:
    """`(size, 2)`: the assets of each test, the earlier one as the dependent one; fewer are spread evenly."""
    every = np.stack(np.triu_indices(_ASSETS, 1), axis=1)
    return every[np.linspace(0, len(every) - 1, size).astype(int)]


def _log_prices(_: int) -> np.ndarray:
    """Random walks `(1250, 100)`; every other one follows a common walk, at a distance that reverts."""
    generator = np.random.default_rng(41)
    steps = generator.normal(0.0, 0.01, (_PAIR_BARS, _ASSETS))
    steps[1:] += 0.2 * steps[:-1]
    logs, common = np.cumsum(steps, axis=0), np.cumsum(generator.normal(0.0, 0.01, _PAIR_BARS))
    shocks, distance = generator.normal(0.0, 0.01, (_PAIR_BARS, _ASSETS // 2)), np.zeros(_ASSETS // 2)
    for t in range(_PAIR_BARS):
        distance = 0.9 * distance + shocks[t]
        logs[t, ::2] = np.linspace(0.5, 2.0, _ASSETS // 2) * common[t] + distance
    return logs + 4.0


def _factor_returns(assets: int, factors: int, seed: int) -> np.ndarray:
    """Returns `(2500, assets)` with common factors; fewer assets are the first ones."""
    generator = np.random.default_rng(seed)
    most = 1_000
    common = generator.normal(0.0, 0.01, (_BARS, factors))[:, np.arange(most) % factors]
    table = common * generator.uniform(0.5, 1.5, most) + generator.normal(0.0, 0.01, (_BARS, most))
    return np.ascontiguousarray(table[:, :assets])


def _garch(size: int) -> np.ndarray:
    """Returns as fractions from a GARCH(1,1) of percent: omega 0.02, alpha 0.08, beta 0.9, mean 0.05."""
    shocks, variance, found = np.random.default_rng(29).standard_normal(size + 500), 1.0, []
    for shock in shocks:
        found.append(variance**0.5 * shock)
        variance = 0.02 + 0.08 * found[-1] ** 2 + 0.9 * variance
    return (np.array(found[500:]) + 0.05) / 100.0


MAKERS: Mapping[str, Callable[[int], np.ndarray]] = {
    "w6-pairs": _log_prices,
    "w6-hrp": lambda assets: _factor_returns(assets, 10, 37),
    "w6-covariance": lambda assets: _factor_returns(assets, 1, 31),
    "w6-garch": _garch,
    "w6-bootstrap": lambda _: np.random.default_rng(43).standard_t(5, _BARS) * 0.01,
    "w6-var": lambda assets: np.ascontiguousarray(
        np.random.default_rng(23).standard_t(5, (_BARS, 1_000))[:, :assets] * 0.01
    ),
}
