"""Kraken spot's WebSocket v2: candles (`ohlc`), and the account's orders and fills (`executions`) and `balances`.

Source: Kraken's WebSocket v2 documentation; `ccxt.pro.kraken` is the client it is read by. Subscriptions to private
channels carry a token of `GetWebSocketsToken`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from tradelib.venue.exchange import PaperExchange
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Event, Fill, Kline, Order

__all__ = ["KrakenStream", "execution_json", "moment", "ohlc_json"]

SNAPSHOT_BARS = 10
_STATUSES = {
    "NEW": "new",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "canceled",
    "EXPIRED": "expired",
}
_KINDS = {
    "market": "market",
    "limit": "limit",
    "stop": "stop-loss",
    "stop_limit": "stop-loss-limit",
    "take_profit": "take-profit",
    "take_profit_limit": "take-profit-limit",
}


def moment(milliseconds: int | None) -> str:
    """RFC 3339 with microseconds, in UTC."""
    found = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
    return found.isoformat(timespec="microseconds").replace("+00:00", "Z")


def ohlc_json(bar: Kline, market: VenueMarket) -> dict[str, Any]:
    """One candle of the `ohlc` channel."""
    row = bar.row
    return {
        "symbol": market.symbol,
        "open": row.open,
        "high": row.high,
        "low": row.low,
        "close": row.close,
        "trades": 0,
        "volume": row.volume,
        "vwap": row.close,
        "interval_begin": moment(bar.open_time),
        "interval": market.tape.timeframe.milliseconds // 60_000,
        "timestamp": moment(bar.close_time + 1),
    }


def execution_json(order: Order, market: VenueMarket, name: str, fill: Fill | None = None) -> dict[str, Any]:
    """One execution report: of an order as it stands, or of a fill. `name` is the order's transaction id."""
    row: dict[str, Any] = {
        "order_id": name,
        "cl_ord_id": order.client_order_id,
        "order_userref": 0,
        "symbol": market.symbol,
        "side": "buy" if order.side > 0 else "sell",
        "order_type": _KINDS[order.kind],
        "order_qty": order.quantity,
        "cum_qty": order.executed,
        "cum_cost": order.cost,
        "avg_price": order.cost / order.executed if order.fills else 0.0,
        "time_in_force": order.time_in_force,
        "post_only": order.post_only,
        "exec_type": "trade" if fill is not None else _STATUSES[order.status],
        "order_status": _STATUSES[order.status],
        "fee_usd_equiv": order.fee,
        "timestamp": moment(order.updated if fill is None else fill.time),
    }
    row |= {} if order.price is None else {"limit_price": order.price}
    row |= {} if order.stop_price is None else {"stop_price": order.stop_price}
    return row if fill is None else row | _fill_json(fill, market)


def _fill_json(fill: Fill, market: VenueMarket) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "last_qty": fill.quantity,
        "last_price": fill.price,
        "cost": fill.quantity * fill.price,
        "liquidity_ind": "m" if fill.maker else "t",
        "fees": [{"asset": fill.fee_asset or market.quote, "qty": fill.fee}],
    }


