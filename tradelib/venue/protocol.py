"""Binance spot's REST dialect: parameters, signatures, error bodies and JSON shapes. Pure functions, no sockets.

Source: the public Binance spot API documentation (rest-api, errors, filters); `ccxt.binance` is the client it is
read by.

**Time.** A request is stamped with the client's real clock, so its window (`timestamp`, `recvWindow`) is checked
against real time, and `/api/v3/time` serves real time, as Binance's does. Everything that the market says (klines,
order and trade times) is in the exchange's simulated time. A client learns it from the forming bar, the last row of
klines.

**Numbers** go out as the shortest decimal that reads back as the same float, without exponent: `float(text)` is
exact.

Deviations, on purpose: fees are charged in the quote currency on both sides unless the market says otherwise (Binance
takes a buy's fee from the base asset), as the engine does. Icebergs, trailing stops, cancel-replace and self-trade
prevention are not there; `exchangeInfo` says so. Quote volumes and trade counts of klines are not recorded and served
as 0.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from tradelib.venue.exchange import PaperExchange
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Fill, Kind, Kline, Order, Reason, Refusal

__all__ = [
    "SIGNED_PARAMETERS",
    "TYPES",
    "BinanceError",
    "Parameters",
    "account_json",
    "book_json",
    "cancelled_json",
    "check_key",
    "check_signature",
    "check_window",
    "depth_json",
    "exchange_info_json",
    "is_working",
    "kline_json",
    "new_order_json",
    "number",
    "order_json",
    "order_list_json",
    "price_json",
    "read_parameters",
    "refusal_error",
    "signature",
    "trade_json",
    "type_of",
]

SIGNED_PARAMETERS = frozenset({"timestamp", "recvWindow", "signature"})
DEFAULT_WINDOW = 5_000
MAXIMUM_WINDOW = 60_000
MAXIMUM_ROWS = 1_000
AHEAD = 1_000

_INTEGER = r"^[0-9]{1,20}$"
_DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_CLIENT_ORDER_ID = r"^[a-zA-Z0-9-_]{1,36}$"

_REFUSALS = {
    Reason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Reason.UNKNOWN_ORDER: (-2013, "Order does not exist."),
    Reason.NOT_OPEN: (-2011, "Unknown order sent."),
    Reason.DUPLICATE: (-2010, "Duplicate order sent."),
    Reason.LOT_SIZE: (-1013, "Filter failure: LOT_SIZE"),
    Reason.MINIMUM_NOTIONAL: (-1013, "Filter failure: MIN_NOTIONAL"),
    Reason.BALANCE: (-2010, "Account has insufficient balance for requested action."),
    Reason.PRICE_FILTER: (-1013, "Filter failure: PRICE_FILTER"),
    Reason.WOULD_TRIGGER: (-2010, "Stop price would trigger immediately."),
    Reason.WOULD_TAKE: (-2010, "Order would immediately match and take."),
    Reason.OCO_PRICES: (-1158, "The relationship of the prices for the orders is not correct."),
    Reason.TOO_MANY_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Reason.BAD_TERMS: (-1128, "Combination of optional parameters invalid."),
    Reason.CANCEL_REJECTED: (-2011, "CANCEL_REJECTED"),
}
TYPES: dict[Kind, str] = {
    "market": "MARKET",
    "limit": "LIMIT",
    "stop": "STOP_LOSS",
    "stop_limit": "STOP_LOSS_LIMIT",
    "take_profit": "TAKE_PROFIT",
    "take_profit_limit": "TAKE_PROFIT_LIMIT",
}


class BinanceError(Exception):
    """An error reply: Binance's code and message, and the HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(f"{code} {message}")
        self.code, self.message, self.status = code, message, status

    def body(self) -> dict[str, Any]:
        """The JSON body of the reply."""
        return {"code": self.code, "msg": self.message}


def refusal_error(refusal: Refusal) -> BinanceError:
    """What Binance says where the exchange refuses."""
    return BinanceError(*_REFUSALS[refusal.reason])


# Parameters


