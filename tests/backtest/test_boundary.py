"""What a newcomer gets wrong, call by call: each mistake is named with its value and with what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import FREE, day, fills, market
from tradelib.backtest import (
    Costs,
    DecisionRule,
    Market,
    Order,
    Result,
    TrialLedger,
    compare,
    grid,
    load_result,
    run,
    run_orders,
    run_portfolio,
    run_positions,
    run_signals,
    run_weights,
    search,
    sweep,
    weighted_returns,
)
from tradelib.backtest.sweeps import random_points, with_parameters
from tradelib.data.panel import as_panel
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Distance, Exits, Limits, ScaleIn
from tradelib.strategies import TrendFollowing

BARS = market(*[100, 101, 102, 101, 103, 104, 103, 105] * 3)
TWO = as_panel({name: market(*[price] * 6, symbol=name) for name, price in (("A", 100), ("B", 50))})
RULE = TrendFollowing(fast=2, slow=4)
GRID = {"strategy.fast": [1, 2]}
SPACE = {"strategy.fast": (1, 2)}
HALF = np.full(len(BARS), 0.5)
ENTER = np.arange(len(BARS)) == 0
LADDER = Exits(take_profit=[(0.02, 0.5), (0.05, 0.5)])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADELIB_HOME", str(tmp_path))


def order(**terms: Any) -> Order:
    return Order(**{"time": day(1), "side": "buy", "quantity": 1, **terms})


def refuses(call: Callable[[], Any], told: str) -> None:
    """`call` raises an error made for the caller, with `told` in it, and counts nothing."""
    with pytest.raises((ParameterError, DataError), match=f"(?s){told}"):
        call()
    assert TrialLedger().families() == {}


def cases(table: dict[str, tuple[Callable[[], Any], str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("call", "told"), table.values(), ids=table)


RULES: dict[str, Callable[[Any], Any]] = {
    "run": lambda rule: run(rule, BARS),
    "run_portfolio": lambda rule: run_portfolio(rule, BARS),
    "run_portfolio of several": lambda rule: run_portfolio([RULE, (rule, 0.5)], BARS),
    "sweep": lambda rule: sweep(rule, BARS, GRID),
    "search": lambda rule: search(rule, BARS, SPACE),
}


@pytest.mark.parametrize("call", RULES.values(), ids=RULES)
class TestARuleIsAnInstance:
    def test_a_class_is_refused_with_its_parameters(self, call):
        told = r"TrendFollowing is a class: give an instance, for example TrendFollowing\(\.\.\.\).*fast, slow"
        refuses(lambda: call(TrendFollowing), told)
        refuses(lambda: call(DecisionRule), r"DecisionRule is a class.*DecisionRule\(\.\.\.\).*strategy, sizing")

    @pytest.mark.parametrize("given", ["x", 5, None], ids=repr)
    def test_so_is_what_is_no_rule(self, call, given):
        refuses(lambda: call(given), rf"(the rule is|got) \(?{given!r}")


def test_bars_and_rule_the_wrong_way_round():
    refuses(lambda: run(BARS, RULE), "the rule is <DataFrame>: give a Strategy or a DecisionRule")


SETTINGS: dict[str, Callable[..., Any]] = {
    "run": lambda **given: run(RULE, BARS, **given),
    "run_signals": lambda **given: run_signals(ENTER, None, BARS, **given),
    "run_weights": lambda **given: run_weights(HALF, BARS, **given),
    "run_positions": lambda **given: run_positions(HALF, BARS, **given),
    "run_orders": lambda **given: run_orders(order(), BARS, **given),
    "run_portfolio": lambda **given: run_portfolio(RULE, BARS, **given),
    "sweep": lambda **given: sweep(RULE, BARS, GRID, **given),
    "search": lambda **given: search(RULE, BARS, SPACE, **given),
}


@pytest.mark.parametrize("call", SETTINGS.values(), ids=SETTINGS)
class TestSettings:
    @pytest.mark.parametrize("given", [0, 0.001, {"fee_rate": 0.001}, Costs, Market()], ids=repr)
    def test_costs_are_costs(self, call, given):
        """Zero too: it is false in Python, and stood for the default once."""
        refuses(lambda: call(costs=given), r"costs is .*: give an instance of Costs, as in Costs\(fee_rate=0.001\)")

    @pytest.mark.parametrize("given", ["spot", 3, Market, Costs()], ids=repr)
    def test_the_market_is_a_market(self, call, given):
        refuses(lambda: call(market=given), r"market is .*: give an instance of Market")

    @pytest.mark.parametrize("given", ["trials.sqlite", TrialLedger], ids=repr)
    def test_the_ledger_is_a_ledger(self, call, given):
        refuses(lambda: call(ledger=given), r"ledger is .*as in TrialLedger\('trials.sqlite'\)")

    @pytest.mark.parametrize(
        "given", ["1000", None, True, -1, 0, np.nan, np.inf, 10**400, [1]], ids=lambda v: repr(v)[:9]
    )
    def test_cash_is_a_positive_amount(self, call, given):
        refuses(lambda: call(cash=given), "cash must be a positive amount; got")

    def test_a_window_that_ends_before_it_starts_says_so(self, call):
        told = "start 2024-01-10 is later than end 2024-01-03"
        refuses(lambda: call(start="2024-01-10", end="2024-01-03"), told)

    @pytest.mark.parametrize(
        ("window", "told"),
        [
            ({"start": "2034-01-10"}, "between start 2034-01-10 and the last bar"),
            ({"end": "2014-01-10"}, "between the first bar and end 2014-01-10"),
            (
                {"start": "2024-01-10T01:00Z", "end": "2024-01-10T02:00Z"},
                "between start 2024-01-10T01:00Z and end 2024-01-10T02:00Z",
            ),
        ],
    )
    def test_a_window_without_bars_names_those_that_there_are(self, call, window, told):
        refuses(lambda: call(**window), rf"{told}.*the bars run from 2024-01-01 .* to 2024-01-24")

    @pytest.mark.parametrize("given", [5, "soon", True])
    def test_a_window_is_made_of_times(self, call, given):
        refuses(lambda: call(start=given), r"start .* is not a point in time: write '2018-12-31'")

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (0.0001, "got float: for example pd.Series"),
            ([0.0001] * len(BARS), "got list"),
            (pd.Series("a", BARS.index), "funding must be rates.*'a'"),
            (pd.Series(np.inf, BARS.index), "funding of X at 2024-01-01.*inf"),
            (pd.Series(0.1, BARS.index.tz_localize(None)), "tz-aware"),
        ],
        ids=["number", "list", "text", "infinite", "without a zone"],
    )
    def test_funding_is_a_table_of_rates(self, call, given, told):
        refuses(lambda: call(funding=given), told)


def test_an_amount_of_numpy_is_an_amount():
    assert run_weights(HALF, BARS, cash=np.float32(5_000)).initial_cash == 5_000.0
    assert run_weights(HALF, BARS, cash=np.int64(5_000)).initial_cash == 5_000.0


POLICIES = {
    name: SETTINGS[name] for name in ("run_signals", "run_weights", "run_positions", "run_orders", "run_portfolio")
}


@pytest.mark.parametrize("call", POLICIES.values(), ids=POLICIES)
class TestPolicies:
    @pytest.mark.parametrize("given", [0.05, "5%", {"stop_loss": 0.05}, Exits, Limits()], ids=repr)
    def test_exits_are_exits(self, call, given):
        refuses(lambda: call(exits_policy=given), r"exits_policy is .*as in Exits\(stop_loss=0.05\)")

    @pytest.mark.parametrize("given", [2, Limits, Exits()], ids=repr)
    def test_limits_are_limits(self, call, given):
        refuses(lambda: call(limits=given), "limits is .*give an instance of Limits")

    @pytest.mark.parametrize("given", [None, "", 3], ids=repr)
    def test_a_name_is_a_text(self, call, given):
        refuses(lambda: call(name=given), "name is .*give the text under which the trial is counted")


class TestEvents:
    TABLE = {
        "one value": (lambda: run_signals(True, None, BARS), r"entries is True: give true or false for each bar"),
        "a word": (lambda: run_signals("buy", None, BARS), "entries is 'buy'"),
        "exits for events": (lambda: run_signals(ENTER, LADDER, BARS), "exits is <Exits>: give true or false"),
        "rows of all lengths": (
            lambda: run_signals([[True], [True, False]], None, BARS),
            "as many values on every bar",
        ),
        "too few": (lambda: run_signals([True], None, BARS), r"entries has the shape \(1,\), the bars have \(24, 1\)"),
        "whole numbers": (
            lambda: run_signals(ENTER.astype(int), None, BARS),
            "entries must be true or false, not int64",
        ),
        "no entries at all": (lambda: run_signals(None, None, BARS), "entries and short_entries are both None"),
        "a bar less": (
            lambda: run_signals(pd.Series(ENTER[1:], BARS.index[1:]), None, BARS),
            "it lacks 2024-01-01 .*with False where nothing is asked for",
        ),
        "without a zone": (
            lambda: run_signals(pd.Series(ENTER, BARS.index.tz_localize(None)), None, BARS),
            "times with a zone",
        ),
        "another symbol": (
            lambda: run_signals(pd.DataFrame({"Q": ENTER}, BARS.index), None, BARS),
            "entries lacks the symbols X",
        ),
        "one symbol too many": (
            lambda: run_signals(pd.DataFrame({"X": ENTER, "Q": ENTER}, BARS.index), None, BARS),
            "unknown symbols Q",
        ),
        "a size in words": (lambda: run_signals(ENTER, None, BARS, size="all"), "size must be numbers: .*'all'"),
        "a size that is true": (lambda: run_signals(ENTER, None, BARS, size=True), "size is True: give a fraction"),
        "no size": (lambda: run_signals(ENTER, None, BARS, size=None), "size is None: give a fraction"),
        "sizes by name": (lambda: run_signals(ENTER, None, BARS, size={"X": 0.5}), "size must be numbers"),
        "a hole in the sizes": (
            lambda: run_signals(ENTER, None, BARS, size=np.where(np.arange(24) == 2, np.nan, 0.5)),
            "size is nan at 2024-01-03 .* of X",
        ),
        "a size of minus": (
            lambda: run_signals(ENTER, None, BARS, size=-0.5),
            "size is -0.5: .*short_entries sell short",
        ),
        "a size beyond the leverage": (
            lambda: run_signals(ENTER, None, BARS, size=2),
            "size is 2: .*maximum_leverage of 1",
        ),
        "a number for scale_in": (
            lambda: run_signals(ENTER, None, BARS, scale_in=2),
            r"scale_in is 2: .*ScaleIn\(orders",
        ),
    }

    @cases(TABLE)
    def test_what_is_no_event_is_refused(self, call, told):
        refuses(call, told)


class TestTargets:
    TABLE = {
        "one number": (lambda: run_weights(0.5, BARS), r"shape \(\), the bars have \(24, 1\): give a row per bar"),
        "a word": (lambda: run_weights("half", BARS), "weights must be numbers: .*'half'"),
        "by name": (lambda: run_weights({"X": 0.5}, BARS), "weights must be numbers"),
        "complex": (lambda: run_weights(HALF + 1j, BARS), "weights must be numbers, not complex128"),
        "days": (
            lambda: run_weights(np.array(BARS.index.tz_localize(None)), BARS),
            "weights must be numbers, not datetime64",
        ),
        "rows of all lengths": (lambda: run_positions([[1], [1, 2]], BARS), "positions must be numbers"),
        "infinite": (lambda: run_positions(HALF * np.inf, BARS), "positions of X at 2024-01-01 .* is infinite"),
        "beyond the leverage": (lambda: run_weights(HALF * 4, BARS), "sum to 2 .*maximum_leverage of 1"),
        "a band in words": (lambda: run_weights(HALF, BARS, band="x"), "band is 'x': give a drift"),
        "a band that is true": (lambda: run_weights(HALF, BARS, band=True), "band is True"),
        "a portfolio's band": (lambda: run_portfolio(RULE, BARS, band="x"), "band is 'x': give a drift"),
        "a list of schedules": (lambda: run_weights(HALF, BARS, rebalance=[1]), r"rebalance is \[1\]: use daily"),
        "a schedule of pandas": (
            lambda: run_weights(HALF, BARS, rebalance="M"),
            "rebalance is 'M': use daily, weekly, mon",
        ),
        "a cost in words": (lambda: weighted_returns(HALF, BARS, cost="x"), "cost is 'x': give a fraction"),
        "costs for a cost": (
            lambda: weighted_returns(HALF, BARS, cost=Costs()),
            "cost is Costs\\(\\): give a fraction",
        ),
    }

    @cases(TABLE)
    def test_what_is_no_target_is_refused(self, call, told):
        refuses(call, told)

    def test_a_symbol_without_an_opinion_keeps_its_units_while_others_trade(self):
        """Half and half at 100; then X doubles and is told to go back to a half, and Y is not spoken of.

        10,000 of cash: 50 units each. At X = 200 equity is 15,000 and half of it 37.5 units of X. Y keeps its 50,
        though its weight has fallen to a third.
        """
        bars = as_panel({"X": market(100, 100, 200, 200, symbol="X"), "Y": market(*[100] * 4, symbol="Y")})
        weights = np.array([[0.5, 0.5], [np.nan, np.nan], [0.5, np.nan], [np.nan, np.nan]])
        result = run_weights(weights, bars, band=0.0, cash=10_000.0, costs=FREE)
        assert fills(result, symbols=True) == [
            ("X", 1, 50.0, 100.0, "signal"),
            ("Y", 1, 50.0, 100.0, "signal"),
            ("X", 3, -12.5, 200.0, "signal"),
        ]

    @pytest.mark.parametrize("policy", [{"exits_policy": LADDER}, {"scale_in": ScaleIn()}], ids=["rungs", "scale_in"])
    def test_targets_on_every_bar_would_undo_what_a_policy_trades(self, policy):
        refuses(lambda: run_weights(HALF, BARS, **policy), "undo each other: pass band=None, or a rebalance schedule")
        for apart in ({"band": None}, {"rebalance": "weekly"}):
            assert len(run_weights(HALF, BARS, **policy, **apart).fills)

    def test_so_would_positions_and_the_rules_of_a_portfolio(self):
        refuses(
            lambda: run_positions(HALF, BARS, exits_policy=LADDER), "take_profit rungs and targets on every bar.*NaN"
        )
        refuses(lambda: run_portfolio(RULE, BARS, exits_policy=LADDER), "take_profit rungs and targets on every bar")
        once = np.where(np.arange(len(BARS)) == 0, 5.0, np.nan)
        assert len(run_positions(once, BARS, exits_policy=LADDER).fills) > 1


class TestPortfolios:
    TABLE = {
        "a share in words": (lambda: run_portfolio([(RULE, "half")], BARS), "share of TrendFollowing is 'half'"),
        "no share": (lambda: run_portfolio([(RULE, None)], BARS), "share of TrendFollowing is None"),
        "rules in a tuple": (lambda: run_portfolio((RULE, RULE), BARS), "several rules stand in a list"),
        "a number for a symbol": (lambda: run_portfolio([(RULE, 0.5, 3)], BARS), "symbols of TrendFollowing are 3"),
        "lists of lists": (lambda: run_portfolio([(RULE, 0.5, [["X"]])], BARS), r"are \[\['X'\]\]: give a name"),
        "a number among symbols": (lambda: run_portfolio([(RULE, 0.5, [3, "X"])], BARS), r"are \[3, 'X'\]"),
        "no symbols": (lambda: run_portfolio([(RULE, 0.5, None)], BARS), "symbols of TrendFollowing are None"),
        "an unknown symbol": (lambda: run_portfolio([(RULE, 0.5, "Q")], BARS), "the bars do not hold Q; they hold X"),
        "nothing": (lambda: run_portfolio((), BARS), "a portfolio holds rules"),
    }

    @cases(TABLE)
    def test_what_is_no_portfolio_is_refused(self, call, told):
        refuses(call, told)


class TestOrders:
    PLAIN = {"time": day(1), "side": "buy", "quantity": 1}

    @pytest.mark.parametrize("given", [PLAIN, [PLAIN], [order(), PLAIN], ({**PLAIN, "limit": None},)], ids=type)
    def test_dicts_of_the_fields_are_orders(self, given):
        result = run_orders(given, BARS, costs=FREE)
        assert set(fills(result)) == {(2, 1.0, 102.0, "order")}

    TABLE = {
        "a misspelt field": (
            lambda: run_orders([TestOrders.PLAIN, {**TestOrders.PLAIN, "limt": 9}], BARS),
            "row 1 of the orders: Order has no parameter 'limt'; did you mean 'limit'",
        ),
        "a wrong value": (
            lambda: run_orders([{**TestOrders.PLAIN, "side": "long"}], BARS),
            "row 0 of the orders: Order: side = 'long'",
        ),
        "a word": (lambda: run_orders("buy", BARS), "orders is 'buy': give Order objects, dicts or a DataFrame"),
        "nothing": (lambda: run_orders(None, BARS), "orders is None: give Order objects"),
        "a number": (lambda: run_orders(5, BARS), "orders is 5"),
        "the class": (lambda: run_orders(Order, BARS), "orders is <class .*give Order objects"),
        "an order among others": (lambda: run_orders([order(), "sell"], BARS), "row 1 of the orders is 'sell'"),
        "a list of lists": (lambda: run_orders([[order()]], BARS), "row 0 of the orders is <list>"),
        "a column of numbers": (lambda: run_orders(pd.Series([1.5]), BARS), "row 0 of the orders is 1.5"),
        "times in the index": (
            lambda: run_orders(pd.DataFrame([{"side": "buy", "quantity": 1}], [day(1)]), BARS),
            r"no column 'time': write orders.reset_index\(names='time'\)",
        ),
        "no symbol": (
            lambda: run_orders(order(), TWO),
            "the order at 2024-01-02 .* names no symbol; the bars hold A, B",
        ),
        "too early": (
            lambda: run_orders(order(), BARS, start="2024-01-10"),
            "before the account begins at 2024-01-10.*2024-01-02",
        ),
    }

    @cases(TABLE)
    def test_what_is_no_order_is_refused(self, call, told):
        refuses(call, told)

    @pytest.mark.parametrize("side", ["buy", "sell"])
    @pytest.mark.parametrize("trail", [1, 1.5, 5])
    def test_a_trail_of_the_whole_price_is_refused(self, side, trail):
        told = rf"Order: trail of {trail} is the whole price or more: 0.02 means two percent"
        refuses(lambda: order(side=side, kind="trailing_stop", trail=trail), told)

    def test_so_is_a_trail_in_price_that_reaches_zero(self):
        wide, most = (Distance(value=value, unit="price") for value in (101, 100.99))
        sell = order(side="sell", kind="trailing_stop", trail=wide)
        refuses(lambda: run_orders(sell, BARS), "2024-01-02 .* trails X by 101 from its close of 101: .*begin at 0")
        run_orders(sell.replace(trail=most), BARS)
        run_orders(sell.replace(side="buy"), BARS)

    @pytest.mark.parametrize(("spacing", "back"), [(100, "0"), (120, "-20")])
    def test_a_grid_that_comes_back_at_no_price_is_refused(self, spacing, back):
        sell = {"side": "sell", "kind": "limit", "limit": 100.0}
        told = f"spacing of {spacing} would bring the sell at 100 back as a buy at {back}: keep it below the limit"
        refuses(lambda: order(**sell, spacing=spacing), told)
        order(**sell, spacing=99)
        order(**{**sell, "side": "buy"}, spacing=spacing)  # comes back as a sell above: fine

    def test_orders_of_a_group_are_sent_as_one(self):
        """The second one, placed after its sibling was filled, would otherwise work on as if nothing had happened."""
        pair = [
            order(kind="limit", limit=105.0, group="exit"),
            order(time=day(4), kind="limit", limit=90.0, group="exit"),
        ]
        told = "group 'exit' is placed at 2024-01-02 .* and 2024-01-05 .*: a group is sent as one"
        refuses(lambda: run_orders(pair, BARS), told)
        result = run_orders([one.replace(time=day(1)) for one in pair], BARS, costs=FREE)
        assert result.orders["status"].tolist() == ["filled", "cancelled"]

    GRIDS = {
        "words": (lambda: grid(day(1), "90", 110, 5, 1, 100), "a grid needs .*lower '90'"),
        "half a level": (lambda: grid(day(1), 90, 110, 2.5, 1, 100), "a grid needs .*2.5 levels"),
        "no price": (lambda: grid(day(1), 90, 110, 5, 1, np.nan), "a grid needs .*price nan"),
        "below zero": (lambda: grid(day(1), -90, 110, 5, 1, 100), "a grid needs .*lower -90"),
    }

    @cases(GRIDS)
    def test_what_is_no_grid_is_refused(self, call, told):
        refuses(call, told)


class TestPaths:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("fast", "'strategy.fast'"),
            ("fsat", "'strategy.fast'"),
            ("strategy.fsat", "'strategy.fast'"),
            ("sizing.fast", "'strategy.fast'"),
            ("fraction", "'sizing.fraction'"),
            ("stop_loss", "'exits.stop_loss'"),
            ("exits.stop", "'exits.stop_loss'"),
            ("fee_rate", "'costs.fee_rate'"),
            ("maximum_leverage", "'market.maximum_leverage'"),
            ("cooldown", "'limits.cooldown'"),
            ("rebalance", "'rebalance_band'"),
        ],
    )
    def test_a_name_without_its_part_is_told_its_path(self, given, meant):
        told = rf"the rule has no parameter '{given}'; did you mean {meant}\?"
        refuses(lambda: sweep(RULE, BARS, {given: [1, 2]}), told)
        refuses(lambda: sweep(RULE, BARS, [{given: 1}]), told)
        refuses(lambda: search(RULE, BARS, {given: (1, 2)}), told)
        refuses(lambda: with_parameters(DecisionRule(strategy=RULE), {given: 1}), told)

    def test_a_name_of_two_parts_is_told_both(self):
        class Momentum(TrendFollowing):
            cooldown: int = 3

        refuses(
            lambda: sweep(Momentum(fast=2, slow=4), BARS, {"cooldown": [1, 2]}),
            "did you mean 'limits.cooldown' or 'strategy.cooldown'",
        )

    def test_what_resembles_nothing_is_told_all(self):
        refuses(lambda: sweep(RULE, BARS, {5: [1, 2]}), "has no parameter 5; known: costs.borrow_rate, .*strategy.slow")


class TestSweeps:
    TABLE = {
        "no grid": (lambda: sweep(RULE, BARS, None), r"the grid is None: give \{'strategy.fast': \[10, 20\]"),
        "a number": (lambda: sweep(RULE, BARS, 5), "the grid is 5"),
        "a word": (lambda: sweep(RULE, BARS, "fast"), "the grid is 'fast'"),
        "numbers": (lambda: sweep(RULE, BARS, [1, 2]), r"the grid is \[1, 2\]: give .*a list of points"),
        "one value": (lambda: sweep(RULE, BARS, {"strategy.fast": 5}), "strategy.fast is 5: give a list"),
        "a set": (lambda: sweep(RULE, BARS, {"strategy.fast": {1, 2}}), r"strategy.fast is \{1, 2\}: give a list"),
        "no workers": (lambda: sweep(RULE, BARS, GRID, workers=0), "workers is 0: give a number of threads, or None"),
        "half a worker": (lambda: sweep(RULE, BARS, GRID, workers=1.5), "workers is 1.5"),
        "workers in words": (lambda: search(RULE, BARS, SPACE, workers="two"), "workers is 'two'"),
        "an address": (
            lambda: sweep(RULE, BARS, GRID, client="localhost"),
            "client is 'localhost': give a client of Dask",
        ),
        "a number to resume": (
            lambda: sweep(RULE, BARS, GRID, resume=5),
            "resume is 5: give an interrupted SweepResult",
        ),
        "a search to resume": (lambda: search(RULE, BARS, SPACE, resume=True), "resume is True"),
        "no space": (lambda: random_points(None, 3, 1), "the space names no parameter"),
        "an empty space": (lambda: random_points({}, 3, 1), "the space names no parameter"),
        "points in words": (lambda: random_points(SPACE, "three", 1), "count is 'three': give a whole number"),
        "fewer than none": (lambda: random_points(SPACE, -1, 1), "count is -1"),
        "a seed in words": (lambda: random_points(SPACE, 3, "x"), "seed is 'x'"),
        "no figure": (lambda: search(RULE, BARS, SPACE, by=None), "a sweep has no figure None; known: "),
        "a sampler in words": (
            lambda: search(RULE, BARS, SPACE, sampler="tpe"),
            "sampler is 'tpe': give one of Optuna",
        ),
        "a seed below zero": (lambda: search(RULE, BARS, SPACE, seed=-1), "seed is -1: give a whole number"),
        "a search's seed in words": (lambda: search(RULE, BARS, SPACE, seed="x"), "seed is 'x'"),
        "a timeout in words": (lambda: search(RULE, BARS, SPACE, timeout="1h"), "timeout must be .*got '1h'"),
        "a set to search": (
            lambda: search(RULE, BARS, {"strategy.fast": {1, 2, 3}}),
            r"is \{1, 2, 3\}: give \(low, high\)",
        ),
        "a dict to search": (
            lambda: search(RULE, BARS, {"strategy.fast": {"low": 1, "high": 2}}),
            r"give \(low, high\)",
        ),
    }

    @cases(TABLE)
    def test_what_is_no_sweep_is_refused(self, call, told):
        refuses(call, told)

    def test_whole_numbers_of_numpy_are_whole_numbers(self, tmp_path):
        counts = {"trials": np.int64(4), "batch": np.int64(2), "seed": np.int64(1), "resume": tmp_path / "search.npz"}
        assert len(search(RULE, BARS, SPACE, **counts).frame) > 0

    def test_a_result_has_the_rows_it_has(self):
        found = sweep(RULE, BARS, GRID)
        for call in (lambda: found.point(99), lambda: found.result(BARS, 99), lambda: found.point("best")):
            with pytest.raises(ParameterError, match="row is .*: the sweep has the rows 0 to 1"):
                call()
        with pytest.raises(ParameterError, match="the sweep has no column None"):
            found.best(None)


class TestDistances:
    TABLE = {
        "percent in words": (lambda: Exits(stop_loss="5%"), "stop_loss = '5%': give a fraction, 0.02 is two percent"),
        "true": (lambda: Exits(trailing_stop=True), "trailing_stop = True: give a fraction"),
        "a list": (lambda: Exits(stop_loss=[0.05]), r"stop_loss = \[0.05\]: give a fraction"),
        "the whole price": (lambda: Exits(stop_loss=5), "stop_loss of 5 is the whole price or more: 0.02 means two"),
        "a step of the whole price": (lambda: ScaleIn(step=2), "step of 2 is the whole price or more: 0.02 means two"),
        "targets in words": (lambda: Exits(take_profit="x"), "take_profit = 'x': give a fraction, .*rungs"),
        "no targets": (lambda: Exits(take_profit=None), "take_profit = None: give a fraction"),
        "a rung of one": (lambda: Exits(take_profit=[(0.1,)]), r"a rung is a pair \(distance, share\).*got \(0.1,\)"),
        "a rung of three": (lambda: Exits(take_profit=[(0.1, 0.5, 0.2)]), r"a rung is a pair .*got \(0.1, 0.5, 0.2\)"),
        "distances alone": (lambda: Exits(take_profit=[0.1, 0.2]), "a rung is a pair .*got 0.1"),
        "a trail in words": (lambda: order(kind="trailing_stop", trail="x"), "trail = 'x': give a fraction"),
    }

    @cases(TABLE)
    def test_what_is_no_distance_is_refused(self, call, told):
        refuses(call, told)

    def test_numbers_of_numpy_are_numbers(self):
        assert Exits(stop_loss=np.float64(0.05), take_profit=np.float64(0.1)) == Exits(stop_loss=0.05, take_profit=0.1)
        assert Exits(stop_loss=np.float32(0.5)).stop_loss == Distance(value=0.5)


class TestEverythingElse:
    @pytest.fixture
    def result(self) -> Result:
        return run(TrendFollowing(fast=3, slow=9), BARS)

    def test_parameters_go_by_name(self):
        refuses(lambda: Costs(0.001), r"Costs takes its parameters by name, as in Costs\(fee_rate=...\); got 0.001")
        refuses(lambda: Distance(2, "atr"), r"Distance takes its parameters by name")

    def test_what_is_no_result_cannot_be_compared(self, result):
        for given in (result, None, [result, 3], {"one": result, "other": "two"}):
            with pytest.raises(ParameterError, match="compare takes results: a list of them"):
                compare(given)

    def test_a_place_that_is_no_file(self, result, tmp_path):
        for path, told in ((tmp_path, "it is a folder"), (None, "give the path of a file"), (3, "path of a file")):
            with pytest.raises(DataError, match=f"cannot write .*{told}"):
                result.save(path)
        for path in (None, 3):
            with pytest.raises(DataError, match="cannot read .*give the path of a file"):
                load_result(path)

    def test_a_multiple_of_costs_is_a_number(self):
        refuses(lambda: Costs().times("much"), "multiple is 'much': give a number")
