"""The mirror: research's own machine, stepped with the venue's fills.

Where the venue fills what the engine would have filled, everything is the backtest's to the last bit; where it does
not, the account is the venue's. Markets and policies are seeded; `tests.live.mirrors` draws them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import tradelib.bundle.trading.mirror as mirror_module
from tests.live import mirrors
from tests.live.mirrors import (
    CASH,
    GOLDEN,
    LIMITS,
    Trace,
    Witness,
    World,
    bar_of,
    bundle,
    compare,
    drawn,
    filled,
    market,
    mirrored,
    rule,
    standing_for,
    world,
)
from tradelib._jit import interpreted
from tradelib.backtest import book
from tradelib.backtest.execution import new_order, take_fill
from tradelib.backtest.machine import make_tape
from tradelib.backtest.stepping import conduct_of, roomy
from tradelib.bundle.execution import NEEDS, PROVIDES, needs_of
from tradelib.bundle.trading import standing
from tradelib.bundle.trading.instructions import Ending, Fill, Instruction, Plan
from tradelib.bundle.trading.mirror import CARRIES, Mirror
from tradelib.bundle.trading.mirror_account import MirrorAccount, new_account
from tradelib.bundle.trading.mirror_market import RunningAtr
from tradelib.errors import RunnerError
from tradelib.indicators.volatility import atr
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits

EXITS: dict[str, tuple[Exits, str]] = {
    "stop": (Exits(stop_loss=0.01), "stop_loss"),
    "stop_in_atrs": (Exits(stop_loss={"value": 1.5, "unit": "atr"}, atr_window=5), "stop_loss"),
    "target": (Exits(take_profit=0.015), "take_profit"),
    "ladder": (Exits(take_profit=((0.01, 0.5), (0.02, 0.3), (0.03, 0.2)), stop_loss=0.02), "take_profit"),
    "trailing": (Exits(trailing_stop=0.015), "trailing_stop"),
    "trailing_from": (Exits(trailing_stop=0.01, trailing_activation=0.01), "trailing_stop"),
    "trailing_and_stop": (Exits(trailing_stop=0.02, stop_loss=0.015), "trailing_stop"),
    "break_even": (Exits(stop_loss=0.03, break_even=0.01, break_even_offset=0.002), "break_even"),
    "time": (Exits(time_exit=3, reentry="any_time"), "time_exit"),
}
SCALINGS = {
    "with": ScaleIn(orders=3, step=0.005, factor=0.7, direction="with"),
    "against": ScaleIn(orders=3, step=0.005, factor=0.7, direction="against"),
}


def reasons(told: World) -> Counter[str]:
    """How many fills of the backtest each reason has."""
    return Counter(book.REASONS[int(code)] for code in told.result.simulation.fills[:, book.FILL_REASON])


# Equal to research ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(4))
def test_every_policy_gives_the_backtests_orders_fills_and_account(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        told = drawn(seed)
        compare(told, mirrored(told))


@pytest.mark.parametrize("name", EXITS)
def test_each_exit_stands_at_the_venue_before_it_acts(name: str) -> None:
    policy, reason = EXITS[name]
    for seed in range(3):
        told = world(rule(exits=policy), market(seed, 200))
        assert reasons(told)[reason] > 2
        compare(told, mirrored(told))


@pytest.mark.parametrize("insufficient_cash", ["reject", "reduce"])
@pytest.mark.parametrize("name", SCALINGS)
def test_further_entries_stand_as_far_as_cash_and_limits_go(name: str, insufficient_cash: str) -> None:
    parted = 0
    for seed in range(4):
        policies = {"exits": Exits(stop_loss=0.03, take_profit=0.02), "scale_in": SCALINGS[name], "fraction": 0.4}
        told = world(rule(**policies), market(seed, 200), insufficient_cash=insufficient_cash)
        assert reasons(told)["scale_in"] > 2
        trace = mirrored(told)
        parted += trace.gap is not None
        compare(told, trace)
    assert parted < 4


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_acts_on_the_same_bar(name: str) -> None:
    acted = 0
    for seed in range(3):
        policies = {"exits": Exits(stop_loss=0.015, reentry="any_time"), "limits": Limits(**LIMITS[name])}
        fraction = 0.95 if name in ("exposure", "net", "share", "cluster", "tail", "heat", "volatility") else 0.6
        told = world(rule(**policies, fraction=fraction), market(seed, 200))
        trace = mirrored(told)
        compare(told, trace)
        acted += sum(len(plan.halts) for plan in trace.plans)
        acted += sum(found.cause.startswith("limit: ") for plan in trace.plans for found in plan.refusals)
    assert (acted > 0) == (name != "positions")  # one symbol never holds two


def test_the_halts_of_a_plan_are_those_of_the_backtests_cash_book() -> None:
    limits = Limits(daily_loss=0.01, maximum_drawdown=0.03, drawdown_pause=5)
    told = world(rule(limits=limits, fraction=0.95), market(1, 200))
    halts = [(plan.time, halt) for plan in mirrored(told).plans for halt in plan.halts]
    rows = told.result.cash_book[["time", "kind"]].itertuples(index=False)
    assert halts == [(time.isoformat(), kind) for time, kind in rows]
    assert {kind for _, kind in halts} == {"daily_loss_halt", "drawdown_halt"}


@pytest.mark.parametrize("seed", [5, 7, 12, 40, 42, 52])
def test_the_venues_fills_alone_give_the_same_account(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_agree", lambda *_: False)
    told = drawn(seed)
    trace = mirrored(told)
    count = len(trace.plans) - 1
    assert count == len(told.bars) - GOLDEN
    assert [plan.equity for plan in trace.plans[1:]] == told.result.equity.tolist()


def test_the_rule_is_asked_where_no_decision_is_given() -> None:
    told = world(rule(exits=Exits(stop_loss=0.02)), market(4, 90))
    asked, given = Mirror(told.bundle, CASH), Mirror(told.bundle, CASH)
    for t in range(GOLDEN - 1, 90):
        decision = float(told.result.signals[t, 0]), float(told.result.targets[t, 0])
        history = told.bars.iloc[: t + 1]
        assert asked.close(bar_of(told.bars, t), history) == given.close(bar_of(told.bars, t), None, decision=decision)


def test_an_average_true_range_goes_on_bar_by_bar_as_research_computes_it() -> None:
    bars = market(5, 900)
    for window in (1, 2, 7, 14):
        running = RunningAtr(window)
        rows = zip(bars["high"].tolist(), bars["low"].tolist(), bars["close"].tolist(), strict=True)
        found = [running.add(*row) for row in rows]
        np.testing.assert_array_equal(found, atr(bars["high"], bars["low"], bars["close"], window).to_numpy())


def test_a_fill_from_elsewhere_is_booked_compiled_as_interpreted() -> None:
    tables = []
    for mode in (nullcontext, interpreted):
        told = world(rule(exits=EXITS["ladder"][0], scale_in=SCALINGS["with"]), market(2, 60))
        account = new_account(told.bundle.rule, told.bundle.execution, CASH)
        m, prices = account.machine, np.full((60, 1), 100.0)
        tape = make_tape(prices, prices, prices, prices, prices)
        with mode():
            m = roomy(m, conduct_of(m, tape))
            row = new_order(m, 0, book.MARKET, 30.0, book.SIGNAL, 4.0)
            take_fill(m, tape, 5, row, 10.0, 100.5, 1.0, False)
            take_fill(m, tape, 5, row, 20.0, 100.25, 2.0, True)
            rungs = (m.orders[: m.counts[book.ORDERS], [book.KIND, book.STATUS]] == [book.LIMIT, book.WORKING]).all(
                axis=1
            )
            target = int(np.flatnonzero(rungs)[0])
            take_fill(m, tape, 6, target, 0.5 * m.orders[target, book.QUANTITY], 102.0, 0.5, True)
        counts = m.counts
        tables.append([m.account, m.assets, m.orders[: counts[book.ORDERS]], m.fills[: counts[book.FILLS]], counts])
    for one, other in zip(*tables, strict=True):
        np.testing.assert_array_equal(one, other)


# Planted faults -------------------------------------------------------------------------------------------------------


def _dearer(monkeypatch: pytest.MonkeyPatch) -> None:
    take = mirror_module.take_fill
    monkeypatch.setattr(
        mirror_module, "take_fill", lambda m, tape, t, k, q, price, *more: take(m, tape, t, k, q, price * 1.5, *more)
    )


def _deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trace, "heard", lambda *_: None)
    monkeypatch.setattr(Witness, "book", lambda *_: None)


def _a_bit_dearer(monkeypatch: pytest.MonkeyPatch) -> None:
    def dearer(found: Instruction, fill: np.ndarray) -> Fill:
        return filled(found, fill, price=math.nextafter(float(fill[book.FILL_PRICE]), math.inf))

    monkeypatch.setattr(mirrors, "filled", dearer)


def _never_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = mirror_module.Plan
    monkeypatch.setattr(mirror_module, "Plan", lambda **told: plan(**{**told, "cancel": ()}))


def _wrong_way(monkeypatch: pytest.MonkeyPatch) -> None:
    way = standing._way
    monkeypatch.setattr(standing, "_way", lambda account, row: -way(account, row))


def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MirrorAccount, "_kept_trades", lambda self, _: self.machine.closed[:0])


def _late_atr(monkeypatch: pytest.MonkeyPatch) -> None:
    add = RunningAtr.add
    monkeypatch.setattr(RunningAtr, "add", lambda self, *prices: math.nextafter(add(self, *prices), math.inf))


def _blind_to_cash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "_tried", lambda scratch, tape, t, row, *_, **__: (0.0, book.NO_CASH))


def _no_time_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    value = mirror_module.value_bar

    def unattended(m: Any, tape: Any, t: int, conduct: Any) -> float:
        return value(m, tape, t, conduct._replace(attended=False))

    monkeypatch.setattr(mirror_module, "value_bar", unattended)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a fill is booked at another price": _dearer,
    "fills inside of a bar are not heard of": _deaf,
    "the venue's price differs in its last bit": _a_bit_dearer,
    "what shall stand no longer is not cancelled": _never_cancels,
    "the wrong stop and the wrong rung come first": _wrong_way,
    "closed trades are forgotten": _forgetful,
    "the ATR is wrong in its last bit": _late_atr,
    "further entries never stand": _blind_to_cash,
    "limits and time exits are not looked at": _no_time_exits,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_does_not_go_unnoticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    noticed = False
    for seed in range(60):
        told = drawn(seed)
        try:
            compare(told, mirrored(told))
        except AssertionError:
            noticed = True
            break
    assert noticed


# Restart, portions, memory --------------------------------------------------------------------------------------------


def steps(told: World, mirror: Mirror, first: int, stop: int, *, halve: bool = False) -> list[Plan]:
    """Closes from bar `first` to before `stop`, with the backtest's fills; with `halve` each in two parts."""
    plans, simulation = [], told.result.simulation
    for t in range(first, stop):
        for fill in simulation.fills[simulation.fills[:, book.FILL_AT] == t]:
            found = standing_for(told, mirror, fill)
            assert found is not None
            plans.append(mirror.book(parts(found, fill, told, halve=halve)))
        decision = float(told.result.signals[t, 0]), float(told.result.targets[t, 0])
        plans.append(mirror.close(bar_of(told.bars, t), None, decision=decision))
    return plans


