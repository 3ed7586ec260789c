"""Sample weights: the book's numbers, and its formulas on an indicator matrix of bars by labels."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.features import (
    average_uniqueness,
    concurrency,
    cusum_filter,
    daily_volatility,
    fixed_horizon_labels,
    known_by,
    return_weights,
    sequential_bootstrap,
    sequential_probabilities,
    time_decay,
    triple_barrier,
)
from tradelib.indicators import probe_bars


def lives(*spans):
    """A table of labels that live on the given rows."""
    rows, ends = zip(*spans, strict=True) if spans else ((), ())
    return pd.DataFrame({"row": rows, "end_row": ends, "end_time": ends}, dtype=np.int64)


BOOK = lives((0, 2), (2, 3), (4, 5))
"""AFML 4.5.3: the indicator matrix with columns 111000, 001100, 000011."""


def matrix(labels):
    """Bars by labels: 1 where a label lives on a bar. AFML snippet 4.3."""
    found = np.zeros((int(labels["end_row"].max()) + 1, len(labels)))
    for i, (row, end) in enumerate(zip(labels["row"], labels["end_row"], strict=True)):
        found[row : end + 1, i] = 1.0
    return found


def uniqueness_of(found):
    """Mean over the life of 1 / concurrency, per column. AFML snippet 4.4."""
    shares = found / np.maximum(found.sum(axis=1, keepdims=True), 1.0)
    return shares.sum(axis=0) / found.sum(axis=0)


def next_shares(found, drawn):
    """Uniqueness of each label if it were drawn next. AFML snippet 4.5."""
    return np.array(
        [uniqueness_of(np.column_stack([found[:, [*drawn]], found[:, i]]))[-1] for i in range(found.shape[1])]
    )


def some(count=60, seed=0, life=12, bars=80):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, bars, count)
    return lives(*zip(rows, rows + rng.integers(0, life, count), strict=True))


# -- the book's example ------------------------------------------------------------------------------------------------


def test_the_concurrency_of_the_books_example():
    assert concurrency(BOOK, 6).tolist() == [1, 1, 2, 1, 1, 1]


def test_the_uniqueness_of_the_books_example():
    """0.8333, 0.75 and 1.0: hudson-and-thames/mlfinlab, tests/test_sampling.py, test_get_ind_mat_uniqueness."""
    np.testing.assert_allclose(average_uniqueness(BOOK), [5 / 6, 3 / 4, 1.0], rtol=1e-15)


def test_the_probabilities_of_the_books_example():
    """AFML 4.5.3: 1/3 each, then 5/14, 3/14, 6/14 once label 1 was drawn; mlfinlab test_bootstrap_loop_run:
    0.35714286, 0.21428571, 0.42857143."""
    np.testing.assert_allclose(sequential_probabilities(BOOK), [1 / 3] * 3, rtol=1e-15)
    np.testing.assert_allclose(sequential_probabilities(BOOK, [1]), [5 / 14, 3 / 14, 6 / 14], rtol=1e-15)
    np.testing.assert_allclose(sequential_probabilities(BOOK, [1]), [0.35714286, 0.21428571, 0.42857143], atol=5e-9)


def test_the_experiment_of_the_book():
    """AFML 4.5.4: ten labels of 1 to 4 further bars begin among 100; medians of the mean uniqueness 0.6 and 0.7."""
    rng = np.random.default_rng(0)
    standard, sequential = [], []
    for _ in range(400):
        rows = np.unique(rng.integers(0, 100, 10))
        labels = lives(*zip(rows, rows + rng.integers(1, 5, len(rows)), strict=True))
        for found, drawn in (
            (standard, rng.integers(0, len(rows), len(rows))),
            (sequential, sequential_bootstrap(labels, seed=rng)),
        ):
            found.append(average_uniqueness(labels.iloc[drawn]).mean())
    assert np.median(standard) == pytest.approx(0.6, abs=0.05)
    assert np.median(sequential) == pytest.approx(0.7, abs=0.05)


# -- against the matrix ------------------------------------------------------------------------------------------------


@given(st.integers(1, 80), st.integers(1, 40), st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_concurrency_and_uniqueness_are_those_of_the_matrix(count, life, seed):
    labels = some(count, seed, life)
    found = matrix(labels)
    np.testing.assert_array_equal(concurrency(labels, len(found)), found.sum(axis=1))
    np.testing.assert_allclose(average_uniqueness(labels), uniqueness_of(found), rtol=1e-12)
    assert average_uniqueness(labels).between(0.0, 1.0).all()


@pytest.mark.parametrize("drawn", [[], [3], [3, 3, 5], list(range(40))])
def test_probabilities_are_those_of_the_matrix(drawn):
    labels = some(40, 4)
    shares = next_shares(matrix(labels), drawn)
    np.testing.assert_allclose(sequential_probabilities(labels, drawn), shares / shares.sum(), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_are_those_of_the_slow_sampler(count, seed):
    """The same chances, each against the running sum of all shares computed from the matrix."""
    labels = some(count, seed).sort_values("row", kind="stable", ignore_index=True)
    found, drawn = matrix(labels), []
    for chance in np.random.default_rng(seed).random(count + 5):
        shares = next_shares(found, drawn)
        drawn.append(int(np.searchsorted(np.cumsum(shares), chance * shares.sum(), side="right")))
    assert sequential_bootstrap(labels, count + 5, seed).tolist() == drawn


def test_labels_in_any_order_are_drawn_alike():
    labels = some(50, 2).drop_duplicates("row")
    shuffled = labels.sample(frac=1.0, random_state=0)
    one = labels.iloc[sequential_bootstrap(labels, 200, 7)]
    other = shuffled.iloc[sequential_bootstrap(shuffled, 200, 7)]
    pd.testing.assert_frame_equal(one, other)


def test_how_often_each_is_drawn_second():
    """6,000 samples of two from the book's example: the second one, given that label 1 was the first."""
    rng = np.random.default_rng(3)
    pairs = np.array([sequential_bootstrap(BOOK, 2, rng) for _ in range(6_000)])
    second = np.bincount(pairs[pairs[:, 0] == 1, 1], minlength=3) / (pairs[:, 0] == 1).sum()
    np.testing.assert_allclose(np.bincount(pairs[:, 0]) / len(pairs), [1 / 3] * 3, atol=0.015)
    np.testing.assert_allclose(second, [5 / 14, 3 / 14, 6 / 14], atol=0.025)


