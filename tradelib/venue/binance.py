"""Binance spot over a `PaperExchange`: the REST endpoints, behind the `Dialect` protocol.

Served: `/api/v3/` ping, time, exchangeInfo, klines, depth, ticker/price, ticker/bookTicker; signed: account, order
(POST, GET, DELETE), order/test, openOrders (GET, DELETE), allOrders, myTrades, orderList (GET, DELETE) and
orderList/oco. Words, shapes and signatures are in `tradelib.venue.protocol`, the WebSocket streams in
`tradelib.venue.binance_streams`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tradelib.venue import protocol
from tradelib.venue.binance_streams import MarketStream, UserStream
from tradelib.venue.dialect import Credentials, Reply, Request, Role, Route, StreamRoute
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Kind, NewOrder, Order, Reason, Refusal, TimeInForce
from tradelib.venue.protocol import BinanceError, Parameters

__all__ = ["BinanceDialect"]

_KINDS: dict[str, Kind] = {name: kind for kind, name in protocol.TYPES.items()} | {"LIMIT_MAKER": "limit"}
_TERMS = {
    "MARKET": "",
    "LIMIT": "price timeInForce",
    "LIMIT_MAKER": "price",
    "STOP_LOSS": "stopPrice",
    "STOP_LOSS_LIMIT": "price stopPrice timeInForce",
    "TAKE_PROFIT": "stopPrice",
    "TAKE_PROFIT_LIMIT": "price stopPrice timeInForce",
}
"""What each type needs besides the quantity; it takes nothing else."""


class BinanceDialect:
    """Every method that answers is one endpoint and returns what goes out as JSON."""

    name = "binance"

    def __init__(self, exchange: PaperExchange, credentials: Credentials) -> None:
        self.exchange = exchange
        self.credentials = credentials
        self._list_names: dict[int, str] = {}
        self._heard: dict[str, Request] = {}

    def routes(self) -> Sequence[Route]:
        """Every REST path it serves, with Binance's request weights."""
        order = "symbol side type quantity quoteOrderQty price stopPrice timeInForce newClientOrderId newOrderRespType"
        legs = "Type ClientOrderId Price StopPrice TimeInForce"
        oco = "symbol listClientOrderId side quantity newOrderRespType " + " ".join(
            side + leg for side in ("above", "below") for leg in legs.split()
        )
        lists = "symbol orderListId origClientOrderId listClientOrderId newClientOrderId"
        return [
            self._public("ping", "market", lambda _: {}),
            Route("GET", "/api/v3/time", "market", lambda request: {"serverTime": request.now}),
            Route("GET", "/api/v3/exchangeInfo", "market", self._exchange_info, weight=20),
            self._public("klines", "bars", self._klines, "symbol interval startTime endTime limit", weight=2),
            self._public("depth", "market", self._depth, "symbol limit", weight=5),
            self._public("ticker/price", "market", self._price, "symbol symbols", weight=2),
            self._public("ticker/bookTicker", "market", self._book, "symbol symbols", weight=2),
            self._signed("GET", "account", "account", self._account, "omitZeroBalances", weight=20),
            self._signed("POST", "order", "place", self._place, order, orders=1),
            self._signed("POST", "order/test", "query", self._test, order),
            self._signed("GET", "order", "query", self._order, "symbol orderId origClientOrderId", weight=4),
            self._signed(
                "DELETE", "order", "cancel", self._cancel, "symbol orderId origClientOrderId newClientOrderId"
            ),
            self._signed("GET", "openOrders", "query", self._open_orders, "symbol", weight=6),
            self._signed("DELETE", "openOrders", "cancel", self._cancel_all, "symbol"),
            self._signed(
                "GET", "allOrders", "query", self._all_orders, "symbol orderId startTime endTime limit", weight=20
            ),
            self._signed(
                "GET", "myTrades", "trades", self._my_trades, "symbol orderId fromId startTime endTime limit", weight=20
            ),
            self._signed("POST", "orderList/oco", "place", self._place_oco, oco, orders=2),
            self._signed("GET", "orderList", "query", self._order_list, lists, weight=4),
            self._signed("DELETE", "orderList", "cancel", self._cancel_list, lists),
        ]

    def streams(self) -> Sequence[StreamRoute]:
        """Market streams at `/ws`, the WebSocket API at `/ws-api/v3`."""
        market = ("/ws", "/ws/{name:.*}", "/stream", "/stream/{name:.*}")
        return [
            *(StreamRoute(path, lambda request: MarketStream(self.exchange, request)) for path in market),
            StreamRoute("/ws-api/v3", lambda _: UserStream(self.exchange, self.credentials)),
        ]

    def authenticate(self, request: Request) -> None:
        """Key, then signature, then whether an order was heard before; the window is checked with the parameters."""
        protocol.check_key(request.headers.get("X-MBX-APIKEY"), self.credentials.key)
        protocol.check_signature(self.credentials.secret, request.query, request.body)
        if request.method == "POST":
            self._refuse_replay(request)

    def _refuse_replay(self, request: Request) -> None:
        """An order that is signed with the same moment is the same order, sent by somebody who overheard it.

        Binance itself lets it pass once the first one is filled and its id is free again; a paper venue need not.
        """
        longest = protocol.MAXIMUM_WINDOW + 1_000  # a timestamp may be a second ahead
        self._heard = {text: heard for text, heard in self._heard.items() if request.now - heard.now <= longest}
        if self._heard.setdefault(f"{request.path}?{request.query}&{request.body}", request) is not request:
            raise BinanceError(-2010, "Duplicate order sent.")

    def refusal(self, error: Exception) -> Reply | None:
        """Refusals as Binance words them."""
        if isinstance(error, Refusal):
            error = protocol.refusal_error(error)
        return Reply(error.body(), error.status) if isinstance(error, BinanceError) else None

    def limited(self, retry_after: int, *, banned: bool) -> Reply:
        """429, then 418 for who does not stop."""
        words = "Way too much request weight used; IP banned" if banned else "Too much request weight used"
        body = {"code": -1003, "msg": f"{words}; try again in {retry_after} s."}
        return Reply(body, 418 if banned else 429, {"Retry-After": str(retry_after)})

    # Reading requests

    def _public(
        self, path: str, role: Role, answer: Callable[[Parameters], Any], names: str = "", weight: int = 1
    ) -> Route:
        allowed = frozenset(names.split())

        def handle(request: Request) -> Any:
            return answer(protocol.read_parameters(request.query, request.body, allowed))

        return Route("GET", f"/api/v3/{path}", role, handle, weight=weight)

    def _signed(
        self,
        method: str,
        path: str,
        role: Role,
        answer: Callable[[Parameters], Any],
        names: str,
        weight: int = 1,
        orders: int = 0,
    ) -> Route:
        allowed = frozenset(names.split()) | protocol.SIGNED_PARAMETERS

        def handle(request: Request) -> Any:
            parameters = protocol.read_parameters(request.query, request.body, allowed)
            protocol.check_window(parameters, request.now)
            return answer(parameters)

        return Route(method, f"/api/v3/{path}", role, handle, signed=True, weight=weight, orders=orders)

    def _markets(self, parameters: Parameters) -> list[VenueMarket]:
        symbols = parameters.symbols()
        return [self.exchange.market(symbol) for symbol in (self.exchange.markets if symbols is None else symbols)]

    # Market data

    def _exchange_info(self, request: Request) -> Any:
        parameters = protocol.read_parameters(request.query, request.body, {"symbol", "symbols"})
        return protocol.exchange_info_json(self.exchange, self._markets(parameters), request.now)

    def _klines(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        if parameters.required("interval") != str(market.tape.timeframe):
            raise BinanceError(-1120, f"Invalid interval. This venue has {market.tape.timeframe} bars of {market.id}.")
        start, end = parameters.window()
        rows = self.exchange.klines(market.id, start, end, parameters.limit())
        return [protocol.kline_json(row) for row in rows]

    def _depth(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        return protocol.depth_json(self.exchange, market.id, parameters.limit())

    def _price(self, parameters: Parameters) -> Any:
        return self._tickers(parameters, protocol.price_json)

    def _book(self, parameters: Parameters) -> Any:
        return self._tickers(parameters, protocol.book_json)

    def _tickers(self, parameters: Parameters, shape: Callable[[PaperExchange, str], Any]) -> Any:
        rows = [shape(self.exchange, market.id) for market in self._markets(parameters)]
        return rows[0] if "symbol" in parameters.values else rows

    # Account

    def _account(self, parameters: Parameters) -> Any:
        omit_zero = parameters.text("omitZeroBalances", r"^(true|false)$") == "true"
        return protocol.account_json(self.exchange, omit_zero=omit_zero)

    def _my_trades(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        wanted, first = parameters.integer("orderId"), parameters.integer("fromId")
        start, end = parameters.window()
        rows = [
            protocol.trade_json(order, fill)
            for order, fill in self.exchange.trades(market.id)
            if wanted in (None, order.order_id) and fill.trade_id >= (first or 0) and _within(fill.time, start, end)
        ]
        return _page(rows, first or start, parameters.limit())

    # Orders

    def _place(self, parameters: Parameters) -> Any:
        new = self._new_order(parameters)
        detail = _detail(parameters, "FULL" if new.kind in ("market", "limit") else "ACK")
        return protocol.new_order_json(self.exchange.place(new), detail)

    def _test(self, parameters: Parameters) -> Any:
        self._new_order(parameters)
        return {}

    def _new_order(self, parameters: Parameters) -> NewOrder:
        market = self.exchange.market(parameters.required("symbol"))
        side, kind = _side(parameters), parameters.required("type")
        if kind not in _TERMS:
            raise BinanceError(-1116, "Invalid orderType.")
        needed = _TERMS[kind].split()
        for name in ("price", "stopPrice", "timeInForce", "quoteOrderQty"):
            if name in parameters.values and name not in needed and not (name, kind) == ("quoteOrderQty", "MARKET"):
                raise BinanceError(-1106, f"Parameter '{name}' sent when not required.")
        by_cost = "quoteOrderQty" in parameters.values
        if by_cost and "quantity" in parameters.values:
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        return NewOrder(
            market.id,
            side,
            _KINDS[kind],
            None if by_cost else parameters.quantity(market),
            parameters.amount("price", market.price_decimals) if "price" in needed else None,
            parameters.amount("stopPrice", market.price_decimals) if "stopPrice" in needed else None,
            _time_in_force(parameters, "timeInForce") if "timeInForce" in needed else "GTC",
            parameters.client_order_id("newClientOrderId"),
            kind == "LIMIT_MAKER",
            parameters.amount("quoteOrderQty", 8) if by_cost else None,
        )

    def _order(self, parameters: Parameters) -> Any:
        return protocol.order_json(self.exchange.order(parameters.required("symbol"), *parameters.order_reference()))

    def _cancel(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        reference = parameters.order_reference()
        name = parameters.client_order_id("newClientOrderId")
        try:
            order = self.exchange.cancel(market.id, *reference)
        except Refusal as refusal:
            raise _unknown_order(refusal) from refusal
        if order.group is not None:
            return self._list_body(order.group)
        return protocol.cancelled_json(order, name or f"cancel-{order.order_id}", self.exchange.clock)

    def _cancel_all(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        cancelled = self.exchange.cancel_all(market.id)
        if not cancelled:
            raise BinanceError(-2011, "Unknown order sent.")
        return [protocol.cancelled_json(order, f"cancel-{order.order_id}", self.exchange.clock) for order in cancelled]

    def _open_orders(self, parameters: Parameters) -> Any:
        ids = {market.id for market in self._markets(parameters)}
        return [protocol.order_json(order) for order in self.exchange.open_orders() if order.symbol in ids]

    def _all_orders(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        first, (start, end) = parameters.integer("orderId"), parameters.window()
        orders = [
            order
            for order in self.exchange.orders_of(market.id)
            if order.order_id >= (first or 0) and _within(order.time, start, end)
        ]
        return [protocol.order_json(order) for order in _page(orders, first or start, parameters.limit())]

    # OCO pairs

    def _place_oco(self, parameters: Parameters) -> Any:
        market, side = self.exchange.market(parameters.required("symbol")), _side(parameters)
        name = parameters.client_order_id("listClientOrderId")
        detail = _detail(parameters, "RESULT")
        legs = [self._leg(parameters, market, side, where) for where in ("above", "below")]
        pair = self.exchange.place_oco(*legs)
        group = pair[0].group
        assert group is not None
        self._list_names[group] = name or f"list-{group}"
        return self._list_body(group, reports=detail != "ACK")

    def _leg(self, parameters: Parameters, market: VenueMarket, side: int, where: str) -> NewOrder:
        kind = parameters.required(f"{where}Type")
        if kind not in _TERMS or kind in ("MARKET", "LIMIT"):
            raise BinanceError(-1116, "Invalid orderType.")
        needed = _TERMS[kind].split()
        priced = {name: f"{where}{name[0].upper()}{name[1:]}" for name in ("price", "stopPrice", "timeInForce")}
        for name, sent in priced.items():
            if sent in parameters.values and name not in needed:
                raise BinanceError(-1106, f"Parameter '{sent}' sent when not required.")
        return NewOrder(
            market.id,
            side,
            _KINDS[kind],
            parameters.quantity(market),
            parameters.amount(priced["price"], market.price_decimals) if "price" in needed else None,
            parameters.amount(priced["stopPrice"], market.price_decimals) if "stopPrice" in needed else None,
            _time_in_force(parameters, priced["timeInForce"]) if "timeInForce" in needed else "GTC",
            parameters.client_order_id(f"{where}ClientOrderId"),
            kind == "LIMIT_MAKER",
        )

    def _order_list(self, parameters: Parameters) -> Any:
        return self._list_body(self._group(parameters, "origClientOrderId"))

    def _cancel_list(self, parameters: Parameters) -> Any:
        group = self._group(parameters, "listClientOrderId")
        order = self._pair(group)[0]
        try:
            self.exchange.cancel(order.symbol, order.order_id)
        except Refusal as refusal:
            raise _unknown_order(refusal) from refusal
        return self._list_body(group, reports=True)

    def _group(self, parameters: Parameters, name: str) -> int:
        number, called = parameters.integer("orderListId"), parameters.text(name)
        named = next((group for group, listed in self._list_names.items() if listed == called), None)
        group = number if number is not None else named
        if group is None or not self._pair(group):
            raise BinanceError(-2018, "Order list does not exist.")
        return group

    def _pair(self, group: int) -> list[Order]:
        return [order for order in self.exchange.orders if order.group == group]

    def _list_body(self, group: int, *, reports: bool = False) -> Any:
        name = self._list_names.get(group, f"list-{group}")
        return protocol.order_list_json(self._pair(group), name, self.exchange.clock, reports=reports)


def _side(parameters: Parameters) -> int:
    side = {"BUY": 1, "SELL": -1}.get(parameters.required("side"))
    if side is None:
        raise BinanceError(-1117, "Invalid side.")
    return side


def _time_in_force(parameters: Parameters, name: str) -> TimeInForce:
    allowed: dict[str, TimeInForce] = {"GTC": "GTC", "IOC": "IOC", "FOK": "FOK"}
    value = allowed.get(parameters.required(name))
    if value is None:
        raise BinanceError(-1115, "Invalid timeInForce.")
    return value


def _detail(parameters: Parameters, default: str) -> str:
    detail = parameters.text("newOrderRespType") or default
    if detail not in ("ACK", "RESULT", "FULL"):
        raise BinanceError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    return detail


def _unknown_order(refusal: Refusal) -> BinanceError:
    """What a cancel says of an order that is unknown or done; other refusals keep their words."""
    if refusal.reason in (Reason.UNKNOWN_ORDER, Reason.NOT_OPEN):
        return BinanceError(-2011, "Unknown order sent.")
    return protocol.refusal_error(refusal)


def _within(moment: int, start: int | None, end: int | None) -> bool:
    return (start is None or moment >= start) and (end is None or moment <= end)


def _page(rows: list[Any], first: int | None, limit: int) -> list[Any]:
    """The first `limit` rows when the request names where to begin, else the newest."""
    return rows[-limit:] if first is None else rows[:limit]
