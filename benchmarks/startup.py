"""How long until the first result: an import, and a whole process from its start to one small backtest."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.environments import NotInstalled, environment
from benchmarks.harness import Job
from benchmarks.rows import CACHE, child_environment, run_job
from benchmarks.setting import data_file
from benchmarks.workloads import CONTESTANTS, OURS, Contestant
from tests.environment import PROJECT

__all__ = ["BARS", "RUNNER", "Start", "starts"]

BARS = 10_000
RUNS = 3
RUNNER = "from tradelib.live import *"
"""All names of the runner (`import tradelib.live` alone loads none); the exchange client comes with a connection."""
_IMPORTS = {
    OURS: ("import tradelib", "from tradelib.backtest import *", RUNNER),
    "raptorbt": ("import raptorbt",),
    "vectorbt (Rust)": ("import vectorbt",),
    "backtesting.py": ("import backtesting",),
    "bt": ("import bt",),
    "backtrader": ("import backtrader",),
}


@dataclass(frozen=True)
class Start:
    """Median seconds of a whole process (interpreter included) and its peak memory in MB; `problem` where it failed."""

    contestant: str
    what: str
    seconds: float = 0.0
    peak_memory: float = 0.0
    problem: str = ""


def starts(contestants: tuple[Contestant, ...] = CONTESTANTS) -> list[Start]:
    """Imports of all libraries, and the first result of those that backtest."""
    found = []
    for contestant in contestants:
        for statement in _IMPORTS.get(contestant.name, ()):
            found.append(_start(contestant, statement, partial(_import, contestant, statement)))
        if "w2" in contestant.workloads:
            found.append(_start(contestant, f"first result, {BARS:,} bars", partial(_first_result, contestant)))
    return found


def _start(contestant: Contestant, what: str, process: Callable[[], float]) -> Start:
    try:
        process()
        seconds, memory = [], 0.0
        for _ in range(RUNS):
            began = time.perf_counter()
            memory = process()
            seconds.append(time.perf_counter() - began)
    except NotInstalled as error:
        return Start(contestant.name, what, problem=f"could not be installed: {error}")
    except RuntimeError as error:
        return Start(contestant.name, what, problem=f"failed: {error}")
    return Start(contestant.name, what, statistics.median(seconds), memory)


def _import(contestant: Contestant, statement: str) -> float:
    python = environment(contestant.environment, CACHE / "environments")
    code = f"{statement}; print(next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        settings = child_environment(contestant, home)
        done = subprocess.run([python, "-c", code], cwd=PROJECT, env=settings, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout) / 1024


def _first_result(contestant: Contestant) -> float:
    data, arrays = data_file("w2", BARS, CACHE / "data"), CACHE / "first-result.npz"
    job = Job(contestant.module, "w2", BARS, contestant.engine, str(data), str(arrays), 0, 0.0, 0)
    return float(run_job(contestant, job)["peak_memory"])