def test_draws_repel_each_other():
    """Two labels without an overlap are drawn half the time each: a coin strays by a hundred, this one comes back."""
    drawn = sequential_bootstrap(lives((0, 0), (1, 1)), 10_000, 5)
    assert abs(drawn.sum() - 5_000) < 60


# -- weights by return -------------------------------------------------------------------------------------------------


def snippet_4_10(labels, close):
    """AFML snippet 4.10, on rows."""
    returns = pd.Series(np.log(np.asarray(close))).diff()
    counts = pd.Series(matrix(labels).sum(axis=1))
    weights = [
        (returns.iloc[a : b + 1] / counts.iloc[a : b + 1]).sum() for a, b in labels[["row", "end_row"]].to_numpy()
    ]
    weights = np.abs(weights)
    return weights * len(weights) / weights.sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_return_weights_are_the_snippet(seed):
    labels = some(50, seed)
    close = pd.Series(probe_bars(100, seed)["close"].to_numpy())
    weights = return_weights(labels, close)
    np.testing.assert_allclose(weights, snippet_4_10(labels, close), rtol=1e-10)
    assert weights.sum() == pytest.approx(50)


def test_return_weights_of_three_labels_by_hand():
    """ln 2 on bar 2 is shared by labels 0 and 1; -ln 2 on bar 4 is label 2's alone: 1/2, 1/2, 1, scaled to sum 3."""
    np.testing.assert_allclose(return_weights(BOOK, np.array([1, 1, 2, 2, 1, 1.0])), [0.75, 0.75, 1.5])


def test_where_nothing_moved_nothing_weighs():
    assert return_weights(BOOK, np.full(6, 3.0)).tolist() == [0.0, 0.0, 0.0]


# -- time decay --------------------------------------------------------------------------------------------------------


def snippet_4_11(uniqueness, c):
    """AFML snippet 4.11."""
    weights = uniqueness.cumsum()
    slope = (1 - c) / weights.iloc[-1] if c >= 0 else 1 / ((c + 1) * weights.iloc[-1])
    weights = 1 - slope * weights.iloc[-1] + slope * weights
    weights[weights < 0] = 0
    return weights


