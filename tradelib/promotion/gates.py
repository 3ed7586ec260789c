"""Gates: what a candidate must show before it may trade on paper, and before it may trade money.

A gate is a small pure function that returns a `GateResult`: a figure, the threshold it is held against, and a sentence
that a person can act on. Two tiers. *Safety* gates say that the machinery is right (data, causality, equal decisions,
equal bits, an intact bundle): one failure and nothing trades; they have no threshold and no switch. *Evidence* gates
say that the edge is believable: one failure and the candidate is "paper only". A figure that is undefined never passes.

Evidence that cannot be had (no volume, no grid to sweep) is undefined and does not pass, unless `params.yaml` waives it
by name with a reason, `waived: {capacity: "a daily index has no volume"}`, or with one for each strategy of which it is
true, `{capacity: {trend_sp500: "a daily index has no volume"}}`. The reason is sealed with the result, and a figure
that is there and bad cannot be waived, nor can safety.

Other packages add gates through the entry point group `tradelib.gates`: an entry names a `Gate` whose function takes a
`Candidate` and the `Thresholds` and returns a `GateResult`. Its settings stand in `params.yaml` under
`additional: {<name of the gate>: {...}}`, where it reads them as `thresholds.additional[name]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Self

import pandas as pd
from pydantic import Field, JsonValue, field_validator

from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.trials import TrialLedger, family_of
from tradelib.errors import ParameterError, TradelibError
from tradelib.home import project_home
from tradelib.parameters import Parameters, nearest
from tradelib.promotion.evidence_gates import (
    break_even_cost,
    capacity,
    cost_stress,
    deflated_sharpe,
    drawdown,
    haircut_sharpe,
    number_of_trades,
    out_of_sample_sharpe,
    overfitting_probability,
    parameter_stability,
    profit_factor,
    regime_robustness,
    snooping_p_value,
    stress_scenarios,
    value_at_risk_coverage,
    walk_forward_efficiency,
    walk_forward_sharpe,
    win_rate,
)
from tradelib.promotion.gate_result import Figure, GateResult, Tier, failed, judge, plain
from tradelib.promotion.safety_gates import (
    bundle_integrity,
    bundle_reproducible,
    causality,
    core_determinism,
    data_quality,
    decision_parity,
    dependency_audit,
    determinism,
    engine_crosscheck,
    runner_support,
    warm_up,
)

if TYPE_CHECKING:
    from tradelib.validation.causality import CausalityProof

__all__ = [
    "ENTRY_POINTS",
    "EVIDENCE_GATES",
    "SAFETY_GATES",
    "Candidate",
    "Gate",
    "GateResult",
    "Thresholds",
    "Verdict",
    "available_gates",
    "break_even_cost",
    "bundle_integrity",
    "bundle_reproducible",
    "capacity",
    "causality",
    "core_determinism",
    "cost_stress",
    "data_quality",
    "decision_parity",
    "deflated_sharpe",
    "dependency_audit",
    "determinism",
    "drawdown",
    "engine_crosscheck",
    "haircut_sharpe",
    "judge",
    "number_of_trades",
    "out_of_sample_sharpe",
    "overfitting_probability",
    "parameter_stability",
    "plain",
    "profit_factor",
    "regime_robustness",
    "run_gates",
    "runner_support",
    "snooping_p_value",
    "stress_scenarios",
    "value_at_risk_coverage",
    "verdict",
    "walk_forward_efficiency",
    "walk_forward_sharpe",
    "warm_up",
    "win_rate",
]

ENTRY_POINTS = "tradelib.gates"


# Settings ------------------------------------------------------------------------------------------------------------


class Thresholds(Parameters):
    """What the evidence gates demand. Safety gates are not here: they cannot be lowered, waived or switched off.

    (`parity_window`, `denied_versions` and `allowed_licences` only make them stricter.)
    """

    minimum_out_of_sample_sharpe: float = Field(
        default=0.5, description="annualised Sharpe ratio on bars never seen in research"
    )
    minimum_deflated_sharpe: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="confidence that the true Sharpe ratio is above what the best of all trials shows by luck",
    )
    minimum_trades: int = Field(default=30, ge=1, description="closed trades that the figures rest on")
    maximum_drawdown: float = Field(
        default=0.25, gt=0, le=1, description="deepest fall allowed, as a positive fraction of the peak"
    )
    cost_stress_multiple: float = Field(
        default=2.0, ge=1, description="fees and slippage are multiplied by this in the stress test"
    )
    minimum_stressed_sharpe: float = Field(
        default=0.0, description="annualised Sharpe ratio demanded under those costs"
    )
    minimum_walk_forward_sharpe: float = Field(
        default=0.3, description="annualised Sharpe ratio of walk-forward tests, each chosen on the bars before it"
    )
    minimum_walk_forward_efficiency: float = Field(
        default=0.5, description="growth out of sample over growth in sample, over all windows of the walk-forward"
    )
    minimum_win_rate: float = Field(default=0.3, ge=0, le=1, description="share of closed trades that won")
    minimum_profit_factor: float = Field(
        default=1.1, ge=0, description="what winning trades earned over what losing trades lost"
    )
    maximum_overfitting_probability: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="how often the best of the sweep in one half is below the median elsewhere",
    )
    maximum_snooping_p_value: float = Field(
        default=0.05, ge=0, le=1, description="p-value that the best of the sweep earns more than cash by luck"
    )
    minimum_haircut_sharpe: float = Field(
        default=0.2, description="annualised Sharpe ratio that is left after correction for all counted trials"
    )
    minimum_break_even_multiple: float = Field(
        default=3.0, ge=0, description="multiple of the costs at which nothing is left"
    )
    minimum_capacity_multiple: float = Field(
        default=2.0, ge=0, description="capital at which impact halves the Sharpe ratio, in multiples of the account"
    )
    maximum_stress_loss: float = Field(
        default=0.4, gt=0, le=1, description="deepest fall in the worst stress scenario, as a positive fraction"
    )
    minimum_var_p_value: float = Field(
        default=0.01, ge=0, le=1, description="p-value of the tests that losses exceed the value at risk as promised"
    )
    minimum_regime_sharpe: float = Field(
        default=-0.5, description="annualised Sharpe ratio in the market regime where it is lowest"
    )
    minimum_parameter_stability: float = Field(
        default=0.5, description="share of the figure that is left one step aside in the grid"
    )
    parity_window: int = Field(
        default=250, ge=100, description="last bars re-decided one by one as the runner does; more is stricter"
    )
    denied_versions: dict[str, list[str]] = Field(
        default_factory=dict,
        description='releases that the runner\'s lock must not name, by package; ["*"] for all of them',
    )
    allowed_licences: tuple[str, ...] = Field(
        (), description="licences (SPDX) under which the runner's packages may be used; without any, nobody asks"
    )
    waived: dict[str, str | dict[str, str]] = Field(
        default_factory=dict,
        description="evidence that cannot be had, by the name of its gate: the reason, or reasons by strategy",
    )
    additional: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="settings of gates from other packages, by the name of the gate"
    )

    @field_validator("waived")
    @classmethod
    def _only_evidence(cls, waived: dict[str, str | dict[str, str]]) -> dict[str, str | dict[str, str]]:
        for name, reasons in waived.items():
            if name in SAFETY_GATES:
                raise ValueError(f"{name} is a safety gate, and safety cannot be waived")
            stated = reasons.values() if isinstance(reasons, dict) else [reasons]
            if not stated or not all(reason.strip() for reason in stated):
                raise ValueError(f"write why nobody can answer {name}: the reason is sealed with the evidence")
        return waived

    def for_strategy(self, name: str) -> Self:
        """The same, with only those waivers that hold for the strategy `name`."""
        said = {gate: why.get(name, "") if isinstance(why, dict) else why for gate, why in self.waived.items()}
        return self.replace(waived={gate: reason for gate, reason in said.items() if reason})


# The registry --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """Everything that gates look at.

    `bars`: the research bars. `quality`: `QualityReport.to_dict()`. `proof`: what `prove_causality` returned, or its
    `to_dict()`. `figures`: what the evidence gates name, NaN or None where undefined, with the reasons by name under
    `undefined`. `execution`: costs, cash and market, by the names of a bundle's execution. `lock`: the text of the
    runner's lock.
    """

    rule: DecisionRule
    bars: pd.DataFrame
    quality: Mapping[str, Any]
    proof: CausalityProof | Mapping[str, Any]
    figures: Mapping[str, Any]
    execution: Mapping[str, Any] = field(default_factory=dict)
    lock: str = ""


@dataclass(frozen=True)
class Gate:
    """A named gate: `check(candidate, thresholds) -> GateResult` of the same name and tier."""

    name: str
    tier: Tier
    check: Callable[[Candidate, Thresholds], GateResult]


def _on_figures(check: Callable[[Mapping[str, Any], Thresholds], GateResult]) -> Gate:
    """An evidence gate that looks at the figures alone; it has the name of its function."""
    return Gate(check.__name__, "evidence", lambda candidate, limits: check(candidate.figures, limits))


def _counted(candidate: Candidate) -> int:
    """Trials of the candidate's market in the project's ledger; 0 where there is none."""
    path = project_home(create=False) / "trials.sqlite"
    if not path.exists():
        return 0
    name, attrs = type(candidate.rule.strategy).__name__, candidate.bars.attrs
    return TrialLedger(path).summary(family_of(name, attrs["symbol"], attrs["timeframe"])).count


_BUILT_IN = (
    Gate("data_quality", "safety", lambda candidate, _: data_quality(candidate.quality, candidate.bars)),
    Gate("causality", "safety", lambda candidate, _: causality(candidate.proof, candidate.bars)),
    Gate("warm_up", "safety", lambda candidate, _: warm_up(candidate.rule, candidate.bars, candidate.execution)),
    Gate(
        "decision_parity",
        "safety",
        lambda candidate, limits: decision_parity(candidate.rule, candidate.bars, limits.parity_window),
    ),
    Gate(
        "determinism", "safety", lambda candidate, _: determinism(candidate.rule, candidate.bars, candidate.execution)
    ),
    Gate(
        "core_determinism",
        "safety",
        lambda candidate, _: core_determinism(candidate.rule, candidate.bars, candidate.execution),
    ),
    Gate(
        "engine_crosscheck",
        "safety",
        lambda candidate, _: engine_crosscheck(candidate.rule, candidate.bars, candidate.execution),
    ),
    Gate(
        "runner_support",
        "safety",
        lambda candidate, _: runner_support(candidate.rule, candidate.execution, candidate.bars),
    ),
    Gate(
        "dependency_audit",
        "safety",
        lambda candidate, limits: dependency_audit(candidate.lock, limits.denied_versions, limits.allowed_licences),
    ),
    _on_figures(out_of_sample_sharpe),
    Gate(
        "deflated_sharpe",
        "evidence",
        lambda candidate, limits: deflated_sharpe(candidate.figures, limits, _counted(candidate)),
    ),
    _on_figures(number_of_trades),
    _on_figures(drawdown),
    _on_figures(cost_stress),
    _on_figures(win_rate),
    _on_figures(profit_factor),
    _on_figures(walk_forward_sharpe),
    _on_figures(walk_forward_efficiency),
    _on_figures(overfitting_probability),
    _on_figures(snooping_p_value),
    _on_figures(haircut_sharpe),
    _on_figures(break_even_cost),
    _on_figures(capacity),
    _on_figures(stress_scenarios),
    _on_figures(value_at_risk_coverage),
    _on_figures(regime_robustness),
    _on_figures(parameter_stability),
)
_WITH_A_BUNDLE = ("bundle_integrity", "bundle_reproducible", "golden_history", "golden_trades", "golden_decisions")

SAFETY_GATES = tuple(gate.name for gate in _BUILT_IN if gate.tier == "safety")
"""Safety gates of a candidate; those that look at a bundle join them at promotion."""
EVIDENCE_GATES = tuple(gate.name for gate in _BUILT_IN if gate.tier == "evidence")


def available_gates() -> dict[str, Gate]:
    """Every gate by name: the built-in ones in order, then those of other packages by name.

    `ParameterError` when an entry point does not name a `Gate`, or takes the name of another gate.
    """
    gates = {gate.name: gate for gate in _BUILT_IN}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        gate = entry.load()
        if not isinstance(gate, Gate):
            raise ParameterError(f"entry point {entry.value!r} in {ENTRY_POINTS!r} must name a Gate, not {gate!r}")
        if gate.name in gates or gate.name in _WITH_A_BUNDLE:
            raise ParameterError(
                f"entry point {entry.value!r}: there is already a gate {gate.name!r}; choose another name"
            )
        gates[gate.name] = gate
    return gates


def run_gates(candidate: Candidate, thresholds: Thresholds | None = None) -> list[GateResult]:
    """All gates on one candidate. A gate that breaks is a gate that did not pass: its error becomes the explanation."""
    limits = thresholds if thresholds is not None else Thresholds()
    gates = available_gates()
    for what, names in (("additional settings", limits.additional), ("a waiver", limits.waived)):
        for name in names:
            if name not in gates:
                raise ParameterError(f"{what} for {name!r}, but there is no such gate{nearest(name, gates)}")
    for name, reasons in limits.waived.items():
        if isinstance(reasons, dict):
            raise ParameterError(f"{name} is waived for {', '.join(reasons)}: pass thresholds.for_strategy(name)")
    return [_waived(_run(gate, candidate, limits), limits) for gate in gates.values()]


def _waived(result: GateResult, thresholds: Thresholds) -> GateResult:
    """The result, passed where it is undefined evidence that `thresholds` waive."""
    reason = str(thresholds.waived.get(result.name, ""))
    can_be = result.tier == "evidence" and not result.passed and result.figure is None
    return result.waive(reason) if reason and can_be else result


def _run(gate: Gate, candidate: Candidate, thresholds: Thresholds) -> GateResult:
    try:
        result = gate.check(candidate, thresholds)
    except Exception as error:  # noqa: BLE001  strategies and gates of others may fail in any way: none of them passes
        words = str(error) if isinstance(error, TradelibError) else f"{type(error).__name__}: {error}"
        return failed(gate.name, gate.tier, f"The gate could not be answered: {words}")
    if not isinstance(result, GateResult) or (result.name, result.tier) != (gate.name, gate.tier):
        return failed(gate.name, gate.tier, "The gate did not return a GateResult of its own name and tier.")
    if result.waived:
        return failed(gate.name, gate.tier, "The gate waived itself: only `params.yaml` can.")
    return result


# The verdict ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What a candidate may do: `permission` is "live", "paper" or "none"; `results` in the order of the gates."""

    permission: Literal["live", "paper", "none"]
    results: tuple[GateResult, ...]

    @property
    def failing(self) -> list[GateResult]:
        """Results that did not pass, safety first."""
        return sorted(
            (result for result in self.results if not result.passed), key=lambda result: result.tier != "safety"
        )

    @property
    def waived(self) -> dict[str, str]:
        """Gates that nobody answered, with the stated reason."""
        return {result.name: result.waived for result in self.results if result.waived}

    def summary(self) -> str:
        """One sentence: the permission and the failing gates with figure and threshold; another on what was waived."""
        spared = "; ".join(f"{name.replace('_', ' ')}, {reason}" for name, reason in self.waived.items())
        end = f" Waived: {spared}." if spared else ""
        if self.permission == "live":
            answered = len(self.results) - len(self.waived)
            return f"All {answered} gates passed: the candidate may trade live.{end}"
        told = "; ".join(f"{result.name.replace('_', ' ')} {_shown(result)}" for result in self.failing)
        head = "Refused, a safety gate failed" if self.permission == "none" else "Paper only"
        return f"{head}: {told}.{end}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data: permission, summary, names of failing gates, and every result."""
        return {
            "permission": self.permission,
            "summary": self.summary(),
            "failing": [result.name for result in self.failing],
            "waived": self.waived,
            "results": [result.to_dict() for result in self.results],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per gate: tier, passed, figure, comparison, threshold, explanation."""
        columns = ["tier", "passed", "figure", "comparison", "threshold", "explanation"]
        rows = [[getattr(result, column) for column in columns] for result in self.results]
        return pd.DataFrame(rows, columns=columns, index=pd.Index([r.name for r in self.results], name="gate"))

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th style='text-align:left'>{name}</th>" for name in ("", "gate", "tier", "figure", "in words")
        )
        rows = "".join(_html_row(result) for result in self.results)
        return f"<p><b>{escape(self.summary())}</b></p><table><tr>{head}</tr>{rows}</table>"


def verdict(results: Iterable[GateResult], required: Iterable[str] = (*SAFETY_GATES, *EVIDENCE_GATES)) -> Verdict:
    """What the results permit: a safety failure nothing, an evidence failure paper, none of them live.

    A `required` gate without a result counts as failed. `ParameterError` when two results have one name.
    """
    given = list(results)
    names = [result.name for result in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ParameterError(f"two results for {', '.join(twice)}: give each gate once")
    for name in required:
        if name not in names:
            tier: Tier = "evidence" if name in EVIDENCE_GATES else "safety"
            given.append(failed(name, tier, "The gate was not run."))
    bad = {result.tier for result in given if not result.passed}
    permission: Literal["live", "paper", "none"] = "none" if "safety" in bad else "paper" if bad else "live"
    return Verdict(permission, tuple(given))


def _shown(result: GateResult) -> str:
    if result.threshold is None:
        return "no answer"
    return f"{_short(result.figure)}, needs {result.comparison} {_short(result.threshold)}"


def _short(figure: Figure) -> str:
    if figure is None:
        return "undefined"
    return figure if isinstance(figure, str) else f"{figure:.4g}"


def _html_row(result: GateResult) -> str:
    mark, color = ("✓", "#2a7d2a") if result.passed else ("✗", "#b00020")
    if result.waived:
        mark, color = "–", "#8a6d00"
    bound = "" if result.threshold is None else f" {result.comparison} {_short(result.threshold)}"
    cells = [result.name, result.tier, f"{_short(result.figure)}{bound}", result.explanation]
    texts = "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in cells)
    return f"<tr><td style='color:{color}'>{mark}</td>{texts}</tr>"
