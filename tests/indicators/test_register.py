"""What every registered indicator keeps, whoever wrote it: one that is added is tested here from its first day."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tradelib.indicators
from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import available, find, get, probe_bars
from tradelib.indicators.registry import FAMILIES, Indicator, probe_inputs
from tradelib.validation.causality import prove_causality

INDICATORS = available()
NAMES = sorted(INDICATORS)
CAUSAL = [name for name in NAMES if INDICATORS[name].causal]
WINDOWED = [name for name in NAMES if "window" in INDICATORS[name].parameters]
BARS = probe_inputs(400, seed=2, timeframe="1h")
CUMULATIVE = {"accumulation_distribution", "anchored_vwap", "obv"}
"""Every bar since the start counts: two histories differ for ever."""


def values(name: str, bars: pd.DataFrame, **parameters: Any) -> pd.DataFrame:
    return pd.DataFrame(INDICATORS[name](bars, **parameters))


def columns(name: str, bars: pd.DataFrame) -> list[pd.Series]:
    return [bars[column] for column in INDICATORS[name].inputs]


def as_arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


def needs_times(name: str) -> bool:
    """True where arrays are refused, because a session begins at a time of day."""
    try:
        INDICATORS[name].function(*(column.to_numpy() for column in columns(name, BARS)))
    except (DataError, ParameterError):
        return True
    return False


# -- the register ------------------------------------------------------------------------------------------------------


def test_every_name_of_the_room_is_there_and_every_indicator_has_a_name_in_the_room() -> None:
    for name in tradelib.indicators.__all__:
        assert getattr(tradelib.indicators, name) is not None
    own = [name for name in NAMES if INDICATORS[name].function.__module__.startswith("tradelib.indicators.")]
    assert [name for name in own if not hasattr(tradelib.indicators, name)] == []
    assert set(NAMES) - set(own) == {"fractional_difference"}


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_what_it_is(name: str) -> None:
    entry = INDICATORS[name]
    assert entry.family in FAMILIES
    assert 20 <= len(entry.summary) <= 160
    assert all(parameter is not inspect.Parameter.empty for parameter in entry.parameters.values()), "no default"
    signature = list(inspect.signature(entry.function).parameters)
    assert signature[len(entry.inputs) :] == list(entry.parameters)


def test_an_indicator_is_found_by_what_it_is_about() -> None:
    assert "atr" in find("true range").index
    assert "rsi" in find("relative strength").index
    assert len(find()) == len(NAMES)
    with pytest.raises(ParameterError, match="did you mean 'rsi'"):
        get("rsl")


# -- the past alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAUSAL)
def test_it_is_causal_at_every_bar(name: str) -> None:
    """Also: what a history that grows bar by bar gives is what the whole history gives at once, to the bit."""
    proof = prove_causality(INDICATORS[name], BARS.iloc[:180])
    assert proof.passed, proof.summary()
    assert proof.cuts == 179


@pytest.mark.real_data
@pytest.mark.parametrize("path", ["index/sp500_1999_2018.parquet", "crypto/bitvavo_1h/BTC_EUR.parquet"])
@pytest.mark.parametrize("name", CAUSAL)
def test_it_is_causal_on_real_bars(name: str, path: str, real_data: Any) -> None:
    bars = pd.read_parquet(real_data / path)
    times = pd.DatetimeIndex(bars["time"] if "time" in bars else bars["date"]).tz_localize(None).tz_localize("UTC")
    bars = bars.set_index(times)[["open", "high", "low", "close", "volume"]].iloc[2_000:2_200].astype(float)
    extra = probe_inputs(len(bars)).drop(columns=bars.columns).set_index(bars.index)
    proof = prove_causality(INDICATORS[name], bars.join(extra))
    assert proof.passed, proof.summary()


@pytest.mark.parametrize("name", [name for name in NAMES if not INDICATORS[name].causal])
def test_what_is_for_pictures_only_is_indeed_not_causal(name: str) -> None:
    assert prove_causality(INDICATORS[name], BARS.iloc[:220]).violations


@pytest.mark.parametrize("name", CAUSAL)
def test_a_runner_that_starts_late_agrees_once_the_memory_is_full(name: str) -> None:
    memory = INDICATORS[name].memory()
    if memory is None:
        assert name in CUMULATIVE
        return
    assert memory >= INDICATORS[name].warmup()
    bars = probe_inputs(memory + 300, seed=9)
    late = values(name, bars.iloc[200:]).to_numpy()[memory - 1 :]
    np.testing.assert_allclose(late, values(name, bars).to_numpy()[200 + memory - 1 :], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_and_interpreted_agree_bit_for_bit(name: str) -> None:
    compiled = values(name, BARS)
    with interpreted():
        pd.testing.assert_frame_equal(values(name, BARS), compiled, check_exact=True)


# -- one contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_series_come_back_as_series_and_arrays_as_arrays(name: str) -> None:
    entry, given = INDICATORS[name], columns(name, BARS)
    series = entry.function(*given)
    for part in series if isinstance(series, tuple) else (series,):
        assert isinstance(part, pd.Series)
        assert part.index.equals(given[0].index)
        assert part.dtype == np.float64
        assert part.name
    if needs_times(name):
        return
    arrays = entry.function(*(column.to_numpy() for column in given))
    assert type(arrays) is (np.ndarray if not isinstance(series, tuple) else type(series))
    for one, other in zip(as_arrays(series), as_arrays(arrays), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_the_bars_of_the_caller_stay_as_they_are(name: str) -> None:
    before = BARS.copy()
    INDICATORS[name](BARS)
    pd.testing.assert_frame_equal(BARS, before, check_exact=True)


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("window", [0, -3, 2.5, True, None, "20", float("nan")])
def test_a_window_that_is_no_count_of_bars_is_refused(name: str, window: Any) -> None:
    with pytest.raises(ParameterError, match="window"):
        INDICATORS[name](BARS, window=window)


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_longer_than_the_data_is_not_known_yet(name: str) -> None:
    assert values(name, BARS, window=5_000).isna().any(axis=1).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_one_bar_or_none_is_no_error(name: str, count: int) -> None:
    found = values(name, BARS.iloc[:count])
    assert len(found) == count
    assert tuple(found.columns) == INDICATORS[name].outputs or len(found.columns) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_hole_is_refused_with_its_time(name: str, hole: float) -> None:
    for column in INDICATORS[name].inputs:
        bars = BARS.copy()
        bars.iloc[100, bars.columns.get_loc(column)] = hole
        with pytest.raises(DataError, match="2000-01-05 04:00"):
            INDICATORS[name](bars)


@pytest.mark.parametrize("name", NAMES)
def test_unsorted_or_repeated_times_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="comes after"):
        INDICATORS[name](BARS.iloc[::-1])
    with pytest.raises(DataError, match="comes after"):
        INDICATORS[name](pd.concat([BARS.iloc[:50], BARS.iloc[49:]]))


@pytest.mark.parametrize("name", [name for name in NAMES if len(INDICATORS[name].inputs) > 1])
def test_columns_of_different_bars_are_refused(name: str) -> None:
    entry, given = INDICATORS[name], columns(name, BARS)
    later = given[1].set_axis(given[1].index + pd.Timedelta(minutes=5))
    with pytest.raises(DataError, match="different bars"):
        entry.function(given[0], later, *given[2:])
    with pytest.raises(DataError, match="length"):
        entry.function(given[0], given[1].iloc[1:], *given[2:])


@pytest.mark.parametrize("name", NAMES)
def test_leading_blanks_shift_the_result(name: str) -> None:
    if needs_times(name):
        return
    given = [column.to_numpy() for column in columns(name, BARS)]
    padded = [np.concatenate([np.full(7, np.nan), column]) for column in given]
    function = INDICATORS[name].function
    for one, other in zip(as_arrays(function(*padded)), as_arrays(function(*given)), strict=True):
        assert np.isnan(one[:7]).all()
        np.testing.assert_array_equal(one[7:], other)


def still(count: int = 200) -> pd.DataFrame:
    """A market in which nothing moves and nothing is traded."""
    bars = probe_inputs(count, timeframe="1h")
    bars[:] = 5.0
    return bars.assign(volume=0.0, bid_price=4.99, ask_price=5.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["still", "no volume", "no range", "tiny", "huge"])
def test_degenerate_markets_give_neither_infinity_nor_a_warning(name: str, kind: str) -> None:
    bars = BARS.copy()
    if kind == "still":
        bars = still()
    elif kind == "no volume":
        bars["volume"] = 0.0
    elif kind == "no range":
        bars["open"] = bars["high"] = bars["low"] = bars["close"]
    else:
        bars *= 1e-9 if kind == "tiny" else 1e9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = values(name, bars)
    assert not np.isinf(found.to_numpy()).any()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_parameter_or_a_missing_column_is_named(name: str) -> None:
    entry: Indicator = INDICATORS[name]
    with pytest.raises(ParameterError, match="no parameter 'windo'"):
        entry(BARS, windo=3)
    with pytest.raises(DataError, match=f"{name} reads {entry.inputs[0]}"):
        entry(probe_bars(30).drop(columns=list(entry.inputs), errors="ignore"))
