"""Where two rules of the account meet: rounding, shared margin, halts, flips, blocks, finer bars with holes."""

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, Market, Order, TrialLedger, kernel, run_signals, run_weights, sweep
from tradelib.backtest.decision import DecisionRule
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import Distance, Exits, Limits
from tradelib.strategies import TrendFollowing

STOP = {"exits": Exits(stop_loss=0.05)}


def buy(quantity=10.0, bar=0, **more):
    return Order(time=day(bar), side="buy", quantity=quantity, **more)


def sell(quantity=10.0, bar=0, **more):
    return Order(time=day(bar), side="sell", quantity=quantity, **more)


def still(names="AB", bars=6, price=100):
    return {name: market(*[price] * bars, symbol=name) for name in names}


def event(bars, *when):
    """True on the bars `when`."""
    return np.isin(np.arange(bars), when)


def weights(*values):
    return np.array(values, float)


class TestDust:
    """0.1 + 0.2 - 0.3 is 5.6e-17: rounding of binary fractions, not a position."""

    TENTHS = (buy(0.1), buy(0.2, bar=1), sell(0.3, bar=2))

    def test_what_is_left_below_a_trillionth_of_the_fill_is_nothing(self):
        assert kernel.position_after(0.1 + 0.2, -0.3, 0.0) == 0.0
        assert kernel.position_after(0.3 - 0.1, -0.2, 0.0) == 0.0  # the other way round: -2.8e-17
        assert kernel.position_after(1.0, -1.0 + 2e-12, 0.0) == pytest.approx(2e-12, rel=1e-3)

    def test_a_sale_that_goes_through_zero_by_rounding_only_reduces(self):
        # 0.3 - 0.1 is 0.19999999999999998; the account has nothing left for anything that opens
        assert kernel.admissible(0.0, 0.3 - 0.1, -0.2, 100.0, 0.0, 1.0, 0.0, 1e9) == kernel.FILLED

    def test_the_next_order_opens_a_position_with_its_bracket(self):
        # 50 bought at 100, out at 95: a loss of 250
        result = trade([*self.TENTHS, buy(50, bar=3, **STOP)], market(*[100] * 5, (100, 100, 80, 80), 80))
        assert result.positions["quantity"].iloc[3] == 0.0
        assert fills(result)[3:] == [(4, 50.0, 100.0, "order"), (5, -50.0, 95.0, "stop_loss")]
        has_equity(result, 9_750)
        assert result.trades["open"].tolist() == [False, False]
        assert result.trades["quantity"].tolist() == pytest.approx([0.3, 50])

    def test_it_takes_no_place(self):
        orders = [*(order.replace(symbol="A") for order in self.TENTHS), buy(1, bar=3, symbol="B")]
        assert causes(trade(orders, still(), limits=Limits(maximum_positions=1))) == []

    def test_trades_and_excursions_count_alike(self):
        orders = [buy(0.3), sell(0.1, bar=1), sell(0.2, bar=2), sell(3, bar=3), buy(3, bar=4)]
        result = trade(orders, market(*[100] * 6))
        assert result.trades[["side", "quantity", "open"]].to_numpy().tolist() == [
            ["long", 0.3, False],
            ["short", 3.0, False],
        ]
        assert result.trades[["mae", "mfe"]].to_numpy().tolist() == [[0.0, 0.0], [0.0, 0.0]]


