"""Safety gates: is the machinery right? One failure and nothing trades; they have no threshold and no switch.

Good data, no look-ahead, a measured warm-up, the same decisions bar by bar, twice, on one core and on two, and in an
engine of others; a lock that names what is installed; a bundle that is intact and can be built again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tradelib._jit import compiling, interpreted
from tradelib.backtest.auditing import AccountAudit, audit_account
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.crosscheck import CrossCheck, crosscheck, terms_of
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.backtest.machine import Simulation
from tradelib.backtest.result import Result
from tradelib.bundle import TrustStore, verify_bundle
from tradelib.bundle.execution import NEEDS, PROVIDES, needs_of
from tradelib.data.bars import content_digest
from tradelib.data.files import write_bars
from tradelib.errors import ParameterError, PromotionError
from tradelib.promotion.gate_result import GateResult, judge
from tradelib.promotion.licences import is_allowed, licence_of

if TYPE_CHECKING:
    from tradelib.validation.causality import CausalityProof

__all__ = [
    "bundle_integrity",
    "bundle_reproducible",
    "causality",
    "core_determinism",
    "data_quality",
    "decision_parity",
    "dependency_audit",
    "determinism",
    "engine_crosscheck",
    "runner_support",
    "warm_up",
]


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


def warm_up(rule: DecisionRule, bars: pd.DataFrame, execution: Mapping[str, Any] | None = None) -> GateResult:
    """The least history is the measured one: with exactly so many bars the rule decides, with one less it does not.

    Measured on probe bars, as the bundle states it, and tried on stretches of `bars` with interpreted kernels, as the
    runner runs them. Every stretch must be long enough; one bar less must be too short for at least one of them (what
    waits for the end of a week needs less where a stretch begins late in one). The figure counts what is wrong.
    """
    with interpreted():
        needed = rule.warmup_on(str(bars.attrs["timeframe"]))
        starts = _stretches(len(bars), needed)
        short = [start for start in starts if not _decides(rule, bars.iloc[start : start + needed])]
        spare = [start for start in starts if needed > 1 and _decides(rule, bars.iloc[start : start + needed - 1])]
    declared = (execution or {}).get("warmup", needed)
    wrong = [
        *(f"{needed} bars from {bars.index[start].isoformat()} on give no decision" for start in short),
        *([f"{needed - 1} bars are enough on all {len(starts)} stretches"] if starts and spare == starts else []),
        *([f"the account is told a warm-up of {declared!r} bars"] if declared != needed else []),
    ]
    figure: int | None = len(wrong) if starts else None
    words = f"The rule needs {needed} bars: on {len(starts)} stretches of the history it decides with {needed}"
    words += f" and not with {needed - 1}." if needed > 1 else "."
    if not starts:
        words = f"The rule needs {needed} bars, and there are {len(bars)}: give it more history."
    elif wrong:
        words = f"The warm-up of {needed} bars, measured on probe bars, is not that of these bars: {wrong[0]}."
    return judge(
        "warm_up", "safety", figure, "==", 0, words, {"warmup": needed, "stretches": len(starts), "wrong": wrong}
    )


def _stretches(count: int, needed: int) -> list[int]:
    """First rows of stretches to try: seven in a row, which begin on each day of a week, and six spread evenly."""
    last = count - needed
    spread = (last * part // 5 for part in range(6))
    return sorted({row for row in (*range(7), *spread) if 0 <= row <= last})


def _decides(rule: DecisionRule, bars: pd.DataFrame) -> bool:
    return bool(np.isfinite(rule.decisions(bars.copy())["target_weight"].iloc[-1]))


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

    `execution` names cash, costs and market as a bundle does: every field of `Costs` and `Market`.
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


_ON_CORES = """
import importlib, hashlib, json, os, sys
cores = int(sys.argv[2])
with open(sys.argv[1], encoding="utf-8") as file:
    asked = json.load(file)
