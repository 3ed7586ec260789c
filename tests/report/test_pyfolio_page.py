"""The pyfolio report: the library's figures from one result, equal to ours, and its faults put right."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import Page, backtest, market
from tests.report.test_report_tables import portfolio  # noqa: F401  # a fixture
from tradelib.backtest.metrics import (
    annual_return,
    annual_volatility,
    maximum_drawdown,
    omega_ratio,
    sharpe_ratio,
    sortino_ratio,
    tail_ratio,
)
from tradelib.backtest.result import Result
from tradelib.errors import DataError, ParameterError
from tradelib.report import pyfolio_report, pyfolio_statistics, tables
from tradelib.report.pyfolio_page import _repaired, _Told

periods = pytest.importorskip("empyrical.periods")
round_trips = pytest.importorskip("pyfolio.round_trips")


def test_its_figures_equal_ours_to_ten_places(result: Result) -> None:
    """Daily bars of a market that never closes: both annualise by 365, pyfolio alone would take 252."""
    found, returns = pyfolio_statistics(result), result.returns
    ours = {
        "Annual return": annual_return(returns, 365),
        "Annual volatility": annual_volatility(returns, 365),
        "Sharpe ratio": sharpe_ratio(returns, 365),
        "Sortino ratio": sortino_ratio(returns, 365),
        "Max drawdown": maximum_drawdown(returns),
        "Omega ratio": omega_ratio(returns),
        "Tail ratio": tail_ratio(returns),
        "Cumulative returns": result.metrics["total_return"],
        "Kurtosis": result.metrics["kurtosis"] - 3.0,
        "Skew": result.metrics["skewness"],
    }
    for name, value in ours.items():
        assert found[name] == pytest.approx(value, rel=1e-10, abs=1e-13), name


def test_bars_of_an_hour_become_days() -> None:
    hourly = backtest(market(24 * 100, "1h"))
    found = pyfolio_statistics(hourly)
    assert found["Sharpe ratio"] == pytest.approx(sharpe_ratio(tables.daily_returns(hourly.returns), 365), rel=1e-10)


def test_positions_and_transactions_are_those_of_the_account(portfolio: Result) -> None:  # noqa: F811
    told = _Told(portfolio, None, "")
    assert told.positions.sum(axis=1).to_numpy() == pytest.approx(portfolio.equity.to_numpy(), rel=1e-12)
    assert told.transactions["amount"].to_numpy() == pytest.approx(portfolio.fills["quantity"].to_numpy())
    assert list(told.positions.columns) == ["AAA/EUR", "BBB/EUR", "CCC/EUR", "cash"]


def test_round_trips_of_fractions_are_not_lost(portfolio: Result) -> None:  # noqa: F811
    """The fault: pyfolio's own extraction takes amounts as whole units, so that coins by the fraction vanish."""
    told, trades = _Told(portfolio, None, ""), portfolio.trades
    assert told.round_trips["pnl"].to_numpy() == pytest.approx(trades["profit"].to_numpy())
    coins = told.transactions.assign(amount=told.transactions["amount"] / 1e6)
    with pytest.raises((KeyError, IndexError)):  # not one whole unit was traded
        round_trips.extract_round_trips(coins)


def test_the_library_is_left_as_it_was(result: Result) -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    before = dict(periods.ANNUALIZATION_FACTORS)
    with _repaired(365.0):
        assert periods.ANNUALIZATION_FACTORS["daily"] == 365.0
        np.random.seed(1)
    assert np.random.random(3).tolist() == expected.tolist()
    assert before == periods.ANNUALIZATION_FACTORS


def test_the_page_is_offline_quiet_and_has_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = backtest(market(120))
    held: Any = tables.benchmark_returns(result, "hold")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = pyfolio_report(result, tmp_path / "new" / "a.html", held, title="A <b>title</b>")
    assert capsys.readouterr().out == ""
    source = first.read_text(encoding="utf-8")
    page = Page(source)
    assert page.unbalanced == []
    assert page.requests == []
    assert "<b>title" not in source
    for said in ("Performance, at 365 days a year", "Worst drawdown periods", "Round trips", "Beta", "Exposure"):
        assert said in page.text, said
    assert first.read_bytes() == pyfolio_report(result, tmp_path / "b.html", held, title="A <b>title</b>").read_bytes()


def test_a_document_without_a_date(tmp_path: Path) -> None:
    content = pyfolio_report(backtest(market(120)), tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content


def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "new" / "flat.html"
    with pytest.raises(ParameterError, match="never moved"):
        pyfolio_report(backtest(market(15)), path)
    with pytest.raises(DataError, match="40 days are too few"):
        pyfolio_report(backtest(market(40)), path)
    with pytest.raises(ParameterError, match=r"\.html or \.pdf"):
        pyfolio_report(result, tmp_path / "new" / "sheet.png")
    with pytest.raises(ParameterError, match="895 of 900 bars"):
        pyfolio_report(result, path, pd.Series(np.zeros(5), index=result.index[:5]))
    assert not path.parent.exists()
