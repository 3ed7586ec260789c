"""The order desk: many orders at once, each driven from its durable intent to the venue's word, across crashes.

An intent is on the disk before the socket is touched. What the client then returns or raises is read strictly
(`tradelib.live.intents`): an unknown order is asked for, never sent again blindly. If the venue cannot be made to
answer, the symbol is halted: it takes no new exposure until the outcome is proved.

When may an order be sent again? A client order id is no idempotency key (Binance accepts it again once the first order
is filled). So a resend needs two proofs: the venue says that it does not know the id, and it says so after the receive
window of the first request has passed, when a late copy of that request would be refused. And an order that the venue
once knew, and no longer knows, proves nothing at all: "not found" is never "flat".

A cancel is written down before it is asked for; its reply proves nothing, the order itself is asked. Fills are booked
whenever and however often they are told, each once (`tradelib.live.fills`).

The journal is written in a thread of its own where there is one (`TraderJournal.write`), in the sequence in which it is
asked for: an order waits for its own disk, and nobody else does. What is told of an order is told when it is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from tradelib.bundle.trading.retelling import MAKES_ROOM, ONE_CANCELS
from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.connection import describe_error, set_clock, venue_reply
from tradelib.live.dialects import Dialect, Placement, Verdict, dialect_of
from tradelib.live.fills import FillBook, VenueTrade, total
from tradelib.live.held import HeldOrders
from tradelib.live.intents import (
    RESTING,
    TERMINAL,
    TRANSITIONS,
    Intent,
    OrderReport,
    OrderState,
    advance,
    classify_error,
    classify_reply,
)
from tradelib.live.journals import Item, TraderJournal
from tradelib.live.pairs import STOPS, Pairs, pairs_of
from tradelib.live.patience import Failure, Insistence, Unanswered, attempt

__all__ = ["OrderDesk", "WorkingOrder"]

_KNOWN = TERMINAL | RESTING
_HELD = "held by the runner"


@dataclass
class WorkingOrder:
    """An order on the desk: its intent and what is known of it. `held` ones are not at the venue (yet)."""

    intent: Intent
    report: OrderReport
    held: bool = False
    sends: int = 0
    accepted_until: float = 0.0
    taken: Decimal = Decimal(0)
    """What others offer of its quantity: the pieces of a stop, or a target that went ahead of it."""
    at_once: bool = False
    """A limit order that shall take what is there and not rest."""
    noted: bool = False
    """Whether its end is in the journal."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def id(self) -> str:
        """The client order id."""
        return self.intent.client_order_id

    @property
    def state(self) -> OrderState:
        """Where it stands."""
        return self.report.state

    @property
    def acknowledged(self) -> bool:
        """Whether the venue has ever said that it knows this order."""
        return self.report.venue_order_id is not None


