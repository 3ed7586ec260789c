"""Several bundles on one account in one process: each trades as it would alone on its share."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.live.faults import Fault, FaultProxy
from tests.live.shapes import AMBIGUOUS
from tests.live.support import GOLDEN, HASTE, Sealed, read, seal, synthetic_bars, venue
from tradelib.backtest.engine import replay
from tradelib.errors import ParameterError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live import journals
from tradelib.live.dialects import DIALECTS
from tradelib.live.fleet import Fleet, run_bundles
from tradelib.live.journals import journal_path
from tradelib.live.latch import Level, Scope
from tradelib.live.settings import BundleSettings, ControlSettings, FeedSettings, RunnerSettings, ShutdownSettings
from tradelib.live.summary import FleetSummary, Step
from tradelib.risk import Limits
from tradelib.venue import PaperExchange, VenueMarket

pytestmark = pytest.mark.integration

LAST = GOLDEN + 30
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Sealed]:
    """Three bundles of three markets."""
    return [
        seal(tmp_path_factory.mktemp(symbol[:3]), synthetic_bars(seed=seed, symbol=symbol))
        for seed, symbol in enumerate(SYMBOLS, 3)
    ]


def market(sealed: Sealed) -> VenueMarket:
    """Its market on the bundle's terms."""
    terms = sealed.bundle.execution
    names = ("fee_rate", "slippage", "lots_per_unit", "minimum_notional")
    return VenueMarket(terms.symbol, sealed.bars, **{name: getattr(terms, name) for name in names})


def exchange(sealed: list[Sealed], *, cash: float = 100_000.0, start: int = GOLDEN) -> PaperExchange:
    """One account for all of them; bar `start` is forming."""
    markets = {one.bundle.execution.symbol: market(one) for one in sealed}
    return PaperExchange(list(markets.values()), cash=cash, start=sealed[0].bars.index[start], pace="poll")


def settings(
    sealed: list[Sealed], folder: Path, url: str, shares: tuple[float, ...], **options: object
) -> RunnerSettings:
    """A runner of these bundles without a control server."""
    return RunnerSettings(
        venue=url,
        folder=folder,
        bundles=tuple(
            BundleSettings(path=one.bundle.path, share=share) for one, share in zip(sealed, shares, strict=True)
        ),
        control=ControlSettings(port=None),
        feed=FeedSettings(poll_seconds=0.0),
        **options,
    )


def trade(sealed: list[Sealed], told: RunnerSettings, last: int = LAST, **options: Any) -> FleetSummary:
    """Run until bar `last` is decided by everybody."""
    until = sealed[0].bars.index[last].isoformat()
    fleet = Fleet([one.bundle for one in sealed], told, until=until, **{"patience": HASTE, **options})
    return asyncio.run(fleet.run())


def research(sealed: Sealed, cash: float) -> pd.Series:
    """The equity of a backtest of the bundle on an account of its own."""
    terms = sealed.bundle.execution
    bars = sealed.bars.iloc[: LAST + 1]
    result = replay(
        sealed.bundle.rule, bars, costs=terms.costs, market=terms.market, cash=cash, start=sealed.bars.index[GOLDEN]
    )
    return result.equity


def test_each_bundle_trades_its_share_as_research_would_on_an_account_of_that_size(
    three: list[Sealed], tmp_path: Path
) -> None:
    shares = (0.5, 0.25, 0.125)
    paper = exchange(three)
    with venue(paper) as served:
        summary = trade(three, settings(three, tmp_path, served.url, shares))
    assert summary.halted == {}
    assert summary.decisions == 3 * (LAST - GOLDEN + 2)
    for sealed, share in zip(three, shares, strict=True):
        path = journal_path(tmp_path, sealed.bundle)
        equities = read(path, journal.EQUITY)
        assert equities[0]["equity"] == share * 100_000.0
        assert [row["equity"] for row in equities[1:]] == research(sealed, share * 100_000.0).tolist()
        assert len(read(path, journal.FILL)) > 5


