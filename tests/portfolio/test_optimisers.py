"""Weights against PyPortfolioOpt 1.6.0 and Riskfolio-Lib 7.4.0 on five assets, and against their own conditions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.portfolio.market import five_assets, many_assets
from tradelib.errors import DataError, ParameterError
from tradelib.portfolio import (
    Constraints,
    EqualWeights,
    InverseVolatilityWeights,
    MaximumDiversification,
    MaximumSharpe,
    MeanVariance,
    MinimumCVaR,
    MinimumVariance,
    MultiAssetKelly,
    NoWeights,
    Optimiser,
    RiskParity,
    efficient_frontier,
)
from tradelib.portfolio.solving import Problem, is_feasible
from tradelib.risk import kelly_portfolio

R = five_assets()
HELD = pd.Series(0.2, list("ABCDE"))
ALL = [
    EqualWeights(),
    InverseVolatilityWeights(),
    MinimumVariance(),
    MeanVariance(),
    MaximumSharpe(),
    MinimumCVaR(),
    RiskParity(),
    MaximumDiversification(),
]


@pytest.mark.parametrize(
    ("optimiser", "expected"),
    [
        # EfficientFrontier(100 * R.mean(), 1e4 * R.cov(), solver="CLARABEL"), percent, so that its tolerance suffices
        (MinimumVariance(), [0.193259, 0.186651, 0.0, 0.197052, 0.423039]),  # .min_volatility()
        (MaximumSharpe(risk_free=0.0001), [0.218584, 0.0, 0.395532, 0.385884, 0.0]),  # .max_sharpe(0.01)
        (MeanVariance(risk_aversion=5), [0.257344, 0.0, 0.364037, 0.378619, 0.0]),  # .max_quadratic_utility(5 / 100)
        (MeanVariance(target_return=0.0008), [0.334628, 0.075204, 0.242518, 0.347651, 0.0]),  # .efficient_return(0.08)
        # least CVaR of EfficientCVaR(100 * R.mean(), 100 * R, beta=0.9, solver="CLARABEL")
        (MinimumCVaR(alpha=0.1), [0.0, 0.637055, 0.0, 0.023963, 0.338982]),
        # riskfolio, rp_optimization of Portfolio(R) with model="Classic", rm="MV" and these budgets
        (
            RiskParity(budgets={"A": 0.3, "B": 0.1, "C": 0.2, "D": 0.2, "E": 0.2}),
            [0.293966, 0.113524, 0.140736, 0.207539, 0.244233],
        ),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, Optimiser) else "",
)
def test_weights_of_other_libraries(optimiser: Optimiser, expected: list[float]) -> None:
    found = optimiser.weights(R)
    np.testing.assert_allclose(found.weights, expected, atol=2e-5)
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (found.status, found.fallback) == ("optimal", None)


def test_the_shortfall_of_the_least_one_is_the_libraries() -> None:
    # EfficientCVaR(...).portfolio_performance()[1] = 1.7135777410056074 percent; the worst 6 of 60 days
    losses = np.sort(-(R @ MinimumCVaR(alpha=0.1).weights(R).weights))
    assert losses[-6:].mean() == pytest.approx(0.017135777, abs=1e-8)


def test_unbounded_minimum_variance_is_the_closed_form() -> None:
    free = MinimumVariance(constraints=Constraints(min_weight=-10.0, max_weight=10.0)).weights(R)
    solved = np.linalg.solve(R.cov().to_numpy(), np.ones(5))
    np.testing.assert_allclose(free.weights, solved / solved.sum(), atol=1e-5)
    assert free.volatility == pytest.approx(1.0 / math.sqrt(solved.sum()), rel=1e-9)


def test_unbounded_maximum_sharpe_is_the_tangent_portfolio() -> None:
    free = MaximumSharpe(constraints=Constraints(min_weight=-10.0, max_weight=10.0)).weights(R)
    solved = np.linalg.solve(R.cov().to_numpy(), R.mean().to_numpy())
    np.testing.assert_allclose(free.weights, solved / solved.sum(), atol=1e-4)


def test_maximum_diversification_as_skfolio_and_by_its_own_condition() -> None:
    found = MaximumDiversification().weights(R)
    theirs = pytest.importorskip("skfolio.optimization").MaximumDiversification().fit(R).weights_
    np.testing.assert_allclose(found.weights, theirs, atol=1e-3)  # which solves unscaled returns, to fewer digits
    with_whole = R.corrwith(R @ found.weights)[found.weights > 1e-4]
    assert np.ptp(with_whole) < 1e-5


def test_risk_parity_shares_the_risk_and_bounds_are_kept() -> None:
    np.testing.assert_allclose(RiskParity().weights(R).contributions, 0.2, atol=1e-9)
    bound = RiskParity(constraints=Constraints(max_weight=0.22)).weights(R)
    assert bound.weights.max() <= 0.22 + 1e-12
    at_bound = bound.weights >= 0.22 - 1e-6
    assert at_bound.any()
    assert bound.contributions[at_bound].max() < 0.2 < bound.contributions[~at_bound].max()


def test_kelly_is_that_of_the_risk_room_and_fully_invested_it_is_mean_variance() -> None:
    whole = MultiAssetKelly(share=1.0).weights(R)
    expected = kelly_portfolio(R.mean(), R.cov(), long_only=True, leverage=1.0)
    np.testing.assert_allclose(whole.weights, expected.weights, atol=1e-12)
    assert whole.weights.sum() == pytest.approx(1.0)  # the bound is at work, so that both problems are the same
    np.testing.assert_allclose(whole.weights, MeanVariance(risk_aversion=1.0).weights(R).weights, atol=1e-5)
    half = MultiAssetKelly(share=0.5).weights(R)
    assert (half.cash, half.weights.sum()) == pytest.approx((0.5, 0.5))


# --- Constraints


@example(seed=1, most=0.5, group=0.5)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.floats(0.3, 0.9), group=st.floats(0.1, 0.5))
def test_every_constraint_holds_whatever_the_returns(seed: int, most: float, group: float) -> None:
    returns = many_assets(60, 6, seed)
    rules = Constraints(
        max_weight=most,
        groups={"pair": ("a0", "a1"), "rest": ("a4", "a5")},
        max_group={"pair": group},
        min_group={"rest": 0.1},
    )
    for optimiser in (MinimumVariance(constraints=rules), MeanVariance(constraints=rules)):
        w = optimiser.weights(returns).weights
        assert w.sum() == pytest.approx(1.0, abs=1e-9)
        assert w.min() >= 0.0
        assert w.max() <= most + 1e-9
        assert w[["a0", "a1"]].sum() <= group + 1e-5
        assert w[["a4", "a5"]].sum() >= 0.1 - 1e-5


@pytest.mark.parametrize(
    "optimiser", [MinimumVariance, MeanVariance, MaximumSharpe, MinimumCVaR, RiskParity, MaximumDiversification]
)
def test_turnover_is_the_sum_over_all_assets(optimiser: type[Optimiser]) -> None:
    free = optimiser().weights(R, HELD)
    capped = optimiser(constraints=Constraints(max_turnover=0.1)).weights(R, HELD)
    assert free.turnover > 0.1
    assert capped.turnover == pytest.approx(0.1, abs=1e-5)
    assert capped.turnover == pytest.approx(float((capped.weights - HELD).abs().sum()), abs=1e-12)


@pytest.mark.parametrize("optimiser", [MinimumVariance, MeanVariance, MaximumSharpe])
def test_gross_leverage_bounds_long_plus_short(optimiser: type[Optimiser]) -> None:
    rules = Constraints(min_weight=-1.0, max_gross=1.3)
    free = optimiser(constraints=Constraints(min_weight=-1.0, max_weight=2.0)).weights(R).weights
    bound = optimiser(constraints=rules).weights(R).weights
    assert free.abs().sum() > bound.abs().sum() - 1e-6
    assert bound.abs().sum() <= 1.3 + 1e-5
    unlevered = optimiser(constraints=Constraints(min_weight=-1.0, max_gross=1.0)).weights(R).weights
    assert unlevered.min() >= 0.0


def test_costs_are_paid_once_and_earned_back_over_the_holding_period() -> None:
    def turnover(cost: float, periods: float) -> float:
        rules = Constraints(transaction_cost=cost, holding_periods=periods)
        return float(MeanVariance(risk_aversion=5, constraints=rules).weights(R, HELD).turnover)

    assert turnover(0.01, 1) == pytest.approx(0.0, abs=1e-6)
    assert turnover(0.0, 1) > turnover(0.01, 20) > turnover(0.01, 10)
    assert turnover(0.02, 40) == pytest.approx(turnover(0.01, 20), abs=1e-6)


def test_small_positions_are_closed_and_said_to_be() -> None:
    free = MinimumVariance().weights(R).weights
    found = MinimumVariance(constraints=Constraints(smallest_weight=0.19)).weights(R)
    assert 0 < free["B"] < 0.19
    assert free["C"] == 0.0  # until B is gone
    assert found.weights["B"] == found.weights["C"] == 0.0
    assert all(weight == 0.0 or weight >= 0.19 for weight in found.weights)
    assert found.notes == ("Closed, as smaller than 19.0%: B, C.",)


def test_what_left_the_universe_is_no_turnover_of_choice() -> None:
    rules = Constraints(max_turnover=0.3)
    held = pd.Series({"A": 0.2, "B": 0.2, "C": 0.2, "D": 0.2, "gone": 0.2})
    found = MinimumVariance(constraints=rules).weights(R.drop(columns="E"), held)
    assert found.turnover <= 0.3 + 1e-6


# --- Refusals


def test_a_singular_covariance_is_refused_with_what_to_do() -> None:
    for optimiser in (MinimumVariance(), MeanVariance(), MaximumSharpe(), RiskParity(), MaximumDiversification()):
        with pytest.raises(NoWeights, match=r"5 assets from 5 returns is singular .* use covariance='ledoit_wolf'"):
            optimiser.weights(R.iloc[:5])
    shrunk = MinimumVariance(covariance="ledoit_wolf").weights(R.iloc[:5])
    assert shrunk.weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (lambda: MinimumVariance(constraints=Constraints(max_weight=0.1)).weights(R), "sum from 0 to 0.5, not to 1"),
        (
            lambda: MinimumVariance(
                constraints=Constraints(groups={"all": tuple("ABCDE")}, max_group={"all": 0.5})
            ).weights(R),
            "no weights satisfy the constraints together",
        ),
        (
            lambda: MaximumSharpe(constraints=Constraints(max_weight=0.3, max_turnover=0.1)).weights(R, {"A": 1.0}),
            "no weights satisfy the constraints together",
        ),
        (lambda: MaximumSharpe(risk_free=0.01).weights(R), "no asset earns more than risk_free 0.01; the best is C"),
        (lambda: MeanVariance(target_return=0.002).weights(R), "no asset earns 0.002 per period: C earns 0.0012"),
        (lambda: MinimumCVaR(alpha=0.01).weights(R), "hold no day"),
        (lambda: MinimumVariance().weights(R.assign(A=np.nan)), "A has the return nan"),
        (lambda: MinimumVariance().weights(R.assign(A=0.0)), "all 60 returns of A are 0"),
        (lambda: EqualWeights(constraints=Constraints(max_weight=0.1)).weights(R), "sum from 0 to 0.5"),
    ],
)
def test_data_and_constraints_without_weights(refused: Callable[[], object], told: str) -> None:
    with pytest.raises(DataError, match=told):
        refused()


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (lambda: MinimumVariance(constraints=Constraints(max_weight={"Z": 0.1})).weights(R), "constraints name Z"),
        (lambda: Constraints(max_group={"x": 0.1}), "there is no group x"),
        (lambda: Constraints(groups={"x": ("A",)}, min_group={"x": 0.5}, max_group={"x": 0.1}), "exceeds its largest"),
        (lambda: Constraints(min_weight=0.5, max_weight={"A": 0.1}), "min_weight exceeds max_weight for A"),
        (lambda: Constraints(max_gross=0.5), "max_gross = 0.5"),
        (lambda: MinimumVariance(constraints=Constraints(transaction_cost=0.001)), "use max_turnover, or MeanVariance"),
        (lambda: MinimumVariance(covariance="shrunk"), "there is no covariance estimator 'shrunk'"),
        (lambda: MeanVariance(expected_returns={"A": 0.1}).weights(R), "expected_returns lack B, C, D, E"),
        (lambda: RiskParity(budgets={"A": 1.0}).weights(R), "budgets lack B"),
        (lambda: RiskParity(budgets={"A": 0.0}), "above 0"),
        (lambda: RiskParity(constraints=Constraints(min_weight=-1.0)), "long positions only"),
        (lambda: MultiAssetKelly(constraints=Constraints(max_weight=0.5)), "takes min_weight 0 or -1"),
        (lambda: MinimumVariance().weights(R, {"A": np.nan}), "previous weights are finite"),
        (lambda: MinimumCVaR(alpha=0.95), "alpha = 0.95"),
    ],
)
def test_what_the_caller_got_wrong(refused: Callable[[], object], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        refused()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_feasibility_is_that_of_a_search_in_corners(seed: int) -> None:
    """Given two assets, when bounds and turnover are drawn, then feasible is what a fine grid finds feasible."""
    rng = np.random.default_rng(seed)
    upper, turnover, before = rng.uniform(0.3, 1.0, 2), float(rng.uniform(0.0, 1.0)), rng.dirichlet([1, 1])
    problem = Problem(
        np.zeros((0, 2)), np.zeros(2), np.eye(2), np.zeros(2), upper, np.zeros((0, 2)), np.zeros(0),
        turnover=turnover, previous=before,
    )  # fmt: skip
    first = np.linspace(max(0.0, 1.0 - upper[1]), upper[0], 2001) if upper.sum() >= 1.0 else np.zeros(0)
    grid = 2.0 * np.abs(first - before[0]) <= turnover + 1e-9
    if abs(upper.sum() - 1.0) > 0.01 and (not len(first) or abs(2 * np.abs(first - before[0]).min() - turnover) > 0.01):
        assert is_feasible(problem) == bool(grid.any())


# --- Results


@pytest.mark.parametrize("optimiser", ALL, ids=lambda one: type(one).__name__)
def test_results_add_up_and_travel(optimiser: Optimiser) -> None:
    found = optimiser.weights(R, HELD)
    assert found.contributions.sum() == pytest.approx(1.0)
    assert found.volatility == pytest.approx(float((R @ found.weights).std()), rel=1e-9)
    assert found.expected_return == pytest.approx(float((R @ found.weights).mean()), rel=1e-9, abs=1e-15)
    assert 1.0 <= found.effective_assets <= 5.0 + 1e-9
    assert found.method in found.summary()
    assert "weight" in found._repr_html_()
    assert len(found.plot().data) == 2
    config = json.loads(json.dumps(optimiser.to_config()))
    assert type(optimiser)(**config["params"]) == optimiser


def test_a_frontier_is_convex_and_starts_at_the_least_variance() -> None:
    found = efficient_frontier(R, points=9)
    variance, mean = found.points["volatility"] ** 2, found.points["expected_return"]
    assert found.points["volatility"].iloc[0] == pytest.approx(MinimumVariance().weights(R).volatility, rel=1e-6)
    assert mean.iloc[-1] == pytest.approx(R["C"].mean(), rel=1e-4)
    assert (np.diff(variance) / np.diff(mean) > 0).all()
    assert (np.diff(np.diff(variance) / np.diff(mean)) > -1e-6).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0)
    best = MaximumSharpe().weights(R)
    assert found.points["ratio"].max() <= best.expected_return / best.volatility * (1 + 1e-9)
    assert len(found.plot().data) == 3
    falling = R - 0.01  # every mean below zero: a frontier exists all the same
    assert efficient_frontier(falling, points=3).points["expected_return"].max() < 0.0
    with pytest.raises(ParameterError, match="at least 2 points"):
        efficient_frontier(R, points=1)
