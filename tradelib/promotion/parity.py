"""Did the runner do what research would have done? Compared bar by bar, to the last bit.

The runner's journal is set beside a backtest of the same window with the bundle's own rule, costs and market: bars
seen, decisions, orders, fills, fees and account. Equal means equal; the first difference is named with both values.

The research side decides on the history that the runner had (from the bundle's first golden bar on), its account
starts with the bundle's cash at the first decided bar, and an order decided on one bar fills at the open of the next.
The order of the last decided bar is compared as far as the bars reach.

A bundle whose exits, further entries or limits act between decisions has many orders on one bar, or none. There the
fills are compared instead, bar by bar in their sequence: which order, how much, at which price, for which fee. Of the
bar after the last decision only what the runner has seen of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from itertools import zip_longest
from typing import Any, NamedTuple

import pandas as pd

from tradelib.backtest.engine import replay
from tradelib.backtest.result import Result
from tradelib.bundle import Bundle
from tradelib.bundle.trading.retelling import leg_of
from tradelib.bundle.trading.terms import exact
from tradelib.bundle.window import window_of, windowed
from tradelib.data.bars import COLUMNS, check_bars, window
from tradelib.errors import DataError, LedgerError
from tradelib.ledger import Ledger, journal
from tradelib.promotion.replay import journal_of, known_number, signed_quantity

__all__ = ["CATEGORIES", "Difference", "ParityReport", "compare_paper"]

CATEGORIES = ("data", "decision", "order", "fill", "fee", "account")
"""Where a difference can arise, in the order in which one causes the next."""

_SHOWN = 20


class Difference(NamedTuple):
    """One field that is not the same. `time` is the open time of the bar, for orders of the bar that decided them."""

    time: str
    category: str
    field: str
    paper: float | str | None
    research: float | str | None

    def __str__(self) -> str:
        return f"{self.field} at {self.time} ({self.category}): paper {self.paper!r}, research {self.research!r}"


@dataclass(frozen=True)
class ParityReport:
    """The comparison: how many of each were compared, and every difference, the earliest first."""

    bundle_digest: str
    first: str
    last: str
    compared: Mapping[str, int]
    differences: tuple[Difference, ...]
    paper_equity: float | None
    research_equity: float | None

    @property
    def equal(self) -> bool:
        """True when not a single bit differs."""
        return not self.differences

    @property
    def first_difference(self) -> Difference | None:
        """The earliest difference, and of those on one bar the one that comes first in `CATEGORIES`."""
        return self.differences[0] if self.differences else None

    @property
    def by_category(self) -> dict[str, int]:
        """How many fields differ, by category."""
        return {name: sum(found.category == name for found in self.differences) for name in CATEGORIES}

    def summary(self) -> str:
        """One sentence: equal, or how much differs and where it began."""
        told = ", ".join(f"{count} {what}" for what, count in self.compared.items())
        if self.equal:
            return f"Paper equals research: {told} from {self.first} to {self.last}, the same to the last bit."
        counts = ", ".join(f"{count} {name}" for name, count in self.by_category.items() if count)
        return f"Paper deviates from research ({counts} of {told}). It began with {self.first_difference}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the first 20 differences."""
        return {
            "equal": self.equal,
            "bundle_digest": self.bundle_digest,
            "first": self.first,
            "last": self.last,
            "compared": dict(self.compared),
            "differences": len(self.differences),
            "by_category": self.by_category,
            "first_differences": [difference._asdict() for difference in self.differences[:_SHOWN]],
            "paper_equity": self.paper_equity,
            "research_equity": self.research_equity,
            "summary": self.summary(),
        }

    def to_metrics(self) -> dict[str, float]:
        """Figures for a run in MLflow: `paper.equal` (1 or 0), differences in all and by category, both equities."""
        by_category = {f"differences.{name}": count for name, count in self.by_category.items()}
        equities = {"equity": self.paper_equity, "research_equity": self.research_equity}
        figures = {
            "equal": self.equal,
            "differences": len(self.differences),
            **by_category,
            **self.compared,
            **equities,
        }
        return {f"paper.{name}": float(value) for name, value in figures.items() if value is not None}

    def to_frame(self) -> pd.DataFrame:
        """Every difference: time, category, field, paper, research."""
        return pd.DataFrame(self.differences, columns=list(Difference._fields))

    def _repr_html_(self) -> str:
        table = "" if self.equal else self.to_frame().head(_SHOWN).to_html(index=False, border=0)
        return f"<p><b>{escape(self.summary())}</b></p>{table}"


class _Paper(NamedTuple):
    """What the journal holds, by time of the bar."""

    bars: dict[str, dict[str, Any]]
    decisions: dict[str, dict[str, Any]]
    intents: dict[str, dict[str, Any]]
    orders: dict[str, dict[str, Any]]
    equities: dict[str, dict[str, Any]]
    fills: list[dict[str, Any]]
    sent: dict[str, dict[str, Any]]


