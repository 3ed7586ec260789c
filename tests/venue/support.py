"""Small recorded markets, and clients pointed at the venue."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlencode

import ccxt
import ccxt.async_support
import ccxt.pro
import numpy as np
import pandas as pd

from tradelib.data.bars import make_bars
from tradelib.venue.exchange import PaperExchange, VenueMarket
from tradelib.venue.protocol import signature
from tradelib.venue.server import VenueThread

KEY = "paper-key"
SECRET = "paper-secret"
DAY = 86_400_000
FIRST = 1_514_764_800_000  # 2018-01-01T00:00:00Z


def recorded(count: int = 10, *, seed: int = 1, skip: tuple[int, ...] = ()) -> pd.DataFrame:
    """`count` daily bars from 2018-01-01 with prices of many decimals; days in `skip` were never recorded."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.02, count)))
    open_ = close * np.exp(random.normal(0.0, 0.005, count))
    frame = pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) * 1.01,
            "low": np.minimum(open_, close) * 0.99,
            "close": close,
            "volume": random.uniform(1.0, 1e6, count),
        },
        index=pd.date_range("2018-01-01", periods=count, freq="D", tz="UTC", name="time"),
    )
    kept = frame.drop(index=frame.index[list(skip)])
    return make_bars(kept, symbol="SPX", timeframe="1d", source="made up", calendar="XNYS" if skip else "24/7")


def market(bars: pd.DataFrame | None = None, symbol: str = "SPX/USDT", **terms: Any) -> VenueMarket:
    """A market of `bars` with lots of 0.01 and a minimum notional of 5."""
    return VenueMarket(
        symbol, recorded() if bars is None else bars, **{"lots_per_unit": 100.0, "minimum_notional": 5.0, **terms}
    )


def exchange(bars: pd.DataFrame | None = None, *, start: int = 3, **options: Any) -> PaperExchange:
    """One market whose bar number `start` is the first to be traded."""
    terms = {name: options.pop(name) for name in list(options) if name in VenueMarket.__dataclass_fields__}
    when = pd.Timestamp(FIRST + start * DAY, unit="ms", tz="UTC")
    return PaperExchange([market(bars, **terms)], start=when, **options)


def serve(venue: PaperExchange, **options: Any) -> VenueThread:
    """The exchange behind a socket."""
    return VenueThread(venue, key=KEY, secret=SECRET, **options)


def _pointed(client: Any, url: str) -> Any:
    def moved(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: moved(branch) for name, branch in tree.items()}
        host = url.replace("http://", "ws://") if tree.startswith("ws") else url
        return host + "/" + tree.split("/", 3)[3] if tree.count("/") > 2 else host

    client.urls["api"] = moved(client.urls["api"])
    return client


def _settings(key: str, secret: str, options: dict[str, Any]) -> dict[str, Any]:
    spot = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    return {"apiKey": key, "secret": secret, "enableRateLimit": False, "options": {**spot, **options}}


def client(url: str, *, key: str = KEY, secret: str = SECRET, **options: Any) -> Any:
    """The real ccxt client, talking to the venue."""
    return _pointed(ccxt.binance(_settings(key, secret, options)), url)


def async_client(url: str, *, key: str = KEY, secret: str = SECRET, **options: Any) -> Any:
    """The real asynchronous ccxt client, talking to the venue."""
    return _pointed(ccxt.async_support.binance(_settings(key, secret, options)), url)


def pro_client(url: str, *, key: str = KEY, secret: str = SECRET, **options: Any) -> Any:
    """The real ccxt.pro client, REST and WebSocket, talking to the venue."""
    return _pointed(ccxt.pro.binance(_settings(key, secret, options)), url)


def ask(
    port: int,
    path: str,
    parameters: dict[str, Any] | None = None,
    *,
    method: str = "GET",
    secret: str | None = None,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> tuple[int, Any]:
    """One plain HTTP request, signed when `secret` is given; the status and the JSON (or text) of the answer."""
    sent = dict(parameters or {})
    if secret is not None:
        sent.setdefault("timestamp", time.time_ns() // 10**6)
    query = urlencode(sent)
    if secret is not None:
        query += "&signature=" + signature(secret, query)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    given = {"X-MBX-APIKEY": KEY, **(headers or {})}
    connection.request(method, f"{path}?{query}" if query else path, body=body, headers=given)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, json.loads(text) if text.startswith(("{", "[")) else text
