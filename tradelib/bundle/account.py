"""The golden account: what the backtest did with the golden bars, order by order, fill by fill, bar by bar.

Target weights say what a rule wants; a rule with exits, further entries or limits of risk acts between its decisions,
and so do the costs and the market that research assumed. These tables say what came of all of it. They travel with the
bundle, and whoever runs the sealed package on the golden bars must get the same, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.bundle.execution import Execution
from tradelib.errors import BundleError

__all__ = ["TABLES", "Rows", "check_tables", "golden_account", "turns"]

Rows = list[dict[str, Any]]

_TIMES = ("time", "fill_time")
_TEXTS = ("kind", "side", "status", "origin", "reason", "liquidity")
TABLES: Mapping[str, tuple[str, ...]] = {
    "orders": (
        *("time", "fill_time", "kind", "side", "quantity", "limit", "stop", "price", "fee", "status"),
        *("origin", "reason"),
    ),
    "fills": ("time", "side", "quantity", "price", "fee", "liquidity", "origin", "position", "cash"),
    "equity": ("time", "cash", "position", "equity"),
}
"""The tables of a golden account and their columns: see `Result.orders`, `Result.fills`, and the account per close."""


def golden_account(rule: DecisionRule, execution: Execution, bars: pd.DataFrame) -> dict[str, Rows]:
    """`TABLES` of a backtest of `rule` on `bars`, on the terms of `execution`: JSON-able rows, NaN and NaT are None.

    Not a trial: nobody is shown a figure. Raises what `tradelib.backtest.run` raises.
    """
    result = replay(rule, bars, costs=execution.costs, market=execution.market, cash=execution.cash)
    held = pd.DataFrame({"position": result.positions["quantity"], "cash": result.cash, "equity": result.equity})
    frames = {"orders": result.orders, "fills": result.fills, "equity": held.rename_axis("time").reset_index()}
    return {name: _rows(frames[name], columns) for name, columns in TABLES.items()}


def turns(fills: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How often a position was entered and left in golden `fills`; a flip through zero is both."""
    entries, exits, before = 0, 0, 0.0
    for fill in fills:
        after = fill["position"]
        turned = before * after < 0.0
        entries += after != 0.0 and (before == 0.0 or turned)
        exits += before != 0.0 and (after == 0.0 or turned)
        before = after
    return entries, exits


def check_tables(tables: Mapping[str, Any], bars: pd.DataFrame) -> dict[str, Rows]:
    """The tables of a golden account on `bars`, or `BundleError` for the first that is none."""
    times = [time.isoformat() for time in bars.index]
    for name, columns in TABLES.items():
        rows = tables.get(name)
        if not isinstance(rows, list) or not all(_is_row(row, columns) for row in rows):
            raise BundleError(f"the golden {name}: not a list of rows with {', '.join(columns)}.")
        strange = next((row["time"] for row in rows if row["time"] not in set(times)), None)
        if strange is not None:
            raise BundleError(f"the golden {name}: a row is at {strange!r}, which is no golden bar.")
    if [row["time"] for row in tables["equity"]] != times:
        raise BundleError(f"the golden equity: its rows are not those of the {len(times)} golden bars, in order.")
    return {name: tables[name] for name in TABLES}


def _rows(frame: pd.DataFrame, columns: Sequence[str]) -> Rows:
    values = [[_plain(name, value) for value in frame[name]] for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _plain(name: str, value: Any) -> Any:
    if name in _TIMES:
        return None if pd.isna(value) else value.isoformat()
    if name in _TEXTS:
        return str(value)
    return None if pd.isna(value) else float(value)


def _is_row(row: Any, columns: Sequence[str]) -> bool:
    return isinstance(row, dict) and set(row) == set(columns) and all(_fits(name, row[name]) for name in columns)


def _fits(name: str, value: Any) -> bool:
    if name == "time" or name in _TEXTS:
        return isinstance(value, str)
    return value is None or type(value) is (str if name in _TIMES else float)
