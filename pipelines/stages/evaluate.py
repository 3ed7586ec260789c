"""Judge the chosen rule on data that research never saw, under higher costs, and by a choice made anew in each window.

These three evaluations are counted. The other figures, such as the break-even of costs, run again what was chosen.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from pipelines.artifacts import artifact, read_json, write_json
from pipelines.params import Params
from pipelines.setting import Setting, chosen_rule, setting
from tradelib.backtest.engine import evaluate, run
from tradelib.backtest.result import Result
from tradelib.backtest.trials import TrialLedger
from tradelib.backtest.wiring import trial_of
from tradelib.data.files import replace_file
from tradelib.promotion.evidence import Study, evidence_figures

SECTIONS = ("windows", "costs", "account", "strategies", "evidence", "gates")


def main(params: Params, candidate: str) -> None:
    """Write `metrics.json` (by window), `evidence.json` (figures of the gates) and `series.csv` (equity per bar)."""
    here, rule, windows = setting(params, candidate), chosen_rule(candidate), params.windows
    multiple = params.gates.cost_stress_multiple
    stressed = {**here.account, "costs": here.costs.times(multiple)}
    unseen = {"start": windows.out_of_sample.start, "end": windows.out_of_sample.end}
    first = read_json(artifact("research", candidate, "rule.json"))["start"]
    results = {
        "in_sample": evaluate(rule, here.bars, start=first, end=windows.in_sample.end, **here.account),
        "out_of_sample": run(rule, here.bars, **unseen, **here.account),
        "stressed": run(rule, here.bars, **unseen, **stressed),
    }
    figures: dict[str, Any] = {name: result.metrics for name, result in results.items()}
    write_json(artifact("evaluate", candidate, "metrics.json"), {**figures, "cost_stress_multiple": multiple})
    evidence = evidence_figures(_study(params, candidate, here))
    TrialLedger().record(evidence.trials)
    write_json(artifact("evaluate", candidate, "evidence.json"), evidence.figures)
    counted = [*(trial_of(results[name]) for name in ("out_of_sample", "stressed")), *evidence.trials]
    write_json(artifact("evaluate", candidate, "trials.json"), {"trials": [asdict(trial) for trial in counted]})
    series = pd.concat([_series(name, results[name]) for name in ("in_sample", "out_of_sample")])
    replace_file(artifact("evaluate", candidate, "series.csv"), series.to_csv(index=False).encode())


def _study(params: Params, candidate: str, here: Setting) -> Study:
    """The candidate as research left it: rule, swept points, windows and account."""
    swept = read_json(artifact("research", candidate, "sweep.json"))
    unseen = params.windows.out_of_sample
    return Study(
        rule=chosen_rule(candidate),
        bars=here.bars,
        points=pd.DataFrame(swept["points"]),
        axes=tuple(swept["axes"]),
        start=read_json(artifact("research", candidate, "rule.json"))["start"],
        in_sample_end=params.windows.in_sample.end,
        unseen=(unseen.start, unseen.end),
        by=params.strategies[candidate].select_by,
        settings=params.evidence,
        **here.account,
    )


def _series(window: str, result: Result) -> pd.DataFrame:
    frame = result.to_frame()[["close", "target_weight", "equity", "return", "drawdown"]]
    frame.insert(0, "time", [time.isoformat() for time in frame.index])
    frame.insert(1, "window", window)
    return frame
