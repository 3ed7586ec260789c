"""The quality report as a page: plain HTML and SVG, no script, no request to anywhere.

`page` makes the whole document, `fragment` its upper part for a notebook. Both are functions of the report alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from tradelib.data.evidence import Gap
    from tradelib.data.quality import Finding, QualityReport

__all__ = ["fragment", "page"]

_WIDTH, _HEIGHT = 960, 180
_FAMILIES = ("shape", "completeness", "time", "prices", "volume", "calendar", "outliers", "staleness")
_MOST_GAPS = 40

_STYLE = """
.tlq{--ink:#1d2430;--soft:#5c6675;--line:#dfe3ea;--back:#fff;--tint:#f6f7f9;
 --good:#1a7f4b;--bad:#c0362c;--warn:#a66300;
 font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 color:var(--ink);background:var(--back);
 max-width:1000px;margin:0 auto;padding:8px 20px 24px}
.tlq *{box-sizing:border-box}
.tlq h1{font-size:22px;margin:12px 0 2px;font-weight:650}
.tlq h2{font-size:15px;margin:26px 0 8px;font-weight:650}
.tlq .lead{color:var(--soft);margin:0 0 14px}
.tlq .verdict{display:flex;gap:14px;align-items:baseline;border-left:5px solid var(--good);background:var(--tint);
 padding:10px 14px;margin:14px 0}
.tlq .verdict.refused{border-color:var(--bad)}
.tlq .verdict.warned{border-color:var(--warn)}
.tlq .verdict b{font-size:17px}
.tlq .facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px 18px;margin:0 0 6px}
.tlq .facts div{min-width:0}
.tlq .facts .wide{grid-column:1/-1}
.tlq dt{color:var(--soft);font-size:12px}
.tlq dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.tlq table{border-collapse:collapse;width:100%;font-size:13px;margin:0}
.tlq th{text-align:left;font-weight:600;color:var(--soft);font-size:12px;padding:5px 8px;
 border-bottom:1px solid var(--line)}
