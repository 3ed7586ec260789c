"""Risk: how much to hold, when to leave, what the account forbids; policies composed with any strategy."""

from tradelib.risk.exits import Distance, Exits, ScaleIn, Target
from tradelib.risk.limits import Limits
from tradelib.risk.sizing import FixedFraction, Sizing, VolatilityTarget, create_sizing

__all__ = [
    "Distance",
    "Exits",
    "FixedFraction",
    "Limits",
    "ScaleIn",
    "Sizing",
    "Target",
    "VolatilityTarget",
    "create_sizing",
]
