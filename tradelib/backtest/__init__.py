"""Backtests: one decision function, one accounting kernel, immutable results, counted trials."""

from tradelib._lazy import attach

_HOMES = {
    "Costs": "costs",
    "DecisionRule": "decision",
    "Market": "costs",
    "Result": "result",
    "SweepResult": "sweeps",
    "TrialLedger": "trials",
    "run": "engine",
    "summary_metrics": "metrics",
    "sweep": "sweeps",
}

__all__ = [
    "Costs",
    "DecisionRule",
    "Market",
    "Result",
    "SweepResult",
    "TrialLedger",
    "run",
    "summary_metrics",
    "sweep",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
