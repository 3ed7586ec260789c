"""Performance figures: one order of arithmetic, whatever the layout, and each figure against its formula."""

from __future__ import annotations

import importlib.util
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tradelib._jit import interpreted
from tradelib.backtest import Costs, DecisionRule, TrialLedger, metrics, performance, run, sweep
from tradelib.backtest.performance import CORE, PERFORMANCE, SUMMARY, equity_figures, matrix_figures, return_figures
from tradelib.errors import DataError
from tradelib.indicators import probe_bars
from tradelib.risk import FixedFraction
from tradelib.strategies import TrendFollowing

PERIODS = 252.0
BLOCK = performance.LANES
LENGTHS = (1, 2, 3, BLOCK, BLOCK + 1, BLOCK + 2, 2 * BLOCK + 1, 1000)
"""Around the seams: the first return stands alone, then come blocks of 64."""


def noise(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0004, 0.01, n)


def grown(cash: float, returns: np.ndarray) -> np.ndarray:
    """An equity curve."""
    return cash * np.cumprod(1.0 + returns)


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def by_formula(returns: np.ndarray, periods: float, risk_free: float = 0.0, threshold: float = 0.0) -> dict[str, float]:
    """The figures as docs/conventions.md defines them, written down with numpy and two passes."""
    n, deviations = len(returns), returns - returns.mean()
    deviation = float(returns.std(ddof=1)) if n > 1 else math.nan
    wealth = np.cumprod(1.0 + returns)
    drawdown = wealth / np.maximum(np.maximum.accumulate(wealth), 1.0) - 1.0
    second = float((deviations**2).mean())
    gains, losses = returns[returns > threshold] - threshold, threshold - returns[returns < threshold]
    growth = float(wealth[-1] ** (periods / n) - 1.0)
    sharpe = ratio(returns.mean() - risk_free, deviation)
    below = math.sqrt(float((losses**2).sum()) / n)
    high, low = np.percentile(returns, [95, 5])
    return {
        "observations": float(n),
        "periods_per_year": periods,
        "total_return": float(wealth[-1] - 1.0),
        "annual_return": growth,
        "annual_volatility": deviation * math.sqrt(periods),
        "sharpe_ratio": sharpe * math.sqrt(periods),
        "sortino_ratio": ratio(returns.mean() - threshold, below) * math.sqrt(periods),
        "calmar_ratio": ratio(growth, -float(drawdown.min())),
        "sharpe_ratio_per_period": sharpe,
        "maximum_drawdown": min(float(drawdown.min()), 0.0),
        "ulcer_index": math.sqrt(float((drawdown**2).mean())),
        "omega_ratio": ratio(gains.sum(), losses.sum()),
        "tail_ratio": ratio(abs(high), abs(low)),
        "win_rate": ratio(len(gains), len(gains) + len(losses)),
        "skewness": ratio(float((deviations**3).mean()), second**1.5),
        "kurtosis": ratio(float((deviations**4).mean()), second**2),
    }


