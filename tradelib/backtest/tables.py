"""The machine's tables as DataFrames: orders, fills, trades, the cash book, and what was held at each close."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tradelib._jit import jit
from tradelib._memory import shared
from tradelib.backtest import book
from tradelib.backtest.machine import Simulation
from tradelib.backtest.trades import TRADE_COLUMNS, excursions, round_trips
from tradelib.data.panel import Panel

__all__ = [
    "cash_book",
    "cash_series",
    "excursion_array",
    "fill_table",
    "frozen",
    "kept",
    "order_table",
    "position_table",
    "trade_array",
    "trade_table",
]

Table = TypeVar("Table", "pd.Series[Any]", pd.DataFrame)


def kept(build: Callable[[Any], Table]) -> Callable[[Any], Table]:
    """Build a table once per object and hand out a copy each time: what a caller does to it stays with the caller.

    The copies share their values until somebody writes (pandas' copy on write), so they cost microseconds.
    """
    name = f"_{build.__name__}"

    @wraps(build)
    def get(owner: Any) -> Table:
        if name not in vars(owner):
            vars(owner)[name] = build(owner)
        copy: Table = vars(owner)[name].copy(deep=False)
        return copy

    return get


def frozen(array: np.ndarray) -> np.ndarray:
    """A read-only view of `array`."""
    view = array.view()
    view.flags.writeable = False
    return view


@cache
def _words(names: tuple[str, ...]) -> Any:
    return pd.array([*names, ""], dtype="str")


def _named(codes: np.ndarray, names: Sequence[str]) -> Any:
    """Names of codes, a pandas array of text; "" for a code below zero."""
    return _words(tuple(names)).take(codes.astype(np.int64))


def _times(bars: np.ndarray, index: pd.DatetimeIndex) -> Any:
    """Open times of bar numbers, a pandas array; NaT for NaN."""
    known = ~np.isnan(bars)
    if known.all():
        return index.array.take(bars.astype(np.int64))
    return index.array.take(np.where(known, bars, -1).astype(np.int64), allow_fill=True)


def order_table(simulation: Simulation, index: pd.DatetimeIndex, symbols: Sequence[str]) -> pd.DataFrame:
    """Every order in the sequence of placing.

    `time`: bar on whose close it was decided. `fill_time`: bar of its end (fill, rejection, cancellation), NaT while it
    works. `quantity` is signed; `limit`, `stop` are its prices; `price` is what was paid, NaN if nothing was. `origin`
    says why it was placed, `reason` why it was not filled.
    """
    orders = simulation.orders
    orders = orders[~((orders[:, book.KIND] == book.LIQUIDATING) & (orders[:, book.STATUS] != book.FILLED))]
    status, cause, kind = orders[:, book.STATUS], orders[:, book.CAUSE].copy(), orders[:, book.KIND]
    waiting = (status == book.WORKING) & (kind == book.MARKET)
    cause[waiting] = book.NO_NEXT_OPEN
    quantity, level = orders[:, book.QUANTITY], orders[:, book.LEVEL]
    side = np.where(np.isnan(quantity), orders[:, book.UP], quantity)
    is_limit = kind == book.LIMIT
    columns = {
        "time": _times(orders[:, book.PLACED], index),
        "fill_time": _times(orders[:, book.FILL_BAR], index),
        "symbol": _named(orders[:, book.ASSET], symbols),
        "kind": _named(kind, book.ORDER_KINDS),
        "side": _named(side <= 0, ("buy", "sell")),
        "quantity": quantity,
        "limit": np.where(is_limit, level, orders[:, book.LIMIT_PRICE]),
        "stop": np.where(is_limit | (kind == book.MARKET), np.nan, level),
        "price": orders[:, book.PAID_PRICE],
        "fee": orders[:, book.ORDER_FEE],
        "slippage_cost": orders[:, book.ORDER_SLIPPAGE],
        "status": _named(status, book.STATUSES),
        "origin": _named(orders[:, book.REASON], book.REASONS),
        "reason": _named(cause, book.CAUSES),
    }
    return pd.DataFrame(columns)


def fill_table(simulation: Simulation, index: pd.DatetimeIndex, symbols: Sequence[str]) -> pd.DataFrame:
    """Every fill in the sequence of execution: bar, signed quantity, price, reference price, costs, what came of it."""
    fills = simulation.fills
    columns = {
        "time": _times(fills[:, book.FILL_AT], index),
        "symbol": _named(fills[:, book.FILL_ASSET], symbols),
        "side": _named(fills[:, book.FILL_QUANTITY] <= 0, ("buy", "sell")),
        "quantity": fills[:, book.FILL_QUANTITY],
        "price": fills[:, book.FILL_PRICE],
        "reference": fills[:, book.FILL_REFERENCE],
        "fee": fills[:, book.FILL_FEE],
        "slippage_cost": fills[:, book.FILL_SLIPPAGE],
        "liquidity": _named(fills[:, book.FILL_MAKER] == 0.0, ("maker", "taker")),
        "origin": _named(fills[:, book.FILL_REASON], book.REASONS),
        "position": fills[:, book.FILL_POSITION],
        "cash": fills[:, book.FILL_CASH],
    }
    return pd.DataFrame(columns)


def trade_array(simulation: Simulation, close: np.ndarray) -> np.ndarray:
    """Round trips as `(m, TRADE_COLUMNS)`; `close`: `(n, a)`."""
    lots = simulation.machine.terms[:, book.LOTS]
    last = int(simulation.machine.counts[book.NEXT_BAR]) - 1
    return round_trips(simulation.fills, last, close[last], lots)


def excursion_array(simulation: Simulation, panel: Panel) -> np.ndarray:
    """Maximum adverse and favourable excursion of each trade, `(m, 2)`; see `tradelib.backtest.trades`."""
    prices, last = (panel.open, panel.high, panel.low, panel.close), int(simulation.machine.counts[book.NEXT_BAR]) - 1
    return excursions(simulation.fills, last, *prices, simulation.machine.terms[:, book.LOTS])


def trade_table(trades: np.ndarray, far: np.ndarray, panel: Panel) -> pd.DataFrame:
    """Round trips: times, side, average prices, `profit` net of fees, `return` on the entry value, `mae` and `mfe`.

    `far`: of `excursion_array`. `mae`, `mfe`: fractions of the average entry price, by the bars of the account (finer
    ones are not asked). `bars`: from the entry's to the exit's; `duration`: the same as time. A trade
    that is still `open` ends at the last close.
    """
    index, symbols = panel.index, panel.symbols
    columns = dict(zip(TRADE_COLUMNS, np.ascontiguousarray(trades.T), strict=True))
    entry_time, exit_time = (_times(columns[name], index) for name in ("entry_bar", "exit_bar"))
    table = {
        "entry_time": entry_time,
        "exit_time": exit_time,
        "symbol": _named(columns["asset"], symbols),
        "side": _named(columns["side"] <= 0, ("long", "short")),
        "quantity": columns["quantity"],
        "entry_price": columns["entry_price"],
        "exit_price": columns["exit_price"],
        "profit": columns["profit"],
        "return": columns["profit"] / (columns["quantity"] * columns["entry_price"]),
        "fees": columns["fees"],
        "duration": exit_time - entry_time,
        "bars": (columns["exit_bar"] - columns["entry_bar"]).astype(np.int64),
        "mae": far[:, 0].copy(),
        "mfe": far[:, 1].copy(),
        "reason": _named(columns["reason"], book.REASONS),
        "open": columns["open"] == 1.0,
    }
    return pd.DataFrame(table, copy=False)  # every column is its own already


def cash_book(simulation: Simulation, index: pd.DatetimeIndex, symbols: Sequence[str]) -> pd.DataFrame:
    """Cash that moved without a trade (funding, borrowing, interest, liquidation fees), and events of the account."""
    entries = simulation.entries
    columns = {
        "time": _times(entries[:, book.ENTRY_BAR], index),
        "symbol": _named(entries[:, book.ENTRY_ASSET], symbols),
        "kind": _named(entries[:, book.ENTRY_KIND], book.ENTRY_KINDS),
        "amount": entries[:, book.ENTRY_AMOUNT],
        "cash": entries[:, book.ENTRY_CASH],
    }
    return pd.DataFrame(columns)


def _step(bars: np.ndarray, values: np.ndarray, length: int, before: float) -> np.ndarray:
    """A step function: the last of `values` at or before each of `length` bars, `before` until the first."""
    edges = np.concatenate([bars, [length]])
    lengths = np.diff(np.concatenate([[0], edges]))
    return np.repeat(np.concatenate([[before], values]), lengths)


def position_table(simulation: Simulation, first: int, assets: int) -> np.ndarray:
    """Signed quantity held at each close of the account, `(bars, a)`; exactly what the machine held."""
    fills, held = simulation.fills, np.full((len(simulation.equity), assets), np.nan)
    held[0] = 0.0
    _put(shared(fills), first, held)
    return held


@jit(nogil=True, _nrt=False)
def _put(fills: np.ndarray, first: int, held: np.ndarray) -> None:
    """The position after each fill at its bar; between fills it stays."""
    for f in range(fills.shape[0]):
        held[int(fills[f, book.FILL_AT]) - first, int(fills[f, book.FILL_ASSET])] = fills[f, book.FILL_POSITION]
    for t in range(1, held.shape[0]):
        for a in range(held.shape[1]):
            if held[t, a] != held[t, a]:
                held[t, a] = held[t - 1, a]


def cash_series(simulation: Simulation, first: int, cash: float) -> np.ndarray:
    """Cash at each close of the account, `(bars,)`; exactly what the machine held."""
    fills, entries = simulation.fills, simulation.entries
    at = np.concatenate([fills[:, book.FILL_AT], entries[:, book.ENTRY_BAR]]).astype(np.int64) - first
    after = np.concatenate([fills[:, book.FILL_CASH], entries[:, book.ENTRY_CASH]])
    order = np.argsort(np.concatenate([fills[:, book.FILL_SEQUENCE], entries[:, book.ENTRY_SEQUENCE]]), kind="stable")
    return _step(at[order], after[order], len(simulation.equity), cash)
