"""What cannot be meant is refused, with the value and, where there is one, the bar and the symbol."""

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, causes, day, market, trade
from tradelib.backtest import Costs, Market, Order, run, run_orders, run_positions, run_signals, run_weights
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Distance, Exits, Limits
from tradelib.strategies import Strategy

BARS = market(*[100] * 6)
ON = np.arange(6) == 0


def with_value(column, value, row=3):
    broken = BARS.copy()
    broken.iloc[row, broken.columns.get_loc(column)] = value
    return broken


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -5.0])
@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_what_is_not_a_price_is_refused_with_its_bar(column, value):
    with pytest.raises(DataError, match="2024-01-04"):
        run_weights(np.full(6, 0.5), with_value(column, value), costs=FREE)


def test_the_symbol_is_named_where_there_are_several():
    bars = {"A": BARS, "B": with_value("close", np.nan)}
    with pytest.raises(DataError, match="B: row 3, 2024-01-04"):
        run_weights(np.full((6, 2), 0.5), bars)


def test_symbols_on_different_bars_are_refused():
    bars = {"A": market(*[100] * 6, symbol="A"), "B": market(*[100] * 5, symbol="B")}
    with pytest.raises(DataError, match="B has no bar at 2024-01-06"):
        run_weights(np.full((6, 2), 0.1), bars)


class Broken(Strategy):
    """A signal that is the number in `text` on bar 3."""

    text: str

    def signals(self, bars):
        return pd.Series(np.where(np.arange(len(bars)) == 3, float(self.text), 0.5), bars.index)


TARGETS = {
    "infinite weight": (lambda: run_weights(np.array([0.5, np.inf, 0, 0, 0, 0]), BARS), "weights of X at 2024-01-02"),
    "infinite position": (
        lambda: run_positions(np.array([0.5, -np.inf, 0, 0, 0, 0]), BARS), "positions of X at 2024-01-02"),
    "weights beyond leverage": (
        lambda: run_weights(np.array([0.5, -1.5, 0, 0, 0, 0]), BARS), "2024-01-02.*1.5.*leverage"),
    "weights of another length": (lambda: run_weights(np.full(5, 0.5), BARS), "shape"),
    "weights at other times": (
        lambda: run_weights(pd.Series(0.5, BARS.index + pd.Timedelta(hours=1)), BARS), "times of the bars"),
    "weights of another symbol": (lambda: run_weights(pd.DataFrame(0.5, BARS.index, ["A"]), BARS), "symbols"),
    "size of nothing": (lambda: run_signals(ON, None, BARS, size=0.0), "size is 0"),
    "negative size": (lambda: run_signals(ON, None, BARS, size=-0.5), "size is -0.5"),
    "size that is no number": (lambda: run_signals(ON, None, BARS, size=np.nan), "size is nan"),
    "size beyond leverage": (lambda: run_signals(ON, None, BARS, size=1.5), "maximum_leverage of 1"),
    "signals that are numbers": (lambda: run_signals(ON * 1.0, None, BARS), "true or false"),
    "in and out at once": (lambda: run_signals(ON, ON, BARS), "X enters and exits long at 2024-01-01"),
    "both sides at once": (lambda: run_signals(ON, None, BARS, short_entries=ON), "X enters both ways at 2024-01-01"),
    "a signal that is no number": (lambda: run(Broken(text="nan"), BARS), "2024-01-04"),
    "an infinite signal": (lambda: run(Broken(text="inf"), BARS), "2024-01-04"),
    "a signal beyond one": (lambda: run(Broken(text="1.5"), BARS), "2024-01-04"),
    "no cash": (lambda: run_weights(np.full(6, 0.5), BARS, cash=0.0), "cash"),
    "a window after the data": (lambda: run_weights(np.full(6, 0.5), BARS, start="2030-01-01"), "no bar lies between"),
    "a window the wrong way round": (
        lambda: run_weights(np.full(6, 0.5), BARS, start="2024-01-05", end="2024-01-03"),
        "start 2024-01-05 is later than end 2024-01-03"),
    "funding that is no number": (
        lambda: run_weights(np.full(6, 0.5), BARS, funding=pd.Series([np.nan], pd.DatetimeIndex([day(1)]))),
        "funding of X at 2024-01-02"),
    "finer bars that are not finer": (lambda: run_weights(np.full(6, 0.5), BARS, finer=BARS), "do not divide"),
    "finer bars outside of their bars": (
        lambda: run_weights(np.full(6, 0.5), BARS, finer=market(100, 120, *[100] * 10, timeframe="12h")),
        "X.*2024-01-01"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "told"), TARGETS.values(), ids=TARGETS)
