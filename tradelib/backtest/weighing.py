"""From signals to target weights where a weight is a product: checked and multiplied while a row is in the cache."""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit

__all__ = ["weigh"]


@jit(nogil=True)
def weigh(signals: np.ndarray, scale: np.ndarray, weights: np.ndarray) -> tuple[int, int, bool]:
    """Write signal x scale to `weights` `(k, n)`, which may be `signals` itself.

    `signals`: `(k, n)`, in [-1, 1], NaN before the first one of a row; `scale`: `(n,)`, or `(1,)` for all bars. Returns
    row and column of the first signal that is none (and True; the row is left alone), or of the first weight that is
    not finite after the first one of its row (and False); -1, -1 where all is well.
    """
    n, single = signals.shape[1], scale.shape[0] == 1
    for i in range(signals.shape[0]):
        row, result, start, fine = signals[i], weights[i], 0, True
        while start < n and row[start] != row[start]:
            result[start] = math.nan
            start += 1
        for t in range(start, n):
            fine &= abs(row[t]) <= 1.0
        if not fine:
            while abs(row[start]) <= 1.0:
                start += 1
            return i, start, True
        if single:
            for t in range(start, n):
                result[t] = row[t] * scale[0]
        else:
            for t in range(start, n):
                result[t] = row[t] * scale[t]
        while start < n and result[start] != result[start]:
            start += 1
        for t in range(start, n):
            fine &= abs(result[t]) < math.inf
        if not fine:
            while abs(result[start]) < math.inf:
                start += 1
            return i, start, False
    return -1, -1, False
