"""backtrader: an event loop in Python. GPL-3.0; it lives in an environment of its own."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task

PACKAGES = ("backtrader", "numpy", "pandas")
WORTH = (1.0 + setting.SLIPPAGE) * (1.0 + setting.FEE_RATE) * (1.0 + 1e-12)
"""Of a unit bought, over the close before; a hair more, or rounding may reject the order for lack of cash."""


class Crossing(bt.Strategy):
    """Long while the fast average is above the slow one."""

    params = (("fast", setting.CROSSING_WINDOWS[0]), ("slow", setting.CROSSING_WINDOWS[1]))

    def __init__(self) -> None:
        self.short, self.long = (bt.ind.SMA(period=window) for window in (self.p.fast, self.p.slow))

    def next(self) -> None:
        above = self.short[0] > self.long[0]
        if above and not self.position:
            self.buy(size=self.broker.getcash() / (self.data.close[0] * WORTH))
        elif not above and self.position:
            self.close()


class Monthly(bt.Strategy):
    """Equal weights at each month's first close, sales first."""

    def __init__(self) -> None:
        self.month = 0

    def next(self) -> None:
        month = self.datas[0].datetime.date(0).month
        if month == self.month:
            return
        self.month = month
        aim = setting.INVESTED * self.broker.getvalue() / len(self.datas)
        orders = {data: aim / data.close[0] - self.getposition(data).size for data in self.datas}
        for data, size in sorted(orders.items(), key=lambda item: item[1] * item[0].close[0]):
            self.buy(data, size=size) if size > 0 else self.sell(data, size=-size)


def _cerebro(slippage: float, **options: Any) -> bt.Cerebro:
    cerebro = bt.Cerebro(stdstats=False, **options)
    cerebro.broker.setcash(setting.CASH)
    cerebro.broker.setcommission(commission=setting.FEE_RATE)
    cerebro.broker.set_slippage_perc(slippage, slip_open=True, slip_out=True)
    return cerebro


def _feed(rows: np.ndarray, frequency: str, first: str = "2000-01-01") -> pd.DataFrame:
    times = pd.date_range(first, periods=rows.shape[1], freq=frequency)
    return pd.DataFrame(dict(zip(("open", "high", "low", "close"), rows, strict=True)), times).assign(volume=1.0)


def backtest(job: Job) -> Task:
    bars = _feed(job.numbers(), "min")

    def timed() -> Figures:
        cerebro = _cerebro(setting.SLIPPAGE)
        cerebro.adddata(bt.feeds.PandasData(dataname=bars))
        cerebro.addstrategy(Crossing)
        cerebro.addanalyzer(bt.analyzers.DrawDown, _name="drawdown")
        cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
        found = cerebro.run()[0].analyzers
        worst = -found.drawdown.get_analysis().max.drawdown / 100.0
        trades = found.trades.get_analysis().total.total
        return {"growth": cerebro.broker.getvalue() / setting.CASH, "trades": trades, "maximum_drawdown": worst}

    return Task(timed)


class Outcome(bt.Analyzer):
    """Total return of one run: what comes back from a worker process."""

    def stop(self) -> None:
        self.total_return = self.strategy.broker.getvalue() / setting.CASH - 1.0


def sweep(job: Job) -> Task:
    bars, (fast, slow) = _feed(job.numbers(), "D"), setting.grid(job.size)

    def timed() -> Figures:
        cerebro = _cerebro(setting.SLIPPAGE, maxcpus=None)
        cerebro.adddata(bt.feeds.PandasData(dataname=bars))
        cerebro.optstrategy(Crossing, fast=fast, slow=slow)
        cerebro.addanalyzer(Outcome, _name="outcome")
        runs = [run for batch in cerebro.run() for run in batch]
        found = {(run.p.fast, run.p.slow): run.analyzers.outcome.total_return for run in runs}
        returns = np.array([found[pair] for pair in sorted(found)])
        return {"total_return": returns, "best_pair": int(np.argmax(returns))}

    return Task(timed)


def rebalance(job: Job) -> Task:
    prices = job.numbers()
    opening = np.vstack([prices[:1], prices[:-1]])
    highest, lowest = np.maximum(opening, prices), np.minimum(opening, prices)
    tables = [opening, highest, lowest, prices]
    feeds = [_feed(np.stack([table[:, k] for table in tables]), "B", "2000-01-03") for k in range(setting.ASSETS)]

    def timed() -> Figures:
        cerebro = _cerebro(0.0)
        for bars in feeds:
            cerebro.adddata(bt.feeds.PandasData(dataname=bars))
        cerebro.addstrategy(Monthly)
        cerebro.run()
        return {"growth": cerebro.broker.getvalue() / setting.CASH}

    return Task(timed)


WORKLOADS = {"w2": backtest, "w3": sweep, "w4": rebalance}
