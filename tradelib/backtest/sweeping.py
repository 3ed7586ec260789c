"""A sweep while it runs: points in blocks, through threads or a cluster, kept as they finish.

A `Job` is fed points, once by a sweep, batch by batch by a search, and evaluates those it does not know yet. An
interruption loses only the blocks that were under way. With a file the finished points outlive the process.
"""

from __future__ import annotations

import hashlib
import math
import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from tradelib.backtest import translate
from tradelib.backtest.book import Tape
from tradelib.backtest.boundary import as_rule, check_settings, is_whole, refuse_class, shown
from tradelib.backtest.checkpoint import Checkpoint, differences
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.points import FIGURES, Maker, Point, Shared, block_size, evaluate_block, warmup
from tradelib.backtest.wiring import build_tape, check_cash, cut, needed_atr
from tradelib.data.panel import Panel, as_panel
from tradelib.errors import DataError, ParameterError, require
from tradelib.risk.past_risk import PastRiskRule
from tradelib.strategies.base import Strategy

__all__ = [
    "Bar",
    "Block",
    "Cluster",
    "Columns",
    "Job",
    "Setup",
    "Take",
    "begin",
    "common_start",
    "description",
    "no_valid",
    "point_key",
    "progress_bar",
    "run_threads",
    "shared_setup",
    "valid_points",
]


_GROUPED = {"costs", "rule"}
"""Parts of a point that fee tiers and needs of market data depend on."""
_MADE_AT_ONCE = 512
"""Points that are made before the first of them begin to run."""
_PATIENCE = 0.1
"""Seconds after which finished blocks are looked at."""
_MADE_WITHOUT_PAUSE = 64
"""Points that are made before others may have the interpreter."""


class Block(NamedTuple):
    """Points that are evaluated together, and their rows in the job. They share fee tiers and market data.

    `changes`: of points that are still to be made, one per row. `skipped`: rows that turned out to be no valid rule.
    """

    rows: list[int]
    points: list[Point]
    shared: Shared
    changes: Sequence[dict[str, Any]] = ()
    skipped: Sequence[tuple[int, dict[str, Any]]] = ()

    def made(self, maker: Maker) -> Block:
        """The same block with its points."""
        if not self.changes:
            return self
        places, found, skipped = valid_points(maker, self.changes)
        rows = [self.rows[place] for place in places]
        rest = [row for row in self.rows if row not in set(rows)] if skipped else []
        return self._replace(rows=rows, points=found, changes=(), skipped=list(zip(rest, skipped, strict=True)))


@dataclass(frozen=True, eq=False)
class Setup:
    """What all points of a sweep share: the rule and terms they start from, the bars, the account and its machinery.

    `first`: row of `panel` at which the account starts. `workers`: threads, None for one per core. `client`: a Dask
    client to run on instead.
    """

    base: Point
    panel: Panel
    first: int
    cash: float
    finer: Any = None
    funding: Any = None
    workers: int | None = None
    client: Any = None

    @property
    def threads(self) -> int:
        """How many blocks run at once."""
        if self.client is not None:
            return max(1, sum(self.client.nthreads().values()))
        return self.workers or os.cpu_count() or 1


def shared_setup(
    rule: Any, bars: Any, costs: Costs | None, market: Market | None, cash: float, start: Any, end: Any, **how: Any
) -> Setup:
    """What the points share, checked; `how`: the other fields of `Setup`."""
    refuse_class(rule)
    if not isinstance(rule, DecisionRule | Strategy):
        raise ParameterError(
            f"a sweep needs a DecisionRule or a Strategy; got {shown(rule)}: entries and exits, weights and "
            "portfolios have no parameters to sweep. Write them as a Strategy, or call run_signals, run_weights or "
            "run_portfolio for each point"
        )
    check_settings(costs=costs, market=market)
    _check_workers(how.get("workers"), how.get("client"))
    rule = as_rule(rule)
    panel, first = cut(as_panel(bars), start, end)
    if len(panel.symbols) > 1:
        raise DataError(
            f"a sweep trades one symbol, the bars hold {len(panel.symbols)}: sweep each, or run_portfolio per point"
        )
    if how.get("funding") is not None:  # looked at here: without it a failed sweep could not say what it was
        translate.funding_rates(how["funding"], panel.index, panel.symbols)
    base = Point(rule.strategy, rule.sizing, rule, costs or Costs(), market or Market())
    return Setup(base, panel, first, check_cash(cash), **how)


