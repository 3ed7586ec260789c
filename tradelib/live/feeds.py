"""Where closed bars come from: one wire for all that watch a market, others that stand in, and what tells of a close.

A bar reaches a decision only through `tradelib.live.bars.BarFeed`, which reads it over REST and proves it closed,
ordered and unrevised. A WebSocket stream says *when* to ask and what it saw itself: it has no word for "closed" (a
later bar is the only proof), it may stall without an error, and what it showed last of a bar may not be the bar. So a
streamed bar wakes the reader and is compared with what REST then says; where they differ the difference is told and
REST counts. A stream that goes silent costs nothing but time: the reader asks by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tradelib.errors import RunnerError
from tradelib.live.bars import Bar, iso_time
from tradelib.live.breakers import Breakers
from tradelib.live.connection import cut, describe_error
from tradelib.live.mishaps import explain, is_unforeseen
from tradelib.live.patience import Failure, Insistence, attempt
from tradelib.live.watchdog import Watchdog

__all__ = ["AlignedPace", "FixedPace", "MarketData", "Pace", "StreamPace", "Streams", "Tell"]

logger = logging.getLogger(__name__)

Tell = Callable[[str, str], None]
"""Hears of an incident: what happened in a word or two, and the details."""

_PRICES = 1_000
"""Prices of each stream that are kept for whoever looks at them next."""
_SEEN = 4
"""Bars that are remembered of each stream: the forming one and those that were just closed."""


def _tell_nobody(_: str, __: str) -> None:
    return None


class MarketData:
    """Bars of one venue for everybody in this process, and of others that stand in while it fails.

    Equal questions that are asked at the same time go out once. `sources` are asked in their order; each has a circuit
    breaker, so one that fails is left alone and tried again later. `stands_in` is True where the last answer was not
    the first source's.
    """

    def __init__(self, sources: Sequence[Any], breakers: Breakers | None = None, tell: Tell = _tell_nobody) -> None:
        if not sources:
            raise RunnerError("market data need a source")
        self.sources = tuple(sources)
        self.stands_in = False
        self.requests = 0
        self._breakers = breakers or Breakers()
        self._tell = tell
        self._asked: dict[tuple[Any, ...], asyncio.Task[list[Any]]] = {}

    async def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int) -> list[Any]:
        """Rows `[open time, open, high, low, close, volume]` as ccxt's method of this name returns them."""
        question = (symbol, timeframe, since, limit)
        task = self._asked.get(question)
        if task is None:
            task = asyncio.create_task(self._ask(*question))
            self._asked[question] = task
            task.add_done_callback(lambda _: self._asked.pop(question, None))
        return list(await asyncio.shield(task))

    async def _ask(self, *question: Any) -> list[Any]:
        if len(self.sources) == 1:
            return await self._one(0, question)
        failure: Exception = RunnerError("no source of market data may be asked now")
        for number in range(len(self.sources)):
            breaker = self._breakers.of(f"market data {number}")
            if not breaker.admits():
                continue
            answer = await attempt(self._one(number, question))
            if isinstance(answer, Failure):
                breaker.fail(describe_error(answer.error))
                failure = answer.error
                continue
            breaker.succeed()
            self._note(number)
            return answer
        raise failure

    async def _one(self, number: int, question: tuple[Any, ...]) -> list[Any]:
        self.requests += 1
        rows: list[Any] = await self.sources[number].fetch_ohlcv(*question)
        return rows

    def _note(self, number: int) -> None:
        if self.stands_in != (number > 0):
            self.stands_in = number > 0
            self._tell("market data", f"source {number} answers" if number else "the venue answers again")


class Pace(Protocol):
    """When to ask for the next bar."""

    async def wait(self, symbol: str, last: Bar) -> None:
        """Return when it is time to ask for what comes after `last`."""
        ...


