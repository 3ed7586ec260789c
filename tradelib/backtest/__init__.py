"""Backtests: one decision function, one accounting kernel, immutable results, counted trials."""

from importlib import import_module
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
