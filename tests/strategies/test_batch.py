"""What a sweep asks of strategies and sizing at once is, bit for bit, what each says when asked alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.parameters import Parameters
from tradelib.risk import Sizing
from tradelib.strategies import Strategy, TrendFollowing, available
from tradelib.strategies.base import decoded

BARS = probe_bars(2_500, seed=5)  # longer than two restarts of a running sum
STRATEGIES = {name: kind for name, kind in available().items() if kind.__module__.startswith("tradelib.")}
SIZINGS = {kind.__name__: kind for kind in Sizing.__subclasses__() if kind.__module__.startswith("tradelib.")}


def variants(kind: type[Parameters]) -> list[Any]:
    """The defaults, and every parameter changed by itself in a few ways, where that is allowed."""
    found = [kind()]
    for name, field in kind.model_fields.items():
        for value in _others(getattr(found[0], name), get_args(field.annotation)):
            try:
                found.append(kind(**{name: value}))
            except ParameterError:
                continue
    return found


def _others(value: Any, choices: tuple[Any, ...]) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, 2 * value, max(value // 3, 1))
    elif isinstance(value, float):
        yield from (value * 1.5, value / 3.0)
    elif isinstance(value, str):
        yield from choices


def assert_same_bits(rows: np.ndarray, singles: list[np.ndarray]) -> None:
    """Equal as bits, so that a zero with a sign or another NaN would be told; whole numbers are decoded first."""
    rows = decoded(rows)
    assert rows.shape == (len(singles), len(BARS))
    assert rows.dtype == np.float64
    for row, single in zip(rows, singles, strict=True):
        np.testing.assert_array_equal(np.isnan(row), np.isnan(single))
        known = ~np.isnan(single)
        np.testing.assert_array_equal(row[known].view(np.int64), single[known].view(np.int64))


def singles(strategies: list[Strategy]) -> list[np.ndarray]:
    return [strategy.signals(BARS).to_numpy(dtype=np.float64) for strategy in strategies]


def test_there_is_something_to_prove():
    assert {"TrendFollowing"} <= set(STRATEGIES)
    assert {"FixedFraction", "VolatilityTarget"} <= set(SIZINGS)
    assert len(variants(TrendFollowing)) >= 6


@pytest.mark.parametrize("name", STRATEGIES)
class TestSignals:
    def test_a_batch_is_each_alone(self, name):
        points = variants(STRATEGIES[name])
        assert_same_bits(STRATEGIES[name].batch_signals(points, BARS, {}), singles(points))

    def test_what_is_kept_from_block_to_block_changes_nothing(self, name):
        points, memo = variants(STRATEGIES[name]), {}
        alone = singles(points)
        for block in (slice(0, 2), slice(1, None), slice(None, None, -1)):
            assert_same_bits(STRATEGIES[name].batch_signals(points[block], BARS, memo), alone[block])

    def test_the_bars_stay_as_they_were(self, name):
        before = BARS.copy()
        STRATEGIES[name].batch_signals(variants(STRATEGIES[name]), BARS, {})
        pd.testing.assert_frame_equal(BARS, before, check_exact=True)

    def test_interpreted_as_compiled(self, name):
        points = variants(STRATEGIES[name])[:3]
        with interpreted():
            rows = STRATEGIES[name].batch_signals(points, BARS, {})
        assert_same_bits(rows, singles(points))


@pytest.mark.parametrize("name", SIZINGS)
def test_sizing_of_many_signals_is_the_sizing_of_each(name):
    rng = np.random.default_rng(3)
    signals = rng.choice([-1.0, -0.25, 0.0, 1.0], (5, len(BARS)))
    signals[2:, :100] = np.nan
    for sizing in variants(SIZINGS[name]):
        alone = [sizing.weights(pd.Series(row, BARS.index), BARS).to_numpy(dtype=np.float64) for row in signals]
        assert_same_bits(sizing.batch_weights(signals.copy(), BARS), alone)


def test_a_strategy_that_says_nothing_of_batches_is_asked_one_by_one():
    class Momentum(Strategy):
        bars: int = 20

        def signals(self, bars: pd.DataFrame) -> pd.Series:
            return np.sign(bars["close"].diff(self.bars))

    points = [Momentum(bars=n) for n in (5, 20, 60)]
    assert_same_bits(Momentum.batch_signals(points, BARS, {}), singles(points))


def test_a_batch_that_is_not_each_alone_is_told():
    """The planted fault: one signal of one row turned round."""
    points = variants(TrendFollowing)
    rows = TrendFollowing.batch_signals(points, BARS, {})
    rows[1, 1_234] = 1 - rows[1, 1_234]
    with pytest.raises(AssertionError):
        assert_same_bits(rows, singles(points))