@pytest.mark.parametrize("c", [1.0, 0.75, 0.5, 0.0, -0.25, -0.5, -0.99])
def test_time_decay_is_the_snippet(c):
    uniqueness = average_uniqueness(some(200, 1).sort_values("row"))
    np.testing.assert_allclose(time_decay(uniqueness, c), snippet_4_11(uniqueness, c), rtol=1e-9, atol=1e-12)


def test_time_decay_of_four_even_labels():
    even = pd.Series(np.ones(4))
    assert time_decay(even).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert time_decay(even, 0.5).tolist() == [0.625, 0.75, 0.875, 1.0]
    assert time_decay(even, -0.5).tolist() == [0.0, 0.0, 0.5, 1.0]


# -- interpreted, short, refused ---------------------------------------------------------------------------------------


def everything(labels):
    close = probe_bars(200, 1)["close"].to_numpy()
    return [
        concurrency(labels, 200),
        average_uniqueness(labels),
        sequential_probabilities(labels, [0]),
        pd.Series(sequential_bootstrap(labels, 50, 1)),
        return_weights(labels, close),
    ]


def test_interpreted_as_compiled():
    compiled = everything(some(70, 6))
    with interpreted():
        for one, other in zip(everything(some(70, 6)), compiled, strict=True):
            pd.testing.assert_series_equal(one, other, check_exact=True)


def test_one_label_and_none():
    assert sequential_bootstrap(lives((0, 4)), 3).tolist() == [0, 0, 0]
    none = lives()
    assert len(average_uniqueness(none)) == len(time_decay(average_uniqueness(none))) == 0
    assert len(return_weights(none, np.ones(3))) == 0
    assert concurrency(none, 3).tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="nothing to draw from"):
        sequential_bootstrap(none)


def test_a_label_that_is_not_known_yet_has_no_weight():
    close = probe_bars(60)["close"]
    labels = fixed_horizon_labels(close, 10)
    with pytest.raises(DataError, match="label of 2000-02-20 .* is not known yet: give known_by"):
        average_uniqueness(labels)
    known = known_by(labels, close.index[-1])
    assert concurrency(known, close.index).max() == 11  # the event's bar and the ten after it
    assert average_uniqueness(known).iloc[25] == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        (lambda: concurrency(BOOK, 5), DataError, "label 2 lives on rows 4 to 5: there are 5 bars"),
        (lambda: average_uniqueness(lives((3, 2))), DataError, "label 0 lives on rows 3 to 2"),
        (lambda: average_uniqueness(pd.DataFrame({"row": [1]})), DataError, "no table of labels: it lacks end_row"),
        (lambda: return_weights(BOOK, np.zeros(6)), DataError, "needs positive prices"),
        (lambda: return_weights(BOOK, np.ones(5)), DataError, "there are 5 bars"),
        (lambda: sequential_probabilities(BOOK, [3]), ParameterError, r"positions among 3 labels; got \[3\]"),
        (lambda: sequential_bootstrap(BOOK, 0), ParameterError, "size must be a whole number"),
        (lambda: time_decay(pd.Series([1.0]), 1.5), ParameterError, "at most at 1; got 1.5"),
        (lambda: time_decay(pd.Series([1.0]), -1.0), ParameterError, "above -1 and at most at 1; got -1.0"),
        (lambda: time_decay(pd.Series([0.0, 0.0])), DataError, "not all of them 0"),
        (lambda: time_decay(pd.Series([1.0, math.nan, 1.0])), DataError, "holds nan"),
    ],
)
def test_what_is_refused(call, error, what):
    with pytest.raises(error, match=what):
        call()


def test_years_of_an_index_equal_the_matrix():
    close = embedded("nasdaq")["close"].iloc[:800]
    volatility = daily_volatility(close)
    events = cusum_filter(np.log(close), 2.0 * volatility)
    labels = known_by(triple_barrier(close, events, 2.0, 2.0, 20, volatility), close.index[-1])
    np.testing.assert_allclose(average_uniqueness(labels), uniqueness_of(matrix(labels)), rtol=1e-12)
    np.testing.assert_allclose(return_weights(labels, close), snippet_4_10(labels, close), rtol=1e-9)