sys.path[:] = asked["path"]
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
os.cpu_count = lambda: cores
import tradelib._threads
tradelib._threads.WORTHWHILE = 1
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.data.files import read_bars
for name in asked["modules"]:
    importlib.import_module(name)
rule, bars = DecisionRule.from_config(asked["rule"]), read_bars(asked["bars"])
decided = rule.decisions(bars)
result = replay(rule, bars, costs=Costs(**asked["costs"]), market=Market(**asked["market"]), cash=asked["cash"])
parts = {name: decided[name].to_numpy(copy=True) for name in decided}
for values in parts.values():
    values[values != values] = float("nan")
parts |= {name: getattr(result.simulation, name) for name in ("equity", "orders", "fills", "entries")}
told = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in parts.items()}
sys.stdout.write(json.dumps(told))
"""
_PATIENCE = 600.0  # seconds
_CORES = (1, 2)


def core_determinism(rule: DecisionRule, bars: pd.DataFrame, execution: Mapping[str, Any] | None = None) -> GateResult:
    """Two fresh processes, one on one core and one on two, decide and account to the same bits.

    They differ in their cores, in the threads of every numeric library, and in the seed of Python's hashes, by which
    sets are ordered. The second uses its second thread at any length of the data. `execution` as in `determinism`.
    """
    homes = {type(part).__module__ for part in (rule.strategy, rule.sizing)}
    if "__main__" in homes:
        words = "The strategy is defined in this session, and no other process can run it: export it from a notebook."
        return judge("core_determinism", "safety", None, "==", 0, words)
    with tempfile.TemporaryDirectory(prefix="tradelib-cores-") as folder:
        write_bars(bars, bars_file := Path(folder) / "bars.parquet")
        asked = {"bars": str(bars_file), "rule": rule.to_config(), "modules": sorted(homes), **_terms(execution or {})}
        question = Path(folder) / "question.json"
        question.write_text(json.dumps(asked), encoding="utf-8")
        one, two = _ask_on_cores(question)
    differing = [name for name in one if one[name] != two.get(name)]
    words = f"On one core and on two, {len(one)} parts of decisions and account have the same bits."
    if differing:
        words = f"On one core and on two the results differ ({', '.join(differing)}): a rule may not ask where it runs."
    evidence = {"parts": sorted(one), "differing": differing, "cores": list(_CORES)}
    return judge("core_determinism", "safety", len(differing) if one else None, "==", 0, words, evidence)


def _terms(execution: Mapping[str, Any]) -> dict[str, Any]:
    account = _account(execution)
    plain = {name: account[name].model_dump(mode="json") for name in ("costs", "market")}
    return {**plain, "cash": account["cash"], "path": sys.path}


def _ask_on_cores(question: Path) -> list[dict[str, str]]:
    """What each process found, by part; both run at the same time."""
    begun = [_begin(question, cores) for cores in _CORES]
    try:
        return [_answer(process, cores) for process, cores in zip(begun, _CORES, strict=True)]
    finally:
        for process in begun:
            process.kill()
            process.communicate()


def _begin(question: Path, cores: int) -> subprocess.Popen[str]:
    threads = {f"{library}_NUM_THREADS": str(cores) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    environment = {**os.environ, **threads, "PYTHONHASHSEED": str(cores)}
    command = [sys.executable, "-c", _ON_CORES, str(question), str(cores)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _answer(process: subprocess.Popen[str], cores: int) -> dict[str, str]:
    told, wrong = process.communicate(timeout=_PATIENCE)
    if process.returncode != 0:
        last = (wrong.strip().splitlines() or ["no message"])[-1]
        raise PromotionError(f"a process on {cores} core{'s' * (cores > 1)} could not run the rule: {last}")
    found: dict[str, str] = json.loads(told)
    return found


_CASH = 100_000.0


def _account(execution: Mapping[str, Any]) -> dict[str, Any]:
    """Costs, market and cash as a bundle's execution names them, all of them; what it leaves out has its default."""
    costs, market = (
        kind(**{name: execution[name] for name in kind.model_fields if name in execution}) for kind in (Costs, Market)
    )
    return {"costs": costs, "market": market, "cash": float(execution.get("cash", _CASH))}


