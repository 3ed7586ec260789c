"""A result as an Excel workbook: numbers that stay numbers, with Excel's own charts.

Text never becomes a formula or a link, whatever it begins with. Times are UTC without a zone, as Excel has none, and
their heading says so. The file holds no date of its making: the same result gives the same bytes.
"""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import drawdown_series
from tradelib.errors import ParameterError, require
from tradelib.report import tables
from tradelib.report.labels import LABELS

if TYPE_CHECKING:
    from tradelib.report.sheet import TearSheet

__all__ = ["MOST_ROWS", "SHEETS", "workbook"]

SHEETS = ("Summary", "Equity", "Returns by month", "Drawdowns", "Trades", "Orders", "Fills", "Costs", "Settings")
MOST_ROWS = 1_048_575
"""Rows of a sheet below its heading; source: "Excel specifications and limits", Microsoft."""
_MOST_POINTS = 30_000
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_TIME, _DAY, _PERCENT, _MONEY, _COUNT, _ANY = "yyyy-mm-dd hh:mm", "yyyy-mm-dd", "0.00%", "#,##0.00", "#,##0", "General"
_BLUE, _GREY, _RED = "#0072B2", "#7A7A7A", "#D55E00"
_FORMATS = {
    "depth": _PERCENT, "return": "0.00%;[Red]-0.00%", "drawdown": _PERCENT, "mae": _PERCENT, "mfe": _PERCENT,
    "equity": _MONEY, "cash": _MONEY, "profit": "#,##0.00;[Red]-#,##0.00", "fees": _MONEY, "fee": _MONEY,
    "slippage_cost": _MONEY, "gross": "0.0%", "net": "0.0%", "bars": _COUNT, "bars_to_bottom": _COUNT,
    "bars_to_recover": _COUNT, "amount": _MONEY, "win_rate": "0%", "profit_factor": "0.00", "best": _MONEY,
    "worst": _MONEY, "trades": _COUNT, "benchmark return": _PERCENT, "benchmark growth": "0.0000", "growth": "0.0000",
}  # fmt: skip


def workbook(sheet: TearSheet) -> bytes:
    """The workbook of a tear sheet; `ParameterError` where a table is longer than a sheet can be."""
    writer, buffer = require("xlsxwriter", "research"), io.BytesIO()
    rules = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with writer.Workbook(buffer, {"in_memory": True, "nan_inf_to_errors": False, **rules}) as book:
        last = sheet.result.index[-1]
        made = datetime.datetime(last.year, last.month, last.day, tzinfo=datetime.UTC)
        book.set_properties({"title": sheet.title, "author": "", "created": made})
        pages = _Pages(book, {name: book.add_worksheet(name) for name in SHEETS}, {})
        for write in (_summary, _equity, _months, _drawdowns, _trades, _records, _costs, _settings):
            write(pages, sheet)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Pages:
    """The book, its sheets by name, and the formats made so far."""

    book: Any
    sheets: dict[str, Any]
    formats: dict[str, Any]

    def style(self, number: str = _ANY, **look: Any) -> Any:
        """A format of the book; made once."""
        key = f"{number}{sorted(look.items())}"
        if key not in self.formats:
            self.formats[key] = self.book.add_format({"num_format": number, "valign": "top", **look})
        return self.formats[key]

    @property
    def heading(self) -> Any:
        return self.style(bold=True, bottom=1, text_wrap=True, bg_color="#EEF2F7")


def _put(pages: _Pages, page: Any, row: int, column: int, value: Any, style: Any) -> None:
    """One cell by the type of `value`; blank where there is none, text always as text."""
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        page.write_blank(row, column, None, style)
    elif isinstance(value, pd.Timestamp):
        page.write_datetime(row, column, value.tz_localize(None).to_pydatetime(warn=False), style)
    elif isinstance(value, bool | np.bool_):
        page.write_boolean(row, column, bool(value), style)
    elif isinstance(value, int | float | np.number) and math.isfinite(value):
        page.write_number(row, column, float(value), style)
    else:
        page.write_string(row, column, str(value), style)


