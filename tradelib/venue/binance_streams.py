"""Binance spot's WebSocket side: market streams and the user data stream, as pure text in, text out.

Market streams (`/ws`, `/ws/<name>`, `/stream`): SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY and
GET_PROPERTY; `<symbol>@kline_<interval>` and `<symbol>@bookTicker`. WebSocket API (`/ws-api/v3`): ping, time, and
`userDataStream.subscribe.signature`, whose HMAC covers the parameters in alphabetical order. Source: the public Binance
documentation (web-socket-streams, web-socket-api, user-data-stream).

Deviations, on purpose: a subscription is answered with the present value of the stream at once, so that a client of a
clock that stands still sees where it is; a stream that this venue does not have is refused instead of being silent.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from tradelib.venue import protocol
from tradelib.venue.dialect import Credentials, Request
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.orders import Event, Fill, Kline, Order
from tradelib.venue.protocol import BinanceError, Parameters, number

__all__ = ["MarketStream", "UserStream", "account_event", "execution_report", "kline_event"]


class MarketStream:
    """Klines and best prices, raw or wrapped (`combined`)."""

    def __init__(self, exchange: PaperExchange, request: Request) -> None:
        self.exchange = exchange
        self.combined = request.path.startswith("/stream")
        named = dict(parse_qsl(request.query)).get("streams", "") or request.path.rpartition("/")[2]
        self.names: dict[str, None] = {name: None for name in named.split("/") if self._exists(name)}

    def received(self, text: str, now: int) -> Sequence[str]:
        """Answer a request; a subscription with the present value of each stream after it."""
        try:
            asked = json.loads(text)
            method, names = asked["method"], asked.get("params", [])
        except (ValueError, KeyError, TypeError):
            return [_error(None, 3, "Invalid JSON: expected value at line 1 column 1")]
        identity = asked.get("id")
        if method == "SUBSCRIBE":
            return self._subscribe(identity, names)
        if method == "UNSUBSCRIBE":
            for name in names:
                self.names.pop(name, None)
            return [_result(identity, None)]
        if method == "LIST_SUBSCRIPTIONS":
            return [_result(identity, list(self.names))]
        if method == "SET_PROPERTY" and names[:1] == ["combined"] and isinstance(names[-1], bool):
            self.combined = names[1]
            return [_result(identity, None)]
        if method == "GET_PROPERTY" and names == ["combined"]:
            return [_result(identity, self.combined)]
        return [_error(identity, 2, "Invalid request: unknown method or property")]

    def happened(self, event: Event) -> Sequence[str]:
        """The streams that the event concerns."""
        if event.kind != "kline" or event.kline is None:
            return []
        symbol = event.symbol.lower()
        interval = str(self.exchange.markets[event.symbol].tape.timeframe)
        out = []
        if (name := f"{symbol}@kline_{interval}") in self.names:
            out.append(self._wrapped(name, kline_event(event.symbol, interval, event.kline, event.closed, event.time)))
        if (name := f"{symbol}@bookTicker") in self.names and not event.closed:
            out.append(self._wrapped(name, self._book_ticker(event.symbol)))
        return out

    def _subscribe(self, identity: Any, names: Any) -> list[str]:
        if not isinstance(names, list) or not names:
            return [_error(identity, 2, "Invalid request: request must contain at least one stream")]
        unknown = [name for name in names if not self._exists(name)]
        if unknown:
            return [_error(identity, 2, f"Invalid request: this venue has no stream {unknown[0]!r}")]
        self.names.update(dict.fromkeys(names))
        return [_result(identity, None), *(text for name in names for text in self._present(name))]

    def _present(self, name: str) -> list[str]:
        """The stream as it stands now."""
        symbol, _, kind = name.partition("@")
        market = self.exchange.markets[symbol.upper()]
        if kind == "bookTicker":
            return [self._wrapped(name, self._book_ticker(market.id))]
        tape, clock = market.tape, self.exchange.clock
        newest = tape.newest(clock)
        if newest < 0:
            return []
        closed, interval = not tape.is_forming(newest, clock), str(tape.timeframe)
        return [self._wrapped(name, kline_event(market.id, interval, tape.kline(newest, clock), closed, clock))]

    def _book_ticker(self, symbol: str) -> dict[str, Any]:
        book = protocol.book_json(self.exchange, symbol)
        short = {"b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty"}
        return {"u": self.exchange.clock, "s": symbol, **{key: book[name] for key, name in short.items()}}

    def _exists(self, name: Any) -> bool:
        symbol, _, kind = str(name).partition("@")
        market = self.exchange.markets.get(symbol.upper()) if symbol == symbol.lower() else None
        return market is not None and kind in ("bookTicker", f"kline_{market.tape.timeframe}")

    def _wrapped(self, name: str, body: dict[str, Any]) -> str:
        return json.dumps({"stream": name, "data": body} if self.combined else body)


class UserStream:
    """The WebSocket API, as far as it carries the user data stream."""

    def __init__(self, exchange: PaperExchange, credentials: Credentials) -> None:
        self.exchange = exchange
        self.credentials = credentials
        self.subscription: int | None = None

    def received(self, text: str, now: int) -> Sequence[str]:
        """Answer a request."""
        try:
            asked = json.loads(text)
            identity, method, parameters = asked.get("id"), asked["method"], dict(asked.get("params") or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return [_reply(None, 400, error={"code": -1135, "msg": "JSON sent is not valid."})]
        try:
            return [_reply(identity, 200, result=self._answer(method, parameters, now))]
        except BinanceError as error:
            return [_reply(identity, error.status, error=error.body())]

    def happened(self, event: Event) -> Sequence[str]:
        """Orders, fills and balances, once the client has subscribed."""
        if self.subscription is None:
            return []
        if event.kind == "balance" and event.balances is not None:
            body = account_event(event.balances, event.time)
        elif event.order is not None:
            body = execution_report(event.order, event.fill, event.time)
        else:
            return []
        return [json.dumps({"subscriptionId": self.subscription, "event": body})]

    def _answer(self, method: str, parameters: Mapping[str, Any], now: int) -> Any:
        if method == "ping":
            return {}
        if method == "time":
            return {"serverTime": now}
        if method == "userDataStream.subscribe.signature":
            self._authenticate(parameters, now)
            self.subscription = 0
            return {"subscriptionId": 0}
        if method == "userDataStream.unsubscribe":
            self.subscription = None
            return {}
        if method == "session.subscriptions":
            return [] if self.subscription is None else [{"subscriptionId": self.subscription}]
        raise BinanceError(-1020, f"This operation is not supported: {method}.")

    def _authenticate(self, parameters: Mapping[str, Any], now: int) -> None:
        """Key, signature over the sorted parameters, window: as for a signed request."""
        protocol.check_key(parameters.get("apiKey"), self.credentials.key)
        signed = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters) if name != "signature")
        found = str(parameters.get("signature", "")).lower()
        if not hmac.compare_digest(found.encode(), protocol.signature(self.credentials.secret, signed).encode()):
            raise BinanceError(-1022, "Signature for this request is not valid.")
        protocol.check_window(Parameters({name: str(value) for name, value in parameters.items()}), now)


def kline_event(symbol: str, interval: str, bar: Kline, closed: bool, time: int) -> dict[str, Any]:
    """One message of `<symbol>@kline_<interval>`; `x` is true once the bar has closed."""
    row = bar.row
    return {
        "e": "kline",
        "E": time,
        "s": symbol,
        "k": {
            "t": bar.open_time,
            "T": bar.close_time,
            "s": symbol,
            "i": interval,
            "f": -1,
            "L": -1,
            **{key: number(value) for key, value in zip("ohlcv", row, strict=True)},
            "n": 0,
            "x": closed,
            "q": "0",
            "V": "0",
            "Q": "0",
            "B": "0",
        },
    }


def account_event(balances: Mapping[str, tuple[float, float]], time: int) -> dict[str, Any]:
    """`outboundAccountPosition`: the assets whose balance may have changed."""
    rows = [{"a": asset, "f": number(free), "l": number(locked)} for asset, (free, locked) in balances.items()]
    return {"e": "outboundAccountPosition", "E": time, "u": time, "B": rows}


def execution_report(order: Order, fill: Fill | None, time: int) -> dict[str, Any]:
    """`executionReport`: an order was accepted, ended, or filled (then with its `fill`)."""
    happened = "TRADE" if fill is not None else order.status
    ended = order.status in ("CANCELED", "EXPIRED") and fill is None
    name = order.client_order_id
    return {
        "e": "executionReport",
        "E": time,
        "s": order.symbol,
        "c": f"cancel-{order.order_id}" if happened == "CANCELED" else name,
        "S": "BUY" if order.side > 0 else "SELL",
        "o": protocol.type_of(order),
        "f": order.time_in_force,
        "q": number(order.quantity),
        "p": number(order.price or 0.0),
        "P": number(order.stop_price or 0.0),
        "F": "0",
        "g": -1 if order.group is None else order.group,
        "C": name if happened == "CANCELED" else "",
        "x": "NEW" if happened == "PARTIALLY_FILLED" else happened,
        "X": order.status,
        "r": "NONE",
        "i": order.order_id,
        "l": number(fill.quantity if fill else 0.0),
        "z": number(order.executed),
        "L": number(fill.price if fill else 0.0),
        "n": number(fill.fee if fill else 0.0),
        "N": fill.fee_asset if fill else None,
        "T": order.updated,
        "t": fill.trade_id if fill else -1,
        "I": order.order_id,
        "w": not ended and protocol.is_working(order),
        "m": fill.maker if fill else False,
        "M": False,
        "O": order.time,
        "Z": number(order.cost),
        "Y": number(fill.quantity * fill.price if fill else 0.0),
        "Q": "0",
        "W": order.time,
        "V": "NONE",
    }


def _result(identity: Any, result: Any) -> str:
    return json.dumps({"result": result, "id": identity})


def _error(identity: Any, code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "msg": message}, "id": identity})


def _reply(identity: Any, status: int, **more: Any) -> str:
    return json.dumps({"id": identity, "status": status, **more, "rateLimits": []})
