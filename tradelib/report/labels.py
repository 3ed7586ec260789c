"""What the figures of a result are called on a page, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tradelib.report.page import Markup, table

__all__ = ["LABELS", "MISSING", "amount_text", "figure", "figures_table", "short_digest"]

MISSING = "–"

LABELS: dict[str, tuple[str, str]] = {
    "total_return": ("Total return", "{:.1%}"),
    "annual_return": ("Annual return", "{:.2%}"),
    "annual_volatility": ("Annual volatility", "{:.2%}"),
    "sharpe_ratio": ("Sharpe ratio", "{:.2f}"),
    "sortino_ratio": ("Sortino ratio", "{:.2f}"),
    "calmar_ratio": ("Calmar ratio", "{:.2f}"),
    "information_ratio": ("Information ratio", "{:.2f}"),
    "sharpe_ratio_per_period": ("Sharpe ratio per period", "{:.4f}"),
    "maximum_drawdown": ("Maximum drawdown", "{:.1%}"),
    "ulcer_index": ("Ulcer index", "{:.2%}"),
    "omega_ratio": ("Omega ratio", "{:.2f}"),
    "tail_ratio": ("Tail ratio", "{:.2f}"),
    "win_rate": ("Winning periods", "{:.1%}"),
    "skewness": ("Skewness", "{:.2f}"),
    "kurtosis": ("Kurtosis (normal is 3)", "{:.2f}"),
    "trades": ("Trades", "{:,.0f}"),
    "trade_win_rate": ("Winning trades", "{:.0%}"),
    "profit_factor": ("Profit factor", "{:.2f}"),
    "exposure": ("Time in the market", "{:.0%}"),
    "turnover_per_year": ("Turnover a year, times equity", "{:.1f}"),
    "orders": ("Orders", "{:,.0f}"),
    "rejected_orders": ("Rejected orders", "{:,.0f}"),
    "fees": ("Fees paid", "{:,.0f}"),
    "slippage_cost": ("Slippage paid", "{:,.0f}"),
    "observations": ("Bars", "{:,.0f}"),
    "periods_per_year": ("Periods per year", "{:,.0f}"),
}


def figure(name: str, value: Any) -> str:
    """`value` of the metric `name` as text; a dash where it is missing or undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    return LABELS.get(name, ("", "{:,.4g}"))[1].format(value) if isinstance(value, int | float) else str(value)


def figures_table(columns: Mapping[str, Mapping[str, Any]], *, label: str) -> Markup:
    """One row per metric that any column has, in the order of `LABELS`; one column per entry."""
    names = [name for name in LABELS if any(name in figures for figures in columns.values())]
    rows = [[LABELS[name][0], *(figure(name, figures.get(name)) for figures in columns.values())] for name in names]
    return table(["", *columns], rows, numbers=range(1, len(columns) + 1), label=label)


def amount_text(value: float) -> str:
    """Money as one says it: 12,500 or 1.71 million."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:,.3g} {name}" if abs(value) < 1000 * size else f"{value / size:,.0f} {name}"
    return f"{value:,.0f}"


def short_digest(digest: str) -> str:
    """The first twelve characters, enough to compare by eye."""
    return digest[:12] + "…" if len(digest) > 13 else digest
