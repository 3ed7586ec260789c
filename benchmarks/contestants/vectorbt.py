"""vectorbt, with its numba engine or its Rust engine."""

from __future__ import annotations

import numpy as np
import pandas as pd
import vectorbt as vbt

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task
from benchmarks.reference import rebalanced

PACKAGES = ("vectorbt", "vectorbt-rust", "numba", "numpy", "pandas")
COSTS = {"fees": setting.FEE_RATE, "slippage": setting.SLIPPAGE}
CHUNK = 500
"""Pairs in one broadcast: all 10,000 at once need more than 7 GB and take twice as long."""


def _minutes(row: np.ndarray) -> pd.Series:
    return pd.Series(row, index=pd.date_range("2000-01-01", periods=len(row), freq="min"))


def _next_bar(decided: np.ndarray) -> np.ndarray:
    """Decisions on the bar whose open they are filled at; the last one is never filled."""
    moved = np.empty_like(decided)
    moved[1:], moved[0] = decided[:-1], np.nan if decided.dtype == float else False
    return moved


def _figures(portfolio: vbt.Portfolio, cash: float) -> Figures:
    return {
        "growth": float(portfolio.final_value()) / cash,
        "trades": int(portfolio.trades.count()),
        "maximum_drawdown": float(portfolio.max_drawdown()),
        "sharpe_ratio": float(portfolio.sharpe_ratio()),
    }


def backtest(job: Job) -> Task:
    vbt.settings["engine"] = job.engine
    (opening, _, _, close), (fast, slow) = map(_minutes, job.numbers()), setting.CROSSING_WINDOWS

    def timed() -> Figures:
        short, long = vbt.MA.run(close, fast), vbt.MA.run(close, slow)
        signals = [_next_bar(state.to_numpy()) for state in (short.ma_above(long), short.ma_below(long))]
        account = {"init_cash": setting.CASH, "freq": "1min"}
        portfolio = vbt.Portfolio.from_signals(close, *signals, price=opening, **COSTS, **account)
        portfolio.value()
        return _figures(portfolio, setting.CASH)

    return Task(timed)


def sweep(job: Job) -> Task:
    vbt.settings["engine"] = job.engine
    days = pd.date_range("2000-01-01", periods=setting.SWEEP_BARS, freq="D")
    opening, _, _, close = (pd.Series(row, index=days) for row in job.numbers())
    fast, slow = setting.grid(job.size)
    pairs = [(a, b) for a in fast for b in slow]

    def chunk(some: list[tuple[int, int]]) -> list[np.ndarray]:
        short, long = (vbt.MA.run(close, [pair[k] for pair in some]) for k in (0, 1))
        signals = [_next_bar(state.to_numpy()) for state in (short.ma_above(long), short.ma_below(long))]
        account = {"init_cash": setting.CASH, "freq": "1D"}
        portfolio = vbt.Portfolio.from_signals(close, *signals, price=opening.to_numpy()[:, None], **COSTS, **account)
        figures = (portfolio.total_return(), portfolio.max_drawdown(), portfolio.sharpe_ratio())
        return [*(figure.to_numpy() for figure in figures), portfolio.trades.count().to_numpy()]

    def timed() -> Figures:
        parts = [chunk(pairs[start : start + CHUNK]) for start in range(0, len(pairs), CHUNK)]
        names = ("total_return", "maximum_drawdown", "sharpe_ratio", "trades")
        table = dict(zip(names, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True))
        return {**table, "best_pair": int(np.argmax(table["total_return"]))}

    return Task(timed)


def rebalance(job: Job) -> Task:
    vbt.settings["engine"] = job.engine
    prices = pd.DataFrame(job.numbers(), index=pd.date_range("2000-01-03", periods=job.size, freq="B"))
    opening = np.vstack([prices.to_numpy()[:1], prices.to_numpy()[:-1]])
    months = setting.month_starts(job.size)

    def portfolio(invested: float) -> vbt.Portfolio:
        size = np.full(prices.shape, np.nan)
        size[months] = invested / setting.ASSETS
        account = {"init_cash": setting.CASH, "group_by": True, "cash_sharing": True, "call_seq": "auto"}
        orders = {"size": _next_bar(size), "size_type": "targetpercent", "price": opening, "fees": setting.FEE_RATE}
        return vbt.Portfolio.from_orders(prices, **orders, **account, freq="1D")

    def timed() -> Figures:
        held = portfolio(setting.INVESTED)
        held.value()
        figures = {"maximum_drawdown": float(held.max_drawdown()), "sharpe_ratio": float(held.sharpe_ratio())}
        return {"growth": float(held.final_value()) / setting.CASH, **figures}

    def untimed() -> Figures:
        held = portfolio(1.0)
        last = int(np.argmin(held.assets().to_numpy()[1] * opening[1]))
        expected, _ = rebalanced(prices.to_numpy(), months, 1.0, last)
        return {"fully_invested": float(held.final_value()) / setting.CASH / expected[-1]}

    return Task(timed, untimed)


def _stops(trailing: bool, job: Job) -> Task:
    vbt.settings["engine"] = job.engine
    opening, high, low, close = map(_minutes, job.numbers())
    fast, slow = setting.STOP_WINDOWS
    stop = setting.TRAILING_STOP if trailing else setting.STOP_LOSS
    stops = {"sl_stop": stop, "sl_trail": trailing, "tp_stop": setting.TAKE_PROFIT}

    def timed() -> Figures:
        entries = vbt.MA.run(close, fast).ma_crossed_above(vbt.MA.run(close, slow))
        portfolio = vbt.Portfolio.from_signals(
            close, entries, False, open=opening, high=high, low=low, **COSTS, **stops, init_cash=setting.CASH,
            freq="1min", stop_entry_price="fillprice", stop_exit_price="stopmarket",
        )  # fmt: skip
        portfolio.value()
        figures = _figures(portfolio, setting.CASH)
        return {"growth_if_targets_slip": figures.pop("growth"), "trades": figures["trades"]}

    return Task(timed)


def metrics(job: Job) -> Task:
    vbt.settings["engine"] = job.engine
    table = pd.DataFrame(job.numbers(), index=pd.date_range("2000-01-03", periods=setting.DAYS, freq="B"))

    def timed() -> Figures:
        figures = table.vbt.returns(freq="1D", year_freq="252 days")
        return {
            "sharpe_ratio": figures.sharpe_ratio().to_numpy(),
            "sortino_ratio": figures.sortino_ratio().to_numpy(),
            "maximum_drawdown": figures.max_drawdown().to_numpy(),
            "calmar_ratio": figures.calmar_ratio().to_numpy(),
        }

    return Task(timed)


WORKLOADS = {
    "w2": backtest,
    "w3": sweep,
    "w4": rebalance,
    "w5": lambda job: _stops(False, job),
    "w5-trailing": lambda job: _stops(True, job),
    "w7": metrics,
}
