"""From signals to target weights where a weight is a product: checked and multiplied while a row is in the cache."""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit

__all__ = ["LARGEST", "weigh"]

LARGEST = float(np.finfo(np.float64).max)


@jit(nogil=True)
def weigh(signals: np.ndarray, scale: np.ndarray, bars: int, weights: np.ndarray) -> tuple[int, int, bool]:
    """Write signal x scale to `weights` `(k * bars,)`, row after row; it may be `signals` itself.

    `signals`: `(k * bars,)`, in [-1, 1], NaN before the first one of a row; `scale`: `(bars,)`, or `(1,)` for all.
    Returns row and bar of the first signal that is none (and True; the row is left alone), or of the first weight that
    is not finite after the first one of its row (and False); -1, -1 where all is well.
    """
    single = scale.shape[0] == 1
    for i in range(signals.shape[0] // bars):
        start, stop = i * bars, (i + 1) * bars
        while start < stop and signals[start] != signals[start]:
            weights[start] = math.nan
            start += 1
        row, result, wrong = signals[start:stop], weights[start:stop], 0
        for t in range(row.shape[0]):
            wrong += 0 if abs(row[t]) <= 1.0 else 1
        if wrong > 0:
            return i, start - i * bars + _first_beyond(row, 1.0), True
        if single:
            factor = scale[0]
            for t in range(row.shape[0]):
                result[t] = row[t] * factor
                wrong += 0 if abs(result[t]) < math.inf else 1
        else:
            factors = scale[start - i * bars :]
            for t in range(row.shape[0]):
                result[t] = row[t] * factors[t]
                wrong += 0 if abs(result[t]) < math.inf else 1
        if wrong > 0:
            known = 0
            while known < row.shape[0] and result[known] != result[known]:
                known += 1
            place = known + _first_beyond(result[known:], LARGEST)
            if place < row.shape[0]:
                return i, start - i * bars + place, False
    return -1, -1, False


@jit(nogil=True)
def _first_beyond(values: np.ndarray, bound: float) -> int:
    """Place of the first of `values` that is larger than `bound` in size, or no number; their length for none."""
    for t in range(values.shape[0]):
        if not abs(values[t]) <= bound:
            return t
    return values.shape[0]
