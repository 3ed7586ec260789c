"""Closed bars only, in order, without gaps, and the same that research saw.

The history of a runner is the bundle's golden bars followed by the venue's bars. Where both speak of the same bar they
must say the same, to the last bit; a bar counts as closed when the venue shows a later one; a bar that was taken once
may never change. What contradicts that is asked again, because a venue may stumble for a moment; a contradiction that
stays stops the trading of this market before a decision is made of it.

The history is bounded: see `tradelib.bundle.window`. What has left the window is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

import numpy as np
import pandas as pd

from tradelib.bundle.trading.bar import Bar, iso_time
from tradelib.bundle.window import HistoryWindow
from tradelib.data.bars import COLUMNS, content_digest
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import RunnerError
from tradelib.live.patience import Insistence, Unanswered

__all__ = ["PAGE", "Bar", "BarFeed", "Contradiction", "History", "iso_time"]

Answer = TypeVar("Answer")

PAGE = 1000
"""Bars per request, Binance's maximum."""


class Contradiction(RunnerError):
    """The venue contradicts itself, the bundle or the contract of bars."""


class History:
    """The closed bars that decisions see: golden ones, then the venue's; what left the window is dropped.

    `count` counts all bars since the first golden one, dropped ones too: it decides where the window begins.
    """

    def __init__(self, golden: pd.DataFrame, window: HistoryWindow | None = None) -> None:
        self.window = window or HistoryWindow(max(HistoryWindow.minimum, len(golden)))
        self.count = len(golden)
        self.timeframe = str(golden.attrs["timeframe"])
        self.golden_last = _milliseconds(golden)[-1]
        self._endless = golden.attrs["calendar"] == "24/7"
        self._step = parse_timeframe(self.timeframe).milliseconds
        self._attrs = dict(golden.attrs)
        self._begin, room = 0, len(golden) + self.window.block
        self._times = np.empty(room, np.int64)
        self._values = np.empty((room, len(COLUMNS)))
        self._end = len(golden)
        self._times[: self._end] = _milliseconds(golden)
        self._values[: self._end] = golden[list(COLUMNS)].to_numpy(dtype=np.float64)

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def step(self) -> int:
        """Milliseconds from one bar to the next."""
        return self._step

    @property
    def first(self) -> Bar:
        """The oldest bar that is kept."""
        return self[0]

    @property
    def last(self) -> Bar:
        """The newest closed bar."""
        return self[-1]

    def __getitem__(self, row: int) -> Bar:
        place = (self._end if row < 0 else self._begin) + row
        return Bar(int(self._times[place]), *self._values[place].tolist())

    def bars(self, since: int = 0) -> list[Bar]:
        """The kept bars that open at `since` (epoch ms) or later."""
        first = int(np.searchsorted(self._times[self._begin : self._end], since))
        return [self[row] for row in range(first, len(self))]

    def tail(self, count: int) -> list[Bar]:
        """The newest `count` bars, oldest first."""
        return [self[row] for row in range(max(0, len(self) - count), len(self))]

    def find(self, milliseconds: int) -> Bar | None:
        """The kept bar that opens then."""
        row = int(np.searchsorted(self._times[self._begin : self._end], milliseconds))
        return self[row] if row < len(self) and self[row].milliseconds == milliseconds else None

    def frame(self) -> pd.DataFrame:
        """What a decision on the newest bar sees, as bars (a copy)."""
        begin = self._end - (self.count - self.window.start(self.count))
        times = self._times[begin : self._end] * 1_000_000
        index = pd.DatetimeIndex(times, tz="UTC", name="time").as_unit("ns")
        bars = pd.DataFrame(self._values[begin : self._end].copy(), columns=list(COLUMNS), index=index)
        bars.attrs = dict(self._attrs)
        bars.attrs["digest"] = content_digest(bars)
        return bars

    def append(self, bar: Bar, symbol: str) -> None:
        """Take one more closed bar; `Contradiction` where it does not follow or is not sound."""
        self.check_step(self.last, bar, symbol)
        _check_values(bar, symbol)
        if self._end == len(self._times):
            self._make_room()
        self._times[self._end], self._values[self._end] = bar.milliseconds, bar[1:]
        self._end, self.count = self._end + 1, self.count + 1

    def skip_to(self, bars: Sequence[Bar], count: int, symbol: str) -> None:
        """Go on from `bars`, of which the last is number `count` since the first golden one; nothing before is kept."""
        for before, bar in pairwise(bars):
            self.check_step(before, bar, symbol)
        room = max(len(self._times), len(bars) + self.window.block)
        self._times, self._values = np.empty(room, np.int64), np.empty((room, len(COLUMNS)))
        for row, bar in enumerate(bars):
            self._times[row], self._values[row] = bar.milliseconds, bar[1:]
        self._begin, self._end, self.count = 0, len(bars), count

    def check_step(self, before: Bar, bar: Bar, symbol: str) -> None:
        """Strictly later; on a market that never closes exactly one interval later."""
        step = bar.milliseconds - before.milliseconds
        if step <= 0:
            raise Contradiction(f"the venue sends the bar {bar.time} of {symbol} twice or out of order")
        if self._endless and step != self._step:
            raise Contradiction(
                f"bars of {symbol} are missing: {before.time} is followed by {bar.time}, "
                f"the market never closes and the timeframe is {self.timeframe}"
            )

    def _make_room(self) -> None:
        """Drop what has left the window; the arrays reach their final size after the first blocks and are reused."""
        kept = self.count - self.window.start(self.count)
        begin = max(self._begin, self._end - kept)
        length = self._end - begin
        room = len(self._times)
        if length + self.window.block > room:
            room = length + 2 * self.window.block
        times, values = np.empty(room, np.int64), np.empty((room, len(COLUMNS)))
        times[:length], values[:length] = self._times[begin : self._end], self._values[begin : self._end]
        self._times, self._values, self._begin, self._end = times, values, 0, length


