"""Orders at work: what a fill does to an account, and what it leaves behind.

Functions on the tables of `book.Machine`; prices and costs come from `kernel`. Positions die with their protective
orders. After a protective exit a symbol is blocked on that side until its signal has changed. Limits of risk are asked
again when a resting order opens something: what was allowed when it was placed may be forbidden by then.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.guards import distance, is_adding, known_atr, record_closed, refusal_of_fill
from tradelib.backtest.kernel import (
    admissible,
    adverse_fraction,
    affordable_quantity,
    cash_after,
    fee,
    fill_price,
    liquidation_price,
    position_after,
)
from tradelib.risk import judging

__all__ = [
    "cancel_attached",
    "enter_cash",
    "execute",
    "finish",
    "link",
    "new_order",
    "others",
    "refresh_window",
    "take_fill",
    "trail",
    "trailing_level",
    "wanted",
    "watch_margins",
]

_FIXED_POINT, _FIXED_POINT_STEPS = 1e-13, 64


@jit(_nrt=False, forceinline=True)
def new_order(m: Machine, a: int, kind: float, quantity: float, reason: float, bar: float) -> int:
    """Append an order for symbol `a`, decided on `bar`; NaN `quantity` means whatever is held then. Returns its row."""
    k = m.counts[book.ORDERS]
    m.counts[book.ORDERS] = k + 1
    for column in range(book.ORDER_COLUMNS):
        m.orders[k, column] = math.nan
    m.orders[k, book.ASSET] = a
    m.orders[k, book.KIND] = kind
    m.orders[k, book.QUANTITY] = quantity
    m.orders[k, book.REASON] = reason
    m.orders[k, book.PLACED] = bar
    m.orders[k, book.EXPIRES] = math.inf
    m.orders[k, book.STATUS] = book.WORKING
    m.orders[k, book.CAUSE] = book.ALLOWED
    m.orders[k, book.GROUP] = 0.0
    m.orders[k, book.NEXT] = book.NONE
    m.orders[k, book.REDUCES] = 0.0
    m.orders[k, book.ATTACHED] = 0.0
    m.orders[k, book.SPACING] = 0.0
    m.orders[k, book.POLICY] = book.NONE
    m.orders[k, book.ORDER_FEE] = 0.0
    m.orders[k, book.ORDER_SLIPPAGE] = 0.0
    return k


@jit(_nrt=False)
def enter_cash(m: Machine, t: int, a: float, kind: float, amount: float) -> None:
    """Book `amount` (negative: paid) that is not a trade; with 0.0 an event."""
    e = m.counts[book.ENTRIES]
    m.counts[book.ENTRIES] = e + 1
    m.account[book.CASH] += amount
    m.entries[e, book.ENTRY_BAR] = t
    m.entries[e, book.ENTRY_ASSET] = a
    m.entries[e, book.ENTRY_KIND] = kind
    m.entries[e, book.ENTRY_AMOUNT] = amount
    m.entries[e, book.ENTRY_CASH] = m.account[book.CASH]
    m.entries[e, book.ENTRY_SEQUENCE] = e + m.counts[book.FILLS]


@jit(_nrt=False)
def link(m: Machine, k: int) -> None:
    """Put a resting order to work and widen nothing: its symbol's price window closes in on it."""
    a = int(m.orders[k, book.ASSET])
    m.orders[k, book.NEXT] = m.assets[a, book.FIRST]
    m.assets[a, book.FIRST] = k
    m.counts[book.LINKED] += 1
    if not math.isnan(m.orders[k, book.TRAIL]) or not math.isnan(m.orders[k, book.BREAK_AT]):
        m.assets[a, book.MOVING] += 1.0
        if m.orders[k, book.UP] > 0.0:
            m.assets[a, book.LOWEST] = math.inf
        else:
            m.assets[a, book.HIGHEST] = -math.inf
    if m.orders[k, book.EXPIRES] != math.inf:
        m.assets[a, book.TIMED] += 1.0
    narrow_window(m.orders, m.assets, a, k)


