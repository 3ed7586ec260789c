"""Schedules as closed forms, and what holds for all of them whatever the venue does: never more than the parent."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tradelib.bundle.trading.instructions import Instruction
from tradelib.errors import ParameterError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.execution import (
    POV,
    TWAP,
    VWAP,
    Cancel,
    Child,
    Iceberg,
    MarketableLimit,
    MarketOrder,
    MarketRules,
    MarketView,
    Place,
    PostOnly,
    Schedule,
    Standing,
    Ticket,
    instruction_body,
    intent_of,
    schedule_from_config,
    tickets,
    volume_profile,
)
from tradelib.live.execution.children import Action, Status

D = Decimal
START = 1_600_000_000_000
RULES = MarketRules(lot=D("0.01"), tick=D("0.1"))
BUY = Instruction("t1", "market", "buy", 10.0)
SCHEDULES: list[Schedule] = [
    MarketOrder(attempts=3),
    MarketableLimit(duration_seconds=30, at_end="cross"),
    TWAP(duration_seconds=60, slices=7),
    VWAP(duration_seconds=60, profile=(3.0, 1.0, 0.0, 5.0)),
    POV(duration_seconds=60, rate=0.1),
    Iceberg(duration_seconds=60, display=0.15),
    PostOnly(duration_seconds=60),
]


def names(items: list[Schedule]) -> list[str]:
    return [type(item).__name__ for item in items]


def view(seconds: float = 0.0, bid: str = "99.9", ask: str = "100.1", traded: str = "0") -> MarketView:
    return MarketView(START + round(seconds * 1000), (D(bid) + D(ask)) / 2, D(bid), D(ask), D(traded))


def ticket(schedule: Schedule, parent: Instruction = BUY, rules: MarketRules = RULES) -> Ticket:
    return Ticket.open(parent, schedule, rules, view())


def placed(actions: tuple[Action, ...]) -> list[tuple[str, str, Decimal, Decimal | None]]:
    """Leg, kind, quantity and price of the children of `actions`, all of which place."""
    assert all(isinstance(action, Place) for action in actions)
    children = [action.child for action in actions if isinstance(action, Place)]
    return [(child.leg, child.kind, child.quantity, child.price) for child in children]


def fill(work: Ticket, leg: str, quantity: Decimal | None = None) -> None:
    standing = next(item for item in work.work.standings if item.child.leg == leg)
    amount = standing.child.quantity - standing.filled if quantity is None else quantity
    work.on_fill(leg, f"{leg}/{standing.filled}", amount)


def test_a_market_order_is_the_whole_parent_in_whole_lots_at_once_and_nothing_after_it() -> None:
    work = ticket(MarketOrder(), replace(BUY, quantity=10.019))

    assert placed(work.actions(view())) == [("t1/1", "market", D("10.01"), None)]  # 10.019 down to a lot of 0.01
    assert work.actions(view(1)) == ()
    assert not work.done(view(1))
    fill(work, "t1/1", D("4"))
    work.on_status("t1/1", "cancelled")
    assert work.done(view(2))
    assert work.unfilled == D("6.01")


def test_a_time_weighted_order_is_n_equal_slices_of_which_the_first_is_at_once() -> None:
    work, seen = ticket(TWAP(duration_seconds=60, slices=6), replace(BUY, quantity=6.0)), []

    for second in range(60):
        for leg, _, quantity, _ in placed(work.actions(view(second))):
            seen.append((second, quantity))
            fill(work, leg)

    assert seen == [(second, D(1)) for second in (0, 10, 20, 30, 40, 50)]  # 6 units, 60 s, 6 slices
    assert work.done(view(60))
    assert work.wake_ms(view(60)) is None


def test_slices_that_are_no_whole_lots_still_sum_to_the_parent() -> None:
    work, sizes = ticket(TWAP(duration_seconds=30, slices=3), replace(BUY, quantity=1.0)), []

    for second in range(30):
        for leg, _, quantity, _ in placed(work.actions(view(second))):
            sizes.append(quantity)
            fill(work, leg)

    assert sizes == [D("0.33"), D("0.33"), D("0.34")]


def test_a_ticket_says_when_its_next_slice_is_due() -> None:
    work = ticket(TWAP(duration_seconds=60, slices=6))
    work.actions(view())
    fill(work, "t1/1")

    assert work.wake_ms(view()) == START + 10_000
    assert work.wake_ms(view(50)) == START + 60_000  # the last slice has begun: only the end is left


def test_a_volume_weighted_order_follows_the_weights_of_its_profile() -> None:
    work, seen = ticket(VWAP(duration_seconds=40, profile=(1.0, 0.0, 3.0, 6.0))), []

    for second in range(41):
        for leg, _, quantity, _ in placed(work.actions(view(second))):
            seen.append((second, quantity))
            fill(work, leg)

    assert seen == [(0, D(1)), (20, D(3)), (30, D(6))]  # 10 units, weights 1 : 0 : 3 : 6


def test_the_usual_volume_of_an_hour_is_its_mean_over_the_days() -> None:
    hour, day = 3_600_000, 86_400_000
    volumes = {0: (10.0, 30.0), 1: (4.0, 8.0), 2: (0.0, 2.0), 3: (99.0, 99.0)}
    bars = [(START + d * day + h * hour, 1, 1, 1, 1, volumes[h][d]) for d in (0, 1) for h in volumes]

    assert volume_profile(bars, START, 3 * 3600, 3) == [20.0, 6.0, 1.0]
    with pytest.raises(ParameterError, match="use finer bars"):
        volume_profile(bars, START, 3600, 2)
    with pytest.raises(ParameterError, match="no bar with volume"):
        volume_profile(bars[2:3], START, 3600, 1)


def test_a_percentage_of_volume_is_never_ahead_of_its_share_of_what_was_traded() -> None:
    work, traded = ticket(POV(duration_seconds=1000, rate=0.2)), D(0)
    source = random.Random(5)

    for second in range(200):
        traded += D(source.randrange(100)) / 100
        for leg, *_ in placed(work.actions(view(second, traded=str(traded)))):
            fill(work, leg)
        behind = D("0.2") * traded - work.work.filled
        assert behind >= 0
        assert behind < D("0.01") or work.work.filled == 10

    assert work.done(view(200, traded=str(traded)))


def test_an_iceberg_shows_one_part_at_a_time_at_one_price() -> None:
    work, seen = ticket(Iceberg(duration_seconds=600, display=0.3)), []

    for second in range(8):
        for leg, kind, quantity, price in placed(work.actions(view(second, bid="99.5"))):
            seen.append((kind, quantity, price))
            assert len(work.work.alive) == 1
            fill(work, leg)

    assert seen == [("limit", q, D("99.9")) for q in (D(3), D(3), D(3), D(1))]  # the bid at arrival


def test_a_limit_parent_can_be_an_iceberg_at_its_own_price_and_has_no_end() -> None:
    parent = Instruction("t1", "limit", "sell", 1.0, price=123.44, reason="order")
    work = ticket(Iceberg(display=0.5, duration_seconds=10), parent)

    assert placed(work.actions(view())) == [("t1/1", "limit", D("0.5"), D("123.5"))]  # a sell never cheaper
    assert work.actions(view(10**6)) == ()
    assert not work.done(view(10**6))


def test_a_marketable_limit_never_pays_more_than_its_allowance_over_the_price_at_arrival() -> None:
    work = ticket(MarketableLimit(duration_seconds=10, allowance_bps=20, retry_seconds=1))
    (first,) = work.actions(view())
    assert isinstance(first, Place)
    # the ask of 100.1 and 20 basis points of it: 100.3002, down to a tick of 0.1
    assert (first.child.price, first.child.time_in_force) == (D("100.3"), "IOC")

    fill(work, "t1/1", D(4))
    work.on_status("t1/1", "cancelled")
    assert work.actions(view(0.5)) == ()  # the pause
    assert work.actions(view(2, bid="100.3", ask="100.5")) == ()  # the market is beyond the bound
    assert placed(work.actions(view(3))) == [("t1/2", "limit", D(6), D("100.3"))]
    work.on_status("t1/2", "cancelled")
    assert work.done(view(10))
    assert work.unfilled == 6


def test_a_maker_follows_the_bid_only_after_the_old_order_is_proved_gone() -> None:
    work = ticket(PostOnly(duration_seconds=100, chase_ticks=2, retry_seconds=5))
    (first,) = work.actions(view())
    assert isinstance(first, Place)
    assert (first.child.price, first.child.post_only) == (D("99.9"), True)

    assert work.actions(view(6, bid="100.0", ask="100.2")) == ()  # one tick away: not worth the place in the queue
    assert work.actions(view(4, bid="100.1", ask="100.3")) == ()  # two ticks, but too early
    assert work.actions(view(6, bid="100.1", ask="100.3")) == (Cancel("t1/1"),)
    fill(work, "t1/1", D(3))  # while the cancel was on its way
    assert work.actions(view(7, bid="100.1", ask="100.3")) == ()
    work.on_status("t1/1", "cancelled")
    assert placed(work.actions(view(8, bid="100.1", ask="100.3"))) == [("t1/2", "limit", D(7), D("100.1"))]


def test_a_maker_never_chases_beyond_its_bound_and_crosses_at_the_end() -> None:
    work = ticket(PostOnly(duration_seconds=100, limit_bps=20, retry_seconds=1))
    work.actions(view())
    assert work.actions(view(5, bid="105.0", ask="105.2")) == (Cancel("t1/1"),)
    work.on_status("t1/1", "cancelled")
    # the bid of 99.9 at arrival and 20 basis points: 100.0998, down to a tick
    assert placed(work.actions(view(6, bid="105.0", ask="105.2"))) == [("t1/2", "limit", D(10), D("100.0"))]
    assert work.actions(view(9, bid="106.0", ask="106.2")) == ()

    assert work.actions(view(100)) == (Cancel("t1/2"),)
    assert work.actions(view(101)) == ()
    work.on_status("t1/2", "cancelled")
    assert placed(work.actions(view(102))) == [("t1/3", "market", D(10), None)]


def test_a_maker_that_would_take_is_placed_a_tick_further_back_each_time_and_gives_up() -> None:
    work, prices = ticket(PostOnly(duration_seconds=1000, rejections=3)), []

    for second in range(10):
        for leg, _, _, price in placed(work.actions(view(2 * second))):
            prices.append(price)
            work.on_status(leg, "rejected")

    assert prices == [D("99.9"), D("99.8"), D("99.7")]
    assert work.done(view(20))
    assert work.unfilled == 10


def test_a_leftover_that_the_venue_would_not_take_goes_with_the_child_before_it() -> None:
    rules = MarketRules(D("0.01"), D("0.1"), minimum_notional=D(300))
    work, sizes = ticket(TWAP(duration_seconds=40, slices=4), rules=rules), []

    for second in range(41):
        for leg, _, quantity, _ in placed(work.actions(view(second))):
            sizes.append((second, quantity))
            fill(work, leg)

    # slices of 2.5 units are worth 250: each waits for the next; after 5 and 5 nothing is left
    assert sizes == [(10, D(5)), (30, D(5))]


def test_the_last_piece_is_never_one_that_the_venue_would_not_take() -> None:
    rules = MarketRules(D("0.01"), D("0.1"), minimum_notional=D(300))
    work = ticket(VWAP(duration_seconds=40, profile=(5.0, 2.0)), replace(BUY, quantity=7.0), rules)

    # 5 of 7 would leave 2, which are worth 200
    assert placed(work.actions(view())) == [("t1/1", "market", D(7), None)]


def test_what_may_still_fill_counts_as_spoken_for() -> None:
    work = ticket(PostOnly())
    work.actions(view())
    fill(work, "t1/1", D(3))
    assert work.work.rest == 0
    work.on_status("t1/1", "pending_cancel")
    assert work.work.rest == 0
    work.on_status("t1/1", "canceled")
    assert work.work.rest == 7


def test_what_is_too_small_for_the_venue_is_never_sent_and_the_ticket_says_so() -> None:
    rules = replace(RULES, minimum_notional=D(5))
    work = ticket(MarketOrder(), replace(BUY, quantity=0.049), rules)  # 0.04 units are worth 4

    assert work.actions(view()) == ()
    assert work.done(view())
    assert work.unfilled == D("0.04")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names(SCHEDULES))
@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        (Instruction("s", "stop", "sell", 2.0, stop_price=90.04, reason="stop_loss"), ("stop", None, D("90.1"))),
        (Instruction("s", "stop_limit", "sell", 2.0, 89.0, 90.0), ("stop_limit", D("89.0"), D("90.0"))),
        (Instruction("s", "market", "sell", 2.0, reason="daily_loss", reduces=True), ("market", None, None)),
        (Instruction("s", "limit", "sell", 2.0, 110.0, group="g", reason="take_profit"), ("limit", D("110.0"), None)),
        (Instruction("s", "limit", "sell", 2.0, 110.0, group="g", reason="order"), ("limit", D("110.0"), None)),
    ],
    ids=["stop", "stop limit", "limit of risk", "target of a pair", "one of a group"],
)
def test_what_protects_a_position_is_never_sliced(schedule: Schedule, parent: Instruction, expected: Any) -> None:
    work = ticket(schedule, parent)
    (only,) = work.actions(view())

    assert isinstance(only, Place)
    child = only.child
    assert (child.kind, child.price, child.stop_price) == expected
    assert (child.quantity, child.group, child.reduces) == (D(2), parent.group, parent.reduces)
    work.on_status(child.leg, "cancelled")
    assert work.actions(view(1)) == ()
    assert work.done(view(1))


class Venue:
    """Fills, refuses and cancels children at random, says some things twice, and confirms late."""

    def __init__(self, work: Ticket, seed: int) -> None:
        self.work, self.random, self.trades = work, random.Random(seed), 0

    def act(self) -> None:
        for standing in self.work.work.alive:
            leg, left = standing.child.leg, standing.child.quantity - standing.filled
            chance = self.random.random()
            if chance < 0.4:
                self._fill(leg, self.random.choice([left, RULES.lots(left / 2) or left]))
            elif chance < 0.55:
                self.work.on_status(leg, self.random.choice(["cancelled", "rejected"]))
            elif standing.status is Status.CANCELLING and chance < 0.7:
                self.work.on_status(leg, "working")  # the cancel was refused

    def _fill(self, leg: str, quantity: Decimal) -> None:
        self.trades += 1
        assert self.work.on_fill(leg, str(self.trades), quantity)
        assert not self.work.on_fill(leg, str(self.trades), quantity)


def scenes(source: random.Random) -> list[MarketView]:
    bid, traded, found = D("99.9"), D(0), []
    for second in range(90):
        bid, traded = bid + source.choice([D("-0.1"), D(0), D("0.1")]), traded + source.randrange(5)
        found.append(view(second, str(bid), str(bid + D("0.2")), str(traded)))
    return found


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names(SCHEDULES))
@pytest.mark.parametrize("seed", range(15))
def test_whatever_the_venue_does_children_never_add_up_to_more_than_the_parent(schedule: Schedule, seed: int) -> None:
    source = random.Random(seed)
    parent = replace(BUY, quantity=source.randrange(1, 2000) / 100)
    rules = replace(RULES, minimum_notional=D(source.choice([0, 10, 100])))
    work = Ticket.open(parent, schedule, rules, view())
    venue = Venue(work, seed)

    for scene in scenes(source):
        twin = Ticket.restore(work.body(), work.work.standings)  # a process that was restarted just now
        actions = work.actions(scene)
        assert actions == twin.actions(scene)
        assert work.wake_ms(scene) == twin.wake_ms(scene)
        assert work.actions(scene) == ()  # asked twice, it does nothing twice
        committed = sum(item.committed for item in work.work.standings)
        assert committed <= work.work.total <= D(str(parent.quantity))
        assert all(item.child.quantity % rules.lot == 0 for item in work.work.standings)
        assert isinstance(schedule, MarketOrder) or len(work.work.alive) <= 1
        venue.act()

    legs = [item.child.leg for item in work.work.standings]
    assert legs == [f"t1/{number}" for number in range(1, len(legs) + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names(SCHEDULES))
def test_a_venue_that_fills_everything_ends_every_schedule_with_the_whole_parent(schedule: Schedule) -> None:
    work = ticket(schedule)

    for second in range(0, 130):
        for action in work.actions(view(second, traded=str(second))):
            if isinstance(action, Place):
                fill(work, action.child.leg)

    assert work.done(view(130))
    assert work.unfilled == 0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names(SCHEDULES))
def test_a_venue_that_refuses_everything_is_not_asked_for_ever(schedule: Schedule) -> None:
    work = ticket(schedule)

    for second in range(0, 400):
        for action in work.actions(view(second, traded=str(second))):
            assert isinstance(action, Place)
            work.on_status(action.child.leg, "rejected")

    assert work.done(view(400))
    assert len(work.work.standings) <= schedule.rejections


def test_market_orders_at_the_end_that_fill_nothing_are_not_repeated_for_ever() -> None:
    work = ticket(POV(duration_seconds=10, rate=0.1, rejections=4))

    for second in range(100):
        for action in work.actions(view(second)):
            assert isinstance(action, Place)
            work.on_status(action.child.leg, "cancelled")

    assert len(work.work.standings) == 4
    assert work.done(view(100))


def test_a_stopped_ticket_takes_back_what_rests_and_places_nothing_more() -> None:
    work = ticket(Iceberg())
    work.actions(view())
    work.stop("a newer decision")

    assert work.actions(view(1)) == (Cancel("t1/1"),)
    assert not work.done(view(1))
    work.on_status("t1/1", "cancelled")
    assert work.actions(view(90)) == ()
    assert work.done(view(90))
    assert work.stopped == "a newer decision"


def test_a_venue_that_fills_more_than_was_asked_for_is_not_believed() -> None:
    work = ticket(MarketOrder())
    work.actions(view())

    with pytest.raises(RunnerError, match=r"filled 10\.01 of t1/1, which asks for 10\.0 only"):
        work.on_fill("t1/1", "a", D("10.01"))
    with pytest.raises(RunnerError, match=r"has no child 't1/9'"):
        work.on_fill("t1/9", "a", D(1))


def test_a_child_that_has_ended_cannot_come_back() -> None:
    work = ticket(MarketOrder())
    work.actions(view())
    fill(work, "t1/1")
    work.on_status("t1/1", "working")

    assert work.work.standings[0].status is Status.FILLED


def test_a_late_fill_of_a_cancelled_child_is_booked() -> None:
    work = ticket(PostOnly())
    work.actions(view())
    work.on_status("t1/1", "cancelled")
    fill(work, "t1/1", D(2))

    assert (work.work.filled, work.work.standings[0].status) == (D(2), Status.CANCELLED)


@pytest.mark.parametrize(
    ("status", "filled", "left"),
    [("filled", None, D(0)), ("expired", D(6), D(4)), ("canceled", D(6), D(4)), ("rejected", None, D(10))],
)
def test_a_fill_is_not_bought_again_because_its_trades_are_told_later(
    status: str, filled: Decimal | None, left: Decimal
) -> None:
    work = ticket(MarketOrder(attempts=9))
    work.actions(view())
    work.on_status("t1/1", "partially_filled", D(2))
    work.on_status("t1/1", status, filled)

    assert sum((q for _, _, q, _ in placed(work.actions(view(1)))), D(0)) == (left if status != "rejected" else D(8))
    if left == 4:
        assert work.on_fill("t1/1", "a", D(6))
        assert work.work.filled == 6


@pytest.mark.parametrize("word", ["intended", "sent", "unknown", "open", "partially_filled"])
def test_an_order_whose_outcome_is_not_known_counts_as_working(word: str) -> None:
    work = ticket(MarketOrder(attempts=9))
    work.actions(view())
    work.on_status("t1/1", word)

    assert work.actions(view(1000)) == ()
    assert not work.done(view(1000))


class Diary:
    """Writes a ticket's life into a journal as the runner does: before it is sent, and when it is heard."""

    def __init__(self, path: Path, work: Ticket, parent: Instruction) -> None:
        self.log, self.work, self.trades = open_journal(path), work, 0
        self.parent, self.names = parent, dict[str, str]()
        self.log.append(journal.INSTRUCTION, instruction_body(parent, "BTC/USDT", work))

    def act(self, scene: MarketView) -> tuple[Action, ...]:
        actions = self.work.actions(scene)
        for action in actions:
            if isinstance(action, Place):
                self._sent(action.child, scene)
        return actions

    def _sent(self, child: Child, scene: MarketView) -> None:
        intent = intent_of(child, self.parent, "BTC/USDT", "d" * 64)
        assert (intent.symbol, intent.side, intent.quantity, intent.leg) == (
            "BTC/USDT",
            child.side,
            child.quantity,
            child.leg,
        )
        self.names[child.leg] = intent.client_order_id
        journal.record(self.log, journal.INTENT, **intent.body())
        at = pd.Timestamp(scene.time_ms, unit="ms", tz="UTC").isoformat()
        prices = {"bid": float(scene.near("buy")), "ask": float(scene.far("buy")), "price": float(scene.last)}
        journal.record(self.log, journal.ARRIVAL, client_order_id=intent.client_order_id, at=at, **prices)

    def hear(self, source: random.Random) -> None:
        for standing in self.work.work.alive:
            child, chance = standing.child, source.random()
            if chance < 0.4:
                self._fill(
                    child, RULES.lots((child.quantity - standing.filled) / 2) or child.quantity - standing.filled
                )
            elif chance < 0.6:
                self._ends(child, source.choice(["canceled", "rejected", "expired"]))

    def _fill(self, child: Child, quantity: Decimal) -> None:
        self.trades += 1
        self.work.on_fill(child.leg, str(self.trades), quantity)
        body = {"client_order_id": self.names[child.leg], "trade_id": str(self.trades), "venue_order_id": "1"}
        more = {"symbol": "BTC/USDT", "price": 100.0, "fee": 0.0, "fee_paid": {}, "filled_at": "t", "maker": None}
        journal.record(self.log, journal.FILL, **body, **more, quantity=-float(quantity))

    def _ends(self, child: Child, status: str) -> None:
        self.work.on_status(child.leg, status)
        filled = next(item.filled for item in self.work.work.standings if item.child == child)
        body = {"client_order_id": self.names[child.leg], "status": status, "quantity": -float(filled)}
        journal.record(self.log, journal.ORDER, **body, price=None, fee=None, reason="", venue_order_id="1")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names(SCHEDULES))
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_goes_on_from_the_journal_alone(tmp_path: Path, schedule: Schedule, seed: int) -> None:
    source = random.Random(seed)
    parent = replace(BUY, side="sell", time="t")
    diary = Diary(tmp_path / "j", Ticket.open(parent, schedule, RULES, view()), parent)

    for scene in scenes(source)[:70:3]:
        (found,) = tickets(diary.log).items()
        assert found[0] == ("t", "BTC/USDT", "t1")
        assert found[1].work.filled == diary.work.work.filled
        withdrawn = {item.child.leg for item in diary.work.work.alive if item.status is Status.CANCELLING}
        actions = found[1].actions(scene)
        # nobody knows whether a cancel was sent before the process died: it is asked for again where it is still wanted
        assert tuple(item for item in actions if getattr(item, "leg", "") not in withdrawn) == diary.act(scene)
        diary.hear(source)

    diary.log.close()


