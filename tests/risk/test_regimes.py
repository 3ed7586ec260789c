"""Hidden states: the filter against statsmodels, the fit against Stata, the path against hmmlearn; what is refused."""

import ast
import json
import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.features.regime_model import stationary_distribution
from tradelib.risk import RegimeModel, fit_regimes, plot_regimes, regime_performance, select_regimes

PUBLISHED = Path(statsmodels.__file__).parent / "tsa/regime_switching/tests"
RETURNS = embedded("sp500")["close"].pct_change().dropna()
HMMLEARN = (1549, 42, [105, 150, 208, 252, 357, 438])
MODEL = RegimeModel(means=(0.0007, -0.001), volatilities=(0.007, 0.02), transition=((0.99, 0.01), (0.02, 0.98)))
THREE = RegimeModel(
    means=(0.001, 0.0, -0.002),
    volatilities=(0.005, 0.01, 0.03),
    transition=((0.97, 0.03, 0.0), (0.02, 0.96, 0.02), (0.0, 0.05, 0.95)),
)


def as_statsmodels(model: RegimeModel, returns):
    """The same model at the same parameters, by statsmodels: transitions from each state column by column."""
    k, p = model.states, np.array(model.transition)
    params = [*p.T[:-1].ravel(), *model.means, *np.square(model.volatilities)]
    return MarkovRegression(np.asarray(returns), k_regimes=k, switching_variance=True).smooth(params)


@pytest.mark.parametrize("model", [MODEL, THREE], ids=["two", "three"])
def test_filter_and_smoother_are_those_of_statsmodels(model):
    theirs = as_statsmodels(model, RETURNS)

    np.testing.assert_allclose(model.filtered(RETURNS), theirs.filtered_marginal_probabilities, rtol=0, atol=1e-10)
    np.testing.assert_allclose(model.smoothed(RETURNS), theirs.smoothed_marginal_probabilities, rtol=0, atol=1e-10)
    assert model.log_likelihood(RETURNS) == pytest.approx(theirs.llf, abs=1e-8)
    ahead = theirs.predicted_marginal_probabilities[1:]
    np.testing.assert_allclose(model.predicted(RETURNS).iloc[:-1], ahead, rtol=0, atol=1e-10)


def test_the_path_is_the_most_likely_of_all():
    """Of eight bars every one of 3^8 paths can be tried."""
    few = RETURNS.iloc[400:408]
    start, steps = (np.log(np.maximum(numbers, 1e-300)) for numbers in (THREE.stationary, THREE.transition))
    density = stats.norm(THREE.means, THREE.volatilities).logpdf(few.to_numpy()[:, None])

    def score(path):
        total = start[path[0]] + sum(steps[a, b] for a, b in pairwise(path))
        return total + sum(density[t, state] for t, state in enumerate(path))

    assert THREE.viterbi(few).to_list() == list(max(product(range(3), repeat=8), key=score))


def test_the_path_is_that_of_hmmlearn():
    """Bars in the wild state, and where it changes: hmmlearn 0.3.3, `GaussianHMM(2).decode` with MODEL's parameters.

    All 5,030 states were compared once; the path of THREE too.
    """
    path = MODEL.viterbi(RETURNS)
    changes = np.flatnonzero(path.diff().fillna(0).to_numpy())
    assert (int(path.sum()), len(changes), changes[:6].tolist()) == HMMLEARN


def test_compiled_and_interpreted_agree_to_the_last_bit():
    returns = RETURNS.iloc[:700]
    for model in (MODEL, THREE):
        outputs = [getattr(model, name) for name in ("filtered", "predicted", "smoothed", "viterbi")]
        compiled = [output(returns).to_numpy(dtype=float) for output in outputs]
        with interpreted():
            for output, expected in zip(outputs, compiled, strict=True):
                np.testing.assert_array_equal(output(returns).to_numpy(dtype=float), expected)


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 400), factor=st.sampled_from([1.0, 3.0, 1e6]))
def test_filtered_values_do_not_see_the_future_and_are_probabilities(cut, factor):
    returns = RETURNS.iloc[:401] * factor
    full = THREE.filtered(returns)
    pd.testing.assert_frame_equal(THREE.filtered(returns.iloc[:cut]), full.iloc[:cut], check_exact=True)
    np.testing.assert_allclose(full.sum(axis=1), 1.0, atol=1e-12)


