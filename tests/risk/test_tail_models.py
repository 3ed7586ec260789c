"""GARCH, filtered history, extreme values and simulation: against `arch`, R's evir, and laws with known tails."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk.tail_models import (
    ExtremeValueVaR,
    FilteredHistoricalVaR,
    GarchVaR,
    MonteCarloVaR,
    Shocks,
    Volatility,
    fit_garch,
    fit_pareto,
    garch_filter,
    garch_loss,
    pareto_tail,
    shock_tail,
)
from tradelib.risk.value_at_risk import RiskModel, gaussian_tail

arch = pytest.importorskip("arch")
optimize = pytest.importorskip("scipy.optimize")
stats = pytest.importorskip("scipy.stats")

MODELS: list[RiskModel] = [
    GarchVaR(),
    GarchVaR(volatility="GJR", distribution="normal"),
    GarchVaR(volatility="EGARCH", distribution="skewt"),
    FilteredHistoricalVaR(),
    FilteredHistoricalVaR(volatility="EWMA"),
    ExtremeValueVaR(),
    ExtremeValueVaR(filtered=True),
    MonteCarloVaR(),
    MonteCarloVaR(process="bootstrap"),
    MonteCarloVaR(process="normal"),
    MonteCarloVaR(process="t"),
]


@pytest.fixture(scope="module")
def index() -> np.ndarray:
    """Daily returns of the S&P 500, 1999-2018."""
    return np.asarray(embedded("sp500")["close"].pct_change().dropna().to_numpy(copy=True))


def garch_path(n: int, seed: int = 0) -> np.ndarray:
    """Simulated GARCH(1,1) returns, fractions: omega 0.05, alpha 0.1, beta 0.85 in percent."""
    z, values, s = np.random.default_rng(seed).standard_normal(n), np.empty(n), 1.0
    for t in range(n):
        values[t] = math.sqrt(s) * z[t]
        s = 0.05 + 0.1 * values[t] ** 2 + 0.85 * s
    return values / 100


# -- the fit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["normal", "t", "skewt"])
@pytest.mark.parametrize("volatility", ["GARCH", "GJR", "EGARCH"])
def test_optimum_and_volatility_are_archs(index: np.ndarray, volatility: Volatility, distribution: Shocks) -> None:
    values = index[-2500:]
    kind, o = ("EGARCH", 1) if volatility == "EGARCH" else ("GARCH", int(volatility == "GJR"))
    model = arch.arch_model(100 * values, vol=kind, p=1, o=o, q=1, dist=distribution, rescale=False)
    theirs, mine = model.fit(disp="off"), fit_garch(values, volatility, distribution)
    assert mine.log_likelihood >= theirs.loglikelihood - 1e-4
    assert np.sqrt(mine.variances(values)[:-1]) == pytest.approx(theirs.conditional_volatility, rel=5e-4)
    forecast = theirs.forecast(horizon=1).variance.iloc[-1, 0]
    assert mine.variances(values)[-1] == pytest.approx(forecast, rel=1e-3)


def test_published_parameters(index: np.ndarray) -> None:
    """S&P 500, 100 x simple returns, constant mean, arch 8.0.0: mu, omega, alpha, beta and log-likelihood."""
    fit = fit_garch(index)
    assert (fit.mu, fit.omega, fit.alpha, fit.beta) == pytest.approx((0.0564, 0.0175, 0.1022, 0.8852), abs=6e-5)
    assert fit.log_likelihood == pytest.approx(-6936.72, abs=0.005)


def test_parameters_of_a_simulation_are_found() -> None:
    """Within three of the standard errors that arch states for 8,000 returns: 0.012 omega, 0.0097 alpha, 0.018 beta."""
    fit = fit_garch(garch_path(8000))
    assert abs(fit.omega - 0.05) < 0.036
    assert abs(fit.alpha - 0.1) < 0.03
    assert abs(fit.beta - 0.85) < 0.054


@pytest.mark.parametrize("student", [False, True])
@pytest.mark.parametrize("theta", [[0.05, 0.02, 0.1, 0.03, 0.85, 6.0], [-0.1, 0.2, 0.0, 0.2, 0.5, 3.0]])
def test_gradient(index: np.ndarray, theta: list[float], student: bool) -> None:
    y, slope, unused = 100 * index[:600], np.empty(6), np.empty(6)
    at = np.array(theta)
    garch_loss(y, at, 1.3, student, slope)
    numeric = optimize.approx_fprime(at, lambda x: garch_loss(y, x, 1.3, student, unused), 1e-7)
    assert slope == pytest.approx(numeric, rel=1e-4, abs=1e-2)


@pytest.mark.parametrize("exponential", [False, True])
def test_kernels_interpreted_are_the_compiled_ones(index: np.ndarray, exponential: bool) -> None:
    y, theta = 100 * index[:300], np.array([0.05, 0.02, 0.1, -0.03, 0.85, 6.0])
    paths, slopes, losses = [np.empty(301), np.empty(301)], [np.empty(6), np.empty(6)], []
    garch_filter(y, theta[:5], 1.3, exponential, paths[0])
    losses.append(garch_loss(y, theta, 1.3, exponential, slopes[0]))
    with interpreted():
        garch_filter(y, theta[:5], 1.3, exponential, paths[1])
        losses.append(garch_loss(y, theta, 1.3, exponential, slopes[1]))
    assert (paths[0] == paths[1]).all()
    assert (slopes[0] == slopes[1]).all()
    assert losses[0] == losses[1]


def test_fit_does_not_depend_on_the_unit() -> None:
    """Returns ten times as large: mean x 10, omega x 100, the rest the same."""
    one, ten = fit_garch(garch_path(1500)), fit_garch(10 * garch_path(1500))
    expected = (10 * one.mu, 100 * one.omega, one.alpha, one.beta)
    assert (ten.mu, ten.omega, ten.alpha, ten.beta) == pytest.approx(expected, rel=1e-4, abs=1e-5)


# -- tails -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distribution", "shape"), [("normal", ()), ("t", (6.0,)), ("skewt", (6.0, -0.2))])
def test_shock_tails_against_archs_distributions(distribution: Shocks, shape: tuple[float, ...]) -> None:
    """Quantile and partial moment of arch's laws of variance 1."""
    law = {"normal": arch.univariate.Normal, "t": arch.univariate.StudentsT, "skewt": arch.univariate.SkewStudent}
    theirs, parameters = law[distribution](), np.array(shape)
    quantile = float(theirs.ppf(0.01, parameters))
    average = -float(theirs.partial_moment(1, quantile, parameters)) / 0.01
    assert shock_tail(distribution, shape, 0.01) == pytest.approx((-quantile, average), rel=1e-6)