class FixedPace:
    """Every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def wait(self, symbol: str, last: Bar) -> None:
        """The same pause, whatever was seen."""
        await asyncio.sleep(self.seconds)


class AlignedPace:
    """When the bar that is forming must have closed by this machine's clock; until it shows, every `seconds`.

    `spread`: seconds over which the symbols' questions are spread, so that they do not all leave at once. `step`: of
    the bars, in milliseconds. `clock`: epoch milliseconds.
    """

    def __init__(
        self, step: int, seconds: float, spread: float = 1.0, clock: Callable[[], float] = lambda: time.time() * 1e3
    ) -> None:
        self.step, self.seconds, self.spread, self._clock = step, seconds, spread, clock

    def pause(self, symbol: str, last: Bar) -> float:
        """Seconds from now: the bar after `last` closes two intervals after `last` opened."""
        late = self.spread * (sum(map(ord, symbol)) % 100) / 100.0
        left = (last.milliseconds + 2 * self.step - self._clock()) / 1e3
        return left + late if left > 0.0 else self.seconds

    async def wait(self, symbol: str, last: Bar) -> None:
        """See `pause`."""
        await asyncio.sleep(self.pause(symbol, last))


@dataclass
class _Seen:
    """What one stream showed: its last bars by open time, and an event for a bar that was not there before."""

    bars: dict[int, Bar]
    moved: asyncio.Event
    silent: bool = False
    count: int = 0
    """Prices that were shown so far; the newest ones are kept."""
    prices: deque[float] = field(default_factory=lambda: deque(maxlen=_PRICES))

    @property
    def newest(self) -> int:
        return max(self.bars, default=-1)


class Streams:
    """Forming bars of many symbols from a ccxt.pro client, supervised; `start`, then `seen`, `newest` and `wait_after`.

    limit: seconds of silence after which a stream counts as dead. Where all of them are, the connection is cut, so that
    the next question opens a new one. `tell` hears of silence, of lost connections and of differences.
    """

    def __init__(
        self,
        client: Any,
        insistence: Insistence,
        *,
        limit: float,
        watchdog: Watchdog | None = None,
        tell: Tell = _tell_nobody,
    ) -> None:
        self.client = client
        self.limit = limit
        self.checked = self.differed = self.drops = 0
        self._insistence = insistence
        self._watchdog = watchdog or Watchdog()
        self._tell = tell
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, markets: Iterable[tuple[str, str]]) -> None:
        """Watch these `(symbol, timeframe)`."""
        for market in markets:
            if market not in self._seen:
                self._seen[market] = _Seen({}, asyncio.Event())
                self._tasks.append(asyncio.create_task(self._keep(*market), name=f"stream {market[0]} {market[1]}"))

    async def stop(self) -> None:
        """End all streams and their connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await attempt(self.client.close())

    def newest(self, symbol: str, timeframe: str) -> int:
        """Open time (epoch ms) of the newest bar that the stream showed; -1 before the first."""
        return self._seen[symbol, timeframe].newest

    def forming(self, symbol: str, timeframe: str) -> Bar | None:
        """The newest bar that the stream showed; None before the first, and while it is silent."""
        seen = self._seen[symbol, timeframe]
        return None if seen.silent else seen.bars.get(seen.newest)

    def prices(self, symbol: str, timeframe: str, after: int) -> tuple[int, list[float]]:
        """How many prices were shown so far, and those after the first `after`, as they came."""
        seen = self._seen[symbol, timeframe]
        fresh = min(seen.count - after, len(seen.prices))
        return seen.count, list(seen.prices)[len(seen.prices) - fresh :] if fresh > 0 else []

    async def wait_price(self, symbol: str, timeframe: str, after: int) -> None:
        """Until more than `after` prices were shown."""
        seen = self._seen[symbol, timeframe]
        while seen.count <= after:
            seen.moved.clear()
            await seen.moved.wait()

    def is_silent(self, symbol: str, timeframe: str) -> bool:
        """True while nothing is heard of this stream."""
        return self._seen[symbol, timeframe].silent

    async def wait_after(self, symbol: str, timeframe: str, milliseconds: int, seconds: float) -> bool:
        """Until the stream shows a bar that opens after `milliseconds`; False where `seconds` passed without."""
        seen = self._seen[symbol, timeframe]
        deadline = asyncio.get_running_loop().time() + seconds
        while seen.newest <= milliseconds:
            seen.moved.clear()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0.0:
                return False
            try:
                await asyncio.wait_for(seen.moved.wait(), left)
            except TimeoutError:
                return False
        return True

    def check(self, symbol: str, timeframe: str, bars: Iterable[Bar]) -> list[Bar]:
        """Compare what REST says of closed bars with what was streamed of them; the streamed ones that differ.

        The last update of a bar may be lost: then what was streamed is the bar as it was while it formed, which is
        counted. What the bar can never have been contradicts REST, and is told.
        """
        seen, differing = self._seen[symbol, timeframe].bars, []
        for bar in bars:
            streamed = seen.get(bar.milliseconds)
            if streamed is None:
                continue
            self.checked += 1
            if streamed != bar:
                self.differed += 1
                differing.append(streamed)
            if not _was(streamed, bar):
                self._tell("stream differs", f"{symbol} {bar.time}: streamed {streamed[1:]}, REST says {bar[1:]}")
        return differing

    async def _keep(self, symbol: str, timeframe: str) -> None:
        """Watch for ever: what nobody foresaw is told, and the stream begun anew after a pause that grows until it
        tells something again. Bars are asked for meanwhile, as of any stream that is silent."""
        seen, failed, heard = self._seen[symbol, timeframe], 0, -1
        while True:
            try:
                await self._watch(symbol, timeframe)
            except Exception as error:  # whatever it is, a stream that ends silently is worse
                failed, heard = failed + 1 if seen.count == heard else 0, seen.count
                told = explain(error)
                trace = error if failed == 0 and is_unforeseen(error) else None
                logger.error("stream %s %s failed: %s", symbol, timeframe, told, exc_info=trace)
                self._tell("stream failed", f"{symbol} {timeframe}: {told}; it is begun anew")
                await self._lost(symbol, timeframe, told)
                await self._insistence.sleep(self._insistence.pause(failed))

    async def _watch(self, symbol: str, timeframe: str) -> None:
        """Listen for ever; whatever goes wrong is told, and tried again after a pause.

        A question that is silent stays open: cancelling it would leave the client with a future that nobody resolves.
        """
        name, failed = f"stream {symbol} {timeframe}", 0
        self._watchdog.watch(name, self.limit)
        while True:
            question = asyncio.ensure_future(attempt(self.client.watch_ohlcv(symbol, timeframe)))
            try:
                await asyncio.sleep(0)  # now the question waits, and whatever comes from here on answers it
                self._take_missed(symbol, timeframe)
                answer = await self._heard(question, symbol, timeframe)
            finally:
                question.cancel()
            if isinstance(answer, Failure):
                failed += 1
                await self._lost(symbol, timeframe, describe_error(answer.error))
                await self._insistence.sleep(self._insistence.pause(failed))
            elif self._take(symbol, timeframe, answer):
                failed = 0
                self._watchdog.hear(name)

    async def _heard(self, question: asyncio.Future[Any], symbol: str, timeframe: str) -> Any:
        """The answer, however long it takes; silence is told, and when all streams are silent the connection is cut."""
        while not (await asyncio.wait({question}, timeout=self.limit))[0]:
            await self._lost(symbol, timeframe, f"nothing for {self.limit:g} s")
            if all(seen.silent for seen in self._seen.values()):
                cut(self.client)
        return question.result()

    async def _lost(self, symbol: str, timeframe: str, why: str) -> None:
        seen = self._seen[symbol, timeframe]
        if not seen.silent:
            self.drops += 1
            self._tell("stream silent", f"{symbol} {timeframe}: {why}; bars are asked for instead")
        seen.silent = True
        seen.moved.set()

    def _take_missed(self, symbol: str, timeframe: str) -> None:
        """What came between two questions: the client keeps it, and would tell it with the next message only."""
        rows = list((getattr(self.client, "ohlcvs", {}).get(symbol) or {}).get(timeframe) or [])[-_SEEN:]
        newest = max((bar for bar in map(_bar, rows) if bar is not None), default=None)
        seen = self._seen[symbol, timeframe]
        if newest is not None and newest.milliseconds >= seen.newest and newest != seen.bars.get(seen.newest):
            self._take(symbol, timeframe, rows)

    def _take(self, symbol: str, timeframe: str, rows: Sequence[Sequence[Any]]) -> bool:
        """Remember the newest bars; late and malformed rows are left out. True where there was anything."""
        seen, fresh = self._seen[symbol, timeframe], False
        for row in rows[-_SEEN:]:
            bar = _bar(row)
            if bar is None:
                continue
            if bar.milliseconds < seen.newest:  # a later bar was there already: what comes now proves nothing
                seen.bars.setdefault(bar.milliseconds, bar)
            else:
                seen.bars[bar.milliseconds] = bar
                seen.prices.append(bar.close)
                seen.count += 1
            fresh = True
        for old in sorted(seen.bars)[:-_SEEN]:
            del seen.bars[old]
        if fresh and seen.silent:
            seen.silent = False
            self._tell("stream back", f"{symbol} {timeframe}: {iso_time(seen.newest)}")
        if fresh:
            seen.moved.set()
        return fresh


