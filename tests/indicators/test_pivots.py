"""Pivots: where the market turned, and the row from which on anybody could know it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import Pivots, atr, fractal_pivots, last_fractal, probe_bars, zigzag_pivots, zigzag_state

BARS = probe_bars(600, seed=5)
HIGH, LOW, CLOSE = BARS["high"], BARS["low"], BARS["close"]
COLUMNS = ("rows", "prices", "kinds", "known_rows")


def table(pivots: Pivots) -> list[tuple[float, ...]]:
    """(row, price, kind, known row) of each pivot."""
    return list(zip(*(getattr(pivots, name).tolist() for name in COLUMNS), strict=True))


def walk(seed: int, n: int = 300, ticks: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Highs and lows of a random walk around 100; with `ticks` in steps that make equal prices common."""
    rng = np.random.default_rng(seed)
    middle = 100.0 + np.cumsum(rng.normal(0.0, 1.0, n))
    spread = np.abs(rng.normal(0.0, 0.7, n))
    low, high = middle - spread, middle + spread
    low += max(0.0, 10.0 - low.min())
    high = np.maximum(high, low)
    return (np.round(high / ticks) * ticks, np.round(low / ticks) * ticks) if ticks else (high, low)


# -- fractals ----------------------------------------------------------------------------------------------------------


def fractals_by_definition(x: np.ndarray, kind: int, left: int, right: int) -> list[tuple[float, ...]]:
    """Runs of equal values as one bar on their last row; the bars before may be equal, the bars after may not."""
    found = []
    for i in range(len(x) - right):
        begin = i
        while begin > 0 and x[begin - 1] == x[i]:
            begin -= 1
        before, after = kind * x[max(begin - left, 0) : begin], kind * x[i + 1 : i + right + 1]
        if len(before) == left and (before <= kind * x[i]).all() and (after < kind * x[i]).all():
            found.append((i, x[i], kind, i + right))
    return found


@pytest.mark.parametrize(("left", "right"), [(1, 1), (2, 2), (5, 5), (3, 1), (1, 4), (20, 20), (400, 2), (2, 400)])
@pytest.mark.parametrize("ticks", [0, 1, 3])
def test_fractals_are_those_of_the_definition(left: int, right: int, ticks: int) -> None:
    high, low = walk(left + right, ticks=ticks)
    found = fractals_by_definition(high, 1, left, right) + fractals_by_definition(low, -1, left, right)
    assert table(fractal_pivots(high, low, left, right)) == sorted(found, key=lambda pivot: (pivot[0], -pivot[2]))


@pytest.mark.parametrize(
    ("highs", "rows"),
    [
        ([1, 2, 5, 2, 1], [2]),
        ([1, 2, 5, 5, 5, 2, 1], [4]),  # a plateau counts as one bar, on its last row
        ([1, 2, 5, 4, 5, 2, 1], [4]),  # of two equal highs within reach the later one
        ([1, 2, 5, 4, 3, 5, 2, 1], [2, 5]),  # out of reach of each other: both
        ([9, 5, 5, 5, 2, 1], []),  # a shelf on the way down
        ([5, 2, 1, 0, 0], []),  # fewer than two bars before it
        ([5, 5, 5, 2, 1], []),  # nor has a plateau that starts the data
        ([1, 2, 5, 2], []),  # not confirmed yet
        ([4, 4, 4, 4, 4, 4], []),  # what does not move does not turn
    ],
)
def test_ties_and_edges_of_a_fractal_high(highs: list[float], rows: list[int]) -> None:
    flat = np.zeros(len(highs))
    assert fractal_pivots(np.array(highs, dtype=float), flat).rows.tolist() == rows
    mirrored = fractal_pivots(flat, -np.array(highs, dtype=float))
    assert mirrored.rows.tolist() == rows
    assert (mirrored.kinds == -1).all()