class TestSeveralOnMargin:
    """Ten times leverage, 5 % maintenance, 1,000 of cash; 40 of A bought and 40 of B sold short at 100 keep the cash.

    A is liquidated where 1000 - 4000 + 40 p = 0.05 (4000 + 40 p): p = 3200 / 38. That leaves 1000 + 40 p = 4368.42.
    """

    TERMS = Market(maximum_leverage=10, maintenance_margin=0.05)
    PAIR = (buy(40, symbol="A"), sell(40, symbol="B"))
    A_LEAVES = 3_200 / 38

    def told(self, orders, a, b, terms=TERMS):
        bars = {"A": market(100, 100, a, a[3], symbol="A"), "B": market(100, 100, b, b[3], symbol="B")}
        result = trade(list(orders), bars, cash=1_000.0, market=terms)
        return result, [(row[0], row[3]) for row in fills(result, symbols=True) if row[4] == "liquidation"]

    @pytest.mark.parametrize("high", [110, 115])
    def test_the_others_are_watched_with_the_cash_that_is_left(self, high):
        # 4368.42 - 40 p = 0.05 x 40 p: p = 4368.42 / 42 = 104.01, equity 4368.42 - 40 x 104.01 = 208.02
        result, gone = self.told(self.PAIR, (100, 100, 80, 80), (100, high, 100, 100))
        cash = 1_000 + 40 * self.A_LEAVES
        assert gone == [("A", pytest.approx(self.A_LEAVES)), ("B", pytest.approx(cash / 42))]
        has_equity(result, cash - 40 * cash / 42)

    def test_the_fee_of_a_liquidation_counts(self):
        # 1 % of 40 x 84.21 is 33.68: B leaves at (4368.42 - 33.68) / 42 = 103.21
        terms = self.TERMS.replace(liquidation_fee_rate=0.01)
        gone = self.told(self.PAIR, (100, 100, 80, 80), (100, 110, 100, 100), terms)[1]
        assert gone[1] == ("B", pytest.approx((1_000 + 0.99 * 40 * self.A_LEAVES) / 42))

    def test_one_that_is_liquidated_relieves_the_other(self):
        # 60 of A and 20 of B: -7000 of cash. A: -7000 + 2000 + 60 p = 0.05 (2000 + 60 p), p = 5100 / 57 = 89.47.
        # Then -7000 + 60 x 89.47 = -1631.58, and B: -1631.58 + 20 p = 0.05 x 20 p, p = 1631.58 / 19 = 85.87
        orders = [buy(60, symbol="A"), buy(20, symbol="B")]
        gone = self.told(orders, (100, 100, 60, 99), (100, 100, 74, 99))[1]
        assert gone == [("A", pytest.approx(5_100 / 57)), ("B", pytest.approx((7_000 - 60 * 5_100 / 57) / 19))]

    def test_what_is_bought_at_the_open_counts_on_that_bar(self):
        # 40 of A held, 60 of B bought at the open of bar 2: -9000 of cash. -9000 + 6000 + 40 p = 0.05 (6000 + 40 p):
        # p = 3300 / 38 = 86.84, and the low is 82
        orders = [buy(40, symbol="A"), buy(60, bar=1, symbol="B")]
        gone = self.told(orders, (100, 100, 82, 99), (100, 100, 100, 100))[1]
        assert gone == [("A", pytest.approx(3_300 / 38))]


class TestHalts:
    def test_a_daily_loss_does_not_hide_the_drawdown(self):
        # 100 bought at 100; at 75 a quarter is lost: more than 10 % today, more than 20 % in all. Out at 90, for good
        bars, limits = market(100, 100, 75, 90, 90, 90, 90), Limits(maximum_drawdown=0.2, daily_loss=0.1)
        result = run_weights(np.ones(7), bars, band=None, limits=limits, costs=FREE, cash=10_000)
        has_fills(result, (1, 100, 100, "signal"), (3, -100, 90, "daily_loss"))
        assert result.cash_book["kind"].tolist() == ["daily_loss_halt", "drawdown_halt"]
        # nothing is wanted anew on the close of the halt itself; from the next day on the drawdown refuses it
        assert {cause for _, cause in causes(result)} == {"limit: halted after the drawdown"}

    def test_a_flip_on_the_close_of_a_halt_is_recorded(self):
        # the long position goes at the next open anyway; the short half is refused, and says why
        # 100 bought at 100; at 75 a quarter is lost
        bars, limits = market(100, 100, 75, 75, 75, 75), Limits(daily_loss=0.1)
        result = run_signals(event(6, 0), None, bars, short_entries=event(6, 2), limits=limits, costs=FREE, size=1.0,
                             cash=10_000)  # fmt: skip
        has_fills(result, (1, 100, 100, "signal"), (3, -100, 75, "daily_loss"))
        assert causes(result) == [("X", "limit: halted for the day after the daily loss")]

    def test_so_is_a_fresh_event_of_the_side_that_leaves(self):
        bars, limits = market(100, 100, 75, 75, 75, 75), Limits(daily_loss=0.1)
        result = run_signals(event(6, 0, 2), None, bars, limits=limits, costs=FREE, size=1.0, cash=10_000)
        has_fills(result, (1, 100, 100, "signal"), (3, -100, 75, "daily_loss"))
        assert causes(result) == [("X", "limit: halted for the day after the daily loss")]


