"""The orders of one trader that a schedule works in children: open tickets, what they ask for, and how they end.

A ticket is opened by a plan and ends before the next decision at the latest: what it did not fill by then is left to
that decision. Opening, children and end are entries of the journal, so whoever comes after a crash goes on with the
same tickets (`tradelib.live.execution.records`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tradelib.bundle.trading.instructions import Ending, Instruction
from tradelib.ledger import Ledger, journal
from tradelib.live.execution.children import Cancel, Child, MarketRules, MarketView, Place, Standing
from tradelib.live.execution.records import instruction_body, intent_of, is_child, open_tickets, parent_leg
from tradelib.live.execution.schedules import MarketOrder, Schedule
from tradelib.live.execution.ticket import WORKED, Ticket, schedule_from_config
from tradelib.live.fills import iso_moment
from tradelib.live.gate import GateVerdict
from tradelib.live.intents import Intent, OrderReport
from tradelib.live.journals import Item

__all__ = ["Drafts", "Parent", "WorkedOrders", "arrival", "entry", "schedule_of"]

Judge = Callable[[Instruction], GateVerdict]


@dataclass
class Drafts:
    """What becomes of orders: entries to write, then ids to cancel and intents to send, and what ended unsent."""

    items: list[Item] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)

    def send(self, intent: Intent, view: MarketView) -> None:
        """An order that leaves, and the market that it leaves into."""
        self.items += [entry(journal.INTENT, intent.body()), arrival(intent.client_order_id, view)]
        self.intents.append(intent)


@dataclass
class Parent:
    """An instruction that is being worked. `ids`: client order id -> leg of each child."""

    order: Instruction
    ticket: Ticket
    ids: dict[str, str] = field(default_factory=dict)
    written: bool = False
    said: str = ""
    """The venue's newest reason about a child."""

    def judged(self, child: Child) -> Instruction:
        """A child as the gate judges it."""
        quantity, price, stop = float(child.quantity), _float(child.price), _float(child.stop_price)
        terms = replace(self.order, leg=child.leg, kind=child.kind, quantity=quantity, fits=False)
        return replace(terms, price=price, stop_price=stop)

    def hear(self, report: OrderReport) -> None:
        """What became of a child."""
        leg = self.ids[report.client_order_id]
        for trade in report.trades:
            self.ticket.on_fill(leg, trade.trade_id, abs(Decimal(repr(trade.quantity))))
        self.ticket.on_status(leg, report.state.value, abs(Decimal(repr(report.quantity))))
        self.said = report.reason or self.said

    def alive(self) -> list[str]:
        """Ids of the children that may still fill."""
        legs = {standing.child.leg for standing in self.ticket.work.alive}
        return [name for name, leg in self.ids.items() if leg in legs]

    def ending(self) -> tuple[str, str]:
        """How it ended, and why, once nothing is out."""
        ticket = self.ticket
        if not ticket.unfilled:
            return "filled", ""
        if ticket.stopped:
            return "cancelled" if ticket.work.filled or not ticket.work.rejections() else "rejected", ticket.stopped
        if ticket.work.rejections():
            return "rejected", self.said or "the venue refused it"
        return "expired", "its schedule ended before it filled"


