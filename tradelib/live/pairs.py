"""Exits of one position that the venue itself holds as OCO pairs: a limit and a stop, one cancels the other.

A spot venue takes one offer for one holding, and an OCO pair is one. So the stop of a position with several targets is
cut: beside each target stands a piece of it, and what no target takes is a piece by itself. Together they are the stop,
and whatever part of the position is still there has its piece of the stop at the venue. The pieces are copies of the
stop's intent with a `+` behind its leg, written down before anything is sent; the stop itself goes out with what they
leave of it.

A pair stands and falls as one. Where one of its orders is to go, the other one has to make room, too; and where a stop
joins a group, everything of that group makes room, so that the group is placed anew as a whole (`make_room`). What
ended in that way, or because the other one traded, says so in its reason, and whoever wants it to stand asks for it
again under another name.

A venue refuses a pair whose target the market has passed already. Then the target goes out alone and takes what is
there, and the stop after it, for the rest: a position is never left without its stop because of a target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tradelib.bundle.trading.retelling import MAKES_ROOM, ONE_CANCELS
from tradelib.ledger import journal
from tradelib.live.fills import total
from tradelib.live.intents import RESTING, TERMINAL, Intent, OrderReport, OrderState, advance, classify_error
from tradelib.live.patience import Failure, attempt

if TYPE_CHECKING:
    from tradelib.live.orders import OrderDesk, WorkingOrder

__all__ = ["STOPS", "Pairs", "pairs_of"]

STOPS = ("stop", "stop_limit")
_KNOWN = TERMINAL | RESTING
Two = tuple[Intent, Intent]


class Pairs:
    """The part of the desk that places, ends and takes up what the venue holds as pairs."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk

    # Placing and taking up --------------------------------------------------------------------------------------------

    async def cut(self, intents: Sequence[Intent]) -> list[Intent]:
        """`intents` as the venue can hold them at once: with the pieces of stops that have more than one target beside
        them, which are durable from here on. Unchanged where the venue holds no pairs."""
        if not self._desk.dialect.holds_oco:
            return list(intents)
        pieces = [piece for members in _groups(intents).values() for piece in self._pieces(members)]
        new = [one for one in pieces if self._desk.log.get(f"intent:{one.client_order_id}") is None]
        bodies = [one.body() for one in new]
        if bodies:
            items = [(journal.INTENT, body, journal.entry_key(journal.INTENT, body)) for body in bodies]
            await self._desk.write(items, keep=True)
        return [*intents, *pieces]

    def _pieces(self, members: Sequence[Intent]) -> list[Intent]:
        """One for each target, but for the last one where nothing else is left for the stop itself."""
        stops = [one for one in members if one.kind in STOPS]
        limits = [one for one in members if one.kind == "limit"]
        if members[0].group is None or len(stops) != 1 or not limits:
            return []
        stop, left = stops[0], stops[0].quantity
        found: list[Intent] = []
        for limit in limits:
            if limit.quantity >= left:
                break
            left -= limit.quantity
            found.append(_piece(stop, len(found) + 1, limit))
        return found

    def taken(self, stop: Intent) -> Decimal:
        """What the pieces of a stop take of it, as the journal knows."""
        quantity, number = Decimal(0), 1
        while (entry := self._desk.log.get(f"intent:{_piece_name(stop, number)}")) is not None:
            quantity, number = quantity + Decimal(entry.body["quantity"]), number + 1
        return quantity

    async def place(self, limit: Intent, stop: Intent) -> None:
        """Both in one request; or what the module says, where the venue does not take them so."""
        desk = self._desk
        orders = desk.take(limit), desk.take(stop)
        async with orders[0].lock, orders[1].lock:
            while any(order.state not in _KNOWN for order in orders):
                if all(order.state is OrderState.INTENDED for order in orders):
                    await self._send_or_drop(*orders)
                for order in orders:
                    if order.state is OrderState.UNKNOWN:
                        await desk.note(order)
                        desk.believe(order, await desk.ask(order))
                if len({order.state is OrderState.INTENDED for order in orders}) > 1:
                    desk.stop(
                        orders[0], f"the venue knows only one of {limit.client_order_id} and its stop: look there"
                    )
            if orders[0].state is orders[1].state is OrderState.REJECTED and not orders[0].report.refused_key:
                await self._one_by_one(*orders)
            for order in orders:
                await desk.prove(order, may_send=False)

    async def _send_or_drop(self, limit: WorkingOrder, stop: WorkingOrder) -> None:
        against = next((why for one in (limit, stop) if (why := self._desk.against(one.intent)) is not None), None)
        if against is None:
            await self._send(limit, stop)
            return
        for order in (limit, stop):
            self._desk.drop(order, against)

    async def _send(self, limit: WorkingOrder, stop: WorkingOrder) -> None:
        desk = self._desk
        if limit.sends == desk.patience.sends:
            desk.stop(limit, f"the venue did not take the pair of {limit.id} in {limit.sends} attempts")
        for order in (limit, stop):
            order.sends += 1
            order.report = replace(order.report, state=advance(order.state, OrderState.SENT))
        legs = desk.placement(limit), desk.placement(stop)
        with desk.doubting(limit, stop):
            answer = await attempt(desk.dialect.place_oco(desk.client, *legs, _list_id(limit.id)))
        for order in (limit, stop):
            desk.believe(order, self._read(order, answer))
        if limit.state is OrderState.INTENDED:
            await desk.correct_clock()
        if limit.report.retry_after:
            await desk.sleep(limit.report.retry_after)

    def _read(self, order: WorkingOrder, answer: Any) -> OrderReport:
        if isinstance(answer, Failure):
            return classify_error(order.intent, answer.error, self._desk.dialect)
        told = {one.get("clientOrderId"): one for one in answer if isinstance(one, dict)}
        return self._desk.read(order, told.get(order.id))

    async def _one_by_one(self, limit: WorkingOrder, stop: WorkingOrder) -> None:
        """The venue refused the pair, so neither is there: the target takes what it can get, the stop has the rest."""
        why = limit.report.reason
        for order in (limit, stop):
            order.report, order.sends = replace(order.report, state=OrderState.INTENDED, reason=""), 0
        limit.at_once = True
        await self._desk.prove(limit, may_send=True)
        if limit.state is not OrderState.FILLED:
            limit.report = replace(limit.report, reason=f"{limit.report.reason}; the pair: {why}")
        stop.taken += abs(total(limit.report.trades))
        if self._desk.placement(stop).quantity > 0:
            await self._desk.prove(stop, may_send=True)
        else:
            stop.report = replace(stop.report, state=advance(stop.state, OrderState.CANCELED), reason=ONE_CANCELS)

    async def recover(self, limit: WorkingOrder, stop: WorkingOrder, *, may_send: Callable[[Intent], bool]) -> None:
        """A pair that an earlier process was about to place: both at the venue, or none."""
        for order in (limit, stop):
            if order.state is OrderState.UNKNOWN:
                self._desk.believe(order, await self._desk.ask(order))
        if limit.state is stop.state is OrderState.INTENDED and may_send(limit.intent):
            await self.place(limit.intent, stop.intent)

    # Ending -----------------------------------------------------------------------------------------------------------

    def partners(self, order: WorkingOrder) -> list[WorkingOrder]:
        """What the venue ends together with this order."""
        if not self._desk.dialect.holds_oco or order.held:
            return []
        there = [other for other in self._desk.siblings(order) if not other.held and other.state not in TERMINAL]
        both = pairs_of([order.intent, *(other.intent for other in there)], self.left)[0]
        names = {one.client_order_id for pair in both for one in pair if order.intent in pair}
        return [other for other in there if other.id in names]

    def left(self, intent: Intent) -> Decimal:
        """What an order itself offers: a stop without its pieces."""
        return intent.quantity - (self.taken(intent) if intent.kind in STOPS else 0)

    def copies(self, order: WorkingOrder) -> list[WorkingOrder]:
        """The pieces of a stop, and what the runner holds in its place."""
        leg = order.intent.leg
        others = [other for other in self._desk.siblings(order) if other.intent.kind in STOPS]
        return [one for one in others if leg and one.intent.leg != leg and one.intent.leg.rstrip("+") == leg]

    async def explain(self, order: WorkingOrder) -> None:
        """An order that stood beside another one ended unasked: what the other one traded is told first, then this."""
        for other in self._desk.siblings(order):
            if other.held or other.state not in RESTING | {OrderState.UNKNOWN}:
                continue
            self._desk.believe(other, await self._desk.ask(other))
            await self._desk.account_for(other)
            await self._desk.note(other)
        if any(other.report.quantity for other in self._desk.siblings(order)):
            order.report = replace(order.report, reason=ONE_CANCELS)

    async def make_room(self, intents: Iterable[Intent]) -> set[str]:
        """Withdraw what the venue would not let stand beside `intents`; the groups of which something was withdrawn."""
        coming = [one for one in intents if one.group is not None and one.kind != "market"]
        names, moved = {one.client_order_id for one in coming}, set[str]()
        for group in dict.fromkeys(str(one.group) for one in coming):
            there = [one for one in self._desk.working() if one.intent.group == group and one.id not in names]
            stop_comes = any(one.kind in STOPS for one in coming if one.group == group)
            for order in there:
                if order.state not in TERMINAL and self._is_in_the_way(order, stop_comes, there):
                    await self._desk.cancel(order.id, MAKES_ROOM)
                    moved |= set() if order.held else {group}
        return moved

    def _is_in_the_way(self, order: WorkingOrder, stop_comes: bool, there: Sequence[WorkingOrder]) -> bool:
        """A stop shares its units with targets. Where the runner holds the targets, only the stop is at the venue."""
        if order.held:
            return stop_comes and order.intent.held  # what stood in for a stop that is placed again now
        if self._desk.dialect.holds_oco:
            return stop_comes or any(other.intent.kind in STOPS and not other.held for other in there)
        return stop_comes and "stop" in self._desk.dialect.order_kinds


