"""The trading machine: one account stepped bar by bar, for one symbol or many, with shared cash.

Of a bar `t`: funding that falls due at the open; the market orders decided on the close before fill at the open,
reducing ones first, then the smallest, so that the fewest fail for want of cash; the resting orders are walked through
the bar, or through its finer bars; borrowing, interest and funding inside the bar are paid; the account is marked at
the close, its margin and its limits are checked; then the decisions of the close are turned into orders. Symbols take
their turns by name, so that the order of columns decides nothing. Stopping after any bar and going on from a copy of
the tables changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tradelib._jit import jit
from tradelib._memory import empty, shared
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape, grown
from tradelib.backtest.execution import (
    enter_cash,
    execute,
    level_at,
    link,
    new_order,
    others,
    trail,
    wanted,
    watch_margins,
)
from tradelib.backtest.glide import glide
from tradelib.backtest.guards import free, is_adding, is_limited, refusal
from tradelib.backtest.kernel import (
    borrow_cost,
    equity,
    funding_payment,
    interest_cost,
    order_quantity,
    position_after,
    quantity_to_reach,
)
from tradelib.backtest.ride import ride
from tradelib.backtest.walk import expire, follow, walk
from tradelib.risk import judging
from tradelib.risk.judging import close_bar, protect

__all__ = [
    "ALL",
    "Simulation",
    "advance",
    "carry",
    "decide",
    "ends_in_time",
    "fill_queue",
    "flat",
    "has_room",
    "hold",
    "holding_costs",
    "is_settled",
    "make_tape",
    "mark",
    "may_refuse",
    "meet_orders",
    "resume",
    "rows_per_order",
    "simulate",
]

ALL = 0
_REDUCING = 1
_ADDING = 2
"""Which decisions are looked at: with limits first those that reduce a position, then those that need room."""


class Simulation(NamedTuple):
    """One finished run: the account at each close, float64 `(bars,)`, and the machine's tables cut to size."""

    equity: np.ndarray
    orders: np.ndarray
    fills: np.ndarray
    entries: np.ndarray
    machine: Machine


@jit(_nrt=False)
def has_room(m: Machine, script: np.ndarray, spawn: int) -> bool:
    """True while the tables can take whatever one bar, or finer bar, may bring: `spawn` rows of each order."""
    assets, due = m.assets.shape[0], script.shape[0] - m.counts[book.SCRIPTED]
    orders = (m.counts[book.QUEUED] + m.counts[book.LINKED] + assets) * spawn + 3 * assets + 2 * due + 8
    return (
        m.counts[book.ORDERS] + orders <= m.orders.shape[0]
        and m.counts[book.FILLS] + orders <= m.fills.shape[0]
        and m.counts[book.ENTRIES] + 7 * assets + 10 <= m.entries.shape[0]
        and (m.rules[judging.GUARDS] == 0.0 or m.counts[book.CLOSED] + orders <= m.closed.shape[0])
        and 2 * m.counts[book.QUEUED] + 3 * assets + 2 * due <= m.queue.shape[0]
    )


@jit(_nrt=False)
def rows_per_order(m: Machine, script: np.ndarray) -> int:
    """Most rows that one order may cost within a walk: itself, the half of a flip that is refused, the exits of the
    position it opens, once more those after each scale-in, liquidation; and a grid's order may come back on each of the
    walk's legs."""
    most, legs = 2, 1
    for p in range(m.policies.shape[0]):
        exits = 2 + int(m.policies[p, book.RUNGS]) if m.policies[p, book.PROTECTS] == 1.0 else 0
        exits += 1 if m.rules[book.MAINTENANCE] > 0.0 else 0
        scaling = int(m.policies[p, book.SCALE_ORDERS])
        most = max(most, 2 + exits + scaling * (1 + exits))
    for row in range(script.shape[0]):
        if script[row, book.SPACING] > 0.0:
            legs = 8
    return most * legs


@jit(_nrt=False, forceinline=True)
def _queue(m: Machine, a: int, quantity: float, reason: float, t: int) -> int:
    """Place a market order for the next open."""
    k = new_order(m, a, book.MARKET, quantity, reason, t)
    m.queue[m.counts[book.QUEUED]] = k
    m.counts[book.QUEUED] += 1
    return k


