"""Weights, positions and several rules in one account: what is read, when it trades, what is refused and counted."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.backtest import (
    Costs,
    DecisionRule,
    Market,
    Result,
    TrialLedger,
    run,
    run_portfolio,
    run_positions,
    run_weights,
    weighted_returns,
)
from tradelib.backtest.portfolio import portfolio_targets, rebalance_rows
from tradelib.data.panel import Panel, as_panel, panel_from_wide
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import Exits, FixedFraction, Limits
from tradelib.strategies import TrendFollowing

FREE = Costs(fee_rate=0.0, slippage=0.0)
REDUCE = Market(insufficient_cash="reduce")


def wide(prices: dict[str, list[float]] | np.ndarray, start: str = "2024-01-01") -> Panel:
    """Daily bars that open at the close before."""
    table = pd.DataFrame(prices, dtype=float)
    table.columns = [str(name) if isinstance(name, str) else f"S{name:04d}" for name in table.columns]
    table.index = pd.date_range(start, periods=len(table), freq="D", tz="UTC", name="time")
    return panel_from_wide(table, timeframe="1d", calendar="24/7", source="test")


def random_prices(seed: int, bars: int, assets: int) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.02, (bars, assets)), axis=0))


def random_weights(seed: int, bars: int, assets: int) -> np.ndarray:
    """Signed weights whose absolute values sum to at most one."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(bars, assets))
    return raw / np.abs(raw).sum(axis=1, keepdims=True) * rng.uniform(0.1, 1.0, (bars, 1))


def told(result: Result) -> list[tuple[int, str, float, float]]:
    """(bar, symbol, signed quantity, price) of every fill."""
    bars = result.panel.index.get_indexer(result.fills["time"]).tolist()
    rest = result.fills[["symbol", "quantity", "price"]].itertuples(index=False, name=None)
    return [(bar, *row) for bar, row in zip(bars, rest, strict=True)]


def own_ledger() -> TrialLedger:
    """For property tests, in which one fixture would serve all examples."""
    return TrialLedger(Path(tempfile.mkdtemp()) / "trials.sqlite")


