"""Change points: exact segmentations, published tables, a detector's recursion once more in the plain, false alarms."""

import math

import numpy as np
import pandas as pd
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.datasets import nile

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk import (
    average_run_length,
    bayesian_change_points,
    change_points,
    page_cusum,
    variance_breaks,
)
from tradelib.risk.changes import _pelt

RETURNS = embedded("sp500")["close"].pct_change().dropna()
FLOW = nile.load_pandas().data.astype({"year": int}).set_index("year")["volume"]


def steps(seed, levels, deviations, length=60):
    random = np.random.default_rng(seed)
    return random.normal(np.repeat(levels, length), np.repeat(deviations, length))


# --- segmentation --------------------------------------------------------------------------------------------------


def cost(x, change):
    """The costs once more, from the values themselves."""
    if change == "mean":
        return ((x - x.mean()) ** 2).sum()
    return len(x) * math.log(x.var() if change == "mean_and_variance" else np.mean(x**2))


def cheapest(x, change, least, penalty):
    """Optimal partitioning without any pruning (Jackson et al. 2005)."""
    x = x - x.mean()
    if change == "mean":
        x = x / (np.median(np.abs(np.diff(x))) / stats.norm.ppf(0.75) / 2**0.5)
    best, last = {0: -penalty}, {}
    for t in range(least, len(x) + 1):
        costs = {s: best[s] + cost(x[s:t], change) + penalty for s in best if s <= t - least}
        last[t] = min(costs, key=costs.get)
        best[t] = costs[last[t]]
    places, t = [], len(x)
    while t:
        t = last[t]
        places.append(t)
    return sorted(places)[1:]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    change=st.sampled_from(["mean", "variance", "mean_and_variance"]),
    least=st.integers(2, 12),
)
def test_pelt_is_exact(seed, change, least):
    random = np.random.default_rng(seed)
    x = steps(seed, random.normal(0, 1, 3), random.choice([0.5, 1, 2], 3), length=25)
    penalty = float(random.choice([3.0, 8.0, 15.0]))
    assert _pelt(x, change, least, penalty) == cheapest(x, change, least, penalty)


@pytest.mark.parametrize(
    ("seed", "change", "least", "penalty"),
    [(18, "mean", 18, 3.0), (38, "mean_and_variance", 7, 3.0), (82, "variance", 15, 6.0), (75, "mean", 14, 1.0)],
)
def test_pelt_is_exact_where_pruning_at_once_is_not(seed, change, least, penalty):
    """Samples on which candidates dropped a segment too early cost the optimum."""
    random = np.random.default_rng(seed)
    assert random.integers(4, 20) == least
    x = random.standard_t(2, 90)
    assert _pelt(x, change, least, penalty) == cheapest(x, change, least, penalty)


def test_pelt_finds_the_segmentation_of_ruptures():
    """ruptures 1.1.10, `Dynp` (exact, number of changes given) with its normal cost, on the returns of two years."""
    x = RETURNS["2008":"2009"].to_numpy()[:250] * 100
    ours = change_points(x, penalty=14.0).places
    theirs = ruptures.Dynp(custom_cost=ruptures.costs.CostNormal(add_small_diag=False), min_size=20, jump=1)
    assert len(ours) >= 1
    assert theirs.fit(x).predict(n_bkps=len(ours))[:-1] == list(ours)


@pytest.mark.parametrize("seed", range(4))
def test_changes_of_the_mean_are_those_of_the_kernel_search_of_ruptures(seed):
    """`KernelCPD(kernel="linear")` is PELT on the same squares; its penalty is in units of the variance."""
    x = steps(seed, [0, 2, 2, -1], [1, 1, 1, 1])
    scale = np.median(np.abs(np.diff(x))) / stats.norm.ppf(0.75) / 2**0.5
    theirs = ruptures.KernelCPD(kernel="linear", min_size=10).fit(x).predict(pen=2 * math.log(len(x)) * scale**2)
    assert list(change_points(x, change="mean", least=10).places) == theirs[:-1]


def test_the_nile_changed_once_after_1898():
    """Cobb, G. W. (1978), "The problem of the Nile", Biometrika 65, 243-251: means of 1098 to 1898, then 850."""
    for method in ("pelt", "binary_segmentation"):
        found = change_points(FLOW, change="mean", method=method, least=5)
        assert found.dates == [1899]
        assert found.segments["mean"].round().tolist() == [1098.0, 850.0]
        assert found.segments["bars"].tolist() == [28, 72]


