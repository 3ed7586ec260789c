"""What a sweep or a search leaves behind: a row of figures per point, counted as trials, whatever ended it."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest import sweep_plots, sweeping
from tradelib.backtest.boundary import is_whole, shown
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import evaluate
from tradelib.backtest.points import FIGURES, Point, make_point
from tradelib.backtest.result import Result, figure_text
from tradelib.backtest.searching import plain
from tradelib.backtest.sweeping import Columns, Job
from tradelib.backtest.trials import Trial, TrialBatch, TrialLedger, family_of
from tradelib.backtest.wiring import setting_of
from tradelib.errors import ParameterError
from tradelib.parameters import nearest

__all__ = ["SweepResult", "sweep_card", "watched"]


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """Points (`frame`: parameters and figures), skipped ones with reasons, the trials, and how many of them were new.

    `start`: open time of the account's first bar, the same for all points. `description`: what the points share, as
    plain data. `interrupted`: some points are not there; hand the result over as `resume` to go on.
    """

    rule: DecisionRule
    axes: tuple[str, ...]
    frame: pd.DataFrame
    skipped: tuple[dict[str, Any], ...]
    batch: TrialBatch
    new_trials: int
    start: pd.Timestamp
    interrupted: bool = False
    setting: dict[str, Any] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The trials that the points are, one each."""
        return tuple(self.batch.trials())

    def point(self, row: int) -> dict[str, Any]:
        """Parameters of one row of `frame` by path; `ParameterError` for a row that there is not."""
        if not (is_whole(row) and 0 <= row < len(self.frame)):
            raise ParameterError(f"row is {shown(row)}: the sweep has the rows 0 to {len(self.frame) - 1}")
        return {axis: plain(self.frame[axis].iloc[row]) for axis in self.axes}

    def best(self, by: str = "sharpe_ratio") -> DecisionRule:
        """The rule of the point with the highest `by`; `ParameterError` when no point has a value."""
        return self._made(self.best_row(by)).full_rule()

    def best_row(self, by: str = "sharpe_ratio") -> int:
        """Row of the point with the highest `by`."""
        self._check(by)
        if self.frame[by].isna().all():
            raise ParameterError(f"no point of the sweep has a value of {by!r}")
        return int(np.nanargmax(self.frame[by].to_numpy(dtype=np.float64)))

    def result(self, bars: Any, row: int | None = None) -> Result:
        """The full result of one point (default: the best) on the bars of the sweep, where it is no new trial."""
        point = self._made(self.best_row() if row is None else row)
        rest = {name: self.setting[name] for name in ("cash", "start", "end", "finer", "funding")}
        return evaluate(point.full_rule(), bars, costs=point.costs, market=point.market, **rest)

    def heat_map(self, rows: str, columns: str, by: str = "sharpe_ratio") -> pd.DataFrame:
        """Figures as a table of two parameters; the best one over all others."""
        self._check(rows, columns, by)
        return sweep_plots.table(self.frame, rows, columns, by)

    def plot(self, rows: str | None = None, columns: str | None = None, by: str = "sharpe_ratio") -> Any:
        """Heat map over two axes (default: the first two), or a line over one, as a plotly figure."""
        self._check(by)
        if len(self.axes) == 1:
            return sweep_plots.scatter(self.frame, self.axes[0], by)
        return sweep_plots.heat_map(self.heat_map(rows or self.axes[0], columns or self.axes[1], by), by)

    def parallel_coordinates(self, by: str = "sharpe_ratio") -> Any:
        """All axes beside each other, each point a line coloured by `by`, as a plotly figure."""
        self._check(by)
        return sweep_plots.parallel_coordinates(self.frame, self.axes, by)

    def _made(self, row: int) -> Point:
        rule, setting = self.rule, self.setting
        return make_point(Point(rule.strategy, rule.sizing, rule, setting["costs"], setting["market"]), self.point(row))

    def _check(self, *columns: str) -> None:
        for name in columns:
            if name not in self.frame:
                raise ParameterError(f"the sweep has no column {name!r}{nearest(str(name), self.frame.columns)}")

    def __repr__(self) -> str:
        state = ", interrupted" if self.interrupted else ""
        counts = f"{len(self.frame)} points, {len(self.skipped)} skipped, {self.new_trials} new trials"
        return f"SweepResult({counts}{state})"

    def _repr_html_(self) -> str:
        return sweep_card(self)


_SHOWN = 5
_CARD = {
    "total_return": "return",
    "sharpe_ratio": "Sharpe ratio",
    "maximum_drawdown": "drawdown",
    "trades": "trades",
}


def sweep_card(result: SweepResult) -> str:
    """HTML: what was swept, what came of it, and the best points with their figures as on the card of a result."""
    strategy, *where = result.batch.family.split("|")
    title, place = html.escape(f"Sweep of {strategy}"), html.escape(f"on {', '.join(where)}")
    return (
        '<div style="font:13px system-ui,sans-serif;width:fit-content;max-width:97%;padding:.6em .9em;overflow-x:auto;'
        'border-radius:6px;border:1px solid rgba(128,128,128,.4)">'
        f'<b>{title}</b> <span style="opacity:.7">{place}</span>'
        f"<div>{html.escape(_counts(result))}</div>{_notes(result)}{_best_points(result)}</div>"
    )


def _counts(result: SweepResult) -> str:
    points, known = len(result.frame), len(result.frame) - result.new_trials
    trials = f"{result.new_trials:,} counted as new trials" + (f", {known:,} known before" if known else "")
    return f"{points:,} points, {trials}; {len(result.skipped):,} skipped"


