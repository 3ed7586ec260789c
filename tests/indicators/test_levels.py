"""Zones, Fibonacci levels and floor-trader pivots: what was known, from when on, and at which price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    Pivots,
    atr,
    camarilla_pivots,
    fibonacci_extensions,
    fibonacci_levels,
    fibonacci_pivots,
    fibonacci_retracements,
    floor_pivots,
    fractal_pivots,
    nearest_zone,
    probe_bars,
    woodie_pivots,
    zigzag_pivots,
    zones,
)

BARS = probe_bars(700, seed=8)
HIGH, LOW, CLOSE = BARS["high"], BARS["low"], BARS["close"]

# -- Fibonacci ---------------------------------------------------------------------------------------------------------


def test_retracements_of_the_books() -> None:
    """A leg from 100 to 200, and the same leg down."""
    expected = {0.236: 176.4, 0.382: 161.8, 0.5: 150.0, 0.618: 138.2, 0.786: 121.4}
    assert fibonacci_retracements(100, 200).to_dict() == pytest.approx(expected)
    assert fibonacci_retracements(200, 100).to_dict() == pytest.approx({r: 300 - p for r, p in expected.items()})


def test_extensions_of_the_books() -> None:
    """100 to 200, back to 150, measured from there."""
    expected = {1.0: 250.0, 1.272: 277.2, 1.618: 311.8, 2.618: 411.8}
    assert fibonacci_extensions(100, 200, 150).to_dict() == pytest.approx(expected)
    assert fibonacci_extensions(200, 100, 150, [1.0, 2.0]).to_list() == [50.0, -50.0]


@given(*[st.integers(-(2**20), 2**20)] * 3, st.integers(-(2**20), 2**20))
@settings(max_examples=50, deadline=None)
def test_levels_move_with_the_prices(a: int, b: int, c: int, shift: int) -> None:
    """Whole numbers and ratios of a half: nothing is rounded."""
    ratios = [0.0, 0.5, 1.0]
    moved = fibonacci_retracements(a + shift, b + shift, ratios)
    assert moved.to_list() == (fibonacci_retracements(a, b, ratios) + shift).to_list()
    assert fibonacci_retracements(a, b, ratios).iloc[[0, 2]].to_list() == [b, a]
    assert fibonacci_extensions(-a, -b, -c, ratios).to_list() == (-fibonacci_extensions(a, b, c, ratios)).to_list()


@pytest.mark.parametrize("threshold", [0.03, 0.08])
def test_the_levels_of_a_bar_are_those_of_the_last_two_pivots_known_by_then(threshold: float) -> None:
    pivots, found = zigzag_pivots(HIGH, LOW, threshold), fibonacci_levels(HIGH, LOW, threshold)
    for t in range(0, len(BARS), 5):
        known = pivots.prices[pivots.known_rows <= t]
        values = [column.iloc[t] for column in found]
        if len(known) < 2:
            assert np.isnan(values).all()
        else:
            assert values[:2] == known[-2:].tolist()
            assert values[2:] == pytest.approx(fibonacci_retracements(*known[-2:]).to_list())


# -- zones -------------------------------------------------------------------------------------------------------------


def zones_by_definition(
    pivots: Pivots, close: np.ndarray, row: int, tolerance: float, lifetime: int, unit: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Every bar and every zone, nothing remembered but the zones."""
    known = [
        (known, price, kind)
        for known, price, kind in zip(pivots.known_rows, pivots.prices, pivots.kinds, strict=True)
        if known <= row
    ]
    alive: list[dict[str, Any]] = []
    for t in range(row + 1):
        for _, price, kind in sorted((one for one in known if one[0] == t), key=lambda one: one[0]):
            near = [zone for zone in alive if abs(price - zone["centre"]) <= zone["half"]]
            if near:
                zone = min(near, key=lambda zone: abs(price - zone["centre"]))
                zone["touches"] += 1
                zone["centre"] += (price - zone["centre"]) / zone["touches"]
                zone["last_row"] = t
                continue
            half = tolerance * (price if unit is None else unit[t])
            side = 1 if close[t] > price + half else -1 if close[t] < price - half else -kind
            zone = {"centre": price, "half": half, "touches": 1, "side": side, "breaks": 0, "broken_row": None}
            alive.append(zone | {"first_row": t, "last_row": t})
        alive = [zone for zone in alive if t - zone["last_row"] < lifetime]
        for zone in alive:
            below = close[t] < zone["centre"] - zone["half"]
            above = close[t] > zone["centre"] + zone["half"]
            if below if zone["side"] > 0 else above:
                zone |= {"side": -zone["side"], "breaks": zone["breaks"] + 1, "broken_row": t}
    return sorted(alive, key=lambda zone: -zone["centre"])


