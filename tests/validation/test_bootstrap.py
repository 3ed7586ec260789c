"""Block bootstrap: block lengths as arch computes them, blocks as the papers define them, paths that come again."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import optimal_block_length as arch_length

from tradelib import _threads
from tradelib._jit import interpreted
from tradelib.backtest.metrics import maximum_drawdown
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.validation import (
    block_bootstrap,
    bootstrap_interval,
    optimal_block_length,
    resample_returns,
)
from tradelib.validation.paths import path_returns, sfc32


def ar(coefficient: float, n: int, seed: int = 0) -> np.ndarray:
    shocks, values = np.random.default_rng(seed).standard_normal(n) * 0.01, np.zeros(n)
    for t in range(1, n):
        values[t] = coefficient * values[t - 1] + shocks[t]
    return values


@pytest.fixture(scope="module")
def returns() -> pd.Series:
    return embedded("sp500")["close"].pct_change().iloc[1:]


# Block length


@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("n", [20, 21, 60, 500, 3001])
def test_the_block_length_is_that_of_arch(coefficient: float, n: int) -> None:
    values = ar(coefficient, n)
    expected = arch_length(values).iloc[0]
    assert optimal_block_length(values) == pytest.approx(expected["stationary"], rel=1e-12)
    assert optimal_block_length(values, "circular") == pytest.approx(expected["circular"], rel=1e-12)


def test_the_block_length_of_the_index_is_that_of_arch(returns: pd.Series) -> None:
    for series in (returns, returns.abs(), returns**2):
        assert optimal_block_length(series) == pytest.approx(arch_length(series)["stationary"].iloc[0], rel=1e-12)


def test_dependence_asks_for_longer_blocks() -> None:
    lengths = [optimal_block_length(ar(coefficient, 2000)) for coefficient in (0.0, 0.5, 0.9)]
    assert lengths == sorted(lengths)
    assert lengths[2] > 5 * lengths[0]


# Blocks


def test_random_numbers_are_sfc32() -> None:
    """The published definition (PractRand, RNG_sfc32), in unsigned 32-bit words."""
    state = np.array([0x12345678, 0x9ABCDEF0, 0xFFFFFFFF, 1], dtype=np.uint32)
    ours: Any = tuple(map(int, state))
    with np.errstate(over="ignore"):
        for _ in range(1000):
            a, b, c, counter = state
            drawn = a + b + counter
            rotated = (c << np.uint32(21)) | (c >> np.uint32(11))
            one = np.uint32(1)
            state = np.array([b ^ (b >> np.uint32(9)), c + (c << np.uint32(3)), rotated + drawn, counter + one])
            mine, *ours = sfc32(*ours)
            assert mine == int(drawn)


def places(method: Any, length: float | None, n: int = 50, paths: int = 400, horizon: int = 200) -> np.ndarray:
    """Where each return of each path was taken from: the returns are their own places."""
    coded = np.linspace(0.0, 0.5, n)
    rows = resample_returns(coded, paths=paths, horizon=horizon, block_length=length, method=method, seed=5)
    return np.rint(rows / 0.5 * (n - 1)).astype(int)


@pytest.mark.parametrize("length", [1.0, 2.5, 10.0])
def test_stationary_blocks_end_with_the_same_chance_everywhere(length: float) -> None:
    """Politis & Romano: the next place follows with 1 - p, or is drawn anew, which follows by luck once in n."""
    at, n = places("stationary", length), 50
    follows = (at[:, 1:] == (at[:, :-1] + 1) % n).mean()
    p = 1.0 / length
    expected = (1.0 - p) + p / n
    assert follows == pytest.approx(expected, abs=4 * np.sqrt(max(expected * (1 - expected), 1e-9) / at[:, 1:].size))


def test_circular_blocks_have_one_length_and_wrap_around() -> None:
    at, n = places("circular", 8), 50
    follows = (at[:, 1:] - at[:, :-1]) % n == 1
    steps = np.arange(1, at.shape[1])
    assert follows[:, steps % 8 != 0].all()
    assert follows[:, steps % 8 == 0].mean() == pytest.approx(1 / n, abs=0.01)
    assert (np.diff(at, axis=1) == -(n - 1)).any()


@pytest.mark.parametrize("method", ["stationary", "circular", "iid"])
def test_every_place_is_as_likely(method: Any) -> None:
    """400 x 200 draws of 50 places: chi squared of 49 degrees within 6 deviations, widened by the blocks."""
    length = None if method == "iid" else 4
    counts = np.bincount(places(method, length).ravel(), minlength=50)
    chi = float(((counts - 1600) ** 2 / 1600).sum())
    assert chi < (49 + 6 * np.sqrt(98)) * (1 if length is None else 8)


def test_the_variance_of_the_mean_is_the_one_of_the_paper() -> None:
    """Politis & Romano (1994), lemma 1: c(0) + 2 sum (1 - i/n)(1 - p)^i c(i), with circular autocovariances c."""
    x, p = np.expm1(ar(0.6, 120, 3)), 1 / 6
    n, e = len(x), np.log1p(x) - np.log1p(x).mean()
    circular = np.array([(e * np.roll(e, -i)).mean() for i in range(n)])
    i = np.arange(1, n)
    expected = circular[0] + 2 * float(((1 - i / n) * (1 - p) ** i) @ circular[1:])
    drawn = block_bootstrap(x, paths=20_000, block_length=6, seed=2)
    assert np.log(drawn.terminal).var() / n == pytest.approx(expected, rel=0.04)  # sd of a variance: sqrt(2 / 20,000)


# Figures


@pytest.mark.parametrize("method", ["stationary", "circular", "iid"])
def test_figures_are_those_of_the_rows(returns: pd.Series, method: Any) -> None:
    how: Any = {"paths": 101, "horizon": 130, "method": method, "seed": 9}
    rows, figures = resample_returns(returns, **how), block_bootstrap(returns, **how)
    wealth = np.cumprod(1.0 + rows, axis=1)
    np.testing.assert_allclose(figures.terminal, wealth[:, -1], rtol=1e-13)
    np.testing.assert_allclose(figures.lowest, np.minimum(wealth.min(axis=1), 1.0), rtol=1e-13)
    np.testing.assert_allclose(figures.maximum_drawdown, [maximum_drawdown(row) for row in rows], atol=1e-13)
    np.testing.assert_allclose(figures.wealth, wealth[:, figures.steps - 1], rtol=1e-13)
    assert (figures.steps[-1], figures.horizon, len(figures)) == (130, 130, 101)


@pytest.mark.parametrize("method", ["stationary", "circular", "iid"])
def test_interpreted_and_compiled_draw_the_same_bits(method: Any) -> None:
    how: Any = {"paths": 100, "horizon": 40, "method": method, "seed": 1}
    compiled = block_bootstrap(ar(0.3, 80), **how)
    rows = resample_returns(ar(0.3, 80), **how)
    with interpreted():
        plain = block_bootstrap(ar(0.3, 80), **how)
        assert (resample_returns(ar(0.3, 80), **how) == rows).all()
    for name in ("terminal", "lowest", "maximum_drawdown", "wealth"):
        assert (getattr(compiled, name) == getattr(plain, name)).all()


def test_one_thread_or_two_draw_the_same_bits(returns: pd.Series, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    class Pool:
        def submit(self, work: Any) -> Any:
            used.append(work)
            return _threads.ThreadPoolExecutor(1).submit(work)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(_threads, "_pool", lambda process: Pool())
    two = block_bootstrap(returns, paths=3001, horizon=252, seed=3)
    assert len(used) == 1
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    one = block_bootstrap(returns, paths=3001, horizon=252, seed=3)
    assert len(used) == 1
    assert (one.wealth == two.wealth).all()
    assert (one.maximum_drawdown == two.maximum_drawdown).all()


def test_memory_does_not_grow_with_the_horizon(returns: pd.Series) -> None:
    """2,000 paths of 5,000 steps would be 80 MB; what is kept are 68 numbers a path."""
    block_bootstrap(returns, paths=100, horizon=10)
    tracemalloc.start()
    block_bootstrap(returns, paths=2000, horizon=5000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_single_draws_compound_at_the_mean(returns: pd.Series) -> None:
    drawn = block_bootstrap(returns, paths=20_000, horizon=252, method="iid")
    error = drawn.terminal.std() / np.sqrt(len(drawn))
    assert drawn.terminal.mean() == pytest.approx((1 + returns.mean()) ** 252, abs=4 * error)


def test_an_interval_with_blocks_covers_where_single_draws_do_not() -> None:
    """Mean of an AR(1) with 0.6: single draws think its variance is (1 - 0.6) / (1 + 0.6) = a quarter of what it is."""
    hits: dict[Any, int] = {"stationary": 0, "iid": 0}
    for seed in range(60):
        x = ar(0.6, 300, seed)
        for method in hits:
            found = bootstrap_interval(x, np.mean, paths=200, method=method, confidence=0.9, seed=seed)
            hits[method] += found.low <= 0.0 <= found.high
    assert hits["iid"] < 44 < hits["stationary"]  # nominal 54 of 60, standard error 2.3


def test_an_interval_speaks_plainly(returns: pd.Series) -> None:
    found = bootstrap_interval(returns, np.std, paths=200)
    assert found.low < found.estimate < found.high
    assert "its sign is not in doubt" in found.summary()
    assert [trace.type for trace in found.plot().data] == ["bar"]
    with pytest.raises(DataError, match="must be a number in all"):
        bootstrap_interval(returns, lambda row: float("nan"), paths=100)


# Refusals


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "0 returns are too few"),
        ([0.01] * 19, "at least 20"),
        ([0.01] * 20, "every path would be the same"),
        ([0.01, np.nan] * 20, "row 1 is nan"),
        ([0.01, np.inf] * 20, "row 1 is inf"),
        ([0.01, -1.0] * 20, "everything is lost there"),
        (np.ones((20, 2)), "an array of shape"),
        (["a"] * 20, "series of numbers"),
    ],
)
def test_what_no_path_can_be_drawn_from_is_refused(given: Any, told: str) -> None:
    for ask in (path_returns, optimal_block_length, block_bootstrap):
        with pytest.raises(DataError, match=told):
            ask(given)


def test_a_blank_is_named_by_its_time(returns: pd.Series) -> None:
    with pytest.raises(DataError, match="2001-01-02"):
        block_bootstrap(returns.mask(returns.index == pd.Timestamp("2001-01-02", tz="UTC")))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"paths": 99}, "at least 100"),
        ({"paths": 1e4}, "paths is 10000.0"),
        ({"horizon": 0}, "at least 1"),
        ({"seed": 1.5}, "whole number from 0 on"),
        ({"method": "moving"}, "'stationary', 'circular' or 'iid'"),
        ({"block_length": 0.5}, "from 1 to 5030"),
        ({"block_length": 5031}, "from 1 to 5030"),
        ({"block_length": 2.5, "method": "circular"}, "a whole number from 1"),
        ({"block_length": 2, "method": "iid"}, "one return at a time"),
    ],
)
def test_impossible_settings_are_refused(returns: pd.Series, options: Any, told: str) -> None:
    for ask in (block_bootstrap, resample_returns):
        with pytest.raises(ParameterError, match=told):
            ask(returns, **options)


@pytest.mark.real_data
def test_the_worst_fall_of_twenty_years_is_an_ordinary_one(real_data: Any) -> None:
    """S&P 500, 1999 to 2018: a drawdown of 56.78 % (data README) lies in the middle of what they could bring."""
    closes = pd.read_parquet(real_data / "index/sp500_1999_2018.parquet").set_index("date")["close"]
    values = closes.pct_change().iloc[1:]
    assert maximum_drawdown(values) == pytest.approx(-0.5678, abs=5e-5)
    drawn = block_bootstrap(values, paths=2000, block_length=optimal_block_length(values.abs()))
    rank = (drawn.maximum_drawdown < -0.5678).mean()
    assert 0.1 < rank < 0.9