@jit(_nrt=False)
def _sort_queue(m: Machine, tape: Tape, t: int) -> None:
    """Reducing orders first, then by value, then by placing: the sequence of the queue, which is kept among equals."""
    queue, count, first, rest = m.queue, m.counts[book.QUEUED], 0, m.counts[book.QUEUED]
    for i in range(count):
        k = queue[i]
        a, quantity = int(m.orders[k, book.ASSET]), m.orders[k, book.QUANTITY]
        position = m.assets[a, book.POSITION]
        again = m.orders[k, book.REASON] == book.SIGNAL and m.assets[a, book.EXPECTED] * position < 0.0
        closes = math.isnan(quantity)
        if not (closes or again or is_adding(position, quantity)):
            queue[first] = k
            first += 1
        else:  # what closes the rest comes after what closes a part
            m.orders[k, book.LEVEL] = -1.0 if closes else abs(quantity) * tape.open[t, a]
            queue[rest] = k
            rest += 1
    _sort_by_level(m.orders, queue, count, first, rest - count)


@jit(_nrt=False)
def _sort_by_level(orders: np.ndarray, queue: np.ndarray, source: int, target: int, count: int) -> None:
    """Move `count` places of the queue from `source` to `target`, sorted by the level of their orders.

    Merges of ever longer runs, to and fro between the two stretches: stable, and without memory of its own.
    """
    goal, width = target, 1
    while width < count:
        for start in range(0, count, 2 * width):
            _merge(orders, queue, source, target, start, min(start + width, count), min(start + 2 * width, count))
        source, target, width = target, source, 2 * width
    for i in range(count if source != goal else 0):
        queue[goal + i] = queue[source + i]


@jit(_nrt=False, forceinline=True)
def _merge(orders: np.ndarray, queue: np.ndarray, source: int, target: int, start: int, middle: int, stop: int) -> None:
    """Merge two sorted runs that follow each other; what stands in the first one comes first among equals."""
    i, j = source + start, source + middle
    for place in range(target + start, target + stop):
        earlier = j == source + stop
        if not earlier and i < source + middle:
            earlier = orders[queue[i], book.LEVEL] <= orders[queue[j], book.LEVEL]
        queue[place] = queue[i] if earlier else queue[j]
        i, j = (i + 1, j) if earlier else (i, j + 1)


@jit(_nrt=False, forceinline=True)
def fill_queue(m: Machine, tape: Tape, t: int) -> None:
    """Market orders meet the open of bar `t`."""
    if m.counts[book.QUEUED] > 1:
        _sort_queue(m, tape, t)
    value, exposure = 0.0, 0.0
    if m.assets.shape[0] > 1:
        value, exposure = others(m, tape, t, -1, -1)
    for i in range(m.counts[book.QUEUED]):
        k = m.queue[i]
        a = int(m.orders[k, book.ASSET])
        price, held = tape.open[t, a], m.assets[a, book.POSITION]
        m.orders[k, book.LEVEL] = math.nan
        m.assets[a, book.EXPECTED] = held
        alone = m.assets.shape[0] == 1
        rest = 0.0 if alone else value - held * price
        rest_exposure = 0.0 if alone else exposure - abs(held) * price
        waits = m.orders[k, book.STATUS] == book.WORKING  # or one of its group was filled
        if waits and execute(m, tape, t, -1, k, price, True, False, rest, rest_exposure):
            now = m.assets[a, book.POSITION]
            value, exposure = rest + now * price, rest_exposure + abs(now) * price
    m.counts[book.QUEUED] = 0


@jit(_nrt=False, forceinline=True)
def _walk_bar(m: Machine, tape: Tape, script: np.ndarray, t: int, spawn: int) -> bool:
    """Resting orders through bar `t`, or through its finer bars; False where a table was full before the last one."""
    start, stop = 0, 0
    if tape.fine_first.shape[0] > 0:
        start, stop = tape.fine_first[t] + m.counts[book.WALKED], tape.fine_first[t + 1]
    finer = start < stop
    for row in range(start, stop if finer else start + 1):
        if finer and m.counts[book.LINKED] > 0 and row > start and not has_room(m, script, spawn):
            m.counts[book.WALKED] = row - tape.fine_first[t]
            return False
        for i in range(m.assets.shape[0]):
            a = int(m.assets[i, book.NEXT_TURN])
            open_, high, low, close = tape.open[t, a], tape.high[t, a], tape.low[t, a], tape.close[t, a]
            if finer:
                open_, high = tape.fine_open[row, a], tape.fine_high[row, a]
                low, close = tape.fine_low[row, a], tape.fine_close[row, a]
            _walk_symbol(m, tape, t, row if finer else -1, a, open_, high, low, close)
    m.counts[book.WALKED] = 0
    return True


