"""Value at risk and expected shortfall of one series: each rule against numpy, scipy, or a figure worked by hand."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from tradelib.errors import DataError, ParameterError
from tradelib.risk.value_at_risk import (
    CornishFisherVaR,
    EWMAVaR,
    GaussianVaR,
    HistoricalVaR,
    QuantileRule,
    RiskEstimate,
    RiskModel,
    StudentTVaR,
    TailRule,
    WeightedHistoricalVaR,
    cornish_fisher_quantile,
    create_risk_model,
    ewma_variance,
    fit_student,
    gaussian_tail,
    historical_risk,
    student_tail,
)

stats = pytest.importorskip("scipy.stats")
integrate = pytest.importorskip("scipy.integrate")

MODELS = [HistoricalVaR, WeightedHistoricalVaR, GaussianVaR, StudentTVaR, CornishFisherVaR, EWMAVaR]


def sample(n: int = 1000, seed: int = 1) -> np.ndarray:
    """Seeded returns with fat tails."""
    return np.asarray(np.random.default_rng(seed).standard_t(5, n) / 100)


# -- historical ------------------------------------------------------------------------------------------------------


TEN = np.array([3, -5, 1, -2, 4, -4, 0, -1, -3, 2]) / 100


@pytest.mark.parametrize(
    ("quantile_rule", "es_rule", "var", "es"),
    [  # alpha 0.25 of ten: rank 3.25 of type 7, third order statistic; 2.5 of the worst ones for the coherent average
        ("linear", "tail_mean", 0.0275, 0.04),
        ("linear", "coherent", 0.0275, 0.042),
        ("order_statistic", "tail_mean", 0.03, 0.04),
        ("order_statistic", "coherent", 0.03, 0.042),
    ],
)
def test_rules_by_hand(quantile_rule: QuantileRule, es_rule: TailRule, var: float, es: float) -> None:
    estimate = HistoricalVaR(alpha=0.25, quantile_rule=quantile_rule, es_rule=es_rule).estimate(TEN)
    assert (estimate.var, estimate.es) == pytest.approx((var, es))


@pytest.mark.parametrize("alpha", [0.01, 0.013, 0.025, 0.05, 0.25, 0.499])
@pytest.mark.parametrize("n", [100, 101, 250, 1249])
def test_linear_rule_is_numpys(n: int, alpha: float) -> None:
    values = sample(n)[:, None]
    var, es = historical_risk(values, alpha)
    quantile = np.quantile(values, alpha)
    assert var[0] == pytest.approx(-quantile, rel=1e-14)
    assert es[0] == pytest.approx(-values[values <= quantile].mean(), rel=1e-13)


def test_order_statistic_at_a_whole_rank() -> None:
    """0.05 x 100 is 5.000000000000001 in floating point; the rank is 5 nevertheless."""
    values = np.arange(100.0)[:, None] - 200.0
    assert historical_risk(values, 0.05, "order_statistic")[0][0] == 196.0
    assert (
        historical_risk(np.arange(300.0)[:, None] - 500.0, 0.07, "order_statistic")[0][0] == 480.0
    )  # 21.000000000000004


@pytest.mark.parametrize("es_rule", ["tail_mean", "coherent"])
def test_ties_at_the_quantile(es_rule: TailRule) -> None:
    """Half of the returns equal the quantile: the tail mean counts them all, the coherent one only alpha n of them."""
    values = np.r_[-0.05, np.full(60, -0.01), np.full(39, 0.02)]
    _, es = historical_risk(np.column_stack([values, sample(100)]), 0.05, es_rule=es_rule)
    expected = (0.05 + 60 * 0.01) / 61 if es_rule == "tail_mean" else (0.05 + 4 * 0.01) / 5
    assert es[0] == pytest.approx(expected)
    alone = historical_risk(sample(100)[:, None], 0.05, es_rule=es_rule)[1][0]
    assert es[1] == pytest.approx(alone)  # the ties of one column leave the other alone


def test_coherent_average_is_subadditive() -> None:
    """The property that gives it its name (Acerbi & Tasche 2002), on losses with ties."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        a, b = rng.integers(-5, 5, (2, 23)).astype(float)
        each = historical_risk(np.column_stack([a, b, a + b]), 0.1, es_rule="coherent")[1]
        assert each[2] <= each[0] + each[1] + 1e-12


def test_input_is_left_alone() -> None:
    values = sample()
    before = values.copy()
    HistoricalVaR().estimate(values)
    assert (values == before).all()


