"""What limits need to know of the past: returns, volatility and clusters of correlated symbols, one row per close.

Every row is computed from the bars of its own window and nothing else, and so is the same to the last bit whether it
comes from years of bars or from the window alone: an engine computes all rows once, a runner the last one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tradelib._jit import jit
from tradelib._memory import shared
from tradelib.errors import DataError
from tradelib.risk import judging

__all__ = ["PastRisk", "PastRiskRule", "correlation_clusters", "past_risk", "past_table"]


class PastRisk(NamedTuple):
    """Rows known at each close. What is not asked for has no rows.

    `returns`: simple, `(n, a)`, NaN on the first bar. `volatility`: annual, of the equally weighted symbols, `(n,)`.
    `clusters`: `(n, a)`, equal numbers are one cluster. NaN: too few bars so far.
    """

    returns: np.ndarray
    volatility: np.ndarray
    clusters: np.ndarray


class PastRiskRule(NamedTuple):
    """What is to be known of the past; 0 is nothing. Windows are bars (of returns).

    `scenarios`: returns that value at risk looks back on. `volatility`: window of the volatility. `clusters`: window of
    the correlations, which are estimated anew every `every` bars and join symbols from `correlation` on.
    """

    scenarios: int = 0
    volatility: int = 0
    clusters: int = 0
    every: int = 1
    correlation: float = 1.0

    @property
    def bars(self) -> int:
        """Bars of history that give the last row, where no bar is missing."""
        clusters = self.clusters + self.every if self.clusters else 0
        return 1 + max(self.scenarios, self.volatility, clusters)


@jit
def _basket(returns: np.ndarray, basket: np.ndarray) -> None:
    """Mean return of all symbols at each bar, `(n,)`."""
    for t in range(returns.shape[0]):
        total = 0.0
        for a in range(returns.shape[1]):
            total += returns[t, a]
        basket[t] = total / returns.shape[1]


@jit
def _volatility(basket: np.ndarray, window: int, factor: float, volatility: np.ndarray) -> None:
    """Sample standard deviation (ddof 1) of the last `window` returns at each bar, times `factor`.

    Each window is summed afresh: running sums would carry the past beyond the window along.
    """
    for t in range(window, basket.shape[0]):
        total, squares = 0.0, 0.0
        for j in range(t - window + 1, t + 1):
            total += basket[j]
        for j in range(t - window + 1, t + 1):
            squares += (basket[j] - total / window) * (basket[j] - total / window)
        volatility[t] = math.sqrt(squares / (window - 1)) * factor


def correlation_clusters(returns: np.ndarray, correlation: float) -> np.ndarray:
    """Cluster of each symbol, `(a,)`: symbols whose returns `(n, a)` correlate by `correlation` or more are one.

    So are symbols that a chain of such pairs connects (single linkage). The number of a cluster is that of its first
    symbol. A symbol that did not move correlates with nothing, one with a missing return has the cluster NaN.
    """
    centred = returns - returns.mean(axis=0)
    length = np.sqrt((centred * centred).sum(axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0.0)
    close = unit.T @ unit >= correlation - 1e-12
    labels = np.arange(returns.shape[1], dtype=np.float64)
    for a in range(len(labels)):
        joined = labels[close[a]]
        if len(joined) > 1:
            labels[np.isin(labels, joined)] = joined.min()
    return np.where(np.isnan(length), np.nan, labels)


def _cluster_rows(returns: np.ndarray, times: np.ndarray, step: int, rule: PastRiskRule) -> np.ndarray:
    """Clusters at each close: those of the last bar that began a new stretch of `every` bars since 1970.

    The schedule belongs to the calendar, not to the first bar of the data: however much history there is, the same
    bars estimate.
    """
    rows = np.full(returns.shape, np.nan)
    stretch = times // (step * rule.every)
    begins = np.flatnonzero(np.diff(stretch, prepend=stretch[:1])) if len(times) else np.empty(0, np.int64)
    begins = begins[begins >= rule.clusters]
    for begin, end in zip(begins, [*begins[1:], len(times)], strict=False):
        window = np.ascontiguousarray(returns[begin - rule.clusters + 1 : begin + 1])
        rows[begin:end] = correlation_clusters(window, rule.correlation)
    return rows


def past_risk(
    closes: np.ndarray, times: np.ndarray, step: int, periods_per_year: float, rule: PastRiskRule
) -> PastRisk:
    """The rows that `rule` asks for, from closes `(n, a)` at `times` (UTC, nanoseconds), `step` nanoseconds apart.

    Raises `DataError` for closes that are not positive numbers.
    """
    n, assets = closes.shape
    asked = rule.scenarios or rule.volatility or rule.clusters
    if asked and not (closes > 0.0).all():
        row, column = np.argwhere(~(closes > 0.0))[0]
        raise DataError(f"the close of bar {row} of symbol {column} is {closes[row, column]}: returns need prices")
    returns = np.full((n if asked else 0, assets), np.nan)
    if asked:
        returns[1:] = closes[1:] / closes[:-1] - 1.0
    volatility = np.full(n if rule.volatility else 0, np.nan)
    if rule.volatility:
        basket = np.empty(n)
        _basket(shared(returns), basket)
        _volatility(shared(basket), rule.volatility, math.sqrt(periods_per_year), volatility)
    clusters = _cluster_rows(returns, times, step, rule) if rule.clusters else np.empty((0, assets))
    kept = returns if rule.scenarios else np.empty((0, assets))
    return PastRisk(shared(kept), shared(volatility), shared(clusters))


def past_table(past: PastRisk, days: np.ndarray | None, bars: int) -> np.ndarray:
    """The rows as one table for `judging`, `(bars, columns)`: `days` (numbers, None where they are not told apart),
    volatility, returns, clusters; the last two only where one of them is known."""
    assets = past.returns.shape[1]
    looks = len(past.returns) or len(past.clusters)
    table = np.full((bars, judging.PAST_RETURN + (2 * assets if looks else 0)), np.nan)
    table[:, judging.PAST_DAY] = judging.NEVER if days is None else days
    if len(past.volatility):
        table[:, judging.PAST_VOLATILITY] = past.volatility
    if len(past.returns):
        table[:, judging.PAST_RETURN : judging.PAST_RETURN + assets] = past.returns
    if len(past.clusters):
        table[:, judging.PAST_RETURN + assets :] = past.clusters
    return shared(table)
