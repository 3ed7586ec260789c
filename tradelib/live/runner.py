"""The lean runner: closed bar in, decision, durable intent, order, journal. One bundle, one symbol, one process.

Per closed bar: the account as the venue states it is valued at the bar's close; the bundle's own rule decides on the
whole history; the kernel's own rule turns the target weight into a quantity; bar, equity, decision and intent become
durable in one transaction; only then the order is sent, and its outcome journalled. `equity{time}` is therefore the
account at the close of that bar *before* the order decided on it, which is the backtest's equity of that bar.

Only the newest closed bar may trade. Bars that closed while the runner was away are journalled, not decided on. The
first decision is made on the last bar that was closed when the runner first started. After a restart the journal says
where to go on; intents without a final order are settled first, by asking the venue.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from tradelib._jit import interpreted
from tradelib.backtest import kernel
from tradelib.bundle import Bundle, TrustStore
from tradelib.data.timeframes import utc_timestamp
from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.live.account import Account, Listing, fetch_account, fetch_listing, is_trading
from tradelib.live.admission import admit_bundle, admit_journal, locked
from tradelib.live.bars import Bar, BarFeed
from tradelib.live.connection import credentials_from_environment, describe_error, make_client, set_clock
from tradelib.live.orders import Intent, OrderDesk, client_order_id, quantise
from tradelib.live.patience import Insistence, Patience
from tradelib.live.summary import RunSummary, Step, summarise

__all__ = ["Runner", "run_bundle"]

Result = TypeVar("Result")

_IDLE = 0.01
"""Seconds between two polls that found nothing, whatever the polling pace."""
_IDLE_POLLS = 50
"""Polls in a row without a new bar after which the runner asks whether the market is still open."""
_EXCHANGE = "binance"


class Runner:
    """Trades one admitted bundle through one venue until `until`, `stop`, or something that it must not decide alone.

    `until` is the open time of the last bar to decide on; on paper the run also ends where the venue's recording
    does. `on_progress` is called with a `Step` after each decided bar. Construction checks the arguments; `run` does
    the work and raises `RunnerError` where trading had to halt (the journal then says why).
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
    ) -> None:
        if not (math.isfinite(poll_seconds) and poll_seconds >= 0.0):
            raise RunnerError(f"poll_seconds is {poll_seconds!r}: give a number of seconds, 0 for as fast as possible")
        self.bundle = bundle
        self.mode = mode
        self.path = Path(journal_path)
        self.patience = patience or Patience()
        self._until = None if until is None else utc_timestamp(until, "until").value // 10**6
        self._pause = max(poll_seconds, _IDLE)
        self._progress = on_progress
        self._reason = ""
        self._wake = asyncio.Event()
        self._seconds: deque[float] = deque(maxlen=10_000)
        keys = credentials_from_environment()
        self._connect = lambda: make_client(
            venue_url,
            mode,
            keys.key,
            keys.secret,
            _EXCHANGE,
            receive_window_ms=round(self.patience.receive_window * 1000),
            request_timeout_ms=round(self.patience.request_timeout * 1000),
        )

    def stop(self, reason: str) -> None:
        """Ask for an orderly end: the current bar is finished first. To be called in the runner's own thread."""
        self._reason = self._reason or reason
        self._wake.set()

    async def run(self) -> RunSummary:
        """Trade until told to stop; the summary of the journal. Raises `RunnerError` when trading halts."""
        client = self._connect()
        try:
            with locked(self.path), open_journal(self.path) as log:
                admit_journal(log, self.bundle, self.mode)
                journal.record(log, journal.START, **self._start_body())
                try:
                    await _Run(self, client, log).trade()
                except Exception as error:
                    journal.record(log, journal.HALT, reason=describe_error(error))
                    raise
                journal.record(log, journal.STOP, reason=self._reason)
                return summarise(log, str(self.path), self._reason, self._seconds)
        finally:
            await client.close()

    def _start_body(self) -> dict[str, Any]:
        terms, bundle = self.bundle.execution, self.bundle
        return {
            "bundle_digest": bundle.digest,
            "name": bundle.name,
            "venue": _EXCHANGE,
            "mode": self.mode,
            "symbol": terms.symbol,
            "timeframe": bundle.golden_bars.attrs["timeframe"],
            "package_digest": bundle.package_digest,
            "golden_decisions": len(bundle.golden_decisions),
        }


