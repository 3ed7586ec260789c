"""The paper exchange behind real sockets: aiohttp on 127.0.0.1, one dialect, one API key, faults on demand.

A dialect (`tradelib.venue.binance` and its neighbours) says what each path answers; the server adds what is the same
for all: sockets, the order of checks, rate limits, WebSocket connections, the fault plan, and the venue's own paths,
which are signed as Binance signs: `GET /venue/v1/clock` tells the simulated time and how many ticks are left, `POST
/venue/v1/step?ticks=n` moves it (pace "manual" only).

When and how the clock moves is written down in `tradelib.venue.exchange`, the faults in `tradelib.venue.faults`.

The server listens on loopback only, and answers only requests that name it as loopback and come from no web page: a
site open in a browser on the same machine cannot reach the account or move the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from aiohttp import web

from tradelib._jit import interpreted
from tradelib.data.files import read_bars
from tradelib.errors import VenueError
from tradelib.venue import protocol
from tradelib.venue.dialect import Credentials, Dialect, Reply, Request, Route
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.faults import FaultPlan, FaultState
from tradelib.venue.faulty import FaultyWire
from tradelib.venue.limits import RateLimiter, RateLimits
from tradelib.venue.markets import VenueMarket
from tradelib.venue.protocol import BinanceError
from tradelib.venue.sockets import Sockets
from tradelib.venue.sources import read_events

__all__ = ["DIALECTS", "KEY_VARIABLE", "SECRET_VARIABLE", "VenueServer", "VenueThread", "make_dialect", "run_venue"]

HOST = "127.0.0.1"
KEY_VARIABLE = "TRADELIB_API_KEY"
SECRET_VARIABLE = "TRADELIB_API_SECRET"
PASSPHRASE_VARIABLE = "TRADELIB_API_PASSPHRASE"

DIALECTS = {
    "binance": "tradelib.venue.binance:BinanceDialect",
    "kraken": "tradelib.venue.kraken:KrakenDialect",
    "bitget": "tradelib.venue.bitget:BitgetDialect",
}
"""Dialect -> module and class; a class takes the exchange and the credentials."""


def make_dialect(name: str, exchange: PaperExchange, credentials: Credentials) -> Dialect:
    """The dialect called `name`; `VenueError` when there is none."""
    if name not in DIALECTS:
        raise VenueError(f"dialect {name!r} is unknown: use one of {', '.join(DIALECTS)}")
    module, _, factory = DIALECTS[name].partition(":")
    dialect: Dialect = getattr(import_module(module), factory)(exchange, credentials)
    return dialect


def _wall_clock() -> int:
    return time.time_ns() // 10**6


class VenueServer:
    """Serve a `PaperExchange` on loopback: `async with VenueServer(exchange, key=..., secret=...) as server`.

    port 0 takes a free one; `url` and `port` tell which. dialect: "binance", "kraken", "bitget". faults: what goes
    wrong on purpose; `server.faults.log` tells what did. limits: requests and orders a client may send, None for no
    bound. seconds_per_bar: real time per tick, for pace "real" only. now: the real clock, epoch milliseconds. state: a
    file that carries the account over restarts: read at the start where it exists, written every second and at the end.
    kline_seconds: streams repeat the bar that forms after so many real seconds (2, as Binance). Raises `VenueError`
    when it cannot listen.
    """

    def __init__(
        self,
        exchange: PaperExchange,
        *,
        key: str,
        secret: str,
        passphrase: str = "",
        dialect: str = "binance",
        port: int = 0,
        host: str = HOST,
        seconds_per_bar: float | None = None,
        now: Callable[[], int] = _wall_clock,
        faults: FaultPlan | None = None,
        limits: RateLimits | None = None,
        state: str | Path | None = None,
        kline_seconds: float = 2.0,
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
        self.faults: FaultState | None = None if faults is None else faults.start()
        exchange.faults = self.faults
        self._credentials = Credentials(key, secret, passphrase)
        self.dialect = make_dialect(dialect, exchange, self._credentials)
        self._seconds_per_bar = seconds_per_bar
        self._now = now
        self.state = None if state is None else Path(state)
        self._limiter = None if limits is None else RateLimiter(limits, now)
        self._wire = FaultyWire(self.faults, self.dialect, self._restart)
        self._sockets = Sockets(exchange, self.faults, now, kline_seconds)
        self._runner: web.AppRunner | None = None
        self._timers: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where clients find the venue."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> VenueServer:
        self._load()
        application = web.Application(middlewares=[_local_only], client_max_size=65_536)
        for route in [*self.dialect.routes(), *self._own_routes()]:
            application.router.add_route(route.method, route.path, self._handler(route))
        for stream in self.dialect.streams():
            application.router.add_get(stream.path, self._sockets.handler(stream))
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port).start()
        except OSError as error:
            await runner.cleanup()
            raise VenueError(_cannot_listen(self.port, error)) from error
        self._runner = runner
        self.port = runner.addresses[0][1]
        self._sockets.start()
        if self._seconds_per_bar is not None:
            self._timers.append(asyncio.create_task(self._keep_time(self._seconds_per_bar)))
        if self.state is not None:
            self._timers.append(asyncio.create_task(self._keep_state()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await timer
        self._timers.clear()
        await self._sockets.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.save()

    def save(self) -> None:
        """Write the account to the state file, where there is one; complete or not at all."""
        if self.state is not None:
            written = self.state.with_suffix(".new")
            written.write_text(json.dumps(self.exchange.snapshot()), encoding="utf-8")
            written.replace(self.state)

    async def _keep_state(self) -> None:
        """Write what changed every second: a venue that is killed has lost no more than that."""
        saved = None
        while True:
            await asyncio.sleep(1.0)
            if saved != (now := (self.exchange.clock, self.exchange.changes)):
                self.save()
                saved = now

    def _load(self) -> None:
        if self.state is None or not self.state.exists():
            return
        try:
            self.exchange.restore(json.loads(self.state.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise VenueError(f"{self.state} is no state of a venue ({error}): move it away to start anew") from error

    async def _restart(self) -> None:
        """What a restart leaves: the account as its snapshot says it; no connection survives."""
        self.exchange.restore(json.loads(json.dumps(self.exchange.snapshot())))
        await self._sockets.drop_all()

    async def _keep_time(self, seconds: float) -> None:
        while not self.exchange.finished:
            await asyncio.sleep(seconds)
            expire: Callable[[int], None] | None = getattr(self.dialect, "expire", None)
            if expire is not None:  # a dead-man switch goes off without anybody asking
                expire(self._now())
            self.exchange.step()

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        def execute(request: Request) -> Reply:
            return self._answer(route, request)

        async def handle(request: web.Request) -> web.StreamResponse:
            path, _, query = request.raw_path.partition("?")
            body = "" if request.method == "GET" else (await request.read()).decode("utf-8", "surrogateescape")
            read = Request(request.method, path, query, body, request.headers, self._now())
            return await self._wire.answer(request, read, route, execute)

        return handle

    def _answer(self, route: Route, request: Request) -> Reply:
        """Limits, signature, then the dialect. What nobody foresaw is a plain 500: an unknown outcome to the client."""
        if self._limiter is not None and route.role != "operator":
            allowed, wait = self._limiter.take(route.weight, route.orders)
            if not allowed:
                return self.dialect.limited(wait, banned=self._limiter.banned)
        own = route.path.startswith("/venue/")
        try:
            if route.signed and not own:
                self.dialect.authenticate(request)
            found = route.answer(request)
        except Exception as error:  # a dialect says which errors are answers; the rest goes on
            reply = Reply(error.body(), error.status) if own and isinstance(error, BinanceError) else None
            reply = reply or self.dialect.refusal(error)
            if reply is None:
                raise
            return reply
        return found if isinstance(found, Reply) else Reply(found)

    # The venue's own paths

    def _own_routes(self) -> list[Route]:
        return [
            Route("GET", "/venue/v1/clock", "operator", lambda _: self._clock()),
            Route("POST", "/venue/v1/step", "operator", self._step, signed=True),
        ]

    def _clock(self) -> dict[str, Any]:
        exchange = self.exchange
        return {
            "clock": exchange.clock,
            "remaining": exchange.remaining,
            "finished": exchange.finished,
            "pace": exchange.pace,
        }

    def _step(self, request: Request) -> Any:
        protocol.check_key(request.headers.get("X-MBX-APIKEY"), self._credentials.key)
        protocol.check_signature(self._credentials.secret, request.query, request.body)
        parameters = protocol.read_parameters(
            request.query, request.body, protocol.SIGNED_PARAMETERS | frozenset({"ticks"})
        )
        protocol.check_window(parameters, request.now)
        if self.exchange.pace != "manual":
            raise BinanceError(-1020, f"This operation is not supported. The venue's pace is '{self.exchange.pace}'.")
        ticks = parameters.integer("ticks")
        return {"moved": self.exchange.step(1 if ticks is None else ticks), **self._clock()}


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

    @property
    def faults(self) -> FaultState | None:
        """The fault plan at work, with its log of what struck."""
        return self._server.faults

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
            with interpreted():  # the first order would wait for a compiler
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
    maker_rate: float | None = None,
    participation: float | None = None,
    dialect: str = "binance",
    faults: str | Path | None = None,
    rate_limits: bool = False,
    state: str | Path | None = None,
    live: str | None = None,
    timeframe: str | None = None,
    tick_by_tick: bool = False,
    announce: Callable[[str], None],
) -> None:
    """Serve a paper exchange until Ctrl-C or SIGTERM; the key pair comes from the environment.

    bars: files, one market each: bars (.parquet, .csv), or with `timeframe` recorded trades or order-book events (.csv
    with the columns of `TradeTape` or `BookTape`). tick_by_tick: the clock stops at each of these. live: instead of
    files, the public data of this exchange (ccxt's id) for `symbols` in bars of `timeframe`. symbols: the markets as
    BASE/QUOTE, by default as the files say. faults: a file with a `FaultPlan`. state: a file that keeps the account.
    The other terms are those of `VenueMarket`, `PaperExchange` and `VenueServer`. `announce` gets one line when the
    venue listens, and one when it stops. Raises `VenueError` or `DataError` before anything listens.
    """
    key, secret = _credentials()
    terms = {
        "fee_rate": fee_rate,
        "slippage": slippage,
        "lots_per_unit": lots_per_unit,
        "minimum_notional": minimum_notional,
        "maker_rate": maker_rate,
        "participation": participation,
    }
    options: dict[str, Any] = {
        "key": key,
        "secret": secret,
        "passphrase": os.environ.get(PASSPHRASE_VARIABLE, ""),
        "dialect": dialect,
        "port": port,
        "faults": None if faults is None else FaultPlan.read(faults),
        "limits": RateLimits() if rate_limits else None,
        "state": state,
    }
    with interpreted(), asyncio.Runner() as runner:
        if live is not None:
            runner.run(_serve_live(live, symbols or [], timeframe or "1m", terms, cash, options, announce))
            return
        if tick_by_tick and timeframe is None:
            raise VenueError(
                "bars have no ticks: tick by tick needs files of trades or order-book events, and a timeframe"
            )
        markets = _recorded(bars, symbols, timeframe, terms, fine=tick_by_tick)
        exchange = PaperExchange(markets, cash=cash, start=start, pace=pace)
        server = VenueServer(exchange, seconds_per_bar=seconds_per_bar, **options)
        runner.run(_until_signal(server, announce))


def _recorded(
    files: Sequence[str | Path],
    symbols: Sequence[str] | None,
    timeframe: str | None,
    terms: dict[str, Any],
    *,
    fine: bool,
) -> list[VenueMarket]:
    """One market for each file."""
    if timeframe is not None and symbols is None:
        raise VenueError("a file of trades or order-book events names no market: give symbols")
    tapes = [read_bars(Path(path)) if timeframe is None else read_events(path, timeframe, fine=fine) for path in files]
    named = [str(tape.attrs["symbol"]) for tape in tapes if isinstance(tape, pd.DataFrame)]
    names = named if symbols is None else list(symbols)
    if len(names) != len(tapes):
        raise VenueError(f"{len(names)} symbols for {len(tapes)} files of bars: give one symbol for each file")
    return [VenueMarket(name, tape, **terms) for name, tape in zip(names, tapes, strict=True)]


async def _serve_live(
    source: str,
    symbols: Sequence[str],
    timeframe: str,
    terms: dict[str, Any],
    cash: float,
    options: dict[str, Any],
    announce: Callable[[str], None],
) -> None:
    """Pass the public data of `source` through until the end."""
    from tradelib.venue.passthrough import follow, live_market, public_client

    if not symbols:
        raise VenueError("live public data needs symbols: name the markets as BASE/QUOTE")
    client = public_client(source)
    try:
        markets = [await live_market(client, symbol, timeframe, **terms) for symbol in symbols]
        exchange = PaperExchange(markets, cash=cash, pace="live")
        reading = asyncio.create_task(follow(exchange, client, on_error=lambda error: announce(f"{source}: {error}")))
        try:
            await _until_signal(VenueServer(exchange, **options), announce)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    finally:
        await client.close()


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
    kept = f"kept in {server.state}" if server.state is not None else "forgotten"
    announce(f"paper venue on {server.url} stopped; its account is {kept}")
