"""What one runner carries (w8), as a table; `load.py` and `lean.py` measure it, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from benchmarks import tables
from benchmarks.rows import CACHE, child_environment
from benchmarks.workloads import CONTESTANTS, OURS
from tests.environment import PROJECT

__all__ = ["CASES", "measured", "report", "stored"]

STORE = CACHE / "w8.json"
CASES = ("decision", "lean", "load", "month")

Found = dict[str, dict[str, Any]]


def measured(cases: tuple[str, ...] = CASES) -> Found:
    """Measure these cases now, and keep those that were measured before; `RuntimeError` where one fails."""
    found = stored()
    for case in cases:
        found[case] = _measure(case) | {"on": f"{datetime.now(UTC):%Y-%m-%d}"}
        STORE.parent.mkdir(parents=True, exist_ok=True)
        STORE.write_text(json.dumps(found), encoding="utf-8")
    return found


def _measure(case: str) -> dict[str, Any]:
    ours = next(who for who in CONTESTANTS if who.name == OURS)
    command = [sys.executable, "-m", *(("benchmarks.lean",) if case == "lean" else ("benchmarks.load", case))]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        settings = child_environment(ours, home)
        done = subprocess.run(command, cwd=PROJECT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "failed").splitlines()[-1])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def stored() -> Found:
    """What was measured last."""
    return dict(json.loads(STORE.read_text(encoding="utf-8"))) if STORE.exists() else {}


def report(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Decision and memory against their promises, then a row per load."""
    parts = []
    if promised := [*_decision(found), *_lean(found)]:
        parts.append(tables.table(["what", "measured", "must", "aim", "met"], promised))
    if decision := found.get("decision"):
        parts.append(
            f"Seven indicators recomputed on 500 bars without a compiler, median {decision['p50_ms']:.2f} ms; "
            f"{decision['on']}."
        )
    if lean := found.get("lean"):
        parts.append(
            f"Where only the runner's lock is installed: one bundle, 500 minutes, the venue in another process; "
            f"{lean['on']}."
        )
    loads = [_line(found[case]) for case in ("load", "month") if case in found]
    if loads:
        head = ["symbols x bundles", "minutes", "decisions", "faster than real time", "decision p50", "p99"]
        head += ["median, first tenth", "last tenth", "memory, first", "last", "measured"]
        parts.append(tables.table(head, loads))
        parts.append(
            "A real venue over HTTP with signatures, journals on the disk, each decision durable; one process."
        )
    return "\n\n".join(parts)


def _decision(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    told = found.get("decision")
    return [tables.limit("One decision, p99", told["p99_ms"], 10.0, 1.0, "{:.2f} ms")] if told else []


def _lean(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    told = found.get("lean")
    if not told:
        return []
    return [
        tables.limit("One decision, p99, lean", told["p99_ms"], 10.0, 1.0, "{:.2f} ms"),
        tables.limit("A runner that trades, peak memory, lean", told["memory_peak"], 150.0, 100.0, "{:,.0f} MB"),
    ]


def _line(load: Mapping[str, Any]) -> list[str]:
    milliseconds = (load[name] for name in ("decision_p50", "decision_p99", "decision_first", "decision_last"))
    return [
        f"{load['symbols']} x {load['bundles']}",
        f"{load['minutes']:,}",
        f"{load['decisions']:,}",
        f"{load['speed']:,.0f}x",
        *(f"{value:.1f} ms" for value in milliseconds),
        *(f"{load[name]:,.0f} MB" for name in ("memory_first", "memory_last")),
        str(load["on"]),
    ]
