"""Models as plain numbers: what a strategy carries in its configuration, and what trades without a research package.

A tree ensemble decides in single precision, tree after tree, exactly as XGBoost's own predictor does, so its margins
are XGBoost's to the last bit. `tradelib.models.predictor_of` makes these objects from fitted models and proves that.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from tradelib._jit import compiling, jit
from tradelib.data.timeframes import utc_timestamp
from tradelib.errors import DataError, ParameterError
from tradelib.ledger.chain import digest
from tradelib.parameters import Parameters, nearest

__all__ = ["AnyPredictor", "LinearPredictor", "Predictor", "TreeEnsemble", "tree_margins", "tree_text"]

Link = Literal["identity", "logistic"]
"""From the margin to the prediction: the same number, or the probability 1 / (1 + exp(-margin))."""

_BLOCK = 1_024  # rows at a time: what one pass of array operations works on stays in the cache
_MOST_NODES = 500_000
_LARGEST = 1e30  # a sum of leaves in single precision stays finite
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_SPLIT = re.compile(rf"(\d+)<({_NUMBER}) (\d+) (\d+) (\d+)")
_LEAF = re.compile(rf"=({_NUMBER})")


class Predictor(Parameters):
    """Base of models made of plain numbers: immutable, JSON-able, a pure function of the named features."""

    kind: str
    features: tuple[str, ...] = Field(min_length=1, description="columns that it reads, in its own order")
    link: Link = Field("identity", description="from the margin to the prediction")
    known_at: str | None = Field(None, description="close of the last row that it learned from; None: not stated")

    @field_validator("features")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise ValueError(f"the feature {twice[0]!r} is named twice")
        return names

    @field_validator("known_at")
    @classmethod
    def _is_a_time(cls, text: str | None) -> str | None:
        return None if text is None else utc_timestamp(text, "known_at").isoformat()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides its predictions: its content is its name."""
        return digest(self.model_dump(mode="json", exclude={"known_at"}))

    def margins(self, table: pd.DataFrame) -> np.ndarray:
        """What the model adds up for each row of `table`, float64 `(n,)`; `ParameterError` for a missing column."""
        for name in self.features:
            if name not in table:
                raise ParameterError(f"the model reads {name!r}, which is not there{nearest(name, table.columns)}")
        return self._margins(table[list(self.features)].to_numpy(dtype=np.float64))

    def predict(self, table: pd.DataFrame) -> pd.Series:
        """Prediction for each row of `table`: a probability where the link is logistic, else the margin."""
        margins = self.margins(table)
        values = margins if self.link == "identity" else np.array([_logistic(m) for m in margins.tolist()])
        return pd.Series(values, index=table.index, name="prediction", dtype=np.float64)

    @abstractmethod
    def _margins(self, x: np.ndarray) -> np.ndarray: ...


def _logistic(margin: float) -> float:
    """1 / (1 + exp(-margin)), by the C library: array routines differ in the last bit between processors."""
    if margin >= 0.0:
        return 1.0 / (1.0 + math.exp(-margin))
    grown = math.exp(margin)
    return grown / (1.0 + grown)


class LinearPredictor(Predictor):
    """intercept + sum of weight x feature, added up in order; NaN where a feature is not known."""

    kind: Literal["linear"] = Field("linear", repr=False)
    weights: tuple[float, ...]
    intercept: float = 0.0

    @model_validator(mode="after")
    def _a_weight_each(self) -> Self:
        if len(self.weights) != len(self.features):
            raise ValueError(f"{len(self.features)} features need as many weights, got {len(self.weights)}")
        return self

    def _margins(self, x: np.ndarray) -> np.ndarray:
        total = np.full(len(x), self.intercept)
        for column, weight in enumerate(self.weights):
            total += weight * x[:, column]
        return total


class TreeEnsemble(Predictor):
    """Regression trees whose leaves are added up in single precision, as XGBoost does; a missing value has its branch.

    A tree is one line of text: its nodes in order, parted by "; ". "3<0.5 1 2 1" goes to node 1 where feature 3 is
    below 0.5, else to node 2, and to node 1 where it is missing; "=0.1" is a leaf.
    """

    kind: Literal["trees"] = Field("trees", repr=False)
    base: float = Field(0.0, description="margin before the first tree")
    trees: tuple[str, ...] = Field(min_length=1, repr=False)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if abs(self.base) > _LARGEST:
            raise ValueError(f"base is {self.base}: more than {_LARGEST:g}")
        _ = self.nodes
        return self

    @property
    def nodes(self) -> Nodes:
        """The trees as arrays, one entry per node."""
        return _parse(self.trees, len(self.features))

    def _margins(self, x: np.ndarray) -> np.ndarray:
        if np.isinf(x).any():
            row, column = np.argwhere(np.isinf(x))[0]
            raise DataError(f"the model was given an infinite {self.features[column]} in row {row}: it must be finite")
        single = np.ascontiguousarray(x, dtype=np.float32)
        total = np.full(len(x), self.base, dtype=np.float32)
        (tree_margins if compiling() else _margins_by_array)(single, *self.nodes, total)
        return total.astype(np.float64)


