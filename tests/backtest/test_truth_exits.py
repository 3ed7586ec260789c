"""How positions end and grow: protective orders, ladders, scaling in, re-entry; the arithmetic is written out."""

import numpy as np
import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, Market, Order, run_signals, run_weights
from tradelib.risk import Distance, Exits, Limits, ScaleIn

LADDER = [(0.02, 0.5), (0.05, 0.3), (0.10, 0.2)]


def protect(bars, side="buy", costs=FREE, terms=None, **exits):
    """10 units bought (sold) at the open of bar 1 and protected by `exits`."""
    entry = Order(time=day(0), side=side, quantity=10, exits=Exits(**exits))
    return trade([entry], bars, costs=costs, market=terms)


def exit_of(result):
    """(bar, price, origin) of the only exit; None where there was none."""
    rows = fills(result)[1:]
    assert len(rows) <= 1, rows
    return (rows[0][0], pytest.approx(rows[0][2]), rows[0][3]) if rows else None


class TestStopLoss:
    @pytest.mark.parametrize(
        ("side", "bars", "expected"),
        [
            # 5 % of 100: 95 for a long position, 105 for a short one
            ("buy", [(100, 101, 95, 96)], (1, 95, "stop_loss")),
            ("buy", [(100, 101, 95.01, 96)], None),
            ("buy", [100, (90, 91, 89, 90)], (2, 90, "stop_loss")),
            ("sell", [(100, 105, 99, 104)], (1, 105, "stop_loss")),
            ("sell", [100, (112, 113, 111, 112)], (2, 112, "stop_loss")),
        ],
        ids=["on the bar of its entry", "not a cent before", "gap: at the open", "short", "short, gap"],
    )
    def test_five_percent(self, side, bars, expected):
        assert exit_of(protect(market(100, *bars), side, stop_loss=0.05)) == expected

    def test_a_distance_in_price_a_level_and_slippage(self):
        bars, costs = market(100, (100, 101, 90, 91)), Costs(fee_rate=0.0, slippage=0.01)
        assert exit_of(protect(bars, stop_loss=Distance(value=7, unit="price"))) == (1, 93, "stop_loss")
        assert exit_of(protect(bars, stop_loss=Distance(value=94, unit="level"))) == (1, 94, "stop_loss")
        # bought at 101, 5 % below: 95.95, sold 1 % worse: 94.9905
        assert exit_of(protect(bars, costs=costs, stop_loss=0.05)) == (1, 94.9905, "stop_loss")


class TestTies:
    """A stop at 95 and a target at 105 inside one bar."""

    BAR = (100, 106, 94, 100)

    def test_without_finer_bars_the_stop_comes_first(self):
        policy = {"stop_loss": 0.05, "take_profit": 0.05}
        assert exit_of(protect(market(100, self.BAR), **policy)) == (1, 95, "stop_loss")
        assert exit_of(protect(market(100, self.BAR), "sell", **policy)) == (1, 105, "stop_loss")

    @pytest.mark.parametrize(
        ("finer", "expected"),
        [
            ([(100, 106, 99, 104), (104, 104, 94, 100)], (1, 105, "take_profit")),
            ([(100, 101, 94, 97), (97, 106, 96, 100)], (1, 95, "stop_loss")),
        ],
        ids=["up first", "down first"],
    )
    def test_finer_bars_decide(self, finer, expected):
        entry = Order(time=day(0), side="buy", quantity=10, exits=Exits(stop_loss=0.05, take_profit=0.05))
        finer = market(100, 100, *finer, timeframe="12h")
        assert exit_of(trade([entry], market(100, self.BAR), finer=finer)) == expected

    def test_an_open_beyond_a_level_resolves_first(self):
        bars = market(100, 100, (107, 108, 90, 95))
        assert exit_of(protect(bars, stop_loss=0.05, take_profit=0.05)) == (2, 107, "take_profit")


