"""The trading machine: one account stepped bar by bar, for one symbol or many, with shared cash.

Of a bar `t`: funding that falls due at the open; the market orders decided on the close before fill at the open,
reducing ones first, then the smallest (so that the fewest fail for want of cash, whatever the order of symbols); the
resting orders are walked through the bar, or through its finer bars; borrowing, interest and funding inside the bar are
paid; the account is marked at the close, its margin and its limits are checked; then the decisions of the close are
turned into orders. Stopping after any bar and going on from a copy of the tables changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape, grown
from tradelib.backtest.execution import enter_cash, execute, link, new_order, trail, watch_margin
from tradelib.backtest.kernel import (
    borrow_cost,
    equity,
    funding_payment,
    interest_cost,
    order_quantity,
    quantity_to_reach,
)
from tradelib.backtest.walk import expire, follow, others, walk

__all__ = ["Simulation", "advance", "make_tape", "resume", "simulate"]


class Simulation(NamedTuple):
    """One finished run: the account at each close, float64 `(bars,)`, and the machine's tables cut to size."""

    equity: np.ndarray
    orders: np.ndarray
    fills: np.ndarray
    entries: np.ndarray
    machine: Machine


@jit(_nrt=False)
def _has_room(m: Machine, script: np.ndarray, spawn: int) -> bool:
    """True while the tables can take whatever one bar may bring: each order may leave `spawn` others behind."""
    assets, due = m.assets.shape[0], script.shape[0] - m.counts[book.SCRIPTED]
    orders = (m.counts[book.QUEUED] + 4 * m.counts[book.LINKED] + assets) * (1 + spawn) + 2 * assets + due + 8
    return (
        m.counts[book.ORDERS] + orders <= m.orders.shape[0]
        and m.counts[book.FILLS] + orders <= m.fills.shape[0]
        and m.counts[book.ENTRIES] + 6 * assets + 8 <= m.entries.shape[0]
        and m.counts[book.QUEUED] + 2 * assets + due <= m.queue.shape[0]
    )


@jit(_nrt=False)
def _spawn(m: Machine) -> int:
    """Orders that one fill may leave behind: exits, rungs, scale-in, liquidation, the grid's next."""
    most = 0
    for p in range(m.policies.shape[0]):
        count = 2 + int(m.policies[p, book.RUNGS]) + int(m.policies[p, book.SCALE_ORDERS])
        if m.policies[p, book.PROTECTS] == 1.0 or count > 2:
            most = max(most, count)
    return most + (2 if m.rules[book.MAINTENANCE] > 0.0 else 1)


@jit(_nrt=False, forceinline=True)
def _queue(m: Machine, a: int, quantity: float, reason: float, t: int) -> int:
    """Place a market order for the next open."""
    k = new_order(m, a, book.MARKET, quantity, reason, t)
    m.queue[m.counts[book.QUEUED]] = k
    m.counts[book.QUEUED] += 1
    return k


@jit(_nrt=False)
def _sort_queue(m: Machine, tape: Tape, t: int) -> None:
    """Reducing orders first, then by value, then by placing. (Shell sort: short, in place, the same interpreted.)"""
    count = m.counts[book.QUEUED]
    for i in range(count):
        k = m.queue[i]
        a, quantity = int(m.orders[k, book.ASSET]), m.orders[k, book.QUANTITY]
        position = m.assets[a, book.POSITION]
        reduces = math.isnan(quantity) or (quantity * position < 0.0 and abs(quantity) <= abs(position))
        m.orders[k, book.LEVEL] = -1.0 if reduces else abs(quantity) * tape.open[t, a]
    gap = count // 2
    while gap > 0:
        for i in range(gap, count):
            k, j = m.queue[i], i
            while j >= gap and _goes_after(m, m.queue[j - gap], k):
                m.queue[j] = m.queue[j - gap]
                j -= gap
            m.queue[j] = k
        gap //= 2


