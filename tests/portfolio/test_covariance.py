"""Covariances against published numbers and independent libraries; the program behind a constant stands beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.portfolio.market import five_assets, many_assets
from tradelib.errors import DataError, ParameterError
from tradelib.portfolio import (
    DenoisedCovariance,
    ExponentialCovariance,
    LedoitWolf,
    OracleShrinkage,
    SampleCovariance,
    create_covariance,
    repair_covariance,
)
from tradelib.portfolio.covariance import _nearest_correlation, check_asset_returns

R = five_assets()


def test_the_sample_covariance_is_divided_by_n_minus_one() -> None:
    np.testing.assert_allclose(SampleCovariance().estimate(R).matrix, R.cov(), rtol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(60, 5), (250, 40), (40, 60)])
def test_ledoit_wolf_shrinks_as_scikit_learn(rows: int, columns: int) -> None:
    returns = many_assets(rows, columns)
    matrix, shrinkage = pytest.importorskip("sklearn.covariance").ledoit_wolf(returns.to_numpy())
    found = LedoitWolf().estimate(returns)
    assert found.shrinkage == pytest.approx(shrinkage, abs=1e-10)
    np.testing.assert_allclose(found.matrix, matrix, rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize(
    ("target", "divisor", "shrinkage", "first"),
    [
        # PyPortfolioOpt 1.6.0, CovarianceShrinkage(R, returns_data=True, frequency=1).ledoit_wolf()
        ("identity", "T", 0.18455757963629307, 1.84032415e-04),
        # its ledoit_wolf("constant_correlation"), with the sample covariance divided by T there too (it mixes both) ...
        ("constant_correlation", "T", 0.9781286193482305, None),
        # ... and with T - 1 in every place, as covCor.m of the authors has it since 2014
        ("constant_correlation", "T-1", 0.9780239608961637, 1.70385810e-04),
    ],
)
def test_ledoit_wolf_of_five_assets(target: str, divisor: str, shrinkage: float, first: float | None) -> None:
    found = LedoitWolf(target=target, divisor=divisor).estimate(R)
    assert found.shrinkage == pytest.approx(shrinkage, rel=1e-10)
    if first is not None:
        assert found.matrix.iloc[0, 0] == pytest.approx(first, rel=1e-8)


def test_the_constant_correlation_keeps_variances_and_moves_correlations_to_their_average() -> None:
    given, found = R.cov(ddof=0), LedoitWolf(target="constant_correlation").estimate(R)
    np.testing.assert_allclose(np.diagonal(found.matrix), np.diagonal(given), rtol=1e-12)
    off = ~np.eye(5, dtype=bool)
    spread = [frame.to_numpy()[off].std() for frame in (found.correlation, R.corr())]
    assert spread[0] == pytest.approx((1.0 - found.shrinkage) * spread[1], rel=1e-9)


def test_oracle_shrinkage_as_scikit_learn_and_as_the_paper() -> None:
    matrix, shrinkage = pytest.importorskip("sklearn.covariance").oas(R.to_numpy())
    found = OracleShrinkage(formula="scikit-learn").estimate(R)
    assert found.shrinkage == pytest.approx(shrinkage, rel=1e-12)
    np.testing.assert_allclose(found.matrix, matrix, rtol=1e-12)
    s, p, n = R.cov(ddof=0).to_numpy(), 5, 60  # Chen et al. (2010), eq. 23
    above = (1 - 2 / p) * np.trace(s @ s) + np.trace(s) ** 2
    below = (n + 1 - 2 / p) * (np.trace(s @ s) - np.trace(s) ** 2 / p)
    assert OracleShrinkage().estimate(R).shrinkage == pytest.approx(above / below, rel=1e-12)


def test_the_exponential_covariance_is_a_recursion_started_at_the_first_product() -> None:
    expected = np.outer(R.iloc[0], R.iloc[0])
    for row in R.to_numpy()[1:]:
        expected = 0.94 * expected + 0.06 * np.outer(row, row)
    np.testing.assert_allclose(ExponentialCovariance().estimate(R).matrix, expected, rtol=1e-12)


def test_denoising_of_five_assets_as_riskfolio_and_skfolio() -> None:
    # Riskfolio-Lib 7.4.0: AuxFunctions.denoiseCov(S, q=60 / 5, kind="fixed", bWidth=0.01)[0]
    first = [1.70385810e-04, 8.01125223e-05, 1.12275683e-04, 6.39614578e-05, 6.38349528e-05]
    found = DenoisedCovariance().estimate(R)
    np.testing.assert_allclose(found.matrix.iloc[0], first, rtol=1e-8)
    np.testing.assert_allclose(found.volatility, R.std(), rtol=1e-12)
    # skfolio 1.12.2: DetoneCovariance(covariance_estimator=DenoiseCovariance()).fit(R).covariance_[0]
    toneless = [
        0.00017038581002043406, -5.167441516809892e-05, -7.397682967696533e-05, -5.267649828771035e-05,
        -3.900282936129754e-05,
    ]  # fmt: skip
    np.testing.assert_allclose(DenoisedCovariance(detone=1).estimate(R).matrix.iloc[0], toneless, rtol=1e-9)


def test_marchenko_and_pastur_know_pure_noise() -> None:
    """Given independent series, when denoised, then (almost) nothing stands out of the noise."""
    noise = pd.DataFrame(np.random.default_rng(1).standard_normal((400, 40)) * 0.01)
    found = DenoisedCovariance(bandwidth=0.25).estimate(noise)
    assert found.edge is not None
    assert (SampleCovariance().estimate(noise).eigenvalues > found.edge).sum() <= 2
    assert found.condition_number < 2.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Higham (2002), "Computing the nearest correlation matrix", section 4: the two printed examples
        ([[1, 1, 0], [1, 1, 1], [0, 1, 1]], [[1, 0.7607, 0.1573], [0.7607, 1, 0.7607], [0.1573, 0.7607, 1]]),
        (
            [[2, -1, 0, 0], [-1, 2, -1, 0], [0, -1, 2, -1], [0, 0, -1, 2]],
            [
                [1, -0.8084, 0.1916, 0.1068],
                [-0.8084, 1, -0.6562, 0.1916],
                [0.1916, -0.6562, 1, -0.8084],
                [0.1068, 0.1916, -0.8084, 1],
            ],
        ),
    ],
)
def test_the_nearest_correlation_of_the_paper(given: list, expected: list) -> None:
    np.testing.assert_allclose(_nearest_correlation(np.array(given, dtype=float), 0.0), expected, atol=6e-5)


def test_a_repair_says_what_it_changed_and_changes_nothing_else() -> None:
    names = ["one", "two", "three"]
    broken = pd.DataFrame([[0.04, 0.06, -0.06], [0.06, 0.09, 0.06], [-0.06, 0.06, 0.16]], names, names)
    found = repair_covariance(broken)
    assert found.lowest_before < 0.0 < found.lowest_after
    np.testing.assert_allclose(np.diagonal(found.matrix), np.diagonal(broken), rtol=1e-12)
    pairs = found.to_frame()
    spread = np.sqrt(np.diagonal(broken))
    moved = (found.matrix.to_numpy() - broken.to_numpy()) / np.outer(spread, spread)
    assert pairs["change"].abs().max() == pytest.approx(np.abs(moved).max(), rel=1e-9)
    assert pairs.iloc[0]["one"] in found.summary()
    kept = repair_covariance(R.cov())
    assert kept.distance == 0.0
    assert kept.matrix.equals(R.cov())
    assert "Nothing was changed" in kept.summary()


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (lambda: check_asset_returns(R["A"]), "a column per asset"),
        (lambda: check_asset_returns(R.iloc[:1]), "1 rows of returns are too few"),
        (lambda: check_asset_returns(R.assign(B=np.inf)), "B has the return inf"),
        (lambda: check_asset_returns(R.assign(C=0.001)), "all 60 returns of C are 0.001"),
        (lambda: check_asset_returns(pd.concat([R, R], axis=1)), "each name once"),
        (lambda: DenoisedCovariance().estimate(R.iloc[:5]), "5 observations of 5 assets"),
        (lambda: DenoisedCovariance(detone=5).estimate(R), "assets to keep"),
        (lambda: repair_covariance(pd.DataFrame([[1.0, 0.5], [0.4, 1.0]])), "symmetric"),
        (lambda: repair_covariance(pd.DataFrame([[1.0, 0.0], [0.0, 0.0]], index=["x", "y"])), "y has no variance"),
        (lambda: repair_covariance(R.cov(), floor=2.0), "from 0 to 1"),
    ],
)
def test_what_cannot_be_estimated_is_refused(refused, told: str) -> None:
    with pytest.raises((DataError, ParameterError), match=told):
        refused()


def test_estimators_are_made_by_name_and_travel_as_json() -> None:
    assert create_covariance("ledoit_wolf") == LedoitWolf()
    assert create_covariance({"name": "exponential", "params": {"decay": 0.9}}).decay == 0.9
    with pytest.raises(ParameterError, match="did you mean 'denoised'"):
        create_covariance("denoise")
    with pytest.raises(ParameterError, match="decay = 1.0"):
        ExponentialCovariance(decay=1.0)


def test_an_estimate_tells_how_far_from_singular_it_is() -> None:
    found = SampleCovariance().estimate(R)
    assert found.eigenvalues.sum() == pytest.approx(5.0)
    assert found.condition_number == pytest.approx(np.linalg.cond(R.corr()), rel=1e-9)
    assert "12.0 per asset" in found.summary()
    assert "singular" in SampleCovariance().estimate(R.iloc[:4]).summary()
    assert found.plot().data[0].y[0] == pytest.approx(found.eigenvalues[0], abs=1e-6)
