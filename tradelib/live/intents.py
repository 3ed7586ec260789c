"""What an order is before and after it meets the venue: intents, states, reports, and how a venue's words are read.

Everything here is pure. An `Intent` is durable before the socket is touched; an `OrderReport` is what is known of it.
A venue's reply is read strictly: an order counts as filled, canceled, rejected or expired only if the venue itself says
so about this very client order id; everything else is UNKNOWN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from tradelib.bundle.trading.terms import exact
from tradelib.errors import RunnerError
from tradelib.ledger.journal import accounts_for
from tradelib.live.connection import describe_error, venue_reply
from tradelib.live.dialects import Dialect, Placement, Verdict, dialect_of
from tradelib.live.fills import VenueTrade, total

__all__ = [
    "RESTING",
    "TERMINAL",
    "TRANSITIONS",
    "Intent",
    "Kind",
    "OrderReport",
    "OrderState",
    "advance",
    "classify_error",
    "classify_reply",
]

Kind = Literal["market", "limit", "stop", "stop_limit"]


class OrderState(StrEnum):
    """Where an order stands. FILLED, CANCELED, REJECTED and EXPIRED are final; only the venue's word leads there."""

    INTENDED = "intended"
    SENT = "sent"
    UNKNOWN = "unknown"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"


TERMINAL = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED})
"""Nothing more happens to such an order."""
RESTING = frozenset({OrderState.OPEN, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL})
"""Such an order is at the venue and may still trade."""

_HEARD = TERMINAL | RESTING
TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    # OPEN: held by the runner until its price is there. EXPIRED, CANCELED: it was never sent. UNKNOWN: found in the
    # journal after a restart.
    OrderState.INTENDED: frozenset(
        {OrderState.SENT, OrderState.OPEN, OrderState.EXPIRED, OrderState.CANCELED, OrderState.UNKNOWN}
    ),
    # INTENDED: the venue proved that it refused the request before it was an order (clock).
    OrderState.SENT: _HEARD | {OrderState.UNKNOWN, OrderState.INTENDED},
    # INTENDED: the venue proved that the order never arrived and no longer can.
    OrderState.UNKNOWN: _HEARD | {OrderState.INTENDED},
    # INTENDED: held by the runner so far, now to be sent.
    OrderState.OPEN: _HEARD | {OrderState.INTENDED},
    OrderState.PARTIALLY_FILLED: TERMINAL | {OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL},
    # OPEN, PARTIALLY_FILLED: the venue did not cancel.
    OrderState.PENDING_CANCEL: _HEARD,
    OrderState.FILLED: frozenset(),
    OrderState.CANCELED: frozenset(),
    OrderState.REJECTED: frozenset(),
    OrderState.EXPIRED: frozenset(),
}

_STATUSES = {
    "closed": OrderState.FILLED,
    "open": OrderState.OPEN,
    "canceling": OrderState.PENDING_CANCEL,
    "canceled": OrderState.CANCELED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}
"""ccxt's unified order status -> state; a status that is not here proves nothing."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_NEEDS = {"market": (), "limit": ("price",), "stop": ("stop_price",), "stop_limit": ("price", "stop_price")}


@dataclass(frozen=True)
class Intent:
    """An order to be sent: `time` is the open of the bar it was decided on, `quantity` unsigned base units.

    price: limit of a limit or stop_limit order. stop_price: trigger of a stop or stop_limit order. group: intents with
    the same group cancel each other (OCO). reduces: it takes risk away, and goes out even where a symbol is halted.
    worst_price: see `Placement`. held: the runner waits for its price, not the venue. reason: why, for the journal.
    pair: of a piece of a stop, the client order id of the limit order that it stands beside.
    seen_price: the market's newest price, where the order's terms depend on it; with it they can be made again.
    fitted: it is smaller than what was decided, because the account cannot carry more at that price.
    """

    time: str
    client_order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal
    kind: Kind = "market"
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: Literal["GTC", "IOC", "FOK"] | None = None
    post_only: bool = False
    group: str | None = None
    reduces: bool = False
    worst_price: Decimal | None = None
    held: bool = False
    leg: str = ""
    reason: str = ""
    seen_price: float | None = None
    pair: str = ""
    fitted: bool = False

    def __post_init__(self) -> None:
        if self.side not in ("buy", "sell"):
            raise RunnerError(f"side of an order is {self.side!r}: use 'buy' or 'sell'")
        if not self.quantity > 0:
            raise RunnerError(f"quantity of an order is {self.quantity}: it must be positive")
        if not _ID.fullmatch(self.client_order_id):
            raise RunnerError(f"client order id {self.client_order_id!r} is not 1 to 36 of A-Z a-z 0-9 _ -")
        if self.kind not in _NEEDS:
            raise RunnerError(f"kind of an order is {self.kind!r}: use one of {', '.join(_NEEDS)}")
        for name in ("price", "stop_price"):
            value = getattr(self, name)
            if (name in _NEEDS[self.kind]) != (value is not None) or (value is not None and not value > 0):
                raise RunnerError(f"{name} of a {self.kind} order is {value}: it takes {_NEEDS[self.kind] or 'none'}")

    @property
    def told(self) -> str:
        """Side, quantity, kind and prices, for people."""
        prices = [format(price, "f") for price in (self.stop_price, self.price) if price is not None]
        return f"{self.side} {self.quantity:f} {self.kind.replace('_', '-')} {' '.join(prices)}".rstrip()

    @property
    def sign(self) -> float:
        """+1.0 for a buy, -1.0 for a sell."""
        return 1.0 if self.side == "buy" else -1.0

    def body(self) -> dict[str, Any]:
        """The journal's entry: what every intent has, and what this one has beyond a plain market order."""
        plain = {name: getattr(self, name) for name in _ALWAYS}
        extra = {name: value for name, value in vars(self).items() if name not in plain and value != _DEFAULTS[name]}
        return {
            name: format(value, "f") if isinstance(value, Decimal) else value for name, value in (plain | extra).items()
        }

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Intent:
        """The intent that `body` was written from, by this version or by an older one."""
        known: dict[str, Any] = {name: body[name] for name in (*_ALWAYS, *_DEFAULTS) if name in body}
        decimals = {name: Decimal(known[name]) for name in _EXACT & known.keys() if known[name] is not None}
        return cls(**(known | decimals))

    def placement(self) -> Placement:
        """The order as a dialect takes it."""
        return Placement(
            self.symbol,
            self.side,
            self.kind,
            self.quantity,
            self.client_order_id,
            price=self.price,
            stop_price=self.stop_price,
            time_in_force=self.time_in_force,
            post_only=self.post_only,
            worst_price=self.worst_price,
        )


