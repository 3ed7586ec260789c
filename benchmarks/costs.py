"""How the cost of each routine of risk and validation grows with its data, as a table."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from benchmarks import tables
from benchmarks.rows import CACHE, child_environment
from benchmarks.workloads import CONTESTANTS, OURS
from tests.environment import PROJECT

__all__ = ["Cost", "measured", "report", "stored"]

STORE = CACHE / "costs.json"


@dataclass(frozen=True)
class Cost:
    """Seconds of one routine at each size; `unit`: what the sizes count."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    on: str = ""

    @property
    def power(self) -> float:
        """Exponent of the cost between the two largest sizes: 1 where it grows in proportion to them."""
        return math.log(self.seconds[-1] / self.seconds[-2]) / math.log(self.sizes[-1] / self.sizes[-2])


def measured() -> list[Cost]:
    """Measure all of them now, in a process of its own; `RuntimeError` with its last line where it fails."""
    ours = next(who for who in CONTESTANTS if who.name == OURS)
    command = [sys.executable, "-m", "benchmarks.cost_cases"]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        settings = child_environment(ours, home) | {"OPENBLAS_NUM_THREADS": "1"}  # threads fight over tiny matrices
        done = subprocess.run(command, cwd=PROJECT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "failed").splitlines()[-1])
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    found = [_read({**json.loads(line), "on": today}) for line in done.stdout.splitlines()]
    STORE.parent.mkdir(parents=True, exist_ok=True)
    STORE.write_text(json.dumps([asdict(cost) for cost in found]), encoding="utf-8")
    return found


def stored() -> list[Cost]:
    """What was measured last."""
    return [_read(item) for item in json.loads(STORE.read_text(encoding="utf-8"))] if STORE.exists() else []


def _read(item: dict[str, object]) -> Cost:
    made = Cost(**item)  # type: ignore[arg-type]
    return Cost(made.name, made.unit, tuple(made.sizes), tuple(made.seconds), made.on)


def report(found: Sequence[Cost]) -> str:
    """A row per routine: time at each size, and the power with which it grows over the last decade."""
    if not found:
        return ""
    rows = [
        [
            cost.name, cost.unit,
            *(f"{size:,}: {tables.time(took)}" for size, took in zip(cost.sizes, cost.seconds, strict=True)),
            f"{cost.power:.2f}",
        ]
        for cost in found
    ]  # fmt: skip
    told = (
        f"Fastest of the calls after a first one, through public names, linear algebra on one thread; {found[0].on}. "
        "Last column: the power of the size with which the time grows over the last decade: 1 is in proportion; "
        "below 1, what every call costs still shows. A covariance has as many entries as assets squared."
    )
    head = ["routine", "counted in", "small", "ten times", "hundred times", "grows like"]
    return told + "\n\n" + tables.table(head, rows, texts=2)