class TestTimeExitAndEntry:
    """Held for two bars, bought at the open of bar 1: on the close of bar 2 it is to leave at the open of bar 3."""

    OPTIONS = {"exits_policy": Exits(time_exit=2), "costs": FREE, "cash": 10_000}

    def test_a_flip_by_event_enters_at_the_same_open(self):
        result = run_signals(event(5, 0), None, market(*[100] * 5), short_entries=event(5, 2), size=0.5, **self.OPTIONS)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 100, "time_exit"), (3, -50, 100, "signal"))
        assert result.trades["side"].tolist() == ["long", "short"]

    def test_a_flip_by_weight_enters_at_the_same_open(self):
        # at 110 the account has 10000 + 50 x 10 = 10500, 40 % of it are 4200: 38.18 units
        bars = market(100, 100, (100, 110, 100, 110), 110, 110)
        result = run_weights(weights(0.5, 0.5, -0.4, -0.4, -0.4), bars, band=None, **self.OPTIONS)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 110, "time_exit"), (3, -4_200 / 110, 110, "signal"))

    def test_an_unchanged_weight_stays_out(self):
        result = run_weights(np.full(6, 0.5), market(*[100] * 6), band=None, **self.OPTIONS)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 100, "time_exit"))

    @pytest.mark.parametrize(("again", "fill"), [(2, 3), (3, 4)])
    def test_a_fresh_event_enters_again(self, again, fill):
        result = run_signals(event(5, 0, again), None, market(*[100] * 5), size=0.5, **self.OPTIONS)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 100, "time_exit"), (fill, 50, 100, "signal"))

    def test_with_others_whose_orders_are_sorted(self):
        # A turns, B is bought: at one open first A's old side goes, then the smaller entry, 1,000, then A's new side
        bars, on = still(bars=4), market(*[100] * 4).index
        both = {"A": [0.5, 0.5, -0.5, -0.5], "B": [0, 0, 0.1, 0.1]}
        result = run_weights(pd.DataFrame(both, on), bars, band=None, **self.OPTIONS)
        assert fills(result, symbols=True)[1:] == [
            ("A", 3, -50.0, 100.0, "time_exit"),
            ("B", 3, 10.0, 100.0, "signal"),
            ("A", 3, -50.0, 100.0, "signal"),
        ]


class TestBlock:
    BARS = market(100, 100, 100, (90, 90, 90, 90), *[90] * 4)  # out at the open of bar 3

    def test_an_event_on_the_bar_of_the_stop_is_a_new_one(self):
        # 50 bought at 100, out at 90: 9500; a half of it at 90 is 52.78
        result = run_signals(event(8, 0, 3), None, self.BARS, size=0.5, exits_policy=STOP["exits"], costs=FREE,
                             cash=10_000)  # fmt: skip
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 90, "stop_loss"), (4, 4_750 / 90, 90, "signal"))

    @pytest.mark.parametrize("between", [0.5, np.nan])
    def test_a_weight_that_has_not_changed_stays_blocked_and_no_opinion_is_no_change(self, between):
        given = weights(0.5, 0.5, 0.5, 0.5, between, between, 0.5, 0.5)
        result = run_weights(given, self.BARS, band=None, exits_policy=STOP["exits"], costs=FREE, cash=10_000)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 90, "stop_loss"))

    def test_zero_is_a_change(self):
        given = weights(0.5, 0.5, 0.5, 0.5, 0, np.nan, 0.5, 0.5)
        result = run_weights(given, self.BARS, band=None, exits_policy=STOP["exits"], costs=FREE, cash=10_000)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 90, "stop_loss"), (7, 4_750 / 90, 90, "signal"))

    def test_rows_outside_of_a_schedule_lift_nothing(self):
        # decided on the last bars of January and February (30 and 59); stopped at the open of bar 35
        bars = market(*[100] * 35, *[90] * 35)
        result = run_weights(np.full(70, 0.5), bars, rebalance="monthly", band=None, exits_policy=STOP["exits"],
                             costs=FREE, cash=10_000)  # fmt: skip
        has_fills(result, (31, 50, 100, "signal"), (35, -50, 90, "stop_loss"))


