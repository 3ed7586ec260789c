"""Routines of risk and validation at three sizes each: `python -m benchmarks.cost_cases [NAME ...]` prints JSON lines.

Time is that of the fastest call after a first one. The ledger of trials is that of `TRADELIB_HOME`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tradelib import risk, validation
from tradelib.backtest import DecisionRule, TrialLedger
from tradelib.data import make_bars
from tradelib.home import project_home
from tradelib.portfolio.covariance import LedoitWolf
from tradelib.portfolio.hierarchical import HierarchicalRiskParity
from tradelib.strategies import TrendFollowing

__all__ = ["CASES", "Case", "best"]

LEAST_SECONDS, MOST_CALLS = 0.2, 20


@dataclass(frozen=True)
class Case:
    """`make(size)` prepares data and gives the call that is timed; `unit`: what the sizes count."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    make: Callable[[int], Callable[[], Any]]


@dataclass(frozen=True)
class Trials:
    """What a deflated Sharpe ratio needs to know of a search."""

    count: int
    variance_of_sharpe: float


def _returns(size: int, columns: int = 0) -> np.ndarray:
    """Fat-tailed returns `(size,)` or `(size, columns)`."""
    return np.random.default_rng(1).standard_t(5, (size, columns) if columns else size) * 0.01 + 0.0003


def _table(size: int, columns: int) -> pd.DataFrame:
    return pd.DataFrame(_returns(size, columns)).add_prefix("A")


def _prices(size: int, columns: int) -> pd.DataFrame:
    return _table(size, columns).cumsum().map(np.exp) * 100.0


def _estimate(name: str) -> Callable[[int], Callable[[], Any]]:
    return _on(_returns, risk.create_risk_model(name).estimate)


def _on(data: Callable[[int], Any], function: Callable[..., Any], **options: Any) -> Callable[[int], Callable[[], Any]]:
    """`function` on the data of a size, made outside the timer."""
    return lambda size: partial(function, data(size), **options)


def _pair(function: Callable[..., Any]) -> Callable[[int], Callable[[], Any]]:
    return _on(lambda size: _prices(size, 2), lambda prices: function(prices["A0"], prices["A1"]))


def _backtests(size: int) -> Callable[[], Any]:
    returns = pd.Series(_returns(size))
    level = pd.Series(0.03, returns.index)
    return lambda: risk.backtest_forecasts(returns, level, 1.3 * level, 0.01)


def _scan(size: int) -> Callable[[], Any]:
    prices = _prices(1_250, 100)
    pairs = list(itertools.combinations(prices.columns, 2))[:size]
    return lambda: risk.scan_pairs(prices, pairs=pairs)


def _walk_forward(size: int) -> Callable[[], Any]:
    close = np.exp(np.cumsum(_returns(size))) * 100.0
    times = pd.date_range("2000-01-01", periods=size, freq="h", tz="UTC", name="time")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), close), times).assign(volume=1.0)
    bars = make_bars(frame, symbol="X", timeframe="1h", source="benchmark", calendar="24/7")
    rule = DecisionRule(strategy=TrendFollowing(), sizing=risk.FixedFraction(), rebalance_band=None)
    grid = {"strategy.fast": [5, 10], "strategy.slow": [20, 40]}
    windows, folder = validation.WalkForward(size // 4, size // 8), project_home()
    ledgers = (TrialLedger(folder / f"{size}-{count}.sqlite") for count in itertools.count())
    return lambda: validation.run_walk_forward(rule, bars, grid, windows, ledger=next(ledgers))


def _with_a_window(days: int) -> np.ndarray:
    return _returns(days + 250)


def _walked(returns: np.ndarray) -> Any:
    return risk.walk_forward(risk.GaussianVaR(), returns, window=250)


DAYS, ASSETS = (1_000, 10_000, 100_000), (10, 100, 1_000)
SEARCH = Trials(500, 0.002)
CASES = (
    *(
        Case(f"value at risk: {name.removesuffix('VaR')}", "returns", DAYS, _estimate(name))
        for name in ("HistoricalVaR", "CornishFisherVaR", "StudentTVaR", "GarchVaR", "FilteredHistoricalVaR",
                     "ExtremeValueVaR", "MonteCarloVaR")
    ),
    Case("value at risk walked forward: Gaussian", "days", (100, 1_000, 10_000), _on(_with_a_window, _walked)),
    Case("its backtests, all together", "days", DAYS, _backtests),
    Case("augmented Dickey-Fuller", "bars", DAYS, _on(lambda n: np.cumsum(_returns(n)), risk.adf_test)),
    Case("Engle-Granger", "bars", DAYS, _pair(risk.engle_granger)),
    Case("Johansen, two series", "bars", DAYS, _on(lambda n: _prices(n, 2), risk.johansen)),
    Case("Kalman hedge ratio", "bars", DAYS, _pair(risk.kalman_hedge_ratio)),
    Case("scan of pairs, 1,250 bars", "pairs", (49, 495, 4_950), _scan),
    Case("Kelly fraction", "returns", DAYS, _on(_returns, risk.kelly_empirical)),
    Case("Kelly fraction, 1,000 resamples", "returns", (100, 1_000, 10_000), _on(_returns, risk.bootstrap_kelly)),
    Case("deflated Sharpe ratio", "returns", DAYS, _on(_returns, validation.deflated_sharpe, trials=SEARCH)),
    Case(
        "overfitting (PBO), 960 rows", "trials", ASSETS,
        _on(lambda n: _returns(960, n), validation.backtest_overfitting),
    ),
    Case(
        "reality check, SPA, StepM, 500 rows", "strategies", (5, 50, 500),
        _on(lambda n: _table(500, n), validation.snooping_tests, repetitions=200, block_size=5),
    ),
    Case("walk-forward of four points, six windows", "bars", DAYS, _walk_forward),
    Case(
        "bootstrap of 252 steps", "paths", DAYS,
        lambda n: partial(validation.block_bootstrap, _returns(2_500), paths=n, horizon=252, block_length=10),
    ),
    Case("Ledoit-Wolf, 1,000 rows", "assets", ASSETS, _on(lambda n: _table(1_000, n), LedoitWolf().estimate)),
    Case(
        "hierarchical risk parity, 1,000 rows", "assets", ASSETS,
        _on(lambda n: _table(1_000, n), HierarchicalRiskParity().weights),
    ),
    Case("regimes, two states", "returns", (300, 3_000, 30_000), _on(_returns, risk.fit_regimes, starts=4)),
)  # fmt: skip


def best(call: Callable[[], Any]) -> float:
    """Seconds of the fastest call after a first one."""
    call()
    took: list[float] = []
    while not took or (sum(took) < LEAST_SECONDS and len(took) < MOST_CALLS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took)


def main(names: list[str]) -> None:
    """Measure the cases named (none: all), and print each as soon as it is known."""
    for case in CASES:
        if not names or case.name in names:
            seconds = [best(case.make(size)) for size in case.sizes]
            told = {"name": case.name, "unit": case.unit, "sizes": case.sizes, "seconds": seconds}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
