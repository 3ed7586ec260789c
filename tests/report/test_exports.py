"""A result as a workbook and as a document: numbers that equal the result's, safe text, the same bytes each time."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import backtest, market
from tests.report.test_report_tables import portfolio  # noqa: F401  # a fixture
from tradelib.backtest.result import Result
from tradelib.errors import ParameterError
from tradelib.report import tables, tear_sheet, workbook
from tradelib.report.paper import Paper

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture(scope="module")
def book(result: Result) -> Any:
    return openpyxl.load_workbook(io.BytesIO(tear_sheet(result, studies=()).to_xlsx()))


def frame_of(sheet: Any) -> pd.DataFrame:
    """The table of a sheet, heading included."""
    rows = list(sheet.values)
    return pd.DataFrame(rows[1:], columns=rows[0])


def test_the_sheets_of_the_workbook_stand_in_their_order_with_frozen_headings(book: Any) -> None:
    assert tuple(book.sheetnames) == workbook.SHEETS
    assert all(sheet.freeze_panes for sheet in book)
    charts = {sheet.title: len(sheet._charts) for sheet in book}
    assert {name for name, count in charts.items() if count} == {
        "Summary",
        "Equity",
        "Returns by month",
        "Trades",
        "Costs",
    }


def test_numbers_of_the_workbook_equal_the_results(book: Any, result: Result) -> None:
    equity = frame_of(book["Equity"])
    assert equity["equity"].to_numpy(float) == pytest.approx(result.equity.to_numpy(), rel=1e-15)
    assert equity["return"].to_numpy(float) == pytest.approx(result.returns.to_numpy(), rel=1e-14, abs=1e-18)
    trades = frame_of(book["Trades"])
    assert trades["profit"].to_numpy(float) == pytest.approx(result.trades["profit"].to_numpy(), rel=1e-14)
    assert len(frame_of(book["Orders"])) == len(result.orders)
    assert len(frame_of(book["Fills"])) == len(result.fills)
    months = frame_of(book["Returns by month"]).set_index("year")
    assert months.loc[2021, "Mar"] == pytest.approx(tables.monthly_returns(result.returns).loc[2021, 3], rel=1e-14)
    summary = {row[0].value: row[1] for row in book["Summary"].iter_rows(min_row=5)}
    assert summary["Sharpe ratio"].value == pytest.approx(result.metrics["sharpe_ratio"], rel=1e-15)
    assert summary["Sharpe ratio"].number_format == "0.00"
    assert summary["Maximum drawdown"].number_format == "0.0%"
    depth = frame_of(book["Drawdowns"])["depth"]
    assert depth.min() == pytest.approx(result.metrics["maximum_drawdown"], rel=1e-14)


def test_times_are_utc_without_a_zone_and_say_so(book: Any, result: Result) -> None:
    equity = frame_of(book["Equity"])
    assert next(iter(equity.columns)) == "time (UTC)"
    assert equity["time (UTC)"].iloc[0] == result.index[0].tz_localize(None)
    assert book["Equity"]["A2"].number_format == "yyyy-mm-dd"
    hourly = openpyxl.load_workbook(io.BytesIO(tear_sheet(backtest(market(300, "1h")), studies=()).to_xlsx()))
    assert hourly["Equity"]["A3"].number_format == "yyyy-mm-dd hh:mm"
    assert hourly["Equity"]["A3"].value == pd.Timestamp("2021-01-01 01:00")


def test_text_never_becomes_a_formula_or_a_link(portfolio: Result) -> None:  # noqa: F811
    """Given a run and a title that begin like formulas, then the file holds no formula and no link at all."""
    content = tear_sheet(portfolio, title='=HYPERLINK("http://evil")', studies=()).to_xlsx()
    archive = zipfile.ZipFile(io.BytesIO(content))
    sheets = [archive.read(name).decode() for name in archive.namelist() if name.startswith("xl/worksheets/sheet")]
    assert len(sheets) == len(workbook.SHEETS)
    assert not any("<f>" in sheet or "<hyperlink" in sheet for sheet in sheets)
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book["Summary"]["A1"].value == '=HYPERLINK("http://evil")'
    assert book["Summary"]["A1"].data_type != "f" or "<f>" not in sheets[0]
    assert "=1+1" in [row[1] for row in book["Settings"].values]


def test_an_undefined_figure_is_blank_and_an_infinite_one_is_text() -> None:
    flat = openpyxl.load_workbook(io.BytesIO(tear_sheet(backtest(market(15)), studies=()).to_xlsx()))
    summary = {row[0].value: row[1].value for row in flat["Summary"].iter_rows(min_row=5)}
    assert summary["Sharpe ratio"] is None
    assert summary["Bars"] == 15


def test_a_table_longer_than_a_sheet_is_refused(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 500)
    with pytest.raises(ParameterError, match=r"Equity has 900 rows, a sheet of Excel holds 500"):
        tear_sheet(result, studies=()).to_xlsx()


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    result = backtest(market(120))
    sheet = tear_sheet(result, studies=())
    path = sheet.save(tmp_path / "new" / "sheet.PDF")
    assert path.read_bytes() == tear_sheet(result, studies=()).to_pdf()
    assert sheet.to_xlsx() == tear_sheet(result, studies=()).to_xlsx()
    assert path.read_bytes().startswith(b"%PDF")
    assert [file.name for file in path.parent.iterdir()] == ["sheet.PDF"]
    with pytest.raises(ParameterError, match=r"\.html, \.pdf, \.xlsx"):
        tear_sheet(result).save(tmp_path / "sheet.docx")


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is set on paper while a test runs."""
    said: list[str] = []
    write = Paper._text

    def hear(self: Paper, x: float, y: float, text: str, **look: Any) -> None:
        assert 0.0 <= y <= 11.69  # on the page
        said.append(text)
        write(self, x, y, text, **look)

    monkeypatch.setattr(Paper, "_text", hear)
    return said


def test_the_document_says_what_the_result_says(portfolio: Result, spoken: list[str]) -> None:  # noqa: F811
    content = tear_sheet(portfolio, studies=("value_at_risk",)).to_pdf()
    metrics = portfolio.metrics
    for said in (
        f"{metrics['total_return']:.1%}",
        f"{metrics['sharpe_ratio']:.2f}",
        f"{metrics['maximum_drawdown']:.1%}",
        "Worst drawdowns",
        "Symbols by profit",
        "borrow",
        "Value at risk: exceptions",
        portfolio.panel.digest,
    ):
        assert said in spoken, said
    assert len(re.findall(rb"/Type /Page\b", content)) >= 5
    assert b"CreationDate" not in content
    assert b"/Subtype /Image" not in content  # vectors only


def test_an_account_that_never_moved_has_a_calm_document(spoken: list[str]) -> None:
    tear_sheet(backtest(market(15)), studies="all").to_pdf()
    for said in ("The account never moved.", "There was no trade.", "The account never fell below a peak."):
        assert said in spoken
    assert sum(text.startswith("Not computed: ") for text in spoken) == 4


def test_charts_keep_every_extreme() -> None:
    """A spike in a hundred thousand bars is in the line that is drawn."""
    from matplotlib.figure import Figure

    from tradelib.report.paper import curve

    values = pd.Series(np.zeros(100_000), pd.date_range("2020-01-01", periods=100_000, freq="min", tz="UTC"))
    values.iloc[54_321] = 7.0
    axes = Figure().add_subplot()
    curve(axes, values, "#000000")
    assert axes.lines[0].get_ydata().max() == 7.0
    assert len(axes.lines[0].get_ydata()) < 2_000
