"""What limits of risk forbid, when they say so, and that they never keep an account from reducing."""

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, Market, Order, run_weights
from tradelib.risk import Exits, Limits, Protection


def buy(quantity=10.0, bar=0, **more):
    return Order(time=day(bar), side="buy", quantity=quantity, **more)


def sell(quantity=10.0, bar=0, **more):
    return Order(time=day(bar), side="sell", quantity=quantity, **more)


def still(names="ABC", bars=4, price=100):
    return {name: market(*[price] * bars, symbol=name) for name in names}


def opening_bars(result):
    return [row[0] for row in fills(result) if row[3] in ("order", "signal")]


class TestPositionsAndExposure:
    def test_no_more_positions_than_allowed(self):
        orders = [buy(symbol=name) for name in "ABC"]
        result = trade(orders, still(), limits=Limits(maximum_positions=2))
        assert causes(result) == [("C", "limit: too many open positions")]

    def test_which_ones_does_not_depend_on_the_columns(self):
        weights = 0.2
        for names in ("ABC", "CBA"):
            bars = still(names)
            frame = pd.DataFrame(weights, bars["A"].index, list(names))
            result = run_weights(frame, bars, limits=Limits(maximum_positions=2), costs=FREE)
            assert set(result.fills["symbol"]) == {"A", "B"}

    def test_gross_exposure(self):
        # 40 x 100 = 4000 is within half of 10000, 4000 + 2000 is not; a short counts as much
        orders = [buy(40, symbol="A"), sell(20, symbol="B"), sell(10, symbol="C")]
        result = trade(orders, still(), limits=Limits(maximum_exposure=0.5))
        assert causes(result) == [("B", "limit: too much gross exposure")]

    def test_heat_is_the_loss_down_to_the_stops(self):
        # a stop 2 below: 50 units risk 100, 25 risk 50; 1.5 % of 10000 is 150. Without a stop all of it is at risk
        limits, stop = Limits(maximum_heat=0.015), {"exits": Exits(stop_loss=0.02)}
        fits = trade([buy(50, symbol="A", **stop), buy(25, symbol="B", **stop)], still(), limits=limits)
        assert (len(fits.fills), causes(fits)) == (2, [])
        result = trade([buy(50, symbol="A", **stop), buy(26, symbol="B", **stop)], still(), limits=limits)
        assert causes(result) == [("B", "limit: too much portfolio heat")]
        assert causes(trade([buy(2)], market(100, 100), limits=limits)) == [("X", "limit: too much portfolio heat")]

    def test_heat_of_what_is_held_is_measured_from_its_stop(self):
        # 50 units with a stop at 98 risk 350 at 105; 10 more at 105, 2.1 below, risk 21: in all more than 3 % of 10250
        bars, stop = market(100, 100, 105, 105, 105), {"exits": Exits(stop_loss=0.02)}
        orders = [buy(50, symbol="X", **stop), buy(10, bar=2, kind="limit", limit=105)]
        assert causes(trade(orders, bars, limits=Limits(maximum_heat=0.03))) == [
            ("X", "limit: too much portfolio heat")
        ]
        assert causes(trade(orders, bars, limits=Limits(maximum_heat=0.05))) == []

    def test_resting_orders_are_asked_again_when_they_fill(self):
        # placed on three closes, each alone within the limit; all of them meet bar 4
        bars = {name: market(100, 100, 100, 100, (100, 100, 95, 96), symbol=name) for name in "ABC"}
        orders = [buy(bar=i, kind="limit", limit=95, symbol=name) for i, name in enumerate("ABC")]
        result = trade(orders, bars, limits=Limits(maximum_positions=2))
        assert [row[1] for row in fills(result, symbols=True)] == [4, 4]
        assert causes(result) == [("C", "limit: too many open positions")]
        result = trade(orders, bars, limits=Limits(maximum_exposure=0.2))
        assert causes(result) == [("C", "limit: too much gross exposure")]

    def test_a_blacklisted_symbol_is_never_entered(self):
        result = trade([buy(symbol="A"), buy(symbol="B")], still("AB"), limits=Limits(blacklist=("B",)))
        assert causes(result) == [("B", "limit: the symbol is blacklisted")]

    def test_reducing_is_always_allowed(self):
        # the short half of a flip is forbidden, its long half is closed all the same
        result = trade([buy(40), sell(90, bar=1)], market(100, 100, 100, 100), limits=Limits(maximum_exposure=0.45))
        has_fills(result, (1, 40, 100, "order"), (2, -40, 100, "order"))
        assert causes(result) == [("X", "limit: too much gross exposure")]

    def test_also_inside_of_a_bar(self):
        # at 105 only 40 of the 90 may be sold
        orders = [buy(40), sell(90, bar=1, kind="limit", limit=105)]
        result = trade(orders, market(100, 100, (100, 105, 100, 104), 104), limits=Limits(maximum_exposure=0.45))
        has_fills(result, (1, 40, 100, "order"), (2, -40, 105, "order"))


