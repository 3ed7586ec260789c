"""What other runners lost money on, by the number of the thread where it was reported: each one is a scenario here.

The id of a test names the threads (`pytest -k "nautilus_trader#3622"`). What the reporters saw stands in the docstring;
the causes are theirs, the scenario is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.floor import Floor, Killed, Life
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import journal
from tradelib.live.intents import OrderReport, OrderState
from tradelib.live.reconcile import Reconciliation
from tradelib.venue.faults import Fault, FaultPlan

FLAT = (100.0, 101.0, 99.0, 100.0)
DIP = (98.0, 98.5, 96.0, 97.0)
HELD: dict[str, Any] = {"holdings": {"BTC": 10.0}}
Scenario = Callable[[Path], None]
SCENARIOS: list[Any] = []


def thread(*numbers: str) -> Callable[[Scenario], Scenario]:
    """Register a scenario under the threads that reported it."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS.extend(pytest.param(scenario, id=number) for number in numbers)
        return scenario

    return register


async def buy(at: Life) -> OrderReport:
    """One market order."""
    return await at.trade("0", "buy", "2")


async def wake(at: Life) -> Reconciliation:
    """What a process does at its start."""
    await at.desk.resume(lambda _: True)
    return await at.reconciler.reconcile()


async def look(at: Life) -> Reconciliation:
    """The account as it is first seen."""
    return await at.reconciler.reconcile()


def one_order_of_two(floor: Floor) -> None:
    """Everything agrees on one order of two units."""
    assert [order.quantity for order in floor.exchange.orders] == [2.0]
    assert floor.position() == 2
    assert floor.life(wake).equal
    floor.assert_sound()


# An order that was sent, and nobody wrote it down


@thread("freqtrade/freqtrade#7184")
def the_order_was_filled_and_the_database_refused_the_row(path: Path) -> None:
    """The exchange had the order, the insert failed, the trade was lost."""
    with Floor(path) as floor:
        floor.life(look)

        async def full_disk(at: Life) -> None:
            intent, written = at.intend("0", "buy", "2"), at.log.extend

            def refuse(items: Any) -> Any:
                raise LedgerError("the disk is full")

            at.log.extend = refuse  # type: ignore[method-assign]
            with pytest.raises(LedgerError, match="disk is full"):
                await at.desk.execute(intent)
            at.log.extend = written  # type: ignore[method-assign]

        floor.life(full_disk)
        assert floor.read(journal.FILL) == []
        floor.life(wake)
        one_order_of_two(floor)


@thread("freqtrade/freqtrade#4653")
def the_process_died_between_the_exchange_and_the_database(path: Path) -> None:
    """The order existed at the exchange and nowhere else; here: killed at every boundary of a market order."""
    with Floor(path) as floor:
        floor.life(look)
        floor.life(buy)
        boundaries = floor.boundaries
    for boundary in range(1, boundaries + 1):
        with Floor(path.with_name(f"killed-{boundary}")) as floor:
            floor.life(look)
            with pytest.raises(Killed):
                floor.life(buy, die_at=boundary)
            floor.life(wake)
            if floor.read(journal.INTENT):
                one_order_of_two(floor)
            else:
                assert floor.exchange.orders == []


@thread("QuantConnect/Lean#4996", "QuantConnect/Lean#7048")
def what_was_bought_is_still_known_after_a_redeployment(path: Path) -> None:
    """Holdings and statistics were gone after a restart."""
    with Floor(path, account=HELD) as floor:
        floor.life(look)
        floor.life(buy)

        async def later(at: Life) -> None:
            assert await wake(at) == Reconciliation(1, ())
            assert (await at.reconciler.expected())["BTC"] == 12

        floor.life(later)
        assert floor.position() == 2, "what was there before is not ours"


# An answer that says nothing


def _ambiguous(kind: str) -> Scenario:
    def scenario(path: Path) -> None:
        """The request failed for the client and succeeded at the exchange; sent again, it was two orders."""
        plan = FaultPlan.of(Fault(kind, on="place", times=1, seconds=0.8, status=502))
        with Floor(path, faults=plan) as floor:
            floor.life(look)
            assert floor.life(buy).state is OrderState.FILLED
            one_order_of_two(floor)

    return scenario


