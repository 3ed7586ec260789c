"""Rebalancing: the past only, stated rules for who takes part, and a recorded fallback for every failure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.portfolio.market import many_assets
from tradelib.backtest import Costs, run_weights
from tradelib.backtest.portfolio import rebalance_rows
from tradelib.data.panel import panel_from_wide
from tradelib.errors import DataError, ParameterError
from tradelib.portfolio import (
    Constraints,
    EqualWeights,
    HierarchicalRiskParity,
    InverseVolatilityWeights,
    MaximumSharpe,
    MeanVariance,
    MinimumVariance,
    MultiAssetKelly,
    Optimiser,
    decision_rows,
    rebalance,
    weights_or_fallback,
)
from tradelib.portfolio.rebalancing import left_out
from tradelib.portfolio.solving import NoWeights, Problem

R = many_assets(400, 5)


class FailsIn2016(Optimiser):
    """Equal weights, but for decisions on windows that end in one month."""

    needs_regular = False

    def _solve(self, problem: Problem) -> tuple[np.ndarray, str]:
        if np.array_equal(problem.values[-1], R.to_numpy()[FAILING]):
            raise NoWeights("planted")
        return np.full(len(problem.mean), 1.0 / len(problem.mean)), "optimal"


FAILING = int(decision_rows(R.index, "monthly", 60)[4])


def test_decisions_fall_on_the_ends_of_months_as_the_engine_has_them() -> None:
    rows = decision_rows(R.index, "monthly", 60)
    engine = np.flatnonzero(rebalance_rows(R.index, "monthly"))
    assert rows.tolist() == [row for row in engine if row >= 59 and row < len(R) - 1]


def test_the_last_row_of_the_data_ends_no_period() -> None:
    """Given data cut anywhere, then the decisions before the cut are those of the longer data."""
    full = decision_rows(R.index, "weekly", 20)
    for rows in (100, 101, 102, 103, 104, 105):
        assert decision_rows(R.index[:rows], "weekly", 20).tolist() == [row for row in full if row < rows - 1]


def test_a_number_of_rows_and_times_are_schedules_too() -> None:
    assert decision_rows(R.index, 50, 100).tolist() == [99, 149, 199, 249, 299, 349, 399]
    assert decision_rows(R.index, R.index[[10, 120]], 100).tolist() == [120]
    for refused in ("hourly", 0, True, R.index[:1] + pd.Timedelta("1h")):
        with pytest.raises(ParameterError, match="schedule"):
            decision_rows(R.index, refused, 100)


@pytest.mark.parametrize(
    "optimiser", [HierarchicalRiskParity(), MinimumVariance(covariance="ledoit_wolf"), MultiAssetKelly()]
)
def test_only_the_past_decides(optimiser: Optimiser) -> None:
    """Given a day, when every later return is another one or missing, then the weights up to it are the same."""
    day = 300
    before = rebalance(optimiser, R, lookback=60).weights.iloc[: day + 1]
    other = pd.concat([R.iloc[: day + 1], -2.0 * R.iloc[day + 1 :]])
    pd.testing.assert_frame_equal(rebalance(optimiser, other, lookback=60).weights.iloc[: day + 1], before)
    pd.testing.assert_frame_equal(
        rebalance(optimiser, R.iloc[: day + 1], lookback=60).weights.iloc[:day], before.iloc[:day]
    )


def test_a_decision_sees_exactly_its_window() -> None:
    """Given a window, when a return inside changes, then so do the weights; one row earlier it does not matter."""
    row, lookback = int(decision_rows(R.index, "monthly", 60)[2]), 60
    base = rebalance(InverseVolatilityWeights(), R, lookback=lookback).weights.iloc[row]
    for place, matters in ((row, True), (row - lookback + 1, True), (row - lookback, False), (row + 1, False)):
        changed = R.copy()
        changed.iloc[place, 0] += 0.2
        found = rebalance(InverseVolatilityWeights(), changed, lookback=lookback).weights.iloc[row]
        assert (not np.array_equal(found, base)) == matters


def test_a_failure_keeps_the_drifted_weights_and_is_recorded() -> None:
    done = rebalance(FailsIn2016(), R, lookback=60)
    assert done.fallbacks.index.tolist() == [R.index[FAILING]]
    entry = done.log.loc[R.index[FAILING]]
    assert (entry["status"], entry["fallback"], entry["cause"]) == ("fallback", "previous", "planted")
    before = int(decision_rows(R.index, "monthly", 60)[3])
    grown = 0.2 * (1.0 + R.iloc[before + 1 : FAILING + 1]).prod()
    np.testing.assert_allclose(done.weights.iloc[FAILING], grown / grown.sum(), rtol=1e-12)
    assert entry["turnover"] == pytest.approx(0.0, abs=1e-12)
    assert not done.decisions.isna().any().any()
    assert "A fallback stepped in 1 times" in done.summary()
    assert len(done.plot().layout.shapes) == 1


def test_the_chain_goes_on_to_inverse_volatility_and_to_equal_weights() -> None:
    short = R.iloc[:4]
    first = weights_or_fallback(MinimumVariance(), short)
    assert (first.status, first.fallback) == ("fallback", "inverse_volatility")
    np.testing.assert_allclose(first.weights, (1 / short.std()) / (1 / short.std()).sum(), rtol=1e-9)
    assert "is singular" in str(first.cause)
    equal = weights_or_fallback(MinimumVariance(), short, fallbacks=("equal",))
    assert equal.weights.tolist() == [0.2] * 5
    with pytest.raises(DataError, match=r"MinimumVariance and its fallbacks \(none\) failed: .* singular"):
        weights_or_fallback(MinimumVariance(), short, fallbacks=())
    with pytest.raises(ParameterError, match="there is no fallback 'cash'"):
        weights_or_fallback(MinimumVariance(), short, fallbacks=("cash",))


def test_a_fallback_that_breaks_a_constraint_says_so() -> None:
    rules = Constraints(max_weight=0.21, groups={"some": ("a0", "a1")}, min_group={"some": 0.9})
    found = weights_or_fallback(MinimumVariance(constraints=rules), R)
    assert found.fallback == "inverse_volatility"
    assert found.notes == ("The fallback breaks max_weight, groups.",)


def test_what_the_researcher_got_wrong_is_raised_not_recorded() -> None:
    with pytest.raises(ParameterError, match="constraints name silver"):
        rebalance(MinimumVariance(constraints=Constraints(max_weight={"silver": 0.1})), R)
    with pytest.raises(ParameterError, match="expected_returns lack a1"):
        rebalance(MeanVariance(expected_returns={"a0": 0.1}), R, lookback=60)


def test_an_asset_takes_part_when_all_its_window_is_known_and_varies() -> None:
    window = R.iloc[:10].copy()
    window.iloc[:3, 0], window.iloc[-1, 1], window.iloc[5, 2], window.iloc[:, 3] = np.nan, np.nan, np.nan, 0.0
    assert left_out(window) == {"a0": "short", "a1": "ended", "a2": "hole", "a3": "flat"}
    assert left_out(window.assign(a4=np.nan))["a4"] == "absent"


def test_listings_wait_for_a_window_and_the_delisted_are_sold() -> None:
    returns = R.copy()
    returns.iloc[:150, 0], returns.iloc[250:, 1] = np.nan, np.nan
    done = rebalance(InverseVolatilityWeights(), returns, lookback=60)
    listed = done.decisions["a0"] > 0.0
    assert done.decisions.index[listed.to_numpy().argmax()] >= returns.index[150 + 59]
    gone = done.decisions["a1"].loc[returns.index[250] :]
    assert len(gone)
    assert (gone == 0.0).all()
    np.testing.assert_allclose(done.decisions.sum(axis=1), 1.0)
    assert done.log.loc[gone.index[0], "left_out"] == {"a1": "ended"}
    assert done.log["left_out"].iloc[-1] == {"a1": "absent"}
    first_without = done.log.loc[gone.index[0]]
    assert first_without["turnover"] > 0.2  # what was held of it is sold, and the money goes to the others


def test_previous_weights_without_what_left_keep_their_sum() -> None:
    returns = R.copy()
    returns.iloc[250:, 1] = np.nan

    class OnlyOnce(Optimiser):
        needs_regular = False

        def _solve(self, problem: Problem) -> tuple[np.ndarray, str]:
            if problem.previous is not None:
                raise NoWeights("never again")
            return np.full(len(problem.mean), 0.2), "optimal"

    done = rebalance(OnlyOnce(), returns, lookback=60, schedule=21)
    last = done.decisions.iloc[-1]
    assert last["a1"] == 0.0
    assert last.sum() == pytest.approx(1.0)
    assert set(done.log["fallback"].iloc[1:]) == {"previous"}


def test_nobody_to_choose_from_is_an_entry_and_no_weights() -> None:
    returns = R.copy()
    returns.iloc[100:130] = np.nan
    done = rebalance(EqualWeights(), returns, lookback=60)
    empty = done.log[done.log["status"] == "none"]
    assert len(empty) >= 2
    assert empty["cause"].str.contains("no asset has a full window").all()
    assert done.weights.loc[empty.index].isna().all().all()


def test_turnover_and_drift_agree_with_the_engine() -> None:
    """Given prices whose open is the close before, then the engine's fills turn over what the log says."""
    prices = 100.0 * (1.0 + R).cumprod()
    done = rebalance(InverseVolatilityWeights(), R, lookback=60)
    panel, free = panel_from_wide(prices, timeframe="1d", calendar="weekdays"), Costs(fee_rate=0.0, slippage=0.0)
    equity = run_weights(done.weights, panel, costs=free, cash=1e9).equity
    weights = done.decisions
    by_hand, held = 1e9, pd.Series(0.0, R.columns)
    for time, row in R.iterrows():
        by_hand *= 1.0 + float((held * row).sum())
        held = held * (1.0 + row) / (1.0 + float((held * row).sum()))
        if time in weights.index:
            assert done.log.loc[time, "turnover"] == pytest.approx(
                float((weights.loc[time] - held).abs().sum()), abs=1e-9
            )
            held = weights.loc[time]
    assert by_hand == pytest.approx(float(equity.iloc[-1]), rel=1e-9)


