"""What trading and holding cost, and what an account cannot carry; the arithmetic is written out."""

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, FeeTier, Market, Order, run_positions, run_signals, run_weights
from tradelib.risk import Exits, Limits


def buy(quantity=10.0, bar=0, **more):
    return Order(time=day(bar), side="buy", quantity=quantity, **more)


def sell(quantity=10.0, bar=0, **more):
    return Order(time=day(bar), side="sell", quantity=quantity, **more)


class TestFees:
    COSTS = Costs(fee_rate=0.002, maker_fee_rate=0.001, slippage=0.0)

    @pytest.mark.parametrize(
        ("order", "bar", "liquidity", "fee"),
        [
            (buy(), 100, "taker", 10 * 100 * 0.002),
            (buy(kind="stop", stop=105), (100, 105, 99, 104), "taker", 10 * 105 * 0.002),
            (buy(kind="limit", limit=95), (100, 101, 95, 99), "maker", 10 * 95 * 0.001),
            (buy(kind="limit", limit=101), (100, 101, 99, 100), "taker", 10 * 100 * 0.002),
            (buy(kind="stop_limit", stop=105, limit=106), (100, 106, 99, 104), "taker", 10 * 105 * 0.002),
            (buy(kind="stop_limit", stop=105, limit=106), (108, 109, 106, 107), "maker", 10 * 106 * 0.001),
        ],
        ids=["market", "stop", "resting limit", "marketable limit", "stop-limit at once", "stop-limit that rested"],
    )
    def test_who_waits_makes_and_who_does_not_takes(self, order, bar, liquidity, fee):
        result = trade([order], market(100, bar), costs=self.COSTS)
        assert result.fills[["liquidity", "fee"]].to_numpy().tolist() == [[liquidity, pytest.approx(fee)]]

    def test_tiers_hold_for_what_was_traded_before(self):
        # 1000 traded on bar 1 at 0.1 %; the next fill of 1000 pays the tier of 0.05 %
        tiers = (FeeTier(volume=1_000, maker=0.0, taker=0.0005),)
        costs = Costs(fee_rate=0.001, slippage=0.0, fee_tiers=tiers, tier_bars=2)
        for bar, fee in ((1, 0.5), (2, 0.5), (3, 1.0)):  # decided on 1, 2, 3: fills one, two, three bars after bar 1
            result = trade([buy(), sell(bar=bar)], market(*[100] * 5), costs=costs)
            assert result.fills["fee"].tolist() == pytest.approx([1.0, fee])

    def test_a_flip_splits_its_fee_between_two_trades(self):
        # 10 at 100 (fee 2), sell 40 at 100 (fee 8: a quarter closes, three quarters open)
        result = trade([buy(), sell(40, bar=1)], market(100, 100, 100, 100), costs=self.COSTS)
        assert result.trades["fees"].tolist() == pytest.approx([2 + 2, 6])


