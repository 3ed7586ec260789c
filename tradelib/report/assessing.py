"""One call, one verdict: everything that this library can say about a result, computed part by part.

A part that refuses, is left out or is interrupted leaves its figures on the page with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import annual_return, kurtosis, sharpe_ratio, skewness
from tradelib.backtest.result import Result
from tradelib.backtest.sweep_result import SweepResult
from tradelib.backtest.trials import TrialLedger, TrialSummary
from tradelib.backtest.wiring import trial_of
from tradelib.errors import DataError, ParameterError, require
from tradelib.parameters import nearest
from tradelib.report.assessment import FIGURES, PARTS, Assessment, AssessmentRow, asked_text, bounds, judge
from tradelib.report.labels import amount_text
from tradelib.report.studies import NotComputed, attempt, market_regimes, value_at_risk
from tradelib.report.tables import benchmark_returns, drawdown_table, stamp
from tradelib.risk.kelly import bootstrap_kelly
from tradelib.validation.attribution import attribute_performance
from tradelib.validation.causality import prove_causality
from tradelib.validation.costs_and_capacity import break_even_cost, capacity_curve
from tradelib.validation.data_snooping import haircut_sharpe, snooping_tests
from tradelib.validation.overfitting import backtest_overfitting
from tradelib.validation.sharpe import SharpeEvidence, deflated_sharpe, probabilistic_sharpe_ratio
from tradelib.validation.simulation import monte_carlo
from tradelib.validation.stability import parameter_stability
from tradelib.validation.stress import stress_test
from tradelib.validation.walk_forward import WalkForwardResult

__all__ = ["assess"]

_MOST_POINTS = 500
_BLOCKS = 16
_CUTS = 200
_PATHS = 5_000


class Finding(NamedTuple):
    """A figure that was computed: its value, how it is shown ("": as `FIGURES` writes it), and plain words."""

    value: float
    shown: str
    words: str


Findings = dict[str, Finding | NotComputed]


@dataclass(frozen=True, eq=False)
class _Case:
    """What a verdict is made from, and what more than one part needs."""

    result: Result
    sweep: SweepResult | None
    trials: TrialLedger | TrialSummary | None
    walk_forward: WalkForwardResult | None
    benchmark: pd.Series[float] | None
    seed: int
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def periods(self) -> float:
        return self.result.periods_per_year

    @cached_property
    def summary(self) -> TrialSummary:
        """What the ledger says about the result's family; `DataError` where it cannot be what led to the result."""
        family = trial_of(self.result).family
        given = self.trials
        summary = given if isinstance(given, TrialSummary) else (given or TrialLedger()).summary(family)
        swept = 0 if self.sweep is None else len(self.sweep.batch)
        if summary.count < 1:
            raise DataError(f"the ledger holds no trial of {family}: backtest with run or sweep, which count")
        if summary.count < swept:
            raise DataError(
                f"the ledger counts {summary.count} trials of {family}, the sweep alone made {swept}: pass the ledger "
                "that the sweep was counted in"
            )
        return summary

    @cached_property
    def matrix(self) -> tuple[pd.DataFrame, str]:
        """Returns `(bars, points)` of the sweep, and what to know about them; some evenly spaced ones of many."""
        sweep = self.sweep
        if sweep is None:
            raise DataError("it needs the sweep that the result was chosen from: pass sweep=")
        if sweep.batch.data_digest != self.result.panel.digest:
            raise DataError("the sweep was run on other bars than the result: pass the result of the same bars")
        count = len(sweep.frame)
        rows = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(int)).tolist()
        columns = {row: sweep.result(self.result.panel, row).returns.to_numpy() for row in rows}
        index = self.result.panel.index[-len(next(iter(columns.values()))) :]
        moved = {row: values for row, values in columns.items() if np.ptp(values) > 0.0}
        if len(moved) < 2:
            raise DataError(f"{len(moved)} of {count} points of the sweep ever traded: at least 2 are needed")
        told = "" if len(rows) == count else f" {len(rows)} of {count:,} points, evenly spaced."
        idle = len(columns) - len(moved)
        return pd.DataFrame(moved, index=index), told + (
            f" {idle} points never traded and are left out." if idle else ""
        )


