"""The account's limits: measured before anybody decides, over everybody, and remembered over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tradelib.bundle.trading.bar import iso_time
from tradelib.bundle.trading.instructions import Instruction
from tradelib.errors import LedgerError
from tradelib.ledger import journal
from tradelib.live.guardian import Guardian
from tradelib.live.operations import Operations
from tradelib.live.settings import RunnerSettings
from tradelib.risk import Limits

DAY = 86_400_000
START = pd.Timestamp("2026-01-01", tz="UTC").value // 10**6
CAPITAL = 100_000.0


def seat(symbol: str, closes: Sequence[float], position: float, *, failure: Exception | None = None) -> Any:
    """A trader that was shown bars with these closes, and holds `position` bought at the first of them."""
    bars = [SimpleNamespace(milliseconds=START + day * DAY, close=close) for day, close in enumerate(closes)]
    kept = SimpleNamespace(tail=lambda count: bars[-count:] if count else [], step=DAY)
    feed = SimpleNamespace(last=bars[-1], kept=kept, timeframe="1d", price=None)
    purse = SimpleNamespace(position=position, equity=lambda price: position * price)
    bundle = SimpleNamespace(execution=SimpleNamespace(calendar="24/7", symbol=symbol), name=symbol)
    trader = SimpleNamespace(
        symbol=symbol, feed=feed, purse=purse, allotted=position * closes[0], started=True, bundle=bundle, ended="",
        worked=SimpleNamespace(counted=lambda order: order.signed),
    )  # fmt: skip
    log = SimpleNamespace(head=lambda: (0, ""), entries=lambda *_, **__: iter(()))
    made = SimpleNamespace(trader=trader, failure=failure, name=symbol, log=log)

    def show(close: float) -> None:
        bars.append(SimpleNamespace(milliseconds=bars[-1].milliseconds + DAY, close=close))
        feed.last = bars[-1]

    made.show = show
    return made


class Account:
    """A guardian over a real journal of operations; what it asked to have flattened."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.settings = RunnerSettings(
            venue="http://127.0.0.1:1", folder=folder, bundles=[{"path": "a"}], limits=limits
        )
        self.flattened: list[str] = []
        self._opened = Operations.open(self.settings, {})
        self.operations = self._opened.__enter__()

    def guardian(self, seats: Sequence[Any], patience: float = 0.0) -> Guardian:
        async def nothing() -> None:
            return None

        def flatten(reason: str) -> Any:
            self.flattened.append(reason)
            return nothing()

        return Guardian(self.operations, seats, CAPITAL, live=False, flatten=flatten, patience=patience)

    def restart(self) -> None:
        """Another process opens the same folder."""
        self.close()
        self._opened = Operations.open(self.settings, {})
        self.operations = self._opened.__enter__()

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def halts(self) -> list[str]:
        return [halt.cause for halt in self.operations.latch.halts]


@pytest.fixture
def account(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Account]:
    made = Account(tmp_path, request.param)
    yield made
    made.close()


def limited(**limits: Any) -> Any:
    return pytest.mark.parametrize("account", [Limits(**limits)], indirect=True)


BUY = Instruction("1", "market", "buy", 100.0)
STOP = Instruction("stop_loss-1", "stop", "sell", 500.0, stop_price=90.0, reduces=True)


# Restarts -------------------------------------------------------------------------------------------------------------


def trips(account: Account, restarted: bool) -> list[int]:
    """The days on which the tape 100, 200, 150, ... trips a drawdown of 20 %: the peak is that of day 1."""
    closes = [100.0, 200.0, 170.0, 155.0, 150.0, 140.0]
    found, held = [], seat("A/USDT", closes[:1], 1_000.0)
    guardian = account.guardian([held])
    for day in range(len(closes)):
        if day:
            held.show(closes[day])
        before = len(account.flattened)
        asyncio.run(guardian.close())
        found += [day] * (len(account.flattened) - before)
        if restarted:
            account.restart()
            guardian = account.guardian([held])
            asyncio.run(guardian.close())
    return found


