"""What surrounds a runner, together: opened as one, journalled, and closed without leaving anything behind."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from tradelib.errors import RunnerError
from tradelib.ledger import SegmentedLedger, journal, open_journal, restore_journal
from tradelib.live.latch import Latch, Level, Scope
from tradelib.live.operations import Operations
from tradelib.live.settings import JournalSettings, RunnerSettings
from tradelib.live.users import Role, new_token
from tradelib.risk.monitor import Verdict


@pytest.fixture
def settings(tmp_path: Path) -> RunnerSettings:
    return RunnerSettings(venue="http://127.0.0.1:1", folder=tmp_path / "runner", bundles=[{"path": "a"}])


def test_opening_writes_the_settings_and_closing_leaves_no_thread(settings: RunnerSettings) -> None:
    before, listeners = threading.active_count(), logging.getLogger("tradelib").handlers[:]
    urls = {"TRADELIB_ALERT_URLS": "json://127.0.0.1:1/"}
    with Operations.open(settings, urls) as operations:
        assert journal.bodies(operations.log, journal.CONFIG) == [settings.as_config()]
        assert operations.alerts is not None

    assert threading.active_count() == before
    assert logging.getLogger("tradelib").handlers == listeners


def test_live_trading_needs_somebody_who_can_halt_it(settings: RunnerSettings) -> None:
    live = settings.replace(mode="live", venue=None)
    with pytest.raises(RunnerError, match="somebody who can halt it"), Operations.open(live, {}):
        pass
    _, entry = new_token("alice", Role.APPROVE)
    with Operations.open(live, {"TRADELIB_CONTROL_USERS": entry}) as operations:
        assert len(operations.users) == 1


def test_a_limit_that_lasts_latches_the_account_and_another_does_not(settings: RunnerSettings, caplog) -> None:
    with Operations.open(settings, {}) as operations:
        assert operations.trip((Verdict(False, "", "daily_profit", 1.0, 2.0, "gained enough", True),)) == ()
        assert operations.latch.halts == ()

        (halt,) = operations.trip((Verdict(False, "", "maximum_drawdown", 790.0, float("nan"), "lost too much", True),))

    assert (halt.scope, halt.who, halt.cause, halt.level) == (
        Scope("account"),
        "runner",
        "maximum_drawdown",
        Level.REDUCE,
    )
    assert halt.why == "lost too much, at an equity of 790.00"
    assert "limit maximum_drawdown tripped: the account is halted: lost too much" in caplog.text
    with open_journal(settings.operations_path) as log:
        assert Latch(log).halted("any", "ANY/USDT") is not None


def test_a_halt_of_the_runner_itself_is_told(settings: RunnerSettings, caplog) -> None:
    with Operations.open(settings, {}) as operations:
        operations.halt(Scope("symbol", "BTC/USDT"), "the venue holds 2, the journal says 1", cause="reconciliation")

    assert "symbol:BTC/USDT is halted: the venue holds 2" in caplog.text


def test_what_is_told_is_logged_and_sent_once(settings: RunnerSettings, caplog) -> None:
    with Operations.open(settings, {"TRADELIB_ALERT_URLS": "json://127.0.0.1:1/"}) as operations:
        assert operations.alerts is not None
        operations.alerts.close()  # nothing is taken from the queue any more
        operations.halt(Scope("symbol", "BTC/USDT"), "books differ", cause="reconciliation")
        waiting = [alert for alert in operations.alerts._inbox.queue if alert is not None]

    assert [(alert.severity, alert.key) for alert in waiting] == [("critical", "halt:symbol:BTC/USDT")]
    assert "symbol:BTC/USDT is halted: books differ" in caplog.text


def test_backups_are_made_while_the_journal_is_written_and_can_be_restored(settings: RunnerSettings, tmp_path) -> None:
    backup, trader, rounds = tmp_path / "backup", settings.folder / "trend.sqlite", 0
    settings = settings.replace(journal=JournalSettings(backup=backup, backup_hours=2.0))

    async def sleep(seconds: float) -> None:
        nonlocal rounds
        assert seconds == 7_200.0
        rounds += 1
        if rounds == 2:
            raise asyncio.CancelledError
        operations.latch.halt(Scope("account"), "alice", "between the backups")

    with Operations.open(settings, {}) as operations, open_journal(trader) as log:
        journal.record(log, journal.STOP, reason="x")
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(operations.keep_backups([trader], sleep))
        written = journal.bodies(operations.log, journal.BACKUP)

    assert [entry["sequence"] for entry in written] == [1, 1, 1, 4]
    restored = restore_journal(backup, tmp_path / "again" / "operations.sqlite")
    assert (restored.sequence, restored.hash) == (written[-1]["sequence"], written[-1]["hash"])
    with SegmentedLedger(tmp_path / "again" / "operations.sqlite", read_only=True) as log:
        assert journal.latches(log)[("account", "")]["reason"] == "between the backups"
