"""Kraken spot's REST dialect over a `PaperExchange`: paths, signatures, nonces, error words and JSON shapes.

Source: Kraken's public Spot REST documentation (authentication, client order identifiers, error messages, the pages of
the endpoints); `ccxt.kraken` is the client it is read by.

**Errors** are words in a reply with status 200: `{"error": ["EOrder:Insufficient funds"]}`.

**Nonces** rise strictly per key (nonce window 0): a request that was overtaken, or is sent a second time, is refused.
There is no receive window; `deadline` of an order does what a window does elsewhere: the order is refused after it.
Both are checked against the real clock; market, order and trade times are in the exchange's simulated time.

**Client order ids** (`cl_ord_id`) are UUIDs of 32 hex digits, with hyphens or without, or free text of at most 18
characters; they are unique among the open orders of the account. OpenOrders and ClosedOrders look orders up by them,
QueryOrders does not.

**Names.** Kraken's own: BTC is `XXBT` and XBT, USD is `ZUSD`, BTC/USD is `XXBTZUSD`, BTC/USDT is `XBTUSDT`. Order ids
are the exchange's numbers in Kraken's dress (`OAAAAA-AAAAA-AAAAAB`).

Deviations, on purpose: numbers go out as the shortest decimal that reads back as the same float. Fees are taken where
the market says; `fciq` and `fcib` are accepted and change nothing. No margin, no conditional close, no GTD.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from tradelib.errors import VenueError
from tradelib.venue.dialect import Credentials, Reply, Request, Role, Route, StreamRoute
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.kraken_streams import KrakenStream, moment
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Fill, Kind, Kline, NewOrder, Order, Reason, Refusal, TimeInForce
from tradelib.venue.protocol import number

__all__ = ["KrakenDialect", "KrakenError", "names", "order_json", "order_name", "pair", "sign", "trade_json"]

MAXIMUM_BARS = 720
EVERYTHING = 2**62
PAGE = 50
LONGEST_DEADLINE = 60_000
TOKEN_SECONDS = 900

_ASSETS = {
    "BTC": ("XXBT", "XBT"),
    "DOGE": ("XXDG", "XDG"),
    "EUR": ("ZEUR", "EUR"),
    "ETH": ("XETH", "ETH"),
    "GBP": ("ZGBP", "GBP"),
    "LTC": ("XLTC", "LTC"),
    "USD": ("ZUSD", "USD"),
    "XLM": ("XXLM", "XLM"),
    "XMR": ("XXMR", "XMR"),
    "XRP": ("XXRP", "XRP"),
    "ZEC": ("XZEC", "ZEC"),
}
"""Assets whose Kraken id and altname differ from their common code; every other asset is called as it is."""

Choice = TypeVar("Choice")
Item = TypeVar("Item")

_UUID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FREE = re.compile(r"[\x21-\x7e]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")

_REFUSALS = {
    Reason.UNKNOWN_SYMBOL: "EQuery:Unknown asset pair",
    Reason.UNKNOWN_ORDER: "EOrder:Unknown order",
    Reason.NOT_OPEN: "EOrder:Unknown order",
    Reason.DUPLICATE: "EGeneral:Invalid arguments:cl_ord_id",
    Reason.LOT_SIZE: "EGeneral:Invalid arguments:volume",
    Reason.PRICE_FILTER: "EOrder:Tick size check failed",
    Reason.MINIMUM_NOTIONAL: "EOrder:Cost minimum not met",
    Reason.BALANCE: "EOrder:Insufficient funds",
    Reason.WOULD_TRIGGER: "EOrder:Invalid price",
    Reason.WOULD_TAKE: "EOrder:Post only order",
    Reason.OCO_PRICES: "EOrder:Invalid price",
    Reason.TOO_MANY_ORDERS: "EOrder:Orders limit exceeded",
    Reason.BAD_TERMS: "EGeneral:Invalid arguments",
    Reason.CANCEL_REJECTED: "EService:Unavailable",
}

_KINDS: dict[str, Kind] = {
    "market": "market",
    "limit": "limit",
    "stop-loss": "stop",
    "stop-loss-limit": "stop_limit",
    "take-profit": "take_profit",
    "take-profit-limit": "take_profit_limit",
}
_WORDS = {kind: word for word, kind in _KINDS.items()}
_STATUSES = {
    "NEW": "open",
    "PARTIALLY_FILLED": "open",
    "FILLED": "closed",
    "CANCELED": "canceled",
    "EXPIRED": "expired",
}


class KrakenError(Exception):
    """An error reply: Kraken's words."""


