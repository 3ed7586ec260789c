"""Sizing turns signals into weights: by hand, in bounds, and refusing what makes no sense."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars, rolling_volatility
from tradelib.risk import FixedFraction, VolatilityTarget, create_sizing

BARS = probe_bars(300, seed=8)
LONG = pd.Series(1.0, BARS.index)


def test_a_fixed_fraction_is_the_signal_times_the_fraction():
    signal = pd.Series(np.resize([1.0, 0.0, -1.0, 0.5], 300), BARS.index)
    np.testing.assert_array_equal(FixedFraction(fraction=0.4).weights(signal, BARS), signal * 0.4)


def test_a_volatility_target_by_hand():
    weights = VolatilityTarget(annual_volatility=0.05, window=20, max_weight=10).weights(LONG, BARS)
    returns = BARS["close"].pct_change().iloc[-20:]
    assert weights.iloc[-1] == pytest.approx(0.05 / (returns.std(ddof=1) * np.sqrt(365)), rel=1e-12)


def test_the_calendar_of_the_bars_decides_the_periods_of_a_year():
    exchange = BARS.copy()
    exchange.attrs["calendar"] = "XNYS"
    sizing = VolatilityTarget(annual_volatility=0.01, window=20, max_weight=10)
    ratio = sizing.weights(LONG, exchange).iloc[-1] / sizing.weights(LONG, BARS).iloc[-1]
    assert ratio == pytest.approx(np.sqrt(365 / 252), rel=1e-12)


def test_a_market_that_does_not_move_gets_the_cap():
    flat = BARS.assign(open=100.0, high=100.0, low=100.0, close=100.0)
    assert VolatilityTarget(max_weight=0.7, window=20).weights(LONG, flat).dropna().eq(0.7).all()


def test_weights_are_blank_until_signal_and_volatility_are_known():
    signal = LONG.where(np.arange(300) >= 50)
    assert VolatilityTarget(window=20).weights(signal, BARS).first_valid_index() == BARS.index[50]
    assert VolatilityTarget(window=80).weights(signal, BARS).first_valid_index() == BARS.index[80]


@settings(max_examples=40, deadline=None)
@given(target=st.floats(0.01, 1.0), window=st.integers(2, 60), cap=st.floats(0.1, 3.0), seed=st.integers(0, 50))
def test_weights_stay_within_the_cap_and_keep_the_side_of_the_signal(target, window, cap, seed):
    bars = probe_bars(150, seed=seed)
    signal = pd.Series(np.resize([1.0, -1.0, 0.0], 150), bars.index)
    weights = VolatilityTarget(annual_volatility=target, window=window, max_weight=cap).weights(signal, bars).dropna()
    assert (weights.abs() <= cap).all()
    assert (np.sign(weights) == signal.loc[weights.index]).all()
    volatility = rolling_volatility(bars["close"], window, 365).loc[weights.index]
    assert (weights.abs() * volatility <= target * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("FixedFracton", {}, "there is no sizing 'FixedFracton'; did you mean 'FixedFraction'"),
        ("FixedFraction", {"fraction": 0}, "fraction = 0"),
        ("FixedFraction", {"fraction": -0.5}, "fraction = -0.5"),
        ("FixedFraction", {"fraction": float("nan")}, "fraction = nan"),
        ("VolatilityTarget", {"annual_volatility": 0}, "annual_volatility = 0"),
        ("VolatilityTarget", {"window": 1}, "window = 1"),
        ("VolatilityTarget", {"windw": 10}, "did you mean 'window'"),
    ],
)
def test_what_makes_no_sense_is_refused(name, params, message):
    with pytest.raises(ParameterError, match=message):
        create_sizing(name, params)
