"""Splits: nothing that trains may share a bar with what tests, and every row is tested as often as promised."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit, cross_val_score

from tradelib.errors import DataError, ParameterError
from tradelib.features.labels import fixed_horizon_labels, triple_barrier
from tradelib.validation.splits import CombinatorialPurgedCV, PurgedKFold, Splitter, WalkForward


def reaching(n: int, horizon: int) -> pd.DataFrame:
    """Labels on every bar, known `horizon` bars later."""
    return pd.DataFrame({"row": np.arange(n), "end_row": np.arange(n) + horizon})


def told(splitter: Splitter, rows: object) -> list[tuple[list[int], list[int]]]:
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(rows)]


# -- By hand: 12 rows in 3 folds of 4, labels known 2 bars later, embargo of 1 bar. Fold 4..7 holds labels that end on
#    bar 9: rows 2, 3 reach into it, rows 8, 9 start inside it, row 10 is embargoed.


def test_purge_and_embargo_by_hand() -> None:
    assert told(PurgedKFold(3, embargo=1), reaching(12, 2)) == [
        ([7, 8, 9, 10, 11], [0, 1, 2, 3]),
        ([0, 1, 11], [4, 5, 6, 7]),
        ([0, 1, 2, 3, 4, 5], [8, 9, 10, 11]),
    ]


def test_the_embargo_starts_after_the_end_of_the_longest_test_label() -> None:
    labels = pd.DataFrame({"row": range(9), "end_row": [0, 1, 2, 7, 4, 5, 6, 7, 8]})  # row 3 reaches to bar 7
    assert told(PurgedKFold(3), labels)[1] == ([0, 1, 2, 8], [3, 4, 5])
    with pytest.raises(DataError, match="nothing to train on"):
        told(PurgedKFold(2, embargo=9), labels)


def test_folds_of_uneven_length_are_those_of_numpy() -> None:
    assert [len(test) for _, test in PurgedKFold(4).split(range(10))] == [3, 3, 2, 2]


def test_end_times_say_the_same_as_a_table_of_rows() -> None:
    close = pd.Series(np.linspace(100.0, 120.0, 40), pd.date_range("2024-01-01", periods=40, tz="UTC"))
    table = fixed_horizon_labels(close, horizon=3)
    for splitter in (PurgedKFold, CombinatorialPurgedCV):
        assert told(splitter(embargo=2), table) == told(splitter(embargo=2), table["end_time"])


def test_events_with_bars_between_them_are_purged_by_bar_not_by_row() -> None:
    labels = pd.DataFrame({"row": [0, 10, 20, 30], "end_row": [5, 15, 30, 35]})
    assert told(PurgedKFold(4), labels)[2] == ([0, 1], [2])  # the label of bar 20 ends on the bar where the next begins
    assert told(PurgedKFold(4, embargo=20), labels)[0] == ([3], [0])  # bar 30 starts after 5 + 20


# -- Independent: scikit-learn where nothing is to be purged, skfolio 1.12.2 where labels reach a fixed number of bars.


@given(n=st.integers(10, 60), folds=st.integers(2, 6))
def test_without_reach_it_is_the_k_fold_of_scikit_learn(n: int, folds: int) -> None:
    theirs = [(train.tolist(), test.tolist()) for train, test in KFold(folds).split(np.zeros(n))]
    assert told(PurgedKFold(folds), range(n)) == theirs


@given(test=st.integers(1, 7), gap=st.integers(0, 5), windows=st.integers(2, 5), train=st.integers(1, 9))
def test_anchored_windows_are_the_time_series_split_of_scikit_learn(
    test: int, gap: int, windows: int, train: int
) -> None:
    n = train + gap + windows * test
    theirs = TimeSeriesSplit(windows, test_size=test, gap=gap).split(np.zeros(n))
    mine = told(WalkForward(train, test, gap=gap, anchored=True), range(n))
    assert mine == [(train.tolist(), test.tolist()) for train, test in theirs]


def test_rolling_windows_and_the_short_last_one() -> None:
    assert told(WalkForward(4, 3, gap=1), range(10)) == [([0, 1, 2, 3], [5, 6, 7]), ([3, 4, 5, 6], [8, 9])]
    assert WalkForward(4, 3, gap=1).get_n_splits(range(10)) == 2


def test_walk_forward_trains_on_labels_known_before_the_test() -> None:
    assert told(WalkForward(4, 2), reaching(8, 2)) == [([0, 1], [4, 5]), ([2, 3], [6, 7])]


SKFOLIO = {
    # skfolio 1.12.2: CombinatorialPurgedCV(n_folds=4, n_test_folds=2, purged_size=1, embargo_size=1), 20 rows
    (0, 1): [12, 13, 14, 15, 16, 17, 18, 19],
    (0, 2): [7, 8, 17, 18, 19],
    (0, 3): [7, 8, 9, 10, 11, 12, 13],
    (1, 2): [0, 1, 2, 3, 17, 18, 19],
    (1, 3): [0, 1, 2, 3, 12, 13],
    (2, 3): [0, 1, 2, 3, 4, 5, 6, 7, 8],
}


def test_training_rows_are_those_of_skfolio() -> None:
    cv = CombinatorialPurgedCV(4, 2, embargo=1)
    for (train, test), (groups, expected) in zip(cv.split(reaching(20, 1)), SKFOLIO.items(), strict=True):
        assert train.tolist() == expected
        assert test.tolist() == [row for group in groups for row in range(5 * group, 5 * group + 5)]


def test_paths_of_the_book() -> None:
    """AFML figure 12.1 and 12.2: 6 groups, 2 tested: 15 splits, 5 paths; skfolio's recombined_paths are the same."""
    cv = CombinatorialPurgedCV(6, 2)
    assert (cv.get_n_splits(), cv.n_paths) == (15, 5)
    assert cv.paths.T.tolist() == [
        [0, 1, 2, 3, 4],
        [0, 5, 6, 7, 8],
        [1, 5, 9, 10, 11],
        [2, 6, 9, 12, 13],
        [3, 7, 10, 12, 14],
        [4, 8, 11, 13, 14],
    ]


