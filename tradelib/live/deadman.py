"""The dead-man switch: a venue that hears nothing for a while cancels every order of the account by itself.

It protects against a runner that freezes with orders in the book. It cancels protective stops as well: an account that
relies on stops held by the venue is safer without it, which is why it is off unless the settings turn it on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tradelib.errors import RunnerError
from tradelib.live.patience import Failure, Sleep, attempt

__all__ = ["DeadMan"]

logger = logging.getLogger(__name__)


class DeadMan:
    """Renews the venue's timer while the runner is alive.

    `switch(seconds)` sets the venue's timer, 0 takes it away; `alive` tells whether the runner still does its work (a
    task that renews while the decision loop hangs would defeat the purpose). Renewed three times per period, so that
    one lost request changes nothing.
    """

    def __init__(
        self,
        switch: Callable[[float], Awaitable[object]],
        seconds: float,
        alive: Callable[[], bool],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        if not seconds >= 5.0:
            raise RunnerError(f"dead_man_seconds is {seconds:g}: less than 5 would cancel orders at every hiccup")
        self._switch, self.seconds, self._alive, self._sleep = switch, seconds, alive, sleep
        self.renewals = 0
        self.failures = 0

    async def run(self) -> None:
        """Renew until cancelled. A venue that does not answer is asked again; its own timer runs meanwhile."""
        while True:
            if self._alive():
                await self._renew()
            else:
                logger.error("not renewing the dead-man switch: the runner does not do its work")
            await self._sleep(self.seconds / 3.0)

    async def disarm(self) -> None:
        """Take the timer away at an orderly end, so that orders which shall stay do. Raises what the venue answers."""
        await self._switch(0.0)

    async def _renew(self) -> None:
        answer = await attempt(self._switch(self.seconds))
        if isinstance(answer, Failure):
            self.failures += 1
            logger.warning("the venue did not renew the dead-man switch: %s", type(answer.error).__name__)
        else:
            self.renewals += 1