class TestFinerBarsThatDoNotMakeUpTheirBar:
    """Bought at 100 with a stop at 95 and a target at 101, on a bar from 100 up to 101, down to 90, to 100."""

    DAYS = (100, 100, (100, 101, 90, 100), 100)
    HALVES = (100, 100, 100, 100, (100, 101, 99, 100), (100, 100, 90, 100), 100, 100)
    EXITS = Exits(stop_loss=0.05, take_profit=0.01)

    def told(self, halves, drop=()):
        finer = market(*halves, timeframe="12h")
        finer = finer.drop(finer.index[list(drop)])
        result = trade([buy(exits=self.EXITS)], market(*self.DAYS), finer=finer)
        return fills(result)[1:]

    def test_a_whole_bar_follows_its_finer_bars(self):
        assert self.told(self.HALVES) == [(2, -10.0, 101.0, "take_profit")]

    @pytest.mark.parametrize("drop", [(5,), (4,), (4, 5)])
    def test_one_with_a_hole_is_read_as_a_bar(self, drop):
        assert self.told(self.HALVES, drop) == [(2, -10.0, 95.0, "stop_loss")]

    @pytest.mark.parametrize(
        "second",
        [(100, 100, 96, 100), (100, 100, 90, 99), (100, 100.5, 90, 100)],
        ids=["a low that is not reached", "another close", "complete"],
    )
    def test_so_is_one_whose_prices_are_not_reached(self, second):
        complete = second[2:] == (90, 100)
        expected = (2, -10.0, 101.0, "take_profit") if complete else (2, -10.0, 95.0, "stop_loss")
        assert self.told((*self.HALVES[:5], second, 100, 100)) == [expected]

    def test_a_trailing_stop_moves_at_the_end_of_the_bar_then(self):
        # the high of 110 moves the stop to 110 x 0.95 = 104.5 after the bar only; the next one opens below, at 100
        bars = market(100, 100, (100, 110, 99, 100), 100)
        finer = market(100, 100, 100, 100, (100, 110, 100, 105), (105, 105, 99.5, 100), 100, 100, timeframe="12h")
        orders = [buy(exits=Exits(trailing_stop=0.05))]
        has_fills(trade(orders, bars, finer=finer), (1, 10, 100, "order"), (3, -10, 100, "trailing_stop"))

    def test_it_concerns_the_symbol_that_lacks_them(self):
        # B's second half stops at 96: B is read as a bar, A follows its path
        bars = {name: market(*self.DAYS, symbol=name) for name in "AB"}
        halves = {"A": self.HALVES, "B": (*self.HALVES[:5], (100, 100, 96, 100), 100, 100)}
        finer = {name: market(*rows, symbol=name, timeframe="12h") for name, rows in halves.items()}
        result = trade([buy(exits=self.EXITS, symbol=name) for name in "AB"], bars, finer=finer)
        assert {(row[0], row[3]) for row in fills(result, symbols=True)[2:]} == {("A", 101.0), ("B", 95.0)}


