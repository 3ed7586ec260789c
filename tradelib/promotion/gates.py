"""Gates: what a candidate must show before it may trade on paper, and before it may trade money.

A gate is a small pure function that returns a `GateResult`: a figure, the threshold it is held against, and a sentence
that a person can act on. Two tiers. *Safety* gates say that the machinery is right (data, causality, equal decisions,
equal bits, an intact bundle): one failure and nothing trades; they have no threshold and no switch. *Evidence* gates
say that the edge is believable: one failure and the candidate is "paper only". A figure that is undefined never passes.

Other packages add gates through the entry point group `tradelib.gates`: an entry names a `Gate` whose function takes a
`Candidate` and the `Thresholds` and returns a `GateResult`. Its settings stand in `params.yaml` under
`additional: {<name of the gate>: {...}}`, where it reads them as `thresholds.additional[name]`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, JsonValue

from tradelib._jit import compiling, interpreted
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.crosscheck import crosscheck
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.backtest.machine import Simulation
from tradelib.backtest.result import Result
from tradelib.backtest.trials import TrialLedger, family_of
from tradelib.bundle import TrustStore, verify_bundle
from tradelib.bundle.layout import check_supported
from tradelib.data.bars import content_digest
from tradelib.errors import BundleError, ParameterError, TradelibError
from tradelib.home import project_home
from tradelib.parameters import Parameters, nearest

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
    "bundle_integrity",
    "causality",
    "cost_stress",
    "data_quality",
    "decision_parity",
    "deflated_sharpe",
    "determinism",
    "drawdown",
    "engine_crosscheck",
    "judge",
    "number_of_trades",
    "out_of_sample_sharpe",
    "plain",
    "run_gates",
    "runner_support",
    "verdict",
]

ENTRY_POINTS = "tradelib.gates"
Tier = Literal["safety", "evidence"]
Comparison = Literal[">=", "<=", "=="]
Figure = float | str | None

_UNDEFINED = "undefined"


@dataclass(frozen=True)
class GateResult:
    """What one gate found: `figure` `comparison` `threshold`, and the same in plain words.

    `figure` is None where it is undefined. A result that claims to have passed although its figure does not meet its
    threshold is refused (`ParameterError`), so no gate can wave a candidate through.
    """

    name: str
    tier: Tier
    figure: Figure
    threshold: Figure
    comparison: Comparison
    passed: bool
    explanation: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tier not in ("safety", "evidence"):
            raise ParameterError(f"gate {self.name!r}: tier {self.tier!r} is neither 'safety' nor 'evidence'")
        if self.passed and not _meets(self.figure, self.comparison, self.threshold):
            told = f"{self.figure!r} {self.comparison} {self.threshold!r}"
            raise ParameterError(f"gate {self.name!r} says it passed, but {told} does not hold")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not a finite number becomes None."""
        result: dict[str, Any] = plain(asdict(self))
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateResult:
        """The result that `to_dict` wrote; `ParameterError` when fields are missing or unknown."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ParameterError(f"this is not a gate result: {error}") from None


def judge(
    name: str,
    tier: Tier,
    figure: Figure,
    comparison: Comparison,
    threshold: Figure,
    explanation: str,
    evidence: Mapping[str, Any] | None = None,
) -> GateResult:
    """A result whose verdict follows from the comparison alone; an undefined figure fails."""
    passed = _meets(figure, comparison, threshold)
    shown = figure if _defined(figure) else None
    return GateResult(name, tier, shown, threshold, comparison, passed, explanation, dict(evidence or {}))


def _defined(figure: Any) -> bool:
    if isinstance(figure, str):
        return True
    return isinstance(figure, int | float | np.number) and not isinstance(figure, bool) and math.isfinite(figure)


def _meets(figure: Any, comparison: str, threshold: Any) -> bool:
    if not _defined(figure) or not _defined(threshold) or isinstance(figure, str) != isinstance(threshold, str):
        return False
    if comparison == "==":
        return bool(figure == threshold)
    if isinstance(figure, str) or comparison not in (">=", "<="):
        return False
    return bool(figure >= threshold if comparison == ">=" else figure <= threshold)


def plain(value: Any) -> Any:
    """`value` as JSON-able data: numpy scalars unwrapped, times as ISO text, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else _text(value)


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# Settings ------------------------------------------------------------------------------------------------------------


