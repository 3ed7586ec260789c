"""A track record is what the journal proves, and nothing that somebody typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.support import paper_entries, write_journal
from tradelib.errors import LedgerError
from tradelib.ledger import journal
from tradelib.promotion.promote import Promotion
from tradelib.promotion.record import track_record


def test_a_record_by_hand(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    entries = paper_entries(promotion.bundle, bars)
    equity = pd.Series([body["equity"] for kind, body in entries if kind == journal.EQUITY])
    path = write_journal(tmp_path / "journal.sqlite", entries)
    found = track_record(path, promotion.bundle, "paper", bars)
    assert (found.bundle, found.stage, found.bars, found.equal_bars) == (promotion.bundle.digest, "paper", 120, 120)
    assert found.days == 119.0
    assert found.drawdown == pytest.approx((1 - equity / equity.cummax()).max())
    assert found.total_return == pytest.approx(equity.iloc[-1] / equity.iloc[0] - 1)
    assert found.shortfall == pytest.approx(0.0, abs=1e-12)
    assert found.evidence["journal_head"]
    assert track_record(path, promotion.bundle, "paper").research_return is None


def test_a_deviation_is_never_rounded_away(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    """An order that no decision asked for leaves every decision equal, and the record not."""
    entries = paper_entries(promotion.bundle, bars)
    stray: dict[str, Any] = next(body for kind, body in entries if kind == journal.INTENT)
    more = (journal.INTENT, stray | {"client_order_id": "by-hand", "time": "2031-01-01T00:00:00+00:00"})
    path = write_journal(tmp_path / "journal.sqlite", [*entries, more])
    found = track_record(path, promotion.bundle, "paper")
    assert (found.bars, found.equal_bars) == (120, 119)


def test_a_journal_of_another_bundle_is_no_record(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    entries = paper_entries(promotion.bundle, bars)
    other = [(kind, body | {"bundle_digest": "f" * 64} if kind == journal.START else body) for kind, body in entries]
    with pytest.raises(LedgerError, match="ask it about its own bundle"):
        track_record(write_journal(tmp_path / "journal.sqlite", other), promotion.bundle, "paper")
