"""Many points of a sweep at once: what differs between them as rows of numbers, the rest shared.

A block of points is turned into a matrix of target weights and handed to one compiled loop that runs the trading
machine point by point in the same memory and writes only figures. Blocks are independent, release the interpreter
lock, and may run in threads or on other machines.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from tradelib._jit import jit
from tradelib._memory import shared as shared_view
from tradelib.backtest import book, translate
from tradelib.backtest.book import Machine, Tape, empty_machine, grown
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.machine import advance
from tradelib.backtest.performance import CORE, CORE_ONLY, performance, workspace
from tradelib.backtest.statistics import ACTIVITY, activity
from tradelib.backtest.trades import TRADE_COLUMNS, pair_fills
from tradelib.backtest.weighing import weigh_in_place
from tradelib.data.panel import Panel
from tradelib.errors import ParameterError
from tradelib.parameters import Parameters
from tradelib.risk import judging
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.risk.sizing import Sizing, product_scale
from tradelib.strategies.base import Strategy

__all__ = ["FIGURES", "Maker", "Point", "Shared", "block_size", "evaluate_block", "make_point", "warmup"]

FIGURES = (*CORE, *ACTIVITY)
_LARGEST = float(np.finfo(np.float64).max)
_SINGLE = ("strategy", "sizing", "costs", "market")
_POLICIES: dict[str, type[Parameters]] = {"exits": Exits, "scale_in": ScaleIn, "limits": Limits}
_BLOCK = 64
_SPLIT = len(CORE)
_KEPT_BYTES = 64 * 2**20


class Point(NamedTuple):
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


def block_size(bars: int) -> int:
    """Points of a block: their target weights fit the cache of a core, however many bars there are."""
    return max(1, min(_BLOCK, 2**22 // (8 * bars)))


def make_point(base: Point, changes: Mapping[str, Any]) -> Point:
    """`base` with parameters changed by path; `ParameterError` for an unknown path or an impossible value."""
    return Maker(base, tuple(changes))(changes)


class Maker:
    """Makes the points of one sweep: `base` with other values at the paths `axes`.

    Points that share the values of a part share its object too, so that what follows from it is worked out once.
    """

    def __init__(self, base: Point, axes: Sequence[str]) -> None:
        self.base, self.axes = base, tuple(axes)
        self._fields: dict[str, list[tuple[str, str]]] = {}
        for path in axes:
            part, _, name = path.rpartition(".")
            part, name = (part, name) if part in _SINGLE else ("rule", path)
            if part == "rule" and not (path == "rebalance_band" or path.partition(".")[0] in _POLICIES):
                raise ParameterError(f"the rule has no parameter {path!r}")
            self._fields.setdefault(part, []).append((name, path))
        self._made: dict[str, dict[str, Any]] = {part: {} for part in self._fields}
        self._alone = next(iter(self._fields)) if len(self._fields) == 1 else ""  # each of its values is met once
        place = Point._fields.index(self._alone) if self._alone else 0
        self._before, self._after = base[:place], base[place + 1 :]

    @property
    def parts(self) -> frozenset[str]:
        """What differs between points: `strategy`, `sizing`, `rule` (its policies and band), `costs`, `market`."""
        return frozenset(self._fields)

    def __call__(self, changes: Mapping[str, Any]) -> Point:
        """The point with the values of `changes`; `ParameterError` for an impossible one."""
        if self._alone:
            values = {name: changes[path] for name, path in self._fields[self._alone]}
            return Point._make((*self._before, _changed(self.base, self._alone, values), *self._after))
        return self.base._replace(**{part: self._shared(part, changes) for part in self._fields})

    def _shared(self, part: str, changes: Mapping[str, Any]) -> Any:
        """A part with its values, made once."""
        values = {name: changes[path] for name, path in self._fields[part]}
        made, key = self._made[part], repr(values)
        if key not in made:
            try:
                made[key] = _changed(self.base, part, values)
            except ParameterError as error:
                made[key] = error
        if isinstance(made[key], ParameterError):
            raise made[key]
        return made[key]


def _changed(base: Point, part: str, values: Mapping[str, Any]) -> Any:
    """The part of `base` with `values`; those of a rule are paths to its policies, or its band."""
    if part != "rule":
        return getattr(base, part).replace(**values)
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        policy, _, name = path.rpartition(".")
        inner.setdefault(policy, {})[name] = value
    changes = {**inner.pop("", {}), **{policy: _policy(base.rule, policy, given) for policy, given in inner.items()}}
    return base.rule.replace(**changes)


def _policy(rule: DecisionRule, part: str, values: Mapping[str, Any]) -> Any:
    """The policy `part` of `rule` with `values`; a rule without one gets one."""
    present = getattr(rule, part)
    return _POLICIES[part](**values) if present is None else present.replace(**values)


def _targets(points: Sequence[Point], shared: Shared) -> tuple[np.ndarray, np.ndarray]:
    """Target weights of the different decisions among `points`, `(d, n, 1)`, and the row of each point, `(k,)`.

    Points that differ in exits, limits or costs alone decide the same: their weights are computed once. Each row is
    checked as a single run would be.
    """
    first: dict[tuple[int, int], int] = {}
    rows = np.array([first.setdefault((id(p.strategy), id(p.sizing)), len(first)) for p in points])
    places = np.unique(rows, return_index=True)[1]
    return _weights([points[i] for i in places], shared), rows


def _weights(points: Sequence[Point], shared: Shared) -> np.ndarray:
    """Target weights of points, `(k, n, 1)`, each checked as a single run would be."""
    panel, memo = shared.panel, _memo(shared)
    bars = memo.get("bars")
    if bars is None:
        bars = memo["bars"] = panel.bars(panel.symbols[0])
    kind = type(points[0].strategy)
    if kind.batch_signals.__func__ is Strategy.batch_signals.__func__:  # type: ignore[attr-defined]
        weights = np.empty((len(points), len(panel), 1))
        for row, point in enumerate(points):
            weights[row, :, 0] = point.full_rule().weights(bars)[1]
        return weights
    signals = kind.batch_signals([point.strategy for point in points], bars, memo)
    return _sized(points, signals, bars, shared)[:, :, None]


def warmup(points: Sequence[Point], panel: Panel) -> int:
    """Bars that the slowest of `points` needs for its first target weight; more than the panel has: all and one."""
    shared, length = Shared(panel, None, 0, 1.0), len(panel)  # type: ignore[arg-type]
    longest = 0
    for begin in range(0, len(points), _BLOCK):
        known = ~np.isnan(_targets(points[begin : begin + _BLOCK], shared)[0][:, :, 0])
        waits = np.where(known.any(axis=1), known.argmax(axis=1) + 1, length + 1)
        longest = max(longest, int(waits.max()))
        if longest > length:
            break
    return longest


def _sized(points: Sequence[Point], signals: np.ndarray, bars: Any, shared: Shared) -> np.ndarray:
    """Target weights from signals, rows of the same sizing together; what is a product is made in place."""
    sizings = {id(point.sizing): point.sizing for point in points}
    scales = {key: product_scale(sizing, bars) for key, sizing in sizings.items()}
    weights = signals if signals.flags.writeable and signals.flags.c_contiguous else np.array(signals, dtype=np.float64)
    for begin, end, key in _runs([id(point.sizing) for point in points]):
        part, scale = weights[begin:end], scales[key]
        if scale is None:
            _check_rows(part, 1.0, points[begin:end], shared, "signal")
            part[:] = sizings[key].batch_weights(part, bars)
            _check_rows(part, _LARGEST, points[begin:end], shared, "target weight")
            continue
        row = weigh_in_place(part.reshape(-1), shared_view(scale), part.shape[1])
        if row >= 0:
            points[begin + row].full_rule().weights(bars)  # says which bar, and what is wrong there
    return weights


def _runs(keys: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Begin, end and key of each stretch of equal keys."""
    begin = 0
    for key, group in groupby(keys):
        end = begin + len(list(group))
        yield begin, end, key
        begin = end


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


