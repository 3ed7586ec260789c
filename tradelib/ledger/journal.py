"""The runner's journal: what it saw, decided, meant to send, and what became of it.

A vocabulary over the ledger. Times are ISO-8601 UTC texts of a bar's OPEN ("2018-01-02T00:00:00+00:00"). Everything
that may happen once per bar or per order has a key, so a runner that was killed replays its bars without writing twice;
a replay that decides otherwise is refused by the ledger.

The order of writing is the safety: the `intent` is on the disk before the socket is touched, the `order` follows when
the venue's answer is known. An intent without a final order is an unknown outcome (`unresolved`). A cancel is written
before it is asked for, too. What an order traded is the sum of its `fill` entries, one for each trade of the venue;
`order` entries say how it stands, and repeat the sum.

A journal grows for years, and a restart reads its end only: a `checkpoint` tells what of everything before it is not
over (`checkpoint`), so `unresolved`, `incomplete`, `grouped` and `open_instructions` read that and what came after. A
journal without one (of an older version) is read whole.

Every entry may carry more fields than the vocabulary asks for: an `intent` of a limit order its `price`, a final
`order` its `filled_at`. Readers must not rely on them: journals of older versions do not have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tradelib.errors import LedgerError
from tradelib.ledger.chain import Entry, Ledger
from tradelib.ledger.postgres import PostgresLedger, is_address
from tradelib.ledger.segments import SegmentedLedger

__all__ = [
    "ADJUSTMENT",
    "ARRIVAL",
    "BACKUP",
    "BAR",
    "BASELINE",
    "CANCEL",
    "CHECKPOINT",
    "CONFIG",
    "DECISION",
    "ENDING",
    "EQUITY",
    "FILL",
    "FINAL_STATUSES",
    "FLATTEN",
    "FOREIGN",
    "HALT",
    "INCIDENT",
    "INSTRUCTION",
    "INTENT",
    "LATCH",
    "LIMITS",
    "LISTING",
    "OPERATOR",
    "ORDER",
    "ORDER_STATUSES",
    "PURSE",
    "RECONCILED",
    "REFUSAL",
    "SEGMENT",
    "SHARES",
    "SNAPSHOT",
    "START",
    "STOP",
    "TRIGGER",
    "VOCABULARY",
    "WORKING_STATUSES",
    "accounts_for",
    "bar_count",
    "bars",
    "bodies",
    "cancels",
    "checkpoint",
    "decisions",
    "entry_key",
    "equities",
    "fills",
    "grouped",
    "halts",
    "incomplete",
    "intents",
    "latches",
    "open_instructions",
    "open_journal",
    "orders",
    "record",
    "standing",
    "standing_of",
    "starts",
    "unresolved",
    "working",
]

START = "start"
BAR = "bar"
DECISION = "decision"
INTENT = "intent"
ORDER = "order"
EQUITY = "equity"
HALT = "halt"
STOP = "stop"
INSTRUCTION = "instruction"
REFUSAL = "refusal"
ARRIVAL = "arrival"
ENDING = "ending"
CANCEL = "cancel"
TRIGGER = "trigger"
FILL = "fill"
BASELINE = "baseline"
FOREIGN = "foreign"
ADJUSTMENT = "adjustment"
RECONCILED = "reconciled"
LATCH = "latch"
LIMITS = "limits"
FLATTEN = "flatten"
LISTING = "listing"
OPERATOR = "operator"
CONFIG = "config"
PURSE = "purse"
SHARES = "shares"
SNAPSHOT = "snapshot"
CHECKPOINT = "checkpoint"
INCIDENT = "incident"
SEGMENT = "segment"
BACKUP = "backup"

FINAL_STATUSES = frozenset({"filled", "canceled", "rejected", "expired"})
"""Statuses of an order after which nothing more happens to it."""
WORKING_STATUSES = frozenset({"open", "partially_filled", "pending_cancel"})
"""Statuses of an order that rests at the venue."""
ORDER_STATUSES = FINAL_STATUSES | WORKING_STATUSES | {"unknown"}

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
    # What the decision asks for, before the gate and the execution schedule; numbers are floats, None where not needed.
    INSTRUCTION: frozenset(
        {"time", "symbol", "leg", "kind", "side", "quantity", "price", "stop_price", "group", "reduces", "reason"}
    ),
    # An instruction that the risk gate turned down; `rule` is the limit's name.
    REFUSAL: frozenset({"time", "symbol", "leg", "rule", "reason"}),
    # The market when the order was decided to be sent: what execution quality is measured against.
    ARRIVAL: frozenset({"client_order_id", "at", "bid", "ask", "price"}),
    # An instruction that was worked in children, and is over: "filled", "cancelled", "rejected" or "expired".
    ENDING: frozenset({"time", "symbol", "leg", "status", "reason"}),
    # On the disk before the venue is asked to cancel.
    CANCEL: frozenset({"client_order_id", "reason"}),
    # The price of an order that the runner holds itself was reached; on the disk before the order is sent.
    TRIGGER: frozenset({"client_order_id", "price"}),
    # One trade of the venue: quantity is signed, fee in quote currency (None where it cannot be valued), fee_paid the
    # venue's own amounts by currency as decimal text, filled_at the venue's time, maker None where it is not told
    FILL: frozenset(
        {
            "client_order_id",
            "venue_order_id",
            "trade_id",
            "symbol",
            "quantity",
            "price",
            "fee",
            "fee_paid",
            "filled_at",
            "maker",
        }
    ),
    # What the account held when it was first seen, by asset, as decimal text. after: how far each journal had come;
    # seen: time (epoch ms) and ids of the newest trades, by symbol
    BASELINE: frozenset({"balances", "after", "seen"}),
    # A trade on the account that no intent explains: somebody traded by hand.
    FOREIGN: frozenset({"symbol", "trade_id", "venue_order_id", "quantity", "price", "fee_paid", "filled_at"}),
    # An operator accounts for a deposit, a withdrawal or another difference; amount is decimal text.
    ADJUSTMENT: frozenset({"asset", "amount", "by", "reason"}),
    RECONCILED: frozenset({"cycles", "differences", "healed", "halted"}),
    # scope: "symbol", "bundle" or "account"; subject: which; engaged: False is the authorised act of re-arming, which
    # lifts the entries that it names (`lifts`).
    LATCH: frozenset({"scope", "subject", "engaged", "reason", "by"}),
    OPERATOR: frozenset({"act", "subject", "reason", "by", "role"}),
    CONFIG: frozenset({"digest", "settings"}),
    # What the venue says of the market, as decimal text: the lot, and the tick (None where it names none). The intents
    # that follow have quantities and prices rounded to them.
    LISTING: frozenset({"symbol", "step", "tick"}),
    # What a bundle is given to trade with (or loses): its purse is the sum of these and of its fills.
    PURSE: frozenset({"cash", "position", "capital", "share", "reason"}),
    # What each bundle shall trade from now on, as a fraction of the capital by the bundle's digest; 0.0 withdraws it.
    SHARES: frozenset({"shares", "by", "reason"}),
    # What a trader's book remembers right after the close of `time`: a restart goes on from there.
    SNAPSHOT: frozenset({"time", "state"}),
    # What of the entries up to the sequence `after` is not over: `open` intents and the `members` of their groups,
    # `incomplete` final orders (client order ids), `tickets` (keys of instructions); `bars`: how many there were.
    CHECKPOINT: frozenset({"after", "bars", "open", "members", "incomplete", "tickets"}),
    # The limits of the account after the close of the bar that opened at `time`: a restart goes on from there.
    LIMITS: frozenset({"time", "state"}),
    # Positions of a scope are to be closed; a restart goes on with it until an entry says that it is `done`.
    FLATTEN: frozenset({"scope", "subject", "reason", "done"}),
    # What went wrong around trading: a silent stream, a revised bar, an open circuit breaker, a degradation.
    INCIDENT: frozenset({"what", "detail"}),
    # The first entry of a file that continues another: see `tradelib.ledger.segments`.
    SEGMENT: frozenset({"number", "file", "sequence", "hash"}),
    BACKUP: frozenset({"folder", "sequence", "hash"}),
}

_KEYS = {
    BAR: "bar:{time}",
    DECISION: "decision:{time}",
    INTENT: "intent:{client_order_id}",
    ORDER: "order:{client_order_id}:{status}",
    EQUITY: "equity:{time}",
    INSTRUCTION: "instruction:{time}:{symbol}:{leg}",
    REFUSAL: "refusal:{time}:{symbol}:{leg}",
    ARRIVAL: "arrival:{client_order_id}",
    ENDING: "ending:{time}:{symbol}:{leg}",
    CANCEL: "cancel:{client_order_id}",
    TRIGGER: "trigger:{client_order_id}",
    FILL: "fill:{client_order_id}:{trade_id}",
    BASELINE: "baseline",
    FOREIGN: "foreign:{symbol}:{venue_order_id}:{trade_id}",
    SEGMENT: "segment:{number}",
}

_NO_MARK: Mapping[str, Any] = {"bars": 0, "open": (), "members": (), "incomplete": (), "tickets": ()}


def open_journal(
    path: str | os.PathLike[str], clock: Callable[[], datetime] | None = None, *, read_only: bool = False
) -> Ledger:
    """The ledger at `path` with the runner's vocabulary. Errors and `clock` as in `Ledger`.

    `path` is a file, continued by further ones where it was rotated (`tradelib.ledger.segments`), or the address of a
    journal in PostgreSQL (`tradelib.ledger.postgres`).
    """
    if is_address(path):
        return PostgresLedger(str(path), clock=clock, vocabulary=VOCABULARY, read_only=read_only)
    return SegmentedLedger(path, clock=clock, vocabulary=VOCABULARY, read_only=read_only)


def entry_key(kind: str, body: Mapping[str, Any]) -> str | None:
    """The key under which an entry happens once: "bar:<time>", "order:<client order id>:<status>", ... or None."""
    try:
        return _KEYS[kind].format_map(body) if kind in _KEYS else None
    except KeyError as missing:
        raise LedgerError(f"An entry of kind {kind!r} lacks {missing}: it has {sorted(body)}.") from None


def record(journal: Ledger, kind: str, /, **body: Any) -> Entry:
    """Append an entry under its own key; durable on return.

    `record(journal, ORDER, client_order_id="...", status="filled", ...)`. Raises `LedgerError` on a field that is
    missing, an order status that does not exist, or a replay that differs from what is written.
    """
    if kind == ORDER and body.get("status") not in ORDER_STATUSES:
        known = ", ".join(sorted(ORDER_STATUSES))
        raise LedgerError(f"An order cannot have the status {body.get('status')!r}. It is one of: {known}.")
    return journal.append(kind, body, entry_key(kind, body))


def bodies(journal: Ledger, kind: str, after: int = 0) -> list[dict[str, Any]]:
    """The bodies of all entries of `kind` after a sequence, oldest first."""
    return [entry.body for entry in journal.entries(kind, after)]


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


def fills(journal: Ledger) -> list[dict[str, Any]]:
    """The venue's trades of our orders, each once."""
    return bodies(journal, FILL)


