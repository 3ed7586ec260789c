"""Bars in files: exact, verified, atomic, reproducible; vendors' files read and not believed."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.support import WORDS, changed, market
from tradelib.data.bars import make_bars
from tradelib.data.files import import_csv, read_bars, replace_file, write_bars
from tradelib.errors import DataError, ParameterError

FORMS = ["csv", "csv.gz", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_bars_come_back_bit_for_bit_with_attrs(form: str, tmp_path: Path) -> None:
    bars = market(500)

    back = read_bars(write_bars(bars, tmp_path / f"bars.{form}"))

    pd.testing.assert_frame_equal(back, bars, check_exact=True)
    assert back.attrs == bars.attrs


@pytest.mark.parametrize("form", FORMS)
def test_the_same_bars_give_the_same_bytes(form: str, tmp_path: Path) -> None:
    first = write_bars(market(500), tmp_path / f"a.{form}").read_bytes()

    assert write_bars(read_bars(tmp_path / f"a.{form}"), tmp_path / f"b.{form}").read_bytes() == first


PRICES = st.floats(min_value=5e-324, max_value=1e300, allow_nan=False)


@given(prices=st.lists(PRICES, min_size=1, max_size=8), form=st.sampled_from(["csv", "parquet"]))
def test_every_float_survives(prices: list[float], form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    column = np.array(prices)
    frame = pd.DataFrame(
        {"open": column, "high": column, "low": column, "close": column, "volume": column[::-1]},
        index=pd.date_range("2020-01-01", periods=len(prices), freq="1h", tz="UTC"),
    )
    bars = make_bars(frame, **WORDS)

    back = read_bars(write_bars(bars, tmp_path_factory.mktemp("floats") / f"bars.{form}"))

    assert back.attrs["digest"] == bars.attrs["digest"]


def test_times_finer_than_a_second_and_further_attrs_survive(tmp_path: Path) -> None:
    frame = market(20).set_axis(pd.date_range("2020-01-01T00:00:00.000000001Z", periods=20, freq="1h"))
    bars = make_bars(frame, **{**WORDS, "calendar": "XNYS"})
    bars.attrs["note"] = {"licence": "example", "rows": 20}

    for form in FORMS:
        assert read_bars(write_bars(bars, tmp_path / f"bars.{form}")).attrs == bars.attrs


def test_parquet_of_ours_is_a_plain_frame_to_everybody_else(tmp_path: Path) -> None:
    bars = market(20)

    plain = pd.read_parquet(write_bars(bars, tmp_path / "bars.parquet"))

    pd.testing.assert_frame_equal(plain, bars, check_exact=True)


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_or_missing_byte_is_noticed(form: str, tmp_path: Path) -> None:
    path = write_bars(market(60), tmp_path / f"bars.{form}")
    whole = path.read_bytes()
    random = np.random.default_rng(4)
    damages = [whole[:-1], whole[: len(whole) // 2], b""]
    for place in random.integers(0, len(whole), 60):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        damages.append(bytes(flipped))

    original = read_bars(path)
    for damage in damages:
        path.write_bytes(damage)
        try:
            back = read_bars(path)
        except DataError:
            continue
        pd.testing.assert_frame_equal(back, original, check_exact=True)  # a byte that carries nothing, such as padding
        assert back.attrs == original.attrs


@pytest.mark.parametrize("word", ["calendar", "source", "symbol", "timeframe", "digest"])
def test_a_changed_word_of_the_label_is_noticed(word: str, tmp_path: Path) -> None:
    bars = market(20)
    path = write_bars(bars, tmp_path / "bars.csv")
    path.write_text(path.read_text().replace(f'"{word}": "{bars.attrs[word]}"', f'"{word}": "other"'))

    with pytest.raises(DataError, match="the label was altered"):
        read_bars(path)


def test_a_label_of_the_future_says_its_format(tmp_path: Path) -> None:
    path = write_bars(market(20), tmp_path / "bars.csv")
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))

    with pytest.raises(DataError, match="has format 2, this version reads 1"):
        read_bars(path)


def test_foreign_and_missing_files_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "vendor.csv").write_text("time,open\n1,2\n")
    market(5).to_parquet(tmp_path / "plain.parquet")

    with pytest.raises(DataError, match="import_csv"):
        read_bars(tmp_path / "vendor.csv")
    with pytest.raises(DataError, match=r"pandas\.read_parquet"):
        read_bars(tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="there is no file"):
        read_bars(tmp_path / "absent.csv")
    with pytest.raises(ParameterError, match="choose one of these endings"):
        read_bars(tmp_path / "bars.xlsx")


def test_bars_that_were_changed_or_broken_never_reach_the_disk(tmp_path: Path) -> None:
    for wrong in [changed(market(20), 3, volume=5.0), changed(market(20), 3, close=np.nan), market(20).iloc[:5]]:
        with pytest.raises(DataError):
            write_bars(wrong, tmp_path / "bars.csv")
    odd = market(5)
    odd.attrs["when"] = pd.Timestamp(0)
    with pytest.raises(DataError, match="cannot be written as JSON"):
        write_bars(odd, tmp_path / "bars.csv")

    assert list(tmp_path.iterdir()) == []


def test_replacing_a_file_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = replace_file(tmp_path / "deep" / "file", b"old")

    def broken(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="the disk is full"):
        replace_file(path, b"new")

    assert path.read_bytes() == b"old"
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"cannot write .*file/inside\.csv"):
        write_bars(market(5), tmp_path / "file" / "inside.csv")


def test_csv_needs_neither_pyarrow_nor_any_research_package(tmp_path: Path) -> None:
    write_bars(market(20), tmp_path / "bars.csv.gz")
    absent = ["pyarrow", "numba", "exchange_calendars", "great_expectations", "ccxt", "arch", "matplotlib"]
    code = f"""
