"""scikit-learn: the function, which is faster than the estimator (that one inverts the matrix as well)."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf

from benchmarks.harness import Figures, Job, Task

PACKAGES = ("scikit-learn", "numpy")


def covariance(job: Job) -> Task:
    rows = job.numbers()

    def timed() -> Figures:
        matrix, shrinkage = ledoit_wolf(rows)
        return {"shrinkage": shrinkage, "variances": np.diagonal(matrix), "first_row": matrix[0]}

    return Task(timed)


WORKLOADS = {"w6-covariance": covariance}