@jit(_nrt=False, forceinline=True)
def narrow_window(orders: np.ndarray, assets: np.ndarray, a: int, k: int) -> None:
    """Make order `k` bound the prices at which nothing happens."""
    level = orders[k, book.LEVEL]
    if orders[k, book.UP] > 0.0:
        if level < assets[a, book.CEILING]:
            assets[a, book.CEILING] = level
    elif level > assets[a, book.FLOOR]:
        assets[a, book.FLOOR] = level


@jit(_nrt=False, forceinline=True)
def refresh_window(orders: np.ndarray, assets: np.ndarray, a: int) -> None:
    """Window of prices, exclusive, inside of which no working order of symbol `a` acts."""
    assets[a, book.FLOOR], assets[a, book.CEILING] = -math.inf, math.inf
    k = int(assets[a, book.FIRST])
    while k >= 0:
        narrow_window(orders, assets, a, k)
        k = int(orders[k, book.NEXT])


@jit(_nrt=False, forceinline=True)
def unlink(m: Machine, k: int) -> None:
    a = int(m.orders[k, book.ASSET])
    following = m.orders[k, book.NEXT]
    i = int(m.assets[a, book.FIRST])
    if i == k:
        m.assets[a, book.FIRST] = following
    else:
        while int(m.orders[i, book.NEXT]) != k:
            i = int(m.orders[i, book.NEXT])
        m.orders[i, book.NEXT] = following
    m.orders[k, book.NEXT] = book.NONE
    m.counts[book.LINKED] -= 1
    if not math.isnan(m.orders[k, book.TRAIL]) or not math.isnan(m.orders[k, book.BREAK_AT]):
        m.assets[a, book.MOVING] -= 1.0
        if m.assets[a, book.MOVING] == 0.0:
            m.assets[a, book.HIGHEST], m.assets[a, book.LOWEST] = math.inf, -math.inf
    if m.orders[k, book.EXPIRES] != math.inf:
        m.assets[a, book.TIMED] -= 1.0


@jit(_nrt=False, forceinline=True)
def finish(m: Machine, k: int, t: int, status: float, cause: float) -> None:
    """End of an order: its status, the cause, and off the list of working orders (a market order was never on it)."""
    m.orders[k, book.STATUS] = status
    m.orders[k, book.CAUSE] = cause
    m.orders[k, book.FILL_BAR] = t
    if m.orders[k, book.KIND] != book.MARKET:
        unlink(m, k)


@jit(_nrt=False)
def cancel_attached(m: Machine, a: int, t: int, scaling_too: bool, cause: float) -> None:
    """Withdraw the orders that belong to the position of `a`: its exits, and what would scale it in.

    Without `scaling_too` the position lives on, and so does a stop that trails already: it never retreats.
    """
    k = int(m.assets[a, book.FIRST])
    while k >= 0:
        following = int(m.orders[k, book.NEXT])
        attached = m.orders[k, book.ATTACHED]
        ends = attached == 1.0 and (scaling_too or not _is_trailing(m.orders, k))
        if ends or (scaling_too and attached == 2.0):
            finish(m, k, t, book.CANCELLED, cause)
            if k == int(m.assets[a, book.LIQUIDATOR]):
                m.assets[a, book.LIQUIDATOR] = book.NONE
        k = following


@jit(_nrt=False)
def _is_trailing(orders: np.ndarray, k: int) -> bool:
    """True for a trailing stop that has been activated."""
    return bool(orders[k, book.KIND] == book.TRAILING and not math.isnan(orders[k, book.LEVEL]))


