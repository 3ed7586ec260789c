"""Closed bars only, in order, without gaps, and the same that research saw.

The history of a runner is the bundle's golden bars followed by the venue's bars. Where both speak of the same bar they
must say the same, to the last bit; a bar counts as closed when the venue shows a later one; a bar that was taken once
may never change. Anything else stops the runner before a decision is made of it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd

from tradelib.data.bars import COLUMNS, content_digest
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import RunnerError
from tradelib.live.patience import Insistence

__all__ = ["PAGE", "Bar", "BarFeed", "iso_time"]

PAGE = 1000
"""Bars per request, Binance's maximum."""


class Bar(NamedTuple):
    """One bar as the venue states it; `milliseconds` is its open time since the epoch, UTC."""

    milliseconds: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def time(self) -> str:
        """Open time as the journal writes it, "2018-01-02T00:00:00+00:00"."""
        return iso_time(self.milliseconds)

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        return {"time": self.time, **dict(zip(COLUMNS, self[1:], strict=True))}


def iso_time(milliseconds: int) -> str:
    """ISO-8601 UTC text of a time in epoch milliseconds."""
    return pd.Timestamp(milliseconds, unit="ms", tz="UTC").isoformat()


class BarFeed:
    """The bundle's golden bars, continued by the venue's closed bars of `symbol`.

    `start` reads everything up to now, `poll` what closed since; both return the new closed bars, oldest first, and
    raise `RunnerError` naming bar and field when the venue contradicts the bundle or itself.
    """

    def __init__(self, client: Any, symbol: str, golden: pd.DataFrame, insistence: Insistence) -> None:
        self.client = client
        self.symbol = symbol
        self.timeframe = str(golden.attrs["timeframe"])
        self._step = parse_timeframe(self.timeframe).milliseconds
        self._endless = golden.attrs["calendar"] == "24/7"
        self._attrs = dict(golden.attrs)
        self._insistence = insistence
        self._times = pd.DatetimeIndex(golden.index).as_unit("ns").asi8 // 1_000_000
        self._values = golden[list(COLUMNS)].to_numpy(dtype=np.float64, copy=True)
        self._count = len(golden)
        self._golden_last = int(self._times[-1])

    @property
    def last(self) -> Bar:
        """The newest closed bar."""
        return self._bar(self._count - 1)

    def bars(self) -> list[Bar]:
        """All closed bars since the first golden one."""
        return [self._bar(row) for row in range(self._count)]

    def history(self) -> pd.DataFrame:
        """All closed bars since the first golden one, as bars (a copy)."""
        index = pd.DatetimeIndex(self._times[: self._count] * 1_000_000, tz="UTC", name="time").as_unit("ns")
        bars = pd.DataFrame(self._values[: self._count].copy(), columns=list(COLUMNS), index=index)
        bars.attrs = dict(self._attrs)
        bars.attrs["digest"] = content_digest(bars)
        return bars

    async def start(self) -> list[Bar]:
        """Compare the golden window with the venue's and read on; the closed bars after the golden ones."""
        closed = await self._closed_since(int(self._times[0]), thorough=True)
        if not closed or closed[-1].milliseconds < self._golden_last:
            upto = f"up to {closed[-1].time}" if closed else "none"
            raise RunnerError(
                f"the venue's closed bars of {self.symbol} {self.timeframe} ({upto}) do not reach the end of the "
                f"bundle's reference window ({iso_time(self._golden_last)}): set the venue's clock past it"
            )
        inside = [bar for bar in closed if bar.milliseconds <= self._golden_last]
        self._compare_golden(inside)
        return self._take(closed[len(inside) :])

    async def poll(self) -> list[Bar]:
        """The bars that closed since the last call.

        Asks for what comes after the bars it has. When there is something, the bars before it are read once more: a bar
        that was taken must still be what it was.
        """
        known = self.last
        closed = (await self._page(known.milliseconds + 1))[:-1]
        if not closed:
            return []
        closed = await self._closed_since(known.milliseconds, thorough=False)
        if not closed or closed[0] != known:
            self._contradiction(closed[0] if closed else None, known, "the venue now says", "it said before")
        return self._take(closed[1:])

    async def _closed_since(self, since: int, *, thorough: bool) -> list[Bar]:
        """Closed bars from `since` on, page by page; the venue's newest bar is still forming and left out.

        Each page begins with the last closed bar of the page before, which must not have changed. A page that is not
        full is the last one; `thorough` does not trust that and reads until nothing is new.
        """
        bars: list[Bar] = []
        while True:
            page = await self._page(bars[-1].milliseconds if bars else since)
            if bars and page[0] != bars[-1]:
                self._contradiction(page[0], bars[-1], "the venue now says", "it said before")
            fresh = page[1:-1] if bars else page[:-1]
            bars.extend(fresh)
            if not fresh or (not thorough and len(page) < PAGE):
                return bars

    async def _page(self, since: int) -> list[Bar]:
        async def question() -> list[Bar]:
            rows = await self.client.fetch_ohlcv(self.symbol, self.timeframe, since, PAGE)
            if not rows:  # the bar that is forming is always there, so an empty list is no answer
                raise LookupError("no bars")
            return [Bar(int(row[0]), *(float(value) for value in row[1:6])) for row in rows]

        page = await self._insistence.insist(question, f"bars of {self.symbol} {self.timeframe}")
        for before, bar in pairwise(page):
            self._check_step(before, bar)
        return page

    def _take(self, bars: list[Bar]) -> list[Bar]:
        """Append closed bars to the history after the checks that one bar can be put to."""
        for bar in bars:
            self._check_step(self.last, bar)
            _check_values(bar, self.symbol)
            if self._count == len(self._times):
                self._grow()
            self._times[self._count] = bar.milliseconds
            self._values[self._count] = bar[1:]
            self._count += 1
        return bars

    def _check_step(self, before: Bar, bar: Bar) -> None:
        """Strictly later; on a market that never closes exactly one interval later."""
        step = bar.milliseconds - before.milliseconds
        if step <= 0:
            raise RunnerError(f"the venue sends the bar {bar.time} of {self.symbol} twice or out of order")
        if self._endless and step != self._step:
            raise RunnerError(
                f"bars of {self.symbol} are missing: {before.time} is followed by {bar.time}, "
                f"the market never closes and the timeframe is {self.timeframe}"
            )

    def _compare_golden(self, inside: list[Bar]) -> None:
        """The venue's bars within the golden window against the bundle's, bit for bit; both must have the same bars."""
        first = int(np.searchsorted(self._times[: self._count], inside[0].milliseconds)) if inside else self._count
        for row in range(first, self._count):
            golden = self._bar(row)
            if row - first >= len(inside):
                raise RunnerError(f"the venue lacks the bar {golden.time} of {self.symbol}, which the bundle holds")
            if inside[row - first].milliseconds != golden.milliseconds:
                raise RunnerError(f"bundle and venue do not have the same bars of {self.symbol} near {golden.time}")
            if inside[row - first] != golden:
                self._contradiction(inside[row - first], golden, "the venue says", "the bundle says")
        if not inside or len(inside) > self._count - first:
            raise RunnerError(f"the venue's bars of {self.symbol} do not meet the bundle's reference window")

    def _contradiction(self, bar: Bar | None, known: Bar, one: str, other: str) -> NoReturn:
        if bar is None or bar.milliseconds != known.milliseconds:
            raise RunnerError(f"the venue no longer shows the bar {known.time} of {self.symbol}")
        said = dict(zip(Bar._fields, bar, strict=True))
        field = next(name for name in Bar._fields if said[name] != getattr(known, name))
        raise RunnerError(
            f"the bar {known.time} of {self.symbol}: {one} {field} {said[field]!r}, {other} {getattr(known, field)!r}; "
            "not trading on contradictory data"
        )

    def _bar(self, row: int) -> Bar:
        return Bar(int(self._times[row]), *(float(value) for value in self._values[row]))

    def _grow(self) -> None:
        self._times = np.concatenate([self._times, np.empty_like(self._times)])
        self._values = np.concatenate([self._values, np.empty_like(self._values)])


def _check_values(bar: Bar, symbol: str) -> None:
    """Finite, positive, consistent: the bars contract for one row."""
    prices = bar[1:5]
    sound = all(math.isfinite(value) for value in bar[1:]) and min(prices) > 0 and bar.volume >= 0
    if not sound or bar.low > min(prices) or bar.high < max(prices):
        raise RunnerError(f"the bar {bar.time} of {symbol} is not sound: {dict(zip(COLUMNS, bar[1:], strict=True))}")
