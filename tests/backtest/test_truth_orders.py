"""Every kind of order on bars of a few lines, with the arithmetic written out: see docs/conventions."""

import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, Order, grid, run_orders
from tradelib.risk import Distance, Exits


def order(kind="market", side="buy", quantity=10.0, **more):
    return Order(time=day(0), kind=kind, side=side, quantity=quantity, **more)


class TestMarket:
    def test_a_decision_on_a_close_fills_at_the_next_open(self):
        # 10 at 102, not at the close of 100; marked at 103: 10000 + 10 x 1
        result = trade([order()], market(100, (102, 104, 101, 103)))
        has_fills(result, (1, 10, 102, "order"))
        has_equity(result, 10_000, 10_010)

    def test_slippage_is_against_you_and_the_fee_is_on_the_slipped_price(self):
        # 10 at 100 x 1.01 = 101, fee 1010 x 0.002 = 2.02: 10000 - 1010 - 2.02 + 1000
        result = trade([order()], market(100, 100), costs=Costs(fee_rate=0.002, slippage=0.01))
        has_fills(result, (1, 10, 101, "order"))
        has_equity(result, 9_987.98)

    def test_a_short_gains_what_the_price_loses(self):
        # sold 10 at 100: cash 11000; equity at 90: 11000 - 900
        has_equity(trade([order(side="sell")], market(100, 100, 90)), 10_000, 10_100)

    def test_a_flip_through_zero_is_one_order(self):
        # long 10 at 100; sell 25 at 110: +100 on the long, short 15; at 104: 15 x 6 = 90
        orders = [order(), Order(time=day(1), side="sell", quantity=25)]
        result = trade(orders, market(100, 100, 110, 104))
        has_fills(result, (1, 10, 100, "order"), (2, -25, 110, "order"))
        assert result.positions["quantity"].tolist() == [0, 10, -15, -15]
        has_equity(result, 10_100, 10_190)
        assert result.trades["profit"].tolist() == pytest.approx([100, 90])

    def test_a_weight_is_a_fraction_of_equity_at_the_close(self):
        # 0.5 x 10000 / 80 = 62.5
        result = trade([Order(time=day(0), side="buy", weight=0.5)], market(80, 79))
        has_fills(result, (1, 62.5, 79, "order"))

    def test_an_order_of_the_last_bar_waits_for_ever(self):
        result = trade([Order(time=day(1), side="buy", quantity=1)], market(100, 100))
        assert fills(result) == []
        assert causes(result, "pending") == [("X", "placed on the last bar: there is no next open")]


# kind and side, its prices, the bar after, what is paid (None: it did not fill)
RESTING = {
    "a buy limit fills at its limit when the low touches it": ("limit", "buy", {"limit": 95}, (100, 101, 95, 99), 95),
    "a cent above it does not": ("limit", "buy", {"limit": 95}, (100, 101, 95.01, 99), None),
    "a buy limit fills at a better open": ("limit", "buy", {"limit": 95}, (93, 96, 92, 95), 93),
    "a sell limit fills at its limit when the high touches it": (
        "limit",
        "sell",
        {"limit": 105},
        (100, 105, 99, 101),
        105,
    ),
    "a sell limit fills at a better open": ("limit", "sell", {"limit": 105}, (107, 108, 104, 106), 107),
    "a buy stop fills at its stop": ("stop", "buy", {"stop": 105}, (100, 105, 99, 101), 105),
    "a buy stop that is not touched does not": ("stop", "buy", {"stop": 105}, (100, 104.99, 99, 101), None),
    "a gap over a buy stop fills at the open": ("stop", "buy", {"stop": 105}, (108, 109, 104, 106), 108),
    "a sell stop fills at its stop": ("stop", "sell", {"stop": 95}, (100, 101, 95, 96), 95),
    "a gap under a sell stop fills at the open": ("stop", "sell", {"stop": 95}, (92, 96, 91, 94), 92),
    "a buy stop-limit fills at its trigger when that is within the limit": (
        "stop_limit",
        "buy",
        {"stop": 105, "limit": 106},
        (100, 107, 99, 104),
        105,
    ),
    "a gap over the limit of a stop-limit waits for the limit": (
        "stop_limit",
        "buy",
        {"stop": 105, "limit": 106},
        (108, 109, 106, 107),
        106,
    ),
    "and does not fill where that is not met": (
        "stop_limit",
        "buy",
        {"stop": 105, "limit": 106},
        (108, 109, 106.5, 107),
        None,
    ),
    "a gap between stop and limit fills at the open": (
        "stop_limit",
        "buy",
        {"stop": 105, "limit": 106},
        (105.5, 107, 105, 106),
        105.5,
    ),
    "a sell stop-limit fills at its trigger": (
        "stop_limit",
        "sell",
        {"stop": 95, "limit": 94},
        (100, 101, 93, 96),
        95,
    ),
    "a gap under the limit of a sell stop-limit waits for it": (
        "stop_limit",
        "sell",
        {"stop": 95, "limit": 94},
        (92, 94, 91, 93),
        94,
    ),
}