@jit(_nrt=False)
def _cancel_siblings(m: Machine, k: int, t: int) -> None:
    """One cancels the other: withdraw what shares the group of the filled order."""
    group = m.orders[k, book.GROUP]
    i = int(m.assets[int(m.orders[k, book.ASSET]), book.FIRST])
    while i >= 0:
        following = int(m.orders[i, book.NEXT])
        if m.orders[i, book.GROUP] == group:
            finish(m, i, t, book.CANCELLED, book.SIBLING_FILLED)
        i = following
    for place in range(m.counts[book.QUEUED]):
        i = m.queue[place]
        if m.orders[i, book.GROUP] == group and m.orders[i, book.STATUS] == book.WORKING:
            finish(m, i, t, book.CANCELLED, book.SIBLING_FILLED)


@jit(_nrt=False, forceinline=True)
def level_at(value: float, unit: float, price: float, atr: float, direction: float) -> float:
    """The price `value` away from `price` in `direction` (+1 up); a level stands for itself."""
    return value if unit == book.LEVEL_ITSELF else price + direction * distance(value, unit, price, atr)


@jit(_nrt=False, forceinline=True)
def _exit_order(
    m: Machine, a: int, kind: float, quantity: float, reason: float, t: int, level: float, up: float
) -> int:
    k = new_order(m, a, kind, quantity, reason, t)
    m.orders[k, book.LEVEL] = level
    m.orders[k, book.UP] = up
    m.orders[k, book.REDUCES] = 1.0
    m.orders[k, book.ATTACHED] = 1.0
    return k


@jit(_nrt=False)
def _attach_stop(m: Machine, a: int, t: int, p: int, side: float, entry: float, atr: float) -> None:
    """The stop-loss and the break-even move share one order: a stop that may be moved once."""
    level = level_at(m.policies[p, book.STOP_AT], m.policies[p, book.STOP_UNIT], entry, atr, -side)
    trigger = level_at(m.policies[p, book.EVEN_AT], m.policies[p, book.EVEN_UNIT], entry, atr, side)
    if math.isnan(level) and math.isnan(trigger):
        return
    k = _exit_order(m, a, book.STOP, math.nan, book.STOP_LOSS, t, level, -side)
    m.orders[k, book.BREAK_AT] = trigger
    m.orders[k, book.BREAK_TO] = entry * (1.0 + side * m.policies[p, book.EVEN_OFFSET])
    link(m, k)


@jit(_nrt=False)
def _attach_trailing(m: Machine, a: int, t: int, p: int, side: float, entry: float, atr: float) -> None:
    value, unit = m.policies[p, book.TRAIL_BY], m.policies[p, book.TRAIL_BY_UNIT]
    k = int(m.assets[a, book.FIRST])
    while k >= 0 and not (m.orders[k, book.ATTACHED] == 1.0 and _is_trailing(m.orders, k)):
        k = int(m.orders[k, book.NEXT])
    if math.isnan(value) or k >= 0:
        return
    k = _exit_order(m, a, book.TRAILING, math.nan, book.TRAILING_STOP, t, math.nan, -side)
    m.orders[k, book.TRAIL] = value if unit == book.FRACTION else distance(value, unit, entry, atr)
    m.orders[k, book.TRAIL_UNIT] = unit
    m.orders[k, book.EXTREME] = entry
    m.orders[k, book.ACTIVATION] = level_at(
        m.policies[p, book.TRAIL_FROM], m.policies[p, book.TRAIL_FROM_UNIT], entry, atr, side
    )
    trail(m.orders, k, entry)
    link(m, k)


@jit(_nrt=False)
def trail(orders: np.ndarray, k: int, extreme: float) -> None:
    """Move a trailing level to `extreme` once that has reached the activation; it follows, it never retreats."""
    up = orders[k, book.UP]
    orders[k, book.EXTREME] = extreme
    activation = orders[k, book.ACTIVATION]
    if not math.isnan(activation) and (extreme - activation) * up > 0.0:
        return
    orders[k, book.LEVEL] = trailing_level(extreme, orders[k, book.TRAIL], orders[k, book.TRAIL_UNIT], up)


@jit(_nrt=False, forceinline=True)
def trailing_level(extreme: float, trail_by: float, unit: float, up: float) -> float:
    """Level of a stop that trails `extreme`, above it (`up` +1) or below (-1)."""
    return extreme + up * (trail_by * (extreme if unit == book.FRACTION else 1.0))