class TestDailyLoss:
    """Hourly bars: 24 of them are a day."""

    LIMIT = Limits(daily_loss=0.05)

    def test_unrealised_losses_count_and_everything_is_closed_at_the_next_open(self):
        # 50 at 100; at 89: -550 is more than 5 % of 10000, nothing of it realised
        bars = market(100, 100, 100, 89, 88, *[88] * 22, timeframe="1h")
        hour = [bars.index[i] for i in range(len(bars))]
        orders = [
            Order(time=hour[0], side="buy", quantity=50),
            *[Order(time=hour[i], side="buy", quantity=1) for i in (3, 10, 24)],
        ]
        result = trade(orders, bars, limits=self.LIMIT)
        # decided on bars 3 and 10 of the same day: refused; on bar 24, the next day: filled on bar 25
        has_fills(result, (1, 50, 100, "order"), (4, -50, 88, "daily_loss"), (25, 1, 88, "order"))
        assert causes(result) == [("X", "limit: halted for the day after the daily loss")] * 2
        assert result.cash_book["kind"].tolist() == ["daily_loss_halt"]

    def test_a_resting_entry_does_not_fill_while_halted(self):
        bars = market(100, 100, 100, 89, 88, 80, *[88] * 5, timeframe="1h")
        times = bars.index
        orders = [
            Order(time=times[0], side="buy", quantity=50),
            Order(time=times[0], side="buy", quantity=1, kind="limit", limit=85),
        ]
        result = trade(orders, bars, limits=self.LIMIT)
        assert [row[0] for row in fills(result)] == [1, 4]
        assert causes(result) == [("X", "limit: halted for the day after the daily loss")]

    def test_what_the_account_sells_on_that_close_is_not_sold_twice(self):
        bars = market(100, 100, 100, 89, 88, 88, timeframe="1h")
        times = bars.index
        orders = [Order(time=times[0], side="buy", quantity=50), Order(time=times[3], side="sell", quantity=50)]
        result = trade(orders, bars, limits=self.LIMIT)
        assert result.positions["quantity"].iloc[-1] == 0
        assert len(result.fills) == 2

    def test_a_day_begins_with_the_equity_of_the_day_before(self):
        # daily bars: -4 %, -4 %: no day loses 5 %
        bars = market(100, 100, 96, 92, 92)
        assert len(trade([buy(100)], bars, limits=self.LIMIT).fills) == 1
        assert len(trade([buy(100)], market(100, 100, 96, 91, 91), limits=self.LIMIT).fills) == 2


class TestDrawdown:
    @pytest.mark.parametrize(("pause", "returns"), [(1, 5), (2, 6), (None, None)])
    def test_it_closes_everything_and_pauses_for_so_many_bars(self, pause, returns):
        # tripped on the close of bar 3 (87 of 110), closed at the open of bar 4; the pause covers bars 4, 5, ...
        bars, limits = market(100, 100, 110, 87, 87, 87, 87, 87), Limits(maximum_drawdown=0.2, drawdown_pause=pause)
        result = run_weights(np.full(8, 1.0), bars, limits=limits, costs=FREE, cash=10_000, band=None)
        expected = [(1, 100, 100, "signal"), (4, -100, 87, "drawdown")]
        has_fills(result, *expected, *([(returns, 100, 87, "signal")] if returns else []))
        assert {reason for _, reason in causes(result)} == (
            set() if pause == 1 else {"limit: halted after the drawdown"}
        )
        assert result.cash_book["kind"].tolist() == ["drawdown_halt"]

    def test_after_the_pause_the_loss_is_measured_from_there(self):
        # from 8700 on, not from 11000: at 80 the account is at 8000, 8 % down
        bars, limits = market(100, 100, 110, 87, 87, 87, 80, 80), Limits(maximum_drawdown=0.2, drawdown_pause=1)
        result = run_weights(np.full(8, 1.0), bars, limits=limits, costs=FREE, cash=10_000, band=None)
        assert [row[0] for row in fills(result)] == [1, 4, 5]


