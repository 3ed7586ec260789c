"""Circuit breakers: an endpoint that fails is left alone for a while, instead of being asked by everybody at once.

One breaker per endpoint of the venue, shared by all that trade through it. CLOSED lets requests pass and counts
failures in a row; at `failures` it is OPEN and lets nothing pass for `cool_down` seconds, twice as long after each
probe that failed; then it is HALF_OPEN and lets one request pass, whose outcome closes or opens it.

`guard` puts them around a client. Questions wait until their endpoint may be asked. Orders and cancels never wait:
whoever sends them has decided to; their outcomes count, and where their endpoint is open the runner sends nothing new
(`blocked`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from tradelib.errors import ParameterError, RunnerError
from tradelib.live.connection import Verdict, describe_error, venue_verdict
from tradelib.live.watchdog import HEARTBEAT, show_life

__all__ = ["BreakerState", "Breakers", "CircuitBreaker", "Trip", "guard"]

_KEY_HEADERS = frozenset({"x-mbx-apikey", "api-key", "access-key"})
"""Headers that carry the account's key on Binance, Kraken and Bitget: such a request is about the account."""


class BreakerState(StrEnum):
    """What a breaker does with the next request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class Trip:
    """Failures in a row that open a breaker, and the seconds that it then stays open, at first and at most."""

    failures: int = 5
    cool_down: float = 5.0
    longest: float = 120.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0.0 < self.cool_down <= self.longest:
            raise ParameterError(f"a breaker needs a failure and a positive cool-down up to its longest: {self}")


class CircuitBreaker:
    """The breaker of one endpoint. `clock` gives monotonic seconds, `tell` hears of every change of state."""

    def __init__(
        self,
        endpoint: str,
        trip: Trip | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[CircuitBreaker, BreakerState], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.trip = trip or Trip()
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.reason = ""
        self._clock = clock
        self._tell = tell
        self._pause = self.trip.cool_down
        self._open_until = 0.0

    @property
    def wait(self) -> float:
        """Seconds until a request may pass; 0.0 for now. While a probe is out, a cool-down is as good as any."""
        if self.state is BreakerState.CLOSED:
            return 0.0
        if self.state is BreakerState.HALF_OPEN:
            return self.trip.cool_down
        return max(0.0, self._open_until - self._clock())

    def admits(self) -> bool:
        """Whether a request may pass now; the first one after the pause is the probe."""
        if self.state is BreakerState.OPEN and self.wait == 0.0:
            self._turn(BreakerState.HALF_OPEN)
            return True
        return self.state is BreakerState.CLOSED

    def succeed(self) -> None:
        """A request was answered."""
        self.failures, self._pause = 0, self.trip.cool_down
        self._turn(BreakerState.CLOSED)

    def fail(self, reason: str) -> None:
        """A request was not answered."""
        self.failures, self.reason = self.failures + 1, reason
        if self.state is BreakerState.CLOSED:
            if self.failures >= self.trip.failures:
                self._open()
        elif self.state is BreakerState.HALF_OPEN or self.wait == 0.0:  # a probe failed, not a request from before
            self._pause = min(2.0 * self._pause, self.trip.longest)
            self._open()

    def abandon(self) -> None:
        """The request was given up by whoever sent it: it proves nothing, and a probe may be tried again."""
        if self.state is BreakerState.HALF_OPEN:
            self._open_until = self._clock()
            self._turn(BreakerState.OPEN)

    def _open(self) -> None:
        self._open_until = self._clock() + self._pause
        self._turn(BreakerState.OPEN)

    def _turn(self, state: BreakerState) -> None:
        before, self.state = self.state, state
        if before is not state and self._tell is not None:
            self._tell(self, before)


class Breakers:
    """The breakers of one venue, by endpoint, made as they are asked for."""

    def __init__(
        self,
        trip: Trip | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        tell: Callable[[CircuitBreaker, BreakerState], None] | None = None,
    ) -> None:
        self._trip, self._clock, self._sleep, self._tell = trip or Trip(), clock, sleep, tell
        self._by_endpoint: dict[str, CircuitBreaker] = {}

    def of(self, endpoint: str) -> CircuitBreaker:
        """The breaker of `endpoint`."""
        if endpoint not in self._by_endpoint:
            self._by_endpoint[endpoint] = CircuitBreaker(endpoint, self._trip, clock=self._clock, tell=self._tell)
        return self._by_endpoint[endpoint]

    @property
    def open(self) -> tuple[str, ...]:
        """Endpoints that do not answer, sorted."""
        closed = BreakerState.CLOSED
        return tuple(sorted(name for name, breaker in self._by_endpoint.items() if breaker.state is not closed))

    @property
    def blocked(self) -> tuple[str, ...]:
        """Endpoints of the account that may not be asked right now, sorted: orders would end in the unknown."""
        found = self._by_endpoint.items()
        return tuple(sorted(name for name, breaker in found if name.startswith("account") and breaker.wait > 0.0))

    async def admission(self, endpoint: str) -> CircuitBreaker:
        """Wait until `endpoint` may be asked; its breaker, which must be told how that ended."""
        breaker = self.of(endpoint)
        while not breaker.admits():
            show_life()
            await self._sleep(min(max(breaker.wait, 0.001), HEARTBEAT / 4.0))
        return breaker


def guard(client: Any, breakers: Breakers) -> Any:
    """Put `breakers` around every request of a ccxt client; returns the client."""
    fetch = client.fetch

    async def guarded(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        endpoint = _endpoint(url, method, headers)
        breaker = await breakers.admission(endpoint) if method == "GET" else breakers.of(endpoint)
        try:
            answer = await fetch(url, method, headers, body)
        except RunnerError:
            breaker.abandon()
            raise
        except Exception as error:
            _judge(breaker, error)
            raise
        except BaseException:  # cancelled from outside: the venue proved nothing
            breaker.abandon()
            raise
        breaker.succeed()
        return answer

    client.fetch = guarded
    return client


def _judge(breaker: CircuitBreaker, error: Exception) -> None:
    """A refusal is an answer: the endpoint is alive. No reply, an overload and a failure inside of it are not."""
    if venue_verdict(error) in (Verdict.UNKNOWN, Verdict.BUSY):
        breaker.fail(describe_error(error))
    else:
        breaker.succeed()


def _endpoint(url: str, method: str, headers: Any) -> str:
    """Whose it is, method and path, such as "account POST /api/v3/order"."""
    keyed = any(str(name).lower() in _KEY_HEADERS for name in headers or {})
    return f"{'account' if keyed else 'market'} {method} {urlsplit(url).path}"
