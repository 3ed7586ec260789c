"""Only closed, ordered, gap-free, unrevised bars that agree with the bundle reach a decision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from tests.live.support import GOLDEN, SYMBOL, synthetic_bars
from tradelib.data.bars import COLUMNS, check_bars, window
from tradelib.errors import RunnerError
from tradelib.live.bars import BarFeed
from tradelib.live.patience import Insistence, Patience

Row = list[Any]
DAY = 86_400_000


class Tape:
    """A client whose bars are a list that a test may spoil: rows up to `now` are shown, the last one is forming."""

    def __init__(self, bars: pd.DataFrame, now: int, page: int = 1000) -> None:
        times = (bars.index.as_unit("ns").asi8 // 10**6).tolist()
        self.rows: list[Row] = [[time, *values] for time, values in zip(times, bars.to_numpy().tolist(), strict=True)]
        self.now, self.page, self.failures = now, page, 0

    async def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int) -> list[Row]:
        assert (symbol, timeframe) == (SYMBOL, "1d")
        if self.failures:
            self.failures -= 1
            return []
        shown = [list(row) for row in self.rows[: self.now + 1]]
        shown[-1][2:] = [shown[-1][1]] * 3 + [0.0]
        return [row for row in shown if row[0] >= since][: min(limit, self.page)]


def feed(tape: Tape, bars: pd.DataFrame) -> BarFeed:
    async def no_sleep(_: float) -> None:
        return None

    return BarFeed(tape, SYMBOL, window(bars, end=bars.index[GOLDEN - 1]), Insistence(Patience(), sleep=no_sleep))


def started(now: int = GOLDEN + 5, *, page: int = 1000, calendar: str = "24/7") -> tuple[Tape, BarFeed, pd.DataFrame]:
    """A feed that has read its history; bar `now` is forming."""
    bars = synthetic_bars(calendar=calendar)
    tape = Tape(bars, now, page)
    bar_feed = feed(tape, bars)
    asyncio.run(bar_feed.start())
    return tape, bar_feed, bars


@pytest.mark.parametrize("page", [1000, 60, 7, 3])
@pytest.mark.parametrize("calendar", ["24/7", "XNYS"])
def test_history_is_the_golden_bars_and_what_closed_since(page: int, calendar: str) -> None:
    _, bar_feed, bars = started(page=page, calendar=calendar)
    history = check_bars(bar_feed.history(), verify_digest=True)
    pd.testing.assert_frame_equal(history, window(bars, end=bars.index[GOLDEN + 4]), check_freq=False)
    assert history.attrs == window(bars, end=bars.index[GOLDEN + 4]).attrs


def test_the_forming_bar_is_never_taken_and_a_closed_one_once() -> None:
    tape, bar_feed, bars = started()
    assert asyncio.run(bar_feed.poll()) == []
    tape.now += 1
    (bar,) = asyncio.run(bar_feed.poll())
    assert list(bar[1:]) == bars.iloc[GOLDEN + 5].tolist()
    assert bar.time == bars.index[GOLDEN + 5].isoformat()
    assert bar.body() == {"time": bar.time, **bars.iloc[GOLDEN + 5].to_dict()}
    assert asyncio.run(bar_feed.poll()) == []
    tape.now += 3
    assert [bar.milliseconds // DAY for bar in asyncio.run(bar_feed.poll())] == [
        time.value // 10**6 // DAY for time in bars.index[GOLDEN + 6 : GOLDEN + 9]
    ]


def test_the_last_golden_bar_may_be_the_last_closed_one_and_nothing_earlier() -> None:
    _, bar_feed, bars = started(GOLDEN)
    assert bar_feed.last.time == bars.index[GOLDEN - 1].isoformat()
    with pytest.raises(RunnerError, match="do not reach the end of the bundle's reference window"):
        started(GOLDEN - 1)


def test_an_empty_answer_is_no_answer() -> None:
    tape, bar_feed, _ = started()
    tape.now, tape.failures = tape.now + 1, 4
    assert len(asyncio.run(bar_feed.poll())) == 1
    tape.failures = 99
    with pytest.raises(RunnerError, match="does not answer for bars of BTC/USDT 1d"):
        asyncio.run(bar_feed.poll())


def test_bars_of_an_exchange_may_skip_weekends() -> None:
    tape, bar_feed, _ = started(calendar="XNYS")
    tape.now += 7
    assert len(asyncio.run(bar_feed.poll())) == 7


def change(row: int, field: str) -> Callable[[list[Row]], None]:
    def spoil(rows: list[Row]) -> None:
        rows[row][1 + COLUMNS.index(field)] *= 1.0 + 2**-50

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(0, "open"), r"2020-01-01T00:00:00\+00:00 .*: the venue says open .*, the bundle says"),
        (change(50, "close"), r"2020-02-20T00:00:00\+00:00 .*close"),
        (change(GOLDEN - 1, "volume"), r"2020-04-09T00:00:00\+00:00 .*volume"),
        (lambda rows: rows.pop(40), "bars of BTC/USDT are missing: 2020-02-09"),
        (lambda rows: rows.insert(40, rows[40]), "twice or out of order"),
        (lambda rows: rows.insert(40, rows[39][:]) or rows[40].__setitem__(0, rows[39][0] + DAY // 2), "are missing"),
        (lambda rows: rows.__delitem__(slice(0, GOLDEN)), "do not meet the bundle's reference window|the same bars"),
    ],
)
def test_a_venue_that_contradicts_the_bundle_is_refused(spoil: Callable[[list[Row]], object], message: str) -> None:
    bars = synthetic_bars()
    tape = Tape(bars, GOLDEN + 5)
    spoil(tape.rows)
    with pytest.raises(RunnerError, match=message):
        asyncio.run(feed(tape, bars).start())


def test_a_session_that_only_one_side_has_is_named_on_an_exchange_calendar() -> None:
    bars = synthetic_bars(calendar="XNYS")
    for spoil in (lambda rows: rows.pop(40), lambda rows: rows.insert(41, [rows[40][0] + DAY // 2, *rows[40][1:]])):
        tape = Tape(bars, GOLDEN + 5)
        spoil(tape.rows)
        with pytest.raises(RunnerError, match="do not have the same bars of BTC/USDT near 2020-02-2"):
            asyncio.run(feed(tape, bars).start())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(GOLDEN + 4, "close"), "the venue now says close .* it said before"),
        (lambda rows: rows.pop(GOLDEN + 4), "no longer shows the bar 2020-04-14"),
        (lambda rows: rows.pop(GOLDEN + 5), "are missing"),
        (lambda rows: rows[GOLDEN + 5].__setitem__(4, float("nan")), "is not sound"),
        (lambda rows: rows[GOLDEN + 5].__setitem__(2, rows[GOLDEN + 5][4] / 2), "is not sound"),
        (lambda rows: rows[GOLDEN + 5].__setitem__(3, -1.0), "is not sound"),
        (lambda rows: rows[GOLDEN + 5].__setitem__(4, None), "does not answer"),
    ],
)
def test_a_venue_that_contradicts_itself_is_not_traded_on(spoil: Callable[[list[Row]], object], message: str) -> None:
    tape, bar_feed, _ = started()
    tape.now += 2
    spoil(tape.rows)
    with pytest.raises(RunnerError, match=message):
        asyncio.run(bar_feed.poll())
