"""Habits of trading, compiled: the same for one result and for each of ten thousand points.

What an account earned is in `tradelib.backtest.performance`; here is how it did it: trades, orders, costs, exposure.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book

__all__ = ["ACTIVITY", "activity"]

ACTIVITY = (
    "trades",
    "trade_win_rate",
    "profit_factor",
    "orders",
    "rejected_orders",
    "exposure",
    "turnover_per_year",
    "fees",
    "slippage_cost",
)

_PROFIT = 7
"""Column of the profit in the trade table (`tradelib.backtest.trades.TRADE_COLUMNS`)."""


@jit(_nrt=False)
def _sum(x: np.ndarray) -> float:
    """Sum of stretches of 64 in eight lanes of fixed order: fast, and the same wherever it is computed."""
    n, total = x.shape[0], 0.0
    for start in range(0, n - n % 64, 64):
        a = b = c = d = e = f = g = h = 0.0
        for i in range(start, start + 64, 8):
            a += x[i]
            b += x[i + 1]
            c += x[i + 2]
            d += x[i + 3]
            e += x[i + 4]
            f += x[i + 5]
            g += x[i + 6]
            h += x[i + 7]
        total += ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(n - n % 64, n):
        total += x[i]
    return total


@jit(nogil=True, _nrt=False)
def activity(
    m: book.Machine, trades: np.ndarray, count: int, equity: np.ndarray, periods: float, out: np.ndarray
) -> None:
    """Write the figures named in `ACTIVITY` to `out`: counts, costs and habits of trading.

    `trades`: the first `count` rows of a trade table.
    """
    wins = losses = won = lost = 0.0
    for k in range(count):
        profit = trades[k, _PROFIT]
        if profit > 0.0:
            wins, won = wins + 1.0, won + profit
        elif profit < 0.0:
            losses, lost = losses + 1.0, lost - profit
    traded = fees = slippage = 0.0
    for f in range(m.counts[book.FILLS]):
        traded += abs(m.fills[f, book.FILL_QUANTITY]) * m.fills[f, book.FILL_PRICE]
        fees += m.fills[f, book.FILL_FEE]
        slippage += m.fills[f, book.FILL_SLIPPAGE]
    orders = rejected = 0.0
    for k in range(m.counts[book.ORDERS]):
        if m.orders[k, book.KIND] != book.LIQUIDATING:
            orders += 1.0
        if m.orders[k, book.STATUS] == book.REJECTED:
            rejected += 1.0
    n = equity.shape[0]
    out[0] = count
    out[1] = wins / (wins + losses) if wins + losses > 0.0 else math.nan
    out[2] = won / lost if lost > 0.0 else math.nan
    out[3] = orders
    out[4] = rejected
    out[5] = m.account[book.IN_MARKET] / n
    out[6] = traded / (_sum(equity) / n) / (n / periods)
    out[7] = fees
    out[8] = slippage