# Signed requests


def sign(secret: str, path: str, nonce: str, body: str) -> str:
    """`API-Sign`: base64 of HMAC-SHA512, keyed with the base64 secret, of path + SHA-256(nonce + body)."""
    digest = hashlib.sha256((nonce + body).encode("utf-8", "surrogateescape")).digest()
    return base64.b64encode(
        hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512).digest()
    ).decode()


def parameters(request: Request) -> dict[str, str]:
    """The fields of a form or of a JSON body, and of the query of a public request, as texts."""
    if request.body.startswith("{"):
        try:
            fields = json.loads(request.body)
        except ValueError:
            raise KrakenError("EGeneral:Invalid arguments") from None
        return {name: _plain(value) for name, value in fields.items()}
    return dict(parse_qsl(request.query if request.method == "GET" else request.body, keep_blank_values=True))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# Names


def names(asset: str) -> tuple[str, str]:
    """Kraken's id and altname of an asset: `("XXBT", "XBT")` for BTC."""
    return _ASSETS.get(asset, (asset, asset))


def pair(market: VenueMarket) -> tuple[str, str]:
    """Kraken's id and altname of a market: `("XXBTZUSD", "XBTUSD")` for BTC/USD, twice `"XBTUSDT"` for BTC/USDT."""
    (base, base_name), (quote, quote_name) = names(market.base), names(market.quote)
    name = base_name + quote_name
    return (base + quote if base != base_name and quote != quote_name else name, name)


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def dressed(letter: str, value: int) -> str:
    """A number as Kraken's ids look: `O` (order) or `T` (trade) and 15 letters that write it to the base of 32."""
    digits = ""
    for _ in range(15):
        value, digit = divmod(value, 32)
        digits = _ALPHABET[digit] + digits
    return f"{letter}{digits[:5]}-{digits[5:10]}-{digits[10:]}X"


def bare(letter: str, name: str) -> int:
    """The number that `dressed` wrote; -1 for any other text."""
    found = re.fullmatch(rf"{letter}([A-Z2-7]{{5}})-([A-Z2-7]{{5}})-([A-Z2-7]{{5}})X", name)
    value = 0
    for character in "".join(found.groups()) if found else "":
        value = value * 32 + _ALPHABET.index(character)
    return value if found else -1


def order_name(order: Order) -> str:
    """The transaction id of an order."""
    return dressed("O", order.order_id)


# Shapes


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def _description(order: Order, name: str) -> str:
    """`buy 0.1 LTCUSDT @ limit 50`, as AddOrder answers and every order carries it."""
    words = _WORDS[order.kind].replace("-limit", "").replace("-", " ")
    text = f"{_side(order)} {number(order.quantity)} {name} @ {words}"
    if order.stop_price is not None:
        text += f" {number(order.stop_price)}"
        return text if order.price is None else f"{text} -> limit {number(order.price)}"
    return text if order.price is None else f"{text} {number(order.price)}"


def _side(order: Order) -> str:
    return "buy" if order.side > 0 else "sell"


