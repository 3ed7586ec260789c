"""The wire to a venue: the real ccxt client, and the proof that it can only reach the host its mode allows.

Paper and live run the same client with the same options; they differ in host and key. Paper reaches loopback only, live
reaches the exchange's own https and wss hosts only; both are checked when the client is made and again before every
request and every WebSocket, and a redirect is never followed. Keys come from the environment and appear in no log, repr
or message. What differs between exchanges is asked of `tradelib.live.dialects`.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tradelib.errors import RunnerError, TradelibError
from tradelib.live.dialects import DIALECTS, Dialect, VenueReply, Verdict, dialect_of
from tradelib.live.exchanges import client_class

__all__ = [
    "CLOCK_REFUSAL",
    "KEY_REFUSALS",
    "KEY_VARIABLE",
    "MODES",
    "PASSPHRASE_VARIABLE",
    "SECRET_VARIABLE",
    "Credentials",
    "VenueReply",
    "Verdict",
    "assert_hosts",
    "check_host",
    "credentials_from_environment",
    "cut",
    "describe_error",
    "make_client",
    "set_clock",
    "venue_reply",
    "venue_verdict",
]

MODES = ("paper", "live")
KEY_VARIABLE = "TRADELIB_API_KEY"
SECRET_VARIABLE = "TRADELIB_API_SECRET"
PASSPHRASE_VARIABLE = "TRADELIB_API_PASSPHRASE"

KEY_REFUSALS = frozenset({-1002, -1022, -2014, -2015})
"""Binance's codes for a key, signature or permission that it does not accept."""
CLOCK_REFUSAL = -1021
"""Binance's code for a timestamp outside of the receive window."""

PRODUCTION_HOSTS = {name: dialect.rest_hosts | dialect.stream_hosts for name, dialect in DIALECTS.items()}
"""Exchange -> the hosts that its API documentation names for production."""


@dataclass(frozen=True)
class Credentials:
    """API key, secret, and the passphrase that some exchanges ask for besides; none shows in a repr."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)


def credentials_from_environment(exchange: str = "binance") -> Credentials:
    """Key, secret and passphrase from the environment (`TRADELIB_API_KEY`, `TRADELIB_API_SECRET`, and, where the
    exchange has one, `TRADELIB_API_PASSPHRASE`); `RunnerError` names the ones that are missing.
    """
    names = [KEY_VARIABLE, SECRET_VARIABLE]
    names += [PASSPHRASE_VARIABLE] if dialect_of(exchange).needs_passphrase else []
    values = {name: os.environ.get(name, "").strip() for name in names}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise RunnerError(f"no API key: set {' and '.join(missing)} in the environment of the runner")
    return Credentials(*values.values())


def make_client(
    venue_url: str | None,
    mode: str,
    key: str,
    secret: str,
    exchange: str = "binance",
    *,
    passphrase: str = "",
    streams: bool = False,
    beside: Any = None,
    receive_window_ms: int = 5_000,
    request_timeout_ms: int = 10_000,
) -> Any:
    """The ccxt async client of `exchange`, bound to the hosts that `mode` allows.

    paper: every API address of the client is moved to `venue_url`, which must be a loopback address. live: the
    addresses stay the exchange's own (others that ccxt ships are removed); `venue_url` is None or one of them. streams:
    the client of ccxt.pro, which also speaks WebSocket. beside: a client with the same key, which takes turns with this
    one where the venue wants rising nonces. `receive_window_ms` is how long the venue may still accept a
    signed request, `request_timeout_ms` how long one request may take. Raises `RunnerError`.
    """
    if mode not in MODES:
        raise RunnerError(f"mode is {mode!r}: use 'paper' or 'live'")
    dialect = dialect_of(exchange)
    if dialect.needs_passphrase and not passphrase:
        raise RunnerError(f"{exchange} asks for a passphrase besides key and secret: set {PASSPHRASE_VARIABLE}")
    target = _venue_address(venue_url, mode, exchange)
    client = client_class(exchange, streams=streams)(
        {
            "apiKey": key,
            "secret": secret,
            "password": passphrase,
            "timeout": request_timeout_ms,
            "enableRateLimit": mode == "live",
            "options": {**dialect.options, "recvWindow": receive_window_ms},
        }
    )
    client.timeout_on_exit = 10
    whole = _written_out(client.urls["api"], client)
    client.urls["api"] = _moved(whole, target) if mode == "paper" else _own(whole, exchange)
    assert_hosts(client, mode, exchange)
    return _guarded(client, mode, dialect, beside)


def check_host(url: str, mode: str, exchange: str = "binance") -> None:
    """Refuse (`RunnerError`) an address that `mode` must never reach; the message names the host, not the query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if mode == "paper":
        if not _is_loopback(host):
            raise RunnerError(f"paper mode may only reach this machine, not {host!r}: give the paper venue's address")
    elif parts.scheme not in ("https", "wss") or host not in PRODUCTION_HOSTS[exchange]:
        raise RunnerError(
            f"live mode may only reach {exchange}'s own https hosts, not {parts.scheme}://{host}: "
            "use mode 'paper' for a local venue"
        )


