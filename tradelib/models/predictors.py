"""Boosted trees, taken out of their library: what trades needs no XGBoost, and decides the same to the last bit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tradelib.errors import ParameterError, require
from tradelib.models.formats import booster_trees, format_of
from tradelib.models.saved import save_model
from tradelib.strategies.predictors import LinearPredictor, Predictor, TreeEnsemble, tree_text

__all__ = ["predictor_of"]


_LINKS = {
    "binary:logistic": "logistic",
    "reg:absoluteerror": "identity",
    "reg:logistic": "logistic",
    "reg:pseudohubererror": "identity",
    "reg:squarederror": "identity",
}


def _from_booster(learner: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Link, base margin and trees of XGBoost's JSON."""
    _check_plain(learner)
    link, shape = _LINKS[learner["objective"]["name"]], learner["learner_model_param"]
    base = np.float32(json.loads(shape["base_score"])[0])
    if link == "logistic":
        odds = np.float32(1.0) / base - np.float32(1.0)
        base = np.float32(-math.log(odds))
    trees = tuple(_tree(tree) for tree in learner["gradient_booster"]["model"]["trees"])
    return {"features": tuple(names), "link": link, "base": float(base), "trees": trees}


def _tree(tree: dict[str, Any]) -> str:
    entries = ("split_indices", "split_conditions", "left_children", "right_children", "default_left")
    return tree_text(*(tree[entry] for entry in entries))


def _check_plain(learner: dict[str, Any]) -> None:
    """`ParameterError` for what is more than one sum of trees over numbers."""
    objective, shape = learner["objective"]["name"], learner["learner_model_param"]
    if objective not in _LINKS:
        raise ParameterError(f"the objective {objective!r} is not one of {', '.join(_LINKS)}")
    if learner["gradient_booster"]["name"] != "gbtree":
        booster = learner["gradient_booster"]["name"]
        raise ParameterError(f"the booster is {booster!r}, not gbtree: its trees are weighted")
    if int(shape["num_class"]) > 1 or int(shape["num_target"]) > 1:
        raise ParameterError("the model says several numbers per row, and a signal needs one: fit one class only")
    if any(any(tree["split_type"]) for tree in learner["gradient_booster"]["model"]["trees"]):
        raise ParameterError("the model splits on categories: give it numbers, such as one column per category")


_LINEAR = ("ElasticNet", "Lasso", "LinearRegression", "LogisticRegression", "Ridge")


def _from_linear(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """Link, weights and intercept of a fitted linear model of scikit-learn."""
    name = type(model).__name__
    if name not in _LINEAR:
        raise ParameterError(
            f"a {name} is not a sum of plain numbers: use XGBoost or {', '.join(_LINEAR)}; scaling belongs into the "
            "strategy's feature pipeline"
        )
    weights, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    if len(weights) > 1:
        raise ParameterError("the model says several numbers per row, and a signal needs one: fit one class only")
    link = "logistic" if name == "LogisticRegression" else "identity"
    numbers = {"weights": tuple(weights[0].tolist()), "intercept": float(intercept[0])}
    return {"features": tuple(names), "link": link, **numbers}


def predictor_of(model: Any, *, features: Sequence[str] | None = None, known_at: Any = None) -> Predictor:
    """The numbers that decide in a fitted XGBoost or linear scikit-learn model, proved equal to what the library says.

    `features`: names of its columns where it was fitted without. `known_at`: close of the last row that it learned
    from. `ParameterError` for a model that is no sum of plain numbers.
    """
    kind, saved = format_of(model).kind, save_model(model, features=features)
    stated = {} if known_at is None else {"known_at": str(known_at)}
    if kind == "xgboost":
        trees = TreeEnsemble(**_from_booster(booster_trees(saved.content), saved.features), **stated)
        _prove(trees, saved.restore(), trees.link)
        return trees
    if kind == "scikit-learn":
        linear = LinearPredictor(**_from_linear(model, saved.features), **stated)
        _compare(linear, model)
        return linear
    raise ParameterError(f"a {kind} model gives no prediction per row of features: use it in a feature or a gate")


def _prove(trees: TreeEnsemble, booster: Any, link: str) -> None:
    """`ParameterError` where the margin of one probe row differs from XGBoost's in a bit."""
    probe = _probe(trees)
    matrix = require("xgboost", "research").DMatrix(probe.to_numpy(), feature_names=booster.feature_names)
    expected = booster.predict(matrix, output_margin=True).astype(np.float64)
    same = trees.margins(probe) == expected
    if not same.all():
        row = int(np.argmin(same))
        raise ParameterError(
            f"XGBoost says {expected[row]!r} for the row {probe.iloc[row].to_dict()}, its numbers say "
            f"{trees.margins(probe)[row]!r}: this version of XGBoost adds up in another way"
        )


def _probe(trees: TreeEnsemble) -> pd.DataFrame:
    """Rows that stand on thresholds, next to them, and at holes: float64 `(1024, features)`, seeded."""
    random, nodes = np.random.default_rng(0), trees.nodes
    columns = {}
    for place, name in enumerate(trees.features):
        known = np.unique(nodes.number[(nodes.left >= 0) & (nodes.feature == place)])
        edges = np.concatenate([known, np.nextafter(known, np.float32(-np.inf)), [np.float32(0.0), np.float32(np.nan)]])
        columns[name] = random.choice(edges, 1_024).astype(np.float64)
    return pd.DataFrame(columns)


def _compare(linear: LinearPredictor, model: Any) -> None:
    """`ParameterError` where probe rows differ by more than rounding."""
    x = np.random.default_rng(0).standard_normal((256, len(linear.features)))
    told: Callable[[Any], Any] = model.decision_function if linear.link == "logistic" else model.predict
    named = pd.DataFrame(x, columns=list(linear.features))
    expected = told(named if hasattr(model, "feature_names_in_") else x)
    size = np.abs(np.array(linear.weights)).sum() * np.abs(x).max() + abs(linear.intercept)
    if np.abs(linear.margins(named) - np.ravel(expected)).max() > 1e-12 * max(float(size), 1.0):
        raise ParameterError("the numbers of this linear model do not give what this version of scikit-learn says")
