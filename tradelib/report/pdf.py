"""A result as a printed document: the same tables as on the page, with charts drawn for paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import drawdown_series
from tradelib.errors import require
from tradelib.report import study_cards, tables
from tradelib.report.labels import LABELS, MISSING, figure
from tradelib.report.paper import BLUE, GREY, INK, ORANGE, RED, Paper, curve
from tradelib.report.sheet_page import MONTHS, group_texts, growth_of, percent
from tradelib.report.studies import NotComputed
from tradelib.report.study_cards import TITLES
from tradelib.report.tables import stamp

if TYPE_CHECKING:
    from tradelib.backtest.result import Result
    from tradelib.report.sheet import TearSheet

__all__ = ["document"]

_MOST_TRADES, _MOST_SYMBOLS = 40, 60


def document(sheet: TearSheet) -> bytes:
    """The tear sheet as PDF; the same result gives the same bytes."""
    foot = f"{sheet.title} · data {sheet.result.panel.digest[:12]}"
    with Paper(sheet.title, foot) as paper:
        for part in (_cover, _years, _drawdowns, _rolling, _figures, _tails, _studies, _trading, _costs, _settings):
            part(paper, sheet)
    return paper.content


def _cover(paper: Paper, sheet: TearSheet) -> None:
    result, metrics = sheet.result, sheet.result.metrics
    span = f"{stamp(result.index[0])} to {stamp(result.index[-1])}, {len(result.index):,} bars"
    costs = f"fee {result.costs.fee_rate:.3%}, slippage {result.costs.slippage:.3%} of traded value"
    paper.headline(sheet.title, [f"{span}, {result.periods_per_year:,.0f} periods a year; {costs}."])
    names = ("total_return", "annual_return", "sharpe_ratio", "maximum_drawdown", "trades")
    notes = ("after costs", "compounded", "annualised", "from the highest close", "round trips")
    paper.tiles([(LABELS[n][0], figure(n, metrics[n]), note) for n, note in zip(names, notes, strict=True)])
    _growth(paper, sheet)
    paper.heading("Returns by month, in percent", keep=2.0)
    _heat(paper, result.returns)


def _growth(paper: Paper, sheet: TearSheet) -> None:
    paper.heading("Equity and drawdown", keep=4.0)
    (axes,) = paper.charts(2.5)
    for row, (name, values) in enumerate(growth_of(sheet).items()):
        curve(axes, values, BLUE if row == 0 else GREY, name, linestyle="-" if row == 0 else (0, (4, 2)))
    axes.set_title("growth of 1")
    _legend(axes)
    _pad(axes, sheet.result.index)
    (axes,) = paper.charts(1.35)
    fall = drawdown_series(sheet.result.returns)
    curve(axes, fall, RED)
    axes.fill_between(axes.lines[0].get_xdata(), axes.lines[0].get_ydata(), 0.0, color=RED, alpha=0.15, linewidth=0)
    axes.set_title("below the last peak")
    _percent(axes.yaxis)
    _pad(axes, sheet.result.index)


def _legend(axes: Any) -> None:
    """Beside the title, above the plot: it hides no data."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=6, borderaxespad=0.0, handlelength=1.6)


def _pad(axes: Any, index: pd.DatetimeIndex) -> None:
    first, last = (time.tz_localize(None).to_numpy() for time in (index[0], index[-1]))
    axes.set_xlim(first, last if last > first else last + np.timedelta64(1, "D"))


def _percent(axis: Any, places: int | None = None) -> None:
    ticker = require("matplotlib.ticker", "research")
    axis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=places))


def _heat(paper: Paper, returns: pd.Series[float]) -> None:
    months = tables.monthly_returns(returns)
    colors = require("matplotlib.colors", "research")
    scale = colors.LinearSegmentedColormap.from_list("months", ["#E8A07A", "#FFFFFF", "#7FB3DB"])
    values = months.to_numpy(np.float64)
    most = float(np.nanmax(np.abs(values[:, :12]))) or 1.0
    for start in range(0, len(values), 40):
        part = values[start : start + 40]
        (axes,) = paper.charts(0.16 * len(part) + 0.5, below=0.04)
        axes.pcolormesh(
            np.ma.masked_invalid(part), cmap=scale, vmin=-most, vmax=most, edgecolors="white", linewidth=0.8
        )
        axes.invert_yaxis()
        for row, column in np.argwhere(np.isfinite(part)).tolist():
            place = {"ha": "center", "va": "center", "fontsize": 6.2, "weight": "bold" if column == 12 else "normal"}
            axes.text(column + 0.5, row + 0.52, percent(part[row, column]), color=INK, **place)
        axes.set_xticks(np.arange(13) + 0.5, [*MONTHS, "Year"])
        axes.set_yticks(np.arange(len(part)) + 0.5, [str(year) for year in months.index[start : start + 40]])
        axes.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False, length=0)
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)