def assert_hosts(client: Any, mode: str, exchange: str = "binance") -> None:
    """Check every address that the client could use, however deep it sits in `urls['api']`."""
    for url in _leaves(client.urls["api"]):
        check_host(url, mode, exchange)


def venue_verdict(error: BaseException) -> Verdict:
    """What the venue's own reply behind `error` proves; `Verdict.UNKNOWN` when no reply came."""
    verdict = getattr(error, "venue_verdict", None)
    return verdict if isinstance(verdict, Verdict) else Verdict.UNKNOWN


def venue_reply(error: BaseException) -> VenueReply | None:
    """The venue's reply behind an error of the client, or None when no reply came (then nothing is proved)."""
    reply = getattr(error, "venue_reply", None)
    return reply if isinstance(reply, VenueReply) else None


def describe_error(error: BaseException) -> str:
    """One line for journal and messages: kind of error and the venue's own words, never an address or a signature."""
    reply = venue_reply(error)
    if isinstance(error, TradelibError):
        return str(error)
    if reply is None:
        return type(error).__name__
    return f"{type(error).__name__}: {_said(reply)}"


def _said(reply: VenueReply) -> str:
    """Code and words of the venue; Kraken's words begin with the code."""
    if reply.code is None:
        return f"HTTP {reply.status}"
    message = reply.message or ""
    return message if message.startswith(str(reply.code)) else f"{reply.code} {message}"


def cut(client: Any) -> None:
    """Break the WebSockets of a client off: who waits on one fails, and the next question opens another.

    ccxt's `close` cancels who waits instead, and refuses requests afterwards, that for a stream's token among them.
    """
    for connection in list((client.clients or {}).values()):
        connection.on_error(ConnectionError("cut: it was silent"))


async def set_clock(client: Any) -> None:
    """Measure the venue's clock, after it refused a timestamp; later requests are stamped with the difference."""
    client.options["adjustForTimeDifference"] = True
    await client.load_time_difference()


def _venue_address(venue_url: str | None, mode: str, exchange: str) -> str:
    """Scheme, host and port of the venue, checked against the mode."""
    if venue_url is None:
        if mode == "paper":
            raise RunnerError("paper mode needs the address of a paper venue, such as http://127.0.0.1:8080")
        return ""
    parts = urlsplit(venue_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise RunnerError("the venue's address must be http(s)://host:port, without user, query or fragment")
    check_host(venue_url, mode, exchange)
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    if host != "localhost":
        return False
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)


def _leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for branch in tree.values():
            yield from _leaves(branch)
    elif isinstance(tree, str):
        yield tree
    else:
        raise RunnerError(f"the client's address table holds a {type(tree).__name__}: refused, its host is unknown")