class TestLosses:
    def losing(self, *entries, bars=10):
        """A long trade that loses one per unit for each entry, sold on the bar after it was bought."""
        orders = [order for bar in entries for order in (buy(1, bar=bar), sell(1, bar=bar + 1, reduce_only=True))]
        return orders, market(*[100 - i for i in range(bars)])

    def test_two_in_a_row_pause_entries(self):
        # bought on bars 1 and 3, sold on 2 and 4: after the second loss, one bar (5) without entries
        orders, bars = self.losing(0, 2, 4, 5)
        result = trade(orders, bars, limits=Limits(consecutive_losses=2, loss_pause=1))
        assert causes(result) == [("X", "limit: halted after consecutive losses")]
        assert [row[0] for row in fills(result) if row[1] > 0] == [1, 3, 6]

    def test_a_gain_starts_the_count_anew(self):
        bars = market(100, 100, 99, 99, 101, 101, 100, 100, 100)
        orders = [order for bar in (0, 2, 4, 6) for order in (buy(1, bar=bar), sell(1, bar=bar + 1))]
        assert causes(trade(orders, bars, limits=Limits(consecutive_losses=2, loss_pause=5))) == []

    def test_fees_make_a_loss(self):
        bars = market(*[100] * 8)
        orders = [order for bar in (0, 2, 4) for order in (buy(1, bar=bar), sell(1, bar=bar + 1, reduce_only=True))]
        result = trade(
            orders, bars, costs=Costs(fee_rate=0.01, slippage=0), limits=Limits(consecutive_losses=2, loss_pause=5)
        )
        assert len(causes(result)) == 1

    def test_a_halted_flip_closes(self):
        # A loses once; B is long and turns: its long half is closed, the short one is refused until the pause is over
        bars = still("AB", 7) | {"A": market(100, 100, 90, 90, 90, 90, 90, symbol="A")}
        weights = pd.DataFrame(
            {"A": [0.1, 0.0, 0, 0, 0, 0, 0], "B": [0.5, 0.5, -0.5, -0.5, -0.5, -0.5, -0.5]}, bars["A"].index
        )
        limits = Limits(consecutive_losses=1, loss_pause=2)
        result = run_weights(weights, bars, limits=limits, costs=FREE, cash=10_000, band=None)
        mine = [(bar, side) for symbol, bar, side, *_ in fills(result, symbols=True) if symbol == "B"]
        assert [(bar, np.sign(side)) for bar, side in mine] == [(1, 1), (3, -1), (5, -1)]
        assert result.positions["B"].tolist()[3:5] == [0, 0]


class TestCooldown:
    @pytest.mark.parametrize(("cooldown", "bars"), [(0, [1, 3]), (1, [1, 4]), (2, [1, 5])])
    def test_so_many_bars_without_an_entry(self, cooldown, bars):
        # stopped out on bar 2; the signal is always on
        prices = market(100, 100, (100, 100, 90, 95), *[95] * 5)
        result = run_weights(
            np.full(8, 0.5), prices, exits_policy=Exits(stop_loss=0.05, reentry="any_time"), costs=FREE, cash=10_000,
            limits=Limits(cooldown=cooldown), band=None,
        )  # fmt: skip
        assert opening_bars(result) == bars

    def test_it_holds_for_resting_orders_and_for_one_symbol_alone(self):
        bars = {name: market(100, 100, (100, 100, 90, 95), (95, 95, 90, 94), 94, symbol=name) for name in "AB"}
        orders = [
            buy(symbol="A", exits=Exits(stop_loss=0.05)),
            *[buy(bar=2, kind="limit", limit=92, symbol=name) for name in "AB"],
        ]
        result = trade(orders, bars, limits=Limits(cooldown=1))
        assert [row[:2] for row in fills(result, symbols=True)] == [("A", 1), ("A", 2), ("B", 3)]
        assert causes(result) == [("A", "limit: the symbol is cooling down")]