def test_garch_horizon_adds_variances() -> None:
    """Bollerslev (1986): the k-th forecast is long-run + persistence^(k-1) (first - long-run)."""
    values = garch_path(2000)
    fit = fit_garch(values)
    first, run = float(fit.variances(values)[-1]), fit.omega / (1 - fit.persistence)
    total = sum(run + fit.persistence**k * (first - run) for k in range(10))
    var = GarchVaR(distribution="normal", horizon=10).estimate(values).var
    assert var == pytest.approx(gaussian_tail(0.01)[0] * math.sqrt(total) / 100 - 10 * fit.mu / 100, rel=1e-9)


def test_filtered_history_by_hand() -> None:
    """EWMA by its recursion, shocks by division, quantile by numpy."""
    values, variance = garch_path(500), [0.0]
    variance[0] = values[0] ** 2
    for value in values:
        variance.append(0.94 * variance[-1] + 0.06 * value**2)
    shocks = values / np.sqrt(variance[:-1])
    expected = -np.quantile(shocks, 0.05) * math.sqrt(variance[-1])
    assert FilteredHistoricalVaR(alpha=0.05, volatility="EWMA").estimate(values).var == pytest.approx(expected)


def test_evir_prints_the_same() -> None:
    """R's evir on Danish fires (u = 10, 109 of 2,167): p, quantile, sfall = .999, 94.28956, 191.3697; .9999, ..."""
    share = 109 / 2167
    shape, scale = optimize.fsolve(
        lambda p: [
            pareto_tail(1e-3, 10, p[0], p[1], share)[0] - 94.28956,
            pareto_tail(1e-4, 10, p[0], p[1], share)[0] - 304.62448,
        ],
        [0.4, 6.0],
    )
    assert (shape, scale) == pytest.approx((0.497, 6.975), abs=1e-3)
    assert pareto_tail(1e-3, 10, shape, scale, share)[1] == pytest.approx(191.3697, abs=1e-3)
    assert pareto_tail(1e-4, 10, shape, scale, share)[1] == pytest.approx(609.3696, abs=1e-3)


@pytest.mark.parametrize("shape", [-0.3, -0.05, 0.0, 0.2, 0.6])
def test_pareto_fit_is_scipys(shape: float) -> None:
    excesses = stats.genpareto.rvs(shape, scale=2.0, size=800, random_state=4)
    mine, theirs = fit_pareto(excesses), stats.genpareto.fit(excesses, floc=0)
    fitted = stats.genpareto.logpdf(excesses, mine[0], 0, mine[1]).sum()
    assert fitted >= stats.genpareto.logpdf(excesses, theirs[0], 0, theirs[2]).sum() - 1e-3
    assert mine[0] == pytest.approx(shape, abs=3 * max(1 + shape, 0.5) / math.sqrt(800))