@pytest.mark.parametrize("case", RESTING.values(), ids=RESTING)
def test_a_resting_order_meets_one_bar(case):
    kind, side, prices, bar, paid = case
    result = trade([order(kind, side, **prices)], market(100, bar))
    expected = [] if paid is None else [(1, 10.0 if side == "buy" else -10.0, paid, "order")]
    has_fills(result, *expected)


def test_a_triggered_stop_limit_rests_as_a_limit_until_it_is_met():
    # triggered by the gap to 108 on bar 1, met by the low of 105 on bar 2
    result = trade([order("stop_limit", stop=105, limit=106)], market(100, (108, 109, 107, 108), (108, 108, 105, 107)))
    has_fills(result, (2, 10, 106, "order"))


def test_stops_slip_and_limits_never_do():
    costs = Costs(fee_rate=0.0, slippage=0.01)
    bars = market(100, (100, 105, 95, 100))
    paid = {
        kind: trade([order(kind, side, **price)], bars, costs=costs).fills["price"].item()
        for kind, side, price in (("stop", "buy", {"stop": 105}), ("limit", "buy", {"limit": 95}))
    }
    assert paid == pytest.approx({"stop": 106.05, "limit": 95.0})


class TestTrailing:
    def test_it_trails_the_high_of_the_bars_before_by_a_fraction(self):
        # level of bar 1: 100 x 0.9 = 90; of bar 2: 120 x 0.9 = 108. Bar 1 itself went from 120 to 101: no look-ahead
        bars = market(100, (100, 120, 95, 101), (118, 119, 108, 110))
        has_fills(trade([order("trailing_stop", "sell", trail=0.1)], bars), (2, -10, 108, "order"))

    def test_or_by_a_price(self):
        bars = market(100, (100, 120, 95, 118), (118, 119, 108, 110))
        trail = Distance(value=10, unit="price")
        has_fills(trade([order("trailing_stop", "sell", trail=trail)], bars), (2, -10, 110, "order"))

    def test_a_buy_trails_the_low(self):
        # 100 x 1.1 = 110 on bar 1; 80 x 1.1 = 88 on bar 2
        bars = market(100, (100, 105, 80, 82), (82, 90, 81, 89))
        has_fills(trade([order("trailing_stop", "buy", trail=0.1)], bars), (2, 10, 88, "order"))

    def test_a_gap_fills_at_the_open(self):
        bars = market(100, (100, 120, 95, 118), (105, 106, 104, 105))
        has_fills(trade([order("trailing_stop", "sell", trail=0.1)], bars), (2, -10, 105, "order"))


class TestTimeInForce:
    BARS = market(100, 100, (100, 100, 94, 99), (100, 100, 94, 99), 100)

    @pytest.mark.parametrize(("good_for", "bar"), [(None, 2), (2, 2), (1, None)])
    def test_an_order_works_for_so_many_bars(self, good_for, bar):
        result = trade([order("limit", limit=95, good_for=good_for)], self.BARS)
        assert [row[0] for row in fills(result)] == ([] if bar is None else [bar])

    def test_its_end_is_recorded_also_where_nothing_else_happens(self):
        # good for bars 1 and 2; the price comes down on bar 5
        bars = market(100, 100, 100, 100, 100, (100, 100, 90, 95), 95)
        result = trade([order("limit", limit=92, good_for=2)], bars)
        assert fills(result) == []
        assert causes(result, "expired") == [("X", "its time was over")]
        assert result.orders["fill_time"].tolist() == [day(2)]

    def test_until_cancelled_means_for_ever(self):
        has_fills(trade([order("limit", limit=95)], market(*[100] * 30, (100, 100, 95, 99))), (30, 10, 95, "order"))


class TestGroups:
    PAIR = (("limit", {"limit": 110}), ("stop", {"stop": 90}))

    @pytest.mark.parametrize(("bar", "paid"), [((100, 111, 99, 108), 110), ((100, 101, 89, 92), 90)])
    def test_one_cancels_the_other(self, bar, paid):
        exits = [order(kind, "sell", group="exit", **price) for kind, price in self.PAIR]
        result = trade([order(), *exits], market(100, bar))
        has_fills(result, (1, 10, 100, "order"), (1, -10, paid, "order"))
        assert causes(result, "cancelled") == [("X", "another order of its group was filled")]

    def test_in_one_bar_the_stop_comes_before_the_limit(self):
        exits = [order(kind, "sell", group="exit", **price) for kind, price in self.PAIR]
        has_fills(
            trade([order(), *exits], market(100, 100, (100, 111, 89, 100))),
            (1, 10, 100, "order"),
            (2, -10, 90, "order"),
        )

    def test_a_flat_account_meets_the_nearer_extreme_first(self):
        # the high is 6 away, the low 7: the buy stop comes first and cancels the sell stop
        orders = [order("stop", "buy", stop=105, group="break"), order("stop", "sell", stop=95, group="break")]
        has_fills(trade(orders, market(100, (100, 106, 93, 100))), (1, 10, 105, "order"))
        has_fills(trade(orders, market(100, (100, 107, 94, 100))), (1, -10, 95, "order"))