def assert_same_zones(found: Any, expected: list[dict[str, Any]]) -> None:
    frame = found.to_frame()
    assert frame["kind"].tolist() == ["support" if zone["side"] > 0 else "resistance" for zone in expected]
    for name in ("centre", "touches", "breaks", "first_row", "last_row"):
        assert frame[name].tolist() == [zone[name] for zone in expected], name
    assert [None if pd.isna(row) else row for row in frame["broken_row"]] == [zone["broken_row"] for zone in expected]
    assert (frame["upper"] - frame["lower"]).to_numpy() == pytest.approx([2 * zone["half"] for zone in expected])
    assert frame["strength"].tolist() == [zone["touches"] / (1 + zone["breaks"]) for zone in expected]


@pytest.mark.parametrize(("tolerance", "lifetime"), [(0.01, 250), (0.03, 60), (0.002, 1_000), (0.05, 20)])
@pytest.mark.parametrize("row", [20, 333, -1])
def test_zones_are_those_of_the_definition(tolerance: float, lifetime: int, row: int) -> None:
    for pivots in (fractal_pivots(HIGH, LOW, 4, 2), zigzag_pivots(HIGH, LOW, 0.03)):
        found = zones(pivots, CLOSE, row, tolerance, lifetime)
        expected = zones_by_definition(pivots, CLOSE.to_numpy(), row % len(BARS), tolerance, lifetime)
        assert_same_zones(found, expected)


def test_zones_in_units_are_those_of_the_definition() -> None:
    pivots, unit = fractal_pivots(HIGH, LOW, 4, 4), atr(HIGH, LOW, CLOSE)
    late = Pivots(*(getattr(pivots, name)[5:] for name in ("rows", "prices", "kinds", "known_rows")), pivots.index)
    found = zones(late, CLOSE, tolerance=0.7, unit=unit)
    assert_same_zones(found, zones_by_definition(late, CLOSE.to_numpy(), 699, 0.7, 250, unit.to_numpy()))


def hand_made(prices: list[float], kinds: list[int], known: list[int], close: list[float], **options: Any) -> Any:
    pivots = Pivots([0] * len(prices), prices, kinds, known, pd.RangeIndex(len(close)))
    return zones(pivots, np.array(close), **options).to_frame()


@pytest.mark.parametrize(
    ("last", "kind", "breaks"),
    [
        (99.0, "support", 0),  # the lower edge: touched, not broken
        (98.9, "resistance", 1),
        (101.0, "support", 0),
        (200.0, "support", 0),
    ],
)
def test_only_a_close_beyond_the_far_edge_breaks_a_zone(last: float, kind: str, breaks: int) -> None:
    zone = hand_made([100.0], [-1], [1], [103.0, 103.0, last]).iloc[0]
    assert (zone["kind"], zone["breaks"], zone["lower"], zone["upper"]) == (kind, breaks, 99.0, 101.0)


@pytest.mark.parametrize(
    ("close", "pivot", "kind"),
    [
        (102.0, 1, "support"),
        (98.0, -1, "resistance"),
        (100.5, 1, "resistance"),
        (100.5, -1, "support"),
        (101.0, 1, "resistance"),  # an edge belongs to the zone
        (99.0, -1, "support"),
    ],
)
def test_the_first_side_is_that_of_the_close_and_inside_that_of_the_pivot(close: float, pivot: int, kind: str) -> None:
    assert hand_made([100.0], [pivot], [1], [close, close])["kind"].tolist() == [kind]


