"""Drift: published numbers, independent implementations, and verdicts that know what is usual for a feature."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, kstwobign

from tradelib.errors import DataError, ParameterError
from tradelib.features.drift import (
    _kolmogorov,
    _verdict,
    bin_shares,
    drift_report,
    expected_index,
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability_index,
    quantile_bins,
    rolling_stability,
    stability_index,
    usual_index,
)

RNG = np.random.default_rng(0)
TIMES = pd.date_range("2018-01-01", periods=3_000, freq="1D", tz="UTC", name="time")


def frame(rows: int, start: int = 0, seed: int = 1, **changes) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {"a": rng.normal(size=rows), "b": rng.exponential(size=rows), "flag": rng.integers(0, 2, rows) * 1.0}
    return pd.DataFrame({**columns, **changes}, index=TIMES[start : start + rows])


# -- population stability index ----------------------------------------------------------------------------------------


def test_a_published_example() -> None:
    """KAscore (R) documents `psi()` with samples of 1,000 and 200 in four bands, `set.seed(123)`: 0.3404592.

    The counts are those that R's sample() draws (Mersenne Twister, "Rejection" is not used with `prob`)."""
    development, monitoring = np.array([248, 247, 260, 245]), np.array([13, 43, 63, 81])
    assert stability_index(development / 1000, monitoring / 200) == pytest.approx(0.3404592, abs=5e-8)


def test_the_formula_by_hand() -> None:
    """(0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5) = 0.1 ln 1.5."""
    assert stability_index([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.1 * math.log(1.5), rel=1e-14)


def test_an_empty_bin_counts_as_epsilon_and_the_others_stay() -> None:
    expected = (0.0001 - 0.5) * math.log(0.0001 / 0.5) + (1.0 - 0.5) * math.log(1.0 / 0.5)
    assert stability_index([0.5, 0.5], [0.0, 1.0]) == pytest.approx(expected, rel=1e-14)
    assert stability_index([0.5, 0.5], [0.0, 1.0], epsilon=0.01) < expected


def test_bins_are_quantiles_of_the_reference_and_open_at_the_ends() -> None:
    """1 ... 100 in four bins: the values below and on which a quarter, a half and three quarters lie."""
    reference = np.arange(1.0, 101.0)
    edges = quantile_bins(reference, 4)
    assert edges.tolist() == [25.0, 50.0, 75.0]
    assert bin_shares(np.array([-1e9, 30.0, 50.0, 1e9]), edges).tolist() == [0.25, 0.5, 0.0, 0.25]
    assert bin_shares(reference, edges).tolist() == [0.25] * 4


def test_repeated_values_merge_bins_and_a_constant_has_one() -> None:
    flag = np.array([0.0] * 70 + [1.0] * 30)
    assert bin_shares(flag, quantile_bins(flag)).tolist() == [0.7, 0.3]
    shifted = np.array([0.0] * 40 + [1.0] * 60)
    assert population_stability_index(flag, shifted) == pytest.approx(stability_index([0.7, 0.3], [0.4, 0.6]))
    assert population_stability_index(np.ones(50), np.ones(9)) == 0.0


def test_missing_values_are_left_out_and_nothing_is_no_number() -> None:
    a, b = RNG.normal(size=500), RNG.normal(0.2, 1.0, size=300)
    holes = np.concatenate([[np.nan] * 50, b])
    assert population_stability_index(a, holes) == population_stability_index(a, b)
    assert math.isnan(population_stability_index(a, np.full(10, np.nan)))


@given(st.integers(0, 1_000), st.sampled_from([np.exp, np.cbrt, lambda x: 3.0 * x - 7.0]))
@settings(max_examples=25, deadline=None)
def test_an_increasing_function_of_both_changes_nothing(seed: int, change) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=400), rng.normal(0.3, 1.2, size=300)
    assert kolmogorov_smirnov(change(a), change(b))[0] == kolmogorov_smirnov(a, b)[0]
    assert population_stability_index(change(a), change(b)) == population_stability_index(a, b)
    p, q = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    assert stability_index(p, q) == pytest.approx(stability_index(q, p), rel=1e-12)
    assert stability_index(p, q) >= 0.0


def test_the_mean_under_no_drift() -> None:
    """Yurdakul (2018): PSI is about (1/N + 1/M) chi2(B - 1), with mean B - 1."""
    rng = np.random.default_rng(2)
    draws = [population_stability_index(rng.normal(size=800), rng.normal(size=400)) for _ in range(400)]
    assert expected_index(800, 400) == pytest.approx(9 * (1 / 800 + 1 / 400))
    assert np.mean(draws) == pytest.approx(expected_index(800, 400), rel=0.08)


