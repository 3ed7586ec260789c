"""Strategies: immutable parameters and one pure function from bars to signals."""

from tradelib._lazy import attach

_HOMES = {
    "ModelSignals": "models",
    "PairTrading": "pairs",
    "RegimeGate": "regimes",
    "Strategy": "base",
    "TrendFollowing": "trend",
    "WeightedFeatures": "features",
    "available": "base",
    "check_signals": "base",
    "create": "base",
    "describe": "base",
}

__all__ = [
    "ModelSignals",
    "PairTrading",
    "RegimeGate",
    "Strategy",
    "TrendFollowing",
    "WeightedFeatures",
    "available",
    "check_signals",
    "create",
    "describe",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
