"""The last page of the pipeline: may this trade, and why, for a reader who was not there.

`verdict_page` takes plain data (`VerdictData`, JSON-able) so that any stage can fill it, and returns one self-contained
HTML page: nothing is computed here that could differ from what the gates judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tradelib.data.files import replace_file
from tradelib.errors import ParameterError
from tradelib.parameters import Parameters
from tradelib.report.charts import HOVER
from tradelib.report.labels import MISSING, figure, figures_table, short_digest
from tradelib.report.page import Markup, badge, card, join, page, table, tag, tiles
from tradelib.report.verdict_charts import equity_charts, evidence_chart, sweep_chart

__all__ = [
    "BundleRow",
    "CandidateData",
    "DataRow",
    "GateRow",
    "ParityRow",
    "RegistryRow",
    "SeriesData",
    "SweepData",
    "VerdictData",
    "WindowData",
    "save_verdict_page",
    "verdict_page",
]

WindowName = Literal["in_sample", "out_of_sample", "paper"]
Number = float | None


class WindowData(Parameters):
    """A stretch of history: first and last bar (ISO dates or times, UTC)."""

    name: WindowName
    start: str
    end: str


class SeriesData(Parameters):
    """Account value per bar in one window: `times` ISO UTC (bars' open times), `equity` in quote currency.

    `role`: "research" (backtest), "paper" (the paper account) or "benchmark" (any window: one series over all of them).
    `initial`: account value before the first bar; the first value of `equity` when left out.
    """

    role: Literal["research", "paper", "benchmark"]
    window: WindowName | None = None
    label: str = ""
    times: list[str]
    equity: list[Number]
    initial: Number = None


class SweepData(Parameters):
    """In-sample figures of a parameter grid: `values[row][column]` over `rows` and `columns`; `chosen` (row, column)."""

    row_name: str
    column_name: str
    rows: list[float | str]
    columns: list[float | str]
    values: list[list[Number]]
    chosen: tuple[float | str, float | str] | None = None
    figure: str = "sharpe_ratio"


class GateRow(Parameters):
    """A gate's result, as `GateResult.to_dict()` writes it."""

    name: str
    tier: Literal["safety", "evidence"]
    figure: float | str | None
    threshold: float | str | None
    comparison: str
    passed: bool
    explanation: str
    evidence: dict[str, Any] = {}


class DataRow(Parameters):
    """What the quality suite said about the bars."""

    passed: bool
    summary: str
    digest: str | None = None
    checks: int | None = None


class RegistryRow(Parameters):
    """Where the model registry keeps it."""

    name: str
    version: int | str
    alias: str | None = None


class BundleRow(Parameters):
    """The sealed bundle: SHA-256 of its manifest, file name, id of the signing key."""

    digest: str
    path: str | None = None
    key: str | None = None


class ParityRow(Parameters):
    """Whether the paper account did what research says; `first_difference` in words when it did not."""

    equal: bool
    summary: str
    first_difference: str | None = None


class CandidateData(Parameters):
    """Everything the page says about one candidate; what is left out is shown as not done."""

    name: str
    strategy: str
    parameters: dict[str, Any] = {}
    symbol: str
    timeframe: str
    periods_per_year: float = Field(gt=0)
    permission: Literal["live", "paper", "none"]
    summary: str
    windows: list[WindowData] = []
    data: DataRow | None = None
    trials: int | None = None
    figures: dict[WindowName, dict[str, Number]] = {}
    sharpe: dict[str, Any] | None = None
    gates: list[GateRow] = []
    registry: RegistryRow | None = None
    bundle: BundleRow | None = None
    parity: ParityRow | None = None
    series: list[SeriesData] = []
    sweep: SweepData | None = None


class VerdictData(Parameters):
    """The whole page: `provenance` is shown as label and value (commit, params digest, lock digest, ...)."""

    title: str = "Verdict"
    lead: str = ""
    provenance: dict[str, str] = {}
    candidates: list[CandidateData]


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
    figures: Mapping[str, Any] = dict(candidate.figures).get(window, {})  # type: ignore[call-overload]
    return figure("sharpe_ratio", figures.get("sharpe_ratio"))


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
            ("Sharpe ratio, in sample", _sharpe(candidate, "in_sample"), at),
            ("Sharpe ratio, out of sample", _sharpe(candidate, "out_of_sample"), at),
            ("Deflated Sharpe ratio", _probability(candidate, "deflated"), "probability of more than luck"),
            ("Trials counted", trials, "variants tried before this one"),
            ("Worst fall, out of sample", figure("maximum_drawdown", unseen.get("maximum_drawdown")), "from a peak"),
        ]
    )


