"""The lean runner: one process, any number of bundles, each with its own trader, purse and journal.

`Runner` trades one bundle on the whole account, with one journal file: what research is compared with. `Fleet` trades
many on one account, as `RunnerSettings` say: each bundle has its share of the capital, its journal in the folder, and
its seat under the supervisor; the account's own journal holds settings, operators' acts, halts and incidents. Both run
the same `Trader`.

SIGINT and SIGTERM finish what is being decided and end in order: the stated policy keeps, cancels or flattens, within a
deadline. A second signal ends at once, as a crash would, which is safe too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tradelib.bundle import Bundle, TrustStore
from tradelib.data.timeframes import utc_timestamp
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live.admission import account_lock, admit_bundle, admit_exits, admit_journal, locked
from tradelib.live.journals import TraderJournal
from tradelib.live.patience import Patience
from tradelib.live.reconcile import Reconciler
from tradelib.live.sight import looks
from tradelib.live.summary import RunSummary, Step, summarise
from tradelib.live.supervisor import Seat, Supervisor
from tradelib.live.trader import Trader
from tradelib.live.wire import connect, make_pace, make_wire

__all__ = ["Runner", "block_on", "epoch", "run_bundle", "signals", "start_body", "within"]

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

_EXCHANGE = "binance"


class Runner:
    """Trades one admitted bundle through one venue until `until`, `stop`, or something that it must not decide alone.

    `until` is the open time of the last bar to decide on; on paper the run also ends where the venue's recording
    does. `emulate_exits`: the runner may hold exits itself that the exchange cannot. `on_progress` is called with a
    `Step` after each decided bar. Construction checks the arguments; `run` does the work and raises `RunnerError` where
    trading had to halt (the journal then says why).
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        venue_url: str | None,
        mode: str = "paper",
        journal_path: str | os.PathLike[str],
        until: str | None = None,
        poll_seconds: float = 0.0,
        on_progress: Callable[[Step], None] | None = None,
        patience: Patience | None = None,
        exchange: str = _EXCHANGE,
        shutdown: str = "keep",
        deadline: float = 30.0,
        reconcile_seconds: float = 60.0,
        emulate_exits: bool = False,
    ) -> None:
        if not (math.isfinite(poll_seconds) and poll_seconds >= 0.0):
            raise RunnerError(f"poll_seconds is {poll_seconds!r}: give a number of seconds, 0 for as fast as possible")
        if shutdown not in ("keep", "cancel", "flatten"):
            raise RunnerError(f"shutdown is {shutdown!r}: use 'keep', 'cancel' or 'flatten'")
        if mode == "live":
            raise RunnerError(
                "live trading needs somebody who can halt it: gate, kill switch and control belong to a runner with "
                'settings. Make them with `tradelib settings BUNDLE > runner.toml`, set mode = "live" there without a '
                "venue, and start it with `tradelib run --settings runner.toml --confirm-live`"
            )
        self.bundle = bundle
        self.mode = mode
        self.exchange = exchange
        self.path = Path(journal_path)
        self.patience = patience or Patience()
        self.shutdown, self.deadline, self.reconcile_seconds = shutdown, deadline, reconcile_seconds
        self.emulate_exits = emulate_exits
        self._until = epoch(until)
        self._poll_seconds = poll_seconds
        self._progress = on_progress
        self._reason = ""
        self._stopping = asyncio.Event()
        self._seconds: deque[float] = deque(maxlen=10_000)
        self._venue_url = venue_url
        self._connect = lambda: connect(venue_url, mode, exchange, self.patience)

    def stop(self, reason: str) -> None:
        """Ask for an orderly end: the current bar is finished first. To be called in the runner's own thread."""
        self._reason = self._reason or reason
        self._stopping.set()

    async def run(self) -> RunSummary:
        """Trade until told to stop; the summary of the journal. Raises `RunnerError` when trading halts."""
        held = admit_exits(
            self.bundle, self.exchange, emulate=self.emulate_exits, looks=looks("poll", self.mode, self._poll_seconds)
        )
        client = self._connect()
        try:
            with locked(self.path), account_lock(self._venue_url, self.exchange), TraderJournal(self.path) as log:
                admit_journal(log, self.bundle, self.mode)
                journal.record(log, journal.START, **self._start_body())
                if held:
                    logger.warning("emulated exits: %s: %s", self.bundle.name, held)
                    journal.record(log, journal.INCIDENT, what="emulated exits", detail=held)
                seat = await self._trade(client, log)
                if seat.failure is not None:
                    raise seat.failure
                journal.record(log, journal.STOP, reason=self._reason)
                return summarise(log, str(self.path), self._reason, self._seconds)
        finally:
            await client.close()

    async def _trade(self, client: Any, log: TraderJournal) -> Seat:
        def tell(what: str, detail: str) -> None:
            journal.record(log, journal.INCIDENT, what=what, detail=detail)

        wire = make_wire(client, self.mode, self.exchange, self.patience, tell)
        pace = make_pace("poll", self.mode, self._poll_seconds, None)(self.bundle.execution.timeframe)

        def make() -> Trader:
            return Trader(
                self.bundle, wire, log, pace, until=self._until, progress=self._progress, seconds=self._seconds,
                probing=self.mode == "paper", emulates=self.emulate_exits,
            )  # fmt: skip

        seat = Seat(make, log)
        account = _Account(seat, self.reconcile_seconds)

        async def check() -> None:
            await supervisor.guarded(seat, account.check)

        supervisor = Supervisor([seat], wire.insistence, self._stopping, between_rounds=check)
        await supervisor.start()
        if seat.failure is None:
            await check()
        await within(supervisor.rounds(), self._stopping, self.deadline)
        self._reason = self._reason or seat.trader.ended or f"until {seat.trader.feed.last.time}"
        if seat.failure is None and self._stopping.is_set():
            await within(seat.trader.wind_down(self.shutdown, self._reason), None, self.deadline)
        return seat

    def _start_body(self) -> dict[str, Any]:
        return start_body(self.bundle, self.exchange, self.mode)


