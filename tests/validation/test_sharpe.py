"""Inference about Sharpe ratios: the published worked examples, the honest count, and the words around it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.backtest import Costs, run, run_weights, sweep
from tradelib.backtest.trials import TrialLedger, TrialSummary
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.strategies import Strategy
from tradelib.validation.sharpe import (
    counted_trials,
    deflated_sharpe,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    luck_curve,
    minimum_track_record_length,
    plot_luck,
    probabilistic_sharpe_ratio,
)


@dataclass(frozen=True)
class Summary:
    """Stands for the trial ledger's summary."""

    count: Any
    variance_of_sharpe: float
    sharpes: tuple[float, ...] = ()


# -- Bailey & Lopez de Prado (2014), "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), worked example:
#    annual ratio 2.5, T = 1250 daily returns, skewness -3, kurtosis 10, N = 100 trials whose annual ratios vary by 1/2,
#    250 observations a year.

DAILY = 2.5 / math.sqrt(250)
VARIANCE = 0.5 / 250


def test_expected_maximum_of_the_published_example() -> None:
    assert expected_maximum_sharpe(100, VARIANCE) == pytest.approx(0.1132, abs=5e-5)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "published"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_deflated_ratio_of_the_published_example(
    trials: int, skewness: float, kurtosis: float, published: float
) -> None:
    assert deflated_sharpe_ratio(DAILY, 1250, skewness, kurtosis, trials, VARIANCE) == pytest.approx(
        published, abs=5e-5
    )


# -- Bailey & Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2): a hedge fund with two
#    years of monthly returns, 0.458 per month (1.59 a year), skewness -2.448, kurtosis 10.164.


