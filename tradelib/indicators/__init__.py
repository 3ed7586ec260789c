"""Indicators: one number per bar, from the past alone; seeding and blanks as TA-Lib."""

from tradelib.indicators.averages import ema, sma
from tradelib.indicators.core import measure_warmup, probe_bars
from tradelib.indicators.momentum import rsi
from tradelib.indicators.volatility import atr, rolling_volatility

__all__ = ["atr", "ema", "measure_warmup", "probe_bars", "rolling_volatility", "rsi", "sma"]
