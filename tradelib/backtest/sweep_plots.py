"""Pictures of a sweep: where the good points lie, and whether they have good neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.look import themed
from tradelib.errors import require
from tradelib.risk.exits import Distance

__all__ = ["heat_map", "label", "parallel_coordinates", "scatter", "table"]

_FRACTIONS = (
    "total_return",
    "annual_return",
    "annual_volatility",
    "maximum_drawdown",
    "trade_win_rate",
    "exposure",
)
_COUNTS = ("trades", "orders", "rejected_orders")
_LENGTHS = ("stop_loss", "trailing_stop", "trailing_activation", "break_even", "break_even_offset")
_BEST = "#d55e00"
_MARK = {"symbol": "star", "size": 15, "color": _BEST, "line": {"color": "white", "width": 1}}


def label(value: Any, name: str = "") -> Any:
    """A value of the parameter `name` in words: "5%" for a fraction, "2 atr" for a distance; other numbers stay."""
    if isinstance(value, Distance):
        return _percent(value.value) if value.unit == "fraction" else f"{value.value:.4g} {value.unit}"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | np.number):
        return _percent(value) if _is_fraction(name) else value
    return str(value)


def _percent(value: Any) -> str:
    return f"{100 * value:.4g}%"


def _is_fraction(name: str) -> bool:
    """True for parameters that are fractions of a price, of a traded value or of equity."""
    part, _, field = name.rpartition(".")
    if part == "costs":
        return field.endswith("rate") or field in ("slippage", "spread")
    return field in ("daily_loss", "maximum_drawdown") or (part == "exits" and field in _LENGTHS)


def table(frame: pd.DataFrame, rows: str, columns: str, by: str) -> pd.DataFrame:
    """One figure over two parameters, the best over all others; what is no number is named by its `label`.

    `attrs["points_per_cell"]`: the most points that share a cell.
    """
    axes = {name: _sortable(frame[name]) for name in (rows, columns)}
    best = frame.assign(**axes).pivot_table(by, rows, columns, aggfunc="max", dropna=False, observed=True)
    best.attrs["points_per_cell"] = int(frame.groupby([axes[rows], axes[columns]], observed=True).size().max())
    return best


def _sortable(values: pd.Series) -> pd.Series:
    """Numbers as they are; anything else by its label, in the order of appearance."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    texts = _shown(values)
    return texts.astype(pd.CategoricalDtype(list(texts.unique()), ordered=True))


def _namer(name: Any) -> Callable[[Any], str]:
    return lambda value: str(label(value, str(name)))


def _shown(values: pd.Series) -> pd.Series:
    """Numbers as they are; anything else by its label."""
    return values if pd.api.types.is_numeric_dtype(values) else values.map(_namer(values.name))


def _format(figure: str) -> str:
    """How a figure is written, in d3's notation."""
    if figure in _FRACTIONS:
        return ".1%"
    return ",.0f" if figure in _COUNTS or figure.endswith(("fees", "cost")) else ".2f"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _title(name: str) -> str:
    return _words(name)[:1].upper() + _words(name)[1:]


