"""Hedge ratios and breaks: against statsmodels, numpy and the published tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter
from statsmodels.tsa.stattools import adfuller

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.risk import (
    chow_test,
    cusum_test,
    engle_granger,
    gregory_hansen,
    kalman_hedge_ratio,
    ols_hedge_ratio,
    total_least_squares_hedge_ratio,
)


def pair(n: int = 300, seed: int = 0) -> tuple[pd.Series, pd.Series]:
    random, days = np.random.default_rng(seed), pd.bdate_range("2021-01-01", periods=n)
    x = 4 + np.cumsum(random.normal(0, 0.02, n))
    y = 0.5 + 0.8 * x + random.normal(0, 0.02, n)
    return pd.Series(np.exp(y), days, name="Y"), pd.Series(np.exp(x), days, name="X")


Y, X = pair()
RETURNS = pd.DataFrame({"Y": Y, "X": X}).pct_change().dropna()


def test_least_squares_equals_numpy():
    slope, constant = np.polyfit(np.log(X), np.log(Y), 1)
    fit = ols_hedge_ratio(Y, X)
    assert (fit.hedge_ratio, fit.intercept) == (pytest.approx(slope), pytest.approx(constant))
    np.testing.assert_allclose(fit.spread, np.log(Y) - slope * np.log(X) - constant, atol=1e-12)


def test_total_least_squares_is_the_first_principal_axis():
    logs = np.column_stack([np.log(X), np.log(Y)])
    axis = np.linalg.svd(logs - logs.mean(axis=0))[2][0]
    assert total_least_squares_hedge_ratio(Y, X).hedge_ratio == pytest.approx(axis[1] / axis[0], rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_total_least_squares_does_not_care_which_is_called_y(seed):
    y, x = pair(60, seed)
    one, other = total_least_squares_hedge_ratio(y, x), total_least_squares_hedge_ratio(x, y)
    assert one.hedge_ratio * other.hedge_ratio == pytest.approx(1.0, rel=1e-8)


def test_noise_in_x_pulls_least_squares_to_zero_and_total_least_squares_not():
    # the slope shrinks by the share of true variance in that of x, 1 of 1.25
    random = np.random.default_rng(1)
    true = random.normal(0, 1, 20_000)
    y, x = (pd.Series(true + random.normal(0, 0.5, 20_000), name=name) for name in "yx")
    assert ols_hedge_ratio(y, x, log=False).hedge_ratio == pytest.approx(0.8, abs=0.02)
    assert total_least_squares_hedge_ratio(y, x, log=False).hedge_ratio == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("delta", "noise"), [(1e-4, 1e-3), (1e-2, 1e-5)])
def test_the_kalman_filter_equals_the_state_space_model_of_statsmodels(delta, noise):
    model = KalmanFilter(k_endog=1, k_states=2, k_posdef=2)
    model.bind(np.log(Y).to_numpy()[:, None])
    model["design"] = np.vstack([np.log(X), np.ones(len(X))])[None]
    model["transition"] = model["selection"] = np.eye(2)
    model["state_cov"], model["obs_cov"] = delta / (1 - delta) * np.eye(2), np.array([[noise]])
    model.initialize_known(np.zeros(2), np.eye(2))  # the prior belongs to the first bar: no state noise before it
    expected = model.filter()
    kalman = kalman_hedge_ratio(Y, X, delta=delta, observation_variance=noise)
    np.testing.assert_allclose(kalman.table["hedge_ratio"], expected.filtered_state[0], rtol=1e-7)
    np.testing.assert_allclose(kalman.table["intercept"], expected.filtered_state[1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(kalman.table["forecast_error"], expected.forecasts_error[0], atol=1e-9)
    np.testing.assert_allclose(kalman.table["deviation"] ** 2, expected.forecasts_error_cov[0, 0], rtol=1e-7)


def test_the_first_bar_of_the_kalman_filter_by_hand():
    # prior covariance I and no Q: gain (x, 1) / (x^2 + 1 + V)
    x, y = float(np.log(X.iloc[0])), float(np.log(Y.iloc[0]))
    first = kalman_hedge_ratio(Y, X, observation_variance=0.5).table.iloc[0]
    assert first["hedge_ratio"] == pytest.approx(y * x / (x * x + 1.5))
    assert first["deviation"] == pytest.approx(np.sqrt(x * x + 1.5))


def test_a_bar_of_the_kalman_filter_does_not_see_the_next():
    cut = kalman_hedge_ratio(Y.head(150), X.head(150)).table
    pd.testing.assert_frame_equal(cut, kalman_hedge_ratio(Y, X).table.head(150))


def test_the_kalman_kernel_agrees_with_itself_interpreted():
    compiled = kalman_hedge_ratio(Y, X).table
    with interpreted():
        pd.testing.assert_frame_equal(kalman_hedge_ratio(Y, X).table, compiled, check_exact=True)


def test_chow_by_its_formula():
    at, k = RETURNS.index[120], 2

    def squares(part):
        design = np.column_stack([np.ones(len(part)), part["X"]])
        return np.linalg.lstsq(design, part["Y"].to_numpy(), rcond=None)[1][0]

    whole, apart = squares(RETURNS), squares(RETURNS.iloc[:120]) + squares(RETURNS.iloc[120:])
    f = (whole - apart) / k / (apart / (len(RETURNS) - 2 * k))
    test = chow_test(RETURNS["Y"], RETURNS["X"], at)
    assert test.statistic == pytest.approx(f, rel=1e-9)
    assert test.pvalue == pytest.approx(stats.f.sf(f, k, len(RETURNS) - 2 * k))


def returns(seed: int, n: int = 200, after: float = 1.0, shift: float = 0.0) -> tuple[pd.Series, pd.Series]:
    random = np.random.default_rng(seed)
    x, error, second = random.normal(0, 1, n), random.normal(0, 1, n), np.arange(n) >= n // 2
    y = np.where(second, after, 1.0) * x + shift * second + error
    return pd.Series(y, name="y"), pd.Series(x, name="x")


def test_chow_and_cusum_keep_their_size_and_find_what_they_are_made_for():
    three_errors = 3 * np.sqrt(0.05 * 0.95 / 300)
    chow = np.mean([chow_test(*returns(seed), 100).rejects() for seed in range(300)])
    cusum = np.mean([cusum_test(*returns(seed)).rejects() for seed in range(300)])
    assert abs(chow - 0.05) < three_errors
    assert cusum < 0.05 + three_errors  # asymptotic, and cautious in short samples
    assert np.mean([chow_test(*returns(seed, after=2.0), 100).rejects() for seed in range(50)]) > 0.95
    assert np.mean([cusum_test(*returns(seed, shift=0.8)).rejects() for seed in range(50)]) > 0.9


def test_gregory_hansen_is_the_least_dickey_fuller_over_the_breaks():
    y, x = (series.head(120) for series in (Y, X))
    test = gregory_hansen(y, x, shift="regime", lags=2)
    expected = []
    for last in range(18, 103):
        after = (np.arange(120) >= last).astype(float)
        design = np.column_stack([np.ones(120), after, np.log(x), np.log(x) * after])
        residuals = np.log(y) - design @ np.linalg.lstsq(design, np.log(y), rcond=None)[0]
        expected.append(adfuller(residuals, 2, "n", None, result_object=False)[0])
    np.testing.assert_allclose(test.statistics, expected, atol=1e-9)
    assert test.break_after == y.index[17 + int(np.argmin(expected))]
    # Gregory & Hansen (1996), table 1, m = 1, ADF*, regime shift
    assert test.critical_values == {"10%": -4.68, "5%": -4.95, "1%": -5.47}


def test_gregory_hansen_finds_a_shift_that_engle_granger_takes_for_a_walk():
    y = Y * np.where(np.arange(300) >= 180, 1.6, 1.0)
    test = gregory_hansen(y.rename("Y"), X, shift="level")
    assert not engle_granger(y.rename("Y"), X).rejects()
    assert test.rejects("1%")
    assert test.pvalue == (0.0, 0.01)
    assert abs(Y.index.get_loc(test.break_after) - 179) <= 2


def test_gregory_hansen_seldom_finds_a_relation_between_strangers():
    walks = np.cumsum(np.random.default_rng(2).normal(size=(60, 2, 120)), axis=2)
    found = [gregory_hansen(pd.Series(y), pd.Series(x), log=False).rejects() for y, x in walks]
    assert np.mean(found) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60) + 0.05  # the table is asymptotic; 120 bars are few


def test_results_tell_themselves():
    assert "least squares: hedge ratio 0." in ols_hedge_ratio(Y, X).summary()
    assert "Kalman filter, delta 0.0001" in kalman_hedge_ratio(Y, X).summary()
    assert "Gregory-Hansen ADF*" in gregory_hansen(Y, X).summary()
    assert kalman_hedge_ratio(Y, X).to_frame().columns[-1] == "zscore"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ols_hedge_ratio(Y, Y.rename("Z")), DataError, "Y and Z are .almost. perfectly collinear"),
        (lambda: ols_hedge_ratio(Y, X.iloc[1:]), DataError, "299 are shared"),
        (lambda: kalman_hedge_ratio(Y, X, delta=0.0), ParameterError, "delta must lie strictly"),
        (lambda: kalman_hedge_ratio(Y, X, observation_variance=-1.0), ParameterError, "got -1.0"),
        (lambda: kalman_hedge_ratio(Y * np.nan, X), DataError, "Y is nan at 2021-01-01"),
        (lambda: chow_test(Y, X, "1999-01-01"), ParameterError, "is no bar of the sample"),
        (lambda: chow_test(Y, X, Y.index[3]), ParameterError, "leaves 3 bars before it"),
        (lambda: gregory_hansen(Y, X, shift="slope"), ParameterError, "'slope'"),
        (lambda: gregory_hansen(Y, X, lags=76), ParameterError, "0 to 75"),
        (lambda: gregory_hansen(Y.head(40), X.head(40)), DataError, "at least 50"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
