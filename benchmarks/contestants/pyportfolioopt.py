"""PyPortfolioOpt: hierarchical risk parity, single linkage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pypfopt import HRPOpt

from benchmarks.harness import Figures, Job, Task

PACKAGES = ("pyportfolioopt", "numpy", "pandas")


def parity(job: Job) -> Task:
    rows = job.numbers()
    table = pd.DataFrame(rows, pd.date_range("2000-01-03", periods=len(rows), freq="B")).add_prefix("A")

    def timed() -> Figures:
        weights = HRPOpt(table).optimize()
        return {"weights": np.array([weights[name] for name in table])}

    return Task(timed)


WORKLOADS = {"w6-hrp": parity}