class TestReduceOnly:
    def test_it_never_sells_more_than_there_is(self):
        result = trade([order(quantity=4), order("limit", "sell", limit=105, reduce_only=True)], market(100, 100, 106))
        has_fills(result, (1, 4, 100, "order"), (2, -4, 106, "order"))

    def test_without_a_position_it_is_cancelled(self):
        result = trade([order("limit", "sell", limit=105, reduce_only=True)], market(100, 106))
        assert causes(result, "cancelled") == [("X", "there is no position to reduce")]


def test_partial_exits_realise_their_share():
    # 10 at 100; 4 at 110: +40; 6 at 95: -30; in all +10
    orders = [order(), Order(time=day(1), side="sell", quantity=4), Order(time=day(2), side="sell", quantity=6)]
    result = trade(orders, market(100, 100, 110, 95))
    has_equity(result, 10_000, 10_040 + 6 * 10, 10_010)
    assert result.trades["profit"].tolist() == pytest.approx([10.0])


def test_a_bracket_protects_what_its_entry_opens():
    # bought at 95; target 95 x 1.1 = 104.5, stop 95 x 0.9 = 85.5
    bracket = order("limit", limit=95, exits=Exits(stop_loss=0.1, take_profit=0.1))
    bought = (1, 10, 95, "order")
    has_fills(
        trade([bracket], market(100, (100, 100, 95, 96), (96, 105, 96, 104))), bought, (2, -10, 104.5, "take_profit")
    )
    has_fills(trade([bracket], market(100, (100, 100, 95, 96), (96, 96, 85, 86))), bought, (2, -10, 85.5, "stop_loss"))


class TestGrid:
    def test_a_filled_order_comes_back_one_spacing_away(self):
        # 99 bought, sold at 100, bought at 99 again, sold at 100 again: two times one per unit
        bars = market(100, (100, 100, 99, 99), (99.5, 100, 99.5, 100), (100, 100, 99, 99), (99.5, 100, 99.5, 100))
        result = trade([order("limit", limit=99, spacing=1)], bars)
        has_fills(result, *[(bar, side, price, origin) for bar, side, price, origin in (
            (1, 10, 99, "order"), (2, -10, 100, "grid"), (3, 10, 99, "grid"), (4, -10, 100, "grid"))])  # fmt: skip
        has_equity(result, 10_020)

    def test_a_ladder_pays_a_maker_fee_on_every_rung(self):
        # buys at 99, 98, 97 on one bar; fees 0.001 x (99 + 98 + 97) = 0.294; worth at 97: -99 - 98 - 97 + 3 x 97 = -3
        costs = Costs(fee_rate=0.01, maker_fee_rate=0.001, slippage=0.05)
        ladder = [Order(time=day(0), side="buy", kind="limit", limit=p, quantity=1) for p in (99, 98, 97)]
        result = trade(ladder, market(100, (100, 100, 97, 97)), costs=costs)
        has_fills(result, (1, 1, 99, "order"), (1, 1, 98, "order"), (1, 1, 97, "order"))
        assert result.fills["liquidity"].tolist() == ["maker"] * 3
        has_equity(result, 10_000 - 3 - 0.294)

    def test_every_finer_bar_may_turn_it_over(self):
        # 24 finer bars a day, each through 99 and back to 100: 48 fills a day, and tables grow in the middle of a bar
        bars = market(100, *[(100, 100, 98.5, 100)] * 10)
        finer = market(*[100] * 24, *[(100, 100, 98.5, 100)] * 240, timeframe="1h")
        result = trade([order("limit", limit=99, quantity=1, spacing=1)], bars, finer=finer)
        assert len(result.fills) == 480
        has_equity(result, 10_000 + 240 * 1.0)

    def test_the_grid_of_the_library_is_a_ladder_around_the_price(self):
        # 96, 98 bought below 100, 102, 104 sold above
        orders = grid(day(0), 96, 104, 5, 1.0, 100.0)
        assert [(o.side, o.limit) for o in orders] == [("buy", 96), ("buy", 98), ("sell", 102), ("sell", 104)]
        result = run_orders(orders, market(100, (100, 100, 96, 100), 100), costs=FREE, cash=10_000)
        # 98 and 96 bought going down, 98 (from 96) and 100 (from 98) sold coming back: 2 + 2
        has_fills(result, (1, 1, 98, "order"), (1, 1, 96, "order"), (1, -1, 98, "grid"), (1, -1, 100, "grid"))
        has_equity(result, 10_004, 10_004)
