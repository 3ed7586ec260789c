"""The last page of the pipeline: may this trade, and why, for a reader who was not there.

`verdict_page` takes plain data (`VerdictData`, JSON-able) so that any stage can fill it, and returns one self-contained
HTML page: nothing is computed here that could differ from what the gates judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tradelib.data.files import replace_file
from tradelib.errors import ParameterError
from tradelib.report.charts import HOVER
from tradelib.report.labels import LABELS, MISSING, figure, figures_table, short_digest
from tradelib.report.page import Markup, badge, card, join, page, stacked, table, tag, tiles
from tradelib.report.verdict_charts import equity_charts, evidence_chart, sweep_chart
from tradelib.report.verdict_data import CandidateData, GateRow, ParityRow, SweepData, VerdictData

__all__ = ["WINDOW_NAMES", "save_verdict_page", "verdict_page"]

WINDOW_NAMES: dict[str, str] = {"in_sample": "In sample", "out_of_sample": "Out of sample", "paper": "Paper"}
_PERMISSIONS = {
    "live": ("good", "may trade live"),
    "paper": ("warn", "paper only"),
    "none": ("bad", "may not trade"),
}


def verdict_page(verdict: VerdictData | Mapping[str, Any]) -> str:
    """The page as HTML text. `verdict` follows `VerdictData`; `ParameterError` names what is missing or misspelt."""
    data = verdict if isinstance(verdict, VerdictData) else VerdictData(**verdict)
    if not data.candidates:
        raise ParameterError("a verdict needs at least one candidate")
    overview = _overview(data) if len(data.candidates) > 1 else Markup("")
    sections = [_candidate(candidate) for candidate in data.candidates]
    origin = _origin(data) if data.provenance else Markup("")
    return page(data.title, tag("header", _header(data)), overview, *sections, origin, scripts=[HOVER])


def save_verdict_page(verdict: VerdictData | Mapping[str, Any], path: str | Path) -> Path:
    """Write the page to `path` in one step (a reader sees the old page or the new one); returns the path."""
    return replace_file(path, verdict_page(verdict).encode())


def _header(data: VerdictData) -> Markup:
    counts = [
        f"{sum(candidate.permission == kind for candidate in data.candidates)} {words}"
        for kind, (_, words) in _PERMISSIONS.items()
        if any(candidate.permission == kind for candidate in data.candidates)
    ]
    number = len(data.candidates)
    told = data.lead or f"{number} candidate{'s' if number > 1 else ''}: {', '.join(counts)}."
    return tag("h1", data.title) + tag("p", told, class_="lead")


def _permission(candidate: CandidateData) -> Markup:
    return badge(*_PERMISSIONS[candidate.permission])


def _overview(data: VerdictData) -> Markup:
    head = [
        "Candidate",
        "Verdict",
        "Sharpe in sample",
        "Out of sample",
        "Paper",
        "Deflated",
        "Trials",
        "Paper = research",
    ]
    rows = [
        [
            tag("a", candidate.name, href=f"#{_anchor(candidate)}"),
            _permission(candidate),
            *(_sharpe(candidate, window) for window in WINDOW_NAMES),
            _probability(candidate, "deflated"),
            MISSING if candidate.trials is None else f"{candidate.trials:,}",
            _parity_badge(candidate),
        ]
        for candidate in data.candidates
    ]
    return card("At a glance", table(head, rows, numbers=range(2, 7), label="all candidates"))


def _anchor(candidate: CandidateData) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in candidate.name)


def _sharpe(candidate: CandidateData, window: str) -> str:
    figures: Mapping[Any, Mapping[str, Any]] = candidate.figures
    return figure("sharpe_ratio", figures.get(window, {}).get("sharpe_ratio"))


def _probability(candidate: CandidateData, name: str) -> str:
    value = (candidate.sharpe or {}).get(name)
    return MISSING if value is None else f"{value:.1%}"


def _parity_badge(candidate: CandidateData) -> Markup:
    if candidate.parity is None:
        return badge("none", "not run")
    return badge("good", "equal") if candidate.parity.equal else badge("bad", "differs")


def _candidate(candidate: CandidateData) -> Markup:
    settings = ", ".join(f"{name} {value}" for name, value in candidate.parameters.items())
    about = f"{candidate.strategy} on {candidate.symbol} {candidate.timeframe}" + (f": {settings}" if settings else "")
    parts = [
        tag("h2", candidate.name),
        _permission(candidate),
        tag("p", candidate.summary),
        tag("p", about, class_="note"),
        _tiles(candidate),
        tag("div", *_cards(candidate), class_="grid"),
    ]
    return tag("section", *parts, class_="candidate", id=_anchor(candidate))


def _tiles(candidate: CandidateData) -> Markup:
    unseen = candidate.figures.get("out_of_sample", {})
    trials = MISSING if candidate.trials is None else f"{candidate.trials:,}"
    at = f"a year, at {candidate.periods_per_year:,.0f} periods"
    return tiles(
        [
            ("Sharpe in sample", _sharpe(candidate, "in_sample"), at),
            ("Sharpe out of sample", _sharpe(candidate, "out_of_sample"), at),
            ("Deflated Sharpe", _probability(candidate, "deflated"), "probability of more than luck"),
            ("Trials counted", trials, "variants tried"),
            ("Drawdown", figure("maximum_drawdown", unseen.get("maximum_drawdown")), "worst, out of sample"),
        ]
    )


def _cards(candidate: CandidateData) -> list[Markup]:
    cards = [_gates(candidate)]
    if candidate.series:
        told = "The accounts of the windows are linked end to end. Research saw the in-sample window only."
        cards.append(card("What happened", *equity_charts(candidate.series, candidate.windows), note=told))
    beside = [_evidence(candidate, candidate.sharpe)] if candidate.sharpe else []
    beside += [_sweep(candidate.sweep)] if candidate.sweep is not None else []
    cards.append(_figures(candidate, wide=not beside))
    cards += [tag("div", *beside, class_="half column")] if beside else []
    return [*cards, _custody(candidate)]


def _gates(candidate: CandidateData) -> Markup:
    rows = [_gate_row(gate) for gate in sorted(candidate.gates, key=lambda gate: gate.tier != "safety")]
    told = "Safety gates open paper trading; evidence gates are needed for live money."
    names = ["", "Gate", "Figure", "Asked for", "In plain words"]
    body = stacked(names, rows, label="gates") if rows else tag("p", "No gate was run.", class_="note")
    return card("Gates", body, note=told)


def _gate_row(gate: GateRow) -> list[Any]:
    asked = f"{_SIGNS.get(gate.comparison, gate.comparison)} {_gate_figure(gate.threshold)}".strip()
    status = badge("good", "passed") if gate.passed else badge("bad", "failed")
    if gate.passed and gate.evidence.get("waived"):
        status = badge("warn", "waived")
    name = join([gate.name.replace("_", " "), tag("br"), " ", tag("small", gate.tier)])
    return [status, name, _gate_figure(gate.figure), asked, gate.explanation]


_SIGNS = {">=": "≥", "<=": "≤", "==": "="}


def _gate_figure(value: float | str | None) -> str:
    if value is None:
        return "undefined"
    return value if isinstance(value, str) else f"{value:.4g}"


def _figures(candidate: CandidateData, wide: bool) -> Markup:
    spans: dict[str, tuple[str, str]] = {one.name: (one.start[:10], one.end[:10]) for one in candidate.windows}
    figures: Mapping[Any, Mapping[str, Any]] = candidate.figures
    columns: dict[str, Mapping[str, Any]] = {
        join([words, tag("br"), tag("small", join(spans.get(name, ()), "<br/>"))]): figures[name]
        for name, words in WINDOW_NAMES.items()
        if figures.get(name)
    }
    told = f"Annual figures at {candidate.periods_per_year:,.0f} periods per year, from simple returns."
    body = figures_table(columns, label="figures by window") if columns else tag("p", "No figures.", class_="note")
    return card("Figures", body, note=told, wide=wide)


def _evidence(candidate: CandidateData, sharpe: Mapping[str, Any]) -> Markup:
    words = [tag("p", sentence) for sentence in _in_words(candidate, sharpe)]
    return card("Skill or luck?", tag("p", str(sharpe.get("interpretation", ""))), evidence_chart(candidate), *words)


def _in_words(candidate: CandidateData, sharpe: Mapping[str, Any]) -> list[str]:
    root = candidate.periods_per_year**0.5
    if any(sharpe.get(name) is None for name in ("sharpe", "expected_maximum", "probabilistic", "deflated")):
        return []
    needed, had, count = sharpe.get("minimum_track_record"), sharpe.get("observations"), sharpe.get("trials")
    shown, luck = sharpe["sharpe"] * root, sharpe["expected_maximum"] * root
    told = [
        f"The chosen variant shows a Sharpe ratio of {shown:.2f} a year in sample. {count:,} variants were tried: had "
        f"none of them any skill, the best would still be expected to show {luck:.2f}.",
        "The curve is where the true ratio may lie, given the length of the record and the shape of its returns. The "
        f"shaded part beyond luck is {sharpe['deflated']:.1%}: the deflated Sharpe ratio. Judged as if it had been the "
        f"only try, against zero, it would be {sharpe['probabilistic']:.1%} (the probabilistic Sharpe ratio).",
    ]
    if needed is None:
        told.append("At this ratio no record would be long enough to tell it from luck.")
    elif had is not None:
        years = needed / candidate.periods_per_year
        share = f"{sharpe.get('confidence', 0.95):.0%}"
        told.append(f"To be {share} sure takes {needed:,.0f} bars ({years:,.1f} years) like these; there are {had:,}.")
    return told


def _sweep(sweep: SweepData) -> Markup:
    told = "A good region is broad: neighbours of the chosen variant should look alike. ◆ marks the chosen one."
    chart = sweep_chart(sweep)
    return card(f"The sweep: {_figure_name(sweep.figure)} in sample", chart, note=told)


def _figure_name(name: str) -> str:
    """A metric's name in running text."""
    return LABELS.get(name, (name.replace("_", " "), ""))[0]


