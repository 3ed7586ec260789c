"""What the runner must know of each exchange: hosts, options, names of parameters, and what its error codes prove.

Everything that differs between Binance, Kraken and Bitget spot is stated here once, as data where that is enough and
as three short classes where it is not. The rest of the runner asks a `Dialect` and reads ccxt's unified structures.

**Codes decide, not ccxt's classes.** ccxt maps an error by the host's table, and that differs between paper and live;
so every reply is read again from its own body: `Dialect.read` finds code and message, `Dialect.verdict` says what they
prove. A code that is not listed here proves nothing.

Sources: the exchanges' own API documentation (Binance spot REST "Error codes"; Kraken "Spot REST" and "Client order
identifiers"; Bitget "Spot" and "RestAPI error codes") and ccxt 4.5.90, the client that is used.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from tradelib.errors import RunnerError

__all__ = [
    "DIALECTS",
    "BinanceDialect",
    "BitgetDialect",
    "Dialect",
    "KrakenDialect",
    "OrderKind",
    "Placement",
    "VenueReply",
    "Verdict",
    "dialect_of",
]

OrderKind = Literal["market", "limit", "stop", "stop_limit", "take_profit"]
Code = int | str
Structure = dict[str, Any]
"""A unified structure of ccxt."""

MARKET_COLLAR = Decimal("0.01")
"""How far above the ask a buy may go that stands in for a market order, as a fraction of the ask."""


class Verdict(StrEnum):
    """What an error reply of the venue proves about the request that it answers."""

    REFUSED = "refused"
    """The request had no effect, and the same one would be refused again."""
    KEY = "key"
    """As REFUSED: key, signature or permission is not accepted."""
    CLOCK = "clock"
    """The request had no effect because of its timestamp: correct the clock, then send again."""
    NONCE = "nonce"
    """A number that was used already: refused, but a copy of the same request may have been taken. Ask."""
    DUPLICATE = "duplicate"
    """The client order id is in use: an earlier attempt has arrived. Ask."""
    ABSENT = "absent"
    """The venue knows no such (open) order."""
    BUSY = "busy"
    """Too many requests, or banned: nothing is proved; wait before asking."""
    UNKNOWN = "unknown"
    """Nothing is proved."""


class VenueReply(NamedTuple):
    """What the venue itself said in an error reply; `code` and `message` are None where its body proves nothing."""

    status: int
    code: Code | None
    message: str | None
    retry_after: float | None


@dataclass(frozen=True)
class Placement:
    """An order as it shall reach the venue. Amounts and prices are exact; `price` is the limit, None for market orders.

    worst_price: for a market order, the price that a buy must not exceed (a sell not fall below); used only where the
    venue takes no market buy by base quantity (Bitget).
    """

    symbol: str
    side: Literal["buy", "sell"]
    kind: OrderKind
    quantity: Decimal
    client_order_id: str
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: Literal["GTC", "IOC", "FOK"] | None = None
    post_only: bool = False
    worst_price: Decimal | None = None


@dataclass(frozen=True)
class Dialect(ABC):
    """One exchange as the runner must know it; `dialect_of` gives the right one. Subclasses hold what is not data."""

    name: str
    rest_hosts: frozenset[str]
    """Hosts that its documentation names for REST in production; live mode reaches these only."""
    stream_hosts: frozenset[str]
    """The same for WebSocket."""
    options: Mapping[str, Any]
    """ccxt options that bring `load_markets` down to what a spot runner needs."""
    order_kinds: frozenset[OrderKind]
    """Kinds that the venue itself holds under the one client order id they were sent with; the others are emulated."""
    maximum_bars: int
    """Most bars that one `fetch_ohlcv` may ask for; ccxt skips bars on Bitget when it is asked for more."""
    holds_oco: bool = False
    """Whether `place_oco` exists: two orders of which one cancels the other at the venue."""
    dead_man_switch: bool = False
    """Whether the venue cancels all orders by itself when it is not told otherwise in time (`keep_alive`)."""
    needs_passphrase: bool = False
    serial: bool = False
    """Private requests must reach the venue in the order of their nonces: one at a time."""
    market_buy_by_cost: bool = False
    """A market buy names what it spends, not what it buys: `place` sends a limit order that fills at once instead."""
    omits_empty_balances: bool = False
    """An asset that is not held is left out of the balances, which then list at least one other."""
    bar_unit_ms: int = 1
    """Unit in which the venue counts the time that bars are asked from: a finer time is rounded up to it."""
    mixes_timeframes: bool = False
    """ccxt tells the candle streams of one market apart by nothing: see `tradelib.live.connection`."""
    clock_margin: float = 1.0
    """Seconds by which a request's timestamp may be ahead of the venue's clock."""

    # Errors

    @abstractmethod
    def read(self, said: Any) -> tuple[Code | None, str | None]:
        """Code and message in the parsed body of a reply; both None where there is no error of this venue in it."""

    def verdict(self, reply: VenueReply | None) -> Verdict:
        """What `reply` proves; UNKNOWN for no reply, for 5xx, for redirects and for codes that are not listed."""
        if reply is None or reply.status >= 500 or 300 <= reply.status < 400:
            return Verdict.UNKNOWN
        if reply.status in (418, 429):
            return Verdict.BUSY
        return Verdict.UNKNOWN if reply.code is None else self._proof(reply.code, reply.message or "")

    @abstractmethod
    def _proof(self, code: Code, message: str) -> Verdict: ...

    # Orders

    def wire_id(self, client_order_id: str) -> str:
        """The client order id as this venue takes it; `RunnerError` for one that it would refuse."""
        if not _CLIENT_ID.fullmatch(client_order_id):
            raise RunnerError(f"client order id {client_order_id!r} is not 1 to 36 of A-Z a-z 0-9 _ -")
        return client_order_id

    def home_id(self, wire_id: str | None) -> str | None:
        """The runner's client order id behind one that the venue showed; foreign ids stay as they are."""
        return wire_id

    async def place(self, client: Any, order: Placement, window_ms: int) -> Structure:
        """Send one order; ccxt's structure, with `clientOrderId` only where the venue's reply itself names it.

        After `window_ms` a late copy of the request is refused by the venue. A structure whose `status` is None
        acknowledges the order and says nothing of its fills: ask with `find`. Raises whatever the client raises.
        """
        self._check_kind(order)
        kind, parameters = _ccxt_terms(order)
        parameters |= self._place_parameters(client, order, window_ms)
        amount, price = format(order.quantity, "f"), _text(order.price)
        return self.named(await client.create_order(order.symbol, kind, order.side, amount, price, parameters))

    async def place_oco(self, client: Any, limit: Placement, stop: Placement, list_id: str) -> list[Structure]:
        """Send a limit and a stop of which the one that acts first cancels the other; one structure for each."""
        raise RunnerError(f"{self.name} holds no OCO orders: emulate them")

    @abstractmethod
    async def find(self, client: Any, symbol: str, client_order_id: str, since: int | None = None) -> Structure | None:
        """The order with this client order id, or None when the venue says that it knows none.

        since: a time of the venue's clock (epoch ms) before which the order cannot have been placed, such as the open
        of the bar it was decided on. It bounds the search where the venue has to be asked for lists.
        """

    async def cancel(self, client: Any, symbol: str, client_order_id: str) -> None:
        """Ask the venue to cancel. Returning means that it took the request, not that the order is gone: `find` it."""
        await client.cancel_order(None, symbol, {"clientOrderId": self.wire_id(client_order_id)})

    @abstractmethod
    async def open_orders(self, client: Any, symbol: str) -> list[Structure]:
        """Everything that rests in this market, also orders that are not the runner's.

        ccxt reads an answer without orders as "none"; here, and in `find` and `fills`, only a list is an answer, and
        anything else raises `ConnectionError`.
        """

    @abstractmethod
    async def fills(
        self, client: Any, symbol: str, *, order_id: str | None = None, since: int | None = None
    ) -> list[Structure]:
        """ccxt trade structures of one order, or of everything since (epoch ms), oldest first."""

    async def keep_alive(self, client: Any, timeout_ms: int) -> None:
        """Arm the dead-man switch: the venue cancels all orders in `timeout_ms` unless called again; 0 disarms it."""
        if not self.dead_man_switch:
            raise RunnerError(f"{self.name} has no dead-man switch for spot orders")
        await client.cancel_all_orders_after(timeout_ms)

    def named(self, order: Structure) -> Structure:
        """An order structure of the client (REST or stream) under the runner's client order id."""
        return {**order, "clientOrderId": self.home_id(order.get("clientOrderId"))}

    @abstractmethod
    def _place_parameters(self, client: Any, order: Placement, window_ms: int) -> dict[str, Any]: ...

    def _check_kind(self, order: Placement) -> None:
        if order.kind not in self.order_kinds:
            held = ", ".join(sorted(self.order_kinds))
            raise RunnerError(f"{self.name} holds no {order.kind} orders, only {held}: emulate it")


