"""What a caller may give: a mistake is named at the door, before anything runs or is counted.

Every public call asks here for its rule, its settings and its tables, so that the same mistake has the same answer
everywhere.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.trials import TrialLedger
from tradelib.data.panel import Panel
from tradelib.errors import ParameterError
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.strategies.base import Strategy

__all__ = [
    "as_numbers",
    "as_rule",
    "as_table",
    "check_policies",
    "check_settings",
    "is_number",
    "is_whole",
    "refuse_class",
    "shown",
]

_SETTINGS: dict[str, tuple[type, str]] = {
    "costs": (Costs, "Costs(fee_rate=0.001)"),
    "market": (Market, "Market(maximum_leverage=2)"),
    "exits_policy": (Exits, "Exits(stop_loss=0.05)"),
    "scale_in": (ScaleIn, "ScaleIn(orders=2, step=0.02)"),
    "limits": (Limits, "Limits(maximum_drawdown=0.2)"),
    "ledger": (TrialLedger, "TrialLedger('trials.sqlite')"),
}

# Values ---------------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """`value` in an error message: as Python writes it, or its type in brackets where that would be long."""
    text = "" if isinstance(value, pd.DataFrame | pd.Series | np.ndarray) else repr(value)
    return text if text and len(text) <= 80 and "\n" not in text else f"<{type(value).__name__}>"


def is_number(value: Any) -> bool:
    """True for a finite real number, numpy's included; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def is_whole(value: Any) -> bool:
    """True for an integer, numpy's included; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


# Rules and settings ---------------------------------------------------------------------------------------------------


def refuse_class(given: Any) -> None:
    """`ParameterError` for a strategy or a rule that was named and not made."""
    if isinstance(given, type) and issubclass(given, Strategy | DecisionRule):
        known = ", ".join(given.model_fields) or "none"
        raise ParameterError(
            f"{given.__name__} is a class: give an instance, for example {given.__name__}(...) with its parameters "
            f"({known})"
        )


def as_rule(given: Any) -> DecisionRule:
    """A rule; a bare strategy is one with the default sizing. `ParameterError` for anything else."""
    if isinstance(given, DecisionRule):
        return given
    if isinstance(given, Strategy):
        return DecisionRule(strategy=given)
    refuse_class(given)
    raise ParameterError(
        f"the rule is {shown(given)}: give a Strategy or a DecisionRule, for example TrendFollowing(fast=20, slow=100)"
    )


def check_settings(*, name: Any = "run", **given: Any) -> None:
    """`ParameterError` for a setting of another type than its own; None stands for the default.

    `given`: by the names of the public calls (`costs`, `market`, `exits_policy`, `scale_in`, `limits`, `ledger`).
    """
    for setting, value in given.items():
        kind, example = _SETTINGS[setting]
        if value is not None and not isinstance(value, kind):
            raise ParameterError(f"{setting} is {shown(value)}: give an instance of {kind.__name__}, as in {example}")
    if not isinstance(name, str) or not name:
        raise ParameterError(f"name is {shown(name)}: give the text under which the trial is counted")


def check_policies(exits: Exits | None, scale_in: ScaleIn | None, targets: np.ndarray, way_out: str) -> None:
    """`ParameterError` where targets `(n, a)` on bars in a row undo what a policy has traded; `way_out`: what to do."""
    partial = exits is not None and exits.is_partial
    if not partial and scale_in is None:
        return
    known = ~np.isnan(targets)
    if (known[1:] & known[:-1]).any():
        what = "take_profit rungs" if partial else "scale_in"
        raise ParameterError(f"{what} and targets on every bar undo each other: {way_out}")


# Tables ---------------------------------------------------------------------------------------------------------------


def as_table(given: Any, panel: Panel, what: str, gap: str) -> Any:
    """`given`, a table with its columns in the order of the panel's symbols; anything else as it is.

    `ParameterError` for another index than the panel's, and for symbols that lack, are unknown or come twice. `gap`:
    what to write on bars without a value.
    """
    if isinstance(given, pd.Series | pd.DataFrame) and not given.index.equals(panel.index):
        told = _first_odd(given.index, panel, gap)
        raise ParameterError(f"{what} must have the times of the bars as its index: {told}")
    return _in_order(given, panel, what) if isinstance(given, pd.DataFrame) else given


def _first_odd(index: pd.Index, panel: Panel, gap: str) -> str:
    """Where two indexes part, in words, and what to do."""
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        return "its index must hold times with a zone, as the bars' index does"
    odd = index.symmetric_difference(panel.index)
    if len(odd) == 0:
        return "it holds the same times in another order or more than once; sort it and drop the doubles"
    lacks = "it lacks" if odd[0] in panel.index else "the bars lack"
    return f"{lacks} {odd[0]}; reindex it to the bars, {gap}"


def _in_order(given: pd.DataFrame, panel: Panel, what: str) -> pd.DataFrame:
    if tuple(given.columns) == panel.symbols:
        return given
    absent, extra = set(panel.symbols) - set(given.columns), set(given.columns) - set(panel.symbols)
    if absent or extra:
        told = "lacks the" if absent else "has unknown"
        names = sorted(map(str, absent or extra))
        raise ParameterError(
            f"{what} {told} symbols {', '.join(names[:10])}: give a column for each symbol of the bars"
        )
    if given.columns.has_duplicates:
        raise ParameterError(f"{what} has the column {given.columns[given.columns.duplicated()][0]} twice")
    return given[list(panel.symbols)]


def as_numbers(given: Any, what: str) -> np.ndarray:
    """`given` as float64; `ParameterError` for what is no number, or would lose a part on the way to one."""
    try:
        kind = np.asarray(given).dtype
        if kind.kind not in "cmM":
            return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{what} must be numbers: {error}") from None
    raise ParameterError(f"{what} must be numbers, not {kind}")
