"""What limits of risk forbid, when they say so, and that they never keep an account from reducing."""

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, causes, day, fills, has_equity, has_fills, market, trade
from tradelib.backtest import Costs, Market, Order, run_weights
from tradelib.risk import Exits, Limits


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


def test_limits_hold_under_leverage_and_exits_at_once():
    # exposure 2 x equity is what the market allows and the limit forbids
    result = trade([buy(150)], market(100, 100), market=Market(maximum_leverage=2), limits=Limits(maximum_exposure=1.0))
    assert causes(result) == [("X", "limit: too much gross exposure")]
    has_equity(result, 10_000)
