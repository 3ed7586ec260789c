"""The market as a trader sees it between two closes: its clock, the bar that forms, and the best prices.

A paper venue's clock is known at the open of each bar only. From there real time is counted; but where the venue is
polled, its market stands still until it is asked for the next bar, so schedules tell the time themselves (`told`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal

from tradelib.bundle.trading.bar import Bar
from tradelib.live.bars import BarFeed
from tradelib.live.execution.children import MarketView
from tradelib.live.feeds import Streams
from tradelib.live.held import met_since
from tradelib.live.patience import Failure, attempt
from tradelib.live.wired import Wire

__all__ = ["LOOK_SECONDS", "Sight", "exact", "look_pause", "looks"]

LOOK_SECONDS = 2.0
"""Seconds after which the price is asked for that orders of the runner's own wait for, at most."""
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
        self._watched = self._feed.forming
        if self._streams is not None:
            self._shown, _ = self._streams.prices(self._feed.symbol, self._feed.timeframe, 0)

    async def glance(self) -> list[float]:
        """Every price since the last look, oldest first: streamed, or asked for; a venue that is polled stands still.

        Between two questions, and between two updates of a stream, a bar tells its extremes.
        """
        feed, prices = self._feed, self._streamed()
        if not (prices or self._polled):
            await feed.glance()
        before, self._watched = self._watched, feed.forming
        if feed.forming is None:
            return []
        return _with_missed(_since(before, feed.last, feed.forming), prices)

    def passed(self, closed: Sequence[Bar]) -> list[float]:
        """Prices that these bars turned out to have met since the last look, now that they have closed.

        On a venue of recorded bars that is polled, where a bar forms unseen, this is all that tells of its inside.
        """
        before, self._watched = self._watched, closed[-1]
        return _with_missed([] if before is None else met_since(before, closed), self._streamed())

    async def brace(self) -> list[float]:
        """A last look before orders leave, for those that are held already; nothing where nobody answers."""
        seen = [] if self._polled else await attempt(self.glance())
        return [] if isinstance(seen, Failure) else seen

    def _streamed(self) -> list[float]:
        """What was streamed since the last look, at least the newest price; nothing where no stream speaks."""
        feed, streams = self._feed, self._streams
        newest = None if streams is None else streams.forming(feed.symbol, feed.timeframe)
        if newest is None or streams is None:
            return []
        feed.see(newest)
        self._shown, prices = streams.prices(feed.symbol, feed.timeframe, self._shown)
        return prices or [newest.close]

    async def moved(self) -> None:
        """Until a stream shows another price; for ever where there is none."""
        if self._streams is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._streams.wait_price(self._feed.symbol, self._feed.timeframe, self._shown)


def look_pause(seconds: float) -> float:
    """Seconds between two questions for the price, where `seconds` are wished for."""
    return min(LOOK_SECONDS, max(seconds, 0.05))


def looks(feed: str, mode: str, seconds: float) -> str:
    """How often a runner looks at the price for the orders that it holds itself, in words."""
    if feed == "stream":
        return "as it is streamed"
    if mode == "live":
        return f"every {look_pause(seconds):g} s"
    return "when it asks the paper venue for bars, and knows the inside of a recorded bar only when that has closed"


def _since(before: Bar | None, closed: Bar, forming: Bar) -> list[float]:
    """Prices that were met since `before` was the forming bar: new extremes of what became of it, and of the next."""
    if before is None or before.milliseconds > forming.milliseconds:
        return [forming.close]
    return [*met_since(before, [closed, forming]), forming.close]


def _with_missed(found: list[float], streamed: list[float]) -> list[float]:
    """What was streamed, after those of the prices found in bars that the stream left out."""
    if not streamed:
        return found
    return [*(price for price in found if not min(streamed) <= price <= max(streamed)), *streamed]


def exact(value: float) -> Decimal:
    """The decimal that a float is written as."""
    return Decimal(repr(float(value)))


def _exact(value: float | None) -> Decimal | None:
    return None if value is None else exact(value)