def parts(found: Instruction, fill: np.ndarray, told: World, *, halve: bool) -> list[Fill]:
    """A fill in two parts of whole lots; their fees sum up exactly."""
    lots = told.bundle.execution.lots_per_unit
    half = math.trunc(float(fill[book.FILL_QUANTITY]) * lots / 2.0) / lots
    if not halve or half == 0.0:
        return [filled(found, fill)]
    rest, fee = float(fill[book.FILL_QUANTITY]) - half, float(fill[book.FILL_FEE])
    return [
        filled(found, fill, quantity=half, fee=0.0, trade_id="one" + found.leg),
        filled(found, fill, quantity=rest, fee=fee, trade_id="two" + found.leg),
    ]


@pytest.mark.parametrize("seed", [1, 2, 16, 45, 76, 110])
def test_a_restart_from_what_was_remembered_changes_nothing(seed: int) -> None:
    told = drawn(seed)
    whole, current = Mirror(told.bundle, CASH, margin=True), Mirror(told.bundle, CASH, margin=True)
    simulation = told.result.simulation
    for t in range(GOLDEN - 1, 120):
        for fill in simulation.fills[simulation.fills[:, book.FILL_AT] == t]:
            found = standing_for(told, whole, fill)
            if found is None:
                return
            current = Mirror.restored(told.bundle, json.loads(json.dumps(current.state(), allow_nan=False)))
            assert whole.book([filled(found, fill)]) == current.book([filled(found, fill)])
        current = Mirror.restored(told.bundle, json.loads(json.dumps(current.state(), allow_nan=False)))
        decision = float(told.result.signals[t, 0]), float(told.result.targets[t, 0])
        bar = bar_of(told.bars, t)
        assert whole.close(bar, None, decision=decision) == current.close(bar, None, decision=decision)


