"""An account checked by somebody who does not believe the engine: every row against the conventions, in plain Python.

The auditor takes the bars, the decisions and the policies of a finished backtest and goes through its fills, orders and
cash book with decimal arithmetic of its own. It derives cash, position and equity at every close, the price and fee of
every fill, the levels of every protective order, and what every limit forbids; it also finds what should have happened
and did not. No kernel of the engine is called: both would have to be wrong in the same way to agree.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tradelib.backtest import book
from tradelib.backtest.auditing_account import Auditor
from tradelib.backtest.auditing_books import Event, Finding, Given
from tradelib.backtest.auditing_limits import LimitWatch
from tradelib.backtest.auditing_market import ZERO, Candle, average_true_ranges, candles, number, terms_of
from tradelib.backtest.auditing_orders import needs_range
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import DataError, ParameterError

if TYPE_CHECKING:
    from tradelib.backtest.decision import DecisionRule
    from tradelib.backtest.machine import Simulation
    from tradelib.backtest.result import Result

__all__ = ["AccountAudit", "AuditProblem", "audit_account"]

_DIGITS = 28
_DAY = 86_400_000_000_000


class AuditProblem(NamedTuple):
    """Something in an account that the conventions do not give: the bar's open time, the symbol, the row of the order
    in `Simulation.orders` (None where it is about no order), a word for the kind, and a sentence."""

    time: pd.Timestamp
    symbol: str
    order: int | None
    what: str
    words: str

    def __str__(self) -> str:
        about = "" if self.order is None else f", order {self.order}"
        return f"{self.symbol} at {self.time.isoformat()}{about}: {self.words}"


@dataclass(frozen=True, repr=False)
class AccountAudit:
    """What an audit looked at, and what it found; `problems` in the order of time, the first one is the cause."""

    symbol: str
    bars: int
    orders: int
    fills: int
    entries: int
    problems: tuple[AuditProblem, ...]

    @property
    def passed(self) -> bool:
        """True without a problem."""
        return not self.problems

    def summary(self) -> pd.DataFrame:
        """Verdict, what was looked at, and the problems counted by kind, as text."""
        rows = {"Verdict": "passed" if self.passed else "failed", "Symbol": self.symbol, "Bars": f"{self.bars:,}"}
        rows |= {
            "Orders": f"{self.orders:,}",
            "Fills": f"{self.fills:,}",
            "Entries of the cash book": f"{self.entries:,}",
        }
        rows["Problems"] = f"{len(self.problems):,}"
        if self.problems:
            rows["First"] = str(self.problems[0])
        counts = Counter(problem.what for problem in self.problems)
        return pd.DataFrame({"value": rows | {f"  {what}": f"{count:,}" for what, count in counts.items()}})

    def to_frame(self) -> pd.DataFrame:
        """One row per problem: `time`, `symbol`, `order`, `what`, `words`."""
        return pd.DataFrame(self.problems, columns=list(AuditProblem._fields))

    def __repr__(self) -> str:
        told = "passed" if self.passed else f"failed: {self.problems[0]}"
        return f"AccountAudit({self.fills} fills on {self.bars} bars: {told})"

    def _repr_html_(self) -> str:
        return self.summary().to_html(header=False, border=0)


def audit_account(result: Result, *, funding: pd.Series[float] | None = None) -> AccountAudit:
    """Go through the account of a rule on one symbol, and find what the conventions do not give.

    `funding`: the rates that the backtest was given, if any. Raises `ParameterError` for what a result does not keep:
    the policies of several symbols, of signals, weights and orders, and finer bars.
    """
    rule = _auditable(result)
    simulation = result.simulation
    found = _unreadable(simulation)
    if not found:
        with localcontext(prec=_DIGITS):
            events, found = _events(simulation.fills.tolist(), simulation.entries.tolist())
            found += Auditor(_given(result, rule, funding, events)).run()
    times = pd.DatetimeIndex(result.panel.index)
    symbol, last = result.symbols[0], len(times) - 1
    problems = tuple(
        AuditProblem(times[min(max(f.bar, 0), last)], symbol, f.order if f.order >= 0 else None, f.what, f.words)
        for f in sorted(found, key=lambda finding: finding.bar)
    )
    counts = (len(result.index), len(simulation.orders), len(simulation.fills), len(simulation.entries))
    return AccountAudit(symbol, *counts, problems)


def _auditable(result: Result) -> DecisionRule:
    """The rule of a result that can be audited."""
    if result.rule is None or len(result.symbols) > 1 or result.targets is None:
        raise ParameterError("only the account of a rule on one symbol can be audited: others keep no policies")
    if (result.simulation.fills[:, book.FILL_ROW] >= 0).any():
        raise ParameterError("an account on finer bars cannot be audited: a result does not keep them; run it without")
    return result.rule


def _unreadable(simulation: Simulation) -> list[Finding]:
    """Rows that cannot be read: figures that are no numbers, fills of orders that do not exist."""
    fills, entries, orders = simulation.fills, simulation.entries, simulation.orders
    numbers = {"fill": np.delete(fills, book.FILL_ROW, axis=1), "entry": np.delete(entries, book.ENTRY_ASSET, axis=1)}
    numbers |= {"order": orders[:, [book.KIND, book.PLACED, book.STATUS, book.CAUSE, book.REASON]]}
    numbers |= {"equity": simulation.equity[:, None]}
    found = [
        Finding(0, "unreadable", f"{name} {int(np.argmin(sound))} holds something that is no number")
        for name, table in numbers.items()
        if not (sound := np.isfinite(table).all(axis=1)).all()
    ]
    row = fills[:, book.FILL_ORDER]
    if not found and ((row < 0) | (row >= len(orders))).any():
        found.append(Finding(0, "unreadable", "a fill belongs to an order that does not exist"))
    return found


def _given(result: Result, rule: DecisionRule, funding: Any, events: list[tuple[int, Event]]) -> Given:
    """What the account was given, in decimals."""
    panel, simulation, targets = result.panel, result.simulation, result.targets
    columns = (panel.open, panel.high, panel.low, panel.close, panel.volume)
    bars = candles(*(column[:, 0] for column in columns))
    policies = (rule.exits, rule.scale_in)
    window = rule.exits.atr_window if rule.exits is not None else 14
    return Given(
        bars=bars,
        ranges=average_true_ranges(bars, window) if needs_range(*policies) else (),
        targets=[] if targets is None else [None if math.isnan(aim) else number(aim) for aim in targets[:, 0].tolist()],
        funding=_funding(funding, panel.index),
        terms=terms_of(result.costs, result.market, result.periods_per_year),
        band=None if rule.rebalance_band is None else number(rule.rebalance_band),
        exits=rule.exits,
        scale_in=rule.scale_in,
        watch=_watch(result, rule, bars),
        cash=number(result.initial_cash),
        first=result.first,
        equity=simulation.equity.tolist(),
        orders=simulation.orders.tolist(),
        events=events,
    )


def _watch(result: Result, rule: DecisionRule, bars: Sequence[Candle]) -> LimitWatch | None:
    """The limits of the account with what they look back on."""
    limits = rule.limits
    if limits is None or not limits.given:
        return None
    times = result.panel.index.as_unit("ns").asi8
    step = parse_timeframe(result.panel.timeframe).nanoseconds * limits.cluster_every
    stretches, days = (times // step).tolist(), (times // _DAY).tolist()
    closes = [bar.close for bar in bars]
    terms = (days, stretches, closes, result.periods_per_year, number(result.initial_cash))
    return LimitWatch(limits, result.symbols[0], *terms)


def _funding(rates: Any, index: pd.DatetimeIndex) -> list[tuple[Decimal, Decimal]]:
    """Funding rates due at the open of each bar, and summed inside of it; those before the first bar are left out."""
    due = [(ZERO, ZERO)] * len(index)
    if rates is None:
        return due
    if not isinstance(rates, pd.Series) or not isinstance(rates.index, pd.DatetimeIndex) or rates.index.tz is None:
        raise DataError("funding must be a Series of rates on a tz-aware time index")
    for time, rate in rates.items():
        bar = int(index.searchsorted(pd.Timestamp(str(time)), side="right")) - 1
        if bar >= 0:
            opened, inside = due[bar]
            at_open = index[bar] == time
            due[bar] = (opened + number(rate), inside) if at_open else (opened, inside + number(rate))
    return due


def _events(fills: list[list[float]], entries: list[list[float]]) -> tuple[list[tuple[int, Event]], list[Finding]]:
    """Fills and entries in the sequence in which cash moved, each with its bar; and where that is no sequence."""
    rows = [
        (fill[book.FILL_SEQUENCE], int(fill[book.FILL_AT]), Event(fill, int(fill[book.FILL_ORDER]))) for fill in fills
    ]
    rows += [(entry[book.ENTRY_SEQUENCE], int(entry[book.ENTRY_BAR]), Event(entry, -1)) for entry in entries]
    rows.sort(key=lambda row: row[0])
    found = [
        Finding(bar, "sequence", f"booking {place} of the account is numbered {number_:g}", event.order)
        for place, (number_, bar, event) in enumerate(rows)
        if number_ != place
    ]
    bars = np.array([bar for _, bar, _ in rows], dtype=np.int64)
    found += [
        Finding(int(bars[place + 1]), "sequence", "was booked after what happened later", rows[place + 1][2].order)
        for place in np.flatnonzero(np.diff(bars) < 0).tolist()
    ]
    return [(bar, event) for _, bar, event in rows], found[:1]
