"""Market states: ranks among the past, trends beyond noise, clusters that a few numbers carry."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import adx, probe_bars, realised_volatility, yang_zhang
from tradelib.risk import ClusterModel, cluster_states, combine_states, trend_states, volatility_states

BARS = embedded("sp500")
PROBE = probe_bars(700, seed=3)


def features(bars=BARS):
    volatility = np.log(realised_volatility(bars["close"], 20))
    return pd.DataFrame({"volatility": volatility, "momentum": np.log(bars["close"]).diff(60)})


# --- volatility ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [None, 300])
def test_a_state_counts_the_quantiles_of_the_past_below_it(history):
    states = volatility_states(PROBE, window=10, quantiles=(0.25, 0.5, 0.9), least=100, history=history)
    values = realised_volatility(PROBE["close"], 10).to_numpy()
    for t in (108, 109, 110, 400, 699):
        past = values[10 : t + 1][-(history or 10_000) :]
        if len(past) < 100:
            assert states.iloc[t] is pd.NA
        else:
            assert states.iloc[t] == (values[t] > np.quantile(past, [0.25, 0.5, 0.9])).sum()
    assert states.iloc[109] is not pd.NA  # a return, nine more, and a hundred values


def test_the_range_may_measure_it():
    states = volatility_states(PROBE, measure="yang_zhang", quantiles=(0.5,))
    values = yang_zhang(PROBE["open"], PROBE["high"], PROBE["low"], PROBE["close"], 20)
    assert states.iloc[-1] == int(values.iloc[-1] > values.median())


def test_the_crash_is_wild_and_the_year_2017_calm():
    states = volatility_states(BARS)
    assert (states["2008-10":"2009-03"] == 2).all()
    assert (states["2017-02":"2017-12"] == 0).mean() > 0.9


# --- trend ---------------------------------------------------------------------------------------------------------


def closes(values):
    index = pd.date_range("2020-01-01", periods=len(values), tz="UTC", name="time")
    return pd.DataFrame({"open": values, "high": values, "low": values, "close": values}, index)


def test_a_straight_way_is_a_trend_in_every_rule():
    up = closes(np.exp(np.cumsum(np.random.default_rng(0).normal(0.01, 0.004, 300))))
    for method in ("momentum", "slope", "adx"):
        assert (trend_states(up, method=method).iloc[150:] == 1).mean() > 0.95
        assert (trend_states(closes(1e4 / up["close"].to_numpy()), method=method).iloc[150:] == -1).mean() > 0.95


def test_momentum_is_measured_in_noise():
    """A random walk ends within half a deviation of noise 38.3 % of the time, P(|z| < 0.5)."""
    random = np.random.default_rng(1)
    last = [trend_states(closes(np.exp(np.cumsum(random.normal(0, 0.01, 62)))), window=60).iloc[-1] for _ in range(600)]
    assert np.mean(np.equal(last, 0)) == pytest.approx(0.383, abs=3 * (0.383 * 0.617 / 600) ** 0.5)


def test_wilders_rule_is_that_of_the_indicator():
    states, movement = trend_states(BARS, method="adx"), adx(BARS["high"], BARS["low"], BARS["close"], 14)
    expected = np.where(movement.adx > 25, np.sign(movement.plus_di - movement.minus_di), 0)
    known = movement.adx.notna().to_numpy()
    assert states[known].tolist() == expected[known].tolist()
    assert states[~known].isna().all()


def test_a_price_that_stands_still_has_no_trend():
    for method in ("momentum", "slope"):
        states = trend_states(closes(np.full(200, 7.0)), method=method)
        assert states.dropna().eq(0).all()
        assert len(states.dropna()) > 0


@settings(max_examples=12, deadline=None)
@given(cut=st.integers(300, 699))
def test_no_state_sees_the_future(cut):
    rules = [
        lambda bars: volatility_states(bars, least=100),
        lambda bars: volatility_states(bars, least=100, history=150, measure="yang_zhang"),
        *(lambda bars, method=method: trend_states(bars, method=method) for method in ("momentum", "slope", "adx")),
    ]
    for rule in rules:
        pd.testing.assert_series_equal(rule(PROBE.iloc[:cut]), rule(PROBE).iloc[:cut])


def test_quantiles_of_the_whole_sample_would_see_the_future():
    """What the rule does not do: the same states by quantiles of everything change when history goes on."""

    def leaks(bars):
        values = realised_volatility(bars["close"], 20)
        return (values > values.quantile(0.5)).astype(float)

    assert not leaks(PROBE.iloc[:400]).equals(leaks(PROBE).iloc[:400])


def test_labels_of_both_states_are_in_order():
    volatility = pd.Series([0, 2, 1, pd.NA, 2], dtype="Int64")
    trend = pd.Series([1, -1, 0, 1, pd.NA], dtype="Int64")
    both = combine_states(volatility, trend)
    assert both.dropna().tolist() == ["calm, up", "wild, down", "normal, sideways"]
    assert both.isna().tolist() == [False, False, False, True, True]
    assert both.cat.categories[0] == "calm, down"
    assert both.cat.categories[-1] == "wild, up"
    assert combine_states(volatility, trend, names={0: "a", 1: "b", 2: "c"}).iloc[1] == "c, down"


# --- clusters ------------------------------------------------------------------------------------------------------


def test_clusters_are_those_of_scikit_learn():
    table = features()
    train = table[:"2008-12-31"].dropna()
    scaled = (table - train.mean()) / train.std(ddof=0)
    with threadpool_limits(1):
        theirs = KMeans(3, n_init=10, random_state=0).fit(scaled.loc[train.index].to_numpy())
    rank = np.argsort(np.argsort(theirs.cluster_centers_[:, 0]))

    ours = cluster_states(table, 3, train="2008-12-31").assign(table)

    assert ours.dropna().tolist() == rank[theirs.predict(scaled.dropna().to_numpy())].tolist()
    assert ours.isna().sum() == 60


def test_mixtures_are_those_of_scikit_learn():
    table = features()
    train = table[:"2008-12-31"].dropna()
    scaled = ((table - train.mean()) / train.std(ddof=0)).dropna()
    rows = scaled.loc[train.index].to_numpy()
    with threadpool_limits(1):
        theirs = GaussianMixture(2, n_init=3, random_state=0, max_iter=500, tol=1e-5).fit(rows)
    order = np.argsort(theirs.means_[:, 0])

    model = cluster_states(table, 2, train="2008-12-31", method="gaussian_mixture", starts=3)

    expected = theirs.predict_proba(scaled.to_numpy())[:, order]
    np.testing.assert_allclose(model.probabilities(table).dropna(), expected, atol=1e-9)


@pytest.mark.parametrize("method", ["kmeans", "gaussian_mixture"])
def test_a_row_decides_by_itself_and_the_model_is_text(method):
    table = features()
    model = cluster_states(table, 3, train=0.5, method=method, starts=3)
    again = ClusterModel(**json.loads(json.dumps(model.to_dict())))
    assert again == model
    full = model.assign(table)
    pd.testing.assert_series_equal(again.assign(table.iloc[3000:3001]), full.iloc[3000:3001])
    assert model.trained_until == str(table.index[len(table) // 2 - 1])
    assert sum(model.shares) == pytest.approx(1.0)
    assert model.to_frame()["volatility"].is_monotonic_increasing


def test_what_comes_after_the_training_rows_teaches_nothing():
    table = features()
    other = table.copy()
    other.loc["2012":] = 99.0
    assert cluster_states(other, 3, train="2010-12-31") == cluster_states(table, 3, train="2010-12-31")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: volatility_states(BARS, quantiles=()), ParameterError, "quantiles must ascend"),
        (lambda: volatility_states(BARS, least=1), ParameterError, "least must be a whole number"),
        (lambda: volatility_states(BARS["close"]), DataError, "bars must be a DataFrame"),
        (lambda: volatility_states(BARS, measure="garch"), ParameterError, "measure must be one of"),
        (lambda: trend_states(BARS, threshold=-1), ParameterError, "threshold must be a number of at least 0"),
        (lambda: trend_states(BARS, window=2), ParameterError, "window must be a whole number of bars, at least 3"),
        (lambda: cluster_states(features(), 3, train=2), ParameterError, "train must be a share"),
        (lambda: cluster_states(features(), 0, train=0.5), ParameterError, "states must be a whole number"),
        (
            lambda: cluster_states(features().iloc[:100], 3, train=1.0),
            DataError,
            "40 complete training rows are too few",
        ),
        (lambda: cluster_states(features().replace(features().iloc[99, 0], np.inf), train=0.5), DataError, "is inf at"),
        (lambda: cluster_states(outlying(), 2, train=1.0), DataError, "a cluster holds 0.20%"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def outlying():
    table = pd.DataFrame({"a": np.random.default_rng(0).normal(size=500)})
    table.loc[7, "a"] = 1e6
    return table


@pytest.mark.real_data
def test_states_of_stocks_agree_about_the_crash(real_data):
    """Twenty stocks, each ranked among its own past: in October and November 2008 nearly all bars are wild."""
    closes = pd.read_parquet(real_data / "equities/sp500_20_close_1990_2022.parquet").set_index("date")
    wild = [volatility_states(closes[[name]].set_axis(["close"], axis=1))["2008-10":"2008-11"].eq(2) for name in closes]
    assert np.mean([states.mean() for states in wild]) > 0.95
