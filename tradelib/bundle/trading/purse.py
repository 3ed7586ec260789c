"""A bundle's own money: what it was given, and what its own fills made of it, counted by the kernel's own functions.

Several bundles may trade one account, in one symbol even. Each decides on its purse alone, as it did in research on an
account of its own; what others do moves neither its cash nor its position. The purses and what is nobody's must add up
to the account: reconciliation sees to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pandas as pd

from tradelib._jit import interpreted
from tradelib.backtest import kernel
from tradelib.bundle.execution import Execution
from tradelib.bundle.layout import Bundle
from tradelib.bundle.trading.bar import Bar
from tradelib.bundle.trading.instructions import Fill, Instruction, News, Plan, Side
from tradelib.bundle.trading.terms import exact
from tradelib.errors import RunnerError

__all__ = ["Book", "MarketBook", "Purse", "can_pay", "sold"]


NO_SHORT = (
    "the rule asks for {weight:g} of the equity on {time}, a short position: a spot account cannot sell what it does "
    "not hold, so this bundle must not go on"
)


@dataclass(frozen=True)
class Purse:
    """`cash` in quote currency, `position` in signed base units. `lots_per_unit` as in `tradelib.backtest.kernel`."""

    cash: float
    position: float = 0.0
    lots_per_unit: float = 0.0

    def equity(self, close: float) -> float:
        """Value at `close`, by the kernel's own rule."""
        return float(kernel.equity.python(self.cash, self.position, close))

    def after(self, fill: Fill) -> Purse:
        """The purse after one of its own fills.

        A fee that the venue kept in base units makes the position smaller instead of the cash, and leaves it between
        two lots. From there on it is summed in decimals: rounded to a lot, it would be more than the account holds.
        """
        cash = kernel.cash_after.python(self.cash, fill.quantity, fill.price, fill.fee)
        if self.lots_per_unit > 0.0 and (fill.fee_base or self.position != self.whole):
            position = float(exact(self.position) + exact(fill.quantity) - exact(fill.fee_base))
        else:
            received = fill.quantity - fill.fee_base
            position = float(kernel.position_after.python(self.position, received, self.lots_per_unit))
        return replace(self, cash=float(cash), position=position)

    @property
    def whole(self) -> float:
        """The position in whole lots, toward zero: what of it can be sold."""
        if self.lots_per_unit <= 0.0:
            return self.position
        lots = abs(self.position) * self.lots_per_unit
        nearest = math.floor(lots + 0.5) / self.lots_per_unit
        if nearest == abs(self.position):
            return self.position
        return math.copysign(math.floor(lots) / self.lots_per_unit, self.position) + 0.0

    def given(self, cash: float, position: float = 0.0) -> Purse:
        """With more (or less) to trade with."""
        return replace(self, cash=self.cash + cash, position=self.position + position)


def sold(order: Instruction, purse: Purse, promised: float = 0.0) -> float:
    """What of an order is sent on a spot account: all of a purchase, of a sale what is held in whole lots.

    promised: units that earlier sales of the same plan will take. More would be refused, or would be somebody else's.
    """
    if order.side == "buy":
        return order.quantity
    left = replace(purse, position=float(exact(purse.position) - exact(promised)))
    return min(order.quantity, max(left.whole, 0.0))


def can_pay(
    order: Instruction, purse: Purse, price: float, terms: Execution, promised: float = 0.0
) -> tuple[bool, float]:
    """Whether `purse` carries a market order at `price`, as the engine asks at the fill; and the cash that it leaves.

    Slippage, half the spread and the fee are those that `terms` assume; impact is known after the bar only. `promised`:
    units that earlier sales of the same plan turn into cash first.
    """
    cash, position, verdict = purse.cash, purse.position, kernel.FILLED
    with interpreted():
        worse = kernel.adverse_fraction(terms.slippage, terms.spread / 2.0, 0.0, order.quantity, math.inf)
        for quantity in (-promised, order.signed):
            paid = kernel.fill_price(price, math.copysign(1.0, quantity), worse)
            fee = kernel.fee(quantity, paid, terms.fee_rate)
            verdict = kernel.admissible(cash, position, quantity, paid, fee, 1.0)
            cash, position = float(kernel.cash_after(cash, quantity, paid, fee)), position + quantity
    return verdict == kernel.FILLED, cash