def _table(
    pages: _Pages, name: str, frame: pd.DataFrame, *, top: int = 0, formats: Mapping[str, str] | None = None
) -> None:
    """`frame` (columns only) from row `top` on, with a heading; widths by the longest heading or value."""
    if len(frame) + top > MOST_ROWS:
        raise ParameterError(
            f"{name} has {len(frame):,} rows, a sheet of Excel holds {MOST_ROWS:,}: save as .html, or the result itself"
        )
    page, known = pages.sheets[name], {**_FORMATS, **(formats or {})}
    for column, title in enumerate(frame.columns):
        page.write_string(top, column, _title(frame[title], str(title)), pages.heading)
        style = pages.style(known.get(str(title), _format_of(frame[title])))
        for row, value in enumerate(_cells(frame[title]), top + 1):
            _put(pages, page, row, column, value, style)
        page.set_column(column, column, _width(frame[title], str(title)))


def _title(values: pd.Series[Any], name: str) -> str:
    said = name.replace("_", " ")
    return f"{said} (UTC)" if pd.api.types.is_datetime64_any_dtype(values.dtype) else said


def _format_of(values: pd.Series[Any]) -> str:
    if not pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _ANY
    known = pd.DatetimeIndex(values.dropna())
    return _DAY if bool((known == known.normalize()).all()) else _TIME


def _cells(values: pd.Series[Any]) -> list[Any]:
    return [str(value) for value in values] if values.dtype == "timedelta64[ns]" else values.tolist()


def _width(values: pd.Series[Any], name: str) -> int:
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return 18
    longest = int(values.astype("str").str.len().max()) if len(values) and not _numeric(values) else 12
    return min(max(longest, len(name)) + 2, 60)