class StreamPace:
    """When the stream shows a later bar; a stream that does not is not waited for longer than `seconds`.

    Once the stream has shown it, REST may lag: it is asked again after `pause` seconds.
    """

    def __init__(self, streams: Streams, timeframe: str, step: int, *, seconds: float, pause: float = 0.05) -> None:
        self.streams, self.timeframe, self.step, self.seconds, self.pause = streams, timeframe, step, seconds, pause

    async def wait(self, symbol: str, last: Bar) -> None:
        """The bar after `last` has closed when one opens that is more than an interval later than `last`."""
        after = last.milliseconds + self.step
        if self.streams.newest(symbol, self.timeframe) > after:
            await asyncio.sleep(self.pause)
        else:
            await self.streams.wait_after(symbol, self.timeframe, after, self.seconds)


def _was(earlier: Bar, bar: Bar) -> bool:
    """Whether `bar` can have looked like `earlier` while it formed."""
    inside = bar.low <= earlier.low and earlier.high <= bar.high and bar.low <= earlier.close <= bar.high
    return earlier.open == bar.open and inside and earlier.volume <= bar.volume


def _bar(row: Sequence[Any]) -> Bar | None:
    """A streamed row, or None for what is none."""
    try:
        return Bar(int(row[0]), *(float(value) for value in row[1:6]))
    except (TypeError, ValueError, IndexError):
        return None
