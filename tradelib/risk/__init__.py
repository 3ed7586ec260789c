"""Risk: how much to hold; policies composed with any strategy."""

from tradelib.risk.sizing import FixedFraction, Sizing, VolatilityTarget, create_sizing

__all__ = ["FixedFraction", "Sizing", "VolatilityTarget", "create_sizing"]
