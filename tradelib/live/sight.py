"""The market as a trader sees it between two closes: its clock, the bar that forms, and the best prices.

A paper venue's clock is known at the open of each bar only. From there real time is counted; but where the venue is
polled, its market stands still until it is asked for the next bar, so schedules tell the time themselves (`told`).
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

from tradelib.bundle.trading.bar import Bar
from tradelib.live.bars import BarFeed
from tradelib.live.execution.children import MarketView
from tradelib.live.feeds import Streams
from tradelib.live.patience import Failure, attempt
from tradelib.live.wired import Wire

__all__ = ["Sight", "exact"]

_DEPTH = 5
"""Levels of the order book that are asked for; the best ones are looked at."""


class Sight:
    """What is seen of one market through `feed`, and through `streams` where there are any."""

    def __init__(self, wire: Wire, feed: BarFeed, streams: Streams | None, *, polled: bool) -> None:
        self.told = 0
        """The time (epoch ms) that a schedule told, on a venue that is polled."""
        self._wire, self._feed, self._streams, self._polled = wire, feed, streams, polled
        self._forming = (-1, 0.0)
        self._watched: Bar | None = None
        self._shown = 0

    @property
    def opened(self) -> int:
        """Open time (epoch ms) of the bar that forms."""
        return self._feed.last.milliseconds + self._feed.kept.step

    def now(self) -> int:
        """Epoch milliseconds, as the market has them."""
        if self._wire.mode == "live":
            return round(time.time() * 1e3)
        seen = time.monotonic()
        if self._forming[0] != self.opened:
            self._forming = self.opened, seen
        return max(self.opened, self.told) if self._polled else self.opened + round((seen - self._forming[1]) * 1e3)

    def known(self, bid: float | None = None, ask: float | None = None) -> MarketView:
        """The market as it is known without asking; what it `traded` is counted from the open of the bar."""
        feed = self._feed
        forming = feed.forming if feed.forming is not None and feed.forming.milliseconds >= self.opened else None
        volume = 0.0 if forming is None else forming.volume
        last = feed.last.close if feed.price is None else feed.price
        return MarketView(self.now(), exact(last), _exact(bid), _exact(ask), exact(volume))

    async def view(self) -> MarketView:
        """The market with its best prices; a book that nobody tells is none."""
        book = await attempt(self._wire.client.fetch_order_book(self._feed.symbol, _DEPTH))
        if isinstance(book, Failure) or not isinstance(book, dict):
            return self.known()
        bids, asks = book.get("bids"), book.get("asks")
        return self.known(bids[0][0] if bids else None, asks[0][0] if asks else None)

    def begin(self) -> None:
        """What was seen so far is over: prices from before an order was placed are not for it."""
        self._watched = None
        if self._streams is not None:
            self._shown, _ = self._streams.prices(self._feed.symbol, self._feed.timeframe, 0)

    async def glance(self) -> list[float]:
        """Every price since the last look, oldest first: streamed, or asked for; a venue that is polled stands still.

        Between two questions a bar tells its extremes: the low is taken first, as it ends what was bought.
        """
        feed = self._feed
        if self._polled:
            return [] if feed.price is None else [feed.price]
        streamed = None if self._streams is None else self._streams.forming(feed.symbol, feed.timeframe)
        if streamed is not None and self._streams is not None:
            feed.see(streamed)
            self._shown, prices = self._streams.prices(feed.symbol, feed.timeframe, self._shown)
            return prices or [streamed.close]
        before = self._watched
        await feed.glance()
        self._watched = feed.forming
        return [] if feed.forming is None else _since(before, feed.last, feed.forming)

    async def moved(self) -> None:
        """Until a stream shows another price; for ever where there is none."""
        if self._streams is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._streams.wait_price(self._feed.symbol, self._feed.timeframe, self._shown)


def _since(before: Bar | None, closed: Bar, forming: Bar) -> list[float]:
    """Prices that were met since `before` was the forming bar: new extremes of what became of it, and of the next."""
    if before is None or before.milliseconds > forming.milliseconds:
        return [forming.close]
    found: list[float] = []
    for bar in (closed, forming):
        if bar.milliseconds < before.milliseconds:
            continue
        later = bar.milliseconds > before.milliseconds
        found += [bar.low] if later or bar.low < before.low else []
        found += [bar.high] if later or bar.high > before.high else []
    return [*found, forming.close]


def exact(value: float) -> Decimal:
    """The decimal that a float is written as."""
    return Decimal(repr(float(value)))


def _exact(value: float | None) -> Decimal | None:
    return None if value is None else exact(value)