@jit(_nrt=False, forceinline=True)
def _walk_symbol(
    m: Machine, tape: Tape, t: int, row: int, a: int, open_: float, high: float, low: float, close: float
) -> None:
    """Resting orders of one symbol through one bar, then its trailing and break-even levels. NaN: nothing to see."""
    if m.assets[a, book.FIRST] < 0.0 or high != high or (m.terms[a, book.IMPACT] > 0.0 and tape.volume[t, a] == 0.0):
        return
    if low <= m.assets[a, book.FLOOR] or high >= m.assets[a, book.CEILING]:
        walk(m, tape, t, row, a, open_, high, low, close)
    unproven, m.assets[a, book.INSIDE] = m.assets[a, book.INSIDE], book.NONE
    if m.assets[a, book.MOVING] > 0.0:
        follow(m.orders, m.assets, a, high, low, close, unproven if unproven >= 0.0 else math.inf)


@jit(_nrt=False)
def carry(m: Machine, tape: Tape, t: int) -> None:
    """What a position costs by being held over the bar: funding inside of it, borrowed assets, borrowed cash."""
    for a in range(m.assets.shape[0]):
        position, close = m.assets[a, book.POSITION], tape.close[t, a]
        if position != 0.0 and tape.funding_inside.shape[0] > 0 and tape.funding_inside[t, a] != 0.0:
            enter_cash(m, t, a, book.FUNDING, -funding_payment(position, close, tape.funding_inside[t, a]))
        if position < 0.0 and m.terms[a, book.BORROW_RATE] > 0.0:
            enter_cash(m, t, a, book.BORROWING, -borrow_cost(position, close, m.terms[a, book.BORROW_RATE]))
    if m.account[book.CASH] < 0.0 and m.rules[book.INTEREST_RATE] > 0.0:
        enter_cash(m, t, book.NONE, book.INTEREST, -interest_cost(m.account[book.CASH], m.rules[book.INTEREST_RATE]))


@jit(_nrt=False)
def _fund_at_open(m: Machine, tape: Tape, t: int) -> None:
    for a in range(m.assets.shape[0]):
        position, rate = m.assets[a, book.POSITION], tape.funding_open[t, a]
        if position != 0.0 and rate != 0.0:
            enter_cash(m, t, a, book.FUNDING, -funding_payment(position, tape.open[t, a], rate))


@jit(_nrt=False, forceinline=True)
def mark(assets: np.ndarray, close: np.ndarray, t: int, cash: float) -> tuple[float, float]:
    """Equity and gross exposure at the close, summed in four lanes that do not wait for each other."""
    whole = assets.shape[0] - assets.shape[0] % 4
    first = second = third = fourth = exposure = more = 0.0
    for a in range(0, whole, 4):
        one, two = assets[a, book.POSITION] * close[t, a], assets[a + 1, book.POSITION] * close[t, a + 1]
        three, four = assets[a + 2, book.POSITION] * close[t, a + 2], assets[a + 3, book.POSITION] * close[t, a + 3]
        first, second, third, fourth = first + one, second + two, third + three, fourth + four
        exposure, more = exposure + (abs(one) + abs(two)), more + (abs(three) + abs(four))
    for a in range(whole, assets.shape[0]):
        worth = assets[a, book.POSITION] * close[t, a]
        first, exposure = first + worth, exposure + abs(worth)
    return equity(cash, 1.0, (first + second) + (third + fourth)), exposure + more


@jit(_nrt=False)
def _check_margin(m: Machine, tape: Tape, t: int, worth: float, exposure: float) -> float:
    """Margin call, and liquidation of everything at the close where only that is left; returns the equity after it."""
    short = exposure / m.rules[book.LEVERAGE] - worth
    if short > 1e-9 * exposure and m.account[book.CALLED] == 0.0:
        enter_cash(m, t, book.NONE, book.MARGIN_CALL, 0.0)
    m.account[book.CALLED] = 1.0 if short > 1e-9 * exposure else 0.0
    if worth >= m.rules[book.MAINTENANCE] * exposure:
        return worth
    for i in range(m.assets.shape[0]):
        a = int(m.assets[i, book.NEXT_TURN])
        if m.assets[a, book.POSITION] != 0.0:
            k = new_order(m, a, book.MARKET, math.nan, book.LIQUIDATION, t)
            if execute(m, tape, t, -1, k, tape.close[t, a], True, False, 0.0, 0.0):
                lost = m.rules[book.LIQUIDATION_RATE] * m.orders[k, book.PAID_PRICE] * abs(m.orders[k, book.QUANTITY])
                if lost > 0.0:
                    enter_cash(m, t, a, book.LIQUIDATION_FEE, -lost)
    return mark(m.assets, tape.close, t, m.account[book.CASH])[0]


@jit(_nrt=False)
def _close_all(m: Machine, t: int, reason: float) -> None:
    for i in range(m.assets.shape[0]):
        a = int(m.assets[i, book.NEXT_TURN])
        if m.assets[a, book.EXPECTED] != 0.0:
            _leave(m, a, reason, t)