def test_a_restart_by_replay_gives_the_same_legs() -> None:
    told = world(rule(exits=EXITS["ladder"][0], scale_in=SCALINGS["with"]), market(2, 160))
    one, other = (Mirror(told.bundle, CASH) for _ in range(2))
    assert steps(told, one, GOLDEN - 1, 160) == steps(told, other, GOLDEN - 1, 160)
    assert one.state() == other.state()


def test_a_state_of_another_bundle_is_refused() -> None:
    told = world(rule(), market(2, 60))
    state = Mirror(told.bundle, CASH).state() | {"bundle": "e" * 64}
    with pytest.raises(RunnerError, match="another bundle"):
        Mirror.restored(told.bundle, state)


@pytest.mark.parametrize("name", ["ladder", "trailing"])
def test_a_fill_in_parts_is_the_same_fill(name: str) -> None:
    told = world(rule(exits=EXITS[name][0]), market(3, 160))
    whole, halves = Witness(told.bundle, CASH), Witness(told.bundle, CASH)
    plans = steps(told, whole, GOLDEN - 1, 160)
    parted = steps(told, halves, GOLDEN - 1, 160, halve=True)
    figures = [(p.time, p.cash, p.position, p.equity) for p in plans]
    assert [(p.time, p.cash, p.position, p.equity) for p in parted] == figures
    assert whole.orders.keys() == halves.orders.keys()