class OrderDesk:
    """The orders of one journal at one venue. Every intent must be in the journal before it is given to the desk.

    dialect: the venue's own ways, Binance's where it is left out. on_report: called with each report that is news, when
    it is durable. objection: asked right before every request that sends an order, the first one and each that sends it
    again; what it says against it (None: nothing) ends an order that provably is not at the venue as EXPIRED. at_once:
    orders that are on their way at the same time; with 1 the requests come in one order only. `clock` gives monotonic
    seconds; it and the sleep of `insistence` are replaceable for tests.
    """

    def __init__(
        self,
        client: Any,
        log: Ledger,
        insistence: Insistence,
        *,
        dialect: Dialect | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_report: Callable[[OrderReport], None] | None = None,
        objection: Callable[[Intent], str | None] | None = None,
        at_once: int = 16,
    ) -> None:
        if at_once < 1:
            raise RunnerError(f"at_once is {at_once}: at least one order must be on its way")
        self.client = client
        self.log = log
        self.dialect = dialect or dialect_of("binance")
        self.patience = insistence.patience
        self.fills = FillBook(log)
        self._lanes = asyncio.Semaphore(at_once)
        self._unproved: dict[str, tuple[str, str]] = {}
        self.sleep = insistence.sleep
        self._pause = insistence.pause
        self._clock = clock
        self._on_report = on_report
        self._objection = objection
        self._orders: dict[str, WorkingOrder] = {}
        self._noting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held = HeldOrders(self)
        self._pairs = Pairs(self)
        self.make_room = self._pairs.make_room
        self.look_back = self._held.look_back

    # What there is ----------------------------------------------------------------------------------------------------

    def working(self, symbol: str | None = None) -> list[WorkingOrder]:
        """The orders that are not done, of one symbol or of all, in the order in which they were given."""
        return [
            order
            for order in self._orders.values()
            if order.state not in TERMINAL and symbol in (None, order.intent.symbol)
        ]

    @property
    def halted(self) -> dict[str, str]:
        """Symbols on which an outcome could not be proved, and why; new exposure there is refused until it is."""
        return dict(self._unproved.values())

    def order(self, client_order_id: str) -> WorkingOrder:
        """An order that is or was on this desk; `RunnerError` for one that never was."""
        if client_order_id not in self._orders:
            raise RunnerError(f"order {client_order_id} is not on this desk: place it, or `resume` it after a restart")
        return self._orders[client_order_id]

    def siblings(self, order: WorkingOrder) -> list[WorkingOrder]:
        """The other orders of its group (OCO)."""
        group = order.intent.group
        return [
            other for other in self._orders.values() if group and other.intent.group == group and other is not order
        ]

    def forget_done(self) -> list[OrderReport]:
        """Drop finished orders whose group is finished too, so that memory stays flat; their reports."""
        done = [
            order
            for order in self._orders.values()
            if order.state in TERMINAL and all(other.state in TERMINAL for other in self.siblings(order))
        ]
        for order in done:
            del self._orders[order.id]
            self.fills.forget(order.id)
        return [order.report for order in done]

    # Placing ----------------------------------------------------------------------------------------------------------

    async def execute(self, intent: Intent, *, ask_first: bool = False) -> OrderReport:
        """Place an order that is done at once (market, IOC); its final report. `RunnerError` where it stays open."""
        await self.place(intent, ask_first=ask_first)
        return await self._finish(self.order(intent.client_order_id))

    async def place(self, intent: Intent, *, ask_first: bool = False) -> OrderReport:
        """Send an intent; the report as soon as the venue has proved where the order stands (resting or final).

        `ask_first`: it may have been sent before (a journal that was restored, a bar that is decided again).
        """
        order = self.take(intent, may_have_been_sent=ask_first)
        return await self.settle(order, may_send=True)

    async def place_all(self, intents: Sequence[Intent]) -> list[OrderReport]:
        """Place many at once, in the given order of reports; a limit and a stop of one group as one OCO.

        One that cannot be settled halts its symbol and is reported as UNKNOWN; the others go on.
        """
        told = await self._pairs.cut(intents)
        pairs, single = pairs_of(told, self._pairs.left) if self.dialect.holds_oco else ([], told)
        self._held.prepare(single)
        jobs: list[Awaitable[Any]] = [self._pairs.place(*pair) for pair in pairs]
        for problem in await self._together([*jobs, *(self.place(intent) for intent in single)]):
            if not isinstance(problem, RunnerError):
                raise problem
        return [self.order(intent.client_order_id).report for intent in intents]

    async def recover(self, intent: Intent, *, may_send: bool) -> OrderReport:
        """Settle an intent that an earlier process left open, to its end: ask first; send only what never arrived.

        With `may_send` False (its bar has passed) an order that never arrived ends as EXPIRED.
        """
        order = self._orders.get(intent.client_order_id) or self._restore(intent)
        await self.settle(order, may_send=may_send)
        return await self._finish(order)

    async def resume(self, may_send: Callable[[Intent], bool] = lambda _: False) -> list[OrderReport]:
        """After a restart: take up every intent of the journal that is not final; how each stands at the venue.

        Orders that rest stay there. One that provably never arrived is sent if `may_send` says so, else it is EXPIRED.
        """
        withdrawn = await self.finish_cancels()
        open_ = self._take_up()
        pairs, _ = pairs_of([order.intent for order in self.working() if not order.held], self._pairs.left)
        for pair in pairs if self.dialect.holds_oco else []:
            await self._pairs.recover(*(self.order(intent.client_order_id) for intent in pair), may_send=may_send)
        for intent in open_:
            if not self._held.has_fired(intent):
                await self.settle(self.order(intent.client_order_id), may_send=may_send(intent))
        await self._held.resume()
        await self.complete()
        return withdrawn + [self.order(intent.client_order_id).report for intent in open_]

    async def finish_cancels(self) -> list[OrderReport]:
        """After a restart: withdraw what an earlier process had written down to cancel; where each of them ended.

        Before anything is sent: a sale may need what such an order locks, and one that was given up is not sent.
        """
        asked = [(one.client_order_id, self.log.get(f"cancel:{one.client_order_id}")) for one in self._take_up()]
        found = [(name, entry.body["reason"]) for name, entry in asked if entry is not None]
        return [await self.cancel(name, reason) for name, reason in found]

    def _take_up(self) -> list[Intent]:
        """Put what the journal calls open on the desk, and all that is of one group with it; the open ones."""
        open_ = [Intent.from_body(body) for body in journal.unresolved(self.log)]
        groups = {intent.group for intent in open_ if intent.group is not None}
        members = [Intent.from_body(body) for body in journal.grouped(self.log, groups)]
        self._held.prepare(members)
        for intent in {one.client_order_id: one for one in [*members, *open_]}.values():
            if intent.client_order_id not in self._orders:
                self._restore(intent)
        return open_

    async def survey(self) -> None:
        """After a restart, before anything is sent: finish cancels, and ask what became of every other open order.

        What was traded meanwhile is in the journal then. One that never arrived is INTENDED: it is left to `resume`.
        """
        await self.finish_cancels()
        for order in [self.order(intent.client_order_id) for intent in self._take_up()]:
            async with order.lock:
                if order.state is OrderState.UNKNOWN:
                    await self._look(order)

    async def complete(self) -> list[OrderReport]:
        """Ask for trades of finished orders that the journal does not have yet; the reports of those that were told.

        A venue may call an order filled before it lists all of its trades. `RunnerError` where it still does not.
        """
        told = []
        for body in journal.incomplete(self.log):
            order = self._orders.get(body["client_order_id"]) or self._restored(
                self._intent_of(body["client_order_id"])
            )
            await self.account_for(order)
            await self.note(order)
            if not order.report.complete:
                raise Unanswered(
                    f"the venue does not tell all trades of order {order.id}, which it calls {order.state}"
                )
            told.append(order.report)
        return told

    def _intent_of(self, client_order_id: str) -> Intent:
        entry = self.log.get(f"intent:{client_order_id}")
        if entry is None:
            raise RunnerError(f"order {client_order_id} is not in this journal: its trades are somebody else's")
        return Intent.from_body(entry.body)

    def take(self, intent: Intent, *, may_have_been_sent: bool = False) -> WorkingOrder:
        """A new order for the desk, refused where the symbol is halted or the intent is not durable."""
        if self.log.get(f"intent:{intent.client_order_id}") is None:
            raise RunnerError(
                f"order {intent.client_order_id} is not in the journal: write its intent before it is sent"
            )
        known = self._orders.get(intent.client_order_id)
        if known is not None:
            known.taken = known.taken if known.sends or known.state is not OrderState.INTENDED else self._taken(intent)
            return known
        self._held.prepare([intent])
        if intent.symbol in self.halted and not intent.reduces:
            raise RunnerError(f"{intent.symbol} is halted, no new exposure there: {self.halted[intent.symbol]}")
        state = OrderState.UNKNOWN if may_have_been_sent else OrderState.INTENDED
        order = WorkingOrder(intent, OrderReport(intent.client_order_id, state), held=self._held.is_held(intent))
        order.taken = self._taken(intent)
        order.accepted_until = self._window_from_now() if may_have_been_sent else 0.0
        self._orders[intent.client_order_id] = order
        return order

    def _restore(self, intent: Intent) -> WorkingOrder:
        """Put an order of an earlier process on the desk."""
        order = self._restored(intent)
        self._orders[intent.client_order_id] = order
        return order

    def _restored(self, intent: Intent) -> WorkingOrder:
        """An order of an earlier process, with what the journal knows of it."""
        known = journal.standing_of(self.log, intent.client_order_id) or {}
        final = known.get("status") in journal.FINAL_STATUSES
        report = OrderReport(
            intent.client_order_id,
            OrderState(known["status"]) if final else OrderState.UNKNOWN,
            reason=known.get("reason", "") if final else "left open by an earlier run",
            venue_order_id=known.get("venue_order_id"),
            quantity=known.get("quantity", 0.0),
        ).with_trades(self.fills.of(intent.client_order_id))
        order = WorkingOrder(intent, report, accepted_until=self._window_from_now(), taken=self._taken(intent))
        order.noted = final
        if self._waited(intent, known):
            order.held, order.report = True, replace(report, state=OrderState.OPEN, reason=_HELD)
        return order

    def _taken(self, intent: Intent) -> Decimal:
        """What the pieces of a stop take of it."""
        cut = intent.kind in STOPS and intent.group is not None and not intent.pair and self.dialect.holds_oco
        return self._pairs.taken(intent) if cut else Decimal(0)

    def placement(self, order: WorkingOrder) -> Placement:
        """The order as it goes out."""
        placed = self._held.placement(order)
        if order.at_once:
            placed = replace(placed, time_in_force="IOC")
        return replace(placed, quantity=placed.quantity - order.taken) if order.taken else placed

    def _waited(self, intent: Intent, known: dict[str, Any]) -> bool:
        """Whether an earlier process held this order: called open without an id of the venue, or of such a kind."""
        if self._held.has_fired(intent):
            return False
        if known:
            return bool(known["status"] == OrderState.OPEN.value and known["venue_order_id"] is None)
        return self._held.is_held(intent)

    async def _together(self, jobs: Iterable[Awaitable[Any]]) -> list[Exception]:
        """Do everything, a bounded number of jobs at once; what went wrong, as values.

        No order may be abandoned on its way because of another one: the caller raises when all are settled.
        """

        async def do(job: Awaitable[Any]) -> Exception | None:
            async with self._lanes:
                answer = await attempt(job)
            return answer.error if isinstance(answer, Failure) else None

        return [problem for problem in await asyncio.gather(*map(do, jobs)) if problem is not None]

    # The drive to a proof ---------------------------------------------------------------------------------------------

    async def settle(self, order: WorkingOrder, *, may_send: bool) -> OrderReport:
        """Go on with an order until the venue has proved that it rests or is done."""
        async with order.lock:
            await self.prove(order, may_send=may_send)
        return order.report

    async def prove(self, order: WorkingOrder, *, may_send: bool) -> None:
        """Go on until the venue has proved that the order rests or is done."""
        while order.state not in _KNOWN:
            if order.state is OrderState.UNKNOWN:
                await self.note(order)
                self.believe(order, await self.ask(order))
            elif not may_send:
                self.drop(order, "it was never sent, and its bar has passed")
            elif order.held:
                self.believe(order, replace(order.report, state=OrderState.OPEN, reason=_HELD))
            elif (why := self.against(order.intent)) is not None:
                self.drop(order, f"it is not at the venue, and may not be sent now: {why}")
            else:
                await self._send(order)
        await self.account_for(order)
        await self._explain(order)
        await self.note(order)
        self._unproved.pop(order.id, None)
        if order.report.refused_key:
            self.stop(order, f"the venue refuses this key ({order.report.reason})")

    def against(self, intent: Intent) -> str | None:
        """What forbids to send this order at this moment."""
        if intent.symbol in self.halted and not intent.reduces:
            return f"{intent.symbol} is halted, no new exposure there: {self.halted[intent.symbol]}"
        return None if self._objection is None else self._objection(intent)

    def drop(self, order: WorkingOrder, why: str) -> None:
        """End an order that provably is not at the venue: nothing else may be called expired here."""
        if order.state is not OrderState.INTENDED:
            raise RunnerError(f"order {order.id} is {order.state.value}: ask the venue before it is given up")
        order.report = replace(order.report, state=advance(order.state, OrderState.EXPIRED), reason=why)

    async def _finish(self, order: WorkingOrder) -> OrderReport:
        """Follow an order that should be done at once; one that stays open stops the symbol."""
        async with order.lock:
            for look in range(self.patience.attempts):
                if order.state in TERMINAL:
                    return order.report
                await self.sleep(self._pause(look) if look else 0.0)
                await self._look(order)
        if order.state not in TERMINAL:
            self.stop(order, f"order {order.id} is still open at the venue: cancel or fill it there")
        return order.report

    async def _look(self, order: WorkingOrder) -> None:
        """Ask how a resting order stands."""
        self.believe(order, await self.ask(order))
        await self.account_for(order)
        await self._explain(order)
        await self.note(order)

    async def _explain(self, order: WorkingOrder) -> None:
        """Why an order ended: at whose request, or because the other one of its pair traded."""
        if order.state not in (OrderState.CANCELED, OrderState.EXPIRED) or not order.acknowledged:
            return
        entry = self.log.get(f"cancel:{order.id}")
        if entry is not None and entry.body["reason"] in (MAKES_ROOM, ONE_CANCELS):
            order.report = replace(order.report, reason=entry.body["reason"])
        elif entry is None and order.intent.group is not None and self.dialect.holds_oco:
            await self._pairs.explain(order)

    async def _send(self, order: WorkingOrder) -> None:
        if order.sends == self.patience.sends:
            self.stop(order, f"the venue did not take order {order.id} in {order.sends} attempts")
        order.sends += 1
        order.report = replace(order.report, state=advance(order.state, OrderState.SENT))
        with self.doubting(order):
            report = await self._submit(order)
        self.believe(order, report)
        if report.state is OrderState.INTENDED:
            await self.correct_clock()
        if report.retry_after:
            await self.sleep(report.retry_after)

    @contextmanager
    def doubting(self, *orders: WorkingOrder) -> Iterator[None]:
        """A request that is cut off (a deadline, a cancelled task) may have arrived: its orders are UNKNOWN then."""
        try:
            yield
        finally:
            for order in orders:
                order.accepted_until = self._window_from_now()
                if order.state is OrderState.SENT:
                    order.report = replace(order.report, state=OrderState.UNKNOWN, reason="the request was cut off")

    async def _submit(self, order: WorkingOrder) -> OrderReport:
        """One request; what its reply proves. A mere acknowledgement is followed by a question."""
        window = round(self.patience.receive_window * 1000)
        answer = await attempt(self.dialect.place(self.client, self.placement(order), window))
        if isinstance(answer, Failure):
            return classify_error(order.intent, answer.error, self.dialect)
        report = self.read(order, answer)
        if report.state is OrderState.UNKNOWN and _is_acknowledgement(answer, order.id):
            asked = await self._query(order)
            return report if asked.state is OrderState.INTENDED else asked
        return report

    async def ask(self, order: WorkingOrder) -> OrderReport:
        """The venue's answer about an order: a state other than UNKNOWN, INTENDED if it provably never arrived."""
        asked, failed, reason = 0, 0, ""
        while failed < self.patience.attempts:
            report = await self._query(order)
            pause = self._pause(asked)
            asked += 1
            if report.state is OrderState.INTENDED and not order.acknowledged:
                left = order.accepted_until - self._clock()
                if left <= 0:
                    return report
                pause = min(pause, left)
            elif report.state not in (OrderState.UNKNOWN, OrderState.INTENDED):
                return report
            else:
                failed, reason = failed + 1, report.reason
            await self.sleep(max(pause, report.retry_after))
        what = f"{order.intent.side} {order.intent.quantity} {order.intent.symbol}"
        return self.stop(
            order,
            f"the outcome of order {order.id} ({what}) is unknown after {failed} questions (last: {reason}): "
            "check the account, then start the runner again",
        )

    async def _query(self, order: WorkingOrder) -> OrderReport:
        """One question: INTENDED where the venue says that it knows no such order."""
        answer = await attempt(self.dialect.find(self.client, order.intent.symbol, order.id))
        unknown = replace(order.report, state=OrderState.UNKNOWN)
        if isinstance(answer, Failure):
            if self.dialect.verdict(venue_reply(answer.error)) is Verdict.CLOCK:
                await self.correct_clock()
            return replace(unknown, reason=describe_error(answer.error), retry_after=answer.retry_after)
        if answer is None:
            return replace(unknown, state=OrderState.INTENDED, reason="the venue does not know this order")
        return self.read(order, answer)

    def read(self, order: WorkingOrder, said: Any) -> OrderReport:
        """A reply about this order, with the trades that it tells and those that are known already."""
        report = classify_reply(order.intent, said)
        if report.state is OrderState.UNKNOWN:
            return report
        told = [] if not isinstance(said.get("trades"), list) else said["trades"]
        trades = _readable(told, order.intent, said)
        return report.with_trades(_merged(order.report.trades, self.fills.of(order.id), trades))

    def believe(self, order: WorkingOrder, report: OrderReport) -> None:
        """Take what is newer than what is known: a stream may have been faster than the reply to a question."""
        stale = report.state in RESTING and abs(report.quantity) < abs(order.report.quantity)
        nothing = order.state in RESTING and report.state in (OrderState.UNKNOWN, OrderState.INTENDED)
        if (
            order.state in TERMINAL
            or stale
            or nothing
            or report.state not in (TRANSITIONS[order.state] | {order.state})
        ):
            order.report = order.report.with_trades(_merged(order.report.trades, report.trades))
        else:
            order.report = report

    async def account_for(self, order: WorkingOrder) -> None:
        """Fetch the trades that explain what was filled. Where the venue does not tell, reconciliation asks again."""
        for tried in range(min(3, self.patience.attempts)):
            if order.report.complete or order.report.venue_order_id is None:
                return
            if tried:
                await self.sleep(self._pause(tried))
            name, symbol = order.report.venue_order_id, order.intent.symbol
            answer = await attempt(self.dialect.fills(self.client, symbol, order_id=name))
            if not isinstance(answer, Failure):
                trades = _readable(answer, order.intent, {"id": name})
                order.report = order.report.with_trades(_merged(order.report.trades, trades))
        if not order.report.complete:
            order.report = replace(order.report, reason="the venue did not tell all trades of this order (fee unknown)")

    async def note(self, order: WorkingOrder) -> list[VenueTrade]:
        """Write fresh fills, and a status once: what was first known of it stays. Together, or not at all.

        What was fresh; whoever asks at the same time waits until it is on the disk, and told.
        """
        async with self._noting.setdefault(order.id, asyncio.Lock()):
            report = order.report
            fresh = self.fills.fresh(report.trades)
            entries = self.fills.entries(fresh)
            key = f"order:{report.client_order_id}:{report.state.value}"
            news = report.state not in (OrderState.INTENDED, OrderState.SENT) and self.log.get(key) is None
            if news:
                entries.append((journal.ORDER, report.body(), key))
            try:
                if entries:
                    await self.write(entries)
            except asyncio.CancelledError:  # it was written all the same: see `TraderJournal.write`
                self._tell(order, report, fresh, news=news)
                raise
            self._tell(order, report, fresh, news=news)
            return fresh

    def _tell(self, order: WorkingOrder, report: OrderReport, fresh: list[VenueTrade], *, news: bool) -> None:
        """What is on the disk now is told, once."""
        self.fills.booked(fresh)
        order.noted = order.noted or report.is_final
        if (news or fresh) and self._on_report is not None:
            self._on_report(replace(report, fresh=tuple(fresh)))

    async def write(self, items: Iterable[Item], *, keep: bool = False) -> None:
        """Durable on return. keep: what the journal has under these keys already stays.

        A journal that is no `TraderJournal` is written at once: its process has no other symbols to delay.
        """
        if isinstance(self.log, TraderJournal):
            await self.log.write(items, keep=keep)
        else:
            self.log.extend([one for one in items if not keep or one[2] is None or self.log.get(one[2]) is None])

    async def written(self) -> None:
        """Return when everything that was heard of orders so far is in the journal, and told.

        An order whose end became known to somebody who was cut off before it was written is written now.
        """
        for lock in list(self._noting.values()):
            async with lock:
                pass
        for order in [one for one in self._orders.values() if one.state in TERMINAL and not one.noted]:
            async with order.lock:
                await self.note(order)

    # Cancelling -------------------------------------------------------------------------------------------------------

    async def cancel(self, client_order_id: str, reason: str) -> OrderReport:
        """Cancel an order; its final report, which may be FILLED: the venue decides which came first."""
        order = self.order(client_order_id)
        for copy in self._pairs.copies(order):
            if copy.state not in TERMINAL:
                await self.cancel(copy.id, reason)
        partners = self._pairs.partners(order)
        async with order.lock:
            if order.state in TERMINAL:
                return order.report
            await self._write_cancels({order.id: reason} | {partner.id: MAKES_ROOM for partner in partners})
            if order.held or order.state is OrderState.INTENDED:
                order.report = replace(order.report, state=OrderState.CANCELED, reason=reason)
                await self.note(order)
            else:
                await self.prove(order, may_send=False)
                await self._withdraw(order)
        for partner in partners:
            await self.settle_end(partner)
        return order.report

    async def _write_cancels(self, reasons: Mapping[str, str]) -> None:
        """On the disk before the venue is asked: of a pair for both, because the venue ends both."""
        bodies = [{"client_order_id": name, "reason": reason} for name, reason in reasons.items()]
        new = [body for body in bodies if self.log.get(f"cancel:{body['client_order_id']}") is None]
        if new:
            await self.write(
                [(journal.CANCEL, body, journal.entry_key(journal.CANCEL, body)) for body in new], keep=True
            )

    async def settle_end(self, order: WorkingOrder) -> None:
        """An order that the venue ended together with its partner; where it did not, it is asked for that."""
        async with order.lock:
            if order.state in RESTING:
                await self._look(order)
        if order.state not in TERMINAL:
            await self.cancel(order.id, MAKES_ROOM)

    async def give_up(self, intent: Intent, reason: str) -> OrderReport:
        """End a durable intent of this process before it was sent."""
        self.take(intent)
        return await self.cancel(intent.client_order_id, reason)

    async def cancel_all(self, reason: str, symbol: str | None = None) -> list[OrderReport]:
        """Cancel everything that works, of one symbol or of all; where each ended."""
        orders = self.working(symbol)
        for problem in await self._together([self.cancel(order.id, reason) for order in orders]):
            raise problem
        return [order.report for order in orders]

    async def _withdraw(self, order: WorkingOrder) -> None:
        """Ask for the cancel until the order itself is known to be done: the cancel's reply proves nothing."""
        for tried in range(self.patience.attempts):
            if order.state in TERMINAL:
                return
            if order.state is not OrderState.PENDING_CANCEL:
                order.report = replace(order.report, state=advance(order.state, OrderState.PENDING_CANCEL))
                await self.note(order)
            answer = await attempt(self.dialect.cancel(self.client, order.intent.symbol, order.id))
            if isinstance(answer, Failure):
                if self.dialect.verdict(venue_reply(answer.error)) is Verdict.CLOCK:
                    await self.correct_clock()
                await self.sleep(max(answer.retry_after, self._pause(tried)))
            await self._look(order)
        if order.state not in TERMINAL:
            self.stop(order, f"the venue does not cancel order {order.id}: cancel it there")

    # Listening --------------------------------------------------------------------------------------------------------

    async def refresh(self, symbol: str | None = None) -> list[OrderReport]:
        """Ask how each order at the venue stands; the reports that are news."""
        before = {order.id: order.report for order in self.working(symbol) if not order.held}

        async def look(order: WorkingOrder) -> None:
            async with order.lock:
                if order.state in RESTING:
                    await self._look(order)
                elif order.state is not OrderState.INTENDED and order.state not in TERMINAL:
                    await self.prove(order, may_send=False)

        problems = await self._together([look(self.order(name)) for name in before])
        await self._held.after_news()
        if problems:
            raise problems[0]
        return [self.order(name).report for name, report in before.items() if self.order(name).report != report]

    async def hear(self, said: Any, trades: Iterable[Any] = ()) -> OrderReport | None:
        """An order structure of a stream (and trades of it); the report where it was news about an order of this desk.

        Streams repeat, reorder and lose: what is older than what is known is ignored, its trades are booked all the
        same. Nothing is proved by silence: `refresh` asks.
        """
        named = self.dialect.named(said) if isinstance(said, dict) else {}
        order = self._orders.get(str(named.get("clientOrderId")))
        if order is None:
            return None
        report, before = self.read(order, named), order.report
        told = _readable(trades, order.intent, named)
        known = _merged(order.report.trades, report.trades, told)
        if report.state is not OrderState.UNKNOWN:
            self.believe(order, report)
        heard = order.report = order.report.with_trades(known)
        await self.note(order)
        return heard if heard != before else None

    async def book(self, client_order_id: str, trades: Iterable[Any]) -> list[VenueTrade]:
        """Book trade structures of an order that this journal has, done or not; those that were news."""
        intent = self._intent_of(client_order_id)
        told = _readable(trades, intent, {})
        if not self.fills.fresh(told):
            return []
        order = self._orders.get(client_order_id) or self._restored(intent)
        order.report = order.report.with_trades(_merged(order.report.trades, told))
        return await self.note(order)

    def is_overfilled(self, client_order_id: str) -> bool:
        """Whether the trades of an order of this journal are more than it ordered."""
        entry = self.log.get(f"intent:{client_order_id}")
        ordered = Intent.from_body(entry.body).quantity if entry is not None else 0
        return abs(total(self.fills.of(client_order_id))) > ordered

    def named(self, venue_order_id: str) -> str | None:
        """The client order id of an order of this journal by the venue's own number."""
        for order in self._orders.values():
            if order.report.venue_order_id == venue_order_id:
                return order.id
        return self.fills.owner(venue_order_id)

    async def tick(self, symbol: str, *, bid: float, ask: float, gone: bool = False) -> list[OrderReport]:
        """The market moved: send the orders that the runner holds and whose price is there; their reports.

        gone: it was there, and is no more.
        """
        return await self._held.tick(symbol, bid, ask, gone=gone)

    # Small things -----------------------------------------------------------------------------------------------------

    async def correct_clock(self) -> None:
        """Ask the venue for its time; where it does not tell, wait a little."""
        if isinstance(await attempt(set_clock(self.client)), Failure):
            await self.sleep(self._pause(0))

    def stop(self, order: WorkingOrder, reason: str) -> NoReturn:
        """Give up on an order whose outcome nobody proves; its symbol trades no more in this process."""
        self._unproved[order.id] = order.intent.symbol, reason
        raise RunnerError(reason)

    def _window_from_now(self) -> float:
        return self._clock() + self.patience.receive_window + self.dialect.clock_margin


def _is_acknowledgement(said: Any, client_order_id: str) -> bool:
    """A reply that names the order and says nothing else about it."""
    named = isinstance(said, dict) and said.get("id") is not None and said.get("status") is None
    return named and said.get("clientOrderId") in (None, client_order_id)


def _readable(told: Iterable[Any], intent: Intent, order: Any) -> tuple[VenueTrade, ...]:
    """The trades that can be read; a malformed one leaves the order incomplete, so that it is asked for again."""
    found = []
    for said in told:
        try:
            found.append(VenueTrade.read(said, intent.client_order_id, intent.symbol, order=order))
        except (RunnerError, TypeError, ValueError, AttributeError):
            continue
    return tuple(found)


def _merged(*groups: Iterable[VenueTrade]) -> tuple[VenueTrade, ...]:
    """Each trade once, the first telling of it, in the order of the venue's time."""
    found: dict[str, VenueTrade] = {}
    for trade in (trade for group in groups for trade in group):
        found.setdefault(trade.trade_id, trade)
    return tuple(sorted(found.values(), key=lambda trade: (trade.filled_at, len(trade.trade_id), trade.trade_id)))
