"""One bundle in one symbol: closed bar in, plan, durable intents, orders, journal; on a purse and a journal of its own.

Per closed bar: the book takes the venue's fills, values the purse at the bar's close, and plans on the bounded history;
the gate judges what is planned; bar, equity, decision and intents become durable in one transaction; only then orders
are sent, and their outcomes journalled. `equity{time}` is therefore the account at the close of that bar *before* the
orders decided on it, which is the backtest's equity of that bar.

Only the newest closed bar may trade. Bars that closed while the runner was away are journalled, not decided on. The
first decision is made on the last bar that was closed when the trader first started. After a restart the journal says
where to go on; intents without a final order are settled first, by asking the venue.

A trader that fails leaves nothing half-done that its journal does not know: whoever supervises it drops it and starts
another one on the same journal, as after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pandas as pd

from tradelib.backtest import kernel
from tradelib.bundle import Bundle
from tradelib.bundle.window import window_of
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live.account import Account, Listing, Markets, fetch_account
from tradelib.live.bars import Bar, BarFeed
from tradelib.live.books import ENDINGS, bars_frame, legs_of, open_book
from tradelib.live.dialects import Dialect
from tradelib.live.feeds import MarketData, Pace, Streams, Tell
from tradelib.live.fills import VenueTrade
from tradelib.live.gate import PASSED, GateVerdict
from tradelib.live.instructions import Ending, Fill, Instruction, Plan
from tradelib.live.intents import Intent, OrderReport, OrderState, client_order_id, quantise, quantise_price
from tradelib.live.journals import Item, TraderJournal
from tradelib.live.orders import OrderDesk, WorkingOrder
from tradelib.live.patience import Insistence, Unanswered
from tradelib.live.purse import Book, Purse
from tradelib.live.summary import Step

__all__ = ["Funding", "Gate", "Trader", "Wire", "item"]

logger = logging.getLogger(__name__)

_IDLE_POLLS = 50
"""Polls in a row without a new bar after which a paper trader asks whether the market is still open."""
_LOOK = 2.0
"""Seconds after which resting orders are asked for while a bar forms."""
_SNAPSHOT = 1_000
"""Decisions between two snapshots of a book."""


@dataclass(frozen=True)
class Wire:
    """What all traders of a runner share: the client, its markets and data, and how long to insist."""

    client: Any
    mode: str
    dialect: Dialect
    insistence: Insistence
    data: MarketData
    markets: Markets
    tell: Tell
    executor: Executor | None = None
    blocked: Callable[[], tuple[str, ...]] = tuple
    """Endpoints of the account that may not be asked now: no order that adds to a position leaves meanwhile."""


@dataclass(frozen=True)
class Funding:
    """What a purse is opened with: a `share` of `capital`. None: all that the account holds, position included."""

    share: float
    capital: float


Gate = Callable[["Trader", Instruction], GateVerdict]
"""May an instruction become an intent?"""


@dataclass
class Trader:
    """Trades `bundle` on its own journal. `start` first; then `act` while `due`, else `poll`; `run` does both.

    `until`: epoch ms of the open of the last bar to decide on. Raises `RunnerError` where it must not go on.
    """

    bundle: Bundle
    wire: Wire
    log: TraderJournal
    pace: Pace
    until: float = math.inf
    funding: Funding | None = None
    probing: bool = True
    streams: Streams | None = None
    gate: Gate | None = None
    progress: Callable[[Step], None] | None = None
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))

    def __post_init__(self) -> None:
        bundle, wire = self.bundle, self.wire
        self.symbol = bundle.execution.symbol
        self.feed = BarFeed(
            wire.data,
            self.symbol,
            bundle.golden_bars,
            wire.insistence,
            window=window_of(bundle),
            page=wire.dialect.maximum_bars,
            probing=self.probing,
        )
        self._told: deque[OrderReport] = deque()
        self.desk = OrderDesk(wire.client, self.log, wire.insistence, dialect=wire.dialect, on_report=self._told.append)
        self.listing: Listing | None = None
        self.last_step: Step | None = None
        self.started = False
        self.ended = ""
        self._legs: dict[str, str] = {}
        self._fills: list[Fill] = []
        self._endings: list[Ending] = []
        self._freed: set[str] = set()
        self._to_deliver: tuple[Plan, list[Intent], Bar, float] | None = None
        self._begun = False
        self._since_snapshot = 0
        self._idle = 0
        self._allotted = 0.0
        self._decided = -1
        self._turn = asyncio.Lock()  # a decision, and what operators ask for, one after the other

    # Where it stands --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Bundle and symbol, for people."""
        return f"{self.bundle.name} {self.symbol}"

    @property
    def due(self) -> bool:
        """Whether the newest closed bar still has to be decided on."""
        return self._decided < self.feed.last.milliseconds <= self.until

    @property
    def over(self) -> bool:
        """Whether the last bar to decide on has passed."""
        return max(self.feed.last.milliseconds, self._decided) >= self.until and not self.due

    # Start ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on where the journal ends: history, open orders, purse; then compare with the venue."""
        self.listing = await self.wire.markets.listing(self.symbol, self.bundle.execution.lots_per_unit)
        self.feed.resume([Bar.from_body(body) for body in journal.bars(self.log)])
        seen = await self.feed.start()
        await self._settle()
        self.book = await self._open_book()
        await self._compare_account()
        last = self.log.last(journal.DECISION)
        self._begun = last is not None
        self._decided = -1 if last is None else pd.Timestamp(last.body["time"]).value // 10**6
        await self._pass(seen)
        await self._make_stand()
        self.started = True

    async def _settle(self) -> None:
        """Resolve what an earlier run left open. Only an order of the newest closed bar may still be sent."""
        newest = self.feed.last.time
        for body in journal.unresolved(self.log):
            intent = Intent.from_body(body)
            if intent.kind == "market":
                await self.desk.recover(intent, may_send=intent.time == newest)
        await self.desk.resume(lambda intent: intent.time == newest)
        self._told.clear()  # all of it is in the journal, from which the book is opened

    async def _open_book(self) -> Book:
        """The purse as the journal tells it, or a new one."""
        if self.log.last(journal.PURSE) is None and self.log.last(journal.EQUITY) is None:
            await self._fund()
        self._allotted = sum(float(body["cash"]) for body in journal.bodies(self.log, journal.PURSE))
        self._legs = legs_of(self.log)
        return open_book(self.bundle, self.log, self.feed.kept.step, self._fill)

    async def _make_stand(self) -> None:
        """What shall rest and was never written down, because the process ended before: place it now."""
        resting = [order for order in self.book.instructions if order.kind != "market"]
        missing = [order for order in resting if self.log.get(f"intent:{self._id(order)}") is None]
        if missing:
            plan = Plan(self.feed.last.time, None, None, *self.book.account, 0.0, place=tuple(missing))
            await self._carry_out(plan)
            await self._settle_news()

    async def _fund(self) -> None:
        terms = self.funding
        if terms is None:
            account = await self._account()
            body = {**vars(account), "capital": account.cash, "share": 1.0, "reason": "the whole account"}
        else:
            cash = terms.share * terms.capital
            body = {"cash": cash, "position": 0.0, "capital": terms.capital, "share": terms.share, "reason": "opened"}
        await self.log.write([item(journal.PURSE, body)], self.wire.executor)

    async def _account(self) -> Account:
        assert self.listing is not None
        return await fetch_account(self.wire.client, self.listing, self.wire.insistence)

    async def _compare_account(self) -> None:
        """A bundle that has the account to itself must find there what its journal ended with, fills included."""
        if self.funding is not None or self.log.last(journal.EQUITY) is None:
            return
        assert self.listing is not None
        expected, held = self.purse.position, (await self._account()).position
        if abs(held - expected) >= float(self.listing.step) / 2:
            raise RunnerError(
                f"the journal ends with {expected:g} {self.listing.base}, the venue holds {held:g}: "
                "not trading on an account that changed; settle it by hand and start a new journal"
            )

    @property
    def purse(self) -> Purse:
        """What the bundle has."""
        return Purse(*self.book.account, float(self.bundle.execution.lots_per_unit))

    @property
    def allotted(self) -> float:
        """What it was given so far, in quote currency."""
        return self._allotted

    # A closed bar -----------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Decide and wait by turns until `stopping` is set, `until` has passed, or the venue closed the market."""
        while not (stopping.is_set() or self.over or self.ended):
            if self.due:
                await self.act()
            elif not await self.poll():
                await self.idle(stopping)

    async def poll(self) -> bool:
        """Take what closed since; what is not the newest is journalled only. False where nothing had closed."""
        fresh = await self.feed.poll()
        if not fresh:
            await self.listen()
        if fresh and self.streams is not None:
            self.streams.check(self.symbol, self.feed.timeframe, fresh)
        await self._pass(fresh)
        self._idle = 0 if fresh else self._idle + 1
        return bool(fresh)

    async def listen(self) -> None:
        """How orders that rest stand, while a bar forms; what has to stand because of it is placed at once."""
        if not self.desk.working(self.symbol):
            return
        async with self._turn:
            await self._look()
            await self._tick()
            await self._settle_news()

    async def _tick(self) -> None:
        """Show the newest price to the orders that the runner holds because the venue cannot."""
        price = self.feed.price
        if price is not None and any(order.held for order in self.desk.working(self.symbol)):
            await self.desk.tick(self.symbol, bid=price, ask=price)

    async def idle(self, stopping: asyncio.Event) -> None:
        """Wait for the next bar; now and then ask whether there will be one."""
        if self._idle % _IDLE_POLLS == 0 and await self._is_finished():
            self.ended = "the venue closed the market"
            return
        waiting: list[asyncio.Task[Any]] = [
            asyncio.create_task(self.pace.wait(self.symbol, self.feed.last)),
            asyncio.create_task(stopping.wait()),
        ]
        try:
            while not (await asyncio.wait(waiting, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED))[0]:
                await self.listen()
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _is_finished(self) -> bool:
        """A paper market that stopped trading has come to the end of its recording; a live one may open again."""
        return self.wire.mode == "paper" and not await self.wire.markets.is_trading(self.symbol)

    async def act(self) -> None:
        """Decide on the newest closed bar, write it down, and send what it takes."""
        await self.decide()
        await self.deliver()

    async def decide(self) -> None:
        """The first half: account, plan, gate; everything durable, nothing sent. Nobody else acts until `deliver`."""
        await self._turn.acquire()
        try:
            await self._decide()
        except BaseException:
            self._turn.release()
            raise

    async def _decide(self) -> None:
        bar = self.feed.last
        await self._look()
        begun = time.perf_counter()
        fills, endings = self._news(before=bar.milliseconds + self.feed.kept.step)
        plan = self.book.close(bar, self.feed.history(), fills, endings)
        orders = self._orders(plan)
        took = time.perf_counter() - begun
        self._begun, self._decided = True, bar.milliseconds
        intents = await self._write_down(plan, orders, self._decision(bar, plan))
        self._to_deliver = plan, intents, bar, took

    async def deliver(self) -> None:
        """The second half: send, and go on until nothing is new."""
        if self._to_deliver is None:
            return
        (plan, intents, bar, took), self._to_deliver = self._to_deliver, None
        try:
            status = await self._send(plan.cancel, intents)
            await self._settle_news()
            await self._tick()
            await self._settle_news()
        finally:
            self._turn.release()
        self._report(bar, plan, status, took)

    async def _settle_news(self) -> None:
        """Book what was told, and what has to stand at the venue because of it, until nothing is new."""
        while self._begun:
            fills, endings = self._news()
            if not fills and not endings:
                return
            plan = self.book.book(fills, endings)
            if plan.place or plan.cancel:
                await self._carry_out(plan)

    def _decision(self, bar: Bar, plan: Plan) -> list[Item]:
        """What is written of a decided bar; now and then with all that the book remembers."""
        decided = {"signal": plan.signal, "target_weight": plan.weight, "quantity": self._quantity(plan)}
        account = {"position": plan.position, "equity": plan.equity}
        items = [
            item(journal.BAR, bar.body()),
            item(journal.EQUITY, {"time": bar.time, "cash": plan.cash, **account}),
            item(journal.DECISION, {"time": bar.time, **account, **decided}),
        ]
        self._since_snapshot += 1
        if self._since_snapshot >= _SNAPSHOT and (state := self.book.state()) is not None:
            items.append(item(journal.SNAPSHOT, {"time": bar.time, "state": state}))
            self._since_snapshot = 0
        return items

    def _orders(self, plan: Plan) -> list[tuple[Instruction, GateVerdict, Intent | None]]:
        """Each new instruction, what the gate says of it, and the order that it becomes; None where it becomes none."""
        found = []
        for order in plan.place:
            verdict = self._verdict(order)
            intent = self._intent(order) if verdict.allowed else None
            if verdict.allowed and intent is None:
                verdict = GateVerdict(False, "lot", order.quantity, reason="less than one lot is left of it")
            found.append((order, verdict, intent))
        return found

    async def _carry_out(self, plan: Plan) -> str | None:
        """Write down what a plan asks for, then send it; the first order's outcome."""
        return await self._send(plan.cancel, await self._write_down(plan, self._orders(plan), []))

    async def _write_down(
        self, plan: Plan, orders: list[tuple[Instruction, GateVerdict, Intent | None]], items: list[Item]
    ) -> list[Intent]:
        """Everything about a plan in one transaction; the orders that may leave. What was refused the book is told."""
        intents = [intent for _, _, intent in orders if intent is not None]
        refused = [(order, verdict) for order, verdict, intent in orders if intent is None]
        told = [(order, verdict) for order, verdict in refused if verdict.cause != "lot" or self.bundle.needs]
        items += [item(journal.REFUSAL, self._refusal(plan.time, one, why)) for one, why in told]
        items += [item(journal.INTENT, intent.body()) for intent in intents]
        if items:
            await self.log.write(items, self.wire.executor)
        self._endings += [Ending(order.leg, "rejected", verdict.reason) for order, verdict in told]
        return intents

    def _refusal(self, time: str, order: Instruction, verdict: GateVerdict) -> dict[str, Any]:
        told = verdict.as_dict()
        why = {name: told[name] for name in ("reason", "figure", "threshold")}
        named = {"time": time, "symbol": self.symbol, "leg": order.leg, "rule": verdict.cause}
        return {**named, "quantity": order.signed, **why}

    def _verdict(self, order: Instruction) -> GateVerdict:
        """May an order leave now? Not while the venue does not answer about the account, nor against the gate."""
        blocked = () if order.reduces else self.wire.blocked()
        if blocked:
            return GateVerdict(False, "read_only", reason=f"{', '.join(blocked)} does not answer")
        return PASSED if self.gate is None else self.gate(self, order)

    def _quantity(self, plan: Plan) -> float:
        """Signed units that the decision itself trades at once, in whole lots; 0.0 for no order."""
        signed = [
            math.copysign(float(self._lots(order.quantity)), order.signed)
            for order in plan.place
            if order.kind == "market" and order.reason == "signal" and self._lots(order.quantity)
        ]
        return sum(signed) if signed else 0.0

    def _lots(self, quantity: float) -> Decimal:
        assert self.listing is not None
        return quantise(quantity, self.listing.step)

    def _intent(self, order: Instruction) -> Intent | None:
        """The order as it goes to the venue, rounded so that risk never grows; None where nothing is left of it."""
        amount = self._lots(self._affordable(order))
        if not amount:
            return None
        name, reached = self._id(order), self._is_reached(order)
        self._legs[name] = order.leg
        return Intent(
            order.time,
            name,
            self.symbol,
            order.side,
            amount,
            "market" if reached else order.kind,
            price=self._price(order.price, order.side),
            stop_price=None if reached else self._price(order.stop_price, order.side),
            group=None if reached else order.group,
            reduces=order.reduces,
            leg="" if order.leg == "0" else order.leg,
            reason="" if order.reason == "signal" else order.reason,
        )

    def _is_reached(self, order: Instruction) -> bool:
        """A stop that the market has passed already: venues refuse it, the engine fills it at the open."""
        price = self.feed.price
        if order.kind != "stop" or price is None or order.stop_price is None:
            return False
        return price <= order.stop_price if order.side == "sell" else price >= order.stop_price

    def _id(self, order: Instruction) -> str:
        return client_order_id(self.bundle.digest, self.symbol, order.time, order.leg)

    def _affordable(self, order: Instruction) -> float:
        """What of an order is sent: all of it, or what the purse can pay at the price of the moment."""
        if not order.fits:
            return order.quantity
        return min(order.quantity, self.book.fitted(order.leg, self.feed.price or self.feed.last.close))

    def _price(self, price: float | None, side: str) -> Decimal | None:
        if price is None:
            return None
        assert self.listing is not None
        if self.listing.tick is None:
            raise RunnerError(f"the venue names no tick for {self.symbol}: prices cannot be rounded safely")
        return quantise_price(price, self.listing.tick, side)

    # Orders -----------------------------------------------------------------------------------------------------------

    async def _send(self, cancel: Sequence[str], intents: Sequence[Intent]) -> str | None:
        """Withdraw, then place: market orders one after the other, then what rests; the first one's outcome."""
        names = {leg: name for name, leg in self._legs.items()}
        for leg in cancel:
            if leg in names:
                await self.desk.cancel(names[leg], "the plan changed")
        status: str | None = None
        for intent in intents:
            if intent.kind == "market":
                report = await self._execute(intent)
                status = status or report.state.value
        resting = [intent for intent in intents if intent.kind != "market"]
        if resting:
            reports = await self.desk.place_all(resting)
            status = status or reports[0].state.value
        return status

    async def _execute(self, intent: Intent) -> OrderReport:
        """A market order. A spot venue locks what a resting order would sell, so those that rest give way to a sale.

        That they are gone is not told to the book, which withdraws them because of the sale; unless there was none.
        """
        freed = [order for order in self.desk.working(self.symbol) if intent.reduces and self._locks(order, intent)]
        for order in freed:
            self._freed.add(order.id)
            await self.desk.cancel(order.id, "gives way to a sale at the market")
        report = await self.desk.execute(intent)
        if report.state is not OrderState.FILLED:
            gone = [order for order in freed if order.state is OrderState.CANCELED]
            self._endings += [Ending(self._legs[order.id], "cancelled", order.report.reason) for order in gone]
        return report

    @staticmethod
    def _locks(order: WorkingOrder, intent: Intent) -> bool:
        return order.intent.side == intent.side and not order.held

    async def _look(self) -> None:
        """Ask how resting orders stand; what is done is the journal's to remember."""
        if self.desk.working(self.symbol):
            await self.desk.refresh(self.symbol)
        self._collect()
        for report in self.desk.forget_done():
            self._legs.pop(report.client_order_id, None)
            self._freed.discard(report.client_order_id)

    def _news(self, before: float = math.inf) -> tuple[list[Fill], list[Ending]]:
        """Fills (from before a moment, epoch ms) and endings that were told and not yet booked."""
        self._collect()
        now = [fill for fill in self._fills if fill.time_ms < before]
        self._fills = [fill for fill in self._fills if fill.time_ms >= before]
        endings, self._endings = self._endings, []
        return now, endings

    def _collect(self) -> None:
        """Turn what the desk told into fills and endings, while it is known which legs they belong to."""
        while self._told:
            report = self._told.popleft()
            if report.is_final and not report.complete:
                raise Unanswered(f"the venue did not tell all trades of order {report.client_order_id}")
            self._fills += [self._fill(trade) for trade in report.trades]
            ending = ENDINGS.get(report.state)
            if ending is not None and report.client_order_id not in self._freed:
                leg = self._legs.get(report.client_order_id, "0")
                self._endings.append(Ending(leg, ending, report.reason))  # type: ignore[arg-type]

    def _fill(self, trade: VenueTrade) -> Fill:
        """A trade as a book takes it: fees in quote currency and in base units apart."""
        base = self.symbol.partition("/")[0]
        kept = sum(float(cost) for currency, cost in trade.fee_paid if currency == base)
        fee = trade.fee
        if fee is None:
            rate = self.bundle.execution.fee_rate
            fee = float(kernel.fee.python(trade.quantity, trade.price, rate))
            self.wire.tell("fee assumed", f"{self.symbol} trade {trade.trade_id}: paid {trade.fee_paid}, rate {rate:g}")
        return Fill(
            trade.client_order_id,
            trade.trade_id,
            trade.quantity,
            trade.price,
            fee - kept * trade.price if kept else fee,
            trade.time_ms,
            bool(trade.maker),
            self._legs.get(trade.client_order_id, "0"),
            kept,
        )

    async def _pass(self, bars: Sequence[Bar]) -> None:
        """Bars that the history needs and nobody decides on; the newest is left to its decision."""
        passed = [bar for bar in bars if bar != self.feed.last]
        if not passed:
            return
        await self.log.write([item(journal.BAR, bar.body()) for bar in passed], self.wire.executor)
        if not self._begun:
            self.book.see(bars_frame(passed))
            return
        for bar in passed:
            fills, endings = self._news(before=bar.milliseconds + self.feed.kept.step)
            plan = self.book.close(bar, None, fills, endings, decides=False)
            await self._carry_out(plan)
        await self._settle_news()

    def _report(self, bar: Bar, plan: Plan, status: str | None, took: float) -> None:
        self.seconds.append(took)
        known = plan.signal, plan.weight, plan.position, plan.equity
        step = Step(bar.time, bar.close, *known, self._quantity(plan), None, took)
        self.last_step = replace(step, status=status)
        if self.progress is None:
            return
        try:
            self.progress(self.last_step)
        except Exception:  # whoever looks on must not be able to stop the trading
            logger.exception("%s: the listener for decisions failed", self.name)

    # The end ----------------------------------------------------------------------------------------------------------

    async def wind_down(self, policy: str, reason: str) -> list[OrderReport]:
        """What an end does with orders and position: "keep" both, "cancel" orders, or "flatten" too; what it sent."""
        if policy == "keep" or not self.started:
            return []
        async with self._turn:
            await self._look()
            reports = await self.desk.cancel_all(reason, self.symbol)
            if policy == "flatten":
                reports += await self._flatten(reason)
            self._book_quietly()
            return reports

    def _book_quietly(self) -> None:
        """Take what was told, and place nothing because of it."""
        fills, endings = self._news()
        if self._begun and (fills or endings):
            self.book.book(fills, endings)

    async def withdraw_entries(self, reason: str) -> int:
        """Cancel the resting orders that add to a position; how many there were."""
        adding = [order for order in self.desk.working(self.symbol) if not order.intent.reduces]
        for order in adding:
            await self.desk.cancel(order.id, reason)
        return len(adding)

    async def _flatten(self, reason: str) -> list[OrderReport]:
        """Close the purse's position with one market order, durable as every other."""
        self._book_quietly()
        held = self.purse.position
        if not self._lots(held):
            return []
        leg, side = f"flatten-{self.log.count(journal.INTENT)}", "sell" if held > 0 else "buy"
        told = {"reduces": True, "reason": reason, "time": self.feed.last.time}
        intent = self._intent(Instruction(leg, "market", side, abs(held), **told))  # type: ignore[arg-type]
        assert intent is not None
        await self.log.write([item(journal.INTENT, intent.body())], self.wire.executor)
        return [await self._execute(intent)]


def item(kind: str, body: dict[str, Any]) -> Item:
    """An entry of the journal under its own key."""
    return kind, body, journal.entry_key(kind, body)
