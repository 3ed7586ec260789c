"""Journals in a runner's folder whose bundles are traded no more: what they left on the account is still part of it.

A bundle that is taken out of the settings leaves its journal, and perhaps a position, behind. What it lost is not there
for the next bundle, what it holds belongs to it, and its trades explain what the account holds.

Its orders stay known, too: each such journal keeps a desk (`wind_up`). What rests at the venue and would add to a
position is cancelled at the start, because nobody would look after it. What protects a position stays, and is told;
when it fills, reconciliation books that into the journal it belongs to. A bundle that comes back goes on with that
journal, as after any restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from tradelib.bundle.trading.terms import exact
from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.feeds import Tell
from tradelib.live.journals import ACCOUNT
from tradelib.live.orders import OrderDesk, WorkingOrder

__all__ = ["Retired", "retired_journals", "retired_purse", "wind_up"]

NOBODY = "its bundle is traded no more"
"""Reason of a cancel of what nobody would look after."""


class Retired(NamedTuple):
    """A purse that nobody trades. `allotted`: what it was given; `price`: the close of its last bar."""

    name: str
    symbol: str
    cash: float
    position: float
    allotted: float
    price: float

    @property
    def result(self) -> float:
        """What the account has more (or less) in cash because of it."""
        return self.cash - self.allotted

    @property
    def held(self) -> float:
        """What its position was worth."""
        return self.position * self.price


def retired_journals(folder: Path, current: Iterable[Path]) -> list[Path]:
    """The journals in `folder` that are neither the account's nor one of `current`."""
    known = {ACCOUNT, *(path.name for path in current)}
    return sorted(path for path in folder.glob("*.sqlite") if path.name not in known)


def retired_purse(log: Ledger) -> Retired | None:
    """The purse that a journal ends with; None for one that was never given any. Summed in decimals: the lots of its
    bundle are not known here. A fee in a third currency is not counted: it was paid with what no purse holds."""
    given = journal.bodies(log, journal.PURSE)
    start, bar = log.last(journal.START), log.last(journal.BAR)
    if not given or start is None:
        return None
    allotted = sum((exact(float(body["cash"])) for body in given), Decimal(0))
    cash, position = allotted, sum((exact(float(body["position"])) for body in given), Decimal(0))
    base = str(start.body["symbol"]).partition("/")[0]
    for body in journal.fills(log):
        quantity, kept = exact(body["quantity"]), Decimal(body["fee_paid"].get(base, "0"))
        fee = exact(body["fee"] or 0.0) - kept * exact(body["price"])
        cash -= quantity * exact(body["price"]) + max(fee, Decimal(0))
        position += quantity - kept
    price = 0.0 if bar is None else float(bar.body["close"])
    told = str(start.body["name"]), str(start.body["symbol"])
    return Retired(*told, float(cash), float(position), float(allotted), price)


async def wind_up(desk: OrderDesk, mode: str, exchange: str, tell: Tell) -> None:
    """Settle what the bundle of this journal left open; entries are cancelled, exits stay and are told.

    Nothing is asked where it left nothing, or traded in another mode or at another exchange. What cannot be settled now
    is told, and asked for again by reconciliation.
    """
    start = desk.log.last(journal.START)
    if start is None or (start.body["mode"], start.body["venue"]) != (mode, exchange):
        return
    named = f"{start.body['name']} {start.body['symbol']}"
    try:
        await desk.resume()
        for order in desk.working():
            if not order.intent.reduces:
                await desk.cancel(order.id, NOBODY)
    except RunnerError as error:
        tell("retired", f"{named} is traded no more, and its orders could not be settled: {error}")
    for order in desk.working():
        tell("retired", f"{named} is traded no more: {_stays(order)}")


def _stays(order: WorkingOrder) -> str:
    told = f"its order {order.id} ({order.intent.side} {order.intent.quantity}, {order.intent.kind})"
    if order.held:
        return f"{told} was held by its runner and waits for nobody now: close the position by hand, or trade it again"
    return f"{told} rests at the venue and protects what it holds"
