"""Simulated futures: each model against its own formulas, and trades in another order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from tradelib._jit import interpreted
from tradelib._memory import shared
from tradelib.backtest import run, run_weights
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk.regimes import fit_regimes
from tradelib.strategies import TrendFollowing
from tradelib.validation import (
    JumpDiffusion,
    MonteCarlo,
    RegimeSwitching,
    block_bootstrap,
    fit_jump_diffusion,
    fit_regime_switching,
    monte_carlo,
    monte_carlo_trades,
    simulate_paths,
)
from tradelib.validation.paths import walk_shuffled
from tradelib.validation.simulation import _jump_loss, fit_garch_paths, tail_index, trade_returns


@pytest.fixture(scope="module")
def returns() -> pd.Series:
    return embedded("sp500")["close"].pct_change().iloc[1:]


@pytest.fixture(scope="module")
def traded() -> Any:
    return run(TrendFollowing(fast=10, slow=50), embedded("sp500"))


class Fixed:
    """The same returns for all paths."""

    def __init__(self, *returns: float) -> None:
        self.returns = returns

    def draw(self, generator: np.random.Generator, paths: int) -> Iterator[np.ndarray]:
        for value in self.returns:
            yield np.full(paths, value)


# Paths


def test_figures_of_a_path_by_hand() -> None:
    """1 -> 1.2 -> 0.6 -> 0.9: the top is 1.2, the lowest 0.6, the drawdown a half."""
    found = simulate_paths(Fixed(0.2, -0.5, 0.5), paths=100, horizon=3)
    row = found.to_frame().iloc[0]
    assert (row["terminal"], row["lowest"], row["maximum_drawdown"]) == pytest.approx((0.9, 0.6, -0.5))
    assert found.wealth[0].tolist() == pytest.approx([1.2, 0.6, 0.9])


def test_what_is_lost_stays_lost() -> None:
    found = simulate_paths(Fixed(0.1, -1.7, 5.0), paths=100, horizon=3)
    assert (found.terminal == 0.0).all()
    assert (found.maximum_drawdown == -1.0).all()


def test_interpreted_and_compiled_follow_the_same_bits() -> None:
    model = JumpDiffusion(0.0005, 0.01, 0.1, -0.02, 0.03)
    compiled = simulate_paths(model, paths=100, horizon=30, seed=4)
    with interpreted():
        plain = simulate_paths(model, paths=100, horizon=30, seed=4)
    assert (compiled.wealth == plain.wealth).all()
    assert (compiled.maximum_drawdown == plain.maximum_drawdown).all()


# Jumps


def test_the_likelihood_of_jumps_is_a_mixture_of_normals() -> None:
    """Forty terms of the Poisson mixture by scipy, at the largest intensity of a fit; the gradient by differences."""
    x, theta = np.linspace(-5, 5, 41), np.array([0.1, np.log(0.7), np.log(0.5), -0.4, np.log(1.3)])
    k = np.arange(40)
    parts = stats.poisson.pmf(k, 0.5) * stats.norm.pdf(x[:, None], 0.1 - 0.4 * k, np.sqrt(0.7**2 + k * 1.3**2))
    loss, slope = _jump_loss(x, theta)
    assert loss == pytest.approx(-np.log(parts.sum(axis=1)).mean(), rel=1e-7)
    numeric = optimize.approx_fprime(theta, lambda point: _jump_loss(x, point)[0], 1e-7)
    assert slope == pytest.approx(numeric, abs=1e-5)


def test_a_jump_diffusion_has_the_moments_of_its_formulas() -> None:
    """Cumulants of Press (1967); 200,000 draws, four standard errors (from 50 parts)."""
    model, generator = JumpDiffusion(0.001, 0.01, 0.2, -0.01, 0.02), np.random.default_rng(11)
    draws = model.draw(generator, 4000)
    parts = np.log1p(np.array([next(draws) for _ in range(50)]))
    mean, variance, third, fourth = model.cumulants
    expected = (mean, variance, third / variance**1.5, fourth / variance**2)
    found = (parts.mean(axis=1), parts.var(axis=1), stats.skew(parts, axis=1), stats.kurtosis(parts, axis=1))
    for want, seen in zip(expected, found, strict=True):
        assert seen.mean() == pytest.approx(want, abs=4 * seen.std() / np.sqrt(50))


def test_a_fit_is_as_likely_as_the_truth() -> None:
    """Twice the gain in log-likelihood over the planted parameters is chi squared of 5 degrees: 0 to 20.5 (99.9 %)."""
    truth = JumpDiffusion(0.0005, 0.01, 0.05, -0.03, 0.02)
    sample = np.concatenate([next(truth.draw(np.random.default_rng(seed), 5000)) for seed in range(2)])
    found = fit_jump_diffusion(sample)

    def likelihood(model: JumpDiffusion) -> float:
        logs = [model.deviation, model.intensity, model.jump_deviation]
        parts = (model.drift, np.log(logs[0]), np.log(logs[1]), model.jump_mean, np.log(logs[2]))
        return -len(sample) * _jump_loss(np.log1p(sample), np.array(parts))[0]

    assert 0.0 <= 2 * (likelihood(found) - likelihood(truth)) < 20.5
    assert found.intensity == pytest.approx(0.05, rel=0.4)
    assert found.deviation == pytest.approx(0.01, rel=0.03)
    assert found.cumulants[:2] == pytest.approx((np.log1p(sample).mean(), np.log1p(sample).var()), rel=0.05)


@pytest.mark.parametrize(
    "bad", [(0, -1, 0.1, 0, 0.1), (0, 0.01, 1.5, 0, 0.1), (0, 0.01, 0.1, 0, -1), (np.nan, 1, 0, 0, 0)]
)
def test_an_impossible_jump_diffusion_is_refused(bad: Any) -> None:
    with pytest.raises(ParameterError):
        JumpDiffusion(*bad)


# Regimes


def test_regimes_are_those_of_statsmodels(returns: pd.Series) -> None:
    last = returns.iloc[-1500:].to_numpy()
    model = MarkovRegression(100 * last, k_regimes=2, trend="c", switching_variance=True)
    fit = model.fit(disp=False)
    deviations = np.sqrt([fit.params[name] for name in (-2, -1)]) / 100
    order = np.argsort(deviations)
    found = fit_regime_switching(last)
    assert found.deviations == pytest.approx(deviations[order], rel=2e-3)
    assert found.start == pytest.approx(fit.filtered_marginal_probabilities[-1][order], abs=5e-3)
    stay = fit.regime_transition[:, :, 0].diagonal()[order]
    assert np.diagonal(found.transition) == pytest.approx(stay, abs=2e-3)


def test_simulated_regimes_stay_as_long_as_the_chain_says() -> None:
    """Returns of the storm are all negative here: the share of them after k steps is the k-th power of the matrix."""
    step = np.array([[0.9, 0.1], [0.3, 0.7]])
    model = RegimeSwitching((1.0, -0.5), (1e-9, 1e-9), tuple(map(tuple, step)), (1.0, 0.0))
    draws = model.draw(np.random.default_rng(0), 40_000)
    for k in range(1, 8):
        share = (next(draws) < 0).mean()
        assert share == pytest.approx(np.linalg.matrix_power(step, k)[0, 1], abs=4 * 0.5 / 200)


@pytest.mark.parametrize(
    "bad",
    [
        ((0.0, 0.0), (0.01, 0.02), ((0.9, 0.1),), (1.0, 0.0)),
        ((0.0, 0.0), (0.01, 0.0), ((0.9, 0.1), (0.1, 0.9)), (1.0, 0.0)),
        ((0.0, 0.0), (0.01, 0.02), ((0.9, 0.2), (0.1, 0.9)), (1.0, 0.0)),
        ((0.0, 0.0), (0.01, 0.02), ((1.1, -0.1), (0.1, 0.9)), (1.0, 0.0)),
    ],
)
def test_impossible_regimes_are_refused(bad: Any) -> None:
    with pytest.raises(ParameterError):
        RegimeSwitching(*bad)


# GARCH


@pytest.mark.parametrize("filtered", [False, True])
def test_simulated_variance_returns_to_its_level_as_the_formula_says(returns: pd.Series, filtered: bool) -> None:
    """E s(k) = long run + persistence ** k (s(0) - long run), within four standard errors."""
    model = fit_garch_paths(returns, filtered=filtered)
    fit, draws = model.fit, model.draw(np.random.default_rng(6), 40_000)
    level = fit.omega / (1 - fit.persistence)
    for k in range(40):
        squares = (100 * next(draws) - fit.mu) ** 2
        expected = level + fit.persistence**k * (model.variance - level)
        assert squares.mean() == pytest.approx(expected, abs=5 * squares.std() / 200)


def test_filtered_shocks_keep_their_skewness(returns: pd.Series) -> None:
    model = fit_garch_paths(returns, filtered=True)
    assert model.shocks is not None
    assert (model.shocks.mean(), model.shocks.std()) == pytest.approx((0.0, 1.0), abs=1e-12)
    assert stats.skew(model.shocks) < -0.2


# One call


@pytest.mark.parametrize("model", ["bootstrap", "garch", "filtered", "regimes", "jumps"])
def test_every_model_answers_every_question(returns: pd.Series, model: Any) -> None:
    found = monte_carlo(returns, model, paths=1000, horizon=60, seed=1)
    again = monte_carlo(returns, model, paths=1000, horizon=60, seed=1)
    assert (found.paths.terminal == again.paths.terminal).all()
    assert (np.diff(found.equity.to_numpy(), axis=1) >= 0).all()
    assert found.equity.index[[0, -1]].tolist() == [0, 60]
    assert (found.equity.loc[0] == 1.0).all()
    small, large = found.probability_of_drawdown(0.05), found.probability_of_drawdown(0.2)
    assert small.low <= small.estimate <= small.high
    assert small.estimate >= large.estimate
    assert found.probability_of_ruin(0.05).estimate <= small.estimate
    assert found.probability_of_loss().trials == 1000
    assert "supposes that what was drawn from goes on" in found.interpretation
    assert found.interpretation in found.summary()
    assert [len(found.plot(kind).data) for kind in ("fan", "drawdown", "terminal")] == [5, 1, 1]


def test_the_bootstrap_of_a_result_is_that_of_its_returns(traded: Any) -> None:
    """A year of daily exchange bars is 252 steps."""
    found, plain = monte_carlo(traded, paths=500), block_bootstrap(traded.returns, paths=500, horizon=252)
    assert (found.paths.terminal == plain.terminal).all()
    assert (found.unit, found.paths.horizon) == ("bars", 252)


def test_the_models_agree_where_they_must(returns: pd.Series) -> None:
    """Median wealth after a year is exp(252 x mean log return), up to skewness, without a regime of now."""
    expected = float(np.exp(252 * np.log1p(returns).mean()))
    models: Any = ("bootstrap", "jumps")
    for model in models:
        found = monte_carlo(returns, model, paths=4000)
        assert np.median(found.paths.terminal) == pytest.approx(expected, abs=0.02)


def test_without_an_edge_wealth_goes_nowhere(returns: pd.Series) -> None:
    gone = monte_carlo(returns, paths=20_000, mean=0.0, method="iid")
    assert gone.paths.terminal.mean() == pytest.approx(1.0, abs=4 * gone.paths.terminal.std() / np.sqrt(20_000))
    assert "recentred to a mean of 0.0000% a step" in gone.interpretation


def test_fitted_models_can_be_handed_over(returns: pd.Series) -> None:
    jumps = JumpDiffusion(0.0, 0.01, 0.0, 0.0, 0.0)
    assert monte_carlo(returns, jumps, paths=100).parameters["deviation"] == 0.01
    regimes = monte_carlo(returns, fit_regimes(returns.iloc[-800:]), paths=100)
    assert regimes.model == "regimes"
    assert regimes.parameters["start"][1] > 0.5  # December 2018


def test_an_infinite_variance_is_told(returns: pd.Series) -> None:
    """Student's t of 1.3 degrees has no variance; Hill's index of a Pareto tail is its exponent."""
    draw = np.random.default_rng(0)
    wild = monte_carlo(np.maximum(draw.standard_t(1.3, 3000) * 1e-3, -0.9), paths=100)
    assert "the variance may be infinite" in wild.interpretation
    assert not any("infinite" in note for note in monte_carlo(returns, paths=100).notes)
    assert tail_index(draw.pareto(3.0, 200_000) + 1.0) == pytest.approx(3.0, rel=0.05)
    signs = np.where(draw.random(200_000) < 0.5, -1.0, 1.0)
    assert tail_index(signs * (draw.pareto(1.5, 200_000) + 1.0)) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("magic", {}, "use 'bootstrap', 'garch'"),
        ("garch", {"block_length": 5}, "belong to the bootstrap"),
        ("jumps", {"method": "iid"}, "belong to the bootstrap"),
        ("bootstrap", {"mean": 2.0}, "two basis points"),
        ("bootstrap", {"horizon": 0}, "at least 1"),
        ("regimes", {"paths": 5}, "at least 100"),
    ],
)
def test_impossible_questions_are_refused(returns: pd.Series, model: Any, options: Any, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        monte_carlo(returns, model, **options)
    found = MonteCarlo(simulate_paths(Fixed(0.1), paths=100, horizon=1), "fixed", {})
    for fall in (0.0, -0.2, 20, "half"):
        with pytest.raises(ParameterError, match=r"0\.2 is twenty percent"):
            found.probability_of_ruin(fall)


@pytest.mark.parametrize("model", ["garch", "filtered", "regimes", "jumps"])
def test_too_few_returns_for_a_model_are_refused(returns: pd.Series, model: Any) -> None:
    with pytest.raises(DataError, match="at least 100"):
        monte_carlo(returns.iloc[:99], model)


# Trades


def test_a_shuffle_holds_every_order_as_often() -> None:
    """Three growths with different products: six orders, each a sixth of 12,000 within 5 deviations."""
    growth, paths = np.array([1.1, 1.3, 0.7]), 12_000
    figures, marks = np.empty((paths, 3)), np.empty((paths, 3))
    seeds = np.random.default_rng(0).integers(0, 2**32, (paths, 3))
    walk_shuffled(shared(growth), shared(seeds), shared(np.array([1, 2, 3])), figures, marks, 0, paths)
    assert figures[:, 0] == pytest.approx(growth.prod())
    for order in permutations(growth):
        same = np.isclose(marks, np.cumprod(order)).all(axis=1)
        assert same.sum() == pytest.approx(2000, abs=5 * np.sqrt(paths * 5 / 36))


def test_interpreted_and_compiled_shuffle_the_same_bits() -> None:
    trades = np.random.default_rng(1).standard_normal(40) * 0.02
    compiled = monte_carlo_trades(trades, "shuffle", paths=100).paths
    with interpreted():
        plain = monte_carlo_trades(trades, "shuffle", paths=100).paths
    assert (compiled.wealth == plain.wealth).all()
    assert compiled.terminal == pytest.approx(np.prod(1 + trades))


def test_returns_of_trades_are_profit_over_the_equity_before_them(traded: Any) -> None:
    values, notes = trade_returns(traded)
    closed = traded.trades[~traded.trades["open"]]
    first = closed.iloc[1]
    before = traded.equity[traded.equity.index < first["entry_time"]].iloc[-1]
    assert values[1] == pytest.approx(first["profit"] / before)
    assert len(values) == len(closed)
    assert "drawdowns inside a trade are not seen" in notes
    assert np.prod(1 + values) * traded.initial_cash == pytest.approx(
        traded.initial_cash + closed["profit"].sum(), rel=1e-9
    )


def test_open_and_overlapping_trades_are_told() -> None:
    bars = embedded("sp500").iloc[:1500]
    flips = np.where((np.arange(1500) // 20) % 2 == 0, 0.4, 0.0)
    wide = pd.concat({"A": bars, "B": bars.assign(volume=bars["volume"])}, axis=1)
    wide.attrs = {key: bars.attrs[key] for key in ("timeframe", "calendar", "source")}
    wide.columns.names = ["symbol", "field"]
    shifted = np.roll(flips, 10)
    shifted[-30:] = 0.4
    result = run_weights(pd.DataFrame({"A": flips, "B": shifted}, bars.index), wide, band=None)
    notes = monte_carlo_trades(result, paths=100).notes
    assert any("open trade" in note for note in notes)
    assert any("overlapped" in note for note in notes)


def test_too_few_trades_and_impossible_orders_are_refused(traded: Any) -> None:
    few = run(TrendFollowing(fast=50, slow=200), embedded("sp500").iloc[:1000])
    with pytest.raises(DataError, match="closed trades are too few"):
        monte_carlo_trades(few)
    with pytest.raises(ParameterError, match="holds each of the"):
        monte_carlo_trades(traded, "shuffle", horizon=7)
    with pytest.raises(ParameterError, match="'resample' or 'shuffle'"):
        monte_carlo_trades(traded, "sort")


@pytest.mark.real_data
def test_a_year_of_bitcoin_is_wilder_than_one_of_shares(real_data: Any, returns: pd.Series) -> None:
    """Bitvavo BTC/EUR, daily, 2020 to 2024: all five models find a drawdown of 40 % likelier than for the S&P 500."""
    closes = pd.read_parquet(real_data / "crypto/bitvavo_1d/BTC_EUR.parquet").set_index("time")["close"]
    bitcoin = closes.pct_change().iloc[1:]
    models: Any = ("bootstrap", "garch", "filtered", "regimes", "jumps")
    for model in models:
        wild, tame = (monte_carlo(each, model, paths=1000, horizon=252) for each in (bitcoin, returns))
        assert wild.probability_of_drawdown(0.4).low > tame.probability_of_drawdown(0.4).high
