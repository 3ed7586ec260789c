"""The cards of the interactive tear sheet, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradelib.backtest.result import Result
from tradelib.report import figures, study_cards, tables
from tradelib.report.charts import Line, heat_map, line_chart
from tradelib.report.labels import MISSING, figure, figures_table
from tradelib.report.page import Markup, badge, card, table, tag, tiles
from tradelib.report.study_cards import plot
from tradelib.report.tables import stamp

if TYPE_CHECKING:
    from tradelib.report.sheet import TearSheet

__all__ = ["MONTHS", "content", "growth_of", "light", "returns_of"]

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MOST_TRADES = 250
_MOST_SYMBOLS = 100


def returns_of(sheet: TearSheet) -> dict[str, pd.Series[float]]:
    """Returns by name: the strategy first, then the benchmark."""
    own = {"strategy": sheet.result.returns}
    return own if sheet.benchmark is None else own | {str(sheet.benchmark.name): sheet.benchmark}


def growth_of(sheet: TearSheet) -> dict[str, pd.Series[float]]:
    """Growth of 1 by name."""
    return {name: (1.0 + returns).cumprod() for name, returns in returns_of(sheet).items()}


def content(sheet: TearSheet) -> list[Markup]:
    """Everything between the start and the end of the page's body."""
    result = sheet.result
    beside = tag("div", _distribution(result.returns), _costs(result), class_="half column")
    cards = [
        _equity(sheet),
        _monthly(result.returns),
        _yearly(sheet),
        _drawdowns(result.returns),
        _rolling(result),
        _metrics(sheet),
        beside,
        *study_cards.cards(sheet),
        _exposure(result),
        *_trade_cards(result),
        *_symbols(result),
        _settings(result),
    ]
    return [_header(sheet), tag("div", *cards, class_="grid")]


def light(sheet: TearSheet) -> list[Markup]:
    """What a notebook shows."""
    colors = ("c1", "c4")
    lines = [
        Line(name, pd.DatetimeIndex(values.index), np.asarray(values, dtype=np.float64), color)
        for (name, values), color in zip(growth_of(sheet).items(), colors, strict=False)
    ]
    return [_header(sheet), card("Growth of 1", line_chart(lines[::-1], label="growth of 1"))]


def _header(sheet: TearSheet) -> Markup:
    result, metrics = sheet.result, sheet.result.metrics
    span = f"{stamp(result.index[0])} to {stamp(result.index[-1])}, {len(result.index):,} bars"
    costs = f"fee {result.costs.fee_rate:.3%}, slippage {result.costs.slippage:.3%} of traded value"
    at = f"at {result.periods_per_year:,.0f} periods a year"
    shown = [
        ("Total return", figure("total_return", metrics["total_return"]), "after costs"),
        ("Annual return", figure("annual_return", metrics["annual_return"]), at),
        ("Sharpe ratio", figure("sharpe_ratio", metrics["sharpe_ratio"]), at),
        ("Maximum drawdown", figure("maximum_drawdown", metrics["maximum_drawdown"]), "from the highest close"),
        ("Trades", figure("trades", metrics["trades"]), f"{figure('exposure', metrics['exposure'])} of bars invested"),
    ]
    heading = tag("header", tag("h1", sheet.title), tag("p", span, class_="lead"))
    return heading + tag("p", f"{_what_ran(result)}; {costs}", class_="note") + tiles(shown)


def _what_ran(result: Result) -> str:
    if result.rule is None:
        return f"run with {result.name}"
    config = result.rule.to_config()
    parts = [f"{part['name']}({_arguments(part['params'])})" for part in (config["strategy"], config["sizing"])]
    band = config["rebalance_band"]
    return f"{', '.join(parts)}, {'entries and exits only' if band is None else f'rebalance band {band:g}'}"


