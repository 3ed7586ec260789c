"""Synthetic candidates, researched as the pipeline does it: swept in sample, chosen, judged out of sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tests.promotion.support import LOCK, rule_of
from tradelib.backtest.costs import Costs
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import evaluate, run
from tradelib.backtest.sweeps import sweep
from tradelib.backtest.trials import TrialLedger
from tradelib.data.bars import make_bars
from tradelib.data.quality import check_quality
from tradelib.promotion.evidence import EvidenceSettings, Study, evidence_figures, haircut_figures
from tradelib.promotion.gates import Candidate
from tradelib.strategies import TrendFollowing
from tradelib.validation.causality import prove_causality
from tradelib.validation.sharpe import counted_trials, deflated_sharpe

COSTS = Costs(fee_rate=0.0005, slippage=0.0002)
EXECUTION = {"fee_rate": 0.0005, "slippage": 0.0002, "cash": 100_000.0}
GRID = {"strategy.fast": [2, 5, 10, 40], "strategy.slow": [15, 30, 60, 120]}
QUICK = EvidenceSettings(walk_forward_train=400, walk_forward_test=100, var_window=150, bootstrap_repetitions=300)


def bars_of(returns: np.ndarray) -> pd.DataFrame:
    """Daily bars, every day of the week, whose closes have these log returns."""
    random = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(returns))
    opened = np.r_[100.0, close[:-1]]
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.001,
        "low": np.minimum(opened, close) * 0.999,
        "close": close,
        "volume": random.uniform(1e6, 2e6, len(close)),
    }
    index = pd.date_range("2015-01-01", periods=len(close), freq="D", tz="UTC", name="time")
    frame = pd.DataFrame(columns, index=index)
    return make_bars(frame, symbol="BTC/USDT", timeframe="1d", source="synthetic", calendar="24/7")


def noise(seed: int, count: int = 2400) -> pd.DataFrame:
    """A random walk: nothing that is found in it is there."""
    return bars_of(np.random.default_rng(seed).normal(0.0, 0.02, count))


def trending(seed: int, count: int = 3600, drift: float = 0.005) -> pd.DataFrame:
    """A market with an edge planted: its drift is up, then down, for 25 bars each on average."""
    random = np.random.default_rng(seed)
    side = np.where(np.cumsum(random.random(count) < 1.0 / 25.0) % 2 == 0, 1.0, -1.0)
    return bars_of(drift * side + random.normal(0.0, 0.01, count))


def researched(
    bars: pd.DataFrame, rule: DecisionRule | None = None, grid: dict[str, list[Any]] | None = None
) -> Candidate:
    """The candidate that research makes of a rule and a grid on these bars: two thirds in sample, one third unseen."""
    rule, grid = rule or rule_of(TrendFollowing(fast=5, slow=30)), grid or GRID
    last, unseen = bars.index[2 * len(bars) // 3], bars.index[2 * len(bars) // 3 + 1]
    found = sweep(rule, bars, grid, end=last, costs=COSTS)
    chosen = found.best()
    inside = evaluate(chosen, bars, start=found.start, end=last, costs=COSTS)
    outside, stressed = (run(chosen, bars, start=unseen, costs=costs) for costs in (COSTS, COSTS.times(2.0)))
    span = {"start": found.start, "in_sample_end": last, "unseen": (unseen, bars.index[-1])}
    study = Study(chosen, bars, found.frame, tuple(grid), **span, costs=COSTS, settings=QUICK)
    evidence = evidence_figures(study)
    TrialLedger().record(evidence.trials)
    trials, deflated = counted_trials(inside), deflated_sharpe(inside)
    haircut = haircut_figures(inside, trials)
    figures = {
        **evidence.figures,
        **haircut,
        "undefined": {**evidence.figures["undefined"], **haircut["undefined"]},
        "in_sample_sharpe": inside.metrics["sharpe_ratio"],
        "out_of_sample_sharpe": outside.metrics["sharpe_ratio"],
        "deflated_sharpe": deflated.deflated,
        "trials": deflated.trials,
        "trades": outside.metrics["trades"],
        "maximum_drawdown": outside.metrics["maximum_drawdown"],
        "stressed_sharpe": stressed.metrics["sharpe_ratio"],
        "cost_stress_multiple": 2.0,
    }
    proof = prove_causality(chosen, bars, every=50)
    return Candidate(chosen, bars, check_quality(bars).to_dict(), proof, figures, EXECUTION, LOCK)
