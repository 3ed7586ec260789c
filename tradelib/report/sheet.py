"""A tear sheet: one backtest on one page, for a reader who wants to know how it was earned and how it felt."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import information_ratio, summary_metrics
from tradelib.data.files import replace_file
from tradelib.errors import ParameterError, require
from tradelib.report import figures
from tradelib.report.charts import HOVER, Line, heat_map, line_chart
from tradelib.report.labels import MISSING, figure, figures_table
from tradelib.report.page import Markup, badge, card, page, table, tag, tiles

if TYPE_CHECKING:
    from tradelib.backtest.result import Result

__all__ = ["TearSheet", "tear_sheet"]

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MOST_TRADES = 250
_FIT = "for (const plot of document.querySelectorAll('.plotly-graph-div')) Plotly.Plots.resize(plot);"


@dataclass(frozen=True, eq=False, repr=False)
class TearSheet:
    """A page about `result`; `benchmark` holds returns on the same bars, or None."""

    result: Result
    benchmark: pd.Series[float] | None
    title: str

    def to_html(self) -> str:
        """One self-contained interactive page (about 5 MB: plotly travels inside); works offline."""
        plotly = require("plotly.offline", "research").get_plotlyjs()
        return page(self.title, *_content(self), libraries=[plotly], scripts=[_FIT])

    def save(self, path: str | Path) -> Path:
        """Write the page to `path` in one step; returns the path."""
        return replace_file(path, self.to_html().encode())

    def __repr__(self) -> str:
        return f"TearSheet({self.title!r}); .save('sheet.html') writes the page"

    def _repr_html_(self) -> str:
        """A light version for notebooks: figures, equity and drawdown in a frame of their own."""
        inner, name = html.escape(page(self.title, *_light(self), scripts=[HOVER])), html.escape(self.title)
        return f'<iframe srcdoc="{inner}" style="width:100%;height:660px;border:0" title="{name}"></iframe>'


def tear_sheet(
    result: Result, *, benchmark: pd.Series[float] | str | None = "hold", title: str | None = None
) -> TearSheet:
    """The tear sheet of a backtest.

    `benchmark`: simple returns on the bars of the result (a Series; its name is shown), "hold" for the traded asset
    bought and held without costs, or None. `ParameterError` when it does not cover every bar.
    """
    told = f"{result.title} {result.panel.timeframe}"
    return TearSheet(result, _benchmark(result, benchmark), title or told)


def _benchmark(result: Result, benchmark: pd.Series[float] | str | None) -> pd.Series[float] | None:
    if benchmark is None:
        return None
    if isinstance(benchmark, str):
        if benchmark != "hold":
            raise ParameterError(f"benchmark must be a Series of returns, 'hold' or None, got {benchmark!r}")
        held = result.bars["close"].pct_change().fillna(0.0).iloc[result.first :]
        return held.rename("buy and hold")
    if not isinstance(benchmark, pd.Series):
        raise ParameterError(f"benchmark must be a Series of returns, 'hold' or None, got {type(benchmark).__name__}")
    missing = result.index.difference(pd.Index(benchmark.dropna().index))
    if len(missing):
        raise ParameterError(
            f"the benchmark has no return at {missing[0]} ({len(missing)} of {len(result.index)} bars)"
        )
    return benchmark.loc[result.index].rename(str(benchmark.name or "benchmark"))


def _returns(sheet: TearSheet) -> dict[str, pd.Series[float]]:
    own = {"strategy": sheet.result.returns}
    return own if sheet.benchmark is None else own | {str(sheet.benchmark.name): sheet.benchmark}


def _growth(sheet: TearSheet) -> dict[str, pd.Series[float]]:
    return {name: (1.0 + returns).cumprod() for name, returns in _returns(sheet).items()}


def _header(sheet: TearSheet) -> Markup:
    result, metrics = sheet.result, sheet.result.metrics
    span = f"{result.index[0]:%Y-%m-%d} to {result.index[-1]:%Y-%m-%d}, {len(result.index):,} bars"
    costs = f"fee {result.costs.fee_rate:.3%}, slippage {result.costs.slippage:.3%} of traded value"
    at = f"at {result.periods_per_year:,.0f} periods a year"
    shown = [
        ("Total return", figure("total_return", metrics["total_return"]), f"{len(result.index):,} bars, after costs"),
        ("Annual return", figure("annual_return", metrics["annual_return"]), at),
        ("Sharpe ratio", figure("sharpe_ratio", metrics["sharpe_ratio"]), at),
        ("Maximum drawdown", figure("maximum_drawdown", metrics["maximum_drawdown"]), "from the highest close"),
        ("Trades", figure("trades", metrics["trades"]), f"{figure('exposure', metrics['exposure'])} of bars invested"),
    ]
    heading = tag("header", tag("h1", sheet.title), tag("p", span, class_="lead"))
    return heading + tag("p", f"{_settings(result)}; {costs}", class_="note") + tiles(shown)


def _settings(result: Result) -> str:
    if result.rule is None:
        return f"run with {result.name}"
    config = result.rule.to_config()
    parts = [f"{part['name']}({_arguments(part['params'])})" for part in (config["strategy"], config["sizing"])]
    band = config["rebalance_band"]
    return f"{', '.join(parts)}, {'entries and exits only' if band is None else f'rebalance band {band:g}'}"


def _arguments(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _content(sheet: TearSheet) -> list[Markup]:
    result = sheet.result
    beside = tag("div", _distribution(result.returns), _costs(result), class_="half column")
    cards = [
        card("Equity and drawdown", _plot(figures.equity_figure(_growth(sheet), _returns(sheet)), "equity")),
        card("Returns by month", _monthly(result.returns), note="Compounded, in percent."),
        _rolling(result),
        _metrics(sheet),
        beside,
        _trades(result),
    ]
    return [_header(sheet), tag("div", *cards, class_="grid")]


def _light(sheet: TearSheet) -> list[Markup]:
    colors = ("c1", "c4")
    lines = [
        Line(name, pd.DatetimeIndex(values.index), np.asarray(values, dtype=np.float64), color)
        for (name, values), color in zip(_growth(sheet).items(), colors, strict=False)
    ]
    return [_header(sheet), card("Growth of 1", line_chart(lines[::-1], label="growth of 1"))]


def _plot(drawn: Any, name: str) -> Markup:
    config = {"displayModeBar": False, "responsive": True}
    return Markup(drawn.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config))


def _monthly(returns: pd.Series[float]) -> Markup:
    months = figures.monthly_returns(returns)
    values = [[None if np.isnan(value) else float(value) for value in row] for row in months.to_numpy(np.float64)]
    rows = [str(year) for year in months.index]
    columns = [*_MONTHS, "Year"]
    largest = float(np.nanmax(np.abs(months[range(1, 13)].to_numpy(np.float64))))
    told = "returns by month and year"
    return heat_map(rows, columns, values, value_text=lambda value: f"{100 * value:.1f}", largest=largest, label=told)


def _rolling(result: Result) -> Markup:
    window = max(20, min(round(result.periods_per_year / 2), len(result.index) // 3))
    if len(result.index) <= window:
        told = f"{len(result.index)} bars are too few for a rolling window of {window}."
        return card("Rolling Sharpe ratio and volatility", tag("p", told, class_="note"))
    rolled = figures.rolling_table(result.returns, result.periods_per_year, window)
    note = f"Over the last {window:,} bars, at {result.periods_per_year:,.0f} periods a year."
    plot = _plot(figures.rolling_figure(rolled), "rolling")
    return card("Rolling Sharpe ratio and volatility", plot, note=note)


def _distribution(returns: pd.Series[float]) -> Markup:
    if not (returns != 0.0).any():
        return card("Distribution of returns", tag("p", "The account never moved.", class_="note"))
    idle = int((returns == 0.0).sum())
    note = f"Returns per bar; {idle:,} bars without any change are left out."
    plot = _plot(figures.distribution_figure(returns), "distribution")
    return card("Distribution of returns", plot, note=note)


def _metrics(sheet: TearSheet) -> Markup:
    result, columns = sheet.result, {"strategy": dict(sheet.result.metrics)}
    if sheet.benchmark is not None:
        name, periods = str(sheet.benchmark.name), result.periods_per_year
        columns[name] = summary_metrics(sheet.benchmark, periods)
        columns["strategy"]["information_ratio"] = information_ratio(result.returns, sheet.benchmark, periods)
    note = f"Annual figures at {result.periods_per_year:,.0f} periods per year; risk-free rate zero."
    return card("Figures", figures_table(columns, label="figures"), note=note, wide=False)


def _costs(result: Result) -> Markup:
    costs = figures.costs_by_kind(result.orders)
    years = len(result.index) / result.periods_per_year
    average = float(result.equity.mean())
    rows = [
        [kind, f"{amount:,.0f}", f"{amount / result.initial_cash:.2%}", f"{amount / average / years:.3%}"]
        for kind, amount in [*costs.sum().items(), ("together", float(costs.to_numpy().sum()))]
    ]
    told = table(["", "Paid", "of initial cash", "of equity a year"], rows, numbers=(1, 2, 3), label="costs by kind")
    plot = _plot(figures.cost_figure(costs), "costs") if len(costs) else tag("p", "Nothing was traded.", class_="note")
    return card("Costs by kind", told, plot)


def _trades(result: Result) -> Markup:
    trades = result.trades
    if not len(trades):
        return card("Trades", tag("p", "There was no trade.", class_="note"))
    shown = trades.iloc[-_MOST_TRADES:]
    rows = [_trade(trade) for trade in shown.to_dict("records")]
    head = ["Entry", "Exit", "Side", "Quantity", "Entry price", "Exit price", "Profit", "Return", "Bars"]
    note = f"{len(trades):,} trades" + (f", the last {len(shown):,} of them shown" if len(shown) < len(trades) else "")
    note += "; net of fees; an open one is marked at the last close."
    listed = table(head, rows, numbers=range(3, 9), label="trades")
    return card("Trades", Markup(listed.replace('class="scroll"', 'class="scroll tall"', 1)), note=note)


def _trade(trade: Mapping[Any, Any]) -> list[Any]:
    leaves: Any = (
        badge("none", "open") if trade["open"] else f"{trade['exit_time']:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    )
    prices = [f"{trade[name]:,.6g}" for name in ("quantity", "entry_price", "exit_price")]
    result = [f"{trade['profit']:+,.2f}", f"{trade['return']:+.2%}" if np.isfinite(trade["return"]) else MISSING]
    enters = f"{trade['entry_time']:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    return [enters, leaves, trade["side"], *prices, *result, f"{trade['bars']:,}"]
