"""The mirror in front of the paper exchange: what it tells is sent as it is, and what comes back is research's account.

The desk here is the plainest one that can be: no network, no journal. A stop and a target that share a position are an
OCO pair; a stop whose price the market has reached already is a market order.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.live.mirrors import CASH, GOLDEN, World, bar_of, decided, market, rule, world
from tradelib.bundle.trading.instructions import Ending, Fill, Instruction, Plan
from tradelib.bundle.trading.mirror import Mirror
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.venue import PaperExchange, VenueMarket
from tradelib.venue.orders import NewOrder, Order, Reason, Refusal

WIRE = "BTCUSDT"
POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "drift": {"rebalance_band": 0.02},
    "stop": {"exits": Exits(stop_loss=0.01)},
    "target": {"exits": Exits(take_profit=0.015)},
    "stop_and_target": {"exits": Exits(stop_loss=0.012, take_profit=0.015)},
    "trailing": {"exits": Exits(trailing_stop=0.012)},
    "trailing_close_by": {"exits": Exits(trailing_stop=0.003, reentry="any_time")},
    "trailing_and_stop": {"exits": Exits(trailing_stop={"value": 2.0, "unit": "atr"}, stop_loss=0.015, atr_window=5)},
    "break_even": {"exits": Exits(stop_loss=0.03, break_even=0.008, take_profit=0.03)},
    "time": {"exits": Exits(time_exit=3, reentry="any_time")},
    "limits": {"limits": Limits(daily_loss=0.01, maximum_drawdown=0.03, drawdown_pause=8), "fraction": 0.95},
    "protected": {"exits": Exits(stop_loss=0.01, reentry="any_time"), "limits": Limits(cooldown=3, daily_orders=2)},
}
MORE: dict[str, dict[str, Any]] = {
    "stop": POLICIES["stop"],
    "ladder": {"exits": Exits(take_profit=((0.008, 0.5), (0.015, 0.3), (0.02, 0.2)))},
    "with": {"exits": Exits(stop_loss=0.02), "scale_in": ScaleIn(orders=2, step=0.006, factor=0.5)},
    "against": {
        "exits": Exits(stop_loss=0.03),
        "scale_in": ScaleIn(orders=2, step=0.006, factor=0.5, direction="against"),
    },
}


class Desk:
    """Does at the exchange what plans say, and tells the mirror what became of it."""

    def __init__(self, mirror: Mirror, exchange: PaperExchange) -> None:
        self.mirror, self.exchange = mirror, exchange
        self.told: set[int] = set()

    def follow(self, plan: Plan) -> None:
        """Bring the exchange in line with what shall stand, until nothing more follows from what it fills at once."""
        while True:
            wanted = {found.leg: found for found in plan.instructions}
            for order in self.exchange.open_orders(WIRE):
                if order.client_order_id not in wanted:
                    self.exchange.cancel(WIRE, client_order_id=order.client_order_id)
            endings = self._send([found for leg, found in wanted.items() if leg not in self._open()], wanted)
            fills = self.fills()
            if not fills and not endings:
                return
            plan = self.mirror.book([*fills, *endings])

    def fills(self) -> list[Fill]:
        """The trades that the mirror has not heard of."""
        found = []
        for order, fill in self.exchange.trades(WIRE):
            if fill.trade_id not in self.told:
                self.told.add(fill.trade_id)
                found.append(_fill(order, fill))
        return found

    def _open(self) -> set[str]:
        return {order.client_order_id for order in self.exchange.open_orders(WIRE)}

    def _send(self, absent: list[Instruction], wanted: dict[str, Instruction]) -> list[Ending]:
        pair = [found for found in wanted.values() if found.group is not None]
        paired = len(pair) == 2 and any(found in absent for found in pair)
        if paired:
            for leg in self._open() & {found.leg for found in pair}:
                self.exchange.cancel(WIRE, client_order_id=leg)
        endings = [self._sent([found]) for found in absent if not (paired and found in pair)]
        endings += [self._sent(pair)] if paired else []
        return [ending for told in endings for ending in told]

    def _sent(self, pair: list[Instruction]) -> list[Ending]:
        orders = [_order(one) for one in pair]
        try:
            if len(orders) == 2:
                self.exchange.place_oco(orders[0], orders[1])
            else:
                self.exchange.place(orders[0])
        except Refusal as refusal:
            return self._refused(pair, refusal)
        return []

    def _refused(self, pair: list[Instruction], refusal: Refusal) -> list[Ending]:
        """A stop or a target that is reached already acts at once."""
        opened = self.exchange.last_price(WIRE)
        reached = [
            one for one in pair if one.kind == "stop" and one.stop_price is not None and opened <= one.stop_price
        ]
        beyond = [one for one in pair if one.kind == "limit" and one.price is not None and opened >= one.price]
        at_once = refusal.reason in (Reason.WOULD_TRIGGER, Reason.OCO_PRICES)
        orders = [_order(one, kind="market") for one in reached] or [_order(one) for one in beyond]
        try:
            if at_once and orders:
                self.exchange.place(orders[0])
                return []
        except Refusal as second:
            refusal = second
        return [Ending(found.leg, "rejected", str(refusal)) for found in pair]


def _order(found: Instruction, kind: Any = None) -> NewOrder:
    price, stop = (None if value is None else Decimal(repr(value)) for value in (found.price, found.stop_price))
    chosen = kind or found.kind
    return NewOrder(
        WIRE,
        1 if found.side == "buy" else -1,
        chosen,
        Decimal(repr(found.quantity)),
        price=price if chosen == "limit" else None,
        stop_price=stop if chosen == "stop" else None,
        client_order_id=found.leg,
    )


def _fill(order: Order, fill: Any) -> Fill:
    name = order.client_order_id
    given = {"fee": fill.fee, "time_ms": fill.time, "maker": fill.maker, "leg": name}
    return Fill(name, str(fill.trade_id), order.side * fill.quantity, fill.price, **given)


def traded(told: World, **more: Any) -> tuple[PaperExchange, list[Plan]]:
    """The whole market through desk and exchange; `more`: terms that research did not know."""
    terms = told.bundle.execution
    costs = {"fee_rate": terms.fee_rate, "slippage": terms.slippage, "minimum_notional": terms.minimum_notional}
    given = {"lots_per_unit": terms.lots_per_unit, "price_decimals": 18, **costs, **more}
    venue = VenueMarket(terms.symbol, told.bars, **given)
    exchange = PaperExchange([venue], cash=CASH, start=told.bars.index[GOLDEN], pace="manual")
    mirror, (targets, signals, _) = Mirror(told.bundle, CASH), decided(told)
    desk, plans = Desk(mirror, exchange), []
    for t in range(GOLDEN - 1, len(told.bars)):
        decision = float(signals[t, 0]), float(targets[t, 0])
        plans.append(mirror.close(bar_of(told.bars, t), None, desk.fills(), decision=decision))
        assert (mirror.account[0], mirror.account[1]) == pytest.approx((exchange.cash, exchange.positions["BTC"]))
        if t < len(told.bars) - 1:
            desk.follow(plans[-1])
            exchange.step()
    return exchange, plans


STRANGE: dict[str, dict[str, Any]] = {
    "fills_in_parts": {"participation": 0.004},
    "another_fee": {"fee_rate": 0.0021},
    "another_slippage": {"slippage": 0.002},
    "larger_lots": {"lots_per_unit": 1024.0, "minimum_notional": 20.0},
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("policy", ["stop", "ladder", "with", "against"])
def test_the_account_is_the_exchanges_whatever_it_fills(policy: str, name: str) -> None:
    for seed in range(2):
        told = world(rule(**MORE[policy], fraction=0.5), market(seed, 160))
        exchange, plans = traded(told, **STRANGE[name])
        assert len(exchange.orders) > 5
        assert any(plan.deviations for plan in plans) or name == "larger_lots"
        for plan in plans:
            reducing = sum(found.quantity for found in plan.instructions if found.kind == "stop" and found.reduces)
            assert reducing <= plan.position + 1e-9


@pytest.mark.parametrize("name", POLICIES)
def test_paper_is_research_to_the_last_bit(name: str) -> None:
    for seed in range(3):
        told = world(rule(**POLICIES[name]), market(seed, 200))
        _, plans = traded(told)
        assert not [plan.deviations for plan in plans if plan.deviations]
        assert [plan.equity for plan in plans[1:]] == told.result.equity.tolist()
        assert [plan.position for plan in plans[1:]] == told.result.positions["quantity"].tolist()
        halts = [(plan.time, halt) for plan in plans for halt in plan.halts]
        rows = told.result.cash_book[["time", "kind"]].itertuples(index=False)
        assert halts == [(time.isoformat(), kind) for time, kind in rows]