thread("ccxt/ccxt#2599")(_ambiguous("hang"))
thread("scrtlabs/catalyst#317")(_ambiguous("status_after"))
thread("scrtlabs/catalyst#315")(_ambiguous("truncate"))
thread("yubing744/trading-gpt#94")(_ambiguous("drop_after"))
thread("bennycode/trading-signals#1178")(_ambiguous("empty"))


@thread("nautechsystems/nautilus_trader#4215")
def a_request_that_was_only_slow_is_not_sent_a_second_time(path: Path) -> None:
    """The retry raced with the first request."""
    plan = FaultPlan.of(Fault("delay", on="place", times=1, seconds=0.7))  # executed after the client gave up
    with Floor(path, faults=plan) as floor:
        floor.life(look)

        async def patient(at: Life) -> OrderReport:
            import asyncio
            import time

            at.desk._clock, at.desk.sleep = time.monotonic, asyncio.sleep
            return await at.desk.execute(at.intend("0", "buy", "2"))

        assert floor.life(patient).state is OrderState.FILLED
        one_order_of_two(floor)


@thread("hummingbot/hummingbot#8457")
def an_order_that_cannot_be_asked_for_is_not_lost(path: Path) -> None:
    """During an outage the order was not found three times, called failed and dropped; it had been filled."""
    plan = FaultPlan.of(
        Fault("drop_after", on="place", times=1), Fault("status", on="query", after=1, times=6, status=502)
    )
    with Floor(path, faults=plan) as floor:
        floor.life(look)

        async def outage(at: Life) -> None:
            with pytest.raises(RunnerError, match="is unknown after 6 questions"):
                await at.desk.execute(at.intend("0", "buy", "2"))
            assert list(at.desk.halted) == ["BTC/USDT"]
            with pytest.raises(RunnerError, match="no new exposure"):
                await at.desk.place(at.intend("1", "buy", "1"))

        floor.life(outage)
        assert {body["status"] for body in floor.read(journal.ORDER)} == {"unknown"}

        async def back(at: Life) -> None:
            await at.desk.resume(lambda intent: intent.leg == "0")
            assert at.desk.halted == {}

        floor.life(back)
        one_order_of_two(floor)


@thread("hummingbot/hummingbot#3374")
def an_order_that_was_lost_to_a_network_error_is_not_replaced_while_it_may_rest(path: Path) -> None:
    """Orders that the bot had lost track of stayed at the exchange and filled one after the other."""
    plan = FaultPlan.of(Fault("drop_after", on="place", times=1), Fault("status", on="query", after=1, times=6))
    with Floor(path, [FLAT, FLAT, DIP, FLAT], faults=plan) as floor:
        floor.life(look)

        async def quote(at: Life) -> None:
            with pytest.raises(RunnerError, match="unknown"):
                await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            with pytest.raises(RunnerError, match="no new exposure"):
                await at.desk.place(at.intend("1", "buy", "2", "limit", price="97.60"))

        floor.life(quote)
        assert len(floor.exchange.open_orders()) == 1

        async def back(at: Life) -> None:
            (report, never) = await at.desk.resume()
            assert (report.state, never.state) == (OrderState.OPEN, OrderState.EXPIRED)
            assert (await at.desk.cancel(report.client_order_id, "not wanted any more")).state is OrderState.CANCELED

        floor.life(back)
        assert floor.exchange.open_orders() == []
        floor.assert_sound()


# Orders that rest


@thread("hummingbot/hummingbot#366")
def orders_of_an_earlier_process_can_be_cancelled(path: Path) -> None:
    """After a restart the bot did not know the orders that it had left."""
    with Floor(path) as floor:

        async def leave(at: Life) -> None:
            await look(at)
            for leg in ("0", "1", "2"):
                await at.desk.place(at.intend(leg, "buy", "1", "limit", price="80"))

        async def clear(at: Life) -> None:
            await at.desk.resume()
            ended = await at.desk.cancel_all("shutdown")
            assert [report.state for report in ended] == [OrderState.CANCELED] * 3

        floor.life(leave)
        floor.life(clear)
        assert floor.exchange.open_orders() == []


