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
SHORT = 16
"""Bars from which on testing them together was worth it: after less, as many are looked at one by one."""


@jit(_nrt=False, inline="always")
def _asks(target: float, worth: float, position: float, settled: bool) -> bool:
    """True when a bar needs attention: without branches, so that many bars are looked at together."""
    silent = (target != target) | (settled & (target * position > 0.0)) | ((position == 0.0) & (target == 0.0))
    return not (silent & (worth > 0.0))


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
    """Mark bars from `t` on; returns the first one that asks for something, or `stop`.

    `wanted`: `(n,)`. `settled`: a target of the position's side asks for nothing. A block is marked and tested without
    a branch, so that the compiler makes vector instructions of it; what it marks too far is marked again.
    """
    while t < stop:
        count = min(BLOCK, stop - t)
        prices, targets, marks = close[t : t + count], wanted[t : t + count], equities[t - first : t - first + count]
        asking = 0
        for j in range(count):
            worth = equity(cash, position, prices[j])
            marks[j] = worth
            asking += 1 if _asks(targets[j], worth, position, settled) else 0
        if asking > 0:
            place = count
            for j in range(count):
                place = min(place, j if _asks(targets[j], marks[j], position, settled) else count)
            return t + place
        t += count
    return t


@jit(_nrt=False)
def _calm(high: np.ndarray, low: np.ndarray, t: int, stop: int, top: float, bottom: float) -> int:
    """The first bar from `t` on at which a price leaves the open interval of `bottom` and `top`, or `stop`."""
    while t < stop:
        count = min(BLOCK, stop - t)
        above, below, place = high[t : t + count], low[t : t + count], count
        for j in range(count):
            place = min(place, count if (above[j] < top) & (below[j] > bottom) else j)
        if place < count:
            return t + place
        t += count
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
    retry, slips = t, m.terms[0, book.IMPACT] > 0.0
    while t < stop:
        if targeted and blocked == 0.0 and t >= retry:
            far = stop
            if resting:
                top, bottom = min(ceiling, assets[0, book.HIGHEST]), max(floor, assets[0, book.LOWEST])
                far = _calm(high, low, t, min(stop, t + 64 * BLOCK), top, bottom)
            begin = t
            t = _coast(close, wanted, equities, t, first, far, cash, position, not drifts)
            retry = t + 1 if t - begin >= SHORT else t + SHORT
            if t == stop:
                break
        if resting and (low[t] <= floor or high[t] >= ceiling):
            break
        worth = equity(cash, position, close[t])
        if targeted:
            target = wanted[t]
            if target != target:
                pass  # no opinion changes nothing: it does not lift a block either
            elif worth <= 0.0 or not (
                target * blocked > 0.0
                or (target == 0.0 and position == 0.0)
                or (not drifts and target * position > 0.0)
            ):
                break
            elif target * blocked <= 0.0:
                blocked = 0.0
        traded = not slips or tape.volume[t, 0] > 0.0
        if resting and traded and (high[t] > assets[0, book.HIGHEST] or low[t] < assets[0, book.LOWEST]):
            follow(orders, assets, 0, high[t], low[t], close[t], math.inf)
            floor, ceiling = assets[0, book.FLOOR], assets[0, book.CEILING]
        equities[t - first] = worth
        t += 1
    assets[0, book.BLOCKED] = blocked
    if position != 0.0:
        account[book.IN_MARKET] += t - start
    return t