@jit(_nrt=False)
def _goes_after(m: Machine, i: int, k: int) -> bool:
    mine, other = m.orders[i, book.LEVEL], m.orders[k, book.LEVEL]
    return mine > other or (mine == other and i > k)


@jit(_nrt=False, forceinline=True)
def _fill_queue(m: Machine, tape: Tape, t: int) -> None:
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
        alone = m.assets.shape[0] == 1
        rest = 0.0 if alone else value - held * price
        rest_exposure = 0.0 if alone else exposure - abs(held) * price
        if execute(m, tape, t, -1, k, price, True, False, rest, rest_exposure):
            now = m.assets[a, book.POSITION]
            value, exposure = rest + now * price, rest_exposure + abs(now) * price
    m.counts[book.QUEUED] = 0


@jit(_nrt=False)
def _walk_bar(m: Machine, tape: Tape, t: int) -> None:
    """Resting orders through bar `t`, or through its finer bars where there are any."""
    start, stop = t, t
    if tape.fine_first.shape[0] > 0:
        start, stop = tape.fine_first[t], tape.fine_first[t + 1]
    if stop > start:
        for row in range(start, stop):
            for a in range(m.assets.shape[0]):
                high, low = tape.fine_high[row, a], tape.fine_low[row, a]
                if m.assets[a, book.FIRST] >= 0.0:
                    if low <= m.assets[a, book.FLOOR] or high >= m.assets[a, book.CEILING]:
                        walk(m, tape, t, row, a, tape.fine_open[row, a], high, low, tape.fine_close[row, a])
                    _follow(m, t, a, high, low, tape.fine_close[row, a])
    else:
        for a in range(m.assets.shape[0]):
            high, low = tape.high[t, a], tape.low[t, a]
            if m.assets[a, book.FIRST] >= 0.0:
                if low <= m.assets[a, book.FLOOR] or high >= m.assets[a, book.CEILING]:
                    walk(m, tape, t, -1, a, tape.open[t, a], high, low, tape.close[t, a])
                _follow(m, t, a, high, low, tape.close[t, a])


@jit(_nrt=False)
def _follow(m: Machine, t: int, a: int, high: float, low: float, close: float) -> None:
    """Trailing and break-even levels; of a bar inside of which the position was opened only the close is proven."""
    if m.assets[a, book.MOVING] > 0.0:
        if m.assets[a, book.INSIDE] == t:
            follow(m.orders, m.assets, a, close, close)
            m.assets[a, book.INSIDE] = book.NONE
        else:
            follow(m.orders, m.assets, a, high, low)


@jit(_nrt=False)
def _carry(m: Machine, tape: Tape, t: int) -> None:
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


@jit(_nrt=False)
def _watch_margins(m: Machine, tape: Tape, t: int) -> None:
    for a in range(m.assets.shape[0]):
        if m.assets[a, book.POSITION] != 0.0:
            value, exposure = others(m, tape, t, -1, a)
            watch_margin(m, a, t, value, exposure)


@jit(_nrt=False)
def _mark(assets: np.ndarray, close: np.ndarray, t: int, cash: float) -> tuple[float, float]:
    """Equity and gross exposure at the close."""
    value, exposure = 0.0, 0.0
    for a in range(assets.shape[0]):
        position = assets[a, book.POSITION]
        if position != 0.0:
            worth = position * close[t, a]
            value += worth
            exposure += abs(worth)
    return equity(cash, 1.0, value), exposure