@thread("jesse-ai/jesse#371")
def a_start_leaves_what_rests_at_the_venue_alone(path: Path) -> None:
    """At the start orders were cancelled and positions closed."""
    with Floor(path, account=HELD) as floor:

        async def protect(at: Life) -> None:
            await look(at)
            await at.desk.place(at.intend("stop", "sell", "10", "stop", stop_price="95", reduces=True))

        floor.life(protect)
        before = floor.exchange.open_orders()
        assert floor.life(wake).equal
        assert floor.exchange.open_orders() == before
        assert floor.exchange.positions == {"BTC": 10.0}


def _protection(changes: dict[str, Any]) -> Scenario:
    def scenario(path: Path) -> None:
        """Stop-loss and take-profit vanished when the bot was started again."""
        with Floor(path, [FLAT, FLAT, FLAT, (94.0, 94.5, 93.0, 94.0), FLAT], account=HELD, changes=changes) as floor:

            async def protect(at: Life) -> None:
                await look(at)
                target = at.intend("target", "sell", "10", "limit", price="105", group="g", reduces=True)
                stop = at.intend("stop", "sell", "10", "stop", stop_price="95", group="g", reduces=True)
                await at.desk.place_all([target, stop])

            async def again(at: Life) -> list[str]:
                await wake(at)
                return sorted(order.intent.kind for order in at.desk.working())

            floor.life(protect)
            for _ in range(3):
                assert floor.life(again) == ["limit", "stop"]
            assert any(order.kind == "stop" for order in floor.exchange.open_orders())
            floor.step(3)
            assert floor.life(again) == []
            assert floor.exchange.positions == {"BTC": 0.0}
            floor.assert_sound()

    return scenario


thread("Drakkar-Software/OctoBot#3190")(_protection({}))
thread("Drakkar-Software/OctoBot#3190 emulated")(_protection({"holds_oco": False}))


@thread("freqtrade/freqtrade#3647")
def a_cancel_that_was_only_said_is_noticed(path: Path) -> None:
    """The bot called the order cancelled, the exchange went on to fill it."""
    with Floor(path, [FLAT, FLAT, DIP, FLAT]) as floor:

        async def work(at: Life) -> OrderReport:
            await look(at)
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            cancel, told = at.client.cancel_order, 0

            async def polite(*given: Any, **named: Any) -> Any:
                nonlocal told
                told += 1
                return {"status": "canceled"} if told == 1 else await cancel(*given, **named)

            at.client.cancel_order = polite
            ended = await at.desk.cancel(placed.client_order_id, "too old")
            assert told == 2
            return ended

        assert floor.life(work).state is OrderState.CANCELED
        floor.step(2)
        assert floor.life(wake).equal
        assert floor.exchange.positions == {"BTC": 0.0}


@thread("nautechsystems/nautilus_trader#5000")
def a_working_order_is_kept_where_the_fills_do_not_explain_the_position(path: Path) -> None:
    """Reconciliation dropped orders that were still at the venue."""
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await look(at)
            placed = await at.desk.place(at.intend("0", "buy", "1", "limit", price="80"))
            floor.exchange.positions["BTC"] += 3.0
            told = await at.reconciler.reconcile()
            assert list(told.halted) == ["BTC/USDT"]
            assert [order.id for order in at.desk.working()] == [placed.client_order_id]

        floor.life(work)
        assert len(floor.exchange.open_orders()) == 1


@thread("nautechsystems/nautilus_trader#5023")
def open_orders_survive_a_restart_of_the_venue(path: Path) -> None:
    """A simulated venue that was restarted had forgotten its open orders."""
    with Floor(path) as floor:

        async def rest(at: Life) -> None:
            await look(at)
            await at.desk.place(at.intend("0", "buy", "1", "limit", price="80"))

        floor.life(rest)
        kept = floor.exchange.snapshot()
    with Floor(path) as floor:
        floor.exchange.restore(kept)

        async def again(at: Life) -> None:
            assert (await wake(at)).equal
            assert [order.state for order in at.desk.working()] == [OrderState.OPEN]

        floor.life(again)