@jit(_nrt=False)
def _attach_ladder(m: Machine, a: int, t: int, p: int, side: float, entry: float, atr: float) -> None:
    """Take-profit rungs, each a share of the position; where the shares sum to one, the last rung closes the rest."""
    held, lots = abs(m.assets[a, book.POSITION]), m.terms[a, book.LOTS]
    rungs = int(m.policies[p, book.RUNGS])
    total = 0.0
    for rung in range(rungs):
        column = book.RUNG + 3 * rung
        share = m.policies[p, column + 2]
        total += share
        quantity = _whole(share * held, lots)
        if rung == rungs - 1 and total >= 1.0 - 1e-12:
            quantity = math.nan
        level = level_at(m.policies[p, column], m.policies[p, column + 1], entry, atr, side)
        k = _exit_order(m, a, book.LIMIT, -side * quantity, book.TAKE_PROFIT, t, level, side)
        link(m, k)
        _refuse_small(m, k, t)


@jit(_nrt=False)
def _whole(quantity: float, lots: float) -> float:
    """`quantity` rounded toward zero to whole lots."""
    if lots == 0.0:
        return quantity
    return math.copysign(math.floor(abs(quantity) * lots + 1e-9) / lots, quantity)


@jit(_nrt=False)
def _refuse_small(m: Machine, k: int, t: int) -> None:
    """End a resting order that the market would not take: of no lot, or below its minimum."""
    size = abs(m.orders[k, book.QUANTITY])
    if size == 0.0:
        finish(m, k, t, book.REJECTED, book.BELOW_LOT)
    elif size * m.orders[k, book.LEVEL] < m.terms[int(m.orders[k, book.ASSET]), book.MINIMUM]:
        finish(m, k, t, book.REJECTED, book.BELOW_MINIMUM)


@jit(_nrt=False)
def _attach_exits(m: Machine, tape: Tape, t: int, a: int) -> None:
    """Protective orders around the average entry price, as the position's policy says."""
    p = int(m.assets[a, book.HELD_POLICY])
    side = 1.0 if m.assets[a, book.POSITION] > 0.0 else -1.0
    entry, atr = m.assets[a, book.AVERAGE], known_atr(tape, t, a)
    _attach_stop(m, a, t, p, side, entry, atr)
    _attach_trailing(m, a, t, p, side, entry, atr)
    _attach_ladder(m, a, t, p, side, entry, atr)


@jit(_nrt=False)
def _attach_scaling(m: Machine, tape: Tape, t: int, a: int, quantity: float, price: float) -> None:
    """Orders that add to the position: with the move (stops) or against it (limits), each `factor` times the last."""
    p = int(m.assets[a, book.HELD_POLICY])
    side = 1.0 if quantity > 0.0 else -1.0
    against = m.policies[p, book.SCALE_AGAINST] == 1.0
    step = distance(m.policies[p, book.SCALE_STEP], m.policies[p, book.SCALE_UNIT], price, known_atr(tape, t, a))
    size, lots = quantity, m.terms[a, book.LOTS]
    for i in range(int(m.policies[p, book.SCALE_ORDERS])):
        size *= m.policies[p, book.SCALE_FACTOR]
        k = new_order(m, a, book.LIMIT if against else book.STOP, _whole(size, lots), book.SCALING, t)
        m.orders[k, book.LEVEL] = price + (-side if against else side) * step * (i + 1)
        m.orders[k, book.UP] = -side if against else side
        m.orders[k, book.ATTACHED] = 2.0
        link(m, k)
        _refuse_small(m, k, t)


