"""The paper exchange behind a real socket: aiohttp on 127.0.0.1, Binance's paths, one API key.

Served as Binance serves it: `/api/v3/` ping, time, exchangeInfo, klines, ticker/price, ticker/bookTicker; signed:
account, order (POST, GET, DELETE), openOrders, allOrders, myTrades. The venue's own: `GET /venue/v1/clock` tells
the simulated time and how many ticks are left, signed `POST /venue/v1/step?ticks=n` moves it (pace "manual" only).

When and how the clock moves is written down in `tradelib.venue.exchange`, the dialect in `tradelib.venue.protocol`.

The server listens on loopback only, and answers only requests that name it as loopback and come from no web page: a
site open in a browser on the same machine cannot reach the account or move the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from aiohttp import web

from tradelib._jit import interpreted
from tradelib.data.files import read_bars
from tradelib.errors import VenueError
from tradelib.venue import protocol
from tradelib.venue.exchange import PaperExchange, Refusal, VenueMarket
from tradelib.venue.protocol import BinanceError, Parameters

__all__ = ["KEY_VARIABLE", "SECRET_VARIABLE", "VenueServer", "VenueThread", "run_venue"]

HOST = "127.0.0.1"
KEY_VARIABLE = "TRADELIB_API_KEY"
SECRET_VARIABLE = "TRADELIB_API_SECRET"


def _wall_clock() -> int:
    return time.time_ns() // 10**6


class _Endpoints:
    """What each path answers; every method is one endpoint and returns what goes out as JSON."""

    def __init__(self, exchange: PaperExchange, now: Callable[[], int]) -> None:
        self.exchange = exchange
        self.now = now

    def ping(self, _: Parameters) -> Any:
        return {}

    def time(self, _: Parameters) -> Any:
        return {"serverTime": self.now()}

    def exchange_info(self, parameters: Parameters) -> Any:
        return protocol.exchange_info_json(self.exchange, self._markets(parameters), self.now())

    def klines(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        if parameters.required("interval") != str(market.tape.timeframe):
            raise BinanceError(-1120, f"Invalid interval. This venue has {market.tape.timeframe} bars of {market.id}.")
        start, end = parameters.window()
        rows = self.exchange.klines(market.id, start, end, parameters.limit())
        return [protocol.kline_json(row) for row in rows]

    def price(self, parameters: Parameters) -> Any:
        return self._tickers(parameters, protocol.price_json)

    def book(self, parameters: Parameters) -> Any:
        return self._tickers(parameters, protocol.book_json)

    def account(self, parameters: Parameters) -> Any:
        omit_zero = parameters.text("omitZeroBalances", r"^(true|false)$") == "true"
        return protocol.account_json(self.exchange, omit_zero=omit_zero)

    def place(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        side = {"BUY": 1, "SELL": -1}.get(parameters.required("side"))
        if side is None:
            raise BinanceError(-1117, "Invalid side.")
        kind = parameters.required("type")
        if kind != "MARKET":
            raise BinanceError(-1116, f"Invalid orderType. {kind} is not supported yet: send MARKET.")
        for name in ("price", "timeInForce", "quoteOrderQty"):
            if name in parameters.values:
                hint = " Orders are sent by base quantity." if name == "quoteOrderQty" else ""
                raise BinanceError(-1106, f"Parameter '{name}' sent when not required.{hint}")
        detail = parameters.text("newOrderRespType") or "FULL"
        if detail not in ("ACK", "RESULT", "FULL"):
            raise BinanceError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        name_sent = parameters.client_order_id("newClientOrderId")
        order = self.exchange.place_market_order(market.id, side, parameters.quantity(market), name_sent)
        return protocol.new_order_json(order, market, detail)

    def order(self, parameters: Parameters) -> Any:
        return protocol.order_json(
            self.exchange.find_order(parameters.required("symbol"), *parameters.order_reference())
        )

    def cancel(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        try:
            return protocol.order_json(self.exchange.cancel_order(market.id, *parameters.order_reference()))
        except Refusal as refusal:
            raise BinanceError(-2011, "Unknown order sent.") from refusal

    def open_orders(self, parameters: Parameters) -> Any:
        ids = {market.id for market in self._markets(parameters)}
        return [protocol.order_json(order) for order in self.exchange.open_orders.values() if order.symbol in ids]

    def all_orders(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        first, (start, end) = parameters.integer("orderId"), parameters.window()
        orders = [
            order
            for order in self.exchange.orders_of(market.id)
            if order.order_id >= (first or 0) and _within(order.time, start, end)
        ]
        return [protocol.order_json(order) for order in _page(orders, first or start, parameters.limit())]

    def my_trades(self, parameters: Parameters) -> Any:
        market = self.exchange.market(parameters.required("symbol"))
        wanted, first = parameters.integer("orderId"), parameters.integer("fromId")
        start, end = parameters.window()
        orders = [
            order
            for order in self.exchange.orders_of(market.id)
            if order.fill is not None
            and wanted in (None, order.order_id)
            and order.fill.trade_id >= (first or 0)
            and _within(order.fill.time, start, end)
        ]
        return [protocol.trade_json(order, market) for order in _page(orders, first or start, parameters.limit())]

    def clock(self, _: Parameters) -> Any:
        exchange = self.exchange
        return {
            "clock": exchange.clock,
            "remaining": exchange.remaining,
            "finished": exchange.finished,
            "pace": exchange.pace,
        }

    def step(self, parameters: Parameters) -> Any:
        if self.exchange.pace != "manual":
            raise BinanceError(-1020, f"This operation is not supported. The venue's pace is '{self.exchange.pace}'.")
        ticks = parameters.integer("ticks")
        moved = self.exchange.step(1 if ticks is None else ticks)
        return {"moved": moved, **self.clock(parameters)}

    def _markets(self, parameters: Parameters) -> list[VenueMarket]:
        symbols = parameters.symbols()
        return [self.exchange.market(symbol) for symbol in (self.exchange.markets if symbols is None else symbols)]

    def _tickers(self, parameters: Parameters, shape: Callable[[PaperExchange, str], Any]) -> Any:
        rows = [shape(self.exchange, market.id) for market in self._markets(parameters)]
        return rows[0] if "symbol" in parameters.values else rows


def _within(moment: int, start: int | None, end: int | None) -> bool:
    return (start is None or moment >= start) and (end is None or moment <= end)


def _page(rows: list[Any], first: int | None, limit: int) -> list[Any]:
    """The first `limit` rows when the request names where to begin, else the newest."""
    return rows[-limit:] if first is None else rows[:limit]


class _Route(NamedTuple):
    method: str
    path: str
    answer: Callable[[Parameters], Any]
    parameters: frozenset[str]
    signed: bool


def _routes(serve: _Endpoints) -> list[_Route]:
    def public(path: str, answer: Callable[[Parameters], Any], names: str = "") -> _Route:
        return _Route("GET", path, answer, frozenset(names.split()), False)

    def signed(method: str, path: str, answer: Callable[[Parameters], Any], names: str) -> _Route:
        return _Route(method, path, answer, frozenset(names.split()) | protocol.SIGNED_PARAMETERS, True)

    order = "symbol side type quantity quoteOrderQty price timeInForce newClientOrderId newOrderRespType"
    return [
        public("/api/v3/ping", serve.ping),
        public("/api/v3/time", serve.time),
        public("/api/v3/exchangeInfo", serve.exchange_info, "symbol symbols"),
        public("/api/v3/klines", serve.klines, "symbol interval startTime endTime limit"),
        public("/api/v3/ticker/price", serve.price, "symbol symbols"),
        public("/api/v3/ticker/bookTicker", serve.book, "symbol symbols"),
        signed("GET", "/api/v3/account", serve.account, "omitZeroBalances"),
        signed("POST", "/api/v3/order", serve.place, order),
        signed("GET", "/api/v3/order", serve.order, "symbol orderId origClientOrderId"),
        signed("DELETE", "/api/v3/order", serve.cancel, "symbol orderId origClientOrderId newClientOrderId"),
        signed("GET", "/api/v3/openOrders", serve.open_orders, "symbol"),
        signed("GET", "/api/v3/allOrders", serve.all_orders, "symbol orderId startTime endTime limit"),
        signed("GET", "/api/v3/myTrades", serve.my_trades, "symbol orderId fromId startTime endTime limit"),
        public("/venue/v1/clock", serve.clock),
        signed("POST", "/venue/v1/step", serve.step, "ticks"),
    ]


class VenueServer:
    """Serve a `PaperExchange` on loopback: `async with VenueServer(exchange, key=..., secret=...) as server`.

    port 0 takes a free one; `url` and `port` tell which. seconds_per_bar: real time per tick, for pace "real" only.
    now: the real clock, epoch milliseconds. Raises `VenueError` when it cannot listen.
    """

    def __init__(
        self,
        exchange: PaperExchange,
        *,
        key: str,
        secret: str,
        port: int = 0,
        host: str = HOST,
        seconds_per_bar: float | None = None,
        now: Callable[[], int] = _wall_clock,
    ) -> None:
        if host != HOST:
            raise VenueError(f"host {host!r} is refused: the paper venue listens on {HOST} only, never on a network")
        if not 0 <= port <= 65_535:
            raise VenueError(f"port {port} does not exist: use 1024 to 65535, or 0 for a free one")
        if not key or not secret:
            raise VenueError("the venue needs an API key and a secret, both not empty")
        timed = seconds_per_bar is not None and 0.0 < seconds_per_bar < float("inf")
        if timed != (exchange.pace == "real") or (seconds_per_bar is not None and not timed):
            raise VenueError(
                f"seconds_per_bar is {seconds_per_bar!r} with pace {exchange.pace!r}: pace 'real' needs a positive "
                "number of seconds, the others none"
            )
        self.exchange = exchange
        self.port = port
        self._key, self._secret = key, secret
        self._seconds_per_bar = seconds_per_bar
        self._now = now
        self._runner: web.AppRunner | None = None
        self._timer: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients find the venue."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> VenueServer:
        application = web.Application(middlewares=[_errors, _local_only], client_max_size=65_536)
        for route in _routes(_Endpoints(self.exchange, self._now)):
            application.router.add_route(route.method, route.path, self._handler(route))
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port).start()
        except OSError as error:
            await runner.cleanup()
            raise VenueError(_cannot_listen(self.port, error)) from error
        self._runner = runner
        self.port = runner.addresses[0][1]
        if self._seconds_per_bar is not None:
            self._timer = asyncio.create_task(self._keep_time(self._seconds_per_bar))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _keep_time(self, seconds: float) -> None:
        while not self.exchange.finished:
            await asyncio.sleep(seconds)
            self.exchange.step()

    def _handler(self, route: _Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            query = request.raw_path.partition("?")[2]
            body = "" if request.method == "GET" else (await request.read()).decode("utf-8", "surrogateescape")
            if route.signed:
                protocol.check_key(request.headers.get("X-MBX-APIKEY"), self._key)
                protocol.check_signature(self._secret, query, body)
            parameters = protocol.read_parameters(query, body, route.parameters)
            if route.signed:
                protocol.check_window(parameters, self._now())
            return web.json_response(route.answer(parameters))

        return handle


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Refusals as Binance words them. What nobody foresaw is a plain 500: an unknown outcome to the client."""
    try:
        return await handler(request)
    except Refusal as refusal:
        error = protocol.refusal_error(refusal)
    except BinanceError as known:
        error = known
    return web.json_response(error.body(), status=error.status)


