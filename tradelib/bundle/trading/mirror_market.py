"""The market as a mirror remembers it: as much of the past as its rules look back on, however long it lives.

The engine's functions ask for rows by the number of the bar. Here a table forgets the rows that nobody asks for any
more, and an average true range goes on bar by bar where research computes it over the whole history; both give what
research has, to the last bit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tradelib.backtest.book import Tape
from tradelib.backtest.wiring import needed_atr
from tradelib.bundle.execution import Execution
from tradelib.data.timeframes import parse_timeframe, periods_per_year
from tradelib.risk import judging
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.risk.past_risk import PastRiskRule, past_risk, past_table

__all__ = ["BarLike", "MarketMemory", "Ring", "Rows", "RunningAtr"]

_MILLISECONDS_PER_DAY = 86_400_000
_NANOSECONDS_PER_MILLISECOND = 1_000_000
_GROUP = 8
"""Bars whose shares research sums up before they join the level: see `tradelib.indicators.volatility`."""


class BarLike(Protocol):
    """One closed bar; `milliseconds` is its open time since the epoch, UTC."""

    @property
    def milliseconds(self) -> int: ...
    @property
    def open(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def close(self) -> float: ...
    @property
    def volume(self) -> float: ...


class Rows:
    """The last rows of a table `(n, columns)`, asked for by their number from the beginning: `rows[t, column]`."""

    __slots__ = ("_rows", "kept", "shape")

    def __init__(self, columns: int, kept: int, *, used: bool = True) -> None:
        self.shape = (1 if used else 0, columns)
        self.kept = kept
        self._rows: dict[int, Sequence[float]] = {}

    def __getitem__(self, place: tuple[int, int]) -> float:
        return self._rows[place[0]][place[1]]

    def put(self, t: int, row: Sequence[float]) -> None:
        """Set row `t`, and forget those that are `kept` rows older, or more."""
        self._rows[t] = row
        for old in [number for number in self._rows if number <= t - self.kept]:
            del self._rows[old]

    def items(self) -> list[tuple[int, list[float]]]:
        """What is remembered, the oldest first."""
        return [(t, list(self._rows[t])) for t in sorted(self._rows)]


class Ring:
    """Numbers by bar, of which the last `kept` are remembered: the value traded, for tiers of fees."""

    __slots__ = ("values",)

    def __init__(self, kept: int, values: np.ndarray | None = None) -> None:
        self.values = np.zeros(kept) if values is None else values

    def __getitem__(self, t: int) -> float:
        return float(self.values[t % len(self.values)])

    def __setitem__(self, t: int, value: float) -> None:
        self.values[t % len(self.values)] = value

    def copy(self) -> Ring:
        """Another one with the same numbers."""
        return Ring(0, self.values.copy())


class RunningAtr:
    """Average true range, a bar at a time: the bits of `tradelib.indicators.volatility.atr` over all bars so far.

    Wilder's recursion `level = keep x level + share`, rounded as research rounds it: within a group of eight the shares
    are summed first. The state is `(seen, level, u, power, before)`.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.state = (0, 0.0, 0.0, 1.0, math.nan)

    def add(self, high: float, low: float, close: float) -> float:
        """The value known at the close of the next bar; NaN while it warms up."""
        seen, level, u, power, before = self.state
        share = (max(high, before) - min(low, before)) * (1.0 / self.window)
        keep = 1.0 - 1.0 / self.window
        value = math.nan
        if 0 < seen <= self.window:
            level += share
            value = level if seen == self.window else math.nan
        elif seen > self.window:
            u, power = u * keep + share, power * keep
            value = level * power + u
            if (seen - self.window) % _GROUP == 0:
                level, u, power = value, 0.0, 1.0
        self.state = (seen + 1, level, u, power, close)
        return value


class _Past(NamedTuple):
    """What limits look back on: which parts, and over how many bars each."""

    rule: PastRiskRule
    days: bool
    width: int

    @classmethod
    def of(cls, limits: Limits | None) -> _Past | None:
        if limits is None or not (limits.needs_days or limits.past.bars > 1):
            return None
        looks = limits.past.scenarios or limits.past.clusters
        return cls(limits.past, limits.needs_days, judging.PAST_RETURN + (2 if looks else 0))


