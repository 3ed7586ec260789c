"""tradelib, through its public calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task
from benchmarks.reference import rebalanced
from tradelib.backtest import (
    Costs,
    DecisionRule,
    Market,
    TrialLedger,
    run,
    run_signals,
    run_weights,
    sweep,
)  # fmt: skip
from tradelib.backtest.metrics import performance_table
from tradelib.data import make_bars
from tradelib.data.panel import panel_from_wide
from tradelib.home import project_home
from tradelib.indicators import sma
from tradelib.risk import Exits, FixedFraction
from tradelib.strategies import TrendFollowing

PACKAGES = ("tradelib", "numba", "numpy", "pandas")
FIGURES = ("total_return", "maximum_drawdown", "sharpe_ratio", "trades")


def _terms(slippage: float = setting.SLIPPAGE) -> dict[str, Any]:
    costs = Costs(fee_rate=setting.FEE_RATE, slippage=slippage)
    return {"costs": costs, "market": Market(insufficient_cash="reduce"), "cash": setting.CASH}


def _ledgers() -> Iterator[TrialLedger]:
    """A new trial ledger at each `next`: a sweep that repeats known trials would have nothing to write."""
    folder = project_home()
    return (TrialLedger(folder / f"{count}.sqlite") for count in itertools.count())


def _bars(job: Job, frequency: str, timeframe: str) -> pd.DataFrame:
    rows = job.numbers()
    times = pd.date_range("2000-01-01", periods=rows.shape[1], freq=frequency, tz="UTC", name="time")
    frame = pd.DataFrame(dict(zip(("open", "high", "low", "close"), rows, strict=True)), times).assign(volume=1.0)
    return make_bars(frame, symbol="X", timeframe=timeframe, source="benchmark", calendar="24/7")


def _crossing(fast: int, slow: int) -> DecisionRule:
    strategy = TrendFollowing(fast=fast, slow=slow)
    return DecisionRule(strategy=strategy, sizing=FixedFraction(fraction=1.0), rebalance_band=None)


def backtest(job: Job) -> Task:
    bars = _bars(job, "min", "1m")

    def timed() -> Figures:
        result = run(_crossing(*setting.CROSSING_WINDOWS), bars, **_terms())
        growth, metrics = result.equity.iloc[-1] / setting.CASH, result.performance
        return {"growth": growth, "trades": len(result.trades), **{name: metrics[name] for name in FIGURES[1:3]}}

    return Task(timed)


def sweeping(job: Job) -> Task:
    bars, ledgers, (fast, slow) = _bars(job, "D", "1d"), _ledgers(), setting.grid(job.size)
    points = {"strategy.fast": fast, "strategy.slow": slow}

    def timed() -> Figures:
        rule = _crossing(fast[0], slow[0])
        found = sweep(rule, bars, points, **_terms(), start=bars.index[0], ledger=next(ledgers)).frame
        table = found.sort_values(list(points), kind="stable")[list(FIGURES)]
        best = int(np.argmax(table["total_return"]))
        return {**{name: table[name].to_numpy() for name in FIGURES}, "best_pair": best}

    return Task(timed)


def rebalance(job: Job) -> Task:
    prices, months = job.numbers(), setting.month_starts(job.size)
    times = pd.date_range("2000-01-03", periods=job.size, freq="B", tz="UTC", name="time")
    closes = pd.DataFrame(prices, times, [f"A{asset:03d}" for asset in range(setting.ASSETS)])
    panel = panel_from_wide(closes, timeframe="1d", calendar="24/7")

    def result(invested: float) -> Any:
        weights = np.full(prices.shape, np.nan)
        weights[months] = invested / setting.ASSETS
        return run_weights(weights, panel, **_terms(slippage=0.0))

    def timed() -> Figures:
        held = result(setting.INVESTED)
        return {"growth": held.equity.iloc[-1] / setting.CASH, **{name: held.metrics[name] for name in FIGURES[1:3]}}

    def untimed() -> Figures:
        held = result(1.0)
        last = int(np.argmin(held.positions.to_numpy()[1] * prices[0]))
        expected, _ = rebalanced(prices, months, 1.0, last)
        return {"fully_invested": held.equity.iloc[-1] / setting.CASH / expected[-1]}

    return Task(timed, untimed)


def _stops(exits: Exits, job: Job) -> Task:
    bars, (fast, slow) = _bars(job, "min", "1m"), setting.STOP_WINDOWS

    def timed() -> Figures:
        above = (sma(bars["close"], fast) > sma(bars["close"], slow)).to_numpy()
        entries = above & ~np.r_[False, above[:-1]]
        entries[:slow] = False
        result = run_signals(entries, None, bars, size=1.0, exits_policy=exits, **_terms())
        growth, trades = result.equity.iloc[-1] / setting.CASH, result.trades
        targets = int((trades["reason"] == "take_profit").sum())
        slipped = growth * (1.0 - setting.SLIPPAGE) ** targets
        return {"growth": growth, "growth_if_targets_slip": slipped, "trades": len(trades), "targets": targets}

    return Task(timed)


def metrics(job: Job) -> Task:
    table = pd.DataFrame(job.numbers(), pd.date_range("2000-01-03", periods=setting.DAYS, freq="B"))

    def timed() -> Figures:
        found = performance_table(table, setting.PERIODS_PER_YEAR)
        return {str(name): column.to_numpy() for name, column in found.items()}

    return Task(timed)


WORKLOADS = {
    "w2": backtest,
    "w3": sweeping,
    "w4": rebalance,
    "w5": lambda job: _stops(Exits(stop_loss=setting.STOP_LOSS, take_profit=setting.TAKE_PROFIT), job),
    "w5-trailing": lambda job: _stops(Exits(trailing_stop=setting.TRAILING_STOP, take_profit=setting.TAKE_PROFIT), job),
    "w7": metrics,
}
