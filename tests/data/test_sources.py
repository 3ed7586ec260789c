"""The embedded S&P 500 and Nasdaq: facts that can be looked up."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from tradelib.data import sources
from tradelib.data.bars import check_bars
from tradelib.data.sources import embedded, list_embedded
from tradelib.data.timeframes import expected_times
from tradelib.errors import DataError, MissingExtraError, ParameterError

SP500 = "ba8b7852c1182071c470f93e10e242211804d5c2b14c27c35a1c10a8afaaa684"
NASDAQ = "2fd01cec4b95f9920858e83d645a12d7185807b8ac18c285f2958bcf64af2146"


@pytest.mark.parametrize(("name", "symbol"), [("sp500", "SPX/USDT"), ("nasdaq", "IXIC/USDT")])
def test_embedded_bars_keep_the_contract_on_new_yorks_calendar(name: str, symbol: str) -> None:
    bars = check_bars(embedded(name), verify_digest=True)

    assert len(bars) == 5_031
    assert bars.index.equals(expected_times("XNYS", "1d", "1999-01-04", "2018-12-31"))
    told = {key: bars.attrs[key] for key in ("symbol", "timeframe", "source", "calendar")}
    assert told == {"symbol": symbol, "timeframe": "1d", "source": "arch", "calendar": "XNYS"}
    assert name in list_embedded()


def test_the_digests_are_what_they_were() -> None:
    # computed with arch 8.0.0; another digest means another data set or another parser
    assert embedded("sp500").attrs["digest"] == SP500
    assert embedded("nasdaq").attrs["digest"] == NASDAQ


def test_the_worst_day_and_the_deepest_fall_of_the_sp500() -> None:
    close = embedded("sp500")["close"]
    fall = close / close.cummax() - 1

    assert close.pct_change().idxmin() == pd.Timestamp("2008-10-15", tz="UTC")
    assert close.pct_change().min() == pytest.approx(-0.09035, abs=5e-6)
    assert fall.min() == pytest.approx(-0.5678, abs=5e-5)
    assert fall.idxmin() == pd.Timestamp("2009-03-09", tz="UTC")
    assert close[: fall.idxmin()].idxmax() == pd.Timestamp("2007-10-09", tz="UTC")


def test_the_deepest_fall_and_the_silent_days_of_the_nasdaq() -> None:
    bars = embedded("nasdaq")
    fall = bars["close"] / bars["close"].cummax() - 1

    assert fall.min() == pytest.approx(-0.7793, abs=5e-5)
    assert fall.idxmin() == pd.Timestamp("2002-10-09", tz="UTC")
    assert bars.index[bars["volume"] == 0].strftime("%Y-%m-%d").tolist() == ["2015-05-12", "2018-01-09"]


def test_highs_and_lows_enclose_without_a_tolerance() -> None:
    for name in list_embedded():
        bars = embedded(name)
        assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
        assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()


def test_another_symbol_and_an_unknown_name() -> None:
    assert embedded("sp500", symbol="ES/USD").attrs["symbol"] == "ES/USD"
    with pytest.raises(ParameterError, match="did you mean 'nasdaq'"):
        embedded("nasdac")


def test_the_package_that_ships_them_is_read_and_not_imported() -> None:
    code = "import sys; from tradelib.data.sources import embedded; embedded('sp500'); print('arch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "distribution", lambda name: SimpleNamespace(locate_file=tmp_path.joinpath))
    with pytest.raises(DataError, match=r"holds no arch/data/sp500/sp500.csv.gz: install arch==8\.0\.0"):
        embedded("sp500")

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sources, "distribution", missing)
    monkeypatch.setitem(sys.modules, "arch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tradelib\[research\]'"):
        embedded("sp500")
