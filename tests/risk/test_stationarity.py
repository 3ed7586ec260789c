"""Does a series come back? Against statsmodels, published figures and formulas written out."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.datasets import macrodata
from statsmodels.tsa.stattools import adfuller, kpss

from tradelib.errors import DataError, ParameterError
from tradelib.risk import (
    adf_test,
    exact_half_life,
    hurst_exponent,
    kpss_test,
    linearised_half_life,
    phillips_perron_test,
    stationarity_verdict,
    variance_ratio_test,
)

GDP = macrodata.load_pandas().data["realgdp"]
INFLATION = macrodata.load_pandas().data["infl"]


def autoregression(coefficient: float, n: int, seed: int = 0) -> np.ndarray:
    shocks, x = np.random.default_rng(seed).normal(size=n), np.zeros(n)
    for t in range(1, n):
        x[t] = coefficient * x[t - 1] + shocks[t]
    return x


def test_the_augmented_dickey_fuller_test_of_us_gdp():
    # Stata's dfuller, as in the tests of statsmodels (TestADFConstant): 0.97505319, p 0.99399563, four lags
    test = adf_test(GDP, lags=4)
    assert test.statistic == pytest.approx(0.97505319, abs=5e-6)
    assert test.pvalue == pytest.approx(0.99399563, abs=5e-6)
    # MacKinnon (2010), table 2: b0 + b1 / 198 + b2 / 198^2 + b3 / 198^3
    assert test.critical_values["5%"] == pytest.approx(-2.86154 - 2.8903 / 198 - 4.234 / 198**2 - 40.040 / 198**3)
    assert test.settings == {"trend": "constant", "lags": 4, "lag rule": "fixed"}


@pytest.mark.parametrize("rule", ["aic", "bic"])
@pytest.mark.parametrize("trend", ["n", "c", "ct"])
def test_a_named_rule_chooses_the_lags_as_statsmodels_does(rule, trend):
    t, p, lags, rows, *_ = adfuller(INFLATION, regression=trend, autolag=rule, result_object=False)
    test = adf_test(INFLATION, trend=trend, lags=rule)
    assert (test.statistic, test.pvalue, test.observations) == (t, p, rows)
    assert (test.settings["lags"], test.settings["lag rule"]) == (lags, rule)


def test_lags_are_fixed_at_one_unless_asked():
    assert adf_test(GDP).settings["lags"] == 1
    assert adf_test(GDP).settings["lag rule"] == "fixed"


def test_kpss_equals_statsmodels_and_has_the_opposite_null():
    test = kpss_test(GDP, lags=3)
    with pytest.warns(UserWarning, match="p-value"):
        statistic, *_ = kpss(GDP, nlags=3)
    assert test.statistic == pytest.approx(statistic, rel=1e-12)
    assert test.rejects(0.01)
    assert "stationary" in test.null_hypothesis
    # Kwiatkowski et al. (1992), table 1: 0.463 at 5 %; arch simulated it again
    assert test.critical_values["5%"] == pytest.approx(0.463, abs=0.003)


def test_phillips_perron_by_its_formula():
    # Hamilton (1994), Time Series Analysis, equation 17.6.8, with the Newey-West variance of four lags
    x = np.log(GDP.to_numpy())
    design, n = np.column_stack([x[:-1], np.ones(len(x) - 1)]), len(x) - 1
    solution = np.linalg.lstsq(design, x[1:], rcond=None)[0]
    u = x[1:] - design @ solution
    s2, gamma = u @ u / (n - 2), [u[j:] @ u[: n - j] / n for j in range(5)]
    long_run = gamma[0] + 2 * sum((1 - j / 5) * gamma[j] for j in range(1, 5))
    deviation = math.sqrt(s2 * np.linalg.inv(design.T @ design)[0, 0])
    t = (solution[0] - 1) / deviation
    z = math.sqrt(gamma[0] / long_run) * t
    z -= 0.5 * (long_run - gamma[0]) / math.sqrt(long_run) * n * deviation / math.sqrt(s2)
    assert phillips_perron_test(x, lags=4).statistic == pytest.approx(z, rel=1e-9)


def test_the_variance_ratio_by_its_formula():
    # Lo & MacKinlay (1988), equations 12 to 14: overlapping, unbiased; homoscedastic variance 2 (2q-1)(q-1) / (3q)
    x, q = np.log(GDP.to_numpy()), 3
    n, mean = len(x) - 1, (x[-1] - x[0]) / (len(x) - 1)
    one = np.sum((np.diff(x) - mean) ** 2) / (n - 1)
    long = np.sum((x[q:] - x[:-q] - q * mean) ** 2) / (q * (n - q + 1) * (1 - q / n))
    test = variance_ratio_test(x, horizon=q, robust=False)
    assert test.settings["variance ratio"] == pytest.approx(long / one, rel=1e-12)
    expected = math.sqrt(n) * (long / one - 1) / math.sqrt(2 * (2 * q - 1) * (q - 1) / (3 * q))
    assert test.statistic == pytest.approx(expected, rel=1e-9)


def test_the_hurst_exponent_is_a_slope_over_lags_two_to_twenty():
    x = np.cumsum(autoregression(0.3, 600))
    lags = range(2, 21)
    deviations = [np.std(x[lag:] - x[:-lag], ddof=0) for lag in lags]
    slope = np.cov(np.log(lags), np.log(deviations))[0, 1] / np.var(np.log(lags), ddof=1)
    assert hurst_exponent(x) == pytest.approx(slope, rel=1e-10)


def test_a_deviation_that_halves_every_bar_has_two_half_lives():
    halving = 64.0 * 0.5 ** np.arange(30)
    assert exact_half_life(halving) == pytest.approx(1.0)
    assert linearised_half_life(halving) == pytest.approx(2 * math.log(2))


def test_what_is_not_pulled_back_has_no_half_life():
    explosive = 1.1 ** np.arange(40)
    assert exact_half_life(explosive) == linearised_half_life(explosive) == math.inf


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), coefficient=st.floats(0.2, 0.97))
def test_the_linearised_half_life_is_never_the_shorter_one(seed, coefficient):
    x = autoregression(coefficient, 400, seed)
    assert exact_half_life(x) <= linearised_half_life(x)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6), shift=st.floats(-10, 10))
def test_units_change_no_answer(seed, scale, shift):
    x = autoregression(0.9, 200, seed)
    moved = scale * (x + shift)
    assert adf_test(moved).statistic == pytest.approx(adf_test(x).statistic, rel=1e-6)
    assert exact_half_life(moved) == pytest.approx(exact_half_life(x), rel=1e-6)
    assert hurst_exponent(moved) == pytest.approx(hurst_exponent(x), rel=1e-6)


def test_the_dickey_fuller_test_keeps_its_size_and_has_power():
    walks = [adf_test(np.cumsum(autoregression(0.0, 250, seed))).rejects() for seed in range(300)]
    pulled = [adf_test(autoregression(0.8, 250, seed)).rejects() for seed in range(100)]
    assert abs(np.mean(walks) - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 300)  # three standard errors
    assert np.mean(pulled) > 0.95


def test_both_sides_together():
    assert stationarity_verdict(autoregression(0.5, 1000, seed=3)) == "stationary"
    assert stationarity_verdict(np.cumsum(autoregression(0.0, 1000, seed=3))) == "unit root"


def test_a_result_says_what_it_means():
    test = adf_test(GDP)
    assert test.interpretation() == (
        "The series has a unit root: not rejected at 5% (p = 1). It may well be a random walk: nothing here says that "
        "it comes back."
    )
    assert "Augmented Dickey-Fuller" in test.summary()
    assert test.summary() in test._repr_html_().replace("&#x27;", "'")
    assert test.to_frame().loc["Augmented Dickey-Fuller", "lag rule"] == "fixed"


DATED = pd.Series(autoregression(0.5, 60), pd.date_range("2024-01-01", periods=60), name="spread")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adf_test(DATED.where(DATED.index != "2024-01-05")), "spread is nan at 2024-01-05"),
        (lambda: adf_test(DATED * 0 + 3), r"spread is constant \(3.0\)"),
        (lambda: kpss_test(DATED.head(10)), "at least 20 values"),
        (lambda: exact_half_life(np.resize([1.0, -1.5], 40)), "overshoots"),
        (lambda: hurst_exponent(np.arange(90.0)), "never vary"),
    ],
)
def test_data_that_answer_nothing_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adf_test(DATED, lags=29), "0 to 28"),
        (lambda: adf_test(DATED, lags=True), "got True"),
        (lambda: adf_test(DATED, lags="hqic"), "'hqic'"),
        (lambda: adf_test(DATED, trend="t"), r"\['c', 'ct', 'n'\]"),
        (lambda: kpss_test(DATED, trend="n"), r"\['c', 'ct'\]"),
        (lambda: phillips_perron_test(DATED, statistic="z"), r"\['rho', 'tau'\]"),
        (lambda: variance_ratio_test(DATED, horizon=31), "2 to 30"),
        (lambda: hurst_exponent(DATED, shortest=4, longest=4), "got 4 and 4"),
        (lambda: adf_test(DATED).rejects(0.0), "alpha must lie strictly between 0 and 1; got 0.0"),
        (lambda: adf_test(DATED).rejects(float("nan")), "got nan"),
    ],
)
def test_parameters_out_of_range_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
