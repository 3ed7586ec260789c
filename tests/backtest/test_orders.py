"""Explicit orders: what an order must say, how a plan is read, what becomes of brackets, groups and grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, day, market
from tradelib.backtest import Market, Order, Result, TrialLedger, grid, run_orders
from tradelib.backtest.orders import order_script
from tradelib.data.panel import as_panel
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Exits

BARS = market(100, 100, (100, 104, 96, 102), 102, 102, 102)
"""Two quiet days, one that reaches 104 and 96, three quiet ones."""


@pytest.fixture
def ledger(tmp_path: Path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


def order(number: int, side: str = "buy", **terms: Any) -> Order:
    """An order decided on the close of bar `number`, of one unit unless told otherwise."""
    terms = terms if "weight" in terms or "quantity" in terms else {"quantity": 1.0, **terms}
    return Order(time=day(number), side=side, **terms)


def endings(result: Result) -> list[tuple[str, str]]:
    """(status, reason) of every order that was given, in the sequence of placing."""
    given = result.orders[result.orders["origin"] == "order"]
    return list(zip(given["status"], given["reason"], strict=True))


class TestAnOrderSaysEverythingItNeeds:
    @pytest.mark.parametrize(
        ("terms", "message"),
        [
            ({}, "give either quantity or weight"),
            ({"quantity": 1, "weight": 0.5}, "give either quantity or weight"),
            ({"quantity": 0}, "quantity = 0: Input should be greater than 0"),
            ({"quantity": -1}, "quantity = -1: Input should be greater than 0"),
            ({"quantity": float("nan")}, "quantity = nan: Input should be a finite number"),
            ({"quantity": float("inf")}, "quantity = inf: Input should be a finite number"),
            ({"weight": 101}, "weight = 101: Input should be less than or equal to 100"),
            ({"quantity": 1, "side": "long"}, "side = 'long': Input should be 'buy' or 'sell'"),
            ({"quantity": 1, "kind": "limt"}, "kind = 'limt': Input should be 'market', 'limit', 'stop'"),
            ({"quantity": 1, "kind": "limit"}, "a limit order needs limit"),
            ({"quantity": 1, "kind": "stop"}, "a stop order needs stop"),
            ({"quantity": 1, "kind": "stop_limit", "stop": 9}, "a stop_limit order needs limit"),
            ({"quantity": 1, "kind": "trailing_stop"}, "a trailing_stop order needs trail"),
            ({"quantity": 1, "limit": 9}, "a market order has no limit"),
            ({"quantity": 1, "kind": "limit", "limit": 9, "stop": 8}, "a limit order has no stop"),
            ({"quantity": 1, "kind": "limit", "limit": -9}, "limit = -9: Input should be greater than 0"),
            ({"quantity": 1, "kind": "stop", "stop": 9, "spacing": 1}, "only limit orders form a grid"),
            (
                {"quantity": 1, "kind": "trailing_stop", "trail": {"value": 2, "unit": "atr"}},
                "an order trails by a fraction or a price, not by atr",
            ),
            ({"quantity": 1, "good_for": 0}, "good_for = 0: Input should be greater than or equal to 1"),
            ({"quantity": 1, "qantity": 2}, "did you mean 'quantity'"),
            ({"quantity": 1, "time": "yesterday"}, "time"),
        ],
    )
    def test_or_it_is_refused_with_the_field_and_the_value(self, terms, message):
        with pytest.raises(ParameterError, match=message):
            Order(**{"time": day(0), "side": "buy", **terms})

    def test_it_does_not_change_any_more(self):
        with pytest.raises(Exception, match="frozen"):
            order(0).quantity = 2.0

    def test_a_time_without_a_zone_is_utc(self):
        assert order(0).replace(time="2024-01-03 00:00").time == pd.Timestamp("2024-01-03", tz="UTC")


class TestAPlanIsRead:
    def test_from_orders_or_from_a_table_with_the_same_outcome(self, ledger):
        plan = [order(0), order(1, "sell", kind="limit", limit=103.0), order(2, weight=0.1, good_for=2)]
        table = pd.DataFrame(
            [
                {"time": day(0), "side": "buy", "quantity": 1.0},
                {"time": "2024-01-02", "side": "sell", "quantity": 1.0, "kind": "limit", "limit": 103.0},
                {"time": day(2), "side": "buy", "weight": 0.1, "good_for": 2},
            ]
        ).fillna({"kind": "market"})
        one, other = (run_orders(given, BARS, costs=FREE, ledger=ledger) for given in (plan, table))
        pd.testing.assert_frame_equal(one.orders, other.orders)
        assert len(one.fills) == 3

    def test_one_order_needs_no_list_and_a_generator_will_do(self, ledger):
        alone = run_orders(order(0), BARS, ledger=ledger)
        lazy = run_orders((order(number) for number in [0]), BARS, ledger=ledger)
        pd.testing.assert_frame_equal(alone.fills, lazy.fills)

    def test_in_the_sequence_of_time_whatever_the_sequence_of_the_list(self, ledger):
        result = run_orders([order(3, "sell"), order(0)], BARS, costs=FREE, ledger=ledger)
        assert result.orders["side"].tolist() == ["buy", "sell"]

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            ([], "there are no orders to run"),
            (["buy"], "row 0 of the orders is 'buy': give an Order, or a dict of its fields"),
            (
                pd.DataFrame({"time": [day(0), day(1)], "side": ["buy", "hold"], "quantity": 1.0}),
                "row 1 of the orders: Order: side = 'hold'",
            ),
            (
                pd.DataFrame({"time": [day(0)], "side": ["buy"], "qty": [1.0]}),
                "row 0 of the orders: Order has no parameter 'qty'",
            ),
            (
                pd.DataFrame({"side": ["buy"], "quantity": [1.0]}),
                "row 0 of the orders: Order needs the parameter 'time'",
            ),
            ([order(0, symbol="Y")], "the order at 2024-01-01 00:00:00[+]00:00 is for 'Y'; the bars hold X"),
            ([order(99)], "there is no bar at 2024-04-09.*placed on the close of a bar of the data"),
            (
                [order(0, exits=Exits(stop_loss={"value": 2, "unit": "atr"}, atr_window=n)) for n in (5, 14)],
                r"ATRs of \[5, 14\] bars: use one window",
            ),
        ],
    )
    def test_what_is_wrong_is_named_and_nothing_is_counted(self, ledger, plan, message):
        with pytest.raises(ParameterError, match=message):
            run_orders(plan, BARS, ledger=ledger)
        assert ledger.families() == {}

    def test_orders_before_the_account_begins_are_refused(self, ledger):
        with pytest.raises(ParameterError, match="1 orders are placed before the account begins at 2024-01-04"):
            run_orders([order(0), order(3)], BARS, start="2024-01-04", ledger=ledger)
        assert len(run_orders(order(2), BARS, start="2024-01-04", ledger=ledger).fills) == 1

    def test_an_empty_window_is_refused(self, ledger):
        with pytest.raises(DataError, match="no bar lies between"):
            run_orders(order(0), BARS, start="2030-01-01", ledger=ledger)

    def test_of_several_symbols_each_order_names_its_own(self, ledger):
        two = as_panel({"X": BARS, "Y": market(*[50] * 6, symbol="Y")})
        result = run_orders([order(0, symbol="Y"), order(0, symbol="X")], two, costs=FREE, ledger=ledger)
        assert dict(zip(result.fills["symbol"], result.fills["price"], strict=True)) == {"X": 100.0, "Y": 50.0}
        with pytest.raises(ParameterError, match="names no symbol; the bars hold X, Y"):
            run_orders(order(0), two, ledger=ledger)

    def test_a_run_is_one_trial_however_many_orders_it_has(self, ledger):
        run_orders([order(0), order(1), order(2)], BARS, name="plan", ledger=ledger)
        assert ledger.families() == {"plan|X|1d": 1}

    def test_the_script_is_sorted_and_carries_the_policies_of_its_orders(self):
        plan = [order(2), order(0, exits=Exits(stop_loss=0.1)), order(1, exits=Exits(stop_loss=0.2))]
        script, policies = order_script(plan, as_panel(BARS))
        assert np.diff(script[:, 12]).tolist() == [1.0, 1.0]  # bars of placing
        assert len(policies) == 2


class TestHowOrdersEnd:
    """Bar 2 runs from 100 down to 96, up to 104, and closes at 102."""

    @pytest.mark.parametrize(
        ("given", "ending"),
        [
            (order(0), ("filled", "")),
            (order(1, kind="limit", limit=96.0), ("filled", "")),
            (order(1, kind="limit", limit=95.9), ("pending", "")),
            (order(1, kind="limit", limit=95.9, good_for=2), ("expired", "its time was over")),
            (order(1, kind="stop", stop=104.0), ("filled", "")),
            (order(1, kind="stop", stop=104.1, good_for=1), ("expired", "its time was over")),
            (order(0, weight=2.0), ("rejected", "not enough equity for this exposure at the fill price")),
            (order(0, "sell", reduce_only=True), ("cancelled", "there is no position to reduce")),
            (order(5), ("pending", "placed on the last bar: there is no next open")),
        ],
    )
    def test_with_a_status_and_a_reason(self, ledger, given, ending):
        assert endings(run_orders(given, BARS, costs=FREE, ledger=ledger)) == [ending]

    @pytest.mark.parametrize(("good_for", "status"), [(1, "expired"), (2, "filled"), (3, "filled"), (None, "filled")])
    def test_good_for_counts_the_bars_from_the_next_one_on(self, ledger, good_for, status):
        """Placed on bar 0: bar 1 is quiet, bar 2 touches."""
        result = run_orders(order(0, kind="limit", limit=97.0, good_for=good_for), BARS, costs=FREE, ledger=ledger)
        assert endings(result)[0][0] == status

    def test_below_the_smallest_order_or_lot_it_is_rejected(self, ledger):
        small = Market(minimum_notional=150.0)
        assert endings(run_orders(order(0), BARS, market=small, ledger=ledger)) == [
            ("rejected", "below the market's minimum notional")
        ]
        coarse = Market(lots_per_unit=0.5)
        assert endings(run_orders(order(0), BARS, market=coarse, ledger=ledger)) == [("rejected", "less than one lot")]

    def test_a_weight_is_measured_at_the_close_of_the_decision(self, ledger):
        """100,000 of equity at a close of 102: half of it is 490.196 units, whatever the next open."""
        gap = market(100, 102, (110, 110, 110, 110), 110)
        result = run_orders(order(1, weight=0.5), gap, costs=FREE, ledger=ledger)
        assert result.fills["quantity"].tolist() == [pytest.approx(50_000 / 102)]
        assert result.fills["price"].tolist() == [110.0]


class TestGroupsAndBrackets:
    def test_one_cancels_the_other(self, ledger):
        """Bar 2 reaches both stops; whichever fills, the other is withdrawn."""
        sides = {"buy": 103.0, "sell": 97.0}
        plan = [order(1, side, kind="stop", stop=stop, group="break") for side, stop in sides.items()]
        result = run_orders(plan, BARS, costs=FREE, ledger=ledger)
        assert sorted(endings(result)) == [("cancelled", "another order of its group was filled"), ("filled", "")]

    def test_groups_of_other_names_leave_each_other_alone(self, ledger):
        plan = [order(1, kind="limit", limit=99.0, group="a"), order(1, kind="limit", limit=98.0, group="b")]
        assert endings(run_orders(plan, BARS, costs=FREE, ledger=ledger)) == [("filled", ""), ("filled", "")]

    def test_a_group_across_symbols_is_refused(self, ledger):
        two = as_panel({"X": BARS, "Y": market(*[50] * 6, symbol="Y")})
        plan = [order(0, symbol=symbol, kind="limit", limit=40.0, group="pair") for symbol in ("X", "Y")]
        with pytest.raises(ParameterError, match="group 'pair' spans X, Y"):
            run_orders(plan, two, ledger=ledger)

    @pytest.mark.parametrize(
        ("third", "price", "origin"),
        [
            ((100, 104, 99, 103), 103.0, "take_profit"),
            ((100, 101, 97, 98), 98.0, "stop_loss"),
            ((100, 104, 97, 100), 98.0, "stop_loss"),
        ],
    )
    def test_a_bracket_leaves_at_target_or_stop_and_at_the_stop_if_nobody_knows(self, ledger, third, price, origin):
        bracket = order(0, exits=Exits(stop_loss=0.02, take_profit=0.03))
        result = run_orders(bracket, market(100, 100, third, third[3]), costs=FREE, ledger=ledger)
        trade = result.trades.iloc[0]
        assert (trade["exit_price"], trade["reason"]) == (pytest.approx(price), origin)
        assert (result.orders["status"] == "cancelled").sum() == 1

    def test_an_order_without_exits_of_its_own_takes_those_of_the_account(self, ledger):
        falling = market(100, 100, (100, 100, 80, 80), 80)
        guarded = order(0, exits=Exits(stop_loss=0.05))
        for given, price in ((order(0), 90.0), (guarded, 95.0)):
            result = run_orders(given, falling, exits_policy=Exits(stop_loss=0.10), costs=FREE, ledger=ledger)
            assert result.trades["exit_price"].tolist() == [pytest.approx(price)]


class TestGrid:
    def test_buys_below_and_sells_above_none_at_the_price(self):
        ladder = grid(day(0), 96.0, 104.0, 5, 2.0, 100.0)
        assert [(one.side, one.limit) for one in ladder] == [("buy", 96), ("buy", 98), ("sell", 102), ("sell", 104)]
        assert {(one.quantity, one.spacing, one.kind) for one in ladder} == {(2.0, 2.0, "limit")}

    def test_what_fills_comes_back_on_the_other_side_one_spacing_away(self, ledger):
        """Down through 98 and up again through 100: one unit earns the spacing, and the buy at 98 waits anew."""
        bars = market(100, 100, (100, 100, 97.5, 97.5), (97.5, 101, 97.5, 101), 101)
        result = run_orders(grid(day(0), 96.0, 104.0, 5, 1.0, 100.0), bars, costs=FREE, ledger=ledger)
        told = list(zip(result.fills["side"], result.fills["price"], strict=True))
        assert told == [("buy", 98.0), ("sell", 100.0)]
        waiting = result.orders[result.orders["status"] == "pending"]
        assert sorted(zip(waiting["side"], waiting["limit"], strict=True)) == [
            ("buy", 96.0), ("buy", 98.0), ("sell", 102.0), ("sell", 104.0),
        ]  # fmt: skip
        assert result.equity.iloc[-1] - result.initial_cash == pytest.approx(2.0)

    @pytest.mark.parametrize(
        ("lower", "upper", "levels", "price"),
        [
            (104, 96, 5, 100),
            (0, 104, 5, 100),
            (96, 104, 1, 100),
            (96, float("inf"), 5, 100),
            (96, 104, 5, float("nan")),
        ],
    )
    def test_what_is_no_grid_is_refused(self, lower, upper, levels, price):
        with pytest.raises(ParameterError, match="a grid needs 0 < lower < upper, two levels or more and a price"):
            grid(day(0), lower, upper, levels, 1.0, price)
