"""Figures of regimes (plotly): values coloured by state, performance by regime, segments, and what detectors said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from tradelib.errors import DataError, require
from tradelib.risk.cointegration import lay_out

if TYPE_CHECKING:
    from tradelib.risk.changes import ChangePoints, OnlineChanges
    from tradelib.risk.regimes import RegimePerformance

__all__ = ["detector_figure", "performance_figure", "plot_regimes", "segments_figure"]

_COLOURS = ("#3b7dd8", "#d8873b", "#c23b3b", "#7a4fbf", "#3b9e6d", "#8a8a8a")
_MOST_POINTS = 1_500


def _thin(values: Any) -> Any:
    """At most so many rows as a screen has columns."""
    return values.iloc[:: max(1, math.ceil(len(values) / _MOST_POINTS))]


def _stretches(values: pd.Series, states: pd.Series) -> list[Any]:
    """A trace per state; each stretch reaches the first bar of the next, so that the line has no gaps."""
    go, table, traces = require("plotly.graph_objects", "research"), _thin(values), []
    now = states.loc[table.index].tolist()
    for place, state in enumerate(sorted(states.dropna().unique())):
        inside = [value is not pd.NA and value == state for value in now]
        drawn = [here or before for here, before in zip(inside, [False, *inside[:-1]], strict=True)]
        shown = [float(f"{value:.5g}") if keep else None for value, keep in zip(table, drawn, strict=True)]
        line = {"color": _COLOURS[place % len(_COLOURS)], "width": 1.3}
        traces.append(go.Scatter(x=table.index, y=shown, name=str(state), mode="lines", line=line))
    return traces


def plot_regimes(values: pd.Series, states: pd.Series, *, title: str = "By regime") -> Any:
    """`values` (prices, wealth) over time, coloured by the state of each bar (plotly, logarithmic).

    `DataError` where they are not of the same bars.
    """
    if not values.index.equals(states.index):
        raise DataError(f"values have {len(values)} bars, states {len(states)}: they must be of the same bars")
    go = require("plotly.graph_objects", "research")
    return lay_out(go.Figure(_stretches(values, states)), title, yaxis_type="log")


def performance_figure(told: RegimePerformance) -> Any:
    """Wealth coloured by regime; mean, volatility and Sharpe ratio (with its error) as bars."""
    go = require("plotly.graph_objects", "research")
    figure = require("plotly.subplots", "research").make_subplots(
        2, 3, specs=[[{"colspan": 3}, None, None], [{}, {}, {}]], row_heights=[0.6, 0.4], vertical_spacing=0.16,
        subplot_titles=("wealth", "mean per year", "volatility per year", "Sharpe ratio, ± 1.96 standard errors"),
    )  # fmt: skip
    for trace in _stretches((1.0 + told.returns).cumprod(), told.states):
        figure.add_trace(trace, 1, 1)
    names = sorted(map(str, told.table.index))
    table = told.table.set_axis(told.table.index.astype(str)).loc[names]
    colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(names))]
    for column, name in enumerate(("annual_mean", "annual_volatility", "sharpe"), 1):
        errors = {"array": (1.96 * table["sharpe_error"]).tolist()} if name == "sharpe" else None
        bars = go.Bar(x=names, y=table[name].tolist(), error_y=errors, marker_color=colours, showlegend=False)
        figure.add_trace(bars, 2, column)
    return lay_out(figure, "Performance by regime").update_layout(height=520)


def segments_figure(found: ChangePoints) -> Any:
    """The values, with the mean of each segment and two deviations either side."""
    go, thin = require("plotly.graph_objects", "research"), _thin(found.values)
    line, mean = {"color": "#8a8a8a", "width": 0.8}, {"color": "#c23b3b", "width": 2}
    figure = go.Figure(go.Scatter(x=thin.index, y=thin.to_numpy(), mode="lines", line=line, name="values"))
    for place, row in enumerate(found.segments.to_dict("records")):
        x, low, high = (
            [row["begin"], row["end"]],
            row["mean"] - 2 * row["deviation"],
            row["mean"] + 2 * row["deviation"],
        )
        level = [row["mean"]] * 2
        figure.add_trace(go.Scatter(x=x, y=level, mode="lines", line=mean, name="mean", showlegend=place == 0))
        band = {"line_width": 0, "fillcolor": "rgba(59,125,216,.15)"}
        figure.add_shape(type="rect", x0=x[0], x1=x[1], y0=low, y1=high, **band)
    return lay_out(figure, f"Changes of the {found.kind.replace('_', ' ')}")


def detector_figure(changes: OnlineChanges) -> Any:
    """The first two columns of what a detector said, and its alarms as lines."""
    go, thin = require("plotly.graph_objects", "research"), _thin(changes.table)
    drawn = [go.Scatter(x=thin.index, y=thin[name].to_numpy(), name=name) for name in thin.columns[:2]]
    figure = go.Figure(drawn)
    for alarm in changes.alarms:
        dotted = {"dash": "dot", "width": 1}
        figure.add_shape(type="line", x0=alarm, x1=alarm, y0=0, y1=1, yref="paper", line=dotted)
    return lay_out(figure, changes.method)
