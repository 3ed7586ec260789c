"""The quantstats report with its known faults put right, and the library left as it was."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import Page, backtest, market
from tradelib.backtest.result import Result
from tradelib.errors import ParameterError
from tradelib.report.quantstats_page import _repaired, quantstats_report

core = pytest.importorskip("quantstats._plotting.core")


def test_the_page_is_offline_deterministic_and_says_its_periods(
    result: Result, bars: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    benchmark = bars["close"].pct_change().fillna(0.0).rename("held")
    before = core.safe_resample
    with caplog.at_level(logging.WARNING):
        first = quantstats_report(result, tmp_path / "a.html", benchmark)
        second = quantstats_report(result, tmp_path / "b.html", benchmark)
    source = first.read_text(encoding="utf-8")
    assert Page(source).requests == []
    assert "favicon" not in source
    assert first.read_bytes() == second.read_bytes()
    assert "Periods/Year: 365" in source
    sharpe = re.search(r"<td>Sharpe\s*</td>.*?</tr>", source)
    assert sharpe is not None
    assert f"{result.metrics['sharpe_ratio']:.2f}" in sharpe.group(0)
    assert "findfont" not in caplog.text
    assert core.safe_resample is before


def test_annual_bars_stand_at_their_years(result: Result) -> None:
    """On pandas 3 the unrepaired chart puts its bars at years since 1970."""
    returns = result.returns.set_axis(pd.DatetimeIndex(result.index).tz_localize(None))
    with _repaired():
        yearly = core.safe_resample(returns, "YE", "last")
        monthly = core.safe_resample(returns, "ME", "last")
    assert list(yearly.index) == [2021, 2022, 2023]
    assert isinstance(monthly.index, pd.DatetimeIndex)


def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="never moved"):
        quantstats_report(backtest(market(15)), tmp_path / "new" / "flat.html")
    short = pd.Series(np.zeros(5), index=result.index[:5])
    with pytest.raises(ParameterError, match="895 of 900 bars"):
        quantstats_report(result, tmp_path / "new" / "short.html", short)
    assert not (tmp_path / "new").exists()