class TestTakeProfit:
    def test_a_ladder_leaves_with_its_shares(self):
        # 5 at 102, 3 at 105, 2 at 110: 10 + 15 + 20
        result = protect(
            market(100, (100, 102, 100, 101), (101, 106, 101, 104), (104, 110, 104, 109)), take_profit=LADDER
        )
        has_fills(
            result,
            (1, 10, 100, "order"),
            (1, -5, 102, "take_profit"),
            (2, -3, 105, "take_profit"),
            (3, -2, 110, "take_profit"),
        )
        has_equity(result, 10_045)

    def test_one_bar_may_take_it_all_and_a_gap_pays_better(self):
        entry = (1, 10, 100, "order")
        tp = [(1, -5, 102, "take_profit"), (1, -3, 105, "take_profit"), (1, -2, 110, "take_profit")]
        has_fills(protect(market(100, (100, 110, 100, 109)), take_profit=LADDER), entry, *tp)
        gap = [(2, -5, 106, "take_profit"), (2, -3, 106, "take_profit"), (2, -2, 110, "take_profit")]
        has_fills(protect(market(100, 100, (106, 110, 106, 109)), take_profit=LADDER), entry, *gap)

    def test_a_ladder_pays_maker_fees(self):
        # 10 x 100 x 0.001 = 1; (5 x 102 + 3 x 105 + 2 x 110) x 0.0005 = 1045 x 0.0005 = 0.5225
        costs = Costs(fee_rate=0.001, maker_fee_rate=0.0005, slippage=0)
        result = protect(market(100, (100, 110, 100, 109)), costs=costs, take_profit=LADDER)
        assert result.fills["liquidity"].tolist() == ["taker", "maker", "maker", "maker"]
        has_equity(result, 10_000 + 45 - 1 - 0.5225)

    def test_rungs_round_to_lots_and_the_last_one_takes_the_rest(self):
        # 10 units, whole lots: 3.3 -> 3, 3.3 -> 3, the rest is 4
        ladder = [(0.02, 0.33), (0.05, 0.33), (0.10, 0.34)]
        result = protect(market(100, (100, 110, 100, 109)), terms=Market(lots_per_unit=1), take_profit=ladder)
        assert [row[1] for row in fills(result)] == [10, -3, -3, -4]

    def test_a_rung_that_the_market_would_not_take_is_recorded(self):
        # 10 % of 10 units at 102 is 102, below the minimum of 200; the rest leaves at 110
        result = protect(
            market(100, (100, 110, 100, 109)), terms=Market(minimum_notional=200), take_profit=[(0.02, 0.1), (0.1, 0.9)]
        )
        assert causes(result) == [("X", "below the market's minimum notional")]
        has_fills(result, (1, 10, 100, "order"), (1, -10, 110, "take_profit"))

    def test_of_a_short_position_it_lies_below(self):
        assert exit_of(protect(market(100, (100, 101, 94, 96)), "sell", take_profit=0.05)) == (1, 95, "take_profit")


class TestTrailingStop:
    @pytest.mark.parametrize(
        ("side", "bars", "exits", "expected"),
        [
            # level of bar 1: 90; the high of 120 counts from bar 2 on: 108
            ("buy", [(100, 120, 91, 118), (118, 119, 107, 110)], {"trailing_stop": 0.1}, (2, 108)),
            ("buy", [(100, 120, 90, 118)], {"trailing_stop": 0.1}, (1, 90)),
            ("buy", [(100, 120, 91, 118), (105, 106, 104, 105)], {"trailing_stop": 0.1}, (2, 105)),
            ("sell", [(100, 101, 80, 82), (82, 89, 81, 85)], {"trailing_stop": 0.1}, (2, 88)),
            ("buy", [(100, 112, 99, 111), (111, 111, 106, 108)],
             {"trailing_stop": {"value": 5, "unit": "price"}}, (2, 107)),
            # 5 % behind the best price, once it was 10 % up: 109 is not, 112 is: 106.4
            ("buy", [(100, 109, 99, 108), (108, 112, 90, 111), (111, 111, 106, 108)],
             {"trailing_stop": 0.05, "trailing_activation": 0.1}, (3, 106.4)),
        ],
        ids=["fraction", "entry bar", "gap", "short", "price", "activation"],
    )  # fmt: skip
    def test_it_follows_the_bars_before(self, side, bars, exits, expected):
        assert exit_of(protect(market(100, *bars), side, **exits)) == (*expected, "trailing_stop")

    def test_in_multiples_of_the_range_known_before_the_entry(self):
        # TA-Lib: the first bar has no true range; those of bars 1 and 2 are 2, so ATR(2) is 2 from bar 2 on.
        # Decided on bar 2, bought at the open of bar 3 at 100: 100 - 1.5 x 2 = 97
        calm = (100, 101, 99, 100)
        exits = Exits(trailing_stop=Distance(value=1.5, unit="atr"), atr_window=2)
        bars = market(calm, calm, calm, (100, 100, 97, 98))
        result = trade([Order(time=day(2), side="buy", quantity=1, exits=exits)], bars)
        has_fills(result, (3, 1, 100, "order"), (3, -1, 97, "trailing_stop"))

    @pytest.mark.parametrize("distance", ["stop_loss", "trailing_stop", "trailing_activation", "break_even"])
    def test_without_a_range_yet_the_entry_is_refused(self, distance):
        exits = Exits(**{"trailing_stop": 0.1, distance: Distance(value=2, unit="atr")}, atr_window=2)
        calm = (100, 101, 99, 100)
        result = trade([Order(time=day(1), side="buy", quantity=1, exits=exits)], market(calm, calm, calm, calm))
        assert causes(result) == [("X", "the protective distance is not known yet")]


