"""Data snooping: published examples, independent libraries, size and power, and nothing that shrinks a count."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import SPA
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from tradelib.backtest.trials import Trial, TrialLedger
from tradelib.errors import DataError, ParameterError
from tradelib.validation.data_snooping import (
    _field_of_tests,
    clustered_evidence,
    effective_trials,
    haircut_sharpe,
    haircut_sharpe_ratio,
    sharpe_of_p_value,
    sharpe_p_value,
    snooping_tests,
)
from tradelib.validation.sharpe import deflated_sharpe


@dataclass(frozen=True)
class Summary:
    """Stands for the trial ledger's summary."""

    count: int
    variance_of_sharpe: float
    sharpes: tuple[float, ...] = ()


def ratios(returns: np.ndarray) -> np.ndarray:
    return returns.mean(axis=0) / returns.std(axis=0, ddof=1)


def family(returns: np.ndarray, untold: int = 0) -> Summary:
    found = ratios(returns)
    return Summary(len(found) + untold, float(found.var(ddof=1)), tuple(found))


# -- Harvey & Liu (2015), "Backtesting", Journal of Portfolio Management 42(1): the example of six tests.

# -- The paper's program Haircut_SR: 120 months, 1.0 a year, autocorrelation 0.1 (Lo 2002), 100 tests correlated by 0.4.
#    Printed p-values: Bonferroni 0.465, Holm 0.409, BHY 0.169; haircut ratios a year 0.232, 0.262, 0.438.


def test_haircut_of_the_paper() -> None:
    lag = 0.2 / 0.9 * (1.0 - (1.0 - 0.1**12) / (12.0 * 0.9))
    found = haircut_sharpe_ratio(1.0 / math.sqrt(1.0 + lag) / math.sqrt(12.0), 120, 100, correlation=0.4)
    assert found.adjusted["bonferroni"] == pytest.approx(0.465, abs=5e-4)
    assert found.haircut["bonferroni"] * math.sqrt(12.0) == pytest.approx(0.232, abs=5e-4)
    # medians of 2,000 simulations: over seeds they stray by 0.001 and 0.003
    assert found.adjusted["holm"] == pytest.approx(0.409, abs=0.003)
    assert found.haircut["holm"] * math.sqrt(12.0) == pytest.approx(0.262, abs=0.003)
    assert found.adjusted["harvey_liu"] == pytest.approx(0.169, abs=0.009)
    assert found.haircut["harvey_liu"] * math.sqrt(12.0) == pytest.approx(0.438, abs=0.009)


def test_the_field_of_tests_is_the_published_mixture() -> None:
    """Harvey, Liu & Zhu, correlation 0: 39.66 % without a mean, the rest exponential with 0.0054995 a month."""
    error = 0.15 / math.sqrt(12.0) / math.sqrt(240.0)
    z, skill = norm.isf(0.025), np.linspace(0.0, 0.1, 20_001)
    power = norm.sf(z - skill / error) + norm.cdf(-z - skill / error)
    skilled = trapezoid(power * np.exp(-skill / 0.0054995) / 0.0054995, skill)
    found = (_field_of_tests(200, 0.0, 500, 1) < 0.05).mean()
    assert found == pytest.approx(0.3966 * 0.05 + 0.6034 * skilled, abs=3.0 * math.sqrt(0.25 / 100_000))


def test_best_of_two_hundred_of_the_paper() -> None:
    """0.75 a year over 240 months: p 0.0008 in one test; 0.15 as the best of 200 independent ones, as 0.32 a year."""
    alone = float(sharpe_p_value(0.75 / math.sqrt(12.0), 240))
    assert alone == pytest.approx(0.0008, abs=2e-4)
    assert math.sqrt(12.0) * float(sharpe_of_p_value(0.15, 240)) == pytest.approx(0.32, abs=0.005)


@given(sharpe=st.floats(0.001, 0.5), n=st.integers(10, 2000))
def test_ratio_and_p_value_are_inverse(sharpe: float, n: int) -> None:
    p = float(sharpe_p_value(sharpe, n))
    if p > 1e-200:
        assert float(sharpe_of_p_value(p, n)) == pytest.approx(sharpe, rel=1e-8)


# -- Fed by the ledger


def test_every_trial_of_the_ledger_counts() -> None:
    returns = np.random.default_rng(1).normal(0.0005, 0.01, (250, 20))
    best = returns[:, ratios(returns).argmax()]
    found = haircut_sharpe(best, family(returns, untold=5))
    p = np.concatenate([sharpe_p_value(ratios(returns), 250), np.ones(5)])  # 5 undefined ratios: p-value 1
    own = p.min()
    assert found.tests == 25
    assert found.p_value == pytest.approx(own, rel=1e-9)
    assert found.adjusted["bonferroni"] == pytest.approx(min(25 * own, 1.0), rel=1e-9)
    assert found.adjusted["holm"] == pytest.approx(multipletests(p, method="holm")[1].min(), rel=1e-9)
    by = multipletests(p, method="fdr_by")[1][p.argmin()]
    assert found.adjusted["benjamini_yekutieli"] == pytest.approx(by, rel=1e-9)


