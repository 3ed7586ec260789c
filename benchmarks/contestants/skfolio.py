"""skfolio: hierarchical risk parity as its manual sets it up, single linkage."""

from __future__ import annotations

import pandas as pd
from skfolio.cluster import HierarchicalClustering, LinkageMethod
from skfolio.optimization import HierarchicalRiskParity

from benchmarks.harness import Figures, Job, Task

PACKAGES = ("skfolio", "numpy", "pandas")


def parity(job: Job) -> Task:
    rows = job.numbers()
    table = pd.DataFrame(rows, pd.date_range("2000-01-03", periods=len(rows), freq="B")).add_prefix("A")
    tree = HierarchicalClustering(linkage_method=LinkageMethod.SINGLE)

    def timed() -> Figures:
        model = HierarchicalRiskParity(hierarchical_clustering_estimator=tree).fit(table)
        return {"weights_optimal_order": model.weights_}

    return Task(timed)


WORKLOADS = {"w6-hrp": parity}