class TestConcentrationAndNet:
    def test_one_symbol(self):
        # 50 x 100 is half of 10000, one more is not; another symbol has room of its own
        orders = [buy(50, symbol="A"), buy(1, bar=1, symbol="A"), buy(50, symbol="B")]
        result = trade(orders, still("AB"), limits=Limits(maximum_symbol_exposure=0.5))
        assert causes(result) == [("A", "limit: too much of one symbol")]
        has_equity(result, 10_000)
        assert causes(trade([sell(51)], market(100, 100), limits=Limits(maximum_symbol_exposure=0.5))) != []

    def test_what_has_grown_is_not_sold_but_does_not_grow_further(self):
        # 50 at 120 are 6000 of 11000: more than half; adding is refused, selling is not
        orders = [buy(50), buy(1, bar=2), sell(10, bar=2)]
        result = trade(orders, market(100, 100, 120, 120, 120), limits=Limits(maximum_symbol_exposure=0.5))
        has_fills(result, (1, 50, 100, "order"), (3, -10, 120, "order"))
        assert causes(result) == [("X", "limit: too much of one symbol")]

    def test_net_is_long_minus_short(self):
        # long 40 x 100 alone is 4000 > 3000; after a short of 2000 it leaves 2000 net; 11 more make 3100
        orders = [
            buy(40, symbol="A"), sell(20, bar=1, symbol="B"), buy(40, bar=2, symbol="A"), buy(11, bar=3, symbol="C"),
        ]  # fmt: skip
        result = trade(orders, still(bars=6), limits=Limits(maximum_net_exposure=0.3))
        assert causes(result) == [("A", "limit: too much net exposure"), ("C", "limit: too much net exposure")]
        assert [row[:3] for row in fills(result, symbols=True)] == [("B", 2, -20), ("A", 3, 40)]

    def test_an_order_that_lowers_the_net_exposure_passes(self):
        # A doubles: net is 6000 of 13000, 46 %; a short of B of 1000 lowers it to 38 %, which is still too much for C
        bars = still(bars=5) | {"A": market(100, 100, 200, 200, 200, symbol="A")}
        orders = [buy(30, symbol="A"), sell(10, bar=2, symbol="B"), buy(1, bar=2, symbol="C")]
        result = trade(orders, bars, limits=Limits(maximum_net_exposure=0.35))
        assert [row[:3] for row in fills(result, symbols=True)] == [("A", 1, 30), ("B", 3, -10)]
        assert causes(result) == [("C", "limit: too much net exposure")]


class TestClusters:
    """A and B have the same returns, C stands still: two clusters, once there are three returns."""

    BARS = {
        "A": market(100, 101, 99, 102, 102, 102, symbol="A"),
        "B": market(200, 202, 198, 204, 204, 204, symbol="B"),
        "C": market(*[100] * 6, symbol="C"),
    }
    LIMIT = Limits(maximum_cluster_exposure=0.5, cluster_window=3, cluster_every=1, cluster_correlation=0.9)

    def test_what_moves_together_has_one_room(self):
        # at 102 and 204: A 20 are 2040, B 15 are 3060, together 5100 > 5000; C has 5000 for itself
        orders = [buy(20, bar=3, symbol="A"), buy(15, bar=3, symbol="B"), buy(50, bar=3, symbol="C")]
        result = trade(orders, self.BARS, limits=self.LIMIT, market=Market(maximum_leverage=3))
        assert causes(result) == [("B", "limit: too much of one cluster of correlated symbols")]
        orders[1] = buy(14, bar=3, symbol="B")  # 2040 + 2856 = 4896
        assert causes(trade(orders, self.BARS, limits=self.LIMIT, market=Market(maximum_leverage=3))) == []

    def test_the_other_side_has_its_own_room(self):
        orders = [buy(40, bar=3, symbol="A"), sell(20, bar=3, symbol="B")]
        assert causes(trade(orders, self.BARS, limits=self.LIMIT)) == []

    def test_before_there_are_enough_returns_nothing_is_allowed(self):
        # two returns at the close of bar 2
        result = trade([buy(1, bar=2, symbol="A"), buy(1, bar=3, symbol="A")], self.BARS, limits=self.LIMIT)
        assert causes(result) == [("A", "limit: too few bars so far to measure it")]
        assert [row[1] for row in fills(result, symbols=True)] == [4]

    def test_estimates_are_renewed_on_their_schedule_only(self):
        # day 19723 is 2024-01-01; every 5 bars: 19725, 19730, so at rows 2 (too early), 7 and 12. B leaves A at row 8
        same = [100, 101, 99, 102, 100, 101, 103, 104, 103, 104, 103, 104, 103, 103, 103]
        other = [*same[:8], 105, 103, 105, 103, 106, 106, 106]
        bars = {"A": market(*same, symbol="A"), "B": market(*other, symbol="B")}
        limits = self.LIMIT.replace(cluster_every=5)
        orders = [buy(30, bar=6, symbol="A")]
        orders += [buy(30, bar=11, symbol="A"), buy(30, bar=11, symbol="B"), buy(30, bar=12, symbol="B")]
        result = trade(orders, bars, limits=limits)
        assert causes(result) == [
            ("A", "limit: too few bars so far to measure it"),
            ("B", "limit: too much of one cluster of correlated symbols"),
        ]
        assert [row[:2] for row in fills(result, symbols=True)] == [("A", 12), ("B", 13)]


