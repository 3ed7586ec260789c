"""The quantstats report of a result, with that library's known faults put right.

quantstats 0.0.86 is widely known and worth having beside tradelib's own page. On pandas 3 its annual bar chart puts the
bars at years since 1970; its page asks the network for an icon; it logs a hundred lines about missing fonts. All three
are repaired here, around the unchanged library, and the page holds no date of its making: the same result gives the
same bytes.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tradelib.data.files import replace_file
from tradelib.errors import ParameterError, require
from tradelib.report.tables import covering

if TYPE_CHECKING:
    from tradelib.backtest.result import Result

__all__ = ["quantstats_report"]


def quantstats_report(
    result: Result, path: str | Path, benchmark: pd.Series[float] | None = None, *, title: str | None = None
) -> Path:
    """Write the quantstats page of `result` to `path` in one step; returns the path.

    `benchmark`: simple returns covering the bars of the result, or None. Takes several seconds.
    `ParameterError` when the account never moved (quantstats cannot draw it) or the benchmark does not fit.
    """
    returns = _naive(result.returns)
    if not (returns != 0.0).any():
        raise ParameterError("the account never moved: there is nothing for quantstats to draw")
    other = (
        None if benchmark is None else _naive(covering(benchmark, result)).rename(str(benchmark.name or "Benchmark"))
    )
    with _repaired() as reports, tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        reports.html(
            returns,
            benchmark=other,
            output=str(page),
            title=title or result.title,
            periods_per_year=result.periods_per_year,
            strategy_title="Strategy",
            match_dates=False,
        )
        return replace_file(path, _offline(page.read_text(encoding="utf-8")).encode())


def _naive(returns: pd.Series[float]) -> pd.Series[float]:
    """quantstats wants times without a zone; the numbers stay."""
    return returns.set_axis(pd.DatetimeIndex(returns.index).tz_localize(None))


@contextmanager
def _repaired() -> Iterator[Any]:
    """`quantstats.reports` with the repairs in force inside the block; everything is put back afterwards."""
    matplotlib = require("matplotlib", "research")
    fonts = logging.getLogger("matplotlib.font_manager")
    backend, level = matplotlib.get_backend(), fonts.level
    fonts.setLevel(logging.ERROR)
    matplotlib.use("Agg")
    reports = require("quantstats.reports", "research")
    core = require("quantstats._plotting.core", "research")
    original = core.safe_resample
    core.safe_resample = _by_year(original)
    try:
        with matplotlib.rc_context({"svg.hashsalt": "tradelib"}):
            yield reports
    finally:
        core.safe_resample = original
        fonts.setLevel(level)
        matplotlib.use(backend)


def _by_year(original: Any) -> Any:
    """Label yearly values by the year itself: on pandas 3 the annual bar chart misplaces times."""

    def safe_resample(data: Any, freq: str, func_name: Any = None, **options: Any) -> Any:
        resampled = original(data, freq, func_name, **options)
        if freq in ("YE", "A", "Y") and func_name == "last" and isinstance(resampled.index, pd.DatetimeIndex):
            resampled = resampled.set_axis(resampled.index.year)
        return resampled

    return safe_resample


def _offline(page: str) -> str:
    """The page without its icon, its link, the dates of its making, and a percent sign that few fonts have."""
    page = re.sub(r"<link[^>]*favicon[^>]*>", '<link rel="icon" href="data:,">', page)
    page = re.sub(r'<a href="https?://[^"]*"[^>]*>(.*?)</a>', r"\1", page, flags=re.DOTALL)
    return re.sub(r"<dc:date>.*?</dc:date>", "", page).replace("CAGR\ufe6a", "CAGR")