def test_in_which_portions_fills_are_told_makes_no_difference() -> None:
    told = world(rule(exits=EXITS["ladder"][0]), market(2, 100))
    together, apart = Mirror(told.bundle, CASH), Mirror(told.bundle, CASH)
    simulation, checked = told.result.simulation, 0
    for t in range(GOLDEN - 1, 100):
        for fill in simulation.fills[simulation.fills[:, book.FILL_AT] == t]:
            found = standing_for(told, together, fill)
            assert found is not None
            both = parts(found, fill, told, halve=True)
            last = [together.book(both), *(apart.book([one]) for one in both)]
            assert together.instructions == apart.instructions
            assert last[0].instructions == last[-1].instructions
            checked += 1
        decision = float(told.result.signals[t, 0]), float(told.result.targets[t, 0])
        plan = together.close(bar_of(told.bars, t), None, decision=decision)
        assert plan == apart.close(bar_of(told.bars, t), None, decision=decision)
    assert checked > 5


def test_memory_stays_flat() -> None:
    policies = {"exits": EXITS["ladder"][0], "limits": Limits(**LIMITS["tail"], **LIMITS["stopped"])}
    told = world(rule(**policies), market(1, 3_000))
    mirror = Mirror(told.bundle, CASH)
    sizes = []
    for end in (300, 600, 3_000):
        steps(told, mirror, GOLDEN - 1 if not sizes else [300, 600][len(sizes) - 1], end)
        tables = mirror._held.machine
        sizes.append((sum(table.nbytes for table in tables), len(mirror._market._closes)))
        assert len(mirror._market.tape.past._rows) < 30
        assert len(mirror._revisions) < 12
    assert len(told.result.simulation.orders) > 500
    assert sizes[0] == sizes[1] == sizes[2]


