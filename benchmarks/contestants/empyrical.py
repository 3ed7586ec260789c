"""empyrical: one column at a time."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task

PACKAGES = ("empyrical-reloaded", "numpy", "pandas")


def metrics(job: Job) -> Task:
    table = pd.DataFrame(job.numbers(), pd.date_range("2000-01-03", periods=setting.DAYS, freq="B"))
    names = ("sharpe_ratio", "sortino_ratio", "max_drawdown", "calmar_ratio")

    def timed() -> Figures:
        found = {name: np.array([getattr(empyrical, name)(table[k]) for k in table]) for name in names}
        return {"maximum_drawdown": found.pop("max_drawdown"), **found}

    return Task(timed)


WORKLOADS = {"w7": metrics}
