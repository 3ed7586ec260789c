"""What skfolio is asked: one convex problem in numbers, scaled so that its tolerances mean something.

skfolio stops at a gap of 1e-9, and a daily variance is 1e-4: unscaled, weights would be right to three digits. So
returns are measured in units of the average volatility first. Weights do not change by that.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tradelib.errors import DataError, require

__all__ = ["NoWeights", "Problem", "frontier_weights", "is_feasible", "polished", "solve"]

Objective = Literal["variance", "return", "utility", "ratio", "cvar", "budgets"]
_ACCURACY = 1e-6
"""To which a constraint must hold: what the solver's tolerance is worth."""


class NoWeights(DataError):
    """These returns under these constraints give no weights; a rebalancing goes on with a stated fallback."""


@dataclass(frozen=True)
class Problem:
    """Assets in numbers: returns `(n, a)`, their mean `(a,)` and covariance `(a, a)` per period, and what is allowed.

    `lower`, `upper` `(a,)`; `groups` `(g, a)` with `groups @ w <= most`; `gross`: largest sum of absolute weights;
    `turnover`: largest sum of absolute changes from `previous` `(a,)`; `cost` per unit of change and period.
    """

    values: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    groups: np.ndarray
    most: np.ndarray
    gross: float | None = None
    turnover: float | None = None
    previous: np.ndarray | None = None
    cost: float = 0.0
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def scale(self) -> float:
        """The average volatility, in which the solver measures returns."""
        return float(np.sqrt(np.diagonal(self.covariance).mean()))


def solve(problem: Problem, objective: Objective, **settings: float | np.ndarray) -> tuple[np.ndarray, str]:
    """Weights `(a,)`, sum 1, and "optimal" or "inaccurate"; `NoWeights` where there are none.

    variance: least (`target`: with at least this mean); utility: w'mean - `risk_aversion` / 2 w'Cw; ratio: mean beyond
    `risk_free` over deviation; cvar: least mean of the worst `alpha`; budgets: shares `budgets` `(a,)` of the risk.
    """
    weights, status = _fitted(_model(problem, objective, settings), problem)
    return polished(weights[0] if weights.ndim > 1 else weights, problem), status


def frontier_weights(problem: Problem, targets: np.ndarray) -> np.ndarray:
    """Weights `(k, a)` of least variance with at least each of the mean returns `targets` `(k,)`."""
    weights, _ = _fitted(_model(problem, "variance", {"target": targets}), problem)
    return np.array([polished(row, problem) for row in np.atleast_2d(weights)])


def polished(weights: np.ndarray, problem: Problem) -> np.ndarray:
    """`weights` within their bounds and summing to 1 to the last digit, 0 where below the solver's accuracy.

    `NoWeights` where they are further away from that than this accuracy.
    """
    inside = np.clip(weights, problem.lower, problem.upper)
    far = float(np.abs(inside - weights).max())
    if not np.isfinite(weights).all() or far > _ACCURACY or abs(inside.sum() - 1.0) > len(weights) * _ACCURACY:
        raise NoWeights(
            f"the solver's weights miss the constraints (by up to {far:.2g}, sum {weights.sum():.6g}): relax them, or "
            "shrink the covariance"
        )
    inside[(np.abs(inside) < _ACCURACY) & (problem.lower <= 0.0)] = 0.0
    margin = len(weights) * _ACCURACY
    free = (inside > problem.lower + margin) & (inside < problem.upper - margin)
    missing = 1.0 - inside.sum()
    if free.any():
        inside[free] += missing / int(free.sum())
        return inside
    room = np.where(inside == 0.0, 0.0, problem.upper - inside if missing > 0.0 else inside - problem.lower)
    if room.sum() >= abs(missing) > 0.0:  # all are near a bound: none may be carried over it
        return inside + missing * room / room.sum()
    return inside / inside.sum()


def _fitted(model: Any, problem: Problem) -> tuple[np.ndarray, str]:
    """Solve; an inaccurate end is a status, a failed one is `NoWeights` with the reason."""
    failure = require("skfolio.exceptions", "research").OptimizationError
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            model.fit(problem.values / problem.scale)
    except (failure, np.linalg.LinAlgError) as error:
        if not is_feasible(problem):
            raise NoWeights("no weights satisfy the constraints together: relax one") from error
        raise NoWeights(f"the solver found no weights: {error}") from error
    inaccurate = any("inaccurate" in str(one.message) for one in heard)
    return np.asarray(model.weights_), "inaccurate" if inaccurate else "optimal"


