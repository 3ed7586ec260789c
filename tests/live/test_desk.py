"""Orders that rest, are cancelled, cancel each other, wait at the runner, or come many at once."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.floor import Floor, Killed, Life
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live.intents import OrderReport, OrderState
from tradelib.live.orders import OrderDesk
from tradelib.venue.faults import Fault, FaultPlan

FLAT = (100.0, 101.0, 99.0, 100.0)
HOLDINGS = {"holdings": {"BTC": 10.0}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j"


def statuses(floor: Floor, report: OrderReport) -> list[str]:
    """What the journal says of an order, in order."""
    return [body["status"] for body in floor.read(journal.ORDER) if body["client_order_id"] == report.client_order_id]


def test_a_limit_order_rests_until_its_price_is_there(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, (98.0, 98.5, 96.0, 97.0), FLAT]) as floor:

        async def work(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            assert (placed.state, placed.quantity) == (OrderState.OPEN, 0.0)
            assert [order.id for order in at.desk.working()] == [placed.client_order_id]
            assert await at.desk.refresh() == []
            floor.step(2)
            (filled,) = await at.desk.refresh()
            assert (filled.state, filled.quantity, filled.price) == (OrderState.FILLED, 2.0, 97.5)
            assert at.desk.working() == []
            assert at.desk.forget_done() == [filled]

        floor.life(work)
        (fill,) = floor.read(journal.FILL)
        assert (fill["quantity"], fill["price"], fill["fee"]) == (2.0, 97.5, 97.5 * 2 * 0.001)
        assert fill["filled_at"].startswith("2020-01-03")
        assert [body["status"] for body in floor.read(journal.ORDER)] == ["open", "filled"]
        assert floor.read(journal.ORDER)[-1]["filled_at"] == fill["filled_at"]
        floor.assert_sound()


def test_a_cancel_is_written_first_and_believed_only_of_the_order_itself(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> OrderReport:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            ended = await at.desk.cancel(placed.client_order_id, "changed our mind")
            assert ended.state is OrderState.CANCELED
            assert await at.desk.cancel(placed.client_order_id, "again") == ended
            return ended

        ended = floor.life(work)
        assert floor.read(journal.CANCEL) == [{"client_order_id": ended.client_order_id, "reason": "changed our mind"}]
        assert statuses(floor, ended) == ["open", "pending_cancel", "canceled"]
        assert floor.exchange.open_orders() == []


@pytest.mark.parametrize(
    "kind", ["drop_before", "drop_after", "hang", "truncate", "empty", "status", "status_after", "duplicate", "cut"]
)
def test_whatever_the_wire_does_to_a_cancel_the_order_ends_canceled_once(path: Path, kind: str) -> None:
    plan = FaultPlan.of(Fault(kind, on="cancel", times=1, seconds=0.8))
    with Floor(path, faults=plan) as floor:

        async def work(at: Life) -> OrderReport:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            return await at.desk.cancel(placed.client_order_id, "test")

        assert floor.life(work).state is OrderState.CANCELED
        assert floor.served.faults is not None
        assert floor.served.faults.count(kind) == 1
        floor.assert_sound()


def test_a_cancel_that_the_venue_refuses_is_asked_for_again_and_at_last_stops_the_symbol(path: Path) -> None:
    with Floor(path, faults=FaultPlan.of(Fault("reject_cancel", times=2))) as floor:

        async def work(at: Life) -> OrderReport:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            return await at.desk.cancel(placed.client_order_id, "test")

        assert floor.life(work).state is OrderState.CANCELED
    with Floor(path.with_name("k"), faults=FaultPlan.of(Fault("reject_cancel"))) as floor:

        async def stubborn(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            with pytest.raises(RunnerError, match="does not cancel order"):
                await at.desk.cancel(placed.client_order_id, "test")
            assert list(at.desk.halted) == ["BTC/USDT"]
            with pytest.raises(RunnerError, match="is halted, no new exposure"):
                await at.desk.place(at.intend("1", "buy", "1"))

        floor.life(stubborn)


def test_a_fill_that_overtakes_the_cancel_wins(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, (98.0, 98.5, 96.0, 97.0), FLAT]) as floor:

        async def work(at: Life) -> OrderReport:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            floor.step(2)
            return await at.desk.cancel(placed.client_order_id, "too late")

        report = floor.life(work)
        assert (report.state, report.quantity) == (OrderState.FILLED, 2.0)
        assert floor.position() == 2


def test_parts_of_an_order_are_counted_as_they_come(path: Path) -> None:
    bars = [FLAT, FLAT, (98.0, 98.5, 96.0, 97.0), (98.0, 98.5, 96.0, 97.0), FLAT]
    with Floor(path, bars, terms={"participation": 0.1}, volume=50.0) as floor:

        async def work(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "8", "limit", price="97.50"))
            floor.step(2)
            (part,) = await at.desk.refresh()
            assert (part.state, part.quantity) == (OrderState.PARTIALLY_FILLED, 5.0)
            floor.step(1)
            (whole,) = await at.desk.refresh()
            assert (whole.state, whole.quantity) == (OrderState.FILLED, 8.0)
            assert whole.fee == pytest.approx(8 * 97.5 * 0.001)
            assert statuses(floor, placed) == ["open", "partially_filled", "filled"]

        floor.life(work)
        assert [body["quantity"] for body in floor.read(journal.FILL)] == [5.0, 3.0]
        floor.assert_sound()


def test_a_stop_is_held_by_the_venue_and_works_while_the_runner_is_dead(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, (94.0, 94.5, 93.0, 94.0), FLAT], account=HOLDINGS) as floor:

        async def protect(at: Life) -> OrderReport:
            return await at.desk.place(at.intend("stop", "sell", "10", "stop", stop_price="95", reduces=True))

        assert floor.life(protect).state is OrderState.OPEN
        floor.step(2)

        async def wake(at: Life) -> None:
            (report,) = await at.desk.resume()
            assert (report.state, report.quantity) == (OrderState.FILLED, -10.0)

        floor.life(wake)
        assert floor.exchange.positions["BTC"] == 0.0
        floor.assert_sound()


def test_a_pair_goes_to_the_venue_as_one_and_one_cancels_the_other(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, (104.0, 106.0, 103.0, 105.0), FLAT], account=HOLDINGS) as floor:

        async def work(at: Life) -> None:
            target = at.intend("target", "sell", "10", "limit", price="105", group="g", reduces=True)
            stop = at.intend("stop", "sell", "10", "stop", stop_price="95", group="g", reduces=True)
            placed = await at.desk.place_all([target, stop])
            assert [report.state for report in placed] == [OrderState.OPEN, OrderState.OPEN]
            floor.step(2)
            ended = await at.desk.refresh()
            assert [report.state for report in ended] == [OrderState.FILLED, OrderState.EXPIRED]

        floor.life(work)
        assert floor.exchange.positions["BTC"] == 0.0
        floor.assert_sound()


EMULATED: dict[str, Any] = {"holds_oco": False}


@pytest.mark.parametrize("killed", [None, *range(1, 25, 2)])
def test_a_pair_at_a_venue_without_pairs_keeps_its_stop_there_until_the_target_is_reached(
    path: Path, killed: int | None
) -> None:
    bars = [FLAT, FLAT, (104.0, 106.0, 103.0, 105.0), FLAT, FLAT]
    with Floor(path, bars, account=HOLDINGS, changes=EMULATED) as floor:

        async def protect(at: Life) -> None:
            target = at.intend("target", "sell", "10", "limit", price="105", group="g", reduces=True)
            stop = at.intend("stop", "sell", "10", "stop", stop_price="95", group="g", reduces=True)
            placed = await at.desk.place_all([target, stop])
            assert [report.reason for report in placed] == ["held by the runner", ""]

        async def reach(at: Life) -> None:
            await at.desk.resume()
            await at.desk.tick(at.symbol, bid=105.0, ask=105.0)

        async def see(at: Life) -> None:
            await at.desk.resume()
            await at.desk.refresh()
            await at.desk.tick(at.symbol, bid=105.0, ask=105.0)
            assert at.desk.working() == []

        floor.life(protect)
        assert [order.kind for order in floor.exchange.open_orders()] == ["stop"]
        floor.step(1)
        try:
            floor.life(reach, die_at=killed)
        except Killed:
            floor.life(reach)
        floor.step(1)
        floor.life(see)
        assert floor.exchange.positions["BTC"] == 0.0
        assert floor.position() == -10
        floor.assert_sound()


def test_when_the_market_turns_the_stop_that_is_held_here_takes_the_target_back(path: Path) -> None:
    bars = [FLAT, FLAT, (104.0, 104.5, 103.0, 104.0), (94.0, 94.5, 93.0, 94.0), (94.0, 94.5, 93.0, 94.0), FLAT]
    with Floor(path, bars, account=HOLDINGS, changes=EMULATED) as floor:

        async def work(at: Life) -> None:
            target = at.intend("target", "sell", "10", "limit", price="105", group="g", reduces=True)
            stop = at.intend("stop", "sell", "10", "stop", stop_price="95", group="g", reduces=True)
            await at.desk.place_all([target, stop])
            floor.step(1)
            await at.desk.tick(at.symbol, bid=105.0, ask=105.1)  # a spike that the venue's bars do not show
            assert [order.kind for order in floor.exchange.open_orders()] == ["limit"]
            floor.step(1)
            await at.desk.tick(at.symbol, bid=94.0, ask=94.1)
            assert at.desk.working() == []

        floor.life(work)
        assert floor.exchange.positions["BTC"] == 0.0
        assert [body["kind"] for body in floor.read(journal.INTENT)] == ["limit", "stop", "stop"]
        floor.assert_sound()


@pytest.mark.parametrize("killed", [None, *range(1, 12)])
def test_a_stop_that_the_venue_does_not_know_waits_here_and_is_sent_once(path: Path, killed: int | None) -> None:
    changes = {"order_kinds": frozenset({"market", "limit"})}
    with Floor(path, [FLAT, FLAT, (94.0, 94.5, 93.0, 94.0), FLAT], account=HOLDINGS, changes=changes) as floor:

        async def protect(at: Life) -> None:
            report = await at.desk.place(at.intend("stop", "sell", "10", "stop", stop_price="95", reduces=True))
            assert (report.state, report.reason) == (OrderState.OPEN, "held by the runner")

        async def fall(at: Life) -> None:
            await at.desk.resume()
            assert await at.desk.tick(at.symbol, bid=95.01, ask=95.1) == []
            await at.desk.tick(at.symbol, bid=94.0, ask=94.1)
            assert at.desk.working() == []

        floor.life(protect)
        assert floor.exchange.orders == []
        floor.step(1)
        try:
            floor.life(fall, die_at=killed)
        except Killed:
            floor.life(fall)
        assert floor.exchange.positions["BTC"] == 0.0
        assert len(floor.read(journal.TRIGGER)) == 1
        floor.assert_sound()


def test_many_orders_go_out_at_once_and_one_that_fails_does_not_hold_up_the_others(path: Path) -> None:
    symbols = tuple(f"C{number}/USDT" for number in range(12))
    with Floor(path, symbols=symbols) as floor:

        async def work(at: Life) -> list[OrderReport]:
            intents = [at.intend(str(n), "buy", "1", symbol=symbol) for n, symbol in enumerate(symbols)]
            intents.insert(5, at.intend("dear", "buy", "1000000", symbol="C3/USDT"))
            return await at.desk.place_all(intents)

        reports = floor.life(work)
        assert [report.state for report in reports[:5] + reports[6:]] == [OrderState.FILLED] * 12
        assert reports[5].state is OrderState.REJECTED
        assert "insufficient" in reports[5].reason
        floor.assert_sound()


def test_an_intent_that_is_not_durable_is_not_sent(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            intent = at.intend("0", "buy", "1")
            elsewhere = OrderDesk(at.client, at.log, at.reconciler._insistence)
            undurable = type(intent)(**{**vars(intent), "client_order_id": "tl-" + "0" * 32})
            with pytest.raises(RunnerError, match="write its intent before it is sent"):
                await elsewhere.place(undurable)

        floor.life(work)
        assert floor.exchange.orders == []


def test_a_stream_may_repeat_reorder_and_lag_without_effect(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, (98.0, 98.5, 96.0, 97.0), FLAT]) as floor:

        async def work(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            opened = await at.desk.dialect.find(at.client, at.symbol, placed.client_order_id)
            floor.step(2)
            filled = await at.desk.dialect.find(at.client, at.symbol, placed.client_order_id)
            assert opened is not None
            assert filled is not None
            trades = await at.desk.dialect.fills(at.client, at.symbol, order_id=placed.venue_order_id)
            part = {**filled, "status": "open", "filled": 1.0}
            assert await at.desk.hear(part) is not None
            assert await at.desk.hear(opened) is None, "older than what is known"
            report = await at.desk.hear(filled, trades)
            assert report is not None
            assert (report.state, report.quantity, report.price) == (OrderState.FILLED, 2.0, 97.5)
            for again in (filled, part, opened):
                assert await at.desk.hear(again, trades) is None
            assert await at.desk.hear({**filled, "clientOrderId": "somebody"}) is None

        floor.life(work)
        assert [body["status"] for body in floor.read(journal.ORDER)] == ["open", "partially_filled", "filled"]
        assert len(floor.read(journal.FILL)) == 1


def test_a_trade_that_is_told_after_the_end_is_booked(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            ended = await at.desk.cancel(placed.client_order_id, "test")
            late = {"id": "77", "side": "buy", "amount": 0.5, "price": 90.0, "timestamp": 1_577_923_200_000}
            assert [trade.quantity for trade in await at.desk.book(ended.client_order_id, [late])] == [0.5]
            assert await at.desk.book(ended.client_order_id, [late]) == []
            assert at.desk.order(ended.client_order_id).report.quantity == 0.5
            assert at.reports[-1].quantity == 0.5

        floor.life(work)
        assert floor.position() == Decimal("0.5")


def test_asking_and_listening_at_the_same_time_agree(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, (98.0, 98.5, 96.0, 97.0), FLAT]) as floor:

        async def work(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            floor.step(2)
            said = await at.desk.dialect.find(at.client, at.symbol, placed.client_order_id)
            task = asyncio.create_task(at.desk.cancel(placed.client_order_id, "test"))
            await asyncio.sleep(0)
            await at.desk.hear(said)
            assert (await task).state is OrderState.FILLED

        floor.life(work)
        floor.assert_sound()


@pytest.mark.parametrize("dialect", ["kraken", "bitget"])
def test_the_other_exchanges_take_rest_cancel_and_fill_alike(path: Path, dialect: str) -> None:
    with Floor(path, [FLAT, FLAT, (98.0, 98.5, 96.0, 97.0), FLAT], dialect=dialect) as floor:

        async def work(at: Life) -> None:
            bought = await at.trade("0", "buy", "1")
            assert (bought.state, bought.quantity) == (OrderState.FILLED, 1.0)
            assert bought.fee is not None
            resting = await at.desk.place(at.intend("1", "buy", "2", "limit", price="97.50"))
            other = await at.desk.place(at.intend("2", "buy", "2", "limit", price="80"))
            assert (await at.desk.cancel(other.client_order_id, "test")).state is OrderState.CANCELED
            floor.step(2)
            (filled,) = await at.desk.refresh()
            assert (filled.client_order_id, filled.quantity) == (resting.client_order_id, 2.0)

        floor.life(work)
        assert floor.position() == 3
        assert floor.verified().ok