def _check_workers(workers: Any, client: Any) -> None:
    if workers is not None and not (is_whole(workers) and workers > 0):
        raise ParameterError(f"workers is {shown(workers)}: give a number of threads, or None for one per core")
    if client is not None and not hasattr(client, "nthreads"):
        raise ParameterError(f"client is {shown(client)}: give a client of Dask, dask.distributed.Client(...)")


def valid_points(
    maker: Maker, changes: Sequence[Mapping[str, Any]]
) -> tuple[list[int], list[Point], list[dict[str, Any]]]:
    """Rows of the valid points, the points, and the others with the reason why they are no valid rule."""
    rows, found, skipped = [], [], []
    for row, change in enumerate(changes):
        if row % _MADE_WITHOUT_PAUSE == 0:
            time.sleep(0)  # who makes points holds the interpreter; threads that want it for a moment would wait long
        try:
            found.append(maker(change))
            rows.append(row)
        except ParameterError as error:
            skipped.append({**change, "reason": str(error)})
    return rows, found, skipped


def no_valid(skipped: Sequence[Mapping[str, Any]]) -> str:
    """What to say where every point was skipped."""
    return f"no point of the grid is a valid rule; the first one: {skipped[0]['reason']}"


def common_start(found: Sequence[Point], panel: Panel) -> int:
    """Row of the first bar after the longest warm-up of the points, looked up on the first bars, where it is cheap."""
    deciders = list({(id(point.strategy), id(point.sizing)): point for point in found}.values())
    length = 256
    while True:
        part = panel if length >= len(panel) else panel.window(None, panel.index[length - 1])
        longest = warmup(deciders, part)
        if longest <= length and longest < len(panel):
            return longest
        if length >= len(panel):
            raise ParameterError(
                f"the longest warm-up of the points is {len(panel)} bars or more, the data has {len(panel)}"
            )
        length *= 4


def point_key(changes: Mapping[str, Any]) -> bytes:
    """Sixteen bytes that stand for the values of a point, types included."""
    return hashlib.blake2b(repr(tuple(changes.values())).encode(), digest_size=16).digest()


def description(setup: Setup) -> dict[str, Any]:
    """What the points of a sweep share, as plain data: the same point has the same figures under equal ones."""
    base, panel = setup.base, setup.panel
    return {
        "rule": base.full_rule().to_config(),
        "costs": base.costs.model_dump(mode="json"),
        "market": base.market.model_dump(mode="json"),
        "cash": setup.cash,
        "bars": {"symbol": panel.symbols[0], "timeframe": panel.timeframe, "digest": panel.digest},
        "start": panel.index[setup.first].isoformat(),
        "end": panel.index[-1].isoformat(),
        "finer": None if setup.finer is None else as_panel(setup.finer).digest,
        "funding": None if setup.funding is None else _content(setup.funding),
    }


def _content(rates: pd.Series | pd.DataFrame) -> str:
    frame = rates.to_frame() if isinstance(rates, pd.Series) else rates
    return hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy().tobytes()).hexdigest()


def column(values: list[Any]) -> np.ndarray:
    """Values of a parameter as they are: numbers of one type as an array of them, all others as objects."""
    if set(map(type, values)) in ({int}, {float}, {bool}):
        return np.array(values)
    return np.fromiter(values, object, len(values))


def recorded(points: Sequence[Point], path: str) -> np.ndarray | list[Any]:
    """Values at `path` as the configuration of each point writes them: what the trial ledger tells trials apart by."""
    part, _, name = path.rpartition(".")
    holder = f"rule.{part}".rstrip(".") if part in ("", "exits", "scale_in", "limits") else part
    values = list(map(operator.attrgetter(f"{holder}.{name}"), points))
    kinds = set(map(type, values))
    if kinds in ({int}, {float}):
        return np.array(values)
    if kinds <= {int, float, bool, str, type(None)}:
        return values
    holders = map(operator.attrgetter(holder), points)
    return [one.model_dump(mode="json", include={name})[name] for one in holders]


def template(point: Point, axes: Sequence[str]) -> dict[str, Any]:
    """The configuration of `point`'s rule with a place for every one of `axes`: unused limits are not written else."""
    config = point.full_rule().to_config()
    for path in axes:
        part, _, name = path.rpartition(".")
        if part == "limits" and point.rule.limits is not None and name not in config[part]:
            config[part] |= point.rule.limits.model_dump(mode="json", include={name})
    return config