class _Traded(NamedTuple):
    """What was filled of one order in one bar; `quantity` signed."""

    reason: str
    quantity: float
    price: float
    fee: float


class _Research(NamedTuple):
    """The backtest of the same window, by time of the bar; `orders` by the bar that decided them."""

    bars: dict[str, dict[str, float]]
    decisions: dict[str, dict[str, float | None]]
    orders: dict[str, dict[str, Any]]
    equities: dict[str, dict[str, float]]
    fills: dict[str, list[_Traded]]
    halts: dict[str, list[str]]


def compare_paper(journal_path: str | os.PathLike[str], bundle: Bundle, bars: pd.DataFrame) -> ParityReport:
    """Compare the runner's journal with a backtest of the window that it decided on.

    `bars` reach from the bundle's first golden bar to at least one bar after the first decision; one bar after the last
    decision lets its order be compared too. No trial is counted. Raises `LedgerError` for a journal that is missing,
    broken, empty or of another bundle, and `DataError` for bars that do not cover the window.
    """
    paper = _read(journal_path, bundle)
    known, times = _window(paper, bundle, bars)
    result = _backtest(bundle, known, times[0])
    research = _research(result, known, times, bundle)
    found = sorted(_differences(paper, research, times, bundle), key=_order_of)
    compared = {
        "bars": len(paper.bars),
        "decisions": len(paper.decisions),
        "orders": len(paper.sent),
        "fills": len(paper.fills) if bundle.needs else sum(one["status"] == "filled" for one in paper.orders.values()),
    }
    last = max(paper.equities, default=None)
    worth = None if last is None else float(paper.equities[last]["equity"])
    there = None if last is None else research.equities.get(last, {}).get("equity")
    return ParityReport(bundle.digest, times[0], times[-1], compared, tuple(found), worth, there)


def _order_of(difference: Difference) -> tuple[str, int]:
    return difference.time, CATEGORIES.index(difference.category)


# The two sides --------------------------------------------------------------------------------------------------------


def _read(path: str | os.PathLike[str], bundle: Bundle) -> _Paper:
    """The journal by time; `LedgerError` unless its chain stands and it belongs to `bundle`."""
    with journal_of(path, bundle) as (log, _):
        paper = _sides(log)
    if not paper.decisions:
        raise LedgerError(f"Journal {path} holds no decision: there is nothing to compare.")
    return paper


def _sides(log: Ledger) -> _Paper:
    times = {body["client_order_id"]: body["time"] for body in journal.intents(log)}
    orders: dict[str, dict[str, Any]] = {}
    for body in journal.orders(log):
        time = times.get(body["client_order_id"], f"order {body['client_order_id']} without an intent")
        if time not in orders or orders[time]["status"] not in journal.FINAL_STATUSES:
            orders[time] = body
    return _Paper(
        {body["time"]: body for body in journal.bars(log)},
        {body["time"]: body for body in journal.decisions(log)},
        {body["time"]: body for body in journal.intents(log)},
        orders,
        {body["time"]: body for body in journal.equities(log)},
        journal.fills(log),
        {body["client_order_id"]: body for body in journal.intents(log)},
    )


