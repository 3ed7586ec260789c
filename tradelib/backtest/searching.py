"""A search asks an Optuna sampler for points, in batches, and tells it what came of them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence, Set
from typing import Any, cast

import numpy as np

from tradelib.backtest import sweeping
from tradelib.backtest.boundary import is_number, is_whole, shown
from tradelib.backtest.points import FIGURES, Maker
from tradelib.backtest.sweeping import Bar, Job, point_key, valid_points
from tradelib.data.panel import Panel
from tradelib.errors import ParameterError, require
from tradelib.parameters import nearest

__all__ = ["Proposals", "check", "common_start", "corners", "is_range", "plain", "progress_bar", "run_search"]

_CORNERS = 256


def plain(value: Any) -> Any:
    """A numpy scalar as the Python number it stands for."""
    return value.item() if isinstance(value, np.generic) else value


def is_range(path: str, values: Any) -> bool:
    """True for (low, high), False for a list of choices; `ParameterError` for what is neither."""
    if isinstance(values, str | Mapping | Set) or not hasattr(values, "__len__") or len(values) < 2:
        raise ParameterError(f"the space of {path} is {values!r}: give (low, high) or a list of choices")
    numbers = [isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values]
    if len(values) != 2 or not all(numbers):
        return False
    if not (math.isfinite(values[0]) and math.isfinite(values[1]) and values[0] <= values[1]):
        raise ParameterError(f"the space of {path} is {values!r}: the low end comes first, both are finite")
    return True


class Proposals:
    """An Optuna study over `space`: path -> (low, high), a list of choices, or a distribution of Optuna itself.

    `sampler` None: TPE with `seed`. The same sampler, seed and answers give the same points.
    """

    def __init__(self, space: Mapping[str, Any], sampler: Any, seed: int, direction: str) -> None:
        optuna = require("optuna", "research")
        if not isinstance(space, Mapping) or not space:
            raise ParameterError("the space names no parameter: give {'strategy.fast': (5, 50), ...}")
        if direction not in ("maximize", "minimize"):
            raise ParameterError(f"direction is {direction!r}: give 'maximize' or 'minimize'")
        if sampler is not None and not isinstance(sampler, optuna.samplers.BaseSampler):
            raise ParameterError(f"sampler is {shown(sampler)}: give one of Optuna, for example samplers.TPESampler()")
        if not (is_whole(seed) and 0 <= seed < 2**32):
            raise ParameterError(f"seed is {shown(seed)}: give a whole number from 0 on")
        self._choices = {path: list(values) for path, values in space.items() if self._is_choice(path, values)}
        self._distributions = {path: self._distribution(path, values) for path, values in space.items()}
        loud = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            sampler = sampler or optuna.samplers.TPESampler(seed=seed)
            self._study = optuna.create_study(sampler=sampler, direction=direction)
        finally:
            optuna.logging.set_verbosity(loud)
        self._asked: list[Any] = []

    def ask(self, count: int) -> list[dict[str, Any]]:
        """Values by path of the next `count` points; `tell` has to follow."""
        self._asked = [self._study.ask(self._distributions) for _ in range(count)]
        return [{path: self._value(path, trial.params[path]) for path in self._distributions} for trial in self._asked]

    def tell(self, values: Sequence[float]) -> None:
        """Figures of the points asked for last; NaN for one that is no valid rule or has no figure."""
        pruned = require("optuna.trial", "research").TrialState.PRUNED
        for trial, value in zip(self._asked, values, strict=True):
            if math.isfinite(value):
                self._study.tell(trial, float(value))
            else:
                self._study.tell(trial, state=pruned)

    def _is_choice(self, path: str, values: Any) -> bool:
        return not _is_distribution(values) and not is_range(path, values)

    def _distribution(self, path: str, values: Any) -> Any:
        if _is_distribution(values):
            return values
        kinds = require("optuna.distributions", "research")
        if path in self._choices:  # their numbers, because a choice of Optuna must be a word or a number
            return kinds.CategoricalDistribution(range(len(values)))
        whole = all(isinstance(value, int | np.integer) for value in values)
        low, high = (plain(value) for value in values)
        return kinds.IntDistribution(low, high) if whole else kinds.FloatDistribution(low, high)

    def _value(self, path: str, value: Any) -> Any:
        return plain(self._choices[path][value]) if path in self._choices else value


def _is_distribution(values: Any) -> bool:
    return isinstance(values, require("optuna.distributions", "research").BaseDistribution)


def corners(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points at the ends of all ranges, with all choices.

    Every combination, or where those are too many, each end once beside the first and once beside the last of the rest.
    """
    ends = [_ends(values) for values in space.values()]
    if math.prod(map(len, ends)) <= _CORNERS:
        return [dict(zip(space, point, strict=True)) for point in itertools.product(*ends)]
    found = []
    for side in (0, -1):
        rest = {path: values[side] for path, values in zip(space, ends, strict=True)}
        found += [{**rest, path: value} for path, values in zip(space, ends, strict=True) for value in values]
    return found


