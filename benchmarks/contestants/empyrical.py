"""empyrical: one column at a time."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task
from benchmarks.risk_setting import TAIL

PACKAGES = ("empyrical-reloaded", "numpy", "pandas")


def metrics(job: Job) -> Task:
    table = pd.DataFrame(job.numbers(), pd.date_range("2000-01-03", periods=setting.DAYS, freq="B"))
    names = ("sharpe_ratio", "sortino_ratio", "max_drawdown", "calmar_ratio")

    def timed() -> Figures:
        found = {name: np.array([getattr(empyrical, name)(table[k]) for k in table]) for name in names}
        return {"maximum_drawdown": found.pop("max_drawdown"), **found}

    return Task(timed)


def tails(job: Job) -> Task:
    columns = list(np.ascontiguousarray(job.numbers().T))

    def timed() -> Figures:
        var = np.array([empyrical.value_at_risk(column, TAIL) for column in columns])
        es = np.array([empyrical.conditional_value_at_risk(column, TAIL) for column in columns])
        return {"var": -var, "es": -es}

    return Task(timed)


WORKLOADS = {"w6-var": tails, "w7": metrics}