def test_no_return_is_too_far_out():
    """A density that underflows in every state still tells them apart."""
    known = MODEL.filtered(np.array([0.001, 50.0, -1e90, 0.001]))
    assert known.notna().all(axis=None)
    assert known[1].iloc[1:3].tolist() == [1.0, 1.0]


def test_leading_blanks_stay_blank_and_holes_are_named():
    blank = pd.concat([pd.Series([np.nan, np.nan]), RETURNS.iloc[:5].reset_index(drop=True)], ignore_index=True)
    assert MODEL.filtered(blank)[0].isna().tolist() == [True, True, *[False] * 5]
    assert MODEL.viterbi(blank).isna().sum() == 2
    with pytest.raises(DataError, match="the return at row 1 is nan"):
        MODEL.filtered([0.1, np.nan, 0.1])
    with pytest.raises(DataError, match="the return at row 0 is inf"):
        MODEL.smoothed([np.inf, 0.1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 1.0), min_size=9, max_size=9))
def test_the_stationary_distribution_stays_as_it_is(numbers):
    p = np.reshape(numbers, (3, 3))
    p /= p.sum(axis=1, keepdims=True)
    pi = np.array(stationary_distribution(p))
    np.testing.assert_allclose(pi @ p, pi, atol=1e-14)
    assert pi.sum() == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.1, 0.01, 1e-4]))
def test_the_bound_of_the_memory_holds_for_any_data(seed, tolerance):
    random = np.random.default_rng(seed)
    p, q = random.uniform(0.02, 0.6, 2)
    model = RegimeModel(means=(0.0, 0.0), volatilities=(0.9, 1.1), transition=((1 - p, p), (q, 1 - q)))
    late = random.normal(0, random.choice([0.1, 1.0, 2.0]), model.memory(tolerance) + 20)
    starts = [np.concatenate([np.full(40, value), late]) for value in (0.0, 30.0)]
    apart = np.abs(model.filtered(starts[0])[0].to_numpy() - model.filtered(starts[1])[0].to_numpy())[40:]
    assert apart[model.memory(tolerance) - 1 :].max() <= tolerance


def test_a_chain_that_cannot_cross_has_no_bound():
    assert THREE.memory(0.01) is None
    assert (
        MODEL.memory(1e-9) == 750
    )  # 2 + ceil(log(4 atanh(1e-9) / 8.4888) / log(tanh(8.4888 / 4))); log(4851) = 8.4870


# --- fitting -------------------------------------------------------------------------------------------------------


