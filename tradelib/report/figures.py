"""Interactive figures of a tear sheet (plotly), drawn from `tables`. Colours read on light and on dark pages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest import plots
from tradelib.backtest.look import themed
from tradelib.backtest.metrics import drawdown_series
from tradelib.backtest.plots import BLUE, GREY, ORANGE, VERMILION
from tradelib.backtest.result import Result
from tradelib.errors import require
from tradelib.report.charts import thin
from tradelib.report.tables import monthly_turnover

__all__ = [
    "bare",
    "cost_figure",
    "distribution_figure",
    "equity_figure",
    "excursion_figure",
    "exposure_figure",
    "holding_figure",
    "rolling_figure",
    "yearly_figure",
]

_POINTS = 4000
_SHADED = 5
_COST_COLORS = (BLUE, ORANGE, plots.GREEN, plots.PURPLE, plots.SKY, VERMILION)


def bare(figure: Any, height: int) -> Any:
    """`figure` in a card of the page: themed, without a title, the legend above, room for labels on a phone."""
    themed(figure).update_layout(
        title=None,
        height=height,
        margin={"l": 56, "r": 10, "t": 34, "b": 36},
        legend={"orientation": "h", "y": 1.0, "x": 0, "yanchor": "bottom"},
        dragmode="zoom",
    )
    return figure.update_xaxes(automargin=True).update_yaxes(automargin=True)


def _trace(values: pd.Series[float], name: str, color: str, **extra: Any) -> Any:
    go = require("plotly.graph_objects", "research")
    positions, kept = thin(np.arange(len(values), dtype=np.float64), np.asarray(values, dtype=np.float64), _POINTS)
    times = pd.DatetimeIndex(values.index)[positions.astype(int)].tz_localize(None).to_numpy().astype("M8[s]")
    return go.Scatter(x=times, y=np.round(kept, 6), name=name, line={"color": color, "width": 1.6}, **extra)


def equity_figure(
    growth: Mapping[str, pd.Series[float]], returns: Mapping[str, pd.Series[float]], drawdowns: pd.DataFrame
) -> Any:
    """Growth of 1 with the deepest drawdowns shaded, and the way below the last peak; the first entry is the strategy.

    `drawdowns`: of `tables.drawdown_table`. Buttons change between a linear and a logarithmic scale.
    """
    subplots = require("plotly.subplots", "research")
    figure = subplots.make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.66, 0.34])
    for row, (name, values) in enumerate(growth.items()):
        color, dash = (BLUE, "solid") if row == 0 else (GREY, "dash")
        figure.add_trace(_trace(values, name, color, line_dash=dash, hovertemplate="%{y:.3f}"), row=1, col=1)
        look: dict[str, Any] = {"fill": "tozeroy", "fillcolor": f"{VERMILION}30"} if row == 0 else {"line_dash": "dash"}
        look |= {"showlegend": False, "hovertemplate": "%{y:.2%}"}
        fall = _trace(drawdown_series(returns[name]), f"{name}, drawdown", VERMILION if row == 0 else GREY, **look)
        figure.add_trace(fall, row=2, col=1)
    _shade(figure, drawdowns.head(_SHADED), next(iter(growth.values())).index[-1])
    figure.update_yaxes(title_text="growth of 1", row=1, col=1)
    figure.update_yaxes(title_text="drawdown", tickformat=".0%", row=2, col=1)
    figure.update_layout(hovermode="x unified", updatemenus=[_scales()])
    return bare(figure, 540)


def _shade(figure: Any, drawdowns: pd.DataFrame, last: pd.Timestamp) -> None:
    for start, recovered in zip(drawdowns["start"], drawdowns["recovered"], strict=True):
        end = last if pd.isna(recovered) else recovered
        edges = {"x0": start.tz_localize(None), "x1": end.tz_localize(None)}
        figure.add_vrect(**edges, fillcolor=VERMILION, opacity=0.07, line_width=0, layer="below", row=1, col=1)


def _scales() -> dict[str, Any]:
    """Buttons for the scale of the upper axis."""
    buttons = [
        {"label": name, "method": "relayout", "args": [{"yaxis.type": kind}]}
        for name, kind in (("linear", "linear"), ("log", "log"))
    ]
    place = {"x": 1.0, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "direction": "left", "type": "buttons"}
    look = {"bgcolor": "rgba(128,128,128,.12)", "bordercolor": "rgba(128,128,128,.45)", "pad": {"b": 4}}
    return {"buttons": buttons, "showactive": False, **place, **look, "font": {"size": 11}}


def yearly_figure(table: pd.DataFrame) -> Any:
    """Returns by calendar year, beside the benchmark's where there is one."""
    go = require("plotly.graph_objects", "research")
    figure, years = go.Figure(), [str(year) for year in table.index]
    for name, color in (("strategy", BLUE), ("benchmark", GREY)):
        if name in table:
            bar = go.Bar(x=years, y=table[name].round(6), name=name, marker_color=color, hovertemplate="%{y:.2%}")
            figure.add_trace(bar)
    figure.update_yaxes(tickformat=".0%").update_xaxes(type="category")
    return bare(figure.update_layout(barmode="group", hovermode="x unified", bargap=0.25), 300)


