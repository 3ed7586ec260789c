"""Charts as plain SVG and HTML: light or dark with the page, sharp on paper, labels of one size on every screen.

The drawing stretches with its box while labels are HTML placed by percentages, so that a chart on a phone has the same
type size as on a desk. Colours are the page's CSS variables (`page.STYLE`).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tradelib.report.page import Markup, join, tag

__all__ = ["HOVER", "Band", "Line", "density_chart", "heat_map", "line_chart", "sparse", "thin"]

Floats = npt.NDArray[np.float64]
_POINTS = 1200


@dataclass(frozen=True)
class Line:
    """A line over time: `values` per `times` (UTC); `color` is a CSS variable name such as c1. `dots`: points alone."""

    label: str
    times: pd.DatetimeIndex
    values: Floats
    color: str = "c1"
    dashed: bool = False
    filled: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Band:
    """A stretch of time with its name, shaded or not."""

    label: str
    start: pd.Timestamp
    end: pd.Timestamp
    shaded: bool = True


def thin(x: Floats, y: Floats, most: int = _POINTS) -> tuple[Floats, Floats]:
    """At most about `most` points that keep every bucket's lowest and highest value; missing values are dropped."""
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if x.size <= most:
        return x, y
    edges = np.linspace(0, x.size, most // 2 + 1).astype(int)
    stretches = [(a, b) for a, b in itertools.pairwise(edges.tolist()) if b > a]
    kept = {0, x.size - 1}
    for a, b in stretches:
        kept |= {a + int(np.argmin(y[a:b])), a + int(np.argmax(y[a:b]))}
    rows = np.array(sorted(kept))
    return x[rows], y[rows]


def sparse(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between `low` and `high`, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * power for unit in (1, 2, 2.5, 5, 10) if unit * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    lines: Sequence[Line],
    *,
    bands: Sequence[Band] = (),
    y_text: Callable[[float], str] = "{:.2f}".format,
    height: float = 17.0,
    logarithmic: bool = False,
    legend: bool = True,
    label: str = "",
) -> Markup:
    """Lines over time with shaded `bands`; `height` in rem. The `HOVER` script reads values under the pointer."""
    scale: Callable[[Floats], Floats] = np.log if logarithmic else np.asarray
    points = [thin(_days(line.times), np.asarray(line.values, dtype=np.float64)) for line in lines]
    points = [(x, scale(y)) for x, y in points]
    if not any(x.size for x, _ in points):
        return tag("p", "There is nothing to draw.", class_="note")
    frame = _Frame.around(points, headroom=0.1 if any(band.label for band in bands) else 0.04)
    ticks = _log_ticks(frame) if logarithmic else [(value, value) for value in sparse(frame.bottom, frame.top)]
    shapes = [_band(band, frame) for band in bands if band.shaded]
    shapes += [_rule(frame.y(at)) for at, _ in ticks]
    shapes += [_path(line, frame, x, y) for line, (x, y) in zip(lines, points, strict=True)]
    labels = [tag("span", y_text(value), class_="y", style=f"top:{frame.y(at):.2f}%") for at, value in ticks]
    labels += [tag("span", name, class_="x", style=f"left:{frame.x(at):.2f}%") for at, name in _time_ticks(frame)]
    labels += [_band_label(band, frame) for band in bands]
    svg = tag("svg", *shapes, viewBox="0 0 100 100", preserveAspectRatio="none", role="img", aria_label=label)
    data = _hover_data(lines, points, frame, logarithmic)
    return tag("div", svg, *labels, data, class_="plot", style=f"height:{height}rem") + (
        key(lines) if legend else Markup("")
    )


def key(lines: Sequence[Line]) -> Markup:
    """Which line is which."""
    entries = (
        tag("span", tag("i", class_="dashed" if line.dashed else None, style=f"color:var(--{line.color})"), line.label)
        for line in lines
    )
    return tag("div", *entries, class_="key")


@dataclass(frozen=True)
class _Frame:
    """Data range; x in days, y as drawn."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, points: Sequence[tuple[Floats, Floats]], headroom: float) -> _Frame:
        xs, ys = (np.concatenate([pair[axis] for pair in points]) for axis in (0, 1))
        extent = float(ys.max() - ys.min()) or max(abs(float(ys.max())), 1e-9)
        margin = 0.04 * extent
        top = float(ys.max()) + (headroom * extent if ys.max() != 0.0 else 0.0)
        return cls(float(xs.min()), max(float(xs.max()), float(xs.min()) + 1.0), float(ys.min()) - margin, top)

    def x(self, value: float) -> float:
        return 100.0 * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        return 100.0 * (self.top - value) / (self.top - self.bottom)


def _days(times: pd.DatetimeIndex) -> Floats:
    return np.asarray(pd.DatetimeIndex(times).as_unit("ns").asi8, dtype=np.float64) / 86_400e9


def _rule(y: float) -> Markup:
    return tag("line", x1="0", x2="100", y1=f"{y:.2f}", y2=f"{y:.2f}", style="stroke:var(--line)")


def _path(line: Line, frame: _Frame, x: Floats, y: Floats) -> Markup:
    if line.dots:  # a stroke of no length with round ends: a dot of one size on every screen
        spots = "".join(f"M{frame.x(a):.2f},{frame.y(b):.2f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))
        return tag("path", d=spots or "M0,0", style=f"stroke:var(--{line.color});stroke-width:5;stroke-linecap:round")
    told = "M" + "L".join(f"{frame.x(a):.2f},{frame.y(b):.2f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    dash = ";stroke-dasharray:5 4" if line.dashed else ""
    drawn = tag("path", d=told, style=f"stroke:var(--{line.color});stroke-width:1.6;stroke-linejoin:round{dash}")
    if not line.filled or not x.size:
        return drawn
    base = frame.y(min(max(0.0, frame.bottom), frame.top))
    area = f"{told}L{frame.x(float(x[-1])):.2f},{base:.2f}L{frame.x(float(x[0])):.2f},{base:.2f}Z"
    return tag("path", d=area, style=f"fill:var(--{line.color});opacity:.18") + drawn


def _span(band: Band, frame: _Frame) -> tuple[float, float]:
    start, end = _days(pd.DatetimeIndex([band.start, band.end]))
    left, right = (min(max(frame.x(float(edge)), 0.0), 100.0) for edge in (start, end))
    return left, right - left


def _band(band: Band, frame: _Frame) -> Markup:
    left, width = _span(band, frame)
    return tag("rect", x=f"{left:.2f}", width=f"{width:.2f}", y="0", height="100", style="fill:var(--band)")


def _band_label(band: Band, frame: _Frame) -> Markup:
    """The name at the left edge; of a narrow last band at its right edge, reaching out to the left."""
    left, width = _span(band, frame)
    last = left + width > 99.0 and width < 15.0
    place = "right:0" if last else f"left:{left:.2f}%;max-width:{width:.2f}%"
    return tag("span", band.label, class_="band", style=place, title=band.label) if band.label else Markup("")


def _time_ticks(frame: _Frame) -> list[tuple[float, str]]:
    """Years for long histories, months or days for short ones."""
    start, end = (pd.Timestamp(day, unit="D") for day in (math.floor(frame.left), math.ceil(frame.right)))
    span = frame.right - frame.left
    if span > 3 * 365:
        step = next(unit for unit in (1, 2, 5, 10, 20, 50) if span / 365 / unit <= 7)
        years = [year for year in range(start.year + 1, end.year + 1) if year % step == 0]
        return [(pd.Timestamp(year, 1, 1).value / 86_400e9, str(year)) for year in years]
    if span > 60:
        months = pd.date_range(start, end, freq="MS")
        kept = months[:: max(1, math.ceil(len(months) / 6))]
        return [(time.value / 86_400e9, f"{time:%b %Y}") for time in kept]
    days = pd.date_range(start, end, freq="D")
    return [(time.value / 86_400e9, f"{time:%d %b}") for time in days[:: max(1, math.ceil(len(days) / 6))]][1:]


def _log_ticks(frame: _Frame) -> list[tuple[float, float]]:
    low, high = math.exp(frame.bottom), math.exp(frame.top)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_numbers = [unit * 10.0**decade for decade in decades for unit in (1, 2, 5)]
    values = [value for value in round_numbers if low <= value <= high] or sparse(low, high)
    return [(math.log(value), value) for value in (values if len(values) > 2 else sparse(low, high)) if value > 0]


def _hover_data(
    lines: Sequence[Line], points: Sequence[tuple[Floats, Floats]], frame: _Frame, logarithmic: bool
) -> Markup:
    told = [
        {
            "name": line.label,
            "x": [round(frame.x(value), 2) for value in x.tolist()],
            "y": [float(f"{value:.4g}") for value in (np.exp(y) if logarithmic else y).tolist()],
        }
        for line, (x, y) in zip(lines, points, strict=True)
    ]
    payload = {"left": frame.left, "right": frame.right, "lines": told}
    source = json.dumps(payload, separators=(",", ":")).replace("<", "\\u003c")
    return tag("span", class_="read") + Markup(f'<script type="application/json">{source}</script>')


HOVER = """
for (const plot of document.querySelectorAll('.plot')) {
  const source = plot.querySelector('script'); if (!source) continue;
  const data = JSON.parse(source.textContent), read = plot.querySelector('.read');
  const nearest = (list, x) => { let low = 0, high = list.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (list[middle] < x) low = middle; else high = middle; }
    return Math.abs(list[low] - x) < Math.abs(list[high] - x) ? low : high; };
  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect(), x = 100 * (event.clientX - box.left) / box.width;
    if (x < 0 || x > 100) { read.style.display = 'none'; return; }
    const day = data.left + (data.right - data.left) * x / 100;
    const rows = data.lines.filter(line => line.x.length && x >= line.x[0] - 1 && x <= line.x[line.x.length - 1] + 1)
      .map(line => line.name + '  ' + line.y[nearest(line.x, x)]);
    read.textContent = [new Date(day * 864e5).toISOString().slice(0, 10), ...rows].join('\\n');
    read.style.display = 'block';
    [read.style.left, read.style.right] = x > 55 ? ['.35rem', 'auto'] : ['auto', '.35rem']; });
  plot.addEventListener('pointerleave', () => { read.style.display = 'none'; });
}
"""


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    corner: str = "",
    value_text: Callable[[float], str] = "{:.2f}".format,
    chosen: tuple[str, str] | None = None,
    largest: float | None = None,
    label: str = "",
) -> Markup:
    """A table of figures on a scale from orange (below zero) to blue (above).

    `chosen` (row, column) is outlined; figures of size `largest` (default: the largest of all) have the full colour.
    """
    sizes = [abs(value) for line in values for value in line if value is not None and math.isfinite(value)]
    largest = largest or max(sizes, default=0.0) or 1.0
    head = tag("tr", tag("th", corner), *(tag("th", name, scope="col") for name in columns))
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(
                _heat_cell(value, largest, value_text, (name, column) == chosen)
                for column, value in zip(columns, line, strict=True)
            ),
        )
        for name, line in zip(rows, values, strict=True)
    ]
    inner = tag("table", tag("thead", head), tag("tbody", *body), aria_label=label or None)
    return tag("div", inner, class_="scroll heat", tabindex="0")


def _heat_cell(value: float | None, largest: float, value_text: Callable[[float], str], chosen: bool) -> Markup:
    if value is None or not math.isfinite(value):
        return tag("td", "")
    share = 55.0 * min(abs(value) / largest, 1.0)
    color = f"background:color-mix(in oklab, var(--{'gain' if value > 0 else 'loss'}) {share:.0f}%, var(--card))"
    told = ("◆ " if chosen else "") + value_text(value)
    return tag("td", told, class_="chosen" if chosen else None, style=color)


def density_chart(center: float, deviation: float, threshold: float, *, mark: str, threshold_mark: str) -> Markup:
    """The bell curve of an estimate, shaded where it lies above `threshold`: the shaded share is the probability."""
    low = min(center - 3.5 * deviation, threshold - deviation, 0.0)
    high = max(center + 3.5 * deviation, threshold + deviation)
    x = np.linspace(low, high, 161)
    y = np.exp(-0.5 * ((x - center) / deviation) ** 2)
    frame = _Frame(low, high, 0.0, 1.18)

    def outline(xs: Floats, ys: Floats) -> str:
        return "M" + "L".join(
            f"{frame.x(a):.2f},{frame.y(b):.2f}" for a, b in zip(xs.tolist(), ys.tolist(), strict=True)
        )

    above = x >= threshold
    closed = f"{outline(x[above], y[above])}L100,100L{frame.x(threshold):.2f},100Z" if above.any() else "M0,0"
    upright = "stroke:var(--c2);stroke-width:1.6;stroke-dasharray:5 4"
    at, peak = f"{frame.x(threshold):.2f}", f"{frame.x(center):.2f}"
    shapes = [
        tag("path", d=closed, style="fill:var(--c1);opacity:.25"),
        tag("path", d=outline(x, y), style="stroke:var(--c1);stroke-width:1.6"),
        tag("line", x1=at, x2=at, y1="4", y2="100", style=upright),
        tag("line", x1=peak, x2=peak, y1="4", y2="100", style="stroke:var(--c1);stroke-width:1"),
        _rule(100.0),
    ]
    ticks = sparse(low, high, 6)
    labels = [tag("span", f"{value:g}", class_="x", style=f"left:{frame.x(value):.2f}%") for value in ticks]
    sides = ("mark before", "mark") if threshold <= center else ("mark", "mark before")
    labels += [
        tag("span", threshold_mark, class_=sides[0], style=f"left:{at}%;top:0;color:var(--c2)"),
        tag("span", mark, class_=sides[1], style=f"left:{frame.x(center):.2f}%;top:0;color:var(--c1)"),
    ]
    told = f"{mark}; {threshold_mark}"
    svg = tag("svg", *shapes, viewBox="0 0 100 100", preserveAspectRatio="none", role="img", aria_label=told)
    return tag("div", svg, join(labels), class_="plot", style="height:9rem;margin-left:0")
