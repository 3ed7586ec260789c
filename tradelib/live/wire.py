"""Making the wire that a runner's traders share: client, breakers, market data, markets, streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tradelib.data.timeframes import parse_timeframe
from tradelib.live.account import Markets
from tradelib.live.breakers import Breakers, BreakerState, CircuitBreaker, Trip, guard
from tradelib.live.connection import credentials_from_environment, make_client, set_clock
from tradelib.live.dialects import dialect_of
from tradelib.live.feeds import AlignedPace, FixedPace, MarketData, Pace, StreamPace, Streams, Tell
from tradelib.live.patience import Insistence, Patience
from tradelib.live.trader import Wire
from tradelib.live.watchdog import Watchdog

__all__ = ["breakers_of", "connect", "make_pace", "make_streams", "make_wire"]

WRITERS = 4
"""Threads that write journals: more wait for the same disk."""


def connect(
    venue_url: str | None, mode: str, exchange: str, patience: Patience, *, streams: bool = False, beside: Any = None
) -> Any:
    """The ccxt client, with the keys of the environment; `RunnerError` for a host that `mode` must not reach.

    streams: one that speaks WebSocket too. beside: the client that is there already, with the same key.
    """
    keys = credentials_from_environment(exchange)
    return make_client(
        venue_url,
        mode,
        keys.key,
        keys.secret,
        exchange,
        passphrase=keys.passphrase,
        streams=streams,
        beside=beside,
        receive_window_ms=round(patience.receive_window * 1000),
        request_timeout_ms=round(patience.request_timeout * 1000),
    )


def breakers_of(patience: Patience, tell: Tell) -> Breakers:
    """Breakers that leave an endpoint alone for as long as the longest pause, at first."""

    def told(breaker: CircuitBreaker, before: BreakerState) -> None:
        if BreakerState.CLOSED in (before, breaker.state) and before is not BreakerState.HALF_OPEN:
            tell("circuit breaker", f"{breaker.endpoint} is {breaker.state.value}: {breaker.reason}")

    longest = max(patience.backoff_ceiling, 1e-3)
    return Breakers(Trip(cool_down=longest, longest=15.0 * longest), tell=told)


def make_wire(
    client: Any,
    mode: str,
    exchange: str,
    patience: Patience,
    tell: Tell,
    *,
    others: Sequence[Any] = (),
    writers: int = 0,
) -> Wire:
    """The wire over `client`. `others`: clients whose bars stand in while its own fail. `writers`: journal threads."""
    insistence, breakers = Insistence(patience, lambda: set_clock(client)), breakers_of(patience, tell)
    guard(client, breakers)
    return Wire(
        client,
        mode,
        dialect_of(exchange),
        insistence,
        MarketData([client, *others], breakers, tell),
        Markets(client, insistence),
        tell,
        ThreadPoolExecutor(writers, "journal") if writers else None,
        lambda: breakers.blocked,
    )


def make_streams(client: Any, wire: Wire, limit: float, watchdog: Watchdog) -> Streams:
    """Streams over a ccxt.pro client, which is closed with them."""
    return Streams(client, wire.insistence, limit=limit, watchdog=watchdog, tell=wire.tell)


def make_pace(kind: str, mode: str, seconds: float, streams: Streams | None) -> Callable[[str], Pace]:
    """When to ask for the next bar of a timeframe: as streamed, when it must have closed (live), or every `seconds`."""

    def pace(timeframe: str) -> Pace:
        step = parse_timeframe(timeframe).milliseconds
        if streams is not None:
            return StreamPace(streams, timeframe, step, seconds=streams.limit, pause=max(seconds, 0.01))
        if mode == "live":
            return AlignedPace(step, max(seconds, 0.05))
        return FixedPace(max(seconds, 0.01))

    return pace
