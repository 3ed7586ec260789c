"""Signals times a scale, checked on the way: compiled and interpreted, as numbers and as whole numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tradelib._jit import interpreted
from tradelib.backtest.weighing import are_signals, weigh, weigh_codes, weigh_row

NAN, INF = math.nan, math.inf
SILENT = -128


def weighed(signals: list[float], scale: list[float]) -> tuple[int, list[float]]:
    """How many values are wrong, and the weights, of both executions; whole numbers have to say the same as codes."""
    given, scales = np.array(signals), np.array(scale)
    found = []

    def once() -> None:
        weights = np.empty(len(signals))
        found.append((int(weigh_row(given, scales, weights)), weights))
        if set(signals) <= {-1.0, 0.0, 1.0} | {s for s in signals if math.isnan(s)}:
            codes = np.where(np.isnan(given), SILENT, given).astype(np.int8)
            found.append((int(weigh_codes(codes, SILENT, scales, weights := np.empty(len(signals)))), weights))

    once()
    with interpreted():
        once()
    for wrong, weights in found[1:]:
        assert wrong == found[0][0]
        np.testing.assert_array_equal(weights if not wrong else [], found[0][1] if not wrong else [])
    return found[0][0], found[0][1].tolist()


@pytest.mark.parametrize(
    ("signals", "scale", "weights"),
    [
        ([NAN, 1.0, 0.5, -1.0], [2.0], [NAN, 2.0, 1.0, -2.0]),
        ([NAN, 1.0, 0.0, -1.0], [2.0], [NAN, 2.0, 0.0, -2.0]),
        ([NAN, 1.0, 0.5, -1.0], [NAN, NAN, 3.0, 4.0], [NAN, NAN, 1.5, -4.0]),
        ([NAN, 1.0, 0.0, -1.0], [NAN, NAN, 3.0, 4.0], [NAN, NAN, 0.0, -4.0]),
        ([NAN, NAN], [1.0], [NAN, NAN]),
        ([1.0, 1.0], [NAN, NAN], [NAN, NAN]),
    ],
    ids=["one number", "whole", "a number per bar", "whole, a number per bar", "no signal yet", "no scale yet"],
)
def test_a_weight_is_signal_times_scale(signals: list[float], scale: list[float], weights: list[float]) -> None:
    wrong, found = weighed(signals, scale)
    assert wrong == 0
    np.testing.assert_array_equal(found, weights)


@pytest.mark.parametrize(
    ("signals", "scale"),
    [
        ([NAN, 1.0, 1.5, -1.0], [2.0]),
        ([0.0, -1.01], [2.0]),
        ([NAN, 1.0, NAN, -1.0], [2.0]),
        ([1.0, INF], [2.0]),
        ([NAN, 1.0, 1.0], [1.0, 1.0, INF]),
        ([1.0, 1.0], [1.0, NAN]),
        ([2.0, 1.0], [NAN, 1.0]),
    ],
    ids=[
        "too large",
        "too small",
        "a hole",
        "infinite",
        "an infinite scale",
        "a hole in the scale",
        "too large before the scale",
    ],
)
def test_what_is_wrong_is_counted(signals: list[float], scale: list[float]) -> None:
    assert weighed(signals, scale)[0] == 1


def test_a_code_that_is_no_signal_is_wrong() -> None:
    codes, weights = np.array([SILENT, 1, 2, -1], np.int8), np.empty(4)
    assert weigh_codes(codes, SILENT, np.array([1.0]), weights) == 1
    assert weigh_codes(codes, SILENT, np.array([NAN, 1.0, 1.0, 1.0]), weights) == 1


def test_one_row_is_weighed_into_another() -> None:
    signals, weights = np.array([NAN, 1.0, -0.5]), np.empty(3)
    assert weigh(signals, np.array([2.0]), weights)
    np.testing.assert_array_equal(weights, [NAN, 2.0, -1.0])
    np.testing.assert_array_equal(signals, [NAN, 1.0, -0.5])
    assert not weigh(np.array([1.0, 3.0]), np.array([2.0]), np.empty(2))


def test_signals_are_told_from_other_numbers() -> None:
    """Where there is nothing to multiply they are only looked at: both executions."""
    cases = {True: ([NAN, NAN], [1.0], [NAN, 0.5, -1.0]), False: ([NAN, 0.5, NAN], [1.01], [0.0, -INF], [NAN, 2.0])}

    def told() -> dict[bool, list[bool]]:
        return {good: [are_signals(np.array(signals)) for signals in given] for good, given in cases.items()}

    compiled = told()
    with interpreted():
        assert told() == compiled
    assert all(compiled[True])
    assert not any(compiled[False])
