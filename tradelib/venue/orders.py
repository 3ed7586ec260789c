"""What clients and the exchange say to each other, in no exchange's own words: orders, fills, events, refusals.

Everything here is immutable. The exchange replaces an `Order` by a newer one when something happens to it, and tells
of it with an `Event`; a dialect turns both into the words of one real exchange. Amounts of a request are `Decimal`
(what was written on the wire), amounts of an answer are floats (what the kernel computed), times are epoch
milliseconds of the exchange's simulated clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, Literal, NamedTuple

__all__ = [
    "OPEN",
    "Event",
    "Fill",
    "Kind",
    "Kline",
    "NewOrder",
    "Order",
    "Reason",
    "Refusal",
    "Row",
    "Status",
    "TimeInForce",
]

Kind = Literal["market", "limit", "stop", "stop_limit", "take_profit", "take_profit_limit"]
"""`stop*` triggers when the price moves against the order's owner (a sell: falls to `stop_price`), `take_profit*` when
it moves in favour. Without `_limit` the triggered order is a market order, with it a limit order at `price`."""

TimeInForce = Literal["GTC", "IOC", "FOK"]

Status = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED"]
OPEN = ("NEW", "PARTIALLY_FILLED")
"""The states of an order that may still trade. EXPIRED: ended by the exchange (IOC rest, no counterparty, OCO sibling
filled); it may have been filled in part."""


class Reason(Enum):
    """Why the exchange refuses a request; a dialect turns it into its own code."""

    UNKNOWN_SYMBOL = "unknown symbol"
    UNKNOWN_ORDER = "unknown order"
    NOT_OPEN = "order is not open"
    DUPLICATE = "client order id belongs to an open order"
    LOT_SIZE = "quantity is not a whole number of lots"
    PRICE_FILTER = "price is not a whole number of ticks"
    MINIMUM_NOTIONAL = "quantity times price is below the minimum notional"
    BALANCE = "not enough balance"
    WOULD_TRIGGER = "stop price would trigger immediately"
    WOULD_TAKE = "post-only order would match and take immediately"
    OCO_PRICES = "the prices of the two legs do not lie on either side of the market"
    TOO_MANY_ORDERS = "too many open orders"
    BAD_TERMS = "the order lacks a price, or has one that its kind does not take"
    CANCEL_REJECTED = "the exchange does not cancel this order now"


class Refusal(Exception):
    """A request that the exchange refuses; nothing has changed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Row(NamedTuple):
    """One bar as recorded."""

    open: float
    high: float
    low: float
    close: float
    volume: float


class Kline(NamedTuple):
    """One bar as served: times in epoch milliseconds, `close_time` is the last one inside of the bar."""

    open_time: int
    row: Row
    close_time: int


@dataclass(frozen=True)
class NewOrder:
    """A request to trade.

    symbol: on the wire, `SPXUSDT`. side: +1 buys, -1 sells. quantity: base units; a market buy may give
    `quote_quantity` instead, the amount of quote currency to spend. price: limit price. stop_price: trigger.
    post_only: refuse what would take at once. trigger_at_once: a stop whose price has been reached already is executed
    (as on Kraken) instead of refused (as on Binance). unique_for_ever: the client order id must never have been used in
    its market, instead of not by an open order.
    """

    symbol: str
    side: int
    kind: Kind
    quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = "GTC"
    client_order_id: str | None = None
    post_only: bool = False
    quote_quantity: Decimal | None = None
    trigger_at_once: bool = False
    unique_for_ever: bool = False


@dataclass(frozen=True)
class Fill:
    """One execution: quantity in base units, price in quote currency, `fee` in `fee_asset` ("" stands for the
    quote)."""

    trade_id: int
    quantity: float
    price: float
    fee: float
    time: int
    maker: bool = False
    fee_asset: str = ""


@dataclass(frozen=True)
class Order:
    """An accepted order as it stands now. `status` is NEW, PARTIALLY_FILLED, FILLED, CANCELED or EXPIRED.

    group: number of the OCO list it belongs to, None outside of one. triggered: a stop that works as its market or
    limit order now. time: accepted; updated: last change.
    """

    order_id: int
    client_order_id: str
    symbol: str
    side: int
    kind: Kind
    quantity: float
    time: int
    status: Status = "NEW"
    price: float | None = None
    stop_price: float | None = None
    time_in_force: TimeInForce = "GTC"
    post_only: bool = False
    group: int | None = None
    triggered: bool = False
    updated: int = 0
    fills: tuple[Fill, ...] = ()

    @property
    def is_open(self) -> bool:
        """True while it may still trade."""
        return self.status in OPEN

    @cached_property
    def executed(self) -> float:
        """Base units that have been traded, as decimals add up: an exchange does not say 0.30000000000000004."""
        return float(sum(Decimal(repr(fill.quantity)) for fill in self.fills))

    @cached_property
    def cost(self) -> float:
        """Quote currency that has been traded, without fees."""
        return sum(fill.quantity * fill.price for fill in self.fills)

    @property
    def fee(self) -> float:
        """Fees paid so far, in the fills' fee asset."""
        return sum(fill.fee for fill in self.fills)


@dataclass(frozen=True)
class Event:
    """Something that happened, numbered without gaps from 1 (klines, which are not kept, carry 0).

    order: `order` as it is now. trade: `order` and its new `fill`. balance: `balances`, asset -> (free, locked), of the
    assets that changed. kline: `kline` of `symbol`, and whether it is `closed`.
    """

    sequence: int
    kind: Literal["order", "trade", "balance", "kline"]
    time: int
    symbol: str = ""
    order: Order | None = None
    fill: Fill | None = None
    balances: dict[str, tuple[float, float]] | None = None
    kline: Kline | None = None
    closed: bool = False

    def body(self) -> dict[str, Any]:
        """What a log would say."""
        return {name: value for name, value in vars(self).items() if value not in (None, "", False)}
