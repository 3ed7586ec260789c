"""Strategies: immutable parameters and one pure function from bars to signals."""

from tradelib.strategies.base import Strategy, available, check_signals, create, describe
from tradelib.strategies.trend import TrendFollowing

__all__ = ["Strategy", "TrendFollowing", "available", "check_signals", "create", "describe"]
