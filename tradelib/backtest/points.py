"""Many points of a sweep at once: what differs between them as rows of numbers, the rest shared.

A block of points is turned into a matrix of target weights and handed to one compiled loop that runs the trading
machine point by point in the same memory and writes only figures. Blocks are independent, release the interpreter
lock, and may run in threads or on other machines.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tradelib._jit import jit
from tradelib.backtest import book, translate
from tradelib.backtest.book import Machine, Tape, empty_machine, grown
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.machine import advance
from tradelib.backtest.statistics import ACTIVITY, PERFORMANCE, activity, equity_returns, performance
from tradelib.backtest.trades import TRADE_COLUMNS, pair_fills
from tradelib.data.panel import Panel
from tradelib.errors import ParameterError
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.risk.sizing import Sizing
from tradelib.strategies.base import Strategy

__all__ = ["FIGURES", "Point", "Shared", "evaluate_block", "make_point"]

FIGURES = (*PERFORMANCE, *ACTIVITY)
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, eq=False)
class Point:
    """One point: the parts of a rule and the setting, with its parameters in place."""

    strategy: Strategy
    sizing: Sizing
    rule: DecisionRule
    costs: Costs
    market: Market

    def full_rule(self) -> DecisionRule:
        """The rule as one object, for whoever wants to run or promote it."""
        return self.rule.replace(strategy=self.strategy, sizing=self.sizing)


@dataclass(frozen=True, eq=False)
class Shared:
    """What all points of a sweep have in common. `tape` belongs to `panel`; the account lives from bar `first` on."""

    panel: Panel
    tape: Tape
    first: int
    cash: float
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"panel": self.panel, "tape": self.tape, "first": self.first, "cash": self.cash}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in {**state, "_local": threading.local()}.items():
            object.__setattr__(self, name, value)


def make_point(base: Point, changes: Mapping[str, Any]) -> Point:
    """`base` with parameters changed by path; `ParameterError` for an unknown path or an impossible value."""
    by_part: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        part, _, name = path.rpartition(".")
        by_part.setdefault(part, {})[name] = value
    strategy, sizing, rule, costs, market = base.strategy, base.sizing, base.rule, base.costs, base.market
    policies: dict[str, Any] = {}
    for part, values in by_part.items():
        if part == "strategy":
            strategy = strategy.replace(**values)
        elif part == "sizing":
            sizing = sizing.replace(**values)
        elif part == "costs":
            costs = costs.replace(**values)
        elif part == "market":
            market = market.replace(**values)
        elif part in ("exits", "scale_in", "limits"):
            policies[part] = _policy(rule, part, values)
        elif part == "" and set(values) == {"rebalance_band"}:
            policies["rebalance_band"] = values["rebalance_band"]
        else:
            raise ParameterError(f"the rule has no parameter {part if part else next(iter(values))!r}")
    return Point(strategy, sizing, rule.replace(**policies) if policies else rule, costs, market)


def _policy(rule: DecisionRule, part: str, values: Mapping[str, Any]) -> Any:
    """The policy `part` of `rule` with `values`; a rule without one gets one."""
    present = getattr(rule, part)
    kind = {"exits": Exits, "scale_in": ScaleIn, "limits": Limits}[part]
    return kind(**values) if present is None else present.replace(**values)


def _weights(points: Sequence[Point], shared: Shared) -> np.ndarray:
    """Target weights of a block, `(k, n, 1)`, each checked as a single run would be."""
    panel = shared.panel
    bars = _memo(shared).get("bars")
    if bars is None:
        bars = _memo(shared)["bars"] = panel.bars(panel.symbols[0])
    kind = type(points[0].strategy)
    if kind.batch_signals.__func__ is Strategy.batch_signals.__func__:  # type: ignore[attr-defined]
        weights = np.empty((len(points), len(panel), 1))
        for row, point in enumerate(points):
            weights[row, :, 0] = point.full_rule().weights(bars)[1]
        return weights
    signals = kind.batch_signals([point.strategy for point in points], bars, _memo(shared))
    _check_rows(signals, 1.0, points, shared, "signal")
    return _sized(points, signals, bars, shared)[:, :, None]


def _sized(points: Sequence[Point], signals: np.ndarray, bars: Any, shared: Shared) -> np.ndarray:
    first = points[0].sizing
    if all(point.sizing is first for point in points):
        weights = first.batch_weights(signals, bars)
    else:
        weights = np.vstack([p.sizing.batch_weights(signals[i : i + 1], bars) for i, p in enumerate(points)])
    _check_rows(weights, _LARGEST, points, shared, "target weight")
    return weights


@jit(nogil=True)
def _first_bad(rows: np.ndarray, bound: float) -> tuple[int, int]:
    """Row and column of the first value beyond `bound`, or NaN after the row's first number; else -1, -1."""
    for i in range(rows.shape[0]):
        start = 0
        while start < rows.shape[1] and rows[i, start] != rows[i, start]:
            start += 1
        fine = True
        for t in range(start, rows.shape[1]):
            fine &= abs(rows[i, t]) <= bound
        for t in range(start, rows.shape[1]):
            if not fine and not abs(rows[i, t]) <= bound:
                return i, t
            if fine:
                break
    return -1, -1


