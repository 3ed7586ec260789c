"""Seeded markets for the tests of the data floor."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tradelib.data.bars import make_bars
from tradelib.data.timeframes import parse_timeframe

WORDS = {"symbol": "BTC/EUR", "timeframe": "1h", "source": "test", "calendar": "24/7"}


def raw_market(count: int = 200, *, timeframe: str = "1h", start: str = "2024-01-01", seed: int = 1) -> pd.DataFrame:
    """A healthy random walk as a raw frame with the words in its attrs; no two bars are alike."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, count)))
    opens = close * np.exp(random.normal(0.0, 0.002, count))
    index = pd.date_range(start, periods=count, freq=parse_timeframe(timeframe).delta, tz="UTC", name="time")
    frame = pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, close) * 1.002,
            "low": np.minimum(opens, close) / 1.002,
            "close": close,
            "volume": random.uniform(1.0, 9.0, count),
        },
        index=pd.DatetimeIndex(index.as_unit("ns"), freq=None),
    )
    frame.attrs = {**WORDS, "timeframe": timeframe}
    return frame


def market(count: int = 200, *, timeframe: str = "1h", start: str = "2024-01-01", seed: int = 1) -> pd.DataFrame:
    """The same as bars."""
    return make_bars(raw_market(count, timeframe=timeframe, start=start, seed=seed))


def changed(frame: pd.DataFrame, row: int, **cells: float) -> pd.DataFrame:
    """A copy of `frame` with some cells of one row changed."""
    copy = frame.copy()
    for name, value in cells.items():
        copy.iloc[row, copy.columns.get_loc(name)] = value
    return copy
