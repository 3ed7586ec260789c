"""Which resting orders a print fills, at which price: pure functions, no account, no clock.

**Bars** are walked by the engine's own kernel (`tradelib.backtest.walk`): open, adverse extreme, favourable extreme,
close; what the open is beyond fills at the open; touching counts; market orders that a stop releases slip, limits never
do. A stop or a limit on the venue so fills as in the backtest, to the bit. The walk sees one market's orders as they
rest and the position that is held; the fills it reports are booked by the exchange with the same kernel functions.

**Trades.** A limit order fills at its limit, as maker, when a trade prints at it or beyond, with at most the quantity
of that trade. A stop is released by the print that reaches it and takes at that print's price, slipped.

**Books.** A limit order fills at its limit when the other side has come to it, with at most what stands there. A stop
is released by the best price its owner could trade at, and takes the levels from there on.

`capacity` bounds what the limit orders of a print may take together: the share of the volume that the market grants.
What a stop releases takes all it wants, as it must, and leaves the less to the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tradelib._jit import interpreted
from tradelib.backtest import book, kernel
from tradelib.backtest.execution import link, new_order
from tradelib.backtest.machine import make_tape
from tradelib.backtest.walk import walk
from tradelib.venue.orders import Order, Row
from tradelib.venue.sources import Level, Print

__all__ = ["Eaten", "Match", "Terms", "match", "take"]

_EARLIER = -9.0
"""The bar on which a resting order was placed: long ago, so that what it does is a maker's."""


class Terms(NamedTuple):
    """How a market trades: fee rates and slippage as fractions, lots in one unit of the asset."""

    maker_rate: float
    taker_rate: float
    slippage: float
    lots_per_unit: float


class Match(NamedTuple):
    """What happened to an order: `quantity` of it filled at `price`; with quantity 0.0 it was released (a stop became
    its limit order), or, where `refused`, ended for want of cash."""

    order_id: int
    quantity: float
    price: float
    maker: bool
    refused: bool = False


class Eaten:
    """What the account's own fills have taken out of a recorded book, until the recording changes the level."""

    def __init__(self) -> None:
        self._gone: dict[tuple[int, float], tuple[float, float]] = {}

    def net(self, side: int, levels: Iterable[Level]) -> list[Level]:
        """`levels`, as orders of `side` meet them, less what was taken."""
        found = []
        for level in levels:
            standing, gone = self._gone.get((side, level.price), (level.quantity, 0.0))
            left = level.quantity - (gone if standing == level.quantity else 0.0)
            found.append(level._replace(quantity=left))
        return [level for level in found if level.quantity > 0.0]

    def take(self, side: int, levels: Iterable[Level], found: Iterable[Match]) -> None:
        """Remember that `found` was taken out of `levels`."""
        stands = {level.price: level.quantity for level in levels if level.quantity != math.inf}
        for one in found:
            if one.price in stands:
                standing, gone = self._gone.get((side, one.price), (stands[one.price], 0.0))
                gone = gone if standing == stands[one.price] else 0.0
                self._gone[side, one.price] = (stands[one.price], gone + one.quantity)


def match(
    orders: Sequence[Order],
    seen: Print,
    terms: Terms,
    cash: float,
    position: float,
    capacity: float = math.inf,
    eaten: Eaten | None = None,
) -> list[Match]:
    """What `seen` does to the resting `orders` of its market, in the sequence in which it happens."""
    if seen.bar is not None:
        return _through_bar(orders, seen.bar, terms, cash, position, capacity)
    found: list[Match] = []
    left = seen.quantity
    for order in _by_priority(orders):
        if seen.bids:
            part = _at_book(order, seen, terms, capacity, eaten or Eaten())
        else:
            part = _at_trade(order, seen.price, min(left, capacity), terms)
            left -= sum(one.quantity for one in part if one.maker)
        found.extend(part)
        capacity -= sum(one.quantity for one in part)
    return found


def take(
    levels: Iterable[Level], side: int, quantity: float, limit: float | None, terms: Terms, *, rests: bool = True
) -> list[Match]:
    """What an arriving order of `side` gets out of `levels`, best first, not beyond `limit`; order ids are 0.

    A limit order that `rests` (GTC) never slips, as in the engine; one that only takes (IOC, FOK) pays what a market
    order pays, up to its limit.
    """
    found: list[Match] = []
    for level in levels:
        slips = level.slips and (limit is None or not rests)
        price = kernel.fill_price.python(level.price, float(side), terms.slippage) if slips else level.price
        if limit is not None and (price - limit) * side > 0.0:
            break
        part = whole(min(quantity - sum(one.quantity for one in found), level.quantity), terms.lots_per_unit)
        if part <= 0.0:
            break
        found.append(Match(0, part, price, False))
    return found


def whole(quantity: float, lots_per_unit: float) -> float:
    """`quantity` rounded down to whole lots."""
    if quantity == math.inf:
        return quantity
    lots = quantity * lots_per_unit
    return math.floor(lots + max(1e-9, 1e-15 * lots)) / lots_per_unit  # a whole number of lots may come out just below


def is_stop(order: Order) -> bool:
    """True for an order that waits for its trigger."""
    return order.stop_price is not None and not order.triggered


def triggers_up(order: Order) -> bool:
    """True where the trigger is reached from below: a buy stop, a sell take-profit."""
    return (order.side > 0) == order.kind.startswith("stop")


def is_reached(order: Order, price: float) -> bool:
    """True when `price` has reached the trigger; touching counts."""
    assert order.stop_price is not None
    return price >= order.stop_price if triggers_up(order) else price <= order.stop_price


def rest(order: Order) -> float:
    """Base units that are still to trade."""
    return order.quantity - order.executed