def cancels(journal: Ledger) -> list[dict[str, Any]]:
    """Orders that the runner was about to cancel."""
    return bodies(journal, CANCEL)


def latches(journal: Ledger) -> dict[tuple[str, str], dict[str, Any]]:
    """What holds of each latch, by `(scope, subject)`; trading is off where `engaged` is True.

    The newest halt that was not lifted, else the lifting. A lifting names what it lifts; an old one lifts everything.
    """
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    lifted: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in journal.entries(LATCH):
        place = entry.body["scope"], entry.body["subject"]
        holding = found.setdefault(place, {})
        if entry.body["engaged"]:
            holding[entry.sequence] = entry.body
            continue
        lifted[place] = entry.body
        for number in entry.body.get("lifts", list(holding)):
            holding.pop(number, None)
    return {place: next(reversed(holding.values()), lifted.get(place, {})) for place, holding in found.items()}


def standing(journal: Ledger, after: int = 0) -> dict[str, dict[str, Any]]:
    """How each order stands, by client order id: its final entry if there is one, else the newest."""
    newest: dict[str, dict[str, Any]] = {}
    for order in bodies(journal, ORDER, after):
        if newest.get(order["client_order_id"], {}).get("status") not in FINAL_STATUSES:
            newest[order["client_order_id"]] = order
    return newest


