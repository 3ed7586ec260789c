"""The paper exchange as a state machine: tapes, a clock, one account, its orders. No sockets, no wall clock, no files.

**Clock.** Time is simulated and moves in ticks, the open times of the recorded bars. At a tick, every bar that
opened earlier is closed and served as recorded. The bar that opens at the tick is *forming* and served as at its
first trade: open = high = low = close = the recorded open, volume 0. Nothing else of the future is visible. One
last tick lies at the close of the last bar: there the exchange shows a forming bar without trades (flat at the last
close), so that the last recorded bar, too, is followed by a later one. A client therefore needs one rule on paper
and live alike: *a bar has closed when a later bar is there*.

**Fills.** A market order fills at once, in full, at the open of the forming bar, through `tradelib.backtest.kernel`
(slippage against the client, fee in the quote currency). An order sent after the close of bar *t* thus fills at the
open of *t+1*: the engine's rule. Where nothing trades any more (after the last bar, or between two bars of a market
whose calendar has gaps) a market order expires unfilled, as on any exchange without a counterparty.

**Spot.** No borrowing: a buy needs the cash (`kernel.admissible` with a leverage of 1), a sell the holding. Lots
and the minimum notional are checked as Binance does; the notional is valued at the last closed bar's close, as the
engine does.

**Pace.** What moves the clock:

- `"manual"`, `"real"`: only `step`, called by the operator or by the server's timer.
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

State lives in memory: a venue that is stopped has forgotten the account.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from tradelib.backtest import kernel
from tradelib.data.bars import check_bars
from tradelib.data.timeframes import parse_timeframe, utc_timestamp
from tradelib.errors import VenueError

__all__ = ["PACES", "Fill", "Kline", "Order", "PaperExchange", "Reason", "Refusal", "VenueMarket"]

PACES = ("poll", "manual", "real")
MAXIMUM_QUANTITY = Decimal(10**12)
_SYMBOL = re.compile(r"([A-Z0-9]{1,20})/([A-Z0-9]{1,20})")


class Reason(Enum):
    """Why the exchange refuses a request; a protocol turns it into its own code."""

    UNKNOWN_SYMBOL = "unknown symbol"
    UNKNOWN_ORDER = "unknown order"
    NOT_OPEN = "order is not open"
    DUPLICATE = "client order id belongs to an open order"
    LOT_SIZE = "quantity is not a whole number of lots"
    MINIMUM_NOTIONAL = "quantity times last close is below the minimum notional"
    BALANCE = "not enough balance"


class Refusal(Exception):
    """A request that the exchange refuses; nothing has changed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Row(NamedTuple):
    """One bar as recorded."""

    open: float
    high: float
    low: float
    close: float
    volume: float


class Kline(NamedTuple):
    """One bar as served: times in epoch milliseconds, `close_time` is the last one inside of the bar."""

    open_time: int
    row: Row
    close_time: int


@dataclass(frozen=True)
class Fill:
    """One execution: quantity in the base asset, price and fee in the quote currency, time in epoch milliseconds."""

    trade_id: int
    quantity: float
    price: float
    fee: float
    time: int


@dataclass(frozen=True)
class Order:
    """An accepted market order. `side` is +1 (buy) or -1 (sell); `status` is NEW, FILLED or EXPIRED."""

    order_id: int
    client_order_id: str
    symbol: str
    side: int
    quantity: float
    time: int
    status: str
    fill: Fill | None


