"""Limits of risk inside the trading machine: its tables as the pure functions of `tradelib.risk.judging` want them.

An order is asked about when it is placed, against the book as it will be when all that was decided on that close has
filled; a resting order once more when it fills, against the book of that moment and the past up to the close before.
"""

from __future__ import annotations

import math

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.kernel import position_after
from tradelib.risk import judging
from tradelib.risk.judging import add_to_plan, admit, barred, begin_plan, day_halt, imagine, judge, replan

__all__ = [
    "distance",
    "free",
    "halt_of",
    "is_adding",
    "is_limited",
    "known_atr",
    "record_closed",
    "refusal",
    "refusal_of_fill",
]

_SWITCHES = (
    judging.MAX_POSITIONS, judging.MAX_EXPOSURE, judging.MAX_HEAT, judging.MAX_DAY_LOSS, judging.MAX_DAY_PROFIT,
    judging.MAX_DAY_ORDERS, judging.MAX_DRAWDOWN, judging.MAX_LOSSES, judging.MAX_SHARE, judging.MAX_NET,
    judging.MAX_CLUSTER, judging.MAX_VAR, judging.MAX_SHORTFALL, judging.TARGET_VOLATILITY,
)  # fmt: skip
"""Thresholds that are infinite where there is no limit."""


@jit(_nrt=False)
def is_limited(m: Machine) -> bool:
    """True when a limit of risk is given."""
    for column in _SWITCHES:
        if m.rules[column] != math.inf:
            return True
    for a in range(m.assets.shape[0]):
        if m.policies[a, book.REFUSED] == 1.0:
            return True
    return bool(m.rules[judging.COOLDOWN] > 0.0 or m.rules[judging.GUARDS] > 0.0)


@jit(_nrt=False, forceinline=True)
def is_adding(position: float, quantity: float) -> bool:
    """True when a fill of `quantity` would open, enlarge or flip `position`, not merely reduce it."""
    after = position_after(position, quantity, 0.0)
    return bool(after * position < 0.0 or abs(after) > abs(position))


@jit(_nrt=False, forceinline=True)
def distance(value: float, unit: float, price: float, atr: float) -> float:
    """A distance in quote currency from a fraction of `price`, from itself, or from multiples of `atr`."""
    if unit == book.FRACTION:
        return value * price
    return value * atr if unit == book.ATR else value


@jit(_nrt=False, forceinline=True)
def known_atr(tape: Tape, t: int, a: int) -> float:
    """The ATR that was known before bar `t` began; NaN where it was not."""
    return tape.atr[t - 1, a] if t > 0 and tape.atr.shape[0] > 0 else math.nan


@jit(_nrt=False)
def halt_of(m: Machine, a: int, bar: int) -> float:
    """The halt that forbids an entry into `a` on `bar`, or ALLOWED; of the day's halt only the caller knows the day."""
    if m.policies[a, book.REFUSED] == 1.0:
        return judging.BLACKLISTED
    return barred(m.rules, m.account, m.assets, a, bar)


@jit(_nrt=False)
def _risk_held(m: Machine, a: int, price: float) -> float:
    """Loss per unit of the position in `a` from `price` to its nearest stop, else the price."""
    side = m.assets[a, book.POSITION]
    risk, k = price, int(m.assets[a, book.FIRST])
    while k >= 0:
        level, up = m.orders[k, book.LEVEL], m.orders[k, book.UP]
        protects = m.orders[k, book.ATTACHED] == 1.0 and m.orders[k, book.KIND] != book.LIQUIDATING
        if protects and up * side < 0.0 and not math.isnan(level):
            risk = min(risk, max((level - price) * up, 0.0))
        k = int(m.orders[k, book.NEXT])
    return risk


@jit(_nrt=False)
def _risk_of_policy(m: Machine, p: int, price: float, atr: float) -> float:
    """Loss per unit from an entry at `price` to the stop that policy `p` will attach, else the price."""
    risk = price
    for column in (book.STOP_AT, book.TRAIL_BY):
        value, unit = m.policies[p, column], m.policies[p, column + 1]
        if not math.isnan(value):
            itself = unit == book.LEVEL_ITSELF
            risk = min(risk, abs(price - value) if itself else distance(value, unit, price, atr))
    return risk


@jit(_nrt=False)
def _heat_change(m: Machine, k: int, before: float, quantity: float, price: float, atr: float) -> float:
    """What the loss at the stops gains when order `k` adds `quantity` to `before` at `price`.

    A new position, or what a flip opens, is measured by the stop that it will have.
    """
    a, own = int(m.orders[k, book.ASSET]), m.orders[k, book.POLICY]
    held, after = abs(before), abs(before + quantity)
    stop = _risk_held(m, a, price)
    if before * quantity > 0.0:
        return (after - held) * stop
    return after * _risk_of_policy(m, int(own) if own >= 0.0 else a, price, atr) - held * stop


