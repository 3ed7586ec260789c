"""Re-research proposes what is new and better, to paper and no further."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tradelib.bundle import Bundle, TrustStore
from tradelib.promotion.challenger import challenge, champion_comparison
from tradelib.promotion.history import PromotionLedger
from tradelib.promotion.promote import Promotion


@pytest.fixture
def ledger(keys: tuple[Any, TrustStore], tmp_path: Path) -> PromotionLedger:
    return PromotionLedger(tmp_path / "promotions.sqlite", trust=keys[1], approvers=TrustStore(tmp_path / "approvers"))


def variant(bundle: Bundle, letter: str, sharpe: float | None) -> Bundle:
    figures = bundle.figures | {"out_of_sample_sharpe": sharpe}
    return replace(bundle, digest=letter * 64, payload_digest=letter * 64, figures=figures)


def test_the_first_one_is_proposed(ledger: PromotionLedger, promotion: Promotion, keys: tuple[Any, Any]) -> None:
    found = challenge(ledger, promotion.bundle, None, key=keys[0])
    assert found.proposed is not None
    assert found.proposed.stage == "paper"
    assert found.summary().endswith("is on paper: nothing of this strategy trades yet")


@pytest.mark.parametrize(
    ("sharpe", "margin", "proposed", "words"),
    [
        (1.3, 0.0, True, "its Sharpe ratio is 1.30, above the 0.90"),
        (1.3, 0.5, False, "1.30, not above the 0.90 of the bundle that trades by 0.50"),
        (0.9, 0.0, False, "0.90, not above the 0.90"),
        (0.4, 0.0, False, "0.40, not above the 0.90"),
        (None, 0.0, False, "no out-of-sample Sharpe ratio"),
    ],
)
def test_only_the_better_one_is_proposed(
    ledger: PromotionLedger,
    promotion: Promotion,
    keys: tuple[Any, Any],
    sharpe: float | None,
    margin: float,
    proposed: bool,
    words: str,
) -> None:
    champion, new = variant(promotion.bundle, "a", 0.9), variant(promotion.bundle, "b", sharpe)
    found = challenge(ledger, new, champion, key=keys[0], margin=margin)
    assert (found.proposed is not None) is proposed
    assert words in found.summary()
    assert len(ledger.entries()) == int(proposed)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["proposed"] is proposed


def test_the_same_content_is_no_challenger(
    ledger: PromotionLedger, promotion: Promotion, keys: tuple[Any, Any]
) -> None:
    again = replace(promotion.bundle, digest="f" * 64)
    found = challenge(ledger, again, promotion.bundle, key=keys[0])
    assert found.proposed is None
    assert "its content is that of the bundle that trades" in found.summary()


def test_the_gate_by_itself() -> None:
    assert champion_comparison({"out_of_sample_sharpe": 1.0}, {"out_of_sample_sharpe": 0.5}).passed
    assert not champion_comparison({"out_of_sample_sharpe": 0.5}, {"out_of_sample_sharpe": 0.5}).passed
    assert not champion_comparison({}, {"out_of_sample_sharpe": 0.5}).passed