@limited(maximum_drawdown=0.2)
@pytest.mark.parametrize("restarted", [False, True])
def test_restarted_at_every_bar_the_limits_trip_on_the_same_bar(account: Account, restarted: bool) -> None:
    # 100,000 -> 200,000 -> 170,000 (-15 %) -> 155,000 (-22.5 %): the peak begins anew there; 140,000 is -9.7 % of it
    assert trips(account, restarted) == [3]


@limited(maximum_drawdown=0.1, drawdown_pause=3)
def test_a_halt_of_so_many_bars_counts_on_over_a_restart(account: Account) -> None:
    held = seat("A/USDT", [100.0], 1_000.0)
    asyncio.run(account.guardian([held]).close())
    held.show(80.0)
    asyncio.run(account.guardian([held]).close())
    account.restart()
    for halt in account.operations.latch.halts:  # armed by hand: the limit's own halt of bars holds on
        account.operations.latch.arm(halt.scope, "bob", "approve", "looked", numbers=[halt.number])
    guardian = account.guardian([held])
    asyncio.run(guardian.close())

    verdict = guardian.gate(held.trader, BUY)

    assert (verdict.allowed, verdict.cause) == (False, "limits")
    assert "halted after the drawdown" in verdict.reason


@limited(maximum_drawdown=0.2)
def test_bars_that_closed_while_nobody_ran_are_measured_each(account: Account) -> None:
    held = seat("A/USDT", [100.0], 1_000.0)
    asyncio.run(account.guardian([held]).close())
    account.restart()
    for close in (200.0, 150.0, 180.0):  # the peak of 200,000 and the fall to 150,000 came and went meanwhile
        held.show(close)

    asyncio.run(account.guardian([held]).close())

    assert account.halts() == ["maximum_drawdown"]
    times = [body["time"] for body in journal.bodies(account.operations.log, journal.LIMITS)]
    assert times == [iso_time(START + day * DAY) for day in range(4)]


@limited(maximum_drawdown=0.2)
def test_a_symbol_more_after_a_restart_changes_nothing_for_the_others(account: Account) -> None:
    held = seat("B/USDT", [100.0, 200.0], 1_000.0)
    asyncio.run(account.guardian([held]).close())
    account.restart()
    held.show(155.0)
    fresh = seat("A/USDT", [50.0, 50.0, 50.0], 0.0)

    asyncio.run(account.guardian([fresh, held]).close())

    assert len(account.flattened) == 1


# Before the first close -----------------------------------------------------------------------------------------------


@limited(maximum_drawdown=0.1)
def test_before_the_first_close_what_reduces_passes_and_the_rest_is_refused_by_name(account: Account) -> None:
    held = seat("A/USDT", [100.0, 100.0], 500.0)
    guardian = account.guardian([held])

    assert guardian.gate(held.trader, STOP).allowed
    refused = guardian.gate(held.trader, BUY)
    assert (refused.allowed, refused.cause) == (False, "limits")
    assert "have not been measured yet" in refused.reason

    asyncio.run(guardian.close())
    assert guardian.gate(held.trader, BUY).allowed


@limited(maximum_drawdown=0.1)
def test_after_everything_was_to_be_closed_an_exit_still_passes(account: Account) -> None:
    """The limits count the book as closed; where closing failed, the position is there, and its stop must be placed."""
    held = seat("A/USDT", [100.0, 80.0], 1_000.0)
    guardian = account.guardian([held])
    asyncio.run(guardian.close())

    assert len(account.flattened) == 1
    assert guardian.gate(held.trader, STOP).allowed


@limited(maximum_drawdown=0.1)
def test_what_cannot_be_measured_is_told_and_lets_only_exits_pass(account: Account, caplog: Any) -> None:
    held = seat("A/USDT", [100.0], 500.0)
    guardian = account.guardian([held])
    asyncio.run(guardian.close())
    held.show(float("nan"))

    asyncio.run(guardian.close())

    assert "the account's limits cannot be measured: " in caplog.text
    held.trader.feed.last.close = 100.0
    assert guardian.gate(held.trader, STOP).allowed
    assert "have not been measured yet" in guardian.gate(held.trader, BUY).reason
    asyncio.run(guardian.close())  # it can be again
    assert guardian.gate(held.trader, BUY).allowed


