"""The charts of the verdict page: linked equity, drawdown, the sweep, and the bell curve of the Sharpe ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tradelib.errors import ParameterError
from tradelib.report.charts import Band, Line, density_chart, heat_map, line_chart
from tradelib.report.labels import LABELS
from tradelib.report.page import Markup, tag
from tradelib.report.verdict_data import CandidateData, SeriesData, SweepData, WindowData

__all__ = ["equity_charts", "evidence_chart", "sweep_chart"]

_LOOKS: dict[tuple[str, str | None], tuple[str, str, bool]] = {
    ("research", "in_sample"): ("in sample", "c2", False),
    ("research", "out_of_sample"): ("out of sample", "c1", False),
    ("research", "paper"): ("research, paper window", "c1", True),
    ("paper", "paper"): ("paper account", "c3", False),
}
_BANDS = {"in_sample": "in sample", "out_of_sample": "out of sample", "paper": "paper"}


def equity_charts(series: Sequence[SeriesData], windows: Sequence[WindowData]) -> list[Markup]:
    """Growth of 1 with the windows shaded in turn, and the drawdown of each account below it."""
    lines = _linked(series)
    if not lines:
        return [tag("p", "The series hold no value.", class_="note")]
    bands = [Band(_BANDS[w.name], _time(w.start), _time(w.end), row % 2 == 1) for row, w in enumerate(windows)]
    silent = [Band("", band.start, band.end) for band in bands if band.shaded]
    values = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    wide = bool(values.size) and values.min() > 0.0 and values.max() / values.min() > 6.0
    growth = line_chart(
        lines, bands=bands, y_text=_short, logarithmic=wide, label="growth of 1, by window and for the benchmark"
    )
    falls = [_drawdown(line) for line in lines]
    fall = line_chart(falls, bands=silent, y_text="{:.0%}".format, height=8.0, legend=False, label="drawdown")
    headings = [tag("small", "Growth of 1" + (" (logarithmic)" if wide else "")), tag("small", "Drawdown")]
    return [headings[0], _named(growth, bands, lines), headings[1], fall]


def _named(chart: Markup, bands: Sequence[Band], lines: Sequence[Line]) -> Markup:
    told = ", ".join(f"{band.label} {band.start:%Y-%m-%d} to {band.end:%Y-%m-%d}" for band in bands)
    return Markup(chart + tag("p", f"Windows: {told}.", class_="note")) if bands and lines else chart


def _time(value: str) -> pd.Timestamp:
    time = pd.Timestamp(value)
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _values(series: SeriesData) -> tuple[pd.DatetimeIndex, npt.NDArray[np.float64]]:
    if len(series.times) != len(series.equity):
        told = f"{len(series.times)} times and {len(series.equity)} equity values"
        raise ParameterError(f"series {series.role}/{series.window}: {told} do not match")
    values = np.array([np.nan if value is None else value for value in series.equity], dtype=np.float64)
    return pd.DatetimeIndex(pd.to_datetime(series.times, utc=True)), values


def _linked(series: Sequence[SeriesData]) -> list[Line]:
    """Research windows start where the one before ended; the paper account starts with the research of its window."""
    lines: list[Line] = []
    starts: dict[str | None, float] = {}
    level = 1.0
    order = {"research": 0, "paper": 1, "benchmark": 2}
    for entry in sorted(series, key=lambda one: (order[one.role], min(one.times, default=""))):
        times, values = _values(entry)
        known = values[np.isfinite(values)]
        if not known.size:
            continue
        start = level if entry.role == "research" else starts.get(entry.window, level if entry.role == "paper" else 1.0)
        growth = start * values / (entry.initial if entry.initial is not None else known[0])
        if entry.role == "research":
            starts[entry.window] = start
            level = float(growth[np.isfinite(growth)][-1])
        name, color, dashed = _LOOKS.get((entry.role, entry.window), ("benchmark", "c4", False))
        lines.append(Line(entry.label or name, times, growth, color, dashed))
    return sorted(lines, key=lambda line: (line.color != "c4", line.dashed))


def _drawdown(line: Line) -> Line:
    peak = np.maximum.accumulate(np.where(np.isfinite(line.values), line.values, -np.inf))
    filled = line.color != "c4" and not line.dashed
    return Line(line.label, line.times, line.values / peak - 1.0, line.color, line.dashed, filled)


def sweep_chart(sweep: SweepData) -> Markup:
    """The grid as a table of coloured figures with the chosen point outlined."""
    if len(sweep.values) != len(sweep.rows) or any(len(line) != len(sweep.columns) for line in sweep.values):
        raise ParameterError(f"sweep values must be {len(sweep.rows)} rows of {len(sweep.columns)} figures")
    chosen = None if sweep.chosen is None else (_plain(sweep.chosen[0]), _plain(sweep.chosen[1]))
    return heat_map(
        [_plain(value) for value in sweep.rows],
        [_plain(value) for value in sweep.columns],
        sweep.values,
        corner=f"{sweep.row_name} ↓  {sweep.column_name} →",
        value_text=LABELS.get(sweep.figure, ("", "{:.2f}"))[1].format,
        chosen=chosen,
        label=f"{sweep.figure} over {sweep.row_name} and {sweep.column_name}",
    )


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def evidence_chart(candidate: CandidateData) -> Markup:
    """The estimate's bell curve in annual terms, with the ratio that luck alone shows."""
    told = candidate.sharpe or {}
    names = ("sharpe", "expected_maximum", "skewness", "kurtosis", "observations")
    if any(told.get(name) is None for name in names):
        return Markup("")
    root, ratio = math.sqrt(candidate.periods_per_year), float(told["sharpe"])
    variance = 1.0 - told["skewness"] * ratio + (told["kurtosis"] - 1.0) / 4.0 * ratio**2
    deviation = math.sqrt(max(variance, 1e-12) / (told["observations"] - 1.0)) * root
    luck = float(told["expected_maximum"]) * root
    marks = {"mark": f"measured {ratio * root:.2f}", "threshold_mark": f"luck {luck:.2f}"}
    return density_chart(ratio * root, deviation, luck, **marks)