_ALWAYS = ("time", "client_order_id", "symbol", "side", "quantity")
_DEFAULTS: dict[str, Any] = {
    name: spec.default for name, spec in Intent.__dataclass_fields__.items() if name not in _ALWAYS
}
_EXACT = frozenset({"quantity", "price", "stop_price", "worst_price"})


@dataclass(frozen=True)
class OrderReport:
    """What is known of an order: `quantity` is the signed fill so far, `price` and `fee` are in quote currency.

    trades: what the venue has told of its trades so far; `complete` once they account for all of `quantity`. fresh: in
    a report that is told as news, those of them that were never told before, by this process or by another one.
    """

    client_order_id: str
    state: OrderState
    quantity: float = 0.0
    price: float | None = None
    fee: float | None = None
    reason: str = ""
    venue_order_id: str | None = None
    refused_key: bool = False
    retry_after: float = 0.0
    trades: tuple[VenueTrade, ...] = field(default=(), repr=False)
    fresh: tuple[VenueTrade, ...] = field(default=(), repr=False, compare=False)

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to this order."""
        return self.state in TERMINAL

    @property
    def complete(self) -> bool:
        """Whether the trades account for everything that was filled."""
        known = float(total(self.trades))
        return accounts_for(known, self.quantity) and accounts_for(self.quantity, known)

    @property
    def filled_at(self) -> str | None:
        """The venue's time of the newest trade."""
        return max((trade.filled_at for trade in self.trades), default=None)

    def with_trades(self, trades: tuple[VenueTrade, ...]) -> OrderReport:
        """The same, with quantity, price and fee as `trades` add up to, where they know more than the report."""
        known = float(total(trades))
        if not trades or not accounts_for(known, self.quantity):
            return replace(self, trades=trades)
        price = trades[0].price if len(trades) == 1 else _average(trades)
        fees = [trade.fee for trade in trades]
        fee = None if any(one is None for one in fees) else sum(one for one in fees if one is not None)
        return replace(self, quantity=known, price=price, fee=fee, trades=trades)

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        body = {
            "client_order_id": self.client_order_id,
            "status": self.state.value,
            "quantity": self.quantity,
            "price": self.price,
            "fee": self.fee,
            "reason": self.reason,
            "venue_order_id": self.venue_order_id,
        }
        return body if self.filled_at is None else {**body, "filled_at": self.filled_at}


def advance(state: OrderState, to: OrderState) -> OrderState:
    """`to`, if the state machine allows that step; `RunnerError` otherwise."""
    if to not in TRANSITIONS[state]:
        raise RunnerError(f"an order cannot go from {state.value} to {to.value}")
    return to


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
    return OrderReport(
        client_order_id=intent.client_order_id,
        state=_with_fills(state, intent, order.get("amount"), filled),
        quantity=intent.sign * float(filled) if filled else 0.0,
        price=None if order.get("average") is None else float(order["average"]),
        reason="" if state in (OrderState.FILLED, OrderState.OPEN) else f"the venue says {order.get('status')}",
        venue_order_id=str(order["id"]),
    )


def _with_fills(state: OrderState, intent: Intent, amount: Any, filled: float) -> OrderState:
    """A status, read together with how much is filled; `amount` is what the venue was asked for, at most the intent."""
    asked = float(intent.quantity)
    whole = filled >= (min(asked, amount) if isinstance(amount, int | float) and amount > 0 else asked)
    if state is OrderState.OPEN and filled > 0:
        return OrderState.PARTIALLY_FILLED
    if state is OrderState.FILLED and not whole:
        return OrderState.EXPIRED  # closed with a rest that nobody took
    return OrderState.FILLED if whole and state is not OrderState.REJECTED else state


def classify_error(intent: Intent, error: BaseException, dialect: Dialect | None = None) -> OrderReport:
    """Read an exception of a submit. Only an error code of the venue in its reply proves a rejection.

    Codes decide, not ccxt's classes: those depend on the host and differ between paper and live.
    """
    reply = venue_reply(error)
    verdict = (dialect or dialect_of("binance")).verdict(reply)
    unknown = OrderReport(intent.client_order_id, OrderState.UNKNOWN, reason=describe_error(error))
    if verdict is Verdict.CLOCK:
        return replace(unknown, state=OrderState.INTENDED)
    if verdict in (Verdict.REFUSED, Verdict.KEY):
        return replace(unknown, state=OrderState.REJECTED, refused_key=verdict is Verdict.KEY)
    return replace(unknown, retry_after=(reply.retry_after or 0.0) if reply is not None else 0.0)


def _average(trades: tuple[VenueTrade, ...]) -> float:
    quantity = total(trades)
    return float(sum(exact(trade.quantity) * exact(trade.price) for trade in trades) / quantity)