def test_weighted_history_by_hand() -> None:
    """Weights 0.5, 1, 2, 4 over 7.5 (newest last) from the worst: -3 (1/7.5), then -1 (4/7.5); alpha 0.2."""
    estimate = WeightedHistoricalVaR(alpha=0.2, decay=0.5).estimate([0.02, -0.03, 0.01, -0.01])
    assert estimate.var == pytest.approx(0.01)
    assert estimate.es == pytest.approx((0.03 / 7.5 + 0.01 * (0.2 - 1 / 7.5)) / 0.2)


# -- distributions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.25])
def test_tails_against_integration(alpha: float) -> None:
    """ES is the average of the quantiles below alpha, by scipy's own distributions."""
    for tail, law in ((gaussian_tail(alpha), stats.norm()), (student_tail(alpha, 4.0), stats.t(4))):
        assert tail[0] == pytest.approx(-law.ppf(alpha), rel=1e-9)
        average = -law.expect(lambda x: x, lb=-np.inf, ub=law.ppf(alpha)) / alpha
        assert tail[1] == pytest.approx(average, rel=1e-6)


def test_textbook_table() -> None:
    """McNeil, Frey & Embrechts, "Quantitative Risk Management": 10,000 at 20 % a year of 250 days; normal, t with 4."""
    flat = np.tile([-1.0, 1.0], 20) * 0.2 / math.sqrt(250) * math.sqrt(39 / 40)
    alphas = (0.1, 0.05, 0.025, 0.01, 0.005)
    normal = [1e4 * GaussianVaR(alpha=alpha).estimate(flat).var for alpha in alphas]
    student = [1e4 * StudentTVaR(alpha=alpha, degrees_of_freedom=4).estimate(flat).var for alpha in alphas]
    assert normal == pytest.approx([162.1, 208.1, 247.9, 294.3, 325.8], abs=0.06)
    assert student == pytest.approx([137.1, 190.7, 248.3, 335.1, 411.8], abs=0.06)


@pytest.mark.parametrize(("nu", "shift"), [(3.0, 0.0), (6.0, 0.002), (30.0, -0.01)])
def test_student_fit_is_scipys(nu: float, shift: float) -> None:
    values = np.random.default_rng(int(nu)).standard_t(nu, 2000) / 100 + shift
    mine, theirs = fit_student(values), stats.t.fit(values)
    assert -stats.t.logpdf(values, *mine).sum() <= -stats.t.logpdf(values, *theirs).sum() + 1e-4
    assert mine == pytest.approx(theirs, rel=0.02, abs=1e-5)


def test_student_fit_of_normal_returns() -> None:
    values = np.random.default_rng(0).uniform(-0.01, 0.01, 500)
    estimate = StudentTVaR().estimate(values)
    assert any("normal distribution" in note for note in estimate.notes)


def test_cornish_fisher_by_hand() -> None:
    """z = -2, S = -0.5, K = 1: -2 - 0.5/6 x 3 - 2/24 - 0.25/36 x (-16 + 10)."""
    assert cornish_fisher_quantile(-2.0, -0.5, 1.0) == pytest.approx(-2 - 0.25 - 1 / 12 + 1 / 24)


def test_cornish_fisher_uses_population_moments() -> None:
    values = sample()
    s, k = stats.skew(values), stats.kurtosis(values)
    z = cornish_fisher_quantile(NormalDist().inv_cdf(0.05), s, k)
    estimate = CornishFisherVaR(alpha=0.05).estimate(values)
    assert estimate.var == pytest.approx(-values.mean() - z * values.std(ddof=1))


@pytest.mark.parametrize("rule", ["quantile", "edgeworth"])
def test_cornish_fisher_shortfall(rule: str) -> None:
    """By numerical integration: of the bent quantile, or of the Edgeworth density up to it (Boudt et al. 2008)."""
    values, alpha = sample(), 0.05
    s, k = float(stats.skew(values)), float(stats.kurtosis(values))
    normal = stats.norm
    if rule == "quantile":
        area = integrate.quad(lambda u: cornish_fisher_quantile(normal.ppf(u), s, k), 0, alpha)[0]
    else:
        g = cornish_fisher_quantile(normal.ppf(alpha), s, k)

        def density(x: float) -> float:
            he3, he4 = x**3 - 3 * x, x**4 - 6 * x**2 + 3
            he6 = x**6 - 15 * x**4 + 45 * x**2 - 15
            return float(normal.pdf(x) * (1 + s / 6 * he3 + k / 24 * he4 + s**2 / 72 * he6))

        area = integrate.quad(lambda x: x * density(x), -30, g)[0]
    estimate = CornishFisherVaR.model_validate({"alpha": alpha, "es_rule": rule}).estimate(values)
    assert estimate.es == pytest.approx(-values.mean() - values.std(ddof=1) * area / alpha, rel=1e-6)


