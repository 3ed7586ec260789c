"""Rows of a table, each by itself: equal to the slow and obvious formula, deaf to order, scale and other days."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, zscore

from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    cross_buckets,
    cross_demean,
    cross_neutralise,
    cross_rank,
    cross_winsorise,
    cross_zscore,
    long_short_weights,
    top_and_bottom,
)

Table = Callable[[pd.DataFrame], pd.DataFrame]
SECTORS = {f"S{i}": "ABC"[i % 3] for i in range(40)}
ALL: dict[str, Table] = {
    "rank": cross_rank,
    "rank first": lambda frame: cross_rank(frame, "first"),
    "zscore": cross_zscore,
    "demean": cross_demean,
    "winsorise": cross_winsorise,
    "neutralise": lambda frame: cross_neutralise(frame, SECTORS),
    "buckets": cross_buckets,
    "top and bottom": lambda frame: top_and_bottom(frame, 4),
    "weights": long_short_weights,
    "raw weights": lambda frame: long_short_weights(frame, neutral=False),
}


def table(n: int = 60, symbols: int = 40, seed: int = 0, holes: float = 0.2, ties: bool = True) -> pd.DataFrame:
    """Scores with holes, with equal values, and with one empty row, one row of one value, and one of equal values."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.0, 3.0, (n, symbols))
    values = np.round(values) if ties else values
    values[rng.random(values.shape) < holes] = np.nan
    if n > 3:
        values[1], values[2], values[3] = np.nan, np.nan, 0.1
        values[2, 5] = 4.0
    index = pd.date_range("2024", periods=n, tz="UTC", name="time")
    return pd.DataFrame(values, index=index, columns=[f"S{i}" for i in range(symbols)])


def row_by_row(frame: pd.DataFrame, function: Callable[[np.ndarray], np.ndarray]) -> pd.DataFrame:
    """`function` of the known values of each row, put back where they were."""
    result = frame.copy()
    for t in range(len(frame)):
        known = frame.iloc[t].notna().to_numpy()
        if known.any():
            result.iloc[t, np.flatnonzero(known)] = function(frame.iloc[t].to_numpy()[known])
    return result


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, tolerance: float = 1e-12) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=tolerance, atol=tolerance)


# -- each against the obvious formula ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ties", "theirs"), [("average", "average"), ("min", "min"), ("max", "max"), ("first", "ordinal")]
)
def test_ranks_are_those_of_scipy(ties: str, theirs: str) -> None:
    def expected(values: np.ndarray) -> np.ndarray:
        return (rankdata(values, theirs) - 1) / (len(values) - 1) if len(values) > 1 else np.array([0.5])

    assert_same(cross_rank(table(), ties), row_by_row(table(), expected))


def test_zscores_are_those_of_scipy() -> None:
    def expected(values: np.ndarray) -> np.ndarray:
        return zscore(values, ddof=1) if len(set(values)) > 1 else np.full(len(values), np.nan)

    assert_same(cross_zscore(table()), row_by_row(table(), expected))


def test_differences_to_the_mean() -> None:
    assert_same(cross_demean(table()), row_by_row(table(), lambda values: values - values.mean()))


@pytest.mark.parametrize(("lower", "upper"), [(0.05, 0.95), (0.0, 1.0), (0.0, 0.5), (0.25, 0.26)])
def test_outliers_are_moved_to_the_quantiles_of_numpy(lower: float, upper: float) -> None:
    def expected(values: np.ndarray) -> np.ndarray:
        return np.clip(values, *np.quantile(values, [lower, upper]))

    assert_same(cross_winsorise(table(), lower, upper), row_by_row(table(), expected))


def test_group_means_are_those_of_pandas() -> None:
    frame = table()
    groups = pd.Series(SECTORS)
    assert_same(cross_neutralise(frame, SECTORS), frame - frame.T.groupby(groups).transform("mean").T)
    assert_same(cross_neutralise(frame, groups), cross_neutralise(frame, SECTORS), 0.0)


def test_groups_may_change_with_time() -> None:
    frame = table(seed=3)
    groups = pd.DataFrame([list(SECTORS.values())] * 30 + [["A"] * 40] * 30, frame.index, frame.columns)
    found = cross_neutralise(frame, groups)
    assert_same(found.iloc[:30], cross_neutralise(frame.iloc[:30], SECTORS))
    assert_same(found.iloc[30:], cross_demean(frame.iloc[30:]))


@pytest.mark.parametrize("buckets", [2, 3, 5, 10])
def test_buckets_are_those_of_pandas_qcut(buckets: int) -> None:
    """Where values are distinct, and no quantile falls on one of them but for rounding."""

    def expected(values: np.ndarray) -> np.ndarray:
        if len(values) < buckets:
            return np.full(len(values), np.nan)
        places = rankdata(values, "min") - 1.0  # whole numbers: their quantiles are hardly rounded
        edges = np.quantile(np.arange(len(values)), np.arange(1, buckets) / buckets)
        return 1.0 + (places[:, None] > edges[None, :] + 1e-9).sum(axis=1)

    assert_same(cross_buckets(table(), buckets), row_by_row(table(), expected))
    distinct = pd.DataFrame(np.random.default_rng(1).normal(size=(20, 37)))
    by_qcut = distinct.apply(lambda row: pd.qcut(row, buckets, labels=False) + 1.0, axis=1)
    assert_same(cross_buckets(distinct, buckets), by_qcut)


