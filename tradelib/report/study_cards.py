"""The cards of the studies: what was found, with its picture and its words, or why it was not computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradelib.report import figures
from tradelib.report.labels import MISSING, amount_text
from tradelib.report.page import Markup, badge, card, stacked, table, tag
from tradelib.report.studies import NotComputed
from tradelib.risk.regimes import RegimePerformance
from tradelib.risk.var_backtests import VarBacktest
from tradelib.validation.costs_and_capacity import CapacityCurve, CostCurve

if TYPE_CHECKING:
    from tradelib.report.sheet import TearSheet

__all__ = [
    "CAPACITY_HEADS",
    "COST_HEADS",
    "REGIME_HEADS",
    "TITLES",
    "capacity_rows",
    "cards",
    "cost_rows",
    "plot",
    "regime_rows",
]

TITLES = {
    "value_at_risk": "Value at risk: exceptions",
    "regimes": "By market regime",
    "break_even_cost": "Break-even of the costs",
    "capacity": "Capacity",
}
REGIME_HEADS = [
    "Market",
    "of bars",
    "Bars at a time",
    "Mean a year",
    "Volatility",
    "Sharpe ratio",
    "± error",
    "Drawdown",
]
CAPACITY_HEADS = ["Capital", "Sharpe ratio", "Annual return", "Profit a year", "Median share of a bar's volume"]
COST_HEADS = ["Costs", "Sharpe ratio", "Annual return", "Basis points", "Trades"]


def plot(drawn: Any, name: str) -> Markup:
    """A plotly figure as HTML; `name` is its id on the page."""
    config = {"displayModeBar": False, "responsive": True}
    return Markup(drawn.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config))


def cards(sheet: TearSheet) -> list[Markup]:
    """A card for each study of the sheet."""
    return [_card(name, found) for name, found in sheet.studies.items()]


def _card(name: str, found: Any) -> Markup:
    if isinstance(found, NotComputed):
        return card(TITLES[name], tag("p", badge("none", "not computed"), " ", found.reason))
    return _CARDS[name](found)


def _value_at_risk(found: VarBacktest) -> Markup:
    rows = [
        [_status(test.rejects()), test.name, f"{test.statistic:.2f}", f"{test.p_value:.3f}", words]
        for test in found.tests
        for words in [test.interpretation.partition(": ")[2]]
    ]
    listed = stacked(["", "Test", "Statistic", "p-value", "In plain words"], rows, label="tests")
    drawn = plot(figures.bare(found.plot(), 360), "exceptions")
    return card(TITLES["value_at_risk"], drawn, listed, note=found.interpretation)


def _status(rejected: bool) -> Markup:
    return badge("bad", "rejected") if rejected else badge("good", "holds")


def _shown(form: str, value: float) -> str:
    return form.format(value) if np.isfinite(value) else MISSING


def _rows(frame: pd.DataFrame, index: str, forms: dict[str, str]) -> list[list[str]]:
    """Columns of a frame as text, its index first."""
    return [
        [index.format(name), *(_shown(form, float(row[column])) for column, form in forms.items())]
        for name, row in frame.to_dict("index").items()
    ]


def regime_rows(found: RegimePerformance) -> list[list[str]]:
    """Texts below `REGIME_HEADS`."""
    forms = {"share": "{:.0%}", "mean_duration": "{:,.0f}", "annual_mean": "{:+.1%}", "annual_volatility": "{:.1%}"}
    return _rows(found.table, "{}", forms | {"sharpe": "{:.2f}", "sharpe_error": "{:.2f}", "drawdown": "{:.1%}"})


def cost_rows(found: CostCurve) -> list[list[str]]:
    """Texts below `COST_HEADS`."""
    forms = {"sharpe_ratio": "{:.2f}", "annual_return": "{:+.2%}", "basis_points": "{:,.1f}", "trades": "{:,.0f}"}
    return _rows(found.curve, "{:g} ×", forms)


def capacity_rows(found: CapacityCurve) -> list[list[str]]:
    """Texts below `CAPACITY_HEADS`."""
    forms = {"sharpe_ratio": "{:.2f}", "annual_return": "{:+.2%}", "median_participation": "{:.3%}"}
    rows = _rows(found.curve, "{}", forms)
    capitals = found.curve.index.to_numpy(dtype=np.float64).tolist()
    profits = found.curve["profit_per_year"].to_numpy(dtype=np.float64).tolist()
    return [
        [amount_text(capital), *row[1:3], amount_text(profit), row[3]]
        for capital, profit, row in zip(capitals, profits, rows, strict=True)
    ]


def _regimes(found: RegimePerformance) -> Markup:
    listed = table(REGIME_HEADS, regime_rows(found), numbers=range(1, 8), label="regimes")
    drawn = plot(figures.bare(found.plot(), 460), "regimes")
    told = f"Two states of the market's volatility, as they were known one bar before. {found.interpretation}"
    return card(TITLES["regimes"], drawn, listed, note=told)


def _break_even(found: CostCurve) -> Markup:
    listed = table(COST_HEADS, cost_rows(found), numbers=range(0, 5), label="costs")
    drawn = plot(figures.bare(found.plot(), 340), "break-even")
    return card(TITLES["break_even_cost"], drawn, listed, note=found.interpretation)


def _capacity(found: CapacityCurve) -> Markup:
    listed = table(CAPACITY_HEADS, capacity_rows(found), numbers=range(0, 5), label="capacity")
    drawn = plot(figures.bare(found.plot(), 340), "capacity")
    return card(TITLES["capacity"], drawn, listed, note=found.interpretation)


_CARDS: dict[str, Callable[[Any], Markup]] = {
    "value_at_risk": _value_at_risk,
    "regimes": _regimes,
    "break_even_cost": _break_even,
    "capacity": _capacity,
}