class TestValueAtRisk:
    """Bars 4 to 7 return -10 %, +11.1 %, -5 %, +5.3 %, all others nothing. Of 20 bars and 10 % two are the tail."""

    PATH = (*[100] * 4, 90, 100, 95, *[100] * 18)
    RISK = {"risk_window": 20, "risk_alpha": 0.1}

    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            # the second worst of 40 x 100: 5 % of 4000 = 200, 2 % of 10000; of 41: 205
            ({"maximum_value_at_risk": 0.02}, "limit: too much value at risk"),
            # the mean of the two worst of 4000: (400 + 200) / 2 = 300, 3 % of 10000; of 41: 307.5
            ({"maximum_expected_shortfall": 0.03}, "limit: too much expected shortfall"),
        ],
    )
    def test_the_proposed_book_is_imagined_through_the_past(self, limits, reason):
        options = {"limits": Limits(**limits, **self.RISK)}
        assert causes(trade([buy(40, bar=20)], market(*self.PATH), **options)) == []
        assert causes(trade([buy(41, bar=20)], market(*self.PATH), **options)) == [("X", reason)]
        assert causes(trade([buy(40, bar=20), buy(1, bar=22)], market(*self.PATH), **options)) == [("X", reason)]

    def test_a_bar_before_the_window_is_full_nothing_is_allowed(self):
        limits = Limits(maximum_value_at_risk=0.02, **self.RISK)
        result = trade([buy(1, bar=19), buy(1, bar=20)], market(*self.PATH), limits=limits)
        assert causes(result) == [("X", "limit: too few bars so far to measure it")]
        has_fills(result, (21, 1, 100, "order"))

    def test_a_hedge_makes_room_and_is_never_refused(self):
        # 40 of X are at the limit; 20 short of the same path halve it, then 20 more of X fit and 21 do not
        bars = {name: market(*self.PATH, symbol=name) for name in "XY"}
        limits = Limits(maximum_value_at_risk=0.02, **self.RISK)
        orders = [buy(40, bar=20, symbol="X"), sell(20, bar=20, symbol="Y"), buy(21, bar=20, symbol="X")]
        options = {"limits": limits, "market": Market(maximum_leverage=3)}
        assert causes(trade(orders, bars, **options)) == [("X", "limit: too much value at risk")]
        orders[2] = buy(20, bar=20, symbol="X")
        assert causes(trade(orders, bars, **options)) == []

    def test_what_lowers_it_passes_even_where_it_stays_too_high(self):
        # at 50 the 40 of X are 2000 of 8000; the second worst bar is -10 %: 200 > 160. One Y short: 195, still > 160
        bars = {name: market(*self.PATH[:22], 50, 50, 50, symbol=name) for name in "XY"}
        orders = [buy(40, bar=20, symbol="X"), sell(1, bar=22, symbol="Y"), buy(1, bar=23, symbol="X")]
        result = trade(orders, bars, limits=Limits(maximum_value_at_risk=0.02, **self.RISK))
        assert [row[:2] for row in fills(result, symbols=True)] == [("X", 21), ("Y", 23)]
        assert causes(result) == [("X", "limit: too much value at risk")]

    def test_what_a_reducing_order_frees_is_free_on_the_same_close(self):
        bars = {name: market(*self.PATH, symbol=name) for name in "XY"}
        orders = [buy(40, bar=20, symbol="X"), sell(30, bar=22, symbol="X"), buy(30, bar=22, symbol="Y")]
        limits = Limits(maximum_value_at_risk=0.02, **self.RISK)
        assert causes(trade(orders, bars, limits=limits)) == []
        orders[2] = buy(31, bar=22, symbol="Y")
        assert causes(trade(orders, bars, limits=limits)) == [("Y", "limit: too much value at risk")]

    def test_a_resting_order_is_asked_again_with_the_past_up_to_the_close_before(self):
        # placed when nothing was bad; bars 21 and 22 fall by 10 %, known when 85 is touched on bar 23
        path = [*[100] * 21, 90, 100, (100, 100, 84, 84), 84]
        limits = Limits(maximum_value_at_risk=0.02, **self.RISK)
        order = buy(50, bar=20, kind="limit", limit=85)
        bad = [*[100] * 21, 90, 81, (81, 90, 79, 80), 80]
        assert causes(trade([order], market(*path), limits=limits)) == []  # one bad bar is not two
        assert causes(trade([order], market(*bad), limits=limits)) == []  # filled on bar 22: 21 alone was known
        late = buy(50, bar=20, kind="limit", limit=80)  # touched on bar 23: 50 x 80 x 10 % = 400 > 200
        assert causes(trade([late], market(*bad), limits=limits)) == [("X", "limit: too much value at risk")]
        both = {"X": market(*path, symbol="X"), "Y": market(*path, symbol="Y")}  # what else is held is no wiser
        held = [buy(50, bar=20, symbol="Y"), buy(50, bar=20, kind="limit", limit=85, symbol="X")]
        assert causes(trade(held, both, limits=limits)) == []