def test_a_pivot_at_exactly_the_half_width_joins() -> None:
    assert hand_made([100.0, 101.0], [-1, -1], [0, 1], [105.0, 105.0])["touches"].tolist() == [2]
    assert hand_made([100.0, 101.1], [-1, -1], [0, 1], [105.0, 105.0])["touches"].tolist() == [1, 1]


def test_a_zone_without_a_touch_is_forgotten_after_its_lifetime() -> None:
    assert len(hand_made([100.0], [-1], [1], [105.0] * 4, lifetime=3)) == 1
    assert len(hand_made([100.0], [-1], [1], [105.0] * 5, lifetime=3)) == 0


def test_what_is_not_known_yet_makes_no_zone() -> None:
    assert len(hand_made([100.0], [-1], [4], [105.0] * 4)) == 0
    assert len(hand_made([100.0], [-1], [2], [105.0] * 4, row=1)) == 0
    assert hand_made([100.0], [-1], [2], [105.0] * 4, row=2)["first_row"].tolist() == [2]


def test_a_history_cut_anywhere_gives_the_zones_that_were_known_there() -> None:
    pivots = fractal_pivots(HIGH, LOW, 3, 3)
    for cut in range(1, len(BARS) + 1, 11):
        early = zones(fractal_pivots(HIGH.iloc[:cut], LOW.iloc[:cut], 3, 3), CLOSE.iloc[:cut])
        pd.testing.assert_frame_equal(early.to_frame(), zones(pivots, CLOSE, cut - 1).to_frame(), check_exact=True)


@pytest.mark.parametrize("lifetime", [30, 250])
def test_the_nearest_zones_of_a_bar_are_those_of_the_table_at_that_bar(lifetime: int) -> None:
    pivots, near = fractal_pivots(HIGH, LOW, 5, 5), nearest_zone(HIGH, LOW, CLOSE, lifetime=lifetime)
    for t in range(0, len(BARS), 9):
        found, close = zones(pivots, CLOSE, t, lifetime=lifetime), CLOSE.iloc[t]
        for zone, price, distance, strength, sign in (
            (found.support, near.support, near.support_distance, near.support_strength, 1),
            (found.resistance, near.resistance, near.resistance_distance, near.resistance_strength, -1),
        ):
            if zone is None:
                assert np.isnan([price.iloc[t], distance.iloc[t], strength.iloc[t]]).all()
            else:
                assert (price.iloc[t], strength.iloc[t]) == (zone["centre"], zone["strength"])
                assert distance.iloc[t] == pytest.approx(sign * (close - zone["centre"]) / close)


def test_no_support_lies_above_the_close_and_no_resistance_below() -> None:
    for t in range(50, len(BARS), 50):
        found = zones(fractal_pivots(HIGH, LOW, 2, 2), CLOSE, t).to_frame()
        support = found["kind"] == "support"
        assert (found["lower"][support] <= CLOSE.iloc[t]).all()
        assert (found["upper"][~support] >= CLOSE.iloc[t]).all()


@pytest.mark.parametrize("power", [-5, 9])
def test_a_scale_changes_the_prices_of_zones_only(power: int) -> None:
    plain = nearest_zone(HIGH, LOW, CLOSE)
    scaled = nearest_zone(*(x * 2.0**power for x in (HIGH, LOW, CLOSE)))
    for name, one, other in zip(plain._fields, plain, scaled, strict=True):
        np.testing.assert_array_equal(other, one * (2.0**power if name in ("support", "resistance") else 1.0))


def test_zones_interpreted_as_compiled() -> None:
    compiled, table = nearest_zone(HIGH, LOW, CLOSE), zones(fractal_pivots(HIGH, LOW), CLOSE).to_frame()
    levels = fibonacci_levels(HIGH, LOW)
    with interpreted():
        for one, other in zip(nearest_zone(HIGH, LOW, CLOSE), compiled, strict=True):
            pd.testing.assert_series_equal(one, other, check_exact=True)
        pd.testing.assert_frame_equal(zones(fractal_pivots(HIGH, LOW), CLOSE).to_frame(), table, check_exact=True)
        for one, other in zip(fibonacci_levels(HIGH, LOW), levels, strict=True):
            pd.testing.assert_series_equal(one, other, check_exact=True)