@pytest.mark.parametrize(("skewness", "kurtosis", "published"), [(0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)])
def test_probabilistic_ratio_of_the_published_hedge_fund(skewness: float, kurtosis: float, published: float) -> None:
    assert probabilistic_sharpe_ratio(0.458, 0.0, 24, skewness, kurtosis) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(
    ("periods", "skewness", "kurtosis", "years"),
    [(250, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_published_years_to_show_that_two_is_above_one(
    periods: int, skewness: float, kurtosis: float, years: float
) -> None:
    ratio, benchmark = 2 / math.sqrt(periods), 1 / math.sqrt(periods)
    length = minimum_track_record_length(ratio, benchmark, skewness, kurtosis, confidence=0.95)
    assert length / periods == pytest.approx(years, abs=0.005)


# -- properties --------------------------------------------------------------------------------------------------


@given(
    st.floats(0.02, 0.6),
    st.floats(-0.5, 0.015),
    st.floats(-2.0, 1.0),
    st.floats(0.0, 20.0),
    st.floats(0.6, 0.995),
)
@settings(max_examples=80, deadline=None)
def test_track_record_length_inverts_the_probability(
    sharpe: float, benchmark: float, skewness: float, extra: float, confidence: float
) -> None:
    kurtosis = 1.0 + skewness**2 + 0.5 + extra
    length = minimum_track_record_length(sharpe, benchmark, skewness, kurtosis, confidence)
    shorter, longer = math.floor(length), math.ceil(length)
    if shorter >= 2:
        assert probabilistic_sharpe_ratio(sharpe, benchmark, shorter, skewness, kurtosis) <= confidence + 1e-9
        assert probabilistic_sharpe_ratio(sharpe, benchmark, longer, skewness, kurtosis) >= confidence - 1e-9


@given(st.integers(1, 10_000), st.floats(1e-6, 0.1))
@settings(max_examples=60, deadline=None)
def test_more_trials_never_make_a_strategy_look_better(trials: int, variance: float) -> None:
    assert expected_maximum_sharpe(trials + 1, variance) > expected_maximum_sharpe(trials, variance)
    few, many = (deflated_sharpe_ratio(0.1, 500, 0.0, 3.0, n, variance) for n in (trials, trials + 1))
    assert many <= few


def test_expected_maximum_against_simulation() -> None:
    draws = np.random.default_rng(5).normal(0.0, 0.02, size=(4000, 200))
    assert expected_maximum_sharpe(200, 0.02**2) == pytest.approx(draws.max(axis=1).mean(), rel=0.01)


def test_one_trial_is_no_selection() -> None:
    assert expected_maximum_sharpe(1, math.nan) == 0.0
    assert deflated_sharpe_ratio(0.1, 500, 0.0, 3.0, 1, math.nan) == probabilistic_sharpe_ratio(0.1, 0.0, 500)


def test_astronomic_counts_keep_their_precision() -> None:
    """1 - 1/N rounds to 1 beyond 1e16; the tail itself does not."""
    assert 8.0 < expected_maximum_sharpe(10**18, 1.0) < 9.5


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilistic_sharpe_ratio(0.1, 0.0, 1), "at least 2, got 1"),
        (lambda: probabilistic_sharpe_ratio(math.nan, 0.0, 100), "finite"),
        (lambda: probabilistic_sharpe_ratio(0.1, math.inf, 100), "finite"),
        (lambda: probabilistic_sharpe_ratio(0.1, 0.0, 100, 0.0, 0.4), "not excess kurtosis"),
        (lambda: probabilistic_sharpe_ratio(0.1, 0.0, 100, -3.0, 9.0), "at least 10"),
        (lambda: probabilistic_sharpe_ratio(0.1, 0.0, 100, math.nan, 3.0), "must be numbers"),
        (lambda: minimum_track_record_length(0.1, confidence=95), "between 0.5 and 1, got 95"),
        (lambda: minimum_track_record_length(math.nan), "finite"),
        (lambda: expected_maximum_sharpe(0, 0.1), "at least 1, got 0"),
        (lambda: expected_maximum_sharpe(2.5, 0.1), "whole number"),  # type: ignore[arg-type]
        (lambda: expected_maximum_sharpe(10, -0.1), ">= 0, got -0.1"),
        (lambda: expected_maximum_sharpe(10, math.nan), ">= 0, got nan"),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call()


# -- the convenience with the ledger's count ---------------------------------------------------------------------

RETURNS = np.random.default_rng(11).normal(0.0008, 0.01, 1000)


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (3, "typed by hand is not accepted"),
        ([0.1, 0.2], "typed by hand is not accepted"),
        (None, "typed by hand is not accepted"),
        (Summary(True, 0.001), "typed by hand is not accepted"),
        (Summary(2.0, 0.001), "typed by hand is not accepted"),
        (Summary(0, math.nan), "no trial was counted"),
        (Summary(2, 0.001, (0.1, 0.2, 0.3)), "carries 3 Sharpe ratios"),
        (Summary(5, math.nan), "variance of 5 trials"),
        (Summary(5, 0.0, (0.1,)), "variance is unknown"),
    ],
)
def test_no_number_typed_by_hand_and_no_count_below_its_evidence(trials: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        deflated_sharpe(RETURNS, trials)


def test_convenience_equals_the_formula_and_counts_against_the_strategy() -> None:
    few, many = (deflated_sharpe(RETURNS, Summary(n, 0.0004)) for n in (2, 500))
    again = deflated_sharpe_ratio(many.sharpe, many.observations, many.skewness, many.kurtosis, 500, 0.0004)
    assert many.deflated == again
    assert many.deflated < few.deflated < many.probabilistic
    assert deflated_sharpe(RETURNS, Summary(np.int64(500), 0.0004)) == many


def test_the_trial_ledgers_own_summary_is_accepted() -> None:
    summary = TrialSummary("family", 4, (0.01, 0.05, -0.02, 0.03))
    assert deflated_sharpe(RETURNS, summary).trials == 4
    assert deflated_sharpe(RETURNS, TrialSummary("family", 1, (0.05,))).expected_maximum == 0.0


def test_the_result_speaks_plainly_and_travels_as_json() -> None:
    evidence = deflated_sharpe(RETURNS, Summary(500, 0.0004), periods_per_year=252)
    assert "the best of 500 trials" in evidence.interpretation
    assert evidence.interpretation.startswith("Not convincing" if not evidence.passed else "Convincing")
    assert "at 252 periods" in evidence.summary()
    assert "<table>" in evidence._repr_html_()
    assert json.loads(json.dumps(evidence.to_dict(), allow_nan=False))["trials"] == 500


def test_hopeless_and_flat_strategies_have_a_result_that_never_passes() -> None:
    hopeless = deflated_sharpe(-RETURNS, Summary(500, 0.0004))
    assert hopeless.minimum_track_record == math.inf
    assert hopeless.to_dict()["minimum_track_record"] is None
    assert "no record is long enough" in hopeless.summary()
    flat = deflated_sharpe(np.zeros(50), Summary(500, 0.0004))
    assert math.isnan(flat.deflated)
    assert not flat.passed
    assert flat.interpretation.startswith("Undefined")


def test_the_gate_keeps_its_promise_on_noise() -> None:
    """Given searches over 40 worthless strategies, when the best is deflated by its own count, at most 5 % pass."""
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(200):
        attempts = rng.standard_normal((40, 250))
        ratios = attempts.mean(axis=1) / attempts.std(axis=1, ddof=1)
        trials = Summary(40, float(ratios.var(ddof=1)), tuple(ratios))
        passed += deflated_sharpe(attempts[ratios.argmax()], trials).passed
    assert passed <= 10


# -- the road from a search to a verdict -------------------------------------------------------------------------


class CoinFlip(Strategy):
    """Long or flat by a coin that is tossed on each bar."""

    seed: int = 0

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        sides = np.random.default_rng(self.seed).integers(0, 2, len(bars))
        return pd.Series(sides.astype(float), bars.index)


TAPE = probe_bars(1_000, seed=5)
FREE = Costs(fee_rate=0.0, slippage=0.0)


def test_500_strategies_of_noise_are_500_trials_and_the_best_of_them_does_not_pass() -> None:
    """Given 500 seeded coin flippers on noise, when the best is judged, the ledger has 500 and says it was luck."""
    swept = sweep(CoinFlip(), TAPE, {"strategy.seed": list(range(500))}, costs=FREE)
    best = swept.result(TAPE)
    evidence = deflated_sharpe(best)
    assert TrialLedger().families() == {"CoinFlip|PROBE|1d": 500}
    assert (evidence.trials, evidence.from_ledger) == (500, True)
    assert best.metrics["sharpe_ratio"] > 1.0  # looks good
    assert evidence.probabilistic > 0.95  # and judged alone it would pass
    assert evidence.deflated < 0.95
    assert not evidence.passed


def test_so_are_500_strategies_that_each_come_under_a_name_of_their_own() -> None:
    """The same search by `run_weights`, one name each: 500 families of one trial, which compete all the same."""
    weights = [CoinFlip(seed=seed).signals(TAPE) for seed in range(500)]
    results = [run_weights(w, TAPE, costs=FREE, name=f"idea {seed}") for seed, w in enumerate(weights)]
    best = max(results, key=lambda result: result.metrics["sharpe_ratio"])
    evidence = deflated_sharpe(best)
    assert len(TrialLedger().families()) == 500
    assert evidence.trials == 500
    assert evidence.probabilistic > 0.95
    assert evidence.deflated < 0.95


def test_a_result_is_judged_by_the_ledger_and_by_nothing_that_is_handed_in() -> None:
    result = run(CoinFlip(seed=1), TAPE)
    run(CoinFlip(seed=2), TAPE)
    for fewer in (1, Summary(1, 0.0), TrialSummary("CoinFlip|PROBE|1d", 1, (0.1,))):
        with pytest.raises(ParameterError, match="leave trials out"):
            deflated_sharpe(result, fewer)  # type: ignore[arg-type]
    assert deflated_sharpe(result).trials == 2


def test_a_summary_of_fewer_trials_than_the_project_has_is_refused() -> None:
    """Made by hand, read before the last trials, or read from another file: the project's ledger has the last word."""
    result = run(CoinFlip(seed=1), TAPE)
    early = counted_trials(result)
    assert deflated_sharpe(result.returns, early).trials == 1
    run(CoinFlip(seed=2), TAPE)
    with pytest.raises(ParameterError, match="the project's ledger has 2 by now"):
        deflated_sharpe(result.returns, early)
    with pytest.raises(ParameterError, match="the project's ledger has 2 by now"):
        deflated_sharpe(result.returns, TrialSummary("MyName|probe|1d", 1, (0.1,)))


def test_a_count_that_no_ledger_gave_is_shown_as_such() -> None:
    assert "500 (not read from a ledger)" in deflated_sharpe(RETURNS, Summary(500, 0.0004)).summary()
    assert "not read from a ledger" not in deflated_sharpe(run(CoinFlip(), TAPE)).summary()


def test_the_curve_of_luck_ends_at_the_expected_best_and_follows_the_formula_on_the_way() -> None:
    summary = TrialSummary("f", 50, tuple(np.random.default_rng(3).normal(0.01, 0.05, 50)))
    curve = luck_curve(summary)
    assert curve.index[0] == 2
    assert curve.index[-1] == 50
    for count in (2, 10, 50):
        expected = expected_maximum_sharpe(count, float(np.var(summary.sharpes[:count], ddof=1)))
        assert curve.loc[count, "expected_best_by_luck"] == pytest.approx(expected, rel=1e-9)
        assert curve.loc[count, "best"] == max(summary.sharpes[:count])
    with pytest.raises(ParameterError, match="at least 2 make a curve"):
        luck_curve(TrialSummary("f", 1, (0.1,)))
    names = [trace.name for trace in plot_luck(summary, 252).data]
    assert names == ["trials", "best", "expected best by luck"]
