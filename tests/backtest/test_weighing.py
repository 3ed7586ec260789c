"""Signals times a scale, checked on the way: compiled and interpreted, one row or many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tradelib._jit import interpreted
from tradelib.backtest.weighing import weigh, weigh_in_place

NAN, INF = math.nan, math.inf


def weighed(signals: list[list[float]], scale: list[float]) -> tuple[int, list[list[float]]]:
    """The row that is told and the weights, of both executions."""
    given = np.array(signals)

    def once() -> tuple[int, np.ndarray]:
        weights = given.reshape(-1).copy()
        return int(weigh_in_place(weights, np.array(scale), given.shape[1])), weights

    compiled = once()
    with interpreted():
        plain = once()
    assert plain[0] == compiled[0]
    np.testing.assert_array_equal(plain[1], compiled[1])
    return compiled[0], compiled[1].reshape(given.shape).tolist()


FINE = -1


@pytest.mark.parametrize(
    ("signals", "scale", "told", "weights"),
    [
        ([[NAN, 1.0, 0.5, -1.0]], [2.0], FINE, [[NAN, 2.0, 1.0, -2.0]]),
        ([[NAN, 1.0, 0.5, -1.0]], [NAN, NAN, 3.0, 4.0], FINE, [[NAN, NAN, 1.5, -4.0]]),
        ([[1.0, 1.0], [0.5, -0.5]], [0.9], FINE, [[0.9, 0.9], [0.45, -0.45]]),
        ([[NAN, NAN]], [1.0], FINE, [[NAN, NAN]]),
        ([[1.0, 1.0]], [NAN, NAN], FINE, [[NAN, NAN]]),
    ],
    ids=["one number", "a number per bar", "two rows", "no signal yet", "no scale yet"],
)
def test_a_weight_is_signal_times_scale(
    signals: list[list[float]], scale: list[float], told: int, weights: list[list[float]]
) -> None:
    found = weighed(signals, scale)
    assert found[0] == told
    np.testing.assert_array_equal(found[1], weights)


@pytest.mark.parametrize(
    ("signals", "scale", "told"),
    [
        ([[NAN, 1.0, 1.5, -1.0]], [2.0], 0),
        ([[0.0, 1.0], [0.0, -1.01]], [2.0], 1),
        ([[NAN, 1.0, NAN, -1.0]], [2.0], 0),
        ([[1.0, INF]], [2.0], 0),
        ([[NAN, 1.0, 1.0]], [1.0, 1.0, INF], 0),
        ([[1.0, 1.0], [1.0, 1.0]], [1.0, NAN], 0),
        ([[1.0, 1.0], [2.0, 1.0]], [NAN, 1.0], 1),
    ],
    ids=[
        "too large",
        "too small in the second row",
        "a hole",
        "infinite",
        "an infinite scale",
        "a hole in the scale",
        "too large before the scale",
    ],
)
def test_the_first_row_with_a_wrong_signal_or_weight_is_named(
    signals: list[list[float]], scale: list[float], told: int
) -> None:
    assert weighed(signals, scale)[0] == told


def test_one_row_is_weighed_into_another() -> None:
    signals, weights = np.array([NAN, 1.0, -0.5]), np.empty(3)
    assert weigh(signals, np.array([2.0]), weights)
    np.testing.assert_array_equal(weights, [NAN, 2.0, -1.0])
    np.testing.assert_array_equal(signals, [NAN, 1.0, -0.5])
    assert not weigh(np.array([1.0, 3.0]), np.array([2.0]), np.empty(2))
