"""A journal told to a book: what was closed, filled and ended, in the sequence in which a runner told it.

A runner's book hears the venue's news one by one, as the journal has them: fills, endings, what the gate refused. Only
fills of the bar that is forming wait for the close of the bar before. So whoever tells a fresh book the same entries
has, after each of them, the account and the orders that the runner had: after a restart, and in a replay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tradelib.backtest import kernel
from tradelib.bundle.execution import Execution
from tradelib.bundle.layout import Bundle
from tradelib.bundle.trading.bar import Bar, bars_frame, extended
from tradelib.bundle.trading.instructions import Ending, Fill, News, Plan
from tradelib.bundle.trading.mirror import Mirror
from tradelib.bundle.trading.purse import Book, MarketBook, Purse
from tradelib.bundle.window import window_of
from tradelib.data.bars import window
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import RunnerError
from tradelib.ledger import Entry, Ledger, journal

__all__ = [
    "GIVES_WAY",
    "MAKES_ROOM",
    "ONE_CANCELS",
    "OVERTAKEN",
    "PLAN_CHANGED",
    "Retelling",
    "endings_of",
    "fill_of",
    "is_child",
    "leg_of",
    "legs_of",
    "new_book",
    "number",
    "parted",
    "told_decisions",
    "verdicts",
]

PLAN_CHANGED = "the plan changed"
"""Reason of a cancel that the plan asks for."""
GIVES_WAY = "gives way to a sale at the market"
"""Reason of a cancel of what locks the units that a market order shall sell."""

MAKES_ROOM = "makes room for what stands beside it"
"""Reason of an end that was asked for so that all exits of a position can be placed anew, together."""
ONE_CANCELS = "one cancels the other"
"""Reason of an end that a fill of an order beside it brought about."""
OVERTAKEN = "overtaken by a fill that was not known when it was decided"
"""Reason why an order is given up unsent: what is left of it is decided anew, after that fill."""

_ENDINGS = {"rejected": "rejected", "canceled": "cancelled", "expired": "expired"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Retelling:
    """Tells `book` the entries of a journal. `intents`: the journal's, by client order id.

    decisions: of the bars that were decided on, the journalled (signal, weight) by time. begun: whether the book has
    closed a bar already.
    """

    def __init__(
        self,
        bundle: Bundle,
        book: Book,
        intents: Mapping[str, Mapping[str, Any]],
        decisions: Mapping[str, tuple[float, float]],
        *,
        begun: bool = False,
    ) -> None:
        self.bundle, self.book, self.begun = bundle, book, begun
        self._intents, self._decisions = intents, decisions
        self._step = parse_timeframe(bundle.execution.timeframe).milliseconds
        self._news: list[News] = []
        self._before: list[Bar] = []
        self._freed: set[str] = set()
        self._overtaken: set[str] = set()
        self._gone: list[str] = []

    def tell(self, entry: Entry) -> Plan | None:
        """Take one entry; the plan that follows where it closes a bar."""
        if entry.kind == journal.BAR:
            return self._close(Bar.from_body(entry.body))
        if entry.kind == journal.PURSE:
            self.flush()
            self.book.fund(float(entry.body["cash"]))
        elif entry.kind == journal.FILL:
            intent = self._intents.get(entry.body["client_order_id"], {})
            told = fill_of(entry.body, leg_of(intent), self.bundle.execution)
            self._news.append(replace(told, worked=is_child(intent)))
        elif entry.kind == journal.ORDER:
            self._hear_order(entry.body)
        elif entry.kind == journal.CANCEL and entry.body["reason"] == GIVES_WAY:
            self._freed.add(entry.body["client_order_id"])
        elif entry.kind == journal.CANCEL and entry.body["reason"] == OVERTAKEN:
            self._overtaken.add(entry.body["client_order_id"])
        elif entry.kind == journal.ENDING and entry.body["status"] != "filled":
            self._news.append(Ending(entry.body["leg"], entry.body["status"], entry.body["reason"]))
        elif entry.kind == journal.REFUSAL:
            self._news.append(Ending(entry.body["leg"], "rejected", entry.body["reason"]))
        return None

    def flush(self) -> Plan | None:
        """Let the book take what was told inside of the bar that is forming; None where that is nothing."""
        if not (self.begun and self._news):
            return None
        news, self._news = self._news, []
        return self.book.book(news)

    def _hear_order(self, body: Mapping[str, Any]) -> None:
        """Orders that gave way to a sale are told after it."""
        name, status = body["client_order_id"], body["status"]
        intent = self._intents.get(name, {})
        if name in self._freed:
            self._gone += [leg_of(intent)] if status == "canceled" and not is_child(intent) else []
            return
        if name in self._overtaken and not is_child(intent):
            self._news += [Ending(leg, "withdrawn", GIVES_WAY) for leg in self._gone]
            self._news.append(Ending(leg_of(intent), "withdrawn", OVERTAKEN))
            self._gone.clear()
            return
        self._news += endings_of(intent, status, body["reason"])
        if status in journal.FINAL_STATUSES and intent.get("reduces") and intent.get("kind", "market") == "market":
            self._news += [Ending(leg, "withdrawn", GIVES_WAY) for leg in self._gone]
            self._gone.clear()

    def _close(self, bar: Bar) -> Plan | None:
        """The first close needs the history: the weight of the bar before it is remembered too."""
        decision = self._decisions.get(bar.time)
        if decision is None and not self.begun:
            self._before.append(bar)
            self.book.see(bars_frame([bar]))
            return None
        until = bar.milliseconds + self._step if self.bundle.needs else math.inf
        now, later = parted(self._news, until)
        self._news = [] if decision is not None else later  # of bars that passed, each is told its own
        if self.begun and decision is None:
            return self.book.close(bar, None, now, decides=False)
        if self.begun:
            return self.book.close(bar, None, now, decision=decision, later=later)
        self.begun = True
        plan = self.book.close(bar, self._history(bar), now, later=later)
        self._before.clear()
        return plan

    def _history(self, bar: Bar) -> Any:
        """What the runner saw at its first decision."""
        seen = extended(self.bundle.golden_bars, [*self._before, bar])
        return window(seen, seen.index[window_of(self.bundle).start(len(seen))])


def new_book(bundle: Bundle, cash: float, position: float = 0.0) -> Book:
    """The book of a bundle that begins with this much. Raises `RunnerError` where it would need to know more."""
    if not bundle.needs:
        return MarketBook(bundle, Purse(cash, position, float(bundle.execution.lots_per_unit)))
    if position:
        raise RunnerError(
            "the account holds a position that this bundle did not open: its exits and limits would not know how; "
            "close it by hand, or give the bundle a share of the cash"
        )
    return Mirror(bundle, cash)


def legs_of(log: Ledger) -> dict[str, str]:
    """Client order id -> leg, of every order that was ever meant to be sent."""
    return {body["client_order_id"]: leg_of(body) for body in journal.intents(log)}


def leg_of(intent: Mapping[str, Any]) -> str:
    """The leg of a journalled intent; "0" is that of a bundle that has only one. A child ("0/2") is of its parent."""
    return str(intent.get("leg") or "0").partition("/")[0]


def is_child(intent: Mapping[str, Any]) -> bool:
    """Whether an order is one of several by which an instruction is worked until the next decision."""
    return "/" in str(intent.get("leg") or "")


def endings_of(intent: Mapping[str, Any], status: str, reason: str) -> list[Ending]:
    """What a book is told of an order of this status: nothing, or that its leg will not be filled any further.

    How a child ends says nothing of its leg: that has an `ending` of its own.
    """
    if is_child(intent):
        return []
    if status in ("canceled", "expired") and reason in (MAKES_ROOM, ONE_CANCELS):
        return [Ending(leg_of(intent).rstrip("+"), "withdrawn", reason)]
    if status in _ENDINGS:
        return [Ending(leg_of(intent), _ENDINGS[status], reason)]  # type: ignore[arg-type]
    smaller = status == "filled" and intent.get("fitted")
    return [Ending(leg_of(intent), "expired", "made smaller, and filled")] if smaller else []


def fill_of(body: Mapping[str, Any], leg: str, terms: Execution) -> Fill:
    """A journalled trade as a book takes it: fees in quote currency and in base units apart.

    A fee in a third currency is valued at the rate that `terms` assume.
    """
    base, paid = str(body["symbol"]).partition("/")[0], body["fee_paid"]
    kept = sum(float(cost) for currency, cost in paid.items() if currency == base)
    quantity, price, fee = float(body["quantity"]), float(body["price"]), body["fee"]
    fee = float(kernel.fee.python(quantity, price, terms.fee_rate)) if fee is None else float(fee)
    moment = round((datetime.fromisoformat(body["filled_at"]) - _EPOCH) / timedelta(milliseconds=1))
    name, trade = str(body["client_order_id"]), str(body["trade_id"])
    fee = fee - kept * price if kept else fee
    return Fill(name, trade, quantity, price, fee, moment, bool(body["maker"]), leg, kept)


def parted(news: Iterable[News], before: float) -> tuple[list[News], list[News]]:
    """News of before a moment (epoch ms) and later ones; endings have no time of their own: they count as before.

    So does what was worked until a decision: it was cut off for it.
    """
    now: list[News] = []
    later: list[News] = []
    for told in news:
        (later if isinstance(told, Fill) and told.time_ms >= before and not told.worked else now).append(told)
    return now, later


def verdicts(plan: Plan) -> dict[str, Any]:
    """What limits and account said to a plan, as its decision is journalled: nothing where they had no objection."""
    refusals = [{**vars(refusal)} for refusal in plan.refusals]
    found = {"halts": list(plan.halts), "refusals": refusals}
    return {name: told for name, told in found.items() if told}


def number(value: float | None) -> float:
    """A journalled number; None (warming up) is NaN."""
    return math.nan if value is None else float(value)


def told_decisions(entries: Iterable[Entry]) -> dict[str, tuple[float, float]]:
    """Signal and target weight of each decision, by time."""
    bodies: Iterable[Mapping[str, Any]] = (entry.body for entry in entries if entry.kind == journal.DECISION)
    return {body["time"]: (number(body["signal"]), number(body["target_weight"])) for body in bodies}
