"""The tables behind every report, against computations that share no line with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import backtest, market
from tradelib.backtest.costs import Costs
from tradelib.backtest.portfolio import run_weights
from tradelib.backtest.result import Result
from tradelib.data.panel import as_panel
from tradelib.report import tables

DAYS = pd.date_range("2021-01-01", periods=8, tz="UTC", name="time")


@pytest.fixture(scope="module")
def portfolio() -> Result:
    """Three symbols, rebalanced by the week, one of them short, with a name that could be a formula."""
    bars = {}
    for seed, symbol in enumerate(("AAA/EUR", "BBB/EUR", "CCC/EUR"), 1):
        frame = market(400, seed=seed)
        frame.attrs["symbol"] = symbol
        bars[symbol] = frame
    panel = as_panel(bars)
    weights = pd.DataFrame(np.tile([0.3, 0.3, -0.2], (400, 1)), panel.index, list(panel.symbols))
    return run_weights(weights, panel, rebalance="weekly", costs=Costs(borrow_rate=0.05), name="=1+1")


def worst_falls(returns: pd.Series) -> list[tuple[float, int, int, int | None]]:
    """Depth, first bar, bottom and first bar of recovery of every fall, by walking the wealth bar by bar."""
    wealth, peak, falls, start = 1.0, 1.0, [], None
    deepest, bottom = 0.0, 0
    for row, value in enumerate(returns):
        wealth *= 1.0 + value
        if wealth >= peak:
            if start is not None:
                falls.append((deepest, start, bottom, row))
            peak, start, deepest = wealth, None, 0.0
            continue
        start = row if start is None else start
        if wealth / peak - 1.0 < deepest:
            deepest, bottom = wealth / peak - 1.0, row
    if start is not None:
        falls.append((deepest, start, bottom, None))
    return sorted(falls)


def test_a_written_history_has_the_drawdowns_that_one_counts_by_hand() -> None:
    """Wealth 0.9, 1, 1.1, 0.55, 0.66, 1.1, 1.21, 1.089: falls of 10 % at the start, 50 %, and 10 % at the end."""
    wealth = np.array([0.9, 1.0, 1.1, 0.55, 0.66, 1.1, 1.21, 1.089])
    returns = pd.Series(wealth / np.r_[1.0, wealth[:-1]] - 1.0, DAYS)
    table = tables.drawdown_table(returns)
    assert table["depth"].round(12).tolist() == [-0.5, -0.1, -0.1]
    assert table["start"].tolist() == [DAYS[3], DAYS[0], DAYS[7]]
    assert table["bottom"].tolist() == [DAYS[3], DAYS[0], DAYS[7]]
    assert table["recovered"].tolist() == [DAYS[5], DAYS[1], pd.NaT]
    assert table["bars"].tolist() == [2, 1, 1]
    assert table["bars_to_bottom"].tolist() == [1, 1, 1]
    assert table["bars_to_recover"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_drawdowns_equal_those_of_a_walk_bar_by_bar(seed: int) -> None:
    returns = pd.Series(
        np.random.default_rng(seed).normal(0.0005, 0.01, 700),
        pd.date_range("2020-01-01", periods=700, tz="UTC", name="time"),
    )
    table, known = tables.drawdown_table(returns, None), worst_falls(returns)
    assert len(table) == len(known)
    assert table["depth"].to_numpy() == pytest.approx([fall[0] for fall in known], rel=1e-12)
    rows = returns.index.get_indexer(table["start"])
    assert sorted(rows) == sorted(fall[1] for fall in known)
    assert table["depth"].iloc[0] == pytest.approx(float(min(fall[0] for fall in known)))
    assert table["recovered"].isna().sum() == sum(fall[3] is None for fall in known)


def test_a_history_without_a_fall_has_no_row() -> None:
    assert tables.drawdown_table(pd.Series(np.full(8, 0.01), DAYS)).empty


def test_months_and_years_equal_those_of_pandas_resample(result: Result) -> None:
    returns = result.returns
    monthly = (1.0 + returns).resample("ME").prod() - 1.0
    table = tables.monthly_returns(returns)
    for time, value in monthly.items():
        assert table.loc[time.year, time.month] == pytest.approx(value, rel=1e-12, abs=1e-15)
    held = tables.benchmark_returns(result, "hold")
    years = tables.yearly_table(returns, held)
    assert years["strategy"].to_numpy() == pytest.approx((1 + returns).resample("YE").prod().to_numpy() - 1.0)
    assert years["benchmark"].to_numpy() == pytest.approx((1 + held).resample("YE").prod().to_numpy() - 1.0)
    assert years["excess"].to_numpy() == pytest.approx((years["strategy"] - years["benchmark"]).to_numpy())


def test_buying_and_holding_ends_where_the_prices_do(result: Result, portfolio: Result) -> None:
    panel = result.panel
    held = tables.benchmark_returns(result, "hold")
    assert np.prod(1 + held) == pytest.approx(panel.close[-1, 0] / panel.open[result.first, 0], rel=1e-12)
    several = tables.benchmark_returns(portfolio, "hold")
    parts = portfolio.panel.close[-1] / portfolio.panel.open[portfolio.first]
    assert np.prod(1 + several) == pytest.approx(parts.mean(), rel=1e-12)


def test_days_compound_their_bars() -> None:
    hourly = backtest(market(600, "1h")).returns
    daily = tables.daily_returns(hourly)
    assert len(daily) == 25
    assert daily.to_numpy() == pytest.approx((1 + hourly).resample("1D").prod().to_numpy() - 1.0, rel=1e-12)
    assert tables.daily_returns(daily) is daily


def test_tails_equal_numpy(result: Result) -> None:
    values, table = result.returns.to_numpy(), tables.tail_table(result.returns)
    for alpha in (0.05, 0.01):
        quantile = np.quantile(values, alpha)
        assert table.loc[alpha, "value_at_risk"] == pytest.approx(-quantile, rel=1e-12)
        assert table.loc[alpha, "expected_shortfall"] == pytest.approx(-values[values <= quantile].mean(), rel=1e-12)
    assert list(tables.tail_table(result.returns.iloc[:50]).index) == [0.05]  # one in a hundred has no return there


def test_groups_of_trades_add_up(result: Result) -> None:
    trades = result.trades
    for by in ("side", "reason"):
        groups = tables.trade_groups(trades, by)
        assert groups.loc["all", "trades"] == len(trades) == groups.drop("all")["trades"].sum()
        assert groups.loc["all", "profit"] == pytest.approx(trades["profit"].sum())
        assert groups.drop("all")["profit"].sum() == pytest.approx(trades["profit"].sum())
        assert groups.loc["all", "win_rate"] == pytest.approx(result.metrics["trade_win_rate"])
        assert groups.loc["all", "profit_factor"] == pytest.approx(result.metrics["profit_factor"])


def test_symbols_and_years_and_kinds_of_cost_add_up(portfolio: Result) -> None:
    symbols = tables.symbol_table(portfolio)
    assert symbols["profit"].is_monotonic_decreasing
    assert symbols["profit"].sum() == pytest.approx(portfolio.trades["profit"].sum())
    assert symbols["fees"].sum() == pytest.approx(portfolio.metrics["fees"])
    yearly = tables.costs_by_year(portfolio)
    kinds = portfolio.costs_by_kind
    assert list(yearly.columns) == ["fees", "slippage", "borrow"]
    assert yearly["borrow"].sum() == pytest.approx(kinds["borrow"])
    assert yearly.to_numpy().sum() == pytest.approx(kinds.sum())


def test_turnover_of_the_months_is_the_value_of_their_fills(portfolio: Result) -> None:
    turnover = tables.monthly_turnover(portfolio)
    month = pd.Period("2021-03", "M")
    fills = portfolio.fills
    inside = fills["time"].dt.tz_localize(None).dt.to_period("M") == month
    equity = portfolio.equity[portfolio.equity.index.tz_localize(None).to_period("M") == month]
    value = (fills["quantity"].abs() * fills["price"])[inside].sum()
    assert turnover[month] == pytest.approx(value / equity.mean(), rel=1e-12)


def test_every_setting_is_told(result: Result) -> None:
    settings = tables.settings_table(result)
    assert settings["strategy"] == "TrendFollowing"
    assert settings["strategy.fast"] == "5"
    assert settings["costs.fee_rate"] == "0.001"
    assert settings["digest of the data"] == result.panel.digest
    assert settings["first bar"] == "2021-01-01"