@jit(_nrt=False)
def _plan(m: Machine, tape: Tape, t: int) -> None:
    """The book that is left when all that leaves on this close has gone: reducing orders fill first. Orders placed on
    this bar are added as they come."""
    begin_plan(m.account, float(t))
    for a in range(m.assets.shape[0]):
        held, close = m.assets[a, book.EXPECTED], tape.close[t, a]
        heat = abs(held) * _risk_held(m, a, close) if held != 0.0 else 0.0
        add_to_plan(m.account, m.assets, a, held * close, heat)
    imagine(m.rules, m.assets, m.assets.shape[0], m.scenarios, tape.past, t)


@jit(_nrt=False)
def free(m: Machine, tape: Tape, t: int, a: int, before: float, after: float) -> None:
    """What an order of this close takes off a position is free for other entries."""
    freed = abs(before) - abs(after) if before * after >= 0.0 and before * m.assets[a, book.POSITION] > 0.0 else 0.0
    if m.account[judging.PLANNED_AT] == t and freed > 0.0:
        close = tape.close[t, a]
        cooled = -freed * _risk_held(m, a, close)
        replan(m.rules, m.account, m.assets, m.scenarios, tape.past, t, a, after * close, cooled)


@jit(_nrt=False)
def refusal(m: Machine, tape: Tape, t: int, k: int, quantity: float, worth: float) -> float:
    """The limit that forbids order `k` to trade `quantity`, or ALLOWED. What only reduces is never forbidden."""
    a = int(m.orders[k, book.ASSET])
    before, close = m.assets[a, book.EXPECTED], tape.close[t, a]
    if m.account[book.LIMITED] == 0.0 or not is_adding(before, quantity):
        return book.ALLOWED
    if m.policies[a, book.REFUSED] == 1.0:
        return judging.BLACKLISTED
    if m.account[judging.PLANNED_AT] != t:
        _plan(m, tape, t)
    heat = _heat_change(m, k, before, quantity, close, tape.atr[t, a] if tape.atr.shape[0] > 0 else math.nan)
    return admit(
        m.rules, m.account, m.assets, m.scenarios, tape.past, t, a,
        (before + quantity) * close, heat, worth, t + 1,
    )  # fmt: skip


@jit(_nrt=False)
def refusal_of_fill(
    m: Machine, tape: Tape, t: int, row: int, k: int, quantity: float, price: float, other_value: float
) -> float:
    """The limit that forbids this fill, or ALLOWED. What was decided on the close before was measured there."""
    a = int(m.orders[k, book.ASSET])
    halt = halt_of(m, a, t)
    if halt != book.ALLOWED or m.orders[k, book.KIND] == book.MARKET:
        return halt
    if m.account[judging.DAY_HALTED] != 0.0 and m.account[judging.DAY] == tape.past[t, judging.PAST_DAY]:
        return day_halt(m.account)
    begin_plan(m.account, judging.NEVER)
    for i in range(m.assets.shape[0]):
        held = m.assets[i, book.POSITION]
        at = price if i == a else (tape.fine_open[row, i] if row >= 0 else tape.open[t, i])
        warm = held != 0.0 and m.rules[judging.MAX_HEAT] != math.inf
        add_to_plan(m.account, m.assets, i, held * at, abs(held) * _risk_held(m, i, at) if warm else 0.0)
    imagine(m.rules, m.assets, m.assets.shape[0], m.scenarios, tape.past, t - 1)
    before, heat = m.assets[a, book.POSITION], 0.0
    if m.rules[judging.MAX_HEAT] != math.inf:
        heat = _heat_change(m, k, before, quantity, price, known_atr(tape, t, a))
    return judge(
        m.rules, m.account, m.assets, m.scenarios, tape.past, t - 1, a,
        (before + quantity) * price, heat, m.account[book.CASH] + before * price + other_value,
    )  # fmt: skip


@jit(_nrt=False)
def record_closed(m: Machine, a: int, t: int, reason: float) -> None:
    """Note a closed trade for the protections: its profit after costs over the value entered."""
    i = m.counts[book.CLOSED]
    m.counts[book.CLOSED] = i + 1
    m.closed[i, judging.CLOSED_SYMBOL] = a
    m.closed[i, judging.CLOSED_BAR] = t
    value = m.assets[a, book.AVERAGE] * m.assets[a, book.ENTERED]
    m.closed[i, judging.CLOSED_RETURN] = m.assets[a, book.PROFIT] / value
    stopped = reason == book.STOP_LOSS or reason == book.TRAILING_STOP or reason == book.BREAK_EVEN
    m.closed[i, judging.CLOSED_BY_STOP] = 1.0 if stopped or reason == book.LIQUIDATION else 0.0