class Bar(Protocol):
    """What a job needs of a progress bar."""

    def update(self, count: int) -> Any: ...

    def close(self) -> Any: ...


def progress_bar(total: int) -> Bar:
    """A bar that counts points: how many of them, how many per second, how long still."""
    bar: Bar = require("tqdm.auto", "research").tqdm(total=total, desc="sweep", unit=" points", smoothing=0.1)
    return bar


class Columns(NamedTuple):
    """Parameters of points by axis: `values` as they are, `recorded` as the trial ledger writes them."""

    values: dict[str, np.ndarray]
    recorded: dict[str, np.ndarray | list[Any]]


@dataclass(eq=False)
class Job:
    """Points in the order tried, with the figures of those that are `done`.

    `known`: figures that an earlier, interrupted call found, by `point_key`. `count` records finished points as trials,
    before any of their figures are written to a file: nothing can be read there that was not counted.
    """

    setup: Setup
    maker: Maker
    known: Mapping[bytes, np.ndarray] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    bar: Bar | None = None
    count: Callable[[Job], object] | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.figures = np.empty((0, len(FIGURES)))
        self.done = np.zeros(0, bool)
        self._keys: list[bytes] = []
        self._shared: dict[tuple[int | None, bool], Shared] = {}
        self._is_proven = False
        self._cluster = None if self.setup.client is None else Cluster(self.setup.client)
        self._all_columns: tuple[int, Columns] | None = None

    def add(self, changes: Sequence[dict[str, Any]], points: Sequence[Point] | None = None) -> range:
        """Append points, None for those that are still to be made. What is known is done. Returns rows."""
        begin, end = len(self.points), len(self.points) + len(changes)
        self.changes += changes
        self.points += [self.setup.base] * len(changes) if points is None else points
        self.figures = np.vstack([self.figures, np.full((len(changes), len(FIGURES)), np.nan)])
        self.done = np.concatenate([self.done, np.zeros(len(changes), bool)])
        if self.checkpoint is not None or self.known:
            self._keys += [point_key(change) for change in changes]
            self._remember(range(begin, end))
        return range(begin, end)

    def _remember(self, rows: range) -> None:
        """Take known figures over, after one of them was found again: bit for bit, or the code has changed."""
        known = [row for row in rows if self._keys[row] in self.known]
        for row in known:
            if self.points[row] is self.setup.base:
                self.points[row] = self.maker(self.changes[row])
        if known:
            self._prove(self.changes[known[0]], self.points[known[0]])
        for row in known:
            self.figures[row], self.done[row] = self.known[self._keys[row]], True
        if self.bar is not None:
            self.bar.update(len(known))

    def _prove(self, change: Mapping[str, Any], point: Point) -> None:
        """Find the known figures of one point again, once, before any of them are taken over."""
        if self._is_proven:
            return
        again = evaluate_block([point], self._shared_by(point))[0]
        if not np.array_equal(again, self.known[point_key(change)], equal_nan=True):
            raise ParameterError(
                f"resume: the point {change} has other figures now: the code of the strategy or of the engine has "
                "changed since. Start anew"
            )
        self._is_proven = True

    def _prove_first(self, changes: Sequence[dict[str, Any]]) -> None:
        """Prove the first of `changes` that is known, before the others are evaluated and counted."""
        for change in changes if self.known else ():
            if point_key(change) in self.known:
                self._prove(change, self.maker(change))
                return

    def run(self, rows: Sequence[int]) -> None:
        """Evaluate the points in `rows` that are not done."""
        todo, setup = [row for row in rows if not self.done[row]], self.setup
        if self._cluster is not None and todo:
            self._cluster.run(self._blocks(todo), self.take)
        else:
            run_threads(self._blocks(todo), self.take, setup.threads)

    def run_made(self, changes: Sequence[dict[str, Any]], skipped: list[dict[str, Any]]) -> None:
        """Make points and evaluate them; `skipped` gets those that are no valid rule.

        Points that share fee tiers and market data whatever their changes are made by the threads that evaluate them:
        then nobody waits for an interpreter that is busy making points. Others are made here, and grouped.
        """
        self._prove_first(changes)
        if self.maker.parts & _GROUPED:
            run_threads(self._made(changes, skipped), self.take, self.setup.threads)
        else:
            self._run_unmade(changes, skipped)
        if len(skipped) == len(changes):
            raise ParameterError(no_valid(skipped))

    def _run_unmade(self, changes: Sequence[dict[str, Any]], skipped: list[dict[str, Any]]) -> None:
        rows, shared, refused = self.add(changes), self._shared_by(self.setup.base), dict[int, dict[str, Any]]()

        def take(block: Block, figures: np.ndarray) -> None:
            for row, point in zip(block.rows, block.points, strict=True):
                self.points[row] = point
            if self.bar is not None:
                self.bar.update(len(dict(block.skipped).keys() - refused.keys()))
            refused.update(block.skipped)
            self.take(block, figures)

        parts = self._parts([row for row in rows if not self.done[row]])
        blocks = (Block(part, [], shared, [self.changes[row] for row in part]) for part in parts)
        try:
            run_threads(blocks, take, self.setup.threads, self.maker)
        finally:
            skipped += [refused[row] for row in sorted(refused)]

    def _made(self, changes: Sequence[dict[str, Any]], skipped: list[dict[str, Any]]) -> Iterator[Block]:
        for begin in range(0, len(changes), _MADE_AT_ONCE):
            part = changes[begin : begin + _MADE_AT_ONCE]
            rows, found, invalid = valid_points(self.maker, part)
            skipped += invalid
            if self.bar is not None:
                self.bar.update(len(invalid))
            new = self.add([part[row] for row in rows] if invalid else part, found)
            yield from self._blocks([row for row in new if not self.done[row]])
        self.columns(range(len(self.points)))  # while others compute

    def columns(self, rows: Sequence[int]) -> Columns:
        """The parameters of the points in `rows` by axis."""
        if len(rows) < len(self.points):
            return self._columns(rows)
        if self._all_columns is None or self._all_columns[0] != len(rows):
            self._all_columns = len(rows), self._columns(rows)
        return self._all_columns[1]

    def _columns(self, rows: Sequence[int]) -> Columns:
        points, changes = [self.points[row] for row in rows], [self.changes[row] for row in rows]
        values = {axis: column(list(map(operator.itemgetter(axis), changes))) for axis in self.maker.axes}
        return Columns(values, {axis: recorded(points, axis) for axis in self.maker.axes} if points else {})

    def take(self, block: Block, figures: np.ndarray) -> None:
        """Keep the figures of a finished block."""
        if self.bar is not None:
            self.bar.update(int((~self.done[block.rows]).sum()))
        self.figures[block.rows] = figures
        self.done[block.rows] = True
        if self.checkpoint is not None:
            self.checkpoint.keep([self._keys[row] for row in block.rows], figures)
            if self.checkpoint.is_due:
                self._save(self.checkpoint)

    def _save(self, checkpoint: Checkpoint) -> None:
        if self.count is not None:
            self.count(self)
        checkpoint.write()

    def close(self) -> None:
        """Let go of bar and cluster, and write what the file does not hold yet."""
        if self._cluster is not None:
            self._cluster.close()
        if self.bar is not None:
            self.bar.close()
        if self.checkpoint is not None:
            self.checkpoint.write()

    def _blocks(self, rows: Sequence[int]) -> Iterator[Block]:
        """Blocks of points that are there."""
        for group in self._groups(rows):
            shared = self._shared_by(self.points[group[0]])
            for part in self._parts(group, len(rows)):
                yield Block(part, [self.points[row] for row in part], shared)

    def _parts(self, rows: Sequence[int], total: int | None = None) -> Iterator[list[int]]:
        """Rows in parts, so many that no worker waits long for the others at the end; `total`: rows of all groups."""
        size, count = block_size(len(self.setup.panel), type(self.setup.base.strategy)), self.setup.threads
        total = len(rows) if total is None else total
        if self._cluster is not None:  # a message costs as much as a block: fewer and larger ones
            size = max(size, math.ceil(total / (8 * count)))
        elif count > 1:
            size = min(size, max(4, math.ceil(total / (4 * count))))
        for begin in range(0, len(rows), size):
            yield list(rows[begin : begin + size])

    def _groups(self, rows: Sequence[int]) -> list[list[int]]:
        """Rows of points with the same fee tiers and the same needs of market data."""
        if not rows or not self.maker.parts & _GROUPED:
            return [list(rows)] if rows else []
        groups: dict[Any, list[int]] = {}
        for row in rows:
            point = self.points[row]
            groups.setdefault((point.costs.fee_tiers, _needs(point)), []).append(row)
        return list(groups.values())

    def _shared_by(self, point: Point) -> Shared:
        """Market data with what the policies of `point` need."""
        needs = _needs(point)
        if needs not in self._shared:
            setup = self.setup
            tape = self._tape(point)
            self._shared[needs] = Shared(setup.panel, tape, setup.first, setup.cash)
        return self._shared[needs]

    def _tape(self, point: Point) -> Tape:
        window, setup = _needs(point)[0], self.setup
        data = {"finer": setup.finer, "funding": setup.funding}
        return build_tape(setup.panel, limits=point.rule.limits, atr_window=window, **data)