class Thresholds(Parameters):
    """What the evidence gates demand. Safety gates are not here: they cannot be lowered or switched off."""

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
    parity_window: int = Field(
        default=250, ge=100, description="last bars re-decided one by one as the runner does; more is stricter"
    )
    additional: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="settings of gates from other packages, by the name of the gate"
    )


# Safety gates --------------------------------------------------------------------------------------------------------


def data_quality(quality: Mapping[str, Any], bars: pd.DataFrame | None = None) -> GateResult:
    """No critical finding in the data's quality report (`QualityReport.to_dict()`); with `bars`, it must cover them."""
    findings = [dict(finding) for finding in quality.get("findings") or ()]
    failed = [finding for finding in findings if finding.get("passed") is not True]
    critical = [finding for finding in failed if finding.get("severity") != "warning"]
    count: int | None = len(critical)
    if critical:
        told = "; ".join(map(_told, critical[:3]))
        words = f"{len(critical)} of {len(findings)} expectations of the data failed: {told}."
    elif not findings or quality.get("success") is not True:
        count, words = None, "The quality report does not say that the data is good: run the data suite again."
    elif bars is not None and not _covers(quality, bars):
        count, words = None, "The quality report is about other data than the candidate's bars: check those."
    else:
        words = f"All critical expectations of {len(findings)} hold; {len(failed)} warnings."
    evidence = {
        "expectations": len(findings),
        "warnings": [_told(finding) for finding in failed if finding not in critical],
    }
    evidence |= {"failed": [_told(finding) for finding in critical], "digest": quality.get("digest")}
    return judge("data_quality", "safety", count, "==", 0, words, evidence)


def _told(finding: Mapping[str, Any]) -> str:
    sample = ", ".join(map(str, (finding.get("sample") or ())[:1]))
    where = f" at {sample}" if sample else ""
    return f"{finding.get('name')} ({finding.get('meaning')}): {finding.get('observed')}{where}"


def _covers(quality: Mapping[str, Any], bars: pd.DataFrame) -> bool:
    if any(quality.get(name) != bars.attrs.get(name) for name in ("symbol", "timeframe", "calendar")):
        return False
    first, last = pd.Timestamp(str(quality.get("first"))), pd.Timestamp(str(quality.get("last")))
    return bool(first <= bars.index[0] and bars.index[-1] <= last)


def causality(proof: CausalityProof | Mapping[str, Any], bars: pd.DataFrame | None = None) -> GateResult:
    """No decision changes when the future is cut off, or when another future follows.

    `proof`: what `prove_causality` returned, or its `to_dict()`. With `bars`, it must be about these bars.
    """
    told = dict(proof) if isinstance(proof, Mapping) else proof.to_dict()
    violations = [str(violation) for violation in told.get("violations", ())]
    words, proven = str(told.get("summary", "no proof")).lstrip("✓✗… "), told.get("passed") is True
    if violations:
        words = f"{words}: {violations[0]}"
    elif told.get("tolerance") != 0.0:
        words, proven = f"{words}, but only within a tolerance: prove it with tolerance=0.0", False
    elif told.get("futures") is not True:
        words, proven = f"{words}, but only with the future cut off: prove it with futures=True", False
    elif bars is not None and not _about(told, bars):
        words, proven = f"{words}, but the proof is about other bars than the candidate's: prove it again", False
    names = ("bars", "first_bar", "last_bar", "values", "cuts", "columns", "futures", "reach", "affected")
    evidence = {"violations": violations, **{name: told.get(name) for name in names}}
    return judge(
        "causality", "safety", len(violations) if violations or proven else None, "==", 0, f"{words}.", evidence
    )


def _about(proof: Mapping[str, Any], bars: pd.DataFrame) -> bool:
    span = (len(bars), bars.index[0].isoformat(), bars.index[-1].isoformat())
    return span == (proof.get("bars"), proof.get("first_bar"), proof.get("last_bar"))


