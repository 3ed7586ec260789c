"""Where bars come from: shared questions, sources that stand in, streams that wake and are checked against REST."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.live.support import GOLDEN, SYMBOL, synthetic_bars
from tests.live.test_bars import Tape
from tradelib.data.bars import window
from tradelib.errors import RunnerError
from tradelib.live.bars import Bar, BarFeed
from tradelib.live.breakers import Breakers, Trip
from tradelib.live.feeds import AlignedPace, MarketData, StreamPace, Streams
from tradelib.live.patience import Insistence, Patience, Unanswered
from tradelib.live.watchdog import Watchdog

MINUTE = 60_000
Told = list[tuple[str, str]]


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


def insistence(**limits: Any) -> Insistence:
    return Insistence(Patience(**limits), sleep=no_sleep)


# Market data ----------------------------------------------------------------------------------------------------------


class Source:
    """Answers with rows, or fails."""

    def __init__(self, rows: list[list[float]] | None = None) -> None:
        self.rows, self.asked = rows, 0

    async def fetch_ohlcv(self, *_: Any) -> list[list[float]]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.rows is None:
            raise ConnectionError("gone")
        return self.rows


def test_equal_questions_of_one_moment_go_out_once() -> None:
    source = Source([[1, 2, 3, 1, 2, 5]])
    data = MarketData([source])

    async def run() -> list[Any]:
        questions = [data.fetch_ohlcv("BTC/USDT", "1m", since, 10) for since in (7, 7, 7, 8)]
        return [*await asyncio.gather(*questions), await data.fetch_ohlcv("BTC/USDT", "1m", 7, 10)]

    answers = asyncio.run(run())
    assert source.asked == 3
    assert answers == [source.rows] * 5
    assert answers[0] is not answers[1], "nobody can spoil the answer of another"


def test_whoever_gives_up_does_not_take_the_answer_from_others() -> None:
    source = Source([[1, 2, 3, 1, 2, 5]])
    data = MarketData([source])

    async def run() -> Any:
        one = asyncio.create_task(data.fetch_ohlcv("BTC/USDT", "1m", 7, 10))
        other = asyncio.create_task(data.fetch_ohlcv("BTC/USDT", "1m", 7, 10))
        await asyncio.sleep(0)
        one.cancel()
        return await other

    assert asyncio.run(run()) == source.rows


def test_another_source_stands_in_while_the_first_fails_and_is_left_when_it_answers_again() -> None:
    now, told = [0.0], []
    first, second = Source(None), Source([[1, 2, 3, 1, 2, 5]])
    breakers = Breakers(Trip(failures=2, cool_down=10.0), clock=lambda: now[0])
    data = MarketData([first, second], breakers, lambda what, detail: told.append((what, detail)))

    async def question() -> Any:
        return await data.fetch_ohlcv("BTC/USDT", "1m", 7, 10)

    for _ in range(4):
        assert asyncio.run(question()) == second.rows
    assert (first.asked, second.asked, data.stands_in) == (2, 4, True)
    first.rows = [[1, 2, 3, 1, 2, 5]]
    now[0] = 10.0
    asyncio.run(question())
    assert (first.asked, data.stands_in) == (3, False)
    assert told == [("market data", "source 1 answers"), ("market data", "the venue answers again")]


def test_data_that_stand_in_and_are_others_are_no_answer_and_no_reason_to_halt() -> None:
    """Given a second source with another price, the trader waits for the venue instead of believing or halting."""
    bars = synthetic_bars()
    venue, other = Tape(bars, GOLDEN + 5), Tape(bars, GOLDEN + 6)
    other.rows[GOLDEN + 4][4] *= 1.0001
    data = MarketData([venue, other])
    feed = BarFeed(data, SYMBOL, window(bars, end=bars.index[GOLDEN - 1]), insistence())
    asyncio.run(feed.start())
    venue.failures = 10**6

    async def broken(*_: Any) -> Any:
        raise ConnectionError("gone")

    venue.fetch_ohlcv = broken  # type: ignore[method-assign]
    with pytest.raises(Unanswered, match="not those of the venue"):
        asyncio.run(feed.poll())
    other.rows[GOLDEN + 4][4] = float(bars["close"].iloc[GOLDEN + 4])
    assert [bar.time for bar in asyncio.run(feed.poll())] == [bars.index[GOLDEN + 5].isoformat()]


def test_a_passing_contradiction_is_asked_again() -> None:
    """One reply with a bar missing, one with a revised bar: both stumble once, neither reaches a decision."""
    bars = synthetic_bars()
    tape = Tape(bars, GOLDEN + 5)
    feed = BarFeed(tape, SYMBOL, window(bars, end=bars.index[GOLDEN - 1]), insistence())
    asyncio.run(feed.start())
    tape.now += 3
    honest, spoiled = tape.fetch_ohlcv, [0]

    async def once(*question: Any) -> Any:
        rows = await honest(*question)
        spoiled[0] += 1
        if spoiled[0] == 2:
            return [*rows[:1], *rows[2:]]
        if spoiled[0] == 4:
            return [[rows[0][0], *(value * 1.01 for value in rows[0][1:])], *rows[1:]]
        return rows

    tape.fetch_ohlcv = once  # type: ignore[method-assign]
    assert len(asyncio.run(feed.poll())) == 3
    assert spoiled[0] == 6


def test_a_live_question_leaves_when_the_bar_must_have_closed() -> None:
    now = [10.0 * MINUTE]
    pace = AlignedPace(MINUTE, 0.5, spread=0.0, clock=lambda: now[0])
    last = Bar(9 * MINUTE - MINUTE, 1, 1, 1, 1, 1)  # the bar of minute 9 forms until minute 10
    assert pace.pause("BTC/USDT", last) == 0.5, "it is due: every half second until it shows"
    last = last._replace(milliseconds=9 * MINUTE)
    now[0] += 20_000.0
    assert pace.pause("BTC/USDT", last) == 40.0
    spread = AlignedPace(MINUTE, 0.5, spread=2.0, clock=lambda: now[0])
    assert {40.0 <= spread.pause(f"C{n}/USDT", last) < 42.0 for n in range(50)} == {True}


# Streams --------------------------------------------------------------------------------------------------------------


class Pro:
    """A ccxt.pro client whose messages a test puts into a queue; an exception among them is raised."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.cut = 0
        self.clients = {"wss://venue": self}
        self.ohlcvs: dict[str, dict[str, list[Any]]] = {}

    async def watch_ohlcv(self, _: str, __: str) -> Any:
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    def on_error(self, error: Exception) -> None:
        """As a connection of ccxt that broke."""
        self.cut += 1
        self.messages.put_nowait(error)

    async def close(self) -> None:
        """For good."""


