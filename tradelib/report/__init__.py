"""Pages for people: tear sheet, quantstats report, and the verdict at the end of the pipeline. All work offline."""

from importlib import import_module
from typing import Any

_HOMES = {
    "TearSheet": "sheet",
    "VerdictData": "verdict_data",
    "quantstats_report": "quantstats_page",
    "save_verdict_page": "verdict",
    "tear_sheet": "sheet",
    "verdict_page": "verdict",
}

__all__ = ["TearSheet", "VerdictData", "quantstats_report", "save_verdict_page", "tear_sheet", "verdict_page"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