def _cards(candidate: CandidateData) -> list[Markup]:
    cards = [_gates(candidate)]
    if candidate.series:
        told = "Growth of 1, the accounts of the windows linked end to end; each decided only on what it had seen."
        cards.append(card("What happened", *equity_charts(candidate.series, candidate.windows), note=told))
    cards.append(_figures(candidate))
    if candidate.sharpe:
        cards.append(_evidence(candidate, candidate.sharpe))
    if candidate.sweep is not None:
        cards.append(_sweep(candidate, candidate.sweep))
    return [*cards, _custody(candidate)]


def _gates(candidate: CandidateData) -> Markup:
    names = ["", "Gate", "Figure", "Asked for", "In plain words"]
    rows = [_gate_row(gate, names) for gate in sorted(candidate.gates, key=lambda gate: gate.tier != "safety")]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    inner = tag("table", head, tag("tbody", *rows), class_="stack", aria_label="gates")
    told = "Safety gates open paper trading; evidence gates are needed for live money."
    body = tag("div", inner, class_="scroll") if rows else tag("p", "No gate was run.", class_="note")
    return card("Gates", body, note=told)


def _gate_row(gate: GateRow, names: list[str]) -> Markup:
    asked = f"{_SIGNS.get(gate.comparison, gate.comparison)} {_gate_figure(gate.threshold)}".strip()
    status = badge("good", "passed") if gate.passed else badge("bad", "failed")
    name = join([gate.name.replace("_", " "), tag("br"), tag("small", gate.tier)])
    cells = [status, name, _gate_figure(gate.figure), asked, gate.explanation]
    return tag("tr", *(tag("td", cell, data_name=label or None) for cell, label in zip(cells, names, strict=True)))


_SIGNS = {">=": "≥", "<=": "≤", "==": "="}


def _gate_figure(value: float | str | None) -> str:
    if value is None:
        return "undefined"
    return value if isinstance(value, str) else f"{value:.4g}"


def _figures(candidate: CandidateData) -> Markup:
    windows = {window.name: window for window in candidate.windows}
    columns = {
        WINDOW_NAMES[name]
        + (f" {windows[name].start[:10]} to {windows[name].end[:10]}" if name in windows else ""): figures
        for name in ("in_sample", "out_of_sample", "paper")
        if (figures := dict(candidate.figures).get(name))
    }
    told = (
        f"Annual figures at {candidate.periods_per_year:,.0f} periods per year; simple returns; drawdown from the peak."
    )
    body = figures_table(columns, label="figures by window") if columns else tag("p", "No figures.", class_="note")
    return card("Figures", body, note=told, wide=candidate.sweep is None)


def _evidence(candidate: CandidateData, sharpe: Mapping[str, Any]) -> Markup:
    words = [tag("p", sentence) for sentence in _in_words(candidate, sharpe)]
    return card("Skill or luck?", tag("p", str(sharpe.get("interpretation", ""))), evidence_chart(candidate), *words)


def _in_words(candidate: CandidateData, sharpe: Mapping[str, Any]) -> list[str]:
    root = candidate.periods_per_year**0.5
    if any(sharpe.get(name) is None for name in ("sharpe", "expected_maximum", "probabilistic", "deflated")):
        return []
    needed, had, count = sharpe.get("minimum_track_record"), sharpe.get("observations"), sharpe.get("trials")
    told = [
        f"The chosen variant shows a Sharpe ratio of {sharpe['sharpe'] * root:.2f} a year. {count:,} variants were tried: "
        f"had none of them any skill, the best would still be expected to show {sharpe['expected_maximum'] * root:.2f}.",
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


def _sweep(candidate: CandidateData, sweep: SweepData) -> Markup:
    told = "A good region is broad: neighbours of the chosen variant should look alike. ◆ marks the chosen one."
    chart = sweep_chart(sweep)
    return card(f"The sweep: {figure_name(sweep.figure)} in sample", chart, note=told, wide=False)


def figure_name(name: str) -> str:
    """A metric's name in running text."""
    from tradelib.report.labels import LABELS

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
