"""Golden decisions: what the rule decided in research on bars that travel with it, and what came of it.

A runner that does not reproduce them to the last bit, on its own machine and with its own package, is not running what
was promoted. They are computed twice: over the whole window in one call, and for the last bars one by one on growing
histories, which is how the runner decides. The golden account (`tradelib.bundle.account`) is computed once more from
bars, rule and terms. Kernels run interpreted, as they do in the runner.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tradelib._jit import interpreted
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle.account import TABLES, Rows, golden_account
from tradelib.bundle.execution import Execution
from tradelib.bundle.layout import Bundle
from tradelib.data.bars import window
from tradelib.errors import BundleError

__all__ = [
    "STEPWISE",
    "Difference",
    "GoldenCheck",
    "check_account",
    "check_golden",
    "decision_rows",
    "make_golden",
    "reproduce_golden",
]

STEPWISE = 64
"""How many of the last golden bars are also decided one by one."""
_FIELDS = ("signal", "target_weight")
_ROW = ("time", *_FIELDS)


@dataclass(frozen=True)
class Difference:
    """The first value that came out otherwise; `evaluation`: "in one call", "bar by bar", or "by the backtest"."""

    time: str
    field: str
    expected: Any
    found: Any
    evaluation: str

    def __str__(self) -> str:
        return (
            f"{self.field} at {self.time} is {self.found!r} instead of {self.expected!r} (computed {self.evaluation})"
        )


@dataclass(frozen=True)
class GoldenCheck:
    """`count` decisions and `orders` of the account were compared; `equal` when all are the same to the last bit."""

    count: int
    equal: bool
    first_difference: Difference | None
    orders: int = 0


def make_golden(rule: DecisionRule, bars: pd.DataFrame, length: int) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The last `length` of `bars` and the rule's decisions on them, computed from the window alone.

    Raises `BundleError` when the window holds no decision (too short for the rule's warm-up), or when deciding it bar
    by bar with interpreted kernels gives other numbers: the rule looks ahead, or depends on something else than bars.
    """
    if length > len(bars):
        raise BundleError(f"A golden window of {length} bars was asked for, and there are {len(bars)}: take fewer.")
    part = window(bars, bars.index[-length]) if length > 0 else bars.iloc[:0]
    decisions = decision_rows(rule.decisions(part)) if len(part) else []
    if not any(row["target_weight"] is not None for row in decisions):
        raise BundleError(f"A golden window of {length} bars holds no decision of the rule: take more bars.")
    check = check_golden(rule, part, decisions)
    if not check.equal:
        raise BundleError(f"The rule does not decide the same way twice: {check.first_difference}.")
    return part, decisions


def reproduce_golden(bundle: Bundle, stepwise: int = STEPWISE) -> GoldenCheck:
    """Decide and trade the bundle's golden bars anew; compare with its golden decisions and account, bit for bit."""
    check = check_golden(bundle.rule, bundle.golden_bars, bundle.golden_decisions, stepwise)
    difference = check.first_difference
    if difference is None:
        difference = check_account(bundle.rule, bundle.execution, bundle.golden_bars, bundle.golden_account)
    return GoldenCheck(check.count, difference is None, difference, len(bundle.golden_account["orders"]))


def check_golden(
    rule: DecisionRule, bars: pd.DataFrame, expected: Sequence[dict[str, Any]], stepwise: int = STEPWISE
) -> GoldenCheck:
    """Compare `expected` with what `rule` decides on `bars`, at once and for the last `stepwise` bars one by one."""
    with interpreted():
        at_once = decision_rows(rule.decisions(bars))
        difference = _first_difference(expected, at_once, _ROW, "decisions", "in one call")
        tail = min(stepwise, len(bars))
        if difference is None and tail > 0:
            one_by_one = [_decide_last(rule, bars, row) for row in range(len(bars) - tail, len(bars))]
            difference = _first_difference(expected[-tail:], one_by_one, _ROW, "decisions", "bar by bar")
    return GoldenCheck(len(expected), difference is None, difference)


def check_account(
    rule: DecisionRule, execution: Execution, bars: pd.DataFrame, expected: Mapping[str, Rows]
) -> Difference | None:
    """The first difference between the account in `expected` and what interpreted kernels make of the same."""
    with interpreted():
        found = golden_account(rule, execution, bars)
    for name, columns in TABLES.items():
        difference = _first_difference(expected[name], found[name], columns, name, "by the backtest")
        if difference is not None:
            return difference
    return None


def decision_rows(decisions: pd.DataFrame) -> list[dict[str, Any]]:
    """Decisions as JSON-able rows `{"time": ISO UTC, "signal": ..., "target_weight": ...}`; NaN becomes None."""
    times = [time.isoformat() for time in decisions.index]
    columns = [[_plain(value) for value in decisions[name].to_numpy(dtype=np.float64)] for name in _FIELDS]
    return [dict(zip(_ROW, row, strict=True)) for row in zip(times, *columns, strict=True)]


def _decide_last(rule: DecisionRule, bars: pd.DataFrame, row: int) -> dict[str, Any]:
    """The decision on bar `row` of somebody who has seen the bars up to it."""
    return decision_rows(rule.decisions(window(bars, end=bars.index[row])).iloc[-1:])[0]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _first_difference(
    expected: Sequence[dict[str, Any]],
    found: Sequence[dict[str, Any]],
    columns: Sequence[str],
    what: str,
    evaluation: str,
) -> Difference | None:
    of = "" if what == "decisions" else f" of {what}"
    for wanted, got in zip(expected, found, strict=False):
        for name in columns:
            if not _same(wanted[name], got[name]):
                return Difference(wanted["time"], f"{name}{of}", wanted[name], got[name], evaluation)
    if len(expected) != len(found):
        place = min(len(expected), len(found))
        time = (expected[place] if len(expected) > place else found[place])["time"]
        return Difference(time, f"number of {what}", len(expected), len(found), evaluation)
    return None


def _same(wanted: Any, got: Any) -> bool:
    """Equal to the last bit: 0.0 is not -0.0."""
    if isinstance(wanted, float) and isinstance(got, float):
        return struct.pack("<d", wanted) == struct.pack("<d", got)
    return type(wanted) is type(got) and bool(wanted == got)
