"""raptorbt: Rust, signals in, results out."""

from __future__ import annotations

import numpy as np
import raptorbt

from benchmarks import setting
from benchmarks.harness import Figures, Job, Task

PACKAGES = ("raptorbt", "numpy")
MINUTE = 60_000_000_000


def _config(*, trading_at_close: bool = False) -> raptorbt.BacktestConfig:
    costs = {"fees": setting.FEE_RATE, "slippage": setting.SLIPPAGE}
    return raptorbt.BacktestConfig(initial_capital=setting.CASH, upon_bar_close=trading_at_close, **costs)


def _bars(job: Job, spacing: int) -> tuple[np.ndarray, ...]:
    """Times, open, high, low, close, volume."""
    rows = job.numbers()
    times = np.arange(rows.shape[1], dtype=np.int64) * spacing
    return times, *(np.ascontiguousarray(row) for row in rows), np.ones(rows.shape[1])


def _changes(above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a state begins and where it ends; it begins with the first bar if it holds there."""
    before = np.r_[False, above[:-1]]
    return above & ~before, ~above & before


def backtest(job: Job) -> Task:
    bars, config, (fast, slow) = _bars(job, MINUTE), _config(), setting.CROSSING_WINDOWS

    def timed() -> Figures:
        signals = _changes(raptorbt.sma(bars[4], fast) > raptorbt.sma(bars[4], slow))
        result = raptorbt.run_single_backtest(*bars, *signals, 1, 1.0, "X", config)
        figures = {"trades": result.metrics.total_trades, "maximum_drawdown": -result.metrics.max_drawdown_pct / 100}
        return {"growth": result.equity_curve()[-1] / setting.CASH, **figures}

    return Task(timed)


def sweep(job: Job) -> Task:
    bars, config, (fast, slow) = _bars(job, 1440 * MINUTE), _config(), setting.grid(job.size)

    def timed() -> Figures:
        lines = {window: raptorbt.sma(bars[4], window) for window in (*fast, *slow)}
        items = [raptorbt.BatchSingleItem(f"{a},{b}", *_changes(lines[a] > lines[b])) for a in fast for b in slow]
        found = [result.metrics for _, result in raptorbt.batch_single_backtest(*bars, items, config)]
        table = {
            "total_return": np.array([one.total_return_pct for one in found]) / 100,
            "maximum_drawdown": np.array([-one.max_drawdown_pct for one in found]) / 100,
            "trades": np.array([one.total_trades for one in found]),
        }
        return {**table, "best_pair": int(np.argmax(table["total_return"]))}

    return Task(timed)


def _stops(trailing: bool, job: Job) -> Task:
    bars, (fast, slow) = _bars(job, MINUTE), setting.STOP_WINDOWS

    def timed() -> Figures:
        config = _config()
        if trailing:
            config.set_trailing_stop(setting.TRAILING_STOP)
        else:
            config.set_fixed_stop(setting.STOP_LOSS)
        config.set_fixed_target(setting.TAKE_PROFIT)
        entries, _ = _changes(raptorbt.sma(bars[4], fast) > raptorbt.sma(bars[4], slow))
        entries[:slow] = False
        result = raptorbt.run_single_backtest(*bars, entries, np.zeros(job.size, dtype=bool), 1, 1.0, "X", config)
        return {
            "growth_if_targets_slip": result.equity_curve()[-1] / setting.CASH,
            "trades": result.metrics.total_trades,
        }

    return Task(timed)


WORKLOADS = {
    "w2": backtest,
    "w3": sweep,
    "w5": lambda job: _stops(False, job),
    "w5-trailing": lambda job: _stops(True, job),
}