def assess(
    result: Result,
    *,
    sweep: SweepResult | None = None,
    trials: TrialLedger | TrialSummary | None = None,
    walk_forward: WalkForwardResult | None = None,
    benchmark: pd.Series[float] | str | None = "hold",
    seed: int = 0,
    thresholds: Mapping[str, tuple[float, float]] | None = None,
    progress: bool | None = None,
    skip: Iterable[str] = (),
) -> Assessment:
    """Judge `result` by everything that can be computed of it, figure by figure, in plain words.

    `sweep`: the sweep it was chosen from, for overfitting, data snooping and stability. `trials`: the ledger (or its
    own summary) that counted the tries; None: the project's. A number is refused. `walk_forward`: a walk-forward of
    the same rule. `benchmark`: as in `tear_sheet`. `thresholds`: (good, bad) by the names of
    `tradelib.report.assessment.FIGURES`; `skip`: names of `PARTS` to leave out. `progress`: a bar; None shows one on a
    terminal. Interrupted, the parts that are done come back and the others say so. Minutes at most; causality, stress
    and regimes take longest. Nothing is counted as a trial: every rerun here judges what was chosen before.
    """
    _check(result, sweep, trials, walk_forward)
    limits, left_out = bounds(thresholds), _skipped(skip)
    held = benchmark_returns(result, benchmark)
    case = _Case(result, sweep, trials, walk_forward, held, seed)
    findings: Findings = {}
    try:
        for part in _watched([part for part in PARTS if part not in left_out], progress):
            findings |= _found(case, part)
    except KeyboardInterrupt:
        pass  # what is done comes back; the rest of the rows say that they were interrupted
    rows = tuple(_row(name, findings.get(name, _absent(name, left_out)), limits[name]) for name in FIGURES)
    title = f"{result.title} {result.panel.timeframe}"
    return Assessment(title, result, rows, case.evidence, held, seed)


def _check(result: Any, sweep: Any, trials: Any, walk_forward: Any) -> None:
    if not isinstance(result, Result):
        raise ParameterError(f"assess takes the Result of a run, got {type(result).__name__}")
    if isinstance(trials, TrialSummary) and not trials.anchor:
        raise ParameterError("this summary of trials is no ledger's own: pass the ledger, or what its summary() gave")
    for name, value, kind in (
        ("sweep", sweep, SweepResult),
        ("trials", trials, TrialLedger | TrialSummary),
        ("walk_forward", walk_forward, WalkForwardResult),
    ):
        if value is not None and not isinstance(value, kind):
            told = "; a number typed by hand is not accepted" if name == "trials" else ""
            raise ParameterError(f"{name} is a {type(value).__name__}: pass {getattr(kind, '__name__', kind)}{told}")


def _skipped(skip: Iterable[str]) -> set[str]:
    names = {skip} if isinstance(skip, str) else set(skip)
    for name in names:
        if name not in PARTS:
            raise ParameterError(f"there is no part {name!r} to leave out{nearest(str(name), PARTS)}")
    return names


def _watched(parts: list[str], progress: bool | None) -> Iterable[str]:
    if progress is False:
        return parts
    quiet = None if progress is None else False  # None: where nobody watches
    bar: Iterable[str] = require("tqdm.auto", "research").tqdm(parts, desc="verdict", unit="part", disable=quiet)
    return bar


def _found(case: _Case, part: str) -> Findings:
    """The findings of a part; one reason for all its figures where it refuses."""
    told = attempt(lambda: _WORK[part](case))
    names = [name for name, figure in FIGURES.items() if figure.part == part]
    return dict.fromkeys(names, told) if isinstance(told, NotComputed) else told


def _absent(name: str, left_out: set[str]) -> NotComputed:
    return NotComputed("left out, as asked (skip)" if FIGURES[name].part in left_out else "interrupted before its turn")


