"""The figures that evidence gates judge: what is left of a candidate when choice, luck and market are doubted.

Everything here runs again what research has chosen already, by `replay`, which counts nothing. The one exception is the
walk-forward: it chooses anew, so its stitched account is handed back as a trial, to be recorded like any other. The
points that its windows choose from are those of the sweep, which were counted there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.backtest.metrics import sharpe_ratio
from tradelib.backtest.result import Result
from tradelib.backtest.sweeps import with_parameters
from tradelib.backtest.trials import Trial
from tradelib.backtest.wiring import trial_of
from tradelib.data.panel import Panel, as_panel
from tradelib.errors import DataError, ParameterError, TradelibError
from tradelib.parameters import Parameters
from tradelib.risk.regimes import fit_regimes, regime_performance
from tradelib.risk.tail_models import FilteredHistoricalVaR
from tradelib.risk.var_backtests import christoffersen, kupiec
from tradelib.risk.var_backtests import walk_forward as walk_risk
from tradelib.validation.costs_and_capacity import break_even_cost, capacity_curve
from tradelib.validation.data_snooping import haircut_sharpe, snooping_tests
from tradelib.validation.overfitting import backtest_overfitting
from tradelib.validation.splits import WalkForward
from tradelib.validation.stability import parameter_stability
from tradelib.validation.stress import DEFAULT_SCENARIOS, HistoricalScenario, stress_test
from tradelib.validation.walk_forward import WalkForwardResult

__all__ = ["Evidence", "EvidenceSettings", "Study", "evidence_figures", "haircut_figures"]

Figures = dict[str, Any]
_CERTAIN = 1000.0
"""Stands for a profit factor without losses: a figure must be finite to be held against a threshold."""


class EvidenceSettings(Parameters):
    """How the figures are computed that evidence gates judge; what they demand stands under `gates`."""

    walk_forward_train: int = Field(1000, ge=50, description="bars on which each window of the walk-forward chooses")
    walk_forward_test: int = Field(250, ge=5, description="bars on which each choice is tested")
    overfitting_blocks: int = Field(16, ge=2, le=20, description="even number of blocks that history is halved by")
    bootstrap_repetitions: int = Field(1000, ge=100, le=100_000, description="histories drawn for the snooping tests")
    var_probability: float = Field(0.05, gt=0, lt=0.5, description="tail probability of the value at risk")
    var_window: int = Field(250, ge=50, description="bars with a position that a forecast rests on")
    regimes: int = Field(2, ge=2, le=6, description="states of the market's volatility")
    seed: int = Field(0, ge=0, description="of whatever is drawn")

    @field_validator("overfitting_blocks")
    @classmethod
    def _is_even(cls, blocks: int) -> int:
        if blocks % 2:
            raise ValueError("history is cut into two halves of as many blocks: give an even number")
        return blocks


@dataclass(frozen=True, eq=False)
class Study:
    """A candidate as research left it.

    `points`: a row per point of the sweep, with a column for each of `axes` (parameters by path) and one for `by`, the
    figure that selected. `start`: first bar of the account in sample. `in_sample_end`, `unseen`: last bar of the one
    window, first and last bar of the other.
    """

    rule: DecisionRule
    bars: pd.DataFrame
    points: pd.DataFrame
    axes: tuple[str, ...]
    start: Any
    in_sample_end: Any
    unseen: tuple[Any, Any]
    by: str = "sharpe_ratio"
    costs: Costs = field(default_factory=Costs)
    market: Market = field(default_factory=Market)
    cash: float = 100_000.0
    settings: EvidenceSettings = field(default_factory=EvidenceSettings)

    def lived(self, rule: DecisionRule, start: Any, end: Any) -> Result:
        """The account of a rule between two bars, not counted."""
        return replay(rule, self.panel, start=start, end=end, costs=self.costs, market=self.market, cash=self.cash)

    @cached_property
    def panel(self) -> Panel:
        """The bars in the form of the engine, made once."""
        return as_panel(self.bars)

    @cached_property
    def choices(self) -> list[dict[str, Any]]:
        """The parameters of each point by path, as plain data."""
        columns = {axis: self.points[axis].tolist() for axis in self.axes}
        return [{axis: values[row] for axis, values in columns.items()} for row in range(len(self.points))]

    @cached_property
    def rules(self) -> list[DecisionRule]:
        """The rule of each point."""
        return [with_parameters(self.rule, point) for point in self.choices]

    @cached_property
    def whole(self) -> Result:
        """The chosen rule from its first bar in sample to its last one out of sample."""
        return self.lived(self.rule, self.start, self.unseen[1])

    @cached_property
    def tested(self) -> Result:
        """The chosen rule on the bars that research never saw."""
        return self.lived(self.rule, *self.unseen)

    @cached_property
    def swept(self) -> pd.DataFrame:
        """Returns of all points in sample, a column each; those that never traded are left out."""
        if len(self.rules) < 2:
            raise DataError("no grid was swept: there was nothing to choose from")
        found = {row: self.lived(rule, self.start, self.in_sample_end).returns for row, rule in enumerate(self.rules)}
        table = pd.DataFrame(found)
        moved = table.loc[:, np.ptp(table.to_numpy(), axis=0) > 0.0]
        if moved.shape[1] < 2:
            raise DataError(f"{moved.shape[1]} of the {table.shape[1]} points of the sweep traded at all")
        return moved


@dataclass(frozen=True, eq=False)
class Evidence:
    """`figures` by name, None where undefined, with the reasons under `undefined`; `trials`: to be recorded."""

    figures: Figures
    trials: tuple[Trial, ...]


def evidence_figures(study: Study) -> Evidence:
    """Every figure of `study` that the evidence gates name, apart from those that need the ledger's count.

    A figure that cannot be computed is None, and the reason stands under `undefined`; nothing is raised.
    """
    figures: Figures = {}
    undefined: dict[str, str] = {}
    trials: list[Trial] = []
    for names, work in _STUDIES.items():
        found = _attempt(names, lambda work=work: work(study), undefined)  # type: ignore[misc]
        trials += found.pop("trials", [])
        figures |= found
    return Evidence({**figures, "undefined": undefined}, tuple(trials))


def _attempt(names: tuple[str, ...], work: Callable[[], Figures], undefined: dict[str, str]) -> Figures:
    """What `work` found; where it fails, or leaves a figure without a number, None and the reason."""
    reason = "the result of the study is not a number"
    try:
        found = work()
    except Exception as error:  # noqa: BLE001  a study that fails leaves no figure, and no figure passes
        reason = str(error) if isinstance(error, TradelibError) else f"{type(error).__name__}: {error}"
        found = {}
    for name in names:
        value = found.get(name)
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            found[name], undefined[name] = None, reason.rstrip(".")
    return found


# The studies ----------------------------------------------------------------------------------------------------------


def _trading(study: Study) -> Figures:
    metrics = study.tested.metrics
    if not metrics["trades"]:
        raise DataError("no trade was closed out of sample")
    factor = metrics["profit_factor"]
    return {"win_rate": metrics["trade_win_rate"], "profit_factor": min(factor, _CERTAIN)}


def _walk_forward(study: Study) -> Figures:
    """Each window takes the point that was best on the bars before it, and lives through the next bars."""
    times, settings = study.panel.index, study.settings
    if len(study.rules) < 2:
        raise DataError("no grid was swept: there was nothing to choose anew")
    plan = WalkForward(train_size=settings.walk_forward_train, test_size=settings.walk_forward_test)
    windows, returns = [], []
    for train, test in plan.split(times):
        span = (times[train[0]], times[train[-1]])
        accounts = [study.lived(rule, *span) for rule in study.rules]
        best = _best([_figure(account, study.by) for account in accounts])
        told = study.lived(study.rules[best], times[test[0]], times[test[-1]]).returns
        promised = math.log1p(accounts[best].performance["total_return"]) / len(train)
        windows.append({**study.choices[best], "growth_in_sample": promised})
        returns.append(told)
    whole = pd.concat(returns)
    found = WalkForwardResult(pd.DataFrame(windows), whole, study.axes, study.by, len(windows), "")
    ratio = float(sharpe_ratio(whole, study.panel.periods_per_year))
    return {
        "walk_forward_sharpe": ratio,
        "walk_forward_efficiency": found.efficiency,
        "walk_forward_windows": len(windows),
        "walk_forward_drift": found.drift,
        "trials": [_stitched(study, whole)],
    }


def _figure(account: Result, name: str) -> float:
    known = account.performance
    return float(known[name] if name in known else account.metrics[name])


def _best(values: list[float]) -> int:
    """Place of the highest value, the first of equal ones; 0 where none is known."""
    known = [value if math.isfinite(value) else -math.inf for value in values]
    return int(np.argmax(known))


def _stitched(study: Study, returns: pd.Series) -> Trial:
    """The trial that the whole walk-forward is."""
    like = trial_of(study.whole)
    settings = {name: getattr(study.settings, name) for name in ("walk_forward_train", "walk_forward_test")}
    values = returns.to_numpy()
    deviation = float(values.std(ddof=1))
    return Trial(
        family=like.family,
        rule={**study.rule.to_config(), "walk_forward": {**settings, "by": study.by, "points": study.choices}},
        setting=like.setting,
        data_digest=like.data_digest,
        window=(returns.index[0].isoformat(), returns.index[-1].isoformat()),
        observations=len(values),
        sharpe=float(values.mean()) / deviation if deviation > 0.0 else None,
    )


def _overfitting(study: Study) -> Figures:
    returns, blocks = study.swept, study.settings.overfitting_blocks
    part = returns.iloc[len(returns) % blocks :]
    chance = backtest_overfitting(part, blocks).probability
    return {"overfitting_probability": chance, "swept_points": part.shape[1], "swept_bars": len(part)}


def _snooping(study: Study) -> Figures:
    found = snooping_tests(study.swept, repetitions=study.settings.bootstrap_repetitions, seed=study.settings.seed)
    return {"snooping_p_value": found.spa["consistent"], "reality_check": found.reality_check}


def _costs(study: Study) -> Figures:
    found = break_even_cost(study.tested)
    end = found.sharpe_ratio
    multiple = min(
        end.multiple, float(found.curve.index[-1])
    )  # what never falls to zero is known as far as it was tried
    return {"break_even_multiple": multiple, "break_even_basis_points": end.basis_points}


def _capacity(study: Study) -> Figures:
    found = capacity_curve(study.tested)
    cash = min(found.capacity, float(found.curve.index[-1]))
    return {"capacity_multiple": cash / study.cash, "capacity_cash": cash}


def _stress(study: Study) -> Figures:
    """The deepest fall in any scenario; crises before the account's first bar are not covered."""
    begun = study.whole.index[0]
    chosen = [
        each
        for each in DEFAULT_SCENARIOS
        if not isinstance(each, HistoricalScenario) or pd.Timestamp(each.start, tz="UTC") >= begun
    ]
    covered = [outcome for outcome in stress_test(study.whole, chosen).outcomes if outcome.covered]
    if not covered:
        raise DataError("no scenario could be computed on these bars")
    worst = min(covered, key=lambda outcome: outcome.maximum_drawdown)
    names = {outcome.scenario for outcome in covered}
    return {
        "stress_loss": -worst.maximum_drawdown,
        "stress_scenario": worst.scenario,
        "stress_covered": len(covered),
        "stress_uncovered": [each.label for each in DEFAULT_SCENARIOS if each.label not in names],
    }