def test_segments_cover_every_bar_once():
    found = change_points(RETURNS)
    table = found.segments
    assert table["bars"].sum() == len(RETURNS)
    assert table["bars"].min() >= 20
    assert found.labels.value_counts(sort=False).tolist() == table["bars"].tolist()
    assert [RETURNS.index.get_loc(date) for date in found.dates] == list(found.places)
    for row in table.itertuples():
        assert row.mean == pytest.approx(RETURNS[row.begin : row.end].mean())
    assert len(found.plot().data) == 1 + len(table)
    assert "not for a signal" in found.interpretation


def test_noise_is_not_cut():
    """300 normal samples of 200: BIC cuts fewer than 5 %."""
    random = np.random.default_rng(0)
    cuts = [len(change_points(random.normal(size=200)).places) > 0 for _ in range(300)]
    assert np.mean(cuts) < 0.05


def test_nothing_found_is_said():
    found = change_points(np.random.default_rng(1).normal(size=200))
    assert found.places == ()
    assert found.interpretation == "No change of the mean and variance is worth its price."


# --- variance breaks -----------------------------------------------------------------------------------------------


def test_the_statistic_of_inclan_and_tiao_rejects_as_often_as_it_should():
    """1,000 normal samples of 500: 5 % at 1.358 within three Monte Carlo errors, less what a short sample loses."""
    random, hits = np.random.default_rng(2), []
    for _ in range(1_000):
        hits.append(len(variance_breaks(random.normal(size=500), robust=False).places) > 0)
    assert 0.02 < np.mean(hits) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1_000)


def test_fat_tails_fool_the_plain_statistic_and_not_the_robust_one():
    """Student t with 5 degrees of freedom and no break: the case for which Sansó, Aragó & Carrion (2004) wrote."""
    random = np.random.default_rng(3)
    samples = [random.standard_t(5, 500) for _ in range(200)]
    plain, robust = (np.mean([len(variance_breaks(x, robust=r).places) > 0 for x in samples]) for r in (False, True))
    assert plain > 0.2
    assert robust < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def garch(random, n, burn=200):
    """GARCH(1, 1) with persistence 0.9: no break, only clusters."""
    variance, drawn = 1.0, []
    for noise in random.normal(size=n + burn):
        drawn.append(variance**0.5 * noise)
        variance = 0.1 + 0.15 * drawn[-1] ** 2 + 0.75 * variance
    return np.array(drawn[burn:])


def test_clusters_fool_the_robust_statistic_less_than_half_as_often():
    """150 samples of 600: the plain one cuts about 72 %, kappa-2 about 27 % (60 % without its lags)."""
    random = np.random.default_rng(0)
    samples = [garch(random, 600) for _ in range(150)]
    plain, robust = (np.mean([len(variance_breaks(x, robust=r).places) > 0 for x in samples]) for r in (False, True))
    assert plain > 0.6
    assert robust < 0.4


@pytest.mark.parametrize("robust", [True, False])
def test_two_breaks_are_placed(robust):
    x = steps(5, [0, 0, 0], [1.0, 3.0, 1.0], length=300)
    found = variance_breaks(x, robust=robust)
    assert len(found.places) == 2
    np.testing.assert_allclose(found.places, [300, 600], atol=20)
    assert found.penalty == pytest.approx(1.3581, abs=1e-4)  # Inclán & Tiao (1994), table 1, asymptotic 95 %


# --- Page's CUSUM --------------------------------------------------------------------------------------------------

MONTGOMERY = [
    9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.20, 10.34, 9.03, 11.47, 10.51, 9.40, 10.08,
    9.37, 10.62, 10.31, 8.52, 10.84, 10.90, 9.33, 12.29, 11.50, 10.60, 11.08, 10.38, 11.62, 11.31, 10.52,
]  # fmt: skip
UPPER = [
    0, 0, 0, 1.16, 2.82, 2.50, 0.04, 1.00, 0, 0, 0, 0.97, 0.98, 0, 0,
    0, 0.12, 0, 0, 0.34, 0.74, 0, 1.79, 2.79, 2.89, 3.47, 3.35, 4.47, 5.28, 5.30,
]  # fmt: skip
LOWER = [
    0.05, 1.56, 1.77, 0, 0, 0, 1.46, 0, 0.30, 0, 0.47, 0, 0, 0.10, 0,
    0.13, 0, 0, 0.98, 0, 0, 0.17, 0, 0, 0, 0, 0, 0, 0, 0,
]  # fmt: skip