class TestHeatOfAFlip:
    """50 bought at 100; at 104 the stop is at the entry and nothing is at risk. The equity is 10,200, 5 % of it 510."""

    BARS = market(100, 100, (100, 104, 100, 104), 104, 104)
    EXITS, LIMITS = Exits(stop_loss=0.1, break_even=0.02), Limits(maximum_heat=0.05)

    def test_all_of_the_new_side_counts_by_its_own_stop(self):
        # all in short: 98.08 x 10.4 = 1020 at risk, though the old stop was 4 away
        options = {"band": None, "exits_policy": self.EXITS, "limits": self.LIMITS, "costs": FREE, "cash": 10_000}
        result = run_weights(weights(0.5, 0.5, -1, np.nan, np.nan), self.BARS, **options)
        has_fills(result, (1, 50, 100, "signal"), (3, -50, 104, "signal"))
        assert causes(result) == [("X", "limit: too much portfolio heat")]
        # one half short: 49.04 x 10.4 = 510
        result = run_weights(weights(0.5, 0.5, -0.5, np.nan, np.nan), self.BARS, **options)
        has_fills(result, (1, 50, 100, "signal"), (3, -50 - 5_100 / 104, 104, "signal"))

    @pytest.mark.parametrize(("quantity", "fits"), [(200, False), (99, True)])
    def test_so_it_does_when_a_resting_order_turns(self, quantity, fits):
        # 150 short at 104 risk 1560; 49 risk 509.6
        orders = [buy(50, exits=self.EXITS), sell(quantity, bar=2, kind="limit", limit=104, exits=self.EXITS)]
        result = trade(orders, self.BARS, limits=self.LIMITS)
        has_fills(result, (1, 50, 100, "order"), (3, -quantity if fits else -50, 104, "order"))
        assert causes(result) == ([] if fits else [("X", "limit: too much portfolio heat")])


class TestRotation:
    """What leaves on a close makes room for what enters on it: reducing orders fill first."""

    def told(self, leaves, enters, limits, **options):
        bars = still(bars=5)
        on = bars["A"].index
        entries = pd.DataFrame({leaves: event(5, 0), enters: event(5, 2)}, on)[["A", "B"]]
        exits = pd.DataFrame({leaves: event(5, 2), enters: event(5)}, on)[["A", "B"]]
        result = run_signals(entries, exits, bars, limits=limits, size=0.5, costs=FREE, cash=10_000, **options)
        return [row[:3] for row in fills(result, symbols=True)]

    @pytest.mark.parametrize(("leaves", "enters"), ["AB", "BA"])
    @pytest.mark.parametrize("limits", [{"maximum_positions": 1}, {"maximum_exposure": 0.6}, {"maximum_heat": 0.04}])
    def test_an_exit_by_signal(self, leaves, enters, limits):
        # one place; 0.5 of exposure each; with a stop of 5 % a heat of 0.025 each
        expected = [(leaves, 1, 50.0), (leaves, 3, -50.0), (enters, 3, 50.0)]
        assert self.told(leaves, enters, Limits(**limits), exits_policy=STOP["exits"]) == expected

    @pytest.mark.parametrize(("one", "other"), ["AB", "BA"])
    def test_what_is_reduced_in_part(self, one, other):
        # 0.6 of exposure in all: from 0.5 down to 0.2 leaves room for 0.4, not for 0.5
        for weight, fits in ((0.4, True), (0.5, False)):
            bars = still(bars=4)
            given = pd.DataFrame({one: [0.5, 0.5, 0.2, 0.2], other: [0, 0, weight, weight]}, bars["A"].index)
            result = run_weights(given[["A", "B"]], bars, limits=Limits(maximum_exposure=0.6), costs=FREE, cash=10_000)
            entered = [row for row in fills(result, symbols=True) if row[0] == other]
            assert entered == ([(other, 3, 40.0, 100.0, "signal")] if fits else [])

    def test_orders_that_are_sent_together(self):
        orders = [buy(symbol="A"), sell(bar=2, symbol="A"), buy(bar=2, symbol="B")]
        assert causes(trade(orders, still(), limits=Limits(maximum_positions=1))) == []