def standing_of(journal: Ledger, client_order_id: str) -> dict[str, Any] | None:
    """How one order stands, without reading all of them: its final entry, else its newest, else None."""
    found = [journal.get(f"order:{client_order_id}:{status}") for status in sorted(ORDER_STATUSES)]
    there = sorted((entry for entry in found if entry is not None), key=lambda entry: entry.sequence)
    final = [entry for entry in there if entry.body["status"] in FINAL_STATUSES]
    return (final or there)[-1].body if there else None


def working(journal: Ledger) -> list[dict[str, Any]]:
    """Intents whose order rests at the venue, as far as the journal knows."""
    stand = standing(journal)
    return [
        intent
        for intent in intents(journal)
        if stand.get(intent["client_order_id"], {}).get("status") in WORKING_STATUSES
    ]


def incomplete(journal: Ledger) -> list[dict[str, Any]]:
    """Final orders of which the fills do not add up to what the venue called filled: some are told late, or never."""
    mark, after = _mark(journal)
    early = [fill for name in (*mark["open"], *mark["incomplete"]) for fill in journal.starting(f"fill:{name}:")]
    filled: dict[str, Decimal] = {}
    for fill in (*(one for one in early if one.sequence <= after), *journal.entries(FILL, after)):
        name = fill.body["client_order_id"]
        filled[name] = filled.get(name, Decimal(0)) + Decimal(repr(fill.body["quantity"]))
    known = (standing_of(journal, name) for name in mark["incomplete"])
    told = [*(order for order in known if order is not None), *bodies(journal, ORDER, after)]
    final = [order for order in told if order["status"] in FINAL_STATUSES and order["quantity"]]
    return [one for one in final if not accounts_for(filled.get(one["client_order_id"], Decimal(0)), one["quantity"])]


