"""Repairs: asked for by name, reported in full, and harmless to what is healthy."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.support import changed, market, raw_market
from tradelib.data.bars import check_bars, make_bars
from tradelib.data.repair import (
    REPAIRS,
    clip_ohlc,
    drop_bars,
    drop_duplicates,
    drop_incomplete,
    drop_unfinished,
    fill_gaps,
    repair,
    sort_bars,
)
from tradelib.errors import DataError, ParameterError


@given(order=st.permutations(list(range(12))))
def test_sorting_restores_any_order_and_reports_every_row_that_moved(order: list[int]) -> None:
    frame = raw_market(12)

    after, report = sort_bars(frame.iloc[order])

    pd.testing.assert_frame_equal(after, frame)
    assert after.attrs == frame.attrs
    told = {(row.row, row.after) for row in report.to_frame().itertuples()}
    assert told == {(place, row) for place, row in enumerate(order) if place != row}
    assert len(sort_bars(after)[1]) == 0


def test_equal_duplicates_fall_together_and_are_listed_with_their_values() -> None:
    frame = raw_market(10).iloc[[0, 1, 1, 1, 2]]

    after, report = drop_duplicates(frame)

    pd.testing.assert_frame_equal(after, raw_market(10).iloc[:3])
    assert report.counts() == {"drop_duplicates: dropped": 2}
    assert report.to_frame()["row"].tolist() == [2, 3]
    assert report.to_frame()["before"].iloc[0].startswith(f"open {frame['open'].iloc[1]}")


def test_differing_duplicates_need_a_decision() -> None:
    frame = changed(raw_market(10).iloc[[0, 1, 1, 2]], 2, volume=99.0)

    with pytest.raises(DataError, match=r"row 1, 2024-01-01 01:00:00.*keep 'first' or 'last'"):
        drop_duplicates(frame)

    assert drop_duplicates(frame, keep="last")[0]["volume"].iloc[1] == 99.0
    assert drop_duplicates(frame, keep="first")[0]["volume"].iloc[1] != 99.0
    with pytest.raises(ParameterError, match="keep is 'newest'"):
        drop_duplicates(frame, keep="newest")


def test_rows_that_are_no_bars_go() -> None:
    frame = changed(raw_market(10), 2, close=np.nan)
    frame = changed(changed(frame, 4, volume=np.inf), 6, low=0.0)
    frame.index = frame.index.where(np.arange(10) != 8)

    after, report = drop_incomplete(frame)

    assert report.to_frame()["row"].tolist() == [2, 4, 6, 8]
    assert len(make_bars(after)) == 6


def test_named_bars_and_unfinished_bars_go() -> None:
    frame = raw_market(10)

    after, report = drop_bars(frame, ["2024-01-01T03:00Z", frame.index[5]])
    closed, _ = drop_unfinished(frame, "2024-01-01T08:30Z")

    assert report.to_frame()["row"].tolist() == [3, 5]
    assert len(after) == 8
    assert closed.index[-1].hour == 7
    with pytest.raises(DataError, match="there is no bar of 2025-01-01"):
        drop_bars(frame, ["2025-01-01"])


@given(noise=st.lists(st.floats(-5e-5, 5e-5), min_size=10, max_size=10))
def test_clipping_makes_bars_of_noise_and_touches_nothing_else(noise: list[float]) -> None:
    frame = raw_market(10)
    frame["high"] = frame[["open", "close"]].max(axis=1) * (1 + np.array(noise))
    bad = frame["high"] < frame[["open", "close"]].max(axis=1)

    after, report = clip_ohlc(frame)

    assert len(make_bars(after)) == 10
    assert len(report) == bad.sum()
    pd.testing.assert_series_equal(after.loc[~bad, "high"], frame.loc[~bad, "high"])
    assert report.to_frame()["before"].tolist() == frame.loc[bad, "high"].tolist()
    assert len(clip_ohlc(after)[1]) == 0


def test_a_wrong_price_is_no_noise() -> None:
    frame = changed(raw_market(10), 4, high=50.0)

    with pytest.raises(DataError, match=r"row 4, 2024-01-01 04:00:00.*high would move by"):
        clip_ohlc(frame)

    assert clip_ohlc(frame, largest=1.0)[1].to_frame()["before"].tolist() == [50.0]


def test_gaps_stay_unless_filling_is_asked_for() -> None:
    frame = raw_market(10).drop(raw_market(10).index[[4, 5]])

    assert len(fill_gaps(frame)[0]) == 8

    after, report = fill_gaps(frame, "flat")
    close = frame["close"].iloc[3]
    assert after.iloc[4].tolist() == after.iloc[5].tolist() == [close, close, close, close, 0.0]
    assert report.counts() == {"fill_gaps: added": 2}
    assert len(make_bars(after)) == 10
    pd.testing.assert_frame_equal(after.drop(after.index[[4, 5]]), frame, check_freq=False)


def test_filling_keeps_to_the_calendar_and_to_its_limit() -> None:
    days = pd.to_datetime(["2018-12-21", "2018-12-24", "2018-12-27", "2018-12-28"], utc=True)
    frame = raw_market(4, timeframe="1d").set_axis(days.rename("time"))
    frame.attrs["calendar"] = "XNYS"

    after, _ = fill_gaps(frame, "flat")

    assert after.index.strftime("%d").tolist() == ["21", "24", "26", "27", "28"]
    with pytest.raises(DataError, match="has 1 bars, more than 0"):
        fill_gaps(frame, "flat", most=0)
    with pytest.raises(DataError, match="sorted, unique"):
        fill_gaps(frame.iloc[::-1], "flat")
    with pytest.raises(ParameterError, match="method is 'linear'"):
        fill_gaps(frame, "linear")


def test_several_repairs_are_one_report_in_their_order() -> None:
    frame = changed(raw_market(10), 7, close=np.nan).iloc[[1, 0, 2, 2, 3, 7, 8]]

    after, report = repair(
        frame,
        ["sort_bars", {"drop_duplicates": {"keep": "first"}}, "drop_incomplete", {"fill_gaps": {"method": "flat"}}],
    )

    assert report.counts() == {
        "sort_bars: moved": 2,
        "drop_duplicates: dropped": 1,
        "drop_incomplete: dropped": 1,
        "fill_gaps: added": 4,
    }
    assert (report.rows_before, report.rows_after) == (7, 9)
    check_bars(make_bars(after))
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["counts"]["fill_gaps: added"] == 4
    assert "7 rows before, 9 after" in report._repr_html_()


@pytest.mark.parametrize("name", sorted(set(REPAIRS) - {"drop_bars", "drop_unfinished"}))
def test_a_repair_leaves_healthy_bars_alone_digest_included(name: str) -> None:
    bars = market(50)

    after, report = repair(bars, [name])

    pd.testing.assert_frame_equal(after, bars)
    assert after.attrs == bars.attrs
    assert report.summary() == "50 rows before, 50 after: nothing changed"


def test_repairs_do_not_touch_their_input() -> None:
    frame = changed(raw_market(10), 4, high=raw_market(10)["low"].iloc[4]).iloc[[1, 0, 2, 3, 4, 4, 6]]
    before = frame.copy()

    repair(frame, ["sort_bars", "drop_duplicates", {"clip_ohlc": {"largest": 1.0}}, {"fill_gaps": {"method": "flat"}}])

    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["sort"], "did you mean 'sort_bars'"),
        (["zzz"], "use clip_ohlc, drop_bars"),
        ([{"sort_bars": {}, "clip_ohlc": {}}], "one name with its options"),
        ([{"clip_ohlc": {"largst": 1}}], "'largst'"),
        ([3], "one name with its options"),
    ],
)
def test_wrong_steps_are_refused(steps: list[object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        repair(raw_market(5), steps)


def test_a_frame_without_times_or_numbers_cannot_be_repaired() -> None:
    with pytest.raises(DataError, match="indexed by time"):
        sort_bars(raw_market(5).reset_index())
    with pytest.raises(DataError, match=r"columns \['open'\] do not hold numbers"):
        drop_incomplete(raw_market(5).astype({"open": str}))