def decision_parity(rule: DecisionRule, bars: pd.DataFrame, window: int = 250) -> GateResult:
    """The runner's way of deciding equals the research's, bit for bit.

    Research decides all bars at once with compiled kernels. The runner sees one more bar at a time and runs the same
    kernels interpreted. Both are compared on the last `window` bars and around the end of the warm-up.
    """
    research = rule.decisions(bars)
    rows = _rows_to_compare(research, window)
    compared, equal, first = len(rows), 0, None
    with interpreted():
        for row in rows:
            decided = rule.decisions(bars.iloc[: row + 1].copy()).iloc[-1]
            found = _first_difference(bars.index[row], research.iloc[row], decided)
            equal += found is None
            first = first or found
    deciding = int(research["target_weight"].iloc[rows].notna().sum())
    share = equal / compared if deciding else None
    evidence: dict[str, Any] = {"bars": compared, "deciding_bars": deciding, "equal": equal, "first_difference": first}
    evidence["research_kernels"] = "compiled" if compiling() else "interpreted"
    return judge(
        "decision_parity", "safety", share, "==", 1.0, _parity_words(compared, equal, deciding, first), evidence
    )


def _rows_to_compare(research: pd.DataFrame, window: int) -> list[int]:
    """The last `window` rows, and ten rows around the first decision (it must not come a bar early or late)."""
    known = research["target_weight"].notna().to_numpy()
    start = int(np.argmax(known)) if known.any() else 0
    edge = range(max(0, start - 5), min(len(research), start + 5))
    return sorted({*edge, *range(max(0, len(research) - window), len(research))})


def _first_difference(time: Any, research: pd.Series, runner: pd.Series) -> dict[str, Any] | None:
    for column in research.index:
        if not _same_bits(research[column], runner[column]):
            sides = {"research": float(research[column]), "runner": float(runner[column])}
            return {"time": time.isoformat(), "column": str(column), **sides}
    return None


def _parity_words(compared: int, equal: int, deciding: int, first: Mapping[str, Any] | None) -> str:
    if not deciding:
        return f"The rule decides nothing on the {compared} compared bars: give it more history than its warm-up."
    if first is None:
        return f"Decided bar by bar as the runner does, all {compared} bars give the decisions of the research."
    return (
        f"Decided bar by bar, only {equal} of {compared} bars give the decisions of the research. First difference: "
        f"{first['column']} at {first['time']} is {first['research']!r} in research, {first['runner']!r} at the runner."
    )


def determinism(rule: DecisionRule, bars: pd.DataFrame, execution: Mapping[str, Any] | None = None) -> GateResult:
    """The same rule on the same bars gives the same bits: again, rebuilt from its configuration, and interpreted.

    `execution` names costs and market as in a bundle (`fee_rate`, `slippage`, `cash`, `lots_per_unit`,
    `minimum_notional`, `maximum_leverage`).
    """
    before = content_digest(bars)
    first = rule.decisions(bars)
    twin = DecisionRule.from_config(rule.to_config())
    settings = _account(execution or {})
    pairs: list[tuple[str, str]] = []
    pairs += _decision_pairs("evaluated twice", first, rule.decisions(bars))
    pairs += _decision_pairs("rebuilt from its configuration", first, twin.decisions(bars))
    with interpreted():
        pairs += _decision_pairs("with interpreted kernels", first, rule.decisions(bars))
        plain = _backtest(rule, bars, settings)
    for what, other in (("run twice", _backtest(rule, bars, settings)), ("interpreted", plain)):
        pairs += _account_pairs(what, _backtest(rule, bars, settings), other)
    pairs.append(
        ("the bars were changed by the rule", "" if content_digest(bars) == before else "their digest differs")
    )
    return _determinism_result(pairs)