@dataclass(frozen=True)
class BinanceDialect(Dialect):
    """Binance spot: numeric codes, `newClientOrderId` unique among open orders only."""

    def read(self, said: Any) -> tuple[Code | None, str | None]:
        """`{"code": -2010, "msg": "..."}`."""
        code = said.get("code") if isinstance(said, dict) else None
        known = isinstance(code, int) and not isinstance(code, bool)
        return (code, str(said.get("msg", ""))) if known else (None, None)

    def _proof(self, code: Code, message: str) -> Verdict:
        if code == -2010 and "duplicate order" in message.lower():
            return Verdict.DUPLICATE
        if isinstance(code, int) and -1199 <= code <= -1100:
            return Verdict.REFUSED
        return _BINANCE.get(code, Verdict.UNKNOWN)

    def _place_parameters(self, client: Any, order: Placement, window_ms: int) -> dict[str, Any]:
        return {"newClientOrderId": self.wire_id(order.client_order_id)}

    async def place_oco(self, client: Any, limit: Placement, stop: Placement, list_id: str) -> list[Structure]:
        """Order list of a limit maker and a stop-loss (or its limit form), on the two sides of the market."""
        upper, lower = (limit, stop) if limit.side == "sell" else (stop, limit)
        market = client.market(limit.symbol)
        request = {"symbol": market["id"], "side": limit.side.upper(), "quantity": format(limit.quantity, "f")}
        legs = {**_binance_leg("above", upper), **_binance_leg("below", lower)}
        said = await client.privatePostOrderListOco({**request, "listClientOrderId": list_id, **legs})
        return [self.named(client.parse_order(report, market)) for report in said["orderReports"]]

    async def find(self, client: Any, symbol: str, client_order_id: str, since: int | None = None) -> Structure | None:
        """`GET /api/v3/order` by `origClientOrderId`; -2013 says that there is none."""
        name = {"origClientOrderId": self.wire_id(client_order_id)}
        try:
            return self.named(await client.fetch_order(None, symbol, name))
        except Exception as error:  # the verdict on the venue's own code decides, not ccxt's class
            if self.verdict(getattr(error, "venue_reply", None)) is Verdict.ABSENT:
                return None
            raise

    async def fills(
        self, client: Any, symbol: str, *, order_id: str | None = None, since: int | None = None
    ) -> list[Structure]:
        """`GET /api/v3/myTrades`."""
        market, rows = client.market(symbol), list[Any]()
        which: dict[str, Any] = _given(orderId=order_id, startTime=since)
        while True:
            request = {"symbol": market["id"], "limit": 1000, **which}
            page = _told(await client.privateGetMyTrades(request), list)
            rows.extend(page)
            if len(page) < 1000:
                break
            which = _given(orderId=order_id, fromId=int(page[-1]["id"]) + 1)
        return _in_sequence([client.parse_trade(row, market) for row in rows])

    async def open_orders(self, client: Any, symbol: str) -> list[Structure]:
        """`GET /api/v3/openOrders`."""
        market = client.market(symbol)
        rows = _told(await client.privateGetOpenOrders({"symbol": market["id"]}), list)
        return [self.named(client.parse_order(row, market)) for row in rows]


