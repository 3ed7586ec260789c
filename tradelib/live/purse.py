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
from tradelib.bundle import Bundle
from tradelib.errors import RunnerError
from tradelib.live.bars import Bar
from tradelib.live.instructions import Ending, Fill, Instruction, Plan, Side

__all__ = ["Book", "MarketBook", "Purse", "check_shares"]


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
        two lots: only what is sold next is rounded.
        """
        cash = kernel.cash_after.python(self.cash, fill.quantity, fill.price, fill.fee)
        lots = 0.0 if fill.fee_base else self.lots_per_unit
        position = kernel.position_after.python(self.position, fill.quantity - fill.fee_base, lots)
        return replace(self, cash=float(cash), position=float(position))

    def given(self, cash: float, position: float = 0.0) -> Purse:
        """With more (or less) to trade with."""
        return replace(self, cash=self.cash + cash, position=self.position + position)


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
        fills: Sequence[Fill] = (),
        endings: Sequence[Ending] = (),
        *,
        decision: tuple[float, float] | None = None,
        decides: bool = True,
    ) -> Plan:
        """The bar has closed; see `tradelib.live.mirror.Mirror.close`."""
        ...

    def book(self, fills: Sequence[Fill] = (), endings: Sequence[Ending] = ()) -> Plan:
        """Fills between two closes."""
        ...

    def fitted(self, leg: str, price: float) -> float:
        """How much of a leg the account can carry at `price`."""
        ...

    def state(self) -> dict[str, Any] | None:
        """Everything that it remembers, JSON-able; None where the journal's own entries say it all."""
        ...


class MarketBook:
    """The account of a bundle that trades at the close and nowhere else: one market order moves it to its target.

    Two kernel functions say all of it: `order_quantity` what to trade, and the purse's own what a fill does.
    """

    def __init__(self, bundle: Bundle, purse: Purse) -> None:
        self.bundle = bundle
        self.purse = purse
        self._booked: set[str] = set()
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
        fills: Sequence[Fill] = (),
        endings: Sequence[Ending] = (),
        *,
        decision: tuple[float, float] | None = None,
        decides: bool = True,
    ) -> Plan:
        """What the bundle's rule wants after `bar`, and the market order that takes the purse there."""
        self._take(fills)
        self._booked.clear()  # trade ids of earlier bars are the journal's to know
        self._bar, equity = bar, self.purse.equity(bar.close)
        if not decides:
            return Plan(bar.time, None, None, self.purse.cash, self.purse.position, equity)
        with interpreted():
            signal, weight = self._decided(history) if decision is None else decision
            wanted = self._wanted(weight, equity, bar.close)
        orders = (self._instruction(bar, wanted),) if wanted else ()
        purse = self.purse
        return Plan(bar.time, _known(signal), _known(weight), purse.cash, purse.position, equity, orders, orders)

    def book(self, fills: Sequence[Fill] = (), endings: Sequence[Ending] = ()) -> Plan:
        """Take fills between two closes; nothing has to stand at the venue."""
        self._take(fills)
        close = self._bar.close if self._bar is not None else math.nan
        time = self._bar.time if self._bar is not None else ""
        return Plan(time, None, None, self.purse.cash, self.purse.position, self.purse.equity(close))

    def _take(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            name = f"{fill.client_order_id}:{fill.trade_id}"
            if name not in self._booked:
                self._booked.add(name)
                self.purse = self.purse.after(fill)

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
                self.purse.position,
                float(terms.lots_per_unit),
                float(terms.minimum_notional),
            )
        )

    def _instruction(self, bar: Bar, wanted: float) -> Instruction:
        position = self.purse.position
        reduces = wanted * position < 0.0 and abs(wanted) <= abs(position)
        side: Side = "buy" if wanted > 0 else "sell"
        return Instruction("0", "market", side, abs(wanted), reduces=reduces, time=bar.time)


def check_shares(shares: Sequence[float]) -> None:
    """Refuse (`RunnerError`) shares of the capital that are not in (0, 1], or together more than all of it."""
    for share in shares:
        if not 0.0 < share <= 1.0:
            raise RunnerError(f"a bundle's share of the capital is {share!r}: give a fraction above 0, at most 1")
    if sum(shares) > 1.0 + 1e-9:
        raise RunnerError(f"the bundles' shares of the capital sum to {sum(shares):g}: at most 1 can be traded")


def _known(value: float) -> float | None:
    """A number for the journal; NaN (warming up) is None."""
    return None if math.isnan(value) else value
