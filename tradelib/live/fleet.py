"""Many bundles on one account in one process: a seat for each, one wire, one gate, one journal of the account.

The share of the capital that a bundle trades is cut once, when its purse is first opened: `share x capital`, where the
capital is what the account held in quote currency when the runner first saw it. Purses live from their own fills from
then on, as accounts of their own.

On a paper venue that is polled, all traders take turns in rounds, because asking for the next bar moves its clock: the
run is then as deterministic as that of one bundle. Everywhere else each trader goes at its own pace.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tradelib.bundle import Bundle, TrustStore
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.account import fetch_balances
from tradelib.live.account_stream import AccountStream
from tradelib.live.admission import account_lock, admit_bundle, admit_exits, admit_journal, locked
from tradelib.live.closing import Closing
from tradelib.live.connection import make_client
from tradelib.live.control import RunnerStatus, TraderStatus
from tradelib.live.deadman import DeadMan
from tradelib.live.feeds import Streams
from tradelib.live.guardian import Guardian, measure_skew
from tradelib.live.intents import OrderState
from tradelib.live.journals import TraderJournal, journal_path, room_for
from tradelib.live.latch import Halt, Level, Scope
from tradelib.live.mishaps import explain, is_unforeseen
from tradelib.live.operations import Operations
from tradelib.live.orders import OrderDesk
from tradelib.live.patience import Patience
from tradelib.live.purse import check_shares
from tradelib.live.reconcile import Reconciler
from tradelib.live.retired import Retired, retired_journals, retired_purse, wind_up
from tradelib.live.runner import block_on, epoch, signals, start_body, within
from tradelib.live.settings import BundleSettings, Policy, RunnerSettings
from tradelib.live.shares import Shares
from tradelib.live.sight import looks
from tradelib.live.summary import FleetSummary, Step, summarise
from tradelib.live.supervisor import Seat, Supervisor
from tradelib.live.trader import Funding, Trader, Wire
from tradelib.live.watchdog import HEARTBEAT, Silence, Watchdog
from tradelib.live.wire import WRITERS, connect, make_pace, make_streams, make_wire
from tradelib.live.worked import schedule_of

__all__ = ["Fleet", "run_bundles"]

logger = logging.getLogger(__name__)

_SKEW_SECONDS = 300.0
"""Seconds between two looks at the venue's clock."""