def published_series(name):
    """A list in the tests that statsmodels ships: read, not imported, because pytest would collect their marks."""
    tree = ast.parse((PUBLISHED / "test_markov_regression.py").read_text(encoding="utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name]
    return pd.Series(ast.literal_eval(assigned[0].value))


def test_the_federal_funds_rate_as_in_the_manual_of_stata():
    """Stata 14 [TS] mswitch, example 1: two means, one variance; its smoothed probabilities, by statsmodels."""
    rates = published_series("fedfunds")  # https://www.stata-press.com/data/r14/usmacro
    model = fit_regimes(rates, switching="mean")

    assert model.training.log_likelihood == pytest.approx(-508.63592, abs=5e-6)
    np.testing.assert_allclose(model.means, [3.70877, 9.556793], atol=2e-6)
    np.testing.assert_allclose(model.volatilities, [2.107562] * 2, atol=1e-6)
    np.testing.assert_allclose([model.transition[0][0], model.transition[1][0]], [0.9820939, 0.0503587], atol=1e-6)
    published = pd.read_csv(PUBLISHED / "results/results_predict_fedfunds.csv")[["const_sm1", "const_sm2"]]
    np.testing.assert_allclose(model.smoothed(rates), published, atol=1e-6)


@pytest.mark.parametrize("switching", ["mean_and_variance", "variance"])
def test_the_optimum_of_statsmodels_is_reached_on_the_index(switching):
    model = fit_regimes(RETURNS * 100, switching=switching)
    theirs = MarkovRegression(
        (RETURNS * 100).to_numpy(), k_regimes=2, switching_variance=True, switching_trend="mean" in switching
    ).fit(disp=0)
    assert model.training.log_likelihood >= theirs.llf - 1e-6
    assert model.training.log_likelihood == pytest.approx(theirs.llf, abs=1e-4)
    np.testing.assert_allclose(np.square(model.volatilities), theirs.params[-2:], rtol=1e-3)


def test_a_fit_scales_with_its_data_and_repeats_itself():
    model, percent = fit_regimes(RETURNS, starts=3), fit_regimes(RETURNS * 100, starts=3)
    np.testing.assert_allclose(percent.volatilities, np.multiply(100, model.volatilities), rtol=1e-6)
    n = len(RETURNS)
    assert percent.training.log_likelihood == pytest.approx(model.training.log_likelihood - n * math.log(100), abs=1e-6)
    assert fit_regimes(RETURNS, starts=3) == model
    assert model.log_likelihood(RETURNS) == pytest.approx(model.training.log_likelihood, abs=1e-8)


def test_simulated_states_are_found_again():
    """4,000 bars: volatilities within 5 %, stays within 0.01 (about three standard errors), 95 % of states."""
    drawn = MODEL.simulate(4_000, seed=3)
    model = fit_regimes(drawn["return"], starts=4)
    np.testing.assert_allclose(model.volatilities, MODEL.volatilities, rtol=0.05)
    np.testing.assert_allclose(np.diag(model.transition), np.diag(MODEL.transition), atol=0.01)
    assert (model.viterbi(drawn["return"]) == drawn["state"]).mean() > 0.95
    assert drawn["state"].mean() == pytest.approx(1 / 3, abs=0.15)


def test_bic_is_counted_as_in_the_books():
    model = fit_regimes(RETURNS, starts=2)
    assert model.training.free_parameters == 6
    assert model.training.bic == pytest.approx(6 * math.log(5030) - 2 * model.training.log_likelihood)
    chosen = select_regimes(MODEL.simulate(1_500, seed=1)["return"], (1, 2, 3), starts=4)
    assert chosen.best.states == 2
    assert "BIC chooses 2 states" in chosen.interpretation


def test_one_state_is_the_plain_normal():
    model = fit_regimes(RETURNS, 1)
    assert model.means[0] == pytest.approx(RETURNS.mean(), abs=1e-12)
    assert model.volatilities[0] == pytest.approx(RETURNS.std(ddof=0), rel=1e-9)
    assert model.log_likelihood(RETURNS) == pytest.approx(stats.norm(*stats.norm.fit(RETURNS)).logpdf(RETURNS).sum())


def test_a_state_that_shrinks_onto_repeated_values_is_told():
    random = np.random.default_rng(0)
    halted = pd.Series(np.where(random.random(600) < 0.4, 0.0, random.normal(0, 0.01, 600)))
    with pytest.raises(DataError, match="returns equal 0"):
        fit_regimes(halted, starts=3)
    chosen = select_regimes(halted, (1, 2), starts=3)
    assert chosen.best.states == 1
    assert "shrinks onto a few returns" in chosen.interpretation


def test_a_model_is_text_and_back():
    model = fit_regimes(RETURNS, starts=2)
    again = RegimeModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert again.digest == model.digest
    assert hash(again) == hash(model)
    assert model.replace(training=None).digest == model.digest
    assert model.replace(means=(0.0, 0.0)).digest != model.digest


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit_regimes(RETURNS.iloc[:49]), DataError, "49 returns are too few: at least 50"),
        (lambda: fit_regimes(RETURNS * 0 + 0.01), DataError, "the returns are constant"),
        (lambda: fit_regimes(RETURNS.to_frame()), DataError, "one column is needed"),
        (lambda: fit_regimes(RETURNS, 2.5), ParameterError, "states must be a whole number"),
        (lambda: fit_regimes(RETURNS, switching="drift"), ParameterError, "switching must be one of"),
        (lambda: fit_regimes(RETURNS.replace(RETURNS.iloc[7], np.nan)), DataError, "1999-01-14.* is nan"),
        (lambda: MODEL.replace(volatilities=(0.02, 0.01)), ParameterError, "positive and ascending"),
        (lambda: MODEL.replace(transition=((0.9, 0.2), (0.1, 0.9))), ParameterError, "sum to 1"),
        (lambda: MODEL.replace(transition=((1.0, 0.0), (0.1, 0.9))), ParameterError, "never entered again"),
        (lambda: MODEL.replace(transition=((0.9, 0.1), (0.0, 1.0))), ParameterError, "never left"),
        (lambda: MODEL.simulate(0), ParameterError, "periods must be a whole number"),
        (lambda: MODEL.memory(1.0), ParameterError, "strictly between 0 and 1"),
        (lambda: select_regimes(RETURNS * 0), DataError, "none of the fits was possible"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- performance by regime -----------------------------------------------------------------------------------------

STATES = pd.Series(np.repeat([0, 1, 0], [40, 30, 30]))
TRADED = pd.Series(np.random.default_rng(8).normal(np.where(STATES == 0, 0.002, -0.001), 0.01))


def test_every_figure_of_a_regime_is_that_of_its_bars():
    told = regime_performance(TRADED, STATES, 252, names={0: "calm", 1: "wild"})
    calm, row = TRADED[STATES == 0], told.table.loc["calm"]

    assert (row["bars"], row["share"], row["spells"], row["mean_duration"]) == (70, 0.7, 2, 35)
    assert row["annual_mean"] == pytest.approx(calm.mean() * 252)
    assert row["annual_volatility"] == pytest.approx(calm.std() * 252**0.5)
    assert row["sharpe"] == pytest.approx(calm.mean() / calm.std() * 252**0.5)
    wealth = np.concatenate([[1.0], (1 + calm).cumprod()])
    assert row["drawdown"] == pytest.approx((wealth / np.maximum.accumulate(wealth) - 1).min())
    assert row["win_rate"] == (calm > 0).mean()
    s, g3, g4 = calm.mean() / calm.std(), stats.skew(calm), stats.kurtosis(calm, fisher=False)
    assert row["sharpe_error"] == pytest.approx(((1 - g3 * s + (g4 - 1) / 4 * s * s) / 69 * 252) ** 0.5)


def test_the_tests_are_those_of_scipy():
    told = regime_performance(TRADED, STATES, 252)
    groups = [TRADED[state == STATES] for state in (0, 1)]
    welch = stats.ttest_ind(*groups, equal_var=False)
    assert told.tests[0].pvalue == pytest.approx(welch.pvalue, rel=1e-9)  # of two groups, Welch's t squared
    assert told.tests[0].statistic == pytest.approx(welch.statistic**2, rel=1e-9)
    assert told.tests[1].pvalue == pytest.approx(stats.kruskal(*groups).pvalue)
    assert told.tests[2].pvalue == pytest.approx(stats.levene(*groups).pvalue)


def test_the_tests_keep_their_size():
    """Regimes without meaning: 400 samples, 5 % rejections within three Monte Carlo errors, 0.05 +- 0.033."""
    random, hits = np.random.default_rng(4), np.zeros(3)
    for _ in range(400):
        told = regime_performance(pd.Series(random.normal(0, 0.01, 100)), STATES, 252)
        hits += [test.rejects() for test in told.tests]
    assert (np.abs(hits / 400 - 0.05) < 0.033).all(), hits / 400


def test_lagged_states_are_those_known_before_the_bar():
    told = regime_performance(TRADED, STATES, 252, lag=1)
    moved = STATES.shift(1)
    assert told.table.loc["0", "annual_mean"] == pytest.approx(TRADED[moved == 0].mean() * 252)
    assert told.table["bars"].sum() == 99
    assert "nobody could have traded" not in told.interpretation
    assert "nobody could have traded" in regime_performance(TRADED, STATES, 252).interpretation


def test_a_short_regime_is_told_and_not_judged():
    states = pd.Series(np.repeat([0, 1, 2], [50, 45, 5]))
    told = regime_performance(TRADED, states, 252)
    assert math.isnan(told.table.loc["2", "sharpe"])
    assert "2: too few bars to judge" in told.interpretation
    assert told.tests[0].settings["regimes"] == 2


def test_hindsight_makes_a_machine_of_any_market():
    """The same model, the same index: by the path of hindsight, and by what was known the evening before."""
    path, known = MODEL.viterbi(RETURNS), MODEL.filtered_states(RETURNS)
    hindsight, honest = regime_performance(RETURNS, path, 252), regime_performance(RETURNS, known, 252, lag=1)
    assert hindsight.table.loc["0", "sharpe"] - hindsight.table.loc["1", "sharpe"] > 1.5
    assert honest.table.loc["0", "sharpe"] - honest.table.loc["1", "sharpe"] < 0.5


def test_pictures_hold_every_bar_once():
    states = STATES.astype("Int64").mask(STATES.index < 10)
    figure = plot_regimes((1 + TRADED).cumprod(), states)
    assert [trace.name for trace in figure.data] == ["0", "1"]
    assert sum(value is not None for trace in figure.data for value in trace.y) == 90 + 2  # two changes are shared
    assert len(regime_performance(TRADED, STATES, 252).plot().data) == 5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: regime_performance(TRADED, STATES.iloc[1:], 252), DataError, "align them first"),
        (lambda: regime_performance(TRADED, STATES, 0), ParameterError, "periods_per_year must be a positive number"),
        (lambda: regime_performance(TRADED, STATES, 252, lag=-1), ParameterError, "lag must be a whole number"),
        (lambda: regime_performance(TRADED.tolist(), STATES, 252), DataError, "must be Series"),
        (lambda: regime_performance(TRADED, STATES.astype("Int64").mask(STATES >= 0), 252), DataError, "at least two"),
        (lambda: plot_regimes(TRADED, STATES.iloc[1:]), DataError, "must be of the same bars"),
    ],
)
def test_performance_refuses_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.real_data
def test_hours_of_bitcoin_have_a_wild_state_and_the_spring_of_2020_is_in_it(real_data):
    """10,000 hours from 2020 on (Bitvavo), the fall of 12 March 2020 among them."""
    close = pd.read_parquet(real_data / "crypto/bitvavo_1h/BTC_EUR.parquet").set_index("time")["close"]
    returns = close.pct_change().iloc[1:10_001]
    model = fit_regimes(returns, starts=4)
    assert model.training.agreeing == model.training.followed
    assert model.volatilities[1] > 2.5 * model.volatilities[0]
    assert (model.filtered(returns).loc["2020-03-12 14":"2020-03-13 12", 1] > 0.5).mean() > 0.9
    assert model.expected_durations[0] < 500


@pytest.mark.real_data
def test_thirty_years_of_stocks_share_their_wild_months(real_data):
    """Five of twenty stocks of the S&P 500, 1990 to 2022, each by its own model: all are wild in October 2008."""
    closes = pd.read_parquet(real_data / "equities/sp500_20_close_1990_2022.parquet").set_index("date")
    for name in closes.columns[:5]:
        returns = closes[name].pct_change().iloc[1:]
        wild = fit_regimes(returns, starts=4).filtered(returns)[1]
        assert wild["2008-10"].mean() > 0.7
        assert wild["2017"].mean() < 0.35
