"""The dead-man switch: renewed while the runner works, left to run out while it hangs, taken away at an orderly end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tradelib.errors import RunnerError
from tradelib.live.deadman import DeadMan


class Timer:
    """A venue's timer on a clock that the test moves: `cancelled_at` is when it would have cancelled all orders."""

    def __init__(self) -> None:
        self.now, self.deadline, self.cancelled_at = 0.0, float("inf"), None
        self.down = False

    async def switch(self, seconds: float) -> None:
        if self.down:
            raise OSError("no route")
        self.deadline = self.now + seconds if seconds else float("inf")

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.deadline and self.cancelled_at is None:
            self.cancelled_at = self.deadline
        if self.now > 300.0:
            raise asyncio.CancelledError


def run(timer: Timer, alive: Any) -> DeadMan:
    switch = DeadMan(timer.switch, 30.0, alive, sleep=timer.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(switch.run())
    return switch


def test_a_runner_that_works_keeps_its_orders() -> None:
    timer = Timer()

    switch = run(timer, lambda: True)

    assert timer.cancelled_at is None
    assert (switch.renewals, switch.failures) == (31, 0)  # every 10 s up to 300 s


def test_a_runner_that_freezes_loses_them_within_the_period() -> None:
    timer = Timer()

    run(timer, lambda: timer.now < 100.0)

    assert timer.cancelled_at == 120.0  # last renewed at 90 s


def test_a_venue_that_misses_two_renewals_cancels_nothing(caplog) -> None:
    timer = Timer()

    def alive() -> bool:
        timer.down = 50.0 <= timer.now < 70.0
        return True

    switch = run(timer, alive)

    assert timer.cancelled_at is None
    assert switch.failures == 2
    assert "did not renew the dead-man switch: OSError" in caplog.text


def test_an_orderly_end_takes_the_timer_away() -> None:
    timer = Timer()
    switch = DeadMan(timer.switch, 30.0, lambda: True)

    asyncio.run(timer.switch(30.0))
    asyncio.run(switch.disarm())

    assert timer.deadline == float("inf")


def test_a_period_that_every_hiccup_would_miss_is_refused() -> None:
    with pytest.raises(RunnerError, match="every hiccup"):
        DeadMan(Timer().switch, 1.0, lambda: True)
