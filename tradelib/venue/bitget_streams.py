"""Bitget spot's WebSocket v2: candles on the public path; orders, fills and balances on the private one, after a login.

Source: Bitget's WebSocket documentation; `ccxt.pro.bitget` is the client it is read by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tradelib.venue.exchange import PaperExchange
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Event, Fill, Kline, Order
from tradelib.venue.protocol import number

__all__ = ["BitgetStream", "fill_message", "order_message"]

SNAPSHOT_BARS = 500
_STATUSES = {
    "NEW": "live",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "EXPIRED": "cancelled",
}
_MINUTES = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1H": 60,
    "4H": 240,
    "6Hutc": 360,
    "12Hutc": 720,
    "1Dutc": 1440,
    "1Wutc": 10080,
}
"""As in `tradelib.venue.bitget`: what begins by UTC+8 is not there."""
Login = Callable[[Mapping[str, Any], int], "tuple[int, str] | None"]


def order_message(order: Order, market: VenueMarket) -> dict[str, Any]:
    """One row of the `orders` channel. `newSize` of a market buy is what it spends, as in requests."""
    by_cost = order.kind == "market" and order.side > 0
    last = order.fills[-1] if order.fills else None
    row: dict[str, Any] = {
        "instId": market.id,
        "orderId": str(order.order_id),
        "clientOid": order.client_order_id,
        "size": number(order.cost if by_cost else order.quantity),
        "newSize": number(order.cost if by_cost else order.quantity),
        "notional": number(order.cost),
        "orderType": order.kind,
        "force": "post_only" if order.post_only else order.time_in_force.lower(),
        "side": "buy" if order.side > 0 else "sell",
        "accBaseVolume": number(order.executed),
        "priceAvg": number(order.cost / order.executed if order.executed else 0.0),
        "status": _STATUSES[order.status],
        "cTime": str(order.time),
        "uTime": str(order.updated),
        "feeDetail": [{"feeCoin": last.fee_asset or market.quote, "fee": number(-order.fee)}] if last else [],
        "enterPointSource": "API",
    }
    row |= {} if order.price is None else {"price": number(order.price)}
    return row if last is None else row | {"fillPrice": number(last.price), "tradeId": str(last.trade_id)}


def fill_message(order: Order, fill: Fill, market: VenueMarket) -> dict[str, Any]:
    """One row of the `fill` channel."""
    fee = {"feeCoin": fill.fee_asset or market.quote, "deduction": "no", "totalDeductionFee": "0"}
    return {
        "orderId": str(order.order_id),
        "tradeId": str(fill.trade_id),
        "symbol": market.id,
        "orderType": order.kind,
        "side": "buy" if order.side > 0 else "sell",
        "priceAvg": number(fill.price),
        "size": number(fill.quantity),
        "amount": number(fill.quantity * fill.price),
        "tradeScope": "maker" if fill.maker else "taker",
        "feeDetail": [{**fee, "totalFee": number(-fill.fee)}],
        "cTime": str(fill.time),
        "uTime": str(fill.time),
    }


class BitgetStream:
    """One connection. login: checks the arguments of a login; None on the public path."""

    def __init__(self, exchange: PaperExchange, login: Login | None) -> None:
        self.exchange = exchange
        self._login = login
        self._is_in = False
        self._asked: dict[str, dict[str, Any]] = {}  # what the client subscribed to, by channel and instrument

    def received(self, text: str, now: int) -> Sequence[str]:
        """Pings (plain text), logins, subscriptions."""
        if text == "ping":
            return ["pong"]
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("args"), list):
            return [_error(30003, "Invalid op")]
        if said.get("op") == "login":
            return [self._enter(said["args"][0] if said["args"] else {}, now)]
        if said.get("op") not in ("subscribe", "unsubscribe"):
            return [_error(30003, "Invalid op")]
        return [answer for wanted in said["args"] for answer in self._ask(said["op"], wanted, now)]

    def happened(self, event: Event) -> Sequence[str]:
        """Candles as they grow and close; orders, fills and balances of the account."""
        told = [(wanted, self._news(wanted, event)) for wanted in self._asked.values()]
        return [
            _push(wanted, "update" if event.kind == "kline" else "snapshot", data, event.time)
            for wanted, data in told
            if data
        ]

    def _enter(self, said: Mapping[str, Any], now: int) -> str:
        wrong = (30003, "Invalid op") if self._login is None else self._login(said, now)
        self._is_in = wrong is None
        return _text({"event": "login", "code": 0}) if wrong is None else _error(*wrong)

    def _ask(self, operation: str, wanted: Mapping[str, Any], now: int) -> list[str]:
        channel, instrument = str(wanted.get("channel", "")), str(wanted.get("instId", wanted.get("coin", "default")))
        key = f"{channel} {instrument}"
        if operation == "unsubscribe":
            self._asked.pop(key, None)
            return [_text({"event": "unsubscribe", "arg": wanted})]
        if channel in ("orders", "fill", "account"):
            if not self._is_in:
                return [_error(30004, "User needs to log in")]
        elif self._market_of(channel, instrument) is None:
            return [
                _error(30001, f"instType:{wanted.get('instType')},channel:{channel},instId:{instrument} doesn't exist")
            ]
        self._asked[key] = dict(wanted)
        answer = _text({"event": "subscribe", "arg": wanted})
        return [answer, *self._first(wanted, channel, instrument, now)]

    def _first(self, wanted: Mapping[str, Any], channel: str, instrument: str, now: int) -> list[str]:
        """What a new subscription is told at once: recent candles, or the balances."""
        if channel == "account":
            return [_push(wanted, "snapshot", self._balances(self.exchange.balances()), now)]
        market = self._market_of(channel, instrument)
        if market is None:
            return []
        clock = self.exchange.clock
        rows = [market.tape.kline(i, clock) for i in market.tape.select(clock, None, None, SNAPSHOT_BARS)]
        return [_push(wanted, "snapshot", [_candle(row) for row in rows], now)]

    def _market_of(self, channel: str, instrument: str) -> VenueMarket | None:
        """The market whose candles a channel names; None for no such market or timeframe."""
        market = self.exchange.markets.get(instrument)
        minutes = _MINUTES.get(channel.removeprefix("candle"), 0)
        return market if market is not None and market.tape.timeframe.milliseconds == 60_000 * minutes else None

    def _news(self, wanted: Mapping[str, Any], event: Event) -> list[Any]:
        """What `event` means to one subscription; empty for nothing."""
        channel, instrument = wanted.get("channel"), wanted.get("instId", "default")
        if event.kind == "kline" and event.kline is not None:
            mine = str(channel).startswith("candle") and instrument == event.symbol
            return [_candle(event.kline)] if mine else []
        if event.kind == "balance":
            return self._balances(event.balances or {}) if channel == "account" else []
        if event.order is None or instrument not in ("default", event.symbol):
            return []
        market = self.exchange.markets[event.symbol]
        if channel == "fill":
            return [] if event.fill is None else [fill_message(event.order, event.fill, market)]
        return [order_message(event.order, market)] if channel == "orders" else []

    def _balances(self, balances: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
        moment = str(self.exchange.clock)
        return [
            {"coin": coin, "available": number(free), "frozen": number(locked), "locked": "0", "uTime": moment}
            for coin, (free, locked) in balances.items()
        ]


def _candle(bar: Kline) -> list[str]:
    return [str(bar.open_time), *map(number, bar.row), "0", "0"]


def _push(wanted: Mapping[str, Any], action: str, data: list[Any], now: int) -> str:
    return _text({"action": action, "arg": dict(wanted), "data": data, "ts": now})


def _error(code: int, message: str) -> str:
    return _text({"event": "error", "code": code, "msg": message})


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