def _written_out(tree: Any, client: Any) -> Any:
    """The same tree with the `{hostname}` of ccxt's templates filled in: a template hides where it leads."""
    if isinstance(tree, dict):
        return {name: _written_out(branch, client) for name, branch in tree.items()}
    return client.implode_hostname(tree) if isinstance(tree, str) else tree


def _moved(tree: Any, target: str) -> Any:
    """The same tree of addresses with scheme, host and port replaced; paths stay, because exchanges sign them."""
    if isinstance(tree, dict):
        return {name: _moved(branch, target) for name, branch in tree.items()}
    scheme, netloc, *_ = urlsplit(target)
    parts = urlsplit(tree)
    if parts.scheme in ("ws", "wss"):
        scheme = "wss" if scheme == "https" else "ws"
    return urlunsplit((scheme, netloc, parts.path, "", ""))


def _own(tree: dict[str, Any], exchange: str) -> dict[str, Any]:
    """The tree without the addresses that are not the exchange's production hosts (help desk, beta, test nets)."""
    branches = {name: _own(leaf, exchange) if isinstance(leaf, dict) else leaf for name, leaf in tree.items()}
    return {name: leaf for name, leaf in branches.items() if isinstance(leaf, dict) or _is_own(leaf, exchange)}


def _is_own(url: str, exchange: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("https", "wss") and parts.hostname in PRODUCTION_HOSTS[exchange]


def _guarded(client: Any, mode: str, dialect: Dialect, beside: Any) -> Any:
    """Check the host of every request, refuse redirects, keep the venue's reply with each error, log nothing."""
    client.logger = logging.Logger("tradelib.live.client", logging.CRITICAL + 1)  # ccxt logs signed requests at DEBUG
    fetch = client.fetch
    sessions: list[Any] = []

    def enter(url: str) -> None:
        check_host(url, mode, dialect.name)
        client.open(True)
        if client.session not in sessions:
            sessions[:] = [client.session]
            _refuse_redirects(client.session)

    async def guarded_fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        enter(url)
        answer = await fetch(url, method, headers, body)
        if not isinstance(answer, dict | list):  # ccxt reads an empty or broken body behind a 200 as "nothing there"
            raise ConnectionError("the reply holds no JSON")
        return answer

    client.fetch = guarded_fetch
    if hasattr(client, "watch"):
        client.client = _entered(client.client, enter)
    if hasattr(client, "handle_ohlcv") and dialect.mixes_timeframes:
        _tell_timeframes_apart(client)
    if dialect.serial:
        client.turns = asyncio.Lock() if beside is None else beside.turns
        client.fetch2 = _one_at_a_time(client.fetch2, client.turns)
    if dialect.omits_empty_balances:
        client.fetch_balance = _with_zeros(client)
    if dialect.bar_unit_ms > 1:
        client.fetch_ohlcv = _from_whole_units(client.fetch_ohlcv, dialect.bar_unit_ms)
    client.handle_errors = _with_reply(client.handle_errors, dialect)
    client.handle_http_status_code = _with_reply(client.handle_http_status_code, dialect)
    return client


def _entered(connect: Callable[[str], Any], enter: Callable[[str], None]) -> Callable[[str], Any]:
    """ccxt.pro's door to a WebSocket, with the same guard before it."""

    def guarded(url: str) -> Any:
        enter(url)
        return connect(url)

    return guarded


def _tell_timeframes_apart(client: Any) -> None:
    """Candles of one market by their timeframe: ccxt asks for them by the market alone, and would mix them."""
    handle = client.handle_ohlcv

    def name(symbol: str, timeframe: str) -> str:
        return f"ohlcv:{symbol}:{timeframe}"

    async def watch_ohlcv(symbol: str, timeframe: str = "1m") -> list[list[float]]:
        await client.load_markets()
        symbol, wanted = client.market(symbol)["symbol"], name(symbol, timeframe)
        asked = {"channel": "ohlc", "symbol": [symbol], "interval": client.timeframes[timeframe]}
        request = {"method": "subscribe", "params": asked, "req_id": client.request_id()}
        bars = await client.watch(client.urls["api"]["ws"]["publicV2"], wanted, request, wanted)
        rows: list[list[float]] = client.filter_by_since_limit(bars, None, bars.getLimit(symbol, None), 0, True)
        return rows

    def handle_ohlcv(connection: Any, message: dict[str, Any]) -> None:
        handle(connection, message)
        for first in (message.get("data") or [])[:1]:
            symbol, timeframe = client.safe_symbol(first.get("symbol")), client.find_timeframe(first.get("interval"))
            connection.resolve(client.ohlcvs[symbol][timeframe], name(symbol, timeframe))

    client.watch_ohlcv, client.handle_ohlcv = watch_ohlcv, handle_ohlcv


def _one_at_a_time(fetch2: Any, lock: asyncio.Lock) -> Any:
    """Sign and send private requests one after another.

    A venue that wants rising nonces refuses the request that was overtaken on the way. A request that hangs holds the
    others up for its timeout.
    """

    async def ordered(path: str, api: Any = "public", *rest: Any, **named: Any) -> Any:
        if "private" not in api:
            return await fetch2(path, api, *rest, **named)
        async with lock:
            return await fetch2(path, api, *rest, **named)

    return ordered


def _with_zeros(client: Any) -> Any:
    """Balances in which every asset of a listed market has a place.

    Only an answer that names an asset is filled up: one that names none may as well be a broken reply, which says
    nothing about the account.
    """
    fetch_balance = client.fetch_balance

    async def filled(params: Any = None) -> Any:
        balance = await fetch_balance(params or {})
        if not balance.get("total"):
            return balance
        listed = (market[side] for market in (client.markets or {}).values() for side in ("base", "quote"))
        return {name: {"free": 0.0, "used": 0.0, "total": 0.0} for name in listed} | balance

    return filled


def _from_whole_units(fetch_ohlcv: Any, unit: int) -> Any:
    """Ask for bars from the next whole unit (milliseconds): a venue that counts seconds would round down."""

    async def rounded(symbol: str, timeframe: str = "1m", since: int | None = None, *rest: Any, **named: Any) -> Any:
        return await fetch_ohlcv(symbol, timeframe, None if since is None else -(-since // unit) * unit, *rest, **named)

    return rounded


def _refuse_redirects(session: Any) -> None:
    async def refuse(*_: Any) -> None:
        raise RunnerError("the venue answered with a redirect: not followed, it could leave the allowed hosts")

    trace = importlib.import_module("aiohttp").TraceConfig()
    trace.on_request_redirect.append(refuse)
    trace.freeze()
    session.trace_configs.append(trace)


def _with_reply(check: Any, dialect: Dialect) -> Any:
    """Wrap one of ccxt's reply checks, both `(status, reason, url, method, headers or body, ...)`."""

    def checked(status: int, reason: str, url: str, method: str, *rest: Any) -> Any:
        try:
            return check(status, reason, url, method, *rest)
        except Exception as error:
            headers, body = (rest[0], rest[1]) if isinstance(rest[0], dict) else ({}, rest[0])
            if venue_reply(error) is None:
                reply = _read_reply(dialect, int(status), headers, body)
                vars(error).update(venue_reply=reply, venue_verdict=dialect.verdict(reply))
            raise

    return checked


def _read_reply(dialect: Dialect, status: int, headers: dict[str, Any], body: Any) -> VenueReply:
    try:
        said = json.loads(body)
    except (TypeError, ValueError):
        said = None
    return VenueReply(status, *dialect.read(said), _seconds(headers))


def _seconds(headers: dict[str, Any]) -> float | None:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
