"""Who keeps traders at work: each in a seat of its own, so that one that fails takes nobody with it.

What went wrong decides what follows. A venue that did not answer for too long (`Unanswered`) is no fault of the trader:
it is dropped and started again on the same journal, after a pause that grows, as if the process had crashed. A verdict
(`RunnerError`: contradictory data, an outcome that cannot be proved) and anything that nobody foresaw end the seat: its
journal says why, the others go on.

Two ways to take turns. `rounds` is for a paper venue whose clock moves when it is asked for the next bar: everybody
decides and settles, then everybody asks. `freely` is for markets that move by themselves: each trader at its own pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tradelib.errors import LedgerError
from tradelib.ledger import journal
from tradelib.live.journals import TraderJournal
from tradelib.live.mishaps import explain, is_unforeseen
from tradelib.live.patience import Insistence, Unanswered
from tradelib.live.trader import Trader
from tradelib.live.watchdog import Watchdog, heard_by, show_life

__all__ = ["Seat", "Supervisor"]

logger = logging.getLogger(__name__)


@dataclass
class Seat:
    """A place for a trader: how to make one, the journal that it works on, and what became of it."""

    make: Callable[[], Trader]
    log: TraderJournal
    trader: Trader = field(init=False)
    restarts: int = 0
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.trader = self.make()

    @property
    def name(self) -> str:
        """Whose seat it is."""
        return self.trader.name

    @property
    def problem(self) -> str:
        """Why nobody trades here; "" where somebody does."""
        return "" if self.failure is None else explain(self.failure)

    @property
    def busy(self) -> bool:
        """Whether there is something left to do."""
        trader = self.trader
        return self.failure is None and not (trader.started and (trader.over or trader.ended))


class Supervisor:
    """Runs the traders of `seats` until they are done or `stopping` is set. `restarts`: in a row, per seat.

    before_acts: awaited before decisions; between_rounds: when all have settled and nobody has asked for a bar yet.
    on_bar: called when a trader was shown a closed bar; on_end: awaited when a seat has ended for good.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        insistence: Insistence,
        stopping: asyncio.Event,
        *,
        restarts: int = 0,
        watchdog: Watchdog | None = None,
        before_acts: Callable[[], Awaitable[None]] | None = None,
        between_rounds: Callable[[], Awaitable[None]] | None = None,
        on_bar: Callable[[], None] | None = None,
        on_end: Callable[[Seat], Awaitable[None]] | None = None,
    ) -> None:
        self.seats = list(seats)
        self.stopping = stopping
        self.watchdog = watchdog or Watchdog()
        self._insistence = insistence
        self._restarts = restarts
        self._before_acts = before_acts
        self._between_rounds = between_rounds
        self._on_bar = on_bar
        self._on_end = on_end

    @property
    def working(self) -> list[Seat]:
        """The seats that still have something to do."""
        return [seat for seat in self.seats if seat.busy]

    async def start(self) -> None:
        """Let everybody find out where they were."""
        await self._everybody(self.seats, self._start)

    async def rounds(self) -> None:
        """All decide, all send, all ask, all wait; again. They send in turn, so that a run is repeatable."""
        while self.working and not self.stopping.is_set():
            await _call(self._before_acts)
            due = [seat for seat in self.working if seat.trader.due]
            await self._everybody(due, self._decide)
            for seat in due:
                if seat.failure is None:
                    await self.guarded(seat, self._deliver)
            asking = [seat for seat in self.working if seat.trader.started and not seat.trader.due]
            await _call(self._between_rounds)
            fresh = await self._everybody(asking, self._poll)
            if asking and not any(fresh):
                await self._idle(asking)

    async def freely(self) -> None:
        """Everybody at its own pace."""
        await asyncio.gather(*(self._keep(seat) for seat in self.seats))

    async def _everybody(self, seats: Iterable[Seat], work: Callable[[Seat], Awaitable[bool]]) -> list[bool]:
        return list(await asyncio.gather(*(self.guarded(seat, work) for seat in seats)))

    async def guarded(self, seat: Seat, work: Callable[[Seat], Awaitable[bool]]) -> bool:
        """Do the work; what fails is judged here, and nowhere else."""
        with heard_by(lambda: self.watchdog.hear(seat.name)):
            show_life()
            try:
                return await work(seat)
            except Unanswered as error:
                await self._again(seat, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the other traders
                await self._end(seat, error)
        return False

    async def _again(self, seat: Seat, error: Unanswered) -> None:
        """Start anew on the same journal, unless that was tried too often."""
        while True:
            if seat.restarts >= self._restarts:
                await self._end(seat, error)
                return
            pause = self._insistence.pause(seat.restarts)
            seat.restarts += 1
            if (refused := await _noted(seat, journal.INCIDENT, what="restart", detail=str(error))) is not None:
                await self._end(seat, refused)
                return
            logger.warning("%s starts again in %.1f s: %s", seat.name, pause, error)
            await self._insistence.sleep(pause)
            seat.trader = seat.make()
            try:
                await self._start(seat)
                return
            except Unanswered as next_error:
                error = next_error
            except Exception as verdict:  # noqa: BLE001 - as in `guarded`
                await self._end(seat, verdict)
                return

    async def _end(self, seat: Seat, error: BaseException) -> None:
        """Nobody trades here any more. That holds whether its journal can be told or not."""
        seat.failure = error
        reason, trace = explain(error), error if is_unforeseen(error) else None
        logger.critical("%s is halted: %s", seat.name, reason, exc_info=trace, extra={"alert": f"trader:{seat.name}"})
        await _noted(seat, journal.HALT, reason=reason)
        if self._on_end is not None:
            await self._on_end(seat)
        self.watchdog.forget(seat.name)

    async def _start(self, seat: Seat) -> bool:
        await seat.trader.start()
        return True

    async def _decide(self, seat: Seat) -> bool:
        await seat.trader.decide()
        return True

    async def _deliver(self, seat: Seat) -> bool:
        await seat.trader.deliver()
        self._alive(seat)
        return True

    async def _poll(self, seat: Seat) -> bool:
        fresh = await seat.trader.poll()
        self._alive(seat)
        if fresh and self._on_bar is not None:
            self._on_bar()
        return fresh

    async def _keep(self, seat: Seat) -> None:
        while seat.busy and not self.stopping.is_set():
            await self.guarded(seat, self._turn)

    async def _turn(self, seat: Seat) -> bool:
        if seat.trader.due:
            await _call(self._before_acts)
            return seat.busy and await self._decide(seat) and await self._deliver(seat)
        fresh = await self._poll(seat)
        if not fresh:
            await seat.trader.idle(self.stopping)
        return fresh

    async def _idle(self, seats: Sequence[Seat]) -> None:
        """Wait as the first of them does; whether the market is still open is asked once for all."""
        await self.guarded(seats[0], lambda seat: self._wait(seat, seats))
        if seats[0].trader.ended:
            await self._everybody(seats[1:], self._wait)

    async def _wait(self, seat: Seat, others: Sequence[Seat] = ()) -> bool:
        """Wait as this one does; with it wait `others`, who show life when it does."""

        def alive() -> None:
            for one in (seat, *others):
                self.watchdog.hear(one.name)

        with heard_by(alive):
            await seat.trader.idle(self.stopping)
        return False

    def _alive(self, seat: Seat) -> None:
        seat.restarts = 0
        self.watchdog.hear(seat.name)


async def _noted(seat: Seat, kind: str, **body: str) -> LedgerError | None:
    """Write into a seat's journal; the error where its disk refuses, which is told."""
    try:
        await seat.log.write([(kind, body, None)])
    except LedgerError as error:
        logger.error("%s: not journalled: %s: %s", seat.name, body, error, extra={"alert": "journal"})
        return error
    return None


async def _call(hook: Callable[[], Awaitable[None]] | None) -> None:
    if hook is not None:
        await hook()