def test_a_strategy_outside_the_ledger_is_one_test_more() -> None:
    rng = np.random.default_rng(2)
    assert haircut_sharpe(rng.normal(0.001, 0.01, 250), family(rng.normal(0.0, 0.01, (250, 20)))).tests == 21


def test_a_loser_has_nothing_to_cut() -> None:
    returns = np.random.default_rng(3).normal(-0.01, 0.01, (100, 4))
    found = haircut_sharpe(returns[:, 0], family(returns))
    assert (found.p_value, set(found.adjusted.values()), set(found.haircut.values())) == (1.0, {1.0}, {0.0})
    assert found.interpretation.startswith("Does not survive 4 tests")


def test_skill_survives_and_the_page_says_so() -> None:
    returns = np.random.default_rng(4).normal(0.0, 0.01, (1000, 50))
    returns[:, 9] += 0.003
    found = haircut_sharpe(returns[:, 9], family(returns), periods_per_year=252)
    assert found.interpretation.startswith("Survives 50 tests at 5%")
    assert found.to_frame().loc["single test", "sharpe_ratio"] == pytest.approx(found.sharpe * math.sqrt(252))
    assert found.interpretation in found.summary()
    assert "Survives" in found._repr_html_()


# -- Reality check, SPA, StepM


def test_spa_is_the_one_of_arch_on_losses() -> None:
    rng = np.random.default_rng(5)
    returns, benchmark = rng.normal(0.0005, 0.01, (200, 6)), rng.normal(0.0, 0.01, 200)
    found = snooping_tests(returns, benchmark, repetitions=200, block_size=5, seed=3)
    theirs = SPA(-benchmark, -returns, block_size=5, reps=200, seed=3)
    theirs.compute()
    assert found.spa == {name: theirs.pvalues[name] for name in ("lower", "consistent", "upper")}
    np.testing.assert_allclose(found.excess, returns.mean(axis=0) - benchmark.mean(), rtol=1e-9)


def test_a_loss_is_not_taken_for_a_gain() -> None:
    rng = np.random.default_rng(6)
    losing = snooping_tests(rng.normal(-0.01, 0.01, (200, 5)), repetitions=100)
    assert losing.spa["consistent"] > 0.3
    assert losing.superior == ()
    winning = snooping_tests(rng.normal(0.01, 0.01, (200, 5)), repetitions=100)
    assert winning.superior == (0, 1, 2, 3, 4)
    assert winning.reality_check < 0.05


def test_size_of_spa_and_stepm_on_noise() -> None:
    """60 searches in noise at 10 %: 6 rejections are due; 3 standard errors of a binomial share are 0.116."""
    rng = np.random.default_rng(7)
    found = [snooping_tests(rng.normal(size=(120, 8)), repetitions=199, block_size=1, size=0.1) for _ in range(60)]
    assert abs(np.mean([test.spa["consistent"] <= 0.1 for test in found]) - 0.1) < 0.116
    assert np.mean([bool(test.superior) for test in found]) < 0.1 + 0.116


def test_stepm_names_the_planted_strategy() -> None:
    rng = np.random.default_rng(8)
    table = pd.DataFrame(rng.normal(0.0, 0.01, (500, 12)), columns=[f"rule {n}" for n in range(12)])
    table["rule 4"] += 0.003
    found = snooping_tests(table, repetitions=200)
    assert found.superior == ("rule 4",)
    assert found.to_frame().index[0] == "rule 4"
    assert "StepM names 1: rule 4" in found.interpretation
    assert len(found.plot().data[0].y) == 12
    assert found.interpretation in found.summary()


# -- Effective number of trials


def test_ideas_are_found_among_their_variants() -> None:
    rng = np.random.default_rng(9)
    ideas = rng.normal(0.0, 0.01, (750, 5))
    variants = np.repeat(ideas, 8, axis=1) + rng.normal(0.0, 0.004, (750, 40))
    found = effective_trials(variants, most_clusters=7, starts=3)
    assert found.number == 5
    assert [len(set(found.cluster[start : start + 8])) for start in range(0, 40, 8)] == [1] * 5
    assert found.to_frame()["trials"].tolist() == [8] * 5
    # a cluster of equal-looking variants has about the ratio of its idea
    own = {int(found.cluster[8 * n]): ratio for n, ratio in enumerate(ratios(ideas))}
    assert found.sharpes.tolist() == pytest.approx([own[n] for n in range(5)], abs=0.01)


