"""Bitget spot's REST dialect (v2, classic account) over a `PaperExchange`: paths, signatures, codes and JSON shapes.

Source: Bitget's public API documentation (signature, spot market, spot trade, REST error codes); `ccxt.bitget` is the
client it is read by.

**Envelope.** Every reply is `{"code", "msg", "requestTime", "data"}`; "00000" is success, errors come with status 400.

**Requests** are signed over `timestamp + METHOD + path[?query] + body`; the timestamp (milliseconds, real clock) is
good for 30 seconds. `requestTime` and `receiveWindow` of an order narrow that down. A signed request may be repeated in
its window: only the client order id stands between a copy and a second order.

**Orders.** The `size` of a market buy is what it spends, in quote currency; every other size is base units. Trigger
(plan) orders are another family with other ids and are not served.

**Client order ids** (`clientOid`) are unique among open orders here: the documentation promises no more. `orderInfo`
finds an order by its `clientOid` only while the order has no fill (so the documentation); afterwards it must be looked
for in `history-orders`, which takes no `clientOid`.

Deviations, on purpose: numbers go out as the shortest decimal that reads back as the same float. Fees are taken where
the market says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

from tradelib.errors import VenueError
from tradelib.venue.bitget_streams import BitgetStream
from tradelib.venue.dialect import Credentials, Reply, Request, Role, Route, StreamRoute
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Fill, Kline, NewOrder, Order, Reason, Refusal, TimeInForce
from tradelib.venue.protocol import number

__all__ = ["BitgetDialect", "BitgetError", "bar_json", "fill_json", "order_json", "sign", "symbol_json"]

WINDOW = 30_000
MAXIMUM_WINDOW = 60_000
PAGE = 100

Choice = TypeVar("Choice")

_CLIENT_ID = re.compile(r"[0-9A-Za-z_:#+\- ]{1,64}")
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")

_REFUSALS = {
    Reason.UNKNOWN_SYMBOL: ("40034", "Parameter symbol does not exist"),
    Reason.UNKNOWN_ORDER: ("43001", "The order does not exist"),
    Reason.NOT_OPEN: ("43001", "The order does not exist"),
    Reason.DUPLICATE: ("40786", "Duplicate clientOid"),
    Reason.LOT_SIZE: ("40808", "Parameter verification exception size checkBDScale error"),
    Reason.PRICE_FILTER: ("41103", "param price scale error"),
    Reason.MINIMUM_NOTIONAL: ("45110", "less than the minimum amount"),
    Reason.BALANCE: ("43012", "Insufficient balance"),
    Reason.WOULD_TRIGGER: ("43011", "The parameter does not meet the specification"),
    Reason.WOULD_TAKE: ("43011", "The parameter does not meet the specification: post_only would take"),
    Reason.OCO_PRICES: ("43011", "The parameter does not meet the specification"),
    Reason.TOO_MANY_ORDERS: ("43005", "Exceed the maximum number of orders"),
    Reason.BAD_TERMS: ("40017", "Parameter verification failed"),
    Reason.CANCEL_REJECTED: ("43004", "There is no order to cancel"),
}

_STATUSES = {
    "NEW": "live",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "EXPIRED": "cancelled",
}
_FORCES: dict[str, TimeInForce] = {"gtc": "GTC", "ioc": "IOC", "fok": "FOK", "post_only": "GTC"}
_MINUTES = {
    "1min": 1,
    "3min": 3,
    "5min": 5,
    "15min": 15,
    "30min": 30,
    "1h": 60,
    "4h": 240,
    "6Hutc": 360,
    "12Hutc": 720,
    "1Dutc": 1440,
    "3Dutc": 4320,
    "1Wutc": 10080,
}
"""Bars from six hours on that begin by UTC: those without `utc` begin by UTC+8, and this venue has none of them."""


class BitgetError(Exception):
    """An error reply: Bitget's code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code, self.message = code, message


