"""A search: points that a sampler asks for, counted as those of a sweep are, and the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pandas as pd
import pytest

from tradelib.backtest import DecisionRule, TrialLedger, run, search, searching, sweep, sweeping
from tradelib.backtest.points import FIGURES
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk.exits import Distance
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(400, seed=7)
RULE = DecisionRule(strategy=TrendFollowing(fast=5, slow=20), rebalance_band=None)
SPACE = {"strategy.fast": (2, 30), "strategy.slow": (10, 60)}
START = BARS.index[70]


@pytest.fixture
def ledger(tmp_path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


class Hill(Strategy):
    """Long on as many of 100 bars as the peak is near: the closer to 37 and 0.25, the more exposure."""

    place: int = 0
    height: float = 0.0

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        distance = abs(self.place - 37) + 100 * abs(self.height - 0.25)
        share = max(0.0, 1.0 - distance / 200.0)
        held = np.arange(len(bars)) < share * len(bars)
        return pd.Series(held.astype(float), index=bars.index)


class TestWhatIsTried:
    def test_points_come_in_the_order_tried_and_each_is_a_trial(self, ledger):
        found = search(RULE, BARS, SPACE, trials=40, seed=3, start=START, ledger=ledger)
        assert len(found.frame) == found.new_trials == ledger.summary("TrendFollowing|PROBE|1d").count
        assert len(found.frame) + len(found.skipped) <= 40
        proposals = searching.Proposals(SPACE, None, 3, "maximize")
        first = [point for point in proposals.ask(16) if point["strategy.fast"] < point["strategy.slow"]]
        assert [found.point(row) for row in range(len(first))] == first

    def test_a_row_is_the_run_of_its_point(self, ledger):
        found = search(RULE, BARS, SPACE, trials=20, start=START, ledger=ledger)
        for row in range(0, len(found.frame), 5):
            point = found.point(row)
            strategy = TrendFollowing(fast=point["strategy.fast"], slow=point["strategy.slow"])
            alone = run(RULE.replace(strategy=strategy), BARS, start=START, ledger=ledger)
            assert alone.metrics["sharpe_ratio"] == found.frame["sharpe_ratio"][row]
        assert ledger.summary("TrendFollowing|PROBE|1d").count == len(found.frame)

    def test_invalid_points_are_skipped_with_the_reason_and_count_for_nothing(self, ledger):
        found = search(RULE, BARS, {**SPACE, "strategy.fast": (2, 60)}, trials=40, start=START, ledger=ledger)
        assert found.skipped
        assert all("must be below slow" in point["reason"] for point in found.skipped)
        assert (found.frame["strategy.fast"] < found.frame["strategy.slow"]).all()

    def test_a_point_that_is_asked_for_again_is_answered_not_run_again(self, ledger):
        found = search(RULE, BARS, {"strategy.fast": (2, 4)}, trials=30, start=START, ledger=ledger)
        assert sorted(found.frame["strategy.fast"]) == [2, 3, 4]
        assert found.new_trials == 3

    def test_choices_of_any_kind_and_distributions_of_optuna(self, ledger):
        stops = [None, 0.05, Distance(value=2, unit="atr")]
        space = {
            "exits.stop_loss": stops,
            "strategy.average": ["sma", "ema"],
            "sizing.fraction": optuna.distributions.FloatDistribution(0.01, 1.0, log=True),
        }
        found = search(RULE, BARS, space, trials=24, start=START, ledger=ledger)
        assert {repr(value) for value in found.frame["exits.stop_loss"]} == {repr(stop) for stop in stops}
        assert found.frame["sizing.fraction"].between(0.01, 1.0).all()
        assert found.new_trials == len(found.frame)

    def test_it_learns(self, ledger):
        """On a hill, the second half of the points lies closer to the top than the first."""
        space = {"strategy.place": (0, 100), "strategy.height": (0.0, 1.0)}
        found = search(Hill(), BARS, space, trials=120, by="exposure", seed=1, start=START, ledger=ledger)
        half = len(found.frame) // 2
        assert found.frame["exposure"][half:].mean() > found.frame["exposure"][:half].mean() + 0.05
        assert found.frame["exposure"].max() > 0.95
        down = search(
            Hill(), BARS, space, trials=60, by="exposure", direction="minimize", seed=1, start=START, ledger=ledger
        )
        assert down.frame["exposure"].mean() < found.frame["exposure"].mean()

    def test_without_a_start_the_longest_warm_up_of_the_space_is_left_out(self, ledger):
        assert search(RULE, BARS, SPACE, trials=5, ledger=ledger).start == BARS.index[60]

    def test_a_wide_space_is_measured_at_its_ends(self):
        space = {f"strategy.p{i}": (0, 1 + i) for i in range(12)}
        found = searching.corners(space)
        assert len(found) == 48
        assert {path: max(point[path] for point in found) for path in space} == {p: v[1] for p, v in space.items()}


class TestTheSameAgain:
    def test_the_same_seed_gives_the_same_points_whatever_the_threads(self, ledger):
        one, two, other = (
            search(RULE, BARS, SPACE, trials=50, seed=seed, start=START, ledger=ledger, workers=workers)
            for seed, workers in ((4, 1), (4, 2), (5, 2))
        )
        pd.testing.assert_frame_equal(one.frame, two.frame, check_exact=True)
        assert two.new_trials == 0
        assert not one.frame.equals(other.frame)

    @pytest.mark.parametrize("with_file", [True, False], ids=["file", "result"])
    def test_interrupted_it_keeps_finished_points_and_goes_on_as_if_nothing_had_been(
        self, ledger, tmp_path, monkeypatch, with_file
    ):
        options = {"trials": 60, "seed": 2, "start": START, "ledger": ledger}
        run_search, asked = searching.run_search, searching.Proposals.ask

        def stop_in_the_third_batch(self, count):
            self.batches = getattr(self, "batches", 0) + 1
            if self.batches == 3:
                raise KeyboardInterrupt
            return asked(self, count)

        monkeypatch.setattr(searching.Proposals, "ask", stop_in_the_third_batch)
        part = search(RULE, BARS, SPACE, **options, resume=tmp_path / "a" if with_file else None)
        assert part.interrupted
        assert 16 < len(part.frame) <= 32
        assert ledger.summary("TrendFollowing|PROBE|1d").count == len(part.frame)
        monkeypatch.undo()
        rest = search(RULE, BARS, SPACE, **options, resume=tmp_path / "a" if with_file else part)
        whole = search(RULE, BARS, SPACE, **options)
        pd.testing.assert_frame_equal(rest.frame, whole.frame, check_exact=True)
        assert rest.new_trials == len(whole.frame) - len(part.frame)
        assert run_search is searching.run_search

    def test_more_trials_at_the_same_path_go_on_with_the_same_points(self, ledger, tmp_path):
        few = search(RULE, BARS, SPACE, trials=20, start=START, ledger=ledger, resume=tmp_path / "a")
        more = search(RULE, BARS, SPACE, trials=50, start=START, ledger=ledger, resume=tmp_path / "a")
        pd.testing.assert_frame_equal(more.frame[: len(few.frame)], few.frame, check_exact=True)
        assert more.new_trials == len(more.frame) - len(few.frame) > 0

    def test_another_search_at_that_path_is_refused(self, ledger, tmp_path):
        search(RULE, BARS, SPACE, trials=10, start=START, ledger=ledger, resume=tmp_path / "a")
        with pytest.raises(ParameterError, match="search.seed is 0 there, 9 here"):
            search(RULE, BARS, SPACE, trials=10, seed=9, start=START, ledger=ledger, resume=tmp_path / "a")

    def test_a_sampler_that_asks_otherwise_cannot_go_on(self, ledger, tmp_path):
        options = {"trials": 10, "start": START, "ledger": ledger, "resume": tmp_path / "a"}
        search(RULE, BARS, SPACE, **options, sampler=optuna.samplers.RandomSampler(seed=1))
        with pytest.raises(ParameterError, match="give a fresh sampler with the same seed"):
            search(RULE, BARS, SPACE, **options, sampler=optuna.samplers.RandomSampler(seed=2))

    def test_time_that_is_over_ends_it_after_a_batch(self, ledger):
        found = search(RULE, BARS, SPACE, trials=10_000, timeout=1e-9, start=START, ledger=ledger)
        assert (len(found.frame), found.interrupted) == (0, False)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"by": "sharpe_rato"}, "no figure 'sharpe_rato'; did you mean 'sharpe_ratio'"),
            ({"trials": 0}, "trials must be a whole number from 1 on; got 0"),
            ({"batch": 1.5}, "batch must be a whole number from 1 on; got 1.5"),
            ({"timeout": -1}, "timeout must be a positive number of seconds; got -1"),
            ({"direction": "up"}, "direction is 'up': give 'maximize' or 'minimize'"),
        ],
    )
    def test_a_search_that_is_none(self, ledger, options, message):
        with pytest.raises(ParameterError, match=message):
            search(RULE, BARS, SPACE, ledger=ledger, **options)

    @pytest.mark.parametrize(
        ("space", "message"),
        [
            ({}, "the space names no parameter"),
            ({"strategy.fsat": (1, 2)}, "did you mean 'strategy.fast'"),
            ({"strategy.fast": (9, 2)}, "the low end comes first"),
            ({"strategy.fast": (2, math.inf)}, "both are finite"),
            ({"strategy.fast": (50, 60)}, r"no corner of the space is a valid rule.*fast \(50\) must be below slow"),
        ],
    )
    def test_a_space_that_is_none(self, ledger, space, message):
        with pytest.raises(ParameterError, match=message):
            search(RULE, BARS, space, ledger=ledger)


def test_a_search_and_a_sweep_count_the_same_point_once(ledger):
    swept = sweep(RULE, BARS, {"strategy.fast": [2, 3, 4]}, start=START, ledger=ledger)
    found = search(RULE, BARS, {"strategy.fast": (2, 4)}, trials=30, start=START, ledger=ledger)
    assert (swept.new_trials, found.new_trials) == (3, 0)
    assert set(FIGURES) < set(found.frame)


def test_the_progress_bar_counts_points_with_rate_and_remaining_time(ledger, capsys):
    sweep(RULE, BARS, {"strategy.fast": range(2, 12)}, start=START, ledger=ledger, progress=True)
    search(RULE, BARS, SPACE, trials=20, start=START, ledger=ledger, progress=True)
    shown = capsys.readouterr().err
    assert "10/10 [" in shown
    assert "20/20 [" in shown
    assert "sweep: 100%" in shown
    assert "search: 100%" in shown
    assert " points/s]" in shown
    bar = sweeping.progress_bar(1_000)
    bar.update(10)
    bar.close()
    assert "<" in capsys.readouterr().err.splitlines()[-1]