class _Account:
    """Compares the account of one trader with its journal, now and then; `RunnerError` for what is not explained."""

    def __init__(self, seat: Seat, seconds: float) -> None:
        self._seat, self._seconds = seat, seconds
        self._reconciler: Reconciler | None = None
        self._last: float | None = None

    async def check(self, _: Seat) -> bool:
        """At most every so many seconds, while nothing is being sent."""
        if self._last is not None and time.monotonic() - self._last < self._seconds:
            return False
        trader, log = self._seat.trader, self._seat.log
        assert trader.listing is not None
        if self._reconciler is None:
            wire = trader.wire
            self._reconciler = Reconciler(
                wire.client, log, [trader.desk], [trader.listing], wire.insistence, dialect=wire.dialect
            )
        self._reconciler.desks = [trader.desk]
        told = await self._reconciler.reconcile()
        self._last = time.monotonic()
        for symbol, why in told.halted.items():
            raise RunnerError(f"{symbol}: {why}: not trading on an account that is not explained")
        return True


def run_bundle(
    bundle_path: str | os.PathLike[str],
    *,
    venue_url: str | None,
    mode: str = "paper",
    journal_path: str | os.PathLike[str],
    trust: TrustStore | None = None,
    until: str | None = None,
    poll_seconds: float = 0.0,
    on_progress: Callable[[Step], None] | None = None,
    confirm_live: bool = False,
    patience: Patience | None = None,
    exchange: str = _EXCHANGE,
    shutdown: str = "keep",
    deadline: float = 30.0,
    emulate_exits: bool = False,
) -> RunSummary:
    """Verify the bundle at `bundle_path`, then trade it on the whole account; blocks until the run ends.

    venue_url: the paper venue on this machine; None for `mode="live"`. trust: the keys that may sign, by default the
    project's. until: open time of the last bar to decide on (ISO, UTC). poll_seconds: pause between two questions for
    new bars. shutdown, deadline: what SIGINT and SIGTERM do with orders and position ("keep", "cancel", "flatten"), and
    within how many seconds. emulate_exits: the runner may hold exits itself that the exchange cannot. API keys come
    from `TRADELIB_API_KEY` and `TRADELIB_API_SECRET`. Raises `BundleError` before anything is traded, `RunnerError`
    where trading is refused or had to halt.
    """
    bundle = admit_bundle(bundle_path, mode, trust=trust, confirm_live=confirm_live)

    async def supervised() -> RunSummary:
        runner = Runner(
            bundle,
            venue_url=venue_url,
            mode=mode,
            journal_path=journal_path,
            until=until,
            poll_seconds=poll_seconds,
            on_progress=on_progress,
            patience=patience,
            exchange=exchange,
            shutdown=shutdown,
            deadline=deadline,
            emulate_exits=emulate_exits,
        )
        with signals(runner.stop):
            return await runner.run()

    return block_on(supervised)


def start_body(bundle: Bundle, exchange: str, mode: str) -> dict[str, Any]:
    """The journal's entry for the start of a run."""
    return {
        "bundle_digest": bundle.digest,
        "name": bundle.name,
        "venue": exchange,
        "mode": mode,
        "symbol": bundle.execution.symbol,
        "timeframe": bundle.golden_bars.attrs["timeframe"],
        "package_digest": bundle.package_digest,
        "golden_decisions": len(bundle.golden_decisions),
    }


def epoch(until: str | None) -> float:
    """Epoch milliseconds of a time as text; infinity for none."""
    return math.inf if until is None else utc_timestamp(until, "until").value // 10**6


async def within(work: Coroutine[Any, Any, Result], stopping: asyncio.Event | None, seconds: float) -> Result | None:
    """Await `work`; once `stopping` is set (None: from now on) for no longer than `seconds`, then drop it: None.

    What is dropped is where a crash would have left it: durable intents, outcomes to be asked for at the next start.
    """
    task = asyncio.create_task(work)
    if stopping is not None:
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    done, _ = await asyncio.wait({task}, timeout=seconds if stopping is None or stopping.is_set() else None)
    if done:
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    logger.error("not finished within the deadline of %g s: dropped, to be settled at the next start", seconds)
    return None


def block_on(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end; inside a notebook, whose loop is already running, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


@contextmanager
def signals(stop: Callable[[str], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` with their name; only the main thread of a process can listen to them.

    The second one is the system's own again: it ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, wanted = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

    def heard(number: signal.Signals) -> None:
        stop(f"signal {number.name}")
        for other in wanted:
            loop.remove_signal_handler(other)

    for number in wanted:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