# Everybody counts -----------------------------------------------------------------------------------------------------


@limited(maximum_drawdown=0.1)
def test_a_lagging_symbol_counts_at_its_last_price_and_hides_no_crash(account: Account, caplog: Any) -> None:
    falling, lagging = seat("A/USDT", [100.0, 100.0, 40.0], 500.0), seat("B/USDT", [100.0, 100.0], 0.0)

    asyncio.run(account.guardian([falling, lagging]).close())

    assert account.halts() == ["maximum_drawdown"]
    late = journal.bodies(account.operations.log, journal.LIMITS)[-1]["late"]
    assert late == {"B/USDT": "2026-01-02T00:00:00+00:00"}
    assert "B/USDT has not shown the bar of 2026-01-03T00:00:00+00:00: its price of 2026-01-02" in caplog.text


@limited(maximum_drawdown=0.1)
def test_who_is_first_waits_for_the_others_and_nobody_decides_on_the_limits_of_the_bar_before(account: Account) -> None:
    a, b = seat("A/USDT", [100.0], 500.0), seat("B/USDT", [100.0], 500.0)
    guardian = account.guardian([a, b], patience=30.0)

    async def trade() -> tuple[bool, Any]:
        await guardian.close()
        a.show(100.0)
        first = asyncio.create_task(guardian.close())
        await asyncio.sleep(0)
        waited = not first.done()
        b.show(70.0)  # 15 % of the account
        guardian.hear()
        await first
        return waited, guardian.gate(a.trader, BUY)

    waited, verdict = asyncio.run(trade())

    assert waited
    assert (verdict.allowed, verdict.cause) == (False, "halted")


@limited(maximum_drawdown=0.1)
def test_who_is_known_to_be_late_is_not_waited_for_again(account: Account) -> None:
    a, b = seat("A/USDT", [100.0, 100.0], 500.0), seat("B/USDT", [100.0], 0.0)
    guardian = account.guardian([a, b], patience=0.0)
    asyncio.run(guardian.close())
    guardian._patience = 3_600.0
    a.show(100.0)

    asyncio.run(asyncio.wait_for(guardian.close(), 5.0))

    assert len(journal.bodies(account.operations.log, journal.LIMITS)) == 2


@limited(maximum_exposure=0.6)
def test_the_position_of_a_trader_that_failed_counts(account: Account) -> None:
    failed = seat("A/USDT", [100.0, 100.0], 500.0, failure=RuntimeError("halted"))
    other = seat("B/USDT", [100.0, 100.0], 0.0)
    guardian = account.guardian([failed, other])
    asyncio.run(guardian.close())

    refused = guardian.gate(other.trader, Instruction("1", "market", "buy", 550.0))

    assert refused.cause == "limits"
    assert refused.figure == 105_000.0  # 50 % held by who failed, 55 % asked for
    assert guardian.gate(other.trader, Instruction("1", "market", "buy", 50.0)).allowed


@limited(maximum_exposure=0.6)
def test_a_trader_that_begins_anew_counts_with_what_it_had(account: Account) -> None:
    held, other = seat("A/USDT", [100.0], 500.0), seat("B/USDT", [100.0], 0.0)
    guardian = account.guardian([held, other])
    asyncio.run(guardian.close())
    held.trader.started = False
    other.show(100.0)

    asyncio.run(guardian.close())

    assert guardian.equity() == CAPITAL
    assert guardian.gate(other.trader, Instruction("1", "market", "buy", 550.0)).cause == "limits"


@limited(maximum_drawdown=0.1)
def test_a_full_disk_of_the_account_halts_all_the_same(account: Account, monkeypatch: Any, caplog: Any) -> None:
    held = seat("A/USDT", [100.0], 500.0)
    guardian = account.guardian([held])
    asyncio.run(guardian.close())

    def full(*_: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(account.operations.log, "append", full)
    held.show(50.0)
    asyncio.run(guardian.close())

    assert len(account.flattened) == 1
    assert guardian.gate(held.trader, BUY).cause == "halted"
    assert "a halt could not be journalled, and holds" in caplog.text