class TestVolatility:
    """Returns of +1 % and -1 %: 1.4142 % a day, 27.018 % a year of 365 days."""

    BARS = market(100, 101, 99.99, 99.99, 99.99)

    def test_the_cap_is_base_times_target_over_realised(self):
        # 0.135 / 0.270185 = 0.49966 of 10000 is 4996.6: 49 x 99.99 = 4899.5 fits, 50 x 99.99 = 4999.5 does not
        limits = Limits(target_volatility=0.135, volatility_window=2)
        assert causes(trade([buy(49, bar=2)], self.BARS, limits=limits)) == []
        refused = causes(trade([buy(50, bar=2)], self.BARS, limits=limits))
        assert refused == [("X", "limit: more exposure than the volatility allows")]
        assert causes(trade([buy(98, bar=2)], self.BARS, limits=limits.replace(leverage_base=2.0))) == []

    def test_between_the_floor_and_the_ceiling(self):
        low = Limits(target_volatility=0.01, volatility_window=2, leverage_floor=0.3)
        assert [len(causes(trade([buy(q, bar=2)], self.BARS, limits=low))) for q in (30, 31)] == [0, 1]
        high = Limits(target_volatility=5.0, volatility_window=2, leverage_ceiling=0.6)
        assert [len(causes(trade([buy(q, bar=2)], self.BARS, limits=high))) for q in (60, 61)] == [0, 1]

    def test_without_any_movement_the_ceiling_counts(self):
        limits = Limits(target_volatility=0.1, volatility_window=2, leverage_ceiling=0.6)
        assert [len(causes(trade([buy(q, bar=2)], still("X"), limits=limits))) for q in (60, 61)] == [0, 1]

    def test_too_early(self):
        limits = Limits(target_volatility=5.0, volatility_window=2)
        assert causes(trade([buy(1, bar=1)], self.BARS, limits=limits)) == [
            ("X", "limit: too few bars so far to measure it")
        ]