class TestSlippage:
    def test_half_the_spread_on_each_side(self):
        result = trade([buy(), sell(bar=1)], market(100, 100, 100), costs=Costs(fee_rate=0, slippage=0, spread=0.02))
        has_fills(result, (1, 10, 101, "order"), (2, -10, 99, "order"))

    def test_impact_is_the_square_root_of_the_share_of_volume(self):
        # 0.1 x sqrt(25 / 2500) = 0.01
        bars = market((100, 100, 100, 100, 2_500.0), (100, 100, 100, 100, 2_500.0))
        has_fills(trade([buy(25)], bars, costs=Costs(fee_rate=0, slippage=0, impact=0.1)), (1, 25, 101, "order"))

    def test_all_three_add_up_and_are_told_apart(self):
        # 0.001 + 0.004 / 2 + 0.1 x sqrt(25 / 2500) = 0.013 on 2500
        costs = Costs(fee_rate=0, slippage=0.001, spread=0.004, impact=0.1)
        bars = market((100, 100, 100, 100, 2_500.0), (100, 100, 100, 100, 2_500.0))
        result = trade([buy(25)], bars, costs=costs)
        has_fills(result, (1, 25, 101.3, "order"))
        paid = result.costs_by_kind
        assert paid[["slippage", "spread", "impact"]].tolist() == pytest.approx([2.5, 5.0, 25.0])

    @pytest.mark.parametrize("limits", [None, Limits(maximum_positions=1)])
    def test_without_volume_no_price_was_made_that_a_trailing_stop_could_follow(self, limits):
        # nobody traded at 120, so the stop stays at 90 % of 100; with volume it would be at 108
        bars = market(100, 100, (100, 120, 100, 110, 0.0), (100, 100, 95, 96), (96, 96, 89, 89))
        terms = {"costs": FREE.replace(impact=1e-9), "exits_policy": Exits(trailing_stop=0.1), "limits": limits}
        result = run_weights(np.array([0.5, *[np.nan] * 4]), bars, cash=10_000, **terms)
        assert fills(result)[-1][0] == 4
        assert fills(result)[-1][2:] == (pytest.approx(90.0), "trailing_stop")

    def test_without_volume_nothing_trades_and_a_stop_goes_on_waiting(self):
        costs, empty = Costs(fee_rate=0, slippage=0, impact=0.1), (100, 100, 94, 94, 0.0)
        assert causes(trade([buy()], market(100, empty), costs=costs)) == [
            ("X", "the bar has no volume to trade against")
        ]
        bars = market(100, 100, empty, (94, 94, 93, 93, 1e12))
        result = trade([buy(exits=Exits(stop_loss=0.05))], bars, costs=costs)
        assert [(row[0], row[3]) for row in fills(result)] == [(1, "order"), (3, "stop_loss")]

    def test_a_sale_that_would_move_the_price_below_zero_is_refused(self):
        bars = market(100, (100, 100, 100, 100, 1.0))
        result = trade([sell(100)], bars, costs=Costs(fee_rate=0, slippage=0, impact=1.0), cash=1e6)
        assert causes(result) == [("X", "the bar has no volume to trade against")]


class TestLotsAndMinimum:
    def test_quantities_round_toward_zero_to_lots(self):
        # 0.5 x 10000 / 30 = 166.67 units; tenths: 166.6
        for side in ("buy", "sell"):
            result = trade([Order(time=day(0), side=side, weight=0.5)], market(30, 30), market=Market(lots_per_unit=10))
            assert fills(result)[0][1] == (166.6 if side == "buy" else -166.6)

    @pytest.mark.parametrize(
        ("order", "terms", "reason"),
        [
            (buy(0.04), Market(lots_per_unit=10), "less than one lot"),
            (buy(0.5), Market(minimum_notional=51), "below the market's minimum notional"),
            (buy(0.6, kind="limit", limit=80), Market(minimum_notional=50), "below the market's minimum notional"),
        ],
        ids=["lot", "market order at the close", "limit order at its limit"],
    )
    def test_an_order_that_is_too_small_is_recorded(self, order, terms, reason):
        assert causes(trade([order], market(100, (100, 100, 80, 90)), market=terms)) == [("X", reason)]

    @pytest.mark.parametrize(
        ("terms", "reason"),
        [
            (Market(minimum_notional=200), "below the market's minimum notional"),
            (Market(lots_per_unit=0.5), "less than one lot"),
        ],
    )
    def test_so_is_a_target_that_is_too_small_with_its_units(self, terms, reason):
        # 0.01 x 10000 / 100 = 1 unit, 100 of notional, half a lot; said once, not on every bar
        result = run_weights(np.full(4, 0.01), market(100, 100, 100, 100), market=terms, costs=FREE, cash=10_000)
        assert causes(result) == [("X", reason)]
        assert result.orders["quantity"].tolist() == [1.0]

    def test_and_an_exit_that_is_too_small(self):
        # 50 units at 100, then the price falls to 1: 50 of notional cannot be sold, and that is said
        weights, terms = np.array([0.5, np.nan, 0.0, 0.0]), Market(minimum_notional=60)
        result = run_weights(weights, market(100, 100, 1, 1), market=terms, costs=FREE, cash=10_000)
        assert causes(result) == [("X", "below the market's minimum notional")]
        assert result.orders["quantity"].tolist() == [50.0, -50.0]


