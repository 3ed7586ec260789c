"""Shares of the capital that change while a runner trades: the word is an entry in the journal of operations.

Who promotes says what each bundle shall trade from now on: a `shares` entry, written by another process as a halt may
be, durable and part of the chain, and found before the next decision. What holds at a start are the settings of that
start; entries after it are newer words. Each bundle's own journal tells what it was given (`purse`), so a process that
was killed half-way goes on with what is missing.

A smaller share goes out first, in free cash; what is tied up in a position is owed, and taken when it was sold. A share
of nothing ends the bundle: its orders are withdrawn, its position is closed, everything it has goes back, and nothing
of it leaves any more. Only when all of that is done, others are given more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from tradelib.ledger import Ledger, journal
from tradelib.live.operations import Operations
from tradelib.live.supervisor import Seat

__all__ = ["Shares", "share_of", "write_shares"]

logger = logging.getLogger(__name__)

_DUST = 0.01
"""Quote currency that is not worth an entry."""


class Shares:
    """The shares of one runner; `apply` before decisions. `given`: those of the settings, by bundle digest."""

    def __init__(self, operations: Operations, seats: Sequence[Seat], given: dict[str, float], capital: float) -> None:
        self.wanted = dict(given)
        self._operations, self._seats, self._capital = operations, list(seats), capital
        begun = operations.log.last(journal.CONFIG)
        self._seen = 0 if begun is None else begun.sequence
        self._reason = "the settings say so"
        self._unsettled = True
        self._turn = asyncio.Lock()

    async def apply(self) -> None:
        """Bring every purse in line with what was said last; costs one read of the head where nothing was."""
        async with self._turn:
            if not self._is_news() and not self._unsettled:
                return
            seats = [seat for seat in self._seats if seat.failure is None and seat.trader.started]
            smaller = [seat for seat in seats if self._wanted(seat) <= share_of(seat.log)]
            settled = [await self._settle(seat) for seat in smaller]
            for seat in seats if all(settled) else []:
                await self._settle(seat)
            self._unsettled = not all(settled) or len(seats) < len(self._seats)

    def _is_news(self) -> bool:
        head = self._operations.log.head()[0]
        if head <= self._seen:
            return False
        entries = list(self._operations.log.entries(journal.SHARES, after=self._seen))
        self._seen = head
        for entry in entries:
            self.wanted |= {digest: float(share) for digest, share in entry.body["shares"].items()}
            self._reason = str(entry.body["reason"])
        return bool(entries)

    def _wanted(self, seat: Seat) -> float:
        return self.wanted.get(seat.trader.bundle.digest, share_of(seat.log))

    async def _settle(self, seat: Seat) -> bool:
        """Give a bundle its share, or take what is too much; True where nothing is left to be taken."""
        share, before, trader = self._wanted(seat), share_of(seat.log), seat.trader
        if share == 0.0:
            return await self._withdraw(seat)
        trader.withdrawn = False
        change = (share - before) * self._capital - _owed(seat.log)
        if share != before or (change < -_DUST and trader.purse.cash > _DUST):
            change -= await trader.allot(change, share, self._capital, self._reason)
            logger.warning("%s trades a share of %g from now on: %s", seat.name, share, self._reason)
        return change >= -_DUST

    async def _withdraw(self, seat: Seat) -> bool:
        """Close everything and take it back; False where a position is left, to be tried again."""
        trader = seat.trader
        if trader.withdrawn and not trader.holds:
            return True
        trader.withdrawn = True
        reports = await trader.wind_down("flatten", f"withdrawn: {self._reason}")
        if trader.holds:
            logger.error("%s is withdrawn, and still holds %g: tried again", seat.name, trader.purse.position)
            return False
        if share_of(seat.log) or trader.purse.cash > _DUST:
            await trader.allot(-trader.purse.cash, 0.0, self._capital, self._reason)
        logger.warning("%s is withdrawn (%d orders): %s", seat.name, len(reports), self._reason)
        return True


def share_of(log: Ledger) -> float:
    """The share that the bundle of a journal has; 0.0 before it was given any."""
    last = log.last(journal.PURSE)
    return 0.0 if last is None else float(last.body["share"])


def write_shares(log: Ledger, shares: dict[str, float], *, by: str, reason: str) -> dict[str, Any] | None:
    """Say in the journal of operations what each bundle (by its digest) shall trade; None where that was said last."""
    last = log.last(journal.SHARES)
    if last is not None and last.body["shares"] == shares:
        return None
    return journal.record(log, journal.SHARES, shares=shares, by=by, reason=reason).body


def _owed(log: Ledger) -> float:
    last = log.last(journal.PURSE)
    return 0.0 if last is None else float(last.body.get("owed", 0.0))