class TestDays:
    def at(self, bars, hour, side="buy", quantity=1, **more):
        return Order(time=bars.index[hour], side=side, quantity=quantity, **more)

    def test_so_many_orders_that_add(self):
        # two on the first day; sales are free; the day ends at midnight: bar 24
        bars = market(*[100] * 30, timeframe="1h")
        orders = [self.at(bars, hour) for hour in (0, 5, 9, 23, 24)]
        orders += [self.at(bars, hour, "sell", 0.5) for hour in (10, 11)]
        result = trade(orders, bars, limits=Limits(daily_orders=2))
        assert causes(result) == [("X", "limit: too many orders on one day")] * 2
        assert [row[0] for row in fills(result)] == [1, 6, 11, 12, 25]

    def test_a_resting_order_counts_when_it_is_placed(self):
        bars = market(*[100] * 30, timeframe="1h")
        orders = [self.at(bars, 0, kind="limit", limit=50), self.at(bars, 1)]
        assert causes(trade(orders, bars, limits=Limits(daily_orders=1))) == [
            ("X", "limit: too many orders on one day")
        ]

    def test_a_refused_order_does_not_count(self):
        bars = market(*[100] * 30, timeframe="1h")
        orders = [self.at(bars, 0, quantity=60), self.at(bars, 1)]
        result = trade(orders, bars, limits=Limits(daily_orders=1, maximum_exposure=0.5))
        assert causes(result) == [("X", "limit: too much gross exposure")]

    def test_the_daily_profit_ends_the_day(self):
        # 50 at 100; at 110: +500, 5 % of 10000. Closed at 111, entries wait for bar 24
        bars = market(100, 100, 110, *[111] * 25, timeframe="1h")
        orders = [self.at(bars, 0, quantity=50), self.at(bars, 2), self.at(bars, 10), self.at(bars, 24)]
        result = trade(orders, bars, limits=Limits(daily_profit=0.05))
        has_fills(result, (1, 50, 100, "order"), (3, -50, 111, "daily_profit"), (25, 1, 111, "order"))
        assert causes(result) == [("X", "limit: halted for the day after the daily profit")] * 2
        assert result.cash_book["kind"].tolist() == ["daily_profit_halt"]
        assert len(trade(orders[:1], bars, limits=Limits(daily_profit=0.06)).fills) == 1


class TestProtections:
    """Round trips of one bar each: bought on bar k + 1, sold on k + 2."""

    def round_trips(self, *bars, symbol="X", quantity=1):
        return [
            order
            for bar in bars
            for order in (
                buy(quantity, bar=bar, symbol=symbol),
                sell(quantity, bar=bar + 1, symbol=symbol, reduce_only=True),
            )
        ]

    def entered(self, result, symbol="X"):
        return [bar for name, bar, quantity, *_ in fills(result, symbols=True) if quantity > 0 and name == symbol]

    FALLING = market(*[100 - i for i in range(16)])

    def test_losing_trades_bar_the_symbol(self):
        # closed with a loss on bars 2 and 4; barred on bars 5, 6, 7: the entry that would fill on bar 8 is the next
        guard = Protection(measure="losing_trades", window=10, trades=2, pause=3)
        result = trade(self.round_trips(0, 2, 4, 6, 7), self.FALLING, limits=Limits(protections=(guard,)))
        assert self.entered(result) == [1, 3, 8]
        barred = ("X", "limit: barred after losing trades")
        assert [cause for cause in causes(result) if cause[1].startswith("limit")] == [barred, barred]
        assert result.cash_book[["symbol", "kind"]].to_numpy().tolist()[0] == ["X", "protection"]

    def test_losses_outside_of_the_window_are_forgotten(self):
        # closed on bars 2 and 6: five bars of window that end with bar 6 begin with bar 2
        orders = self.round_trips(0, 4, 6)
        for window, entries in ((4, [1, 5, 7]), (5, [1, 5])):
            guard = Protection(measure="losing_trades", window=window, trades=2, pause=3)
            assert self.entered(trade(orders, self.FALLING, limits=Limits(protections=(guard,)))) == entries

    def test_only_losses_beyond_the_given_one_count(self):
        # 100 -> 98 is 2.02 % of 99, bought at 99 and sold at 98: 1/99 = 1.01 %
        for loss, entries in ((0.01, [1]), (0.011, [1, 3])):
            guard = Protection(measure="losing_trades", window=5, loss=loss, pause=3)
            result = trade(self.round_trips(0, 2), self.FALLING, limits=Limits(protections=(guard,)))
            assert self.entered(result) == entries

    def test_other_symbols_are_not_barred_but_the_account_is(self):
        bars = {name: market(*[100 - i for i in range(10)], symbol=name) for name in "AB"}
        orders = self.round_trips(0, symbol="A") + [buy(1, bar=2, symbol=name) for name in "AB"]
        for scope, barred in (("symbol", ["A"]), ("account", ["A", "B"])):
            guard = Protection(measure="losing_trades", scope=scope, window=5, pause=3)
            result = trade(orders, bars, limits=Limits(protections=(guard,)))
            assert [symbol for symbol, _ in causes(result)] == barred
        assert result.cash_book["symbol"].tolist() == [""]

    def test_stopped_trades_are_those_that_a_stop_closed(self):
        # bar 2 falls through the stop at 95; a trade that loses as much and is sold does not count
        guard = Protection(measure="stopped_trades", window=5, pause=2)
        limits = Limits(protections=(guard,))
        bars = market(100, 100, (100, 100, 90, 95), *[95] * 5)
        stopped = [buy(10, exits=Exits(stop_loss=0.05)), buy(1, bar=2), buy(1, bar=3), buy(1, bar=4)]
        result = trade(stopped, bars, limits=limits)
        assert causes(result) == [("X", "limit: barred after stopped trades")] * 2
        assert self.entered(result) == [1, 5]
        sold = market(100, 100, 95, 95, 95)
        assert causes(trade([buy(10), sell(10, bar=1), buy(1, bar=2)], sold, limits=limits)) == []

    def test_the_sum_of_returns(self):
        # +1/100, -3/101: together -1.97 %
        bars = market(100, 100, 101, 101, 98, *[98] * 5)
        orders = [buy(1), sell(1, bar=1), buy(1, bar=2), sell(1, bar=3), buy(1, bar=4)]
        for loss, barred in ((0.019, 1), (0.02, 0)):
            guard = Protection(measure="total_loss", window=9, trades=2, loss=loss, pause=3)
            assert len(causes(trade(orders, bars, limits=Limits(protections=(guard,))))) == barred

    def test_a_profit_may_be_asked_for(self):
        bars = market(*[100] * 8)
        guard = Protection(measure="total_loss", window=9, trades=1, loss=-0.01, pause=3)
        result = trade(self.round_trips(0, 2), bars, limits=Limits(protections=(guard,)))
        assert self.entered(result) == [1]

    def test_the_drawdown_of_the_trades(self):
        # returns +10 %, -1/110, -1/110: down 1.82 % from the best sum, though the sum is a gain
        bars = market(100, 100, 110, 110, 109, 110, 109, *[109] * 5)
        orders = [order for bar in (0, 2, 4) for order in (buy(1, bar=bar), sell(1, bar=bar + 1))] + [buy(1, bar=6)]
        for loss, barred in ((0.018, 1), (0.019, 0)):
            guard = Protection(measure="drawdown", scope="account", window=20, trades=3, loss=loss, pause=3)
            assert len(causes(trade(orders, bars, limits=Limits(protections=(guard,))))) == barred

    def test_the_longer_of_two_bars_counts(self):
        short, long = (Protection(measure="losing_trades", window=5, pause=pause) for pause in (2, 4))
        orders = self.round_trips(0) + [buy(1, bar=bar) for bar in (2, 4, 5, 6)]
        for order in ((short, long), (long, short)):
            assert self.entered(trade(orders, self.FALLING, limits=Limits(protections=order))) == [1, 7]


