"""What limits did to a result: which one acted, how often, and what it cost or saved."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tradelib.backtest.look import themed
from tradelib.backtest.result import Result
from tradelib.errors import ParameterError, require
from tradelib.risk.limits import LIMIT_NAMES, Limits

__all__ = ["LimitEffects", "limit_effects", "refused_orders"]

_HALTS = {
    "daily_loss_halt": "daily_loss",
    "daily_profit_halt": "daily_profit",
    "drawdown_halt": "maximum_drawdown",
    "loss_halt": "consecutive_losses",
    "protection": "protections",
}
"""Limits by the entry of the cash book that says when they tripped."""


def refused_orders(result: Result) -> pd.DataFrame:
    """Orders that a limit refused, one line per limit: how many, of which symbols, when, and their value at the close.

    An order that is asked for again on the next bar is refused again, and counts again.
    """
    orders = result.orders
    refused = orders[(orders["status"] == "rejected") & orders["reason"].str.startswith("limit: ")]
    symbols = list(result.symbols)
    rows, columns = (
        result.panel.index.get_indexer(pd.DatetimeIndex(refused["time"])),
        [symbols.index(s) for s in refused["symbol"]],
    )
    value = refused["quantity"].abs() * result.panel.close[rows, columns]
    groups = refused.assign(value=value, limit=refused["reason"].str.removeprefix("limit: ")).groupby("limit")
    told = {
        "orders": groups.size(),
        "symbols": groups["symbol"].nunique(),
        "first": groups["time"].min(),
        "last": groups["time"].max(),
        "mean_value": groups["value"].mean(),
    }
    return pd.DataFrame(told).sort_values("orders", ascending=False, kind="stable")


@dataclass(frozen=True, eq=False)
class LimitEffects:
    """An account under limits, `result`, and the same `without` each of them, by the limit's name."""

    limits: Limits
    result: Result
    without: dict[str, Result]

    def to_frame(self) -> pd.DataFrame:
        """Per limit: `halts` it caused, `rejected` orders it adds, `effect` on the final equity (negative: it cost
        that much), and what it does to the deepest drawdown (positive: it made it shallower)."""
        here, halts = self.result, self.result.cash_book["kind"].map(_HALTS)
        rows = {
            name: {
                "halts": int((halts == name).sum()),
                "rejected": here.rejections.orders - other.rejections.orders,
                "effect": float(here.equity.iloc[-1] - other.equity.iloc[-1]),
                "effect_on_drawdown": here.metrics["maximum_drawdown"] - other.metrics["maximum_drawdown"],
            }
            for name, other in self.without.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("limit")

    def summary(self) -> str:
        """A sentence per limit."""
        return "\n".join(_told(str(name), row) for name, row in self.to_frame().iterrows())

    def plot(self) -> Any:
        """Equity with all limits, without each of them, and the bars on which a limit acted."""
        go = require("plotly.graph_objects", "research")
        figure, equity = go.Figure(), self.result.equity
        figure.add_scatter(x=equity.index, y=equity, name="with all limits", line={"width": 2.5})
        for name, other in self.without.items():
            figure.add_scatter(x=other.equity.index, y=other.equity, name=f"without {name}", line={"width": 1})
        for name, times in acting(self.result).items():
            acted = equity[equity.index.isin(times)]
            figure.add_scatter(x=acted.index, y=acted, mode="markers", name=name, marker={"size": 5})
        return themed(figure.update_layout(title="What each limit did", yaxis_title="equity", height=420))

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self.summary().splitlines())
        return f"<p>{lines}</p>"


def acting(result: Result) -> dict[str, pd.DatetimeIndex]:
    """Bars on which limits acted, by what they said or tripped: refused orders and halts."""
    orders, book = result.orders, result.cash_book
    refused = orders[(orders["status"] == "rejected") & orders["reason"].str.startswith("limit: ")]
    halts = book[book["kind"].isin(_HALTS)]
    told = [(refused["time"], refused["reason"].str.removeprefix("limit: "))]
    told += [(halts["time"], halts["kind"].str.replace("_", " "))]
    groups = [group for times, names in told for group in times.groupby(names)]
    return {str(name): pd.DatetimeIndex(times.unique()) for name, times in groups}


def _told(name: str, row: pd.Series[Any]) -> str:
    if row["effect"] == 0.0 and not row["halts"] and row["rejected"] == 0:
        return f"{name} never acted."
    verb, amount = ("saved" if row["effect"] > 0 else "cost"), abs(row["effect"])
    halts = f"{row['halts']:.0f} halts, " if row["halts"] else ""
    drawdown = f"the deepest drawdown {row['effect_on_drawdown']:+.2%}"
    return f"{name} {verb} {amount:,.2f} by the end ({halts}{row['rejected']:+.0f} rejected orders, {drawdown})."


def limit_effects(run: Callable[[Limits], Result], limits: Limits) -> LimitEffects:
    """Run the account with `limits`, and again without each of them: what it did is the difference between the two.

    `run`: from limits to a result, all else equal, such as `lambda limits: run(rule.replace(limits=limits), bars)`.
    Each run is a trial if `run` counts trials. Raises `ParameterError` for limits that limit nothing.
    """
    asked: object = run
    if not callable(asked):
        how = "lambda limits: run(rule.replace(limits=limits), bars)"
        raise ParameterError(f"run must be a function from limits to a result, such as {how}; got {asked!r}")
    if not limits.given:
        raise ParameterError(f"these limits limit nothing: give one of {', '.join(LIMIT_NAMES[:4])}, ...")
    return LimitEffects(limits, run(limits), {name: run(limits.without(name)) for name in limits.given})
