"""The contract of all indicators: kind in is kind out, bad input is refused in words, short data is not known yet."""

import numpy as np
import pytest

from tradelib.errors import DataError, ParameterError
from tradelib.indicators import atr, ema, measure_warmup, probe_bars, rolling_volatility, rsi, sma

BARS = probe_bars(300)
ONE_SERIES = {"sma": sma, "ema": ema, "rsi": rsi, "rolling_volatility": rolling_volatility}


@pytest.mark.parametrize("name", ONE_SERIES)
def test_series_in_series_out_and_array_in_array_out(name):
    function = ONE_SERIES[name]
    series = function(BARS["close"], 20)
    array = function(BARS["close"].to_numpy(), 20)
    assert isinstance(array, np.ndarray)
    assert series.index.equals(BARS.index)
    assert series.name.endswith("_20")
    np.testing.assert_array_equal(series, array)


@pytest.mark.parametrize("name", ONE_SERIES)
@pytest.mark.parametrize("window", [0, -3, 2.5, True])
def test_a_window_that_is_no_count_of_bars_is_refused(name, window):
    with pytest.raises(ParameterError, match="whole number of bars"):
        ONE_SERIES[name](BARS["close"], window)


@pytest.mark.parametrize("name", ONE_SERIES)
def test_too_little_data_is_blank_not_an_error(name):
    for length in (0, 1, 5):
        assert np.isnan(ONE_SERIES[name](BARS["close"].to_numpy()[:length], 20)).all()


@pytest.mark.parametrize("name", ONE_SERIES)
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_hole_inside_is_refused_with_its_time(name, hole):
    close = BARS["close"].copy()
    close.iloc[100] = hole
    with pytest.raises(DataError, match=r"2000-04-10"):
        ONE_SERIES[name](close, 20)


@pytest.mark.parametrize("name", ONE_SERIES)
def test_leading_blanks_shift_the_result(name):
    close = BARS["close"].to_numpy()
    padded = np.concatenate([np.full(7, np.nan), close])
    np.testing.assert_array_equal(ONE_SERIES[name](padded, 20)[7:], ONE_SERIES[name](close, 20))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda b: sma(b["close"], 50), 50),
        (lambda b: ema(b["close"], 50), 50),
        (lambda b: rsi(b["close"], 14), 15),
        (lambda b: atr(b["high"], b["low"], b["close"], 14), 15),
        (lambda b: rolling_volatility(b["close"], 20), 21),
        (lambda b: sma(b["close"], 1_000), 1_000),
    ],
)
def test_warmup_is_measured(function, expected):
    assert measure_warmup(function) == expected


def test_atr_wants_equal_lengths():
    with pytest.raises(DataError, match="high 300, low 300, close 299"):
        atr(BARS["high"], BARS["low"], BARS["close"].iloc[1:])
