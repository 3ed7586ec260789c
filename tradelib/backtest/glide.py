"""The fast stretch: bars of a single symbol on which nothing can happen are marked, and nothing else.

It only leaves out what would have had no effect: the machine without it gives the same account.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.kernel import equity
from tradelib.backtest.walk import follow

__all__ = ["BLOCK", "glide"]

BLOCK = 64
"""Bars that are tested together."""


@jit(_nrt=False)
def _coast(
    close: np.ndarray,
    wanted: np.ndarray,
    equities: np.ndarray,
    t: int,
    first: int,
    stop: int,
    cash: float,
    position: float,
    settled: bool,
) -> int:
    """Mark whole blocks of bars from `t` on; returns the start of the one in which a target asks for something.

    `wanted`: `(n,)`. `settled`: a target of the position's side asks for nothing. A block is marked and tested without
    a branch, so that the compiler makes vector instructions of it; what it marks too far is marked again.
    """
    held = position != 0.0
    while t + BLOCK <= stop:
        prices, targets, marks = close[t : t + BLOCK], wanted[t : t + BLOCK], equities[t - first : t - first + BLOCK]
        asking = 0
        for j in range(BLOCK):
            worth = equity(cash, position, prices[j])
            marks[j] = worth
            asking += 0 if worth > 0.0 else 1
        if not held:
            for j in range(BLOCK):
                asking += 0 if (targets[j] != targets[j]) | (targets[j] == 0.0) else 1
        elif settled:
            for j in range(BLOCK):
                asking += 0 if (targets[j] != targets[j]) | (targets[j] * position > 0.0) else 1
        else:
            for j in range(BLOCK):
                asking += 0 if targets[j] != targets[j] else 1
        if asking > 0:
            return t
        t += BLOCK
    return t


@jit(_nrt=False)
def _calm(high: np.ndarray, low: np.ndarray, t: int, stop: int, top: float, bottom: float) -> int:
    """The start of the first block from `t` on in which a price leaves the open interval of `bottom` and `top`."""
    while t + BLOCK <= stop:
        above, below, outside = high[t : t + BLOCK], low[t : t + BLOCK], 0
        for j in range(BLOCK):
            outside += 0 if (above[j] < top) & (below[j] > bottom) else 1
        if outside > 0:
            return t
        t += BLOCK
    return t


@jit(_nrt=False)
def glide(
    m: Machine, tape: Tape, wanted: np.ndarray, equities: np.ndarray, t: int, first: int, stop: int, drifts: bool
) -> int:
    """Mark one symbol's account over bars on which nothing can happen; returns the first bar that needs attention.

    `wanted`: targets known at each close, `(n,)`; empty where there are none.
    """
    orders, assets, account, start = m.orders, m.assets, m.account, t
    high, low, close, targeted = tape.high_line, tape.low_line, tape.close_line, wanted.shape[0] > 0
    position, cash, blocked = assets[0, book.POSITION], account[book.CASH], assets[0, book.BLOCKED]
    resting, floor, ceiling = m.counts[book.LINKED] > 0, assets[0, book.FLOOR], assets[0, book.CEILING]
    retry = t
    while t < stop:
        if targeted and blocked == 0.0 and t >= retry:
            far = stop
            if resting:
                top, bottom = min(ceiling, assets[0, book.HIGHEST]), max(floor, assets[0, book.LOWEST])
                far = _calm(high, low, t, min(stop, t + 64 * BLOCK), top, bottom)
            t = _coast(close, wanted, equities, t, first, far, cash, position, not drifts)
            retry = t + BLOCK
            if t == stop:
                break
        if resting and (low[t] <= floor or high[t] >= ceiling):
            break
        worth = equity(cash, position, close[t])
        if targeted:
            target = wanted[t]
            if target != target:
                blocked = 0.0
            elif worth <= 0.0 or not (
                target * blocked > 0.0
                or (target == 0.0 and position == 0.0)
                or (not drifts and target * position > 0.0)
            ):
                break
            elif target * blocked <= 0.0:
                blocked = 0.0
        if resting and (high[t] > assets[0, book.HIGHEST] or low[t] < assets[0, book.LOWEST]):
            follow(orders, assets, 0, high[t], low[t], close[t], math.inf)
            floor, ceiling = assets[0, book.FLOOR], assets[0, book.CEILING]
        equities[t - first] = worth
        t += 1
    assets[0, book.BLOCKED] = blocked
    if position != 0.0:
        account[book.IN_MARKET] += t - start
    return t
