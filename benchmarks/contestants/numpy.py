"""numpy alone: the reference that shares no code with any library."""

from __future__ import annotations

import numpy as np

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task
from benchmarks.reference import rebalanced
from benchmarks.risk_setting import PATH_STEPS, TAIL

PACKAGES = ("numpy",)


def rebalance(job: Job) -> Task:
    prices, months = job.numbers(), setting.month_starts(job.size)

    def timed() -> Figures:
        equity, _ = rebalanced(prices, months, setting.INVESTED)
        drawdown = float((equity / np.maximum(np.maximum.accumulate(equity), 1.0) - 1.0).min())
        return {"growth": equity[-1], "maximum_drawdown": drawdown, "fully_invested": 1.0}

    return Task(timed)


def metrics(job: Job) -> Task:
    returns, periods = job.numbers(), setting.PERIODS_PER_YEAR

    def timed() -> Figures:
        mean, downside = returns.mean(0), np.sqrt((np.minimum(returns, 0.0) ** 2).mean(0))
        wealth = np.cumprod(1.0 + returns, axis=0)
        drawdown = (wealth / np.maximum(np.maximum.accumulate(wealth, axis=0), 1.0) - 1.0).min(0)
        return {
            "sharpe_ratio": mean / returns.std(0, ddof=1) * periods**0.5,
            "sortino_ratio": mean / downside * periods**0.5,
            "maximum_drawdown": drawdown,
            "calmar_ratio": (wealth[-1] ** (periods / len(returns)) - 1.0) / -drawdown,
        }

    return Task(timed)


def bootstrap(job: Job) -> Task:
    returns = job.numbers()

    def timed() -> Figures:
        drawn = np.random.default_rng(1).choice(returns, (job.size, PATH_STEPS))
        wealth = np.cumprod(1.0 + drawn, axis=1)
        drawdown = (wealth / np.maximum(np.maximum.accumulate(wealth, axis=1), 1.0) - 1.0).min(axis=1)
        low, middle = np.quantile(wealth[:, -1], [0.25, 0.5])
        return {"terminal_quartile": low, "median_terminal": middle, "mean_drawdown": drawdown.mean()}

    return Task(timed)


def tails(job: Job) -> Task:
    returns = job.numbers()

    def timed() -> Figures:
        quantile = np.quantile(returns, TAIL, axis=0)
        beyond = returns <= quantile
        return {"var": -quantile, "es": -np.where(beyond, returns, 0.0).sum(axis=0) / beyond.sum(axis=0)}

    return Task(timed)


WORKLOADS = {"w4": rebalance, "w6-bootstrap": bootstrap, "w6-var": tails, "w7": metrics}