def order_json(order: Order, market: VenueMarket, *, trades: bool = False) -> dict[str, Any]:
    """One order of OpenOrders, ClosedOrders, QueryOrders."""
    name = pair(market)[1]
    first = order.stop_price if order.stop_price is not None else order.price
    second = order.price if order.stop_price is not None else None
    row: dict[str, Any] = {
        "refid": None,
        "userref": 0,
        "cl_ord_id": order.client_order_id,
        "status": _STATUSES[order.status],
        "opentm": _seconds(order.time),
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": name,
            "type": _side(order),
            "ordertype": _WORDS[order.kind],
            "price": number(first or 0.0),
            "price2": number(second or 0.0),
            "leverage": "none",
            "order": _description(order, name),
            "close": "",
        },
        "vol": number(order.quantity),
        "vol_exec": number(order.executed),
        "cost": number(order.cost),
        "fee": number(order.fee),
        "price": number(average(order)),
        "stopprice": "0",
        "limitprice": "0",
        "misc": "",
        "oflags": ",".join(_flags(order, market)),
    }
    if trades:
        row["trades"] = [dressed("T", fill.trade_id) for fill in order.fills]
    if not order.is_open:
        row |= {"closetm": _seconds(order.updated), "reason": _why(order)}
    return row


def average(order: Order) -> float:
    """Average fill price; the fill's own figure where there is one, 0 before the first."""
    if len(order.fills) == 1:
        return order.fills[0].price
    return order.cost / order.executed if order.fills else 0.0


def _flags(order: Order, market: VenueMarket) -> list[str]:
    in_base = market.fee_in == "received" and order.side > 0
    return [*(["post"] if order.post_only else []), "fcib" if in_base else "fciq"]


def _why(order: Order) -> str | None:
    return {"CANCELED": "User requested", "EXPIRED": "Order expired"}.get(order.status)


def trade_json(order: Order, fill: Fill, market: VenueMarket) -> dict[str, Any]:
    """One trade of QueryTrades and TradesHistory."""
    return {
        "ordertxid": order_name(order),
        "postxid": dressed("T", 0),
        "pair": pair(market)[0],
        "time": _seconds(fill.time),
        "type": _side(order),
        "ordertype": _WORDS[order.kind],
        "price": number(fill.price),
        "cost": number(fill.quantity * fill.price),
        "fee": number(fill.fee),
        "vol": number(fill.quantity),
        "margin": "0",
        "leverage": "0",
        "misc": "",
        "trade_id": fill.trade_id,
        "maker": fill.maker,
    }


def pair_json(market: VenueMarket, *, trading: bool) -> dict[str, Any]:
    """One market of AssetPairs."""
    (base, base_name), (quote, quote_name) = names(market.base), names(market.quote)
    return {
        "altname": pair(market)[1],
        "wsname": f"{base_name}/{quote_name}",
        "aclass_base": "currency",
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "cost_decimals": 8,
        "pair_decimals": market.price_decimals,
        "lot_decimals": _decimals(market.step_size),
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, float(Decimal(repr(market.fee_rate)) * 100)]],
        "fees_maker": [[0, float(Decimal(repr(market.terms.maker_rate)) * 100)]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": number(market.step_size),
        "costmin": number(market.minimum_notional),
        "tick_size": number(market.tick_size),
        "status": "online" if trading else "cancel_only",
    }


