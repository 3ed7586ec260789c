"""Recorded market data: the known facts, the known defects, and the way from a dirty file to bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tradelib.data.bars import make_bars, resample, window
from tradelib.data.exchange import report_gaps
from tradelib.data.files import import_csv, read_bars, write_bars
from tradelib.data.quality import check_quality
from tradelib.data.repair import drop_bars, repair
from tradelib.data.sources import embedded
from tradelib.errors import DataError

pytestmark = pytest.mark.real_data

CRYPTO = {"source": "recorded", "calendar": "24/7"}


def load(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / name).set_index("time")


def test_bitvavo_hours_resample_to_the_recorded_days(real_data: Path) -> None:
    hours = make_bars(load(real_data, "crypto/bitvavo_1h/BTC_EUR.parquet"), symbol="BTC/EUR", timeframe="1h", **CRYPTO)
    days = make_bars(load(real_data, "crypto/bitvavo_1d/BTC_EUR.parquet"), symbol="BTC/EUR", timeframe="1d", **CRYPTO)

    made = resample(hours, "1d")
    common = made.index.intersection(days.index)

    assert len(common) == 1_408
    prices = ["open", "high", "low", "close"]
    pd.testing.assert_frame_equal(made.loc[common, prices], days.loc[common, prices], check_exact=True)
    # the exchange adds volumes as decimals of eight places, so a sum of floats agrees once it is rounded to them
    pd.testing.assert_series_equal(made.loc[common, "volume"].round(8), days.loc[common, "volume"], check_exact=True)
    assert made.index[0] == pd.Timestamp("2020-01-01", tz="UTC")  # 2019-12-31 has one hour only


def test_bitvavo_has_thirty_hours_without_a_trade(real_data: Path) -> None:
    hours = make_bars(load(real_data, "crypto/bitvavo_1h/BTC_EUR.parquet"), symbol="BTC/EUR", timeframe="1h", **CRYPTO)

    gaps = report_gaps(hours)

    assert (gaps.missing, len(gaps.gaps), max(gap.bars for gap in gaps.gaps)) == (30, 12, 6)


@pytest.mark.parametrize("coin", ["ADA", "BNB", "BTC", "ETH", "SOL"])
def test_the_outage_of_binance_is_found(coin: str, real_data: Path) -> None:
    frame = load(real_data, f"crypto/binance_spot_5m/{coin}_USDT.parquet")
    bars = make_bars(frame, symbol=f"{coin}/USDT", timeframe="5m", **CRYPTO)

    report = check_quality(bars)
    silent = bars.index[bars["volume"] == 0]

    assert report.success
    assert [(gap.first, gap.last, gap.bars) for gap in report.gaps] == [
        ("2023-03-24T12:40:00+00:00", "2023-03-24T13:55:00+00:00", 16)
    ]
    assert {"longest gap", "repeated bars"} <= {item.name for item in report.failed()}
    assert (silent[0], silent[-1], len(silent)) == (
        pd.Timestamp("2023-03-24 11:30", tz="UTC"),
        pd.Timestamp("2023-03-24 12:35", tz="UTC"),
        14,
    )


def test_the_deepest_fall_of_bitcoin_in_the_recorded_months(real_data: Path) -> None:
    frame = load(real_data, "crypto/binance_spot_5m/BTC_USDT.parquet")
    close = make_bars(frame, symbol="BTC/USDT", timeframe="5m", **CRYPTO)["close"]
    fall = close / close.cummax() - 1

    assert fall.min() == pytest.approx(-0.2229, abs=5e-5)
    assert str(fall.idxmin().date()) == "2023-03-10"
    assert str(close[: fall.idxmin()].idxmax().date()) == "2023-02-16"


def test_the_vendors_hole_in_bitstamp_is_found(real_data: Path) -> None:
    frame = load(real_data, "crypto/bitstamp_1d/BTC_USD.parquet")

    report = check_quality(make_bars(frame, symbol="BTC/USD", timeframe="1d", **CRYPTO))

    assert [(gap.first[:10], gap.last[:10], gap.bars) for gap in report.gaps] == [("2019-03-20", "2019-03-31", 12)]
    assert [item.name for item in report.failed()] == ["longest gap"]


def test_the_recorded_indices_are_the_embedded_ones(real_data: Path) -> None:
    for name, file in {"sp500": "sp500_1999_2018", "nasdaq": "nasdaq_1999_2018"}.items():
        frame = pd.read_parquet(real_data / f"index/{file}.parquet").set_index("date").drop(columns="adj_close")
        bars = embedded(name)
        same = make_bars(frame.tz_localize("UTC"), **{k: v for k, v in bars.attrs.items() if k != "digest"})

        assert same.attrs["digest"] == bars.attrs["digest"]
        assert check_quality(bars).success


# --- dirty files


@pytest.fixture(scope="module")
def coinbase(real_data: Path) -> pd.DataFrame:
    return import_csv(
        real_data / "dirty/Coinbase_BTCUSD_1h_raw.csv.gz",
        symbol="BTC/USD",
        timeframe="1h",
        source="coinbase",
        columns={"time": "date", "volume": "volume_btc"},
        time_format="%Y-%m-%d %I-%p",
        skip_rows=1,
    )


def test_the_coinbase_file_is_read_as_it_is(coinbase: pd.DataFrame) -> None:
    assert len(coinbase) == 20_111
    assert coinbase.index[0] == pd.Timestamp("2019-10-17 09:00", tz="UTC")
    assert coinbase.iloc[0].tolist() == [8051.0, 8056.83, 8021.23, 8035.88, 61.25]
    with pytest.raises(DataError, match="row 1, 2019-10-17 08:00:00.*lies before the row above"):
        make_bars(coinbase)


def test_the_five_copied_hours_of_coinbase_are_named(coinbase: pd.DataFrame) -> None:
    report = check_quality(coinbase)
    findings = report.to_frame()

    assert not report.success
    assert [name for name, item in findings.iterrows() if not item["passed"] and item["severity"] == "critical"] == [
        "times ascend"
    ]
    assert findings.loc["copied bars", "observed"] == "10"
    assert findings.loc["zero volume", "observed"] == "28 of 20,111 bars"
    assert all("2017-11-1" in line for line in findings.loc["copied bars", "sample"])


def test_the_way_from_the_coinbase_file_to_bars_is_two_repairs(coinbase: pd.DataFrame, tmp_path: Path) -> None:
    copies = pd.date_range("2017-11-12 04:00", "2017-11-12 08:00", freq="1h", tz="UTC")

    ordered, first = repair(coinbase, ["sort_bars"])
    cut, second = drop_bars(ordered, list(copies))
    bars = make_bars(cut)

    assert first.counts() == {"sort_bars: moved": len(first)}
    assert second.to_frame()["time"].tolist() == list(copies)
    assert check_quality(bars).to_frame().loc["copied bars", "passed"]
    assert read_bars(write_bars(bars, tmp_path / "coinbase.parquet")).attrs["digest"] == bars.attrs["digest"]


def test_the_sparse_pair_is_refused_for_its_missing_minutes(real_data: Path) -> None:
    frame = load(real_data, "dirty/sparse_1m_btc_quote.parquet")
    bars = make_bars(frame, symbol="X/BTC", timeframe="1m", **CRYPTO)

    report = check_quality(bars)

    assert report.failed()[0].name == "missing bars"
    assert (sum(gap.bars for gap in report.gaps), len(report.gaps)) == (717, 538)
    assert max(gap.bars for gap in report.gaps) == 7  # eight minutes from bar to bar
    # an independent count: pandas' own resampling, without the half bar at the start and the bars nobody traded in
    theirs = frame["volume"].resample("5min").count()
    assert len(resample(bars, "5m")) == (theirs.iloc[1:] > 0).sum()


def test_a_ticker_that_changed_hands_is_refused_for_its_eight_year_hole(real_data: Path) -> None:
    frame = load(real_data, "dirty/BNO_ticker_reuse.parquet")
    with pytest.raises(DataError, match="the times are naive"):
        make_bars(frame, symbol="BNO", timeframe="1d", source="recorded", calendar="XNYS")
    bars = make_bars(frame.tz_localize("UTC"), symbol="BNO", timeframe="1d", source="recorded", calendar="XNYS")

    report = check_quality(bars)

    assert not report.success
    assert [(gap.first[:10], gap.last[:10]) for gap in report.gaps if gap.bars > 100] == [("2002-05-21", "2010-06-01")]
    jumps = report.to_frame().loc["return outliers", "sample"]
    assert any(line.startswith("2010-06-02") for line in jumps)
    assert any(line.startswith("2013-08-29") for line in jumps)
    assert check_quality(window(bars, "2010-06-02", "2013-08-28")).success


def test_every_recorded_crypto_file_keeps_the_contract(real_data: Path) -> None:
    for file, timeframe in {
        "crypto/binance_spot_5m_2018/LTC_BTC": "5m",
        "crypto/bitvavo_1d/ETH_EUR": "1d",
        "crypto/bitvavo_1h/XRP_EUR": "1h",
        "crypto/bitstamp_1d/ETH_USD": "1d",
    }.items():
        bars = make_bars(load(real_data, f"{file}.parquet"), symbol="A/B", timeframe=timeframe, **CRYPTO)
        assert np.isfinite(bars.to_numpy()).all()
