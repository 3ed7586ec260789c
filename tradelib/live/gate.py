"""The last question before an order becomes an intent: may it, whatever the strategy wants?

`judge` is pure: the same instruction and the same view of the world give the same verdict, so a journal that holds both
proves it later. The account's limits are those of the engine, asked through its own monitor (`AccountLimits`), so that
they trip on the bar on which a backtest trips.

Orders that only reduce a position pass where refusing them would leave risk standing: through a halt of level "reduce",
on stale data, past the notional and the limits. They never pass a halt of level "stop", nor a price that makes no
sense, and they have an allowance of orders of their own, which entries that run wild cannot use up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tradelib.live.latch import Halt, Level
from tradelib.live.settings import GateSettings
from tradelib.risk.monitor import ClosedTrade, LimitMonitor, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from tradelib.bundle.trading.instructions import Instruction
    from tradelib.risk import Limits

__all__ = ["CAUSES", "AccountLimits", "GateVerdict", "GateView", "OrderRate", "judge"]

CAUSES = (
    "halted", "malformed", "stale", "skewed", "collar", "notional", "order_rate", "limits",
)  # fmt: skip
"""Why the gate refuses, in the order in which it asks."""


@dataclass(frozen=True)
class GateView:
    """What the gate looks at. Prices in quote currency.

    `price` is the newest price that the market showed, `close` that of the bar decided on. `age`: seconds since that
    bar closed, on the venue's clock; `skew`: seconds by which this machine's clock is ahead of the venue's. None in
    either is "not measured": let through on paper, refused live. `sent`: orders of the last minute, (adding, reducing).
    """

    bundle: str
    symbol: str
    close: float
    price: float
    step_seconds: float
    age: float | None = None
    skew: float | None = None
    halt: Halt | None = None
    sent: tuple[int, int] = (0, 0)
    live: bool = False


@dataclass(frozen=True)
class GateVerdict:
    """May the order pass? If not: the `cause`, the `figure` that broke the `threshold`, and a sentence."""

    allowed: bool
    cause: str = ""
    figure: float = math.nan
    threshold: float = math.nan
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the journal; a figure that there is not is None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


PASSED = GateVerdict(True)


def judge(
    order: Instruction,
    view: GateView,
    settings: GateSettings,
    limits: Callable[[float], Verdict] | None = None,
) -> GateVerdict:
    """The first objection to `order`, or a verdict that allows it.

    `limits` is asked last, with the signed quantity, and only for an order that nothing else forbids: an order that it
    allows counts in the book that the next one is judged against. What only reduces it is told of, whatever it says.
    """
    for ask in _QUESTIONS:
        objection = ask(order, view, settings)
        if objection is not None:
            return objection
    verdict = None if limits is None else limits(order.signed)
    if verdict is None or verdict.allowed or order.reduces:
        return PASSED
    return GateVerdict(False, "limits", verdict.figure, verdict.threshold, verdict.summary())


def _halted(order: Instruction, view: GateView, _: GateSettings) -> GateVerdict | None:
    halt = view.halt
    if halt is None or (halt.level is Level.REDUCE and order.reduces):
        return None
    return GateVerdict(False, "halted", reason=f"{halt.scope} is halted by {halt.who}: {halt.why}")


def _malformed(order: Instruction, view: GateView, _: GateSettings) -> GateVerdict | None:
    needed = {"market": (), "limit": ("price",), "stop": ("stop_price",), "stop_limit": ("price", "stop_price")}
    figures = {"quantity": order.quantity, "close": view.close, "last price": view.price}
    figures |= {name: getattr(order, name) for name in needed[order.kind]}
    for name, value in figures.items():
        if value is None or not (math.isfinite(value) and value > 0.0):
            figure = math.nan if value is None else value
            return GateVerdict(False, "malformed", figure, 0.0, f"its {name} is {value}, not a positive number")
    return None


def _stale(order: Instruction, view: GateView, settings: GateSettings) -> GateVerdict | None:
    if order.reduces:
        return None
    if view.age is None:
        return GateVerdict(False, "stale", reason="how old its bar is was not measured") if view.live else None
    longest = settings.stale_bars * view.step_seconds
    if view.age <= longest:
        return None
    return GateVerdict(False, "stale", view.age, longest, f"decided on a bar that closed {view.age:,.0f} s ago")


def _skewed(order: Instruction, view: GateView, settings: GateSettings) -> GateVerdict | None:
    if order.reduces:
        return None
    if view.skew is None:
        return GateVerdict(False, "skewed", reason="the venue's clock was not measured") if view.live else None
    if abs(view.skew) <= settings.skew_seconds:
        return None
    reason = f"this machine's clock is {view.skew:+.3f} s off the venue's"
    return GateVerdict(False, "skewed", abs(view.skew), settings.skew_seconds, reason)


def _collar(order: Instruction, view: GateView, settings: GateSettings) -> GateVerdict | None:
    """A market order must not meet a market that left the close; a limit must not be worse than the market by more."""
    if order.kind == "market":
        apart = 0.0 if order.reduces else abs(view.price / view.close - 1.0)
        told = f"the market is at {view.price:g}, it was decided at {view.close:g}"
    elif order.kind == "stop":
        return None  # it becomes a market order where the market then is: the next bar's question, not this one's
    else:
        against = view.price if order.kind == "limit" else order.stop_price
        apart = _worse(order, against or view.price)
        told = f"its limit is {order.price:g} against {against:g}"
    if apart <= settings.collar:
        return None
    return GateVerdict(False, "collar", apart, settings.collar, told)


def _worse(order: Instruction, against: float) -> float:
    """By what fraction the limit is worse for us than `against`; negative where it is better."""
    ahead = (order.price or 0.0) / against - 1.0
    return ahead if order.side == "buy" else -ahead


def _notional(order: Instruction, view: GateView, settings: GateSettings) -> GateVerdict | None:
    if settings.maximum_notional is None or order.reduces:
        return None
    value = order.quantity * max(view.price, order.price or 0.0, order.stop_price or 0.0)
    if value <= settings.maximum_notional:
        return None
    return GateVerdict(False, "notional", value, settings.maximum_notional, "one order may not be worth more")


def _order_rate(order: Instruction, view: GateView, settings: GateSettings) -> GateVerdict | None:
    sent = view.sent[1] if order.reduces else view.sent[0]
    if sent < settings.orders_per_minute:
        return None
    kind = "reducing" if order.reduces else "adding"
    told = f"{sent} {kind} orders within the last minute"
    return GateVerdict(False, "order_rate", float(sent), float(settings.orders_per_minute), told)


_QUESTIONS = (_halted, _malformed, _stale, _skewed, _collar, _notional, _order_rate)


class OrderRate:
    """Orders of the last minute, adding and reducing apart. `now` is any clock that only goes forward, in seconds."""

    window = 60.0

    def __init__(self) -> None:
        self._times: tuple[deque[float], deque[float]] = (deque(), deque())

    def note(self, now: float, *, reduces: bool) -> None:
        """An order passed the gate."""
        self._times[reduces].append(now)

    def sent(self, now: float) -> tuple[int, int]:
        """(adding, reducing) orders in the minute that ends `now`."""
        for times in self._times:
            while times and times[0] <= now - self.window:
                times.popleft()
        return len(self._times[0]), len(self._times[1])


class AccountLimits:
    """The engine's limits over everything that the account trades, one close at a time.

    `symbols`: all of them, in a fixed order; `cash`: the account at the start. Feed `close` once per bar of the
    account's timeframe, before anybody decides on it; then ask per order, reducing ones first. Until it was measured,
    nothing that adds to a position is allowed.
    """

    def __init__(
        self, limits: Limits, symbols: Sequence[str], cash: float, *, timeframe: str, calendar: str = "24/7"
    ) -> None:
        self.monitor = LimitMonitor(limits, symbols, cash, timeframe=timeframe, calendar=calendar)
        self.measured = False

    def close(
        self,
        history: pd.DataFrame,
        equity: float,
        positions: Mapping[str, float],
        trades: Iterable[ClosedTrade] = (),
        risks: Mapping[str, float] | None = None,
    ) -> tuple[Verdict, ...]:
        """What tripped at this close. `history`: closes, a column per symbol, `monitor.bars_needed` rows or more."""
        self.measured = False
        tripped = self.monitor.close(history, equity, positions, trades, risks)
        self.measured = True
        return tripped

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `monitor.state` told, whatever symbols were traded then; `resume` or `close` comes next."""
        names, rows = list(state["names"]), state["symbols"]
        width = len(rows) // max(len(names), 1)
        fresh = self.monitor.state()["symbols"]
        moved = []
        for place, symbol in enumerate(self.monitor.symbols):
            table, at = (rows, names.index(symbol)) if symbol in names else (fresh, place)
            moved += table[at * width : (at + 1) * width]
        self.monitor.restore({**state, "names": list(self.monitor.symbols), "symbols": moved})

    def resume(self, history: pd.DataFrame, equity: float, positions: Mapping[str, float], *, orders: int = 0) -> None:
        """Stand at the close that was taken last before a restart: see `LimitMonitor.resume`."""
        self.monitor.resume(history, equity, positions, orders=orders)
        self.measured = True

    def asks(self, symbol: str, risk: float | None = None) -> Callable[[float], Verdict]:
        """The question that `judge` puts last, for an order in `symbol`."""
        if not self.measured:
            why = "the account's limits have not been measured yet"
            return lambda _: Verdict(False, symbol, "unmeasured", reason=why)
        return lambda quantity: self.monitor.judge(symbol, quantity, risk=risk)
