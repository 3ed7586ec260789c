"""The account against the journals: what differs is explained and healed, or the symbol halts. Nothing is guessed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.floor import Floor, Life
from tradelib.bundle.trading.terms import quantise
from tradelib.ledger import backup_journal, journal, restore_journal
from tradelib.live.intents import OrderState
from tradelib.live.reconcile import Reconciliation
from tradelib.venue.faults import Fault, FaultPlan
from tradelib.venue.orders import NewOrder

FLAT = (100.0, 101.0, 99.0, 100.0)
DIP = (98.0, 98.5, 96.0, 97.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j"


async def reconcile(at: Life) -> Reconciliation:
    """What a process does at its start."""
    await at.desk.resume()
    return await at.reconciler.reconcile()


async def nothing(at: Life) -> Reconciliation:
    """The account as it is first seen."""
    return await at.reconciler.reconcile()


def causes(told: Reconciliation) -> list[tuple[str, bool]]:
    """What was found, and whether it was healed."""
    return [(one.cause, one.healed) for one in told.differences]


def by_hand(floor: Floor, side: int, quantity: str, name: str | None = None, **terms: Any) -> None:
    """Somebody trades at the exchange's own page."""
    kind = "limit" if "price" in terms else "market"
    floor.exchange.place(NewOrder("BTCUSDT", side, kind, Decimal(quantity), client_order_id=name, **terms))  # type: ignore[arg-type]


def test_what_agrees_is_not_written_down(path: Path) -> None:
    with Floor(path, account={"holdings": {"BTC": 3.0}}) as floor:

        async def work(at: Life) -> None:
            assert (await reconcile(at)).equal
            await at.trade("0", "buy", "2")
            await at.desk.place(at.intend("1", "buy", "1", "limit", price="80"))
            told = await at.reconciler.reconcile()
            assert (told.equal, told.cycles, told.halted) == (True, 1, {})
            assert (await at.reconciler.expected())["BTC"] == 5

        floor.life(work)
        assert floor.life(reconcile).equal
        assert floor.read(journal.RECONCILED) == []
        assert floor.read(journal.BASELINE)[0]["balances"] == {"BTC": "3", "USDT": "100000"}


def test_a_fill_that_nobody_heard_of_is_booked(path: Path) -> None:
    with Floor(path, [FLAT, FLAT, DIP, FLAT]) as floor:

        async def deaf(at: Life) -> None:
            await at.reconciler.reconcile()
            placed = await at.desk.place(at.intend("0", "buy", "2", "limit", price="97.50"))
            floor.step(2)

            async def refuse(*_: Any, **__: Any) -> Any:
                raise TimeoutError

            at.client.privateGetMyTrades = refuse
            (report,) = await at.desk.refresh()
            assert (report.state, report.quantity, report.complete) == (OrderState.FILLED, 2.0, False)
            assert placed.client_order_id == report.client_order_id

        floor.life(deaf)
        assert floor.read(journal.FILL) == []
        assert floor.life(reconcile).equal, "the next process asked for it before anything else"
        assert floor.position() == 2
        assert floor.life(reconcile).equal
        floor.assert_sound()


@pytest.mark.parametrize(("foreign", "halted"), [("halt", ["BTC/USDT"]), ("note", [])])
def test_a_trade_by_hand_is_noticed_written_down_once_and_halts_unless_told_otherwise(
    path: Path, foreign: str, halted: list[str]
) -> None:
    with Floor(path, foreign=foreign) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            await at.trade("0", "buy", "2")
            by_hand(floor, -1, "0.5")
            told = await at.reconciler.reconcile()
            assert causes(told) == [("foreign_trade", foreign == "note")]
            assert list(told.halted) == halted
            assert (await at.reconciler.reconcile()).equal

        floor.life(work)
        assert floor.life(reconcile).equal
        (foreigner,) = floor.read(journal.FOREIGN)
        assert (foreigner["quantity"], foreigner["price"]) == (-0.5, 99.95)
        assert floor.position() == 2


def test_an_order_placed_by_hand_is_noticed_and_left_alone(path: Path) -> None:
    with Floor(path) as floor:
        floor.life(nothing)
        by_hand(floor, 1, "1", "by-hand", price=Decimal(80))
        told = floor.life(reconcile)
        assert causes(told) == [("foreign_order", True)]
        assert "by-hand" in told.differences[0].detail
        assert len(floor.exchange.open_orders()) == 1


@pytest.mark.parametrize("resting", [True, False])
def test_an_account_that_knows_more_than_a_restored_journal_halts(path: Path, tmp_path: Path, resting: bool) -> None:
    with Floor(path) as floor:
        floor.life(nothing)
        backup_journal(path, tmp_path / "backup")

        async def lost(at: Life) -> None:
            if resting:
                await at.desk.place(at.intend("0", "buy", "1", "limit", price="80"))
            else:
                await at.trade("0", "buy", "1")

        floor.life(lost)
        path.unlink()
        restore_journal(tmp_path / "backup", path)
        told = floor.life(reconcile)
        assert causes(told)[0] == ("unknown_order", False)
        assert "in no journal" in told.halted["BTC/USDT"] or "account for" in told.halted["BTC/USDT"]
        assert floor.read(journal.FOREIGN) == []