class _Run:
    """One run of a `Runner`: its client, its journal, and what it knows of market, bars and orders."""

    def __init__(self, runner: Runner, client: Any, log: Ledger) -> None:
        self.runner = runner
        self.bundle = runner.bundle
        self.terms = runner.bundle.execution
        self.client = client
        self.log = log
        self.insistence = Insistence(runner.patience, lambda: set_clock(client))
        self.feed = BarFeed(client, self.terms.symbol, runner.bundle.golden_bars, self.insistence)
        self.desk = OrderDesk(client, log, self.insistence)
        self.idle = 0

    async def trade(self) -> None:
        """Go on where the journal ends, then bar by bar."""
        listing = await fetch_listing(self.client, self.terms.symbol, self.terms.lots_per_unit, self.insistence)
        seen = await self.feed.start()
        self._compare_journal()
        await self._settle()
        await self._compare_account(listing)
        self._record_bars(seen)
        decided = self._last_decided()
        while not self.runner._reason:
            newest = self.feed.last
            if self._is_due(newest, decided):
                await self._decide(newest, listing)
                decided = newest.milliseconds
            elif self._is_over(max(newest.milliseconds, decided)):
                self.runner.stop(f"until {self.feed.last.time}")
            else:
                await self._next_bar()

    def _is_due(self, bar: Bar, decided: int) -> bool:
        return bar.milliseconds > decided and not (self._until < bar.milliseconds)

    def _is_over(self, newest: int) -> bool:
        return newest >= self._until

    @property
    def _until(self) -> float:
        return math.inf if self.runner._until is None else self.runner._until

    async def _next_bar(self) -> None:
        """Take what closed since; what is not the newest is journalled only. Waits when there is nothing."""
        fresh = await self.feed.poll()
        self._record_bars(fresh[:-1])
        self.idle = 0 if fresh else self.idle + 1
        if fresh:
            return
        if self.idle % _IDLE_POLLS == 0 and await self._is_finished():
            self.runner.stop("the venue closed the market")
        else:
            await _wait(self.runner._wake, self.runner._pause)

    async def _is_finished(self) -> bool:
        """A paper market that stopped trading has come to the end of its recording; a live one may open again."""
        return self.runner.mode == "paper" and not await is_trading(self.client, self.terms.symbol, self.insistence)

    async def _decide(self, bar: Bar, listing: Listing) -> None:
        """One closed bar: account, decision, durable intent, order."""
        account = await fetch_account(self.client, listing, self.insistence)
        step, intent = self._decision(bar, account, listing)
        self._write(bar, account, step, intent)
        if intent is not None:
            report = await self.desk.execute(intent)
            step = replace(step, status=report.state.value)
        self.runner._seconds.append(step.seconds)
        if self.runner._progress is not None:
            self.runner._progress(step)

    def _decision(self, bar: Bar, account: Account, listing: Listing) -> tuple[Step, Intent | None]:
        """What the bundle's rule wants after `bar`, and the order that takes the account there."""
        begun = time.perf_counter()
        equity = account.equity(bar.close)
        with interpreted():
            row = self.bundle.rule.decisions(self.feed.history()).iloc[-1]
            wanted = kernel.order_quantity(
                float(row["target_weight"]),
                float(self.bundle.rule.band),
                equity,
                bar.close,
                account.position,
                float(self.terms.lots_per_unit),
                float(self.terms.minimum_notional),
            )
        amount = quantise(wanted, listing.step)
        quantity = math.copysign(float(amount), wanted) if amount else 0.0
        known = _known(row["signal"]), _known(row["target_weight"])
        seconds = time.perf_counter() - begun
        step = Step(bar.time, bar.close, *known, account.position, equity, quantity, None, seconds)
        if not amount:
            return step, None
        name = client_order_id(self.bundle.digest, listing.symbol, bar.time)
        return step, Intent(bar.time, name, listing.symbol, "buy" if wanted > 0 else "sell", amount)

    def _write(self, bar: Bar, account: Account, step: Step, intent: Intent | None) -> None:
        """Bar, equity, decision and intent, durable together: a bar is either untouched or completely decided."""
        names = ("time", "signal", "target_weight", "position", "equity", "quantity")
        entries: list[tuple[str, dict[str, Any]]] = [
            (journal.BAR, bar.body()),
            (journal.EQUITY, {"time": bar.time, **vars(account), "equity": step.equity}),
            (journal.DECISION, {name: getattr(step, name) for name in names}),
        ]
        if intent is not None:
            entries.append((journal.INTENT, intent.body()))
        self.log.extend((kind, body, journal.entry_key(kind, body)) for kind, body in entries)

    def _record_bars(self, bars: list[Bar]) -> None:
        """Bars that the history needs and nobody decided on; the newest is left to its decision."""
        bodies = [bar.body() for bar in bars if bar != self.feed.last]
        self.log.extend((journal.BAR, body, journal.entry_key(journal.BAR, body)) for body in bodies)

    async def _settle(self) -> None:
        """Resolve what an earlier run left open. Only an order of the newest closed bar may still be sent."""
        for body in journal.unresolved(self.log):
            intent = Intent.from_body(body)
            await self.desk.recover(intent, may_send=intent.time == self.feed.last.time)

    def _compare_journal(self) -> None:
        """Every bar that an earlier run took must still be what the venue shows."""
        shown = {bar.time: bar for bar in self.feed.bars()}
        for body in journal.bars(self.log):
            bar = shown.get(body["time"])
            if bar is None or bar.body() != body:
                raise RunnerError(
                    f"the bar {body['time']} of {self.terms.symbol} was journalled as {body}, "
                    f"the venue now shows {bar.body() if bar else 'none'}: not trading on contradictory data"
                )

    async def _compare_account(self, listing: Listing) -> None:
        """After a restart the venue must hold the position that the journal ended with, fills included."""
        last = self.log.last(journal.EQUITY)
        if last is None:
            return
        sent = {body["client_order_id"] for body in journal.intents(self.log) if body["time"] == last.body["time"]}
        filled = [order["quantity"] for order in journal.orders(self.log) if order["client_order_id"] in sent]
        expected = last.body["position"] + (filled[-1] if filled else 0.0)
        held = (await fetch_account(self.client, listing, self.insistence)).position
        if abs(held - expected) >= float(listing.step) / 2:
            raise RunnerError(
                f"the journal ends with {expected:g} {listing.base}, the venue holds {held:g}: "
                "not trading on an account that changed; settle it by hand and start a new journal"
            )

    def _last_decided(self) -> int:
        """Open time (epoch ms) of the last decided bar, -1 before the first."""
        entry = self.log.last(journal.DECISION)
        return -1 if entry is None else pd.Timestamp(entry.body["time"]).value // 10**6


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
) -> RunSummary:
    """Verify the bundle at `bundle_path`, then trade it; blocks until the run ends.

    venue_url: the paper venue on this machine; None for `mode="live"`. trust: the keys that may sign, by default the
    project's. until: open time of the last bar to decide on (ISO, UTC). poll_seconds: pause between two questions for
    new bars. SIGINT and SIGTERM finish the current bar and stop in order. API keys come from `TRADELIB_API_KEY` and
    `TRADELIB_API_SECRET`. Raises `BundleError` before anything is traded, `RunnerError` where trading is refused or
    had to halt.
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
        )
        with _signals(runner):
            return await runner.run()

    return _block_on(supervised)


def _block_on(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end; inside a notebook, whose loop is already running, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


@contextmanager
def _signals(runner: Runner) -> Iterator[None]:
    """SIGINT and SIGTERM ask `runner` to stop; only the main thread of a process can listen to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, wanted = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    for number in wanted:
        loop.add_signal_handler(number, runner.stop, f"signal {number.name}")
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Sleep until `event` or for `seconds`."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


def _known(value: Any) -> float | None:
    """A number for the journal; NaN (warming up) is None."""
    return None if math.isnan(value) else float(value)
