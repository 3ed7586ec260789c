"""A tear sheet: one backtest on one page, for a reader who wants to know how it was earned and how it felt."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tradelib.data.files import replace_file
from tradelib.errors import ParameterError, require
from tradelib.report import pdf, sheet_page, workbook
from tradelib.report.charts import HOVER
from tradelib.report.page import page
from tradelib.report.studies import check_studies, run_study
from tradelib.report.tables import benchmark_returns

if TYPE_CHECKING:
    from tradelib.backtest.result import Result

__all__ = ["TearSheet", "tear_sheet"]

_FIT = """
const fit = new ResizeObserver(seen => { for (const one of seen) Plotly.Plots.resize(one.target); });
for (const plot of document.querySelectorAll('.plotly-graph-div')) fit.observe(plot);
"""


@dataclass(frozen=True, eq=False, repr=False)
class TearSheet:
    """A report about `result`; `benchmark` holds returns on the same bars, or None; `asked` names the studies."""

    result: Result
    benchmark: pd.Series[float] | None
    title: str
    asked: tuple[str, ...] = ()
    seed: int = 0

    @cached_property
    def studies(self) -> dict[str, Any]:
        """What each study found, or `NotComputed` with the reason; computed when first needed."""
        return {name: run_study(name, self.result, self.seed) for name in self.asked}

    def to_html(self) -> str:
        """One self-contained interactive page (about 5 MB: plotly travels inside); works offline."""
        plotly = require("plotly.offline", "research").get_plotlyjs()
        return page(self.title, *sheet_page.content(self), libraries=[plotly], scripts=[_FIT])

    def to_pdf(self) -> bytes:
        """A document of several A4 pages, drawn as vectors; the same result gives the same bytes."""
        return pdf.document(self)

    def to_xlsx(self) -> bytes:
        """A workbook of sheets with numbers, formats and charts of Excel; the same result gives the same bytes."""
        return workbook.workbook(self)

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), the document (.pdf) or the workbook (.xlsx) to `path` in one step; returns the path.

        `ParameterError` for another ending.
        """
        forms: dict[str, Callable[[], bytes]] = {
            ".html": lambda: self.to_html().encode(),
            ".pdf": self.to_pdf,
            ".xlsx": self.to_xlsx,
        }
        ending = Path(path).suffix.lower()
        if ending not in forms:
            raise ParameterError(f"{path}: a tear sheet is saved as {', '.join(forms)}; choose one of these endings")
        return replace_file(path, forms[ending]())

    def __repr__(self) -> str:
        return f"TearSheet({self.title!r}); .save('sheet.html'), '.pdf' or '.xlsx' writes it"

    def _repr_html_(self) -> str:
        """A light version for notebooks: figures, equity and drawdown in a frame of their own."""
        inner, name = html.escape(page(self.title, *sheet_page.light(self), scripts=[HOVER])), html.escape(self.title)
        return f'<iframe srcdoc="{inner}" style="width:100%;height:660px;border:0" title="{name}"></iframe>'


def tear_sheet(
    result: Result,
    *,
    benchmark: pd.Series[float] | str | None = "hold",
    title: str | None = None,
    studies: Iterable[str] | str = ("value_at_risk",),
    seed: int = 0,
) -> TearSheet:
    """The tear sheet of a backtest.

    `benchmark`: simple returns on the bars of the result (a Series; its name is shown), "hold" for the traded symbols
    bought in equal parts and held without costs, or None. `studies`: looks that take longer, "all" or names of
    `tradelib.report.studies.STUDIES`; `seed` is theirs. `ParameterError` when the benchmark does not cover every bar.
    """
    told = f"{result.title} {result.panel.timeframe}"
    return TearSheet(result, benchmark_returns(result, benchmark), title or told, check_studies(studies), seed)
