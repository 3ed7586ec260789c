"""Interactive figures of a tear sheet (plotly), and the tables behind them. Colours read on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import drawdown_series
from tradelib.errors import require
from tradelib.report.charts import thin

__all__ = [
    "cost_figure",
    "costs_by_kind",
    "distribution_figure",
    "equity_figure",
    "monthly_returns",
    "rolling_figure",
    "rolling_table",
]

BLUE, ORANGE, GREY = "#3b76e1", "#d9701f", "#8a8f98"
_POINTS = 4000


def _layout(figure: Any, height: int) -> Any:
    grid = {"gridcolor": "rgba(128,128,128,.22)", "zerolinecolor": "rgba(128,128,128,.45)"}
    figure.update_layout(
        height=height,
        margin={"l": 54, "r": 12, "t": 12, "b": 30},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#80858d"},
        legend={"orientation": "h", "y": 1.06, "x": 0},
        hovermode="x unified",
        bargap=0.15,
    )
    figure.update_xaxes(**grid)
    return figure.update_yaxes(**grid)


def _trace(values: pd.Series[float], name: str, color: str, **extra: Any) -> Any:
    go = require("plotly.graph_objects", "research")
    positions, kept = thin(np.arange(len(values), dtype=np.float64), np.asarray(values, dtype=np.float64), _POINTS)
    times = values.index[positions.astype(int)]
    return go.Scatter(x=times, y=kept, name=name, line={"color": color, "width": 1.6}, **extra)


def equity_figure(growth: Mapping[str, pd.Series[float]], returns: Mapping[str, pd.Series[float]]) -> Any:
    """Growth of 1 above, drawdown below; the first entry is the strategy, the others are benchmarks."""
    subplots = require("plotly.subplots", "research")
    figure = subplots.make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.68, 0.32])
    for row, (name, values) in enumerate(growth.items()):
        color = BLUE if row == 0 else GREY
        figure.add_trace(_trace(values, name, color), row=1, col=1)
        look: dict[str, Any] = {"fill": "tozeroy", "fillcolor": "rgba(59,118,225,.18)"} if row == 0 else {}
        fall = drawdown_series(returns[name])
        figure.add_trace(_trace(fall, f"{name}, drawdown", color, showlegend=False, **look), row=2, col=1)
    figure.update_yaxes(title_text="growth of 1", row=1, col=1)
    figure.update_yaxes(title_text="drawdown", tickformat=".0%", row=2, col=1)
    return _layout(figure, 520)


def rolling_table(returns: pd.Series[float], periods_per_year: float, window: int) -> pd.DataFrame:
    """Annualised Sharpe ratio and volatility of the last `window` returns at each bar; nan where undefined."""
    deviation = returns.rolling(window).std(ddof=1)
    flat = returns.rolling(window).max() == returns.rolling(window).min()
    deviation = deviation.where(~flat, 0.0)
    sharpe = returns.rolling(window).mean() / deviation.where(deviation > 0.0) * math.sqrt(periods_per_year)
    return pd.DataFrame({"sharpe_ratio": sharpe, "annual_volatility": deviation * math.sqrt(periods_per_year)})


def rolling_figure(table: pd.DataFrame) -> Any:
    """Rolling Sharpe ratio above rolling volatility."""
    subplots = require("plotly.subplots", "research")
    figure = subplots.make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.07)
    figure.add_trace(_trace(table["sharpe_ratio"], "Sharpe ratio", BLUE), row=1, col=1)
    figure.add_trace(_trace(table["annual_volatility"], "volatility", ORANGE), row=2, col=1)
    figure.update_yaxes(title_text="Sharpe ratio", row=1, col=1)
    figure.update_yaxes(title_text="volatility", tickformat=".0%", row=2, col=1)
    return _layout(figure, 380)


def distribution_figure(returns: pd.Series[float]) -> Any:
    """Histogram of the non-zero returns with the normal curve of the same mean and deviation."""
    go = require("plotly.graph_objects", "research")
    values = returns.to_numpy(np.float64)
    values = values[values != 0.0]
    counts, edges = np.histogram(values, bins=min(80, max(10, int(math.sqrt(values.size)))))
    middles = (edges[:-1] + edges[1:]) / 2.0
    figure = go.Figure(go.Bar(x=middles, y=counts, name="returns", marker={"color": BLUE}, opacity=0.75))
    deviation = float(values.std(ddof=1)) if values.size > 1 else 0.0
    if deviation > 0.0:
        density = np.exp(-0.5 * ((middles - values.mean()) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
        expected = density * values.size * (edges[1] - edges[0])
        figure.add_trace(go.Scatter(x=middles, y=expected, name="normal", line={"color": ORANGE, "width": 1.6}))
    figure.update_xaxes(tickformat=".1%")
    figure.update_yaxes(title_text="bars")
    return _layout(figure, 320)


def monthly_returns(returns: pd.Series[float]) -> pd.DataFrame:
    """Compounded returns: one row per year, one column per month (1 to 12), and `year`; nan where there was no bar."""
    index = pd.DatetimeIndex(returns.index)
    growth = 1.0 + returns
    table = growth.groupby([index.year, index.month]).prod().unstack().reindex(columns=range(1, 13)) - 1.0
    table["year"] = growth.groupby(index.year).prod() - 1.0
    return table.rename_axis(index="year", columns=None)


def costs_by_kind(orders: pd.DataFrame) -> pd.DataFrame:
    """Fees and slippage of filled orders per calendar year (rows) in quote currency."""
    filled = orders[orders["status"] == "filled"]
    years = pd.DatetimeIndex(filled["fill_time"]).year
    table = filled[["fee", "slippage_cost"]].groupby(years).sum()
    return table.rename(columns={"fee": "fees", "slippage_cost": "slippage"}).rename_axis("year")


def cost_figure(costs: pd.DataFrame) -> Any:
    """Costs per year, stacked by kind."""
    go = require("plotly.graph_objects", "research")
    figure = go.Figure()
    for name, color in zip(costs.columns, (BLUE, ORANGE, GREY), strict=False):
        figure.add_trace(
            go.Bar(x=[str(year) for year in costs.index], y=costs[name], name=name, marker={"color": color})
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(title_text="quote currency")
    return _layout(figure, 280)