@jit(_nrt=False)
def _check_limits(m: Machine, tape: Tape, t: int, worth: float) -> None:
    """Daily loss and profit, drawdown, runs of losses, protections: entries halt, and the first three close it all."""
    day = tape.past[t, judging.PAST_DAY] if tape.past.shape[0] > 0 else judging.NEVER
    tripped = close_bar(m.rules, m.account, t, day, worth)
    if tripped & (judging.TRIPPED_LOSS | judging.TRIPPED_PROFIT) != 0:
        lost = tripped & judging.TRIPPED_LOSS != 0
        enter_cash(m, t, book.NONE, book.DAY_STOP if lost else book.PROFIT_STOP, 0.0)
        _close_all(m, t, book.DAY_LIMIT if lost else book.DAY_PROFIT)
    if tripped & judging.TRIPPED_DRAWDOWN != 0:
        enter_cash(m, t, book.NONE, book.DRAWDOWN_STOP, 0.0)
        _close_all(m, t, book.DRAWDOWN_LIMIT)
    if tripped & judging.TRIPPED_STREAK != 0:
        enter_cash(m, t, book.NONE, book.LOSS_STOP, 0.0)
    if m.rules[judging.GUARDS] > 0.0 and protect(m.rules, m.account, m.assets, m.closed, m.counts[book.CLOSED], t):
        if m.account[judging.BARRED_SINCE] == t:
            enter_cash(m, t, book.NONE, book.PROTECTION, 0.0)
        for i in range(m.assets.shape[0]):
            a = int(m.assets[i, book.NEXT_TURN])
            if m.assets[a, judging.SYMBOL_BARRED_SINCE] == t:
                enter_cash(m, t, a, book.PROTECTION, 0.0)


@jit(_nrt=False)
def _exit_in_time(m: Machine, t: int) -> None:
    """Positions that have been held for as many bars as their policy allows leave at the next open."""
    for i in range(m.assets.shape[0]):
        a = int(m.assets[i, book.NEXT_TURN])
        if m.assets[a, book.EXPECTED] != 0.0:
            p = int(m.assets[a, book.HELD_POLICY])
            if t - m.assets[a, book.OPENED_AT] + 1.0 >= m.policies[p, book.EXIT_AFTER]:
                _leave(m, a, book.TIME_EXIT, t)


@jit(_nrt=False)
def _leave(m: Machine, a: int, reason: float, t: int) -> None:
    """Whatever is held of `a` goes at the next open; decisions of this close are made as if it had gone."""
    _queue(m, a, math.nan, reason, t)
    m.assets[a, book.EXPECTED] = 0.0


@jit(_nrt=False)
def _send(m: Machine, tape: Tape, t: int, k: int) -> None:
    """Let a checked market order wait for the next open; what it takes off a position is free for other entries."""
    a = int(m.orders[k, book.ASSET])
    before = m.assets[a, book.EXPECTED]
    after = position_after(before, wanted(m, k, before), m.terms[a, book.LOTS])
    free(m, tape, t, a, before, after)
    m.assets[a, book.EXPECTED] = after
    m.queue[m.counts[book.QUEUED]] = k
    m.counts[book.QUEUED] += 1


@jit(_nrt=False)
def _atr(tape: Tape, t: int, a: int) -> float:
    """The ATR known at the close of `t`; NaN where there is none."""
    return tape.atr[t, a] if tape.atr.shape[0] > 0 else math.nan


@jit(_nrt=False)
def _needs_atr(m: Machine, p: int) -> bool:
    """True when policy `p` measures a protective distance in ATRs."""
    for column in (book.STOP_UNIT, book.TRAIL_BY_UNIT, book.TRAIL_FROM_UNIT, book.EVEN_UNIT, book.SCALE_UNIT):
        if m.policies[p, column] == book.ATR and not math.isnan(m.policies[p, column - 1]):
            return True
    for rung in range(int(m.policies[p, book.RUNGS])):
        if m.policies[p, book.RUNG + 3 * rung + 1] == book.ATR:
            return True
    return False


@jit(_nrt=False)
def _is_contradictory(m: Machine, p: int, side: float, price: float, atr: float) -> bool:
    """True when for an entry at `price` policy `p` names a stop that is no loss, a target that is no gain, or a
    break-even move beyond the price that triggers it."""
    trigger = level_at(m.policies[p, book.EVEN_AT], m.policies[p, book.EVEN_UNIT], price, atr, side)
    if (trigger - price * (1.0 + side * m.policies[p, book.EVEN_OFFSET])) * side <= 0.0:
        return True
    stop = (m.policies[p, book.STOP_AT] - price) * side
    if m.policies[p, book.STOP_UNIT] == book.LEVEL_ITSELF and stop >= 0.0:
        return True
    for rung in range(int(m.policies[p, book.RUNGS])):
        column = book.RUNG + 3 * rung
        gain = (m.policies[p, column] - price) * side
        if m.policies[p, column + 1] == book.LEVEL_ITSELF and gain <= 0.0:
            return True
    return False


