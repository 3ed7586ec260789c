"""The quality check: each expectation fails on a planted fault and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tests.data.support import WORDS, changed, market, raw_market
from tradelib.data.bars import make_bars
from tradelib.data.quality import QualityReport, QualityRules, check_quality
from tradelib.data.sources import embedded
from tradelib.errors import DataError, ParameterError


def failed(report: QualityReport) -> list[str]:
    return [item.name for item in report.failed()]


def check(frame: pd.DataFrame, **options: object) -> QualityReport:
    words = {"symbol": "BTC/EUR", "timeframe": "1h", "source": "test", "calendar": "24/7"}
    return check_quality(frame, **{**words, **options})


def spiked(frame: pd.DataFrame) -> pd.DataFrame:
    copy = frame.copy()
    copy.iloc[50, :4] *= 10
    return copy


def repeated(frame: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    copy = frame.copy()
    copy.iloc[first:last] = copy.iloc[first].to_numpy()
    return copy


def shifted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(frame.index.where(np.arange(len(frame)) != 9, frame.index[9] + pd.Timedelta("1min")))


Spoil = Callable[[pd.DataFrame], pd.DataFrame]
FAULTS: dict[str, tuple[Spoil, list[str], str]] = {
    "naive": (lambda f: f.tz_localize(None), ["times have a zone"], "row 0"),
    "no column": (lambda f: f.drop(columns="high"), ["column high"], ""),
    "text": (lambda f: f.astype({"low": str}), ["type of low"], ""),
    "no time": (lambda f: f.set_axis(f.index.where(f.index != f.index[4])), ["time is known"], "no time, row 4"),
    "NaN": (lambda f: changed(f, 5, open=np.nan), ["open is known"], "2024-01-01 05:00:00, row 5: open nan"),
    "inf": (lambda f: changed(f, 5, volume=np.inf), ["volume is known"], "row 5"),
    "zero": (lambda f: changed(f, 6, low=0.0), ["low > 0"], "row 6: low 0"),
    "high < body": (lambda f: changed(f, 7, high=f["low"].iloc[7]), ["high ≥ open", "high ≥ close"], "row 7: high"),
    "low > body": (lambda f: changed(f, 7, low=f["high"].iloc[7]), ["open ≥ low", "close ≥ low"], "row 7: open"),
    "high < low": (
        lambda f: changed(f, 7, high=1.0),
        ["high ≥ open", "high ≥ close", "high ≥ low"],
        "2024-01-01 07:00:00, row 7: high 1",
    ),
    "negative volume": (lambda f: changed(f, 8, volume=-1.0), ["volume ≥ 0"], "row 8: volume -1"),
    "silence": (
        lambda f: f.assign(volume=f["volume"].where(f.index.hour > 1, 0.0)),
        ["zero volume"],
        "row 0: volume 0",
    ),
    "unsorted": (lambda f: f.iloc[[0, 2, 1, *range(3, 200)]], ["times ascend"], "row 2: seconds since row above -3600"),
    "twice": (lambda f: f.iloc[[0, 1, 1, *range(2, 200)]], ["times are unique"], "2024-01-01 01:00:00, row 1"),
    "off the calendar": (shifted, ["times are on the calendar"], "2024-01-01 09:01:00, row 9"),
    "a hole": (
        lambda f: f.drop(f.index[20:31]),
        ["missing bars", "longest gap"],
        "2024-01-02 07:00:00, row 20: missing before 11",
    ),
    "crumbs": (lambda f: f.drop(f.index[[20, 40, 60]]), ["missing bars"], "missing before 1"),
    "bad tick": (spiked, ["return outliers"], "2024-01-03 02:00:00, row 50: return score"),
    "wick": (lambda f: changed(f, 60, high=900.0), ["wick outliers"], "row 60: wick score"),
    "stale": (lambda f: repeated(f, 70, 82), ["repeated bars"], "2024-01-04 09:00:00, row 81: repeated 12"),
    "copies": (
        lambda f: f.assign(**{n: np.r_[f[n][:90], f[n][80:83], f[n][93:]] for n in f.columns}),
        ["copied bars"],
        "2024-01-04 08:00:00, row 80",
    ),
}


def test_a_healthy_market_passes_every_expectation() -> None:
    report = check(raw_market(200))

    assert report.success
    assert failed(report) == []
    assert report.gaps == ()
    assert len(report.findings) == 37
    assert report.digest is None
    assert check_quality(market()).digest == market().attrs["digest"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(fault: str) -> None:
    spoil, names, sample = FAULTS[fault]

    report = check(spoil(raw_market(200)))

    assert failed(report) == names
    first = report.failed()[0]
    assert sample in ("; ".join(first.sample) if sample else "")
    severities = {item.name: item.severity for item in report.findings}
    assert report.success == all(severities[name] == "warning" for name in names)


def test_every_kind_of_expectation_has_a_planted_fault() -> None:
    planted = {name for _, names, _ in FAULTS.values() for name in names} | {"overdue bars", "unfinished bars"}
    families = {"is known": "open is known", "type of": "type of low", "column": "column high", "> 0": "low > 0"}
    report = check(raw_market(200), as_of="2024-01-09T08:00Z")

    for item in report.findings:
        kind = next((known for mark, known in families.items() if mark in item.name), item.name)
        assert kind in planted, item.name


def test_freshness_is_judged_only_against_a_given_clock() -> None:
    frame = raw_market(200)  # the last bar opens at 2024-01-09 07:00

    assert failed(check(frame, as_of="2024-01-09T08:00Z")) == []
    assert failed(check(frame, as_of="2024-01-09T09:59Z")) == []
    assert failed(check(frame, as_of="2024-01-09T10:00Z")) == ["overdue bars"]
    assert failed(check(frame, as_of="2024-01-09T07:59Z")) == ["unfinished bars"]
    assert check(frame, as_of="2024-01-10T08:00Z").to_frame().loc["overdue bars", "observed"] == "24"
    assert not any(item.name == "overdue bars" for item in check(frame).findings)


def test_a_weekend_is_not_overdue_in_new_york() -> None:
    sp500 = embedded("sp500")

    report = check_quality(sp500, as_of="2019-01-01T12:00Z")

    assert report.success
    assert report.to_frame().loc["overdue bars", "observed"] == "0"


def test_thresholds_are_thresholds() -> None:
    holed = raw_market(200).drop(raw_market(200).index[20:31])

    lenient = check(holed, rules={"missing_share": 0.1, "longest_gap": 11})

    assert failed(lenient) == []
    assert failed(check(holed, rules=QualityRules(missing_share=0.1))) == ["longest gap"]
    assert check(holed, rules={"missing_share": 0.1}).success


def test_gaps_are_listed_by_their_first_and_last_missing_bar() -> None:
    report = check(raw_market(200).drop(raw_market(200).index[[20, 21, 22, 100]]))

    assert [(gap.first[:16], gap.last[:16], gap.bars) for gap in report.gaps] == [
        ("2024-01-01T20:00", "2024-01-01T22:00", 3),
        ("2024-01-05T04:00", "2024-01-05T04:00", 1),
    ]


def test_the_dictionary_is_deterministic_plain_json() -> None:
    frame = spiked(raw_market(200)).drop(raw_market(200).index[20:31])

    first, second = (json.dumps(check(frame, as_of="2024-01-10").to_dict(), allow_nan=False) for _ in range(2))

    assert first == second
    assert json.loads(first)["success"] is False
    assert check(frame).to_html() == check(frame).to_html()


def test_the_page_is_self_contained_and_escapes_what_it_is_told() -> None:
    page = check(raw_market(200).drop(raw_market(200).index[20:31]), symbol="<b>&A").to_html()

    for outside in ("<script", "http", "//", "url(", "@import", "src=", "<b>&A"):
        assert outside not in page
    assert "&lt;b&gt;&amp;A" in page
    assert page.startswith("<!doctype html>")
    assert page.count('<tr class="family">') == 8


def test_a_report_shows_itself_in_words_tables_and_notebooks() -> None:
    report = check(changed(raw_market(200), 5, close=np.nan))

    assert report.summary().startswith("BTC/EUR 1h: refused, 200 bars, 37 expectations, 1 critical failed, 0 warnings")
    assert report.to_frame().index[0] == "times have a zone"
    assert "Refused" in report._repr_html_()


def test_frames_in_any_state_are_reported_and_not_raised_on() -> None:
    hopeless = pd.DataFrame({"open": ["x"], "close": [np.nan]})
    one = raw_market(1)
    column = raw_market(50).reset_index()
    foreign = raw_market(50).tz_convert("America/New_York")

    assert not check(hopeless).success
    assert "time is known" in failed(check(hopeless))
    assert check(one).success
    assert check(column).success
    assert check(foreign).success


def test_integers_and_float32_count_as_numbers() -> None:
    frame = raw_market(50).astype({"volume": "int64", "open": "float32"})

    assert not any(name.startswith("type") for name in failed(check(frame)))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"longest_gab": 3}, "did you mean 'longest_gap'"),
        ({"nonsense": 3}, "known: copied_bars"),
        ({"missing_share": 2.0}, "missing_share = 2.0"),
        ({"outlier_score": "big"}, "outlier_score = 'big'"),
    ],
)
def test_wrong_rules_are_refused_before_anything_is_judged(rules: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check(raw_market(5), rules=rules)


def test_what_cannot_be_judged_is_refused() -> None:
    anonymous = pd.DataFrame(raw_market(5).to_dict("series"))

    with pytest.raises(DataError, match="no rows to check"):
        check(raw_market(5).iloc[:0])
    with pytest.raises(ParameterError, match="timeframe is unknown"):
        check_quality(anonymous)
    with pytest.raises(ParameterError, match="calendar 'NYSE_' is unknown"):
        check(raw_market(5), calendar="NYSE_")


def test_bars_bring_their_own_words() -> None:
    report = check_quality(make_bars(raw_market(50), symbol="ETH/EUR"))

    assert (report.symbol, report.timeframe, report.calendar, report.source) == (
        "ETH/EUR",
        "1h",
        "24/7",
        WORDS["source"],
    )