def test_bad_input_of_zones_is_refused() -> None:
    pivots = fractal_pivots(HIGH, LOW)
    for options, said in [
        ({"close": CLOSE.iloc[1:]}, "close has 699 bars, the pivots are of 700"),
        ({"close": CLOSE, "tolerance": 0.0}, "tolerance must be a positive number; got 0.0"),
        ({"close": CLOSE, "tolerance": float("nan")}, "tolerance must be a positive number"),
        ({"close": CLOSE, "lifetime": 0}, "lifetime must be a whole number of bars"),
        ({"close": CLOSE, "row": 700}, "no bar 700 among 700"),
    ]:
        with pytest.raises((DataError, ParameterError), match=said):
            zones(pivots, **options)
    with pytest.raises(DataError, match="needs positive prices: give a unit"):
        zones(fractal_pivots(HIGH - 200.0, LOW - 200.0), CLOSE)
    with pytest.raises(DataError, match="need positive prices"):
        nearest_zone(HIGH - 200.0, LOW - 200.0, CLOSE - 200.0)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_bars_and_constant_prices_have_no_levels(n: int) -> None:
    flat = np.full(n, 5.0)
    assert all(np.isnan(column).all() for column in nearest_zone(flat, flat, flat))
    assert all(np.isnan(column).all() for column in fibonacci_levels(flat, flat))
    if n:
        assert len(zones(fractal_pivots(flat, flat), flat)) == 0


def test_leading_blanks_shift_the_nearest_zones() -> None:
    padded = [np.concatenate([np.full(9, np.nan), x.to_numpy()]) for x in (HIGH, LOW, CLOSE)]
    for one, other in zip(nearest_zone(*padded), nearest_zone(HIGH, LOW, CLOSE), strict=True):
        np.testing.assert_array_equal(one[9:], other)
        assert np.isnan(one[:9]).all()


def test_zones_are_shown() -> None:
    found = zones(fractal_pivots(HIGH, LOW, 5, 5), CLOSE)
    ax = found.plot(CLOSE)
    assert len(ax.collections) == len(found) > 3
    ax.figure.clear()
    assert found._repr_html_().count("<tr") == len(found) + 1
    assert "zones of support" in repr(found)


# -- floor-trader pivots -----------------------------------------------------------------------------------------------


def two_days(high: float, low: float, close: float) -> list[pd.Series]:
    days = pd.date_range("2024-03-04", periods=2, tz="UTC")
    return [pd.Series([value, 77.0], days) for value in (high, low, close)]


def test_a_worked_day_in_all_four_ways() -> None:
    """High 120, low 100, close 105: range 20. Formulas as StockCharts' ChartSchool, "Pivot Points", and the tables of
    brokers for Woodie and Camarilla (1.1/12, 1.1/6, 1.1/4, 1.1/2 of the range); figures by hand."""
    day = two_days(120.0, 100.0, 105.0)
    p, w = 325.0 / 3.0, 430.0 / 4.0
    expected = {
        floor_pivots: [p, 2 * p - 100, p + 20, 120 + 2 * (p - 100), 2 * p - 120, p - 20, 100 - 2 * (120 - p)],
        woodie_pivots: [w, 115.0, 127.5, 135.0, 95.0, 87.5, 75.0],
        fibonacci_pivots: [p, p + 7.64, p + 12.36, p + 20, p - 7.64, p - 12.36, p - 20],
        camarilla_pivots: [p, 106.83333, 108.66667, 110.5, 116.0, 103.16667, 101.33333, 99.5, 94.0],
    }
    for function, levels in expected.items():
        found = function(*day)
        assert [column.iloc[1] for column in found] == pytest.approx(levels, abs=1e-5)
        assert all(np.isnan(column.iloc[0]) for column in found)


