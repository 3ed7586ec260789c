"""The same decisions through backtrader: its own broker, its own order types, its own account.

Nothing of tradelib's accounting is used here. backtrader reads the target weight decided on a bar, sizes the order from
its own account value, and fills, charges and values by its own rules; only options and the moment at which an order is
sent are chosen so that both engines follow the same conventions. Where backtrader can do otherwise by a switch,
`native` leaves that switch as backtrader has it, and the difference gets a name (`Convention`).

How the conventions are mapped (backtrader 1.9.78.123, `brokers/bbroker.py` and `order.py`):

- Market orders are sent after the close and fill at the next open: backtrader's default (no cheat-on-close).
- Slippage: `slip_perc` with `slip_open` and `slip_out`, so that it is not capped at the bar's high or low. A limit
  order that fills at a better open must not slip: backtrader has no option for it, so the broker switches slippage off
  for limits.
- Protective orders: a bracket's children sleep on the bar of the entry's fill. Here they are sent in `next_open`,
  behind the entry in the broker's queue and before it looks at the bar, as one group in which one cancels the others.
- Same bar: the broker tries orders in the order of their arrival, so those beyond the open are sent first, then the
  nearest stop, then the target.
- Trailing stops: `StopTrail` follows closes; here its own `trailadjust` is called with the high (low) of each bar.
- Margin: `checksubmit` is off (it prices orders at the close of the decision); the check at the fill stays on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from tradelib.errors import ParameterError, require

__all__ = ["PROTECTIVE", "SWITCHES", "BacktraderAccount", "Convention", "Terms", "backtrader_account"]


class Convention(Enum):
    """Where the two engines may differ; the value says what backtrader does and what tradelib does."""

    CAPPED_SLIPPAGE = "backtrader caps a slipped price at the bar's high or low; tradelib charges the slippage in full"
    SLIPPING_LIMIT = "backtrader slips a limit order that fills at the open; in tradelib a limit never slips"
    SLEEPING_BRACKET = "backtrader's protective orders sleep on the entry bar; tradelib's live from the entry's fill"
    TRAILING_CLOSE = "backtrader's trailing stop follows closes; tradelib's follows highs (lows of a short position)"
    ARRIVAL_ORDER = "backtrader tries orders as they arrived; in tradelib an open beyond a level resolves first"
    UNCHECKED_SHORT = "backtrader opens a short without asking for equity; tradelib refuses exposure beyond leverage"
    STRICT_CASH = "backtrader refuses what overdraws cash by a rounding; tradelib allows a billionth of the exposure"
    MARGIN_AT_COST = "backtrader's margin counts positions at their cost; tradelib's at the fill price"
    CARRIED = "the accounts differed before; each order is right for its own account"


SWITCHES = frozenset(
    {
        Convention.CAPPED_SLIPPAGE,
        Convention.SLIPPING_LIMIT,
        Convention.SLEEPING_BRACKET,
        Convention.TRAILING_CLOSE,
        Convention.ARRIVAL_ORDER,
    }
)
"""What can be left as backtrader has it (`native`)."""

PROTECTIVE = ("stop_loss", "trailing_stop", "take_profit")
"""Reasons of protective fills, in the order in which a strategy would send them."""


@dataclass(frozen=True, eq=False)
class BacktraderAccount:
    """What backtrader's broker did.

    `equity`: per bar at the close. `fills`: `time` (open of the bar), signed `quantity`, `price`, `fee`, `reason`.
    `refused`: `time` and `quantity` of what the broker had no cash for.
    """

    equity: pd.Series
    fills: pd.DataFrame
    refused: pd.DataFrame


@dataclass(frozen=True)
class Terms:
    """Everything but the bars and the decisions; rates, weights and distances as fractions. `None`: no such exit."""

    fee_rate: float = 0.001
    slippage: float = 0.0005
    cash: float = 100_000.0
    rebalance_band: float = 0.0
    lots_per_unit: float = 0.0
    minimum_notional: float = 0.0
    maximum_leverage: float = 1.0
    stop_loss: float | None = None
    take_profit: float | None = None
    trailing_stop: float | None = None
    time_exit: float = math.inf
    reenters: bool = False
    native: frozenset[Convention] = frozenset()

    def __post_init__(self) -> None:
        if self.native - SWITCHES:
            switches = sorted(item.name for item in SWITCHES)
            raise ParameterError(f"native takes {switches}: backtrader has no switch for the others; got {self.native}")

    @property
    def protects(self) -> bool:
        """Whether positions carry protective orders."""
        return not (self.stop_loss is None and self.take_profit is None and self.trailing_stop is None)

    def quantity(self, weight: float, equity: float, close: float, position: float) -> float:
        """Signed quantity that moves `position` to `weight` of `equity` at `close`; 0.0 for no order."""
        if math.isnan(weight):
            return 0.0
        same_side = weight * position > 0.0 and equity > 0.0
        if same_side and abs(weight - position * close / equity) <= self.rebalance_band:
            return 0.0
        quantity = (weight * equity / close if equity > 0.0 else 0.0) - position
        if self.lots_per_unit:
            held = round(position * self.lots_per_unit)
            quantity = (
                math.trunc((quantity + position) * self.lots_per_unit * (1.0 + 1e-12)) - held
            ) / self.lots_per_unit
        return 0.0 if abs(quantity) * close < self.minimum_notional else quantity


@dataclass
class _Trader:
    """What the strategy does: it reads weights, sizes from the broker's account, and sends the broker's order types."""

    terms: Terms
    weights: np.ndarray
    strategy: Any = None
    order_class: Any = None
    equity: list[float] = field(default_factory=list)
    fills: list[tuple[int, float, float, float, str]] = field(default_factory=list)
    refused: list[tuple[int, float]] = field(default_factory=list)
    waiting: float = 0.0
    """Market orders sent at the last close, together."""
    blocked: float = 0.0
    """Side on which a protective exit has closed the position and the weight has not changed since."""
    group: list[Any] = field(default_factory=list)
    guarded: tuple[Any, ...] = ()
    """Size, average price and sequence that the group was sent for."""
    extreme: float = 0.0
    """The best price since the entry."""
    side: float = 0.0
    opened: int = 0
    """Side of the position, and the bar on which it was opened."""

    @property
    def bar(self) -> int:
        return len(self.strategy.data) - 1

    def send(self, quantity: float, reason: str, **options: Any) -> Any:
        """An order of backtrader for a signed quantity."""
        side = self.strategy.buy if quantity > 0.0 else self.strategy.sell
        return side(size=abs(quantity), reason=reason, **options)

    def decide(self) -> None:
        """After a close: note the account's value, and send the market order of this bar's decision."""
        data, broker = self.strategy.data, self.strategy.broker
        self.equity.append(broker.getvalue())
        position = broker.getposition(data)
        self._follow(position, data)
        weight = float(self.weights[self.bar])
        if not weight * self.blocked > 0.0:
            self.blocked = 0.0
        held, equity, close = position.size, self.equity[-1], data.close[0]
        leaves = bool(position) and self.bar - self.opened + 1 >= self.terms.time_exit
        wanted = 0.0 if self.blocked else self.terms.quantity(weight, equity, close, 0.0 if leaves else held)
        if leaves:
            self.send(-held, "time_exit")
            wanted = wanted if weight * held < 0.0 else 0.0
        if wanted:
            self.send(wanted, "signal")
        self.waiting = wanted - (held if leaves else 0.0)

    def _follow(self, position: Any, data: Any) -> None:
        """The best price since the entry: highs of a long position, lows of a short one; natively closes."""
        if not position:
            return
        best = max if position.size > 0.0 else min
        closes = Convention.TRAILING_CLOSE in self.terms.native
        seen = data.close[0] if closes else (data.high[0] if position.size > 0.0 else data.low[0])
        self.extreme = best(self.extreme, seen)

    def protect(self) -> None:
        """Before the broker looks at a bar: keep the protective orders in step with the position it will hold."""
        if not self.terms.protects:
            return
        size, average = self._position_after_open()
        sleeps = Convention.SLEEPING_BRACKET in self.terms.native and average != self._held().price
        if size == 0.0 or sleeps:
            self._withdraw()
            return
        extreme = self.extreme if size * self._held().size > 0.0 else average
        levels = self._levels(math.copysign(1.0, size), average, extreme)
        sequence = self._sequence(levels, math.copysign(1.0, size))
        if self.waiting or (size, average, sequence) != self.guarded:
            self._withdraw()
            self.guarded = (size, average, sequence)
            self._send_group(size, levels, extreme)
        elif Convention.TRAILING_CLOSE not in self.terms.native:
            for order in self.group:
                if order.exectype == self.order_class.StopTrail:
                    order.trailadjust(extreme)

    def _held(self) -> Any:
        return self.strategy.broker.getposition(self.strategy.data)

    def _position_after_open(self) -> tuple[float, float]:
        """Size and average price of backtrader's own position once the waiting market order has met the open."""
        position = self._held()
        if not self.waiting:
            return position.size, position.price
        price = self._slipped(math.copysign(1.0, self.waiting))
        size, average, opened, closed = position.pseudoupdate(self.waiting, price)
        if opened and self._cash_left(position, opened, closed, price) < 0.0:
            return position.size + closed, position.price
        return size, average

    def _cash_left(self, position: Any, opened: float, closed: float, price: float) -> float:
        """Cash after a fill, in the same steps and so with the same rounding as the broker's own check."""
        broker = self.strategy.broker
        scheme, cash = broker.getcommissioninfo(self.strategy.data), broker.getcash()
        if closed:
            value = scheme.getvaluesize(-closed, position.price)
            value = value / scheme.get_leverage() if value > 0.0 else value
            cash += value + scheme.profitandloss(-closed, position.price, price)
            cash -= scheme.getcommission(closed, price)
        value = scheme.getvaluesize(opened, price)
        cash -= value / scheme.get_leverage() if value > 0.0 else value
        return float(cash - scheme.getcommission(opened, price))

    def _slipped(self, side: float) -> float:
        """The fill price of a market order at this bar's open."""
        data = self.strategy.data
        price = data.open[0] * (1.0 + side * self.terms.slippage)
        if Convention.CAPPED_SLIPPAGE in self.terms.native:
            price = min(price, data.high[0]) if side > 0.0 else max(price, data.low[0])
        return price

    def _levels(self, side: float, average: float, extreme: float) -> dict[str, float]:
        """Price of each protective order of a position on `side`."""
        terms, levels = self.terms, {}
        if terms.stop_loss is not None:
            levels["stop_loss"] = average - side * terms.stop_loss * average
        if terms.trailing_stop is not None:
            levels["trailing_stop"] = extreme - side * terms.trailing_stop * extreme
        if terms.take_profit is not None:
            levels["take_profit"] = average + side * terms.take_profit * average
        return levels

    def _sequence(self, levels: dict[str, float], side: float) -> tuple[str, ...]:
        """Names of the orders in the sequence in which the broker shall try them."""
        names = tuple(name for name in PROTECTIVE if name in levels)
        if Convention.ARRIVAL_ORDER in self.terms.native:
            return names
        open_ = self.strategy.data.open[0]

        def rank(name: str) -> tuple[bool, bool, float]:
            target = name == "take_profit"
            beyond = (open_ - levels[name]) * side * (1.0 if target else -1.0) >= 0.0
            return not beyond, target, 0.0 if beyond else -levels[name] * side

        return tuple(sorted(names, key=rank))

    def _send_group(self, size: float, levels: dict[str, float], extreme: float) -> None:
        kinds = self.order_class
        for name in self.guarded[2]:
            options: dict[str, Any] = {"exectype": kinds.Stop, "price": levels[name]}
            if name == "take_profit":
                options["exectype"] = kinds.Limit
            elif name == "trailing_stop":
                options = {"exectype": kinds.StopTrail, "price": extreme, "trailpercent": self.terms.trailing_stop}
            options["oco"] = self.group[0] if self.group else None
            self.group.append(self.send(-size, name, **options))

    def _withdraw(self) -> None:
        if self.group:
            self.strategy.broker.cancel(self.group[0])
        self.group, self.guarded = [], ()

    def notice(self, order: Any) -> None:
        """A notification of the broker: book fills and refusals."""
        status, reason = order.status, order.info.reason
        if status in (order.Completed, order.Partial):
            done = order.executed
            for bit in done.getpending():
                self.fills.append((self.bar, bit.size, bit.price, bit.comm, reason))
            side = float(np.sign(self._held().size))
            if side and side != self.side:
                self.opened, self.extreme = self.bar, done.price
            self.side = side
            if reason in PROTECTIVE:
                self.group, self.guarded = [], ()
            if reason != "signal" and not self.terms.reenters:
                self.blocked = -math.copysign(1.0, done.size)
        elif status == order.Margin:
            self.refused.append((self.bar, order.executed.remsize))