def accounts_for(traded: Decimal | float, quantity: float) -> bool:
    """Whether trades of `traded` units are all of a `quantity`, but for the last digits that adding up floats costs."""
    return abs(float(traded)) >= abs(quantity) * (1.0 - 1e-9)


def unresolved(journal: Ledger) -> list[dict[str, Any]]:
    """Intents whose outcome is not final: sent or not, filled or not, nobody wrote it down. Ask the venue."""
    mark, after = _mark(journal)
    told = bodies(journal, ORDER, after)
    final = {order["client_order_id"] for order in told if order["status"] in FINAL_STATUSES}
    return [one for one in _intents_since(journal, mark["open"], after) if one["client_order_id"] not in final]


def grouped(journal: Ledger, groups: Collection[str]) -> list[dict[str, Any]]:
    """The intents of groups of which something is still `unresolved`, all of them: final ones too."""
    if not groups:
        return []
    mark, after = _mark(journal)
    return [one for one in _intents_since(journal, mark["members"], after) if one.get("group") in groups]


def open_instructions(journal: Ledger) -> list[Entry]:
    """The instructions that are worked by a ticket and have no `ending`, oldest first."""
    mark, after = _mark(journal)
    over = {entry_key(INSTRUCTION, body) for body in bodies(journal, ENDING, after)}
    kept = (journal.get(key) for key in mark["tickets"])
    found = {entry.key: entry for entry in (*kept, *journal.entries(INSTRUCTION, after)) if entry is not None}
    return [entry for key, entry in found.items() if "ticket" in entry.body and key not in over]


def bar_count(journal: Ledger) -> int:
    """How many bars were journalled; without a checkpoint the index is counted, and no entry is read."""
    mark, after = _mark(journal)
    return int(mark["bars"]) + len(bodies(journal, BAR, after)) if after else journal.count(BAR)


def checkpoint(journal: Ledger) -> dict[str, Any]:
    """The body of a checkpoint of everything up to now. Nobody may write the journal meanwhile."""
    left = unresolved(journal)
    groups = {one["group"] for one in left if one.get("group") is not None}
    return {
        "after": journal.head()[0],
        "bars": bar_count(journal),
        "open": [one["client_order_id"] for one in left],
        "members": [one["client_order_id"] for one in grouped(journal, groups)],
        "incomplete": list(dict.fromkeys(one["client_order_id"] for one in incomplete(journal))),
        "tickets": [entry.key for entry in open_instructions(journal)],
    }


def _mark(journal: Ledger) -> tuple[Mapping[str, Any], int]:
    """The newest checkpoint and the sequence up to which it tells."""
    entry = journal.last(CHECKPOINT)
    return (_NO_MARK, 0) if entry is None else (entry.body, int(entry.body["after"]))


def _intents_since(journal: Ledger, names: Iterable[str], after: int) -> list[dict[str, Any]]:
    """These intents and all after a sequence, each once."""
    kept = (journal.get(f"intent:{name}") for name in names)
    told = (entry.body for entry in (*kept, *journal.entries(INTENT, after)) if entry is not None)
    return list({body["client_order_id"]: body for body in told}.values())