@pytest.mark.parametrize("session", ["1d", "1w", "4h"])
def test_levels_are_those_of_the_last_session_that_closed(session: str) -> None:
    """Every bar looked at alone: all earlier bars, grouped by the session that they opened in."""
    bars = probe_bars(500, seed=3, timeframe="1h").iloc[5:]
    found = floor_pivots(bars["high"], bars["low"], bars["close"], session)
    rule = {"1d": "1D", "1w": "W-MON", "4h": "4h"}[session]
    for t in range(0, len(bars), 13):
        groups = bars.iloc[: t + 1].resample(rule, closed="left", label="left")
        sessions = groups.agg({"high": "max", "low": "min", "close": "last"}).dropna()
        if len(sessions) == 1:
            assert np.isnan(found.pivot.iloc[t])
        else:
            high, low, close = sessions.iloc[-2]
            pivot = (high + low + close) / 3.0
            assert found.pivot.iloc[t] == pytest.approx(pivot)
            assert found.s3.iloc[t] == pytest.approx(low - 2.0 * (high - pivot))


def test_a_session_without_bars_is_passed_over() -> None:
    """After a weekend the levels are those of Friday."""
    bars = embedded("sp500").loc["2018-11-01":]
    found = floor_pivots(bars["high"], bars["low"], bars["close"])
    friday, monday = bars.loc["2018-11-09"], found.pivot.loc["2018-11-12"]
    assert monday == pytest.approx((friday["high"] + friday["low"] + friday["close"]) / 3.0)


def test_later_bars_change_no_level_of_a_session_under_way() -> None:
    bars = probe_bars(96, seed=6, timeframe="1h")
    whole = camarilla_pivots(bars["high"], bars["low"], bars["close"])
    for cut in range(1, 97):
        early = camarilla_pivots(*(bars[name].iloc[:cut] for name in ("high", "low", "close")))
        for one, other in zip(early, whole, strict=True):
            pd.testing.assert_series_equal(one, other.iloc[:cut], check_exact=True)


def test_sessions_need_times_with_a_zone() -> None:
    with pytest.raises(ParameterError, match="sessions need times"):
        floor_pivots(HIGH.to_numpy(), LOW.to_numpy(), CLOSE.to_numpy())
    naive = [x.tz_localize(None) for x in (HIGH, LOW, CLOSE)]
    with pytest.raises(DataError, match="carry no zone"):
        floor_pivots(*naive)
    with pytest.raises(ParameterError, match="timeframe '1M' is not understood"):
        floor_pivots(HIGH, LOW, CLOSE, "1M")


def test_leading_blanks_are_no_session() -> None:
    columns = [x.copy() for x in (HIGH, LOW, CLOSE)]
    for column in columns:
        column.iloc[:10] = np.nan
    found = floor_pivots(*columns)
    assert found.pivot.iloc[:11].isna().all()
    np.testing.assert_array_equal(found.pivot.iloc[11:], floor_pivots(HIGH, LOW, CLOSE).pivot.iloc[11:])


@pytest.mark.parametrize("n", [0, 1])
def test_one_bar_or_none_has_no_session_before(n: int) -> None:
    assert floor_pivots(HIGH.iloc[:n], LOW.iloc[:n], CLOSE.iloc[:n]).pivot.isna().all()


# -- real markets ------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_zones_of_five_minutes_of_bitcoin_as_by_definition(real_data: Path) -> None:
    bars = pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet").set_index("time").iloc[40_000:42_000]
    pivots = fractal_pivots(bars["high"], bars["low"], 8, 8)
    expected = zones_by_definition(pivots, bars["close"].to_numpy(), 1_999, 0.001, 500)
    assert_same_zones(zones(pivots, bars["close"], tolerance=0.001, lifetime=500), expected)


@pytest.mark.real_data
def test_daily_levels_on_five_minute_bars_are_those_of_the_day_before(real_data: Path) -> None:
    bars = pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet").set_index("time").iloc[:3_000]
    bars.index = pd.DatetimeIndex(bars.index).tz_localize(None).tz_localize("UTC")
    found = floor_pivots(bars["high"], bars["low"], bars["close"])
    days = bars.resample("1D").agg({"high": "max", "low": "min", "close": "last"}).shift()
    expected = ((days["high"] + days["low"] + days["close"]) / 3.0).reindex(bars.index.floor("D"))
    np.testing.assert_allclose(found.pivot, expected.to_numpy(), rtol=1e-14)