# Trades told twice, late, or never


@thread("nautechsystems/nautilus_trader#1205", "nautechsystems/nautilus_trader#3046")
def trades_that_are_told_again_do_not_stop_a_restart(path: Path) -> None:
    """The engine did not start because a trade id was there already."""
    with Floor(path) as floor:
        floor.life(look)
        floor.life(buy)
        for _ in range(3):

            async def again(at: Life) -> None:
                await wake(at)
                name = at.log.last(journal.INTENT).body["client_order_id"]  # type: ignore[union-attr]
                trades = await at.desk.dialect.fills(at.client, at.symbol)
                assert await at.desk.book(name, [*trades, *trades]) == []

            floor.life(again)
        one_order_of_two(floor)


@thread("nautechsystems/nautilus_trader#3081")
def two_fills_under_one_trade_id_are_not_taken_for_one_in_silence(path: Path) -> None:
    """A venue sent two fills with the same trade id."""
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await look(at)
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="90"))
            half = {"id": "7", "side": "buy", "amount": 1.0, "price": 90.0, "timestamp": 1_577_923_200_000}
            half["fee"] = {"cost": 0.0, "currency": "USDT"}
            assert len(await at.desk.book(placed.client_order_id, [half, {**half, "amount": 0.5}])) == 1
            floor.exchange.positions["BTC"] += 1.5
            floor.exchange.cash -= 135.0
            told = await at.reconciler.reconcile()
            assert "the journals account for 1 BTC, the venue holds 1.5" in str(told.differences)
            assert list(told.halted) == ["BTC/USDT"]

        floor.life(work)


@thread("nautechsystems/nautilus_trader#3775")
def a_fill_that_comes_before_its_order_is_known_is_neither_dropped_nor_a_phantom(path: Path) -> None:
    """An update that came too early was discarded; what was inferred instead was a position that did not exist."""
    with Floor(path, account=HELD) as floor:
        floor.life(look)

        async def early(at: Life) -> None:
            intent = at.intend("tp1", "sell", "5", reduces=True)
            update = {"clientOrderId": intent.client_order_id, "id": "1", "status": "closed", "filled": 5.0}
            assert await at.desk.hear(update) is None
            report = await at.desk.execute(intent)
            assert (report.state, report.quantity) == (OrderState.FILLED, -5.0)

        floor.life(early)
        assert floor.position() == -5
        assert floor.life(wake).equal
        floor.assert_sound()


@thread("QuantConnect/Lean.Brokerages.InteractiveBrokers#249")
def fills_while_the_connection_was_down_are_recovered(path: Path) -> None:
    """Fills of the minutes without a connection never came back."""
    with Floor(path, [FLAT, FLAT, DIP, FLAT]) as floor:

        async def place(at: Life) -> None:
            await look(at)
            for leg in ("0", "1", "2"):
                await at.desk.place(at.intend(leg, "buy", "1", "limit", price="97.50"))

        floor.life(place)
        floor.step(2)
        told = floor.life(wake)
        assert told.halted == {}
        assert floor.position() == 3
        assert [body["status"] for body in floor.read(journal.ORDER)].count("filled") == 3
        floor.assert_sound()


# Reconciliation


@thread("nautechsystems/nautilus_trader#3622")
def a_difference_that_stays_ends_in_a_halt_and_not_in_a_loop(path: Path) -> None:
    """The venue said zero, the cache did not; the same fills were found again every minute, for ever."""
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await look(at)
            await at.trade("0", "buy", "2")
            floor.exchange.positions["BTC"] = 0.0
            requests = floor.boundaries
            told = await at.reconciler.reconcile()
            assert told.cycles == 3
            assert told.halted == {"BTC/USDT": "the journals account for 2 BTC, the venue holds 0"}
            assert floor.boundaries - requests < 60

        floor.life(work)
        assert floor.position() == 2, "nothing was invented to make it fit"
        assert len(floor.read(journal.FILL)) == 1