def _window(paper: _Paper, bundle: Bundle, bars: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The bars that the runner saw, at least one beyond its last decision; and the times of which it should decide."""
    check_bars(bars)
    start = bundle.golden_bars.index[0]
    if bars.index[0] > start:
        raise DataError(f"the bars begin at {bars.index[0]}, the runner's history at {start}: load them from there")
    first, last = min(paper.decisions), max(paper.decisions)
    beyond = int(bars.index.searchsorted(pd.Timestamp(last), side="right"))
    seen = pd.Timestamp(max([*paper.bars, last]))
    known = window(bars, start, max(seen, bars.index[min(beyond, len(bars) - 1)]))
    times = [time.isoformat() for time in known.index if pd.Timestamp(first) <= time <= pd.Timestamp(last)]
    if not times or times[0] != first or pd.Timestamp(first) == known.index[-1]:
        raise DataError(f"the bars hold no bar at the first decision {first}, or none after it: load the same market")
    return known, times


def _backtest(bundle: Bundle, bars: pd.DataFrame, first: str) -> Result:
    terms = bundle.execution
    account = bars.index[bars.index > pd.Timestamp(first)][0]
    return replay(
        windowed(bundle.rule, window_of(bundle)),
        bars,
        costs=terms.costs,
        market=terms.market,
        cash=terms.cash,
        start=account,
    )


def _research(result: Result, bars: pd.DataFrame, times: Sequence[str], bundle: Bundle) -> _Research:
    cash = bundle.execution.cash
    equities = {times[0]: {"cash": cash, "position": 0.0, "equity": cash}}
    columns = {"cash": result.positions["cash"], "position": result.positions["quantity"], "equity": result.equity}
    for row, time in enumerate(result.index):
        equities[time.isoformat()] = {name: float(values.iloc[row]) for name, values in columns.items()}
    decisions = {
        time.isoformat(): {"signal": known_number(signal), "target_weight": known_number(weight)}
        for time, signal, weight in result.decisions[["signal", "target_weight"]].itertuples()
    }
    rows_of_orders: Any = result.orders.to_dict("records")
    orders = {order["time"].isoformat(): order for order in rows_of_orders}
    rows = zip(bars.index, bars[list(COLUMNS)].to_numpy(), strict=True)
    seen = {time.isoformat(): dict(zip(COLUMNS, map(float, values), strict=True)) for time, values in rows}
    return _Research(seen, decisions, orders, equities, _filled(result), _halted(result))


def _halted(result: Result) -> dict[str, list[str]]:
    """Limits that tripped in the backtest, by the bar at whose close they did."""
    found: dict[str, list[str]] = {}
    for time, kind in zip(result.cash_book["time"], result.cash_book["kind"], strict=True):
        if kind.endswith("_halt") or kind == "protection":
            found.setdefault(time.isoformat(), []).append(str(kind))
    return found


def _filled(result: Result) -> dict[str, list[_Traded]]:
    """The backtest's fills by the open time of their bar, in their sequence."""
    found: dict[str, list[_Traded]] = {}
    rows: Any = result.fills.to_dict("records")
    for fill in rows:
        money = (float(fill[name]) for name in ("quantity", "price", "fee"))
        traded = _Traded(str(fill["origin"]), *money)
        found.setdefault(fill["time"].isoformat(), []).append(traded)
    return found


def _traded(paper: _Paper, index: pd.DatetimeIndex) -> dict[str, list[_Traded]]:
    """The runner's fills by the open time of their bar; parts of one order in one bar are one."""
    parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for fill in paper.fills:
        row = int(index.searchsorted(pd.Timestamp(fill["filled_at"]), side="right")) - 1
        parts.setdefault((index[max(row, 0)].isoformat(), _leg(paper, fill)), []).append(fill)
    found: dict[str, list[_Traded]] = {}
    for (time, _), fills in parts.items():
        reason = paper.sent.get(fills[0]["client_order_id"], {}).get("reason") or "signal"
        found.setdefault(time, []).append(_together(reason, fills))
    return found


def _leg(paper: _Paper, fill: Mapping[str, Any]) -> str:
    """The order that a fill is of; children are of their parent."""
    intent = paper.sent.get(fill["client_order_id"])
    return str(fill["client_order_id"]) if intent is None else f"{intent['time']} {leg_of(intent)}"


def _together(reason: str, fills: Sequence[Mapping[str, Any]]) -> _Traded:
    quantity = sum((exact(fill["quantity"]) for fill in fills), Decimal(0))
    fee = sum(float(fill["fee"] or 0.0) for fill in fills)
    price = float(fills[0]["price"])
    if len(fills) > 1 and quantity:
        price = float(sum(exact(fill["quantity"]) * exact(fill["price"]) for fill in fills) / quantity)
    return _Traded(reason, float(quantity), price, fee)


# The comparison -------------------------------------------------------------------------------------------------------


def _differences(paper: _Paper, research: _Research, times: Sequence[str], bundle: Bundle) -> Iterator[Difference]:
    yield from _golden_differences(bundle, research)
    yield from _bar_differences(paper, research, bundle)
    for time in times:
        yield from _decision_differences(time, paper, research)
        if not bundle.needs:
            yield from _order_differences(time, paper, research)
        elif time in paper.decisions:
            halts = paper.decisions[time].get("halts", []), research.halts.get(time, [])
            yield from _field(time, "decision", "halts", *(", ".join(told) or None for told in halts))
    for time in sorted({*paper.decisions, *paper.equities} - set(times)):
        yield Difference(time, "decision", "decision", "there", "missing")
    if bundle.needs:
        yield from _trade_differences(paper, research, times)
        return
    for time in sorted({*paper.intents, *paper.orders} - set(times)):
        yield Difference(time, "order", "order", "there", "missing")


def _trade_differences(paper: _Paper, research: _Research, times: Sequence[str]) -> Iterator[Difference]:
    """Fill by fill; of the bar after the last decision those that the runner has."""
    there = _traded(paper, pd.DatetimeIndex(pd.to_datetime(list(research.bars), utc=True)))
    for time in sorted(there.keys() | research.fills.keys()):
        ours, theirs = there.get(time, []), research.fills.get(time, [])
        if time > times[-1]:
            theirs = theirs[: len(ours)]
        for one, other in zip_longest(ours, theirs):
            yield from _trade_difference(time, one, other)


def _trade_difference(time: str, ours: _Traded | None, theirs: _Traded | None) -> Iterator[Difference]:
    """One fill; where only one side has it, that is the one difference."""
    if ours is None or theirs is None:
        only = ours or theirs
        assert only is not None
        sides = ("missing" if side is None else f"{side.quantity!r} at {side.price!r}" for side in (ours, theirs))
        yield Difference(time, "fill", f"fill of {only.reason}", *sides)
        return
    yield from _field(time, "order", "reason", ours.reason, theirs.reason)
    yield from _field(time, "fill", f"quantity of {theirs.reason}", ours.quantity, theirs.quantity)
    yield from _field(time, "fill", f"price of {theirs.reason}", ours.price, theirs.price)
    yield from _field(time, "fee", f"fee of {theirs.reason}", ours.fee, theirs.fee)


def _golden_differences(bundle: Bundle, research: _Research) -> Iterator[Difference]:
    """The history that the runner started with is the one that research has."""
    golden = bundle.golden_bars
    for time, values in zip(golden.index, golden[list(COLUMNS)].to_numpy(), strict=True):
        body = dict(zip(COLUMNS, map(float, values), strict=True))
        yield from _fields(time.isoformat(), "data", COLUMNS, body, research.bars.get(time.isoformat()))


def _bar_differences(paper: _Paper, research: _Research, bundle: Bundle) -> Iterator[Difference]:
    """Every bar after the golden ones, up to the last one that the runner saw, is in the journal, and no other."""
    begin = bundle.golden_bars.index[-1].isoformat()
    end = max([*paper.bars, *paper.decisions])
    expected = {time for time in research.bars if begin < time <= end}
    for time in sorted(expected | paper.bars.keys()):
        yield from _fields(time, "data", COLUMNS, paper.bars.get(time), research.bars.get(time))


def _decision_differences(time: str, paper: _Paper, research: _Research) -> Iterator[Difference]:
    decided = paper.decisions.get(time)
    yield from _fields(time, "decision", ("signal", "target_weight"), decided, research.decisions[time])
    account = paper.equities.get(time)
    yield from _fields(time, "account", ("cash", "position", "equity"), account, research.equities[time])
    if decided is not None:
        believed = {name: decided[name] for name in ("position", "equity")}
        yield from _fields(time, "account", ("position", "equity"), believed, research.equities[time], "decision's ")


def _order_differences(time: str, paper: _Paper, research: _Research) -> Iterator[Difference]:
    order = research.orders.get(time)
    wanted = 0.0 if order is None else float(order["quantity"])
    decided, intent = paper.decisions.get(time), paper.intents.get(time)
    sent = 0.0 if intent is None else signed_quantity(intent)
    yield from _field(time, "order", "decided quantity", None if decided is None else decided["quantity"], wanted)
    yield from _field(time, "order", "sent quantity", sent, wanted)
    yield from _fill_differences(time, paper.orders.get(time), order)


def _fill_differences(
    time: str, done: Mapping[str, Any] | None, order: Mapping[str, Any] | None
) -> Iterator[Difference]:
    """What became of the order; one that research left pending has no next bar and is not compared."""
    if order is None and done is None:
        return
    if order is not None and order["status"] == "pending":
        return
    status = "never sent" if order is None else order["status"]
    yield from _field(time, "fill", "status", "no answer" if done is None else done["status"], status)
    filled = order is not None and order["status"] == "filled"
    if done is not None and order is not None and filled:
        yield from _field(time, "fill", "filled quantity", done["quantity"], float(order["quantity"]))
        yield from _field(time, "fill", "fill price", done["price"], float(order["price"]))
        yield from _field(time, "fee", "fee", done["fee"], float(order["fee"]))


def _fields(
    time: str,
    category: str,
    names: Iterable[str],
    paper: Mapping[str, Any] | None,
    research: Mapping[str, Any] | None,
    prefix: str = "",
) -> Iterator[Difference]:
    """Compare several fields; where one side has nothing at all, that is the one difference."""
    if paper is None and research is None:
        return
    if paper is None or research is None:
        what = {"data": "bar", "decision": "decision"}.get(category, category)
        yield Difference(time, category, what, *("missing" if side is None else "there" for side in (paper, research)))
        return
    for name in names:
        yield from _field(time, category, f"{prefix}{name}", paper[name], research[name])


def _field(time: str, category: str, name: str, paper: Any, research: Any) -> Iterator[Difference]:
    if paper != research:
        yield Difference(time, category, name, paper, research)
