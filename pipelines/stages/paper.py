"""Trade the bundle on the local venue over the window that research never saw, and compare with the backtest.

Venue and runner are processes of their own, started as a person would start them; only the parity report is made here.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.artifacts import artifact, local_state, read_json, root, write_json
from pipelines.params import Params
from tradelib.bundle.keys import TrustStore
from tradelib.bundle.layout import Execution
from tradelib.bundle.verify import load_bundle
from tradelib.data.bars import window
from tradelib.data.files import read_bars
from tradelib.errors import RunnerError, VenueError
from tradelib.promotion.parity import compare_paper
from tradelib.promotion.registry import Registry

SECTIONS = ("windows", "strategies")

_TERMS = ("fee_rate", "cash", "lots_per_unit", "minimum_notional")
_UNKNOWN_TO_THE_VENUE = ("impact", "fee_tiers", "borrow_rate", "interest_rate")
_COMMAND = [sys.executable, "-m", "tradelib.cli"]


def main(params: Params, candidate: str) -> None:
    """Write `paper.json`: whether the run equals the backtest, and what it came to; the journal stays in `runs/paper/`.

    `RunnerError` or `VenueError` when it could not run.
    """
    promoted = read_json(local_state("promote", f"{candidate}.json"))
    folder = root() / "bundles" / promoted["folder"]
    tape = artifact("data", params.strategies[candidate].market, "tape.parquet")
    bars = read_bars(tape)
    traded = window(bars, params.windows.paper.start, params.windows.paper.end).index
    journal = _new_journal(candidate, promoted["digest"])
    environment = os.environ | {"TRADELIB_API_KEY": secrets.token_hex(16), "TRADELIB_API_SECRET": secrets.token_hex(32)}
    bundle = load_bundle(folder, TrustStore())
    with _venue(bundle.execution, tape, traded[0].isoformat(), environment) as url:
        _run(folder, url, journal, traded[-1].isoformat(), environment)
    report = compare_paper(journal, bundle, bars)
    write_json(local_state("paper", f"{candidate}.json"), {"journal": str(journal.relative_to(root()))})
    registered = read_json(local_state("register", f"{candidate}.json"))
    Registry(root()).log_metrics(registered["run_id"], report.to_metrics())
    facts = {name: value for name, value in report.to_dict().items() if name != "bundle_digest"}
    write_json(artifact("paper", candidate, "paper.json"), facts)


def _new_journal(candidate: str, digest: str) -> Path:
    """A journal that does not exist yet: histories are kept, a new run of the stage starts its own."""
    folder = local_state("paper", candidate)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob(f"{digest[:12]}-*.sqlite"))
    return folder / f"{digest[:12]}-{number:03d}.sqlite"


@contextmanager
def _venue(execution: Execution, tape: Path, start: str, environment: dict[str, str]) -> Iterator[str]:
    """A venue process filling from `tape` on the bundle's terms; gives its URL, and stops it in the end."""
    command = [*_COMMAND, "venue", str(tape), f"--start={start}", "--port=0", *venue_options(execution)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            if found is None:
                raise VenueError(f"the venue did not start: {process.stderr.read().strip()}")
            yield found[0]
        finally:
            process.terminate()


def venue_options(execution: Execution) -> list[str]:
    """The terms of a bundle as options of `tradelib venue`, which takes half of the spread as slippage.

    `VenueError` for costs that the venue does not charge: a comparison would only show that.
    """
    beyond = [name for name in _UNKNOWN_TO_THE_VENUE if getattr(execution, name)]
    if beyond:
        raise VenueError(
            f"the local venue does not charge {', '.join(beyond)}: take it out of `costs` in params.yaml, or put what "
            "it costs per fill into slippage"
        )
    terms = {name: getattr(execution, name) for name in _TERMS}
    terms["slippage"] = execution.slippage + execution.spread / 2.0
    return [f"--{name.replace('_', '-')}={value}" for name, value in terms.items()]


def _run(bundle: Path, url: str, journal: Path, until: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [*_COMMAND, "run", str(bundle), f"--venue={url}", f"--journal={journal}", f"--until={until}", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RunnerError(f"the runner stopped with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary
