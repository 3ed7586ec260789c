"""Exits at the venues: a position is never left without its stop, whatever stands beside it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import sealed as sealed
from tests.live.floor import SECRET, Floor, Life
from tests.live.mirrors import market
from tests.live.support import HASTE, KEY, Sealed, read, venue
from tests.live.test_policies import COUNT, POLICIES, TICKS, bundle_of, paper, research, run
from tradelib.data.bars import window
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live import Runner
from tradelib.live.admission import admit_exits
from tradelib.live.intents import OrderReport, OrderState
from tradelib.risk.exits import Distance, Exits
from tradelib.venue import VenueThread

FLAT = (100.0, 101.0, 99.0, 100.0)
HELD: dict[str, Any] = {"holdings": {"BTC": 10.0}}
GROUP: dict[str, Any] = {"group": "position-1", "reduces": True}


def ticks(value: float) -> Distance:
    """A distance in whole ticks."""
    return Distance(value=value, **TICKS)


LADDER = ((ticks(1.0), 0.5), (ticks(2.0), 0.5))
BRACKETS: dict[str, Any] = {
    "stop and ladder": Exits(stop_loss=ticks(3.0), take_profit=LADDER),
    "stop and part of a ladder": Exits(stop_loss=ticks(3.0), take_profit=((ticks(1.0), 0.3), (ticks(2.0), 0.3))),
    "trailing stop and target": Exits(trailing_stop=ticks(3.0), take_profit=((ticks(4.0), 1.0),)),
    "trailing stop and ladder": Exits(trailing_stop=ticks(3.0), take_profit=LADDER),
    "near target": Exits(stop_loss=ticks(3.0), take_profit=((ticks(0.25), 1.0),)),
}


@pytest.mark.parametrize("policy", BRACKETS)
def test_brackets_on_a_venue_with_pairs_equal_the_backtest(sealed: Sealed, tmp_path: Path, policy: str) -> None:
    """Money to the last bit but for the rounding of a fee that is paid in parts (a stop in pieces)."""
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, exits=BRACKETS[policy])
    exchange = paper(bundle, bars)
    with venue(exchange) as served:
        run(bundle, served.url, tmp_path / "j", bars)
    result = research(bundle, window(bars, end=bars.index[COUNT - 2]))
    refused = [body["reason"] for body in read(tmp_path / "j", journal.ORDER) if body["status"] == "rejected"]
    assert refused == []
    equities = [row["equity"] for row in read(tmp_path / "j", journal.EQUITY)][1:]
    assert equities == pytest.approx(result.equity.tolist(), rel=1e-12)
    assert len(result.fills) > 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j"


def open_orders(floor: Floor) -> list[tuple[str, float]]:
    """Kind and quantity of what rests at the venue."""
    return sorted((order.kind, order.quantity) for order in floor.exchange.open_orders())


def test_a_ladder_and_its_stop_stand_together_as_pairs(path: Path) -> None:
    bars = [FLAT, FLAT, (100.0, 111.0, 99.0, 105.0), (94.0, 94.5, 88.0, 89.0), FLAT]
    with Floor(path, bars, account=HELD) as floor:

        async def work(at: Life) -> list[OrderReport]:
            stop = at.intend("stop", "sell", "10", "stop", stop_price="90", **GROUP)
            rungs = [
                at.intend("t1", "sell", "5", "limit", price="110", **GROUP),
                at.intend("t2", "sell", "3", "limit", price="120", **GROUP),
            ]
            await at.desk.place_all([stop, *rungs])
            assert open_orders(floor) == [("limit", 3.0), ("limit", 5.0), ("stop", 2.0), ("stop", 3.0), ("stop", 5.0)]
            return [at.desk.order(one.client_order_id).report for one in (stop, *rungs)]

        async def wake(at: Life) -> None:
            await at.desk.resume()
            await at.desk.refresh()

        assert {report.state for report in floor.life(work)} == {OrderState.OPEN}
        floor.step(2)  # the first rung is filled, and only its piece of the stop ends
        floor.life(wake)
        assert open_orders(floor) == [("limit", 3.0), ("stop", 2.0), ("stop", 3.0)]
        floor.step(1)
        floor.life(wake)
        assert (open_orders(floor), floor.exchange.positions["BTC"]) == ([], 0.0)
        assert floor.position() == Decimal(-10)
        reasons = {body["reason"] for body in floor.read(journal.ORDER) if body["status"] == "expired"}
        assert reasons == {"one cancels the other"}
        floor.assert_sound()


def test_a_target_that_the_market_has_passed_is_taken_and_the_stop_stands_for_the_rest(path: Path) -> None:
    with Floor(path, account=HELD) as floor:

        async def work(at: Life) -> list[OrderReport]:
            stop = at.intend("stop", "sell", "10", "stop", stop_price="90", **GROUP)
            return await at.desk.place_all([stop, at.intend("t1", "sell", "6", "limit", price="99", **GROUP)])

        stop, target = floor.life(work)
        assert (target.state, target.quantity) == (OrderState.FILLED, -6.0)
        assert open_orders(floor) == [("stop", 4.0)]
        assert stop.state is OrderState.OPEN
        floor.assert_sound()


def test_a_pair_that_is_refused_for_good_leaves_the_stop(path: Path) -> None:
    """The target's price is none that the venue takes; the stop is."""
    with Floor(path, account=HELD) as floor:

        async def work(at: Life) -> list[OrderReport]:
            stop = at.intend("stop", "sell", "10", "stop", stop_price="90", **GROUP)
            return await at.desk.place_all([stop, at.intend("t", "sell", "10", "limit", price="110.001", **GROUP)])

        stop, target = floor.life(work)
        assert stop.state is OrderState.OPEN
        assert target.is_final
        assert target.quantity == 0.0
        assert open_orders(floor) == [("stop", 10.0)]


def test_a_moved_stop_takes_its_target_along_and_says_so(path: Path) -> None:
    with Floor(path, account=HELD) as floor:

        async def work(at: Life) -> None:
            stop = at.intend("stop", "sell", "10", "stop", stop_price="90", **GROUP)
            target = at.intend("t", "sell", "10", "limit", price="120", **GROUP)
            await at.desk.place_all([stop, target])
            await at.desk.cancel(stop.client_order_id, "the plan changed")
            gone = at.desk.order(target.client_order_id).report
            assert (gone.state, gone.reason) == (OrderState.CANCELED, "makes room for what stands beside it")
            moved = at.intend("stop.1", "sell", "10", "stop", stop_price="95", **GROUP)
            again = at.intend("t.1", "sell", "10", "limit", price="120", **GROUP)
            assert await at.desk.make_room([moved, again]) == set()
            told = await at.desk.place_all([moved, again])
            assert {report.state for report in told} == {OrderState.OPEN}

        floor.life(work)
        assert open_orders(floor) == [("limit", 10.0), ("stop", 10.0)]
        floor.assert_sound()


def test_a_part_of_a_target_ends_the_stop_and_the_rest_makes_room_for_another(path: Path) -> None:
    bars = [FLAT, FLAT, (100.0, 105.0, 99.0, 101.0), FLAT, FLAT]
    with Floor(path, bars, terms={"participation": 0.1}, volume=50.0, account=HELD) as floor:

        async def work(at: Life) -> None:
            target = at.intend("t", "sell", "10", "limit", price="104", **GROUP)
            stop = at.intend("s", "sell", "10", "stop", stop_price="90", **GROUP)
            await at.desk.place_all([stop, target])
            floor.step(2)
            await at.desk.refresh()
            assert at.desk.order(stop.client_order_id).report.reason == "one cancels the other"
            assert [report.quantity for report in at.reports if report.client_order_id == target.client_order_id][
                -1
            ] == -5
            following = at.intend("s.1", "sell", "5", "stop", stop_price="90", **GROUP)
            assert await at.desk.make_room([following]) == {"position-1"}
            rest = at.intend("t.1", "sell", "5", "limit", price="104", **GROUP)
            told = await at.desk.place_all([following, rest])
            assert {report.state for report in told} == {OrderState.OPEN}

        floor.life(work)
        assert open_orders(floor) == [("limit", 5.0), ("stop", 5.0)]
        floor.assert_sound()


# The other exchanges ----------------------------------------------------------------------------------------------

REFUSED = {
    "kraken": {"stop and target": "take_profit beside stop_loss"},
    "bitget": {
        "stop": "stop_loss",
        "stop and target": "stop_loss",
        "trailing stop": "trailing_stop",
        "break-even": "break_even",
        "pyramiding": "scale_in with the move",
        "averaging down": "stop_loss",
    },
}
"""What an exchange cannot hold itself, and how the refusal names it."""
ALL = {**POLICIES, **{name: {"exits": exits} for name, exits in BRACKETS.items()}}
for _name in BRACKETS:
    REFUSED["kraken"][_name] = "take_profit beside"
    REFUSED["bitget"][_name] = "it holds no stops"


@pytest.mark.parametrize("exchange", ["binance", "kraken", "bitget"])
@pytest.mark.parametrize("policy", ALL)
def test_an_exchange_is_refused_by_the_name_of_what_it_cannot_hold(sealed: Sealed, exchange: str, policy: str) -> None:
    bundle = bundle_of(sealed, market(3, COUNT, silent=0.0), **ALL[policy])
    named = REFUSED.get(exchange, {}).get(policy)
    if named is None:
        assert admit_exits(bundle, exchange) == admit_exits(bundle, exchange, emulate=True) == ""
        return
    with pytest.raises(RunnerError, match=named):
        admit_exits(bundle, exchange)
    assert named in admit_exits(bundle, exchange, emulate=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exchange", "policy"),
    [(exchange, policy) for exchange in ("kraken", "bitget") for policy in ALL if policy not in REFUSED[exchange]],
)
def test_every_policy_that_is_not_refused_equals_the_backtest(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: str, policy: str
) -> None:
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    monkeypatch.setenv("TRADELIB_API_PASSPHRASE", "tests")
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **ALL[policy])
    served = VenueThread(paper(bundle, bars), key=KEY, secret=SECRET, dialect=exchange, passphrase="tests")
    until = bars.index[COUNT - 2].isoformat()
    with served:
        given: dict[str, Any] = {"venue_url": served.url, "journal_path": tmp_path / "j", "exchange": exchange}
        asyncio.run(Runner(bundle, until=until, patience=HASTE, **given).run())
    result = research(bundle, window(bars, end=bars.index[COUNT - 2]))
    equities = [row["equity"] for row in read(tmp_path / "j", journal.EQUITY)][1:]
    assert equities == pytest.approx(result.equity.tolist(), rel=1e-12)
    assert len(result.fills) > 5
