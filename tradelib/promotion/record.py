"""The track record of a bundle in one stage, read from the runner's journal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tradelib.bundle import Bundle
from tradelib.ledger import journal, open_journal
from tradelib.promotion.attribution import attribute_live
from tradelib.promotion.replay import replay_journal
from tradelib.promotion.stages import TrackRecord

__all__ = ["track_record"]


def track_record(
    path: str | os.PathLike[str], bundle: Bundle, stage: str, bars: pd.DataFrame | None = None
) -> TrackRecord:
    """What the journal shows of `bundle` in `stage`: every decision is made again, the account is followed.

    `bars` of the same market (see `attribute_live`): then research is set beside the account, and its return is known.
    Raises `LedgerError` for a journal that is missing, altered, without a decision, or of another bundle.
    """
    report = replay_journal(path, bundle)
    with open_journal(path, read_only=True) as log:
        equity = _equities(journal.equities(log))
    days = (pd.Timestamp(report.last) - pd.Timestamp(report.first)) / pd.Timedelta(days=1)
    evidence: dict[str, Any] = {"journal_head": report.journal_head, "first": report.first, "last": report.last}
    research = None
    if bars is not None and report.decisions > 1:
        found = attribute_live(path, bundle, bars)
        research = found.research_profit / found.initial_equity
        evidence["difference"] = dict(found.parts)
    return TrackRecord(
        bundle.digest,
        stage,
        report.decisions,
        report.equal_decisions if report.equal else min(report.equal_decisions, report.decisions - 1),
        float(days),
        drawdown=float(np.max(1.0 - equity / np.maximum.accumulate(equity))),
        total_return=float(equity[-1] / equity[0] - 1.0),
        research_return=research,
        evidence=evidence,
    )


def _equities(bodies: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """Equity of the account at each decided close, in order of time."""
    return np.array([float(body["equity"]) for body in sorted(bodies, key=lambda body: body["time"])])
