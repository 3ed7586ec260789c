"""The bounded history: which rows a decision sees; runner, replay and research see the same; memory is flat."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest

from tests.live.support import rule, synthetic_bars
from tests.live.test_bars import Tape
from tradelib.bundle.window import HistoryWindow, windowed
from tradelib.data.bars import COLUMNS, window
from tradelib.errors import ParameterError
from tradelib.live.bars import BarFeed, History
from tradelib.live.patience import Insistence, Patience
from tradelib.parameters import Parameters
from tradelib.strategies.base import Strategy

SMALL = HistoryWindow(64, 32)
GOLDEN = 40


class Exponential(Strategy):
    """Long above an exponential average: its memory never ends."""

    span: int = 20

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        """1 above the average, else 0; NaN on the first bar."""
        average = bars["close"].ewm(span=self.span, adjust=False).mean()
        signal = (bars["close"] / average - 1.0).clip(-1.0, 1.0)
        signal.iloc[0] = np.nan
        return signal


def test_the_window_begins_where_the_number_of_bars_says_and_moves_in_blocks() -> None:
    # rows seen with n bars known, written out from start = max(0, floor((n - 64) / 32) * 32)
    assert [SMALL.start(count) for count in (1, 64, 95, 96, 127, 128, 1000)] == [0, 0, 0, 32, 32, 64, 928]
    lengths = [count - SMALL.start(count) for count in range(64, 1000)]
    assert (min(lengths), max(lengths)) == (64, 95)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 95, 96, 97, 400])
def test_the_spans_are_those_of_each_bar_put_together(count: int) -> None:
    told = [(start, row) for start, first, end in SMALL.spans(count) for row in range(first, end)]
    assert told == [(SMALL.start(row + 1), row) for row in range(count)]


def test_research_through_the_window_decides_as_the_runner_bar_by_bar() -> None:
    bars = synthetic_bars(260)
    decides = rule().replace(strategy=Exponential())
    through = windowed(decides, SMALL).weights(bars)[1]
    seen = [window(bars, bars.index[SMALL.start(row + 1)], bars.index[row]) for row in range(len(bars))]
    one_by_one = [decides.weights(part)[1][-1] for part in seen]
    assert np.array_equal(through, one_by_one, equal_nan=True)


def test_a_rule_whose_memory_ends_decides_as_without_a_window() -> None:
    bars = synthetic_bars(400)
    assert np.array_equal(windowed(rule(), SMALL).weights(bars)[1], rule().weights(bars)[1], equal_nan=True)


def test_a_rule_with_an_endless_memory_differs_by_what_the_first_bars_weigh() -> None:
    """(1 - 2 / (span + 1)) ** 64 = 0.0016 of the first price's distance is what 64 bars leave of it."""
    bars = synthetic_bars(400)
    signal = rule().replace(strategy=Exponential())
    through, whole = windowed(signal, SMALL).weights(bars)[0], signal.weights(bars)[0]
    apart = np.nanmax(np.abs(through - whole))
    assert 0.0 < apart < (1.0 - 2.0 / 21.0) ** 64
    assert np.array_equal(through[:95], whole[:95], equal_nan=True)


def history(count: int) -> tuple[History, pd.DataFrame]:
    """A history that took the bars after its golden ones one by one."""
    bars = synthetic_bars(count)
    kept = History(window(bars, end=bars.index[GOLDEN - 1]), SMALL)
    times = (bars.index.as_unit("ns").asi8 // 10**6).tolist()
    from tradelib.live.bars import Bar

    for time, values in list(zip(times, bars[list(COLUMNS)].to_numpy().tolist(), strict=True))[GOLDEN:]:
        kept.append(Bar(time, *values), "BTC/USDT")
    return kept, bars


@pytest.mark.parametrize("count", [GOLDEN, 95, 96, 100, 128, 500, 1_000])
def test_the_history_is_exactly_the_window_of_all_bars(count: int) -> None:
    kept, bars = history(count)
    seen = window(bars, bars.index[SMALL.start(count)], bars.index[-1])
    pd.testing.assert_frame_equal(kept.frame(), seen, check_freq=False)
    assert kept.frame().attrs["digest"] == seen.attrs["digest"]
    assert kept.count == count


def test_memory_does_not_grow_with_the_bars() -> None:
    room = {len(history(count)[0]._times) for count in (400, 800, 1_600)}
    assert len(room) == 1
    assert len(history(1_600)[0]) < SMALL.minimum + 3 * SMALL.block


def test_a_feed_that_resumes_sees_what_one_that_went_on_sees() -> None:
    bars = synthetic_bars(300)
    golden = window(bars, end=bars.index[GOLDEN - 1])

    async def no_sleep(_: float) -> None:
        return None

    def feed(now: int) -> BarFeed:
        return BarFeed(Tape(bars, now), "BTC/USDT", golden, Insistence(Patience(), sleep=no_sleep), window=SMALL)

    whole, first = feed(280), feed(200)
    asyncio.run(whole.start())
    taken = asyncio.run(first.start())
    again = feed(280)
    again.resume(taken)
    fresh = asyncio.run(again.start())
    assert len(fresh) == 80
    pd.testing.assert_frame_equal(again.history(), whole.history())


def test_a_window_without_bars_is_refused() -> None:
    with pytest.raises(ParameterError, match="both must be positive"):
        HistoryWindow(0, 32)
    assert issubclass(type(windowed(rule(), SMALL)), Parameters)
    assert windowed(rule(), SMALL).digest == rule().digest
