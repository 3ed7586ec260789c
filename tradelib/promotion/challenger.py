"""Is what research sealed today better than what trades? A challenger is proposed, never promoted beyond paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.bundle import Bundle
from tradelib.promotion.differences import BundleDifferences, compare_bundles
from tradelib.promotion.gates import GateResult, judge
from tradelib.promotion.history import PromotionLedger, Standing

__all__ = ["Challenge", "challenge", "champion_comparison"]

FIGURE = "out_of_sample_sharpe"


@dataclass(frozen=True)
class Challenge:
    """A sealed candidate beside the bundle that trades: `proposed` where it was admitted to paper."""

    strategy: str
    bundle: str
    against: str | None
    comparison: GateResult | None
    differences: BundleDifferences | None
    proposed: Standing | None
    reason: str

    def summary(self) -> str:
        """One sentence: proposed or not, and why."""
        done = "is on paper" if self.proposed else "was not proposed"
        return f"{self.strategy} {self.bundle[:12]} {done}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "strategy": self.strategy,
            "bundle": self.bundle,
            "against": self.against,
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "differences": None if self.differences is None else self.differences.to_dict(),
            "proposed": self.proposed is not None,
            "summary": self.summary(),
        }

    def _repr_html_(self) -> str:
        table = "" if self.differences is None else self.differences._repr_html_()
        return f"<p><b>{escape(self.summary())}</b></p>{table}"


def challenge(
    ledger: PromotionLedger, bundle: Bundle, champion: Bundle | None, *, key: Ed25519PrivateKey, margin: float = 0.0
) -> Challenge:
    """Admit `bundle` to paper where it is new and better than `champion` by `margin` (annualised Sharpe ratio).

    `champion`: the bundle that stands highest, or None where nothing trades yet: then whatever passed its safety gates
    is proposed. Nothing here moves a bundle beyond paper.
    """
    new = Challenge(bundle.name, bundle.digest, None, None, None, None, "nothing of this strategy trades yet")
    if champion is not None:
        found, same = champion_comparison(bundle.figures, champion.figures, margin), bundle.payload_digest
        why = "its content is that of the bundle that trades" if same == champion.payload_digest else found.explanation
        new = replace(
            new, against=champion.digest, comparison=found, differences=compare_bundles(champion, bundle), reason=why
        )
        if same == champion.payload_digest or not found.passed:
            return new
    return replace(new, proposed=ledger.admit(bundle, key=key, why=new.reason))


def champion_comparison(figures: Mapping[str, Any], champion: Mapping[str, Any], margin: float = 0.0) -> GateResult:
    """Gate: the out-of-sample Sharpe ratio is above that of the champion by more than `margin`; an equal one is not."""
    own, its = (one.get(FIGURE) for one in (figures, champion))
    gain = own - its - margin if isinstance(own, int | float) and isinstance(its, int | float) else None
    if gain is None:
        words = "One of the two has no out-of-sample Sharpe ratio: they cannot be compared."
    else:
        beats = "above" if gain > 0.0 else "not above"
        asked = f" by {margin:.2f}" if margin else ""
        words = f"Out of sample its Sharpe ratio is {own:.2f}, {beats} the {its:.2f} of the bundle that trades{asked}."
    figure = None if gain is None else gain if gain > 0.0 else min(gain, -1e-12)
    evidence = {"own": own, "champion": its, "margin": margin}
    return judge("champion_comparison", "evidence", figure, ">=", 0.0, words, evidence)