def test_what_cannot_be_run_is_refused(call, told):
    with pytest.raises((DataError, ParameterError), match=f"(?s){told}"):
        call()


ORDERS = {
    "negative quantity": {"quantity": -1},
    "no quantity": {},
    "quantity that is no number": {"quantity": np.nan},
    "infinite quantity": {"quantity": np.inf},
    "quantity and weight": {"quantity": 1, "weight": 0.5},
    "limit without a price": {"quantity": 1, "kind": "limit"},
    "limit of zero": {"quantity": 1, "kind": "limit", "limit": 0},
    "market order with a limit": {"quantity": 1, "limit": 100},
    "stop-limit without its limit": {"quantity": 1, "kind": "stop_limit", "stop": 100},
    "good for no bar": {"quantity": 1, "good_for": 0},
}


@pytest.mark.parametrize("given", ORDERS.values(), ids=ORDERS)
def test_an_order_that_cannot_be_meant_is_refused(given):
    with pytest.raises(ParameterError, match="Order"):
        Order(time=day(0), side="buy", **given)


def test_an_order_without_a_bar_or_for_another_symbol_is_refused():
    with pytest.raises(ParameterError, match="no bar at 2024-01-31"):
        run_orders([Order(time=day(30), side="buy", quantity=1)], BARS)
    with pytest.raises(ParameterError, match="'Q'.*hold X"):
        run_orders([Order(time=day(0), side="buy", quantity=1, symbol="Q")], BARS)


SETTINGS = [
    *[(Costs, {name: 1.0}) for name in ("fee_rate", "maker_fee_rate", "slippage", "spread")],
    *[(Costs, {name: np.nan}) for name in ("fee_rate", "slippage", "impact", "borrow_rate", "interest_rate")],
    (Costs, {"fee_rate": -0.001}),
    (Market, {"maximum_leverage": 0.0}),
    (Market, {"maximum_leverage": 101.0}),
    (Market, {"maximum_leverage": 10.0, "maintenance_margin": 0.1}),
    (Market, {"minimum_notional": np.inf}),
    (Exits, {"stop_loss": 1.0}),
    (Exits, {"stop_loss": -0.05}),
    (Exits, {"take_profit": np.nan}),
    (Exits, {"take_profit": [(0.05, 0.5), (0.02, 0.5)]}),
    (Exits, {"take_profit": [(0.02, 0.6), (0.05, 0.6)]}),
    (Exits, {"trailing_activation": 0.1}),
    (Exits, {"trailing_stop": Distance(value=95, unit="level")}),
    (Exits, {"break_even": 0.01, "break_even_offset": 0.02}),
    (Exits, {"time_exit": 0}),
    (Limits, {"maximum_positions": 0}),
    (Limits, {"daily_loss": 1.0}),
    (Limits, {"maximum_heat": np.nan}),
    (Limits, {"drawdown_pause": 5}),
]


@pytest.mark.parametrize(("kind", "given"), SETTINGS, ids=[f"{kind.__name__} {given}" for kind, given in SETTINGS])
def test_a_setting_that_cannot_be_meant_is_refused(kind, given):
    with pytest.raises(ParameterError, match=kind.__name__):
        kind(**given)


@pytest.mark.parametrize(
    ("side", "exits"),
    [
        ("buy", Exits(stop_loss=Distance(value=105, unit="level"))),
        ("buy", Exits(take_profit=Distance(value=95, unit="level"))),
        ("sell", Exits(stop_loss=Distance(value=95, unit="level"))),
        ("sell", Exits(take_profit=Distance(value=105, unit="level"))),
    ],
)
@pytest.mark.parametrize("price", [{}, {"kind": "limit", "limit": 100}])
def test_a_level_on_the_wrong_side_of_its_entry_rejects_the_order(side, exits, price):
    result = trade([Order(time=day(0), side=side, quantity=1, exits=exits, **price)], BARS)
    assert causes(result) == [("X", "a protective level lies on the wrong side of the entry price")]
    assert len(result.fills) == 0


def test_also_where_the_level_is_the_policy_of_all_positions():
    exits = Exits(stop_loss=Distance(value=105, unit="level"))
    result = run_weights(np.full(6, 0.5), BARS, exits_policy=exits, costs=FREE)
    assert len(result.fills) == 0
    assert {reason for _, reason in causes(result)} == {"a protective level lies on the wrong side of the entry price"}
