"""Orders that the runner holds itself, because the venue has no such kind, or cannot hold both orders of a group.

A held order waits here, not at the venue, until its price is there. Then it is fired: written down (`trigger`), its
siblings at the venue cancelled and proved to be done, and what is left of its quantity sent under its own id. So it
stays one order of one intent, and whoever resumes after a crash goes on at the step that is not yet proved.

Of a limit and a stop in one group a venue that takes only one of them gets the stop: the protection rests there even
while the runner is dead. When the market is at the limit's price they change places: the limit goes to the venue, and a
second stop, under an id made from the first one's, is held here in case that the market turns. What the limit leaves
unfilled at once gives the place back: whoever minds the position places the stop anew. A venue that holds no stops gets
the limit orders, and the stop is held here.

What was met while nobody looked counts as well, as far as bars tell it: their lows and highs. An order is shown those
from the moment on at which it was placed, of which its `arrival` in the journal keeps the bar as it stood then. So a
process that was away fires at its start what should have fired meanwhile. That holds for exits: an entry whose moment
has passed is none any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tradelib.bundle.trading.bar import Bar
from tradelib.bundle.trading.retelling import ONE_CANCELS
from tradelib.ledger import journal
from tradelib.live.dialects import Placement
from tradelib.live.fills import total
from tradelib.live.intents import TERMINAL, Intent, OrderReport, OrderState

if TYPE_CHECKING:
    from tradelib.live.orders import OrderDesk, WorkingOrder

__all__ = ["HeldOrders", "is_reached", "met_since", "placed_in", "show"]

_STOPS = ("stop", "stop_limit")


class HeldOrders:
    """The part of the desk that waits for prices."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk
        self._groups: set[str] = set()

    def prepare(self, intents: Sequence[Intent]) -> None:
        """Remember which groups hold a stop: their limit orders are held here."""
        self._groups |= {one.group for one in intents if one.group is not None and one.kind in _STOPS}

    def is_held(self, intent: Intent) -> bool:
        """Whether the runner holds this order, and not the venue."""
        if intent.held or intent.kind not in self._desk.dialect.order_kinds:
            return True
        beside = intent.kind == "limit" and intent.group in self._groups and "stop" in self._desk.dialect.order_kinds
        return beside and not self._desk.dialect.holds_oco

    def has_fired(self, intent: Intent) -> bool:
        """Whether its price was reached, so that it may be at the venue."""
        return self._desk.log.get(f"trigger:{intent.client_order_id}") is not None

    def placement(self, order: WorkingOrder) -> Placement:
        """The order as it goes out: a fired stop as a market or limit order, never more than its group has left."""
        placed = order.intent.placement()
        if order.intent.kind in _STOPS and self.has_fired(order.intent):
            kind = "market" if order.intent.kind == "stop" else "limit"
            placed = replace(placed, kind=kind, stop_price=None)  # type: ignore[arg-type]
        fired = order.intent.group is not None and self.has_fired(order.intent)
        return replace(placed, quantity=self._left(order)) if fired else placed

    async def tick(self, symbol: str, bid: float, ask: float, *, gone: bool = False) -> list[OrderReport]:
        """Fire what is reached, stops before limits: of two prices in one move the worse is assumed first.

        gone: the market was there and is no more. A stop acts all the same; a limit order would only rest, where the
        stop that rests instead protects.
        """
        await self.after_news()
        held = [
            order for order in self._desk.working(symbol) if order.held and not (gone and order.intent.kind == "limit")
        ]
        reached = [order for order in held if self.has_fired(order.intent) or is_reached(order.intent, bid, ask)]
        reached.sort(key=lambda order: order.intent.kind not in _STOPS)
        return [await self._fire(order, bid if order.intent.side == "sell" else ask) for order in reached]

    async def look_back(self, symbol: str, closed: Sequence[Bar], forming: Bar | None) -> list[OrderReport]:
        """Fire the exits whose price was met since they were placed and seen by nobody, stops first."""
        held = [order for order in self._desk.working(symbol) if order.held and order.intent.reduces]
        met = [(order, price) for order in held if (price := self._met(order, closed, forming)) is not None]
        met.sort(key=lambda pair: pair[0].intent.kind not in _STOPS)
        return [await self._fire(order, price) for order, price in met]

    async def resume(self) -> None:
        """Go on with orders that were fired by an earlier process, stops first: a fired stop is a group's last word."""
        fired = [order for order in self._desk.working() if self.has_fired(order.intent)]
        for order in sorted(fired, key=lambda order: order.intent.kind not in _STOPS):
            await self._clear_the_way(order)
            outdone = order.intent.kind not in _STOPS and any(map(self._is_fired_stop, self._desk.siblings(order)))
            order.held = False
            await self._desk.settle(order, may_send=not outdone and self._left(order) > 0)
        await self.after_news()

    async def after_news(self) -> None:
        """A fill of one order of a group ends the held ones, as far as nothing is left for them.

        The copy of a stop ends with the limit order that it stands beside: another stop is placed then, or none.
        """
        for order in self._desk.working():
            if order.held and order.intent.group is not None and (self._is_over(order) or self._is_alone(order)):
                await self._desk.cancel(order.id, ONE_CANCELS)

    async def _fire(self, order: WorkingOrder, price: float) -> OrderReport:
        if order.state in TERMINAL or not order.held:
            return order.report
        spare = self._spare(order)
        newest = self._desk.log.last(journal.BAR)
        after = {} if newest is None else {"after": newest.body["time"]}
        body = {"client_order_id": order.id, "price": price, **after}
        entries = [(journal.TRIGGER, body, f"trigger:{order.id}")]
        if spare is not None:
            entries.append((journal.INTENT, spare.body(), f"intent:{spare.client_order_id}"))
        await self._desk.write(entries, keep=True)
        await self._clear_the_way(order)
        if not self._left(order) > 0:
            return await self._desk.cancel(order.id, ONE_CANCELS)
        order.held, order.report = False, replace(order.report, state=OrderState.INTENDED, reason="")
        if spare is not None:
            await self._desk.place(spare)
        return await self._desk.place(order.intent)

    async def _clear_the_way(self, order: WorkingOrder) -> None:
        """Prove that no sibling at the venue can trade any more."""
        for other in self._desk.siblings(order):
            if not other.held and other.state not in TERMINAL and not self._is_fired_stop(other):
                await self._desk.cancel(other.id, ONE_CANCELS)

    def _spare(self, order: WorkingOrder) -> Intent | None:
        """The stop to hold here while the limit of its group is at the venue: the one that stands there now, or that
        stood there when this order was fired for the first time."""
        stops = [other for other in self._desk.siblings(order) if other.intent.kind in _STOPS and not other.held]
        known = [one for one in stops if self._desk.log.get(f"intent:{_spare_name(one.intent)}") is not None]
        there = [one for one in stops if one.state not in TERMINAL]
        if order.intent.kind != "limit" or not (there or (known and self.has_fired(order.intent))):
            return None
        stop = (there or known)[-1].intent
        return replace(stop, client_order_id=_spare_name(stop), held=True, leg=f"{stop.leg}+")

    def _met(self, order: WorkingOrder, closed: Sequence[Bar], forming: Bar | None) -> float | None:
        """The first price of these bars at which an order acts, of those since it was placed; None for none.

        A limit order acts where the market is now. A copy of a stop watches since the stop was placed: that one would
        have acted itself while it stood.
        """
        origins = [other for other in self._desk.siblings(order) if _spare_name(other.intent) == order.id]
        name = origins[0].id if origins else order.id
        arrival = self._desk.log.get(f"arrival:{name}")
        before = None if arrival is None else _bar_of(arrival.body.get("forming"))
        now = [] if forming is None else [forming]
        prices = [] if before is None or order.intent.kind == "limit" else met_since(before, [*closed, *now])
        prices += [bar.close for bar in now]
        return next((price for price in prices if is_reached(order.intent, price, price)), None)

    def _left(self, order: WorkingOrder) -> Decimal:
        """What the group has left for this order: no more than its largest order, less what the others have traded."""
        others = self._desk.siblings(order)
        most = max([order.intent.quantity, *(other.intent.quantity for other in others)])
        traded = sum((abs(total(other.report.trades)) for other in others), Decimal(0))
        return min(order.intent.quantity, most - traded)

    def _is_over(self, order: WorkingOrder) -> bool:
        return not self.has_fired(order.intent) and not self._left(order) > 0

    def _is_alone(self, order: WorkingOrder) -> bool:
        """Whether this is a copy of a stop that no limit order at the venue needs any more."""
        beside = [other for other in self._desk.siblings(order) if other.intent.kind == "limit" and not other.held]
        alive = any(other.state not in TERMINAL for other in beside)
        return order.intent.held and not self.has_fired(order.intent) and not alive

    def _is_fired_stop(self, order: WorkingOrder) -> bool:
        return order.intent.kind in _STOPS and self.has_fired(order.intent)


