"""Evidence: robust scores, gaps on the calendar, repeats and copies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.support import raw_market
from tradelib.data.evidence import (
    calendar_evidence,
    find_gaps,
    found_times,
    gather_evidence,
    price_scores,
    repeats,
    robust_scale,
)
from tradelib.data.timeframes import expected_times, parse_timeframe


def test_the_robust_scale_of_a_known_sample() -> None:
    # median 3, absolute deviations 2 1 0 1 97: their median is 1
    assert robust_scale(np.array([1.0, 2, 3, 4, 100, np.nan, np.inf])) == (3.0, 1.4826)


def test_more_than_half_equal_falls_back_to_the_mean_absolute_deviation() -> None:
    assert robust_scale(np.array([0.0, 0, 0, 4])) == (0.0, pytest.approx(np.sqrt(np.pi / 2)))
    assert robust_scale(np.array([5.0, 5.0])) == (5.0, 0.0)
    assert robust_scale(np.array([np.nan])) == (0.0, 0.0)


def test_one_bad_tick_scores_twice_and_a_constant_price_never() -> None:
    frame = raw_market(100).reset_index(drop=True)
    frame.loc[40, ["open", "high", "low", "close"]] *= 10
    constant = frame * 0 + 7.0

    returns, _ = price_scores(frame, np.arange(100))

    assert np.flatnonzero(returns > 30).tolist() == [40, 41]
    assert np.nanmax(price_scores(constant, np.arange(100))[0]) == 0.0


def test_scores_follow_time_and_not_the_order_of_rows() -> None:
    frame = raw_market(100).reset_index(drop=True)
    shuffled = np.random.default_rng(2).permutation(100)

    returns, wicks = price_scores(frame.iloc[shuffled].reset_index(drop=True), np.argsort(shuffled))

    np.testing.assert_array_equal(returns, price_scores(frame, np.arange(100))[0][shuffled])
    np.testing.assert_array_equal(wicks, price_scores(frame, np.arange(100))[1][shuffled])


@given(dropped=st.sets(st.integers(1, 98)))
def test_gaps_are_exactly_what_was_taken_out(dropped: set[int]) -> None:
    expected = expected_times("24/7", "1h", "2024-01-01", "2024-01-05T03:00Z")
    kept = expected.delete(sorted(dropped))

    gaps = find_gaps(kept, expected)
    columns, again = calendar_evidence(kept.tz_localize(None)[::-1], "24/7", parse_timeframe("1h"))

    assert sum(gap.bars for gap in gaps) == len(dropped)
    covered = [time for gap in gaps for time in expected_times("24/7", "1h", gap.first, gap.last)]
    assert covered == [expected[row] for row in sorted(dropped)]
    assert again == gaps
    assert columns["missing_before"].sum() == len(dropped)
    assert not columns["off_calendar"].any()


def test_times_are_found_in_the_index_or_a_column_with_their_zone() -> None:
    frame = raw_market(5)

    assert found_times(frame)[1] == "UTC"
    assert found_times(frame.reset_index())[0].equals(found_times(frame)[0])
    assert found_times(frame.tz_localize(None))[1] == "none"
    assert found_times(frame.reset_index(drop=True))[1] == "no times"
    assert found_times(frame.reset_index(drop=True))[0].isna().all()


def test_runs_end_where_they_end_and_copies_lie_elsewhere() -> None:
    frame = raw_market(50).reset_index(drop=True)
    frame.iloc[10:14] = frame.iloc[10].to_numpy()
    frame.iloc[30] = frame.iloc[20].to_numpy()
    frame.iloc[40] = np.nan

    run, copied = repeats(frame, np.arange(50))

    assert run[9:15].tolist() == [1, 1, 1, 1, 4, 1]
    assert np.flatnonzero(copied).tolist() == [20, 30]


def test_flat_bars_without_trades_are_no_copies() -> None:
    frame = raw_market(50).reset_index(drop=True)
    frame.iloc[20] = [7.0, 7.0, 7.0, 7.0, 0.0]
    frame.iloc[30] = [7.0, 7.0, 7.0, 7.0, 0.0]

    assert not repeats(frame, np.arange(50))[1].any()


def test_evidence_of_a_frame_with_nothing_right_is_still_a_table() -> None:
    frame = pd.DataFrame({"open": ["a", "b"], "close": [np.inf, -1.0]}, index=pd.DatetimeIndex([pd.NaT, pd.NaT]))

    table = gather_evidence(frame, found_times(frame)[0])

    assert "open" not in table
    assert table["close"].isna().tolist() == [True, False]
    assert len(table) == 2