@thread("nautechsystems/nautilus_trader#3878")
def the_same_state_is_reconciled_to_the_same_journal_every_time(path: Path) -> None:
    """Each run made up other trade ids for the same position."""
    with Floor(path, foreign="note") as floor:
        floor.life(look)
        floor.life(buy)
        floor.exchange.place_market_order("BTCUSDT", 1, Decimal("0.25"))
        floor.life(wake)
        bodies = [floor.read(kind) for kind in (journal.FILL, journal.FOREIGN, journal.RECONCILED)]
        for _ in range(3):
            assert floor.life(wake).equal
            assert [floor.read(kind) for kind in (journal.FILL, journal.FOREIGN, journal.RECONCILED)] == bodies


@thread("nautechsystems/nautilus_trader#3176", "nautechsystems/nautilus_trader#3185")
def restarts_with_a_full_store_make_no_orders(path: Path) -> None:
    """Every restart with a persistent cache added orders."""
    with Floor(path) as floor:
        floor.life(look)
        floor.life(buy)
        for _ in range(4):
            assert floor.life(wake).equal
        assert len(floor.read(journal.INTENT)) == 1
        one_order_of_two(floor)


@thread("nautechsystems/nautilus_trader#3104")
def a_position_that_was_opened_long_ago_is_still_ours(path: Path) -> None:
    """A position older than the look-back was reconciled as something new."""
    with Floor(path, [FLAT] * 60) as floor:
        floor.life(look)
        floor.life(buy)
        floor.step(50)

        async def later(at: Life) -> None:
            assert (await wake(at)).equal
            assert (await at.reconciler.expected())["BTC"] == 2

        floor.life(later)
        one_order_of_two(floor)


@thread("nautechsystems/nautilus_trader#4557")
def a_venue_that_does_not_answer_at_the_start_means_no_trading(path: Path) -> None:
    """Start-up went on after reconciliation had failed."""
    with Floor(path) as floor:
        floor.life(look)
    down = FaultPlan.of(Fault("status", on="account", status=503))
    with Floor(path, faults=down) as floor, pytest.raises(RunnerError, match="does not answer for the balances"):
        floor.life(wake)


@thread("nautechsystems/nautilus_trader#4707")
def half_a_snapshot_changes_nothing(path: Path) -> None:
    """Some of an account's positions were reconciled, the rest was not."""
    symbols = ("BTC/USDT", "ETH/USDT")
    with Floor(path, symbols=symbols) as floor:

        async def work(at: Life) -> None:
            await look(at)
            await at.desk.place_all([at.intend("0", "buy", "1"), at.intend("1", "buy", "1", symbol="ETH/USDT")])
            before = at.log.head()
            whole = at.client.fetch_balance

            async def half(*given: Any) -> Any:
                said = await whole(*given)
                raise TimeoutError(str(said)[:10])

            at.client.fetch_balance = half
            with pytest.raises(RunnerError, match="does not answer for the balances"):
                await at.reconciler.reconcile()
            assert at.log.head() == before
            at.client.fetch_balance = whole
            assert (await at.reconciler.reconcile()).equal

        floor.life(work)


# A second order in spite of everything


@thread("nautechsystems/nautilus_trader#4564")
def one_name_and_two_orders_are_found_out(path: Path) -> None:
    """Something between runner and venue sent the request twice; the runner's own order id stood for two orders."""
    plan = FaultPlan.of(Fault("duplicate", on="place", times=1))
    with Floor(path, faults=plan) as floor:

        async def work(at: Life) -> Reconciliation:
            await look(at)
            await at.trade("0", "buy", "2")
            return await at.reconciler.reconcile()

        told = floor.life(work)
        assert [order.quantity for order in floor.exchange.orders] == [2.0, 2.0]
        assert [one.cause for one in told.differences] == ["overfill"]
        assert "traded more than was ordered" in told.halted["BTC/USDT"]
        assert floor.position() == 4, "what is held is what is booked"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_thread(scenario: Scenario, tmp_path: Path) -> None:
    scenario(tmp_path / "journal")


def test_there_are_enough_of_them() -> None:
    assert len({param.id for param in SCENARIOS}) == len(SCENARIOS) >= 25
