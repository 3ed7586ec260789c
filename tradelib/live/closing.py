"""Getting out: entries that rest are withdrawn after a halt, positions closed, orders left as an end's policy says.

What is asked of a scope is asked of all its seats at once. Whoever does not manage stops nobody else, and is named: in
the answer, in the journal, in an alert. A position that was to be closed and is not is tried again until it is, over
restarts as well; after a number of attempts people are called to do it by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import journal
from tradelib.live.intents import OrderReport
from tradelib.live.latch import Halt, Scope
from tradelib.live.mishaps import explain
from tradelib.live.operations import Operations
from tradelib.live.patience import Failure, attempt
from tradelib.live.settings import Policy
from tradelib.live.supervisor import Seat
from tradelib.live.wired import Wire

__all__ = ["Closing", "Outcome"]

logger = logging.getLogger(__name__)

_CALLED = 5
"""Attempts at closing a position after which people are called."""
_LOOK = 1.0
"""Seconds between two looks at what is halted and still rests."""

Tell = Callable[[str, str], None]


class Outcome(NamedTuple):
    """By trader: the orders that were cancelled or sent, and why it is not done; who is done is in `sent` alone."""

    sent: Mapping[str, list[str]]
    left: Mapping[str, str]


class Closing:
    """Closes what the traders in `seats` have. `tell` writes an incident."""

    def __init__(self, operations: Operations, seats: Sequence[Seat], wire: Wire, tell: Tell) -> None:
        self._operations, self._seats, self._wire, self._tell = operations, seats, wire, tell
        self._flattening: dict[Scope, asyncio.Task[None]] = {}
        self._resting: dict[str, str] = {}

    def covered(self, scope: Scope) -> list[Seat]:
        """The seats under a scope; `RunnerError` where there is none: a misspelt halt protects nobody."""
        found = [seat for seat in self._seats if scope.covers(seat.trader.bundle.name, seat.trader.symbol)]
        if not found:
            traded = ", ".join(
                f"bundle:{seat.trader.bundle.name} in symbol:{seat.trader.symbol}" for seat in self._seats
            )
            raise RunnerError(f"{scope} covers nobody here, nothing was done; traded are {traded}")
        return found

    # Halts ------------------------------------------------------------------------------------------------------------

    async def enforce(self, halt: Halt) -> None:
        """Withdraw the resting orders under a halt that add to a position. Who does not manage is told of once."""
        seats = [
            seat for seat in self._seats
            if seat.trader.started and halt.scope.covers(seat.trader.bundle.name, seat.trader.symbol) and _adds(seat)
        ]  # fmt: skip
        reason = f"halted by {halt.who}: {halt.why}"
        answers = await asyncio.gather(*(attempt(seat.trader.withdraw_entries(reason)) for seat in seats))
        for seat, answer in zip(seats, answers, strict=True):
            why = explain(answer.error) if isinstance(answer, Failure) else ""
            if why and self._resting.get(seat.name) != why:
                self._shout("entries rest", f"{seat.name} is halted and could not withdraw its entries: {why}")
            self._resting[seat.name] = why

    async def keep(self) -> None:
        """Enforce every halt for as long as it holds: those of other processes, and of the one before this, too."""
        while True:
            for halt in self._operations.latch.halts:
                await self.enforce(halt)
            await asyncio.sleep(_LOOK)

    # Flat -------------------------------------------------------------------------------------------------------------

    def flatten(self, scope: Scope, reason: str) -> Awaitable[Outcome]:
        """Close the positions under a scope. That it is to be is written when this returns; what it returns does it.

        What is not done then is tried again until it is, in the background.
        """
        self._note(scope, reason, done=False)
        return self._flatten(scope, reason)

    async def _flatten(self, scope: Scope, reason: str) -> Outcome:
        outcome = await self._all(self._under(scope), "flatten", reason)
        if not outcome.left:
            self._note(scope, reason, done=True)
            return outcome
        for name, why in outcome.left.items():
            self._shout("not flat", f"{name} is not flat and is tried again: {why}")
        self._again(scope, reason)
        return outcome

    def resume(self) -> None:
        """Go on with what an earlier process was told to close, and did not."""
        newest: dict[Scope, dict[str, Any]] = {}
        for body in journal.bodies(self._operations.log, journal.FLATTEN):
            newest[Scope(body["scope"], body["subject"])] = body
        for scope, body in newest.items():
            if not body["done"] and self._under(scope):
                self._again(scope, body["reason"])

    def forget(self, scope: Scope, why: str) -> None:
        """Somebody with the right to do so lets `scope` trade again: it is not closed any further."""
        task = self._flattening.pop(scope, None)
        if task is not None:
            task.cancel()
            self._note(scope, why, done=True)

    async def end(self) -> None:
        """Stop trying; what is not closed is gone on with at the next start."""
        tasks = list(self._flattening.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _again(self, scope: Scope, reason: str) -> None:
        if scope not in self._flattening:
            self._flattening[scope] = asyncio.create_task(self._insist(scope, reason), name=f"flatten {scope}")

    async def _insist(self, scope: Scope, reason: str) -> None:
        """Until everybody under the scope is flat."""
        tried, insistence = 1, self._wire.insistence
        while True:
            outcome = await self._all(self._under(scope), "flatten", reason)
            if not outcome.left:
                break
            tried += 1
            if tried == _CALLED:
                for name, why in outcome.left.items():
                    self._shout("not flat", f"{name} is not flat after {tried} attempts, close it by hand: {why}")
            await insistence.sleep(insistence.pause(tried))
        self._flattening.pop(scope, None)
        self._note(scope, reason, done=True)
        self._tell("flat", f"{scope} after {tried + 1} attempts")

    # An end -----------------------------------------------------------------------------------------------------------

    async def wind_down(self, policy: Policy, reason: str, seconds: float) -> Outcome:
        """What an orderly end does, for every seat, within `seconds`; whoever is not done by then is named."""
        if policy == "keep":
            return Outcome({}, {})
        outcome = await self._all(self._seats, policy, reason, seconds)
        for name, why in outcome.left.items():
            self._shout("shutdown", f"{name}: {policy} failed: {why}")
        return outcome

    async def after_end_of(self, seat: Seat, policy: Policy) -> None:
        """A trader whose journal cannot be written ends by the policy, as far as that goes without one."""
        if policy == "keep" or not isinstance(seat.failure, LedgerError):
            return
        outcome = await self._all([seat], policy, "its journal cannot be written")
        for name, why in outcome.left.items():
            asked = await self._cancel_unwritten(seat)
            told = f"cancels were sent for {', '.join(asked)}" if asked else "no order of it is known to rest"
            held = f", its position of {seat.trader.purse.position:g} stays" if seat.trader.started else ""
            self._shout("journal", f"{name} ends without a journal: {policy} failed: {why}; {told}{held}")

    async def _cancel_unwritten(self, seat: Seat) -> list[str]:
        """Ask for the cancel of what rests, though nothing can be written: the next start asks what became of it."""
        trader, asked = seat.trader, []
        for order in trader.desk.working(trader.symbol):
            if not order.held:
                await attempt(self._wire.dialect.cancel(self._wire.client, trader.symbol, order.id))
                asked.append(order.id)
        return asked

    # All at once ------------------------------------------------------------------------------------------------------

    async def _all(self, seats: Iterable[Seat], policy: str, reason: str, seconds: float | None = None) -> Outcome:
        """Everybody at the same time; what was sent, and what is left after `seconds`."""
        works = {asyncio.create_task(_one(seat, policy, reason)): seat.name for seat in seats}
        try:
            late = (await asyncio.wait(works, timeout=seconds))[1] if works else set()
        finally:
            for task in works:
                task.cancel()  # nothing happens to those that are done
        await asyncio.gather(*works, return_exceptions=True)
        sent: dict[str, list[str]] = {}
        left: dict[str, str] = {}
        for task, name in works.items():
            error = None if task.cancelled() else task.exception()
            if task in late:
                left[name] = f"not done within {seconds:g} s; the next start asks what became of it"
            elif error is not None:
                left[name] = explain(error)
            else:
                sent[name] = [f"{report.client_order_id} {report.state.value}" for report in task.result()]
        return Outcome(sent, left)

    def _under(self, scope: Scope) -> list[Seat]:
        return [seat for seat in self._seats if scope.covers(seat.trader.bundle.name, seat.trader.symbol)]

    def _note(self, scope: Scope, reason: str, *, done: bool) -> None:
        self._operations.note(journal.FLATTEN, scope=scope.kind, subject=scope.name, reason=reason, done=done)

    def _shout(self, what: str, told: str) -> None:
        logger.critical("%s: %s", what, told, extra={"alert": f"{what}:{told.partition(' is ')[0]}"})
        self._tell(what, told)


async def _one(seat: Seat, policy: str, reason: str) -> list[OrderReport]:
    """One seat; one that never came so far as to know what it has is done only if its journal has nothing."""
    trader = seat.trader
    if trader.started:
        return await trader.wind_down(policy, reason)
    known = [body["client_order_id"] for body in journal.unresolved(seat.log)]
    held = sum(float(body["quantity"]) for body in journal.fills(seat.log))
    if known or abs(held) > 1e-12:
        orders = ", ".join(known) or "none"
        raise RunnerError(f"it has not started: by its journal it holds {held:g} and these orders are open: {orders}")
    return []


def _adds(seat: Seat) -> bool:
    """Whether something rests, or is worked, that adds to a position."""
    trader = seat.trader
    return bool(trader.worked) or any(not order.intent.reduces for order in trader.desk.working(trader.symbol))
