"""`run`, `evaluate` and `Result`: windows, counting, tables, refusals."""

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import Costs, DecisionRule, Market, TrialLedger, run, sweep
from tradelib.backtest.engine import evaluate, replay
from tradelib.backtest.sweeps import with_parameters
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import FixedFraction, Sizing, VolatilityTarget
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(600, seed=11)
RULE = DecisionRule(strategy=TrendFollowing(fast=10, slow=40), sizing=VolatilityTarget(window=20), rebalance_band=0.1)


@pytest.fixture
def ledger(tmp_path):
    return TrialLedger(tmp_path / "trials.sqlite")


class TestWindows:
    def test_start_and_end_are_included(self):
        result = evaluate(RULE, BARS, start="2000-06-01", end="2000-12-31")
        assert (str(result.index[0].date()), str(result.index[-1].date())) == ("2000-06-01", "2000-12-31")

    def test_bars_after_the_end_change_nothing(self):
        early = evaluate(RULE, BARS, end="2000-12-31")
        other = BARS.copy()
        other.loc["2001-01-01":, ["open", "high", "low", "close"]] *= 3.0
        pd.testing.assert_series_equal(evaluate(RULE, other, end="2000-12-31").equity, early.equity, check_exact=True)

    def test_the_decision_of_the_bar_before_the_start_fills_at_its_open(self):
        always_long = DecisionRule(strategy=TrendFollowing(fast=1, slow=2, direction="long_short"))
        result = evaluate(always_long, BARS, start="2000-06-01", costs=Costs(fee_rate=0, slippage=0))
        first = result.orders.iloc[0]
        assert first["time"] == pd.Timestamp("2000-05-31", tz="UTC")
        assert first["fill_time"] == pd.Timestamp("2000-06-01", tz="UTC")
        assert first["price"] == BARS.loc["2000-06-01", "open"]

    @pytest.mark.parametrize("window", [{"start": "2050-01-01"}, {"end": "1990-01-01"}])
    def test_an_empty_stretch_is_refused(self, window):
        with pytest.raises(DataError, match="no bar lies between"):
            evaluate(RULE, BARS, **window)