def _model(problem: Problem, objective: Objective, settings: Any) -> Any:
    """The estimator of skfolio, not fitted yet."""
    room, scale = require("skfolio.optimization", "research"), problem.scale
    common = _common(problem)
    if objective == "budgets":
        return room.RiskBudgeting(risk_budget=settings["budgets"], **common)
    goals, measures = room.ObjectiveFunction, require("skfolio", "research").RiskMeasure
    if objective == "return":
        common |= {"objective_function": goals.MAXIMIZE_RETURN}
    elif objective == "utility":  # skfolio has no half in front of the variance
        aversion = 0.5 * settings["risk_aversion"] * scale
        common |= {"objective_function": goals.MAXIMIZE_UTILITY, "risk_aversion": aversion}
    elif objective == "ratio":
        common |= {"objective_function": goals.MAXIMIZE_RATIO, "risk_free_rate": settings["risk_free"] / scale}
    elif objective == "cvar":
        common |= {"risk_measure": measures.CVAR, "cvar_beta": 1.0 - settings["alpha"]}
    if "target" in settings:
        common |= {"min_return": settings["target"] / scale}
    return room.MeanRisk(**common)


def _common(problem: Problem) -> dict[str, Any]:
    """Moments and constraints, as every estimator of skfolio takes them."""
    lower, short = problem.lower, None
    if problem.gross is not None and (lower < 0.0).any():
        short = 0.5 * (problem.gross - 1.0)  # the weights sum to 1: long - short = 1, long + short = gross
        lower, short = (lower, short) if short > 0.0 else (np.maximum(lower, 0.0), None)
    prior = _given_moments()(problem.mean / problem.scale, problem.covariance / problem.scale**2)
    asked = {"prior_estimator": prior, "min_weights": lower, "max_weights": problem.upper, "max_short": short}
    if len(problem.most):
        asked |= {"left_inequality": problem.groups, "right_inequality": problem.most}
    if problem.previous is not None and problem.cost:
        asked |= {"previous_weights": problem.previous, "transaction_costs": problem.cost / problem.scale}
    if problem.previous is not None and problem.turnover is not None:
        asked |= {"add_constraints": _turned(problem.previous, problem.turnover)}
    return {name: value for name, value in asked.items() if value is not None}


def _turned(previous: np.ndarray, most: float) -> Callable[[Any], Any]:
    """Turnover at most `most`. Ratios are solved in weights times an unknown factor, which is their sum."""
    cp = require("cvxpy", "research")
    return lambda w: cp.norm1(w - previous * cp.sum(w)) <= most * cp.sum(w)


@functools.cache
def _given_moments() -> Any:
    """A prior of skfolio that estimates nothing: mean and covariance are what they were given as."""
    room = require("skfolio.prior", "research")

    class GivenMoments(room.BasePrior):  # type: ignore[name-defined]
        def __init__(self, mean: np.ndarray, covariance: np.ndarray) -> None:
            self.mean, self.covariance = mean, covariance

        def fit(self, X: Any, y: Any = None, **parameters: Any) -> Any:
            values = np.asarray(X, dtype=np.float64)
            self.return_distribution_ = room.ReturnDistribution(self.mean, self.covariance, values)
            return self

    return GivenMoments


def is_feasible(problem: Problem) -> bool:
    """True where some weights satisfy all constraints; a linear programme in weights, their sizes and their changes."""
    a, eye = len(problem.mean), np.eye(len(problem.mean))
    zero, rows, limits = np.zeros((a, a)), [], []
    blocks: list[tuple[np.ndarray, np.ndarray]] = [
        (np.hstack([eye, -eye, zero]), np.zeros(a)),
        (np.hstack([-eye, -eye, zero]), np.zeros(a)),
        (np.hstack([problem.groups, np.zeros((len(problem.most), 2 * a))]), problem.most),
    ]
    if problem.gross is not None:
        blocks.append((np.repeat([[0.0, 1.0, 0.0]], a, axis=1), np.array([problem.gross])))
    if problem.turnover is not None and problem.previous is not None:
        blocks.append((np.hstack([eye, zero, -eye]), problem.previous))
        blocks.append((np.hstack([-eye, zero, -eye]), -problem.previous))
        blocks.append((np.repeat([[0.0, 0.0, 1.0]], a, axis=1), np.array([problem.turnover])))
    for row, limit in blocks:
        rows.append(row)
        limits.append(limit)
    found = require("scipy.optimize", "research").linprog(
        np.zeros(3 * a),
        np.vstack(rows),
        np.concatenate(limits),
        np.repeat([[1.0, 0.0, 0.0]], a, axis=1),
        [1.0],
        bounds=[*zip(problem.lower, problem.upper, strict=True), *[(0.0, None)] * (2 * a)],
    )
    return bool(found.status != 2)
