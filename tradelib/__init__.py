"""tradelib: from notebook to live order, with nothing lost in between.

The names most used, ready at hand; each room (`tradelib.data`, `tradelib.backtest`, ...) has the rest. Importing
tradelib loads nothing heavy: a name brings its room when it is first used.
"""

from tradelib._lazy import attach

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

__getattr__, __dir__ = attach(__name__, _HOMES)