def _value_at_risk(study: Study) -> Figures:
    """Forecasts of the bars on which something was held; on the others there was nothing to lose."""
    result, settings = study.whole, study.settings
    held = result.exposure["gross"].shift(fill_value=0.0).to_numpy() > 0.0
    returns, window = result.returns[held], settings.var_window
    if len(returns) < 2 * window:
        raise DataError(f"something was held on {len(returns)} bars, and {2 * window} are needed to test forecasts")
    model = FilteredHistoricalVaR(alpha=settings.var_probability, volatility="EWMA")
    walk = walk_risk(model, returns, window=window, refit_every=window)
    tests = [test(walk.hits, settings.var_probability) for test in (kupiec, christoffersen)]
    told = {"var_hits": int(walk.hits.sum()), "var_bars": len(walk.hits), "var_model": str(walk.model)}
    return {"var_p_value": min(test.p_value for test in tests), **told}


def _regimes(study: Study) -> Figures:
    """By the states of the market's volatility, known one bar before; the model is fitted in sample alone."""
    result, settings = study.whole, study.settings
    market = study.bars["close"].pct_change().iloc[1:]
    known = market.loc[: study.lived(study.rule, study.start, study.in_sample_end).index[-1]]
    model = fit_regimes(known, settings.regimes, switching="variance", starts=4, seed=settings.seed)
    states = model.filtered_states(market)
    shared = result.returns.index.intersection(states.index)
    names = {number: f"regime {number + 1} of {settings.regimes} by volatility" for number in range(settings.regimes)}
    table = regime_performance(
        result.returns[shared], states[shared], result.periods_per_year, lag=1, names=names
    ).table
    ratios = table["sharpe"].dropna()
    if ratios.empty:
        raise DataError("no regime has enough bars to judge")
    return {
        "worst_regime_sharpe": float(ratios.min()),
        "worst_regime": str(ratios.idxmin()),
        "worst_regime_drawdown": float(table["drawdown"].min()),
        "regimes": {str(name): float(value) for name, value in ratios.items()},
    }


