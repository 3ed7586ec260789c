"""Performance metrics: by hand, by property, and beside quantstats and empyrical on twenty years of real data."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tradelib.backtest import metrics
from tradelib.errors import DataError, ParameterError

PERIODS = 252


def embedded_returns(name: str) -> pd.Series[float]:
    """Daily returns of an index that ships inside `arch`, read without importing `arch`."""
    spec = importlib.util.find_spec("arch")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "data" / name / f"{name}.csv.gz"
    closes = pd.read_csv(path, index_col=0, parse_dates=True)["Adj Close"]
    return closes.pct_change().iloc[1:]


@pytest.fixture(scope="module")
def market() -> pd.Series[float]:
    return embedded_returns("sp500")


@pytest.fixture(scope="module")
def quantstats() -> Any:
    return pytest.importorskip("quantstats.stats")


@pytest.fixture(scope="module")
def empyrical() -> Any:
    return pytest.importorskip("empyrical")


# -- by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (lambda: metrics.total_return([0.5, -0.5]), -0.25),
        (lambda: metrics.annual_return([0.5, -0.5], 12), 0.75**6 - 1),
        (lambda: metrics.annual_volatility([0.01, 0.03], 12), math.sqrt(0.0002 * 12)),
        (lambda: metrics.sharpe_ratio([0.01, 0.03], 12), math.sqrt(2 * 12)),
        (lambda: metrics.sharpe_ratio([0.01, 0.03], per_period=True), math.sqrt(2)),
        (lambda: metrics.sharpe_ratio([0.01, 0.03], 12, risk_free=0.01), math.sqrt(12 / 2)),
        (lambda: metrics.sortino_ratio([0.02, -0.01, 0.02, -0.01], 4), 2 * 0.005 / math.sqrt(0.0002 / 4)),
        (lambda: metrics.maximum_drawdown([-0.2, 0.1, 0.0]), -0.2),
        (lambda: metrics.maximum_drawdown([0.1, 0.2]), 0.0),
        (lambda: metrics.calmar_ratio([0.1, -0.1], 2), (0.99 - 1) / 0.1),
        (lambda: metrics.ulcer_index([-0.2, 0.0, 0.25]), math.sqrt((0.04 + 0.04 + 0.0) / 3)),
        (lambda: metrics.omega_ratio([0.03, -0.01], threshold=0.01), 1.0),
        (lambda: metrics.tail_ratio([0.02, -0.01, 0.02, -0.01]), 2.0),
        (lambda: metrics.win_rate([1.0, 0.0, -1.0, 2.0]), 2 / 3),
        (lambda: metrics.profit_factor([100.0, -50.0, 0.0, 25.0]), 2.5),
        (lambda: metrics.information_ratio([0.02, 0.04], [0.01, 0.01], 12), math.sqrt(2 * 12)),
        (lambda: metrics.skewness([0.0, 0.0, 0.0, 1.0]), 2 / math.sqrt(3)),
        (lambda: metrics.kurtosis([0.0, 0.0, 0.0, 1.0]), 7 / 3),
        (lambda: metrics.kurtosis([-1.0, 1.0]), 1.0),
        (lambda: metrics.per_period_rate(0.0504, 252), 0.0002),
        (lambda: metrics.per_period_rate(0.21, 2, "compounded"), 0.1),
    ],
)
def test_figures_by_hand(metric: Any, expected: float) -> None:
    assert metric() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_drawdown_series_keeps_the_kind_and_the_index_of_its_input() -> None:
    index = pd.date_range("2020-01-01", periods=3, tz="UTC")
    series = metrics.drawdown_series(pd.Series([0.1, -0.5, 0.2], index=index))
    assert isinstance(series, pd.Series)
    assert series.index.equals(index)
    assert isinstance(metrics.drawdown_series([0.1, -0.5, 0.2]), np.ndarray)
    np.testing.assert_allclose(series, [0.0, -0.5, -0.4])


# -- beside other libraries, on real data ------------------------------------------------------------------------


def test_agrees_with_quantstats(market: pd.Series[float], quantstats: Any) -> None:
    pairs = {
        "total": (metrics.total_return(market), quantstats.comp(market)),
        "cagr": (metrics.annual_return(market, PERIODS), quantstats.cagr(market, periods=PERIODS)),
        "volatility": (metrics.annual_volatility(market, PERIODS), quantstats.volatility(market, periods=PERIODS)),
        "sharpe": (metrics.sharpe_ratio(market, PERIODS), quantstats.sharpe(market, periods=PERIODS)),
        "sortino": (metrics.sortino_ratio(market, PERIODS), quantstats.sortino(market, periods=PERIODS)),
        "calmar": (metrics.calmar_ratio(market, PERIODS), quantstats.calmar(market, periods=PERIODS)),
        "drawdown": (metrics.maximum_drawdown(market), quantstats.max_drawdown(market)),
        "omega": (metrics.omega_ratio(market), quantstats.omega(market, periods=PERIODS)),
        "tail": (metrics.tail_ratio(market), quantstats.tail_ratio(market)),
        "wins": (metrics.win_rate(market), quantstats.win_rate(market)),
        "profit factor": (metrics.profit_factor(market), quantstats.profit_factor(market)),
    }
    for name, (ours, theirs) in pairs.items():
        assert ours == pytest.approx(float(theirs), rel=1e-12), name


def test_agrees_with_empyrical(market: pd.Series[float], empyrical: Any) -> None:
    pairs = {
        "total": (metrics.total_return(market), empyrical.cum_returns_final(market)),
        "cagr": (metrics.annual_return(market, PERIODS), empyrical.annual_return(market)),
        "volatility": (metrics.annual_volatility(market, PERIODS), empyrical.annual_volatility(market)),
        "sharpe": (metrics.sharpe_ratio(market, PERIODS), empyrical.sharpe_ratio(market)),
        "sortino": (metrics.sortino_ratio(market, PERIODS), empyrical.sortino_ratio(market)),
        "calmar": (metrics.calmar_ratio(market, PERIODS), empyrical.calmar_ratio(market)),
        "drawdown": (metrics.maximum_drawdown(market), empyrical.max_drawdown(market)),
        "omega": (metrics.omega_ratio(market), empyrical.omega_ratio(market)),
        "tail": (metrics.tail_ratio(market), empyrical.tail_ratio(market)),
    }
    for name, (ours, theirs) in pairs.items():
        assert ours == pytest.approx(float(theirs), rel=1e-12), name


def test_named_differences_from_quantstats_and_empyrical(
    market: pd.Series[float], quantstats: Any, empyrical: Any
) -> None:
    n = len(market)
    # The ulcer index there divides by n - 1.
    assert quantstats.ulcer_index(market) * math.sqrt((n - 1) / n) == pytest.approx(metrics.ulcer_index(market))
    # Skewness and kurtosis there are bias-corrected, kurtosis in excess of 3.
    correction = math.sqrt(n * (n - 1)) / (n - 2)
    assert quantstats.skew(market) == pytest.approx(metrics.skewness(market) * correction)
    excess = ((n + 1) * metrics.kurtosis(market) - 3 * (n - 1)) * (n - 1) / ((n - 2) * (n - 3))
    assert quantstats.kurtosis(market) == pytest.approx(excess)
    # The information ratio there is not annualised.
    other = embedded_returns("nasdaq")
    ours = metrics.information_ratio(market, other, PERIODS)
    assert quantstats.information_ratio(market, other) * math.sqrt(PERIODS) == pytest.approx(ours)
    assert empyrical.excess_sharpe(market, other) * math.sqrt(PERIODS) == pytest.approx(ours)


def test_real_figures_stay_what_they_were(market: pd.Series[float]) -> None:
    """S&P 500, adjusted closes 1999-01-04 to 2018-12-31 as shipped by arch 8.0.0; written out by this function."""
    figures = metrics.summary_metrics(market, PERIODS)
    expected = {
        "observations": 5030.0,
        "periods_per_year": 252.0,
        "total_return": 1.0412426895,
        "annual_return": 0.0363955433,
        "annual_volatility": 0.1909820714,
        "sharpe_ratio": 0.2827392290,
        "maximum_drawdown": -0.5677538775,
        "kurtosis": 11.3361179138,
    }
    assert {name: round(figures[name], 10) for name in expected} == expected


# -- what is undefined, what is refused --------------------------------------------------------------------------


def test_undefined_ratios_are_nan_never_infinite() -> None:
    constant, winners = [0.001] * 20, [0.01, 0.02, 0.03]
    undefined = [
        metrics.sharpe_ratio(constant, PERIODS),
        metrics.sharpe_ratio([0.01], PERIODS),
        metrics.annual_volatility([0.01], PERIODS),
        metrics.sortino_ratio(winners, PERIODS),
        metrics.calmar_ratio(winners, PERIODS),
        metrics.omega_ratio(winners),
        metrics.tail_ratio([0.0] * 5),
        metrics.win_rate([0.0, 0.0]),
        metrics.profit_factor([10.0]),
        metrics.information_ratio(constant, constant, PERIODS),
        metrics.skewness(constant),
        metrics.kurtosis(constant),
    ]
    assert all(math.isnan(figure) for figure in undefined)


def test_zero_volatility_is_recognised_in_spite_of_rounding() -> None:
    # The mean of twenty times 0.1 is not exactly 0.1: a naive deviation is 1e-17 and the ratio 1e16.
    assert math.isnan(metrics.sharpe_ratio([0.1] * 20, PERIODS))


def test_ruin_absorbs() -> None:
    broke = [0.1, -1.0, 5.0]
    assert metrics.total_return(broke) == -1.0
    assert metrics.annual_return(broke, PERIODS) == -1.0
    assert metrics.maximum_drawdown(broke) == -1.0
    below_zero = [0.0, -1.5, -3.0, 0.2]  # a short squeezed past the account: (1 - 1.5)(1 - 3) would be a gain
    assert metrics.total_return(below_zero) == -1.5
    assert metrics.annual_return(below_zero, PERIODS) == -1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.total_return([]), "non-empty"),
        (lambda: metrics.total_return([[0.1]]), r"shape \(1, 1\)"),
        (lambda: metrics.total_return(["x"]), "must be numbers"),
        (lambda: metrics.sharpe_ratio([0.1, 0.2]), "needs periods_per_year"),
        (lambda: metrics.annual_return([0.1], -1), "periods_per_year must be positive, got -1"),
        (lambda: metrics.annual_volatility([0.1, 0.2], math.nan), "periods_per_year must be positive"),
        (lambda: metrics.per_period_rate(0.05, 252, "daily"), "'simple' or 'compounded'"),  # type: ignore[arg-type]
        (lambda: metrics.per_period_rate(-2.0, 252), "annual_rate"),
        (lambda: metrics.information_ratio([0.1, 0.2], [0.1], 252), "same periods"),
        (lambda: metrics.performance_table([0.1, 0.2], PERIODS), r"a column per strategy, got shape \(2,\)"),
        (lambda: metrics.performance_table([["x"]], PERIODS), "must be numbers"),
        (lambda: metrics.performance_table(np.empty((0, 3)), PERIODS), r"non-empty table.*\(0, 3\)"),
        (lambda: metrics.performance_table([[0.1]], PERIODS, ["sharp_ratio"]), "did you mean 'sharpe_ratio'"),
        (lambda: metrics.performance_table([[0.1]], 0), "periods_per_year must be positive, got 0"),
    ],
)
def test_a_bad_argument_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.sharpe_ratio([0.1, math.nan], PERIODS), r"returns: nan at position 1 \(1 of 2 not finite\)"),
        (lambda: metrics.win_rate([0.1, math.inf]), "outcomes: inf at position 1"),
        (lambda: metrics.drawdown_series([0.1, math.nan]), "nan at position 1"),
        (lambda: metrics.information_ratio([0.1, 0.2], [0.1, math.nan], PERIODS), "benchmark: nan at position 1"),
        (lambda: metrics.summary_metrics([0.1, math.nan], PERIODS), "nan at position 1"),
        (lambda: metrics.summary_metrics([math.nan], PERIODS), "nan at position 0"),
    ],
)
def test_a_missing_or_infinite_value_is_named(call: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_a_missing_return_is_named_by_its_time() -> None:
    index = pd.date_range("2020-01-01", periods=3, tz="UTC")
    with pytest.raises(DataError, match="2020-01-02"):
        metrics.sharpe_ratio(pd.Series([0.1, math.nan, 0.1], index=index), PERIODS)


def test_information_ratio_does_not_align_silently() -> None:
    index = pd.date_range("2020-01-01", periods=3, tz="UTC")
    own, other = pd.Series([0.1, 0.2, 0.1], index=index), pd.Series([0.1, 0.1, 0.2], index=index.shift(1))
    with pytest.raises(ParameterError, match="align first"):
        metrics.information_ratio(own, other, PERIODS)


# -- properties --------------------------------------------------------------------------------------------------

samples = arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.5, 0.5).map(lambda value: round(value, 6)))


@given(samples)
@settings(max_examples=60, deadline=None)
def test_drawdown_is_between_ruin_and_zero_and_calmar_agrees(returns: Any) -> None:
    drawdown = np.asarray(metrics.drawdown_series(returns))
    assert ((drawdown <= 0.0) & (drawdown >= -1.0)).all()
    assert metrics.ulcer_index(returns) <= abs(metrics.maximum_drawdown(returns)) + 1e-12
    assert metrics.kurtosis(returns) >= 1.0 - 1e-6 or returns.min() == returns.max()


@given(samples, st.floats(0.1, 10.0))
@settings(max_examples=60, deadline=None)
def test_sharpe_does_not_depend_on_leverage(returns: Any, leverage: float) -> None:
    before, after = metrics.sharpe_ratio(returns, 252), metrics.sharpe_ratio(returns * leverage, 252)
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9, nan_ok=True)


def test_summary_is_json_of_plain_floats_in_a_stable_order(market: pd.Series[float]) -> None:
    figures = metrics.summary_metrics(market, PERIODS)
    assert all(type(figure) is float for figure in figures.values())
    assert list(figures)[:4] == ["observations", "periods_per_year", "total_return", "annual_return"]
    assert list(figures) == list(metrics.summary_metrics([0.0], 365))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