@pytest.fixture
def ledger(tmp_path: Path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


# A doubles on the third day, B stands still.
DOUBLING = wide({"A": [10, 10, 20, 20, 20], "B": [10, 10, 10, 10, 10]})
HALVES = pd.DataFrame(0.5, DOUBLING.index, ["A", "B"])
ONCE = HALVES.copy()
ONCE.iloc[1:] = np.nan


class TestWhatIsTraded:
    def test_a_weight_of_the_close_is_bought_at_the_next_open_and_the_drift_traded_back(self, ledger):
        result = run_weights(HALVES, DOUBLING, costs=FREE, cash=1_000.0, ledger=ledger)

        # Day 0: half of 1,000 is 50 units each. Close of day 2: 50 x 20 + 50 x 10 = 1,500, so 37.5 and 75 units are
        # wanted: 12.5 of A are sold (it reduces, so it comes first), 25 of B are bought.
        assert told(result) == [(1, "A", 50, 10), (1, "B", 50, 10), (3, "A", -12.5, 20), (3, "B", 25, 10)]
        assert result.equity.tolist() == [1_000, 1_000, 1_500, 1_500, 1_500]
        assert result.cash.tolist() == [1_000, 0, 0, 0, 0]

    @pytest.mark.parametrize(("band", "fills"), [(0.15, 4), (0.17, 2), (None, 2)])
    def test_a_band_tolerates_drift(self, ledger, band, fills):
        # On day 2 A weighs 1,000 / 1,500 = 66.7 %, 16.7 points above its target.
        result = run_weights(HALVES, DOUBLING, band=band, costs=FREE, cash=1_000.0, ledger=ledger)
        assert len(result.fills) == fills

    def test_a_nan_is_no_opinion(self, ledger):
        result = run_weights(ONCE, DOUBLING, costs=FREE, cash=1_000.0, ledger=ledger)
        assert told(result) == [(1, "A", 50, 10), (1, "B", 50, 10)]

    def test_what_the_fees_leave_no_room_for_is_rejected_by_name_or_reduced(self, ledger):
        fee = {"costs": Costs(fee_rate=0.01, slippage=0.0), "cash": 1_000.0, "band": None, "ledger": ledger}
        strict, fitted = run_weights(ONCE, DOUBLING, **fee), run_weights(ONCE, DOUBLING, market=REDUCE, **fee)

        # 50 units cost 500 and a fee of 5; 495 are left, which pay for 495 / (10 x 1.01) units.
        assert strict.orders["reason"].tolist() == ["", "not enough equity for this exposure at the fill price"]
        assert [row[2] for row in told(fitted)] == pytest.approx([50.0, 495 / 10.1])
        assert fitted.cash.iloc[-1] == pytest.approx(0.0, abs=1e-9)

    def test_positions_are_units_whatever_the_equity(self, ledger):
        units = pd.DataFrame({"A": [20.0, 20, 20, -5, -5], "B": [0.0, 7, 7, 7, 0]}, DOUBLING.index)
        result = run_positions(units, DOUBLING, costs=FREE, cash=1_000.0, ledger=ledger)
        assert told(result) == [(1, "A", 20, 10), (2, "B", 7, 10), (4, "A", -25, 20)]

    def test_columns_are_matched_by_name(self, ledger):
        weights = pd.DataFrame({"B": 0.8, "A": 0.1}, DOUBLING.index)
        result = run_weights(weights, DOUBLING, band=None, costs=FREE, cash=1_000.0, ledger=ledger)
        assert told(result) == [(1, "A", 10, 10), (1, "B", 80, 10)]

    def test_changing_the_table_afterwards_does_not_change_the_result(self, ledger):
        weights = HALVES.copy()
        result = run_weights(weights, DOUBLING, costs=FREE, ledger=ledger)
        weights.iloc[:, :] = 0.0
        assert (result.decisions == 0.5).all(axis=None)

    def test_the_account_may_begin_later_and_end_earlier(self, ledger):
        whole = run_weights(HALVES, DOUBLING, costs=FREE, cash=1_000.0, ledger=ledger)
        early = run_weights(HALVES, DOUBLING, costs=FREE, cash=1_000.0, end="2024-01-04", ledger=ledger)
        late = run_weights(HALVES, DOUBLING, costs=FREE, cash=1_000.0, start="2024-01-04", ledger=ledger)
        pd.testing.assert_series_equal(early.equity, whole.equity.iloc[:4], check_freq=False)
        assert told(late) == [
            (3, "A", 25, 20),
            (3, "B", 50, 10),
        ]  # decided on the close of day 2, as if it had begun there


class TestSchedule:
    @pytest.mark.parametrize(
        ("schedule", "last_days"),
        [
            ("weekly", ["2023-12-31", "2024-01-07", "2024-01-14", "2024-01-21", "2024-01-28", "2024-02-03"]),  # Sundays
            ("monthly", ["2023-12-31", "2024-01-31", "2024-02-03"]),
            ("quarterly", ["2023-12-31", "2024-02-03"]),
            ("yearly", ["2023-12-31", "2024-02-03"]),
            (15, ["2023-12-28", "2024-01-12", "2024-01-27"]),
            (np.int64(30), ["2023-12-28", "2024-01-27"]),
        ],
    )
    def test_the_last_bar_of_each_period_decides(self, schedule, last_days):
        index = pd.date_range("2023-12-28", "2024-02-03", tz="UTC", name="time")
        assert index[rebalance_rows(index, schedule)].strftime("%Y-%m-%d").tolist() == last_days

    def test_a_period_ends_on_its_last_bar_even_if_the_calendar_goes_on(self):
        days = pd.DatetimeIndex(["2024-03-27", "2024-03-28", "2024-04-01"], tz="UTC", name="time")  # Good Friday: 29th
        assert rebalance_rows(days, "monthly").tolist() == [False, True, True]

    @pytest.mark.parametrize("schedule", ["hourly", 0, -3, True, 2.5, None])
    def test_what_is_no_schedule_is_refused(self, schedule):
        with pytest.raises(ParameterError, match="use daily, weekly, monthly, quarterly, yearly or a number of bars"):
            rebalance_rows(DOUBLING.index, schedule)

    def test_only_scheduled_decisions_trade_and_they_fill_at_the_first_open_of_the_next_period(self, ledger):
        panel = wide(random_prices(1, 95, 3), "2024-01-15")
        weights = pd.DataFrame(random_weights(2, 95, 3), panel.index, panel.symbols)
        result = run_weights(weights, panel, rebalance="monthly", costs=FREE, ledger=ledger)
        days = result.fills["time"].dt.strftime("%Y-%m-%d").unique().tolist()
        assert days == ["2024-02-01", "2024-03-01", "2024-04-01"]

    def test_the_same_as_weights_that_are_blank_between_the_dates(self, ledger):
        panel = wide(random_prices(3, 95, 3))
        weights = pd.DataFrame(random_weights(4, 95, 3), panel.index, panel.symbols)
        blank = weights.copy()
        blank[~rebalance_rows(panel.index, "weekly")] = np.nan
        one, other = (
            run_weights(given, panel, rebalance=schedule, costs=FREE, ledger=ledger)
            for given, schedule in ((weights, "weekly"), (blank, None))
        )
        pd.testing.assert_series_equal(one.equity, other.equity, check_exact=True)


def _changed(**columns: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda weights: weights.assign(**columns)


def _cell(value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """`value` for B on the fourth day."""

    def spoil(weights: pd.DataFrame) -> pd.DataFrame:
        spoilt = weights.copy()
        spoilt.iloc[3, 1] = value
        return spoilt

    return spoil


class TestRefusals:
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda w: w.iloc[1:], "weights must have the times of the bars as its index: it lacks 2024-01-01"),
            (lambda w: w.tz_localize(None), "its index must hold times with a zone"),
            (lambda w: w.iloc[::-1], "the same times in another order"),
            (lambda w: w.reset_index(drop=True), "its index must hold times with a zone"),
            (lambda w: w[["A"]], "weights lacks the symbols B"),
            (_changed(C=0.0), "weights has unknown symbols C"),
            (lambda w: w.iloc[:, [0, 1, 1]], "weights has the column B twice"),
            (lambda w: w.to_numpy()[:, :1], r"weights has the shape \(5, 1\), the bars have \(5, 2\)"),
            (lambda w: w["A"], r"weights has the shape \(5,\), the bars have \(5, 2\)"),
            (_changed(B="half"), "weights must be numbers: could not convert string to float: 'half'"),
            (_cell(np.inf), r"weights of B at 2024-01-04 00:00:00\+00:00 is infinite"),
            (_cell(-np.inf), r"weights of B at 2024-01-04 00:00:00\+00:00 is infinite"),
            (
                _cell(-0.7),
                r"weights at 2024-01-04 00:00:00\+00:00 sum to 1.2 in absolute value, beyond the maximum_lev",
            ),
        ],
    )
    def test_a_table_that_cannot_be_meant_is_named(self, ledger, spoil, message):
        with pytest.raises(ParameterError, match=message):
            run_weights(spoil(HALVES), DOUBLING, ledger=ledger)
        assert ledger.families() == {}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"band": -0.1}, "band is -0.1: give a drift"),
            ({"band": 5}, "band is 5: give a drift"),
            ({"band": float("nan")}, "band is nan"),
            ({"cash": 0.0}, "cash must be a positive amount"),
            ({"rebalance": "hourly"}, "rebalance is 'hourly'"),
        ],
    )
    def test_so_is_an_option(self, ledger, options, message):
        with pytest.raises(ParameterError, match=message):
            run_weights(HALVES, DOUBLING, ledger=ledger, **options)

    def test_more_leverage_allows_more(self, ledger):
        result = run_weights(HALVES * 3, DOUBLING, market=Market(maximum_leverage=3), costs=FREE, ledger=ledger)
        assert result.exposure["gross"].iloc[1] == pytest.approx(3.0)

    def test_weights_between_the_dates_of_a_schedule_are_not_looked_at(self, ledger):
        spoilt = _cell(9.0)(HALVES)
        run_weights(spoilt, DOUBLING, rebalance="monthly", ledger=ledger)

    @pytest.mark.parametrize(("first", "last"), [(0, 2), (3, 5)])
    def test_a_symbol_without_a_price_is_refused_with_its_bar(self, first, last):
        """Listings and delistings: cut the window, or leave the symbol out."""
        table = pd.DataFrame({"A": DOUBLING.close[:, 0], "B": DOUBLING.close[:, 1]}, DOUBLING.index)
        table.iloc[first:last, 1] = np.nan
        with pytest.raises(DataError, match=f"B at 2024-01-0{first + 1}.*: close is nan.*cut the window"):
            panel_from_wide(table, timeframe="1d", calendar="24/7")

    def test_symbols_that_begin_on_different_days_are_refused(self):
        long, short = probe_bars(50), probe_bars(50).iloc[10:]
        with pytest.raises(DataError, match="B has no bar at 2000-01-01.*A has one"):
            as_panel({"A": long, "B": short})


