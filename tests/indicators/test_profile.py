"""Volume by price: nothing is lost, the value area grows by the book, and the past is all that a bar knows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import VolumeProfile, probe_bars, rolling_volume_profile, volume_profile
from tradelib.indicators.profile import _area, _control

COLUMNS = ["high", "low", "close", "volume"]


def columns_of(n: int, seed: int) -> list[np.ndarray]:
    """Bars with ranges of very different size, some without any, some without volume."""
    rng = np.random.default_rng(seed)
    low = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, n)))
    high = low * (1.0 + np.abs(rng.standard_cauchy(n)) * 0.003)
    flat = rng.random(n) < 0.15
    high[flat] = low[flat]
    close = low + (high - low) * rng.random(n)
    volume = rng.integers(0, 1_000, n).astype(float)
    return [high, low, close, volume]


def by_overlap(columns: list[np.ndarray], edges: np.ndarray) -> np.ndarray:
    """Volume of each row, from the length of the overlap of each bar with it."""
    rows = np.zeros(len(edges) - 1)
    for high, low, c, v in zip(*columns, strict=True):
        for k in range(len(rows)):
            bottom, top, last = edges[k], edges[k + 1], k == len(rows) - 1
            if high > low:
                rows[k] += v * max(min(high, top) - max(low, bottom), 0.0) / (high - low)
            elif bottom <= c < top or (last and c >= top):
                rows[k] += v
    return rows


def grown_by_hand(rows: Sequence[float], share: float, at_once: int) -> tuple[int, int]:
    """The value area as the book tells it: compare the next rows above with the next rows below, take the larger."""
    control = max(range(len(rows)), key=lambda k: (rows[k], -abs(2 * k - len(rows) + 1), -k))
    inside = [control]
    while sum(rows[k] for k in inside) < share * sum(rows):
        above = [k for k in range(max(inside) + 1, max(inside) + 1 + at_once) if k < len(rows)]
        below = [k for k in range(min(inside) - at_once, min(inside)) if k >= 0]
        up, down = sum(rows[k] for k in above), sum(rows[k] for k in below)
        inside += above if above and (not below or up >= down) else below
    return min(inside), max(inside)


# -- rows --------------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 60),
    st.one_of(st.integers(1, 200), st.floats(0.01, 500.0)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-9, 1.0, 1e9]),
)
@settings(max_examples=80, deadline=None)
def test_volume_is_conserved(n: int, grid: float, seed: int, scale: float) -> None:
    """Whatever the rows, all volume is in them, to 1e-9 of it, and none is negative."""
    columns = columns_of(n, seed)
    columns[:3] = [prices * scale for prices in columns[:3]]
    choice = {"bins": grid} if isinstance(grid, int) else {"bin_width": grid * scale}
    profile = volume_profile(*columns, **choice)
    assert profile.volumes.sum() == pytest.approx(columns[3].sum(), rel=1e-9)
    assert (profile.volumes >= -1e-9 * columns[3].sum()).all()
    assert profile.edges[0] <= columns[1].min() * (1 + 1e-9)
    assert profile.edges[-1] >= columns[0].max() * (1 - 1e-9)


@pytest.mark.parametrize("choice", [{"bins": 1}, {"bins": 24}, {"bins": 7}, {"bin_width": 0.5}, {"bin_width": 33.0}])
@pytest.mark.parametrize("seed", range(4))
def test_rows_equal_the_overlap_of_bars_and_rows(choice: dict[str, Any], seed: int) -> None:
    columns = columns_of(80, seed)
    profile = volume_profile(*columns, **choice)
    np.testing.assert_allclose(profile.volumes, by_overlap(columns, profile.edges), rtol=1e-9, atol=1e-7)


def test_bins_divide_the_range_and_widths_lie_on_their_multiples() -> None:
    columns = [np.array([106.0]), np.array([100.2]), np.array([101.0]), np.array([58.0])]
    np.testing.assert_allclose(volume_profile(*columns, bins=4).edges, [100.2, 101.65, 103.1, 104.55, 106.0])
    profile = volume_profile(*columns, bin_width=2.0)
    np.testing.assert_array_equal(profile.edges, [100.0, 102.0, 104.0, 106.0, 108.0])
    np.testing.assert_allclose(profile.volumes, [18.0, 20.0, 20.0, 0.0])


def test_a_price_on_an_edge_belongs_to_the_row_above_it_however_it_is_rounded() -> None:
    """Every tick of 0.01 from 100.00 to 101.00 has a row of its own, though quotients of the two are rounded."""
    ticks = np.round(100.0 + 0.01 * np.arange(101), 2)
    profile = volume_profile(ticks, ticks, ticks, np.arange(101.0), bin_width=0.01)
    np.testing.assert_array_equal(profile.volumes, np.arange(101.0))


def test_stretches_in_the_same_rows_add_up() -> None:
    columns = columns_of(100, seed=5)
    whole = volume_profile(*columns, bin_width=1.0).to_frame().set_index("low")["volume"]
    halves = [volume_profile(*(c[part] for c in columns), bin_width=1.0) for part in (slice(40), slice(40, None))]
    total = pd.concat([half.to_frame().set_index("low")["volume"] for half in halves]).groupby(level=0).sum()
    pd.testing.assert_series_equal(total, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.real_data
@pytest.mark.parametrize("path", ["index/sp500_1999_2018.parquet", "crypto/binance_spot_5m/BTC_USDT.parquet"])
def test_volume_is_conserved_on_real_bars(real_data: Path, path: str) -> None:
    bars = pd.read_parquet(real_data / path)
    for choice in ({"bins": 24}, {"bins": 1_000}, {"bin_width": 10.0}):
        profile = volume_profile(*(bars[name] for name in COLUMNS), **choice)
        assert profile.volumes.sum() == pytest.approx(bars["volume"].sum(), rel=1e-9)


# -- point of control and value area -----------------------------------------------------------------------------------


def test_the_value_area_of_mind_over_markets() -> None:
    """Dalton, Jones and Dalton (2013), figure A1.1: 22,168 at the point of control, 34,491 at the two prices above it.

    43,773 at the two below: the lower pair joins; then the next two below are compared with the same two above.
    """
    rows = np.array([9_000.0, 17_500.0, 17_200.0, 22_000.0, 21_773.0, 22_168.0, 18_000.0, 16_491.0])
    assert rows[3] + rows[4] == 43_773
    assert rows[6] + rows[7] == 34_491
    assert _area(rows, _control(rows), 0.45, 2) == (3, 5)
    assert _area(rows, _control(rows), 0.65, 2) == (1, 5)
    assert _area(rows, _control(rows), 0.75, 2) == (1, 7)


def test_the_value_area_one_price_at_a_time() -> None:
    """Posted on the AmiBroker list (2007): 150 at 106; 90 beats 70, 80 beats 70, 70 beats 50; 390 of 554 in all."""
    rows = np.array([30.0, 44.0, 70.0, 150.0, 90.0, 80.0, 50.0, 40.0])  # 103 to 110
    assert _area(rows, _control(rows), 0.70, 1) == (2, 5)  # 105 to 108
    assert rows[2:6].sum() == 390


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0.01, 1.0), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_the_value_area_grows_as_it_does_by_hand(rows: list[int], share: float, at_once: int) -> None:
    if sum(rows) == 0:
        return
    values = np.array(rows, dtype=float)
    low, high = _area(values, _control(values), share, at_once)
    assert (low, high) == grown_by_hand(rows, share * (1 - 1e-12), at_once)
    assert values[low : high + 1].sum() >= share * values.sum() * (1 - 1e-9)


@pytest.mark.parametrize(
    ("rows", "expected"), [([5, 1, 5, 5, 1], 2), ([5, 1, 1, 5], 0), ([1, 5, 1, 1, 5], 1), ([0, 0, 7], 2), ([3], 0)]
)
def test_of_equal_rows_the_one_nearest_to_the_middle_controls_then_the_lower(rows: list[int], expected: int) -> None:
    assert _control(np.array(rows, dtype=float)) == expected


def test_rounding_does_not_choose_between_equals() -> None:
    """Three rows that differ in the sixteenth digit: the middle one, not the one that was rounded up."""
    assert _control(np.array([0.1 + 0.2, 0.3, 0.3])) == 1
    assert _area(np.array([0.3, 1.0, 0.1 + 0.2]), 1, 0.8, 1) == (1, 2)
    assert _area(np.array([0.1 + 0.2, 1.0, 0.3]), 1, 0.8, 1) == (1, 2)  # of equals the upper one


def test_the_prices_of_a_profile_are_those_of_its_rows() -> None:
    prices = np.array([100.0, 101.0, 102.0, 103.0, 104.0])
    volume = np.array([1.0, 6.0, 10.0, 2.0, 1.0])
    profile = volume_profile(prices, prices, prices, volume, bin_width=1.0, rows_at_once=1)
    assert profile.point_of_control == 102.5
    assert profile.value_area == (101.0, 103.0)
    frame = profile.to_frame()
    assert frame["in_value_area"].tolist() == [False, True, True, False, False]
    assert frame["share"].tolist() == [0.05, 0.3, 0.5, 0.1, 0.05]
    assert list(frame.columns) == ["low", "high", "volume", "share", "in_value_area"]


# -- edges -------------------------------------------------------------------------------------------------------------


def test_a_market_that_does_not_move_has_one_row() -> None:
    flat = np.full(5, 7.0)
    profile = volume_profile(flat, flat, flat, np.full(5, 3.0))
    assert profile.edges.tolist() == [7.0, 7.0]
    assert profile.volumes.tolist() == [15.0]
    assert profile.point_of_control == 7.0
    assert profile.value_area == (7.0, 7.0)


def test_without_volume_there_is_no_point_of_control() -> None:
    high, low, close, volume = columns_of(30, 0)
    profile = volume_profile(high, low, close, volume * 0.0)
    assert math.isnan(profile.point_of_control)
    assert all(math.isnan(price) for price in profile.value_area)
    assert (profile.to_frame()["share"] == 0.0).all()
    assert "nan" in profile.summary()


def test_leading_blanks_are_left_out_and_counted_out() -> None:
    columns = columns_of(50, 3)
    padded = [np.concatenate([np.full(9, np.nan), column]) for column in columns]
    one, other = volume_profile(*padded), volume_profile(*columns)
    np.testing.assert_array_equal(one.volumes, other.volumes)
    assert one.bars == 50


def test_impossible_bars_and_parameters_are_refused_in_words() -> None:
    bars = probe_bars(50)
    high, low, close, volume = (bars[name] for name in COLUMNS)
    upside_down = low.where(bars.index != bars.index[9], high + 1.0)
    with pytest.raises(DataError, match=r"low .* is above high .* at 2000-01-10"):
        volume_profile(high, upside_down, close, volume)
    with pytest.raises(DataError, match=r"volume is -1.0 at row 0"):
        volume_profile(*(np.ones(3) for _ in range(3)), np.array([-1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="at least one bar"):
        volume_profile(*(np.full(4, np.nan) for _ in range(4)))
    for share in (0.0, -0.1, 70, True, math.nan, "0.7"):
        with pytest.raises(ParameterError, match="value_area"):
            volume_profile(high, low, close, volume, value_area=share)
    for width in (0.0, -1.0, math.inf, math.nan, True, "1"):
        with pytest.raises(ParameterError, match="bin_width"):
            volume_profile(high, low, close, volume, bin_width=width)
    with pytest.raises(ParameterError, match=r"[\d,]+ rows .* take a larger one"):
        volume_profile(high, low, close, volume, bin_width=1e-6)
    for name in ("bins", "rows_at_once"):
        with pytest.raises(ParameterError, match=name):
            volume_profile(high, low, close, volume, **{name: 0})


def test_a_profile_cannot_be_changed() -> None:
    profile = volume_profile(*columns_of(20, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.bars = 3
    for array in (profile.volumes, profile.edges):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_a_profile_shows_itself() -> None:
    """One rectangle per row in the notebook; the same rows, and the point of control, in the figure."""
    profile = volume_profile(*columns_of(60, 2), bins=12)
    html = profile._repr_html_()
    assert html.count("<rect") == 12
    assert "point of control" in html
    assert repr(profile) == f"VolumeProfile({profile.summary()})"
    figure = profile.plot()
    np.testing.assert_allclose(figure.data[0].x, profile.volumes)
    assert figure.layout.shapes[0].y0 == profile.point_of_control
    assert volume_profile(*columns_of(60, 2)[:3], np.zeros(60)).plot().layout.shapes == ()


# -- bar by bar --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "bins", "at_once"), [(1, 24, 2), (2, 5, 1), (30, 24, 2), (77, 10, 3)])
def test_each_bar_has_the_profile_of_its_window(window: int, bins: int, at_once: int) -> None:
    columns = columns_of(120, seed=window)
    levels = rolling_volume_profile(*columns, window=window, bins=bins, rows_at_once=at_once)
    for t in range(window - 1, 120, 7):
        part = [column[t - window + 1 : t + 1] for column in columns]
        profile: VolumeProfile = volume_profile(*part, bins=bins, rows_at_once=at_once)
        found = [level[t] for level in levels]
        np.testing.assert_allclose(found, [profile.point_of_control, *profile.value_area], rtol=1e-13)
    assert all(np.isnan(level[: window - 1]).all() for level in levels)


def test_levels_are_in_order_and_within_the_range_of_the_window() -> None:
    high, low, close, volume = columns_of(400, 4)
    control, bottom, top = rolling_volume_profile(high, low, close, volume + 1.0, window=25)
    highest, lowest = pd.Series(high).rolling(25).max(), pd.Series(low).rolling(25).min()
    known = slice(24, None)
    assert (bottom[known] <= control[known]).all()
    assert (control[known] <= top[known]).all()
    assert (bottom[known] >= lowest[known] * (1 - 1e-12)).all()
    assert (top[known] <= highest[known] * (1 + 1e-12)).all()


def test_levels_follow_the_scale_of_prices_and_not_that_of_volume() -> None:
    high, low, close, volume = columns_of(200, 6)
    plain = rolling_volume_profile(high, low, close, volume, window=20)
    scaled = rolling_volume_profile(high * 4.0, low * 4.0, close * 4.0, volume * 0.5, window=20)
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_array_equal(other, 4.0 * one)


def test_a_window_without_volume_has_no_levels_and_the_next_one_has() -> None:
    high, low, close, volume = columns_of(60, 8)
    volume = volume + 1.0
    volume[20:35] = 0.0
    known = np.isfinite(rolling_volume_profile(high, low, close, volume, window=10).point_of_control)
    np.testing.assert_array_equal(np.flatnonzero(~known), [*range(9), *range(29, 35)])


def test_interpreted_as_compiled_and_independent_of_where_history_begins() -> None:
    columns = columns_of(150, 9)
    compiled = rolling_volume_profile(*columns, window=20)
    with interpreted():
        for one, other in zip(rolling_volume_profile(*columns, window=20), compiled, strict=True):
            np.testing.assert_array_equal(one, other)
    late = rolling_volume_profile(*(column[70:] for column in columns), window=20)
    for one, other in zip(late, compiled, strict=True):
        np.testing.assert_array_equal(one[19:], other[89:])
