"""How much of the past a decision sees: a window that moves in blocks, the same for the runner and for its replay.

A runner that trades for months cannot decide on all that it ever saw: memory and the time of a decision would grow
without end. So the history is cut, at places that depend on nothing but the number of bars: with `n` bars known since
the bundle's first golden bar, the decision sees the rows from `start(n)` on, `minimum` to `minimum + block - 1` of
them once the first cut was made, and everything before it. A restart, a replay and a comparison with research find
the same rows.

Equality with research: before the first cut the runner sees what research sees. After it, "the same as research" means
research that looks through the same window: `WindowedRule` is the bundle's rule doing so, and paper is equal to its
backtest to the last bit. A rule whose memory ends (moving averages, ranges) decides the same through the window as
without it; one with an endless memory (exponential averages) differs by what the window's first bars weigh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import Field

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle.layout import Bundle
from tradelib.data.bars import window
from tradelib.errors import ParameterError

__all__ = ["BLOCK", "MINIMUM", "HistoryWindow", "WindowedRule", "window_of", "windowed"]

MINIMUM = 1_024
"""Least bars of a window that was cut."""
BLOCK = 1_024
"""Bars that leave the window at once: a multiple of every block in which indicators sum."""


@dataclass(frozen=True)
class HistoryWindow:
    """The rows that a decision sees; `minimum` and `block` in bars."""

    minimum: int = MINIMUM
    block: int = BLOCK

    def __post_init__(self) -> None:
        if self.minimum < 1 or self.block < 1:
            raise ParameterError(f"a window has {self.minimum} bars and blocks of {self.block}: both must be positive")

    def start(self, count: int) -> int:
        """First row that a decision sees when `count` bars are known: 0 until `minimum + block` are."""
        return max(0, (count - self.minimum) // self.block * self.block)

    def spans(self, count: int) -> Iterator[tuple[int, int, int]]:
        """`(start, first, end)`: decisions on the rows from `first` to before `end` see the rows from `start` on."""
        first = 0
        while first < count:
            start = self.start(first + 1)
            end = min(count, start + self.minimum + self.block - 1)
            yield start, first, end
            first = end


def window_of(bundle: Bundle) -> HistoryWindow:
    """The window of a bundle: at least its golden window and four warm-ups, in whole blocks."""
    least = max(MINIMUM, len(bundle.golden_bars), 4 * bundle.execution.warmup)
    return HistoryWindow(-(-least // BLOCK) * BLOCK)


class WindowedRule(DecisionRule):
    """A rule that sees no more than a runner does. Its bars must begin with the bundle's first golden bar."""

    history: HistoryWindow = Field(HistoryWindow(), description="rows that each decision sees")

    def weights(self, bars: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Signal and target weight of each bar as decided on its own window, float64 `(n,)`."""
        if self.history.start(len(bars)) == 0:
            return super().weights(bars)
        parts = []
        for start, first, end in self.history.spans(len(bars)):
            seen = window(bars, bars.index[start], bars.index[end - 1])
            parts.append([values[first - start :] for values in super().weights(seen)])
        signal, weight = (np.concatenate(values) for values in zip(*parts, strict=True))
        return signal, weight


def windowed(rule: DecisionRule, history: HistoryWindow) -> WindowedRule:
    """`rule`, looking through `history`."""
    parts = {name: getattr(rule, name) for name in DecisionRule.model_fields}
    return WindowedRule(**parts, history=history)