def test_a_bar_that_is_both_gives_its_high_first() -> None:
    pivots = fractal_pivots(np.array([2.0, 2.0, 9.0, 2.0, 2.0]), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
    assert table(pivots) == [(2, 9.0, 1, 4), (2, 0.0, -1, 4)]


def test_the_last_fractal_is_the_last_row_of_the_table_known_by_then() -> None:
    pivots, found = fractal_pivots(HIGH, LOW, 3, 2), last_fractal(HIGH, LOW, 3, 2)
    for t in range(0, len(BARS), 7):
        for kind, price, age in ((1, found.high, found.bars_since_high), (-1, found.low, found.bars_since_low)):
            known = (pivots.known_rows <= t) & (pivots.kinds == kind)
            if not known.any():
                assert np.isnan(price.iloc[t])
                assert np.isnan(age.iloc[t])
            else:
                assert (price.iloc[t], age.iloc[t]) == (pivots.prices[known][-1], t - pivots.rows[known][-1])


@pytest.mark.parametrize("window", [0, -1, 2.5, True])
def test_a_fractal_needs_bars_on_both_sides(window: float) -> None:
    with pytest.raises(ParameterError, match="left must be a whole number of bars"):
        fractal_pivots(HIGH, LOW, window, 2)
    with pytest.raises(ParameterError, match="right must be a whole number of bars"):
        last_fractal(HIGH, LOW, 2, window)


# -- zigzag ------------------------------------------------------------------------------------------------------------


def zigzag_by_definition(high: np.ndarray, low: np.ndarray, distance: np.ndarray) -> list[tuple[float, ...]]:
    """At each bar look back over the whole leg anew; `distance` in price, bar by bar."""
    found: list[tuple[float, ...]] = []
    start, kind = 0, 0  # the leg's first bar, and what it looks for: +1 a high, -1 a low
    for t in range(1, len(high)):
        ends = {}
        for sought in (1, -1) if kind == 0 else (kind,):
            ahead, behind = (high, low) if sought > 0 else (low, high)
            leg = sought * ahead[start : t + 1]
            extreme = start + len(leg) - 1 - int(np.argmax(leg[::-1]))
            since = sought * behind[extreme + 1 : t + 1]
            if extreme < t and leg.max() - since.min() >= distance[t]:
                ends[sought] = extreme
        if len(ends) == 1:
            (sought, extreme), *_ = ends.items()
            found.append((extreme, (high if sought > 0 else low)[extreme], sought, t))
            start, kind = extreme + 1, -sought
    return found


@pytest.mark.parametrize("ticks", [0, 1])
@pytest.mark.parametrize("distance", [2.0, 5.0, 9.0])
@pytest.mark.parametrize("seed", range(6))
def test_zigzag_pivots_are_those_of_the_definition(seed: int, distance: float, ticks: int) -> None:
    high, low = walk(seed, ticks=ticks)
    for unit in (np.ones(len(high)), np.random.default_rng(seed).choice([0.5, 1.0, 4.0], len(high))):
        pivots = zigzag_pivots(high, low, distance, unit)
        assert table(pivots)[:-1] == zigzag_by_definition(high, low, distance * unit)
    assert pivots.provisional.tolist() == [False] * (len(pivots) - 1) + [True]


@pytest.mark.parametrize(
    ("prices", "known"),
    [
        ([100, 110, 99, 110], [(0, 1), (1, 2), (2, 3)]),  # reaching the threshold of 10 % is enough
        ([100, 110, 99.1, 110], [(0, 1)]),  # not reaching it is not
        ([100, 120, 120, 100], [(0, 1), (2, 3)]),  # of equal extremes the latest
        ([100, 95, 91, 89, 100], [(0, 3), (3, 4)]),  # the first pivot may be the first bar
        ([100, 101, 102, 103, 104], []),  # no leg of ten percent: no direction, no pivot
        ([100], []),
        ([], []),
    ],
)
def test_thresholds_ties_and_first_pivots(prices: list[float], known: list[tuple[int, int]]) -> None:
    path = np.array(prices, dtype=float)
    pivots = zigzag_pivots(path, path, 0.10)
    done = ~pivots.provisional
    assert list(zip(pivots.rows[done].tolist(), pivots.known_rows[done].tolist(), strict=True)) == known
    assert len(pivots) == (len(known) + 1 if known else 0)


def test_a_bar_that_moves_the_extreme_only_continues_the_leg() -> None:
    """Its other end is far away, and nobody knows which came first."""
    high, low = np.array([100.0, 120.0, 130.0, 129.0]), np.array([100.0, 118.0, 90.0, 89.0])
    assert table(zigzag_pivots(high, low, 0.10)) == [(0, 100.0, -1, 1), (2, 130.0, 1, 3), (3, 89.0, -1, 4)]


def test_two_first_pivots_at_once_decide_nothing() -> None:
    """The first bar holds the others: both its ends are ten percent away from them until one of them is passed."""
    high, low = np.array([120.0, 110.0, 110.0, 121.0]), np.array([80.0, 95.0, 95.0, 105.0])
    state = zigzag_state(high, low, 0.10)
    assert np.isnan(state.direction[:3]).all()
    assert (state.direction[3], state.pivot[3], state.extreme[3]) == (1.0, 80.0, 121.0)


def test_a_unit_follows_the_market() -> None:
    """Two units of 1 are not reached; as soon as the unit is one half they are, from the lowest low since the high."""
    path, unit = np.array([10.0, 13.0, 11.5, 12.0, 12.1]), np.array([1.0, 1.0, 1.0, 1.0, 0.5])
    pivots = zigzag_pivots(path, path, 2.0, unit)
    assert table(pivots) == [(0, 10.0, -1, 1), (1, 13.0, 1, 4), (2, 11.5, -1, 5)]


@pytest.mark.parametrize("threshold", [0.02, 0.05, 0.2])
def test_the_state_is_what_the_table_says_at_each_bar(threshold: float) -> None:
    pivots, state = zigzag_pivots(HIGH, LOW, threshold), zigzag_state(HIGH, LOW, threshold)
    for t in range(len(BARS)):
        known = pivots.known_rows <= t
        if not known.any():
            assert all(np.isnan(column.iloc[t]) for column in state)
            continue
        row, price, kind = pivots.rows[known][-1], pivots.prices[known][-1], pivots.kinds[known][-1]
        leg = (HIGH if kind < 0 else LOW).to_numpy()[row + 1 : t + 1]
        assert (state.direction.iloc[t], state.pivot.iloc[t], state.bars_since_pivot.iloc[t]) == (-kind, price, t - row)
        assert state.extreme.iloc[t] == (leg.max() if kind < 0 else leg.min())


def test_a_zigzag_alternates_and_its_legs_are_long_enough() -> None:
    pivots = zigzag_pivots(HIGH, LOW, 0.05)
    legs = np.diff(pivots.prices)
    assert pivots.alternating
    assert (np.sign(legs) == pivots.kinds[1:]).all()
    assert (np.abs(legs)[:-1] >= 0.05 * pivots.prices[:-2]).all()
    assert (np.diff(pivots.rows) > 0).all()


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.0, 5.0, float("nan")])
def test_a_threshold_that_is_no_fraction_is_refused(threshold: float) -> None:
    with pytest.raises(ParameterError, match="a fraction of the price between 0 and 1"):
        zigzag_pivots(HIGH, LOW, threshold)


