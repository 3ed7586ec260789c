"""Schedules that follow a curve: by time (TWAP), by the usual volume of the hour (VWAP), by the market's volume (POV).

Each says how much of the total should be filled or working by now; a child carries the difference. So a child that was
late, small or refused is caught up with by the next one, and a restarted process needs no memory of slices.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator

from tradelib.errors import ParameterError
from tradelib.live.execution.children import NOTHING, Action, MarketView, Work
from tradelib.live.execution.schedules import Timed, gap

__all__ = ["POV", "TWAP", "VWAP", "volume_profile"]

DAY = 86_400_000


class Sliced(Timed):
    """Market orders along a curve."""

    @abstractmethod
    def due(self, work: Work, view: MarketView) -> Decimal:
        """Base units that should be filled or working at this moment; need not be whole lots."""

    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """One child for what the curve is ahead of the children."""
        quantity = gap(work, self.due(work, view), view.last)
        waits = work.alive or view.time_ms < self.retry(work)
        return () if waits or not quantity else (work.child(quantity),)


class TWAP(Sliced):
    """Time-weighted: equal slices, the first at once, each of the others `duration_seconds / slices` after the last."""

    slices: int = Field(10, ge=1, le=10_000)

    def due(self, work: Work, view: MarketView) -> Decimal:
        """k of n slices after (k - 1) n-ths of the duration."""
        return work.total * _passed(self._starts(work), view.time_ms) / self.slices

    def moments(self, work: Work) -> Iterable[int]:
        """The start of every slice besides."""
        return (*super().moments(work), *self._starts(work))

    def _starts(self, work: Work) -> list[int]:
        begun, length = work.arrival.time_ms, self.duration_seconds * 1000 / self.slices
        return [begun + round(k * length) for k in range(self.slices)]


class VWAP(Sliced):
    """Volume-weighted: slices as large as the market's usual volume at their time.

    profile: weights of equal parts of the duration, of any sum: see `volume_profile`. Each slice starts with its part.
    """

    profile: tuple[float, ...] = Field(min_length=1, max_length=10_000)

    @field_validator("profile")
    @classmethod
    def _weighs(cls, profile: tuple[float, ...]) -> tuple[float, ...]:
        if min(profile) < 0 or not sum(profile) > 0:
            raise ValueError("weights must not be negative, and one must be positive")
        return profile

    def due(self, work: Work, view: MarketView) -> Decimal:
        """The total times the weight of the parts that have begun, over all weight."""
        weights = [Decimal(repr(weight)) for weight in self.profile]
        return work.total * sum(weights[: _passed(self._starts(work), view.time_ms)], NOTHING) / sum(weights)

    def moments(self, work: Work) -> Iterable[int]:
        """The start of every part besides."""
        return (*super().moments(work), *self._starts(work))

    def _starts(self, work: Work) -> list[int]:
        begun, length = work.arrival.time_ms, self.duration_seconds * 1000 / len(self.profile)
        return [begun + round(k * length) for k in range(len(self.profile))]


class POV(Sliced):
    """Percentage of volume: never more than `rate` of what the market traded since the parent began.

    A child that would leave less than the venue takes carries the leftover too. `duration_seconds` bounds the wait.
    """

    rate: float = Field(0.1, gt=0, le=1)

    def due(self, work: Work, view: MarketView) -> Decimal:
        """The rate of the volume since the opening."""
        return Decimal(repr(self.rate)) * (view.traded - work.arrival.traded)


def volume_profile(bars: Iterable[Sequence[Any]], start_ms: int, duration_seconds: float, parts: int) -> list[float]:
    """Mean volume in each of `parts` equal parts of the time of day from `start_ms` on: the `profile` of a `VWAP`.

    bars: rows `(open time in epoch ms, open, high, low, close, volume)` in order, finer than a part. A part without a
    bar has weight 0. Source of the rule: Kissell, "The Science of Algorithmic Trading", ch. 2, volume profiles.
    Raises `ParameterError` for a duration above a day, bars coarser than a part, or no volume at all.
    """
    rows = [(int(row[0]), float(row[5])) for row in bars]
    length = duration_seconds * 1000 / parts if parts > 0 else 0.0
    if not 0 < length * parts <= DAY:
        raise ParameterError(f"{parts} parts of {duration_seconds} seconds: use at least one part, and at most a day")
    step = min((after[0] - before[0] for before, after in pairwise(rows)), default=0)
    if step > length:
        raise ParameterError(f"bars of {step / 1000:g} seconds cannot fill parts of {length / 1000:g}: use finer bars")
    sums = [0.0] * parts
    for time, volume in rows:
        part = int((time - start_ms) % DAY / length)
        if part < parts:
            sums[part] += volume
    if not sum(sums) > 0:
        raise ParameterError("no bar with volume lies in that time of the day: use a longer history")
    days = len({(time - start_ms) // DAY for time, _ in rows})
    return [total / days for total in sums]


def _passed(starts: Sequence[int], time_ms: int) -> int:
    """How many of the sorted `starts` have come."""
    return bisect_right(starts, time_ms)