def _arguments(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _equity(sheet: TearSheet) -> Markup:
    drawdowns = tables.drawdown_table(sheet.result.returns, 5)
    shaded = "" if drawdowns.empty else f" The {len(drawdowns)} deepest drawdowns are shaded."
    drawn = figures.equity_figure(growth_of(sheet), returns_of(sheet), drawdowns)
    return card("Equity and drawdown", plot(drawn, "equity"), note=f"Drag to zoom, double-click to reset.{shaded}")


def _monthly(returns: pd.Series[float]) -> Markup:
    months = tables.monthly_returns(returns)
    values = [[None if np.isnan(value) else float(value) for value in row] for row in months.to_numpy(np.float64)]
    rows, columns = [str(year) for year in months.index], [*MONTHS, "Year"]
    largest = float(np.nanmax(np.abs(months[range(1, 13)].to_numpy(np.float64))))
    look: dict[str, Any] = {"value_text": percent, "largest": largest, "label": "returns by month and year"}
    return card("Returns by month", heat_map(rows, columns, values, **look), note="Compounded, in percent.")


def percent(value: float) -> str:
    """In percent with one decimal, no "-0.0"."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def _yearly(sheet: TearSheet) -> Markup:
    years = tables.yearly_table(sheet.result.returns, sheet.benchmark)
    order = [name for name in ("strategy", "benchmark", "excess", "maximum_drawdown") if name in years]
    heads = ["Year", *(name.replace("_", " ").capitalize() for name in order)]
    rows = [[str(year), *(f"{value:+.1%}" for value in row)] for year, row in zip(
        years.index, years[order].to_numpy(), strict=True)]  # fmt: skip
    listed = table(heads, rows, numbers=range(1, len(heads)), label="returns by year")
    return card("Returns by year", plot(figures.yearly_figure(years), "years"), _tall(listed))


def _tall(listed: Markup) -> Markup:
    return Markup(listed.replace('class="scroll"', 'class="scroll tall"', 1))


def _drawdowns(returns: pd.Series[float]) -> Markup:
    worst = tables.drawdown_table(returns, 10)
    if worst.empty:
        return card("Worst drawdowns", tag("p", "The account never fell below a peak.", class_="note"))
    heads = ["", "Depth", "Started", "Bottom", "Recovered", "Bars", "to the bottom", "to recover"]
    listed = table(heads, [_drawdown(row) for row in worst.reset_index().to_dict("records")], numbers=range(1, 8))
    return card("Worst drawdowns", listed, note="From the close of the last peak; lengths in bars.")


def _drawdown(row: Mapping[Any, Any]) -> list[Any]:
    lasting = pd.isna(row["recovered"])
    recovered = badge("warn", "not yet") if lasting else stamp(row["recovered"])
    lengths = [f"{row['bars']:,}", f"{row['bars_to_bottom']:,}", MISSING if lasting else f"{row['bars_to_recover']:,}"]
    return [str(row["rank"]), f"{row['depth']:.1%}", stamp(row["start"]), stamp(row["bottom"]), recovered, *lengths]


def _rolling(result: Result) -> Markup:
    window = tables.rolling_window(result)
    if len(result.index) <= window:
        told = f"{len(result.index)} bars are too few for a rolling window of {window}."
        return card("Rolling Sharpe ratio and volatility", tag("p", told, class_="note"))
    rolled = tables.rolling_table(result.returns, result.periods_per_year, window)
    note = f"Over the last {window:,} bars, at {result.periods_per_year:,.0f} periods a year."
    drawn = plot(figures.rolling_figure(rolled), "rolling")
    return card("Rolling Sharpe ratio and volatility", drawn, note=note)


def _distribution(returns: pd.Series[float]) -> Markup:
    if not (returns != 0.0).any():
        return card("Distribution of returns", tag("p", "The account never moved.", class_="note"))
    idle, tails = int((returns == 0.0).sum()), tables.tail_table(returns)
    note = f"Returns per bar; {idle:,} bars without any change are not drawn, but count in the tails below."
    rows = [
        [f"worst {alpha:.0%} of bars", f"{var:.2%}", f"{es:.2%}"]
        for alpha, var, es in zip(tails.index, tails["value_at_risk"], tails["expected_shortfall"], strict=True)
    ]
    heads = ["Loss of one bar", "Value at risk", "Expected shortfall"]
    listed = table(heads, rows, numbers=(1, 2), label="tails") if rows else Markup("")
    drawn = plot(figures.distribution_figure(returns, tails), "distribution")
    return card("Distribution of returns", drawn, listed, note=note)


def _metrics(sheet: TearSheet) -> Markup:
    columns = tables.metrics_table(sheet.result, sheet.benchmark)
    note = f"Annual figures at {sheet.result.periods_per_year:,.0f} periods per year; risk-free rate zero."
    return card("Figures", figures_table(columns, label="figures"), note=note, wide=False)


def _costs(result: Result) -> Markup:
    paid_by_kind = result.costs_by_kind
    years, average = len(result.index) / result.periods_per_year, float(result.equity.mean())
    kinds = [(str(kind), float(amount)) for kind, amount in paid_by_kind.items() if amount != 0.0]
    rows = [
        [kind.replace("_", " "), f"{paid:,.0f}", f"{paid / result.initial_cash:.2%}", _a_year(paid, average, years)]
        for kind, paid in [*kinds, ("together", float(paid_by_kind.sum()))]
    ]
    heads = ["", "Paid", "of initial cash", "of equity a year"]
    told = table(heads, rows, numbers=(1, 2, 3), label="costs by kind")
    yearly = tables.costs_by_year(result)
    drawn = (
        plot(figures.cost_figure(yearly), "costs") if len(yearly) else tag("p", "Nothing was traded.", class_="note")
    )
    return card("Costs by kind", told, drawn)


def _a_year(amount: float, average: float, years: float) -> str:
    return f"{amount / average / years:.3%}" if average > 0.0 else MISSING


def _exposure(result: Result) -> Markup:
    turnover = figure("turnover_per_year", result.metrics["turnover_per_year"])
    note = f"Held value over equity at each close; fills of a month over its mean equity ({turnover} times a year)."
    return card("Exposure and turnover", plot(figures.exposure_figure(result), "exposure"), note=note)


_GROUP_HEADS = ["Trades", "Won", "Profit", "Profit factor", "Mean return", "Best", "Worst", "Mean bars"]


def _trade_cards(result: Result) -> list[Markup]:
    trades = result.trades
    if not len(trades):
        return [card("Trades", tag("p", "There was no trade.", class_="note"))]
    grouped = [_groups(trades, "side"), tag("br"), _groups(trades, "reason", "Exit by")]
    excursions = "Each trade's return against how far the price went against it, and with it, while it was held."
    holding = "Bars from entry to exit."
    return [
        card("Trades by side and exit", *grouped, note="Profit in quote currency, net of fees."),
        card("Excursions", plot(figures.excursion_figure(result), "excursions"), note=excursions),
        card("Holding time", plot(figures.holding_figure(trades), "holding"), note=holding),
        _listed(trades),
    ]


def _groups(trades: pd.DataFrame, by: str, name: str = "Side") -> Markup:
    groups = tables.trade_groups(trades, by).to_dict("index")
    rows = [[str(key).replace("_", " "), *group_texts(row)] for key, row in groups.items()]
    return table([name, *_GROUP_HEADS], rows, numbers=range(1, 9), label=f"trades by {by}")


def group_texts(row: Mapping[Any, Any]) -> list[str]:
    """One row of `tables.trade_groups` as text, in the order of its columns."""
    forms = ["{:,.0f}", "{:.0%}", "{:+,.0f}", "{:.2f}", "{:+.2%}", "{:+,.0f}", "{:+,.0f}", "{:,.1f}"]
    return [form.format(v) if np.isfinite(v) else MISSING for form, v in zip(forms, row.values(), strict=True)]


def _listed(trades: pd.DataFrame) -> Markup:
    shown = trades.iloc[-_MOST_TRADES:]
    several = trades["symbol"].nunique() > 1
    rows = [_trade(trade, several) for trade in shown.to_dict("records")]
    head: Sequence[str] = ["Entry", "Exit", "Side", "Quantity", "Entry price", "Exit price", "Profit", "Return", "Bars"]
    head = [*head, "Worst", "Best", "Exit by"]
    head = ["Symbol", *head] if several else head
    note = f"{len(trades):,} trades" + (f", the last {len(shown):,} of them shown" if len(shown) < len(trades) else "")
    note += "; net of fees; an open one is marked at the last close."
    listed = table(head, rows, numbers=range(3 + several, 11 + several), label="trades")
    return card("Trades", _tall(listed), note=note)


def _trade(trade: Mapping[Any, Any], several: bool) -> list[Any]:
    leaves: Any = badge("none", "open") if trade["open"] else stamp(trade["exit_time"])
    prices = [f"{trade[name]:,.6g}" for name in ("quantity", "entry_price", "exit_price")]
    result = [f"{trade['profit']:+,.2f}", f"{trade['return']:+.2%}" if np.isfinite(trade["return"]) else MISSING]
    far = [f"{trade[name]:.2%}" if np.isfinite(trade[name]) else MISSING for name in ("mae", "mfe")]
    told = [stamp(trade["entry_time"]), leaves, trade["side"], *prices, *result, f"{trade['bars']:,}", *far]
    return [*([trade["symbol"]] if several else []), *told, str(trade["reason"]).replace("_", " ")]


def _symbols(result: Result) -> list[Markup]:
    if len(result.symbols) == 1:
        return []
    listed = tables.symbol_table(result)
    shown = listed.head(_MOST_SYMBOLS)
    heads = ["Symbol", "Trades", "Won", "Profit", "Fees", "Slippage", "Traded value", "Mean weight", "Held"]
    forms = ["{:,}", "{:.0%}", "{:+,.0f}", "{:,.0f}", "{:,.0f}", "{:,.0f}", "{:+.1%}", "{:.0%}"]
    rows = [
        [str(name), *(MISSING if v != v else form.format(v) for form, v in zip(forms, row.values(), strict=True))]
        for name, row in zip(shown.index, shown.to_dict("records"), strict=True)
    ]
    cut = f"; the first {len(shown)} of {len(listed)}" if len(shown) < len(listed) else ""
    note = f"Largest profit first{cut}; profit of trades net of fees, open ones marked at the last close."
    return [card("Symbols", _tall(table(heads, rows, numbers=range(1, 9), label="symbols")), note=note)]


def _settings(result: Result) -> Markup:
    rows = [[name.replace("_", " "), tag("code", value)] for name, value in tables.settings_table(result).items()]
    listed = tag("details", tag("summary", "Show every setting"), table(["", ""], rows, label="settings"))
    return card("Settings", listed)