AnyPredictor = Annotated[LinearPredictor | TreeEnsemble, Field(discriminator="kind")]
"""A model as a parameter of a strategy."""


class Nodes(NamedTuple):
    """All nodes of all trees: `roots` `(trees,)`, the others `(nodes,)`; a leaf has left -1 and its value as number."""

    roots: np.ndarray
    feature: np.ndarray
    number: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing: np.ndarray


@jit(nogil=True)
def tree_margins(
    x: np.ndarray,
    roots: np.ndarray,
    feature: np.ndarray,
    number: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    missing: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add the leaf of each tree to `total` `(n,)`, in order; `x` `(n, k)` and all numbers are float32."""
    for row in range(x.shape[0]):
        for tree in range(roots.shape[0]):
            node = roots[tree]
            while left[node] >= 0:
                value = x[row, feature[node]]
                if value != value:
                    node = missing[node]
                elif value < number[node]:
                    node = left[node]
                else:
                    node = right[node]
            total[row] = total[row] + number[node]


def _margins_by_array(
    x: np.ndarray,
    roots: np.ndarray,
    feature: np.ndarray,
    number: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    missing: np.ndarray,
    total: np.ndarray,
) -> None:
    """The same without a compiler: all rows and trees a level down at a time. Interpreted, the loop takes minutes."""
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        rows, node = np.arange(len(block))[:, None], np.tile(roots, (len(block), 1))
        while (inside := left[node] >= 0).any():
            value = block[rows, feature[node]]
            beyond = np.where(value < number[node], left[node], right[node])
            node = np.where(inside, np.where(np.isnan(value), missing[node], beyond), node)
        leaves = number[node]
        for tree in range(leaves.shape[1]):
            total[start : start + _BLOCK] += leaves[:, tree]


@lru_cache(maxsize=32)  # beside the objects: pydantic compares what they hold, and arrays do not compare
def _parse(trees: tuple[str, ...], width: int) -> Nodes:
    """Arrays of all trees, read-only; ValueError naming tree and node for what cannot be one."""
    roots: list[int] = []
    rows: list[tuple[int, float, int, int, int]] = []
    for place, text in enumerate(trees):
        roots.append(len(rows))
        nodes = text.split("; ")
        if len(rows) + len(nodes) > _MOST_NODES:
            raise ValueError(f"the trees have more than {_MOST_NODES:,} nodes: fit fewer or shallower ones")
        for number, node in enumerate(nodes):
            rows.append(_node(node, number, len(nodes), width, roots[-1], f"tree {place}, node {number}: {node!r}"))
    feature, numbers, left, right, missing = (np.array(column) for column in zip(*rows, strict=True))
    parsed = Nodes(np.array(roots), feature, numbers.astype(np.float32), left, right, missing)
    for array in parsed:
        array.setflags(write=False)
    return parsed


def _node(node: str, own: int, count: int, width: int, root: int, told: str) -> tuple[int, float, int, int, int]:
    """(feature, threshold or value, left, right, missing); a leaf has -1 for the branches.

    Branches lead forward only, so a walk ends whatever the file says.
    """
    leaf, split = _LEAF.fullmatch(node), _SPLIT.fullmatch(node)
    if leaf is None and split is None:
        raise ValueError(f"{told} is neither a split nor a leaf")
    value = float(leaf.group(1) if leaf else split.group(2))  # type: ignore[union-attr]
    if not abs(value) < _LARGEST:
        raise ValueError(f"{told} holds a number beyond {_LARGEST:g}")
    if split is None:
        return 0, value, -1, -1, -1
    feature, left, right, missing = (int(split.group(i)) for i in (1, 3, 4, 5))
    if feature >= width:
        raise ValueError(f"{told} reads feature {feature}, and there are {width}")
    if not own < min(left, right) <= max(left, right) < count or missing not in (left, right):
        raise ValueError(f"{told} must lead to two later nodes of {count}, a missing value to one of them")
    return feature, value, root + left, root + right, root + missing


def tree_text(feature: Any, number: Any, left: Any, right: Any, missing_left: Any) -> str:
    """One tree of arrays (a leaf has left -1) as the text of a `TreeEnsemble`; numbers in the shortest exact form."""
    nodes = []
    for i in range(len(left)):
        text = str(np.float32(number[i]))
        if left[i] < 0:
            nodes.append(f"={text}")
        else:
            nodes.append(f"{feature[i]}<{text} {left[i]} {right[i]} {left[i] if missing_left[i] else right[i]}")
    return "; ".join(nodes)
