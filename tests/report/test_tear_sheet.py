"""The tear sheet: one offline page, figures that equal the result's, and calm pages for odd results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import Page, backtest, market
from tradelib.backtest.metrics import sharpe_ratio, total_return
from tradelib.backtest.result import Result
from tradelib.errors import ParameterError
from tradelib.report import tables
from tradelib.report.charts import sparse, thin
from tradelib.report.sheet import tear_sheet


@pytest.fixture(scope="module")
def page(result: Result) -> Page:
    return Page(tear_sheet(result).to_html())


def test_the_page_is_whole_and_asks_the_network_for_nothing(page: Page) -> None:
    assert page.unbalanced == []
    assert page.requests == []


def test_sections_and_figures_of_the_result_are_there(page: Page, result: Result) -> None:
    for said in (
        "TrendFollowing on TEST 1d",
        "Equity and drawdown",
        "Returns by month",
        "Rolling Sharpe ratio and volatility",
        "Distribution of returns",
        "Costs by kind",
        "Annual figures at 365 periods per year",
        "buy and hold",
        f"Sharpe ratio {result.metrics['sharpe_ratio']:.2f}",
        f"Maximum drawdown {result.metrics['maximum_drawdown']:.1%}",
        f"{len(result.trades)} trades",
    ):
        assert said in page.text, said


def test_saved_in_one_step_with_the_same_bytes_each_time(result: Result, tmp_path: Path) -> None:
    sheet = tear_sheet(result, title="A <b>title</b>")
    path = sheet.save(tmp_path / "new" / "sheet.html")
    assert path.read_text(encoding="utf-8") == sheet.to_html()
    assert "<b>title" not in sheet.to_html()
    assert [file.name for file in path.parent.iterdir()] == ["sheet.html"]


def test_the_notebook_gets_a_light_version(result: Result) -> None:
    shown = tear_sheet(result)._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert len(shown) < 150_000
    assert "Plotly" not in shown


def test_benchmarks(result: Result, bars: pd.DataFrame) -> None:
    held = bars["close"].pct_change().fillna(0.0).rename("my index")
    assert "my index" in Page(tear_sheet(result, benchmark=held).to_html()).text
    assert "buy and hold" not in Page(tear_sheet(result, benchmark=None).to_html()).text
    with pytest.raises(ParameterError, match=r"no return at 2021-01-01 .*1 of 900"):
        tear_sheet(result, benchmark=held.iloc[1:])
    with pytest.raises(ParameterError, match="'hold' or None, got 'SPY'"):
        tear_sheet(result, benchmark="SPY")


def test_odd_results_have_calm_pages() -> None:
    flat = backtest(market(15))  # shorter than its warm-up: it never trades
    page = Page(tear_sheet(flat).to_html())
    assert page.unbalanced == []
    for said in (
        "There was no trade.",
        "The account never moved.",
        "too few for a rolling window",
        "Nothing was traded.",
    ):
        assert said in page.text
    hourly = Page(tear_sheet(backtest(market(600, "1h"))).to_html())
    assert "8,760 periods a year" in hourly.text


# -- the tables behind the figures -------------------------------------------------------------------------------


def test_months_compound_to_years_and_years_to_the_whole(result: Result) -> None:
    table = tables.monthly_returns(result.returns)
    assert list(table.index) == [2021, 2022, 2023]
    for year in table.index:
        months = table.loc[year, list(range(1, 13))].dropna()
        assert np.prod(1 + months) - 1 == pytest.approx(table.loc[year, "year"], rel=1e-9, abs=1e-12)
    assert np.prod(1 + table["year"]) - 1 == pytest.approx(total_return(result.returns), rel=1e-9)
    assert table.loc[2023].drop("year").notna().sum() == 6  # the bars end in June


def test_costs_of_the_years_add_up_to_the_results_figures(result: Result) -> None:
    costs = tables.costs_by_year(result)
    assert costs["fees"].sum() == pytest.approx(result.metrics["fees"])
    assert costs["slippage"].sum() == pytest.approx(result.metrics["slippage_cost"])


def test_rolling_figures_equal_the_metric_of_each_window(result: Result) -> None:
    table = tables.rolling_table(result.returns, 365, 100)
    assert table["sharpe_ratio"].iloc[:99].isna().all()
    last = sharpe_ratio(result.returns.iloc[-100:], 365)
    assert table["sharpe_ratio"].iloc[-1] == pytest.approx(last, rel=1e-9)
    quiet = tables.rolling_table(pd.Series(np.zeros(50)), 365, 20)
    assert quiet["sharpe_ratio"].isna().all()


def test_thinning_keeps_ends_and_extremes() -> None:
    y = np.random.default_rng(1).normal(size=50_000)
    y[12_345], y[23_456], y[5] = 99.0, -99.0, np.nan
    x, kept = thin(np.arange(50_000.0), y, 1000)
    assert len(kept) <= 1002
    assert (x[0], x[-1], kept.max(), kept.min()) == (0.0, 49_999.0, 99.0, -99.0)
    assert (np.diff(x) > 0).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-0.31, 0.04, [-0.3, -0.2, -0.1, 0.0]), (1.0, 1.0, [1.0])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert sparse(low, high) == pytest.approx(expected)


def test_importing_the_room_imports_no_plotting_library() -> None:
    heavy = ["plotly", "matplotlib", "quantstats", "pyfolio", "xlsxwriter", "scipy", "arch", "jinja2", "numba"]
    rooms = "tradelib.report.sheet, tradelib.report.verdict, tradelib.report.pyfolio_page, tradelib.report.assessing"
    code = f"import sys, {rooms}; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
