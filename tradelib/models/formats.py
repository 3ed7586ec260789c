"""How each kind of model is written and read: one class per kind, and none of them unpickles anything.

| kind | what is written | who reads it |
|---|---|---|
| xgboost | XGBoost's JSON, cut at the best iteration | XGBoost, after the shape of every tree was checked |
| scikit-learn | skops: a zip of JSON and arrays | skops, which makes only types that it was told to trust |
| prophet | Prophet's JSON | Prophet |
| garch, regime | tradelib's JSON | tradelib; no library takes part |
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from tradelib.errors import DataError, ParameterError, require
from tradelib.features.regime_model import RegimeModel
from tradelib.ledger.chain import canonical
from tradelib.models import skops_file
from tradelib.parameters import nearest
from tradelib.risk.tail_models import GarchFit

__all__ = ["FORMATS", "Format", "booster_trees", "format_of"]


class Format(ABC):
    """How one kind of model travels."""

    kind: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that write and read it, with the parts of their version that must agree."""
    version_parts: ClassVar[int] = 1
    output: ClassVar[str] = "prediction"
    binary: ClassVar[bool] = False

    @abstractmethod
    def accepts(self, model: Any) -> bool:
        """True for a model of this kind; no library is imported to find out."""

    @abstractmethod
    def dump(self, model: Any) -> bytes:
        """The model as bytes: the same model, the same bytes."""

    @abstractmethod
    def load(self, content: bytes, proven: bool) -> Any:
        """What `dump` wrote; `DataError` for anything else. `proven`: a digest from elsewhere vouches for it."""

    @abstractmethod
    def features(self, model: Any) -> tuple[str, ...] | None:
        """Names of the columns that it reads, None where it does not know them."""

    @abstractmethod
    def predict(self, model: Any, table: pd.DataFrame) -> np.ndarray:
        """What the model says of each row, float64 `(n,)`."""


class XGBoost(Format):
    """A booster or one of the scikit-learn classes around it. It comes back as a booster."""

    kind = "xgboost"
    packages = ("xgboost",)

    def accepts(self, model: Any) -> bool:
        """True for boosters, classifiers, regressors and rankers."""
        return _comes_from(model, "xgboost") and (hasattr(model, "get_booster") or hasattr(model, "save_raw"))

    def dump(self, model: Any) -> bytes:
        """Cut at the best iteration first: a booster that is asked directly ignores early stopping."""
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        best = booster.attr("best_iteration")
        kept = booster if best is None else booster[: int(best) + 1]
        return bytes(kept.save_raw("json"))

    def load(self, content: bytes, proven: bool) -> Any:
        """The booster; XGBoost's own code reads it after the trees were found to be trees."""
        booster_trees(content)
        booster = require("xgboost", "research").Booster()
        booster.load_model(bytearray(content))
        return booster

    def features(self, model: Any) -> tuple[str, ...] | None:
        """The names that it was trained with."""
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        return None if booster.feature_names is None else tuple(booster.feature_names)

    def predict(self, model: Any, table: pd.DataFrame) -> np.ndarray:
        """What the objective says: a probability for a classifier."""
        names = list(table.columns) if model.feature_names is not None else None
        matrix = require("xgboost", "research").DMatrix(table.to_numpy(dtype=np.float64), feature_names=names)
        return np.asarray(model.predict(matrix), dtype=np.float64)


