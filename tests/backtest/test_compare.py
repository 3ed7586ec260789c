"""Results side by side: what may stand beside what, which is better, and what is said about it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import Comparison, Costs, DecisionRule, TrialLedger, compare, run_weights, sweep
from tradelib.backtest.comparison import best_of, settings_of
from tradelib.backtest.engine import evaluate, replay
from tradelib.backtest.metrics import summary_metrics
from tradelib.data import make_bars, resample
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import Exits
from tradelib.strategies import TrendFollowing

BARS = probe_bars(700, seed=31)
RULE = DecisionRule(strategy=TrendFollowing(fast=10, slow=40))
PLAIN = replay(RULE, BARS)
STOPPED = replay(RULE.replace(exits=Exits(stop_loss=0.03)), BARS)


@pytest.fixture(scope="module")
def both() -> Comparison:
    return compare({"plain": PLAIN, "stopped": STOPPED})


def named(bars: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """The same bars under another symbol."""
    return make_bars(bars, symbol=symbol, timeframe="1d", source="x", calendar="24/7")


class TestFigures:
    def test_figures_are_those_of_the_results(self, both):
        for name, result in (("plain", PLAIN), ("stopped", STOPPED)):
            for key, value in both.figures[name].items():
                np.testing.assert_equal(value, result.metrics[key])

    def test_the_frame_is_the_figures(self, both):
        pd.testing.assert_frame_equal(both.to_frame(), both.figures)

    def test_growth_begins_at_one_before_the_first_return(self, both):
        np.testing.assert_allclose(both.equity["plain"], PLAIN.equity / PLAIN.initial_cash, rtol=1e-12)

    def test_correlation_is_the_one_of_pandas(self, both):
        expected = PLAIN.returns.corr(STOPPED.returns)
        assert both.correlation.loc["plain", "stopped"] == pytest.approx(expected)

    def test_an_account_that_never_moved_has_no_correlation(self):
        never = run_weights(np.zeros((700, 1)), BARS)
        assert np.isnan(compare({"plain": PLAIN, "never": never}).correlation.loc["plain", "never"])


class TestBest:
    FIGURES = pd.DataFrame(
        {
            "a": [0.10, 0.20, -0.30, 5.0, 12.0],
            "b": [0.20, 0.10, -0.10, 7.0, 99.0],
            "c": [0.20, 0.30, -0.20, np.nan, 3.0],
        },
        index=["sharpe_ratio", "annual_volatility", "maximum_drawdown", "fees", "trades"],
    )

    @pytest.mark.parametrize(
        ("figure", "winners"),
        [
            ("sharpe_ratio", ("b", "c")),
            ("annual_volatility", ("b",)),
            ("maximum_drawdown", ("b",)),
            ("fees", ("a",)),
            ("trades", ()),
        ],
    )
    def test_more_or_less_is_better_as_the_figure_says(self, figure, winners):
        assert best_of(self.FIGURES)[figure] == winners

    @pytest.mark.parametrize("values", [[1.0, 1.0], [1.0, 1.0 + 1e-12], [np.nan, np.nan]])
    def test_where_all_are_equal_or_unknown_nobody_wins(self, values):
        assert best_of(pd.DataFrame([values], ["sharpe_ratio"], ["a", "b"])) == {"sharpe_ratio": ()}

    def test_the_best_wears_a_star(self, both):
        text, best = both.summary(), both.best["sharpe_ratio"]
        starred = [name for name in text if text.loc["Sharpe ratio", name].startswith("★")]
        assert tuple(starred) == best != ()


class TestDifferences:
    def test_only_what_differs_is_listed(self, both):
        assert list(both.differences.index) == ["exits.stop_loss.value"]
        assert both.differences.loc["exits.stop_loss.value"].tolist() == ["–", 0.03]

    def test_costs_cash_and_parameters_are_settings(self):
        other = evaluate(
            RULE.replace(strategy=TrendFollowing(fast=11, slow=40)), BARS, costs=Costs(spread=0.001), cash=5e4
        )
        found = compare({"one": PLAIN, "two": other}).differences
        assert found.loc["strategy.fast"].tolist() == [10, 11]
        assert found.loc["costs.spread"].tolist() == [0.0, 0.001]
        assert found.loc["initial cash"].tolist() == [100_000.0, 50_000.0]

    def test_a_result_without_a_rule_is_known_by_its_name(self):
        assert settings_of(run_weights(np.ones((700, 1)), BARS, name="held"))["rule"] == "held"


class TestWhatCannotBeCompared:
    def test_one_result_is_too_few(self):
        with pytest.raises(ParameterError, match="there are 1 results: give two or more"):
            compare([PLAIN])

    def test_other_timeframes_are_refused_with_their_names(self):
        weekly = evaluate(TrendFollowing(fast=2, slow=5), resample(BARS, "1w"))
        with pytest.raises(ParameterError, match=r"daily: 1d bars, calendar 24/7, weekly: 1w bars"):
            compare({"daily": PLAIN, "weekly": weekly})

    def test_windows_without_a_common_bar_are_refused(self):
        early, late = (evaluate(RULE, BARS, **window) for window in ({"end": "2000-06-01"}, {"start": "2001-01-01"}))
        with pytest.raises(DataError, match="no bar in common: one begins 2001-01-01"):
            compare({"early": early, "late": late})

    def test_other_windows_are_cut_and_a_notice_says_so(self):
        part = evaluate(RULE, BARS, start="2000-04-01", end="2001-03-01")
        cut = compare({"plain": PLAIN, "part": part})
        assert cut.notices == ("cut to the common window, 2000-04-01 to 2001-03-01; trading figures left out",)
        assert "trades" not in cut.figures.index
        by_hand = summary_metrics(PLAIN.returns.loc["2000-04-01":"2001-03-01"], 365)
        for key, value in cut.figures["plain"].items():
            np.testing.assert_equal(value, by_hand[key])
        assert cut.equity.index.equals(part.index)
        assert cut.equity["plain"].iloc[0] == pytest.approx(1 + PLAIN.returns.loc["2000-04-01"])

    def test_amounts_of_two_currencies_never_stand_side_by_side(self):
        euro, dollar = (evaluate(RULE, named(BARS, symbol)) for symbol in ("X/EUR", "X/USD"))
        apart = compare([euro, dollar])
        assert "different currencies" in apart.notices[0]
        assert not {"fees", "slippage_cost"} & set(apart.figures.index)
        assert "trades" in apart.figures.index

    def test_amounts_from_different_cash_neither(self):
        poor = evaluate(RULE, BARS, cash=1_000.0)
        apart = compare({"rich": PLAIN, "poor": poor})
        assert "different initial cash" in apart.notices[0]
        assert "fees" not in apart.figures.index

    def test_other_bars_of_the_same_symbol_are_noticed(self):
        other = evaluate(RULE, probe_bars(700, seed=32))
        assert compare({"one": PLAIN, "two": other}).notices == ("the symbols are the same, their bars are not",)

    def test_bars_that_one_lacks_are_noticed_and_left_out_of_correlations(self):
        lacking = make_bars(BARS.drop(BARS.index[300:310]), symbol="PROBE", timeframe="1d", source="x", calendar="24/7")
        less = evaluate(RULE, lacking)
        apart = compare({"whole": PLAIN, "lacking": less})
        assert "the bars are not the same: correlations use the shared ones" in apart.notices
        assert apart.returns["lacking"].isna().sum() == 10
        expected = PLAIN.returns[less.index].corr(less.returns)
        assert apart.correlation.loc["whole", "lacking"] == pytest.approx(expected, rel=1e-12)


class TestTheObject:
    def test_results_in_a_list_are_named_by_what_they_are(self):
        assert list(compare([PLAIN, STOPPED]).results) == ["TrendFollowing on PROBE (1)", "TrendFollowing on PROBE (2)"]

    def test_nothing_in_it_changes(self, both):
        with pytest.raises(dataclasses.FrozenInstanceError):
            both.results = {}
        with pytest.raises(TypeError):
            both.results["plain"] = STOPPED
        figures, equity = both.figures, both.equity
        figures.iloc[0, 0] = equity.iloc[0, 0] = 99.0
        assert both.figures.iloc[0, 0] != 99.0
        assert both.equity.iloc[0, 0] != 99.0

    def test_it_shows_itself(self, both):
        assert repr(both) == "Comparison(plain, stopped: 2000-01-01 to 2001-11-30)"
        card = both._repr_html_()
        assert card.count("<svg") == 2
        assert "exits.stop_loss.value" in card

    def test_names_are_escaped(self):
        card = compare({"<i>a</i>": PLAIN, "b": STOPPED})._repr_html_()
        assert "<i>" not in card
        assert "&lt;i&gt;a&lt;/i&gt;" in card

    def test_the_figure_has_growth_and_drawdown_of_each(self, both):
        drawn = both.plot().data
        assert [trace.name for trace in drawn] == ["plain", "plain", "stopped", "stopped"]
        assert drawn[0].y[-1] == pytest.approx(PLAIN.equity.iloc[-1] / 100_000)
        assert drawn[3].y.min() == pytest.approx(STOPPED.metrics["maximum_drawdown"])
        assert drawn[0].line.dash != drawn[2].line.dash

    def test_points_of_a_sweep_can_be_compared(self, tmp_path):
        swept = sweep(RULE, BARS, {"strategy.fast": [5, 10]}, ledger=TrialLedger(tmp_path / "t.sqlite"))
        points = compare({"five": swept.result(BARS, 0), "ten": swept.result(BARS, 1)})
        assert points.notices == ()
        np.testing.assert_array_equal(points.figures.loc["sharpe_ratio"], swept.frame["sharpe_ratio"])