def _years(paper: Paper, sheet: TearSheet) -> None:
    years = tables.yearly_table(sheet.result.returns, sheet.benchmark)
    paper.heading("Returns by year", keep=2.2)
    upright = len(years) > 16
    (axes,) = paper.charts(1.9, below=0.42 if upright else 0.24)
    place, both = np.arange(len(years)), "benchmark" in years
    width = 0.38 if both else 0.7
    axes.bar(place - (width / 2 if both else 0.0), years["strategy"], width, color=BLUE, label="strategy")
    if sheet.benchmark is not None:
        axes.bar(place + width / 2, years["benchmark"], width, color=GREY, label=str(sheet.benchmark.name))
    axes.set_xticks(place, [str(year) for year in years.index], rotation=90 if upright else 0)
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    axes.grid(axis="x", visible=False)
    _percent(axes.yaxis)
    _legend(axes)
    order = [name for name in ("strategy", "benchmark", "excess", "maximum_drawdown") if name in years]
    rows = [
        [str(year), *(f"{v:+.1%}" for v in row)] for year, row in zip(years.index, years[order].to_numpy(), strict=True)
    ]
    paper.table(["Year", *(name.replace("_", " ").capitalize() for name in order)], rows)


def _drawdowns(paper: Paper, sheet: TearSheet) -> None:
    worst = tables.drawdown_table(sheet.result.returns, 10)
    paper.heading("Worst drawdowns", keep=1.0)
    if worst.empty:
        paper.words("The account never fell below a peak.")
        return
    rows = [_drawdown(row) for row in worst.reset_index().to_dict("records")]
    heads = ["", "Depth", "Started", "Bottom", "Recovered", "Bars", "to the bottom", "to recover"]
    paper.table(heads, rows, [0.4, 0.8, 1.2, 1.2, 1.2, 0.8, 1, 1])


def _drawdown(row: Mapping[Any, Any]) -> list[str]:
    lasting = pd.isna(row["recovered"])
    when = [stamp(row["start"]), stamp(row["bottom"]), "not yet" if lasting else stamp(row["recovered"])]
    lengths = [f"{row['bars']:,}", f"{row['bars_to_bottom']:,}", MISSING if lasting else f"{row['bars_to_recover']:,}"]
    return [str(row["rank"]), f"{row['depth']:.1%}", *when, *lengths]


def _rolling(paper: Paper, sheet: TearSheet) -> None:
    result, window = sheet.result, tables.rolling_window(sheet.result)
    paper.heading("Rolling figures, exposure and turnover", keep=3.5)
    if len(result.index) > window:
        rolled = tables.rolling_table(result.returns, result.periods_per_year, window)
        for name, title, color in (
            ("sharpe_ratio", f"Sharpe ratio of the last {window:,} bars, annualised", BLUE),
            ("annual_volatility", f"volatility of the last {window:,} bars, annualised", ORANGE),
        ):
            (axes,) = paper.charts(1.25)
            curve(axes, rolled[name], color)
            axes.axhline(0.0, color=GREY, linewidth=0.6)
            axes.set_title(title)
            _pad(axes, result.index)
            if name == "annual_volatility":
                _percent(axes.yaxis)
    else:
        paper.words(f"{len(result.index)} bars are too few for a rolling window of {window}.")
    _exposure(paper, result)


def _exposure(paper: Paper, result: Result) -> None:
    (axes,) = paper.charts(1.25)
    curve(axes, result.exposure["gross"], BLUE, "gross")
    curve(axes, result.exposure["net"], ORANGE, "net", linestyle=(0, (2, 1.5)))
    axes.set_title("exposure, of equity")
    _percent(axes.yaxis)
    _legend(axes)
    _pad(axes, result.index)
    (axes,) = paper.charts(1.1)
    turnover = tables.monthly_turnover(result)
    months = pd.PeriodIndex(turnover.index)
    start, days = months.to_timestamp().to_numpy(), months.days_in_month.to_numpy()
    first = require("matplotlib.dates", "research").date2num(start)
    axes.bar(first, turnover.to_numpy(), width=0.9 * days, align="edge", color=GREY)
    axes.xaxis_date()
    axes.set_title("turnover of each month, times equity")
    _pad(axes, result.index)


def _figures(paper: Paper, sheet: TearSheet) -> None:
    columns = tables.metrics_table(sheet.result, sheet.benchmark)
    paper.heading("Figures", keep=2.0)
    names = [name for name in LABELS if any(name in figures for figures in columns.values())]
    rows = [[LABELS[n][0], *(figure(n, values.get(n)) for values in columns.values())] for n in names]
    paper.table(["", *columns], rows, [2.0] + [1.0] * len(columns))