@dataclass(frozen=True)
class Parameters:
    """The parameters of one request, checked as they are read; every failure is Binance's own error."""

    values: Mapping[str, str]

    def text(self, name: str, pattern: str | None = None) -> str | None:
        """The parameter, or None when it was not sent; -1105 when empty, -1100 when `pattern` does not match."""
        value = self.values.get(name)
        if value == "":
            raise BinanceError(-1105, f"Parameter '{name}' was empty.")
        if value is not None and pattern is not None and re.fullmatch(pattern, value, re.ASCII) is None:
            raise BinanceError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'.")
        return value

    def required(self, name: str, pattern: str | None = None) -> str:
        """As `text`, but -1102 when the parameter was not sent or is empty."""
        if not self.values.get(name):
            raise BinanceError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        value = self.text(name, pattern)
        assert value is not None
        return value

    def integer(self, name: str) -> int | None:
        """A whole number such as a time in milliseconds or an id."""
        value = self.text(name, _INTEGER)
        return None if value is None else int(value)

    def limit(self) -> int:
        """Number of rows: default 500, at most 1000 (more is cut to it, as Binance does); -1130 below 1."""
        value = self.integer("limit")
        if value is not None and value < 1:
            raise BinanceError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(500 if value is None else value, MAXIMUM_ROWS)

    def quantity(self, market: VenueMarket) -> Decimal:
        """The order's base quantity: -1102, -1100, -1111 for more decimals than the asset has, -1013 for zero."""
        value = self.amount("quantity", asset_precision(market))
        assert value is not None
        return value

    def amount(self, name: str, decimals: int, *, required: bool = True) -> Decimal | None:
        """A positive decimal such as a price: -1102, -1100, -1111 for more than `decimals`, -1013 for zero."""
        text = self.required(name, _DECIMAL) if required else self.text(name, _DECIMAL)
        if text is None:
            return None
        value = Decimal(text)
        if len(text.partition(".")[2].rstrip("0")) > decimals:
            raise BinanceError(-1111, f"Parameter '{name}' has too much precision.")
        if value == 0:
            raise BinanceError(-1013, f"Invalid {name}.")
        return value

    def client_order_id(self, name: str) -> str | None:
        """A client order id: 1 to 36 letters, digits, hyphens and underscores."""
        return self.text(name, _CLIENT_ORDER_ID)

    def symbols(self) -> list[str] | None:
        """The symbols of `symbol` or of the JSON array `symbols`; None when neither was sent. -1128 for both, -1135."""
        one, many = self.text("symbol"), self.text("symbols")
        if many is None:
            return None if one is None else [one]
        if one is not None:
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        try:
            found = json.loads(many)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(symbol, str) for symbol in found):
            raise BinanceError(-1135, "JSON sent for parameter 'symbols' is not valid")
        return found

    def order_reference(self) -> tuple[int | None, str | None]:
        """`orderId` and `origClientOrderId`, at least one of them; -1102 when neither was sent."""
        found = self.integer("orderId"), self.text("origClientOrderId")
        if found == (None, None):
            raise BinanceError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        return found

    def window(self) -> tuple[int | None, int | None]:
        """`startTime` and `endTime`, both inclusive, in epoch milliseconds."""
        return self.integer("startTime"), self.integer("endTime")


def read_parameters(query: str, body: str, allowed: Iterable[str]) -> Parameters:
    """Parse query string and form body; where both send a name the query string wins.

    -1101 for a name that appears twice in one of them, -1104 for a name that the endpoint does not know.
    """
    values: dict[str, str] = {}
    for part in (body, query):
        pairs = parse_qsl(part, keep_blank_values=True)
        if len({name for name, _ in pairs}) < len(pairs):
            raise BinanceError(-1101, "Duplicate values for a parameter detected.")
        values.update(pairs)
    read = len(values.keys() & set(allowed))
    if read < len(values):
        message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(values)}'."
        raise BinanceError(-1104, message)
    return Parameters(values)


# Signed requests


