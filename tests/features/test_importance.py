"""Importance finds what was planted: the informative first, noise at zero, substitutes judged together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import KFold, cross_val_score

from tradelib.errors import DataError, ParameterError
from tradelib.features import (
    FeatureImportance,
    cluster_features,
    mean_decrease_accuracy,
    mean_decrease_impurity,
    planted_features,
    purged_folds,
    single_feature_importance,
)
from tradelib.features.importance import _accuracy, _neg_log_loss, _r2, _share_lost

X, Y, ORIGIN = planted_features(1_200, informative=3, redundant=6, noise=4)
FOREST = RandomForestClassifier(60, max_features=1, min_samples_leaf=20, random_state=0)
NOISE = [name for name in X if name.startswith("N_")]
USEFUL = [name for name in X if not name.startswith("N_")]


@pytest.fixture(scope="module")
def accuracy() -> FeatureImportance:
    return mean_decrease_accuracy(FOREST, X, Y, repeats=2)


# -- folds -------------------------------------------------------------------------------------------------------------

DAYS = pd.date_range("2024-01-01", periods=12, freq="1D", tz="UTC")


def test_folds_are_blocks_of_time_as_array_split() -> None:
    folds = list(purged_folds(DAYS, 5))
    assert [test.tolist() for _, test in folds] == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9], [10, 11]]
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(12))


def test_labels_that_overlap_the_test_block_are_purged_and_the_embargo_starts_at_the_last_test_label() -> None:
    """Labels of two days. Test rows 4 ... 7: rows 2 and 3 end on or after row 4 begins; labels run until row 9, which
    is purged with row 8; an embargo of one row leaves out row 10."""
    ends = pd.Series(DAYS + pd.Timedelta(days=2), DAYS)
    folds = list(purged_folds(DAYS, 3, ends, embargo=1))
    assert folds[1][0].tolist() == [0, 1, 11]
    assert folds[1][1].tolist() == [4, 5, 6, 7]
    assert folds[0][0].tolist() == [7, 8, 9, 10, 11]
    assert folds[2][0].tolist() == [0, 1, 2, 3, 4, 5]


def test_no_training_label_shares_a_moment_with_a_test_label() -> None:
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=300, freq="1h", tz="UTC")
    ends = pd.Series(times + pd.to_timedelta(rng.integers(0, 40, 300), unit="h"), times)
    for train, test in purged_folds(times, 6, ends):
        first, last = times[test[0]], ends.iloc[test].max()
        assert ((ends.iloc[train] < first) | (times[train] > last)).all()


def test_folds_refuse_what_makes_no_sense() -> None:
    ends = pd.Series(DAYS + pd.Timedelta(days=30), DAYS)
    cases = [
        (lambda: list(purged_folds(DAYS, 1)), ParameterError, "take 2 or more folds"),
        (lambda: list(purged_folds(DAYS, 3, embargo=-1)), ParameterError, "embargo >= 0"),
        (lambda: list(purged_folds(DAYS, 3, ends)), DataError, "nothing to train on beside"),
        (lambda: list(purged_folds(DAYS, 3, ends - pd.Timedelta(days=60))), DataError, "not before the row"),
        (lambda: list(purged_folds(DAYS, 3, ends.iloc[1:])), DataError, "a time for each row"),
        (lambda: list(purged_folds(DAYS, 3, ends.where(ends.index != DAYS[3]))), DataError, "not known yet"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


def test_without_purging_noise_looks_predictable_and_with_it_not() -> None:
    rng = np.random.default_rng(3)
    walk = pd.Series(rng.normal(size=1_000).cumsum(), pd.date_range("2020-01-01", periods=1_000, tz="UTC"))
    ahead = (walk.shift(-10) - walk).dropna()
    table, label = pd.DataFrame({"level": walk}).loc[ahead.index], (ahead > 0).astype(int)
    until = pd.Series(ahead.index + pd.Timedelta(days=10), ahead.index)
    shuffled = KFold(5, shuffle=True, random_state=0).split(table)

    leaky = mean_decrease_accuracy(FOREST, table, label, folds=shuffled, scoring="accuracy")
    honest = mean_decrease_accuracy(FOREST, table, label, ends=until, embargo=10, scoring="accuracy")
    assert leaky.score > 0.6 > 0.56 > honest.score


# -- what was planted --------------------------------------------------------------------------------------------------


def test_the_planted_data_is_what_it_says() -> None:
    assert list(X) == [*(f"I_{i}" for i in range(3)), *(f"N_{i}" for i in range(4)), *(f"R_{i}" for i in range(6))]
    for copy, original in ORIGIN.items():
        assert X[copy].corr(X[original]) > 0.98
    assert set(Y.unique()) == {0, 1}
    again, _, _ = planted_features(1_200, informative=3, redundant=6, noise=4)
    assert again.equals(X)


def test_permutation_ranks_the_useful_before_the_noise_and_puts_noise_at_zero(accuracy: FeatureImportance) -> None:
    table = accuracy.table
    assert set(table.index[: len(USEFUL)]) == set(USEFUL)
    assert (table.loc[NOISE, "mean"].abs() < 0.02).all()
    assert accuracy.score > np.log(0.5) + 0.2


def test_impurity_adds_up_to_one_and_gives_noise_a_share() -> None:
    found = mean_decrease_impurity(FOREST, X, Y)
    assert found.table["mean"].sum() == pytest.approx(1.0)
    assert set(found.table.index[-len(NOISE) :]) == set(NOISE)
    assert (found.table.loc[NOISE, "mean"] > 0.0).all()
    assert found.score is None


def test_copies_dilute_what_is_shuffled_and_not_what_stands_alone(accuracy: FeatureImportance) -> None:
    """I_0 has three copies, I_2 has one: shuffled, each of the four is worth half of what I_2 is."""
    single = single_feature_importance(FOREST, X, Y)
    assert ORIGIN.value_counts().to_dict() == {"I_0": 3, "I_1": 2, "I_2": 1}
    assert accuracy.table["mean"]["I_0"] < 0.6 * accuracy.table["mean"]["I_2"]
    for copy, original in ORIGIN.items():
        assert single.table["mean"][copy] == pytest.approx(single.table["mean"][original], abs=0.03)


def test_one_feature_alone_misses_what_works_only_together(accuracy: FeatureImportance) -> None:
    """I_0 alone says no more than a coin; in the model it is worth more than any noise."""
    single = single_feature_importance(FOREST, X[["I_0"]], Y)
    assert single.table["mean"]["I_0"] < np.log(0.5) + 0.01
    assert accuracy.table["mean"]["I_0"] > 3.0 * accuracy.table.loc[NOISE, "mean"].max()


def test_clusters_hold_a_feature_and_its_copies_and_noise_stands_alone() -> None:
    found = cluster_features(X)
    expected = {(original, *sorted(ORIGIN[ORIGIN.eq(original)].index)) for original in ("I_0", "I_1", "I_2")}
    assert set(found.values()) == expected | {(name,) for name in NOISE}
    assert list(found) == [f"C_{i + 1}" for i in range(7)]


@pytest.mark.parametrize("seed", range(6))
def test_clusters_are_found_for_other_draws_and_signs(seed: int) -> None:
    """A feature and its negative say the same."""
    table, _, origin = planted_features(800, informative=4, redundant=6, noise=4, seed=seed)
    home = {name: cluster for cluster, names in cluster_features(table).items() for name in names}
    assert all(home[copy] == home[original] for copy, original in origin.items())
    flipped = table.assign(**{name: -table[name] for name in origin.index})
    assert cluster_features(flipped) == cluster_features(table)


def test_a_cluster_shows_what_its_members_hide(accuracy: FeatureImportance) -> None:
    clusters = cluster_features(X)
    home = {name: cluster for cluster, names in clusters.items() for name in names}
    found = mean_decrease_accuracy(FOREST, X, Y, clusters=clusters, repeats=2)

    assert found.table["mean"][home["I_0"]] > 3.0 * accuracy.table["mean"]["I_0"]
    assert set(found.table.index[:3]) == {home["I_0"], home["I_1"], home["I_2"]}
    assert found.to_frame().loc[home["I_1"], "features"] == "I_1, R_1, R_2"
    assert found.score == accuracy.score
    impurity = mean_decrease_impurity(FOREST, X, Y, clusters=clusters).table["mean"]
    assert impurity.sum() == pytest.approx(1.0)
    assert set(impurity.index[:3]) == {home["I_0"], home["I_1"], home["I_2"]}


# -- the numbers -------------------------------------------------------------------------------------------------------


def test_scores_equal_those_of_scikit_learn() -> None:
    model = FOREST.fit(X.iloc[:600], Y.iloc[:600])
    held, actual = X.iloc[600:], Y.iloc[600:]
    assert _neg_log_loss(model, held, actual) == pytest.approx(-log_loss(actual, model.predict_proba(held)), rel=1e-12)
    assert _accuracy(model, held, actual) == accuracy_score(actual, model.predict(held))
    values = X["I_0"] + X["I_1"]
    regression = RandomForestRegressor(20, random_state=0).fit(X.iloc[:600], values.iloc[:600])
    expected = r2_score(values.iloc[600:], regression.predict(held))
    assert _r2(regression, held, values.iloc[600:]) == pytest.approx(expected, rel=1e-12)


def test_permutation_equals_the_books_snippet_written_out() -> None:
    """AFML, snippet 8.3, with the same shuffles: (score - shuffled) / (best - shuffled), and deviation / sqrt(n)."""
    model, table = LogisticRegression(), X[["I_0", "I_1", "N_0"]]
    rng, draws = np.random.default_rng(7), []
    for train, test in KFold(5).split(table):
        fitted = LogisticRegression().fit(table.iloc[train], Y.iloc[train])
        before = -log_loss(Y.iloc[test], fitted.predict_proba(table.iloc[test]), labels=[0, 1])
        draw = {}
        for name in table:
            shuffled = table.iloc[test].copy()
            shuffled[name] = shuffled[name].to_numpy()[rng.permutation(len(test))]
            after = -log_loss(Y.iloc[test], fitted.predict_proba(shuffled), labels=[0, 1])
            draw[name] = (before - after) / (0.0 - after)
        draws.append(draw)
    expected = pd.DataFrame(draws)

    found = mean_decrease_accuracy(model, table, Y, folds=5, seed=7).table
    np.testing.assert_allclose(found["mean"][list(table)], expected.mean(), rtol=1e-10)
    np.testing.assert_allclose(found["error"][list(table)], expected.std() / np.sqrt(5), rtol=1e-10)


def test_one_feature_alone_equals_cross_validation() -> None:
    model, table = LogisticRegression(), X[["I_0", "N_0"]]
    found = single_feature_importance(model, table, Y, folds=KFold(4).split(table), scoring="accuracy")
    for name in table:
        scores = cross_val_score(model, table[[name]], Y, cv=KFold(4), scoring="accuracy")
        assert found.table["mean"][name] == pytest.approx(scores.mean())
        assert found.table["error"][name] == pytest.approx(scores.std(ddof=1) / 2.0)


@pytest.mark.parametrize(
    ("before", "after", "best", "expected"),
    [
        (0.8, 0.6, 1.0, 0.5),
        (-0.2, -0.8, 0.0, 0.75),
        (0.8, 0.6, None, 0.2),
        (1.0, 1.0, 1.0, 0.0),
        (0.5, 0.6, 1.0, -0.25),
    ],
)
def test_what_is_lost_by_hand(before: float, after: float, best: float | None, expected: float) -> None:
    assert _share_lost(before, after, best) == pytest.approx(expected)


def test_the_same_seed_gives_the_same_numbers_and_models_stay_unfitted() -> None:
    model = RandomForestClassifier(10, random_state=0)
    first, second = (mean_decrease_accuracy(model, X, Y, seed=5).table for _ in range(2))
    assert first.equals(second)
    assert not mean_decrease_accuracy(model, X, Y, seed=6).table.equals(first)
    assert not hasattr(model, "estimators_")


def test_a_function_scores_too() -> None:
    def hits(model, features: pd.DataFrame, target: pd.Series) -> float:
        return float((model.predict(features) == target).sum())

    model, table = LogisticRegression(), X[["I_0", "I_1"]]
    found, share = (mean_decrease_accuracy(model, table, Y, scoring=scoring) for scoring in (hits, "accuracy"))
    assert found.scoring == "hits"
    assert found.score == pytest.approx(240 * share.score)


# -- the result and refusals -------------------------------------------------------------------------------------------


def test_the_result_shows_itself(accuracy: FeatureImportance) -> None:
    assert accuracy.summary().startswith(
        f"mean decrease accuracy: {accuracy.table.index[0]} first of 13; neg_log_loss -0."
    )
    assert accuracy.to_frame().equals(accuracy.table)
    assert "<table" in accuracy._repr_html_()
    bars = accuracy.plot()
    assert [label.get_text() for label in bars.get_yticklabels()] == list(accuracy.table.index[::-1])


def test_refusals() -> None:
    cases = [
        (
            lambda: mean_decrease_accuracy(FOREST, X.shift(1), Y),
            DataError,
            "1 rows are not complete, the first at 2000",
        ),
        (lambda: mean_decrease_accuracy(FOREST, X, Y.iloc[1:]), DataError, "must have the same times"),
        (lambda: mean_decrease_accuracy(FOREST, X.iloc[::-1], Y.iloc[::-1]), DataError, "do not increase"),
        (lambda: mean_decrease_accuracy(FOREST, X, Y, scoring="acc"), ParameterError, "there is no score 'acc'"),
        (lambda: mean_decrease_accuracy(FOREST, X, Y, clusters={"a": ["I_0"]}), ParameterError, "each feature once"),
        (
            lambda: mean_decrease_accuracy(FOREST, X, Y.where(Y.index < Y.index[1000], 2)),
            DataError,
            r"has labels \[2\]",
        ),
        (lambda: mean_decrease_impurity(LogisticRegression(), X, Y), ParameterError, "is no forest of trees"),
        (lambda: cluster_features(X.assign(flat=1.0)), DataError, "flat is constant"),
        (lambda: cluster_features(X, count=0), ParameterError, "between 1 and the 13 features"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_features_have_clusters_too(count: int) -> None:
    table = X[["I_0", "N_0", "N_1"]].iloc[:, :count]
    assert sum(map(len, cluster_features(table).values())) == count
