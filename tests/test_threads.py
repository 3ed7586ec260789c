"""Two halves of long work, and work begun ahead."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest

from tradelib import _threads
from tradelib._jit import interpreted
from tradelib._threads import WORTHWHILE, ahead, both
from tradelib.backtest import Costs, TrialLedger, run
from tradelib.data import make_bars
from tradelib.indicators import sma
from tradelib.strategies import TrendFollowing

MANY = WORTHWHILE


def threads_of(size: int) -> set[str]:
    names: list[str] = []
    both(
        lambda: names.append(threading.current_thread().name),
        lambda: names.append(threading.current_thread().name),
        size,
    )
    return set(names)


def test_long_work_is_shared_and_short_work_is_not(monkeypatch):
    monkeypatch.setattr(_threads.os, "cpu_count", lambda: 2)
    assert len(threads_of(MANY)) == 2
    assert threads_of(MANY - 1) == {threading.current_thread().name}
    with interpreted():
        assert threads_of(MANY) == {threading.current_thread().name}
    monkeypatch.setattr(_threads.os, "cpu_count", lambda: 1)
    assert threads_of(MANY) == {threading.current_thread().name}


@pytest.mark.parametrize("which", [0, 1])
def test_an_error_of_either_half_is_told_after_both_have_ended(which):
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number == which:
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        both(lambda: work(0), lambda: work(1), MANY)
    assert sorted(done) == [0, 1]


def test_an_average_in_two_halves_has_the_bits_of_one(monkeypatch):
    values = np.random.default_rng(1).normal(100.0, 1.0, MANY + 777)
    values[:5] = np.nan
    halves = sma(values, 50)
    monkeypatch.setattr(_threads.os, "cpu_count", lambda: 1)
    np.testing.assert_array_equal(sma(values, 50), halves)


def test_trades_begun_ahead_are_those_computed_when_asked(monkeypatch, tmp_path):
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(4).normal(0.0, 0.001, MANY)))
    times = pd.date_range("2020-01-01", periods=MANY, freq="min", tz="UTC", name="time")
    prices = {"open": close, "high": 1.001 * close, "low": 0.999 * close, "close": close, "volume": np.ones(MANY)}
    bars = make_bars(pd.DataFrame(prices, times), symbol="A", timeframe="1m", source="made", calendar="24/7")
    ledger = TrialLedger(tmp_path / "trials.sqlite")
    early = run(TrendFollowing(), bars, costs=Costs(), ledger=ledger).trades
    monkeypatch.setattr(_threads.os, "cpu_count", lambda: 1)
    late = run(TrendFollowing(), bars, costs=Costs(), ledger=ledger).trades
    assert len(early) > 100
    assert early.equals(late)


def test_an_error_ahead_is_left_for_whoever_asks():
    ahead(lambda: 1 / 0, MANY)
    assert threads_of(MANY)
