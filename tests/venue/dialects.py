"""What the tests of the dialects share: credentials, an exchange of two markets, requests signed as they must be."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from tests.venue.support import FIRST
from tradelib.data.bars import make_bars
from tradelib.live.connection import make_client
from tradelib.venue import PaperExchange, VenueMarket, VenueThread
from tradelib.venue import bitget as bitget_rules
from tradelib.venue import kraken as kraken_rules
from tradelib.venue import protocol as binance_rules
from tradelib.venue.dialect import Credentials, Dialect, Request, Route

KEY, PASSPHRASE = "paper-key", "paper passphrase"
SECRET = base64.b64encode(b"a secret of more than enough bytes").decode()
CREDENTIALS = Credentials(KEY, SECRET, PASSPHRASE)
HOUR = 3_600_000


def hourly(price: float, count: int = 48, *, symbol: str = "LTC/USDT", start: int = FIRST) -> pd.DataFrame:
    """Hourly bars that move around `price`."""
    close = price * (1.0 + 0.001 * np.sin(np.arange(count)))
    frame = pd.DataFrame(
        {"open": close, "high": close * 1.002, "low": close * 0.998, "close": close, "volume": 100.0},
        index=pd.to_datetime(start + HOUR * np.arange(count), unit="ms", utc=True).rename("time"),
    )
    return make_bars(frame, symbol=symbol, timeframe="1h", source="made up", calendar="24/7")


def exchange(*, pace: str = "manual", quote: str = "USDT", **options: Any) -> PaperExchange:
    """BTC and LTC against `quote`, at about 38,000 and 71, with a position in each."""
    terms = {"lots_per_unit": 1e8, "minimum_notional": 1.0, "price_decimals": 5}
    markets = [
        VenueMarket(f"{base}/{quote}", hourly(price, symbol=f"{base}/{quote}"), **terms)
        for base, price in (("BTC", 38_000.0), ("LTC", 71.0))
    ]
    return PaperExchange(markets, pace=pace, holdings={"BTC": 1.0, "LTC": 100.0}, **options)


def serve(paper: PaperExchange, name: str, **options: Any) -> VenueThread:
    """The exchange behind a socket, in the dialect `name`."""
    return VenueThread(paper, key=KEY, secret=SECRET, passphrase=PASSPHRASE, dialect=name, **options)


def client(url: str, name: str, *, streams: bool = False, secret: str = SECRET) -> Any:
    """The real ccxt client as the runner makes it."""
    return make_client(url, "paper", KEY, secret, name, passphrase=PASSPHRASE, streams=streams)


def now() -> int:
    """The real clock, epoch milliseconds."""
    return time.time_ns() // 10**6


class Wire:
    """A dialect without sockets: finds the route, checks the signature as the server does, answers."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.routes: dict[tuple[str, str], Route] = {(r.method, r.path): r for r in dialect.routes()}

    def ask(self, request: Request) -> Any:
        """The body of the answer; an error as the dialect puts it."""
        route = self.routes[request.method, request.path]
        try:
            if route.signed:
                self.dialect.authenticate(request)
            return route.answer(request)
        except Exception as error:  # the dialect says which errors are answers
            reply = self.dialect.refusal(error)
            if reply is None:
                raise
            return reply.body


def kraken(path: str, body: str | None = None, nonce: int | None = None, **fields: Any) -> Request:
    """A signed request of Kraken; `body` may hold a recorded one, whose nonce counts."""
    body = body or urlencode({"nonce": nonce or time.time_ns(), **fields})
    stamp = body.split("nonce=")[1].split("&")[0]
    full = f"/0/private/{path}"
    headers = {"API-Key": KEY, "API-Sign": kraken_rules.sign(SECRET, full, stamp, body)}
    return Request("POST", full, "", body, headers, now())


def bitget(method: str, path: str, fields: dict[str, Any] | None = None, at: int | None = None) -> Request:
    """A signed request of Bitget."""
    query = urlencode(sorted((fields or {}).items())) if method == "GET" else ""
    body = json.dumps(fields) if method == "POST" else ""
    full, stamp = f"/api/v2/{path}", str(at or now())
    target = full + (f"?{query}" if query else "")
    headers = {
        "ACCESS-KEY": KEY,
        "ACCESS-PASSPHRASE": PASSPHRASE,
        "ACCESS-TIMESTAMP": stamp,
        "ACCESS-SIGN": bitget_rules.sign(SECRET, stamp, method, target, body),
    }
    return Request(method, full, query, body, headers, now())


def binance(path: str, fields: str) -> Request:
    """A signed POST of Binance; `fields` is a recorded body without its signature."""
    body = f"{fields}&timestamp={now()}&recvWindow=10000"
    body += "&signature=" + binance_rules.signature(SECRET, body)
    return Request("POST", path, "", body, {"X-MBX-APIKEY": KEY}, now())
