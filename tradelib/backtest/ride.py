"""The fast stretch of a position whose stop trails: the level follows bar by bar, and nothing else happens.

Like `glide`, it only leaves out what would have had no effect: the machine without it gives the same account.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.execution import refresh_window, trail, trailing_level
from tradelib.backtest.kernel import equity

__all__ = ["ride"]


@jit(_nrt=False)
def _rider(m: Machine) -> int:
    """The order that trails behind the position of a single symbol, where that is all that moves; -1: it is not so."""
    orders, assets, found = m.orders, m.assets, -1
    if assets[0, book.MOVING] != 1.0 or assets[0, book.BLOCKED] != 0.0 or m.terms[0, book.IMPACT] > 0.0:
        return -1
    k = int(assets[0, book.FIRST])
    while k >= 0:
        if not math.isnan(orders[k, book.BREAK_AT]):
            return -1
        if not math.isnan(orders[k, book.TRAIL]):
            found = k
        k = int(orders[k, book.NEXT])
    up = orders[found, book.UP]
    other = assets[0, book.LOWEST] if up < 0.0 else assets[0, book.HIGHEST]  # infinite: nobody looks at that extreme
    return found if up * assets[0, book.POSITION] < 0.0 and up * other == math.inf else -1


@jit(_nrt=False)
def _nearest(orders: np.ndarray, first: float, rider: int, side: float) -> float:
    """Highest level, times `side`, at which an order besides `rider` acts on a move against the position."""
    found, k = -math.inf, int(first)
    while k >= 0:
        level = side * orders[k, book.LEVEL]
        if k != rider and orders[k, book.UP] == -side and level > found:
            found = level
        k = int(orders[k, book.NEXT])
    return found


@jit(_nrt=False)
def ride(
    m: Machine, tape: Tape, wanted: np.ndarray, equities: np.ndarray, t: int, first: int, stop: int, drifts: bool
) -> int:
    """Mark one symbol's account while its stop trails; returns the first bar that needs attention, `t` at once where
    more than one level moves. Prices are looked at times the position's side: up is good, and the stop lies below.

    `wanted`: targets known at each close, `(n,)`; empty where there are none.
    """
    rider = _rider(m)
    if rider < 0:
        return t
    orders, assets, begin, targeted = m.orders, m.assets, t, wanted.shape[0] > 0
    position, cash, side = assets[0, book.POSITION], m.account[book.CASH], -orders[rider, book.UP]
    good, bad, close = tape.high_line, tape.low_line, tape.close_line
    edge, column = assets[0, book.CEILING], book.HIGHEST
    if side < 0.0:
        good, bad, edge, column = tape.low_line, tape.high_line, assets[0, book.FLOOR], book.LOWEST
    by, unit = orders[rider, book.TRAIL], orders[rider, book.TRAIL_UNIT]
    fixed, edge = _nearest(orders, assets[0, book.FIRST], rider, side), side * edge
    extreme, farthest = side * orders[rider, book.EXTREME], side * assets[0, column]
    goods, bads, closes, marks = good[t:stop], bad[t:stop], close[t:stop], equities[t - first : stop - first]
    asked = wanted[t:stop]
    for j in range(stop - begin):
        level = max(fixed, side * trailing_level(side * extreme, by, unit, -side))  # activated or not: look if reached
        best, worth = side * goods[j], equity(cash, position, closes[j])
        if side * bads[j] <= level or best >= edge:
            break
        if targeted and asked[j] == asked[j] and (drifts or worth <= 0.0 or asked[j] * position <= 0.0):
            break
        marks[j] = worth
        extreme, farthest = max(extreme, best), max(farthest, best)
        t += 1
    if farthest != side * assets[0, column]:
        assets[0, column] = side * farthest
        if side * extreme != orders[rider, book.EXTREME]:
            trail(orders, rider, side * extreme)
            refresh_window(orders, assets, 0)
    m.account[book.IN_MARKET] += t - begin
    return t