class TestAccount:
    def test_a_stop_of_one_symbol_leaves_the_others_alone(self, ledger):
        panel = wide({"A": [10, 10, 10, 8, 8, 8], "B": [10, 10, 10, 10, 10, 10]})
        weights = pd.DataFrame(0.4, panel.index, ["A", "B"])
        result = run_weights(
            weights, panel, band=None, exits_policy=Exits(stop_loss=0.1), costs=FREE, cash=1_000.0, ledger=ledger
        )
        # Bought at 10, stopped at 9 on the way from 10 to 8, and not bought again while the target stays what it is.
        assert told(result) == [(1, "A", 40, 10), (1, "B", 40, 10), (3, "A", -40, 9)]

    def test_after_a_stop_a_symbol_waits_until_its_target_has_said_something_else(self, ledger):
        """A zero is something else, a row without opinion is not: it neither buys nor changes its mind."""
        panel = wide({"A": [10, 10, 10, 8, 8, 8, 8], "B": [10] * 7})
        weights = pd.DataFrame(0.4, panel.index, ["A", "B"])
        options = {"band": None, "exits_policy": Exits(stop_loss=0.1), "costs": FREE, "cash": 1_000.0, "ledger": ledger}
        assert told(run_weights(weights, panel, **options))[3:] == []
        weights.iloc[4] = np.nan
        assert told(run_weights(weights, panel, **options))[3:] == []
        weights.iloc[4, 0] = 0.0
        # Of 960 after the stop at 9, 40 % at a close of 8 are 48 units.
        assert told(run_weights(weights, panel, **options))[3:] == [(6, "A", 48, 8)]

    def test_limits_name_what_they_forbid(self, ledger):
        limits = Limits(maximum_positions=1, blacklist=("B",))
        result = run_weights(HALVES, DOUBLING, limits=limits, band=None, costs=FREE, ledger=ledger)
        refused = result.orders[result.orders["status"] == "rejected"]
        assert set(zip(refused["symbol"], refused["reason"], strict=True)) == {
            ("B", "limit: the symbol is blacklisted")
        }

    def test_a_cap_on_the_exposure_holds(self, ledger):
        limits = Limits(maximum_exposure=0.5)
        result = run_weights(HALVES, DOUBLING, limits=limits, band=None, costs=FREE, ledger=ledger)
        assert told(result) == [(1, "A", 5_000, 10)]

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), order=st.permutations(range(5)), reduce=st.booleans())
    def test_the_order_of_the_columns_decides_nothing(self, seed, order, reduce):
        prices, weights = random_prices(seed, 40, 5), random_weights(seed + 1, 40, 5)
        market = Market(maximum_leverage=1.0, insufficient_cash="reduce" if reduce else "reject")
        panel = wide(prices)
        given_ = pd.DataFrame(weights, panel.index, panel.symbols)
        ledger = own_ledger()
        one = run_weights(given_, panel, market=market, ledger=ledger)
        names = [panel.symbols[i] for i in order]
        other = run_weights(given_[names], panel.select(names), market=market, ledger=ledger)
        np.testing.assert_allclose(other.equity, one.equity, rtol=1e-12)
        np.testing.assert_allclose(other.positions[list(panel.symbols)], one.positions, rtol=1e-9, atol=1e-9)


