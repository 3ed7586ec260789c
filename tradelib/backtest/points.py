"""Many points of a sweep at once: what differs between them as rows of numbers, the rest shared.

A block of points is turned into a matrix of target weights and handed to one compiled loop that runs the trading
machine point by point in the same memory and writes only figures. Blocks are independent, release the interpreter
lock, and may run in threads or on other machines.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, NoReturn

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
from tradelib.backtest.weighing import weigh_codes, weigh_row
from tradelib.data.panel import Panel
from tradelib.errors import ParameterError
from tradelib.parameters import Parameters, Variants
from tradelib.risk import judging
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.risk.sizing import Sizing, product_scale
from tradelib.strategies.base import SILENT, Strategy, decoded

__all__ = ["FIGURES", "Maker", "Point", "Shared", "block_size", "evaluate_block", "make_point", "warmup"]

FIGURES = (*CORE, *ACTIVITY)
_LARGEST = float(np.finfo(np.float64).max)
_SINGLE = ("strategy", "sizing", "costs", "market")
_POLICIES: dict[str, type[Parameters]] = {"exits": Exits, "scale_in": ScaleIn, "limits": Limits}
_BLOCK = 256
_SPLIT = len(CORE)
_SETTING = tuple(operator.itemgetter(place) for place in (2, 3, 4))
"""Rule, costs and market of a point."""
_KEPT_BYTES = 64 * 2**20
_ROOM = 2**20
"""Signals of a block: eight megabytes, or one where they are whole numbers."""


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


def block_size(bars: int, strategy: type[Strategy]) -> int:
    """Points of a block: so many that handing it over is no work, and however many bars there are, few megabytes.

    Fewer where each of them is asked for its signals alone, and may take long.
    """
    return max(1, min(_BLOCK if _knows_batches(strategy) else _BLOCK // 4, _ROOM // bars))


def _knows_batches(strategy: type[Strategy]) -> bool:
    return strategy.batch_signals.__func__ is not Strategy.batch_signals.__func__  # type: ignore[attr-defined]


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
        self._variants = {
            part: Variants(getattr(base, part), {path: name for name, path in fields})
            for part, fields in self._fields.items()
            if part != "rule" and {name for name, _ in fields} <= type(getattr(base, part)).model_fields.keys()
        }

    @property
    def parts(self) -> frozenset[str]:
        """What differs between points: `strategy`, `sizing`, `rule` (its policies and band), `costs`, `market`."""
        return frozenset(self._fields)

    def __call__(self, changes: Mapping[str, Any]) -> Point:
        """The point with the values of `changes`; `ParameterError` for an impossible one."""
        if self._alone:
            return Point._make((*self._before, self._changed(self._alone, changes), *self._after))
        return self.base._replace(**{part: self._shared(part, changes) for part in self._fields})

    def _shared(self, part: str, changes: Mapping[str, Any]) -> Any:
        """A part with its values, made once."""
        made, key = self._made[part], repr([changes[path] for _, path in self._fields[part]])
        if key not in made:
            try:
                made.setdefault(key, self._changed(part, changes))
            except ParameterError as error:
                made[key] = error
        if isinstance(made[key], ParameterError):
            raise made[key]
        return made[key]

    def _changed(self, part: str, changes: Mapping[str, Any]) -> Any:
        """The part with its values of `changes`; those of a rule are paths to its policies, or its band."""
        if part in self._variants:
            return self._variants[part](changes)
        values = {name: changes[path] for name, path in self._fields[part]}
        if part != "rule":
            return getattr(self.base, part).replace(**values)
        rule, inner = self.base.rule, dict[str, dict[str, Any]]()
        for path, value in values.items():
            policy, _, name = path.rpartition(".")
            inner.setdefault(policy, {})[name] = value
        policies = {policy: _policy(rule, policy, given) for policy, given in inner.items() if policy}
        return rule.replace(**inner.get("", {}), **policies)


def _policy(rule: DecisionRule, part: str, values: Mapping[str, Any]) -> Any:
    """The policy `part` of `rule` with `values`; a rule without one gets one."""
    present = getattr(rule, part)
    return _POLICIES[part](**values) if present is None else present.replace(**values)


class _Decisions(NamedTuple):
    """The different decisions among points: one of the points that decide so, and the decision of each point `(k,)`.

    Points that differ in exits, limits or costs alone decide the same.
    """

    points: list[Point]
    use: np.ndarray


def _decisions(points: Sequence[Point]) -> _Decisions:
    first, deciders, use = dict[tuple[int, int], int](), list[Point](), list[int]()
    for point in points:
        key = id(point.strategy), id(point.sizing)
        if key not in first:
            first[key] = len(deciders)
            deciders.append(point)
        use.append(first[key])
    return _Decisions(deciders, np.array(use))


class _Signals(NamedTuple):
    """What decisions are made of: `rows` `(d, n)` of numbers, or `codes` `(d, n)` of int8; the other one is empty.

    `which` `(d,)`: the row of `scales` `(s, 1)` or `(s, n)` that each is multiplied by; -1 where a row is the target
    weight already, checked as a single run would check it.
    """

    rows: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    which: np.ndarray


_NO_ROWS, _NO_CODES = np.empty((0, 0)), np.empty((0, 0), np.int8)


def _bars(shared: Shared) -> Any:
    """The bars as a frame, made once per thread."""
    memo = _memo(shared)
    if "bars" not in memo:
        memo["bars"] = shared.panel.bars(shared.panel.symbols[0])
    return memo["bars"]


def _signals(points: Sequence[Point], shared: Shared) -> _Signals:
    """Signals of points with different decisions."""
    bars, kind, n = _bars(shared), type(points[0].strategy), len(shared.panel)
    if not _knows_batches(kind):
        rows = np.empty((len(points), n))
        for row, point in enumerate(points):
            rows[row] = point.full_rule().weights(bars)[1]
        return _Signals(rows, _NO_CODES, np.ones((1, 1)), np.full(len(points), -1))
    rows = kind.batch_signals([point.strategy for point in points], bars, _memo(shared))
    places, scales = dict[int, int](), [np.ones(1)]
    for sizing in {id(point.sizing): point.sizing for point in points}.values():
        scale = product_scale(sizing, bars)
        if scale is not None:
            places[id(sizing)] = len(scales)
            scales.append(scale)
    which, table = np.array([places.get(id(p.sizing), -1) for p in points]), np.vstack(np.broadcast_arrays(*scales))
    if rows.dtype == np.int8 and which.min() >= 0:
        return _Signals(_NO_ROWS, np.ascontiguousarray(rows), table, which)
    rows = np.require(decoded(rows), np.float64, ["C", "W"])
    for begin, end, key in _runs([id(point.sizing) for point in points]):
        if key not in places:
            _check_rows(rows[begin:end], 1.0, points[begin:end], shared, "signal")
            rows[begin:end] = points[begin].sizing.batch_weights(rows[begin:end], bars)
            _check_rows(rows[begin:end], _LARGEST, points[begin:end], shared, "target weight")
    return _Signals(rows, _NO_CODES, table, which)


def warmup(points: Sequence[Point], panel: Panel) -> int:
    """Bars that the slowest of `points` needs for its first target weight; more than the panel has: all and one."""
    shared, length = Shared(panel, None, 0, 1.0), len(panel)  # type: ignore[arg-type]
    longest, line = 0, np.empty(len(panel))
    deciders = _decisions(points).points
    for begin in range(0, len(deciders), _BLOCK):
        part = deciders[begin : begin + _BLOCK]
        signals = _signals(part, shared)
        for row, point in enumerate(part):
            if not _weigh(*signals, row, line):
                _refuse(point, shared)
            known = ~np.isnan(line)
            longest = max(longest, int(known.argmax()) + 1 if known.any() else length + 1)
        if longest > length:
            break
    return longest


def _refuse(point: Point, shared: Shared) -> NoReturn:
    """Say which signal or weight of `point` is wrong, and where; if none is, that its batch is."""
    point.full_rule().weights(_bars(shared))
    name = type(point.strategy).__name__
    raise ParameterError(
        f"{name}.batch_signals says something else of {point.strategy} than its signals(bars): a number beyond "
        "[-1, 1], or none after the first one. Let both say the same"
    )


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
def _weigh(
    rows: np.ndarray, codes: np.ndarray, scales: np.ndarray, which: np.ndarray, row: int, line: np.ndarray
) -> bool:
    """Write the target weights of a row of `_Signals` to `line` `(n,)`; False where something is wrong."""
    if codes.shape[0] > 0:
        return weigh_codes(codes[row], SILENT, scales[which[row]], line) == 0
    if which[row] >= 0:
        return weigh_row(rows[row], scales[which[row]], line) == 0
    for t in range(line.shape[0]):
        line[t] = rows[row, t]
    return True


@jit(nogil=True, _nrt=False)
def _run_block(
    m: Machine,
    fresh: Machine,
    tape: Tape,
    rows: np.ndarray,
    codes: np.ndarray,
    scales: np.ndarray,
    which: np.ndarray,
    asked: np.ndarray,
    script: np.ndarray,
    terms: np.ndarray,
    rules: np.ndarray,
    policies: np.ndarray,
    numbers: np.ndarray,
    line: np.ndarray,
    target: np.ndarray,
    wanted: np.ndarray,
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
    """Run the points `asked` from the place `begin` on and write their `figures`; returns the place where it stopped:
    a table was full, or a weight is wrong.

    `asked` `(q, 3)`: point, row of its signals, row of its settings. `target` `(n, 1)` and `wanted` `(n,)` show `line`,
    where the target weights of one point after the other are written, to those who only read.
    """
    first, cash, periods, n, weighed, setting = int(numbers[0]), numbers[1], numbers[2], line.shape[0], -1, -1
    for place in range(begin, asked.shape[0]):
        i, row = asked[place, 0], asked[place, 1]
        if row != weighed and not _weigh(rows, codes, scales, which, row, line):
            return place
        weighed = row
        _reset(m, fresh.account, fresh.assets, fresh.counts)
        if asked[place, 2] != setting:
            setting = asked[place, 2]
            for column in range(terms.shape[1]):
                m.terms[0, column] = terms[setting, column]
            for column in range(rules.shape[1]):
                m.rules[column] = rules[setting, column]
            for column in range(policies.shape[1]):
                m.policies[0, column] = policies[setting, column]
        reached = advance(m, tape, target, wanted, script, equity, first, n)
        if reached < n or m.counts[book.FILLS] + 1 > trades.shape[0]:
            return place
        lots[0] = terms[setting, book.LOTS]
        for column in range(trips.shape[1]):
            trips[0, column] = 0.0
        performance(equity, equity.shape[0], cash, periods, 0.0, 0.0, CORE_ONLY, lanes, kept, figures, i)
        count = pair_fills(m.fills[: m.counts[book.FILLS]], lots, n - 1, last_close, trips, trades)
        activity(m, trades, count, equity, periods, figures[i, _SPLIT:])
    return asked.shape[0]


@dataclass(eq=False)
class _Scratch:
    """Memory that one thread reuses for every block; `line`: target weights of a point, and two views of them."""

    machine: Machine
    fresh: Machine
    line: tuple[np.ndarray, np.ndarray, np.ndarray]
    equity: np.ndarray
    room: tuple[np.ndarray, np.ndarray]
    trades: np.ndarray

    def grow(self) -> None:
        """More room in the tables of the machine."""
        self.machine = grown(self.machine)
        self.trades = np.empty((len(self.machine.fills) + 1, len(TRADE_COLUMNS)))


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
        line = np.empty(n)
        lines = line, shared_view(line[:, None]), shared_view(line)
        equity, room = np.empty(n - shared.first), workspace(n - shared.first, CORE_ONLY)
        kept = memo["scratch"] = key, _Scratch(machine, fresh, lines, equity, room, np.empty((1, len(TRADE_COLUMNS))))
    return kept[1]


def evaluate_block(points: Sequence[Point], shared: Shared) -> np.ndarray:
    """Figures of each point, `(k, len(FIGURES))`. All points share strategy class, fee tiers, and what limits need."""
    (deciders, use), periods = _decisions(points), shared.panel.periods_per_year
    chosen, terms, rules, policies = _settings(points, periods, shared)
    figures, numbers = np.empty((len(points), len(FIGURES))), np.array([shared.first, shared.cash, periods])
    trips, lots, last = np.zeros((1, 8)), np.zeros(1), np.array([shared.panel.close[-1, 0]])
    s, signals = _scratch(shared, translate.fee_tiers(points[0].costs), rules[0]), _signals(deciders, shared)
    order = np.argsort(use, kind="stable")
    asked, done = np.column_stack([order, use[order], chosen[order]]), 0
    while done < len(asked):
        stopped = _run_block(
            s.machine, s.fresh, shared.tape, *signals, asked, _EMPTY_SCRIPT, terms, rules, policies, numbers,
            *s.line, s.equity, *s.room, trips, s.trades, lots, last, figures, done,
        )  # fmt: skip
        if stopped < len(asked):
            point = points[asked[stopped, 0]]
            if not _weigh(*signals, asked[stopped, 1], s.line[0]):
                _refuse(point, shared)
            s.grow()
        done = stopped
    return figures


def _settings(
    points: Sequence[Point], periods: float, shared: Shared
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The setting of each point `(k,)`, and terms, rules and policies of each setting as rows."""
    chosen, parts = np.zeros(len(points), np.int64), [points[0]]
    if any(len(set(map(id, map(part, points)))) > 1 for part in _SETTING):
        first: dict[tuple[int, ...], int] = {}
        chosen[:] = [first.setdefault((id(p.rule), id(p.costs), id(p.market)), len(first)) for p in points]
        parts = [points[i] for i in np.unique(chosen, return_index=True)[1]]
    memo = _memo(shared)
    known = memo.get("settings", ((), None))  # most often all points of all blocks share one
    if not (len(parts) == 1 == len(known[0]) and all(map(operator.is_, known[0][0][2:], parts[0][2:]))):
        rows = [_setting(part, periods, shared.panel.symbols) for part in parts]
        known = memo["settings"] = parts, tuple(np.array(table) for table in zip(*rows, strict=True))
    return (chosen, *known[1])


def _setting(point: Point, periods: float, symbols: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rule, costs, market = point.rule, point.costs, point.market
    return (
        translate.trading_terms(costs, market, 1, periods)[0],
        translate.account_rules(costs, market, rule.limits, rule.rebalance_band, periods),
        translate.policy_table(symbols, rule.exits, rule.scale_in, rule.limits)[0],
    )


_EMPTY_SCRIPT = np.empty((0, book.ORDER_COLUMNS))
_EMPTY_SCRIPT.flags.writeable = False