class TestReducedToWhatFits:
    """Impact 0.5 x sqrt(q / 10,000): 100 of it move the price by 5 %."""

    OPTIONS = {"costs": Costs(fee_rate=0, slippage=0, impact=0.5), "market": Market(insufficient_cash="reduce")}
    BARS = market(*[(100, 100, 100, 100, 10_000)] * 4)

    @pytest.mark.parametrize("asked", [101, 400, 20_000])
    def test_a_purchase_pays_the_impact_of_what_it_buys(self, asked):
        # 100 x 105 = 10,500: all that there is, however much was asked for
        has_fills(trade([buy(asked)], self.BARS, cash=10_500.0, **self.OPTIONS), (1, 100, 105, "order"))

    def test_a_short_sale_too(self):
        # 100 x 95 = 9,500 of exposure
        has_fills(trade([sell(400)], self.BARS, cash=9_500.0, **self.OPTIONS), (1, -100, 95, "order"))

    def test_whole_lots_are_cut_off_last(self):
        # 101 would cost 101 x 105.025 = 10,607.5
        options = self.OPTIONS | {"market": Market(insufficient_cash="reduce", lots_per_unit=1)}
        has_fills(trade([buy(400)], self.BARS, cash=10_600.0, **options), (1, 100, 105, "order"))

    def test_a_flip(self):
        # 36 held, bought at 103. A sale of 100 is 64 short at 95: 64 x 95 = 6,080 = 10000 - 36 x 103 + 36 x 95 - 3,632
        cash = 6_080 + 36 * 103 - 36 * 95
        result = trade([buy(36), sell(400, bar=1)], self.BARS, cash=float(cash), **self.OPTIONS)
        has_fills(result, (1, 36, 103, "order"), (2, -100, 95, "order"))


class TestFlipThatCannotBePaid:
    """99 of 10,000 bought at 100 with a fee of 1 %: 1 of cash is left. 99 more sold short could not pay its own fee."""

    COSTS = Costs(fee_rate=0.01, slippage=0)

    def test_it_closes_and_the_rest_is_recorded(self):
        # decided at 103: 1 + 99 x 103 = 10,198 of equity, 98.02 units short. Filled at 104: the sale of 99 leaves
        # 1 + 99 x 104 x 0.99 = 10,194.04, less a fee of 101.94, against an exposure of 98.02 x 104 = 10,194.0
        bars = market(100, 100, 100, 103, 104, 104)
        result = run_signals(event(6, 0), None, bars, short_entries=event(6, 3), size=0.99, costs=self.COSTS,
                             cash=10_000)  # fmt: skip
        has_fills(result, (1, 99, 100, "signal"), (4, -99, 104, "signal"))
        has_equity(result, 1 + 99 * 104 * 0.99)
        rejected = result.orders[result.orders["status"] == "rejected"]
        assert rejected["quantity"].tolist() == pytest.approx([-0.99 * (1 + 99 * 103) / 103])
        assert causes(result) == [("X", "not enough equity for this exposure at the fill price")]

    def test_it_closes_when_nothing_of_the_rest_fits(self):
        # "reduce", but with the other position no exposure is left for the short side of A
        terms, bars = Market(insufficient_cash="reduce"), {
            "A": market(100, 100, 100, 100, symbol="A"), "B": market(100, 100, 200, 200, symbol="B")}  # fmt: skip
        orders = [sell(20, symbol="A"), sell(80, symbol="B"), buy(50, bar=1, symbol="A")]
        result = trade(orders, bars, market=terms)
        # 10,000 of cash + 10,000 sold - 2,000 - 16,000 = 2,000 of equity, 18,000 of exposure: A's 20 are bought back
        assert fills(result, symbols=True)[2:] == [("A", 2, 20.0, 100.0, "order")]
        assert result.orders.iloc[-1][["quantity", "status"]].tolist() == [30.0, "rejected"]