def _spare_name(stop: Intent) -> str:
    return "tl-" + hashlib.sha256(f"{stop.client_order_id}\nheld".encode()).hexdigest()[:32]


async def show(desk: OrderDesk, symbol: str, prices: Sequence[float | None], *, gone: bool = False) -> None:
    """Show prices, as they came, to the orders that the runner holds; all but the last one, or it too, are `gone`."""
    for left, price in enumerate(prices, start=1 - len(prices)):
        if price is not None and any(order.held for order in desk.working(symbol)):
            await desk.tick(symbol, bid=price, ask=price, gone=gone or left < 0)


def placed_in(forming: Bar | None) -> dict[str, Any]:
    """What the `arrival` of an order keeps of the bar in which it is placed, as it stands then."""
    return {} if forming is None else {"forming": [forming.milliseconds, forming.low, forming.high]}


def _bar_of(kept: Sequence[float] | None) -> Bar | None:
    if kept is None:
        return None
    opened, low, high = kept
    return Bar(int(opened), low, high, low, low, 0.0)


def met_since(before: Bar, bars: Sequence[Bar]) -> list[float]:
    """Prices that were met after `before` had been seen: the lows and highs of later bars, and new ones of its own.

    In one bar the low is taken first, as it ends what was bought.
    """
    found: list[float] = []
    for bar in bars:
        if bar.milliseconds < before.milliseconds:
            continue
        later = bar.milliseconds > before.milliseconds
        found += [bar.low] if later or bar.low < before.low else []
        found += [bar.high] if later or bar.high > before.high else []
    return found


def is_reached(intent: Intent, bid: float, ask: float) -> bool:
    """Whether the market is where this order wants to act; a sell looks at the bid, a buy at the ask."""
    selling = intent.side == "sell"
    price = Decimal(repr(bid if selling else ask))
    if intent.kind in _STOPS:
        assert intent.stop_price is not None
        return price <= intent.stop_price if selling else price >= intent.stop_price
    return intent.price is None or (price >= intent.price if selling else price <= intent.price)