class TestBreakEven:
    POLICY = {"stop_loss": 0.05, "break_even": 0.03, "break_even_offset": 0.001}

    @pytest.mark.parametrize(
        ("bars", "expected"),
        [
            # at 103 the stop moves from 95 to 100.1, from the next bar on
            ([(100, 103, 98, 102), (102, 102, 100, 101)], (2, 100.1, "break_even")),
            ([(100, 103, 98, 99)], None),
            ([(100, 102.9, 98, 102), (102, 102, 98, 99)], None),
            ([(100, 103, 98, 102), (99, 100, 98, 99)], (2, 99, "break_even")),
            ([(100, 102, 95, 96)], (1, 95, "stop_loss")),
        ],
        ids=["moved", "not on its own bar", "not reached", "gap", "the stop before"],
    )
    def test_three_percent_up_the_stop_moves_to_the_entry(self, bars, expected):
        assert exit_of(protect(market(100, *bars), **self.POLICY)) == expected


class TestTimeExit:
    def test_after_three_bars_it_leaves_at_the_open(self):
        result = protect(market(100, 101, 102, 103, 104, 105), time_exit=3)
        has_fills(result, (1, 10, 101, "order"), (4, -10, 104, "time_exit"))

    def test_what_the_account_sells_by_itself_on_that_close_is_not_sold_twice(self):
        entry = Order(time=day(0), side="buy", quantity=10, exits=Exits(time_exit=2))
        result = trade([entry, Order(time=day(2), side="sell", quantity=10)], market(100, 100, 100, 100, 100))
        has_fills(result, (1, 10, 100, "order"), (3, -10, 100, "order"))
        assert result.positions["quantity"].iloc[-1] == 0


class TestReentry:
    WEIGHTS = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5])
    BARS = market(100, (100, 100, 94, 95), 95, 95, 95, 95, 95, 95)

    def test_after_a_stop_the_same_signal_stays_out_until_it_changed(self):
        # 50 at 100, stopped at 95: 9750; the weight drops on bar 5 and returns on bar 6: 0.5 x 9750 / 95
        result = run_weights(self.WEIGHTS, self.BARS, exits_policy=Exits(stop_loss=0.05), costs=FREE, cash=10_000)
        has_fills(result, (1, 50, 100, "signal"), (1, -50, 95, "stop_loss"), (7, 4875 / 95, 95, "signal"))

    def test_unless_any_time_is_allowed(self):
        policy = Exits(stop_loss=0.05, reentry="any_time")
        result = run_weights(self.WEIGHTS, self.BARS, exits_policy=policy, costs=FREE, cash=10_000)
        assert [row[0] for row in fills(result)][:3] == [1, 1, 2]

    def test_protective_orders_die_with_their_position(self):
        weights = np.array([0.5, 0.0, 0.0, 0.0])
        bars = market(100, 100, 100, (100, 120, 80, 100))
        result = run_weights(weights, bars, exits_policy=Exits(stop_loss=0.05, take_profit=0.05), costs=FREE)
        assert [row[0] for row in fills(result)] == [1, 2]
        assert causes(result, "cancelled") == [("X", "its position was closed")] * 2