def _check_rows(rows: np.ndarray, bound: float, points: Sequence[Point], shared: Shared, what: str) -> None:
    i, t = _first_bad(rows, bound)
    if i >= 0:
        name = type(points[i].strategy).__name__
        raise ParameterError(
            f"{name}: {what} {rows[i, t]} at {shared.panel.index[t]}; must be a finite number in range"
        )


def _memo(shared: Shared) -> dict[Any, Any]:
    """What one thread keeps from block to block."""
    if not hasattr(shared._local, "memo"):
        shared._local.memo = {}
    memo: dict[Any, Any] = shared._local.memo
    return memo


@jit(nogil=True, _nrt=False)
def _reset(m: Machine, cash: float, first: int) -> None:
    """Bring a machine back to where `book.empty_machine` starts it."""
    for i in range(m.account.shape[0]):
        m.account[i] = 0.0
    for i in range(m.assets.shape[1]):
        m.assets[0, i] = 0.0
    for i in range(m.counts.shape[0]):
        m.counts[i] = 0
    for i in range(m.traded.shape[0]):
        m.traded[i] = 0.0
    for column in (book.CASH, book.PEAK, book.DAY_EQUITY, book.EQUITY):
        m.account[column] = cash
    for column in (book.DAY, book.LOSS_UNTIL, book.DRAWDOWN_UNTIL, book.PLANNED_AT):
        m.account[column] = book.NONE
    for column in (book.FIRST, book.LIQUIDATOR, book.INSIDE):
        m.assets[0, column] = book.NONE
    for column in (book.CLOSED_AT, book.FLOOR, book.LOWEST):
        m.assets[0, column] = -math.inf
    for column in (book.CEILING, book.HIGHEST):
        m.assets[0, column] = math.inf
    m.counts[book.NEXT_BAR] = max(first - 1, 0)


