"""Rows as Markdown: tables for the terminal, and for the page between its marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.compare import Difference
from benchmarks.rows import Row
from benchmarks.startup import RUNNER, Start
from benchmarks.workloads import OURS, WORKLOADS, Workload

__all__ = [
    "BEGIN",
    "END",
    "Fit",
    "between_marks",
    "fit",
    "limit",
    "limits",
    "promises",
    "scaling",
    "start_table",
    "table",
    "time",
    "workload_table",
]

BEGIN, END = "<!-- measured: begin (written by `make bench`) -->", "<!-- measured: end -->"
REFERENCE = "numpy"
"""Written for the task by hand: shown, but no library to be compared with."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; all columns but the first `texts` are aligned to the right."""
    lines = [header, [*["---"] * texts, *["---:"] * (len(header) - texts)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def time(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale or unit == "µs":
            return f"{digits(seconds / scale)} {unit}"
    raise AssertionError


def digits(value: float) -> str:
    """Three significant digits, with thousands separated."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value else "0"


def times(ratio: float) -> str:
    """A ratio of two durations."""
    return f"{ratio:,.{0 if ratio >= 20 else 1 if ratio >= 2 else 2}f}x"


def between_marks(page: str, body: str) -> str:
    """`page` with everything between the two marks replaced; `ValueError` where they are missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs the marks {BEGIN!r} and {END!r}")
    return f"{head}{begin}\n\n{body.strip()}\n\n{end}{tail}"


def workload_table(workload: Workload, rows: Sequence[Row], differences: Sequence[Difference]) -> str:
    """Everything measured about one workload: ours first, then from the fastest to the slowest.

    Who ran a smaller size than the largest is extrapolated in proportion, and marked ~.
    """
    size = max((row.size for row in rows), default=workload.size)
    ours = next((row for row in rows if row.contestant == OURS and row.ok), None)
    header = [
        "contestant", "time", f"ns per {workload.item}", "tradelib is faster by", "first call", "import",
        "peak memory, MB", "same result",
    ]  # fmt: skip
    ranked = sorted(rows, key=lambda row: (row.contestant != OURS, not row.ok, row.seconds_at(size)))
    return table(header, [_line(row, size, ours, differences) for row in ranked])


def _line(row: Row, size: int, ours: Row | None, differences: Sequence[Difference]) -> list[str]:
    if not row.ok:
        return [row.contestant, "not measured", "", "", "", "", "", row.problem.partition(":")[0]]
    about, name = "~" if row.size < size else "", row.contestant + (f" ({row.measured})" if row.older else "")
    faster = about + times(row.seconds_at(size) / ours.seconds_at(size)) if ours and row is not ours else ""
    return [
        name, about + time(row.seconds_at(size)), about + digits(row.per_item), faster,
        time(row.first_call), time(row.imported), f"{row.peak_memory:,.0f}", _sameness(row, differences),
    ]  # fmt: skip


def _sameness(row: Row, differences: Sequence[Difference]) -> str:
    mine = [item for item in differences if (item.contestant, item.workload) == (row.contestant, row.workload)]
    if row.contestant == OURS:
        return ""
    return "**no**" if _faults(mine) else "see below" if mine else "yes"


def _faults(differences: Iterable[Difference]) -> list[Difference]:
    return [item for item in differences if item.is_fault]


def promises(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
    """Each workload's ratio to the best peer beside what was promised."""
    header = ["workload", "to the best peer", "to vectorbt", "must", "aim", "met"]
    return table(header, [_promise(workload, rows, differences) for workload in WORKLOADS.values()])


def _promise(workload: Workload, rows: Sequence[Row], differences: Sequence[Difference]) -> list[str]:
    ratio, peer = best_peer(workload, rows, differences)
    known = [row for row in rows if row.contestant == OURS or row.contestant.startswith("vectorbt")]
    to_vectorbt, _ = best_peer(workload, known, differences)
    must = f"{workload.must:g}x" + (f", vectorbt {workload.must_vectorbt:g}x" if workload.must_vectorbt else "")
    if not peer:
        return [workload.title, "not measured", "", must, f"{workload.aim:g}x", ""]
    kept = ratio >= workload.must and (not workload.must_vectorbt or to_vectorbt >= workload.must_vectorbt)
    met = "**no**" if not kept else "aim" if ratio >= workload.aim else "must"
    beside = "" if math.isnan(to_vectorbt) else times(to_vectorbt)
    return [workload.title, f"{times(ratio)} ({peer})", beside, must, f"{workload.aim:g}x", met]


def limits(rows: Sequence[Row], starts: Sequence[Start]) -> str:
    """Promises that are no ratios: memory of the sweep, imports, and the first result."""
    took = {(start.contestant, start.what.split(",")[0]): start for start in starts if not start.problem}
    lines = [
        limit("Sweep of w3: peak memory", row.peak_memory, 400.0, math.nan, "{:,.0f} MB")
        for row in rows
        if (row.contestant, row.workload, row.size) == (OURS, "w3", WORKLOADS["w3"].size) and row.ok
    ]
    for statement, seconds, memory in (("import tradelib", (0.4, 0.3), None), (RUNNER, (2.5, 1.0), (150.0, 100.0))):
        if start := took.get((OURS, statement)):
            lines.append(limit(f"`{statement}`", start.seconds, *seconds, "{:.2f} s"))
            if memory:
                lines.append(limit(f"`{statement}`: peak memory", start.peak_memory, *memory, "{:,.0f} MB"))
    first, peer = took.get((OURS, "first result")), took.get(("vectorbt (Rust)", "import vectorbt"))
    if first and peer:
        lines.append(
            limit("First result of a new process; vectorbt's import", first.seconds, peer.seconds, 1.5, "{:.2f} s")
        )
    return table(["what", "measured", "must", "aim", "met"], lines) if lines else ""


def limit(what: str, value: float, must: float, aim: float, form: str) -> list[str]:
    """A row: what was promised, what was measured, and whether that is met."""
    met = "**no**" if value > must else "aim" if value <= aim else "must"
    return [what, form.format(value), form.format(must), "" if math.isnan(aim) else form.format(aim), met]


def best_peer(workload: Workload, rows: Sequence[Row], differences: Sequence[Difference]) -> tuple[float, str]:
    """How many times faster than the fastest peer whose result stands, and its name; NaN where one side is missing."""
    wrong = {item.contestant for item in differences if item.workload == workload.key and item.disqualifies}
    here = [row for row in rows if row.workload == workload.key and row.ok]
    ours = [row for row in here if row.contestant == OURS and row.size == workload.size]
    apart = {OURS, *wrong} if workload.against_numpy else {OURS, REFERENCE, *wrong}
    peers = [row for row in here if row.contestant not in apart]
    if not ours or not peers:
        return math.nan, ""
    best = min(peers, key=lambda row: row.seconds_at(workload.size))
    return best.seconds_at(workload.size) / ours[0].seconds, best.contestant


@dataclass(frozen=True)
class Fit:
    """`seconds = fixed + slope x size`; `power`: the exponent between the two largest sizes, 1 where cost is linear."""

    fixed: float
    slope: float
    power: float
    worst: float


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> Fit:
    """Least squares on relative errors (each size counts alike); `worst`: the largest relative residual."""
    size, took = np.asarray(sizes, float), np.asarray(seconds, float)
    columns = np.stack([np.ones_like(size), size], axis=1)
    fixed, slope = np.linalg.lstsq(columns / took[:, None], np.ones_like(took), rcond=None)[0]
    worst = float(np.max(np.abs((fixed + slope * size) / took - 1.0)))
    power = math.log(took[-1] / took[-2]) / math.log(size[-1] / size[-2])
    return Fit(float(fixed), float(slope), power, worst)


def scaling(workload: Workload, rows: Sequence[Row]) -> str:
    """Time and memory of one contestant over sizes, and the straight line through them."""
    ranked = sorted((row for row in rows if row.ok), key=lambda row: row.size)
    if len(ranked) < 3:
        return ""
    line = fit([row.size for row in ranked], [row.seconds for row in ranked])
    body = [[f"{row.size:,}", time(row.seconds), digits(row.per_item), f"{row.peak_memory:,.0f}"] for row in ranked]
    item = line.slope / workload.items * 1e9
    words = (
        f"Straight line: {time(max(line.fixed, 0.0))} + {digits(item)} ns per {workload.item}, within "
        f"{line.worst:.0%} at every size; the last step grows like size to the power {line.power:.2f}."
    )
    return table([workload.unit, "time", f"ns per {workload.item}", "peak memory, MB"], body) + "\n\n" + words


def start_table(starts: Sequence[Start]) -> str:
    """Whole processes, from the start of the interpreter to their end."""
    lines = [
        [
            start.contestant,
            start.what,
            start.problem.partition(":")[0] or time(start.seconds),
            f"{start.peak_memory:,.0f}",
        ]
        for start in starts
    ]
    return table(["contestant", "process", "time", "peak memory, MB"], lines, texts=2)