def _ends(values: Any) -> list[Any]:
    if hasattr(values, "choices"):
        return list(values.choices)
    return [values.low, values.high] if hasattr(values, "low") else [plain(value) for value in values]


def common_start(maker: Maker, space: Mapping[str, Any], panel: Panel) -> int:
    """Row of the first bar after the longest warm-up at the corners of the space."""
    found, skipped = valid_points(maker, corners(space))[1:]
    if not found:
        raise ParameterError(
            f"no corner of the space is a valid rule: give `start`. The first one: {skipped[0]['reason']}"
        )
    return sweeping.common_start(found, panel)


def check(by: str, trials: int, batch: int, timeout: float | None) -> None:
    """`ParameterError` for a figure that there is not, or an amount that is none."""
    if by not in FIGURES:
        raise ParameterError(f"a sweep has no figure {by!r}{nearest(str(by), FIGURES)}")
    for name, value in (("trials", trials), ("batch", batch)):
        if not (is_whole(value) and value > 0):
            raise ParameterError(f"{name} must be a whole number from 1 on; got {value!r}")
    if timeout is not None and not (is_number(timeout) and timeout > 0):
        raise ParameterError(f"timeout must be a positive number of seconds; got {timeout!r}")


def progress_bar(total: int) -> Bar:
    """A bar that counts questions asked, and says that this is a search."""
    bar: Any = sweeping.progress_bar(total)
    bar.set_description("search")
    return cast(Bar, bar)


def run_search(
    job: Job,
    proposals: Proposals,
    by: str,
    trials: int,
    batch: int,
    timeout: float | None,
    skipped: list[dict[str, Any]],
) -> None:
    """Fill `job` with what the proposals ask for, `trials` questions in all, and `skipped` with invalid points.

    A point that is asked for again is answered, not evaluated again. `timeout`: seconds after which no batch begins.
    """
    places: dict[bytes, int | None] = {}
    asked, begin, figure = 0, time.monotonic(), FIGURES.index(by)
    while asked < trials and (timeout is None or time.monotonic() - begin < timeout):
        changes = proposals.ask(min(batch, trials - asked))
        keys = [point_key(change) for change in changes]
        evaluated = _evaluate_new(job, dict(zip(keys, changes, strict=True)), places, skipped)
        rows = [places[key] for key in keys]
        proposals.tell([math.nan if row is None else job.figures[row, figure] for row in rows])
        asked += len(changes)
        if job.bar is not None:
            job.bar.update(len(changes) - evaluated)


def _evaluate_new(
    job: Job, changes: Mapping[bytes, dict[str, Any]], places: dict[bytes, int | None], skipped: list[dict[str, Any]]
) -> int:
    """Evaluate the points that have no place yet and note their rows in `places`; returns how many there were."""
    new = {key: change for key, change in changes.items() if key not in places}
    values, keys = list(new.values()), list(new)
    valid, found, refused = valid_points(job.maker, values)
    added = job.add([values[i] for i in valid], found)
    if job.known and not places and found and not job.done[added].any():
        raise ParameterError("resume: other points are asked for than before: give a fresh sampler with the same seed")
    skipped += refused
    places |= dict.fromkeys(new) | {keys[i]: row for i, row in zip(valid, added, strict=True)}
    job.run(added)
    return len(added)