@web.middleware
async def _local_only(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Turn away web pages: a foreign Host is DNS rebinding, an Origin or fetch metadata is a browser's script."""
    browser = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    if browser or request.host.rpartition(":")[0] not in (HOST, "localhost"):
        raise web.HTTPForbidden(text="the paper venue answers programs on this machine only\n")
    return await handler(request)


def _cannot_listen(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {HOST} is busy: stop the program that uses it, or choose another (0 takes a free one)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} on {HOST} may not be used by this account: choose one from 1024 to 65535"
    return f"cannot listen on {HOST}:{port}: {error.strerror or error}"


class VenueThread:
    """The server in a thread of its own, for notebooks, scripts and tests: `with VenueThread(exchange, ...) as venue`.

    Takes the arguments of `VenueServer`. The exchange belongs to the thread while it runs: talk to it over HTTP.
    """

    def __init__(self, exchange: PaperExchange, *, key: str, secret: str, **options: Any) -> None:
        self._server = VenueServer(exchange, key=key, secret=secret, **options)
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: VenueError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where clients find the venue."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    @property
    def exchange(self) -> PaperExchange:
        """The exchange that is served."""
        return self._server.exchange

    def __enter__(self) -> VenueThread:
        self._thread = threading.Thread(target=self._run, name="tradelib-venue", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._stop is None:
            self._thread.join()
            raise self._failure or VenueError("the venue's thread ended before it listened")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except VenueError as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        async with self._server:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._started.set()
            await self._stop.wait()


def run_venue(
    bars: Sequence[str | Path],
    *,
    symbols: Sequence[str] | None = None,
    port: int = 8787,
    cash: float = 100_000.0,
    fee_rate: float = 0.001,
    slippage: float = 0.0005,
    lots_per_unit: float = 10_000.0,
    minimum_notional: float = 10.0,
    start: Any = None,
    pace: str = "poll",
    seconds_per_bar: float | None = None,
    announce: Callable[[str], None],
) -> None:
    """Serve files of bars as a paper exchange until Ctrl-C or SIGTERM; the key pair comes from the environment.

    bars: Parquet or CSV files, one market each. symbols: their markets as BASE/QUOTE, by default as the files say. The
    other terms are those of `VenueMarket`, `PaperExchange` and `VenueServer`. `announce` gets one line when the venue
    listens, and one when it stops. Raises `VenueError` or `DataError` before anything listens.
    """
    key, secret = _credentials()
    frames = [read_bars(Path(path)) for path in bars]
    names = [str(frame.attrs["symbol"]) for frame in frames] if symbols is None else list(symbols)
    if len(names) != len(frames):
        raise VenueError(f"{len(names)} symbols for {len(frames)} files of bars: give one symbol for each file")
    terms = (fee_rate, slippage, lots_per_unit, minimum_notional)
    markets = [VenueMarket(name, frame, *terms) for name, frame in zip(names, frames, strict=True)]
    exchange = PaperExchange(markets, cash=cash, start=start, pace=pace)
    server = VenueServer(exchange, key=key, secret=secret, port=port, seconds_per_bar=seconds_per_bar)
    with interpreted(), asyncio.Runner() as runner:
        runner.run(_until_signal(server, announce))


def _credentials() -> tuple[str, str]:
    key, secret = (os.environ.get(name, "").strip() for name in (KEY_VARIABLE, SECRET_VARIABLE))
    if not key or not secret:
        missing = " and ".join(name for name, value in ((KEY_VARIABLE, key), (SECRET_VARIABLE, secret)) if not value)
        raise VenueError(
            f"no API key: set {missing}. The venue checks signatures as an exchange does; choose any pair, such as\n"
            f"  export {KEY_VARIABLE}=paper\n"
            f"  export {SECRET_VARIABLE}=$(python3 -c 'import secrets; print(secrets.token_hex(32))')\n"
            "and give the runner the same"
        )
    return key, secret


async def _until_signal(server: VenueServer, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        exchange = server.exchange
        opens = pd.Timestamp(exchange.clock, unit="ms", tz="UTC").isoformat()
        announce(
            f"paper venue on {server.url}: {', '.join(exchange.markets)}, first bar to trade {opens}, "
            f"{exchange.remaining} to go, pace {exchange.pace}. Ctrl-C stops it."
        )
        await stop.wait()
    announce(f"paper venue on {server.url} stopped; its account is forgotten")
