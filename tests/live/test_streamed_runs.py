"""Runs that are told of their market by streams, on each venue: they trade as the polled run and as research do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import GOLDEN, HASTE, Sealed, exchange, read
from tests.live.trading import KEY, PASSPHRASE, SECRET
from tradelib.backtest.engine import replay
from tradelib.ledger import journal
from tradelib.live.account_stream import AccountStream
from tradelib.live.bars import Bar
from tradelib.live.dialects import DIALECTS
from tradelib.live.feeds import StreamPace
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.settings import BundleSettings, ControlSettings, FeedSettings, RunnerSettings
from tradelib.promotion.replay import replay_journal
from tradelib.venue import PaperExchange, VenueThread
from tradelib.venue.faults import Fault, FaultPlan

pytestmark = pytest.mark.integration

VENUES = sorted(DIALECTS)
LAST = GOLDEN + 20
DAY = 86_400.0


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that every venue takes: Kraken's secrets are base64, Bitget's keys have a passphrase."""
    monkeypatch.setenv("TRADELIB_API_KEY", KEY)
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    monkeypatch.setenv("TRADELIB_API_PASSPHRASE", PASSPHRASE)


@contextmanager
def served(paper: PaperExchange, name: str, *faults: Fault, **options: Any) -> Iterator[VenueThread]:
    plan = FaultPlan.of(*faults, seed=5) if faults else None
    terms = {"key": KEY, "secret": SECRET, "passphrase": PASSPHRASE, "dialect": name, "faults": plan, **options}
    with VenueThread(paper, **terms) as venue:
        yield venue


def run(
    sealed: Sealed, folder: Path, url: str, name: str, feed: FeedSettings, *, last: int = LAST, **terms: Any
) -> Fleet:
    """Trade half of the account until bar `last` is decided, within a minute."""
    settings = RunnerSettings(
        venue=url,
        exchange=name,
        folder=folder,
        bundles=(BundleSettings(path=sealed.bundle.path, share=0.5, **terms),),
        control=ControlSettings(port=None),
        feed=feed,
    )
    fleet = Fleet([sealed.bundle], settings, until=sealed.bars.index[last].isoformat(), patience=HASTE)

    async def work() -> None:
        summary = await asyncio.wait_for(fleet.run(), 60.0)
        assert summary.halted == {}

    asyncio.run(work())
    return fleet