def _determinism_result(pairs: Sequence[tuple[str, str]]) -> GateResult:
    wrong = [(what, where) for what, where in pairs if where]
    evidence: dict[str, Any] = {"comparisons": len(pairs), "kernels": "compiled" if compiling() else "interpreted"}
    evidence["differences"] = [f"{what}: {where}" for what, where in wrong]
    if wrong:
        words = f"The same input gave different results ({wrong[0][0]}): {wrong[0][1]}. "
        words += "A rule may hold no state, read no clock and use no chance."
    else:
        words = f"{len(pairs)} comparisons (again, rebuilt, interpreted; decisions and account) gave identical bits."
    return judge("determinism", "safety", (len(pairs) - len(wrong)) / len(pairs), "==", 1.0, words, evidence)


_ACCOUNT = {
    "cash": 100_000.0,
    "fee_rate": 0.001,
    "slippage": 0.0005,
    "lots_per_unit": 0.0,
    "minimum_notional": 0.0,
    "maximum_leverage": 1.0,
}


def _account(execution: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(execution.get(name, default)) for name, default in _ACCOUNT.items()}


def _evaluated(rule: DecisionRule, bars: pd.DataFrame, account: Mapping[str, float]) -> Result:
    costs = Costs(fee_rate=account["fee_rate"], slippage=account["slippage"])
    market = Market(**{name: account[name] for name in ("lots_per_unit", "minimum_notional", "maximum_leverage")})
    return replay(rule, bars, costs=costs, market=market, cash=account["cash"])


def _backtest(rule: DecisionRule, bars: pd.DataFrame, account: Mapping[str, float]) -> Simulation:
    return _evaluated(rule, bars, account).simulation


