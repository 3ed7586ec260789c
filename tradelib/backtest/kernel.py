"""The accounting kernel: what an order, a fill, a fee and an account are, in one place.

The trading machine (`tradelib.backtest.machine`) runs these functions compiled over arrays; the paper venue and the
runner call the very same ones a bar at a time, interpreted. There is no second implementation, and no fastmath, so both
give the same bits.

Conventions: a decision on bar *t* sees everything up to its close; its order fills at the open of *t+1*; an order of
the last bar never fills. Market orders slip against you by a fraction of the open. The fee is `rate x quantity x fill
price`, on the slipped price. Equity is `cash + signed quantity x close`, once per bar. Units: prices and cash in the
quote currency, quantities in the base asset, rates and slippage as fractions (0.001 = 10 basis points).
"""

from __future__ import annotations

import math

from tradelib._jit import jit

__all__ = [
    "FILLED",
    "NO_CASH",
    "admissible",
    "adverse_fraction",
    "affordable_quantity",
    "borrow_cost",
    "cash_after",
    "equity",
    "fee",
    "fill_price",
    "funding_payment",
    "interest_cost",
    "liquidation_price",
    "order_quantity",
    "position_after",
    "quantity_to_reach",
]

# What every fill calls is inlined by force: left to itself, the compiler's choice changes with code elsewhere.
FILLED = 0
NO_CASH = 1
_DUST = 1e-12
"""What a fill leaves standing below this share of its own size is rounding, not a position."""


@jit(_nrt=False, forceinline=True)
def fill_price(open_price: float, side: float, slippage: float) -> float:
    """Price of a market order at `open_price`: a buy (`side` +1) pays more, a sell (-1) gets less."""
    return open_price * (1.0 + side * slippage)


@jit(_nrt=False, forceinline=True)
def fee(quantity: float, price: float, fee_rate: float) -> float:
    """Fee of a fill in quote currency: `rate x |quantity| x fill price`."""
    return fee_rate * abs(quantity) * price


@jit
def cash_after(cash: float, quantity: float, price: float, fee_paid: float) -> float:
    """Cash after a fill of signed `quantity` at `price`."""
    return cash - quantity * price - fee_paid


@jit(_nrt=False, forceinline=True)
def position_after(position: float, quantity: float, lots_per_unit: float) -> float:
    """Position after a fill of signed `quantity`; with `lots_per_unit` it stays on whole lots, as an exchange keeps it.

    Without that, sums of decimal fractions drift off the grid (0.1 + 0.2), and a close would leave a lot behind. An
    account without lots is flat, 0.0 exactly, when at most 1e-12 of the fill's size is left: 0.1 + 0.2 - 0.3.
    """
    after = position + quantity
    if lots_per_unit > 0.0:
        return math.copysign(math.floor(abs(after) * lots_per_unit + 0.5) / lots_per_unit, after) + 0.0
    return after if abs(after) > _DUST * abs(quantity) else 0.0


@jit
def equity(cash: float, position: float, close: float) -> float:
    """Account value at `close`; short positions count negative."""
    return cash + position * close


@jit(_nrt=False, forceinline=True)
def admissible(
    cash: float,
    position: float,
    quantity: float,
    price: float,
    fee_paid: float,
    maximum_leverage: float,
    other_value: float = 0.0,
    other_exposure: float = 0.0,
) -> int:
    """`FILLED` if the account can carry this fill, else `NO_CASH`.

    What only reduces a position is always allowed. Otherwise the exposure after the fill must not exceed
    `maximum_leverage` times the equity after the fill; with a leverage of 1 and a long position that says: cash >= 0.
    `other_value`, `other_exposure`: signed and absolute value of the account's other positions.
    """
    after = position_after(position, quantity, 0.0)
    if after * position >= 0.0 and abs(after) <= abs(position):
        return FILLED
    exposure = abs(after) * price + other_exposure
    remaining = cash_after(cash, quantity, price, fee_paid) + after * price + other_value
    if exposure - maximum_leverage * remaining <= 1e-9 * exposure:
        return FILLED
    return NO_CASH