class TestScaleIn:
    def run(self, bars, exits=None, terms=None, limits=None, **scale_in):
        """40 % of equity, decided on bar 0: 4 units at 100 with 1000 of cash."""
        events, policies = np.arange(len(bars)) == 0, {"scale_in": ScaleIn(**scale_in), "limits": limits}
        return run_signals(
            events, None, bars, size=0.4, exits_policy=exits, market=terms, costs=FREE, cash=1_000.0, **policies
        )

    def test_pyramiding_measures_the_stop_from_the_average(self):
        # 4 at 100, 4 at 105: average 102.5, stop 92.25; sold: 8 x (92.25 - 102.5) = -82
        bars = market(100, 100, (100, 105, 100, 104), (104, 104, 92, 93))
        result = self.run(bars, Exits(stop_loss=0.1), orders=1, step=0.05)
        has_fills(result, (1, 4, 100, "signal"), (2, 4, 105, "scale_in"), (3, -8, 92.25, "stop_loss"))
        has_equity(result, 918)
        assert ("X", "replaced: the average entry price changed") in causes(result, "cancelled")

    def test_averaging_down_brings_the_target_closer(self):
        # 4 at 100, 4 at 95: average 97.5, target 102.375; gained: 8 x 4.875 = 39
        bars = market(100, 100, (100, 100, 95, 96), (96, 103, 96, 102))
        result = self.run(bars, Exits(take_profit=0.05), orders=1, step=0.05, direction="against")
        has_fills(result, (1, 4, 100, "signal"), (2, 4, 95, "scale_in"), (3, -8, 102.375, "take_profit"))
        has_equity(result, 1_039)

    def test_each_is_a_factor_of_the_one_before_and_there_are_no_more(self):
        # 4, 8, 16 at 100, 95, 90; a fourth at 85 does not exist
        bars, policy = market(100, 100, (100, 100, 80, 85), 85), {"orders": 2, "step": 0.05, "factor": 2.0}
        rich = self.run(bars, **policy, direction="against", terms=Market(maximum_leverage=5))
        has_fills(rich, (1, 4, 100, "signal"), (2, 8, 95, "scale_in"), (2, 16, 90, "scale_in"))
        # with its own money: 600 are left, 8 x 95 = 760 and 16 x 90 = 1440 are not there
        poor = self.run(bars, **policy, direction="against")
        has_fills(poor, (1, 4, 100, "signal"))
        assert causes(poor) == [("X", "not enough equity for this exposure at the fill price")] * 2

    def test_a_trailing_stop_never_retreats_when_the_position_grows(self):
        # at 115 it trails at 92; adding at 95 lowers the average to 97.5, and the stop stays where it was
        bars = market(100, 100, (100, 115, 100, 114), (110, 110, 95, 96), (96, 96, 91, 92))
        result = self.run(bars, Exits(trailing_stop=0.2), orders=1, step=0.05, direction="against")
        has_fills(result, (1, 4, 100, "signal"), (3, 4, 95, "scale_in"), (4, -8, 92, "trailing_stop"))

    def test_nor_when_a_rebalance_adds_a_little(self):
        # a weight of half, kept: 50 at 100; at 90 it asks for more, which must not loosen the stop at 85 (15 % of 100)
        bars = market(100, 100, 90, (90, 90, 84, 84))
        weights = np.full(4, 0.5)
        result = run_weights(weights, bars, exits_policy=Exits(trailing_stop=0.15), costs=FREE, cash=10_000)
        assert fills(result)[-1][2:] == (85.0, "trailing_stop")

    def test_what_is_less_than_a_lot_is_recorded(self):
        # 4 x 0.1 = 0.4 of a lot
        result = self.run(
            market(100, 100, (100, 106, 100, 106)), orders=1, step=0.05, factor=0.1, terms=Market(lots_per_unit=1)
        )
        assert causes(result) == [("X", "less than one lot")]

    def test_limits_of_risk_hold_for_what_is_added(self):
        # 8 x 105 = 840 of 1020 is more than 0.6
        bars = market(100, 100, (100, 105, 100, 104), 104)
        result = self.run(bars, orders=1, step=0.05, limits=Limits(maximum_exposure=0.6))
        assert causes(result) == [("X", "limit: too much gross exposure")]
        assert len(result.fills) == 1
