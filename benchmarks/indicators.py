"""Indicators beside the libraries that people use for them: time on one core, equal values, and the digits kept."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.compare import relative_difference
from benchmarks.environments import NotInstalled, environment
from benchmarks.lines import CASES, LEVELS
from benchmarks.rows import CACHE, child_environment
from benchmarks.workloads import CONTESTANTS, OURS
from tests.environment import PROJECT

__all__ = ["BARS", "MUST", "Library", "compared", "measured", "ratios", "report", "stored"]

BARS, QUICK_BARS = 1_000_000, 50_000
TALIB, MUST, AIM = "TA-Lib", 1.5, 2.5
ENVIRONMENTS = {OURS: "", TALIB: "indicators", "bottleneck": "indicators", "pandas": "indicators",
                "polars": "indicators", "tulipy": "tulipy"}  # fmt: skip
EQUAL, SETTLED = 1e-9, 0.5
"""Largest relative difference that counts as equal, over the last half of the bars, where seeds have faded."""
_CANCELS = "its running sums of squares cancel; see the accuracy below"
KNOWN = {(who, case): (1e-3, _CANCELS) for who in ("tulipy", "bottleneck", "pandas", "polars")
         for case in ("Bollinger 20", "standard deviation 20")}  # fmt: skip

KNOWN["tulipy", "MACD 12 26 9"] = (math.inf, "it takes 0.15 and 0.075 for 2/13 and 2/27")


@dataclass(frozen=True)
class Library:
    """What one library took: median and best nanoseconds per bar by case; `problem` where it could not be measured."""

    library: str
    version: str = ""
    took: dict[str, tuple[float, float]] = field(default_factory=dict)
    accuracy: list[float] = field(default_factory=list)
    problem: str = ""
    on: str = ""


def measured(name: str, bars: int = BARS) -> Library:
    """Run it now, in a process of its own; whatever goes wrong is told."""
    contestant = next(who for who in CONTESTANTS if who.name == (name if name == OURS else "numpy"))
    _place(name).parent.mkdir(parents=True, exist_ok=True)
    try:
        python = environment(ENVIRONMENTS[name], CACHE / "environments")
        command = [str(python), "-m", "benchmarks.lines", name, str(bars), str(_place(name).with_suffix(".npz"))]
        with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
            settings = child_environment(contestant, home)
            done = subprocess.run(command, cwd=PROJECT, env=settings, capture_output=True, text=True, check=False)
        if done.returncode:
            found = Library(name, problem=f"failed: {done.stderr.strip().splitlines()[-1]}")
        else:
            found = Library(**json.loads(done.stdout), on=f"{datetime.now(UTC):%Y-%m-%d}")
    except NotInstalled as error:
        found = Library(name, problem=f"could not be installed: {error}")
    _place(name).write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def stored() -> list[Library]:
    """What was measured last, of every library."""
    places = [_place(name) for name in ENVIRONMENTS]
    return [Library(**json.loads(place.read_text(encoding="utf-8"))) for place in places if place.exists()]


def _place(name: str) -> Path:
    return CACHE / "indicators" / f"{name}.json"


def outputs(name: str) -> dict[str, np.ndarray]:
    """What the library computed, by case and number of the output."""
    with np.load(_place(name).with_suffix(".npz")) as arrays:
        return {key: arrays[key] for key in arrays.files}


def compared(name: str) -> dict[str, str]:
    """Cases in which a library says something else than tradelib: `NOT EXPECTED`, or the reason that is known."""
    ours, theirs, found = outputs(OURS), outputs(name), {}
    for case in CASES:
        keys = [key for key in theirs if key.partition("/")[0] == case]
        if not keys:
            continue
        apart = max(_apart(ours[key], theirs[key]) for key in keys)
        allowed, reason = KNOWN.get((name, case), (0.0, ""))
        if apart > EQUAL:
            found[case] = f"by {apart:.2g}: {reason if apart <= allowed else 'NOT EXPECTED'}"
    return found


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the last half, as a fraction of the typical size of the values."""
    count = int(SETTLED * len(ours))
    one, other = ours[-count:], theirs[-count:]
    size = max(float(np.nanmedian(np.abs(one))), np.finfo(float).tiny)
    if np.isnan(one).any() or np.isnan(other).any():
        return float(relative_difference(one, other).max())
    return float(np.max(np.abs(one - other)) / size)


def ratios(found: Sequence[Library]) -> dict[str, float]:
    """How many times faster than TA-Lib each indicator is (medians), and `all` as their geometric mean."""
    took = {library.library: library.took for library in found if not library.problem}
    if not {OURS, TALIB} <= set(took):
        return {}
    each = {case: took[TALIB][case][0] / took[OURS][case][0] for case in CASES}
    return {**each, "all": math.exp(sum(map(math.log, each.values())) / len(each))}


def report(found: Sequence[Library]) -> str:
    """Times, ratios, differences and accuracies as Markdown."""
    known = [library for library in found if not library.problem]
    faster = ratios(found)
    if not faster:
        return ""
    names = [library.library for library in known]
    rows = [[case, *(_time(library, case) for library in known), tables.times(faster[case])] for case in CASES]
    rows.append(["geometric mean", *("" for _ in known), f"**{tables.times(faster['all'])}**"])
    slower = [case for case in CASES if faster[case] < 1.0]
    behind = f" (slower: {', '.join(slower)})" if slower else ""
    verdict = "**no**" if slower or faster["all"] < MUST else "aim" if faster["all"] >= AIM else "must"
    told = (
        f"Nanoseconds per bar, {BARS:,} bars, one thread, new outputs. Must: none slower than TA-Lib, {MUST:g}x in the "
        f"geometric mean; aim {AIM:g}x. Met: {verdict}{behind}."
    )
    differences = [f"- {name}, {case} {text}" for name in names if name != OURS for case, text in _told(name).items()]
    head = ["standard deviation at a level of", *(f"{level:,.0f}" for level in LEVELS)]
    digits = [[library.library, *(f"{error:.0e}" for error in library.accuracy)] for library in known]
    versions = ", ".join(f"{library.library} {library.version}" for library in known if library.library != OURS)
    parts = [told, tables.table(["indicator", *names, "to TA-Lib"], rows), "\n".join(differences)]
    parts += [
        "Largest relative error of a rolling standard deviation of 20 bars whose noise is 0.01, against extended "
        f"precision. {versions}.",
        tables.table(head, digits),
    ]
    return "\n\n".join(part for part in parts if part)


def _told(name: str) -> dict[str, str]:
    return compared(name) if _place(OURS).with_suffix(".npz").exists() else {}


def _time(library: Library, case: str) -> str:
    return tables.digits(library.took[case][0]) if case in library.took else ""


def faults(found: Sequence[Library]) -> list[str]:
    """Results that differ without a known reason, and what tradelib could not do."""
    wrong = [f"tradelib: {library.problem}" for library in found if library.library == OURS and library.problem]
    peers: list[Any] = [library for library in found if library.library != OURS and not library.problem]
    if wrong:
        return wrong
    return [
        f"{peer.library}, {case}: {text}"
        for peer in peers
        for case, text in compared(peer.library).items()
        if "NOT EXPECTED" in text
    ]
