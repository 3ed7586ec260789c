"""A watchdog for silence: whoever must be heard from says so, and whoever was not heard from in time is named.

Silence is the failure that raises nothing: a stream that stays connected and sends no bar, a task that waits for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tradelib.errors import ParameterError

__all__ = ["HEARTBEAT", "Silence", "Watchdog", "heard_by", "show_life"]

HEARTBEAT = 60.0
"""Seconds without a sign of life of some task after which the process counts as hung."""


def _nobody() -> None:
    return None


_listener: ContextVar[Callable[[], None]] = ContextVar("listener", default=_nobody)


@contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Whatever is done within shows its life to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def show_life() -> None:
    """To be called wherever a task waits for something that may take long: it has not hung, it waits."""
    _listener.get()()


@dataclass(frozen=True)
class Silence:
    """Who was not heard from, for how many seconds, and how many were allowed."""

    name: str
    seconds: float
    limit: float

    def __str__(self) -> str:
        return f"{self.name} has been silent for {self.seconds:,.1f} s, {self.limit:,.1f} s are allowed"


class Watchdog:
    """Remembers when each name was last heard. `clock` gives monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._limits: dict[str, float] = {}
        self._told: set[str] = set()

    def watch(self, name: str, limit: float) -> None:
        """Expect to hear from `name` at least every `limit` seconds, from now on."""
        if not limit > 0.0:
            raise ParameterError(f"the silence allowed to {name} is {limit}: it must be positive")
        self._limits[name] = limit
        self.hear(name)

    def hear(self, name: str) -> None:
        """`name` showed life."""
        self._heard[name] = self._clock()
        self._told.discard(name)

    def forget(self, name: str) -> None:
        """`name` has ended and need not be heard from."""
        for table in (self._heard, self._limits):
            table.pop(name, None)
        self._told.discard(name)

    def age(self, name: str) -> float | None:
        """Seconds since `name` was heard; None where nobody watches it."""
        return self._clock() - self._heard[name] if name in self._heard else None

    @property
    def slowest(self) -> float:
        """The longest silence of all, in seconds."""
        return max((self._clock() - heard for heard in self._heard.values()), default=0.0)

    def silences(self) -> list[Silence]:
        """Everybody who has been silent for too long."""
        ages = {name: self.age(name) or 0.0 for name in self._limits}
        return [Silence(name, age, self._limits[name]) for name, age in ages.items() if age > self._limits[name]]

    def news(self) -> list[Silence]:
        """Those of `silences` that were not told of since they were last heard."""
        fresh = [silence for silence in self.silences() if silence.name not in self._told]
        self._told.update(silence.name for silence in fresh)
        return fresh

    async def keep(self, tell: Callable[[Silence], None], interval: float) -> None:
        """Look every `interval` seconds and tell of new silences, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            for silence in self.news():
                tell(silence)