def row(minute: int, close: float = 100.0) -> list[float]:
    return [minute * MINUTE, 100.0, 101.0, 99.0, close, 5.0]


def streamed(work: Callable[[Pro, Streams, Told], Awaitable[Any]], limit: float = 30.0) -> Any:
    """Run `work` beside a stream of one market."""

    async def run() -> Any:
        told: Told = []
        client = Pro()
        streams = Streams(client, insistence(), limit=limit, tell=lambda what, detail: told.append((what, detail)))
        streams.start([("BTC/USDT", "1m")])
        try:
            return await asyncio.wait_for(work(client, streams, told), 10.0)
        finally:
            await streams.stop()

    return asyncio.run(run())


def test_a_later_bar_wakes_and_a_forming_one_does_not() -> None:
    async def work(client: Pro, streams: Streams, _: Told) -> None:
        pace = StreamPace(streams, "1m", MINUTE, seconds=30.0)
        waiting = asyncio.create_task(pace.wait("BTC/USDT", Bar(*row(1))))  # bar 2 forms: it has closed when 3 is there
        for message in ([row(2)], [row(2, 100.5)]):
            client.messages.put_nowait(message)
            await streams.wait_after("BTC/USDT", "1m", MINUTE, 30.0)
        assert not waiting.done()
        client.messages.put_nowait([row(2, 100.7), row(3)])
        await waiting
        assert streams.newest("BTC/USDT", "1m") == 3 * MINUTE

    streamed(work)


def test_what_was_streamed_is_compared_with_rest_and_rest_counts() -> None:
    """freqtrade#13397: the last update of a bar was lost, so that a forming bar looks like a closed one: counted.
    A bar that cannot have looked like that is told.
    """

    async def work(client: Pro, streams: Streams, told: Told) -> None:
        client.messages.put_nowait([row(2, 100.5), row(3)])
        await streams.wait_after("BTC/USDT", "1m", 2 * MINUTE, 30.0)
        assert streams.check("BTC/USDT", "1m", [Bar(*row(1)), Bar(*row(2, 100.9))]) == [Bar(*row(2, 100.5))]
        assert (streams.checked, streams.differed, told) == (1, 1, [])
        streams.check("BTC/USDT", "1m", [Bar(*row(2, 100.9))._replace(high=100.2)])
        ((what, detail),) = told
        assert what == "stream differs"
        assert "100.5" in detail
        assert "100.2" in detail

    streamed(work)


