"""What an independent review found in the order desk: outcomes lost, counted twice, or sent past a switch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.floor import Floor, Life
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live.intents import Intent, OrderReport, OrderState
from tradelib.live.orders import OrderDesk
from tradelib.live.patience import Unanswered
from tradelib.venue.faults import Fault, FaultPlan

FLAT = (100.0, 101.0, 99.0, 100.0)
DIP = (98.0, 98.5, 96.0, 97.0)
HELD: dict[str, Any] = {"holdings": {"BTC": 10.0}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j"


def again(at: Life, objection: Callable[[Intent], str | None]) -> OrderDesk:
    """The desk of this process, which asks `objection` before it sends."""
    return OrderDesk(at.client, at.log, at.reconciler._insistence, clock=at.desk._clock, objection=objection)


# A request that was cut off ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["market", "pair"])
def test_a_submit_that_a_deadline_cut_off_is_asked_for_and_never_called_expired(path: Path, kind: str) -> None:
    """Given an order that has reached the venue, when its task is cancelled before the reply came, then the venue is
    asked what became of it, by the shutdown as by the next process."""
    with Floor(path, account=HELD) as floor:

        async def work(at: Life) -> list[OrderReport]:
            name = "privatePostOrderListOco" if kind == "pair" else "create_order"
            real, sent = getattr(at.client, name), asyncio.Event()

            async def hangs(*given: Any, **named: Any) -> Any:
                try:
                    await real(*given, **named)
                finally:
                    sent.set()
                    await asyncio.Event().wait()

            setattr(at.client, name, hangs)
            terms: dict[str, Any] = {"group": "g", "reduces": True}
            if kind == "pair":
                intents = [
                    at.intend("t", "sell", "2", "limit", price="110", **terms),
                    at.intend("s", "sell", "2", "stop", stop_price="90", **terms),
                ]
            else:
                intents = [at.intend("0", "buy", "2")]
            task = asyncio.create_task(at.desk.place_all(intents))
            await asyncio.wait({task, asyncio.create_task(sent.wait())}, return_when=asyncio.FIRST_COMPLETED)
            assert not task.done(), task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert {order.state for order in at.desk.working()} == {OrderState.UNKNOWN}
            await at.desk.refresh()
            await at.desk.cancel_all("shutdown")
            return [at.desk.order(intent.client_order_id).report for intent in intents]

        reports = floor.life(work)
        ended = OrderState.CANCELED if kind == "pair" else OrderState.FILLED
        assert [report.state for report in reports] == [ended] * len(reports)
        assert floor.position() == (0 if kind == "pair" else 2)
        floor.assert_sound()


# Trades that are told late ----------------------------------------------------------------------------------------


def test_trades_told_late_are_asked_for_at_the_restart_and_counted_once(path: Path) -> None:
    """Given an order called filled of which one trade is not listed yet, when the process starts again, then the trade
    is asked for before anything else; and whoever hears of it hears that one trade only."""
    with Floor(path, [FLAT, FLAT, DIP, DIP, FLAT, FLAT], terms={"participation": 0.1}, volume=50.0) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            await at.desk.place(at.intend("0", "buy", "8", "limit", price="97.50"))
            floor.step(3)
            late(at)
            (report,) = await at.desk.refresh()
            assert (report.state, report.quantity, report.complete) == (OrderState.FILLED, 8.0, False)

        def late(at: Life) -> None:
            real = at.client.privateGetMyTrades

            async def first_only(request: Any) -> Any:
                return (await real(request))[:1]

            at.client.privateGetMyTrades = first_only

        async def still_late(at: Life) -> None:
            late(at)
            with pytest.raises(Unanswered, match="does not tell all trades"):
                await at.desk.resume()

        async def restart(at: Life) -> None:
            assert await at.desk.resume() == []
            assert [[trade.quantity for trade in report.fresh] for report in at.reports] == [[3.0]]
            assert await at.desk.complete() == []
            assert (await at.reconciler.reconcile()).equal

        floor.life(work)
        assert floor.position() == 5
        floor.life(still_late)
        floor.life(restart)
        assert floor.position() == 8
        floor.assert_sound()


def test_a_trade_that_reconciliation_finds_is_told_alone(path: Path) -> None:
    """What was booked by an earlier process is not news: a purse that hears of it again would hold it twice."""
    with Floor(path, [FLAT, FLAT, DIP, DIP, FLAT, FLAT], terms={"participation": 0.1}, volume=50.0) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            await at.desk.place(at.intend("0", "buy", "8", "limit", price="97.50"))
            floor.step(2)
            await at.desk.refresh()

        async def heal(at: Life) -> None:
            floor.step(1)
            told = await at.reconciler.reconcile()
            assert [one.cause for one in told.differences] == ["fill"]
            assert [[trade.quantity for trade in report.fresh] for report in at.reports] == [[3.0]]

        floor.life(work)
        floor.life(heal)
        assert floor.position() == 8


# What may leave now -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["place", "recover", "resume", "pair", "trigger"])
def test_what_came_after_the_intent_may_forbid_it(path: Path, way: str) -> None:
    """Given a durable intent that is not at the venue, when a switch has been thrown since, then it ends expired with
    the reason, whoever would have sent it."""
    changes = {"order_kinds": frozenset({"market", "limit"})} if way == "trigger" else {}
    with Floor(path, account=HELD, changes=changes) as floor:

        async def work(at: Life) -> list[OrderReport]:
            desk, entry = again(at, lambda intent: "account is halted by anna: stop"), at.intend
            desk.dialect = at.desk.dialect
            terms: dict[str, Any] = {"group": "g", "reduces": True}
            if way == "pair":
                one, two = (
                    entry("t", "sell", "2", "limit", price="110", **terms),
                    entry("s", "sell", "2", "stop", stop_price="90", **terms),
                )
                return await desk.place_all([one, two])
            if way == "trigger":
                await desk.place(entry("s", "sell", "2", "stop", stop_price="90", **terms))
                return await desk.tick(at.symbol, bid=89.0, ask=89.1)
            intent = entry("0", "buy", "2")
            if way == "place":
                return [await desk.place(intent)]
            return (
                [await desk.recover(intent, may_send=True)] if way == "recover" else await desk.resume(lambda _: True)
            )

        reports = floor.life(work)
        assert {report.state for report in reports} == {OrderState.EXPIRED}
        assert all("halted by anna" in report.reason for report in reports)
        assert floor.exchange.orders == []
        assert floor.life(lambda at: at.desk.resume()) == []


def test_a_resend_asks_again(path: Path) -> None:
    """The first request was lost on the way; when the venue has proved it, the switch is thrown."""
    asked: list[str] = []

    def objection(intent: Intent) -> str | None:
        asked.append(intent.client_order_id)
        return None if len(asked) == 1 else "its bar has passed"

    with Floor(path, faults=FaultPlan.of(Fault("drop_before", on="place", times=1))) as floor:

        async def work(at: Life) -> OrderReport:
            return await again(at, objection).execute(at.intend("0", "buy", "2"))

        report = floor.life(work)
        assert (report.state, len(asked)) == (OrderState.EXPIRED, 2)
        assert "its bar has passed" in report.reason
        assert floor.exchange.orders == []


@pytest.mark.parametrize("kind", ["market", "limit"])
def test_an_order_that_was_given_up_is_not_sent_by_the_next_process(path: Path, kind: str) -> None:
    """Given an intent that was given up (its cancel is durable) before it was sent, when the process ended there, then
    the next one does not send it, though its bar is the newest."""
    terms = {"price": "90"} if kind == "limit" else {}
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            intent = at.intend("0", "buy", "2", kind, **terms)
            at.desk.take(intent)
            await at.desk._write_cancels({intent.client_order_id: "overtaken by a fill"})

        async def restart(at: Life) -> list[OrderReport]:
            return await at.desk.resume(lambda _: True)

        floor.life(work)
        assert [report.state for report in floor.life(restart)] == [OrderState.EXPIRED]
        assert floor.exchange.orders == []
        assert floor.life(restart) == []


def test_a_cancel_that_was_written_down_is_asked_for_by_the_next_process(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            await at.desk._write_cancels({placed.client_order_id: "the plan changed"})

        floor.life(work)
        assert len(floor.exchange.open_orders()) == 1
        floor.life(lambda at: at.desk.survey())
        assert floor.exchange.open_orders() == []
        assert floor.read(journal.ORDER)[-1]["status"] == "canceled"


def test_an_order_that_is_at_the_venue_is_never_dropped_by_a_switch(path: Path) -> None:
    """The reply was lost, the order is there: the question finds it, whatever the switch says now."""
    with Floor(path, faults=FaultPlan.of(Fault("drop_after", on="place", times=1))) as floor:
        asked: list[Intent] = []

        def objection(intent: Intent) -> str | None:
            asked.append(intent)
            return None if len(asked) == 1 else "halted"

        async def work(at: Life) -> OrderReport:
            return await again(at, objection).execute(at.intend("0", "buy", "2"))

        assert floor.life(work).state is OrderState.FILLED
        floor.assert_sound()


def test_recover_refuses_new_exposure_on_a_halted_symbol(path: Path) -> None:
    """One order of the symbol could not be proved; an intent that never left must not be sent meanwhile."""
    with Floor(path) as floor:

        async def work(at: Life) -> tuple[OrderReport, OrderReport]:
            at.desk._unproved["tl-x"] = at.symbol, "unknown"
            entry = await at.desk.recover(at.intend("0", "buy", "2"), may_send=True)
            exit_ = at.intend("1", "sell", "2", reduces=True)
            return entry, await at.desk.recover(exit_, may_send=True)

        entry, exit_ = floor.life(work)
        assert entry.state is OrderState.EXPIRED
        assert "no new exposure" in entry.reason
        assert exit_.state is OrderState.REJECTED, "it was sent: the venue has nothing to sell"


# Stops that the runner holds --------------------------------------------------------------------------------------


def test_a_held_stop_that_failed_once_fires_again(path: Path) -> None:
    """Given a fired stop whose sibling the venue did not cancel at first, when the price has moved on (back, even),
    then it goes on where it stood."""
    changes = {"holds_oco": False, "order_kinds": frozenset({"market", "limit"})}
    faults = FaultPlan.of(Fault("reject_cancel", times=6))
    with Floor(path, account=HELD, faults=faults, changes=changes) as floor:

        async def work(at: Life) -> list[OrderReport]:
            group: dict[str, Any] = {"group": "p", "reduces": True}
            await at.desk.place(at.intend("t", "sell", "10", "limit", price="110", **group))
            await at.desk.place(at.intend("s", "sell", "10", "stop", stop_price="95", **group))
            with pytest.raises(RunnerError, match="does not cancel"):
                await at.desk.tick(at.symbol, bid=94.0, ask=94.0)
            return await at.desk.tick(at.symbol, bid=96.0, ask=96.0)

        (report,) = floor.life(work)
        assert (report.state, report.quantity) == (OrderState.FILLED, -10.0)
        assert len(floor.read(journal.TRIGGER)) == 1
        floor.assert_sound()


def test_the_stop_that_is_held_for_a_fired_target_is_that_which_stood_last(path: Path) -> None:
    """A trailing stop was moved: what waits here while the target is at the venue is the moved one."""
    with Floor(path, account=HELD, changes={"holds_oco": False}) as floor:

        async def work(at: Life) -> list[Decimal | None]:
            group: dict[str, Any] = {"group": "p", "reduces": True}
            first = at.intend("s", "sell", "10", "stop", stop_price="90", **group)
            await at.desk.place_all([at.intend("t", "sell", "10", "limit", price="110", **group), first])
            await at.desk.cancel(first.client_order_id, "the plan changed")
            await at.desk.place(at.intend("s.1", "sell", "10", "stop", stop_price="95", **group))
            await at.desk.tick(at.symbol, bid=110.0, ask=110.0)
            return [order.intent.stop_price for order in at.desk.working() if order.held]

        assert floor.life(work) == [Decimal(95)]


# Reconciliation beside a trader -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stale", [1, 9])
def test_an_order_that_ends_while_the_answer_is_on_its_way_halts_nobody(path: Path, stale: int) -> None:
    """Given a list of open orders from before a cancel, when it is read after it, then the venue is asked once more;
    an order that it still shows is one that the journal is wrong about."""
    with Floor(path) as floor:

        async def work(at: Life) -> dict[str, str]:
            await at.reconciler.reconcile()
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            real, answers = at.client.privateGetOpenOrders, list[Any]()

            async def slow(request: Any) -> Any:
                answers.append(answers[0] if answers and len(answers) < stale else await real(request))
                if at.desk.working():
                    await at.desk.cancel(placed.client_order_id, "the plan changed")
                return answers[-1]

            at.client.privateGetOpenOrders = slow
            return (await at.reconciler.reconcile()).halted

        assert list(floor.life(work)) == ([] if stale == 1 else ["BTC/USDT"])