@jit(_nrt=False)
def _check_margin(m: Machine, tape: Tape, t: int, worth: float, exposure: float) -> float:
    """Margin call, and liquidation of everything at the close where only that is left; returns the equity after it."""
    short = exposure / m.rules[book.LEVERAGE] - worth
    if short > 1e-9 * exposure and m.account[book.CALLED] == 0.0:
        enter_cash(m, t, book.NONE, book.MARGIN_CALL, 0.0)
    m.account[book.CALLED] = 1.0 if short > 1e-9 * exposure else 0.0
    if worth >= m.rules[book.MAINTENANCE] * exposure:
        return worth
    for a in range(m.assets.shape[0]):
        if m.assets[a, book.POSITION] != 0.0:
            k = new_order(m, a, book.MARKET, math.nan, book.LIQUIDATION, t)
            execute(m, tape, t, -1, k, tape.close[t, a], True, False, 0.0, 0.0)
            lost = m.rules[book.LIQUIDATION_RATE] * m.orders[k, book.PAID_PRICE] * abs(m.orders[k, book.QUANTITY])
            if lost > 0.0:
                enter_cash(m, t, a, book.LIQUIDATION_FEE, -lost)
    return m.account[book.CASH]


@jit(_nrt=False)
def _close_all(m: Machine, t: int, reason: float) -> None:
    for a in range(m.assets.shape[0]):
        if m.assets[a, book.POSITION] != 0.0:
            _queue(m, a, math.nan, reason, t)


@jit(_nrt=False)
def _check_limits(m: Machine, tape: Tape, t: int, worth: float) -> None:
    """Daily loss, drawdown and runs of losses: what trips them is closed at the next open, and entries halt."""
    m.account[book.PEAK] = max(m.account[book.PEAK], worth)
    if tape.day.shape[0] > 0 and m.account[book.DAY] != tape.day[t]:
        m.account[book.DAY] = tape.day[t]
        m.account[book.DAY_EQUITY] = m.account[book.EQUITY]
        m.account[book.DAY_HALTED] = 0.0
    if m.account[book.DAY_HALTED] == 0.0 and worth <= m.account[book.DAY_EQUITY] * (1.0 - m.rules[book.MAX_DAY_LOSS]):
        m.account[book.DAY_HALTED] = 1.0
        enter_cash(m, t, book.NONE, book.DAY_STOP, 0.0)
        _close_all(m, t, book.DAY_LIMIT)
    elif t > m.account[book.DRAWDOWN_UNTIL] and worth <= m.account[book.PEAK] * (1.0 - m.rules[book.MAX_DRAWDOWN]):
        m.account[book.DRAWDOWN_UNTIL] = t + m.rules[book.DRAWDOWN_BARS]
        m.account[book.PEAK] = worth
        enter_cash(m, t, book.NONE, book.DRAWDOWN_STOP, 0.0)
        _close_all(m, t, book.DRAWDOWN_LIMIT)
    if m.account[book.STREAK] >= m.rules[book.MAX_LOSSES]:
        m.account[book.LOSS_UNTIL] = t + m.rules[book.LOSS_BARS]
        m.account[book.STREAK] = 0.0
        enter_cash(m, t, book.NONE, book.LOSS_STOP, 0.0)


@jit(_nrt=False)
def _exit_in_time(m: Machine, t: int) -> None:
    """Positions that have been held for as many bars as their policy allows leave at the next open."""
    for a in range(m.assets.shape[0]):
        if m.assets[a, book.POSITION] != 0.0:
            p = int(m.assets[a, book.HELD_POLICY])
            if t - m.assets[a, book.OPENED_AT] + 1.0 >= m.policies[p, book.EXIT_AFTER] and not _is_leaving(m, a):
                _queue(m, a, math.nan, book.TIME_EXIT, t)


@jit(_nrt=False)
def _is_leaving(m: Machine, a: int) -> bool:
    """True when a market order that closes `a` waits for the next open."""
    for i in range(m.counts[book.QUEUED]):
        k = m.queue[i]
        if int(m.orders[k, book.ASSET]) == a and math.isnan(m.orders[k, book.QUANTITY]):
            return True
    return False