def _needs(point: Point) -> tuple[Any, ...]:
    """Window of the average true range, whether days are told apart, what limits look back on, and at trades."""
    limits, window = point.rule.limits, needed_atr(point.rule.exits, point.rule.scale_in)
    if limits is None:
        return window, False, PastRiskRule(), False
    return window, limits.needs_days, limits.past, bool(limits.protections)


def begin(setup: Setup, maker: Maker, asked: Mapping[str, Any], resume: Any, total: int, progress: bool) -> Job:
    """A job that goes on from `resume`: an earlier result of the same description, or a file of the same sweep.

    `asked`: grid or space as plain data. `total`: points expected, for the progress bar.
    """
    job = Job(setup, maker)
    here = {} if resume is None else description(setup)
    if isinstance(resume, str | os.PathLike):
        job.checkpoint = Checkpoint(Path(resume), {**here, **asked}, FIGURES)
        job.known = job.checkpoint.known
    elif resume is not None:
        told = list(differences({**resume.description, "axes": list(resume.axes)}, {**here, "axes": list(maker.axes)}))
        if told:
            raise ParameterError(f"resume: the earlier sweep was another one: {'; '.join(told[:3])}")
        values = resume.frame[list(FIGURES)].to_numpy(np.float64)
        job.known = {point_key(resume.point(row)): values[row] for row in range(len(values))}
    if progress:
        job.bar = progress_bar(total)
    return job