@jit(_nrt=False)
def _rearm(m: Machine, k: int, t: int) -> None:
    """A grid order that was filled comes back on the other side, one spacing away."""
    spacing, quantity = m.orders[k, book.SPACING], m.orders[k, book.QUANTITY]
    side = 1.0 if quantity > 0.0 else -1.0
    i = new_order(m, int(m.orders[k, book.ASSET]), book.LIMIT, -quantity, book.GRID, t)
    m.orders[i, book.LEVEL] = m.orders[k, book.LEVEL] + side * spacing
    m.orders[i, book.UP] = side
    m.orders[i, book.SPACING] = spacing
    m.orders[i, book.TAG] = m.orders[k, book.TAG]
    link(m, i)


@jit(_nrt=False, forceinline=True)
def fee_rate(m: Machine, a: int, maker: bool) -> float:
    """Maker or taker rate of symbol `a`; with tiers the one that the traded volume has reached."""
    rate = m.terms[a, book.MAKER_RATE] if maker else m.terms[a, book.TAKER_RATE]
    for tier in range(m.tiers.shape[0]):
        if m.account[book.TRADED] >= m.tiers[tier, 0]:
            rate = m.tiers[tier, 1] if maker else m.tiers[tier, 2]
    return rate


@jit(_nrt=False, forceinline=True)
def wanted(m: Machine, k: int, position: float) -> float:
    """Signed quantity of order `k` now: all that is held for NaN, never more than is held for a reducing order."""
    quantity = m.orders[k, book.QUANTITY]
    if math.isnan(quantity):
        return -position
    if m.orders[k, book.REDUCES] == 1.0:
        if quantity * position >= 0.0:
            return 0.0
        return math.copysign(min(abs(quantity), abs(position)), quantity)
    return quantity


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
def execute(
    m: Machine,
    tape: Tape,
    t: int,
    row: int,
    k: int,
    reference: float,
    slips: bool,
    maker: bool,
    other_value: float,
    other_exposure: float,
) -> bool:
    """Fill order `k` at `reference` (made worse where it `slips`), or end it with the reason why not.

    `row`: finer bar of the fill, -1 for none. `other_value`, `other_exposure`: of the account's other positions.
    """
    a = int(m.orders[k, book.ASSET])
    position, cause = m.assets[a, book.POSITION], book.ALLOWED
    quantity = asked = wanted(m, k, position)
    if quantity == 0.0:
        finish(m, k, t, book.CANCELLED, book.NOTHING_TO_REDUCE)
        return False
    if m.account[book.LIMITED] == 1.0 and is_adding(position, quantity):
        cause = refusal_of_fill(m, tape, t, row, k, quantity, reference, other_value)
        if cause != book.ALLOWED and position * quantity >= 0.0:
            finish(m, k, t, book.REJECTED, cause)
            return False
        quantity = quantity if cause == book.ALLOWED else -position
    volume = tape.volume[t, a] if m.terms[a, book.IMPACT] > 0.0 else math.inf
    trades = not slips or volume > 0.0
    side = math.copysign(1.0, quantity)
    price = _paid_price(m, a, side, quantity, reference, volume) if slips and trades else reference
    if price <= 0.0 or not trades:
        finish(m, k, t, book.REJECTED, book.NO_VOLUME)
        return False
    rate, cash, leverage = fee_rate(m, a, maker), m.account[book.CASH], m.rules[book.LEVERAGE]
    paid = fee(quantity, price, rate)
    if admissible(cash, position, quantity, price, paid, leverage, other_value, other_exposure) != 0:
        part, flips = 0.0, position * quantity < 0.0
        if m.rules[book.FIT_TO_CASH] == 1.0:
            part = _fitting(m, a, quantity, reference, volume, rate, slips, other_value, other_exposure)
        if part == 0.0 or abs(part) * price < m.terms[a, book.MINIMUM] or (flips and not is_adding(position, part)):
            cause, part = book.NO_CASH, -position
            if not flips:
                m.orders[k, book.PAID_PRICE] = price
                finish(m, k, t, book.REJECTED, cause)
                return False
        quantity = part
        price = _paid_price(m, a, side, quantity, reference, volume) if slips else reference
        paid = fee(quantity, price, rate)
    _book_fill(m, t, row, k, quantity, price, reference, paid, maker)
    _settle(m, tape, t, k, quantity, price, paid)
    if cause != book.ALLOWED:
        _record_rest(m, k, t, asked - quantity, cause)
    return True