@cache
def _parts() -> tuple[Any, Any, Any]:
    """backtrader's broker, feed and strategy with the few lines that the mapping needs."""
    bt = require("backtrader", "backtrader")

    class Broker(bt.brokers.BackBroker):  # type: ignore[name-defined]
        """The simulated broker; limit orders slip only where that is asked for."""

        params = (("limits_slip", False),)

        def _slip_up(self, pmax: float, price: float, doslip: bool = True, lim: bool = False) -> float:
            return float(super()._slip_up(pmax, price, doslip and (self.p.limits_slip or not lim), lim))

        def _slip_down(self, pmin: float, price: float, doslip: bool = True, lim: bool = False) -> float:
            return float(super()._slip_down(pmin, price, doslip and (self.p.limits_slip or not lim), lim))

    class Feed(bt.feed.DataBase):  # type: ignore[name-defined]
        """Rows of (time in days, open, high, low, close)."""

        params = (("rows", None),)

        def _load(self) -> bool:
            row = next(self.p.rows, None)
            if row is None:
                return False
            lines = self.lines
            lines.datetime[0], lines.open[0], lines.high[0], lines.low[0], lines.close[0] = row
            lines.volume[0] = lines.openinterest[0] = 0.0
            return True

    class Relay(bt.Strategy):  # type: ignore[name-defined]
        """A strategy that hands every event to the trader."""

        params = (("trader", None),)

        def start(self) -> None:
            self.p.trader.strategy, self.p.trader.order_class = self, bt.Order

        def next_open(self) -> None:
            self.p.trader.protect()

        def next(self) -> None:
            self.p.trader.decide()

        def notify_order(self, order: Any) -> None:
            self.p.trader.notice(order)

    return Broker, Feed, Relay


