"""Measures one contestant on one workload in a process of its own, and remembers what peers took."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import NotInstalled, environment, requirements
from benchmarks.harness import Job
from benchmarks.setting import data_file
from benchmarks.workloads import OURS, WORKLOADS, Contestant
from tests.environment import PROJECT, project_environment

__all__ = ["CACHE", "CALLS", "ONE_CALL", "Row", "child_environment", "machine", "measured", "stored"]

CACHE = PROJECT / ".cache" / "benchmarks"
TIME_LIMIT = 300
CALLS = (3, 1.0, 25)
"""Least calls after the first one, least seconds that they take together, most calls."""
ONE_CALL = (1, 0.0, 1)
"""Enough to have the figures with which a peer at a smaller size is compared."""


@dataclass
class Row:
    """One contestant on one workload. Memory in MB, the rest in seconds.

    `older`: measured on this machine, but with code or pins that have changed since; `machine`: its digest.
    `problem` says why there are no numbers: in short, a colon, and the details, which stay off the page.
    """

    contestant: str
    workload: str
    size: int
    seconds: float = 0.0
    best: float = 0.0
    calls: int = 0
    first_call: float = 0.0
    imported: float = 0.0
    peak_memory: float = 0.0
    load: float = 0.0
    measured: str = ""
    problem: str = ""
    machine: str = ""
    older: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are numbers."""
        return not self.problem

    def seconds_at(self, size: int) -> float:
        """Seconds for another size, in proportion."""
        return self.seconds * size / self.size

    @property
    def per_item(self) -> float:
        """Nanoseconds per item of the workload."""
        return self.seconds / (self.size * WORKLOADS[self.workload].items) * 1e9


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{int(memory[0].split()[1]) / 2**20:.0f} GiB" if memory else "",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def child_environment(contestant: Contestant, home: str) -> dict[str, str]:
    """The project's settings, a home of its own for the trial ledger, and compiled peers kept apart."""
    own = {"TRADELIB_HOME": home} if contestant.name == OURS else {"NUMBA_CACHE_DIR": str(CACHE / "numba")}
    return os.environ | project_environment() | {"TQDM_DISABLE": "1"} | own


def stored(contestant: Contestant, workload: str, size: int) -> Row | None:
    """What was measured before on this machine, or why not; None where it was never tried.

    Where code or pins have changed since, the newest numbers from before, marked `older`.
    """
    path = _result_file(contestant, workload, size)
    found = [(True, path)] if path.exists() else [(False, other) for other in _siblings(path)]
    rows = [(current, file, Row(**json.loads(file.read_text(encoding="utf-8")))) for current, file in found]
    usable = [
        (row.measured, file, row) for current, file, row in rows if current or (row.ok and row.machine == _here())
    ]
    if not usable:
        return None
    _, path, row = max(usable, key=lambda item: (item[0], item[1].stat().st_mtime))
    row.older = not found[0][0]
    if row.ok:
        with np.load(path.with_suffix(".npz")) as arrays:
            row.figures |= {name: arrays[name] for name in arrays.files}
    return row


def measured(contestant: Contestant, workload: str, size: int, calls: tuple[int, float, int]) -> Row:
    """Run it now. Whatever goes wrong is a row that says so."""
    path = _result_file(contestant, workload, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    data = data_file(WORKLOADS[workload].data, size, CACHE / "data")
    arrays = str(path.with_suffix(".npz"))
    job = Job(contestant.module, workload, size, contestant.engine, str(data), arrays, *calls)
    try:
        found = run_job(contestant, job)
        found["imported"] = found.pop("import")
    except NotInstalled as error:
        found = {"problem": f"could not be installed: {error}"}
    except RuntimeError as error:
        found = {"problem": f"failed: {error}"}
    row = Row(contestant.name, workload, size, **found, measured=f"{datetime.now(UTC):%Y-%m-%d}", machine=_here())
    path.write_text(json.dumps(asdict(row)), encoding="utf-8")
    for other in _siblings(path) if row.ok else ():
        other.unlink()
        other.with_suffix(".npz").unlink(missing_ok=True)
    return stored(contestant, workload, size) or row


def run_job(contestant: Contestant, job: Job) -> dict[str, Any]:
    """The harness in a new process; `RuntimeError` with its last line where it fails."""
    python = environment(contestant.environment, CACHE / "environments")
    command = [str(python), "-m", "benchmarks.harness", json.dumps(asdict(job))]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        try:
            settings = {"cwd": PROJECT, "env": child_environment(contestant, home), "timeout": TIME_LIMIT}
            done = subprocess.run(command, **settings, capture_output=True, text=True)  # type: ignore[call-overload]
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"not finished after {TIME_LIMIT} s") from error
    if done.returncode:
        raise RuntimeError(next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "failed"))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _result_file(contestant: Contestant, workload: str, size: int) -> Path:
    """Named after everything that a peer's numbers depend on."""
    folder = Path(__file__).parent
    data = "risk_setting" if workload.startswith("w6") else "setting"
    shared = [folder / f"{name}.py" for name in ("harness", data, "reference")]
    sources = [*shared, folder / "contestants" / f"{contestant.module}.py"]
    told = [*(path.read_text(encoding="utf-8") for path in sources), requirements(contestant.environment)]
    who = (contestant.module, contestant.engine, contestant.environment)
    digest = hashlib.sha256(json.dumps([told, machine(), who]).encode()).hexdigest()
    return CACHE / "results" / f"{contestant.module}{contestant.engine}-{workload}-{size}-{digest[:12]}.json"


def _siblings(path: Path) -> list[Path]:
    """Results of the same contestant, workload and size with other code, pins or machine."""
    return [other for other in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.json") if other != path]


def _here() -> str:
    """A digest of this machine."""
    return hashlib.sha256(json.dumps(machine()).encode()).hexdigest()[:12]
