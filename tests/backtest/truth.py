"""Tiny markets and what an account did on them, written the way one writes them on paper."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from tradelib.backtest import Costs, Order, Result, run_orders
from tradelib.data.bars import make_bars

FREE = Costs(fee_rate=0.0, slippage=0.0)
"""No costs: the arithmetic of a scenario stays visible."""

START = pd.Timestamp("2024-01-01", tz="UTC")
STEPS = {"1d": pd.Timedelta(days=1), "12h": pd.Timedelta(hours=12), "1h": pd.Timedelta(hours=1)}


def day(number: int) -> pd.Timestamp:
    """Open time of bar `number` of daily bars."""
    return START + number * STEPS["1d"]


def market(*rows: Any, symbol: str = "X", timeframe: str = "1d") -> pd.DataFrame:
    """Bars from a price (a bar that stands still), (open, high, low, close), or the same with a volume."""
    full = [(row, row, row, row) if isinstance(row, int | float) else row for row in rows]
    full = [(*row, 1_000_000.0) if len(row) == 4 else row for row in full]
    index = pd.date_range(START, periods=len(full), freq=STEPS[timeframe], name="time")
    frame = pd.DataFrame(full, index, ["open", "high", "low", "close", "volume"], dtype=float)
    return make_bars(frame, symbol=symbol, timeframe=timeframe, source="paper", calendar="24/7")


def trade(orders: list[Order], bars: Any, **options: Any) -> Result:
    """`run_orders` with 10,000 of cash and no costs unless told otherwise."""
    return run_orders(orders, bars, **{"cash": 10_000.0, "costs": FREE, **options})


def fills(result: Result, symbols: bool = False) -> list[tuple[Any, ...]]:
    """(bar, signed quantity, price, origin) of every fill, with `symbols` the symbol in front."""
    table = result.fills
    bars = result.panel.index.get_indexer(table["time"])
    rows = zip(table["symbol"], bars.tolist(), table["quantity"], table["price"], table["origin"], strict=True)
    return [row if symbols else row[1:] for row in rows]


def has_fills(result: Result, *expected: tuple[Any, ...]) -> None:
    """The fills are `expected`: (bar, signed quantity, price, origin), numbers to one part in a billion."""
    found = fills(result)
    assert [(row[0], row[3]) for row in found] == [(row[0], row[3]) for row in expected], found
    numbers = [(row[1], row[2]) for row in found]
    assert numbers == [pytest.approx((row[1], row[2]), rel=1e-9) for row in expected]


def has_equity(result: Result, *expected: float) -> None:
    """Equity at the last closes is `expected`."""
    assert result.equity.iloc[-len(expected) :].tolist() == pytest.approx(list(expected), rel=1e-9)


def causes(result: Result, status: str = "rejected") -> list[tuple[str, str]]:
    """(symbol, reason) of every order that ended with `status`."""
    table = result.orders[result.orders["status"] == status]
    return list(zip(table["symbol"], table["reason"], strict=True))