class Tape:
    """The recorded bars of one market as plain lists, and what of them is visible at a clock time.

    Index `len(bars)` stands for the bar without trades that follows the last recorded one.
    """

    def __init__(self, bars: pd.DataFrame) -> None:
        self.timeframe = parse_timeframe(bars.attrs["timeframe"])
        times: list[int] = (pd.DatetimeIndex(bars.index).as_unit("ns").asi8 // 10**6).tolist()
        self.bars = len(times)
        self.end = times[-1] + self.timeframe.milliseconds
        self.opens = [*times, self.end]
        self.rows = list(map(Row, *(bars[name].tolist() for name in Row._fields)))

    def newest(self, clock: int) -> int:
        """Index of the newest visible bar, -1 before the first."""
        return bisect_right(self.opens, clock) - 1

    def is_forming(self, index: int, clock: int) -> bool:
        """True for the newest bar while the clock is inside of it (always, for the bar after the last)."""
        return index == self.newest(clock) and (index == self.bars or clock < self._close(index))

    def trading_open(self, clock: int) -> float | None:
        """Open of the recorded bar that is forming; None where nothing trades."""
        index = self.newest(clock)
        return self.rows[index].open if 0 <= index < self.bars and self.is_forming(index, clock) else None

    def last_close(self, clock: int) -> float | None:
        """Close of the newest closed bar; the first open while none has closed; None before the tape begins."""
        index = self.newest(clock)
        if index < 0:
            return None
        closed = index - self.is_forming(index, clock)
        return self.rows[closed].close if closed >= 0 else self.rows[0].open

    def kline(self, index: int, clock: int) -> Kline:
        """Bar `index` as it looks at `clock`."""
        if self.is_forming(index, clock):
            price = self.rows[-1].close if index == self.bars else self.rows[index].open
            row = Row(price, price, price, price, 0.0)
        else:
            row = self.rows[index]
        return Kline(self.opens[index], row, self._close(index) - 1)

    def select(self, clock: int, start: int | None, end: int | None, limit: int) -> range:
        """Indices of the visible bars that open in [start, end]: the first `limit` from `start`, else the last."""
        low = 0 if start is None else bisect_left(self.opens, start)
        high = min(self.newest(clock) + 1, len(self.opens) if end is None else bisect_right(self.opens, end))
        if start is None:
            low = max(low, high - limit)
        return range(low, min(high, low + limit))

    def _close(self, index: int) -> int:
        return self.opens[index] + self.timeframe.milliseconds


@dataclass(frozen=True, eq=False)
class VenueMarket:
    """One market of the venue: bars to replay, and the terms on which it trades.

    symbol: `"BASE/QUOTE"`, such as `"SPX/USDT"`; on the wire it is called `id`, `"SPXUSDT"`. bars: the bars contract.
    fee_rate, slippage: fractions (0.001 = 10 basis points). lots_per_unit: lots in one unit of the base asset, a whole
    number whose reciprocal is a finite decimal (100 -> steps of 0.01). minimum_notional: in quote currency.
    price_decimals: the price tick that the venue announces; fills are not rounded to it.
    Raises `VenueError` for terms that no exchange could announce, `DataError` for bars that break the contract.
    """

    symbol: str
    bars: pd.DataFrame = field(repr=False)
    fee_rate: float = 0.001
    slippage: float = 0.0005
    lots_per_unit: float = 10_000.0
    minimum_notional: float = 10.0
    price_decimals: int = 8

    def __post_init__(self) -> None:
        if not _SYMBOL.fullmatch(self.symbol):
            raise VenueError(f"symbol {self.symbol!r} names no market: write BASE/QUOTE, for example 'SPX/USDT'")
        for name in ("fee_rate", "slippage"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise VenueError(f"{name} is {getattr(self, name)!r}: it is a fraction from 0 to 1 (0.001 = 10 bp)")
        if not (math.isfinite(self.minimum_notional) and self.minimum_notional >= 0.0):
            raise VenueError(f"minimum_notional is {self.minimum_notional!r}: give a finite amount, 0 for none")
        if not 0 <= self.price_decimals <= 18:
            raise VenueError(f"price_decimals is {self.price_decimals!r}: give a whole number from 0 to 18")
        check_bars(self.bars)
        _ = self.step_size, self.tape

    @property
    def base(self) -> str:
        """The asset that is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """The currency of prices, fees and cash."""
        return self.symbol.partition("/")[2]

    @property
    def id(self) -> str:
        """The symbol on the wire: `SPXUSDT` for `SPX/USDT`."""
        return self.base + self.quote

    @cached_property
    def tape(self) -> Tape:
        """The bars, ready to replay."""
        return Tape(self.bars)

    @cached_property
    def step_size(self) -> Decimal:
        """Size of one lot, exactly: 1 / lots_per_unit."""
        lots = int(self.lots_per_unit) if 1.0 <= self.lots_per_unit <= 1e12 else 0
        step = Decimal(1) / lots if lots == self.lots_per_unit and lots else Decimal(0)
        if not step or step * lots != 1:
            raise VenueError(
                f"lots_per_unit is {self.lots_per_unit!r} for {self.symbol}: a venue announces its lot size as a "
                "decimal, so give a whole number such as 1, 100 or 100000 (lots of 1, 0.01, 0.00001)"
            )
        return step

    def lots(self, quantity: float) -> int:
        """Whole lots nearest to `quantity`."""
        return round(quantity * self.lots_per_unit)


class PaperExchange:
    """Markets that replay recorded bars, and one account with cash and holdings. See the module for its rules.

    cash: starting balance in the quote currency, which all markets share. start: open time of the first bar to be
    traded; it is the forming bar of the first tick, everything before it is history. None: the second bar.
    Raises `VenueError` for settings that cannot be served.
    """

    def __init__(
        self, markets: Sequence[VenueMarket], *, cash: float = 100_000.0, start: Any = None, pace: str = "poll"
    ) -> None:
        if pace not in PACES:
            raise VenueError(f"pace {pace!r} is unknown: use one of {', '.join(PACES)}")
        if not (math.isfinite(cash) and cash >= 0.0):
            raise VenueError(f"cash is {cash!r}: give a finite amount that is not negative")
        self.pace = pace
        self.markets = _by_id(markets)
        self.quote = markets[0].quote
        self.cash = float(cash)
        self.positions = {market.base: 0.0 for market in markets}
        self.orders: list[Order] = []
        self.open_orders: dict[str, Order] = {}  # by client order id; empty while market orders are all there is
        tapes = [market.tape for market in markets]
        opens = sorted({time for tape in tapes for time in tape.opens[: tape.bars]})
        self._ticks = [*opens, max(tape.end for tape in tapes)]
        self._tick = _first_tick(self._ticks, start)
        self._shown: set[str] = set()
        self._newest_of: dict[tuple[str, str | None], Order] = {}
        self._trades = 0

    @property
    def clock(self) -> int:
        """Simulated time of the exchange, epoch milliseconds."""
        return self._ticks[self._tick]

    @property
    def finished(self) -> bool:
        """True once the last recorded bar has closed: nothing trades any more."""
        return self._tick == len(self._ticks) - 1

    @property
    def remaining(self) -> int:
        """Ticks that are left before the exchange is finished."""
        return len(self._ticks) - 1 - self._tick

    def step(self, ticks: int = 1) -> int:
        """Move the clock by up to `ticks`; returns how many were left to move."""
        moved = min(ticks, self.remaining)
        if moved > 0:
            self._tick += moved
            self._shown.clear()
        return max(moved, 0)

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
        return [tape.kline(index, self.clock) for index in rows]

    def last_price(self, symbol: str) -> float:
        """The newest price that a client can see; 0.0 before the market's first bar."""
        tape = self.market(symbol).tape
        price = tape.trading_open(self.clock)
        return price if price is not None else tape.last_close(self.clock) or 0.0

    def quotes(self, symbol: str) -> tuple[float, float]:
        """Bid and ask: the prices at which a market sell and a market buy would fill now."""
        price, slippage = self.last_price(symbol), self.market(symbol).slippage
        return kernel.fill_price(price, -1.0, slippage), kernel.fill_price(price, 1.0, slippage)

    def equity(self) -> float:
        """Account value with every holding at its market's last close."""
        value = self.cash
        for market in self.markets.values():
            value = kernel.equity(value, self.positions[market.base], market.tape.last_close(self.clock) or 0.0)
        return value

    def place_market_order(
        self, symbol: str, side: int, quantity: Decimal, client_order_id: str | None = None
    ) -> Order:
        """Buy (`side` +1) or sell (-1) `quantity` of the base asset; returns it FILLED or EXPIRED, or raises `Refusal`.

        `client_order_id` must be unique among open orders only, as on Binance: the id of an order that is done may be
        used again. Without one the exchange makes one.
        """
        market = self.market(symbol)
        if client_order_id in self.open_orders:
            raise Refusal(Reason.DUPLICATE)
        self._check_filters(market, quantity)
        amount = float(quantity)
        fill = self._fill(market, side * amount)
        number = len(self.orders) + 1
        status = "EXPIRED" if fill is None else "FILLED"
        name = client_order_id or f"venue-{number}"
        order = Order(number, name, symbol, side, amount, self.clock, status, fill)
        self.orders.append(order)
        self._newest_of[symbol, name] = order
        return order

    def find_order(self, symbol: str, order_id: int | None = None, client_order_id: str | None = None) -> Order:
        """The order with this id, or the newest with this client order id; `Refusal` when there is none."""
        wanted = self.market(symbol).id
        if order_id is None:
            found = self._newest_of.get((wanted, client_order_id))
        else:
            found = self.orders[order_id - 1] if 1 <= order_id <= len(self.orders) else None
        if found is None or found.symbol != wanted or client_order_id not in (None, found.client_order_id):
            raise Refusal(Reason.UNKNOWN_ORDER)
        return found

    def cancel_order(self, symbol: str, order_id: int | None = None, client_order_id: str | None = None) -> Order:
        """Cancel an open order. Market orders are done when they are accepted, so this always raises `Refusal`."""
        self.find_order(symbol, order_id, client_order_id)
        raise Refusal(Reason.NOT_OPEN)

    def orders_of(self, symbol: str | None = None) -> Iterator[Order]:
        """Orders in the sequence they were accepted, of one market or of all."""
        wanted = None if symbol is None else self.market(symbol).id
        return (order for order in self.orders if wanted is None or order.symbol == wanted)

    def _asks_for_next(self, tape: Tape, start: int | None, end: int | None) -> bool:
        index = tape.newest(self.clock)
        if start is None or index < 0:
            return False
        forming = tape.opens[index]
        before = tape.opens[index - 1] if index > 0 else forming - 1
        latest = forming if tape.is_forming(index, self.clock) else forming + tape.timeframe.milliseconds
        return before < start <= latest and (end is None or end >= forming)

    def _check_filters(self, market: VenueMarket, quantity: Decimal) -> None:
        if not market.step_size <= quantity <= MAXIMUM_QUANTITY or quantity % market.step_size != 0:
            raise Refusal(Reason.LOT_SIZE)
        close = market.tape.last_close(self.clock)
        if close is not None and float(quantity) * close < market.minimum_notional:
            raise Refusal(Reason.MINIMUM_NOTIONAL)

    def _fill(self, market: VenueMarket, quantity: float) -> Fill | None:
        """Execute signed `quantity` at the forming bar's open, or None where nothing trades."""
        open_price = market.tape.trading_open(self.clock)
        if open_price is None:
            return None
        position = self.positions[market.base]
        price = kernel.fill_price(open_price, math.copysign(1.0, quantity), market.slippage)
        paid = kernel.fee(quantity, price, market.fee_rate)
        lots = market.lots(position) + market.lots(quantity)
        if lots < 0 or kernel.admissible(self.cash, position, quantity, price, paid, 1.0) != kernel.FILLED:
            raise Refusal(Reason.BALANCE)
        self.cash = kernel.cash_after(self.cash, quantity, price, paid)
        self.positions[market.base] = kernel.position_after(position, quantity, market.lots_per_unit)
        self._trades += 1
        return Fill(self._trades, abs(quantity), price, paid, self.clock)


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
