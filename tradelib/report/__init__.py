"""Pages for people: tear sheet, verdict on a result, quantstats and pyfolio reports, and the pipeline's last page."""

from tradelib._lazy import attach

_HOMES = {
    "Assessment": "assessment",
    "AssessmentRow": "assessment",
    "TearSheet": "sheet",
    "VerdictData": "verdict_data",
    "assess": "assessing",
    "pyfolio_report": "pyfolio_page",
    "pyfolio_statistics": "pyfolio_page",
    "quantstats_report": "quantstats_page",
    "save_verdict_page": "verdict",
    "tear_sheet": "sheet",
    "verdict_page": "verdict",
}

__all__ = [
    "Assessment",
    "AssessmentRow",
    "TearSheet",
    "VerdictData",
    "assess",
    "pyfolio_report",
    "pyfolio_statistics",
    "quantstats_report",
    "save_verdict_page",
    "tear_sheet",
    "verdict_page",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
