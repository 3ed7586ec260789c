"""Black-Litterman against the published tables of He and Litterman (1999) and of Idzorek (2005)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tradelib.errors import DataError, ParameterError
from tradelib.portfolio import BlackLitterman, View, black_litterman

COUNTRIES = ["AUL", "CAN", "FRA", "GER", "JAP", "UKG", "USA"]
WEIGHTS = dict(zip(COUNTRIES, [0.016, 0.022, 0.052, 0.055, 0.116, 0.124, 0.615], strict=True))
GERMANY = View(assets={"GER": 1.0, "FRA": -0.295, "UKG": -0.705}, expected=0.05)
CANADA = View(assets={"CAN": 1.0, "USA": -1.0}, expected=0.03)


def countries() -> pd.DataFrame:
    """He & Litterman (1999), "The intuition behind Black-Litterman model portfolios", tables 1 and 2."""
    lower = [
        [0.488],
        [0.478, 0.664],
        [0.515, 0.655, 0.861],
        [0.439, 0.310, 0.355, 0.354],
        [0.512, 0.608, 0.783, 0.777, 0.405],
        [0.491, 0.779, 0.668, 0.653, 0.306, 0.652],
    ]
    correlation = np.eye(7)
    for row, known in enumerate(lower, start=1):
        correlation[row, :row] = correlation[:row, row] = known
    spread = np.array([0.160, 0.203, 0.248, 0.271, 0.210, 0.200, 0.187])
    return pd.DataFrame(correlation * np.outer(spread, spread), COUNTRIES, COUNTRIES)


@pytest.mark.parametrize(
    ("views", "means", "weights", "moved"),
    [
        # tables 4 and 5: expected returns, optimal weights, and their distance from w_eq / (1 + tau), in percent
        (
            [GERMANY],
            [4.3, 7.6, 9.3, 11.0, 4.5, 7.0, 8.1],
            [1.5, 2.1, -4.0, 35.4, 11.0, -9.5, 58.6],
            [0.0, 0.0, -8.9, 30.2, 0.0, -21.3, 0.0],
        ),
        (
            [GERMANY, CANADA],
            [4.4, 8.7, 9.5, 11.2, 4.6, 7.0, 7.5],
            [1.5, 41.9, -3.4, 33.6, 11.0, -8.2, 18.8],
            [0.0, 39.8, -8.4, 28.4, 0.0, -20.0, -39.8],
        ),
    ],
)
def test_he_and_litterman(views: list[View], means: list[float], weights: list[float], moved: list[float]) -> None:
    found = black_litterman(countries(), WEIGHTS, views, risk_aversion=2.5, tau=0.05)
    optimal = found.unconstrained_weights("posterior")
    np.testing.assert_allclose(100 * found.table["equilibrium"], [3.9, 6.9, 8.4, 9.0, 4.3, 6.8, 7.6], atol=0.051)
    np.testing.assert_allclose(100 * found.expected_returns, means, atol=0.051)
    np.testing.assert_allclose(100 * optimal, weights, atol=0.06)
    np.testing.assert_allclose(100 * (optimal - pd.Series(WEIGHTS) / 1.05), moved, atol=0.06)


ASSETS = [
    "US Bonds",
    "Int'l Bonds",
    "Large Growth",
    "Large Value",
    "Small Growth",
    "Small Value",
    "Developed",
    "Emerging",
]
IDZOREK = [
    [0.001005, 0.001328, -0.000579, -0.000675, 0.000121, 0.000128, -0.000445, -0.000437],
    [0.001328, 0.007277, -0.001307, -0.000610, -0.002237, -0.000989, 0.001442, -0.001535],
    [-0.000579, -0.001307, 0.059852, 0.027588, 0.063497, 0.023036, 0.032967, 0.048039],
    [-0.000675, -0.000610, 0.027588, 0.029609, 0.026572, 0.021465, 0.020697, 0.029854],
    [0.000121, -0.002237, 0.063497, 0.026572, 0.102488, 0.042744, 0.039943, 0.065994],
    [0.000128, -0.000989, 0.023036, 0.021465, 0.042744, 0.032056, 0.019881, 0.032235],
    [-0.000445, 0.001442, 0.032967, 0.020697, 0.039943, 0.019881, 0.028355, 0.035064],
    [-0.000437, -0.001535, 0.048039, 0.029854, 0.065994, 0.032235, 0.035064, 0.079958],
]


def test_idzorek() -> None:
    """Idzorek (2005), "A step-by-step guide to the Black-Litterman model", tables 2, 5 and 6; weights from Sigma."""
    sigma = pd.DataFrame(IDZOREK, ASSETS, ASSETS)
    held = dict(zip(ASSETS, [0.1934, 0.2613, 0.1209, 0.1209, 0.0134, 0.0134, 0.2418, 0.0349], strict=True))
    views = [
        View(assets={"Developed": 1.0}, expected=0.0525),
        View(assets={"US Bonds": -1.0, "Int'l Bonds": 1.0}, expected=0.0025),
        View(
            assets={"Large Growth": 0.9, "Large Value": -0.9, "Small Growth": 0.1, "Small Value": -0.1}, expected=0.02
        ),
    ]
    found = black_litterman(sigma, held, views, risk_aversion=3.07, tau=0.025)
    equilibrium = [0.08, 0.67, 6.41, 4.08, 7.43, 3.70, 4.80, 6.60]
    np.testing.assert_allclose(100 * found.table["equilibrium"], equilibrium, atol=0.02)
    np.testing.assert_allclose(
        100 * found.expected_returns, [0.07, 0.50, 6.50, 4.32, 7.59, 3.94, 4.93, 6.84], atol=0.02
    )
    printed = [29.88, 15.59, 9.35, 14.82, 1.04, 1.65, 27.81, 3.49]
    np.testing.assert_allclose(100 * found.unconstrained_weights("prior"), printed, atol=0.05)


def test_the_posterior_is_that_of_the_textbook_inverse() -> None:
    sigma, tau = countries().to_numpy(), 0.05
    found = black_litterman(countries(), WEIGHTS, [GERMANY.replace(confidence=0.3), CANADA], tau=tau)
    p = np.array([[0, 0, -0.295, 1, 0, -0.705, 0], [0, 1, 0, 0, 0, 0, -1.0]])
    omega = np.diag(np.diagonal(p @ (tau * sigma) @ p.T) * [0.7 / 0.3, 1.0])
    precision = np.linalg.inv(tau * sigma) + p.T @ np.linalg.inv(omega) @ p
    pi = 2.5 * sigma @ np.array(list(WEIGHTS.values()))
    mean = np.linalg.solve(precision, np.linalg.inv(tau * sigma) @ pi + p.T @ np.linalg.inv(omega) @ [0.05, 0.03])
    np.testing.assert_allclose(found.expected_returns, mean, rtol=1e-10)
    np.testing.assert_allclose(found.uncertainty, np.linalg.inv(precision), rtol=1e-8, atol=1e-12)


def test_without_views_the_market_stays_and_with_certainty_the_view_holds() -> None:
    sigma = countries()
    passive = black_litterman(sigma, WEIGHTS)
    np.testing.assert_allclose(passive.unconstrained_weights("prior"), list(WEIGHTS.values()), rtol=1e-10)
    sure = black_litterman(sigma, WEIGHTS, [CANADA.replace(confidence=1.0)]).expected_returns
    assert sure["CAN"] - sure["USA"] == pytest.approx(0.03, abs=1e-12)


def seen() -> pd.DataFrame:
    values = np.random.default_rng(11).multivariate_normal(np.zeros(7), countries() / 12, 240)
    return pd.DataFrame(values, columns=COUNTRIES)


def test_the_optimiser_holds_the_market_until_it_is_told_something() -> None:
    passive = BlackLitterman(market_weights=WEIGHTS, weights_from="prior").weights(seen())
    np.testing.assert_allclose(passive.weights, list(WEIGHTS.values()), atol=1e-5)
    told = BlackLitterman(market_weights=WEIGHTS, views=(GERMANY.replace(expected=0.05 / 12),)).weights(seen())
    assert told.weights["GER"] > 0.1 > 0.01 > told.weights["UKG"]
    smaller = BlackLitterman(market_weights=WEIGHTS, views=(CANADA,), weights_from="prior").weights(
        seen()[["FRA", "USA"]]
    )
    np.testing.assert_allclose(smaller.weights, [0.052 / 0.667, 0.615 / 0.667], atol=1e-5)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (lambda: View(assets={}, expected=0.1), "at least one asset"),
        (lambda: View(assets={"GER": 1.0}, expected=0.1, confidence=0.0), "confidence = 0.0"),
        (lambda: black_litterman(countries(), WEIGHTS, [View(assets={"SPA": 1.0}, expected=0.1)]), "speaks of SPA"),
        (lambda: black_litterman(countries(), {"GER": 1.0}), "market_weights lack AUL"),
        (lambda: black_litterman(countries(), WEIGHTS, tau=0.0), "must be above 0"),
        (lambda: BlackLitterman(market_weights={"GER": 1.0}).weights(seen()), "market_weights lack AUL"),
        (lambda: BlackLitterman(market_weights={"SPA": 1.0}).weights(seen()), "the market holds nothing"),
        (
            lambda: black_litterman(
                countries(), WEIGHTS, [View(assets={"GER": 1.0}, expected=x, confidence=1.0) for x in (0.1, 0.2)]
            ),
            "contradict or repeat",
        ),
    ],
)
def test_what_is_refused(refused, told: str) -> None:
    with pytest.raises((ParameterError, DataError), match=told):
        refused()