def _notes(result: SweepResult) -> str:
    """What a reader must not overlook: that points are missing, and why others were left out."""
    notes = ["⚠ interrupted: hand it over as resume to go on"] if result.interrupted else []
    if result.skipped:
        notes.append(f"the first of those skipped: {result.skipped[0]['reason']}")
    return "".join(f'<div style="opacity:.8">{html.escape(note)}</div>' for note in notes)


def _names(axes: Sequence[str]) -> list[str]:
    """The last part of each path, or the whole path where two end alike."""
    ends = [axis.rpartition(".")[2] for axis in axes]
    return [end if ends.count(end) == 1 else axis for end, axis in zip(ends, axes, strict=True)]


def _values(result: SweepResult, row: int) -> list[str]:
    """The parameters of a point as text."""
    shown = (sweep_plots.label(value, axis) for axis, value in result.point(row).items())
    return [f"{value:.6g}" if isinstance(value, float) else str(value) for value in shown]


def _best_points(result: SweepResult) -> str:
    """Table of the best points; of the first ones where no point has a Sharpe ratio."""
    frame = result.frame
    if frame.empty:
        return ""
    ranked = bool(frame["sharpe_ratio"].notna().any())
    rows = (frame.nlargest(_SHOWN, "sharpe_ratio") if ranked else frame.head(_SHOWN)).index
    which = "best by Sharpe ratio" if ranked else "first, because none has a Sharpe ratio"
    head = _line(["row", *_names(result.axes), *_CARD.values()], "th")
    body = "".join(_line([str(row), *_values(result, row), *_texts(frame, row)], "td") for row in rows)
    told = f"the {len(rows)} {which}" if len(rows) < len(frame) else "all points" + (f", the {which} first" * ranked)
    look = "border-collapse:collapse;margin:.1em 0 0 0;font:inherit;font-variant-numeric:tabular-nums"
    caption = f'<div style="opacity:.7;margin-top:.5em">{told}</div>'
    return f'{caption}<table style="{look}"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _texts(frame: pd.DataFrame, row: int) -> list[str]:
    return [figure_text(name, float(frame[name].iloc[row])) for name in _CARD]


def _line(cells: Sequence[str], tag: str) -> str:
    look = "text-align:right;padding:.15em 0 .15em 1.4em;white-space:nowrap;border:0"
    look += ";font-weight:600;border-bottom:1px solid rgba(128,128,128,.4)" if tag == "th" else ""
    return "<tr>" + "".join(f'<{tag} style="{look}">{html.escape(cell)}</{tag}>' for cell in cells) + "</tr>"


def watched(
    job: Job, work: Callable[[], None], skipped: list[dict[str, Any]], ledger: TrialLedger | None
) -> SweepResult:
    """Do the work; whatever ends it, what was looked at is counted and kept."""
    interrupted, counter = False, _Counter(ledger)
    job.count = counter.record
    try:
        work()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        try:
            result = _finished(job, skipped, counter, interrupted)
        finally:
            job.close()
    return result


class _Counter:
    """Records the finished points of a job, those since the last time; `new`: how many trials they were in all."""

    def __init__(self, ledger: TrialLedger | None) -> None:
        self._ledger = ledger or TrialLedger()
        self._recorded: set[int] = set()
        self.new = 0

    def record(self, job: Job, batch: TrialBatch | None = None) -> None:
        """Record what is finished and was not recorded; `batch`: the whole of what is finished, where it is at hand."""
        rows = [row for row in np.flatnonzero(job.done).tolist() if row not in self._recorded]
        if not rows:
            return
        if batch is None or self._recorded:
            sharpes = job.figures[rows, FIGURES.index("sharpe_ratio_per_period")]
            batch = _batch(job, rows, job.columns(rows), sharpes)
        self.new += self._ledger.record_batch(batch).new
        self._recorded.update(rows)


def _finished(job: Job, skipped: Sequence[dict[str, Any]], counter: _Counter, interrupted: bool) -> SweepResult:
    """Count what was finished and put it in a frame."""
    setup, kept = job.setup, np.flatnonzero(job.done)
    figures, axes, rows = job.figures[kept], job.maker.axes, kept.tolist()
    columns = job.columns(rows)
    frame = pd.concat([pd.DataFrame(columns.values), pd.DataFrame(figures, columns=list(FIGURES))], axis=1)
    batch = _batch(job, rows, columns, figures[:, FIGURES.index("sharpe_ratio_per_period")])
    counter.record(job, batch)
    base, start = setup.base, setup.panel.index[setup.first]
    setting = {"cash": setup.cash, "start": start, "end": setup.panel.index[-1], "finer": setup.finer}
    setting |= {"funding": setup.funding, "costs": base.costs, "market": base.market}
    described = sweeping.description(setup)
    return SweepResult(
        base.rule, axes, frame, tuple(skipped), batch, counter.new, start, interrupted, setting, described
    )


def _batch(job: Job, rows: Sequence[int], columns: Columns, sharpes: np.ndarray) -> TrialBatch:
    setup, panel = job.setup, job.setup.panel
    index, like = panel.index[setup.first :], job.points[rows[0]] if rows else setup.base
    return TrialBatch(
        family=family_of(type(like.strategy).__name__, panel.symbols[0], panel.timeframe),
        rule=sweeping.template(like, job.maker.axes),
        setting=setting_of(like.costs, like.market, setup.cash, panel.calendar),
        data_digest=panel.digest,
        window=(index[0].isoformat(), index[-1].isoformat()),
        observations=len(index),
        points=columns.recorded,
        sharpes=sharpes,
    )
