"""From signals to target weights where a weight is a product: checked and multiplied in one pass."""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit

__all__ = ["weigh", "weigh_in_place"]


@jit(nogil=True)
def weigh_in_place(rows: np.ndarray, scale: np.ndarray, bars: int) -> int:
    """Turn signals `(k * bars,)`, row after row, into weights: signal x scale.

    Signals lie in [-1, 1], NaN before the first one of a row; `scale`: `(bars,)`, or `(1,)` for all. Returns the first
    row with a signal that is none, or with a weight that is not finite after the first one, else -1.
    """
    single = scale.shape[0] == 1
    for i in range(rows.shape[0] // bars):
        start, stop, wrong = i * bars, (i + 1) * bars, 0
        while start < stop and rows[start] != rows[start]:
            start += 1
        while start < stop and not single and scale[start - i * bars] != scale[start - i * bars]:
            wrong += 0 if abs(rows[start]) <= 1.0 else 1
            rows[start] = math.nan
            start += 1
        row = rows[start:stop]
        if single:
            factor = scale[0]
            for t in range(row.shape[0]):
                signal = row[t]
                row[t] = signal * factor
                wrong += 0 if (abs(signal) <= 1.0) & (abs(signal * factor) < math.inf) else 1
        else:
            factors = scale[start - i * bars :]
            for t in range(row.shape[0]):
                signal = row[t]
                weight = signal * factors[t]
                row[t] = weight
                wrong += 0 if (abs(signal) <= 1.0) & (abs(weight) < math.inf) else 1
        if wrong > 0:
            return i
    return -1


def weigh(signals: np.ndarray, scale: np.ndarray, weights: np.ndarray) -> bool:
    """Write signal x scale to `weights` `(n,)`; False where something is wrong, see `weigh_in_place`."""
    weights[:] = signals
    return bool(weigh_in_place(weights, scale, len(weights)) < 0)
