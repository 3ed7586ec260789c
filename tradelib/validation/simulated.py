"""What simulations say: an interval for any figure, and many futures in quantiles, pictures and words."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from tradelib.backtest.boundary import is_number, shown
from tradelib.backtest.look import themed
from tradelib.errors import ParameterError, require
from tradelib.validation.paths import PathFigures
from tradelib.validation.ruin import Probability, wilson_interval

__all__ = ["BootstrapInterval", "MonteCarlo", "MonteCarloPlot"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MonteCarloPlot = Literal["fan", "drawdown", "terminal"]


@dataclass(frozen=True, eq=False)
class BootstrapInterval:
    """A statistic of the returns, and the middle `confidence` of its values in other histories, `draws` `(paths,)`."""

    estimate: float
    low: float
    high: float
    confidence: float
    draws: np.ndarray = field(repr=False)
    block_length: float

    @property
    def interpretation(self) -> str:
        """The result in plain words."""
        sign = "its sign is not in doubt" if self.low > 0.0 or self.high < 0.0 else "it may as well be zero"
        return (
            f"{self.estimate:.4g}; in {self.confidence:.0%} of {len(self.draws):,} other histories (blocks of "
            f"{self.block_length:.1f} returns) from {self.low:.4g} to {self.high:.4g}: {sign}."
        )

    def summary(self) -> str:
        """The result in plain words."""
        return self.interpretation

    def plot(self) -> Any:
        """A plotly figure: the statistic in other histories, the interval and the estimate."""
        figure = require("plotly.graph_objects", "research").Figure()
        counts, edges = np.histogram(self.draws, 40)
        figure.add_bar(x=(edges[1:] + edges[:-1]) / 2, y=counts, marker_color="#4c78a8", name="histories")
        for at, dash in ((self.low, "dot"), (self.estimate, "solid"), (self.high, "dot")):
            figure.add_vline(x=at, line_dash=dash)
        return themed(figure).update_layout(title=html.escape(self.interpretation), height=300, bargap=0.02)

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.interpretation)}</p>"


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """Simulated futures: `paths` has their figures, `parameters` what they were drawn with, `notes` what to know of it.

    Wealth starts at 1. `unit`: what a step is ("bars" or "trades").
    """

    paths: PathFigures = field(repr=False)
    model: str
    parameters: dict[str, Any]
    unit: str = "bars"
    notes: tuple[str, ...] = ()

    @property
    def equity(self) -> pd.DataFrame:
        """Quantiles of wealth (columns) after each of up to 64 steps (index), from 1 at step 0."""
        levels = np.quantile(self.paths.wealth, _QUANTILES, axis=0).T
        table = pd.DataFrame(np.vstack([np.ones(len(_QUANTILES)), levels]), columns=list(_QUANTILES))
        return table.set_index(pd.Index([0, *self.paths.steps], name=self.unit))

    def probability_of_ruin(self, loss: float, confidence: float = 0.95) -> Probability:
        """Chance that wealth falls by the fraction `loss` of its start at any step."""
        event = f"a loss of {_share(loss, 'loss'):.0%} within {self.paths.horizon:,} {self.unit}"
        return wilson_interval(int((self.paths.lowest <= 1.0 - loss).sum()), len(self.paths), confidence, event)

    def probability_of_drawdown(self, drawdown: float, confidence: float = 0.95) -> Probability:
        """Chance of a fall by the fraction `drawdown` from the highest wealth so far."""
        event = f"a drawdown of {_share(drawdown, 'drawdown'):.0%} within {self.paths.horizon:,} {self.unit}"
        hits = int((self.paths.maximum_drawdown <= -drawdown).sum())
        return wilson_interval(hits, len(self.paths), confidence, event)

    def probability_of_loss(self, confidence: float = 0.95) -> Probability:
        """Chance to end below the start."""
        event = f"an end below the start after {self.paths.horizon:,} {self.unit}"
        return wilson_interval(int((self.paths.terminal < 1.0).sum()), len(self.paths), confidence, event)

    @property
    def interpretation(self) -> str:
        """The result in plain words."""
        return _in_words(self)

    def to_frame(self) -> pd.DataFrame:
        """Final and lowest wealth and deepest drawdown (columns) at their quantiles, from the worst (index)."""
        return self.paths.to_frame().quantile([0.01, *_QUANTILES, 0.99]).rename_axis("quantile")

    def summary(self) -> str:
        """The quantiles as a text table, and what they say."""
        return f"{self.to_frame().round(4).to_string()}\n\n{self.interpretation}"

    def plot(self, kind: MonteCarloPlot = "fan") -> Any:
        """A plotly figure: "fan" of wealth over time, or the distribution of "drawdown" or "terminal" wealth."""
        return _figure(self, kind)

    def _repr_html_(self) -> str:
        return f"{self.to_frame().round(3).to_html()}<p>{html.escape(self.interpretation)}</p>"


def _share(value: Any, name: str) -> float:
    if not is_number(value) or not 0.0 < value <= 1.0:
        raise ParameterError(f"{name} is {shown(value)}: give a fraction of wealth, 0.2 is twenty percent")
    return float(value)


def _in_words(found: MonteCarlo) -> str:
    low, middle, high = np.quantile(found.paths.terminal, [0.05, 0.5, 0.95])
    fall, rare = np.quantile(found.paths.maximum_drawdown, [0.5, 0.05])
    halved = found.probability_of_ruin(0.5)
    notes = "".join(f" Note: {note}." for note in found.notes)
    return (
        f"{len(found.paths):,} paths of {found.paths.horizon:,} {found.unit} ({found.model}): half end above "
        f"{middle - 1:+.1%}, one in twenty below {low - 1:+.1%}, one in twenty above {high - 1:+.1%}. Expect a "
        f"drawdown of {-fall:.1%}; one path in twenty has {-rare:.1%} or more. Half of the money is lost in "
        f"{halved.estimate:.2%} of them (up to {halved.high:.2%} by the error of simulating). All of it supposes that "
        f"what was drawn from goes on.{notes}"
    )


def _figure(found: MonteCarlo, kind: str) -> Any:
    figure = require("plotly.graph_objects", "research").Figure()
    if kind == "fan":
        _fan(figure, found.equity)
        figure.update_xaxes(title=found.unit).update_yaxes(title="wealth", type="log")
    elif kind in ("drawdown", "terminal"):
        values = -found.paths.maximum_drawdown if kind == "drawdown" else found.paths.terminal - 1.0
        most = float(np.quantile(values, 0.995))  # one lucky path in a hundred thousand would squeeze the rest
        counts, edges = np.histogram(values[values <= most], 50)
        figure.add_bar(x=(edges[1:] + edges[:-1]) / 2, y=counts / len(values), marker_color="#4c78a8", name="paths")
        title = "maximum drawdown" if kind == "drawdown" else "return at the end"
        figure.update_xaxes(title=title, tickformat=".0%").update_yaxes(title="share of paths", tickformat=".0%")
        for level, dash in ((0.5, "solid"), (0.95 if kind == "drawdown" else 0.05, "dot")):
            figure.add_vline(x=float(np.quantile(values, level)), line_dash=dash)
    else:
        raise ParameterError(f"kind is {shown(kind)}: use 'fan', 'drawdown' or 'terminal'")
    title = f"{found.model}: {len(found.paths):,} paths"
    return themed(figure).update_layout(title=html.escape(title), height=340, bargap=0.02, showlegend=False)


def _fan(figure: Any, equity: pd.DataFrame) -> None:
    """Bands of 90 % and 50 % of the paths, and the median."""
    for low, high, shade in ((0.05, 0.95, ".18"), (0.25, 0.75, ".35")):
        figure.add_scatter(x=equity.index, y=equity[high], line_width=0, name=f"{high:.0%}")
        color = f"rgba(76,120,168,{shade})"
        figure.add_scatter(
            x=equity.index, y=equity[low], line_width=0, fill="tonexty", fillcolor=color, name=f"{low:.0%}"
        )
    figure.add_scatter(x=equity.index, y=equity[0.5], line_color="#4c78a8", name="median")