import sys
for name in {absent!r}:
    sys.modules[name] = None
import tradelib.data
from tradelib.data.bars import resample
from tradelib.data.files import read_bars, write_bars
bars = read_bars({str(tmp_path / "bars.csv.gz")!r})
write_bars(resample(bars, "4h"), {str(tmp_path / "four.csv")!r})
print(bars.attrs["digest"])
"""

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert told.strip() == market(20).attrs["digest"]
    assert len(read_bars(tmp_path / "four.csv")) == 5


HEAD = "time,open,high,low,close,volume\n"
VENDOR = {"symbol": "BTC/USD", "timeframe": "1h", "source": "vendor"}


def imported(tmp_path: Path, text: str, **options: object) -> pd.DataFrame:
    path = replace_file(tmp_path / "vendor.csv", text.encode())
    return import_csv(path, **{**VENDOR, **options})


def test_a_vendors_rows_come_as_they_are(tmp_path: Path) -> None:
    text = HEAD + "2020-01-01 02:00,3,4,2,3.5,\n2020-01-01 01:00,3,4,2,3.5,7\n2020-01-01 01:00,3,4,2,3.5,7\n"

    frame = imported(tmp_path, text, timezone="America/New_York", time_format="%Y-%m-%d %H:%M")

    assert frame.index.strftime("%H").tolist() == ["07", "06", "06"]
    assert np.isnan(frame["volume"].iloc[0])
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert frame.attrs == {**VENDOR, "calendar": "24/7"}


@pytest.mark.parametrize(("unit", "number"), [("s", 10**0), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_epoch_times_in_every_unit(unit: str, number: int, tmp_path: Path) -> None:
    frame = imported(tmp_path, HEAD + f"{1_577_836_800 * number},1,1,1,1,1\n", time_format=unit)

    assert frame.index[0] == pd.Timestamp("2020-01-01", tz="UTC")


def test_iso_times_with_an_offset_ignore_the_timezone(tmp_path: Path) -> None:
    frame = imported(tmp_path, HEAD + "2020-01-01T00:00:00+02:00,1,1,1,1,1\n", timezone="Asia/Tokyo")

    assert frame.index[0] == pd.Timestamp("2019-12-31 22:00", tz="UTC")


def test_other_names_delimiters_banners_and_compression(tmp_path: Path) -> None:
    text = "a banner\n\nDate;O;H;L;C;Vol;Other\n2020-01-01;1;2;0.5;1.5;9;x\n"
    path = tmp_path / "vendor.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    columns = {"time": "Date", "open": "O", "high": "H", "low": "L", "close": "C", "volume": "Vol"}

    frame = import_csv(path, **{**VENDOR, "timeframe": "1d"}, columns=columns, delimiter=";", skip_rows=2)

    assert frame.iloc[0].tolist() == [1.0, 2.0, 0.5, 1.5, 9.0]
    assert len(make_bars(frame)) == 1


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (HEAD + "2019-03-10 02:30,1,1,1,1,1\n", {"timezone": "America/New_York"}, "one moment in America/New_York"),
        (HEAD + "2019-11-03 01:30,1,1,1,1,1\n", {"timezone": "America/New_York"}, "one moment in America/New_York"),
        (HEAD + "2020-01-01,1,1,1,1,1\n03/01/2020,1,1,1,1,1\n", {}, "row 1: time '03/01/2020' does not fit"),
        (HEAD + "2020-01-01,1,1,1,n.a.,1\n", {}, "row 0: close 'n.a.' is not a number"),
        (HEAD + "1577836800,1,1,1,1,1\n", {"time_format": "ms"}, None),
        (HEAD + "1577836800000,1,1,1,1,1\n", {"time_format": "s"}, "look whether the unit is"),
        (HEAD + "soon,1,1,1,1,1\n", {"time_format": "s"}, "row 0: time 'soon'"),
        ("date,open\n2020-01-01,1\n", {}, "are not among"),
        ("", {}, "is not a table"),
        (HEAD + "2020-01-01,1,1,1,1,1,1,1\n2020-01-01,1\n", {}, None),
    ],
)
def test_what_cannot_be_read_is_named(text: str, options: dict[str, str], message: str | None, tmp_path: Path) -> None:
    if message is None:
        try:
            frame = imported(tmp_path, text, **options)
        except DataError:
            return
        with pytest.raises(DataError):  # read without complaint, but never bars
            make_bars(frame.set_axis(frame.index.where(frame.index.year > 1971)))
    else:
        with pytest.raises(DataError, match=message):
            imported(tmp_path, text, **options)


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="timezone 'Mars' is unknown"):
        imported(tmp_path, HEAD + "2020-01-01,1,1,1,1,1\n", timezone="Mars")
    with pytest.raises(ParameterError, match=r"columns maps \['date'\]"):
        imported(tmp_path, HEAD, columns={"date": "time"})
    with pytest.raises(ParameterError, match="timeframe 'hourly'"):
        imported(tmp_path, HEAD + "2020-01-01,1,1,1,1,1\n", timeframe="hourly")