def _decision_pairs(what: str, one: pd.DataFrame, other: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = []
    for column in one.columns:
        differing = np.flatnonzero(_bits(one[column]) != _bits(other[column]))
        where = ""
        if differing.size:
            row = int(differing[0])
            values = f"{float(one[column].iloc[row])!r}, then {float(other[column].iloc[row])!r}"
            where = f"{column} at {one.index[row].isoformat()} is {values}"
        pairs.append((what, where))
    return pairs


def _account_pairs(what: str, one: Simulation, other: Simulation) -> list[tuple[str, str]]:
    pairs = []
    for name in ("equity", "orders", "fills", "entries"):
        left, right = getattr(one, name), getattr(other, name)
        same = left.shape == right.shape and left.tobytes() == right.tobytes()
        pairs.append((f"backtest {what}", "" if same else f"{name} differs"))
    return pairs


def _bits(values: pd.Series) -> np.ndarray:
    """float64 as int64 bit patterns, all NaNs alike."""
    array = values.to_numpy(dtype=np.float64, copy=True)
    array[np.isnan(array)] = np.nan
    return array.view(np.int64)


def _same_bits(one: float, other: float) -> bool:
    return bool(np.float64(one).tobytes() == np.float64(other).tobytes() or (math.isnan(one) and math.isnan(other)))


def engine_crosscheck(rule: DecisionRule, bars: pd.DataFrame, execution: Mapping[str, Any] | None = None) -> GateResult:
    """backtrader, an engine of others, makes the same account of the same decisions, or a named convention says why.

    `execution` as in `determinism`. The figure counts differences that no known convention produces.
    """
    check = crosscheck(_evaluated(rule, bars, _account(execution or {})))
    known = {str(name): int(count) for name, count in check.differences["convention"].value_counts().items() if name}
    evidence: dict[str, Any] = {"fills": check.fills, "matched": check.matched, "explained": known}
    evidence["largest_difference"] = check.largest[1]
    open_ones = check.differences[check.differences["convention"] == ""]
    figure = check.unexplained if check.passed or check.unexplained else None
    if len(open_ones):
        first = open_ones.iloc[0]
        words = (
            f"Two engines disagree on {len(open_ones)} points that no convention explains. First: {first['what']} at "
        )
        words += f"{first['time'].isoformat()} is {first['tradelib']!r} here, {first['backtrader']!r} in backtrader."
    elif figure is None:
        words = f"The equity of two engines differs by {check.largest[1]:.1e} before any difference of their fills."
    else:
        told = f"; {sum(known.values())} differences follow from {', '.join(sorted(known))}" if known else ""
        agreed = f"{check.matched} of {check.fills['tradelib']} fills"
        words = f"backtrader, on the same decisions, agrees on {agreed}{told}."
    return judge("engine_crosscheck", "safety", figure, "==", 0, words, evidence)


def runner_support(rule: DecisionRule) -> GateResult:
    """The runner can do everything that the rule asks for."""
    try:
        check_supported(rule)
    except BundleError as error:
        return judge("runner_support", "safety", 1, "==", 0, str(error))
    return judge("runner_support", "safety", 0, "==", 0, "The runner acts on everything that the rule consists of.")


def bundle_integrity(bundle: str | os.PathLike[str], trust: TrustStore) -> GateResult:
    """The bundle on the disk is complete, unaltered, and signed by a key in `trust`."""
    problems = [problem._asdict() for problem in verify_bundle(bundle, trust).problems]
    words = "Every file of the bundle is what was signed, by a trusted key."
    if problems:
        words = f"The bundle has {len(problems)} problem{'s' if len(problems) > 1 else ''}: {problems[0]['message']}"
    return judge("bundle_integrity", "safety", len(problems), "==", 0, words, {"problems": problems})


# Evidence gates ------------------------------------------------------------------------------------------------------


def out_of_sample_sharpe(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio on bars that research never saw: `out_of_sample_sharpe`."""
    figure, least = _figure(figures, "out_of_sample_sharpe"), thresholds.minimum_out_of_sample_sharpe
    words = _sentence(
        figure,
        lambda value: (
            f"Out of sample the annualised Sharpe ratio is {value:.2f}; at least {least:.2f} is demanded"
            + (
                f" (in sample it was {figures['in_sample_sharpe']:.2f})."
                if _number(figures, "in_sample_sharpe")
                else "."
            )
        ),
        "The out-of-sample Sharpe ratio is undefined: the strategy did not trade there, or its returns never vary.",
    )
    evidence = {name: figures.get(name) for name in ("in_sample_sharpe", "out_of_sample_observations")}
    return judge("out_of_sample_sharpe", "evidence", figure, ">=", least, words, evidence)


def deflated_sharpe(figures: Mapping[str, Any], thresholds: Thresholds, counted: int = 0) -> GateResult:
    """Deflated Sharpe ratio `deflated_sharpe`, a probability, with the ledger's count of `trials`.

    `counted`: how many trials the project's own ledger has of this question; figures of fewer are no evidence.
    """
    least = thresholds.minimum_deflated_sharpe
    trials, probability = _figure(figures, "trials"), _figure(figures, "deflated_sharpe")
    figure = probability if trials is not None and trials >= 1 else None
    undefined = "The deflated Sharpe ratio is undefined: too few or constant returns."
    if figure is None and probability is not None:
        undefined = "The number of trials is unknown, so no Sharpe ratio can be deflated: record trials in the ledger."
    if figure is not None and trials is not None and trials < counted:
        figure = None
        undefined = (
            f"The figures were deflated by {trials:.0f} trials, but the project's ledger has {counted} of this market: "
            "the deflated Sharpe ratio is undefined until it is computed with all of them."
        )
    words = _sentence(
        figure,
        lambda value: (
            f"After {trials:.0f} counted trial{'' if trials == 1 else 's'} the confidence that the Sharpe ratio is "
            f"more than the luck of the best one is {value:.1%}; at least {least:.1%} is demanded."
        ),
        undefined,
    )
    return judge("deflated_sharpe", "evidence", figure, ">=", least, words, {"trials": figures.get("trials")})


def _counted(candidate: Candidate) -> int:
    """Trials of the candidate's market in the project's ledger; 0 where there is none."""
    path = project_home(create=False) / "trials.sqlite"
    if not path.exists():
        return 0
    name, attrs = type(candidate.rule.strategy).__name__, candidate.bars.attrs
    return TrialLedger(path).summary(family_of(name, attrs["symbol"], attrs["timeframe"])).count


def number_of_trades(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Closed trades that the figures rest on: `trades`."""
    figure, least = _figure(figures, "trades"), thresholds.minimum_trades
    words = _sentence(
        figure,
        lambda value: f"The figures rest on {value:.0f} closed trades; at least {least} are demanded.",
        "The number of trades is unknown.",
    )
    return judge("number_of_trades", "evidence", figure, ">=", least, words)


def drawdown(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Deepest fall from a peak, `maximum_drawdown` (a fraction; its sign does not matter)."""
    given, most = _figure(figures, "maximum_drawdown"), thresholds.maximum_drawdown
    figure = None if given is None else abs(given)
    words = _sentence(
        figure,
        lambda value: f"The deepest drawdown is {value:.1%}; at most {most:.1%} is allowed.",
        "The maximum drawdown is undefined.",
    )
    return judge("drawdown", "evidence", figure, "<=", most, words)


def cost_stress(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio `stressed_sharpe`, with all costs times `cost_stress_multiple`."""
    least, multiple = thresholds.minimum_stressed_sharpe, thresholds.cost_stress_multiple
    applied, stressed = _figure(figures, "cost_stress_multiple"), _figure(figures, "stressed_sharpe")
    figure = stressed if applied is not None and applied >= multiple else None
    undefined = "The Sharpe ratio under stressed costs is undefined."
    if stressed is not None and figure is None:
        shown = "an unknown multiple of" if applied is None else f"{applied:g} times"
        undefined = (
            f"Costs were stressed at {shown} the normal ones, but {multiple:g} times is demanded: evaluate again."
        )
    words = _sentence(
        figure,
        lambda value: (
            f"At {applied:g} times the costs the Sharpe ratio is {value:.2f}; at least {least:.2f} is demanded."
        ),
        undefined,
    )
    return judge("cost_stress", "evidence", figure, ">=", least, words, {"cost_stress_multiple": applied})


def _figure(figures: Mapping[str, Any], name: str) -> float | None:
    """The figure called `name` as a float, None where it is missing, not a number, NaN or infinite."""
    value = figures.get(name)
    return float(value) if value is not None and not isinstance(value, str) and _defined(value) else None


def _number(figures: Mapping[str, Any], name: str) -> bool:
    return _figure(figures, name) is not None


def _sentence(figure: float | None, defined: Callable[[float], str], undefined: str) -> str:
    return undefined if figure is None else defined(figure)


# The registry --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """Everything that gates look at.

    `bars`: the research bars. `quality`: `QualityReport.to_dict()`. `proof`: what `prove_causality` returned, or its
    `to_dict()`. `figures`: `out_of_sample_sharpe`, `in_sample_sharpe`, `deflated_sharpe`, `trials`, `trades`,
    `maximum_drawdown`, `stressed_sharpe`, `cost_stress_multiple`; NaN or None where undefined. `execution`: costs,
    cash and market, by the names of a bundle's execution.
    """

    rule: DecisionRule
    bars: pd.DataFrame
    quality: Mapping[str, Any]
    proof: CausalityProof | Mapping[str, Any]
    figures: Mapping[str, Any]
    execution: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """A named gate: `check(candidate, thresholds) -> GateResult` of the same name and tier."""

    name: str
    tier: Tier
    check: Callable[[Candidate, Thresholds], GateResult]


_BUILT_IN = (
    Gate("data_quality", "safety", lambda candidate, _: data_quality(candidate.quality, candidate.bars)),
    Gate("causality", "safety", lambda candidate, _: causality(candidate.proof, candidate.bars)),
    Gate(
        "decision_parity",
        "safety",
        lambda candidate, limits: decision_parity(candidate.rule, candidate.bars, limits.parity_window),
    ),
    Gate(
        "determinism",
        "safety",
        lambda candidate, _: determinism(candidate.rule, candidate.bars, candidate.execution),
    ),
    Gate(
        "engine_crosscheck",
        "safety",
        lambda candidate, _: engine_crosscheck(candidate.rule, candidate.bars, candidate.execution),
    ),
    Gate("runner_support", "safety", lambda candidate, _: runner_support(candidate.rule)),
    Gate("out_of_sample_sharpe", "evidence", lambda candidate, limits: out_of_sample_sharpe(candidate.figures, limits)),
    Gate(
        "deflated_sharpe",
        "evidence",
        lambda candidate, limits: deflated_sharpe(candidate.figures, limits, _counted(candidate)),
    ),
    Gate("number_of_trades", "evidence", lambda candidate, limits: number_of_trades(candidate.figures, limits)),
    Gate("drawdown", "evidence", lambda candidate, limits: drawdown(candidate.figures, limits)),
    Gate("cost_stress", "evidence", lambda candidate, limits: cost_stress(candidate.figures, limits)),
)

SAFETY_GATES = tuple(gate.name for gate in _BUILT_IN if gate.tier == "safety")
"""Safety gates of a candidate; `bundle_integrity` joins them at promotion, when there is a bundle to look at."""
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
        if gate.name in gates or gate.name == "bundle_integrity":
            raise ParameterError(
                f"entry point {entry.value!r}: there is already a gate {gate.name!r}; choose another name"
            )
        gates[gate.name] = gate
    return gates


def run_gates(candidate: Candidate, thresholds: Thresholds | None = None) -> list[GateResult]:
    """All gates on one candidate. A gate that breaks is a gate that did not pass: its error becomes the explanation."""
    limits = thresholds if thresholds is not None else Thresholds()
    gates = available_gates()
    for name in limits.additional:
        if name not in gates:
            raise ParameterError(f"additional settings for {name!r}, but there is no such gate{nearest(name, gates)}")
    return [_run(gate, candidate, limits) for gate in gates.values()]


def _run(gate: Gate, candidate: Candidate, thresholds: Thresholds) -> GateResult:
    try:
        result = gate.check(candidate, thresholds)
    except Exception as error:  # noqa: BLE001  strategies and gates of others may fail in any way: none of them passes
        words = str(error) if isinstance(error, TradelibError) else f"{type(error).__name__}: {error}"
        return _failed(gate.name, gate.tier, f"The gate could not be answered: {words}")
    if not isinstance(result, GateResult) or (result.name, result.tier) != (gate.name, gate.tier):
        return _failed(gate.name, gate.tier, "The gate did not return a GateResult of its own name and tier.")
    return result


def _failed(name: str, tier: Tier, explanation: str) -> GateResult:
    return GateResult(name, tier, None, None, "==", False, explanation)


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

    def summary(self) -> str:
        """One sentence: the permission and the failing gates with figure and threshold."""
        if self.permission == "live":
            return f"All {len(self.results)} gates passed: the candidate may trade live."
        told = "; ".join(f"{result.name.replace('_', ' ')} {_shown(result)}" for result in self.failing)
        head = "Refused, a safety gate failed" if self.permission == "none" else "Paper only"
        return f"{head}: {told}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data: permission, summary, names of failing gates, and every result."""
        return {
            "permission": self.permission,
            "summary": self.summary(),
            "failing": [result.name for result in self.failing],
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
            given.append(_failed(name, tier, "The gate was not run."))
    failed = {result.tier for result in given if not result.passed}
    permission: Literal["live", "paper", "none"] = "none" if "safety" in failed else "paper" if failed else "live"
    return Verdict(permission, tuple(given))


def _shown(result: GateResult) -> str:
    if result.threshold is None:
        return "no answer"
    return f"{_short(result.figure)}, needs {result.comparison} {_short(result.threshold)}"


def _short(figure: Figure) -> str:
    if figure is None:
        return _UNDEFINED
    return figure if isinstance(figure, str) else f"{figure:.4g}"


def _html_row(result: GateResult) -> str:
    mark, color = ("✓", "#2a7d2a") if result.passed else ("✗", "#b00020")
    bound = "" if result.threshold is None else f" {result.comparison} {_short(result.threshold)}"
    cells = [result.name, result.tier, f"{_short(result.figure)}{bound}", result.explanation]
    texts = "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in cells)
    return f"<tr><td style='color:{color}'>{mark}</td>{texts}</tr>"