def test_an_order_that_the_journal_calls_done_and_the_venue_open_halts(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            intent = at.intend("0", "buy", "1", "limit", price="80")
            report = await at.desk.recover(intent, may_send=False)
            assert report.state is OrderState.EXPIRED
            by_hand(floor, 1, "1", intent.client_order_id, price=Decimal(80))
            assert causes(await at.reconciler.reconcile()) == [("unknown_order", False)]

        floor.life(work)


def test_not_found_is_never_flat(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> Reconciliation:
            await at.reconciler.reconcile()
            await at.desk.place(at.intend("0", "buy", "1", "limit", price="80"))
            floor.exchange.cancel_all()
            floor.exchange._newest_of.clear()  # the venue has lost its memory
            told = await at.reconciler.reconcile()
            assert causes(told) == [("lost_order", False)]
            assert "unknown after 6 questions (last: the venue does not know this order)" in told.halted["BTC/USDT"]
            return told

        floor.life(work)
        assert [body["status"] for body in floor.read(journal.ORDER)] == ["open"], "nothing is invented"


def test_an_order_that_the_venue_ended_is_asked_for(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            await at.desk.place(at.intend("0", "buy", "1", "limit", price="80"))
            floor.exchange.cancel_all()
            assert causes(await at.reconciler.reconcile()) == [("ended_order", True)]
            assert at.desk.working() == []
            assert (await at.reconciler.reconcile()).equal

        floor.life(work)


@pytest.mark.parametrize(("asset", "amount"), [("USDT", Decimal("-250.5")), ("BTC", Decimal(1))])
def test_money_that_nothing_explains_halts_after_three_cycles_until_somebody_accounts_for_it(
    path: Path, asset: str, amount: Decimal
) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            await at.trade("0", "buy", "2")
            if asset == "USDT":
                floor.exchange.cash += float(amount)
            else:
                floor.exchange.positions[asset] += float(amount)
            told = await at.reconciler.reconcile()
            assert (told.cycles, causes(told)) == (3, [("balance", False)])
            assert f"account for {'2' if asset == 'BTC' else '99'}" in told.halted["BTC/USDT"]
            assert not (await at.reconciler.reconcile()).equal, "it does not heal by itself"
            at.reconciler.adjust(asset, amount, by="ops", reason="transfer")
            assert (await at.reconciler.reconcile()).equal

        floor.life(work)
        assert floor.life(reconcile).equal
        assert floor.read(journal.ADJUSTMENT)[0]["by"] == "ops"


def test_a_balance_that_the_venue_leaves_out_is_not_zero(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            await at.trade("0", "buy", "2")
            whole = at.client.fetch_balance

            async def partial(*given: Any) -> Any:
                said = await whole(*given)
                return {name: value for name, value in said.items() if name != "BTC"}

            at.client.fetch_balance = partial
            told = await at.reconciler.reconcile()
            assert "the venue does not name it" in told.halted["BTC/USDT"]

        floor.life(work)


def test_a_fee_in_the_coin_that_was_bought_is_accounted_for_and_what_is_held_can_be_sold(path: Path) -> None:
    with Floor(path, terms={"fee_in": "received"}) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            bought = await at.trade("0", "buy", "2")
            assert bought.fee == pytest.approx(0.002 * 100.05)
            held = (await at.reconciler.expected())["BTC"]
            assert held == Decimal("1.998")
            gross = await at.trade("1", "sell", "2")
            assert gross.state is OrderState.REJECTED
            net = quantise(held, Decimal("0.0001"))
            sold = await at.trade("2", "sell", str(net))
            assert (sold.state, sold.quantity) == (OrderState.FILLED, -1.998)
            assert (await at.reconciler.reconcile()).equal

        floor.life(work)


def test_a_venue_that_lies_for_a_moment_is_believed_when_it_stops(path: Path) -> None:
    with Floor(path) as floor:

        async def work(at: Life) -> Reconciliation:
            await at.reconciler.reconcile()
            whole, told = at.client.fetch_balance, 0

            async def late(*given: Any) -> Any:
                nonlocal told
                told += 1
                said = await whole(*given)
                return {**said, "USDT": {"total": 1.0}} if told < 3 else said

            at.client.fetch_balance = late
            return await at.reconciler.reconcile()

        told = floor.life(work)
        assert (told.equal, told.cycles) == (True, 2)


def test_every_fault_of_the_wire_is_lived_through(path: Path) -> None:
    kinds = ("drop_before", "drop_after", "truncate", "empty", "status", "cut")
    faults = [Fault(kind, on=role, probability=0.03) for kind in kinds for role in ("query", "account", "trades")]
    with Floor(path, faults=FaultPlan(tuple(faults), seed=3)) as floor:

        async def work(at: Life) -> None:
            await at.reconciler.reconcile()
            for number in range(5):
                await at.trade(str(number), "buy", "1")
                told = await at.reconciler.reconcile()
                assert told.halted == {}

        floor.life(work)
        assert floor.position() == 5
        floor.assert_sound()


def test_an_answer_that_a_trade_has_overtaken_is_asked_for_again(path: Path) -> None:
    """Given balances that are older than the journal, again and again: nobody is halted for what the runner did."""
    with Floor(path) as floor:

        async def work(at: Life) -> Reconciliation:
            await at.reconciler.reconcile()
            ask, trades = at.client.fetch_balance, iter(range(6))

            async def overtaken(*given: Any) -> Any:
                said = await ask(*given)
                for number in trades:
                    await at.trade(str(number), "buy", "1")
                    break
                return said

            at.client.fetch_balance = overtaken
            return await at.reconciler.reconcile()

        told = floor.life(work)
        assert told.halted == {}
        assert floor.position() == 6
        floor.assert_sound()


def test_amounts_never_round_up() -> None:
    assert quantise(Decimal("1.99999"), Decimal("0.001")) == Decimal("1.999")