@jit(_nrt=False)
def _refuse(m: Machine, k: int, t: int, cause: float) -> None:
    """Record an order that never worked."""
    m.orders[k, book.STATUS], m.orders[k, book.CAUSE], m.orders[k, book.FILL_BAR] = book.REJECTED, cause, t


@jit(_nrt=False)
def _place(m: Machine, tape: Tape, t: int, k: int, worth: float) -> None:
    """Check a new order against lots, the market's minimum and the limits; put it to work or record why not.

    A market order that would flip a position and may not: what closes is sent all the same. A resting one that would
    flip is asked when it fills, because what it closes is never forbidden.
    """
    a, quantity, kind = int(m.orders[k, book.ASSET]), m.orders[k, book.QUANTITY], m.orders[k, book.KIND]
    close, position = tape.close[t, a], m.assets[a, book.EXPECTED]
    cause, market, flips = book.ALLOWED, kind == book.MARKET, quantity * position < 0.0
    if m.orders[k, book.REDUCES] == 0.0:
        p = int(m.orders[k, book.POLICY]) if m.orders[k, book.POLICY] >= 0.0 else a
        opens, price = is_adding(position, quantity), close
        if kind == book.LIMIT or kind == book.STOP:
            price = m.orders[k, book.LEVEL]
        if quantity == 0.0:
            cause = book.BELOW_LOT
        elif abs(quantity) * price < m.terms[a, book.MINIMUM]:
            cause = book.BELOW_MINIMUM
        elif opens and _needs_atr(m, p) and math.isnan(tape.atr[t, a]):
            cause = book.NO_DISTANCE
        elif opens and _is_contradictory(m, p, math.copysign(1.0, quantity), price, _atr(tape, t, a)):
            cause = book.WRONG_SIDE
        elif market or not flips:
            cause = refusal(m, tape, t, k, quantity, worth)
            if cause != book.ALLOWED and flips:
                _send(m, tape, t, new_order(m, a, book.MARKET, -position, m.orders[k, book.REASON], t))
    if cause != book.ALLOWED:
        _refuse(m, k, t, cause)
    elif market:
        _send(m, tape, t, k)
    else:
        if m.orders[k, book.KIND] == book.TRAILING:
            trail(m.orders, k, close)
        link(m, k)


@jit(_nrt=False)
def _follow_script(m: Machine, tape: Tape, script: np.ndarray, t: int, worth: float) -> None:
    """Place the explicit orders that were decided on bar `t`; a weight becomes a quantity at the close."""
    row = m.counts[book.SCRIPTED]
    while row < script.shape[0] and script[row, book.PLACED] <= t:
        k = new_order(m, int(script[row, book.ASSET]), script[row, book.KIND], 0.0, book.EXPLICIT, t)
        for column in range(book.ORDER_COLUMNS):
            m.orders[k, column] = script[row, column]
        m.orders[k, book.PLACED] = t
        a, weight = int(script[row, book.ASSET]), script[row, book.WEIGHT]
        quantity = m.orders[k, book.QUANTITY] if math.isnan(weight) else weight * worth / tape.close[t, a]
        lots = m.terms[a, book.LOTS]
        if lots > 0.0 and not math.isnan(quantity):
            quantity = math.copysign(math.floor(abs(quantity) * lots + 1e-9) / lots, quantity)
        m.orders[k, book.QUANTITY] = quantity
        if not math.isnan(weight) and worth <= 0.0:
            m.orders[k, book.QUANTITY] = weight * 0.0
            _refuse(m, k, t, book.NO_CASH)
        else:
            _place(m, tape, t, k, worth)
        row += 1
        m.counts[book.SCRIPTED] = row


