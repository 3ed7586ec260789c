"""Indicators: what is known of a market at the close of each bar, from the past alone; seeding and blanks as TA-Lib."""

from tradelib._lazy import attach

_HOMES = {
    "Indicator": "registry",
    "atr": "volatility",
    "available": "registry",
    "ema": "averages",
    "find": "registry",
    "get": "registry",
    "indicator": "registry",
    "measure_memory": "core",
    "measure_warmup": "core",
    "probe_bars": "core",
    "rolling_max": "extremes",
    "rolling_min": "extremes",
    "rolling_volatility": "volatility",
    "rsi": "momentum",
    "sma": "averages",
}

__all__ = [
    "Indicator",
    "atr",
    "available",
    "ema",
    "find",
    "get",
    "indicator",
    "measure_memory",
    "measure_warmup",
    "probe_bars",
    "rolling_max",
    "rolling_min",
    "rolling_volatility",
    "rsi",
    "sma",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