def test_the_highest_and_the_lowest() -> None:
    def expected(values: np.ndarray) -> np.ndarray:
        marks = np.zeros(len(values))
        if len(values) >= 8:
            order = np.argsort(values, kind="stable")
            marks[order[:4]], marks[order[-4:]] = -1.0, 1.0
        return marks

    assert_same(top_and_bottom(table(), 4), row_by_row(table(), expected), 0.0)


def test_by_hand() -> None:
    """Scores 1, 2, 2, 5: mean 2.5, deviations -1.5, -0.5, -0.5, 2.5, their sizes sum to 5."""
    frame = pd.DataFrame([[1.0, 2.0, np.nan, 2.0, 5.0]], columns=list("ABCDE"))
    np.testing.assert_allclose(long_short_weights(frame), [[-0.3, -0.1, np.nan, -0.1, 0.5]], rtol=1e-15)
    np.testing.assert_allclose(long_short_weights(frame, neutral=False), [[0.1, 0.2, np.nan, 0.2, 0.5]], rtol=1e-15)
    np.testing.assert_array_equal(cross_rank(frame), [[0.0, 0.5, np.nan, 0.5, 1.0]])
    np.testing.assert_array_equal(top_and_bottom(frame, 2), [[-1.0, -1.0, np.nan, 1.0, 1.0]])
    np.testing.assert_array_equal(cross_buckets(frame, 2), [[1.0, 1.0, np.nan, 1.0, 2.0]])


# -- what they all keep ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_tradable_stays_so_and_nobody_else_does(name: str) -> None:
    """But for rows too small to tell: a single value, equal values, fewer than buckets."""
    frame = table()
    found = ALL[name](frame)
    assert found.index.equals(frame.index)
    assert found.columns.equals(frame.columns)
    assert found.isna()[frame.isna()].to_numpy()[frame.isna().to_numpy()].all()
    assert found.drop(frame.index[[1, 2, 3]]).notna().equals(frame.drop(frame.index[[1, 2, 3]]).notna())
    assert (found.dtypes == np.float64).all()


@pytest.mark.parametrize("name", ALL)
def test_other_days_are_of_no_account(name: str) -> None:
    """The past alone, and not even that: any rows, alone, give the same bits."""
    frame = table()
    whole = ALL[name](frame)
    for rows in (slice(0, 20), slice(37, 38), slice(20, 60, 3)):
        pd.testing.assert_frame_equal(ALL[name](frame.iloc[rows]), whole.iloc[rows], check_exact=True)


@pytest.mark.parametrize("name", ["rank", "zscore", "demean", "winsorise", "neutralise", "buckets", "weights"])
def test_the_order_of_the_columns_is_of_no_account(name: str) -> None:
    frame = table()
    shuffled = frame[np.random.default_rng(4).permutation(frame.columns)]
    assert_same(ALL[name](shuffled)[frame.columns], ALL[name](frame), 1e-12)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (1, 1), (0, 0)])
