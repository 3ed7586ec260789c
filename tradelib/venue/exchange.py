"""The paper exchange as a state machine: markets, a clock, one account, its orders. No sockets, no wall clock, no
files.

**Clock.** Time is simulated and moves in ticks, the open times of the recorded bars (and, on a `fine` recording, the
times of its events). At a tick, every bar that opened earlier is closed and served as recorded. The bar that opens at
the tick is *forming* and served as at its first trade: open = high = low = close = the recorded open, volume 0. Nothing
else of the future is visible. One last tick lies at the close of the last bar: there the exchange shows a forming bar
without trades (flat at the last close), so that the last recorded bar, too, is followed by a later one. A client
therefore needs one rule on paper and live alike: *a bar has closed when a later bar is there*.

**Fills.** A market order fills at once at the open of the forming bar, through `tradelib.backtest.kernel` (slippage
against the client, fee in the quote currency unless the market says otherwise). An order sent after the close of bar
*t* thus fills at the open of *t+1*: the engine's rule. Where nothing trades any more (after the last bar, or between
two bars of a market whose calendar has gaps) a market order expires unfilled, as on any exchange without a
counterparty. A limit order that is marketable on arrival takes at the open; what rests is matched when the clock leaves
the tick, against the whole bar from its open on, by the engine's own walk (`tradelib.venue.matching`). A client is thus
quicker than the market by convention: what it sends or cancels at a tick counts before the bar of that tick, its open
included.

**Spot.** No borrowing: open orders lock what they may spend (an OCO pair once), a buy needs free cash
(`kernel.admissible` with a leverage of 1), a sell free holdings. Lots, ticks and the minimum notional are checked as
Binance does; the notional of a market order is valued at the last closed bar's close, as the engine does. In an OCO
pair the fill of one order, even in part, ends the other.

**Pace.** What moves the clock:

- `"manual"`, `"real"`: only `step`, called by the operator or by the server's timer.
- `"live"`: `push`, which brings the rows of live markets.
- `"poll"`: the client that asks for the next bar. A `klines` request steps one tick, before it is answered, exactly
  when its `start` lies after every closed bar and not after the forming one, its `end` does not exclude the forming
  bar, and the forming bar of that market has been served at this tick already. In short: the second time somebody
  asks "what comes after the bars I have", the next bar closes. `start = last closed open + 1` is the usual way to
  ask.

  Nothing else steps: not a request without `start`, not one that returns any closed bar of this tick, not orders,
  not queries. A page of history that stops short of the newest bar withdraws the "served already", because a client
  that reads history is (re)starting: it sees the forming bar once before its polls count. So a restart that reads
  its history again, in pages of any size, finds the clock where it was, and a stepping poll whose answer was lost
  can be sent again: by then it asks for a bar that is closed, and steps no more.

  One client decides alone when time passes, so its run is deterministic; it may poll several markets in turn, and
  each round moves one tick. It must settle what is pending (orders of the last closed bar) before it asks for the
  next bar, and ask for at least two rows, or the later bar that proves the close is cut off. Several independent
  clients on one venue would pull the same clock: use `"manual"` or `"real"` for them.

State lives in memory; `snapshot` and `restore` carry the account over a restart.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import pandas as pd

from tradelib.backtest import kernel
from tradelib.data.timeframes import utc_timestamp
from tradelib.errors import VenueError
from tradelib.venue.faults import BAR_FAULTS, FaultState
from tradelib.venue.markets import MAXIMUM_QUANTITY, VenueMarket
from tradelib.venue.matching import Eaten, Match, is_reached, is_stop, match, rest, take, whole
from tradelib.venue.orders import Event, Fill, Kline, NewOrder, Order, Reason, Refusal, Row, Status
from tradelib.venue.sources import Level, LiveTape, Print, Source
from tradelib.venue.tampering import tampered

__all__ = [
    "PACES",
    "Fill",
    "Kline",
    "NewOrder",
    "Order",
    "PaperExchange",
    "Reason",
    "Refusal",
    "VenueMarket",
]

PACES = ("poll", "manual", "real", "live")
KEPT_EVENTS = 10_000


class PaperExchange:
    """Markets with recorded or live prices, and one account with cash and holdings. See the module for its rules.

    cash: starting balance in the quote currency, which all markets share. holdings: starting balances of base assets.
    start: open time of the first bar to be traded; it is the forming bar of the first tick, everything before it is
    history. None: the second bar. maximum_orders: most open orders per market. Raises `VenueError` for settings that
    cannot be served.
    """

    def __init__(
        self,
        markets: Sequence[VenueMarket],
        *,
        cash: float = 100_000.0,
        start: Any = None,
        pace: str = "poll",
        holdings: Mapping[str, float] | None = None,
        maximum_orders: int = 200,
    ) -> None:
        if pace not in PACES:
            raise VenueError(f"pace {pace!r} is unknown: use one of {', '.join(PACES)}")
        if not (math.isfinite(cash) and cash >= 0.0):
            raise VenueError(f"cash is {cash!r}: give a finite amount that is not negative")
        self.pace = pace
        self.markets = _by_id(markets)
        self.quote = markets[0].quote
        self.cash = float(cash)
        self.positions = {market.base: 0.0 for market in markets} | _checked(holdings or {}, markets)
        self.maximum_orders = maximum_orders
        self.orders: list[Order] = []
        self.faults: FaultState | None = None
        self.listeners: list[Callable[[Event], None]] = []
        self._ticks = _ticks([market.tape for market in markets], pace)
        self._tick = _first_tick(self._ticks, start) if pace != "live" else len(self._ticks) - 1
        self._shown: set[str] = set()
        self._open: dict[str, dict[int, None]] = {}  # market -> ids of its open orders, oldest first
        self._newest_of: dict[tuple[str, str], int] = {}
        self._names: dict[str, int] = {}  # client order ids of open orders
        self._locks: dict[str, dict[int, float]] = {}  # asset -> what each open order (-group for a pair) may spend
        self._trades = self._groups = self._sequence = 0
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._used: dict[str, float] = {}  # market -> volume taken of the bar that forms
        self._eaten = {name: Eaten() for name in self.markets}

    # Clock

    @property
    def clock(self) -> int:
        """Simulated time of the exchange, epoch milliseconds."""
        return self._ticks[self._tick]

    @property
    def finished(self) -> bool:
        """True once the last recorded bar has closed: nothing trades any more."""
        return self.pace != "live" and self._tick == len(self._ticks) - 1

    @property
    def remaining(self) -> int:
        """Ticks that are left before the exchange is finished."""
        return len(self._ticks) - 1 - self._tick

    def step(self, ticks: int = 1) -> int:
        """Move the clock by up to `ticks`; returns how many were left to move."""
        moved = max(min(ticks, self.remaining), 0)
        for _ in range(moved):
            self._advance()
        if moved > 0:
            self._shown.clear()
        return moved

    def push(self, symbol: str, rows: Iterable[tuple[int, Row]], now: int) -> None:
        """Bring rows of a live market (oldest first, the newest forms) at the time `now`; resting orders meet them."""
        market = self.market(symbol)
        if not isinstance(market.tape, LiveTape):
            raise VenueError(f"{market.symbol} replays a recording: only a LiveTape takes rows")
        for seen in market.tape.push(rows):
            self._meet(market, seen)
        self._ticks[-1] = max(self._ticks[-1], now)
        self._tell_klines(market)

    def _advance(self) -> None:
        since, until = self.clock, self._ticks[self._tick + 1]
        if self._open:
            for name in sorted(self._open):
                market = self.markets[name]
                for seen in market.tape.prints(since, until):
                    self._meet(market, seen)
        self._tick += 1
        for name in [name for name in self._used if self._begins(name, since, until)]:
            del self._used[name]
        if self.listeners:
            for market in self.markets.values():
                self._tell_klines(market, since)

    def _begins(self, symbol: str, since: int, until: int) -> bool:
        """True when a bar of the market has begun between the two times."""
        tape = self.markets[symbol].tape
        return tape.newest(since) != tape.newest(until)

    # What is visible

    def market(self, symbol: str) -> VenueMarket:
        """The market called `symbol` on the wire (`SPXUSDT`); `Refusal` when there is none."""
        if symbol not in self.markets:
            raise Refusal(Reason.UNKNOWN_SYMBOL)
        return self.markets[symbol]

    def is_trading(self, symbol: str) -> bool:
        """False once the market's last bar has closed."""
        return self.clock < self.market(symbol).tape.end

    def klines(self, symbol: str, start: int | None = None, end: int | None = None, limit: int = 500) -> list[Kline]:
        """Bars that open in [start, end] (epoch ms), oldest first; with pace "poll" this may move the clock first."""
        tape = self.market(symbol).tape
        if self.pace == "poll" and symbol in self._shown and self._asks_for_next(tape, start, end):
            self.step()
        rows = tape.select(self.clock, start, end, limit)
        if rows and rows[-1] == tape.newest(self.clock):
            self._shown.add(symbol)
        elif rows:
            self._shown.discard(symbol)
        found = [tape.kline(index, self.clock) for index in rows]
        faults = self.faults.strikes("bars", BAR_FAULTS) if self.faults is not None else []
        if faults:  # who was told wrongly asks again before the clock moves
            self._shown.discard(symbol)
        return tampered(found, faults)

    def last_price(self, symbol: str) -> float:
        """The newest price that a client can see; 0.0 before the market's first bar."""
        tape = self.market(symbol).tape
        price = tape.trading_open(self.clock)
        return price if price is not None else tape.last_close(self.clock) or 0.0

    def quotes(self, symbol: str) -> tuple[float, float]:
        """Bid and ask: the prices at which a market sell and a market buy would fill now."""
        bids, asks = self.book(symbol)
        return bids[0].price, asks[0].price

    def book(self, symbol: str) -> tuple[list[Level], list[Level]]:
        """Bids and asks, best first. A market without a recorded book shows one level each, where it would fill."""
        market = self.market(symbol)
        found = []
        for side in (-1, 1):
            levels = market.tape.levels(self.clock, side) or [Level(self.last_price(symbol), math.inf, True)]
            price = kernel.fill_price(levels[0].price, float(side), market.slippage)
            found.append([level._replace(price=price) if level.slips else level for level in levels])
        return found[0], found[1]

    def balances(self) -> dict[str, tuple[float, float]]:
        """Asset -> (free, locked); the quote currency first."""
        return {asset: self.balance(asset) for asset in (self.quote, *self.positions)}

    def balance(self, asset: str) -> tuple[float, float]:
        """Free and locked amount of one asset."""
        total = self.cash if asset == self.quote else self.positions[asset]
        locked = min(self._locked(asset), max(total, 0.0))
        return total - locked, locked

    def equity(self) -> float:
        """Account value with every holding at its market's last close."""
        value = self.cash
        for market in self.markets.values():
            value = kernel.equity(value, self.positions[market.base], market.tape.last_close(self.clock) or 0.0)
        return value

    # Orders

    def place(self, new: NewOrder) -> Order:
        """Take an order; returns it as it stands then (filled, resting, expired), or raises `Refusal`.

        A client order id must be unique among open orders only, as on Binance: the id of an order that is done may be
        used again. Without one the exchange makes one.
        """
        market = self.market(new.symbol)
        order = self._draft(market, new)
        self._check(market, order, new)
        self._check_funds(market, order)
        return self._accept(market, order)

    def place_market_order(
        self, symbol: str, side: int, quantity: Decimal, client_order_id: str | None = None
    ) -> Order:
        """Buy (`side` +1) or sell (-1) `quantity` of the base asset; returns it FILLED or EXPIRED, or raises
        `Refusal`."""
        return self.place(NewOrder(symbol, side, "market", quantity, client_order_id=client_order_id))

    def place_oco(self, first: NewOrder, second: NewOrder) -> tuple[Order, Order]:
        """Take a pair of resting orders of one market, side and quantity: one ends when the other fills.

        One of them gains (limit, take-profit), the other is a stop; their prices lie on either side of the market.
        """
        market = self.market(first.symbol)
        same = (first.symbol, first.side, first.quantity) == (second.symbol, second.side, second.quantity)
        stops = [new for new in (first, second) if new.kind in ("stop", "stop_limit")]
        if not same or len(stops) != 1 or "market" in (first.kind, second.kind):
            raise Refusal(Reason.OCO_PRICES)
        drafts = [self._draft(market, new) for new in (first, second)]
        stop, gain = sorted(drafts, key=lambda order: not order.kind.startswith("stop"))
        limit, last = gain.stop_price or gain.price, self.last_price(market.id)
        assert limit is not None
        assert stop.stop_price is not None
        if not (limit - last) * first.side < 0.0 < (stop.stop_price - last) * first.side:
            raise Refusal(Reason.OCO_PRICES)
        if first.client_order_id is not None and first.client_order_id == second.client_order_id:
            raise Refusal(Reason.DUPLICATE)
        for order, new in zip(drafts, (first, second), strict=True):
            self._check(market, order, new)
        self._check_funds(market, max(drafts, key=lambda order: self._lock_of(market, order)))
        self._groups += 1
        one, two = (self._accept(market, replace(order, group=self._groups)) for order in drafts)
        return self.orders[one.order_id - 1], two

    def cancel(self, symbol: str, order_id: int | None = None, client_order_id: str | None = None) -> Order:
        """Cancel an open order, and its OCO sibling with it; `Refusal` when it is unknown or no longer open."""
        order = self.order(symbol, order_id, client_order_id)
        if not order.is_open:
            raise Refusal(Reason.NOT_OPEN)
        if self.faults is not None and self.faults.first("cancel", ("reject_cancel",)):
            raise Refusal(Reason.CANCEL_REJECTED)
        for sibling in self._siblings(order):
            self._end(sibling, "CANCELED")
        return self._end(order, "CANCELED")

    def cancel_all(self, symbol: str | None = None) -> list[Order]:
        """Cancel every open order, of one market or of all."""
        return [self._end(order, "CANCELED") for order in self.open_orders(symbol)]

    def order(self, symbol: str, order_id: int | None = None, client_order_id: str | None = None) -> Order:
        """The order with this id, or the newest with this client order id; `Refusal` when there is none."""
        wanted = self.market(symbol).id
        number = order_id or self._newest_of.get((wanted, client_order_id or ""), 0)
        found = self.orders[number - 1] if 1 <= number <= len(self.orders) else None
        if found is None or found.symbol != wanted or client_order_id not in (None, found.client_order_id):
            raise Refusal(Reason.UNKNOWN_ORDER)
        return found

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Open orders in the sequence they were accepted, of one market or of all."""
        if symbol is None:
            numbers = sorted(number for ids in self._open.values() for number in ids)
        else:
            numbers = list(self._open.get(symbol, ()))
        return [self.orders[number - 1] for number in numbers]

    def orders_of(self, symbol: str | None = None) -> Iterator[Order]:
        """Orders in the sequence they were accepted, of one market or of all."""
        wanted = None if symbol is None else self.market(symbol).id
        return (order for order in self.orders if wanted is None or order.symbol == wanted)

    def trades(self, symbol: str | None = None) -> list[tuple[Order, Fill]]:
        """Every fill with its order, oldest first, of one market or of all."""
        found = [(order, fill) for order in self.orders_of(symbol) for fill in order.fills]
        return sorted(found, key=lambda pair: pair[1].trade_id)

    def events(self, since: int = 0) -> list[Event]:
        """What happened to orders and balances after event number `since`; the newest 10,000 are kept."""
        return [event for event in self._events if event.sequence > since]

    def forming(self) -> list[Event]:
        """The newest bar of every market as a kline event."""
        found = []
        for market in self.markets.values():
            newest = market.tape.newest(self.clock)
            if newest >= 0:
                closed, bar = not market.tape.is_forming(newest, self.clock), market.tape.kline(newest, self.clock)
                found.append(Event(0, "kline", self.clock, market.id, kline=bar, closed=closed))
        return found

    @property
    def changes(self) -> int:
        """Number of the newest event."""
        return self._sequence

    # Restart

    def snapshot(self) -> dict[str, Any]:
        """Clock, account, orders and counters as JSON can hold them; `restore` on a fresh exchange brings them back."""
        return {
            "tick": self._tick,
            "cash": self.cash,
            "positions": dict(self.positions),
            "orders": [asdict(order) for order in self.orders],
            "counters": [self._trades, self._groups, self._sequence],
            "shown": sorted(self._shown),
            "used": dict(self._used),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from a `snapshot` of an exchange with the same markets; `VenueError` when they differ."""
        if snapshot["positions"].keys() != self.positions.keys() or snapshot["tick"] >= len(self._ticks):
            raise VenueError("the snapshot is of a venue with other markets or other bars: start with the same ones")
        self._tick, self.cash = snapshot["tick"], snapshot["cash"]
        self.positions = dict(snapshot["positions"])
        self.orders = [_order(given) for given in snapshot["orders"]]
        self._trades, self._groups, self._sequence = snapshot["counters"]
        self._shown, self._used = set(snapshot["shown"]), dict(snapshot["used"])
        self._open, self._names, self._locks = {}, {}, {}
        for order in self.orders:
            if order.is_open:
                self._enter(order)
        self._newest_of = {(order.symbol, order.client_order_id): order.order_id for order in self.orders}
        self._events.clear()

    # Placing

    def _draft(self, market: VenueMarket, new: NewOrder) -> Order:
        """The order as it would be accepted; nothing is checked but that its kind has what it needs."""
        limited = new.kind in ("limit", "stop_limit", "take_profit_limit")
        stops = new.kind not in ("market", "limit")
        if limited != (new.price is not None) or stops != (new.stop_price is not None):
            raise Refusal(Reason.BAD_TERMS)
        number = len(self.orders) + 1
        return Order(
            number,
            new.client_order_id or f"venue-{number}",
            market.id,
            new.side,
            new.kind,
            self._quantity(market, new),
            self.clock,
            price=None if new.price is None else float(new.price),
            stop_price=None if new.stop_price is None else float(new.stop_price),
            time_in_force=new.time_in_force,
            post_only=new.post_only,
            updated=self.clock,
        )

    def _quantity(self, market: VenueMarket, new: NewOrder) -> float:
        """Base units of the order; an amount of quote currency buys what it pays for at the present price."""
        if new.quantity is not None:
            if not market.step_size <= new.quantity <= MAXIMUM_QUANTITY or new.quantity % market.step_size != 0:
                raise Refusal(Reason.LOT_SIZE)
            return float(new.quantity)
        if new.quote_quantity is None or new.kind != "market":
            raise Refusal(Reason.BAD_TERMS)
        bid, ask = self.quotes(market.id)
        found = whole(float(new.quote_quantity) / (ask if new.side > 0 else bid), market.lots_per_unit)
        if found <= 0.0:
            raise Refusal(Reason.LOT_SIZE)
        return found

    def _check(self, market: VenueMarket, order: Order, new: NewOrder) -> None:
        """Identity, filters, and what the prices say about the present market."""
        known = self._newest_of.get((market.id, order.client_order_id))
        if order.client_order_id in self._names or (new.unique_for_ever and known is not None):
            raise Refusal(Reason.DUPLICATE)
        for price in (new.price, new.stop_price):
            if price is not None and (price <= 0 or price % market.tick_size != 0):
                raise Refusal(Reason.PRICE_FILTER)
        value = order.price or order.stop_price or market.tape.last_close(self.clock)
        if value is not None and order.quantity * value < market.minimum_notional:
            raise Refusal(Reason.MINIMUM_NOTIONAL)
        if order.kind != "market" and len(self.open_orders(market.id)) >= self.maximum_orders:
            raise Refusal(Reason.TOO_MANY_ORDERS)
        if is_stop(order) and not new.trigger_at_once and self._is_beyond(market, order):
            raise Refusal(Reason.WOULD_TRIGGER)
        if order.post_only and self._crossing(market, order):
            raise Refusal(Reason.WOULD_TAKE)

    def _is_beyond(self, market: VenueMarket, order: Order) -> bool:
        price = market.tape.trading_open(self.clock)
        return price is not None and is_reached(order, price)

    def _crossing(self, market: VenueMarket, order: Order) -> list[Match]:
        """What the order would get at once."""
        levels = self._eaten[market.id].net(order.side, market.tape.levels(self.clock, order.side))
        room = min(rest(order), self._capacity(market, market.tape.volume(self.clock)))
        return take(levels, order.side, room, order.price, market.terms, rests=order.time_in_force == "GTC")

    def _check_funds(self, market: VenueMarket, order: Order) -> None:
        """The account must hold what the order may spend, beyond what other open orders lock."""
        position = self.positions[market.base]
        if order.side < 0:
            free = whole(position - self._locked(market.base), market.lots_per_unit)
            if market.lots(free) < market.lots(order.quantity):
                raise Refusal(Reason.BALANCE)
            return
        cash = self.cash - self._locked(self.quote)
        for quantity, price, rate in self._spends(market, order):
            paid = kernel.fee(quantity, price, rate)
            if kernel.admissible(cash, position, quantity, price, paid, 1.0) != kernel.FILLED:
                raise Refusal(Reason.BALANCE)
            cash = kernel.cash_after(cash, quantity, price, paid)

    def _spends(self, market: VenueMarket, order: Order) -> list[tuple[float, float, float]]:
        """What a buy may have to pay: quantity, price and fee rate in quote currency of each part."""
        taker, maker = market.terms.taker_rate, market.terms.maker_rate
        if market.fee_in == "received":
            taker = maker = 0.0
        if order.kind == "market":
            return [(one.quantity, one.price, taker) for one in self._crossing(market, order)]
        price = order.price
        if price is None:
            assert order.stop_price is not None
            price = kernel.fill_price(order.stop_price, 1.0, market.slippage)
        return [(rest(order), price, max(taker, maker))]

    def _accept(self, market: VenueMarket, order: Order) -> Order:
        """Number the order, let it take what is there, and let the rest rest (or not)."""
        order = replace(order, order_id=len(self.orders) + 1)
        self.orders.append(order)
        self._newest_of[market.id, order.client_order_id] = order.order_id
        self._enter(order)
        self._tell("order", order)
        if is_stop(order):
            if not self._is_beyond(market, order):
                self._tell_balances(market)
                return order
            order = self._changed(replace(order, triggered=True))
        return self._arrive(market, order)

    def _arrive(self, market: VenueMarket, order: Order) -> Order:
        """An order meets the present market: takes, then rests, or expires with what it did not get."""
        found = self._crossing(market, order)
        enough = math.fsum(one.quantity for one in found) >= rest(order) * (1.0 - 1e-12)
        if order.time_in_force == "FOK" and order.price is not None and not enough:
            found = []
        self._eaten[market.id].take(order.side, market.tape.levels(self.clock, order.side), found)
        for one in self._partly(market, order, found):
            order = self._book(market, order, one, self.clock)
        rests = order.price is not None and order.time_in_force == "GTC"
        if order.is_open and not rests:
            order = self._end(order, "EXPIRED")
        self._tell_balances(market)
        return order

    def _partly(self, market: VenueMarket, order: Order, found: list[Match]) -> list[Match]:
        """`found`, cut by a fault that fills only a part."""
        fault = self.faults.first("fill", ("partial_fill",)) if self.faults is not None and found else None
        if fault is None:
            return found
        left, kept = math.fsum(one.quantity for one in found) * fault.share, list[Match]()
        for one in found:
            part = whole(min(one.quantity, left), market.lots_per_unit)
            if part > 0.0:
                kept.append(one._replace(quantity=part))
                left -= part
        return kept

    # Matching and booking

    def _meet(self, market: VenueMarket, seen: Print) -> None:
        """Resting orders meet a print; what a stop released takes at once."""
        orders = self.open_orders(market.id)
        if not orders:
            return
        capacity = math.inf if market.participation is None or seen.bids else market.participation * seen.quantity
        if seen.bar is not None:
            capacity = self._capacity(market, seen.bar.volume)
        position = self.positions[market.base]
        found = match(orders, seen, market.terms, self.cash, position, capacity, self._eaten[market.id])
        time = seen.time if seen.bar is None else seen.time + market.tape.timeframe.milliseconds - 1
        for one in found:
            order = self.orders[one.order_id - 1]
            if order.is_open:
                self._happen(market, order, one, time)
        if found:
            self._tell_balances(market)

    def _happen(self, market: VenueMarket, order: Order, one: Match, time: int) -> None:
        stops, parts = is_stop(order), [] if one.quantity == 0.0 else self._partly(market, order, [one])
        for part in parts:
            order = self._book(market, order, part, time)
        for sibling in self._siblings(order) if stops else ():  # a stop that acts ends the pair, whatever it gets
            self._end(sibling, "EXPIRED", time)
        ends = one.refused or (stops and (order.price is None or order.time_in_force != "GTC"))
        if order.is_open and ends:
            self._end(order, "EXPIRED", time)
        elif order.is_open and stops:
            self._changed(replace(order, triggered=True, updated=time))

    def _capacity(self, market: VenueMarket, volume: float) -> float:
        """Base units that orders may still take out of this bar (or trade)."""
        if market.participation is None:
            return math.inf
        return max(market.participation * volume - self._used.get(market.id, 0.0), 0.0)

    def _book(self, market: VenueMarket, order: Order, one: Match, time: int) -> Order:
        """One fill: cash, position, the order, its OCO sibling, and what is told of it."""
        signed = order.side * one.quantity
        rate = market.terms.maker_rate if one.maker else market.terms.taker_rate
        paid, asset = kernel.fee(signed, one.price, rate), market.quote
        lots = market.lots_per_unit if market.fee_in == "quote" else 0.0  # fees in the asset leave parts of lots
        position = kernel.position_after(self.positions[market.base], signed, lots)
        if market.fee_in == "received" and order.side > 0:
            paid, asset = rate * one.quantity, market.base
            position -= paid
        self.cash = kernel.cash_after(self.cash, signed, one.price, paid if asset == market.quote else 0.0)
        self.positions[market.base] = position
        self._used[market.id] = self._used.get(market.id, 0.0) + one.quantity
        self._trades += 1
        fill = Fill(self._trades, one.quantity, one.price, paid, time, one.maker, asset)
        done = market.lots(order.executed + one.quantity) >= market.lots(order.quantity)
        status: Status = "FILLED" if done else "PARTIALLY_FILLED"
        siblings = self._siblings(order)
        order = replace(order, status=status, fills=(*order.fills, fill), updated=time)
        self._keep(order)
        self._tell("trade", order, fill)
        for sibling in siblings:
            self._end(sibling, "EXPIRED", time)
        return order

    def _siblings(self, order: Order) -> list[Order]:
        if order.group is None:
            return []
        return [o for o in self.open_orders(order.symbol) if o.group == order.group and o.order_id != order.order_id]

    def _end(self, order: Order, status: Status, time: int | None = None) -> Order:
        order = self._changed(replace(order, status=status, updated=self.clock if time is None else time))
        if time is None:
            self._tell_balances(self.markets[order.symbol])
        return order

    def _changed(self, order: Order) -> Order:
        self._keep(order)
        self._tell("order", order)
        return order

    def _enter(self, order: Order) -> None:
        """Note an open order wherever open orders are looked for."""
        self._open.setdefault(order.symbol, {})[order.order_id] = None
        self._names[order.client_order_id] = order.order_id
        self._relock(order)

    def _keep(self, order: Order) -> None:
        self.orders[order.order_id - 1] = order
        if not order.is_open:
            self._names.pop(order.client_order_id, None)
            ids = self._open.get(order.symbol, {})
            ids.pop(order.order_id, None)
            if not ids:
                self._open.pop(order.symbol, None)
        self._relock(order)

    # Locks

    def _locked(self, asset: str) -> float:
        """What open orders may spend of `asset`."""
        return math.fsum(self._locks.get(asset, {}).values())

    def _relock(self, order: Order) -> None:
        """Bring the locks up to date with `order`; an OCO pair locks the larger of its two needs, once."""
        market = self.markets[order.symbol]
        locks = self._locks.setdefault(market.quote if order.side > 0 else market.base, {})
        open_ = [order, *self._siblings(order)] if order.is_open else self._siblings(order)
        key = order.order_id if order.group is None else -order.group
        needs = [self._lock_of(market, one) for one in open_ if one.kind != "market"]
        if needs:
            locks[key] = max(needs)
        else:
            locks.pop(key, None)

    def _lock_of(self, market: VenueMarket, order: Order) -> float:
        if order.side < 0:
            return rest(order)
        return math.fsum(q * price + kernel.fee(q, price, rate) for q, price, rate in self._spends(market, order))

    # Telling

    def _tell(self, kind: Any, order: Order, fill: Fill | None = None) -> None:
        self._publish(kind, order.updated, order.symbol, order=order, fill=fill)

    def _tell_balances(self, market: VenueMarket) -> None:
        balances = {asset: self.balance(asset) for asset in (market.quote, market.base)}
        self._publish("balance", self.clock, "", balances=balances)

    def _publish(self, kind: Any, time: int, symbol: str, **more: Any) -> None:
        self._sequence += 1
        event = Event(self._sequence, kind, time, symbol, **more)
        self._events.append(event)
        for listener in list(self.listeners):
            listener(event)

    def _tell_klines(self, market: VenueMarket, since: int | None = None) -> None:
        """Klines are told to listeners and not kept: the bars that closed since, and the one that forms."""
        tape, clock = market.tape, self.clock
        newest = tape.newest(clock)
        first = newest if since is None else max(tape.newest(since), 0)
        for index in range(first, newest + 1):
            closed = not tape.is_forming(index, clock)
            event = Event(0, "kline", clock, market.id, kline=tape.kline(index, clock), closed=closed)
            if closed or index == newest:
                for listener in list(self.listeners):
                    listener(event)

    def _asks_for_next(self, tape: Source, start: int | None, end: int | None) -> bool:
        index = tape.newest(self.clock)
        if start is None or index < 0:
            return False
        forming = tape.opens[index]
        before = tape.opens[index - 1] if index > 0 else forming - 1
        latest = forming if tape.is_forming(index, self.clock) else forming + tape.timeframe.milliseconds
        return before < start <= latest and (end is None or end >= forming)