class WorkedOrders:
    """The tickets of a trader in `symbol`. `schedule`: how its orders are worked, None for at once and whole."""

    def __init__(self, schedule: Schedule | None, symbol: str, bundle_digest: str) -> None:
        self.schedule = schedule
        self.symbol, self._digest = symbol, bundle_digest
        self.parents: dict[str, Parent] = {}

    def __len__(self) -> int:
        return len(self.parents)

    def takes(self, order: Instruction) -> bool:
        """Whether an order is worked; what protects a position goes out as it is."""
        schedule = self.schedule
        return schedule is not None and order.group is None and order.kind in schedule.takes and order.reason in WORKED

    def open(self, order: Instruction, quantity: float, rules: MarketRules, view: MarketView) -> Parent | None:
        """A ticket for `quantity` of `order`; None where that is less than a lot."""
        assert self.schedule is not None
        parent = Parent(order, Ticket.open(replace(order, quantity=quantity), self.schedule, rules, view))
        if not parent.ticket.work.total:
            return None
        self.parents[order.leg] = parent
        return parent

    def parent_of(self, client_order_id: str) -> Parent | None:
        """The order that a child belongs to."""
        return next((parent for parent in self.parents.values() if client_order_id in parent.ids), None)

    def counted(self, order: Instruction) -> float:
        """Signed units that the account's limits are asked about: of a parent all of it, with its first child."""
        parent = self.parents.get(parent_leg(order.leg)) if is_child(order.leg) else None
        if parent is None:
            return order.signed
        whole = float(parent.ticket.work.total) * (1.0 if order.side == "buy" else -1.0)
        return whole if order.leg == f"{parent.order.leg}/1" else 0.0

    def stop(self, reason: str, which: Callable[[Instruction], bool] = lambda _: True) -> None:
        """Place nothing more for these orders."""
        for parent in self.parents.values():
            if which(parent.order):
                parent.ticket.stop(reason)

    def go_on(self, drafts: Drafts, parent: Parent, view: MarketView, judge: Judge) -> None:
        """What the ticket asks for now. A child that the gate refuses ends it: the rest is for the next decision."""
        actions = parent.ticket.actions(view)
        if not parent.written:
            body = instruction_body(parent.order, self.symbol, parent.ticket)
            drafts.items.append(entry(journal.INSTRUCTION, body))
            parent.written = True
        for action in actions:
            if isinstance(action, Cancel):
                drafts.cancels += [name for name, leg in parent.ids.items() if leg == action.leg]
            else:
                self._place(drafts, parent, action, view, judge)

    def _place(self, drafts: Drafts, parent: Parent, action: Place, view: MarketView, judge: Judge) -> None:
        child, order = action.child, parent.judged(action.child)
        verdict = judge(order)
        if verdict.allowed:
            intent = intent_of(child, parent.order, self.symbol, self._digest)
            parent.ids[intent.client_order_id] = child.leg
            drafts.send(intent, view)
            return
        first = len(parent.ticket.work.standings) == 1
        told = replace(order, leg=parent.order.leg, quantity=float(parent.ticket.work.total)) if first else order
        drafts.items.append(refusal(told.time, self.symbol, told, verdict))
        parent.ticket.on_status(child.leg, "rejected")
        parent.ticket.stop(verdict.reason)

    def over(self, view: MarketView) -> list[Parent]:
        """The orders that are over; they are forgotten here."""
        done = [parent for parent in self.parents.values() if parent.ticket.done(view)]
        for parent in done:
            del self.parents[parent.order.leg]
        return done

    def end(self, parent: Parent) -> tuple[dict[str, Any], Ending | None]:
        """The journal's entry of an order that is over, and what the book has to be told."""
        status, reason = parent.ending()
        named = {"time": parent.order.time, "symbol": self.symbol, "leg": parent.order.leg}
        ending = None if status == "filled" else Ending(parent.order.leg, status, reason)  # type: ignore[arg-type]
        return {**named, "status": status, "reason": reason}, ending

    def wake_ms(self, view: MarketView) -> int | None:
        """When the first of them has something to do though nothing happens; None for never."""
        times = [parent.ticket.wake_ms(view) for parent in self.parents.values()]
        return min((time for time in times if time is not None), default=None)

    def restore(self, log: Ledger) -> None:
        """The tickets that an earlier process left open. One of which the gate refused a child stays stopped."""
        for body, ticket in open_tickets(log):
            order = _instruction(body)
            refused = log.starting(f"refusal:{order.time}:{self.symbol}:{order.leg}/")
            if refused:
                ticket.stop(str(refused[-1].body["reason"]))
            self.parents[order.leg] = Parent(order, ticket, self._ids(order, ticket.work.standings), written=True)

    def _ids(self, order: Instruction, standings: Sequence[Standing]) -> dict[str, str]:
        children = [standing.child for standing in standings]
        return {intent_of(one, order, self.symbol, self._digest).client_order_id: one.leg for one in children}


def schedule_of(config: Any) -> Schedule | None:
    """The schedule that a configuration names; None where orders go out at once, whole, and once."""
    schedule = schedule_from_config(config)
    return None if schedule == MarketOrder() else schedule


def arrival(client_order_id: str, view: MarketView) -> Item:
    """The market as it was when an order was decided to be sent."""
    prices = {"bid": _float(view.bid), "ask": _float(view.ask), "price": float(view.last)}
    return entry(journal.ARRIVAL, {"client_order_id": client_order_id, "at": iso_moment(view.time_ms), **prices})


def refusal(time: str, symbol: str, order: Instruction, verdict: GateVerdict) -> Item:
    """An order that may not leave, and why."""
    told = verdict.as_dict()
    why = {name: told[name] for name in ("reason", "figure", "threshold")}
    named = {"time": time, "symbol": symbol, "leg": order.leg, "rule": verdict.cause}
    return entry(journal.REFUSAL, {**named, "quantity": order.signed, **why})


def entry(kind: str, body: dict[str, Any]) -> Item:
    """An entry of the journal under its own key."""
    return kind, body, journal.entry_key(kind, body)


def _instruction(body: dict[str, Any]) -> Instruction:
    names = ("leg", "kind", "side", "quantity", "price", "stop_price", "group", "reduces", "reason", "time")
    return Instruction(**{name: body[name] for name in names})


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