# Where the venue does something else ----------------------------------------------------------------------------------


def entered(**policies: Any) -> tuple[Mirror, Plan, Any]:
    """A mirror that has just decided to enter, its plan, and its bars; the price stands still at 100."""
    bars = market(0, 80)
    bars[["open", "high", "low", "close"]] = 100.0, 100.5, 99.5, 100.0
    mirror = Mirror(bundle(rule(**policies), bars), CASH)
    plan = mirror.close(bar_of(bars, GOLDEN - 1), None, decision=(1.0, 0.6))
    return mirror, plan, bars


def fill_of(found: Instruction, quantity: float | None = None, price: float = 100.0, **more: Any) -> Fill:
    """The venue's fill of an instruction, wholly unless a quantity is given; fee one per mille."""
    signed = math.copysign(found.quantity if quantity is None else quantity, found.signed)
    given = {"fee": abs(signed) * price * 0.001, "trade_id": f"{found.leg}/{quantity}/{price}", **more}
    return Fill(client_order_id=found.leg, quantity=signed, price=price, time_ms=0, leg=found.leg, **given)


def following(mirror: Mirror, bars: Any, t: int, **more: Any) -> Plan:
    return mirror.close(bar_of(bars, t), None, decision=(1.0, 0.6), **more)


def test_another_price_is_the_accounts_price() -> None:
    mirror, plan, bars = entered(exits=Exits(stop_loss=0.02))
    (buy,) = plan.place
    after = mirror.book([fill_of(buy, price=101.0)])
    (stop,) = after.place
    assert (stop.kind, stop.side, stop.quantity, stop.reduces) == ("stop", "sell", buy.quantity, True)
    assert stop.stop_price == 101.0 * 0.98 or stop.stop_price == 101.0 - 0.02 * 101.0
    closed = following(mirror, bars, GOLDEN)
    assert closed.cash == CASH - buy.quantity * 101.0 - buy.quantity * 101.0 * 0.001
    assert {found.what for found in closed.deviations} == {"price", "fee"}
    assert closed.place == closed.cancel == ()


def test_a_part_of_an_entry_is_protected_and_the_rest_goes_on_working() -> None:
    mirror, plan, bars = entered(exits=Exits(stop_loss=0.02))
    (buy,) = plan.place
    part = mirror.book([fill_of(buy, 10.0)])
    assert [(found.kind, found.quantity) for found in part.place] == [("stop", 10.0)]
    assert part.cancel == ()
    closed = following(mirror, bars, GOLDEN)
    assert closed.position == 10.0
    assert [found.leg for found in closed.instructions] == [buy.leg, part.place[0].leg]
    rest = mirror.book([fill_of(buy, buy.quantity - 10.0)])
    assert rest.cancel == (part.place[0].leg,)
    assert [(found.kind, found.quantity) for found in rest.place] == [("stop", buy.quantity)]


def test_an_entry_that_the_venue_refuses_is_decided_anew() -> None:
    mirror, plan, bars = entered(exits=Exits(stop_loss=0.02))
    (buy,) = plan.place
    refused = mirror.book([Ending(buy.leg, "rejected", "not enough balance")])
    assert refused.instructions == refused.cancel == ()
    closed = following(mirror, bars, GOLDEN)
    assert (closed.position, closed.cash) == (0.0, CASH)
    (again,) = closed.place
    assert (again.quantity, again.leg != buy.leg) == (buy.quantity, True)


