"""Tickets in the journal: what must be written so that a restarted process works on where the last one stopped.

The entry `instruction` carries the ticket's opening as a field more, each child is an `intent` with its leg, and what
became of it stands in the `order` and `fill` entries. `arrival` entries say when a child was asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tradelib.bundle.trading.instructions import Instruction
from tradelib.bundle.trading.terms import client_order_id
from tradelib.ledger import Ledger, journal
from tradelib.live.execution.children import Child, Standing, Status
from tradelib.live.execution.ticket import Ticket
from tradelib.live.intents import Intent

__all__ = ["instruction_body", "intent_of", "is_child", "open_tickets", "parent_leg", "tickets"]

Bodies = Mapping[str, dict[str, Any]]


def instruction_body(instruction: Instruction, symbol: str, ticket: Ticket | None = None) -> dict[str, Any]:
    """The body of the entry `INSTRUCTION`; it belongs into the transaction of the decision. No ticket: sent whole."""
    names = ("time", "leg", "kind", "side", "quantity", "price", "stop_price", "group", "reduces", "reason")
    worked = {} if ticket is None else {"ticket": ticket.body()}
    return {**{name: getattr(instruction, name) for name in names}, "symbol": symbol, **worked}


def intent_of(child: Child, instruction: Instruction, symbol: str, bundle_digest: str) -> Intent:
    """The order that a child of `instruction` is at the venue; its client order id follows from its leg."""
    names = ("kind", "price", "stop_price", "post_only", "group", "reduces", "leg")
    return Intent(
        instruction.time,
        client_order_id(bundle_digest, symbol, instruction.time, child.leg),
        symbol,
        child.side,
        child.quantity,
        # neither kind has a time in force: Binance refuses a maker-only order that names one (-1106)
        time_in_force=None if child.kind == "market" or child.post_only else child.time_in_force,
        reason="" if instruction.reason == "signal" else instruction.reason,
        **{name: getattr(child, name) for name in names},
    )


def parent_leg(leg: str) -> str:
    """The leg of the instruction that a child's leg belongs to: "t7" of "t7/2"."""
    return leg.rpartition("/")[0] or leg


def is_child(leg: str) -> bool:
    """Whether a leg is that of a child of a ticket."""
    return "/" in leg


def open_tickets(log: Ledger) -> list[tuple[dict[str, Any], Ticket]]:
    """The tickets without an `ENDING`, each with the body of its instruction, oldest first."""
    left = journal.open_instructions(log)
    found = tickets(log, min(entry.sequence for entry in left) - 1) if left else {}
    return [(entry.body, found[_name(entry.body)]) for entry in left]


def tickets(log: Ledger, after: int = 0) -> dict[tuple[str, str, str], Ticket]:
    """Every ticket of the journal as it stood when the journal ended, by `(time, symbol, leg)` of its instruction;
    `after`: of those that were opened after this sequence.

    A child without a final order counts as working: ask the venue, and tell the ticket, before asking for actions. A
    cancel that was not confirmed is asked for again where it is still wanted: nobody knows whether it was sent.
    """
    children: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for intent in journal.bodies(log, journal.INTENT, after):
        children[intent["time"], intent["symbol"], parent_leg(intent.get("leg", ""))].append(intent)
    orders, fills = journal.standing(log, after), _by_order(journal.bodies(log, journal.FILL, after))
    arrivals = {body["client_order_id"]: body for body in journal.bodies(log, journal.ARRIVAL, after)}
    found = {}
    for body in journal.bodies(log, journal.INSTRUCTION, after):
        name = _name(body)
        if "ticket" in body:
            opened = body["ticket"]["arrival"]["time_ms"]
            said = (_standing(intent, orders, fills, arrivals, opened) for intent in children[name])
            found[name] = Ticket.restore(body["ticket"], said)
    return found


def _standing(
    intent: dict[str, Any],
    orders: Bodies,
    fills: Mapping[str, list[dict[str, Any]]],
    arrivals: Bodies,
    opened_ms: int,
) -> Standing:
    name = intent["client_order_id"]
    order, trades = orders.get(name, {}), fills.get(name, [])
    at = arrivals[name]["at"] if name in arrivals else None
    return Standing(
        child=_child(intent),
        placed_ms=opened_ms if at is None else round(datetime.fromisoformat(at).timestamp() * 1000),
        traded=sum((abs(_exact(trade["quantity"])) for trade in trades), Decimal(0)),
        reported=abs(_exact(order.get("quantity") or 0.0)),
        status=Status.of(order.get("status", "intended")),
        trades=frozenset(trade["trade_id"] for trade in trades),
    )


def _child(intent: dict[str, Any]) -> Child:
    prices = {name: Decimal(intent[name]) for name in ("price", "stop_price") if intent.get(name) is not None}
    plain = {
        name: intent[name] for name in ("kind", "time_in_force", "post_only", "reduces", "group") if intent.get(name)
    }
    terms: dict[str, Any] = {"kind": "market", **plain, **prices}
    quantity = Decimal(intent["quantity"])
    return Child(intent["leg"], parent_leg(intent["leg"]), side=intent["side"], quantity=quantity, **terms)


def _by_order(fills: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fill in fills:
        found[fill["client_order_id"]].append(fill)
    return found


def _name(body: Mapping[str, Any]) -> tuple[str, str, str]:
    return body["time"], body["symbol"], body["leg"]


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))