def test_cornish_fisher_refuses_where_it_bends_back() -> None:
    with pytest.raises(DataError, match="rarer losses would be smaller"):
        CornishFisherVaR().estimate(np.append(np.tile([0.01, -0.01], 15), -0.12))


@pytest.mark.parametrize(
    ("s", "k"), [(0.0, 0.5), (-0.5, 2.0), (0.8, 3.0), (-1.5, 2.0), (-2.0, 5.0), (0.0, -1.0), (0.0, -0.4), (0.0, 9.0)]
)
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_bending_back_is_found_exactly(s: float, k: float, alpha: float) -> None:
    from tradelib.risk.value_at_risk import _bends_back

    z = np.linspace(NormalDist().inv_cdf(alpha / 1000), NormalDist().inv_cdf(alpha), 400_001)
    bent = z + s / 6 * (z**2 - 1) + k / 24 * (z**3 - 3 * z) - s**2 / 36 * (2 * z**3 - 5 * z)
    assert _bends_back(alpha, s, k) == bool((np.diff(bent) <= 0).any())


def test_ewma_is_the_recursion() -> None:
    values = sample(60)
    variance = values[0] ** 2
    for value in values:
        variance = 0.94 * variance + 0.06 * value**2
    assert ewma_variance(values) == pytest.approx(variance, rel=1e-12)
    assert EWMAVaR().estimate(values).var == pytest.approx(2.3263478740408408 * math.sqrt(variance))


# -- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_answers_in_one_form(kind: type[RiskModel]) -> None:
    estimate = kind(alpha=0.02).estimate(pd.Series(sample()))
    assert isinstance(estimate, RiskEstimate)
    assert 0.0 < estimate.var < estimate.es < 0.2
    assert (estimate.alpha, estimate.horizon, estimate.observations, estimate.model) == (0.02, 1, 1000, kind.__name__)
    assert kind.__name__ in estimate.summary()


@pytest.mark.parametrize("kind", MODELS)
def test_twice_the_returns_twice_the_risk(kind: type[RiskModel]) -> None:
    once, twice = kind().estimate(sample()), kind().estimate(2 * sample())
    assert (twice.var, twice.es) == pytest.approx((2 * once.var, 2 * once.es), rel=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("bad", [[0.01] * 500, [0.01, math.nan] * 300, [0.01], [[0.1, 0.2]] * 300])
def test_degenerate_input_is_refused(kind: type[RiskModel], bad: list[float]) -> None:
    with pytest.raises(DataError):
        kind().estimate(bad)


def test_refusals_say_what_and_where() -> None:
    days = pd.Series(sample(200), index=pd.date_range("2024-01-01", periods=200, tz="UTC"))
    days.iloc[3] = math.nan
    with pytest.raises(DataError, match="2024-01-04"):
        GaussianVaR().estimate(days)
    with pytest.raises(DataError, match="99 returns are too few: at least 100"):
        HistoricalVaR().estimate(sample(99))
    with pytest.raises(ParameterError, match="alpha = 0.95"):
        GaussianVaR(alpha=0.95)
    with pytest.raises(ParameterError, match="did you mean 'HistoricalVaR'"):
        create_risk_model("HistoricVaR")


def test_a_model_is_found_by_name() -> None:
    assert create_risk_model("EWMAVaR", {"decay": 0.97}) == EWMAVaR(decay=0.97)
    assert EWMAVaR(decay=0.97).to_config() == {
        "name": "EWMAVaR",
        "params": {"alpha": 0.01, "horizon": 1, "decay": 0.97},
    }


@pytest.mark.parametrize("kind", MODELS)
def test_longer_horizons_risk_more(kind: type[RiskModel]) -> None:
    one, ten = kind().estimate(sample()), kind(horizon=10).estimate(sample())
    assert one.var < ten.var < 1.01 * math.sqrt(10) * one.var + 10 * abs(sample().mean())


@pytest.mark.real_data
def test_sp500_history(real_data: Path) -> None:
    """Worst day 2008-10-15, -9.035 %: the average of the worst day in 5,030."""
    prices = pd.read_parquet(next((real_data / "index").glob("sp500_1999_2018*")))
    values = prices[next(name for name in prices.columns if name.lower().startswith("adj"))]
    estimate = HistoricalVaR(alpha=1 / 5030, es_rule="coherent").estimate(values.pct_change().dropna().to_numpy())
    assert estimate.es == pytest.approx(0.09035, abs=5e-6)