def _row(name: str, found: Finding | NotComputed, limits: tuple[float, float]) -> AssessmentRow:
    figure, asked = FIGURES[name], asked_text(name, *limits)
    if isinstance(found, NotComputed):
        return AssessmentRow(
            name, figure.group, figure.label, None, "not computed", asked, "none", _sentence(found.reason)
        )
    value = float(found.value)
    shown = found.shown or ("undefined" if math.isnan(value) else figure.form.format(value))
    return AssessmentRow(
        name, figure.group, figure.label, value, shown, asked, judge(value, *limits), _sentence(found.words)
    )


def _chance(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


# Is it real? ----------------------------------------------------------------------------------------------------------


def _causality(case: _Case) -> Findings:
    rule, panel = case.result.rule, case.result.panel
    if rule is None:
        raise DataError(
            f"there is no rule to recompute: the run was given {case.result.name}; prove their source instead"
        )
    bars = panel.bars(panel.symbols[0])
    proof = prove_causality(rule, bars, every=max(1, len(bars) // _CUTS), last=20, seed=case.seed, progress=False)
    case.evidence["causality"] = proof
    changed = float(sum(proof.affected.values())) if proof.values or proof.violations else math.nan
    return {"causality": Finding(changed, "", _sentence(proof.summary().splitlines()[0].lstrip("✓✗… ")))}


def _sharpe(case: _Case) -> Findings:
    returns, root = case.result.returns, math.sqrt(case.periods)
    ratio, count = float(sharpe_ratio(returns, per_period=True)), len(returns)
    if not math.isfinite(ratio):
        raise DataError("the returns never vary: there is no Sharpe ratio to judge")
    shape = (skewness(returns), kurtosis(returns))
    error = math.sqrt(max(1.0 - shape[0] * ratio + (shape[1] - 1.0) / 4.0 * ratio**2, 0.0) / (count - 1.0))  # Mertens
    chance = probabilistic_sharpe_ratio(ratio, 0.0, count, *shape)
    words = (
        f"At {case.periods:,.0f} periods a year; {count:,} returns of skewness {shape[0]:.2f} and kurtosis "
        f"{shape[1]:.1f} give it a standard error of {error * root:.2f}: two thirds of such records would show between "
        f"{(ratio - error) * root:.2f} and {(ratio + error) * root:.2f}."
    )
    alone = f"Had nothing else ever been tried, the chance that the true ratio is above zero would be {chance:.1%}."
    span = f"{ratio * root:.2f} ± {error * root:.2f} a year"
    return {
        "sharpe_ratio": Finding(ratio / error if error > 0.0 else math.nan, span, words),
        "probabilistic_sharpe": Finding(chance, "", alone),
    }


def _trials(case: _Case) -> Findings:
    found = deflated_sharpe(case.result.returns, case.summary, periods_per_year=case.periods)
    case.evidence["trials"] = found
    if not math.isfinite(found.sharpe):
        raise DataError("the returns never vary: there is no Sharpe ratio to judge")
    luck, tries = found.expected_maximum * math.sqrt(case.periods), f"{found.trials:,} trial{'s' * (found.trials != 1)}"
    words = (
        f"The ledger counts {tries}{_gone(case.summary)}. Had none of them any skill, the best would still be "
        f"expected to show {luck:.2f} a year. The chance that the true ratio is above that is {found.deflated:.1%}."
    )
    return {
        "deflated_sharpe": Finding(found.deflated, f"{found.deflated:.1%} after {tries}", words),
        "track_record": _track_record(found, case.periods),
        "haircut_sharpe": _haircut(case),
    }


def _gone(summary: TrialSummary) -> str:
    """What the ledger knows of trials that it does not hold."""
    lost = f", {summary.lost:,} of them in an earlier ledger that is gone" if summary.lost else ""
    return lost + (f" ({summary.elsewhere:,} other ledgers were written to as well)" if summary.elsewhere else "")


def _track_record(found: SharpeEvidence, periods: float) -> Finding:
    needed, had = found.minimum_track_record, found.observations
    if not math.isfinite(needed):
        words = "At this ratio no record is long enough to tell it from the best of so many trials by luck."
        return Finding(0.0, f"{had:,} of ∞ bars", words)
    words = (
        f"To be {found.confidence:.0%} sure that it is more than luck takes {needed:,.0f} bars "
        f"({needed / periods:,.1f} years) like these; there are {had:,} ({had / periods:,.1f} years)."
    )
    return Finding(had / needed, f"{had:,} of {needed:,.0f} bars", words)


def _haircut(case: _Case) -> Finding | NotComputed:
    found = attempt(lambda: haircut_sharpe(case.result.returns, case.summary, periods_per_year=case.periods))
    if isinstance(found, NotComputed):
        return found
    worst = max(found.adjusted, key=lambda name: found.adjusted[name])
    left = found.haircut[worst] * math.sqrt(case.periods)
    return Finding(
        found.adjusted[worst], f"{left:.2f} a year left, {_chance(found.adjusted[worst])}", found.interpretation
    )


def _overfitting(case: _Case) -> Findings:
    matrix, told = case.matrix
    blocks = _BLOCKS if len(matrix) >= 40 * _BLOCKS else 8
    cut = len(matrix) % blocks
    found = backtest_overfitting(matrix.iloc[cut:], blocks)
    case.evidence["overfitting"] = found
    dropped = f" The first {cut} bars are left out so that {blocks} blocks fit." if cut else ""
    shown = f"{found.probability:.1%} over {len(found.chosen):,} halvings"
    return {"overfitting": Finding(found.probability, shown, found.interpretation + told + dropped)}


def _snooping(case: _Case) -> Findings:
    matrix, told = case.matrix
    found = snooping_tests(matrix, seed=case.seed)
    case.evidence["snooping"] = found
    p = found.spa["consistent"]
    beats = (
        "The best of them earns more than cash" if p <= found.size else "The best of them may earn no more than cash"
    )
    words = (
        f"{beats}: among {matrix.shape[1]:,} variants Hansen's test has a p-value of {p:.3f}. StepM finds "
        f"{len(found.superior)} of them better than cash at {found.size:.0%}.{told}"
    )
    return {"snooping": Finding(p, f"{_chance(p)}; StepM names {len(found.superior)} of {matrix.shape[1]:,}", words)}


def _walk_forward(case: _Case) -> Findings:
    found = case.walk_forward
    if found is None:
        raise DataError("it needs a walk-forward of the rule: pass walk_forward=run_walk_forward(...)")
    case.evidence["walk_forward"] = found
    ratio = float(sharpe_ratio(found.returns, case.periods))
    first, last = (stamp(found.returns.index[row]) for row in (0, -1))
    told = f"{len(found.windows)} windows of tests, stitched: {first} to {last}."
    kept = attempt(lambda: found.efficiency)
    efficiency = Finding(kept, "", found.interpretation)
    return {
        "walk_forward_sharpe": Finding(ratio, f"{ratio:.2f} a year", f"{told} Each was chosen on bars before it."),
        "walk_forward_efficiency": efficiency,
    }


def _stability(case: _Case) -> Findings:
    sweep = case.sweep
    if sweep is None:
        raise DataError("it needs the sweep that the result was chosen from: pass sweep=")
    row = _row_of(sweep, case.result)
    found = parameter_stability(sweep, row=row)
    case.evidence["stability"] = found
    told = "" if row is not None else " The result is no point of the sweep: its best point is judged."
    shown = f"neighbours keep {found.kept:.0%}, the worst {found.worst_kept:.0%}"
    return {"stability": Finding(found.kept, shown, found.interpretation + told)}


def _row_of(sweep: SweepResult, result: Result) -> int | None:
    """The point of the sweep that has the figures of the result, to the last bit; None where there is none."""
    own = result.performance
    same = np.ones(len(sweep.frame), dtype=bool)
    for name in ("sharpe_ratio", "total_return", "maximum_drawdown"):
        same &= sweep.frame[name].to_numpy() == own[name]
    return int(same.argmax()) if same.any() else None


def _benchmark(case: _Case) -> Findings:
    held = case.benchmark
    if held is None:
        raise DataError("no benchmark was given")
    own, other = (float(sharpe_ratio(returns, case.periods)) for returns in (case.result.returns, held))
    if not (math.isfinite(own) and math.isfinite(other)):
        raise DataError("the strategy's or the benchmark's returns never vary: their Sharpe ratios cannot be compared")
    yearly = [float(annual_return(returns, case.periods)) for returns in (case.result.returns, held)]
    words = (
        f"The strategy has a ratio of {own:.2f} and earns {yearly[0]:.1%} a year; {held.name} has {other:.2f} and "
        f"earns {yearly[1]:.1%}, without costs."
    )
    return {"benchmark": Finding(own - other, f"{own:.2f} against {other:.2f}", words)}


# Would it survive? ----------------------------------------------------------------------------------------------------


def _costs(case: _Case) -> Findings:
    found = break_even_cost(case.result)
    case.evidence["costs"] = found
    curve = found.curve["annual_return"]
    before, after = float(curve[1.0]), float(curve[2.0])
    words = f"With every fee, spread and slippage twice as high it earns {after:.2%} a year instead of {before:.2%}."
    even = found.sharpe_ratio.multiple
    far = "nothing is left without costs" if even == 0.0 else f"at {even:.1f} times the costs"
    far = f"above {found.curve.index[-1]:,.0f} times" if math.isinf(even) else far
    return {
        "doubled_costs": Finding(after, f"{after:+.2%} instead of {before:+.2%}", words),
        "break_even": Finding(even, far, found.interpretation),
    }


def _attribution(case: _Case) -> Findings:
    found = attribute_performance(case.result)
    case.evidence["attribution"] = found
    years = found.by("year")["net"]
    if found.profit <= 0.0:
        words = f"There is no profit to attribute. {found.interpretation}"
        return {"concentration": Finding(math.nan, "no profit", words)}
    best = years.idxmax()
    share = float(years.max()) / found.profit
    words = f"The best year is {best}; without it the profit is {1.0 - share:.0%} of what it is. {found.interpretation}"
    return {"concentration": Finding(share, f"{share:.0%} in {best}", words)}


def _regimes(case: _Case) -> Findings:
    found = market_regimes(case.result, case.seed)
    case.evidence["regimes"] = found
    known = found.table["sharpe"].dropna()
    if known.empty:
        raise DataError("no regime has enough bars to judge")
    worst = str(known.idxmin())
    ratio, error = (float(found.table[name][worst]) for name in ("sharpe", "sharpe_error"))
    shown = f"{ratio:.2f} ± {error:.2f} in the {worst}"
    return {"regimes": Finding(ratio, shown, f"States of the market known one bar before. {found.interpretation}")}


def _stress(case: _Case) -> Findings:
    found = stress_test(case.result)
    case.evidence["stress"] = found
    covered = [outcome for outcome in found.outcomes if outcome.covered]
    if not covered:
        raise DataError("no scenario could be computed")
    worst = min(covered, key=lambda outcome: outcome.total_return)
    shown = f"{worst.total_return:+.1%} ({worst.scenario})"
    return {"stress": Finding(worst.total_return, shown, found.interpretation)}


# What can it cost? ----------------------------------------------------------------------------------------------------


def _drawdown(case: _Case) -> Findings:
    deepest = drawdown_table(case.result.returns, 1)
    if deepest.empty:
        return {"drawdown": Finding(0.0, "", "The account never fell below a peak: there is nothing to learn from it.")}
    row = deepest.iloc[0]
    lasted = f"it lasted {row['bars']:,} bars" + (" and is not over" if pd.isna(row["recovered"]) else "")
    words = (
        f"From the peak before {stamp(row['start'])} down to {stamp(row['bottom'])}; {lasted}. Expect worse to come."
    )
    return {"drawdown": Finding(float(row["depth"]), "", words)}


def _value_at_risk(case: _Case) -> Findings:
    found = value_at_risk(case.result.returns)
    case.evidence["value_at_risk"] = found
    tests = {test.name: test for test in found.tests}
    coverage = [tests[name] for name in tests if name.startswith(("Kupiec", "Christoffersen"))]
    worst, hits, days = min(coverage, key=lambda test: test.p_value), int(found.frame["hit"].sum()), len(found.frame)
    shown = f"{hits} exceptions on {days:,} days, {days * found.alpha:.1f} expected"
    words = " ".join(_sentence(test.interpretation) for test in coverage)
    shortfall = tests["Acerbi-Szekely Z2"]
    return {
        "value_at_risk": Finding(worst.p_value, shown, words),
        "traffic_light": _traffic_light(found),
        "expected_shortfall": Finding(
            shortfall.p_value, f"{_chance(shortfall.p_value)}; last {found.frame['es'].iloc[-1]:.2%} a day",
            _sentence(shortfall.interpretation),
        ),
    }  # fmt: skip


def _traffic_light(found: Any) -> Finding | NotComputed:
    light = found.light
    if light is None:
        return NotComputed(f"{len(found.frame)} days are too few for the traffic light: it takes 250")
    words = (
        f"The Basel zone of the last {light.days} days is {light.zone}: {light.hits} losses beyond the value at risk; "
        f"a right model has that many or fewer with a chance of {light.cumulative:.2%}."
    )
    return Finding(light.cumulative, f"{light.zone}, {light.hits} exceptions", words)


def _monte_carlo(case: _Case) -> Findings:
    found = monte_carlo(case.result, paths=_PATHS, seed=case.seed)
    case.evidence["monte_carlo"] = found
    fall, ruin = found.probability_of_drawdown(0.3), found.probability_of_ruin(0.5)
    return {
        "simulated_drawdown": Finding(fall.estimate, "", f"{found.interpretation}"),
        "ruin": Finding(ruin.estimate, f"{ruin.estimate:.2%} (up to {ruin.high:.2%})", _sentence(ruin.interpretation)),
    }


# How much can it carry? -----------------------------------------------------------------------------------------------


def _kelly(case: _Case) -> Findings:
    found = bootstrap_kelly(case.result.returns.to_numpy(), resamples=500, seed=case.seed)
    case.evidence["kelly"] = found
    raw, value, (low, high) = found.estimate.optimum, found.shrunk.fraction, found.interval
    best = (
        f"Growth would have been fastest at {raw:.2f} times the size tested"
        if raw > 0.0
        else "No size would have grown"
    )
    words = (
        f"{best}; {found.confidence:.0%} of resampled histories put it between {low:.2f} and {high:.2f}. Shrunk for "
        f"this uncertainty (Baker & McHale) {value:.2f} is left: below 1 the tested size is already too large."
    )
    return {"kelly": Finding(value, f"{value:.2f}, from {raw:.2f}", words)}


def _capacity(case: _Case) -> Findings:
    found = capacity_curve(case.result)
    case.evidence["capacity"] = found
    multiple, most = found.capacity / case.result.initial_cash, float(found.curve.index[-1])
    amount = most if math.isinf(multiple) else found.capacity
    told = f"{'above ' * math.isinf(multiple)}{amount_text(amount)} {found.currency}".strip()
    shown = told if amount > 0.0 else "none"
    return {"capacity": Finding(multiple, shown, found.interpretation)}


_WORK: dict[str, Callable[[_Case], Findings]] = {
    "causality": _causality,
    "sharpe": _sharpe,
    "trials": _trials,
    "overfitting": _overfitting,
    "snooping": _snooping,
    "walk_forward": _walk_forward,
    "stability": _stability,
    "benchmark": _benchmark,
    "costs": _costs,
    "attribution": _attribution,
    "regimes": _regimes,
    "stress": _stress,
    "drawdown": _drawdown,
    "value_at_risk": _value_at_risk,
    "monte_carlo": _monte_carlo,
    "kelly": _kelly,
    "capacity": _capacity,
}
