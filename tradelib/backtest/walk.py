"""Inside a bar: which resting order acts first, at which price, when all that is known is open, high, low and close.

The bar is walked: open, adverse extreme, favourable extreme, close. Adverse is what hurts the position that is held; a
flat account visits the nearer extreme first. So a stop-loss comes before a take-profit, and between two levels on the
same side the nearer one is met first. What is beyond at the open fills at the open. A position that is opened on the
way restarts the walk from there, adverse extreme first; the favourable extreme is visited again only where the bar
proves that it came later, which is so after a stop entry and not after a limit entry. Finer bars replace all this
guessing by their own, finer walks.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.execution import enter_cash, execute, finish, refresh_window, trail

__all__ = ["expire", "follow", "others", "walk"]


@jit(_nrt=False)
def others(m: Machine, tape: Tape, t: int, row: int, a: int) -> tuple[float, float]:
    """Signed and absolute value of the positions besides `a`, at the open of the bar (or of its finer bar `row`)."""
    value, exposure = 0.0, 0.0
    if m.assets.shape[0] > 1:
        for i in range(m.assets.shape[0]):
            position = m.assets[i, book.POSITION]
            if i != a and position != 0.0:
                price = tape.fine_open[row, i] if row >= 0 else tape.open[t, i]
                value += position * price
                exposure += abs(position) * price
    return value, exposure


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
def _next_on_leg(orders: np.ndarray, assets: np.ndarray, a: int, start: float, end: float) -> int:
    """The working order that a price moving from `start` to `end` meets first; -1 for none."""
    found, up = -1, 1.0 if end > start else -1.0
    if end == start:
        return -1
    k = int(assets[a, book.FIRST])
    while k >= 0:
        level = orders[k, book.LEVEL]
        if orders[k, book.UP] == up and (end - level) * up >= 0.0:
            nearer = found < 0 or (orders[found, book.LEVEL] - level) * up > 0.0
            if nearer or (level == orders[found, book.LEVEL] and _comes_first(orders, k, found)):
                found = k
        k = int(orders[k, book.NEXT])
    return found


@jit(_nrt=False)
def _act(m: Machine, tape: Tape, t: int, row: int, k: int, price: float, at_open: bool) -> bool:
    """Order `k` meets `price`: it fills, or a stop-limit turns into its limit. True if something was filled."""
    a, kind = int(m.orders[k, book.ASSET]), m.orders[k, book.KIND]
    if kind == book.STOP_LIMIT:
        limit, buys = m.orders[k, book.LIMIT_PRICE], m.orders[k, book.QUANTITY] > 0.0
        m.orders[k, book.KIND] = book.LIMIT
        m.orders[k, book.LEVEL] = limit
        m.orders[k, book.UP] = -1.0 if buys else 1.0
        if (price > limit) if buys else (price < limit):
            refresh_window(m.orders, m.assets, a)
            return False
        value, exposure = others(m, tape, t, row, a)
        return execute(m, tape, t, row, k, price, False, False, value, exposure)
    value, exposure = others(m, tape, t, row, a)
    if kind == book.LIMIT:
        arrives = at_open and m.orders[k, book.REASON] == book.EXPLICIT and m.orders[k, book.PLACED] == t - 1
        return execute(m, tape, t, row, k, price, False, not arrives, value, exposure)
    filled = execute(m, tape, t, row, k, price, True, False, value, exposure)
    if filled and kind == book.LIQUIDATING and m.rules[book.LIQUIDATION_RATE] > 0.0:
        lost = m.rules[book.LIQUIDATION_RATE] * abs(m.orders[k, book.QUANTITY]) * m.orders[k, book.PAID_PRICE]
        enter_cash(m, t, a, book.LIQUIDATION_FEE, -lost)
    return filled


@jit(_nrt=False)
def _meet(m: Machine, tape: Tape, t: int, row: int, a: int, k: int, price: float, at_open: bool) -> float:
    """Let order `k` act at `price`. Returns the side of a position that this opened, 0.0 for none."""
    before = m.assets[a, book.POSITION]
    filled = _act(m, tape, t, row, k, price, at_open)
    if m.orders[k, book.STATUS] == book.WORKING and not filled:
        return 0.0
    refresh_window(m.orders, m.assets, a)
    after = m.assets[a, book.POSITION]
    if not filled or after == 0.0 or before * after > 0.0:
        return 0.0
    return 1.0 if after > 0.0 else -1.0


@jit(_nrt=False)
def walk(m: Machine, tape: Tape, t: int, row: int, a: int, open_: float, high: float, low: float, close: float) -> None:
    """Resolve the working orders of symbol `a` over one bar `t` (or its finer bar `row`; -1 for the bar itself)."""
    k = _first_beyond(m.orders, m.assets, a, open_)
    while k >= 0:
        _meet(m, tape, t, row, a, k, open_, True)
        k = _first_beyond(m.orders, m.assets, a, open_)
    held = m.assets[a, book.POSITION]
    down_first = held > 0.0 or (held == 0.0 and open_ - low <= high - open_)
    one, two = (low, high) if down_first else (high, low)
    price, leg, opened = open_, 0, False
    while leg < 3:
        end = one if leg == 0 else (two if leg == 1 else close)
        k = _next_on_leg(m.orders, m.assets, a, price, end)
        if k < 0:
            price, leg = end, leg + 1
            continue
        level, kind = m.orders[k, book.LEVEL], m.orders[k, book.KIND]
        price = level if (level - price) * (end - price) > 0.0 else price
        side = _meet(m, tape, t, row, a, k, price, False)
        if side != 0.0:
            m.assets[a, book.INSIDE] = t
            if not opened:
                one, proven = (low if side > 0.0 else high), kind == book.STOP or kind == book.TRAILING
                two = (high if side > 0.0 else low) if proven else one
                opened, leg = True, 0


@jit(_nrt=False)
def follow(orders: np.ndarray, assets: np.ndarray, a: int, high: float, low: float) -> None:
    """After a bar: trailing levels follow its extremes, break-even stops move; both act from the next bar on."""
    if high <= assets[a, book.HIGHEST] and low >= assets[a, book.LOWEST]:
        return
    if high > assets[a, book.HIGHEST]:
        assets[a, book.HIGHEST] = high
    if low < assets[a, book.LOWEST]:
        assets[a, book.LOWEST] = low
    k = int(assets[a, book.FIRST])
    while k >= 0:
        up = orders[k, book.UP]
        extreme = low if up > 0.0 else high
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
