"""bt: weights of a tree of assets.

Slippage is part of its fee. With fractional units its search for an affordable quantity may not end, so it trades whole
ones, with so much cash that a unit does not matter.
"""

from __future__ import annotations

import bt
import pandas as pd

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task

PACKAGES = ("bt", "ffn", "numpy", "pandas")
CASH = 1e15


def _growth(prices: pd.DataFrame, rate: float, *algos: bt.Algo) -> float:
    account = {"initial_capital": CASH, "progress_bar": False}
    strategy = bt.Strategy("benchmark", [*algos, bt.algos.Rebalance()])
    test = bt.Backtest(strategy, prices, commissions=lambda q, p: abs(q) * p * rate, **account)
    bt.run(test)
    return float(test.strategy.value) / CASH


def backtest(job: Job) -> Task:
    times = pd.date_range("2000-01-01", periods=job.size, freq="min")
    prices = pd.DataFrame({"X": job.numbers()[3]}, times)

    def timed() -> Figures:
        fast, slow = (prices.rolling(window).mean() for window in setting.CROSSING_WINDOWS)
        weights = (fast > slow).astype(float)
        changed = weights[weights.ne(weights.shift(fill_value=0.0)).any(axis=1)]
        growth = _growth(prices, setting.ONE_RATE, bt.algos.WeighTarget(changed))
        return {"growth": growth * (setting.STILL_OPEN if weights["X"].iloc[-1] else 1.0)}

    return Task(timed)


def rebalance(job: Job) -> Task:
    times = pd.date_range("2000-01-03", periods=job.size, freq="B")
    prices = pd.DataFrame(job.numbers(), times, [f"A{asset:03d}" for asset in range(setting.ASSETS)])
    weights = dict.fromkeys(prices.columns, setting.INVESTED / setting.ASSETS)

    def timed() -> Figures:
        monthly = bt.algos.RunMonthly(run_on_first_date=True)
        return {"growth": _growth(prices, setting.FEE_RATE, monthly, bt.algos.WeighSpecified(**weights))}

    return Task(timed)


WORKLOADS = {"w2": backtest, "w4": rebalance}
