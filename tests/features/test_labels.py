"""Labels: each rule against a plain loop, and no label before it was known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.features import (
    cusum_filter,
    daily_volatility,
    fixed_horizon_labels,
    known_by,
    meta_labels,
    trend_labels,
    triple_barrier,
)
from tradelib.indicators import probe_bars

CLOSE = probe_bars(500, seed=5)["close"]
VOLATILITY = daily_volatility(CLOSE, 30)
EVENTS = CLOSE.index[3::4]
SIDES = pd.Series(np.where(np.arange(len(CLOSE)) % 3 == 0, -1.0, 1.0), CLOSE.index)


def by_loop(close, events, up, down, horizon, target, side=None):
    """AFML 3.4 as it is told: walk from the event to the end in time, and stop at the first close beyond a barrier."""
    found = []
    for time in events:
        row = close.index.get_loc(time)
        sign = 1.0 if side is None else side[time]
        outcome = (len(close), "none yet", np.nan, np.nan)
        for ahead in range(1, horizon + 1):
            if row + ahead >= len(close):
                break
            gain = sign * (close.iloc[row + ahead] / close.iloc[row] - 1)
            if up is not None and gain > up * target[time]:
                outcome = (row + ahead, "take_profit", gain, 1.0)
            elif down is not None and gain < -down * target[time]:
                outcome = (row + ahead, "stop_loss", gain, -1.0)
            elif ahead == horizon:
                outcome = (row + ahead, "vertical", gain, 0.0)
            if outcome[0] < len(close):
                break
        found.append(outcome)
    return pd.DataFrame(found, index=events, columns=["end_row", "barrier", "return", "label"])


# -- the triple barrier ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "down"), [(1.0, 1.0), (2.5, 0.5), (None, 1.0), (1.5, None), (None, None)])
@pytest.mark.parametrize("horizon", [1, 2, 10, 60])
@pytest.mark.parametrize("side", [None, SIDES])
def test_the_triple_barrier_equals_the_loop(up, down, horizon, side):
    labels = triple_barrier(CLOSE, EVENTS, up, down, horizon, target=VOLATILITY, side=side)
    expected = by_loop(CLOSE, EVENTS, up, down, horizon, VOLATILITY, side)
    pd.testing.assert_frame_equal(labels[expected.columns], expected, check_exact=True, check_dtype=False)
    known = labels["end_row"] < len(CLOSE)
    assert (labels["end_time"][known] == CLOSE.index[labels["end_row"][known]]).all()
    assert labels["end_time"][~known].isna().all()


def test_a_path_of_seven_closes():
    """Barriers of a quarter, three bars. Row 2 is up by exactly a quarter, which is not beyond it."""
    close = np.array([100.0, 110.0, 125.0, 130.0, 120.0, 80.0, 105.0])
    labels = triple_barrier(close, [0, 3, 4, 5], 0.25, 0.25, 3)
    assert labels["end_row"].tolist() == [3, 5, 5, 6]
    assert labels["label"].tolist() == [1, -1, -1, 1]
    assert labels["return"].round(12).tolist() == [0.3, round(80 / 130 - 1, 12), round(80 / 120 - 1, 12), 0.3125]
    assert triple_barrier(close, [0, 3, 4, 5], 0.25, 0.25, 2)["label"].tolist()[0] == 0
    assert triple_barrier(close, [0], 0.25, 0.25, 2, vertical="sign")["label"].tolist() == [1]


def test_an_exact_touch_of_the_stop_is_no_touch():
    close = np.array([100.0, 75.0, 74.0])
    assert triple_barrier(close, [0], None, 0.25, 2)["end_row"].tolist() == [2]
    assert triple_barrier(close, [0], None, 0.25, 2)["barrier"].tolist() == ["stop_loss"]


def test_a_short_side_is_the_mirror():
    labels = triple_barrier(CLOSE, EVENTS, 2.0, 1.0, 10, VOLATILITY, side=-1)
    mirrored = triple_barrier(CLOSE, EVENTS, 1.0, 2.0, 10, VOLATILITY)
    assert (labels["end_row"] == mirrored["end_row"]).all()
    np.testing.assert_array_equal(labels["label"], -mirrored["label"])
    np.testing.assert_array_equal(labels["return"], -mirrored["return"])
    assert (labels["side"] == -1.0).all()


def test_one_target_for_all_one_each_and_one_by_time_agree():
    one = triple_barrier(CLOSE, EVENTS, target=0.02)
    pd.testing.assert_frame_equal(triple_barrier(CLOSE, EVENTS, target=np.full(len(EVENTS), 0.02)), one)
    pd.testing.assert_frame_equal(triple_barrier(CLOSE, EVENTS, target=pd.Series(0.02, EVENTS)), one)
    rows = triple_barrier(CLOSE.to_numpy(), CLOSE.index.get_indexer(EVENTS), target=0.02)
    np.testing.assert_array_equal(rows["end_row"], one["end_row"])
    pd.testing.assert_frame_equal(triple_barrier(CLOSE, pd.Series(1, EVENTS), target=0.02), one)


def test_every_bar_is_an_event_where_none_is_given():
    assert triple_barrier(CLOSE, target=0.02)["row"].tolist() == list(range(len(CLOSE)))


@given(st.floats(0.1, 5.0), st.floats(0.1, 5.0), st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_label_contradicts_its_return(up, down, horizon, seed):
    close = probe_bars(120, seed)["close"]
    labels = triple_barrier(close, None, up, down, horizon, target=0.01).dropna()
    gains = labels["return"]
    assert (gains[labels["label"] == 1] > up * 0.01).all()
    assert (gains[labels["label"] == -1] < -down * 0.01).all()
    assert gains[labels["label"] == 0].between(-down * 0.01, up * 0.01).all()
    assert (labels["end_row"] - labels["row"]).between(1, horizon).all()


def test_the_index_of_the_market_equals_the_loop():
    close = embedded("sp500")["close"]
    volatility = daily_volatility(close)
    events = cusum_filter(np.log(close), 2.0 * volatility)
    labels = triple_barrier(close, events, 2.0, 2.0, 20, volatility)
    expected = by_loop(close, events.index, 2.0, 2.0, 20, volatility)
    pd.testing.assert_frame_equal(labels[expected.columns], expected, check_exact=True, check_dtype=False)


# -- known by ----------------------------------------------------------------------------------------------------------


KINDS = {
    "triple barrier": lambda close: triple_barrier(close, None, 1.5, 1.0, 15, target=0.02),
    "meta": lambda close: meta_labels(close, None, SIDES, 1.5, 1.0, 15, target=0.02),
    "fixed horizon": lambda close: fixed_horizon_labels(close, 7, 0.01),
    "trend": lambda close: trend_labels(close, shortest=4, longest=12),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [0, 1, 11, 12, 137, 400, 499])
def test_known_by_a_day_is_what_the_history_until_that_day_gives(kind, row):
    """The proof that a label says when it was known: nothing that came after the day changes what was known on it."""
    at_the_time = KINDS[kind](CLOSE.iloc[: row + 1])
    known = known_by(KINDS[kind](CLOSE), CLOSE.index[row])
    pd.testing.assert_frame_equal(at_the_time[at_the_time["label"].notna()], known, check_exact=True)
    assert at_the_time["label"].isna().any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_needs_the_bar_on_which_it_becomes_known(kind):
    """Cut off one bar earlier it is not there: `end_row` is not later than necessary either."""
    labels = KINDS[kind](CLOSE)
    event = labels.iloc[200]
    earlier = KINDS[kind](CLOSE.iloc[: int(event["end_row"])])
    assert np.isnan(earlier["label"].iloc[200])
    assert not np.isnan(KINDS[kind](CLOSE.iloc[: int(event["end_row"]) + 1])["label"].iloc[200])


def test_known_by_wants_a_table_of_labels():
    with pytest.raises(DataError, match="no table of labels: it lacks row, end_row, end_time"):
        known_by(CLOSE.to_frame(), CLOSE.index[0])


def test_known_by_a_row_where_bars_have_no_times():
    labels = fixed_horizon_labels(CLOSE.to_numpy(), 10)
    assert len(known_by(labels, 9)) == 0
    assert known_by(labels, 12)["row"].tolist() == [0, 1, 2]
    assert len(known_by(labels, 10_000)) == 490


# -- meta-labels -------------------------------------------------------------------------------------------------------


def test_a_meta_label_is_one_where_the_take_profit_came_first():
    labels = meta_labels(CLOSE, EVENTS, SIDES, 1.0, 1.0, 8, VOLATILITY)
    barriers = triple_barrier(CLOSE, EVENTS, 1.0, 1.0, 8, VOLATILITY, SIDES)
    known = barriers["label"].notna()
    assert (labels["label"][known] == (barriers["barrier"][known] == "take_profit")).all()
    assert labels["label"][~known].isna().all()
    assert (labels["side"] == SIDES[EVENTS]).all()


def test_with_the_sign_at_the_end_it_is_the_books():
    """AFML snippet 3.7: 1 where the return of the bet is above 0."""
    labels = meta_labels(CLOSE, EVENTS, SIDES, 1.0, 1.0, 8, VOLATILITY, vertical="sign").dropna()
    assert (labels["label"] == (labels["return"] > 0)).all()
    assert (labels["barrier"] == "vertical").any()


# -- a fixed horizon ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 10])
@pytest.mark.parametrize("threshold", [0.0, 0.01])
def test_a_fixed_horizon_is_the_sign_of_the_return(horizon, threshold):
    labels = fixed_horizon_labels(CLOSE, horizon, threshold)
    returns = CLOSE.shift(-horizon) / CLOSE - 1
    expected = np.select([returns > threshold, returns < -threshold, returns.notna()], [1.0, -1.0, 0.0], np.nan)
    np.testing.assert_array_equal(labels["label"], expected)
    np.testing.assert_array_equal(labels["return"], returns)


def test_a_return_of_exactly_the_threshold_is_a_zero():
    assert fixed_horizon_labels(np.array([4.0, 5.0, 3.75]), 1, 0.25)["label"].tolist()[:2] == [0.0, 0.0]


# -- trend scanning ----------------------------------------------------------------------------------------------------


def t_value_by_statsmodels(window):
    """MLAM snippet 5.1."""
    design = np.column_stack([np.ones(len(window)), np.arange(len(window))])
    return sm.OLS(window, design).fit().tvalues[1]


@pytest.mark.parametrize(("shortest", "longest"), [(3, 3), (3, 8), (5, 20)])
def test_trend_labels_are_those_of_ordinary_least_squares(shortest, longest):
    """MLAM snippet 5.2: the window whose t-value is largest in size."""
    close = CLOSE.iloc[:90]
    labels = trend_labels(close, close.index[::7], shortest, longest)
    for time, label in labels.iterrows():
        row = close.index.get_loc(time)
        if row + longest > len(close):
            assert np.isnan(label["label"])
            continue
        spans = range(shortest, longest + 1)
        values = {n: t_value_by_statsmodels(close.iloc[row : row + n].to_numpy()) for n in spans}
        best = max(values, key=lambda n: abs(values[n]))
        assert label["window"] == best
        assert label["t_value"] == pytest.approx(values[best], rel=1e-8)
        assert label["label"] == np.sign(values[best])
        assert label["end_row"] == row + longest - 1


def test_a_level_of_a_million_does_not_hide_the_trend():
    """Cancellation would: the noise is a hundredth. Exact: the same path around 0, in extended precision."""
    path = np.cumsum(np.random.default_rng(0).normal(0, 0.01, 60))
    labels = trend_labels(1e6 + path, shortest=5, longest=20).dropna()
    shifted = ((1e6 + path) - 1e6).astype(np.longdouble)
    for _, label in labels.iterrows():
        y = shifted[int(label["row"]) : int(label["row"]) + int(label["window"])]
        x = np.arange(len(y), dtype=np.longdouble)
        x -= x.mean()
        slope = (x * (y - y.mean())).sum() / (x**2).sum()
        residual = ((y - y.mean() - slope * x) ** 2).sum()
        exact = slope / np.sqrt(residual / (len(y) - 2) / (x**2).sum())
        assert label["t_value"] == pytest.approx(float(exact), rel=1e-8)


def test_a_straight_line_is_finite_and_a_still_market_has_no_trend():
    rising = trend_labels(np.arange(1.0, 40.0), shortest=5, longest=20).dropna()
    assert (rising["label"] == 1).all()
    assert np.isfinite(rising["t_value"]).all()
    still = trend_labels(np.full(40, 7.0)).dropna()
    assert (still["label"] == 0).all()
    assert (still["t_value"] == 0).all()


# -- interpreted, empty, refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_interpreted_as_compiled(kind):
    compiled = KINDS[kind](CLOSE.iloc[:200])
    with interpreted():
        pd.testing.assert_frame_equal(KINDS[kind](CLOSE.iloc[:200]), compiled, check_exact=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_data_have_no_label_yet(kind, count):
    labels = KINDS[kind](CLOSE.iloc[:count])
    assert len(labels) == count
    assert labels["label"].isna().all()
    assert len(known_by(labels, CLOSE.index[-1])) == 0
    assert list(labels.columns) == list(KINDS[kind](CLOSE).columns)


def test_no_event_no_label():
    assert len(triple_barrier(CLOSE, CLOSE.index[:0])) == 0


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        (lambda: triple_barrier(CLOSE, EVENTS + pd.Timedelta("1h")), DataError, "no bar at the event 2000-01-04 01:00"),
        (lambda: triple_barrier(CLOSE, EVENTS[::-1]), DataError, "sort them"),
        (lambda: triple_barrier(CLOSE, EVENTS.repeat(2)), DataError, "keep one of each time"),
        (lambda: triple_barrier(CLOSE.to_numpy(), [500]), DataError, "no bar at the event 500"),
        (lambda: triple_barrier(CLOSE, CLOSE.index, target=VOLATILITY), DataError, "2000-01-01 .* has no target"),
        (lambda: triple_barrier(CLOSE, EVENTS, target=[1.0]), DataError, "target holds 1 values for 125 events"),
        (lambda: triple_barrier(CLOSE, EVENTS, target=-0.1), ParameterError, "target must be at least 0; it is -0.1"),
        (lambda: triple_barrier(CLOSE, EVENTS, take_profit=-1.0), ParameterError, "take_profit must be a positive"),
        (lambda: triple_barrier(CLOSE, EVENTS, stop_loss=np.nan), ParameterError, "stop_loss must be a positive"),
        (lambda: triple_barrier(CLOSE, EVENTS, horizon=0), ParameterError, "horizon must be a whole number"),
        (lambda: triple_barrier(CLOSE, EVENTS, side=0.5), ParameterError, r"a side is \+1 or -1; it is 0.5 at 2000"),
        (lambda: triple_barrier(CLOSE, EVENTS, vertical="none"), ParameterError, "vertical must be 'zero' or 'sign'"),
        (lambda: triple_barrier(-CLOSE, EVENTS), DataError, "needs positive prices"),
        (lambda: triple_barrier(CLOSE.shift(1), EVENTS), DataError, "close is nan at 2000-01-01"),
        (lambda: meta_labels(CLOSE, EVENTS, SIDES, None), ParameterError, "no bet would be a good one"),
        (lambda: trend_labels(CLOSE, shortest=2), ParameterError, "at least 3; got 2"),
        (lambda: trend_labels(CLOSE, shortest=10, longest=9), ParameterError, "at least 10; got 9"),
    ],
)
def test_what_is_refused(call, error, what):
    with pytest.raises(error, match=what):
        call()


@pytest.mark.real_data
def test_real_minutes_equal_the_loop(real_data):
    frame = pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet").set_index("time")
    close = frame["close"].astype(float).iloc[:4_000]
    volatility = daily_volatility(close)
    events = cusum_filter(np.log(close), volatility)
    labels = triple_barrier(close, events, 1.0, 1.0, 288, volatility)
    expected = by_loop(close, events.index, 1.0, 1.0, 288, volatility)
    pd.testing.assert_frame_equal(labels[expected.columns], expected, check_exact=True, check_dtype=False)
    assert len(labels) > 20
