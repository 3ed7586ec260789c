"""`make bench`: measures tradelib beside its peers, compares the results, and writes the table of docs/benchmarks.md.

python -m benchmarks.run                       everything; peers from the cache where nothing about them changed
python -m benchmarks.run --only w3,startup     one part; --size quick: small sizes and no page; --fresh: peers again

Exit code 1 when a result differs from tradelib's beyond what is known and explained, or tradelib has none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from benchmarks import carried, costs, indicators, tables
from benchmarks.compare import Difference, compare
from benchmarks.rows import CACHE, CALLS, ONE_CALL, Row, machine, measured, stored
from benchmarks.startup import Start, starts
from benchmarks.workloads import CONTESTANTS, OURS, QUICK_SIZES, WORKLOADS, Contestant, Workload
from tests.environment import PROJECT

__all__ = ["main"]

PAGE = PROJECT / "docs" / "benchmarks.md"
SCALES = {"w2": (10_000, 100_000, 1_000_000, 10_000_000), "w3": (10, 100, 1_000, 10_000)}
PARTS = ("w1", *WORKLOADS, "w8", "costs", "startup")
TRADELIB = next(contestant for contestant in CONTESTANTS if contestant.name == OURS)


@dataclass(frozen=True)
class Options:
    """`fresh`: measure peers again; `quick`: small sizes; `remeasure`: False to read only what is stored."""

    fresh: bool = False
    quick: bool = False
    remeasure: bool = True


def main(arguments: list[str]) -> int:
    """Measure the chosen parts, print their tables, write the page, and return 1 if results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--size", choices=("full", "quick"), default="full")
    parser.add_argument("--fresh", action="store_true", help="measure the peers again")
    told = parser.parse_args(arguments)
    parts = told.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)}; there are {', '.join(PARTS)}")
    options = Options(told.fresh, told.size == "quick")
    faults = measure_indicators(options) if "w1" in parts else 0
    faults += sum(measure(part, options) for part in parts if part in WORKLOADS)
    if "w8" in parts and not options.quick:
        print("\n=== w8: what one runner carries\n" + carried.report(carried.measured()), flush=True)
    if "costs" in parts and not options.quick:
        print("\n=== costs: how they grow with the data\n" + costs.report(costs.measured()), flush=True)
    if "startup" in parts and not options.quick:
        keep_starts(starts())
    if not options.quick:
        write_page()
    print(f"\n{faults} results that differ or are missing" if faults else "\nall results are as expected")
    return 1 if faults else 0


def measure(key: str, options: Options) -> int:
    """One workload: measure it and print its table; how many results differ, or are missing of tradelib."""
    print(f"\n=== {key}: {WORKLOADS[key].title}", flush=True)
    rows = collect(WORKLOADS[key], options)
    differences = judge(rows)
    print(tables.workload_table(WORKLOADS[key], shown(rows), differences))
    for difference in differences:
        print(f"  {difference}")
    missing = [row for row in rows if row.contestant == OURS and not row.ok]
    return sum(difference.is_fault for difference in differences) + len(missing)


def measure_indicators(options: Options) -> int:
    """The indicators: measure all libraries, print the tables; the number of results that differ."""
    print("\n=== w1: indicators, one thread", flush=True)
    bars = indicators.QUICK_BARS if options.quick else indicators.BARS
    found = [indicators.measured(name, bars) for name in indicators.ENVIRONMENTS]
    for library in found:
        print(f"  {library.library}: {library.problem or 'measured'}", flush=True)
    print(indicators.report(found))
    for fault in (faults := indicators.faults(found)):
        print(f"  {fault}")
    return len(faults)


def collect(workload: Workload, options: Options) -> list[Row]:
    """All rows of a workload; those of tradelib at every size that somebody is compared at."""
    size = QUICK_SIZES[workload.data] if options.quick else workload.size
    asked = {who: min(who.sizes.get(workload.key, size), size) for who in CONTESTANTS if workload.key in who.workloads}
    main_rows = [row for who, wanted in asked.items() if (row := _row(who, workload, wanted, options))]
    scales = () if options.quick else SCALES.get(workload.key, ())
    others = sorted({*asked.values(), *scales} - {size})
    checks = [_row(TRADELIB, workload, other, options, CALLS if other in scales else ONE_CALL) for other in others]
    return main_rows + [row for row in checks if row]