.tlq td{text-align:left;border-bottom:1px solid var(--line);padding:5px 8px;vertical-align:top;background:none}
.tlq td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
.tlq tr.family td{background:var(--tint);color:var(--soft);font-size:12px;font-weight:600;padding:4px 8px}
.tlq .mark{display:inline-block;min-width:66px;text-align:center;border-radius:3px;font-size:11.5px;font-weight:600;
 padding:1px 7px;color:#fff;background:var(--good)}
.tlq .critical{background:var(--bad)} .tlq .warning{background:var(--warn)}
.tlq .pass{color:var(--good);background:none;border:1px solid #b9d9c8}
.tlq .meaning{color:var(--soft)}
.tlq .sample{font:12px/1.55 ui-monospace,"DejaVu Sans Mono",Menlo,monospace;color:var(--ink);margin:3px 0 0;
 white-space:pre-wrap}
.tlq svg{display:block;width:100%;height:auto;background:var(--tint)}
.tlq .axis{display:flex;justify-content:space-between;color:var(--soft);font-size:12px;margin-top:3px}
.tlq footer{color:var(--soft);font-size:12px;margin-top:26px;border-top:1px solid var(--line);padding-top:8px}
@media print{.tlq{max-width:none}.tlq tr{break-inside:avoid}}
"""


def page(report: QualityReport) -> str:
    """The whole document of `report`."""
    title = escape(f"Data quality: {report.symbol} {report.timeframe}")
    note = (
        "Critical expectations decide the verdict; warnings are for the reader. Thresholds: "
        + ", ".join(f"{name} {value:g}" for name, value in report.rules.model_dump().items())
        + ". Judged by Great Expectations on the calendar named above."
    )
    body = _head(report) + _picture(report) + _failed(report) + _gaps(report.gaps) + _all(report)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>body{{margin:0}}{_STYLE}</style></head>"
        f'<body><main class="tlq">{body}<footer>{escape(note)}</footer></main></body></html>\n'
    )


def fragment(report: QualityReport) -> str:
    """Verdict, picture, failures and gaps: what a notebook shows."""
    body = _head(report) + _picture(report) + _failed(report) + _gaps(report.gaps)
    return f'<style>{_STYLE}</style><div class="tlq">{body}</div>'


def _head(report: QualityReport) -> str:
    failed = report.failed()
    critical = sum(item.severity == "critical" for item in failed)
    warnings = len(failed) - critical
    word = "Refused" if critical else "Good, with warnings" if warnings else "Good"
    kind = "refused" if critical else "warned" if warnings else "good"
    counts = f"{len(report.findings)} expectations: {len(report.findings) - len(failed)} passed, "
    counts += f"{critical} critical failed, {_count(warnings, 'warning')}"
    missing = sum(gap.bars for gap in report.gaps)
    facts = {
        "symbol": report.symbol,
        "timeframe": report.timeframe,
        "calendar": report.calendar,
        "source": report.source,
        "bars": f"{report.bars:,}",
        "missing": f"{_count(missing, 'bar')} in {_count(len(report.gaps), 'gap')}" if missing else "none",
        "first open (UTC)": _moment(report.first),
        "last open (UTC)": _moment(report.last),
        "seen at (UTC)": _moment(report.as_of) if report.as_of else "freshness not checked",
    }
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    digest = report.digest or "none: the rows break the bars contract, or were not made by make_bars"
    cells += f'<div class="wide"><dt>content digest (SHA-256)</dt><dd>{escape(digest)}</dd></div>'
    return (
        f"<h1>Data quality: {escape(report.symbol)} {escape(report.timeframe)}</h1>"
        f'<div class="verdict {kind}"><b>{word}</b><span>{counts}</span></div><dl class="facts">{cells}</dl>'
    )


def _moment(text: str | None) -> str:
    return "unknown" if text is None else text.replace("T", " ").removesuffix("+00:00").removesuffix(":00")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _picture(report: QualityReport) -> str:
    """Range of prices over time on a log scale; gaps shaded."""
    points = report.picture
    if len(points) < 2:
        return ""
    low, high = min(p[1] for p in points), max(p[2] for p in points)
    span = math.log(high / low) or 1.0

    def y(price: float) -> float:
        return round(_HEIGHT - 12 - math.log(price / low) / span * (_HEIGHT - 24), 1)

    step = min(b[0] - a[0] for a, b in pairwise(points)) * _WIDTH
    bars = "".join(f"M{x * _WIDTH:.1f} {y(b):.1f}V{max(y(a), y(b) + 1.2):.1f}" for x, a, b in points)
    name = "Lowest and highest price over time, logarithmic scale" + (", gaps shaded" if report.gaps else "")
    return (
        f"<h2>{name}</h2>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{_shades(report)}'
        f'<path d="{bars}" stroke="#3b5b92" stroke-width="{max(step * 0.8, 0.8):.1f}" fill="none"/>'
        f'<text x="6" y="14" font-size="11" fill="#5c6675">{high:,.6g}</text>'
        f'<text x="6" y="{_HEIGHT - 4}" font-size="11" fill="#5c6675">{low:,.6g}</text></svg>'
        f'<div class="axis"><span>{_moment(report.first)}</span><span>{_moment(report.last)}</span></div>'
    )


def _shades(report: QualityReport) -> str:
    start, end = pd.Timestamp(str(report.first)), pd.Timestamp(str(report.last))
    length = (end - start) / pd.Timedelta("1s") or 1.0
    widest = sorted(report.gaps, key=lambda gap: -gap.bars)[:200]
    rectangles = []
    for gap in widest:
        x = (pd.Timestamp(gap.first) - start) / pd.Timedelta("1s") / length * _WIDTH
        width = (pd.Timestamp(gap.last) - pd.Timestamp(gap.first)) / pd.Timedelta("1s") / length * _WIDTH
        rectangles.append(
            f'<rect x="{x:.1f}" y="0" width="{max(width, 1.5):.1f}" height="{_HEIGHT}" fill="#e9a29c" opacity=".75"/>'
        )
    return "".join(rectangles)


def _failed(report: QualityReport) -> str:
    failed = report.failed()
    if not failed:
        return "<h2>Nothing failed</h2>"
    return f"<h2>What failed</h2>{_table(failed, samples=True)}"


def _all(report: QualityReport) -> str:
    rows = []
    for family in _FAMILIES:
        items = [item for item in report.findings if item.family == family]
        if items:
            rows.append(f'<tr class="family"><td colspan="5">{family}</td></tr>{_rows(items, samples=False)}')
    return f"<h2>All expectations</h2><table>{_HEADER}{''.join(rows)}</table>"


_HEADER = "<tr><th>result</th><th>expectation</th><th>observed</th><th>allowed</th><th>severity</th></tr>"


def _table(findings: Iterable[Finding], *, samples: bool) -> str:
    return f"<table>{_HEADER}{_rows(findings, samples=samples)}</table>"


def _rows(findings: Iterable[Finding], *, samples: bool) -> str:
    lines = []
    for item in findings:
        mark = "pass" if item.passed else item.severity
        word = "passed" if item.passed else "failed" if item.severity == "critical" else "warning"
        observed = (
            ""
            if item.observed is None
            else item.observed
            if isinstance(item.observed, str)
            else f"{item.observed:,.6g}"
        )
        shown = "\n".join(item.sample) if samples else ""
        if shown and item.offending > len(item.sample):
            shown += f"\n… {item.offending - len(item.sample):,} more"
        sample = f'<div class="sample">{escape(shown)}</div>' if shown else ""
        meaning = f'{"<br>" if samples else ": "}<span class="meaning">{escape(item.meaning)}</span>'
        lines.append(
            f'<tr><td><span class="mark {mark}">{word}</span></td><td>{escape(item.name)}{meaning}{sample}</td>'
            f'<td class="n">{escape(observed)}</td><td>{escape(item.allowed)}</td><td>{item.severity}</td></tr>'
        )
    return "".join(lines)


def _gaps(gaps: tuple[Gap, ...]) -> str:
    if not gaps:
        return ""
    widest = sorted(gaps, key=lambda gap: (-gap.bars, gap.first))[:_MOST_GAPS]
    rows = "".join(
        f'<tr><td class="n">{_moment(gap.first)}</td><td class="n">{_moment(gap.last)}</td>'
        f'<td class="n">{gap.bars:,}</td></tr>'
        for gap in sorted(widest, key=lambda gap: gap.first)
    )
    which = f"the {_MOST_GAPS} longest of {len(gaps):,}" if len(gaps) > _MOST_GAPS else "all of them"
    return (
        f"<h2>Gaps ({which})</h2><table><tr><th>first missing open (UTC)</th><th>last missing open (UTC)</th>"
        f"<th>bars</th></tr>{rows}</table>"
    )