@dataclass(frozen=True)
class KrakenDialect(Dialect):
    """Kraken spot: errors are words in a 200 reply, nonces rise strictly, `cl_ord_id` is a UUID of 32 hex digits."""

    def read(self, said: Any) -> tuple[Code | None, str | None]:
        """`{"error": ["EOrder:Insufficient funds"]}`: the first word is the code, all of them the message."""
        errors = said.get("error") if isinstance(said, dict) else None
        words = [word for word in errors if isinstance(word, str)] if isinstance(errors, list) else []
        return (words[0], "; ".join(words)) if words else (None, None)

    def _proof(self, code: Code, message: str) -> Verdict:
        found = (verdict for start, verdict in _KRAKEN.items() if str(code).startswith(start))
        return next(found, Verdict.UNKNOWN)

    def wire_id(self, client_order_id: str) -> str:
        """The 32 hex digits behind the runner's `tl-`: Kraken takes UUIDs, or free text of at most 18 characters."""
        digits = client_order_id.removeprefix(_HOME)
        if _UUID.fullmatch(digits) or (client_order_id == digits and _SHORT.fullmatch(digits)):
            return digits
        raise RunnerError(
            f"client order id {client_order_id!r} is not one for kraken: 32 hex digits, or at most 18 characters"
        )

    def home_id(self, wire_id: str | None) -> str | None:
        """`tl-` and the 32 digits; a userref or anybody else's id stays as it is."""
        return _HOME + wire_id if wire_id is not None and _UUID.fullmatch(wire_id) else wire_id

    def named(self, order: Structure) -> Structure:
        """ccxt's streams name Kraken's `order_userref` as client order id; the true one is in the raw message."""
        info = order.get("info")
        name = info.get("cl_ord_id") if isinstance(info, dict) else None
        return {**order, "clientOrderId": self.home_id(name or order.get("clientOrderId"))}

    def _place_parameters(self, client: Any, order: Placement, window_ms: int) -> dict[str, Any]:
        """`deadline`: the matching engine refuses the order afterwards. `fciq`: the fee is in quote currency."""
        until = datetime.fromtimestamp(client.nonce() / 1000, UTC) + timedelta(milliseconds=window_ms)
        deadline = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"clientOrderId": self.wire_id(order.client_order_id), "deadline": deadline, "oflags": "fciq"}

    async def find(self, client: Any, symbol: str, client_order_id: str, since: int | None = None) -> Structure | None:
        """OpenOrders, then ClosedOrders by `cl_ord_id`: an order only ever moves from the first to the second.

        ccxt's `fetch_order` sends a client order id as `userref`, and QueryOrders takes none.
        """
        name = {"cl_ord_id": self.wire_id(client_order_id), "trades": "true"}
        for ask, part in ((client.privatePostOpenOrders, "open"), (client.privatePostClosedOrders, "closed")):
            found = self._orders(client, await ask(name), part)
            found = [order for order in found if order["clientOrderId"] == client_order_id]
            if found:
                return max(found, key=lambda order: order.get("timestamp") or 0)
        return None

    async def open_orders(self, client: Any, symbol: str) -> list[Structure]:
        """OpenOrders, of one market."""
        found = self._orders(client, await client.privatePostOpenOrders({"trades": "true"}), "open")
        return [order for order in found if order["symbol"] == symbol]

    def _orders(self, client: Any, said: Any, part: str) -> list[Structure]:
        rows = _told(said, dict, "result", part)
        return [self.named(client.parse_order({**row, "id": name})) for name, row in rows.items()]

    async def cancel(self, client: Any, symbol: str, client_order_id: str) -> None:
        """CancelOrder by `cl_ord_id`; ccxt's `cancel_order` would hide the venue's own words about an unknown order."""
        await client.privatePostCancelOrder({"cl_ord_id": self.wire_id(client_order_id)})

    async def fills(
        self, client: Any, symbol: str, *, order_id: str | None = None, since: int | None = None
    ) -> list[Structure]:
        """QueryTrades of the ids that QueryOrders names; TradesHistory, which pages newest first, for a time."""
        if order_id is None:
            rows = await self._history(client, since)
        else:
            said = await client.privatePostQueryOrders({"txid": order_id, "trades": "true"})
            names = _told(said, dict, "result", order_id).get("trades") or []
            asked = await client.privatePostQueryTrades({"txid": ",".join(names)}) if names else {"result": {}}
            rows = _told(asked, dict, "result")
        trades = [client.parse_trade({**row, "id": name}) for name, row in rows.items()]
        wanted = [trade for trade in trades if trade["symbol"] == symbol]
        return _in_sequence([trade for trade in wanted if since is None or trade["timestamp"] >= since])

    async def _history(self, client: Any, since: int | None) -> dict[str, Any]:
        """Every page of TradesHistory, 50 trades each; `start` is exclusive and counts seconds."""
        request: dict[str, Any] = _given(start=None if since is None else since // 1000 - 1)
        rows: dict[str, Any] = {}
        while True:
            page = _told(await client.privatePostTradesHistory({**request, "ofs": len(rows)}), dict, "result", "trades")
            fresh = {name: row for name, row in page.items() if name not in rows}
            rows |= fresh
            if len(page) < 50 or not fresh:
                return rows


@dataclass(frozen=True)
class BitgetDialect(Dialect):
    """Bitget spot (classic account): codes are texts, a market buy is sized in quote currency, plans have other ids."""

    def read(self, said: Any) -> tuple[Code | None, str | None]:
        """`{"code": "43012", "msg": "..."}`; "00000" is success."""
        code = said.get("code") if isinstance(said, dict) else None
        return (code, str(said.get("msg", ""))) if isinstance(code, str) and code != "00000" else (None, None)

    def _proof(self, code: Code, message: str) -> Verdict:
        return _BITGET.get(str(code), Verdict.UNKNOWN)

    async def place(self, client: Any, order: Placement, window_ms: int) -> Structure:
        """A market buy goes out as a limit order that fills at once or not at all, because only it names a quantity."""
        if order.kind == "market" and order.side == "buy":
            price = order.worst_price or await _collared_ask(client, order.symbol)
            order = replace(order, kind="limit", price=price, time_in_force="IOC")
        return await super().place(client, order, window_ms)

    def _place_parameters(self, client: Any, order: Placement, window_ms: int) -> dict[str, Any]:
        window = {"requestTime": str(client.nonce()), "receiveWindow": str(window_ms)}
        return {"clientOrderId": self.wire_id(order.client_order_id), **window}

    async def find(self, client: Any, symbol: str, client_order_id: str, since: int | None = None) -> Structure | None:
        """`orderInfo` by `clientOid`, which is documented for orders without fills only; then the lists.

        Open orders before history: an order only ever moves from the first to the second.
        """
        market, wanted = client.market(symbol), self.wire_id(client_order_id)
        rows = await self._order_info(client, {"symbol": market["id"], "clientOid": wanted})
        if not rows:
            said = await client.privateSpotGetV2SpotTradeUnfilledOrders({"symbol": market["id"]})
            rows = _with_name(_rows(said), wanted) or await self._history(client, market["id"], wanted, since)
        if rows and "priceAvg" in rows[0] and "basePrice" in rows[0]:
            rows = await self._order_info(client, {"symbol": market["id"], "orderId": rows[0]["orderId"]})
        return self.named(client.parse_order(rows[0], market)) if rows else None

    async def _order_info(self, client: Any, which: dict[str, Any]) -> list[Any]:
        try:
            return _rows(await client.privateSpotGetV2SpotTradeOrderInfo(which))
        except Exception as error:  # the verdict on the venue's own code decides, not ccxt's class
            if self.verdict(getattr(error, "venue_reply", None)) is Verdict.ABSENT:
                return []
            raise

    async def _history(self, client: Any, market: str, wanted: str, since: int | None) -> list[Any]:
        """The row of history with this name; every page is read, or nothing is proved (`RunnerError`)."""
        request: dict[str, Any] = {"symbol": market, "limit": _BITGET_PAGE, **_given(startTime=since)}
        for _ in range(_BITGET_PAGES):
            rows = _rows(await client.privateSpotGetV2SpotTradeHistoryOrders(request))
            found = _with_name(rows, wanted)
            if found or len(rows) < _BITGET_PAGE:
                return found
            request["idLessThan"] = rows[-1]["orderId"]
        raise RunnerError(f"bitget lists more than {_BITGET_PAGES * _BITGET_PAGE} orders: give a later `since`")

    async def fills(
        self, client: Any, symbol: str, *, order_id: str | None = None, since: int | None = None
    ) -> list[Structure]:
        """`GET /api/v2/spot/trade/fills`."""
        market, rows = client.market(symbol), list[Any]()
        request: dict[str, Any] = {"symbol": market["id"], "limit": _BITGET_PAGE}
        request |= _given(orderId=order_id, startTime=since)
        while True:
            page = _rows(await client.privateSpotGetV2SpotTradeFills(request))
            rows.extend(page)
            if len(page) < _BITGET_PAGE:
                return _in_sequence([client.parse_trade(row, market) for row in rows])
            request["idLessThan"] = page[-1]["tradeId"]

    async def open_orders(self, client: Any, symbol: str) -> list[Structure]:
        """`GET /api/v2/spot/trade/unfilled-orders`."""
        market = client.market(symbol)
        rows = _rows(await client.privateSpotGetV2SpotTradeUnfilledOrders({"symbol": market["id"]}))
        return [self.named(client.parse_order(row, market)) for row in rows]


def dialect_of(exchange: str) -> Dialect:
    """The dialect of an exchange by its ccxt name; `RunnerError` for one that is not supported."""
    if exchange not in DIALECTS:
        raise RunnerError(f"exchange {exchange!r} is not supported: use one of {', '.join(sorted(DIALECTS))}")
    return DIALECTS[exchange]


def _ccxt_terms(order: Placement) -> tuple[str, dict[str, Any]]:
    """ccxt's order type and unified parameters."""
    parameters: dict[str, Any] = {}
    if order.kind in ("stop", "stop_limit"):
        parameters["stopLossPrice"] = _text(order.stop_price)
    if order.kind == "take_profit":
        parameters["takeProfitPrice"] = _text(order.stop_price)
    if order.time_in_force is not None:
        parameters["timeInForce"] = order.time_in_force
    if order.post_only:
        parameters["postOnly"] = True
    return "limit" if order.kind in ("limit", "stop_limit") else "market", parameters


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _binance_leg(place: str, order: Placement) -> dict[str, Any]:
    """One leg of an order list; `place` is "above" or "below"."""
    kinds = {"limit": "LIMIT_MAKER", "stop": "STOP_LOSS", "stop_limit": "STOP_LOSS_LIMIT"}
    leg = {"Type": kinds[order.kind], "ClientOrderId": order.client_order_id}
    leg |= {} if order.price is None else {"Price": format(order.price, "f")}
    leg |= {} if order.stop_price is None else {"StopPrice": format(order.stop_price, "f")}
    leg |= {"TimeInForce": order.time_in_force or "GTC"} if order.kind == "stop_limit" else {}
    return {place + name: value for name, value in leg.items()}


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def _told(said: Any, kind: type, *path: str) -> Any:
    """The part of a reply at `path`; `ConnectionError` where there is none of that kind: then nothing was said."""
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    if not isinstance(said, kind):
        raise ConnectionError(f"the venue's reply has no {kind.__name__} at {'.'.join(path) or 'its top'}")
    return said


def _rows(said: Any) -> list[Any]:
    """The rows of a Bitget reply."""
    rows: list[Any] = _told(said, list, "data")
    return rows


def _in_sequence(trades: list[Structure]) -> list[Structure]:
    """Oldest first."""
    return sorted(trades, key=lambda trade: (trade["timestamp"], str(trade["id"]).zfill(20)))


def _with_name(rows: list[Any], wanted: str) -> list[Any]:
    return [row for row in rows if row.get("clientOid") == wanted]


async def _collared_ask(client: Any, symbol: str) -> Decimal:
    """The price that a marketable buy may reach: the venue's ask and `MARKET_COLLAR`."""
    ask = (await client.fetch_ticker(symbol)).get("ask")
    if not isinstance(ask, int | float) or not ask > 0:
        raise RunnerError(f"the venue names no ask for {symbol}: a market buy cannot be bounded there")
    return Decimal(repr(ask)) * (1 + MARKET_COLLAR)


_HOME = "tl-"
_BITGET_PAGE, _BITGET_PAGES = 100, 20
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_UUID = re.compile(r"[0-9a-f]{32}")
_SHORT = re.compile(r"[A-Za-z0-9_-]{1,18}")

_BINANCE: dict[Code, Verdict] = {
    **dict.fromkeys((-1002, -1022, -2014, -2015), Verdict.KEY),
    **dict.fromkeys((-1013, -1014, -1020, -2010), Verdict.REFUSED),
    -1021: Verdict.CLOCK,
    -2011: Verdict.ABSENT,
    -2013: Verdict.ABSENT,
}
"""Besides these, -1100 to -1199 are faults of the request itself."""

_KRAKEN: dict[str, Verdict] = {
    "EAPI:Invalid nonce": Verdict.NONCE,
    "EAPI:Rate limit exceeded": Verdict.BUSY,
    "EOrder:Rate limit exceeded": Verdict.BUSY,
    "EGeneral:Too many requests": Verdict.BUSY,
    "EGeneral:Temporary lockout": Verdict.BUSY,
    "EAPI:Invalid key": Verdict.KEY,
    "EAPI:Invalid signature": Verdict.KEY,
    "EGeneral:Permission denied": Verdict.KEY,
    "EGeneral:Invalid arguments:cl_ord_id": Verdict.DUPLICATE,
    "EOrder:Duplicate": Verdict.DUPLICATE,
    "EOrder:Unknown order": Verdict.ABSENT,
    "EOrder:Invalid order": Verdict.ABSENT,
    **dict.fromkeys(
        (
            "EGeneral:Invalid arguments",
            "EGeneral:Unknown method",
            "EOrder:Cost minimum not met",
            "EOrder:Insufficient funds",
            "EOrder:Invalid price",
            "EOrder:Order minimum not met",
            "EOrder:Orders limit exceeded",
            "EOrder:Post only order",
            "EOrder:Tick size check failed",
            "EOrder:Trading agreement required",
            "EQuery:Invalid asset pair",
            "EQuery:Unknown asset pair",
            "EService:Market in cancel_only mode",
            "EService:Market in limit_only mode",
            "EService:Market in post_only mode",
        ),
        Verdict.REFUSED,
    ),
}
"""By how the code begins, the first that fits; what Kraken says in more words keeps its beginning."""

_BITGET: dict[Code, Verdict] = {
    **dict.fromkeys(
        ("40001", "40002", "40003", "40006", "40009", "40011", "40012", "40014", "40018", "40037"), Verdict.KEY
    ),
    **dict.fromkeys(("40004", "40005", "40008"), Verdict.CLOCK),
    **dict.fromkeys(("43001", "40768", "43004"), Verdict.ABSENT),
    **dict.fromkeys(("40786", "43118"), Verdict.DUPLICATE),
    **dict.fromkeys(("429", "30007", "40429"), Verdict.BUSY),
    **dict.fromkeys(
        (
            "40017",
            "40019",
            "40020",
            "40034",
            "40706",
            "40762",
            "40808",
            "41103",
            "43005",
            "43006",
            "43007",
            "43008",
            "43009",
            "43011",
            "43012",
            "45110",
            "45111",
            "45113",
            "45115",
        ),
        Verdict.REFUSED,
    ),
}

_BITGET_STREAMS = {"6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc", "1w": "1Wutc"}
"""Candle streams of days that begin at midnight UTC, as bars over REST do; ccxt asks for those of Hong Kong (UTC+8)."""

_MARKET_KINDS: frozenset[OrderKind] = frozenset({"market", "limit"})
_STOP_KINDS: frozenset[OrderKind] = _MARKET_KINDS | {"stop", "stop_limit", "take_profit"}

DIALECTS: dict[str, Dialect] = {
    "binance": BinanceDialect(
        name="binance",
        rest_hosts=frozenset(f"{name}.binance.com" for name in ("api", "dapi", "eapi", "fapi", "papi")),
        stream_hosts=frozenset(
            ("stream.binance.com", "ws-api.binance.com", "fstream.binance.com", "dstream.binance.com")
        ),
        options={"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
        order_kinds=_STOP_KINDS,
        maximum_bars=1000,
        holds_oco=True,
    ),
    "kraken": KrakenDialect(
        name="kraken",
        rest_hosts=frozenset({"api.kraken.com"}),
        stream_hosts=frozenset({"ws.kraken.com", "ws-auth.kraken.com"}),
        options={},
        order_kinds=_STOP_KINDS,
        maximum_bars=720,
        dead_man_switch=True,
        serial=True,
        omits_empty_balances=True,
        bar_unit_ms=1000,
        mixes_timeframes=True,
    ),
    "bitget": BitgetDialect(
        name="bitget",
        rest_hosts=frozenset({"api.bitget.com"}),
        stream_hosts=frozenset({"ws.bitget.com"}),
        options={"uta": False, "fetchMarkets": {"types": ["spot"]}, "timeframes": _BITGET_STREAMS},
        order_kinds=_MARKET_KINDS,
        maximum_bars=200,
        needs_passphrase=True,
        market_buy_by_cost=True,
        omits_empty_balances=True,
    ),
}
"""The exchanges that the runner can trade on, by their ccxt names."""