class ScikitLearn(Format):
    """A fitted estimator, pipelines included. scikit-learn promises nothing between minor versions, so both count."""

    kind = "scikit-learn"
    packages = ("scikit-learn",)
    version_parts = 2
    binary = True

    def accepts(self, model: Any) -> bool:
        """True for what scikit-learn itself defines: own classes would need own code to come back."""
        return _comes_from(model, "sklearn") and hasattr(model, "predict")

    def dump(self, model: Any) -> bytes:
        """The file of skops without the time and the addresses in memory that it holds."""
        return skops_file.dump(model)

    def load(self, content: bytes, proven: bool) -> Any:
        """The estimator; compiled trees only where `proven`: their arrays are read without a check."""
        return skops_file.load(content, proven)

    def features(self, model: Any) -> tuple[str, ...] | None:
        """The names that it was trained with, if it was given a table."""
        names = getattr(model, "feature_names_in_", None)
        return None if names is None else tuple(str(name) for name in names)

    def predict(self, model: Any, table: pd.DataFrame) -> np.ndarray:
        """The probability of the second class, else what `predict` says."""
        named = getattr(model, "feature_names_in_", None) is not None
        x = table if named else table.to_numpy(dtype=np.float64)
        if hasattr(model, "predict_proba") and len(model.classes_) == 2:
            return np.asarray(model.predict_proba(x)[:, 1], dtype=np.float64)
        return np.asarray(model.predict(x), dtype=np.float64)


class Prophet(Format):
    """A forecast of time: reads the column `ds` (without zone), and extra regressors if it has them."""

    kind = "prophet"
    packages = ("prophet",)

    def accepts(self, model: Any) -> bool:
        """True for a Prophet model."""
        return _comes_from(model, "prophet") and type(model).__name__ == "Prophet"

    def dump(self, model: Any) -> bytes:
        """Prophet's own JSON; `ParameterError` for one that was not fitted."""
        if model.history is None:
            raise ParameterError("this Prophet model has not been fitted: call fit first")
        return str(require("prophet.serialize", "research").model_to_json(model)).encode()

    def load(self, content: bytes, proven: bool) -> Any:
        """The model; `DataError` where its JSON is not that of a model."""
        try:
            return require("prophet.serialize", "research").model_from_json(content.decode())
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"this is no model that Prophet wrote: {error!r}") from error

    def features(self, model: Any) -> tuple[str, ...]:
        """Time, the ceiling of a logistic trend, and the extra regressors."""
        return ("ds", *(["cap"] if model.growth == "logistic" else []), *model.extra_regressors)

    def predict(self, model: Any, table: pd.DataFrame) -> np.ndarray:
        """`yhat`; the intervals, which are drawn at random, are left out."""
        certain = copy.copy(model)
        certain.uncertainty_samples = 0
        return np.asarray(certain.predict(table)["yhat"], dtype=np.float64)


class Garch(Format):
    """A fitted volatility model: reads the column `return` (fractions), says the variance of each (percent squared)."""

    kind = "garch"
    output = "variance"

    def accepts(self, model: Any) -> bool:
        """True for a `GarchFit`."""
        return isinstance(model, GarchFit)

    def dump(self, model: GarchFit) -> bytes:
        """Its fields; an unknown likelihood is null."""
        content = asdict(model)
        likelihood = content["log_likelihood"]
        return canonical(content | {"log_likelihood": None if math.isnan(likelihood) else likelihood}).encode()

    def load(self, content: bytes, proven: bool) -> GarchFit:
        """The fit; `DataError` for other fields, or for what is no number."""
        given = _object(content, {item.name for item in fields(GarchFit)})
        numbers = [given[name] for name in ("mu", "omega", "alpha", "gamma", "beta")]
        shape, likelihood = given["shape"], given["log_likelihood"]
        known = given["volatility"] in ("GARCH", "GJR", "EGARCH") and given["distribution"] in ("normal", "t", "skewt")
        if not known or not isinstance(shape, list) or not all(map(_is_number, [*numbers, *shape, likelihood or 0.0])):
            raise DataError(f"this is no volatility model: {given}")
        told = {"shape": tuple(shape), "log_likelihood": math.nan if likelihood is None else likelihood}
        return GarchFit(**(given | told))

    def features(self, model: GarchFit) -> tuple[str, ...]:
        """One column."""
        return ("return",)

    def predict(self, model: GarchFit, table: pd.DataFrame) -> np.ndarray:
        """Variance of the period after each return, as the filter knows it then."""
        return model.variances(table["return"].to_numpy(dtype=np.float64))[1:]


