"""Where a market's prices come from: recorded bars, recorded trades, order-book events, or live public data.

A source answers two questions. *What is visible at a clock time?* Closed bars as recorded, and the bar that is forming
as far as it has formed. *What happens between two clock times?* A list of `Print`s, which resting orders are matched
against (`tradelib.venue.matching`). Sources know nothing of accounts and orders.

`Tape` (bars) moves from bar to bar: the forming bar is served as at its first trade. `TradeTape` and `BookTape` move
from bar to bar, too, or, with `fine=True`, from event to event: then the forming bar grows as its trades come in.
`LiveTape` grows at its end, by `push`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tradelib.data.timeframes import Timeframe, parse_timeframe
from tradelib.errors import VenueError
from tradelib.venue.orders import Kline, Row

__all__ = ["BookTape", "Level", "LiveTape", "Print", "Source", "Tape", "TradeTape", "read_events"]

UNLIMITED = math.inf
FOREVER = 2**62


class Level(NamedTuple):
    """What a market order can have: up to `quantity` at `price`. slips: the price is made worse by the slippage."""

    price: float
    quantity: float
    slips: bool


class Print(NamedTuple):
    """What resting orders meet: a whole `bar`, a trade (`price`, `quantity`), or a moved book (`bid`, `ask` levels)."""

    time: int
    bar: Row | None = None
    price: float = math.nan
    quantity: float = 0.0
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()


class Source(ABC):
    """Bars `opens[i]`, `rows[i]` of one timeframe; index `bars` stands for the bar without trades after the last
    one."""

    timeframe: Timeframe
    opens: list[int]
    rows: list[Row]
    bars: int
    end: int

    def ticks(self) -> Iterable[int]:
        """Times at which the clock may stand; the end is not among them."""
        return self.opens[: self.bars]

    @abstractmethod
    def prints(self, since: int, until: int) -> Iterable[Print]:
        """What happens in [since, until), oldest first."""

    def levels(self, clock: int, side: int) -> list[Level]:
        """What a market order of `side` meets at `clock`, best first; empty where nothing trades."""
        price = self.trading_open(clock)
        return [] if price is None else [Level(price, UNLIMITED, True)]

    def volume(self, clock: int) -> float:
        """Volume of the bar that forms at `clock`, as it will be once it has closed."""
        index = self.newest(clock)
        return self.rows[index].volume if 0 <= index < self.bars else 0.0

    def newest(self, clock: int) -> int:
        """Index of the newest visible bar, -1 before the first."""
        return bisect_right(self.opens, clock) - 1

    def is_forming(self, index: int, clock: int) -> bool:
        """True for the newest bar while the clock is inside of it (always, for the bar after the last)."""
        return index == self.newest(clock) and (index == self.bars or clock < self._close(index))

    def trading_open(self, clock: int) -> float | None:
        """Price at which the market trades now: of the bar that is forming; None where nothing trades."""
        index = self.newest(clock)
        return self.forming(index, clock).close if 0 <= index < self.bars and self.is_forming(index, clock) else None

    def last_close(self, clock: int) -> float | None:
        """Close of the newest closed bar; the first open while none has closed; None before the tape begins."""
        index = self.newest(clock)
        if index < 0:
            return None
        closed = index - self.is_forming(index, clock)
        return self.rows[closed].close if closed >= 0 else self.rows[0].open

    def forming(self, index: int, clock: int) -> Row:
        """The bar that is forming, as at its first trade."""
        price = self.rows[-1].close if index == self.bars else self.rows[index].open
        return Row(price, price, price, price, 0.0)

    def kline(self, index: int, clock: int) -> Kline:
        """Bar `index` as it looks at `clock`."""
        row = self.forming(index, clock) if self.is_forming(index, clock) else self.rows[index]
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


class Tape(Source):
    """Recorded bars, which resting orders walk through one by one."""

    def __init__(self, bars: pd.DataFrame) -> None:
        self.timeframe = parse_timeframe(bars.attrs["timeframe"])
        times: list[int] = (pd.DatetimeIndex(bars.index).as_unit("ns").asi8 // 10**6).tolist()
        self.bars = len(times)
        self.end = times[-1] + self.timeframe.milliseconds
        self.opens = [*times, self.end]
        self.rows = list(map(Row, *(bars[name].tolist() for name in Row._fields)))

    def prints(self, since: int, until: int) -> Iterable[Print]:
        """The bars that open in [since, until)."""
        first, last = bisect_left(self.opens, since), bisect_left(self.opens, until)
        return [Print(self.opens[i], self.rows[i]) for i in range(first, min(last, self.bars))]


class Trades(Source):
    """What trades and books share: events in time, bars made of their prices, and a clock that may stop at each."""

    def __init__(
        self, times: Sequence[int], prices: Sequence[float], volumes: Sequence[float], timeframe: str, *, fine: bool
    ) -> None:
        self.timeframe = parse_timeframe(timeframe)
        self.fine = fine
        _check_times(times)
        self._times, self._prices, self._volumes = list(times), list(prices), list(volumes)
        step = self.timeframe.milliseconds
        self.opens, self.rows, self._first = [], [], list[int]()
        for n, time in enumerate(self._times):
            opened = time - time % step
            if not self.opens or self.opens[-1] != opened:
                self.opens.append(opened)
                self._first.append(n)
        self.bars, self._first = len(self.opens), [*self._first, len(self._times)]
        self.rows = [self._row(self._first[i], self._first[i + 1]) for i in range(self.bars)]
        self.end = self.opens[-1] + step
        self.opens.append(self.end)

    def ticks(self) -> Iterable[int]:
        """Open times of the bars, and with `fine` the time of every event."""
        return sorted({*self.opens[: self.bars], *self._times}) if self.fine else self.opens[: self.bars]

    def forming(self, index: int, clock: int) -> Row:
        """The forming bar of the events up to `clock` where the clock stops at events, else as at its first trade."""
        if index == self.bars or not self.fine:
            return super().forming(index, clock)
        seen = max(bisect_right(self._times, clock), self._first[index] + 1)
        return self._row(self._first[index], seen)

    def _row(self, first: int, last: int) -> Row:
        prices = self._prices[first:last]
        return Row(prices[0], max(prices), min(prices), prices[-1], math.fsum(self._volumes[first:last]))

    def _between(self, since: int, until: int) -> range:
        return range(bisect_left(self._times, since), bisect_left(self._times, until))


class TradeTape(Trades):
    """Recorded trades: columns `time` (epoch milliseconds, or an index of UTC times), `price`, `quantity`.

    A resting order gets what the trades at its price or beyond leave it, so large orders fill in parts. fine: the clock
    stops at every trade.
    """

    def __init__(self, trades: pd.DataFrame, timeframe: str, *, fine: bool = False) -> None:
        quantities: list[float] = trades["quantity"].tolist()
        super().__init__(_milliseconds(trades), trades["price"].tolist(), quantities, timeframe, fine=fine)

    def prints(self, since: int, until: int) -> Iterable[Print]:
        """The trades in [since, until)."""
        return [Print(self._times[n], None, self._prices[n], self._volumes[n]) for n in self._between(since, until)]


class BookTape(Trades):
    """Order-book events: columns `time`, `side` ("bid" or "ask"), `price`, `quantity` (what now stands at that price).

    The events of the first time are the opening book. Bars are made of the mid price; their volume is 0, because a book
    does not trade. A market order takes the levels from the best one on, without slippage: its price is in the book.
    """

    def __init__(self, events: pd.DataFrame, timeframe: str, *, fine: bool = False) -> None:
        times, self._sides = _milliseconds(events), events["side"].tolist()
        self._changes = list(zip(times, self._sides, events["price"], events["quantity"], strict=True))
        self._books: list[tuple[tuple[Level, ...], tuple[Level, ...]]] = []
        moments, mids = list[int](), list[float]()
        bids, asks = dict[float, float](), dict[float, float]()
        for n, (time, side, price, quantity) in enumerate(self._changes):
            book = bids if side == "bid" else asks
            book[float(price)] = float(quantity)
            if quantity == 0.0:
                book.pop(float(price))
            if (n + 1 == len(times) or times[n + 1] != time) and bids and asks:
                moments.append(time)
                self._books.append((_ladder(bids, reverse=True), _ladder(asks, reverse=False)))
                mids.append((self._books[-1][0][0].price + self._books[-1][1][0].price) / 2.0)
        if not moments:
            raise VenueError("the order-book events never show both a bid and an ask: begin with a snapshot")
        super().__init__(moments, mids, [0.0] * len(mids), timeframe, fine=fine)

    def prints(self, since: int, until: int) -> Iterable[Print]:
        """The books in [since, until)."""
        return [Print(self._times[n], None, self._prices[n], 0.0, *self._books[n]) for n in self._between(since, until)]

    def levels(self, clock: int, side: int) -> list[Level]:
        """The other side of the book at `clock`."""
        n = bisect_right(self._times, clock) - 1
        if self.trading_open(clock) is None or n < 0:
            return []
        return list(self._books[n][1 if side > 0 else 0])


class LiveTape(Tape):
    """Live public data passed through: bars of a real market, pushed as they come in.

    It begins with closed bars, `push` appends what the market shows (its newest row is the bar that is forming). The
    clock of an exchange on live tapes follows them: `PaperExchange(pace="live")`.
    """

    def __init__(self, bars: pd.DataFrame) -> None:
        super().__init__(bars)
        self.opens.pop()
        self._last, self.end = self.end, FOREVER
        self._forming: Row | None = None

    def push(self, rows: Iterable[tuple[int, Row]]) -> list[Print]:
        """Take rows as a market's klines show them, oldest first; what resting orders meet because of them.

        A row that opens later than all others closes the bar before it. What has closed never changes: `VenueError` for
        a row that contradicts it. Of a row that has grown, orders meet the way from its last price to the new one, and
        an extreme only where it is a new one.
        """
        return [self._take(opened, row) for opened, row in rows if not self._is_known(opened, row)]

    def forming(self, index: int, clock: int) -> Row:
        """The newest row that was pushed; before the first, flat at the last close."""
        return self._forming or super().forming(self.bars, clock)

    def volume(self, clock: int) -> float:
        """Volume of the forming bar so far."""
        return self._forming.volume if self._forming else 0.0

    def trading_open(self, clock: int) -> float | None:
        """The newest price; a live market always trades."""
        return self.forming(self.bars, clock).close

    def is_forming(self, index: int, clock: int) -> bool:
        """True for the row after the closed ones."""
        return index == self.bars

    def prints(self, since: int, until: int) -> Iterable[Print]:
        """Nothing: rows are matched as they are pushed."""
        return []

    def _is_known(self, opened: int, row: Row) -> bool:
        """True for a bar that has closed already."""
        if len(self.opens) > self.bars and opened == self.opens[-1]:
            return row == self._forming
        at = bisect_left(self.opens, opened)
        if opened >= self._last:
            return False
        if at < len(self.opens) and self.opens[at] == opened and self.rows[at] != row:
            raise VenueError(f"the live market changed the bar at {opened} that had closed: {self.rows[at]} to {row}")
        return True

    def _take(self, opened: int, row: Row) -> Print:
        before, self._forming = self._forming, row
        if before is not None and opened == self.opens[-1]:
            high = max(row.high if row.high > before.high else row.close, before.close, row.close)
            low = min(row.low if row.low < before.low else row.close, before.close, row.close)
            return Print(opened, Row(before.close, high, low, row.close, row.volume - before.volume))
        if before is not None:
            self.rows.append(before)
            self.bars += 1
        self.opens.append(opened)
        self._last = opened + 1
        return Print(opened, row)


def read_events(path: str | Path, timeframe: str, *, fine: bool = False) -> TradeTape | BookTape:
    """Recorded trades or order-book events from a CSV file; the columns say which. `VenueError` when they say
    neither."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise VenueError(f"{path} cannot be read as a recording: {error}") from error
    columns = set(frame.columns)
    if {"time", "side", "price", "quantity"} <= columns:
        return BookTape(frame, timeframe, fine=fine)
    if {"time", "price", "quantity"} <= columns:
        return TradeTape(frame, timeframe, fine=fine)
    raise VenueError(
        f"{path} has the columns {', '.join(sorted(columns))}: trades have time, price and quantity, order-book events "
        "side, too"
    )


def _ladder(book: dict[float, float], *, reverse: bool) -> tuple[Level, ...]:
    return tuple(Level(price, book[price], False) for price in sorted(book, reverse=reverse))


def _milliseconds(frame: pd.DataFrame) -> list[int]:
    if "time" in frame.columns:
        return [int(time) for time in frame["time"]]
    found: list[int] = (pd.DatetimeIndex(frame.index).as_unit("ns").asi8 // 10**6).tolist()
    return found


def _check_times(times: Sequence[int]) -> None:
    if not times:
        raise VenueError("the recording is empty: give at least one event")
    for n in range(1, len(times)):
        if times[n] < times[n - 1]:
            raise VenueError(
                f"event {n} of the recording at {times[n]} is earlier than the one before: sort it by time"
            )
