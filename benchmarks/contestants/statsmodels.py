"""statsmodels: one pair at a time, each regression on one thread, which suits its small matrices best."""

from __future__ import annotations

import numpy as np
from statsmodels.tsa.stattools import coint
from threadpoolctl import threadpool_limits

from benchmarks.harness import Figures, Job, Task
from benchmarks.risk_setting import pair_places

PACKAGES = ("statsmodels", "numpy")


def pairs(job: Job) -> Task:
    logs, places = job.numbers(), pair_places(job.size)

    def timed() -> Figures:
        with threadpool_limits(1):
            found = [coint(logs[:, one], logs[:, other], return_results=False)[:2] for one, other in places]
        statistic, pvalue = np.array(found).T
        return {"statistic": statistic, "pvalue": pvalue}

    return Task(timed)


WORKLOADS = {"w6-pairs": pairs}
