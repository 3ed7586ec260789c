"""Hold a candidate against every gate: safety opens paper trading, evidence opens live trading."""

from __future__ import annotations

from typing import Any

from pipelines.artifacts import artifact, read_json, root, write_json
from pipelines.params import Params
from pipelines.setting import Setting, chosen_rule, execution, setting, subject
from tradelib.backtest.engine import evaluate
from tradelib.errors import LedgerError, ParameterError
from tradelib.promotion.evidence import haircut_figures
from tradelib.promotion.gates import Candidate, run_gates, verdict
from tradelib.validation.causality import prove_causality
from tradelib.validation.sharpe import SharpeEvidence, counted_trials, deflated_sharpe

SECTIONS = ("windows", "costs", "account", "strategies", "causality", "gates")


def main(params: Params, candidate: str) -> None:
    """Write `gates.json`: every gate's result, the figures they judged, the causality proof and the verdict."""
    here, rule = setting(params, candidate), chosen_rule(candidate)
    evidence, haircut = _deflated(params, candidate, here)
    figures = _figures(candidate, evidence, haircut)
    try:
        proof = prove_causality(rule, here.bars, every=params.causality.every)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ParameterError(f"the strategy of {candidate} failed: {type(error).__name__}: {error}") from error
    quality = read_json(artifact("quality", params.strategies[candidate].market, "quality.json"))
    terms = execution(here.bars, here.costs, params.account)
    lock = (root() / "requirements" / "runner.lock").read_text(encoding="utf-8")
    judged = Candidate(rule, here.bars, quality, proof, figures, terms, lock)
    results = run_gates(judged, params.gates.for_strategy(candidate))
    outcome = verdict(results)
    write_json(
        artifact("gates", candidate, "gates.json"),
        {
            "subject": subject(rule, here),
            "gates": [result.to_dict() for result in results],
            "permission": outcome.permission,
            "summary": outcome.summary(),
            "figures": figures,
            "sharpe": evidence.to_dict(),
            "causality": proof.to_dict(),
        },
    )


def _deflated(params: Params, candidate: str, here: Setting) -> tuple[SharpeEvidence, dict[str, Any]]:
    """The in-sample Sharpe ratio of the chosen rule, deflated, and cut, by all that was tried on its market."""
    first = read_json(artifact("research", candidate, "rule.json"))["start"]
    end = params.windows.in_sample.end
    chosen = evaluate(chosen_rule(candidate), here.bars, start=first, end=end, **here.account)
    trials = counted_trials(chosen)
    told = read_json(artifact("trials", "trials.json"))[trials.family]["count"]
    if trials.count < told:
        raise LedgerError(
            f"{told} trials of {trials.family} were counted, the ledger has {trials.count}: run `dvc repro`, which "
            "counts again"
        )
    judged = deflated_sharpe(chosen, confidence=params.gates.minimum_deflated_sharpe)
    return judged, haircut_figures(chosen, trials)


def _figures(candidate: str, evidence: SharpeEvidence, haircut: dict[str, Any]) -> dict[str, Any]:
    """The figures that gates judge; drawdown and trades over what was not seen."""
    metrics, found = (read_json(artifact("evaluate", candidate, f"{name}.json")) for name in ("metrics", "evidence"))
    unseen = metrics["out_of_sample"]
    figures = {**found, **haircut, "undefined": {**found["undefined"], **haircut["undefined"]}}
    return figures | {
        "in_sample_sharpe": metrics["in_sample"]["sharpe_ratio"],
        "out_of_sample_sharpe": unseen["sharpe_ratio"],
        "out_of_sample_observations": unseen["observations"],
        "probabilistic_sharpe": evidence.probabilistic,
        "deflated_sharpe": evidence.deflated,
        "trials": evidence.trials,
        "trades": unseen["trades"],
        "maximum_drawdown": unseen["maximum_drawdown"],
        "stressed_sharpe": metrics["stressed"]["sharpe_ratio"],
        "cost_stress_multiple": metrics["cost_stress_multiple"],
    }
