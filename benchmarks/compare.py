"""Are the results the same? A library that is fast and wrong has not won."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workloads import KNOWN_DIFFERENCES, WORKLOADS

__all__ = ["Difference", "compare", "relative_difference"]


@dataclass(frozen=True)
class Difference:
    """One figure that is not equal: by how much (relative, the largest), how many of how many, and the known reason."""

    workload: str
    contestant: str
    figure: str
    largest: float
    unequal: int
    count: int
    reason: str
    allowed: float

    @property
    def is_fault(self) -> bool:
        """True unless the difference is known and as small as it is known to be."""
        return not (self.reason and self.largest <= self.allowed)

    @property
    def disqualifies(self) -> bool:
        """True where the work done was another one, so that its speed says nothing."""
        return self.is_fault or math.isinf(self.allowed)

    def __str__(self) -> str:
        how_many = f"{self.unequal} of {self.count}, by up to " if self.count > 1 else "by "
        why = (
            self.reason
            if not self.is_fault
            else f"NOT EXPECTED{f' (known: up to {self.allowed:g})' if self.reason else ''}"
        )
        return f"{self.contestant}, {self.figure}: {how_many}{self.largest:.2g}: {why}"


def relative_difference(ours: Any, theirs: Any) -> np.ndarray:
    """Element by element, relative to the larger; NaN against NaN is equal, against a number infinitely far."""
    one, other = np.broadcast_arrays(np.atleast_1d(np.asarray(ours, float)), np.atleast_1d(np.asarray(theirs, float)))
    scale = np.maximum(np.maximum(np.abs(one), np.abs(other)), np.finfo(float).tiny)
    apart = np.where(one == other, 0.0, np.abs(one - other) / scale)
    return np.where(np.isnan(one) & np.isnan(other), 0.0, np.where(np.isnan(apart), math.inf, apart))


def compare(workload: str, contestant: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """The figures of `theirs` that differ from `ours`; `ValueError` when it has none in common, or another shape."""
    if not set(theirs) <= set(ours) or not theirs:
        raise ValueError(f"{contestant}, {workload}: figures {sorted(theirs)} cannot be compared with {sorted(ours)}")
    found = []
    for figure, value in theirs.items():
        if np.shape(value) != np.shape(ours[figure]):
            raise ValueError(
                f"{contestant}, {workload}: {figure} has shape {np.shape(value)}, not {np.shape(ours[figure])}"
            )
        apart = relative_difference(ours[figure], value)
        if (unequal := int((apart > WORKLOADS[workload].equal).sum())) > 0:
            allowed, reason = KNOWN_DIFFERENCES.get((contestant, workload, figure), (0.0, ""))
            largest = float(apart.max())
            found.append(Difference(workload, contestant, figure, largest, unequal, apart.size, reason, allowed))
    return found