def test_clusters_cannot_stand_for_the_count() -> None:
    """No API accepts a count below the ledger's: the effective number is no summary of trials."""
    variants = np.random.default_rng(10).normal(0.0, 0.01, (200, 8))
    found = effective_trials(variants, most_clusters=4, starts=2)
    for judge in (deflated_sharpe, haircut_sharpe):
        with pytest.raises(ParameterError, match="typed by hand is not accepted"):
            judge(variants[:, 0], found)  # type: ignore[arg-type]


def test_clusters_stand_beside_the_verdict_and_never_change_it() -> None:
    rng = np.random.default_rng(11)
    variants = np.repeat(rng.normal(0.0007, 0.01, (1000, 3)), 12, axis=1) + rng.normal(0.0, 0.003, (1000, 36))
    best = variants[:, ratios(variants).argmax()]
    both = clustered_evidence(best, variants, family(variants), most_clusters=6, starts=3)
    assert both.counted == deflated_sharpe(best, family(variants))
    assert both.passed == both.counted.passed
    assert both.matches_ledger
    assert both.effective.number == 3
    assert both.interpretation.startswith(both.counted.interpretation)
    other = clustered_evidence(best, variants[:, :30], family(variants), most_clusters=6, starts=3)
    assert not other.matches_ledger
    assert "no evidence" in other.interpretation


def test_a_pass_by_clusters_alone_is_no_pass() -> None:
    returns = np.random.default_rng(14).normal(0.0, 0.01, (200, 6))
    both = clustered_evidence(returns[:, 0], returns, family(returns), most_clusters=3, starts=1)
    assert not replace(both, clustered_deflated=1.0, counted=replace(both.counted, deflated=0.1)).passed
    assert replace(both, clustered_deflated=0.0, counted=replace(both.counted, deflated=0.99)).passed


def test_a_family_of_the_real_ledger(home: Any) -> None:
    returns = np.random.default_rng(12).normal(0.0, 0.01, (300, 10))
    ledger = TrialLedger()
    window = ("2020-01-01T00:00:00Z", "2020-12-31T00:00:00Z")
    ledger.record(
        Trial("f", {"n": n}, {}, "d" * 64, window, 300, float(ratio)) for n, ratio in enumerate(ratios(returns))
    )
    summary = ledger.summary("f")
    assert haircut_sharpe(returns[:, 0], summary).tests == 10
    assert clustered_evidence(returns[:, 0], returns, summary, most_clusters=4, starts=2).matches_ledger


# -- Refusals

NOISE = np.random.default_rng(13).normal(size=(50, 6))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: sharpe_p_value(0.1, 1), ParameterError, "at least 2"),
        (lambda: sharpe_of_p_value(0.1, 1), ParameterError, "at least 2"),
        (lambda: haircut_sharpe_ratio(0.1, 120, 0), ParameterError, "tests must be a whole number"),
        (lambda: haircut_sharpe_ratio(0.1, 120, 9, correlation=-0.1), ParameterError, "between 0 and 0.8"),
        (lambda: haircut_sharpe(NOISE[:, 0], 6), ParameterError, "typed by hand is not accepted"),  # type: ignore[arg-type]
        (lambda: haircut_sharpe([0.0] * 9, family(NOISE)), DataError, "never vary"),
        (lambda: snooping_tests(NOISE, size=1.0), ParameterError, "size must lie between 0 and 1"),
        (lambda: snooping_tests(NOISE, repetitions=10), ParameterError, "repetitions must be at least 100"),
        (lambda: snooping_tests(NOISE, block_size=50), ParameterError, "from 1 to 49 rows"),
        (lambda: snooping_tests(NOISE, NOISE), DataError, "give one return a row"),
        (lambda: snooping_tests(NOISE, NOISE[:, 2] + 0.1), DataError, "strategy 2 never differs"),
        (lambda: snooping_tests(NOISE[:5]), DataError, "at least 10 rows"),
        (lambda: snooping_tests(np.full((20, 2), np.nan)), DataError, "without blanks"),
        (lambda: effective_trials(NOISE[:, :3]), DataError, "3 trials are too few"),
        (lambda: clustered_evidence([0.0] * 50, NOISE, family(NOISE)), DataError, "never vary"),
    ],
)
def test_input_without_an_answer_is_refused(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()


def test_a_benchmark_on_other_times_is_refused() -> None:
    table = pd.DataFrame(NOISE, index=pd.date_range("2024-01-01", periods=50))
    with pytest.raises(DataError, match="on other times"):
        snooping_tests(table, table[0].shift(freq="1D"))
