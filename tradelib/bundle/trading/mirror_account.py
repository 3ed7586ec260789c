"""The engine's tables of one account that trades: rows that have a name for life, though the tables forget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tradelib.backtest import book, translate
from tradelib.backtest.book import Machine
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle.execution import Execution
from tradelib.bundle.trading.mirror_market import Ring
from tradelib.data.timeframes import periods_per_year
from tradelib.risk import judging

__all__ = ["MirrorAccount", "new_account", "numbers", "plain"]

_STATE = ("account", "assets", "orders", "queue", "counts", "closed")
_CHANGING = (*_STATE, "fills", "entries", "traded", "scenarios")
_ROOM = 16
"""Rows to begin with; `stepping.roomy` adds what a bar may need."""


@dataclass
class MirrorAccount:
    """The machine's tables and the serial number of each order in them: its row in a machine that forgets nothing."""

    machine: Machine
    serials: list[int] = field(default_factory=list)
    issued: int = 0

    def copy(self) -> MirrorAccount:
        """Another account in the same state."""
        tables = {name: getattr(self.machine, name).copy() for name in _CHANGING}
        return MirrorAccount(self.machine._replace(**tables), list(self.serials), self.issued)

    def serial(self, row: int) -> int:
        """The number that the order in `row` has for life."""
        known = len(self.serials)
        return self.serials[row] if row < known else self.issued + row - known

    def row(self, serial: int) -> int:
        """Where order `serial` is; -1 where it is forgotten or unknown."""
        known = len(self.serials)
        if serial >= self.issued:
            row = known + serial - self.issued
            return row if row < int(self.machine.counts[book.ORDERS]) else -1
        return self.serials.index(serial) if serial in self.serials else -1

    @property
    def position(self) -> float:
        """Signed units held."""
        return float(self.machine.assets[0, book.POSITION])

    @property
    def cash(self) -> float:
        """Quote currency."""
        return float(self.machine.account[book.CASH])

    def is_working(self, row: int) -> bool:
        """True while order `row` may still fill."""
        return row >= 0 and bool(self.machine.orders[row, book.STATUS] == book.WORKING)

    def queued(self) -> list[int]:
        """Rows of the market orders that still wait."""
        waiting = self.machine.queue[: self.machine.counts[book.QUEUED]].tolist()
        return [row for row in waiting if self.is_working(row)]

    def linked(self) -> list[int]:
        """Rows of the resting orders, in the sequence of placing."""
        rows, row = [], int(self.machine.assets[0, book.FIRST])
        while row >= 0:
            rows.append(row)
            row = int(self.machine.orders[row, book.NEXT])
        return sorted(rows)

    def requeue(self) -> None:
        """Let the queue hold what still waits, and nothing else."""
        waiting = self.queued()
        self.machine.queue[: len(waiting)] = waiting
        self.machine.counts[book.QUEUED] = len(waiting)

    def forget(self, t: int) -> None:
        """Drop every row that nothing will ever ask for again after the close of bar `t`."""
        m = self.machine
        kept = sorted([*self.queued(), *self.linked()])
        self.serials, self.issued = self._renumbered(kept), self.issued + self._fresh()
        place = {row: number for number, row in enumerate(kept)}
        self._move(m, kept, place)
        closed = self._kept_trades(t)
        m.closed[: len(closed)] = closed
        m.counts[book.CLOSED] = m.account[judging.JUDGED] = len(closed)
        m.counts[book.FILLS] = m.counts[book.ENTRIES] = 0
        if isinstance(m.traded, Ring):
            m.traded[t + 1] = 0.0

    def _fresh(self) -> int:
        return int(self.machine.counts[book.ORDERS]) - len(self.serials)

    def _renumbered(self, kept: Iterable[int]) -> list[int]:
        return [self.serial(row) for row in kept]

    def _move(self, m: Machine, kept: list[int], place: dict[int, int]) -> None:
        """Close the gaps between the `kept` rows, and point every reference to the new `place`."""
        rows = m.orders[kept]
        for row in rows:
            row[book.NEXT] = place.get(int(row[book.NEXT]), book.NONE)
        m.orders[: len(kept)] = rows
        m.queue[: m.counts[book.QUEUED]] = [place[row] for row in m.queue[: m.counts[book.QUEUED]].tolist()]
        for column in (book.FIRST, book.LIQUIDATOR):
            m.assets[0, column] = place.get(int(m.assets[0, column]), book.NONE)
        m.counts[book.ORDERS] = len(kept)

    def _kept_trades(self, t: int) -> np.ndarray:
        """Closed trades within the longest window of the protections."""
        m = self.machine
        guards = range(int(m.rules[judging.GUARDS]))
        windows = [m.rules[judging.GUARD + judging.GUARD_WIDTH * g + judging.WINDOW] for g in guards]
        closed = m.closed[: m.counts[book.CLOSED]]
        return closed[closed[:, judging.CLOSED_BAR] > t - max(windows, default=0.0)].copy()

    def state(self) -> dict[str, Any]:
        """The tables as lists, cut to what they hold."""
        m, counts = self.machine, self.machine.counts
        sizes = {"orders": counts[book.ORDERS], "queue": counts[book.QUEUED], "closed": counts[book.CLOSED]}
        told = {name: plain(getattr(m, name)[: sizes.get(name)]) for name in _STATE}
        traded = plain(m.traded.values) if isinstance(m.traded, Ring) else []
        return {**told, "traded": traded, "serials": list(self.serials), "issued": self.issued}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` told, in a fresh account of the same rules."""
        m, told = self.machine, {name: numbers(state[name]) for name in _STATE}
        grown = {"orders": book.ORDER_COLUMNS, "closed": judging.CLOSED_COLUMNS}
        for name, columns in grown.items():
            rows = told[name].reshape(-1, columns)
            table = np.empty((len(rows) + _ROOM if name == "orders" or len(m.closed) else 0, columns))
            table[: len(rows)] = rows
            m = m._replace(**{name: table})
        queue = np.empty(len(told["queue"]) + _ROOM, np.int64)
        queue[: len(told["queue"])] = told["queue"]
        m.account[:], m.assets[0], m.counts[:] = told["account"], told["assets"], told["counts"]
        if isinstance(m.traded, Ring):
            m.traded.values[:] = numbers(state["traded"])
        self.machine = m._replace(queue=queue)
        self.serials, self.issued = [int(serial) for serial in state["serials"]], int(state["issued"])


def new_account(rule: DecisionRule, terms: Execution, cash: float) -> MirrorAccount:
    """An account with `cash` under the policies of `rule` and the terms of a bundle."""
    costs, market, years = terms.costs, terms.market, periods_per_year(terms.calendar, terms.timeframe)
    machine = book.empty_machine(
        1,
        0,
        cash=cash,
        terms=translate.trading_terms(costs, market, 1, years),
        rules=translate.account_rules(costs, market, rule.limits, rule.rebalance_band, years),
        policies=translate.policy_table([terms.symbol], rule.exits, rule.scale_in, rule.limits),
        tiers=translate.fee_tiers(costs),
    )
    names = ("orders", "queue", "fills", "entries", "closed")
    machine = machine._replace(**{name: getattr(machine, name)[:_ROOM].copy() for name in names})
    ring: Any = Ring(costs.tier_bars + 1)
    return MirrorAccount(machine._replace(traded=ring) if len(machine.tiers) else machine)


def plain(table: np.ndarray) -> list[Any]:
    """Numbers as JSON can hold them: infinities and NaN as text."""
    return [value if math.isfinite(value) else repr(value) for value in table.reshape(-1).tolist()]


def numbers(values: Iterable[Any]) -> np.ndarray:
    """What `plain` wrote."""
    return np.array([float(value) for value in values], np.float64)
