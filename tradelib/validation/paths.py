"""Simulated paths: what they can be drawn from, the kernels that walk them, and what is kept of each.

A path costs its figures, not its steps: final and lowest wealth, deepest drawdown, and wealth at a few marks.
Every path has a random generator of its own, so that threads and the interpreter draw the same.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tradelib._jit import jit
from tradelib.backtest.boundary import is_whole, shown
from tradelib.errors import DataError, ParameterError

__all__ = [
    "PathFigures",
    "check_walk",
    "draw_blocks",
    "follow_step",
    "mark_steps",
    "path_returns",
    "sfc32",
    "walk_blocks",
    "walk_shuffled",
]

_LOW = 0xFFFFFFFF


_MARKS = 64  # points of a fan chart: more than a screen shows apart


def path_returns(source: Any, least: int = 20) -> np.ndarray:
    """Simple returns `(n,)` of a `Result` (its bars) or of an array-like, as new float64.

    `DataError` for blanks, fewer than `least`, returns that never vary, and a return of -1 or below.
    """
    given = source.returns if hasattr(source, "simulation") else source
    try:
        values = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"returns must be a series of numbers: {error}") from None
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1:
        raise DataError(f"one series of returns is needed, got an array of shape {values.shape}")
    odd = ~np.isfinite(values) | (values <= -1.0)
    if odd.any():
        row = int(np.argmax(odd))
        where = given.index[row] if isinstance(given, pd.Series | pd.DataFrame) else f"row {row}"
        hint = "drop it on purpose or repair the data first"
        hint = "everything is lost there, and no path goes on" if values[row] <= -1.0 else hint
        raise DataError(f"the return at {where} is {values[row]}: {hint}")
    if len(values) < least:
        raise DataError(f"{len(values)} returns are too few: at least {least} are needed")
    if values.min() == values.max():
        raise DataError(f"all {len(values)} returns are {values[0]}: every path would be the same")
    return values


def check_walk(paths: Any, horizon: Any, seed: Any) -> None:
    """`ParameterError` unless there are 100 paths or more, one step or more, and a seed."""
    if not is_whole(paths) or paths < 100:
        raise ParameterError(f"paths is {shown(paths)}: a distribution needs at least 100")
    if not is_whole(horizon) or horizon < 1:
        raise ParameterError(f"horizon is {shown(horizon)}: give a whole number of steps, at least 1")
    if not is_whole(seed) or seed < 0:
        raise ParameterError(f"seed is {shown(seed)}: give a whole number from 0 on, so that the paths come again")


def mark_steps(horizon: int, most: int = _MARKS) -> np.ndarray:
    """At most `most` steps, evenly spread, whose last is the horizon."""
    return np.unique(np.linspace(0, horizon, min(horizon, most) + 1).round().astype(np.int64))[1:]


@dataclass(frozen=True, eq=False)
class PathFigures:
    """What is kept of each simulated path; wealth starts at 1 before its first step.

    `terminal`, `lowest` wealth and `maximum_drawdown` (a negative fraction): `(paths,)`. `wealth` `(paths, k)` after
    each of `steps` `(k,)`. `block_length` in returns, `seed`: what made them; NaN where there are no blocks.
    """

    terminal: np.ndarray = field(repr=False)
    lowest: np.ndarray = field(repr=False)
    maximum_drawdown: np.ndarray = field(repr=False)
    wealth: np.ndarray = field(repr=False)
    steps: np.ndarray = field(repr=False)
    method: str
    block_length: float
    observations: int
    seed: int

    def __len__(self) -> int:
        return len(self.terminal)

    @property
    def horizon(self) -> int:
        """Steps of each path."""
        return int(self.steps[-1])

    def to_frame(self) -> pd.DataFrame:
        """A row per path: final and lowest wealth, deepest drawdown."""
        named = {"terminal": self.terminal, "lowest": self.lowest, "maximum_drawdown": self.maximum_drawdown}
        return pd.DataFrame(named).rename_axis("path")

    def summary(self) -> str:
        """Quantiles of the figures as a text table."""
        table = self.to_frame().quantile([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
        return f"{len(self):,} paths of {self.horizon:,} steps, {self.method}\n{table.to_string()}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


@jit(nogil=True)
def sfc32(a: int, b: int, c: int, turn: int) -> tuple[int, int, int, int, int]:
    """A draw in [0, 2**32) and the next state. Source: Doty-Humphrey, PractRand, `sfc32`."""
    drawn = (a + b + turn) & _LOW
    turned = ((c << 21) | (c >> 11)) & _LOW
    return drawn, b ^ (b >> 9), (c + (c << 3)) & _LOW, (turned + drawn) & _LOW, (turn + 1) & _LOW


@jit(nogil=True)
def walk_blocks(
    growth: Any, seeds: Any, cut: int, length: int, steps: Any, figures: Any, marks: Any, first: int, last: int
) -> None:
    """Paths `first` to `last` of blocks out of `growth` `(n,)`, which is 1 + return.

    A new block begins with probability `cut` / 2**32, or after `length` returns. `seeds` `(paths, 3)`; `steps` `(k,)`:
    after which wealth goes to `marks` `(paths, k)`, the last is the horizon. `figures` `(paths, 3)`: final, lowest
    wealth, deepest drawdown.
    """
    n = growth.shape[0]
    for p in range(first, last):
        a, b, c, turn = seeds[p, 0], seeds[p, 1], seeds[p, 2], 1
        drawn, a, b, c, turn = sfc32(a, b, c, turn)
        place, left, step = (drawn * n) >> 32, length, 0
        wealth, peak, lowest, deepest = 1.0, 1.0, 1.0, 1.0
        for k in range(steps.shape[0]):
            while step < steps[k]:
                step += 1
                wealth *= growth[place]
                peak, lowest = max(peak, wealth), min(lowest, wealth)
                deepest = min(deepest, wealth / peak)
                chance, a, b, c, turn = sfc32(a, b, c, turn)
                drawn, a, b, c, turn = sfc32(a, b, c, turn)
                place = 0 if place + 1 == n else place + 1
                fresh = chance < cut or left == 1
                place, left = (drawn * n) >> 32 if fresh else place, length if fresh else left - 1
            marks[p, k] = wealth
        figures[p, 0], figures[p, 1], figures[p, 2] = wealth, lowest, deepest - 1.0


@jit(nogil=True)
def draw_blocks(n: int, seeds: Any, cut: int, length: int, places: Any) -> None:
    """Rows `(paths, horizon)` of places in [0, n): the draws of `walk_blocks`, written down."""
    for p in range(seeds.shape[0]):
        a, b, c, turn = seeds[p, 0], seeds[p, 1], seeds[p, 2], 1
        drawn, a, b, c, turn = sfc32(a, b, c, turn)
        place, left = (drawn * n) >> 32, length
        for step in range(places.shape[1]):
            places[p, step] = place
            chance, a, b, c, turn = sfc32(a, b, c, turn)
            drawn, a, b, c, turn = sfc32(a, b, c, turn)
            place = 0 if place + 1 == n else place + 1
            fresh = chance < cut or left == 1
            place, left = (drawn * n) >> 32 if fresh else place, length if fresh else left - 1


@jit(nogil=True)
def walk_shuffled(growth: Any, seeds: Any, steps: Any, figures: Any, marks: Any, first: int, last: int) -> None:
    """As `walk_blocks`, but every path holds each of `growth` `(n,)` once. Source: Durstenfeld (1964), CACM 7(7)."""
    n = growth.shape[0]
    order = np.empty(n, np.int64)
    for p in range(first, last):
        a, b, c, turn = seeds[p, 0], seeds[p, 1], seeds[p, 2], 1
        for i in range(n):
            order[i] = i
        wealth, peak, lowest, deepest, step = 1.0, 1.0, 1.0, 1.0, 0
        for k in range(steps.shape[0]):
            while step < steps[k]:
                drawn, a, b, c, turn = sfc32(a, b, c, turn)
                other = step + ((drawn * (n - step)) >> 32)
                chosen = order[other]
                order[other] = order[step]
                step += 1
                wealth *= growth[chosen]
                peak, lowest = max(peak, wealth), min(lowest, wealth)
                deepest = min(deepest, wealth / peak)
            marks[p, k] = wealth
        figures[p, 0], figures[p, 1], figures[p, 2] = wealth, lowest, deepest - 1.0


@jit(nogil=True)
def follow_step(returns: Any, state: Any) -> None:
    """One step of all paths; `state` `(paths, 4)`: wealth, its top, its lowest, deepest wealth over top."""
    for p in range(returns.shape[0]):
        wealth = state[p, 0] * max(1.0 + returns[p], 0.0)
        top = max(state[p, 1], wealth)
        state[p, 0], state[p, 1] = wealth, top
        state[p, 2], state[p, 3] = min(state[p, 2], wealth), min(state[p, 3], wealth / top)
