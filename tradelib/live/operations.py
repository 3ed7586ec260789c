"""Everything around the trading of one runner, opened and closed together: halts, figures, alerts, control.

with Operations.open(settings) as operations:
    operations.metrics.follow(path, bundle, symbol)          # each trader's journal
    async with operations.control(runner):                   # an `Operable`
        operations.latch.halted(bundle, symbol)              # before each order

Nobody who decides waits for the disk of the account's journal: incidents, backups and limits are written in a thread. A
few things are rare, and durable before anything else happens in the whole process: a halt and its lifting, an order to
close positions (`note`), what an operator asks for, a trade of somebody else. Those are written in the event loop, and
everybody waits for that one commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Backup, backup_journal, journal
from tradelib.live.alerts import Alert, Alerter, AlertHandler, alerter_from_environment
from tradelib.live.control import ControlServer, Operable
from tradelib.live.gate import GateVerdict
from tradelib.live.journals import TraderJournal
from tradelib.live.latch import Halt, Latch, Level, Scope
from tradelib.live.metrics import Metrics
from tradelib.live.patience import Sleep
from tradelib.live.settings import RunnerSettings
from tradelib.live.users import RUNNER, USERS_VARIABLE, Users, users_from_environment
from tradelib.risk.monitor import Verdict

if TYPE_CHECKING:
    from tradelib.bundle.trading.instructions import Instruction

__all__ = ["Operations", "back_up", "refusal_body"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operations:
    """The parts, each usable alone; `log` is the journal of operations, in which settings, acts and halts stand."""

    settings: RunnerSettings
    log: TraderJournal
    latch: Latch
    metrics: Metrics
    alerts: Alerter | None
    users: Users

    @classmethod
    @contextmanager
    def open(cls, settings: RunnerSettings, environment: Mapping[str, str] | None = None) -> Iterator[Self]:
        """Open the journal of operations, write the settings into it, and start what has a thread.

        Raises `RunnerError` where the journal is broken, an address or operator in the environment cannot be read, or
        where nobody could halt live trading.
        """
        users = users_from_environment(environment)
        if settings.mode == "live" and (settings.control.port is None or not len(users)):
            raise RunnerError(
                f"live trading needs somebody who can halt it: a [control] port and {USERS_VARIABLE}; make a token "
                "with `tradelib token NAME --role approve`"
            )
        alerts = alerter_from_environment(settings.alerts, environment)
        with ExitStack() as stack:
            log = stack.enter_context(TraderJournal(settings.operations_path))
            log.executor = stack.enter_context(ThreadPoolExecutor(1, "operations"))
            latch = Latch(log)
            journal.record(log, journal.CONFIG, **settings.as_config())
            metrics = Metrics()
            stack.callback(metrics.close)
            metrics.follow(settings.operations_path)
            if alerts is not None:
                stack.enter_context(alerts)
                stack.enter_context(_listening(AlertHandler(alerts)))
            yield cls(settings, log, latch, metrics, alerts, users)

    def control(self, runner: Operable) -> ControlServer:
        """The control server for `runner`, to be entered with `async with`. Needs a port in the settings."""
        return ControlServer(
            runner, self.log, self.users, self.settings.control, metrics=self.metrics, alerts=self.alerts
        )

    def alert(self, alert: Alert) -> None:
        """Log it; where alerts go somewhere, it goes there too. Returns at once."""
        level = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[alert.severity]
        logger.log(level, "%s: %s", alert.title, alert.text, extra={"alert": alert.key})

    async def keep_backups(self, journals: Sequence[Path], sleep: Sleep = asyncio.sleep) -> None:
        """Back up `journals` and that of operations into `journal.backup` of the settings, now and every few hours.

        Copied in a thread. A copy that does not stand ends this with `LedgerError`: whoever supervises it tells people.
        """
        settings, paths = self.settings.journal, [*journals, self.settings.operations_path]
        while settings.backup is not None:
            for made in await asyncio.to_thread(back_up, paths, settings.backup):
                body = {"folder": str(made.folder), "sequence": made.sequence, "hash": made.hash}
                await self.log.write([(journal.BACKUP, body, None)])
            await sleep(settings.backup_hours * 3600.0)

    def rotate(self) -> Path:
        """Go on in a new file of the journal of operations; the one that was closed."""
        closed = self.log.path
        self.log.rotate()
        return closed

    def trip(self, verdicts: tuple[Verdict, ...]) -> tuple[Halt, ...]:
        """Latch the account for the limits of `verdicts` that the settings name in `gate.latch_on`, and tell people."""
        halts = []
        for verdict in verdicts:
            lasting = verdict.limit in self.settings.gate.latch_on
            why = verdict.summary().removeprefix("the account: ")
            title = f"limit {verdict.limit} tripped" + (": the account is halted" if lasting else "")
            if lasting:
                halts.append(self._latched(Scope("account"), why, Level.REDUCE, verdict.limit))
            self.alert(Alert("critical" if lasting else "warning", f"limit:{verdict.limit}", title, why))
        return tuple(halts)

    def halt(self, scope: Scope, why: str, *, cause: str, level: Level = Level.REDUCE) -> Halt:
        """Halt `scope` on the runner's own account (a contradiction, a lost venue), and tell people."""
        halt = self._latched(scope, why, level, cause)
        self.alert(Alert("critical", f"halt:{scope}", f"{scope} is halted", why))
        return halt

    def _latched(self, scope: Scope, why: str, level: Level, cause: str) -> Halt:
        """Halt on the runner's own account; a disk that refuses is told, for the halt holds in this process."""
        try:
            return self.latch.halt(scope, RUNNER, why, level=level, cause=cause)
        except LedgerError as error:
            logger.error("a halt could not be journalled, and holds: %s", error, extra={"alert": "journal"})
            return self.latch.of(scope)[-1]

    def note(self, kind: str, **body: Any) -> bool:
        """Write into the journal of operations; where the disk refuses, tell people: False. Nothing stops for that.

        It is on the disk when this returns, and everybody in the event loop has waited for that: for what is rare and
        must not be forgotten, as the order to close a position.
        """
        try:
            journal.record(self.log, kind, **body)
        except LedgerError as error:
            _refused(kind, error)
            return False
        return True

    async def write(self, kind: str, **body: Any) -> bool:
        """As `note`, and only whoever awaits it waits for the disk."""
        try:
            await self.log.write([(kind, body, journal.entry_key(kind, body))])
        except LedgerError as error:
            _refused(kind, error)
            return False
        return True

    def jot(self, kind: str, **body: Any) -> None:
        """As `note`, soon and in the sequence of the calls: nobody waits. For incidents, which the log tells, too."""
        assert self.log.executor is not None
        self.log.executor.submit(self.note, kind, **body)


def _refused(kind: str, error: LedgerError) -> None:
    logger.error("an entry of the account (%s) could not be journalled: %s", kind, error, extra={"alert": "journal"})


def back_up(journals: Sequence[Path], folder: Path) -> list[Backup]:
    """Copy `journals` into `folder` while they are written; each copy is verified before it replaces an older one."""
    return [backup_journal(path, folder) for path in journals]


def refusal_body(order: Instruction, symbol: str, time: str, verdict: GateVerdict) -> dict[str, Any]:
    """The journal's REFUSAL entry for an order that the gate turned down."""
    told = verdict.as_dict()
    names = {"time": time, "symbol": symbol, "leg": order.leg, "rule": verdict.cause, "reason": verdict.reason}
    return {**names, "figure": told["figure"], "threshold": told["threshold"], "quantity": order.signed}


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    """Alerts from what tradelib logs as warnings and errors."""
    listened = logging.getLogger("tradelib")
    listened.addHandler(handler)
    try:
        yield
    finally:
        listened.removeHandler(handler)