def signature(secret: str, payload: str) -> str:
    """HMAC-SHA256 of `payload` (query string and body, joined without a separator), in hex."""
    return hmac.new(secret.encode(), _bytes(payload), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    """What was on the wire: bytes that are no UTF-8 reach us as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")


def check_key(sent: str | None, key: str) -> None:
    """The `X-MBX-APIKEY` header: -2014 when it is missing, -2015 when it is not this venue's key (HTTP 401)."""
    if not sent:
        raise BinanceError(-2014, "API-key format invalid.", 401)
    if not hmac.compare_digest(_bytes(sent), key.encode()):
        raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def check_signature(secret: str, query: str, body: str) -> None:
    """Verify the `signature` over the exact characters that were sent, itself left out; -1102 or -1022 otherwise."""
    signed, found = "", ""
    for part in (query, body):
        pieces = part.split("&")
        found = next((piece[10:] for piece in pieces if piece.startswith("signature=")), found)
        signed += "&".join(piece for piece in pieces if not piece.startswith("signature="))
    if not found:
        raise BinanceError(-1102, "Mandatory parameter 'signature' was not sent, was empty/null, or malformed.")
    if not hmac.compare_digest(_bytes(found.lower()), signature(secret, signed).encode()):
        raise BinanceError(-1022, "Signature for this request is not valid.")


def check_window(parameters: Parameters, now: int) -> None:
    """Accept `timestamp < now + 1000 and now - timestamp <= recvWindow`, in real epoch ms; -1021, -1131 otherwise."""
    parameters.required("timestamp")
    timestamp, window = parameters.integer("timestamp"), parameters.integer("recvWindow")
    assert timestamp is not None
    if window is not None and window > MAXIMUM_WINDOW:
        raise BinanceError(-1131, f"recvWindow must be less than {MAXIMUM_WINDOW}.")
    if timestamp >= now + AHEAD:
        raise BinanceError(-1021, f"Timestamp for this request was {AHEAD}ms ahead of the server's time.")
    if now - timestamp > (DEFAULT_WINDOW if window is None else window):
        raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


# Shapes


def number(value: float | Decimal) -> str:
    """The shortest decimal text, without exponent, that reads back as the same float."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    return format(exact, "f") if exact else "0"


def asset_precision(market: VenueMarket) -> int:
    """Decimals of the base asset: 8, as Binance has it, or as many as a lot needs."""
    exponent = market.step_size.normalize().as_tuple().exponent
    return max(8, -exponent if isinstance(exponent, int) else 0)


def exchange_info_json(exchange: PaperExchange, markets: Iterable[VenueMarket], now: int) -> dict[str, Any]:
    """GET /api/v3/exchangeInfo."""
    return {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [_symbol_json(exchange, market) for market in markets],
    }


def _symbol_json(exchange: PaperExchange, market: VenueMarket) -> dict[str, Any]:
    step, tick = number(market.step_size), number(market.tick_size)
    maximum = number(Decimal(10**12))
    return {
        "symbol": market.id,
        "status": "TRADING" if exchange.is_trading(market.id) else "BREAK",
        "baseAsset": market.base,
        "baseAssetPrecision": asset_precision(market),
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", *(name for name in TYPES.values() if name != "LIMIT")],
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": maximum, "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": maximum, "stepSize": step},
            {
                "filterType": "MIN_NOTIONAL",
                "minNotional": number(market.minimum_notional),
                "applyToMarket": True,
                "avgPriceMins": 0,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": exchange.maximum_orders},
        ],
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def kline_json(bar: Kline) -> list[Any]:
    """One row of GET /api/v3/klines: twelve fields; quote volume, trades and taker volumes are not recorded."""
    return [bar.open_time, *map(number, bar.row), bar.close_time, "0", 0, "0", "0", "0"]


def price_json(exchange: PaperExchange, symbol: str) -> dict[str, str]:
    """GET /api/v3/ticker/price."""
    return {"symbol": symbol, "price": number(exchange.last_price(symbol))}


def book_json(exchange: PaperExchange, symbol: str) -> dict[str, str]:
    """GET /api/v3/ticker/bookTicker: the best prices at which market orders would fill now."""
    (bid, *_), (ask, *_) = exchange.book(symbol)
    sizes = [number(_depth(level.quantity)) for level in (bid, ask)]
    return {
        "symbol": symbol,
        "bidPrice": number(bid.price),
        "bidQty": sizes[0],
        "askPrice": number(ask.price),
        "askQty": sizes[1],
    }


def depth_json(exchange: PaperExchange, symbol: str, limit: int) -> dict[str, Any]:
    """GET /api/v3/depth; `lastUpdateId` is the exchange's clock."""
    sides = [
        [[number(level.price), number(_depth(level.quantity))] for level in side[:limit]]
        for side in exchange.book(symbol)
    ]
    return {"lastUpdateId": exchange.clock, "bids": sides[0], "asks": sides[1]}


def _depth(quantity: float) -> float:
    """A level without bound goes out as a very large one."""
    return min(quantity, 1e12)


def account_json(exchange: PaperExchange, *, omit_zero: bool = False) -> dict[str, Any]:
    """GET /api/v3/account."""
    rates = {market.fee_rate for market in exchange.markets.values()}
    rate = number(rates.pop()) if len(rates) == 1 else "0"
    return {
        "makerCommission": 0,
        "takerCommission": 0,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": rate, "taker": rate, "buyer": "0", "seller": "0"},
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": exchange.clock,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": number(free), "locked": number(locked)}
            for asset, (free, locked) in exchange.balances().items()
            if free + locked != 0.0 or not omit_zero
        ],
        "permissions": ["SPOT"],
        "uid": 1,
    }


