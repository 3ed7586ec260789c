"""What a candidate looks like: three pictures for MLflow, where runs are compared by looking at them.

The same result gives the same pictures; they are drawn at one size, so that a grid of them can be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tradelib.backtest.plots import BLUE, GREY, VERMILION, monthly_returns
from tradelib.errors import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tradelib.backtest.result import Result

__all__ = ["candidate_pictures"]

_SIZE = (9.0, 5.0)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL_COLOUR = 0.1  # monthly return at which the colour is full


def candidate_pictures(result: Result) -> dict[str, Figure]:
    """Equity with drawdown, price with the entries and exits of trades, returns by month; figures of matplotlib.

    `result`: of one symbol. Raises `MissingExtraError` without matplotlib.
    """
    drawers = {"equity": _equity, "price": _price, "monthly": _monthly}
    pictures = {}
    for name, draw in drawers.items():
        pictures[name] = require("matplotlib.figure", "research").Figure(figsize=_SIZE, layout="constrained")
        draw(pictures[name], result)
    return pictures


def _equity(figure: Any, result: Result) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    equity, drawdown = result.equity, result.to_frame()["drawdown"]
    above.plot(equity.index, equity.to_numpy(), color=BLUE, linewidth=1.2)
    above.set(title=f"equity, Sharpe ratio {result.metrics['sharpe_ratio']:.2f}", ylabel="equity")
    below.fill_between(drawdown.index, drawdown.to_numpy() * 100.0, 0.0, color=VERMILION, alpha=0.4, linewidth=0.0)
    below.set(ylabel="drawdown, %")


def _price(figure: Any, result: Result) -> None:
    axes, fills = figure.subplots(), result.fills
    close = result.bars["close"].loc[result.index[0] : result.index[-1]]
    axes.plot(close.index, close.to_numpy(), color=GREY, linewidth=0.8)
    for side, colour, marker in (("buy", BLUE, "^"), ("sell", VERMILION, "v")):
        some = fills[fills["side"].astype(str) == side]
        look = {"s": 14, "color": colour, "marker": marker, "label": f"{len(some)} {side}s", "zorder": 3}
        axes.scatter(some["time"], some["price"], **look)
    axes.set(title=f"{result.symbols[0]} with {result.metrics['trades']:.0f} closed trades", ylabel="price")
    axes.legend(frameon=False)


def _monthly(figure: Any, result: Result) -> None:
    table = monthly_returns(result.returns)
    values = table.reindex(columns=range(1, 13)).to_numpy(dtype=np.float64)
    axes, colours = figure.subplots(), require("matplotlib.colors", "research")
    scale = colours.LinearSegmentedColormap.from_list("returns", [VERMILION, "#ffffff", BLUE])
    axes.imshow(values, cmap=scale, vmin=-_FULL_COLOUR, vmax=_FULL_COLOUR, aspect="auto")
    axes.set(title="returns by month, %", yticks=range(len(table)), yticklabels=table.index)
    axes.set_xticks(range(12), _MONTHS)
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        axes.text(column, row, f"{values[row, column] * 100.0:.1f}", ha="center", va="center", fontsize=7)