@jit(_nrt=False, forceinline=True)
def _paid_price(m: Machine, a: int, side: float, quantity: float, reference: float, volume: float) -> float:
    """What a market or stop fill of `quantity` pays: its own impact counts, so a part of an order pays less of it."""
    slippage, half_spread, impact = m.terms[a, book.SLIPPAGE], m.terms[a, book.HALF_SPREAD], m.terms[a, book.IMPACT]
    worse = adverse_fraction(slippage, half_spread, impact, quantity, volume)
    return fill_price(reference, side, worse)


@jit(_nrt=False)
def _fitting(
    m: Machine,
    a: int,
    quantity: float,
    reference: float,
    volume: float,
    rate: float,
    slips: bool,
    other_value: float,
    other_exposure: float,
) -> float:
    """The part of `quantity` that the account can carry at the price which that very part pays; 0.0 for none.

    With impact a fixed point, `q = affordable(price(q))`: from a price without impact on, each step at least halves the
    distance as long as the impact stays below half the price. Lots are cut off last.
    """
    cash, position, leverage = m.account[book.CASH], m.assets[a, book.POSITION], m.rules[book.LEVERAGE]
    lots, side, part = m.terms[a, book.LOTS], math.copysign(1.0, quantity), 0.0
    moves = slips and m.terms[a, book.IMPACT] > 0.0
    for _ in range(_FIXED_POINT_STEPS if moves else 1):
        price = _paid_price(m, a, side, part, reference, volume) if slips else reference
        if price <= 0.0:
            return 0.0
        before = part
        part = affordable_quantity(
            cash, position, quantity, price, rate, leverage, 0.0 if moves else lots, other_value, other_exposure
        )
        if abs(part - before) <= _FIXED_POINT * abs(part):
            break
    if not moves:
        return part
    part = _whole(part, lots)
    price = _paid_price(m, a, side, part, reference, volume)
    paid = fee(part, price, rate)
    fits = price > 0.0 and admissible(cash, position, part, price, paid, leverage, other_value, other_exposure) == 0
    return part if fits else 0.0


@jit(_nrt=False)
def _record_rest(m: Machine, k: int, t: int, rest: float, cause: float) -> None:
    """The half of a flip that may not be, or cannot be paid: order `k` has closed the position, `rest` is refused."""
    i = new_order(m, int(m.orders[k, book.ASSET]), m.orders[k, book.KIND], rest, m.orders[k, book.REASON], t)
    for column in (book.LEVEL, book.UP, book.LIMIT_PRICE, book.PLACED, book.POLICY, book.TAG):
        m.orders[i, column] = m.orders[k, column]
    m.orders[i, book.STATUS], m.orders[i, book.CAUSE], m.orders[i, book.FILL_BAR] = book.REJECTED, cause, t


@jit(_nrt=False)
def watch_margins(m: Machine, tape: Tape, t: int, row: int) -> None:
    """Liquidation levels of all that is held: each one depends on the cash and on what else there is."""
    value, exposure = others(m, tape, t, row, -1)
    alone = m.assets.shape[0] == 1
    for a in range(m.assets.shape[0]):
        position = m.assets[a, book.POSITION]
        if position != 0.0:
            price = 0.0 if alone else (tape.fine_open[row, a] if row >= 0 else tape.open[t, a])
            _watch_margin(m, a, t, value - position * price, exposure - abs(position) * price)