def pairs_of(intents: Sequence[Intent], left: Callable[[Intent], Decimal]) -> tuple[list[Two], list[Intent]]:
    """Pairs of a limit and a stop (limit first), and the other intents.

    A piece names its limit. Of what remains, one limit and one stop of a group are a pair if they offer the same.
    """
    by_name = {one.client_order_id: one for one in intents}
    found = [(by_name[one.pair], one) for one in intents if one.pair in by_name]
    together = {one.client_order_id for pair in found for one in pair}
    rest = [one for one in intents if one.client_order_id not in together and not one.pair]
    for group, members in _groups(rest).items():
        limits = [one for one in members if one.kind == "limit"]
        stops = [one for one in members if one.kind in STOPS]
        fit = group is not None and len(members) == 2 and len(limits) == len(stops) == 1
        if fit and limits[0].quantity == left(stops[0]):
            found.append((limits[0], stops[0]))
    together = {one.client_order_id for pair in found for one in pair}
    return found, [one for one in intents if one.client_order_id not in together]


def _piece(stop: Intent, number: int, limit: Intent) -> Intent:
    terms: dict[str, Any] = {"quantity": limit.quantity, "pair": limit.client_order_id}
    return replace(stop, client_order_id=_piece_name(stop, number), leg=stop.leg + "+" * number, **terms)


def _piece_name(stop: Intent, number: int) -> str:
    return "tl-" + hashlib.sha256(f"{stop.client_order_id}\npiece {number}".encode()).hexdigest()[:32]


def _groups(intents: Iterable[Intent]) -> dict[str | None, list[Intent]]:
    """Intents by group, in their sequence; None for those of no group."""
    groups: dict[str | None, list[Intent]] = {}
    for intent in intents:
        groups.setdefault(intent.group, []).append(intent)
    return groups


def _list_id(client_order_id: str) -> str:
    """The id of the list that a limit order heads."""
    return client_order_id.replace("tl-", "tg-", 1)