@jit(_nrt=False)
def _halted(m: Machine, t: int, a: int) -> float:
    """The halt that forbids an entry into `a` now, or ALLOWED."""
    if m.policies[a, book.REFUSED] == 1.0:
        return book.BLACKLISTED
    if m.account[book.DAY_HALTED] == 1.0:
        return book.DAY_HALT
    if t <= m.account[book.DRAWDOWN_UNTIL]:
        return book.DRAWDOWN_HALT
    if t <= m.account[book.LOSS_UNTIL]:
        return book.LOSS_HALT
    if t - m.assets[a, book.CLOSED_AT] < m.rules[book.COOLDOWN]:
        return book.COOLING_DOWN
    return book.ALLOWED


@jit(_nrt=False)
def _plan(m: Machine, tape: Tape, t: int) -> None:
    """Count, gross exposure and heat of what is held at the close; orders placed on this bar are added as they come."""
    m.account[book.PLANNED_AT] = t
    m.account[book.PLANNED_COUNT] = m.account[book.PLANNED_EXPOSURE] = m.account[book.PLANNED_HEAT] = 0.0
    for a in range(m.assets.shape[0]):
        held = abs(m.assets[a, book.POSITION])
        if held > 0.0 and not _is_leaving(m, a):
            m.account[book.PLANNED_COUNT] += 1.0
            m.account[book.PLANNED_EXPOSURE] += held * tape.close[t, a]
            m.account[book.PLANNED_HEAT] += held * risk_per_unit(m, tape, t, a)


@jit(_nrt=False)
def risk_per_unit(m: Machine, tape: Tape, t: int, a: int) -> float:
    """Loss per unit of `a` down to its nearest stop: of the position, else of the policy; else the price."""
    close, side = tape.close[t, a], m.assets[a, book.POSITION]
    risk, k = math.inf, int(m.assets[a, book.FIRST])
    while k >= 0:
        if m.orders[k, book.ATTACHED] == 1.0 and m.orders[k, book.UP] * side < 0.0:
            away = max((m.orders[k, book.LEVEL] - close) * m.orders[k, book.UP], 0.0)
            risk = min(risk, away)
        k = int(m.orders[k, book.NEXT])
    if side == 0.0:
        atr = tape.atr[t, a] if tape.atr.shape[0] > 0 else math.nan
        for column in (book.STOP_AT, book.TRAIL_BY):
            value, unit = m.policies[a, column], m.policies[a, column + 1]
            if not math.isnan(value):
                away = abs(close - value) if unit == book.LEVEL_ITSELF else value
                away = value * close if unit == book.FRACTION else (value * atr if unit == book.ATR else away)
                risk = min(risk, away)
    return min(risk, close)


@jit(_nrt=False)
def _refusal(m: Machine, tape: Tape, t: int, a: int, quantity: float, worth: float) -> float:
    """The limit that forbids to add `quantity` to `a`, or ALLOWED. What only reduces is never forbidden."""
    position = m.assets[a, book.POSITION]
    after = position + quantity
    if after * position >= 0.0 and abs(after) <= abs(position):
        return book.ALLOWED
    halt = _halted(m, t, a)
    if halt != book.ALLOWED:
        return halt
    if m.account[book.PLANNED_AT] != t:
        _plan(m, tape, t)
    added = max(abs(after) - abs(position), 0.0)
    count = m.account[book.PLANNED_COUNT] + (1.0 if position == 0.0 else 0.0)
    exposure = m.account[book.PLANNED_EXPOSURE] + added * tape.close[t, a]
    heat = m.account[book.PLANNED_HEAT] + added * risk_per_unit(m, tape, t, a)
    if count > m.rules[book.MAX_POSITIONS]:
        return book.TOO_MANY_POSITIONS
    if exposure > m.rules[book.MAX_EXPOSURE] * worth * (1.0 + 1e-9):
        return book.TOO_MUCH_EXPOSURE
    if heat > m.rules[book.MAX_HEAT] * worth * (1.0 + 1e-9):
        return book.TOO_MUCH_HEAT
    m.account[book.PLANNED_COUNT] = count
    m.account[book.PLANNED_EXPOSURE] = exposure
    m.account[book.PLANNED_HEAT] = heat
    return book.ALLOWED


