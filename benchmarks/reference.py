"""A simulation short enough to be checked by eye: monthly equal weights from one account, in plain numpy."""

from __future__ import annotations

import numpy as np

from benchmarks.setting import CASH, FEE_RATE

__all__ = ["rebalanced"]


def rebalanced(
    prices: np.ndarray, rebalances: np.ndarray, invested: float, last: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """Equity at each close over initial cash, `(days,)`, and units held at the end, `(assets,)`.

    On a rebalancing day every asset is brought to `invested / assets` of equity at that close: sales first, then
    purchases, smallest first; a purchase that the cash does not cover is cut down to it. At the first rebalancing all
    purchases are equally large, and `last` is the asset whose turn comes last (by rounding, in each library its own).
    """
    days, assets = prices.shape
    cash, units, equity = CASH, np.zeros(assets), np.empty(days)
    begun = False
    for day in range(days):
        price = prices[day]
        if rebalances[day]:
            orders = invested * (cash + units @ price) / assets / price - units
            turns = np.argsort(orders * price, kind="stable")
            if not begun and last >= 0:
                turns = np.r_[turns[turns != last], last]
            for asset in turns:
                worth = price[asset] * (1.0 + FEE_RATE if orders[asset] > 0 else 1.0 - FEE_RATE)
                quantity = min(orders[asset], cash / worth)
                cash -= quantity * worth
                units[asset] += quantity
            begun = True
        equity[day] = cash + units @ price
    return equity / CASH, units