def rolling_figure(table: pd.DataFrame) -> Any:
    """Rolling Sharpe ratio above rolling volatility."""
    subplots = require("plotly.subplots", "research")
    figure = subplots.make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.07)
    sharpe, volatility = table["sharpe_ratio"], table["annual_volatility"]
    figure.add_trace(_trace(sharpe, "Sharpe ratio", BLUE, hovertemplate="%{y:.2f}"), row=1, col=1)
    figure.add_trace(_trace(volatility, "volatility", ORANGE, hovertemplate="%{y:.1%}"), row=2, col=1)
    figure.update_yaxes(title_text="Sharpe ratio", row=1, col=1)
    figure.update_yaxes(title_text="volatility", tickformat=".0%", row=2, col=1)
    return bare(figure.update_layout(hovermode="x unified"), 380)


def distribution_figure(returns: pd.Series[float], tails: pd.DataFrame) -> Any:
    """Histogram of the non-zero returns, the normal curve of the same mean and deviation, and the tails' losses.

    `tails`: of `tables.tail_table`, of all returns.
    """
    go = require("plotly.graph_objects", "research")
    values = returns.to_numpy(np.float64)
    values = values[values != 0.0]
    counts, edges = np.histogram(values, bins=min(80, max(10, int(math.sqrt(values.size)))))
    middles = (edges[:-1] + edges[1:]) / 2.0
    figure = go.Figure(go.Bar(x=middles, y=counts, name="returns", marker_color=BLUE, opacity=0.75))
    deviation = float(values.std(ddof=1)) if values.size > 1 else 0.0
    if deviation > 0.0:
        density = np.exp(-0.5 * ((middles - values.mean()) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
        expected = density * values.size * (edges[1] - edges[0])
        figure.add_trace(go.Scatter(x=middles, y=expected, name="normal", line={"color": ORANGE, "width": 1.6}))
    look = {"yref": "paper", "showarrow": False, "font": {"color": VERMILION, "size": 11}}
    for level, (alpha, var) in enumerate(tails["value_at_risk"].items()):
        figure.add_vline(x=-var, line={"color": VERMILION, "width": 1.4, "dash": "dash"})
        side = {"xanchor": "left", "xshift": 4} if level == 0 else {"xanchor": "right", "xshift": -4}
        figure.add_annotation(x=-var, y=1.0 - 0.12 * level, text=f"VaR {alpha:.0%}", **look, **side)
    figure.update_xaxes(tickformat=".1%").update_yaxes(title_text="bars")
    return bare(figure.update_layout(bargap=0.04), 330)


def exposure_figure(result: Result) -> Any:
    """Held value over equity, gross and net; and the turnover of each month, as a multiple of equity."""
    subplots, go = require("plotly.subplots", "research"), require("plotly.graph_objects", "research")
    figure = subplots.make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.6, 0.4])
    for name, color, dash in (("gross", BLUE, "solid"), ("net", ORANGE, "dot")):
        curve = _trace(result.exposure[name], name, color, line_dash=dash, hovertemplate="%{y:.1%}")
        figure.add_trace(curve, row=1, col=1)
    turnover = monthly_turnover(result)
    middle = pd.PeriodIndex(turnover.index).to_timestamp() + pd.Timedelta("14D")
    bars = go.Bar(x=middle.to_numpy().astype("M8[s]"), y=turnover.round(4), name="turnover of the month")
    figure.add_trace(bars.update(marker_color=GREY, hovertemplate="%{y:.2f}"), row=2, col=1)
    figure.update_yaxes(title_text="of equity", tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title_text="× equity", row=2, col=1)
    return bare(figure.update_layout(hovermode="x unified", bargap=0.1), 380)


def excursion_figure(result: Result) -> Any:
    """Each trade's return against how far it went against it and with it."""
    return bare(plots.excursion_figure(result), 360)


def holding_figure(trades: pd.DataFrame) -> Any:
    """How long trades were held, in bars: won and lost ones stacked."""
    go = require("plotly.graph_objects", "research")
    bars = trades["bars"].to_numpy()
    edges = np.unique(np.linspace(bars.min(), bars.max() + 1, min(40, int(np.ptp(bars)) + 2)).round().astype(int))
    figure = go.Figure()
    for name, color, some in (("won", BLUE, trades["profit"] > 0), ("lost", ORANGE, trades["profit"] <= 0)):
        counts, _ = np.histogram(bars[some.to_numpy()], bins=edges)
        told = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in itertools.pairwise(edges.tolist())]
        place = {"x": edges[:-1], "width": np.diff(edges) * 0.92, "offset": 0, "y": counts, "customdata": told}
        hover = "%{customdata} bars: %{y}"
        figure.add_trace(go.Bar(**place, name=name, marker_color=color, hovertemplate=hover))
    figure.update_xaxes(title_text="bars held").update_yaxes(title_text="trades")
    return bare(figure.update_layout(barmode="stack"), 300)


def cost_figure(costs: pd.DataFrame) -> Any:
    """Costs per year, stacked by kind."""
    go = require("plotly.graph_objects", "research")
    figure, years = go.Figure(), [str(year) for year in costs.index]
    for name, color in zip(costs.columns, _COST_COLORS, strict=False):
        said = str(name).replace("_", " ")
        bar = go.Bar(x=years, y=costs[name].round(4), name=said, marker_color=color, hovertemplate="%{y:,.0f}")
        figure.add_trace(bar)
    figure.update_xaxes(type="category").update_yaxes(title_text="quote currency", tickformat="~s")
    return bare(figure.update_layout(barmode="relative", hovermode="x unified", bargap=0.25), 280)
