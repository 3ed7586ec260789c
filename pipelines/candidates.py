"""A candidate: a decision rule on a market, and the grid of parameters that research may try."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from tradelib._jit import interpreted
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.backtest.sweeps import grid_points, parameter_paths, with_parameters
from tradelib.errors import ParameterError
from tradelib.indicators.core import probe_bars
from tradelib.parameters import Parameters, nearest

__all__ = ["Candidate"]


class Candidate(Parameters):
    """One entry under `strategies`: market, rule (strategy, sizing, rebalance band), grid, and what selects a point."""

    market: str
    rule: dict[str, Any]
    grid: dict[str, list[Any]]
    select_by: str = Field("sharpe_ratio", description="figure of the sweep whose highest value selects the rule")

    @model_validator(mode="after")
    def _everything_exists(self) -> Self:
        rule = self.decision_rule
        known = parameter_paths(rule)
        for path in self.grid:
            if path not in known:
                raise ValueError(f"the grid names {path!r}, which the rule does not have{nearest(path, known)}")
        with interpreted():
            figures = list(replay(rule, probe_bars(300)).metrics)
        if self.select_by not in figures:
            raise ValueError(
                f"select_by names {self.select_by!r}, which no backtest has{nearest(self.select_by, figures)}"
            )
        if not any(_valid(rule, point) for point in grid_points(self.grid)):
            raise ValueError("no point of the grid is a valid rule")
        return self

    @property
    def decision_rule(self) -> DecisionRule:
        """The rule with the parameters written in `params.yaml`; the grid varies it."""
        return DecisionRule.from_config(self.rule)


def _valid(rule: DecisionRule, point: dict[str, Any]) -> bool:
    try:
        with_parameters(rule, point)
    except ParameterError:
        return False
    return True
