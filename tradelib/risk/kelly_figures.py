"""Figures of the Kelly results (plotly): growth and falls over the fraction, trust in an estimate, betters' wealth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tradelib.errors import require

if TYPE_CHECKING:
    from tradelib.risk.kelly import Kelly, KellyPortfolio, KellySimulation, KellyUncertainty

__all__ = ["growth_figure", "simulation_figure", "trust_figure", "weights_figure"]

_BLUE, _ORANGE, _GREEN, _INK, _FAINT = "#0072B2", "#D55E00", "#009E73", "#7a7a7a", "rgba(128,128,128,.3)"


def _styled(figure: Any, title: str, x: str, y: str) -> Any:
    """No ground of its own, so that the figure takes the colour of the page."""
    ground = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font_color": _INK}
    figure.update_layout(template="plotly_white", title=title, height=380, margin={"t": 70, "b": 44}, **ground)
    return figure.update_xaxes(title_text=x, gridcolor=_FAINT).update_yaxes(title_text=y, gridcolor=_FAINT)


def _span(kelly: Kelly, points: int) -> np.ndarray:
    """Fractions from no bet to a little beyond twice the optimum, or to the ruin before it."""
    low, high = kelly.law.bounds
    end = 2.2 * kelly.optimum if kelly.optimum != 0.0 else 1.0
    return np.linspace(0.0, max(0.999 * low, end) if end < 0.0 else min(0.999 * high, end), points)


def _marks(kelly: Kelly) -> dict[str, float]:
    """Fractions to name in a figure: those that do not ruin."""
    told = {f"{name}Kelly": share * kelly.optimum for name, share in (("half ", 0.5), ("", 1.0), ("twice ", 2.0))}
    low, high = kelly.law.bounds
    return {name: f for name, f in {**told, "chosen": kelly.fraction}.items() if low < f < high}


def _grown(kelly: Kelly, fractions: np.ndarray) -> np.ndarray:
    """Growth to ten decimals: what is drawn is the same on every machine, to the bit."""
    return np.round(kelly.law.growth(fractions), 10)


def growth_figure(kelly: Kelly) -> Any:
    """Growth over the fraction, and on an axis of its own the probability of ever losing half."""
    go, fractions, few = require("plotly.graph_objects", "research"), _span(kelly, 121), _span(kelly, 41)
    growth = go.Scatter(x=fractions, y=_grown(kelly, fractions), line_color=_BLUE, name="growth")
    falls = [round(replace(kelly, fraction=float(f)).fall_probability(0.5), 6) for f in few]
    look = {"line": {"color": _INK, "dash": "dot"}, "name": "probability of ever losing half", "yaxis": "y2"}
    marks = _marks(kelly)
    spots = {"mode": "markers+text", "textposition": "top center", "marker_color": _ORANGE, "showlegend": False}
    points = {"x": list(marks.values()), "y": _grown(kelly, np.array([*marks.values()])), "text": list(marks)}
    figure = go.Figure([growth, go.Scatter(x=few, y=falls, **look), go.Scatter(**points, **spots, cliponaxis=False)])
    _styled(figure, "Growth and falls over the fraction of the account", "fraction", f"log growth per {kelly.horizon}")
    second = {"overlaying": "y", "side": "right", "range": [0, 1.02], "showgrid": False, "tickformat": ".0%"}
    return figure.update_layout(yaxis2=second, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


def trust_figure(found: KellyUncertainty) -> Any:
    """Histogram of the drawn fractions, with the estimate and what is left of it."""
    go = require("plotly.graph_objects", "research")
    counts, edges = np.histogram(found.draws, bins=40)
    figure = go.Figure(go.Bar(x=0.5 * (edges[:-1] + edges[1:]), y=counts, marker_color=_BLUE, opacity=0.6))
    figure.add_vline(found.estimate.optimum, line_color=_ORANGE, annotation_text="raw")
    figure.add_vline(found.shrunk.fraction, line_color=_GREEN, annotation_text="shrunk", annotation_position="top left")
    return _styled(figure, "Kelly fraction of the resampled returns", "fraction", "resamples")


def weights_figure(portfolio: KellyPortfolio) -> Any:
    """The weights as bars."""
    go = require("plotly.graph_objects", "research")
    figure = go.Figure(go.Bar(x=portfolio.weights.index, y=portfolio.weights, marker_color=_BLUE))
    return _styled(figure, f"Kelly weights, {portfolio.bounds}", "", "fraction of the account")


def simulation_figure(simulation: KellySimulation) -> Any:
    """Median wealth over the bets, and the band that holds 90 % of the paths; logarithmic."""
    go, count = require("plotly.graph_objects", "research"), simulation.log_wealth.shape[2]
    figure, kept = go.Figure(), np.unique(np.linspace(0, count - 1, 101).astype(int))
    for row, share in enumerate(simulation.shares):
        low, middle, high = np.exp(np.quantile(simulation.log_wealth[row][:, kept], [0.05, 0.5, 0.95], axis=0))
        color = (_GREEN, _BLUE, _ORANGE)[row % 3]
        edge = {"mode": "lines", "line": {"color": color, "width": 0.5}, "showlegend": False, "hoverinfo": "skip"}
        figure.add_trace(go.Scatter(x=kept, y=high, **edge))
        figure.add_trace(go.Scatter(x=kept, y=low, fill="tonexty", opacity=0.3, **edge))
        figure.add_trace(go.Scatter(x=kept, y=middle, line={"color": color, "width": 3}, name=f"{share:g} x Kelly"))
    figure.update_yaxes(type="log")
    return _styled(figure, "Wealth: median, and where 90 % of the paths lie", "bets", "wealth, start = 1")