# -- distances ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("sizes", [(500, 400), (3_000, 100)])
def test_kolmogorov_smirnov_equals_scipy(shift: float, sizes: tuple[int, int]) -> None:
    """The distance exactly, ties included; the p-value of the limit law to the third digit of the exact one."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=sizes[0]).round(2), rng.normal(shift, 1.0, size=sizes[1]).round(2)
    expected = ks_2samp(a, b, method="exact")
    distance, chance = kolmogorov_smirnov(a, b)
    assert distance == pytest.approx(expected.statistic, rel=1e-12)
    assert chance == pytest.approx(expected.pvalue, abs=0.03)


@pytest.mark.parametrize("x", [0.1, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0])
def test_the_kolmogorov_law_equals_scipy(x: float) -> None:
    assert _kolmogorov(x) == pytest.approx(kstwobign.sf(x), abs=1e-13)


def test_jensen_shannon_equals_scipy() -> None:
    for seed in range(20):
        p, q = (np.random.default_rng(seed).dirichlet(np.ones(6), 2)).round(2)
        p, q = p / p.sum(), q / q.sum()
        assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
    assert jensen_shannon([1.0, 0.0], [0.0, 1.0]) == 1.0


# -- what is usual -----------------------------------------------------------------------------------------------------


def test_a_slow_feature_is_far_from_itself_in_every_month_and_an_independent_one_is_not() -> None:
    rng = np.random.default_rng(8)
    shocks = rng.normal(size=4_000)
    slow = np.empty(4_000)
    slow[0] = shocks[0]
    for t in range(1, 4_000):
        slow[t] = 0.98 * slow[t - 1] + shocks[t]
    assert usual_index(slow, 21) > 3.0
    assert usual_index(shocks, 250) == pytest.approx(
        expected_index(4_000, 250) * 16.92 / 9.0, rel=0.35
    )  # chi2(9) at 95 %


def test_ten_stretches_are_needed() -> None:
    values = RNG.normal(size=1_100)
    assert not math.isnan(usual_index(values, 200))
    assert math.isnan(usual_index(values, 201 + 1))
    assert math.isnan(usual_index(values, 0))


@pytest.mark.parametrize(
    ("index", "usual", "rows", "rise", "expected"),
    [
        (0.0999, 0.0, 500, 0.0, "stable"),
        (0.1, math.nan, 500, 0.0, "moderate"),
        (0.2499, 0.2, 500, 0.05, "moderate"),
        (0.25, 0.2, 500, 0.0, "major"),
        (0.25, 0.25, 500, 0.0, "usual"),
        (0.9, 0.0, 9, 0.0, "too few"),
        (math.nan, 0.0, 500, 0.0, "too few"),
        (0.0, 0.0, 0, 0.0501, "missing"),
    ],
)
def test_verdicts_at_their_thresholds(index: float, usual: float, rows: int, rise: float, expected: str) -> None:
    """0.1 and 0.25: Lewis (1994), Siddiqi (2006)."""
    assert _verdict(index, usual, rows, 10, rise) == expected


# -- the report --------------------------------------------------------------------------------------------------------


def test_a_quiet_feature_is_stable_a_moved_one_major_and_an_absent_one_missing() -> None:
    reference = frame(2_000)
    rng = np.random.default_rng(9)
    current = frame(300, 2_000, seed=2, b=rng.exponential(3.0, 300), flag=np.r_[np.full(30, np.nan), np.ones(270)])
    report = drift_report(reference, current)

    assert report.table["verdict"].to_dict() == {"a": "stable", "b": "major", "flag": "missing"}
    assert report.table.loc["flag", "missing"] == 0.1
    assert report.table.loc["flag", "rows"] == 270
    assert report.drifted == ("b", "flag")
    assert report.summary().startswith("2 of 3 features drifted in 2023-06-24 to 2024-04-18")
    assert "<table" in report._repr_html_()
    assert report.to_frame().equals(report.table)
    lines = report.plot().get_legend().get_texts()
    assert [line.get_text() for line in lines] == ["a", "b", "flag"]


def test_a_feature_that_never_arrives_is_missing() -> None:
    report = drift_report(frame(500), frame(50, 500, a=np.nan))
    assert report.table.loc["a", "verdict"] == "missing"
    assert report.table.loc["a", ["psi", "ks", "js"]].isna().all()
    assert report.over_time["a"].isna().all()


def test_by_month_each_is_that_month_alone() -> None:
    reference, current = frame(1_000), frame(100, 1_000, seed=3)
    found = rolling_stability(reference, current, "M")
    month = current.loc["2020-11"]
    assert found.index[0] == current.index[0]
    assert found.loc[month.index[0], "a"] == population_stability_index(reference["a"], month["a"])
    assert found.iloc[0].isna().all() == (len(current.loc["2020-09"]) < 10)


def test_later_rows_change_no_earlier_month() -> None:
    reference, current = frame(1_000), frame(200, 1_000, seed=3)
    whole, part = rolling_stability(reference, current), rolling_stability(reference, current.loc[:"2020-12-31"])
    assert whole.iloc[: len(part)].equals(part)


def test_refusals() -> None:
    reference, current = frame(500), frame(100, 500)
    cases = [
        (lambda: drift_report(reference, current.rename(columns={"flag": "flags"})), DataError, "did you mean 'flags'"),
        (
            lambda: drift_report(reference, frame(100, 450)),
            DataError,
            "repeats 50 rows of the reference, from 2019-03-27",
        ),
        (lambda: drift_report(reference, current.iloc[:0]), DataError, "current must be a frame"),
        (lambda: drift_report(reference, current.reset_index(drop=True)), DataError, "features by time"),
        (lambda: drift_report(reference, current / 0.0), DataError, "a feature must be finite"),
        (lambda: drift_report(reference.iloc[:5], current), DataError, "5 values for 10 bins"),
        (lambda: rolling_stability(reference, current, "D"), ParameterError, "W, M, Q or Y"),
        (lambda: quantile_bins(reference["a"], 1), ParameterError, "bins must be a whole number"),
        (lambda: stability_index([0.5, 0.5], [0.5, 0.5], epsilon=0.0), ParameterError, "positive epsilon"),
        (lambda: stability_index([0.5, 0.5], [1.5, -0.5]), ParameterError, "none negative"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()