Take = Callable[[Block, np.ndarray], None]


def run_threads(blocks: Iterable[Block], take: Take, workers: int, maker: Maker | None = None) -> None:
    """Evaluate `blocks`, which may still be in the making, and hand each with its figures to `take`, in this thread.

    `maker`: of points that are not there yet. Interrupted, or when a block fails, the blocks that threads have begun
    are finished and taken, the others given up.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sweep")
    under_way: dict[Future[tuple[Block, np.ndarray]], None] = {}

    def take_finished() -> None:
        for future in list(under_way):
            if future.done():
                take(*future.result())
                del under_way[future]

    try:
        for block in blocks:
            under_way[pool.submit(_evaluated, block, maker)] = None
            if next(iter(under_way)).done():
                take_finished()
        while under_way:  # seldom woken: who takes a block holds the interpreter, and threads wait for it
            wait(under_way, timeout=_PATIENCE)
            take_finished()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for future in under_way:
            if not future.cancelled() and future.exception() is None:
                take(*future.result())


def _evaluated(block: Block, maker: Maker | None) -> tuple[Block, np.ndarray]:
    made = block if maker is None else block.made(maker)
    return made, evaluate_block(made.points, made.shared) if made.points else np.empty((0, len(FIGURES)))


class Cluster:
    """A Dask client behind joblib. What blocks share is sent to the workers once, however often `run` is called."""

    def __init__(self, client: Any) -> None:
        self._client, self._backend = client, ExitStack()
        self._sent: list[Shared] = []

    def run(self, blocks: Iterable[Block], take: Take) -> None:
        """As `run_threads`; interrupted, a cluster gives up at once."""
        joblib, listed = require("joblib", "research"), list(blocks)
        new = {id(block.shared): block.shared for block in listed if not any(block.shared is s for s in self._sent)}
        if new:
            self.close()
            self._sent = [*self._sent, *new.values()]
            options = {"backend": "dask", "client": self._client, "scatter": self._sent, "n_jobs": -1}
            self._backend.enter_context(joblib.parallel_config(**options))
        tasks = (joblib.delayed(_numbered)(i, block.points, block.shared) for i, block in enumerate(listed))
        for i, figures in joblib.Parallel(return_as="generator_unordered")(tasks):
            take(listed[i], figures)

    def close(self) -> None:
        """Let joblib work on this machine again."""
        self._backend.close()


def _numbered(number: int, points: list[Point], shared: Shared) -> tuple[int, np.ndarray]:
    size = block_size(len(shared.panel), type(points[0].strategy))
    parts = [evaluate_block(points[i : i + size], shared) for i in range(0, len(points), size)]
    return number, np.vstack(parts)
