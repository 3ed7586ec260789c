"""Rate limits: request weight per minute and orders per ten seconds, in fixed windows of the real clock, as Binance has
it.

Who goes on after a refusal is banned: the first refusals of a window are 429, from `patience` on 418, for `ban`
seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RateLimiter", "RateLimits"]

_MINUTE, _ORDER_WINDOW = 60_000, 10_000


@dataclass(frozen=True)
class RateLimits:
    """weight: request weight per minute; orders: orders per ten seconds; patience: refusals before a ban of `ban`
    seconds. The defaults are Binance spot's."""

    weight: int = 6_000
    orders: int = 100
    patience: int = 10
    ban: int = 120


class RateLimiter:
    """Counts what one client sends. `now`: real clock, epoch milliseconds."""

    def __init__(self, limits: RateLimits, now: Callable[[], int]) -> None:
        self.limits = limits
        self._now = now
        self._minute = self._window = -1
        self.used = self.placed = self._refused = 0
        self._banned_until = 0

    @property
    def banned(self) -> bool:
        """True while nothing is answered at all."""
        return self._now() < self._banned_until

    def take(self, weight: int, orders: int = 0) -> tuple[bool, int]:
        """Count a request; whether it is allowed, and if not in how many seconds to come again."""
        now = self._now()
        if now < self._banned_until:
            return False, _seconds(self._banned_until - now)
        if now // _MINUTE != self._minute:
            self._minute, self.used, self._refused = now // _MINUTE, 0, 0
        if now // _ORDER_WINDOW != self._window:
            self._window, self.placed = now // _ORDER_WINDOW, 0
        if self.used + weight <= self.limits.weight and self.placed + orders <= self.limits.orders:
            self.used, self.placed = self.used + weight, self.placed + orders
            return True, 0
        self._refused += 1
        if self._refused > self.limits.patience:
            self._banned_until = now + 1_000 * self.limits.ban
            return False, self.limits.ban
        heavy = self.used + weight > self.limits.weight
        return False, _seconds((_MINUTE - now % _MINUTE) if heavy else (_ORDER_WINDOW - now % _ORDER_WINDOW))


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1_000)
