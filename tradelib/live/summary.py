"""What a run tells: one `Step` per bar while it runs, one `RunSummary` at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tradelib.ledger import Ledger, journal

__all__ = ["FleetSummary", "RunSummary", "Step", "summarise"]


@dataclass(frozen=True)
class Step:
    """One decided bar; `equity` and `position` are at its close, before its order; `seconds` is how long it decided."""

    time: str
    close: float
    signal: float | None
    target_weight: float | None
    position: float
    equity: float
    quantity: float
    status: str | None
    seconds: float


@dataclass(frozen=True)
class RunSummary:
    """A journal in figures, over all runs that wrote to it. Latency is of the last run, in milliseconds."""

    name: str
    bundle_digest: str
    symbol: str
    timeframe: str
    mode: str
    bars: int
    decisions: int
    orders: int
    filled: int
    rejected: int
    expired: int
    first_decision: str | None
    last_decision: str | None
    final_equity: float | None
    stopped: str
    halted: str | None
    journal: str
    head: str
    decision_ms_median: float | None
    decision_ms_p99: float | None

    def as_dict(self) -> dict[str, Any]:
        """Labels and values in reading order, for a table in a terminal or a JSON file."""
        return dict(vars(self))


@dataclass(frozen=True)
class FleetSummary:
    """The journals of all bundles of a runner in figures, and that of the account (`journal`)."""

    runs: tuple[RunSummary, ...]
    stopped: str
    journal: str

    @property
    def halted(self) -> dict[str, str]:
        """Why a bundle's trader stopped for safety, by bundle and symbol."""
        return {f"{run.name} {run.symbol}": run.halted for run in self.runs if run.halted is not None}

    @property
    def decisions(self) -> int:
        """Bars decided by all of them."""
        return sum(run.decisions for run in self.runs)

    @property
    def final_equity(self) -> float:
        """What all purses were worth at their last close."""
        return sum(run.final_equity or 0.0 for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a table in a terminal or a JSON file."""
        return {"stopped": self.stopped, "journal": self.journal, "runs": [run.as_dict() for run in self.runs]}


def summarise(log: Ledger, path: str, stopped: str, seconds: Sequence[float]) -> RunSummary:
    """The summary of the journal `log` at `path`; `seconds` are the decision durations of this run."""
    start = journal.starts(log)[-1]
    statuses = Counter(order["status"] for order in journal.orders(log))
    times = [decision["time"] for decision in journal.decisions(log)]
    equity, halt = log.last(journal.EQUITY), log.last(journal.HALT)
    begun = log.last(journal.START)
    halted = halt is not None and begun is not None and halt.sequence > begun.sequence
    return RunSummary(
        **{name: start[name] for name in ("name", "bundle_digest", "symbol", "timeframe", "mode")},
        bars=log.count(journal.BAR),
        decisions=len(times),
        orders=log.count(journal.INTENT),
        filled=statuses["filled"],
        rejected=statuses["rejected"],
        expired=statuses["expired"],
        first_decision=times[0] if times else None,
        last_decision=times[-1] if times else None,
        final_equity=equity.body["equity"] if equity is not None else None,
        stopped=stopped,
        halted=halt.body["reason"] if halt is not None and halted else None,
        journal=path,
        head=log.head()[1],
        decision_ms_median=_percentile(seconds, 50),
        decision_ms_p99=_percentile(seconds, 99),
    )


def _percentile(seconds: Sequence[float], rank: float) -> float | None:
    return round(float(np.percentile(list(seconds), rank)) * 1e3, 3) if seconds else None
