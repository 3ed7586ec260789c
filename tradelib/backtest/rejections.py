"""Orders that were rejected: how many, mostly why, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tradelib.backtest import book
from tradelib.backtest.machine import Simulation
from tradelib.risk import judging

__all__ = ["REMEDIES", "Rejections", "rejections"]

_LOOSEN = "loosen the limit in Limits, or take it as meant"
REMEDIES = {
    book.NO_CASH: "lower the size, or set insufficient_cash='reduce'",
    book.BELOW_MINIMUM: "raise the cash or the size, or a rebalance_band",
    book.BELOW_LOT: "raise the cash or the size, or a rebalance_band",
    **dict.fromkeys(judging.CAUSES, _LOOSEN),
    judging.NOT_MEASURED: "start after the warm-up of the limit's window",
    book.NO_DISTANCE: "start after the warm-up of the stop's ATR",
    book.NO_VOLUME: "check the volume of the bars, or impact=0",
    book.WRONG_SIDE: "move the level beyond the entry price",
}
"""What to do, by the cause that an order was rejected for; a few words each."""


class Rejections(NamedTuple):
    """How many orders, how many of them for the most frequent `reason`, and its `remedy`; "" where there are none."""

    orders: int
    mostly: int
    reason: str
    remedy: str


def rejections(simulation: Simulation) -> Rejections:
    """What was rejected; of two reasons that are equally frequent the one that `book.CAUSES` names first."""
    orders = simulation.orders
    causes = orders[orders[:, book.STATUS] == book.REJECTED, book.CAUSE].astype(np.int64)
    if not len(causes):
        return Rejections(0, 0, "", "")
    counts = np.bincount(causes)
    most = int(counts.argmax())
    return Rejections(len(causes), int(counts[most]), book.CAUSES[most], REMEDIES.get(float(most), ""))