def test_the_tabular_cusum_of_montgomery():
    """Introduction to Statistical Quality Control, table 9.2: mean 10, deviation 1, K = 0.5, H = 5."""
    found = page_cusum(np.array(MONTGOMERY), mean=10, deviation=1, restart=False)
    np.testing.assert_allclose(found.table["upper"], UPPER, atol=1e-9)
    np.testing.assert_allclose(found.table["lower"], LOWER, atol=1e-9)
    assert found.alarms.tolist() == [28, 29]


@pytest.mark.parametrize(
    ("threshold", "shift", "expected"), [(5, 0, 469.1), (4, 0, 169.0), (5, 1, 10.3), (4, 0.5, 26.6)]
)
def test_average_run_lengths_are_those_of_the_book(threshold, shift, expected):
    """Montgomery, section 9.1.3: 469.1 at h = 5; the exact values of table 9.4 are 465, 168, 10.4, 26.6."""
    assert average_run_length(threshold, shift=shift) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_run_lengths_of_normal_noise_are_as_computed(shift):
    """400 runs; the mean within three of its errors (runs are about exponential) and Siegmund's 2 %."""
    random, runs = np.random.default_rng(6), []
    for _ in range(400):
        found = page_cusum(random.normal(shift, 1, 4_000 if shift == 0 else 200), mean=0, deviation=1)
        runs.append(int(found.alarms[0]) + 1)
    expected = average_run_length(5, shift=shift)
    assert np.mean(runs) == pytest.approx(expected, rel=0.02 + 3 / math.sqrt(400))


def test_a_learned_baseline_is_learned_anew_after_an_alarm():
    x = steps(7, [0.0, 4.0], [1.0, 1.0], length=200)
    found = page_cusum(x, training=50, threshold=8)
    table = found.table
    assert table["upper"].iloc[:50].isna().all()
    assert len(found.alarms) == 1
    first = int(found.alarms[0])
    assert 200 <= first < 205
    assert table["alarm"].iloc[first] == 1
    assert table["upper"].iloc[first + 1 : first + 51].isna().all()
    assert table["upper"].iloc[first + 51 :].notna().all()


def test_a_baseline_that_stands_still_is_not_used():
    x = np.concatenate([np.zeros(80), np.random.default_rng(1).normal(0, 1, 50)])
    assert page_cusum(x, training=30).table["upper"].iloc[:81].isna().all()


# --- Bayes ---------------------------------------------------------------------------------------------------------


def adams_mackay(x, hazard, mu, kappa, alpha, beta):
    """Algorithm 1 of the paper in the plain: growing arrays, the predictive by scipy. Run-length posteriors per bar."""
    weight, mus, betas, posteriors = np.array([1.0]), np.array([mu]), np.array([beta]), []
    for value in x:
        kappas, alphas = kappa + np.arange(len(weight)), alpha + np.arange(len(weight)) / 2
        scale = np.sqrt(betas * (kappas + 1) / (alphas * kappas))
        chance = weight * stats.t(2 * alphas, mus, scale).pdf(value)
        weight = np.concatenate([[chance.sum() * hazard], chance * (1 - hazard)])
        weight /= weight.sum()
        betas = np.concatenate([[beta], betas + kappas * (value - mus) ** 2 / (2 * (kappas + 1))])
        mus = np.concatenate([[mu], (kappas * mus + value) / (kappas + 1)])
        posteriors.append(weight)
    return posteriors


def test_the_recursion_is_that_of_adams_and_mackay():
    x = steps(8, [0.0, 3.0], [1.0, 2.0], length=60)
    posteriors = adams_mackay(x, 1 / 50, 0.5, 2.0, 1.5, 1.5 * 1.2**2)
    found = bayesian_change_points(x, expected_run=50, mean=0.5, deviation=1.2, kappa=2.0, alpha=1.5, recent=7).table
    np.testing.assert_allclose(found["change_probability"], [p[:7].sum() for p in posteriors], atol=1e-10)
    np.testing.assert_allclose(found["expected_run_length"], [p @ np.arange(len(p)) for p in posteriors], rtol=1e-9)
    assert found["run_length"].tolist() == [int(np.argmax(p)) for p in posteriors]


