"""A pair is traded on what was known: every estimate, every side, every weight."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.stattools import coint

from tradelib._jit import interpreted
from tradelib.backtest import run_weights
from tradelib.data.panel import panel_from_wide
from tradelib.errors import DataError, ParameterError
from tradelib.strategies import PairTrading, available
from tradelib.strategies.pairs import _put


def closes(n: int = 700, seed: int = 0, pull: float = 0.85) -> pd.DataFrame:
    random, distance = np.random.default_rng(seed), np.zeros(n)
    for t in range(1, n):
        distance[t] = pull * distance[t - 1] + random.normal(0, 0.012)
    trend = np.cumsum(random.normal(0, 0.012, n))
    days = pd.date_range("2020-01-01", periods=n, tz="UTC", name="time").as_unit("ns")
    return pd.DataFrame({"Y": np.exp(4 + 0.8 * trend + distance), "X": np.exp(3 + trend)}, days)


PRICES = closes()
POLICY = PairTrading(formation=120, every=20)


def expected_walk(policy: PairTrading, prices: pd.DataFrame) -> pd.DataFrame:
    """The rules once more, in plain Python on the test of statsmodels."""
    logs, side, waits, rows = np.log(prices.to_numpy()), 0, 0, []
    for t in range(policy.formation - 1, len(prices)):
        if (t - policy.formation + 1) % policy.every == 0:
            y, x = logs[t - policy.formation + 1 : t + 1].T
            b, a = np.polyfit(x, y, 1)
            s = np.std(y - a - b * x, ddof=1)
            p = coint(y, x, maxlag=policy.lags, autolag=None, return_results=False)[1]
        z = (logs[t, 0] - a - b * logs[t, 1]) / s
        if p > policy.max_pvalue:
            side, waits = 0, 0
        elif waits:
            waits = 0 if waits * z >= -policy.exit else waits
        elif side and side * z <= -policy.stop:
            side, waits = 0, side
        elif side and side * z >= -policy.exit:
            side = 0
        elif not side and policy.entry <= abs(z) < policy.stop:
            side = -int(np.sign(z))
        rows.append((z, b, p, side))
    return pd.DataFrame(rows, prices.index[policy.formation - 1 :], ["zscore", "hedge_ratio", "pvalue", "side"])


@pytest.mark.parametrize(
    "policy", [POLICY, PairTrading(formation=60, every=7, entry=1.2, exit=0.0, stop=1.8, max_pvalue=1)]
)
def test_every_decision_follows_the_rules(policy):
    seen = policy.decisions(PRICES)
    assert seen.iloc[: policy.formation - 1].isna().all(axis=None)
    expected = expected_walk(policy, PRICES)
    assert set(expected["side"]) == {-1, 0, 1}
    np.testing.assert_allclose(seen.iloc[policy.formation - 1 :], expected, rtol=1e-6, atol=1e-9)


def test_weights_stand_where_something_is_decided_and_say_nothing_elsewhere():
    weights, seen = POLICY.weights(PRICES), POLICY.decisions(PRICES)
    opened = seen["side"].ne(0) & seen["side"].ne(seen["side"].shift()) & seen["side"].notna()
    share = seen["side"] * POLICY.gross / (1 + seen["hedge_ratio"].abs())
    pd.testing.assert_series_equal(weights.loc[opened, "Y"], share[opened], check_names=False)
    pd.testing.assert_series_equal(weights.loc[opened, "X"], (-share * seen["hedge_ratio"])[opened], check_names=False)
    held = seen["side"].ne(0) & ~opened & seen["side"].notna()
    assert weights[held].isna().all(axis=None)
    assert weights.iloc[119].tolist() == [0.0, 0.0]


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(121, 699), seed=st.integers(0, 5))
def test_no_decision_sees_the_future(cut, seed):
    prices = closes(seed=seed)
    pd.testing.assert_frame_equal(
        POLICY.weights(prices.iloc[:cut]), POLICY.weights(prices).iloc[:cut], check_exact=True
    )


def test_compiled_and_interpreted_agree_to_the_last_bit():
    prices, policy = PRICES.head(90), PairTrading(formation=40, every=15, max_pvalue=1)
    compiled = policy.decisions(prices)
    with interpreted():
        pd.testing.assert_frame_equal(policy.decisions(prices), compiled, check_exact=True)


def test_the_engine_trades_both_legs_at_the_next_open():
    panel = panel_from_wide(PRICES, timeframe="1d", calendar="24/7")
    weights, seen = POLICY.weights(PRICES), POLICY.decisions(PRICES)
    fills = run_weights(weights, panel).fills
    first = seen.index[seen["side"].fillna(0).ne(0)][0]
    opened = fills[fills["time"] == first + pd.Timedelta(days=1)]
    assert set(opened["symbol"]) == {"Y", "X"}
    assert fills["time"].min() == first + pd.Timedelta(days=1)
    changes = seen["side"].dropna().diff().ne(0).iloc[1:].sum()
    assert len(fills) == pytest.approx(2 * changes, abs=2)  # a change on the last bar is never filled


def test_strangers_are_seldom_traded_with_the_test_at_the_door():
    strangers = [closes(seed=seed, pull=1.0) for seed in range(10)]
    with_test, without = (
        np.mean([PairTrading(max_pvalue=p).decisions(prices)["side"].fillna(0).ne(0).mean() for prices in strangers])
        for p in (0.05, 1.0)
    )
    assert with_test < 0.35 * without


def test_twins_are_not_traded():
    prices = PRICES.assign(X=PRICES["Y"] * 2)
    seen = POLICY.decisions(prices)
    assert seen["side"].iloc[119:].eq(0).all()
    assert seen["pvalue"].isna().all()


def test_a_price_that_stands_still_is_not_traded():
    prices = PRICES.assign(X=10.0)
    assert POLICY.decisions(prices)["side"].iloc[119:].eq(0).all()


def test_flat_is_zero_even_where_the_ratio_is_unknown_by_then():
    weights = np.full((1, 2), np.nan)
    _put(0, 0.0, float("nan"), weights)
    assert weights.tolist() == [[0.0, 0.0]]
    assert POLICY.weights(PRICES.assign(X=10.0)).iloc[119].tolist() == [0.0, 0.0]


def test_it_is_no_strategy_of_one_symbol():
    assert "PairTrading" not in available()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PairTrading(entry=5.0), ParameterError, r"entry \(5.0\), and that below stop \(4.0\)"),
        (lambda: PairTrading(exit=2.0), ParameterError, r"exit \(2.0\) must be below entry \(2.0\)"),
        (lambda: PairTrading(formation=30, lags=15), ParameterError, "at most 14"),
        (lambda: PairTrading(max_pvalue=0), ParameterError, "max_pvalue = 0"),
        (lambda: PairTrading(formaton=30), ParameterError, "did you mean 'formation'"),
        (lambda: POLICY.weights(PRICES["Y"]), DataError, "two columns"),
        (lambda: POLICY.weights(PRICES.assign(X=-1.0)), DataError, "X is -1.0 at 2020-01-01"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