def assert_same_bits(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(np.array(one).view(np.int64), np.array(other).view(np.int64))


def figures(returns: np.ndarray, **settings: Any) -> list[float]:
    return list(return_figures(returns, PERIODS, **settings)[0].values())


# -- each figure against its formula -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("risk_free", "threshold"), [(0.0, 0.0), (0.0001, 0.0002)])
def test_every_figure_of_every_length_is_its_formula(n: int, risk_free: float, threshold: float) -> None:
    found, finite = return_figures(noise(n), PERIODS, risk_free, threshold)
    assert finite
    assert tuple(found) == SUMMARY
    assert found == pytest.approx(
        by_formula(noise(n), PERIODS, risk_free, threshold), rel=1e-11, abs=1e-14, nan_ok=True
    )


@pytest.mark.parametrize("n", [4 * 8192 - 1, 4 * 8192, 50_001])
def test_the_tail_ratio_of_a_long_series_is_exact_although_it_looks_at_a_sample_first(n: int) -> None:
    returns = noise(n)
    shapes = {
        "noise": returns,
        "sorted": np.sort(returns),
        "nine of ten bars without a position": np.where(np.arange(n) % 10 == 3, returns, 0.0),
        "no movement but two": np.eye(1, n, 7)[0] * 0.01 - np.eye(1, n, 90)[0] * 0.01,
        "rounded to a tick": np.round(returns, 3),
    }
    for name, series in shapes.items():
        high, low = np.percentile(series, [95, 5])
        expected = ratio(abs(high), abs(low))
        assert metrics.tail_ratio(series) == pytest.approx(expected, rel=1e-12, nan_ok=True), name


def test_the_tail_ratio_is_exact_where_the_sample_misleads() -> None:
    """Every fourth return, looked at first, is tiny or huge: the guessed limits keep far too many or too few."""
    n = 4 * 8192
    for scale in (1e-6, 1e3):
        returns = noise(n) * np.where(np.arange(n) % 4 == 1, scale, 1.0) * 1e-3
        high, low = np.percentile(returns, [95, 5])
        assert metrics.tail_ratio(returns) == pytest.approx(abs(high / low), rel=1e-12)


def test_deviation_and_moments_survive_a_first_return_that_is_the_outlier() -> None:
    """Sums are taken around the first return; the exact variance of the same floats comes from rational arithmetic."""
    returns = np.concatenate([[0.5], noise(5_000) * 0.01])
    exact = [Fraction(value) for value in returns.tolist()]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
    fourth = sum((value - mean) ** 4 for value in exact) / len(exact)
    second = variance * (len(exact) - 1) / len(exact)
    assert metrics.annual_volatility(returns, 1) == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert metrics.kurtosis(returns) == pytest.approx(float(fourth / second**2), rel=1e-10)


def test_the_columns_of_a_frame_are_what_quantstats_and_empyrical_say() -> None:
    quantstats, empyrical = pytest.importorskip("quantstats.stats"), pytest.importorskip("empyrical")
    frame = pd.DataFrame({name: index_returns(name) for name in ("sp500", "nasdaq")}).dropna()
    table = metrics.performance_table(frame, PERIODS)
    for name, series in frame.to_dict("series").items():
        theirs = {
            "sharpe_ratio": quantstats.sharpe(series, periods=PERIODS),
            "sortino_ratio": quantstats.sortino(series, periods=PERIODS),
            "maximum_drawdown": empyrical.max_drawdown(series),
            "calmar_ratio": empyrical.calmar_ratio(series),
        }
        assert dict(table.T[name]) == pytest.approx({key: float(value) for key, value in theirs.items()}, rel=1e-12)


def index_returns(name: str) -> pd.Series[float]:
    """Daily returns of an index that ships inside `arch`."""
    spec = importlib.util.find_spec("arch")
    assert spec is not None
    assert spec.origin is not None
    closes = pd.read_csv(Path(spec.origin).parent / "data" / name / f"{name}.csv.gz", index_col=0, parse_dates=True)
    return closes["Adj Close"].pct_change().iloc[1:]


# -- the same bits, however a figure was reached -----------------------------------------------------------------------


FROM_WEALTH = {"total_return", "annual_return", "calmar_ratio", "maximum_drawdown", "ulcer_index"}
"""Read off an equity curve as it is, and off returns once they are multiplied out."""


@pytest.mark.parametrize("n", LENGTHS)
def test_an_equity_curve_has_the_figures_of_its_returns(n: int) -> None:
    equity, returns = grown(50_000.0, noise(n)), np.empty(n)
    performance.equity_returns(equity, 50_000.0, returns)
    own, of_returns = equity_figures(equity, 50_000.0, PERIODS), return_figures(returns, PERIODS)[0]
    assert own == pytest.approx(of_returns, rel=1e-12, nan_ok=True)
    for name in set(SUMMARY) - FROM_WEALTH:
        assert_same_bits(own[name], of_returns[name])


@pytest.mark.parametrize("n", LENGTHS)
def test_what_an_equity_curve_shows_is_exact(n: int) -> None:
    equity = grown(50_000.0, noise(n))
    own, peaks = equity_figures(equity, 50_000.0, PERIODS), np.maximum.accumulate(np.r_[50_000.0, equity])[1:]
    assert own["total_return"] == equity[-1] / 50_000.0 - 1.0
    assert own["maximum_drawdown"] == (equity / peaks - 1.0).min()
    core = equity_figures(equity, 50_000.0, PERIODS, CORE)
    assert_same_bits([own[name] for name in CORE], list(core.values()))


@pytest.mark.parametrize("fall", [0, 1, 40, BLOCK, BLOCK + 1, 150])
@pytest.mark.parametrize("left", [0.0, -300.0])
def test_an_equity_curve_that_comes_to_nothing_stays_there(fall: int, left: float) -> None:
    equity = grown(1_000.0, noise(200))
    equity[fall:] = left
    equity[fall + 1 :] += np.arange(199 - fall) * 10.0
    returns = np.empty(200)
    performance.equity_returns(equity, 1_000.0, returns)
    own, of_returns = equity_figures(equity, 1_000.0, PERIODS), return_figures(returns, PERIODS)[0]
    assert own == pytest.approx(of_returns, rel=1e-12, nan_ok=True)
    assert own["total_return"] == pytest.approx(left / 1_000.0 - 1.0, rel=1e-12)
    assert own["maximum_drawdown"] <= -1.0


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("chosen", [CORE, PERFORMANCE, SUMMARY, ("kurtosis", "sharpe_ratio")])
def test_a_column_has_the_figures_that_it_has_alone_in_every_layout(n: int, chosen: tuple[str, ...]) -> None:
    matrix = np.column_stack([noise(n, seed) for seed in range(5)])
    matrix[:, 3] = 0.0
    wide = np.empty((n, 10))
    wide[:, ::2] = matrix
    layouts: dict[str, Any] = {
        "rows": matrix,
        "columns": np.asfortranarray(matrix),
        "slice": wide[:, ::2],
        "frame": pd.DataFrame(matrix),
        "frame of columns": pd.DataFrame({k: matrix[:, k].copy() for k in range(5)}),
    }
    alone = [[return_figures(matrix[:, k], PERIODS, 0.0001)[0][name] for name in chosen] for k in range(5)]
    for layout in layouts.values():
        assert_same_bits(metrics.performance_table(layout, PERIODS, chosen, 0.0001).to_numpy(), alone)


def test_blocks_of_columns_on_many_cores_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(1).normal(0.0, 0.01, (200, 2 * performance.WIDTH + 37))
    monkeypatch.setattr(performance, "_THREADED", 10**9)
    expected = matrix_figures(matrix, PERIODS, 0.0, 0.0, SUMMARY)[0], matrix_figures(matrix, PERIODS, 0.0, 0.0, CORE)[0]
    monkeypatch.setattr(performance, "_THREADED", 1)
    monkeypatch.setattr(performance, "_cores", lambda: 3)
    assert_same_bits(matrix_figures(matrix, PERIODS, 0.0, 0.0, SUMMARY)[0], expected[0])
    assert_same_bits(matrix_figures(matrix, PERIODS, 0.0, 0.0, CORE)[0], expected[1])


@pytest.mark.parametrize("chosen", [(name,) for name in SUMMARY])
def test_a_figure_does_not_depend_on_what_else_was_asked_for(chosen: tuple[str]) -> None:
    everything = return_figures(noise(300), PERIODS)[0]
    assert return_figures(noise(300), PERIODS, figures=chosen)[0] == {chosen[0]: everything[chosen[0]]}


def test_a_run_a_sweep_and_the_returns_themselves_agree(tmp_path: Path) -> None:
    bars, ledger = probe_bars(300, seed=5), TrialLedger(tmp_path / "trials.sqlite")
    rule = DecisionRule(strategy=TrendFollowing(fast=3, slow=9), sizing=FixedFraction(fraction=1.0))
    swept = sweep(rule, bars, {"strategy.fast": [3]}, costs=Costs(fee_rate=0.001), ledger=ledger)
    result = run(rule, bars, start=swept.start, costs=Costs(fee_rate=0.001), ledger=ledger)
    alone = metrics.summary_metrics(result.returns, result.periods_per_year)
    assert {name: result.metrics[name] for name in alone} == pytest.approx(alone, rel=1e-12)
    assert result.performance == {name: result.metrics[name] for name in CORE}
    assert swept.frame[list(CORE)].iloc[0].to_dict() == result.performance


# -- compiled and interpreted ------------------------------------------------------------------------------------------

EDGES = {
    "nothing happened": np.zeros(70),
    "one bar": np.array([0.01]),
    "constant": np.full(130, 0.1),
    "all gains": np.linspace(0.001, 0.01, 66),
    "ruin in the first bar": np.array([-1.0, 0.5, 0.5]),
    "ruin in the middle": np.concatenate([noise(100), [-1.0], noise(100)]),
    "below zero": np.concatenate([noise(70), [-1.5, -3.0], noise(70)]),
    "slow ruin by underflow": np.full(400, -0.9),
    "beyond the largest float": np.full(1100, 1.0),
    "masses of zeros": np.where(np.arange(200) % 7 == 0, noise(200), 0.0),
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("returns", EDGES.values(), ids=list(EDGES))
def test_interpreted_kernels_give_the_same_bits(returns: np.ndarray) -> None:
    matrix = np.column_stack([returns, -0.5 * returns])
    equity = grown(100.0, returns)

    def everything() -> list[Any]:
        tables = [matrix_figures(matrix, PERIODS, 1e-4, 2e-4, chosen)[0] for chosen in (CORE, SUMMARY)]
        return [figures(returns), list(equity_figures(equity, 100.0, PERIODS).values()), *map(np.ravel, tables)]

    compiled = everything()
    with interpreted():
        for one, other in zip(compiled, everything(), strict=True):
            assert_same_bits(one, other)


def test_interpreted_and_compiled_agree_on_a_series_long_enough_for_a_sample() -> None:
    compiled = figures(noise(33_000))
    with interpreted():
        assert_same_bits(compiled, figures(noise(33_000)))


@given(arrays(np.float64, st.integers(1, 200), elements=st.floats(-1.2, 1.0).map(lambda value: round(value, 3))))
@settings(max_examples=60, deadline=None)
def test_whatever_the_returns_layouts_and_executions_agree(returns: Any) -> None:
    matrix = np.column_stack([returns, returns])
    one = figures(returns)
    assert_same_bits(matrix_figures(matrix, PERIODS, 0.0, 0.0, SUMMARY)[0][1], one)
    assert_same_bits(matrix_figures(matrix, PERIODS, 0.0, 0.0, CORE)[0][1], one[2 : 2 + len(CORE)])
    with interpreted():
        assert_same_bits(figures(returns), one)


# -- what is undefined, what is refused --------------------------------------------------------------------------------


def test_an_account_that_never_traded_has_no_ratio() -> None:
    found = return_figures(EDGES["nothing happened"], PERIODS)[0]
    undefined = {name for name, figure in found.items() if math.isnan(figure)}
    assert undefined == {
        "sharpe_ratio",
        "sharpe_ratio_per_period",
        "sortino_ratio",
        "calmar_ratio",
        "omega_ratio",
        "tail_ratio",
        "win_rate",
        "skewness",
        "kurtosis",
    }
    assert {found[name] for name in ("total_return", "annual_return", "annual_volatility", "ulcer_index")} == {0.0}


def test_a_single_bar_has_no_deviation() -> None:
    found = return_figures(np.array([0.01]), PERIODS)[0]
    assert found["total_return"] == pytest.approx(0.01)
    assert math.isnan(found["annual_volatility"])
    assert math.isnan(found["sharpe_ratio"])


def test_ruin_absorbs_and_stays_in_the_ulcer_index() -> None:
    """Half of the bars at a drawdown of -100 %, the others at zero: the root of one half."""
    returns = np.concatenate([np.zeros(100), [-1.0], np.full(99, 0.5)])
    found = return_figures(returns, PERIODS)[0]
    assert (found["total_return"], found["annual_return"], found["maximum_drawdown"]) == (-1.0, -1.0, -1.0)
    assert found["ulcer_index"] == pytest.approx(math.sqrt(0.5))
    table = metrics.performance_table(np.column_stack([returns, noise(200)]), PERIODS, CORE)
    assert table.loc[0, "total_return"] == -1.0


def test_debts_do_not_multiply() -> None:
    """1 x (1 - 1.5) is a debt of one half; (1 - 3) times that would be a gain."""
    found = return_figures(np.array([0.0, -1.5, -3.0, 0.2]), PERIODS)[0]
    assert (found["total_return"], found["maximum_drawdown"]) == (-1.5, -1.5)


def test_growth_beyond_the_largest_float_is_infinite_not_an_error() -> None:
    assert return_figures(np.full(10, 0.9), 1e6)[0]["annual_return"] == math.inf


def test_an_account_with_nothing_left_has_no_return() -> None:
    returns = np.empty(4)
    performance.equity_returns(np.array([50.0, 0.0, 0.0, 10.0]), 100.0, returns)
    np.testing.assert_array_equal(returns, [-0.5, -1.0, 0.0, 0.0])


@pytest.mark.parametrize("chosen", [CORE, SUMMARY])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 2), (99, 299), (64, 251)])
def test_a_value_that_is_not_finite_is_named_by_row_and_column(
    chosen: tuple[str, ...], value: float, row: int, column: int
) -> None:
    days = pd.date_range("2024-01-01", periods=100)
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(0, 0.01, (100, 300)), days, [f"strategy {k}" for k in range(300)]
    )
    frame.iloc[row, column] = frame.iloc[99, 299] = value
    named = rf"returns: {value} at row {days[row]}, column strategy {column} \((1|2) of 30000 not finite\)"
    with pytest.raises(DataError, match=named):
        metrics.performance_table(frame, PERIODS, chosen)
    for array in (np.ascontiguousarray(frame.to_numpy()), np.asfortranarray(frame.to_numpy())):
        with pytest.raises(DataError, match=f"row {row}, column {column}"):
            metrics.performance_table(array, PERIODS, chosen)


@pytest.mark.parametrize("figure", SUMMARY)
def test_a_series_of_infinities_is_refused_and_nothing_is_written_out_of_bounds(figure: str) -> None:
    endless = np.full(500, math.inf)
    with pytest.raises(DataError, match=r"inf at row 0, column 1 \(500 of 1000 not finite\)"):
        metrics.performance_table(np.asfortranarray(np.column_stack([noise(500), endless])), PERIODS, [figure])


def test_finite_returns_whose_sum_is_too_large_are_no_missing_data() -> None:
    huge = np.array([0.0, 1e308, 1e308])
    assert not return_figures(huge, PERIODS)[1]
    assert metrics.win_rate(huge) == 1.0
    assert len(metrics.performance_table(np.column_stack([huge, -huge]), PERIODS)) == 2
