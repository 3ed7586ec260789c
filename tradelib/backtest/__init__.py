"""Backtests: one decision function, one trading machine, immutable results, counted trials."""

from tradelib._lazy import attach

_HOMES = {
    "Comparison": "comparison",
    "Costs": "costs",
    "DecisionRule": "decision",
    "FeeTier": "costs",
    "Market": "costs",
    "Order": "orders",
    "Result": "result",
    "SweepResult": "sweeps",
    "TrialLedger": "trials",
    "compare": "comparison",
    "grid": "orders",
    "load_result": "result",
    "performance_table": "metrics",
    "run": "engine",
    "run_orders": "orders",
    "run_portfolio": "portfolio",
    "run_positions": "portfolio",
    "run_signals": "engine",
    "run_weights": "portfolio",
    "search": "sweeps",
    "summary_metrics": "metrics",
    "sweep": "sweeps",
    "weighted_returns": "portfolio",
}

__all__ = [
    "Comparison",
    "Costs",
    "DecisionRule",
    "FeeTier",
    "Market",
    "Order",
    "Result",
    "SweepResult",
    "TrialLedger",
    "compare",
    "grid",
    "load_result",
    "performance_table",
    "run",
    "run_orders",
    "run_portfolio",
    "run_positions",
    "run_signals",
    "run_weights",
    "search",
    "summary_metrics",
    "sweep",
    "weighted_returns",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