def test_a_fill_that_only_the_order_entry_tells_is_not_bought_again_after_a_restart(tmp_path: Path) -> None:
    parent = replace(BUY, time="t")
    work = Ticket.open(parent, MarketOrder(attempts=2), RULES, view())
    diary = Diary(tmp_path / "j", work, parent)
    diary.act(view())
    body = {"client_order_id": diary.names["t1/1"], "status": "expired", "quantity": 4.0, "price": None, "fee": None}
    journal.record(diary.log, journal.ORDER, **body, reason="", venue_order_id="1")

    (found,) = tickets(diary.log).values()

    assert placed(found.actions(view(1))) == [("t1/2", "market", D(6), None)]
    diary.log.close()


def test_a_restored_ticket_with_a_hole_in_its_children_is_refused() -> None:
    work = ticket(TWAP())
    for second in (0, 6):
        for action in work.actions(view(second)):
            assert isinstance(action, Place)
            fill(work, action.child.leg)
    standings: list[Standing] = list(work.work.standings)

    with pytest.raises(RunnerError, match=r"child 1 of 't1' should not be 't1/2'"):
        Ticket.restore(work.body(), standings[1:])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names(SCHEDULES))
def test_a_schedule_is_what_its_configuration_says(schedule: Schedule) -> None:
    assert schedule_from_config(schedule.to_config()) == schedule


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "TWOP"}, "'TWOP' is unknown; did you mean 'TWAP'"),
        ({"name": "TWAP", "slices": 3}, "has no field 'slices'"),
        ({"name": "TWAP", "params": {"slice": 3}}, "TWAP has no parameter 'slice'; did you mean 'slices'"),
        ({"name": "POV", "params": {"rate": 1.5}}, "POV: rate = 1.5"),
        ({"name": "VWAP", "params": {"profile": [0.0]}}, "one must be positive"),
    ],
)
def test_a_schedule_that_does_not_exist_is_refused_in_words(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        schedule_from_config(config)


def test_without_a_configuration_orders_go_out_at_once() -> None:
    assert schedule_from_config({}) == MarketOrder()
