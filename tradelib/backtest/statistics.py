"""Figures of an equity curve and its trades, compiled: the same for one result and for each of ten thousand points.

Conventions as in `tradelib.backtest.metrics`: simple returns, ddof 1, periods per year given, downside deviation over
all n, wealth that starts at 1 before the first return and stays where it is once everything is lost. Sums run in eight
lanes of fixed order, so that they are fast, and the same wherever they are computed.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book

__all__ = ["ACTIVITY", "PERFORMANCE", "activity", "equity_returns", "performance"]

PERFORMANCE = (
    "total_return",
    "annual_return",
    "annual_volatility",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "sharpe_ratio_per_period",
    "maximum_drawdown",
)
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


@jit(nogil=True, _nrt=False)
def equity_returns(equity: np.ndarray, cash: float, out: np.ndarray) -> None:
    """Simple returns `(n,)` of an equity curve `(n,)`, the first one on `cash`."""
    out[0] = equity[0] / cash - 1.0
    for t in range(1, equity.shape[0]):
        out[t] = equity[t] / equity[t - 1] - 1.0


@jit(_nrt=False)
def _sum(x: np.ndarray) -> float:
    n = x.shape[0]
    a = b = c = d = e = f = g = h = 0.0
    for i in range(0, n - n % 8, 8):
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
        e += x[i + 4]
        f += x[i + 5]
        g += x[i + 6]
        h += x[i + 7]
    for i in range(n - n % 8, n):
        a += x[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@jit(_nrt=False)
def _squares(x: np.ndarray, center: float) -> tuple[float, float]:
    """Sum of squared deviations from `center`, and of squares of what lies below zero."""
    n = x.shape[0]
    a = b = c = d = p = q = r = s = 0.0
    for i in range(0, n - n % 4, 4):
        a += (x[i] - center) * (x[i] - center)
        b += (x[i + 1] - center) * (x[i + 1] - center)
        c += (x[i + 2] - center) * (x[i + 2] - center)
        d += (x[i + 3] - center) * (x[i + 3] - center)
        p += min(x[i], 0.0) * min(x[i], 0.0)
        q += min(x[i + 1], 0.0) * min(x[i + 1], 0.0)
        r += min(x[i + 2], 0.0) * min(x[i + 2], 0.0)
        s += min(x[i + 3], 0.0) * min(x[i + 3], 0.0)
    for i in range(n - n % 4, n):
        a += (x[i] - center) * (x[i] - center)
        p += min(x[i], 0.0) * min(x[i], 0.0)
    return (a + b) + (c + d), (p + q) + (r + s)


@jit(_nrt=False)
def _is_constant(x: np.ndarray) -> bool:
    for i in range(1, x.shape[0]):
        if x[i] != x[0]:
            return False
    return True


@jit(_nrt=False)
def _decline(equity: np.ndarray, cash: float) -> tuple[float, float]:
    """Deepest drawdown (<= 0) and the final wealth, both as multiples of `cash`; ruin ends the path."""
    peak, worst = cash, 0.0
    for t in range(equity.shape[0]):
        worth = equity[t]
        if worth > peak:
            peak = worth
        elif worth < peak * (1.0 + worst):
            worst = worth / peak - 1.0
        if worth <= 0.0:
            return min(worst, worth / peak - 1.0), worth / cash
    return worst, equity[equity.shape[0] - 1] / cash


@jit(nogil=True, _nrt=False)
def performance(equity: np.ndarray, returns: np.ndarray, cash: float, periods: float, out: np.ndarray) -> None:
    """Write the figures named in `PERFORMANCE` to `out`; NaN where one is not defined.

    `returns`: of `equity_returns`. `periods`: bars per year.
    """
    n = returns.shape[0]
    drawdown, wealth = _decline(equity, cash)
    mean = _sum(returns) / n
    squares, below = _squares(returns, mean)
    deviation = math.nan if n < 2 else (0.0 if _is_constant(returns) else math.sqrt(squares / (n - 1)))
    downside = math.sqrt(below / n)
    growth = wealth ** (periods / n) - 1.0 if wealth > 0.0 else -1.0
    sharpe = mean / deviation if deviation > 0.0 else math.nan
    out[0] = wealth - 1.0
    out[1] = growth
    out[2] = deviation * math.sqrt(periods)
    out[3] = sharpe * math.sqrt(periods)
    out[4] = mean / downside * math.sqrt(periods) if downside > 0.0 else math.nan
    out[5] = growth / -drawdown if drawdown < 0.0 else math.nan
    out[6] = sharpe
    out[7] = drawdown


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
