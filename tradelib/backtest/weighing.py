"""From signals to target weights where a weight is a product: checked and multiplied in one pass."""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib._memory import shared
from tradelib._threads import both

__all__ = ["weigh", "weigh_codes", "weigh_row"]


@jit(nogil=True, _nrt=False)
def weigh_row(signals: np.ndarray, scale: np.ndarray, weights: np.ndarray) -> int:
    """Write signal x scale to `weights` `(n,)`; returns how many values are wrong, 0 if none.

    Signals lie in [-1, 1], NaN before the first one; `scale`: `(n,)`, or `(1,)` for all. Wrong is a signal that is
    none, or a weight that is not finite after the first one.
    """
    single, start, wrong, n = scale.shape[0] == 1, 0, 0, signals.shape[0]
    while start < n and signals[start] != signals[start]:
        weights[start] = signals[start]
        start += 1
    while start < n and not single and scale[start] != scale[start]:
        wrong += 0 if abs(signals[start]) <= 1.0 else 1
        weights[start] = math.nan
        start += 1
    return wrong + _multiply(signals[start:n], scale if single else scale[start:n], weights[start:n])


@jit(nogil=True, _nrt=False)
def _multiply(signals: np.ndarray, scale: np.ndarray, weights: np.ndarray) -> int:
    """The part of `weigh_row` on which everything is known."""
    wrong = 0
    if scale.shape[0] == 1:
        factor = scale[0]
        for t in range(signals.shape[0]):
            signal = float(signals[t])
            weights[t] = signal * factor
            wrong += 0 if (abs(signal) <= 1.0) & (abs(signal * factor) < math.inf) else 1
    else:
        for t in range(signals.shape[0]):
            signal = float(signals[t])
            weight = signal * scale[t]
            weights[t] = weight
            wrong += 0 if (abs(signal) <= 1.0) & (abs(weight) < math.inf) else 1
    return wrong


@jit(nogil=True, _nrt=False)
def weigh_codes(codes: np.ndarray, silent: int, scale: np.ndarray, weights: np.ndarray) -> int:
    """`weigh_row` of signals that are whole numbers, with `silent` for NaN."""
    single, start, wrong, n = scale.shape[0] == 1, 0, 0, codes.shape[0]
    while start < n and codes[start] == silent:
        weights[start] = math.nan
        start += 1
    while start < n and not single and scale[start] != scale[start]:
        wrong += 0 if abs(codes[start]) <= 1 else 1
        weights[start] = math.nan
        start += 1
    return wrong + _multiply(codes[start:n], scale if single else scale[start:n], weights[start:n])


def weigh(signals: np.ndarray, scale: np.ndarray, weights: np.ndarray) -> bool:
    """Write signal x scale to `weights` `(n,)`, in two halves; False where something is wrong, see `weigh_row`."""
    signals, scale, wrong = shared(signals), shared(scale), [0, 0]
    middle = len(signals) // 2
    if len(scale) > 1 or signals[middle] != signals[middle]:  # the second half would begin before the first value
        middle = len(signals)

    def first_half() -> None:
        wrong[0] = weigh_row(signals[:middle], scale, weights[:middle])

    def second_half() -> None:
        wrong[1] = weigh_row(signals[middle:], scale, weights[middle:])

    both(first_half, second_half, len(signals))
    return wrong == [0, 0]