def _row(
    who: Contestant, workload: Workload, size: int, options: Options, calls: tuple[int, float, int] = CALLS
) -> Row | None:
    """tradelib is always measured anew; a peer when asked to, or when nothing current is stored."""
    known = stored(who, workload.key, size)
    current = known is not None and known.ok and not known.older
    if not options.remeasure or (current and who.name != OURS and not options.fresh):
        return known
    row = measured(who, workload.key, size, calls)
    print(f"  {who.name}, {size:,}: {tables.time(row.seconds) if row.ok else row.problem}", flush=True)
    return row


def shown(rows: Iterable[Row]) -> list[Row]:
    """One row per contestant: the largest size up to the full one."""
    largest: dict[str, Row] = {}
    for row in rows:
        best = largest.get(row.contestant)
        if row.size <= WORKLOADS[row.workload].size and (best is None or row.size > best.size):
            largest[row.contestant] = row
    return list(largest.values())


def judge(rows: Iterable[Row]) -> list[Difference]:
    """Every peer against tradelib at the peer's size."""
    known = list(rows)
    ours = {row.size: row for row in known if row.contestant == OURS and row.ok}
    peers = [row for row in known if row.contestant != OURS and row.ok and row.size in ours]
    return [
        difference
        for row in peers
        for difference in compare(row.workload, row.contestant, ours[row.size].figures, row.figures)
    ]


def keep_starts(found: list[Start]) -> None:
    """Print and store what start-up took."""
    print("\n=== startup: imports and the first result\n" + tables.start_table(found))
    (CACHE / "startup.json").write_text(json.dumps([asdict(start) for start in found]), encoding="utf-8")


def known_starts() -> list[Start]:
    """What start-up took when it was last measured."""
    path = CACHE / "startup.json"
    return [Start(**item) for item in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def write_page() -> None:
    """The generated part of docs/benchmarks.md, from everything that is stored."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(tables.between_marks(page, report()), encoding="utf-8")
    print(f"\nwritten: {PAGE.relative_to(PROJECT)}")


def report() -> str:
    """Promises, workloads, scaling and start-up, as Markdown."""
    known = {key: collect(workload, Options(remeasure=False)) for key, workload in WORKLOADS.items()}
    main_rows = [row for rows in known.values() for row in shown(rows)]
    differences = {key: judge(rows) for key, rows in known.items()}
    everything = [difference for some in differences.values() for difference in some]
    began = known_starts()
    parts = [about(main_rows), "### Promised and measured", tables.promises(main_rows, everything)]
    parts += [tables.limits(main_rows, began)]
    for key, rows in known.items():
        if not rows:
            continue
        parts += [f"### {WORKLOADS[key].title}", tables.workload_table(WORKLOADS[key], shown(rows), differences[key])]
        parts += ["\n".join(f"- {difference}" for difference in differences[key])]
    for key in SCALES:
        line = tables.scaling(
            WORKLOADS[key], [row for row in known[key] if row.size in SCALES[key] and row.contestant == OURS]
        )
        parts += [f"### How cost grows: {WORKLOADS[key].title.lower()}", line] if line else []
    if lines := indicators.report(indicators.stored()):
        parts += ["### Indicators", lines]
    if lines := carried.report(carried.stored()):
        parts += ["### What one runner carries", lines]
    if lines := costs.report(costs.stored()):
        parts += ["### How cost grows: risk and validation", lines]
    parts += ["### From nothing to the first result", tables.start_table(began)] if began else []
    return "\n\n".join(part for part in parts if part)


def about(rows: list[Row]) -> str:
    """Machine, versions and dates of the rows."""
    here, done = machine(), [row for row in rows if row.ok]
    versions = {name: version for row in done for name, version in row.versions.items()}
    days = sorted({row.measured for row in done}) or ["never"]
    loads = [row.load for row in done] or [os.getloadavg()[0]]
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (
        f"Measured {' to '.join(dict.fromkeys([days[0], days[-1]]))} on {here['cores']} cores of {here['processor']}, "
        f"{here['memory']}, {here['system']}, Python {here['python']}; load average {min(loads):.1f} to "
        f"{max(loads):.1f}. {named}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