@jit(_nrt=False)
def _needs_atr(m: Machine, p: int) -> bool:
    """True when policy `p` measures a protective distance in ATRs."""
    for column in (book.STOP_UNIT, book.TRAIL_BY_UNIT, book.EVEN_UNIT, book.SCALE_UNIT):
        if m.policies[p, column] == book.ATR and not math.isnan(m.policies[p, column - 1]):
            return True
    for rung in range(int(m.policies[p, book.RUNGS])):
        if m.policies[p, book.RUNG + 3 * rung + 1] == book.ATR:
            return True
    return False


@jit(_nrt=False)
def _place(m: Machine, tape: Tape, t: int, k: int, worth: float) -> None:
    """Check a new order against lots, the market's minimum and the limits; put it to work or record why not."""
    a, quantity = int(m.orders[k, book.ASSET]), m.orders[k, book.QUANTITY]
    close = tape.close[t, a]
    cause = book.ALLOWED
    if not math.isnan(quantity) and m.orders[k, book.REDUCES] == 0.0:
        own = m.orders[k, book.POLICY]
        if quantity == 0.0:
            cause = book.BELOW_LOT
        elif abs(quantity) * close < m.terms[a, book.MINIMUM]:
            cause = book.BELOW_MINIMUM
        elif _needs_atr(m, int(own) if own >= 0.0 else a) and math.isnan(tape.atr[t, a]):
            cause = book.NO_DISTANCE
        else:
            cause = _refusal(m, tape, t, a, quantity, worth)
    market = m.orders[k, book.KIND] == book.MARKET
    if cause != book.ALLOWED:
        m.orders[k, book.STATUS], m.orders[k, book.CAUSE], m.orders[k, book.FILL_BAR] = book.REJECTED, cause, t
    elif market:
        m.queue[m.counts[book.QUEUED]] = k
        m.counts[book.QUEUED] += 1
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
        _place(m, tape, t, k, worth)
        row += 1
        m.counts[book.SCRIPTED] = row


@jit(_nrt=False, forceinline=True)
def _decide(m: Machine, tape: Tape, target: np.ndarray, t: int, a: int, worth: float, plain: bool) -> None:
    """Turn the target of symbol `a` known at the close of `t` into a market order. `plain`: nothing can forbid it."""
    wanted, position, close = target[t, a], m.assets[a, book.POSITION], tape.close[t, a]
    if wanted * m.assets[a, book.BLOCKED] > 0.0:
        return
    m.assets[a, book.BLOCKED] = 0.0
    lots, minimum = m.terms[a, book.LOTS], m.terms[a, book.MINIMUM]
    if m.rules[book.IN_UNITS] == 1.0:
        quantity = quantity_to_reach(wanted, position, close, lots, minimum)
    else:
        quantity = order_quantity(wanted, m.rules[book.BAND], worth, close, position, lots, minimum)
    if quantity != 0.0:
        if plain:
            _queue(m, a, quantity, book.SIGNAL, t)
        elif not _is_leaving(m, a):
            _place(m, tape, t, new_order(m, a, book.MARKET, quantity, book.SIGNAL, t), worth)
    elif minimum > 0.0 and position == 0.0 and wanted != 0.0 and (t == 0 or target[t - 1, a] != wanted):
        k = new_order(m, a, book.MARKET, wanted, book.SIGNAL, t)
        m.orders[k, book.STATUS], m.orders[k, book.CAUSE] = book.REJECTED, book.BELOW_MINIMUM
        m.orders[k, book.FILL_BAR] = t


