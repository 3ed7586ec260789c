"""Inside a bar: which resting order acts first, at which price, when all that is known is open, high, low and close.

The bar is walked: open, adverse extreme, favourable extreme, close. Adverse is what hurts the position that is held; a
flat account visits the nearer extreme first. So a stop-loss comes before a take-profit, and between two levels on the
same side the nearer one is met first. What is beyond at the open fills at the open. A position that is opened on the
way restarts the walk from there, adverse extreme first.

A bar proves that its favourable extreme came after a stop entry, and does not after a limit entry. Orders that such a
limit fill leaves behind (targets, the other side of a grid) meet the way from the adverse extreme to the close only;
orders that rested before meet both extremes, because touching counts. Finer bars replace all this guessing by their
own, finer walks.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.execution import (
    enter_cash,
    execute,
    finish,
    others,
    refresh_window,
    trail,
    watch_margins,
)

__all__ = ["expire", "follow", "walk"]

_ADVERSE, _FAVOURABLE, _RETURNING, _CLOSING = range(4)
"""Legs of a walk: to the adverse extreme; to the favourable one; for orders that must not have seen that, from the
adverse extreme to the close; and for all from the favourable extreme to the close."""


@jit(_nrt=False)
def _first_beyond(orders: np.ndarray, assets: np.ndarray, a: int, price: float) -> int:
    """The working order whose level `price` has reached: protective ones first, then as they were placed; -1: none."""
    found = -1
    k = int(assets[a, book.FIRST])
    while k >= 0:
        reached = (price - orders[k, book.LEVEL]) * orders[k, book.UP] >= 0.0
        if reached and (found < 0 or _comes_first(orders, k, found)):
            found = k
        k = int(orders[k, book.NEXT])
    return found


@jit(_nrt=False)
def _comes_first(orders: np.ndarray, k: int, other: int) -> bool:
    """Between orders at one price: a protective stop before the rest, then the one that was placed earlier."""
    stop = orders[k, book.ATTACHED] == 1.0 and orders[k, book.KIND] != book.LIMIT
    other_stop = orders[other, book.ATTACHED] == 1.0 and orders[other, book.KIND] != book.LIMIT
    return k < other if stop == other_stop else stop


@jit(_nrt=False)
def _next_on_leg(
    orders: np.ndarray, assets: np.ndarray, a: int, start: float, end: float, oldest: float, newest: float, any_: bool
) -> int:
    """The working order in the rows from `oldest` to before `newest` that a price from `start` to `end` meets first.

    -1 for none. Without `any_` only those that need no position to reduce. Where the price is at the end already, it
    meets what waits at that very price: a second order there as well as the first.
    """
    found, up = -1, 0.0 if end == start else (1.0 if end > start else -1.0)
    k = int(assets[a, book.FIRST])
    while k >= 0:
        level = orders[k, book.LEVEL]
        counts = k >= oldest and k < newest and (any_ or orders[k, book.REDUCES] == 0.0)
        met = level == end if up == 0.0 else orders[k, book.UP] == up and (end - level) * up >= 0.0
        if counts and met:
            nearer = found < 0 or (orders[found, book.LEVEL] - level) * up > 0.0
            if nearer or (level == orders[found, book.LEVEL] and _comes_first(orders, k, found)):
                found = k
        k = int(orders[k, book.NEXT])
    return found


@jit(_nrt=False, forceinline=True)
def _act(m: Machine, tape: Tape, t: int, row: int, k: int, price: float, at_open: bool) -> bool:
    """Order `k` meets `price`: it fills, or a stop-limit turns into its limit. True if something was filled."""
    a, kind = int(m.orders[k, book.ASSET]), m.orders[k, book.KIND]
    slips, maker = kind != book.LIMIT and kind != book.STOP_LIMIT, False
    if kind == book.STOP_LIMIT:
        limit, buys = m.orders[k, book.LIMIT_PRICE], m.orders[k, book.QUANTITY] > 0.0
        m.orders[k, book.KIND] = book.LIMIT
        m.orders[k, book.LEVEL] = limit
        m.orders[k, book.UP] = -1.0 if buys else 1.0
        if (price > limit) if buys else (price < limit):
            refresh_window(m.orders, m.assets, a)
            return False
    elif kind == book.LIMIT:
        at_first = at_open and (row < 0 or row == tape.fine_first[t])
        maker = not (at_first and m.orders[k, book.REASON] == book.EXPLICIT and m.orders[k, book.PLACED] == t - 1)
    value, exposure = others(m, tape, t, row, a)
    filled = execute(m, tape, t, row, k, price, slips, maker, value, exposure)
    if filled and kind == book.LIQUIDATING and m.rules[book.LIQUIDATION_RATE] > 0.0:
        lost = m.rules[book.LIQUIDATION_RATE] * abs(m.orders[k, book.QUANTITY]) * m.orders[k, book.PAID_PRICE]
        enter_cash(m, t, a, book.LIQUIDATION_FEE, -lost)
    return filled


@jit(_nrt=False)
def _meet(m: Machine, tape: Tape, t: int, row: int, a: int, k: int, price: float, at_open: bool) -> None:
    """Let order `k` act at `price`."""
    filled = _act(m, tape, t, row, k, price, at_open)
    if filled or m.orders[k, book.STATUS] != book.WORKING:
        refresh_window(m.orders, m.assets, a)
    if filled and m.rules[book.MAINTENANCE] > 0.0:
        watch_margins(m, tape, t, row)


@jit(_nrt=False, forceinline=True)
def walk(m: Machine, tape: Tape, t: int, row: int, a: int, open_: float, high: float, low: float, close: float) -> None:
    """Resolve the working orders of symbol `a` over one bar `t` (or its finer bar `row`; -1 for the bar itself)."""
    k = _first_beyond(m.orders, m.assets, a, open_)
    while k >= 0:
        _meet(m, tape, t, row, a, k, open_, True)
        k = _first_beyond(m.orders, m.assets, a, open_)
    held = m.assets[a, book.POSITION]
    down_first = held > 0.0 or (held == 0.0 and open_ - low <= high - open_)
    one, two = (low, high) if down_first else (high, low)
    price, leg, restarted, fresh, unproven = open_, _ADVERSE, False, False, math.inf
    while leg <= _CLOSING:
        end = one if leg == _ADVERSE else (two if leg == _FAVOURABLE else close)
        oldest = unproven if leg == _RETURNING else 0.0
        newest = unproven if leg == _FAVOURABLE else math.inf
        k = _next_on_leg(m.orders, m.assets, a, price, end, oldest, newest, leg != _FAVOURABLE or not fresh)
        if k < 0:
            price, leg = (two if leg == _RETURNING else end), leg + 1
            price = one if leg == _RETURNING else price
            continue
        level, kind, grid = m.orders[k, book.LEVEL], m.orders[k, book.KIND], m.orders[k, book.SPACING] > 0.0
        price = level if (level - price) * (end - price) > 0.0 else price
        before, placed = m.assets[a, book.POSITION], float(m.counts[book.ORDERS])
        _meet(m, tape, t, row, a, k, price, False)
        after = m.assets[a, book.POSITION]
        opens = after != 0.0 and before * after <= 0.0
        if kind == book.LIMIT and (opens or abs(after) > abs(before)):
            unproven, fresh = min(unproven, placed), fresh or opens
        if opens and not (grid and restarted):
            one, two = (low, high) if after > 0.0 else (high, low)
            restarted, leg = True, _ADVERSE
    m.assets[a, book.INSIDE] = unproven


@jit(_nrt=False, forceinline=True)
def follow(
    orders: np.ndarray, assets: np.ndarray, a: int, high: float, low: float, close: float, unproven: float
) -> None:
    """After a bar: trailing levels follow its extremes, break-even stops move; both act from the next bar on.

    Orders in the rows from `unproven` on were placed at an unknown moment inside of it: only the close came after.
    """
    if high <= assets[a, book.HIGHEST] and low >= assets[a, book.LOWEST]:
        return
    certain = unproven == math.inf
    assets[a, book.HIGHEST] = max(assets[a, book.HIGHEST], high) if certain else -math.inf
    assets[a, book.LOWEST] = min(assets[a, book.LOWEST], low) if certain else math.inf
    k = int(assets[a, book.FIRST])
    while k >= 0:
        up = orders[k, book.UP]
        extreme = close if k >= unproven else (low if up > 0.0 else high)
        if not math.isnan(orders[k, book.TRAIL]) and (orders[k, book.EXTREME] - extreme) * up > 0.0:
            trail(orders, k, extreme)
        trigger = orders[k, book.BREAK_AT]
        if not math.isnan(trigger) and (extreme - trigger) * up <= 0.0:
            _break_even(orders, k)
        k = int(orders[k, book.NEXT])
    refresh_window(orders, assets, a)


@jit(_nrt=False)
def _break_even(orders: np.ndarray, k: int) -> None:
    """Move a stop to the entry once; never to a worse level than it has."""
    level, wanted = orders[k, book.LEVEL], orders[k, book.BREAK_TO]
    if math.isnan(level) or (wanted - level) * orders[k, book.UP] < 0.0:
        orders[k, book.LEVEL] = wanted
        orders[k, book.REASON] = book.BREAK_EVEN
    orders[k, book.BREAK_AT] = math.inf * orders[k, book.UP] * -1.0


@jit(_nrt=False)
def expire(m: Machine, a: int, t: int) -> None:
    """End the working orders whose last bar was `t`."""
    k = int(m.assets[a, book.FIRST])
    while k >= 0:
        following = int(m.orders[k, book.NEXT])
        if t >= m.orders[k, book.EXPIRES]:
            finish(m, k, t, book.EXPIRED, book.TIME_OVER)
        k = following
    refresh_window(m.orders, m.assets, a)