def sign(secret: str, timestamp: str, method: str, target: str, body: str) -> str:
    """`ACCESS-SIGN`: base64 of HMAC-SHA256 over timestamp + method + path with query + body."""
    text = timestamp + method.upper() + target + body
    digest = hmac.new(secret.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


# Shapes


def symbol_json(market: VenueMarket, *, trading: bool) -> dict[str, Any]:
    """One market of `spot/public/symbols`."""
    return {
        "symbol": market.id,
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "minTradeAmount": "0",
        "maxTradeAmount": "900000000000000000000",
        "takerFeeRate": number(market.fee_rate),
        "makerFeeRate": number(market.terms.maker_rate),
        "pricePrecision": str(market.price_decimals),
        "quantityPrecision": str(_decimals(market.step_size)),
        "quotePrecision": "8",
        "status": "online" if trading else "halt",
        "minTradeUSDT": number(market.minimum_notional),
        "buyLimitPriceRatio": "0.05",
        "sellLimitPriceRatio": "0.05",
    }


def _decimals(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def bar_json(bar: Kline) -> list[str]:
    """One row of candles: open time, prices, base volume; quote volumes are not recorded."""
    return [str(bar.open_time), *map(number, bar.row), "0", "0"]


def average(order: Order) -> float:
    """Average fill price; the fill's own figure where there is one, 0 before the first."""
    if len(order.fills) == 1:
        return order.fills[0].price
    return order.cost / order.executed if order.fills else 0.0


def order_json(order: Order, market: VenueMarket) -> dict[str, Any]:
    """One order of `orderInfo` and `history-orders`."""
    by_cost = order.kind == "market" and order.side > 0
    return {
        "userId": "1",
        "symbol": market.id,
        "orderId": str(order.order_id),
        "clientOid": order.client_order_id,
        "price": number(order.price or 0.0),
        "size": number(order.cost if by_cost else order.quantity),
        "orderType": order.kind,
        "side": "buy" if order.side > 0 else "sell",
        "status": _STATUSES[order.status],
        "priceAvg": number(average(order)),
        "baseVolume": number(order.executed),
        "quoteVolume": number(order.cost),
        "enterPointSource": "API",
        "feeDetail": _fee_detail(order, market),
        "orderSource": order.kind,
        "cancelReason": "" if order.status not in ("CANCELED", "EXPIRED") else "normal_cancel",
        "force": "post_only" if order.post_only else order.time_in_force.lower(),
        "cTime": str(order.time),
        "uTime": str(order.updated),
    }


def _fee_detail(order: Order, market: VenueMarket) -> str | None:
    """Fees as a text of JSON, negative as Bitget has them; none before the first fill."""
    if not order.fills:
        return None
    coin = order.fills[0].fee_asset or market.quote
    detail = {"deduction": False, "feeCoinCode": coin, "totalDeductionFee": 0, "totalFee": -order.fee}
    sums = {"c": 0, "d": 0, "deduction": False, "r": -order.fee, "t": -order.fee, "totalDeductionFee": 0}
    return json.dumps({"newFees": sums, coin: detail}, separators=(",", ":"))


def open_order_json(order: Order, market: VenueMarket) -> dict[str, Any]:
    """One order of `unfilled-orders`: `priceAvg` is the limit price there, `basePrice` the average of the fills."""
    row = order_json(order, market)
    for name in ("price", "feeDetail", "cancelReason"):
        del row[name]
    return row | {"priceAvg": number(order.price or 0.0), "basePrice": number(average(order)), "tpslType": "normal"}


def fill_json(order: Order, fill: Fill, market: VenueMarket) -> dict[str, Any]:
    """One trade of `fills`."""
    return {
        "userId": "1",
        "symbol": market.id,
        "orderId": str(order.order_id),
        "tradeId": str(fill.trade_id),
        "orderType": order.kind,
        "side": "buy" if order.side > 0 else "sell",
        "priceAvg": number(fill.price),
        "size": number(fill.quantity),
        "amount": number(fill.quantity * fill.price),
        "feeDetail": {
            "deduction": "no",
            "feeCoin": fill.fee_asset or market.quote,
            "totalDeductionFee": "",
            "totalFee": number(-fill.fee),
        },
        "tradeScope": "maker" if fill.maker else "taker",
        "cTime": str(fill.time),
        "uTime": str(fill.time),
    }


# The dialect


class BitgetDialect:
    """Bitget's language over `exchange`; see the module. Raises `VenueError` without a passphrase."""

    name = "bitget"

    def __init__(self, exchange: PaperExchange, credentials: Credentials) -> None:
        if not credentials.passphrase:
            raise VenueError(
                "Bitget's keys have a passphrase: set TRADELIB_API_PASSPHRASE, and give the runner the same"
            )
        self.exchange = exchange
        self._credentials = credentials

    # What the server asks

    def routes(self) -> Sequence[Route]:
        """Public and private paths below `/api/v2`."""
        return [
            self._get("public/time", "clock", self._time),
            self._get("spot/public/coins", "market", self._coins),
            self._get("spot/public/symbols", "market", self._symbols),
            self._get("margin/currencies", "market", lambda *_: []),
            self._get("spot/market/tickers", "market", self._tickers),
            self._get("spot/market/candles", "bars", self._bars),
            self._get("spot/market/history-candles", "bars", self._bars),
            self._get("spot/account/assets", "account", self._assets, signed=True),
            self._get("spot/trade/orderInfo", "query", self._order_info, signed=True),
            self._get("spot/trade/unfilled-orders", "query", self._unfilled, signed=True),
            self._get("spot/trade/history-orders", "query", self._history, signed=True),
            self._get("spot/trade/fills", "trades", self._fills, signed=True),
            self._post("spot/trade/place-order", "place", self._place),
            self._post("spot/trade/cancel-order", "cancel", self._cancel),
        ]

    def streams(self) -> Sequence[StreamRoute]:
        """Candles on the public path, the account on the private one."""
        return [
            StreamRoute("/v2/ws/public", lambda _: BitgetStream(self.exchange, None)),
            StreamRoute("/v2/ws/private", lambda _: BitgetStream(self.exchange, self.logs_in)),
        ]

    def authenticate(self, request: Request) -> None:
        """Key, passphrase, timestamp, signature; all four are in headers."""
        self._check_identity(_header(request, "ACCESS-KEY"), _header(request, "ACCESS-PASSPHRASE"))
        stamp = _header(request, "ACCESS-TIMESTAMP")
        if not re.fullmatch(r"[0-9]{1,16}", stamp):
            raise BitgetError("40005", "Invalid ACCESS_TIMESTAMP")
        if abs(request.now - int(stamp)) > WINDOW:
            raise BitgetError("40008", "Request timestamp expired")
        sent = _header(request, "ACCESS-SIGN").encode()
        query = f"?{request.query}" if request.query else ""
        for target in (request.path + query, request.path + unquote(query)):
            if hmac.compare_digest(sent, self._sign(stamp, request.method, target, request.body).encode()):
                return
        raise BitgetError("40009", "sign signature error")

    def logs_in(self, said: Mapping[str, Any], now: int) -> tuple[int, str] | None:
        """What is wrong with the arguments of a WebSocket login (code and message); None when it is accepted."""
        stamp = str(said.get("timestamp", ""))
        if said.get("apiKey") != self._credentials.key:
            return 30011, "Invalid ACCESS_KEY"
        if said.get("passphrase") != self._credentials.passphrase:
            return 30012, "Invalid ACCESS_PASSPHRASE"
        if not re.fullmatch(r"[0-9]{1,13}", stamp):
            return 30013, "Invalid ACCESS_TIMESTAMP"
        if abs(now - 1000 * int(stamp)) > WINDOW:
            return 30014, "Request timestamp expired"
        expected = self._sign(stamp, "GET", "/user/verify", "")
        good = hmac.compare_digest(str(said.get("sign", "")).encode(), expected.encode())
        return None if good else (30015, "Invalid sign")

    def refusal(self, error: Exception) -> Reply | None:
        """Code and message in a 400."""
        if isinstance(error, Refusal):
            error = BitgetError(*_REFUSALS[error.reason])
        if not isinstance(error, BitgetError):
            return None
        return Reply({"code": error.code, "msg": error.message, "requestTime": 0, "data": None}, 400)

    def limited(self, retry_after: int, *, banned: bool) -> Reply:
        """Too many requests: Bitget answers both with 429."""
        body = {"code": "429", "msg": "Too Many Requests", "requestTime": 0, "data": None}
        return Reply(body, 429, {"Retry-After": str(retry_after)})

    def _sign(self, stamp: str, method: str, target: str, body: str) -> str:
        return sign(self._credentials.secret, stamp, method, target, body)

    def _check_identity(self, key: str, passphrase: str) -> None:
        if not key:
            raise BitgetError("40001", "ACCESS_KEY cannot be empty")
        if not hmac.compare_digest(key.encode(), self._credentials.key.encode()):
            raise BitgetError("40037", "Apikey does not exist")
        if not hmac.compare_digest(passphrase.encode(), self._credentials.passphrase.encode()):
            raise BitgetError("40012", "apikey/password is incorrect")

    def _get(self, path: str, role: Role, answer: Answer, *, signed: bool = False) -> Route:
        def handle(request: Request) -> Any:
            return _wrapped(answer(dict(parse_qsl(request.query, keep_blank_values=True)), request), request)

        return Route("GET", f"/api/v2/{path}", role, handle, signed=signed)

    def _post(self, path: str, role: Role, answer: Answer) -> Route:
        def handle(request: Request) -> Any:
            return _wrapped(answer(_fields(request.body), request), request)

        return Route("POST", f"/api/v2/{path}", role, handle, signed=True, orders=int(role == "place"))

    # Public

    def _time(self, _: Mapping[str, str], request: Request) -> Any:
        return {"serverTime": str(request.now)}

    def _coins(self, _: Mapping[str, str], __: Request) -> Any:
        return [{"coinId": str(n), "coin": coin, "chains": []} for n, coin in enumerate(self.exchange.balances(), 1)]

    def _symbols(self, sent: Mapping[str, str], __: Request) -> Any:
        return [symbol_json(m, trading=self.exchange.is_trading(m.id)) for m in self._markets(sent)]

    def _tickers(self, sent: Mapping[str, str], request: Request) -> Any:
        return [self._ticker(market, request.now) for market in self._markets(sent)]

    def _ticker(self, market: VenueMarket, now: int) -> dict[str, Any]:
        bid, ask = map(number, self.exchange.quotes(market.id))
        last = number(self.exchange.last_price(market.id))
        prices = {"lastPr": last, "open": last, "high24h": last, "low24h": last, "bidPr": bid, "askPr": ask}
        sizes = {"bidSz": "1", "askSz": "1", "baseVolume": "0", "quoteVolume": "0", "usdtVolume": "0"}
        return {"symbol": market.id, **prices, **sizes, "ts": str(now), "change24h": "0"}

    def _bars(self, sent: Mapping[str, str], request: Request) -> Any:
        """Bars that open in [startTime, endTime]: at most 1,000 of the newest (200 in history)."""
        market = self.exchange.market(sent.get("symbol", ""))
        if 60_000 * _choice(sent, "granularity", _MINUTES) != market.tape.timeframe.milliseconds:
            raise BitgetError("40034", "Parameter granularity does not exist")
        most = 200 if request.path.endswith("history-candles") else 1000
        limit = min(_integer(sent, "limit") or 100, most)
        start, end = _integer(sent, "startTime"), _integer(sent, "endTime")
        return [bar_json(row) for row in self.exchange.klines(market.id, start, end, limit)]

    # Account

    def _assets(self, sent: Mapping[str, str], _: Request) -> Any:
        """Only the coins that are held, as Bitget lists them."""
        wanted = sent.get("coin")
        return [
            {
                "coin": coin,
                "available": number(free),
                "frozen": number(locked),
                "locked": "0",
                "limitAvailable": "0",
                "uTime": str(self.exchange.clock),
            }
            for coin, (free, locked) in self.exchange.balances().items()
            if wanted in (None, coin) and free + locked != 0.0
        ]

    # Orders

    def _place(self, sent: Mapping[str, str], request: Request) -> Any:
        _check_window(sent, request.now)
        order = self.exchange.place(_new_order(sent))
        return {"orderId": str(order.order_id), "clientOid": order.client_order_id}

    def _cancel(self, sent: Mapping[str, str], __: Request) -> Any:
        order = self.exchange.cancel(sent.get("symbol", ""), *_reference(sent))
        return {"orderId": str(order.order_id), "clientOid": order.client_order_id}

    def _order_info(self, sent: Mapping[str, str], __: Request) -> Any:
        """By `orderId`, or by `clientOid` as long as nothing of the order is filled."""
        number_, name = _reference(sent)
        found = [
            order
            for order in self.exchange.orders_of()
            if order.order_id == number_ or (number_ is None and order.client_order_id == name and not order.fills)
        ]
        return [order_json(order, self.exchange.markets[order.symbol]) for order in found[-1:]]

    def _unfilled(self, sent: Mapping[str, str], __: Request) -> Any:
        rows = self._page(sent, self.exchange.open_orders(self._wanted(sent)))
        return [open_order_json(order, self.exchange.markets[order.symbol]) for order in rows]

    def _history(self, sent: Mapping[str, str], __: Request) -> Any:
        done = [order for order in self.exchange.orders_of(self._wanted(sent)) if not order.is_open]
        return [order_json(order, self.exchange.markets[order.symbol]) for order in self._page(sent, done)]

    def _fills(self, sent: Mapping[str, str], __: Request) -> Any:
        """Newest first; `idLessThan` is a trade id here."""
        number_, below = _integer(sent, "orderId"), _integer(sent, "idLessThan")
        found = [
            (order, fill)
            for order, fill in self.exchange.trades(self.exchange.market(sent.get("symbol", "")).id)
            if number_ in (None, order.order_id)
            and _within(sent, fill.time)
            and (below is None or fill.trade_id < below)
        ]
        rows = found[::-1][: _limit(sent)]
        return [fill_json(order, fill, self.exchange.markets[order.symbol]) for order, fill in rows]

    # What they share

    def _markets(self, sent: Mapping[str, str]) -> Iterable[VenueMarket]:
        return self.exchange.markets.values() if "symbol" not in sent else [self.exchange.market(sent["symbol"])]

    def _wanted(self, sent: Mapping[str, str]) -> str | None:
        return self.exchange.market(sent["symbol"]).id if "symbol" in sent else None

    def _page(self, sent: Mapping[str, str], orders: Iterable[Order]) -> list[Order]:
        """Newest first, at most `limit`, those in the window and below `idLessThan`."""
        below, wanted = _integer(sent, "idLessThan"), _integer(sent, "orderId")
        found = [
            order
            for order in orders
            if _within(sent, order.time)
            and (below is None or order.order_id < below)
            and wanted in (None, order.order_id)
        ]
        return found[::-1][: _limit(sent)]


Answer = Callable[[Mapping[str, str], Request], Any]


def _wrapped(data: Any, request: Request) -> dict[str, Any]:
    return {"code": "00000", "msg": "success", "requestTime": request.now, "data": data}


def _fields(body: str) -> dict[str, str]:
    """The fields of a JSON body as texts."""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise BitgetError("40020", "Parameter body error")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}


def _new_order(sent: Mapping[str, str]) -> NewOrder:
    """The order that `place-order`'s fields describe; `BitgetError` names the field that is wrong."""
    kind = _choice(sent, "orderType", {"limit": "limit", "market": "market"})
    side = _choice(sent, "side", {"buy": 1, "sell": -1})
    force = sent.get("force", "gtc").lower()
    if sent.get("triggerPrice") or sent.get("tpslType", "normal") != "normal":
        raise BitgetError("40017", "Parameter verification failed: trigger orders are not served")
    size = _amount(sent, "size")
    by_cost = kind == "market" and side > 0
    return NewOrder(
        symbol=sent.get("symbol", ""),
        side=side,
        kind="limit" if kind == "limit" else "market",
        quantity=None if by_cost else size,
        quote_quantity=size if by_cost else None,
        price=_amount(sent, "price") if kind == "limit" else None,
        time_in_force=_choice({"force": force}, "force", _FORCES),
        client_order_id=_client_id(sent),
        post_only=force == "post_only",
    )


def _client_id(sent: Mapping[str, str]) -> str | None:
    name = sent.get("clientOid")
    if name is not None and not _CLIENT_ID.fullmatch(name):
        raise BitgetError("40020", "Parameter clientOid error")
    return name


def _check_window(sent: Mapping[str, str], now: int) -> None:
    """Refuse an order that arrives later than `receiveWindow` after its `requestTime`."""
    window, asked = _integer(sent, "receiveWindow"), _integer(sent, "requestTime")
    if window is None or asked is None:
        return
    if window > MAXIMUM_WINDOW:
        raise BitgetError("40020", "Parameter receiveWindow error")
    if now - asked > window:
        raise BitgetError("40008", "Request timestamp expired")


def _reference(sent: Mapping[str, str]) -> tuple[int | None, str | None]:
    found = _integer(sent, "orderId"), sent.get("clientOid")
    if found == (None, None):
        raise BitgetError("40019", "Parameter orderId cannot be empty")
    return found


def _choice(sent: Mapping[str, str], name: str, values: Mapping[str, Choice]) -> Choice:
    """What the field `name` stands for in `values`."""
    if sent.get(name) not in values:
        raise BitgetError("40020", f"Parameter {name} error")
    return values[sent[name]]


def _amount(sent: Mapping[str, str], name: str) -> Decimal:
    text = sent.get(name, "")
    if not text:
        raise BitgetError("40019", f"Parameter {name} cannot be empty")
    if not _DECIMAL.fullmatch(text):
        raise BitgetError("40020", f"Parameter {name} error")
    return Decimal(text)


def _integer(sent: Mapping[str, str], name: str) -> int | None:
    text = sent.get(name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise BitgetError("40020", f"Parameter {name} error")
    return int(text)


def _limit(sent: Mapping[str, str]) -> int:
    return min(_integer(sent, "limit") or PAGE, PAGE)


def _within(sent: Mapping[str, str], milliseconds: int) -> bool:
    start, end = _integer(sent, "startTime"), _integer(sent, "endTime")
    return (start is None or milliseconds >= start) and (end is None or milliseconds <= end)


def _header(request: Request, name: str) -> str:
    return next((value for key, value in request.headers.items() if key.lower() == name.lower()), "")
