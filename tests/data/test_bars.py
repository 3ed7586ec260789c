"""The contract of bars: what is kept, what is refused, and when a value is known."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.support import WORDS, changed, market, raw_market
from tradelib.data.bars import (
    COLUMNS,
    check_bars,
    close_times,
    content_digest,
    join_closed,
    make_bars,
    resample,
    window,
)
from tradelib.errors import DataError, ParameterError


def test_bars_are_utc_nanoseconds_and_float64_with_words_and_digest() -> None:
    bars = market()

    assert bars.index.name == "time"
    assert str(bars.index.dtype) == "datetime64[ns, UTC]"
    assert tuple(bars.columns) == COLUMNS
    assert set(bars.dtypes) == {np.dtype("float64")}
    assert bars.attrs == {**WORDS, "digest": content_digest(bars)}
    assert check_bars(bars, verify_digest=True) is bars


def test_making_bars_leaves_the_input_alone_and_shares_no_memory_with_it() -> None:
    frame = raw_market(20)
    before = frame.copy()

    bars = make_bars(frame)
    frame.iloc[3, 0] = 1.0

    pd.testing.assert_frame_equal(bars, before)
    assert before.iloc[3, 0] == bars.iloc[3, 0]


def test_what_loses_nothing_is_done_without_asking() -> None:
    frame = raw_market(20)
    tokyo = frame.tz_convert("Asia/Tokyo")[["volume", "close", "low", "high", "open"]]
    whole = frame.round(0).clip(lower=1.0).assign(volume=7).astype({"volume": "int64"})

    assert make_bars(tokyo, **WORDS).attrs["digest"] == make_bars(frame).attrs["digest"]
    assert make_bars(whole.assign(high=200.0, low=1.0), **WORDS)["volume"].dtype == np.float64


SPOILED: dict[str, tuple[Callable[[pd.DataFrame], object], str]] = {
    "naive": (lambda f: f.tz_localize(None), "the times are naive"),
    "no times": (lambda f: f.reset_index(), r"columns \['time'\] are not part of bars"),
    "range index": (lambda f: f.reset_index(drop=True), "the index must hold the bars' open times"),
    "unsorted": (lambda f: f.iloc[[0, 2, 1]], "row 2, 2024-01-01 01:00:00.*lies before the row above.*sort_bars"),
    "duplicated": (lambda f: f.iloc[[0, 1, 1]], "row 2, 2024-01-01 01:00:00.*occurs twice.*drop_duplicates"),
    "NaT": (lambda f: f.set_axis(f.index.where(f.index != f.index[4])), "row 4, NaT: the time is missing"),
    "NaN": (lambda f: changed(f, 5, close=np.nan), "row 5, 2024-01-01 05:00:00.*close is nan.*drop_incomplete"),
    "inf": (lambda f: changed(f, 6, volume=np.inf), "row 6.*volume is inf"),
    "-inf": (lambda f: changed(f, 6, low=-np.inf), "row 6.*low is -inf"),
    "zero price": (lambda f: changed(f, 7, low=0.0), "row 7.*a price must be positive: low is 0.0"),
    "negative price": (lambda f: changed(f, 7, low=-3.0), "row 7.*low is -3.0"),
    "negative volume": (lambda f: changed(f, 8, volume=-1.0), "row 8.*negative volume"),
    "high too low": (lambda f: changed(f, 9, high=50.0), "row 9.*high does not enclose.*clip_ohlc"),
    "low too high": (lambda f: changed(f, 9, low=500.0), "row 9.*low does not enclose"),
    "float noise": (lambda f: f.assign(high=f["close"] * (1 - 1e-12)), "high does not enclose"),
    "text": (lambda f: f.astype({"open": str}), "'open' holds str, not numbers.*pd.to_numeric"),
    "objects": (lambda f: f.astype({"open": object}), "'open' holds object"),
    "booleans": (lambda f: f.assign(volume=True), "'volume' holds bool"),
    "nullable": (lambda f: f.astype({"open": "Float64"}), "'open' holds Float64"),
    "huge integer": (lambda f: f.assign(volume=2**60), "an integer too large for a float64"),
    "missing column": (lambda f: f.drop(columns="volume"), r"columns \['volume'\] are missing"),
    "extra column": (lambda f: f.assign(adjusted=1.0), r"columns \['adjusted'\] are not part of bars"),
    "capitals": (lambda f: f.rename(columns=str.title), "rename\\(columns=str.lower\\)"),
    "double column": (lambda f: f[[*COLUMNS, "open"]], "each once"),
    "off the grid": (lambda f: f.set_axis(f.index + pd.Timedelta("1s")), "row 0.*is not on the grid of 1h"),
    "empty": (lambda f: f.iloc[:0], "there are no bars"),
    "a series": (lambda f: f["close"], "made from a DataFrame"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_what_would_have_to_guess_is_refused_by_row_column_and_fix(fault: str) -> None:
    spoil, message = SPOILED[fault]

    with pytest.raises(DataError, match=message):
        make_bars(spoil(raw_market(20)), **WORDS)


@pytest.mark.parametrize("key", ["symbol", "timeframe", "source", "calendar"])
@pytest.mark.parametrize("value", ["", " ", None, "a\nb"])
def test_bars_without_an_identity_are_refused(key: str, value: str | None) -> None:
    frame = raw_market(5)
    frame.attrs = {}

    with pytest.raises((DataError, ParameterError), match=key):
        make_bars(frame, **{**WORDS, key: value})


def test_daily_bars_of_an_exchange_are_labelled_by_their_session() -> None:
    frame = raw_market(5, timeframe="1d")

    assert len(make_bars(frame, calendar="XNYS")) == 5
    with pytest.raises(DataError, match="the session's date at 00:00 UTC"):
        make_bars(frame.set_axis(frame.index + pd.Timedelta("21h")), calendar="XNYS")


def test_intraday_bars_of_an_exchange_need_no_grid() -> None:
    frame = raw_market(5)

    assert len(make_bars(frame.set_axis(frame.index + pd.Timedelta("30min")), calendar="XNYS")) == 5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b.astype("float32"), "'open' is float32, not float64"),
        (lambda b: b[["close"]], "columns must be"),
        (lambda b: b.tz_convert("Asia/Tokyo"), "must be UTC"),
        (lambda b: b.rename_axis("when"), "named 'time'"),
        (lambda b: b.iloc[:0], "there are no bars"),
        (lambda b: b.iloc[::-1], "lies before the row above"),
        (lambda b: pd.DataFrame(b.to_dict("series")), "attrs lack symbol"),
        (lambda b: b["close"], "must be a DataFrame, not Series"),
        (lambda b: changed(b, 3, close=np.nan), "row 3"),
    ],
)
def test_the_boundary_check_refuses_what_is_not_bars(spoil: Callable[[pd.DataFrame], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_bars(spoil(market(20)))


def test_any_time_unit_keeps_the_contract() -> None:
    bars = market(20)

    micro = bars.set_axis(bars.index.as_unit("us").rename("time"))

    assert check_bars(micro, verify_digest=True) is micro


def test_content_that_left_its_digest_behind_is_noticed_when_asked() -> None:
    with pytest.raises(DataError, match="changed after they were made"):
        check_bars(market(20).iloc[:10], verify_digest=True)


def test_a_known_digest_stays_what_it_is() -> None:
    frame = pd.DataFrame(
        {"open": [1.0, 2.0], "high": [2.0, 3.0], "low": [0.5, 1.5], "close": [1.5, 2.5], "volume": [10.0, 0.0]},
        index=pd.to_datetime(["2018-01-01", "2018-01-02"], utc=True),
    )

    digest = make_bars(frame, symbol="A/B", timeframe="1d", source="any", calendar="24/7").attrs["digest"]

    # sha256 of b"tradelib bars 1\nA/B\n1d\n2\n", then int64 nanoseconds and the five columns, little endian
    head = b"tradelib bars 1\nA/B\n1d\n2\n"
    body = np.array([1_514_764_800, 1_514_851_200], "<i8") * 10**9
    columns = np.array([[1, 2], [2, 3], [0.5, 1.5], [1.5, 2.5], [10, 0]], "<f8")
    assert digest == hashlib.sha256(head + body.tobytes() + columns.tobytes()).hexdigest()


@given(row=st.integers(0, 19), column=st.sampled_from(COLUMNS))
def test_the_digest_sees_the_last_bit_of_every_cell(row: int, column: str) -> None:
    bars = market(20)
    value = np.nextafter(bars[column].iloc[row], np.inf)

    assert content_digest(changed(bars, row, **{column: value})) != bars.attrs["digest"]


def test_the_digest_names_symbol_timeframe_and_times_but_not_the_source() -> None:
    frame = raw_market(20)
    same = make_bars(frame, source="elsewhere").attrs["digest"]

    assert same == make_bars(frame).attrs["digest"]
    assert make_bars(frame, symbol="ETH/EUR").attrs["digest"] != same
    assert make_bars(frame, timeframe="30m").attrs["digest"] != same
    assert make_bars(frame.set_axis(frame.index + pd.Timedelta("1h"))).attrs["digest"] != same


def test_a_window_includes_both_ends_and_counts_days_to_their_end() -> None:
    bars = market(72)

    day = window(bars, "2024-01-02", "2024-01-02")

    assert (day.index[0].hour, day.index[-1].hour, len(day)) == (0, 23, 24)
    assert day.attrs == {**bars.attrs, "digest": content_digest(day)}
    assert len(window(bars, end="2024-01-01T05:00Z")) == 6
    assert window(bars).attrs["digest"] == bars.attrs["digest"]


def test_a_window_does_not_share_memory_with_the_whole() -> None:
    bars = market(10)
    part = window(bars, end=bars.index[4])
    part.iloc[0, 0] = 1.0

    assert bars.iloc[0, 0] != 1.0


@pytest.mark.parametrize(("start", "end"), [("2025-01-01", None), (None, "2023-12-31"), ("2024-01-03", "2024-01-02")])
def test_an_empty_window_says_what_there_is(start: str | None, end: str | None) -> None:
    with pytest.raises(DataError, match="the data runs from 2024-01-01"):
        window(market(72), start, end)


def test_resampling_is_what_a_pocket_calculator_says() -> None:
    bars = market(72)

    daily = resample(bars, "1d")
    second = bars.iloc[24:48]

    assert daily.index.strftime("%Y-%m-%d").tolist() == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert daily.iloc[1][list(COLUMNS[:4])].tolist() == [
        second["open"].iloc[0],
        second["high"].max(),
        second["low"].min(),
        second["close"].iloc[-1],
    ]
    assert daily["volume"].iloc[1] == pytest.approx(second["volume"].sum(), rel=1e-15)
    assert daily.attrs == {**bars.attrs, "timeframe": "1d", "digest": content_digest(daily)}
    check_bars(daily, verify_digest=True)


@given(start=st.integers(0, 60), length=st.integers(30, 160), timeframe=st.sampled_from(["2h", "4h", "1d"]))
def test_cutting_the_future_off_never_changes_a_higher_bar(start: int, length: int, timeframe: str) -> None:
    whole = resample(market(260), timeframe)
    part = window(market(260), market(260).index[start], market(260).index[min(start + length, 259)])
    try:
        higher = resample(part, timeframe)
    except DataError:
        return

    expected = whole.loc[higher.index[0] : higher.index[-1]]
    pd.testing.assert_frame_equal(higher, expected, check_exact=True)
    assert close_times(higher)[-1] <= close_times(part)[-1]
    assert higher.index[0] >= part.index[0]


def test_what_was_known_then_is_asked_with_now() -> None:
    bars = market(72)

    assert len(resample(bars, "1d", now="2024-01-03T00:00Z")) == 2
    assert len(resample(bars, "1d", now="2024-01-02T23:59Z")) == 1
    with pytest.raises(DataError, match="no 1d bar of BTC/EUR has closed by"):
        resample(bars, "1d", now="2024-01-01T23:00Z")


def test_a_day_whose_last_hours_had_no_trade_closes_when_the_clock_says_so() -> None:
    quiet = make_bars(raw_market(48).iloc[:45])

    assert len(resample(quiet, "1d")) == 1
    assert len(resample(quiet, "1d", now="2024-01-03")) == 2


def test_missing_bars_inside_a_higher_bar_are_left_out_of_it() -> None:
    frame = raw_market(48)
    holed = make_bars(frame.drop(frame.index[[24, 30, 31]]))

    second = resample(holed, "1d").iloc[1]

    assert second["open"] == frame["open"].iloc[25]
    assert second["volume"] == pytest.approx(frame["volume"].iloc[24:].drop(frame.index[[24, 30, 31]]).sum())


def test_weeks_of_an_exchange_begin_on_monday_and_close_on_the_next() -> None:
    days = pd.bdate_range("2018-12-03", "2018-12-28", tz="UTC").difference(
        pd.to_datetime(["2018-12-05", "2018-12-25"], utc=True)
    )
    frame = raw_market(len(days), timeframe="1d").set_axis(days.rename("time"))
    bars = make_bars(frame, calendar="XNYS")

    weeks = resample(bars, "1w")

    assert weeks.index.strftime("%a %d").tolist() == ["Mon 03", "Mon 10", "Mon 17"]
    assert len(resample(bars, "1w", now="2018-12-31")) == 4
    assert weeks["close"].iloc[0] == frame["close"].iloc[3]


@pytest.mark.parametrize(
    ("source", "target", "calendar", "message"),
    [
        ("1h", "90m", "24/7", "is not made of whole 1h bars"),
        ("1h", "1h", "24/7", "choose a multiple"),
        ("1d", "1h", "24/7", "choose a multiple"),
        ("2d", "1w", "24/7", "is not made of whole 2d bars"),
        ("7d", "2w", "24/7", "is not made of whole 7d bars"),
        ("1d", "2d", "XNYS", "only 1d to 1w is defined"),
        ("1h", "4h", "XNYS", "only 1d to 1w is defined"),
    ],
)
def test_impossible_resampling_is_refused(source: str, target: str, calendar: str, message: str) -> None:
    start = {"2d": "2023-12-29", "7d": "2023-12-28"}.get(source, "2024-01-01")
    bars = make_bars(raw_market(30, timeframe=source, start=start), calendar=calendar)

    with pytest.raises(ParameterError, match=message):
        resample(bars, target)


def test_a_higher_value_is_visible_from_the_bar_that_closes_with_it() -> None:
    bars = market(72)
    joined = join_closed(bars, resample(bars, "1d"), ["close"])

    assert joined["close_1d"].iloc[:23].isna().all()
    assert (joined["close_1d"].iloc[23:47] == bars["close"].iloc[23]).all()
    assert joined["close_1d"].iloc[47] == bars["close"].iloc[47]
    assert "digest" not in joined.attrs
    pd.testing.assert_frame_equal(joined[list(COLUMNS)], bars)


@given(cut=st.integers(30, 190))
def test_no_joined_value_knows_the_future(cut: int) -> None:
    bars = market(200)
    whole = join_closed(bars, resample(bars, "4h"))
    past = window(bars, end=bars.index[cut])

    known = join_closed(past, resample(past, "4h"))

    pd.testing.assert_frame_equal(known, whole.iloc[: cut + 1], check_exact=True)


def test_joining_takes_indicators_gaps_and_any_suffix() -> None:
    bars = market(72)
    higher = resample(bars, "4h")
    higher["mean"] = higher["close"].rolling(2).mean()
    higher.attrs["timeframe"] = "4h"

    joined = join_closed(bars, higher.drop(higher.index[3]), ["mean"], suffix=" of four hours")

    assert (
        joined["mean of four hours"].iloc[15] == joined["mean of four hours"].iloc[11]
    )  # the hole keeps the last known
    with pytest.raises(ParameterError, match=r"\['mena'\] are not in the higher frame"):
        join_closed(bars, higher, ["mena"])
    with pytest.raises(ParameterError, match="choose another"):
        join_closed(bars, resample(bars, "4h"), suffix="")
    with pytest.raises(DataError, match="attrs lack timeframe"):
        join_closed(bars, pd.DataFrame({"x": [1.0]}, index=bars.index[:1]))


def test_a_million_bars_are_checked_and_digested_in_a_blink() -> None:
    count = 1_000_000
    close = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 1e-4, count)))
    index = pd.date_range("2000-01-01", periods=count, freq="1min", tz="UTC")
    bars = make_bars(
        pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1.0}, index=index),
        **{**WORDS, "timeframe": "1m"},
    )

    def best(action: Callable[[pd.DataFrame], object]) -> float:
        spent = []
        for _ in range(3):
            began = time.perf_counter()
            action(bars)
            spent.append(time.perf_counter() - began)
        return min(spent)

    assert best(check_bars) < 0.2  # 0.01 s on an idle core
    assert best(content_digest) < 0.5  # 0.025 s on an idle core with SHA instructions
