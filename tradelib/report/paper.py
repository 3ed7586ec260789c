"""A4 pages that fill from top to bottom: headings, tiles, tables and charts, drawn as vectors by matplotlib.

Whoever writes a document says what comes next; where it stands, and when a page is full, is decided here.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd

from tradelib.errors import require
from tradelib.report.charts import thin

__all__ = ["BLUE", "GREY", "INK", "ORANGE", "RED", "SOFT", "Paper", "curve", "look"]

INK = "#1c1e21"
SOFT = "#62666d"
FAINT = "#d9dbd7"
CARD = "#f4f6f9"
BLUE = "#0072B2"
ORANGE = "#E69F00"
RED = "#D55E00"
GREY = "#8a8f98"
_WIDTH, _HEIGHT, _MARGIN = 8.27, 11.69, 0.65
_LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "pdf.fonttype": 42,
    "text.color": INK,
    "text.usetex": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e8e4",
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 6.8,
    "ytick.labelsize": 6.8,
    "xtick.major.size": 2,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 6.8,
    "lines.linewidth": 0.9,
}


def look(more: Mapping[str, Any] | None = None) -> Any:
    """A context in which matplotlib draws as on these pages; `more`: further settings of it."""
    return require("matplotlib", "research").rc_context({**_LOOK, **(more or {})})


class Paper:
    """A PDF document in the making: use as a context, ask for `content` when it is closed. All lengths in inches.

    It carries no date: the same calls give the same bytes.
    """

    def __init__(self, title: str, foot: str) -> None:
        self.title, self.foot = title, foot
        self._buffer, self._stack = io.BytesIO(), ExitStack()
        self._figure: Any = None
        self._number, self._y = 0, 0.0

    def __enter__(self) -> Paper:
        backend = require("matplotlib.backends.backend_pdf", "research")
        self._stack.enter_context(look())
        metadata = {"Title": self.title, "Creator": "tradelib", "Producer": "matplotlib", "CreationDate": None}
        self._pages = self._stack.enter_context(backend.PdfPages(self._buffer, metadata=metadata))
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._finish()
        self._stack.close()

    @property
    def content(self) -> bytes:
        """The finished document."""
        return self._buffer.getvalue()

    @property
    def width(self) -> float:
        """Between the margins."""
        return _WIDTH - 2 * _MARGIN

    def new_page(self) -> None:
        """Go on at the top of the next page."""
        self._finish()
        self._number += 1
        figure = require("matplotlib.figure", "research").Figure(figsize=(_WIDTH, _HEIGHT))
        self._figure, self._y = figure, _HEIGHT - _MARGIN
        self._text(0.0, _MARGIN * 0.55, self.foot, size=6.2, color=SOFT)
        self._text(self.width, _MARGIN * 0.55, f"{self._number}", size=6.2, color=SOFT, align="right")

    def _finish(self) -> None:
        if self._figure is not None:
            self._pages.savefig(self._figure)
            self._figure = None

    def need(self, height: float) -> None:
        """A new page unless this one still has `height`."""
        if self._figure is None or self._y - height < _MARGIN:
            self.new_page()

    def gap(self, height: float) -> None:
        """Leave `height` empty."""
        self._y -= height

    def _text(self, x: float, y: float, said: str, *, size: float = 7.5, align: str = "left", **look: Any) -> None:
        place = ((_MARGIN + x) / _WIDTH, y / _HEIGHT)
        self._figure.text(*place, said, fontsize=size, ha=align, parse_math=False, **look)

    def _line(self, y: float, color: str = FAINT, width: float = 0.5) -> None:
        lines = require("matplotlib.lines", "research")
        span = [_MARGIN / _WIDTH, (_WIDTH - _MARGIN) / _WIDTH]
        self._figure.add_artist(lines.Line2D(span, [y / _HEIGHT] * 2, color=color, linewidth=width))

    def headline(self, said: str, below: Sequence[str]) -> None:
        """The title of the document, and lines below it."""
        self.need(1.0)
        self._text(0.0, self._y - 0.22, textwrap.shorten(said, 60, placeholder=" …"), size=17, weight="bold")
        self.gap(0.42)
        for line in below:
            self.words(line)

    def heading(self, said: str, keep: float = 1.2) -> None:
        """A heading that stays on one page with the `keep` inches after it."""
        self.need(0.4 + keep)
        self.gap(0.3)
        self._text(0.0, self._y, said, size=10.5, weight="bold")
        self.gap(0.08)
        self._line(self._y)
        self.gap(0.1)

    def words(self, said: str, width: int = 128) -> None:
        """A paragraph in small grey type."""
        for line in textwrap.wrap(said, width) or [""]:
            self.need(0.15)
            self.gap(0.14)
            self._text(0.0, self._y, line, size=7.2, color=SOFT)
        self.gap(0.05)

    def tiles(self, items: Sequence[tuple[str, str, str]]) -> None:
        """Figures in large type: (label, figure, note) each."""
        patches = require("matplotlib.patches", "research")
        height, between = 0.72, 0.1
        self.need(height + 0.1)
        self.gap(height + 0.05)
        width = (self.width - between * (len(items) - 1)) / len(items)
        for place, (label, figure, note) in enumerate(items):
            x = place * (width + between)
            corner = ((_MARGIN + x) / _WIDTH, self._y / _HEIGHT)
            box = patches.Rectangle(corner, width / _WIDTH, height / _HEIGHT, facecolor=CARD, edgecolor=FAINT, lw=0.5)
            self._figure.add_artist(box)
            self._text(x + 0.09, self._y + 0.52, label, size=6.8, color=SOFT)
            self._text(x + 0.09, self._y + 0.26, figure, size=13, weight="bold")
            self._text(x + 0.09, self._y + 0.1, note, size=5.8, color=SOFT)
        self.gap(0.08)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float] | None = None) -> None:
        """Rows of text under a heading that is repeated on each page; the first column flush left, the others right.

        `widths`: share of each column; default: equal.
        """
        shares = np.asarray(widths if widths is not None else [1.0] * len(head), dtype=np.float64)
        ends = (self.width * np.cumsum(shares) / shares.sum()).tolist()
        step, fresh = 0.165, True
        for row in rows:
            if fresh or self._y - step < _MARGIN:
                self.need(3 * step)
                self._row(head, ends, step, color=SOFT)
                self._line(self._y, GREY, 0.6)
                fresh = False
            self._row(row, ends, step)
            self._line(self._y)
        self.gap(0.06)

    def _row(self, cells: Sequence[str], ends: Sequence[float], step: float, color: str = INK) -> None:
        self.gap(step)
        for column, (cell, end) in enumerate(zip(cells, ends, strict=True)):
            place, align = (0.0, "left") if column == 0 else (end, "right")
            self._text(place, self._y + 0.05, cell, size=6.9, align=align, color=color)

    def charts(self, height: float, count: int = 1, *, inner: float = 0.42, below: float = 0.24) -> list[Any]:
        """`count` axes beside each other, `height` in all; `inner` is left for labels of the y axis, `below` of x."""
        self.need(height + 0.05)
        self.gap(height)
        width = self.width / count
        boxes = [(_MARGIN + place * width + inner, width - inner - 0.06) for place in range(count)]
        bottom, tall = (self._y + below) / _HEIGHT, (height - below - 0.2) / _HEIGHT
        return [self._figure.add_axes((x / _WIDTH, bottom, wide / _WIDTH, tall)) for x, wide in boxes]


def curve(axes: Any, values: pd.Series[float], color: str, label: str = "", most: int = 1500, **look: Any) -> None:
    """A line over time of at most about `most` points that keeps every extreme."""
    known = np.asarray(values, dtype=np.float64)
    positions, kept = thin(np.arange(len(known), dtype=np.float64), known, most)
    times = pd.DatetimeIndex(values.index)[positions.astype(int)].tz_localize(None).to_numpy()
    axes.plot(times, kept, color=color, label=label, **look)