def _engine(trader: _Trader, bars: pd.DataFrame) -> Any:
    """A configured backtrader `Cerebro`: options only, no logic."""
    bt, (broker_class, feed_class, relay_class) = require("backtrader", "backtrader"), _parts()
    terms = trader.terms
    broker = broker_class(
        cash=terms.cash,
        checksubmit=False,
        slip_perc=terms.slippage,
        slip_open=True,
        slip_out=Convention.CAPPED_SLIPPAGE not in terms.native,
        limits_slip=Convention.SLIPPING_LIMIT in terms.native,
    )
    broker.setcommission(
        commission=terms.fee_rate,
        commtype=bt.CommInfoBase.COMM_PERC,
        percabs=True,
        stocklike=True,
        leverage=terms.maximum_leverage,
    )
    engine = bt.Cerebro(stdstats=False, cheat_on_open=True, broker_coo=False)
    engine.setbroker(broker)
    times = pd.DatetimeIndex(bars.index).as_unit("ns").asi8 / 86_400e9 + 719_163.0  # days, 0001-01-01 is day 1
    columns = [bars[name].to_numpy().tolist() for name in ("open", "high", "low", "close")]
    engine.adddata(feed_class(rows=iter(zip(times.tolist(), *columns, strict=True))))
    engine.addstrategy(relay_class, trader=trader)
    return engine