@jit(_nrt=False, forceinline=True)
def decide(m: Machine, tape: Tape, target: np.ndarray, t: int, a: int, worth: float, plain: bool, turn: int) -> None:
    """Turn the target of symbol `a` known at the close of `t` into a market order. `plain`: nothing can forbid it.

    `turn`: ALL, or which orders are placed now. A symbol that leaves anyway trades from zero: an entry on the other
    side, or by an event, fills at the same open; a weight of the side that leaves asks for nothing.
    """
    aim, position, close = target[t, a], m.assets[a, book.EXPECTED], tape.close[t, a]
    if aim * m.assets[a, book.BLOCKED] > 0.0:
        return
    m.assets[a, book.BLOCKED] = 0.0
    held = m.assets[a, book.POSITION]
    if position != held and (position != 0.0 or (m.rules[book.EVENTS] == 0.0 and aim * held > 0.0)):
        return
    lots, minimum = m.terms[a, book.LOTS], m.terms[a, book.MINIMUM]
    if m.rules[book.IN_UNITS] == 1.0:
        quantity = quantity_to_reach(aim, position, close, lots, minimum)
    else:
        quantity = order_quantity(aim, m.rules[book.BAND], worth, close, position, lots, minimum)
    if quantity != 0.0:
        if plain:
            _queue(m, a, quantity, book.SIGNAL, t)
            m.assets[a, book.EXPECTED] = position_after(position, quantity, lots)
        elif turn == ALL or (turn == _ADDING) == is_adding(position, quantity):
            _place(m, tape, t, new_order(m, a, book.MARKET, quantity, book.SIGNAL, t), worth)
    elif turn != _REDUCING and (lots > 0.0 or minimum > 0.0) and (t == 0 or target[t - 1, a] != aim):
        _record_small(m, aim if m.rules[book.IN_UNITS] == 1.0 else aim * max(worth, 0.0) / close, a, t)


@jit(_nrt=False)
def _record_small(m: Machine, aim: float, a: int, t: int) -> None:
    """Record the order towards `aim` units that is too small for the market; drift of a weight is no order."""
    position, lots = m.assets[a, book.EXPECTED], m.terms[a, book.LOTS]
    missing = aim - position
    if missing == 0.0 or (aim * position > 0.0 and m.rules[book.IN_UNITS] == 0.0):
        return
    k = new_order(m, a, book.MARKET, missing, book.SIGNAL, t)
    less = lots > 0.0 and math.floor(abs(missing) * lots + 1e-9) == 0.0
    _refuse(m, k, t, book.BELOW_LOT if less else book.BELOW_MINIMUM)


@jit(_nrt=False)
def is_settled(assets: np.ndarray, a: int, aim: float, worth: float, drifts: bool) -> bool:
    """True when target `aim` obviously asks for nothing, so that the common bar stays short."""
    position = assets[a, book.EXPECTED]
    if aim != aim:
        return True
    if worth <= 0.0:
        return False
    if aim * assets[a, book.BLOCKED] > 0.0:
        return True
    assets[a, book.BLOCKED] = 0.0
    return (aim == 0.0 and position == 0.0) or (not drifts and aim * position > 0.0)


@jit(_nrt=False)
def _decide_in_turns(m: Machine, tape: Tape, target: np.ndarray, t: int, worth: float, drifts: bool) -> None:
    """Decisions of a close under limits: first those that reduce a position, then those that need the room."""
    for turn in range(_REDUCING, _ADDING + 1):
        for i in range(0 if _is_silent(target, t) else target.shape[1]):
            a = int(m.assets[i, book.NEXT_TURN])
            if not is_settled(m.assets, a, target[t, a], worth, drifts):
                decide(m, tape, target, t, a, worth, False, turn)


@jit(_nrt=False)
def _is_silent(target: np.ndarray, t: int) -> bool:
    """True when no target of bar `t` is a number, or there are none at all: nothing is decided."""
    known = 0
    if target.shape[0] == 0:
        return True
    for a in range(target.shape[1]):
        known += 1 if target[t, a] == target[t, a] else 0
    return known == 0


@jit(_nrt=False)
def _is_quiet(assets: np.ndarray, high: np.ndarray, low: np.ndarray, t: int) -> bool:
    """True when no resting order can act on bar `t`, and no moving level has to follow it."""
    for a in range(assets.shape[0]):
        if assets[a, book.FIRST] >= 0.0:
            if low[t, a] <= assets[a, book.FLOOR] or high[t, a] >= assets[a, book.CEILING]:
                return False
            if assets[a, book.MOVING] > 0.0 and (
                high[t, a] > assets[a, book.HIGHEST] or low[t, a] < assets[a, book.LOWEST]
            ):
                return False
        if assets[a, book.TIMED] > 0.0:
            return False
    return True


@jit(_nrt=False)
def may_refuse(m: Machine) -> bool:
    """True when a policy may refuse an entry: its distance is not known yet, or its level lies on the wrong side."""
    for p in range(m.policies.shape[0]):
        if _needs_atr(m, p) or m.policies[p, book.STOP_UNIT] == book.LEVEL_ITSELF:
            return True
        if not math.isnan(m.policies[p, book.EVEN_AT]) and m.policies[p, book.EVEN_UNIT] != book.FRACTION:
            return True
        for rung in range(int(m.policies[p, book.RUNGS])):
            if m.policies[p, book.RUNG + 3 * rung + 1] == book.LEVEL_ITSELF:
                return True
    return False


