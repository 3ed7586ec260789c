"""What the runner holds for a venue that cannot: its stops and targets see every price that streams or polls give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.live.support import HASTE
from tradelib.bundle.trading.bar import Bar
from tradelib.live import trader as trader_module
from tradelib.live.feeds import Streams
from tradelib.live.patience import Insistence, Unanswered
from tradelib.live.sight import Sight
from tradelib.live.trader import Trader

DAY = 86_400_000
MARKET = ("BTC/USDT", "1d")


def bar(day: int, close: float, low: float | None = None, high: float | None = None) -> Bar:
    """A bar of day `day` that opened at 100."""
    return Bar(day * DAY, 100.0, max(high or 0.0, close, 100.0), min(low or 1e9, close, 100.0), close, 1.0)


class Feed:
    """A feed whose forming bar a test says; day 1 has closed."""

    def __init__(self) -> None:
        self.symbol, self.timeframe = MARKET
        self.last, self.kept = bar(1, 100.0), SimpleNamespace(step=DAY)
        self.forming: Bar | None = None
        self.price: float | None = 100.0
        self.next: list[Bar] = []
        self.asked = 0

    async def glance(self) -> None:
        self.asked += 1
        self.see(self.next.pop(0) if len(self.next) > 1 else self.next[0])

    def see(self, forming: Bar) -> None:
        self.forming, self.price = forming, forming.close


def streams_of() -> Streams:
    """Streams that a test feeds by hand."""

    async def never(*_: object) -> Any:
        await asyncio.get_running_loop().create_future()

    client = SimpleNamespace(watch_ohlcv=never, close=lambda: asyncio.sleep(0))
    return Streams(client, Insistence(HASTE, lambda: asyncio.sleep(0)), limit=60.0)


def show(streams: Streams, *bars: Bar) -> None:
    for one in bars:
        streams._take(*MARKET, [list(one)])


def sight_of(feed: Feed, streams: Streams | None, *, polled: bool = False) -> Sight:
    return Sight(SimpleNamespace(mode="live"), feed, streams, polled=polled)  # type: ignore[arg-type]


def test_every_streamed_price_is_seen_once_and_in_its_order() -> None:
    async def main() -> None:
        streams, feed = streams_of(), Feed()
        streams.start([MARKET])
        sight = sight_of(feed, streams)
        show(streams, bar(2, 99.0))
        sight.begin()
        show(streams, bar(2, 96.0), bar(2, 93.0), bar(2, 98.0))
        assert await sight.glance() == [96.0, 93.0, 98.0]
        assert await sight.glance() == [98.0], "nothing new: the newest price stands"
        show(streams, bar(2, 97.0))
        await asyncio.wait_for(sight.moved(), 1.0)
        assert (await sight.glance(), feed.asked) == ([97.0], 0)
        await streams.stop()

    asyncio.run(main())


def test_between_two_polls_the_bar_tells_its_extremes() -> None:
    """The low of 91 came and went between two questions; the bar after it opened and rose to 107."""

    async def main() -> None:
        feed = Feed()
        sight = sight_of(feed, None)
        feed.next = [bar(2, 98.0, low=95.0), bar(2, 99.0, low=91.0), bar(2, 99.5, low=91.0)]
        assert await sight.glance() == [98.0], "the low of 95 may be older than the order"
        assert await sight.glance() == [91.0, 99.0]
        assert await sight.glance() == [99.5]
        feed.last, feed.next = bar(2, 101.0, low=91.0, high=103.0), [bar(3, 106.0, low=99.0, high=107.0)]
        assert await sight.glance() == [103.0, 99.0, 107.0, 106.0]
        sight.begin()
        assert await sight.glance() == [106.0]

    asyncio.run(main())


def test_what_a_bar_met_after_the_last_look_is_told_when_it_has_closed() -> None:
    """Recorded bars form unseen; of a stream it is what its updates left out; what was seen is not told again."""

    async def main() -> None:
        feed = Feed()
        sight = sight_of(feed, None, polled=True)
        feed.see(bar(2, 100.0))
        sight.begin()
        assert sight.passed([bar(2, 98.0, low=91.0, high=103.0)]) == [91.0, 103.0]
        feed.last = bar(2, 98.0, low=91.0, high=103.0)
        feed.see(Bar(3 * DAY, 97.0, 97.0, 97.0, 97.0, 0.0))
        assert await sight.glance() == [97.0, 97.0, 97.0]
        streams, feed = streams_of(), Feed()
        streams.start([MARKET])
        sight = sight_of(feed, streams)
        show(streams, bar(2, 99.0))
        await sight.glance()
        show(streams, bar(2, 96.0), bar(2, 98.0))
        assert sight.passed([bar(2, 98.0, low=93.0)]) == [93.0, 96.0, 98.0]
        await streams.stop()

    asyncio.run(main())


def test_before_orders_leave_the_market_is_looked_at_and_one_that_does_not_answer_holds_nothing_up() -> None:
    async def main() -> None:
        feed = Feed()
        sight = sight_of(feed, None)
        feed.next = [bar(2, 98.0), bar(2, 97.0, low=92.0)]
        await sight.glance()
        assert await sight.brace() == [92.0, 97.0]
        sight.begin()
        assert await sight.glance() == [97.0], "what orders are placed in is not for them"

        async def silent() -> None:
            raise Unanswered("nobody")

        feed.glance = silent  # type: ignore[method-assign]
        assert await sight.brace() == []
        assert await sight_of(feed, None, polled=True).brace() == []

    asyncio.run(main())


def idling(feed: Feed, streams: Streams | None, wait: Callable[[], Any]) -> tuple[Trader, list[float]]:
    """A trader that holds one order and waits for a bar of a day; the prices that the order is shown."""
    trader, shown = object.__new__(Trader), []

    async def tick(_: str, bid: float, ask: float, *, gone: bool) -> None:
        assert bid == ask
        shown.append(bid)

    async def nothing(*_: object) -> None:
        return None

    trader.symbol, trader._idle, trader.ended, trader.look_seconds = MARKET[0], 1, "", 0.05
    trader.wire = SimpleNamespace(mode="live")  # type: ignore[assignment]
    trader.feed, trader.streams = feed, streams  # type: ignore[assignment]
    trader.sight = sight_of(feed, streams)
    trader.worked, trader._told = [], []  # type: ignore[assignment]
    trader._turn, trader._heard = asyncio.Lock(), asyncio.Event()
    trader.desk = SimpleNamespace(working=lambda _=None: [SimpleNamespace(held=True)], tick=tick)  # type: ignore[assignment]
    trader._look = trader._settle_news = nothing  # type: ignore[method-assign]
    trader.pace = SimpleNamespace(wait=lambda *_: wait())
    return trader, shown


def test_a_held_stop_is_shown_what_is_polled_while_a_long_bar_forms() -> None:
    async def main() -> None:
        feed, done = Feed(), asyncio.Event()
        feed.next = [bar(2, price) for price in (95.0, 90.0, 85.0)]
        trader, shown = idling(feed, None, done.wait)
        idle = asyncio.create_task(trader.idle(asyncio.Event()))
        while 85.0 not in shown:
            await asyncio.sleep(0.01)
        done.set()
        await idle
        assert list(dict.fromkeys(shown)) == [95.0, 90.0, 85.0]

    asyncio.run(asyncio.wait_for(main(), trader_module._LOOK))


def test_a_held_stop_is_shown_a_streamed_price_when_it_comes() -> None:
    async def main() -> None:
        feed, done, streams = Feed(), asyncio.Event(), streams_of()
        streams.start([MARKET])
        trader, shown = idling(feed, streams, done.wait)
        trader.look_seconds = 60.0
        show(streams, bar(2, 100.0))
        trader.sight.begin()
        idle = asyncio.create_task(trader.idle(asyncio.Event()))
        for price in (95.0, 90.0):
            await asyncio.sleep(0)
            show(streams, bar(2, price))
            while price not in shown:
                await asyncio.sleep(0.01)
        done.set()
        await idle
        assert (shown, feed.asked) == ([95.0, 90.0], 0)
        await streams.stop()

    asyncio.run(asyncio.wait_for(main(), trader_module._LOOK))
