"""Properties of the trading machine on random tapes, with every policy that may be on.

Prices lie on a coarse grid, so that levels are touched exactly and ties are common. Flags shrink to "off": a failing
example names the smallest set of features that breaks a property.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.backtest import book
from tradelib.backtest.book import Tape
from tradelib.backtest.machine import Simulation, make_tape, resume, simulate
from tradelib.backtest.translate import policy_row
from tradelib.risk import Distance, Exits, ScaleIn, judging
from tradelib.risk.past_risk import PastRiskRule, past_risk, past_table

CASH = 10_000.0
FINE = 4
FLAGS = (
    "costs", "impact", "lots", "leverage", "margin", "carry", "funding", "tiers", "limits", "daily_loss", "shape",
    "tail", "protections", "exits", "ladder", "trailing", "break_even", "time_exit", "scale_in", "against", "atr",
    "units", "targets", "orders", "grid", "finer", "reduce",
)  # fmt: skip
THEMES = (
    (),
    (),
    ("margin", "targets"),
    ("margin", "costs", "carry", "funding", "finer"),
    ("limits", "targets", "costs"),
    ("shape", "targets", "daily_loss"),
    ("tail", "targets", "protections"),
    ("protections", "exits", "targets", "costs"),
    ("exits", "trailing", "targets"),
    ("orders", "costs"),
)
"""Features that would keep each other from acting are also tried alone; () draws each by itself."""


class World(NamedTuple):
    """Everything that a run is made of."""

    tape: Tape
    target: np.ndarray | None
    script: np.ndarray | None
    terms: np.ndarray
    rules: np.ndarray
    policies: np.ndarray
    tiers: np.ndarray
    cash: float


def prices(rng: np.random.Generator, n: int, assets: int, step: float) -> dict[str, np.ndarray]:
    """Open, high, low, close in multiples of `step` and volume, sometimes none; bars of four finer ones."""
    path = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (n * FINE, assets)), axis=0))
    fine_close = np.round(path / step) * step
    before = np.vstack([np.full((1, assets), 100.0), fine_close[:-1]])
    fine_open = np.round(before * np.exp(rng.normal(0, 0.006, before.shape) * (rng.random(before.shape) < 0.3)) / step)
    fine_open *= step
    spread = np.round(rng.exponential(0.6, (2, n * FINE, assets)) / step) * step
    fine = {
        "fine_open": fine_open,
        "fine_high": np.maximum(fine_open, fine_close) + spread[0],
        "fine_low": np.maximum(np.minimum(fine_open, fine_close) - spread[1], step),
        "fine_close": fine_close,
    }
    blocks = {name: values.reshape(n, FINE, assets) for name, values in fine.items()}
    return fine | {
        "open_": blocks["fine_open"][:, 0],
        "high": blocks["fine_high"].max(axis=1),
        "low": blocks["fine_low"].min(axis=1),
        "close": blocks["fine_close"][:, -1],
        "volume": rng.choice([0.0, 500.0, 5_000.0], (n, assets), p=[0.05, 0.45, 0.5]),
    }


def make_policy(rng: np.random.Generator, on: set[str]) -> np.ndarray:
    """Exits and scale-in of one symbol or order."""

    def length(low: float, high: float) -> Distance:
        value = float(rng.choice(np.linspace(low, high, 4)))
        unit = str(rng.choice(["fraction", "price", "atr"] if "atr" in on else ["fraction", "price"]))
        return Distance(
            value=value if unit == "fraction" else value * 100 if unit == "price" else value * 50, unit=unit
        )

    given: dict[str, object] = {"atr_window": 3, "reentry": str(rng.choice(["any_time", "new_signal"]))}
    if "exits" in on:
        given |= {"stop_loss": length(0.01, 0.04), "take_profit": ((length(0.01, 0.05), 1.0),)}
    if "ladder" in on:
        given["take_profit"] = ((0.01, 0.5), (0.02, 0.3), (0.04, float(rng.choice([0.1, 0.2]))))
    if "trailing" in on:
        given["trailing_stop"] = length(0.01, 0.05)
        given["trailing_activation"] = length(0.01, 0.03) if rng.random() < 0.5 else None
    if "break_even" in on:
        given |= {"break_even": 0.01, "break_even_offset": float(rng.choice([0.0, 0.002]))}
    if "time_exit" in on:
        given["time_exit"] = int(rng.integers(1, 8))
    scale = None
    if "scale_in" in on:
        direction = "against" if "against" in on else "with"
        scale = ScaleIn(orders=int(rng.integers(1, 4)), step=length(0.005, 0.02), factor=0.7, direction=direction)
    return policy_row(Exits(**given), scale)


def make_rules(rng: np.random.Generator, on: set[str]) -> np.ndarray:
    values: dict[str, float] = {"band": math.inf if rng.random() < 0.5 else 0.05, "tier_bars": 3.0}
    if "units" in on:
        values["in_units"] = 1.0
    if "reduce" in on:
        values["fit_to_cash"] = 1.0
    if "leverage" in on or "margin" in on:
        values["leverage"] = 4.0
    if "margin" in on:
        values |= {"maintenance": 0.2, "liquidation_rate": 0.01}
    if "carry" in on:
        values["interest_rate"] = 0.001
    if "limits" in on:
        limits = {
            "max_positions": 2.0, "max_exposure": 0.8, "max_heat": 0.03, "max_drawdown": 0.03, "max_losses": 2.0,
            "cooldown": 1.0,
        }  # fmt: skip
        values |= {name: value for name, value in limits.items() if rng.random() < 0.5}
        values |= {"drawdown_bars": 3.0, "loss_bars": 2.0}
    if "daily_loss" in on:
        values |= {"max_day_loss": 0.01, "max_day_profit": 0.02, "max_day_orders": 3.0}
    if "shape" in on:
        values |= {name: 0.6 for name in ("max_share", "max_net", "max_cluster") if rng.random() < 0.5}
        values |= {"target_volatility": 0.3, "leverage_base": 1.0} if rng.random() < 0.5 else {}
    if "tail" in on:
        values |= {"scenarios": 6.0, "tail": 2.0, "max_var": 0.004, "max_shortfall": 0.01}
    rules = book.rule_vector(**values)
    if "protections" in on:
        rules[judging.GUARDS] = 2.0
        rules[judging.GUARD :][: judging.GUARD_WIDTH] = float(rng.integers(4)), 0.0, 9.0, 1.0, 0.001, 3.0
        rules[judging.GUARD + judging.GUARD_WIDTH :][: judging.GUARD_WIDTH] = (
            float(rng.integers(4)),
            1.0,
            6.0,
            2.0,
            0.0,
            2.0,
        )
    return rules


def make_script(rng: np.random.Generator, on: set[str], n: int, close: np.ndarray, own: int) -> np.ndarray:
    """Explicit orders of every kind near the price, sorted by bar; some bring the policy in row `own`."""
    rows = []
    for bar in np.sort(rng.integers(0, n, n)):
        row, side = np.full(book.ORDER_COLUMNS, np.nan), float(rng.choice([-1.0, 1.0]))
        a, kind = int(rng.integers(close.shape[1])), float(rng.integers(5))
        price = close[bar, a] + float(rng.integers(-4, 5)) / 2
        row[[book.ASSET, book.KIND, book.PLACED, book.STATUS]] = a, kind, bar, book.WORKING
        row[[book.CAUSE, book.REASON, book.NEXT, book.ATTACHED]] = book.ALLOWED, book.EXPLICIT, book.NONE, 0.0
        row[[book.ORDER_FEE, book.ORDER_SLIPPAGE]] = 0.0
        row[book.POLICY] = own if rng.random() < 0.4 else book.NONE
        row[book.REDUCES] = float(rng.random() < 0.2)
        row[book.GROUP] = float(a * 10 + rng.integers(1, 4)) if rng.random() < 0.3 else 0.0
        row[book.EXPIRES] = bar + rng.integers(1, 6) if rng.random() < 0.3 else np.inf
        row[book.QUANTITY if rng.random() < 0.7 else book.WEIGHT] = side * 0.3
        if not math.isnan(row[book.QUANTITY]):
            row[book.QUANTITY] = side * float(rng.integers(1, 40))
        row[book.SPACING] = float(rng.integers(1, 4)) / 2 if kind == book.LIMIT and "grid" in on else 0.0
        if kind == book.LIMIT:
            row[book.LEVEL], row[book.UP] = price, -side
        elif kind in (book.STOP, book.STOP_LIMIT):
            row[book.LEVEL], row[book.UP] = price, side
            row[book.LIMIT_PRICE] = price + float(rng.integers(-1, 3)) / 2 * side if kind == book.STOP_LIMIT else np.nan
        elif kind == book.TRAILING:
            row[[book.TRAIL, book.TRAIL_UNIT, book.UP]] = 2.0, book.PRICE, side
        rows.append(row)
    return np.array(rows).reshape(-1, book.ORDER_COLUMNS)


@st.composite
def worlds(draw, *, step=0.5, most=3, without=()):
    """A random market and account; `most` symbols, never the features `without`."""
    theme = draw(st.sampled_from(THEMES))
    on = set(theme) or {flag for flag in FLAGS if draw(st.booleans(), label=flag)}
    on -= set(without)
    n, assets = draw(st.integers(10, 60)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    market = prices(rng, n, assets, step)
    more: dict[str, np.ndarray] = {"atr": np.vstack([np.full((2, assets), np.nan), np.full((n - 2, assets), 1.5)])}
    if "finer" in on:
        starts = np.arange(0, n * FINE + 1, FINE)
        more |= {"fine_first": starts} | {name: market[name] for name in market if name.startswith("fine")}
    if "funding" in on:
        more |= {name: rng.normal(0, 0.001, (n, assets)) for name in ("funding_open", "funding_inside")}
    if on & {"daily_loss", "shape", "tail"}:
        looks = PastRiskRule(scenarios=6, volatility=4, clusters=5, every=3, correlation=0.4)
        rows = past_risk(market["close"], np.arange(n) + 1, 1, 365.0, looks)
        more["past"] = past_table(rows, np.arange(n) // 5 if "daily_loss" in on else None, n)
    tape = make_tape(*(market[name] for name in ("open_", "high", "low", "close", "volume")), **more)
    costs = (
        {"maker_rate": 0.0005, "taker_rate": 0.001, "slippage": 0.001, "half_spread": 0.0005} if "costs" in on else {}
    )
    terms = book.term_rows(
        assets, **costs, impact=0.02 if "impact" in on else 0.0, lots=10.0 if "lots" in on else 0.0,
        minimum=100.0 if "lots" in on else 0.0, borrow_rate=0.001 if "carry" in on else 0.0,
    )  # fmt: skip
    policies = np.array([make_policy(rng, on) for _ in range(assets + 1)])
    policies[:, book.TURN] = np.arange(assets + 1)
    target = None
    if "targets" in on or "orders" not in on:
        wanted = rng.choice([np.nan, 0.0, 0.3, 0.3, -0.3, 0.6], (n, assets)) * (50.0 if "units" in on else 1.0)
        wanted *= 6.0 if "margin" in on and assets == 1 else 1.0
        target = np.repeat(wanted[:: int(rng.integers(1, 6))], 6, axis=0)[:n]
        target = np.vstack([target, np.full((n - len(target), assets), np.nan)])
    script = make_script(rng, on, n, market["close"], assets) if "orders" in on else None
    tiers = np.array([[5_000.0, 0.0001, 0.0005], [20_000.0, 0.0, 0.0002]]) if "tiers" in on else np.zeros((0, 3))
    return World(tape, target, script, terms, make_rules(rng, on), policies, tiers, CASH)


def retaped(tape: Tape, **changes: np.ndarray) -> Tape:
    """The tape with other arrays, of the one type that is compiled for."""
    fields = tape._asdict() | changes
    market = [fields.pop(name) for name in ("open", "high", "low", "close", "volume")]
    return make_tape(*market, **fields)


def fresh(world: World, capacity: int = 256) -> book.Machine:
    bars, assets = world.tape.close.shape
    tables = {"terms": world.terms, "rules": world.rules, "policies": world.policies, "tiers": world.tiers}
    return book.empty_machine(assets, bars, cash=world.cash, capacity=capacity, **tables)


def play(world: World, stop: int | None = None, capacity: int = 256) -> Simulation:
    return simulate(fresh(world, capacity), world.tape, world.target, script=world.script, stop=stop)


def same_bits(one: Simulation, other: Simulation) -> None:
    for name in ("equity", "orders", "fills", "entries"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(one.machine.account, other.machine.account)
    np.testing.assert_array_equal(one.machine.assets, other.machine.assets)
    closed = one.machine.counts[book.CLOSED]
    np.testing.assert_array_equal(one.machine.closed[:closed], other.machine.closed[:closed])


MANY = settings(max_examples=120, deadline=None)
FEW = settings(max_examples=50, deadline=None)


@MANY
@given(world=worlds())
def test_fills_and_the_cash_book_explain_every_cent_of_equity(world):
    done, (bars, assets) = play(world), world.tape.close.shape
    cash, held, traded = world.cash, np.zeros(assets), world.cash
    rows = [(row[book.FILL_SEQUENCE], row[book.FILL_AT], True, row) for row in done.fills]
    rows += [(row[book.ENTRY_SEQUENCE], row[book.ENTRY_BAR], False, row) for row in done.entries]
    rows.sort(key=lambda item: item[0])
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    for t in range(bars):
        for _, _, is_fill, row in (row for row in rows if row[1] == t):
            if is_fill:
                quantity, price = row[book.FILL_QUANTITY], row[book.FILL_PRICE]
                cash -= quantity * price + row[book.FILL_FEE]
                held[int(row[book.FILL_ASSET])] += quantity
                traded += abs(quantity) * price
                assert row[book.FILL_POSITION] == pytest.approx(held[int(row[book.FILL_ASSET])], abs=1e-9 * traded)
            else:
                cash += row[book.ENTRY_AMOUNT]
        assert done.equity[t] == pytest.approx(cash + held @ world.tape.close[t], abs=1e-9 * traded)


@MANY
@given(world=worlds())
def test_every_fill_lies_in_its_bar_and_nobody_trades_better_than_the_reference(world):
    tape = world.tape
    for row in play(world).fills:
        t, fine, a = int(row[book.FILL_AT]), int(row[book.FILL_ROW]), int(row[book.FILL_ASSET])
        low, high = (tape.low[t, a], tape.high[t, a]) if fine < 0 else (tape.fine_low[fine, a], tape.fine_high[fine, a])
        assert low <= row[book.FILL_REFERENCE] <= high
        worse = (row[book.FILL_PRICE] - row[book.FILL_REFERENCE]) * math.copysign(1.0, row[book.FILL_QUANTITY])
        assert worse == 0.0 if row[book.FILL_MAKER] == 1.0 else worse >= 0.0


@MANY
@given(world=worlds())
def test_exits_only_reduce_and_orders_fill_after_they_were_placed(world):
    done, held = play(world), {}
    exits = (book.STOP_LOSS, book.TAKE_PROFIT, book.TRAILING_STOP, book.BREAK_EVEN, book.TIME_EXIT, book.LIQUIDATION)
    for row in done.fills:
        a, after = row[book.FILL_ASSET], row[book.FILL_POSITION]
        before = held.get(a, 0.0)
        order = done.orders[int(row[book.FILL_ORDER])]
        if row[book.FILL_REASON] in exits or order[book.REDUCES] == 1.0:
            assert abs(after) < abs(before)
            assert after * before >= 0.0
        if order[book.REASON] in (book.SIGNAL, book.EXPLICIT):
            assert order[book.PLACED] < row[book.FILL_AT] <= order[book.EXPIRES]
        held[a] = after


@MANY
@given(world=worlds())
def test_compiled_and_interpreted_give_the_same_bits(world):
    compiled = play(world)
    with interpreted():
        plain = play(world)
    same_bits(compiled, plain)


@MANY
@given(world=worlds(), cut=st.integers(1, 40))
def test_a_run_that_is_split_and_resumed_is_the_same_run(world, cut):
    cut = min(cut, len(world.tape.close) - 1)
    part = play(world, stop=cut)
    before = [table.copy() for table in part.machine]
    whole = resume(part, world.tape, world.target, script=world.script)
    same_bits(play(world), whole)
    for table, kept in zip(part.machine, before, strict=True):
        np.testing.assert_array_equal(table, kept)


@MANY
@given(world=worlds(), cut=st.integers(1, 40))
def test_the_past_does_not_know_the_future(world, cut):
    n = len(world.tape.close)
    cut = min(cut, n)
    known = {"fine": cut * FINE, "bar": cut, "first": cut + 1}
    tables = {
        name: array[: known["first" if name == "fine_first" else "fine" if name.startswith("fine") else "bar"]]
        for name, array in world.tape._asdict().items()
    }
    tape = retaped(world.tape, **tables)
    script = None if world.script is None else world.script[world.script[:, book.PLACED] < cut]
    target = None if world.target is None else world.target[:cut]
    whole, part = play(world), play(world._replace(tape=tape, target=target, script=script))
    stopped = play(world, stop=cut)
    for name in ("equity", "orders", "fills", "entries"):
        np.testing.assert_array_equal(getattr(part, name), getattr(stopped, name), err_msg=name)
    np.testing.assert_array_equal(part.equity, whole.equity[:cut])
    np.testing.assert_array_equal(part.fills, whole.fills[whole.fills[:, book.FILL_AT] < cut])
    np.testing.assert_array_equal(part.entries, whole.entries[whole.entries[:, book.ENTRY_BAR] < cut])


@MANY
@given(world=worlds(without=("lots", "tiers")))
def test_twice_the_prices_and_twice_the_cash_are_twice_the_equity(world):
    """Exactly: doubling is exact in binary. Distances in quote currency double as well."""
    names = ("open", "high", "low", "close", "atr", "fine_open", "fine_high", "fine_low", "fine_close")
    tape = retaped(world.tape, **{name: 2.0 * getattr(world.tape, name) for name in names})
    policies = world.policies.copy()
    units = [book.STOP_UNIT, book.TRAIL_BY_UNIT, book.TRAIL_FROM_UNIT, book.EVEN_UNIT, book.SCALE_UNIT]
    for unit in units + [book.RUNG + 3 * rung + 1 for rung in range(book.LADDER)]:
        in_price = policies[:, unit] == book.PRICE
        policies[in_price, unit - 1] *= 2.0
    script = world.script
    if script is not None:
        script = script.copy()
        script[:, [book.LEVEL, book.LIMIT_PRICE, book.SPACING, book.TRAIL]] *= 2.0
    one = play(world)
    two = play(world._replace(tape=tape, policies=policies, script=script, cash=2.0 * world.cash))
    np.testing.assert_array_equal(two.equity, 2.0 * one.equity)
    np.testing.assert_array_equal(two.fills[:, book.FILL_QUANTITY], one.fills[:, book.FILL_QUANTITY])


@MANY
@given(world=worlds(step=1e-6), seed=st.integers(0, 1_000))
def test_the_order_of_columns_decides_nothing(world, seed):
    assets = world.tape.close.shape[1]
    order = np.random.default_rng(seed).permutation(assets)
    whose = np.argsort(order)
    tables = {name: array[:, order] for name, array in world.tape._asdict().items() if array.shape[1:] == (assets,)}
    if len(world.tape.past):
        first = judging.PAST_RETURN
        tables["past"] = world.tape.past[:, [*range(first), *(first + order), *(first + assets + order)]]
    tape = retaped(world.tape, **tables)
    policies = np.vstack([world.policies[order], world.policies[assets:]])
    policies[:assets, book.TURN] = whose
    script = world.script
    if script is not None:
        script = script.copy()
        script[:, book.ASSET] = whose[script[:, book.ASSET].astype(int)]
        script[script[:, book.POLICY] >= 0.0, book.POLICY] = assets
    target = None if world.target is None else world.target[:, order]
    one, two = play(world), play(world._replace(tape=tape, policies=policies, script=script, target=target))
    np.testing.assert_allclose(two.equity, one.equity, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(order[two.fills[:, book.FILL_ASSET].astype(int)], one.fills[:, book.FILL_ASSET])


@MANY
@given(world=worlds(most=1, without=("finer", "time_exit")))
def test_gliding_over_quiet_bars_leaves_out_nothing(world):
    """A time exit that is never due keeps the machine from gliding."""
    policies = world.policies.copy()
    policies[:, book.EXIT_AFTER] = 1e6
    glided, stepped = play(world), play(world._replace(policies=policies))
    for name in ("equity", "fills", "entries", "orders"):
        np.testing.assert_array_equal(getattr(glided, name), getattr(stepped, name), err_msg=name)
    assert glided.machine.account[book.IN_MARKET] == stepped.machine.account[book.IN_MARKET]


@MANY
@given(world=worlds(without=("finer",)))
def test_finer_bars_that_are_the_bars_themselves_change_nothing(world):
    names = ("open", "high", "low", "close")
    first = np.arange(len(world.tape.close) + 1)
    finer = retaped(world.tape, fine_first=first, **{f"fine_{name}": getattr(world.tape, name) for name in names})
    one, two = play(world), play(world._replace(tape=finer))
    two.fills[:, book.FILL_ROW] = np.where(one.fills[:, book.FILL_ROW] < 0, -1.0, 0.0)
    np.testing.assert_array_equal(one.equity, two.equity)
    np.testing.assert_array_equal(one.fills, two.fills)
    np.testing.assert_array_equal(one.orders, two.orders)


@FEW
@given(world=worlds())
def test_tables_that_start_small_grow_without_a_trace(world):
    same_bits(play(world, capacity=256), play(world, capacity=-32 * world.tape.close.shape[1] + 1))


@FEW
@given(world=worlds())
def test_interpreted_no_table_is_ever_written_past_its_end(world):
    """Compiled code does not check: the bound on what one bar may bring must hold."""
    with interpreted():
        play(world, capacity=-32 * world.tape.close.shape[1] + 1)


def test_a_bar_that_meets_every_order_of_a_policy_has_room_for_them():
    """Sixteen scale-ins in one bar, each of which replaces a stop and eight targets: 1 + 17 x 9 + 16 orders."""
    rungs = tuple((3.0 + rung, 0.1) for rung in range(8))
    policy = policy_row(Exits(stop_loss=0.5, take_profit=rungs), ScaleIn(orders=16, step=0.02))
    prices = [np.array([[100.0], [100.0], [300.0]]) for _ in range(4)]
    prices[1][1] = prices[3][1] = 300.0
    tape, target = make_tape(*prices, np.ones((3, 1))), np.array([[0.01], [np.nan], [np.nan]])
    world = World(tape, target, None, book.term_rows(1), book.rule_vector(), policy[None], np.zeros((0, 3)), CASH)
    with interpreted():
        done = play(world, capacity=-31)
    assert len(done.fills) == 17
    assert len(done.orders) == 1 + 17 * 9 + 16