def test_the_nile_is_known_to_have_changed_soon_after_1898():
    found = bayesian_change_points(FLOW, expected_run=100, mean=1000, deviation=150, recent=5)
    assert 1970 - found.table["run_length"].iloc[-1] + 1 == 1899
    assert [year for year in found.alarms if 1899 <= year <= 1905]


def test_a_bounded_memory_changes_nothing_while_runs_are_shorter():
    x = steps(9, [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], length=60)
    wide, narrow = (bayesian_change_points(x, mean=0, deviation=1, longest=n).table for n in (1_000, 180))
    pd.testing.assert_frame_equal(wide, narrow)


def test_a_stopped_run_keeps_all_of_its_probability():
    """Mass of runs beyond the longest stays on it: the shares of young runs are those of a total of one."""
    x = np.random.default_rng(2).normal(size=400)
    table = bayesian_change_points(x, mean=0, deviation=1, longest=50, recent=50).table
    np.testing.assert_allclose(
        bayesian_change_points(x, mean=0, deviation=1, longest=50, recent=51).table.iloc[:, 0], 1.0
    )
    assert table["change_probability"].iloc[-1] < 1.0
    assert table["run_length"].iloc[100:].eq(50).mean() > 0.9


@pytest.mark.parametrize(
    "detect",
    [
        lambda x: page_cusum(x, training=40).table,
        lambda x: page_cusum(x, mean=0.0, deviation=0.01).table,
        lambda x: bayesian_change_points(x * 100, training=40, longest=80).table,
    ],
    ids=["learned", "given", "bayes"],
)
def test_detectors_do_not_see_the_future_and_run_interpreted(detect):
    x = RETURNS.iloc[:240]
    full = detect(x)
    for cut in (60, 111, 239):
        pd.testing.assert_frame_equal(detect(x.iloc[:cut]), full.iloc[:cut], check_exact=True)
    with interpreted():
        pd.testing.assert_frame_equal(detect(x), full, check_exact=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: change_points(RETURNS * 0), DataError, "constant"),
        (lambda: change_points(RETURNS.mask(RETURNS.index == RETURNS.index[3])), DataError, "1999-01-08"),
        (lambda: change_points(RETURNS, least=1), ParameterError, "least must be a whole number"),
        (lambda: change_points(RETURNS, penalty="aic"), ParameterError, "positive number or 'bic'; got 'aic'"),
        (lambda: change_points(np.repeat([0.0, 1.0], 100), change="mean"), DataError, "repeat the one before"),
        (lambda: variance_breaks(RETURNS, alpha=1.0), ParameterError, "strictly between 0 and 1"),
        (lambda: variance_breaks(RETURNS.iloc[:30]), DataError, "at least 40"),
        (
            lambda: page_cusum(RETURNS, mean=0, deviation=0),
            ParameterError,
            "deviation must be a positive number; got 0",
        ),
        (lambda: page_cusum(RETURNS, threshold=-1), ParameterError, "threshold must be a positive number"),
        (lambda: page_cusum(RETURNS, training=1), ParameterError, "training must be a whole number"),
        (lambda: bayesian_change_points(RETURNS, deviation=1), ParameterError, "together, or neither"),
        (lambda: bayesian_change_points(RETURNS, longest=1), ParameterError, "longest must be a whole number"),
        (lambda: bayesian_change_points(np.r_[np.zeros(60), 1.0]), DataError, "the first 60 values are constant"),
        (lambda: bayesian_change_points(RETURNS, threshold=2.0), ParameterError, "threshold must lie strictly"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.real_data
def test_the_fall_of_an_exchange_is_a_segment_of_its_own(real_data):
    """Daily Bitvavo closes from August 2020 on: FTX failed from 6 to 11 November 2022, in the calmest months of all."""
    close = pd.read_parquet(real_data / "crypto/bitvavo_1d/BTC_EUR.parquet").set_index("time")["close"]
    table = change_points(close.pct_change().iloc[1:]).segments.set_index("begin")
    row = table.index.searchsorted(pd.Timestamp("2022-11-11", tz="UTC")) - 1
    assert pd.Timestamp("2022-11-01", tz="UTC") < table.index[row] <= pd.Timestamp("2022-11-09", tz="UTC")
    before, during, after = table["deviation"].iloc[row - 1 : row + 2]
    assert during > 3 * max(before, after)
