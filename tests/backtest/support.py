"""One symbol and its target weights through the trading machine, as plain arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tradelib.backtest import book, machine, tables


class Run(NamedTuple):
    """One symbol's account as plain arrays: per bar, and per order in the sequence of placing."""

    equity: np.ndarray
    cash: np.ndarray
    position: np.ndarray
    order_bar: np.ndarray
    order_quantity: np.ndarray
    order_price: np.ndarray
    order_fee: np.ndarray
    order_slippage: np.ndarray
    order_status: np.ndarray


def simulate(
    opens: npt.ArrayLike,
    closes: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    first: int = 0,
    cash: float = 1_000.0,
    fee_rate: float = 0.0,
    slippage: float = 0.0,
    **rules: float,
) -> Run:
    """Target weights of one symbol through the trading machine; orders below the minimum are left out."""
    opens, closes, weights = (np.array(values, dtype=float)[:, None] for values in (opens, closes, weights))
    tape = machine.make_tape(opens, np.maximum(opens, closes), np.minimum(opens, closes), closes, np.zeros_like(opens))
    costs = {"taker_rate": fee_rate, "maker_rate": fee_rate, "slippage": slippage}
    market = {"lots": rules.get("lots_per_unit", 0.0), "minimum": rules.get("minimum_notional", 0.0)}
    account = book.rule_vector(band=rules.get("rebalance_band", 0.0), leverage=rules.get("maximum_leverage", 1.0))
    empty = book.empty_machine(
        1, len(opens), cash=cash, first=first, terms=book.term_rows(1, **costs, **market), rules=account
    )
    done = machine.simulate(empty, tape, weights, first=first)
    orders = done.orders[done.orders[:, book.CAUSE] != book.BELOW_MINIMUM]
    paid = np.nan_to_num(orders[:, [book.PAID_PRICE, book.ORDER_FEE, book.ORDER_SLIPPAGE]]).T
    return Run(
        done.equity,
        tables.cash_series(done, first, cash),
        tables.position_table(done, first, 1)[:, 0],
        orders[:, book.PLACED].astype(int),
        orders[:, book.QUANTITY],
        *paid,
        orders[:, book.STATUS],
    )