@jit(_nrt=False)
def _is_settled(assets: np.ndarray, a: int, wanted: float, worth: float, drifts: bool) -> bool:
    """True when target `wanted` obviously asks for nothing, so that the common bar stays short."""
    position = assets[a, book.POSITION]
    if wanted != wanted:
        assets[a, book.BLOCKED] = 0.0
        return True
    if worth <= 0.0:
        return False
    if wanted * assets[a, book.BLOCKED] > 0.0:
        return True
    assets[a, book.BLOCKED] = 0.0
    return (wanted == 0.0 and position == 0.0) or (not drifts and wanted * position > 0.0)


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
def _is_plain(m: Machine) -> bool:
    """True when no limit and no policy can stand between a target and its order."""
    for column in (book.MAX_POSITIONS, book.MAX_EXPOSURE, book.MAX_HEAT, book.MAX_DAY_LOSS, book.MAX_DRAWDOWN):
        if m.rules[column] != math.inf:
            return False
    if m.rules[book.MAX_LOSSES] != math.inf or m.rules[book.COOLDOWN] > 0.0:
        return False
    for p in range(m.policies.shape[0]):
        if m.policies[p, book.REFUSED] == 1.0 or _needs_atr(m, p):
            return False
    return True


@jit(_nrt=False)
def _ends_in_time(m: Machine) -> bool:
    for p in range(m.policies.shape[0]):
        if m.policies[p, book.EXIT_AFTER] != math.inf:
            return True
    return False


@jit(_nrt=False)
def _carries(m: Machine, tape: Tape) -> bool:
    """True when holding costs something."""
    if tape.funding_inside.shape[0] > 0 or m.rules[book.INTEREST_RATE] > 0.0:
        return True
    for a in range(m.assets.shape[0]):
        if m.terms[a, book.BORROW_RATE] > 0.0:
            return True
    return False


@jit(_nrt=False)
def _rest(m: Machine, tape: Tape, t: int) -> None:
    """Resting orders over bar `t`: they act, their levels follow, their time runs out."""
    _walk_bar(m, tape, t)
    for a in range(m.assets.shape[0]):
        if m.assets[a, book.TIMED] > 0.0:
            expire(m, a, t)


@jit(_nrt=False)
def _hold(m: Machine, tape: Tape, t: int, worth: float, exposure: float) -> float:
    """What the close brings besides being marked: margin, limits, time exits; returns the equity after it."""
    if m.rules[book.MAINTENANCE] > 0.0 and exposure > 0.0:
        worth = _check_margin(m, tape, t, worth, exposure)
    _check_limits(m, tape, t, worth)
    m.account[book.EQUITY] = worth
    _exit_in_time(m, t)
    _roll_volume(m, t)
    return worth


@jit(_nrt=False)
def _glide(
    m: Machine, tape: Tape, target: np.ndarray, equities: np.ndarray, t: int, first: int, stop: int, drifts: bool
) -> int:
    """Mark one symbol's account over bars on which nothing can happen; returns the first bar that needs attention.

    It only leaves out what would have had no effect: the machine without it gives the same account.
    """
    orders, assets, account, start = m.orders, m.assets, m.account, t
    high, low, close, targeted = tape.high, tape.low, tape.close, target.shape[0] > 0
    position, cash, blocked = assets[0, book.POSITION], account[book.CASH], assets[0, book.BLOCKED]
    resting, floor, ceiling = m.counts[book.LINKED] > 0, assets[0, book.FLOOR], assets[0, book.CEILING]
    while t < stop:
        if resting and (low[t, 0] <= floor or high[t, 0] >= ceiling):
            break
        worth = equity(cash, position, close[t, 0])
        if targeted:
            wanted = target[t, 0]
            if wanted != wanted:
                blocked = 0.0
            elif worth <= 0.0 or not (
                wanted * blocked > 0.0
                or (wanted == 0.0 and position == 0.0)
                or (not drifts and wanted * position > 0.0)
            ):
                break
            elif wanted * blocked <= 0.0:
                blocked = 0.0
        if resting and (high[t, 0] > assets[0, book.HIGHEST] or low[t, 0] < assets[0, book.LOWEST]):
            follow(orders, assets, 0, high[t, 0], low[t, 0])
            floor, ceiling = assets[0, book.FLOOR], assets[0, book.CEILING]
        equities[t - first] = worth
        t += 1
    assets[0, book.BLOCKED] = blocked
    if position != 0.0:
        account[book.IN_MARKET] += t - start
    return t


