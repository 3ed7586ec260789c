"""Tear sheets of the evaluation: the project's own page and quantstats', both self-contained."""

from __future__ import annotations

from pipelines.artifacts import artifact
from pipelines.params import Params
from pipelines.setting import chosen_rule, setting
from tradelib.backtest.engine import evaluate
from tradelib.report.quantstats_page import quantstats_report
from tradelib.report.sheet import tear_sheet

SECTIONS = ("windows", "costs", "account", "strategies")


def main(params: Params, candidate: str) -> None:
    """Write `tear_sheet.html` and `quantstats.html` of the rule on the window that research did not see."""
    here, window = setting(params, candidate), params.windows.out_of_sample
    result = evaluate(chosen_rule(candidate), here.bars, start=window.start, end=window.end, **here.account)
    title = f"{candidate}, out of sample"
    hold = here.bars["close"].pct_change().loc[result.index[0] : result.index[-1]]
    artifact("report", candidate).mkdir(parents=True, exist_ok=True)
    tear_sheet(result, title=title).save(artifact("report", candidate, "tear_sheet.html"))
    quantstats_report(result, artifact("report", candidate, "quantstats.html"), hold, title=title)
