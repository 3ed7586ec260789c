"""What looks at the account as a whole, over all traders: its limits, its reconciliation, the venue's clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pandas as pd

from tradelib.errors import RunnerError
from tradelib.live.gate import AccountLimits, GateVerdict, GateView, OrderRate, judge
from tradelib.live.instructions import Instruction
from tradelib.live.latch import Scope
from tradelib.live.operations import Operations
from tradelib.live.patience import Insistence
from tradelib.live.reconcile import Reconciler, Reconciliation
from tradelib.live.supervisor import Seat
from tradelib.live.trader import Trader
from tradelib.risk import Limits

__all__ = ["Guardian", "measure_skew"]

logger = logging.getLogger(__name__)


class Guardian:
    """The account's gate. `capital`: what all purses and the rest were given; `seats`: everybody who trades on it.

    `flatten(reason)` is awaited when a limit tripped that closes everything.
    """

    def __init__(
        self,
        operations: Operations,
        seats: Sequence[Seat],
        capital: float,
        *,
        live: bool,
        flatten: Callable[[str], Awaitable[object]],
    ) -> None:
        self.operations = operations
        self.seats = list(seats)
        self.skew: float | None = None
        self._capital = capital
        self._live = live
        self._flatten = flatten
        self._rate = OrderRate()
        self._limits = self._account_limits()
        self._closed_at = -1

    # The gate ---------------------------------------------------------------------------------------------------------

    def gate(self, trader: Trader, order: Instruction) -> GateVerdict:
        """May this order become an intent? Asked by every trader, in the sequence of sending."""
        settings, now = self.operations.settings.gate, time.monotonic()
        limits = None if self._limits is None else self._limits.asks(trader.symbol)
        verdict = judge(order, self._view(trader, now), settings, limits)
        if verdict.allowed:
            self._rate.note(now, reduces=order.reduces)
        return verdict

    def _view(self, trader: Trader, now: float) -> GateView:
        bar, step = trader.feed.last, trader.feed.kept.step / 1e3
        age = time.time() + (-self.skew if self.skew is not None else 0.0) - bar.milliseconds / 1e3 - step
        return GateView(
            trader.bundle.name,
            trader.symbol,
            bar.close,
            trader.feed.price or bar.close,
            step,
            age if self._live else None,
            self.skew,
            self.operations.latch.halted(trader.bundle.name, trader.symbol),
            self._rate.sent(now),
            self._live,
        )

    # The account's limits ---------------------------------------------------------------------------------------------

    def _account_limits(self) -> AccountLimits | None:
        limits = self.operations.settings.limits
        if limits == Limits():
            return None
        frames = {seat.trader.feed.timeframe for seat in self.seats}
        if len(frames) > 1 or self.operations.settings.limits_timeframe not in (None, *frames):
            raise RunnerError(
                f"limits of the account are measured at each close, and the bundles' bars close apart "
                f"({', '.join(sorted(frames))}): run bundles of one timeframe, or leave the account's limits out"
            )
        if limits.protections or limits.consecutive_losses is not None:
            raise RunnerError("protections and consecutive_losses count closed trades: they are limits of a bundle")
        symbols = sorted({seat.trader.symbol for seat in self.seats})
        calendar = str(self.seats[0].trader.bundle.execution.calendar)
        return AccountLimits(limits, symbols, self._capital, timeframe=frames.pop(), calendar=calendar)

    async def close(self) -> None:
        """Once every market has closed another bar: measure the account there, and act on what tripped."""
        busy = [seat.trader for seat in self.seats if seat.failure is None and seat.trader.started]
        if self._limits is None or not busy:
            return
        newest = min(trader.feed.last.milliseconds for trader in busy)
        if newest <= self._closed_at:
            return
        self._closed_at = newest
        closes = self._closes(busy, newest, self._limits.monitor.bars_needed)
        positions = dict.fromkeys(self._limits.monitor.symbols, 0.0)
        for trader in busy:
            positions[trader.symbol] += trader.purse.position
        equity = self.equity({symbol: float(closes[symbol].iloc[-1]) for symbol in closes.columns})
        tripped = self._limits.close(closes, equity, positions)
        self.operations.trip(tripped)
        for verdict in tripped:
            if verdict.close_all:
                await self._flatten(str(verdict.reason))

    def equity(self, prices: dict[str, float] | None = None) -> float:
        """What all purses and the unallotted rest are worth, at `prices` or at the last closes."""
        worth = self._capital
        for trader in (seat.trader for seat in self.seats):
            if trader.started:
                price = (prices or {}).get(trader.symbol, trader.feed.last.close)
                worth += trader.purse.equity(price) - trader.allotted
        return worth

    def _closes(self, traders: Sequence[Trader], newest: int, count: int) -> pd.DataFrame:
        columns = {}
        for trader in traders:
            bars = [bar for bar in trader.feed.kept.tail(count + 2) if bar.milliseconds <= newest][-max(count, 1) :]
            times = pd.to_datetime([bar.milliseconds for bar in bars], unit="ms", utc=True)
            columns[trader.symbol] = pd.Series([bar.close for bar in bars], index=times)
        absent = set(self._limits.monitor.symbols if self._limits else ()) - columns.keys()
        for symbol in absent:  # its traders have ended: it stands still at the last price
            last = next(seat.trader.feed.last for seat in self.seats if seat.trader.symbol == symbol)
            columns[symbol] = pd.Series(last.close, index=next(iter(columns.values())).index)
        return pd.DataFrame(columns).dropna()

    # Reconciliation ---------------------------------------------------------------------------------------------------

    async def reconcile(self, reconciler: Reconciler) -> Reconciliation:
        """Compare account and journals; what is not explained halts its symbol."""
        reconciler.desks = [seat.trader.desk for seat in self.seats]
        told = await reconciler.reconcile()
        for symbol, why in told.halted.items():
            self.operations.halt(Scope("symbol", symbol), why, cause="reconciliation")
        return told


async def measure_skew(client: Any, insistence: Insistence) -> float:
    """Seconds by which this machine's clock is ahead of the venue's, taken in the middle of one request."""

    async def question() -> float:
        before = time.time()
        told = float(await client.fetch_time()) / 1e3
        return (before + time.time()) / 2.0 - told

    return await insistence.insist(question, "its clock")