def _evaluated(rule: DecisionRule, bars: pd.DataFrame, account: Mapping[str, Any]) -> Result:
    return replay(rule, bars, **account)


def _backtest(rule: DecisionRule, bars: pd.DataFrame, account: Mapping[str, Any]) -> Simulation:
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

    `execution` as in `determinism`. What backtrader has no counterpart for is left out where the account is the same
    without it, to the last bit. Where it is not, backtrader is asked about the plain account of the decisions, and the
    whole account must pass `audit_account`: every row against the conventions, without the engine. The figure counts
    differences that no known convention produces, and problems of the audit.
    """
    compared = _crosschecked(rule, bars, _account(execution or {}))
    check, audit, beyond = compared.check, compared.audit, compared.beyond
    known = {str(name): int(count) for name, count in check.differences["convention"].value_counts().items() if name}
    evidence: dict[str, Any] = {"fills": check.fills, "matched": check.matched, "explained": known}
    evidence |= {"largest_difference": check.largest[1], "without_effect": [] if audit else list(beyond)}
    evidence["audited"] = _audited(audit, beyond) if audit else None
    figure = check.unexplained if check.passed or check.unexplained else None
    words = _compared_words(check, known, "the same decisions, traded plainly" if audit else "the same decisions")
    if audit is not None:
        figure = None if figure is None else figure + len(audit.problems)
        words += f" {_audit_words(audit, beyond)}"
    return judge("engine_crosscheck", "safety", figure, "==", 0, words, evidence)


def _compared_words(check: CrossCheck, known: Mapping[str, int], what: str) -> str:
    """What the two engines made of the same decisions."""
    open_ones = check.differences[check.differences["convention"] == ""]
    if len(open_ones):
        first = open_ones.iloc[0]
        words = f"Two engines disagree on {len(open_ones)} points that no convention explains. First: {first['what']} "
        words += f"at {first['time'].isoformat()} is {first['tradelib']!r} here, {first['backtrader']!r} in backtrader."
        return words
    if not check.passed:
        return f"The equity of two engines differs by {check.largest[1]:.1e} before any difference of their fills."
    told = f"; {sum(known.values())} differences follow from {', '.join(sorted(known))}" if known else ""
    return f"backtrader, on {what}, agrees on {check.matched} of {check.fills['tradelib']} fills{told}."


def _audit_words(audit: AccountAudit, beyond: Sequence[str]) -> str:
    """What the audit says about the account with all that backtrader does not know."""
    count = len(audit.problems)
    told = f"all {audit.fills} fills follow the conventions"
    if not audit.passed:
        told = f"has {count} problem{'s' * (count > 1)}, first {audit.problems[0]}".rstrip(".")
    return f"It knows no {', '.join(beyond)}: the account with them was audited, and {told}."


def _audited(audit: AccountAudit, beyond: Sequence[str]) -> dict[str, Any]:
    counts = {name: getattr(audit, name) for name in ("bars", "orders", "fills", "entries")}
    return {"beyond_backtrader": list(beyond), **counts, "problems": [str(problem) for problem in audit.problems[:20]]}


_COMPARABLE = {"costs": ("fee_rate", "slippage", "spread"), "market": tuple(Market.model_fields)[:3]}


class _Compared(NamedTuple):
    """The comparison; what was left out of it; and the audit of the account with it, where it made a difference."""

    check: CrossCheck
    beyond: list[str]
    audit: AccountAudit | None


def _crosschecked(rule: DecisionRule, bars: pd.DataFrame, account: Mapping[str, Any]) -> _Compared:
    whole = _evaluated(rule, bars, account)
    try:
        return _Compared(crosscheck(whole), [], None)
    except ParameterError:
        costs, market = (_only(account[name], _COMPARABLE[name]) for name in ("costs", "market"))
    plain_rule = rule.replace(scale_in=None, limits=None)
    try:
        terms_of(replace(whole, rule=plain_rule, costs=costs, market=market))
    except ParameterError:
        plain_rule = plain_rule.replace(exits=None)
    plain = _evaluated(plain_rule, bars, {**account, "costs": costs, "market": market})
    pairs = ((rule, plain_rule), (account["costs"], costs), (account["market"], market))
    beyond = [name for one, other in pairs for name in _differing(one, other)]
    differs = any(where for _, where in _account_pairs("", whole.simulation, plain.simulation))
    return _Compared(crosscheck(plain), beyond, audit_account(whole) if differs else None)


def _only(settings: Any, names: Sequence[str]) -> Any:
    """The same kind of settings with these fields, the others at their defaults."""
    return type(settings)(**{name: getattr(settings, name) for name in names})


def _differing(one: Any, other: Any) -> list[str]:
    return [name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)]


def runner_support(
    rule: DecisionRule, execution: Mapping[str, Any] | None = None, bars: pd.DataFrame | None = None
) -> GateResult:
    """The runner can do everything that rule and account ask for: what a bundle of them `needs`, it `PROVIDES`.

    `execution` as in `determinism`. The decisions on `bars` show whether the rule goes short.
    """
    weights = [] if bars is None else rule.weights(bars)[1].tolist()
    decisions = [{"target_weight": weight} for weight in weights]
    needed = needs_of(rule, _account(execution or {})["market"], decisions)
    missing = [name for name in needed if name not in PROVIDES]
    words = "The runner acts on everything that the rule consists of."
    if missing:
        told = "; ".join(f"{name} ({NEEDS[name]})" for name in missing)
        words = f"The runner cannot do {told}: it would hold something else than research."
    evidence = {"needs": list(needed), "missing": missing}
    return judge("runner_support", "safety", len(missing), "==", 0, words, evidence)


def bundle_integrity(bundle: str | os.PathLike[str], trust: TrustStore) -> GateResult:
    """The bundle on the disk is complete, unaltered, and signed by a key in `trust`."""
    problems = [problem._asdict() for problem in verify_bundle(bundle, trust).problems]
    words = "Every file of the bundle is what was signed, by a trusted key."
    if problems:
        words = f"The bundle has {len(problems)} problem{'s' if len(problems) > 1 else ''}: {problems[0]['message']}"
    return judge("bundle_integrity", "safety", len(problems), "==", 0, words, {"problems": problems})


def bundle_reproducible(build: Callable[[Path], Any]) -> GateResult:
    """Two builds of the bundle, in two empty folders, are the same files with the same bytes, under the same name.

    `build(folder)` seals into the folder and returns the bundle, or its path.
    """
    with tempfile.TemporaryDirectory(prefix="tradelib-twice-") as folder:
        made = [build(Path(folder) / name) for name in ("first", "second")]
        one, other = (_files(Path(getattr(place, "path", place))) for place in made)
    differing = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    words = f"Built twice, all {len(one)} files have the same bytes."
    if differing:
        words = f"Built twice, {len(differing)} of {len({*one, *other})} files differ, first {differing[0]}."
    elif not one:
        words = "The build left no file."
    evidence = {"files": len(one), "differing": differing}
    return judge("bundle_reproducible", "safety", len(differing) if one or other else None, "==", 0, words, evidence)


def _files(root: Path) -> dict[str, str]:
    """Digest of each file below `root`, by its path from the folder around it: the bundle's name counts."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def dependency_audit(
    lock: str,
    denied: Mapping[str, Sequence[str]] | None = None,
    allowed_licences: Sequence[str] = (),
    licence: Callable[[str, str], str | None] = licence_of,
) -> GateResult:
    """Every requirement of the runner's `lock` (the text of the file) is one release of the index, with its hashes.

    No requirement without an exact version and a SHA-256, none from a repository, an address or a folder, none from
    another index, none twice, and no release in `denied`: package -> versions, "*" for all of them. With
    `allowed_licences` (SPDX identifiers), each may be used under them; `licence(package, version)` says which it has,
    as installed here. Works offline.
    """
    requirements = list(_requirements(lock))
    problems = [problem for line in requirements if (problem := _problem_of(line, denied or {}))]
    pins = [_pinned(line) for line in requirements]
    names = [name for name, _ in pins]
    problems += [f"{name} is required twice" for name in sorted({n for n in names if n and names.count(n) > 1})]
    licences = {name: licence(name, version) for name, version in pins if name and allowed_licences}
    problems += [problem for name in licences if (problem := _licence_problem(name, licences[name], allowed_licences))]
    figure: int | None = len(problems) if requirements else None
    words = f"All {len(requirements)} requirements of the runner are exact releases with hashes; none is denied"
    words += ", and each licence is allowed." if allowed_licences else "."
    if not requirements:
        words = "There is no lock of the runner to audit: make one with `make lock`."
    elif problems:
        words = f"The runner's lock has {len(problems)} problem{'s' * (len(problems) > 1)}: {problems[0]}."
    evidence = {"requirements": len(requirements), "problems": problems, "denied": dict(denied or {})}
    evidence |= {"lock": hashlib.sha256(lock.encode()).hexdigest(), "licences": licences}
    return judge("dependency_audit", "safety", figure, "==", 0, words, evidence)


