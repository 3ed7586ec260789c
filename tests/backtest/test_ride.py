"""A trailing stop on the fast stretch, and the sequence in which the orders of one open are filled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backtest.test_machine import World, play, same_bits
from tradelib._jit import interpreted
from tradelib.backtest import book, machine
from tradelib.backtest.machine import make_tape
from tradelib.backtest.translate import policy_row
from tradelib.risk import Distance, Exits

MANY = settings(max_examples=120, deadline=None)


@st.composite
def trailed(draw):
    """One symbol, entries to both sides at random bars, and a stop that trails; prices on a grid, for ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, unit = draw(st.integers(20, 400)), draw(st.sampled_from(["fraction", "price"]))
    close = np.round(100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (n, 1)), axis=0)) * 4.0) / 4.0
    open_ = np.vstack([[[100.0]], close[:-1]])
    high = np.maximum(open_, close) + rng.integers(0, 3, (n, 1)) / 4.0
    low = np.minimum(open_, close) - rng.integers(0, 3, (n, 1)) / 4.0
    size = 1.0 if unit == "fraction" else 100.0
    exits: dict[str, object] = {"trailing_stop": Distance(value=draw(st.sampled_from([0.02, 0.05])) * size, unit=unit)}
    for name, value in {
        "trailing_activation": 0.02,
        "stop_loss": 0.03,
        "take_profit": 0.06,
        "break_even": 0.01,
    }.items():
        exits |= {name: value} if draw(st.booleans(), label=name) else {}
    chance = draw(st.sampled_from([0.05, 0.9]))
    target = np.where(rng.random((n, 1)) < chance, rng.choice([0.5, 0.5, -0.5, 0.0], (n, 1)), np.nan)
    rules = book.rule_vector(
        band=draw(st.sampled_from([math.inf, 0.01])), events=float(draw(st.booleans(), label="events"))
    )
    slippage, impact = draw(st.sampled_from([0.0, 0.0005])), draw(st.sampled_from([0.0, 0.0, 0.01]))
    terms = book.term_rows(1, taker_rate=0.001, slippage=slippage, impact=impact)
    volume = rng.choice([0.0, 1_000.0], (n, 1), p=[0.1, 0.9])
    policies = policy_row(Exits(**exits))[None]
    return World(
        make_tape(open_, high, low, close, volume), target, None, terms, rules, policies, np.zeros((0, 3)), 1e4
    )


@MANY
@given(world=trailed())
def test_riding_behind_a_trailing_stop_leaves_out_nothing(world):
    """A time exit that is never due keeps the machine from riding: it takes every bar in full."""
    policies = world.policies.copy()
    policies[:, book.EXIT_AFTER] = 1e6
    ridden, stepped = play(world), play(world._replace(policies=policies))
    for name in ("equity", "fills", "entries", "orders"):
        np.testing.assert_array_equal(getattr(ridden, name), getattr(stepped, name), err_msg=name)
    assert ridden.machine.account[book.IN_MARKET] == stepped.machine.account[book.IN_MARKET]
    kept = [book.POSITION, book.FLOOR, book.CEILING, book.HIGHEST, book.LOWEST, book.MOVING]
    np.testing.assert_array_equal(ridden.machine.assets[:, kept], stepped.machine.assets[:, kept])


@settings(max_examples=40, deadline=None)
@given(world=trailed())
def test_riding_is_the_same_interpreted(world):
    compiled = play(world)
    with interpreted():
        same_bits(compiled, play(world))


@pytest.mark.parametrize(("side", "level"), [(1.0, 110.0 - 0.1 * 110.0), (-1.0, 90.0 + 0.1 * 90.0)])
def test_the_level_has_followed_the_best_price_when_the_ride_ends(side, level):
    """Bought (sold short) at 100, the best price is 110 (90): a stop of 10 % stands at 99 on the last bar."""
    best = 100.0 + 10.0 * side
    path = np.array([[100.0], [100.0], [best], [best - 4.0 * side], [best - 4.0 * side]])
    tape, target = make_tape(path, path, path, path, np.ones((5, 1))), np.full((5, 1), np.nan)
    target[0] = 0.5 * side
    policy = policy_row(Exits(trailing_stop=0.1))[None]
    world = World(tape, target, None, book.term_rows(1), book.rule_vector(), policy, np.zeros((0, 3)), 1e4)
    done = play(world)
    assert done.orders[1, [book.EXTREME, book.LEVEL]].tolist() == [best, level]
    assert len(done.fills) == 1


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_target_that_the_ride_touches_is_filled(side):
    """Entered at 100 with a target 10 away: bar 3 touches it and turns; bar 2 came close."""
    path = 100.0 + side * np.array([[0.0], [0.0], [9.75], [10.0], [9.0], [9.0]])
    tape, target = make_tape(path, path, path, path, np.ones((6, 1))), np.full((6, 1), np.nan)
    target[0] = 0.5 * side
    policy = policy_row(Exits(trailing_stop=0.5, take_profit=((Distance(value=10.0, unit="price"), 1.0),)))[None]
    world = World(tape, target, None, book.term_rows(1), book.rule_vector(), policy, np.zeros((0, 3)), 1e4)
    done = play(world)
    assert done.fills[1:, [book.FILL_AT, book.FILL_PRICE]].tolist() == [[3.0, 100.0 + 10.0 * side]]


@MANY
@given(values=st.lists(st.sampled_from([-1.0, 0.5, 1.0, 2.0, 3.0, 7.5, 1e9]), max_size=70))
def test_orders_of_one_open_are_sorted_by_value_and_equals_as_they_were_placed(values):
    count = len(values)
    orders, expected = np.zeros((count, book.ORDER_COLUMNS)), sorted(range(count), key=values.__getitem__)
    orders[:, book.LEVEL] = values
    queue = np.r_[np.full(count, -1), np.arange(count)]
    for run in (machine._sort_by_level.compiled, machine._sort_by_level.python):
        sorted_ = queue.copy()
        run(orders, sorted_, count, 0, count)
        assert sorted_[:count].tolist() == expected
