"""Whole candidates: noise that looks good, a planted edge and a leak; and the figures that the gates judge them by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.promotion.candidates import COSTS, GRID, QUICK, noise, researched, trending
from tests.promotion.support import PeekingForTest, rule_of
from tradelib.backtest.costs import Market
from tradelib.backtest.engine import replay
from tradelib.backtest.sweeps import sweep
from tradelib.backtest.trials import TrialLedger, family_of
from tradelib.data.bars import make_bars
from tradelib.errors import ParameterError
from tradelib.promotion import gates
from tradelib.promotion.evidence import EvidenceSettings, Study, evidence_figures
from tradelib.promotion.gates import Candidate, Thresholds
from tradelib.strategies import TrendFollowing
from tradelib.validation.splits import WalkForward
from tradelib.validation.walk_forward import run_walk_forward


def judged(candidate: Candidate, thresholds: Thresholds | None = None) -> gates.Verdict:
    return gates.verdict(gates.run_gates(candidate, thresholds))


# -- three candidates --------------------------------------------------------------------------------------------------


def test_a_planted_edge_passes_every_gate() -> None:
    """Given a market whose drift lasts 25 bars, a trend rule that was swept on it may trade live."""
    found = judged(researched(trending(2)), Thresholds(parity_window=100))
    assert found.permission == "live", found.summary()
    assert found.waived == {}
    assert len(found.results) == len(gates.SAFETY_GATES) + len(gates.EVIDENCE_GATES)


def test_noise_that_looks_good_is_refused_with_the_reasons() -> None:
    """Given a random walk on which the sweep found Sharpe ratios of 1.2 in sample and 0.6 out of sample."""
    candidate = researched(noise(3))
    assert candidate.figures["in_sample_sharpe"] > 1.2
    found = judged(candidate, Thresholds(parity_window=100))
    by_name = {result.name: result for result in found.results}
    assert by_name["out_of_sample_sharpe"].passed  # it looks good
    assert found.permission == "paper"
    assert all(by_name[name].passed for name in gates.SAFETY_GATES)
    refused = {result.name for result in found.failing}
    assert {"deflated_sharpe", "haircut_sharpe", "overfitting_probability", "walk_forward_efficiency"} <= refused
    assert "lower half of the other" in by_name["overfitting_probability"].explanation
    assert "overfitting probability 0.4" in found.summary()


def test_a_leak_is_refused_with_bar_and_column_however_good_it_looks() -> None:
    grid: dict[str, list[Any]] = {"rebalance_band": [0.01, 0.02, 0.05], "sizing.fraction": [0.3, 0.6, 0.9]}
    candidate = researched(noise(1, 900), rule_of(PeekingForTest()), grid)
    assert candidate.figures["out_of_sample_sharpe"] > 5.0
    found = judged(candidate)
    assert found.permission == "none"
    first = found.failing[0]
    assert (first.name, first.tier) == ("causality", "safety")
    assert "signal" in first.explanation
    assert first.explanation.count("201") >= 1  # a bar of 2015 to 2017
    assert found.summary().startswith("Refused, a safety gate failed: causality")


# -- the figures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return trending(2, 1200)


def study_of(bars: pd.DataFrame, **changes: Any) -> Study:
    rule, last = rule_of(TrendFollowing(fast=5, slow=30)), bars.index[799]
    found = sweep(rule, bars, GRID, end=last, costs=COSTS, ledger=None)
    given: dict[str, Any] = {
        "rule": found.best(),
        "bars": bars,
        "points": found.frame,
        "axes": tuple(GRID),
        "start": found.start,
        "in_sample_end": last,
        "unseen": (bars.index[800], bars.index[-1]),
        "costs": COSTS,
        "settings": QUICK,
    }
    return Study(**(given | changes))


@pytest.fixture(scope="module")
def study(bars: pd.DataFrame) -> Study:
    return study_of(bars)


def test_the_same_study_gives_the_same_figures(study: Study) -> None:
    one, other = evidence_figures(study), evidence_figures(replace(study))
    assert one.figures == other.figures
    assert one.figures["undefined"] == {}


def test_only_the_walk_forward_is_a_trial_and_nothing_is_counted_here(study: Study, bars: pd.DataFrame) -> None:
    evidence = evidence_figures(study)
    assert TrialLedger().families() == {}
    assert [trial.family for trial in evidence.trials] == [family_of("TrendFollowing", "BTC/USDT", "1d")]
    assert evidence.trials[0].observations == len(bars) - QUICK.walk_forward_train
    TrialLedger().record([*evidence.trials, *evidence_figures(study).trials])
    assert TrialLedger().families() == {family_of("TrendFollowing", "BTC/USDT", "1d"): 1}


def test_the_walk_forward_is_that_of_the_library() -> None:
    """Given noise, on which each window chooses otherwise, both choose alike and keep the same share of growth."""
    bars = noise(3, 1200)
    study = study_of(bars)
    points = {axis: sorted(set(study.points[axis])) for axis in GRID}
    windows = WalkForward(train_size=QUICK.walk_forward_train, test_size=QUICK.walk_forward_test)
    theirs = run_walk_forward(study.rule, bars, points, windows, costs=COSTS)
    ours = evidence_figures(study).figures
    assert ours["walk_forward_windows"] == len(theirs.windows)
    assert ours["walk_forward_efficiency"] == pytest.approx(theirs.efficiency, rel=1e-12)
    assert ours["walk_forward_drift"] == theirs.drift > 0.0


def test_a_crisis_that_began_before_the_account_is_not_lived_through_and_counts_nothing() -> None:
    """Given an account that opens in the crypto winter of 2018, that winter is not covered: to run it is a trial."""
    bars = noise(3, 1500)
    span = {"in_sample_end": bars.index[1350], "unseen": (bars.index[1351], bars.index[-1])}
    study = replace(study_of(bars), start=pd.Timestamp("2018-03-01", tz="UTC"), **span)
    before = TrialLedger().families()
    figures = evidence_figures(study).figures
    assert TrialLedger().families() == before
    assert "crypto winter 2018" in figures["stress_uncovered"]
    assert figures["stress_covered"] > 0


def test_the_regimes_are_learned_in_sample_alone(study: Study, bars: pd.DataFrame) -> None:
    """Given other bars after the sample, the fitted model is the same: only the states it gives to them differ."""
    from tradelib.promotion import evidence

    fitted: list[Any] = []
    real = evidence.fit_regimes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "fit_regimes", lambda *a, **k: fitted.append(real(*a, **k)) or fitted[-1])
        evidence_figures(study)
        evidence_figures(replace(study, bars=bars.iloc[:1100], unseen=(bars.index[800], bars.index[1099])))
    assert fitted[0].digest == fitted[1].digest


def test_without_a_grid_four_questions_stay_open_and_say_why(study: Study) -> None:
    alone = replace(study, points=study.points.iloc[:1])
    undefined = evidence_figures(alone).figures["undefined"]
    asked = ("walk_forward_sharpe", "overfitting_probability", "snooping_p_value", "neighbours_keep")
    assert all("no grid was swept" in undefined[name] for name in asked)


def test_without_volume_the_capacity_stays_open_and_may_be_waived(bars: pd.DataFrame) -> None:
    names = ("symbol", "timeframe", "source", "calendar")
    silent = make_bars(bars.assign(volume=0.0), **{name: bars.attrs[name] for name in names})
    figures = evidence_figures(study_of(silent)).figures
    assert figures["capacity_multiple"] is None
    assert "no volume" in figures["undefined"]["capacity_multiple"]
    failed = gates.capacity(figures, Thresholds())
    assert not failed.passed
    assert "no volume" in failed.explanation
    assert failed.waive("an index has no volume").passed


def test_a_strategy_that_never_trades_leaves_its_figures_undefined(study: Study) -> None:
    idle = replace(study, market=Market(minimum_notional=1e15))
    figures = evidence_figures(idle).figures
    for name in ("win_rate", "break_even_multiple", "capacity_multiple", "var_p_value"):
        assert figures[name] is None
        assert figures["undefined"][name]


def test_a_study_that_breaks_leaves_a_reason_and_raises_nothing(study: Study) -> None:
    figures = evidence_figures(replace(study, points=study.points.drop(columns=next(iter(GRID))))).figures
    assert "KeyError" in figures["undefined"]["overfitting_probability"]


def test_what_selected_the_point_may_be_any_figure(study: Study) -> None:
    """Given a rule that was selected by a figure that the sweep's file does not hold, its neighbours are asked anew."""
    again = evidence_figures(replace(study, by="calmar_ratio")).figures
    assert again["undefined"] == {}
    accounts = [
        replay(rule, study.panel, start=study.start, end=study.in_sample_end, costs=COSTS) for rule in study.rules
    ]
    own = next(row for row, rule in enumerate(study.rules) if rule == study.rule)
    values = np.array([account.metrics["calmar_ratio"] for account in accounts])
    assert again["worst_neighbour_keeps"] <= again["neighbours_keep"] <= values.max() / values[own]


def test_settings_refuse_what_cannot_be_computed() -> None:
    with pytest.raises(ParameterError, match="even number"):
        EvidenceSettings(overfitting_blocks=7)
    with pytest.raises(ParameterError, match="did you mean 'walk_forward_train'"):
        EvidenceSettings(walk_forward_trian=100)
