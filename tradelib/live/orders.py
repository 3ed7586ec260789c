"""Orders that survive a crash: durable intents, deterministic ids, and a state machine in which UNKNOWN is a state.

An intent is on the disk before the socket is touched. What the client then returns or raises is read strictly: an order
counts as filled, rejected or expired only if the venue itself says so about this very client order id; everything else
is UNKNOWN, and an unknown order is asked for, never sent again blindly. If the venue cannot be made to answer, the
runner halts.

When may an order be sent again? A client order id is no idempotency key (Binance accepts it again once the first order
is filled). So a resend needs two proofs: the venue says that it does not know the id, and it says so after the receive
window of the first request has passed, when a late copy of that request would be refused.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Any, NoReturn

from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.connection import CLOCK_REFUSAL, KEY_REFUSALS, describe_error, set_clock, venue_reply
from tradelib.live.patience import Failure, Insistence, attempt

__all__ = [
    "TERMINAL",
    "TRANSITIONS",
    "Intent",
    "OrderDesk",
    "OrderReport",
    "OrderState",
    "advance",
    "classify_error",
    "classify_reply",
    "client_order_id",
    "quantise",
]


class OrderState(StrEnum):
    """Where an order stands. Only FILLED, REJECTED and EXPIRED are final, and only the venue's word leads there."""

    INTENDED = "intended"
    SENT = "sent"
    OPEN = "open"
    UNKNOWN = "unknown"
    FILLED = "filled"
    REJECTED = "rejected"
    EXPIRED = "expired"


TERMINAL = frozenset({OrderState.FILLED, OrderState.REJECTED, OrderState.EXPIRED})

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    # EXPIRED: the bar passed before it was sent. UNKNOWN: found in the journal after a restart.
    OrderState.INTENDED: frozenset({OrderState.SENT, OrderState.EXPIRED, OrderState.UNKNOWN}),
    # INTENDED: the venue proved that it refused the request before it was an order (clock).
    OrderState.SENT: TERMINAL | {OrderState.OPEN, OrderState.UNKNOWN, OrderState.INTENDED},
    # INTENDED: the venue proved that the order never arrived and no longer can.
    OrderState.UNKNOWN: TERMINAL | {OrderState.OPEN, OrderState.INTENDED},
    OrderState.OPEN: TERMINAL | {OrderState.OPEN},
    OrderState.FILLED: frozenset(),
    OrderState.REJECTED: frozenset(),
    OrderState.EXPIRED: frozenset(),
}

_STATUSES = {
    "closed": OrderState.FILLED,
    "open": OrderState.OPEN,
    "canceling": OrderState.OPEN,
    "canceled": OrderState.EXPIRED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}
"""ccxt's unified order status -> state; a status that is not here proves nothing."""

