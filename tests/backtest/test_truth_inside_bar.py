"""What a single bar proves, and what it does not: entries and exits inside one bar never use an unproven path."""

import numpy as np
import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, Order, run_signals
from tradelib.risk import Exits, ScaleIn


def enter(kind, price, bars, exits, side="buy", **options):
    """10 units by a resting order placed on bar 0."""
    level = {"limit" if kind == "limit" else "stop": price}
    order = Order(time=day(0), kind=kind, side=side, quantity=10, exits=Exits(**exits), **level)
    return trade([order], market(100, *bars), **options)


CASES = {
    "after a limit entry the low is proven: its stop acts": (
        ("limit", 95, [(100, 101, 92, 96)], {"stop_loss": 2 / 95}), (1, 93, "stop_loss")),
    "the way back to the close is proven: its target acts": (
        ("limit", 95, [(100, 101, 94, 98)], {"take_profit": 2 / 95}), (1, 97, "take_profit")),
    "a high above the close is not: its target waits": (
        ("limit", 95, [(100, 101, 94, 96.5)], {"take_profit": 2 / 95}), None),
    "after a stop entry the high is proven: its target acts": (
        ("stop", 105, [(104, 108, 103.5, 106)], {"stop_loss": 2 / 105, "take_profit": 2 / 105}),
        (1, 107, "take_profit")),
    "but the low may have come later: its stop acts first": (
        ("stop", 105, [(100, 108, 99, 106)], {"stop_loss": 2 / 105, "take_profit": 2 / 105}), (1, 103, "stop_loss")),
    "a gap fills at the open and the whole bar follows": (
        ("stop", 105, [(106, 111, 105, 107)], {"take_profit": 4 / 106}), (1, 110, "take_profit")),
    "a trailing stop takes the high that follows a stop entry": (
        ("stop", 105, [(104, 120, 103, 118), (118, 118, 107, 110)], {"trailing_stop": 0.1}), (2, 108, "trailing_stop")),
    "but only the close after a limit entry": (
        # 96 x 0.9 = 86.4, not 110 x 0.9 = 99
        ("limit", 95, [(100, 110, 94, 96), (96, 97, 86, 88)], {"trailing_stop": 0.1}), (2, 86.4, "trailing_stop")),
    "and from the next bar on its highs": (
        # 100 x 0.9 = 90 on bar 3
        ("limit", 95, [(100, 110, 94, 96), (96, 100, 95, 99), (99, 99, 89, 90)], {"trailing_stop": 0.1}),
        (3, 90, "trailing_stop")),
    "break-even needs a proven high as well": (
        ("limit", 95, [(100, 110, 94, 96), (96, 96, 94, 95)], {"stop_loss": 0.1, "break_even": 0.05}), None),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "expected"), CASES.values(), ids=CASES)
def test_an_entry_and_an_exit_inside_one_bar(entry, expected):
    rows = fills(enter(*entry))[1:]
    assert [(bar, pytest.approx(price), origin) for bar, _, price, origin in rows] == ([expected] if expected else [])


def test_of_a_short_entry_all_is_mirrored():
    # sold at 105 by a limit; the low of 99 is unproven, the close of 104.5 is not below the target of 103
    target = {"take_profit": 2 / 105}
    assert len(fills(enter("limit", 105, [(100, 106, 99, 104.5)], target, side="sell"))) == 1
    has_fills(
        enter("limit", 105, [(100, 106, 99, 102)], target, side="sell"),
        (1, -10, 105, "order"),
        (1, 10, 103, "take_profit"),
    )


class TestBothExtremes:
    """Orders that rested before the bar meet both of its extremes: touching counts, whatever came first."""

    BAR = (100, 101.5, 98.5, 100)

    def pair(self, **more):
        return [
            Order(time=day(0), side="buy", kind="limit", limit=99, quantity=1),
            Order(time=day(0), side="sell", kind="limit", limit=101, quantity=1, **more),
        ]

    def test_a_buy_below_and_a_sale_above_both_fill(self):
        result = trade(self.pair(), market(100, self.BAR, 100))
        has_fills(result, (1, 1, 99, "order"), (1, -1, 101, "order"))
        has_equity(result, 10_002, 10_002)

    def test_but_what_only_reduces_needs_a_position_that_is_proven(self):
        result = trade(self.pair(reduce_only=True), market(100, self.BAR, 100))
        has_fills(result, (1, 1, 99, "order"))

    def test_the_other_side_of_a_grid_order_waits_for_proof(self):
        # bought at 99, back at 101 only if the bar ends there
        order = [Order(time=day(0), side="buy", kind="limit", limit=99, quantity=1, spacing=2)]
        assert len(fills(trade(order, market(100, self.BAR)))) == 1
        assert len(fills(trade(order, market(100, (100, 101.5, 98.5, 101))))) == 2

    def test_a_target_brought_closer_inside_the_bar_waits_for_proof(self):
        # 4 at 100 and 4 at 95: target 102.375; the high of 104 may have come before the low
        bars = market(100, 100, (100, 104, 95, 99), 99)
        policy = ScaleIn(orders=1, step=0.05, direction="against")
        events, exits = np.arange(4) == 0, Exits(take_profit=0.05)
        result = run_signals(
            events, None, bars, size=0.4, exits_policy=exits, scale_in=policy, costs=FREE, cash=1_000.0
        )
        has_fills(result, (1, 4, 100, "signal"), (2, 4, 95, "scale_in"))