def _tails(paper: Paper, sheet: TearSheet) -> None:
    returns = sheet.result.returns
    values = returns.to_numpy(np.float64)
    values = values[values != 0.0]
    paper.heading("Distribution of returns", keep=2.4)
    if not values.size:
        paper.words("The account never moved.")
        return
    (axes,) = paper.charts(1.9)
    axes.hist(values, bins=min(80, max(10, int(math.sqrt(values.size)))), color=BLUE, alpha=0.75)
    tails = tables.tail_table(returns)
    for level, (alpha, var) in enumerate(tails["value_at_risk"].items()):
        axes.axvline(-var, color=RED, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.annotate(
            f"VaR {alpha:.0%} ", (-var, 1.0 - 0.12 * level), xycoords=("data", "axes fraction"), ha="right", va="top",
            fontsize=6.5, color=RED,
        )  # fmt: skip
    axes.set_title("bars by return; bars without any change are left out")
    _percent(axes.xaxis)
    rows = [
        [f"worst {a:.0%} of bars", f"{row[0]:.2%}", f"{row[1]:.2%}"]
        for a, row in zip(tails.index, tails.to_numpy(), strict=True)
    ]
    if rows:
        paper.table(["Loss of one bar", "Value at risk", "Expected shortfall"], rows)


def _studies(paper: Paper, sheet: TearSheet) -> None:
    for name, found in sheet.studies.items():
        paper.heading(TITLES[name], keep=1.2 if isinstance(found, NotComputed) else 2.6)
        if isinstance(found, NotComputed):
            paper.words(f"Not computed: {found.reason}")
        else:
            _STUDIES[name](paper, found)


def _value_at_risk(paper: Paper, found: Any) -> None:
    paper.words(found.interpretation)
    (axes,) = paper.charts(1.9)
    frame, hits = found.frame, found.frame[found.frame["hit"]]
    curve(axes, frame["return"], "#b8c0c7", "return", linewidth=0.5)
    curve(axes, -frame["var"], BLUE, "−VaR")
    axes.plot(hits.index.tz_localize(None).to_numpy(), hits["return"], ".", color=RED, markersize=3, label="exception")
    _percent(axes.yaxis)
    _legend(axes)
    said = {True: "rejected", False: "holds"}
    rows = [[t.name, f"{t.statistic:.2f}", f"{t.p_value:.3f}", said[t.rejects()]] for t in found.tests]
    paper.table(["Test", "Statistic", "p-value", "At 5 %"], rows, [2, 1, 1, 1])


def _regimes(paper: Paper, found: Any) -> None:
    paper.words(found.interpretation)
    paper.table(study_cards.REGIME_HEADS, study_cards.regime_rows(found), [1.4] + [1.0] * 7)


def _break_even(paper: Paper, found: Any) -> None:
    paper.words(found.interpretation)
    ratio, earned = paper.charts(1.7, 2)
    for axes, name, title in ((ratio, "sharpe_ratio", "Sharpe ratio"), (earned, "annual_return", "annual return")):
        axes.plot(found.curve.index, found.curve[name], color=BLUE, marker="o", markersize=2)
        axes.axhline(0.0, color=GREY, linewidth=0.6)
        axes.axvline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_title(f"{title} by multiple of the costs")
    _percent(earned.yaxis)
    paper.table(study_cards.COST_HEADS, study_cards.cost_rows(found))


def _capacity(paper: Paper, found: Any) -> None:
    paper.words(found.interpretation)
    ratio, earned = paper.charts(1.7, 2)
    for axes, name, title in ((ratio, "sharpe_ratio", "Sharpe ratio"), (earned, "profit_per_year", "profit a year")):
        axes.plot(found.curve.index, found.curve[name], color=BLUE, marker="o", markersize=2)
        axes.set_xscale("log")
        axes.set_title(f"{title} by capital")
    paper.table(study_cards.CAPACITY_HEADS, study_cards.capacity_rows(found), [1, 1, 1, 1, 1.4])


_STUDIES = {"value_at_risk": _value_at_risk, "regimes": _regimes, "break_even_cost": _break_even, "capacity": _capacity}


def _trading(paper: Paper, sheet: TearSheet) -> None:
    trades = sheet.result.trades
    paper.heading("Trades", keep=2.4)
    if not len(trades):
        paper.words("There was no trade.")
        return
    adverse, favourable = paper.charts(2.0, 2)
    won = (trades["profit"] > 0).to_numpy()
    for axes, column, title in ((adverse, "mae", "adverse"), (favourable, "mfe", "favourable")):
        for some, color, label in ((won, BLUE, "won"), (~won, ORANGE, "lost")):
            axes.plot(
                trades[column][some], trades["return"][some], "o", color=color, markersize=2.4, alpha=0.7, label=label
            )
        axes.set_title(f"return by {title} excursion")
        _percent(axes.xaxis)
        _percent(axes.yaxis)
    _legend(favourable)
    heads = ["Trades", "Won", "Profit", "Profit factor", "Mean return", "Best", "Worst", "Mean bars"]
    for by, name in (("side", "Side"), ("reason", "Exit by")):
        groups = tables.trade_groups(trades, by).to_dict("index")
        paper.table(
            [name, *heads], [[str(k).replace("_", " "), *group_texts(v)] for k, v in groups.items()], [1.2] + [1] * 8
        )
    _symbols(paper, sheet.result)
    _best_and_worst(paper, trades)


def _best_and_worst(paper: Paper, trades: pd.DataFrame) -> None:
    shown = trades.loc[trades["profit"].abs().nlargest(_MOST_TRADES).index].sort_values("profit", ascending=False)
    said = (
        f"The {len(shown)} largest of {len(trades):,} trades"
        if len(shown) < len(trades)
        else f"All {len(trades):,} trades"
    )
    paper.heading(f"{said}, by profit", keep=1.2)
    rows = [
        [t["symbol"], stamp(t["entry_time"]), "open" if t["open"] else stamp(t["exit_time"]), t["side"],
         f"{t['profit']:+,.0f}", f"{t['return']:+.2%}", f"{t['bars']:,}", t["reason"].replace("_", " ")]
        for t in shown.to_dict("records")
    ]  # fmt: skip
    paper.table(["Symbol", "Entry", "Exit", "Side", "Profit", "Return", "Bars", "Exit by"], rows)


def _symbols(paper: Paper, result: Result) -> None:
    if len(result.symbols) == 1:
        return
    listed = tables.symbol_table(result)
    shown = listed.head(_MOST_SYMBOLS)
    cut = f", the first {len(shown)} of {len(listed)}" if len(shown) < len(listed) else ""
    paper.heading(f"Symbols by profit{cut}", keep=1.2)
    forms = ["{:,}", "{:.0%}", "{:+,.0f}", "{:,.0f}", "{:,.0f}", "{:,.0f}", "{:+.1%}", "{:.0%}"]
    rows = [
        [str(name), *(MISSING if v != v else form.format(v) for form, v in zip(forms, row.values(), strict=True))]
        for name, row in shown.to_dict("index").items()
    ]
    heads = ["Symbol", "Trades", "Won", "Profit", "Fees", "Slippage", "Traded value", "Mean weight", "Held"]
    paper.table(heads, rows, [1.6] + [1] * 8)


def _costs(paper: Paper, sheet: TearSheet) -> None:
    result, yearly = sheet.result, tables.costs_by_year(sheet.result)
    paper.heading("Costs by kind", keep=2.0)
    paid = result.costs_by_kind
    kinds = [(str(kind), float(amount)) for kind, amount in paid.items() if amount != 0.0]
    rows = [
        [k.replace("_", " "), f"{a:,.2f}", f"{a / result.initial_cash:.3%}"]
        for k, a in [*kinds, ("together", float(paid.sum()))]
    ]
    paper.table(["", f"Paid {result.currency}".strip(), "of initial cash"], rows)
    if len(yearly):
        (axes,) = paper.charts(1.6, below=0.42 if len(yearly) > 16 else 0.24)
        _stacked(axes, yearly)
        _legend(axes)


def _stacked(axes: Any, yearly: pd.DataFrame) -> None:
    """Columns by year; what was received hangs below zero."""
    place, colors = np.arange(len(yearly)), (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", RED)
    above, below = np.zeros(len(yearly)), np.zeros(len(yearly))
    for name, color in zip(yearly.columns, colors, strict=False):
        values = yearly[name].to_numpy(np.float64)
        axes.bar(
            place,
            values,
            0.7,
            bottom=np.where(values >= 0, above, below),
            color=color,
            label=str(name).replace("_", " "),
        )
        above, below = above + np.maximum(values, 0.0), below + np.minimum(values, 0.0)
    axes.set_xticks(place, [str(year) for year in yearly.index], rotation=90 if len(yearly) > 16 else 0)
    axes.grid(axis="x", visible=False)


def _settings(paper: Paper, sheet: TearSheet) -> None:
    rows = [
        [name.replace("_", " "), value if len(value) < 80 else value[:78] + "…"]
        for name, value in tables.settings_table(sheet.result).items()
    ]
    paper.heading("Settings", keep=0.17 * (len(rows) + 1))
    paper.table(["", "Value"], rows, [1, 1])