class _Memo(dict[Any, Any]):
    """What one thread keeps from block to block: arrays up to `_KEPT_BYTES` together, then the oldest go."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[Any, int] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if isinstance(value, np.ndarray):
            self._sizes.pop(key, None)
            self._sizes[key] = value.nbytes
            while len(self._sizes) > 1 and sum(self._sizes.values()) > _KEPT_BYTES:
                oldest = next(iter(self._sizes))
                del self._sizes[oldest], self[oldest]


def _memo(shared: Shared) -> _Memo:
    """What this thread keeps."""
    if not hasattr(shared._local, "memo"):
        shared._local.memo = _Memo()
    memo: _Memo = shared._local.memo
    return memo


@jit(nogil=True, _nrt=False)
def _reset(m: Machine, account: np.ndarray, assets: np.ndarray, counts: np.ndarray) -> None:
    """Bring a machine back to the state in which these tables were copied."""
    for i in range(m.account.shape[0]):
        m.account[i] = account[i]
    for i in range(m.assets.shape[1]):
        m.assets[0, i] = assets[0, i]
    for i in range(m.counts.shape[0]):
        m.counts[i] = counts[i]
    for i in range(m.traded.shape[0]):
        m.traded[i] = 0.0


@jit(nogil=True, _nrt=False)
def _run_block(
    m: Machine,
    fresh: Machine,
    tape: Tape,
    targets: np.ndarray,
    lines: np.ndarray,
    use: np.ndarray,
    script: np.ndarray,
    terms: np.ndarray,
    rules: np.ndarray,
    policies: np.ndarray,
    numbers: np.ndarray,
    equity: np.ndarray,
    lanes: np.ndarray,
    kept: np.ndarray,
    trips: np.ndarray,
    trades: np.ndarray,
    lots: np.ndarray,
    last_close: np.ndarray,
    figures: np.ndarray,
    begin: int,
) -> int:
    """Run the points from `begin` on and write their `figures`; returns the point at which a table was full.

    Point i follows the row `use[i]` of `targets`; `lines` are the same without the axis of symbols.
    """
    first, cash, periods, n = int(numbers[0]), numbers[1], numbers[2], targets.shape[1]
    for i in range(begin, use.shape[0]):
        _reset(m, fresh.account, fresh.assets, fresh.counts)
        for column in range(terms.shape[1]):
            m.terms[0, column] = terms[i, column]
        for column in range(rules.shape[1]):
            m.rules[column] = rules[i, column]
        for column in range(policies.shape[1]):
            m.policies[0, column] = policies[i, column]
        reached = advance(m, tape, targets[use[i]], lines[use[i]], script, equity, first, n)
        if reached < n or m.counts[book.FILLS] + 1 > trades.shape[0]:
            return i
        lots[0] = terms[i, book.LOTS]
        for column in range(trips.shape[1]):
            trips[0, column] = 0.0
        performance(equity, equity.shape[0], cash, periods, 0.0, 0.0, CORE_ONLY, lanes, kept, figures, i)
        count = pair_fills(m.fills[: m.counts[book.FILLS]], lots, n - 1, last_close, trips, trades)
        activity(m, trades, count, equity, periods, figures[i, _SPLIT:])
    return use.shape[0]


@dataclass(eq=False)
class _Scratch:
    """Memory that one thread reuses for every block."""

    machine: Machine
    fresh: Machine
    equity: np.ndarray
    room: tuple[np.ndarray, np.ndarray]
    trades: np.ndarray


def _scratch(shared: Shared, tiers: np.ndarray, rules: np.ndarray) -> _Scratch:
    """Memory for points with these fee tiers, and rules that need the same tables as `rules` `(RULE_COLUMNS,)`."""
    memo, key = _memo(shared), (tiers.tobytes(), rules[judging.GUARDS] > 0.0, rules[judging.SCENARIOS])
    kept: tuple[Any, _Scratch] | None = memo.get("scratch")
    if kept is None or kept[0] != key:
        n = len(shared.panel)
        terms, rules, policies = book.term_rows(1), rules.copy(), book.policy_rows(1)
        tables: dict[str, Any] = {"terms": terms, "rules": rules, "policies": policies, "tiers": tiers}
        machine = empty_machine(1, n, cash=shared.cash, first=shared.first, **tables)
        fresh = Machine(*(table.copy() for table in machine))
        equity, room = np.empty(n - shared.first), workspace(n - shared.first, CORE_ONLY)
        kept = memo["scratch"] = key, _Scratch(machine, fresh, equity, room, np.empty((1, len(TRADE_COLUMNS))))
    return kept[1]


def evaluate_block(points: Sequence[Point], shared: Shared) -> np.ndarray:
    """Figures of each point, `(k, len(FIGURES))`. All points share strategy class, fee tiers, and what limits need."""
    (targets, use), periods = _targets(points, shared), shared.panel.periods_per_year
    terms, rules, policies = _settings(points, periods, shared.panel.symbols)
    figures, script = np.empty((len(points), len(FIGURES))), _EMPTY_SCRIPT
    numbers = np.array([shared.first, shared.cash, periods])
    trips, lots, last = np.zeros((1, 8)), np.zeros(1), np.array([shared.panel.close[-1, 0]])
    scratch, done = _scratch(shared, translate.fee_tiers(points[0].costs), rules[0]), 0
    targets.flags.writeable = False
    lines = targets[:, :, 0]
    while done < len(points):
        s = scratch
        done = _run_block(
            s.machine, s.fresh, shared.tape, targets, lines, use, script, terms, rules, policies, numbers, s.equity,
            *s.room, trips, s.trades, lots, last, figures, done,
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
    keys = [(id(point[2]), id(point[3]), id(point[4])) for point in points]
    for key, point in zip(keys, points, strict=True):
        if key not in known:
            rule, costs, market = point.rule, point.costs, point.market
            known[key] = (
                translate.trading_terms(costs, market, 1, periods)[0],
                translate.account_rules(costs, market, rule.limits, rule.rebalance_band, periods),
                translate.policy_table(symbols, rule.exits, rule.scale_in, rule.limits)[0],
            )
    if len(known) == 1:
        terms, rules, policies = (np.repeat(row[None], len(points), axis=0) for row in known[keys[0]])
    else:
        terms, rules, policies = (np.array(rows) for rows in zip(*map(known.__getitem__, keys), strict=True))
    return terms, rules, policies


_EMPTY_SCRIPT = np.empty((0, book.ORDER_COLUMNS))
_EMPTY_SCRIPT.flags.writeable = False
