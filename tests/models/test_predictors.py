"""Models as plain numbers: XGBoost's margins to the last bit, without XGBoost."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge

from tests.environment import PROJECT
from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.features.regime_model import RegimeModel
from tradelib.models import predictor_of
from tradelib.models import predictors as made_by
from tradelib.strategies.predictors import LinearPredictor, TreeEnsemble

RANDOM = np.random.default_rng(5)
COLUMNS = ["momentum", "strength", "range", "noise"]
X = pd.DataFrame(RANDOM.normal(size=(2_500, 4)), columns=COLUMNS).mask(RANDOM.random((2_500, 4)) < 0.05)
Y = (X["momentum"].fillna(0.0) * np.sign(X["strength"].fillna(1.0)) > 0).astype(int)
WHOLE = X.fillna(0.0)


def classifier(**options: Any) -> xgboost.XGBClassifier:
    settings = {"n_estimators": 60, "max_depth": 4, "n_jobs": 1, "random_state": 0}
    return xgboost.XGBClassifier(**settings | options).fit(X, Y)


MODELS: dict[str, Any] = {
    "boosted": classifier(),
    "deep": classifier(max_depth=9, n_estimators=15),
    "stumps": classifier(max_depth=1, n_estimators=200),
    "leafwise": classifier(grow_policy="lossguide", max_leaves=12, tree_method="hist"),
    "forest": classifier(num_parallel_tree=4, n_estimators=5, subsample=0.7, colsample_bynode=0.5),
    "unbalanced": classifier(scale_pos_weight=7.0),
    "base": classifier(base_score=0.03),
    "exact": classifier(tree_method="exact"),
    "squared": xgboost.XGBRegressor(n_estimators=40, n_jobs=1).fit(X, WHOLE["noise"] * 1e3),
    "absolute": xgboost.XGBRegressor(n_estimators=20, n_jobs=1, objective="reg:absoluteerror").fit(X, WHOLE["noise"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_margin_is_that_of_xgboost_in_every_bit(name: str) -> None:
    """On all rows, holes included, compiled and interpreted, in one call and row by row."""
    fitted = MODELS[name]
    expected = fitted.predict(X, output_margin=True).astype(np.float64)

    trees = predictor_of(fitted)

    np.testing.assert_array_equal(trees.margins(X), expected)
    with interpreted():
        np.testing.assert_array_equal(trees.margins(X), expected)
        one_by_one = [trees.margins(X.iloc[[row]])[0] for row in range(0, 2_500, 100)]
    np.testing.assert_array_equal(one_by_one, expected[::100])


def test_the_early_stopped_model_is_taken_apart_at_its_best_round() -> None:
    fitted = xgboost.XGBClassifier(n_estimators=300, max_depth=3, early_stopping_rounds=3, n_jobs=1)
    fitted.fit(X[:1_500], Y[:1_500], eval_set=[(X[1_500:], Y[1_500:])], verbose=False)

    trees = predictor_of(fitted)

    assert len(trees.trees) == fitted.best_iteration + 1 < fitted.get_booster().num_boosted_rounds()
    np.testing.assert_array_equal(trees.margins(X), fitted.predict(X, output_margin=True).astype(np.float64))


def test_the_probability_is_the_logistic_function_of_the_margin() -> None:
    trees = predictor_of(MODELS["boosted"])

    said = trees.predict(X)

    expected = [1.0 / (1.0 + math.exp(-m)) for m in trees.margins(X)]
    np.testing.assert_allclose(said, expected, rtol=1e-15)
    assert np.abs(said - MODELS["boosted"].predict_proba(X)[:, 1]).max() < 2e-7  # single precision in XGBoost


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=4, max_size=4))
def test_any_row_gives_the_bits_of_xgboost(row: list[float]) -> None:
    table = pd.DataFrame([row], columns=COLUMNS)

    expected = MODELS["deep"].predict(table, output_margin=True).astype(np.float64)

    np.testing.assert_array_equal(predictor_of_deep().margins(table), expected)


@cache
def predictor_of_deep() -> Any:
    return predictor_of(MODELS["deep"])


def test_it_travels_as_json_and_its_digest_is_its_content() -> None:
    trees = predictor_of(MODELS["boosted"], known_at="2019-12-31T00:00:00Z")

    again = TreeEnsemble(**json.loads(trees.model_dump_json()))

    assert again == trees
    assert again.digest == trees.digest
    assert trees.replace(known_at=None).digest == trees.digest
    assert trees.replace(base=trees.base + 1e-3).digest != trees.digest
    np.testing.assert_array_equal(again.margins(X), trees.margins(X))


def test_what_decides_imports_no_research_package() -> None:
    trees = predictor_of(MODELS["stumps"])
    code = (
        "import sys, json, pandas as pd; from tradelib._jit import interpreted\n"
        "from tradelib.strategies.predictors import TreeEnsemble\n"
        "trees = TreeEnsemble(**json.load(sys.stdin))\n"
        "with interpreted(): said = trees.predict(pd.DataFrame([[0.1, 0.2, 0.3, 0.4]], columns=trees.features))\n"
        "print(said[0].hex(), {'xgboost', 'sklearn', 'scipy', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        input=trees.model_dump_json(),
        capture_output=True,
        text=True,
        check=True,
    )

    row = pd.DataFrame([[0.1, 0.2, 0.3, 0.4]], columns=COLUMNS)
    assert done.stdout.split() == [trees.predict(row)[0].hex(), "set()"]


@pytest.mark.parametrize("model", [LinearRegression(), Ridge(), Lasso(0.01), ElasticNet(0.01), LogisticRegression()])
def test_a_linear_model_is_equal_within_rounding(model: Any) -> None:
    fitted = model.fit(WHOLE, Y)

    linear = predictor_of(fitted)

    expected = fitted.predict_proba(WHOLE)[:, 1] if isinstance(model, LogisticRegression) else fitted.predict(WHOLE)
    np.testing.assert_allclose(linear.predict(WHOLE), expected, atol=1e-13)
    np.testing.assert_array_equal(linear.predict(WHOLE.iloc[7:8]), linear.predict(WHOLE).iloc[7:8])


def test_a_hole_is_no_prediction_of_a_linear_model() -> None:
    linear = LinearPredictor(features=("a", "b"), weights=(2.0, 3.0), intercept=1.0)

    said = linear.predict(pd.DataFrame({"a": [1.0, math.nan], "b": [1.0, 1.0]}))

    np.testing.assert_array_equal(said, [6.0, math.nan])


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fitted", "told"),
    [
        (lambda: xgboost.XGBClassifier(n_estimators=2).fit(X, np.arange(len(X)) % 3), "'multi:softprob' is not one of"),
        (lambda: xgboost.XGBRegressor(n_estimators=2, booster="dart").fit(X, Y), "'dart', not gbtree"),
        (lambda: xgboost.XGBRegressor(n_estimators=2, objective="count:poisson").fit(X, Y), "'count:poisson' is not"),
        (lambda: xgboost.XGBRegressor(n_estimators=2).fit(X, np.c_[Y, Y]), "several numbers per row"),
        (lambda: RandomForestClassifier(2).fit(WHOLE, Y), "a RandomForestClassifier is not a sum of plain numbers"),
        (lambda: LogisticRegression().fit(WHOLE, np.arange(len(X)) % 3), "several numbers per row"),
        (lambda: RegimeModel(means=(0.0,), volatilities=(0.01,), transition=((1.0,),)), "a regime model gives no"),
    ],
)
def test_what_is_more_than_one_sum_of_numbers_is_refused(fitted: Any, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        predictor_of(fitted())


def test_categories_are_refused() -> None:
    table = X.assign(noise=pd.Categorical(np.arange(len(X)) % 12))
    fitted = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(table, np.arange(len(X)) % 12 % 5 % 2)

    with pytest.raises(ParameterError, match="splits on categories"):
        predictor_of(fitted)


def test_a_library_that_adds_up_in_another_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given numbers with one leaf a bit off, they are refused before anybody has them."""
    true = made_by._tree

    def off(tree: dict[str, Any]) -> str:
        values = np.float32(tree["split_conditions"])
        leaf = tree["left_children"].index(-1)
        values[leaf] = np.nextafter(values[leaf], np.float32(9.0))
        return true(tree | {"split_conditions": values})

    monkeypatch.setattr(made_by, "_tree", off)
    with pytest.raises(ParameterError, match="XGBoost says .* its numbers say"):
        predictor_of(MODELS["boosted"])


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ("", "neither a split nor a leaf"),
        ("=nan", "neither a split nor a leaf"),
        ("=1e31", "a number beyond"),
        ("=1e999", "a number beyond"),
        ("=1;=2", "neither a split nor a leaf"),
        ("0<1 1 2 1; =1", "must lead to two later nodes of 2"),
        ("0<1 0 1 0; =1; =2", "must lead to two later nodes"),
        ("0<1 1 2 0; =1; =2", "a missing value to one of them"),
        ("2<1 1 2 1; =1; =2", "reads feature 2, and there are 2"),
        ("-1<1 1 2 1; =1; =2", "neither a split nor a leaf"),
        ("__import__('os')", "neither a split nor a leaf"),
    ],
)
def test_a_text_that_is_no_tree_is_refused_with_its_place(tree: str, told: str) -> None:
    with pytest.raises(ParameterError, match=rf"tree 1, node \d+: .*{told}"):
        TreeEnsemble(features=("a", "b"), trees=("=0.5", tree))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features": ()}, "at least 1 item"),
        ({"features": ("a", "a")}, "'a' is named twice"),
        ({"trees": ()}, "at least 1 item"),
        ({"base": 1e31}, "more than 1e\\+30"),
        ({"known_at": "soon"}, "known_at"),
        ({"link": "softmax"}, "link"),
        ({"weights": (1.0,)}, "no parameter 'weights'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        TreeEnsemble(**({"features": ("a",), "trees": ("=1",)} | changes))


def test_an_infinite_feature_and_a_missing_column_are_named() -> None:
    trees = TreeEnsemble(features=("a", "b"), trees=("1<0.5 1 2 1; =1; =2",))

    with pytest.raises(DataError, match="infinite b in row 1"):
        trees.predict(pd.DataFrame({"a": [0.0, 0.0], "b": [1.0, math.inf]}))
    with pytest.raises(ParameterError, match="'b', which is not there"):
        trees.predict(pd.DataFrame({"a": [0.0]}))
