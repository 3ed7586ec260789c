"""One closed bar, as a venue states it and a journal keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tradelib.data.bars import COLUMNS, content_digest

__all__ = ["Bar", "bars_frame", "extended", "iso_time"]


class Bar(NamedTuple):
    """One bar as the venue states it; `milliseconds` is its open time since the epoch, UTC."""

    milliseconds: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def time(self) -> str:
        """Open time as the journal writes it, "2018-01-02T00:00:00+00:00"."""
        return iso_time(self.milliseconds)

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        return {"time": self.time, **dict(zip(COLUMNS, self[1:], strict=True))}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Bar:
        """The bar that `body` was written from."""
        return cls(pd.Timestamp(body["time"]).value // 10**6, *(float(body[name]) for name in COLUMNS))


def iso_time(milliseconds: int) -> str:
    """ISO-8601 UTC text of a time in epoch milliseconds."""
    return pd.Timestamp(milliseconds, unit="ms", tz="UTC").isoformat()


def bars_frame(bars: Iterable[Bar]) -> pd.DataFrame:
    """Bars as a frame: `COLUMNS`, by UTC open time."""
    rows = list(bars)
    times = pd.to_datetime([bar.milliseconds for bar in rows], unit="ms", utc=True).as_unit("ns")
    index = pd.DatetimeIndex(times, name="time")
    return pd.DataFrame([bar[1:] for bar in rows], columns=list(COLUMNS), index=index, dtype=np.float64)


def extended(golden: pd.DataFrame, bars: Iterable[Bar]) -> pd.DataFrame:
    """Golden bars and those that came after them, as the bars contract wants them."""
    end = int(pd.Timestamp(golden.index[-1]).as_unit("ns").value) // 10**6
    frame = pd.concat([golden[list(COLUMNS)], bars_frame(bar for bar in bars if bar.milliseconds > end)])
    frame.index = pd.DatetimeIndex(frame.index, name="time").as_unit("ns")
    frame.attrs = {name: value for name, value in golden.attrs.items() if name != "digest"}
    frame.attrs["digest"] = content_digest(frame)
    return frame