def _licence_problem(package: str, licence: str | None, allowed: Sequence[str]) -> str:
    if licence is None:
        return f"the licence of {package} is not known: it is not installed here as locked, or does not say"
    try:
        return "" if is_allowed(licence, allowed) else f"{package} has the licence {licence}, which is not allowed"
    except ParameterError:
        return f"{package} has the licence {licence!r}, which nobody can read"


_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([A-Za-z0-9][A-Za-z0-9.!+_-]*)(?:\s*;.*)?")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_HARMLESS = ("--require-hashes", "--only-binary")


def _requirements(lock: str) -> Iterator[str]:
    """Logical lines of a requirements file: continued lines joined, comments left out."""
    whole = re.sub(r"(?m)(^|\s)#.*$", "", lock).replace("\\\n", " ")
    return (" ".join(line.split()) for line in whole.splitlines() if line.strip())


def _pinned(line: str) -> tuple[str, str]:
    """Name (as the index normalises it) and version of a requirement, both empty where it is no exact release."""
    found = _PIN.fullmatch(line.partition(" --hash=")[0].strip())
    return (re.sub(r"[-_.]+", "-", found[1]).lower(), found[2]) if found else ("", "")


def _problem_of(line: str, denied: Mapping[str, Sequence[str]]) -> str:
    """What is wrong with one line, in words; empty where nothing is."""
    name, version = _pinned(line)
    shown = line.partition(" --hash=")[0]
    if line.startswith("-"):
        return "" if line.startswith(_HARMLESS) else f"the option {shown!r} lets it install something else"
    if re.search(r"@|://|git\+|^\.{0,2}/|^file:|\.(?:whl|zip|tar\.gz)\b", shown):
        return f"{shown!r} is fetched from a place of its own, not from the index"
    if not name:
        return f"{shown!r} is not pinned to one version with =="
    hashes = line.split(" --hash=")[1:]
    if not hashes or not all(_HASH.fullmatch(each) for each in hashes):
        return f"{shown!r} has no SHA-256 that says which file it is"
    known = {re.sub(r"[-_.]+", "-", key).lower(): versions for key, versions in denied.items()}
    return f"{name} {version} is denied" if {"*", version} & set(known.get(name, ())) else ""
