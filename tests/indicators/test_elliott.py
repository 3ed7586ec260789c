"""Elliott counts: every hard rule at its edge, the search against all combinations, and what ends a running count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    Pivots,
    WaveCount,
    elliott_counts,
    guideline_scores,
    probe_bars,
    rule_violations,
    zigzag_pivots,
)
from tradelib.indicators.elliott import RULES, WAVES

TWO, PASSES, FOUR, THREE = RULES["impulse"]
B_BEYOND, C_SHORT = RULES["zigzag"]
B_SHALLOW, C_NOT_BACK, C_FLAT = RULES["flat"]
C_OUT, D_OUT, E_OUT = RULES["triangle"]

# Waves by hand, upward; each is also tried downward. What breaks, by name.
BY_HAND = [
    ("impulse", [100, 110, 104, 121, 114, 124], ()),
    # wave 2 and the start of wave 1: equal breaks the rule
    ("impulse", [100, 110, 101], ()),
    ("impulse", [100, 110, 100], (TWO,)),
    ("impulse", [100, 110, 99], (TWO,)),
    # wave 3 and the end of wave 1: equal is not beyond
    ("impulse", [100, 110, 104, 111], ()),
    ("impulse", [100, 110, 104, 110], (PASSES,)),
    ("impulse", [100, 110, 104, 108], (PASSES,)),
    # wave 4 and the territory of wave 1: touching it has entered it
    ("impulse", [100, 110, 104, 121, 111], ()),
    ("impulse", [100, 110, 104, 121, 110], (FOUR,)),
    ("impulse", [100, 110, 104, 121, 107], (FOUR,)),
    # wave 3 among 1, 3, 5 (lengths 10, x, 10 or 12): equal is not the shortest
    ("impulse", [100, 110, 102, 111.5, 110.5, 120.5], (THREE,)),
    ("impulse", [100, 110, 102, 112, 111, 121], ()),
    ("impulse", [100, 110, 102, 112, 111, 123], ()),
    ("impulse", [100, 110, 102, 111.5, 110.5, 120], ()),  # 3 and 5 are equally short
    ("impulse", [100, 110, 102, 111.5, 110.5, 119], ()),  # 5 is shorter
    ("impulse", [100, 110, 102, 111.5, 110.5], ()),  # without a fifth wave nothing is decided
    # a truncated fifth is legal
    ("impulse", [100, 110, 104, 121, 114, 120], ()),
    # several rules at once
    ("impulse", [100, 110, 99, 108, 105, 116], (TWO, PASSES, FOUR, THREE)),
    ("zigzag", [100, 110, 105, 115], ()),
    ("zigzag", [100, 110, 100], (B_BEYOND,)),
    ("zigzag", [100, 110, 95, 115], (B_BEYOND,)),
    ("zigzag", [100, 110, 105, 110], (C_SHORT,)),
    ("zigzag", [100, 110, 105, 109], (C_SHORT,)),
    ("flat", [100, 110, 101, 111], ()),  # regular: exactly 90 %
    ("flat", [100, 110, 100, 111], ()),
    ("flat", [100, 110, 101.5, 111], (B_SHALLOW,)),
    ("flat", [100, 110, 95, 116], ()),  # expanded
    ("flat", [100, 110, 95, 105], ()),  # running
    ("flat", [100, 110, 95, 100], (C_NOT_BACK,)),
    ("flat", [100, 110, 95, 99], (C_NOT_BACK,)),
    ("flat", [100, 110, 100, 110], (C_FLAT,)),  # B did not go beyond the start of A: not a running one
    ("flat", [100, 110, 101, 108], (C_FLAT,)),
    ("triangle", [100, 110, 102, 108, 104, 107], ()),
    ("triangle", [100, 110, 98, 108, 104, 107], ()),  # a running one: B beyond the start of A
    ("triangle", [100, 110, 102, 110, 104, 107], (C_OUT,)),
    ("triangle", [100, 110, 102, 108, 102, 107], (D_OUT,)),
    ("triangle", [100, 110, 102, 108, 104, 108], (E_OUT,)),
    ("triangle", [100, 110, 102, 111, 101, 112], (C_OUT, D_OUT, E_OUT)),
]


@pytest.mark.parametrize(("pattern", "prices", "broken"), BY_HAND)
def test_rules_by_hand_upward_and_downward(pattern: str, prices: list[float], broken: tuple[str, ...]) -> None:
    assert rule_violations(pattern, prices) == broken
    assert rule_violations(pattern, [-price for price in prices]) == broken
    assert rule_violations(pattern, [300 - price for price in prices]) == broken


waves = st.lists(st.integers(1, 64), min_size=2, max_size=5)


def path(lengths: Sequence[int]) -> list[float]:
    """Prices that go up and down in turn by these lengths."""
    return [0.0, *itertools.accumulate(length * (-1.0) ** wave for wave, length in enumerate(lengths))]


@given(st.sampled_from(sorted(WAVES)), waves, st.integers(-1_000, 1_000), st.integers(-8, 8))
@settings(max_examples=150, deadline=None)
def test_neither_level_nor_scale_nor_direction_matters(
    pattern: str, lengths: list[int], level: int, power: int
) -> None:
    """Whole numbers and powers of two: nothing is rounded. (The 90 % of a flat are: it is left out.)"""
    prices = path(lengths[: WAVES[pattern]])
    moved = [(price + level) * 2.0**power for price in prices]
    if pattern != "flat":
        assert rule_violations(pattern, moved) == rule_violations(pattern, prices)
    assert rule_violations(pattern, [-price for price in moved]) == rule_violations(pattern, moved)
    assert guideline_scores(pattern, moved) == guideline_scores(pattern, prices)
    assert guideline_scores(pattern, [-price for price in moved]) == guideline_scores(pattern, prices)
    assert all(0.0 <= score <= 1.0 for score in guideline_scores(pattern, prices).values())


@pytest.mark.parametrize(
    ("pattern", "prices", "said"),
    [
        ("impulses", [1, 2, 1.5], "no pattern 'impulses'; did you mean 'impulse'"),
        ("zigzag", [1, 2, 1.5, 3, 2], "zigzag: 5 prices; its start and the ends of 2 to 3 waves"),
        ("impulse", [1, 2], "impulse: 2 prices"),
        ("impulse", [1, 2, 3], "up and down in turn: 1, 2, 3"),
        ("impulse", [1, 2, 2], "up and down in turn"),
        ("impulse", [1, 1, 2], "up and down in turn"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, prices: list[float], said: str) -> None:
    with pytest.raises(ParameterError, match=said.replace("(", r"\(")):
        rule_violations(pattern, prices)
    with pytest.raises(ParameterError):
        guideline_scores(pattern, prices)


# -- guidelines --------------------------------------------------------------------------------------------------------


def test_an_impulse_of_fibonacci_lengths_scores_one() -> None:
    """Frost and Prechter, chapter 4: 2 = 0.618 x 1, 3 = 1.618 x 1, 4 = 0.382 x 3, 5 = 1."""
    scores = guideline_scores("impulse", np.cumsum([0.0, 1.0, -0.618, 1.618, -0.382 * 1.618, 1.0]).tolist())
    assert list(scores) == ["2/1", "3/1", "4/3", "5/1"]
    assert list(scores.values()) == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(("ratio", "score"), [(0.5, 1.0), (0.25, 0.0), (0.2, 0.0), (0.5 / math.sqrt(2), 0.5)])
def test_half_a_target_scores_nothing_and_half_way_half(ratio: float, score: float) -> None:
    assert guideline_scores("zigzag", [0.0, 1.0, 1.0 - ratio]) == {"B/A": pytest.approx(score)}


def test_each_guideline_takes_its_nearest_target() -> None:
    assert guideline_scores("impulse", [0.0, 1.0, 0.5, 0.5 + 2.618])["3/1"] == pytest.approx(1.0)
    assert guideline_scores("flat", [0.0, 1.0, -0.382, 1.236]) == pytest.approx({"B/A": 1.0, "C/A": 1.0})
    assert guideline_scores("triangle", [0.0, 1.0, 0.2, 0.818])["C/A"] == pytest.approx(1.0)


# -- the search against all combinations -------------------------------------------------------------------------------


def is_legal(pattern: str, p: Sequence[float]) -> bool:
    """The rules once more, written for complete and incomplete patterns that start upward."""
    n = len(p)
    if pattern == "impulse":
        first, third, fifth = (p[k + 1] - p[k] if n > k + 1 else math.inf for k in (0, 2, 4))
        shortest = n == 6 and third < first and third < fifth
        return p[2] > p[0] and not shortest and all(price > p[1] for price in p[3:5])
    if pattern == "zigzag":
        return p[2] > p[0] and (n < 4 or p[3] > p[1])
    if pattern == "flat":
        reaches = n < 4 or p[3] > p[1] or (p[2] < p[0] < p[3])
        return p[1] - p[2] >= 0.9 * (p[1] - p[0]) and reaches
    return all((p[k] < p[k - 2]) if k % 2 else (p[k] > p[k - 2]) for k in range(3, n))


def all_combinations(prices: list[float], pattern: str, span: int) -> set[tuple[int, ...]]:
    """Every choice of wave ends; complete ones anywhere, running ones that reach the last pivots."""
    found, last = set(), len(prices) - 1
    for finished in range(3 if pattern == "triangle" else 2, WAVES[pattern] + 1):
        for ends in itertools.combinations(range(len(prices)), finished + 1):
            steps = [b - a for a, b in itertools.pairwise(ends)]
            p = [prices[i] for i in ends]
            p = p if p[1] > p[0] else [-price for price in p]
            waves = [prices[a : b + 1] for a, b in itertools.pairwise(ends)]
            if (
                all(step % 2 == 1 and step <= span for step in steps)
                and all({min(wave), max(wave)} == {wave[0], wave[-1]} for wave in waves)
                and is_legal(pattern, p)
                and (finished == WAVES[pattern] or last - ends[-1] < span)
            ):
                found.add(ends)
    return found


def hand_made(prices: Sequence[float]) -> Pivots:
    rows = np.arange(len(prices))
    kinds = np.where(np.diff(prices, append=prices[-2]) < 0, 1, -1)
    return Pivots(rows, prices, kinds, rows + 1, pd.RangeIndex(len(prices) + 1))


@pytest.mark.parametrize("pattern", WAVES)
@pytest.mark.parametrize("span", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_search_finds_what_trying_everything_finds(pattern: str, span: int, seed: int) -> None:
    """Steps in whole numbers, so that equal prices and equal lengths are common."""
    rng = np.random.default_rng(seed)
    prices = path(rng.integers(1, 8, 13).tolist())
    found = elliott_counts(hand_made(prices), patterns=[pattern], span=span)
    expected = all_combinations(prices, pattern, span)
    assert {count.rows for count in found.complete.counts} == {e for e in expected if len(e) > WAVES[pattern]}
    running = {count.rows for count in found.running.counts}
    assert running <= {e for e in expected if len(e) <= WAVES[pattern]}
    if span == 1:
        assert running == {e for e in expected if len(e) <= WAVES[pattern]}
    assert len(found) == len({(count.rows, count.pattern) for count in found.counts})


def test_upside_down_every_count_is_the_same_the_other_way() -> None:
    prices = path(np.random.default_rng(7).integers(1, 9, 25).tolist())
    upright = elliott_counts(hand_made(prices), span=3)
    turned = elliott_counts(hand_made([-price for price in prices]), span=3)

    def negated(price: float | None) -> float | None:
        return None if price is None else -price

    assert len(upright) > 30
    for one, other in zip(upright.counts, turned.counts, strict=True):
        assert (one.pattern, one.rows, one.score, one.known_row) == (
            other.pattern,
            other.rows,
            other.score,
            other.known_row,
        )
        assert (one.direction, negated(one.invalidation), negated(one.limit)) == (
            -other.direction,
            other.invalidation,
            other.limit,
        )


# -- what ends a running count -----------------------------------------------------------------------------------------


def running(prices: Sequence[float], pattern: str) -> WaveCount:
    (found,) = (
        count
        for count in elliott_counts(hand_made(prices), patterns=[pattern]).running.counts
        if len(count.rows) == len(prices)
    )
    return found


@pytest.mark.parametrize(
    ("pattern", "prices", "state", "invalidation", "limit", "touch"),
    [
        ("impulse", [100, 110, 104], "wave 3 running", 104, None, (False, False)),
        ("impulse", [100, 110, 104, 121], "wave 4 running", 110, 121, (True, False)),
        ("impulse", [100, 110, 104, 121, 114], "wave 5 running", 114, None, (False, False)),
        ("impulse", [100, 110, 105, 114, 112], "wave 5 running", 112, 121, (False, False)),  # 3 is shorter than 1
        ("impulse", [100, 110, 104, 114, 112], "wave 5 running", 112, None, (False, False)),  # as long as 1
        ("zigzag", [100, 110, 105], "wave C running", 105, None, (False, False)),
        ("flat", [100, 110, 100], "wave C running", 100, None, (False, False)),
        ("triangle", [100, 110, 102, 108], "wave D running", 102, 108, (True, False)),
        ("triangle", [100, 110, 102, 108, 104], "wave E running", 104, 108, (False, True)),
    ],
)
def test_the_prices_that_end_a_running_count(
    pattern: str,
    prices: list[float],
    state: str,
    invalidation: float,
    limit: float | None,
    touch: tuple[bool, bool],
) -> None:
    count = running(prices, pattern)
    assert (count.state, count.invalidation, count.limit, count.touch_ends) == (state, invalidation, limit, touch)
    assert count.survives(invalidation, invalidation) is not touch[0]
    assert not count.survives(invalidation - 0.01, invalidation)
    assert count.survives(invalidation + 0.01, invalidation + 0.02)
    if limit is None:
        assert count.survives(invalidation + 0.01, 1e9)
    else:
        assert count.survives(limit, limit) is not touch[1]
        assert not count.survives(limit, limit + 0.01)
    mirrored = running([-price for price in prices], pattern)
    assert (mirrored.invalidation, mirrored.survives(-invalidation, 0.01 - invalidation)) == (-invalidation, False)


@pytest.mark.parametrize("seed", range(3))
def test_what_ends_a_count_is_what_breaks_its_rules(seed: int) -> None:
    """The next wave end, whatever it is: the longer count is legal exactly where the shorter one survives it."""
    rng = np.random.default_rng(seed)
    tried = 0
    for lengths in rng.integers(1, 7, (300, 5)):
        prices = path(lengths.tolist())
        for pattern, finished in (("impulse", 3), ("impulse", 4), ("triangle", 3), ("triangle", 4)):
            if not rule_violations(pattern, prices[: finished + 1]):
                count, after = running(prices[: finished + 1], pattern), prices[finished + 1]
                assert count.survives(min(prices[finished], after), max(prices[finished], after)) == (
                    rule_violations(pattern, prices[: finished + 2]) == ()
                )
                tried += 1
    assert tried > 100


def test_a_running_count_leaves_on_the_bar_that_ends_it() -> None:
    """Wave 4 runs down from 121; the bar that touches the end of wave 1 is no pivot yet, but the count is over."""
    for first, second, alive in ((112.5, 112.0, False), (112.0, 112.5, False), (112.5, 112.1, True)):
        x = np.array([100.0, 112.0, 103.0, 121.0, first, second, 113.0])
        pivots = zigzag_pivots(x, x, 0.07)
        assert pivots.known_at(-1).prices.tolist() == [100.0, 112.0, 103.0, 121.0]
        found = elliott_counts(pivots, patterns=["impulse"]).running
        assert ("wave 4 running" in [count.state for count in found.counts]) == alive


# -- nothing before its time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [1, 3])
def test_a_history_cut_anywhere_gives_the_counts_of_that_day(span: int) -> None:
    bars = probe_bars(500, seed=11)
    pivots = zigzag_pivots(bars["high"], bars["low"], 0.03)
    for cut in range(20, 501, 16):
        early = zigzag_pivots(bars["high"].iloc[:cut], bars["low"].iloc[:cut], 0.03)
        there = elliott_counts(pivots, cut - 1, span=span)
        assert there.counts == elliott_counts(early, span=span).counts
        assert there.row == cut - 1
        assert all(count.known_row < cut for count in there.counts)


def test_a_count_is_known_when_its_last_pivot_is() -> None:
    rows = np.arange(0, 60, 10)
    pivots = Pivots(rows, [100, 110, 104, 121, 114, 124], [-1, 1, -1, 1, -1, 1], rows + 4, pd.RangeIndex(60))
    assert elliott_counts(pivots, 53, ["impulse"]).complete.counts == ()
    (count,) = elliott_counts(pivots, 54, ["impulse"]).complete.counts
    assert (count.rows, count.known_row, count.state) == (tuple(rows.tolist()), 54, "complete")
    assert (count.invalidation, count.limit, count.survives(-1e9, 1e9)) == (None, None, True)
    assert count.to_frame()["length"].tolist()[1:] == [10, 6, 17, 7, 10]
    assert count.to_frame().index.tolist() == ["0", "1", "2", "3", "4", "5"]


# -- results and refusals ----------------------------------------------------------------------------------------------


def test_the_best_come_first_and_are_shown() -> None:
    bars = probe_bars(500, seed=11)
    found = elliott_counts(zigzag_pivots(bars["high"], bars["low"], 0.03))
    frame = found.to_frame()
    assert frame["score"].is_monotonic_decreasing
    assert frame["score"].between(0.0, 1.0).all()
    assert [count.score for count in found.counts] == [
        pytest.approx(np.mean([score for _, score in count.guidelines])) for count in found.counts
    ]
    assert (frame["known"] > frame["end"]).all()
    assert frame["invalidation"].isna().tolist() == (frame["state"] == "complete").tolist()
    ax = found.plot(bars["close"], rank=len(found) - 1)
    assert [text.get_text() for text in ax.texts] == list(found[-1].labels)
    ax.figure.clear()
    assert found._repr_html_().count("<tr") == 9
    assert f"{len(found)} counts" in repr(found)


def test_no_pivots_no_counts() -> None:
    x = np.full(30, 5.0)
    found = elliott_counts(zigzag_pivots(x, x))
    assert len(found) == len(found.to_frame()) == 0
    with pytest.raises(ParameterError, match="no count of rank 0: there are 0"):
        found.plot()


def test_bad_input_is_refused() -> None:
    pivots = hand_made([1.0, 2.0, 1.5, 3.0])
    with pytest.raises(ParameterError, match="no pattern 'zigzags'; did you mean 'zigzag'"):
        elliott_counts(pivots, patterns=["zigzags"])
    for span in (0, 2, -1):
        with pytest.raises(ParameterError, match="odd number of legs"):
            elliott_counts(pivots, span=span)
    with pytest.raises(ParameterError, match="no bar 5 among 5"):
        elliott_counts(pivots, 5)
    with pytest.raises(DataError, match="pivot 2 does not turn back"):
        elliott_counts(Pivots([0, 1, 2], [1.0, 2.0, 3.0], [-1, 1, 1], [1, 2, 3], pd.RangeIndex(9)))
    with pytest.raises(DataError, match="pivot 1 does not turn back"):
        elliott_counts(Pivots([0, 1], [2.0, 1.0], [-1, 1], [1, 2], pd.RangeIndex(9)))


@pytest.mark.real_data
def test_counts_of_the_index_as_by_trying_everything(real_data: Path) -> None:
    bars = pd.read_parquet(real_data / "index/sp500_1999_2018.parquet").set_index("date")
    pivots = zigzag_pivots(bars["high"], bars["low"], 0.10).known_at(-1)
    prices, found = pivots.prices.tolist(), elliott_counts(pivots)
    assert len(prices) > 40
    for pattern in WAVES:
        starts = range(len(prices) - WAVES[pattern])
        legal = [
            tuple(pivots.rows[start : start + WAVES[pattern] + 1].tolist())
            for start in starts
            if is_legal(
                pattern,
                [
                    price * (1 if prices[start + 1] > prices[start] else -1)
                    for price in prices[start:][: WAVES[pattern] + 1]
                ],
            )
        ]
        assert sorted(count.rows for count in found.complete.counts if count.pattern == pattern) == legal