@jit(nogil=True, _nrt=False)
def advance(
    m: Machine, tape: Tape, target: np.ndarray, script: np.ndarray, equities: np.ndarray, first: int, stop: int
) -> int:
    """Run the account from its next bar up to bar `stop`; returns the bar it got to (less, when a table is full).

    `target`: `(n, a)` target weights (or units) known at each close, NaN for no opinion. `script`: explicit orders
    sorted by their bar. `equities`: account value at each close, from bar `first` on.
    """
    account, assets, counts, close = m.account, m.assets, m.counts, tape.close
    limited, timed, carries, spawn = not _is_plain(m), _ends_in_time(m), _carries(m, tape), _spawn(m)
    plain, margined, funded = not limited and not timed, m.rules[book.MAINTENANCE] > 0.0, tape.funding_open.shape[0] > 0
    attended = limited or timed or margined or m.tiers.shape[0] > 0
    drifts = m.rules[book.BAND] != math.inf or m.rules[book.IN_UNITS] == 1.0
    finer, count, rows = tape.fine_first.shape[0] > 0, target.shape[1] if target.shape[0] > 0 else 0, -1
    glides = assets.shape[0] == 1 and not (attended or finer or carries or funded)
    t = counts[book.NEXT_BAR]
    while t < stop:
        if glides and t >= first and counts[book.QUEUED] == 0 and counts[book.SCRIPTED] == script.shape[0]:
            t = _glide(m, tape, target, equities, t, first, stop, drifts)
            if t == stop:
                break
        if counts[book.ORDERS] + counts[book.ENTRIES] + counts[book.FILLS] != rows:
            rows = counts[book.ORDERS] + counts[book.ENTRIES] + counts[book.FILLS]
            if not _has_room(m, script, spawn):
                break
        worth = account[book.CASH]
        if t >= first:
            if funded:
                _fund_at_open(m, tape, t)
            if margined:
                _watch_margins(m, tape, t)
            if counts[book.QUEUED] > 0:
                _fill_queue(m, tape, t)
            if counts[book.LINKED] > 0 and (finer or not _is_quiet(assets, tape.high, tape.low, t)):
                _rest(m, tape, t)
            if carries:
                _carry(m, tape, t)
            worth, exposure = _mark(assets, close, t, account[book.CASH])
            if attended:
                worth = _hold(m, tape, t, worth, exposure)
            equities[t - first] = worth
            if exposure > 0.0:
                account[book.IN_MARKET] += 1.0
        for a in range(count):
            if not _is_settled(assets, a, target[t, a], worth, drifts):
                _decide(m, tape, target, t, a, worth, plain)
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
    arrays |= {"fine_first": np.empty(0, np.int64), "day": np.empty(0, np.int64)}
    arrays |= {"open": open_, "high": high, "low": low, "close": close, "volume": volume, **more}
    return Tape(**{name: _shared(array) for name, array in arrays.items()})


def _shared(array: np.ndarray) -> np.ndarray:
    """A read-only, contiguous view: one type for the compiler, and nobody writes into the market."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


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
    equities = np.empty(stop - first)
    target = np.empty((0, assets)) if target is None else target
    script = np.empty((0, book.ORDER_COLUMNS)) if script is None else script
    return _run(machine, tape, _shared(target), _shared(script), equities, first, stop, on_bar)


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
    return _run(machine, tape, _shared(target), _shared(script), equities, first, stop, None)


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
    while advance(machine, tape, target, script, equities, first, stop) < stop:
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