class MarketMemory:
    """The tape of one symbol, with as many rows as its rules need. `count`: bars seen so far."""

    def __init__(
        self, execution: Execution, exits: Exits | None, scale_in: ScaleIn | None, limits: Limits | None
    ) -> None:
        self.count = 0
        self.milliseconds = -1
        step = parse_timeframe(execution.timeframe)
        self._step, self._grain = step.milliseconds, step.nanoseconds
        self._years = periods_per_year(execution.calendar, execution.timeframe)
        self._past = _Past.of(limits)
        self._closes: deque[tuple[int, float]] = deque(maxlen=self._past.rule.bars if self._past else 1)
        window = needed_atr(exits, scale_in)
        self._atr = None if window is None else RunningAtr(window)
        self._price = {name: Rows(1, 3) for name in ("open", "high", "low", "close", "volume")}
        self._price["atr"] = Rows(1, 3, used=window is not None)
        kept = self._past.rule.scenarios + 3 if self._past else 1
        self._price["past"] = Rows(self._past.width if self._past else 1, kept, used=self._past is not None)
        tables: dict[str, Any] = dict.fromkeys(Tape._fields, Rows(1, 1, used=False))
        self.tape = Tape(**{**tables, **self._price})

    def see(self, bar: BarLike) -> int:
        """Take one closed bar; its number."""
        t = self.count
        for name in ("open", "high", "low", "close", "volume"):
            self._price[name].put(t, (float(getattr(bar, name)),))
        if self._atr is not None:
            self._price["atr"].put(t, (self._atr.add(float(bar.high), float(bar.low), float(bar.close)),))
        self._closes.append((bar.milliseconds * _NANOSECONDS_PER_MILLISECOND, float(bar.close)))
        if self._past is not None:
            self._price["past"].put(t, self._past_row(self._past, bar.milliseconds))
        self.count, self.milliseconds = t + 1, bar.milliseconds
        return t

    def expect(self) -> int:
        """Make ready for what happens inside the bar that is forming; its number. Of it only its day is known."""
        t = self.count
        self._price["volume"].put(t, (math.inf,))
        if self._past is not None:
            day = (self.milliseconds + self._step) // _MILLISECONDS_PER_DAY
            row = [float(day) if self._past.days else judging.NEVER] + [math.nan] * (self._past.width - 1)
            self._price["past"].put(t, row)
        return t

    def _past_row(self, past: _Past, milliseconds: int) -> list[float]:
        """The last row of `past_table`, each part of it from the bars of its own window."""
        rule, day = past.rule, milliseconds // _MILLISECONDS_PER_DAY
        row = [float(day) if past.days else judging.NEVER] + [math.nan] * (past.width - 1)
        none = PastRiskRule()
        if rule.volatility:
            only = none._replace(volatility=rule.volatility)
            row[judging.PAST_VOLATILITY] = self._known(only, judging.PAST_VOLATILITY)
        if rule.scenarios:
            row[judging.PAST_RETURN] = self._known(none._replace(scenarios=1), judging.PAST_RETURN)
        if rule.clusters:
            only = none._replace(clusters=rule.clusters, every=rule.every, correlation=rule.correlation)
            row[judging.PAST_RETURN + 1] = self._known(only, judging.PAST_RETURN + 1)
        return row

    def _known(self, rule: PastRiskRule, column: int) -> float:
        seen = list(self._closes)[-rule.bars :]
        times, closes = np.array([time for time, _ in seen]), np.array([[close] for _, close in seen])
        rows = past_risk(closes, times, self._grain, self._years, rule)
        return float(past_table(rows, None, len(seen))[-1, column])

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as lists of numbers."""
        return {
            "count": self.count,
            "milliseconds": self.milliseconds,
            "closes": [list(pair) for pair in self._closes],
            "atr": None if self._atr is None else list(self._atr.state),
            "rows": {name: rows.items() for name, rows in self._price.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` told."""
        self.count, self.milliseconds = int(state["count"]), int(state["milliseconds"])
        self._closes.extend((int(time), float(close)) for time, close in state["closes"])
        if self._atr is not None:
            seen, *numbers = state["atr"]
            self._atr.state = (int(seen), *map(float, numbers))  # type: ignore[assignment]
        for name, rows in self._price.items():
            for t, row in state["rows"][name]:
                rows.put(int(t), [float(value) for value in row])