class TestFinerBars:
    @pytest.mark.parametrize(
        ("finer", "expected"),
        [
            ([(100, 101, 94, 96), (96, 110, 96, 97)], (1, 97.5, "take_profit")),
            ([(100, 110, 99, 100), (100, 100, 94, 97)], None),
        ],
        ids=["the high came after", "the high came before"],
    )
    def test_they_prove_what_the_bar_does_not(self, finer, expected):
        finer = market(100, 100, *finer, timeframe="12h")
        result = enter("limit", 95, [(100, 110, 94, 97)], {"take_profit": 2.5 / 95}, finer=finer)
        rows = [(bar, pytest.approx(price), origin) for bar, _, price, origin in fills(result)[1:]]
        assert rows == ([expected] if expected else [])

    def test_trailing_levels_follow_every_finer_bar(self):
        # 120 x 0.9 = 108 after the first half of bar 1, met in the second half
        exits = Exits(trailing_stop=0.1)
        finer = market(100, 100, (100, 120, 99, 119), (119, 119, 107, 110), timeframe="12h")
        order = Order(time=day(0), side="buy", quantity=10, exits=exits)
        has_fills(
            trade([order], market(100, (100, 120, 99, 110)), finer=finer),
            (1, 10, 100, "order"),
            (1, -10, 108, "trailing_stop"),
        )

    def test_finer_bars_that_are_the_bars_own_path_change_nothing(self):
        # low first, then high: the path that a long position is given without them
        bars = market(100, (100, 106, 97, 104), (104, 112, 103, 110))
        finer = market(
            100,
            100,
            (100, 100, 97, 97),
            (97, 106, 97, 104),
            (104, 104, 103, 103),
            (103, 112, 103, 110),
            timeframe="12h",
        )
        order = Order(
            time=day(0), side="buy", quantity=10, exits=Exits(stop_loss=0.05, take_profit=[(0.05, 0.5), (0.1, 0.5)])
        )
        one, two = trade([order], bars), trade([order], bars, finer=finer)
        assert fills(one) == fills(two)
        assert one.equity.tolist() == two.equity.tolist()

    def test_a_limit_that_rested_is_a_maker_also_at_a_finer_open(self):
        costs = Costs(fee_rate=0.01, maker_fee_rate=0.001, slippage=0.0)
        finer = market(100, 100, (100, 100, 96, 96), (94, 95, 93, 95), timeframe="12h")
        order = Order(time=day(0), side="buy", kind="limit", limit=95, quantity=1)
        result = trade([order], market(100, (100, 100, 93, 95)), costs=costs, finer=finer)
        has_fills(result, (1, 1, 94, "order"))
        assert result.fills["liquidity"].tolist() == ["maker"]


def test_a_position_is_closed_once_however_many_exits_a_bar_reaches():
    exits = {"stop_loss": 0.05, "trailing_stop": 0.04, "take_profit": 0.1}
    order = Order(time=day(0), side="buy", quantity=10, exits=Exits(**exits))
    result = trade([order], market(100, 100, (100, 111, 90, 95)))
    has_fills(result, (1, 10, 100, "order"), (2, -10, 96, "trailing_stop"))
    assert causes(result, "cancelled") == [("X", "its position was closed")] * 2


@pytest.mark.parametrize(
    ("kind", "side", "price", "bar"),
    [
        ("limit", "buy", 95, (100, 101, 95, 98)),
        ("limit", "sell", 105, (100, 105, 99, 102)),
        ("stop", "buy", 105, (100, 105, 99, 102)),
        ("stop", "sell", 95, (100, 101, 95, 98)),
        ("limit", "buy", 95, (100, 101, 95, 95)),
    ],
)
def test_every_order_at_the_very_extreme_of_a_bar_is_met(kind, side, price, bar):
    level = {"limit" if kind == "limit" else "stop": price}
    orders = [Order(time=day(0), kind=kind, side=side, quantity=quantity, **level) for quantity in (10, 5, 1)]

    result = trade(orders, market(100, bar))

    sign = 1 if side == "buy" else -1
    has_fills(result, *((1, sign * quantity, price, "order") for quantity in (10, 5, 1)))