@pytest.mark.parametrize("threshold", [0.0, float("inf"), float("nan")])
def test_a_threshold_that_is_no_number_of_units_is_refused(threshold: float) -> None:
    with pytest.raises(ParameterError, match="a positive number of units"):
        zigzag_pivots(HIGH, LOW, threshold, unit=atr(HIGH, LOW, CLOSE))


def test_fractions_of_prices_that_are_not_positive_are_refused_and_units_are_not() -> None:
    with pytest.raises(DataError, match="needs positive prices: give a unit"):
        zigzag_pivots(HIGH - 100.0, LOW - 100.0)
    assert len(zigzag_pivots(HIGH - 100.0, LOW - 100.0, 3.0, unit=atr(HIGH, LOW, CLOSE))) > 10


# -- what both keep ----------------------------------------------------------------------------------------------------

BOTH = {
    "fractal": lambda high, low: fractal_pivots(high, low, 4, 3),
    "zigzag": lambda high, low: zigzag_pivots(high, low, 0.04),
    "zigzag in units": lambda high, low: zigzag_pivots(high, low, 3.0, unit=high - low + 0.1),
}


@pytest.mark.parametrize("name", BOTH)
def test_a_history_cut_anywhere_gives_the_pivots_that_were_known_there(name: str) -> None:
    whole = BOTH[name](HIGH, LOW)
    for cut in range(1, len(BARS) + 1, 3):
        early = BOTH[name](HIGH.iloc[:cut], LOW.iloc[:cut])
        assert table(early.known_at(-1)) == table(whole.known_at(cut - 1))