def test_late_duplicate_and_malformed_rows_change_nothing() -> None:
    """ccxt appends an older bar after a newer one; the newest stays the newest."""

    async def work(client: Pro, streams: Streams, _: Told) -> None:
        client.messages.put_nowait([row(2, 100.5), row(3)])
        await streams.wait_after("BTC/USDT", "1m", 2 * MINUTE, 30.0)
        for message in ([row(3), row(2, 7.0)], [row(3)], [[None, "x"]], [[]], [row(4)]):
            client.messages.put_nowait(message)
        await streams.wait_after("BTC/USDT", "1m", 3 * MINUTE, 30.0)
        assert streams.newest("BTC/USDT", "1m") == 4 * MINUTE
        assert streams.check("BTC/USDT", "1m", [Bar(*row(2, 100.5))]) == []

    streamed(work)


def test_a_connection_that_breaks_is_told_once_and_taken_up_again() -> None:
    async def work(client: Pro, streams: Streams, told: Told) -> None:
        for message in (ConnectionError("1006"), ConnectionError("1006"), [row(2)], ConnectionError("1006"), [row(3)]):
            client.messages.put_nowait(message)
        await streams.wait_after("BTC/USDT", "1m", 2 * MINUTE, 30.0)
        assert [what for what, _ in told] == ["stream silent", "stream back"] * 2
        assert streams.drops == 2

    streamed(work)


def test_a_stream_that_fails_in_a_way_nobody_foresaw_is_told_and_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    """A reply that is no list of rows: the task that watched ended with it, and nobody heard of it."""

    async def work(client: Pro, streams: Streams, told: Told) -> None:
        for message in ([row(2)], 42, 42, [row(3)], 42, [row(4)]):
            client.messages.put_nowait(message)
        await streams.wait_after("BTC/USDT", "1m", 3 * MINUTE, 30.0)
        failed = [detail for what, detail in told if what == "stream failed"]
        assert len(failed) == 3
        assert "TypeError: 'int' object is not subscriptable (live/feeds.py:" in failed[0]
        assert [what for what, _ in told if what != "stream failed"] == ["stream silent", "stream back"] * 2
        assert not streams.is_silent("BTC/USDT", "1m")

    streamed(work)
    assert sum(record.exc_info is not None for record in caplog.records) == 2  # once for each row of failures


def test_a_silent_stream_is_told_waited_for_no_longer_and_its_connection_cut() -> None:
    """ccxt waits on a silent stream for ever (ccxt#21885 and ANCHORS: a dead link takes minutes to show)."""

    async def work(client: Pro, streams: Streams, told: Told) -> None:
        client.messages.put_nowait([row(2)])
        pace = StreamPace(streams, "1m", MINUTE, seconds=0.05)
        await pace.wait("BTC/USDT", Bar(*row(1)))  # returns although nothing came: the reader asks by itself
        while not client.cut:
            await asyncio.sleep(0.01)
        assert streams.is_silent("BTC/USDT", "1m")
        assert told[0][0] == "stream silent"
        client.messages.put_nowait([row(3)])
        await streams.wait_after("BTC/USDT", "1m", 2 * MINUTE, 30.0)
        assert not streams.is_silent("BTC/USDT", "1m")

    streamed(work, limit=0.05)


def test_the_watchdog_hears_a_stream_that_talks() -> None:
    async def run() -> None:
        client, watchdog = Pro(), Watchdog()
        streams = Streams(client, insistence(), limit=30.0, watchdog=watchdog)
        streams.start([("BTC/USDT", "1m")])
        client.messages.put_nowait([row(2)])
        await streams.wait_after("BTC/USDT", "1m", 0, 30.0)
        assert (watchdog.age("stream BTC/USDT 1m") or 0.0) < 5.0
        await streams.stop()

    asyncio.run(run())


def test_what_came_between_two_questions_is_taken_and_not_only_with_the_next_message() -> None:
    """ccxt wakes who waits at that moment; a message that follows at once finds nobody, and the client just keeps it.

    In a quiet market the next message may be minutes away.
    """

    async def work(client: Pro, streams: Streams, _: Told) -> None:
        client.ohlcvs = {"BTC/USDT": {"1m": [row(1), row(2, 100.5), row(3)]}}
        client.messages.put_nowait([row(2, 100.5)])
        await streams.wait_after("BTC/USDT", "1m", 2 * MINUTE, 30.0)
        assert streams.prices("BTC/USDT", "1m", 0) == (3, [100.0, 100.5, 100.0])
        client.messages.put_nowait([row(3)])
        await streams.wait_price("BTC/USDT", "1m", 3)
        assert streams.prices("BTC/USDT", "1m", 3) == (4, [100.0]), "what is known is not taken twice"

    streamed(work)


def test_no_source_is_no_market_data() -> None:
    with pytest.raises(RunnerError, match="need a source"):
        MarketData([])