def _stability(study: Study) -> Figures:
    if len(study.rules) < 2:
        raise DataError("no grid was swept: there are no neighbours to ask")
    rows = [row for row, rule in enumerate(study.rules) if rule == study.rule]
    if not rows:
        raise ParameterError("the chosen rule is no point of the sweep: it has no neighbours there")
    points = study.points
    if study.by not in points:
        accounts = [study.lived(rule, study.start, study.in_sample_end) for rule in study.rules]
        points = points.assign(**{study.by: [_figure(account, study.by) for account in accounts]})
    found = parameter_stability(points, by=study.by, axes=list(study.axes), row=rows[0])
    return {"neighbours_keep": found.kept, "worst_neighbour_keeps": found.worst_kept}


_STUDIES: Mapping[tuple[str, ...], Callable[[Study], Figures]] = {
    ("win_rate", "profit_factor"): _trading,
    ("walk_forward_sharpe", "walk_forward_efficiency"): _walk_forward,
    ("overfitting_probability",): _overfitting,
    ("snooping_p_value",): _snooping,
    ("break_even_multiple",): _costs,
    ("capacity_multiple",): _capacity,
    ("stress_loss",): _stress,
    ("var_p_value",): _value_at_risk,
    ("worst_regime_sharpe",): _regimes,
    ("neighbours_keep",): _stability,
}
"""The figures that a study must find, and the study."""


def haircut_figures(chosen: Result, trials: Any) -> Figures:
    """`haircut_sharpe` a year and its p-value, by the strictest correction; `trials`: the ledger's summary.

    Like the other figures: None with a reason under `undefined` where it cannot be computed.
    """

    def work() -> Figures:
        found = haircut_sharpe(chosen.returns, trials, periods_per_year=chosen.periods_per_year)
        strictest = max(found.adjusted, key=lambda name: found.adjusted[name])
        left = found.haircut[strictest] * math.sqrt(chosen.periods_per_year)
        return {"haircut_sharpe": left, "haircut_p_value": found.adjusted[strictest]}

    undefined: dict[str, str] = {}
    return {**_attempt(("haircut_sharpe",), work, undefined), "undefined": undefined}
