"""An instruction as it goes to a venue: its one name, whole lots and ticks, never more risk than was asked for."""

from __future__ import annotations

import hashlib
import math
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

from tradelib.bundle.trading.instructions import Instruction, Plan
from tradelib.errors import RunnerError

__all__ = [
    "client_order_id",
    "decided_quantity",
    "exact",
    "is_reached",
    "order_terms",
    "quantise",
    "quantise_price",
]


def client_order_id(bundle_digest: str, symbol: str, time: str, leg: int | str = 0) -> str:
    """The one id of this order: the same bundle, symbol, bar and leg give the same 35 characters in every process."""
    text = "\n".join((bundle_digest, symbol, time, str(leg)))
    return "tl-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def quantise(quantity: float | Decimal, step: Decimal) -> Decimal:
    """|quantity| in whole steps, rounded toward zero. A float stands for the shortest decimal that parses to it."""
    lots = (abs(exact(quantity)) / step).to_integral_value(ROUND_DOWN)
    return lots * step


def quantise_price(price: float | Decimal, tick: Decimal, side: str) -> Decimal:
    """A price in whole ticks, rounded so that risk never grows: a buy's down, a sell's up.

    A limit then never pays more or takes less than was asked. The trigger of a stop, rounded the same way, acts no
    later than was asked: that of a sell lies below the market, that of a buy above it.
    """
    way = ROUND_DOWN if side == "buy" else ROUND_UP
    return (exact(price) / tick).to_integral_value(way) * tick


def is_reached(order: Instruction, price: float | None) -> bool:
    """A stop that the market has passed already: venues refuse it, the engine fills it at the open."""
    if order.kind != "stop" or price is None or order.stop_price is None:
        return False
    return price <= order.stop_price if order.side == "sell" else price >= order.stop_price


def decided_quantity(plan: Plan, step: Decimal) -> float:
    """Signed units that a decision itself trades at once, in whole lots; 0.0 for no order."""
    orders = [order for order in plan.place if order.kind == "market" and order.reason == "signal"]
    lots = [math.copysign(float(quantise(order.quantity, step)), order.signed) for order in orders]
    return sum(units for units in lots if units) or 0.0


def order_terms(
    order: Instruction, *, quantity: float, reached: bool, step: Decimal, tick: Decimal | None
) -> dict[str, Any] | None:
    """The fields of the order that `order` becomes; None where less than one lot is left of it.

    quantity: what of it the account can carry. reached: see `is_reached`; it is sent as a market order. Raises
    `RunnerError` for a price where the venue names no tick.
    """
    amount = quantise(quantity, step)
    if not amount:
        return None
    return {
        "time": order.time,
        "side": order.side,
        "quantity": amount,
        "kind": "market" if reached else order.kind,
        "price": _on_ticks(order.price, tick, order.side),
        "stop_price": None if reached else _on_ticks(order.stop_price, tick, order.side),
        "group": None if reached else order.group,
        "reduces": order.reduces,
        "leg": "" if order.leg == "0" else order.leg,
        "reason": "" if order.reason == "signal" else order.reason,
    }


def _on_ticks(price: float | None, tick: Decimal | None, side: str) -> Decimal | None:
    if price is None:
        return None
    if tick is None:
        raise RunnerError("the venue names no tick for this market: prices cannot be rounded safely")
    return quantise_price(price, tick, side)


def exact(value: float | Decimal) -> Decimal:
    """The shortest decimal that parses to a float."""
    return value if isinstance(value, Decimal) else Decimal(repr(value))
