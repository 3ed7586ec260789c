"""riskfolio: hierarchical risk parity on variances, Pearson correlation, single linkage."""

from __future__ import annotations

import pandas as pd
import riskfolio

from benchmarks.harness import Figures, Job, Task

PACKAGES = ("riskfolio-lib", "numpy", "pandas")


def parity(job: Job) -> Task:
    rows = job.numbers()
    table = pd.DataFrame(rows, pd.date_range("2000-01-03", periods=len(rows), freq="B")).add_prefix("A")

    def timed() -> Figures:
        portfolio = riskfolio.HCPortfolio(returns=table)
        weights = portfolio.optimization(model="HRP", codependence="pearson", rm="MV", linkage="single")
        return {"weights_optimal_order": weights.loc[table.columns, "weights"].to_numpy()}

    return Task(timed)


WORKLOADS = {"w6-hrp": parity}