def _colours(values: np.ndarray) -> dict[str, Any]:
    """Red to blue around zero where both signs occur, else dark to bright; both readable by the colour-blind."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() < 0.0 < known.max():
        reach = float(np.abs(known).max())
        return {"colorscale": "RdBu", "cmin": -reach, "cmax": reach}
    return {"colorscale": "Cividis"}


def _figure(trace: Any, title: str, **axes: str) -> Any:
    graphs = require("plotly.graph_objects", "research")
    figure = graphs.Figure(trace)
    themed(figure).update_layout(margin={"l": 70, "r": 30, "t": 70, "b": 60})
    figure.update_layout(title={"text": title, "x": 0.01})
    figure.update_layout(showlegend=False, **{f"{name}_title": text for name, text in axes.items()})
    return figure


def _even(values: pd.Index) -> bool:
    """True for numbers in equal steps: only those may be drawn to scale."""
    if not pd.api.types.is_numeric_dtype(values.dtype) or len(values) < 2:
        return False
    steps = np.diff(values.to_numpy(dtype=float))
    return bool(np.allclose(steps, steps[0]))


def _place(names: Sequence[str], values: Sequence[Any]) -> str:
    """A point in words: "fast 20, stop_loss 5%"."""
    return ", ".join(f"{n.rpartition('.')[2]} {label(v, n)}" for n, v in zip(names, values, strict=True))


def _axis_format(name: str) -> str | None:
    return ".4~%" if _is_fraction(name) else None


def heat_map(table: pd.DataFrame, by: str) -> Any:
    """`table` of one figure over two parameters as a plotly figure, its best cell marked with a star."""
    graphs, values = require("plotly.graph_objects", "research"), table.to_numpy(dtype=float)
    x, y = (axis if _even(axis) else axis.map(_namer(axis.name)) for axis in (table.columns, table.index))
    form, colours = _format(by), _colours(values)
    colours = {{"cmin": "zmin", "cmax": "zmax"}.get(name, name): value for name, value in colours.items()}
    hover = f"{table.columns.name} %{{x}}<br>{table.index.name} %{{y}}<br>{_words(by)} %{{z:{form}}}<extra></extra>"
    trace = graphs.Heatmap(
        x=x, y=y, z=values, colorbar={"title": _words(by), "tickformat": form}, hovertemplate=hover, **colours
    )
    figure = _figure(trace, _title(by), xaxis=str(table.columns.name), yaxis=str(table.index.name))
    for name, axis in (("xaxis", x), ("yaxis", y)):
        figure.update_layout({f"{name}_type": "linear" if _even(axis) else "category", f"{name}_showgrid": False})
        figure.update_layout({f"{name}_tickformat": _axis_format(str(axis.name))})
    if np.isfinite(values).any():
        row, column = divmod(int(np.nanargmax(values)), values.shape[1])
        place = _place([str(table.index.name), str(table.columns.name)], [table.index[row], table.columns[column]])
        figure.add_trace(graphs.Scatter(x=[x[column]], y=[y[row]], mode="markers", marker=_MARK, hoverinfo="skip"))
        figure.update_layout(title_text=f"{_title(by)}: best {values[row, column]:{form}} at {place}")
    if table.attrs.get("points_per_cell", 1) > 1:
        figure.update_layout(title_subtitle_text="each cell shows the best over all other parameters")
    return figure


def scatter(frame: pd.DataFrame, axis: str, by: str) -> Any:
    """One figure over one parameter as a plotly figure, the best point marked with a star."""
    graphs, form = require("plotly.graph_objects", "research"), _format(by)
    x, y = _shown(frame[axis]), frame[by].to_numpy(dtype=float)
    hover = f"{axis} %{{x}}<br>{_words(by)} %{{y:{form}}}<extra></extra>"
    line = graphs.Scatter(x=x, y=y, mode="lines+markers", line={"color": "#0072b2"}, hovertemplate=hover)
    figure = _figure(line, _title(by), xaxis=axis, yaxis=_words(by))
    figure.update_layout(yaxis_tickformat=form, xaxis_tickformat=_axis_format(axis))
    if np.isfinite(y).any():
        best = int(np.nanargmax(y))
        figure.add_trace(graphs.Scatter(x=x[[best]], y=y[[best]], mode="markers", marker=_MARK, hoverinfo="skip"))
        figure.update_layout(
            title_text=f"{_title(by)}: best {y[best]:{form}} at {_place([axis], [frame[axis].iloc[best]])}"
        )
    return figure


def parallel_coordinates(frame: pd.DataFrame, axes: Sequence[str], by: str) -> Any:
    """All `axes` beside each other and the figure last; each point a line, coloured by the figure."""
    graphs, form = require("plotly.graph_objects", "research"), _format(by)
    shown = frame[[*axes, by]].dropna(subset=[by]).sort_values(by)
    values = shown[by].to_numpy(dtype=float)
    dimensions = [_dimension(_shown(shown[axis]), axis, _shown(frame[axis]).unique()) for axis in axes]
    dimensions.append({"label": _words(by), "values": values, "tickformat": form})
    line = {"color": values, "showscale": True, "colorbar": {"title": _words(by), "tickformat": form}}
    told = _title(by)
    if len(shown):
        told = f"{told}: best {values[-1]:{form}} at {_place(axes, [shown[axis].iloc[-1] for axis in axes])}"
    figure = _figure(graphs.Parcoords(dimensions=dimensions, line={**line, **_colours(values)}), told)
    # plotly outlines these labels in the colour of the paper, and draws their axes black
    return figure.update_layout(margin={"l": 80, "r": 60, "t": 110, "b": 40}, paper_bgcolor="white")


def _dimension(values: pd.Series, name: str, order: Iterable[Any]) -> dict[str, Any]:
    """An axis of parallel coordinates: numbers to scale, everything else in `order`."""
    if pd.api.types.is_numeric_dtype(values):
        return {"label": name, "values": values, "tickformat": _axis_format(name)}
    texts = list(order)
    places = values.map({text: place for place, text in enumerate(texts)})
    return {"label": name, "values": places, "tickvals": list(range(len(texts))), "ticktext": texts}
