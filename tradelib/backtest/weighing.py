"""From signals to target weights where a weight is a product: checked and multiplied in one pass."""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib._memory import shared

__all__ = ["are_signals", "weigh", "weigh_codes", "weigh_row"]


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


@jit(nogil=True, _nrt=False)
def _wrong_signals(signals: np.ndarray) -> int:
    """How many values after the first one are no signal."""
    start, wrong, n = 0, 0, signals.shape[0]
    while start < n and signals[start] != signals[start]:
        start += 1
    known = signals[start:n]
    for t in range(known.shape[0]):
        wrong += 0 if abs(known[t]) <= 1.0 else 1
    return wrong


def are_signals(signals: np.ndarray) -> bool:
    """True when a row `(n,)` lies in [-1, 1] after its first value, and is NaN before it."""
    return bool(_wrong_signals(shared(signals)) == 0)


def weigh(signals: np.ndarray, scale: np.ndarray, weights: np.ndarray) -> bool:
    """Write signal x scale to `weights` `(n,)`; False where something is wrong, see `weigh_row`."""
    return bool(weigh_row(shared(signals), shared(scale), weights) == 0)
