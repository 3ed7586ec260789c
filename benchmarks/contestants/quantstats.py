"""quantstats: one column at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import quantstats

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task

PACKAGES = ("quantstats", "numpy", "pandas")


def metrics(job: Job) -> Task:
    table = pd.DataFrame(job.numbers(), pd.date_range("2000-01-03", periods=setting.DAYS, freq="B"))
    calls: dict[str, Callable[..., Any]] = {
        "sharpe_ratio": quantstats.stats.sharpe,
        "sortino_ratio": quantstats.stats.sortino,
        "maximum_drawdown": quantstats.stats.max_drawdown,
        "calmar_ratio": quantstats.stats.calmar,
    }

    def timed() -> Figures:
        return {name: np.array([float(call(table[k])) for k in table]) for name, call in calls.items()}

    return Task(timed)


WORKLOADS = {"w7": metrics}