@jit(_nrt=False)
def _watch_margin(m: Machine, a: int, t: int, other_value: float, other_exposure: float) -> None:
    """Keep one order at the price at which symbol `a` brings the account down to its maintenance margin."""
    position, k = m.assets[a, book.POSITION], int(m.assets[a, book.LIQUIDATOR])
    side = 1.0 if position > 0.0 else -1.0
    if k < 0:
        k = _exit_order(m, a, book.LIQUIDATING, math.nan, book.LIQUIDATION, t, math.nan, -side)
        link(m, k)
        m.assets[a, book.LIQUIDATOR] = k
    cash, maintenance = m.account[book.CASH], m.rules[book.MAINTENANCE]
    m.orders[k, book.LEVEL] = liquidation_price(cash, position, maintenance, other_value, other_exposure)
    refresh_window(m.orders, m.assets, a)


@jit(_nrt=False, forceinline=True)
def _book_fill(
    m: Machine, t: int, row: int, k: int, quantity: float, price: float, reference: float, paid: float, maker: bool
) -> None:
    """Cash, position, the fill's row and the order's."""
    a = int(m.orders[k, book.ASSET])
    slippage = abs(quantity) * abs(price - reference)
    m.account[book.CASH] = cash_after(m.account[book.CASH], quantity, price, paid)
    if m.tiers.shape[0] > 0:
        m.account[book.TRADED] += abs(quantity) * price
        m.traded[t] += abs(quantity) * price
    f = m.counts[book.FILLS]
    m.counts[book.FILLS] = f + 1
    m.fills[f, book.FILL_AT] = t
    m.fills[f, book.FILL_ROW] = row
    m.fills[f, book.FILL_ASSET] = a
    m.fills[f, book.FILL_ORDER] = k
    m.fills[f, book.FILL_QUANTITY] = quantity
    m.fills[f, book.FILL_PRICE] = price
    m.fills[f, book.FILL_REFERENCE] = reference
    m.fills[f, book.FILL_FEE] = paid
    m.fills[f, book.FILL_SLIPPAGE] = slippage
    m.fills[f, book.FILL_REASON] = m.orders[k, book.REASON]
    m.fills[f, book.FILL_MAKER] = 1.0 if maker else 0.0
    m.fills[f, book.FILL_CASH] = m.account[book.CASH]
    m.fills[f, book.FILL_POSITION] = position_after(m.assets[a, book.POSITION], quantity, m.terms[a, book.LOTS])
    m.fills[f, book.FILL_SEQUENCE] = f + m.counts[book.ENTRIES]
    m.orders[k, book.QUANTITY] = quantity
    m.orders[k, book.PAID_PRICE] = price
    m.orders[k, book.ORDER_FEE] = paid
    m.orders[k, book.ORDER_SLIPPAGE] = slippage


@jit(_nrt=False, forceinline=True)
def _settle(m: Machine, tape: Tape, t: int, k: int, quantity: float, price: float, paid: float) -> None:
    """What a fill means for the position, its trade, and the orders around it."""
    a = int(m.orders[k, book.ASSET])
    before = m.assets[a, book.POSITION]
    after = position_after(before, quantity, m.terms[a, book.LOTS])
    finish(m, k, t, book.FILLED, book.ALLOWED)
    m.assets[a, book.POSITION] = m.assets[a, book.EXPECTED] = after
    opening = abs(quantity)
    if before * quantity < 0.0:
        closed = min(abs(before), abs(quantity))
        opening = abs(quantity) - closed
        gain = (price - m.assets[a, book.AVERAGE]) * math.copysign(closed, before)
        m.assets[a, book.PROFIT] += gain - paid * (closed / abs(quantity))
        if before * after <= 0.0:
            _close_trade(m, a, t, k, before)
    if after != 0.0 and (before == 0.0 or before * after < 0.0):
        _open_trade(m, tape, t, k, after, price, paid * (abs(after) / abs(quantity)))
    elif after != 0.0 and opening > 0.0 and before * quantity > 0.0:
        average = (m.assets[a, book.AVERAGE] * abs(before) + price * opening) / abs(after)
        m.assets[a, book.AVERAGE] = average
        m.assets[a, book.ENTERED] += opening
        m.assets[a, book.PROFIT] -= paid
        if m.policies[int(m.assets[a, book.HELD_POLICY]), book.PROTECTS] == 1.0:
            cancel_attached(m, a, t, False, book.REPLACED)
            _attach_exits(m, tape, t, a)
    if m.orders[k, book.GROUP] > 0.0:
        _cancel_siblings(m, k, t)
    if m.orders[k, book.SPACING] > 0.0:
        _rearm(m, k, t)
    refresh_window(m.orders, m.assets, a)


