"""Circuit breakers and the watchdog: an endpoint that fails is left alone, one that is silent is named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tradelib.errors import ParameterError, RunnerError
from tradelib.live.breakers import Breakers, BreakerState, CircuitBreaker, Trip, guard
from tradelib.live.dialects import Verdict
from tradelib.live.watchdog import Silence, Watchdog

TRIP = Trip(failures=3, cool_down=10.0, longest=40.0)


class Clock:
    """Seconds that pass when a test says so, or when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def failing(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.fail("no reply")


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_pass_after_the_pause() -> None:
    clock = Clock()
    breaker = CircuitBreaker("GET /x", TRIP, clock=clock)
    failing(breaker, 2)
    breaker.succeed()
    failing(breaker, 2)
    assert breaker.admits()
    breaker.fail("no reply")
    assert (breaker.state, breaker.wait, breaker.admits()) == (BreakerState.OPEN, 10.0, False)
    clock.now += 10.0
    assert breaker.admits()
    assert not breaker.admits(), "one probe at a time"
    breaker.succeed()
    assert breaker.state is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_pause_up_to_the_longest() -> None:
    clock = Clock()
    breaker = CircuitBreaker("GET /x", TRIP, clock=clock)
    failing(breaker, 3)
    pauses = []
    for _ in range(4):
        clock.now += breaker.wait
        assert breaker.admits()
        breaker.fail("no reply")
        pauses.append(breaker.wait)
    assert pauses == [20.0, 40.0, 40.0, 40.0]


def test_requests_that_were_under_way_when_it_opened_do_not_make_it_worse() -> None:
    breaker = CircuitBreaker("GET /x", TRIP, clock=Clock())
    failing(breaker, 50)
    assert breaker.wait == 10.0


def test_an_order_that_nobody_admitted_closes_it_when_it_is_answered() -> None:
    """Orders never wait, so after the pause the next order is the probe."""
    clock = Clock()
    breakers = Breakers(TRIP, clock=clock)
    failing(breakers.of("account POST /order"), 3)
    assert breakers.blocked == breakers.open == ("account POST /order",)
    clock.now += 10.0
    assert breakers.blocked == ()
    breakers.of("account POST /order").succeed()
    assert breakers.open == ()


def test_changes_are_told_once() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock()
    breaker = CircuitBreaker("x", TRIP, clock=clock, tell=lambda one, before: told.append((before, one.state)))
    failing(breaker, 5)
    clock.now += 10.0
    breaker.admits()
    breaker.succeed()
    breaker.succeed()
    assert told == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


class Client:
    """Answers as it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        self.asked.append(f"{method} {url}")
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def refused(verdict: Verdict) -> Exception:
    error = ValueError("as the client would raise")
    vars(error)["venue_verdict"] = verdict
    return error


async def ask(client: Any, count: int, method: str = "GET", headers: Any = None) -> list[str]:
    told = []
    for _ in range(count):
        try:
            told.append(str(await client.fetch("http://v/api/v3/klines?a=1", method, headers)))
        except (ValueError, RunnerError) as error:
            told.append(type(error).__name__)
    return told


def test_a_client_waits_with_questions_while_their_endpoint_is_open() -> None:
    clock = Clock()
    breakers = Breakers(TRIP, clock=clock, sleep=clock.sleep)
    client = guard(Client(*[ValueError()] * 3, "alive"), breakers)
    assert asyncio.run(ask(client, 3)) == ["ValueError"] * 3
    assert breakers.open == ("market GET /api/v3/klines",)
    assert asyncio.run(ask(client, 1)) == ["alive"]
    assert clock.now == 110.0
    assert breakers.open == ()


def test_a_refusal_is_an_answer_and_orders_never_wait() -> None:
    breakers = Breakers(TRIP, clock=Clock())
    refusals = [refused(Verdict.REFUSED), refused(Verdict.KEY), refused(Verdict.CLOCK), refused(Verdict.ABSENT)]
    client = guard(Client(*refusals, *[refused(Verdict.BUSY)] * 4), breakers)
    assert asyncio.run(ask(client, 4, "POST", {"X-MBX-APIKEY": "k"})) == ["ValueError"] * 4
    assert breakers.open == ()
    asyncio.run(ask(client, 4, "POST", {"X-MBX-APIKEY": "k"}))
    assert breakers.blocked == ("account POST /api/v3/klines",)
    assert len(client.asked) == 8


def test_what_the_runner_itself_refuses_says_nothing_about_the_venue() -> None:
    breakers = Breakers(TRIP, clock=Clock())
    client = guard(Client(*[RunnerError("a foreign host")] * 5), breakers)
    assert asyncio.run(ask(client, 5)) == ["RunnerError"] * 5
    assert breakers.open == ()


def test_a_trip_without_a_pause_is_refused() -> None:
    with pytest.raises(ParameterError, match="positive cool-down"):
        Trip(cool_down=0.0)


# The watchdog ---------------------------------------------------------------------------------------------------------


def test_who_is_silent_for_too_long_is_named_once() -> None:
    clock = Clock()
    watchdog = Watchdog(clock=clock)
    watchdog.watch("stream BTC", 5.0)
    watchdog.watch("stream ETH", 5.0)
    clock.now += 4.0
    watchdog.hear("stream ETH")
    clock.now += 2.0
    assert watchdog.news() == [Silence("stream BTC", 6.0, 5.0)]
    assert watchdog.news() == []
    assert [one.name for one in watchdog.silences()] == ["stream BTC"]
    assert (watchdog.slowest, watchdog.age("stream ETH"), watchdog.age("nobody")) == (6.0, 2.0, None)
    watchdog.hear("stream BTC")
    clock.now += 6.0
    assert {one.name for one in watchdog.news()} == {"stream BTC", "stream ETH"}
    watchdog.forget("stream BTC")
    assert [str(one) for one in watchdog.silences()] == ["stream ETH has been silent for 8.0 s, 5.0 s are allowed"]


def test_an_allowed_silence_must_be_positive() -> None:
    with pytest.raises(ParameterError, match="must be positive"):
        Watchdog().watch("x", 0.0)


def test_it_looks_by_itself_until_it_is_cancelled() -> None:
    async def run() -> list[Silence]:
        clock, told = Clock(), asyncio.Queue[Silence]()
        watchdog = Watchdog(clock=clock)
        watchdog.watch("x", 1.0)
        clock.now += 2.0
        task = asyncio.create_task(watchdog.keep(told.put_nowait, 0.001))
        first = await told.get()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [first]

    assert [one.name for one in asyncio.run(run())] == ["x"]