def _order(given: Mapping[str, Any]) -> Order:
    return Order(**{**given, "fills": tuple(Fill(**fill) for fill in given["fills"])})


def _checked(holdings: Mapping[str, float], markets: Sequence[VenueMarket]) -> dict[str, float]:
    for asset, amount in holdings.items():
        if asset not in {market.base for market in markets} or not (math.isfinite(amount) and amount >= 0.0):
            raise VenueError(f"holdings of {amount!r} {asset}: name the base asset of a market and an amount from 0 on")
    return {asset: float(amount) for asset, amount in holdings.items()}


def _ticks(tapes: Sequence[Source], pace: str) -> list[int]:
    """Every time at which the clock may stand. Live tapes have one, which moves."""
    if pace == "live":
        return [max(tape.opens[-1] for tape in tapes)]
    if any(isinstance(tape, LiveTape) for tape in tapes):
        raise VenueError("live markets move by what is pushed: give the venue pace 'live'")
    return [*sorted({time for tape in tapes for time in tape.ticks()}), max(tape.end for tape in tapes)]


def _by_id(markets: Sequence[VenueMarket]) -> dict[str, VenueMarket]:
    if not markets:
        raise VenueError("a venue needs at least one market: give it a file of bars")
    found: dict[str, VenueMarket] = {}
    for market in markets:
        if market.id in found:
            raise VenueError(f"market {market.symbol} is given twice")
        if market.quote != markets[0].quote:
            raise VenueError(
                f"{market.symbol} and {markets[0].symbol} trade in different currencies: one venue has one cash balance"
            )
        if market.tape.timeframe != markets[0].tape.timeframe:
            raise VenueError(
                f"{market.symbol} has {market.tape.timeframe} bars and {markets[0].symbol} {markets[0].tape.timeframe} "
                "bars: give all markets of a venue one timeframe, or start one venue for each"
            )
        found[market.id] = market
    return found


def _first_tick(ticks: list[int], start: Any) -> int:
    if start is None:
        return min(1, len(ticks) - 2)
    when = utc_timestamp(start, "start")
    tick = bisect_left(ticks, -(-when.value // 10**6))
    if tick >= len(ticks) - 1:
        last = pd.Timestamp(ticks[-2], unit="ms", tz="UTC")
        raise VenueError(f"start is {when}, after the last bar ({last}): nothing is left to trade")
    return tick
