"""backtesting.py: a Python method per bar.

It knows whole units only, so it starts with so much cash that a unit does not matter; slippage is part of its fee.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task

PACKAGES = ("backtesting", "numpy", "pandas")
CASH = 1e15


def above(close: np.ndarray, fast: int, slow: int) -> np.ndarray:
    """1.0 where the fast average is above the slow one; 0.0 before there are averages, or trading would begin later."""
    fast_line, slow_line = (pd.Series(close).rolling(window).mean() for window in (fast, slow))
    return (fast_line > slow_line).to_numpy(dtype=float)


def crossed(close: np.ndarray, fast: int, slow: int) -> np.ndarray:
    """1.0 where the fast average has just come above the slow one; the first bar with averages is no crossing."""
    state = above(close, fast, slow)
    event = state * (1.0 - np.r_[0.0, state[:-1]])
    event[:slow] = 0.0
    return event


class Crossing(Strategy):
    """Long while the fast average is above the slow one."""

    fast, slow = setting.CROSSING_WINDOWS

    def init(self) -> None:
        self.above = self.I(above, self.data.Close, self.fast, self.slow)

    def next(self) -> None:
        if self.above[-1] and not self.position:
            self.buy()
        elif not self.above[-1] and self.position:
            self.position.close()


class Stops(Strategy):
    """Enter where the fast average crosses the slow one; leave by a stop or target, measured from the slipped fill."""

    stop = setting.STOP_LOSS
    trailing = False

    def init(self) -> None:
        self.entry = self.I(crossed, self.data.Close, *setting.STOP_WINDOWS)

    def next(self) -> None:
        if self.position:
            if self.trailing:
                for trade in self.trades:
                    trade.sl = max(trade.sl, self.data.High[-1] * (1.0 - self.stop))
        elif self.entry[-1]:
            fill = self.data.Close[-1] * (1.0 + setting.SLIPPAGE)
            self.buy(sl=fill * (1.0 - self.stop), tp=fill * (1.0 + setting.TAKE_PROFIT))


class TrailingStops(Stops):
    stop = setting.TRAILING_STOP
    trailing = True


def _test(job: Job, strategy: type[Strategy]) -> Backtest:
    rows = job.numbers()
    times = pd.date_range("2000-01-01", periods=rows.shape[1], freq="min")
    bars = pd.DataFrame(dict(zip(("Open", "High", "Low", "Close"), rows, strict=True)), times)
    return Backtest(bars, strategy, cash=CASH, commission=setting.ONE_RATE)


def _run(job: Job, strategy: type[Strategy], growth: str) -> Task:
    test = _test(job, strategy)

    def timed() -> Figures:
        found = test.run()
        still_open = len(found["_strategy"].trades)
        correction = setting.STILL_OPEN if still_open else 1.0
        return {growth: found["Equity Final [$]"] / CASH * correction, "trades": found["# Trades"] + still_open}

    return Task(timed)


def sweep(job: Job) -> Task:
    fast, slow = setting.grid(job.size)
    test = _test(job, Crossing)

    def timed() -> Figures:
        _, table = test.optimize(fast=fast, slow=slow, maximize="Return [%]", return_heatmap=True)
        returns = table.sort_index().to_numpy() / 100
        return {"total_return": returns, "best_pair": int(np.argmax(returns))}

    return Task(timed)


WORKLOADS = {
    "w2": lambda job: _run(job, Crossing, "growth"),
    "w3": sweep,
    "w5": lambda job: _run(job, Stops, "growth_if_targets_slip"),
    "w5-trailing": lambda job: _run(job, TrailingStops, "growth_if_targets_slip"),
}
