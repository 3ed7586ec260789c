"""What a stress test is applied to, and what a scenario says of it.

A book is the returns, the weights and, where there is one, the run that made them. A scenario is one thing that goes
wrong; it looks at the book and leaves an outcome: one line of the table, with how it was computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from tradelib.backtest import book
from tradelib.backtest.costs import Costs
from tradelib.backtest.result import Result
from tradelib.backtest.trials import TrialLedger
from tradelib.backtest.wiring import account
from tradelib.data.panel import Panel
from tradelib.errors import DataError, ParameterError, TradelibError
from tradelib.parameters import Parameters

__all__ = [
    "NOT_APPLICABLE",
    "NOT_COVERED",
    "Scenario",
    "StressOutcome",
    "StressedBook",
    "book_of_result",
    "book_of_weights",
    "outcome_of_path",
    "outcome_of_wealth",
    "without_figures",
]

NOT_COVERED = "not covered by the data"
NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True, eq=False)
class StressOutcome:
    """What one scenario did: `total_return` and deepest drawdown of wealth that starts at 1, worst single bar.

    NaN in all three exactly where `method` is `NOT_COVERED` or `NOT_APPLICABLE`, and `note` says why. `base_return`:
    without the shock, NaN where there is nothing to compare with. `wealth`: the path, where there is one.
    """

    scenario: str
    kind: str
    method: str
    total_return: float = math.nan
    maximum_drawdown: float = math.nan
    worst_bar: float = math.nan
    base_return: float = math.nan
    start: Any = None
    end: Any = None
    note: str = ""
    wealth: pd.Series | None = field(default=None, repr=False)

    @property
    def covered(self) -> bool:
        """Is there a figure?"""
        return self.method not in (NOT_COVERED, NOT_APPLICABLE)


def outcome_of_wealth(scenario: Scenario, method: str, wealth: pd.Series, **more: Any) -> StressOutcome:
    """The outcome of a path of wealth that was 1 before its first bar; an account that is emptied has no bars after."""
    before = wealth.shift(fill_value=1.0)
    alive = before > 0.0
    top = wealth.cummax().clip(lower=1.0)
    worst = float((wealth[alive] / before[alive] - 1.0).min())
    if not alive.all() or wealth.iloc[-1] <= 0.0:
        when = f"the account is emptied at {wealth.index[int((wealth <= 0.0).argmax())]:%Y-%m-%d}"
        more["note"] = "; ".join(filter(None, [more.get("note", ""), when]))
    figures = (float(wealth.iloc[-1] - 1.0), float((wealth / top - 1.0).min()), worst)
    span = {"start": wealth.index[0], "end": wealth.index[-1]}
    return StressOutcome(scenario.label, scenario.kind, method, *figures, **{**span, "wealth": wealth, **more})


def outcome_of_path(scenario: Scenario, method: str, returns: pd.Series, **more: Any) -> StressOutcome:
    """The outcome of simple returns, bar by bar."""
    return outcome_of_wealth(scenario, method, (1.0 + returns).cumprod(), **more)


def without_figures(scenario: Scenario, why: str, method: str = NOT_APPLICABLE, **more: Any) -> StressOutcome:
    """The outcome of a scenario about which nothing can be said."""
    return StressOutcome(scenario.label, scenario.kind, method, note=why, **more)


@dataclass(frozen=True, eq=False)
class StressedBook:
    """What scenarios are applied to: returns per bar, the weights that are held, and the run that made them, if any.

    `weights`: those of the last bar, or of the largest book where that is flat (`held` says which). `assets`: returns
    of the symbols. `paths`, `betas`, `factors`, `ledger`: as given to `stress_test`. `policies`: what a result does not
    carry.
    """

    returns: pd.Series
    weights: pd.Series
    held: str
    assets: pd.DataFrame
    result: Result | None = None
    paths: Mapping[str, Any] = field(default_factory=dict)
    betas: Any = None
    factors: pd.DataFrame | None = None
    policies: Mapping[str, Any] = field(default_factory=dict)
    ledger: TrialLedger | None = None

    @cached_property
    def obstacle(self) -> str:
        """Why the engine cannot be run again; "" where it can."""
        if self.result is None:
            return "weights with returns were given: only a Result can be run again"
        if self.result.targets is None:
            return "this run was given orders, not targets: there are no decisions to repeat"
        try:
            again = self.repeat()
        except TradelibError as error:
            return f"the run cannot be repeated: {error}"
        if np.array_equal(again.simulation.equity, self.result.simulation.equity):
            return ""
        return (
            "repeated unchanged, the run gives another equity: it was made with something that the result does not "
            "carry; pass the same finer, funding, exits_policy, scale_in and limits to stress_test"
        )

    def rerun(
        self, *, costs: Costs | None = None, panel: Panel | None = None, targets: np.ndarray | None = None
    ) -> Result:
        """The run again with other costs, bars or targets `(n, a)`; not a trial. `DataError` where it cannot be."""
        if self.obstacle:
            raise DataError(self.obstacle)
        return self.repeat(costs, panel, targets)

    def repeat(
        self,
        costs: Costs | None = None,
        panel: Panel | None = None,
        targets: np.ndarray | None = None,
        first: Any = None,
    ) -> Result:
        """The same, without asking for an obstacle first; `first`: row at which the account starts."""
        result = self.result
        if result is None:
            raise DataError("weights with returns were given: only a Result can be run again")
        if targets is None:
            targets = _decided(result, panel)
        terms: dict[str, Any] = {"market": result.market, "cash": result.initial_cash}
        given = {"costs": costs or result.costs, **terms, **_policies(result), **self.policies}
        named: dict[str, Any] = {"rule": result.rule, "name": result.name}
        return account(panel or result.panel, result.first if first is None else first, targets, **given, **named)


def _decided(result: Result, panel: Panel | None) -> np.ndarray:
    """Targets `(n, a)`: of the rule on changed bars, or those that were."""
    known = np.asarray(result.targets)
    if panel is None or result.rule is None:
        return known
    return result.rule.weights(panel.bars(panel.symbols[0]))[1][:, None]


def _policies(result: Result) -> dict[str, Any]:
    """What acts between decisions: of the rule, or what the machine's tables say of a run without one."""
    rule, rules = result.rule, result.simulation.machine.rules
    if rule is not None:
        named = {name: getattr(rule, name) for name in ("exits", "scale_in", "limits")}
        return {**named, "band": rule.rebalance_band}
    band = float(rules[book.BAND])
    flags = {"in_units": bool(rules[book.IN_UNITS]), "events": bool(rules[book.EVENTS])}
    return {**flags, "band": None if math.isinf(band) else band}