def test_a_stop_that_the_venue_refuses_is_asked_for_again_at_the_next_close() -> None:
    mirror, plan, bars = entered(exits=Exits(stop_loss=0.02))
    (stop,) = mirror.book([fill_of(plan.place[0])]).place
    refused = mirror.book([Ending(stop.leg, "rejected", "would trigger at once")])
    assert refused.instructions == ()
    (again,) = following(mirror, bars, GOLDEN).place
    assert (again.kind, again.stop_price, again.leg) == ("stop", stop.stop_price, stop.leg + ".1")


def test_a_missed_target_goes_on_resting() -> None:
    mirror, plan, bars = entered(exits=Exits(take_profit=0.004))
    mirror.book([fill_of(plan.place[0])])
    closed = following(mirror, bars, GOLDEN)
    assert [(found.what, found.reason) for found in closed.deviations][-1] == ("missed", "take_profit")
    assert [found.reason for found in closed.instructions] == ["take_profit"]
    assert closed.position == plan.place[0].quantity


def test_a_fill_that_comes_late_is_booked_all_the_same() -> None:
    mirror, plan, _ = entered(exits=Exits(stop_loss=0.02, take_profit=0.03))
    placed = mirror.book([fill_of(plan.place[0])]).place
    stop, target = placed
    assert stop.group == target.group is not None
    closing = mirror.book([fill_of(target, price=103.0)])
    assert (closing.position, closing.instructions, closing.cancel) == (0.0, (), (stop.leg,))
    late = mirror.book([fill_of(stop, price=98.0)])
    assert late.position == -plan.place[0].quantity


def test_the_same_trade_is_booked_once() -> None:
    mirror, plan, _ = entered()
    fill = fill_of(plan.place[0], 10.0)
    assert mirror.book([fill, fill]).position == mirror.book([fill]).position == 10.0


def test_a_trade_by_hand_moves_the_position_and_its_stop() -> None:
    mirror, plan, _ = entered(exits=Exits(stop_loss=0.02))
    (stop,) = mirror.book([fill_of(plan.place[0])]).place
    by_hand = Fill("web", "77", -20.0, 100.0, 2.0, 0)
    after = mirror.book([by_hand])
    assert after.position == plan.place[0].quantity - 20.0
    assert after.cancel == (stop.leg,)
    assert [(found.kind, found.quantity) for found in after.place] == [("stop", after.position)]


def test_a_fee_in_base_units_is_not_held() -> None:
    mirror, plan, _ = entered()
    (buy,) = plan.place
    got = mirror.book([fill_of(buy, fee=0.0, fee_base=buy.quantity * 0.001)])
    lots = 1024.0
    assert got.position == math.floor(buy.quantity * 0.999 * lots) / lots
    assert got.cash == pytest.approx(CASH - buy.quantity * 100.0, rel=1e-15)


def test_money_put_in_is_no_profit() -> None:
    mirror, _, bars = entered(limits=Limits(daily_profit=0.05, maximum_drawdown=0.05))
    mirror.fund(5_000.0)
    assert (following(mirror, bars, GOLDEN).halts, mirror.account[0]) == ((), CASH + 5_000.0)
    mirror.fund(-7_000.0)
    assert following(mirror, bars, GOLDEN + 1).halts == ()


def test_an_order_too_large_is_made_smaller_by_the_engines_own_sum() -> None:
    bars = market(0, 80)
    bars[["open", "high", "low", "close"]] = 100.0, 100.5, 99.5, 100.0
    mirror = Mirror(bundle(rule(), bars, insufficient_cash="reduce"), CASH)
    (buy,) = mirror.close(bar_of(bars, GOLDEN - 1), None, decision=(1.0, 1.0)).place
    part = mirror.fitted(buy.leg, 102.0)
    assert buy.fits
    assert part == math.floor(CASH / (102.0 * 1.0005 * 1.001) * 1024.0) / 1024.0
    strict = Mirror(bundle(rule(), bars), CASH)
    (whole,) = strict.close(bar_of(bars, GOLDEN - 1), None, decision=(1.0, 1.0)).place
    assert (strict.fitted(whole.leg, 102.0), strict.fitted(whole.leg, 99.0)) == (0.0, whole.quantity)


