"""The account's own stream: a fill inside of a bar is booked when it happens, and REST confirms it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import HASTE, KEY, SECRET, Sealed, read
from tests.live.test_fleet import exchange, settings
from tradelib.ledger import journal, open_journal
from tradelib.live import trader as trader_module
from tradelib.live.account_stream import AccountStream
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.patience import Insistence
from tradelib.live.settings import BundleSettings, FeedSettings
from tradelib.venue import VenueThread

pytestmark = pytest.mark.integration


def test_a_fill_between_two_closes_is_booked_at_once(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A maker rests; nobody looks after it by time; the market moves into it: the stream tells, the purse has it.

    REST knows of the fill as well, and says nothing of orders before the stream has told it: without the stream the
    fill is never booked.
    """
    monkeypatch.setattr(trader_module, "_LOOK", 3600.0)
    paper = exchange([sealed])
    paper.pace = "manual"
    seen: dict[str, Any] = {}

    async def trade(url: str) -> None:
        maker = {"name": "PostOnly", "params": {"duration_seconds": 3600.0, "retry_seconds": 3600.0}}
        given = settings([sealed], tmp_path, url, (1.0,)).replace(
            feed=FeedSettings(kind="stream", silence_bars=1.0),
            bundles=(BundleSettings(path=sealed.bundle.path, share=1.0, execution=maker),),
        )
        fleet = Fleet([sealed.bundle], given, patience=HASTE, reconcile_seconds=3600.0)
        running, told = asyncio.create_task(fleet.run()), asyncio.Event()
        try:
            await asyncio.wait_for(_until(lambda: _rests(fleet, paper)), 40.0)
            trader = fleet.seats[0].trader
            before, told = trader.purse.position, _first_told_by_stream(trader, monkeypatch)
            paper.step()
            await asyncio.wait_for(told.wait(), 10.0)
            await asyncio.wait_for(_until(lambda: trader.purse.position != before), 10.0)
            seen["heard"] = fleet.account_stream.heard
        finally:
            told.set()
            fleet.end("seen")
            await asyncio.wait_for(running, 30.0)

    with VenueThread(paper, key=KEY, secret=SECRET) as served:
        asyncio.run(trade(served.url))
    path = journal_path(tmp_path, sealed.bundle)
    assert seen["heard"] > 0
    traded = sum(Decimal(repr(fill["quantity"])) for fill in read(path, journal.FILL))
    assert float(traded) == next(iter(paper.positions.values()))
    with open_journal(path, read_only=True) as log:
        assert log.verify().ok


def _first_told_by_stream(trader: Any, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a word of the stream has brought a fill into the journal; until then REST does not answer for orders."""
    told, before, dialect = asyncio.Event(), trader.log.count(journal.FILL), type(trader.desk.dialect)

    def heard(take: Any) -> Any:
        async def taken(*given: Any) -> bool:
            news = bool(await take(*given))
            if trader.log.count(journal.FILL) > before:
                told.set()
            return news

        return taken

    def late(question: Any) -> Any:
        async def answered(*given: Any, **named: Any) -> Any:
            await told.wait()
            return await question(*given, **named)

        return answered

    for name in ("hear", "hear_trade"):
        monkeypatch.setattr(trader, name, heard(getattr(trader, name)))
    for name in ("find", "fills"):
        monkeypatch.setattr(dialect, name, late(getattr(dialect, name)))
    return told


def _rests(fleet: Fleet, paper: Any) -> bool:
    """Move the market on until an order rests."""
    seats = fleet.seats
    if not seats or not seats[0].trader.started or getattr(fleet, "account_stream", None) is None:
        return False
    trader = seats[0].trader
    if trader.desk.working():
        return True
    if not trader.due and trader._to_deliver is None and paper.clock // 86_400_000 * 86_400_000 < _most(trader):
        paper.step()
    return False


def _most(trader: Any) -> int:
    """Not further than one bar ahead of what the trader has seen."""
    return int(trader.feed.last.milliseconds + 2 * trader.feed.kept.step)


async def _until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.05)


class Stub:
    """A client whose first answers are failures."""

    def __init__(self) -> None:
        self.asked = 0
        self.done = asyncio.Event()

    async def watch_orders(self) -> list[Any]:
        self.asked += 1
        if self.asked < 3:
            raise ConnectionError("gone")
        if self.asked == 3:
            return [{"symbol": "BTC/USDT", "clientOrderId": "tl-1"}, "noise"]
        self.done.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def watch_my_trades(self) -> list[Any]:
        return await asyncio.Event().wait()  # type: ignore[return-value]


class Listener:
    symbol, started = "BTC/USDT", True

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.looks = 0

    async def hear(self, said: Any) -> bool:
        self.heard.append(said)
        return True

    def look_again(self) -> None:
        self.looks += 1


def test_a_connection_that_was_lost_is_told_and_everybody_asks() -> None:
    told: list[str] = []

    async def listen() -> tuple[AccountStream, Listener]:
        client, listener = Stub(), Listener()
        traders: Any = [listener]

        def tell(what: str, detail: str) -> None:
            told.append(f"{what}: {detail}")

        stream = AccountStream(client, Insistence(HASTE), lambda: traders, tell)
        keeping = asyncio.create_task(stream.keep())
        await asyncio.wait_for(client.done.wait(), 5.0)
        keeping.cancel()
        return stream, listener

    stream, listener = asyncio.run(listen())
    assert stream.heard == 1
    assert [said["clientOrderId"] for said in listener.heard] == ["tl-1"]
    assert listener.looks == 3  # twice lost, once back
    assert told == [
        "account stream: orders: ConnectionError; they are asked for instead",
        "account stream: orders: back",
    ]