class TestCounting:
    def test_a_run_is_a_trial_and_the_same_run_is_the_same_trial(self, ledger):
        for _ in range(2):
            run(RULE, BARS, ledger=ledger)
        assert ledger.families() == {"TrendFollowing|PROBE|1d": 1}

    @pytest.mark.parametrize(
        "changes",
        [
            {"costs": Costs(fee_rate=0.002)},
            {"market": Market(lots_per_unit=10)},
            {"cash": 5_000.0},
            {"start": "2000-06-01"},
            {"end": "2001-06-01"},
        ],
    )
    def test_another_setting_is_another_trial(self, ledger, changes):
        run(RULE, BARS, ledger=ledger)
        run(RULE, BARS, ledger=ledger, **changes)
        assert ledger.summary("TrendFollowing|PROBE|1d").count == 2

    def test_other_data_is_another_trial(self, ledger):
        run(RULE, BARS, ledger=ledger)
        run(RULE, probe_bars(600, seed=12), ledger=ledger)
        assert ledger.summary("TrendFollowing|PROBE|1d").count == 2

    def test_without_a_ledger_given_the_project_counts(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TRADELIB_HOME", str(tmp_path))
        run(RULE, BARS)
        assert TrialLedger().path == tmp_path / "trials.sqlite"
        assert TrialLedger().families() == {"TrendFollowing|PROBE|1d": 1}

    def test_evaluate_counts_in_the_projects_own_ledger_and_takes_no_other(self, tmp_path, monkeypatch, ledger):
        monkeypatch.setenv("TRADELIB_HOME", str(tmp_path / "home"))
        evaluate(RULE, BARS)
        evaluate(RULE, BARS)
        assert TrialLedger().families() == {"TrendFollowing|PROBE|1d": 1}
        with pytest.raises(TypeError, match="ledger"):
            evaluate(RULE, BARS, ledger=ledger)

    def test_a_replay_does_not_count(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TRADELIB_HOME", str(tmp_path / "home"))
        replay(RULE, BARS)
        assert TrialLedger().families() == {}

    def test_a_constant_account_is_counted_without_a_sharpe_ratio(self, ledger):
        never = DecisionRule(strategy=TrendFollowing(fast=400, slow=5_000))
        run(never, BARS, ledger=ledger)
        summary = ledger.summary("TrendFollowing|PROBE|1d")
        assert (summary.count, summary.sharpes) == (1, ())
        assert np.isnan(summary.variance_of_sharpe)

    def test_an_edited_strategy_under_the_same_parameters_is_another_trial(self, ledger):
        def edited(window):
            class Edited(Strategy):
                def signals(self, bars):
                    average = bars["close"].rolling(window).mean()
                    return (bars["close"] > average).astype(float).where(average.notna())

            return Edited()

        for window in (3, 4, 3):
            run(edited(window), BARS, ledger=ledger)
        assert ledger.families() == {"Edited|PROBE|1d": 2}

    def test_what_a_sweep_looked_at_is_counted_also_when_a_later_point_breaks(self, ledger):
        class Breaking(Strategy):
            level: float = 0.0

            def signals(self, bars):
                if self.level > 2:
                    raise RuntimeError("broken")
                return (bars["close"] > self.level).astype(float)

        rule, levels = DecisionRule(strategy=Breaking()), [*np.linspace(0.0, 2.0, 70), 5.0]
        with pytest.raises(RuntimeError):
            sweep(rule, BARS, {"strategy.level": levels}, start=BARS.index[10], ledger=ledger, workers=1)
        assert ledger.families()["Breaking|PROBE|1d"] == 64  # the block before the one that broke


class TestResult:
    def test_profits_of_trades_add_up_to_the_change_of_equity(self):
        result = evaluate(RULE, BARS)
        assert result.trades["profit"].sum() == pytest.approx(result.equity.iloc[-1] - 100_000, abs=1e-6)

    @pytest.mark.parametrize("lots", [0.0, 10.0, 10_000.0])
    def test_trades_are_the_stretches_in_the_market(self, lots):
        rng = np.random.default_rng(5)
        random = pd.Series(rng.choice([0.0, 1.0, -1.0], len(BARS)), BARS.index)

        class RandomSides(Strategy):
            def signals(self, bars):
                return random.loc[bars.index]

        sizing = VolatilityTarget(window=5, annual_volatility=0.05)
        rule = DecisionRule(strategy=RandomSides(), sizing=sizing)
        result = evaluate(rule, BARS, market=Market(lots_per_unit=lots), costs=Costs(fee_rate=0, slippage=0))
        side = np.sign(result.positions["quantity"].to_numpy())
        entries = (side != 0) & (side != np.concatenate([[0], side[:-1]]))
        assert len(result.trades) == entries.sum()

    def test_returns_compound_to_the_equity(self):
        result = evaluate(RULE, BARS)
        np.testing.assert_allclose(100_000 * (1 + result.returns).cumprod(), result.equity, rtol=1e-12)

    def test_costs_lower_the_equity_by_what_they_are(self):
        result = evaluate(RULE, BARS, costs=Costs(fee_rate=0.01, slippage=0.0))
        assert result.metrics["fees"] == pytest.approx(result.orders["fee"].sum())
        assert (
            result.metrics["total_return"]
            < evaluate(RULE, BARS, costs=Costs(fee_rate=0, slippage=0)).metrics["total_return"]
        )

    def test_the_frame_has_one_row_per_bar_of_the_account(self):
        frame = evaluate(RULE, BARS, start="2001-01-01").to_frame()
        assert list(frame) == ["close", "signal", "target_weight", "quantity", "cash", "equity", "return", "drawdown"]
        assert len(frame) == len(BARS.loc["2001-01-01":])

    def test_it_shows_itself(self):
        result = evaluate(RULE, BARS)
        assert "Sharpe ratio" in result._repr_html_()
        assert repr(result).startswith("Result(TrendFollowing on PROBE 2000-01-01 to 2001-08-22: return")
        assert result.plot().data

    def test_a_rule_that_never_trades_has_tables_without_rows(self):
        result = evaluate(DecisionRule(strategy=TrendFollowing(fast=400, slow=5_000)), BARS)
        assert len(result.orders) == len(result.trades) == 0
        assert np.isnan(result.metrics["trade_win_rate"])
        assert np.isnan(result.metrics["sharpe_ratio"])


class TestBadInput:
    @pytest.mark.parametrize("cash", [0.0, -1.0, float("nan"), float("inf")])
    def test_cash_must_be_positive(self, cash):
        with pytest.raises(ParameterError, match="cash must be a positive amount"):
            evaluate(RULE, BARS, cash=cash)

    @pytest.mark.parametrize("column", ["open", "close"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
    def test_a_broken_price_is_refused_with_its_bar(self, column, value):
        broken = BARS.copy()
        broken.iloc[77, broken.columns.get_loc(column)] = value
        with pytest.raises(DataError, match="2000-03-18"):
            evaluate(RULE, broken)

    def test_unsorted_bars_are_refused(self):
        with pytest.raises(DataError):
            evaluate(RULE, BARS.iloc[::-1])

    def test_a_signal_out_of_range_is_refused_with_its_bar(self):
        class TooLong(Strategy):
            def signals(self, bars):
                return pd.Series(np.where(bars.index == bars.index[5], 2.0, 0.0), bars.index)

        with pytest.raises(ParameterError, match=r"TooLong: signal 2.0 at 2000-01-06"):
            evaluate(TooLong(), BARS)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_hole_in_the_signals_is_refused_with_its_bar(self, value):
        class Holed(Strategy):
            def signals(self, bars):
                return pd.Series(1.0, bars.index).mask(bars.index == bars.index[7], value)

        with pytest.raises(ParameterError, match=rf"Holed: signal {value} at 2000-01-08"):
            evaluate(Holed(), BARS)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_weight_that_is_no_number_is_refused_with_its_bar(self, value):
        class Odd(Sizing):
            def weights(self, signals, bars):
                return signals.mask(bars.index == bars.index[70], value)

        with pytest.raises(ParameterError, match=rf"Odd: target weight {value} at 2000-03-11"):
            evaluate(DecisionRule(strategy=TrendFollowing(fast=10, slow=40), sizing=Odd()), BARS)

    @pytest.mark.parametrize("index", [range(600), BARS.index + pd.Timedelta("1D")])
    def test_signals_on_another_index_are_refused(self, index):
        class Elsewhere(Strategy):
            def signals(self, bars):
                return pd.Series(1.0, index)

        with pytest.raises(ParameterError, match=r"Elsewhere.signals must return a Series on the index of the bars"):
            evaluate(Elsewhere(), BARS)


class TestSweep:
    GRID = {"strategy.fast": [5, 10, 50], "strategy.slow": [20, 40]}

    def test_every_valid_point_is_evaluated_and_counted(self, ledger):
        result = sweep(RULE, BARS, self.GRID, ledger=ledger)
        assert len(result.frame) == 4
        assert [point["strategy.fast"] for point in result.skipped] == [50, 50]
        assert result.new_trials == ledger.summary("TrendFollowing|PROBE|1d").count == 4

    def test_a_point_of_the_sweep_is_the_run_of_its_rule(self, ledger):
        result = sweep(RULE, BARS, self.GRID, ledger=ledger)
        row = result.frame.iloc[1]
        alone = run(
            with_parameters(
                RULE, {"strategy.fast": int(row["strategy.fast"]), "strategy.slow": int(row["strategy.slow"])}
            ),
            BARS,
            start=result.start,
            ledger=ledger,
        )
        assert alone.metrics["sharpe_ratio"] == row["sharpe_ratio"]
        assert ledger.summary("TrendFollowing|PROBE|1d").count == 4

    def test_all_points_live_through_the_same_bars(self, ledger):
        result = sweep(RULE, BARS, self.GRID, ledger=ledger)
        assert result.batch.observations == 600 - 40
        assert result.start == BARS.index[40]

    def test_the_best_point_has_the_highest_figure(self, ledger):
        result = sweep(RULE, BARS, {**self.GRID, "rebalance_band": [0.0, 0.2]}, ledger=ledger)
        best = evaluate(result.best("total_return"), BARS, start=result.start)
        assert best.metrics["total_return"] == result.frame["total_return"].max()

    def test_a_point_without_a_sharpe_ratio_is_not_the_best_and_a_bare_strategy_is_taken(self, ledger):
        result = sweep(
            TrendFollowing(fast=2, slow=590), BARS, {"strategy.slow": [590, 40]}, start=BARS.index[40], ledger=ledger
        )
        result.frame.loc[0, "sharpe_ratio"] = np.nan
        assert result.best().strategy.slow == 40

    @pytest.mark.parametrize(
        ("grid", "message"),
        [
            ({}, "the grid has no values for any parameter"),
            ({"strategy.slow": []}, r"no values for \['strategy.slow'\]"),
            ({"strategy.slwo": [3]}, "did you mean 'strategy.slow'"),
            ({"strategy.slow": [5]}, "no point of the grid is a valid rule"),
            ({"strategy.slow": [700]}, "longest warm-up of the points is 600 bars or more, the data has 600"),
        ],
    )
    def test_a_grid_that_cannot_be_run_is_refused(self, ledger, grid, message):
        with pytest.raises(ParameterError, match=message):
            sweep(RULE, BARS, grid, ledger=ledger)


def test_fixed_fraction_is_the_default_sizing():
    assert evaluate(TrendFollowing(fast=10, slow=40), BARS).rule.sizing == FixedFraction()
