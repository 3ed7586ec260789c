"""tradelib: from notebook to live order, with nothing lost in between.

The names most used, ready at hand; each room (`tradelib.data`, `tradelib.backtest`, ...) has the rest. Importing
tradelib loads nothing heavy: a name brings its room when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Costs",
    "DecisionRule",
    "FixedFraction",
    "Market",
    "Strategy",
    "TrendFollowing",
    "VolatilityTarget",
    "embedded",
    "prove_causality",
    "run",
    "sweep",
]

_HOMES = {
    "Costs": "backtest.costs",
    "DecisionRule": "backtest.decision",
    "FixedFraction": "risk.sizing",
    "Market": "backtest.costs",
    "Strategy": "strategies.base",
    "TrendFollowing": "strategies.trend",
    "VolatilityTarget": "risk.sizing",
    "embedded": "data.sources",
    "prove_causality": "validation.causality",
    "run": "backtest.engine",
    "sweep": "backtest.sweeps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
