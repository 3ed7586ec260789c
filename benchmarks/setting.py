"""What every contestant is given: terms of trading, windows, grids and seeded market data. Only numpy is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.risk_setting import MAKERS, RISK_SIZES

__all__ = [
    "ASSETS", "CASH", "CROSSING_WINDOWS", "DAYS", "FEE_RATE", "FULL_SIZES", "INVESTED", "ONE_RATE", "PERIODS_PER_YEAR",
    "SLIPPAGE", "STILL_OPEN", "STOP_LOSS", "STOP_WINDOWS", "SWEEP_BARS", "TAKE_PROFIT", "TRAILING_STOP", "data_file",
    "grid", "make_data", "month_starts",
]  # fmt: skip

FEE_RATE, SLIPPAGE = 0.001, 0.0005
"""Fractions of traded value, per fill; the fee is charged on the slipped price."""
CASH = 1e9

_KEPT = (1.0 - SLIPPAGE) * (1.0 - FEE_RATE) / ((1.0 + SLIPPAGE) * (1.0 + FEE_RATE))
ONE_RATE = (1.0 - _KEPT) / (1.0 + _KEPT)
"""The fee at which a round trip of all the cash keeps the same share without slippage: for libraries without one."""
STILL_OPEN = (1.0 + ONE_RATE) / ((1.0 + SLIPPAGE) * (1.0 + FEE_RATE))
"""What such a library's equity must be multiplied by while a position is open: half of the round trip is paid."""

CROSSING_WINDOWS = 50, 200
STOP_WINDOWS = 20, 100
STOP_LOSS, TRAILING_STOP, TAKE_PROFIT = 0.02, 0.01, 0.04
"""Fractions: of the entry fill, of the best price since, of the entry fill."""

SWEEP_BARS = 5_000
_FAST, _SLOW = tuple(range(5, 205, 2)), tuple(range(210, 610, 4))

ASSETS = 500
INVESTED = 0.998
"""Share of equity that a rebalancing aims at: the rest pays the fees, so that no order depends on who traded before."""

DAYS, PERIODS_PER_YEAR = 2_500, 252.0

FULL_SIZES: dict[str, int] = {"w2": 1_000_000, "w3": 10_000, "w4": DAYS, "w5": 1_000_000, **RISK_SIZES, "w7": 10_000}
"""Bars, pairs of windows, days of 500 assets, bars, what `risk_setting` says, strategies."""


def grid(points: int) -> tuple[list[int], list[int]]:
    """Fast and slow windows whose product has `points` pairs, spread evenly over the full 100 x 100."""
    shapes = {10: (2, 5), 20: (4, 5), 100: (10, 10), 200: (20, 10), 1_000: (20, 50), 10_000: (100, 100)}
    if points not in shapes:
        raise ValueError(f"a grid has {', '.join(map(str, shapes))} points, not {points}")
    fast, slow = shapes[points]
    return list(_FAST[:: len(_FAST) // fast]), list(_SLOW[:: len(_SLOW) // slow])


def month_starts(days: int) -> np.ndarray:
    """True on the first business day of each month, counted from Monday, 3 January 2000: bool `(days,)`."""
    months = np.busday_offset(np.datetime64("2000-01-03"), np.arange(days)).astype("datetime64[M]")
    return np.r_[True, months[1:] != months[:-1]]


def _bars(count: int, seed: int, sigma: float) -> np.ndarray:
    """Open, high, low, close as `(4, count)`: a geometric random walk whose open is the close before."""
    generator = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(generator.normal(0.0, sigma, count)))
    opening = np.r_[100.0, close[:-1]]
    high = np.maximum(opening, close) * (1.0 + np.abs(generator.normal(0.0, sigma / 2.0, count)))
    low = np.minimum(opening, close) * (1.0 - np.abs(generator.normal(0.0, sigma / 2.0, count)))
    return np.stack([opening, high, low, close])


def _prices(days: int) -> np.ndarray:
    """Closes `(days, 500)` of assets that share a market factor; fewer days are the first ones of the full table."""
    generator = np.random.default_rng(17)
    market = generator.normal(0.0, 0.01, DAYS)
    own = generator.normal(0.0002, 0.015, (DAYS, ASSETS))
    return 100.0 * np.exp(np.cumsum(own + 0.3 * market[:, None], axis=0))[:days]


def _returns(strategies: int) -> np.ndarray:
    """Daily returns `(2500, strategies)`, a column per strategy."""
    table = np.random.default_rng(47).normal(0.0004, 0.01, (DAYS, FULL_SIZES["w7"]))
    return np.ascontiguousarray(table[:, :strategies])


_MAKERS: Mapping[str, Callable[[int], np.ndarray]] = {
    "w1": lambda size: _bars(size, 7, 0.001),
    "w2": lambda size: _bars(size, 11, 0.001),
    "w3": lambda size: _bars(SWEEP_BARS, 13, 0.01),
    "w4": _prices,
    "w5": lambda size: _bars(size, 19, 0.001),
    **MAKERS,
    "w7": _returns,
}


def make_data(workload: str, size: int) -> np.ndarray:
    """The numbers of one workload, the same on every machine."""
    return _MAKERS[workload](size)


def data_file(workload: str, size: int, folder: Path) -> Path:
    """The `.npy` file that all contestants read; made at the first need."""
    path = folder / f"{workload}-{'any' if workload == 'w3' else size}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        with fresh.open("wb") as stream:
            np.save(stream, make_data(workload, size))
        fresh.replace(path)
    return path