def _numeric(values: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(values.dtype)


def _number_format(name: str) -> str:
    """The format of a metric on the pages, `{:.2%}`, as Excel writes it."""
    form = LABELS.get(name, ("", "{:.4f}"))[1]
    places = int(form.partition(".")[2][0])
    whole = "#,##0" if "," in form else "0"
    return whole + ("." + "0" * places if places else "") + ("%" if "%" in form else "")


def _summary(pages: _Pages, sheet: TearSheet) -> None:
    page, result = pages.sheets["Summary"], sheet.result
    page.hide_gridlines(2)
    page.set_column(0, 0, 34)
    page.set_column(1, 2, 16)
    page.write_string(0, 0, sheet.title, pages.style(bold=True, font_size=16))
    first, last = (tables.stamp(result.index[row]) for row in (0, -1))
    span = f"{first} to {last} (UTC), {len(result.index):,} bars, {result.periods_per_year:,.0f} periods a year"
    page.write_string(1, 0, span, pages.style(font_color=_GREY))
    columns = tables.metrics_table(result, sheet.benchmark)
    page.write_row(3, 0, ["figure", *columns], pages.heading)
    names = [name for name in LABELS if any(name in figures for figures in columns.values())]
    for row, name in enumerate(names, 4):
        page.write_string(row, 0, LABELS[name][0], pages.style())
        for column, figures in enumerate(columns.values(), 1):
            _put(pages, page, row, column, figures.get(name), pages.style(_number_format(name)))
    page.freeze_panes(4, 1)
    page.insert_chart("E4", _equity_chart(pages, sheet), {"x_scale": 1.6, "y_scale": 1.3})


def _equity_frame(sheet: TearSheet) -> pd.DataFrame:
    """Per bar: equity, return, growth of 1, drawdown, cash, exposure, and the benchmark."""
    result = sheet.result
    columns: dict[str, Any] = {"time": result.index, "equity": result.equity.to_numpy()}
    columns |= {"return": result.returns.to_numpy(), "growth": (1.0 + result.returns).cumprod().to_numpy()}
    columns |= {"drawdown": drawdown_series(result.returns).to_numpy(), "cash": result.cash.to_numpy()}
    columns |= {name: result.exposure[name].to_numpy() for name in ("gross", "net")}
    if sheet.benchmark is not None:
        columns["benchmark return"] = sheet.benchmark.to_numpy()
        columns["benchmark growth"] = (1.0 + sheet.benchmark).cumprod().to_numpy()
    return pd.DataFrame(columns)


def _equity(pages: _Pages, sheet: TearSheet) -> None:
    frame, page = _equity_frame(sheet), pages.sheets["Equity"]
    _table(pages, "Equity", frame)
    page.freeze_panes(1, 1)
    page.autofilter(0, 0, len(frame), len(frame.columns) - 1)
    beside = len(frame.columns) + 1
    page.insert_chart(1, beside, _equity_chart(pages, sheet), {"x_scale": 1.6, "y_scale": 1.2})
    page.insert_chart(
        20, beside, _line_chart(pages, sheet, {"drawdown": _RED}, "Drawdown", "0%", "area"), {"x_scale": 1.6}
    )


def _equity_chart(pages: _Pages, sheet: TearSheet) -> Any:
    curves = {"growth": _BLUE} | ({"benchmark growth": _GREY} if sheet.benchmark is not None else {})
    return _line_chart(pages, sheet, curves, "Growth of 1", "0.00", "line")


def _line_chart(pages: _Pages, sheet: TearSheet, curves: Mapping[str, str], title: str, number: str, kind: str) -> Any:
    """A chart over time of columns of the sheet Equity; the last 30,000 bars where there are more."""
    names, rows = list(_equity_frame(sheet).columns), len(sheet.result.index)
    first = max(1, rows - _MOST_POINTS + 1)
    chart = pages.book.add_chart({"type": kind})
    for name, color in curves.items():
        column = names.index(name)
        chart.add_series({
            "name": ["Equity", 0, column],
            "categories": ["Equity", first, 0, rows, 0],
            "values": ["Equity", first, column, rows, column],
            "line": {"color": color, "width": 1.25},
            **({"fill": {"color": color, "transparency": 70}} if kind == "area" else {}),
        })  # fmt: skip
    cut = "" if first == 1 else f" (last {_MOST_POINTS:,} bars)"
    chart.set_title({"name": title + cut, "name_font": {"size": 12}})
    chart.set_x_axis(
        {"date_axis": True, "num_format": "yyyy-mm", "label_position": "low", "num_font": {"rotation": -45}}
    )
    chart.set_y_axis({"num_format": number, "major_gridlines": {"visible": True, "line": {"color": "#DDDDDD"}}})
    chart.set_legend({"position": "bottom"} if len(curves) > 1 else {"none": True})
    return chart


def _months(pages: _Pages, sheet: TearSheet) -> None:
    page, months = pages.sheets["Returns by month"], tables.monthly_returns(sheet.result.returns)
    years = tables.yearly_table(sheet.result.returns, sheet.benchmark)
    frame = months.set_axis([*_MONTHS, "total"], axis=1).reset_index()
    if "benchmark" in years:
        frame["benchmark"] = years["benchmark"].to_numpy()
    _table(
        pages,
        "Returns by month",
        frame,
        formats=dict.fromkeys([*_MONTHS, "total", "benchmark"], "0.0%") | {"year": "0"},
    )
    page.freeze_panes(1, 1)
    page.set_column(1, 12, 8)
    scale = {"type": "3_color_scale", "mid_type": "num", "mid_value": 0}
    colors = {"min_color": "#E8A07A", "mid_color": "#FFFFFF", "max_color": "#7FB3DB"}
    page.conditional_format(1, 1, len(frame), 12, scale | colors)
    _columns_chart(
        pages, "Returns by month", len(frame), [name for name in ("total", "benchmark") if name in frame], frame, "0%"
    )


def _columns_chart(
    pages: _Pages, name: str, rows: int, series: Sequence[str], frame: pd.DataFrame, number: str, stacked: bool = False
) -> None:
    """A column chart below the table of a sheet, whose first column holds the categories."""
    chart = pages.book.add_chart({"type": "column", **({"subtype": "stacked"} if stacked else {})})
    for title, color in zip(series, (_BLUE, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", _RED), strict=False):
        column = list(frame.columns).index(title)
        chart.add_series({
            "name": [name, 0, column], "categories": [name, 1, 0, rows, 0],
            "values": [name, 1, column, rows, column], "fill": {"color": _GREY if title == "benchmark" else color},
        })  # fmt: skip
    chart.set_y_axis({"num_format": number, "major_gridlines": {"visible": True, "line": {"color": "#DDDDDD"}}})
    chart.set_x_axis({"label_position": "low"})
    chart.set_title({"name": f"{name.partition(' by')[0]} by year", "name_font": {"size": 12}})
    chart.set_legend({"position": "bottom"})
    pages.sheets[name].insert_chart(rows + 2, 0, chart, {"x_scale": 1.6})


def _drawdowns(pages: _Pages, sheet: TearSheet) -> None:
    frame = tables.drawdown_table(sheet.result.returns, None).reset_index()
    _table(pages, "Drawdowns", frame)
    pages.sheets["Drawdowns"].freeze_panes(1, 1)
    if len(frame):
        bars = {"type": "data_bar", "bar_color": "#E8A07A"}
        pages.sheets["Drawdowns"].conditional_format(1, 4, len(frame), 4, bars)


def _trades(pages: _Pages, sheet: TearSheet) -> None:
    frame, page = sheet.result.trades, pages.sheets["Trades"]
    frame["duration"] = frame["duration"].dt.total_seconds() / 86_400
    frame = frame.rename(columns={"duration": "days held"})
    _table(pages, "Trades", frame, formats={"days held": "#,##0.00"})
    page.freeze_panes(1, 2)
    if len(frame):
        page.autofilter(0, 0, len(frame), len(frame.columns) - 1)
        page.insert_chart(1, len(frame.columns) + 1, _scatter(pages, frame), {"x_scale": 1.3, "y_scale": 1.3})


def _scatter(pages: _Pages, frame: pd.DataFrame) -> Any:
    """Return of each trade against its maximum adverse excursion."""
    names, rows = list(frame.columns), min(len(frame), _MOST_POINTS)
    x, y = names.index("mae"), names.index("return")
    chart = pages.book.add_chart({"type": "scatter"})
    dots = {"type": "circle", "size": 4, "fill": {"color": _BLUE, "transparency": 40}, "border": {"none": True}}
    span = {"categories": ["Trades", 1, x, rows, x], "values": ["Trades", 1, y, rows, y]}
    chart.add_series({**span, "marker": dots})
    chart.set_title({"name": "Return against maximum adverse excursion", "name_font": {"size": 12}})
    chart.set_x_axis({"name": "maximum adverse excursion", "num_format": "0%", "label_position": "low"})
    chart.set_y_axis({"name": "return", "num_format": "0%", "label_position": "low"})
    chart.set_legend({"none": True})
    return chart


def _records(pages: _Pages, sheet: TearSheet) -> None:
    for name, frame in (("Orders", sheet.result.orders), ("Fills", sheet.result.fills)):
        _table(pages, name, frame)
        pages.sheets[name].freeze_panes(1, 1)
        if len(frame):
            pages.sheets[name].autofilter(0, 0, len(frame), len(frame.columns) - 1)


def _costs(pages: _Pages, sheet: TearSheet) -> None:
    yearly = tables.costs_by_year(sheet.result)
    kinds, page = list(yearly.columns), pages.sheets["Costs"]
    frame = yearly.reset_index()
    _table(pages, "Costs", frame, formats=dict.fromkeys(kinds, _MONEY) | {"year": "0"})
    page.freeze_panes(1, 1)
    page.set_column(0, len(kinds), 16)
    beside = len(kinds) + 2
    page.write_row(0, beside, ["kind", "paid", "of initial cash"], pages.heading)
    page.set_column(beside, beside + 2, 18)
    paid = sheet.result.costs_by_kind
    for row, (kind, amount) in enumerate([*paid.items(), ("together", float(paid.sum()))], 1):
        page.write_string(row, beside, str(kind).replace("_", " "), pages.style(bold=kind == "together"))
        page.write_number(row, beside + 1, float(amount), pages.style(_MONEY, bold=kind == "together"))
        page.write_number(row, beside + 2, float(amount) / sheet.result.initial_cash, pages.style("0.000%"))
    if len(frame):
        _columns_chart(pages, "Costs", len(frame), kinds, frame, "#,##0", stacked=True)


def _settings(pages: _Pages, sheet: TearSheet) -> None:
    page = pages.sheets["Settings"]
    page.write_row(0, 0, ["setting", "value"], pages.heading)
    page.set_column(0, 0, 34)
    page.set_column(1, 1, 72)
    for row, (name, value) in enumerate(tables.settings_table(sheet.result).items(), 1):
        page.write_string(row, 0, name.replace("_", " "), pages.style())
        page.write_string(row, 1, value, pages.style(text_wrap=True))
    page.freeze_panes(1, 0)