def test_empty_tables_and_single_cells_are_no_error(name: str, shape: tuple[int, int]) -> None:
    frame = pd.DataFrame(np.ones(shape), columns=[f"S{i}" for i in range(shape[1])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ALL[name](frame).shape == shape


@pytest.mark.parametrize("name", ALL)
def test_odd_rows_give_neither_infinity_nor_a_warning_and_leave_the_input_alone(name: str) -> None:
    frame = table()
    frame.iloc[10] = 1e300 * np.sign(frame.iloc[10])
    frame.iloc[11] = frame.iloc[11] * 1e-300
    before = frame.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ALL[name](frame / 1e150)
    assert not np.isinf(found.to_numpy()).any()
    pd.testing.assert_frame_equal(frame, before)


BAD: dict[str, tuple[Callable[[pd.DataFrame], object], type[Exception], str]] = {
    "infinite": (lambda f: cross_rank(f.replace(4.0, np.inf)), DataError, r"S\d+ is inf at 2024-01-01"),
    "twice": (lambda f: cross_demean(pd.concat([f, f["S7"]], axis=1)), DataError, "the symbol S7 occurs twice"),
    "order": (lambda f: cross_zscore(f.iloc[::-1]), DataError, "in time order"),
    "repeated": (lambda f: cross_zscore(pd.concat([f, f.iloc[-1:]])), DataError, "each time once"),
    "series": (lambda f: cross_rank(f["S1"]), DataError, "time x symbol; got Series"),
    "text": (lambda f: cross_rank(f.astype({"S3": str})), DataError, "S3 holds str, not numbers"),
    "ties": (lambda f: cross_rank(f, "dense"), ParameterError, "ties must be one of average, min, max, first"),
    "quantiles": (lambda f: cross_winsorise(f, 0.9, 0.1), ParameterError, "0 <= lower < upper <= 1"),
    "homeless": (lambda f: cross_neutralise(f, {"S0": "A"}), DataError, "S1 has no group at 2024-01-01"),
    "groups": (lambda f: cross_neutralise(f, "sector"), ParameterError, "must map symbols to groups"),
    "one bucket": (lambda f: cross_buckets(f, 1), ParameterError, "buckets must be a whole number"),
    "none of them": (lambda f: top_and_bottom(f, 0), ParameterError, "n must be a whole number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name: str) -> None:
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call(table(holes=0.0))


def test_a_symbol_that_is_not_tradable_needs_no_group() -> None:
    frame = pd.DataFrame([[1.0, 3.0, np.nan]], columns=["A", "B", "NEW"])
    np.testing.assert_array_equal(cross_neutralise(frame, {"A": 1, "B": 1}), [[-1.0, 1.0, np.nan]])


# -- properties --------------------------------------------------------------------------------------------------------

ROWS = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(np.nan)), min_size=1, max_size=30)


@given(ROWS)
@settings(max_examples=80, deadline=None)
def test_bounds_hold_for_any_row(row: list[float]) -> None:
    frame = pd.DataFrame([row])
    rank, weights = cross_rank(frame).to_numpy(), long_short_weights(frame).to_numpy()
    assert np.nanmin(rank, initial=0.0) >= 0.0
    assert np.nanmax(rank, initial=0.0) <= 1.0
    gross = np.nansum(np.abs(weights))
    assert gross == pytest.approx(1.0) or gross == 0.0
    assert np.nansum(weights) == pytest.approx(0.0, abs=1e-9)
    known = frame.iloc[0].dropna()
    assert (gross == 0.0) == (known.nunique() <= 1)


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_scale_and_shift(scale: float, shift: float) -> None:
    frame = table(20, ties=False)
    moved = frame * scale + shift
    for function in (cross_rank, cross_buckets):
        pd.testing.assert_frame_equal(function(moved), function(frame), check_exact=True)
    for function in (cross_zscore, long_short_weights):
        assert_same(function(moved), function(frame), 1e-6)
    assert_same(cross_demean(moved), cross_demean(frame) * scale, 1e-6)


def test_a_common_level_costs_no_digit() -> None:
    near = pd.DataFrame(2.0**20 + np.random.default_rng(2).normal(0.0, 0.01, (30, 200)))
    groups = {column: column % 7 for column in near.columns}
    assert_same(cross_zscore(near), cross_zscore(near - 2.0**20), 1e-12)
    assert_same(cross_neutralise(near, groups), cross_neutralise(near - 2.0**20, groups), 1e-15)


@pytest.mark.parametrize("value", [0.1, 1e6 / 3, 7.3])
@pytest.mark.parametrize("count", [2, 7, 49])
def test_rows_of_equal_values_are_exactly_nothing(value: float, count: int) -> None:
    """Not a rounding of nothing, which a weight would blow up to full size: 49 times 1 / 49 is not 1."""
    frame = pd.DataFrame(np.full((3, count + 1), value)).mask(np.eye(3, count + 1, dtype=bool))
    assert (cross_demean(frame).stack().dropna() == 0.0).all()
    assert (long_short_weights(frame).stack().dropna() == 0.0).all()
    assert (cross_rank(frame).stack().dropna() == 0.5).all()
    assert cross_zscore(frame).isna().all(axis=None)
    assert (cross_buckets(frame, 2).stack().dropna() == 1.0).all()


@pytest.mark.parametrize(("known", "marks"), [(7, 0), (8, 8), (3, 0)])
def test_nobody_is_both_among_the_highest_and_the_lowest(known: int, marks: int) -> None:
    frame = pd.DataFrame([np.r_[np.arange(float(known)), np.nan]])
    found = top_and_bottom(frame, 4).iloc[0]
    assert (found.abs().sum(), found.isna().sum()) == (marks, 1)


@pytest.mark.real_data
def test_momentum_of_twenty_stocks(real_data: Path) -> None:
    """A year's return, ranked: the book is half long, half short, and follows the ranks at every row."""
    close = pd.read_parquet(real_data / "equities/sp500_20_close_1990_2022.parquet").set_index("date")
    momentum = close.pct_change(252)
    weights = long_short_weights(top_and_bottom(momentum, 4))
    known = momentum.notna().all(axis=1)
    assert (weights[known].abs().sum(axis=1) - 1.0).abs().max() < 1e-12
    assert weights[known].sum(axis=1).abs().max() < 1e-12
    assert weights[~known].isna().all(axis=None)
    held = cross_rank(momentum)[known].to_numpy()[weights[known].to_numpy() > 0]
    assert held.min() >= 16 / 19 - 1e-12