_PROVEN_REFUSALS = KEY_REFUSALS | {-1013, -1014, -1020, -2010} | frozenset(range(-1199, -1099))
"""Binance error codes (its API documentation, "Error codes") of requests that did not become an order."""
_NO_SUCH_ORDER = -2013
_CLOCK_MARGIN = 1.0
"""Seconds by which a request's timestamp may be ahead of Binance's clock (its documentation, "Timing security")."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")


@dataclass(frozen=True)
class Intent:
    """A market order to be sent: `time` is the open of the bar it was decided on, `quantity` unsigned base units."""

    time: str
    client_order_id: str
    symbol: str
    side: str
    quantity: Decimal

    def __post_init__(self) -> None:
        if self.side not in ("buy", "sell"):
            raise RunnerError(f"side of an order is {self.side!r}: use 'buy' or 'sell'")
        if not self.quantity > 0:
            raise RunnerError(f"quantity of an order is {self.quantity}: it must be positive")
        if not _ID.fullmatch(self.client_order_id):
            raise RunnerError(f"client order id {self.client_order_id!r} is not 1 to 36 of A-Z a-z 0-9 _ -")

    @property
    def sign(self) -> float:
        """+1.0 for a buy, -1.0 for a sell."""
        return 1.0 if self.side == "buy" else -1.0

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        return {
            "time": self.time,
            "client_order_id": self.client_order_id,
            "symbol": self.symbol,
            "side": self.side,
            "quantity": format(self.quantity, "f"),
        }

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Intent:
        """The intent that `body` was written from."""
        return cls(body["time"], body["client_order_id"], body["symbol"], body["side"], Decimal(body["quantity"]))


@dataclass(frozen=True)
class OrderReport:
    """What is known of an order: `quantity` is the signed fill so far, `price` and `fee` are in quote currency."""

    client_order_id: str
    state: OrderState
    quantity: float = 0.0
    price: float | None = None
    fee: float | None = None
    reason: str = ""
    venue_order_id: str | None = None
    refused_key: bool = False
    retry_after: float = 0.0

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        return {
            "client_order_id": self.client_order_id,
            "status": self.state.value,
            "quantity": self.quantity,
            "price": self.price,
            "fee": self.fee,
            "reason": self.reason,
            "venue_order_id": self.venue_order_id,
        }


def advance(state: OrderState, to: OrderState) -> OrderState:
    """`to`, if the state machine allows that step; `RunnerError` otherwise."""
    if to not in TRANSITIONS[state]:
        raise RunnerError(f"an order cannot go from {state.value} to {to.value}")
    return to


def client_order_id(bundle_digest: str, symbol: str, time: str, leg: int = 0) -> str:
    """The one id of this order: the same bundle, symbol, bar and leg give the same 35 characters in every process."""
    text = "\n".join((bundle_digest, symbol, time, str(leg)))
    return "tl-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def quantise(quantity: float, step: Decimal) -> Decimal:
    """|quantity| in whole steps, rounded toward zero. A float stands for the shortest decimal that parses to it."""
    lots = (Decimal(repr(abs(quantity))) / step).to_integral_value(ROUND_DOWN)
    return lots * step


def classify_reply(intent: Intent, order: Any) -> OrderReport:
    """Read an order structure of ccxt; whatever does not prove the state of this very order is UNKNOWN."""
    unknown = OrderReport(intent.client_order_id, OrderState.UNKNOWN)
    if not isinstance(order, dict) or order.get("id") is None:
        return replace(unknown, reason="the reply names no order")
    if order.get("clientOrderId") != intent.client_order_id:
        return replace(unknown, reason="the reply is about another order")
    state, filled = _STATUSES.get(str(order.get("status"))), order.get("filled")
    if state is None or not isinstance(filled, int | float) or (state is OrderState.FILLED and not filled > 0):
        return replace(unknown, reason="the reply does not say what became of the order")
    price = _price(order)
    return OrderReport(
        client_order_id=intent.client_order_id,
        state=state,
        quantity=intent.sign * float(filled) if filled else 0.0,
        price=price,
        fee=_fee(order, intent.symbol, price),
        reason="" if state in (OrderState.FILLED, OrderState.OPEN) else f"the venue says {order.get('status')}",
        venue_order_id=str(order["id"]),
    )


def classify_error(intent: Intent, error: BaseException) -> OrderReport:
    """Read an exception of a submit. Only an error code of the venue in a 4xx reply proves a rejection.

    Codes decide, not ccxt's classes: those depend on the host and differ between paper and live.
    """
    reply, reason = venue_reply(error), describe_error(error)
    unknown = OrderReport(intent.client_order_id, OrderState.UNKNOWN, reason=reason)
    if reply is None:
        return unknown
    if reply.code is None or reply.status >= 500 or reply.status in (418, 429):
        return replace(unknown, retry_after=reply.retry_after or 0.0)
    if reply.code == CLOCK_REFUSAL:
        return replace(unknown, state=OrderState.INTENDED)
    if reply.code not in _PROVEN_REFUSALS or "duplicate order" in (reply.message or "").lower():
        return unknown
    return replace(unknown, state=OrderState.REJECTED, refused_key=reply.code in KEY_REFUSALS)


class OrderDesk:
    """Drives one order at a time from its durable intent to the venue's final word, or raises `RunnerError`: halt.

    `clock` gives monotonic seconds; it and the sleep of `insistence` are replaceable for tests.
    """

    def __init__(
        self,
        client: Any,
        log: Ledger,
        insistence: Insistence,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.log = log
        self.patience = insistence.patience
        self._sleep = insistence.sleep
        self._pause = insistence.pause
        self._clock = clock
        self._accepted_until = 0.0

    async def execute(self, intent: Intent) -> OrderReport:
        """Send an intent that was written just now, and never before sent; the final report, journalled."""
        return await self._drive(intent, OrderReport(intent.client_order_id, OrderState.INTENDED), may_send=True)

    async def recover(self, intent: Intent, *, may_send: bool) -> OrderReport:
        """Settle an intent that an earlier process left open: ask first; send only if it provably never arrived.

        With `may_send` False (its bar has passed) an order that never arrived ends as EXPIRED.
        """
        self._accepted_until = self._window_from_now()
        left = OrderReport(intent.client_order_id, OrderState.UNKNOWN, reason="left open by an earlier run")
        return await self._drive(intent, left, may_send=may_send)

    async def _drive(self, intent: Intent, report: OrderReport, *, may_send: bool) -> OrderReport:
        sends, looks, state = 0, 0, report.state
        while state not in TERMINAL:
            if state is OrderState.INTENDED and not may_send:
                report = replace(report, state=OrderState.EXPIRED, reason="it was never sent, and its bar has passed")
            elif state is OrderState.INTENDED:
                if sends == self.patience.sends:
                    self._stop(f"the venue did not take order {intent.client_order_id} in {sends} attempts")
                sends, state = sends + 1, advance(state, OrderState.SENT)
                report = await self._send(intent)
            else:
                self._note(report)
                looks += state is OrderState.OPEN
                if looks > self.patience.attempts:
                    self._stop(f"order {intent.client_order_id} is still open at the venue: cancel or fill it there")
                report = await self._ask(intent)
                if state is OrderState.OPEN and report.state is OrderState.INTENDED:
                    self._stop(f"the venue no longer knows order {intent.client_order_id}, which it called open")
            state = advance(state, report.state)
        self._note(report)
        if report.refused_key:
            self._stop(f"the venue refuses this key ({report.reason})")
        return report

    async def _send(self, intent: Intent) -> OrderReport:
        report = await self._heard(intent, self._submit(intent))
        self._accepted_until = self._window_from_now()
        if report.state is OrderState.INTENDED:
            await self._correct_clock()
        if report.retry_after:
            await self._sleep(report.retry_after)
        return report

    async def _submit(self, intent: Intent) -> OrderReport:
        amount, name = format(intent.quantity, "f"), {"newClientOrderId": intent.client_order_id}
        order = await self.client.create_order(intent.symbol, "market", intent.side, amount, None, name)
        return classify_reply(intent, order)

    async def _heard(self, intent: Intent, request: Awaitable[OrderReport]) -> OrderReport:
        answer = await attempt(request)
        return classify_error(intent, answer.error) if isinstance(answer, Failure) else answer

    async def _ask(self, intent: Intent) -> OrderReport:
        """The venue's answer about an order: a state other than UNKNOWN, INTENDED if it provably never arrived."""
        asked, failed, reason = 0, 0, ""
        while failed < self.patience.attempts:
            report = await self._query(intent)
            pause = self._pause(asked)
            asked += 1
            if report.state is OrderState.INTENDED:
                left = self._accepted_until - self._clock()
                if left <= 0:
                    return report
                pause = min(pause, left)
            elif report.state is not OrderState.UNKNOWN:
                return report
            else:
                failed, reason = failed + 1, report.reason
            await self._sleep(max(pause, report.retry_after))
        return self._stop(
            f"the outcome of order {intent.client_order_id} ({intent.side} {intent.quantity} {intent.symbol}) is "
            f"unknown after {failed} questions (last: {reason}): check the account, then start the runner again"
        )

    async def _query(self, intent: Intent) -> OrderReport:
        absent = OrderReport(intent.client_order_id, OrderState.INTENDED, reason="the venue does not know this order")
        answer = await attempt(self._find(intent))
        if not isinstance(answer, Failure):
            return answer
        reply = venue_reply(answer.error)
        if reply is not None and 400 <= reply.status < 500 and reply.code == _NO_SUCH_ORDER:
            return absent
        said = describe_error(answer.error)
        return replace(absent, state=OrderState.UNKNOWN, reason=said, retry_after=answer.retry_after)

    async def _find(self, intent: Intent) -> OrderReport:
        name = {"origClientOrderId": intent.client_order_id}
        report = classify_reply(intent, await self.client.fetch_order(None, intent.symbol, name))
        if report.quantity == 0.0 or report.fee is not None:
            return report
        answer = await attempt(self._fills(intent, report))
        if isinstance(answer, Failure):
            return replace(report, reason="found by query; the venue did not say the fee")
        return answer

    async def _fills(self, intent: Intent, report: OrderReport) -> OrderReport:
        """Price and fee of a fill found by query: Binance's order query carries neither, its trade list does."""
        which = {"orderId": report.venue_order_id}
        trades = await self.client.fetch_my_trades(intent.symbol, None, None, which)
        found = {"trades": trades, "average": report.price, "fees": [trade.get("fee") for trade in trades]}
        price = _price(found)
        return replace(report, price=price, fee=_fee(found, intent.symbol, price))

    async def _correct_clock(self) -> None:
        if isinstance(await attempt(set_clock(self.client)), Failure):
            await self._sleep(self._pause(0))

    def _note(self, report: OrderReport) -> None:
        """Write a status once: what was first known of it stays."""
        if self.log.get(f"order:{report.client_order_id}:{report.state.value}") is None:
            journal.record(self.log, journal.ORDER, **report.body())

    def _stop(self, reason: str) -> NoReturn:
        raise RunnerError(reason)

    def _window_from_now(self) -> float:
        return self._clock() + self.patience.receive_window + _CLOCK_MARGIN


def _price(order: dict[str, Any]) -> float | None:
    """Fill price: the venue's own figure where there is one fill, the average otherwise."""
    trades = order.get("trades") or []
    value = trades[0].get("price") if len(trades) == 1 else order.get("average")
    return None if value is None else float(value)


def _fee(order: dict[str, Any], symbol: str, price: float | None) -> float | None:
    """Fee in quote currency; a fee taken in the base asset is valued at the fill price, any other is unknown (None)."""
    base, _, quote = symbol.partition("/")
    fees = [fee for fee in (order.get("fees") or [order.get("fee")]) if fee and fee.get("cost") is not None]
    worth = {quote: 1.0, base: price}
    values = [worth.get(fee.get("currency")) for fee in fees]
    if not fees or any(value is None for value in values):
        return None
    return sum(float(fee["cost"]) * value for fee, value in zip(fees, values, strict=True) if value is not None)
