"""Two halves of long work, and work begun ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tradelib import _threads
from tradelib._jit import interpreted
from tradelib._threads import WORTHWHILE, ahead, both, one_core
from tradelib.backtest import Costs, TrialLedger, run
from tradelib.data import make_bars
from tradelib.indicators import sma
from tradelib.portfolio import HierarchicalRiskParity, LedoitWolf, MinimumVariance, RiskParity, SampleCovariance
from tradelib.risk import fit_garch, scan_pairs
from tradelib.strategies import TrendFollowing
from tradelib.validation import OverfittingEvidence, backtest_overfitting

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


def test_linear_algebra_is_narrowed_until_the_last_has_left():
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    def enter_while_another_is_inside() -> None:
        with one_core:
            entered.set()
            first_left.wait(10)
            seen.append(threads())

    entered, first_left, seen = threading.Event(), threading.Event(), list[set[int]]()
    before = threads()
    other = threading.Thread(target=enter_while_another_is_inside)
    with one_core:
        other.start()
        assert entered.wait(10)
    first_left.set()
    other.join()
    assert seen == [{1}]
    assert threads() == before


WIDE = pd.DataFrame(
    np.random.default_rng(5).standard_t(5, (701, 101)) * 0.01,
    index=pd.date_range("2020-01-01", periods=701, tz="UTC"),
    columns=[f"A{number}" for number in range(101)],
)


def planted(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, 3_000) * 0.01


def overfitting() -> OverfittingEvidence:
    return backtest_overfitting(np.random.default_rng(4).normal(size=(960, 101)), blocks=16)


ROUTINES: dict[str, Callable[[], Any]] = {
    "GARCH with t shocks": lambda: fit_garch(planted(1), "GARCH", "t"),
    "GJR with normal shocks": lambda: fit_garch(planted(2), "GJR", "normal"),
    "GJR with skewed t shocks": lambda: fit_garch(planted(3), "GJR", "skewt"),
    "overfitting": lambda: overfitting().out_of_sample.tobytes(),
    "overfitting's slope": lambda: overfitting().slope,
    "sample covariance": lambda: SampleCovariance().estimate(WIDE).matrix.to_numpy().tobytes(),
    "Ledoit-Wolf": lambda: LedoitWolf().estimate(WIDE).matrix.to_numpy().tobytes(),
    "minimum variance": lambda: MinimumVariance().weights(WIDE).weights.to_numpy().tobytes(),
    "hierarchical risk parity": lambda: HierarchicalRiskParity().weights(WIDE).weights.to_numpy().tobytes(),
    "risk parity": lambda: RiskParity().weights(WIDE).weights.to_numpy().tobytes(),
    "pair scan": lambda: (
        scan_pairs(100.0 * (1.0 + WIDE.iloc[:, :30]).cumprod()).table[["statistic", "pvalue"]].to_numpy().tobytes()
    ),
}


@pytest.mark.parametrize("routine", ROUTINES.values(), ids=ROUTINES)
def test_one_core_or_two_give_the_same_bits(routine):
    seen = []
    for cores in (1, 2):
        with threadpool_limits(cores, user_api="blas"):
            seen.append(repr(routine()))
    assert seen[0] == seen[1]