class TestCash:
    def test_what_cannot_be_paid_is_rejected_with_the_price_it_met(self):
        # 100 at 101 is 10100, there are 10000
        result = trade([buy(100)], market(100, 101))
        assert causes(result) == [("X", "not enough equity for this exposure at the fill price")]
        assert result.orders["price"].tolist() == [101.0]
        has_equity(result, 10_000, 10_000)

    def test_or_reduced_to_what_can(self):
        # 10000 / (101 x 1.001) = 98.91: 98 whole lots
        terms = Market(insufficient_cash="reduce", lots_per_unit=1)
        result = trade([buy(100)], market(100, 101), market=terms, costs=Costs(fee_rate=0.001, slippage=0))
        has_fills(result, (1, 98, 101, "order"))

    def test_reducing_below_the_minimum_is_a_rejection(self):
        terms = Market(insufficient_cash="reduce", minimum_notional=9_990)
        result = trade([buy(100)], market(100, 101), market=terms, costs=Costs(fee_rate=0.01, slippage=0))
        assert len(causes(result)) == 1

    def test_selling_is_possible_without_cash(self):
        result = trade([buy(100), sell(40, bar=1)], market(100, 100, 50))
        assert result.positions["quantity"].iloc[-1] == 60

    def test_of_several_orders_the_sale_comes_first_and_pays_for_the_purchase(self):
        bars = {name: market(100, 100, 100, symbol=name) for name in "AB"}
        weights = pd.DataFrame({"A": [1.0, 0.0, 0.0], "B": [0.0, 1.0, 1.0]}, index=bars["A"].index)
        result = run_weights(weights, bars, costs=FREE, cash=10_000)
        has_fills(result, (1, 100, 100, "signal"), (2, -100, 100, "signal"), (2, 100, 100, "signal"))

    @pytest.mark.parametrize("names", ["AB", "BA"])
    def test_who_gets_the_last_cash_does_not_depend_on_the_columns(self, names):
        # two orders of 5000 and a fee: the second cannot be paid; by name it is B's, in whatever column
        bars = {name: market(100, 100, symbol=name) for name in names}
        weights = pd.DataFrame(0.5, bars["A"].index, list(names))
        result = run_weights(weights, bars, costs=Costs(fee_rate=0.01, slippage=0), cash=10_000)
        assert causes(result) == [("B", "not enough equity for this exposure at the fill price")]

    def test_a_weight_of_a_lost_account_is_no_order_of_the_other_side(self):
        # short 100 at 100, worth 10000 - 100 x 300 < 0 at 400: a weight of 0.5 buys nothing, and sells nothing
        result = trade([sell(100), Order(time=day(2), side="buy", weight=0.5)], market(100, 100, 400, 400, 400))
        assert len(result.fills) == 1
        assert causes(result) == [("X", "not enough equity for this exposure at the fill price")]


class TestMargin:
    TERMS = Market(maximum_leverage=5, maintenance_margin=0.1, liquidation_fee_rate=0.01)

    def margin(self, order, *bars, **options):
        return trade([order], market(100, *bars), market=self.TERMS, cash=1_000, **options)

    @pytest.mark.parametrize(("quantity", "admitted"), [(20.0, 1), (20.01, 0)])
    def test_leverage_admits_exposure_up_to_its_multiple(self, quantity, admitted):
        result = trade([buy(quantity)], market(100, 100), market=Market(maximum_leverage=2), cash=1_000)
        assert len(result.fills) == admitted

    def test_a_long_position_is_liquidated_at_its_price(self):
        # 40 at 100: cash -3000. -3000 + 40 p = 0.1 x 40 p at p = 3000 / 36 = 83.33; fee 1 % of 3333.33
        result = self.margin(buy(40), 100, (100, 100, 83, 99))
        has_fills(result, (1, 40, 100, "order"), (2, -40, 3000 / 36, "liquidation"))
        has_equity(result, -3000 + 40 * 3000 / 36 * 0.99)
        assert result.cash_book["kind"].tolist() == ["liquidation_fee"]

    def test_not_a_cent_earlier(self):
        assert len(self.margin(buy(40), 100, (100, 100, 83.34, 99)).fills) == 1

    def test_a_short_position_as_well(self):
        # cash 5000: 5000 - 40 p = 0.1 x 40 p at p = 5000 / 44 = 113.64
        result = self.margin(sell(40), 100, (100, 114, 100, 101))
        has_fills(result, (1, -40, 100, "order"), (2, 40, 5000 / 44, "liquidation"))

    def test_a_gap_is_liquidated_at_the_open_and_may_cost_more_than_there_is(self):
        # -3000 + 40 x 70 x 0.99 = -228
        result = self.margin(buy(40), 100, (70, 75, 69, 74))
        has_fills(result, (1, 40, 100, "order"), (2, -40, 70, "liquidation"))
        has_equity(result, -228)

    def test_a_margin_call_comes_before(self):
        # at 90: exposure 3600 / 5 = 720, equity 600
        result = self.margin(buy(40), 100, 90, 90)
        assert result.cash_book[["time", "kind"]].to_numpy().tolist() == [[day(2), "margin_call"]]

    def test_a_stop_above_the_liquidation_comes_first(self):
        result = self.margin(buy(40, exits=Exits(stop_loss=0.1)), 100, (100, 100, 80, 85))
        assert fills(result)[-1][2:] == (90.0, "stop_loss")

    def test_several_positions_are_liquidated_together_at_the_close(self):
        # 20 of each at 100; both close at 80: cash -3000, 40 x 80 = 3200: equity 200 < 320
        bars = {name: market(100, 100, (100, 100, 80, 80), symbol=name) for name in "AB"}
        result = trade([buy(20, symbol="A"), buy(20, symbol="B")], bars, market=self.TERMS, cash=1_000)
        assert [row[2:] for row in fills(result)[2:]] == [(80.0, "liquidation")] * 2
        has_equity(result, 200 - 32)


