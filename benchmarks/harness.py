"""Runs one job of one contestant in this process and prints one JSON line: `python -m benchmarks.harness JOB`.

Seconds are the median of at least three calls after a first one; the first call and the import are told apart, and peak
memory is the high-water mark of the whole process, data included. Needs numpy and nothing of tradelib.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Figures", "Job", "Task", "peak_memory"]

Figures = dict[str, Any]
"""What a call found out, by name: a number, or an array with one number per pair or strategy."""


@dataclass(frozen=True)
class Job:
    """`size` is counted in the workload's own unit; `engine` is for libraries that have several; `data` a `.npy`."""

    module: str
    workload: str
    size: int
    engine: str
    data: str
    arrays: str
    least_calls: int
    least_seconds: float
    most_calls: int

    def numbers(self) -> np.ndarray:
        """The workload's data."""
        return np.load(self.data)


@dataclass(frozen=True)
class Task:
    """What is timed, and what is computed once afterwards for the comparison alone."""

    timed: Callable[[], Figures]
    untimed: Callable[[], Figures] = dict


def peak_memory() -> float:
    """Largest resident set of this process so far, in MB (Linux: VmHWM)."""
    try:
        with open("/proc/self/status", encoding="utf-8") as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job: Job) -> dict[str, Any]:
    """Import, prepare, call: everything that is known about one job."""
    began = time.perf_counter()
    contestant = importlib.import_module(f"benchmarks.contestants.{job.module}")
    imported = time.perf_counter() - began
    prepare: Mapping[str, Callable[[Job], Task]] = contestant.WORKLOADS
    task = prepare[job.workload](job)
    began = time.perf_counter()
    figures = task.timed()
    first = time.perf_counter() - began
    seconds = _calls(task.timed, job)
    memory = peak_memory()
    numbers = _split({**figures, **task.untimed()}, job.arrays)
    times = {"seconds": statistics.median(seconds), "best": min(seconds)} if seconds else {}
    return {
        **times,
        "calls": len(seconds),
        "first_call": first,
        "import": imported,
        "peak_memory": memory,
        "load": os.getloadavg()[0],
        "figures": numbers,
        "versions": _versions(contestant.PACKAGES),
    }


def _calls(work: Callable[[], Figures], job: Job) -> list[float]:
    seconds: list[float] = []
    while len(seconds) < job.least_calls or (sum(seconds) < job.least_seconds and len(seconds) < job.most_calls):
        gc.collect()
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def _split(figures: Figures, path: str) -> dict[str, float]:
    """Single numbers as they are; arrays go to the file `path`."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in figures.items() if np.ndim(value)}
    np.savez(path, allow_pickle=False, **arrays)
    return {name: float(value) for name, value in figures.items() if not np.ndim(value)}


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}


if __name__ == "__main__":
    json.dump(measure(Job(**json.loads(sys.argv[1]))), sys.stdout)