def backtrader_account(
    bars: pd.DataFrame, target_weight: pd.Series, terms: Terms | None = None, *, first: int = 0
) -> BacktraderAccount:
    """The account that backtrader keeps for `target_weight` on `bars`.

    `bars`: frame of the bars contract; `target_weight`: fraction of equity decided at each close, NaN while unknown, on
    the same index; `first`: row at which the account starts (the decision of the row before may fill at its open).
    Raises `MissingExtraError` without backtrader, `ParameterError` for weights that are not on the index of the bars.
    """
    if not target_weight.index.equals(bars.index):
        raise ParameterError("target_weight must be a Series on the index of the bars")
    begin = max(first - 1, 0)
    trader = _Trader(terms or Terms(), target_weight.to_numpy(dtype=np.float64)[begin:])
    _engine(trader, bars.iloc[begin:]).run()
    index = pd.DatetimeIndex(bars.index[begin:])
    fills = pd.DataFrame(trader.fills, columns=["time", "quantity", "price", "fee", "reason"])
    refused = pd.DataFrame(trader.refused, columns=["time", "quantity"])
    for frame in (fills, refused):
        frame["time"] = index[frame["time"].to_numpy(dtype=np.int64)]
    equity = pd.Series(trader.equity, index, name="equity").iloc[first - begin :]
    return BacktraderAccount(equity, fills, refused)