class TestMarginCall:
    def test_each_position_gets_its_own(self):
        # 40 at 100 with 1,000: at 90 worth 3,600 on 600, six times: called, and sold. Then 28 at 100 with 600; at 90
        # worth 2,520 on 320, 7.9 times: called again
        orders = [buy(40), sell(40, bar=2), buy(28, bar=5), sell(28, bar=7)]
        bars = market(100, 100, 90, 90, 100, 100, (100, 100, 90, 90), 90, 90)
        result = trade(orders, bars, cash=1_000.0, market=Market(maximum_leverage=5, maintenance_margin=0.1))
        assert result.cash_book[["time", "kind"]].to_numpy().tolist() == [
            [day(2), "margin_call"],
            [day(6), "margin_call"],
        ]


class TestGroups:
    def test_of_two_market_orders_the_first_to_fill_cancels_the_other(self):
        # at one open the smaller value goes first
        result = trade([buy(1, group="g"), sell(3, group="g")], market(100, 100, 100))
        has_fills(result, (1, 1, 100, "order"))
        assert causes(result, "cancelled") == [("X", "another order of its group was filled")]

    def test_what_reduces_goes_first(self):
        result = trade([buy(5), buy(1, bar=1, group="g"), sell(3, bar=1, group="g")], market(*[100] * 4))
        has_fills(result, (1, 5, 100, "order"), (2, -3, 100, "order"))


class TestTheOpen:
    def test_a_market_order_of_the_close_before_goes_ahead_of_the_stop(self):
        # the open of 90 is beyond the stop at 95 as well: the order was there first, the stop dies with its position
        result = trade([buy(**STOP), sell(bar=1)], market(100, 100, 90, 90))
        has_fills(result, (1, 10, 100, "order"), (2, -10, 90, "order"))

    def test_exits_of_an_order_that_only_adds_are_not_used(self):
        # the position keeps the 5 % it was opened with, now from (100 + 104) / 2 = 102: 96.9
        orders = [buy(**STOP), buy(bar=1, exits=Exits(stop_loss=0.01))]
        result = trade(orders, market(100, 100, 104, (104, 104, 96, 96)))
        has_fills(result, (1, 10, 100, "order"), (2, 10, 104, "order"), (3, -20, 96.9, "stop_loss"))


class TestPoliciesThatContradict:
    def test_two_windows_of_the_atr(self):
        def exits(window):
            return Exits(stop_loss=Distance(value=2, unit="atr"), atr_window=window)

        with pytest.raises(ParameterError, match="ATRs of 3 bars, exits_policy in ATRs of 2: use one window"):
            trade([buy(bar=3, exits=exits(3))], market(*[100] * 6), exits_policy=exits(2))

    @pytest.mark.parametrize(("value", "fits"), [(3, True), (2, False), (1, False)])
    def test_a_break_even_move_beyond_its_trigger(self, value, fits):
        # at 100 an offset of 2 % is 102: a gain of 3 reaches further, one of 2 or 1 does not
        exits = Exits(break_even=Distance(value=value, unit="price"), break_even_offset=0.02)
        result = trade([buy(exits=exits)], market(100, 100, 100))
        told = "a protective level lies on the wrong side of the entry price"
        assert causes(result) == ([] if fits else [("X", told)])


class TestRefusedResume:
    GRID = {"strategy.fast": range(2, 8), "strategy.slow": [20, 30]}
    RULE = DecisionRule(strategy=TrendFollowing(), rebalance_band=None)

    @pytest.mark.parametrize("start", [None, "2000-03-01"])
    def test_figures_of_other_code_reach_neither_the_result_nor_the_ledger(self, tmp_path, start):
        bars, file, fresh = probe_bars(300, seed=3), tmp_path / "points", TrialLedger(tmp_path / "fresh")
        sweep(self.RULE, bars, self.GRID, start=start, ledger=TrialLedger(tmp_path / "first"), resume=file)
        with np.load(file) as held:
            kept = {name: held[name] for name in held.files}
        with file.open("wb") as changed:
            np.savez(changed, **{**kept, "figures": kept["figures"] * 1e6})
        before = file.read_bytes()
        with pytest.raises(ParameterError, match="has other figures now"):
            sweep(self.RULE, bars, self.GRID, start=start, ledger=fresh, resume=file)
        assert fresh.families() == {}
        assert file.read_bytes() == before
