"""Judge the chosen rule on data that research never saw, and under higher costs; both evaluations are counted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from pipelines.artifacts import artifact, read_json, write_json
from pipelines.params import Params
from pipelines.setting import chosen_rule, setting
from tradelib.backtest.engine import evaluate, run
from tradelib.backtest.result import Result
from tradelib.backtest.wiring import trial_of
from tradelib.data.files import replace_file

SECTIONS = ("windows", "costs", "account", "strategies", "gates")


def main(params: Params, candidate: str) -> None:
    """Write `metrics.json` (figures per window) and `series.csv` (equity and drawdown per bar)."""
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
    counted = [asdict(trial_of(results[name])) for name in ("out_of_sample", "stressed")]
    write_json(artifact("evaluate", candidate, "trials.json"), {"trials": counted})
    series = pd.concat([_series(name, results[name]) for name in ("in_sample", "out_of_sample")])
    replace_file(artifact("evaluate", candidate, "series.csv"), series.to_csv(index=False).encode())


def _series(window: str, result: Result) -> pd.DataFrame:
    frame = result.to_frame()[["close", "target_weight", "equity", "return", "drawdown"]]
    frame.insert(0, "time", [time.isoformat() for time in frame.index])
    frame.insert(1, "window", window)
    return frame
