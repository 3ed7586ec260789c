"""Figures of the portfolio room (plotly): spectra, weights and risks, frontiers, trees, and weights over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tradelib.errors import require

__all__ = ["bars_figure", "frontier_figure", "history_figure", "shift_figure", "spectrum_figure", "tree_figure"]

_BLUE, _ORANGE, _GREEN, _INK, _FAINT = "#0072B2", "#D55E00", "#009E73", "#7a7a7a", "rgba(128,128,128,.22)"
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8a8a2a", "#9aa7b1")
_DECIMALS = 6
"""Of what is drawn: solvers agree to about seven, so that a figure is the same on every machine."""
_MOST_BANDS = 15
"""Assets with a colour of their own in the weights over time; the others share one."""


def _rounded(values: Any) -> np.ndarray:
    return np.round(np.asarray(values, dtype=np.float64), _DECIMALS) + 0.0


def _figure(traces: list[Any], title: str, x: str, y: str, **layout: Any) -> Any:
    """No ground of its own, so that the figure takes the colour of the page."""
    figure = require("plotly.graph_objects", "research").Figure(traces)
    ground = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font_color": _INK}
    shape = {"height": 380, "margin": {"t": 60, "b": 44}, "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"}}
    figure.update_layout(template="plotly_white", title=title, **{**shape, **layout}, **ground)
    return figure.update_xaxes(title_text=x, gridcolor=_FAINT).update_yaxes(title_text=y, gridcolor=_FAINT)


def spectrum_figure(eigenvalues: dict[str, np.ndarray], edge: float | None) -> Any:
    """Eigenvalues of correlation matrices, largest first, on a logarithmic scale; `edge`: where noise ends."""
    go = require("plotly.graph_objects", "research")
    traces = [
        go.Scatter(
            x=list(range(1, len(values) + 1)), y=_rounded(values), mode="lines+markers", name=name, line_color=hue
        )
        for (name, values), hue in zip(eigenvalues.items(), _COLOURS, strict=False)
    ]
    figure = _figure(traces, "Eigenvalues of the correlations", "rank", "eigenvalue", yaxis_type="log")
    if edge is not None:
        figure.add_hline(y=round(edge, _DECIMALS), line_dash="dot", line_color=_INK, annotation_text="edge of noise")
    return figure


def bars_figure(weights: pd.Series, contributions: pd.Series, title: str) -> Any:
    """Weight and share of the risk of each asset, side by side."""
    go, names = require("plotly.graph_objects", "research"), [str(name) for name in weights.index]
    held = go.Bar(x=names, y=_rounded(weights), name="weight", marker_color="#9aa7b1")
    risky = go.Bar(x=names, y=_rounded(contributions), name="share of risk", marker_color=_ORANGE)
    return _figure([held, risky], title, "", "").update_yaxes(tickformat=".0%")


def shift_figure(table: pd.DataFrame, title: str) -> Any:
    """The columns of `table` as bars beside each other, a group per row."""
    go, names = require("plotly.graph_objects", "research"), [str(name) for name in table.index]
    traces = [
        go.Bar(x=names, y=_rounded(table[column]), name=str(column), marker_color=hue)
        for column, hue in zip(table.columns, ("#9aa7b1", _ORANGE, _BLUE), strict=False)
    ]
    return _figure(traces, title, "", "").update_yaxes(tickformat=".2%")


def frontier_figure(points: pd.DataFrame, assets: pd.DataFrame, marks: pd.DataFrame) -> Any:
    """Expected return over volatility: the frontier, the assets, and portfolios to name."""
    go = require("plotly.graph_objects", "research")
    line = go.Scatter(
        x=_rounded(points["volatility"]), y=_rounded(points["expected_return"]), line_color=_BLUE, name="frontier"
    )
    traces = [line]
    for table, hue, name in ((assets, _INK, "assets"), (marks, _ORANGE, "portfolios")):
        place = {"x": _rounded(table["volatility"]), "y": _rounded(table["expected_return"])}
        look = {"mode": "markers+text", "textposition": "top center", "marker_color": hue, "cliponaxis": False}
        traces.append(go.Scatter(**place, **look, text=[str(one) for one in table.index], name=name))
    figure = _figure(traces, "The efficient frontier", "volatility per period", "expected return per period")
    return figure.update_xaxes(tickformat=".2%").update_yaxes(tickformat=".3%")


def tree_figure(icoord: Any, dcoord: Any, names: list[str], title: str) -> Any:
    """A dendrogram: `icoord` and `dcoord` as scipy gives them, `names` from left to right."""
    go = require("plotly.graph_objects", "research")
    x = np.array([[*line, np.nan] for line in icoord]).ravel()
    y = np.array([[*line, np.nan] for line in dcoord]).ravel()
    trace = go.Scatter(x=x, y=np.round(y, _DECIMALS), mode="lines", line_color=_BLUE, showlegend=False)
    figure = _figure([trace], title, "", "distance at which clusters join")
    ticks = [5.0 + 10.0 * place for place in range(len(names))]  # where scipy stands its leaves
    return figure.update_xaxes(tickvals=ticks, ticktext=names, showgrid=False)


def history_figure(weights: pd.DataFrame, fallbacks: pd.DatetimeIndex, title: str) -> Any:
    """Weights over time as areas on top of each other (short ones below zero), and where a fallback stepped in."""
    go, table = require("plotly.graph_objects", "research"), _banded(weights)
    times = [str(time) for time in pd.DatetimeIndex(table.index).tz_localize(None)]
    traces = []
    for place, column in enumerate(table.columns):
        hue = _COLOURS[place % len(_COLOURS)]
        for values, group in ((table[column].clip(lower=0.0), "long"), (table[column].clip(upper=0.0), "short")):
            if group == "long" or (values < 0.0).any():
                band = {"stackgroup": group, "line": {"width": 0.5, "color": hue, "shape": "hv"}, "name": str(column)}
                traces.append(go.Scatter(x=times, y=_rounded(values), **band, showlegend=group == "long"))
    figure = _figure(traces, title, "", "weight", height=420)
    for time in fallbacks.tz_localize(None):
        figure.add_vline(x=str(time), line_dash="dot", line_color=_INK)
    return figure.update_yaxes(tickformat=".0%")


def _banded(weights: pd.DataFrame) -> pd.DataFrame:
    """The columns that weigh most on average; the others in one."""
    if weights.shape[1] <= _MOST_BANDS:
        return weights
    heavy = weights.abs().mean().nlargest(_MOST_BANDS - 1).index
    rest = weights.drop(columns=heavy).sum(axis=1).rename(f"{weights.shape[1] - len(heavy)} others")
    return pd.concat([weights[heavy], rest], axis=1)