class Book(Protocol):
    """What keeps a bundle's account and turns a closed bar into a plan: `MarketBook`, or the engine's `Mirror`."""

    @property
    def account(self) -> tuple[float, float]:
        """Cash and position at this moment."""
        ...

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """What shall stand at the venue at this moment."""
        ...

    def see(self, bars: pd.DataFrame) -> None:
        """Bars that closed before the first one that is decided on."""
        ...

    def close(
        self,
        bar: Any,
        history: pd.DataFrame | None,
        news: Sequence[News] = (),
        *,
        decision: tuple[float, float] | None = None,
        decides: bool = True,
        later: Sequence[News] = (),
    ) -> Plan:
        """The bar has closed; see `tradelib.bundle.trading.mirror.Mirror.close`."""
        ...

    def book(self, news: Sequence[News] = ()) -> Plan:
        """What was told between two closes."""
        ...

    def fund(self, amount: float) -> None:
        """Put cash in (negative: take it out)."""
        ...

    def fitted(self, leg: str, price: float) -> float:
        """How much of a leg the account can carry at `price`."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Everything that it remembers, JSON-able; None where the journal's own entries say it all."""
        ...


class MarketBook:
    """The account of a bundle that trades at the close and nowhere else: one market order moves it to its target.

    Two kernel functions say all of it: `order_quantity` what to trade, and the purse's own what a fill does. `booked`:
    fills that are in `purse` already, and may be told again before the next close.
    """

    def __init__(self, bundle: Bundle, purse: Purse, booked: Sequence[Fill] = ()) -> None:
        self.bundle = bundle
        self.purse = purse
        self._booked = {_name(fill) for fill in booked}
        self._bar: Bar | None = None

    @property
    def account(self) -> tuple[float, float]:
        """Cash and position at this moment."""
        return self.purse.cash, self.purse.position

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """Nothing rests."""
        return ()

    def see(self, bars: pd.DataFrame) -> None:
        """What was before concerns the rule alone."""

    def fitted(self, leg: str, price: float) -> float:
        """Its orders are sent as they are, or refused."""
        raise RunnerError(f"leg {leg}: an order of this bundle is never made smaller")

    def state(self) -> None:
        """The purse is in every `equity` entry."""

    def close(
        self,
        bar: Bar,
        history: pd.DataFrame | None,
        news: Sequence[News] = (),
        *,
        decision: tuple[float, float] | None = None,
        decides: bool = True,
        later: Sequence[News] = (),
    ) -> Plan:
        """What the bundle's rule wants after `bar`, and the market order that takes the purse there."""
        self._take([*news, *later])
        self._booked.clear()  # trade ids of earlier bars are the journal's to know
        self._bar, equity = bar, self.purse.equity(bar.close)
        if not decides:
            return Plan(bar.time, None, None, self.purse.cash, self.purse.position, equity)
        with interpreted():
            signal, weight = self._decided(history) if decision is None else decision
            if weight < 0.0:
                raise RunnerError(NO_SHORT.format(weight=weight, time=bar.time))
            wanted = self._wanted(weight, equity, bar.close)
        orders = (self._instruction(bar, wanted),) if wanted else ()
        purse = self.purse
        return Plan(bar.time, _known(signal), _known(weight), purse.cash, purse.position, equity, orders, orders)

    def book(self, news: Sequence[News] = ()) -> Plan:
        """Take fills between two closes; nothing has to stand at the venue."""
        self._take(news)
        close = self._bar.close if self._bar is not None else math.nan
        time = self._bar.time if self._bar is not None else ""
        return Plan(time, None, None, self.purse.cash, self.purse.position, self.purse.equity(close))

    def _take(self, news: Sequence[News]) -> None:
        for fill in news:
            if isinstance(fill, Fill) and _name(fill) not in self._booked:
                self._booked.add(_name(fill))
                self.purse = self.purse.after(fill)

    def fund(self, amount: float) -> None:
        """Put cash in (negative: take it out)."""
        self.purse = self.purse.given(amount)

    def _decided(self, history: pd.DataFrame | None) -> tuple[float, float]:
        if history is None:
            raise RunnerError("a decision needs the history that the rule decides on")
        signal, weight = self.bundle.rule.weights(history)
        return float(signal[-1]), float(weight[-1])

    def _wanted(self, weight: float, equity: float, close: float) -> float:
        terms = self.bundle.execution
        return float(
            kernel.order_quantity(
                weight,
                float(self.bundle.rule.band),
                equity,
                close,
                self.purse.whole,  # what is between two lots cannot be sold
                float(terms.lots_per_unit),
                float(terms.minimum_notional),
            )
        )

    def _instruction(self, bar: Bar, wanted: float) -> Instruction:
        position = self.purse.whole
        reduces = wanted * position < 0.0 and abs(wanted) <= abs(position)
        side: Side = "buy" if wanted > 0 else "sell"
        return Instruction("0", "market", side, abs(wanted), reduces=reduces, time=bar.time)


def _name(fill: Fill) -> str:
    return f"{fill.client_order_id}:{fill.trade_id}"


def _known(value: float) -> float | None:
    """A number for the journal; NaN (warming up) is None."""
    return None if math.isnan(value) else value