def test_exponential_tail_is_the_limit() -> None:
    assert pareto_tail(0.01, 1.0, 1e-12, 0.5, 0.05) == pytest.approx((1 + 0.5 * math.log(5), 1.5 + 0.5 * math.log(5)))
    assert pareto_tail(0.01, 1.0, 1e-7, 0.5, 0.05) == pytest.approx(pareto_tail(0.01, 1.0, 0.0, 0.5, 0.05), rel=1e-6)


def test_extreme_values_of_a_known_law() -> None:
    """t with 4: VaR at 0.1 % is 7.173, the tail shape 1/4; 20,000 draws, about three standard errors."""
    estimate = ExtremeValueVaR(alpha=0.001).estimate(np.random.default_rng(8).standard_t(4, 20_000))
    assert estimate.var == pytest.approx(-stats.t.ppf(0.001, 4), rel=0.12)


@pytest.mark.parametrize("process", ["normal", "t"])
def test_simulation_repeats_the_formula(process: str) -> None:
    """Over ten periods the sum of normals is normal; of one t it is that t. Three standard errors of 200,000 paths."""
    values = np.random.default_rng(1).normal(0.001, 0.01, 800)
    horizon = 10 if process == "normal" else 1
    model = MonteCarloVaR.model_validate({"process": process, "paths": 200_000, "horizon": horizon, "alpha": 0.05})
    exact = gaussian_tail(0.05)[0] * values.std(ddof=1) * math.sqrt(horizon) - horizon * values.mean()
    assert model.estimate(values).var == pytest.approx(exact, rel=0.015)


def test_simulation_repeats_itself() -> None:
    values = garch_path(600)
    one, again, other = (MonteCarloVaR(horizon=5, seed=seed).estimate(values) for seed in (1, 1, 2))
    assert one == again
    assert one.var != other.var
    assert "standard error" in one.notes[0]


def test_simulated_garch_agrees_with_added_variances() -> None:
    """The variance of a ten-period sum is exact in both; the 5 % quantile differs by little for mild kurtosis."""
    values = garch_path(3000)
    exact = GarchVaR(horizon=10, alpha=0.05, distribution="normal").estimate(values).var
    drawn = FilteredHistoricalVaR(horizon=10, alpha=0.05, paths=50_000).estimate(values).var
    assert drawn == pytest.approx(exact, rel=0.06)


# -- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_model_answers_in_one_form(model: RiskModel, index: np.ndarray) -> None:
    estimate = model.estimate(pd.Series(index[-1000:]))
    assert 0.005 < estimate.var < estimate.es < 0.2
    assert estimate == model.forecast(index[-1000:], model.calibrate(index[-1000:]))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_degenerate_input_is_refused(model: RiskModel) -> None:
    for bad in ([0.0] * 600, [0.01, math.inf] * 300, [0.01, -0.01] * 10):
        with pytest.raises(DataError):
            model.estimate(bad)


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(ParameterError, match="lies before the tail"):
        ExtremeValueVaR(alpha=0.1)
    with pytest.raises(ParameterError, match="use FilteredHistoricalVaR"):
        GarchVaR(volatility="EGARCH", horizon=5)
    with pytest.raises(ParameterError, match="one period ahead"):
        ExtremeValueVaR(filtered=True, horizon=5)
    with pytest.raises(DataError, match="no finite average"):
        pareto_tail(0.01, 1.0, 1.0, 1.0, 0.05)
    with pytest.raises(DataError, match="too few or all equal"):
        fit_pareto(np.ones(50))
    with pytest.raises(DataError, match="drop leading zeros"):
        FilteredHistoricalVaR(volatility="EWMA").estimate(np.append(0.0, garch_path(300)))


@pytest.mark.real_data
def test_crypto_five_minutes(real_data: Path) -> None:
    """A month of bitcoin in 5-minute bars: every model finds a tail fatter than the bell curve's ratio 1.146."""
    close = pd.read_parquet(real_data / "crypto" / "binance_spot_5m" / "BTC_USDT.parquet")["close"]
    values = close.pct_change().dropna().to_numpy()[-8640:]
    for model in (FilteredHistoricalVaR(), ExtremeValueVaR(), GarchVaR()):
        estimate = model.estimate(values)
        assert 0.0 < estimate.var < 0.02
        assert estimate.es / estimate.var > 1.146