class Regime(Format):
    """Hidden states: reads the column `return` (fractions), says the filtered probability of the calmest state."""

    kind = "regime"
    output = "probability of state 0"

    def accepts(self, model: Any) -> bool:
        """True for a `RegimeModel`."""
        return isinstance(model, RegimeModel)

    def dump(self, model: RegimeModel) -> bytes:
        """Its own dictionary."""
        return canonical(model.to_dict()).encode()

    def load(self, content: bytes, proven: bool) -> RegimeModel:
        """The model, checked like a new one."""
        return RegimeModel.from_dict(_object(content, set(RegimeModel.model_fields)))

    def features(self, model: RegimeModel) -> tuple[str, ...]:
        """One column."""
        return ("return",)

    def predict(self, model: RegimeModel, table: pd.DataFrame) -> np.ndarray:
        """What a signal may use: known at the close of each row."""
        return np.asarray(model.filtered(table["return"])[0], dtype=np.float64)


FORMATS: Mapping[str, Format] = {f.kind: f for f in (XGBoost(), ScikitLearn(), Prophet(), Garch(), Regime())}
"""Every kind of model that can be saved, by name."""


def format_of(model: Any) -> Format:
    """The format for `model`; `ParameterError` naming what can be saved."""
    for found in FORMATS.values():
        if found.accepts(model):
            return found
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    raise ParameterError(
        f"a {name} cannot be saved: without pickle there are {', '.join(FORMATS)}. A class of your own around such a "
        "model: save the model inside."
    )


def booster_trees(content: bytes) -> dict[str, Any]:
    """The `learner` of XGBoost's JSON; `DataError` where a tree is none: a branch back, outside, or to nowhere."""
    try:
        learner: dict[str, Any] = json.loads(content)["learner"]
        model = learner["gradient_booster"]
        model = model.get("gbtree", model)["model"]  # dart keeps its trees one level down
        width = int(learner["learner_model_param"]["num_feature"])
        for place, tree in enumerate(model["trees"]):
            _check_tree(tree, width, place)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"this is no tree model that XGBoost wrote: {error}") from error
    return learner


def _check_tree(tree: Mapping[str, Any], width: int, place: int) -> None:
    left, right, feature = (tree[name] for name in ("left_children", "right_children", "split_indices"))
    count = len(left)
    lengths = {len(tree[name]) for name in ("right_children", "split_indices", "split_conditions", "default_left")}
    if lengths != {count} or int(tree["tree_param"]["num_nodes"]) != count or not count:
        raise ValueError(f"tree {place} has {count} nodes, and not as many entries everywhere")
    for i in range(count):
        leaf = left[i] == right[i] == -1
        if not leaf and not (i < left[i] < count and i < right[i] < count and 0 <= feature[i] < width):
            raise ValueError(f"tree {place}, node {i}: branches {left[i]}, {right[i]} on feature {feature[i]}")


def _object(content: bytes, names: set[str]) -> dict[str, Any]:
    """A JSON object with exactly these names."""
    try:
        given = json.loads(content)
    except ValueError as error:
        raise DataError(f"this is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise DataError(f"this is no JSON object, but {type(given).__name__}")
    for name in sorted(set(given) ^ names):
        raise DataError(f"{name!r} is missing" if name in names else f"{name!r} is unknown{nearest(name, names)}")
    return given


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _comes_from(model: Any, package: str) -> bool:
    """True where the class itself, not one of its bases, is defined in `package`."""
    return type(model).__module__.split(".")[0] == package


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """`names` as a tuple; `ParameterError` for none, for one that is no text, or for one named twice."""
    given = tuple(names)
    if not given or not all(isinstance(name, str) and name for name in given) or len(set(given)) < len(given):
        raise ParameterError(f"features must be different names of columns, at least one; got {list(given)!r:.80}")
    return given
