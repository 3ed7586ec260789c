"""Pages for people: tear sheet, quantstats report, and the verdict at the end of the pipeline. All work offline."""

from tradelib._lazy import attach

_HOMES = {
    "TearSheet": "sheet",
    "VerdictData": "verdict_data",
    "quantstats_report": "quantstats_page",
    "save_verdict_page": "verdict",
    "tear_sheet": "sheet",
    "verdict_page": "verdict",
}

__all__ = ["TearSheet", "VerdictData", "quantstats_report", "save_verdict_page", "tear_sheet", "verdict_page"]

__getattr__, __dir__ = attach(__name__, _HOMES)
