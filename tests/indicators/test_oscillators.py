"""Oscillators and stochastics: equal to TA-Lib 0.8 (an independent C library), bounded, at rest where nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import get, probe_bars
from tradelib.indicators.oscillators import (
    awesome_oscillator,
    balance_of_power,
    cci,
    cmo,
    mfi,
    momentum,
    ppo,
    roc,
    rsi,
    ultimate_oscillator,
)
from tradelib.indicators.stochastics import Stochastic, stochastic, stochastic_fast, stochastic_rsi, williams_r

BARS = probe_bars(3_000, seed=5)
OPEN, HIGH, LOW, CLOSE, VOLUME = "open", "high", "low", "close", "volume"
RANGE, SIMPLE = (HIGH, LOW, CLOSE), talib.MA_Type.SMA
REAL = [
    "index/sp500_1999_2018.parquet",
    "crypto/binance_spot_5m/BTC_USDT.parquet",
    "crypto/binance_spot_5m/ADA_USDT.parquet",
    "forex/oanda_daily/EURUSD.parquet",
]


def exponential(close: Any, fast: Any, slow: Any) -> Any:
    return talib.PPO(close, fast, slow, matype=talib.MA_Type.EMA)


def slow(high: Any, low: Any, close: Any, k: Any, smoothing: Any, d: Any) -> Any:
    return talib.STOCH(high, low, close, k, smoothing, SIMPLE, d, SIMPLE)


def fast(high: Any, low: Any, close: Any, k: Any, d: Any) -> Any:
    return talib.STOCHF(high, low, close, k, d, SIMPLE)


def of_rsi(close: Any, window: Any, k: Any, d: Any) -> Any:
    return talib.STOCHRSI(close, window, k, d, SIMPLE)


# name -> (columns, ours, theirs); both are called with the columns, then with the parameters of one case
PAIRS: dict[str, tuple[tuple[str, ...], Callable[..., Any], Callable[..., Any]]] = {
    "rsi": ((CLOSE,), rsi, talib.RSI),
    "cmo": ((CLOSE,), cmo, talib.CMO),
    "momentum": ((CLOSE,), momentum, talib.MOM),
    "roc": ((CLOSE,), roc, talib.ROC),
    "ppo": ((CLOSE,), ppo, exponential),
    "cci": (RANGE, cci, talib.CCI),
    "mfi": ((*RANGE, VOLUME), mfi, talib.MFI),
    "ultimate_oscillator": (RANGE, ultimate_oscillator, talib.ULTOSC),
    "balance_of_power": ((OPEN, *RANGE), balance_of_power, talib.BOP),
    "williams_r": (RANGE, williams_r, talib.WILLR),
    "stochastic": (RANGE, stochastic, slow),
    "stochastic_fast": (RANGE, stochastic_fast, fast),
    "stochastic_rsi": ((CLOSE,), stochastic_rsi, of_rsi),
}
# the smallest window is the smallest that TA-Lib accepts
CASES: list[tuple[str, tuple[int, ...]]] = [
    *((name, (window,)) for name in ("rsi", "cmo", "cci", "mfi", "williams_r") for window in (2, 3, 14, 50, 199)),
    *((name, (window,)) for name in ("momentum", "roc") for window in (1, 2, 10, 199)),
    *(("ppo", windows) for windows in ((12, 26), (2, 3), (5, 199))),
    *(("ultimate_oscillator", windows) for windows in ((7, 14, 28), (1, 1, 1), (1, 2, 3), (5, 8, 40), (3, 6, 13))),
    ("balance_of_power", ()),
    *(("stochastic", windows) for windows in ((14, 3, 3), (5, 3, 3), (1, 1, 1), (2, 1, 2), (1, 3, 5), (199, 7, 2))),
    *(("stochastic_fast", windows) for windows in ((14, 3), (5, 3), (1, 1), (2, 5), (199, 2))),
    *(("stochastic_rsi", windows) for windows in ((14, 14, 3), (14, 5, 3), (2, 1, 1), (3, 2, 5), (50, 21, 3))),
]


def ours(name: str, bars: pd.DataFrame, *parameters: int) -> np.ndarray:
    """The outputs as rows."""
    columns, function, _ = PAIRS[name]
    return np.atleast_2d(function(*(bars[column] for column in columns), *parameters))


def theirs(name: str, bars: pd.DataFrame, *parameters: int) -> np.ndarray:
    columns, _, function = PAIRS[name]
    return np.atleast_2d(function(*(bars[column].to_numpy(float, copy=True) for column in columns), *parameters))


def assert_equal_to_talib(name: str, bars: pd.DataFrame, *parameters: int) -> None:
    """Within 1e-10 of the value, or of the scale of 100 near zero; for `cci` also within the rounding of its mean."""
    one, other = ours(name, bars, *parameters), theirs(name, bars, *parameters)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(other), err_msg=f"{name} {parameters}: blanks")
    allowed = 1e-10 * np.abs(other) + 1e-8
    if name == "cci":  # a price has a rounding of 1e-16 of itself, which TA-Lib divides by the deviation
        typical = bars[list(RANGE)].mean(axis=1)
        deviation = typical.rolling(parameters[0]).apply(lambda x: np.abs(x - x.mean()).mean(), raw=True)
        allowed = allowed + (2e-15 * typical / (0.015 * deviation.clip(lower=1e-13 * typical))).to_numpy()
    assert not (np.abs(one - other) > allowed).any(), f"{name} {parameters}: {np.nanmax(np.abs(one - other))}"


# -- equal to TA-Lib ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_equal_on_a_seeded_walk(name: str, parameters: tuple[int, ...]) -> None:
    assert_equal_to_talib(name, BARS, *parameters)


@pytest.mark.parametrize("name", PAIRS)
def test_equal_where_many_bars_tie(name: str) -> None:
    """Prices of few cents: flat bars, flat windows, typical prices that differ by their rounding only."""
    rounded = BARS.copy()
    rounded[[OPEN, *RANGE]] = (rounded[[OPEN, *RANGE]] / 40.0).round(1) / 3.0
    for parameters in (parameters for case, parameters in CASES if case == name):
        assert_equal_to_talib(name, rounded, *parameters)


@pytest.mark.real_data
@pytest.mark.parametrize("path", REAL)
@pytest.mark.parametrize("name", PAIRS)
def test_equal_on_real_bars(real_data: Any, name: str, path: str) -> None:
    bars = pd.read_parquet(real_data / path).tail(20_000)
    if VOLUME not in bars:
        bars[VOLUME] = 1.0
    for parameters in [parameters for case, parameters in CASES if case == name][:3]:
        assert_equal_to_talib(name, bars, *parameters)


@pytest.mark.parametrize("scale", [1e-8, 1e6])
def test_equal_at_any_level_of_prices(scale: float) -> None:
    scaled = BARS.assign(**{column: BARS[column] * scale for column in (OPEN, *RANGE)})
    for name in ("rsi", "mfi", "stochastic", "williams_r", "ultimate_oscillator", "balance_of_power"):
        parameters = next(parameters for case, parameters in CASES if case == name)
        assert_equal_to_talib(name, scaled, *parameters)


# -- equal to the formula ----------------------------------------------------------------------------------------------


def test_the_awesome_oscillator_is_the_difference_of_two_means() -> None:
    middle = ((BARS[HIGH] + BARS[LOW]) / 2).to_numpy()
    for fast, slow in ((5, 34), (1, 2), (3, 90)):
        expected = np.full(len(middle), np.nan)
        for t in range(slow - 1, len(middle)):
            expected[t] = middle[t - fast + 1 : t + 1].mean() - middle[t - slow + 1 : t + 1].mean()
        np.testing.assert_allclose(awesome_oscillator(BARS[HIGH], BARS[LOW], fast, slow), expected, atol=1e-11)


def test_rsi_is_wilders_recurrence_bar_by_bar() -> None:
    change = BARS[CLOSE].diff().to_numpy()
    for window in (1, 2, 14, 700):
        gain, loss, expected = 0.0, 0.0, np.full(len(change), np.nan)
        for t in range(1, len(change)):
            keep = 1.0 if t <= window else (window - 1) / window
            gain, loss = keep * gain + max(change[t], 0.0), keep * loss + max(-change[t], 0.0)
            if t >= window:
                expected[t] = 100.0 * gain / (gain + loss)
        np.testing.assert_allclose(rsi(BARS[CLOSE], window), expected, rtol=1e-12)


def test_windows_of_one_bar_that_talib_refuses() -> None:
    change = BARS[CLOSE].diff()
    pd.testing.assert_series_equal(rsi(BARS[CLOSE], 1).dropna(), 100.0 * (change > 0).iloc[1:], check_names=False)
    assert (cci(*(BARS[column] for column in RANGE), 1) == 0.0).all()
    place = (BARS[CLOSE] - BARS[HIGH]) / (BARS[HIGH] - BARS[LOW])
    np.testing.assert_allclose(williams_r(*(BARS[column] for column in RANGE), 1), 100 * place, atol=1e-9)


# -- accuracy ----------------------------------------------------------------------------------------------------------


def test_cci_keeps_its_digits_far_from_zero() -> None:
    """At a level of 2^20 the quarter is exact, so the shifted prices have the CCI of the small ones, digit by digit."""
    steps = np.round(np.random.default_rng(1).normal(0.0, 8.0, 500)) / 4.0
    near, far = cci(steps, steps, steps, 16), cci(steps + 2.0**20, steps + 2.0**20, steps + 2.0**20, 16)
    np.testing.assert_allclose(far[15:], near[15:], rtol=1e-8, atol=1e-8)


# -- where nothing moves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [5.0, 0.1, 1e-9, 12_345.678, 0.0])
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_a_flat_market_is_zero_as_in_talib(name: str, parameters: tuple[int, ...], price: float) -> None:
    flat = pd.DataFrame(dict.fromkeys((OPEN, *RANGE, VOLUME), np.full(260, price)))
    known = ours(name, flat, *parameters)
    assert np.isfinite(known[:, -1]).all()
    np.testing.assert_array_equal(known[~np.isnan(known)], 0.0)
    np.testing.assert_allclose(theirs(name, flat, *parameters)[:, -1], 0.0, atol=1e-12)


def test_no_volume_is_no_money_flow() -> None:
    assert (mfi(*(BARS[column] for column in RANGE), 0.0 * BARS[VOLUME]).dropna() == 0.0).all()


def test_a_difference_of_rounding_is_none() -> None:
    """0.1 + 0.2 is not 0.3 to a computer; to a market it is."""
    almost = np.where(np.arange(40) % 2, 0.1 + 0.2, 0.3)
    assert almost[0] != almost[1]
    for function in (stochastic_fast, stochastic):
        assert function(almost, almost, almost).k[-1] == 0.0
    assert williams_r(almost, almost, almost)[-1] == cci(almost, almost, almost)[-1] == 0.0
    assert mfi(almost, almost, almost, np.ones(40))[-1] == 0.0


def test_no_value_is_infinite_and_nothing_warns_where_prices_touch_zero(recwarn: pytest.WarningsRecorder) -> None:
    zeros = BARS[CLOSE].to_numpy(copy=True)[:200]
    zeros[40:90] = 0.0
    for result in (roc(zeros), momentum(zeros), ppo(zeros), rsi(zeros), cmo(zeros), *stochastic_rsi(zeros)):
        assert not np.isinf(result).any()
        assert np.isfinite(result[60:]).all()
    assert not recwarn.list


# -- bounds, scale and mirror ------------------------------------------------------------------------------------------

prices = st.lists(st.floats(0.01, 1e5), min_size=30, max_size=80)


@settings(max_examples=60, deadline=None)
@given(prices)
def test_bounds_hold_on_any_prices(values: list[float]) -> None:
    close = np.array(values)
    high, low = np.maximum(close, np.roll(close, 1)), np.minimum(close, np.roll(close, 1))
    bounded = [
        rsi(close),
        *stochastic_rsi(close, 5, 5),
        mfi(high, low, close, close),
        *stochastic_fast(high, low, close),
    ]
    for result in bounded:
        known = result[~np.isnan(result)]
        assert ((known >= 0.0) & (known <= 100.0)).all()
    slow = stochastic(high, low, close, 5).k[10:]  # means of places: to within their rounding
    assert ((slow >= -1e-12) & (slow <= 100.0 + 1e-12)).all()
    assert ((williams_r(high, low, close)[13:] >= -100.0) & (williams_r(high, low, close)[13:] <= 0.0)).all()
    assert (np.abs(cmo(close)[14:]) <= 100.0).all()
    assert (np.abs(balance_of_power(low, high, low, close)) <= 1.0).all()


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_twice_the_prices_change_no_share(name: str, parameters: tuple[int, ...]) -> None:
    twice = BARS.assign(**{column: 2.0 * BARS[column] for column in (OPEN, *RANGE)})
    factor = 2.0 if name == "momentum" else 1.0
    np.testing.assert_array_equal(ours(name, twice, *parameters), factor * ours(name, BARS, *parameters))


def test_upside_down_gains_are_losses() -> None:
    mirrored = 300.0 - BARS[CLOSE]
    np.testing.assert_allclose(rsi(mirrored), 100.0 - rsi(BARS[CLOSE]), atol=1e-9)
    np.testing.assert_allclose(cmo(mirrored), -cmo(BARS[CLOSE]), atol=1e-9)
    turned = stochastic(300.0 - BARS[LOW], 300.0 - BARS[HIGH], mirrored)
    upright = stochastic(BARS[HIGH], BARS[LOW], BARS[CLOSE])
    np.testing.assert_allclose(turned.d, 100.0 - upright.d, atol=1e-8)


def test_names_for_one_thing_agree() -> None:
    bars = [BARS[column] for column in RANGE]
    np.testing.assert_allclose(cmo(BARS[CLOSE]), 2 * rsi(BARS[CLOSE]) - 100, atol=1e-11)
    np.testing.assert_allclose(williams_r(*bars), stochastic_fast(*bars, 14, 1).k - 100, atol=1e-11)
    np.testing.assert_allclose(stochastic_fast(*bars).d.iloc[20:], stochastic(*bars).k.iloc[20:], atol=1e-11)


# -- the contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_compiled_and_interpreted_agree_bit_for_bit(name: str, parameters: tuple[int, ...]) -> None:
    bars = BARS.iloc[:1_100]  # more than two blocks
    compiled = ours(name, bars, *parameters)
    with interpreted():
        np.testing.assert_array_equal(ours(name, bars, *parameters), compiled)


def test_the_awesome_oscillator_too() -> None:
    compiled = awesome_oscillator(BARS[HIGH], BARS[LOW])
    with interpreted():
        pd.testing.assert_series_equal(awesome_oscillator(BARS[HIGH], BARS[LOW]), compiled, check_exact=True)


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_a_history_that_ends_earlier_has_the_same_bits(name: str, parameters: tuple[int, ...]) -> None:
    full = ours(name, BARS, *parameters)
    for end in (0, 1, 2, 60, 511, 512, 513, 527, 1_025, 2_999):
        np.testing.assert_array_equal(ours(name, BARS.iloc[:end], *parameters), full[:, :end])


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_leading_blanks_shift_the_result(name: str, parameters: tuple[int, ...]) -> None:
    padded = BARS.iloc[:700].reset_index(drop=True)
    later = padded.reindex(range(-7, 700))
    np.testing.assert_array_equal(ours(name, later, *parameters)[:, 7:], ours(name, padded, *parameters))


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [1, 40, 333, 399])
@pytest.mark.parametrize("name", [*PAIRS, "awesome_oscillator"])
def test_a_hole_in_any_column_is_refused_with_its_time(name: str, row: int, hole: float) -> None:
    entry, bars = get(name), BARS.iloc[:400]
    for column in entry.inputs:
        holed = bars.assign(**{column: bars[column].where(np.arange(400) != row, hole)})
        with pytest.raises(DataError, match=rf"{column}|values") as refusal:
            entry(holed)
        assert str(bars.index[row]) in str(refusal.value)


@pytest.mark.parametrize("name", [*PAIRS, "awesome_oscillator"])
def test_a_hole_in_data_that_are_too_short_is_refused_too(name: str) -> None:
    entry, bars = get(name), BARS.iloc[:3].copy()
    for column in entry.inputs:
        with pytest.raises(DataError):
            entry(bars.assign(**{column: [1.0, np.inf, 1.0]}))


@pytest.mark.parametrize("as_series", [True, False])
def test_a_hole_before_the_other_columns_begin_is_refused(as_series: bool) -> None:
    blank, holed = BARS[HIGH].where(np.arange(len(BARS)) >= 5), BARS[CLOSE].where(np.arange(len(BARS)) != 2, np.inf)
    inputs = (blank, BARS[LOW], holed)
    with pytest.raises(DataError, match="close holds inf"):
        williams_r(*(inputs if as_series else (column.to_numpy() for column in inputs)))
    late = BARS[HIGH].where(np.arange(len(BARS)) >= 5)
    assert williams_r(late, BARS[LOW], BARS[CLOSE]).first_valid_index() == BARS.index[5 + 13]


@pytest.mark.parametrize("name", ["cci", "mfi", "stochastic", "williams_r", "balance_of_power", "awesome_oscillator"])
def test_bars_that_do_not_belong_together_are_refused(name: str) -> None:
    entry = get(name)
    columns = [BARS[column] for column in entry.inputs]
    with pytest.raises(DataError, match="differ in length"):
        entry.function(*columns[:-1], columns[-1].iloc[1:])
    with pytest.raises(DataError, match="different bars"):
        entry.function(*columns[:-1], columns[-1].set_axis(BARS.index + pd.Timedelta("1h")))
    with pytest.raises(DataError, match="sort the bars"):
        entry(BARS.iloc[::-1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: ppo(b[CLOSE], 26, 12), "shorter than the slow one; got 26 and 12"),
        (lambda b: awesome_oscillator(b[HIGH], b[LOW], 34, 34), "shorter than the slow one; got 34 and 34"),
        (lambda b: ultimate_oscillator(b[HIGH], b[LOW], b[CLOSE], 7, 28, 14), "must not decrease; got 7, 28 and 14"),
        (lambda b: stochastic(b[HIGH], b[LOW], b[CLOSE], 14, 0), "k_smoothing must be a whole number of bars"),
        (lambda b: stochastic_rsi(b[CLOSE], 14, 14, 2.5), "d must be a whole number of bars"),
        (lambda b: rsi(b[CLOSE], 0), "window must be a whole number of bars"),
    ],
)
def test_parameters_without_a_meaning_are_refused(call: Callable[[pd.DataFrame], Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        call(BARS)


def test_two_lines_have_names() -> None:
    lines = stochastic(BARS[HIGH], BARS[LOW], BARS[CLOSE])
    assert isinstance(lines, Stochastic)
    assert (lines.k.name, lines.d.name) == ("stochastic_k_14_3_3", "stochastic_d_14_3_3")
    assert list(get("stochastic_rsi")(BARS)) == ["k", "d"]
    assert lines.k.first_valid_index() == lines.d.first_valid_index() == BARS.index[17]  # %K waits for %D