def _by_priority(orders: Sequence[Order]) -> list[Order]:
    """Stops before limits, better limits before worse ones, then by time of acceptance."""
    return sorted(orders, key=lambda o: (not is_stop(o), -o.side * (o.price or 0.0), o.order_id))


# Bars


def _through_bar(
    orders: Sequence[Order], bar: Row, terms: Terms, cash: float, position: float, capacity: float
) -> list[Match]:
    """Walk the bar; where the fills exceed `capacity`, cut the first limit that does so, and walk again."""
    most, free = whole(capacity, terms.lots_per_unit), {order.order_id for order in orders if order.price is None}
    sizes = {order.order_id: min(rest(order), math.inf if order.order_id in free else most) for order in orders}
    while True:
        working = [order for order in orders if sizes[order.order_id] > 0.0]
        if not any(_may_act(order, bar) for order in working):
            return []
        found, taken = _walk(working, sizes, bar, terms, cash, position), 0.0
        over = None
        for one in found:
            taken += one.quantity
            if taken > capacity * (1.0 + 1e-12) and one.order_id not in free:
                over = one
                break
        if over is None:
            return found
        sizes[over.order_id] = whole(max(capacity - taken + over.quantity, 0.0), terms.lots_per_unit)


def _may_act(order: Order, bar: Row) -> bool:
    level, up = _level(order)
    return bar.high >= level if up > 0.0 else bar.low <= level


def _level(order: Order) -> tuple[float, float]:
    """The price at which the order acts, and from which side it is reached: +1 from below."""
    if is_stop(order):
        assert order.stop_price is not None
        return order.stop_price, 1.0 if triggers_up(order) else -1.0
    assert order.price is not None
    return order.price, -float(order.side)


def _walk(
    orders: Sequence[Order], sizes: dict[int, float], bar: Row, terms: Terms, cash: float, position: float
) -> list[Match]:
    """The engine's walk over one bar, with one symbol and these orders."""
    rates = {"maker_rate": terms.maker_rate, "taker_rate": terms.taker_rate}
    table = book.term_rows(1, **rates, slippage=terms.slippage, lots=terms.lots_per_unit)
    size = 3 * len(orders) + 8
    m = book.empty_machine(1, 1, cash=cash, terms=table, rules=book.rule_vector(), capacity=size)
    m.assets[0, book.POSITION] = position
    ranked = sorted(orders, key=lambda o: (not (is_stop(o) and o.side * position < 0.0), o.order_id))
    with interpreted():
        rows = {_enter(m, order, sizes[order.order_id]): order for order in ranked}
        tape = _tape(bar)
        walk(m, tape, 0, -1, 0, bar.open, bar.high, bar.low, bar.close)
    return _read(m, rows)


def _tape(bar: Row) -> book.Tape:
    return make_tape(*(np.array([[value]]) for value in bar))


def _enter(m: book.Machine, order: Order, size: float) -> int:
    """The order as a row of the machine, at work."""
    stop, limited = is_stop(order), order.price is not None
    kind = (book.STOP_LIMIT if limited else book.STOP) if stop else book.LIMIT
    k: int = new_order(m, 0, kind, order.side * size, book.EXPLICIT, _EARLIER)
    m.orders[k, book.LEVEL], m.orders[k, book.UP] = _level(order)
    m.orders[k, book.LIMIT_PRICE] = order.price if stop and order.price is not None else math.nan
    m.orders[k, book.GROUP] = float(order.group or 0)
    link(m, k)
    return k


def _read(m: book.Machine, rows: dict[int, Order]) -> list[Match]:
    """Fills in their sequence, then what was released without a fill, then what could not be paid."""
    found = [
        Match(
            rows[int(fill[book.FILL_ORDER])].order_id,
            abs(float(fill[book.FILL_QUANTITY])),
            float(fill[book.FILL_PRICE]),
            bool(fill[book.FILL_MAKER]),
        )
        for fill in m.fills[: m.counts[book.FILLS]]
    ]
    for k, order in rows.items():
        status = m.orders[k, book.STATUS]
        if is_stop(order) and status == book.WORKING and m.orders[k, book.KIND] == book.LIMIT:
            found.append(Match(order.order_id, 0.0, math.nan, False))
        elif status == book.REJECTED:
            found.append(Match(order.order_id, 0.0, math.nan, False, refused=True))
    return found


# Trades and books


def _at_trade(order: Order, price: float, room: float, terms: Terms) -> list[Match]:
    room = whole(min(rest(order), room), terms.lots_per_unit)
    limit = order.price
    if not is_stop(order):
        assert limit is not None
        reached = (price - limit) * order.side <= 0.0
        return [Match(order.order_id, room, limit, True)] if reached and room > 0.0 else []
    if not is_reached(order, price):
        return []
    taken = take(
        [Level(price, math.inf if limit is None else room, limit is None)], order.side, rest(order), limit, terms
    )
    return _named(order, taken) or [Match(order.order_id, 0.0, math.nan, False)]


def _at_book(order: Order, seen: Print, terms: Terms, capacity: float, eaten: Eaten) -> list[Match]:
    levels = seen.asks if order.side > 0 else seen.bids
    stop = is_stop(order)
    if stop and not is_reached(order, levels[0].price):
        return []
    taken = take(eaten.net(order.side, levels), order.side, min(rest(order), capacity), order.price, terms)
    eaten.take(order.side, levels, taken)
    if stop:
        return _named(order, taken) or [Match(order.order_id, 0.0, math.nan, False)]
    assert order.price is not None
    quantity = whole(sum(one.quantity for one in taken), terms.lots_per_unit)
    return [Match(order.order_id, quantity, order.price, True)] if quantity > 0.0 else []


def _named(order: Order, found: Iterable[Match]) -> list[Match]:
    return [one._replace(order_id=order.order_id) for one in found]
