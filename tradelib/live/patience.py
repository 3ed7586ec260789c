"""How long the runner insists: seeded back-off for questions that change nothing, and a limit after which it stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tradelib.errors import ParameterError, RunnerError
from tradelib.live.connection import describe_error, venue_reply

__all__ = ["Insistence", "Patience", "Sleep"]

Answer = TypeVar("Answer")
Sleep = Callable[[float], Awaitable[object]]


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


class Insistence:
    """Back-off with seeded jitter, and questions repeated until they are answered."""

    def __init__(self, patience: Patience, sleep: Sleep = asyncio.sleep) -> None:
        self.patience = patience
        self.sleep = sleep
        self._random = random.Random(patience.seed)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after `attempt` failures (from 0): exponential, capped, with jitter down to one half."""
        longest = min(self.patience.backoff_ceiling, self.patience.backoff * 2.0 ** min(attempt, 30))
        return longest * self._random.uniform(0.5, 1.0)

    async def insist(self, question: Callable[[], Awaitable[Answer]], what: str) -> Answer:
        """The answer to a question that changes nothing at the venue; `RunnerError` after the last failed attempt.

        A `RunnerError` of the question itself is a verdict, not a failure to answer, and passes at once.
        """
        said = ""
        for attempt in range(self.patience.attempts):
            try:
                return await question()
            except RunnerError:
                raise
            except Exception as error:  # ccxt also raises bare TypeError and KeyError on malformed replies
                said, reply = describe_error(error), venue_reply(error)
            wait = reply.retry_after or 0.0 if reply is not None else 0.0
            if attempt + 1 < self.patience.attempts:
                await self.sleep(max(self.pause(attempt), wait))
        raise RunnerError(f"the venue does not answer for {what} ({said}, {self.patience.attempts} attempts)")
