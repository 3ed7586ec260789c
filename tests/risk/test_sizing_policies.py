"""Sizing policies and allocations: by hand, against published numbers, causal, and the same compiled or not."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.backtest import DecisionRule, run
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import atr, probe_bars, sma
from tradelib.risk.sizing import Sizing, create_sizing, product_scale
from tradelib.risk.sizing_policies import (
    Allocation,
    AntiMartingale,
    AtrRisk,
    CorrelationAdjusted,
    EqualRiskContribution,
    InverseVolatility,
    KellyFraction,
    create_allocation,
    equal_risk_contribution,
    risk_contributions,
)
from tradelib.strategies import TrendFollowing
from tradelib.validation import prove_causality

BARS = probe_bars(400, seed=8)
LONG = pd.Series(1.0, BARS.index)
POLICIES = [
    AtrRisk(),
    KellyFraction(window=60, max_weight=3.0),
    KellyFraction(window=60, shrink=True, risk_free=1e-4),
    AntiMartingale(),
]
ALLOCATIONS = [InverseVolatility, EqualRiskContribution, CorrelationAdjusted]


def crossing(bars: pd.DataFrame) -> pd.Series:
    """1 above a moving average, -1 below it, blank before it is known."""
    side = np.sign(bars["close"] - sma(bars["close"], 10))
    return side.where(side.notna())


# -- The range of the market


def test_risk_per_trade_by_hand() -> None:
    # 1 % of equity on 2 ranges: with a range of 1.5 and a close of 30 the position is 0.01 x 30 / (2 x 1.5) = 0.1.
    bars = probe_bars(60).assign(open=30.0, high=30.75, low=29.25, close=30.0)
    weights = AtrRisk(risk_fraction=0.01, multiple=2.0).weights(pd.Series(-1.0, bars.index), bars)
    assert weights.iloc[-1] == pytest.approx(-0.1, rel=1e-12)
    assert weights.first_valid_index() == bars.index[14]


def test_a_move_of_so_many_ranges_costs_the_fraction_that_was_risked() -> None:
    sizing = AtrRisk(risk_fraction=0.02, multiple=3.0, max_weight=10.0)
    weights = sizing.weights(LONG, BARS).dropna()
    ranges = atr(BARS["high"], BARS["low"], BARS["close"], 14).loc[weights.index]
    lost = weights * 3.0 * ranges / BARS["close"].loc[weights.index]
    np.testing.assert_allclose(lost, 0.02, rtol=1e-12)


def test_a_market_without_any_range_gets_the_cap() -> None:
    flat = BARS.assign(open=100.0, high=100.0, low=100.0, close=100.0)
    assert AtrRisk(max_weight=0.7).weights(LONG, flat).dropna().eq(0.7).all()


def test_risk_per_trade_is_a_product_and_takes_the_fast_way_of_sweeps() -> None:
    assert product_scale(AtrRisk(), BARS) is not None
    assert product_scale(KellyFraction(), BARS) is None


# -- A share of Kelly


def test_rolling_kelly_by_hand() -> None:
    returns = BARS["close"].pct_change().iloc[-60:]
    fraction = returns.mean() / returns.var(ddof=1)
    statistic = returns.mean() / returns.std(ddof=1) * math.sqrt(60)
    side = pd.Series(np.sign(fraction), BARS.index)
    settings_ = {"window": 60, "share": 0.5, "max_weight": 10.0}
    plain = KellyFraction(**settings_).weights(side, BARS).iloc[-1]
    shrunk = KellyFraction(**settings_, shrink=True).weights(side, BARS).iloc[-1]
    assert abs(plain) == pytest.approx(min(0.5 * abs(fraction), 10.0), rel=1e-9)
    assert abs(shrunk) == pytest.approx(min(0.5 * abs(fraction) * statistic**2 / (1 + statistic**2), 10.0), rel=1e-9)


def test_a_signal_against_the_drift_is_not_followed() -> None:
    buys, sells = KellyFraction(window=60).sides(BARS)
    both = KellyFraction(window=60).weights(LONG, BARS), KellyFraction(window=60).weights(-LONG, BARS)
    np.testing.assert_array_equal(both[0], buys)
    np.testing.assert_array_equal(both[1], -sells)
    known = ~np.isnan(buys)
    assert (np.minimum(buys, sells)[known] == 0.0).all()
    assert known.sum() == len(BARS) - 60


def test_a_market_that_never_moves_gets_nothing_and_one_that_only_rises_gets_the_cap() -> None:
    # Powers of two: the returns are exactly equal, so their variance is exactly 0.
    flat = BARS.iloc[:60].assign(open=64.0, high=64.0, low=64.0, close=64.0)
    price = 2.0 ** np.arange(60)
    rising = flat.assign(open=price, high=price, low=price, close=price)
    for shrink in (False, True):
        sizing = KellyFraction(window=20, max_weight=0.8, shrink=shrink)
        assert sizing.weights(LONG.iloc[:60], flat).iloc[20:].eq(0.0).all()
        assert sizing.weights(LONG.iloc[:60], rising).iloc[20:].eq(0.8).all()
        assert sizing.weights(-LONG.iloc[:60], rising).iloc[20:].eq(0.0).all()


@settings(max_examples=30, deadline=None)
@given(window=st.integers(20, 120), share=st.floats(0.05, 1.0), cap=st.floats(0.1, 3.0), seed=st.integers(0, 40))
def test_kelly_stays_within_the_cap_and_never_turns_a_signal_round(
    window: int, share: float, cap: float, seed: int
) -> None:
    bars = probe_bars(200, seed=seed)
    signal = pd.Series(np.resize([1.0, -1.0, 0.0], 200), bars.index)
    weights = KellyFraction(window=window, share=share, max_weight=cap).weights(signal, bars).dropna()
    assert (weights.abs() <= cap).all()
    assert (weights * signal.loc[weights.index] >= 0.0).all()


# -- After wins, after losses


def test_the_run_of_wins_by_hand() -> None:
    # long 10 -> 12 wins, long 12 -> 13 wins, short 13 -> 14 loses, long 14 -> 14 is neither, long 15 -> 14 loses
    # again, long 14 -> 15 wins and begins a new run.
    bars = BARS.iloc[:14]
    price = np.array([10.0, 10, 12, 12, 13, 13, 14, 14, 15, 14, 14, 14, 15, 15])
    bars = bars.assign(open=price, high=price, low=price, close=price)
    signal = pd.Series([np.nan, 1, 0, 1, 0, -1, 1, 0, 1, 0, 1, 0.5, 0, 1], bars.index)
    policy = AntiMartingale(fraction=0.4, win_factor=1.5, loss_factor=0.5, longest_run=2, max_weight=0.95)
    expected = [np.nan, 0.4, 0, 0.6, 0, -0.9, 0.2, 0, 0.2, 0, 0.1, 0.05, 0, 0.6]
    np.testing.assert_allclose(policy.weights(signal, bars), expected, rtol=1e-12)


def test_sizes_are_clipped_at_the_cap_and_at_the_longest_run() -> None:
    policy = AntiMartingale(fraction=0.4, win_factor=2.0, loss_factor=0.5, longest_run=3, max_weight=1.0)
    assert policy.sizes().tolist() == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


# -- What all of them promise


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies_are_causal(policy: Sizing) -> None:
    bars = probe_bars(220, seed=3)
    proof = prove_causality(lambda seen: policy.weights(crossing(seen), seen), bars, every=7, last=10)
    assert proof.passed


def test_the_proof_catches_a_policy_that_looks_ahead() -> None:
    class Ahead(AtrRisk):
        def scale(self, bars: pd.DataFrame) -> np.ndarray:
            return np.roll(super().scale(bars), -1)

    bars = probe_bars(120, seed=3)
    assert not prove_causality(lambda seen: Ahead().weights(crossing(seen), seen), bars, every=7, last=10).passed


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies_travel_by_name(policy: Sizing) -> None:
    config = policy.to_config()
    assert create_sizing(config["name"], config["params"]) == policy
    rule = DecisionRule(strategy=TrendFollowing(), sizing=policy)
    assert DecisionRule.from_config(rule.to_config()) == rule


def test_a_process_that_only_reads_a_bundle_finds_them_by_name() -> None:
    names = ["AtrRisk", "KellyFraction", "AntiMartingale"]
    code = f"from tradelib.risk.sizing import create_sizing; print(*map(create_sizing, {names}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "AtrRisk() KellyFraction() AntiMartingale()", done.stderr


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies_say_the_same_interpreted_as_compiled(policy: Sizing) -> None:
    compiled = policy.weights(crossing(BARS), BARS)
    with interpreted():
        plain = policy.weights(crossing(BARS), BARS)
    assert plain.to_numpy().tobytes() == compiled.to_numpy().tobytes()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_engine_trades_them(policy: Sizing) -> None:
    rule = DecisionRule(strategy=TrendFollowing(), sizing=policy.replace(max_weight=0.95))
    result = run(rule, embedded("sp500").iloc[:1500])
    held = rule.weights(embedded("sp500").iloc[:1500])[1]
    assert 0.0 < np.nanmax(np.abs(held)) <= 0.95
    assert len(result.trades) > 0


# -- Sharing an account

# The properties of equally weighted risk contribution portfolios: Maillard, Roncalli & Teiletche (2010), Journal of
# Portfolio Management 36(4). Volatilities of 10 to 40 %; any constant correlation, then the other matrix of the paper.
VOLATILITY = np.diag([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("correlation", "published"),
    [
        (np.full((4, 4), 0.5) + 0.5 * np.eye(4), [0.480, 0.240, 0.160, 0.120]),
        (
            np.array([[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 1, -0.5], [0, 0, -0.5, 1]]),
            [0.384, 0.192, 0.243, 0.182],
        ),
    ],
)
def test_equal_risk_contributions_of_the_paper(correlation: np.ndarray, published: list[float]) -> None:
    covariance = VOLATILITY @ correlation @ VOLATILITY
    weights = equal_risk_contribution(covariance)
    np.testing.assert_allclose(weights, published, atol=5e-4)
    np.testing.assert_allclose(risk_contributions(weights, covariance), 0.25, rtol=1e-11)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(2, 12), seed=st.integers(0, 10_000))
def test_every_covariance_has_equal_risk_contributions(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(0.0, rng.uniform(0.001, 0.1, (size, 1)), (size, size + 2))
    covariance = root @ root.T
    weights = equal_risk_contribution(covariance)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert (weights > 0.0).all()
    np.testing.assert_allclose(risk_contributions(weights, covariance), 1.0 / size, rtol=1e-8)


RETURNS = pd.DataFrame(
    np.random.default_rng(4).normal(0.0, [0.01, 0.02, 0.04], (90, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0], [0, 0, 1]]),
    index=BARS.index[:90],
    columns=["a", "b", "c"],
)


def test_inverse_volatility_by_hand() -> None:
    weights = InverseVolatility(window=20).weights(RETURNS)
    inverse = 1.0 / RETURNS.iloc[-20:].std(ddof=1)
    np.testing.assert_allclose(weights.iloc[-1], inverse / inverse.sum(), rtol=1e-12)
    assert weights.notna().all(axis=1).idxmax() == RETURNS.index[19]


def test_equal_risk_over_time_is_that_of_the_covariance_of_the_window() -> None:
    weights = EqualRiskContribution(window=30).weights(RETURNS)
    expected = equal_risk_contribution(RETURNS.iloc[-30:].cov())
    pd.testing.assert_series_equal(weights.iloc[-1], expected, check_names=False, rtol=1e-10)


def test_correlation_adjusted_by_hand() -> None:
    weights = CorrelationAdjusted(window=30).weights(RETURNS)
    seen = RETURNS.iloc[-30:]
    parts = 1.0 / (seen.std(ddof=1) * seen.corr().clip(lower=0.0).sum())
    np.testing.assert_allclose(weights.iloc[-1], parts / parts.sum(), rtol=1e-10)


def test_a_column_that_enters_twice_gets_in_total_what_it_got_once() -> None:
    # Exactly so where the others are uncorrelated with it: here the correlation of "c" is made to be 0 or below.
    independent = pd.DataFrame({"a": RETURNS["a"], "c": -RETURNS["a"] * 0.1 + RETURNS["c"]})
    assert independent.iloc[-30:].corr().iloc[0, 1] < 0.0
    once = CorrelationAdjusted(window=30).weights(independent).iloc[-1]
    twice = CorrelationAdjusted(window=30).weights(independent.assign(again=independent["a"])).iloc[-1]
    assert twice[["a", "again"]].sum() == pytest.approx(once["a"], rel=1e-9)
    assert twice["a"] == pytest.approx(twice["again"], rel=1e-9)


@pytest.mark.parametrize("kind", ALLOCATIONS)
def test_allocations_know_the_past_only(kind: type[Allocation]) -> None:
    rule = kind(window=20, every=3)
    full = rule.weights(RETURNS).to_numpy()
    for rows in range(15, 90, 4):
        other = RETURNS.copy()
        other.iloc[rows:] = 0.5 - other.iloc[rows:]
        for seen in (RETURNS.iloc[:rows], other):
            assert rule.weights(seen).to_numpy()[:rows].tobytes() == full[:rows].tobytes()


@pytest.mark.parametrize("kind", ALLOCATIONS)
def test_allocations_say_the_same_interpreted_as_compiled(kind: type[Allocation]) -> None:
    compiled = kind(window=20, every=5).weights(RETURNS)
    with interpreted():
        assert kind(window=20, every=5).weights(RETURNS).to_numpy().tobytes() == compiled.to_numpy().tobytes()


@pytest.mark.parametrize("kind", ALLOCATIONS)
def test_allocations_travel_by_name(kind: type[Allocation]) -> None:
    config = kind(window=33, every=2).to_config()
    assert config == {"name": kind.__name__, "params": {"window": 33, "every": 2}}
    assert create_allocation(**config) == kind(window=33, every=2)


def test_weights_hold_between_changes_and_start_when_the_last_column_is_known() -> None:
    late = RETURNS.assign(c=RETURNS["c"].where(np.arange(90) >= 10))
    weights = InverseVolatility(window=20, every=5).weights(late)
    assert weights.first_valid_index() == RETURNS.index[29]
    changes = np.flatnonzero(weights.diff().abs().sum(axis=1) > 0.0)
    assert changes.tolist() == list(range(34, 90, 5))
    np.testing.assert_allclose(weights.iloc[29:].sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AtrRisk(risk_fraction=0), "risk_fraction = 0"),
        (lambda: AtrRisk(multiple=-1), "multiple = -1"),
        (lambda: KellyFraction(window=5), "window = 5"),
        (lambda: KellyFraction(share=1.5), "share = 1.5"),
        (lambda: KellyFraction(shares=0.5), "did you mean 'share'"),
        (lambda: AntiMartingale(win_factor=0.9), "win_factor = 0.9"),
        (lambda: AntiMartingale(loss_factor=1.1), "loss_factor = 1.1"),
        (lambda: create_sizing("AtrRsk"), "did you mean 'AtrRisk'"),
        (lambda: create_allocation("EqualRisk"), "did you mean 'EqualRiskContribution'"),
        (lambda: InverseVolatility(window=1), "window = 1"),
        (lambda: InverseVolatility().weights(RETURNS["a"]), "returns is a table"),
        (lambda: InverseVolatility().weights(RETURNS.replace(RETURNS.iloc[7, 1], np.nan)), "b has the return nan at 2"),
        (lambda: InverseVolatility(window=20).weights(RETURNS.assign(b=0.0)), "b does not vary over the 20 rows"),
        (lambda: equal_risk_contribution(np.eye(3)[:2]), "a covariance is square"),
        (lambda: equal_risk_contribution([[0.0]]), "variances above 0"),
        (lambda: equal_risk_contribution([[1.0, -1.0], [-1.0, 1.0]]), "not positive definite"),
        (lambda: risk_contributions([1.0], np.eye(2)), r"need a covariance of \(1, 1\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((DataError, ParameterError), match=message):
        call()