@pytest.mark.parametrize("name", ["fractal", "zigzag in units"])
def test_upside_down_highs_are_lows(name: str) -> None:
    """Fractions of a price know up from down: they are left out."""
    high, low = walk(3)
    upright, turned = BOTH[name](high, low), BOTH[name](-low, -high)
    expected = [(row, -price, -kind, known) for row, price, kind, known in table(upright)]
    assert sorted(table(turned)) == sorted(expected)


@given(st.integers(0, 2**32 - 1), st.integers(-6, 6))
@settings(max_examples=30, deadline=None)
def test_a_scale_changes_prices_only(seed: int, power: int) -> None:
    """Powers of two, so that not a bit is rounded."""
    high, low = walk(seed, 120)
    for name in ("fractal", "zigzag"):
        plain, scaled = BOTH[name](high, low), BOTH[name](high * 2.0**power, low * 2.0**power)
        assert table(scaled) == [(row, price * 2.0**power, kind, known) for row, price, kind, known in table(plain)]


@pytest.mark.parametrize("name", BOTH)
def test_interpreted_as_compiled(name: str) -> None:
    compiled, state, last = BOTH[name](HIGH, LOW), zigzag_state(HIGH, LOW, 0.03), last_fractal(HIGH, LOW)
    with interpreted():
        assert table(BOTH[name](HIGH, LOW)) == table(compiled)
        for one, other in zip((*zigzag_state(HIGH, LOW, 0.03), *last_fractal(HIGH, LOW)), (*state, *last), strict=True):
            pd.testing.assert_series_equal(one, other, check_exact=True)


@pytest.mark.parametrize("function", [zigzag_state, last_fractal, fractal_pivots, zigzag_pivots])
def test_bad_input_is_refused(function) -> None:
    holed = HIGH.copy()
    holed.iloc[50] = np.nan
    with pytest.raises(DataError, match="high holds nan at 2000-02-20"):
        function(holed, LOW)
    with pytest.raises(DataError, match="differ in length: high 600, low 599"):
        function(HIGH, LOW.iloc[1:])
    with pytest.raises(DataError, match="comes after"):
        function(HIGH.iloc[::-1], LOW.iloc[::-1])


@pytest.mark.parametrize("blanks", [1, 40])
def test_leading_blanks_shift_everything(blanks: int) -> None:
    high, low = (np.concatenate([np.full(blanks, np.nan), x.to_numpy()]) for x in (HIGH, LOW))
    for function in (fractal_pivots, zigzag_pivots):
        plain, shifted = function(HIGH.to_numpy(), LOW.to_numpy()), function(high, low)
        assert (shifted.rows == plain.rows + blanks).all()
        assert (shifted.known_rows == plain.known_rows + blanks).all()
    for function in (last_fractal, zigzag_state):
        for one, other in zip(function(high, low), function(HIGH.to_numpy(), LOW.to_numpy()), strict=True):
            np.testing.assert_array_equal(one[blanks:], other)
            assert np.isnan(one[:blanks]).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_bars_have_no_pivots(n: int) -> None:
    x = np.arange(10.0, n + 10.0)
    assert len(fractal_pivots(x, x)) == 0
    assert len(zigzag_pivots(x, x, 0.99)) == 0
    assert all(np.isnan(column).all() for column in (*last_fractal(x, x), *zigzag_state(x, x, 0.99)))


