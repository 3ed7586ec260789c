"""Hierarchical risk parity: the paper's published table, three libraries, and the kernel against its definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.portfolio.market import five_assets, many_assets
from tradelib._jit import interpreted
from tradelib.errors import DataError
from tradelib.portfolio import Constraints, HierarchicalRiskParity, cluster_assets
from tradelib.portfolio.hierarchical import _by_bisection, correlation_distance

R = five_assets()


def published_series() -> pd.DataFrame:
    """Ten series of Lopez de Prado (2016), snippet A.4: generateData(nObs=10000, size0=5, size1=5, sigma1=.25).

    The columns that are copied are what Python 2 drew there: [2, 0, 4, 1, 1].
    """
    rng = np.random.RandomState(12345)
    base = rng.normal(0, 1, size=(10_000, 5))
    copies = base[:, [2, 0, 4, 1, 1]] + rng.normal(0, 0.25, size=(10_000, 5))
    return pd.DataFrame(np.hstack([base, copies]), columns=[str(place) for place in range(1, 11)])


def test_the_weights_that_lopez_de_prado_published() -> None:
    # Lopez de Prado (2016), "Building diversified portfolios that outperform out of sample", exhibit 6, column HRP
    published = [7.00, 7.59, 10.84, 19.03, 9.72, 10.19, 6.62, 9.10, 7.12, 12.79]
    found = HierarchicalRiskParity().weights(published_series())
    assert (100 * found.weights).round(2).tolist() == published


def test_the_order_that_lopez_de_prado_published() -> None:
    # the same paper, exhibit 5: rows and columns of the quasi-diagonal matrix
    tree = cluster_assets(published_series())
    assert tree.leaves == ("9", "2", "10", "1", "7", "3", "6", "4", "5", "8")


def test_condensed_distances_give_the_weights_of_pyportfolioopt() -> None:
    # PyPortfolioOpt 1.6.0: HRPOpt(R).optimize(); Riskfolio-Lib 7.4.0 agrees to 1e-16
    expected = [0.19564509381606163, 0.21946642903694402, 0.12969274159820013, 0.21054121662560474, 0.24465451892318948]
    found = HierarchicalRiskParity(distance="condensed").weights(R)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-12)


def test_optimal_order_gives_the_weights_of_skfolio() -> None:
    # skfolio 1.12.2: HierarchicalRiskParity(hierarchical_clustering_estimator=HierarchicalClustering(
    #     linkage_method=LinkageMethod.SINGLE)).fit(returns).weights_
    expected = [
        0.09253674535982406, 0.12666487173594052, 0.14696717388773956, 0.08014543757606889,
        0.2703863963327114, 0.12654640987401802, 0.06915985666171734, 0.08759310857198024,
    ]  # fmt: skip
    returns = many_assets(300, 8)
    found = HierarchicalRiskParity(distance="condensed", optimal_order=True).weights(returns)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-12)
    plain = HierarchicalRiskParity(distance="condensed").weights(returns)
    assert (plain.weights - found.weights).abs().max() > 0.01


def bisected(covariance: np.ndarray, order: list[int]) -> np.ndarray:
    """Recursive bisection as the paper's snippet 16.3 writes it."""
    weights, clusters = np.ones(len(order)), [order]

    def variance(items: list[int]) -> float:
        block = covariance[np.ix_(items, items)]
        inverse = 1.0 / np.diagonal(block)
        w = inverse / inverse.sum()
        return float(w @ block @ w)

    while clusters:
        halves = [(items[: len(items) // 2], items[len(items) // 2 :]) for items in clusters if len(items) > 1]
        for left, right in halves:
            one, other = variance(left), variance(right)
            weights[left] *= 1.0 - one / (one + other)
            weights[right] *= one / (one + other)
        clusters = [half for pair in halves for half in pair]
    return weights


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33])
def test_the_kernel_computes_its_definition_and_is_the_same_interpreted(size: int) -> None:
    covariance = many_assets(100, size, seed=size).cov().to_numpy().reshape(size, size)
    order = np.random.default_rng(size).permutation(size)
    found = _by_bisection(covariance, order)
    np.testing.assert_allclose(found, bisected(covariance, order.tolist()), rtol=1e-12)
    with interpreted():
        assert _by_bisection(covariance, order).tobytes() == found.tobytes()


def test_a_singular_covariance_is_no_obstacle() -> None:
    returns = many_assets(20, 50)
    for distance in ("rows", "condensed"):
        weights = HierarchicalRiskParity(distance=distance).weights(returns).weights
        assert weights.sum() == pytest.approx(1.0)
        assert weights.min() > 0.0
    twins = returns[["a0", "a1"]].assign(copy=returns["a0"])
    assert HierarchicalRiskParity().weights(twins).weights.sum() == pytest.approx(1.0)


def test_the_distance_is_zero_for_twins_and_one_for_opposites() -> None:
    given = np.array([[1.0, 1.0, -1.0, 0.0]] * 4)
    assert correlation_distance(given)[3].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert correlation_distance(given)[0, 3] == pytest.approx(np.sqrt(0.5))


def test_one_asset_gets_everything_and_bounds_are_not_bent() -> None:
    assert HierarchicalRiskParity().weights(R[["A"]]).weights.tolist() == [1.0]
    with pytest.raises(DataError, match="does not bend to constraints, and breaks max_weight"):
        HierarchicalRiskParity(constraints=Constraints(max_weight=0.21)).weights(R)
    with pytest.raises(DataError, match="at least two assets"):
        cluster_assets(R[["A"]])


def test_a_tree_can_be_read_and_drawn() -> None:
    tree = cluster_assets(R)
    assert tree.to_frame()["assets"].iloc[-1].count(",") == 4
    assert tree.to_frame()["distance"].is_monotonic_increasing
    figure = tree.plot()
    assert list(figure.layout.xaxis.ticktext) == list(tree.leaves)
