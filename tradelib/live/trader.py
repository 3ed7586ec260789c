"""One bundle in one symbol: closed bar in, plan, durable intents, orders, journal; on a purse and a journal of its own.

Per closed bar: the book takes the venue's fills, values the purse at the bar's close, and plans on the bounded history;
the gate judges what is planned; bar, equity, decision and intents become durable in one transaction; only then orders
are sent, and their outcomes journalled. `equity{time}` is therefore the account at the close of that bar *before* the
orders decided on it, which is the backtest's equity of that bar.

An order goes out at once and whole, or is worked in children by a schedule (`tradelib.live.worked`) until the next
decision, which cuts it off.

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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from tradelib.bundle import Bundle
from tradelib.bundle.trading.bar import Bar, bars_frame
from tradelib.bundle.trading.instructions import Ending, Instruction, Plan
from tradelib.bundle.trading.purse import Book, Purse, can_pay, sold
from tradelib.bundle.trading.retelling import (
    leg_of,
    verdicts,
)
from tradelib.bundle.trading.terms import client_order_id, decided_quantity, is_reached, order_terms, quantise
from tradelib.bundle.window import window_of
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import journal
from tradelib.live.account import Account, Listing, fetch_account
from tradelib.live.audited import PurseCheck
from tradelib.live.bars import BarFeed
from tradelib.live.books import open_book
from tradelib.live.connection import describe_error
from tradelib.live.courier import Courier
from tradelib.live.execution.children import MarketRules, MarketView
from tradelib.live.execution.records import instruction_body
from tradelib.live.execution.schedules import Schedule
from tradelib.live.feeds import Pace, Streams
from tradelib.live.gate import PASSED, GateVerdict
from tradelib.live.held import placed_in, show
from tradelib.live.intents import Intent, OrderReport, OrderState
from tradelib.live.journals import Item, TraderJournal
from tradelib.live.opening import decisions_since, listing_body, purse_body, remember_bars
from tradelib.live.patience import Failure, attempt
from tradelib.live.sight import LOOK_SECONDS, Sight, exact, look_pause
from tradelib.live.summary import Step
from tradelib.live.watchdog import show_life
from tradelib.live.wired import Wire
from tradelib.live.worked import Drafts, Parent, WorkedOrders, entry, refusal

__all__ = ["Funding", "Gate", "Trader", "Wire"]

logger = logging.getLogger(__name__)

_IDLE_POLLS = 50
"""Polls in a row without a new bar after which a paper trader asks whether the market is still open."""
_LOOK = LOOK_SECONDS
"""Seconds after which resting orders are asked for while a bar forms."""
_SNAPSHOT = 1_000
"""Decisions between two snapshots of a book."""


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
    regate: Gate | None = None
    """The gate's second look, at every request that sends an order: it counts nothing, and refuses what has changed."""
    schedule: Schedule | None = None
    """How its orders are worked; None: each at once and whole, as research assumes."""
    look_seconds: float = LOOK_SECONDS
    """Pause between two questions for the price, while the runner holds orders and no stream tells it."""
    emulates: bool = False
    """Whether it may hold exits itself that its venue cannot: see `tradelib.live.held`."""
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
        self.sight = Sight(wire, self.feed, self.streams, polled=self.probing)
        self.listing: Listing | None = None
        self.last_step: Step | None = None
        self.started = False
        self.ended = ""
        self.withdrawn = False
        """Whether its bundle has no share any more: it goes on deciding, and nothing of it leaves but exits."""
        self.worked = WorkedOrders(self.schedule, self.symbol, bundle.digest)
        self.courier = Courier(bundle, wire, self.log, self.feed, self.sight, self.worked, self._again)
        self.desk, self._told, self._heard = self.courier.desk, self.courier.told, self.courier.heard
        self._check = PurseCheck(self.log, bundle.execution)
        self._promised = 0.0
        self._overdue: list[str] | None = None
        self._to_deliver: tuple[Plan, list[Intent], Bar, float] | None = None
        self._writing = False
        self._postponed: list[tuple[Callable[[dict[str, Any]], Awaitable[bool]], dict[str, Any]]] = []
        self._begun = False
        self._since_snapshot, self._remembers = 0, False
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
        if (last := self.log.last(journal.LISTING)) is None or last.body != listing_body(self.listing):
            await self.log.write([entry(journal.LISTING, listing_body(self.listing))], self.wire.executor)
        remember_bars(self.log, self.feed)
        seen = await self.feed.start()
        await self.desk.survey()
        self._told.clear()  # all of it is in the journal, from which the book is opened
        self.worked.restore(self.log)
        self.book = await self._open_book()
        await self._compare_account()
        await self._settle()
        last = self.log.last(journal.DECISION)
        self._begun = last is not None
        self._decided = -1 if last is None else pd.Timestamp(last.body["time"]).value // 10**6
        if self.due:
            await self.courier.look_back(ahead=not self.probing)
        await self._pass(seen)
        newest = "" if last is None else last.body["time"]
        self.worked.stop("its bar has passed", lambda order: order.kind == "market" and order.time != newest)
        if self.due and self._begun:
            self._overdue = self._overdue or []  # the decision that comes first places what is missing, too
        else:
            await self._make_stand()
            await self.courier.look_back()
            await self._settle_news()
            await self._work_through()
        self.started = True

    async def _settle(self) -> None:
        """Go on where an earlier run was cut off, as `Courier.send` would: withdraw what stands in the book no longer,
        then send what never left. Only an order of the newest closed bar may still be sent."""
        newest, left = self.feed.last.time, [Intent.from_body(body) for body in journal.unresolved(self.log)]
        unsent = [one for one in left if self.desk.order(one.client_order_id).state is OrderState.INTENDED]
        await self.courier.send(self._astray(), [one for one in unsent if one.time == newest])
        for intent in [one for one in left if one.kind == "market"]:
            await self.desk.recover(intent, may_send=False)
        await self.desk.resume(lambda intent: intent.time == newest)

    async def _open_book(self) -> Book:
        """The purse as the journal tells it, or a new one."""
        if self.log.last(journal.PURSE) is None and self.log.last(journal.EQUITY) is None:
            account = None if self.funding is not None else await self._account()
            await self.log.write([entry(journal.PURSE, purse_body(self.funding, account))], self.wire.executor)
        self._since_snapshot = decisions_since(self.log)
        self._allotted = sum(float(body["cash"]) for body in journal.bodies(self.log, journal.PURSE))
        self.courier.legs = {order.id: leg_of({"leg": order.intent.leg}) for order in self.desk.working(self.symbol)}
        return open_book(self.bundle, self.log)

    async def _make_stand(self) -> None:
        """What shall rest and was never written down, because the process ended before: place it now."""
        resting = [order for order in self.book.instructions if order.kind != "market"]
        missing = [order for order in resting if not self._is_written(order)]
        if missing:
            plan = Plan(self.feed.last.time, None, None, *self.book.account, 0.0, place=tuple(missing))
            await self._carry_out(plan)
            await self._settle_news()

    def _astray(self) -> tuple[str, ...]:
        """The legs that rest, or were about to, and stand in the book no longer: whoever withdrew them ended before the
        cancel was written down."""
        stands = {order.leg for order in self.book.instructions} | self.worked.parents.keys()
        rest = (order for order in self.desk.working(self.symbol) if order.intent.kind != "market")
        legs = (self.courier.legs.get(order.id, "").rstrip("+") for order in rest)
        return tuple(dict.fromkeys(leg for leg in legs if leg and leg not in stands))

    def _is_written(self, order: Instruction) -> bool:
        """Whether the journal has an order, or the ticket that works it."""
        return order.leg in self.worked.parents or self.log.get(f"intent:{self._id(order)}") is not None

    async def allot(self, cash: float, share: float, capital: float, reason: str) -> float:
        """Trade another share of the capital from now on: `cash` comes in, or (negative) goes out as far as it is free.

        What came in; what could not go out is owed, and written down.
        """
        async with self._turn:
            await self.desk.written()
            self._book_quietly()
            moved = max(cash, -max(self.purse.cash, 0.0))
            body = {"cash": moved, "position": 0.0, "capital": capital, "share": share, "reason": reason}
            await self.log.write([entry(journal.PURSE, {**body, "owed": moved - cash})], self.wire.executor)
            self.book.fund(moved)
            self._allotted += moved
            return moved

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
    def holds(self) -> bool:
        """Whether it has a position that can be sold."""
        return bool(self._lots(self.purse.position))

    def unexplained(self) -> str:
        """What the purse has otherwise than its journal says, in words; "" where they agree, or nobody can tell now."""
        if not self.started or self._turn.locked() or self._told or self.courier.untold or not self._begun:
            return ""
        return self._check.difference(self.purse)

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
        elif self._holds_orders():
            async with self._turn:
                await self.courier.show(fresh)
        if fresh and self.streams is not None:
            self.streams.check(self.symbol, self.feed.timeframe, fresh)
        await self._pass(fresh)
        self._idle = 0 if fresh else self._idle + 1
        return bool(fresh)

    async def listen(self) -> None:
        """How orders that rest stand, while a bar forms; what has to stand because of it is placed at once."""
        show_life()
        self._heard.clear()
        if not (self.desk.working(self.symbol) or self.worked or self._told):
            return
        async with self._turn:
            prices = await self.sight.glance() if self.worked or self._holds_orders() else []
            await self._look()
            await self._tick(prices)
            await self._settle_news()

    def _holds_orders(self) -> bool:
        return any(order.held for order in self.desk.working(self.symbol))

    async def _tick(self, prices: Sequence[float | None]) -> None:
        await show(self.desk, self.symbol, prices)

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
            while not await self._is_time(waiting):
                await self.listen()
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def hear(self, said: dict[str, Any]) -> bool:
        """An order as a stream tells it; True where it is one of this desk's. Not while a decision is written down."""
        if self._writing:
            self._postponed.append((self.hear, said))
            return True
        return await self.desk.hear(said) is not None

    async def hear_trade(self, said: dict[str, Any]) -> bool:
        """A trade as a stream tells it; True where it is news of an order of this desk."""
        name = self.desk.named(str(said.get("order")))
        if name is None:
            return False
        if self._writing:
            self._postponed.append((self.hear_trade, said))
            return True
        return bool(await self.desk.book(name, [said]))

    def look_again(self) -> None:
        """Ask how orders stand at the next occasion."""
        self._heard.set()

    async def _hear_postponed(self) -> None:
        postponed, self._postponed = self._postponed, []
        for hear, said in postponed:
            await hear(said)

    async def _is_time(self, waiting: Sequence[asyncio.Task[Any]]) -> bool:
        """Wait for one of these, for news of orders, or until these should be looked after; True for the first."""
        wake = self.worked.wake_ms(self.sight.known()) if self.worked else None
        held = self._holds_orders()
        longest = min(_LOOK, look_pause(self.look_seconds)) if held else _LOOK
        seconds = longest if wake is None else min(longest, max(0.0, (wake - self.sight.now()) / 1e3))
        news: list[asyncio.Task[Any]] = [asyncio.create_task(self._heard.wait())]
        news += [asyncio.create_task(self.sight.moved())] if held else []
        try:
            await asyncio.wait([*waiting, *news], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in news:
                one.cancel()
        return any(one.done() for one in waiting)

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
        await self._cut_off("the next decision")
        await self._look()
        view = await self._view()
        self._writing = True
        try:
            await self.desk.written()  # the book is told what the journal has before this decision, and nothing else
            begun = time.perf_counter()
            told = self.courier.news(before=self._booked_before(bar))
            plan = self._caught_up(self.book.close(bar, self.feed.history(), told, later=self.courier.news()))
            drafts = self._orders(plan, view)
            took = time.perf_counter() - begun
            self._begun, self._decided = True, bar.milliseconds
            intents = await self._write_down(drafts, self._decision(bar, plan))
        finally:
            self._writing = False
        await self._hear_postponed()
        self._to_deliver = plan, intents, bar, took

    def _caught_up(self, plan: Plan) -> Plan:
        """The plan, with what bars that passed asked for and what still has to be done of it."""
        if self._overdue is None:
            return plan
        late, self._overdue = self._overdue, None
        fresh = {order.leg for order in plan.place}
        place = [order for order in self.book.instructions if order.leg in fresh or not self._is_written(order)]
        cancel = tuple(dict.fromkeys((*late, *plan.cancel)))
        return replace(plan, place=tuple(place) if self.bundle.needs else plan.place, cancel=cancel)

    def _booked_before(self, bar: Bar) -> float:
        """Fills of the bar that is forming are booked after the close: by a mirror, which knows which bar is which."""
        return bar.milliseconds + self.feed.kept.step if self.bundle.needs else math.inf

    async def deliver(self) -> None:
        """The second half: send, and go on until nothing is new."""
        if self._to_deliver is None:
            return
        (plan, intents, bar, took), self._to_deliver = self._to_deliver, None
        try:
            status = await self._send(plan.cancel, intents)
            await self._settle_news()
            await self._tick([self.feed.price])
            await self._settle_news()
            await self._work_through()
            if self._remembers:
                await self.log.checkpoint()
                self._since_snapshot, self._remembers = 0, False
        finally:
            self._turn.release()
        self._report(bar, plan, status, took)

    async def _settle_news(self) -> None:
        """Book what was told, and what has to stand at the venue because of it, until nothing is new."""
        while self._begun:
            await self._complete()
            news = self.courier.news()
            if news:
                plan = self.book.book(news)
                if plan.place or plan.cancel:
                    await self._carry_out(plan)
            if not await self._work() and not news:
                return

    def _decision(self, bar: Bar, plan: Plan) -> list[Item]:
        """What is written of a decided bar; now and then with all that the book remembers."""
        decided = {"signal": plan.signal, "target_weight": plan.weight, "quantity": self._quantity(plan)}
        decided |= verdicts(plan)
        account = {"position": plan.position, "equity": plan.equity}
        items = [
            entry(journal.BAR, bar.body()),
            entry(journal.EQUITY, {"time": bar.time, "cash": plan.cash, **account}),
            entry(journal.DECISION, {"time": bar.time, **account, **decided}),
        ]
        self._since_snapshot += 1
        self._remembers = self._since_snapshot >= _SNAPSHOT and not self.courier.untold  # later news is no part of it
        if self._remembers and (state := self.book.state()) is not None:
            items.append(entry(journal.SNAPSHOT, {"time": bar.time, "state": state}))
        return items

    def _orders(self, plan: Plan, view: MarketView) -> Drafts:
        """What becomes of each new instruction: an order, a ticket with its first children, or nothing."""
        drafts, self._promised = Drafts(), 0.0
        for order in plan.place:
            parent = self._opened(order, view) if self.worked.takes(order) else None
            if parent is not None:
                self._go_on(drafts, parent, view)
            else:
                self._draft(drafts, order, view, plan.time)
        return drafts

    def _opened(self, order: Instruction, view: MarketView) -> Parent | None:
        quantity = self._fitting(order)[0]
        parent = self.worked.open(order, quantity, self._rules(), view) if self._unpaid(order) is None else None
        if parent is not None:
            self._promise(order, float(parent.ticket.work.total))
        return parent

    def _go_on(self, drafts: Drafts, parent: Parent, view: MarketView) -> None:
        """The next children of an order, each judged by the gate."""
        self.worked.go_on(drafts, parent, view, self._verdict)
        self.courier.legs |= dict.fromkeys(parent.ids, parent.order.leg)

    def _draft(self, drafts: Drafts, order: Instruction, view: MarketView, time: str) -> None:
        """An order as it is, or what is said against it, which the book is told."""
        verdict = self._unpaid(order) or self._verdict(order)
        intent = self._intent(order) if verdict.allowed else None
        if verdict.allowed and intent is None:
            verdict = GateVerdict(False, "lot", order.quantity, reason="less than one lot is left of it")
        opening = entry(journal.INSTRUCTION, instruction_body(order, self.symbol))
        if intent is not None:
            drafts.items.append(opening)
            drafts.send(intent, view)
            if self.emulates and intent.kind != "market":
                kind, arrived, key = drafts.items[-1]
                drafts.items[-1] = kind, {**arrived, **placed_in(self.feed.forming)}, key
            self._promise(order, float(intent.quantity))
        elif verdict.cause != "lot" or self.bundle.needs:
            drafts.items += [opening, refusal(time, self.symbol, order, verdict)]
            drafts.endings.append(Ending(order.leg, "rejected", verdict.reason))

    async def _carry_out(self, plan: Plan, items: Sequence[Item] = ()) -> str | None:
        """Write down `items` and what a plan asks for, then send it; the first order's outcome."""
        drafts = self._orders(plan, await self._view())
        return await self._send(plan.cancel, await self._write_down(drafts, items))

    async def _write_down(self, drafts: Drafts, items: Sequence[Item] = ()) -> list[Intent]:
        """Everything about a plan in one transaction; the orders that may leave."""
        items = [*items, *drafts.items]
        if items:
            await self.log.write(items, self.wire.executor)
        self.courier.untold += drafts.endings
        return drafts.intents

    def _verdict(self, order: Instruction) -> GateVerdict:
        """May an order leave now? Not while the venue does not answer about the account, nor against the gate."""
        if self.withdrawn and not order.reduces:
            return GateVerdict(False, "withdrawn", reason="its bundle has no share of the capital any more")
        blocked = () if order.reduces else self.wire.blocked()
        if blocked:
            return GateVerdict(False, "read_only", reason=f"{', '.join(blocked)} does not answer")
        return PASSED if self.gate is None else self.gate(self, order)

    def _again(self, order: Instruction) -> GateVerdict:
        """The gate's second look."""
        return PASSED if self.regate is None else self.regate(self, order)

    def _quantity(self, plan: Plan) -> float:
        """Signed units that the decision itself trades at once, in whole lots; 0.0 for no order."""
        assert self.listing is not None
        return decided_quantity(plan, self.listing.step)

    def _lots(self, quantity: float) -> Decimal:
        assert self.listing is not None
        return quantise(quantity, self.listing.step)

    def _intent(self, order: Instruction) -> Intent | None:
        """The order as it goes to the venue, rounded so that risk never grows; None where nothing is left of it."""
        assert self.listing is not None
        quantity, price = self._fitting(order)
        reached = is_reached(order, price)
        terms = order_terms(order, quantity=quantity, reached=reached, step=self.listing.step, tick=self.listing.tick)
        if terms is None:
            return None
        name = self._id(order)
        self.courier.legs[name] = order.leg
        seen = price if order.fits or reached else None
        fitted = terms["quantity"] < self._lots(order.quantity)
        return Intent(client_order_id=name, symbol=self.symbol, seen_price=seen, fitted=fitted, **terms)

    def _fitting(self, order: Instruction) -> tuple[float, float | None]:
        """What of an order is sent, all of it or what the purse can pay, and the price that this was decided at."""
        price = self.feed.price
        if not order.fits:
            return sold(order, self.purse, self._promised), price
        price = self.feed.last.close if price is None else price
        return min(order.quantity, self.book.fitted(order.leg, price)), price

    def _promise(self, order: Instruction, quantity: float) -> None:
        """Remember what an order of this plan sells at once: later ones of it cannot sell that again."""
        if order.side == "sell" and order.kind == "market":
            self._promised += quantity

    def _unpaid(self, order: Instruction) -> GateVerdict | None:
        """A purchase that the purse cannot pay at the price of the moment: research refuses it at the fill, and a venue
        would pay it with the cash of others."""
        if order.side == "sell" or order.kind != "market" or order.fits:
            return None
        price = self.feed.last.close if self.feed.price is None else self.feed.price
        paid, left = can_pay(order, self.purse, price, self.bundle.execution, self._promised)
        return (
            None if paid else GateVerdict(False, "cash", left, 0.0, f"at {price:g} it would leave {left:.2f} in cash")
        )

    def _id(self, order: Instruction) -> str:
        return client_order_id(self.bundle.digest, self.symbol, order.time, order.leg)

    # Orders that are worked -------------------------------------------------------------------------------------------

    async def _work(self) -> bool:
        """Let every ticket go on: children written down, then sent or taken back; whether anything happened."""
        if not self.worked:
            return False
        view, moved = await self._view(), False
        for parent in list(self.worked.parents.values()):
            drafts = Drafts()
            self._go_on(drafts, parent, view)
            intents = await self._write_down(drafts)
            for name in drafts.cancels:
                await self.desk.cancel(name, parent.ticket.stopped or "its schedule takes it back")
            await self._send((), intents)
            moved = moved or bool(drafts.cancels or intents)
        await self._complete()
        self.courier.collect()
        return await self._end_worked(view) or moved

    async def _end_worked(self, view: MarketView) -> bool:
        """Write down which of them are over, and tell the book what they left unfilled."""
        over = [self.worked.end(parent) for parent in self.worked.over(view)]
        if over:
            await self.log.write([entry(journal.ENDING, body) for body, _ in over], self.wire.executor)
        self.courier.untold += [ending for _, ending in over if ending is not None]
        return bool(over)

    async def _cut_off(self, reason: str) -> None:
        """Nothing that an earlier decision wanted at once may go on working; what rests by itself may."""
        self.worked.stop(reason, lambda order: order.kind == "market")
        while await self._work():
            pass

    async def _work_through(self) -> None:
        """On a venue that is polled the market stands still until it is asked: schedules tell the time themselves."""
        while self.probing and self.worked:
            wake = self.worked.wake_ms(self.sight.known())
            if wake is None or wake >= self.sight.opened + self.feed.kept.step:
                return
            self.sight.told = wake
            await self._settle_news()

    async def _view(self) -> MarketView:
        """The market; with its best prices where orders are worked."""
        return await self.sight.view() if self.schedule is not None or self.worked else self.sight.known()

    def _rules(self) -> MarketRules:
        listing = self.listing
        assert listing is not None
        if listing.tick is None:
            raise RunnerError(f"the venue names no tick for {self.symbol}: orders cannot be worked safely")
        return MarketRules(listing.step, listing.tick, minimum_notional=exact(self.bundle.execution.minimum_notional))

    # Orders -----------------------------------------------------------------------------------------------------------

    async def _send(self, cancel: Sequence[str], intents: Sequence[Intent]) -> str | None:
        if self.emulates:
            await self.courier.brace(intents)
        return await self.courier.send(cancel, intents)

    async def _execute(self, intent: Intent) -> OrderReport:
        return await self.courier.execute(intent)

    async def _look(self) -> None:
        await self.courier.look()

    async def _complete(self) -> None:
        await self.courier.complete()

    async def _pass(self, bars: Sequence[Bar]) -> None:
        """Bars that the history needs and nobody decides on; the newest is left to its decision."""
        passed = [bar for bar in bars if bar != self.feed.last]
        if not passed:
            return
        if not self._begun:
            await self.log.write([entry(journal.BAR, bar.body()) for bar in passed], self.wire.executor)
            self.book.see(bars_frame(passed))
            return
        async with self._turn:
            await self._cut_off("its bar has passed")
            await self._look()
            for bar in passed:  # what follows from them leaves with the decision on the newest, which knows all fills
                plan = self.book.close(bar, None, self.courier.news(before=self._booked_before(bar)), decides=False)
                await self.log.write([entry(journal.BAR, bar.body())], self.wire.executor)
                self._overdue = [*(self._overdue or ()), *plan.cancel]

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
        """What an end does with orders and position: "keep" both, "cancel" orders, or "flatten" too; what it sent.

        Everything that can be done is; then what is left raises `RunnerError`, an order of unknown outcome by its name.
        """
        if policy == "keep" or not self.started:
            return []
        async with self._turn:
            left: list[Any] = [await attempt(self._cut_off(reason)), await attempt(self._look())]
            orders = self.desk.working(self.symbol)
            cancels = [attempt(self.desk.cancel(order.id, reason)) for order in orders]
            left += await asyncio.gather(*cancels)
            reports = [order.report for order in orders if order.report.is_final]
            if policy == "flatten":
                closed = await attempt(self._flatten(reason))
                left.append(closed)
                reports += [] if isinstance(closed, Failure) else closed
            left.append(await attempt(self._quietly()))
            self._check_done(policy, [one.error for one in left if isinstance(one, Failure)])
            return reports

    def _check_done(self, policy: str, errors: Sequence[Exception]) -> None:
        """Raise what is left of an end: a disk that refused as it is, the rest in one sentence."""
        for error in errors:
            if isinstance(error, LedgerError):
                raise error
        told = [describe_error(error) for error in errors]
        told += [f"order {order.id} is {order.state.value}" for order in self.desk.working(self.symbol)]
        if policy == "flatten" and self._lots(self.purse.position):
            told.append(f"a position of {self.purse.position:g} is left")
        if told:
            raise RunnerError("; ".join(dict.fromkeys(told)))

    def abandon(self) -> None:
        """A decision was made, and its delivery will not come: whoever waits for the turn may have it."""
        if self._to_deliver is not None:
            self._to_deliver = None
            self._turn.release()

    async def _quietly(self) -> None:
        await self._complete()
        self._book_quietly()

    def _book_quietly(self) -> None:
        """Take what was told, and place nothing because of it."""
        news = self.courier.news()
        if self._begun and news:
            self.book.book(news)

    async def rotate(self) -> Path:
        """Go on in a new file of the journal; the next decision writes there all that the book remembers."""
        async with self._turn:
            closed = self.log.path
            await asyncio.get_running_loop().run_in_executor(self.wire.executor, self.log.rotate)
            self._since_snapshot = _SNAPSHOT
            return closed

    async def withdraw_entries(self, reason: str) -> int:
        """Cancel the resting orders that add to a position; how many there were."""
        self.worked.stop(reason, lambda order: not order.reduces)
        adding = [order for order in self.desk.working(self.symbol) if not order.intent.reduces]
        answers = await asyncio.gather(*(attempt(self.desk.cancel(order.id, reason)) for order in adding))
        for answer in answers:
            if isinstance(answer, Failure):
                raise answer.error
        return len(adding)

    async def _flatten(self, reason: str) -> list[OrderReport]:
        """Close the purse's position with one market order, durable as every other.

        Not while an order whose outcome is unknown may have closed it: what is sold twice is somebody else's.
        """
        await self._quietly()
        held = self.purse.position
        if not self._lots(held) or any(order.intent.reduces for order in self.desk.working(self.symbol)):
            return []
        leg, side = f"flatten-{self.log.count(journal.INTENT)}", "sell" if held > 0 else "buy"
        told = {"reduces": True, "reason": reason, "time": self.feed.last.time}
        self._promised = 0.0  # nothing else sells now
        intent = self._intent(Instruction(leg, "market", side, abs(held), **told))  # type: ignore[arg-type]
        assert intent is not None
        drafts = Drafts()
        drafts.send(intent, self.sight.known())
        await self._write_down(drafts)
        return [await self._execute(intent)]