@jit
def affordable_quantity(
    cash: float,
    position: float,
    quantity: float,
    price: float,
    fee_rate: float,
    maximum_leverage: float,
    lots_per_unit: float,
    other_value: float = 0.0,
    other_exposure: float = 0.0,
) -> float:
    """The part of `quantity` that the account can carry at `price`, its fee included; rounded toward zero to lots.

    Solves `exposure after = maximum_leverage x equity after` for the part that opens; with a leverage of 1 and no other
    position that is `cash / (price x (1 + fee_rate))`.
    """
    side = 1.0 if quantity > 0.0 else -1.0
    closing = min(abs(position), abs(quantity)) if position * quantity < 0.0 else 0.0
    held = 0.0 if closing > 0.0 else abs(position)
    worth = cash + position * price + other_value - fee_rate * price * closing
    room = maximum_leverage * worth - other_exposure - held * price
    opening = min(max(room, 0.0) / (price * (1.0 + maximum_leverage * fee_rate)), abs(quantity) - closing)
    total = closing + opening
    if lots_per_unit > 0.0:
        total = math.floor(total * lots_per_unit + 1e-9) / lots_per_unit
    return side * total


@jit(_nrt=False, forceinline=True)
def adverse_fraction(slippage: float, half_spread: float, impact: float, quantity: float, volume: float) -> float:
    """How far a market or stop fill is worse than its reference price: slippage + half the spread + impact.

    Impact is the square-root law on the share of the bar's volume: `impact x sqrt(|quantity| / volume)`. Source:
    Almgren, Thum, Hauptmann and Li (2005), "Direct estimation of equity market impact", with exponent 1/2.
    """
    fraction = slippage + half_spread
    if impact > 0.0:
        fraction += impact * math.sqrt(abs(quantity) / volume)
    return fraction


@jit
def funding_payment(position: float, price: float, rate: float) -> float:
    """Funding of a perpetual: what a position pays (negative: receives) at `rate` of its value; longs pay shorts."""
    return position * price * rate


@jit
def borrow_cost(position: float, price: float, rate: float) -> float:
    """Cost of one bar of borrowing the asset that is sold short, at `rate` per bar of its value."""
    return rate * max(-position, 0.0) * price


@jit
def interest_cost(cash: float, rate: float) -> float:
    """Interest of one bar on borrowed cash, at `rate` per bar."""
    return rate * max(-cash, 0.0)


@jit
def liquidation_price(
    cash: float, position: float, maintenance_margin: float, other_value: float, other_exposure: float
) -> float:
    """Price at which equity falls to `maintenance_margin` x exposure, the other positions standing still.

    Solves `cash + other_value + position x p = maintenance_margin x (other_exposure + |position| x p)`; NaN where no
    positive price does that.
    """
    slope = position - maintenance_margin * abs(position)
    level = (maintenance_margin * other_exposure - cash - other_value) / slope if slope != 0.0 else math.nan
    return level if level > 0.0 else math.nan


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
    if rebalance_band == math.inf and equity_now > 0.0 and target_weight * position > 0.0:
        return 0.0
    wanted = 0.0
    if target_weight != 0.0 and equity_now > 0.0:
        present = position * close / equity_now
        if present * target_weight > 0.0 and abs(target_weight - present) <= rebalance_band:
            return 0.0
        wanted = target_weight * equity_now / close
    return quantity_to_reach(wanted, position, close, lots_per_unit, minimum_notional)


@jit
def quantity_to_reach(
    wanted: float, position: float, close: float, lots_per_unit: float, minimum_notional: float
) -> float:
    """Signed quantity from `position` to `wanted` units: whole lots, 0.0 below the minimum notional."""
    if lots_per_unit > 0.0:
        wanted_lots = math.copysign(math.floor(abs(wanted) * lots_per_unit + 1e-9), wanted)
        held_lots = math.copysign(math.floor(abs(position) * lots_per_unit + 0.5), position)
        quantity = (wanted_lots - held_lots) / lots_per_unit
    else:
        quantity = wanted - position
    if quantity == 0.0 or abs(quantity) * close < minimum_notional:
        return 0.0
    return quantity
