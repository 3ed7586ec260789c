"""Deeper looks at a result that take a while: what was found, or why it could not be found. Never silently absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.result import Result
from tradelib.errors import DataError, ParameterError, TradelibError
from tradelib.parameters import nearest
from tradelib.report.tables import benchmark_returns, daily_returns
from tradelib.risk.regimes import RegimePerformance, fit_regimes, regime_performance
from tradelib.risk.value_at_risk import HistoricalVaR
from tradelib.risk.var_backtests import VarBacktest, backtest_forecasts, walk_forward
from tradelib.validation.costs_and_capacity import break_even_cost, capacity_curve

__all__ = ["STUDIES", "NotComputed", "attempt", "check_studies", "market_regimes", "run_study", "value_at_risk"]

_REFUSALS = (TradelibError, ArithmeticError, ImportError, LookupError, ValueError)
_WINDOW, _LEAST_TESTED = 500, 250


@dataclass(frozen=True)
class NotComputed:
    """Why something is missing, as one sentence."""

    reason: str


def attempt(work: Callable[[], Any]) -> Any:
    """What `work` returns, or `NotComputed` with the reason where it refuses."""
    try:
        return work()
    except _REFUSALS as error:
        lines = str(error).strip().splitlines()
        return NotComputed(lines[0] if lines else type(error).__name__)


def value_at_risk(returns: pd.Series[float], alpha: float = 0.01) -> VarBacktest:
    """Backtest of historical value at risk on the daily returns, each day forecast from the days before it.

    The window is 500 days, of shorter histories what leaves 250 days to test, at least 100. `DataError` where the
    account did not move on enough days for a forecast, or there are too few days.
    """
    daily = daily_returns(returns)
    window = min(_WINDOW, max(100, len(daily) - _LEAST_TESTED))
    if len(daily) < window + 20:
        raise DataError(f"{len(daily)} days are too few to backtest a value at risk: at least {window + 20}")
    walk = walk_forward(HistoricalVaR(alpha=alpha), daily, window=window, refit_every=1)
    idle = walk.frame["es"].to_numpy() <= 0.0
    if idle.any():
        day, count = walk.frame.index[int(np.argmax(idle))], int(idle.sum())
        raise DataError(
            f"in the {window} days before {day:%Y-%m-%d} the account had no loss in its {alpha:.0%} tail, so there is "
            f"no value at risk to compare with ({count:,} of {len(idle):,} days)"
        )
    frame = walk.frame
    name = f"Historical value at risk, {alpha:.0%}"
    return backtest_forecasts(frame["return"], frame["var"], frame["es"], alpha, name)


def market_regimes(result: Result, seed: int = 0) -> RegimePerformance:
    """The result by two states of the market's volatility, as they were known one bar before.

    The market: the traded symbols held in equal parts. The model is fitted on all bars, its states are filtered.
    """
    market = benchmark_returns(result, "hold")
    states = fit_regimes(market, 2, seed=seed).filtered_states(market)
    names = {0: "calm market", 1: "turbulent market"}
    return regime_performance(result.returns, states, result.periods_per_year, lag=1, names=names)


STUDIES: dict[str, Callable[[Result, int], Any]] = {
    "value_at_risk": lambda result, seed: value_at_risk(result.returns),
    "regimes": market_regimes,
    "break_even_cost": lambda result, seed: break_even_cost(result),
    "capacity": lambda result, seed: capacity_curve(result),
}
"""What a tear sheet can look into, by name: a function of the result and a seed."""


def check_studies(studies: Iterable[str] | str) -> tuple[str, ...]:
    """Names of studies in their order; "all" names every one. `ParameterError` for an unknown one."""
    names = list(STUDIES) if studies == "all" else [studies] if isinstance(studies, str) else list(studies)
    for name in names:
        if name not in STUDIES:
            raise ParameterError(f"there is no study {name!r}{nearest(str(name), STUDIES)}")
    return tuple(name for name in STUDIES if name in names)


def run_study(name: str, result: Result, seed: int) -> Any:
    """What the study found, or `NotComputed`."""
    return attempt(lambda: STUDIES[name](result, seed))