class KrakenStream:
    """One connection. `is_token(token, now)` tells whether a token opens the private channels.

    order_name, trade_name: ids as Kraken writes them.
    """

    def __init__(
        self,
        exchange: PaperExchange,
        is_token: Callable[[str, int], bool],
        order_name: Callable[[Order], str],
        trade_name: Callable[[Fill], str],
    ) -> None:
        self.exchange = exchange
        self._is_token = is_token
        self._order_name, self._trade_name = order_name, trade_name
        self._candles: set[str] = set()
        self._private: set[str] = set()
        self._sequence = 0

    def received(self, text: str, now: int) -> Sequence[str]:
        """Subscriptions, and pings."""
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            return [_text({"error": "Malformed request", "success": False})]
        method = said.get("method")
        if method == "ping":
            return [self._answer(said, now, method="pong")]
        if method not in ("subscribe", "unsubscribe"):
            return [self._answer(said, now, success=False, error="Unsupported method")]
        wanted = said.get("params") or {}
        if wanted.get("channel") == "ohlc":
            return self._ask_candles(said, wanted, now)
        return self._ask_private(said, wanted, now)

    def happened(self, event: Event) -> Sequence[str]:
        """Candles as they grow and close; orders, fills and balances of the account."""
        if event.kind == "kline" and event.kline is not None:
            market = self.exchange.markets[event.symbol]
            if market.id not in self._candles:
                return []
            return [_message("ohlc", "update", [ohlc_json(event.kline, market)], timestamp=moment(event.time))]
        if event.kind == "balance" and "balances" in self._private:
            return [self._sequenced("balances", "update", _balances_json(event.balances or {}))]
        if event.order is not None and "executions" in self._private:
            return [self._sequenced("executions", "update", [row]) for row in self._reports(event.order, event.fill)]
        return []

    def _ask_candles(self, said: dict[str, Any], wanted: dict[str, Any], now: int) -> list[str]:
        answers: list[str] = []
        for symbol in wanted.get("symbol") or []:
            market = next((m for m in self.exchange.markets.values() if m.symbol == symbol), None)
            if market is None:
                answers.append(self._answer(said, now, success=False, error=f"Currency pair not supported {symbol}"))
            elif wanted.get("interval", 1) != market.tape.timeframe.milliseconds // 60_000:
                answers.append(self._answer(said, now, success=False, error="Interval not supported"))
            else:
                result = {"channel": "ohlc", "symbol": symbol, "interval": wanted.get("interval", 1), "snapshot": True}
                answers.append(self._answer(said, now, success=True, result=result))
                answers += self._toggle_candles(said["method"] == "subscribe", market)
        return answers

    def _toggle_candles(self, subscribe: bool, market: VenueMarket) -> list[str]:
        if not subscribe:
            self._candles.discard(market.id)
            return []
        self._candles.add(market.id)
        clock = self.exchange.clock
        rows = [market.tape.kline(i, clock) for i in market.tape.select(clock, None, None, SNAPSHOT_BARS)]
        return [_message("ohlc", "snapshot", [ohlc_json(row, market) for row in rows], timestamp=moment(clock))]

    def _ask_private(self, said: dict[str, Any], wanted: dict[str, Any], now: int) -> list[str]:
        channel = wanted.get("channel")
        if channel not in ("executions", "balances"):
            return [self._answer(said, now, success=False, error="Unsupported channel")]
        if not self._is_token(str(wanted.get("token", "")), now):
            return [self._answer(said, now, success=False, error="ESession:Invalid session")]
        answer = self._answer(said, now, success=True, result={"channel": channel})
        if said["method"] == "unsubscribe":
            self._private.discard(channel)
            return [answer]
        self._private.add(channel)
        return [answer, *(self._sequenced(channel, "snapshot", rows) for rows in self._snapshots(channel, wanted))]

    def _snapshots(self, channel: str, wanted: dict[str, Any]) -> Iterable[list[dict[str, Any]]]:
        """Open orders with `snap_orders` (the default), the newest 50 fills with `snap_trades`, or all balances."""
        if channel == "balances":
            yield _balances_json(self.exchange.balances())
            return
        if wanted.get("snap_orders", True):
            yield [self._report(order) for order in self.exchange.open_orders()]
        if wanted.get("snap_trades", False):
            yield [self._report(order, fill) for order, fill in self.exchange.trades()[-50:]]

    def _reports(self, order: Order, fill: Fill | None) -> list[dict[str, Any]]:
        """A fill is told as `trade`; the one that completes an order is followed by `filled`."""
        rows = [self._report(order, fill)]
        return rows if fill is None or order.status != "FILLED" else [*rows, self._report(order)]

    def _report(self, order: Order, fill: Fill | None = None) -> dict[str, Any]:
        row = execution_json(order, self.exchange.markets[order.symbol], self._order_name(order), fill)
        return row if fill is None else row | {"exec_id": self._trade_name(fill)}

    def _sequenced(self, channel: str, kind: str, data: list[dict[str, Any]]) -> str:
        self._sequence += 1
        return _message(channel, kind, data, sequence=self._sequence)

    def _answer(self, said: dict[str, Any], now: int, **more: Any) -> str:
        answer = {"method": said.get("method"), "time_in": moment(now), "time_out": moment(now), **more}
        return _text(answer | ({"req_id": said["req_id"]} if "req_id" in said else {}))


def _balances_json(balances: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    return [
        {
            "asset": asset,
            "balance": free + locked,
            "wallets": [{"type": "spot", "id": "main", "balance": free + locked}],
        }
        for asset, (free, locked) in balances.items()
    ]


def _message(channel: str, kind: str, data: Iterable[dict[str, Any]], **more: Any) -> str:
    return _text({"channel": channel, "type": kind, "data": list(data), **more})


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
