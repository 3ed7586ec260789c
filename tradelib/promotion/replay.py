"""Replay: everything that a runner decided, decided again from what it wrote down.

The journal holds the inputs of each decision: the bars, the venue's fills and endings, what the gate refused. The
bundle holds the rule and its policies. So every decision can be made again, by anybody, at any time, without venue,
network or research data; what comes out must be what was journalled, to the last bit: weights, the account, and every
order with its leg, kind, prices and quantity (`tradelib.promotion.redeciding`). The history of the runner is the
bundle's golden bars followed by those of the journal. Kernels run interpreted, as they do in the runner.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from tradelib.bundle import Bundle
from tradelib.data.bars import COLUMNS, content_digest
from tradelib.errors import LedgerError
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.promotion.gates import GateResult, judge
from tradelib.promotion.redeciding import Deviation, Explained, known_number, redecide

__all__ = [
    "Deviation",
    "Explained",
    "ReplayReport",
    "journal_history",
    "journal_of",
    "known_number",
    "replay_equality",
    "replay_journal",
    "signed_quantity",
]

_SHOWN = 20


@dataclass(frozen=True)
class ReplayReport:
    """`equal_decisions` of `decisions` came out as they stand in the journal; `deviations` in order of time.

    orders: how many orders were compared. explained: what the rule did not decide, and who did.
    """

    bundle_digest: str
    journal_head: str
    first: str
    last: str
    decisions: int
    equal_decisions: int
    deviations: tuple[Deviation, ...]
    orders: int = 0
    explained: tuple[Explained, ...] = ()

    @property
    def share(self) -> float:
        """Share of the decisions that are equal in every field: 1.0, or something is wrong."""
        return self.equal_decisions / self.decisions

    @property
    def equal(self) -> bool:
        """True when nothing deviates."""
        return not self.deviations

    @property
    def first_deviation(self) -> Deviation | None:
        """The earliest one."""
        return self.deviations[0] if self.deviations else None

    def summary(self) -> str:
        """One sentence: equal, or how much deviates and where it began."""
        orders = f" and {self.orders:,} orders" if self.orders else ""
        span = f"{self.decisions:,} decisions{orders} from {self.first} to {self.last}"
        if self.equal:
            return f"Replay equals the journal: {span}, the same to the last bit."
        return f"Replay deviates: {self.equal_decisions:,} of {span} are equal. It began with {self.first_deviation}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the first 20 deviations."""
        told = {name: getattr(self, name) for name in ("bundle_digest", "journal_head", "first", "last", "decisions")}
        told |= {"equal_decisions": self.equal_decisions, "share": self.share, "equal": self.equal}
        told |= {"orders": self.orders, "explained": len(self.explained), "explained_by": self.explained_by}
        shown = [deviation._asdict() for deviation in self.deviations[:_SHOWN]]
        return {**told, "deviations": len(self.deviations), "first_deviations": shown, "summary": self.summary()}

    @property
    def explained_by(self) -> dict[str, int]:
        """How much the rule did not decide, by who did."""
        return dict(Counter(one.by for one in self.explained))

    def to_metrics(self) -> dict[str, float]:
        """Figures for a run in MLflow: decisions that were made again, and the share of them that came out equal."""
        return {"replay.decisions": float(self.decisions), "replay.equal_share": self.share}

    def to_frame(self) -> pd.DataFrame:
        """Every deviation: time, field, recorded, decided_again."""
        return pd.DataFrame(self.deviations, columns=list(Deviation._fields))

    def _repr_html_(self) -> str:
        table = "" if self.equal else self.to_frame().head(_SHOWN).to_html(index=False, border=0)
        return f"<p><b>{escape(self.summary())}</b></p>{table}"


def replay_journal(path: str | os.PathLike[str], bundle: Bundle) -> ReplayReport:
    """Decide again what the runner decided, from its journal and the bundle alone.

    Raises `LedgerError` for a journal that is missing, altered, without a decision, of another bundle, or that lacks a
    bar which the runner's history had.
    """
    with journal_of(path, bundle) as (log, head):
        entries = list(log.entries())
    decided = {entry.body["time"] for entry in entries if entry.kind == journal.DECISION}
    if not decided:
        raise LedgerError(f"Journal {path} holds no decision: there is nothing to replay.")
    history = journal_history(path, bundle, [entry.body for entry in entries if entry.kind == journal.BAR])
    missing = sorted(decided - {time.isoformat() for time in history.index})
    if missing:
        raise LedgerError(f"Journal {path} holds a decision on {missing[0]} without its bar.")
    again = redecide(entries, bundle, history)
    found = tuple(sorted(again.deviations, key=lambda deviation: deviation.time))
    equal = len(decided) - len({deviation.time for deviation in found if deviation.time in decided})
    span = min(decided), max(decided)
    return ReplayReport(bundle.digest, head, *span, len(decided), equal, found, again.orders, again.explained)


def replay_equality(report: ReplayReport) -> GateResult:
    """The gate: a share of exactly 1.0."""
    evidence = {"journal_head": report.journal_head, "decisions": report.decisions}
    share = report.share if report.equal else min(report.share, np.nextafter(1.0, 0.0))
    return judge("replay_equality", "safety", float(share), "==", 1.0, report.summary(), evidence)


@contextmanager
def journal_of(path: str | os.PathLike[str], bundle: Bundle) -> Iterator[tuple[Ledger, str]]:
    """The journal of runs of `bundle`, and its head; `LedgerError` where it was altered, or is of another bundle."""
    with open_journal(path, read_only=True) as log:
        verified = log.verify()
        if not verified.ok:
            raise LedgerError(f"Journal {path} is not trustworthy: {verified.problem}. Keep it as evidence.")
        owners = {body["bundle_digest"] for body in journal.starts(log)}
        if owners != {bundle.digest}:
            whose = f"belongs to the bundle {min(owners - {bundle.digest})[:12]}" if owners else "names no bundle"
            raise LedgerError(f"Journal {path} {whose}, not to {bundle.digest[:12]}: ask it about its own bundle.")
        yield log, verified.head


def journal_history(path: str | os.PathLike[str], bundle: Bundle, bars: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The runner's history: golden bars and those of the journal; a bar that both have must be the same."""
    golden = bundle.golden_bars
    rows = dict(zip((time.isoformat() for time in golden.index), golden[list(COLUMNS)].to_numpy(), strict=True))
    end = golden.index[-1].isoformat()
    for body in sorted(bars, key=lambda body: body["time"]):
        values = np.array([float(body[name]) for name in COLUMNS])
        if body["time"] <= end and not np.array_equal(rows.get(body["time"], np.empty(0)), values):
            raise LedgerError(f"Journal {path}: the bar {body['time']} is not that of the bundle's golden window.")
        rows[body["time"]] = values
    index = pd.DatetimeIndex(pd.to_datetime(list(rows), utc=True), name="time").as_unit("ns")
    history = pd.DataFrame(np.array(list(rows.values())), columns=list(COLUMNS), index=index)
    history.attrs = {name: value for name, value in golden.attrs.items() if name != "digest"}
    history.attrs["digest"] = content_digest(history)
    return history


def signed_quantity(intent: Mapping[str, Any]) -> float:
    """Units that an intent buys, or sells with a minus."""
    quantity = float(Decimal(intent["quantity"]))
    return -quantity if intent["side"] == "sell" else quantity
