"""Events: the filter and the volatility against the book's own snippets, and causal at every bar."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.features import cusum_filter, daily_volatility
from tradelib.indicators import probe_bars

CLOSE = probe_bars(600, seed=3, timeframe="1h")["close"]
LOG = np.log(CLOSE)


def snippet_2_4(values, threshold):
    """AFML snippet 2.4, with a threshold per bar and the direction kept."""
    events, up, down = {}, 0.0, 0.0
    for time, step, limit in zip(values.index[1:], np.diff(values), threshold.iloc[1:], strict=True):
        up, down = max(0.0, up + step), min(0.0, down + step)
        if down < -limit:
            down = 0.0
            events[time] = -1
        elif up > limit:
            up = 0.0
            events[time] = 1
    return events


@pytest.mark.parametrize("threshold", [0.0, 0.003, 0.02, 0.05, 1.0])
def test_the_filter_is_the_snippet(threshold):
    assert cusum_filter(LOG, threshold).to_dict() == snippet_2_4(LOG, pd.Series(threshold, LOG.index))


def test_a_threshold_per_bar_is_the_snippet_too():
    threshold = pd.Series(np.random.default_rng(0).uniform(0.0, 0.06, len(LOG)), LOG.index)
    events = cusum_filter(LOG, threshold)
    assert events.to_dict() == snippet_2_4(LOG, threshold)
    assert set(events) == {-1, 1}


def test_a_run_must_exceed_the_threshold():
    """Up by exactly 2, then by a quarter more; down by exactly 2, then by a quarter more."""
    events = cusum_filter(np.array([10.0, 11.0, 12.0, 12.25, 11.25, 10.25, 10.0]), 2.0)
    assert events.to_dict() == {3: 1, 6: -1}


def test_the_negative_side_comes_first_and_the_other_is_kept():
    """Up by 3 under a high threshold; then the threshold falls to 0.5 and the price by 1: both sides exceed it.

    The fall is told; the rise of 2 that is left is told on the next bar, where nothing else happens.
    """
    values, threshold = np.array([0.0, 3.0, 2.0, 2.0]), np.array([9.0, 9.0, 0.5, 0.5])
    assert cusum_filter(values, threshold).to_dict() == {2: -1, 3: 1}


def test_a_rise_does_not_forget_what_was_left_of_a_fall():
    """Down by 3 under a high threshold, up by 2.5 over one of 2; the half that is left and 1.6 more exceed 2."""
    values, threshold = np.array([0.0, -3.0, -0.5, -2.1]), np.array([9.0, 9.0, 2.0, 2.0])
    assert cusum_filter(values, threshold).to_dict() == {2: 1, 3: -1}


def test_nothing_is_known_before_the_threshold_is():
    values, threshold = np.array([0.0, 5.0, 10.0, 12.0, 15.0]), np.array([np.nan, np.nan, 4.0, 4.0, 4.0])
    assert cusum_filter(values, threshold).to_dict() == {4: 1}  # the ten before are not counted: 2 + 3 > 4


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=80), st.floats(0.0, 6.0), st.integers(1, 79))
@settings(max_examples=60, deadline=None)
def test_events_of_the_past_do_not_change(values, threshold, cut):
    whole, early = np.array(values), np.array(values[:cut])
    events = cusum_filter(whole, threshold)
    pd.testing.assert_series_equal(cusum_filter(early, threshold), events[events.index < len(early)])


@given(st.floats(0.1, 1e6), st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_the_unit_does_not_matter_and_down_is_up_in_the_mirror(scale, shift):
    whole = np.cumsum(np.random.default_rng(1).integers(-3, 4, 200)).astype(float)
    events = cusum_filter(whole, 5.0)
    scaled = cusum_filter(2.0 ** np.round(np.log2(scale)) * whole, 5.0 * 2.0 ** np.round(np.log2(scale)))
    pd.testing.assert_series_equal(scaled, events)
    pd.testing.assert_index_equal(cusum_filter(whole + np.round(shift), 5.0).index, events.index)
    pd.testing.assert_series_equal(-cusum_filter(-whole, 5.0), events)


def test_times_of_a_series_and_rows_of_an_array():
    by_time, by_row = cusum_filter(LOG, 0.02), cusum_filter(LOG.to_numpy(), 0.02)
    assert list(LOG.index[by_row.index]) == list(by_time.index)
    assert by_time.name == "direction"
    assert by_time.index.name == "time"
    assert by_time.dtype == np.int64


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_data_has_no_event(length):
    assert len(cusum_filter(LOG.iloc[:length], 1.0)) == 0


def test_interpreted_as_compiled():
    compiled = cusum_filter(LOG, 0.01)
    with interpreted():
        pd.testing.assert_series_equal(cusum_filter(LOG, 0.01), compiled, check_exact=True)


def test_what_is_refused():
    with pytest.raises(ParameterError, match="at least 0; it is -0.1 at 2000-01-01"):
        cusum_filter(LOG, -0.1)
    with pytest.raises(DataError, match="holds nan at row 2"):
        cusum_filter(np.array([1.0, 2.0, np.nan, 3.0]), 1.0)
    with pytest.raises(DataError, match="different bars"):
        cusum_filter(LOG, pd.Series(0.1, LOG.index + pd.Timedelta("1min")))


# -- daily volatility --------------------------------------------------------------------------------------------------


def snippet_3_1(close, span):
    """AFML snippet 3.1: the return against the last bar strictly older than a day, and its exponential deviation."""
    before = close.index.searchsorted(close.index - pd.Timedelta(days=1))
    before = before[before > 0]
    earlier = pd.Series(close.index[before - 1], index=close.index[len(close) - len(before) :])
    returns = close.loc[earlier.index] / close.loc[earlier.to_numpy()].to_numpy() - 1
    return returns.ewm(span=span).std()


@pytest.mark.parametrize("span", [2, 20, 100])
def test_where_no_bar_is_exactly_a_day_old_it_is_the_snippet(span):
    """Bars whose steps are odd milliseconds: none of them is exactly a day after another."""
    rng = np.random.default_rng(0)
    steps = pd.to_timedelta(np.cumsum(rng.integers(600_000, 9_000_000, 800)), unit="ms")
    close = pd.Series(100 * np.exp(np.cumsum(rng.normal(0, 0.004, 800))), pd.Timestamp("2024-01-01", tz="UTC") + steps)
    assert not (close.index - pd.Timedelta("1D")).isin(close.index).any()
    expected = snippet_3_1(close, span)
    found = daily_volatility(close, span)
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-12)
    assert found[: -len(expected)].isna().all()


def test_a_bar_that_is_exactly_a_day_old_counts():
    """On daily bars without a gap the return is that of one bar; the snippet would take two."""
    days = probe_bars(300)["close"]
    expected = days.pct_change().ewm(span=50).std()
    np.testing.assert_allclose(daily_volatility(days, 50), expected, rtol=1e-12)


def test_hours_look_back_over_a_day_whatever_is_missing():
    holes = CLOSE.drop(CLOSE.index[[30, 31, 200]])
    returns = pd.Series(np.nan, holes.index)
    for time in holes.index:
        old = holes[: time - pd.Timedelta("1D")]
        returns[time] = holes[time] / old.iloc[-1] - 1 if len(old) else np.nan
    np.testing.assert_allclose(daily_volatility(holes, 30), returns.ewm(span=30).std(), rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 24, 25, 26, 100, 599])
def test_it_is_causal(cut):
    whole = daily_volatility(CLOSE, 20)
    pd.testing.assert_series_equal(daily_volatility(CLOSE.iloc[:cut], 20), whole.iloc[:cut], check_exact=True)


def test_a_still_market_has_none_and_leading_blanks_shift():
    still = pd.Series(5.0, CLOSE.index)
    assert (daily_volatility(still).dropna() == 0.0).all()
    blank = CLOSE.copy()
    blank.iloc[:10] = np.nan
    np.testing.assert_allclose(daily_volatility(blank).iloc[10:], daily_volatility(CLOSE.iloc[10:]), rtol=1e-12)


def test_what_has_no_days_is_refused():
    with pytest.raises(DataError, match="a day needs times"):
        daily_volatility(CLOSE.reset_index(drop=True))
    with pytest.raises(DataError, match="not positive at 2000-01-01 03:00"):
        daily_volatility(CLOSE.where(CLOSE.index != CLOSE.index[3], 0.0))
    with pytest.raises(ParameterError, match="span must be at least 1"):
        daily_volatility(CLOSE, 0.5)


@pytest.mark.parametrize("name", ["sp500", "nasdaq"])
def test_the_filter_on_twenty_years_of_an_index(name):
    log = np.log(embedded(name)["close"])
    threshold = 2.0 * daily_volatility(embedded(name)["close"])
    known = threshold.first_valid_index()
    assert cusum_filter(log, threshold).to_dict() == snippet_2_4(log[known:], threshold[known:])


@pytest.mark.real_data
def test_the_filter_on_five_minutes_of_bitcoin(real_data):
    close = (
        pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet").set_index("time")["close"].iloc[:9_000]
    )
    log = np.log(close)
    events = cusum_filter(log, 0.005)
    assert events.to_dict() == snippet_2_4(log, pd.Series(0.005, log.index))
    assert len(events) > 100
