"""Opening a bundle's book from its journal: where it stood after the last entry, whatever ended the process.

A bundle of market orders is opened from its newest `equity` and the fills since. One that needs more is a `Mirror`,
which steps the engine: it goes on from its newest snapshot, and is told the bars, decisions and fills that came after
it, in the sequence of the journal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from tradelib.bundle import Bundle
from tradelib.data.bars import COLUMNS
from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.bars import Bar
from tradelib.live.fills import VenueTrade
from tradelib.live.instructions import Ending, Fill
from tradelib.live.intents import OrderState
from tradelib.live.mirror import Mirror
from tradelib.live.purse import Book, MarketBook, Purse

__all__ = ["ENDINGS", "bars_frame", "legs_of", "open_book"]

ENDINGS = {OrderState.REJECTED: "rejected", OrderState.CANCELED: "cancelled", OrderState.EXPIRED: "expired"}
"""What becomes of a leg whose order ends without being filled."""

ReadFill = Callable[[VenueTrade], Fill]


def open_book(bundle: Bundle, log: Ledger, step: int, read: ReadFill) -> Book:
    """The book of `bundle` as `log` tells it. `step`: milliseconds of a bar; `read`: a journalled trade as a fill."""
    if bundle.needs:
        return _mirror(bundle, log, step, read)
    return MarketBook(bundle, _purse(bundle, log, read))


def legs_of(log: Ledger) -> dict[str, str]:
    """Client order id -> leg, of every order that was ever meant to be sent."""
    return {body["client_order_id"]: body.get("leg") or "0" for body in journal.intents(log)}


def bars_frame(bars: Iterable[Bar]) -> pd.DataFrame:
    """Bars as a frame: `COLUMNS`, by UTC open time."""
    rows = list(bars)
    times = pd.to_datetime([bar.milliseconds for bar in rows], unit="ms", utc=True).as_unit("ns")
    return pd.DataFrame([bar[1:] for bar in rows], columns=list(COLUMNS), index=pd.DatetimeIndex(times, name="time"))


def _purse(bundle: Bundle, log: Ledger, read: ReadFill) -> Purse:
    """The last valued account, and what was given and filled since."""
    last = log.last(journal.EQUITY)
    known = {"cash": 0.0, "position": 0.0} if last is None else last.body
    purse = Purse(known["cash"], known["position"], float(bundle.execution.lots_per_unit))
    for entry in log.entries(after=0 if last is None else last.sequence):
        if entry.kind == journal.PURSE:
            purse = purse.given(entry.body["cash"], entry.body["position"])
        elif entry.kind == journal.FILL:
            purse = purse.after(read(VenueTrade.from_body(entry.body)))
    return purse


def _mirror(bundle: Bundle, log: Ledger, step: int, read: ReadFill) -> Mirror:
    """The mirror after everything in the journal."""
    snapshot = log.last(journal.SNAPSHOT)
    if snapshot is not None:
        return _Replay(Mirror.restored(bundle, snapshot.body["state"]), log, step, read, True).play(snapshot.sequence)
    given = journal.bodies(log, journal.PURSE)
    if any(body["position"] for body in given):
        raise RunnerError(
            "the account holds a position that this bundle did not open: its exits and limits would not know how; "
            "close it by hand, or give the bundle a share of the cash"
        )
    mirror = Mirror(bundle, sum(body["cash"] for body in given))
    return _Replay(mirror, log, step, read, False).play(0)


class _Replay:
    """Tells a mirror what the journal holds."""

    def __init__(self, mirror: Mirror, log: Ledger, step: int, read: ReadFill, begun: bool) -> None:
        self.mirror, self.log, self._step, self._read, self._begun = mirror, log, step, read, begun
        self._fills: list[Fill] = []
        self._endings: list[Ending] = []
        self._legs = legs_of(log)

    def play(self, after: int) -> Mirror:
        """Everything after an entry of the journal."""
        decisions = {entry.body["time"]: entry.body for entry in self.log.entries(journal.DECISION, after=after)}
        for entry in self.log.entries(after=after):
            if entry.kind == journal.BAR:
                bar = Bar.from_body(entry.body)
                self._close(bar, decisions.get(bar.time))
            else:
                self._hear(entry.kind, entry.body)
        if self._begun and (self._fills or self._endings):
            self.mirror.book(self._fills, self._endings)
        return self.mirror

    def _hear(self, kind: str, body: dict[str, Any]) -> None:
        if kind == journal.FILL:
            self._fills.append(self._read(VenueTrade.from_body(body)))
        elif kind == journal.ORDER and body["status"] in {state.value for state in ENDINGS}:
            leg = self._legs.get(body["client_order_id"], "0")
            self._endings.append(Ending(leg, ENDINGS[OrderState(body["status"])], body["reason"]))  # type: ignore[arg-type]
        elif kind == journal.REFUSAL:
            self._endings.append(Ending(body["leg"], "rejected", body["reason"]))

    def _close(self, bar: Bar, decision: dict[str, Any] | None) -> None:
        """What was told before this bar's entry happened before its close, but for fills of the bar after it."""
        if decision is None and not self._begun:
            self.mirror.see(bars_frame([bar]))
            return
        until = bar.milliseconds + self._step
        now, later = _split(self._fills, until)
        known = None if decision is None else (_number(decision["signal"]), _number(decision["target_weight"]))
        self.mirror.close(bar, None, now, self._endings, decision=known, decides=decision is not None)
        self._begun, self._fills, self._endings = True, later, []


def _split(fills: Sequence[Fill], until: int) -> tuple[list[Fill], list[Fill]]:
    return [one for one in fills if one.time_ms < until], [one for one in fills if one.time_ms >= until]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
