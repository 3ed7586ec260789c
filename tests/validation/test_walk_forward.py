"""Walk-forward: the sweep and the run of each window, every one counted, and nothing lost to an interrupt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import DecisionRule, run, sweep
from tradelib.backtest.trials import TrialLedger
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk import FixedFraction
from tradelib.strategies import TrendFollowing
from tradelib.validation.splits import WalkForward
from tradelib.validation.walk_forward import WalkForwardResult, run_walk_forward

GRID = {"strategy.fast": [5, 10], "strategy.slow": [30, 50]}
WINDOWS = WalkForward(train_size=250, test_size=100, gap=5)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return embedded("sp500").iloc[:600]


@pytest.fixture(scope="module")
def rule() -> DecisionRule:
    return DecisionRule(strategy=TrendFollowing(), sizing=FixedFraction(), rebalance_band=None)


@pytest.fixture(scope="module")
def walked(rule: DecisionRule, bars: pd.DataFrame) -> WalkForwardResult:
    return run_walk_forward(rule, bars, GRID, WINDOWS)


def test_each_window_is_the_sweep_of_the_past_and_the_run_of_the_future(
    walked: WalkForwardResult, rule: DecisionRule, bars: pd.DataFrame
) -> None:
    """600 rows: training of 250, gap of 5, tests from 255 on: 100, 100, 100 and the last 45."""
    assert len(walked.windows) == walked.planned == 4
    for number, (first, last) in enumerate([(255, 354), (355, 454), (455, 554), (555, 599)]):
        window = walked.windows.iloc[number]
        swept = sweep(rule, bars, GRID, start=bars.index[first - 255], end=bars.index[first - 6])
        tested = run(swept.best(), bars, start=bars.index[first], end=bars.index[last])
        assert {axis: window[axis] for axis in GRID} == swept.point(swept.best_row())
        assert window["in_sample"] == swept.frame["sharpe_ratio"].max()
        assert (window["test_start"], window["test_end"]) == (bars.index[first], bars.index[last])
        pd.testing.assert_series_equal(walked.returns.loc[bars.index[first] : bars.index[last]], tested.returns)
    assert walked.returns.index.equals(bars.index[255:])
    assert walked.equity.iloc[-1] == pytest.approx(np.prod(1.0 + walked.returns))


def test_no_choice_depends_on_bars_after_its_training(rule: DecisionRule, bars: pd.DataFrame) -> None:
    """Other prices from row 250 on leave the first choice as it was."""
    other = bars.copy()
    other.iloc[250:, :4] = other.iloc[250:, :4] * np.linspace(1.0, 3.0, 350)[:, None]
    one, changed = (run_walk_forward(rule, table.iloc[:355], GRID, WINDOWS) for table in (bars, other))
    names = [*GRID, "in_sample", "growth_in_sample"]
    assert one.windows[names].equals(changed.windows[names])
    assert not one.returns.equals(changed.returns)


def test_every_evaluation_is_in_the_ledger(rule: DecisionRule, bars: pd.DataFrame, home: Any) -> None:
    run_walk_forward(rule, bars, GRID, WINDOWS)
    assert list(TrialLedger().families().values()) == [4 * (4 + 1)]
    run_walk_forward(rule, bars, GRID, WINDOWS)  # the same again is known
    assert list(TrialLedger().families().values()) == [20]


def test_an_interrupt_keeps_what_is_finished_and_resume_goes_on(
    walked: WalkForwardResult, rule: DecisionRule, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(9))

    def stopped(*given: Any, **options: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return sweep(*given, **options)

    with monkeypatch.context() as patch:
        patch.setitem(run_walk_forward.__globals__, "sweep", stopped)
        partial = run_walk_forward(rule, bars, GRID, WINDOWS)
    assert partial.interrupted
    assert len(partial.windows) == 2
    assert "Interrupted after 2 of 4 windows" in partial.interpretation
    whole = run_walk_forward(rule, bars, GRID, WINDOWS, resume=partial)
    assert not whole.interrupted
    pd.testing.assert_frame_equal(whole.windows, walked.windows)
    pd.testing.assert_series_equal(whole.returns, walked.returns)
    with pytest.raises(ParameterError, match="another walk-forward"):
        run_walk_forward(rule, bars, GRID, WalkForward(200, 100), resume=partial)


def test_an_interrupt_before_anything_is_finished_says_so(
    rule: DecisionRule, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(run_walk_forward.__globals__, "sweep", stopped)
    with pytest.raises(DataError, match="nothing to show"):
        run_walk_forward(rule, bars, GRID, WINDOWS)


def told(promised: list[float], kept: list[float], chosen: list[int]) -> WalkForwardResult:
    returns = pd.Series(np.expm1(kept), pd.date_range("2024-01-01", periods=len(kept)))
    table = pd.DataFrame({"fast": chosen, "growth_in_sample": promised})
    return WalkForwardResult(table, returns, ("fast",), "sharpe_ratio", len(chosen), "")


def test_efficiency_and_drift_by_hand() -> None:
    found = told([0.02, 0.04], [0.02, 0.01, 0.00], [10, 20])
    assert found.efficiency == pytest.approx(0.01 / 0.03)
    assert found.drift == 1.0
    assert told([0.02] * 5, [0.01], [10, 10, 20, 20, 10]).drift == 0.5
    assert np.isnan(told([-0.02], [0.01], [10]).efficiency)
    assert "undefined: nothing grew in sample" in told([-0.02], [0.01], [10]).interpretation


def test_page_and_plot(walked: WalkForwardResult) -> None:
    assert walked.interpretation in walked.summary()
    assert "of the windows changed parameters" in walked._repr_html_()
    assert [trace.name for trace in walked.plot().data] == ["out of sample", *GRID]


def test_what_is_no_rule_or_no_windows_is_refused(rule: DecisionRule, bars: pd.DataFrame) -> None:
    with pytest.raises(ParameterError, match="WalkForward windows"):
        run_walk_forward(rule, bars, GRID, 5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="leave no test"):
        run_walk_forward(rule, bars, GRID, WalkForward(600, 10))