@pytest.mark.parametrize(
    "limits",
    [
        {"maximum_symbol_exposure": 0.45}, {"maximum_net_exposure": 0.45}, {"daily_orders": 1},
        {"maximum_cluster_exposure": 0.45, "cluster_window": 3, "cluster_every": 1},
        {"target_volatility": 0.001, "volatility_window": 2, "leverage_floor": 0.45},
        {"maximum_value_at_risk": 0.001, "risk_window": 20},
        {"protections": (Protection(measure="losing_trades", window=9, pause=9, scope="account"),)},
    ],
    ids=lambda limits: next(iter(limits)),
)  # fmt: skip
def test_no_limit_keeps_from_reducing(limits):
    # 40 units at 100; X loses or doubles afterwards; half of it, then the rest, are sold whatever was tripped
    path = [*[100, 100.1] * 12, 100, *[100] * 2, 200, 50, 50, 50]
    orders = [buy(40, bar=25), sell(20, bar=27), sell(20, bar=28)]
    options = {"limits": Limits(**limits)} if "maximum_value_at_risk" not in limits else {}
    result = trade(orders, market(*path), **options)
    assert [row[1] for row in fills(result)] == [40, -20, -20]
    assert causes(result) == []


def test_limits_hold_under_leverage_and_exits_at_once():
    # exposure 2 x equity is what the market allows and the limit forbids
    result = trade([buy(150)], market(100, 100), market=Market(maximum_leverage=2), limits=Limits(maximum_exposure=1.0))
    assert causes(result) == [("X", "limit: too much gross exposure")]
    has_equity(result, 10_000)
