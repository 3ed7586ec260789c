"""Is the trial ledger still the one that was there before? Asked of every place that keeps a head of it.

MLflow runs carry one as a tag, sealed bundles in their provenance. Whoever deletes the ledger, or points
`TRADELIB_HOME` to an empty folder, has fewer trials, and heads that lead nowhere.
"""

from __future__ import annotations

from typing import Any

from pipelines.artifacts import read_json, root
from tradelib.backtest.trials import TrialLedger
from tradelib.promotion.registry import Registry

__all__ = ["continued_ledger", "kept_anchors"]


def kept_anchors() -> dict[str, str]:
    """Heads of the ledger by the place that keeps them: runs of the registry, and bundles."""
    found = Registry(root()).anchors()
    for path in sorted((root() / "bundles").glob("*/provenance.json")):
        anchor = _anchor(read_json(path))
        if anchor is not None:
            found[f"bundle {path.parent.name}"] = anchor
    return found


def _anchor(provenance: dict[str, Any]) -> str | None:
    value = provenance.get("trials_anchor")
    return value if isinstance(value, str) else None


def continued_ledger() -> TrialLedger:
    """The project's ledger; `LedgerError` where it is not the one of which a run or a bundle knows."""
    ledger = TrialLedger()
    ledger.assert_continues(kept_anchors())
    return ledger
