"""Ruin and drawdown: closed forms against published values, independent libraries, and a walk on a lattice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.proportion import proportion_confint

from tradelib.errors import DataError, ParameterError
from tradelib.validation import (
    MonteCarlo,
    brownian_drawdown_probability,
    brownian_ruin_probability,
    gambler_ruin_probability,
    simulate_paths,
    wilson_interval,
)

# Wilson


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (5, 10), (37, 10_000), (10, 10), (9_999, 10_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_the_interval_is_that_of_statsmodels(hits: int, trials: int, confidence: float) -> None:
    found = wilson_interval(hits, trials, confidence)
    low, high = proportion_confint(hits, trials, 1 - confidence, method="wilson")
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert float(found) == hits / trials


def test_never_seen_is_not_impossible() -> None:
    """No hit in 10,000: the upper end is z^2 / (n + z^2), about 3.84 in 10,000."""
    found = wilson_interval(0, 10_000, event="ruin")
    assert (found.low, found.estimate) == (0.0, 0.0)
    assert found.high == pytest.approx(3.8415 / 10_003.8415, rel=1e-4)
    assert "ruin: 0.00% (0 of 10,000 paths)" in found.interpretation


@pytest.mark.parametrize(("hits", "trials"), [(-1, 10), (11, 10), (0, 0), (1.5, 10), (True, 10)])
def test_impossible_counts_are_refused(hits: Any, trials: Any) -> None:
    with pytest.raises(ParameterError, match="0 <= hits <= trials"):
        wilson_interval(hits, trials)


# The gambler


@pytest.mark.parametrize(
    ("p", "capital", "target", "ruin"),
    [(0.5, 9, 10, 0.1), (0.5, 90, 100, 0.1), (0.5, 900, 1000, 0.1), (0.45, 9, 10, 0.210), (0.45, 90, 100, 0.866),
     (0.4, 90, 100, 0.983), (0.45, 99, 100, 0.182), (0.4, 99, 100, 0.333)],
)  # fmt: skip
def test_the_gamblers_ruin_is_fellers_table(p: float, capital: int, target: int, ruin: float) -> None:
    """Feller (1968), volume 1, XIV.2, table 1."""
    assert gambler_ruin_probability(p, capital, target) == pytest.approx(ruin, abs=6e-4)


@pytest.mark.parametrize("p", [0.3, 0.49, 0.5, 0.5 + 1e-13, 0.55, 0.9])
def test_the_gamblers_ruin_solves_its_equations(p: float) -> None:
    """P_k = p P_(k+1) + q P_(k-1), P_0 = 1, P_N = 0, by elimination."""
    n = 12
    system, right = np.eye(n + 1), np.zeros(n + 1)
    right[0] = 1.0
    for k in range(1, n):
        system[k, k + 1] -= p
        system[k, k - 1] -= 1.0 - p
    solved = np.linalg.solve(system, right)
    for k in range(1, n):
        assert gambler_ruin_probability(p, k, n) == pytest.approx(solved[k], rel=1e-9)


def test_an_endless_game_ruins_whoever_has_no_edge() -> None:
    assert gambler_ruin_probability(0.5, 1000) == 1.0
    assert gambler_ruin_probability(0.6, 10) == pytest.approx((0.4 / 0.6) ** 10)
    assert gambler_ruin_probability(0.3, 5000, 9000) == 1.0  # (0.7 / 0.3) ** 9000 overflows


def test_impossible_games_are_refused() -> None:
    for p, capital, target in [(0.0, 1, 2), (1.0, 1, 2), (0.5, 0, 2), (0.5, 2, 2), (0.5, 1.5, 2)]:
        with pytest.raises(ParameterError):
            gambler_ruin_probability(p, capital, target)


# Falling to a level


@pytest.mark.parametrize("drift", [-0.002, -0.0005])
@pytest.mark.parametrize("horizon", [20, 252, 2000])
def test_first_passage_against_the_drift_is_inverse_gaussian(drift: float, horizon: float) -> None:
    """The time to fall by b is inverse Gaussian with mean b / |drift| and shape b^2 / deviation^2 (scipy)."""
    b, deviation = -math.log(0.8), 0.01
    mean, shape = b / abs(drift), b**2 / deviation**2
    expected = stats.invgauss.cdf(horizon, mean / shape, scale=shape)
    assert brownian_ruin_probability(drift, deviation, 0.2, horizon) == pytest.approx(expected, rel=1e-8, abs=1e-14)


def test_ruin_in_the_end() -> None:
    assert brownian_ruin_probability(-1e-6, 0.01, 0.5) == 1.0
    assert brownian_ruin_probability(5e-5, 0.01, 0.5) == pytest.approx(0.5)  # (1 - loss) ** (2 drift / variance)
    long, ever = brownian_ruin_probability(5e-5, 0.01, 0.5, 1e9), brownian_ruin_probability(5e-5, 0.01, 0.5)
    assert long == pytest.approx(ever, rel=1e-9)
    assert brownian_ruin_probability(-0.5, 0.01, 0.9, 100) == 1.0
    assert brownian_ruin_probability(-0.5, 0.01, 0.9, 4.6) == pytest.approx(
        0.445, abs=0.01
    )  # 2.3 of 2.3026, half a chance
    assert brownian_ruin_probability(-0.5, 0.01, 0.9, 3) == pytest.approx(0.0, abs=1e-100)  # 46 deviations away


# Falling from the top


def lattice(drift: float, deviation: float, h: float, horizon: float, cells: int) -> float:
    """Drawdown as a walk on `cells` steps, held at zero, absorbed at h; its chances match mean and variance."""
    d = h / cells
    dt = 0.9 * d**2 / deviation**2
    steps = round(horizon / dt)
    dt = horizon / steps
    spread, lean = deviation**2 * dt / d**2, drift * dt / d
    up, down = (spread - lean) / 2, (spread + lean) / 2  # the drawdown rises where wealth falls
    alive = np.zeros(cells)
    alive[0] = 1.0
    for _ in range(steps):
        after = alive * (1.0 - up - down)
        after[1:] += alive[:-1] * up
        after[:-1] += alive[1:] * down
        after[0] += alive[0] * down
        alive = after
    return 1.0 - float(alive.sum())


@pytest.mark.parametrize("ratio", [-4.0, -1.0, 0.0, 0.5, 1.0, 1.0 + 1e-7, 2.0, 6.0])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_the_chance_of_a_drawdown_is_that_of_a_walk_on_a_lattice(ratio: float, tau: float) -> None:
    """`ratio` is drift x h / variance: below, at and above 1 the first root is real, zero and imaginary."""
    h, deviation = 0.2, 0.01
    drift, horizon = ratio * deviation**2 / h, tau * h**2 / deviation**2
    exact = brownian_drawdown_probability(drift, deviation, -math.expm1(-h), horizon)
    # holding at zero costs half a cell: Richardson's rule takes out the first order
    coarse, fine = (lattice(drift, deviation, h, horizon, cells) for cells in (60, 120))
    assert exact == pytest.approx(2 * fine - coarse, abs=3e-4)


def test_the_mean_drawdown_without_drift_is_the_published_one() -> None:
    """Magdon-Ismail et al. (2004): E = sqrt(pi / 2) deviation sqrt(T)."""

    def survives(h: float) -> float:
        return brownian_drawdown_probability(0.0, 0.02, -math.expm1(-h), 100.0)

    mean = integrate.quad(survives, 1e-9, 2.5, limit=200)[0]
    assert mean == pytest.approx(math.sqrt(math.pi / 2) * 0.02 * 10, rel=1e-8)


def test_the_chance_of_a_drawdown_moves_the_right_way() -> None:
    def chance(drift: float = 0.0003, deviation: float = 0.01, fall: float = 0.2, horizon: float = 252) -> float:
        return brownian_drawdown_probability(drift, deviation, fall, horizon)

    assert chance(drift=-0.0003) > chance() > chance(drift=0.001)
    assert chance(deviation=0.02) > chance() > chance(deviation=0.007)
    assert chance(fall=0.1) > chance() > chance(fall=0.3)
    assert chance(horizon=2520) > chance() > chance(horizon=50)
    assert chance(horizon=0.01) == 0.0
    assert chance() > brownian_ruin_probability(0.0003, 0.01, 0.2, 252)  # the top is never below the start


def test_a_drift_beyond_the_series_is_refused_and_not_guessed() -> None:
    with pytest.raises(DataError, match="simulate it"):
        brownian_drawdown_probability(-0.05, 0.01, 0.5, 252)


# Simulations agree


class Bell:
    """Log returns that are normal."""

    def __init__(self, drift: float, deviation: float) -> None:
        self.drift, self.deviation = drift, deviation

    def draw(self, generator: np.random.Generator, paths: int) -> Iterator[np.ndarray]:
        while True:
            yield np.expm1(self.drift + self.deviation * generator.standard_normal(paths))


@pytest.mark.parametrize("drift", [-0.0004, 0.0, 0.0006])
def test_simulated_ruin_and_drawdown_hold_the_closed_form(drift: float) -> None:
    """20,000 paths looked at once a step; the correction between steps is of first order, so 0.002 is added."""
    found = MonteCarlo(simulate_paths(Bell(drift, 0.01), paths=20_000, horizon=252, seed=8), "bell", {})
    for fall in (0.1, 0.2):
        ruin, drawdown = found.probability_of_ruin(fall, 0.999), found.probability_of_drawdown(fall, 0.999)
        exact = brownian_ruin_probability(drift, 0.01, fall, 252, discrete=True)
        assert ruin.low - 0.002 < exact < ruin.high + 0.002
        exact = brownian_drawdown_probability(drift, 0.01, fall, 252, discrete=True)
        assert drawdown.low - 0.002 < exact < drawdown.high + 0.002


def test_impossible_falls_are_refused() -> None:
    ask: Any
    for ask in (brownian_ruin_probability, brownian_drawdown_probability):
        for given in [(0.0, 0.0, 0.5, 10), (0.0, -1.0, 0.5, 10), (math.nan, 0.01, 0.5, 10), (0.0, 0.01, 1.0, 10),
                      (0.0, 0.01, 0.0, 10), (0.0, 0.01, 0.5, 0), (0.0, 0.01, 0.5, math.inf)]:  # fmt: skip
            with pytest.raises(ParameterError):
                ask(*given)
