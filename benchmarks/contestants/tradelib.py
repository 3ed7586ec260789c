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
from benchmarks.risk_setting import PATH_STEPS, TAIL, pair_places
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
from tradelib.portfolio.covariance import LedoitWolf
from tradelib.portfolio.hierarchical import HierarchicalRiskParity
from tradelib.risk import Exits, FixedFraction, fit_garch, historical_risk, scan_pairs
from tradelib.strategies import TrendFollowing
from tradelib.validation.bootstrap import block_bootstrap

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


def _asset_table(job: Job) -> pd.DataFrame:
    rows = job.numbers()
    return pd.DataFrame(rows, pd.date_range("2000-01-03", periods=len(rows), freq="B")).add_prefix("A")


def pairs(job: Job) -> Task:
    prices = _asset_table(job).map(np.exp)
    places = pair_places(job.size)
    chosen = list(zip(prices.columns[places[:, 0]], prices.columns[places[:, 1]], strict=True))
    asked: dict[str, Any] = {"directions": "one"} if job.size == setting.FULL_SIZES[job.workload] else {"pairs": chosen}

    def timed() -> Figures:
        table = scan_pairs(prices, lags="aic", **asked).table
        return {name: table[name].to_numpy() for name in ("statistic", "pvalue")}

    return Task(timed)


def parity(job: Job) -> Task:
    table = _asset_table(job)

    def timed() -> Figures:
        return {"weights": HierarchicalRiskParity(distance="condensed").weights(table).weights.to_numpy()}

    def untimed() -> Figures:
        ordered = HierarchicalRiskParity(distance="condensed", optimal_order=True).weights(table)
        return {"weights_optimal_order": ordered.weights.to_numpy()}

    return Task(timed, untimed)


def covariance(job: Job) -> Task:
    table = _asset_table(job)

    def timed() -> Figures:
        found = LedoitWolf().estimate(table)
        matrix = found.matrix.to_numpy()
        return {"shrinkage": found.shrinkage, "variances": np.diagonal(matrix), "first_row": matrix[0]}

    return Task(timed)


def garch(job: Job) -> Task:
    returns = job.numbers()

    def timed() -> Figures:
        found = fit_garch(returns)
        figures = ("log_likelihood", "mu", "omega", "alpha", "beta")
        return {name: getattr(found, name) for name in figures}

    return Task(timed)


def bootstrap(job: Job) -> Task:
    returns = job.numbers()

    def timed() -> Figures:
        found = block_bootstrap(returns, paths=job.size, horizon=PATH_STEPS, method="iid")
        low, middle = np.quantile(found.terminal, [0.25, 0.5])
        drawdown = found.maximum_drawdown.mean()
        return {"terminal_quartile": low, "median_terminal": middle, "mean_drawdown": drawdown}

    return Task(timed)


def tails(job: Job) -> Task:
    returns = job.numbers()

    def timed() -> Figures:
        var, es = historical_risk(returns, TAIL)
        return {"var": var, "es": es}

    return Task(timed)


WORKLOADS = {
    "w2": backtest,
    "w3": sweeping,
    "w4": rebalance,
    "w5": lambda job: _stops(Exits(stop_loss=setting.STOP_LOSS, take_profit=setting.TAKE_PROFIT), job),
    "w5-trailing": lambda job: _stops(Exits(trailing_stop=setting.TRAILING_STOP, take_profit=setting.TAKE_PROFIT), job),
    "w6-pairs": pairs,
    "w6-hrp": parity,
    "w6-covariance": covariance,
    "w6-garch": garch,
    "w6-bootstrap": bootstrap,
    "w6-var": tails,
    "w7": metrics,
}