def test_the_purses_add_up_to_the_account(three: list[Sealed], tmp_path: Path) -> None:
    paper = exchange(three)
    with venue(paper) as served:
        trade(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)), reconcile_seconds=0.0)
    paths = [journal_path(tmp_path, one.bundle) for one in three]
    fills = [fill for path in paths for fill in read(path, journal.FILL)]
    cash = 100_000.0 - sum(fill["quantity"] * fill["price"] + fill["fee"] for fill in fills)
    assert paper.cash == pytest.approx(cash, abs=1e-6)
    assert read(tmp_path / "operations.sqlite", journal.RECONCILED) == []
    assert read(tmp_path / "operations.sqlite", journal.INCIDENT) == []


def test_stopped_and_started_again_and_again_it_is_one_run(three: list[Sealed], tmp_path: Path) -> None:
    shares = (0.3, 0.3, 0.3)
    last = GOLDEN + 12
    with venue(exchange(three)) as served:
        trade(three, settings(three, tmp_path / "whole", served.url, shares), last)
    with venue(exchange(three)) as served:
        for stop in range(GOLDEN - 1, last + 1):
            trade(three, settings(three, tmp_path / "parts", served.url, shares), stop)
    for sealed in three:
        one, other = (journal_path(tmp_path / name, sealed.bundle) for name in ("whole", "parts"))
        for kind in (journal.BAR, journal.DECISION, journal.INTENT, journal.FILL, journal.EQUITY, journal.PURSE):
            assert read(other, kind) == read(one, kind), kind


def test_a_market_that_contradicts_itself_halts_its_trader_and_no_other(three: list[Sealed], tmp_path: Path) -> None:
    strange = replace(three[1], bars=synthetic_bars(seed=99, symbol=SYMBOLS[1]))
    with venue(exchange([three[0], strange, three[2]])) as served:
        summary = trade(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)))
    assert list(summary.halted) == ["trend ETH/USDT"]
    assert "the bundle says" in summary.halted["trend ETH/USDT"]
    assert [run.decisions for run in summary.runs] == [32, 0, 32]


def test_where_nobody_can_trade_the_run_ends_with_an_error(three: list[Sealed], tmp_path: Path) -> None:
    strange = [replace(one, bars=synthetic_bars(seed=99, symbol=one.bundle.execution.symbol)) for one in three]
    with venue(exchange(strange)) as served, pytest.raises(RunnerError, match="every trader is halted: trend BTC"):
        trade(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)))


def faulty(share: float, seed: int, *, bars: float) -> Any:
    """Requests that are lost before or after the venue saw them; `bars`: the share of those for bars."""
    numbers = random.Random(seed)
    shapes = [AMBIGUOUS[name] for name in ("connection dropped", "500", "502", "200 empty", "body cut in mid-air")]

    def plan(_: str, path: str) -> Fault | None:
        if numbers.random() > (bars if path == "/api/v3/klines" else share):
            return None
        return Fault("random", numbers.choice(shapes), delivered=numbers.random() < 0.5)

    return plan