FAST, SLOW = TrendFollowing(fast=5, slow=20), TrendFollowing(fast=10, slow=40, direction="long_short")


class TestPortfolio:
    PANEL = wide(random_prices(7, 300, 3))

    def test_one_rule_on_one_symbol_is_run(self, ledger):
        bars, rule = probe_bars(400, seed=3), DecisionRule(strategy=SLOW, sizing=FixedFraction(fraction=0.9))
        alone, among = run(rule, bars, ledger=ledger), run_portfolio(rule, bars, ledger=ledger)
        pd.testing.assert_series_equal(among.equity, alone.equity, check_exact=True)

    def test_wishes_add_up_by_share_over_symbols(self):
        """Rule one: 60 % over three symbols; rule two: 40 % on one of them."""
        given_ = [(FAST, 0.6), (SLOW, 0.4, "S0001")]
        targets = portfolio_targets(given_, self.PANEL)
        one, two = (DecisionRule(strategy=way) for way in (FAST, SLOW))
        for a, symbol in enumerate(self.PANEL.symbols):
            bars = self.PANEL.bars(symbol)
            wanted = np.nan_to_num(one.weights(bars)[1]) * 0.2
            wanted += np.nan_to_num(two.weights(bars)[1]) * 0.4 if symbol == "S0001" else 0.0
            np.testing.assert_allclose(np.nan_to_num(targets[:, a]), wanted, atol=1e-15)
        assert np.isnan(targets[:18]).all()

    @pytest.mark.parametrize("rules", [[FAST, SLOW], {"a": FAST, "b": SLOW}, [(FAST, 0.5), (SLOW, 0.5)]])
    def test_equal_shares_unless_told(self, rules):
        expected = portfolio_targets([(FAST, 0.5), (SLOW, 0.5)], self.PANEL)
        np.testing.assert_array_equal(portfolio_targets(rules, self.PANEL), expected)

    def test_opposite_wishes_net_out_before_anything_is_paid(self, ledger):
        lone = [run_portfolio([(way, 0.5)], self.PANEL, band=None, ledger=ledger) for way in (FAST, SLOW)]
        netted = run_portfolio([FAST, SLOW], self.PANEL, band=None, ledger=ledger)
        assert netted.costs_by_kind.sum() < sum(one.costs_by_kind.sum() for one in lone)

    def test_the_targets_are_those_of_the_rules_not_one_bar_later(self, ledger):
        result = run_portfolio([FAST, SLOW], self.PANEL, ledger=ledger)
        np.testing.assert_array_equal(result.decisions, portfolio_targets([FAST, SLOW], self.PANEL))

    @pytest.mark.parametrize(
        ("rules", "message"),
        [
            ([], "there are no rules to run"),
            (["trend"], r"a portfolio holds rules, \(rule, share\) or \(rule, share, symbols\); got 'trend'"),
            ([(FAST, 0.5, ["S0000"], 1)], "a portfolio holds rules"),
            ([(FAST, 0.8), (SLOW, 0.3)], "the shares sum to 1.1, more than the account"),
            ([(FAST, 0.0)], "the share of TrendFollowing is 0.0: give a fraction of equity"),
            ([(FAST, float("nan"))], "the share of TrendFollowing is nan"),
            ([(FAST, 0.5, ["S0000", "GONE"])], "the bars do not hold GONE; they hold S0000, S0001, S0002"),
            ([(FAST, 0.5, [])], r"the symbols of TrendFollowing are \(\): name at least one"),
            ([(FAST, 0.5, ["S0000", "S0000"])], "and each once"),
            (
                [DecisionRule(strategy=FAST, exits=Exits(stop_loss=0.1))],
                "pass exits_policy and limits to run_",
            ),
            ([DecisionRule(strategy=FAST, rebalance_band=0.1)], "has a rebalance_band of 0.1, the account one of 0.0"),
        ],
    )
    def test_what_is_no_portfolio_is_refused(self, ledger, rules, message):
        with pytest.raises(ParameterError, match=message):
            run_portfolio(rules, self.PANEL, ledger=ledger)
        assert ledger.families() == {}

    def test_a_band_that_the_rules_share_with_the_account_is_welcome(self, ledger):
        run_portfolio([DecisionRule(strategy=FAST, rebalance_band=0.1)], self.PANEL, band=0.1, ledger=ledger)


