"""What looks at the account as a whole, over all traders: its limits, its reconciliation, the venue's clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from tradelib.bundle.trading.bar import Bar, iso_time
from tradelib.bundle.trading.instructions import Instruction
from tradelib.bundle.trading.purse import Purse
from tradelib.errors import DataError, RunnerError
from tradelib.ledger import journal
from tradelib.live.books import open_book
from tradelib.live.gate import AccountLimits, GateVerdict, GateView, OrderRate, judge
from tradelib.live.latch import Halt, Scope
from tradelib.live.mishaps import explain
from tradelib.live.operations import Operations
from tradelib.live.patience import Insistence
from tradelib.live.reconcile import Reconciler, Reconciliation
from tradelib.live.supervisor import Seat
from tradelib.live.trader import Trader
from tradelib.risk import Limits
from tradelib.risk.monitor import Verdict

__all__ = ["Guardian", "measure_skew"]

logger = logging.getLogger(__name__)

_RECENT = 5_000
"""Newest entries of a journal that are looked through for the orders of the last minute."""


async def _nothing(_: object) -> None:
    return None


class _Standing(NamedTuple):
    """What a seat has: its purse, what it was given, the price of its last bar."""

    purse: Purse
    allotted: float
    price: float


_LATE = 5.0
"""Seconds that a close of the account waits for a symbol whose bar is late, before its last price is taken."""


class Guardian:
    """The account's gate. `capital`: what all purses and the rest were given; `seats`: everybody who trades on it.

    `flatten(reason)` is called when a limit tripped that closes everything: it writes that down at once, and what it
    returns is awaited. `enforce(halt)` is awaited for every halt that is made here. patience: seconds that a close
    waits for late symbols.
    """

    def __init__(
        self,
        operations: Operations,
        seats: Sequence[Seat],
        capital: float,
        *,
        live: bool,
        flatten: Callable[[str], Awaitable[object]],
        enforce: Callable[[Halt], Awaitable[object]] = _nothing,
        patience: float = _LATE,
    ) -> None:
        self.operations = operations
        self.seats = list(seats)
        self.skew: float | None = None
        self._capital = capital
        self._live = live
        self._flatten = flatten
        self._enforce = enforce
        self._patience = patience
        self._rate = _recent_orders(seats, time.monotonic())
        self._closing, self._shown = asyncio.Lock(), asyncio.Event()
        self._closed_at = -1
        self._late: dict[str, int] = {}
        self._known: dict[int, _Standing] = {}
        self._limits = self._account_limits()

    # The gate ---------------------------------------------------------------------------------------------------------

    def gate(self, trader: Trader, order: Instruction) -> GateVerdict:
        """May this order become an intent? Asked by every trader, in the sequence of sending."""
        settings, now = self.operations.settings.gate, time.monotonic()
        limits = self._question(trader, order)
        verdict = judge(order, self._view(trader, now), settings, limits)
        if verdict.allowed:
            self._rate.note(now, reduces=order.reduces)
        return verdict

    def again(self, trader: Trader, order: Instruction) -> GateVerdict:
        """May this order, which was allowed, still be sent now? Rate and limits counted it when it became an intent."""
        view = replace(self._view(trader, time.monotonic()), sent=(0, 0))
        return judge(order, view, self.operations.settings.gate)

    def _question(self, trader: Trader, order: Instruction) -> Callable[[float], Verdict] | None:
        """What the limits are asked; of an order that is worked in children once, with the first one, for all of it."""
        counted = trader.worked.counted(order)
        if self._limits is None or counted == 0.0:
            return None
        ask = self._limits.asks(trader.symbol)
        return lambda _: ask(counted)

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
        made = AccountLimits(limits, symbols, self._capital, timeframe=frames.pop(), calendar=calendar)
        known = self.operations.log.last(journal.LIMITS)
        if known is not None:  # an earlier process measured: its peak, its day and its halts go on
            made.restore(known.body["state"])
            self._closed_at = pd.Timestamp(known.body["time"]).value // 10**6
        return made

    def hear(self) -> None:
        """Some trader was shown another closed bar."""
        self._shown.set()

    async def close(self) -> None:
        """Before anybody decides on a bar: measure the account at its close, and act on what tripped.

        Where several bars closed, at each of them. What cannot be measured is told, and nothing that adds to a position
        passes the gate until it can.
        """
        if self._limits is None:
            return
        async with self._closing:
            try:
                await self._catch_up(self._limits)
            except Exception as error:  # noqa: BLE001 - whatever it is: nothing is added meanwhile, and exits go on
                self._limits.measured = False
                told = explain(error)
                logger.error("the account's limits cannot be measured: %s", told, extra={"alert": "limits"})

    async def _catch_up(self, limits: AccountLimits) -> None:
        busy = self._busy()
        newest = max((trader.feed.last.milliseconds for trader in busy), default=-1)
        if busy and newest > self._closed_at:
            await self._wait_for(newest)
            for moment in self._moments(newest):
                await self._measure(limits, moment)
        elif busy and not limits.measured:
            at = max(self._closed_at, newest)
            limits.resume(*self._seen(at), orders=self._ordered(at))

    def _busy(self) -> list[Trader]:
        return [seat.trader for seat in self.seats if seat.failure is None and seat.trader.started]

    async def _wait_for(self, newest: int) -> None:
        """Until everybody was shown the bar that opened at `newest`; who is known to be late is not waited for."""
        deadline = asyncio.get_running_loop().time() + self._patience
        while any(name not in self._late for name in self._behind(newest)):
            self._shown.clear()
            try:
                await asyncio.wait_for(self._shown.wait(), deadline - asyncio.get_running_loop().time())
            except TimeoutError:
                break
        late = self._behind(newest)
        for name in late.keys() - self._late.keys():
            told = f"{name} has not shown the bar of {iso_time(newest)}: its price of {iso_time(late[name])} counts"
            logger.warning("the account's limits: %s", told, extra={"alert": f"late:{name}"})
        self._late = late

    def _behind(self, newest: int) -> dict[str, int]:
        """Symbols that still expect bars and were not shown this one, with the open time of their last."""
        last: dict[str, int] = {}
        for trader in self._busy():
            if not trader.ended:
                last[trader.symbol] = max(trader.feed.last.milliseconds, last.get(trader.symbol, -1))
        return {symbol: moment for symbol, moment in last.items() if moment < newest}

    def _moments(self, newest: int) -> list[int]:
        """Open times of the bars to measure, oldest first: of the first process only the newest one."""
        if self._closed_at < 0:
            return [newest]
        bars = (bar for trader in self._busy() for bar in self._since(trader))
        return sorted({bar.milliseconds for bar in bars if bar.milliseconds <= newest})

    def _since(self, trader: Trader) -> list[Bar]:
        """The bars that this trader was shown since the last measurement."""
        missed = (trader.feed.last.milliseconds - self._closed_at) // trader.feed.kept.step + 1
        return [bar for bar in trader.feed.kept.tail(max(missed, 1)) if bar.milliseconds > self._closed_at]

    async def _measure(self, limits: AccountLimits, moment: int) -> None:
        tripped = limits.close(*self._seen(moment))
        halts = self.operations.trip(tripped)
        closing = [self._flatten(str(verdict.reason)) for verdict in tripped if verdict.close_all]
        self._closed_at = moment
        await self._remember(limits, moment)
        for halt in halts:
            await self._enforce(halt)
        for work in closing:
            await work

    async def _remember(self, limits: AccountLimits, moment: int) -> None:
        """What a restart goes on from; where the disk refuses, the limits hold in this process all the same.

        Decisions on this bar wait for it, as they wait for the measurement; whatever else runs does not.
        """
        last = {seat.trader.symbol: seat.trader.feed.last.milliseconds for seat in self.seats}
        late = {symbol: iso_time(at) for symbol, at in last.items() if at < moment}
        await self.operations.write(journal.LIMITS, time=iso_time(moment), state=limits.monitor.state(), late=late)

    def _seen(self, moment: int) -> tuple[pd.DataFrame, float, dict[str, float]]:
        """Closes, equity and positions at the close of the bar that opened at `moment`."""
        assert self._limits is not None
        closes = self._closes(moment, self._limits.monitor.bars_needed)
        if closes.empty:
            raise DataError(f"at {iso_time(moment)} there is no price of every symbol")
        positions = dict.fromkeys(self._limits.monitor.symbols, 0.0)
        for seat in self.seats:
            positions[seat.trader.symbol] += self._standing(seat).purse.position
        return closes, self.equity({symbol: float(closes[symbol].iloc[-1]) for symbol in closes.columns}), positions

    def _ordered(self, moment: int) -> int:
        """Orders that add to a position and were placed at that close, by an earlier process."""
        if self.operations.settings.limits.daily_orders is None:
            return 0
        bodies = (one.body for seat in self.seats for one in seat.log.entries(journal.INTENT, after=_recent(seat)))
        return sum(body["time"] == iso_time(moment) and not body.get("reduces", False) for body in bodies)

    def equity(self, prices: dict[str, float] | None = None) -> float:
        """What all purses and the unallotted rest are worth, at `prices` or at the last closes."""
        worth = self._capital
        for seat in self.seats:
            standing = self._standing(seat)
            price = (prices or {}).get(seat.trader.symbol, standing.price)
            worth += standing.purse.equity(price) - standing.allotted
        return worth

    def _standing(self, seat: Seat) -> _Standing:
        """What a seat has: its trader's word, or the last one before it failed or began anew, or its journal's."""
        trader = seat.trader
        if trader.started:
            self._known[id(seat)] = _Standing(trader.purse, trader.allotted, trader.feed.last.close)
        elif id(seat) not in self._known:
            self._known[id(seat)] = _told(seat)
        return self._known[id(seat)]

    def _closes(self, newest: int, count: int) -> pd.DataFrame:
        """Closes of all symbols up to a bar. Who lacks the end of it stands still at its last price."""
        columns: dict[str, pd.Series] = {}
        for trader in sorted(self._busy(), key=lambda trader: trader.feed.last.milliseconds):
            after = max(0, (trader.feed.last.milliseconds - newest) // trader.feed.kept.step)
            kept = [bar for bar in trader.feed.kept.tail(count + 2 + after) if bar.milliseconds <= newest]
            bars = kept[-max(count, 1) :]
            times = pd.to_datetime([bar.milliseconds for bar in bars], unit="ms", utc=True)
            columns[trader.symbol] = pd.Series([bar.close for bar in bars], index=times)
        frame = pd.DataFrame(columns).apply(_held_still)
        for seat in self.seats:
            if seat.trader.symbol not in frame:  # its traders have ended
                frame[seat.trader.symbol] = self._standing(seat).price
        return frame.dropna()

    # Reconciliation ---------------------------------------------------------------------------------------------------

    async def reconcile(self, reconciler: Reconciler) -> Reconciliation:
        """Compare account and journals; what is not explained halts its symbol."""
        reconciler.desks = [seat.trader.desk for seat in self.seats]
        told = await reconciler.reconcile()
        purses = [(seat.trader.symbol, seat.trader.unexplained()) for seat in self.seats if seat.failure is None]
        for symbol, why in [*told.halted.items(), *(found for found in purses if found[1])]:
            await self._enforce(self.operations.halt(Scope("symbol", symbol), why, cause="reconciliation"))
        return told


def _told(seat: Seat) -> _Standing:
    """What the journal of a seat says, where its trader never came so far as to open its book."""
    bundle, last = seat.trader.bundle, seat.log.last(journal.BAR)
    price = seat.trader.feed.last.close if last is None else float(last.body["close"])
    lots = float(bundle.execution.lots_per_unit)
    if seat.log.last(journal.PURSE) is None:
        return _Standing(Purse(0.0, 0.0, lots), 0.0, price)
    allotted = sum(float(body["cash"]) for body in journal.bodies(seat.log, journal.PURSE))
    return _Standing(Purse(*open_book(bundle, seat.log).account, lots), allotted, price)


def _held_still(closes: pd.Series) -> pd.Series:
    """The same closes with the last one repeated to the end; a hole within stays one."""
    last = closes.last_valid_index()
    return closes if last is None else closes.where(closes.index <= last, closes[last])


def _recent_orders(seats: Sequence[Seat], now: float) -> OrderRate:
    """The orders that an earlier process sent within the last minute: a restart does not start their count anew."""
    rate, moment, found = OrderRate(), datetime.now(UTC), []
    for seat in seats:
        for entry in seat.log.entries(journal.INTENT, after=_recent(seat)):
            age = (moment - datetime.fromisoformat(entry.time)).total_seconds()
            if age < rate.window:
                found.append((now - max(age, 0.0), bool(entry.body.get("reduces", False))))
    for at, reduces in sorted(found):
        rate.note(at, reduces=reduces)
    return rate


def _recent(seat: Seat) -> int:
    """The sequence after which the newest entries of a journal begin."""
    return max(0, seat.log.head()[0] - _RECENT)


async def measure_skew(client: Any, insistence: Insistence) -> float:
    """Seconds by which this machine's clock is ahead of the venue's, taken in the middle of one request."""

    async def question() -> float:
        before = time.time()
        told = float(await client.fetch_time()) / 1e3
        return (before + time.time()) / 2.0 - told

    return await insistence.insist(question, "its clock")
