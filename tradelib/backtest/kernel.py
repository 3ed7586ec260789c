"""The accounting kernel: what an order, a fill, a fee and an account are, in one place.

Research runs `simulate` compiled over arrays; the paper venue and the runner call the very same small functions one bar
at a time, interpreted. There is no second implementation, and no fastmath, so both give the same bits.

Conventions: a decision on bar *t* sees everything up to its close; its order fills at the open of *t+1*; an order of
the last bar never fills. Market orders slip against you by a fraction of the open. The fee is `rate x quantity x fill
price`, on the slipped price. Equity is `cash + signed quantity x close`, once per bar. Units: prices and cash in the
quote currency, quantities in the base asset, rates and slippage as fractions (0.001 = 10 basis points).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tradelib._jit import jit

__all__ = [
    "FILLED",
    "NO_CASH",
    "PENDING",
    "STATUS_NAMES",
    "STATUS_REASONS",
    "Simulation",
    "admissible",
    "cash_after",
    "equity",
    "fee",
    "fill_price",
    "order_quantity",
    "position_after",
    "simulate",
]

FILLED = 0
NO_CASH = 1
PENDING = 2

STATUS_NAMES = {FILLED: "filled", NO_CASH: "rejected", PENDING: "pending"}
STATUS_REASONS = {
    FILLED: "",
    NO_CASH: "not enough equity for this exposure at the fill price",
    PENDING: "placed on the last bar: there is no next open",
}


class Simulation(NamedTuple):
    """Arrays of one run: per bar of the account float64 `(n,)`, per order `(k,)` in order of decision."""

    equity: np.ndarray
    cash: np.ndarray
    position: np.ndarray
    order_bar: np.ndarray
    order_quantity: np.ndarray
    order_price: np.ndarray
    order_fee: np.ndarray
    order_slippage: np.ndarray
    order_status: np.ndarray


@jit
def fill_price(open_price: float, side: float, slippage: float) -> float:
    """Price of a market order at `open_price`: a buy (`side` +1) pays more, a sell (-1) gets less."""
    return open_price * (1.0 + side * slippage)


@jit
def fee(quantity: float, price: float, fee_rate: float) -> float:
    """Fee of a fill in quote currency: `rate x |quantity| x fill price`."""
    return fee_rate * abs(quantity) * price


@jit
def cash_after(cash: float, quantity: float, price: float, fee_paid: float) -> float:
    """Cash after a fill of signed `quantity` at `price`."""
    return cash - quantity * price - fee_paid


@jit
def position_after(position: float, quantity: float, lots_per_unit: float) -> float:
    """Position after a fill of signed `quantity`; with `lots_per_unit` it stays on whole lots, as an exchange keeps it.

    Without that, sums of decimal fractions drift off the grid (0.1 + 0.2), and a close would leave a lot behind.
    """
    after = position + quantity
    if lots_per_unit > 0.0:
        return math.copysign(math.floor(abs(after) * lots_per_unit + 0.5) / lots_per_unit, after) + 0.0
    return after


@jit
def equity(cash: float, position: float, close: float) -> float:
    """Account value at `close`; short positions count negative."""
    return cash + position * close


@jit
def admissible(
    cash: float, position: float, quantity: float, price: float, fee_paid: float, maximum_leverage: float
) -> int:
    """`FILLED` if the account can carry this fill, else `NO_CASH`.

    What only reduces a position is always allowed. Otherwise the exposure after the fill must not exceed
    `maximum_leverage` times the equity after the fill; with a leverage of 1 and a long position that says: cash >= 0.
    """
    after = position + quantity
    if after * position >= 0.0 and abs(after) <= abs(position):
        return FILLED
    exposure = abs(after) * price
    remaining = cash_after(cash, quantity, price, fee_paid) + after * price
    if exposure - maximum_leverage * remaining <= 1e-9 * exposure:
        return FILLED
    return NO_CASH


@jit
def order_quantity(
    target_weight: float,
    rebalance_band: float,
    equity_now: float,
    close: float,
    position: float,
    lots_per_unit: float,
    minimum_notional: float,
) -> float:
    """Signed quantity that moves `position` to `target_weight` of equity, valued at `close`; 0.0 for no order.

    No order while the weight is unknown (NaN), while the present weight is within `rebalance_band` of the target (a
    target of zero and a change of side always trade), or below the market's `minimum_notional`. An account without
    equity is closed out. With `lots_per_unit` (lots in one unit of the asset; 0 for none) the *target* is rounded
    toward zero to whole lots, so that rounding never adds risk, and the quotient of two whole numbers is exactly the
    float that its decimal string parses to.
    """
    if math.isnan(target_weight):
        return 0.0
    wanted = 0.0
    if target_weight != 0.0 and equity_now > 0.0:
        present = position * close / equity_now
        if present * target_weight > 0.0 and abs(target_weight - present) <= rebalance_band:
            return 0.0
        wanted = target_weight * equity_now / close
    if lots_per_unit > 0.0:
        wanted_lots = math.copysign(math.floor(abs(wanted) * lots_per_unit + 1e-9), wanted)
        held_lots = math.copysign(math.floor(abs(position) * lots_per_unit + 0.5), position)
        quantity = (wanted_lots - held_lots) / lots_per_unit
    else:
        quantity = wanted - position
    if quantity == 0.0 or abs(quantity) * close < minimum_notional:
        return 0.0
    return quantity


@jit(nogil=True)
def _simulate(
    open_: np.ndarray,
    close: np.ndarray,
    target_weight: np.ndarray,
    first: int,
    cash: float,
    fee_rate: float,
    slippage: float,
    rebalance_band: float,
    lots_per_unit: float,
    minimum_notional: float,
    maximum_leverage: float,
) -> tuple:
    n = close.shape[0]
    bars = n - first
    equities, cashes, positions = np.empty(bars), np.empty(bars), np.empty(bars)
    order_bar = np.empty(bars + 1, np.int64)
    order_status = np.empty(bars + 1, np.int64)
    orders = np.zeros((4, bars + 1))
    count = 0
    position = 0.0
    pending = 0.0
    if first > 0:
        t = first - 1
        pending = order_quantity(
            target_weight[t], rebalance_band, cash, close[t], position, lots_per_unit, minimum_notional
        )
        if pending != 0.0:
            order_bar[0], order_status[0], orders[0, 0], count = t, PENDING, pending, 1
    for t in range(first, n):
        if pending != 0.0:
            side = 1.0 if pending > 0.0 else -1.0
            price = fill_price(open_[t], side, slippage)
            fee_paid = fee(pending, price, fee_rate)
            status = admissible(cash, position, pending, price, fee_paid, maximum_leverage)
            k = count - 1
            order_status[k] = status
            orders[1, k] = price
            if status == FILLED:
                orders[2, k] = fee_paid
                orders[3, k] = abs(pending) * abs(price - open_[t])
                cash = cash_after(cash, pending, price, fee_paid)
                position = position_after(position, pending, lots_per_unit)
        i = t - first
        equities[i], cashes[i], positions[i] = equity(cash, position, close[t]), cash, position
        pending = order_quantity(
            target_weight[t], rebalance_band, equities[i], close[t], position, lots_per_unit, minimum_notional
        )
        if pending != 0.0:
            order_bar[count], order_status[count], orders[0, count] = t, PENDING, pending
            count += 1
    return equities, cashes, positions, order_bar[:count], order_status[:count], orders[:, :count]


def simulate(
    open_: np.ndarray,
    close: np.ndarray,
    target_weight: np.ndarray,
    *,
    first: int,
    cash: float,
    fee_rate: float,
    slippage: float,
    rebalance_band: float = 0.0,
    lots_per_unit: float = 0.0,
    minimum_notional: float = 0.0,
    maximum_leverage: float = 1.0,
) -> Simulation:
    """Trade target weights through one account; market orders only.

    `open_`, `close`, `target_weight`: float64 `(n,)`, prices finite and positive (the caller checks). The account lives
    from bar `first`; the decision of the bar before it may fill at its open. Order bars count from the start of the
    arrays.
    """
    equities, cashes, positions, bar, status, orders = _simulate(
        open_,
        close,
        target_weight,
        first,
        float(cash),
        float(fee_rate),
        float(slippage),
        float(rebalance_band),
        float(lots_per_unit),
        float(minimum_notional),
        float(maximum_leverage),
    )
    return Simulation(equities, cashes, positions, bar, orders[0], orders[1], orders[2], orders[3], status)