def move_when_awaited(paper: PaperExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """The market goes on when the runner has begun to wait for it, so that only the stream can tell it."""
    wait = StreamPace.wait

    async def moving(self: StreamPace, symbol: str, last: Bar) -> None:
        if paper.clock < last.milliseconds + 2 * self.step:
            asyncio.get_running_loop().call_soon(paper.step)
        await wait(self, symbol, last)

    monkeypatch.setattr(StreamPace, "wait", moving)


def research(sealed: Sealed) -> list[float]:
    """The equity of the backtest."""
    terms = sealed.bundle.execution
    bars, start = sealed.bars.iloc[: LAST + 1], sealed.bars.index[GOLDEN]
    result = replay(sealed.bundle.rule, bars, costs=terms.costs, market=terms.market, cash=50_000.0, start=start)
    equity: list[float] = result.equity.tolist()
    return equity


def books(folder: Path, sealed: Sealed) -> dict[str, list[dict[str, Any]]]:
    """What was decided and done."""
    path = journal_path(folder, sealed.bundle)
    kinds = (journal.BAR, journal.DECISION, journal.INTENT, journal.FILL, journal.EQUITY)
    return {kind: read(path, kind) for kind in kinds}


def told(folder: Path) -> list[str]:
    """What the runner told of itself."""
    return [f"{one['what']}: {one['detail']}" for one in read(folder / "operations.sqlite", journal.INCIDENT)]


@pytest.mark.parametrize("name", VENUES)
def test_a_streamed_run_is_the_polled_one_and_that_of_research(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nothing but the stream wakes the runner: it would wait two days until it asks by itself."""
    with served(exchange(sealed), name) as venue:
        run(sealed, tmp_path / "polled", venue.url, name, FeedSettings(poll_seconds=0.0))
    paper = exchange(sealed, pace="manual")
    move_when_awaited(paper, monkeypatch)
    with served(paper, name) as venue:
        fleet = run(sealed, tmp_path / "streamed", venue.url, name, FeedSettings(kind="stream", poll_seconds=0.0))
    assert fleet.streams is not None
    assert fleet.streams.checked >= LAST - GOLDEN
    assert told(tmp_path / "streamed") == []
    streamed = books(tmp_path / "streamed", sealed)
    assert streamed == books(tmp_path / "polled", sealed)
    assert [row["equity"] for row in streamed[journal.EQUITY][1:]] == research(sealed)
    assert len(streamed[journal.FILL]) > 5
    assert replay_journal(journal_path(tmp_path / "streamed", sealed.bundle), sealed.bundle).equal
    assert sum(fill["quantity"] for fill in streamed[journal.FILL]) == next(iter(paper.positions.values()))


@pytest.mark.parametrize("name", VENUES)
def test_a_fill_that_stream_and_rest_both_tell_is_booked_once(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Orders rest as makers, so that they fill while nobody asks: the stream tells it first, then REST tells it too."""
    told_first: list[str] = []
    hear = AccountStream._take_trade

    async def heard(self: AccountStream, said: dict[str, Any]) -> bool:
        news = await hear(self, said)
        told_first.extend([str(said["id"])] * news)
        return news

    monkeypatch.setattr(AccountStream, "_take_trade", heard)
    paper = exchange(sealed, pace="manual")
    move_when_awaited(paper, monkeypatch)
    maker = {"name": "PostOnly", "params": {"duration_seconds": 3600.0, "retry_seconds": 3600.0}}
    with served(paper, name) as venue:
        run(
            sealed,
            tmp_path,
            venue.url,
            name,
            FeedSettings(kind="stream", poll_seconds=0.0),
            last=GOLDEN + 10,
            execution=maker,
        )
    fills = books(tmp_path, sealed)[journal.FILL]
    trades = [fill["trade_id"] for fill in fills]
    assert len(trades) == len(set(trades)) == len(paper.trades())
    assert sum(Decimal(repr(fill["quantity"])) for fill in fills) == Decimal(repr(next(iter(paper.positions.values()))))
    assert any(fill["maker"] for fill in fills)
    assert set(told_first) & set(trades)


FAULTS: dict[str, tuple[Fault, ...]] = {
    "silent": (Fault("silent", after=6, times=1),),
    "broken": (Fault("disconnect", probability=0.1, times=3), Fault("refuse_stream", probability=0.5, times=3)),
    "garbled": (
        Fault("drop_message", probability=0.2),
        Fault("duplicate_message", probability=0.2),
        Fault("reorder_message", probability=0.2),
        Fault("late_message", probability=0.2, bars=3),
        Fault("truncate_message", probability=0.1),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", VENUES)
def test_streams_that_fail_cost_time_and_nothing_else(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    paper = exchange(sealed, pace="manual")
    move_when_awaited(paper, monkeypatch)
    feed = FeedSettings(kind="stream", poll_seconds=0.0, silence_bars=1.0 / DAY)
    with served(paper, name, *FAULTS[kind], kline_seconds=0.05) as venue:
        run(sealed, tmp_path, venue.url, name, feed)
        struck = {strike.kind for strike in venue.faults.log}
    assert struck == {fault.kind for fault in FAULTS[kind]}
    kept = books(tmp_path, sealed)
    assert [row["equity"] for row in kept[journal.EQUITY][1:]] == research(sealed)
    trades = [fill["trade_id"] for fill in kept[journal.FILL]]
    assert len(set(trades)) == len(trades)
    incidents = {line.partition(":")[0] for line in told(tmp_path)}
    assert "stream differs" not in incidents
    assert kind == "garbled" or incidents >= {"stream silent", "stream back"}
