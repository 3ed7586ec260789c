"""Trades of the venue, each counted once: read strictly, deduplicated by the venue's own trade id, durable.

A trade may be told many times: in the reply to the order, in a query, by a stream that was replayed, after a restart.
The journal's key (`fill:<client order id>:<trade id>`) lets it in once; the first telling stays. A trade that is told
after its order was called done is booked all the same: what was traded is the sum of the fills, not a status.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal

__all__ = ["FillBook", "VenueTrade", "iso_moment", "total"]

_REMEMBERED = 10_000
"""Orders whose venue number is kept in memory; of older ones the venue is asked."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class VenueTrade:
    """One trade of one order: signed `quantity`, `price` and `fee` in quote currency, `filled_at` the venue's time.

    fee is None where it was paid in a third currency; `fee_paid` always holds what was really paid, by currency, as
    decimal text. maker is None where the venue does not say.
    """

    client_order_id: str
    trade_id: str
    symbol: str
    quantity: float
    price: float
    fee: float | None
    fee_paid: tuple[tuple[str, str], ...]
    filled_at: str
    maker: bool | None = None
    venue_order_id: str | None = None

    @classmethod
    def read(cls, said: Any, client_order_id: str, symbol: str, *, order: Any = None) -> VenueTrade:
        """A trade structure of ccxt, part of the order structure `order` where the venue told it there.

        `RunnerError` for one that leaves out what must be known.
        """
        missing = [name for name in ("id", "amount", "price") if not isinstance(said, dict) or said.get(name) is None]
        side = None if missing else said.get("side") or (order or {}).get("side")
        moment = None if missing else said.get("timestamp") or (order or {}).get("timestamp")
        if missing or side not in ("buy", "sell") or moment is None:
            raise RunnerError(f"the venue told a trade of order {client_order_id} without {missing or 'side or time'}")
        price, paid = float(said["price"]), _fees(said)
        maker = said.get("takerOrMaker")
        return cls(
            client_order_id=client_order_id,
            trade_id=str(said["id"]),
            symbol=symbol,
            quantity=float(said["amount"]) * (1.0 if side == "buy" else -1.0),
            price=price,
            fee=_in_quote(paid, symbol, price),
            fee_paid=tuple((currency, format(Decimal(repr(cost)), "f")) for currency, cost in paid),
            filled_at=iso_moment(int(moment)),
            maker=None if maker not in ("maker", "taker") else maker == "maker",
            venue_order_id=_text(said.get("order")) or _text((order or {}).get("id")),
        )

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> VenueTrade:
        """The trade that a journal's entry was written from."""
        known: dict[str, Any] = {name: body.get(name) for name in cls.__dataclass_fields__}
        return cls(**(known | {"fee_paid": tuple(body["fee_paid"].items())}))

    @property
    def time_ms(self) -> int:
        """`filled_at` in epoch milliseconds."""
        return round((datetime.fromisoformat(self.filled_at) - _EPOCH) / timedelta(milliseconds=1))

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        return {**vars(self), "fee_paid": dict(self.fee_paid)}


class FillBook:
    """The fills of one journal. What is asked for often is kept in memory for the orders that are not done."""

    def __init__(self, log: Ledger) -> None:
        self.log = log
        self._known: dict[str, dict[str, VenueTrade]] = {}
        self._owners: dict[str, str] = {}
        self._read = 0

    def of(self, client_order_id: str) -> tuple[VenueTrade, ...]:
        """The trades of an order, in the order in which the venue made them."""
        return tuple(sorted(self._trades(client_order_id).values(), key=_sequence))

    def fresh(self, trades: Iterable[VenueTrade]) -> list[VenueTrade]:
        """Those that were never told before, each once."""
        found = {(trade.client_order_id, trade.trade_id): trade for trade in trades}
        return [trade for trade in found.values() if not self._has(trade)]

    def entries(self, trades: Sequence[VenueTrade]) -> list[tuple[str, dict[str, Any], str | None]]:
        """What to write into the journal for fresh trades; call `booked` when it is on the disk."""
        bodies = [trade.body() for trade in trades]
        return [(journal.FILL, body, journal.entry_key(journal.FILL, body)) for body in bodies]

    def booked(self, trades: Iterable[VenueTrade]) -> None:
        """Remember trades that are on the disk."""
        for trade in trades:
            self._trades(trade.client_order_id)[trade.trade_id] = trade

    def take(self, trades: Iterable[VenueTrade]) -> list[VenueTrade]:
        """Write the trades that were never told before; those."""
        fresh = self.fresh(trades)
        self.log.extend(self.entries(fresh))
        self.booked(fresh)
        return fresh

    def owner(self, venue_order_id: str) -> str | None:
        """The client order id behind the venue's number of an order that the journal has heard of."""
        if venue_order_id not in self._owners:
            head = self.log.head()[0]
            for kind in (journal.ORDER, journal.FILL) if head > self._read else ():
                for entry in self.log.entries(kind, self._read):
                    if entry.body["venue_order_id"] is not None:
                        self._owners[str(entry.body["venue_order_id"])] = entry.body["client_order_id"]
            self._read = head
            for oldest in list(self._owners)[:-_REMEMBERED]:
                del self._owners[oldest]
        return self._owners.get(venue_order_id)

    def forget(self, client_order_id: str) -> None:
        """Drop a finished order from memory; the journal still knows its trades."""
        self._known.pop(client_order_id, None)

    def _has(self, trade: VenueTrade) -> bool:
        return trade.trade_id in self._trades(trade.client_order_id)

    def _trades(self, client_order_id: str) -> dict[str, VenueTrade]:
        """The trades of an order by their ids, read from the journal when it is first asked for."""
        if client_order_id not in self._known:
            bodies = [entry.body for entry in self.log.starting(f"fill:{client_order_id}:")]
            self._known[client_order_id] = {body["trade_id"]: VenueTrade.from_body(body) for body in bodies}
        return self._known[client_order_id]


def total(trades: Iterable[VenueTrade]) -> Decimal:
    """Signed units traded, exactly."""
    return sum((Decimal(repr(trade.quantity)) for trade in trades), Decimal(0))


def iso_moment(milliseconds: int) -> str:
    """ISO-8601 UTC text of a time in epoch milliseconds."""
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()


def _sequence(trade: VenueTrade) -> tuple[str, int, str]:
    return trade.filled_at, len(trade.trade_id), trade.trade_id


def _fees(said: dict[str, Any]) -> list[tuple[str, float]]:
    fees = said.get("fees") or [said.get("fee")]
    known = [fee for fee in fees if fee and fee.get("cost") is not None and fee.get("currency")]
    return [(str(fee["currency"]), float(fee["cost"])) for fee in known]


def _in_quote(paid: list[tuple[str, float]], symbol: str, price: float) -> float | None:
    """Fees in quote currency; one taken in the base asset is valued at the trade's price, any other is not known."""
    base, _, quote = symbol.partition("/")
    worth = {quote: 1.0, base: price}
    if not paid or any(currency not in worth for currency, _ in paid):
        return None
    return sum(cost * worth[currency] for currency, cost in paid)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