def _decimals(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def bar_json(bar: Kline) -> list[Any]:
    """One row of OHLC: open time in seconds, prices, a mean price that is not recorded, volume, number of trades."""
    row = bar.row
    return [bar.open_time // 1000, *map(number, row[:4]), number(row.close), number(row.volume), 0]


# The dialect


@dataclass
class _DeadMan:
    """When all orders are to be cancelled, in real epoch milliseconds; None while the switch is not armed."""

    at: int | None = None


class KrakenDialect:
    """Kraken's language over `exchange`; see the module. Raises `VenueError` for a secret that is not base64."""

    name = "kraken"

    def __init__(self, exchange: PaperExchange, credentials: Credentials) -> None:
        try:
            base64.b64decode(credentials.secret, validate=True)
        except (binascii.Error, ValueError):
            raise VenueError(
                "Kraken's secrets are base64: choose one with\n"
                "  python3 -c 'import base64, secrets; print(base64.b64encode(secrets.token_bytes(64)).decode())'"
            ) from None
        self.exchange = exchange
        self._credentials = credentials
        self._nonce = -1
        self._dead_man = _DeadMan()
        self._tokens: dict[str, int] = {}

    # What the server asks

    def routes(self) -> Sequence[Route]:
        """Public GET and private POST paths."""
        return [
            self._public("Time", "clock", self._time),
            self._public("SystemStatus", "clock", self._status),
            self._public("Assets", "market", self._assets),
            self._public("AssetPairs", "market", self._pairs),
            self._public("Ticker", "market", self._ticker),
            self._public("OHLC", "bars", self._bars),
            self._private("BalanceEx", "account", self._balances),
            self._private("GetWebSocketsToken", "account", self._token),
            self._private("AddOrder", "place", self._place),
            self._private("CancelOrder", "cancel", self._cancel),
            self._private("CancelAll", "cancel", self._cancel_all),
            self._private("CancelAllOrdersAfter", "cancel", self._cancel_after),
            self._private("QueryOrders", "query", self._query),
            self._private("OpenOrders", "query", self._open),
            self._private("ClosedOrders", "query", self._closed),
            self._private("QueryTrades", "trades", self._query_trades),
            self._private("TradesHistory", "trades", self._history),
        ]

    def streams(self) -> Sequence[StreamRoute]:
        """WebSocket v2; public and private streams have the same path, on two hosts in production."""
        return [StreamRoute("/v2", lambda _: self._stream())]

    def _stream(self) -> KrakenStream:
        return KrakenStream(self.exchange, self.is_token, order_name, lambda fill: dressed("T", fill.trade_id))

    def authenticate(self, request: Request) -> None:
        """Key, signature, nonce, in this order: a forged request must not use up a nonce."""
        if not hmac.compare_digest(_header(request, "API-Key").encode(), self._credentials.key.encode()):
            raise KrakenError("EAPI:Invalid key")
        nonce = parameters(request).get("nonce", "")
        expected = sign(self._credentials.secret, request.path, nonce, request.body)
        if not hmac.compare_digest(_header(request, "API-Sign").encode(), expected.encode()):
            raise KrakenError("EAPI:Invalid signature")
        if not re.fullmatch(r"[0-9]{1,20}", nonce) or int(nonce) <= self._nonce:
            raise KrakenError("EAPI:Invalid nonce")
        self._nonce = int(nonce)

    def refusal(self, error: Exception) -> Reply | None:
        """Words in a 200."""
        if isinstance(error, Refusal):
            return Reply({"error": [_REFUSALS[error.reason]]})
        return Reply({"error": [str(error)]}) if isinstance(error, KrakenError) else None

    def limited(self, retry_after: int, *, banned: bool) -> Reply:
        """Rate limit, or the lockout that follows."""
        return Reply({"error": ["EGeneral:Temporary lockout" if banned else "EAPI:Rate limit exceeded"]})

    def expire(self, now: int) -> None:
        """Pull the dead-man switch when its time (real epoch milliseconds) has come."""
        if self._dead_man.at is not None and now >= self._dead_man.at:
            self._dead_man.at = None
            self.exchange.cancel_all()

    def is_token(self, token: str, now: int) -> bool:
        """True for a WebSocket token of this venue in its 15 minutes."""
        return self._tokens.get(token, 0) > now

    def _public(self, path: str, role: Role, answer: Callable[[dict[str, str], Request], Any]) -> Route:
        return Route("GET", f"/0/public/{path}", role, self._answered(answer))

    def _private(self, path: str, role: Role, answer: Callable[[dict[str, str], Request], Any]) -> Route:
        orders = 1 if path == "AddOrder" else 0
        return Route("POST", f"/0/private/{path}", role, self._answered(answer), signed=True, orders=orders)

    def _answered(self, answer: Callable[[dict[str, str], Request], Any]) -> Callable[[Request], Any]:
        def handle(request: Request) -> Any:
            self.expire(request.now)
            return {"error": [], "result": answer(parameters(request), request)}

        return handle

    # Public

    def _time(self, _: dict[str, str], request: Request) -> Any:
        moment = datetime.fromtimestamp(request.now // 1000, UTC)
        return {"unixtime": request.now // 1000, "rfc1123": moment.strftime("%a, %d %b %y %H:%M:%S %z")}

    def _status(self, _: dict[str, str], request: Request) -> Any:
        return {"status": "online", "timestamp": moment(request.now)}

    def _assets(self, _: dict[str, str], __: Request) -> Any:
        shape = {"aclass": "currency", "decimals": 10, "display_decimals": 8, "status": "enabled"}
        return {names(asset)[0]: {**shape, "altname": names(asset)[1]} for asset in self.exchange.balances()}

    def _pairs(self, sent: dict[str, str], __: Request) -> Any:
        return {
            pair(market)[0]: pair_json(market, trading=self.exchange.is_trading(market.id))
            for market in self._wanted(sent)
        }

    def _ticker(self, sent: dict[str, str], __: Request) -> Any:
        return {pair(market)[0]: self._ticker_json(market) for market in self._wanted(sent)}

    def _ticker_json(self, market: VenueMarket) -> dict[str, Any]:
        bid, ask = map(number, self.exchange.quotes(market.id))
        last = number(self.exchange.last_price(market.id))
        day = [last, last]
        nothing = ["0", "0"]
        return {
            "a": [ask, "1", "1"],
            "b": [bid, "1", "1"],
            "c": [last, "0"],
            "v": nothing,
            "p": day,
            "t": [0, 0],
            "l": day,
            "h": day,
            "o": last,
        }

    def _bars(self, sent: dict[str, str], __: Request) -> Any:
        """The newest 720 of the bars that open after `since` (seconds, exclusive); the forming one is always there.

        ccxt asks from one interval before what it wants, so a clock of pace "poll" is moved by what lies one interval
        after `since`.
        """
        market = self._market(sent.get("pair", ""))
        tape = market.tape
        if sent.get("interval", "1") != format(tape.timeframe.milliseconds / 60_000, "g"):
            raise KrakenError("EGeneral:Invalid arguments:interval")
        since = 1000 * _integer(sent, "since") if "since" in sent else -tape.timeframe.milliseconds
        rows = self.exchange.klines(market.id, since + tape.timeframe.milliseconds, None, EVERYTHING)
        clock = self.exchange.clock
        first = rows[0].open_time if rows else clock + 1
        before = [tape.kline(i, clock) for i in tape.select(clock, since + 1, first - 1, EVERYTHING)]
        found = (before + rows)[-MAXIMUM_BARS:] or [tape.kline(i, clock) for i in tape.select(clock, None, None, 1)]
        shaped = [bar_json(bar) for bar in found]
        return {pair(market)[0]: shaped, "last": shaped[-2][0] if len(shaped) > 1 else 0}

    # Account

    def _balances(self, _: dict[str, str], __: Request) -> Any:
        """Only the assets that are held, as Kraken lists them."""
        return {
            names(asset)[0]: {"balance": number(free + locked), "hold_trade": number(locked)}
            for asset, (free, locked) in self.exchange.balances().items()
            if free + locked != 0.0
        }

    def _token(self, _: dict[str, str], request: Request) -> Any:
        text = f"{self._credentials.key} {request.now} {len(self._tokens)}"
        digest = hmac.new(base64.b64decode(self._credentials.secret), text.encode(), hashlib.sha256).digest()
        token = base64.b64encode(digest).decode()
        self._tokens[token] = request.now + TOKEN_SECONDS * 1000
        return {"token": token, "expires": TOKEN_SECONDS}

    # Orders

    def _place(self, sent: dict[str, str], request: Request) -> Any:
        market = self._market(sent.get("pair", ""))
        _check_deadline(sent.get("deadline"), request.now)
        new = _new_order(sent, market)
        if sent.get("validate") == "true":
            raise KrakenError("EGeneral:Invalid arguments:validate")
        order = self.exchange.place(new)
        return {"descr": {"order": _description(order, pair(market)[1])}, "txid": [order_name(order)]}

    def _cancel(self, sent: dict[str, str], __: Request) -> Any:
        order = self._resting(sent)
        self.exchange.cancel(order.symbol, order_id=order.order_id)
        return {"count": 1}

    def _cancel_all(self, _: dict[str, str], __: Request) -> Any:
        return {"count": len(self.exchange.cancel_all())}

    def _cancel_after(self, sent: dict[str, str], request: Request) -> Any:
        seconds = _integer(sent, "timeout")
        if seconds > 86_400:
            raise KrakenError("EGeneral:Invalid arguments:timeout")
        self._dead_man.at = request.now + 1000 * seconds if seconds else None
        return {"currentTime": moment(request.now), "triggerTime": moment(self._dead_man.at) if seconds else "0"}

    def _query(self, sent: dict[str, str], __: Request) -> Any:
        wanted = sent.get("txid", "")
        if not wanted:
            raise KrakenError("EGeneral:Invalid arguments:txid")
        with_trades = _flag(sent, "trades")
        found = {name: self._named(name) for name in wanted.split(",")}
        return {
            name: self._order_json(order, trades=with_trades)
            for name, order in found.items()
            if order is not None and "userref" not in sent
        }

    def _open(self, sent: dict[str, str], __: Request) -> Any:
        return {"open": self._rows(_having(sent, self.exchange.open_orders()), sent)}

    def _closed(self, sent: dict[str, str], __: Request) -> Any:
        done = [order for order in self.exchange.orders_of() if not order.is_open]
        orders = [order for order in _having(sent, done) if _within(sent, order.updated)]
        return {"closed": self._rows(_page(sent, orders), sent), "count": len(orders)}

    def _query_trades(self, sent: dict[str, str], __: Request) -> Any:
        wanted = sent.get("txid", "").split(",")
        trades = self._trades()
        return {name: trades[name] for name in wanted if name in trades}

    def _history(self, sent: dict[str, str], __: Request) -> Any:
        trades = [item for item in self._trades().items() if _within(sent, round(item[1]["time"] * 1000))][::-1]
        return {"trades": dict(_page(sent, trades)), "count": len(trades)}

    # What they share

    def _market(self, name: str) -> VenueMarket:
        for market in self.exchange.markets.values():
            if name in (*pair(market), market.symbol):
                return market
        raise Refusal(Reason.UNKNOWN_SYMBOL)

    def _wanted(self, sent: Mapping[str, str]) -> list[VenueMarket]:
        if "pair" not in sent:
            return list(self.exchange.markets.values())
        return [self._market(name) for name in sent["pair"].split(",")]

    def _order_json(self, order: Order, *, trades: bool) -> dict[str, Any]:
        return order_json(order, self.exchange.markets[order.symbol], trades=trades)

    def _rows(self, orders: Iterable[Order], sent: Mapping[str, str]) -> dict[str, Any]:
        trades = _flag(sent, "trades")
        return {order_name(order): self._order_json(order, trades=trades) for order in orders}

    def _named(self, name: str) -> Order | None:
        wanted = bare("O", name)
        return next((order for order in self.exchange.orders_of() if order.order_id == wanted), None)

    def _resting(self, sent: Mapping[str, str]) -> Order:
        """The open order that a cancel means, by `txid` or `cl_ord_id`."""
        name, client = sent.get("txid"), sent.get("cl_ord_id")
        if not name and not client:
            raise KrakenError("EGeneral:Invalid arguments:txid")
        for order in self.exchange.open_orders():
            if order_name(order) == name or order.client_order_id == client:
                return order
        raise Refusal(Reason.UNKNOWN_ORDER)

    def _trades(self) -> dict[str, dict[str, Any]]:
        return {
            dressed("T", fill.trade_id): trade_json(order, fill, self.exchange.markets[order.symbol])
            for order, fill in self.exchange.trades()
        }


def _new_order(sent: Mapping[str, str], market: VenueMarket) -> NewOrder:
    """The order that AddOrder's fields describe; `KrakenError` names the field that is wrong."""
    kind = _choice(sent, "ordertype", _KINDS)
    flags = set(filter(None, sent.get("oflags", "").split(",")))
    first, second = _price(sent, "price"), _price(sent, "price2")
    trigger, limit = (first, second) if kind not in ("market", "limit") else (None, first)
    by_cost = "viqc" in flags
    if sent.get("leverage", "none") != "none" or sent.get("close") or flags - {"post", "fcib", "fciq", "nompp", "viqc"}:
        raise KrakenError("EGeneral:Invalid arguments")
    volume = _price(sent, "volume")
    return NewOrder(
        symbol=market.id,
        side=_choice(sent, "type", {"buy": 1, "sell": -1}),
        kind=kind,
        quantity=None if by_cost else volume,
        quote_quantity=volume if by_cost else None,
        price=limit,
        stop_price=trigger,
        time_in_force=_choice({"timeinforce": "GTC", **sent}, "timeinforce", _FORCES),
        client_order_id=_client_id(sent),
        post_only="post" in flags,
        trigger_at_once=True,
    )


_FORCES: dict[str, TimeInForce] = {"GTC": "GTC", "IOC": "IOC", "FOK": "FOK"}


def _choice(sent: Mapping[str, str], name: str, values: Mapping[str, Choice]) -> Choice:
    """What the field `name` stands for in `values`."""
    if sent.get(name) not in values:
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return values[sent[name]]


def _price(sent: Mapping[str, str], name: str) -> Decimal | None:
    """An amount or a price; relative prices (`+`, `-`, `#`, `%`) are not served."""
    text = sent.get(name)
    if text is None:
        return None
    if not _DECIMAL.fullmatch(text):
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return Decimal(text)


def _integer(sent: Mapping[str, str], name: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}", sent.get(name, "")):
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return int(sent[name])


def _flag(sent: Mapping[str, str], name: str) -> bool:
    return sent.get(name, "").lower() == "true"


def _client_id(sent: Mapping[str, str]) -> str | None:
    name = sent.get("cl_ord_id")
    if name is not None and not (_UUID.fullmatch(name) or _FREE.fullmatch(name)):
        raise KrakenError("EGeneral:Invalid arguments:cl_ord_id")
    return name


def _check_deadline(text: str | None, now: int) -> None:
    """Refuse an order whose `deadline` (RFC 3339) has passed, or lies more than a minute ahead."""
    if text is None:
        return
    try:
        at = datetime.fromisoformat(text).timestamp() * 1000
    except ValueError:
        raise KrakenError("EGeneral:Invalid arguments:deadline") from None
    if at > now + LONGEST_DEADLINE:
        raise KrakenError("EGeneral:Invalid arguments:deadline")
    if now > at:
        raise KrakenError("EService:Deadline elapsed")


def _having(sent: Mapping[str, str], orders: Iterable[Order]) -> list[Order]:
    """Newest first, those with the `cl_ord_id` that is asked for; no order here carries a userref."""
    wanted = sent.get("cl_ord_id")
    found = [order for order in orders if wanted in (None, order.client_order_id)]
    return [] if sent.get("userref", "0") != "0" else found[::-1]


def _within(sent: Mapping[str, str], milliseconds: int) -> bool:
    """Between `start` (exclusive) and `end` (inclusive), both in seconds."""
    start = 1000 * _integer(sent, "start") if "start" in sent else -1
    return start < milliseconds and ("end" not in sent or milliseconds <= 1000 * _integer(sent, "end"))


def _page(sent: Mapping[str, str], rows: Sequence[Item]) -> list[Item]:
    """At most 50 rows from `ofs` on."""
    offset = _integer(sent, "ofs") if "ofs" in sent else 0
    return list(rows[offset : offset + PAGE])


def _header(request: Request, name: str) -> str:
    return next((value for key, value in request.headers.items() if key.lower() == name.lower()), "")