def test_a_trader_that_gets_no_answer_starts_again_and_the_run_is_the_same(
    three: list[Sealed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So little patience that questions do stay unanswered: the supervisor begins again, as after a crash."""
    monkeypatch.setitem(DIALECTS, "binance", replace(DIALECTS["binance"], clock_margin=0.0))
    impatient = replace(HASTE, attempts=2, sends=6, receive_window=0.05)
    shares = (0.3, 0.3, 0.3)
    with venue(exchange(three)) as served:
        trade(three, settings(three, tmp_path / "clean", served.url, shares))
    paper = exchange(three)
    with venue(paper) as served, FaultProxy(served.url, faulty(0.01, 5, bars=0.2)) as proxy:
        told = settings(three, tmp_path / "faulty", proxy.url, shares)
        summary = trade(three, told, patience=impatient, restarts=1_000)
    assert summary.halted == {}
    restarts = 0
    for sealed in three:
        clean, faults = (journal_path(tmp_path / name, sealed.bundle) for name in ("clean", "faulty"))
        restarts += sum(body["what"] == "restart" for body in read(faults, journal.INCIDENT))
        for kind in (journal.BAR, journal.DECISION, journal.EQUITY):
            assert read(faults, kind) == read(clean, kind), kind
    assert restarts > 0
    names = [order.client_order_id for order in paper.orders]
    assert len(names) == len(set(names))


class Steered(Fleet):
    """A fleet that does something when its `number`th decision is told."""

    def steer(self, number: int, act: Any) -> None:
        self._count, self._number, self._act = 0, number, act
        self._progress = self._told_step

    def _told_step(self, _: str, __: Step) -> None:
        self._count += 1
        if self._count == self._number:
            self._task = asyncio.ensure_future(self._act(self))


def steered(sealed: list[Sealed], told: RunnerSettings, number: int, act: Any, last: int = LAST) -> FleetSummary:
    until = sealed[0].bars.index[last].isoformat()
    fleet = Steered([one.bundle for one in sealed], told, until=until, patience=HASTE)
    fleet.steer(number, act)
    return asyncio.run(fleet.run())


@pytest.mark.parametrize("policy", ["keep", "cancel", "flatten"])
def test_an_orderly_end_does_what_the_policy_says(three: list[Sealed], tmp_path: Path, policy: str) -> None:
    async def end(fleet: Fleet) -> None:
        await fleet.stop(None, "anna", "done for today")

    paper = exchange(three)
    with venue(paper) as served:
        told = settings(three, tmp_path, served.url, (0.3, 0.3, 0.3), shutdown=ShutdownSettings(policy=policy))
        summary = steered(three, told, 60, end)
    assert summary.stopped == "anna: done for today"
    held = [run.final_equity for run in summary.runs]
    assert all(held)
    assert any(paper.positions.values()) == (policy != "flatten")
    for sealed in three:
        path = journal_path(tmp_path, sealed.bundle)
        assert read(path, journal.STOP) == [{"reason": "anna: done for today"}]
        with open_journal(path, read_only=True) as log:
            assert log.verify().ok
            assert journal.unresolved(log) == []


def test_a_halted_symbol_only_reduces_until_it_is_armed_again_and_a_restart_changes_nothing(
    three: list[Sealed], tmp_path: Path
) -> None:
    async def halt(fleet: Fleet) -> None:
        await fleet.halt(Scope("symbol", "BTC/USDT"), "anna", "looks odd", Level.REDUCE)

    path = journal_path(tmp_path, three[0].bundle)
    with venue(exchange(three)) as served:
        told = settings(three, tmp_path, served.url, (0.3, 0.3, 0.3))
        steered(three, told, 10, halt, GOLDEN + 15)
        trade(three, told, LAST)
    refusals = read(path, journal.REFUSAL)
    assert len(refusals) > 2
    assert {body["rule"] for body in refusals} == {"halted"}
    assert read(journal_path(tmp_path, three[1].bundle), journal.REFUSAL) == []


def test_while_the_account_does_not_answer_nothing_is_added_and_deciding_goes_on(
    three: list[Sealed], tmp_path: Path
) -> None:
    seen: list[str] = []

    async def degrade(fleet: Fleet) -> None:
        object.__setattr__(fleet.wire, "blocked", lambda: ("account POST /api/v3/order",))
        seen.append(fleet.status().phase)

    with venue(exchange(three)) as served:
        summary = steered(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)), 4, degrade)
    assert seen == ["degraded"]
    assert summary.decisions == 96
    refusals = [body for one in three for body in read(journal_path(tmp_path, one.bundle), journal.REFUSAL)]
    assert {body["rule"] for body in refusals} == {"read_only"}
    assert len(refusals) > 5


def test_operators_see_every_trader_and_can_flatten_one(three: list[Sealed], tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    async def flatten(fleet: Fleet) -> None:
        seen["status"] = fleet.status()
        seen["held"] = {row["symbol"]: row["position"] for row in fleet.positions()}
        seen["sent"] = await fleet.flatten(Scope("symbol", "BTC/USDT"), "anna", "enough")
        seen["after"] = {row["symbol"]: row["position"] for row in fleet.positions()}
        fleet.end("seen")

    with venue(exchange(three)) as served:
        steered(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)), 90, flatten)
    status = seen["status"]
    assert (status.phase, [one.symbol for one in status.traders]) == ("running", list(SYMBOLS))
    assert status.equity == pytest.approx(sum(one.equity for one in status.traders) + 10_000.0, rel=1e-9)
    assert seen["after"]["BTC/USDT"] == 0.0
    assert list(seen["sent"]) == ["trend BTC/USDT"]
    assert any(seen["after"].values())


def test_the_account_s_drawdown_closes_everything_and_halts_for_good(three: list[Sealed], tmp_path: Path) -> None:
    paper = exchange(three)
    with venue(paper) as served:
        told = settings(three, tmp_path, served.url, (0.3, 0.3, 0.3), limits=Limits(maximum_drawdown=0.01))
        trade(three, told)
        (halt,) = read(tmp_path / "operations.sqlite", journal.LATCH)
        assert (halt["scope"], halt["cause"], halt["engaged"]) == ("account", "maximum_drawdown", True)
        assert set(paper.positions.values()) == {0.0}
    refused = [body["rule"] for one in three for body in read(journal_path(tmp_path, one.bundle), journal.REFUSAL)]
    assert set(refused) <= {"halted", "limits"}
    assert len(refused) > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed": FeedSettings(fallback="kraken")}, "paper mode reaches this machine only"),
        ({"shares": (0.5, 0.6, 0.1)}, "sum to 1.2"),
    ],
)
def test_settings_that_contradict_are_refused(
    three: list[Sealed], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    shares = change.pop("shares", (0.3, 0.3, 0.3))

    def fleet() -> Fleet:
        told = settings(three, tmp_path, "http://127.0.0.1:1", shares)
        return Fleet([one.bundle for one in three], told.replace(**change))

    with pytest.raises((RunnerError, ParameterError), match=message):
        fleet()


def test_a_bundle_that_is_given_twice_is_refused(three: list[Sealed], tmp_path: Path) -> None:
    told = settings(three[:2], tmp_path, "http://127.0.0.1:1", (0.3, 0.3))
    with pytest.raises(RunnerError, match="a bundle is given twice"):
        Fleet([three[0].bundle, three[0].bundle], told)


def test_run_bundles_verifies_and_trades(three: list[Sealed], tmp_path: Path) -> None:
    told: list[str] = []
    with venue(exchange(three[:1])) as served:
        summary = run_bundles(
            settings(three[:1], tmp_path, served.url, (1.0,)),
            trust=three[0].trust,
            until=three[0].bars.index[GOLDEN + 3].isoformat(),
            patience=HASTE,
            on_progress=lambda name, step: told.append(f"{name} {step.time[:10]}"),
        )
    assert summary.decisions == len(told) == 5
    assert told[0] == "trend BTC/USDT 2020-04-09"


def test_the_files_of_many_journals_are_made_room_for_or_refused_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, told = [1_024, 4_096], []
    monkeypatch.setattr(journals.resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(journals.resource, "setrlimit", lambda _, pair: told.append(pair))
    journals.room_for(50)
    assert told == []
    journals.room_for(200)
    assert told == [(200 * 10 + 256, 4_096)]
    with pytest.raises(RunnerError, match="1000 journals need 10256 open files, this system allows 4096"):
        journals.room_for(1_000)
