"""arch: its GARCH as it comes; its independent bootstrap with a function per path."""

from __future__ import annotations

from typing import Any

import numpy as np
from arch import arch_model
from arch.bootstrap import IIDBootstrap

from benchmarks.harness import Figures, Job, Task
from benchmarks.risk_setting import PATH_STEPS

PACKAGES = ("arch", "numpy")


def garch(job: Job) -> Task:
    returns = 100.0 * job.numbers()

    def fitted(**options: Any) -> Any:
        return arch_model(returns, vol="GARCH", p=1, q=1, rescale=False).fit(disp="off", **options)

    def timed() -> Figures:
        return {"log_likelihood": fitted().loglikelihood}

    def untimed() -> Figures:
        found = fitted(tol=1e-14).params  # as it comes it stops where the parameters still move in their fourth digit
        return {name.removesuffix("[1]"): float(value) for name, value in found.items()}

    return Task(timed, untimed)


def bootstrap(job: Job) -> Task:
    returns = job.numbers()

    def figures(drawn: np.ndarray) -> np.ndarray:
        wealth = np.cumprod(1.0 + drawn[:PATH_STEPS])
        return np.array([wealth[-1], (wealth / np.maximum(np.maximum.accumulate(wealth), 1.0) - 1.0).min()])

    def timed() -> Figures:
        terminal, drawdown = IIDBootstrap(returns, seed=1).apply(figures, job.size).T
        low, middle = np.quantile(terminal, [0.25, 0.5])
        return {"terminal_quartile": low, "median_terminal": middle, "mean_drawdown": drawdown.mean()}

    return Task(timed)


WORKLOADS = {"w6-garch": garch, "w6-bootstrap": bootstrap}
