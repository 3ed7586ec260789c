"""Parameter stability: planted spikes and plateaus, neighbours written out, Geary's ratio by its definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.backtest import SweepResult, random_points, sweep
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Distance
from tradelib.strategies import TrendFollowing
from tradelib.validation import ParameterStability, parameter_stability, stability


def surface(height: Any, *sides: int) -> pd.DataFrame:
    """A full grid with uneven steps, in a random order of rows; `height` is a function of the step numbers."""
    steps = np.array(list(itertools.product(*(range(side) for side in sides))))
    frame = pd.DataFrame({f"p{i}": column**2 + 10.0 for i, column in enumerate(steps.T)})
    frame["sharpe_ratio"] = [float(height(*row)) for row in steps]
    return frame.sample(frac=1.0, random_state=0).reset_index(drop=True)


def judge(frame: pd.DataFrame, **options: Any) -> ParameterStability:
    axes = [name for name in frame.columns if name.startswith("p")]
    return parameter_stability(frame, axes=axes, **options)


def spike(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return surface(lambda i, j: 2.0 if (i, j) == (4, 6) else rng.normal(0.2, 0.1), 10, 12)


def plateau() -> pd.DataFrame:
    return surface(lambda i, j: 1.2 if 2 <= i <= 7 and 3 <= j <= 8 else 0.1, 10, 12)


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_spike_is_flagged(seed: int) -> None:
    found = judge(spike(seed))
    assert found.verdict == "spike"
    assert found.kept < 0.2
    assert found.plateau_share == 1 / 120
    assert "what luck looks like" in found.interpretation
    assert "close to noise" in found.interpretation


def test_a_planted_plateau_passes() -> None:
    frame = plateau()
    inside = frame.query("p0 == 26 and p1 == 35").index[0]  # steps 4 and 5, well inside
    found = judge(frame, row=int(inside))
    assert (found.verdict, found.kept, found.worst_kept) == ("plateau", 1.0, 1.0)
    assert found.plateau_share == 36 / 120
    assert found.smoothness > 0.5


def test_the_edge_of_a_plateau_is_a_slope_and_the_centre_lies_inside() -> None:
    """The corner of the plateau has 3 of 8 neighbours on it: (3 x 1.2 + 5 x 0.1) / 8 = 0.5125."""
    frame = plateau()
    corner = int(frame.query("p0 == 14 and p1 == 19").index[0])
    found = judge(frame, row=corner)
    assert found.kept == pytest.approx((3 * 1.2 + 5 * 0.1) / 8 / 1.2)
    assert found.worst_kept == pytest.approx(0.1 / 1.2)
    assert found.verdict == "spike"
    centre = found.point(found.centre)
    assert 3 <= np.sqrt(centre["p0"] - 10) <= 6
    assert 4 <= np.sqrt(centre["p1"] - 10) <= 7
    assert "The robust centre is" in found.interpretation


def test_a_slope_is_neither() -> None:
    found = judge(surface(lambda i, j: np.exp(-((i - 4) ** 2 + (j - 4) ** 2) / 4.0), 9, 9))
    assert found.verdict == "slope"
    assert 0.5 < found.kept < 0.8


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(2, 5), min_size=1, max_size=4))
def test_neighbours_and_smoothness_by_their_definitions(seed: int, sides: list[int]) -> None:
    rng = np.random.default_rng(seed)
    frame = surface(lambda *_: rng.normal(1.0, 0.3), *sides)
    if len(frame) < 5 or frame["sharpe_ratio"].max() <= 0:
        return
    found, values = judge(frame), frame["sharpe_ratio"].to_numpy()
    steps = np.sqrt(frame.filter(like="p").filter(regex="^p").to_numpy() - 10).round()
    apart = np.abs(steps[:, None, :] - steps[None, :, :]).max(axis=2)
    close = apart == 1
    mean = np.array([values[row].mean() for row in close])
    assert found.frame["neighbours"].tolist() == close.sum(axis=1).tolist()
    np.testing.assert_allclose(found.frame["neighbour_mean"], mean)
    np.testing.assert_allclose(found.frame["neighbour_worst"], [values[row].min() for row in close])
    whole = np.array([values[row].mean() for row in close | (apart == 0)])
    np.testing.assert_allclose(found.frame["robust"], whole)
    assert whole[found.centre] == pytest.approx(whole.max())
    n, deviations = len(values), values - values.mean()
    apart_squared = sum((values[i] - values[j]) ** 2 for i, j in np.argwhere(close))
    geary = (n - 1) * apart_squared / (2 * close.sum() * (deviations @ deviations))
    assert found.smoothness == pytest.approx(1 - geary)


def test_smoothness_of_a_plane_and_of_noise() -> None:
    """Geary (1954): the expectation of C is 1 where values are exchanged at random; here over 40 surfaces."""
    assert judge(surface(lambda i, j: 1.0 + i + j, 20, 20)).smoothness > 0.97
    rng = np.random.default_rng(1)
    found = [judge(surface(lambda i, j: rng.normal(1, 0.3), 12, 12)).smoothness for _ in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(40)


def test_a_plateau_must_hang_together() -> None:
    """Two islands of equal height: only the chosen one counts."""
    frame = surface(lambda i, j: 1.0 if j in (0, 1, 8, 9, 10) else 0.1, 5, 11)
    frame.loc[frame.query("p0 == 14 and p1 == 10").index, "sharpe_ratio"] = 1.01
    assert judge(frame).plateau_share == 10 / 55


@pytest.mark.parametrize("make", [spike, plateau])
def test_points_at_random_tell_the_same(make: Any) -> None:
    """600 points drawn from the same surfaces, continuous in both parameters."""
    rng = np.random.default_rng(2)
    points = pd.DataFrame(rng.uniform(0.0, 10.0, (600, 2)), columns=["p0", "p1"])
    if make is plateau:
        inside = points["p0"].between(2, 7) & points["p1"].between(3, 8)
        from_middle = (points["p0"] - 4.5) ** 2 + (points["p1"] - 5.5) ** 2
        points["sharpe_ratio"] = np.where(inside, 1.2, 0.1) - 0.001 * from_middle
    else:
        points["sharpe_ratio"] = rng.normal(0.2, 0.1, 600)
        points.loc[77, "sharpe_ratio"] = 2.0
    found = judge(points)
    assert not found.is_grid
    assert found.frame["neighbours"].eq(4).all()
    assert found.verdict == ("plateau" if make is plateau else "spike")
    if make is plateau:
        assert found.plateau_share == pytest.approx(0.25, abs=0.05)


def test_ranks_not_values_decide_who_is_near() -> None:
    """A parameter over six decades has the neighbours of its logarithm."""
    rng = np.random.default_rng(3)
    power = rng.uniform(-6, 0, 300)
    frame = pd.DataFrame({"p0": power, "p1": rng.uniform(0, 1, 300), "sharpe_ratio": rng.normal(1, 0.1, 300)})
    plain, stretched = judge(frame), judge(frame.assign(p0=10.0**power))
    assert stretched.frame["neighbour_mean"].tolist() == plain.frame["neighbour_mean"].tolist()


def test_parameters_without_an_order_are_never_crossed() -> None:
    """Two kinds side by side: the neighbours of one kind do not see the other."""
    grid = surface(lambda i, j: 1.0 - 0.02 * (abs(i - 3) + abs(j - 3)), 7, 7)
    both = pd.concat([grid.assign(p2="sma"), grid.assign(p2="ema", sharpe_ratio=0.01)], ignore_index=True)
    found = judge(both)
    assert found.is_grid
    assert found.unordered == ("p2",)
    assert found.verdict == "plateau"
    assert found.frame.loc[found.frame["p2"] == "ema", "neighbour_mean"].eq(0.01).all()


def test_distances_have_an_order_and_blanks_have_none() -> None:
    stops = [Distance(value=v) for v in (0.02, 0.05, 0.03, 0.04, 0.06)]
    frame = pd.DataFrame({"p0": stops, "sharpe_ratio": [1.0, 1.0, 1.1, 1.2, 1.0]})
    assert judge(frame).frame["neighbours"].tolist() == [1, 2, 2, 2, 1]
    mixed = pd.DataFrame({"p0": [None, *stops], "p1": 1.0, "sharpe_ratio": np.linspace(1, 2, 6)})
    assert stability._ordered_values(mixed["p0"]) is None
    with pytest.raises(DataError, match="has no neighbour"):
        judge(mixed)


def test_undefined_points_are_no_neighbours() -> None:
    frame = plateau()
    hole = frame.query("p0 == 26 and p1 == 46").index
    frame.loc[hole, "sharpe_ratio"] = np.nan
    found = judge(frame, row=int(frame.query("p0 == 26 and p1 == 35").index[0]))
    assert found.frame.loc[found.chosen, "neighbours"] == 7
    assert found.kept == 1.0
    assert "1 points have no sharpe_ratio" in found.interpretation


def test_the_edge_of_the_grid_is_told() -> None:
    found = judge(surface(lambda i, j: 1.0 + i - 0.1 * abs(j - 3), 6, 7))
    assert found.on_edge == ("p0",)
    assert "edge of what was tried in p0" in found.interpretation


@pytest.fixture(scope="module")
def swept() -> SweepResult:
    grid = {"strategy.fast": [10, 20, 30, 40], "strategy.slow": [50, 100, 150], "strategy.average": ["sma", "ema"]}
    return sweep(TrendFollowing(), embedded("sp500").iloc[:1500], grid)


def test_a_sweep_is_judged_as_it_is(swept: SweepResult) -> None:
    """The best point of the sweep, all its axes, and no further run: the ledger knows only the sweep."""
    found = parameter_stability(swept)
    assert found.chosen == swept.best_row()
    assert found.axes == swept.axes
    assert found.point(found.chosen) == swept.point(found.chosen)
    other = parameter_stability(swept, by="annual_return", row=found.chosen)
    assert other.chosen == found.chosen


def test_displays(swept: SweepResult) -> None:
    found, two = parameter_stability(swept), judge(plateau())
    line = judge(surface(lambda i: 1.0 + i, 8))
    assert len(found.plot().data) == 6
    assert [len(two.plot(kind).data) for kind in ("heat", "surface", "profiles")] == [3, 3, 4]
    assert [len(found.plot(kind).data) for kind in ("heat", "surface")] == [3, 3]
    assert len(line.plot().data) == 2
    with pytest.raises(ParameterError, match="two parameters"):
        line.plot("heat")
    assert "verdict" in found.summary()
    assert "<table" in found._repr_html_()
    assert {"robust", "plateau"} <= set(found.to_frame())


def test_a_random_search_over_a_sweep_is_judged() -> None:
    space = {"strategy.fast": (5, 60), "strategy.slow": (61, 200)}
    found = parameter_stability(sweep(TrendFollowing(), embedded("sp500").iloc[:1500], random_points(space, 40, 0)))
    assert not found.is_grid
    assert [len(found.plot(kind).data) for kind in ("heat", "surface", "profiles")] == [3, 3, 4]


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: parameter_stability(plateau()), ParameterError, "with axes="),
        (lambda: parameter_stability(plateau(), axes=["q"]), ParameterError, "no column 'q'"),
        (lambda: judge(plateau(), by="sharpe_rate"), ParameterError, "did you mean"),
        (lambda: judge(plateau().head(4)), DataError, "sweep more"),
        (lambda: judge(plateau().assign(p0=1.0, p1=1.0)), DataError, "vary in 0 parameters"),
        (lambda: judge(plateau().assign(sharpe_ratio=0.5)), DataError, "no surface"),
        (lambda: judge(plateau().assign(sharpe_ratio=np.nan)), DataError, "no surface"),
        (lambda: judge(plateau(), row=500), ParameterError, "rows 0 to 119"),
        (lambda: judge(plateau(), tolerance=1.5), ParameterError, "tolerance is 1.5"),
        (lambda: judge(plateau(), neighbours=120), ParameterError, "from 1 to 119"),
        (lambda: judge(surface(lambda i: -1.0 - i, 8)), ParameterError, "nothing that neighbours"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()