def test_bars_are_turned_into_returns() -> None:
    prices = 100.0 * (1.0 + R).cumprod()
    panel = panel_from_wide(prices, timeframe="1d", calendar="weekdays")
    of_bars = rebalance(InverseVolatilityWeights(), panel, lookback=60).decisions
    of_returns = rebalance(InverseVolatilityWeights(), prices.pct_change(), lookback=60).decisions
    np.testing.assert_allclose(of_bars, of_returns, rtol=1e-9)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (lambda: rebalance(EqualWeights(), 100.0 * (1.0 + R).cumprod()), "these look like prices"),
        (lambda: rebalance(EqualWeights(), R.reset_index(drop=True)), "need times in order"),
        (lambda: rebalance(EqualWeights(), R.iloc[::-1]), "need times in order"),
        (lambda: rebalance(EqualWeights(), R, lookback=1), "at least 2"),
    ],
)
def test_what_is_no_table_of_returns(refused, told: str) -> None:
    with pytest.raises((DataError, ParameterError), match=told):
        refused()


def test_too_few_rows_make_no_decision_and_say_so() -> None:
    done = rebalance(EqualWeights(), R.iloc[:50], lookback=60)
    assert done.log.empty
    assert "No decision was made" in done.summary()


@pytest.mark.real_data
def test_ten_years_of_real_shares_run_through(real_data) -> None:
    """Given daily ETFs of 2016 to 2021, when rebalanced monthly, then no row is lost and 2020 is survived."""
    table = pd.read_parquet(real_data / "pairs" / "etf_25_ohlcv_2016_2021.parquet")
    closes = table.pivot(index="date", columns="symbol", values="adj_close")
    closes.index = pd.DatetimeIndex(closes.index).tz_localize("UTC")
    returns = closes.pct_change().iloc[1:]
    rules = Constraints(max_weight=0.3, max_turnover=0.5)
    for optimiser in (
        MinimumVariance(covariance="ledoit_wolf", constraints=rules),
        MaximumSharpe(covariance="denoised", constraints=rules),
        HierarchicalRiskParity(),
    ):
        done = rebalance(optimiser, returns, lookback=252)
        assert len(done.log) > 40
        np.testing.assert_allclose(done.decisions.sum(axis=1), 1.0, atol=1e-9)
        assert (done.log["cause"].notna() == (done.log["status"] == "fallback")).all()
    assert done.fallbacks.empty


@pytest.mark.real_data
def test_coins_come_and_go(real_data) -> None:
    """Given 29 coins of which most are listed on the way, then each waits for its window and the log says so."""
    closes = pd.read_parquet(real_data / "crypto" / "daily_close_usd_29_coins.parquet").set_index("date")
    closes.index = pd.DatetimeIndex(closes.index).tz_localize("UTC")
    returns = closes.pct_change(fill_method=None)
    done = rebalance(HierarchicalRiskParity(), returns, lookback=180, schedule="quarterly")
    assert done.log["assets"].iloc[0] < 5 < 20 < done.log["assets"].iloc[-1]
    assert {"absent", "short"} <= {why for entry in done.log["left_out"] for why in entry.values()}
    np.testing.assert_allclose(done.decisions.sum(axis=1), 1.0)
