"""Hold a market's bars against the quality rules; a critical failure ends the pipeline, with a report to read."""

from __future__ import annotations

from typing import Any

from pipelines.artifacts import artifact, write_json
from pipelines.params import Params
from tradelib.data.files import read_bars, replace_file
from tradelib.data.quality import check_quality
from tradelib.errors import DataError

SECTIONS = ("quality",)


def main(params: Params, market: str) -> None:
    """Write `quality.json` and `quality.html`; `DataError` naming the failed checks when one of them is critical."""
    report = check_quality(read_bars(artifact("data", market, "tape.parquet")), params.quality)
    write_json(artifact("quality", market, "quality.json"), report.to_dict())
    page = replace_file(artifact("quality", market, "quality.html"), report.to_html().encode())
    if not report.success:
        failed = ", ".join(_failed(report.to_dict()))
        raise DataError(f"the bars of {market} fail {failed}; see {page}, repair the source, then run again")


def _failed(report: dict[str, Any]) -> list[str]:
    """Names of the critical checks that failed."""
    return [item["name"] for item in report["findings"] if item["severity"] == "critical" and not item["passed"]]