def test_bars_that_passed_keep_limits_and_exits_going() -> None:
    mirror, plan, bars = entered(exits=Exits(time_exit=2))
    mirror.book([fill_of(plan.place[0])])
    quiet = [mirror.close(bar_of(bars, t), None, decides=False) for t in (GOLDEN, GOLDEN + 1, GOLDEN + 2)]
    assert [[found.reason for found in told.place] for told in quiet] == [[], ["time_exit"], []]
    assert quiet[-1].instructions[0].reason == "time_exit"


# What is refused ------------------------------------------------------------------------------------------------------


def test_a_mirror_carries_everything_but_loans() -> None:
    assert set(NEEDS) - CARRIES == {"short", "leverage"}
    assert PROVIDES <= CARRIES
    bars = market(0, 60)
    leveraged = bundle(rule(), bars, maximum_leverage=2.0)
    assert set(needs_of(leveraged.rule, leveraged.execution)) - CARRIES == {"leverage"}
    with pytest.raises(RunnerError, match="2 times its equity: a spot account lends nothing"):
        Mirror(leveraged, CASH)


def test_a_short_position_is_refused_by_name() -> None:
    bars = market(0, 60)
    mirror = Mirror(bundle(rule(), bars), CASH)
    with pytest.raises(RunnerError, match=r"asks for -0\.5 of the equity on 2021-01-02T15:00:00.*cannot sell"):
        mirror.close(bar_of(bars, GOLDEN - 1), None, decision=(-1.0, -0.5))


def test_bars_out_of_order_are_refused() -> None:
    mirror, _, bars = entered()
    for row in (GOLDEN - 1, GOLDEN + 1):
        with pytest.raises(RunnerError, match="does not follow 2021-01-02T15:00:00"):
            following(mirror, bars, row)
    with pytest.raises(RunnerError, match="the history ends at"):
        mirror.close(bar_of(bars, GOLDEN), bars.iloc[:GOLDEN])
    with pytest.raises(RunnerError, match="the account has begun"):
        mirror.see(bars)


def test_a_late_start_needs_the_bars_between() -> None:
    told = world(rule(exits=EXITS["stop_in_atrs"][0]), market(4, 90))
    late, seen = Mirror(told.bundle, CASH), Mirror(told.bundle, CASH)
    with pytest.raises(RunnerError, match="give the bars between them to see"):
        late.close(bar_of(told.bars, 70), told.bars.iloc[60:71])
    seen.see(told.bars.iloc[:65])
    one = seen.close(bar_of(told.bars, 70), told.bars.iloc[60:71])
    assert one == Mirror(told.bundle, CASH).close(bar_of(told.bars, 70), told.bars.iloc[:71])


@pytest.mark.parametrize("changes", [{"quantity": 0.0}, {"price": -1.0}, {"fee": math.nan}, {"price": math.inf}])
def test_a_fill_that_is_none_is_refused(changes: dict[str, float]) -> None:
    mirror, plan, _ = entered()
    fill = fill_of(plan.place[0])
    with pytest.raises(RunnerError, match="cannot be booked"):
        mirror.book([Fill(**{**vars(fill), **changes})])


def test_a_mirror_needs_money_and_a_decision() -> None:
    bars = market(0, 60)
    with pytest.raises(RunnerError, match="a positive amount"):
        Mirror(bundle(rule(), bars), 0.0)
    with pytest.raises(RunnerError, match="the history that the rule decides on"):
        Mirror(bundle(rule(), bars), CASH).close(bar_of(bars, GOLDEN - 1), None)
    with pytest.raises(RunnerError, match="before the first close"):
        Mirror(bundle(rule(), bars), CASH).book()