def test_a_constant_price_has_no_pivots() -> None:
    flat = np.full(80, 7.0)
    assert len(fractal_pivots(flat, flat)) == len(zigzag_pivots(flat, flat, 0.01)) == 0
    assert len(zigzag_pivots(flat, flat, 1.0, unit=np.zeros(80))) == 0


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_frame_marks_what_is_provisional() -> None:
    pivots = zigzag_pivots(HIGH, LOW, 0.05)
    frame = pivots.to_frame()
    assert list(frame) == ["row", "time", "kind", "price", "known_row", "known_time", "provisional"]
    assert frame["known_row"].isna().tolist() == frame["provisional"].tolist() == [False] * (len(frame) - 1) + [True]
    assert pd.isna(frame["known_time"].iloc[-1])
    assert (frame["known_time"].iloc[:-1] == HIGH.index[pivots.known_rows[:-1]]).all()
    assert (frame["price"] == np.where(frame["kind"] == "high", HIGH[frame["time"]], LOW[frame["time"]])).all()
    assert list(zigzag_pivots(HIGH.to_numpy(), LOW.to_numpy()).to_frame())[:3] == ["row", "kind", "price"]
    assert "the last one provisional" in repr(pivots)
    assert pivots._repr_html_().count("<tr") == 9


def test_a_table_is_immutable_and_free_of_contradictions() -> None:
    pivots = Pivots([1, 4], [2.0, 1.0], [1, -1], [2, 9], pd.RangeIndex(9))
    with pytest.raises(ValueError, match="read-only"):
        pivots.prices[0] = 3.0
    for columns, said in [
        (([1, 4], [2.0], [1, -1], [2, 6]), "pivots differ in length: rows 2, prices 1"),
        (([4, 1], [2.0, 1.0], [1, -1], [5, 6]), "pivot 1 has a row before its predecessor's"),
        (([1, 4], [2.0, 1.0], [1, 0], [5, 6]), "pivot 1 has a kind that is neither"),
        (([1, 4], [2.0, np.nan], [1, -1], [5, 6]), "pivot 1 has a price that is not finite"),
        (([1, 4], [2.0, 1.0], [1, -1], [0, 6]), "pivot 0 has a known row before its row"),
        (([1, 9], [2.0, 1.0], [1, -1], [1, 9]), "pivot 1 has a row that is no bar"),
    ]:
        with pytest.raises(DataError, match=said):
            Pivots(*columns, pd.RangeIndex(9))
    with pytest.raises(ParameterError, match="no bar 9 among 9"):
        pivots.known_at(9)


def test_the_plot_shows_every_pivot_and_since_when_it_was_known() -> None:
    pivots = zigzag_pivots(HIGH, LOW, 0.05)
    ax = pivots.plot(CLOSE)
    assert [len(line.get_xdata()) for line in ax.lines[1:]] == [len(pivots), *np.bincount(pivots.kinds + 1)[[2, 0]]]
    assert len(ax.collections[0].get_segments()) == len(pivots)
    ax.figure.clear()


# -- real markets ------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_turns_of_the_index_that_everybody_remembers(real_data: Path) -> None:
    """S&P 500, legs of 20 %, intraday: the lows of 2002-10-10, 2008-11-21 and 2009-03-06, the high of 2007-10-11."""
    bars = pd.read_parquet(real_data / "index/sp500_1999_2018.parquet").set_index("date")
    frame = zigzag_pivots(bars["high"], bars["low"], 0.20).to_frame().set_index("time")
    assert (
        frame.loc["2002-10-10", "kind"] == frame.loc["2008-11-21", "kind"] == frame.loc["2009-03-06", "kind"] == "low"
    )
    assert frame.loc["2007-10-11", ["kind", "price"]].tolist() == ["high", pytest.approx(1576.09, abs=0.01)]
    assert frame.loc["2009-03-06", "price"] == pytest.approx(666.79, abs=0.01)
    assert frame.loc["2009-03-06", "known_time"] == pd.Timestamp("2009-03-18")  # 803.24 is more than 1.2 x 666.79


@pytest.mark.real_data
def test_five_minutes_of_bitcoin_as_by_definition(real_data: Path) -> None:
    bars = pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet").iloc[30_000:33_000]
    high, low = (bars[name].to_numpy(copy=True) for name in ("high", "low"))
    found = fractals_by_definition(high, 1, 6, 6) + fractals_by_definition(low, -1, 6, 6)
    assert sorted(table(fractal_pivots(high, low, 6, 6))) == sorted(found)
    pivots = zigzag_pivots(high, low, 150.0, unit=np.ones(len(high)))
    assert table(pivots)[:-1] == zigzag_by_definition(high, low, np.full(len(high), 150.0))
