"""Divergences: four kinds, known with their second pivot, and nothing where two values are equal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    Pivots,
    fractal_pivots,
    price_divergences,
    probe_bars,
    rsi,
    rsi_divergence,
    zigzag_pivots,
)

BARS = probe_bars(900, seed=4)
HIGH, LOW, CLOSE = BARS["high"], BARS["low"], BARS["close"]


def kind_of(kind: int, prices: Sequence[float], values: Sequence[float], apart: int = 10) -> list[str]:
    """What two pivots of one kind are, `apart` bars from each other."""
    pivots = Pivots([2, 2 + apart], prices, [kind, kind], [4, 4 + apart], pd.RangeIndex(100))
    oscillator = np.full(100, 50.0)
    oscillator[[2, 2 + apart]] = values
    return price_divergences(pivots, oscillator).to_frame()["kind"].tolist()


@pytest.mark.parametrize(
    ("kind", "prices", "values", "expected"),
    [
        (-1, (100, 90), (20, 30), ["regular_bullish"]),
        (-1, (90, 100), (30, 20), ["hidden_bullish"]),
        (1, (90, 100), (80, 70), ["regular_bearish"]),
        (1, (100, 90), (70, 80), ["hidden_bearish"]),
        (-1, (100, 90), (30, 20), []),  # both fall
        (-1, (90, 100), (20, 30), []),
        (1, (90, 100), (70, 80), []),
        (1, (100, 90), (80, 70), []),
        (-1, (100, 100), (20, 30), []),  # equal prices
        (1, (100, 100), (80, 70), []),
        (-1, (100, 90), (30, 30), []),  # equal values
        (1, (90, 100), (70, 70), []),
    ],
)
def test_the_four_kinds_and_what_is_none(
    kind: int, prices: tuple[float, float], values: tuple[float, float], expected: list[str]
) -> None:
    """StockCharts' ChartSchool and TradingView's "RSI Divergence Indicator" define the kinds alike."""
    assert kind_of(kind, prices, values) == expected
    mirrored = kind_of(-kind, [-p for p in prices], [-v for v in values])
    swap = {"bullish": "bearish", "bearish": "bullish"}
    assert mirrored == [f"{name.split('_')[0]}_{swap[name.split('_')[1]]}" for name in expected]


@pytest.mark.parametrize(("apart", "found"), [(4, 0), (5, 1), (60, 1), (61, 0)])
def test_pivots_too_near_or_too_far_are_not_compared(apart: int, found: int) -> None:
    assert len(kind_of(-1, (100, 90), (20, 30), apart)) == found


def test_a_pivot_without_a_value_and_a_provisional_one_are_not_compared() -> None:
    oscillator = np.linspace(20.0, 40.0, 30)
    pivots = Pivots([2, 12, 25], [100.0, 90.0, 80.0], [-1, -1, -1], [4, 14, 30], pd.RangeIndex(30))
    assert price_divergences(pivots, oscillator).to_frame()["known_row"].tolist() == [14]
    oscillator[:3] = np.nan
    assert len(price_divergences(pivots, oscillator)) == 0


def by_definition(pivots: Pivots, values: np.ndarray, shortest: int, longest: int) -> list[tuple[int, int, str]]:
    """(known row, second row, kind) of every pair, one after the other."""
    found = []
    for kind, side in ((-1, "bullish"), (1, "bearish")):
        chosen = [i for i in range(len(pivots)) if pivots.kinds[i] == kind and pivots.known_rows[i] < len(values)]
        for first, second in pairwise(chosen):
            a, b = pivots.rows[first], pivots.rows[second]
            price = kind * (pivots.prices[second] - pivots.prices[first])
            value = kind * (values[b] - values[a])
            if shortest <= b - a <= longest and price * value < 0:
                name = f"{'regular' if price > 0 else 'hidden'}_{side}"
                found.append((int(pivots.known_rows[second]), int(b), name))
    return sorted(found)


def found_in(pivots: Pivots, values: pd.Series, **options: int) -> list[tuple[int, int, str]]:
    frame = price_divergences(pivots, values, **options).to_frame()
    return sorted(zip(frame["known_row"], frame["second_row"], frame["kind"], strict=True))


@pytest.mark.parametrize(("shortest", "longest"), [(5, 60), (1, 500), (20, 25)])
@pytest.mark.parametrize("pivots", ["fractal", "zigzag"])
def test_all_are_found(pivots: str, shortest: int, longest: int) -> None:
    turns = fractal_pivots(HIGH, LOW, 3, 3) if pivots == "fractal" else zigzag_pivots(HIGH, LOW, 0.03)
    strength = rsi(CLOSE, 9)
    found = found_in(turns, strength, min_bars=shortest, max_bars=longest)
    assert found == by_definition(turns, strength.to_numpy(), shortest, longest)
    assert len({kind for _, _, kind in found}) == 4 or longest == 25


@pytest.mark.parametrize("options", [{}, {"window": 5, "left": 2, "right": 3, "min_bars": 1, "max_bars": 200}])
def test_the_flags_of_a_bar_are_the_divergences_that_became_known_on_it(options: dict[str, int]) -> None:
    given = {"window": 14, "left": 5, "right": 5, "min_bars": 5, "max_bars": 60} | options
    flags = rsi_divergence(HIGH, LOW, CLOSE, **options)
    turns, strength = fractal_pivots(HIGH, LOW, given["left"], given["right"]), rsi(CLOSE, given["window"])
    expected = by_definition(turns, strength.to_numpy(), given["min_bars"], given["max_bars"])
    for name, flag in flags._asdict().items():
        assert np.flatnonzero(flag == 1.0).tolist() == [row for row, _, kind in expected if kind == name]
        assert flag.isna().tolist() == strength.isna().tolist()
        assert set(flag.dropna().unique()) <= {0.0, 1.0}


def test_a_history_cut_anywhere_gives_the_divergences_that_were_known_there() -> None:
    strength, pivots = rsi(CLOSE), zigzag_pivots(HIGH, LOW, 0.03)
    whole, flags = price_divergences(pivots, strength), rsi_divergence(HIGH, LOW, CLOSE)
    for cut in range(1, len(BARS) + 1, 17):
        bars = BARS.iloc[:cut]
        early = price_divergences(zigzag_pivots(bars["high"], bars["low"], 0.03), strength.iloc[:cut])
        pd.testing.assert_frame_equal(early.to_frame(), whole.known_at(cut - 1).to_frame())
        for one, other in zip(rsi_divergence(bars["high"], bars["low"], bars["close"]), flags, strict=True):
            pd.testing.assert_series_equal(one, other.iloc[:cut], check_exact=True)


def test_interpreted_as_compiled() -> None:
    compiled = rsi_divergence(HIGH, LOW, CLOSE)
    with interpreted():
        for one, other in zip(rsi_divergence(HIGH, LOW, CLOSE), compiled, strict=True):
            pd.testing.assert_series_equal(one, other, check_exact=True)


@pytest.mark.parametrize("n", [0, 1, 20])
def test_short_and_constant_data_have_none(n: int) -> None:
    flat = np.full(n, 5.0)
    flags = rsi_divergence(flat, flat, flat)
    assert all(np.isnan(flag[:14]).all() and (flag[14:] == 0.0).all() for flag in flags)


def test_leading_blanks_shift_the_flags() -> None:
    padded = [np.concatenate([np.full(6, np.nan), x.to_numpy()]) for x in (HIGH, LOW, CLOSE)]
    for one, other in zip(rsi_divergence(*padded), rsi_divergence(HIGH, LOW, CLOSE), strict=True):
        np.testing.assert_array_equal(one[6:], other)


def test_bad_input_is_refused() -> None:
    pivots, strength = fractal_pivots(HIGH, LOW), rsi(CLOSE)
    with pytest.raises(DataError, match="oscillator of 899 bars, pivots of 900"):
        price_divergences(pivots, strength.iloc[1:])
    with pytest.raises(DataError, match="not the same bars"):
        price_divergences(pivots, strength.shift(freq="1D"))
    with pytest.raises(ParameterError, match="min_bars 61 is more than max_bars 60"):
        price_divergences(pivots, strength, 61)
    with pytest.raises(ParameterError, match="min_bars must be a whole number"):
        rsi_divergence(HIGH, LOW, CLOSE, min_bars=0)
    with pytest.raises(DataError, match="differ in length: high 900, low 900, close 899"):
        rsi_divergence(HIGH, LOW, CLOSE.iloc[1:])
    with pytest.raises(ParameterError, match="no bar 900 among 900"):
        price_divergences(pivots, strength).known_at(900)


def test_they_are_shown() -> None:
    found = price_divergences(fractal_pivots(HIGH, LOW, 5, 5), rsi(CLOSE))
    axes = found.plot(CLOSE, rsi(CLOSE))
    assert [len(ax.lines) for ax in axes] == [len(found) + 1] * 2
    axes[0].figure.clear()
    assert "regular bullish" in repr(found)
    assert found._repr_html_().count("<tr") == 9
    frame = found.to_frame()
    assert (frame["known_time"] - frame["time"] == pd.Timedelta(days=5)).all()


@pytest.mark.real_data
@pytest.mark.parametrize("path", ["index/sp500_1999_2018.parquet", "crypto/bitvavo_1h/BTC_EUR.parquet"])
def test_all_are_found_on_real_bars(real_data: Path, path: str) -> None:
    bars = pd.read_parquet(real_data / path).iloc[:5_000]
    turns, strength = fractal_pivots(bars["high"], bars["low"], 5, 5), rsi(bars["close"])
    assert found_in(turns, strength) == by_definition(turns, strength.to_numpy(), 5, 60)
    flags = rsi_divergence(bars["high"], bars["low"], bars["close"])
    assert sum(int((flag == 1.0).sum()) for flag in flags) == len(found_in(turns, strength)) > 50