@jit(nogil=True, _nrt=False)
def _run_block(
    m: Machine,
    tape: Tape,
    targets: np.ndarray,
    script: np.ndarray,
    terms: np.ndarray,
    rules: np.ndarray,
    policies: np.ndarray,
    numbers: np.ndarray,
    equity: np.ndarray,
    returns: np.ndarray,
    trips: np.ndarray,
    trades: np.ndarray,
    lots: np.ndarray,
    last_close: np.ndarray,
    figures: np.ndarray,
    begin: int,
) -> int:
    """Run the points from `begin` on and write their `figures`; returns the point at which a table was full."""
    first, cash, periods, n = int(numbers[0]), numbers[1], numbers[2], targets.shape[1]
    split = figures.shape[1] - 9
    for i in range(begin, targets.shape[0]):
        _reset(m, cash, first)
        for column in range(terms.shape[1]):
            m.terms[0, column] = terms[i, column]
        for column in range(rules.shape[1]):
            m.rules[column] = rules[i, column]
        for column in range(policies.shape[1]):
            m.policies[0, column] = policies[i, column]
        if advance(m, tape, targets[i], script, equity, first, n) < n or m.counts[book.FILLS] + 1 > trades.shape[0]:
            return i
        lots[0] = terms[i, book.LOTS]
        for column in range(trips.shape[1]):
            trips[0, column] = 0.0
        equity_returns(equity, cash, returns)
        performance(equity, returns, cash, periods, figures[i, :split])
        count = pair_fills(m.fills[: m.counts[book.FILLS]], lots, n - 1, last_close, trips, trades)
        activity(m, trades, count, equity, periods, figures[i, split:])
    return targets.shape[0]


@dataclass(eq=False)
class _Scratch:
    """Memory that one thread reuses for every block."""

    machine: Machine
    equity: np.ndarray
    returns: np.ndarray
    trades: np.ndarray


def _scratch(shared: Shared, tiers: np.ndarray) -> _Scratch:
    memo = _memo(shared)
    key = ("scratch", tiers.tobytes())
    if key not in memo:
        n = len(shared.panel)
        terms, rules, policies = book.term_rows(1), book.rule_vector(), book.policy_rows(1)
        tables: dict[str, Any] = {"terms": terms, "rules": rules, "policies": policies, "tiers": tiers}
        machine = empty_machine(1, n, cash=shared.cash, first=shared.first, **tables)
        equity, returns = np.empty((2, n - shared.first))
        memo[key] = _Scratch(machine, equity, returns, np.empty((1, len(TRADE_COLUMNS))))
    found: _Scratch = memo[key]
    return found


def evaluate_block(points: Sequence[Point], shared: Shared) -> np.ndarray:
    """Figures of each point, `(k, len(FIGURES))`. All points share strategy class and fee tiers."""
    targets, periods = _weights(points, shared), shared.panel.periods_per_year
    terms, rules, policies = _settings(points, periods, shared.panel.symbols)
    figures, script = np.empty((len(points), len(FIGURES))), _EMPTY_SCRIPT
    numbers = np.array([shared.first, shared.cash, periods])
    trips, lots, last = np.zeros((1, 8)), np.zeros(1), np.array([shared.panel.close[-1, 0]])
    scratch, done = _scratch(shared, translate.fee_tiers(points[0].costs)), 0
    targets.flags.writeable = False
    while done < len(points):
        s = scratch
        done = _run_block(
            s.machine, shared.tape, targets, script, terms, rules, policies, numbers, s.equity, s.returns, trips,
            s.trades, lots, last, figures, done,
        )  # fmt: skip
        if done < len(points):
            scratch.machine = grown(scratch.machine)
            scratch.trades = np.empty((len(scratch.machine.fills) + 1, len(TRADE_COLUMNS)))
    return figures


def _settings(
    points: Sequence[Point], periods: float, symbols: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Terms, rules and policies of each point as rows; points that share their objects are translated once."""
    known: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    rows = []
    for point in points:
        key = (id(point.rule), id(point.costs), id(point.market))
        if key not in known:
            rule, costs, market = point.rule, point.costs, point.market
            known[key] = (
                translate.trading_terms(costs, market, 1, periods)[0],
                translate.account_rules(costs, market, rule.limits, rule.rebalance_band, periods),
                translate.policy_table(symbols, rule.exits, rule.scale_in, rule.limits)[0],
            )
        rows.append(known[key])
    terms, rules, policies = zip(*rows, strict=True)
    return np.array(terms), np.array(rules), np.array(policies)


_EMPTY_SCRIPT = np.empty((0, book.ORDER_COLUMNS))
_EMPTY_SCRIPT.flags.writeable = False