class TestFunding:
    RATE = 0.001

    def paid(self, order, time, bars=None):
        funding = pd.Series([self.RATE], pd.DatetimeIndex([time]))
        result = trade([order], market(100, 100, (100, 120, 100, 110), 110) if bars is None else bars, funding=funding)
        return result.cash_book[["kind", "amount"]].to_numpy().tolist()

    def test_longs_pay_and_shorts_receive_at_the_open(self):
        # 10 x 100 x 0.001 at the open of bar 2
        assert self.paid(buy(), day(2)) == [["funding", pytest.approx(-1.0)]]
        assert self.paid(sell(), day(2)) == [["funding", pytest.approx(1.0)]]

    def test_inside_of_the_bar_at_its_close(self):
        # 10 x 110 x 0.001
        assert self.paid(buy(), day(2) + pd.Timedelta(hours=8)) == [["funding", pytest.approx(-1.1)]]

    def test_a_position_bought_at_that_open_does_not_pay(self):
        assert self.paid(buy(), day(1)) == []


class TestCarry:
    """Rates of 36.5 % per year: a thousandth per day of the 365-day calendar."""

    def test_who_sells_short_pays_for_the_borrowed_asset(self):
        # 10 x 100 x 0.001, then 10 x 110 x 0.001
        result = trade([sell()], market(100, 100, 110), costs=Costs(fee_rate=0, slippage=0, borrow_rate=0.365))
        assert result.cash_book["amount"].tolist() == pytest.approx([-1.0, -1.1])
        assert result.costs_by_kind["borrow"] == pytest.approx(2.1)

    def test_who_borrows_cash_pays_interest_and_interest_on_it(self):
        # 150 at 100: cash -5000: 5 on the first day, 5.005 on the second
        costs = Costs(fee_rate=0, slippage=0, interest_rate=0.365)
        result = trade([buy(150)], market(100, 100, 100), costs=costs, market=Market(maximum_leverage=2))
        assert result.cash_book["amount"].tolist() == pytest.approx([-5.0, -5.005])


class TestTargets:
    def test_a_weight_decided_on_a_close_earns_the_next_return(self):
        # opens are the closes before: 0.5 x 10 % = 5 %
        bars = market(100, (100, 110, 100, 110), (110, 110, 99, 99))
        result = run_weights(np.array([0.5, 0.0, 0.0]), bars, costs=FREE, cash=10_000)
        assert result.returns.tolist() == pytest.approx([0.0, 0.05, 0.0])

    def test_positions_are_reached_in_units(self):
        result = run_positions(np.array([5.0, -3.0, np.nan, 0.0, 0.0]), market(100, 100, 100, 100, 100), costs=FREE)
        assert [row[:2] for row in fills(result)] == [(1, 5.0), (2, -8.0), (4, 3.0)]

    def test_events_enter_leave_and_flip(self):
        on = [np.isin(np.arange(7), bars) for bars in ([0], [2], [3], [5])]
        bars, size = market(*[100] * 7), {"size": 0.5, "costs": FREE, "cash": 10_000}
        result = run_signals(on[0], on[1], bars, short_entries=on[2], short_exits=on[3], **size)
        assert [row[:2] for row in fills(result)] == [(1, 50.0), (3, -50.0), (4, -50.0), (6, 50.0)]
        flip = run_signals(on[0], None, bars, short_entries=on[2], **size)
        assert [row[:2] for row in fills(flip)] == [(1, 50.0), (4, -100.0)]
