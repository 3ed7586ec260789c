"""How long the runner insists: seeded back-off for questions that change nothing, and a limit after which it stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tradelib.errors import ParameterError, RunnerError
from tradelib.live.connection import Verdict, describe_error, venue_reply, venue_verdict
from tradelib.live.watchdog import show_life

__all__ = ["Failure", "Insistence", "Patience", "Sleep", "Unanswered", "attempt"]

Answer = TypeVar("Answer")
Sleep = Callable[[float], Awaitable[object]]


class Unanswered(RunnerError):
    """The venue did not answer for longer than the runner insists: nothing is wrong but the connection."""


@dataclass(frozen=True)
class Patience:
    """Limits of insisting on an answer of the venue."""

    attempts: int = 6
    """Failed attempts of one question before the runner stops."""
    sends: int = 3
    """Times that one order may be sent, each time with the proof that the one before never arrived."""
    backoff: float = 0.25
    """Seconds of the first pause; each further pause is twice as long."""
    backoff_ceiling: float = 8.0
    """Longest pause in seconds, unless the venue asks for more."""
    receive_window: float = 5.0
    """Seconds during which the venue may still accept a signed request."""
    request_timeout: float = 10.0
    """Seconds that one request may take."""
    seed: int = 0
    """Seed of the jitter."""

    def __post_init__(self) -> None:
        for name, least in (("attempts", 1), ("sends", 1), ("receive_window", 0.001), ("request_timeout", 0.001)):
            if getattr(self, name) < least:
                raise ParameterError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not 0.0 <= self.backoff <= self.backoff_ceiling:
            raise ParameterError(f"backoff is {self.backoff}: it must lie from 0 to the ceiling {self.backoff_ceiling}")


@dataclass(frozen=True)
class Failure:
    """A request that ended in an exception."""

    error: Exception

    @property
    def retry_after(self) -> float:
        """Seconds that the venue asks to wait before the next request."""
        reply = venue_reply(self.error)
        return reply.retry_after or 0.0 if reply is not None else 0.0


async def attempt(request: Awaitable[Answer]) -> Answer | Failure:
    """The answer, or whatever went wrong, as a value.

    Everything is caught because ccxt also raises bare TypeError and KeyError on malformed replies, after the request
    had its effect: an exception says that the answer is unknown, not that nothing happened. A connection that ccxt
    closes cancels whoever waits on it, which is a failure too, and not the end of the task that asked.
    """
    try:
        return await request
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return Failure(ConnectionError("the client gave the request up"))
    except Exception as error:  # noqa: BLE001 - see above
        return Failure(error)


class Insistence:
    """Back-off with seeded jitter, and questions repeated until they are answered.

    `set_clock` is called when the venue refuses a timestamp; `sleep` is replaceable for tests.
    """

    def __init__(
        self,
        patience: Patience,
        set_clock: Callable[[], Awaitable[None]] | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.patience = patience
        self.sleep = sleep
        self._set_clock = set_clock
        self._random = random.Random(patience.seed)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after `attempt` failures (from 0): exponential, capped, with jitter down to one half."""
        show_life()
        longest = min(self.patience.backoff_ceiling, self.patience.backoff * 2.0 ** min(attempt, 30))
        return longest * self._random.uniform(0.5, 1.0)

    async def insist(self, question: Callable[[], Awaitable[Answer]], what: str) -> Answer:
        """The answer to a question that changes nothing at the venue; `Unanswered` after the last failed attempt.

        A `RunnerError` of the question itself is a verdict, and so is a refused key: neither is asked again.
        """
        said = ""
        for failed in range(self.patience.attempts):
            show_life()
            answer = await attempt(question())
            if not isinstance(answer, Failure):
                return answer
            said = describe_error(answer.error)
            await self._consider(answer, what)
            if failed + 1 < self.patience.attempts:
                await self.sleep(max(self.pause(failed), answer.retry_after))
        raise Unanswered(f"the venue does not answer for {what} ({said}, {self.patience.attempts} attempts)")

    async def _consider(self, failure: Failure, what: str) -> None:
        """Raise what asking again cannot change, and correct the clock."""
        if isinstance(failure.error, RunnerError):
            raise failure.error
        verdict = venue_verdict(failure.error)
        if verdict is Verdict.KEY:
            raise RunnerError(f"the venue refuses this key for {what} ({describe_error(failure.error)})")
        if verdict is Verdict.CLOCK and self._set_clock is not None:
            await attempt(self._set_clock())
