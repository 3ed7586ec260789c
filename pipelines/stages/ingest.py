"""Read a market's bars and part what research may see from what it may not."""

from __future__ import annotations

from pipelines.artifacts import artifact, root
from pipelines.params import Params
from tradelib.data.bars import window
from tradelib.data.files import write_bars

SECTIONS = ("windows", "markets")


def main(params: Params, market: str) -> None:
    """Write `research.parquet` (in and out of sample) and `tape.parquet` (the same and the paper window)."""
    windows = params.windows
    bars = params.markets[market].read(root())
    folder = artifact("data", market)
    folder.mkdir(parents=True, exist_ok=True)
    write_bars(window(bars, windows.in_sample.start, windows.out_of_sample.end), folder / "research.parquet")
    write_bars(window(bars, windows.in_sample.start, windows.paper.end), folder / "tape.parquet")