@jit(_nrt=False)
def ends_in_time(m: Machine) -> bool:
    """True when a policy closes positions after a number of bars."""
    for p in range(m.policies.shape[0]):
        if m.policies[p, book.EXIT_AFTER] != math.inf:
            return True
    return False


@jit(_nrt=False)
def holding_costs(m: Machine, tape: Tape) -> bool:
    """True when holding costs something."""
    if tape.funding_inside.shape[0] > 0 or m.rules[book.INTEREST_RATE] > 0.0:
        return True
    for a in range(m.assets.shape[0]):
        if m.terms[a, book.BORROW_RATE] > 0.0:
            return True
    return False


@jit(_nrt=False, forceinline=True)
def meet_orders(m: Machine, tape: Tape, script: np.ndarray, t: int, spawn: int) -> bool:
    """Resting orders over bar `t`: they act, their levels follow, their time runs out; False if tables are full."""
    if not _walk_bar(m, tape, script, t, spawn):
        return False
    for a in range(m.assets.shape[0]):
        if m.assets[a, book.TIMED] > 0.0:
            expire(m, a, t)
    return True


@jit(_nrt=False)
def hold(m: Machine, tape: Tape, t: int, worth: float, exposure: float) -> float:
    """What the close brings besides being marked: margin, limits, time exits; returns the equity after it."""
    if m.rules[book.MAINTENANCE] > 0.0:
        if exposure > 0.0:
            worth = _check_margin(m, tape, t, worth, exposure)
        else:
            m.account[book.CALLED] = 0.0
    _check_limits(m, tape, t, worth)
    m.account[judging.EQUITY] = worth
    _exit_in_time(m, t)
    _roll_volume(m, t)
    return worth


@jit(nogil=True, _nrt=False)
def advance(
    m: Machine,
    tape: Tape,
    target: np.ndarray,
    line: np.ndarray,
    script: np.ndarray,
    equities: np.ndarray,
    first: int,
    stop: int,
) -> int:
    """Run the account from its next bar up to bar `stop`; returns the bar it got to (less, when a table is full).

    `target`: `(n, a)` target weights (or units) known at each close, NaN for no opinion; `line`: the same as `(n,)`
    where there is one symbol. `script`: explicit orders sorted by their bar. `equities`: account value at each close,
    from bar `first` on.
    """
    account, assets, counts, close = m.account, m.assets, m.counts, tape.close
    limited, timed, carries, spawn = is_limited(m), ends_in_time(m), holding_costs(m, tape), rows_per_order(m, script)
    plain = not limited and not timed and not may_refuse(m)
    margined, funded = m.rules[book.MAINTENANCE] > 0.0, tape.funding_open.shape[0] > 0
    attended = limited or timed or margined or m.tiers.shape[0] > 0
    account[book.LIMITED] = 1.0 if limited else 0.0
    for i in range(assets.shape[0]):
        assets[i, book.NEXT_TURN] = m.policies[i, book.TURN]
    drifts = m.rules[book.BAND] != math.inf or m.rules[book.IN_UNITS] == 1.0
    finer, count, rows = tape.fine_first.shape[0] > 0, target.shape[1] if target.shape[0] > 0 else 0, -1
    glides = assets.shape[0] == 1 and not (attended or finer or carries or funded)
    in_turns = limited and assets.shape[0] > 1
    t = counts[book.NEXT_BAR]
    while t < stop:
        waits = counts[book.QUEUED] == 0 and counts[book.SCRIPTED] == script.shape[0] and assets[0, book.TIMED] == 0.0
        if glides and t >= first and waits:
            begin = t
            if assets[0, book.MOVING] == 1.0:
                t = ride(m, tape, line, equities, t, first, stop, drifts)
            if t == begin:
                t = glide(m, tape, line, equities, t, first, stop, drifts)
            if t == stop:
                break
        if counts[book.ORDERS] + counts[book.ENTRIES] + counts[book.FILLS] != rows:
            rows = counts[book.ORDERS] + counts[book.ENTRIES] + counts[book.FILLS]
            if not has_room(m, script, spawn):
                break
        worth = account[book.CASH]
        if t >= first:
            if counts[book.WALKED] == 0:
                if funded:
                    _fund_at_open(m, tape, t)
                if counts[book.QUEUED] > 0:
                    fill_queue(m, tape, t)
                if margined:
                    watch_margins(m, tape, t, -1)
            acts = counts[book.LINKED] > 0 and (finer or not _is_quiet(assets, tape.high, tape.low, t))
            if acts and not meet_orders(m, tape, script, t, spawn):
                break
            counts[book.WALKED] = 0
            if carries:
                carry(m, tape, t)
            worth, exposure = mark(assets, close, t, account[book.CASH])
            if attended:
                worth = hold(m, tape, t, worth, exposure)
            equities[t - first] = worth
            if exposure > 0.0:
                account[book.IN_MARKET] += 1.0
        if in_turns:
            _decide_in_turns(m, tape, target, t, worth, drifts)
        for i in range(0 if in_turns or _is_silent(target, t) else count):
            a = int(m.assets[i, book.NEXT_TURN])
            if not is_settled(assets, a, target[t, a], worth, drifts):
                decide(m, tape, target, t, a, worth, plain, ALL)
        if counts[book.SCRIPTED] < script.shape[0]:
            _follow_script(m, tape, script, t, worth)
        t += 1
    counts[book.NEXT_BAR] = t
    return t


