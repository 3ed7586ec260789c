"""A verdict on one result: every figure with its threshold, what it means in plain words, and one sentence for all.

What could not be computed stands there with the reason. What a figure must reach is written in `FIGURES`, and may be
asked for otherwise; nothing is judged that is not listed there.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd

from tradelib.data.files import replace_file
from tradelib.errors import ParameterError
from tradelib.parameters import nearest

if TYPE_CHECKING:
    from tradelib.backtest.result import Result

__all__ = ["FIGURES", "GROUPS", "PARTS", "Assessment", "AssessmentRow", "Figure", "Verdict", "judge", "overall"]

Verdict = Literal["good", "warn", "bad", "none"]
"""good, a warning, bad, or not computed."""
GROUPS = ("Is it real?", "Would it survive?", "What can it cost?", "How much can it carry?")


class Figure(NamedTuple):
    """A figure: where it stands, how it is written, which part computes it, and where it is good and where bad.

    Above `good` (below, where `good` is less than `bad`) it is good, beyond `bad` it is bad, between them a warning.
    `decisive`: without it nothing is proved.
    """

    group: str
    label: str
    form: str
    part: str
    good: float
    bad: float
    decisive: bool = False


_REAL, _SURVIVES, _COSTS, _CARRIES = GROUPS
_NEVER = -math.inf  # a warning at worst: the test speaks of the risk model, not of the strategy
FIGURES: dict[str, Figure] = {
    "causality": Figure(_REAL, "Decisions that a cut-off future changes", "{:,.0f}", "causality", 0.0, 0.5, True),
    "sharpe_ratio": Figure(_REAL, "Sharpe ratio in standard errors above zero", "{:.2f}", "sharpe", 1.645, 0.0),
    "probabilistic_sharpe": Figure(_REAL, "Probabilistic Sharpe ratio", "{:.1%}", "sharpe", 0.95, 0.80),
    "deflated_sharpe": Figure(_REAL, "Deflated Sharpe ratio", "{:.1%}", "trials", 0.95, 0.50, True),
    "track_record": Figure(_REAL, "Length of record over minimum track record", "{:.2f}", "trials", 1.0, 0.5),
    "haircut_sharpe": Figure(_REAL, "Haircut Sharpe ratio (p-value)", "{:.3f}", "trials", 0.05, 0.20),
    "overfitting": Figure(_REAL, "Probability of backtest overfitting", "{:.1%}", "overfitting", 0.05, 0.50, True),
    "snooping": Figure(_REAL, "Superior predictive ability (p-value)", "{:.3f}", "snooping", 0.05, 0.20),
    "walk_forward_sharpe": Figure(_REAL, "Walk-forward Sharpe ratio out of sample", "{:.2f}", "walk_forward", 0.5, 0.0),
    "walk_forward_efficiency": Figure(_REAL, "Walk-forward efficiency", "{:.0%}", "walk_forward", 0.5, 0.0),
    "stability": Figure(_REAL, "Sharpe ratio that neighbouring parameters keep", "{:.0%}", "stability", 0.8, 0.5),
    "benchmark": Figure(_SURVIVES, "Sharpe ratio above the benchmark's", "{:+.2f}", "benchmark", 0.0, -0.3),
    "doubled_costs": Figure(_SURVIVES, "Annual return at twice the costs", "{:+.2%}", "costs", 0.0, 0.0),
    "break_even": Figure(_SURVIVES, "Break-even in multiples of the costs", "{:.1f}", "costs", 3.0, 1.5),
    "concentration": Figure(_SURVIVES, "Share of the profit from the best year", "{:.0%}", "attribution", 0.5, 1.0),
    "regimes": Figure(_SURVIVES, "Sharpe ratio in the worst market regime", "{:.2f}", "regimes", 0.0, -0.5),
    "stress": Figure(_SURVIVES, "Worst return under stress", "{:+.1%}", "stress", -0.25, -0.50),
    "drawdown": Figure(_COSTS, "Maximum drawdown", "{:.1%}", "drawdown", -0.20, -0.40),
    "value_at_risk": Figure(_COSTS, "Value-at-risk tests (p-value)", "{:.3f}", "value_at_risk", 0.05, _NEVER),
    "traffic_light": Figure(_COSTS, "Traffic light of 250 days", "{:.2%}", "value_at_risk", 0.95, 0.9999),
    "expected_shortfall": Figure(_COSTS, "Expected-shortfall test (p-value)", "{:.3f}", "value_at_risk", 0.05, _NEVER),
    "simulated_drawdown": Figure(_COSTS, "Chance of a 30% drawdown in a year", "{:.1%}", "monte_carlo", 0.05, 0.25),
    "ruin": Figure(_COSTS, "Chance to lose half in a year", "{:.2%}", "monte_carlo", 0.01, 0.05),
    "kelly": Figure(_CARRIES, "Kelly fraction in sizes tested", "{:.2f}", "kelly", 1.5, 1.0),
    "capacity": Figure(_CARRIES, "Capacity in multiples of the capital", "{:,.1f}", "capacity", 10.0, 1.0),
}  # fmt: skip
"""Every figure of a verdict by name, in the order of the page."""
PARTS = tuple(dict.fromkeys(figure.part for figure in FIGURES.values()))
"""What is computed, each of which may be left out."""


@dataclass(frozen=True)
class AssessmentRow:
    """One figure judged. `value`: None where it was not computed; `shown`: it in words and numbers; `asked`: of it."""

    name: str
    group: str
    label: str
    value: float | None
    shown: str
    asked: str
    verdict: Verdict
    words: str


def judge(value: float, good: float, bad: float) -> Verdict:
    """Where `value` stands; an undefined one is bad: what cannot be shown is not good."""
    if math.isnan(value):
        return "bad"
    sign = 1.0 if good >= bad else -1.0
    if sign * value >= sign * good:
        return "good"
    return "bad" if sign * value < sign * bad else "warn"


def bounds(thresholds: Mapping[str, tuple[float, float]] | None) -> dict[str, tuple[float, float]]:
    """(good, bad) of every figure, with those that were asked for; `ParameterError` for an unknown name or no pair."""
    found = {name: (figure.good, figure.bad) for name, figure in FIGURES.items()}
    for name, pair in (thresholds or {}).items():
        if name not in FIGURES:
            raise ParameterError(f"there is no figure {name!r} to set a threshold for{nearest(str(name), FIGURES)}")
        try:
            good, bad = (float(value) for value in pair)
        except (TypeError, ValueError):
            good = bad = math.nan
        if not math.isfinite(good) or math.isnan(bad):
            raise ParameterError(f"the threshold of {name} must be two numbers (good, bad), got {pair!r}")
        found[name] = good, bad
    return found


def asked_text(name: str, good: float, bad: float) -> str:
    """What is asked of a figure, in its own form."""
    form = FIGURES[name].form.replace("+", "")
    if good == bad:
        return f"≥ {form.format(good)}"
    sign, beyond = ("≥", "below") if good > bad else ("≤", "above")
    if math.isinf(bad) or form.format(good) == form.format(bad):
        return f"{sign} {form.format(good)}"
    return f"{sign} {form.format(good)}; bad {beyond} {form.format(bad)}"


def overall(rows: tuple[AssessmentRow, ...]) -> tuple[Verdict, str]:
    """The verdict on all rows, and the sentence that says it."""
    named = {verdict: [row for row in rows if row.verdict == verdict] for verdict in ("good", "warn", "bad", "none")}
    by_name = {row.name: row for row in rows}
    computed = len(rows) - len(named["none"])
    if by_name["causality"].verdict == "bad":
        return "bad", f"Not to be trusted at all: it looks ahead. {by_name['causality'].words}"
    if named["bad"]:
        return "bad", f"Not convincing: {len(named['bad'])} of {computed} figures are bad: {_listed(named['bad'])}."
    missing = [row for row in named["none"] if FIGURES[row.name].decisive]
    if missing:
        return (
            "warn",
            f"Unproven: of {computed} figures none is bad, but what decides was not computed: {_listed(missing)}.",
        )
    if named["warn"]:
        count = len(named["warn"])
        return "warn", f"Promising, with {count} reservation{'s' * (count > 1)}: {_listed(named['warn'])}."
    return "good", f"Convincing: all {computed} figures computed are good."


def _listed(rows: list[AssessmentRow], most: int = 4) -> str:
    persons = ("Sharpe", "Kelly")
    names = [row.label if row.label.startswith(persons) else row.label[0].lower() + row.label[1:] for row in rows]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True, eq=False, repr=False)
class Assessment:
    """The verdict on `result`: `rows` in the order of the page, and `evidence`, the objects behind them, by part."""

    title: str
    result: Result = field(repr=False)
    rows: tuple[AssessmentRow, ...]
    evidence: dict[str, Any] = field(default_factory=dict)
    benchmark: pd.Series[float] | None = None
    seed: int = 0

    def __getitem__(self, name: str) -> AssessmentRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise ParameterError(f"there is no figure {name!r}{nearest(str(name), FIGURES)}")

    @cached_property
    def _overall(self) -> tuple[Verdict, str]:
        return overall(self.rows)

    @property
    def verdict(self) -> Verdict:
        """Of all figures together: good, warn or bad."""
        return self._overall[0]

    @property
    def interpretation(self) -> str:
        """The verdict in one sentence."""
        return self._overall[1]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many figures are good, a warning, bad, not computed."""
        verdicts = [row.verdict for row in self.rows]
        return {name: verdicts.count(name) for name in ("good", "warn", "bad", "none")}

    def to_frame(self) -> pd.DataFrame:
        """A row per figure: group, label, value (NaN where not computed), shown, asked, verdict, words."""
        names = ["name", "group", "label", "value", "shown", "asked", "verdict", "words"]
        table = pd.DataFrame([[getattr(row, name) for name in names] for row in self.rows], columns=names)
        return table.astype({"value": "float64"}).set_index("name")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: numbers that are not finite become None."""
        rows = [
            {**vars(row), "value": row.value if row.value is not None and math.isfinite(row.value) else None}
            for row in self.rows
        ]
        told = {"title": self.title, "verdict": self.verdict, "interpretation": self.interpretation}
        return {**told, "counts": dict(self.counts), "data": self.result.panel.digest, "seed": self.seed, "rows": rows}

    def summary(self) -> str:
        """The sentence, then every figure with its mark."""
        lines = [self.interpretation]
        for group in GROUPS:
            lines += ["", group]
            rows = [row for row in self.rows if row.group == group]
            width = max(len(row.label) for row in rows)
            lines += [f"{_SIGNS[row.verdict]} {row.label:<{width}}  {row.shown}" for row in rows]
        return "\n".join(lines)

    def to_html(self) -> str:
        """The verdict page: one self-contained file that asks the network for nothing."""
        from tradelib.report.assessment_page import assessment_page

        return assessment_page(self)

    def save(self, path: str | Path) -> Path:
        """Write the page (.html) to `path` in one step; returns the path. `ParameterError` for another ending."""
        if Path(path).suffix.lower() != ".html":
            raise ParameterError(f"{path}: a verdict is saved as .html; choose this ending")
        return replace_file(path, self.to_html().encode())

    def __repr__(self) -> str:
        return f"Assessment({self.title!r}: {self.interpretation})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{_SIGNS[row.verdict]}</td><td style='text-align:left'>{html.escape(row.label)}</td>"
            f"<td style='text-align:left'>{html.escape(row.shown)}</td>"
            f"<td style='text-align:left'>{html.escape(row.words)}</td></tr>"
            for row in self.rows
        )
        return f"<p><b>{html.escape(self.interpretation)}</b></p><table>{rows}</table>"


_SIGNS = {"good": "✓", "warn": "◐", "bad": "✗", "none": "–"}