class Scenario(Parameters):
    """One thing that goes wrong. For another one, subclass it and define `apply`; `name` is what the table calls it."""

    kind: ClassVar[str] = "own"
    name: str = Field("", description="name in the table; empty: one made of the parameters")

    @property
    def label(self) -> str:
        """The name, or what the parameters say."""
        return self.name or self._told()

    def _told(self) -> str:
        return type(self).__name__

    def apply(self, stressed: StressedBook) -> StressOutcome:
        """What it does to a book; `DataError` for what cannot be computed becomes a line that says so."""
        raise ParameterError(f"{type(self).__name__} does not define apply(stressed)")


def book_of_result(result: Result) -> tuple[pd.Series, pd.Series, str, pd.DataFrame]:
    """Returns, weights, which weights these are, and returns of the symbols."""
    closes = pd.DataFrame(result.panel.close, result.panel.index, list(result.symbols))
    if not np.isfinite(result.returns.to_numpy()).all() or result.equity.min() <= 0.0:
        raise DataError(
            f"the account of the result is emptied at {result.equity.idxmin()}: there is no worse to look for"
        )
    weights = result.weights
    gross = weights.abs().sum(axis=1)
    if not gross.max() > 0.0:
        raise DataError("the result never holds a position: there is nothing to stress")
    last = bool(gross.iloc[-1] > 0.0)
    when = weights.index[-1] if last else gross.idxmax()
    held = f"weights of {'the last bar' if last else 'its largest book'}, {when:%Y-%m-%d}"
    row = weights.iloc[-1] if last else weights.iloc[int(gross.argmax())]
    return result.returns, row, held, closes.pct_change().iloc[1:]


def book_of_weights(weights: Any, returns: Any) -> tuple[pd.Series, pd.Series, str, pd.DataFrame]:
    """The same of weights (fixed, or by time) and returns of their symbols; `DataError` where they do not fit."""
    if not isinstance(returns, pd.DataFrame) or not isinstance(weights, pd.Series | pd.DataFrame):
        raise ParameterError(
            "pass a Result, or (weights, returns): a Series or DataFrame of weights, a DataFrame of returns"
        )
    if len(returns) < 2 or not np.isfinite(returns.to_numpy(dtype=np.float64)).all():
        raise DataError(f"returns must be at least 2 rows of numbers without blanks; got {returns.shape}")
    symbols = weights.index if isinstance(weights, pd.Series) else weights.columns
    if set(symbols) != set(returns.columns):
        odd = sorted(map(str, set(symbols) ^ set(returns.columns)))[:5]
        raise DataError(f"weights and returns have different symbols ({', '.join(odd)}): give both for each of them")
    values = weights.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or not np.abs(values).max() > 0.0:
        raise DataError("weights must be numbers without blanks, and not all zero")
    if isinstance(weights, pd.Series):
        return returns[list(symbols)] @ weights, weights, "fixed weights", returns
    if not weights.index.equals(returns.index):
        shared = weights.index.intersection(returns.index)
        raise DataError(f"weights and returns share {len(shared)} of {len(returns)} times: align them by index first")
    weights = weights[list(returns.columns)]
    return (
        (weights.shift().iloc[1:] * returns.iloc[1:]).sum(axis=1),
        weights.iloc[-1],
        "weights of the last bar",
        returns,
    )