def type_of(order: Order) -> str:
    """Binance's name for the kind of an order."""
    return "LIMIT_MAKER" if order.post_only else TYPES[order.kind]


def _state_json(order: Order) -> dict[str, Any]:
    return {
        "price": number(order.price or 0.0),
        "origQty": number(order.quantity),
        "executedQty": number(order.executed),
        "origQuoteOrderQty": "0",
        "cummulativeQuoteQty": number(order.cost),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": type_of(order),
        "side": "BUY" if order.side > 0 else "SELL",
        "selfTradePreventionMode": "NONE",
        **({} if order.stop_price is None else {"stopPrice": number(order.stop_price)}),
    }


def _name_json(order: Order) -> dict[str, Any]:
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1 if order.group is None else order.group,
        "clientOrderId": order.client_order_id,
    }


def is_working(order: Order) -> bool:
    """False for a stop that waits for its trigger: it is not in the book."""
    return order.stop_price is None or order.triggered or bool(order.fills)


def order_json(order: Order) -> dict[str, Any]:
    """GET /api/v3/order, and each row of openOrders and allOrders."""
    times = {"time": order.time, "updateTime": order.updated, "workingTime": order.time}
    fixed = {"stopPrice": "0", "icebergQty": "0", "isWorking": is_working(order)}
    return {**_name_json(order), **fixed, **_state_json(order), **times}


def new_order_json(order: Order, detail: str) -> dict[str, Any]:
    """POST /api/v3/order; `detail` is ACK, RESULT or FULL."""
    reply = {**_name_json(order), "transactTime": order.time}
    if detail == "ACK":
        return reply
    reply |= {**_state_json(order), "workingTime": order.time if is_working(order) else -1}
    if detail == "FULL":
        reply["fills"] = [_fill_json(fill) for fill in order.fills]
    return reply


def cancelled_json(order: Order, name: str, time: int) -> dict[str, Any]:
    """DELETE /api/v3/order: the cancelled order under its old id, the request under `name`."""
    found = {**_name_json(order), **_state_json(order), "origClientOrderId": order.client_order_id}
    return {**found, "clientOrderId": name, "transactTime": time}


def order_list_json(orders: Iterable[Order], name: str, time: int, *, reports: bool) -> dict[str, Any]:
    """An OCO pair, as POST /api/v3/orderList/oco and GET /api/v3/orderList show it."""
    pair = list(orders)
    alive = any(order.is_open for order in pair)
    keys = ("symbol", "orderId", "clientOrderId")
    body: dict[str, Any] = {
        "orderListId": pair[0].group,
        "contingencyType": "OCO",
        "listStatusType": "EXEC_STARTED" if alive else "ALL_DONE",
        "listOrderStatus": "EXECUTING" if alive else "ALL_DONE",
        "listClientOrderId": name,
        "transactionTime": time,
        "symbol": pair[0].symbol,
        "orders": [{key: _name_json(order)[key] for key in keys} for order in pair],
    }
    if reports:
        body["orderReports"] = [new_order_json(order, "RESULT") for order in pair]
    return body


def _fill_json(fill: Fill) -> dict[str, Any]:
    return {
        "price": number(fill.price),
        "qty": number(fill.quantity),
        "commission": number(fill.fee),
        "commissionAsset": fill.fee_asset,
        "tradeId": fill.trade_id,
    }


def trade_json(order: Order, fill: Fill) -> dict[str, Any]:
    """One row of GET /api/v3/myTrades."""
    body = _fill_json(fill)
    return {
        "symbol": order.symbol,
        "id": body.pop("tradeId"),
        "orderId": order.order_id,
        "orderListId": -1 if order.group is None else order.group,
        **body,
        "quoteQty": number(fill.quantity * fill.price),
        "time": fill.time,
        "isBuyer": order.side > 0,
        "isMaker": fill.maker,
        "isBestMatch": True,
    }
