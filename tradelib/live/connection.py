"""The wire to a venue: the real ccxt client, and the proof that it can only reach the host its mode allows.

Paper and live run the same client with the same options; they differ in host and key. Paper reaches loopback only, live
reaches the exchange's own https hosts only; both are checked when the client is made and again before every request,
and a redirect is never followed. Keys come from the environment and appear in no log, repr or message.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from tradelib.errors import RunnerError, TradelibError

__all__ = [
    "CLOCK_REFUSAL",
    "KEY_REFUSALS",
    "KEY_VARIABLE",
    "MODES",
    "SECRET_VARIABLE",
    "Credentials",
    "VenueReply",
    "assert_hosts",
    "check_host",
    "credentials_from_environment",
    "describe_error",
    "make_client",
    "set_clock",
    "venue_reply",
]

MODES = ("paper", "live")
KEY_VARIABLE = "TRADELIB_API_KEY"
SECRET_VARIABLE = "TRADELIB_API_SECRET"

KEY_REFUSALS = frozenset({-1002, -1022, -2014, -2015})
"""Binance's codes for a key, signature or permission that it does not accept."""
CLOCK_REFUSAL = -1021
"""Binance's code for a timestamp outside of the receive window."""

PRODUCTION_HOSTS: dict[str, frozenset[str]] = {
    "binance": frozenset(f"{name}.binance.com" for name in ("api", "dapi", "eapi", "fapi", "papi")),
}
"""Exchange -> the hosts that its API documentation names for production."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "binance": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
}
"""Options that bring `load_markets` down to the one call a spot runner needs."""


@dataclass(frozen=True)
class Credentials:
    """API key and secret; neither shows in a repr."""

    key: str = field(repr=False)
    secret: str = field(repr=False)


class VenueReply(NamedTuple):
    """What the venue itself said in an error reply; `code` and `message` are None where its body proves nothing."""

    status: int
    code: int | None
    message: str | None
    retry_after: float | None


def credentials_from_environment() -> Credentials:
    """Key and secret from `TRADELIB_API_KEY` and `TRADELIB_API_SECRET`; `RunnerError` names the one that is missing."""
    values = {name: os.environ.get(name, "").strip() for name in (KEY_VARIABLE, SECRET_VARIABLE)}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise RunnerError(f"no API key: set {' and '.join(missing)} in the environment of the runner")
    return Credentials(values[KEY_VARIABLE], values[SECRET_VARIABLE])


def make_client(
    venue_url: str | None,
    mode: str,
    key: str,
    secret: str,
    exchange: str = "binance",
    *,
    receive_window_ms: int = 5_000,
    request_timeout_ms: int = 10_000,
) -> Any:
    """The ccxt async client of `exchange`, bound to the hosts that `mode` allows.

    paper: every API address of the client is moved to `venue_url`, which must be a loopback address. live: the
    addresses stay the exchange's own; `venue_url` is None or one of them. `receive_window_ms` is how long the venue may
    still accept a signed request, `request_timeout_ms` how long one request may take. Raises `RunnerError`.
    """
    if mode not in MODES:
        raise RunnerError(f"mode is {mode!r}: use 'paper' or 'live'")
    if exchange not in PRODUCTION_HOSTS:
        raise RunnerError(f"exchange {exchange!r} is not supported: use one of {', '.join(sorted(PRODUCTION_HOSTS))}")
    target = _venue_address(venue_url, mode, exchange)
    factory = getattr(importlib.import_module("ccxt.async_support"), exchange)
    client = factory(
        {
            "apiKey": key,
            "secret": secret,
            "timeout": request_timeout_ms,
            "enableRateLimit": mode == "live",
            "options": {**_OPTIONS[exchange], "recvWindow": receive_window_ms},
        }
    )
    client.timeout_on_exit = 10
    if mode == "paper":
        client.urls["api"] = _moved(client.urls["api"], target)
    assert_hosts(client, mode, exchange)
    return _guarded(client, mode, exchange)


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
    said = f"{reply.code} {reply.message}" if reply.code is not None else f"HTTP {reply.status}"
    return f"{type(error).__name__}: {said}"


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


def _moved(tree: Any, target: str) -> Any:
    """The same tree of addresses with scheme, host and port replaced; paths stay, because exchanges sign them."""
    if isinstance(tree, dict):
        return {name: _moved(branch, target) for name, branch in tree.items()}
    scheme, netloc, *_ = urlsplit(target)
    return urlunsplit((scheme, netloc, urlsplit(tree).path, "", ""))


def _guarded(client: Any, mode: str, exchange: str) -> Any:
    """Check the host of every request, refuse redirects, keep the venue's reply with each error, log nothing."""
    client.logger = logging.Logger("tradelib.live.client", logging.CRITICAL + 1)  # ccxt logs signed requests at DEBUG
    fetch = client.fetch
    sessions: list[Any] = []

    async def guarded_fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        check_host(url, mode, exchange)
        client.open(True)
        if client.session not in sessions:
            sessions[:] = [client.session]
            _refuse_redirects(client.session)
        return await fetch(url, method, headers, body)

    client.fetch = guarded_fetch
    client.handle_errors = _with_reply(client.handle_errors)
    client.handle_http_status_code = _with_reply(client.handle_http_status_code)
    return client


def _refuse_redirects(session: Any) -> None:
    async def refuse(*_: Any) -> None:
        raise RunnerError("the venue answered with a redirect: not followed, it could leave the allowed hosts")

    trace = importlib.import_module("aiohttp").TraceConfig()
    trace.on_request_redirect.append(refuse)
    trace.freeze()
    session.trace_configs.append(trace)


def _with_reply(check: Any) -> Any:
    """Wrap one of ccxt's reply checks, both `(status, reason, url, method, headers or body, ...)`."""

    def checked(status: int, reason: str, url: str, method: str, *rest: Any) -> Any:
        try:
            return check(status, reason, url, method, *rest)
        except Exception as error:
            headers, body = (rest[0], rest[1]) if isinstance(rest[0], dict) else ({}, rest[0])
            if venue_reply(error) is None:
                vars(error)["venue_reply"] = _read_reply(int(status), headers, body)
            raise

    return checked


def _read_reply(status: int, headers: dict[str, Any], body: Any) -> VenueReply:
    try:
        said = json.loads(body)
    except (TypeError, ValueError):
        said = None
    code = said.get("code") if isinstance(said, dict) else None
    message = str(said.get("msg", "")) if isinstance(said, dict) else None
    known = isinstance(code, int) and not isinstance(code, bool)
    return VenueReply(status, code if known else None, message if known else None, _seconds(headers))


def _seconds(headers: dict[str, Any]) -> float | None:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