class Fleet:
    """Trades admitted `bundles` as `settings` say; it is what operators steer (`tradelib.live.control.Operable`).

    until: open time of the last bar to decide on. restarts: how often in a row a trader is started again after the
    venue did not answer. reconcile_seconds: pause between two reconciliations; rotation_seconds: between two looks at
    the size of the journals. on_progress: called with each decided
    bar, and the trader's name. Raises `RunnerError` for bundles and settings that do not fit together.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        settings: RunnerSettings,
        *,
        until: str | None = None,
        on_progress: Callable[[str, Step], None] | None = None,
        patience: Patience | None = None,
        restarts: int = 5,
        reconcile_seconds: float = 60.0,
        rotation_seconds: float = 30.0,
    ) -> None:
        self.bundles, self.settings = list(bundles), settings
        self.patience = patience or Patience()
        _check(self.bundles, settings)
        seen = looks(settings.feed.kind, settings.mode, settings.feed.poll_seconds)
        admitted = [
            (bundle.name, admit_exits(bundle, settings.exchange, emulate=told.emulate_exits, looks=seen))
            for bundle, told in zip(self.bundles, settings.bundles, strict=True)
        ]
        self._emulated = [f"{name}: {held}" for name, held in admitted if held]
        self._until = epoch(until)
        self._progress = on_progress
        self._restarts = restarts
        self._reconcile_seconds = reconcile_seconds
        self._rotation_seconds = rotation_seconds
        self._stopping = asyncio.Event()
        self._reason = ""
        self._policy: Policy = settings.shutdown.policy
        self._phase = "starting"
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._watchdog = Watchdog()
        self._helpers: list[asyncio.Task[None]] = []
        self._retired: list[OrderDesk] = []
        self.seats: list[Seat] = []

    @property
    def is_polled(self) -> bool:
        """Whether the venue's clock may move because it is asked for bars: see the module."""
        return self.settings.mode == "paper" and self.settings.feed.kind == "poll"

    @property
    def takes_turns(self) -> bool:
        """Whether the traders take turns in rounds, or each goes at its own pace, as it does live."""
        return self.is_polled and self.settings.feed.turns == "rounds"

    def end(self, reason: str) -> None:
        """Ask for an orderly end: what is being decided is finished first. To be called in the runner's own thread."""
        self._reason = self._reason or reason
        self._phase = "stopping"
        self._stopping.set()

    # A run ------------------------------------------------------------------------------------------------------------

    async def run(self) -> FleetSummary:
        """Trade until everybody is done or `end` is called; raises `RunnerError` where nobody could go on."""
        room_for(len(self.bundles) + 1)
        async with AsyncExitStack() as stack:
            stack.enter_context(locked(self.settings.operations_path))
            stack.enter_context(account_lock(self.settings.venue, self.settings.exchange))
            self.operations = stack.enter_context(Operations.open(self.settings))
            self.wire = await self._wired(stack)
            self.streams = self._streamed()
            try:
                await self._trade(stack)
            finally:
                gc.unfreeze()
                await self._end_helpers()
            return self._summary()

    async def _wired(self, stack: AsyncExitStack) -> Wire:
        settings = self.settings
        client = connect(settings.venue, settings.mode, settings.exchange, self.patience)
        stack.push_async_callback(client.close)
        self.operations.metrics.watch(client)
        fallback = settings.feed.fallback
        others = [make_client(None, "live", "", "", fallback, passphrase="none")] if fallback else []
        for other in others:
            stack.push_async_callback(other.close)
        wire = make_wire(
            client, settings.mode, settings.exchange, self.patience, self._tell, others=others, writers=WRITERS
        )
        if wire.executor is not None:
            stack.enter_context(wire.executor)
        return wire

    def _streamed(self) -> Streams | None:
        settings = self.settings
        if settings.feed.kind != "stream":
            return None
        given = (settings.venue, settings.mode, settings.exchange, self.patience)
        client = connect(*given, streams=True, beside=self.wire.client)
        shortest = min(parse_timeframe(bundle.execution.timeframe).milliseconds for bundle in self.bundles)
        streams = make_streams(client, self.wire, settings.feed.silence_bars * shortest / 1e3, self._watchdog)
        streams.start((bundle.execution.symbol, bundle.execution.timeframe) for bundle in self.bundles)
        return streams

    async def _trade(self, stack: AsyncExitStack) -> None:
        retired = await self._look_at_retired(stack)
        capital = await self._capital() + sum(one.result for one in retired)
        self.seats = [
            self._seat(stack, bundle, share, capital, told)
            for bundle, share, told in zip(self.bundles, self.settings.shares, self.settings.bundles, strict=True)
            if share or journal_path(self.settings.folder, bundle).exists()
        ]
        self._check_seats()
        for held in self._emulated:
            self._tell("emulated exits", held)
        given = dict(zip((bundle.digest for bundle in self.bundles), self.settings.shares, strict=True))
        self.shares = Shares(self.operations, self.seats, given, capital)
        self.closing = Closing(self.operations, self.seats, self.wire, self._tell)
        terms: dict[str, Any] = {"patience": 0.0} if self.takes_turns else {}
        self.guardian = Guardian(
            self.operations,
            self.seats,
            capital + sum(one.held for one in retired),
            live=self.settings.mode == "live",
            flatten=lambda reason: self.closing.flatten(Scope("account"), reason),
            enforce=self.closing.enforce,
            **terms,
        )
        self.supervisor = Supervisor(
            self.seats,
            self.wire.insistence,
            self._stopping,
            restarts=self._restarts,
            watchdog=self._watchdog,
            before_acts=self._before_acts,
            between_rounds=self._reconcile_when_due,
            on_bar=self.guardian.hear,
            on_end=self._end_of,
        )
        if self.settings.control.port is not None:
            self.control = await stack.enter_async_context(self.operations.control(self))
        await self.supervisor.start()
        await self._begin_helpers()
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again: pauses stay short
        self._phase = "stopping" if self._stopping.is_set() else "running"
        deadline = self.settings.shutdown.seconds
        work = self.supervisor.rounds() if self.takes_turns else self.supervisor.freely()
        await within(work, self._stopping, deadline)
        self._reason = self._reason or self._natural_end()
        if self._stopping.is_set():
            await self._wind_down(self._policy)
        self._write_ends()

    def _check_seats(self) -> None:
        if not self.seats:
            raise RunnerError("no bundle has a share of the capital: there is nothing to trade, and nothing to wind up")

    async def _before_acts(self) -> None:
        """What is settled before decisions: shares that changed, and the limits of the account."""
        await self.shares.apply()
        await self.guardian.close()

    def _seat(self, stack: AsyncExitStack, bundle: Bundle, share: float, capital: float, told: BundleSettings) -> Seat:
        path = journal_path(self.settings.folder, bundle)
        stack.enter_context(locked(path))
        log = stack.enter_context(TraderJournal(path, executor=self.wire.executor))
        admit_journal(log, bundle, self.settings.mode)
        journal.record(log, journal.START, **start_body(bundle, self.settings.exchange, self.settings.mode))
        self.operations.metrics.follow(path, bundle.name, bundle.execution.symbol)
        pace = make_pace(self.settings.feed.kind, self.settings.mode, self.settings.feed.poll_seconds, self.streams)

        def make() -> Trader:
            return Trader(
                bundle,
                self.wire,
                log,
                pace(bundle.execution.timeframe),
                until=self._until,
                funding=Funding(share, capital),
                probing=self.is_polled,
                streams=self.streams,
                gate=lambda trader, order: self.guardian.gate(trader, order),
                regate=lambda trader, order: self.guardian.again(trader, order),
                progress=self._told(bundle),
                schedule=schedule_of(told.execution),
                emulates=told.emulate_exits,
                look_seconds=self.settings.feed.poll_seconds,
            )

        return Seat(make, log)

    def _told(self, bundle: Bundle) -> Callable[[Step], None]:
        name = f"{bundle.name} {bundle.execution.symbol}"

        def told(step: Step) -> None:
            self.operations.metrics.decision_seconds.observe(step.seconds)
            if self._progress is not None:
                self._progress(name, step)

        return told

    async def _look_at_retired(self, stack: AsyncExitStack) -> list[Retired]:
        """What bundles that are traded no more left on the account; their journals go on to explain it."""
        current, found = [journal_path(self.settings.folder, bundle) for bundle in self.bundles], []
        for path in retired_journals(self.settings.folder, current):
            stack.enter_context(locked(path))
            log = stack.enter_context(TraderJournal(path, executor=self.wire.executor))
            desk = OrderDesk(self.wire.client, log, self.wire.insistence, dialect=self.wire.dialect)
            await wind_up(desk, self.settings.mode, self.settings.exchange, self._tell)
            self._retired.append(desk)
            found.append(retired_purse(log))
        purses = [purse for purse in found if purse is not None]
        for one in purses:
            if one.position:
                self._tell("retired", f"{one.name} {one.symbol} is traded no more, and holds {one.position:g}")
        return purses

    async def _capital(self) -> float:
        """Quote currency of the account when the runner first saw it."""
        known = self.operations.log.last(journal.PURSE)
        if known is not None:
            return float(known.body["capital"])
        quote = self.bundles[0].execution.symbol.partition("/")[2]
        cash = (await fetch_balances(self.wire.client, (quote,), self.wire.insistence))[quote]
        body = {"cash": cash, "position": 0.0, "capital": cash, "share": 1.0, "reason": "first seen"}
        journal.record(self.operations.log, journal.PURSE, **body)
        return cash

    def _natural_end(self) -> str:
        ends = {seat.trader.ended or f"until {seat.trader.feed.last.time}" for seat in self.seats if not seat.failure}
        return ", ".join(sorted(ends)) or "every trader is halted"

    def _write_ends(self) -> None:
        for seat in self.seats:
            if seat.failure is None:
                try:
                    journal.record(seat.log, journal.STOP, reason=self._reason)
                except LedgerError as error:
                    self._tell("journal", f"{seat.name}: its end could not be written: {error}")
        self.operations.note(journal.STOP, reason=self._reason)
        if self.seats and all(seat.failure is not None for seat in self.seats):
            told = "; ".join(f"{seat.name}: {seat.problem}" for seat in self.seats)
            raise RunnerError(f"every trader is halted: {told}")

    def _summary(self) -> FleetSummary:
        runs = [summarise(seat.log, str(seat.log.base), self._reason, seat.trader.seconds) for seat in self.seats]
        return FleetSummary(tuple(runs), self._reason, str(self.settings.operations_path))

    # Helpers ----------------------------------------------------------------------------------------------------------

    async def _begin_helpers(self) -> None:
        markets = {seat.trader.symbol: seat.trader.listing for seat in self.seats if seat.trader.listing is not None}
        for symbol in {order.intent.symbol for desk in self._retired for order in desk.working()} - markets.keys():
            markets[symbol] = await self.wire.markets.listing(symbol, 0.0)
        self._reconciler = Reconciler(
            self.wire.client,
            self.operations.log,
            [seat.trader.desk for seat in self.seats],
            [listing for listing in markets.values() if listing is not None],
            self.wire.insistence,
            dialect=self.wire.dialect,
            retired=self._retired,
        )
        self._reconciled_at = -self._reconcile_seconds
        await self._reconcile_when_due()
        self._help("watchdog", lambda: self._watchdog.keep(self._silent, 1.0))
        self._help("halts", self.closing.keep)
        self.closing.resume()
        if self.settings.mode == "live":
            await self._look_at_clock()
            self._help("clock", self._keep_clock)
        if not self.takes_turns:
            self._help("reconciliation", self._keep_reconciling)
        self._help("rotation", self._keep_rotating)
        if self.streams is not None:
            self.account_stream = AccountStream(
                self.streams.client, self.wire.insistence, lambda: [seat.trader for seat in self.seats], self._tell
            )
            self._help("account stream", self.account_stream.keep)
        if self.settings.journal.backup is not None:
            journals = [seat.log.base for seat in self.seats]
            self._help("backup", lambda: self.operations.keep_backups(journals))
        if self.settings.dead_man_seconds is not None:
            self._dead_man = DeadMan(self._switch, self.settings.dead_man_seconds, self._is_alive)
            self._help("dead-man switch", self._dead_man.run)

    def _help(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` for as long as the fleet runs; what fails is told and begun again."""

        async def supervised() -> None:
            said = ""
            while True:
                try:
                    await work()
                except Exception as error:  # a helper that fails must not take trading with it
                    told = explain(error)
                    if told != said and is_unforeseen(error):
                        logger.exception("%s failed", name)
                    said = told
                    self._tell("helper failed", f"{name}: {told}")
                await asyncio.sleep(self.patience.backoff_ceiling)

        self._helpers.append(asyncio.create_task(supervised(), name=name))

    async def _end_helpers(self) -> None:
        for task in self._helpers:
            task.cancel()
        await asyncio.gather(*self._helpers, return_exceptions=True)
        if hasattr(self, "closing"):
            await self.closing.end()
        if self.streams is not None:
            await self.streams.stop()

    async def _reconcile_when_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._reconciled_at < self._reconcile_seconds:
            return
        try:
            await self.guardian.reconcile(self._reconciler)
        except RunnerError as error:  # the venue does not answer: asked again when it is due
            self._tell("reconciliation", str(error))
        self._reconciled_at = asyncio.get_running_loop().time()

    async def _keep_reconciling(self) -> None:
        while True:
            await asyncio.sleep(self._reconcile_seconds)
            await self.guardian.reconcile(self._reconciler)

    async def _keep_rotating(self) -> None:
        while True:
            await self.rotate_when_large()
            await asyncio.sleep(self._rotation_seconds)

    async def rotate_when_large(self) -> int:
        """Go on in a new file where a trader's journal, or the account's, has grown too large; how many did.

        Closed files are verified.
        """
        most, rotated = self.settings.journal.rotate_megabytes * 1e6, 0
        for seat in self.seats:
            if seat.failure is None and seat.trader.started and seat.log.size() > most:
                closed = await seat.trader.rotate()
                await asyncio.to_thread(_verify_closed, closed)
                rotated += 1
        if self.operations.log.size() > most:
            await asyncio.to_thread(_verify_closed, await asyncio.to_thread(self.operations.rotate))
            rotated += 1
        return rotated

    async def _keep_clock(self) -> None:
        while True:
            await asyncio.sleep(_SKEW_SECONDS)
            await self._look_at_clock()

    async def _look_at_clock(self) -> None:
        self.guardian.skew = await measure_skew(self.wire.client, self.wire.insistence)

    async def _switch(self, seconds: float) -> None:
        await self.wire.dialect.keep_alive(self.wire.client, round(seconds * 1000))

    def _is_alive(self) -> bool:
        return self._watchdog.slowest < HEARTBEAT

    def _silent(self, silence: Silence) -> None:
        self._tell("silence", str(silence))

    def _tell(self, what: str, detail: str) -> None:
        """An incident: in the account's journal, in the log, and so wherever alerts go."""
        logger.warning("%s: %s", what, detail)
        self.operations.jot(journal.INCIDENT, what=what, detail=detail)

    # The end ----------------------------------------------------------------------------------------------------------

    async def _wind_down(self, policy: Policy) -> None:
        """What the policy says, for every seat at once; who is not done within the deadline is named."""
        for seat in self.seats:
            seat.trader.abandon()
        await self.closing.end()
        await self.closing.wind_down(policy, f"shutdown: {self._reason}", self.settings.shutdown.seconds)
        if hasattr(self, "_dead_man") and policy == "keep":
            await self._dead_man.disarm()

    async def _end_of(self, seat: Seat) -> None:
        """A trader has ended for good."""
        await self.closing.after_end_of(seat, self._policy)

    # What operators see and do ----------------------------------------------------------------------------------------

    def status(self) -> RunnerStatus:
        """The runner as it is."""
        blocked, silent = self.wire.blocked(), [str(one) for one in self._watchdog.silences()]
        return RunnerStatus(
            phase="degraded" if blocked and self._phase == "running" else self._phase,  # type: ignore[arg-type]
            mode=self.settings.mode,
            exchange=self.settings.exchange,
            started=self._began,
            heartbeat=self._watchdog.slowest,
            equity=self.guardian.equity() if hasattr(self, "guardian") else None,
            traders=tuple(self._trader_status(seat) for seat in self.seats),
            halts=self.operations.latch.halts,
            problems=(*(f"{name} does not answer" for name in blocked), *silent),
        )

    def _trader_status(self, seat: Seat) -> TraderStatus:
        trader, step = seat.trader, seat.trader.last_step
        working = trader.desk.working()
        purse = trader.purse if trader.started else None
        return TraderStatus(
            trader.bundle.name,
            trader.symbol,
            trader.feed.timeframe,
            seat.log.base.name,
            trader.feed.last.time,
            None if step is None else step.time,
            self._watchdog.age(seat.name),
            None if purse is None else purse.cash,
            None if purse is None else purse.position,
            None if purse is None else purse.equity(trader.feed.last.close),
            sum(not order.held for order in working),
            sum(order.state is OrderState.UNKNOWN for order in working),
            seat.problem,
            tuple(order.intent.told for order in working if order.held),
        )

    def orders(self) -> Sequence[Mapping[str, Any]]:
        """Orders that are not final."""
        return [
            {
                "bundle": seat.trader.bundle.name,
                "symbol": order.intent.symbol,
                "client_order_id": order.id,
                "status": order.state.value,
                "side": order.intent.side,
                "kind": order.intent.kind,
                "quantity": float(order.intent.quantity),
                "filled": order.report.quantity,
                "price": None if order.intent.price is None else float(order.intent.price),
                "stop_price": None if order.intent.stop_price is None else float(order.intent.stop_price),
                "held_by": "runner" if order.held else "venue",
                "time": order.intent.time,
            }
            for seat in self.seats
            for order in seat.trader.desk.working()
        ]

    def positions(self) -> Sequence[Mapping[str, Any]]:
        """What each purse holds."""
        found = []
        for trader in (seat.trader for seat in self.seats if seat.trader.started):
            purse, price = trader.purse, trader.feed.last.close
            named = {"bundle": trader.bundle.name, "symbol": trader.symbol, "position": purse.position, "price": price}
            worth = {"value": purse.position * price, "cash": purse.cash, "equity": purse.equity(price)}
            found.append({**named, **worth})
        return found

    async def halt(self, scope: Scope, who: str, why: str, level: Level) -> Halt:
        """Halt `scope` and cancel its resting orders that add to a position."""
        self.closing.covered(scope)
        try:
            return self.operations.latch.halt(scope, who, why, level=level)
        finally:  # where the disk refuses it holds all the same
            for halt in self.operations.latch.of(scope):
                await self.closing.enforce(halt)

    async def adjust(self, asset: str, amount: Decimal, who: str, why: str) -> dict[str, str]:
        """Account for what came to the account or left it, in the journal that reconciliation reads."""
        known = {name for market in self._reconciler.markets.values() for name in (market.base, market.quote)}
        if asset not in known:
            raise RunnerError(f"{asset!r} is not traded here: name one of {', '.join(sorted(known))}")
        self._reconciler.adjust(asset, amount, by=who, reason=why)
        return {asset: format(amount, "f")}

    async def arm(self, scope: Scope, who: str, role: str, why: str, numbers: Sequence[int]) -> Sequence[Halt]:
        """Lift the halts of `scope` with these numbers; where none is left, what was being closed is closed no more."""
        lifted = self.operations.latch.arm(scope, who, role, why, numbers=numbers)
        if not self.operations.latch.of(scope):
            self.closing.forget(scope, f"armed by {who}: {why}")
        return lifted

    async def flatten(self, scope: Scope, who: str, why: str) -> Mapping[str, Any]:
        """Halt `scope` (level "reduce"), cancel its orders, and close its positions; what was sent, by trader.

        Who is not flat then is named with the reason, and tried again.
        """
        self.closing.covered(scope)
        try:
            self.operations.latch.halt(scope, who, why, level=Level.REDUCE)
        except LedgerError as error:  # it holds in this process: closing goes on
            logger.error("a halt could not be journalled, and holds: %s", error, extra={"alert": "journal"})
        outcome = await self.closing.flatten(scope, f"flattened by {who}: {why}")
        return {**outcome.sent, **{name: f"NOT FLAT, tried again: {problem}" for name, problem in outcome.left.items()}}

    async def stop(self, policy: Policy | None, who: str, why: str) -> None:
        """Ask for an orderly end under `policy`; returns before it has come."""
        self._policy = policy or self._policy
        self.end(f"{who}: {why}")


def run_bundles(
    settings: RunnerSettings,
    *,
    trust: TrustStore | None = None,
    until: str | None = None,
    on_progress: Callable[[str, Step], None] | None = None,
    confirm_live: bool = False,
    patience: Patience | None = None,
    restarts: int = 5,
    reconcile_seconds: float = 60.0,
) -> FleetSummary:
    """Verify the bundles of `settings`, then trade them all on one account; blocks until the run ends.

    The rest as in `run_bundle`; shares are those of the settings. Raises `BundleError` or `RunnerError`.
    """
    bundles = [
        admit_bundle(bundle.path, settings.mode, trust=trust, confirm_live=confirm_live) for bundle in settings.bundles
    ]

    async def supervised() -> FleetSummary:
        fleet = Fleet(
            bundles,
            settings,
            until=until,
            on_progress=on_progress,
            patience=patience,
            restarts=restarts,
            reconcile_seconds=reconcile_seconds,
        )
        with signals(fleet.end):
            return await fleet.run()

    return block_on(supervised)


def _verify_closed(path: Path) -> None:
    """A file that was continued is never written again, and no start verifies it anew: it is verified here."""
    with Ledger(path, read_only=True) as closed:
        verdict = closed.verify()
    if not verdict.ok:
        raise RunnerError(f"{path.name} was closed and does not stand: {verdict.problem}")


def _check(bundles: Sequence[Bundle], settings: RunnerSettings) -> None:
    if len(bundles) != len(settings.bundles):
        raise RunnerError(f"{len(bundles)} bundles for {len(settings.bundles)} in the settings")
    if len({bundle.digest for bundle in bundles}) < len(bundles):
        raise RunnerError("a bundle is given twice: its orders would carry the same ids")
    quotes = sorted({bundle.execution.symbol.partition("/")[2] for bundle in bundles})
    if len(quotes) > 1:
        raise RunnerError(f"the bundles trade in {', '.join(quotes)}: an account has one cash, run a runner for each")
    if settings.mode == "paper" and settings.feed.fallback:
        raise RunnerError("paper mode reaches this machine only: a fallback for market data is for live mode")
    check_shares([share for share in settings.shares if share])
