"""A sweep: every point is the run of its rule, whatever is swept, and counted as that run would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradelib.backtest import Costs, DecisionRule, FeeTier, Market, TrialLedger, run, sweep, sweeping
from tradelib.backtest import points as points_module
from tradelib.backtest.points import FIGURES, Maker, Point, block_size, make_point
from tradelib.backtest.sweeps import grid_points, random_points
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import Exits, FixedFraction, Limits, ScaleIn, VolatilityTarget
from tradelib.risk.exits import Distance
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(300, seed=5)
RULE = DecisionRule(strategy=TrendFollowing(fast=3, slow=9, direction="long_short"), rebalance_band=None)


@pytest.fixture
def ledger(tmp_path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


def figures_of(result: Any) -> list[float]:
    """The figures of a sweep, from a single run."""
    held = {**result.metrics, **result.performance}
    return [held[name] for name in FIGURES]


def assert_is_the_run(swept: Any, row: int, rule: DecisionRule, terms: dict[str, Any], ledger: TrialLedger) -> None:
    """Row `row` has the figures of `run`, bit for bit, and that run is no new trial."""
    before = sum(ledger.families().values())
    alone = run(rule, BARS, **terms, ledger=ledger)
    np.testing.assert_array_equal(swept.frame[list(FIGURES)].to_numpy()[row], figures_of(alone))
    assert sum(ledger.families().values()) == before


# Values to try for each parameter; every combination is a valid rule or refused with a reason.
lengths = st.one_of(
    st.none(),
    st.floats(0.005, 0.2),
    st.builds(Distance, value=st.floats(0.5, 4.0), unit=st.just("atr")),
    st.builds(Distance, value=st.floats(0.5, 20.0), unit=st.just("price")),
)
ladders = st.sampled_from([(), 0.03, [(0.02, 0.5), (0.05, 0.3)], [(Distance(value=1, unit="atr"), 0.5), (0.3, 0.5)]])
AXES: dict[str, st.SearchStrategy[Any]] = {
    "strategy.fast": st.integers(2, 12),
    "strategy.slow": st.integers(5, 30),
    "strategy.average": st.sampled_from(["sma", "ema"]),
    "strategy.direction": st.sampled_from(["long", "long_short"]),
    "sizing.fraction": st.floats(0.1, 1.5),
    "rebalance_band": st.sampled_from([None, 0.0, 0.1]),
    "exits.stop_loss": lengths,
    "exits.trailing_stop": lengths,
    "exits.take_profit": ladders,
    "exits.break_even": st.one_of(st.none(), st.floats(0.01, 0.1)),
    "exits.time_exit": st.one_of(st.none(), st.integers(1, 20)),
    "exits.atr_window": st.integers(2, 20),
    "exits.reentry": st.sampled_from(["new_signal", "any_time"]),
    "scale_in.orders": st.integers(1, 3),
    "scale_in.step": st.floats(0.005, 0.05),
    "scale_in.direction": st.sampled_from(["with", "against"]),
    "limits.maximum_drawdown": st.one_of(st.none(), st.floats(0.02, 0.5)),
    "limits.daily_loss": st.one_of(st.none(), st.floats(0.01, 0.2)),
    "limits.consecutive_losses": st.one_of(st.none(), st.integers(1, 3)),
    "limits.maximum_exposure": st.one_of(st.none(), st.floats(0.2, 2.0)),
    "limits.cooldown": st.integers(0, 10),
    "costs.fee_rate": st.floats(0.0, 0.01),
    "costs.maker_fee_rate": st.one_of(st.none(), st.floats(0.0, 0.01)),
    "costs.slippage": st.floats(0.0, 0.01),
    "costs.borrow_rate": st.floats(0.0, 0.2),
    "costs.fee_tiers": st.sampled_from([(), (FeeTier(volume=1e5, maker=0.001, taker=0.002),)]),
    "market.maximum_leverage": st.floats(1.0, 3.0),
    "market.lots_per_unit": st.sampled_from([0.0, 1.0, 100.0]),
    "market.insufficient_cash": st.sampled_from(["reject", "reduce"]),
    "market.maintenance_margin": st.floats(0.0, 0.3),
}


@st.composite
def swept_points(draw: st.DrawFn) -> list[dict[str, Any]]:
    axes = draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=6, unique=True))
    return draw(st.lists(st.fixed_dictionaries({axis: AXES[axis] for axis in axes}), min_size=1, max_size=6))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=swept_points(), workers=st.integers(1, 2))
def test_a_row_is_the_run_of_its_point_to_the_last_bit(points, workers, tmp_path_factory):
    ledger = TrialLedger(tmp_path_factory.mktemp("property") / "trials.sqlite")
    terms = {"cash": 50_000.0, "start": BARS.index[40]}
    base = Point(RULE.strategy, RULE.sizing, RULE, Costs(), Market())
    if not sweeping.valid_points(Maker(base, tuple(points[0])), points)[1]:
        with pytest.raises(ParameterError, match="no point of the grid is a valid rule"):
            sweep(RULE, BARS, points, **terms, ledger=ledger)
        return
    swept = sweep(RULE, BARS, points, **terms, ledger=ledger, workers=workers)
    assert len(swept.frame) + len(swept.skipped) == len(points)
    for row in range(len(swept.frame)):
        point = make_point(base, swept.point(row))
        assert_is_the_run(
            swept, row, point.full_rule(), {**terms, "costs": point.costs, "market": point.market}, ledger
        )
    ledger.close()


class TestPoints:
    def test_a_distance_may_be_a_number_or_a_distance(self, ledger):
        swept = sweep(RULE, BARS, {"exits.stop_loss": [None, 0.05, Distance(value=2, unit="atr")]}, ledger=ledger)
        assert swept.point(0) == {"exits.stop_loss": None}
        assert swept.best("total_return").exits is not None
        for row, stop in enumerate([None, 0.05, Distance(value=2, unit="atr")]):
            rule = RULE.replace(exits=Exits(stop_loss=stop))
            assert_is_the_run(swept, row, rule, {"start": swept.start}, ledger)

    def test_whole_numbers_stay_whole_beside_fractions(self, ledger):
        swept = sweep(RULE, BARS, {"exits.time_exit": [None, 5], "sizing.fraction": [1, 0.5]}, ledger=ledger)
        assert [swept.point(row) for row in (1, 2)] == [
            {"exits.time_exit": None, "sizing.fraction": 0.5},
            {"exits.time_exit": 5, "sizing.fraction": 1},
        ]

    def test_ladders_of_equal_length_are_values_like_any_other(self, ledger):
        ladders = [[(0.02, 0.5), (0.05, 0.5)], [(0.03, 0.5), (0.09, 0.5)]]
        swept = sweep(RULE, BARS, {"exits.take_profit": ladders}, ledger=ledger)
        assert [swept.point(row)["exits.take_profit"] for row in (0, 1)] == ladders
        assert list(swept.plot().data[0].x) == [str(ladder) for ladder in ladders]

    def test_several_windows_of_the_atr_and_fee_tiers_in_one_sweep(self, ledger):
        rule = RULE.replace(exits=Exits(stop_loss=Distance(value=2, unit="atr")))
        tiers = [(), (FeeTier(volume=2e5, maker=0.0, taker=0.0),)]
        swept = sweep(rule, BARS, {"exits.atr_window": [3, 14], "costs.fee_tiers": tiers}, ledger=ledger)
        row = 0
        for window in (3, 14):
            for tier in tiers:
                exits = rule.exits.replace(atr_window=window)
                terms = {"start": swept.start, "costs": Costs(fee_tiers=tier)}
                assert_is_the_run(swept, row, rule.replace(exits=exits), terms, ledger)
                row += 1

    def test_one_signal_serves_all_points_that_decide_the_same(self, ledger):
        asked = []

        class Counting(Strategy):
            def signals(self, bars: pd.DataFrame) -> pd.Series:
                asked.append(len(bars))
                return (bars["close"].diff() > 0).astype(float)

        grid = {"exits.stop_loss": np.linspace(0.01, 0.2, 40).tolist()}
        sweep(Counting(), BARS, grid, start=BARS.index[3], ledger=ledger, workers=1)
        assert len(asked) == 1

    def test_policies_that_the_rule_does_not_have_begin_with_their_defaults(self):
        base = Point(RULE.strategy, RULE.sizing, RULE, Costs(), Market())
        rule = make_point(base, {"scale_in.orders": 3, "limits.cooldown": 4, "exits.time_exit": 2}).full_rule()
        assert (rule.scale_in, rule.limits) == (ScaleIn(orders=3), Limits(cooldown=4))
        assert rule.exits == Exits(time_exit=2)

    def test_points_share_the_objects_of_equal_parts(self):
        base = Point(RULE.strategy, RULE.sizing, RULE, Costs(), Market())
        maker = Maker(base, ("strategy.fast", "costs.fee_rate"))
        one, two, three = (
            maker({"strategy.fast": fast, "costs.fee_rate": fee}) for fast, fee in ((2, 0.0), (2, 0.1), (2.0, 0))
        )
        assert one.strategy is two.strategy
        assert one.costs is not two.costs
        assert three.costs.fee_rate == 0.0

    def test_blocks_are_small_where_bars_are_many(self):
        class Alone(Strategy):
            """Says nothing of batches."""

        assert [block_size(bars, TrendFollowing) for bars in (100, 5_000, 100_000, 2_000_000)] == [256, 209, 10, 1]
        assert [block_size(bars, Alone) for bars in (100, 5_000, 100_000, 2_000_000)] == [64, 64, 10, 1]


def test_what_a_thread_keeps_is_bounded_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(points_module, "_KEPT_BYTES", 200)
    memo = points_module._Memo()
    for window in range(5):
        memo[window] = np.zeros(10)  # 80 bytes each
        assert window in memo
    memo["bars"] = "kept beside them"
    assert list(memo) == [3, 4, "bars"]


class TestRefusals:
    @pytest.mark.parametrize("given_", [BARS["close"] > 100, {"strategy.fast": [1]}, [RULE, RULE]])
    def test_what_has_no_parameters_is_refused_with_the_way_out(self, ledger, given_):
        with pytest.raises(ParameterError, match=r"needs a DecisionRule or a Strategy.*call run_signals, run_weights"):
            sweep(given_, BARS, {"strategy.fast": [2]}, ledger=ledger)

    def test_several_symbols_are_refused_with_the_way_out(self, ledger):
        other = BARS.copy()
        other.attrs = {**BARS.attrs, "symbol": "OTHER"}
        with pytest.raises(DataError, match=r"one symbol, the bars hold 2: sweep each, or run_portfolio per point"):
            sweep(RULE, {"PROBE": BARS, "OTHER": other}, {"strategy.fast": [2]}, ledger=ledger)

    @pytest.mark.parametrize(
        ("path", "guess"),
        [("exits.stop_los", "exits.stop_loss"), ("cost.fee_rate", "costs.fee_rate"), ("fast", "strategy.fast")],
    )
    def test_a_misspelt_path_is_answered_with_the_nearest(self, ledger, path, guess):
        with pytest.raises(ParameterError, match=f"{path}.*(did you mean '{guess}'|known: .*{guess})"):
            sweep(RULE, BARS, {path: [2]}, ledger=ledger)

    @pytest.mark.parametrize("wrong", [np.full(300, 2.0), np.full(300, 2, np.int8), np.r_[1.0, np.full(299, np.nan)]])
    @pytest.mark.parametrize("start", [None, BARS.index[0]])
    def test_a_batch_that_says_something_else_than_its_strategies_is_told(self, ledger, wrong, start):
        class Twisted(Strategy):
            bars: int = 5

            def signals(self, bars: pd.DataFrame) -> pd.Series:
                return pd.Series(1.0, bars.index)

            @classmethod
            def batch_signals(cls, strategies, bars, memo):
                return np.tile(wrong[: len(bars)], (len(strategies), 1))

        with pytest.raises(ParameterError, match=r"Twisted.batch_signals says something else of Twisted\(bars=6\)"):
            sweep(Twisted(), BARS, {"strategy.bars": [6, 7]}, start=start, ledger=ledger)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_points_that_are_no_rule_are_skipped_in_the_order_of_the_grid(self, ledger, monkeypatch, workers):
        monkeypatch.setattr(sweeping, "block_size", lambda *_: 7)
        grid = {"strategy.fast": [*range(2, 30)], "strategy.slow": [10, 20, 5]}
        swept = sweep(RULE, BARS, grid, start=BARS.index[0], ledger=ledger, workers=workers)
        points = grid_points(grid)
        bad = [point for point in points if point["strategy.fast"] >= point["strategy.slow"]]
        assert [{axis: point[axis] for axis in grid} for point in swept.skipped] == bad
        assert swept.frame[list(grid)].to_dict("records") == [point for point in points if point not in bad]
        assert swept.new_trials == len(points) - len(bad)
        figures = swept.result(BARS, row=11).performance
        assert {name: swept.frame[name][11] for name in figures} == figures

    def test_a_value_out_of_range_is_a_skipped_point_with_a_reason(self, ledger):
        swept = sweep(RULE, BARS, {"costs.fee_rate": [0.001, 0.9], "exits.stop_loss": [0.1, 1.5]}, ledger=ledger)
        assert len(swept.frame) == 1
        reasons = [point["reason"] for point in swept.skipped]
        assert "stop_loss of 1.5 is the whole price or more" in reasons[0]
        assert "fee_rate = 0.9: Input should be less than 0.5" in reasons[1]

    @pytest.mark.parametrize(
        ("space", "message"),
        [({"a": (2, 1)}, "the low end comes first"), ({"a": [1]}, r"give \(low, high\)"), ({"a": "xy"}, "choices")],
    )
    def test_a_space_that_is_none(self, space, message):
        with pytest.raises(ParameterError, match=message):
            random_points(space, 3, seed=0)


class TestPictures:
    GRID = {"exits.stop_loss": [None, 0.05, Distance(value=2, unit="atr")], "strategy.slow": [10, 20]}

    @pytest.fixture
    def swept(self, ledger):
        return sweep(RULE, BARS, self.GRID, ledger=ledger)

    def test_a_table_keeps_the_order_of_what_is_no_number(self, swept):
        table = swept.heat_map("exits.stop_loss", "strategy.slow")
        assert list(table.index) == ["none", "5%", "2 atr"]
        assert table.loc["2 atr", 20] == swept.frame["sharpe_ratio"].iloc[5]

    def test_the_heat_map_marks_the_best_point(self, swept):
        figure = swept.plot(by="total_return")
        row = swept.frame["total_return"].idxmax()
        star = figure.data[1]
        assert (star.x[0], star.y[0]) == (swept.frame["strategy.slow"][row], ["none", "5%", "2 atr"][row // 2])
        assert figure.data[0].colorbar.tickformat == ".1%"
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"

    def test_the_heat_map_says_when_a_cell_is_the_best_of_several_points(self, swept, ledger):
        crowded = sweep(RULE, BARS, self.GRID | {"costs.fee_rate": [0.0, 0.001]}, ledger=ledger)
        assert crowded.plot().layout.title.subtitle.text == "each cell shows the best over all other parameters"
        assert swept.plot().layout.title.subtitle.text is None

    def test_parallel_coordinates_have_an_axis_per_parameter_and_the_figure_last(self, swept):
        lines = swept.parallel_coordinates("maximum_drawdown").data[0]
        assert [axis.label for axis in lines.dimensions] == [*self.GRID, "maximum drawdown"]
        assert list(lines.dimensions[0].ticktext) == ["none", "5%", "2 atr"]

    def test_one_axis_is_a_line(self, ledger):
        swept = sweep(RULE, BARS, {"strategy.slow": [10, 20, 30]}, ledger=ledger)
        assert list(swept.plot().data[0].x) == [10, 20, 30]

    def test_an_unknown_column_is_answered_with_the_nearest(self, swept):
        with pytest.raises(ParameterError, match="did you mean 'sharpe_ratio'"):
            swept.plot(by="sharp_ratio")


def test_a_sweep_of_points_is_the_sweep_of_their_grid(ledger):
    grid = {"strategy.fast": [2, 3], "strategy.slow": [10, 20]}
    one, two = (sweep(RULE, BARS, points, ledger=ledger) for points in (grid, grid_points(grid)))
    pd.testing.assert_frame_equal(one.frame, two.frame, check_exact=True)
    assert two.new_trials == 0


def test_sizing_that_differs_from_point_to_point(ledger):
    rule = RULE.replace(sizing=VolatilityTarget(window=5))
    swept = sweep(rule, BARS, {"sizing.annual_volatility": [0.1, 0.3], "strategy.fast": [2, 4]}, ledger=ledger)
    for row, (level, fast) in enumerate([(0.1, 2), (0.1, 4), (0.3, 2), (0.3, 4)]):
        alone = RULE.replace(
            sizing=VolatilityTarget(window=5, annual_volatility=level), strategy=RULE.strategy.replace(fast=fast)
        )
        assert_is_the_run(swept, row, alone, {"start": swept.start}, ledger)


def test_fractions_above_the_leverage_are_rejected_in_the_sweep_as_in_the_run(ledger):
    swept = sweep(
        RULE.replace(sizing=FixedFraction(fraction=2.0)), BARS, {"market.maximum_leverage": [1.0, 3.0]}, ledger=ledger
    )
    assert swept.frame["rejected_orders"].iloc[0] > 0 == swept.frame["rejected_orders"].iloc[1]
