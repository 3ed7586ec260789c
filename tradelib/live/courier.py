"""What carries the orders of one trader to the desk, and hears of them: cancels, orders, and what became of both.

Every order that is given here is in the journal. What to trade is not decided here: what is told of orders waits, as
fills and endings in their sequence, until the trader shows it to its book.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from tradelib.bundle import Bundle
from tradelib.bundle.trading.instructions import Ending, Fill, Instruction, News
from tradelib.bundle.trading.retelling import (
    GIVES_WAY,
    OVERTAKEN,
    PLAN_CHANGED,
    endings_of,
    fill_of,
    leg_of,
    parted,
)
from tradelib.ledger.journal import accounts_for
from tradelib.live.bars import Bar, BarFeed
from tradelib.live.fills import VenueTrade, total
from tradelib.live.gate import GateVerdict
from tradelib.live.held import show
from tradelib.live.intents import Intent, OrderReport, OrderState
from tradelib.live.journals import TraderJournal
from tradelib.live.orders import OrderDesk, WorkingOrder
from tradelib.live.sight import Sight
from tradelib.live.wired import Wire
from tradelib.live.worked import WorkedOrders

__all__ = ["Courier"]


class Courier:
    """Carries the orders of `bundle` to its desk. `again`: the gate's second look, before every request that sends.

    `told`: what the desk said and nobody turned into news yet; `untold`: news that the book was not told yet; `heard`
    is set whenever the desk says something; `legs`: client order id -> leg of the orders that may still be heard of.
    """

    def __init__(
        self,
        bundle: Bundle,
        wire: Wire,
        log: TraderJournal,
        feed: BarFeed,
        sight: Sight,
        worked: WorkedOrders,
        again: Callable[[Instruction], GateVerdict],
    ) -> None:
        self._bundle, self._wire, self._log, self._feed = bundle, wire, log, feed
        self._sight, self._worked, self._again = sight, worked, again
        self._symbol = bundle.execution.symbol
        said: dict[str, Any] = {"on_report": self.hear, "objection": self.objection}
        self.desk = OrderDesk(wire.client, log, wire.insistence, dialect=wire.dialect, **said)
        self.told: deque[OrderReport] = deque()
        self.heard = asyncio.Event()
        self.untold: list[News] = []
        self.legs: dict[str, str] = {}
        self._freed: set[str] = set()

    # To the desk ------------------------------------------------------------------------------------------------------

    async def send(self, cancel: Sequence[str], intents: Sequence[Intent]) -> str | None:
        """Withdraw, then place: market orders one after the other, then what rests; the first one's outcome."""
        names = {leg: name for name, leg in self.legs.items()}
        for leg in cancel:
            parent = self._worked.parents.get(leg)
            if parent is not None:
                parent.ticket.stop(PLAN_CHANGED)
            for name in parent.alive() if parent is not None else [names[leg]] if leg in names else []:
                await self.desk.cancel(name, PLAN_CHANGED)
        status, batch = None, {intent.client_order_id for intent in intents}
        if batch:
            self._sight.begin()
        for intent in intents:
            if _is_done_at_once(intent):
                report = await self.execute(intent, batch)
                status = status or report.state.value
        resting = [intent for intent in intents if not _is_done_at_once(intent)]
        moved = await self.desk.make_room(resting)  # what made room is told again, and these with it
        overtaken = bool(resting) and await self._is_overtaken(batch)
        late = [intent for intent in resting if overtaken or intent.group in moved]
        reports = [await self._give_up(intent) for intent in late]
        reports += await self.desk.place_all([intent for intent in resting if intent not in late])
        return status or (reports[0].state.value if reports else None)

    async def execute(self, intent: Intent, batch: Collection[str] = ()) -> OrderReport:
        """A market order. A spot venue locks what a resting order would sell, so those that rest give way to a sale.

        The outcome of their cancel decides: where one of them was filled instead, the sale is given up, and what is
        left of it is decided after that fill. That they were withdrawn the book is told after the sale: what of them
        shall still stand is placed again.
        """
        freed = [order for order in self.desk.working(self._symbol) if intent.reduces and self._locks(order, intent)]
        for order in freed:
            self._freed.add(order.id)
            await self.desk.cancel(order.id, GIVES_WAY)
        overtaken = intent.side == "sell" and await self._is_overtaken(batch)
        report = None if overtaken else await self.desk.execute(intent)
        await self.complete()
        self.collect()
        gone = [order for order in freed if order.state is OrderState.CANCELED]
        gone = [order for order in gone if self._worked.parent_of(order.id) is None]
        self.untold += [Ending(self._leg(order.id), "withdrawn", GIVES_WAY) for order in gone]
        return await self._give_up(intent) if report is None else report

    async def _is_overtaken(self, batch: Collection[str]) -> bool:
        """Whether something was filled that the orders of a batch, which are about to leave, were decided without."""
        await self.complete()
        self.collect()
        return any(isinstance(told, Fill) and told.client_order_id not in batch for told in self.untold)

    async def _give_up(self, intent: Intent) -> OrderReport:
        """End an order unsent; what shall still be done of it the book tells again, after the fill that came first."""
        self._freed.add(intent.client_order_id)
        report = await self.desk.give_up(intent, OVERTAKEN)
        self.collect()
        parent = self._worked.parent_of(intent.client_order_id)
        if parent is None:
            self.untold.append(Ending(self._leg(intent.client_order_id), "withdrawn", OVERTAKEN))
        else:
            parent.ticket.stop(OVERTAKEN)
        return report

    @staticmethod
    def _locks(order: WorkingOrder, intent: Intent) -> bool:
        """Whether an order rests at the venue (one that never left does not) and offers what `intent` would sell."""
        return order.intent.side == intent.side and not order.held and order.state is not OrderState.INTENDED

    def objection(self, intent: Intent) -> str | None:
        """What forbids to send an order at this moment, though it was allowed when it was written down."""
        if not intent.reduces and (self._is_late(intent) or self._fired_long_ago(intent)):
            return "its bar has passed"
        blocked = () if intent.reduces else self._wire.blocked()
        if blocked:
            return f"{', '.join(blocked)} does not answer"
        verdict = self._again(_instructed(intent))
        return None if verdict.allowed else verdict.reason

    def _is_late(self, intent: Intent) -> bool:
        return intent.kind == "market" and intent.time < self._feed.last.time

    def _fired_long_ago(self, intent: Intent) -> bool:
        """Whether more than the bar in which it was seen has closed since the price of an order was reached."""
        fired = self._log.get(f"trigger:{intent.client_order_id}")
        seen = "" if fired is None else fired.body.get("after", "")
        return bool(seen) and sum(bar.time > seen for bar in self._feed.kept.tail(2)) > 1

    # From the desk ----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask how resting orders stand; what is done is the journal's to remember."""
        if self.desk.working(self._symbol):
            await self.desk.refresh(self._symbol)
        await self.complete()
        self.collect()
        for report in self.desk.forget_done():
            self.legs.pop(report.client_order_id, None)
            self._freed.discard(report.client_order_id)

    # To the orders that the runner holds ------------------------------------------------------------------------------

    async def look_back(self, *, ahead: bool = True) -> None:
        """Fire the exits that the runner holds and whose price came while nobody was there.

        ahead: also on the bar that forms. On a venue that is polled a decision that is due comes before that.
        """
        self._sight.begin()
        await self.desk.look_back(self._symbol, self._feed.bars(), self._feed.forming if ahead else None)

    async def show(self, closed: Sequence[Bar]) -> None:
        """Show them what bars met that have closed; what the venue did in these bars comes first."""
        prices = self._sight.passed(closed)
        await self.look()
        await show(self.desk, self._symbol, prices, gone=True)

    async def brace(self, intents: Sequence[Intent]) -> None:
        """Show them the market of this moment, from which on new orders watch; a sale at the market does not wait."""
        if not any(intent.reduces and _is_done_at_once(intent) for intent in intents):
            await show(self.desk, self._symbol, await self._sight.brace())

    # News -------------------------------------------------------------------------------------------------------------

    def news(self, before: float = math.inf) -> list[News]:
        """Fills (from before a moment, epoch ms) and endings that were told and not yet booked, in their sequence."""
        self.collect()
        now, self.untold = parted(self.untold, before)
        return now

    def hear(self, report: OrderReport) -> None:
        """The desk's word, which may come at any time: whoever waits for a bar looks after it."""
        self.told.append(report)
        self.heard.set()

    async def complete(self) -> None:
        """An order that ended, and whose trades are not all told: they are asked for before anything else is done.

        What was heard and is being written down is waited for: no fill is overlooked because of a slow disk.
        """
        await self.desk.written()
        for report in [one for one in self.told if one.is_final and not one.complete]:
            if report.venue_order_id is not None:
                await self._ask_for_trades(report.client_order_id, report.venue_order_id, report.quantity)

    async def _ask_for_trades(self, name: str, venue_order_id: str, quantity: float) -> None:
        """Every trade of an order, so that they add up to what it filled; `Unanswered` where the venue keeps silent."""

        async def question() -> None:
            told = await self._wire.dialect.fills(self._wire.client, self._symbol, order_id=venue_order_id)
            await self.desk.book(name, told)
            if not accounts_for(total(self.desk.fills.of(name)), quantity):
                raise LookupError("trades are missing")

        await self._wire.insistence.insist(question, f"all trades of order {name}")

    def collect(self) -> None:
        """Turn what the desk told into fills and endings, while it is known which legs they belong to."""
        while self.told:
            report = self.told.popleft()
            parent = self._worked.parent_of(report.client_order_id)
            self.untold += [replace(self._fill(trade), worked=parent is not None) for trade in report.fresh]
            if parent is not None:
                parent.hear(report)
            elif report.client_order_id not in self._freed:
                intent = self._intended(report.client_order_id)
                self.untold += endings_of(intent, report.state.value, report.reason)

    def _fill(self, trade: VenueTrade) -> Fill:
        """A trade as a book takes it: fees in quote currency and in base units apart."""
        if trade.fee is None:
            rate = self._bundle.execution.fee_rate
            self._wire.tell(
                "fee assumed", f"{self._symbol} trade {trade.trade_id}: paid {trade.fee_paid}, rate {rate:g}"
            )
        return fill_of(trade.body(), self._leg(trade.client_order_id), self._bundle.execution)

    def _leg(self, client_order_id: str) -> str:
        """The leg that an order is of."""
        leg = self.legs.get(client_order_id)
        return leg_of(self._intended(client_order_id)) if leg is None else leg

    def _intended(self, client_order_id: str) -> dict[str, Any]:
        """The journal's intent of an order."""
        entry = self._log.get(f"intent:{client_order_id}")
        return {} if entry is None else entry.body


def _is_done_at_once(intent: Intent) -> bool:
    """Whether nothing of an order stays at the venue: a market order, or one that is immediate or cancelled."""
    return intent.kind == "market" or intent.time_in_force in ("IOC", "FOK")


def _instructed(intent: Intent) -> Instruction:
    """A durable order as the gate reads one."""
    given = {"price": intent.price, "stop_price": intent.stop_price}
    prices = {name: None if value is None else float(value) for name, value in given.items()}
    named = {"group": intent.group, "reduces": intent.reduces, "reason": intent.reason, "time": intent.time}
    return Instruction(intent.leg, intent.kind, intent.side, float(intent.quantity), **prices, **named)  # type: ignore[arg-type]