def _custody(candidate: CandidateData) -> Markup:
    data, registry, bundle, parity = candidate.data, candidate.registry, candidate.bundle, candidate.parity
    rows: list[list[Any]] = []
    if data is not None:
        told = [data.summary] + ([tag("br"), _digest(data.digest)] if data.digest else [])
        rows.append(["Data", badge("good", "passed") if data.passed else badge("bad", "failed"), join(told)])
    else:
        rows.append(["Data", badge("none", "not checked"), ""])
    if registry is not None:
        alias = f", alias {registry.alias}" if registry.alias else ""
        rows.append(["Registry", badge("good", "registered"), f"{registry.name} version {registry.version}{alias}"])
    else:
        rows.append(["Registry", badge("none", "not registered"), ""])
    if bundle is not None:
        told = [f"{bundle.path or 'bundle'}" + (f", signed by {bundle.key}" if bundle.key else "")]
        rows.append(["Bundle", badge("good", "sealed"), join([*told, tag("br"), _digest(bundle.digest)])])
    else:
        rows.append(["Bundle", badge("none", "not made"), ""])
    told_parity = "" if parity is None else join([parity.summary, *_difference(parity)])
    rows.append(["Paper equals research", _parity_badge(candidate), told_parity])
    return card("Chain of custody", table(["", "", ""], rows, label="data, registry, bundle, paper"))


def _difference(parity: ParityRow) -> list[Any]:
    return [tag("br"), tag("b", "First difference: "), parity.first_difference] if parity.first_difference else []


def _digest(digest: str | None) -> Markup:
    return tag("code", digest or MISSING, title=short_digest(digest or ""))


def _origin(data: VerdictData) -> Markup:
    rows = [[name, tag("code", value)] for name, value in data.provenance.items()]
    return tag("div", card("Where this comes from", table(["", ""], rows, label="provenance")), class_="grid")
