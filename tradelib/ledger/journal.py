"""The runner's journal: what it saw, decided, meant to send, and what became of it.

A vocabulary over the ledger. Times are ISO-8601 UTC texts of a bar's OPEN ("2018-01-02T00:00:00+00:00"). Everything
that may happen once per bar or per order has a key, so a runner that was killed replays its bars without writing twice;
a replay that decides otherwise is refused by the ledger.

The order of writing is the safety: the `intent` is on the disk before the socket is touched, the `order` follows when
the venue's answer is known. An intent without a final order is an unknown outcome (`unresolved`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tradelib.errors import LedgerError
from tradelib.ledger.chain import Entry, Ledger

__all__ = [
    "BAR",
    "DECISION",
    "EQUITY",
    "FINAL_STATUSES",
    "HALT",
    "INTENT",
    "ORDER",
    "ORDER_STATUSES",
    "START",
    "STOP",
    "VOCABULARY",
    "bars",
    "bodies",
    "decisions",
    "entry_key",
    "equities",
    "halts",
    "intents",
    "open_journal",
    "orders",
    "record",
    "starts",
    "unresolved",
]

START = "start"
BAR = "bar"
DECISION = "decision"
INTENT = "intent"
ORDER = "order"
EQUITY = "equity"
HALT = "halt"
STOP = "stop"

FINAL_STATUSES = frozenset({"filled", "rejected", "expired"})
"""Statuses of an order after which nothing more happens to it."""
ORDER_STATUSES = FINAL_STATUSES | {"open", "unknown"}

VOCABULARY: Mapping[str, frozenset[str]] = {
    START: frozenset(
        {"bundle_digest", "name", "venue", "mode", "symbol", "timeframe", "package_digest", "golden_decisions"}
    ),
    BAR: frozenset({"time", "open", "high", "low", "close", "volume"}),
    # quantity: signed units to trade, 0.0 = no order; signal and target_weight are None while warming up
    DECISION: frozenset({"time", "signal", "target_weight", "position", "equity", "quantity"}),
    # quantity: unsigned decimal text, exactly as it goes to the venue
    INTENT: frozenset({"time", "client_order_id", "symbol", "side", "quantity"}),
    # quantity: signed units filled so far
    ORDER: frozenset({"client_order_id", "status", "quantity", "price", "fee", "reason", "venue_order_id"}),
    EQUITY: frozenset({"time", "cash", "position", "equity"}),
    HALT: frozenset({"reason"}),
    STOP: frozenset({"reason"}),
}

_KEYS = {
    BAR: "bar:{time}",
    DECISION: "decision:{time}",
    INTENT: "intent:{client_order_id}",
    ORDER: "order:{client_order_id}:{status}",
    EQUITY: "equity:{time}",
}


def open_journal(
    path: str | os.PathLike[str], clock: Callable[[], datetime] | None = None, *, read_only: bool = False
) -> Ledger:
    """The ledger at `path` with the runner's vocabulary. Errors and `clock` as in `Ledger`."""
    return Ledger(path, clock=clock, vocabulary=VOCABULARY, read_only=read_only)


def entry_key(kind: str, body: Mapping[str, Any]) -> str | None:
    """The key under which an entry happens once: "bar:<time>", "order:<client order id>:<status>", ... or None."""
    try:
        return _KEYS[kind].format_map(body) if kind in _KEYS else None
    except KeyError as missing:
        raise LedgerError(f"An entry of kind {kind!r} lacks {missing}: it has {sorted(body)}.") from None


def record(journal: Ledger, kind: str, **body: Any) -> Entry:
    """Append an entry under its own key; durable on return.

    `record(journal, ORDER, client_order_id="...", status="filled", ...)`. Raises `LedgerError` on a field that is
    missing, an order status that does not exist, or a replay that differs from what is written.
    """
    if kind == ORDER and body.get("status") not in ORDER_STATUSES:
        known = ", ".join(sorted(ORDER_STATUSES))
        raise LedgerError(f"An order cannot have the status {body.get('status')!r}. It is one of: {known}.")
    return journal.append(kind, body, entry_key(kind, body))


def bodies(journal: Ledger, kind: str) -> list[dict[str, Any]]:
    """The bodies of all entries of `kind`, oldest first."""
    return [entry.body for entry in journal.entries(kind)]


def starts(journal: Ledger) -> list[dict[str, Any]]:
    """Each start of the runner."""
    return bodies(journal, START)


def bars(journal: Ledger) -> list[dict[str, Any]]:
    """The closed bars that the runner saw."""
    return bodies(journal, BAR)


def decisions(journal: Ledger) -> list[dict[str, Any]]:
    """What was decided on each bar."""
    return bodies(journal, DECISION)


def intents(journal: Ledger) -> list[dict[str, Any]]:
    """Orders that the runner was about to send."""
    return bodies(journal, INTENT)


def orders(journal: Ledger) -> list[dict[str, Any]]:
    """What the venue said about orders; several entries for one order where its status changed."""
    return bodies(journal, ORDER)


def equities(journal: Ledger) -> list[dict[str, Any]]:
    """The account, valued at the close of each bar."""
    return bodies(journal, EQUITY)


def halts(journal: Ledger) -> list[dict[str, Any]]:
    """Each time the runner stopped trading for safety."""
    return bodies(journal, HALT)


def unresolved(journal: Ledger) -> list[dict[str, Any]]:
    """Intents whose outcome is not final: sent or not, filled or not, nobody wrote it down. Ask the venue."""
    final = {order["client_order_id"] for order in orders(journal) if order["status"] in FINAL_STATUSES}
    return [intent for intent in intents(journal) if intent["client_order_id"] not in final]