class TestCounting:
    def test_every_call_is_one_trial_under_its_name(self, ledger):
        run_weights(HALVES, DOUBLING, ledger=ledger)
        run_weights(HALVES, DOUBLING, rebalance=2, name="rotation", ledger=ledger)
        run_positions(HALVES, DOUBLING, ledger=ledger)
        run_portfolio([FAST, SLOW], TestPortfolio.PANEL, ledger=ledger)
        three = "+".join(TestPortfolio.PANEL.symbols)
        assert ledger.families() == {
            "weights|A+B|1d": 1,
            "rotation|A+B|1d": 1,
            "positions|A+B|1d": 1,
            f"portfolio|{three}|1d": 1,
        }

    def test_the_same_again_is_the_same_trial_and_other_weights_are_another(self, ledger):
        for weights in (HALVES, HALVES, HALVES * 0.9):
            run_weights(weights, DOUBLING, ledger=ledger)
        assert ledger.families() == {"weights|A+B|1d": 2}

    def test_the_shortcut_is_a_look_not_a_trial(self, home):
        weighted_returns(HALVES, DOUBLING)
        assert not (home / "trials.sqlite").exists()


class TestShortcut:
    def test_the_formula_by_hand(self):
        panel = wide({"A": [100, 110, 99, 99]})
        returns = weighted_returns(np.array([0.5, 1.0, np.nan, 0.0]), panel, cost=0.01)
        # 0.5 x 10 % - 1 % x 0.5; 1 x -10 % - 1 % x 0.5; the weight is kept, nothing moves, nothing is traded.
        assert returns.tolist() == pytest.approx([0.0, 0.045, -0.105, 0.0], abs=1e-15)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), assets=st.integers(1, 8))
    def test_without_costs_it_is_the_account_that_rebalances_every_bar(self, seed, assets):
        weights = random_weights(seed, 60, assets)
        panel = wide(random_prices(seed + 1, 60, assets))
        exact = run_weights(weights, panel, costs=FREE, market=Market(maximum_leverage=3), ledger=own_ledger())
        quick = weighted_returns(weights, panel, cost=0.0)
        np.testing.assert_allclose(quick, exact.returns, rtol=0, atol=1e-12)

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10_000), cost=st.sampled_from([0.0005, 0.0015, 0.005]))
    def test_with_costs_it_differs_by_the_cost_of_trading_the_drift_back(self, seed, cost):
        """The account pays for |target - drifted weight|, the shortcut for |target - last target|."""
        weights, prices = np.abs(random_weights(seed, 60, 4)) * 0.9, random_prices(seed + 1, 60, 4)
        panel = wide(prices)
        costs = Costs(fee_rate=cost, slippage=0.0)
        exact = run_weights(weights, panel, costs=costs, ledger=own_ledger()).returns.to_numpy()
        quick = weighted_returns(weights, panel, cost=cost).to_numpy()

        drifted, known, expected, flattered = np.zeros(4), np.zeros(4), [0.0], [0.0]
        for t in range(1, 60):
            wanted, moves = weights[t - 1], prices[t] / prices[t - 1] - 1.0
            gross = float(wanted @ moves)
            expected.append(gross - cost * np.abs(wanted - drifted).sum())
            flattered.append(gross - cost * np.abs(wanted - known).sum())
            drifted, known = wanted * (1.0 + moves) / (1.0 + expected[-1]), wanted
        np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(quick, flattered, rtol=0, atol=1e-12)

    def test_compiled_and_interpreted_give_the_same_bits(self):
        weights, panel = random_weights(1, 50, 4), wide(random_prices(2, 50, 4))
        weights[5:9, 1] = np.nan
        compiled = weighted_returns(weights, panel)
        with interpreted():
            plain = weighted_returns(weights, panel)
        pd.testing.assert_series_equal(plain, compiled, check_exact=True)

    def test_thousands_of_assets_need_one_copy_of_the_weights_and_no_more(self):
        weights, panel = random_weights(3, 250, 4_000), wide(random_prices(4, 250, 4_000))
        weighted_returns(weights, panel)
        tracemalloc.start()
        weighted_returns(weights, panel)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.2 * weights.nbytes

    @pytest.mark.parametrize("cost", [-0.001, 0.5, 15, float("nan")])
    def test_a_cost_is_a_fraction(self, cost):
        with pytest.raises(ParameterError, match="give a fraction of traded value"):
            weighted_returns(HALVES, DOUBLING, cost=cost)
