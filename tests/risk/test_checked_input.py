"""What a newcomer hands in by mistake: risk says what is wrong, and never answers with a number that means nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.errors import DataError, ParameterError
from tradelib.risk import (
    AntiMartingale,
    AtrRisk,
    EqualRiskContribution,
    ExtremeValueVaR,
    FixedFraction,
    GarchVaR,
    GaussianVaR,
    KellyFraction,
    StudentTVaR,
    VolatilityTarget,
    WeightedHistoricalVaR,
    acerbi_szekely,
    adf_test,
    bootstrap_kelly,
    chow_test,
    decompose_risk,
    diebold_mariano,
    dynamic_quantile,
    engle_granger,
    equal_risk_contribution,
    fissler_ziegel_loss,
    fit_garch,
    gregory_hansen,
    historical_risk,
    hurst_exponent,
    kalman_hedge_ratio,
    kelly_bet,
    kelly_empirical,
    kelly_gaussian,
    kelly_outcomes,
    kelly_portfolio,
    kelly_posterior,
    kpss_test,
    kupiec,
    ols_hedge_ratio,
    phillips_perron_test,
    quantile_loss,
    rank_models,
    risk_contributions,
    risk_horizons,
    scan_pairs,
    simulate_kelly,
    total_least_squares_hedge_ratio,
    traffic_light,
    variance_ratio_test,
    walk_forward,
)
from tradelib.risk.checked_input import as_numbers, check_number, check_whole

RANDOM = np.random.default_rng(0)
TIMES = pd.date_range("2015-01-01", periods=600, freq="B", tz="America/New_York")
RETURNS = pd.Series(RANDOM.standard_t(5, 600) * 0.01, TIMES)
HITS = RANDOM.random(600) < 0.02
FORECAST = np.full(600, 0.02)
X = pd.Series(100.0 * np.exp(np.cumsum(RETURNS)), name="X")
Y = pd.Series(100.0 * np.exp(np.cumsum(RANDOM.normal(0, 0.01, 600))), TIMES, name="Y")
TWO = pd.DataFrame({"a": X, "b": 1.1 * X})
TABLE = pd.DataFrame(RANDOM.normal(0, 0.01, (300, 2)), columns=["a", "b"])
BARS = pd.DataFrame({"open": X, "high": 1.01 * X, "low": 0.99 * X, "close": X})
LINE = np.arange(100.0)
GAP = np.where(np.arange(600) == 7, math.nan, 0.02)
WEIGHTS = {"a": 0.5, "b": 0.5}

REFUSED = {
    # numbers that are none
    "text": (lambda: GaussianVaR().estimate(["a", "b"]), DataError, "returns must be numbers"),
    "truth values": (lambda: GaussianVaR().estimate(RETURNS > 0), DataError, "not of type bool"),
    "prices for returns": (lambda: GaussianVaR().estimate(X), DataError, "are they prices"),
    "newest first": (lambda: walk_forward(GaussianVaR(), RETURNS[::-1]), DataError, "must run forward in time"),
    "a bar twice": (lambda: scan_pairs(pd.concat([TWO, TWO])), DataError, "each bar once"),
    "a table": (lambda: GaussianVaR().estimate(RETURNS.to_frame()), DataError, "choose one column"),
    "two columns for a bet": (lambda: kelly_empirical(TABLE), DataError, "choose one column"),
    "text hits": (lambda: kupiec(["a"] * 10, 0.01), DataError, "hits must be numbers"),
    "text alpha": (lambda: kupiec(HITS, "x"), ParameterError, "tail probability"),
    "text price": (lambda: engle_granger(pd.Series(["a"] * 600, TIMES), X), DataError, "must be numbers"),
    "text spread": (lambda: adf_test(["a"] * 40), DataError, "must be numbers"),
    # rules and kinds that do not exist
    "quantile rule": (lambda: historical_risk(TABLE, 0.05, "lin"), ParameterError, "no rule 'lin'"),
    "shortfall rule": (lambda: historical_risk(TABLE, 0.05, "linear", "mean"), ParameterError, "no rule 'mean'"),
    "volatility": (lambda: fit_garch(RETURNS, "TGARCH"), ParameterError, "no 'TGARCH'"),
    "shocks": (lambda: fit_garch(RETURNS, "GARCH", "cauchy"), ParameterError, "no 'cauchy'"),
    "statistic": (lambda: acerbi_szekely(RETURNS, FORECAST, FORECAST, 0.02, "Z3"), ParameterError, "no statistic 'Z3'"),
    "a class for a model": (lambda: walk_forward(GaussianVaR, RETURNS), ParameterError, "model is a risk model"),
    "a list of models": (lambda: rank_models([GaussianVaR()], RETURNS), ParameterError, "models come by name"),
    # gaps that would pass as good news
    "shortfall of a gap": (
        lambda: acerbi_szekely(RETURNS, GAP, FORECAST, 0.02),
        DataError,
        "a gap would count as no hit",
    ),
    "quantile of a gap": (lambda: dynamic_quantile(HITS, GAP, 0.02), DataError, "VaR of row 7"),
    "loss of a gap": (lambda: quantile_loss(RETURNS, GAP, 0.02), DataError, "row 7"),
    "joint loss of a gap": (lambda: fissler_ziegel_loss(RETURNS, GAP, FORECAST, 0.02), DataError, "a gap"),
    "comparison of a gap": (lambda: diebold_mariano(GAP, FORECAST), DataError, "row 7"),
    "comparison of lengths": (lambda: diebold_mariano(GAP, FORECAST[:5]), DataError, "on the same days"),
    "joint loss at alpha 0": (lambda: fissler_ziegel_loss(RETURNS, FORECAST, FORECAST, 0), ParameterError, "tail prob"),
    "quantile loss at alpha 2": (lambda: quantile_loss(RETURNS, FORECAST, 2), ParameterError, "tail probability"),
    # counts
    "no day": (lambda: traffic_light(HITS, 0.01, 0), ParameterError, "days must be a whole number, at least 1"),
    "half a lag": (lambda: dynamic_quantile(HITS, FORECAST, 0.02, 1.5), ParameterError, "lags must be a whole"),
    "half a window": (lambda: walk_forward(GaussianVaR(), RETURNS, 99.5), ParameterError, "window must be a whole"),
    "half a horizon": (lambda: decompose_risk(TABLE, WEIGHTS, horizon=1.5), ParameterError, "horizon must be a"),
    "too long a horizon": (lambda: risk_horizons(GaussianVaR(), RETURNS, [1, 550]), DataError, "horizons up to 501"),
    "half a bet": (lambda: simulate_kelly(kelly_bet(0.6), bets=1.5), ParameterError, "bets must be a whole"),
    "half a lag of Hurst": (lambda: hurst_exponent(X, shortest=2.5), ParameterError, "shortest must be a whole"),
    # portfolios
    "an array": (lambda: decompose_risk(TABLE.to_numpy(), WEIGHTS), ParameterError, "come as a DataFrame"),
    "text weights": (lambda: decompose_risk(TABLE, {"a": "x", "b": 1.0}), DataError, "weights must be numbers"),
    "unknown rate": (lambda: kelly_portfolio([0.1], [[0.04]], risk_free=math.nan), ParameterError, "must be finite"),
    "no asset": (lambda: kelly_portfolio([], np.empty((0, 0))), ParameterError, "needs a covariance"),
    "no covariance": (lambda: equal_risk_contribution([[1, -2], [-2, 1]]), DataError, "not positive definite"),
    "no risk to share": (lambda: risk_contributions([0, 0], np.eye(2)), DataError, "nothing to divide"),
    "a perfect hedge": (lambda: risk_contributions([1, 1], [[1, -1], [-1, 1]]), DataError, "nothing to divide"),
    "no return at all": (
        lambda: EqualRiskContribution().weights(TABLE.assign(c=math.nan)),
        DataError,
        "c has no return",
    ),
    "no row": (lambda: EqualRiskContribution().weights(TABLE[:0]), DataError, "no return at all"),
    # degenerate series
    "a straight line, ADF": (lambda: adf_test(LINE), DataError, "same step"),
    "a straight line, PP": (lambda: phillips_perron_test(LINE), DataError, "same step"),
    "a straight line, VR": (lambda: variance_ratio_test(LINE), DataError, "same step"),
    "almost constant": (lambda: adf_test(5 + 1e-17 * LINE), DataError, "is constant"),
    "beyond all numbers": (lambda: kpss_test(1e300 * X.to_numpy()), DataError, "use another unit"),
    "a pattern": (lambda: adf_test(np.tile([1.0, -1.0], 50)), DataError, "repeat a pattern"),
    "one regressor twice": (lambda: engle_granger(Y, TWO), DataError, "a, b are linearly dependent"),
    # a second column that nobody would look at
    "least squares": (lambda: ols_hedge_ratio(Y, TWO), DataError, "between two series"),
    "orthogonal": (lambda: total_least_squares_hedge_ratio(Y, TWO), DataError, "between two series"),
    "Kalman": (lambda: kalman_hedge_ratio(Y, TWO), DataError, "between two series"),
    "Gregory-Hansen": (lambda: gregory_hansen(Y, TWO), DataError, "between two series"),
    "a break at a list": (lambda: chow_test(Y, X, [1]), ParameterError, "is no bar of the sample"),
    # bets
    "text probability": (lambda: kelly_bet("x"), ParameterError, "probability must be a number"),
    "text variance": (lambda: kelly_gaussian(0.1, "x"), ParameterError, "variance must be a number"),
    "text outcomes": (lambda: kelly_outcomes(["a", "b"], [0.5, 0.5]), DataError, "returns must be numbers"),
    "text wins": (lambda: kelly_posterior("x", 3), ParameterError, "wins must be a number"),
    "text share": (lambda: kelly_bet(0.6).fractional("x"), ParameterError, "share must be a number"),
    "unknown fraction": (lambda: kelly_bet(0.6).growth_at(math.nan), ParameterError, "must be finite"),
    "half a block": (lambda: bootstrap_kelly(RETURNS, block=2.5), ParameterError, "block must be a whole"),
}


@pytest.mark.parametrize(("call", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_in_words(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize("policy", [FixedFraction, VolatilityTarget, AtrRisk, KellyFraction, AntiMartingale])
def test_signals_that_are_not_one_per_bar_are_refused(policy: Any) -> None:
    """A kernel that believed their number would read and write beyond the end of an array."""
    signals = pd.Series(1.0, TIMES)
    for wrong in (signals[:100], signals.shift(freq="D"), [1.0] * 600):
        with pytest.raises(ParameterError, match="on the same times"):
            policy().weights(wrong, BARS)
    with pytest.raises(ParameterError, match="each of the 600 bars"):
        policy().batch_weights(np.ones((2, 100)), BARS)


def test_infinite_variance_is_said_or_refused() -> None:
    """Cauchy returns have no mean, t(1.5) no variance."""
    cauchy = np.random.default_rng(1).standard_cauchy(1500) * 0.01
    wild = np.random.default_rng(2).standard_t(1.5, 1500) * 0.01
    with pytest.raises(DataError, match="expected shortfall is infinite"):
        StudentTVaR().estimate(np.random.default_rng(3).standard_t(0.8, 3000) * 0.01)
    assert "infinite variance" in " ".join(StudentTVaR().estimate(wild).notes)
    with pytest.raises(DataError, match="no root of time"):
        StudentTVaR(horizon=10).estimate(wild)
    assert "infinite variance" in " ".join(ExtremeValueVaR().estimate(cauchy).notes)
    assert "variance is all but infinite" in " ".join(GarchVaR().estimate(cauchy).notes)


def test_too_few_returns_are_said() -> None:
    assert "3 returns are few" in GaussianVaR().estimate(RETURNS[:3]).summary()
    assert "worst return alone" in WeightedHistoricalVaR().estimate(RETURNS[:30]).summary()


def test_times_with_a_zone_whole_numbers_and_plain_arrays_are_welcome() -> None:
    expected = GaussianVaR().estimate(RETURNS).var
    assert GaussianVaR().estimate(RETURNS.to_numpy()).var == expected
    assert GaussianVaR().estimate(RETURNS.astype(object)).var == expected
    assert kupiec(HITS.astype(int), 0.02).statistic == kupiec(HITS, 0.02).statistic
    assert engle_granger(Y.round().astype(int), X).pvalue > 0.0


def test_numbers_one_by_one() -> None:
    assert check_number(np.float64(2.5), "x") == 2.5
    assert check_whole(np.int64(3), "x", 1, 3) == 3
    for wrong in (True, "1", None, math.inf):
        with pytest.raises(ParameterError, match="x must be"):
            check_number(wrong, "x")
    for wrong in (True, 1.0, 0, 4):
        with pytest.raises(ParameterError, match="x must be a whole number, from 1 to 3"):
            check_whole(wrong, "x", 1, 3)
    for dates in (TIMES, np.array([1 + 2j])):
        with pytest.raises(DataError, match="x must be numbers, not of type"):
            as_numbers(dates.tz_localize(None) if isinstance(dates, pd.DatetimeIndex) else dates, "x")
    assert as_numbers([1, 2], "x").dtype == np.float64


def test_hedge_ratios_draw_themselves() -> None:
    assert len(ols_hedge_ratio(Y, X).plot().data) == 1
    assert kalman_hedge_ratio(Y, X).plot().layout.yaxis.title.text == "hedge ratio"
    found = gregory_hansen(Y, X)
    assert found.plot().layout.shapes[0].y0 == found.critical_values["5%"]
    assert len(walk_forward(GaussianVaR(), RETURNS, 300).plot().data) == 3


def test_a_model_is_found_by_name_before_its_module_was_imported() -> None:
    """A new process, since this one has imported everything."""
    code = "from tradelib.risk import create_risk_model; print(create_risk_model('GarchVaR', {'alpha': 0.05}).alpha)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0.05\n"
