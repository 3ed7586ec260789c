"""Live public data for paper trading: a real market's bars, read without a key, matched against paper orders.

The client is a ccxt async client of a real exchange that holds no key: it cannot trade. `live_market` reads history and
makes the market, `follow` keeps it up to date. Resting orders meet what the bars show between two readings, so a fill
is as late as the reading; market orders fill at the newest price, slipped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from tradelib.data.bars import make_bars
from tradelib.errors import VenueError
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.markets import VenueMarket
from tradelib.venue.orders import Row
from tradelib.venue.sources import LiveTape

__all__ = ["follow", "live_market", "public_client", "refresh"]

HISTORY = 500
"""Closed bars that a live market begins with."""


def public_client(exchange: str) -> Any:
    """ccxt's async client of `exchange` without a key; `VenueError` when ccxt has none of that name."""
    import ccxt.async_support as ccxt

    if exchange not in ccxt.exchanges:
        raise VenueError(f"ccxt knows no exchange {exchange!r}: write its id, such as 'binance' or 'kraken'")
    return getattr(ccxt, exchange)({"enableRateLimit": True})


async def live_market(client: Any, symbol: str, timeframe: str, **terms: Any) -> VenueMarket:
    """The market `symbol` with its newest closed bars; `terms` as of `VenueMarket`."""
    if getattr(client, "apiKey", None) or getattr(client, "secret", None):
        raise VenueError(
            "the client for live public data holds a key: make it without one, it must not be able to trade"
        )
    rows = await client.fetch_ohlcv(symbol, timeframe, limit=HISTORY)
    if len(rows) < 2:
        raise VenueError(f"{symbol} {timeframe}: the exchange shows {len(rows)} bars, at least two are needed")
    times = pd.DatetimeIndex(pd.to_datetime([row[0] for row in rows[:-1]], unit="ms", utc=True), name="time")
    frame = pd.DataFrame([row[1:6] for row in rows[:-1]], columns=list(Row._fields), index=times).astype("float64")
    bars = make_bars(frame, symbol=symbol, timeframe=timeframe, source=str(client.id), calendar="24/7")
    market = VenueMarket(symbol, LiveTape(bars), **terms)
    assert isinstance(market.tape, LiveTape)
    market.tape.push([(int(rows[-1][0]), Row(*map(float, rows[-1][1:6])))])
    return market


async def refresh(
    exchange: PaperExchange, client: Any, now: Callable[[], int] = lambda: time.time_ns() // 10**6
) -> None:
    """Read every market once and let its resting orders meet what is new."""
    for market in exchange.markets.values():
        since = market.tape.opens[-1]
        rows = await client.fetch_ohlcv(market.symbol, str(market.tape.timeframe), since, HISTORY)
        exchange.push(market.id, [(int(row[0]), Row(*map(float, row[1:6]))) for row in rows], now())


async def follow(
    exchange: PaperExchange, client: Any, *, seconds: float = 1.0, on_error: Callable[[Exception], None]
) -> None:
    """`refresh` every `seconds` until cancelled; what fails on the way (networks do) goes to `on_error`."""
    from ccxt import BaseError

    while True:
        try:
            await refresh(exchange, client)
        except (OSError, BaseError) as error:
            on_error(error)
        await asyncio.sleep(seconds)