class BarFeed:
    """The bundle's golden bars, continued by the venue's closed bars of `symbol`.

    `start` reads everything up to now, `poll` what closed since; both return the new closed bars, oldest first, and
    raise `RunnerError` naming bar and field when the venue contradicts the bundle or itself. `source` answers
    `fetch_ohlcv` as a ccxt client does. `page`: most bars per request. probing: ask for what comes *after* the known
    bars, which is what moves the clock of a paper venue of pace "poll"; otherwise one request asks from the last known
    bar on.
    """

    def __init__(
        self,
        source: Any,
        symbol: str,
        golden: pd.DataFrame,
        insistence: Insistence,
        *,
        window: HistoryWindow | None = None,
        page: int = PAGE,
        probing: bool = True,
    ) -> None:
        self.source = source
        self.symbol = symbol
        self.kept = History(golden, window)
        self.timeframe = self.kept.timeframe
        self._probing = probing
        self._limit = page
        self._insistence = insistence
        self.price: float | None = None
        """The newest price that the venue showed: that of the bar which is forming."""
        self.forming: Bar | None = None
        """The newest bar that the venue showed, closed or not."""

    @property
    def last(self) -> Bar:
        """The newest closed bar."""
        return self.kept.last

    def bars(self) -> list[Bar]:
        """The closed bars that are kept, oldest first."""
        return self.kept.bars()

    def history(self) -> pd.DataFrame:
        """What a decision on the newest bar sees, as bars (a copy)."""
        return self.kept.frame()

    @property
    def most(self) -> int:
        """Bars that a decision may see, at most."""
        return self.kept.window.minimum + self.kept.window.block

    def resume(self, bars: Sequence[Bar], count: int | None = None) -> None:
        """Take the bars that an earlier run wrote down; `start` compares them with the venue's.

        count: how many it wrote down after the golden ones, where `bars` are only the newest `most` of them.
        """
        if count is not None and count > len(bars):
            self.kept.skip_to(bars, self.kept.count + count, self.symbol)
            return
        for bar in bars:
            if bar.milliseconds > self.last.milliseconds:
                self.kept.append(bar, self.symbol)

    async def start(self) -> list[Bar]:
        """Compare the history with the venue's and read on; the closed bars after it."""
        return await self._patiently(self._start)

    async def _start(self) -> list[Bar]:
        kept, last = self.kept, self.kept.last
        closed = await self._closed_since(kept.first.milliseconds, thorough=True)
        if not closed or closed[-1].milliseconds < last.milliseconds:
            upto = f"up to {closed[-1].time}" if closed else "none"
            raise Contradiction(
                f"the venue's closed bars of {self.symbol} {self.timeframe} ({upto}) do not reach the end of the "
                f"bundle's reference window ({last.time}): set the venue's clock past it"
            )
        inside = [bar for bar in closed if bar.milliseconds <= last.milliseconds]
        self._compare(inside)
        return self._take(closed[len(inside) :])

    async def poll(self) -> list[Bar]:
        """The bars that closed since the last call.

        A bar that was taken must still be what it was: the last known one is always part of what is read.
        """
        return await self._patiently(self._news)

    async def _news(self) -> list[Bar]:
        known = self.last
        if self._probing and not (await self._page(known.milliseconds + 1))[:-1]:
            return []
        closed = await self._closed_since(known.milliseconds, thorough=False)
        if not closed:
            return []
        if closed[0] != known:
            self._contradict(closed[0], known, "the venue now says", "it said before")
        return self._take(closed[1:])

    async def _patiently(self, reading: Callable[[], Awaitable[Answer]]) -> Answer:
        """Read again what contradicts itself, as often as a question is repeated: the last word counts.

        A source that stands in for another proves nothing by contradicting: then there is no answer.
        """
        for failed in range(self._insistence.patience.attempts - 1):
            try:
                return await reading()
            except Contradiction:
                await self._insistence.sleep(self._insistence.pause(failed))
        try:
            return await reading()
        except Contradiction as error:
            if getattr(self.source, "stands_in", False):
                raise Unanswered(f"the market data that stand in are not those of the venue: {error}") from error
            raise

    async def _closed_since(self, since: int, *, thorough: bool) -> list[Bar]:
        """Closed bars from `since` on, page by page; the venue's newest bar is still forming and left out.

        Each page begins with the last closed bar of the page before, which must not have changed. A page that is not
        full is the last one; `thorough` does not trust that and reads until nothing is new.
        """
        bars: list[Bar] = []
        while True:
            page = await self._page(bars[-1].milliseconds if bars else since)
            if bars and page[0] != bars[-1]:
                self._contradict(page[0], bars[-1], "the venue now says", "it said before")
            fresh = page[1:-1] if bars else page[:-1]
            bars.extend(fresh)
            if not fresh or (not thorough and len(page) < self._limit):
                return bars

    async def _page(self, since: int) -> list[Bar]:
        async def question() -> list[Bar]:
            rows = await self.source.fetch_ohlcv(self.symbol, self.timeframe, since, self._limit)
            if not rows:  # the bar that is forming is always there, so an empty list is no answer
                raise LookupError("no bars")
            return [Bar(int(row[0]), *(float(value) for value in row[1:6])) for row in rows]

        page = await self._insistence.insist(question, f"bars of {self.symbol} {self.timeframe}")
        for before, bar in pairwise(page):
            self.kept.check_step(before, bar, self.symbol)
        self.see(page[-1])
        return page

    async def glance(self) -> None:
        """Ask how the newest bar stands; nothing is taken of it but price and volume."""
        await self._patiently(lambda: self._page(self.last.milliseconds))

    def see(self, forming: Bar) -> None:
        """The newest bar as somebody else was told of it."""
        self.forming, self.price = forming, forming.close

    def _take(self, bars: list[Bar]) -> list[Bar]:
        """Append closed bars to the history: all of them, or none."""
        for before, bar in pairwise([self.last, *bars]):
            self.kept.check_step(before, bar, self.symbol)
            _check_values(bar, self.symbol)
        for bar in bars:
            self.kept.append(bar, self.symbol)
        return bars

    def _compare(self, inside: list[Bar]) -> None:
        """The venue's bars against those that are kept, bit for bit; both must have the same ones."""
        known = self.kept.bars(inside[0].milliseconds if inside else self.last.milliseconds + 1)
        for row, bar in enumerate(known):
            if row >= len(inside):
                raise Contradiction(
                    f"the venue lacks the bar {bar.time} of {self.symbol}, which {self._owner(bar)} holds"
                )
            if inside[row].milliseconds != bar.milliseconds:
                raise Contradiction(f"bundle and venue do not have the same bars of {self.symbol} near {bar.time}")
            if inside[row] != bar and bar.milliseconds > self.kept.golden_last:
                raise Contradiction(
                    f"the bar {bar.time} of {self.symbol} was journalled as {bar.body()}, "
                    f"the venue now shows {inside[row].body()}: not trading on contradictory data"
                )
            if inside[row] != bar:
                self._contradict(inside[row], bar, "the venue says", "the bundle says")
        if not inside or len(inside) > len(known):
            raise Contradiction(f"the venue's bars of {self.symbol} do not meet the bundle's reference window")

    def _owner(self, bar: Bar) -> str:
        return "the bundle" if bar.milliseconds <= self.kept.golden_last else "the journal"

    def _contradict(self, bar: Bar, known: Bar, one: str, other: str) -> NoReturn:
        if bar.milliseconds != known.milliseconds:
            raise Contradiction(f"the venue no longer shows the bar {known.time} of {self.symbol}")
        said = dict(zip(Bar._fields, bar, strict=True))
        field = next(name for name in Bar._fields if said[name] != getattr(known, name))
        raise Contradiction(
            f"the bar {known.time} of {self.symbol}: {one} {field} {said[field]!r}, {other} {getattr(known, field)!r}; "
            "not trading on contradictory data"
        )


def _milliseconds(bars: pd.DataFrame) -> np.ndarray:
    return pd.DatetimeIndex(bars.index).as_unit("ns").asi8 // 1_000_000


def _check_values(bar: Bar, symbol: str) -> None:
    """Finite, positive, consistent: the bars contract for one row."""
    prices = bar[1:5]
    sound = all(math.isfinite(value) for value in bar[1:]) and min(prices) > 0 and bar.volume >= 0
    if not sound or bar.low > min(prices) or bar.high < max(prices):
        raise Contradiction(f"the bar {bar.time} of {symbol} is not sound: {dict(zip(COLUMNS, bar[1:], strict=True))}")