@jit(_nrt=False)
def take_fill(m: Machine, tape: Tape, t: int, k: int, quantity: float, price: float, paid: float, maker: bool) -> None:
    """Book a fill of order `k` that took place elsewhere, for a fee of `paid`: it is not asked whether it may be.

    What is left of the order goes on working, unless it belongs to a position that is closed by now.
    """
    a, asked, linked = int(m.orders[k, book.ASSET]), m.orders[k, book.QUANTITY], m.orders[k, book.KIND] != book.MARKET
    left = position_after(wanted(m, k, m.assets[a, book.POSITION]), -quantity, m.terms[a, book.LOTS])
    _book_fill(m, t, -1, k, quantity, price, price, paid, maker)
    _settle(m, tape, t, k, quantity, price, paid)
    dead = m.orders[k, book.ATTACHED] > 0.0 and m.assets[a, book.POSITION] == 0.0
    if left * quantity <= 0.0 or dead:
        return
    m.orders[k, book.QUANTITY] = asked if math.isnan(asked) else left
    m.orders[k, book.STATUS], m.orders[k, book.FILL_BAR] = book.WORKING, math.nan
    if linked:
        link(m, k)


@jit(_nrt=False, forceinline=True)
def _close_trade(m: Machine, a: int, t: int, k: int, before: float) -> None:
    """The position went through zero: its orders die, the streak of losses is counted, the side may be blocked."""
    if m.assets[a, book.FIRST] >= 0.0:
        cancel_attached(m, a, t, True, book.POSITION_CLOSED)
    if m.rules[judging.GUARDS] > 0.0:
        record_closed(m, a, t, m.orders[k, book.REASON])
    m.account[judging.STREAK] = m.account[judging.STREAK] + 1.0 if m.assets[a, book.PROFIT] < 0.0 else 0.0
    m.assets[a, judging.CLOSED_AT] = t
    m.assets[a, book.LIQUIDATOR] = book.NONE
    m.assets[a, book.PROFIT] = 0.0
    m.assets[a, book.ENTERED] = 0.0
    m.assets[a, book.AVERAGE] = 0.0
    reason, p = m.orders[k, book.REASON], int(m.assets[a, book.HELD_POLICY])
    protective = reason >= book.STOP_LOSS and reason <= book.LIQUIDATION and reason != book.SCALING
    if protective and m.policies[p, book.REENTERS] == 0.0 and m.rules[book.EVENTS] == 0.0:
        m.assets[a, book.BLOCKED] = 1.0 if before > 0.0 else -1.0


@jit(_nrt=False, forceinline=True)
def _open_trade(m: Machine, tape: Tape, t: int, k: int, after: float, price: float, paid: float) -> None:
    """A new position: average price, exits and scale-in from the order's own policy, else the symbol's."""
    a = int(m.orders[k, book.ASSET])
    own = m.orders[k, book.POLICY]
    m.assets[a, book.HELD_POLICY] = own if own >= 0.0 else a
    m.assets[a, book.AVERAGE] = price
    m.assets[a, book.ENTERED] = abs(after)
    m.assets[a, book.OPENED_AT] = t
    m.assets[a, book.PROFIT] = -paid
    m.assets[a, book.BLOCKED] = 0.0
    p = int(m.assets[a, book.HELD_POLICY])
    if m.policies[p, book.PROTECTS] == 1.0:
        _attach_exits(m, tape, t, a)
    if m.policies[p, book.SCALE_ORDERS] > 0.0:
        _attach_scaling(m, tape, t, a, after, price)
