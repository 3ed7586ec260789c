"""The fault plan: seeded, the same again for the same seed, and what the real ccxt client makes of each fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.venue.support import DAY, FIRST, SECRET, ask, async_client, client, exchange, serve
from tradelib.errors import VenueError
from tradelib.venue import VenueThread
from tradelib.venue.faults import BAR_FAULTS, FAULTS, REQUEST_FAULTS, Fault, FaultPlan

SPX = "SPX/USDT"
ORDER = {"symbol": "SPXUSDT", "side": "BUY", "type": "MARKET", "quantity": "1", "newClientOrderId": "mine"}


def served(*faults: Fault, seed: int = 0, **options: Any) -> VenueThread:
    """A venue whose bar 3 forms, with this plan."""
    return serve(exchange(start=3, **options), faults=FaultPlan.of(*faults, seed=seed))


def names(venue: VenueThread) -> list[str]:
    return [order.client_order_id for order in venue.exchange.orders]


# The plan


def test_a_plan_is_json_and_reads_back_as_the_same_plan() -> None:
    plan = FaultPlan.of(Fault("drop_after", "place", probability=0.2), Fault("silent", after=100, times=1), seed=7)
    assert FaultPlan.from_json(plan.to_json()) == plan
    assert FaultPlan.from_json('{"faults": [{"kind": "status", "status": 429}]}').faults[0].on == "any"
    assert [Fault(kind).on for kind in ("stale_bars", "silent", "refuse_stream", "partial_fill", "reject_cancel")] == [
        "bars",
        "stream",
        "connect",
        "fill",
        "cancel",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ('{"faults": [{"kind": "gremlins"}]}', "fault 'gremlins' is unknown: use one of delay"),
        ('{"faults": [{"kind": "silent", "on": "place"}]}', "'silent' cannot happen on 'place': use stream"),
        ('{"faults": [{"kind": "drop_after", "on": "lunch"}]}', "cannot happen on 'lunch'"),
        ('{"faults": [{"kind": "delay", "probability": 2}]}', "probability is 2"),
        ('{"faults": [{"kind": "delay", "times": 0}]}', "are counts"),
        ('{"faults": [{"kind": "delay", "delay": 1}]}', "fault 0 of the plan has no delay"),
        ('{"faults": [{}]}', "fault 0 of the plan"),
    ],
)
def test_plans_that_mean_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(VenueError, match=message):
        FaultPlan.from_json(text)


@given(st.integers(0, 2**31), st.lists(st.sampled_from(["place", "query", "bars"]), max_size=60), st.data())
def test_whether_an_occasion_is_struck_depends_on_seed_rule_and_its_number_alone(
    seed: int, occasions: list[str], data: Any
) -> None:
    """Requests of other roles in between, or a rule of another kind before, change nothing."""
    plan = FaultPlan.of(Fault("drop_after", "place", probability=0.4, after=1, times=5), seed=seed)
    alone, mixed = plan.start(), plan.start()
    wanted = [bool(alone.strikes("place", REQUEST_FAULTS)) for on in occasions if on == "place"]
    found = [bool(mixed.strikes(on, REQUEST_FAULTS)) for on in occasions]
    assert [hit for hit, on in zip(found, occasions, strict=True) if on == "place"] == wanted
    assert sum(wanted) <= 5
    assert not any(wanted[:1])
    assert mixed.log == alone.log


def test_a_rule_with_a_probability_strikes_that_often() -> None:
    state = FaultPlan.of(Fault("drop_after", probability=0.25), seed=1).start()
    assert 200 < sum(bool(state.first("place", REQUEST_FAULTS)) for _ in range(1_000)) < 300


# Requests

SHAPES: list[tuple[str, dict[str, Any], type[Exception] | None, bool]] = [
    ("drop_before", {}, ccxt.NetworkError, False),
    ("drop_after", {}, ccxt.NetworkError, True),
    ("status", {"status": 503}, ccxt.ExchangeNotAvailable, False),
    ("status_after", {"status": 502}, ccxt.ExchangeNotAvailable, True),
    ("status", {"status": 429}, ccxt.DDoSProtection, False),
    ("status", {"status": 418}, ccxt.DDoSProtection, False),
    ("cut", {}, ccxt.BaseError, True),
    ("hang", {"seconds": 0.6}, ccxt.RequestTimeout, True),
    ("empty", {}, None, True),
    ("truncate", {}, None, True),
    ("clock_skew", {"seconds": 30.0}, ccxt.InvalidNonce, False),
    ("clock_skew", {"seconds": -30.0}, ccxt.InvalidNonce, False),
    ("restart", {"seconds": 0.05}, ccxt.NetworkError, False),
]


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "more", "raised", "executed"), SHAPES)
def test_what_ccxt_makes_of_a_struck_order(
    kind: str, more: dict[str, Any], raised: type[Exception] | None, executed: bool
) -> None:
    """Whether the order landed is the venue's own knowledge; the client's exception tells it of none."""

    async def place(url: str) -> Any:
        spot = async_client(url)
        spot.timeout = 300
        try:
            await spot.load_markets()
            return await spot.create_order(SPX, "market", "buy", 1.0, params={"newClientOrderId": "mine"})
        finally:
            await spot.close()

    with served(Fault(kind, "place", times=1, **more)) as venue:
        if raised is None:
            assert asyncio.run(place(venue.url))["id"] is None  # success, without an order: an unknown outcome
        else:
            with pytest.raises(raised):
                asyncio.run(place(venue.url))
        assert names(venue) == (["mine"] if executed else [])
        assert venue.faults is not None
        assert [strike.kind for strike in venue.faults.log] == [kind]


@pytest.mark.integration
def test_a_repeated_order_is_executed_twice_because_the_id_of_a_filled_order_is_free_again() -> None:
    with served(Fault("duplicate", "place", times=1)) as venue:
        status, reply = ask(venue.port, "/api/v3/order", ORDER, method="POST", secret=SECRET)
        assert (status, reply["orderId"]) == (200, 1)
        assert names(venue) == ["mine", "mine"]


@pytest.mark.integration
def test_a_delayed_order_lands_after_the_client_has_given_up() -> None:
    async def late(url: str) -> list[Any]:
        spot = async_client(url)
        spot.timeout = 200
        await spot.load_markets()
        try:
            with pytest.raises(ccxt.RequestTimeout):
                await spot.create_order(SPX, "market", "buy", 1.0, params={"newClientOrderId": "mine"})
            with pytest.raises(ccxt.OrderNotFound):
                await spot.fetch_order(None, SPX, params={"origClientOrderId": "mine"})
            for _ in range(100):
                try:
                    return [await spot.fetch_order(None, SPX, params={"origClientOrderId": "mine"})]
                except ccxt.OrderNotFound:
                    await asyncio.sleep(0.02)
            return []
        finally:
            await spot.close()

    with served(Fault("delay", "place", seconds=0.4, times=1)) as venue:
        (found,) = asyncio.run(late(venue.url))
        assert found["status"] == "closed"


@pytest.mark.integration
def test_reordered_requests_are_executed_in_the_other_order() -> None:
    async def both(url: str) -> None:
        spot = async_client(url)
        await spot.load_markets()
        try:
            first = asyncio.create_task(spot.create_order(SPX, "market", "buy", 1.0, params={"newClientOrderId": "a"}))
            while not venue.faults.log:  # the first one is held
                await asyncio.sleep(0.005)
            await spot.create_order(SPX, "market", "buy", 1.0, params={"newClientOrderId": "b"})
            await first
        finally:
            await spot.close()

    with served(Fault("reorder", "place", seconds=5.0, times=1)) as venue:
        asyncio.run(both(venue.url))
        assert names(venue) == ["b", "a"]


@pytest.mark.integration
def test_after_a_restart_the_account_is_what_it_was() -> None:
    with served(Fault("restart", "query", seconds=0.0, times=1)) as venue:
        spot = client(venue.url)
        spot.create_order(SPX, "limit", "buy", 1.0, 90.0, params={"newClientOrderId": "mine"})
        before = venue.exchange.snapshot()
        with pytest.raises(ccxt.NetworkError):
            spot.fetch_open_orders(SPX)
        assert venue.exchange.snapshot() == before
        assert [row["clientOrderId"] for row in spot.fetch_open_orders(SPX)] == ["mine"]


@pytest.mark.integration
def test_the_operator_and_roles_that_are_not_named_are_left_alone() -> None:
    with served(Fault("drop_before", "place"), pace="manual") as venue:
        assert client(venue.url).fetch_balance()["USDT"]["free"] == 100_000.0
    with served(Fault("drop_before"), pace="manual") as venue:
        assert ask(venue.port, "/venue/v1/step", method="POST", secret=SECRET)[1]["moved"] == 1
        with pytest.raises(ccxt.NetworkError):
            client(venue.url).fetch_balance()


# Bars, fills and cancels


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        (Fault("stale_bars", bars=2, times=1), lambda rows: rows[:-2]),
        (Fault("missing_bar", times=1), lambda rows: rows[:-2] + rows[-1:]),
        (Fault("duplicate_bar", times=1), lambda rows: rows[:-1] + rows[-2:]),
        (Fault("unordered_bars", times=1), lambda rows: [*rows[:-3], rows[-2], rows[-3], rows[-1]]),
    ],
)
def test_bars_that_are_stale_missing_double_or_out_of_order(fault: Fault, change: Callable[[Any], Any]) -> None:
    plain, faulty = exchange(start=5), exchange(start=5)
    faulty.faults = FaultPlan.of(fault).start()
    rows = plain.klines("SPXUSDT")
    assert faulty.klines("SPXUSDT") == change(rows)
    assert faulty.klines("SPXUSDT") == rows
    assert fault.kind in BAR_FAULTS


def test_a_revised_bar_is_another_one_the_next_time() -> None:
    venue = exchange(start=5)
    venue.faults = FaultPlan.of(Fault("revised_bar", share=0.01, times=1)).start()
    first, second = venue.klines("SPXUSDT"), venue.klines("SPXUSDT")
    assert first[-2].row.close == second[-2].row.close * 1.01
    assert [row for n, row in enumerate(first) if n != 4] == [row for n, row in enumerate(second) if n != 4]


def test_a_client_that_was_told_wrongly_sees_the_bar_before_the_clock_moves_on() -> None:
    """With pace "poll" the answer that is missing the newest bars may not count as having shown them."""
    venue = exchange(start=3)
    venue.faults = FaultPlan.of(Fault("stale_bars", bars=1, times=1)).start()
    assert venue.klines("SPXUSDT")[-1].open_time == FIRST + 2 * DAY  # day 3 forms, and is not told
    rows = venue.klines("SPXUSDT", FIRST + 2 * DAY + 1)
    assert (venue.clock, [row.open_time for row in rows]) == (FIRST + 3 * DAY, [FIRST + 3 * DAY])
    venue.klines("SPXUSDT", FIRST + 2 * DAY + 1)
    assert venue.clock == FIRST + 4 * DAY


@pytest.mark.integration
def test_partial_fills_and_rejected_cancels_over_the_wire() -> None:
    with served(Fault("partial_fill", share=0.4, times=1), Fault("reject_cancel", times=1)) as venue:
        spot = client(venue.url)
        order = spot.create_order(SPX, "market", "buy", 10.0)
        assert (order["status"], order["filled"], order["info"]["status"]) == ("expired", 4.0, "EXPIRED")
        resting = spot.create_order(SPX, "limit", "buy", 1.0, 90.0)
        with pytest.raises(ccxt.OrderNotFound, match="CANCEL_REJECTED"):
            spot.cancel_order(resting["id"], SPX)
        assert spot.cancel_order(resting["id"], SPX)["status"] == "canceled"


def test_every_kind_of_fault_says_what_it_does() -> None:
    assert set(FAULTS) >= {"delay", "drop_before", "drop_after", "duplicate", "reorder", "truncate", "empty", "status"}
    assert all(text and not text.endswith(".") for text in FAULTS.values())


@pytest.mark.integration
def test_the_same_seed_meets_the_same_faults_over_real_sockets() -> None:
    def run(seed: int) -> list[tuple[str, str, int]]:
        plan = [Fault("drop_after", "place", probability=0.4), Fault("status", "query", probability=0.4)]
        with served(*plan, seed=seed) as venue:
            spot = client(venue.url)
            spot.load_markets()
            for _ in range(12):
                for call in (lambda: spot.create_order(SPX, "market", "buy", 0.5), lambda: spot.fetch_orders(SPX)):
                    with contextlib.suppress(ccxt.NetworkError):
                        call()
            assert venue.faults is not None
            return [tuple(strike) for strike in venue.faults.log]

    assert run(1) == run(1)
    assert run(1) != run(2)