@jit(_nrt=False)
def _roll_volume(m: Machine, t: int) -> None:
    """Forget the volume that left the window of the fee tiers."""
    if m.tiers.shape[0] == 0:
        return
    gone = t - int(m.rules[book.TIER_BARS])
    if gone >= 0:
        m.account[book.TRADED] -= m.traded[gone]


def make_tape(
    open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, **more: np.ndarray
) -> Tape:
    """A tape of float64 arrays `(n, a)`; `more`: its other fields by name, empty where they are not given."""
    arrays: dict[str, np.ndarray] = {name: np.empty((0, close.shape[1])) for name in Tape._fields}
    arrays |= {"fine_first": np.empty(0, np.int64)}
    arrays |= {"open": open_, "high": high, "low": low, "close": close, "volume": volume, **more}
    arrays |= {f"{name}_line": flat(arrays[name]) for name in ("high", "low", "close")}
    return Tape(**{name: shared(array) for name, array in arrays.items()})


def flat(table: np.ndarray) -> np.ndarray:
    """The only column of `(n, 1)` as a contiguous `(n,)` without a copy; of several columns an empty array."""
    line = np.ascontiguousarray(table).reshape(-1) if table.shape[1] == 1 else np.empty(0)
    line.flags.writeable = False
    return line


def simulate(
    machine: Machine,
    tape: Tape,
    target: np.ndarray | None = None,
    *,
    script: np.ndarray | None = None,
    first: int = 0,
    stop: int | None = None,
    on_bar: Callable[[int], None] | None = None,
) -> Simulation:
    """Run a fresh `machine` over `tape` from bar `first` to the end, or to before bar `stop`.

    `target`: float64 `(n, a)`, weights of equity or units, NaN for no opinion. `script`: explicit orders,
    `(k, ORDER_COLUMNS)`, sorted by `PLACED`. The machine is consumed: its tables become those of the result.
    `on_bar(t)` is called now and then. Continue a finished run with `resume`.
    """
    bars, assets = tape.close.shape
    stop = bars if stop is None else min(stop, bars)
    equities = empty(stop - first)
    target = np.empty((0, assets)) if target is None else target
    script = np.empty((0, book.ORDER_COLUMNS)) if script is None else script
    return _run(machine, tape, shared(target), shared(script), equities, first, stop, on_bar)


def resume(
    simulation: Simulation,
    tape: Tape,
    target: np.ndarray | None = None,
    *,
    script: np.ndarray | None = None,
    first: int = 0,
    stop: int | None = None,
) -> Simulation:
    """Go on from where `simulation` stopped, with the same arguments; the earlier simulation stays as it is."""
    bars, assets = tape.close.shape
    stop = bars if stop is None else min(stop, bars)
    machine = Machine(*(table.copy() for table in simulation.machine))
    equities = np.empty(stop - first)
    equities[: len(simulation.equity)] = simulation.equity
    target = np.empty((0, assets)) if target is None else target
    script = np.empty((0, book.ORDER_COLUMNS)) if script is None else script
    return _run(machine, tape, shared(target), shared(script), equities, first, stop, None)


def _run(
    machine: Machine,
    tape: Tape,
    target: np.ndarray,
    script: np.ndarray,
    equities: np.ndarray,
    first: int,
    stop: int,
    on_bar: Callable[[int], None] | None,
) -> Simulation:
    line = flat(target)
    while advance(machine, tape, target, line, script, equities, first, stop) < stop:
        machine = grown(machine)
        if on_bar is not None:
            on_bar(int(machine.counts[book.NEXT_BAR]))
    counts = machine.counts
    return Simulation(
        equities,
        machine.orders[: counts[book.ORDERS]],
        machine.fills[: counts[book.FILLS]],
        machine.entries[: counts[book.ENTRIES]],
        machine,
    )