# -- Properties


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Events in order, with labels of any reach."""
    gaps = draw(st.lists(st.integers(0, 4), min_size=12, max_size=40))
    rows = np.cumsum(gaps)
    reach = draw(st.lists(st.integers(0, 5), min_size=len(gaps), max_size=len(gaps)))
    return pd.DataFrame({"row": rows, "end_row": rows + np.array(reach)})


SPLITTERS = [
    PurgedKFold(3, embargo=2),
    CombinatorialPurgedCV(4, 2, embargo=2),
    WalkForward(5, 3),
    WalkForward(5, 3, 1, True),
]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
@given(labels=tables())
@settings(max_examples=60)
def test_what_trains_shares_no_bar_with_what_tests(splitter: Splitter, labels: pd.DataFrame) -> None:
    first, last = labels["row"].to_numpy(), labels["end_row"].to_numpy()
    splits = splitter.split(labels)
    while True:
        try:
            train, test = next(splits)
        except (StopIteration, DataError):  # nothing left to train on is refused, never trained on
            return
        for row in train:
            shared = (first[row] <= last[test]) & (first[test] <= last[row])
            assert not shared.any()
            assert row not in test


@given(n=st.integers(12, 40), groups=st.integers(3, 6), data=st.data())
def test_every_row_is_tested_once_on_every_path(n: int, groups: int, data: st.DataObject) -> None:
    cv = CombinatorialPurgedCV(groups, data.draw(st.integers(1, groups - 1)))
    splits = list(cv.split(range(n)))
    assert len(splits) == comb(groups, cv.test_groups)
    counts = np.bincount(np.concatenate([test for _, test in splits]), minlength=n)
    assert (counts == cv.n_paths).all()
    own = cv.backtest_paths([test / n for _, test in splits], pd.RangeIndex(n)).returns
    assert np.array_equal(own.to_numpy(), np.tile(np.arange(n) / n, (cv.n_paths, 1)).T)


@given(groups=st.integers(2, 8), data=st.data())
def test_splits_and_paths_are_lexicographic(groups: int, data: st.DataObject) -> None:
    cv = CombinatorialPurgedCV(groups, data.draw(st.integers(1, groups - 1)))
    assert list(map(tuple, cv.tested.tolist())) == list(combinations(range(groups), cv.test_groups))
    assert cv.paths.shape == (cv.n_paths, groups)
    assert (np.diff(cv.paths, axis=0) > 0).all()


# -- With scikit-learn, the labels of the features room, and figures


def test_it_is_a_cv_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    close = pd.Series(100.0 * np.exp(0.01 * rng.standard_normal(200).cumsum()))
    labels = triple_barrier(close, horizon=10, target=0.02).dropna()
    features = pd.DataFrame({"x": close}).loc[labels.index]
    for cv in (
        PurgedKFold(4, embargo=5, labels=labels),
        CombinatorialPurgedCV(4, 2, labels=labels),
        WalkForward(60, 40, labels=labels),
    ):
        scores = cross_val_score(DummyClassifier(), features, labels["label"], cv=cv)
        assert len(scores) == cv.get_n_splits(features)
        assert GridSearchCV(DummyClassifier(), {}, cv=cv).fit(features, labels["label"]).n_splits_ == len(scores)


def test_a_figure_draws_every_row_of_every_split_once() -> None:
    figure = PurgedKFold(3, embargo=1).plot(reaching(12, 2))
    assert [trace.name for trace in figure.data] == ["train", "test", "left out"]
    assert sum(sum(trace.x) for trace in figure.data) == 3 * 12


def test_paths_tell_their_distribution() -> None:
    cv = CombinatorialPurgedCV(3, 2)
    paths = cv.backtest_paths([[0.1, 0.1], [0.1, -0.1], [-0.1, 0.3]])
    # path 0: groups from splits 0, 0, 1; path 1: from splits 1, 2, 2
    assert paths.returns.to_numpy().T.tolist() == [[0.1, 0.1, -0.1], [0.1, -0.1, 0.3]]
    # mean 1/30, ddof 1 variance of (0.1, 0.1, -0.1) = 0.04/3; mean 0.1, variance 0.04
    assert paths.sharpes == pytest.approx([(1 / 30) / np.sqrt(0.04 / 3), 0.5], rel=1e-12)
    assert paths.to_frame()["total_return"].tolist() == pytest.approx([1.1 * 1.1 * 0.9 - 1, 1.1 * 0.9 * 1.3 - 1])
    assert paths.interpretation == "0 of 2 histories lose; their Sharpe ratios run from 0.2887 to 0.5000 per period."
    assert len(paths.plot().data) == 2
    assert "0 of 2 histories" in paths.summary()
    assert "0 of 2 histories" in paths._repr_html_()


def test_paths_that_never_vary_are_undefined_in_words() -> None:
    flat = CombinatorialPurgedCV(3, 2).backtest_paths([[0.01, 0.01]] * 3)
    assert np.isnan(flat.sharpes).all()
    assert flat.interpretation.startswith("Undefined")


# -- Refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PurgedKFold(1), "n_splits must be a whole number of at least 2; got 1"),
        (lambda: PurgedKFold(5, embargo=-1), "embargo must be a whole number of at least 0; got -1"),
        (lambda: PurgedKFold(5, embargo=0.01), "embargo must be a whole number"),
        (lambda: WalkForward(0, 5), "train_size must be a whole number of at least 1; got 0"),
        (lambda: CombinatorialPurgedCV(4, 4), r"test_groups \(4\) must be fewer than n_groups \(4\)"),
        (lambda: CombinatorialPurgedCV(40, 20), "splits, each a fit"),
        (lambda: WalkForward(5, 5).get_n_splits(), "depends on the data"),
    ],
)
def test_arguments_without_a_meaning_are_refused(make: object, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("splitter", "rows", "said"),
    [
        (PurgedKFold(9), range(8), "8 rows cannot be cut into 9 folds"),
        (PurgedKFold(2), pd.DataFrame({"row": [1, 0], "end_row": [1, 1]}), "in the order of their start"),
        (PurgedKFold(2), pd.DataFrame({"row": [0, 2], "end_row": [1, 1]}), "the label of 1 ends before it starts"),
        (PurgedKFold(2, labels=reaching(5, 1)), range(4), "4 rows to split but 5 labels"),
        (PurgedKFold(2, labels=[1, 2]), range(2), "row and end_row"),
        (WalkForward(8, 1), range(8), "8 rows leave no test after 8 of training and a gap of 0"),
        (WalkForward(2, 1), reaching(5, 4), "no label of rows 0 to 1 is known before row 2"),
    ],
)
def test_data_that_cannot_be_split_are_refused(splitter: Splitter, rows: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        told(splitter, rows)


def test_features_on_other_times_than_their_labels_are_refused() -> None:
    index = pd.date_range("2024-01-01", periods=6)
    labels = reaching(6, 1).set_index(index)
    with pytest.raises(DataError, match="row 0 is 2024-01-02 00:00:00 but its label is of 2024-01-01"):
        told(PurgedKFold(2, labels=labels), pd.DataFrame({"x": 0.0}, index=index.shift(1)))


def test_returns_that_do_not_fit_the_splits_are_refused() -> None:
    cv = CombinatorialPurgedCV(3, 2)
    with pytest.raises(DataError, match="2 arrays of returns for 3 splits"):
        cv.backtest_paths([[0.1, 0.1]] * 2)
    with pytest.raises(DataError, match="split 1 needs 2 numbers"):
        cv.backtest_paths([[0.1, 0.1], [0.1, np.nan], [0.1, 0.1]])
