"""What a stress test says: one table, pictures, and plain words."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from tradelib.backtest.boundary import shown
from tradelib.backtest.look import themed
from tradelib.errors import ParameterError, require
from tradelib.parameters import nearest
from tradelib.validation.stress_book import NOT_COVERED, StressOutcome

__all__ = ["StressTest"]

_COLUMNS = ("kind", "method", "start", "end", "total_return", "base_return", "maximum_drawdown", "worst_bar", "note")


@dataclass(frozen=True, eq=False)
class StressTest:
    """What each scenario did, in the order asked for; see `StressOutcome` for the columns."""

    outcomes: tuple[StressOutcome, ...]

    def __getitem__(self, scenario: str) -> StressOutcome:
        for outcome in self.outcomes:
            if outcome.scenario == scenario:
                return outcome
        raise ParameterError(
            f"there is no scenario {scenario!r}{nearest(scenario, [o.scenario for o in self.outcomes])}"
        )

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Scenarios without figures: not covered by the data, or not applicable."""
        return tuple(outcome.scenario for outcome in self.outcomes if not outcome.covered)

    @property
    def interpretation(self) -> str:
        """The result in plain words."""
        return _in_words(self)

    def to_frame(self) -> pd.DataFrame:
        """A row per scenario; figures are fractions, NaN where `method` says not covered or there is no base."""
        rows = [{name: getattr(outcome, name) for name in _COLUMNS} for outcome in self.outcomes]
        table = pd.DataFrame(rows, index=pd.Index([o.scenario for o in self.outcomes], name="scenario"))
        for name in ("start", "end"):
            table[name] = [str(value)[:10] if value is not None else "" for value in table[name]]
        return table

    def summary(self) -> str:
        """The scenarios as a text table, and what they say."""
        return f"{_shown(self.to_frame()).to_string()}\n\n{self.interpretation}"

    def plot(self, kind: Literal["losses", "paths"] = "losses") -> Any:
        """A plotly figure: return of every scenario beside its base, or wealth through each dated one."""
        return _figure(self, kind)

    def _repr_html_(self) -> str:
        return f"{_shown(self.to_frame()).to_html()}<p>{html.escape(self.interpretation)}</p>"


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Fractions as text; a dash where there is none."""
    shown_table = table.drop(columns=["kind"])
    for name in ("total_return", "base_return", "maximum_drawdown", "worst_bar"):
        shown_table[name] = [f"{value:+.1%}" if math.isfinite(value) else "–" for value in table[name]]
    return shown_table


def _in_words(found: StressTest) -> str:
    covered = [outcome for outcome in found.outcomes if outcome.covered]
    missing = ", ".join(outcome.scenario for outcome in found.outcomes if outcome.method == NOT_COVERED)
    about = f" Nothing can be said about {missing}: not covered by the data." if missing else ""
    if not covered:
        return f"No scenario could be computed.{about}"
    worst = min(covered, key=lambda outcome: outcome.total_return)
    deepest = min(covered, key=lambda outcome: outcome.maximum_drawdown)
    turned = [o.scenario for o in covered if o.base_return > 0.0 > o.total_return]
    lost = f" A profit becomes a loss with: {', '.join(turned)}." if turned else ""
    return (
        f"{len(covered)} of {len(found.outcomes)} scenarios could be computed. The worst return is "
        f"{worst.total_return:+.1%} ({worst.scenario}; {worst.method}), the deepest drawdown "
        f"{-deepest.maximum_drawdown:.1%} ({deepest.scenario}).{lost}{about}"
    )


def _figure(found: StressTest, kind: str) -> Any:
    figure = require("plotly.graph_objects", "research").Figure()
    title = html.escape(f"{len(found.outcomes) - len(found.uncovered)} of {len(found.outcomes)} scenarios")
    if kind == "paths":
        for outcome in found.outcomes:
            if outcome.wealth is not None and outcome.kind == "historical":
                wealth = outcome.wealth.iloc[:: max(len(outcome.wealth) // 250, 1)]
                days = (wealth.index - outcome.wealth.index[0]) / pd.Timedelta("1D")
                figure.add_scatter(x=days, y=wealth.round(5), name=outcome.scenario)
        figure.update_xaxes(title="days since the beginning").update_yaxes(title="wealth")
        return themed(figure).update_layout(title="wealth through each crisis", height=380)
    if kind != "losses":
        raise ParameterError(f"kind is {shown(kind)}: use 'losses' or 'paths'")
    rows = [outcome for outcome in found.outcomes if outcome.covered][::-1]
    names, returns = [row.scenario for row in rows], np.array([row.total_return for row in rows])
    colors = np.where(returns < 0.0, "#e45756", "#4c78a8")
    figure.add_bar(y=names, x=returns, orientation="h", marker_color=colors, name="under stress")
    base = [row.base_return if math.isfinite(row.base_return) else None for row in rows]
    figure.add_scatter(y=names, x=base, mode="markers", marker={"symbol": "line-ns-open", "size": 14}, name="without")
    figure.update_xaxes(title="return", tickformat=".0%")
    return themed(figure).update_layout(title=title, height=120 + 22 * len(rows), bargap=0.3)
